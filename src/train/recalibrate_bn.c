/* Phase `recalibrate_bn`: running statistics of batch norms taken anew, for the model as it stands. Training batches pass in training mode,
 * without gradients, and statistics after k of them are the mean over the k,
 *
 *     m <- (1 - 1/k) m + 1/k m_batch          (k = 1 forgets what was there; the same for the variance)
 *
 * so that layers before, whose quantizers or weights have changed since, are accounted for. Batches are those that training begins with. No
 * weight moves, observers rest. Averaged weights (optim.ema) take part, as in evaluation. Dropout drops, as in training. */
#include "train/train.h"

typedef struct config {
    int64_t batches;
} config;

static const qt_field fields[] = {QT_F_INT(config, batches, "8", 1, 1e9, "batches of training data"), {NULL}};

static qt_err pass(qt_run *r, const qt_batch *b, int64_t k)
{
    for (int i = 0; i < r->model->n; i++) r->model->m[i].recount = k;
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, true, false);
    r->tape->step = r->step;
    qt_model_forward(r->tape, r->model, qt_run_input(r, b));
    return qt_tape_error(r->tape);
}

static qt_err passes(qt_run *r, int64_t batches)
{
    const qt_batch *b;
    for (int64_t k = 1; k <= batches; k++) {
        QT_TRY(qt_loader_next(r->loader, &b));
        QT_TRY(pass(r, b, k));
    }
    return QT_OK;
}

/* Observers rest, or are again as they were. */
static void rest(qt_run *r, bool *observing, bool on)
{
    for (int i = 0; i < r->store->n_site; i++) {
        qt_site *q = r->store->site[i];
        if (on) observing[i] = q->observing, q->observing = false;
        else q->observing = observing[i];
    }
}

qt_err qt_recalibrate_bn(qt_run *r, int64_t batches)
{
    bool  *observing = qt_alloc((size_t)r->store->n_site * sizeof *observing);
    qt_err e = observing ? qt_loader_train(r->data, (uint64_t)r->recipe->seed, 0, &r->loader) : QT_EMEM;
    if (e == QT_OK) {
        rest(r, observing, true);
        qt_run_swap_average(r);
        e = passes(r, batches);
        qt_run_swap_average(r);
        rest(r, observing, false);
    }
    for (int i = 0; i < r->model->n; i++) r->model->m[i].recount = 0;
    qt_tape_reset(r->tape);
    qt_loader_free(r->loader), r->loader = NULL;
    qt_free(observing);
    return e;
}

static qt_err run(qt_run *r, const void *cfg)
{
    const config *c = cfg;
    QT_CHECK(qt_data_size(r->data, QT_TRAIN) > 0, QT_EUSAGE, "the data have no split 'train'");
    QT_TRY(qt_recalibrate_bn(r, c->batches));
    qt_run_log(r, "%s  batch norms recalibrated on %lld batches", r->arm, (long long)c->batches);
    return QT_OK;
}

const qt_phase qt_phase_recalibrate_bn = {
    {"recalibrate_bn", "take the running statistics of batch norms anew", NULL, fields, sizeof(config)}, run};
