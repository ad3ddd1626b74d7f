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
 * about sigma, which stays then). In evaluation, or with batch_stats false (frozen), they are constants: dx = h r.
 *
 * Guo et al., "Towards accurate and efficient sub-8-bit integer training", arXiv 2411.10948, replace the common norms by these.
 *
 * Channels of images are runs of S numbers; [N,C] is worked on in strips of columns. Sums run in fixed lanes of R that are emptied into
 * doubles; those of backward are taken in one pass. The sum for the mean counts from the first number, so that nothing cancels and the d of a
 * constant channel are 0. A layer norm's dw and db are summed while their rows are still in the cache, one partial sum a chunk of rows. */
#include "ops/inner.h"
#include <string.h>

#ifdef QT_DOUBLE
typedef int64_t whole;
#else
typedef int32_t whole; /* as wide as R, so that comparisons count in the lanes of R */
#endif
/* Of a channel or row: sums that backward needs, then what it makes of them. */
typedef struct sums {
    double dy, dot; /* sum dy and sum dy d; of rows with a weight: h instead of dy */
    double sign;    /* sum sg */
} sums;
enum { LANES = QT_LANES, RUN = QT_LANE_RUN, STRIP = 64, ROWS = 16, PARTS = 16 };

/* For each j of N runs of S numbers that lie `step` apart, `add` into lane l; `empty` them after about RUN numbers and at the end. The lanes
 * go on from run to run: 7 x 7 images have runs of 49. */
#define FOR_LANES(j, l, N, step, S, add, empty)                                             \
    do {                                                                                    \
        int64_t held_ = 0;                                                                  \
        for (int64_t n_ = 0; n_ < (N); n_++)                                                \
            for (int64_t p_ = 0; p_ < (S); p_ += RUN) {                                     \
                const int64_t from_ = n_ * (step) + p_, size_ = qt_min_i64(RUN, (S) - p_);  \
                const int64_t full_ = from_ + size_ / LANES * LANES;                        \
                for (int64_t i_ = from_; i_ < full_; i_ += LANES)                           \
                    for (int l = 0; l < LANES; l++) {                                       \
                        const int64_t j = i_ + l;                                           \
                        add;                                                                \
                    }                                                                       \
                for (int64_t j = full_; j < from_ + size_; j++) {                           \
                    const int64_t l = j - full_;                                            \
                    add;                                                                    \
                }                                                                           \
                if ((held_ += size_) < RUN) continue;                                       \
                empty;                                                                      \
                held_ = 0;                                                                  \
            }                                                                               \
        empty;                                                                              \
    } while (0)

static inline void empty_into(double *sum, R lane[LANES])
{
    *sum += qt_lane_total(lane);
    memset(lane, 0, LANES * sizeof *lane);
}

static inline R deviation(R x, R m) { return QT_M(fabs)(x - m); }
static inline whole sign(R x, R m) { return (x > m) - (x < m); }

/* mean x, counted from x[0] */
QT_CLONES static R run_mean(const R *x, int64_t N, int64_t step, int64_t S)
{
    const R first = x[0];
    double  sum = 0;
    R       lane[LANES] = {0};
    FOR_LANES(j, l, N, step, S, lane[l] += x[j] - first, empty_into(&sum, lane));
    return (R)((double)first + sum / (double)(N * S));
}

/* sum |x - m| */
QT_CLONES static double run_deviation(const R *x, int64_t N, int64_t step, int64_t S, R m)
{
    double sum = 0;
    R      lane[LANES] = {0};
    FOR_LANES(j, l, N, step, S, lane[l] += deviation(x[j], m), empty_into(&sum, lane));
    return sum;
}

QT_CLONES static sums run_sums(const R *dy, const R *x, int64_t N, int64_t step, int64_t S, R m)
{
    sums  s = {0};
    R     sum[LANES] = {0}, dot[LANES] = {0};
    whole count[LANES] = {0};
    FOR_LANES(j, l, N, step, S, (sum[l] += dy[j], dot[l] += dy[j] * (x[j] - m), count[l] += sign(x[j], m)),
              (empty_into(&s.dy, sum), empty_into(&s.dot, dot)));
    for (int l = 0; l < LANES; l++) s.sign += (double)count[l];
    return s;
}

/* What dx takes from h, by the sign of d. */
typedef struct taken {
    R above, at, below;
} taken;
static taken taken_of(const sums *s, double r, double M)
{
    const double q = s->dot / M * r, p = s->dy / M - q * (s->sign / M);
    return (taken){(R)(p + q), (R)p, (R)(p - q)};
}
static inline R by_sign(R x, R m, R above, R at, R below) { return x > m ? above : x < m ? below : at; }

/* ---- batch norm of images: one channel, N runs of S numbers that lie `step` apart ----------------------------------------------- */

/* y = (x - m) k + b */
QT_CLONES static void run_apply(R *restrict y, const R *restrict x, int64_t N, int64_t step, int64_t S, R m, R k, R b)
{
    for (int64_t n = 0; n < N; n++)
        for (int64_t j = n * step; j < n * step + S; j++) y[j] = (x[j] - m) * k + b;
}

/* dx += k (dy - t) */
QT_CLONES static void run_apply_back(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t N, int64_t step, int64_t S, R m, R k,
                                     taken t)
{
    const R above = t.above, at = t.at, below = t.below;
    for (int64_t n = 0; n < N; n++)
        for (int64_t j = n * step; j < n * step + S; j++) dx[j] += k * (dy[j] - by_sign(x[j], m, above, at, below));
}

/* ---- batch norm of [N,C]: a strip of width <= STRIP columns, rows C apart -------------------------------------------------------- */

/* For each row n of `rows`, each column c: `add` into lane c; `empty` column c's after RUN / LANES rows and at the end. Whole strips have
 * their width known to the compiler. */
#define FOR_STRIP(n, c, rows, width, add, empty)                                            \
    for (int64_t n0_ = 0; n0_ < (rows); n0_ += RUN / LANES) {                               \
        const int64_t n1_ = qt_min_i64(n0_ + RUN / LANES, (rows));                          \
        if ((width) == STRIP)                                                               \
            for (int64_t n = n0_; n < n1_; n++)                                             \
                for (int c = 0; c < STRIP; c++) add;                                        \
        else                                                                                \
            for (int64_t n = n0_; n < n1_; n++)                                             \
                for (int c = 0; c < (width); c++) add;                                      \
        for (int c = 0; c < (width); c++) empty;                                            \
    }

/* mean[c], counted from the first row */
QT_CLONES static void strip_mean(R *restrict mean, const R *restrict x, int64_t N, int64_t C, int width)
{
    double sum[STRIP] = {0};
    R      lane[STRIP] = {0};
    FOR_STRIP(n, c, N, width, lane[c] += x[n * C + c] - x[c], (sum[c] += (double)lane[c], lane[c] = 0));
    for (int c = 0; c < width; c++) mean[c] = (R)((double)x[c] + sum[c] / (double)N);
}

QT_CLONES static void strip_deviation(double *restrict sum, const R *restrict x, int64_t N, int64_t C, int width, const R *restrict m)
{
    R lane[STRIP] = {0};
    FOR_STRIP(n, c, N, width, lane[c] += deviation(x[n * C + c], m[c]), (sum[c] += (double)lane[c], lane[c] = 0));
}

QT_CLONES static void strip_sums(sums *restrict s, const R *restrict dy, const R *restrict x, int64_t N, int64_t C, int width, const R *restrict m)
{
    R     sum[STRIP] = {0}, dot[STRIP] = {0};
    whole count[STRIP] = {0};
    FOR_STRIP(n, c, N, width,
              (sum[c] += dy[n * C + c], dot[c] += dy[n * C + c] * (x[n * C + c] - m[c]), count[c] += sign(x[n * C + c], m[c])),
              (s[c].dy += (double)sum[c], s[c].dot += (double)dot[c], sum[c] = dot[c] = 0));
    for (int c = 0; c < width; c++) s[c].sign = (double)count[c];
}

QT_CLONES static void strip_apply(R *restrict y, const R *restrict x, int64_t N, int64_t C, int width, const R *restrict m, const R *restrict k,
                                  const R *restrict b)
{
    for (int64_t n = 0; n < N; n++)
        for (int c = 0; c < width; c++) y[n * C + c] = (x[n * C + c] - m[c]) * k[c] + b[c];
}

QT_CLONES static void strip_apply_back(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t N, int64_t C, int width,
                                       const R *restrict m, const R *restrict k, const R *restrict above, const R *restrict at,
                                       const R *restrict below)
{
    for (int64_t n = 0; n < N; n++)
        for (int c = 0; c < width; c++) {
            const int64_t j = n * C + c;
            dx[j] += k[c] * (dy[j] - by_sign(x[j], m[c], above[c], at[c], below[c]));
        }
}

/* ---- batch norm ------------------------------------------------------------------------------------------------------------------ */

typedef struct batch_arg {
    bool   batch_stats;
    double momentum, eps;
} batch_arg;
/* For backward: statistics of the batch (or the running ones), and which of them it was. */
typedef struct batch_saved {
    bool batch;
    R   *mean, *root; /* [C]; root = 1/(sigma + eps) */
} batch_saved;

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
    QT_TRY(qt_node_save(nd, sizeof *st));
    st = nd->saved;
    st->batch = ((batch_arg *)nd->arg)->batch_stats && nd->tape->train;
    if (!(st->mean = qt_tape_alloc(nd->tape, 2 * (size_t)x->dim[1] * sizeof(R)))) return QT_EMEM;
    st->root = st->mean + x->dim[1];
    return qt_node_out_like(nd, x);
}

static int64_t spatial(const qt_tensor *x) { return x->n / qt_max_i64(1, x->dim[0] * x->dim[1]); }

/* Channels [c, c + width): their statistics into m and r, and the running values moved. width is 1 for images. */
static void take_batch_stats(qt_node *nd, int64_t c, int width, R *m, R *r)
{
    const qt_tensor *x = nd->in[0];
    const batch_arg *g = nd->arg;
    const int64_t    N = x->dim[0], C = x->dim[1], S = spatial(x), M = N * S;
    R               *running_mean = nd->in[3]->data + c, *running_sigma = nd->in[4]->data + c;
    double           sum[STRIP] = {0};
    if (S > 1) m[0] = run_mean(x->data + c * S, N, C * S, S), sum[0] = run_deviation(x->data + c * S, N, C * S, S, m[0]);
    else strip_mean(m, x->data + c, N, C, width), strip_deviation(sum, x->data + c, N, C, width, m);
    for (int i = 0; i < width; i++) {
        const double sigma = sum[i] / (double)M;
        r[i] = (R)(1 / (sigma + g->eps));
        running_mean[i] = (R)((1 - g->momentum) * (double)running_mean[i] + g->momentum * (double)m[i]);
        if (M > 1) running_sigma[i] = (R)((1 - g->momentum) * (double)running_sigma[i] + g->momentum * sigma);
    }
}

static void take_running_stats(qt_node *nd, int64_t c, int width, R *m, R *r)
{
    for (int i = 0; i < width; i++) {
        m[i] = nd->in[3]->data[c + i];
        r[i] = (R)(1 / ((double)nd->in[4]->data[c + i] + ((batch_arg *)nd->arg)->eps));
    }
}

static void batch_forward(qt_node *nd)
{
    const qt_tensor   *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const batch_saved *st = nd->saved;
    const int64_t      N = x->dim[0], C = x->dim[1], S = spatial(x), strip = S > 1 ? 1 : STRIP;
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

static void batch_backward_channels(const qt_node *nd, int64_t c, int width)
{
    const qt_tensor   *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const batch_saved *st = nd->saved;
    const int64_t      N = x->dim[0], C = x->dim[1], S = spatial(x);
    const R           *xs = x->data + c * S, *dy = nd->out->grad + c * S, *m = st->mean + c, *r = st->root + c;
    sums               s[STRIP] = {{0}};
    taken              t = {0};
    R                  gain[STRIP], above[STRIP] = {0}, at[STRIP] = {0}, below[STRIP] = {0};
    if (S > 1) s[0] = run_sums(dy, xs, N, C * S, S, m[0]);
    else strip_sums(s, dy, xs, N, C, width, m);
    for (int i = 0; i < width; i++) {
        gain[i] = w ? r[i] * w->data[c + i] : r[i];
        if (st->batch) t = taken_of(&s[i], (double)r[i], (double)(N * S)), above[i] = t.above, at[i] = t.at, below[i] = t.below;
        if (w && w->grad) w->grad[c + i] += (R)(s[i].dot * (double)r[i]);
        if (b && b->grad) b->grad[c + i] += (R)s[i].dy;
    }
    if (!x->grad) return;
    if (S > 1) run_apply_back(x->grad + c * S, dy, xs, N, C * S, S, m[0], gain[0], t);
    else strip_apply_back(x->grad + c, dy, xs, N, C, width, m, gain, above, at, below);
}

static void batch_backward(const qt_node *nd)
{
    const int64_t C = nd->in[0]->dim[1], strip = spatial(nd->in[0]) > 1 ? 1 : STRIP;
    QT_FOR_EACH(k, QT_CHUNKS(C, strip), nd->out->n > QT_GRAIN) batch_backward_channels(nd, k * strip, (int)qt_min_i64(strip, C - k * strip));
}

qt_tensor *qt_l1_batch_norm(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, qt_tensor *mean, qt_tensor *sigma, bool batch_stats,
                            double momentum, double eps)
{
    batch_arg g = {batch_stats, momentum, eps};
    return QT_EMIT(t, &qt_op_l1_batch_norm, &g, sizeof g, x, w, b, mean, sigma);
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
    if (nd->tape->grad && (qt_wants_grad(nd->in[1]) || qt_wants_grad(nd->in[2]))) {
        const size_t parts = (size_t)QT_CHUNKS(rows, layer_chunk(rows, D));
        if (!(saved->part = qt_tape_alloc(nd->tape, parts * 2 * (size_t)D * sizeof(double)))) return QT_EMEM;
    }
    return qt_node_out_like(nd, x);
}

QT_CLONES static row row_forward(R *restrict y, const R *restrict x, const R *w, const R *b, int64_t D, double eps)
{
    const R m = run_mean(x, 1, 0, D), r = (R)(1 / (run_deviation(x, 1, 0, D, m) / (double)D + eps));
    if (w && b)
        for (int64_t j = 0; j < D; j++) y[j] = (x[j] - m) * r * w[j] + b[j];
    else
        for (int64_t j = 0; j < D; j++) y[j] = (x[j] - m) * r * (w ? w[j] : 1) + (b ? b[j] : 0);
    return (row){m, r};
}

static void layer_forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const R         *w = nd->in[1] ? nd->in[1]->data : NULL, *b = nd->in[2] ? nd->in[2]->data : NULL;
    const double     eps = *(double *)nd->arg;
    const int64_t    D = x->dim[x->rank - 1], rows = x->n / D, chunk = layer_chunk(rows, D);
    QT_FOR_CHUNKS(from, to, rows, chunk)
    for (int64_t i = from; i < to; i++)
        ((layer_saved *)nd->saved)->row[i] = row_forward(nd->out->data + i * D, x->data + i * D, w, b, D, eps);
}

/* As run_sums, with h = dy w for dy. */
QT_CLONES static sums row_sums(const R *dy, const R *x, const R *w, int64_t D, R m)
{
    sums  s = {0};
    R     sum[LANES] = {0}, dot[LANES] = {0};
    whole count[LANES] = {0};
    FOR_LANES(j, l, 1, 0, D, (sum[l] += dy[j] * w[j], dot[l] += dy[j] * w[j] * (x[j] - m), count[l] += sign(x[j], m)),
              (empty_into(&s.dy, sum), empty_into(&s.dot, dot)));
    for (int l = 0; l < LANES; l++) s.sign += (double)count[l];
    return s;
}

QT_CLONES static void row_backward(R *restrict dx, const R *restrict dy, const R *restrict x, const R *w, int64_t D, row st)
{
    const R     m = st.mean, r = st.root;
    const sums  s = w ? row_sums(dy, x, w, D, m) : run_sums(dy, x, 1, 0, D, m);
    const taken t = taken_of(&s, (double)r, (double)D);
    const R     above = t.above, at = t.at, below = t.below;
    if (w)
        for (int64_t j = 0; j < D; j++) dx[j] += r * (dy[j] * w[j] - by_sign(x[j], m, above, at, below));
    else
        for (int64_t j = 0; j < D; j++) dx[j] += r * (dy[j] - by_sign(x[j], m, above, at, below));
}

/* dw and db of `width` columns and at most ROWS rows */
QT_CLONES static void strip_params(double *restrict dw, double *restrict db, const R *restrict dy, const R *restrict x, const row *restrict st,
                                   int64_t rows, int64_t D, int width)
{
    R w[STRIP] = {0}, b[STRIP] = {0};
    FOR_STRIP(n, c, rows, width, (w[c] += dy[n * D + c] * ((x[n * D + c] - st[n].mean) * st[n].root), b[c] += dy[n * D + c]),
              (dw[c] += (double)w[c], db[c] += (double)b[c]));
}

/* Rows [from, to): dx where it is wanted, and the chunk's part of dw and db. */
static void layer_backward_rows(const qt_node *nd, int64_t from, int64_t to, double *part)
{
    const qt_tensor *x = nd->in[0], *w = nd->in[1];
    const row       *st = ((layer_saved *)nd->saved)->row;
    const int64_t    D = x->dim[x->rank - 1];
    const R         *dy = nd->out->grad;
    if (part) memset(part, 0, 2 * (size_t)D * sizeof *part);
    for (int64_t n = from; n < to; n += ROWS) {
        const int64_t end = qt_min_i64(n + ROWS, to);
        for (int64_t i = n; x->grad && i < end; i++) row_backward(x->grad + i * D, dy + i * D, x->data + i * D, w ? w->data : NULL, D, st[i]);
        for (int64_t c = 0; part && c < D; c += STRIP)
            strip_params(part + c, part + D + c, dy + n * D + c, x->data + n * D + c, st + n, end - n, D, (int)qt_min_i64(STRIP, D - c));
    }
}

static void layer_backward(const qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    double          *part = ((layer_saved *)nd->saved)->part;
    const int64_t    D = x->dim[x->rank - 1], rows = x->n / D, chunk = layer_chunk(rows, D);
    QT_FOR_CHUNKS(from, to, rows, chunk) layer_backward_rows(nd, from, to, part ? part + QT_CHUNK_OF(from) * 2 * D : NULL);
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
static const qt_case batch_cases[] = {{"rows", batch, {{{6, 3}, 'd'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}},
                                      {"many columns", batch, {{{4, 70}, 'd'}, {{70}, 'n'}, {{70}, 'n'}, {{70}, 'c'}, {{70}, 'c'}}},
                                      {"images", batch, {{{3, 2, 4, 5}, 'd'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"one pixel", batch, {{{5, 2, 1, 1}, 'd'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"signals", batch, {{{3, 2, 7}, 'd'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"no weight, no bias", batch_plain, {{{5, 2, 2, 2}, 'd'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"no bias", batch_no_bias, {{{7, 2}, 'd'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"weight is bias", batch_aliased, {{{5, 2}, 'd'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"one value a channel", batch_frozen, {{{1, 3}, 'n'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}},
                                      {"frozen", batch_frozen, {{{3, 2, 2, 3}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"evaluation", batch, {{{4, 3}, 'n'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}, .eval = true},
                                      {"evaluation of images", batch, {{{2, 2, 3, 3}, 'n'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}, .eval = true},
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
                                      {"x is weight and bias", layer_aliased, {{{5}, 'd'}}},
                                      {NULL}};

const qt_op qt_op_l1_batch_norm = {
    .d = {"l1_batch_norm", "normalization of each channel over the batch by the mean absolute deviation", .source = "Guo et al., arXiv 2411.10948"},
    .kind = QT_EXACT, .shape = batch_shape, .forward = batch_forward, .backward = batch_backward, .cases = batch_cases};
const qt_op qt_op_l1_layer_norm = {
    .d = {"l1_layer_norm", "normalization of each row of the last axis by its mean absolute deviation", .source = "Guo et al., arXiv 2411.10948"},
    .kind = QT_EXACT, .shape = layer_shape, .forward = layer_forward, .backward = layer_backward, .cases = layer_cases};
