/* The kernels of the integer convolution for AVX-512 with VNNI: as for AVX-VNNI, 16 words at a time. */
#include "kernels/iconv_plan.h"
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(QT_DOUBLE)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { LANES = 16, WIDEST = 2 };
INLINE __m512i zeros(void) { return _mm512_setzero_si512(); }
INLINE __m512i load(const void *p) { return _mm512_loadu_si512(p); }
INLINE __m512i spread(int32_t x) { return _mm512_set1_epi32(x); }
INLINE __m512i add(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
INLINE __m512  real(__m512i a) { return _mm512_cvtepi32_ps(a); }
INLINE __m512  spread_real(R x) { return _mm512_set1_ps(x); }
INLINE __m512  move(__m512 a, __m512i lanes) { return _mm512_permutexvar_ps(lanes, a); }
INLINE void    store(R *y, __m512 a) { _mm512_storeu_ps(y, a); }
INLINE __m512  scale(__m512 a, __m512 s, __m512 offset) { return _mm512_add_ps(_mm512_mul_ps(a, s), offset); }
/* what is not <= 0 stays, a NaN too */
INLINE __m512 positive(__m512 a) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NLE_UQ), a); }
#undef INLINE

#define INT __m512i
#define REAL __m512
#define WIDEN(acc) (acc)
#define BLOCKS false

#define NAME(f) f##_bytes
#define DOT _mm512_dpbusd_epi32
#include "kernels/iconv_tile.h"
#undef NAME
#undef DOT

#define NAME(f) f##_wide
#define DOT _mm512_dpwssd_epi32
#include "kernels/iconv_tile.h"

static bool has(void) { return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"); }

const qt_iconv_path qt_iconv_avx512_vnni = {"avx512-vnni", has, LANES, run_bytes, NULL, NULL, run_wide};

#else
static bool has(void) { return false; }

const qt_iconv_path qt_iconv_avx512_vnni = {.name = "avx512-vnni", .has = has};
#endif
