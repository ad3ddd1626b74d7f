/* qtape show: what a recipe comes to, after includes, variables and overrides. */
#include "cli/run.h"

static const qt_option options[] = {
    {"cost", 0, NULL, "add multiply-adds of each layer, what they cost by their bits, and widths and bytes of the products of a training step"},
    {"arm", 0, "NAME", "show this arm"},
    {0}};

static qt_err run(const qt_args *a)
{
    const qt_command *c = &qt_command_show;
    qt_arena          arena = {0};
    qt_recipe        *r;
    qt_err            e = qt_recipe_load(&arena, a->word[0], a->n - 1, a->word + 1, qt_arg(c, a, "arm"), &r);
    if (e == QT_OK) e = qt_recipe_show(stdout, r, qt_arg(c, a, "cost") != NULL);
    qt_arena_free(&arena);
    return e;
}

const qt_command qt_command_show = {
    {"show", "show what a recipe comes to: the resolved file, layers, quantizers, cost"},
    "RECIPE [key=value ...] [~key ...] [--arm NAME] [--cost]",
    "Prints the recipe with includes, variables, overrides and arm applied, and its layers with their shapes,\n"
    "parameters and quantizers. Reads no data.\n\n"
    "  qtape show recipes/quickstart.yaml --cost\n"
    "  qtape show recipes/quickstart.yaml --arm ternary",
    options, 1, -1, run};
