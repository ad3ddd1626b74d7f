/* Integers of b bits over groups of weights with a real zero point: the base that QA-LoRA merges its adapter into.
 *
 *     s = (max - min) / (2^b - 1),   z = -min / s,   q = clamp(round(w/s + z), 0, 2^b - 1),   y = (q - z) s,      dw = dy
 *
 * over each group of group_size weights along a row. z is not rounded, so the ends of the range are met exactly, and any number that is added
 * to all weights of a group can go into z: y + d = (q - (z - d/s)) s. That is what an adapter's merge does (nn/lora.c). A group whose weights
 * are all the same has s = 1, q = 0. The gradient is the identity.
 *
 * Xu et al. 2023, "QA-LoRA" (arXiv 2309.14717), section 3. Left out: GPTQ's choice of q, which the paper's code uses. */
#include "qat/grid.h"

typedef struct cfg {
    int64_t num_bits, group_size;
} cfg;

static const qt_field fields[] = {
    QT_F_INT(cfg, num_bits, "4", 1, 8, "bits of a code"),
    QT_F_INT(cfg, group_size, "32", 1, 1 << 30, "weights of a row that share a scale and a zero point"),
    {0}};

typedef struct grid {
    qt_layout layout;
    R         qp, *scale, *zero;
} grid;

static qt_err init(qt_site *q)
{
    int64_t count;
    return qt_site_count(q, QT_PER_GROUP, NULL, ((const cfg *)q->cfg)->group_size, &count);
}

QT_CLONES static void fit(const R *x, int64_t n, R qp, R *s, R *z)
{
    R lo = x[0], hi = x[0];
    for (int64_t i = 1; i < n; i++) lo = x[i] < lo ? x[i] : lo, hi = x[i] > hi ? x[i] : hi;
    *s = (hi - lo) / qp;
    if (!(*s > 0)) *s = 1;
    *z = -lo / *s;
}

static qt_err grid_of(const qt_site *q, const qt_tensor *x, qt_arena *a, grid *g)
{
    const cfg *c = q->cfg;
    *g = (grid){.qp = (R)((1 << c->num_bits) - 1)};
    QT_TRY(qt_site_layout(q, QT_PER_GROUP, NULL, c->group_size, x, &g->layout));
    size_t n = (size_t)g->layout.count * sizeof(R);
    if (!(g->scale = qt_arena_alloc(a, n)) || !(g->zero = qt_arena_alloc(a, n))) return QT_EMEM;
    QT_FOR_EACH(k, g->layout.count, x->n > QT_GRAIN) fit(x->data + k * g->layout.inner, g->layout.inner, g->qp, &g->scale[k], &g->zero[k]);
    return QT_OK;
}

/* ---- the op ------------------------------------------------------------------------------------------------------------------------ */

static inline R code_of(R x, R s, R z, R qp) { return qt_clip(qt_round(x / s + z), 0, qp); }

QT_CLONES static void quantize(R *restrict y, const R *restrict x, int64_t n, R s, R z, R qp)
{
    for (int64_t i = 0; i < n; i++) y[i] = qt_value(code_of(x[i], s, z, qp), s, z);
}

static qt_err shape(qt_node *nd)
{
    QT_TRY(qt_node_out_like(nd, nd->in[0]));
    qt_pass_shape(nd);
    return QT_OK;
}

static void forward(qt_node *nd)
{
    const grid *g = nd->arg;
    const R    *x = nd->in[0]->data;
    R          *y = nd->out->data;
    qt_cut      c = qt_cut_of(g->layout, nd->out->n);
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        quantize(y + p.at, x + p.at, p.n, g->scale[p.k], g->zero[p.k], g->qp);
    }
}

static const qt_op op;

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    grid g = {0};
    qt_tape_fail(t, grid_of(q, x, &t->arena, &g));
    return QT_EMIT(t, &op, &g, sizeof g, x);
}

static double  bits(const qt_site *q) { return (double)((const cfg *)q->cfg)->num_bits; }
static int64_t zero_group(const qt_site *q) { return ((const cfg *)q->cfg)->group_size; }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    grid g;
    QT_TRY(qt_codes_check(q, x));
    QT_TRY(grid_of(q, x, a, &g));
    for (int64_t k = 0; k < g.layout.count; k++)
        QT_CHECK(isfinite(g.scale[k]) && isfinite(g.zero[k]), QT_EDATA, "%s: group %lld holds a number that is not finite", q->path, (long long)k);
    QT_TRY(qt_codes_new(a, x->n, g.layout, g.scale, bits(q), codes));
    codes->zero_point = g.zero, codes->real_zero = true;
    for (int64_t i = 0; i < x->n; i++) {
        int64_t k = i / g.layout.inner;
        codes->code[i] = (int32_t)code_of(x->data[i], g.scale[k], g.zero[k], g.qp);
    }
    return QT_OK;
}

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    grid g = {.layout = {8, 6}, .qp = 15, .scale = in[1]->data, .zero = in[2]->data};
    return QT_EMIT(t, &op, &g, sizeof g, in[0]);
}

static const qt_case cases[] = {{"groups", build, {{{6, 8}, 'n'}, {{6}, 'c'}, {{6}, 'c'}}}, {0}};

static const qt_op op = {{"int_group", "integers with a real zero point, gradient passed on", "arXiv 2309.14717"}, QT_SURROGATE, shape, forward,
                         qt_pass_backward, .stores = true, .reads = qt_reads_nothing, .cases = cases};

const qt_quant qt_quant_int_group = {
    {"int_group", "groups of weights from their smallest to their largest, zero point not rounded: the base of QA-LoRA",
     "Xu et al. 2023, arXiv 2309.14717, section 3", fields, sizeof(cfg)},
    init, NULL, apply, .encode = encode, .bits = bits, .zero_group = zero_group, .op = &op};
