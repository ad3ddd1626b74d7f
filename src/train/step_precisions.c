/* Stepper `precisions`: one model trained for all precisions that its sites can be switched between. On each batch, from the highest bits to
 * the lowest, the model is switched, and goes forward and backward.
 *
 *   update: each       a step of the optimizer after each precision, before the next one goes forward (algorithm A.2 of the paper)
 *   update: together   gradients of all precisions are added, and one step is taken (A.1)
 *
 * alrs (adaptive learning rate scaling, for update: each): gradients of the quantizers' steps grow as the bits fall, by 2^D of the shared step
 * of double_rounding alone, D = h - b. Quantizer parameters, and they alone, take their step for b bits with the rate
 *
 *     printed_clamped   lr_b = eta_b max(0, lr - mean)          product   lr_b = eta_b lr max(0, 1 - mean)
 *     eta_b = 10^(-D/2) for even D, 5 10^(-(D+1)/2) for odd D
 *     mean  = 1/L sum over the weights' sites of min(max |g_i|, 1),   g_i: gradient of the site's steps, its norm clipped to 1
 *
 * The paper prints lr - mean and does not say what happens where that is negative; here it stops at 0, as mostly with Adam's small rates,
 * and the steps then stay where they started. product is this program's own variant.
 *
 * Huang et al. 2025, "Nearly Lossless Adaptive Bit Switching", arXiv 2502.01199, section 3.2. Left out: distillation from the highest bits. */
#include "train/train.h"
#include <math.h>

typedef struct config {
    int update, alrs;
} config;
enum { EACH, TOGETHER };
enum { NONE, PRINTED_CLAMPED, PRODUCT };

static const qt_field fields[] = {
    QT_F_ENUM(config, update, "each", "each|together", "a step of the optimizer for each precision, or one for the sum of their gradients"),
    QT_F_ENUM(config, alrs, "none", "none|printed_clamped|product", "learning rate of the quantizers' steps by the size of their gradients"),
    {NULL}};

static qt_err make(qt_arena *a, void *cfg, qt_model *m, qt_pos pos)
{
    const config *c = cfg;
    qt_precision  list[QT_MAX_PRECISIONS];
    (void)a;
    if (qt_model_precisions(m, list) < 2)
        return qt_fail_at(QT_ERECIPE, pos, "step: precisions wants quantizers that hold several (double_rounding, or lsq with a list of bits)");
    if (c->update == TOGETHER && c->alrs != NONE)
        return qt_fail_at(QT_ERECIPE, pos, "step.alrs: rates for each precision want update: each");
    return QT_OK;
}

/* ---- rates ---------------------------------------------------------------------------------------------------------------------------- */

/* The largest gradient of a site's steps, after their norm has been clipped to 1. */
static double largest(const qt_store *s, const qt_site *q)
{
    double most = 0, squares = 0;
    for (int k = 0; k < QT_SITE_PARAMS; k++) {
        if (!q->p[k] || !q->p[k]->grad || qt_store_param_of(s, q->p[k])->kind != QT_QUANT) continue;
        for (int64_t i = 0; i < q->p[k]->n; i++) {
            double g = fabs((double)q->p[k]->grad[i]);
            squares += g * g, most = g > most ? g : most;
        }
    }
    return squares > 1 ? most / sqrt(squares) : most;
}

static double mean_gradient(const qt_store *s)
{
    double sum = 0;
    int    n = 0;
    for (int i = 0; i < s->n_site; i++)
        if (s->site[i]->role == QT_ROLE_WEIGHT && qt_site_bits(s->site[i])) sum += fmin(largest(s, s->site[i]), 1), n++;
    return n ? sum / n : 0;
}

static double eta(int D) { return D % 2 ? 5 * pow(10, -(D + 1) / 2) : pow(10, -D / 2); }

/* lr_b / lr */
static double rate(const qt_run *r, const config *c, int D, double lr)
{
    if (c->alrs == NONE) return 1;
    double mean = mean_gradient(r->store);
    return eta(D) * fmax(0, c->alrs == PRODUCT ? 1 - mean : lr > 0 ? (lr - mean) / lr : 0);
}

/* ---- the step ------------------------------------------------------------------------------------------------------------------------- */

static qt_err pass(qt_run *r, const qt_batch *b, qt_precision p, int of, qt_outcome *sum)
{
    qt_tensor *out, *loss;
    qt_outcome o = {.measure = sum->measure};
    qt_model_switch(r->model, p);
    QT_TRY(qt_step_forward(r, b, &out, &loss));
    qt_step_note(b, out, loss, &o);
    sum->loss += o.loss / of, sum->accuracy += o.accuracy / of;
    return qt_backward(r->tape, loss);
}

/* Loss and accuracy are means over the precisions. */
static qt_err all_passes(qt_run *r, const config *c, const qt_batch *b, double factor, qt_outcome *o)
{
    qt_precision list[QT_MAX_PRECISIONS];
    const int    n = qt_model_precisions(r->model, list);
    o->loss = o->accuracy = 0;
    for (int i = 0; i < n; i++) {
        QT_TRY(pass(r, b, list[i], n, o));
        if (c->update == TOGETHER) continue;
        qt_optimizer_quant_rate(r->optim, rate(r, c, list[0].bits - list[i].bits, o->lr));
        QT_TRY(qt_step_update(r, factor, o->loss));
    }
    return c->update == TOGETHER ? qt_step_update(r, factor, o->loss) : QT_OK;
}

static qt_err step(qt_run *r, const void *cfg, void *state, const qt_batch *b, double factor, qt_outcome *o)
{
    (void)state;
    qt_err e = all_passes(r, cfg, b, factor, o);
    qt_optimizer_quant_rate(r->optim, 1);
    qt_model_switch(r->model, (qt_precision){0});
    return e;
}

const qt_stepper qt_stepper_precisions = {
    .d = {"precisions", "one model for several precisions: a pass for each of them on every batch", "Huang et al. 2025, arXiv 2502.01199, section 3.2",
          fields, sizeof(config)},
    .make = make, .step = step};
