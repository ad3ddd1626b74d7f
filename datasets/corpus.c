/* Corpora: see corpus.h. As fashion-mnist, a corpus whose packages are not installed has them installed by root, and otherwise unpacked into a
 * folder that is removed when the text has been made. */
#include "corpus.h"
#include "base/files.h"
#include "base/utf8.h"
#include "files.h"
#include "paths.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { MAX_FILE = 1 << 28, MAX_TEXT = 1 << 29 };

/* ---- text in the making ------------------------------------------------------------------------------------------------------------------ */

uint64_t qt_corpus_hash(const char *s, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)s[i]) * 1099511628211u;
    return h;
}

qt_err qt_corpus_put(qt_corpus_text *t, const char *s, size_t n)
{
    QT_CHECK(n < MAX_TEXT - (size_t)t->n, QT_EDATA, "more than %d MB of text", MAX_TEXT >> 20);
    QT_TRY(qt_grow(&t->p, &t->cap, t->n + (int)n, 1));
    memcpy(t->p + t->n, s, n);
    t->n += (int)n;
    return QT_OK;
}

qt_err qt_corpus_line(qt_corpus_text *t, const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *)s;
    int            begin = t->n;
    for (size_t at = 0, len; at < n; at += len) {
        len = qt_utf8_char(p + at, n - at);
        if (len && (p[at] >= 32 || p[at] == '\t') && p[at] != 127) QT_TRY(qt_corpus_put(t, s + at, len));
        if (!len) len = 1;
    }
    while (t->n > begin && (t->p[t->n - 1] == ' ' || t->p[t->n - 1] == '\t')) t->n--;
    return qt_corpus_put(t, "\n", 1);
}

qt_err qt_corpus_end(qt_corpus_text *t) { return t->n && t->p[t->n - 1] ? qt_corpus_put(t, "", 1) : QT_OK; }

qt_err qt_corpus_lines(const char *file, void *arg, qt_err (*line)(void *arg, const char *s, size_t n))
{
    char  *text;
    size_t n;
    QT_TRY(qt_unpacked_read(file, MAX_FILE, &text, &n));
    qt_err e = QT_OK;
    for (size_t at = 0, len; at < n && e == QT_OK; at += len + 1) {
        const char *stop = memchr(text + at, '\n', n - at);
        len = stop ? (size_t)(stop - text) - at : n - at;
        e = line(arg, text + at, len);
    }
    qt_free(text);
    return e;
}

/* ---- folders ----------------------------------------------------------------------------------------------------------------------------- */

/* folder: the length of what stands in front of the paths below it */
static int by_hash(const void *a, const void *b, void *folder)
{
    const char *s = *(const char *const *)a + *(size_t *)folder, *t = *(const char *const *)b + *(size_t *)folder;
    uint64_t    h = qt_corpus_hash(s, strlen(s)), k = qt_corpus_hash(t, strlen(t));
    return h != k ? (h > k) - (h < k) : strcmp(s, t);
}

static bool ends(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

static qt_err put_line(void *arg, const char *s, size_t n) { return qt_corpus_line(arg, s, n); }

static qt_err put_files(qt_corpus_text *t, qt_paths *f, const char *folder, const char *end, const char *skip)
{
    size_t n = strlen(folder) + 1, m = skip ? strlen(skip) : 0;
    qsort_r(f->name, (size_t)f->n, sizeof *f->name, by_hash, &n);
    for (int i = 0; i < f->n; i++) {
        if (!ends(f->name[i], end) || (skip && !strncmp(f->name[i] + n, skip, m) && f->name[i][n + m] == '/')) continue;
        QT_TRY(qt_corpus_end(t));
        QT_TRY(qt_corpus_lines(f->name[i], t, put_line));
    }
    return QT_OK;
}

qt_err qt_corpus_folder(qt_corpus_text *t, const char *folder, const char *end, const char *skip)
{
    qt_paths f = {0};
    qt_yaml *y = qt_yaml_scalar(&f.arena, folder, (qt_pos){0});
    qt_err   e = y ? qt_paths_find(y, &f) : QT_EMEM;
    if (e == QT_OK) e = put_files(t, &f, folder, end, skip);
    qt_paths_free(&f);
    return e;
}

/* ---- fetching ---------------------------------------------------------------------------------------------------------------------------- */

static const char *text_file(qt_arena *a, const qt_corpus *c) { return qt_arena_sprintf(a, "%s/%s/%s.txt", qt_data_dir(a), c->name, c->name); }

const char *qt_corpus_find(qt_arena *a, const qt_corpus *c)
{
    const char *file = text_file(a, c);
    return file && qt_is_file(file) ? qt_arena_sprintf(a, "%s/%s", qt_data_dir(a), c->name) : NULL;
}

static qt_err check_sum(const qt_corpus *c, const char *what, uint32_t sum)
{
    QT_CHECK(!c->crc || sum == c->crc, QT_EDATA, "%s: checksum %08x, expected %08x: not the text that %s stands for", what, sum, c->crc, c->name);
    return QT_OK;
}

/* The licences of the packages, as they came. */
static qt_err keep_copyright(qt_arena *a, const qt_corpus *c, const char *root, const char *folder)
{
    for (int i = 0; c->package[i]; i++) {
        const char *from = qt_arena_sprintf(a, "%s/usr/share/doc/%s/copyright", root, c->package[i]);
        const char *to = qt_arena_sprintf(a, "%s/copyright.%s", folder, c->package[i]);
        char       *text;
        size_t      n;
        if (!from || !to) return QT_EMEM;
        if (!qt_is_file(from)) continue;
        QT_TRY(qt_file_read(a, from, &text, &n));
        QT_TRY(qt_file_write(to, text, n));
    }
    return QT_OK;
}

static qt_err write_text(qt_arena *a, const qt_corpus *c, const char *root, const qt_corpus_text *t)
{
    const char *folder = qt_arena_sprintf(a, "%s/%s", qt_data_dir(a), c->name), *file = text_file(a, c);
    if (!folder || !file) return QT_EMEM;
    QT_CHECK(t->n, QT_EDATA, "%s: its packages hold no text", c->name);
    QT_TRY(check_sum(c, c->name, (uint32_t)crc32_z(0, (const Bytef *)t->p, (size_t)t->n)));
    QT_TRY(qt_folder_make(folder));
    QT_TRY(keep_copyright(a, c, root, folder));
    return qt_file_write(file, t->p, (size_t)t->n);
}

static qt_err prepare(const qt_corpus *c, const char *root, const char *scratch)
{
    qt_arena       a = {0};
    qt_corpus_text t = {0};
    qt_err         e = c->make(root, scratch, &t);
    if (e == QT_OK) e = write_text(&a, c, root, &t);
    qt_free(t.p);
    qt_arena_free(&a);
    return e;
}

static qt_err fetch_into(const char *folder, const void *arg)
{
    const qt_corpus *c = arg;
    if (qt_is_file(c->probe)) return prepare(c, "", folder);
    QT_CHECK(qt_has_program("apt-get"), QT_EIO, "%s is made from Debian's package %s, and there is no apt-get here; put the text at $QTAPE_DATA/%s/%s.txt",
             c->name, c->package[0], c->name, c->name);
    if (geteuid() == 0) {
        QT_TRY(qt_apt_install(c->package));
        return prepare(c, "", folder);
    }
    QT_TRY(qt_apt_unpack(folder, c->package));
    return prepare(c, folder, folder);
}

qt_err qt_corpus_fetch(const qt_corpus *c)
{
    qt_arena    a = {0};
    uint32_t    sum = 0;
    const char *file = text_file(&a, c);
    bool        good = file && qt_is_file(file) && (!c->crc || (qt_unpacked_crc(file, &sum) == QT_OK && sum == c->crc));
    qt_arena_free(&a);
    qt_error_clear();
    return good ? QT_OK : qt_in_fetch_folder(c->name, fetch_into, c);
}

/* ---- opening ----------------------------------------------------------------------------------------------------------------------------- */

static qt_err load(const qt_corpus *c, const qt_text_cfg *cfg, qt_textset *s, qt_data_info *info)
{
    qt_arena    a = {0};
    const char *file = text_file(&a, c);
    qt_err      e = !file ? QT_EMEM : QT_OK;
    if (e == QT_OK && !qt_is_file(file)) e = qt_fail(QT_EIO, "data set %s not found; `qtape data get %s` brings it", c->name, c->name);
    if (e == QT_OK) e = qt_vocab_open(cfg->tokens, &s->vocab);
    if (e == QT_OK) e = qt_text_known(cfg, &s->vocab, info);
    if (e == QT_OK) e = qt_tokens_open(&s->vocab, 1, &file, &s->tokens[QT_TRAIN]);
    qt_arena_free(&a);
    return e;
}

qt_err qt_corpus_open(const qt_corpus *c, const qt_text_cfg *cfg, qt_textset **out, qt_data_info *info)
{
    qt_textset *s = *out = qt_alloc(sizeof *s);
    qt_err      e = s ? load(c, cfg, s, info) : QT_EMEM;
    if (e == QT_OK || !s) return e;
    qt_text_close(s);
    *out = NULL;
    return e;
}

qt_err qt_corpus_begin(const qt_corpus *c, const qt_text_cfg *cfg, void **state, qt_data_info *info)
{
    qt_textset *s;
    qt_err      e = qt_corpus_open(c, cfg, &s, info);
    if (e == QT_OK && (e = qt_text_cut(s, cfg, c->name, 0, s->tokens[QT_TRAIN].n)) != QT_OK) qt_text_close(s), s = NULL;
    *state = s;
    return e;
}
