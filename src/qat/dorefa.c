/* DoReFa: weights through tanh onto [-1, 1], activations clipped to [0, 1]; n = 2^b - 1 steps.
 *
 *     weight      v = tanh(w),  m = max|v|,  q = round((v/(2m) + 1/2) n),  y = (2q - n)/n        dw = dy (1 - v^2)/m
 *     weight, b=1 y = sign(w) mean|w|, sign(0) = +1                                              dw = dy
 *     activation  q = round(clip(x, 0, 1) n),  y = q/n                                           dx = dy [0 <= x <= 1]
 *     signs, b=1  weight: y = sign(w) mean|w| of its channel, dw = dy mean|w| [|w| <= 1];  activation: y = sign(x), dx = dy [|x| <= 1]
 *
 * With round() taken as the identity the weight becomes y = v/m; m is a constant for the gradient, and tanh' = 1 - tanh^2. Codes are the
 * odd integers 2q - n (or q, or +-1) with scale 1/n (or mean|w|). Zhou et al. 2016, "DoReFa-Net" (arXiv 1606.06160), eq. 5-11; `signs` is the form in
 * which BiBench compares it (arXiv 2301.11233). Left out: the stochastic quantizer of gradients. */
#include "kernels/reduce.h"
#include "qat/sign.h"
#include <string.h>

typedef struct cfg {
    int64_t num_bits;
    bool    signs;
} cfg;

static const qt_field fields[] = {
    QT_F_INT(cfg, num_bits, "8", 1, 16, "bits of a code"),
    QT_F_BOOL(cfg, signs, "false", "1 bit: activations are signs too, weights have a scale for each channel, both the gradient where |x| <= 1"),
    {0}};

typedef enum kind { WEIGHT, SIGN, ACT } kind;
typedef struct arg {
    kind     kind;
    R        n, m, s; /* levels - 1; max|tanh w|; scale */
    R       *v;       /* WEIGHT: tanh(w) */
    qt_role  role;
    qt_bytes bytes;   /* set by shape */
} arg;

static qt_err init(qt_site *q)
{
    const cfg *c = q->cfg;
    return c->signs && c->num_bits != 1 ? qt_site_fail(q, "signs takes num_bits: 1, found %lld", (long long)c->num_bits) : QT_OK;
}
static double bits(const qt_site *q) { return (double)((const cfg *)q->cfg)->num_bits; }

QT_CLONES static void tanh_of(R *restrict v, const R *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) v[i] = qt_vtanh(x[i]);
}

/* One tensor's constants; v from the arena. */
static qt_err arg_of(const qt_site *q, const qt_tensor *x, qt_arena *arena, arg *a)
{
    const cfg *c = q->cfg;
    a->kind = q->role != QT_ROLE_WEIGHT ? ACT : c->num_bits == 1 ? SIGN : WEIGHT;
    a->role = q->role;
    a->n = (R)((1 << c->num_bits) - 1), a->s = 1 / a->n, a->m = 1;
    if (a->kind == SIGN) a->s = (R)(qt_reduce_sum_abs(x->data, x->n) / (double)x->n);
    if (a->kind != WEIGHT) return QT_OK;
    R *v = a->v = qt_arena_alloc(arena, (size_t)x->n * sizeof(R));
    if (!v) return QT_EMEM;
    QT_FOR_CHUNKS(b, e, x->n, QT_GRAIN) tanh_of(v + b, x->data + b, e - b);
    a->m = qt_reduce_max_abs(v, x->n);
    if (a->m == 0) a->m = 1;
    return QT_OK;
}

/* The code of element i, as a number. For ACT m is 1: a clip to constants would become branches, which mispredict. */
QT_INLINE R code_of(kind k, R n, R m, const R *v, const R *x, int64_t i)
{
    switch (k) {
    case WEIGHT: return 2 * qt_clip(qt_round((v[i] / (2 * m) + (R)0.5) * n), 0, n) - n;
    case SIGN: return 1 - qt_keep(x[i] < 0, 2); /* a NaN makes the scale, the mean magnitude, NaN */
    default: return qt_round(qt_clip(x[i], 0, m) * n) + 0;
    }
}

/* Values of [b, e) and, unless q is NULL, their codes as bytes; false if q holds the code of a NaN. */
QT_INLINE bool run(kind k, R *restrict y, uint8_t *restrict q, const R *restrict v, const R *restrict x, const arg *a, int64_t b, int64_t e)
{
    const R            n = a->n, m = a->m, s = a->s;
    const qt_real_bits base = (qt_real_bits)a->bytes.base;
    qt_real_bits       seen = 0;
    for (int64_t i = b; i < e; i++) {
        R            code = code_of(k, n, m, v, x, i);
        qt_real_bits bits = qt_bits_of_code(code);
        y[i] = qt_value(code, s, 0);
        if (q) q[i] = (uint8_t)(bits - base);
        seen |= bits;
    }
    return !q || !qt_bits_nan(seen);
}

#define RUN(k, v) (q ? run(k, y, q, v, x, a, b, e) : run(k, y, NULL, v, x, a, b, e))
QT_CLONES static bool quantize(R *y, uint8_t *q, const arg *a, const R *x, int64_t b, int64_t e)
{
    switch (a->kind) {
    case WEIGHT: return RUN(WEIGHT, a->v);
    case SIGN: return RUN(SIGN, NULL);
    default: return RUN(ACT, NULL);
    }
}

/* dx += dy dy/dx */
QT_CLONES static void pass(R *restrict dx, const R *restrict dy, const R *restrict x, const arg *a, int64_t b, int64_t e)
{
    const R *restrict v = a->v;
    const R m = a->m;
    if (a->kind == WEIGHT)
        for (int64_t i = b; i < e; i++) dx[i] += dy[i] * (1 - v[i] * v[i]) / m;
    else
        for (int64_t i = b; i < e; i++) dx[i] += qt_keep((x[i] >= 0) & (x[i] <= 1), dy[i]);
}

/* ---- the op ---------------------------------------------------------------------------------------------------------------------- */

static qt_err shape(qt_node *nd)
{
    arg *a = nd->arg;
    R    qp = a->kind == SIGN ? 1 : a->n;
    QT_TRY(qt_node_out_like(nd, nd->in[0]));
    if (a->kind == SIGN) qt_pass_shape(nd);
    const qt_layout l = {nd->out->n, 1};
    return a->kind == SIGN ? qt_bytes_attach_signs(nd, a->role, l, &a->bytes)
                           : qt_bytes_attach(nd, a->role, l, a->kind == ACT ? 0 : -qp, qp, NULL, &a->bytes);
}

static void forward(qt_node *nd)
{
    const arg *a = nd->arg;
    const R   *x = nd->in[0]->data;
    R         *y = nd->out->data;
    uint8_t   *q = a->bytes.q;
    if (q) a->bytes.scale[0] = a->s;
    QT_FOR_CHUNKS(b, e, nd->out->n, QT_GRAIN)
        if (!quantize(y, q, a, x, b, e)) qt_bytes_spoil(&a->bytes, 0);
}

static uint32_t reads(const qt_node *nd) { return ((const arg *)nd->arg)->kind == SIGN ? 0 : QT_READS(1); }

static void backward(const qt_node *nd)
{
    const arg *a = nd->arg;
    const R   *x = nd->in[0]->data, *dy = nd->out->grad;
    R         *dx = nd->in[0]->grad;
    if (a->kind == SIGN) qt_pass_backward(nd);
    if (a->kind == SIGN || !dx) return;
    if (qt_grad_first(nd->in[0])) memset(dx, 0, (size_t)nd->out->n * sizeof *dx);
    QT_FOR_CHUNKS(b, e, nd->out->n, QT_GRAIN) pass(dx, dy, x, a, b, e);
}

static const qt_op op;

static bool signs(const qt_site *q) { return ((const cfg *)q->cfg)->signs; }

static qt_err sign_of(const qt_site *q, const qt_tensor *x, qt_arena *a, qt_sign *s)
{
    *s = (qt_sign){.surrogate = QT_STE};
    return q->role == QT_ROLE_WEIGHT ? qt_sign_means(q, QT_PER_CHANNEL, NULL, x, a, s) : qt_sign_unit(x, a, s);
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    arg a = {0};
    if (signs(q)) return qt_sign_apply(t, q, x, sign_of);
    qt_tape_fail(t, arg_of(q, x, &t->arena, &a));
    return QT_EMIT(t, &op, &a, sizeof a, x);
}

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *arena, qt_codes *codes)
{
    arg a = {0};
    if (signs(q)) return qt_sign_encode(q, sign_of, x, arena, codes);
    R  *s = qt_arena_alloc(arena, sizeof *s);
    if (!s) return QT_EMEM;
    QT_TRY(qt_codes_check(q, x));
    QT_TRY(arg_of(q, x, arena, &a));
    *s = a.s;
    QT_TRY(qt_codes_new(arena, x->n, (qt_layout){x->n, 1}, s, bits(q), codes));
    for (int64_t i = 0; i < x->n; i++) codes->code[i] = (int32_t)code_of(a.kind, a.n, a.m, a.v, x->data, i);
    return QT_OK;
}

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    arg a = {.kind = ACT, .n = 15, .m = 1, .s = (R)1 / 15, .role = QT_ROLE_ACT};
    return QT_EMIT(t, &op, &a, sizeof a, in[0]);
}

static const qt_case cases[] = {{"act", build, {{{6, 8}, 'n'}}}, {0}};

static const qt_op op = {
    {"dorefa", "tanh for weights, clip for activations", "arXiv 1606.06160"}, QT_SURROGATE, shape, forward, backward, .stores = true,
    .reads = reads, .cases = cases};

const qt_quant qt_quant_dorefa = {
    {"dorefa", "weights through tanh, activations clipped to [0, 1]", "Zhou et al. 2016, arXiv 1606.06160, eq. 5-11", fields, sizeof(cfg)},
    init, NULL, apply, .encode = encode, .bits = bits, .monotone = true, .op = &op};
