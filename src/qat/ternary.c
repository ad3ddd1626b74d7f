/* Ternary weights {-1, 0, 1} with one scale: BitNet b1.58.
 *
 *     s = max(measure|w|, 1e-5),   code = clamp(round(w/s), -1, 1),   y = code s,      dw = dy
 *
 * measure is the mean, the median (the lower middle one of an even number) or the largest of |w|. The gradient is the identity, without
 * a mask, and s is a constant for it: y = s * round(w/s) with d round(u)/du taken as 1. A weight becomes 0 when |w| <= s/2.
 * scale_grid fp16 puts s on the nearest number of half precision, for formats that store it so; numbers above 65504 become that.
 *
 * Ma et al. 2024, "The Era of 1-bit LLMs" (arXiv 2402.17764), eq. 1-3 (mean); Nielsen and Schneider-Kamp 2024 (arXiv 2407.09527), median.
 * Left out: the stochastic variant and the soft start of the second paper. */
#include "base/half.h"
#include "kernels/reduce.h"
#include "qat/grid.h"

typedef struct cfg {
    int measure, scale_grid;
} cfg;
enum { ABSMEAN, ABSMEDIAN, ABSMAX };
enum { NONE, FP16 };

static const qt_field fields[] = {
    QT_F_ENUM(cfg, measure, "absmean", "absmean|absmedian|absmax", "size of the weights that becomes the scale"),
    QT_F_ENUM(cfg, scale_grid, "none", "none|fp16", "numbers that the scale may take"),
    {0}};

static qt_err init(qt_site *q) { return (void)q, QT_OK; }

static R to_fp16(R s) { return (R)qt_half_to_float(qt_half_from_float(fminf((float)s, 65504))); }

static qt_err measure_of(const cfg *c, const qt_tensor *x, qt_arena *a, R *m)
{
    R *work = NULL;
    switch (c->measure) {
    case ABSMEAN: *m = (R)(qt_reduce_sum_abs(x->data, x->n) / (double)x->n); break;
    case ABSMEDIAN:
        if (!(work = qt_arena_alloc(a, (size_t)x->n * sizeof *work))) return QT_EMEM;
        *m = qt_reduce_select_abs(x->data, x->n, (x->n - 1) / 2, work);
        break;
    case ABSMAX: *m = qt_reduce_max_abs(x->data, x->n); break;
    }
    return QT_OK;
}

static qt_err grid_of(const qt_site *q, const qt_tensor *x, qt_arena *a, qt_grid *g)
{
    const cfg *c = q->cfg;
    R          m = 0;
    *g = (qt_grid){.layout = {x->n, 1}, .qn = -1, .qp = 1, .mask = false, .role = q->role};
    QT_TRY(qt_grid_alloc(a, g, false));
    QT_TRY(measure_of(c, x, a, &m));
    if (m < (R)1e-5) m = (R)1e-5;
    g->scale[0] = c->scale_grid == FP16 ? to_fp16(m) : m;
    return QT_OK;
}

static const qt_op op;

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    qt_grid g = {0};
    qt_tape_fail(t, grid_of(q, x, &t->arena, &g));
    return QT_EMIT(t, &op, &g, sizeof g, x);
}

static double bits(const qt_site *q) { return (void)q, log2(3); }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    qt_grid g;
    QT_TRY(grid_of(q, x, a, &g));
    return qt_grid_encode(q, &g, x, a, bits(q), codes);
}

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    qt_grid g = {.layout = {in[0]->n, 1}, .qn = -1, .qp = 1, .scale = in[1]->data};
    return QT_EMIT(t, &op, &g, sizeof g, in[0]);
}

static const qt_case cases[] = {{"tensor", build, {{{6, 8}, 'n'}, {{1}, 'c'}}}, {0}};

static const qt_op op = {
    {"ternary", "three levels, gradient passed on", "arXiv 2402.17764"}, QT_SURROGATE, qt_grid_shape, qt_grid_forward, qt_grid_backward,
    .stores = true, .reads = qt_grid_reads, .cases = cases};

const qt_quant qt_quant_ternary = {
    {"ternary", "weights -1, 0, 1 with one scale (BitNet b1.58), identity gradient", "Ma et al. 2024, arXiv 2402.17764, eq. 1-3", fields,
     sizeof(cfg)},
    init, NULL, apply, .encode = encode, .bits = bits, .monotone = true, .zero_to_zero = true, .op = &op};
