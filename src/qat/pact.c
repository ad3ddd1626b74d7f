/* PACT: a ReLU with a learned upper end a, cut into 2^b - 1 steps.
 *
 *     y  = round(clip(x, 0, a)/s) s,  s = a/(2^b - 1)
 *     dx = dy [0 <= x < a]
 *     da = sum dy [x >= a],  and 2 lambda a from the penalty lambda a^2 in the loss
 *
 * With round() taken as the identity y = clip(x, 0, a) = (|x| - |x - a| + a)/2, whose derivative in x is 1 inside and in a is 1 above a,
 * 0 below. The penalty pulls a down, against the range growing; it is a separate term, not part of da here. a is used as at least
 * 1e-8 and kept so. One a for a tensor, which replaces the ReLU before it.
 *
 * Choi et al. 2018, "PACT" (arXiv 1805.06085), eq. 1-3. Left out: one a for each channel. */
#include "qat/steps.h"

enum { ALPHA }; /* parameter */

typedef struct cfg {
    int64_t num_bits;
    double  alpha, lambda;
} cfg;

static const qt_field fields[] = {
    QT_F_INT(cfg, num_bits, "8", 1, 16, "bits of a code"),
    QT_F_REAL(cfg, alpha, "8", 1e-8, 1e30, "first upper end of the range"),
    QT_F_REAL(cfg, lambda, "1e-4", 0, 1e6, "weight of the penalty alpha^2 in the loss"),
    {0}};

static qt_err init(qt_site *q) { return qt_site_param(q, ALPHA, "alpha", QT_QUANT, 1, ((const cfg *)q->cfg)->alpha); }
static double bits(const qt_site *q) { return (double)((const cfg *)q->cfg)->num_bits; }
static R      guarded(R a) { return a < (R)1e-8 ? (R)1e-8 : a; }
static R      levels_of(const qt_site *q) { return (R)((1 << ((const cfg *)q->cfg)->num_bits) - 1); }

/* The grid of 2^b levels over [0, alpha]. */
static qt_err grid_of(R alpha, int64_t n, qt_arena *arena, qt_grid *g)
{
    g->layout = (qt_layout){n, 1};
    QT_TRY(qt_grid_alloc(arena, g, false));
    g->scale[0] = guarded(alpha) / g->qp;
    return QT_OK;
}

/* One element: dx = dy [0 <= x < a], stored, added or left alone, and da += dy [x >= a]. */
QT_INLINE void one(R *dx, R dy, R x, R a, qt_step_dx mode, R *da)
{
    if (mode == QT_DX_STORE) *dx = qt_keep((x >= 0) & (x < a), dy);
    if (mode == QT_DX_ADD) *dx += qt_keep((x >= 0) & (x < a), dy);
    *da += qt_keep(x >= a, dy);
}

/* A run, its sum in lanes and blocks as in steps.h. */
QT_INLINE double run(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t n, R a, qt_step_dx mode)
{
    double sum = 0;
    for (int64_t b = 0; b < n; b += QT_STEP_BLOCK) {
        R       da[QT_STEP_LANES] = {0};
        int64_t i = b, e = qt_min_i64(n, b + QT_STEP_BLOCK);
        for (; i + QT_STEP_LANES <= e; i += QT_STEP_LANES)
            for (int l = 0; l < QT_STEP_LANES; l++) one(QT_STEP_AT(dx, i + l, mode), dy[i + l], x[i + l], a, mode, &da[l]);
        for (int l = 0; i < e; i++, l++) one(QT_STEP_AT(dx, i, mode), dy[i], x[i], a, mode, &da[l]);
        for (int l = 0; l < QT_STEP_LANES; l++) sum += (double)da[l];
    }
    return sum;
}

QT_CLONES static double gradients(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t n, R a, qt_step_dx mode)
{
    switch (mode) {
    case QT_DX_STORE: return run(dx, dy, x, n, a, QT_DX_STORE);
    case QT_DX_ADD: return run(dx, dy, x, n, a, QT_DX_ADD);
    default: return run(NULL, dy, x, n, a, QT_DX_NONE);
    }
}

/* ---- the op: in[0] is x, in[1] alpha; the argument is a grid with bounds and role ---------------------------------------------------- */

static qt_err shape(qt_node *nd)
{
    QT_TRY(grid_of(nd->in[1]->data[0], nd->in[0]->n, &nd->tape->arena, nd->arg));
    QT_TRY(qt_grid_shape(nd));
    return qt_wants_grad(nd->out) ? qt_node_save(nd, (size_t)QT_CHUNKS(nd->out->n, QT_GRAIN) * sizeof(double)) : QT_OK;
}

static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS(3); }

static void backward(const qt_node *nd)
{
    const R   *x = nd->in[0]->data, *dy = nd->out->grad, a = guarded(nd->in[1]->data[0]);
    R         *dx = nd->in[0]->grad;
    double    *partial = nd->saved;
    qt_cut     c = qt_cut_of((qt_layout){nd->out->n, 1}, nd->out->n);
    qt_step_dx mode = qt_step_mode(nd->in[0]);
    QT_FOR_CHUNKS(b, e, nd->out->n, QT_GRAIN)
        partial[QT_CHUNK_OF(b)] = gradients(dx ? dx + b : NULL, dy + b, x + b, e - b, a, mode);
    qt_step_add(nd->in[1], &c, partial, 1);
}

static const qt_op op;

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    qt_grid g = {.qp = 15, .mask = true, .role = QT_ROLE_ACT};
    return QT_EMIT(t, &op, &g, sizeof g, in[0], in[1]);
}

static const qt_case cases[] = {{"tensor", build, {{{6, 8}, 'n'}, {{1}, 'p'}}}, {0}};

static const qt_op op = {
    {"pact", "clipped ReLU with a learned end", "arXiv 1805.06085"}, QT_SURROGATE, shape, qt_grid_forward, backward, .stores = true, .reads = reads, .cases = cases};

/* ---- the quantizer --------------------------------------------------------------------------------------------------------------- */

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    qt_grid g = {.qp = levels_of(q), .mask = true, .role = q->role};
    return QT_EMIT(t, &op, &g, sizeof g, x, q->p[ALPHA]);
}

static qt_tensor *penalty(qt_tape *t, qt_site *q)
{
    double lambda = ((const cfg *)q->cfg)->lambda;
    return lambda == 0 ? NULL : qt_scale(t, qt_mul(t, q->p[ALPHA], q->p[ALPHA]), lambda);
}

static void after_step(qt_site *q, int64_t step)
{
    (void)step;
    q->p[ALPHA]->data[0] = guarded(q->p[ALPHA]->data[0]);
}

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *arena, qt_codes *codes)
{
    qt_grid g = {.qp = levels_of(q)};
    QT_TRY(grid_of(q->p[ALPHA]->data[0], x->n, arena, &g));
    return qt_grid_encode(q, &g, x, arena, bits(q), codes);
}

const qt_quant qt_quant_pact = {
    {"pact", "clipped ReLU with a learned upper end", "Choi et al. 2018, arXiv 1805.06085, eq. 1-3", fields, sizeof(cfg)},
    init, NULL, apply, penalty, after_step, encode, bits, .idempotent = true, .monotone = true, .zero_to_zero = true, .op = &op};
