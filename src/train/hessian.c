/* Phase `hessian`: how much the loss curves along each layer's weight: the trace of its block of the Hessian, by Hutchinson's estimator
 * (autograd/curvature.c), of the network without its quantizers, on training data in evaluation mode. measure.hessian.LAYER.trace is the
 * trace, .per_weight the mean over the weights, and .error the standard error of the trace. No weight moves. What the numbers are for: a layer
 * with a flat loss takes fewer bits (Dong et al., "HAWQ-V2", NeurIPS 2020). */
#include "base/par.h"
#include "train/hessian.h"

typedef struct config {
    int64_t images, draws;
} config;

static const qt_field fields[] = {QT_F_INT(config, images, "1000", 1, 1e9, "samples of the training data, from the first one on, rounded up to whole batches"),
                                  QT_F_INT(config, draws, "10", 1, 1e6, "random vectors, two gradients each"),
                                  {NULL}};

/* ---- the gradient over so many samples ----------------------------------------------------------------------------------------------- */

typedef struct measure {
    qt_run *r;
    int64_t images;
} measure;

/* A batch's part of the mean over all samples. */
static qt_err add_batch(const measure *m, const qt_batch *b, int64_t all)
{
    qt_run    *r = m->r;
    qt_tensor *out, *loss;
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, false, true);
    loss = qt_run_forward(r, b, &out);
    QT_TRY(qt_tape_error(r->tape));
    return qt_backward_from(r->tape, loss, (R[]){(R)((double)b->n / (double)all)});
}

static qt_err gradient(void *arg)
{
    const measure  *m = arg;
    const int64_t   size = qt_data_size(m->r->data, QT_TRAIN), batch = qt_min_i64(qt_min_i64(m->images, size), m->r->recipe->train.eval_batch_size);
    const int64_t   all = qt_min_i64(size, QT_CHUNKS(m->images, batch) * batch); /* whole batches */
    qt_loader      *l;
    const qt_batch *b;
    QT_TRY(qt_loader_eval(m->r->data, QT_TRAIN, batch, &l));
    qt_err e = QT_OK;
    for (int64_t seen = 0; seen < all && e == QT_OK; seen += b->n)
        if ((e = qt_loader_next(l, &b)) != QT_OK || !b || (e = add_batch(m, b, all)) != QT_OK) break;
    qt_loader_free(l);
    return e;
}

/* ---- traces of a run's layers ---------------------------------------------------------------------------------------------------------- */

int qt_hessian_layers(const qt_model *m, bool switched, const qt_module **layer)
{
    int n = 0;
    for (int i = 0; i < m->n; i++) {
        const qt_module *mod = &m->m[i];
        if (mod->layer->quantizes && qt_module_owns_weight(mod) && !mod->frozen && qt_wants_grad(mod->p[0]) &&
            (!switched || (mod->weight && qt_site_bits(mod->weight))))
            layer[n++] = mod;
    }
    return n;
}

qt_err qt_run_traces(qt_run *r, int64_t images, int draws, int n, const qt_module *const *layer, qt_trace *t)
{
    measure  m = {r, images};
    qt_arena a = {0};
    bool    *enabled = qt_arena_alloc(&a, (size_t)r->store->n_site + 1);
    if (!enabled) return QT_EMEM;
    for (int i = 0; i < r->store->n_site; i++) enabled[i] = r->store->site[i]->enabled, r->store->site[i]->enabled = false;
    for (int k = 0; k < n; k++) t[k].param = layer[k]->p[0];
    qt_err e = qt_hessian_traces(r->store, gradient, &m, draws, (uint64_t)r->recipe->seed, n, t);
    for (int i = 0; i < r->store->n_site; i++) r->store->site[i]->enabled = enabled[i];
    qt_tape_reset(r->tape);
    qt_arena_free(&a);
    return e;
}

/* ---- the phase ------------------------------------------------------------------------------------------------------------------------- */

static qt_err run(qt_run *r, const void *cfg)
{
    static const char *const name[] = {"trace", "per_weight", "error"};
    const config            *c = cfg;
    qt_arena                 a = {0};
    const qt_module        **layer = qt_arena_alloc(&a, (size_t)r->model->n * sizeof *layer);
    qt_trace                *t = qt_arena_alloc(&a, (size_t)r->model->n * sizeof *t);
    int                      n = layer ? qt_hessian_layers(r->model, false, layer) : 0;
    qt_err                   e = layer && t ? qt_run_traces(r, c->images, (int)c->draws, n, layer, t) : QT_EMEM;
    for (int k = 0; k < n && e == QT_OK; k++) {
        char path[512];
        snprintf(path, sizeof path, "hessian.%s", layer[k]->path);
        qt_metrics_measure(r, path, 3, name, (double[]){t[k].trace, t[k].trace / (double)t[k].param->n, t[k].error});
        qt_run_log(r, "%s  %s: trace of the Hessian %.4g +- %.2g, %.3g a weight", r->arm, layer[k]->path, t[k].trace, t[k].error,
                   t[k].trace / (double)t[k].param->n);
    }
    qt_arena_free(&a);
    return e;
}

const qt_phase qt_phase_hessian = {.d = {"hessian", "trace of the Hessian for each layer's weight", "Hutchinson 1990; Yao et al., arXiv 1912.07145",
                                         fields, sizeof(config)},
                                   .gives = "hessian.*.trace|hessian.*.per_weight|hessian.*.error", .run = run};
