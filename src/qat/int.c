/* Integers with the largest magnitude as scale, for each token or for the whole tensor: the activations of BitNet b1.58.
 *
 *     s = max(max|x|, 1e-5) / range,   code = clamp(round(x/s), -2^(b-1), 2^(b-1)-1),   y = code s,      dx = dy
 *
 * Always dynamic: no state. The gradient is the identity: s is taken as a constant, and with range 127 nothing is clipped (with 128 the
 * largest value is, by one step). Ma et al. 2024, "The Era of 1-bit LLMs" (arXiv 2402.17764), eq. 4-5, uses range 127; Nielsen and
 * Schneider-Kamp 2024 (arXiv 2407.09527) use 128. Left out: asymmetric tokens. */
#include "qat/observer.h"

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

static qt_err grid_of(const qt_site *q, const qt_tensor *x, qt_arena *a, qt_grid *g)
{
    const cfg     *c = q->cfg;
    qt_granularity granularity = c->granularity == TOKEN ? QT_PER_TOKEN : QT_PER_TENSOR;
    *g = (qt_grid){.mask = false, .role = q->role};
    qt_levels((int)c->num_bits, true, false, &g->qn, &g->qp);
    QT_TRY(qt_site_layout(q, granularity, NULL, 0, x, &g->layout));
    QT_TRY(qt_grid_alloc(a, g, false));
    QT_FOR_EACH(k, g->layout.count, x->n > QT_GRAIN && g->layout.count > 1) {
        R lo, hi, m = (R)1e-5;
        qt_scale_min_max(x->data, x->n, g->layout, k, &lo, &hi);
        m = hi > m ? hi : m;
        g->scale[k] = (-lo > m ? -lo : m) / (R)c->range;
    }
    return QT_OK;
}

static const qt_op op;

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    qt_grid g = {0};
    qt_tape_fail(t, grid_of(q, x, &t->arena, &g));
    return QT_EMIT(t, &op, &g, sizeof g, x);
}

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    qt_grid g;
    QT_TRY(grid_of(q, x, a, &g));
    return qt_grid_encode(q, &g, x, a, (double)((const cfg *)q->cfg)->num_bits, codes);
}

static double bits(const qt_site *q) { return (double)((const cfg *)q->cfg)->num_bits; }

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    qt_grid g = {.layout = {8, 6}, .qn = -128, .qp = 127, .scale = in[1]->data};
    return QT_EMIT(t, &op, &g, sizeof g, in[0]);
}

static const qt_case cases[] = {{"token", build, {{{6, 8}, 'n'}, {{6}, 'c'}}}, {0}};

static const qt_op op = {
    {"int", "grid without zero point, gradient passed on", "arXiv 2402.17764"}, QT_SURROGATE, qt_grid_shape, qt_grid_forward, qt_grid_backward,
    .cases = cases};

const qt_quant qt_quant_int = {
    {"int", "integers with the largest magnitude of each token (or of the tensor) as scale, identity gradient",
     "Ma et al. 2024, arXiv 2402.17764, eq. 4", fields, sizeof(cfg)},
    init, NULL, apply, .encode = encode, .bits = bits, .monotone = true, .zero_to_zero = true, .op = &op};
