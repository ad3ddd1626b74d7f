/* LSQ: learned step size quantization. With u = x/s, codes n..p and a step s > 0 that is trained with the weights:
 *
 *     y  = clamp(round(u), n, p) s
 *     dx = dy [n < u < p]
 *     ds = g sum dy { round(u) - u   if n < u < p
 *                     n              if u <= n
 *                     p              if u >= p }
 *
 * Derivation. Write round(u) = u + r and let r be a constant, so that round has derivative 1. Inside, y = (x/s + r) s = x + r s, hence
 * dy/dx = 1 and dy/ds = r = round(u) - u; outside, y = n s or p s, hence dy/dx = 0 and dy/ds = n or p.
 * g makes a step of s about as large, relative to s, as one of the weights: 1/sqrt(N p) with N weights, or N features of an activation
 * (numel: all its elements, the batch included). s starts at 2 mean|x|/sqrt(p), of a weight when it is first used, of an activation
 * in the first training batch; a tensor of zeros starts with p s = 1. s is used as max(|s|, 1e-8) and kept so after each step.
 *
 * Esser et al. 2020, "Learned Step Size Quantization" (ICLR, arXiv 1902.08153), eq. 1-3 and section 2.2. With log s as the
 * parameter ds is multiplied by s. With a list of bits each has steps of its own, and the site is switched between them while it runs.
 * With residual_bits backward reads codes and what rounding left of x, instead of x: residual.c. */
#include "kernels/reduce.h"
#include "qat/observer.h"
#include "qat/residual.h"

enum { SCALE, INITIALIZED }; /* parameters */

typedef struct cfg {
    qt_ints num_bits, axis;
    bool    is_signed, learn_scale, log_scale;
    int     granularity, grad_scale, start;
    int64_t residual_bits;
    double  init_scale_mult;
} cfg;
enum { TENSOR, CHANNEL };
enum { GRAD_NONE, GRAD_FEATURES, GRAD_NUMEL };
enum { MEAN_ABS, MSE };

static const qt_field fields[] = {
    QT_F_INTS(cfg, num_bits, "8", 1, 16, "bits of a code; a list, highest first: each with steps of its own, to be switched between"),
    {"signed", QT_BOOL, offsetof(cfg, is_signed), "true", 0, 0, NULL, "codes -2^(b-1)..2^(b-1)-1; false: 0..2^b-1, for what is never negative"},
    QT_F_ENUM(cfg, granularity, "tensor", "tensor|channel", "what shares a step"),
    QT_F_INTS(cfg, axis, "[]", -QT_MAX_DIM, QT_MAX_DIM - 1, "channel axis; negative counts from the last; default: the layer's"),
    QT_F_ENUM(cfg, grad_scale, "features", "none|features|numel", "N of the factor 1/sqrt(N p) on the gradient of the step; none: factor 1"),
    {"init", QT_ENUM, offsetof(cfg, start), "mean_abs", 0, 0, "mean_abs|mse",
     "first step: 2 mean|x|/sqrt(p), or the one with the least squared error"},
    QT_F_REAL(cfg, init_scale_mult, "1", 1e-6, 1e6, "factor on the first step"),
    QT_F_BOOL(cfg, learn_scale, "true", "train the step; false: keep the first"),
    QT_F_BOOL(cfg, log_scale, "false", "train log s instead of s; it is what the parameter holds then"),
    QT_F_INT(cfg, residual_bits, "0", 0, 8, "2, 4 or 8: backward of an activation keeps its codes and so many bits of round(u) - u; 0: its floats"),
    {0}};

typedef struct arg {
    qt_grid  grid; /* its scales are set by shape */
    double   g;
    bool     log; /* in[1] are the steps' logarithms */
    int      residual_bits;
    qt_rng   rng;      /* by which residuals are rounded */
    uint8_t *residual; /* set by shape if backward will read it, otherwise NULL */
} arg;

/* ---- the op: in[0] is x, in[1] the steps ------------------------------------------------------------------------------------------ */

QT_CLONES static double gradients(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t n, R s, R qn, R qp, qt_step_dx mode)
{
    switch (mode) {
    case QT_DX_STORE: return qt_step_run(dx, dy, x, n, s, 0, qn, qp, QT_DX_STORE, false).ds;
    case QT_DX_ADD: return qt_step_run(dx, dy, x, n, s, 0, qn, qp, QT_DX_ADD, false).ds;
    default: return qt_step_run(NULL, dy, x, n, s, 0, qn, qp, QT_DX_NONE, false).ds;
    }
}

/* The steps as scales of the grid. */
static qt_err set_scales(const R *s, bool log, qt_arena *arena, qt_grid *g)
{
    if (!log) return qt_step_grid(s, arena, g);
    QT_TRY(qt_grid_alloc(arena, g, false));
    for (int64_t k = 0; k < g->layout.count; k++) g->scale[k] = (R)exp((double)s[k]);
    return QT_OK;
}

/* Saves partial sums of ds, and behind them the residuals where there are codes to read beside them. */
static qt_err shape(qt_node *nd)
{
    arg         *a = nd->arg;
    const size_t sums = (size_t)qt_cut_of(a->grid.layout, nd->in[0]->n).pieces * sizeof(double);
    QT_TRY(set_scales(nd->in[1]->data, a->log, &nd->tape->arena, &a->grid));
    QT_TRY(qt_grid_shape(nd));
    if (!qt_wants_grad(nd->out)) return QT_OK;
    nd->own = a->grid.bytes.q ? qt_residual_bytes(nd->out->n, a->residual_bits) : 0;
    QT_TRY(qt_node_save(nd, sums + (size_t)nd->own));
    if (nd->own) a->residual = (uint8_t *)nd->saved + sums;
    return QT_OK;
}

static void forward(qt_node *nd)
{
    const arg *a = nd->arg;
    qt_grid_forward(nd);
    if (a->residual) qt_residual_keep(&a->grid, nd->in[0]->data, nd->out->n, a->residual_bits, &a->rng, a->residual);
}

static uint32_t reads(const qt_node *nd)
{
    return ((const arg *)nd->arg)->residual ? QT_READS(2) | QT_READS_CODES(QT_RESULT) : QT_READS(3);
}

static void backward(const qt_node *nd)
{
    const arg     *a = nd->arg;
    const qt_grid *g = &a->grid;
    const uint8_t *q = g->bytes.q;
    const R       *x = nd->in[0]->data, *dy = nd->out->grad;
    R             *dx = nd->in[0]->grad;
    double        *partial = nd->saved;
    qt_cut         c = qt_cut_of(g->layout, nd->out->n);
    qt_step_dx     mode = qt_step_mode(nd->in[0]);
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        if (a->residual) partial[j] = qt_residual_gradients(dx, dy, q, g->bytes.base, a->residual, a->residual_bits, p, mode);
        else partial[j] = gradients(dx ? dx + p.at : NULL, dy + p.at, x + p.at, p.n, g->scale[p.k], g->qn, g->qp, mode);
        if (a->log) partial[j] *= (double)g->scale[p.k];
    }
    qt_step_add(nd->in[1], &c, partial, a->g);
}

static const qt_op op;

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    arg a = {{.layout = {8, 6}, .qn = -4, .qp = 3, .mask = true}, 1};
    return QT_EMIT(t, &op, &a, sizeof a, in[0], in[1]);
}

static const qt_case cases[] = {{"channel", build, {{{6, 8}, 'n'}, {{6}, 'p'}}}, {0}};

static const qt_op op = {
    {"lsq", "learned step size", "arXiv 1902.08153"}, QT_SURROGATE, shape, forward, backward, .stores = true, .reads = reads, .cases = cases};

/* ---- the quantizer --------------------------------------------------------------------------------------------------------------- */

static qt_granularity granularity_of(const cfg *c) { return c->granularity == CHANNEL ? QT_PER_CHANNEL : QT_PER_TENSOR; }

/* Their codes must be bytes. */
static qt_err check_residual(const qt_site *q)
{
    const cfg *c = q->cfg;
    const int64_t b = c->residual_bits;
    if (b && b != 2 && b != 4 && b != 8) return qt_site_fail(q, "residual_bits is %lld, must be 2, 4 or 8, or 0", (long long)b);
    if (b && q->role != QT_ROLE_ACT) return qt_site_fail(q, "residual_bits is for activations");
    if (b && c->num_bits.v[0] > 8) return qt_site_fail(q, "residual_bits needs num_bits of at most 8");
    return QT_OK;
}

static qt_err init(qt_site *q)
{
    const cfg *c = q->cfg;
    int64_t    count;
    if (c->is_signed && c->num_bits.n && c->num_bits.v[c->num_bits.n - 1] < 2) return qt_site_fail(q, "signed codes need num_bits of at least 2");
    QT_TRY(qt_site_bits_check(q, "num_bits", &c->num_bits, 1, 16));
    QT_TRY(check_residual(q));
    QT_TRY(qt_site_count(q, granularity_of(c), &c->axis, 0, &count));
    QT_TRY(qt_site_table(q, SCALE, "scale", c->learn_scale ? QT_QUANT : QT_BUFFER, c->num_bits.n, count, c->log_scale ? 0 : 1));
    return qt_site_param(q, INITIALIZED, "initialized", QT_BUFFER, c->num_bits.n, 0);
}

static int     row_of(const qt_site *q) { return qt_site_bits_row(q, &((const cfg *)q->cfg)->num_bits); }
static int64_t count_of(const qt_site *q) { return q->p[SCALE]->n / ((const cfg *)q->cfg)->num_bits.n; }
static R      *scales_of(const qt_site *q, int row) { return q->p[SCALE]->data + row * count_of(q); }

/* For the bits of a row. */
static qt_err arg_of(const qt_site *q, const qt_tensor *x, int row, arg *a)
{
    const cfg *c = q->cfg;
    qt_grid   *g = &a->grid;
    *g = (qt_grid){.mask = true, .role = q->role};
    QT_TRY(qt_site_layout(q, granularity_of(c), &c->axis, 0, x, &g->layout));
    QT_CHECK(g->layout.count == count_of(q), QT_ESHAPE, "%s: the tensor has %lld channels, the site %lld steps", q->path,
             (long long)g->layout.count, (long long)count_of(q));
    qt_levels((int)c->num_bits.v[row], c->is_signed, false, &g->qn, &g->qp);
    a->log = c->log_scale;
    int64_t N = c->grad_scale == GRAD_FEATURES && q->role != QT_ROLE_WEIGHT ? x->n / x->dim[0] : x->n;
    a->g = c->grad_scale == GRAD_NONE ? 1 : 1 / sqrt((double)N * (double)g->qp);
    return QT_OK;
}

static double mean_abs(const qt_tensor *x, qt_layout l, int64_t k)
{
    double sum = 0;
    for (int64_t b = k * l.inner; b < x->n; b += l.count * l.inner) sum += qt_reduce_sum_abs(x->data + b, l.inner);
    return sum / (double)(x->n / l.count);
}

/* The first steps of a row, from x. */
static qt_err start(qt_site *q, const qt_tensor *x, int row, qt_arena *arena)
{
    const cfg  *c = q->cfg;
    arg         a;
    qt_observer o = {QT_OBSERVE_MSE, true, .power = 2};
    R          *s = scales_of(q, row), *lo = NULL, *hi = NULL;
    QT_TRY(arg_of(q, x, row, &a));
    const qt_layout l = a.grid.layout;
    const double    qp = (double)a.grid.qp;
    o.qn = a.grid.qn, o.qp = a.grid.qp;
    if (c->start == MSE) {
        size_t n = (size_t)l.count * sizeof(R);
        if (!(lo = qt_arena_alloc(arena, n)) || !(hi = qt_arena_alloc(arena, n))) return QT_EMEM;
        QT_TRY(qt_observe(&o, x, l, arena, lo, hi));
    }
    for (int64_t k = 0; k < l.count; k++) {
        double first = c->start == MSE ? fmax(-(double)lo[k], (double)hi[k]) / qp : 2 * mean_abs(x, l, k) / sqrt(qp);
        s[k] = first > 0 ? (R)(first * c->init_scale_mult) : 1 / a.grid.qp;
        if (c->log_scale) s[k] = (R)log((double)s[k]);
    }
    q->p[INITIALIZED]->data[row] = 1;
    return QT_OK;
}

static bool started(const qt_site *q, int row) { return q->p[INITIALIZED]->data[row] != 0; }

/* Calibration, which quantizes nothing, shows x to all rows; training only to the one that it is switched to. */
static void observe(qt_tape *t, qt_site *q, const qt_tensor *x)
{
    for (int row = 0; row < ((const cfg *)q->cfg)->num_bits.n; row++)
        if (!started(q, row) && (q->bypass || row == row_of(q))) qt_tape_fail(t, start(q, x, row, &t->arena));
}

/* A weight can start at any time; an activation only in training, where x is a batch of the training set. */
static qt_err ready(qt_site *q, const qt_tensor *x, qt_arena *arena, bool train, arg *a)
{
    const int row = row_of(q);
    if (!started(q, row) && !train && q->role != QT_ROLE_WEIGHT)
        return qt_fail(QT_EUSAGE, "%s: the step is not known yet; train or calibrate before evaluating", q->path);
    if (!started(q, row)) QT_TRY(start(q, x, row, arena));
    return arg_of(q, x, row, a);
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    arg a = {0};
    qt_tape_fail(t, ready(q, x, &t->arena, t->train, &a));
    a.residual_bits = (int)((const cfg *)q->cfg)->residual_bits;
    a.rng = qt_rng_at(t->seed, qt_hash(q->path) + (uint64_t)t->step);
    return QT_EMIT(t, &op, &a, sizeof a, x, qt_param_row(t, q->p[SCALE], row_of(q)));
}

static void after_step(qt_site *q, int64_t step)
{
    (void)step;
    if (!((const cfg *)q->cfg)->log_scale) qt_steps_guard(q->p[SCALE]);
}

static int    precisions(const qt_site *q, qt_precision *list) { return qt_site_bits_list(&((const cfg *)q->cfg)->num_bits, list); }
static double bits(const qt_site *q) { return (double)((const cfg *)q->cfg)->num_bits.v[row_of(q)]; }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *arena, qt_codes *codes)
{
    arg a;
    QT_TRY(ready(q, x, arena, false, &a));
    QT_TRY(set_scales(scales_of(q, row_of(q)), a.log, arena, &a.grid));
    return qt_grid_encode(q, &a.grid, x, arena, bits(q), codes);
}

const qt_quant qt_quant_lsq = {
    {"lsq", "learned step size (LSQ)", "Esser et al. 2020, arXiv 1902.08153, eq. 1-3", fields, sizeof(cfg)},
    init, observe, apply, .after_step = after_step, .encode = encode, .bits = bits, .precisions = precisions, .idempotent = true, .monotone = true,
    .zero_to_zero = true, .op = &op};
