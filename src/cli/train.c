/* qtape train: one run of one recipe. */
#include "cli/run.h"

static const qt_option options[] = {{"arm", 0, "NAME", "train this arm of the recipe instead of the recipe as it stands"},
                                    {"run", 0, "DIR", "the run directory (default: runs/NAME/ARM-sSEED)"},
                                    QT_OPTION_THREADS,
                                    QT_OPTION_QUIET,
                                    QT_OPTION_JSON,
                                    {"force", 'f', NULL, "empty the run directory first if it is in use"},
                                    {0}};

static qt_err run(const qt_args *a)
{
    const qt_command *c = &qt_command_train;
    const char       *arm = qt_arg(c, a, "arm");
    qt_arena          arena = {0};
    qt_recipe        *r;
    qt_progress       progress;
    qt_run           *run = NULL;
    qt_err            e = qt_arg_progress(c, a, &progress);
    if (e == QT_OK) e = qt_recipe_load(&arena, a->word[0], a->n - 1, a->word + 1, arm, &r);
    if (e == QT_OK) e = qt_run_new(r, qt_arg(c, a, "run"), arm, qt_arg(c, a, "force") != NULL, progress, &run);
    if (e == QT_OK) e = qt_run_finish(c, a, run);
    qt_run_free(run);
    qt_arena_free(&arena);
    return e;
}

const qt_command qt_command_train = {
    {"train", "train one recipe, or one arm of it"},
    "RECIPE [key=value ...] [~key ...] [--arm NAME] [--run DIR] [--threads N] [--quiet|--json] [--force]",
    "Checks the recipe, makes the run directory, trains, and evaluates at the end. key=value changes the\n"
    "recipe for this run, ~key removes a key. The directory holds the recipe as resolved, metrics.jsonl and\n"
    "checkpoints; one that is not empty is refused unless --force is given. Ctrl-C saves and stops.\n\n"
    "  qtape train recipes/quickstart.yaml\n"
    "  qtape train recipes/quickstart.yaml --arm ternary --run /tmp/ternary\n"
    "  qtape train recipes/quickstart.yaml data.use=digits train.epochs=2 --force",
    options, 1, -1, run};
