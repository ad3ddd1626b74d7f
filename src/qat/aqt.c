/* Max-scaled quantization with static bounds. Codes of b bits, a bound B of the numbers:
 *
 *     signed     s = B/(2^(b-1) - 1),   q = clip(floor(x/s + 1/2), -(2^(b-1) - 1), 2^(b-1) - 1)       half up, symmetric
 *     unsigned   s = B/2^b,             q = clip(floor(x/s), 0, 2^b - 1)                              the lower edge of each cell
 *     y = q s
 *     dx = dy where floor(..) needs no clipping, else 0; s is a constant
 *
 * Derivation. floor() has derivative 0 almost everywhere and gets 1 (straight through); clip has derivative 1 inside and 0 outside. With
 * B = max|x| of the very tensor (bound: dynamic, for weights) nothing is outside, and dx = dy. floor(x/s) puts a number at the lower edge
 * of its cell, half a step too low on the mean: training takes that up, and the hardware saves an addition.
 *
 * The other bounds are static, for activations: running statistics (stats.h) are gathered from the first batch on; the tensor stays as it is
 * for start_step batches; then B is set, and renewed every update_every batches or never:
 *
 *     max    max(|E max|, |E min|)  E: the running mean over batches       abs   coef E|x|          rms    coef sqrt(E x^2)
 *     dev    E|x| + coef sqrt(E x^2 - (E|x|)^2)                                                     fixed  value
 *
 * Abdolrashidi et al. 2021, "Pareto-Optimal Quantized ResNet Is Mostly 4-bit" (arXiv 2105.03536), section 3. Left out: the later half shift
 * (B divided into 2^(b-1) - 1/2 steps), one bound for several layers. */
#include "kernels/reduce.h"
#include "qat/stats.h"

enum { MAX, MIN, MEAN_ABS, MEAN_SQ, BOUND, BATCHES }; /* parameters; BOUND is negative until it is set */
enum { DYNAMIC, OF_MAX, OF_ABS, OF_RMS, OF_DEV, FIXED };
enum { TENSOR, CHANNEL };

typedef struct cfg {
    int64_t num_bits, start_step, update_every;
    qt_ints axis;
    bool    is_signed, skip_zeros;
    int     granularity, bound;
    double  coef, value, ema_constant;
} cfg;

static const qt_field fields[] = {
    QT_F_INT(cfg, num_bits, "8", 1, 16, "bits of a code"),
    {"signed", QT_BOOL, offsetof(cfg, is_signed), "true", 0, 0, NULL,
     "symmetric codes, half up; false: 0..2^b-1 by floor, for what is never negative"},
    QT_F_ENUM(cfg, granularity, "channel", "tensor|channel", "what shares a bound"),
    QT_F_INTS(cfg, axis, "[]", -QT_MAX_DIM, QT_MAX_DIM - 1, "channel axis; negative counts from the last; default: the layer's"),
    QT_F_ENUM(cfg, bound, "dynamic", "dynamic|max|abs|rms|dev|fixed", "dynamic: of the tensor itself; or static, of running statistics; or a value"),
    QT_F_REAL(cfg, coef, "1", 1e-6, 1e6, "factor of the bounds abs, rms and dev"),
    QT_F_REAL(cfg, value, "6", 1e-30, 1e30, "the fixed bound"),
    QT_F_REAL(cfg, ema_constant, "0.1", 0, 1, "weight of a batch in the running statistics"),
    QT_F_BOOL(cfg, skip_zeros, "true", "leave zeros out of the statistics"),
    QT_F_INT(cfg, start_step, "0", 0, 1e12, "batches before a static bound is set; until then the tensor is not quantized"),
    QT_F_INT(cfg, update_every, "-1", -1, 1e12, "batches after which a static bound is renewed; -1: never"),
    {0}};

typedef struct arg {
    qt_grid grid; /* mask: of a static bound */
    R       half; /* added before floor */
} arg;

#ifdef QT_DOUBLE
#define floored floor
#else
#define floored floorf
#endif

/* ---- the op ---------------------------------------------------------------------------------------------------------------------- */

QT_INLINE R cell(R x, R s, R half) { return floored(x / s + half); }
/* Adding +0 turns the -0 of a clipped code into +0, as decoding does. */
QT_INLINE R code_of(R x, R s, R half, R qn, R qp) { return qt_clip(cell(x, s, half), qn, qp) + 0; }

QT_CLONES static void quantize(R *restrict y, const R *restrict x, int64_t n, R s, R half, R qn, R qp)
{
    for (int64_t i = 0; i < n; i++) y[i] = qt_value(code_of(x[i], s, half, qn, qp), s, 0);
}

QT_CLONES static bool quantize_bytes(R *restrict y, uint8_t *restrict q, const R *restrict x, int64_t n, R s, R half, R qn, R qp, int base)
{
    qt_real_bits seen = 0;
    for (int64_t i = 0; i < n; i++) {
        R            code = code_of(x[i], s, half, qn, qp);
        qt_real_bits bits = qt_bits_of_code(code);
        y[i] = qt_value(code, s, 0);
        q[i] = (uint8_t)(bits - (qt_real_bits)base);
        seen |= bits;
    }
    return !qt_bits_nan(seen);
}

static void forward(qt_node *nd)
{
    const arg     *a = nd->arg;
    const qt_grid *g = &a->grid;
    const R       *x = nd->in[0]->data;
    R             *y = nd->out->data;
    uint8_t       *q = g->bytes.q;
    qt_cut         c = qt_cut_of(g->layout, nd->out->n);
    for (int64_t k = 0; q && k < c.count; k++) g->bytes.scale[k] = g->scale[k];
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        const R  s = g->scale[p.k];
        if (!q) quantize(y + p.at, x + p.at, p.n, s, a->half, g->qn, g->qp);
        else if (!quantize_bytes(y + p.at, q + p.at, x + p.at, p.n, s, a->half, g->qn, g->qp, g->bytes.base)) qt_bytes_spoil(&g->bytes, p.k);
    }
}

QT_CLONES static void pass_inside(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t n, const arg *a, R s, bool first)
{
    const R half = a->half, qn = a->grid.qn, qp = a->grid.qp;
    for (int64_t i = 0; i < n; i++) {
        R u = cell(x[i], s, half), d = qt_keep((u >= qn) & (u <= qp), dy[i]);
        dx[i] = first ? d : dx[i] + d;
    }
}

static void backward(const qt_node *nd)
{
    const arg *a = nd->arg;
    const R   *x = nd->in[0]->data, *dy = nd->out->grad;
    R         *dx = nd->in[0]->grad;
    qt_cut     c = qt_cut_of(a->grid.layout, nd->out->n);
    if (!a->grid.mask) qt_pass_backward(nd);
    if (!a->grid.mask || !dx) return;
    const bool first = qt_grad_first(nd->in[0]);
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        pass_inside(dx + p.at, dy + p.at, x + p.at, p.n, a, a->grid.scale[p.k], first);
    }
}

static const qt_op op;

static qt_tensor *emit(qt_tape *t, qt_tensor **in, bool is_signed)
{
    arg a = {{.layout = {8, 6}, .scale = in[1]->data, .mask = true}, is_signed ? (R)0.5 : 0};
    qt_levels(is_signed ? 4 : 3, is_signed, true, &a.grid.qn, &a.grid.qp);
    return QT_EMIT(t, &op, &a, sizeof a, in[0]);
}
static qt_tensor *build_signed(qt_tape *t, qt_tensor **in) { return emit(t, in, true); }
static qt_tensor *build_unsigned(qt_tape *t, qt_tensor **in) { return emit(t, in, false); }

static const qt_case cases[] = {
    {"signed", build_signed, {{{6, 8}, 'n'}, {{6}, 'c'}}}, {"unsigned", build_unsigned, {{{6, 8}, 'n'}, {{6}, 'c'}}}, {0}};

static const qt_op op = {{"aqt", "codes of a static or dynamic bound by floor", "arXiv 2105.03536"}, QT_SURROGATE, qt_grid_shape, forward, backward,
                         .stores = true, .reads = qt_grid_reads, .cases = cases};

/* ---- the bound ------------------------------------------------------------------------------------------------------------------- */

static qt_granularity granularity_of(const cfg *c) { return c->granularity == CHANNEL ? QT_PER_CHANNEL : QT_PER_TENSOR; }
static double         bits(const qt_site *q) { return (double)((const cfg *)q->cfg)->num_bits; }

static qt_err init(qt_site *q)
{
    static const char *const names[] = {"max", "min", "mean_abs", "mean_sq", "bound", "batches"};
    const cfg               *c = q->cfg;
    int64_t                  count;
    if (c->is_signed && c->num_bits < 2) return qt_site_fail(q, "signed codes need num_bits of at least 2");
    QT_TRY(qt_site_count(q, granularity_of(c), &c->axis, 0, &count));
    if (c->bound == DYNAMIC && c->start_step) return qt_site_fail(q, "start_step is for static bounds; schedule.fake_quant_after is for all");
    for (int k = c->bound == DYNAMIC ? BATCHES + 1 : c->bound == FIXED ? BOUND : MAX; k <= BATCHES; k++)
        QT_TRY(qt_site_param(q, k, names[k], QT_BUFFER, k == BATCHES ? 1 : count, k != BOUND ? 0 : c->bound == FIXED ? c->value : -1));
    return QT_OK;
}

static double bound_of(const qt_site *q, int64_t k)
{
    const cfg *c = q->cfg;
    double     abs = (double)q->p[MEAN_ABS]->data[k], sq = (double)q->p[MEAN_SQ]->data[k];
    switch (c->bound) {
    case OF_MAX: return fmax(fabs((double)q->p[MAX]->data[k]), fabs((double)q->p[MIN]->data[k]));
    case OF_ABS: return c->coef * abs;
    case OF_RMS: return c->coef * sqrt(sq);
    default: return abs + c->coef * sqrt(fmax(0, sq - abs * abs));
    }
}

static bool is_set(const qt_site *q) { return q->p[BOUND]->data[0] >= 0; }
/* Batches since the bound was first due: negative before. */
static double overdue(const qt_site *q) { return (double)q->p[BATCHES]->data[0] - 1 - (double)((const cfg *)q->cfg)->start_step; }

/* The tensor stays as it is so far; once observers are frozen it has waited long enough. */
static bool waits(const qt_site *q)
{
    const cfg *c = q->cfg;
    return c->bound != DYNAMIC && c->start_step && overdue(q) < 0 && q->observing;
}

static void observe(qt_tape *t, qt_site *q, const qt_tensor *x)
{
    const cfg *c = q->cfg;
    qt_layout  l;
    if (c->bound == DYNAMIC || (c->bound != FIXED && is_set(q) && c->update_every < 0)) return;
    q->p[BATCHES]->data[0]++;
    if (c->bound == FIXED) return;
    qt_stats s = {q->p[MAX]->data, q->p[MIN]->data, q->p[MEAN_ABS]->data, q->p[MEAN_SQ]->data};
    qt_err   e = qt_site_layout(q, granularity_of(c), &c->axis, 0, x, &l);
    if (e == QT_OK) e = qt_stats_update(&s, x, l, c->ema_constant, c->skip_zeros, &t->arena);
    if (e != QT_OK) qt_tape_fail(t, e);
    else if (!q->bypass && overdue(q) >= 0 && (!is_set(q) || fmod(overdue(q), (double)c->update_every) == 0))
        for (int64_t k = 0; k < l.count; k++) q->p[BOUND]->data[k] = (R)bound_of(q, k);
}

/* ---- the quantizer --------------------------------------------------------------------------------------------------------------- */

static double max_abs(const qt_tensor *x, qt_layout l, int64_t k)
{
    R most = 0;
    for (int64_t b = k * l.inner; b < x->n; b += l.count * l.inner) {
        R m = qt_reduce_max_abs(x->data + b, l.inner);
        most = m > most ? m : most;
    }
    return (double)most;
}

static qt_err arg_of(qt_site *q, const qt_tensor *x, qt_arena *arena, arg *a)
{
    const cfg *c = q->cfg;
    qt_grid   *g = &a->grid;
    *a = (arg){{.mask = c->bound != DYNAMIC, .role = q->role}, c->is_signed ? (R)0.5 : 0};
    qt_levels((int)c->num_bits, c->is_signed, true, &g->qn, &g->qp);
    QT_TRY(qt_site_layout(q, granularity_of(c), &c->axis, 0, x, &g->layout));
    QT_TRY(qt_grid_alloc(arena, g, false));
    if (c->bound != DYNAMIC)
        QT_CHECK(g->layout.count == q->p[BOUND]->n, QT_ESHAPE, "%s: the tensor has %lld channels, the site %lld bounds", q->path,
                 (long long)g->layout.count, (long long)q->p[BOUND]->n);
    if (c->bound != DYNAMIC && c->bound != FIXED && !is_set(q)) /* calibrated, and not trained after that */
        QT_CHECK(q->p[BATCHES]->data[0] > 0, QT_EUSAGE, "%s: the bound is not known yet; train or calibrate before evaluating", q->path);
    for (int64_t k = 0; k < g->layout.count; k++) {
        double bound = c->bound == DYNAMIC ? max_abs(x, g->layout, k) : is_set(q) ? (double)q->p[BOUND]->data[k] : bound_of(q, k);
        g->scale[k] = bound > 0 ? (R)bound / (c->is_signed ? g->qp : g->qp + 1) : 1;
    }
    return QT_OK;
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    arg a = {0};
    if (waits(q)) return x;
    qt_tape_fail(t, arg_of(q, x, &t->arena, &a));
    return QT_EMIT(t, &op, &a, sizeof a, x);
}

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *arena, qt_codes *codes)
{
    arg a;
    *codes = (qt_codes){0};
    if (waits(q)) return QT_OK;
    QT_TRY(qt_codes_check(q, x));
    QT_TRY(arg_of(q, x, arena, &a));
    QT_TRY(qt_codes_new(arena, x->n, a.grid.layout, a.grid.scale, bits(q), codes));
    for (int64_t i = 0; i < x->n; i++) {
        const R s = a.grid.scale[i / a.grid.layout.inner % a.grid.layout.count];
        codes->code[i] = (int32_t)code_of(x->data[i], s, a.half, a.grid.qn, a.grid.qp);
    }
    return QT_OK;
}

const qt_quant qt_quant_aqt = {
    {"aqt", "max-scaled codes, static bounds", "Abdolrashidi et al. 2021, arXiv 2105.03536, section 3", fields, sizeof(cfg)},
    init, observe, apply, .encode = encode, .bits = bits, .monotone = true, .zero_to_zero = true, .op = &op};
