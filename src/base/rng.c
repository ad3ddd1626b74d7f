/* Philox 4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3. Ten rounds of two
 * 32 x 32 -> 64 multiplications; the key is raised by the Weyl constants after each round. */
#include "base/rng.h"
#include <math.h>
#include <stdarg.h>
#include <string.h>

void qt_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0, c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1, c3 = (uint32_t)a;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

uint64_t qt_hash(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return h;
}

qt_rng qt_rng_at(uint64_t seed, uint64_t stream) { return (qt_rng){seed, stream, 0}; }

qt_rng qt_rng_named(uint64_t seed, const char *fmt, ...)
{
    char    name[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    return qt_rng_at(seed, qt_hash(name));
}

/* Counter: block number and stream; key: seed. */
uint32_t qt_rng_u32_at(const qt_rng *r, uint64_t i)
{
    uint64_t block = i / 4;
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)r->stream, (uint32_t)(r->stream >> 32)};
    uint32_t key[2] = {(uint32_t)r->seed, (uint32_t)(r->seed >> 32)}, out[4];
    qt_philox(counter, key, out);
    return out[i % 4];
}

uint32_t qt_rng_u32(qt_rng *r) { return qt_rng_u32_at(r, r->at++); }
double   qt_rng_uniform(qt_rng *r) { return qt_rng_u32(r) * 0x1p-32; }

double qt_rng_normal(qt_rng *r)
{
    double u = (qt_rng_u32(r) + 1.0) * 0x1p-32, v = qt_rng_uniform(r);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* Rejection: draw 64 bits until they fall below the largest multiple of n. */
uint64_t qt_rng_below(qt_rng *r, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
    do {
        x = qt_rng_u32(r);
        x |= (uint64_t)qt_rng_u32(r) << 32;
    } while (x >= limit);
    return x % n;
}

/* ---- many blocks at once ------------------------------------------------------------------------------------------------------------- */

/* Where word k of the i-th block goes: blocks one after the other, or the first words of a group of 32 blocks, then their second ones ... */
enum { GROUP = QT_RNG_BLOCK / 8 };
static int64_t place(int64_t i, int k, bool apart) { return apart ? k * GROUP + i : 4 * i + k; }

static void plain(const qt_rng *r, uint64_t at, int64_t begin, int64_t end, bool apart, uint32_t *out)
{
    const uint32_t key[2] = {(uint32_t)r->seed, (uint32_t)(r->seed >> 32)};
    for (int64_t i = begin; i < end; i++) {
        const uint64_t block = at + (uint64_t)i;
        const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)r->stream, (uint32_t)(r->stream >> 32)};
        uint32_t       word[4];
        qt_philox(counter, key, word);
        for (int k = 0; k < 4; k++) out[place(i, k, apart)] = word[k];
    }
}

static bool scalar; /* no vectors */

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define AVX2        __attribute__((target("avx2")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2")))

/* Four blocks a vector, each number in the low half of 64 bits; what its high half holds a product ignores. A round waits for the one before
 * it, so SETS vectors take turns. */
enum { SETS = 2 };

AVX2_INLINE void rounds(__m256i c[SETS][4], uint32_t k0, uint32_t k1)
{
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
        for (int s = 0; s < SETS; s++) {
            const __m256i a = _mm256_mul_epu32(c[s][0], _mm256_set1_epi64x(0xD2511F53)), b = _mm256_mul_epu32(c[s][2], _mm256_set1_epi64x(0xCD9E8D57));
            c[s][0] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(b, 32), c[s][1]), _mm256_set1_epi32((int)k0)), c[s][1] = b;
            c[s][2] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(a, 32), c[s][3]), _mm256_set1_epi32((int)k1)), c[s][3] = a;
        }
}

AVX2_INLINE __m256i two(__m256i low, __m256i high) { return _mm256_blend_epi32(low, _mm256_slli_epi64(high, 32), 0xAA); }

AVX2_INLINE void put_blocks(uint32_t *out, const __m256i c[4])
{
    const __m256i first = two(c[0], c[1]), second = two(c[2], c[3]), low = _mm256_unpacklo_epi64(first, second), high = _mm256_unpackhi_epi64(first, second);
    _mm256_storeu_si256((void *)out, _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256((void *)(out + 8), _mm256_permute2x128_si256(low, high, 0x31));
}

AVX2_INLINE void put_words(uint32_t *out, const __m256i c[4])
{
    const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    for (int k = 0; k < 4; k++) _mm_storeu_si128((void *)(out + k * GROUP), _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(c[k], even)));
}

/* Makes as many of n blocks as fill vectors; how many. */
AVX2 static int64_t vectors(const qt_rng *r, uint64_t at, int64_t n, bool apart, uint32_t *out)
{
    const __m256i low = _mm256_set1_epi64x((int64_t)r->stream), high = _mm256_set1_epi64x((int64_t)(r->stream >> 32));
    int64_t       i = 0;
    for (; i + 4 * SETS <= n; i += 4 * SETS) {
        __m256i c[SETS][4];
        for (int s = 0; s < SETS; s++) {
            c[s][0] = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)at + i + 4 * s), _mm256_setr_epi64x(0, 1, 2, 3));
            c[s][1] = _mm256_srli_epi64(c[s][0], 32), c[s][2] = low, c[s][3] = high;
        }
        rounds(c, (uint32_t)r->seed, (uint32_t)(r->seed >> 32));
        for (int s = 0; s < SETS; s++)
            if (apart) put_words(out + i + 4 * s, c[s]);
            else put_blocks(out + 4 * (i + 4 * s), c[s]);
    }
    return i;
}

static int64_t fast(const qt_rng *r, uint64_t at, int64_t n, bool apart, uint32_t *out)
{
    return !scalar && __builtin_cpu_supports("avx2") ? vectors(r, at, n, apart, out) : 0;
}
#else
static int64_t fast(const qt_rng *r, uint64_t at, int64_t n, bool apart, uint32_t *out) { return (void)r, (void)at, (void)n, (void)apart, (void)out, 0; }
#endif

void qt_rng_scalar(bool on) { scalar = on; }

static void blocks(const qt_rng *r, uint64_t at, int64_t n, bool apart, uint32_t *out) { plain(r, at, fast(r, at, n, apart, out), n, apart, out); }

void qt_rng_words(const qt_rng *r, uint64_t at, int64_t n, uint32_t *out) { blocks(r, at / 4, n / 4, false, out); }

void qt_rng_bits16(const qt_rng *r, uint64_t at, uint16_t out[QT_RNG_BLOCK])
{
    uint32_t words[4 * GROUP];
    blocks(r, at / 8, GROUP, true, words);
    memcpy(out, words, sizeof words);
}
