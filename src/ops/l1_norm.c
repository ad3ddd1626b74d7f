/* Normalization by the mean absolute deviation. l1_batch_norm: over the N S numbers of each channel of x [N,C] or [N,C,...]; l1_layer_norm:
 * over the rows of the last axis. With M numbers,
 *
 *     y = w t + b,   t = d r,   d = x - mean(x),   r = 1/(sigma + eps),   sigma = mean |d|          w = 1 and b = 0 where they are NULL
 *
 * No squares and no root: all of it can be done in integers (kernels/l1_norm.h). Normal x have sigma = sqrt(2/pi) of the standard deviation,
 * so w starts at sqrt(2/pi) where y shall have variance 1.
 *
 * Backward. With sg = sign(d), d sigma / dx_i = (sg_i - mean(sg))/M, as moving x_i moves the mean too; so with h = w dy
 *     dx_i = sum_j h_j dt_j/dx_i = r (h_i - mean(h)) - sum_j h_j d_j r^2 (sg_i - mean(sg))/M
 *          = r (h_i - mean(h) - mean(h t) (sg_i - mean(sg))),
 *     dw = sum dy t,    db = sum dy.
 * sg = 0 at the kink d = 0. What is taken from h_i has three values only, one for each sign: dx costs a comparison where the common norm has
 * a product. The running values follow: mean <- (1 - momentum) mean + momentum m, sigma likewise (a single value a channel says nothing
 * about sigma, which stays then). In evaluation, or with batch_stats false (frozen), they are constants: dx = h r. What follows a batch norm in a
 * residual network is done in its passes (norm_then.h).
 *
 * Guo et al., "Towards accurate and efficient sub-8-bit integer training", arXiv 2411.10948, replace the common norms by these.
 *
 * Sums run in fixed lanes of R that are emptied into doubles. The sum for the mean counts from the first number, so that nothing cancels and
 * the d of a constant channel are 0. A channel of large images is N runs of S numbers, worked on alone; channels of small images and of [N,C]
 * lie side by side and are worked on in strips of columns. A layer norm's dw and db are summed while their rows are still in the cache, one
 * partial sum a chunk of rows. */
#include "ops/inner.h"
#include "ops/norm_then.h"
#include <string.h>

#ifdef QT_DOUBLE
typedef int64_t whole;
#else
typedef int32_t whole; /* as wide as R, so that comparisons count in the lanes of R */
#endif
/* LANES numbers are a register of the compiler's own vector type, and WAYS of them a step: enough that additions need not wait. */
enum { WAYS = 4, LANES = 32 / sizeof(R), STEP = WAYS * LANES };
typedef R     lanes __attribute__((vector_size(32)));
typedef whole marks __attribute__((vector_size(32)));
typedef lanes loose __attribute__((aligned(sizeof(R)), may_alias)); /* lanes anywhere in an array */
#define AT(x) (*(const loose *)(x))

/* What the passes add up. BY_Y, BY_X: SUMS, of dy with a mask (norm_then.h). */
enum { SUM, DEVIATIONS, SUMS, BY_Y = SUMS + QT_BY_Z, BY_X = SUMS + QT_BY_X };
typedef struct sums {
    double d;    /* SUM: of d; DEVIATIONS: of |d|; SUMS: of h d */
    double h;    /* SUMS: of h = dy w */
    double sign; /* SUMS: of sg */
} sums;
enum { RUN = 64 * STEP, SHORT = 32, HELD = 64, WIDTH = 256, CHANNELS = 64, GROUP = 4, PAIR = 2, STRIP = 32, ROWS = 16, PARTS = 16 };

QT_INLINE R deviation(R x, R m) { return QT_M(fabs)(x - m); }
QT_INLINE whole sign(R x, R m) { return (x > m) - (x < m); }
QT_INLINE R by_sign(R x, R m, R above, R at, R below) { return x > m ? above : x < m ? below : at; }

QT_INLINE void empty(double *sum, lanes lane[WAYS])
{
    const lanes all = (lane[0] + lane[1]) + (lane[2] + lane[3]);
    double      part[LANES];
    for (int l = 0; l < LANES; l++) part[l] = (double)all[l];
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) part[l] += part[l + half];
    *sum += part[0];
    for (int k = 0; k < WAYS; k++) lane[k] = (lanes){0};
}

/* What a pass does with LANES numbers at j, in its way k; where `some`, only with those that `keep` has. Comparisons give -1. */
#define ADD(k, j, some)                                                                    \
    do {                                                                                   \
        lanes x_ = AT(px + (j)), d_ = x_ - mean, h_;                                       \
        marks sign_ = (x_ < mean) - (x_ > mean);                                           \
        if (some) d_ = (lanes)((marks)d_ & keep), sign_ &= keep;                           \
        if (what == SUM) d[k] += d_;                                                       \
        if (what == DEVIATIONS) d[k] += (lanes)((marks)d_ & magnitude);                    \
        if (what < SUMS) break;                                                            \
        h_ = AT(pdy + (j));                                                                \
        if (what == BY_Y) h_ = (lanes)((marks)h_ & ~(AT(py + (j)) <= 0));                  \
        if (what == BY_X) h_ = (lanes)((marks)h_ & ~(d_ * gain + shift <= 0));             \
        if (has_w) h_ *= AT(pw + (j));                                                     \
        if (some) h_ = (lanes)((marks)h_ & keep);                                          \
        h[k] += h_, d[k] += h_ * d_, count[k] += sign_;                                    \
    } while (0)

/* A pass over N runs of S >= LANES numbers that lie `step` apart, d = x - m; dy for SUMS, w with it or NULL, y for BY_Y, y = d k + b for BY_X. The
 * last numbers of a run, if they do not fill a register, are those of its last LANES that were not there before. */
QT_INLINE sums pass_of(int what, bool has_w, const R *x, const R *dy, const R *w, const R *y, int64_t N, int64_t step, int64_t S, R m, R k, R b)
{
    const marks   magnitude = (marks){0} + (whole)(((uint64_t)1 << (8 * sizeof(R) - 1)) - 1);
    const lanes   mean = (lanes){0} + m, gain = (lanes){0} + k, shift = (lanes){0} + b;
    const int     rest = (int)(S % STEP);
    const int64_t full = S - rest;
    marks         keep = {0}, count[WAYS] = {{0}};
    lanes         d[WAYS] = {{0}}, h[WAYS] = {{0}};
    int64_t       held = 0;
    sums          s = {0};
    for (int l = 0; l < rest % LANES; l++) keep[LANES - 1 - l] = -1;
    for (int64_t n = 0; n < N; n++) {
        const R *px = x + n * step, *pdy = what >= SUMS ? dy + n * step : x, *pw = has_w ? w : x, *py = what == BY_Y ? y + n * step : x;
        for (int64_t j = 0; j < full;) {
            const int64_t stop = qt_min_i64(j + RUN, full);
            held += stop - j;
            for (; j < stop; j += STEP) {
                ADD(0, j, false);
                ADD(1, j + LANES, false);
                ADD(2, j + 2 * LANES, false);
                ADD(3, j + 3 * LANES, false);
            }
            if (held < RUN) continue;
            empty(&s.d, d), held = 0;
            if (what >= SUMS) empty(&s.h, h);
        }
        held += rest;
        if (rest >= LANES) ADD(0, full, false);
        if (rest >= 2 * LANES) ADD(1, full + LANES, false);
        if (rest >= 3 * LANES) ADD(2, full + 2 * LANES, false);
        if (rest % LANES) ADD(3, S - LANES, true);
    }
    empty(&s.d, d);
    if (what < SUMS) return s;
    empty(&s.h, h);
    count[0] += count[1] + count[2] + count[3];
    int64_t signs = 0;
    for (int l = 0; l < LANES; l++) signs += count[0][l];
    s.sign = (double)signs;
    return s;
}

/* The same for runs of any length: short ones one by one, filled up with x = m and dy = 0, which add nothing. */
QT_INLINE sums pass(int what, bool has_w, const R *x, const R *dy, const R *w, int64_t N, int64_t step, int64_t S, R m)
{
    if (S >= LANES) return pass_of(what, has_w, x, dy, w, x, N, step, S, m, 1, 0);
    sums s = {0};
    for (int64_t n = 0; n < N; n++) {
        R filled[3][LANES] = {{0}};
        for (int l = 0; l < LANES; l++) filled[0][l] = l < S ? x[n * step + l] : m;
        for (int l = 0; what == SUMS && l < S; l++) filled[1][l] = dy[n * step + l];
        for (int l = 0; has_w && l < S; l++) filled[2][l] = w[l];
        const sums one = pass_of(what, has_w, filled[0], filled[1], filled[2], x, 1, 0, LANES, m, 1, 0);
        s.d += one.d, s.h += one.h, s.sign += one.sign;
    }
    return s;
}

/* The mean, counted from the first number, and the sum of the distances from it. */
QT_INLINE R mean_of(const R *x, int64_t N, int64_t step, int64_t S)
{
    return (R)((double)x[0] + pass(SUM, false, x, NULL, NULL, N, step, S, x[0]).d / (double)(N * S));
}
QT_INLINE double deviations_of(const R *x, int64_t N, int64_t step, int64_t S, R m)
{
    return pass(DEVIATIONS, false, x, NULL, NULL, N, step, S, m).d;
}

/* What dx takes from h, by the sign of d. */
typedef struct taken {
    R above, at, below;
} taken;
QT_INLINE taken taken_of(const sums *s, double r, double M)
{
    const double q = s->d / M * r, p = s->h / M - q * (s->sign / M);
    return (taken){(R)(p + q), (R)p, (R)(p - q)};
}

/* ---- batch norm: one channel of large images, N runs of S numbers that lie `step` apart ------------------------------------------ */

QT_CLONES static void run_stats(const R *x, int64_t N, int64_t step, int64_t S, R *mean, double *deviations)
{
    *mean = mean_of(x, N, step, S);
    *deviations = deviations_of(x, N, step, S, *mean);
}

/* What backward of a channel works from: y = (x - m) k + b */
typedef struct flow {
    int      mask;
    const R *dy, *x, *y;
    R        m, k, b;
} flow;

QT_CLONES static void run_sums(const flow *f, int64_t N, int64_t step, int64_t S, sums *s)
{
    if (f->mask == QT_UNMASKED) *s = pass_of(SUMS, false, f->x, f->dy, NULL, f->x, N, step, S, f->m, f->k, f->b);
    else if (f->mask == QT_BY_Z) *s = pass_of(BY_Y, false, f->x, f->dy, NULL, f->y, N, step, S, f->m, f->k, f->b);
    else *s = pass_of(BY_X, false, f->x, f->dy, NULL, f->x, N, step, S, f->m, f->k, f->b);
}

QT_INLINE void run_back_of(int mask, bool first, R *restrict dx, const flow *f, int64_t N, int64_t step, int64_t S, taken t)
{
    const R *restrict dy = f->dy, *restrict x = f->x, *restrict y = f->y;
    const R m = f->m, k = f->k, b = f->b, above = t.above, at = t.at, below = t.below;
    for (int64_t n = N; n-- > 0;)
        for (int64_t j = n * step; j < n * step + S; j++) {
            const R d = k * (qt_let_through(mask, dy[j], x[j], y[j], m, k, b) - by_sign(x[j], m, above, at, below));
            dx[j] = first ? d : dx[j] + d;
        }
}

/* dx = k (dy - t), or added. From the last run to the first: what was read last for the sums is still in the cache. */
QT_CLONES static void run_back(bool first, R *dx, const flow *f, int64_t N, int64_t step, int64_t S, taken t)
{
    if (f->mask == QT_UNMASKED && first) run_back_of(QT_UNMASKED, true, dx, f, N, step, S, t);
    else if (f->mask == QT_UNMASKED) run_back_of(QT_UNMASKED, false, dx, f, N, step, S, t);
    else if (f->mask == QT_BY_Z && first) run_back_of(QT_BY_Z, true, dx, f, N, step, S, t);
    else if (f->mask == QT_BY_Z) run_back_of(QT_BY_Z, false, dx, f, N, step, S, t);
    else if (first) run_back_of(QT_BY_X, true, dx, f, N, step, S, t);
    else run_back_of(QT_BY_X, false, dx, f, N, step, S, t);
}

/* ---- batch norm: a strip of width <= WIDTH columns, rows `step` apart ------------------------------------------------------------ */

/* Per column: its sums; m, k, b as of its channel. */
QT_INLINE void strip_pass_of(int what, sums *restrict s, const R *restrict x, const R *restrict dy, const R *restrict y, int64_t N, int64_t step,
                             int width, const R *restrict m)
{
    R     d[WIDTH] = {0}, h[WIDTH] = {0};
    whole count[WIDTH] = {0};
    for (int64_t n = 0; n < N; n++) {
        const R *px = x + n * step, *pdy = what >= SUMS ? dy + n * step : x, *py = what == BY_Y ? y + n * step : x;
        for (int c = 0; c < width; c++) {
            if (what == SUM) d[c] += px[c] - m[c];
            if (what == DEVIATIONS) d[c] += deviation(px[c], m[c]);
            if (what < SUMS) continue;
            const R g = what == BY_Y ? qt_masked(pdy[c], py[c]) : pdy[c];
            h[c] += g, d[c] += g * (px[c] - m[c]), count[c] += sign(px[c], m[c]);
        }
        if ((n + 1) % HELD && n + 1 < N) continue;
        for (int c = 0; c < width; c++) {
            s[c].d += (double)d[c], d[c] = 0;
            if (what >= SUMS) s[c].h += (double)h[c], h[c] = 0;
        }
    }
    for (int c = 0; what >= SUMS && c < width; c++) s[c].sign += (double)count[c];
}

/* Full strips of [N,C] have their width known to the compiler. */
QT_INLINE void strip_pass_wide(int what, sums *s, const R *x, const R *dy, const R *y, int64_t N, int64_t step, int width, const R *m)
{
    if (width == CHANNELS) strip_pass_of(what, s, x, dy, y, N, step, CHANNELS, m);
    else strip_pass_of(what, s, x, dy, y, N, step, width, m);
}

QT_CLONES static void strip_pass(int what, sums *s, const R *x, const R *dy, const R *y, int64_t N, int64_t step, int width, const R *m)
{
    if (what == SUM) strip_pass_wide(SUM, s, x, dy, y, N, step, width, m);
    else if (what == DEVIATIONS) strip_pass_wide(DEVIATIONS, s, x, dy, y, N, step, width, m);
    else if (what == SUMS) strip_pass_wide(SUMS, s, x, dy, y, N, step, width, m);
    else strip_pass_wide(BY_Y, s, x, dy, y, N, step, width, m);
}

QT_INLINE void strip_back_of(bool first, bool relu, R *restrict dx, const R *restrict dy, const R *restrict x, const R *restrict y, int64_t N,
                             int64_t step, int width, const R *restrict m, const R *restrict k, const R *restrict above, const R *restrict at,
                             const R *restrict below)
{
    for (int64_t n = 0; n < N; n++, dx += step, dy += step, x += step, y += step)
        for (int c = 0; c < width; c++) {
            const R d = k[c] * ((relu ? qt_masked(dy[c], y[c]) : dy[c]) - by_sign(x[c], m[c], above[c], at[c], below[c]));
            dx[c] = first ? d : dx[c] + d;
        }
}

QT_CLONES static void strip_back(bool first, bool relu, R *dx, const R *dy, const R *x, const R *y, int64_t N, int64_t step, int width, const R *m,
                                 const R *k, const R *above, const R *at, const R *below)
{
    if (relu && first) strip_back_of(true, true, dx, dy, x, y, N, step, width, m, k, above, at, below);
    else if (relu) strip_back_of(false, true, dx, dy, x, y, N, step, width, m, k, above, at, below);
    else if (first) strip_back_of(true, false, dx, dy, x, x, N, step, width, m, k, above, at, below);
    else strip_back_of(false, false, dx, dy, x, x, N, step, width, m, k, above, at, below);
}

/* A number a channel, as numbers a column. */
static void spread(R *column, const R *channel, int channels, int64_t S)
{
    for (int i = 0; i < channels; i++)
        for (int64_t j = 0; j < S; j++) column[i * S + j] = channel[i];
}

/* strip_pass, and the columns' sums added up for each channel */
static void strip_sums(int what, sums *s, const R *x, const R *dy, const R *y, int64_t N, int64_t step, int channels, int64_t S, const R *m)
{
    sums column[WIDTH] = {{0}};
    R    mean[WIDTH] = {0};
    spread(mean, m, channels, S);
    strip_pass(what, column, x, dy, y, N, step, channels * (int)S, mean);
    for (int i = 0; i < channels; i++) {
        s[i] = column[i * S];
        for (int64_t j = i * S + 1; j < (i + 1) * S; j++) s[i].d += column[j].d, s[i].h += column[j].h, s[i].sign += column[j].sign;
    }
}

/* ---- batch norm ------------------------------------------------------------------------------------------------------------------ */

typedef struct batch_arg {
    bool   batch_stats, relu;
    double momentum, eps;
} batch_arg;
/* For backward: statistics of the batch (or the running ones), and which of them it was. */
typedef struct batch_saved {
    bool batch;
    int  mask;        /* how dy reaches the normalization (norm_then.h) */
    R   *mean, *root; /* [C]; root = 1/(sigma + eps) */
} batch_saved;

static int64_t spatial(const qt_tensor *x) { return x->n / qt_max_i64(1, x->dim[0] * x->dim[1]); }

static bool    is_short(int64_t S) { return S < SHORT; }
/* Channels that are worked on together. */
static int64_t together(int64_t S) { return is_short(S) ? qt_min_i64(CHANNELS, WIDTH / S) : 1; }

static qt_err batch_shape(qt_node *nd)
{
    static const char *const name[] = {"x", "weight", "bias", "mean", "sigma"};
    const qt_tensor         *x = nd->in[0];
    char                     s[96], u[96];
    batch_saved             *st;
    if (x->rank < 2) return qt_node_fail(nd, "x is %s, it must be [N, C] or [N, C, H, W]", qt_shape_str(x, s));
    for (int i = 1; i < 5; i++) {
        const qt_tensor *p = nd->in[i];
        if (!p && i >= 3) return qt_node_fail(nd, "%s is missing", name[i]);
        if (p && p->n != x->dim[1])
            return qt_node_fail(nd, "%s is %s, but x %s has %lld channels", name[i], qt_shape_str(p, s), qt_shape_str(x, u), (long long)x->dim[1]);
    }
    QT_TRY(qt_then_shape(nd, nd->in[5]));
    QT_TRY(qt_node_save(nd, sizeof *st));
    st = nd->saved;
    st->batch = ((batch_arg *)nd->arg)->batch_stats && nd->tape->train;
    if (!(st->mean = qt_tape_alloc(nd->tape, 2 * (size_t)x->dim[1] * sizeof(R)))) return QT_EMEM;
    st->root = st->mean + x->dim[1];
    st->mask = qt_then_mask(nd, ((batch_arg *)nd->arg)->relu, nd->in[5], !is_short(spatial(x)));
    nd->own = 2 * x->dim[1] * (int64_t)sizeof(R);
    return qt_node_out_like(nd, x);
}

/* The mean and the sum of distances of `channels` channels at x. */
static void take_stats(const R *x, int64_t N, int64_t step, int channels, int64_t S, R *m, double *deviations)
{
    const double M = (double)(N * S);
    sums         s[CHANNELS];
    if (!is_short(S)) {
        run_stats(x, N, step, S, m, deviations);
        return;
    }
    for (int i = 0; i < channels; i++) m[i] = x[i * S];
    strip_sums(SUM, s, x, NULL, NULL, N, step, channels, S, m);
    for (int i = 0; i < channels; i++) m[i] = (R)((double)m[i] + s[i].d / M);
    strip_sums(DEVIATIONS, s, x, NULL, NULL, N, step, channels, S, m);
    for (int i = 0; i < channels; i++) deviations[i] = s[i].d;
}

/* Channels from c: their statistics into m and r, and the running values moved. */
static void take_batch_stats(qt_node *nd, int64_t c, int channels, R *m, R *r)
{
    const qt_tensor *x = nd->in[0];
    const batch_arg *g = nd->arg;
    const int64_t    N = x->dim[0], C = x->dim[1], S = spatial(x), M = N * S;
    R               *running_mean = nd->in[3]->data + c, *running_sigma = nd->in[4]->data + c;
    double           sum[CHANNELS];
    take_stats(x->data + c * S, N, C * S, channels, S, m, sum);
    for (int i = 0; i < channels; i++) {
        const double sigma = sum[i] / (double)M;
        r[i] = (R)(1 / (sigma + g->eps));
        running_mean[i] = (R)((1 - g->momentum) * (double)running_mean[i] + g->momentum * (double)m[i]);
        if (M > 1) running_sigma[i] = (R)((1 - g->momentum) * (double)running_sigma[i] + g->momentum * sigma);
    }
}

static void take_running_stats(qt_node *nd, int64_t c, int channels, R *m, R *r)
{
    for (int i = 0; i < channels; i++) {
        m[i] = nd->in[3]->data[c + i];
        r[i] = (R)(1 / ((double)nd->in[4]->data[c + i] + ((batch_arg *)nd->arg)->eps));
    }
}

static void batch_forward_channels(qt_node *nd, int64_t c, int channels)
{
    const qt_tensor   *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const batch_saved *st = nd->saved;
    const bool         relu = ((batch_arg *)nd->arg)->relu;
    const int64_t      N = x->dim[0], C = x->dim[1], S = spatial(x);
    const R           *xs = x->data + c * S, *skip = nd->in[5] ? nd->in[5]->data + c * S : NULL;
    R                 *y = nd->out->data + c * S, *m = st->mean + c, *r = st->root + c, k[CHANNELS], shift[CHANNELS], column[3][WIDTH];
    (st->batch ? take_batch_stats : take_running_stats)(nd, c, channels, m, r);
    for (int i = 0; i < channels; i++) k[i] = w ? r[i] * w->data[c + i] : r[i], shift[i] = b ? b->data[c + i] : 0;
    if (!is_short(S)) {
        qt_then_runs(y, xs, skip, relu, N, C * S, S, m[0], k[0], shift[0]);
        return;
    }
    spread(column[0], m, channels, S), spread(column[1], k, channels, S), spread(column[2], shift, channels, S);
    qt_then_strip(y, xs, skip, relu, N, C * S, channels * (int)S, column[0], column[1], column[2]);
}

static void batch_forward(qt_node *nd)
{
    const int64_t C = nd->in[0]->dim[1], n = together(spatial(nd->in[0]));
    QT_FOR_EACH(k, QT_CHUNKS(C, n), nd->out->n > QT_GRAIN) batch_forward_channels(nd, k * n, (int)qt_min_i64(n, C - k * n));
}

static void batch_backward_channels(const qt_node *nd, int64_t c, int channels, bool first)
{
    const qt_tensor   *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const batch_saved *st = nd->saved;
    const int64_t      N = x->dim[0], C = x->dim[1], S = spatial(x);
    const R           *xs = x->data + c * S, *dy = nd->out->grad + c * S, *m = st->mean + c, *r = st->root + c;
    const R           *y = st->mask == QT_BY_Z ? nd->out->data + c * S : dy;
    R                 *dx = x->grad ? x->grad + c * S : NULL;
    sums               s[CHANNELS];
    taken              t = {0};
    flow               f = {st->mask, dy, xs, y, m[0], w ? r[0] * w->data[c] : r[0], b && st->mask == QT_BY_X ? b->data[c] : 0};
    R                  k[CHANNELS], above[CHANNELS] = {0}, at[CHANNELS] = {0}, below[CHANNELS] = {0}, column[5][WIDTH];
    if (is_short(S)) strip_sums(SUMS + st->mask, s, xs, dy, y, N, C * S, channels, S, m);
    else run_sums(&f, N, C * S, S, s);
    for (int i = 0; i < channels; i++) {
        k[i] = w ? r[i] * w->data[c + i] : r[i];
        if (st->batch) t = taken_of(&s[i], (double)r[i], (double)(N * S)), above[i] = t.above, at[i] = t.at, below[i] = t.below;
        if (w && w->grad) w->grad[c + i] += (R)(s[i].d * (double)r[i]);
        if (b && b->grad) b->grad[c + i] += (R)s[i].h;
    }
    if (dx && !is_short(S)) run_back(first, dx, &f, N, C * S, S, t);
    if (!dx || !is_short(S)) return;
    spread(column[0], m, channels, S), spread(column[1], k, channels, S);
    spread(column[2], above, channels, S), spread(column[3], at, channels, S), spread(column[4], below, channels, S);
    strip_back(first, st->mask == QT_BY_Z, dx, dy, xs, y, N, C * S, channels * (int)S, column[0], column[1], column[2], column[3], column[4]);
}

/* Of x, and of the weight, the input after it: both norms. */
static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS_NEARLY(1) | QT_READS(2); }
static uint32_t batch_reads(const qt_node *nd)
{
    const int mask = ((batch_saved *)nd->saved)->mask;
    return reads(nd) | (mask == QT_BY_Z ? QT_READS_SIGNS(QT_RESULT) : mask == QT_BY_X ? QT_READS(4) : 0);
}

static void batch_backward(const qt_node *nd)
{
    const int64_t C = nd->in[0]->dim[1], n = together(spatial(nd->in[0]));
    const bool    first = qt_grad_first(nd->in[0]);
    qt_grad_clear(nd->in[1]), qt_grad_clear(nd->in[2]);
    QT_FOR_EACH(k, QT_CHUNKS(C, n), nd->out->n > QT_GRAIN) batch_backward_channels(nd, k * n, (int)qt_min_i64(n, C - k * n), first);
    qt_then_back(nd, nd->in[5], ((batch_arg *)nd->arg)->relu);
}

qt_tensor *qt_l1_batch_norm_then(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, qt_tensor *mean, qt_tensor *sigma, qt_tensor *skip, bool relu,
                                 bool batch_stats, double momentum, double eps)
{
    batch_arg g = {batch_stats, relu, momentum, eps};
    return QT_EMIT(t, &qt_op_l1_batch_norm, &g, sizeof g, x, w, b, mean, sigma, skip);
}

qt_tensor *qt_l1_batch_norm(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, qt_tensor *mean, qt_tensor *sigma, bool batch_stats,
                            double momentum, double eps)
{
    return qt_l1_batch_norm_then(t, x, w, b, mean, sigma, NULL, false, batch_stats, momentum, eps);
}

/* ---- layer norm ------------------------------------------------------------------------------------------------------------------ */

typedef struct row {
    R mean, root;
} row; /* statistics of one, for backward */
typedef struct layer_saved {
    row    *row;
    double *part; /* [chunks, 2, D] partial sums of dw and db, NULL if neither is wanted */
} layer_saved;

/* Rows of a chunk: about QT_GRAIN numbers, at most PARTS chunks, and a multiple of ROWS. */
static int64_t layer_chunk(int64_t rows, int64_t D)
{
    const int64_t n = qt_max_i64(qt_row_grain(D), QT_CHUNKS(rows, PARTS));
    return QT_CHUNKS(n, ROWS) * ROWS;
}

static qt_err layer_shape(qt_node *nd)
{
    static const char *const name[] = {"x", "weight", "bias"};
    const qt_tensor         *x = nd->in[0];
    const int64_t            D = x->dim[x->rank - 1], rows = x->n / D;
    char                     s[96], u[96];
    layer_saved             *saved;
    for (int i = 1; i < 3; i++)
        if (nd->in[i] && nd->in[i]->n != D)
            return qt_node_fail(nd, "%s is %s, but the rows of x %s have %lld numbers", name[i], qt_shape_str(nd->in[i], s),
                                qt_shape_str(x, u), (long long)D);
    QT_TRY(qt_node_save(nd, sizeof *saved));
    saved = nd->saved;
    *saved = (layer_saved){0};
    if (!(saved->row = qt_tape_alloc(nd->tape, (size_t)rows * sizeof(row)))) return QT_EMEM;
    nd->own = rows * (int64_t)sizeof(row);
    if (nd->tape->grad && (qt_wants_grad(nd->in[1]) || qt_wants_grad(nd->in[2]))) {
        const size_t parts = (size_t)QT_CHUNKS(rows, layer_chunk(rows, D));
        if (!(saved->part = qt_tape_alloc(nd->tape, parts * 2 * (size_t)D * sizeof(double)))) return QT_EMEM;
    }
    return qt_node_out_like(nd, x);
}

/* y = (x - m) r w + b */
QT_INLINE void row_apply(R *restrict y, const R *restrict x, const R *w, const R *b, int64_t D, row st)
{
    const R m = st.mean, r = st.root;
    if (w && b)
        for (int64_t j = 0; j < D; j++) y[j] = (x[j] - m) * r * w[j] + b[j];
    else
        for (int64_t j = 0; j < D; j++) y[j] = (x[j] - m) * r * (w ? w[j] : 1) + (b ? b[j] : 0);
}

/* At most GROUP rows, each step for all of them before the next: the sums of one row do not wait for those of another. */
QT_CLONES static void rows_forward(R *restrict y, const R *restrict x, const R *w, const R *b, int64_t rows, int64_t D, double eps, row *restrict st)
{
    for (int64_t i = 0; i < rows; i++) st[i].mean = mean_of(x + i * D, 1, 0, D);
    for (int64_t i = 0; i < rows; i++) st[i].root = (R)(1 / (deviations_of(x + i * D, 1, 0, D, st[i].mean) / (double)D + eps));
    for (int64_t i = 0; i < rows; i++) row_apply(y + i * D, x + i * D, w, b, D, st[i]);
}

static void layer_forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const R         *w = nd->in[1] ? nd->in[1]->data : NULL, *b = nd->in[2] ? nd->in[2]->data : NULL;
    const double     eps = *(double *)nd->arg;
    const int64_t    D = x->dim[x->rank - 1], rows = x->n / D, chunk = layer_chunk(rows, D);
    QT_FOR_CHUNKS(from, to, rows, chunk)
    for (int64_t i = from; i < to; i += GROUP)
        rows_forward(nd->out->data + i * D, x->data + i * D, w, b, qt_min_i64(GROUP, to - i), D, eps, ((layer_saved *)nd->saved)->row + i);
}

/* dx = r (h - t), or added */
QT_INLINE void row_back(bool first, R *restrict dx, const R *restrict dy, const R *restrict x, const R *w, int64_t D, row st, taken t)
{
    const R m = st.mean, r = st.root, above = t.above, at = t.at, below = t.below;
    if (w && first)
        for (int64_t j = 0; j < D; j++) dx[j] = r * (dy[j] * w[j] - by_sign(x[j], m, above, at, below));
    else if (w)
        for (int64_t j = 0; j < D; j++) dx[j] += r * (dy[j] * w[j] - by_sign(x[j], m, above, at, below));
    else if (first)
        for (int64_t j = 0; j < D; j++) dx[j] = r * (dy[j] - by_sign(x[j], m, above, at, below));
    else
        for (int64_t j = 0; j < D; j++) dx[j] += r * (dy[j] - by_sign(x[j], m, above, at, below));
}

/* At most PAIR rows: four at a time are no faster in the cache and slower where x, dy and dx come from memory. */
QT_CLONES static void rows_back(bool first, R *restrict dx, const R *restrict dy, const R *restrict x, const R *w, int64_t rows, int64_t D,
                                const row *restrict st)
{
    taken t[PAIR];
    for (int64_t i = 0; i < rows; i++) {
        const sums s = w ? pass(SUMS, true, x + i * D, dy + i * D, w, 1, 0, D, st[i].mean)
                         : pass(SUMS, false, x + i * D, dy + i * D, NULL, 1, 0, D, st[i].mean);
        t[i] = taken_of(&s, (double)st[i].root, (double)D);
    }
    for (int64_t i = 0; i < rows; i++) row_back(first, dx + i * D, dy + i * D, x + i * D, w, D, st[i], t[i]);
}

QT_INLINE void params_of(double *restrict dw, double *restrict db, const R *restrict dy, const R *restrict x, const row *restrict st, int64_t rows,
                         int64_t D, int width)
{
    R w[STRIP] = {0}, b[STRIP] = {0};
    for (int64_t n = 0; n < rows; n++)
        for (int c = 0; c < width; c++) {
            const R g = dy[n * D + c];
            w[c] += g * ((x[n * D + c] - st[n].mean) * st[n].root), b[c] += g;
        }
    for (int c = 0; c < width; c++) dw[c] += (double)w[c], db[c] += (double)b[c];
}

/* dw and db of `width` <= STRIP columns and at most ROWS rows */
QT_CLONES static void strip_params(double *dw, double *db, const R *dy, const R *x, const row *st, int64_t rows, int64_t D, int width)
{
    if (width == STRIP) params_of(dw, db, dy, x, st, rows, D, STRIP);
    else params_of(dw, db, dy, x, st, rows, D, width);
}

/* Rows [from, to): dx where it is wanted, and the chunk's part of dw and db. */
static void layer_backward_rows(const qt_node *nd, bool first, int64_t from, int64_t to, double *part)
{
    const qt_tensor *x = nd->in[0], *w = nd->in[1];
    const row       *st = ((layer_saved *)nd->saved)->row;
    const int64_t    D = x->dim[x->rank - 1];
    const R         *dy = nd->out->grad;
    if (part) memset(part, 0, 2 * (size_t)D * sizeof *part);
    for (int64_t n = from; n < to; n += ROWS) {
        const int64_t end = qt_min_i64(n + ROWS, to);
        for (int64_t i = n; x->grad && i < end; i += PAIR)
            rows_back(first, x->grad + i * D, dy + i * D, x->data + i * D, w ? w->data : NULL, qt_min_i64(PAIR, end - i), D, st + i);
        for (int64_t c = 0; part && c < D; c += STRIP)
            strip_params(part + c, part + D + c, dy + n * D + c, x->data + n * D + c, st + n, end - n, D, (int)qt_min_i64(STRIP, D - c));
    }
}

static void layer_backward(const qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    double          *part = ((layer_saved *)nd->saved)->part;
    const int64_t    D = x->dim[x->rank - 1], rows = x->n / D, chunk = layer_chunk(rows, D);
    const bool       first = qt_grad_first(nd->in[0]);
    qt_grad_clear(nd->in[1]), qt_grad_clear(nd->in[2]);
    QT_FOR_CHUNKS(from, to, rows, chunk) layer_backward_rows(nd, first, from, to, part ? part + QT_CHUNK_OF(from) * 2 * D : NULL);
    for (int i = 1; i < 3; i++)
        for (int64_t c = 0; part && nd->in[i] && nd->in[i]->grad && c < D; c++) {
            double sum = 0;
            for (int64_t k = 0; k < QT_CHUNKS(rows, chunk); k++) sum += part[(2 * k + i - 1) * D + c];
            nd->in[i]->grad[c] += (R)sum;
        }
}

qt_tensor *qt_l1_layer_norm(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, double eps)
{
    return QT_EMIT(t, &qt_op_l1_layer_norm, &eps, sizeof eps, x, w, b);
}

/* ---- cases ----------------------------------------------------------------------------------------------------------------------- */

static qt_tensor *batch(qt_tape *t, qt_tensor **in) { return qt_l1_batch_norm(t, in[0], in[1], in[2], in[3], in[4], true, 0.1, 1e-5); }
static qt_tensor *batch_plain(qt_tape *t, qt_tensor **in) { return qt_l1_batch_norm(t, in[0], NULL, NULL, in[1], in[2], true, 0.1, 1e-5); }
static qt_tensor *batch_no_bias(qt_tape *t, qt_tensor **in) { return qt_l1_batch_norm(t, in[0], in[1], NULL, in[2], in[3], true, 0.1, 1e-3); }
static qt_tensor *batch_frozen(qt_tape *t, qt_tensor **in) { return qt_l1_batch_norm(t, in[0], in[1], in[2], in[3], in[4], false, 0.1, 1e-5); }
static qt_tensor *batch_aliased(qt_tape *t, qt_tensor **in) { return qt_l1_batch_norm(t, in[0], in[1], in[1], in[2], in[3], true, 0.1, 1e-5); }
static qt_tensor *batch_relu(qt_tape *t, qt_tensor **in)
{
    return qt_l1_batch_norm_then(t, in[0], in[1], in[2], in[3], in[4], NULL, true, true, 0.1, 1e-5);
}
static qt_tensor *batch_skip(qt_tape *t, qt_tensor **in)
{
    return qt_l1_batch_norm_then(t, in[0], in[1], in[2], in[3], in[4], in[5], false, true, 0.1, 1e-5);
}
static qt_tensor *batch_both(qt_tape *t, qt_tensor **in)
{
    return qt_l1_batch_norm_then(t, in[0], in[1], in[2], in[3], in[4], in[5], true, true, 0.1, 1e-5);
}
/* In the shapes here no x is within a difference step of its mean, where the kink is. */
static const qt_case batch_cases[] = {{"rows", batch, {{{6, 3}, 'd'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}},
                                      {"many columns", batch, {{{4, 70}, 'd'}, {{70}, 'n'}, {{70}, 'n'}, {{70}, 'c'}, {{70}, 'c'}}},
                                      {"images", batch, {{{3, 2, 4, 5}, 'd'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"one pixel", batch, {{{5, 2, 1, 1}, 'd'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"signals", batch, {{{2, 2, 9}, 'd'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"no weight, no bias", batch_plain, {{{5, 2, 2, 2}, 'd'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"no bias", batch_no_bias, {{{7, 2}, 'd'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"weight is bias", batch_aliased, {{{5, 2}, 'd'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"one value a channel", batch_frozen, {{{1, 3}, 'n'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}},
                                      {"frozen", batch_frozen, {{{3, 2, 2, 3}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"relu, rows", batch_relu, {{{6, 3}, 'd'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}},
                                      {"relu, images", batch_relu, {{{3, 2, 6, 6}, 'd'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"skip", batch_skip, {{{2, 2, 3, 3}, 'd'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}, {{2, 2, 3, 3}, 'n'}}},
                                      {"skip and relu", batch_both, {{{2, 2, 3, 3}, 'd'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}, {{2, 2, 3, 3}, 'n'}}},
                                      {"skip and relu, images", batch_both,
                                       {{{1, 1, 6, 6}, 'd'}, {{1}, 'n'}, {{1}, 'n'}, {{1}, 'c'}, {{1}, 'c'}, {{1, 1, 6, 6}, 'n'}}},
                                      {"evaluation", batch, {{{4, 3}, 'n'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}, .eval = true},
                                      {"images evaluated", batch, {{{2, 2, 9}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}, .eval = true},
                                      {NULL}};

static qt_tensor *layer(qt_tape *t, qt_tensor **in) { return qt_l1_layer_norm(t, in[0], in[1], in[2], 1e-5); }
static qt_tensor *layer_plain(qt_tape *t, qt_tensor **in) { return qt_l1_layer_norm(t, in[0], NULL, NULL, 1e-5); }
static qt_tensor *layer_no_weight(qt_tape *t, qt_tensor **in) { return qt_l1_layer_norm(t, in[0], NULL, in[1], 1e-3); }
static qt_tensor *layer_no_bias(qt_tape *t, qt_tensor **in) { return qt_l1_layer_norm(t, in[0], in[1], NULL, 1e-3); }
static qt_tensor *layer_aliased(qt_tape *t, qt_tensor **in) { return qt_l1_layer_norm(t, in[0], in[0], in[0], 1e-1); }
static const qt_case layer_cases[] = {{"rows", layer, {{{4, 7}, 'd'}, {{7}, 'n'}, {{7}, 'n'}}},
                                      {"vector", layer, {{{19}, 'd'}, {{19}, 'n'}, {{19}, 'n'}}},
                                      {"rank 3, many columns", layer, {{{2, 2, 70}, 'd'}, {{70}, 'n'}, {{70}, 'n'}}},
                                      {"more rows than a block", layer, {{{19, 3}, 'd'}, {{3}, 'n'}, {{3}, 'n'}}},
                                      {"no weight, no bias", layer_plain, {{{3, 6}, 'd'}}},
                                      {"no weight", layer_no_weight, {{{3, 6}, 'd'}, {{6}, 'n'}}},
                                      {"no bias", layer_no_bias, {{{3, 6}, 'd'}, {{6}, 'n'}}},
                                      {"x is weight and bias", layer_aliased, {{{4}, 'd'}}},
                                      {NULL}};

const qt_op qt_op_l1_batch_norm = {
    .d = {"l1_batch_norm", "normalization of each channel over the batch by the mean absolute deviation", .source = "Guo et al., arXiv 2411.10948"},
    .kind = QT_EXACT, .shape = batch_shape, .forward = batch_forward, .backward = batch_backward, .reads = batch_reads, .stores = true, .cases = batch_cases};
const qt_op qt_op_l1_layer_norm = {
    .d = {"l1_layer_norm", "normalization of each row of the last axis by its mean absolute deviation", .source = "Guo et al., arXiv 2411.10948"},
    .kind = QT_EXACT, .shape = layer_shape, .forward = layer_forward, .backward = layer_backward, .reads = reads, .stores = true, .cases = layer_cases};
