/* A text as tokens: see textset.h. The cache is a file of 96 bytes of header and the tokens, little-endian:
 *    0  "QTTOKENS"    8  bytes a token (1, 2 or 4)    12  CRC-32 of the tokens    16  number of tokens    24  the key, 64 hexadecimal digits
 * A vocabulary joins bytes that are UTF-8; without one, any bytes are a text. The key is the SHA-256 of the SHA-256s of the vocabulary and of the files, so a file that has changed finds no cache. A cache that is
 * damaged is made anew. */
#include "base/files.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "files.h"
#include "textset.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { HEADER = 96, KEY = 24, DIGITS = QT_SHA256_TEXT - 1 };
static const char magic[] = "QTTOKENS";

static void put_number(uint8_t *p, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t number(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

/* ---- the cache ---------------------------------------------------------------------------------------------------------------------- */

static qt_err find_key(qt_arena *a, const qt_vocab *v, int n, const char *const *file, char key[static QT_SHA256_TEXT])
{
    size_t size = (size_t)(n + 1) * DIGITS;
    char  *all = qt_arena_alloc(a, size + 1);
    if (!all) return QT_EMEM;
    memset(all, '-', DIGITS);
    if (v->bpe) QT_TRY(qt_sha256_file(v->file, all));
    for (int i = 0; i < n; i++) QT_TRY(qt_sha256_file(file[i], all + (i + 1) * DIGITS));
    qt_sha256(all, size, key);
    return QT_OK;
}

/* Is what is mapped a whole cache of that key? */
static bool whole(qt_tokens *t, const char *key)
{
    const uint8_t *p = t->map.p;
    if (t->map.n < HEADER || memcmp(p, magic, 8) || memcmp(p + KEY, key, DIGITS)) return false;
    t->width = (int)number(p + 8, 4), t->n = (int64_t)number(p + 16, 8), t->p = p + HEADER;
    if ((t->width != 1 && t->width != 2 && t->width != 4) || t->n < 0 || (uint64_t)t->n != (t->map.n - HEADER) / (unsigned)t->width) return false;
    return crc32_z(0, t->p, t->map.n - HEADER) == number(p + 12, 4);
}

static qt_err open_cache(const char *file, const char *key, qt_tokens *t, bool *good)
{
    *good = false;
    if (!qt_file_exists(file)) return QT_OK;
    QT_TRY(qt_file_map(file, &t->map));
    *good = whole(t, key);
    if (!*good) qt_tokens_close(t);
    return QT_OK;
}

/* What is being written. */
typedef struct sink {
    FILE           *f;
    qt_bpe_encoder *encoder; /* NULL: bytes */
    int             width;
    int64_t         n;
    uLong           crc;
} sink;

static void put_bytes(sink *s, const uint8_t *p, size_t n)
{
    fwrite(p, 1, n, s->f);
    s->crc = crc32_z(s->crc, p, n), s->n += (int64_t)n / s->width;
}

static void put_tokens(sink *s, const int32_t *ids, int64_t n)
{
    uint8_t buf[1024];
    for (int64_t i = 0, k; i < n; i += k) {
        for (k = 0; i + k < n && (k + 1) * s->width <= (int64_t)sizeof buf; k++) put_number(buf + k * s->width, (uint64_t)ids[i + k], s->width);
        put_bytes(s, buf, (size_t)(k * s->width));
    }
}

static qt_err encode(sink *s, const char *file, const qt_map *m)
{
    const char    *text = (const char *)m->p;
    const int32_t *ids;
    int64_t        n;
    size_t         bad = qt_utf8_bad(text, m->n);
    QT_CHECK(bad == m->n, QT_EDATA, "%s: byte 0x%02x at offset %zu is not UTF-8, which a vocabulary wants; tokens: bytes takes anything", file,
             m->p[bad], bad);
    for (size_t at = 0, len; at < m->n; at += len) {
        len = qt_bpe_word(text + at, m->n - at);
        QT_TRY(qt_bpe_encode_word(s->encoder, text + at, len, &ids, &n));
        put_tokens(s, ids, n);
    }
    return QT_OK;
}

static qt_err put_document(sink *s, const char *file)
{
    qt_map m;
    qt_err e = QT_OK;
    QT_TRY(qt_file_map(file, &m));
    if (s->encoder) e = encode(s, file, &m);
    else put_bytes(s, m.p, m.n);
    qt_file_unmap(&m);
    return e;
}

static qt_err put_all(sink *s, const char *part, int n, const char *const *file, const char *key)
{
    uint8_t header[HEADER] = {0}, end[4] = {0};
    fwrite(header, 1, HEADER, s->f);
    for (int i = 0; i < n; i++) {
        if (i) put_bytes(s, end, (size_t)s->width);
        QT_TRY(put_document(s, file[i]));
    }
    memcpy(header, magic, 8), memcpy(header + KEY, key, DIGITS);
    put_number(header + 8, (uint64_t)s->width, 4), put_number(header + 12, s->crc, 4), put_number(header + 16, (uint64_t)s->n, 8);
    bool good = !ferror(s->f) && !fseek(s->f, 0, SEEK_SET) && fwrite(header, 1, HEADER, s->f) == HEADER && !fflush(s->f);
    QT_CHECK(good, QT_EIO, "%s: cannot write: %s", part, strerror(errno));
    return QT_OK;
}

static int width_of(const qt_vocab *v) { return !v->bpe || qt_bpe_vocab(v->bpe) <= 1 << 8 ? 1 : qt_bpe_vocab(v->bpe) <= 1 << 16 ? 2 : 4; }

static qt_err write_cache(const char *cache, const qt_vocab *v, int n, const char *const *file, const char *key)
{
    char  *part = qt_sprintf("%s.%d.part", cache, (int)getpid());
    sink   s = {.f = part ? fopen(part, "wb") : NULL, .width = width_of(v), .crc = crc32(0, NULL, 0)};
    qt_err e = !part ? QT_EMEM : !s.f ? qt_fail(QT_EIO, "%s: cannot write: %s", part, strerror(errno)) : QT_OK;
    if (e == QT_OK && v->bpe) e = qt_bpe_encoder_new(v->bpe, &s.encoder);
    if (e == QT_OK) e = put_all(&s, part, n, file, key);
    if (s.f) fclose(s.f);
    if (e == QT_OK) e = qt_file_commit(part, cache);
    else if (s.f) unlink(part);
    qt_bpe_encoder_free(s.encoder);
    qt_free(part);
    return e;
}

static qt_err through_cache(qt_arena *a, const qt_vocab *v, int n, const char *const *file, qt_tokens *t)
{
    char        key[QT_SHA256_TEXT];
    const char *folder = qt_arena_sprintf(a, "%s/tokens", qt_data_dir(a)), *cache;
    bool        good;
    QT_TRY(find_key(a, v, n, file, key));
    if (!folder || !(cache = qt_arena_sprintf(a, "%s/%.16s", folder, key))) return QT_EMEM;
    QT_TRY(open_cache(cache, key, t, &good));
    if (good) return QT_OK;
    QT_TRY(qt_folder_make(folder));
    QT_TRY(write_cache(cache, v, n, file, key));
    QT_TRY(open_cache(cache, key, t, &good));
    QT_CHECK(good, QT_EDATA, "%s: is not what was just written", cache);
    return QT_OK;
}

/* ---- vocabularies --------------------------------------------------------------------------------------------------------------------- */

qt_err qt_vocab_open(const char *tokens, qt_vocab *v)
{
    *v = (qt_vocab){.file = tokens};
    if (!strcmp(tokens, "bytes")) return QT_OK;
    QT_CHECK(qt_is_file(tokens), QT_EIO, "data.tokens: no such file '%s'; it is `bytes`, or made by: qtape data bpe --vocab N FILE ... -o %s", tokens, tokens);
    return qt_bpe_load(tokens, &v->bpe);
}

void qt_vocab_close(qt_vocab *v)
{
    qt_bpe_free(v->bpe);
    v->bpe = NULL;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------------------- */

qt_err qt_tokens_open(const qt_vocab *v, int n, const char *const *file, qt_tokens *t)
{
    qt_arena a = {0};
    qt_err   e;
    *t = (qt_tokens){.width = 1};
    if (n == 1 && !v->bpe) {
        QT_TRY(qt_file_map(file[0], &t->map));
        t->p = t->map.p, t->n = (int64_t)t->map.n;
        return QT_OK;
    }
    e = through_cache(&a, v, n, file, t);
    qt_arena_free(&a);
    return e;
}

void qt_tokens_close(qt_tokens *t)
{
    qt_file_unmap(&t->map);
    t->p = NULL, t->n = 0;
}

void qt_tokens_copy(const qt_tokens *t, int64_t from, int64_t n, int32_t *ids)
{
    const uint8_t *p = t->p + from * t->width;
    for (int64_t i = 0; i < n; i++) ids[i] = t->width == 1 ? p[i] : (int32_t)number(p + i * t->width, t->width);
}

int64_t qt_tokens_document(const qt_tokens *t, int64_t k)
{
    for (int64_t i = 0; i < t->n && k > 0; i++)
        if (!number(t->p + i * t->width, t->width) && !--k) return i + 1;
    return k ? t->n : 0;
}
