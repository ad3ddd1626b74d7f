/* The kernels of the integer convolution for AVX-VNNI: vpdpbusd multiplies and adds four bytes in 32 bits, vpdpwssd two 16-bit numbers. */
#include "kernels/iconv_plan.h"
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(QT_DOUBLE)
#include <cpuid.h>
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,avxvnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { LANES = 8, WIDEST = 2 };
INLINE __m256i zeros(void) { return _mm256_setzero_si256(); }
INLINE __m256i load(const void *p) { return _mm256_loadu_si256(p); }
INLINE __m256i spread(int32_t x) { return _mm256_set1_epi32(x); }
INLINE __m256i add(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
INLINE __m256  real(__m256i a) { return _mm256_cvtepi32_ps(a); }
INLINE __m256  spread_real(R x) { return _mm256_set1_ps(x); }
INLINE __m256  move(__m256 a, __m256i lanes) { return _mm256_permutevar8x32_ps(a, lanes); }
INLINE void    store(R *y, __m256 a) { _mm256_storeu_ps(y, a); }
INLINE __m256  scale(__m256 a, __m256 s, __m256 offset) { return _mm256_add_ps(_mm256_mul_ps(a, s), offset); }
/* what is not <= 0 stays, a NaN too */
INLINE __m256 positive(__m256 a) { return _mm256_and_ps(a, _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NLE_UQ)); }
/* acc in its own register: GCC, left free, copies the sums of a tile */
INLINE __m256i keep(__m256i acc)
{
    __asm__("" : "+x"(acc));
    return acc;
}
#undef INLINE

#define INT __m256i
#define REAL __m256
#define WIDEN(acc) (acc)
#define BLOCKS false

#define NAME(f) f##_bytes
#define DOT(acc, x, w) keep(_mm256_dpbusd_avx_epi32(acc, x, w))
#include "kernels/iconv_tile.h"
#undef NAME
#undef DOT

#define NAME(f) f##_wide
#define DOT(acc, x, w) keep(_mm256_dpwssd_avx_epi32(acc, x, w))
#include "kernels/iconv_tile.h"

/* By cpuid, for not every compiler knows the feature by name. */
static bool has(void)
{
    unsigned a = 0, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 4 & 1;
}

const qt_iconv_path qt_iconv_avx_vnni = {"avx-vnni", has, LANES, run_bytes, NULL, NULL, run_wide};

#else
static bool has(void) { return false; }

const qt_iconv_path qt_iconv_avx_vnni = {.name = "avx-vnni", .has = has};
#endif
