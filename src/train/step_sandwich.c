/* Stepper `sandwich`: several subnets a step. Sites hold several precisions (qt_site_switch); a batch passes
 *
 *     k = 0              every site at its highest bits      L_0 = loss
 *     0 < k < subnets-1  every site at any of its bits       L_k = (1 - guidance) loss + guidance KL(softmax t || softmax y)
 *     k = subnets-1      every site at its lowest bits       the same
 *
 * with y the subnet's outputs and t those of the subnet before it, a constant: knowledge goes from high to low bits step by step. Symmetry and
 * granularity are drawn, each site for itself, from stream "sandwich/STEP". The gradients of all L_k add up, those of penalties and regularizers once,
 * and the optimizer makes one step. Between steps the sites stand where they stood, so evaluation sees the same subnet always. A site with
 * one precision only is pinned. The loss and accuracy shown are those of k = 0.
 *
 * Xu et al. 2023, "EQ-Net" (ICCV, arXiv 2308.07650): group progressive guidance, subnets 3, guidance 0.5. The rule itself, without guidance:
 * Yu, Huang 2019, "Universally slimmable networks" (ICCV, arXiv 1903.05134). */
#include "train/train.h"
#include <string.h>

typedef struct config {
    int64_t subnets;
    double  guidance;
} config;

static const qt_field fields[] = {
    QT_F_INT(config, subnets, "3", 2, 64, "subnets a step: one at the highest bits, one at the lowest, the others at any"),
    QT_F_REAL(config, guidance, "0.5", 0, 1, "share of the divergence from the subnet before in the loss; 0: each learns from the targets alone"),
    {NULL}};

typedef struct state {
    R            *logits; /* of the subnet before */
    qt_precision *own;    /* [n_site] where the sites stand between steps */
} state;

static qt_err make(qt_arena *a, void *cfg, qt_model *m, qt_pos pos)
{
    (void)a, (void)cfg;
    if (!m->in.rank || qt_model_elastic(m)) return QT_OK;
    return qt_fail_at(QT_ERECIPE, pos, "step: sandwich needs quantizers that hold several precisions; elastic does");
}

static qt_err begin(qt_run *r, const void *cfg, void **out)
{
    state  *s = qt_arena_zalloc(&r->arena, sizeof *s);
    int64_t n = qt_data_batch_size(r->data);
    QT_CHECK(((const config *)cfg)->guidance == 0 || qt_data_info_of(r->data)->classes, QT_ERECIPE,
             "step.guidance: outputs that are no classes cannot guide (guidance: 0 leaves it away)");
    for (int i = 0; i < r->model->out.rank; i++) n *= r->model->out.dim[i];
    if (!s || !(s->logits = qt_arena_alloc(&r->arena, (size_t)n * sizeof(R)))) return QT_EMEM;
    if (!(s->own = qt_arena_alloc(&r->arena, (size_t)(r->store->n_site + 1) * sizeof *s->own))) return QT_EMEM;
    *out = s;
    return QT_OK;
}

/* Of a subnet that has one before it. */
static qt_tensor *guided(qt_run *r, const config *c, const state *s, qt_tensor *out, qt_tensor *loss)
{
    qt_tape *t = r->tape;
    if (c->guidance == 0 || t->err) return loss;
    qt_tensor *teacher = qt_softmax(t, qt_tape_view(t, s->logits, out->rank, out->dim));
    qt_tensor *kl = qt_kl(t, qt_log_softmax(t, out), teacher);
    return qt_add(t, qt_scale(t, loss, 1 - c->guidance), qt_scale(t, kl, c->guidance));
}

static qt_err later(qt_run *r, const config *c, const state *s, const qt_batch *b, qt_tensor **out, qt_tensor **loss)
{
    qt_step_open(r);
    *loss = qt_run_forward(r, b, out);
    *loss = guided(r, c, s, *out, *loss);
    QT_TRY(qt_tape_error(r->tape));
    return qt_step_finite(r, (double)(*loss)->data[0]);
}

static qt_err passes(qt_run *r, const config *c, state *s, const qt_batch *b, qt_outcome *o)
{
    qt_rng draw = qt_rng_named((uint64_t)r->recipe->seed, "sandwich/%lld", (long long)r->step);
    for (int64_t k = 0; k < c->subnets; k++) {
        qt_tensor *out, *loss;
        qt_subnet_draw(r, &draw, k == 0 ? QT_SUBNET_HIGHEST : k == c->subnets - 1 ? QT_SUBNET_LOWEST : QT_SUBNET_ANY);
        QT_TRY(k ? later(r, c, s, b, &out, &loss) : qt_step_forward(r, b, &out, &loss));
        if (k == 0) qt_step_note(b, out, loss, o);
        memcpy(s->logits, out->data, (size_t)out->n * sizeof(R));
        QT_TRY(qt_backward(r->tape, loss));
    }
    return QT_OK;
}

static qt_err step(qt_run *r, const void *cfg, void *own, const qt_batch *b, double factor, qt_outcome *o)
{
    state *s = own;
    qt_subnet_keep(r, s->own);
    qt_err e = passes(r, cfg, s, b, o);
    qt_subnet_restore(r, s->own);
    return e == QT_OK ? qt_step_update(r, factor, o->loss) : e;
}

const qt_stepper qt_stepper_sandwich = {
    {"sandwich", "subnets of high, any and low precision, each guided by the one before", "Xu et al. 2023, arXiv 2308.07650", fields, sizeof(config)},
    .make = make, .begin = begin, .step = step};
