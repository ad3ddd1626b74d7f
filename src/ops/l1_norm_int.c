/* l1_batch_norm of training in integers, forward and backward (kernels/l1_norm.h). Each channel of x [N,C] or [N,C,...] becomes codes of its
 * own scale, q = rint(x/s), s = max|x| / (2^(bits-1) - 1). The scale cancels in
 *
 *     t = d / sigma,   d = q - mean(q),   sigma = mean |d|,   y = w t k + b,   k = s sigma / (s sigma + eps)
 *
 * so the statistics are sums of integers, and y is a line over the codes. They are all that backward keeps, a byte where the float norm keeps a
 * number. dy becomes codes too, of one scale a channel and rounded at random (as by kernels/shiftq.h), so that they are right on the mean. As
 * sum qg d = sum qg q - mean(q) sum qg, integer sums are all it takes:
 *     dx = w s_g / (s sigma + eps) (qg - m1 - m2 (sg - m3)),   m1 = mean(qg),  m2 = mean(qg t),  m3 = mean(sg),  sg = sign(d)
 *     dw = k s_g sum qg t,   db = s_g sum qg.
 * d = 0 counts as below the mean. A channel of equal codes has t = 0 and passes no gradient on. The running mean and sigma are those of the
 * codes, s mu and s sigma. Codes lie channel by channel, so that a channel is one run.
 *
 * Guo et al., arXiv 2411.10948, quantize the norms' input, output and gradient. Left out: y as codes, which the quantizer of the layer that
 * reads it makes. */
#include "kernels/l1_norm.h"
#include "ops/inner.h"
#include "ops/ops.h"
#include <math.h>

#ifdef QT_DOUBLE
typedef int64_t as_bits __attribute__((may_alias));
#define MAGNITUDE INT64_MAX
#else
typedef int32_t as_bits __attribute__((may_alias));
#define MAGNITUDE INT32_MAX
#endif

typedef struct arg {
    qt_l1_codes_cfg how;
    double          momentum, eps;
} arg;

typedef struct channel {
    double mean, sigma, scale; /* of the codes; 1 / (s sigma + eps) */
    double above;              /* share of codes above the mean */
} channel;

typedef struct saved {
    int64_t  runs, step, length; /* of a channel in x: N runs of S numbers */
    int8_t  *q, *g;              /* [C, N S] codes of x and of dy */
    channel *of;                 /* [C] */
} saved;

static qt_err shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    char             text[96];
    saved           *v;
    if (x->rank < 2) return qt_node_fail(nd, "x is %s, it must be [N, C] or [N, C, H, W]", qt_shape_str(x, text));
    for (int i = 1; i < 5; i++)
        if (nd->in[i] ? nd->in[i]->n != x->dim[1] : i >= 3)
            return qt_node_fail(nd, "weight, bias, mean and sigma must have %lld numbers", (long long)x->dim[1]);
    QT_TRY(qt_node_save(nd, sizeof *v));
    v = nd->saved;
    *v = (saved){.runs = x->dim[0], .step = x->n / x->dim[0], .length = x->n / (x->dim[0] * x->dim[1])};
    v->q = qt_tape_alloc(nd->tape, (size_t)x->n), v->of = qt_tape_alloc(nd->tape, (size_t)x->dim[1] * sizeof *v->of);
    if (nd->tape->grad) v->g = qt_tape_alloc(nd->tape, (size_t)x->n);
    nd->own = x->n + x->dim[1] * (int64_t)sizeof *v->of;
    return nd->tape->err ? nd->tape->err : qt_node_out_like(nd, x);
}

/* ---- leaf loops over a channel: `runs` runs of `length` numbers that lie `step` apart, and their codes in a row ------------------------- */

/* max |x|, NaN if there is one: as integers, the bits of magnitudes order as they do, and NaN stands above infinity. */
QT_CLONES static R channel_max(const R *x, int64_t runs, int64_t step, int64_t length)
{
    const as_bits *b = (const as_bits *)x;
    as_bits        most = 0;
    R              max;
    for (int64_t k = 0; k < runs; k++)
        for (int64_t i = 0; i < length; i++) {
            const as_bits m = b[k * step + i] & MAGNITUDE;
            most = m > most ? m : most;
        }
    memcpy(&max, &most, sizeof max);
    return max;
}

QT_CLONES static void channel_codes(int8_t *restrict q, const R *restrict x, int64_t runs, int64_t step, int64_t length, R s)
{
    for (int64_t k = 0; k < runs; k++)
        for (int64_t i = 0; i < length; i++) q[k * length + i] = (int8_t)QT_M(rint)(x[k * step + i] / s);
}

QT_CLONES static void channel_line(R *restrict y, const int8_t *restrict q, int64_t runs, int64_t step, int64_t length, R slope, R offset)
{
    for (int64_t k = 0; k < runs; k++)
        for (int64_t i = 0; i < length; i++) y[k * step + i] = (R)q[k * length + i] * slope + offset;
}

QT_CLONES static void round_up(int8_t *restrict g, const R *restrict x, const uint16_t *restrict u, int64_t n, R s)
{
    for (int64_t i = 0; i < n; i++) g[i] = (int8_t)QT_M(floor)(x[i] / s + (R)u[i] * (R)0x1p-16);
}

QT_CLONES static int64_t count_above(const int8_t *q, int64_t n, int level)
{
    int32_t count = 0;
    for (int64_t i = 0; i < n; i++) count += q[i] > level;
    return count;
}

QT_CLONES static void channel_back(R *restrict dx, const int8_t *restrict g, const int8_t *restrict q, int64_t runs, int64_t step, int64_t length,
                                   int level, R gain, R below, R above)
{
    for (int64_t k = 0; k < runs; k++)
        for (int64_t i = 0; i < length; i++)
            dx[k * step + i] += gain * ((R)g[k * length + i] - (q[k * length + i] > level ? above : below));
}

/* ---- forward --------------------------------------------------------------------------------------------------------------------- */

static R scale_of(R most, int bits)
{
    const R s = most / (R)((1 << (bits - 1)) - 1);
    return s > 0 || s != s ? s : 1;
}

/* Running values follow those of the batch; a single value a channel says nothing about sigma. */
static void follow(const qt_node *nd, int64_t c, double mean, double sigma, int64_t n)
{
    const double m = ((const arg *)nd->arg)->momentum;
    R *const     running_mean = nd->in[3]->data + c, *const running_sigma = nd->in[4]->data + c;
    *running_mean = (R)((1 - m) * (double)*running_mean + m * mean);
    if (n > 1) *running_sigma = (R)((1 - m) * (double)*running_sigma + m * sigma);
}

static void forward_channel(qt_node *nd, int64_t c)
{
    const qt_tensor *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const arg       *a = nd->arg;
    const saved     *v = nd->saved;
    const int64_t    n = v->runs * v->length;
    int8_t          *q = v->q + c * n;
    const R         *xs = x->data + c * v->length, s = scale_of(channel_max(xs, v->runs, v->step, v->length), a->how.bits);
    qt_l1_stats      st;
    if (isfinite(s)) channel_codes(q, xs, v->runs, v->step, v->length, s);
    else memset(q, 0, (size_t)n);
    qt_l1_take_stats(&(qt_l1_codes){q, true, 1, n, n}, &st);
    const double mean = ldexp((double)st.mean, -QT_L1_FRACTION), sigma = qt_l1_sigma(&st), scale = 1 / ((double)s * sigma + a->eps);
    const double slope = st.total ? (w ? (double)w->data[c] : 1) * (double)s * scale : 0, offset = (b ? (double)b->data[c] : 0) - slope * mean;
    v->of[c] = (channel){mean, sigma, st.total ? scale : 0, (double)count_above(q, n, (int)floor(mean)) / (double)n};
    follow(nd, c, (double)s * mean, (double)s * sigma, n);
    channel_line(nd->out->data + c * v->length, q, v->runs, v->step, v->length, (R)slope, isfinite(s) ? (R)offset : (R)NAN);
}

static void forward(qt_node *nd)
{
    QT_FOR_EACH(c, nd->in[0]->dim[1], nd->out->n > QT_GRAIN) forward_channel(nd, c);
}

/* ---- backward -------------------------------------------------------------------------------------------------------------------- */

/* Codes of the channel's dy, gathered into one run a block at a time. */
static void gradient_codes(const saved *v, const R *dy, R s, const qt_rng *u, int8_t *g)
{
    const int64_t n = v->runs * v->length;
    uint16_t      noise[QT_RNG_BLOCK];
    R             row[QT_RNG_BLOCK];
    for (int64_t at = 0; at < n; at += QT_RNG_BLOCK) {
        const int64_t size = qt_min_i64(QT_RNG_BLOCK, n - at);
        for (int64_t i = 0, part; i < size; i += part) {
            const int64_t run = (at + i) / v->length, from = (at + i) % v->length;
            part = qt_min_i64(v->length - from, size - i);
            memcpy(row + i, dy + run * v->step + from, (size_t)part * sizeof *row);
        }
        qt_rng_bits16(u, (uint64_t)at, noise);
        round_up(g + at, row, noise, size, s);
    }
}

static void backward_channel(const qt_node *nd, int64_t c)
{
    const qt_tensor *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const arg       *a = nd->arg;
    const saved     *v = nd->saved;
    const channel   *of = &v->of[c];
    const int64_t    n = v->runs * v->length;
    const int8_t    *q = v->q + c * n;
    int8_t          *g = v->g + c * n;
    const R         *dy = nd->out->grad + c * v->length, s = scale_of(channel_max(dy, v->runs, v->step, v->length), a->how.grad_bits);
    const qt_rng     u = qt_rng_at(nd->tape->seed, a->how.stream + ((uint64_t)nd->tape->step << 20) + (uint64_t)c);
    qt_l1_sums       sums;
    if (isfinite(s)) gradient_codes(v, dy, s, &u, g);
    else memset(g, 0, (size_t)n);
    qt_l1_back_sums(g, q, NULL, 1, n, n, &sums);
    const double d = (double)sums.gt - of->mean * (double)sums.g, m1 = (double)sums.g / (double)n, m3 = 2 * of->above - 1;
    const double m2 = of->sigma > 0 ? d / (of->sigma * (double)n) : 0, k = of->sigma > 0 ? 1 - a->eps * of->scale : 0;
    if (w && w->grad) w->grad[c] += (R)((double)s * k * m2 * (double)n);
    if (b && b->grad) b->grad[c] += s * (R)sums.g;
    if (x->grad)
        channel_back(x->grad + c * v->length, g, q, v->runs, v->step, v->length, (int)floor(of->mean),
                     (R)((w ? (double)w->data[c] : 1) * (double)s * of->scale), (R)(m1 - m2 * (1 + m3)), (R)(m1 + m2 * (1 - m3)));
}

static void backward(const qt_node *nd)
{
    QT_FOR_EACH(c, nd->in[0]->dim[1], nd->out->n > QT_GRAIN) backward_channel(nd, c);
}

/* Of the weight only. */
static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS(2); }

qt_tensor *qt_l1_batch_norm_codes(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, qt_tensor *mean, qt_tensor *sigma, const qt_l1_codes_cfg *how,
                                  double momentum, double eps)
{
    arg a = {*how, momentum, eps};
    return QT_EMIT(t, &qt_op_l1_batch_norm_codes, &a, sizeof a, x, w, b, mean, sigma);
}

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    static const qt_l1_codes_cfg how = {8, 8, 1};
    return qt_l1_batch_norm_codes(t, in[0], in[1], in[2], in[3], in[4], &how, 0.1, 1e-5);
}
static const qt_case cases[] = {{"rows", build, {{{6, 3}, 'd'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}},
                                {"images", build, {{{3, 2, 4, 5}, 'd'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                {NULL}};

const qt_op qt_op_l1_batch_norm_codes = {
    .d = {"l1_batch_norm_codes", "l1_batch_norm of training in integers", .source = "Guo et al., arXiv 2411.10948"},
    .kind = QT_SURROGATE, .shape = shape, .forward = forward, .backward = backward, .reads = reads, .cases = cases};
