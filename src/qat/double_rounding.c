/* Double rounding: one stored integer of h bits that serves lower bits by a rounding shift. With one step s > 0, D = h - l, and n_b..p_b the
 * signed codes of b bits:
 *
 *     q_h = clamp(round(x/s), n_h, p_h)                          what is stored
 *     q_l = clamp(floor((q_h + 2^(D-1)) / 2^D), n_l, p_l)        the shift (q_h + 2^(D-1)) >> D, for l < h
 *     y   = q_l s_l,   s_l = 2^D s
 *
 * so the step of l bits is that of h bits times a power of two, and |y - x| <= s_l/2 + s/2 inside the range. Backward is that of a learned
 * step (lsq.c) at s_l, with v = x/s_l and the chain rule through s_l = 2^D s:
 *
 *     dx = dy [n_l < v < p_l],     ds = 2^D sum dy { round(v) - v inside,  n_l below,  p_l above }
 *
 * so gradients of s grow by a power of two as the bits fall, which is what the `alrs` of the stepper `precisions` is about. No gradient scale
 * is applied. s starts at max|x| / p_h. mode: floor is the baseline q_l = q_h >> D of AdaBits and Bit-Mixer, which shifts every number down
 * by about half a step.
 *
 * Huang et al. 2025, "Nearly Lossless Adaptive Bit Switching", arXiv 2502.01199, section 3.1. Made for weights; activations, which are
 * not stored, take lsq with a list of bits. */
#include "qat/double_rounding.h"
#include "ops/inner.h"
#include "qat/observer.h"
#include "qat/steps.h"

enum { SCALE, INITIALIZED }; /* parameters */

typedef struct cfg {
    qt_ints bits, axis;
    int     granularity, mode;
} cfg;
enum { TENSOR, CHANNEL };
enum { DOUBLE, FLOOR };

static const qt_field fields[] = {
    QT_F_INTS(cfg, bits, "[8, 6, 4, 2]", 2, 16, "what the site can be switched to, highest first: that one is stored"),
    QT_F_ENUM(cfg, mode, "double", "double|floor", "lower bits by a rounding shift of the stored integer, or by one that rounds down"),
    QT_F_ENUM(cfg, granularity, "tensor", "tensor|channel", "what shares a step"),
    QT_F_INTS(cfg, axis, "[]", -QT_MAX_DIM, QT_MAX_DIM - 1, "channel axis; negative counts from the last; default: the layer's"),
    {0}};

typedef struct arg {
    qt_grid grid;   /* of l bits; its scales are set by shape */
    R       nh, ph; /* codes of h bits */
    R       half;   /* 2^(D-1), or 0 */
    R       step;   /* 2^D */
} arg;

/* ---- the op: in[0] is x, in[1] the steps s ------------------------------------------------------------------------------------------ */

/* All terms are integers below 2^24 and powers of two, so nothing is rounded but x/s. */
static inline R code(R x, R s, const arg *a)
{
    return qt_clip(qt_floor((qt_code(x, s, 0, a->nh, a->ph) + a->half) / a->step), a->grid.qn, a->grid.qp);
}

QT_CLONES static bool quantize(R *restrict y, uint8_t *restrict q, const R *restrict x, int64_t n, R s, const arg *given, int base)
{
    const arg    a = *given;
    const R      sl = s * a.step;
    qt_real_bits seen = 0;
    if (!q) {
        for (int64_t i = 0; i < n; i++) y[i] = qt_value(code(x[i], s, &a), sl, 0);
        return true;
    }
    for (int64_t i = 0; i < n; i++) {
        R            c = code(x[i], s, &a);
        qt_real_bits bits = qt_bits_of_code(c);
        y[i] = qt_value(c, sl, 0);
        q[i] = (uint8_t)(bits - (qt_real_bits)base);
        seen |= bits;
    }
    return !qt_bits_nan(seen);
}

QT_CLONES static double gradients(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t n, R s, R qn, R qp, qt_step_dx mode)
{
    switch (mode) {
    case QT_DX_STORE: return qt_step_run(dx, dy, x, n, s, 0, qn, qp, QT_DX_STORE, false).ds;
    case QT_DX_ADD: return qt_step_run(dx, dy, x, n, s, 0, qn, qp, QT_DX_ADD, false).ds;
    default: return qt_step_run(NULL, dy, x, n, s, 0, qn, qp, QT_DX_NONE, false).ds;
    }
}

/* s_l of each scale. */
static qt_err set_scales(const R *s, qt_arena *arena, arg *a)
{
    QT_TRY(qt_step_grid(s, arena, &a->grid));
    for (int64_t k = 0; k < a->grid.layout.count; k++) a->grid.scale[k] *= a->step;
    return QT_OK;
}

static qt_err shape(qt_node *nd)
{
    arg   *a = nd->arg;
    qt_cut c = qt_cut_of(a->grid.layout, nd->in[0]->n);
    QT_TRY(set_scales(nd->in[1]->data, &nd->tape->arena, a));
    QT_TRY(qt_grid_shape(nd));
    return qt_wants_grad(nd->out) ? qt_node_save(nd, (size_t)c.pieces * sizeof(double)) : QT_OK; /* partial sums of ds */
}

static void forward(qt_node *nd)
{
    const arg     *a = nd->arg;
    const qt_grid *g = &a->grid;
    const R       *x = nd->in[0]->data;
    R             *y = nd->out->data;
    uint8_t       *q = g->bytes.q;
    qt_cut         c = qt_cut_of(g->layout, nd->out->n);
    if (q) memcpy(g->bytes.scale, g->scale, (size_t)c.count * sizeof(R));
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        bool     numbers = quantize(y + p.at, q ? q + p.at : NULL, x + p.at, p.n, qt_step_guard(nd->in[1]->data[p.k]), a, g->bytes.base);
        if (!numbers) qt_bytes_spoil(&g->bytes, p.k);
    }
}

static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS(3); }

static void backward(const qt_node *nd)
{
    const arg     *a = nd->arg;
    const qt_grid *g = &a->grid;
    const R       *x = nd->in[0]->data, *dy = nd->out->grad;
    R             *dx = nd->in[0]->grad;
    double        *partial = nd->saved;
    qt_cut         c = qt_cut_of(g->layout, nd->out->n);
    qt_step_dx     mode = qt_step_mode(nd->in[0]);
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        partial[j] = gradients(dx ? dx + p.at : NULL, dy + p.at, x + p.at, p.n, g->scale[p.k], g->qn, g->qp, mode);
    }
    qt_step_add(nd->in[1], &c, partial, (double)a->step);
}

static const qt_op op;

/* h bits to l, rounding or not. */
static arg arg_from(int h, int l, bool rounds)
{
    const int D = h - l;
    arg       a = {.grid.mask = true, .half = rounds && D ? (R)(1 << (D - 1)) : 0, .step = (R)(1 << D)};
    qt_levels(h, true, false, &a.nh, &a.ph);
    qt_levels(l, true, false, &a.grid.qn, &a.grid.qp);
    return a;
}

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    arg a = arg_from(6, 3, true);
    a.grid.layout = (qt_layout){8, 6};
    return QT_EMIT(t, &op, &a, sizeof a, in[0], in[1]);
}

static const qt_case cases[] = {{"channel", build, {{{6, 8}, 'n'}, {{6}, 'p'}}}, {0}};

static const qt_op op = {{"double_rounding", "codes of few bits by a rounding shift of those of many", "arXiv 2502.01199"}, QT_SURROGATE, shape, forward,
                         backward, .stores = true, .reads = reads, .cases = cases};

/* ---- the quantizer --------------------------------------------------------------------------------------------------------------- */

static qt_granularity granularity_of(const cfg *c) { return c->granularity == CHANNEL ? QT_PER_CHANNEL : QT_PER_TENSOR; }

static qt_err init(qt_site *q)
{
    const cfg *c = q->cfg;
    int64_t    count;
    QT_TRY(qt_site_bits_check(q, "bits", &c->bits, 2, 16));
    QT_TRY(qt_site_count(q, granularity_of(c), &c->axis, 0, &count));
    QT_TRY(qt_site_param(q, SCALE, "scale", QT_QUANT, count, 1));
    return qt_site_param(q, INITIALIZED, "initialized", QT_BUFFER, 1, 0);
}

/* The first steps: nothing is clipped. */
static void start(qt_site *q, const qt_tensor *x, qt_layout l, R ph)
{
    R *s = q->p[SCALE]->data, lo, hi;
    for (int64_t k = 0; k < l.count; k++) {
        qt_scale_min_max(x->data, x->n, l, k, &lo, &hi);
        R most = -lo > hi ? -lo : hi;
        s[k] = (most > 0 ? most : 1) / ph;
    }
    q->p[INITIALIZED]->data[0] = 1;
}

static int bits_now(const qt_site *q)
{
    const cfg *c = q->cfg;
    return (int)c->bits.v[qt_site_bits_row(q, &c->bits)];
}

/* A weight can start at any time; an activation only in training or calibration. */
static qt_err ready(qt_site *q, const qt_tensor *x, bool train, arg *a)
{
    const cfg *c = q->cfg;
    *a = arg_from((int)c->bits.v[0], bits_now(q), c->mode == DOUBLE);
    a->grid.role = q->role;
    QT_TRY(qt_site_layout(q, granularity_of(c), &c->axis, 0, x, &a->grid.layout));
    QT_CHECK(a->grid.layout.count == q->p[SCALE]->n, QT_ESHAPE, "%s: the tensor has %lld channels, the site %lld steps", q->path,
             (long long)a->grid.layout.count, (long long)q->p[SCALE]->n);
    if (q->p[INITIALIZED]->data[0] != 0) return QT_OK;
    if (!train && q->role != QT_ROLE_WEIGHT)
        return qt_fail(QT_EUSAGE, "%s: the step is not known yet; train or calibrate before evaluating", q->path);
    return start(q, x, a->grid.layout, a->ph), QT_OK;
}

static void observe(qt_tape *t, qt_site *q, const qt_tensor *x)
{
    arg a;
    qt_tape_fail(t, ready(q, x, true, &a));
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    arg a = {0};
    qt_tape_fail(t, ready(q, x, t->train, &a));
    return QT_EMIT(t, &op, &a, sizeof a, x, q->p[SCALE]);
}

static void after_step(qt_site *q, int64_t step) { (void)step, qt_steps_guard(q->p[SCALE]); }

static int    precisions(const qt_site *q, qt_precision *list) { return qt_site_bits_list(&((const cfg *)q->cfg)->bits, list); }
static double bits(const qt_site *q) { return (double)bits_now(q); }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *arena, qt_codes *codes)
{
    const cfg *c = q->cfg;
    const int  h = (int)c->bits.v[0], D = h - bits_now(q);
    arg        a;
    qt_grid    stored;
    QT_TRY(ready(q, x, false, &a));
    stored = a.grid, stored.qn = a.nh, stored.qp = a.ph;
    QT_TRY(qt_step_grid(q->p[SCALE]->data, arena, &stored));
    QT_TRY(set_scales(q->p[SCALE]->data, arena, &a));
    QT_TRY(qt_grid_encode(q, &stored, x, arena, bits(q), codes));
    codes->scale = a.grid.scale;
    for (int64_t i = 0; i < codes->n; i++) codes->code[i] = qt_code_shift(codes->code[i], D, c->mode == DOUBLE, (int)a.grid.qn, (int)a.grid.qp);
    return QT_OK;
}

bool qt_codes_switch(const qt_site *q, int bits, int64_t n, const int8_t *in, int8_t *out, R *factor)
{
    const cfg *c = q->cfg;
    const int  D = q->quant == &qt_quant_double_rounding ? (int)c->bits.v[0] - bits : -1, top = 1 << (bits - 1);
    bool       has = false;
    for (int i = 0; D >= 0 && i < c->bits.n; i++) has |= c->bits.v[i] == bits;
    if (!has) return false;
    for (int64_t i = 0; i < n; i++) out[i] = (int8_t)qt_code_shift(in[i], D, c->mode == DOUBLE, -top, top - 1);
    *factor = (R)(1 << D);
    return true;
}

const qt_quant qt_quant_double_rounding = {
    {"double_rounding", "one stored integer for several bits, switched by a rounding shift", "Huang et al. 2025, arXiv 2502.01199, section 3.1", fields,
     sizeof(cfg)},
    init, observe, apply, .after_step = after_step, .encode = encode, .bits = bits, .precisions = precisions, .idempotent = true, .monotone = true,
    .zero_to_zero = true, .op = &op};
