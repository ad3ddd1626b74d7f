/* Byte pair encoding: words, vocabularies, encoding, decoding: see bpe.h. A file of a vocabulary is text:
 *
 *     qtape-bpe 1
 *     vocab 512
 *     crc32 5a0f3c21            of the lines that follow
 *     32 116                    merge 0, which is token 256: a space and a "t"
 *
 * In a word of n bytes the joins come off a heap, so its encoding takes n log n steps; short words are looked up among those seen before. */
#include "base/bpe.h"
#include "base/files.h"
#include "base/pairs.h"
#include "base/unicode.h"
#include "base/utf8.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

struct qt_bpe {
    int64_t   vocab;
    int32_t (*merge)[2];
    uint32_t *at;    /* [vocab + 1]: where the bytes of a token begin */
    uint8_t  *bytes;
    qt_pairs  pairs; /* of merges, and the tokens that they make */
};

/* ---- words ---------------------------------------------------------------------------------------------------------------------------- */

typedef enum kind { OTHER, LETTER, DIGIT, SPACE, END } kind; /* the first four as in unicode.h */

/* Kind of the character that begins at `at`, and its bytes. */
static kind kind_of(const char *text, size_t n, size_t at, size_t *len)
{
    const uint8_t *p = (const uint8_t *)text + at;
    *len = 1;
    if (at >= n || !*p) return END;
    if ((unsigned)((*p | 0x20) - 'a') < 26) return LETTER;
    if (*p == ' ' || (*p >= '\t' && *p <= '\r')) return SPACE;
    if (*p < 0x80) return (unsigned)(*p - '0') < 10 ? DIGIT : OTHER;
    if (!(*len = qt_utf8_char(p, n - at))) return *len = 1, OTHER;
    return (kind)qt_unicode_kind(qt_utf8_code(p, *len));
}

static size_t contraction(const char *s, size_t n)
{
    static const char *const all[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; *s == '\'' && i < sizeof all / sizeof *all; i++) {
        size_t len = strlen(all[i]);
        if (len <= n && !memcmp(s, all[i], len)) return len;
    }
    return 0;
}

size_t qt_bpe_word(const char *text, size_t n)
{
    size_t at = *text == ' ', len, last = 0, fixed = contraction(text, n);
    kind   k = kind_of(text, n, at, &len);
    if (!*text) return 1;
    if (fixed) return fixed;
    if (k != SPACE && k != END) {
        while (kind_of(text, n, at, &len) == k) at += len;
        return at;
    }
    for (at = 0; kind_of(text, n, at, &len) == SPACE; at += len) last = at;
    return last && kind_of(text, n, at, &len) != END ? last : at;
}

/* ---- vocabularies ---------------------------------------------------------------------------------------------------------------------- */

static uint32_t length(const qt_bpe *b, int32_t id) { return b->at[id + 1] - b->at[id]; }

static qt_err check_merge(const qt_bpe *b, const char *name, int64_t k)
{
    int32_t left = b->merge[k][0], right = b->merge[k][1], id = (int32_t)(QT_BPE_BYTES + k);
    QT_CHECK(left > 0 && left < id && right > 0 && right < id, QT_EDATA, "%s: merge %lld joins %d and %d, expected two tokens from 1 to %d", name,
             (long long)k, left, right, id - 1);
    QT_CHECK(length(b, left) + length(b, right) <= QT_BPE_MAX_TOKEN, QT_EDATA, "%s: merge %lld makes a token of more than %d bytes", name, (long long)k,
             QT_BPE_MAX_TOKEN);
    QT_CHECK(qt_pairs_find(&b->pairs, qt_pair(left, right)) < 0, QT_EDATA, "%s: merge %lld joins %d and %d, as an earlier one does", name,
             (long long)k, left, right);
    return QT_OK;
}

static qt_err add_merge(qt_bpe *b, const char *name, int64_t k)
{
    int64_t id = QT_BPE_BYTES + k;
    QT_TRY(check_merge(b, name, k));
    b->at[id + 1] = b->at[id] + length(b, b->merge[k][0]) + length(b, b->merge[k][1]);
    return qt_pairs_add(&b->pairs, qt_pair(b->merge[k][0], b->merge[k][1]), (int32_t)id);
}

/* The bytes of each token, once it is known how many there are. */
static qt_err spell(qt_bpe *b)
{
    if (!(b->bytes = qt_alloc(b->at[b->vocab]))) return QT_EMEM;
    for (int64_t id = 0; id < b->vocab; id++) {
        uint8_t *to = b->bytes + b->at[id];
        if (id < QT_BPE_BYTES) *to = (uint8_t)id;
        for (int k = 0; k < 2 && id >= QT_BPE_BYTES; k++) {
            int32_t part = b->merge[id - QT_BPE_BYTES][k];
            memcpy(to, b->bytes + b->at[part], length(b, part));
            to += length(b, part);
        }
    }
    return QT_OK;
}

static qt_err fill(qt_bpe *b, const char *name, int64_t n, const int32_t *merge)
{
    b->vocab = QT_BPE_BYTES + n;
    b->merge = qt_alloc((size_t)n * sizeof *b->merge), b->at = qt_alloc((size_t)(b->vocab + 1) * sizeof *b->at);
    if (!b->merge || !b->at) return QT_EMEM;
    if (n) memcpy(b->merge, merge, (size_t)n * sizeof *b->merge);
    for (int64_t id = 0; id < QT_BPE_BYTES; id++) b->at[id + 1] = (uint32_t)id + 1;
    for (int64_t k = 0; k < n; k++) QT_TRY(add_merge(b, name, k));
    return spell(b);
}

qt_err qt_bpe_make(const char *name, int64_t n, const int32_t *merge, qt_bpe **out)
{
    *out = NULL;
    QT_CHECK(n >= 0 && n <= QT_BPE_MAX_VOCAB - QT_BPE_BYTES, QT_EDATA, "%s: %lld merges, expected 0 to %d", name, (long long)n,
             QT_BPE_MAX_VOCAB - QT_BPE_BYTES);
    qt_bpe *b = qt_alloc(sizeof *b);
    qt_err  e = b ? fill(b, name, n, merge) : QT_EMEM;
    if (e == QT_OK) *out = b;
    else qt_bpe_free(b);
    return e;
}

void qt_bpe_free(qt_bpe *b)
{
    if (!b) return;
    qt_free(b->merge), qt_free(b->at), qt_free(b->bytes);
    qt_pairs_free(&b->pairs);
    qt_free(b);
}

int64_t qt_bpe_vocab(const qt_bpe *b) { return b->vocab; }
void    qt_bpe_merge(const qt_bpe *b, int64_t k, int32_t *left, int32_t *right) { *left = b->merge[k][0], *right = b->merge[k][1]; }

const uint8_t *qt_bpe_token(const qt_bpe *b, int32_t id, size_t *n)
{
    QT_ASSERT(id >= 0 && id < b->vocab);
    *n = length(b, id);
    return b->bytes + b->at[id];
}

/* ---- files ------------------------------------------------------------------------------------------------------------------------------ */

static const char magic[] = "qtape-bpe 1\n";

/* A whole number below max at *s and the letter after it; false if something else stands there. */
static bool read_number(const char **s, char after, int64_t max, int64_t *v)
{
    const char *p = *s;
    for (*v = 0; *p >= '0' && *p <= '9' && *v < max; p++) *v = 10 * *v + *p - '0';
    if (p == *s || *p != after || *v >= max) return false;
    *s = p + 1;
    return true;
}

static qt_err read_header(const char *file, const char **s, int64_t *merges)
{
    unsigned sum;
    int64_t  vocab;
    char    *end;
    QT_CHECK(!strncmp(*s, magic, sizeof magic - 1), QT_EDATA, "%s:1: is no vocabulary of `qtape data bpe` (it does not begin with '%.11s')", file, magic);
    *s += sizeof magic - 1;
    bool good = !strncmp(*s, "vocab ", 6) && (*s += 6, read_number(s, '\n', QT_BPE_MAX_VOCAB + 1, &vocab)) && vocab >= QT_BPE_BYTES;
    QT_CHECK(good, QT_EDATA, "%s:2: expected `vocab` and a number from %d to %d", file, QT_BPE_BYTES, QT_BPE_MAX_VOCAB);
    good = !strncmp(*s, "crc32 ", 6) && (sum = (unsigned)strtoul(*s + 6, &end, 16), end == *s + 14) && *end == '\n';
    QT_CHECK(good, QT_EDATA, "%s:3: expected `crc32` and eight hexadecimal digits", file);
    *s = end + 1, *merges = vocab - QT_BPE_BYTES;
    QT_CHECK(crc32_z(0, (const Bytef *)*s, strlen(*s)) == sum, QT_EDATA, "%s: damaged: the checksum of its merges is not that of line 3", file);
    return QT_OK;
}

static qt_err read_merges(const char *file, const char *s, int64_t n, int32_t *merge)
{
    for (int64_t k = 0; k < n; k++) {
        const char *line = s;
        int64_t     left, right;
        QT_CHECK(read_number(&s, ' ', QT_BPE_MAX_VOCAB, &left) && read_number(&s, '\n', QT_BPE_MAX_VOCAB, &right), QT_EDATA,
                 "%s:%lld: expected the two tokens of merge %lld, found '%.*s'", file, (long long)k + 4, (long long)k, (int)strcspn(line, "\n"), line);
        merge[2 * k] = (int32_t)left, merge[2 * k + 1] = (int32_t)right;
    }
    QT_CHECK(!*s, QT_EDATA, "%s:%lld: more merges than the vocabulary of line 2 has", file, (long long)n + 4);
    return QT_OK;
}

qt_err qt_bpe_load(const char *file, qt_bpe **out)
{
    qt_arena    a = {0};
    char       *text;
    const char *s;
    size_t      size;
    int64_t     n = 0;
    int32_t    *merge = NULL;
    qt_err      e = qt_file_read(&a, file, &text, &size);
    *out = NULL, s = text;
    if (e == QT_OK) e = read_header(file, &s, &n);
    if (e == QT_OK && (uint64_t)n > size / 4) e = qt_fail(QT_EDATA, "%s: too short for the vocabulary of line 2", file);
    if (e == QT_OK && !(merge = qt_arena_alloc(&a, (size_t)n * 2 * sizeof *merge))) e = QT_EMEM;
    if (e == QT_OK) e = read_merges(file, s, n, merge);
    if (e == QT_OK) e = qt_bpe_make(file, n, merge, out);
    qt_arena_free(&a);
    return e;
}

qt_err qt_bpe_save(const qt_bpe *b, const char *file)
{
    int64_t n = b->vocab - QT_BPE_BYTES;
    char   *lines = qt_alloc((size_t)n * 16 + 1), *text = NULL, *p = lines;
    qt_err  e = QT_EMEM;
    for (int64_t k = 0; lines && k < n; k++) p += sprintf(p, "%d %d\n", b->merge[k][0], b->merge[k][1]);
    if (lines) text = qt_sprintf("%svocab %lld\ncrc32 %08lx\n%s", magic, (long long)b->vocab, crc32_z(0, (Bytef *)lines, (size_t)(p - lines)), lines);
    if (text) e = qt_file_write(file, text, strlen(text));
    qt_free(lines), qt_free(text);
    return e;
}

/* ---- encoding --------------------------------------------------------------------------------------------------------------------------- */

enum { SLOTS = 1 << 15, SHORT = 24 };

typedef struct seen {
    uint8_t n, count; /* n: 0 if the slot is free */
    char    word[SHORT];
    int32_t ids[SHORT];
} seen;

/* A token of the word, -1 when it has been joined to the one before it. */
typedef struct symbol {
    int32_t id, before, after; /* indices of its neighbours, -1 at the ends */
} symbol;

/* Two neighbours that merge `id` would join; out of date when they are no longer `left` and `right`. */
typedef struct join {
    int32_t id, at, left, right;
} join;

struct qt_bpe_encoder {
    const qt_bpe *b;
    seen         *seen;
    symbol       *symbol;
    join         *heap;
    int32_t      *ids;
    int           cap_symbol, cap_heap, cap_ids, n_heap;
};

static bool sooner(const join *a, const join *b) { return a->id != b->id ? a->id < b->id : a->at < b->at; }

/* The neighbours that begin at symbol `at`, if a merge joins them. There are never more than two a symbol on the heap. */
static void push(qt_bpe_encoder *e, int32_t at)
{
    if (at < 0 || e->symbol[at].after < 0) return;
    join j = {0, at, e->symbol[at].id, e->symbol[e->symbol[at].after].id};
    int  i = e->n_heap;
    if ((j.id = qt_pairs_find(&e->b->pairs, qt_pair(j.left, j.right))) < 0) return;
    e->n_heap++;
    for (; i && sooner(&j, &e->heap[(i - 1) / 2]); i = (i - 1) / 2) e->heap[i] = e->heap[(i - 1) / 2];
    e->heap[i] = j;
}

static join pop(qt_bpe_encoder *e)
{
    join top = e->heap[0], last = e->heap[--e->n_heap];
    int  i = 0;
    for (int k; (k = 2 * i + 1) < e->n_heap; i = k) {
        if (k + 1 < e->n_heap && sooner(&e->heap[k + 1], &e->heap[k])) k++;
        if (!sooner(&e->heap[k], &last)) break;
        e->heap[i] = e->heap[k];
    }
    e->heap[i] = last;
    return top;
}

static void apply(qt_bpe_encoder *e, const join *j)
{
    symbol *s = e->symbol, *left = &s[j->at];
    int32_t right = left->after;
    if (left->id != j->left || right < 0 || s[right].id != j->right) return;
    left->id = j->id, left->after = s[right].after, s[right].id = -1;
    if (left->after >= 0) s[left->after].before = j->at;
    push(e, left->before);
    push(e, j->at);
}

static qt_err join_word(qt_bpe_encoder *e, const char *word, int n, int64_t *count)
{
    QT_TRY(qt_grow(&e->symbol, &e->cap_symbol, n, sizeof *e->symbol));
    QT_TRY(qt_grow(&e->heap, &e->cap_heap, 3 * n, sizeof *e->heap));
    QT_TRY(qt_grow(&e->ids, &e->cap_ids, n, sizeof *e->ids));
    for (int i = 0; i < n; i++) e->symbol[i] = (symbol){(uint8_t)word[i], i - 1, i + 1 < n ? i + 1 : -1};
    for (int i = 0; i < n; i++) push(e, i);
    while (e->n_heap) {
        join j = pop(e);
        apply(e, &j);
    }
    *count = 0;
    for (int i = 0; i >= 0; i = e->symbol[i].after) e->ids[(*count)++] = e->symbol[i].id;
    return QT_OK;
}

static seen *slot_of(qt_bpe_encoder *e, const char *word, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)word[i]) * 1099511628211u;
    return &e->seen[(h ^ h >> 32) % SLOTS];
}

qt_err qt_bpe_encode_word(qt_bpe_encoder *e, const char *word, size_t n, const int32_t **ids, int64_t *count)
{
    seen *s = n <= SHORT ? slot_of(e, word, n) : NULL;
    QT_CHECK(n <= 1 << 28, QT_EDATA, "a word of %zu bytes is too long to encode", n);
    if (s && s->n == n && !memcmp(s->word, word, n)) return *ids = s->ids, *count = s->count, QT_OK;
    QT_TRY(join_word(e, word, (int)n, count));
    *ids = e->ids;
    if (!s) return QT_OK;
    s->n = (uint8_t)n, s->count = (uint8_t)*count;
    memcpy(s->word, word, n), memcpy(s->ids, e->ids, (size_t)*count * sizeof *e->ids);
    return QT_OK;
}

qt_err qt_bpe_encoder_new(const qt_bpe *b, qt_bpe_encoder **out)
{
    qt_bpe_encoder *e = *out = qt_alloc(sizeof *e);
    if (!e || !(e->seen = qt_alloc(SLOTS * sizeof *e->seen))) return qt_free(e), *out = NULL, QT_EMEM;
    e->b = b;
    return QT_OK;
}

void qt_bpe_encoder_free(qt_bpe_encoder *e)
{
    if (!e) return;
    qt_free(e->seen), qt_free(e->symbol), qt_free(e->heap), qt_free(e->ids);
    qt_free(e);
}

qt_err qt_bpe_encode_text(qt_bpe_encoder *e, const char *text, size_t n, int32_t *ids, int64_t *count)
{
    const int32_t *word;
    *count = 0;
    for (size_t at = 0, len; at < n; at += len) {
        int64_t k;
        len = qt_bpe_word(text + at, n - at);
        QT_TRY(qt_bpe_encode_word(e, text + at, len, &word, &k));
        memcpy(ids + *count, word, (size_t)k * sizeof *ids), *count += k;
    }
    return QT_OK;
}

qt_err qt_bpe_encode(const qt_bpe *b, const char *text, size_t n, int32_t *ids, int64_t *count)
{
    qt_bpe_encoder *enc;
    qt_err          e = qt_bpe_encoder_new(b, &enc);
    *count = 0;
    if (e == QT_OK) e = qt_bpe_encode_text(enc, text, n, ids, count);
    qt_bpe_encoder_free(enc);
    return e;
}

qt_err qt_bpe_decode(const qt_bpe *b, const int32_t *ids, int64_t count, char **text, size_t *n)
{
    size_t at = 0;
    *n = 0, *text = NULL;
    for (int64_t i = 0; i < count; i++) {
        QT_CHECK(ids[i] >= 0 && ids[i] < b->vocab, QT_EDATA, "token %lld is %d, expected 0 to %lld", (long long)i, ids[i], (long long)b->vocab - 1);
        *n += length(b, ids[i]);
    }
    if (!(*text = qt_alloc(*n + 1))) return QT_EMEM;
    for (int64_t i = 0; i < count; i++) memcpy(*text + at, b->bytes + b->at[ids[i]], length(b, ids[i])), at += length(b, ids[i]);
    return QT_OK;
}
