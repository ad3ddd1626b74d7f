/* Packed products for AVX2: vpmaddubsw multiplies 32 codes u >= 0 by 32 codes x of 8 signed bits and adds neighbours to 16 int16. With few
 * bits those can be added up in int16 for a while, 64 multiply-adds in four instructions, before they are widened:
 *     128 products of ternary codes always fit, 85 of 2 bits, 17 of 4.
 * `most` is that bound in vectors, from the ranges of the operands; nothing ever saturates. 8-bit codes are two halves of 4 bits, which have
 * accumulators of their own and meet as low + 16 high.
 * With one or two rows of x the shifts and masks count. Codes at odd places are then left where they stand in the byte, as 2^bits u, in an
 * accumulator of their own that is shifted at the end (CLASSES): that saves every other shift. Two panels at once share the broadcast of x.
 * Left out: AVX-VNNI, which has the same peak for up to 2 bits. */
#include "kernels/packed_path.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline, target("avx2")))

enum { V = QT_PACKED_VECTOR, ROWS = QT_PACKED_ROWS, QUAD = QT_PACKED_QUAD, MAX_SUMS = 8, MAX_ACC = 8, AHEAD = 12288 };

#define PARTS(bits) ((bits) == 8 ? 2 : 8 / (bits))
#define CLASSES(bits, T) ((bits) == 8 ? 2 : (T) > 2 || (bits) == 4 ? 1 : (T) == 2 || (bits) == 2 ? 2 : 3)
#define PANELS(bits, T) ((T)*CLASSES(bits, T) > 4 ? 1 : 2) /* panels at once: two where there are registers for them */

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

/* One vector of each of B panels, `next` bytes apart, against T rows of x. */
INLINE void vector(int bits, int T, int B, const uint8_t *w, size_t next, const int8_t *x, __m256i *acc)
{
    const int C = CLASSES(bits, T), parts = PARTS(bits);
    __m256i   v[2];
    for (int b = 0; b < B; b++) {
        v[b] = load(w + (size_t)b * next);
        if (T == 1) _mm_prefetch((const char *)w + (size_t)b * next + AHEAD, _MM_HINT_T0);
    }
#pragma GCC unroll 8
    for (int p = 0; p < parts; p++)
#pragma GCC unroll 8
        for (int m = 0; m < T; m++) {
            __m256i q = quad(x + ((bits == 8 ? 0 : p) * T + m) * QUAD);
#pragma GCC unroll 2
            for (int b = 0; b < B; b++) {
                __m256i *a = acc + (b * T + m) * C + p % C;
                *a = _mm256_add_epi16(*a, _mm256_maddubs_epi16(bits == 8 ? part(v[b], 4, 1, p) : part(v[b], bits, C, p), q));
                KEEP(*a);
            }
        }
}

/* sum[b][m] = n vectors of panel b times row m of x. */
INLINE void block(int bits, int T, int B, const uint8_t *w, size_t next, const int8_t *x, int64_t n, int64_t most, __m256i *sum)
{
    const int C = CLASSES(bits, T);
    for (int i = 0; i < B * T; i++) sum[i] = _mm256_setzero_si256();
    while (n > 0) {
        __m256i acc[MAX_ACC];
        int64_t len = n < most ? n : most;
        for (int i = 0; i < B * T * C; i++) acc[i] = _mm256_setzero_si256();
        n -= len;
        for (; len > 0; len--, w += V, x += 8 / bits * T * QUAD) vector(bits, T, B, w, next, x, acc);
#pragma GCC unroll 8
        for (int i = 0; i < B * T; i++)
            for (int c = 0; c < C; c++) {
                __m256i wide = _mm256_madd_epi16(acc[i * C + c], _mm256_set1_epi16(1));
                sum[i] = _mm256_add_epi32(sum[i], bits == 8 ? _mm256_slli_epi32(wide, c * 4) : _mm256_srai_epi32(wide, c * bits));
            }
    }
}

/* All blocks of B panels. */
INLINE void panels(const qt_packed_job *j, int bits, int T, int B, const uint8_t *w, int64_t most, int32_t *out)
{
    const int8_t *x = j->x;
    for (int64_t b = 0; b < j->blocks; b++, w += j->vectors * V, x += j->vectors * (8 / bits) * T * QUAD) {
        __m256i sum[MAX_SUMS];
        block(bits, T, B, w, j->stride, x, j->vectors, most, sum);
        for (int i = 0; i < B * T; i++) _mm256_storeu_si256((__m256i *)(out + ((i / T * j->blocks + b) * T + i % T) * ROWS), sum[i]);
    }
}

INLINE void product(const qt_packed_job *j, int bits, int T, int32_t *out)
{
    const int     C = CLASSES(bits, T), B = PANELS(bits, T), adds = bits == 8 ? 1 : (8 / bits + C - 1) / C;
    const int64_t most = j->products / (2 * adds << (bits == 8 ? 0 : bits * (C - 1))), size = j->blocks * T * ROWS;
    int64_t       n = 0;
    for (; n + B <= j->panels; n += B) panels(j, bits, T, B, j->w + (size_t)n * j->stride, most, out + n * size);
    if (n < j->panels) panels(j, bits, T, 1, j->w + (size_t)n * j->stride, most, out + n * size);
}

#define CASE(bits, T)                                                                                                                                \
    __attribute__((target("avx2"))) static void dot_##bits##_##T(const qt_packed_job *j, int32_t *sum) { product(j, bits, T, sum); }
CASE(1, 1) CASE(1, 2) CASE(1, 4) CASE(2, 1) CASE(2, 2) CASE(2, 4) CASE(4, 1) CASE(4, 2) CASE(4, 4) CASE(8, 1) CASE(8, 2) CASE(8, 4)

static bool has(void)
{
    return __builtin_cpu_supports("avx2");
}

static void dot(const qt_packed_job *j, int32_t *sum)
{
    static void (*const all[4][3])(const qt_packed_job *, int32_t *) = {
        {dot_1_1, dot_1_2, dot_1_4}, {dot_2_1, dot_2_2, dot_2_4}, {dot_4_1, dot_4_2, dot_4_4}, {dot_8_1, dot_8_2, dot_8_4}};
    all[__builtin_ctz((unsigned)j->bits)][__builtin_ctz((unsigned)j->T)](j, sum);
}

#ifndef QT_DOUBLE
/* 8 x 8 numbers transposed in registers */
__attribute__((target("avx2"))) static void transpose(const float *const *x, int64_t at, float *y)
{
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i++) a[i] = _mm256_loadu_ps(x[i] + at);
    for (int i = 0; i < 8; i += 2) b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]), b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    for (int i = 0; i < 8; i += 4)
        for (int h = 0; h < 2; h++) {
            a[i + 2 * h] = _mm256_shuffle_ps(b[i + h], b[i + h + 2], 0x44);
            a[i + 2 * h + 1] = _mm256_shuffle_ps(b[i + h], b[i + h + 2], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(y + i * 8, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
        _mm256_storeu_ps(y + (i + 4) * 8, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
    }
}
#endif

void qt_packed_interleave_avx2(const qt_real *const *x, int64_t n, qt_real *y)
{
    int64_t i = 0;
#ifndef QT_DOUBLE
    for (; i + ROWS <= n; i += ROWS) transpose(x, i, y + i * ROWS);
#endif
    for (; i < n; i++)
        for (int r = 0; r < ROWS; r++) y[i * ROWS + r] = x[r][i];
}
#else
static bool has(void) { return false; }
static void dot(const qt_packed_job *j, int32_t *sum) { (void)j, (void)sum; }
void        qt_packed_interleave_avx2(const qt_real *const *x, int64_t n, qt_real *y) { (void)x, (void)n, (void)y; }
#endif

const qt_packed_path qt_packed_avx2 = {"avx2", 4, has, dot, qt_packed_interleave_avx2, qt_packed_table_avx2};
