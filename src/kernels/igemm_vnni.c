/* Integer matrix product by vpdpbusd: four products of unsigned and signed bytes added to an int32 at once, exact over the full ranges; four times
 * the rate of float FMA. Operands of 16 bits take vpdpwssd. AVX512-VNNI with 16 sums a vector has tiles of 8 rows x 48 columns: 24 accumulators
 * of 32 registers. AVX-VNNI, with 16 registers, is as AVX2: 8 sums, 6 x 16. */
#include "kernels/igemm_path.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#define OPERATION(isa) static inline __attribute__((always_inline, target(isa)))
#define AVX512         "avx512f,avx512bw,avx512vl,avx512vnni"
#define AVX            "avx2,avxvnni"

static inline int32_t step_at(const uint8_t *p)
{
    int32_t step;
    memcpy(&step, p, sizeof step);
    return step;
}

/* ---- 512 bits ---- */

OPERATION(AVX512) __m512i zero_512(void) { return _mm512_setzero_si512(); }
OPERATION(AVX512) __m512i load_512(const void *p) { return _mm512_loadu_si512(p); }
OPERATION(AVX512) void store_512(void *p, __m512i v) { _mm512_storeu_si512(p, v); }
OPERATION(AVX512) __m512i add_512(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
OPERATION(AVX512) __m512i broadcast_512(const uint8_t *p) { return _mm512_set1_epi32(step_at(p)); }
OPERATION(AVX512) __m512i dot_512(const int kind, __m512i sum, __m512i x, __m512i w) 
{
    return kind == QT_IGEMM_PAIRS ? _mm512_dpwssd_epi32(sum, x, w) : _mm512_dpbusd_epi32(sum, x, w);
}

OPERATION(AVX512) __m512i widen_512(const int kind, __m512i sum) { return (void)kind, sum; }
OPERATION(AVX512) __m512i load_x_512(const int kind, const uint8_t *p) { return (void)kind, load_512(p); }
OPERATION(AVX512) __m512i load_w_512(const int kind, const uint8_t *p) { return (void)kind, load_512(p); }
OPERATION(AVX512) __m256i halves(__m512i v) { return _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1)); }

OPERATION(AVX512) void reduce_512(const __m512i *v, int32_t *c)
{
    __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(halves(v[0]), halves(v[1])), _mm256_hadd_epi32(halves(v[2]), halves(v[3])));
    __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(halves(v[4]), halves(v[5])), _mm256_hadd_epi32(halves(v[6]), halves(v[7])));
    _mm256_storeu_si256((__m256i *)(void *)c, _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)));
}

#define V       __m512i
#define NAME(f) f##_512
#define TARGET  __attribute__((target(AVX512)))
#define LANES   16
#define ROWS    8
#define VECTORS 3
#define KINDS   2
#include "kernels/igemm_tile.h"

static bool has_512(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

const qt_igemm_path qt_igemm_avx512vnni = {"avx512-vnni", has_512, 16, 8, 3, false, &qt_ipack_avx2, strip_512, few_512};

/* ---- 256 bits ---- */

OPERATION(AVX) __m256i zero_256(void) { return _mm256_setzero_si256(); }
OPERATION(AVX) __m256i load_256(const void *p) { return _mm256_loadu_si256(p); }
OPERATION(AVX) void store_256(void *p, __m256i v) { _mm256_storeu_si256(p, v); }
OPERATION(AVX) __m256i add_256(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
OPERATION(AVX) __m256i broadcast_256(const uint8_t *p) { return _mm256_set1_epi32(step_at(p)); }
OPERATION(AVX) __m256i dot_256(const int kind, __m256i sum, __m256i x, __m256i w) 
{
    return kind == QT_IGEMM_PAIRS ? _mm256_dpwssd_avx_epi32(sum, x, w) : _mm256_dpbusd_avx_epi32(sum, x, w);
}

OPERATION(AVX) __m256i widen_256(const int kind, __m256i sum) { return (void)kind, sum; }
OPERATION(AVX) __m256i load_x_256(const int kind, const uint8_t *p) { return (void)kind, load_256(p); }
OPERATION(AVX) __m256i load_w_256(const int kind, const uint8_t *p) { return (void)kind, load_256(p); }

OPERATION(AVX) void reduce_256(const __m256i *v, int32_t *c)
{
    __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    store_256(c, add_256(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)));
}

#define V       __m256i
#define NAME(f) f##_256
#define TARGET  __attribute__((target(AVX)))
#define LANES   8
#define ROWS    6
#define VECTORS 2
#define KINDS   2
#include "kernels/igemm_tile.h"

/* Leaf 7, subleaf 1, EAX bit 4; that the system saves wide registers is part of the question for avx2. Not every compiler that has the
 * instructions knows the name. */
static bool has_256(void)
{
    unsigned a = 0, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

const qt_igemm_path qt_igemm_avxvnni = {"avx-vnni", has_256, 8, 6, 2, false, &qt_ipack_avx2, strip_256, few_256};
#else
static bool has(void) { return false; }
const qt_igemm_path qt_igemm_avx512vnni = {.name = "avx512-vnni", .has = has}, qt_igemm_avxvnni = {.name = "avx-vnni", .has = has};
#endif
