/* Corpora: texts that come in Debian packages, prepared once as one cleaned file, <data folder>/NAME/NAME.txt. It is UTF-8, and its documents
 * have a zero byte between two. Beside it stand the packages' copyright files. */
#ifndef QT_DATASETS_CORPUS_H
#define QT_DATASETS_CORPUS_H
#include "textset.h"

/* A text in the making. */
typedef struct qt_corpus_text {
    char *p;
    int   n, cap;
} qt_corpus_text;

typedef struct qt_corpus {
    const char        *name;
    const char *const *package; /* NULL-terminated */
    const char        *probe;   /* a file of theirs: if it is there, they are installed */
    /* Makes the text of files below root: "" where the packages are installed, otherwise where they were unpacked. scratch: a folder */
    qt_err (*make)(const char *root, const char *scratch, qt_corpus_text *t);
    uint32_t crc;               /* CRC-32 of the text, 0 where it changes with the package */
} qt_corpus;

/* Bytes as they are. */
qt_err qt_corpus_put(qt_corpus_text *t, const char *s, size_t n);
/* A line without white space at its end, then a newline. What is not UTF-8 and what controls a terminal is left out. */
qt_err qt_corpus_line(qt_corpus_text *t, const char *s, size_t n);
/* Ends a document; without a line in it, nothing. */
qt_err qt_corpus_end(qt_corpus_text *t);
/* Calls line for each line of a file (plain or gzip), without its newline. */
qt_err qt_corpus_lines(const char *file, void *arg, qt_err (*line)(void *arg, const char *s, size_t n));
/* All files below a folder whose names end so, but those of a subfolder `skip` (or NULL), a document each. They stand in the order of a hash
 * of their paths, so that the end of the text is a sample of all. */
qt_err qt_corpus_folder(qt_corpus_text *t, const char *folder, const char *end, const char *skip);
/* FNV-1a, 64 bits. */
uint64_t qt_corpus_hash(const char *s, size_t n);

const char *qt_corpus_find(qt_arena *a, const qt_corpus *c);
qt_err      qt_corpus_fetch(const qt_corpus *c);
/* The tokens of the whole text in s->tokens[QT_TRAIN]; *s is NULL after an error. */
qt_err      qt_corpus_open(const qt_corpus *c, const qt_text_cfg *cfg, qt_textset **s, qt_data_info *info);
/* The same with the splits that cfg says. */
qt_err      qt_corpus_begin(const qt_corpus *c, const qt_text_cfg *cfg, void **state, qt_data_info *info);

/* Calls of a data set that is the corpus `set`. */
#define QT_CORPUS_CALLS                                                                                                                         \
    static qt_err      info_of(const void *cfg, qt_data_info *info) { return qt_text_info(cfg, info); }                                         \
    static const char *find(qt_arena *a, const void *cfg) { return (void)cfg, qt_corpus_find(a, &set); }                                        \
    static qt_err      fetch(const void *cfg) { return (void)cfg, qt_corpus_fetch(&set); }
#define QT_CORPUS_BEGIN                                                                                                                         \
    static qt_err begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info)                                                       \
    {                                                                                                                                           \
        return (void)seed, qt_corpus_begin(&set, cfg, state, info);                                                                             \
    }
#define QT_CORPUS_SET .info = info_of, .open = begin, .size = qt_text_size, .tokens = qt_text_tokens, .close = qt_text_close, .fetch = fetch, .find = find
#endif
