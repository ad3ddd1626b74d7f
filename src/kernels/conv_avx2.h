/* Rows in AVX2 registers: what conv_avx2.c and conv_winograd.c share. AVX2 is defined where those paths exist. */
#ifndef QT_KERNELS_CONV_AVX2_H
#define QT_KERNELS_CONV_AVX2_H
#include "base/par.h"
#include "kernels/conv.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(QT_DOUBLE)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline, target("avx2,fma")))

static inline int64_t up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

/* The writers of a strip go from its front to its back in whole vectors: what they write too much, up to 7 numbers, is written over by
 * what follows, and at the end falls into room that is left there. They read too much only as far as `readable` allows.
 * Rows are short: the empty asm keeps compilers from making calls of memcpy and memset from the loops. */
INLINE void zero(float *d, int64_t n)
{
    for (int64_t i = 0; i < n; i += 8) {
        _mm256_storeu_ps(d + i, _mm256_setzero_ps());
        __asm__ volatile("");
    }
}

INLINE void copy(float *d, const float *x, int64_t n, int64_t readable)
{
    int64_t i = 0;
    for (; i < n && i + 8 <= readable; i += 8) {
        _mm256_storeu_ps(d + i, _mm256_loadu_ps(x + i));
        __asm__ volatile("");
    }
    for (; i < n; i++) d[i] = x[i];
}

/* d[i] = x[2i] */
INLINE void copy_even(float *d, const float *x, int64_t n, int64_t readable)
{
    int64_t i = 0;
    for (; i < n && 2 * i + 16 <= readable; i += 8) {
        __m256 even = _mm256_shuffle_ps(_mm256_loadu_ps(x + 2 * i), _mm256_loadu_ps(x + 2 * i + 8), 0x88);
        _mm256_storeu_ps(d + i, _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(even), 0xd8)));
    }
    for (; i < n; i++) d[i] = x[2 * i];
}

/* y += x, or y = x */
INLINE void add(float *y, const float *x, int64_t n, const bool first)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        _mm256_storeu_ps(y + i, first ? v : _mm256_add_ps(_mm256_loadu_ps(y + i), v));
        __asm__ volatile("");
    }
    if (n & 4) {
        __m128 v = _mm_loadu_ps(x + i);
        _mm_storeu_ps(y + i, first ? v : _mm_add_ps(_mm_loadu_ps(y + i), v));
        i += 4;
    }
    if (n & 2) {
        y[i] = first ? x[i] : y[i] + x[i], y[i + 1] = first ? x[i + 1] : y[i + 1] + x[i + 1];
        i += 2;
    }
    if (n & 1) y[i] = first ? x[i] : y[i] + x[i];
}
#endif
#endif
