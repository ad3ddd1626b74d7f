/* qtape eval: evaluate the newest checkpoint of a run, or an exported model, on one split. */
#include "base/h5.h"
#include "cli/run.h"
#include "export/engine.h"
#include "export/fixed_point.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const qt_option options[] = {{"split", 's', "NAME", "train, val or test (default: test)"},
                                    {"engine", 'e', "NAME", "float: the training graph; int: the deployment engine; fixed: the fixed-point interpreter (default: float; int for a file)"},
                                    {"bits", 'b', "N", "of a model trained for several precisions: the one to evaluate (default: the highest)"},
                                    QT_OPTION_JSON,
                                    {"out", 'o', "FILE.h5", "write logits [N, classes] and target [N]; of text, N are the tokens that count"},
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

/* engine NULL: the training graph, or what answers in its place. */
static qt_err evaluate(qt_run *r, const qt_engine *engine, int split, const char *name, const qt_args *a)
{
    const char *out = qt_arg(&qt_command_eval, a, "out");
    qt_result   res = {0};
    int64_t     n = qt_data_size(r->data, split), outputs = 1, T = qt_run_is_text(r) ? r->model->in.dim[0] : 1;
    R          *logits = NULL, *target = NULL;
    QT_CHECK(n > 0, QT_EUSAGE, "eval: the data of %s have no split '%s'", a->word[0], name);
    for (int i = 0; i < r->model->out.rank; i++) outputs *= r->model->out.dim[i];
    if (out) {
        logits = qt_alloc((size_t)(n * outputs) * sizeof(R)), target = qt_alloc((size_t)(n * T) * sizeof(R));
        if (!logits || !target) return qt_free(logits), qt_free(target), QT_EMEM;
    }
    qt_err e = qt_run_eval(r, split, &res, logits, target);
    if (engine) res.params = engine->params, res.bits_per_weight = engine->bits_per_weight, res.bytes = engine->bytes;
    if (e == QT_OK && out) e = save(out, res.n, outputs / T, logits, target);
    if (e == QT_OK) qt_result_print(name, engine ? "int" : r->answer ? "fixed" : "float", &res, qt_arg(&qt_command_eval, a, "json") != NULL);
    qt_free(logits), qt_free(target);
    return e;
}

/* Bits asked for; 0: none. */
static qt_err read_bits(const qt_args *a, int *bits)
{
    const char *text = qt_arg(&qt_command_eval, a, "bits");
    char       *end = NULL;
    long        v = text ? strtol(text, &end, 10) : 0;
    QT_CHECK(!text || (end != text && !*end && v > 0 && v <= 32), QT_EUSAGE, "eval: --bits %s: expected 1 to 32", text);
    return *bits = (int)v, QT_OK;
}

/* ---- the training graph of a run ----------------------------------------------------------------------------------------------------- */

static qt_err eval_run(int split, const char *name, const qt_args *a)
{
    qt_run *r = NULL;
    int     bits = 0;
    qt_err  e = qt_run_resume(a->word[0], QT_PROGRESS_QUIET, &r);
    if (e == QT_OK) e = read_bits(a, &bits);
    if (e == QT_OK && bits && !qt_model_switch(r->model, (qt_precision){.bits = bits}))
        e = qt_fail(QT_EUSAGE, "eval: %s cannot be switched to %d bits", a->word[0], bits);
    if (e == QT_OK) e = evaluate(r, NULL, split, name, a);
    qt_run_free(r);
    return e;
}

/* ---- the fixed-point interpreter ----------------------------------------------------------------------------------------------------- */

static qt_err eval_fixed(int split, const char *name, const qt_args *a)
{
    qt_run   *r = NULL;
    qt_fixed *p = NULL;
    qt_err    e = qt_run_resume(a->word[0], QT_PROGRESS_QUIET, &r);
    if (e == QT_OK) e = qt_fixed_make(r->tape, r->model, &p);
    if (e == QT_OK) qt_fixed_answers(r, p), e = evaluate(r, NULL, split, name, a);
    if (e == QT_OK && !qt_arg(&qt_command_eval, a, "json")) putchar('\n'), qt_fixed_print(stdout, p);
    qt_fixed_free(p);
    qt_run_free(r);
    return e;
}

/* ---- the deployment engine ----------------------------------------------------------------------------------------------------------- */

static qt_err eval_engine(qt_engine *engine, int split, const char *name, const qt_args *a)
{
    qt_run r = {0};
    int    bits = 0;
    if (!engine->integers) fprintf(stderr, "qtape: note: no layer of %s computes in integers\n", a->word[0]);
    qt_err e = read_bits(a, &bits);
    if (e == QT_OK && bits) e = qt_engine_switch(engine, bits);
    if (e == QT_OK) e = qt_engine_as_run(engine, &r);
    if (e == QT_OK) e = evaluate(&r, engine, split, name, a);
    qt_data_close(r.data);
    qt_engine_free(engine);
    return e;
}

static qt_err eval_file(int split, const char *name, const qt_args *a)
{
    qt_engine *engine;
    QT_TRY(qt_engine_load(a->word[0], &engine));
    return eval_engine(engine, split, name, a);
}

static qt_err eval_exported(int split, const char *name, const qt_args *a)
{
    qt_engine *engine = NULL;
    qt_run    *r = NULL;
    qt_err     e = qt_run_resume(a->word[0], QT_PROGRESS_QUIET, &r);
    if (e == QT_OK) e = qt_engine_of_run(r, &engine);
    qt_run_free(r);
    return e == QT_OK ? eval_engine(engine, split, name, a) : e;
}

/* ---- the command --------------------------------------------------------------------------------------------------------------------- */

static qt_err run(const qt_args *a)
{
    const char *split = qt_arg(&qt_command_eval, a, "split"), *engine = qt_arg(&qt_command_eval, a, "engine"), *what = a->word[0];
    struct stat st;
    if (!split) split = "test";
    int  at = qt_choice("train|val|test", split);
    bool integers = engine && !strcmp(engine, "int"), fixed = engine && !strcmp(engine, "fixed");
    QT_CHECK(at >= 0, QT_EUSAGE, "eval: --split %s: expected train, val or test", split);
    QT_CHECK(!engine || qt_choice("float|int|fixed", engine) >= 0, QT_EUSAGE, "eval: --engine %s: expected float, int or fixed", engine);
    QT_CHECK(!fixed || !qt_arg(&qt_command_eval, a, "bits"), QT_EUSAGE, "eval: --bits goes with the engines float and int, fixed point has one precision");
    if (stat(what, &st) || S_ISDIR(st.st_mode)) return (integers ? eval_exported : fixed ? eval_fixed : eval_run)(at, split, a);
    QT_CHECK(!engine || integers, QT_EUSAGE, "eval: %s is a file, which only the engine 'int' runs; --engine %s wants a run directory", what, engine);
    return eval_file(at, split, a);
}

const qt_command qt_command_eval = {
    {"eval", "evaluate a trained run or an exported model"},
    "DIR|FILE.h5 [--split test] [--engine float|int|fixed] [--bits N] [--json] [--out FILE.h5]",
    "Loads the last checkpoint of a run directory and evaluates one split of its data. --out keeps what the\n"
    "network answered, for a confusion matrix or a calibration plot in the language of your choice.\n\n"
    "--engine int exports the checkpoint and evaluates it with the deployment engine, which holds no float values of integer weights. A file\n"
    "of `qtape export --format h5` is evaluated in the same way. Both engines give the same answers to the bit.\n\n"
    "--engine fixed evaluates a run whose tensors are all cast to fixed point (quantizer `fixed`) with integers and shifts only, and prints\n"
    "the words and binary points of all tensors.\n\n"
    "  qtape eval runs/quickstart/ternary-s1\n"
    "  qtape eval runs/quickstart/ternary-s1 --split train --json\n"
    "  qtape eval runs/quickstart/ternary-s1 --out logits.h5\n"
    "  qtape eval runs/quickstart/ternary-s1 --engine int\n"
    "  qtape eval model.h5 --bits 4",
    options, 1, 1, run};
