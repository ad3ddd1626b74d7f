/* Packed products for AVX512-VNNI: vpdpbusd adds four products of u (8 bits, unsigned) and x (8 bits, signed) to an int32, exactly and without
 * an intermediate of 16 bits. A vector of 64 bytes takes two rows side by side: with several rows of x two of those, which lie next to each
 * other in memory, against a doubled vector of codes; with one row of x two rows of weights against a doubled x. So the layout is that of
 * AVX2, with the same groups. Four accumulators for each sum hide the latency. */
#include "kernels/packed_path.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET "avx512f,avx512bw,avx512vl,avx512vnni"
#define INLINE static inline __attribute__((always_inline, target(TARGET)))

enum { V = QT_PACKED_VECTOR, LANES = QT_PACKED_LANES, MAX_T = 8, CHAINS = 4 };

INLINE __m256i load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE __m512i twice(const void *p) { return _mm512_broadcast_i64x4(load(p)); }
INLINE __m512i both(const void *p, const void *q) { return _mm512_inserti64x4(_mm512_castsi256_si512(load(p)), load(q), 1); }

/* acc[chain][pair] += one vector of w (and one of the next row, where T = 1) times T rows of x. Part p goes to chain + p. */
INLINE void vector(int bits, int T, const uint8_t *w, const uint8_t *next, const int8_t *x, int chain, __m512i acc[CHAINS][MAX_T / 2])
{
    const int     pairs = T > 1 ? T / 2 : 1;
    const __m512i mask = _mm512_set1_epi8((char)((1 << bits) - 1)), v = T > 1 ? twice(w) : both(w, next);
#pragma GCC unroll 8
    for (int p = 0; p < 8 / bits; p++) {
        __m512i  u = bits == 8 ? v : _mm512_and_si512(p ? _mm512_srli_epi16(v, (unsigned)(p * bits)) : v, mask);
        __m512i *a = acc[(chain + p) % CHAINS];
#pragma GCC unroll 4
        for (int m = 0; m < pairs; m++) {
            const int8_t *at = x + (p * T + 2 * m) * V;
            a[m] = _mm512_dpbusd_epi32(a[m], u, T > 1 ? _mm512_loadu_si512(at) : twice(at));
        }
    }
}

INLINE void whole(int bits, int T, const uint8_t *w, const uint8_t *next, int64_t n, const int8_t *x, __m512i acc[CHAINS][MAX_T / 2])
{
    const int P = 8 / bits, G = P < CHAINS ? CHAINS / P : 1; /* vectors that fill all chains */
    int64_t   i = 0;
    for (; i + G <= n; i += G)
#pragma GCC unroll 4
        for (int g = 0; g < G; g++) vector(bits, T, w + (i + g) * V, next + (i + g) * V, x + (i + g) * P * T * V, g * P, acc);
    for (; i < n; i++) vector(bits, T, w + i * V, next + i * V, x + i * P * T * V, 0, acc);
}

/* The same for `steps` steps inside one vector, from step p on. */
INLINE void piece(int bits, int T, const uint8_t *w, const uint8_t *next, int64_t p, int64_t steps, const int8_t *x, __m512i acc[CHAINS][MAX_T / 2])
{
    const int     pairs = T > 1 ? T / 2 : 1;
    const __m512i mask = _mm512_set1_epi8((char)((1 << bits) - 1)), v = T > 1 ? twice(w) : both(w, next);
    for (; steps > 0; steps--, p++, x += T * V) {
        __m512i u = _mm512_and_si512(_mm512_srl_epi16(v, _mm_cvtsi32_si128((int)p * bits)), mask);
#pragma GCC unroll 4
        for (int m = 0; m < pairs; m++)
            acc[0][m] = _mm512_dpbusd_epi32(acc[0][m], u, T > 1 ? _mm512_loadu_si512(x + 2 * m * V) : twice(x));
    }
}

/* Lane i: the sum over the lanes of s[i]. */
INLINE __m256i across(const __m256i *s)
{
    __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(s[0], s[1]), _mm256_hadd_epi32(s[2], s[3]));
    __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(s[4], s[5]), _mm256_hadd_epi32(s[6], s[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

INLINE void tiles(const qt_packed_job *j, int bits, int T, int32_t *out)
{
    const int P = 8 / bits, pairs = T > 1 ? T / 2 : 1, rows = T > 1 ? 1 : 2;
    for (int64_t r0 = 0; r0 < j->rows; r0 += LANES / T)
        for (int64_t b = 0; b < j->blocks; b++, out += LANES) {
            int64_t       s = b * j->steps;
            const int8_t *x = j->x + s * T * V;
            __m256i       sum[LANES];
#pragma GCC unroll 4
            for (int r = 0; r < LANES / T; r += rows) {
                int64_t        n = r0 + r < j->rows ? r0 + r : j->rows - 1;
                const uint8_t *w = j->w + (size_t)n * j->stride + s / P * V, *next = n + 1 < j->rows ? w + j->stride : w;
                __m512i        acc[CHAINS][MAX_T / 2];
                for (int c = 0; c < CHAINS; c++)
                    for (int m = 0; m < pairs; m++) acc[c][m] = _mm512_setzero_si512();
                if (j->steps % P == 0)
                    whole(bits, T, w, next, j->steps / P, x, acc);
                else
                    piece(bits, T, w, next, s % P, j->steps, x, acc);
#pragma GCC unroll 4
                for (int m = 0; m < pairs; m++) {
                    __m512i all = _mm512_add_epi32(_mm512_add_epi32(acc[0][m], acc[1][m]), _mm512_add_epi32(acc[2][m], acc[3][m]));
                    sum[r * T + 2 * m] = _mm512_castsi512_si256(all);
                    sum[r * T + 2 * m + 1] = _mm512_extracti64x4_epi64(all, 1);
                }
            }
            _mm256_storeu_si256((__m256i *)out, across(sum));
        }
}

#define CASE(bits, T)                                                                                                  \
    __attribute__((target(TARGET))) static void dot_##bits##_##T(const qt_packed_job *j, int32_t *sum) { tiles(j, bits, T, sum); }
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

const qt_packed_path qt_packed_avx512 = {"avx512-vnni", has, dot};
