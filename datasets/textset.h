/* Text as samples of ids: what the sets `text`, `jsonl` and the corpora share. A text is one row of tokens; a document ends with token 0 (the
 * zero byte), which stands for nothing else. A sample is a window of seq_len tokens, and its targets are the tokens that follow each. */
#ifndef QT_DATASETS_TEXTSET_H
#define QT_DATASETS_TEXTSET_H
#include "base/bpe.h"
#include "base/files.h"
#include "dataset.h"

/* ---- tokens.c: a text as tokens ---------------------------------------------------------------------------------------------------- */

/* n tokens of `width` bytes each, little-endian, mapped from a file. */
typedef struct qt_tokens {
    qt_map         map;
    const uint8_t *p;
    int64_t        n;
    int            width;
} qt_tokens;

/* The vocabulary that an option `tokens` names, NULL for bytes. */
typedef struct qt_vocab {
    const char *file;
    qt_bpe     *bpe;
} qt_vocab;
qt_err qt_vocab_open(const char *tokens, qt_vocab *v);
void   qt_vocab_close(qt_vocab *v);

/* The tokens of files, with a zero between two. One file of bytes is mapped as it is; otherwise they are made once, and kept in the data
 * folder under a name that follows from what the files hold. */
qt_err qt_tokens_open(const qt_vocab *v, int n, const char *const *file, qt_tokens *t);
void   qt_tokens_close(qt_tokens *t);
void   qt_tokens_copy(const qt_tokens *t, int64_t from, int64_t n, int32_t *ids);
/* Where document k begins (from 0); n if there are not so many. */
int64_t qt_tokens_document(const qt_tokens *t, int64_t k);

/* ---- textset.c: splits and windows --------------------------------------------------------------------------------------------------- */

typedef struct qt_text_cfg {
    const qt_yaml *path, *val_path, *test_path;
    const char    *tokens;
    int64_t        seq_len, vocab;
    double         val_fraction, test_fraction;
} qt_text_cfg;

/* The configuration of a set that has nothing more. */
typedef struct qt_text_only {
    qt_text_cfg text;
} qt_text_only;

/* Fields that all sets of text have, and those of sets of your files; T begins with a qt_text_cfg named text. */
#define QT_TEXT_FIELD(T, m, type, def, min, max, doc) {#m, type, offsetof(T, text) + offsetof(qt_text_cfg, m), def, min, max, NULL, doc}
#define QT_TEXT_FIELDS(T)                                                                                                                       \
    QT_TEXT_FIELD(T, seq_len, QT_INT, "128", 1, 1 << 20, "tokens a sample"),                                                                    \
        QT_TEXT_FIELD(T, tokens, QT_STR, "bytes", 0, 0, "bytes, or a file of `qtape data bpe`"),                                                \
        QT_TEXT_FIELD(T, vocab, QT_INT, "-1", -1, 1 << 24, "size of that file's vocabulary, so that `check` knows it; -1: what the file says"), \
        QT_TEXT_FIELD(T, val_fraction, QT_REAL, "0", 0, 0.9, "share of the text, before the test split, that is the val split")
#define QT_TEXT_TEST(T) QT_TEXT_FIELD(T, test_fraction, QT_REAL, "0.05", 0, 0.9, "share of the text, at its end, that is the test split")

#define QT_TEXT_PATHS(T)                                                                                                                       \
    QT_TEXT_FIELD(T, path, QT_TREE, NULL, 0, 0, "a file, a folder (all files below it), a pattern (texts/*.txt), or a list of these"),         \
        QT_TEXT_FIELD(T, test_path, QT_TREE, "~", 0, 0, "the test split, instead of test_fraction; written as path"),                          \
        QT_TEXT_FIELD(T, val_path, QT_TREE, "~", 0, 0, "the val split, instead of val_fraction; written as path")

/* A part of a text. */
typedef struct qt_text_part {
    const qt_tokens *tokens;
    int64_t          begin, n;
} qt_text_part;

typedef struct qt_textset {
    qt_vocab     vocab;
    qt_tokens    tokens[QT_SPLITS];
    qt_text_part part[QT_SPLITS];
    int64_t      seq_len;
} qt_textset;

qt_err  qt_text_check_paths(const qt_text_cfg *c);
qt_err  qt_text_info(const qt_text_cfg *c, qt_data_info *info);
/* The same, once the vocabulary is open. */
qt_err  qt_text_known(const qt_text_cfg *c, const qt_vocab *v, qt_data_info *info);
/* Cuts tokens[QT_TRAIN] from begin to end into the splits that have no tokens of their own. `name` stands in messages. */
qt_err  qt_text_cut(qt_textset *s, const qt_text_cfg *c, const char *name, int64_t begin, int64_t end);
int64_t qt_text_size(const void *state, qt_split s);
qt_err  qt_text_tokens(void *state, qt_split s, int64_t i, qt_rng *draw, int32_t *x, int32_t *y);
void    qt_text_close(void *state);
#endif
