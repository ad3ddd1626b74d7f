/* The Collaborative International Dictionary of English: Webster's Revised Unabridged Dictionary of 1913 with additions, its entries in the order
 * of the alphabet with an empty line between two, so that the test split is the last letters. Left out are what stands before the first
 * entry, the indentation of lines and the lines that name an entry's source, as "[1913 Webster]". Debian packages it as dict-gcide. */
#include "corpus.h"
#include <string.h>

#define FILE_NAME "/usr/share/dictd/gcide.dict.dz"

static const qt_field fields[] = {QT_TEXT_FIELDS(qt_text_only), QT_TEXT_TEST(qt_text_only), {NULL}};

typedef struct reader {
    qt_corpus_text *t;
    bool            begun, empty; /* the first entry has begun; the last line was empty */
} reader;

/* The first entry is the first line that is not indented and has a pronunciation between backslashes. */
static qt_err add_line(void *arg, const char *s, size_t n)
{
    reader *r = arg;
    size_t  indent = 0;
    while (indent < n && (s[indent] == ' ' || s[indent] == '\t')) indent++;
    if (!r->begun) r->begun = !indent && memchr(s, '\\', n);
    if (!r->begun) return QT_OK;
    s += indent, n -= indent;
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\r')) n--;
    if ((n && *s == '[' && s[n - 1] == ']') || (!n && r->empty)) return QT_OK;
    r->empty = !n;
    return qt_corpus_line(r->t, s, n);
}

static qt_err make(const char *root, const char *scratch, qt_corpus_text *t)
{
    char   file[4096];
    reader r = {.t = t};
    (void)scratch;
    snprintf(file, sizeof file, "%s" FILE_NAME, root);
    return qt_corpus_lines(file, &r, add_line);
}

static const char *const package[] = {"dict-gcide", NULL};
static const qt_corpus   set = {"gcide", package, FILE_NAME, make, 0x773f2844};
QT_CORPUS_CALLS
QT_CORPUS_BEGIN

const qt_dataset qt_dataset_gcide = {.d = {"gcide", "a dictionary of English, 32 MB", NULL, fields, sizeof(qt_text_only)}, QT_CORPUS_SET,
                                     .where = "Debian package dict-gcide (GPL-2 or later)"};
