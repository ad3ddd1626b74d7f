/* What the commands that run something share: how progress is shown, and how a result is printed. */
#include "cli/run.h"
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

qt_err qt_arg_progress(const qt_command *c, const qt_args *a, qt_progress *p)
{
    bool quiet = qt_arg(c, a, "quiet"), json = qt_arg(c, a, "json");
    QT_CHECK(!quiet || !json, QT_EUSAGE, "%s: --quiet and --json exclude each other", c->d.name);
    *p = quiet ? QT_PROGRESS_QUIET : json ? QT_PROGRESS_JSON : isatty(STDERR_FILENO) ? QT_PROGRESS_LIVE : QT_PROGRESS_LINES;
    return QT_OK;
}

qt_err qt_run_finish(const qt_command *c, const qt_args *a, qt_run *r)
{
    qt_result res;
    if (qt_arg(c, a, "threads")) r->recipe->train.threads = qt_threads();
    r->stop = qt_run_catch_sigint();
    QT_TRY(qt_run_go(r, &res));
    if (r->progress == QT_PROGRESS_JSON || r->progress == QT_PROGRESS_QUIET) return QT_OK;
    qt_result_print("test", "float", &res, false);
    printf("run              %s\n", r->dir);
    return QT_OK;
}

void qt_result_print(const char *split, const char *engine, const qt_result *r, bool json)
{
    if (json) {
        printf("{\"split\": \"%s\", \"loss\": %.9g, ", split, r->loss);
        if (r->classes) printf("\"accuracy\": %.9g, ", r->accuracy);
        if (r->tokens) printf("\"perplexity\": %.9g, ", exp(r->loss));
        printf("\"n\": %lld, \"engine\": \"%s\"}\n", (long long)r->n, engine);
        return;
    }
    printf("split            %s\n%-16s %lld\nloss             %.6g\n", split, r->tokens ? "tokens" : "samples", (long long)r->n, r->loss);
    if (r->classes) printf("accuracy         %.2f %%\n", 100 * r->accuracy);
    if (r->tokens) printf("perplexity       %.6g\n", exp(r->loss));
    if (r->params) printf("parameters       %lld\n", (long long)r->params);
    if (r->bits_per_weight) printf("bits per weight  %.2f\n", r->bits_per_weight);
}
