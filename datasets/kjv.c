/* The King James Bible of 1611, in its edition of 1769: 66 books, 31,102 verses, one a line, an empty line between chapters, each book a
 * document. Debian packages the text as bible-kjv-text, compressed in a format of its own; the program `bible` of bible-kjv prints it. The
 * Old Testament is the first 39 books. */
#include "corpus.h"
#include "files.h"
#include <string.h>

enum { ALL, OLD, NEW, OLD_BOOKS = 39 };

typedef struct kjv_cfg {
    qt_text_cfg text;
    int         part;
} kjv_cfg;

static const qt_field fields[] = {QT_TEXT_FIELDS(kjv_cfg), QT_TEXT_TEST(kjv_cfg),
                                  QT_F_ENUM(kjv_cfg, part, "all", "all|old|new", "both testaments or one"), {NULL}};

/* Lines "Ge1:1 In the beginning ...": book and chapter of the last one. */
typedef struct reader {
    qt_corpus_text *t;
    char            chapter[32];
} reader;

static qt_err add_verse(void *arg, const char *s, size_t n)
{
    reader     *r = arg;
    const char *colon = memchr(s, ':', n), *text = memchr(s, ' ', n);
    size_t      len = colon ? (size_t)(colon - s) : 0, book;
    QT_CHECK(colon && text && text > colon && len < sizeof r->chapter, QT_EDATA, "bible: expected a verse with its place, found '%.*s'", (int)(n < 40 ? n : 40), s);
    for (book = len; book && s[book - 1] >= '0' && s[book - 1] <= '9';) book--;
    bool same_book = !strncmp(r->chapter, s, book) && strspn(r->chapter + book, "0123456789") == strlen(r->chapter + book);
    if (!same_book) QT_TRY(qt_corpus_end(r->t));
    else if (strncmp(r->chapter, s, len) || r->chapter[len]) QT_TRY(qt_corpus_put(r->t, "\n", 1));
    memcpy(r->chapter, s, len), r->chapter[len] = 0;
    return qt_corpus_line(r->t, text + 1, n - (size_t)(text + 1 - s));
}

static qt_err make(const char *root, const char *scratch, qt_corpus_text *t)
{
    char              bible[4096], lib[4096], raw[4096];
    const char *const print[] = {"sh", "-c", "\"$0\" -p \"$1\" -f gen1:1-rev22:21 > kjv.raw", bible, lib, NULL};
    reader            r = {.t = t};
    snprintf(bible, sizeof bible, "%s/usr/bin/bible", root);
    snprintf(lib, sizeof lib, "%s/usr/lib", root);
    snprintf(raw, sizeof raw, "%s/kjv.raw", scratch);
    QT_TRY(qt_run_program(scratch, print));
    return qt_corpus_lines(raw, &r, add_verse);
}

static const char *const package[] = {"bible-kjv", "bible-kjv-text", NULL};
static const qt_corpus   set = {"kjv", package, "/usr/bin/bible", make, 0x0a1a3893};
QT_CORPUS_CALLS

static qt_err begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info)
{
    const kjv_cfg *c = cfg;
    qt_textset    *s;
    qt_err         e = qt_corpus_open(&set, &c->text, &s, info);
    (void)seed;
    if (e == QT_OK) {
        const qt_tokens *t = &s->tokens[QT_TRAIN];
        int64_t          middle = qt_tokens_document(t, OLD_BOOKS);
        e = qt_text_cut(s, &c->text, set.name, c->part == NEW ? middle : 0, c->part == OLD ? middle - 1 : t->n);
        if (e != QT_OK) qt_text_close(s), s = NULL;
    }
    *state = s;
    return e;
}

const qt_dataset qt_dataset_kjv = {
    .d = {"kjv", "the King James Bible, 4.1 MB of text", NULL, fields, sizeof(kjv_cfg)}, QT_CORPUS_SET,
    .where = "Debian packages bible-kjv and bible-kjv-text (public domain)"};
