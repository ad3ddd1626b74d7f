/* LSQ+: learned step size and offset. With u = (x - o)/s, codes n..p, a step s > 0 and an offset o, both trained:
 *
 *     y  = clamp(round(u), n, p) s + o
 *     dx = dy [n < u < p]
 *     ds = g sum dy { round(u) - u | n | p }      (n < u < p | u <= n | u >= p)
 *     do = g sum dy [u <= n or u >= p]
 *
 * Derivation as in lsq.c with r = round(u) - u constant: inside y = (u + r) s + o = x + r s, which does not depend on o; outside y is
 * n s + o or p s + o, so dy/do = 1. The offset lets few levels cover activations with a short negative tail (SiLU, GELU). Weights have
 * none. Start of an activation: of the ranges [lo j/10, hi i/50] inside [lo, hi] = [min, max] of the first batch the one with the least
 * squared error, with s = (hi - lo)/(p - n) and o = lo - n s; minmax takes the full one. Start of a weight with mean m and deviation d:
 * s = max(|m - 3 d|, |m + 3 d|)/2^(b-1), or divided by 2^b - 1 for unsigned codes.
 *
 * Bhalgat et al. 2020, "LSQ+" (CVPR workshops, arXiv 2004.09576), eq. 2-9; the grid search stands for their gradient descent. Unsigned
 * codes are their configuration 3, signed ones 4; 1 and 2, without an offset, are lsq. */
#include "kernels/reduce.h"
#include "qat/observer.h"
#include "qat/steps.h"

enum { SCALE, INITIALIZED, OFFSET }; /* parameters; a weight has no offset */
enum { HI_STEPS = 50, LO_STEPS = 10, TRIES = HI_STEPS * (LO_STEPS + 1) };

typedef struct cfg {
    qt_ints num_bits, axis;
    bool    is_signed;
    int     granularity, grad_scale, start;
    double  init_scale_mult;
} cfg;
enum { TENSOR, CHANNEL };
enum { GRAD_NONE, GRAD_FEATURES, GRAD_NUMEL };
enum { MSE, MINMAX };

static const qt_field fields[] = {
    QT_F_INTS(cfg, num_bits, "8", 1, 16, "bits of a code; a list, highest first: each with steps and offsets of its own, to be switched between"),
    {"signed", QT_BOOL, offsetof(cfg, is_signed), "true", 0, 0, NULL, "codes -2^(b-1)..2^(b-1)-1; false: 0..2^b-1"},
    QT_F_ENUM(cfg, granularity, "tensor", "tensor|channel", "what shares a step and an offset"),
    QT_F_INTS(cfg, axis, "[]", -QT_MAX_DIM, QT_MAX_DIM - 1, "channel axis; negative counts from the last; default: the layer's"),
    QT_F_ENUM(cfg, grad_scale, "features", "none|features|numel", "N of the factor 1/sqrt(N p) on the gradients of step and offset; none: factor 1"),
    {"init", QT_ENUM, offsetof(cfg, start), "mse", 0, 0, "mse|minmax", "first range of an activation: least squared error, or the extremes"},
    QT_F_REAL(cfg, init_scale_mult, "1", 1e-6, 1e6, "factor on the first step"),
    {0}};

typedef struct arg {
    qt_layout layout;
    R         qn, qp;
    double    g;
} arg;

/* ---- the op: in[0] is x, in[1] the steps, in[2] the offsets or NULL ---------------------------------------------------------------- */

QT_CLONES static void quantize(R *restrict y, const R *restrict x, int64_t n, R s, R o, R qn, R qp)
{
    for (int64_t i = 0; i < n; i++) y[i] = qt_value(qt_code(x[i] - o, s, 0, qn, qp), s, 0) + o;
}

QT_CLONES static qt_step_sums gradients(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t n, R s, R o, R qn, R qp, qt_step_dx mode)
{
    switch (mode) {
    case QT_DX_STORE: return qt_step_run(dx, dy, x, n, s, o, qn, qp, QT_DX_STORE, true);
    case QT_DX_ADD: return qt_step_run(dx, dy, x, n, s, o, qn, qp, QT_DX_ADD, true);
    default: return qt_step_run(NULL, dy, x, n, s, o, qn, qp, QT_DX_NONE, true);
    }
}

static qt_err shape(qt_node *nd)
{
    const arg *a = nd->arg;
    qt_cut     c = qt_cut_of(a->layout, nd->in[0]->n);
    QT_TRY(qt_node_out_like(nd, nd->in[0]));
    return qt_wants_grad(nd->out) ? qt_node_save(nd, 2 * (size_t)c.pieces * sizeof(double)) : QT_OK; /* partial sums of ds, then of do */
}

static R offset_of(const qt_node *nd, int64_t k) { return nd->in[2] ? nd->in[2]->data[k] : 0; }

static void forward(qt_node *nd)
{
    const arg *a = nd->arg;
    const R   *x = nd->in[0]->data, *s = nd->in[1]->data;
    R         *y = nd->out->data;
    qt_cut     c = qt_cut_of(a->layout, nd->out->n);
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        quantize(y + p.at, x + p.at, p.n, qt_step_guard(s[p.k]), offset_of(nd, p.k), a->qn, a->qp);
    }
}

static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS(7); }

static void backward(const qt_node *nd)
{
    const arg *a = nd->arg;
    const R   *x = nd->in[0]->data, *s = nd->in[1]->data, *dy = nd->out->grad;
    R         *dx = nd->in[0]->grad;
    qt_cut     c = qt_cut_of(a->layout, nd->out->n);
    double    *part_s = nd->saved, *part_o = part_s + c.pieces;
    qt_step_dx mode = qt_step_mode(nd->in[0]);
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece     p = qt_piece_of(&c, j);
        qt_step_sums sum =
            gradients(dx ? dx + p.at : NULL, dy + p.at, x + p.at, p.n, qt_step_guard(s[p.k]), offset_of(nd, p.k), a->qn, a->qp, mode);
        part_s[j] = sum.ds, part_o[j] = sum.doff;
    }
    qt_step_add(nd->in[1], &c, part_s, a->g);
    qt_step_add(nd->in[2], &c, part_o, a->g);
}

static const qt_op op;

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    arg a = {{8, 6}, 0, 3, 1};
    return QT_EMIT(t, &op, &a, sizeof a, in[0], in[1], in[2]);
}

static const qt_case cases[] = {{"channel", build, {{{6, 8}, 'n'}, {{6}, 'p'}, {{6}, 'n'}}}, {0}};

static const qt_op op = {
    {"lsq_plus", "learned step size and offset", "arXiv 2004.09576"}, QT_SURROGATE, shape, forward, backward, .stores = true, .reads = reads, .cases = cases};

/* ---- the quantizer --------------------------------------------------------------------------------------------------------------- */

static qt_granularity granularity_of(const cfg *c) { return c->granularity == CHANNEL ? QT_PER_CHANNEL : QT_PER_TENSOR; }

static qt_err init(qt_site *q)
{
    const cfg *c = q->cfg;
    int64_t    count;
    if (c->is_signed && c->num_bits.n && c->num_bits.v[c->num_bits.n - 1] < 2) return qt_site_fail(q, "signed codes need num_bits of at least 2");
    QT_TRY(qt_site_bits_check(q, "num_bits", &c->num_bits, 1, 16));
    QT_TRY(qt_site_count(q, granularity_of(c), &c->axis, 0, &count));
    QT_TRY(qt_site_table(q, SCALE, "scale", QT_QUANT, c->num_bits.n, count, 1));
    if (q->role != QT_ROLE_WEIGHT) QT_TRY(qt_site_table(q, OFFSET, "offset", QT_QUANT, c->num_bits.n, count, 0));
    return qt_site_param(q, INITIALIZED, "initialized", QT_BUFFER, c->num_bits.n, 0);
}

static int     row_of(const qt_site *q) { return qt_site_bits_row(q, &((const cfg *)q->cfg)->num_bits); }
static int64_t count_of(const qt_site *q) { return q->p[SCALE]->n / ((const cfg *)q->cfg)->num_bits.n; }
static R      *steps_of(const qt_site *q, int row) { return q->p[SCALE]->data + row * count_of(q); }
static R      *offsets_of(const qt_site *q, int row) { return q->p[OFFSET] ? q->p[OFFSET]->data + row * count_of(q) : NULL; }

/* For the bits of a row. */
static qt_err arg_of(const qt_site *q, const qt_tensor *x, int row, arg *a)
{
    const cfg *c = q->cfg;
    QT_TRY(qt_site_layout(q, granularity_of(c), &c->axis, 0, x, &a->layout));
    QT_CHECK(a->layout.count == count_of(q), QT_ESHAPE, "%s: the tensor has %lld channels, the site %lld steps", q->path,
             (long long)a->layout.count, (long long)count_of(q));
    qt_levels((int)c->num_bits.v[row], c->is_signed, false, &a->qn, &a->qp);
    int64_t N = c->grad_scale == GRAD_FEATURES && q->role != QT_ROLE_WEIGHT ? x->n / x->dim[0] : x->n;
    a->g = c->grad_scale == GRAD_NONE ? 1 : 1 / sqrt((double)N * (double)a->qp);
    return QT_OK;
}

/* Step and offset of a range. */
static void from_range(const arg *a, R lo, R hi, R *s, R *o)
{
    *s = (hi - lo) / (a->qp - a->qn);
    if (!(*s > 0)) *s = 1 / a->qp;
    *o = lo - a->qn * *s;
}

static qt_err start_activation(qt_site *q, const qt_tensor *x, int row, qt_arena *arena, const arg *a)
{
    int64_t count = a->layout.count, tries = ((const cfg *)q->cfg)->start == MINMAX ? 1 : TRIES;
    R      *range = qt_arena_alloc(arena, 2 * (size_t)count * sizeof *range);
    double *error = qt_arena_alloc(arena, (size_t)(count * tries) * sizeof *error);
    if (!range || !error) return QT_EMEM;
    QT_FOR_EACH(k, count, x->n > QT_GRAIN) qt_scale_min_max(x->data, x->n, a->layout, k, &range[2 * k], &range[2 * k + 1]);
    /* try 0 is the full range; the others shrink the upper end fast and the lower one slowly */
    QT_FOR_EACH(j, count * tries, x->n > 64) {
        const R *r = &range[2 * (j / tries)];
        int64_t  i = j % tries;
        R        s, o;
        from_range(a, r[0] * (R)(LO_STEPS - i / HI_STEPS) / LO_STEPS, r[1] * (R)(HI_STEPS - i % HI_STEPS) / HI_STEPS, &s, &o);
        error[j] = qt_grid_error(x->data, x->n, a->layout, j / tries, s, 0, o, a->qn, a->qp, 2);
    }
    for (int64_t k = 0; k < count; k++) {
        int64_t best = 0;
        for (int64_t i = 1; i < tries; i++)
            if (error[k * tries + i] < error[k * tries + best]) best = i;
        from_range(a, range[2 * k] * (R)(LO_STEPS - best / HI_STEPS) / LO_STEPS, range[2 * k + 1] * (R)(HI_STEPS - best % HI_STEPS) / HI_STEPS,
                   &steps_of(q, row)[k], &offsets_of(q, row)[k]);
    }
    return QT_OK;
}

static void start_weight(qt_site *q, const qt_tensor *x, int row, const arg *a)
{
    qt_layout l = a->layout;
    double    n = (double)(x->n / l.count);
    for (int64_t k = 0; k < l.count; k++) {
        double m = 0, d = 0;
        for (int64_t b = k * l.inner; b < x->n; b += l.count * l.inner) m += qt_reduce_sum(x->data + b, l.inner) / n;
        for (int64_t b = k * l.inner; b < x->n; b += l.count * l.inner)
            for (int64_t i = 0; i < l.inner; i++) d += ((double)x->data[b + i] - m) * ((double)x->data[b + i] - m) / n;
        d = sqrt(d);
        double top = fmax(fabs(m - 3 * d), fabs(m + 3 * d)), levels = a->qn < 0 ? -(double)a->qn : (double)a->qp;
        steps_of(q, row)[k] = top > 0 ? (R)(top / levels) : 1 / a->qp;
    }
}

static qt_err start(qt_site *q, const qt_tensor *x, int row, qt_arena *arena)
{
    const cfg *c = q->cfg;
    arg        a;
    QT_TRY(arg_of(q, x, row, &a));
    if (q->p[OFFSET]) QT_TRY(start_activation(q, x, row, arena, &a));
    else start_weight(q, x, row, &a);
    for (int64_t k = 0; k < a.layout.count; k++) steps_of(q, row)[k] *= (R)c->init_scale_mult;
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
        return qt_fail(QT_EUSAGE, "%s: step and offset are not known yet; train or calibrate before evaluating", q->path);
    if (!started(q, row)) QT_TRY(start(q, x, row, arena));
    return arg_of(q, x, row, a);
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    arg a = {0};
    qt_tape_fail(t, ready(q, x, &t->arena, t->train, &a));
    return QT_EMIT(t, &op, &a, sizeof a, x, qt_param_row(t, q->p[SCALE], row_of(q)), q->p[OFFSET] ? qt_param_row(t, q->p[OFFSET], row_of(q)) : NULL);
}

static void after_step(qt_site *q, int64_t step) { (void)step, qt_steps_guard(q->p[SCALE]); }

static int    precisions(const qt_site *q, qt_precision *list) { return qt_site_bits_list(&((const cfg *)q->cfg)->num_bits, list); }
static double bits(const qt_site *q) { return (double)((const cfg *)q->cfg)->num_bits.v[row_of(q)]; }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *arena, qt_codes *codes)
{
    arg     a;
    qt_grid g = {0};
    QT_TRY(ready(q, x, arena, false, &a));
    g = (qt_grid){.layout = a.layout, .qn = a.qn, .qp = a.qp, .offset = offsets_of(q, row_of(q))};
    QT_TRY(qt_step_grid(steps_of(q, row_of(q)), arena, &g));
    return qt_grid_encode(q, &g, x, arena, bits(q), codes);
}

const qt_quant qt_quant_lsq_plus = {
    {"lsq_plus", "learned step size and offset (LSQ+)", "Bhalgat et al. 2020, arXiv 2004.09576, eq. 2-9", fields, sizeof(cfg)},
    init, observe, apply, .after_step = after_step, .encode = encode, .bits = bits, .precisions = precisions, .idempotent = true, .monotone = true,
    .op = &op};
