/* qtape list: every descriptor of a kind with its doc, or one with its fields, for people or as JSON. */
#include "base/json.h"
#include "cli/command.h"
#include "nn/nn.h"
#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const qt_desc *const none[] = {NULL};
static const qt_kind        recipes = {"recipes", "recipe", "recipe files: below ./recipes, or where qtape was installed", none};
const qt_kind *const        qt_kinds[] = {&qt_ops,    &qt_quants,    &qt_layers,   &qt_archs, &qt_losses, &qt_metrics,  &qt_optims,
                                          &qt_schedules, &qt_datasets, &qt_phases, &qt_steppers, &qt_exporters, &qt_codecs, &qt_regularizers,
                                          &qt_commands, &recipes, NULL};

qt_err qt_kind_find(const char *word, const qt_kind **k)
{
    const char *names[32] = {NULL};
    int         n = 0;
    for (; qt_kinds[n]; n++) {
        names[n] = qt_kinds[n]->name;
        if (strcmp(word, qt_kinds[n]->name) && strcmp(word, qt_kinds[n]->one)) continue;
        *k = qt_kinds[n];
        return QT_OK;
    }
    const char *near = qt_near(word, n, names);
    if (near) return qt_fail(QT_EUSAGE, "unknown kind '%s', did you mean '%s'?", word, near);
    qt_fail(QT_EUSAGE, "unknown kind '%s'; there are:", word);
    for (int i = 0; i < n; i++) qt_fail(QT_EUSAGE, "    %-10s %s", names[i], qt_kinds[i]->doc);
    return QT_EUSAGE;
}

/* ---- recipes ------------------------------------------------------------------------------------------------------------------- */

static struct { /* nftw has no argument to pass this through */
    qt_arena    *a;
    const char **file;
    int          n, cap;
    qt_err       e;
} found;

static int visit(const char *file, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)ftw;
    const char *dot = strrchr(file, '.');
    if (type != FTW_F || !dot || strcmp(dot, ".yaml")) return 0;
    found.e = qt_grow(&found.file, &found.cap, found.n + 2, sizeof *found.file);
    if (found.e == QT_OK && !(found.file[found.n++] = qt_arena_strdup(found.a, file))) found.e = QT_EMEM;
    return found.e != QT_OK;
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

qt_err qt_recipe_files(qt_arena *a, const char *const **files)
{
    const char *root = getenv("QTAPE_RECIPES");
    if (!root) root = access("recipes", R_OK) == 0 ? "recipes" : QTAPE_DATADIR "/recipes";
    memset(&found, 0, sizeof found);
    found.a = a;
    found.e = qt_grow(&found.file, &found.cap, 1, sizeof *found.file);
    if (found.e == QT_OK) nftw(root, visit, 8, FTW_PHYS);
    const char **list = qt_arena_zalloc(a, (size_t)(found.n + 1) * sizeof *list);
    qt_err       e = found.e == QT_OK && !list ? QT_EMEM : found.e;
    if (e == QT_OK) {
        qsort(found.file, (size_t)found.n, sizeof *found.file, by_name);
        memcpy(list, found.file, (size_t)found.n * sizeof *list);
        *files = list;
    }
    qt_free(found.file);
    return e;
}

/* What a recipe says about itself: its `doc`, or else the first line of its head comment. */
static void recipe_doc(const char *file, char doc[static 160])
{
    FILE *f = fopen(file, "r");
    char  line[256];
    doc[0] = 0;
    while (f && fgets(line, sizeof line, f)) {
        bool own = !strncmp(line, "doc: ", 5);
        line[strcspn(line, "\n")] = 0;
        if (own || (!doc[0] && line[0] == '#')) snprintf(doc, 160, "%.150s", line + (own ? 5 : strspn(line, "# ")));
        if (own) break;
    }
    if (f) fclose(f);
}

/* ---- printing ------------------------------------------------------------------------------------------------------------------ */

static void json_str(const char *s)
{
    if (s) qt_json_print(stdout, s, strlen(s));
    else fputs("null", stdout);
}

static void json_key(const char *key, const char *value)
{
    printf(", \"%s\": ", key);
    json_str(value);
}

static void json_field(const qt_field *f)
{
    printf("{\"name\": ");
    json_str(f->name);
    json_key("type", qt_type_name(f->type));
    json_key("default", f->def);
    if (f->type == QT_INT || f->type == QT_REAL || f->type == QT_INTS) printf(", \"min\": %.17g, \"max\": %.17g", f->min, f->max);
    if (f->choices) json_key("choices", f->choices);
    json_key("doc", f->doc);
    putchar('}');
}

/* An operation's C signature, from ops.def. */
static const char *signature(const char *op)
{
    static const struct {
        const char *name, *c;
    } all[] = {
#define QT_OP(name, signature) {#name, "qt_tensor *qt_" #name #signature},
#include "qtape/ops.def"
#undef QT_OP
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i].name, op)) return all[i].c;
    return NULL;
}

static void json_desc(const qt_kind *k, const qt_desc *d)
{
    printf("{\"name\": ");
    json_str(d->name);
    json_key("doc", d->doc);
    json_key("source", d->source);
    if (k == &qt_ops) json_key("signature", signature(d->name));
    printf(", \"fields\": [");
    for (const qt_field *f = d->fields; f && f->name; f++) {
        if (f != d->fields) printf(", ");
        json_field(f);
    }
    printf("]}");
}

static void print_desc(const qt_kind *k, const qt_desc *d)
{
    printf("%s %s: %s\n", k->one, d->name, d->doc);
    if (d->source) printf("source: %s\n", d->source);
    if (k == &qt_ops) printf("C: %s\n", signature(d->name));
    if (k == &qt_commands) printf("usage: qtape %s %s\n", d->name, ((const qt_command *)d)->usage);
    if (d->fields && d->fields->name) printf("fields:\n"), qt_fields_print(stdout, d->fields, "  ");
}

static qt_err list_recipes(bool json)
{
    qt_arena           a = {0};
    const char *const *file;
    char               doc[160];
    qt_err             e = qt_recipe_files(&a, &file);
    if (e == QT_OK && json) printf("[");
    for (int i = 0; e == QT_OK && file[i]; i++) {
        recipe_doc(file[i], doc);
        if (!json) printf("%-36s %s\n", file[i], doc);
        else printf("%s{\"name\": ", i ? ", " : ""), json_str(file[i]), json_key("doc", doc), printf(", \"fields\": []}");
    }
    if (e == QT_OK && json) printf("]\n");
    qt_arena_free(&a);
    return e;
}

/* ---- the command --------------------------------------------------------------------------------------------------------------- */

static const qt_option options[] = {QT_OPTION_JSON, {0}};

static qt_err run(const qt_args *a)
{
    const qt_kind *k;
    bool           json = qt_arg(&qt_command_list, a, "json") != NULL;
    QT_TRY(qt_kind_find(a->word[0], &k));
    if (k == &recipes) {
        QT_CHECK(a->n == 1, QT_EUSAGE, "list recipes takes no name; `qtape show %s` shows a recipe", a->word[1]);
        return list_recipes(json);
    }
    if (a->n == 2) {
        const qt_desc *d = qt_desc_find(k, a->word[1], (qt_pos){0});
        if (!d) return QT_EUSAGE;
        if (json) json_desc(k, d), putchar('\n');
        else print_desc(k, d);
        return QT_OK;
    }
    if (json) printf("[");
    else if (!k->all[0]) printf("%s: %s\n", k->name, k->doc);
    for (int i = 0; k->all[i]; i++) {
        if (!json) printf("%-16s %s\n", k->all[i]->name, k->all[i]->doc);
        else printf("%s", i ? ",\n " : ""), json_desc(k, k->all[i]);
    }
    if (json) printf("]\n");
    return QT_OK;
}

const qt_command qt_command_list = {
    {"list", "list what there is: operations, quantizers, layers, data sets, recipes ..."},
    "KIND [NAME] [--json]",
    "KIND is one of ops, quants, layers, losses, metrics, optims, schedules, datasets, phases, steppers, exporters, codecs, regularizers,\n"
    "commands, recipes. With a NAME its fields follow: name, type, default, bounds and meaning, as a recipe may give them.\n\n"
    "  qtape list quants\n  qtape list quants lsq\n  qtape list layers --json",
    options, 1, 2, run};
