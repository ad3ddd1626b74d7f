/* Phase `eval_precisions`: evaluates the model at every precision that its sites can be switched between, one after the other, and leaves it
 * at the highest. measure.bits4.accuracy is that of 4 bits, measure.mean.accuracy the mean over all of them. */
#include "train/train.h"
#include <math.h>

typedef struct config {
    int split;
} config;

static const qt_field fields[] = {QT_F_ENUM(config, split, "test", "train|val|test", "which part of the data"), {NULL}};

enum { LOSS, QUALITY, MEASURES };

/* Loss, and the accuracy or perplexity. */
static void measure(qt_run *r, const char *path, const qt_result *res, const double v[MEASURES])
{
    const char *const name[MEASURES] = {"loss", res->tokens ? "perplexity" : "accuracy"};
    qt_metrics_measure(r, path, res->classes || res->tokens ? MEASURES : 1, name, v);
}

static qt_err evaluate(qt_run *r, qt_precision p, qt_split split, int of, qt_result *res, double mean[MEASURES])
{
    char path[32];
    qt_model_switch(r->model, p);
    QT_TRY(qt_run_eval(r, split, res, NULL, NULL));
    double v[MEASURES] = {res->loss, res->tokens ? exp(res->loss) : res->accuracy};
    snprintf(path, sizeof path, "bits%d", p.bits);
    measure(r, path, res, v);
    for (int i = 0; i < MEASURES; i++) mean[i] += v[i] / of;
    if (res->classes) qt_run_log(r, "%s  %d bits: %s loss %.4f, accuracy %.2f %%", r->arm, p.bits, qt_split_name[split], v[LOSS], 100 * v[QUALITY]);
    else qt_run_log(r, "%s  %d bits: %s loss %.4f", r->arm, p.bits, qt_split_name[split], v[LOSS]);
    return QT_OK;
}

static qt_err run(qt_run *r, const void *cfg)
{
    const qt_split split = (qt_split)((const config *)cfg)->split;
    qt_precision   list[QT_MAX_PRECISIONS];
    qt_result      res = {0};
    double         mean[MEASURES] = {0};
    const int      n = qt_model_precisions(r->model, list);
    qt_err         e = QT_OK;
    for (int i = 0; i < n && e == QT_OK; i++) e = evaluate(r, list[i], split, n, &res, mean);
    qt_model_switch(r->model, (qt_precision){0});
    if (e == QT_OK) measure(r, "mean", &res, mean);
    return e;
}

static qt_err check_model(qt_arena *a, const void *cfg, const qt_model *m)
{
    qt_precision list[QT_MAX_PRECISIONS];
    (void)a, (void)cfg;
    QT_CHECK(qt_model_precisions(m, list), QT_ERECIPE, "phases: eval_precisions wants quantizers that hold several precisions (double_rounding, or "
             "lsq with a list of bits)");
    return QT_OK;
}

const qt_phase qt_phase_eval_precisions = {
    .d = {"eval_precisions", "evaluate at each precision that the model can be switched to", NULL, fields, sizeof(config)},
    .gives = "bits*.loss|bits*.accuracy|bits*.perplexity|mean.loss|mean.accuracy|mean.perplexity", .run = run, .check_model = check_model};
