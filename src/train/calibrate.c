/* Phase `calibrate`: shows training data to the quantizers of activations, so that static ranges can be taken. The model runs in
 * evaluation mode (batch norm and dropout as at inference), unquantized, its sites observe, and no weight moves. Batches come in the order
 * in which training would take them or, with a size of their own, in that of the data. If no training follows, the ranges stay as they are from here on. */
#include "train/train.h"

typedef struct calibrate_cfg {
    int64_t batches, batch_size;
} calibrate_cfg;

static const qt_field fields[] = {
    QT_F_INT(calibrate_cfg, batches, "16", 1, 1e9, "batches of training data to observe"),
    QT_F_INT(calibrate_cfg, batch_size, "0", 0, 1e6, "samples a batch, from the beginning of the split; 0: batches as training begins with them"),
    {NULL}};

static void set_sites(qt_run *r, bool calibrating)
{
    for (int i = 0; i < r->store->n_site; i++)
        r->store->site[i]->enabled = true, r->store->site[i]->observing = r->store->site[i]->bypass = calibrating;
}

static qt_err observe(qt_run *r, const qt_batch *b)
{
    qt_tensor *out;
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, false, false);
    qt_run_forward(r, b, &out);
    return qt_tape_error(r->tape);
}

static qt_err loop(qt_run *r, int64_t batches)
{
    const qt_batch *b;
    for (int64_t i = 0; i < batches; i++) {
        QT_TRY(qt_loader_next(r->loader, &b));
        if (!b) break;
        QT_TRY(observe(r, b));
        if (r->stop && *r->stop) QT_FAIL(QT_ESTOPPED, "stopped while calibrating; begin it again with: qtape resume %s", r->dir);
    }
    return QT_OK;
}

static qt_err run(qt_run *r, const void *cfg)
{
    const calibrate_cfg *c = cfg;
    qt_err               e;
    QT_CHECK(qt_data_size(r->data, QT_TRAIN) > 0, QT_EUSAGE, "the data have no split 'train'");
    QT_TRY(c->batch_size ? qt_loader_eval(r->data, QT_TRAIN, c->batch_size, &r->loader)
                         : qt_loader_train(r->data, (uint64_t)r->recipe->seed, 0, &r->loader));
    set_sites(r, true);
    e = loop(r, c->batches);
    set_sites(r, false);
    qt_tape_reset(r->tape);
    qt_loader_free(r->loader), r->loader = NULL;
    if (e == QT_OK) qt_run_log(r, "%s  calibrated on %lld batches", r->arm, (long long)c->batches);
    return e;
}

const qt_phase qt_phase_calibrate = {{"calibrate", "observe activations on training data, change no weight", NULL, fields, sizeof(calibrate_cfg)},
                                     run};
