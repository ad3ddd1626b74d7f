/* Quantized gradients of conv2d (gradq.h), by the integer kernels that the forward has.
 *
 * dx: a convolution of the codes of dy with the kernel turned round and its channels exchanged. With t = h + padding = stride q + f the
 * taps that reach row h are those with i dilation % stride == f, so a stride makes stride^2 phases, each a dense convolution
 * at places q of its own:  dx[h] = sum_j w[f + stride j] dy[q - j].
 * dw: kernels/iconv_dw.c. */
#include "base/par.h"
#include "kernels/iconv.h"
#include "ops/gradq.h"
#include <string.h>

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

/* Bytes of dy are code + top; w is the kernel of the phase. */
static void operands_of(const qt_gradq_plan *p, const qt_conv *phase, R scale, operands *o)
{
    int     top = qt_shiftq_top(&p->dx.how);
    int64_t n = phase->N * phase->C * phase->H * phase->W, m = phase->O * phase->C / phase->groups * phase->KH * phase->KW;
    o->scale = scale, o->one = 1, o->zero = top;
    o->dy = (qt_icodes){.q = p->dx.q, .hi = 2 * top, .n = n, .inner = n, .count = 1, .scale = &o->scale, .zero = &o->zero};
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
    bool             first; /* dx is to be written, and the phase is all of it: as it comes */
} pass;

static void run_phase(const qt_gradq_plan *p, const qt_conv *phase, const axis *h, const axis *v, int64_t shift_h, int64_t shift_v, void *arg)
{
    const pass *a = arg;
    R          *y = a->first ? a->dx : (R *)(void *)p->dx.sum;
    operands    o;
    turn(&p->c, h, v, a->w->q, p->dx.other);
    operands_of(p, phase, a->scale, &o);
    o.w.lo = a->w->lo, o.w.hi = a->w->hi;
    qt_iconv(phase, &o.dy, &o.w, &(qt_iend){0}, p->dx.work, y);
    if (!a->first) scatter(&p->c, phase, h, v, shift_h, shift_v, y, a->dx);
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
    p->c = *c;
    QT_TRY(refuse(nd, p, w));
    QT_TRY(qt_gradq_fold(nd, "weight", w, c->O, &p->dx));
    QT_TRY(qt_gradq_fold(nd, "input", x, c->N, &p->dw));
    QT_TRY(qt_gradq_guard(nd, &p->dx, c->O / c->groups * c->KH * c->KW, qt_icodes_reach(w)));
    each_phase(p, measure, &s);
    p->dx.sum = qt_tape_alloc(nd->tape, s.result), p->dx.work = qt_tape_alloc(nd->tape, s.work);
    p->dx.other = qt_tape_alloc(nd->tape, (size_t)w->n + QT_CODES_SLACK);
    p->dw.work = qt_tape_alloc(nd->tape, qt_iconv_dw_work(c, x)), p->dw.total = qt_tape_alloc(nd->tape, (size_t)w->n * sizeof(int64_t));
    return nd->tape->err;
}

/* Whether dx is one convolution with nothing left over. */
static bool whole(const qt_conv *c)
{
    axis    h = axis_of(c, 0, c->H, c->KH), v = axis_of(c, 0, c->W, c->KW);
    int64_t shift_h, shift_v;
    qt_conv phase = phase_conv(c, &h, &v, &shift_h, &shift_v);
    return c->stride == 1 && shift_h == h.begin && shift_v == v.begin && phase.OH == c->H && phase.OW == c->W;
}

static void conv_dw(qt_gradq_plan *p, const qt_icodes *x, R scale, R *dw)
{
    qt_iconv_dw(&p->c, x, p->dw.q, qt_shiftq_top(&p->dw.how), p->dw.work, p->dw.total);
    for (int64_t i = 0; i < p->c.O * (p->c.C / p->c.groups) * p->c.KH * p->c.KW; i++) dw[i] += (R)p->dw.total[i] * scale;
}

void qt_gradq_conv(const qt_node *nd, qt_gradq_plan *p, bool first, R *dx, R *dw)
{
    const qt_icodes *x = nd->in[0]->codes, *w = nd->in[1]->codes;
    R                s[2];
    qt_gradq_codes(p, nd->out->grad, dx, dw, qt_shiftq_top(&p->dx.how), s);
    if (dx) {
        pass a = {w, s[0] * (w->count == 1 ? w->scale[0] : 1), dx, first && whole(&p->c)};
        if (first && !a.first) memset(dx, 0, (size_t)nd->in[0]->n * sizeof *dx);
        each_phase(p, run_phase, &a);
    }
    if (dw) conv_dw(p, x, s[1] * (x->count == 1 ? x->scale[0] : 1), dw);
}
