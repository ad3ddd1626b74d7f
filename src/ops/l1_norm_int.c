/* l1_batch_norm and l1_layer_norm in integers, forward and backward (kernels/l1_norm.h). Each channel of x [N,C] or [N,C,...], or each row of
 * its last axis, becomes codes of its own scale, q = rint(x/s), s = max|x| / (2^(bits-1) - 1). The scale cancels in
 *
 *     t = d / sigma,   d = q - mean(q),   sigma = mean |d|,   y = w t k + b,   k = s sigma / (s sigma + eps)
 *
 * so the statistics are sums of integers, and y is a line over the codes. They are all that backward keeps, a byte where the float norm keeps a
 * number. The gradient, h = w dy, becomes codes too, of one scale a channel or row and rounded at random (as by kernels/shiftq.h), so that they are
 * right on the mean. As sum qg d = sum qg q - mean(q) sum qg, integer sums are all it takes:
 *     dx = s_g / (s sigma + eps) (qg - m1 - m2 (sg - m3)),   m1 = mean(qg),  m2 = mean(qg t),  m3 = mean(sg),  sg = sign(d)
 * d = 0 counts as below the mean. Numbers that are all equal have t = 0 and pass no gradient on.
 *
 * Of a channel, w is one number, so the codes are dy's and give dw = k s_g sum qg t, db = s_g sum qg. The running mean and sigma are those of the
 * codes, s mu and s sigma. Codes lie channel by channel, so that a channel is one run. Of a row, w is a number an element, and dw and db are sums
 * over rows that all have other scales: they are taken from dy itself and the codes of x.
 *
 * Guo et al., arXiv 2411.10948, quantize the norms' input, output and gradient. Left out: y as codes, which the quantizer of the layer that
 * reads it makes. */
#include "kernels/l1_norm.h"
#include "ops/inner.h"
#include "ops/norm_then.h"

#ifdef QT_DOUBLE
typedef int64_t as_bits __attribute__((may_alias));
#define MAGNITUDE INT64_MAX
#else
typedef int32_t as_bits __attribute__((may_alias));
#define MAGNITUDE INT32_MAX
#endif

/* Of a channel or row. The mean has 16 fraction bits, so float holds it exactly. */
typedef struct stats {
    R mean, sigma, scale; /* of the codes; 1 / (s sigma + eps), or 0 where all codes are equal */
    R above;              /* share of codes above the mean */
} stats;

/* ---- leaf loops over a channel or row: `runs` runs of `length` numbers that lie `step` apart, and their codes without gaps ---------------- */

QT_INLINE R max_of(bool relu, const R *x, const R *y, int64_t runs, int64_t step, int64_t length)
{
    const as_bits *b = (const as_bits *)x;
    as_bits        most = 0;
    R              max;
    for (int64_t k = 0; k < runs; k++)
        for (int64_t i = k * step; i < k * step + length; i++) {
            const as_bits m = relu && y[i] <= 0 ? 0 : b[i] & MAGNITUDE;
            most = m > most ? m : most;
        }
    memcpy(&max, &most, sizeof max);
    return max;
}

/* max |x|, NaN if there is one: as integers, the bits of magnitudes order as they do, and NaN stands above infinity. y: only where a relu with that
 * result let x through; NULL: everywhere. */
QT_CLONES static R channel_max(const R *x, const R *y, int64_t runs, int64_t step, int64_t length)
{
    return y ? max_of(true, x, y, runs, step, length) : max_of(false, x, x, runs, step, length);
}

QT_CLONES static void channel_codes(int8_t *restrict q, const R *restrict x, int64_t runs, int64_t step, int64_t length, R s)
{
    for (int64_t k = 0; k < runs; k++)
        for (int64_t i = 0; i < length; i++) q[k * length + i] = (int8_t)QT_M(rint)(x[k * step + i] / s);
}

/* z = q slope + offset, plus skip, and rectified, where asked (norm_then.h) */
QT_CLONES static void channel_line(R *restrict z, const int8_t *restrict q, const R *restrict skip, bool relu, int64_t runs, int64_t step,
                                   int64_t length, R slope, R offset)
{
    for (int64_t k = 0; k < runs; k++, z += step, q += length) {
        const R *also = skip ? skip + k * step : NULL;
        if (also && relu)
            for (int64_t i = 0; i < length; i++) z[i] = qt_rectified((R)q[i] * slope + offset + also[i]);
        else if (also)
            for (int64_t i = 0; i < length; i++) z[i] = (R)q[i] * slope + offset + also[i];
        else if (relu)
            for (int64_t i = 0; i < length; i++) z[i] = qt_rectified((R)q[i] * slope + offset);
        else
            for (int64_t i = 0; i < length; i++) z[i] = (R)q[i] * slope + offset;
    }
}

/* y as of channel_max */
QT_CLONES static void round_up(int8_t *restrict g, const R *restrict x, const R *restrict y, const uint16_t *restrict u, int64_t n, R s)
{
    if (y)
        for (int64_t i = 0; i < n; i++) g[i] = (int8_t)qt_floor(qt_masked(x[i], y[i]) / s + (R)u[i] * (R)0x1p-16);
    else
        for (int64_t i = 0; i < n; i++) g[i] = (int8_t)qt_floor(x[i] / s + (R)u[i] * (R)0x1p-16);
}

/* dx = gain (g - taken by the sign of d), or added */
QT_CLONES static void channel_back(bool first, R *restrict dx, const int8_t *restrict g, const int8_t *restrict q, int64_t runs, int64_t step,
                                   int64_t length, int level, R gain, R below, R above)
{
    for (int64_t k = 0; first && k < runs; k++)
        for (int64_t i = 0; i < length; i++)
            dx[k * step + i] = gain * ((R)g[k * length + i] - (q[k * length + i] > level ? above : below));
    for (int64_t k = 0; !first && k < runs; k++)
        for (int64_t i = 0; i < length; i++)
            dx[k * step + i] += gain * ((R)g[k * length + i] - (q[k * length + i] > level ? above : below));
}

/* dw and db of a row: db += dy, dw += dy t k */
QT_CLONES static void row_params(double *restrict dw, double *restrict db, const R *restrict dy, const int8_t *restrict q, int64_t D, R mean, R slope)
{
    for (int64_t j = 0; j < D; j++) dw[j] += (double)(dy[j] * (((R)q[j] - mean) * slope)), db[j] += (double)dy[j];
}

QT_CLONES static void row_line(R *restrict y, const int8_t *restrict q, const R *w, const R *b, int64_t D, R mean, R slope)
{
    for (int64_t j = 0; j < D; j++) y[j] = ((R)q[j] - mean) * slope * (w ? w[j] : 1) + (b ? b[j] : 0);
}

QT_CLONES static void product(R *restrict h, const R *restrict dy, const R *restrict w, int64_t D)
{
    for (int64_t j = 0; j < D; j++) h[j] = dy[j] * w[j];
}

/* ---- what a channel and a row share --------------------------------------------------------------------------------------------------- */

static R scale_of(R most, int bits)
{
    const R s = most / (R)((1 << (bits - 1)) - 1);
    return s > 0 || s != s ? s : 1;
}

/* The codes of x, and their scale; of numbers that are not finite, zeros and what it was. */
static R codes_of(int8_t *q, const R *x, int64_t runs, int64_t step, int64_t length, int bits)
{
    const R s = scale_of(channel_max(x, NULL, runs, step, length), bits);
    if (isfinite(s)) channel_codes(q, x, runs, step, length, s);
    else memset(q, 0, (size_t)(runs * length));
    return s;
}

static stats stats_of(const int8_t *q, int64_t n, R s, double eps)
{
    qt_l1_stats st;
    qt_l1_take_stats(&(qt_l1_codes){q, true, 1, n, n}, &st);
    const double mean = ldexp((double)st.mean, -QT_L1_FRACTION), sigma = qt_l1_sigma(&st);
    return (stats){(R)mean, (R)sigma, st.total ? (R)(1 / ((double)s * sigma + eps)) : 0, (R)st.above / (R)n};
}

/* m1, m2, m3 from codes g of the gradient. */
typedef struct means {
    double m1, m2, m3;
} means;
static means means_of(const int8_t *g, const int8_t *q, int64_t n, const stats *of, double *sum)
{
    qt_l1_sums s;
    qt_l1_back_sums(g, q, NULL, 1, n, n, &s);
    const double gd = (double)s.gt - (double)of->mean * (double)s.g;
    *sum = (double)s.g;
    return (means){(double)s.g / (double)n, of->sigma > 0 ? gd / ((double)of->sigma * (double)n) : 0, 2 * (double)of->above - 1};
}

/* Random numbers of a stream in order, a block at a time. */
typedef struct noise {
    qt_rng   rng;
    int64_t  from; /* of u; -1: nothing yet */
    uint16_t u[QT_RNG_BLOCK];
} noise;

/* g = floor(x/s + u), u = numbers [at, at + n); y as of channel_max */
static void round_at_random(int8_t *g, const R *x, const R *y, int64_t n, R s, noise *z, int64_t at)
{
    for (int64_t i = 0, part; i < n; i += part) {
        const int64_t in = (at + i) % QT_RNG_BLOCK;
        if (z->from != at + i - in) z->from = at + i - in, qt_rng_bits16(&z->rng, (uint64_t)z->from, z->u);
        part = qt_min_i64(QT_RNG_BLOCK - in, n - i);
        round_up(g + i, x + i, y ? y + i : NULL, z->u + in, part, s);
    }
}

/* ---- batch norm ----------------------------------------------------------------------------------------------------------------------- */

typedef struct batch_arg {
    qt_l1_codes_cfg how;
    bool            relu;
    double          momentum, eps;
} batch_arg;

typedef struct batch_saved {
    int64_t runs, step, length; /* of a channel in x: N runs of S numbers */
    int8_t *q, *g;              /* [C, N S] codes of x and of dy */
    stats  *of;                 /* [C] */
} batch_saved;

static qt_err batch_shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    char             text[96];
    batch_saved     *v;
    if (x->rank < 2) return qt_node_fail(nd, "x is %s, it must be [N, C] or [N, C, H, W]", qt_shape_str(x, text));
    for (int i = 1; i < 5; i++)
        if (nd->in[i] ? nd->in[i]->n != x->dim[1] : i >= 3)
            return qt_node_fail(nd, "weight, bias, mean and sigma must have %lld numbers", (long long)x->dim[1]);
    QT_TRY(qt_then_shape(nd, nd->in[5]));
    QT_TRY(qt_node_save(nd, sizeof *v));
    v = nd->saved;
    *v = (batch_saved){.runs = x->dim[0], .step = x->n / x->dim[0], .length = x->n / (x->dim[0] * x->dim[1])};
    v->q = qt_tape_alloc(nd->tape, (size_t)x->n), v->of = qt_tape_alloc(nd->tape, (size_t)x->dim[1] * sizeof *v->of);
    if (nd->tape->grad) v->g = qt_tape_alloc(nd->tape, (size_t)x->n);
    nd->own = x->n + x->dim[1] * (int64_t)sizeof *v->of;
    return nd->tape->err ? nd->tape->err : qt_node_out_like(nd, x);
}

/* Running values follow those of the batch; a single value a channel says nothing about sigma. */
static void follow(const qt_node *nd, int64_t c, R mean, R sigma, int64_t n)
{
    const double m = ((const batch_arg *)nd->arg)->momentum;
    R *const     running_mean = nd->in[3]->data + c, *const running_sigma = nd->in[4]->data + c;
    *running_mean = (R)((1 - m) * (double)*running_mean + m * (double)mean);
    if (n > 1) *running_sigma = (R)((1 - m) * (double)*running_sigma + m * (double)sigma);
}

static void forward_channel(qt_node *nd, int64_t c)
{
    const qt_tensor   *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const batch_arg   *a = nd->arg;
    const batch_saved *v = nd->saved;
    const int64_t      n = v->runs * v->length;
    int8_t            *q = v->q + c * n;
    const R            s = codes_of(q, x->data + c * v->length, v->runs, v->step, v->length, a->how.bits);
    const stats        of = v->of[c] = stats_of(q, n, s, a->eps);
    const R            slope = (w ? w->data[c] : 1) * s * of.scale, offset = (b ? b->data[c] : 0) - slope * of.mean;
    follow(nd, c, s * of.mean, s * of.sigma, n);
    channel_line(nd->out->data + c * v->length, q, nd->in[5] ? nd->in[5]->data + c * v->length : NULL, a->relu, v->runs, v->step, v->length, slope,
                 isfinite(s) ? offset : (R)NAN);
}

static void batch_forward(qt_node *nd)
{
    QT_FOR_EACH(c, nd->in[0]->dim[1], nd->out->n > QT_GRAIN) forward_channel(nd, c);
}

/* Codes of the channel's dy, where a relu let it through. */
static R channel_gradient(const qt_node *nd, int64_t c)
{
    const batch_arg   *a = nd->arg;
    const batch_saved *v = nd->saved;
    const int64_t      n = v->runs * v->length;
    const R           *dy = nd->out->grad + c * v->length, *y = a->relu ? nd->out->data + c * v->length : NULL;
    const R            s = scale_of(channel_max(dy, y, v->runs, v->step, v->length), a->how.grad_bits);
    noise              z = {.rng = qt_rng_at(nd->tape->seed, a->how.stream + ((uint64_t)nd->tape->step << 20) + (uint64_t)c), .from = -1};
    if (!isfinite(s)) memset(v->g + c * n, 0, (size_t)n);
    for (int64_t k = 0; isfinite(s) && k < v->runs; k++)
        round_at_random(v->g + c * n + k * v->length, dy + k * v->step, y ? y + k * v->step : NULL, v->length, s, &z, k * v->length);
    return s;
}

static void backward_channel(const qt_node *nd, bool first, int64_t c)
{
    const qt_tensor   *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const batch_saved *v = nd->saved;
    const stats       *of = &v->of[c];
    const int64_t      n = v->runs * v->length;
    const int8_t      *q = v->q + c * n, *g = v->g + c * n;
    const R            s = channel_gradient(nd, c);
    double             sum;
    const means        m = means_of(g, q, n, of, &sum);
    const double       k = of->sigma > 0 ? 1 - ((const batch_arg *)nd->arg)->eps * (double)of->scale : 0;
    if (w && w->grad) w->grad[c] += (R)((double)s * k * m.m2 * (double)n);
    if (b && b->grad) b->grad[c] += s * (R)sum;
    if (x->grad)
        channel_back(first, x->grad + c * v->length, g, q, v->runs, v->step, v->length, (int)qt_floor(of->mean),
                     (w ? w->data[c] : 1) * s * of->scale, (R)(m.m1 - m.m2 * (1 + m.m3)), (R)(m.m1 + m.m2 * (1 - m.m3)));
}

static void batch_backward(const qt_node *nd)
{
    const bool first = qt_grad_first(nd->in[0]);
    qt_grad_clear(nd->in[1]), qt_grad_clear(nd->in[2]);
    QT_FOR_EACH(c, nd->in[0]->dim[1], nd->out->n > QT_GRAIN) backward_channel(nd, first, c);
    qt_then_back(nd, nd->in[5], ((batch_arg *)nd->arg)->relu);
}

/* Of the weight only: both norms. */
static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS(2); }
static uint32_t batch_reads(const qt_node *nd) { return reads(nd) | (((batch_arg *)nd->arg)->relu ? QT_READS_SIGNS(QT_RESULT) : 0); }

qt_tensor *qt_l1_batch_norm_codes(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, qt_tensor *mean, qt_tensor *sigma, qt_tensor *skip,
                                  bool relu, const qt_l1_codes_cfg *how, double momentum, double eps)
{
    batch_arg a = {*how, relu, momentum, eps};
    return QT_EMIT(t, &qt_op_l1_batch_norm_codes, &a, sizeof a, x, w, b, mean, sigma, skip);
}

/* ---- layer norm ----------------------------------------------------------------------------------------------------------------------- */

enum { PARTS = 16 };

typedef struct layer_arg {
    qt_l1_codes_cfg how;
    double          eps;
} layer_arg;

typedef struct layer_saved {
    int64_t rows, D, chunk; /* of rows, at most PARTS of them */
    int8_t *q, *g;          /* [rows, D] codes of x and of h */
    stats  *of;             /* [rows] */
    R      *scale, *h;      /* [rows] of x; [chunks, D] h = w dy of the row at hand */
    double *part;           /* [chunks, 2, D] partial sums of dw and db */
} layer_saved;

static qt_err layer_shape(qt_node *nd)
{
    static const char *const name[] = {"x", "weight", "bias"};
    const qt_tensor         *x = nd->in[0];
    qt_tape                 *t = nd->tape;
    char                     text[96], other[96];
    layer_saved             *v;
    QT_TRY(qt_node_save(nd, sizeof *v));
    v = nd->saved;
    *v = (layer_saved){.D = x->dim[x->rank - 1], .rows = x->n / x->dim[x->rank - 1]};
    v->chunk = qt_max_i64(qt_row_grain(v->D), QT_CHUNKS(v->rows, PARTS));
    for (int i = 1; i < 3; i++)
        if (nd->in[i] && nd->in[i]->n != v->D)
            return qt_node_fail(nd, "%s is %s, but the rows of x %s have %lld numbers", name[i], qt_shape_str(nd->in[i], text), qt_shape_str(x, other),
                                (long long)v->D);
    v->q = qt_tape_alloc(t, (size_t)x->n), v->of = qt_tape_alloc(t, (size_t)v->rows * sizeof *v->of);
    v->scale = qt_tape_alloc(t, (size_t)v->rows * sizeof(R));
    nd->own = x->n + v->rows * (int64_t)(sizeof *v->of + sizeof(R));
    if (t->grad) {
        const size_t chunks = (size_t)QT_CHUNKS(v->rows, v->chunk);
        v->g = qt_tape_alloc(t, (size_t)x->n), v->h = qt_tape_alloc(t, chunks * (size_t)v->D * sizeof(R));
        v->part = qt_tape_alloc(t, chunks * 2 * (size_t)v->D * sizeof(double));
    }
    return t->err ? t->err : qt_node_out_like(nd, x);
}

static void forward_row(qt_node *nd, int64_t i)
{
    const qt_tensor   *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const layer_arg   *a = nd->arg;
    const layer_saved *v = nd->saved;
    int8_t            *q = v->q + i * v->D;
    const R            s = v->scale[i] = codes_of(q, x->data + i * v->D, 1, 0, v->D, a->how.bits);
    const stats        of = v->of[i] = stats_of(q, v->D, s, a->eps);
    row_line(nd->out->data + i * v->D, q, w ? w->data : NULL, b ? b->data : NULL, v->D, of.mean, isfinite(s) ? s * of.scale : (R)NAN);
}

static void layer_forward(qt_node *nd)
{
    const layer_saved *v = nd->saved;
    QT_FOR_CHUNKS(from, to, v->rows, v->chunk)
    for (int64_t i = from; i < to; i++) forward_row(nd, i);
}

static void backward_row(const qt_node *nd, bool first, int64_t i, noise *z, R *h)
{
    const qt_tensor   *x = nd->in[0], *w = nd->in[1];
    const layer_saved *v = nd->saved;
    const stats       *of = &v->of[i];
    const int64_t      D = v->D;
    const R           *dy = nd->out->grad + i * D;
    int8_t            *q = v->q + i * D, *g = v->g + i * D;
    if (w) product(h, dy, w->data, D), dy = h;
    const R s = scale_of(channel_max(dy, NULL, 1, 0, D), ((const layer_arg *)nd->arg)->how.grad_bits);
    double  sum;
    if (isfinite(s)) round_at_random(g, dy, NULL, D, s, z, i * D);
    else memset(g, 0, (size_t)D);
    const means m = means_of(g, q, D, of, &sum);
    channel_back(first, x->grad + i * D, g, q, 1, 0, D, (int)qt_floor(of->mean), s * of->scale, (R)(m.m1 - m.m2 * (1 + m.m3)),
                 (R)(m.m1 + m.m2 * (1 - m.m3)));
}

static void layer_backward_rows(const qt_node *nd, bool first, int64_t from, int64_t to, R *h, double *part)
{
    const layer_saved *v = nd->saved;
    const layer_arg   *a = nd->arg;
    noise              z = {.rng = qt_rng_at(nd->tape->seed, a->how.stream + ((uint64_t)nd->tape->step << 20)), .from = -1};
    memset(part, 0, 2 * (size_t)v->D * sizeof *part);
    for (int64_t i = from; i < to; i++) {
        if (nd->in[0]->grad) backward_row(nd, first, i, &z, h);
        row_params(part, part + v->D, nd->out->grad + i * v->D, v->q + i * v->D, v->D, v->of[i].mean, v->scale[i] * v->of[i].scale);
    }
}

static void layer_backward(const qt_node *nd)
{
    const layer_saved *v = nd->saved;
    const int64_t      D = v->D;
    const bool         first = qt_grad_first(nd->in[0]);
    qt_grad_clear(nd->in[1]), qt_grad_clear(nd->in[2]);
    QT_FOR_CHUNKS(from, to, v->rows, v->chunk)
    layer_backward_rows(nd, first, from, to, v->h + QT_CHUNK_OF(from) * D, v->part + QT_CHUNK_OF(from) * 2 * D);
    for (int i = 1; i < 3; i++)
        for (int64_t j = 0; nd->in[i] && nd->in[i]->grad && j < D; j++) {
            double sum = 0;
            for (int64_t k = 0; k < QT_CHUNKS(v->rows, v->chunk); k++) sum += v->part[(2 * k + i - 1) * D + j];
            nd->in[i]->grad[j] += (R)sum;
        }
}

qt_tensor *qt_l1_layer_norm_codes(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, const qt_l1_codes_cfg *how, double eps)
{
    layer_arg a = {*how, eps};
    return QT_EMIT(t, &qt_op_l1_layer_norm_codes, &a, sizeof a, x, w, b);
}

/* ---- cases ---------------------------------------------------------------------------------------------------------------------------- */

static const qt_l1_codes_cfg how = {8, 8, 1};

static qt_tensor *batch(qt_tape *t, qt_tensor **in) { return qt_l1_batch_norm_codes(t, in[0], in[1], in[2], in[3], in[4], NULL, false, &how, 0.1, 1e-5); }
static qt_tensor *batch_then(qt_tape *t, qt_tensor **in)
{
    return qt_l1_batch_norm_codes(t, in[0], in[1], in[2], in[3], in[4], in[5], true, &how, 0.1, 1e-5);
}
static const qt_case batch_cases[] = {{"rows", batch, {{{6, 3}, 'd'}, {{3}, 'n'}, {{3}, 'n'}, {{3}, 'c'}, {{3}, 'c'}}},
                                      {"images", batch, {{{3, 2, 4, 5}, 'd'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}}},
                                      {"skip and relu", batch_then, {{{3, 2, 4, 5}, 'd'}, {{2}, 'n'}, {{2}, 'n'}, {{2}, 'c'}, {{2}, 'c'}, {{3, 2, 4, 5}, 'n'}}},
                                      {NULL}};

static qt_tensor *layer(qt_tape *t, qt_tensor **in) { return qt_l1_layer_norm_codes(t, in[0], in[1], in[2], &how, 1e-5); }
static const qt_case layer_cases[] = {{"rows", layer, {{{6, 3}, 'd'}, {{3}, 'n'}, {{3}, 'n'}}},
                                      {"tokens", layer, {{{3, 4, 40}, 'd'}, {{40}, 'n'}, {{40}, 'n'}}},
                                      {NULL}};

const qt_op qt_op_l1_batch_norm_codes = {
    .d = {"l1_batch_norm_codes", "l1_batch_norm of training in integers", .source = "Guo et al., arXiv 2411.10948"},
    .kind = QT_SURROGATE, .shape = batch_shape, .forward = batch_forward, .backward = batch_backward, .reads = batch_reads, .stores = true, .cases = batch_cases};
const qt_op qt_op_l1_layer_norm_codes = {
    .d = {"l1_layer_norm_codes", "l1_layer_norm in integers", .source = "Guo et al., arXiv 2411.10948"},
    .kind = QT_SURROGATE, .shape = layer_shape, .forward = layer_forward, .backward = layer_backward, .reads = reads, .stores = true, .cases = layer_cases};
