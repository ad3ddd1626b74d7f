/* The kernels of the integer convolution for AVX2. vpmaddubsw multiplies bytes and adds pairs, in 16 bits:
 *     bytes   while the codes are so small that all of these fit 16 bits, they are added there
 *     blocks  the same, for as many as fit: of 4 bits 136, ternary 64
 *     once    where few fit, each is widened by a vpmaddwd with ones
 *     wide    where even one pair may saturate, codes are 16 bits wide and multiplied by vpmaddwd. */
#include "kernels/iconv_plan.h"
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(QT_DOUBLE)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { LANES = 8, WIDEST = 2 };
INLINE __m256i zeros(void) { return _mm256_setzero_si256(); }
INLINE __m256i load(const void *p) { return _mm256_loadu_si256(p); }
INLINE __m256i spread(int32_t x) { return _mm256_set1_epi32(x); }
INLINE __m256i add(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
INLINE __m256i pairs(__m256i a) { return _mm256_madd_epi16(a, _mm256_set1_epi16(1)); }
INLINE __m256  real(__m256i a) { return _mm256_cvtepi32_ps(a); }
INLINE __m256  spread_real(R x) { return _mm256_set1_ps(x); }
INLINE __m256  move(__m256 a, __m256i lanes) { return _mm256_permutevar8x32_ps(a, lanes); }
INLINE void    store(R *y, __m256 a) { _mm256_storeu_ps(y, a); }
INLINE __m256  scale(__m256 a, __m256 s, __m256 offset) { return _mm256_add_ps(_mm256_mul_ps(a, s), offset); }
/* what is not <= 0 stays, a NaN too */
INLINE __m256 positive(__m256 a) { return _mm256_and_ps(a, _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NLE_UQ)); }
/* acc + x in the register of acc: GCC, left free, copies and spills the sums of a tile */
INLINE __m256i add16(__m256i acc, __m256i x)
{
    __asm__("vpaddw %1, %0, %0" : "+x"(acc) : "x"(x));
    return acc;
}
INLINE __m256i add32(__m256i acc, __m256i x)
{
    __asm__("vpaddd %1, %0, %0" : "+x"(acc) : "x"(x));
    return acc;
}
#undef INLINE

#define INT __m256i
#define REAL __m256

#define NAME(f) f##_bytes
#define DOT(acc, x, w) add16(acc, _mm256_maddubs_epi16(x, w))
#define WIDEN(acc) pairs(acc)
#define BLOCKS false
#include "kernels/iconv_tile.h"
#undef NAME
#undef BLOCKS

#define NAME(f) f##_blocks
#define BLOCKS true
#include "kernels/iconv_tile.h"
#undef NAME
#undef DOT
#undef WIDEN
#undef BLOCKS

#define NAME(f) f##_once
#define DOT(acc, x, w) add32(acc, pairs(_mm256_maddubs_epi16(x, w)))
#define WIDEN(acc) (acc)
#define BLOCKS false
#include "kernels/iconv_tile.h"
#undef NAME
#undef DOT

#define NAME(f) f##_wide
#define DOT(acc, x, w) add32(acc, _mm256_madd_epi16(x, w))
#include "kernels/iconv_tile.h"

static bool has(void) { return __builtin_cpu_supports("avx2"); }

const qt_iconv_path qt_iconv_avx2 = {"avx2", has, LANES, run_bytes, run_blocks, run_once, run_wide};

#else
static bool has(void) { return false; }

const qt_iconv_path qt_iconv_avx2 = {.name = "avx2", .has = has};
#endif
