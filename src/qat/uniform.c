/* Uniform affine fake-quantization with the straight-through estimator.
 *
 *     y = (clamp(round(x/s) + z, qn, qp) - z) s,      dx = dy [qn <= round(x/s) + z <= qp]
 *
 * symmetric: signed codes and z = 0; otherwise codes 0..2^b-1 and an integer zero point z, so that 0 is exactly on the grid. s and z
 * come from the range of the tensor (observer.c) and are constants for the gradient: dy/dx of round() is taken as 1, of clamp as it
 * is. dynamic: the range is that of the very tensor. Static: a running range, gathered while the site observes and then frozen.
 *
 * Bengio et al. 2013 (arXiv 1308.3432); Jacob et al. 2018 (arXiv 1712.05877), eq. 1 and 12. Left out: learned s and z (see lsq.c and
 * lsq_plus.c), a scale that is a power of two. */
#include "qat/observer.h"
#include <string.h>

enum { SCALE, ZERO, INITIALIZED, LO, HI }; /* parameters, all buffers */
enum { AUTO, DYNAMIC, STATIC, TRAINING };

typedef struct cfg {
    int64_t num_bits, group_size;
    qt_ints axis;
    bool    symmetric, narrow;
    int     granularity, observer, dynamic, ste;
    double  percentile, mse_power, ema_constant;
    qt_span freeze_at;
} cfg;

static const qt_field fields[] = {
    QT_F_INT(cfg, num_bits, "8", 1, 16, "bits of a code"),
    QT_F_BOOL(cfg, symmetric, "true", "signed codes around 0; false: codes from 0 with a zero point"),
    QT_F_BOOL(cfg, narrow, "false", "symmetric: leave out the lowest code, so that the range is the same on both sides"),
    QT_F_ENUM(cfg, granularity, "tensor", QT_GRANULARITIES, "what shares a scale"),
    QT_F_INTS(cfg, axis, "[]", -QT_MAX_DIM, QT_MAX_DIM - 1, "channel axis; negative counts from the last; default: the layer's"),
    QT_F_INT(cfg, group_size, "128", 1, 1 << 30, "granularity group: elements a group, along the last axis"),
    QT_F_ENUM(cfg, observer, "minmax", QT_OBSERVERS, "how the range is found"),
    QT_F_ENUM(cfg, dynamic, "auto", "auto|true|false|training",
              "true: range of each tensor itself; false: running range; training: of itself in training, running in evaluation; auto: true for "
              "weights, false for activations. Tokens and groups of activations are always dynamic"),
    QT_F_ENUM(cfg, ste, "mask", "mask|identity", "gradient of clipped elements: none, or passed on"),
    QT_F_REAL(cfg, ema_constant, "0.01", 0, 1, "weight of a new range in the running one"),
    QT_F_REAL(cfg, percentile, "0.999", 0.5, 1, "observer percentile: part of the elements inside the range"),
    QT_F_REAL(cfg, mse_power, "2", 1, 8, "observer mse: power of the error"),
    QT_F_SPAN(cfg, freeze_at, "~", "when the running range stops; default: schedule.freeze_observers_at"),
    {0}};

static qt_observer observer_of(const cfg *c)
{
    qt_observer o = {c->observer, c->symmetric, 0, 0, c->percentile, c->mse_power, c->ema_constant};
    qt_levels((int)c->num_bits, c->symmetric, c->narrow, &o.qn, &o.qp);
    return o;
}

static bool keeps_range(const cfg *c) { return c->dynamic == STATIC || c->dynamic == TRAINING; }

static qt_err init(qt_site *q)
{
    cfg    *c = q->cfg;
    int64_t count;
    if (c->symmetric && c->num_bits < 2) return qt_site_fail(q, "symmetric codes need num_bits of at least 2");
    if (c->narrow && !c->symmetric) return qt_site_fail(q, "narrow needs symmetric codes");
    QT_TRY(qt_site_count(q, c->granularity, &c->axis, c->group_size, &count));
    if (c->granularity == QT_PER_TOKEN || count == 0) c->dynamic = DYNAMIC;
    if (c->dynamic == AUTO) c->dynamic = q->role == QT_ROLE_WEIGHT ? DYNAMIC : STATIC;
    q->freeze_at = c->freeze_at;
    if (count == 0) return QT_OK;
    QT_TRY(qt_site_param(q, SCALE, "scale", QT_BUFFER, count, 0));
    QT_TRY(qt_site_param(q, ZERO, "zero_point", QT_BUFFER, count, 0));
    QT_TRY(qt_site_param(q, INITIALIZED, "initialized", QT_BUFFER, 1, 0));
    if (!keeps_range(c)) return QT_OK;
    QT_TRY(qt_site_param(q, LO, "range_lo", QT_BUFFER, count, 0));
    return qt_site_param(q, HI, "range_hi", QT_BUFFER, count, 0);
}

/* Scale and zero point of x itself into g. */
static qt_err grid_of_tensor(const cfg *c, const qt_tensor *x, qt_arena *a, qt_grid *g)
{
    qt_observer o = observer_of(c);
    size_t      n = (size_t)g->layout.count * sizeof(R);
    R          *lo = qt_arena_alloc(a, n), *hi = qt_arena_alloc(a, n);
    if (!lo || !hi) return QT_EMEM;
    QT_TRY(qt_grid_alloc(a, g, true));
    QT_TRY(qt_observe(&o, x, g->layout, a, lo, hi));
    for (int64_t k = 0; k < g->layout.count; k++) qt_range_to_grid(&o, lo[k], hi[k], &g->scale[k], &g->zero[k]);
    return QT_OK;
}

static qt_err layout_of(const qt_site *q, const qt_tensor *x, qt_layout *l)
{
    const cfg *c = q->cfg;
    QT_TRY(qt_site_layout(q, c->granularity, &c->axis, c->group_size, x, l));
    if (q->p[SCALE] && q->p[SCALE]->n != l->count)
        return qt_fail(QT_ESHAPE, "%s: the tensor has %lld scales, the site %lld", q->path, (long long)l->count, (long long)q->p[SCALE]->n);
    return QT_OK;
}

/* Takes the range of x into the running one. */
static qt_err update(qt_site *q, const qt_tensor *x, qt_arena *a)
{
    const cfg  *c = q->cfg;
    qt_observer o = observer_of(c);
    qt_layout   l;
    R          *flag = q->p[INITIALIZED]->data, *lo, *hi;
    QT_TRY(layout_of(q, x, &l));
    if (!(lo = qt_arena_alloc(a, (size_t)l.count * sizeof *lo)) || !(hi = qt_arena_alloc(a, (size_t)l.count * sizeof *hi))) return QT_EMEM;
    QT_TRY(qt_observe(&o, x, l, a, lo, hi));
    qt_observe_merge(&o, *flag == 0, l.count, lo, hi, q->p[LO]->data, q->p[HI]->data);
    for (int64_t k = 0; k < l.count; k++) qt_range_to_grid(&o, q->p[LO]->data[k], q->p[HI]->data[k], &q->p[SCALE]->data[k], &q->p[ZERO]->data[k]);
    *flag = 1;
    return QT_OK;
}

static void observe(qt_tape *t, qt_site *q, const qt_tensor *x)
{
    const cfg *c = q->cfg;
    if (keeps_range(c)) qt_tape_fail(t, update(q, x, &t->arena));
}

/* The grid for x. A dynamic site whose state was given from outside uses that; what it finds itself is kept for the records only. */
static qt_err grid_of(qt_site *q, const qt_tensor *x, qt_arena *a, qt_grid *g)
{
    const cfg  *c = q->cfg;
    qt_observer o = observer_of(c);
    *g = (qt_grid){.qn = o.qn, .qp = o.qp, .mask = c->ste == 0, .role = q->role};
    QT_TRY(layout_of(q, x, &g->layout));
    if (q->p[INITIALIZED] && q->p[INITIALIZED]->data[0] != 0) {
        g->scale = q->p[SCALE]->data, g->zero = q->p[ZERO]->data;
        return QT_OK;
    }
    if (keeps_range(c) && q->role != QT_ROLE_WEIGHT)
        return qt_fail(QT_EUSAGE, "%s: the range is not known yet; train or calibrate before evaluating", q->path);
    QT_TRY(grid_of_tensor(c, x, a, g));
    if (q->p[SCALE]) {
        memcpy(q->p[SCALE]->data, g->scale, (size_t)g->layout.count * sizeof(R));
        memcpy(q->p[ZERO]->data, g->zero, (size_t)g->layout.count * sizeof(R));
    }
    return QT_OK;
}

/* The range of x itself, whatever is known. */
static qt_err grid_in_training(const qt_site *q, const qt_tensor *x, qt_arena *a, qt_grid *g)
{
    const cfg  *c = q->cfg;
    qt_observer o = observer_of(c);
    *g = (qt_grid){.qn = o.qn, .qp = o.qp, .mask = c->ste == 0, .role = q->role};
    QT_TRY(layout_of(q, x, &g->layout));
    return grid_of_tensor(c, x, a, g);
}

static const qt_op op;

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    const cfg *c = q->cfg;
    qt_grid    g = {0};
    bool       own = c->dynamic == TRAINING && t->train, unknown = keeps_range(c) && q->p[INITIALIZED]->data[0] == 0;
    if (unknown && t->train) qt_tape_fail(t, update(q, x, &t->arena)); /* frozen from the start: the first tensor counts */
    if (!t->err) qt_tape_fail(t, own ? grid_in_training(q, x, &t->arena, &g) : grid_of(q, x, &t->arena, &g));
    return QT_EMIT(t, &op, &g, sizeof g, x);
}

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    const cfg *c = q->cfg;
    qt_grid    g;
    QT_TRY(grid_of(q, x, a, &g));
    return qt_grid_encode(q, &g, x, a, (double)c->num_bits, codes);
}

static double bits(const qt_site *q) { return (double)((const cfg *)q->cfg)->num_bits; }

/* ---- the op: a grid with constant scales ----------------------------------------------------------------------------------------- */

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    qt_grid g = {.layout = {8, 6}, .qn = 0, .qp = 15, .scale = in[1]->data, .zero = in[2]->data, .mask = true};
    for (int64_t k = 0; k < in[2]->n; k++) in[2]->data[k] = (R)(k + 4);
    return QT_EMIT(t, &op, &g, sizeof g, in[0]);
}

static const qt_case cases[] = {{"channel", build, {{{6, 8}, 'n'}, {{6}, 'c'}, {{6}, 'c'}}}, {0}};

static const qt_op op = {
    {"uniform", "affine grid, gradient through where not clipped", "arXiv 1712.05877"}, QT_SURROGATE, qt_grid_shape, qt_grid_forward,
    qt_grid_backward, .stores = true, .reads = qt_grid_reads, .cases = cases};

const qt_quant qt_quant_uniform = {
    {"uniform", "uniform affine grid from the tensor's range, straight-through gradient", "Jacob et al. 2018, arXiv 1712.05877, eq. 12", fields,
     sizeof(cfg)},
    init, observe, apply, .encode = encode, .bits = bits, .idempotent = true, .monotone = true, .zero_to_zero = true, .op = &op};
