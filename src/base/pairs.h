/* A table from pairs of tokens to numbers: open addressing with linear probing, at most half full. */
#ifndef QT_BASE_PAIRS_H
#define QT_BASE_PAIRS_H
#include "base/err.h"
#include "base/mem.h"

typedef struct qt_pairs {
    uint64_t *key;   /* pair + 1; 0: free */
    int32_t  *value;
    int64_t   n, cap; /* cap is a power of two */
} qt_pairs;

static inline uint64_t qt_pair(int32_t left, int32_t right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }

/* Slot of a pair, or the free one where it belongs. */
static inline int64_t qt_pairs_slot(const qt_pairs *t, uint64_t pair)
{
    uint64_t h = (pair ^ pair >> 29) * 0x9e3779b97f4a7c15u;
    int64_t  i = (int64_t)(h >> 20) & (t->cap - 1);
    while (t->key[i] && t->key[i] != pair + 1) i = (i + 1) & (t->cap - 1);
    return i;
}

/* -1 if it is not there. */
static inline int32_t qt_pairs_find(const qt_pairs *t, uint64_t pair)
{
    int64_t i = t->cap ? qt_pairs_slot(t, pair) : -1;
    return i >= 0 && t->key[i] ? t->value[i] : -1;
}

static inline void qt_pairs_free(qt_pairs *t)
{
    qt_free(t->key), qt_free(t->value);
    *t = (qt_pairs){0};
}

static inline qt_err qt_pairs_grow(qt_pairs *t)
{
    qt_pairs more = {.n = t->n, .cap = t->cap ? 2 * t->cap : 1024};
    more.key = qt_alloc((size_t)more.cap * sizeof *more.key), more.value = qt_alloc((size_t)more.cap * sizeof *more.value);
    if (!more.key || !more.value) return qt_pairs_free(&more), QT_EMEM;
    for (int64_t i = 0; i < t->cap; i++) {
        if (!t->key[i]) continue;
        int64_t at = qt_pairs_slot(&more, t->key[i] - 1);
        more.key[at] = t->key[i], more.value[at] = t->value[i];
    }
    qt_pairs_free(t);
    *t = more;
    return QT_OK;
}

/* Adds a pair that is not there yet. */
static inline qt_err qt_pairs_add(qt_pairs *t, uint64_t pair, int32_t value)
{
    if (2 * (t->n + 1) > t->cap) QT_TRY(qt_pairs_grow(t));
    int64_t i = qt_pairs_slot(t, pair);
    t->key[i] = pair + 1, t->value[i] = value, t->n++;
    return QT_OK;
}
#endif
