/* Binary: the sign times the mean magnitude.
 *
 *     s = mean|x| (of the tensor or the channel),   y = sign(x) s  with sign(0) = +1,      dx = dy [|x| <= 1]   (clip), or dy (identity)
 *
 * s is a constant for the gradient; sign has derivative 0 almost everywhere, and the straight-through estimator takes that of
 * clamp(x, -1, 1), so that weights far out stop moving. Rastegari et al. 2016, "XNOR-Net" (arXiv 1603.05279), eq. 6; Courbariaux et al. 2016
 * (arXiv 1602.02830), eq. 4, for the mask. Left out: the gradient through s. */
#include "kernels/reduce.h"
#include "qat/grid.h"
#include <string.h>

typedef struct cfg {
    int     granularity, ste;
    qt_ints axis;
} cfg;
enum { TENSOR, CHANNEL };
enum { CLIP, IDENTITY };

static const qt_field fields[] = {
    QT_F_ENUM(cfg, granularity, "tensor", "tensor|channel", "what shares a scale"),
    QT_F_INTS(cfg, axis, "[]", -QT_MAX_DIM, QT_MAX_DIM - 1, "channel axis; negative counts from the last; default: the layer's"),
    QT_F_ENUM(cfg, ste, "clip", "clip|identity", "gradient: 0 where |x| > 1, or passed on everywhere"),
    {0}};

typedef struct arg {
    qt_layout layout;
    R        *scale;
    bool      clip;
    qt_role   role;
    qt_bytes  bytes; /* set by shape */
} arg;

static qt_granularity granularity_of(const cfg *c) { return c->granularity == CHANNEL ? QT_PER_CHANNEL : QT_PER_TENSOR; }

static qt_err init(qt_site *q)
{
    const cfg *c = q->cfg;
    int64_t    count;
    return qt_site_count(q, granularity_of(c), &c->axis, 0, &count); /* checks the axis */
}

/* Mean magnitude of each scale: run by run, the runs of a scale in order. */
static qt_err arg_of(const qt_site *q, const qt_tensor *x, qt_arena *a, arg *g)
{
    const cfg *c = q->cfg;
    g->clip = c->ste == CLIP, g->role = q->role;
    QT_TRY(qt_site_layout(q, granularity_of(c), &c->axis, 0, x, &g->layout));
    int64_t inner = g->layout.inner, count = g->layout.count;
    if (!(g->scale = qt_arena_alloc(a, (size_t)count * sizeof(R)))) return QT_EMEM;
    QT_FOR_EACH(k, count, count > 1 && x->n > QT_GRAIN) {
        double sum = 0;
        for (int64_t b = k * inner; b < x->n; b += count * inner) sum += qt_reduce_sum_abs(x->data + b, inner);
        g->scale[k] = (R)(sum / (double)(x->n / count));
    }
    return QT_OK;
}

/* -1 or +1. A NaN needs no care: it makes the mean magnitude NaN, and so the scale and all of y. */
static inline R sign(R x) { return 1 - qt_keep(x < 0, 2); }

QT_CLONES static void quantize(R *restrict y, const R *restrict x, int64_t n, R s)
{
    for (int64_t i = 0; i < n; i++) y[i] = qt_value(sign(x[i]), s, 0);
}

QT_CLONES static void quantize_bytes(R *restrict y, uint8_t *restrict q, const R *restrict x, int64_t n, R s, int base)
{
    for (int64_t i = 0; i < n; i++) {
        R code = sign(x[i]);
        y[i] = qt_value(code, s, 0);
        q[i] = (uint8_t)(qt_bits_of_code(code) - (qt_real_bits)base);
    }
}

QT_CLONES static void pass_inside(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t n, bool first)
{
    if (first)
        for (int64_t i = 0; i < n; i++) dx[i] = qt_keep((x[i] >= -1) & (x[i] <= 1), dy[i]);
    else
        for (int64_t i = 0; i < n; i++) dx[i] += qt_keep((x[i] >= -1) & (x[i] <= 1), dy[i]);
}

static qt_err shape(qt_node *nd)
{
    arg *g = nd->arg;
    QT_TRY(qt_node_out_like(nd, nd->in[0]));
    if (!g->clip) qt_pass_shape(nd);
    return qt_bytes_attach(nd, g->role, g->layout, -1, 1, NULL, &g->bytes);
}

static void forward(qt_node *nd)
{
    const arg *g = nd->arg;
    const R   *x = nd->in[0]->data;
    R         *y = nd->out->data;
    uint8_t   *q = g->bytes.q;
    qt_cut     c = qt_cut_of(g->layout, nd->out->n);
    if (q) memcpy(g->bytes.scale, g->scale, (size_t)c.count * sizeof(R));
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        if (q) quantize_bytes(y + p.at, q + p.at, x + p.at, p.n, g->scale[p.k], g->bytes.base);
        else quantize(y + p.at, x + p.at, p.n, g->scale[p.k]);
    }
}

static uint32_t reads(const qt_node *nd) { return ((const arg *)nd->arg)->clip ? QT_READS(1) : 0; }

static void backward(const qt_node *nd)
{
    const arg *g = nd->arg;
    const R   *x = nd->in[0]->data, *dy = nd->out->grad;
    R         *dx = nd->in[0]->grad;
    if (!g->clip) qt_pass_backward(nd);
    if (!g->clip || !dx) return;
    const bool first = qt_grad_first(nd->in[0]);
    QT_FOR_CHUNKS(b, e, nd->out->n, QT_GRAIN) pass_inside(dx + b, dy + b, x + b, e - b, first);
}

static const qt_op op;

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    arg g = {0};
    qt_tape_fail(t, arg_of(q, x, &t->arena, &g));
    return QT_EMIT(t, &op, &g, sizeof g, x);
}

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    arg g = {0};
    QT_TRY(qt_codes_check(q, x));
    QT_TRY(arg_of(q, x, a, &g));
    QT_TRY(qt_codes_new(a, x->n, g.layout, g.scale, 1, codes));
    for (int64_t i = 0; i < x->n; i++) codes->code[i] = x->data[i] < 0 ? -1 : 1;
    return QT_OK;
}

static double bits(const qt_site *q) { return (void)q, 1; }

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    arg g = {.layout = {8, 6}, .scale = in[1]->data, .clip = true};
    return QT_EMIT(t, &op, &g, sizeof g, in[0]);
}

static const qt_case cases[] = {{"channel", build, {{{6, 8}, 'n'}, {{6}, 'c'}}}, {0}};

static const qt_op op = {
    {"binary", "two levels, gradient through where |x| <= 1", "arXiv 1603.05279"}, QT_SURROGATE, shape, forward, backward, .stores = true,
    .reads = reads, .cases = cases};

const qt_quant qt_quant_binary = {
    {"binary", "sign times mean magnitude", "Rastegari et al. 2016, arXiv 1603.05279, eq. 6", fields, sizeof(cfg)},
    init, NULL, apply, .encode = encode, .bits = bits, .monotone = true, .op = &op};
