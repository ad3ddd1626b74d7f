/* How tokens are spelled: see generate.h. Bytes are their own tokens; a zero byte, token 0 of every vocabulary, ends a text, as in the data. */
#include "base/utf8.h"
#include "textset.h"
#include "train/generate.h"
#include <string.h>

/* ---- bytes ------------------------------------------------------------------------------------------------------------------------------- */

static qt_err encode_bytes(const qt_spelling *s, const char *text, size_t n, int32_t *ids, int64_t *count)
{
    (void)s;
    for (size_t i = 0; i < n; i++) ids[i] = (uint8_t)text[i];
    *count = (int64_t)n;
    return QT_OK;
}

static const uint8_t *bytes_of_byte(const qt_spelling *s, int32_t id, size_t *n)
{
    static uint8_t byte[256];
    (void)s;
    byte[id & 255] = (uint8_t)id, *n = 1;
    return &byte[id & 255];
}

/* ---- a vocabulary of byte pairs -------------------------------------------------------------------------------------------------------- */

static qt_err encode_pairs(const qt_spelling *s, const char *text, size_t n, int32_t *ids, int64_t *count)
{
    return qt_bpe_encode(s->state, text, n, ids, count);
}

static const uint8_t *bytes_of_pairs(const qt_spelling *s, int32_t id, size_t *n) { return qt_bpe_token(s->state, id, n); }

static void close_pairs(qt_spelling *s) { qt_bpe_free(s->state); }

/* ---- as the data say --------------------------------------------------------------------------------------------------------------------- */

/* The option `tokens` of a data set, or of the train part of a section in parts. */
static const qt_yaml *tokens_of(const qt_yaml *data)
{
    const qt_yaml *y = qt_yaml_get(data, "tokens"), *train = qt_yaml_get(data, "train");
    return y || !train || train->kind != QT_YAML_MAP ? y : qt_yaml_get(train, "tokens");
}

qt_err qt_spelling_open(const qt_yaml *data, qt_spelling *s)
{
    const qt_yaml *y = tokens_of(data);
    const char    *tokens = "bytes";
    qt_vocab       v;
    if (y) qt_yaml_str(y, &tokens);
    *s = (qt_spelling){.n = QT_BPE_BYTES, .end = 0, .encode = encode_bytes, .bytes = bytes_of_byte};
    QT_TRY(qt_vocab_open(tokens, &v));
    if (!v.bpe) return QT_OK;
    *s = (qt_spelling){qt_bpe_vocab(v.bpe), 0, v.bpe, encode_pairs, bytes_of_pairs, close_pairs};
    return QT_OK;
}

void qt_spelling_close(qt_spelling *s)
{
    if (s->close) s->close(s);
    *s = (qt_spelling){0};
}

/* ---- UTF-8 ------------------------------------------------------------------------------------------------------------------------------- */

/* Length of the character that p[0..n), 0 < n <= 4, begins with; 0 if it is none; -1 if it may become one: with the least or the greatest
 * bytes that continue one it is whole. */
static int character(const uint8_t *p, size_t n)
{
    size_t len = qt_utf8_char(p, n);
    for (int fill = 0x80; !len && fill <= 0xbf; fill += 0x3f) {
        uint8_t whole[8] = {0};
        memset(whole, fill, 4), memcpy(whole, p, n);
        size_t end = qt_utf8_char(whole, 4);
        if (end > n) return -1;
    }
    return (int)len;
}

static void drop(qt_utf8_stream *u, size_t n)
{
    u->n -= n;
    memmove(u->wait, u->wait + n, u->n);
}

void qt_utf8_put(qt_utf8_stream *u, const uint8_t *p, size_t n, FILE *f)
{
    for (size_t i = 0; i < n; i++) {
        int len;
        u->wait[u->n++] = p[i];
        while (u->n && (len = character(u->wait, u->n)) >= 0) {
            if (len) fwrite(u->wait, 1, (size_t)len, f);
            else fputs("\xef\xbf\xbd", f);
            drop(u, len ? (size_t)len : 1);
        }
    }
}

void qt_utf8_end(qt_utf8_stream *u, FILE *f)
{
    for (; u->n; drop(u, 1)) fputs("\xef\xbf\xbd", f);
}
