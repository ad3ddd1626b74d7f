/* Phase `evaluate`: loss and accuracy of one more split as they are now, in evaluation mode, as measure.SPLIT.loss and .accuracy: how much better a
 * trained model knows its training data than the test set, for example. */
#include "train/train.h"
#include <math.h>

typedef struct evaluate_cfg {
    int split;
} evaluate_cfg;

static const qt_field fields[] = {QT_F_ENUM(evaluate_cfg, split, "train", "train|val|test", "the split to evaluate"), {NULL}};

static qt_err run(qt_run *r, const void *cfg)
{
    const qt_split           split = (qt_split)((const evaluate_cfg *)cfg)->split;
    static const char *const names[] = {"loss", "accuracy", "perplexity"};
    qt_result                res;
    QT_TRY(qt_run_eval(r, split, &res, NULL, NULL));
    const double v[] = {res.loss, res.classes ? res.accuracy : NAN, res.tokens ? exp(res.loss) : NAN};
    qt_metrics_measure(r, qt_split_name[split], 3, names, v);
    if (res.classes) qt_run_log(r, "%s  %s loss %.4f, accuracy %.2f %%", r->arm, qt_split_name[split], res.loss, 100 * res.accuracy);
    else qt_run_log(r, "%s  %s loss %.6g", r->arm, qt_split_name[split], res.loss);
    return QT_OK;
}

const qt_phase qt_phase_evaluate = {{"evaluate", "measure loss and accuracy of a split", NULL, fields, sizeof(evaluate_cfg)},
                                    run,
                                    .gives = "train.loss|train.accuracy|train.perplexity|val.loss|val.accuracy|val.perplexity|"
                                             "test.loss|test.accuracy|test.perplexity"};
