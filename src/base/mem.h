/* Memory. One allocation function that tests can make fail at the n-th call; everything else stands on it. */
#ifndef QT_BASE_MEM_H
#define QT_BASE_MEM_H
#include "qtape.h"

/* n zeroed bytes aligned to 64, or NULL with an error message. n = 0 gives a valid pointer. */
void *qt_alloc(size_t n);
void  qt_free(void *p);
/* Grows an array of elements of `size` bytes so that it holds `want`; *cap is updated. Contents are kept, new bytes are zero. */
qt_err qt_grow(void *array_pointer, int *cap, int want, size_t size);
char *qt_strdup(const char *s);
char *qt_sprintf(const char *fmt, ...) QT_PRINTF(1, 2); /* qt_alloc'ed */

/* Tests: the n-th allocation from now fails (1 = the next); 0 switches it off. qt_alloc_count() counts all since the start. */
void    qt_alloc_fail_at(int64_t n);
int64_t qt_alloc_count(void);

/* An arena: memory that dies together. Reset keeps its blocks, so what once fitted fits again without an allocation. */
typedef struct qt_arena {
    struct qt_block *first, *now;
} qt_arena;
/* n bytes aligned to 64, NOT zeroed after a reset. NULL with an error message when memory is out. */
void *qt_arena_alloc(qt_arena *a, size_t n);
void *qt_arena_zalloc(qt_arena *a, size_t n); /* zeroed */
char *qt_arena_strdup(qt_arena *a, const char *s);
char *qt_arena_sprintf(qt_arena *a, const char *fmt, ...) QT_PRINTF(2, 3);
void  qt_arena_reset(qt_arena *a);
void  qt_arena_free(qt_arena *a);
#endif
