/* Batch normalization. x [N,C] or [N,C,...], one mean m_c and variance v_c a channel over the M = N S other elements:
 *
 *     y = w_c h + b_c,   h = (x - m_c) r_c,   r_c = 1/sqrt(v_c + eps)          w = 1 and b = 0 where they are NULL
 *
 * In training m and v (biased, sum/M) are the batch's own. With u = dy w r, and as m and v depend on every x of the channel,
 *     dx = u - mean(u) - h mean(u h),    dw = sum dy h,    db = sum dy.
 * The running values follow: mean <- (1 - momentum) mean + momentum m, and the same for var with the unbiased v M/(M-1).
 * In evaluation, or with batch_stats false (frozen), m and v are the running ones, constants: dx = dy w r.
 * A single value a channel (M = 1) says nothing about a variance: var stays as it is then.
 *
 * Ioffe, Szegedy, "Batch normalization", ICML 2015, algorithm 1; left out: the moving average by count (momentum = none).
 * Two passes, mean then variance, so that nothing cancels. [N,C] is worked on in strips of columns, images channel by channel. */
#include "ops/inner.h"
#include <string.h>

typedef struct arg {
    bool   batch_stats;
    double momentum, eps;
} arg;
/* For backward: statistics of the batch (or the running ones), and which of them it was. */
typedef struct stats {
    bool batch;
    R   *mean, *root; /* [C]; root = 1/sqrt(var + eps) */
} stats;
enum { STRIP = 64 };

static qt_err shape(qt_node *nd)
{
    static const char *const name[] = {"x", "weight", "bias", "mean", "var"};
    const qt_tensor         *x = nd->in[0];
    char                     s[96], u[96];
    stats                   *st;
    if (x->rank < 2) return qt_node_fail(nd, "x is %s, it must be [N, C] or [N, C, H, W]", qt_shape_str(x, s));
    for (int i = 1; i < 5; i++) {
        const qt_tensor *p = nd->in[i];
        if (!p && i >= 3) return qt_node_fail(nd, "%s is missing", name[i]);
        if (p && p->n != x->dim[1])
            return qt_node_fail(nd, "%s is %s, but x %s has %lld channels", name[i], qt_shape_str(p, s), qt_shape_str(x, u), (long long)x->dim[1]);
    }
    QT_TRY(qt_node_save(nd, sizeof *st));
    st = nd->saved;
    st->batch = ((arg *)nd->arg)->batch_stats && nd->tape->train;
    if (!(st->mean = qt_tape_alloc(nd->tape, 2 * (size_t)x->dim[1] * sizeof(R)))) return QT_EMEM;
    st->root = st->mean + x->dim[1];
    return qt_node_out_like(nd, x);
}

static int64_t spatial(const qt_tensor *x) { return x->n / qt_max_i64(1, x->dim[0] * x->dim[1]); }

/* ---- images: one channel, N runs of S numbers that lie `step` apart ------------------------------------------------------- */

/* sum += term for each j of N runs, as QT_SUM does, but the lanes go on from run to run: 7 x 7 images have runs of 49. */
#define SUM_RUNS(sum, j, N, step, S, term)                                                     \
    do {                                                                                       \
        R       lane_[QT_LANES] = {0};                                                         \
        int64_t held_ = 0;                                                                     \
        for (int64_t n_ = 0; n_ < (N); n_++) {                                                 \
            const int64_t from_ = n_ * (step), full_ = from_ + (S) / QT_LANES * QT_LANES;      \
            for (int64_t i_ = from_; i_ < full_; i_ += QT_LANES)                               \
                for (int l_ = 0; l_ < QT_LANES; l_++) {                                        \
                    const int64_t j = i_ + l_;                                                 \
                    lane_[l_] += (term);                                                       \
                }                                                                              \
            for (int64_t j = full_; j < from_ + (S); j++) lane_[j - full_] += (term);          \
            if ((held_ += (S)) < QT_LANE_RUN && n_ + 1 < (N)) continue;                        \
            (sum) += qt_lane_total(lane_);                                                     \
            memset(lane_, 0, sizeof lane_), held_ = 0;                                         \
        }                                                                                      \
    } while (0)

QT_CLONES static double run_sum(const R *x, int64_t N, int64_t step, int64_t S)
{
    double sum = 0;
    SUM_RUNS(sum, j, N, step, S, x[j]);
    return sum;
}

QT_CLONES static double run_sum_sq(const R *x, int64_t N, int64_t step, int64_t S, R m)
{
    double sum = 0;
    SUM_RUNS(sum, j, N, step, S, (x[j] - m) * (x[j] - m));
    return sum;
}

/* sum dy (x - m) */
QT_CLONES static double run_dot(const R *dy, const R *x, int64_t N, int64_t step, int64_t S, R m)
{
    double sum = 0;
    SUM_RUNS(sum, j, N, step, S, dy[j] * (x[j] - m));
    return sum;
}

/* y = (x - m) k + b */
QT_CLONES static void run_apply(R *restrict y, const R *restrict x, int64_t N, int64_t step, int64_t S, R m, R k, R b)
{
    for (int64_t n = 0; n < N; n++)
        for (int64_t j = n * step; j < n * step + S; j++) y[j] = (x[j] - m) * k + b;
}

/* dx += k (dy - p - (x - m) q) */
QT_CLONES static void run_apply_back(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t N, int64_t step, int64_t S, R m, R k,
                                     R p, R q)
{
    for (int64_t n = 0; n < N; n++)
        for (int64_t j = n * step; j < n * step + S; j++) dx[j] += k * (dy[j] - p - (x[j] - m) * q);
}

/* ---- [N,C]: a strip of width <= STRIP columns, rows C apart ------------------------------------------------------------------ */

QT_CLONES static void strip_sum(double *sum, const R *x, int64_t N, int64_t C, int width)
{
    for (int64_t n = 0; n < N; n++)
        for (int c = 0; c < width; c++) sum[c] += (double)x[n * C + c];
}

/* sum of dy (x - m), or of (x - m)^2 where dy is NULL */
QT_CLONES static void strip_dot(double *sum, const R *x, const R *dy, int64_t N, int64_t C, int width, const R *m)
{
    for (int64_t n = 0; n < N; n++)
        for (int c = 0; c < width; c++) {
            const R d = x[n * C + c] - m[c];
            sum[c] += (double)((dy ? dy[n * C + c] : d) * d);
        }
}

QT_CLONES static void strip_apply(R *restrict y, const R *restrict x, int64_t N, int64_t C, int width, const R *m, const R *k, const R *b)
{
    for (int64_t n = 0; n < N; n++)
        for (int c = 0; c < width; c++) y[n * C + c] = (x[n * C + c] - m[c]) * k[c] + b[c];
}

QT_CLONES static void strip_apply_back(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t N, int64_t C, int width, const R *m,
                                       const R *k, const R *p, const R *q)
{
    for (int64_t n = 0; n < N; n++)
        for (int c = 0; c < width; c++) dx[n * C + c] += k[c] * (dy[n * C + c] - p[c] - (x[n * C + c] - m[c]) * q[c]);
}

/* ---- forward ----------------------------------------------------------------------------------------------------------------- */

/* Channels [c, c + width): their statistics into m and r, and the running values moved. width is 1 for images. */
static void take_batch_stats(qt_node *nd, int64_t c, int width, R *m, R *r)
{
    const qt_tensor *x = nd->in[0];
    const arg       *g = nd->arg;
    const int64_t    N = x->dim[0], C = x->dim[1], S = spatial(x), M = N * S;
    R               *running_mean = nd->in[3]->data + c, *running_var = nd->in[4]->data + c;
    double           sum[STRIP] = {0}, sq[STRIP] = {0};
    if (S > 1) sum[0] = run_sum(x->data + c * S, N, C * S, S);
    else strip_sum(sum, x->data + c, N, C, width);
    for (int i = 0; i < width; i++) m[i] = (R)(sum[i] / (double)M);
    if (S > 1) sq[0] = run_sum_sq(x->data + c * S, N, C * S, S, m[0]);
    else strip_dot(sq, x->data + c, NULL, N, C, width, m);
    for (int i = 0; i < width; i++) {
        r[i] = (R)(1 / sqrt(sq[i] / (double)M + g->eps));
        running_mean[i] = (R)((1 - g->momentum) * (double)running_mean[i] + g->momentum * (double)m[i]);
        if (M > 1) running_var[i] = (R)((1 - g->momentum) * (double)running_var[i] + g->momentum * sq[i] / (double)(M - 1));
    }
}

static void take_running_stats(qt_node *nd, int64_t c, int width, R *m, R *r)
{
    for (int i = 0; i < width; i++) {
        m[i] = nd->in[3]->data[c + i];
        r[i] = (R)(1 / sqrt((double)nd->in[4]->data[c + i] + ((arg *)nd->arg)->eps));
    }
}

static void forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const stats     *st = nd->saved;
    const int64_t    N = x->dim[0], C = x->dim[1], S = spatial(x), strip = S > 1 ? 1 : STRIP;
    QT_FOR_EACH(k, QT_CHUNKS(C, strip), x->n > QT_GRAIN)
    {
        const int64_t c = k * strip;
        const int     width = (int)qt_min_i64(strip, C - c);
        R            *m = st->mean + c, *r = st->root + c, gain[STRIP], shift[STRIP];
        (st->batch ? take_batch_stats : take_running_stats)(nd, c, width, m, r);
        for (int i = 0; i < width; i++) gain[i] = w ? r[i] * w->data[c + i] : r[i], shift[i] = b ? b->data[c + i] : 0;
        if (S > 1) run_apply(nd->out->data + c * S, x->data + c * S, N, C * S, S, m[0], gain[0], shift[0]);
        else strip_apply(nd->out->data + c, x->data + c, N, C, width, m, gain, shift);
    }
}

/* ---- backward ---------------------------------------------------------------------------------------------------------------- */

static void backward_channels(const qt_node *nd, int64_t c, int width)
{
    const qt_tensor *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const stats     *st = nd->saved;
    const int64_t    N = x->dim[0], C = x->dim[1], S = spatial(x);
    const R         *xs = x->data + c * S, *dy = nd->out->grad + c * S, *m = st->mean + c, *r = st->root + c;
    double           sum[STRIP] = {0}, dot[STRIP] = {0};
    R                gain[STRIP], p[STRIP] = {0}, q[STRIP] = {0};
    if (S > 1) sum[0] = run_sum(dy, N, C * S, S), dot[0] = run_dot(dy, xs, N, C * S, S, m[0]);
    else strip_sum(sum, dy, N, C, width), strip_dot(dot, xs, dy, N, C, width, m);
    for (int i = 0; i < width; i++) {
        gain[i] = w ? r[i] * w->data[c + i] : r[i];
        if (st->batch) p[i] = (R)(sum[i] / (double)(N * S)), q[i] = (R)(dot[i] / (double)(N * S) * (double)r[i] * (double)r[i]);
        if (w && w->grad) w->grad[c + i] += (R)(dot[i] * (double)r[i]);
        if (b && b->grad) b->grad[c + i] += (R)sum[i];
    }
    if (!x->grad) return;
    if (S > 1) run_apply_back(x->grad + c * S, dy, xs, N, C * S, S, m[0], gain[0], p[0], q[0]);
    else strip_apply_back(x->grad + c, dy, xs, N, C, width, m, gain, p, q);
}

static void backward(const qt_node *nd)
{
    const int64_t C = nd->in[0]->dim[1], strip = spatial(nd->in[0]) > 1 ? 1 : STRIP;
    QT_FOR_EACH(k, QT_CHUNKS(C, strip), nd->out->n > QT_GRAIN) backward_channels(nd, k * strip, (int)qt_min_i64(strip, C - k * strip));
}

qt_tensor *qt_batch_norm(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, qt_tensor *mean, qt_tensor *var, bool batch_stats, double momentum,
                         double eps)
{
    arg g = {batch_stats, momentum, eps};
    return QT_EMIT(t, &qt_op_batch_norm, &g, sizeof g, x, w, b, mean, var);
}

static qt_tensor *build(qt_tape *t, qt_tensor **in) { return qt_batch_norm(t, in[0], in[1], in[2], in[3], in[4], true, 0.1, 1e-5); }
static qt_tensor *build_plain(qt_tape *t, qt_tensor **in) { return qt_batch_norm(t, in[0], NULL, NULL, in[1], in[2], true, 0.1, 1e-5); }
static qt_tensor *build_no_bias(qt_tape *t, qt_tensor **in) { return qt_batch_norm(t, in[0], in[1], NULL, in[2], in[3], true, 0.1, 1e-3); }
static qt_tensor *build_frozen(qt_tape *t, qt_tensor **in) { return qt_batch_norm(t, in[0], in[1], in[2], in[3], in[4], false, 0.1, 1e-5); }
static qt_tensor *build_aliased(qt_tape *t, qt_tensor **in) { return qt_batch_norm(t, in[0], in[1], in[1], in[2], in[3], true, 0.1, 1e-5); }
static const qt_case cases[] = {{"rows", build, {{{6, 3}, 'n'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}},
                                {"many columns", build, {{{4, 70}, 'd'}, {{70}, 'n'}, {{70}, 'n'}, {{70}, 'c'}, {{70}, 'c'}}},
                                {"images", build, {{{3, 2, 4, 5}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                {"one pixel", build, {{{5, 2, 1, 1}, 'd'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                {"signals", build, {{{3, 2, 7}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                {"one value a channel", build_frozen, {{{1, 3}, 'n'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}},
                                {"no weight, no bias", build_plain, {{{5, 2, 2, 2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                {"no bias", build_no_bias, {{{7, 2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                {"weight is bias", build_aliased, {{{5, 2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                {"frozen", build_frozen, {{{3, 2, 2, 3}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                {"evaluation", build, {{{4, 3}, 'n'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}, .eval = true},
                                {"evaluation of images", build, {{{2, 2, 3, 3}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}, .eval = true},
                                {NULL}};
const qt_op qt_op_batch_norm = {
    .d = {"batch_norm", "normalization of each channel over the batch", .source = "Ioffe, Szegedy, ICML 2015, algorithm 1"},
    .kind = QT_EXACT, .shape = shape, .forward = forward, .backward = backward, .cases = cases};
