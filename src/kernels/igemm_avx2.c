/* Integer matrix product for AVX2, exact although vpmaddubsw saturates at 16 bits. It multiplies 32 pairs of bytes at once and adds them two by
 * two in int16; how it is used depends on the ranges of the operands, of which the largest pair sum follows:
 *     RUN    many pair sums fit int16 (4-bit, ternary): they are added up there for `run` steps, at the cost of one addition, and only then
 *            widened by vpmaddwd with ones. Near four times the rate of float FMA.
 *     BYTES  one fits (7 x 8 bits): each is widened at once. Twice the rate.
 *     PAIRS  none does (8 x 8 bits): codes are packed as int16 and multiplied by vpmaddwd, 16 at once. Twice the rate, at twice the loads. */
#include "kernels/igemm_path.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define V         __m256i
#define NAME(f)   f
#define TARGET    __attribute__((target("avx2")))
#define OPERATION static inline __attribute__((always_inline)) TARGET
#define LANES   8
#define ROWS    6
#define VECTORS 2
#define KINDS   3

OPERATION V zero(void) { return _mm256_setzero_si256(); }
OPERATION V load(const void *p) { return _mm256_loadu_si256(p); }
OPERATION void store(void *p, V v) { _mm256_storeu_si256(p, v); }
OPERATION V add(V a, V b) { return _mm256_add_epi32(a, b); }
OPERATION V ones(void) { return _mm256_set1_epi16(1); }

/* In assembly, which keeps its order: else GCC loads a step of all rows before it multiplies, and spills sums to make room. */
OPERATION V broadcast(const uint8_t *p)
{
    V x;
    __asm__ volatile("vpbroadcastd %1, %0" : "=x"(x) : "m"(*(const uint8_t(*)[4])p));
    return x;
}

OPERATION V dot(const int kind, V sum, V x, V w)
{
    V t;
    if (kind == QT_IGEMM_PAIRS) __asm__ volatile("vpmaddwd %2, %1, %0" : "=x"(t) : "x"(x), "x"(w));
    else __asm__ volatile("vpmaddubsw %2, %1, %0" : "=x"(t) : "x"(x), "x"(w));
    if (kind == QT_IGEMM_BYTES) __asm__ volatile("vpmaddwd %1, %0, %0" : "+x"(t) : "x"(ones()));
    if (kind == QT_IGEMM_RUN) __asm__ volatile("vpaddw %1, %0, %0" : "+x"(sum) : "x"(t));
    else __asm__ volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(t));
    return sum;
}

OPERATION V widen(const int kind, V sum) { return kind == QT_IGEMM_RUN ? _mm256_madd_epi16(sum, ones()) : sum; }

OPERATION V load_x(const int kind, const uint8_t *p)
{
    return kind == QT_IGEMM_PAIRS ? _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p)) : load(p);
}

OPERATION V load_w(const int kind, const uint8_t *p)
{
    return kind == QT_IGEMM_PAIRS ? _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p)) : load(p);
}

/* hadd adds neighbours within each half of a vector, so three levels leave the sum of a half in its place, and the halves are added last. */
OPERATION void reduce(const V *v, int32_t *c)
{
    V a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    V b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    store(c, add(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)));
}

#include "kernels/igemm_tile.h"

static bool has(void) { return __builtin_cpu_supports("avx2"); }

const qt_igemm_path qt_igemm_avx2 = {"avx2", has, 8, 6, 2, true, &qt_ipack_avx2, strip, few};
#else
static bool has(void) { return false; }
const qt_igemm_path qt_igemm_avx2 = {.name = "avx2", .has = has};
#endif
