/* Integers with the largest magnitude as scale, for each token or for the whole tensor: the activations of BitNet b1.58.
 *
 *     s = max(max|x|, 1e-5) / range,   code = clamp(round(x/s), -2^(b-1), 2^(b-1)-1),   y = code s,      dx = dy
 *
 * Always dynamic: no state. The gradient is the identity: s is taken as a constant, and with range 127 nothing is clipped (with 128 the
 * largest value is, by one step). Ma et al. 2024, "The Era of 1-bit LLMs" (arXiv 2402.17764), eq. 4-5, uses range 127; Nielsen and
 * Schneider-Kamp 2024 (arXiv 2407.09527) use 128. Left out: asymmetric tokens. */
#include "kernels/reduce.h"
#include "qat/grid.h"
#include <string.h>

typedef struct cfg {
    int64_t num_bits, range;
    int     granularity;
} cfg;
enum { TOKEN, TENSOR };

static const qt_field fields[] = {
    QT_F_INT(cfg, num_bits, "8", 2, 16, "bits of a code"),
    QT_F_ENUM(cfg, granularity, "token", "token|tensor", "what shares a scale"),
    QT_F_INT(cfg, range, "127", 1, 1 << 15, "code that the largest magnitude stands for: 127 or 128, for b bits 2^(b-1)-1 or 2^(b-1)"),
    {0}};

/* 127 and 128 name the two choices for any number of bits. */
static qt_err init(qt_site *q)
{
    cfg    *c = q->cfg;
    int64_t top = (int64_t)1 << (c->num_bits - 1);
    if (c->range == 127 || c->range == 128) c->range = top - (c->range == 127);
    if (c->range != top && c->range != top - 1)
        return qt_site_fail(q, "range %lld does not suit %lld bits; it may be %lld or %lld", (long long)c->range, (long long)c->num_bits,
                            (long long)top - 1, (long long)top);
    return QT_OK;
}

typedef struct arg {
    qt_grid grid; /* its scales are set by forward */
    R       range;
} arg;

static qt_err arg_of(const qt_site *q, const qt_tensor *x, arg *a)
{
    const cfg *c = q->cfg;
    *a = (arg){{.role = q->role}, (R)c->range};
    qt_levels((int)c->num_bits, true, false, &a->grid.qn, &a->grid.qp);
    return qt_site_layout(q, c->granularity == TOKEN ? QT_PER_TOKEN : QT_PER_TENSOR, NULL, 0, x, &a->grid.layout);
}

/* ---- the op ---------------------------------------------------------------------------------------------------------------------- */

/* Without its sign bit a float orders as an integer, NaN above infinity: a NaN makes the scale NaN, and with it all of its token. */
QT_CLONES static R max_abs(const R *x, int64_t n)
{
    qt_real_bits most = 0;
    R            m;
    for (int64_t i = 0; i < n; i++) {
        qt_real_bits b;
        memcpy(&b, &x[i], sizeof b);
        b &= ~((qt_real_bits)1 << (8 * sizeof b - 1));
        most = b > most ? b : most;
    }
    memcpy(&m, &most, sizeof m);
    return m;
}

static R scale_of(const arg *a, R m) { return (m < (R)1e-5 ? (R)1e-5 : m) / a->range; }

static qt_err shape(qt_node *nd)
{
    arg *a = nd->arg;
    QT_TRY(qt_grid_alloc(&nd->tape->arena, &a->grid, false));
    return qt_grid_shape(nd);
}

/* One visit of each token: its second reading finds it in the cache. */
static void forward(qt_node *nd)
{
    const arg     *a = nd->arg;
    const qt_grid *g = &a->grid;
    const R       *x = nd->in[0]->data;
    const int64_t  inner = g->layout.inner, count = g->layout.count;
    if (count == 1) {
        g->scale[0] = scale_of(a, qt_reduce_max_abs(x, inner));
        qt_grid_forward(nd);
        return;
    }
    QT_FOR_EACH(k, count, nd->out->n > QT_GRAIN) {
        R        s = g->scale[k] = scale_of(a, max_abs(x + k * inner, inner));
        uint8_t *q = g->bytes.q ? g->bytes.q + k * inner : NULL;
        qt_quantize_run(nd->out->data + k * inner, q, x + k * inner, inner, s, 0, g->qn, g->qp, g->bytes.base);
        if (q) g->bytes.scale[k] = s;
    }
}

static const qt_op op;

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    arg a = {0};
    qt_tape_fail(t, arg_of(q, x, &a));
    return QT_EMIT(t, &op, &a, sizeof a, x);
}

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *arena, qt_codes *codes)
{
    arg a;
    QT_TRY(arg_of(q, x, &a));
    QT_TRY(qt_grid_alloc(arena, &a.grid, false));
    const int64_t inner = a.grid.layout.inner;
    QT_FOR_EACH(k, a.grid.layout.count, x->n > QT_GRAIN) a.grid.scale[k] = scale_of(&a, max_abs(x->data + k * inner, inner));
    return qt_grid_encode(q, &a.grid, x, arena, (double)((const cfg *)q->cfg)->num_bits, codes);
}

static double bits(const qt_site *q) { return (double)((const cfg *)q->cfg)->num_bits; }

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    arg a = {{.layout = {8, 6}, .qn = -128, .qp = 127, .role = QT_ROLE_ACT}, 127};
    return QT_EMIT(t, &op, &a, sizeof a, in[0]);
}

static const qt_case cases[] = {{"token", build, {{{6, 8}, 'n'}}}, {0}};

static const qt_op op = {
    {"int", "grid scaled by the largest magnitude, gradient passed on", "arXiv 2402.17764"}, QT_SURROGATE, shape, forward, qt_grid_backward,
    .stores = true, .reads = qt_grid_reads, .cases = cases};

const qt_quant qt_quant_int = {
    {"int", "integers with the largest magnitude of each token (or of the tensor) as scale, identity gradient",
     "Ma et al. 2024, arXiv 2402.17764, eq. 4", fields, sizeof(cfg)},
    init, NULL, apply, .encode = encode, .bits = bits, .monotone = true, .zero_to_zero = true, .op = &op};
