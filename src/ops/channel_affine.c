/* Batch normalization in two steps, so that something may be done to its factor and its offset between them, as rounding them to fixed point.
 * x [N,C] or [N,C,...], M = N S numbers a channel:
 *
 *     norm_affine       a_c = w_c r_c,  b_c = beta_c - m_c a_c,   r = 1/sqrt(v + eps)        as [2,C]: a, then b
 *     channel_affine    y = a_c x + b_c                              dx = a dy,  da = sum dy x,  db = sum dy
 *
 * m and v are those of the batch, and the running values follow them, or the running ones, as in batch_norm.c. With A = da - m db, for b holds
 * a too, dw = A r and dbeta = db. The batch's own statistics depend on x:
 *     dm = -a db,   dv = A w (-r^3/2),   dx = dm/M + dv 2 (x - m)/M        (v moves with m only in second order)
 *
 * Ioffe, Szegedy, "Batch normalization", ICML 2015, algorithm 1; the inference form of its section 3.1. */
#include "ops/inner.h"
#include "ops/vmath.h"

typedef struct arg {
    bool   batch_stats;
    double momentum, eps;
} arg;
typedef struct stats {
    bool    batch;
    double *mean, *root; /* [C]; root = 1/sqrt(var + eps) */
} stats;
enum { X, WEIGHT, BIAS, MEAN, VAR };

/* The numbers of a channel: `outer` runs of `inner` numbers that lie `step` apart. Rows [N,C] are one run. */
typedef struct runs {
    int64_t outer, outer_step, inner, step;
} runs;

static runs runs_of(const qt_tensor *x)
{
    const int64_t N = x->dim[0], C = x->dim[1], S = x->n / qt_max_i64(1, N * C);
    return S == 1 ? (runs){1, 0, N, C} : (runs){N, C * S, S, 1};
}
static int64_t first_of(const qt_tensor *x, int64_t c) { return runs_of(x).step == 1 ? c * runs_of(x).inner : c; }

static qt_err channels(qt_node *nd, const qt_tensor *p, const char *name)
{
    const qt_tensor *x = nd->in[X];
    char             s[96], u[96];
    if (x->rank < 2) return qt_node_fail(nd, "x is %s, it must be [N, C] or [N, C, H, W]", qt_shape_str(x, s));
    if (p && p->n != x->dim[1])
        return qt_node_fail(nd, "%s is %s, but x %s has %lld channels", name, qt_shape_str(p, s), qt_shape_str(x, u), (long long)x->dim[1]);
    return QT_OK;
}

/* ---- leaf loops over one channel; with step 1 known they are vector code ------------------------------------------------------------ */

QT_INLINE double sum_of(const R *x, runs r, int64_t step)
{
    double sum = 0;
    for (; r.outer > 0; r.outer--, x += r.outer_step) QT_SUM(sum, j, r.inner, x[j * step]);
    return sum;
}
QT_CLONES static double run_sum(const R *x, runs r) { return r.step == 1 ? sum_of(x, r, 1) : sum_of(x, r, r.step); }

/* sum of (x - m)^2 */
QT_INLINE double square_of(const R *x, runs r, int64_t step, R m)
{
    double sum = 0;
    for (; r.outer > 0; r.outer--, x += r.outer_step) QT_SUM(sum, j, r.inner, (x[j * step] - m) * (x[j * step] - m));
    return sum;
}
QT_CLONES static double run_square(const R *x, runs r, R m) { return r.step == 1 ? square_of(x, r, 1, m) : square_of(x, r, r.step, m); }

QT_INLINE double dot_of(const R *x, const R *y, runs r, int64_t step)
{
    double sum = 0;
    for (; r.outer > 0; r.outer--, x += r.outer_step, y += r.outer_step) QT_SUM(sum, j, r.inner, x[j * step] * y[j * step]);
    return sum;
}
QT_CLONES static double run_dot(const R *x, const R *y, runs r) { return r.step == 1 ? dot_of(x, y, r, 1) : dot_of(x, y, r, r.step); }

/* y = a x + b, or added to y */
QT_INLINE void map_of(R *restrict y, const R *restrict x, runs r, int64_t step, R a, R b, bool add)
{
    for (; r.outer > 0; r.outer--, x += r.outer_step, y += r.outer_step)
        for (int64_t j = 0; j < r.inner; j++) y[j * step] = (add ? y[j * step] : 0) + (a * x[j * step] + b);
}
QT_CLONES static void run_map(R *y, const R *x, runs r, R a, R b, bool add)
{
    if (r.step == 1 && add) map_of(y, x, r, 1, a, b, true);
    else if (r.step == 1) map_of(y, x, r, 1, a, b, false);
    else map_of(y, x, r, r.step, a, b, add);
}

/* ---- norm_affine --------------------------------------------------------------------------------------------------------------------- */

qt_tensor *qt_norm_affine(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, qt_tensor *mean, qt_tensor *var, bool batch_stats, double momentum,
                          double eps)
{
    arg g = {batch_stats, momentum, eps};
    return QT_EMIT(t, &qt_op_norm_affine, &g, sizeof g, x, w, b, mean, var);
}

static qt_err norm_shape(qt_node *nd)
{
    static const char *const name[] = {"x", "weight", "bias", "mean", "var"};
    stats                   *st;
    for (int i = WEIGHT; i <= VAR; i++) QT_TRY(channels(nd, nd->in[i], name[i]));
    if (!nd->in[MEAN] || !nd->in[VAR]) return qt_node_fail(nd, "mean and var must be given");
    const int64_t C = nd->in[X]->dim[1];
    QT_TRY(qt_node_save(nd, sizeof *st));
    st = nd->saved;
    st->batch = ((arg *)nd->arg)->batch_stats && nd->tape->train;
    if (!(st->mean = qt_tape_alloc(nd->tape, 2 * (size_t)C * sizeof *st->mean))) return QT_EMEM;
    st->root = st->mean + C;
    nd->own = 2 * C * (int64_t)sizeof *st->mean;
    return qt_node_out(nd, 2, (int64_t[]){2, C});
}

/* The batch's mean and variance of channel c, the running ones moved. */
static void take_batch(qt_node *nd, int64_t c, double *mean, double *var)
{
    const qt_tensor *x = nd->in[X];
    const double     momentum = ((arg *)nd->arg)->momentum;
    const int64_t    M = x->n / x->dim[1];
    const R         *xs = x->data + first_of(x, c);
    R               *running_mean = nd->in[MEAN]->data + c, *running_var = nd->in[VAR]->data + c;
    *mean = run_sum(xs, runs_of(x)) / (double)M;
    const double square = run_square(xs, runs_of(x), (R)*mean);
    *var = square / (double)M;
    *running_mean = (R)((1 - momentum) * (double)*running_mean + momentum * *mean);
    if (M > 1) *running_var = (R)((1 - momentum) * (double)*running_var + momentum * square / (double)(M - 1));
}

static void norm_forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[X], *w = nd->in[WEIGHT], *b = nd->in[BIAS];
    const stats     *st = nd->saved;
    const int64_t    C = x->dim[1];
    R               *gain = nd->out->data, *shift = gain + C;
    QT_FOR_EACH(c, C, st->batch && x->n > QT_GRAIN)
    {
        double mean = (double)nd->in[MEAN]->data[c], var = (double)nd->in[VAR]->data[c];
        if (st->batch) take_batch(nd, c, &mean, &var);
        st->mean[c] = mean, st->root[c] = 1 / sqrt(var + ((arg *)nd->arg)->eps);
        gain[c] = (R)((w ? (double)w->data[c] : 1) * st->root[c]);
        shift[c] = (R)((b ? (double)b->data[c] : 0) - mean * (double)gain[c]);
    }
}

static uint32_t norm_reads(const qt_node *nd)
{
    return QT_READS(1 << WEIGHT | QT_RESULT) | (((stats *)nd->saved)->batch ? QT_READS_NEARLY(1 << X) : 0);
}

static void norm_backward(const qt_node *nd)
{
    qt_tensor    *x = nd->in[X], *w = nd->in[WEIGHT], *b = nd->in[BIAS];
    const stats  *st = nd->saved;
    const int64_t C = x->dim[1], M = x->n / C;
    const R      *gain = nd->out->data, *dgain = nd->out->grad, *dshift = dgain + C;
    qt_grad_clear(w), qt_grad_clear(b);
    for (int64_t c = 0; c < C; c++) {
        if (w && w->grad) w->grad[c] += (R)(((double)dgain[c] - st->mean[c] * (double)dshift[c]) * st->root[c]);
        if (b && b->grad) b->grad[c] += dshift[c];
    }
    if (!st->batch) qt_grad_clear(x);
    if (!st->batch || !x->grad) return;
    const bool first = qt_grad_first(x);
    QT_FOR_EACH(c, C, x->n > QT_GRAIN)
    {
        double r = st->root[c], A = (double)dgain[c] - st->mean[c] * (double)dshift[c];
        double q = -A * (w ? (double)w->data[c] : 1) * r * r * r / (double)M, p = -(double)gain[c] * (double)dshift[c] / (double)M;
        run_map(x->grad + first_of(x, c), x->data + first_of(x, c), runs_of(x), (R)q, (R)(p - q * st->mean[c]), !first);
    }
}

/* ---- channel_affine ------------------------------------------------------------------------------------------------------------------ */

qt_tensor *qt_channel_affine(qt_tape *t, qt_tensor *x, qt_tensor *a, qt_tensor *b) { return QT_EMIT(t, &qt_op_channel_affine, NULL, 0, x, a, b); }

static qt_err shape(qt_node *nd)
{
    QT_TRY(channels(nd, nd->in[1], "a"));
    QT_TRY(channels(nd, nd->in[2], "b"));
    return qt_node_out_like(nd, nd->in[X]);
}

static void forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[X];
    QT_FOR_EACH(c, x->dim[1], x->n > QT_GRAIN)
    run_map(nd->out->data + first_of(x, c), x->data + first_of(x, c), runs_of(x), nd->in[1]->data[c], nd->in[2]->data[c], false);
}

static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS_NEARLY(1 << X) | QT_READS(1 << 1); }

static void backward(const qt_node *nd)
{
    qt_tensor *x = nd->in[X], *a = nd->in[1], *b = nd->in[2];
    const R   *dy = nd->out->grad;
    const bool first = x->grad && qt_grad_first(x);
    qt_grad_clear(a), qt_grad_clear(b);
    QT_FOR_EACH(c, x->dim[1], x->n > QT_GRAIN)
    {
        const int64_t at = first_of(x, c);
        if (a->grad) a->grad[c] += (R)run_dot(dy + at, x->data + at, runs_of(x));
        if (b->grad) b->grad[c] += (R)run_sum(dy + at, runs_of(x));
        if (x->grad) run_map(x->grad + at, dy + at, runs_of(x), a->data[c], 0, !first);
    }
}

/* ---- descriptors --------------------------------------------------------------------------------------------------------------------- */

static qt_tensor *build_norm(qt_tape *t, qt_tensor **in) { return qt_norm_affine(t, in[0], in[1], in[2], in[3], in[4], true, 0.1, 1e-3); }
static qt_tensor *build_plain(qt_tape *t, qt_tensor **in) { return qt_norm_affine(t, in[0], NULL, NULL, in[1], in[2], true, 0.1, 1e-3); }
static qt_tensor *build_frozen(qt_tape *t, qt_tensor **in) { return qt_norm_affine(t, in[0], in[1], in[2], in[3], in[4], false, 0.1, 1e-3); }
static const qt_case norm_cases[] = {{"rows", build_norm, {{{6, 3}, 'n'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}},
                                     {"images", build_norm, {{{3, 2, 4, 5}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                     {"no weight, no bias", build_plain, {{{3, 2, 3}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                     {"frozen", build_frozen, {{{3, 2, 2, 2}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                     {"evaluation", build_norm, {{{4, 3}, 'n'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}, .eval = true},
                                     {NULL}};
const qt_op qt_op_norm_affine = {
    .d = {"norm_affine", "batch normalization as factor and offset of each channel", .source = "Ioffe, Szegedy, ICML 2015, algorithm 1"},
    .kind = QT_EXACT, .shape = norm_shape, .forward = norm_forward, .backward = norm_backward, .stores = true, .reads = norm_reads,
    .cases = norm_cases};

static qt_tensor *build(qt_tape *t, qt_tensor **in) { return qt_channel_affine(t, in[0], in[1], in[2]); }
static qt_tensor *build_same(qt_tape *t, qt_tensor **in) { return qt_channel_affine(t, in[0], in[1], in[1]); }
static const qt_case cases[] = {{"rows", build, {{{6, 3}, 'n'}, {{3}, 'n'}, {{3}, 'n'}}},
                                {"images", build, {{{3, 2, 4, 5}, 'n'}, {{2}, 'n'}, {{2}, 'n'}}},
                                {"a is b", build_same, {{{5, 2, 3}, 'n'}, {{2}, 'n'}}},
                                {NULL}};
const qt_op qt_op_channel_affine = {
    .d = {"channel_affine", "a factor and an offset for each channel"},
    .kind = QT_EXACT, .shape = shape, .forward = forward, .backward = backward, .stores = true, .reads = reads, .cases = cases};
