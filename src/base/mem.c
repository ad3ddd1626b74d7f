/* Memory: see mem.h. Blocks of an arena form a list; `now` is the block in use, those after it are empty after a reset. */
#include "base/mem.h"
#include "base/err.h"
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64, SMALLEST = 4 << 10, LARGEST = 1 << 20 }; /* blocks of an arena double from the smallest to the largest */

static atomic_llong count, fail_at;

void *qt_alloc(size_t n)
{
    long long at = atomic_load(&fail_at);
    void     *p;
    atomic_fetch_add(&count, 1);
    if ((at && atomic_fetch_sub(&fail_at, 1) == 1) || n > PTRDIFF_MAX - ALIGN) p = NULL;
    else p = aligned_alloc(ALIGN, (n + ALIGN) / ALIGN * ALIGN);
    if (!p) qt_fail(QT_EMEM, "out of memory: %zu bytes asked for", n);
    else memset(p, 0, n);
    return p;
}

void    qt_free(void *p) { free(p); }
void    qt_alloc_fail_at(int64_t n) { atomic_store(&fail_at, n); }
int64_t qt_alloc_count(void) { return atomic_load(&count); }

qt_err qt_grow(void *array_pointer, int *cap, int want, size_t size)
{
    void **array = array_pointer, *bigger;
    int    n = *cap ? *cap : 8;
    if (want >= 0 && want <= *cap) return QT_OK;
    if (want < 0) return qt_fail(QT_EMEM, "out of memory: more than %d elements asked for", INT_MAX); /* n + 1 was too large for an int */
    while (n < want) n = n <= INT_MAX / 2 ? 2 * n : INT_MAX;
    bigger = qt_alloc((size_t)n * size);
    if (!bigger) return QT_EMEM;
    if (*array) memcpy(bigger, *array, (size_t)*cap * size);
    qt_free(*array);
    *array = bigger, *cap = n;
    return QT_OK;
}

char *qt_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char  *p = qt_alloc(n);
    return p ? memcpy(p, s, n) : NULL;
}

char *qt_sprintf(const char *fmt, ...)
{
    va_list ap;
    int     n;
    char   *p;
    va_start(ap, fmt), n = vsnprintf(NULL, 0, fmt, ap), va_end(ap);
    p = qt_alloc((size_t)n + 1);
    if (!p) return NULL;
    va_start(ap, fmt), vsnprintf(p, (size_t)n + 1, fmt, ap), va_end(ap);
    return p;
}

struct qt_block {
    struct qt_block *next;
    size_t           used, size;
    _Alignas(ALIGN) char data[];
};

void *qt_arena_alloc(qt_arena *a, size_t n)
{
    struct qt_block *b = a->now, *fresh;
    void            *p;
    if (n > PTRDIFF_MAX - 2 * ALIGN) return qt_alloc(n); /* fails */
    n = (n + ALIGN - 1) / ALIGN * ALIGN;
    while (b && b->used + n > b->size && b->next) b = b->next;
    if (!b || b->used + n > b->size) {
        size_t size = !b ? SMALLEST : b->size < LARGEST ? 2 * b->size : LARGEST;
        if (size < n) size = n;
        fresh = qt_alloc(sizeof *fresh + size);
        if (!fresh) return NULL;
        fresh->size = size;
        if (b) b->next = fresh;
        else a->first = fresh;
        b = fresh;
    }
    a->now = b;
    p = b->data + b->used;
    b->used += n;
    return p;
}

void *qt_arena_zalloc(qt_arena *a, size_t n)
{
    void *p = qt_arena_alloc(a, n);
    return p ? memset(p, 0, n) : NULL;
}

char *qt_arena_strdup(qt_arena *a, const char *s)
{
    size_t n = strlen(s) + 1;
    char  *p = qt_arena_alloc(a, n);
    return p ? memcpy(p, s, n) : NULL;
}

char *qt_arena_sprintf(qt_arena *a, const char *fmt, ...)
{
    va_list ap;
    int     n;
    char   *p;
    va_start(ap, fmt), n = vsnprintf(NULL, 0, fmt, ap), va_end(ap);
    p = qt_arena_alloc(a, (size_t)n + 1);
    if (!p) return NULL;
    va_start(ap, fmt), vsnprintf(p, (size_t)n + 1, fmt, ap), va_end(ap);
    return p;
}

void qt_arena_reset(qt_arena *a)
{
    for (struct qt_block *b = a->first; b; b = b->next) b->used = 0;
    a->now = a->first;
}

void qt_arena_free(qt_arena *a)
{
    for (struct qt_block *b = a->first, *next; b; b = next) next = b->next, qt_free(b);
    a->first = a->now = NULL;
}
