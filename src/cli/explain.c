/* qtape explain: one descriptor in full: its doc, paper and fields, the head comment of its source file with the formulas, and of a quantizer what it
 * does to numbers and gradients. */
#include "cli/command.h"
#include "report/transfer.h"
#include <string.h>

static const qt_option options[] = {{0}};

/* A data set's name has a dash where its C name has an underscore. */
static bool same(const char *name, const char *c_name)
{
    for (; *name && (*name == *c_name || (*name == '-' && *c_name == '_')); name++) c_name++;
    return *name == *c_name;
}

/* ---- the picture of a quantizer ------------------------------------------------------------------------------------------------------- */

static qt_err put(qt_arena *a, qt_yaml *map, const char *key, const char *value)
{
    qt_yaml *y = NULL;
    if (*value == '[') QT_TRY(qt_yaml_parse(a, value, strlen(value), value, &y));
    else y = qt_yaml_scalar(a, value, (qt_pos){0});
    return qt_yaml_put(a, map, key, y);
}

static bool has_field(const qt_desc *d, const char *name)
{
    for (const qt_field *f = d->fields; f && f->name; f++)
        if (!strcmp(f->name, name)) return true;
    return false;
}

/* What a quantizer is for is not in its descriptor: a weight's, unless that is refused. */
static qt_err drive(qt_arena *a, const qt_yaml *spec, const char *role, qt_transfer *t)
{
    if (role) return qt_transfer_run(a, spec, !strcmp(role, "act") ? QT_ROLE_ACT : QT_ROLE_WEIGHT, t);
    if (qt_transfer_run(a, spec, QT_ROLE_WEIGHT, t) == QT_OK) return QT_OK;
    char  *why = qt_error_take();
    qt_err e = qt_transfer_run(a, spec, QT_ROLE_ACT, t);
    if (e) qt_error_clear(), qt_error_give(why);
    else qt_free(why);
    return e;
}

/* The first choice where a key must be given and was not. */
static qt_err choose(qt_arena *a, const qt_desc *d, qt_yaml *spec)
{
    for (const qt_field *f = d->fields; f && f->name; f++) {
        if (f->def || !f->choices || qt_yaml_get(spec, f->name)) continue;
        const char *first = qt_arena_sprintf(a, "%.*s", (int)strcspn(f->choices, "|"), f->choices);
        if (!first) return QT_EMEM;
        QT_TRY(put(a, spec, f->name, first));
    }
    return QT_OK;
}

/* Few bits, so that there are stairs to see, unless the words say otherwise. */
static qt_err picture(qt_arena *a, const qt_desc *d, int n, const char *const *word)
{
    qt_yaml    *spec = qt_yaml_map(a, (qt_pos){0});
    const char *role = NULL;
    qt_transfer t;
    if (!spec) return QT_EMEM;
    QT_TRY(put(a, spec, "use", d->name));
    for (int i = 0; i < n; i++) {
        const char *eq = strchr(word[i], '='), *key = eq ? qt_arena_sprintf(a, "%.*s", (int)(eq - word[i]), word[i]) : NULL;
        QT_CHECK(key && *key, QT_EUSAGE, "explain: expected key=value, found '%s'", word[i]);
        if (!strcmp(key, "role")) role = eq + 1;
        else QT_TRY(put(a, spec, key, eq + 1));
    }
    QT_CHECK(!role || !strcmp(role, "act") || !strcmp(role, "weight"), QT_EUSAGE, "explain: role=%s: expected weight or act", role);
    if (has_field(d, "num_bits") && !qt_yaml_get(spec, "num_bits")) QT_TRY(put(a, spec, "num_bits", "3"));
    QT_TRY(choose(a, d, spec));
    QT_TRY(drive(a, spec, role, &t));
    printf("\n");
    qt_transfer_print(stdout, &t);
    return QT_OK;
}

/* ---- the command ------------------------------------------------------------------------------------------------------------------------ */

static qt_err run(const qt_args *a)
{
    const qt_kind *k;
    qt_arena       arena = {0};
    QT_TRY(qt_kind_find(a->word[0], &k));
    QT_CHECK(a->n == 2 || k == &qt_quants, QT_EUSAGE, "explain: keys are for quantizers, whose picture they change, and not for %s", k->name);
    const qt_desc *d = qt_desc_find(k, a->word[1], (qt_pos){0});
    if (!d) return QT_EUSAGE;
    printf("%s %s: %s\n", k->one, d->name, d->doc);
    if (d->source) printf("source: %s\n", d->source);
    if (d->fields && d->fields->name) printf("\nfields:\n"), qt_fields_print(stdout, d->fields, "  ");
    for (const qt_head *h = qt_heads; h->name; h++)
        if (!strcmp(h->one, k->one) && same(d->name, h->name)) printf("\nfrom %s:\n\n%s", h->file, h->text);
    qt_err e = k == &qt_quants ? picture(&arena, d, a->n - 2, a->word + 2) : QT_OK;
    qt_arena_free(&arena);
    return e;
}

const qt_command qt_command_explain = {
    {"explain", "explain one thing: its fields, its paper, its formulas"},
    "KIND NAME [key=value ...]",
    "Prints what `qtape list KIND NAME` prints, and then the head of the source file: the formula, how its gradient follows, the paper and "
    "the place in it,\nand what was left out. Of a quantizer follows a picture: the function that it computes, with 3 bits unless num_bits or other keys say\n"
    "otherwise, over a ramp from -3 to 3 among numbers like a bell; and the gradient that backward takes it to have. role=act shows it on activations.\n\n"
    "  qtape explain quant lsq\n  qtape explain quant dorefa num_bits=2 role=act\n  qtape explain op cross_entropy\n  qtape explain layer linear",
    options, 2, -1, run};
