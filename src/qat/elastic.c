/* Elastic quantization: a table of learned steps and offsets, one entry for each precision (bits, symmetric or not, one step a tensor or
 * one a channel), so that one set of weights serves them all. A site is switched between entries while it runs (qt_site_switch); the entry
 * it stands at quantizes, and alone gets a gradient:
 *
 *     e = s + 1e-6,  u = (x - o)/e,  y = clamp(round(u), n, p) e + o              symmetric: o = 0, not trained
 *     dx = dy [n < u < p],   ds = g sum dy { round(u) - u | n | p },   do = g sum dy [u <= n or u >= p]        (as lsq_plus.c)
 *     g = 1/sqrt(p N), N numbers of x; with a step a channel, 2/sqrt(p N/C), C input channels
 *
 * Codes are signed, but for activations whose first tensor has nothing below -1e-9. An entry starts from the first tensor that it sees: all
 * at once in a calibration, otherwise each when the site is first switched to it. Of the ranges f [lo, hi], f = 1.00, 0.99 .. 0.21, with lo
 * and hi the extremes, the one with the least sum |x - y|^2.4 gives s = max(-lo, hi) 2/(p - n) (unsigned: hi/p), or, asymmetric,
 * s = (hi - lo)/(p - n) and o = lo - n s. A symmetric entry gives integers, one with an offset does not.
 *
 * Xu et al. 2023, "EQ-Net: Elastic Quantization Neural Networks" (ICCV, arXiv 2308.07650), section 3, where paper and released code differ
 * as the code. Not taken over: the sign of the offset's gradient lost to an absolute value. */
#include "qat/observer.h"
#include "qat/steps.h"

enum { SCALE, INITIALIZED, OFFSET, UNSIGNED }; /* parameters; OFFSET if there are asymmetric entries, UNSIGNED of activations */
enum { TRIES = 80 };

typedef struct cfg {
    qt_ints num_bits;
    int     symmetry, granularity;
} cfg;
enum { BOTH, SYMMETRIC, ASYMMETRIC };
enum { TENSOR = 1, CHANNEL };

static const qt_field fields[] = {
    QT_F_INTS(cfg, num_bits, "[8, 4, 3, 2]", 2, 8, "bits of a code that it can be switched between, highest first"),
    QT_F_ENUM(cfg, symmetry, "both", "both|symmetric|asymmetric", "entries without an offset, with one, or both"),
    QT_F_ENUM(cfg, granularity, "both", "both|tensor|channel", "entries with a step a tensor, a channel, or both (of activations: a tensor)"),
    {0}};

/* ---- the op: in[0] is x, in[1] all steps, in[2] all offsets or NULL; those of the entry begin at `at` and at `at_offset` ----------------- */

typedef struct arg {
    qt_grid grid; /* scale: e */
    int64_t at, at_offset;
    double  g;
} arg;

QT_CLONES static void quantize(R *restrict y, const R *restrict x, int64_t n, R s, R o, R qn, R qp)
{
    for (int64_t i = 0; i < n; i++) y[i] = qt_value(qt_code(x[i] - o, s, 0, qn, qp), s, 0) + o;
}

QT_CLONES static qt_step_sums gradients(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t n, R s, R o, R qn, R qp, qt_step_dx mode)
{
    switch (mode) {
    case QT_DX_STORE: return qt_step_run(dx, dy, x, n, s, o, qn, qp, QT_DX_STORE, true);
    case QT_DX_ADD: return qt_step_run(dx, dy, x, n, s, o, qn, qp, QT_DX_ADD, true);
    default: return qt_step_run(NULL, dy, x, n, s, o, qn, qp, QT_DX_NONE, true);
    }
}

static R step_of(R s) { return qt_step_guard(s) + (R)1e-6; }

/* Steps and offsets of the entry into the grid. */
static qt_err entry_grid(const qt_tensor *scale, const qt_tensor *offset, arg *a, qt_arena *arena)
{
    qt_grid *g = &a->grid;
    QT_TRY(qt_grid_alloc(arena, g, false));
    for (int64_t k = 0; k < g->layout.count; k++) g->scale[k] = step_of(scale->data[a->at + k]);
    g->offset = offset ? offset->data + a->at_offset : NULL;
    return QT_OK;
}

static qt_err shape(qt_node *nd)
{
    arg   *a = nd->arg;
    qt_cut c = qt_cut_of(a->grid.layout, nd->in[0]->n);
    QT_TRY(entry_grid(nd->in[1], nd->in[2], a, &nd->tape->arena));
    QT_TRY(a->grid.offset ? qt_node_out_like(nd, nd->in[0]) : qt_grid_shape(nd));
    return qt_wants_grad(nd->out) ? qt_node_save(nd, 2 * (size_t)c.pieces * sizeof(double)) : QT_OK; /* partial sums of ds, then of do */
}

static void forward(qt_node *nd)
{
    const qt_grid *g = &((const arg *)nd->arg)->grid;
    qt_cut         c = qt_cut_of(g->layout, nd->out->n);
    if (!g->offset) {
        qt_grid_forward(nd);
        return;
    }
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        quantize(nd->out->data + p.at, nd->in[0]->data + p.at, p.n, g->scale[p.k], g->offset[p.k], g->qn, g->qp);
    }
}

static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS(7); }

/* The gradient of an entry is a part of the table's. */
static void add_entry(qt_tensor *table, int64_t at, const qt_cut *c, const double *partial, double g)
{
    qt_tensor entry;
    if (!table || !table->grad) return;
    qt_grad_clear(table);
    entry = (qt_tensor){.grad = table->grad + at};
    qt_step_add(&entry, c, partial, g);
}

static void backward(const qt_node *nd)
{
    const arg     *a = nd->arg;
    const qt_grid *g = &a->grid;
    const R       *x = nd->in[0]->data, *dy = nd->out->grad;
    R             *dx = nd->in[0]->grad;
    qt_cut         c = qt_cut_of(g->layout, nd->out->n);
    double        *part_s = nd->saved, *part_o = part_s + c.pieces;
    qt_step_dx     mode = qt_step_mode(nd->in[0]);
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece     p = qt_piece_of(&c, j);
        R            o = g->offset ? g->offset[p.k] : 0;
        qt_step_sums sum = gradients(dx ? dx + p.at : NULL, dy + p.at, x + p.at, p.n, g->scale[p.k], o, g->qn, g->qp, mode);
        part_s[j] = sum.ds, part_o[j] = sum.doff;
    }
    add_entry(nd->in[1], a->at, &c, part_s, a->g);
    add_entry(nd->in[2], a->at_offset, &c, part_o, a->g);
}

static const qt_op op;

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    arg a = {{.layout = {8, 6}, .qn = 0, .qp = 3, .mask = true}, 2, 1, 1};
    return QT_EMIT(t, &op, &a, sizeof a, in[0], in[1], in[2]);
}

static const qt_case cases[] = {{"one of two entries", build, {{{6, 8}, 'n'}, {{9}, 'p'}, {{7}, 'n'}}}, {0}};

static const qt_op op = {
    {"elastic", "one entry of a table of learned steps and offsets", "arXiv 2308.07650"}, QT_SURROGATE, shape, forward, backward,
    .stores = true, .reads = reads, .cases = cases};

/* ---- the table --------------------------------------------------------------------------------------------------------------------- */

/* Highest bits first, symmetric before asymmetric, a step a tensor before one a channel: the first is what a site begins with. */
static int entries(const qt_site *q, qt_precision list[QT_MAX_PRECISIONS])
{
    const cfg *c = q->cfg;
    int        n = 0;
    for (int i = 0; i < c->num_bits.n; i++)
        for (int asymmetric = 0; asymmetric < 2; asymmetric++)
            for (int channel = 0; channel < 2; channel++) {
                if (c->symmetry == (asymmetric ? SYMMETRIC : ASYMMETRIC)) continue;
                if (channel ? c->granularity == TENSOR || (c->granularity == BOTH && q->role != QT_ROLE_WEIGHT) : c->granularity == CHANNEL) continue;
                list[n++] = (qt_precision){(int)c->num_bits.v[i], asymmetric, channel};
            }
    return n;
}

static int64_t steps_of(const qt_site *q, qt_precision p) { return p.channel ? q->dim[q->axis] : 1; }

/* The entry that the site stands at, and where its steps and offsets begin. */
typedef struct entry {
    qt_precision p;
    int          index;
    int64_t      at, at_offset;
} entry;

static entry entry_at(const qt_site *q, int index)
{
    qt_precision list[QT_MAX_PRECISIONS];
    entry        e = {.index = index};
    entries(q, list);
    e.p = list[index];
    for (int i = 0; i < index; i++) {
        e.at += steps_of(q, list[i]);
        if (list[i].asymmetric) e.at_offset += steps_of(q, list[i]);
    }
    return e;
}

static entry entry_now(const qt_site *q)
{
    qt_precision list[QT_MAX_PRECISIONS];
    int          n = q->now.bits ? entries(q, list) : 0;
    for (int i = 0; i < n; i++)
        if (qt_precision_same(list[i], q->now)) return entry_at(q, i);
    return entry_at(q, 0);
}

static qt_err init(qt_site *q)
{
    qt_precision list[QT_MAX_PRECISIONS];
    int64_t      steps = 0, offsets = 0;
    QT_TRY(qt_site_bits_check(q, "num_bits", &((const cfg *)q->cfg)->num_bits, 2, 8));
    int n = entries(q, list);
    for (int i = 0; i < n; i++) {
        steps += steps_of(q, list[i]);
        if (list[i].asymmetric) offsets += steps_of(q, list[i]);
    }
    QT_TRY(qt_site_param(q, SCALE, "scale", QT_QUANT, steps, 1));
    QT_TRY(qt_site_param(q, INITIALIZED, "initialized", QT_BUFFER, n, 0));
    if (offsets) QT_TRY(qt_site_param(q, OFFSET, "offset", QT_QUANT, offsets, 0));
    return q->role == QT_ROLE_WEIGHT ? QT_OK : qt_site_param(q, UNSIGNED, "unsigned", QT_BUFFER, 1, 0);
}

/* ---- an entry --------------------------------------------------------------------------------------------------------------------- */

static qt_err arg_of(const qt_site *q, const qt_tensor *x, const entry *e, arg *a)
{
    bool    is_signed = !q->p[UNSIGNED] || q->p[UNSIGNED]->data[0] == 0;
    double  N = (double)x->n;
    qt_grid g = {.mask = true, .role = q->role};
    QT_TRY(qt_site_layout(q, e->p.channel ? QT_PER_CHANNEL : QT_PER_TENSOR, NULL, 0, x, &g.layout));
    QT_CHECK(g.layout.count == steps_of(q, e->p), QT_ESHAPE, "%s: the tensor has %lld channels, the site %lld", q->path, (long long)g.layout.count,
             (long long)steps_of(q, e->p));
    qt_levels(e->p.bits, is_signed, false, &g.qn, &g.qp);
    *a = (arg){g, e->at, e->at_offset, 0};
    a->g = e->p.channel ? 2 / sqrt((double)g.qp * N / (double)x->dim[x->rank > 1]) : 1 / sqrt((double)g.qp * N);
    return QT_OK;
}

static qt_tensor *offsets_of(const qt_site *q, const entry *e) { return e->p.asymmetric ? q->p[OFFSET] : NULL; }

/* Step and offset of a range. */
static void from_range(const arg *a, bool asymmetric, R lo, R hi, R *s, R *o)
{
    const R top = -lo > hi ? -lo : hi;
    *s = (asymmetric ? hi - lo : a->grid.qn < 0 ? 2 * top : top) / (a->grid.qp - a->grid.qn);
    if (!(*s > 0)) *s = 1 / a->grid.qp;
    *o = asymmetric ? lo - a->grid.qn * *s : 0;
}

static R shrunk(R end, int64_t i) { return end * (R)(100 - i) / 100; }

static qt_err start(qt_site *q, const qt_tensor *x, qt_arena *arena, const entry *e)
{
    arg a;
    QT_TRY(arg_of(q, x, e, &a));
    const qt_layout l = a.grid.layout;
    R              *range = qt_arena_alloc(arena, 2 * (size_t)l.count * sizeof *range), s, o;
    double         *error = qt_arena_alloc(arena, (size_t)(l.count * TRIES) * sizeof *error);
    if (!range || !error) return QT_EMEM;
    QT_FOR_EACH(k, l.count, x->n > QT_GRAIN) qt_scale_min_max(x->data, x->n, l, k, &range[2 * k], &range[2 * k + 1]);
    QT_FOR_EACH(j, l.count * TRIES, x->n > 64) {
        const R *r = &range[2 * (j / TRIES)];
        R        step, offset;
        from_range(&a, e->p.asymmetric, shrunk(r[0], j % TRIES), shrunk(r[1], j % TRIES), &step, &offset);
        error[j] = qt_grid_error(x->data, x->n, l, j / TRIES, step_of(step), 0, offset, a.grid.qn, a.grid.qp, 2.4);
    }
    for (int64_t k = 0; k < l.count; k++) {
        int64_t best = 0;
        for (int64_t i = 1; i < TRIES; i++)
            if (error[k * TRIES + i] < error[k * TRIES + best]) best = i;
        from_range(&a, e->p.asymmetric, shrunk(range[2 * k], best), shrunk(range[2 * k + 1], best), &s, &o);
        q->p[SCALE]->data[e->at + k] = s;
        if (e->p.asymmetric) q->p[OFFSET]->data[e->at_offset + k] = o;
    }
    q->p[INITIALIZED]->data[e->index] = 1;
    return QT_OK;
}

static bool started(const qt_site *q, int index) { return q->p[INITIALIZED]->data[index] != 0; }

static bool any_started(const qt_site *q)
{
    for (int i = 0; i < q->p[INITIALIZED]->n; i++)
        if (started(q, i)) return true;
    return false;
}

static void find_sign(qt_site *q, const qt_tensor *x)
{
    R lo, hi;
    if (!q->p[UNSIGNED] || any_started(q)) return;
    qt_scale_min_max(x->data, x->n, (qt_layout){x->n, 1}, 0, &lo, &hi);
    q->p[UNSIGNED]->data[0] = (R)(lo >= (R)-1e-9);
}

/* Calibration shows x to all entries, training to the one that is used. */
static void observe(qt_tape *t, qt_site *q, const qt_tensor *x)
{
    int from = q->bypass ? 0 : entry_now(q).index, to = q->bypass ? (int)q->p[INITIALIZED]->n : from + 1;
    find_sign(q, x);
    for (int i = from; i < to; i++) {
        entry e = entry_at(q, i);
        if (!started(q, i)) qt_tape_fail(t, start(q, x, &t->arena, &e));
    }
}

/* A weight's entry can start at any time; that of an activation only in training, where x is a batch of the training set. */
static qt_err ready(qt_site *q, const qt_tensor *x, qt_arena *arena, bool train, entry *e, arg *a)
{
    *e = entry_now(q);
    if (!started(q, e->index) && !train && q->role != QT_ROLE_WEIGHT)
        return qt_fail(QT_EUSAGE, "%s: the step at %d bits%s is not known yet; train or calibrate before evaluating", q->path, e->p.bits,
                       e->p.asymmetric ? ", asymmetric," : "");
    if (!started(q, e->index)) find_sign(q, x);
    if (!started(q, e->index)) QT_TRY(start(q, x, arena, e));
    return arg_of(q, x, e, a);
}

/* ---- the quantizer --------------------------------------------------------------------------------------------------------------- */

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    entry e = {.index = 0};
    arg   a = {.g = 0};
    qt_tape_fail(t, ready(q, x, &t->arena, t->train, &e, &a));
    return QT_EMIT(t, &op, &a, sizeof a, x, q->p[SCALE], offsets_of(q, &e));
}

static void after_step(qt_site *q, int64_t step) { (void)step, qt_steps_guard(q->p[SCALE]); }

static double bits(const qt_site *q) { return entry_now(q).p.bits; }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *arena, qt_codes *codes)
{
    entry e;
    arg   a;
    QT_TRY(ready(q, x, arena, false, &e, &a));
    QT_TRY(entry_grid(q->p[SCALE], offsets_of(q, &e), &a, arena));
    return qt_grid_encode(q, &a.grid, x, arena, bits(q), codes);
}

const qt_quant qt_quant_elastic = {
    {"elastic", "a table of learned steps and offsets by bits, symmetry and granularity (EQ-Net)", "Xu et al. 2023, arXiv 2308.07650", fields,
     sizeof(cfg)},
    init, observe, apply, .after_step = after_step, .encode = encode, .bits = bits, .precisions = entries, .idempotent = true, .monotone = true,
    .op = &op};
