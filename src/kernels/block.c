/* Products of small blocks. What OpenBLAS does for large matrices, packing both operands into a shape of its own, costs more than it gains
 * where M, N and K are a few dozen, so these read the operands where they lie. With AVX2 and FMA a tile of C, 6 x 16 numbers, is kept in
 * twelve registers while k runs: two loads of B, six broadcasts of A, twelve fused multiply-adds. A number of C is one sum in the order of
 * k whatever the tile, so its bits depend on the path only. The portable path has plain products and sums and goes row by row. */
#include "kernels/block.h"
#include "base/par.h"
#include <string.h>

typedef struct product {
    int64_t  N, K, row, col, ldb, ldc;
    const R *A, *B;
    R       *C;
    bool     add;
} product;

/* ---- portable ---- */

QT_CLONES static void add_row(R *restrict c, const R *restrict b, R a, int64_t N)
{
    for (int64_t j = 0; j < N; j++) c[j] += a * b[j];
}

static void portable(const product *p, int64_t M)
{
    for (int64_t i = 0; i < M; i++) {
        R *c = p->C + i * p->ldc;
        if (!p->add) memset(c, 0, (size_t)p->N * sizeof(R));
        for (int64_t k = 0; k < p->K; k++) add_row(c, p->B + k * p->ldb, p->A[i * p->row + k * p->col], p->N);
    }
}

/* ---- AVX2 ---- */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(QT_DOUBLE)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline, target("avx2,fma")))

enum { MR = 6, NR = 16, HALF = 8, WIDE = 64 };

static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

/* -1 for lanes below n, 0 above */
INLINE __m256i lanes_below(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)qt_max_i64(0, qt_min_i64(n, HALF))), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE __m256 get(const float *x, bool all, __m256i mask) { return all ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, mask); }
INLINE void   put(float *x, bool all, __m256i mask, __m256 v) { all ? _mm256_storeu_ps(x, v) : _mm256_maskstore_ps(x, mask, v); }

/* Rows [i, i + m) and columns [j, j + 16) of C, or fewer columns where not `all`. m and all are constants where it is called. */
INLINE void tile(const product *p, int64_t i, int64_t j, const int m, const bool all)
{
    const __m256i low = all ? _mm256_setzero_si256() : lanes_below(p->N - j), high = all ? low : lanes_below(p->N - j - HALF);
    const float  *a = p->A + i * p->row, *b = p->B + j;
    float        *c = p->C + i * p->ldc + j;
    __m256        s[MR][2];
    for (int r = 0; r < m; r++) s[r][0] = s[r][1] = _mm256_setzero_ps();
    for (int64_t k = 0; k < p->K; k++, a += p->col, b += p->ldb) {
        const __m256 b0 = get(b, all, low), b1 = get(b + HALF, all, high);
#pragma GCC unroll 6
        for (int r = 0; r < m; r++) {
            const __m256 v = _mm256_broadcast_ss(a + r * p->row);
            s[r][0] = _mm256_fmadd_ps(v, b0, s[r][0]), s[r][1] = _mm256_fmadd_ps(v, b1, s[r][1]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < m; r++, c += p->ldc) {
        if (p->add) s[r][0] = _mm256_add_ps(get(c, all, low), s[r][0]), s[r][1] = _mm256_add_ps(get(c + HALF, all, high), s[r][1]);
        put(c, all, low, s[r][0]), put(c + HALF, all, high, s[r][1]);
    }
}

/* One row of C alone would wait for its two sums at each step, so 64 columns go on together. */
INLINE void wide_tile(const product *p, int64_t i, int64_t j)
{
    const float *a = p->A + i * p->row, *b = p->B + j;
    float       *c = p->C + i * p->ldc + j;
    __m256       s[WIDE / HALF];
    for (int r = 0; r < WIDE / HALF; r++) s[r] = _mm256_setzero_ps();
    for (int64_t k = 0; k < p->K; k++, a += p->col, b += p->ldb) {
        const __m256 v = _mm256_broadcast_ss(a);
#pragma GCC unroll 8
        for (int r = 0; r < WIDE / HALF; r++) s[r] = _mm256_fmadd_ps(v, _mm256_loadu_ps(b + r * HALF), s[r]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < WIDE / HALF; r++) _mm256_storeu_ps(c + r * HALF, p->add ? _mm256_add_ps(_mm256_loadu_ps(c + r * HALF), s[r]) : s[r]);
}

INLINE void rows(const product *p, int64_t i, const int m)
{
    int64_t j = 0;
    for (; m == 1 && j + WIDE <= p->N; j += WIDE) wide_tile(p, i, j);
    for (; j + NR <= p->N; j += NR) tile(p, i, j, m, true);
    if (j < p->N) tile(p, i, j, m, false);
}

AVX2 static void avx2(const product *p, int64_t M)
{
    int64_t i = 0;
    for (; i + MR <= M; i += MR) rows(p, i, MR);
    switch (M - i) {
    case 5: rows(p, i, 5); break;
    case 4: rows(p, i, 4); break;
    case 3: rows(p, i, 3); break;
    case 2: rows(p, i, 2); break;
    case 1: rows(p, i, 1); break;
    }
}

/* Eight rows by eight columns: pairs of rows woven, then pairs of pairs, then halves of registers. */
INLINE void transpose_tile(const float *x, int64_t ldx, float *y, int64_t ldy)
{
    __m256 a[HALF], b[HALF];
#pragma GCC unroll 8
    for (int i = 0; i < HALF; i++) a[i] = _mm256_loadu_ps(x + i * ldx);
#pragma GCC unroll 4
    for (int i = 0; i < HALF; i += 2) b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]), b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
#pragma GCC unroll 2
    for (int i = 0; i < HALF; i += 4) {
        a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44), a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
        a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44), a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < HALF / 2; i++) {
        _mm256_storeu_ps(y + i * ldy, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
        _mm256_storeu_ps(y + (i + 4) * ldy, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
    }
}

AVX2 static void transpose_avx2(int64_t M, int64_t N, const float *x, int64_t ldx, float *y, int64_t ldy)
{
    for (int64_t i = 0; i < M; i += HALF)
        for (int64_t j = 0; j < N; j += HALF) transpose_tile(x + i * ldx + j, ldx, y + j * ldy + i, ldy);
}
#else
enum { HALF = 1 };
static bool has_avx2(void) { return false; }
static void avx2(const product *p, int64_t M) { portable(p, M); }
static void transpose_avx2(int64_t M, int64_t N, const R *x, int64_t ldx, R *y, int64_t ldy) { (void)M, (void)N, (void)x, (void)ldx, (void)y, (void)ldy; }
#endif

void qt_block_product(int64_t M, int64_t N, int64_t K, const R *A, int64_t row, int64_t col, const R *B, int64_t ldb, R *C, int64_t ldc, bool add)
{
    const product p = {N, K, row, col, ldb, ldc, A, B, C, add};
    (has_avx2() ? avx2 : portable)(&p, M);
}

void qt_block_transpose(int64_t M, int64_t N, const R *x, int64_t ldx, R *y, int64_t ldy)
{
    const int64_t m = has_avx2() ? M / HALF * HALF : 0, n = m ? N / HALF * HALF : 0;
    if (m && n) transpose_avx2(m, n, x, ldx, y, ldy);
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = i < m ? n : 0; j < N; j++) y[j * ldy + i] = x[i * ldx + j];
}
