/* Weight gradient of an integer convolution: for each tap a product of the codes of x, moved by the tap, with those of dy,
 *
 *     sum[o,c,i,j] = sum over n, oh, ow of q[n,o,oh,ow] (x[n, c, oh*stride + i*dilation - padding, ow*stride + j*dilation - padding] - zero).
 *
 * Columns are never built. Some images at a time are written side by side with their padding, row after row, for each phase of the stride
 * (as in iconv_pack.c): then a tap is an offset, the same for all places, and codes of dy laid out in the same way, with zeros between their
 * rows, meet the right ones. They are packed once for all taps, and a row of the product's left side is a channel of x as it lies there, or
 * where there are fewer channels than taps in a row of the kernel, a tap. The kernels are those of the matrix product (igemm_path.h).
 *
 * Sums are of 32 bits within a block that cannot overflow, and of 64 bits over blocks, images and threads: exact, in any order. */
#include "kernels/iconv.h"
#include "kernels/igemm_path.h"
#include <omp.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { PLACES = 1024, SLACK = 64, PARALLEL = 1 << 20 }; /* places worked on at a time; bytes behind a row; products worth a team */

typedef struct plan {
    const qt_conv *c;
    int64_t        Cg, Og, taps;         /* of a group */
    int64_t        rows, cols;           /* of a phase of an image, with padding */
    int64_t        lines, pitch;         /* from image to image, in rows, and from row to row: padding is shared */
    int64_t        images, chunks, K;    /* images side by side; places from their first output to their last */
    int64_t        x_row, q_row;         /* codes from channel to channel */
    bool           by_tap;               /* rows of the product are the taps of a row of the kernel */
    size_t         x, wide, q, packed, one, total, less, each; /* where things lie in the work space of a thread; its size */
} plan;

static int64_t shared(const qt_conv *c, int64_t taps, int64_t size, int64_t out)
{
    int64_t n = out + (taps - 1) * c->dilation / c->stride, least = n, begin, end;
    for (int64_t phase = 0; phase < c->stride; phase++) {
        qt_conv_range(phase - c->padding, c->stride, size, n, &begin, &end);
        least = qt_min_i64(least, begin >= end ? n : qt_min_i64(begin, n - end));
    }
    return qt_min_i64(least, n - out);
}

static size_t take(size_t *used, int64_t bytes)
{
    size_t at = *used;
    *used += (size_t)qt_igemm_up(bytes, SLACK) + SLACK;
    return at;
}

static plan plan_of(const qt_conv *c, const qt_icodes *x)
{
    plan    p = {.c = c, .Cg = c->C / c->groups, .Og = c->O / c->groups};
    int64_t phases = c->stride * c->stride, down = (c->KH - 1) * c->dilation / c->stride, right = (c->KW - 1) * c->dilation / c->stride;
    p.taps = p.Cg * c->KH * c->KW, p.by_tap = c->stride == 1 && p.Cg < c->KW;
    p.rows = c->OH + down, p.cols = c->OW + right;
    p.lines = p.rows - shared(c, c->KH, c->H, c->OH), p.pitch = p.cols - shared(c, c->KW, c->W, c->OW);
    if (x->zero && x->count > 1) p.lines = p.rows + 1; /* each image has a padding of its own */
    p.images = qt_max_i64(1, qt_min_i64(PLACES / (p.lines * p.pitch), c->N / 8)), p.chunks = QT_CHUNKS(c->N, p.images);
    p.K = ((p.images - 1) * p.lines + c->OH - 1) * p.pitch + c->OW;
    p.x_row = qt_igemm_up(p.K + down * p.pitch + right + p.cols + SLACK, 32) + 32, p.q_row = qt_igemm_up(p.K + p.pitch + SLACK, 32);
    p.x = take(&p.each, phases * p.Cg * p.x_row), p.wide = take(&p.each, 2 * phases * p.Cg * p.x_row), p.q = take(&p.each, p.Og * p.q_row);
    p.packed = take(&p.each, 2 * qt_igemm_up(p.Og, QT_IGEMM_LANES) * (p.K + 4)), p.one = take(&p.each, 4 * p.taps * p.Og);
    p.total = take(&p.each, 8 * p.taps * c->O), p.less = take(&p.each, 8 * c->O);
    return p;
}

static int threads_for(const plan *p)
{
    const qt_conv *c = p->c;
    return c->N * c->O * c->OH * c->OW * p->taps < PARALLEL ? 1 : (int)qt_min_i64(qt_threads(), p->chunks);
}

size_t qt_iconv_dw_work(const qt_conv *c, const qt_icodes *x)
{
    plan p = plan_of(c, x);
    return (size_t)threads_for(&p) * p.each;
}

/* ---- side by side -------------------------------------------------------------------------------------------------------------------- */

/* 16 bytes, every second of 32 */
static inline void halve(uint8_t *to, const uint8_t *from)
{
#ifdef __SSE2__
    __m128i even = _mm_set1_epi16(255), low = _mm_loadu_si128((const void *)from), high = _mm_loadu_si128((const void *)(from + 16));
    _mm_storeu_si128((void *)to, _mm_packus_epi16(_mm_and_si128(low, even), _mm_and_si128(high, even)));
#else
    for (int i = 0; i < 16; i++) to[i] = from[2 * i];
#endif
}

/* n bytes, every step-th; writes and reads up to 31 more. */
static inline void put(uint8_t *to, const uint8_t *from, int64_t step, int64_t n)
{
    if (step == 1)
        for (int64_t i = 0; i < n; i += 32) memcpy(to + i, from + i, 32);
    else if (step == 2)
        for (int64_t i = 0; i < n; i += 16) halve(to + i, from + 2 * i);
    else
        for (int64_t i = 0; i < n; i++) to[i] = from[i * step];
}

static inline void pad(uint8_t *to, int zero, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = (uint8_t)zero;
}

/* One phase (i, j) of one channel of an image. All is written from front to back. */
static void put_plane(const plan *p, const uint8_t *x, int64_t i, int64_t j, int zero, uint8_t *to)
{
    const qt_conv *c = p->c;
    int64_t        begin, end;
    qt_conv_range(j - c->padding, c->stride, c->W, p->cols, &begin, &end);
    for (int64_t r = 0, h = i - c->padding; r < p->rows; r++, h += c->stride, to += p->pitch) {
        if (h < 0 || h >= c->H || begin >= end) {
            memset(to, zero, (size_t)p->cols);
            continue;
        }
        pad(to, zero, begin);
        put(to + begin, x + h * c->W + j - c->padding + begin * c->stride, c->stride, end - begin);
        pad(to + end, zero, p->cols - end);
    }
}

/* Whether a tap of n lies in a phase. */
static bool reads(const qt_conv *c, int64_t n, int64_t phase)
{
    for (int64_t i = 0; i < n; i++)
        if (i * c->dilation % c->stride == phase) return true;
    return false;
}

/* Images [n, end): group g of x, in bytes, [phases][Cg][x_row]. */
static void put_x(const plan *p, const qt_icodes *x, int64_t g, int64_t n, int64_t end, uint8_t *to)
{
    const qt_conv *c = p->c;
    const int64_t  plane = c->H * c->W;
    for (int64_t f = 0; f < c->stride * c->stride; f++)
        for (int64_t k = 0; k < p->Cg; k++, to += p->x_row)
            for (int64_t m = n; m < end && reads(c, c->KH, f / c->stride) && reads(c, c->KW, f % c->stride); m++) {
                int zero = x->zero ? x->zero[m * c->C * plane / x->inner % x->count] : 0;
                put_plane(p, (const uint8_t *)x->q + (m * c->C + g * p->Cg + k) * plane, f / c->stride, f % c->stride, zero,
                          to + (m - n) * p->lines * p->pitch);
            }
}

/* The same of codes of dy, [Og][q_row]. */
static void put_q(const plan *p, const int8_t *q, int64_t g, int64_t n, int64_t end, uint8_t *to)
{
    const qt_conv *c = p->c;
    for (int64_t o = 0; o < p->Og; o++, to += p->q_row)
        for (int64_t m = n; m < end; m++) {
            uint8_t       *at = to + (m - n) * p->lines * p->pitch;
            const uint8_t *from = (const uint8_t *)q + (m * c->O + g * p->Og + o) * c->OH * c->OW;
            for (int64_t r = 0; r < c->OH; r++, at += p->pitch, from += c->OW) put(at, from, 1, c->OW), pad(at + c->OW, 0, p->pitch - c->OW);
            memset(at, 0, (size_t)((p->lines - c->OH) * p->pitch));
        }
}

/* ---- products -------------------------------------------------------------------------------------------------------------------------- */

typedef struct pass {
    plan                 p;
    const qt_igemm_path *path;
    qt_igemm_kind        kind;
    int64_t              run, longest; /* pair sums that fit 16 bits; places whose sum fits 32 */
    const qt_icodes     *x;
    const int8_t        *q;
} pass;

static int64_t codes_of(const pass *t) { return t->kind == QT_IGEMM_PAIRS ? 2 : 4; }

static void pack(const pass *t, int64_t K, const uint8_t *q, uint8_t *to)
{
    const int     lanes = t->path->lanes;
    const int64_t panel = QT_CHUNKS(K, codes_of(t)) * 4 * lanes;
    qt_ipack_from f = {.q = q, .pitch = t->p.q_row, .is_signed = true, .pairs = t->kind == QT_IGEMM_PAIRS, .lanes = lanes};
    for (int64_t o = 0; o < t->p.Og; o += lanes, to += panel) t->path->pack->gather(&f, q + o * t->p.q_row, t->p.Og - o, K, to, NULL);
}

/* C [M,Og] += M rows of x times the packed codes, places [k, k + n) of K */
static void multiply(const pass *t, qt_igemm_job *j, const uint8_t *x, const uint8_t *packed, int64_t K, int64_t k, int64_t n)
{
    const int64_t codes = codes_of(t), lanes = t->path->lanes, steps = QT_CHUNKS(n, codes);
    j->cuts = (qt_igemm_cuts){.K = n, .block = n, .longest = n, .per_block = 1, .n = 1, .codes = codes, .steps = steps, .block_steps = steps, .cut_steps = steps};
    j->a = x + k * j->a_code, j->b = packed + k / codes * 4 * lanes, j->b_panel = QT_CHUNKS(K, codes) * 4 * lanes;
    for (int64_t o = 0, vectors; o < t->p.Og; o += vectors * lanes) {
        vectors = qt_min_i64(t->path->vectors, QT_CHUNKS(t->p.Og - o, lanes));
        t->path->strip(j, 0, j->M, o, (int)vectors);
    }
}

/* All taps, places [k, k + n): one [taps or channels][rows of the product][Og]. */
static void multiply_taps(const pass *t, const uint8_t *x, const uint8_t *packed, int64_t K, int64_t k, int64_t n, int32_t *one)
{
    const plan    *p = &t->p;
    const qt_conv *c = p->c;
    const int64_t  size = t->kind == QT_IGEMM_PAIRS ? 2 : 1, d = c->dilation, s = c->stride;
    qt_igemm_job   j = {.M = p->by_tap ? c->KW : p->Cg, .N = p->Og, .kind = t->kind, .run = t->run, .a_code = size, .a_step = 4, .C = one};
    j.a_row = (p->by_tap ? d : p->x_row) * size;
    for (int64_t i = 0; i < c->KH * (p->by_tap ? p->Cg : c->KW); i++, j.C += j.M * p->Og) {
        int64_t down = (p->by_tap ? i % c->KH : i / c->KW) * d, right = p->by_tap ? 0 : i % c->KW * d, channel = p->by_tap ? i / c->KH : 0;
        int64_t plane = (down % s * s + right % s) * p->Cg + channel;
        multiply(t, &j, x + (plane * p->x_row + down / s * p->pitch + right / s) * size, packed, K, k, n);
    }
}

QT_CLONES static void add(int64_t *restrict total, const int32_t *restrict one, int64_t n)
{
    for (int64_t i = 0; i < n; i++) total[i] += one[i];
}

/* What zero points add to the sums of an output channel. */
static void add_zeros(const pass *t, int64_t n, int64_t end, int64_t *less)
{
    const qt_conv *c = t->p.c;
    const int64_t  places = c->OH * c->OW;
    for (int64_t m = n; m < end && t->x->zero; m++) {
        int64_t zero = t->x->zero[m * c->C * c->H * c->W / t->x->inner % t->x->count];
        for (int64_t o = 0; zero && o < c->O; o++) {
            int64_t sum = 0;
            for (int64_t i = 0; i < places; i++) sum += t->q[(m * c->O + o) * places + i];
            less[o] += zero * sum;
        }
    }
}

/* Images [n, end) into the sums of a thread. */
static void chunk(const pass *t, int64_t n, int64_t end, char *work)
{
    const plan *p = &t->p;
    uint8_t    *x = (uint8_t *)work + p->x, *q = (uint8_t *)work + p->q, *packed = (uint8_t *)work + p->packed;
    uint8_t    *wide = t->kind == QT_IGEMM_PAIRS ? (uint8_t *)work + p->wide : x;
    int32_t    *one = (int32_t *)(void *)(work + p->one);
    int64_t    *total = (int64_t *)(void *)(work + p->total), size = p->taps * p->Og;
    int64_t     K = ((end - n - 1) * p->lines + p->c->OH - 1) * p->pitch + p->c->OW;
    for (int64_t g = 0; g < p->c->groups; g++, total += size) {
        put_x(p, t->x, g, n, end, x), put_q(p, t->q, g, n, end, q);
        if (wide != x) t->path->pack->copy(&(qt_ipack_from){.pairs = true}, x, p->c->stride * p->c->stride * p->Cg * p->x_row, wide);
        pack(t, K, q, packed);
        for (int64_t k = 0; k < K; k += t->longest) {
            multiply_taps(t, wide, packed, K, k, qt_min_i64(t->longest, K - k), one);
            add(total, one, size);
        }
    }
    add_zeros(t, n, end, (int64_t *)(void *)(work + p->less));
}

/* The sums of all threads in the order of the kernel. */
static void collect(const pass *t, int threads, const char *work, int64_t *sum)
{
    const plan    *p = &t->p;
    const int64_t  taps = p->c->KH * p->c->KW;
    memset(sum, 0, (size_t)(p->c->O * p->taps) * sizeof *sum);
    for (int w = 0; w < threads; w++, work += p->each) {
        const int64_t *total = (const int64_t *)(const void *)(work + p->total), *less = (const int64_t *)(const void *)(work + p->less);
        for (int64_t o = 0; o < p->c->O; o++)
            for (int64_t k = 0; k < p->taps; k++) {
                int64_t row = p->by_tap ? k : k % taps * p->Cg + k / taps;
                sum[o * p->taps + k] += total[(o / p->Og * p->taps + row) * p->Og + o % p->Og] - less[o];
            }
    }
}

static pass pass_of(const qt_conv *c, const qt_icodes *x, const int8_t *q, int top)
{
    pass    t = {.p = plan_of(c, x), .path = qt_igemm_chosen(), .x = x, .q = q};
    int64_t hi = x->hi;
    for (int64_t k = 0; x->zero && k < x->count; k++) hi = qt_max_i64(hi, x->zero[k]);
    t.kind = qt_igemm_kind_of(t.path, 0, qt_max_i64(hi, 1), -top, top, &t.run);
    t.longest = qt_longest_block(qt_max_i64(hi, 1), top) / 4 * 4;
    return t;
}

void qt_iconv_dw(const qt_conv *c, const qt_icodes *x, const int8_t *q, int top, void *work, int64_t *sum)
{
    const pass t = pass_of(c, x, q, top);
    const int  threads = threads_for(&t.p);
    for (int w = 0; w < threads; w++) memset((char *)work + (size_t)w * t.p.each + t.p.total, 0, t.p.each - t.p.total);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < t.p.chunks; i++)
        chunk(&t, i * t.p.images, qt_min_i64((i + 1) * t.p.images, c->N), (char *)work + (size_t)omp_get_thread_num() * t.p.each);
    collect(&t, threads, work, sum);
}

void qt_iconv_dw_naive(const qt_conv *c, const qt_icodes *x, const int8_t *q, int64_t *sum)
{
    const int64_t  Cg = c->C / c->groups, Og = c->O / c->groups, image = c->C * c->H * c->W;
    const uint8_t *xq = x->q;
    for (int64_t o = 0; o < c->O; o++)
        for (int64_t k = 0; k < Cg * c->KH * c->KW; k++, sum++) {
            *sum = 0;
            for (int64_t n = 0; n < c->N; n++)
                for (int64_t i = 0; i < c->OH * c->OW; i++) {
                    int64_t h = i / c->OW * c->stride + k / c->KW % c->KH * c->dilation - c->padding, v = i % c->OW * c->stride + k % c->KW * c->dilation - c->padding;
                    int64_t at = n * image + ((o / Og * Cg + k / (c->KH * c->KW)) * c->H + h) * c->W + v;
                    if (h < 0 || h >= c->H || v < 0 || v >= c->W) continue;
                    *sum += q[(n * c->O + o) * c->OH * c->OW + i] * (xq[at] - (x->zero ? x->zero[n * image / x->inner % x->count] : 0));
                }
        }
}
