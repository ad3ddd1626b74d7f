/* Training of a byte pair encoding: see bpe.h. Each different word stands once with its count, as a row of tokens. The number of times that two
 * neighbours occur is the sum, over words, of count times the places in the word (overlapping ones too: "aaa" has "aa" twice). A heap
 * keeps all pairs by what they counted when they were put there; as the count of a pair only falls after the merge that made it possible,
 * a pair that comes off the heap with too high a number goes back with the right one. A merge touches only the words that the pair has
 * occurred in. Words of more than QT_BPE_MAX_TOKEN bytes do not count: they are no words of a language, and tokens stay short. */
#include "base/bpe.h"
#include "base/pairs.h"
#include <limits.h>
#include <string.h>

enum { MOST = 1 << 29 }; /* bytes of different words */

typedef struct word {
    int     at, n; /* bytes, later tokens, in the pool */
    int64_t count;
} word;

struct qt_bpe_words {
    char *pool;
    word *word;
    int  *slot; /* index of a word + 1, 0: free */
    int   n_pool, cap_pool, n, cap, n_slots;
};

/* ---- counting --------------------------------------------------------------------------------------------------------------------------- */

static int64_t find(const qt_bpe_words *w, const char *s, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)s[i]) * 1099511628211u;
    int64_t i = (int64_t)((h ^ h >> 32) & (uint64_t)(w->n_slots - 1));
    for (; w->slot[i]; i = (i + 1) & (w->n_slots - 1)) {
        const word *v = &w->word[w->slot[i] - 1];
        if (v->n == (int)n && !memcmp(w->pool + v->at, s, n)) break;
    }
    return i;
}

static qt_err grow_slots(qt_bpe_words *w)
{
    int *old = w->slot, n = w->n_slots ? 2 * w->n_slots : 1 << 12;
    int *slot = qt_alloc((size_t)n * sizeof *slot);
    if (!slot) return QT_EMEM;
    w->slot = slot, w->n_slots = n;
    for (int i = 0; i < w->n; i++) slot[find(w, w->pool + w->word[i].at, (size_t)w->word[i].n)] = i + 1;
    qt_free(old);
    return QT_OK;
}

static qt_err add_word(qt_bpe_words *w, const char *s, size_t n)
{
    if (2 * (w->n + 1) > w->n_slots) QT_TRY(grow_slots(w));
    int64_t i = find(w, s, n);
    if (w->slot[i]) return w->word[w->slot[i] - 1].count++, QT_OK;
    QT_CHECK(w->n_pool < MOST, QT_EDATA, "more than %d MB of different words: is this text?", MOST >> 20);
    QT_TRY(qt_grow(&w->pool, &w->cap_pool, w->n_pool + (int)n, 1));
    QT_TRY(qt_grow(&w->word, &w->cap, w->n + 1, sizeof *w->word));
    memcpy(w->pool + w->n_pool, s, n);
    w->word[w->n++] = (word){w->n_pool, (int)n, 1};
    w->n_pool += (int)n, w->slot[i] = w->n;
    return QT_OK;
}

qt_err qt_bpe_words_new(qt_bpe_words **out) { return (*out = qt_alloc(sizeof **out)) ? QT_OK : QT_EMEM; }

qt_err qt_bpe_count(qt_bpe_words *w, const char *text, size_t n)
{
    for (size_t at = 0, len; at < n; at += len) {
        len = qt_bpe_word(text + at, n - at);
        if (text[at] && len <= QT_BPE_MAX_TOKEN) QT_TRY(add_word(w, text + at, len));
    }
    return QT_OK;
}

void qt_bpe_words_free(qt_bpe_words *w)
{
    if (!w) return;
    qt_free(w->pool), qt_free(w->word), qt_free(w->slot);
    qt_free(w);
}

/* ---- pairs ------------------------------------------------------------------------------------------------------------------------------ */

/* Two neighbours: how often they occur, and in which words they have. */
typedef struct pair {
    int32_t left, right;
    int64_t count;
    int    *in;
    int     n_in, cap_in;
} pair;

/* A pair on the heap, and its count when it was put there. */
typedef struct entry {
    int64_t count;
    int     pair;
} entry;

typedef struct trainer {
    word    *word;
    int32_t *token;   /* the words' tokens */
    pair    *pair;
    entry   *heap;
    qt_pairs index;   /* of pairs in `pair` */
    int32_t *merge;
    int      n, n_pair, cap_pair, n_heap, cap_heap, n_merge;
} trainer;

static bool before(const trainer *t, const entry *a, const entry *b)
{
    const pair *p = &t->pair[a->pair], *q = &t->pair[b->pair];
    if (a->count != b->count) return a->count > b->count;
    return p->left != q->left ? p->left < q->left : p->right < q->right;
}

static qt_err push(trainer *t, int k)
{
    entry x = {t->pair[k].count, k};
    int   i = t->n_heap++;
    QT_TRY(qt_grow(&t->heap, &t->cap_heap, t->n_heap, sizeof *t->heap));
    for (; i && before(t, &x, &t->heap[(i - 1) / 2]); i = (i - 1) / 2) t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = x;
    return QT_OK;
}

static entry pop(trainer *t)
{
    entry top = t->heap[0], last = t->heap[--t->n_heap];
    int   i = 0;
    for (int k; (k = 2 * i + 1) < t->n_heap; i = k) {
        if (k + 1 < t->n_heap && before(t, &t->heap[k + 1], &t->heap[k])) k++;
        if (!before(t, &t->heap[k], &last)) break;
        t->heap[i] = t->heap[k];
    }
    t->heap[i] = last;
    return top;
}

/* The pairs of word i count by so much more, or less. Pairs with token `fresh` (-1: all) have not been seen in the word before. */
static qt_err count_word(trainer *t, int i, int64_t sign, int32_t fresh)
{
    const int32_t *s = t->token + t->word[i].at;
    for (int j = 0; j + 1 < t->word[i].n; j++) {
        int32_t k = qt_pairs_find(&t->index, qt_pair(s[j], s[j + 1]));
        if (k < 0) {
            QT_TRY(qt_grow(&t->pair, &t->cap_pair, t->n_pair + 1, sizeof *t->pair));
            t->pair[k = t->n_pair++] = (pair){.left = s[j], .right = s[j + 1]};
            QT_TRY(qt_pairs_add(&t->index, qt_pair(s[j], s[j + 1]), k));
        }
        pair *p = &t->pair[k];
        p->count += sign * t->word[i].count;
        bool known = sign < 0 || (fresh >= 0 && s[j] != fresh && s[j + 1] != fresh) || (p->n_in && p->in[p->n_in - 1] == i);
        if (known) continue;
        QT_TRY(qt_grow(&p->in, &p->cap_in, p->n_in + 1, sizeof *p->in));
        p->in[p->n_in++] = i;
    }
    return QT_OK;
}

/* ---- merging ---------------------------------------------------------------------------------------------------------------------------- */

/* Joins the pair in a word, from the left. */
static void join(int32_t *s, int *n, int32_t left, int32_t right, int32_t id)
{
    int to = 0;
    for (int i = 0; i < *n; i++, to++) {
        bool here = i + 1 < *n && s[i] == left && s[i + 1] == right;
        s[to] = here ? id : s[i];
        i += here;
    }
    *n = to;
}

static qt_err merge_pair(trainer *t, int k)
{
    int32_t left = t->pair[k].left, right = t->pair[k].right, id = (int32_t)(QT_BPE_BYTES + t->n_merge);
    int     first_new = t->n_pair;
    t->merge[2 * t->n_merge] = left, t->merge[2 * t->n_merge + 1] = right, t->n_merge++;
    for (int j = 0; j < t->pair[k].n_in; j++) {
        int i = t->pair[k].in[j];
        QT_TRY(count_word(t, i, -1, id));
        join(t->token + t->word[i].at, &t->word[i].n, left, right, id);
        QT_TRY(count_word(t, i, 1, id));
    }
    for (int j = first_new; j < t->n_pair; j++) QT_TRY(push(t, j));
    qt_free(t->pair[k].in);
    t->pair[k].in = NULL, t->pair[k].n_in = t->pair[k].cap_in = 0;
    return QT_OK;
}

static qt_err start(trainer *t, const qt_bpe_words *w, int64_t merges)
{
    t->n = w->n;
    t->word = qt_alloc((size_t)w->n * sizeof *t->word), t->token = qt_alloc((size_t)w->n_pool * sizeof *t->token);
    t->merge = qt_alloc((size_t)merges * 2 * sizeof *t->merge);
    if (!t->word || !t->token || !t->merge) return QT_EMEM;
    if (w->n) memcpy(t->word, w->word, (size_t)w->n * sizeof *t->word);
    for (int i = 0; i < w->n_pool; i++) t->token[i] = (uint8_t)w->pool[i];
    for (int i = 0; i < t->n; i++) QT_TRY(count_word(t, i, 1, -1));
    for (int k = 0; k < t->n_pair; k++) QT_TRY(push(t, k));
    return QT_OK;
}

static qt_err train(trainer *t, int64_t merges)
{
    while (t->n_merge < merges) {
        entry top = t->n_heap ? pop(t) : (entry){0};
        QT_CHECK(top.count > 1, QT_EUSAGE, "a vocabulary of %lld: the text supports %d tokens; beyond, no two neighbours occur twice",
                 (long long)merges + QT_BPE_BYTES, t->n_merge + QT_BPE_BYTES);
        if (top.count == t->pair[top.pair].count) QT_TRY(merge_pair(t, top.pair));
        else if (t->pair[top.pair].count) QT_TRY(push(t, top.pair));
    }
    return QT_OK;
}

static void stop(trainer *t)
{
    for (int k = 0; k < t->n_pair; k++) qt_free(t->pair[k].in);
    qt_free(t->word), qt_free(t->token), qt_free(t->pair), qt_free(t->heap), qt_free(t->merge);
    qt_pairs_free(&t->index);
}

qt_err qt_bpe_train(const qt_bpe_words *w, int64_t vocab, qt_bpe **out)
{
    trainer t = {0};
    *out = NULL;
    QT_CHECK(vocab >= QT_BPE_BYTES && vocab <= QT_BPE_MAX_VOCAB, QT_EUSAGE, "a vocabulary of %lld: expected %d to %d", (long long)vocab, QT_BPE_BYTES,
             QT_BPE_MAX_VOCAB);
    qt_err e = start(&t, w, vocab - QT_BPE_BYTES);
    if (e == QT_OK) e = train(&t, vocab - QT_BPE_BYTES);
    if (e == QT_OK) e = qt_bpe_make("bpe", t.n_merge, t.merge, out);
    stop(&t);
    return e;
}
