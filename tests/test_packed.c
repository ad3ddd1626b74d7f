/* Packed weights: round trips, and every product of every instruction set against plain loops, bit for bit. */
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/igemm.h"
#include "kernels/packed.h"
#include "kernels/xnor.h"
#include "quick.h"
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void *room(size_t n)
{
    void *p = qt_alloc(n);
    assert_non_null(p);
    return p;
}

static int64_t between(qt_rng *r, int64_t lo, int64_t hi) { return lo + (int64_t)qt_rng_below(r, (uint64_t)(hi - lo + 1)); }

/* Codes of [lo, hi], `step` apart; now and then a row of nothing but an extreme */
static int8_t *codes(qt_rng *r, int64_t rows, int64_t K, int lo, int hi, int step)
{
    int8_t *q = room((size_t)(rows * K) + QT_CODES_SLACK);
    for (int64_t n = 0; n < rows; n++) {
        int64_t kind = between(r, 0, 5);
        for (int64_t k = 0; k < K; k++) q[n * K + k] = (int8_t)(kind == 0 ? lo : kind == 1 ? hi : lo + step * between(r, 0, (hi - lo) / step));
    }
    return q;
}

/* ---- round trips ---- */

static const struct range {
    int bits, lo, hi;
} ranges[] = {{1, -1, 1}, {2, -1, 1},    {2, -2, 1},     {2, 0, 3},      {2, -128, -125}, {4, -8, 7},
              {4, -7, 7}, {4, 112, 127}, {8, -128, 127}, {8, -127, 127}, {8, 0, 0},       {2, 1, 1}};
enum { RANGES = sizeof ranges / sizeof *ranges };

static void bits_needed(void **state)
{
    (void)state;
    assert_int_equal(qt_packed_bits(-1, 1, true), 1);
    assert_int_equal(qt_packed_bits(-1, 1, false), 2);
    assert_int_equal(qt_packed_bits(-2, 1, true), 2);
    assert_int_equal(qt_packed_bits(-8, 7, false), 4);
    assert_int_equal(qt_packed_bits(-8, 8, false), 8);
    assert_int_equal(qt_packed_bits(-128, 127, false), 8);
    assert_int_equal(qt_packed_size(4096, 4096, 2), 4096 * 4096 / 4);
    assert_int_equal(qt_packed_size(3, 257, 1), 9 * 32);
}

static void round_trip(void **state)
{
    static const int64_t sizes[] = {1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000, 4096, 4097, 9001};
    qt_rng               r = qt_rng_named(1, "round_trip");
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes * RANGES; i++) {
        struct range t = ranges[i % RANGES];
        int64_t      K = sizes[i / RANGES], N = between(&r, 1, 9), n = between(&r, 0, N - 1), sum = 0;
        int8_t      *q = codes(&r, N, K, t.lo, t.hi, t.bits == 1 ? 2 : 1), *back = room((size_t)(N * K) + 1);
        void        *data = room(qt_packed_size(N, K, t.bits));
        int32_t     *sums = room((size_t)N * sizeof *sums);
        qt_packed    p;
        assert_true(qt_packed_fill(&p, N, K, t.bits, t.lo, t.hi, q, data, sums));
        back[N * K] = 77;
        qt_packed_unpack(&p, 0, N, back);
        assert_memory_equal(back, q, (size_t)(N * K));
        assert_int_equal(back[N * K], 77);
        qt_packed_unpack(&p, n, 1, back);
        assert_memory_equal(back, q + n * K, (size_t)K);
        for (int64_t k = 0; k < K; k++) sum += q[n * K + k];
        assert_int_equal(sums[n], sum);
        /* a code outside, anywhere, is refused */
        if (t.hi < 127) {
            q[between(&r, 0, N * K - 1)] = (int8_t)(t.hi + 1);
            assert_false(qt_packed_fill(&p, N, K, t.bits, t.lo, t.hi, q, data, sums));
        }
        qt_free(q), qt_free(back), qt_free(data), qt_free(sums);
    }
}

static void refused(void **state)
{
    int8_t    q[4] = {-1, 1, 0, 1};
    uint8_t   data[32];
    int32_t   sum;
    qt_packed p;
    uint64_t  bits[8];
    (void)state;
    assert_false(qt_packed_fill(&p, 1, 4, 1, -1, 1, q, data, &sum)); /* a zero in a binary matrix */
    assert_true(qt_packed_fill(&p, 1, 4, 2, -1, 1, q, data, &sum));
    assert_false(qt_packed_fill(&p, 1, 4, 2, -2, 2, q, data, &sum)); /* five levels in two bits */
    assert_false(qt_packed_fill(&p, 1, 4, 2, 0, 3, q, data, &sum));
    assert_false(qt_xnor_pack(1, 4, q, bits));
    q[2] = -1;
    assert_true(qt_xnor_pack(1, 4, q, bits));
    assert_int_equal(bits[0], 0xa);
}

/* ---- products ---- */

enum { TENSOR, ROW, GROUP, TWO_ROWS, LAYOUTS };

typedef struct operand {
    qt_icodes c;
    R        *scale;
    int32_t  *zero;
} operand;

static operand layout(qt_rng *r, int kind, int64_t rows, int64_t K, int64_t group, bool zero, int z_lo, int z_hi)
{
    operand o = {.c = {.n = rows * K}};
    if (kind == GROUP && K % group) kind = ROW;
    if (kind == TWO_ROWS && rows % 2) kind = TENSOR;
    o.c.inner = kind == TENSOR ? rows * K : kind == ROW ? K : kind == GROUP ? group : 2 * K;
    o.c.count = o.c.n / o.c.inner;
    o.scale = room((size_t)o.c.count * sizeof *o.scale), o.zero = room((size_t)o.c.count * sizeof *o.zero);
    for (int64_t i = 0; i < o.c.count; i++) o.scale[i] = (R)(qt_rng_normal(r) * 0.01), o.zero[i] = (int32_t)between(r, z_lo, z_hi);
    o.c.scale = o.scale, o.c.zero = zero ? o.zero : NULL;
    return o;
}

static R *numbers(qt_rng *r, int64_t n)
{
    R *x = room((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (R)qt_rng_normal(r);
    return x;
}

typedef struct sizes {
    int64_t M, N, K, group;
    int     x_kind, w_kind, x_lo, x_hi;
    bool    x_zero, w_zero, one_x_zero;
} sizes;

/* One random product, on each path and with 1 and 2 threads. The bytes behind `work` must stay as they are. */
static void product(qt_rng *r, struct range t, sizes s)
{
    int64_t   M = s.M, N = s.N, K = s.K;
    operand   x = layout(r, s.x_kind, M, K, s.group, s.x_zero, s.x_lo, s.x_hi), w = layout(r, s.w_kind, N, K, s.group, s.w_zero, t.lo, t.hi);
    uint8_t  *q = room((size_t)(M * K) + QT_CODES_SLACK);
    int8_t   *u = codes(r, N, K, t.lo, t.hi, t.bits == 1 ? 2 : 1);
    void     *data = room(qt_packed_size(N, K, t.bits));
    int32_t  *sums = room((size_t)N * sizeof *sums);
    R        *want = room((size_t)(M * N) * sizeof *want), *y = room((size_t)(M * N + 1) * sizeof *y);
    R        *bias = numbers(r, N), *mul = numbers(r, N), *add = numbers(r, N);
    int       more = (int)between(r, 0, 3);
    qt_iend   end = {more & 1 ? bias : NULL, more & 2 ? mul : NULL, more & 2 ? add : NULL, between(r, 0, 1)};
    qt_packed p;
    size_t    size;
    char     *work;
    for (int64_t i = 0; i < M * K; i++) q[i] = (uint8_t)between(r, s.x_lo, s.x_hi);
    if (between(r, 0, 3) == 0) memset(q, between(r, 0, 1) ? s.x_lo : s.x_hi, (size_t)(M * K));
    if (s.one_x_zero)
        for (int64_t i = 0; i < x.c.count; i++) x.zero[i] = x.zero[0];
    assert_true(qt_packed_fill(&p, N, K, t.bits, t.lo, t.hi, u, data, sums));
    x.c.q = q, x.c.lo = s.x_lo, x.c.hi = s.x_hi;
    w.c.q = u, w.c.is_signed = true, w.c.lo = t.lo, w.c.hi = t.hi;
    qt_ilinear_naive(M, N, K, &x.c, &w.c, &end, want);
    w.c.q = NULL, w.c.packed = &p;
    size = qt_packed_work(M, &x.c, &w.c);
    work = room(size + 8);
    for (int i = 0; qt_packed_path_at(i); i++) {
        if (!qt_packed_has(qt_packed_path_at(i))) continue;
        qt_packed_force(qt_packed_path_at(i));
        for (int threads = 1; threads <= 2; threads++) {
            omp_set_num_threads(threads);
            memset(y, 0x55, (size_t)(M * N + 1) * sizeof *y), memset(work, 0x55, size + 8);
            qt_packed_linear(M, &x.c, &w.c, &end, work, y);
            if (memcmp(y, want, (size_t)(M * N) * sizeof *y))
                fail_msg("%s, %d threads: M %lld N %lld K %lld, %d bits [%d, %d], x %d..%d, layouts %d %d, group %lld, zeros %d %d",
                         qt_packed_name(qt_packed_path_at(i)), threads, (long long)M, (long long)N, (long long)K, t.bits, t.lo, t.hi, s.x_lo, s.x_hi,
                         s.x_kind, s.w_kind, (long long)s.group, s.x_zero, s.w_zero);
            for (size_t k = 0; k < sizeof *y; k++) assert_int_equal(((char *)(y + M * N))[k], 0x55);
            for (size_t k = 0; k < 8; k++) assert_int_equal(work[size + k], 0x55);
        }
    }
    qt_packed_force(NULL), omp_set_num_threads(2);
    qt_free(q), qt_free(u), qt_free(data), qt_free(sums), qt_free(want), qt_free(y), qt_free(bias), qt_free(mul), qt_free(add), qt_free(work);
    qt_free(x.scale), qt_free(x.zero), qt_free(w.scale), qt_free(w.zero);
}

static void products(void **state)
{
    static const int64_t groups[] = {32, 64, 96, 128, 256, 384, 16, 20};
    static const struct {
        int lo, hi;
    } xs[] = {{0, 255}, {1, 255}, {0, 15}, {0, 1}, {0, 127}, {100, 200}, {7, 7}};
    qt_rng r = qt_rng_named(1, "products");
    (void)state;
    for (int i = 0; i < 4000; i += stride()) {
        int   k = (int)between(&r, 0, 6);
        sizes s = {between(&r, 1, 12),
                   between(&r, 1, 40),
                   between(&r, 1, 600),
                   groups[between(&r, 0, 7)],
                   (int)between(&r, 0, LAYOUTS - 1),
                   (int)between(&r, 0, LAYOUTS - 1),
                   xs[k].lo,
                   xs[k].hi,
                   between(&r, 0, 1),
                   between(&r, 0, 1),
                   between(&r, 0, 1)};
        if (between(&r, 0, 1)) s.M = between(&r, 1, 4);
        if (s.x_kind == GROUP || s.w_kind == GROUP) s.K = s.group * between(&r, 1, 600 / s.group);
        product(&r, ranges[i % RANGES], s);
    }
}

/* Long rows: pieces of the cache, groups in several parts, threads; and sums near the ends of int16 and int32. */
static void long_products(void **state)
{
    qt_rng r = qt_rng_named(1, "long_products");
    (void)state;
    for (int i = 0; i < 2 * RANGES; i += stride()) {
        struct range t = ranges[i % RANGES];
        product(&r, t, (sizes){between(&r, 1, 17), between(&r, 60, 200), between(&r, 4000, 5000), 32, ROW, ROW, 0, 255, true, false, i % 2});
        product(&r, t, (sizes){between(&r, 1, 9), between(&r, 1, 99), 19 * 1024, i % 2 ? 32 : 1024, i % 3, GROUP, 0, 255, true, true, true});
        product(&r, t, (sizes){1, between(&r, 1, 9), 70000, 32, TENSOR, ROW, 0, 255, i % 2, i % 2, true});
    }
}

/* Ternary weights against so many rows of x that tables of sums are used. */
static void table_products(void **state)
{
    static const int64_t shapes[][3] = {{16, 512, 32},  {31, 600, 64},   {16, 515, 256},  {48, 1029, 500},
                                        {80, 2100, 96}, {31, 520, 1024}, {16, 512, 4096}, {17, 600, 64}};
    qt_rng               r = qt_rng_named(1, "table_products");
    (void)state;
    for (size_t i = 0; i < 3 * sizeof shapes / sizeof *shapes; i += (size_t)stride()) {
        const int64_t *s = shapes[i / 3];
        product(&r, (struct range){2, -1 + (int)(i % 3) * 3, 1 + (int)(i % 3) * 3},
                (sizes){s[0], s[1], s[2], 32, i % 2 ? ROW : TENSOR, ROW, 0, 255, true, i % 4 == 1, i % 5 > 0});
        product(&r, (struct range){2, -1, 1}, (sizes){s[0], s[1], s[2], 32, ROW, TENSOR, 0, 15, false, false, false});
    }
}

/* Every bit pattern that could saturate: all x and all codes at the ends of their ranges. */
static void extremes(void **state)
{
    (void)state;
    for (int i = 0; i < RANGES; i++)
        for (int64_t M = 1; M <= 8; M *= 2)
            for (int x = 0; x < 4; x++) {
                struct range t = ranges[i];
                enum { N = 3, K = 4099 };
                static uint8_t q[8 * K + QT_CODES_SLACK];
                static int8_t  u[N * K + QT_CODES_SLACK];
                static R       want[8 * N], y[8 * N];
                R              scale = 1;
                int32_t        zero = x & 2 ? 128 : 0, sums[N];
                qt_icodes      xc = {.q = q, .hi = 255, .n = M * K, .inner = M * K, .count = 1, .scale = &scale, .zero = &zero}, wc = xc;
                void          *data = room(qt_packed_size(N, K, t.bits)), *work;
                qt_iend        end = {0};
                qt_packed      p;
                memset(q, x & 1 ? 255 : 0, (size_t)(M * K));
                memset(u, t.lo, K), memset(u + K, t.hi, 2 * K);
                for (int k = 0; k < K; k += 2) u[2 * K + k] = (int8_t)t.lo;
                assert_true(qt_packed_fill(&p, N, K, t.bits, t.lo, t.hi, u, data, sums));
                wc.q = u, wc.is_signed = true, wc.lo = t.lo, wc.hi = t.hi, wc.n = wc.inner = N * K, wc.zero = NULL;
                qt_ilinear_naive(M, N, K, &xc, &wc, &end, want);
                wc.packed = &p;
                work = room(qt_packed_work(M, &xc, &wc));
                for (int k = 0; qt_packed_path_at(k); k++) {
                    if (!qt_packed_has(qt_packed_path_at(k))) continue;
                    qt_packed_force(qt_packed_path_at(k));
                    qt_packed_linear(M, &xc, &wc, &end, work, y);
                    assert_memory_equal(y, want, (size_t)(M * N) * sizeof *y);
                }
                qt_packed_force(NULL);
                qt_free(data), qt_free(work);
            }
}

/* ---- one bit by one bit ---- */

static void binary(void **state)
{
    qt_rng r = qt_rng_named(1, "binary");
    (void)state;
    for (int i = 0; i < 400; i += stride()) {
        int64_t   M = between(&r, 1, 9), N = between(&r, 1, 70), K = i % 10 ? between(&r, 1, 700) : between(&r, 8000, 40000);
        int8_t   *a = codes(&r, M, K, -1, 1, 2), *b = codes(&r, N, K, -1, 1, 2);
        uint64_t *A = room((size_t)(M * qt_xnor_words(K)) * 8), *rows = room((size_t)(N * qt_xnor_words(K)) * 8);
        uint64_t *B = room((size_t)qt_xnor_panel_words(N, K) * 8);
        int32_t  *C = room((size_t)(M * N) * sizeof *C);
        assert_true(qt_xnor_pack(M, K, a, A) && qt_xnor_pack(N, K, b, rows));
        qt_xnor_weave(N, K, rows, B);
        for (int p = 0; qt_xnor_path_at(p); p++) {
            if (!qt_xnor_has(qt_xnor_path_at(p))) continue;
            qt_xnor_force(qt_xnor_path_at(p));
            memset(C, 0x55, (size_t)(M * N) * sizeof *C);
            qt_xnor_gemm(M, N, K, A, B, C);
            for (int64_t m = 0; m < M; m++)
                for (int64_t n = 0; n < N; n++) {
                    int32_t want = 0;
                    for (int64_t k = 0; k < K; k++) want += a[m * K + k] * b[n * K + k];
                    if (C[m * N + n] != want)
                        fail_msg("%s: [%lld, %lld] of K %lld", qt_xnor_name(qt_xnor_path_at(p)), (long long)m, (long long)n, (long long)K);
                }
        }
        qt_xnor_force(NULL);
        qt_free(a), qt_free(b), qt_free(A), qt_free(rows), qt_free(B), qt_free(C);
    }
}

static void named(void **state)
{
    (void)state;
    assert_true(qt_packed_has(qt_packed_chosen()) && qt_xnor_has(qt_xnor_chosen()));
    for (int i = 0; qt_packed_path_at(i); i++) assert_non_null(qt_packed_name(qt_packed_path_at(i)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_needed), cmocka_unit_test(round_trip),    cmocka_unit_test(refused),
        cmocka_unit_test(products),    cmocka_unit_test(long_products), cmocka_unit_test(table_products),
        cmocka_unit_test(extremes),    cmocka_unit_test(binary),        cmocka_unit_test(named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
