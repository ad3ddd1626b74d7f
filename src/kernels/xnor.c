/* Binary products, see xnor.h: the ways to count, and the bare product.
 * AVX2 has no popcount: a table of 16 counts is looked up for either half of each byte (vpshufb), counts add up in bytes, at most 8 for a
 * word, and are widened (vpsadbw) before the 32nd. W. Mula, N. Kurz, D. Lemire 2018, "Faster population counts using AVX2 instructions"
 * (arXiv 1611.07612), section 3. Since each lane belongs to one result, vpsadbw gives the results at once, and rows of any number of words
 * waste nothing. Left out: their carry-save adders, which pay from 16 words on. */
#include "kernels/xnor.h"
#include "base/par.h"
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define X86 1
#else
#define X86 0
#endif

enum { LANES = QT_XNOR_LANES, NEAR = 16384, MANY = 1 << 22 }; /* bytes of panels in the first cache; products that are worth a team */

int64_t qt_xnor_words(int64_t K) { return (K + 63) / 64; }
int64_t qt_xnor_panel_words(int64_t N, int64_t K) { return QT_CHUNKS(N, LANES) * LANES * qt_xnor_words(K); }

/* Eight codes as eight bits: bit 1 of a byte tells 2 from 0 and, turned over, 1 from -1; the product brings those of all bytes together. */
static inline uint64_t eight(const void *q, uint64_t turn)
{
    uint64_t v;
    memcpy(&v, q, sizeof v);
    return ((v ^ turn) >> 1 & 0x0101010101010101u) * 0x0102040810204080u >> 56;
}

uint64_t qt_xnor_word(const void *q, int64_t n, bool is_signed)
{
    const uint8_t *from = q;
    uint64_t       bits = 0, turn = is_signed ? UINT64_MAX : 0;
    uint8_t        last[8] = {0};
    for (int64_t i = 0; i < n / 8; i++) bits |= eight(from + 8 * i, turn) << 8 * i;
    if (n % 8 == 0) return bits;
    memset(last, (int)(turn & 255), sizeof last);
    memcpy(last, from + n / 8 * 8, (size_t)(n % 8));
    return bits | eight(last, turn) << n / 8 * 8;
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
        for (int64_t i = 0; i < words; i++) bits[r * words + i] = qt_xnor_word(q + r * K + i * 64, qt_min_i64(64, K - i * 64), true);
    }
    return plus_minus_one(q, rows * K);
}

void qt_xnor_weave(int64_t N, int64_t K, const uint64_t *bits, uint64_t *panels)
{
    int64_t words = qt_xnor_words(K);
    for (int64_t n = 0; n < QT_CHUNKS(N, LANES) * LANES; n++)
        for (int64_t i = 0; i < words; i++) panels[(n / LANES * words + i) * LANES + n % LANES] = n < N ? bits[n * words + i] : 0;
}

/* ---- scalar ---- */

static bool scalar_has(void) { return true; }

static void scalar_count(const uint64_t *row, const uint64_t *panel, int64_t words, int64_t panels, int32_t *ones)
{
    for (int64_t p = 0; p < panels; p++, ones += LANES) {
        memset(ones, 0, LANES * sizeof *ones);
        for (int64_t k = 0; k < words; k++, panel += LANES)
            for (int l = 0; l < LANES; l++) ones[l] += __builtin_popcountll(row[k] ^ panel[l]);
    }
}

static const qt_xnor_path scalar = {"scalar", scalar_has, scalar_count};

#if X86
/* ---- AVX2 ---- */

#define INLINE_AVX2 static inline __attribute__((always_inline, target("avx2")))

static bool avx2_has(void) { return __builtin_cpu_supports("avx2"); }

/* Ones in each byte. */
INLINE_AVX2 __m256i ones_of(__m256i v)
{
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(v, low)),
                           _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), low)));
}

INLINE_AVX2 __m256i differing(__m256i a, const uint64_t *b) { return ones_of(_mm256_xor_si256(a, _mm256_loadu_si256((const __m256i *)b))); }

/* Two vectors of four 64-bit counts as eight of 32 bits. */
INLINE_AVX2 __m256i narrow(__m256i a, __m256i b)
{
    __m256 both = _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88);
    return _mm256_permute4x64_epi64(_mm256_castps_si256(both), 0xd8);
}

__attribute__((target("avx2"))) static void avx2_count(const uint64_t *row, const uint64_t *panel, int64_t words, int64_t panels, int32_t *ones)
{
    enum { MOST = 31 }; /* words until a byte may overflow */
    const __m256i zero = _mm256_setzero_si256();
    for (int64_t p = 0; p < panels; p++, ones += LANES) {
        __m256i total0 = zero, total1 = zero;
        for (int64_t k = 0; k < words;) {
            __m256i bytes0 = zero, bytes1 = zero;
            for (int64_t stop = qt_min_i64(k + MOST, words); k < stop; k++, panel += LANES) {
                __m256i a = _mm256_set1_epi64x((long long)row[k]);
                bytes0 = _mm256_add_epi8(bytes0, differing(a, panel));
                bytes1 = _mm256_add_epi8(bytes1, differing(a, panel + 4));
            }
            total0 = _mm256_add_epi64(total0, _mm256_sad_epu8(bytes0, zero));
            total1 = _mm256_add_epi64(total1, _mm256_sad_epu8(bytes1, zero));
        }
        _mm256_storeu_si256((__m256i *)ones, narrow(total0, total1));
    }
}

static const qt_xnor_path avx2 = {"avx2", avx2_has, avx2_count};

/* ---- AVX512 ---- */

static bool avx512_has(void) { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq"); }

__attribute__((target("avx512f,avx512vpopcntdq"))) static void avx512_count(const uint64_t *row, const uint64_t *panel, int64_t words,
                                                                            int64_t panels, int32_t *ones)
{
    for (int64_t p = 0; p < panels; p++, ones += LANES) {
        __m512i total = _mm512_setzero_si512();
        for (int64_t k = 0; k < words; k++, panel += LANES) {
            __m512i v = _mm512_xor_si512(_mm512_set1_epi64((long long)row[k]), _mm512_loadu_si512(panel));
            total = _mm512_add_epi64(total, _mm512_popcnt_epi64(v));
        }
        _mm256_storeu_si256((__m256i *)ones, _mm512_cvtepi64_epi32(total));
    }
}

static const qt_xnor_path avx512 = {"avx512-vpopcntdq", avx512_has, avx512_count};

static const qt_xnor_path *const paths[] = {&avx512, &avx2, &scalar, NULL};
#else
static const qt_xnor_path *const paths[] = {&scalar, NULL};
#endif

/* ---- choice, product ---- */

static const qt_xnor_path *forced;

const char         *qt_xnor_name(const qt_xnor_path *p) { return p->name; }
bool                qt_xnor_has(const qt_xnor_path *p) { return p->has(); }
const qt_xnor_path *qt_xnor_path_at(int i) { return paths[i]; }
void                qt_xnor_force(const qt_xnor_path *p) { forced = p; }
const qt_xnor_path *qt_xnor_chosen(void)
{
    static const qt_xnor_path *best;
    for (int i = 0; !best; i++) /* asked once: cpuid is slow where it is emulated */
        if (paths[i]->has()) best = paths[i];
    return forced ? forced : best;
}

/* A few panels of B, which stay in the first cache, against all rows of A. */
static void block(const qt_xnor_path *p, int64_t M, int64_t N, int64_t K, const uint64_t *A, const uint64_t *B, int64_t first, int64_t count,
                  int32_t *C)
{
    int32_t ones[NEAR / 8];
    int64_t words = qt_xnor_words(K), n = first * LANES, end = qt_min_i64(N, n + count * LANES);
    for (int64_t m = 0; m < M; m++) {
        p->count(A + m * words, B + n * words, words, count, ones);
        for (int64_t i = n; i < end; i++) C[m * N + i] = (int32_t)(K - 2 * ones[i - n]);
    }
}

void qt_xnor_gemm(int64_t M, int64_t N, int64_t K, const uint64_t *A, const uint64_t *B, int32_t *C)
{
    const qt_xnor_path *p = qt_xnor_chosen();
    int64_t             panels = QT_CHUNKS(N, LANES), size = qt_max_i64(1, NEAR / (LANES * 8) / qt_max_i64(1, qt_xnor_words(K)));
    QT_FOR_EACH(i, QT_CHUNKS(panels, size), M * N * K > MANY) { block(p, M, N, K, A, B, i * size, qt_min_i64(size, panels - i * size), C); }
}
