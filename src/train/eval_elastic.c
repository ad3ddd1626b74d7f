/* Phase `eval_elastic`: one model at all its precisions. For each width b of `num_bits` and each granularity of the weights, every site is
 * switched to b bits, symmetric (pinned sites stay at theirs), batch norms are recalibrated on `batches` training batches, and the test split
 * is evaluated. Events of measure: bits<b>-tensor and bits<b>-channel, bits<b> with the mean of the two, elastic with the mean of all. Afterwards
 * everything is as it was before, running statistics too. */
#include "train/train.h"

typedef struct config {
    qt_ints num_bits;
    int64_t batches;
} config;

static const qt_field fields[] = {
    QT_F_INTS(config, num_bits, "[8, 4, 3, 2]", 1, 16, "widths to evaluate"),
    QT_F_INT(config, batches, "8", 0, 1e9, "training batches for batch norms, at each; 0: they stay as they are"),
    {NULL}};

static const char *const granularity[2] = {"tensor", "channel"};

static qt_err check_model(qt_arena *a, const void *cfg, const qt_model *m)
{
    const config *c = cfg;
    (void)a;
    for (int i = 0; i < c->num_bits.n; i++) {
        bool found = false;
        for (int k = 0; k < m->store->n_site && !found; k++) {
            qt_precision list[QT_MAX_PRECISIONS];
            for (int j = qt_site_precisions(m->store->site[k], list); j-- > 0;) found |= list[j].bits == c->num_bits.v[i];
        }
        QT_CHECK(found, QT_ERECIPE, "eval_elastic: no quantizer of the model can be switched to %lld bits", (long long)c->num_bits.v[i]);
    }
    return QT_OK;
}

static void note(qt_run *r, const char *path, double accuracy, double loss)
{
    qt_metrics_measure(r, path, 2, (const char *const[]){"accuracy", "loss"}, (double[]){accuracy, loss});
}

static qt_err one(qt_run *r, const config *c, int64_t bits, int channel, qt_result *res)
{
    char path[64];
    qt_subnet_uniform(r, (qt_precision){(int)bits, false, channel});
    if (c->batches) QT_TRY(qt_recalibrate_bn(r, c->batches));
    QT_TRY(qt_run_eval(r, qt_data_size(r->data, QT_TEST) ? QT_TEST : qt_run_eval_split(r), res, NULL, NULL));
    snprintf(path, sizeof path, "bits%lld-%s", (long long)bits, granularity[channel]);
    note(r, path, res->accuracy, res->loss);
    return QT_OK;
}

static qt_err all(qt_run *r, const void *cfg)
{
    const config *c = cfg;
    double        accuracy = 0, loss = 0;
    for (int i = 0; i < c->num_bits.n; i++) {
        qt_result res[2];
        char      path[64];
        for (int channel = 0; channel < 2; channel++) QT_TRY(one(r, c, c->num_bits.v[i], channel, &res[channel]));
        snprintf(path, sizeof path, "bits%lld", (long long)c->num_bits.v[i]);
        note(r, path, (res[0].accuracy + res[1].accuracy) / 2, (res[0].loss + res[1].loss) / 2);
        qt_run_log(r, "%s  %s: accuracy %.2f %% with a step a tensor, %.2f %% with one a channel", r->arm, path, 100 * res[0].accuracy,
                   100 * res[1].accuracy);
        accuracy += (res[0].accuracy + res[1].accuracy) / 2, loss += (res[0].loss + res[1].loss) / 2;
    }
    note(r, "elastic", accuracy / c->num_bits.n, loss / c->num_bits.n);
    return QT_OK;
}

static qt_err run(qt_run *r, const void *cfg)
{
    QT_CHECK(!((const config *)cfg)->batches || qt_data_size(r->data, QT_TRAIN) > 0, QT_EUSAGE, "the data have no split 'train'");
    return qt_subnet_aside(r, cfg, all);
}

const qt_phase qt_phase_eval_elastic = {
    {"eval_elastic", "evaluate a model at each of its precisions", "Xu et al. 2023, arXiv 2308.07650", fields, sizeof(config)}, run,
    .check_model = check_model, .gives = "bits*.accuracy|bits*.loss|elastic.accuracy|elastic.loss"};
