/* qtape resume: go on with a run that was stopped. */
#include "cli/run.h"

static const qt_option options[] = {QT_OPTION_THREADS, QT_OPTION_QUIET, QT_OPTION_JSON, {0}};

static qt_err run(const qt_args *a)
{
    const qt_command *c = &qt_command_resume;
    qt_progress       progress;
    qt_run           *run = NULL;
    qt_err            e = qt_arg_progress(c, a, &progress);
    if (e == QT_OK) e = qt_run_resume(a->word[0], progress, &run);
    if (e == QT_OK) e = qt_run_finish(c, a, run);
    qt_run_free(run);
    return e;
}

const qt_command qt_command_resume = {
    {"resume", "go on with a run that was stopped"},
    "DIR [--threads N] [--quiet|--json]",
    "Goes on from the last checkpoint of a run directory; the recipe is not needed. The result has the same\n"
    "bits as if the run had never been stopped, for any number of threads.\n\n"
    "  qtape resume runs/quickstart/ternary-s1",
    options, 1, 1, run};
