/* qtape reproduce: all arms of a recipe for all its seeds, then the verdict on its claims. */
#include "cli/run.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_SEEDS = 64 };

static const qt_option options[] = {{"tag", 0, "TAG", "with `all`: only recipes with this tag"},
                                    {"seeds", 's', "N", "this many seeds from 1 on, or a list: 11,12,13"},
                                    {"max-runs", 0, "N", "refuse a recipe of more runs, arms times seeds (default: 300)"},
                                    {"run", 0, "DIR", "the root of the run directories ARM-sSEED (default: runs/NAME)"},
                                    QT_OPTION_THREADS,
                                    QT_OPTION_QUIET,
                                    QT_OPTION_JSON,
                                    {0}};

/* "3" is seeds 1, 2, 3; "11,12" and "11," are themselves. */
static qt_err read_seeds(const char *text, qt_reproduce_opts *o)
{
    if (!strchr(text, ',')) {
        int64_t n;
        QT_TRY(qt_arg_int("seeds", text, 1, MAX_SEEDS, &n));
        for (o->n_seeds = 0; o->n_seeds < n; o->n_seeds++) o->seeds[o->n_seeds] = o->n_seeds + 1;
        return QT_OK;
    }
    for (const char *s = text; *s;) {
        char *end;
        long long v = strtoll(s, &end, 10);
        QT_CHECK(end != s && (*end == ',' || !*end) && v >= 0 && o->n_seeds < MAX_SEEDS, QT_EUSAGE,
                 "--seeds %s: expected a number of seeds or a list as 11,12,13 of at most %d", text, MAX_SEEDS);
        for (int i = 0; i < o->n_seeds; i++) QT_CHECK(o->seeds[i] != v, QT_EUSAGE, "--seeds %s: %lld stands here twice", text, v);
        o->seeds[o->n_seeds++] = v;
        s = end + (*end == ',');
    }
    return QT_OK;
}

static qt_err run(const qt_args *a)
{
    const qt_command *c = &qt_command_reproduce;
    const char       *seeds = qt_arg(c, a, "seeds");
    qt_reproduce_opts o = {.run_root = qt_arg(c, a, "run"), .tag = qt_arg(c, a, "tag")};
    QT_TRY(qt_arg_progress(c, a, &o.progress));
    QT_CHECK(!o.tag || !strcmp(a->word[0], "all"), QT_EUSAGE, "reproduce: --tag chooses among all recipes: qtape reproduce all --tag %s", o.tag);
    if (qt_arg(c, a, "max-runs")) QT_TRY(qt_arg_int("max-runs", qt_arg(c, a, "max-runs"), 1, 1 << 20, &o.max_runs));
    if (qt_arg(c, a, "threads")) o.threads = qt_threads();
    if (seeds) QT_TRY(read_seeds(seeds, &o));
    o.stop = qt_run_catch_sigint();
    return qt_reproduce(a->word[0], &o, stdout);
}

const qt_command qt_command_reproduce = {
    {"reproduce", "train all arms and seeds of a recipe and judge its claims"},
    "RECIPE|SLUG|all [--tag TAG] [--seeds N | --seeds 11,12,13] [--max-runs N] [--run DIR] [--threads N]",
    "Trains every arm for every seed, skips what is finished, and prints a table (mean and standard deviation\n"
    "over the seeds) and a verdict for each claim of the recipe. SLUG is the name of a file below\n"
    "recipes/papers. Exit code 3 says that a claim failed.\n\n"
    "  qtape reproduce recipes/quickstart.yaml\n"
    "  qtape reproduce lsq --seeds 3\n"
    "  qtape reproduce all --tag smoke",
    options, 1, 1, run};
