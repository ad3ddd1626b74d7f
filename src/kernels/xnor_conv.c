/* A convolution of signs with signs. The channels of a place of the image are bits of a few bytes, the taps that an output reads are those
 * bytes one after the other: gathering them takes a copy for each row of the kernel. Places of the output are the lanes of the panels, the
 * weights the rows.
 *
 * Taps outside the image are 0 and have no bit; their bytes are 0 like those of -1, so popcount has counted them as if x were -1 there. With
 * K taps in all, y = sum over the taps inside of x w = K - 2 popcount + sum over the taps outside of w: the table `inside` holds the two
 * constants for each output. So the zero padding of training is kept exactly, and no second kernel is needed at the border. */
#include "base/par.h"
#include "kernels/xnor.h"
#include <omp.h>
#include <string.h>

enum { LANES = QT_XNOR_LANES, LINE = 64, BLOCK = 32, PARALLEL = 1 << 20 }; /* panels counted at a time; products that are worth a team */

bool qt_xnor_suits(const qt_icodes *x, const qt_icodes *w) { return x->binary && w->binary; }

/* An output that has taps outside the image: those inside are rows [i0, i1) and columns [j0, j1) of the kernel. */
typedef struct border {
    int32_t place, i0, i1, j0, j1;
} border;

typedef struct plan {
    const qt_conv *c;
    int64_t        Cg, Og, taps, bytes, words; /* channels of a group; taps of the kernel; bytes of a place, words of a row */
    int64_t        H, W, places, panels;       /* with padding; outputs of a channel */
    uint64_t      *w;                          /* [O][words] */
    int32_t       *inside;                     /* [O][places] */
    border        *border;                     /* [borders] of at most `places` */
    int64_t        borders;
    R             *scale, *offset;             /* [O] */
    char          *scratch;
    int64_t        image, row, each;           /* bytes of an image's bits, of a row, and of a thread's scratch */
} plan;

static int64_t up(int64_t n) { return (n + LINE - 1) / LINE * LINE; }

static void *take(char *work, int64_t *used, int64_t bytes)
{
    char *p = work ? work + *used : NULL;
    *used += up(bytes);
    return p;
}

/* Sizes, and where things lie in the work space; returns its size without scratch. */
static int64_t plan_of(plan *p, const qt_conv *c, char *work)
{
    int64_t used = 0;
    *p = (plan){.c = c, .Cg = c->C / c->groups, .Og = c->O / c->groups, .taps = c->KH * c->KW};
    p->bytes = (p->Cg + 7) / 8, p->words = qt_xnor_words(p->taps * p->bytes * 8);
    p->H = c->H + 2 * c->padding, p->W = c->W + 2 * c->padding;
    p->places = c->OH * c->OW, p->panels = QT_CHUNKS(p->places, LANES);
    p->w = take(work, &used, c->O * p->words * 8);
    p->inside = take(work, &used, c->O * p->places * 4);
    p->border = take(work, &used, c->padding ? p->places * (int64_t)sizeof(border) : 0);
    p->scale = take(work, &used, c->O * (int64_t)sizeof(R));
    p->offset = take(work, &used, c->O * (int64_t)sizeof(R));
    p->scratch = work ? work + used : NULL;
    p->image = up(p->H * p->W * p->bytes), p->row = up(p->words * 8);
    p->each = p->image + p->row + up(p->panels * LANES * p->words * 8); /* and more than an int32 for each tap */
    return used;
}

size_t qt_xnor_conv_work(const qt_conv *c)
{
    plan p;
    return (size_t)(plan_of(&p, c, NULL) + qt_threads() * p.each);
}

/* ---- what all images share ---- */

/* Weights of an output channel, [Cg][taps] codes, as a row of bits; sum[t] of tap t. */
static void pack_weight(const plan *p, const int8_t *q, uint64_t *row, int32_t *sum)
{
    uint8_t *to = (uint8_t *)row;
    memset(row, 0, (size_t)p->words * 8);
    for (int64_t t = 0; t < p->taps; t++, to += p->bytes) {
        sum[t] = 0;
        for (int64_t k = 0; k < p->Cg; k++) {
            to[k / 8] |= (uint8_t)((q[k * p->taps + t] > 0) << k % 8);
            sum[t] += q[k * p->taps + t];
        }
    }
}

/* Taps [*begin, *end) of the output at `at` lie in [0, size). */
static void taps_inside(const qt_conv *c, int64_t at, int64_t taps, int64_t size, int32_t *begin, int32_t *end)
{
    int64_t b, e;
    qt_conv_range(at * c->stride - c->padding, c->dilation, size, taps, &b, &e);
    *begin = (int32_t)b, *end = (int32_t)e;
}

static void list_borders(plan *p)
{
    const qt_conv *c = p->c;
    for (int64_t k = 0; c->padding && k < p->places; k++) {
        border *b = &p->border[p->borders];
        b->place = (int32_t)k;
        taps_inside(c, k / c->OW, c->KH, c->H, &b->i0, &b->i1), taps_inside(c, k % c->OW, c->KW, c->W, &b->j0, &b->j1);
        p->borders += (b->i1 - b->i0) * (b->j1 - b->j0) != p->taps;
    }
}

/* The constants of an output channel, sum[t] being the sum of w over tap t. */
static void fill_inside(const plan *p, const int32_t *sum, int32_t *inside)
{
    const int32_t all = (int32_t)(p->Cg * p->taps);
    int32_t       total = 0;
    for (int64_t k = 0; k < p->places; k++) inside[k] = all;
    for (int64_t t = 0; t < p->taps; t++) total += sum[t];
    for (int k = 0; k < p->borders; k++) {
        const border *b = &p->border[k];
        int32_t       there = 0;
        for (int64_t i = b->i0; i < b->i1; i++)
            for (int64_t j = b->j0; j < b->j1; j++) there += sum[i * p->c->KW + j];
        inside[b->place] += total - there;
    }
}

static void prepare(const plan *p, const qt_icodes *w, const qt_iend *end, int32_t *sum, int64_t o)
{
    int64_t n = p->Cg * p->taps;
    pack_weight(p, (const int8_t *)w->q + o * n, p->w + o * p->words, sum);
    fill_inside(p, sum, p->inside + o * p->places);
    p->scale[o] = w->scale[o * n / w->inner % w->count], p->offset[o] = qt_iend_offset(end, o);
}

/* ---- an image ---- */

/* Bytes of eight planes of codes 0 and 2 (-1 and 1), n of them: bit i of to[k] is that of plane i. */
QT_CLONES static void pack_planes(uint8_t *restrict to, const uint8_t *restrict q, int64_t planes, int64_t plane, int64_t n)
{
    for (int64_t k = 0; k < n; k++) to[k] = q[k] >> 1;
    for (int64_t i = 1; i < planes; i++)
        for (int64_t k = 0; k < n; k++) to[k] |= (uint8_t)(q[i * plane + k] >> 1 << i);
}

/* The channels of a group, [H][W][bytes] with zeros around it. */
static void pack_image(const plan *p, const uint8_t *q, uint8_t *to)
{
    enum { RUN = 1024 };
    const qt_conv *c = p->c;
    const int64_t  plane = c->H * c->W;
    uint8_t        run[RUN];
    memset(to, 0, (size_t)p->image);
    for (int64_t k = 0; k < p->bytes; k++)
        for (int64_t b = 0; b < plane; b += RUN) {
            int64_t n = qt_min_i64(RUN, plane - b), h = b / c->W, v = b % c->W;
            pack_planes(run, q + 8 * k * plane + b, qt_min_i64(8, p->Cg - 8 * k), plane, n);
            for (int64_t i = 0; i < n; i++) {
                to[((h + c->padding) * p->W + c->padding + v) * p->bytes + k] = run[i];
                if (++v == c->W) v = 0, h++;
            }
        }
}

/* What the output at (oh, ow) reads, one tap after the other. */
static void gather(const plan *p, const uint8_t *image, int64_t oh, int64_t ow, uint8_t *row)
{
    const qt_conv *c = p->c;
    const uint8_t *from = image + (oh * c->stride * p->W + ow * c->stride) * p->bytes;
    for (int64_t i = 0; i < c->KH; i++, from += c->dilation * p->W * p->bytes)
        if (c->dilation == 1) memcpy(row, from, (size_t)(c->KW * p->bytes)), row += c->KW * p->bytes;
        else
            for (int64_t j = 0; j < c->KW; j++, row += p->bytes) memcpy(row, from + j * c->dilation * p->bytes, (size_t)p->bytes);
}

/* All outputs' rows into panels; row: scratch for one. */
static void weave(const plan *p, const uint8_t *image, uint64_t *row, uint64_t *panels)
{
    const int64_t words = p->words;
    row[words - 1] = 0;
    for (int64_t k = 0; k < p->panels * LANES; k++) {
        uint64_t *to = panels + k / LANES * LANES * words + k % LANES;
        if (k < p->places) gather(p, image, k / p->c->OW, k % p->c->OW, (uint8_t *)row);
        for (int64_t i = 0; i < words; i++) to[i * LANES] = k < p->places ? row[i] : 0;
    }
}

QT_CLONES static void store(R *restrict y, const int32_t *restrict inside, const int32_t *restrict ones, int64_t n, R s, R offset, bool relu)
{
    const qt_iend e = {.relu = relu};
    for (int64_t i = 0; i < n; i++) y[i] = qt_iend_store(&e, (R)(inside[i] - 2 * ones[i]) * s, offset);
}

typedef struct pass {
    plan                p;
    const qt_xnor_path *path;
    const qt_icodes    *x, *w;
    const qt_iend      *end;
    R                  *y;
} pass;

/* Group g of image n. */
static void convolve(const pass *t, int64_t n, int64_t g, char *scratch)
{
    const plan *p = &t->p;
    int64_t     plane = p->c->H * p->c->W, first = (n * p->c->C + g * p->Cg) * plane;
    R           s = t->x->scale[n * p->c->C * plane / t->x->inner % t->x->count];
    uint64_t   *panels = (uint64_t *)(scratch + p->image + p->row);
    int32_t     ones[BLOCK * LANES];
    pack_image(p, (const uint8_t *)t->x->q + first, (uint8_t *)scratch);
    weave(p, (uint8_t *)scratch, (uint64_t *)(scratch + p->image), panels);
    for (int64_t b = 0; b < p->panels; b += BLOCK) {
        int64_t count = qt_min_i64(BLOCK, p->panels - b), at = b * LANES, places = qt_min_i64(count * LANES, p->places - at);
        for (int64_t o = g * p->Og; o < (g + 1) * p->Og; o++) {
            t->path->count(p->w + o * p->words, panels + at * p->words, p->words, count, ones);
            store(t->y + (n * p->c->O + o) * p->places + at, p->inside + o * p->places + at, ones, places,
                  qt_iend_scale(t->end, s * p->scale[o], o), p->offset[o], t->end->relu);
        }
    }
}

void qt_xnor_conv(const qt_conv *c, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y)
{
    pass    t = {.path = qt_xnor_chosen(), .x = x, .w = w, .end = end, .y = y};
    int64_t products = c->O * c->OH * c->OW * (c->C / c->groups) * c->KH * c->KW, parts = c->N * c->groups;
    int     threads = c->N * products < PARALLEL ? 1 : qt_threads();
    plan_of(&t.p, c, work);
    list_borders(&t.p);
    for (int64_t o = 0; o < c->O; o++) prepare(&t.p, w, end, (int32_t *)t.p.scratch, o);
    if (threads == 1) { /* a team of one costs half a microsecond */
        for (int64_t i = 0; i < parts; i++) convolve(&t, i / c->groups, i % c->groups, t.p.scratch);
        return;
    }
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t i = 0; i < parts; i++) convolve(&t, i / c->groups, i % c->groups, t.p.scratch + omp_get_thread_num() * t.p.each);
}
