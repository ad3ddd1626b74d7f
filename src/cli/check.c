/* qtape check: is this recipe right? All its errors in one pass; and what is quantized, what is kept, and why. */
#include "cli/run.h"
#include <string.h>

static const qt_option options[] = {
    {"arm", 0, "NAME", "check with this arm applied (all arms are checked where the command line changes nothing)"},
    {"max-runs", 0, "N", "refuse a recipe of more runs, arms times seeds (default: 300)"},
    {0}};

static bool says(const qt_yaml *match, const char *word)
{
    for (int i = 0; i < match->n; i++)
        if (says(match->item[i], word)) return true;
    return match->kind == QT_YAML_SCALAR && !strcmp(match->text, word);
}

/* Why the weights of layer i stay as they are: the last rule that speaks of them says so, or there is none. */
static void print_reason(const qt_recipe *r, const qt_model *m, int i)
{
    const qt_yaml *last_word = NULL;
    int            first = 0, last = m->n - 1;
    while (!m->m[first].layer->quantizes) first++;
    while (!m->m[last].layer->quantizes) last--;
    for (int k = 0; r->quant && k < r->quant->n; k++) {
        const qt_yaml *match = qt_yaml_get(r->quant->item[k], "match"), *weights = qt_yaml_get(r->quant->item[k], "weights");
        if (weights && (qt_match_any(match, m->m[i].path) || (i == first && says(match, "first")) || (i == last && says(match, "last")))) last_word = weights;
    }
    if (last_word) printf(" %s (none at %s:%d:%d)", m->m[i].path, last_word->pos.file, last_word->pos.line, last_word->pos.col);
    else printf(" %s (%s)", m->m[i].path, r->quant ? "no rule for its weights" : "no quant section");
}

static void print_model(const qt_recipe *r, const qt_model *m)
{
    int quantized = 0, kept = 0;
    for (int i = 0; i < m->n; i++)
        if (m->m[i].layer->quantizes) m->m[i].weight ? quantized++ : kept++;
    printf("%s: recipe ok: %d layers, %lld parameters, quantized %d / kept %d\n", r->file, m->n, (long long)qt_store_trained(m->store), quantized, kept);
    if (quantized) printf("quantized:");
    for (int i = 0; i < m->n; i++) {
        const qt_module *l = &m->m[i];
        if (!l->weight) continue;
        printf(" %s (%s", l->path, l->weight->quant->d.name);
        printf(l->act ? ", input %s)" : ")", l->act ? l->act->quant->d.name : "");
    }
    if (quantized) putchar('\n');
    if (kept) printf("kept:");
    for (int i = 0; i < m->n; i++)
        if (m->m[i].layer->quantizes && !m->m[i].weight) print_reason(r, m, i);
    if (kept) putchar('\n');
    for (int i = 0; r->arms && i < r->arms->n; i++) printf("%s %s", i ? "" : "arms, all ok, see them with --arm:", r->arms->key[i]);
    if (r->arms) putchar('\n');
}

static void print_adapters(const qt_model *m)
{
    printf("adapters:");
    for (int i = 0; i < m->n; i++)
        if (m->m[i].lora) printf(" %s", m->m[i].path);
    printf("; %lld of the parameters are trained\n", (long long)qt_store_moving(m->store));
}

static qt_err summary(qt_arena *a, qt_recipe *r)
{
    qt_data  *data;
    qt_model *m;
    QT_TRY(qt_data_read(a, r->data, &data));
    const qt_data_info *info = qt_data_info_of(data);
    if (!info->known) {
        printf("%s: recipe ok; the shape of its data is known only when they are read, so the model was not built\n", r->file);
        return QT_OK;
    }
    qt_shape  in = {.rank = info->rank, .ids = info->ids};
    qt_store *s = qt_store_new((uint64_t)r->seed);
    if (!s) return QT_EMEM;
    memcpy(in.dim, info->dim, sizeof in.dim);
    qt_err e = qt_model_build(a, s, r->model, r->quant, in, info->classes, &m);
    if (e == QT_OK) e = qt_lora_apply(a, r->lora, m);
    if (e == QT_OK) print_model(r, m);
    if (e == QT_OK && r->lora) print_adapters(m);
    qt_store_free(s);
    return e;
}

static qt_err run(const qt_args *a)
{
    const qt_command *c = &qt_command_check;
    const char       *runs = qt_arg(c, a, "max-runs");
    int64_t           most = QT_MAX_RUNS;
    qt_arena          arena = {0};
    qt_recipe        *r;
    if (runs) QT_TRY(qt_arg_int("max-runs", runs, 1, 1 << 20, &most));
    qt_err e = qt_recipe_load(&arena, a->word[0], a->n - 1, a->word + 1, qt_arg(c, a, "arm"), &r);
    if (e == QT_OK) e = qt_recipe_limit(r, 0, most);
    if (e == QT_OK) e = summary(&arena, r);
    qt_arena_free(&arena);
    return e;
}

const qt_command qt_command_check = {
    {"check", "check a recipe without training: every error at its file:line:col"},
    "RECIPE [key=value ...] [~key ...] [--arm NAME] [--max-runs N]",
    "Reads the recipe, its includes and overrides, builds the model and every arm, and reports all errors in\n"
    "one pass: unknown keys, values out of bounds, shapes that do not chain, rules that match nothing. No data\n"
    "are read and nothing is written. A good recipe is answered with what it quantizes and what it keeps.\n\n"
    "  qtape check recipes/quickstart.yaml\n"
    "  qtape check recipes/quickstart.yaml optim.lr=1e-2 \"quant[0].weights.num_bits=2\"",
    options, 1, -1, run};
