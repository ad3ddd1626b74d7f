/* qtape gradcheck: compares every operation's gradient with central differences. That needs double precision, so the program hands
 * over to its twin qtape-f64, the same sources compiled with doubles; without the twin it checks in float, to a looser bound. */
#include "autograd/gradcheck.h"
#include "cli/command.h"
#include "ops/ops.h"
#include "qat/quant.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const qt_option options[] = {{0}};

/* Path of the twin, beside this program or in ../libexec/qtape; false if there is none. */
static bool twin(char path[static 4096])
{
    ssize_t n = readlink("/proc/self/exe", path, 4000);
    if (n <= 0) return false;
    path[n] = 0;
    char *base = strrchr(path, '/') + 1;
    snprintf(base, 64, "qtape-f64");
    if (access(path, X_OK) == 0) return true;
    snprintf(base, 64, "../libexec/qtape/qtape-f64");
    return access(path, X_OK) == 0;
}

/* Worst error over the cases of an op, and how many there are. */
static qt_err check_op(const qt_op *op, int *cases, double *worst)
{
    *cases = 0, *worst = 0;
    for (const qt_case *c = op->cases; c && c->name; c++, (*cases)++) {
        qt_gradcheck_result r;
        QT_TRY(qt_gradcheck(op, c, 1, &r));
        if (!(r.worst <= *worst)) *worst = r.worst; /* NaN too */
    }
    return QT_OK;
}

typedef struct tally {
    int passed, failed, skipped;
} tally;

static void report(const qt_op *op, tally *n)
{
    int    cases;
    double worst;
    if (op->kind != QT_EXACT) {
        printf("%-18s %5s  %10s  %s\n", op->d.name, "-", "-", op->kind == QT_SURROGATE ? "surrogate: see tests" : "no gradient");
        n->skipped++;
        return;
    }
    bool ran = check_op(op, &cases, &worst) == QT_OK, ok = ran && worst <= qt_gradcheck_bound();
    printf("%-18s %5d  %10.1e  %s\n", op->d.name, cases, worst, ok ? "ok" : ran ? "FAIL" : "FAIL: cannot be run");
    ok ? n->passed++ : n->failed++;
}

static qt_err check_all(const char *name)
{
    tally n = {0};
    if (name && !qt_desc_find(&qt_ops, name, (qt_pos){0})) return QT_EUSAGE;
    printf("%-18s %5s  %10s\n", "op", "cases", "worst");
    for (int i = 0; qt_ops.all[i]; i++)
        if (!name || !strcmp(name, qt_ops.all[i]->name)) report((const qt_op *)qt_ops.all[i], &n);
    for (int i = 0; !name && qt_quants.all[i]; i++)
        if (((const qt_quant *)qt_quants.all[i])->op) report(((const qt_quant *)qt_quants.all[i])->op, &n);
    printf("%d passed, %d failed, %d skipped, in %s precision with the bound %.0e\n", n.passed, n.failed, n.skipped,
           sizeof(R) == sizeof(double) ? "double" : "float", qt_gradcheck_bound());
    return n.failed ? qt_fail(QT_EDATA, "gradcheck: %d ops failed", n.failed) : QT_OK;
}

static qt_err run(const qt_args *a)
{
    char        path[4096];
    const char *name = a->n ? a->word[0] : NULL;
    if (sizeof(R) == sizeof(float) && twin(path)) {
        fflush(stdout);
        execl(path, path, "gradcheck", name, (char *)NULL);
    }
    return check_all(name);
}

const qt_command qt_command_gradcheck = {
    {"gradcheck", "compare the gradients of all operations with finite differences"},
    "[NAME]",
    "Runs every case of every operation in double precision and prints the worst relative difference between\n"
    "the gradient on the tape and a central difference. Exit code 1 says that one is wrong. Quantizers have\n"
    "surrogate gradients on purpose (straight-through, learned steps); their tests compare with the paper.\n\n"
    "  qtape gradcheck\n  qtape gradcheck conv2d",
    options, 0, 1, run};
