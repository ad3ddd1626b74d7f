/* Parallel loops. Work is cut into chunks whose bounds depend on the problem only, never on the number of threads; reductions
 * keep one partial result a chunk and add them in order. That is what makes 1 and n threads give the same bits. */
#ifndef QT_BASE_PAR_H
#define QT_BASE_PAR_H
#include "qtape.h"

#define QT_PRAGMA(x) _Pragma(#x)

/* for each chunk [b, e) of [0, n), at most `grain` long, in parallel when there is more than one:
 *     QT_FOR_CHUNKS(b, e, n, 16384) add_range(y, x, b, e);      */
#define QT_FOR_CHUNKS(b, e, n, grain)                                                          \
    QT_PRAGMA(omp parallel for schedule(static) if ((n) > (grain)))                            \
    for (int64_t chunk_##b = 0; chunk_##b < ((n) + (grain)-1) / (grain); chunk_##b++)          \
        for (int64_t b = chunk_##b * (grain), e = qt_min_i64(b + (grain), (n)), once_##b = 1; once_##b; once_##b = 0)
/* Index of the chunk inside QT_FOR_CHUNKS(b, ...), to store its partial result. */
#define QT_CHUNK_OF(b) (chunk_##b)
#define QT_CHUNKS(n, grain) (((n) + (grain)-1) / (grain))

/* for each i of [0, n) in parallel when `many` holds (a cheap test that the work is worth a thread team) */
#define QT_FOR_EACH(i, n, many)                                   \
    QT_PRAGMA(omp parallel for schedule(static) if (many))        \
    for (int64_t i = 0; i < (n); i++)

enum { QT_GRAIN = 16384 }; /* elements a chunk of an element-wise pass */

static inline int64_t qt_min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t qt_max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

/* Put before a hot leaf function over plain arrays: compiled for several instruction sets, chosen at load time. No contraction and no
 * reassociation is enabled anywhere, so all versions give the same bits. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(QT_NO_CLONES)
#define QT_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define QT_CLONES
#endif
#endif
