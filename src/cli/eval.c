/* qtape eval: evaluate the newest checkpoint of a run on one split. */
#include "base/h5.h"
#include "cli/run.h"
#include <string.h>

static const qt_option options[] = {{"split", 's', "NAME", "train, val or test (default: test)"},
                                    {"engine", 'e', "NAME", "float, or int where integers are trained (default: float)"},
                                    QT_OPTION_JSON,
                                    {"out", 'o', "FILE.h5", "write logits [N, classes] and target [N]"},
                                    QT_OPTION_THREADS,
                                    {0}};

static qt_err write_logits(qt_h5 *f, int64_t n, int64_t outputs, const R *logits, const R *target)
{
    QT_TRY(qt_h5_write(f, "logits", 2, (int64_t[]){n, outputs}, logits, true));
    return qt_h5_write(f, "target", 1, &n, target, true);
}

/* To a temporary name first: a file of this name is always whole. */
static qt_err save(const char *file, int64_t n, int64_t outputs, const R *logits, const R *target)
{
    qt_h5 *f;
    char  *part = qt_sprintf("%s.part", file);
    if (!part) return QT_EMEM;
    qt_err e = qt_h5_create(part, 0, &f);
    if (e == QT_OK) {
        e = write_logits(f, n, outputs, logits, target);
        qt_err closed = qt_h5_close(f);
        if (e == QT_OK) e = closed;
        if (e == QT_OK) e = qt_file_commit(part, file);
        else remove(part);
    }
    qt_free(part);
    return e;
}

static qt_err evaluate(qt_run *r, int split, const char *name, const qt_args *a)
{
    const char *out = qt_arg(&qt_command_eval, a, "out");
    qt_result   res = {0};
    int64_t     n = qt_data_size(r->data, split), outputs = 1;
    R          *logits = NULL, *target = NULL;
    QT_CHECK(n > 0, QT_EUSAGE, "eval: the data of %s have no split '%s'", a->word[0], name);
    for (int i = 0; i < r->model->out.rank; i++) outputs *= r->model->out.dim[i];
    if (out) {
        logits = qt_alloc((size_t)(n * outputs) * sizeof(R)), target = qt_alloc((size_t)n * sizeof(R));
        if (!logits || !target) return qt_free(logits), qt_free(target), QT_EMEM;
    }
    qt_err e = qt_run_eval(r, split, &res, logits, target);
    if (e == QT_OK && out) e = save(out, n, outputs, logits, target);
    if (e == QT_OK) qt_result_print(name, "float", &res, qt_arg(&qt_command_eval, a, "json") != NULL);
    qt_free(logits), qt_free(target);
    return e;
}

static qt_err run(const qt_args *a)
{
    const char *split = qt_arg(&qt_command_eval, a, "split"), *engine = qt_arg(&qt_command_eval, a, "engine");
    if (!split) split = "test";
    int at = qt_choice("train|val|test", split);
    QT_CHECK(at >= 0, QT_EUSAGE, "eval: --split %s: expected train, val or test", split);
    QT_CHECK(!engine || qt_choice("float|int", engine) >= 0, QT_EUSAGE, "eval: --engine %s: expected float or int", engine);
    QT_CHECK(!engine || !strcmp(engine, "float"), QT_EUSAGE, "eval: the integer engine is not in this version; leave --engine away");
    qt_run *r = NULL;
    qt_err  e = qt_run_resume(a->word[0], QT_PROGRESS_QUIET, &r);
    if (e == QT_OK) e = evaluate(r, at, split, a);
    qt_run_free(r);
    return e;
}

const qt_command qt_command_eval = {
    {"eval", "evaluate a trained run"},
    "DIR [--split test] [--engine float|int] [--json] [--out FILE.h5]",
    "Loads the last checkpoint of a run directory and evaluates one split of its data. --out keeps what the\n"
    "network answered, for a confusion matrix or a calibration plot in the language of your choice.\n\n"
    "  qtape eval runs/quickstart/ternary-s1\n"
    "  qtape eval runs/quickstart/ternary-s1 --split train --json\n"
    "  qtape eval runs/quickstart/ternary-s1 --out logits.h5",
    options, 1, 1, run};
