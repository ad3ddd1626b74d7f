/* Steppers `sam` and `sagm`: towards flat minima, by the gradient at a perturbed place. With the loss L of the batch, weights W (and biases, norms)
 * and the numbers S that quantizers learn:
 *
 *     g  = grad L(W, S)                                          first pass
 *     W' = W + rho g_W / |g_W|           (sam)
 *          W + rho g_W / |g_W| - alpha g_W                       (sagm)
 *     g' = grad L(W', S)                                         second pass, same batch
 *     the optimizer's step is by g'      (sam)
 *                             g + g'     (sagm)
 *
 * To first order max over |e| <= rho of L(W + e) is reached at e = rho g / |g|, so g' is the gradient of the worst loss nearby; sagm minimizes
 * L + L(W'), and the term -alpha g aligns the directions in which the two fall. |g_W| is over all that is perturbed. Only W is: S is not.
 *
 * The second pass draws the same random numbers as the first (dropout, stochastic rounding), and whatever it writes into the store is taken back with
 * the perturbation, so that running statistics see each batch once; observers are paused. With rho = alpha = 0, g' = g bit for bit.
 *
 * For S the two gradients are the task and the smooth one of the conflict meter (conflict.c), which may leave one of them out: GAQAT.
 *
 * SAM: Foret et al. 2021, arXiv 2010.01412, eq. 2 and 3. SAGM: Wang et al. 2023, arXiv 2303.10353. Left out: the second-order term, as in both, and
 * perturbations relative to the weights (ASAM). */
#include "base/par.h"
#include "kernels/reduce.h"
#include "train/conflict.h"
#include <math.h>
#include <string.h>

typedef struct sam_cfg {
    qt_conflict_cfg conflict;
    double          rho, alpha;
} sam_cfg;

#define RHO QT_F_REAL(sam_cfg, rho, "0.05", 0, 1e6, "length of the perturbation")
static const qt_field sam_fields[] = {RHO, QT_CONFLICT_METER, {NULL}};
static const qt_field sagm_fields[] = {
    RHO, QT_F_REAL(sam_cfg, alpha, "0.001", -1e6, 1e6, "how far the perturbed weights step back along the gradient"),
    QT_CONFLICT_METER, QT_CONFLICT_FREEZE, {NULL}};

typedef struct sam_state {
    qt_conflict *conflict;
    R           *grad, *value; /* of the first pass, blocks as the store's */
} sam_state;

static qt_err make(qt_arena *a, void *cfg, qt_model *m, qt_pos pos)
{
    (void)a;
    return qt_conflict_make(&((sam_cfg *)cfg)->conflict, m, pos);
}

static qt_err begin(qt_run *r, const void *cfg, void **state)
{
    size_t     bytes = (size_t)r->store->size * sizeof(R);
    sam_state *st = *state = qt_arena_zalloc(&r->arena, sizeof *st);
    if (!st || !(st->grad = qt_arena_zalloc(&r->arena, bytes)) || !(st->value = qt_arena_zalloc(&r->arena, bytes))) return QT_EMEM;
    return qt_conflict_begin(r, &((const sam_cfg *)cfg)->conflict, &st->conflict);
}

/* ---- blocks ----------------------------------------------------------------------------------------------------------------------- */

static void copy(R *y, const R *x, int64_t n)
{
    QT_FOR_CHUNKS(b, e, n, QT_GRAIN) memcpy(y + b, x + b, (size_t)(e - b) * sizeof(R));
}

QT_CLONES static void add_scaled(R *restrict y, const R *restrict x, int64_t n, R by)
{
    for (int64_t i = 0; i < n; i++) y[i] += by * x[i];
}

static void add(R *y, const R *x, int64_t n, R by) { QT_FOR_CHUNKS(b, e, n, QT_GRAIN) add_scaled(y + b, x + b, e - b, by); }

static bool perturbed(const qt_param *p) { return p->t.grad && p->kind != QT_QUANT && p->kind != QT_BUFFER; }

static void perturb(const sam_cfg *c, qt_store *s, const R *g)
{
    double sum = 0;
    for (int i = 0; i < s->n; i++)
        if (perturbed(s->p[i])) sum += qt_reduce_sum_sq(g + s->p[i]->at, s->p[i]->t.n);
    double by = (sum > 0 ? c->rho / sqrt(sum) : 0) - c->alpha;
    for (int i = 0; i < s->n; i++)
        if (perturbed(s->p[i])) add(s->p[i]->t.data, g + s->p[i]->at, s->p[i]->t.n, (R)by);
}

/* ---- passes ----------------------------------------------------------------------------------------------------------------------- */

static qt_err first_pass(qt_run *r, sam_state *st, const qt_batch *b, qt_outcome *o)
{
    qt_store  *s = r->store;
    qt_tensor *out, *loss;
    QT_TRY(qt_step_forward(r, b, &out, &loss));
    qt_step_note(b, out, loss, o);
    QT_TRY(qt_backward(r->tape, loss));
    QT_TRY(qt_step_finite(r, o->loss));
    copy(st->grad, s->grad, s->size);
    copy(st->value, s->value, s->size);
    qt_store_zero_grad(s);
    return QT_OK;
}

static qt_err second_pass(qt_run *r, const qt_batch *b)
{
    qt_tensor *out, *loss;
    for (int i = 0; i < r->store->n_site; i++) r->store->site[i]->observing = false;
    qt_err e = qt_step_forward(r, b, &out, &loss);
    if (e == QT_OK) e = qt_backward(r->tape, loss);
    qt_run_schedule(r, r->step); /* observers go on */
    return e;
}

static qt_err both(qt_run *r, const sam_cfg *c, sam_state *st, const qt_batch *b, qt_outcome *o)
{
    QT_TRY(first_pass(r, st, b, o));
    perturb(c, r->store, st->grad);
    qt_err e = second_pass(r, b);
    copy(r->store->value, st->value, r->store->size);
    if (e == QT_OK) qt_conflict_step(r, st->conflict, st->grad, r->store->grad);
    return e;
}

static qt_err sam_step(qt_run *r, const void *cfg, void *state, const qt_batch *b, double factor, qt_outcome *o)
{
    QT_TRY(both(r, cfg, state, b, o));
    return qt_step_update(r, factor, o->loss);
}

static qt_err sagm_step(qt_run *r, const void *cfg, void *state, const qt_batch *b, double factor, qt_outcome *o)
{
    QT_TRY(both(r, cfg, state, b, o));
    add(r->store->grad, ((sam_state *)state)->grad, r->store->size, 1);
    return qt_step_update(r, factor, o->loss);
}

const qt_stepper qt_stepper_sam = {
    .d = {"sam", "the gradient at the worst place nearby: flat minima; twice the time of a plain step", "Foret et al. 2021, arXiv 2010.01412, eq. 2, 3",
          sam_fields, sizeof(sam_cfg)},
    .gives = QT_CONFLICT_GIVES, .make = make, .begin = begin, .step = sam_step};

const qt_stepper qt_stepper_sagm = {
    .d = {"sagm", "plain and perturbed gradient together; may leave one of them out where they disagree about a quantizer's numbers (GAQAT)",
          "Wang et al. 2023, arXiv 2303.10353; GAQAT: Jiang et al. 2024, arXiv 2412.05551", sagm_fields, sizeof(sam_cfg)},
    .gives = QT_CONFLICT_GIVES, .make = make, .begin = begin, .step = sagm_step};
