/* Binary products, see xnor.h. A tile is one row of A against four of B, so that a vector of A is loaded once for four; rows of B go by in
 * panels that stay in the first cache while all rows of A pass over them.
 * AVX2 has no popcount: a table of 16 counts is looked up for either half of each byte (vpshufb), counts add up in bytes, at most 8 for a
 * vector, and are widened (vpsadbw) before the 32nd. W. Mula, N. Kurz, D. Lemire 2018, "Faster population counts using AVX2 instructions"
 * (arXiv 1611.07612), section 3. Left out: their carry-save adders, which pay from 16 vectors on. */
#include "kernels/xnor.h"
#include "base/par.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define X86 1
#else
#define X86 0
#endif

enum { WORDS = 8, TILE = 4, NEAR = 16384 }; /* words of a vector; rows of B in a tile; bytes of a panel */

struct qt_xnor_path {
    const char *name;
    bool (*has)(void);
    /* ones[i] = popcount(a ^ row i of b), n words, a multiple of WORDS */
    void (*count)(const uint64_t *a, const uint64_t *const *b, int64_t n, int64_t *ones);
};

int64_t qt_xnor_words(int64_t K) { return (K + 64 * WORDS - 1) / (64 * WORDS) * WORDS; }

/* 64 codes, fewer at the end of a row */
static uint64_t word(const int8_t *q, int64_t n)
{
    uint64_t bits = 0;
    for (int64_t i = 0; i < n; i++) bits |= (uint64_t)(q[i] > 0) << i;
    return bits;
}

QT_CLONES static bool plus_minus_one(const int8_t *q, int64_t n)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++) bad |= (q[i] != 1) & (q[i] != -1);
    return !bad;
}

bool qt_xnor_pack(int64_t rows, int64_t K, const int8_t *q, uint64_t *bits)
{
    int64_t words = qt_xnor_words(K);
    QT_FOR_EACH(r, rows, rows * K > 1 << 18)
    {
        for (int64_t i = 0; i < words; i++) bits[r * words + i] = word(q + r * K + i * 64, qt_max_i64(qt_min_i64(64, K - i * 64), 0));
    }
    return plus_minus_one(q, rows * K);
}

/* ---- scalar ---- */

static bool scalar_has(void) { return true; }

static void scalar_count(const uint64_t *a, const uint64_t *const *b, int64_t n, int64_t *ones)
{
    for (int i = 0; i < TILE; i++) {
        ones[i] = 0;
        for (int64_t k = 0; k < n; k++) ones[i] += __builtin_popcountll(a[k] ^ b[i][k]);
    }
}

static const qt_xnor_path scalar = {"scalar", scalar_has, scalar_count};

#if X86
/* ---- AVX2 ---- */

#define AVX2 __attribute__((target("avx2")))

static bool avx2_has(void) { return __builtin_cpu_supports("avx2"); }

/* Ones in each byte. */
static inline __attribute__((always_inline, target("avx2"))) __m256i ones_of(__m256i v)
{
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(v, low)),
                           _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), low)));
}

AVX2 static void avx2_count(const uint64_t *a, const uint64_t *const *b, int64_t n, int64_t *ones)
{
    enum { STEP = 4, MOST = 31 * STEP }; /* words of a vector; words until a byte may overflow */
    __m256i total[TILE];
    for (int i = 0; i < TILE; i++) total[i] = _mm256_setzero_si256();
    for (int64_t k = 0; k < n;) {
        int64_t stop = qt_min_i64(k + MOST, n);
        __m256i bytes[TILE];
        for (int i = 0; i < TILE; i++) bytes[i] = _mm256_setzero_si256();
        for (; k < stop; k += STEP) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(a + k));
            for (int i = 0; i < TILE; i++)
                bytes[i] = _mm256_add_epi8(bytes[i], ones_of(_mm256_xor_si256(v, _mm256_loadu_si256((const __m256i *)(b[i] + k)))));
        }
        for (int i = 0; i < TILE; i++) total[i] = _mm256_add_epi64(total[i], _mm256_sad_epu8(bytes[i], _mm256_setzero_si256()));
    }
    for (int i = 0; i < TILE; i++) {
        __m128i half = _mm_add_epi64(_mm256_castsi256_si128(total[i]), _mm256_extracti128_si256(total[i], 1));
        ones[i] = _mm_cvtsi128_si64(half) + _mm_extract_epi64(half, 1);
    }
}

static const qt_xnor_path avx2 = {"avx2", avx2_has, avx2_count};

/* ---- AVX512 ---- */

static bool avx512_has(void) { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq"); }

__attribute__((target("avx512f,avx512vpopcntdq"))) static void avx512_count(const uint64_t *a, const uint64_t *const *b, int64_t n, int64_t *ones)
{
    __m512i total[TILE];
    for (int i = 0; i < TILE; i++) total[i] = _mm512_setzero_si512();
    for (int64_t k = 0; k < n; k += WORDS) {
        __m512i v = _mm512_loadu_si512(a + k);
        for (int i = 0; i < TILE; i++) total[i] = _mm512_add_epi64(total[i], _mm512_popcnt_epi64(_mm512_xor_si512(v, _mm512_loadu_si512(b[i] + k))));
    }
    for (int i = 0; i < TILE; i++) ones[i] = _mm512_reduce_add_epi64(total[i]);
}

static const qt_xnor_path avx512 = {"avx512-vpopcntdq", avx512_has, avx512_count};

static const qt_xnor_path *const paths[] = {&avx512, &avx2, &scalar, NULL};
#else
static const qt_xnor_path *const paths[] = {&scalar, NULL};
#endif

/* ---- the product ---- */

static const qt_xnor_path *forced;

const char         *qt_xnor_name(const qt_xnor_path *p) { return p->name; }
bool                qt_xnor_has(const qt_xnor_path *p) { return p->has(); }
const qt_xnor_path *qt_xnor_path_at(int i) { return paths[i]; }
void                qt_xnor_force(const qt_xnor_path *p) { forced = p; }
const qt_xnor_path *qt_xnor_chosen(void)
{
    int i = 0;
    while (!paths[i]->has()) i++;
    return forced ? forced : paths[i];
}

/* Rows [n0, n1) of B, a panel, against all rows of A. */
static void panel(const qt_xnor_path *p, int64_t M, int64_t N, int64_t K, const uint64_t *A, const uint64_t *B, int64_t n0, int64_t n1, int32_t *C)
{
    int64_t words = qt_xnor_words(K), ones[TILE];
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = n0; n < n1; n += TILE) {
            const uint64_t *b[TILE];
            for (int i = 0; i < TILE; i++) b[i] = B + qt_min_i64(n + i, n1 - 1) * words;
            p->count(A + m * words, b, words, ones);
            for (int64_t i = n; i < qt_min_i64(n + TILE, n1); i++) C[m * N + i] = (int32_t)(K - 2 * ones[i - n]);
        }
}

void qt_xnor_gemm(int64_t M, int64_t N, int64_t K, const uint64_t *A, const uint64_t *B, int32_t *C)
{
    const qt_xnor_path *p = qt_xnor_chosen();
    int64_t             rows = NEAR / (qt_xnor_words(K) * 8) / TILE * TILE, size = qt_min_i64(qt_max_i64(rows, TILE), 64);
    QT_FOR_EACH(i, QT_CHUNKS(N, size), M * N * K > 1 << 22) { panel(p, M, N, K, A, B, i * size, qt_min_i64((i + 1) * size, N), C); }
}
