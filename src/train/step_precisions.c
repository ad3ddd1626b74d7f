/* Stepper `precisions`: one model trained for all precisions that its sites can be switched between. On each batch, from the highest bits to
 * the lowest, the model is switched, and goes forward and backward. passes: sandwich takes the highest, a random mix of precisions over the
 * layers (draw: mix.c) and the lowest instead: a supernet, whose mixes are searched afterwards (phase allocate_bits).
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
 * and the steps then stay where they started. product is this program's own variant. The bits of a mix are their mean over the layers, rounded.
 *
 * Huang et al. 2025, "Nearly Lossless Adaptive Bit Switching", arXiv 2502.01199, sections 3.2 and 3.3. Left out: distillation from the highest bits. */
#include "train/mix.h"
#include <math.h>

typedef struct config {
    int     update, alrs, passes, draw;
    double  sigma;
    int64_t images, draws;
    qt_mix  mix;
} config;
enum { EACH, TOGETHER };
enum { NONE, PRINTED_CLAMPED, PRODUCT };
enum { ALL, SANDWICH };
enum { UNIFORM, HASB };

static const qt_field fields[] = {
    QT_F_ENUM(config, update, "each", "each|together", "a step of the optimizer for each precision, or one for the sum of their gradients"),
    QT_F_ENUM(config, alrs, "none", "none|printed_clamped|product", "learning rate of the quantizers' steps by the size of their gradients"),
    QT_F_ENUM(config, passes, "all", "all|sandwich", "every precision; or the highest, a random mix over the layers, and the lowest"),
    QT_F_ENUM(config, draw, "hasb", "uniform|hasb", "of a mix: all precisions alike, or more bits for layers with a large trace of the Hessian"),
    QT_F_REAL(config, sigma, "1", 0, 1, "a layer of the mix redraws its bits with probability sigma (epoch + 1) / epochs"),
    QT_F_INT(config, images, "1000", 1, 1e9, "training samples that the traces are measured on, before the first step"),
    QT_F_INT(config, draws, "10", 1, 1e6, "random vectors of that measurement"),
    {NULL}};

static qt_err make(qt_arena *a, void *cfg, qt_model *m, qt_pos pos)
{
    config      *c = cfg;
    qt_precision list[QT_MAX_PRECISIONS];
    if (qt_model_precisions(m, list) < 2)
        return qt_fail_at(QT_ERECIPE, pos, "step: precisions wants quantizers that hold several (double_rounding, or lsq with a list of bits)");
    if (c->update == TOGETHER && c->alrs != NONE)
        return qt_fail_at(QT_ERECIPE, pos, "step.alrs: rates for each precision want update: each");
    return c->passes == SANDWICH ? qt_mix_make(a, m, &c->mix) : QT_OK;
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

enum { HIGHEST, MIX, LOWEST, SLICES };

/* Switches the model for pass i and says how many bits it then has. */
static qt_err prepare(qt_run *r, const config *c, int i, const qt_precision *list, int n, double *bits)
{
    const qt_precision p = c->passes == ALL ? list[i] : i == HIGHEST ? list[0] : list[n - 1];
    *bits = p.bits;
    if (c->passes == ALL || i != MIX) return qt_model_switch(r->model, p), QT_OK;
    QT_TRY(qt_mix_draw(r, &c->mix, c->draw == HASB, c->sigma, c->images, (int)c->draws));
    *bits = qt_mix_apply(r->model, &c->mix);
    return QT_OK;
}

static qt_err pass(qt_run *r, const qt_batch *b, int of, qt_outcome *sum)
{
    qt_tensor *out, *loss;
    qt_outcome o = {.measure = sum->measure};
    QT_TRY(qt_step_forward(r, b, &out, &loss));
    qt_step_note(b, out, loss, &o);
    sum->loss += o.loss / of, sum->accuracy += o.accuracy / of;
    return qt_backward(r->tape, loss);
}

/* Loss and accuracy are means over the passes. */
static qt_err all_passes(qt_run *r, const config *c, const qt_batch *b, double factor, qt_outcome *o)
{
    qt_precision list[QT_MAX_PRECISIONS];
    const int    n = qt_model_precisions(r->model, list), of = c->passes == SANDWICH ? SLICES : n;
    double       bits;
    o->loss = o->accuracy = 0;
    for (int i = 0; i < of; i++) {
        QT_TRY(prepare(r, c, i, list, n, &bits));
        QT_TRY(pass(r, b, of, o));
        if (c->update == TOGETHER) continue;
        qt_optimizer_quant_rate(r->optim, rate(r, c, list[0].bits - (int)lround(bits), o->lr));
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
