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
 * What follows it in a residual network is done in the same passes (norm_then.h).
 *
 * Ioffe, Szegedy, "Batch normalization", ICML 2015, algorithm 1; left out: the moving average by count (momentum = none).
 * Images are worked on channel by channel, which is what fits the second-level cache: forward reads x once for the sums of d = x - m0
 * and of d^2 and once for y, backward reads dy and x twice. m0, the mean of the channel in the first image, is near enough to m that
 * v = mean d^2 - (mean d)^2 does not cancel. [N,C] is worked on in strips of columns, mean first and then variance. */
#include "ops/inner.h"
#include "ops/norm_then.h"
#include <string.h>

typedef struct arg {
    bool   batch_stats, relu;
    double momentum, eps;
} arg;
/* For backward: statistics of the batch (or the running ones), and which of them it was. */
typedef struct stats {
    bool batch;
    int  mask;        /* how dy reaches the normalization (norm_then.h) */
    R   *mean, *root; /* [C]; root = 1/sqrt(var + eps) */
} stats;
enum { X, WEIGHT, BIAS, MEAN, VAR, SKIP };
enum { STRIP = 64, WIDE = 64, HELD = 4096 };

static int64_t spatial(const qt_tensor *x) { return x->n / qt_max_i64(1, x->dim[0] * x->dim[1]); }

static qt_err shape(qt_node *nd)
{
    static const char *const name[] = {"x", "weight", "bias", "mean", "var"};
    const qt_tensor         *x = nd->in[X];
    char                     s[96], u[96];
    stats                   *st;
    if (x->rank < 2) return qt_node_fail(nd, "x is %s, it must be [N, C] or [N, C, H, W]", qt_shape_str(x, s));
    for (int i = WEIGHT; i <= VAR; i++) {
        const qt_tensor *p = nd->in[i];
        if (!p && i >= MEAN) return qt_node_fail(nd, "%s is missing", name[i]);
        if (p && p->n != x->dim[1])
            return qt_node_fail(nd, "%s is %s, but x %s has %lld channels", name[i], qt_shape_str(p, s), qt_shape_str(x, u), (long long)x->dim[1]);
    }
    QT_TRY(qt_then_shape(nd, nd->in[SKIP]));
    QT_TRY(qt_node_save(nd, sizeof *st));
    st = nd->saved;
    st->batch = ((arg *)nd->arg)->batch_stats && nd->tape->train;
    if (!(st->mean = qt_tape_alloc(nd->tape, 2 * (size_t)x->dim[1] * sizeof(R)))) return QT_EMEM;
    st->root = st->mean + x->dim[1];
    st->mask = qt_then_mask(nd, ((arg *)nd->arg)->relu, nd->in[SKIP], spatial(x) > 1);
    nd->own = 2 * x->dim[1] * (int64_t)sizeof(R);
    return qt_node_out_like(nd, x);
}

/* ---- images: one channel, N runs of S numbers that lie `step` apart ------------------------------------------------------- */

typedef struct runs {
    int64_t N, step, S;
} runs;

/* Two sums at once, each in WIDE running sums in R, which lie in memory that never leaves the first-level cache: a loop over them is
 * plain vector code of any width, in the same order. They go on from run to run, for 7 x 7 images have runs of 49, and are added to the
 * totals, in double, every HELD terms or more: each has added up at most about 64 then. */
typedef struct lanes {
    R       a[WIDE], b[WIDE];
    int64_t held;
    double  total_a, total_b;
} lanes;

QT_INLINE double total(R *lane)
{
    double s[8] = {0};
    for (int l = 0; l < WIDE; l += 8)
        for (int k = 0; k < 8; k++) s[k] += (double)lane[l + k];
    memset(lane, 0, WIDE * sizeof *lane);
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

QT_INLINE void flush(lanes *s)
{
    s->total_a += total(s->a), s->total_b += total(s->b), s->held = 0;
}

/* sums of d = x - m0 and of its square */
QT_CLONES static void run_moments(const R *x, runs r, R m0, double *sum, double *sq)
{
    lanes s = {.held = 0};
    for (; r.N > 0; r.N--, x += r.step) {
        for (int64_t i = 0; i < r.S; i += WIDE) {
            const R  *xi = x + i;
            const int n = (int)qt_min_i64(WIDE, r.S - i);
            for (int l = 0; l < n; l++) {
                const R d = xi[l] - m0;
                s.a[l] += d, s.b[l] += d * d;
            }
        }
        if ((s.held += r.S) >= HELD) flush(&s);
    }
    flush(&s);
    *sum = s.total_a, *sq = s.total_b;
}

/* What backward of a channel works from. */
typedef struct flow {
    const R *dy, *x, *y;
    R        m, k, b; /* y = (x - m) k + b */
    R        p, q;    /* dx = k (g - p - (x - m) q), g = dy masked */
} flow;

/* sums of g and of g (x - m) */
QT_INLINE void run_sums_of(int mask, const flow *f, runs r, double *sum, double *dot)
{
    const R *dy = f->dy, *x = f->x, *y = f->y, m = f->m, k = f->k, b = f->b;
    lanes    s = {.held = 0};
    for (; r.N > 0; r.N--, dy += r.step, x += r.step, y += r.step) {
        for (int64_t i = 0; i < r.S; i += WIDE) {
            const R *restrict dyi = dy + i, *restrict xi = x + i, *restrict yi = y + i;
            const int n = (int)qt_min_i64(WIDE, r.S - i);
            for (int l = 0; l < n; l++) {
                const R g = qt_let_through(mask, dyi[l], xi[l], yi[l], m, k, b);
                s.a[l] += g, s.b[l] += g * (xi[l] - m);
            }
        }
        if ((s.held += r.S) >= HELD) flush(&s);
    }
    flush(&s);
    *sum = s.total_a, *dot = s.total_b;
}

QT_CLONES static void run_sums(int mask, const flow *f, runs r, double *sum, double *dot)
{
    if (mask == QT_UNMASKED) run_sums_of(QT_UNMASKED, f, r, sum, dot);
    else if (mask == QT_BY_X) run_sums_of(QT_BY_X, f, r, sum, dot);
    else run_sums_of(QT_BY_Z, f, r, sum, dot);
}

QT_INLINE void run_back_of(int mask, bool first, R *restrict dx, const flow *f, runs r)
{
    const R *restrict dy = f->dy, *restrict x = f->x, *restrict y = f->y;
    const R  m = f->m, k = f->k, b = f->b, p = f->p, q = f->q;
    for (int64_t from = 0; r.N > 0; r.N--, from += r.step)
        for (int64_t j = from; j < from + r.S; j++) {
            const R d = k * (qt_let_through(mask, dy[j], x[j], y[j], m, k, b) - p - (x[j] - m) * q);
            dx[j] = first ? d : dx[j] + d;
        }
}

/* dx = k (g - p - (x - m) q), or added */
QT_CLONES static void run_back(int mask, bool first, R *dx, const flow *f, runs r)
{
    if (mask == QT_UNMASKED && first) run_back_of(QT_UNMASKED, true, dx, f, r);
    else if (mask == QT_UNMASKED) run_back_of(QT_UNMASKED, false, dx, f, r);
    else if (mask == QT_BY_X && first) run_back_of(QT_BY_X, true, dx, f, r);
    else if (mask == QT_BY_X) run_back_of(QT_BY_X, false, dx, f, r);
    else if (first) run_back_of(QT_BY_Z, true, dx, f, r);
    else run_back_of(QT_BY_Z, false, dx, f, r);
}

/* ---- [N,C]: a strip of width <= STRIP columns, rows C apart ------------------------------------------------------------------ */

QT_CLONES static void strip_sum(double *sum, const R *x, int64_t N, int64_t C, int width)
{
    for (int64_t n = 0; n < N; n++)
        for (int c = 0; c < width; c++) sum[c] += (double)x[n * C + c];
}

QT_CLONES static void strip_sum_sq(double *sum, const R *x, int64_t N, int64_t C, int width, const R *m)
{
    for (int64_t n = 0; n < N; n++)
        for (int c = 0; c < width; c++) {
            const R d = x[n * C + c] - m[c];
            sum[c] += (double)(d * d);
        }
}

/* g of one row */
QT_INLINE void strip_flow(R *restrict g, bool relu, const R *restrict dy, const R *restrict y, int width)
{
    for (int c = 0; c < width; c++) g[c] = dy[c];
    if (relu)
        for (int c = 0; c < width; c++) g[c] = qt_masked(g[c], y[c]);
}

QT_CLONES static void strip_sums(double *sum, double *dot, bool relu, const R *dy, const R *x, const R *y, int64_t N, int64_t C, int width,
                                 const R *m)
{
    R g[STRIP];
    for (int64_t n = 0; n < N; n++) {
        strip_flow(g, relu, dy + n * C, y + n * C, width);
        for (int c = 0; c < width; c++) sum[c] += (double)g[c], dot[c] += (double)(g[c] * (x[n * C + c] - m[c]));
    }
}

QT_CLONES static void strip_back(bool first, R *restrict dx, bool relu, const R *dy, const R *x, const R *y, int64_t N, int64_t C, int width,
                                 const R *m, const R *k, const R *p, const R *q)
{
    R g[STRIP];
    for (int64_t n = 0; n < N; n++, dx += C) {
        strip_flow(g, relu, dy + n * C, y + n * C, width);
        for (int c = 0; c < width; c++) g[c] = k[c] * (g[c] - p[c] - (x[n * C + c] - m[c]) * q[c]);
        if (first) memcpy(dx, g, (size_t)width * sizeof *g);
        else
            for (int c = 0; c < width; c++) dx[c] += g[c];
    }
}

/* ---- forward ----------------------------------------------------------------------------------------------------------------- */

/* Mean and the sum of squared distances from it, of channels [c, c + width). width is 1 for images. */
static void take_moments(const qt_tensor *x, int64_t c, int width, R *m, double *sq)
{
    const int64_t N = x->dim[0], C = x->dim[1], S = spatial(x);
    double        sum[STRIP] = {0}, first = 0, ignored;
    if (S > 1) {
        const R *xs = x->data + c * S;
        run_moments(xs, (runs){1, 0, S}, 0, &first, &ignored);
        R m0 = (R)(first / (double)S);
        run_moments(xs, (runs){N, C * S, S}, m0, sum, sq);
        const double mean = sum[0] / (double)(N * S);
        m[0] = (R)((double)m0 + mean);
        sq[0] -= sum[0] * mean;
        if (sq[0] < 0) sq[0] = 0;
    } else {
        strip_sum(sum, x->data + c, N, C, width);
        for (int i = 0; i < width; i++) m[i] = (R)(sum[i] / (double)N);
        strip_sum_sq(sq, x->data + c, N, C, width, m);
    }
}

/* Channels [c, c + width): their statistics into m and r, and the running values moved. */
static void take_batch_stats(qt_node *nd, int64_t c, int width, R *m, R *r)
{
    const qt_tensor *x = nd->in[X];
    const arg       *g = nd->arg;
    const int64_t    M = x->n / x->dim[1];
    R               *running_mean = nd->in[MEAN]->data + c, *running_var = nd->in[VAR]->data + c;
    double           sq[STRIP] = {0};
    take_moments(x, c, width, m, sq);
    for (int i = 0; i < width; i++) {
        r[i] = (R)(1 / sqrt(sq[i] / (double)M + g->eps));
        running_mean[i] = (R)((1 - g->momentum) * (double)running_mean[i] + g->momentum * (double)m[i]);
        if (M > 1) running_var[i] = (R)((1 - g->momentum) * (double)running_var[i] + g->momentum * sq[i] / (double)(M - 1));
    }
}

static void take_running_stats(qt_node *nd, int64_t c, int width, R *m, R *r)
{
    for (int i = 0; i < width; i++) {
        m[i] = nd->in[MEAN]->data[c + i];
        r[i] = (R)(1 / sqrt((double)nd->in[VAR]->data[c + i] + ((arg *)nd->arg)->eps));
    }
}

/* y = (x - m) gain + shift */
static void take_affine(const qt_node *nd, int64_t c, int width, R *gain, R *shift)
{
    const qt_tensor *w = nd->in[WEIGHT], *b = nd->in[BIAS];
    const R         *r = ((stats *)nd->saved)->root + c;
    for (int i = 0; i < width; i++) gain[i] = w ? r[i] * w->data[c + i] : r[i], shift[i] = b ? b->data[c + i] : 0;
}

static void forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[X], *skip = nd->in[SKIP];
    const arg       *g = nd->arg;
    const stats     *st = nd->saved;
    const int64_t    N = x->dim[0], C = x->dim[1], S = spatial(x), strip = S > 1 ? 1 : STRIP;
    QT_FOR_EACH(i, QT_CHUNKS(C, strip), x->n > QT_GRAIN)
    {
        const int64_t c = i * strip;
        const int     width = (int)qt_min_i64(strip, C - c);
        R            *m = st->mean + c, k[STRIP], b[STRIP], *y = nd->out->data + c * S;
        const R      *also = skip ? skip->data + c * S : NULL;
        (st->batch ? take_batch_stats : take_running_stats)(nd, c, width, m, st->root + c);
        take_affine(nd, c, width, k, b);
        if (S > 1) qt_then_runs(y, x->data + c * S, also, g->relu, N, C * S, S, m[0], k[0], b[0]);
        else qt_then_strip(y, x->data + c, also, g->relu, N, C, width, m, k, b);
    }
}

/* ---- backward ---------------------------------------------------------------------------------------------------------------- */

static void backward_channels(const qt_node *nd, int64_t c, int width, bool first)
{
    const qt_tensor *x = nd->in[X], *w = nd->in[WEIGHT], *b = nd->in[BIAS];
    const stats     *st = nd->saved;
    const bool       relu = ((arg *)nd->arg)->relu;
    const int64_t    N = x->dim[0], C = x->dim[1], S = spatial(x);
    const int        mask = st->mask;
    const R         *xs = x->data + c * S, *dy = nd->out->grad + c * S, *y = mask == QT_BY_Z ? nd->out->data + c * S : dy, *m = st->mean + c, *r = st->root + c;
    double           sum[STRIP] = {0}, dot[STRIP] = {0};
    R                k[STRIP], shift[STRIP], p[STRIP] = {0}, q[STRIP] = {0};
    take_affine(nd, c, width, k, shift);
    flow f = {dy, xs, y, m[0], k[0], shift[0], 0, 0};
    if (S > 1) run_sums(mask, &f, (runs){N, C * S, S}, sum, dot);
    else strip_sums(sum, dot, relu, dy, xs, y, N, C, width, m);
    for (int i = 0; i < width; i++) {
        if (st->batch) p[i] = (R)(sum[i] / (double)(N * S)), q[i] = (R)(dot[i] / (double)(N * S) * (double)r[i] * (double)r[i]);
        if (w && w->grad) w->grad[c + i] += (R)(dot[i] * (double)r[i]);
        if (b && b->grad) b->grad[c + i] += (R)sum[i];
    }
    if (!x->grad) return;
    f.p = p[0], f.q = q[0];
    if (S > 1) run_back(mask, first, x->grad + c * S, &f, (runs){N, C * S, S});
    else strip_back(first, x->grad + c, relu, dy, xs, y, N, C, width, m, k, p, q);
}

static uint32_t reads(const qt_node *nd)
{
    const stats *st = nd->saved;
    return QT_READS_NEARLY(1 << X) | QT_READS(1 << WEIGHT | 1 << BIAS) | (st->mask == QT_BY_Z ? QT_READS_SIGNS(QT_RESULT) : 0);
}

static void backward(const qt_node *nd)
{
    const int64_t C = nd->in[X]->dim[1], strip = spatial(nd->in[X]) > 1 ? 1 : STRIP;
    const bool    first = qt_grad_first(nd->in[X]);
    qt_grad_clear(nd->in[WEIGHT]), qt_grad_clear(nd->in[BIAS]);
    QT_FOR_EACH(k, QT_CHUNKS(C, strip), nd->out->n > QT_GRAIN) backward_channels(nd, k * strip, (int)qt_min_i64(strip, C - k * strip), first);
    qt_then_back(nd, nd->in[SKIP], ((arg *)nd->arg)->relu);
}

qt_tensor *qt_batch_norm_then(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, qt_tensor *mean, qt_tensor *var, qt_tensor *skip, bool relu,
                              bool batch_stats, double momentum, double eps)
{
    arg g = {batch_stats, relu, momentum, eps};
    return QT_EMIT(t, &qt_op_batch_norm, &g, sizeof g, x, w, b, mean, var, skip);
}

qt_tensor *qt_batch_norm(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, qt_tensor *mean, qt_tensor *var, bool batch_stats, double momentum,
                         double eps)
{
    return qt_batch_norm_then(t, x, w, b, mean, var, NULL, false, batch_stats, momentum, eps);
}

static qt_tensor *build(qt_tape *t, qt_tensor **in) { return qt_batch_norm(t, in[0], in[1], in[2], in[3], in[4], true, 0.1, 1e-5); }
static qt_tensor *build_plain(qt_tape *t, qt_tensor **in) { return qt_batch_norm(t, in[0], NULL, NULL, in[1], in[2], true, 0.1, 1e-5); }
static qt_tensor *build_no_bias(qt_tape *t, qt_tensor **in) { return qt_batch_norm(t, in[0], in[1], NULL, in[2], in[3], true, 0.1, 1e-3); }
static qt_tensor *build_frozen(qt_tape *t, qt_tensor **in) { return qt_batch_norm(t, in[0], in[1], in[2], in[3], in[4], false, 0.1, 1e-5); }
static qt_tensor *build_aliased(qt_tape *t, qt_tensor **in) { return qt_batch_norm(t, in[0], in[1], in[1], in[2], in[3], true, 0.1, 1e-5); }
static qt_tensor *build_relu(qt_tape *t, qt_tensor **in)
{
    return qt_batch_norm_then(t, in[0], in[1], in[2], in[3], in[4], NULL, true, true, 0.1, 1e-5);
}
static qt_tensor *build_skip(qt_tape *t, qt_tensor **in)
{
    return qt_batch_norm_then(t, in[0], in[1], in[2], in[3], in[4], in[5], false, true, 0.1, 1e-5);
}
static qt_tensor *build_skip_relu(qt_tape *t, qt_tensor **in)
{
    return qt_batch_norm_then(t, in[0], in[1], in[2], in[3], in[4], in[5], true, true, 0.1, 1e-5);
}
static qt_tensor *build_skip_self(qt_tape *t, qt_tensor **in)
{
    return qt_batch_norm_then(t, in[0], NULL, NULL, in[1], in[2], in[0], false, true, 0.1, 1e-5);
}
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
                                {"relu, rows", build_relu, {{{6, 3}, 'n'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}},
                                {"relu, images", build_relu, {{{3, 2, 4, 5}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                {"relu, evaluation", build_relu, {{{3, 2, 4}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}, .eval = true},
                                {"skip", build_skip, {{{2, 2, 3, 3}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}, {{2, 2, 3, 3}, 'n'}}},
                                {"skip and relu, images", build_skip_relu,
                                 {{{2, 2, 3, 3}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}, {{2, 2, 3, 3}, 'n'}}},
                                {"skip and relu, rows", build_skip_relu,
                                 {{{6, 3}, 'n'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}, {{6, 3}, 'n'}}},
                                {"x is skip", build_skip_self, {{{2, 2, 2, 2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                {NULL}};
const qt_op qt_op_batch_norm = {
    .d = {"batch_norm", "normalization of each channel over the batch", .source = "Ioffe, Szegedy, ICML 2015, algorithm 1"},
    .kind = QT_EXACT, .shape = shape, .forward = forward, .backward = backward, .stores = true, .reads = reads, .cases = cases};
