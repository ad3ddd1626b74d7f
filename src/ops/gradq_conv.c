/* Quantized gradients of conv2d (gradq.h), by the integer kernels that the forward has.
 *
 * dx: a convolution of the codes of dy with the kernel turned round and its channels exchanged. With t = h + padding = stride q + f the
 * taps that reach row h are those with i dilation % stride == f, so a stride makes stride^2 phases, each a dense convolution
 * at places q of its own:  dx[h] = sum_j w[f + stride j] dy[q - j].
 * dw: for each image a product of its columns [taps, places], built in bytes, with the codes [O, places]; summed over images in int32. */
#include "base/par.h"
#include "kernels/iconv.h"
#include "ops/gradq.h"
#include <omp.h>
#include <string.h>

static size_t up(size_t n) { return (n + 63) / 64 * 64; }

/* ---- dx --------------------------------------------------------------------------------------------------------------------------------- */

/* One phase: taps first, first + stride ... of an axis; its convolution computes places [cut, cut + ...). */
typedef struct axis {
    int64_t first, taps; /* taps of the kernel in the phase */
    int64_t begin, end;  /* places q that are inside the image */
} axis;

static axis axis_of(const qt_conv *c, int64_t phase, int64_t size, int64_t kernel)
{
    axis a = {phase, phase < kernel ? (kernel - phase + c->stride - 1) / c->stride : 0};
    a.begin = qt_max_i64(0, c->padding - phase + c->stride - 1) / c->stride;
    a.end = size + c->padding > phase ? (size - 1 + c->padding - phase) / c->stride + 1 : 0;
    return a;
}

/* The convolution of a phase, without rows and columns that are not needed: its result's row r is place q = r + shift_h. */
static qt_conv phase_conv(const qt_conv *c, const axis *h, const axis *v, int64_t *shift_h, int64_t *shift_v)
{
    int64_t d = c->dilation, reach = d * (qt_max_i64(h->taps, v->taps) - 1), back_h = reach - d * (h->taps - 1), back_v = reach - d * (v->taps - 1);
    int64_t spare = qt_min_i64(qt_min_i64(h->begin + back_h, v->begin + back_v), qt_min_i64(c->OH + reach - h->end, c->OW + reach - v->end));
    spare = qt_min_i64(spare, reach);
    qt_conv p = {c->N, c->O, c->OH, c->OW, c->C, h->taps, v->taps, 1, (int)(reach - spare), c->dilation, c->groups};
    p.OH = p.H + 2 * p.padding - d * (p.KH - 1), p.OW = p.W + 2 * p.padding - d * (p.KW - 1);
    *shift_h = spare - back_h, *shift_v = spare - back_v;
    return p;
}

/* Kernel [C, O/groups, taps] of a phase, turned round. */
static void turn(const qt_conv *c, const axis *h, const axis *v, const int8_t *w, int8_t *to)
{
    int64_t Cg = c->C / c->groups, Og = c->O / c->groups;
    for (int64_t k = 0; k < c->C; k++)
        for (int64_t o = k / Cg * Og; o < (k / Cg + 1) * Og; o++)
            for (int64_t i = h->taps - 1; i >= 0; i--)
                for (int64_t j = v->taps - 1; j >= 0; j--)
                    *to++ = w[((o * Cg + k % Cg) * c->KH + h->first + i * c->stride) * c->KW + v->first + j * c->stride];
}

QT_CLONES static void add_row(R *dx, int64_t step, const R *y, int64_t n)
{
    if (step == 1)
        for (int64_t i = 0; i < n; i++) dx[i] += y[i];
    else
        for (int64_t i = 0; i < n; i++) dx[i * step] += y[i];
}

/* The places of a phase into the rows and columns of dx that they are. */
static void scatter(const qt_conv *c, const qt_conv *p, const axis *h, const axis *v, int64_t shift_h, int64_t shift_v, const R *y, R *dx)
{
    QT_FOR_EACH(k, c->N * c->C, c->N * c->C * c->H * c->W > QT_GRAIN)
    for (int64_t q = h->begin; q < h->end; q++)
        add_row(dx + (k * c->H + q * c->stride + h->first - c->padding) * c->W + v->begin * c->stride + v->first - c->padding, c->stride,
                y + (k * p->OH + q - shift_h) * p->OW + v->begin - shift_v, v->end - v->begin);
}

typedef struct operands {
    qt_icodes dy, w;
    R         scale, one;
    int32_t   zero;
} operands;

/* Bytes of dy are code + 128; w is the kernel of the phase. */
static void operands_of(const qt_gradq_plan *p, const qt_conv *phase, R scale, operands *o)
{
    int     top = qt_shiftq_top(&p->dx.how);
    int64_t n = phase->N * phase->C * phase->H * phase->W, m = phase->O * phase->C / phase->groups * phase->KH * phase->KW;
    o->scale = scale, o->one = 1, o->zero = 128;
    o->dy = (qt_icodes){.q = p->dx.q, .lo = 128 - top, .hi = 128 + top, .n = n, .inner = n, .count = 1, .scale = &o->scale, .zero = &o->zero};
    o->w = (qt_icodes){.q = p->dx.other, .is_signed = true, .n = m, .inner = m, .count = 1, .scale = &o->one};
}

/* Calls act for each phase that has taps. */
typedef void phase_fn(const qt_gradq_plan *p, const qt_conv *phase, const axis *h, const axis *v, int64_t shift_h, int64_t shift_v, void *arg);

static void each_phase(const qt_gradq_plan *p, phase_fn *act, void *arg)
{
    const qt_conv *c = &p->c;
    for (int64_t f = 0; f < c->stride * c->stride; f++) {
        axis    h = axis_of(c, f / c->stride, c->H, c->KH), v = axis_of(c, f % c->stride, c->W, c->KW);
        int64_t shift_h, shift_v;
        if (!h.taps || !v.taps || h.begin >= h.end || v.begin >= v.end) continue;
        qt_conv phase = phase_conv(c, &h, &v, &shift_h, &shift_v);
        act(p, &phase, &h, &v, shift_h, shift_v, arg);
    }
}

typedef struct sizes {
    const qt_icodes *w;
    size_t           result, work;
} sizes;

static void measure(const qt_gradq_plan *p, const qt_conv *phase, const axis *h, const axis *v, int64_t shift_h, int64_t shift_v, void *arg)
{
    sizes   *s = arg;
    operands o;
    (void)h, (void)v, (void)shift_h, (void)shift_v;
    operands_of(p, phase, 1, &o);
    o.w.lo = s->w->lo, o.w.hi = s->w->hi;
    size_t result = sizeof(R) * (size_t)(phase->N * phase->O * phase->OH * phase->OW), work = qt_iconv_work(phase, &o.dy, &o.w);
    s->result = s->result > result ? s->result : result, s->work = s->work > work ? s->work : work;
}

typedef struct pass {
    const qt_icodes *w;
    R                scale, *dx;
} pass;

static void run_phase(const qt_gradq_plan *p, const qt_conv *phase, const axis *h, const axis *v, int64_t shift_h, int64_t shift_v, void *arg)
{
    const pass *a = arg;
    R          *y = (R *)(void *)p->dx.sum;
    operands    o;
    turn(&p->c, h, v, a->w->q, p->dx.other);
    operands_of(p, phase, a->scale, &o);
    o.w.lo = a->w->lo, o.w.hi = a->w->hi;
    qt_iconv(phase, &o.dy, &o.w, &(qt_iend){0}, p->dx.work, y);
    scatter(&p->c, phase, h, v, shift_h, shift_v, y, a->dx);
}

/* ---- dw --------------------------------------------------------------------------------------------------------------------------------- */

/* Columns of one image's group of channels x [Cg,H,W] in bytes, [taps, OH*OW]; zero stands outside. */
static void columns(const qt_conv *c, const uint8_t *x, int zero, uint8_t *col)
{
    for (int64_t k = 0; k < c->C / c->groups * c->KH * c->KW; k++) {
        const uint8_t *plane = x + k / (c->KH * c->KW) * c->H * c->W;
        int64_t        top = k / c->KW % c->KH * c->dilation - c->padding, left = k % c->KW * c->dilation - c->padding, begin, end;
        qt_conv_range(left, c->stride, c->W, c->OW, &begin, &end);
        for (int64_t oh = 0; oh < c->OH; oh++, col += c->OW) {
            int64_t        h = top + oh * c->stride;
            const uint8_t *row = plane + h * c->W + left;
            if (h < 0 || h >= c->H || begin >= end) {
                memset(col, zero, (size_t)c->OW);
                continue;
            }
            memset(col, zero, (size_t)begin), memset(col + end, zero, (size_t)(c->OW - end));
            if (c->stride == 1) memcpy(col + begin, row + begin, (size_t)(end - begin));
            else
                for (int64_t i = begin; i < end; i++) col[i] = row[i * c->stride];
        }
    }
}

QT_CLONES static void add_int(int32_t *restrict y, const int32_t *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

static int64_t sum_bytes(const int8_t *q, int64_t n)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += q[i];
    return sum;
}

typedef struct shapes {
    int64_t Cg, Og, taps, P;
} shapes;
static shapes shapes_of(const qt_conv *c) { return (shapes){c->C / c->groups, c->O / c->groups, c->C / c->groups * c->KH * c->KW, c->OH * c->OW}; }

/* Columns [taps, P] times codes [Og, P] transposed. */
static qt_ioperand left(const qt_icodes *x, const void *col) { return (qt_ioperand){col, false, false, x->lo, x->hi}; }
static qt_ioperand right(const qt_gradq_side *d, const int8_t *q)
{
    int top = qt_shiftq_top(&d->how);
    return (qt_ioperand){q, true, true, -top, top};
}

/* A thread's work space: sums [O, taps] transposed by groups, one product, columns, the product's own. */
typedef struct space {
    int32_t *sum, *one;
    uint8_t *col;
    void    *work;
} space;

static size_t space_size(const qt_conv *c, const qt_gradq_side *d, const qt_icodes *x)
{
    shapes s = shapes_of(c);
    return up(4 * (size_t)(c->O * s.taps)) + up(4 * (size_t)(s.Og * s.taps)) + up((size_t)(s.taps * s.P) + QT_CODES_SLACK) +
           up(qt_igemm_work(s.taps, s.Og, s.P, left(x, d->q), right(d, d->q)));
}

static space space_at(const qt_conv *c, char *at)
{
    shapes s = shapes_of(c);
    space  p = {.sum = (int32_t *)(void *)at};
    p.one = (int32_t *)(void *)(at += up(4 * (size_t)(c->O * s.taps)));
    p.col = (uint8_t *)(at += up(4 * (size_t)(s.Og * s.taps)));
    p.work = at + up((size_t)(s.taps * s.P) + QT_CODES_SLACK);
    return p;
}

/* Adds image n to the sums [groups][taps, Og] of a thread. */
static void add_image(const qt_conv *c, const qt_gradq_side *d, const qt_icodes *x, int64_t n, const space *w)
{
    const shapes   s = shapes_of(c);
    const int64_t  image = c->C * c->H * c->W;
    const int      zero = x->zero ? x->zero[n * image / x->inner % x->count] : 0;
    const uint8_t *codes = (const uint8_t *)x->q + n * image;
    for (int64_t g = 0; g < c->groups; g++) {
        const int8_t *q = d->q + (n * c->O + g * s.Og) * s.P;
        int32_t      *sum = w->sum + g * s.Og * s.taps;
        columns(c, codes + g * s.Cg * c->H * c->W, zero, w->col);
        qt_igemm(s.taps, s.Og, s.P, left(x, w->col), right(d, q), w->work, w->one);
        add_int(sum, w->one, s.Og * s.taps);
        for (int64_t o = 0; zero && o < s.Og; o++) {
            int32_t less = (int32_t)(zero * sum_bytes(q + o * s.P, s.P));
            for (int64_t k = 0; k < s.taps; k++) sum[k * s.Og + o] -= less;
        }
    }
}

static void conv_dw(const qt_gradq_plan *p, const qt_icodes *x, R scale, R *dw)
{
    const qt_conv *c = &p->c;
    const shapes   s = shapes_of(c);
    char          *base = p->dw.work;
    for (int k = 0; k < p->threads; k++) memset(base + (size_t)k * p->per_thread, 0, 4 * (size_t)(c->O * s.taps));
#pragma omp parallel for schedule(static) num_threads(p->threads) if (p->threads > 1)
    for (int64_t n = 0; n < c->N; n++) {
        space w = space_at(c, base + (size_t)omp_get_thread_num() * p->per_thread);
        add_image(c, &p->dw, x, n, &w);
    }
    for (int k = 1; k < p->threads; k++) add_int((int32_t *)(void *)base, (int32_t *)(void *)(base + (size_t)k * p->per_thread), c->O * s.taps);
    for (int64_t o = 0; o < c->O; o++)
        for (int64_t k = 0; k < s.taps; k++)
            dw[o * s.taps + k] += (R)((int32_t *)(void *)base)[(o / s.Og * s.taps + k) * s.Og + o % s.Og] * scale;
}

/* ---- the layer -------------------------------------------------------------------------------------------------------------------------- */

static qt_err refuse(const qt_node *nd, const qt_gradq_plan *p, const qt_icodes *w)
{
    const qt_shiftq *h = &p->dx.how;
    if (qt_shiftq_top(h) > INT8_MAX)
        return qt_node_fail(nd, "%d-bit gradients in %d groups do not fit 8 bits once they are shifted; these do: 4 bits in up to 5 groups, 5 in 4, 6 in 3, "
                                "7 in 2, 8 in 1", h->bits, h->groups);
    if (w->zero) return qt_node_fail(nd, "the gradient is quantized, so the weight may have no zero point");
    if (p->c.stride > 1 && p->c.dilation > 1) return qt_node_fail(nd, "the gradient is quantized, so a convolution with a stride may not be dilated");
    return QT_OK;
}

qt_err qt_gradq_conv_plan(qt_node *nd, const qt_gradq *g, bool integer, const qt_conv *c, qt_gradq_plan *p)
{
    const qt_icodes *x = nd->in[0]->codes, *w = nd->in[1]->codes;
    sizes            s = {w};
    QT_TRY(qt_gradq_sides(nd, g, integer, c->N, c->O, c->OH * c->OW, p));
    if (!p->integer) return QT_OK;
    p->c = *c, p->threads = c->N * c->O * c->OH * c->OW > QT_GRAIN ? qt_threads() : 1;
    QT_TRY(refuse(nd, p, w));
    QT_TRY(qt_gradq_fold(nd, "weight", w, c->O, &p->dx));
    QT_TRY(qt_gradq_fold(nd, "input", x, c->N, &p->dw));
    QT_TRY(qt_gradq_guard(nd, &p->dx, c->O / c->groups * c->KH * c->KW, qt_icodes_reach(w)));
    QT_TRY(qt_gradq_guard(nd, &p->dw, c->N * c->OH * c->OW, qt_icodes_reach(x)));
    each_phase(p, measure, &s);
    p->per_thread = space_size(c, &p->dw, x);
    p->dx.sum = qt_tape_alloc(nd->tape, s.result), p->dx.work = qt_tape_alloc(nd->tape, s.work);
    p->dx.other = qt_tape_alloc(nd->tape, (size_t)w->n + QT_CODES_SLACK);
    p->dw.work = qt_tape_alloc(nd->tape, (size_t)p->threads * p->per_thread);
    return nd->tape->err;
}

void qt_gradq_conv(const qt_node *nd, qt_gradq_plan *p, R *dx, R *dw)
{
    const qt_icodes *x = nd->in[0]->codes, *w = nd->in[1]->codes;
    const R         *dy = nd->out->grad;
    if (dx) {
        pass a = {w, qt_gradq_codes(&p->dx, dy, 128) * (w->count == 1 ? w->scale[0] : 1), dx};
        each_phase(p, run_phase, &a);
    }
    if (dw) conv_dw(p, x, qt_gradq_codes(&p->dw, dy, 0) * (x->count == 1 ? x->scale[0] : 1), dw);
}
