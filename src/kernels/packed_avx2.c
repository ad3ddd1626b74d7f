/* Packed products for AVX2: vpmaddubsw multiplies 32 codes u >= 0 by 32 codes x of 8 signed bits and adds neighbours to 16 int16. With few
 * bits those can be added up in int16 for a while, 64 multiply-adds in four instructions, before they are widened:
 *     128 products of ternary codes always fit, 85 of 2 bits, 17 of 4.
 * `most` is that bound in vectors, from the ranges of the operands; nothing ever saturates. 8-bit codes are two halves of 4 bits, which have
 * accumulators of their own and meet as low + 16 high.
 * With one or two rows of x the shifts and masks count. Codes at odd places are then left where they stand in the byte, as 2^bits u, in an
 * accumulator of their own that is shifted at the end (CLASSES): that saves every other shift.
 * Left out: AVX-VNNI, which has the same peak for up to 2 bits. */
#include "kernels/packed_path.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline, target("avx2")))

enum { V = QT_PACKED_VECTOR, ROWS = QT_PACKED_ROWS, QUAD = QT_PACKED_QUAD, MAX_T = 8 };

#define CLASSES(bits, T) ((bits) == 8 ? 2 : (T) > 2 || (bits) == 4 ? 1 : (bits) == 2 ? 2 : 3)
#define PARTS(bits) ((bits) == 8 ? 2 : 8 / (bits))

/* Keeps GCC from regrouping sums, which would need more registers than there are. */
#define KEEP(v) __asm__("" : "+x"(v))

INLINE __m256i load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE __m256i quad(const int8_t *x) { return _mm256_broadcastd_epi32(_mm_loadu_si32(x)); }

/* Part p of each byte, times 2^(bits * (p % C)). */
INLINE __m256i part(__m256i v, int bits, int C, int p)
{
    int shift = p / C * C * bits;
    return _mm256_and_si256(shift ? _mm256_srli_epi16(v, shift) : v, _mm256_set1_epi8((char)(((1 << bits) - 1) << p % C * bits)));
}

/* sum[m] = n vectors of a panel times row m of x. */
INLINE void panel(int bits, int T, const uint8_t *w, const int8_t *x, int64_t n, int64_t most, __m256i *sum)
{
    const int     C = CLASSES(bits, T), parts = PARTS(bits);
    const __m256i ones = _mm256_set1_epi16(1);
    for (int m = 0; m < T; m++) sum[m] = _mm256_setzero_si256();
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
                for (int m = 0; m < T; m++) {
                    __m256i *a = acc + m * C + p % C;
                    *a = _mm256_add_epi16(*a, _mm256_maddubs_epi16(u, quad(x + ((bits == 8 ? 0 : p) * T + m) * QUAD)));
                    KEEP(*a);
                }
            }
            x += 8 / bits * T * QUAD;
        }
#pragma GCC unroll 8
        for (int m = 0; m < T; m++)
            for (int c = 0; c < C; c++) {
                __m256i wide = _mm256_madd_epi16(acc[m * C + c], ones);
                sum[m] = _mm256_add_epi32(sum[m], bits == 8 ? _mm256_slli_epi32(wide, c * 4) : _mm256_srai_epi32(wide, c * bits));
            }
    }
}

INLINE void panels(const qt_packed_job *j, int bits, int T, int32_t *out)
{
    const int     C = CLASSES(bits, T), adds = bits == 8 ? 1 : (8 / bits + C - 1) / C;
    const int64_t most = j->products / (2 * adds << (bits == 8 ? 0 : bits * (C - 1)));
    for (int64_t n = 0; n < j->panels; n++) {
        const uint8_t *w = j->w + (size_t)n * j->stride;
        const int8_t  *x = j->x;
        for (int64_t b = 0; b < j->blocks; b++, w += j->vectors * V, x += j->vectors * (8 / bits) * T * QUAD) {
            __m256i sum[MAX_T];
            panel(bits, T, w, x, j->vectors, most, sum);
            for (int m = 0; m < T; m++, out += ROWS) _mm256_storeu_si256((__m256i *)out, sum[m]);
        }
    }
}

#define CASE(bits, T)                                                                                                  \
    __attribute__((target("avx2"))) static void dot_##bits##_##T(const qt_packed_job *j, int32_t *sum) { panels(j, bits, T, sum); }
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
