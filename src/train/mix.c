/* Hessian-aware stochastic bits (HASB): which precision each layer has in the random passes of a supernet. With t_l the trace of the Hessian
 * for layer l (measured once, at the first step) and t_m their mean, a layer redraws its bits in a step with the probability
 * sigma (epoch + 1) / epochs:
 *
 *     t_l < t_m     any of its precisions, all with the same probability
 *     t_l >= t_m    precision i with the probability b_i / sum_j b_j: a sensitive layer has more bits more often
 *
 * Traces and bits are buffers of the store, so a run that was stopped goes on with the same mixes. Huang et al. 2025, arXiv 2502.01199,
 * section 3.3 and algorithm A.3. */
#include "train/mix.h"

qt_err qt_mix_make(qt_arena *a, qt_model *m, qt_mix *x)
{
    if (!(x->layer = qt_arena_alloc(a, (size_t)m->n * sizeof *x->layer))) return QT_EMEM;
    x->n = qt_hessian_layers(m, true, x->layer);
    const int64_t n = x->n ? x->n : 1;
    x->trace = qt_param_add(m->store, "step.trace", QT_BUFFER, QT_INIT_CONST(0), 1, &n);
    x->bits = qt_param_add(m->store, "step.bits", QT_BUFFER, QT_INIT_CONST(0), 1, &n);
    return x->trace && x->bits ? QT_OK : QT_EMEM;
}

static qt_err measure(qt_run *r, const qt_mix *x, int64_t images, int draws)
{
    qt_trace *t = qt_alloc((size_t)x->n * sizeof *t);
    qt_err    e = t ? qt_run_traces(r, images, draws, x->n, x->layer, t) : QT_EMEM;
    for (int k = 0; k < x->n && e == QT_OK; k++) x->trace->data[k] = (R)t[k].trace;
    qt_free(t);
    return e;
}

static double mean(const qt_tensor *v)
{
    double sum = 0;
    for (int64_t i = 0; i < v->n; i++) sum += (double)v->data[i];
    return sum / (double)v->n;
}

/* One of a layer's precisions. */
static int draw(const qt_site *q, bool roulette, qt_rng *rng)
{
    qt_precision list[QT_MAX_PRECISIONS];
    int          n = qt_site_precisions(q, list), sum = 0, i = 0;
    if (!roulette) return list[qt_rng_below(rng, (uint64_t)n)].bits;
    for (int k = 0; k < n; k++) sum += list[k].bits;
    for (int at = (int)qt_rng_below(rng, (uint64_t)sum); at >= list[i].bits; i++) at -= list[i].bits;
    return list[i].bits;
}

/* sigma (epoch + 1) / epochs */
static double chance(const qt_run *r, double sigma)
{
    int64_t per = r->steps_per_epoch ? r->steps_per_epoch : 1, epochs = (r->steps + per - 1) / per;
    return sigma * (double)(r->step / per + 1) / (double)(epochs ? epochs : 1);
}

qt_err qt_mix_draw(qt_run *r, const qt_mix *x, bool by_trace, double sigma, int64_t images, int draws)
{
    qt_rng     rng = qt_rng_at((uint64_t)r->recipe->seed, qt_hash("mix") ^ (uint64_t)r->step);
    const bool first = x->bits->data[0] == 0;
    if (first && by_trace) QT_TRY(measure(r, x, images, draws));
    const double middle = mean(x->trace), p = first ? 1 : chance(r, sigma);
    for (int k = 0; k < x->n; k++) {
        if (qt_rng_uniform(&rng) >= p) continue;
        x->bits->data[k] = (R)draw(x->layer[k]->weight, by_trace && (double)x->trace->data[k] >= middle, &rng);
    }
    return QT_OK;
}

void qt_mix_switch(const qt_mix *x, int k, int bits)
{
    qt_site_switch(x->layer[k]->weight, (qt_precision){.bits = bits});
    if (x->layer[k]->act) qt_site_switch(x->layer[k]->act, (qt_precision){.bits = bits});
}

double qt_mix_apply(qt_model *m, const qt_mix *x)
{
    for (int k = 0; k < x->n; k++) qt_mix_switch(x, k, (int)x->bits->data[k]);
    qt_model_follow(m);
    return mean(x->bits);
}
