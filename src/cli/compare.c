/* qtape compare: where two runs part. */
#include "cli/command.h"
#include "report/report.h"

static const qt_option options[] = {{"exact", 0, NULL, "exit code 3 if any bit differs but timing: a metric, or a number of the checkpoints"}, {0}};

static qt_err run(const qt_args *a)
{
    return qt_compare(a->word[0], a->word[1], qt_arg(&qt_command_compare, a, "exact") != NULL, stdout);
}

const qt_command qt_command_compare = {
    {"compare", "compare two runs: recipe, metrics, checkpoints"},
    "DIR DIR [--exact]",
    "Two run directories: the keys of their recipes that differ, the final metrics side by side, the first line of metrics.jsonl that differs in more\n"
    "than timing, and of the checkpoints that both keep, the first step that differs with its tensors: parameters in the order of the model, then the\n"
    "rest. Runs that keep every step (train.log_every=1 train.save_every=1 train.keep=1000) say so where they part. Two checkpoint files: the tensors\n"
    "alone. The exit code is 0 also where they differ; with --exact it is 3 then.\n\n"
    "  qtape compare runs/quickstart/fp32-s1 runs/quickstart/ternary-s1\n"
    "  qtape compare runs/a/ckpt/last.h5 runs/b/ckpt/last.h5 --exact",
    options, 2, 2, run};
