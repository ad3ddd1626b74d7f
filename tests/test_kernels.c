/* Kernels: every fast path against its slow twin, and the same bits for any number of threads. */
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/block.h"
#include "kernels/conv.h"
#include "kernels/gemm.h"
#include "kernels/reduce.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#ifdef QT_DOUBLE
static const double EPS = 0x1p-53;
#else
static const double EPS = 0x1p-24;
#endif

static R *numbers(int64_t n, const char *stream)
{
    qt_rng r = qt_rng_named(1, "%s", stream);
    R     *x = qt_alloc((size_t)n * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) x[i] = (R)qt_rng_normal(&r);
    return x;
}

/* |x - y| <= bound element by element */
static void assert_near(const R *x, const R *y, int64_t n, double bound, const char *what)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)x[i] - (double)y[i]) <= bound))
            fail_msg("%s: element %lld is %.9g, wants %.9g", what, (long long)i, (double)x[i], (double)y[i]);
}

/* ---- gemm ---- */

/* A sum of K products of normal numbers is off by at most about K eps times its largest partial sum, 4 sqrt(K) or so */
static double sum_bound(int64_t K) { return 8 * EPS * (double)(K + 4) * sqrt((double)K + 4); }

static void gemm_case(bool ta, bool tb, int64_t M, int64_t N, int64_t K, R alpha, R beta)
{
    R *A = numbers(M * K, "A"), *B = numbers(K * N, "B"), *C = numbers(M * N, "C"), *D = numbers(M * N, "C"), *E = numbers(M * N, "C");
    qt_set_threads(1);
    qt_gemm(ta, tb, M, N, K, alpha, A, B, beta, C);
    qt_set_threads(2);
    qt_gemm(ta, tb, M, N, K, alpha, A, B, beta, D);
    assert_memory_equal(C, D, (size_t)(M * N) * sizeof(R));
    qt_gemm_naive(ta, tb, M, N, K, alpha, A, B, beta, E);
    assert_near(C, E, M * N, sum_bound(K), "gemm");
    qt_free(A), qt_free(B), qt_free(C), qt_free(D), qt_free(E);
}

static void test_gemm(void **state)
{
    static const int64_t size[][3] = {{1, 1, 1}, {3, 5, 7}, {1, 100, 33}, {64, 10, 128}, {128, 512, 784},
                                     {512, 96, 128}, {200, 333, 150}, {2000, 40, 64}, {33, 1500, 64}};
    (void)state;
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        for (int t = 0; t < 4; t++) gemm_case(t & 1, t & 2, size[i][0], size[i][1], size[i][2], 1, t & 1);
    gemm_case(false, true, 17, 19, 23, (R)0.5, (R)-2);
}

static void test_gemm_beta_zero_ignores_c(void **state)
{
    R A[4] = {1, 2, 3, 4}, B[4] = {1, 0, 0, 1}, C[4] = {(R)NAN, (R)NAN, (R)NAN, (R)NAN};
    (void)state;
    qt_gemm(false, false, 2, 2, 2, 1, A, B, 0, C);
    assert_memory_equal(A, C, sizeof A);
}

/* ---- small blocks ---- */

enum { APART = 3 }; /* between rows */

/* C, inside a larger array, is the product of its own and what was there, and nothing beside it changes. */
static void block_case(int64_t M, int64_t N, int64_t K, bool ta, bool add)
{
    const int64_t ldb = N + APART, ldc = N + 2 * APART;
    R            *A = numbers(M * K, "A"), *B = numbers(K * ldb, "B"), *C = numbers(M * ldc, "C"), *D = numbers(M * ldc, "C");
    R            *tight = qt_alloc((size_t)(K * N) * sizeof(R)), *E = qt_alloc((size_t)(M * N) * sizeof(R));
    for (int64_t k = 0; k < K; k++) memcpy(tight + k * N, B + k * ldb, (size_t)N * sizeof(R));
    for (int64_t i = 0; i < M * N; i++) E[i] = add ? C[i / N * ldc + i % N] : (R)NAN;
    qt_gemm_naive(ta, false, M, N, K, 1, A, tight, add, E);
    qt_block_product(M, N, K, A, ta ? 1 : K, ta ? M : 1, B, ldb, C, ldc, add);
    for (int64_t i = 0; i < M; i++) {
        assert_near(C + i * ldc, E + i * N, N, sum_bound(K), "block");
        assert_memory_equal(C + i * ldc + N, D + i * ldc + N, 2 * APART * sizeof(R));
    }
    qt_free(A), qt_free(B), qt_free(C), qt_free(D), qt_free(E), qt_free(tight);
}

static void test_block(void **state)
{
    static const int64_t size[][3] = {{1, 1, 1}, {2, 3, 5}, {3, 8, 1}, {4, 9, 64}, {5, 15, 7}, {6, 16, 32}, {7, 17, 2}, {24, 128, 32}, {47, 40, 61}};
    (void)state;
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        for (int t = 0; t < 4; t++) block_case(size[i][0], size[i][1], size[i][2], t & 1, t & 2);
}

static void test_transpose(void **state)
{
    static const int64_t size[][2] = {{1, 1}, {3, 2}, {8, 8}, {9, 17}, {33, 24}};
    (void)state;
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        const int64_t M = size[i][0], N = size[i][1], ldx = N + APART, ldy = M + 1;
        R            *x = numbers(M * ldx, "x"), *y = numbers(N * ldy, "y"), *z = numbers(N * ldy, "y");
        qt_block_transpose(M, N, x, ldx, y, ldy);
        for (int64_t j = 0; j < N * ldy; j++) assert_true(y[j] == (j % ldy < M ? x[j % ldy * ldx + j / ldy] : z[j]));
        qt_free(x), qt_free(y), qt_free(z);
    }
}

/* ---- reductions ---- */

static void reduce_case(int64_t n)
{
    R     *x = numbers(n, "x"), *y = numbers(n, "y"), lo, hi, least = n ? x[0] : 0, most = least, largest = 0;
    double got[2][6], want[5] = {0};
    for (int64_t i = 0; i < n; i++) {
        want[0] += x[i], want[1] += fabs((double)x[i]), want[2] += (double)x[i] * x[i], want[3] += (double)x[i] * y[i];
        want[4] += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        least = x[i] < least ? x[i] : least, most = x[i] > most ? x[i] : most, largest = (R)fmax((double)largest, fabs((double)x[i]));
    }
    for (int t = 0; t < 2; t++) {
        qt_set_threads(t + 1);
        got[t][0] = qt_reduce_sum(x, n), got[t][1] = qt_reduce_sum_abs(x, n), got[t][2] = qt_reduce_sum_sq(x, n), got[t][3] = qt_reduce_dot(x, y, n);
        got[t][4] = qt_reduce_distance_sq(x, y, n), got[t][5] = (double)qt_reduce_max_abs(x, n);
        qt_reduce_min_max(x, n, &lo, &hi);
        assert_true(lo == least && hi == most);
    }
    assert_memory_equal(got[0], got[1], sizeof got[0]);
    for (int k = 0; k < 5; k++) assert_true(fabs(got[0][k] - want[k]) <= 1e-12 * (double)(n + 1));
    assert_true(got[0][5] == (double)largest);
    qt_free(x), qt_free(y);
}

static void test_reduce(void **state)
{
    static const int64_t size[] = {0, 1, 2, 15, 16, 17, 100, 16384, 16385, 100003, 4400000};
    (void)state;
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) reduce_case(size[i]);
}

/* The order of summation is part of the interface: lanes of 16, folded in halves, parts of 16384. */
static void test_reduce_order(void **state)
{
    enum { N = 40000, PART = 16384 };
    R     *x = numbers(N, "order");
    double all = 0;
    (void)state;
    for (int64_t p = 0; p < N; p += PART) {
        double lane[16] = {0};
        for (int64_t i = p; i < p + PART && i < N; i++) lane[(i - p) % 16] += x[i];
        for (int w = 8; w; w /= 2)
            for (int l = 0; l < w; l++) lane[l] += lane[l + w];
        all += lane[0];
    }
    assert_true(all == qt_reduce_sum(x, N));
    qt_free(x);
}

static void test_reduce_nan(void **state)
{
    R *x = numbers(50000, "x"), lo, hi;
    (void)state;
    for (int64_t i = 0; i < 50000; i += 7001) {
        R keep = x[i];
        x[i] = (R)NAN;
        assert_true(isnan(qt_reduce_max_abs(x, 50000)));
        qt_reduce_min_max(x, 50000, &lo, &hi);
        assert_true(isnan(lo) && isnan(hi) && isnan(qt_reduce_sum(x, 50000)));
        x[i] = keep;
    }
    x[3] = (R)-INFINITY;
    assert_true(isinf(qt_reduce_max_abs(x, 50000)));
    qt_free(x);
}

static void test_reduce_sum_rows(void **state)
{
    static const int64_t size[][2] = {{1, 1}, {3, 17}, {128, 10}, {50000, 10}, {4000, 64}, {100, 2500}, {17, 5000}, {9000, 33}};
    (void)state;
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        int64_t rows = size[i][0], cols = size[i][1];
        R      *x = numbers(rows * cols, "x"), *y = numbers(cols, "y"), *z = numbers(cols, "y");
        for (int64_t c = 0; c < cols; c++) {
            double sum = 0;
            for (int64_t r = 0; r < rows; r++) sum += x[r * cols + c];
            qt_set_threads(1 + (int)(c % 2));
            if (c < 2) memcpy(y, z, (size_t)cols * sizeof *y), qt_reduce_sum_rows(x, rows, cols, y);
            assert_true(fabs((double)y[c] - ((double)z[c] + sum)) <= 4 * EPS * (fabs(sum) + 1) + 0x1p-51 * (double)rows * sqrt((double)rows));
        }
        qt_free(x), qt_free(y), qt_free(z);
    }
}

static int by_magnitude(const void *a, const void *b)
{
    double x = fabs((double)*(const R *)a), y = fabs((double)*(const R *)b);
    return (x > y) - (x < y);
}

static void test_reduce_select_abs(void **state)
{
    enum { N = 3001 };
    R *x = numbers(N, "x"), *sorted = numbers(N, "x"), *work = numbers(N, "w");
    (void)state;
    for (int64_t i = 0; i < N; i += 3) x[i] = sorted[i] = (R)(i % 5) / 4 - (R)0.5; /* many equal ones, and zeros */
    qsort(sorted, N, sizeof *sorted, by_magnitude);
    for (int64_t k = 0; k < N; k += 11) assert_true((double)qt_reduce_select_abs(x, N, k, work) == fabs((double)sorted[k]));
    assert_true((double)qt_reduce_select_abs(x, 1, 0, work) == fabs((double)x[0]));
    qt_free(x), qt_free(sorted), qt_free(work);
}

/* ---- convolution ---- */

typedef struct conv_result {
    R *y, *dx, *dw, *db;
} conv_result;

static conv_result conv_run(qt_conv c, const qt_conv_path *path, int threads, const R *x, const R *w, const R *b, const R *dy)
{
    conv_result r;
    R          *work;
    int64_t     K = c.C / c.groups * c.KH * c.KW;
    qt_set_threads(threads);
    qt_conv_force(path);
    work = qt_alloc(qt_conv_plan(&c, dy != NULL));
    if (path) assert_ptr_equal(c.path, path);
    r = (conv_result){numbers(c.N * c.O * c.OH * c.OW, "y"), numbers(c.N * c.C * c.H * c.W, "dx"), numbers(c.O * K, "dw"), numbers(c.O, "db")};
    assert_non_null(work);
    qt_conv_forward(&c, x, w, b, work, r.y);
    if (dy) qt_conv_dx(&c, dy, w, work, r.dx), qt_conv_dw(&c, x, dy, work, r.dw, r.db);
    qt_free(work);
    qt_conv_force(NULL);
    return r;
}

static void conv_free(conv_result r) { qt_free(r.y), qt_free(r.dx), qt_free(r.dw), qt_free(r.db); }

/* The gradients by their definition, in double, added to what the buffers hold. */
static void conv_naive_gradients(const qt_conv *c, const R *x, const R *w, const R *dy, R *dx, R *dw, R *db)
{
    int64_t Cg = c->C / c->groups, Og = c->O / c->groups, NX = c->N * c->C * c->H * c->W, NW = c->O * Cg * c->KH * c->KW;
    double *sx = qt_alloc((size_t)NX * sizeof *sx), *sw = qt_alloc((size_t)NW * sizeof *sw), *sb = qt_alloc((size_t)c->O * sizeof *sb);
    for (int64_t q = 0; q < c->N * c->O * c->OH * c->OW; q++) {
        int64_t ow = q % c->OW, oh = q / c->OW % c->OH, o = q / (c->OW * c->OH) % c->O, n = q / (c->OW * c->OH * c->O);
        sb[o] += dy[q];
        for (int64_t k = 0; k < Cg * c->KH * c->KW; k++) {
            int64_t h = oh * c->stride + k / c->KW % c->KH * c->dilation - c->padding, v = ow * c->stride + k % c->KW * c->dilation - c->padding;
            int64_t at = ((n * c->C + o / Og * Cg + k / (c->KH * c->KW)) * c->H + h) * c->W + v, wk = o * Cg * c->KH * c->KW + k;
            if (h < 0 || h >= c->H || v < 0 || v >= c->W) continue;
            sx[at] += (double)w[wk] * dy[q], sw[wk] += (double)x[at] * dy[q];
        }
    }
    for (int64_t i = 0; i < NX; i++) dx[i] += (R)sx[i];
    for (int64_t i = 0; i < NW; i++) dw[i] += (R)sw[i];
    for (int64_t i = 0; i < c->O; i++) db[i] += (R)sb[i];
    qt_free(sx), qt_free(sw), qt_free(sb);
}

static void conv_case(qt_conv c, const qt_conv_path *path)
{
    int64_t     Cg = c.C / c.groups, K = Cg * c.KH * c.KW, NX = c.N * c.C * c.H * c.W, NY;
    conv_result one, two, want, inference;
    R          *x = numbers(NX, "x"), *w = numbers(c.O * K, "w"), *b = numbers(c.O, "b"), *dy;
    char        what[160];
    qt_conv_plan(&c, true);
    NY = c.N * c.O * c.OH * c.OW;
    dy = numbers(NY, "dy");
    want = (conv_result){numbers(NY, "y"), numbers(NX, "dx"), numbers(c.O * K, "dw"), numbers(c.O, "db")};
    one = conv_run(c, path, 1, x, w, b, dy), two = conv_run(c, path, 2, x, w, b, dy), inference = conv_run(c, path, 2, x, w, b, NULL);
    assert_memory_equal(one.y, two.y, (size_t)NY * sizeof(R));
    assert_memory_equal(one.y, inference.y, (size_t)NY * sizeof(R));
    assert_memory_equal(one.dx, two.dx, (size_t)NX * sizeof(R));
    assert_memory_equal(one.dw, two.dw, (size_t)(c.O * K) * sizeof(R));
    assert_memory_equal(one.db, two.db, (size_t)c.O * sizeof(R));
    qt_conv_naive(&c, x, w, b, want.y);
    conv_naive_gradients(&c, x, w, dy, want.dx, want.dw, want.db);
    snprintf(what, sizeof what, "%s, x [%lld,%lld,%lld,%lld] w [%lld,%lld,%lld,%lld] stride %lld padding %lld dilation %lld", path->name,
             (long long)c.N, (long long)c.C, (long long)c.H, (long long)c.W, (long long)c.O, (long long)Cg, (long long)c.KH, (long long)c.KW,
             (long long)c.stride, (long long)c.padding, (long long)c.dilation);
    assert_near(one.y, want.y, NY, sum_bound(K), what);
    assert_near(one.dx, want.dx, NX, sum_bound(c.O / c.groups * c.KH * c.KW), what);
    assert_near(one.dw, want.dw, c.O * K, sum_bound(c.N * c.OH * c.OW), what);
    assert_near(one.db, want.db, c.O, sum_bound(c.N * c.OH * c.OW), what);
    conv_free(one), conv_free(two), conv_free(want), conv_free(inference);
    qt_free(x), qt_free(w), qt_free(b), qt_free(dy);
}

/* N, C, H, W, O, KH, KW, stride, padding, dilation, groups */
static const qt_conv shapes[] = {
    {19, 1, 28, 28, 16, 3, 3, 1, 1, 1, 1}, {9, 16, 28, 28, 16, 3, 3, 1, 1, 1, 1}, {9, 16, 28, 28, 32, 3, 3, 2, 1, 1, 1},
    {9, 32, 14, 14, 32, 3, 3, 1, 1, 1, 1}, {9, 32, 14, 14, 64, 3, 3, 2, 1, 1, 1}, {9, 64, 7, 7, 64, 3, 3, 1, 1, 1, 1},
    {9, 16, 28, 28, 32, 1, 1, 2, 0, 1, 1}, {9, 32, 14, 14, 64, 1, 1, 2, 0, 1, 1}, {2, 3, 32, 32, 16, 3, 3, 1, 1, 1, 1},
    {3, 6, 12, 12, 16, 5, 5, 1, 0, 1, 1},  {1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1},     {2, 2, 3, 3, 2, 3, 3, 1, 0, 1, 1},
    {2, 3, 5, 7, 5, 3, 3, 1, 1, 1, 1},     {2, 3, 7, 5, 9, 3, 3, 2, 1, 1, 1},     {2, 3, 8, 11, 10, 2, 4, 3, 2, 1, 1},
    {2, 2, 9, 9, 3, 3, 3, 4, 1, 1, 1},     {2, 2, 9, 9, 3, 3, 3, 5, 1, 1, 1},     {2, 3, 10, 9, 4, 3, 3, 1, 2, 2, 1},
    {2, 3, 10, 9, 4, 3, 3, 2, 2, 2, 1},    {2, 2, 9, 12, 4, 3, 2, 3, 3, 2, 1},    {2, 2, 6, 6, 4, 1, 1, 1, 2, 1, 1},
    {2, 2, 6, 6, 4, 3, 3, 2, 4, 1, 1},     {2, 4, 6, 6, 4, 5, 5, 1, 4, 1, 1},     {2, 4, 7, 6, 6, 3, 3, 1, 1, 1, 2},
    {2, 6, 7, 6, 9, 3, 3, 2, 1, 1, 3},     {2, 4, 17, 40, 18, 3, 3, 1, 1, 1, 2},  {3, 40, 4, 4, 20, 3, 3, 1, 1, 1, 1},
    {2, 17, 9, 9, 33, 3, 3, 2, 1, 1, 1},   {2, 2, 1, 20, 8, 1, 5, 1, 2, 1, 1},    {2, 2, 20, 1, 8, 5, 1, 2, 2, 1, 1}};
static const qt_conv single_channel_shapes[] = {
    {9, 8, 14, 14, 8, 3, 3, 1, 1, 1, 8}, {9, 8, 15, 14, 8, 3, 3, 2, 1, 1, 8}, {2, 3, 7, 20, 6, 5, 3, 1, 2, 1, 3}, {2, 4, 9, 9, 4, 3, 3, 2, 2, 2, 4}};

static void all_shapes(const qt_conv *shape, size_t n, const qt_conv_path *path)
{
    for (size_t i = 0; i < n; i++)
        if (path->suits(&shape[i])) conv_case(shape[i], path);
}

static void conv_path_on_all(const qt_conv_path *path)
{
    all_shapes(shapes, sizeof shapes / sizeof *shapes, path);
    all_shapes(single_channel_shapes, sizeof single_channel_shapes / sizeof *single_channel_shapes, path);
}

static void test_conv_portable(void **state) { (void)state, conv_path_on_all(&qt_conv_portable); }
static void test_conv_depthwise(void **state) { (void)state, conv_path_on_all(&qt_conv_depthwise); }
static void test_conv_avx2(void **state)
{
    (void)state;
    if (!qt_conv_avx2.suits(&shapes[0])) skip();
    conv_path_on_all(&qt_conv_avx2);
}

static void test_conv_winograd(void **state)
{
    static const qt_conv more[] = {{2, 8, 4, 4, 8, 3, 3, 1, 1, 1, 1},  {1, 9, 5, 21, 11, 3, 3, 1, 1, 1, 1}, {3, 12, 20, 7, 10, 3, 3, 1, 0, 1, 1},
                                   {2, 8, 6, 17, 13, 3, 3, 1, 2, 1, 1}, {1, 33, 9, 33, 8, 3, 3, 1, 2, 1, 1}, {2, 16, 57, 6, 16, 3, 3, 1, 0, 1, 1}};
    (void)state;
    if (!qt_conv_avx2.suits(&shapes[0])) skip();
    conv_path_on_all(&qt_conv_winograd);
    all_shapes(more, sizeof more / sizeof *more, &qt_conv_winograd);
}

/* Small integers come out exactly: the halves of the transform are exact. */
static void test_conv_winograd_is_exact_on_integers(void **state)
{
    qt_conv     c = {2, 16, 9, 11, 12, 3, 3, 1, 1, 1, 1};
    int64_t     NX = 2 * 16 * 99, NW = 12 * 16 * 9, NY = 2 * 12 * 99;
    R          *x = numbers(NX, "x"), *w = numbers(NW, "w"), *b = numbers(12, "b"), *dy = numbers(NY, "dy");
    conv_result a, d;
    (void)state;
    if (!qt_conv_winograd.suits(&c)) skip();
    for (int64_t i = 0; i < NX; i++) x[i] = (R)(i * 37 % 256);
    for (int64_t i = 0; i < NW; i++) w[i] = (R)(i * 29 % 15 - 7);
    for (int64_t i = 0; i < NY; i++) dy[i] = (R)(i * 31 % 201 - 100);
    for (int64_t i = 0; i < 12; i++) b[i] = (R)i;
    a = conv_run(c, &qt_conv_winograd, 2, x, w, b, dy), d = conv_run(c, &qt_conv_avx2, 2, x, w, b, dy);
    assert_memory_equal(a.y, d.y, (size_t)NY * sizeof(R));
    conv_free(a), conv_free(d), qt_free(x), qt_free(w), qt_free(b), qt_free(dy);
}

/* A gradient that is written, not added to, whatever lies there. */
static void test_conv_dx_first(void **state)
{
    const qt_conv_path *path[] = {&qt_conv_portable, &qt_conv_depthwise, &qt_conv_avx2, &qt_conv_winograd};
    (void)state;
    for (size_t k = 0; k < 4 * sizeof shapes / sizeof *shapes; k++) {
        qt_conv c = shapes[k / 4];
        if (k % 4 == 1) c.groups = c.O = c.C;
        if (!path[k % 4]->suits(&c)) continue;
        qt_conv_force(path[k % 4]);
        R      *work = qt_alloc(qt_conv_plan(&c, true)), *zeros, *dx;
        int64_t NX = c.N * c.C * c.H * c.W;
        R      *dy = numbers(c.N * c.O * c.OH * c.OW, "dy"), *w = numbers(c.O * c.C / c.groups * c.KH * c.KW, "w");
        zeros = qt_alloc((size_t)NX * sizeof(R)), dx = numbers(NX, "dx");
        for (int64_t i = 0; i < NX; i++) dx[i] = (R)NAN;
        qt_conv_dx(&c, dy, w, work, zeros), qt_conv_dx_first(&c, dy, w, work, dx);
        for (int64_t i = 0; i < NX; i++) assert_true(dx[i] == zeros[i]);
        qt_free(work), qt_free(zeros), qt_free(dx), qt_free(dy), qt_free(w);
    }
    qt_conv_force(NULL);
}

/* Each path is chosen for what it is made for, and a NaN in the image reaches exactly the outputs that look at it. */
static void test_conv_nan_stays_local(void **state)
{
    const qt_conv_path *path[] = {&qt_conv_portable, &qt_conv_avx2};
    (void)state;
    for (int k = 0; k < 2; k++) {
        qt_conv     c = {1, 2, 6, 9, 4, 3, 3, 1, 1, 1, 1};
        R          *x = numbers(2 * 6 * 9, "x"), *w = numbers(4 * 2 * 9, "w"), *b = numbers(4, "b");
        conv_result r;
        if (!path[k]->suits(&c)) continue;
        x[9 * 3 + 8] = (R)NAN;
        r = conv_run(c, path[k], 1, x, w, b, NULL);
        for (int64_t i = 0; i < 4 * 54; i++) {
            int64_t h = i % 54 / 9, v = i % 9;
            assert_int_equal(isnan(r.y[i]) != 0, h >= 2 && h <= 4 && v >= 7);
        }
        conv_free(r), qt_free(x), qt_free(w), qt_free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm),          cmocka_unit_test(test_gemm_beta_zero_ignores_c),
        cmocka_unit_test(test_block),         cmocka_unit_test(test_transpose),
        cmocka_unit_test(test_reduce),        cmocka_unit_test(test_reduce_order),
        cmocka_unit_test(test_reduce_nan),    cmocka_unit_test(test_reduce_sum_rows),
        cmocka_unit_test(test_reduce_select_abs), cmocka_unit_test(test_conv_portable),
        cmocka_unit_test(test_conv_depthwise), cmocka_unit_test(test_conv_avx2),
        cmocka_unit_test(test_conv_winograd), cmocka_unit_test(test_conv_winograd_is_exact_on_integers),
        cmocka_unit_test(test_conv_dx_first), cmocka_unit_test(test_conv_nan_stays_local),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
