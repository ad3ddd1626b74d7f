/* Text of your own: a file, a list of files, a folder or a pattern, as bytes or as tokens of a vocabulary. The test split is the end of the
 * text (test_fraction), or files of its own (test_path); so is the val split. Where several files or zero bytes divide the text into
 * documents, the end begins with a whole document if it holds one. */
#include "files.h"
#include "textset.h"
#include <fts.h>
#include <glob.h>
#include <string.h>

typedef struct text_cfg {
    qt_text_cfg text;
} text_cfg;

static const qt_field fields[] = {
    QT_TEXT_FIELD(text_cfg, path, QT_TREE, NULL, 0, 0, "a file, a folder (all files below it), a pattern (texts/*.txt), or a list of these"),
    QT_TEXT_FIELDS(text_cfg),
    QT_TEXT_FIELD(text_cfg, test_path, QT_TREE, "~", 0, 0, "the test split, instead of test_fraction; written as path"),
    QT_TEXT_FIELD(text_cfg, val_path, QT_TREE, "~", 0, 0, "the val split, instead of val_fraction; written as path"),
    {NULL}};

static qt_err check_path(const qt_yaml *y, const char *key)
{
    bool list = y && y->kind == QT_YAML_LIST;
    if (!y || (y->kind == QT_YAML_SCALAR && *y->text)) return QT_OK;
    if (!list || !y->n) return qt_fail_at(QT_ERECIPE, y->pos, "data.%s: expected a file, a folder, a pattern or a list of them, found %s", key,
                                          list ? "an empty list" : y->kind == QT_YAML_SCALAR ? "an empty string" : qt_yaml_kind_name(y));
    for (int i = 0; i < y->n; i++)
        if (y->item[i]->kind == QT_YAML_LIST) return qt_fail_at(QT_ERECIPE, y->item[i]->pos, "data.%s: a list within a list", key);
        else QT_TRY(check_path(y->item[i], key));
    return QT_OK;
}

static qt_err info_of(const void *cfg, qt_data_info *info)
{
    const qt_text_cfg *c = cfg;
    QT_TRY(check_path(c->path, "path"));
    QT_TRY(check_path(c->val_path, "val_path"));
    QT_TRY(check_path(c->test_path, "test_path"));
    return qt_text_info(c, info);
}

/* ---- files --------------------------------------------------------------------------------------------------------------------------- */

typedef struct files {
    qt_arena     arena;
    const char **name;
    int          n, cap;
} files;

static qt_err add(files *f, const char *name)
{
    QT_TRY(qt_grow(&f->name, &f->cap, f->n + 1, sizeof *f->name));
    return (f->name[f->n++] = qt_arena_strdup(&f->arena, name)) ? QT_OK : QT_EMEM;
}

static int by_name(const FTSENT **a, const FTSENT **b) { return strcmp((*a)->fts_name, (*b)->fts_name); }

/* All files below a folder, sorted; names that begin with a dot are left out. */
static qt_err add_folder(files *f, const char *folder)
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

static qt_err add_pattern(files *f, const char *pattern)
{
    glob_t g;
    qt_err e = QT_OK;
    QT_CHECK(glob(pattern, 0, NULL, &g) == 0, QT_EIO, "%s: no such file or folder, and no pattern that matches any", pattern);
    for (size_t i = 0; i < g.gl_pathc && e == QT_OK; i++) e = qt_is_folder(g.gl_pathv[i]) ? add_folder(f, g.gl_pathv[i]) : add(f, g.gl_pathv[i]);
    globfree(&g);
    return e;
}

static qt_err add_path(files *f, const qt_yaml *y)
{
    for (int i = 0; y->kind == QT_YAML_LIST && i < y->n; i++) QT_TRY(add_path(f, y->item[i]));
    if (y->kind == QT_YAML_LIST) return QT_OK;
    if (qt_is_folder(y->text)) return add_folder(f, y->text);
    return qt_is_file(y->text) ? add(f, y->text) : add_pattern(f, y->text);
}

/* ---- the set ------------------------------------------------------------------------------------------------------------------------- */

static qt_err open_path(const qt_vocab *v, const qt_yaml *path, qt_tokens *t)
{
    files  f = {0};
    qt_err e = path ? add_path(&f, path) : QT_OK;
    if (path && e == QT_OK) e = qt_tokens_open(v, f.n, f.name, t);
    qt_free(f.name);
    qt_arena_free(&f.arena);
    return e;
}

static qt_err load(const qt_text_cfg *c, qt_textset *s, qt_data_info *info)
{
    const char *name = c->path->kind == QT_YAML_SCALAR ? c->path->text : "data.path";
    QT_TRY(qt_vocab_open(c->tokens, &s->vocab));
    QT_TRY(qt_text_known(c, &s->vocab, info));
    QT_TRY(open_path(&s->vocab, c->path, &s->tokens[QT_TRAIN]));
    QT_TRY(open_path(&s->vocab, c->val_path, &s->tokens[QT_VAL]));
    QT_TRY(open_path(&s->vocab, c->test_path, &s->tokens[QT_TEST]));
    return qt_text_cut(s, c, name, 0, s->tokens[QT_TRAIN].n);
}

static qt_err begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info)
{
    qt_textset *s = *state = qt_alloc(sizeof *s);
    qt_err      e = s ? load(cfg, s, info) : QT_EMEM;
    (void)seed;
    if (e == QT_OK) return QT_OK;
    if (s) qt_text_close(s);
    *state = NULL;
    return e;
}

const qt_dataset qt_dataset_text = {
    .d      = {"text", "your text, as bytes or tokens, in windows", NULL, fields, sizeof(text_cfg)},
    .info   = info_of,
    .open   = begin,
    .size   = qt_text_size,
    .tokens = qt_text_tokens,
    .close  = qt_text_close,
    .where  = "your files (path)"};
