/* Your files: see paths.h. Below a folder, names that begin with a dot are left out. */
#include "paths.h"
#include "files.h"
#include <fts.h>
#include <glob.h>
#include <string.h>

static qt_err wrong(const qt_yaml *y, const char *key, const char *found)
{
    return qt_fail_at(QT_ERECIPE, y->pos, "data.%s: expected a file, a folder, a pattern or a list of them, found %s", key, found);
}

qt_err qt_paths_check(const qt_yaml *y, const char *key)
{
    if (!y) return QT_OK;
    if (y->kind == QT_YAML_SCALAR) return *y->text ? QT_OK : wrong(y, key, "an empty string");
    if (y->kind != QT_YAML_LIST) return wrong(y, key, qt_yaml_kind_name(y));
    if (!y->n) return wrong(y, key, "an empty list");
    for (int i = 0; i < y->n; i++) {
        if (y->item[i]->kind == QT_YAML_LIST) return wrong(y->item[i], key, "a list in a list");
        QT_TRY(qt_paths_check(y->item[i], key));
    }
    return QT_OK;
}

static qt_err add(qt_paths *f, const char *name)
{
    QT_TRY(qt_grow(&f->name, &f->cap, f->n + 1, sizeof *f->name));
    return (f->name[f->n++] = qt_arena_strdup(&f->arena, name)) ? QT_OK : QT_EMEM;
}

static int by_name(const FTSENT **a, const FTSENT **b) { return strcmp((*a)->fts_name, (*b)->fts_name); }

static qt_err add_folder(qt_paths *f, const char *folder)
{
    char  *root[] = {(char *)folder, NULL};
    int    before = f->n;
    qt_err e = QT_OK;
    FTS   *t = fts_open(root, FTS_LOGICAL | FTS_NOCHDIR, by_name);
    QT_CHECK(t, QT_EIO, "%s: cannot be read", folder);
    for (FTSENT *n; e == QT_OK && (n = fts_read(t));) {
        if (n->fts_level > 0 && n->fts_name[0] == '.') fts_set(t, n, FTS_SKIP);
        else if (n->fts_info == FTS_F) e = add(f, n->fts_path);
        else if (n->fts_info == FTS_DNR || n->fts_info == FTS_ERR) e = qt_fail(QT_EIO, "%s: %s", n->fts_path, strerror(n->fts_errno));
    }
    fts_close(t);
    if (e == QT_OK && f->n == before) e = qt_fail(QT_EIO, "%s: holds no files", folder);
    return e;
}

static qt_err add_pattern(qt_paths *f, const char *pattern)
{
    glob_t g;
    qt_err e = QT_OK;
    QT_CHECK(glob(pattern, 0, NULL, &g) == 0, QT_EIO, "%s: no such file or folder, and no pattern that matches any", pattern);
    for (size_t i = 0; i < g.gl_pathc && e == QT_OK; i++) e = qt_is_folder(g.gl_pathv[i]) ? add_folder(f, g.gl_pathv[i]) : add(f, g.gl_pathv[i]);
    globfree(&g);
    return e;
}

qt_err qt_paths_find(const qt_yaml *y, qt_paths *f)
{
    for (int i = 0; y->kind == QT_YAML_LIST && i < y->n; i++) QT_TRY(qt_paths_find(y->item[i], f));
    if (y->kind == QT_YAML_LIST) return QT_OK;
    if (qt_is_folder(y->text)) return add_folder(f, y->text);
    return qt_is_file(y->text) ? add(f, y->text) : add_pattern(f, y->text);
}

void qt_paths_free(qt_paths *f)
{
    qt_free(f->name);
    qt_arena_free(&f->arena);
}
