/* Text of your own: a file, a list of files, a folder or a pattern, as bytes or as tokens of a vocabulary. The test split is the end of the
 * text (test_fraction), or files of its own (test_path); so is the val split. Where several files or zero bytes divide the text into
 * documents, the end begins with a whole document if it holds one. */
#include "paths.h"
#include "textset.h"

static const qt_field fields[] = {QT_TEXT_PATHS(qt_text_only), QT_TEXT_FIELDS(qt_text_only), QT_TEXT_TEST(qt_text_only), {NULL}};

static qt_err info_of(const void *cfg, qt_data_info *info)
{
    QT_TRY(qt_text_check_paths(cfg));
    return qt_text_info(cfg, info);
}

static qt_err open_path(const qt_vocab *v, const qt_yaml *path, qt_tokens *t)
{
    qt_paths f = {0};
    qt_err   e = path ? qt_paths_find(path, &f) : QT_OK;
    if (path && e == QT_OK) e = qt_tokens_open(v, f.n, f.name, t);
    qt_paths_free(&f);
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
    if (e == QT_OK || !s) return e;
    qt_text_close(s);
    *state = NULL;
    return e;
}

const qt_dataset qt_dataset_text = {
    .d      = {"text", "your text, as bytes or tokens, in windows", NULL, fields, sizeof(qt_text_only)},
    .info   = info_of,
    .open   = begin,
    .size   = qt_text_size,
    .tokens = qt_text_tokens,
    .close  = qt_text_close,
    .where  = "your files (path)"};
