/* The glosses of WordNet 3.0 (Fellbaum, "WordNet: an electronic lexical database", 1998): 117,659 meanings, one a line as "word, word: what
 * they mean", in the order of a hash of the lines. A line of the data files is numbers, words and pointers, a bar, and the gloss; an adjective
 * may end with its syntactic place, as in "(p)". Debian packages it as wordnet-base. */
#include "corpus.h"
#include <stdlib.h>
#include <string.h>

#define FOLDER "/usr/share/wordnet"

static const qt_field fields[] = {QT_TEXT_FIELDS(qt_text_only), QT_TEXT_TEST(qt_text_only), {NULL}};

/* The next word of the line, up to a space; false at its end. */
static bool next_word(const char **s, const char *end, const char **word, size_t *n)
{
    while (*s < end && **s == ' ') ++*s;
    *word = *s;
    while (*s < end && **s != ' ') ++*s;
    *n = (size_t)(*s - *word);
    return *n > 0;
}

static qt_err put_word(qt_corpus_text *t, const char *word, size_t n)
{
    const char *mark = memchr(word, '(', n);
    if (mark && mark > word) n = (size_t)(mark - word);
    QT_TRY(qt_corpus_put(t, word, n));
    for (size_t i = 1; i <= n; i++)
        if (t->p[t->n - (int)i] == '_') t->p[t->n - (int)i] = ' ';
    return QT_OK;
}

/* "00001740 03 n 01 entity 0 003 ... | gloss"; lines of the licence begin with two spaces. */
static qt_err add_line(void *arg, const char *s, size_t n)
{
    qt_corpus_text *t = arg;
    const char     *end = s + n, *bar = memchr(s, '|', n), *word;
    size_t          len, words = 0;
    if (n < 2 || *s == ' ') return QT_OK;
    for (int i = 0; i < 4 && next_word(&s, end, &word, &len); i++) words = i == 3 ? strtoul(word, NULL, 16) : 0;
    QT_CHECK(bar && words > 0 && words < 256, QT_EDATA, "wordnet: expected a line with words and a gloss, found '%.*s'", (int)(n < 40 ? n : 40), end - n);
    for (size_t i = 0; i < words && next_word(&s, bar, &word, &len); i++) {
        if (i) QT_TRY(qt_corpus_put(t, ", ", 2));
        QT_TRY(put_word(t, word, len));
        next_word(&s, bar, &word, &len); /* its number in the lexicographer's file */
    }
    QT_TRY(qt_corpus_put(t, ":", 1));
    return qt_corpus_line(t, bar + 1, (size_t)(end - bar) - 1);
}

typedef struct line {
    uint64_t    hash;
    const char *s;
    size_t      n;
} line;

static int by_hash(const void *a, const void *b)
{
    const line *x = a, *y = b;
    if (x->hash != y->hash) return x->hash > y->hash ? 1 : -1;
    int order = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

/* The lines of `from` in the order of their hash. */
static qt_err shuffle(const qt_corpus_text *from, qt_corpus_text *t)
{
    line  *all = NULL;
    int    n = 0, cap = 0;
    qt_err e = QT_OK;
    for (const char *s = from->p, *end = from->p + from->n, *stop; s < end && e == QT_OK; s = stop) {
        stop = (const char *)memchr(s, '\n', (size_t)(end - s)) + 1;
        if ((e = qt_grow(&all, &cap, n + 1, sizeof *all)) == QT_OK) all[n++] = (line){qt_corpus_hash(s, (size_t)(stop - s)), s, (size_t)(stop - s)};
    }
    if (n) qsort(all, (size_t)n, sizeof *all, by_hash);
    for (int i = 0; i < n && e == QT_OK; i++) e = qt_corpus_put(t, all[i].s, all[i].n);
    qt_free(all);
    return e;
}

static qt_err make(const char *root, const char *scratch, qt_corpus_text *t)
{
    static const char *const part[] = {"adj", "adv", "noun", "verb"};
    qt_corpus_text           ordered = {0};
    qt_err                   e = QT_OK;
    (void)scratch;
    for (int i = 0; i < 4 && e == QT_OK; i++) {
        char file[4096];
        snprintf(file, sizeof file, "%s" FOLDER "/data.%s", root, part[i]);
        e = qt_corpus_lines(file, &ordered, add_line);
    }
    if (e == QT_OK) e = shuffle(&ordered, t);
    qt_free(ordered.p);
    return e;
}

static const char *const package[] = {"wordnet-base", NULL};
static const qt_corpus   set = {"wordnet", package, FOLDER "/data.noun", make, 0xe41d0fcd};
QT_CORPUS_CALLS
QT_CORPUS_BEGIN

const qt_dataset qt_dataset_wordnet = {.d = {"wordnet", "117,659 words with their meanings, 11 MB", "Fellbaum, 1998", fields, sizeof(qt_text_only)},
                                       QT_CORPUS_SET, .where = "Debian package wordnet-base (WordNet licence)"};
