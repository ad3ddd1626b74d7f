/* Convolution in integers: choice of the kernels, work space, and the parallel loop over images, and over channels where there are few
 * images. acc = sum (q_x - zero_x) (q_w - zero_w) is computed as sum q_x w - zero_x sum w with w = q_w - zero_w: the strip holds zero_x in
 * its padding, so that every output sums over all taps. Sums of 32 bits may wrap on the way; the result fits, so it is right. */
#include "base/par.h"
#include "kernels/iconv_plan.h"
#include "kernels/xnor.h"
#include <omp.h>
#include <string.h>

/* ---- which kernels ---- */

static const qt_iconv_path *const paths[] = {&qt_iconv_avx512_vnni, &qt_iconv_avx_vnni, &qt_iconv_avx2, &qt_iconv_scalar, NULL};
static const qt_iconv_path       *forced;

const char          *qt_iconv_name(const qt_iconv_path *p) { return p->name; }
bool                 qt_iconv_has(const qt_iconv_path *p) { return p->has(); }
const qt_iconv_path *qt_iconv_path_at(int i) { return paths[i]; }
void                 qt_iconv_force(const qt_iconv_path *p) { forced = p; }
const qt_iconv_path *qt_iconv_chosen(void)
{
    static const qt_iconv_path *best;
    for (int i = 0; !best; i++) /* asked once: cpuid is slow where it is emulated */
        if (paths[i]->has()) best = paths[i];
    return forced ? forced : best;
}

/* min and max over the zeros of a tensor */
static void zeros_of(const qt_icodes *c, int64_t *lo, int64_t *hi)
{
    *lo = *hi = c->zero ? c->zero[0] : 0;
    for (int64_t k = 1; c->zero && k < c->count; k++) *lo = qt_min_i64(*lo, c->zero[k]), *hi = qt_max_i64(*hi, c->zero[k]);
}

/* Whether padding is a byte, and a difference of code and zero 16 bits. */
static bool usual(const qt_conv *c, const qt_icodes *x, const qt_icodes *w)
{
    int64_t lo, hi;
    zeros_of(x, &lo, &hi);
    return (!c->padding || (lo >= 0 && hi <= UINT8_MAX)) && qt_max_i64(qt_icodes_reach(x), qt_icodes_reach(w)) <= INT16_MAX;
}

/* How many words int16 sums of pairs hold; 0: the weights are no bytes, or not even one. */
static int64_t steps_of(const qt_conv *c, const qt_icodes *x, const qt_icodes *w, bool exact)
{
    int64_t lo, hi, least, most, top, steps = INT32_MAX;
    zeros_of(w, &lo, &hi);
    least = w->lo - hi, most = w->hi - lo;
    if (least < INT8_MIN || most > INT8_MAX) return 0;
    if (exact) return steps;
    zeros_of(x, &lo, &hi);
    top = 2 * qt_max_i64(x->hi, c->padding ? hi : 0);
    if (most > 0 && top > 0) steps = INT16_MAX / (top * most);
    if (least < 0 && top > 0) steps = qt_min_i64(steps, -INT16_MIN / (top * -least));
    return steps;
}

bool qt_iconv_suits(const qt_conv *c, const qt_icodes *x, const qt_icodes *w)
{
    int64_t taps = c->C / c->groups * c->KH * c->KW, padded = (c->H + 2 * c->padding + c->stride) * (c->W + 2 * c->padding + c->stride);
    return (x->count == 1 || x->inner % (c->C * c->H * c->W) == 0) && (w->count == 1 || w->inner % taps == 0) && usual(c, x, w) &&
           taps <= qt_longest_block(qt_icodes_reach(x), qt_icodes_reach(w)) && c->C * c->KW * padded < INT32_MAX / 2;
}

/* ---- work space ---- */

enum { LINE = 64, FEW_STEPS = 2 };

typedef struct space {
    int64_t  *off;
    int32_t  *at, *lanes, *sums;
    uint32_t *w;
    R        *scale, *offset;
    char     *scratch;
    int64_t   w_pitch, each; /* words of an output channel; bytes for a thread */
    int64_t   end, padded;   /* bytes, in the scratch of a thread */
} space;

static int64_t up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

static void *take(char *work, int64_t *used, int64_t bytes)
{
    char *p = work ? work + *used : NULL;
    *used += up(bytes, LINE);
    return p;
}

/* Lays out the work space; returns its size without scratch. */
static int64_t divide(const qt_iconv_plan *p, char *work, space *s)
{
    int64_t used = 0, places = up(p->places, QT_ICONV_MAX_LANES), O = p->c->O;
    s->w_pitch = p->K + QT_ICONV_MAX_LANES;
    s->off = take(work, &used, p->K * 8);
    s->at = take(work, &used, places * 4);
    s->lanes = take(work, &used, places * 4);
    s->sums = take(work, &used, O * 4);
    s->w = take(work, &used, O * s->w_pitch * 4);
    s->scale = take(work, &used, O * (int64_t)sizeof(R));
    s->offset = take(work, &used, O * (int64_t)sizeof(R));
    s->scratch = work ? work + used : NULL;
    s->end = up(O * (int64_t)sizeof(qt_iconv_end), LINE), s->padded = up(qt_iconv_padded_size(p), LINE);
    s->each = s->end + s->padded + up(qt_iconv_strip_size(p) * 4, LINE);
    return used;
}

size_t qt_iconv_work(const qt_conv *c, const qt_icodes *x, const qt_icodes *w)
{
    int64_t most = qt_xnor_suits(x, w) ? (int64_t)qt_xnor_conv_work(c) : 0;
    for (int wide = 0; wide < 2; wide++) {
        qt_iconv_plan p;
        space         s;
        qt_iconv_layout(&p, c, wide);
        most = qt_max_i64(most, divide(&p, NULL, &s) + qt_threads() * s.each);
    }
    return (size_t)most;
}

/* ---- the passes ---- */

enum { PARALLEL = 1 << 20, WEIGHTS = 1 << 15 }; /* products, and words of weights to pack, that are worth a team */

typedef struct pass {
    qt_iconv_plan    p;
    qt_iconv_job     job;
    qt_iconv_run    *run;
    space            s;
    const qt_icodes *x, *w;
    const qt_iend   *end;
    R               *y;
    int64_t          parts; /* of the output channels of an image: one is the work of one thread */
} pass;

/* Vectors of places: which of their lanes are outputs, and where in the channel the first of these goes. */
static void list_lanes(const qt_iconv_plan *p, int64_t L, int32_t *lanes, int32_t *at)
{
    int64_t col = 0, done = 0;
    for (int64_t q = 0; q < p->places; q += L, lanes += L) {
        int64_t n = 0;
        *at++ = (int32_t)done;
        for (int64_t l = 0; l < L; l++) {
            if (col < p->c->OW && q + l < p->places) lanes[n++] = (int32_t)l;
            if (++col == p->pitch) col = 0;
        }
        done += n;
        while (n < L) lanes[n++] = 0;
    }
}

/* What all images share, but for the weights. */
static void prepare(pass *t, const qt_iconv_path *path, void *work)
{
    const qt_conv *c = t->p.c;
    int64_t        steps = steps_of(c, t->x, t->w, path->blocks == NULL);
    qt_iconv_layout(&t->p, c, steps == 0);
    t->run = !steps ? path->wide : steps >= t->p.K ? path->bytes : steps > FEW_STEPS ? path->blocks : path->once;
    divide(&t->p, work, &t->s);
    qt_iconv_offsets(&t->p, t->s.off), list_lanes(&t->p, path->lanes, t->s.lanes, t->s.at);
    t->job = (qt_iconv_job){.K = t->p.K, .steps = steps, .w_pitch = t->s.w_pitch, .off = t->s.off, .relu = t->end->relu};
    t->job.vectors = (t->p.places + path->lanes - 1) / path->lanes, t->job.size = c->OH * c->OW;
    t->job.lanes = t->s.lanes, t->job.at = t->s.at;
    t->job.small = qt_iconv_strip_size(&t->p) < t->p.Og * t->p.K;
}

/* Weights of output channel o. */
static void prepare_channel(const pass *t, int64_t o)
{
    int64_t taps = t->p.Cg * t->p.c->KH * t->p.c->KW, k = o * taps / t->w->inner % t->w->count;
    t->s.sums[o] = qt_iconv_pack_weight(&t->p, (const int8_t *)t->w->q + o * taps, t->w->zero ? t->w->zero[k] : 0, t->s.w + o * t->s.w_pitch);
    t->s.scale[o] = t->w->scale[k], t->s.offset[o] = qt_iend_offset(t->end, o);
}

/* Output channels [first, first + count) of group g of image n. */
static void channels(const pass *t, int64_t n, int64_t g, int64_t first, int64_t count, char *scratch)
{
    const qt_conv *c = t->p.c;
    int64_t        plane = c->H * c->W, k = n * c->C * plane / t->x->inner % t->x->count, o = g * t->p.Og + first;
    int32_t        zero = t->x->zero ? t->x->zero[k] : 0;
    qt_iconv_end  *e = (qt_iconv_end *)scratch;
    uint32_t      *strip = (uint32_t *)(scratch + t->s.end + t->s.padded);
    for (int64_t i = 0; i < count; i++)
        e[i] = (qt_iconv_end){qt_iend_scale(t->end, t->x->scale[k] * t->s.scale[o + i], o + i), t->s.offset[o + i],
                              (int32_t)(0 - (uint32_t)zero * (uint32_t)t->s.sums[o + i])};
    qt_iconv_pack(&t->p, (const uint8_t *)t->x->q + (n * c->C + g * t->p.Cg) * plane, zero, (uint8_t *)scratch + t->s.end, strip);
    t->run(&t->job, strip, t->s.w + o * t->s.w_pitch, e, count, t->y + (n * c->O + o) * t->job.size);
}

/* One part of an image, a range of output channels: each group in it has its strip made once. */
static void part(const pass *t, int64_t item, char *scratch)
{
    int64_t n = item / t->parts, i = item % t->parts, O = t->p.c->O, end = O * (i + 1) / t->parts, next;
    for (int64_t o = O * i / t->parts; o < end; o = next) {
        int64_t g = o / t->p.Og;
        next = qt_min_i64(end, (g + 1) * t->p.Og);
        channels(t, n, g, o - g * t->p.Og, next - o, scratch);
    }
}

static int threads_for(const qt_conv *c) { return c->N * c->O * c->OH * c->OW * (c->C / c->groups) * c->KH * c->KW < PARALLEL ? 1 : qt_threads(); }

void qt_iconv(const qt_conv *c, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y)
{
    pass t = {.p.c = c, .x = x, .w = w, .end = end, .y = y, .parts = 1};
    int  threads = threads_for(c);
    if (qt_xnor_suits(x, w) && !forced) {
        qt_xnor_conv(c, x, w, end, work, y);
        return;
    }
    if (!usual(c, x, w)) {
        qt_iconv_naive(c, x, w, end, y);
        return;
    }
    prepare(&t, qt_iconv_chosen(), work);
    while (c->N < 8 * threads && c->N * t.parts % threads && t.parts < c->O) t.parts++;
    if (threads == 1) { /* a team of one costs half a microsecond */
        for (int64_t o = 0; o < c->O; o++) prepare_channel(&t, o);
        for (int64_t i = 0; i < c->N; i++) part(&t, i, t.s.scratch);
        return;
    }
    QT_FOR_EACH(o, c->O, c->O * t.p.K > WEIGHTS) prepare_channel(&t, o);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t i = 0; i < c->N * t.parts; i++) part(&t, i, t.s.scratch + omp_get_thread_num() * t.s.each);
}

void qt_iconv_naive(const qt_conv *c, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, R *y)
{
    int64_t        Cg = c->C / c->groups, Og = c->O / c->groups, image = c->C * c->H * c->W, taps = Cg * c->KH * c->KW;
    const uint8_t *xq = x->q;
    const int8_t  *wq = w->q;
    for (int64_t n = 0; n < c->N; n++)
        for (int64_t o = 0; o < c->O; o++) {
            int64_t kx = n * image / x->inner % x->count, kw = o * taps / w->inner % w->count, zx = x->zero ? x->zero[kx] : 0,
                    zw = w->zero ? w->zero[kw] : 0;
            R s = qt_iend_scale(end, x->scale[kx] * w->scale[kw], o), offset = qt_iend_offset(end, o);
            for (int64_t oh = 0; oh < c->OH; oh++)
                for (int64_t ow = 0; ow < c->OW; ow++) {
                    int64_t acc = 0;
                    for (int64_t k = 0; k < taps; k++) {
                        int64_t h = oh * c->stride + k / c->KW % c->KH * c->dilation - c->padding,
                                v = ow * c->stride + k % c->KW * c->dilation - c->padding;
                        if (h < 0 || h >= c->H || v < 0 || v >= c->W) continue;
                        acc += (xq[n * image + ((o / Og * Cg + k / (c->KH * c->KW)) * c->H + h) * c->W + v] - zx) * (wq[o * taps + k] - zw);
                    }
                    *y++ = qt_iend_store(end, (R)acc * s, offset);
                }
        }
}
