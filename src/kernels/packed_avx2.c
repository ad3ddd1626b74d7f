/* Packed products for AVX2: vpmaddubsw multiplies 32 codes u >= 0 by 32 codes x of 8 signed bits and adds neighbours to 16 int16. With few
 * bits those can be added up in int16 for a while, 64 multiply-adds in two instructions, before they are widened:
 *     128 products of ternary codes always fit, 85 of 2 bits, 17 of 4.
 * `most` is that bound in vectors, from the ranges of the operands; nothing ever saturates. 8-bit codes are two halves of 4 bits, which have accumulators
 * of their own and meet as low + 16 high.
 * With one or two rows of x the shifts and masks count. Codes at odd places are then left where they stand in the byte, as 2^bits u, in an
 * accumulator of their own that is shifted at the end (`CLASSES`): that saves every other shift. From 4 rows on, a code vector is used so
 * often that it does not matter, and x is the memory operand of the multiplication: two instructions for 32 multiply-adds.
 * Left out: AVX-VNNI, which has the same peak for up to 2 bits. */
#include "kernels/packed_path.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline, target("avx2")))

enum { V = QT_PACKED_VECTOR, LANES = QT_PACKED_LANES, MAX_T = 8 };

#define CLASSES(bits, T) ((bits) == 8 ? 2 : (T) > 2 || (bits) == 4 ? 1 : (bits) == 2 ? 2 : 3)
#define PARTS(bits) ((bits) == 8 ? 2 : 8 / (bits))

INLINE __m256i load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

/* Part p of each byte, times 2^(bits * (p % C)). */
INLINE __m256i part(__m256i v, int bits, int C, int p)
{
    int shift = p / C * C * bits;
    return _mm256_and_si256(shift ? _mm256_srli_epi16(v, shift) : v, _mm256_set1_epi8((char)(((1 << bits) - 1) << p % C * bits)));
}

/* sum[m] += one row of w times row m of x, over n whole vectors. */
INLINE void row(int bits, int T, const uint8_t *w, const int8_t *x, int64_t n, int64_t most, __m256i *sum)
{
    const int     C = CLASSES(bits, T), parts = PARTS(bits);
    const __m256i ones = _mm256_set1_epi16(1);
    while (n > 0) {
        __m256i acc[MAX_T * 3];
        int64_t len = n < most ? n : most;
        for (int i = 0; i < T * C; i++) acc[i] = _mm256_setzero_si256();
        n -= len;
        for (; len > 0; len--, w += V) {
            __m256i v = load(w);
#pragma GCC unroll 8
            for (int p = 0; p < parts; p++) {
                __m256i u = bits == 8 ? part(v, 4, 1, p) : part(v, bits, C, p);
#pragma GCC unroll 8
                for (int m = 0; m < T; m++)
                    acc[m * C + p % C] = _mm256_add_epi16(acc[m * C + p % C], _mm256_maddubs_epi16(u, load(x + ((bits == 8 ? 0 : p) * T + m) * V)));
            }
            x += (bits == 8 ? 1 : parts) * T * V;
        }
#pragma GCC unroll 8
        for (int m = 0; m < T; m++)
            for (int c = 0; c < C; c++) {
                __m256i wide = _mm256_madd_epi16(acc[m * C + c], ones);
                sum[m] = _mm256_add_epi32(sum[m], bits == 8 ? _mm256_slli_epi32(wide, c * 4) : _mm256_srai_epi32(wide, c * bits));
            }
    }
}

/* The same for `steps` steps inside one vector, from step p on. */
INLINE void piece(int bits, int T, const uint8_t *w, int64_t p, const int8_t *x, int64_t steps, __m256i *sum)
{
    const __m256i mask = _mm256_set1_epi8((char)((1 << bits) - 1));
    __m256i       acc[MAX_T], v = load(w);
    for (int m = 0; m < T; m++) acc[m] = _mm256_setzero_si256();
    for (; steps > 0; steps--, p++, x += T * V) {
        __m256i u = _mm256_and_si256(_mm256_srl_epi16(v, _mm_cvtsi32_si128((int)p * bits)), mask);
#pragma GCC unroll 8
        for (int m = 0; m < T; m++) acc[m] = _mm256_add_epi16(acc[m], _mm256_maddubs_epi16(u, load(x + m * V)));
    }
#pragma GCC unroll 8
    for (int m = 0; m < T; m++) sum[m] = _mm256_madd_epi16(acc[m], _mm256_set1_epi16(1));
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
    const int C = CLASSES(bits, T), P = 8 / bits, adds = bits == 8 ? 1 : (P + C - 1) / C;
    int64_t   most = j->products / (2 * adds << (bits == 8 ? 0 : bits * (C - 1)));
    for (int64_t r0 = 0; r0 < j->rows; r0 += LANES / T)
        for (int64_t b = 0; b < j->blocks; b++, out += LANES) {
            int64_t       s = b * j->steps;
            const int8_t *x = j->x + s * T * V;
            __m256i       sum[LANES];
            for (int i = 0; i < LANES; i++) sum[i] = _mm256_setzero_si256();
#pragma GCC unroll 8
            for (int r = 0; r < LANES / T; r++) {
                int64_t        n = r0 + r < j->rows ? r0 + r : j->rows - 1;
                const uint8_t *w = j->w + (size_t)n * j->stride + s / P * V;
                if (j->steps % P == 0)
                    row(bits, T, w, x, j->steps / P, most, sum + r * T);
                else
                    piece(bits, T, w, s % P, x, j->steps, sum + r * T);
            }
            _mm256_storeu_si256((__m256i *)out, across(sum));
        }
}

#define CASE(bits, T)                                                                                                  \
    __attribute__((target("avx2"))) static void dot_##bits##_##T(const qt_packed_job *j, int32_t *sum) { tiles(j, bits, T, sum); }
CASE(1, 1) CASE(1, 2) CASE(1, 4) CASE(1, 8) CASE(2, 1) CASE(2, 2) CASE(2, 4) CASE(2, 8) CASE(4, 1) CASE(4, 2) CASE(4, 4) CASE(4, 8)
CASE(8, 1) CASE(8, 2) CASE(8, 4)

static bool has(void) { return __builtin_cpu_supports("avx2"); }

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

const qt_packed_path qt_packed_avx2 = {"avx2", has, dot};
