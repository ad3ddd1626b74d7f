/* What all imports share: see importer.h. data.path is a text that holds no text yet: the place for one's own. */
#include "export/importer.h"
#include "export/export.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *qt_importer_path(qt_importer *im, const char *name)
{
    const char *s = qt_arena_sprintf(&im->arena, "%s/%s", im->dir, name);
    return s ? s : "";
}

/* ---- the recipe ---------------------------------------------------------------------------------------------------------------------- */

void qt_importer_print_data(qt_importer *im, FILE *f, const char *tokens, int64_t context)
{
    fprintf(f, "data: {use: text, path: "), qt_export_str(f, qt_importer_path(im, "text.txt"));
    fprintf(f, ", tokens: "), qt_export_str(f, tokens);
    fprintf(f, ", seq_len: %lld, batch_size: 1, test_fraction: 0.5}\ntrain: {steps: 1}\n", (long long)(context < 1 ? 1 : context < 512 ? context : 512));
}

static qt_err write_recipe(qt_importer *im)
{
    char  *recipe = NULL;
    size_t n = 0;
    FILE  *f = open_memstream(&recipe, &n);
    if (!f) return qt_fail(QT_EMEM, "out of memory");
    fprintf(f, "# Imported from "), qt_export_str(f, im->file);
    fprintf(f, "\nrecipe: 1\nname: imported\n");
    qt_err e = im->recipe(im, f);
    e = qt_stream_close(e, f, &recipe);
    if (e == QT_OK) e = qt_file_write(qt_importer_path(im, "import.yaml"), recipe, n);
    free(recipe);
    return e;
}

/* Two windows of the longest length at least: `eval` then has something to read. */
static qt_err write_text(qt_importer *im)
{
    static const char line[] = "In place of these lines put a text of your own: `qtape eval` reads it, and training would go on with it.\n";
    const size_t      n = sizeof line - 1, lines = 24;
    char             *text = qt_arena_alloc(&im->arena, n * lines);
    if (!text) return QT_EMEM;
    for (size_t i = 0; i < lines; i++) memcpy(text + i * n, line, n);
    return qt_file_write(qt_importer_path(im, "text.txt"), text, n * lines);
}

/* ---- the directory ------------------------------------------------------------------------------------------------------------------- */

static void remove_all(qt_importer *im)
{
    static const char *const own[] = {"import.yaml", "text.txt", "vocab.bpe", "recipe.yaml", "resolved.yaml", "ckpt/last.h5", "LOCK", "ckpt"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) remove(qt_importer_path(im, own[i]));
    rmdir(im->dir);
}

static qt_err make(qt_importer *im, qt_sets sets)
{
    qt_recipe *rc;
    QT_TRY(write_text(im));
    QT_TRY(write_recipe(im));
    QT_TRY(qt_recipe_load(&im->arena, qt_importer_path(im, "import.yaml"), sets.n, sets.word, NULL, &rc));
    QT_TRY(qt_run_new(rc, im->dir, NULL, true, QT_PROGRESS_QUIET, &im->run));
    QT_TRY(im->values(im));
    QT_TRY(qt_ckpt_save(im->run, qt_importer_path(im, "ckpt/last.h5")));
    unlink(qt_importer_path(im, "import.yaml"));
    return qt_file_write(qt_importer_path(im, "DONE"), "", 0);
}

qt_err qt_importer_go(qt_importer *im, qt_sets sets)
{
    struct stat st;
    QT_CHECK(stat(im->dir, &st), QT_EUSAGE, "%s: is there already", im->dir);
    qt_err e = qt_folder_make(im->dir);
    if (e == QT_OK) e = make(im, sets);
    qt_run_free(im->run);
    if (e != QT_OK) remove_all(im);
    qt_arena_free(&im->arena);
    return e;
}
