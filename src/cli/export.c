/* qtape export: a trained run as a file to ship. */
#include "cli/run.h"
#include "export/export.h"
#include <string.h>

static const qt_option options[] = {{"format", 'f', "NAME", "the file format (`qtape list exporters`)"},
                                    {"out", 'o', "FILE", "the file to write (default: DIR/export/NAME.EXT, after the recipe's name)"},
                                    QT_OPTION_THREADS,
                                    {0}};

/* "key=value" into the map. */
static qt_err add_option(qt_arena *a, qt_yaml *map, const char *word)
{
    const char *eq = strchr(word, '=');
    qt_yaml    *value;
    QT_CHECK(eq && eq > word, QT_EUSAGE, "export: expected key=value, found '%s'", word);
    char *key = qt_arena_sprintf(a, "%.*s", (int)(eq - word), word);
    if (!key) return QT_EMEM;
    QT_CHECK(!qt_yaml_get(map, key), QT_EUSAGE, "export: '%s' is given twice", key);
    if (!(value = qt_yaml_scalar(a, eq + 1, (qt_pos){0}))) return QT_EMEM;
    return qt_yaml_put(a, map, key, value);
}

static qt_err read_format(qt_arena *a, const qt_args *args, const qt_exporter **x, void **cfg)
{
    const char    *format = qt_arg(&qt_command_export, args, "format");
    const qt_desc *d;
    qt_yaml       *map = qt_yaml_map(a, (qt_pos){0}), *name = qt_yaml_scalar(a, format ? format : "", (qt_pos){0});
    QT_CHECK(format, QT_EUSAGE, "export: option '--format' is missing; `qtape list exporters` lists the formats");
    if (!map || !name) return QT_EMEM;
    QT_TRY(qt_yaml_put(a, map, "use", name));
    for (int i = 1; i < args->n; i++) QT_TRY(add_option(a, map, args->word[i]));
    QT_TRY(qt_desc_read(a, &qt_exporters, map, "export", NULL, &d, cfg));
    *x = (const qt_exporter *)d;
    return QT_OK;
}

static qt_err run(const qt_args *a)
{
    qt_arena           arena = {0};
    const qt_exporter *x = NULL;
    void              *cfg = NULL;
    qt_run            *r = NULL;
    qt_exported        made;
    qt_err             e = read_format(&arena, a, &x, &cfg);
    if (e == QT_OK) e = qt_run_resume(a->word[0], QT_PROGRESS_QUIET, &r);
    if (e == QT_OK) e = x->run(x, r, cfg, qt_arg(&qt_command_export, a, "out"), &made);
    if (e == QT_OK) {
        fprintf(stderr, "%d of %d layers with weights compute in integers%s\n", made.integers, made.layers,
                made.integers < made.layers ? "; export.json says why the others do not" : "");
        printf("%s\n", made.file);
    }
    qt_run_free(r);
    qt_arena_free(&arena);
    return e;
}

const qt_command qt_command_export = {
    {"export", "write a trained run as a file to ship"},
    "DIR --format NAME [key=value ...] [-o FILE]",
    "Takes the last checkpoint of a run directory, with its averaged weights if it was evaluated with them. What was trained in integers is\n"
    "written as those integers; nothing is quantized again. The file is loaded before it gets its name, and must answer a batch\n"
    "with the bits of the training graph (exit code 3 otherwise). export.json beside it says what it holds and how it was verified.\n"
    "The path is printed.\n\n"
    "  qtape export runs/quickstart/ternary-s1 --format h5\n"
    "  qtape export runs/quickstart/ternary-s1 --format h5 -o model.h5\n"
    "  qtape eval model.h5",
    options, 1, -1, run};
