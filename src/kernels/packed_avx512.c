/* Packed products for AVX512-VNNI: vpdpbusd adds four products of u (8 bits, unsigned) and x (8 bits, signed) to an int32, exactly and without
 * an intermediate of 16 bits. A vector of 64 bytes takes two panels side by side, against a quad of x that is broadcast. With few rows of x,
 * several accumulators for each sum (chains) hide the latency. */
#include "kernels/packed_path.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET "avx512f,avx512bw,avx512vl,avx512vnni"
#define INLINE static inline __attribute__((always_inline, target(TARGET)))

enum { V = QT_PACKED_VECTOR, ROWS = QT_PACKED_ROWS, QUAD = QT_PACKED_QUAD, MAX_T = 8, MAX_CHAINS = 4 };

#define CHAINS(T) ((T) == 8 ? 1 : (T) == 4 ? 2 : 4)

INLINE __m512i both(const uint8_t *p, const uint8_t *q)
{
    __m256i low = _mm256_loadu_si256((const __m256i *)p), high = _mm256_loadu_si256((const __m256i *)q);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
INLINE __m512i quad(const int8_t *x) { return _mm512_broadcastd_epi32(_mm_loadu_si32(x)); }

/* acc[chain][m] += a vector of two panels times row m of x. Part p goes to chain + p. */
INLINE void vector(int bits, int T, const uint8_t *w, const uint8_t *next, const int8_t *x, int chain, __m512i acc[MAX_CHAINS][MAX_T])
{
    const __m512i mask = _mm512_set1_epi8((char)((1 << bits) - 1)), v = both(w, next);
#pragma GCC unroll 8
    for (int p = 0; p < 8 / bits; p++) {
        __m512i  u = bits == 8 ? v : _mm512_and_si512(p ? _mm512_srli_epi16(v, (unsigned)(p * bits)) : v, mask);
        __m512i *a = acc[(chain + p) % CHAINS(T)];
#pragma GCC unroll 8
        for (int m = 0; m < T; m++) a[m] = _mm512_dpbusd_epi32(a[m], u, quad(x + (p * T + m) * QUAD));
    }
}

/* sum[m] = n vectors of two panels times row m of x. */
INLINE void pair(int bits, int T, const uint8_t *w, const uint8_t *next, const int8_t *x, int64_t n, __m512i *sum)
{
    const int P = 8 / bits, G = P < CHAINS(T) ? CHAINS(T) / P : 1; /* vectors that fill all chains */
    int64_t   i = 0;
    __m512i   acc[MAX_CHAINS][MAX_T];
    for (int c = 0; c < CHAINS(T); c++)
        for (int m = 0; m < T; m++) acc[c][m] = _mm512_setzero_si512();
    for (; i + G <= n; i += G)
#pragma GCC unroll 4
        for (int g = 0; g < G; g++) vector(bits, T, w + (i + g) * V, next + (i + g) * V, x + (i + g) * P * T * QUAD, g * P, acc);
    for (; i < n; i++) vector(bits, T, w + i * V, next + i * V, x + i * P * T * QUAD, 0, acc);
    for (int m = 0; m < T; m++) {
        sum[m] = acc[0][m];
        for (int c = 1; c < CHAINS(T); c++) sum[m] = _mm512_add_epi32(sum[m], acc[c][m]);
    }
}

INLINE void panels(const qt_packed_job *j, int bits, int T, int32_t *out)
{
    const int64_t step = j->blocks * T * ROWS; /* sums of a panel */
    for (int64_t n = 0; n < j->panels; n += 2, out += 2 * step) {
        const uint8_t *w = j->w + (size_t)n * j->stride, *next = n + 1 < j->panels ? w + j->stride : w;
        const int8_t  *x = j->x;
        for (int64_t b = 0; b < j->blocks; b++, w += j->vectors * V, next += j->vectors * V, x += j->vectors * (8 / bits) * T * QUAD) {
            __m512i sum[MAX_T];
            pair(bits, T, w, next, x, j->vectors, sum);
            for (int m = 0; m < T; m++) {
                int32_t *at = out + (b * T + m) * ROWS;
                _mm256_storeu_si256((__m256i *)at, _mm512_castsi512_si256(sum[m]));
                if (n + 1 < j->panels) _mm256_storeu_si256((__m256i *)(at + step), _mm512_extracti64x4_epi64(sum[m], 1));
            }
        }
    }
}

#define CASE(bits, T)                                                                                                                                \
    __attribute__((target(TARGET))) static void dot_##bits##_##T(const qt_packed_job *j, int32_t *sum) { panels(j, bits, T, sum); }
CASE(1, 1) CASE(1, 2) CASE(1, 4) CASE(1, 8) CASE(2, 1) CASE(2, 2) CASE(2, 4) CASE(2, 8) CASE(4, 1) CASE(4, 2) CASE(4, 4) CASE(4, 8)
CASE(8, 1) CASE(8, 2) CASE(8, 4)

static bool has(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

static void dot(const qt_packed_job *j, int32_t *sum)
{
    static void (*const all[4][4])(const qt_packed_job *, int32_t *) = {{dot_1_1, dot_1_2, dot_1_4, dot_1_8},
                                                                        {dot_2_1, dot_2_2, dot_2_4, dot_2_8},
                                                                        {dot_4_1, dot_4_2, dot_4_4, dot_4_8},
                                                                        {dot_8_1, dot_8_2, dot_8_4, NULL}};
    all[__builtin_ctz((unsigned)j->bits)][__builtin_ctz((unsigned)j->T)](j, sum);
}
#else
static bool has(void) { return false; }
static void dot(const qt_packed_job *j, int32_t *sum) { (void)j, (void)sum; }
#endif

const qt_packed_path qt_packed_avx512 = {"avx512-vnni", 8, has, dot, qt_packed_interleave_avx2, NULL};
