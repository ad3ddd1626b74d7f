/* ShiftQuant: unbiased low-bit integers with scales that differ by powers of two along one axis, for gradients.
 *
 *     r_c = max |x| over all but the axis,  rmax = max r_c,  Q = 2^(b-1) - 1,  s0 = rmax/Q
 *     e_c = min(groups - 1, floor(log2(rmax/r_c))),  s_c = s0 2^-e_c,     code = floor(x/s_c + u),  u ~ U[0,1),     y = code s_c
 *
 * |x/s_c| <= Q, so nothing clips and E[y] = x: a gradient computed from y is an unbiased estimate of the one computed from x. The variance
 * is s_c^2 f (1-f), f = frac(x/s_c): outside the last group less than 4 times that of a scale for each c, where one scale for the whole
 * tensor costs (rmax/r_c)^2. The gradient of y is passed on. u is a function of seed, site, training step and element.
 *
 * In a rule's `grad` it turns both products of a layer's backward into integer ones (ops/gradq.h); the axis is then the inner one of
 * each product, and `axis` is not used. rounding: nearest halves the error of y, but its errors add up where the random ones cancel.
 * scale: channel gives each c the scale r_c/Q, the best there is but no integer product.
 *
 * Guo et al. 2024, "Towards Accurate and Efficient Sub-8-Bit Integer Training" (arXiv 2411.10948). The thresholds were not readable in
 * the paper and are derived: group g holds rmax 2^-(g+1) < r_c <= rmax 2^-g, the last one all that is smaller. */
#include "kernels/shiftq.h"
#include "qat/grid.h"

typedef struct cfg {
    int64_t num_bits, groups, axis;
    int     rounding, scale;
} cfg;
enum { STOCHASTIC, NEAREST };
enum { SHIFT, CHANNEL };

static const qt_field fields[] = {
    QT_F_INT(cfg, num_bits, "4", 2, 8, "bits of a code"),
    QT_F_INT(cfg, groups, "4", 1, 8, "scales s0, s0/2, s0/4 ...; 1: one scale"),
    QT_F_INT(cfg, axis, "-1", -QT_MAX_DIM, QT_MAX_DIM - 1, "axis along which scales change; negative counts from the last"),
    QT_F_ENUM(cfg, rounding, "stochastic", "stochastic|nearest", "up with the probability of the fraction, or half to even"),
    QT_F_ENUM(cfg, scale, "shift", "shift|channel", "powers of two of one scale, or one of its own for each element of the axis"),
    {0}};

/* The operand 2^(groups-1) code must fit 16 bits, whatever it is quantized to. */
static qt_err init(qt_site *q)
{
    const cfg *c = q->cfg;
    if (c->axis >= q->rank || c->axis < -q->rank) return qt_site_fail(q, "axis %lld does not exist, the tensor has rank %d", (long long)c->axis, q->rank);
    return QT_OK;
}

static void settings(const qt_site *q, qt_shiftq *p)
{
    const cfg *c = q->cfg;
    *p = (qt_shiftq){.bits = (int)c->num_bits, .groups = (int)c->groups, .exact = c->scale == CHANNEL, .nearest = c->rounding == NEAREST};
}

static qt_shiftq plan(const qt_site *q, const qt_tensor *x)
{
    qt_shiftq p;
    int       axis = (int)((const cfg *)q->cfg)->axis;
    settings(q, &p);
    if (axis < 0) axis += x->rank;
    p.A = p.B = 1, p.C = x->dim[axis];
    for (int i = 0; i < axis; i++) p.A *= x->dim[i];
    for (int i = axis + 1; i < x->rank; i++) p.B *= x->dim[i];
    return p;
}

static qt_rng stream(const qt_site *q) { return qt_rng_at(q->store->seed, qt_hash(q->path) + (uint64_t)q->step); }

/* ---- the op: in[0] is x ------------------------------------------------------------------------------------------------------------------ */

typedef struct arg {
    qt_shiftq p;
    qt_rng    u;
} arg;

typedef struct saved {
    int8_t  *q;
    uint8_t *e;
    R       *s;
} saved;

static qt_err shape(qt_node *nd)
{
    const arg *a = nd->arg;
    size_t     n = (size_t)nd->in[0]->n, keys = (size_t)qt_shiftq_keys(&a->p);
    saved     *v;
    QT_TRY(qt_node_save(nd, sizeof *v));
    v = nd->saved;
    if (!(v->q = qt_tape_alloc(nd->tape, n)) || !(v->e = qt_tape_alloc(nd->tape, keys)) || !(v->s = qt_tape_alloc(nd->tape, keys * sizeof(R))))
        return QT_EMEM;
    return qt_node_out_like(nd, nd->in[0]);
}

static void forward(qt_node *nd)
{
    const arg   *a = nd->arg;
    const saved *v = nd->saved;
    const R     *x = nd->in[0]->data;
    qt_shiftq_scales(&a->p, x, v->e, v->s);
    qt_shiftq_codes(&a->p, x, v->s, &a->u, v->q);
    qt_shiftq_values(&a->p, v->q, v->s, nd->out->data);
}

static const qt_op op;

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    arg a = {{.A = 6, .C = 8, .B = 1, .bits = 4, .groups = 4, .nearest = true}};
    return QT_EMIT(t, &op, &a, sizeof a, in[0]);
}

static const qt_case cases[] = {{"matrix", build, {{{6, 8}, 'n'}}}, {0}};

static const qt_op op = {
    {"shiftq", "integers with power-of-two groups of scales, gradient passed on", "arXiv 2411.10948"}, QT_SURROGATE, shape, forward, qt_pass_backward,
    .stores = true, .reads = qt_reads_nothing, .cases = cases};

/* ---- the quantizer --------------------------------------------------------------------------------------------------------------------- */

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    q->step = t->step;
    arg a = {plan(q, x), stream(q)};
    return QT_EMIT(t, &op, &a, sizeof a, x);
}

static double bits(const qt_site *q) { return (double)((const cfg *)q->cfg)->num_bits; }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    qt_shiftq p = plan(q, x);
    qt_rng    u = stream(q);
    R        *s = qt_arena_alloc(a, (size_t)p.C * sizeof *s);
    uint8_t  *e = qt_arena_zalloc(a, (size_t)p.C);
    int8_t   *b = qt_arena_alloc(a, (size_t)x->n);
    if (!s || !e || !b) return QT_EMEM;
    QT_TRY(qt_codes_check(q, x));
    qt_shiftq_scales(&p, x->data, e, s);
    QT_TRY(qt_codes_new(a, x->n, (qt_layout){p.B, p.C}, s, bits(q), codes));
    qt_shiftq_codes(&p, x->data, s, &u, b);
    for (int64_t i = 0; i < x->n; i++) codes->code[i] = b[i];
    codes->exponent = p.exact ? NULL : e;
    return QT_OK;
}

const qt_quant qt_quant_shiftq = {
    {"shiftq", "unbiased integers, scales differ by powers of two along an axis; for gradients (ShiftQuant)", "Guo et al. 2024, arXiv 2411.10948",
     fields, sizeof(cfg)},
    init, NULL, apply, .encode = encode, .bits = bits, .zero_to_zero = true, .op = &op, .gradient = settings};
