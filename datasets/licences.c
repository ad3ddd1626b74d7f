/* The licences that stand on every Debian system below /usr/share/common-licenses, a document each: a small text of a language of its own, to
 * adapt a model to. Versions of one licence that say nearly the same are left out, and the test split is three that share nothing
 * with the others: MPL-1.1, CC0-1.0 and BSD. */
#include "corpus.h"

#define FOLDER "/usr/share/common-licenses"

enum { TEST = 3, ALL = 10 };
static const char *const names[ALL] = {"Apache-2.0", "Artistic", "GPL-3", "LGPL-2.1", "MPL-2.0", "LGPL-3", "GFDL-1.3", "MPL-1.1", "CC0-1.0", "BSD"};

static const qt_field fields[] = {QT_TEXT_FIELDS(qt_text_only), {NULL}};

static qt_err put_line(void *arg, const char *s, size_t n) { return qt_corpus_line(arg, s, n); }

static qt_err make(const char *root, const char *scratch, qt_corpus_text *t)
{
    (void)scratch;
    for (int i = 0; i < ALL; i++) {
        char file[4096];
        snprintf(file, sizeof file, "%s" FOLDER "/%s", root, names[i]);
        QT_TRY(qt_corpus_end(t));
        QT_TRY(qt_corpus_lines(file, t, put_line));
    }
    return QT_OK;
}

static const char *const package[] = {"base-files", NULL};
static const qt_corpus   set = {"licences", package, FOLDER "/MPL-2.0", make, 0};
QT_CORPUS_CALLS

static qt_err begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info)
{
    const qt_text_cfg *c = cfg;
    qt_textset        *s;
    qt_err             e = qt_corpus_open(&set, c, &s, info);
    (void)seed;
    if (e == QT_OK) {
        const qt_tokens *t = &s->tokens[QT_TRAIN];
        int64_t          test = qt_tokens_document(t, ALL - TEST);
        e = qt_text_cut(s, c, set.name, 0, test - 1);
        s->part[QT_TEST] = (qt_text_part){t, test, t->n - test};
        if (e != QT_OK) qt_text_close(s), s = NULL;
    }
    *state = s;
    return e;
}

const qt_dataset qt_dataset_licences = {.d = {"licences", "common licences of free software, 170 kB", NULL, fields, sizeof(qt_text_only)}, QT_CORPUS_SET,
                                        .where = "Debian package base-files, always installed (texts of their authors)"};
