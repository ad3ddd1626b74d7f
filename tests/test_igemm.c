/* Integer matrix products: every path that this CPU has against the slow twin, bit for bit. The portable paths run the blocking and packing
 * of the vector ones, so those are tested on any CPU. */
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/igemm.h"
#include "quick.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static qt_rng dice;

static int64_t between(int64_t lo, int64_t hi) { return lo + (int64_t)(qt_rng_uniform(&dice) * (double)(hi - lo + 1)); }

static void *get(int64_t bytes)
{
    void *p = qt_alloc((size_t)bytes);
    assert_non_null(p);
    return p;
}

/* How codes are drawn */
enum { MIXED, LOWEST, HIGHEST, ENDS };

typedef struct range {
    bool is_signed;
    int  lo, hi;
    bool wide;
} range;

/* n codes in the range, and anything behind them */
static void *codes(int64_t n, range r, int draw)
{
    int64_t  all = n + QT_CODES_SLACK;
    uint8_t *q = get(r.wide ? 2 * all : all);
    for (int64_t i = 0; i < all; i++) {
        int64_t end = between(0, 1) ? r.hi : r.lo, code = draw == LOWEST ? r.lo : draw == HIGHEST ? r.hi : draw == ENDS ? end : between(r.lo, r.hi);
        if (i >= n) code = between(-128, 255);
        if (r.wide) ((int16_t *)(void *)q)[i] = (int16_t)code;
        else q[i] = (uint8_t)code;
    }
    return q;
}

#define EACH_PATH(p)                                                                                                                                 \
    for (int p##_i = 0; qt_igemm_path_at(p##_i); p##_i++)                                                                                            \
        for (const qt_igemm_path *p = qt_igemm_path_at(p##_i); p; p = NULL)                                                                          \
            if (qt_igemm_has(p))

/* ---- the bare product ---- */

static const range ranges[] = {{true, -128, 127}, {false, 0, 255},   {true, -127, 127},         {true, -8, 7},
                               {false, 0, 15},    {true, -1, 1},     {true, -64, 63},           {false, 0, 127},
                               {true, 0, 100},    {false, 100, 255}, {true, -128, -100},        {false, 0, 3},
                               {true, -4, 3},     {true, -32, 31},   {true, -2000, 1500, true}, {true, 0, 255, true}};
enum { RANGES = sizeof ranges / sizeof *ranges };

static void bare_case(int64_t M, int64_t N, int64_t K, range ra, range rb, bool ta, bool tb, int draw_a, int draw_b)
{
    qt_ioperand a = {codes(M * K, ra, draw_a), ra.is_signed, ta, ra.lo, ra.hi, ra.wide},
                b = {codes(N * K, rb, draw_b), rb.is_signed, tb, rb.lo, rb.hi, rb.wide};
    size_t   size = (size_t)(M * N) * sizeof(int32_t);
    int32_t *want = get((int64_t)size + 4), *have = get((int64_t)size + 4);
    qt_igemm_naive(M, N, K, a, b, want);
    EACH_PATH(p)
    for (int threads = 1; threads <= 2; threads++) {
        size_t bytes = qt_igemm_work(M, N, K, a, b);
        char  *work = get((int64_t)bytes + 1);
        memset(have, 0x55, size), memset(work, 0x33, bytes + 1);
        qt_igemm_force(p), qt_set_threads(threads);
        qt_igemm(M, N, K, a, b, work, have);
        if (memcmp(have, want, size) || work[bytes] != 0x33)
            fail_msg("%s, %d threads: %lld x %lld x %lld, a [%d,%d]%s, b [%d,%d]%s%s", qt_igemm_name(p), threads, (long long)M, (long long)N,
                     (long long)K, ra.lo, ra.hi, ta ? " transposed" : "", rb.lo, rb.hi, tb ? " transposed" : "",
                     work[bytes] != 0x33 ? ": writes behind its work space" : "");
        qt_free(work);
    }
    qt_igemm_force(NULL);
    qt_free((void *)a.q), qt_free((void *)b.q), qt_free(want), qt_free(have);
}

/* All ranges against each other in all orders of the operands, small odd shapes */
static void test_bare(void **state)
{
    (void)state;
    for (int i = 0; i < RANGES; i++)
        for (int k = 0; k < RANGES; k++)
            for (int t = 0; t < 4; t++) bare_case(between(1, 30), between(1, 60), between(1, 90), ranges[i], ranges[k], t & 1, t & 2, MIXED, MIXED);
}

/* Every remainder of tiles, panels and steps */
static void test_edges(void **state)
{
    (void)state;
    for (int64_t M = 1; M <= 26; M++) bare_case(M, 17, 13, ranges[1], ranges[0], false, true, MIXED, MIXED);
    for (int64_t N = 1; N <= 100; N++) bare_case(N % 11 + 1, N, 9, ranges[N % 2 ? 1 : 4], ranges[0], N % 3 == 0, N % 2, MIXED, MIXED);
    for (int64_t K = 1; K <= 140; K++)
        bare_case(K % 13 + 1, K % 19 + 1, K, ranges[K % 3 ? 1 : 6], ranges[K % 5 ? 0 : 3], K % 7 == 0, K % 4 != 0, MIXED, MIXED);
    bare_case(0, 5, 5, ranges[1], ranges[0], false, true, MIXED, MIXED), bare_case(5, 0, 5, ranges[1], ranges[0], false, true, MIXED, MIXED);
    bare_case(5, 5, 0, ranges[1], ranges[0], false, true, MIXED, MIXED);
    for (int t = 0; t < 4; t++) bare_case(9, 19, 1, (range){true, -32768, 32767, true}, (range){true, -32768, 32767, true}, t & 1, t & 2, ENDS, ENDS);
}

/* The largest and smallest products, over the longest inner lengths that are permitted */
static void test_extremes(void **state)
{
    static const int draw[] = {LOWEST, HIGHEST, ENDS};
    (void)state;
    for (int i = 0; i < RANGES; i++)
        for (int k = 0; k < RANGES; k++)
            for (int d = 0; d < 9; d += stride()) bare_case(7, 18, 260, ranges[i], ranges[k], d & 1, d % 4 != 2, draw[d % 3], draw[d / 3]);
    for (int d = 0; d < 9; d += stride()) { /* 255 x -128 at K = 65792 just fits; signed 128 x 128 at 131071 */
        bare_case(3, 9, qt_longest_block(255, 128), ranges[1], ranges[0], d & 1, d & 2, draw[d % 3], draw[d / 3]);
        bare_case(5, 9, qt_longest_block(255, 128), ranges[1], ranges[0], d & 1, d & 2, draw[d % 3], draw[d / 3]);
        bare_case(5, 3, qt_longest_block(128, 128), ranges[0], ranges[0], d & 1, d & 2, draw[d % 3], draw[d / 3]);
        bare_case(5, 3, qt_longest_block(255, 255), ranges[1], ranges[1], d & 1, d & 2, draw[d % 3], draw[d / 3]);
    }
}

/* More than one block and group, and enough work for two threads */
static void test_large(void **state)
{
    (void)state;
    bare_case(130, 300, 1030, ranges[1], ranges[0], false, true, MIXED, MIXED);
    bare_case(301, 130, 1030, ranges[1], ranges[3], false, true, MIXED, MIXED);
    bare_case(129, 210, 1031, ranges[0], ranges[2], true, false, MIXED, MIXED);
    bare_case(2, 1100, 1029, ranges[4], ranges[5], false, true, MIXED, MIXED);
    bare_case(1, 1100, 2029, ranges[1], ranges[0], false, true, MIXED, MIXED);
    bare_case(4000, 17, 75, ranges[1], ranges[6], false, true, MIXED, MIXED);
    bare_case(2000, 33, 70, ranges[3], ranges[3], true, false, MIXED, MIXED);
}

/* ---- the layer ---- */

/* inner: of the scales; zeros: 0 none, 1 small, 2 within the range of codes */
static qt_icodes icodes(int64_t rows, int64_t K, range r, int64_t inner, int64_t count, int zeros, int draw)
{
    qt_icodes c = {.q = codes(rows * K, r, draw), .is_signed = r.is_signed, .lo = r.lo, .hi = r.hi, .n = rows * K, .inner = inner, .count = count};
    R        *scale = get(count * (int64_t)sizeof(R));
    int32_t  *zero = zeros ? get(count * (int64_t)sizeof(int32_t)) : NULL;
    for (int64_t i = 0; i < count; i++) scale[i] = (R)(0.001 + qt_rng_uniform(&dice));
    for (int64_t i = 0; i < count && zeros; i++) zero[i] = (int32_t)(zeros == 1 ? between(-3, 3) : between(r.lo, r.hi));
    c.scale = scale, c.zero = zero;
    return c;
}

static void free_icodes(qt_icodes *c) { qt_free(c->q), qt_free((void *)c->scale), qt_free((void *)c->zero); }

static R *numbers(int64_t n)
{
    R *x = get(n * (int64_t)sizeof(R) + 1);
    for (int64_t i = 0; i < n; i++) x[i] = (R)qt_rng_normal(&dice);
    return x;
}

static void compare(int64_t M, int64_t N, int64_t K, const qt_icodes *x, const qt_icodes *w, const qt_iend *end)
{
    size_t size = (size_t)(M * N) * sizeof(R);
    R     *want = get((int64_t)size), *have = get((int64_t)size);
    assert_true(qt_ilinear_suits(M, N, K, x, w));
    qt_ilinear_naive(M, N, K, x, w, end, want);
    EACH_PATH(p)
    for (int threads = 1; threads <= 2; threads++) {
        size_t bytes = qt_ilinear_work(M, N, K, x, w);
        char  *work = get((int64_t)bytes + 1);
        memset(have, 0x55, size), memset(work, 0x33, bytes + 1);
        qt_igemm_force(p), qt_set_threads(threads);
        qt_ilinear(M, N, K, x, w, end, work, have);
        if (memcmp(have, want, size) || work[bytes] != 0x33)
            fail_msg("%s, %d threads: %lld x %lld x %lld, x [%d,%d] inner %lld count %lld%s, w [%d,%d] inner %lld count %lld%s%s%s%s",
                     qt_igemm_name(p), threads, (long long)M, (long long)N, (long long)K, x->lo, x->hi, (long long)x->inner, (long long)x->count,
                     x->zero ? " zeros" : "", w->lo, w->hi, (long long)w->inner, (long long)w->count, w->zero ? " zeros" : "",
                     end->bias ? " bias" : "", end->mul ? " mul" : "", end->relu ? " relu" : "");
        qt_free(work);
    }
    qt_igemm_force(NULL);
    qt_free(want), qt_free(have);
}

/* Every combination of bias, affine map and relu, or one of them at random */
static void layer_case(int64_t M, int64_t N, int64_t K, qt_icodes x, qt_icodes w, bool all)
{
    R  *bias = numbers(N), *mul = numbers(N), *add = numbers(N);
    int one = (int)between(0, 7);
    for (int e = all ? 0 : one; e < (all ? 8 : one + 1); e++) {
        qt_iend end = {e & 1 ? bias : NULL, e & 2 ? mul : NULL, e & 2 ? add : NULL, e & 4};
        compare(M, N, K, &x, &w, &end);
    }
    qt_free(bias), qt_free(mul), qt_free(add), free_icodes(&x), free_icodes(&w);
}

static const range acts[] = {{false, 0, 255}, {false, 0, 15}, {false, 0, 3}, {false, 0, 127}, {true, -128, 127}};
static const range weights[] = {{true, -128, 127}, {true, -8, 7}, {true, -1, 1}, {true, -64, 63}, {false, 0, 255}, {true, -2, 1}};

static void test_layer(void **state)
{
    (void)state;
    for (int a = 0; a < 5; a++)
        for (int b = 0; b < 6; b++)
            for (int zeros = 0; zeros < 9; zeros++) {
                int64_t M = between(1, 20), N = between(1, 50), K = between(4, 70), half = between(0, 1);
                int64_t xc = between(0, 1) ? M : 1, wc = between(0, 1) ? N : 1;
                if (half && M % 2 == 0 && xc > 1) xc = M / 2; /* a scale for two rows each */
                layer_case(M, N, K, icodes(M, K, acts[a], M / xc * K, xc, zeros % 3, MIXED),
                           icodes(N, K, weights[b], N / wc * K, wc, zeros / 3, MIXED), zeros % 4 == 0);
            }
}

/* Scales in groups along K, of either side or both, and of groups that are no whole steps */
static void test_groups(void **state)
{
    static const int64_t group[] = {4, 5, 8, 13, 32, 64};
    (void)state;
    for (int g = 0; g < 6; g++)
        for (int kind = 0; kind < 5; kind++)
            for (int zeros = 0; zeros < 9; zeros++) {
                int64_t M = between(1, 14), N = between(1, 40), G = group[g], K = G * 2 * between(1, 4);
                int64_t gx[] = {K, G, G, G, 2 * G}, gw[] = {G, K, G, 2 * G, G}, x = gx[kind], w = gw[kind];
                layer_case(M, N, K, icodes(M, K, acts[between(0, 4)], x, M * K / x, zeros % 3, MIXED),
                           icodes(N, K, weights[between(0, 5)], w, N * K / w, zeros / 3, MIXED), false);
            }
}

/* Inner lengths that do not fit int32 are cut: also with zero points far from the codes */
static void test_long(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i += stride()) {
        int64_t   K = 2 * qt_longest_block(255, 128) + between(1, 9), M = i % 2 ? 2 : 7;
        qt_icodes x = icodes(M, K, acts[0], K, M, i % 3, i % 4 < 2 ? HIGHEST : MIXED),
                  w = icodes(3, K, weights[0], i % 2 ? 3 * K : K, i % 2 ? 1 : 3, i / 4, i % 4 < 2 ? LOWEST : MIXED);
        layer_case(M, 3, K, x, w, false);
    }
}

/* Cuts that are not whole steps, inside groups */
static void test_far_zero(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        qt_icodes x = icodes(6, 120, acts[0], 60, 12, 1, MIXED), w = icodes(20, 120, weights[0], 120, 20, 1, MIXED);
        ((int32_t *)x.zero)[i] = 900000 + i; /* longest block: 2^31 / (900000 * 131) = 18 */
        layer_case(6, 20, 120, x, w, true);
    }
}

static void test_layer_large(void **state)
{
    (void)state;
    layer_case(64, 256, 784, icodes(64, 784, acts[1], 64 * 784, 1, 0, MIXED), icodes(256, 784, weights[1], 256 * 784, 1, 0, MIXED), true);
    layer_case(130, 300, 500, icodes(130, 500, acts[0], 500, 130, 2, MIXED), icodes(300, 500, weights[2], 300 * 500, 1, 0, MIXED), true);
    layer_case(300, 130, 500, icodes(300, 500, acts[0], 500, 300, 2, ENDS), icodes(130, 500, weights[0], 500, 130, 1, ENDS), false);
    layer_case(1, 2100, 1024, icodes(1, 1024, acts[0], 1024, 1, 2, MIXED), icodes(2100, 1024, weights[2], 32, 2100 * 32, 0, MIXED), false);
    layer_case(3, 999, 1000, icodes(3, 1000, acts[0], 1000, 3, 2, MIXED), icodes(999, 1000, weights[0], 1000, 999, 0, MIXED), false);
    layer_case(5000, 16, 144, icodes(5000, 144, acts[1], 5000 * 144, 1, 0, MIXED), icodes(16, 144, weights[1], 144, 16, 0, MIXED), false);
    layer_case(256, 10, 512, icodes(256, 512, acts[0], 256 * 512, 1, 0, MIXED), icodes(10, 512, weights[0], 512, 10, 0, MIXED), true);
}

static void test_unsuited(void **state)
{
    R         s[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    qt_icodes x = {.lo = 0, .hi = 255, .n = 48, .inner = 24, .count = 2, .scale = s},
              w = {.is_signed = true, .lo = -1, .hi = 1, .n = 48, .inner = 24, .count = 2, .scale = s};
    (void)state;
    assert_true(qt_ilinear_suits(2, 2, 24, &x, &w));
    x.inner = 36; /* one and a half rows */
    assert_false(qt_ilinear_suits(2, 2, 24, &x, &w));
    x.inner = 8, w.inner = 12; /* neither divides the other */
    assert_false(qt_ilinear_suits(2, 2, 24, &x, &w));
    x.inner = 24, w.inner = 1; /* a scale for each column of w */
    assert_false(qt_ilinear_suits(2, 2, 24, &x, &w));
}

static void test_paths(void **state)
{
    bool scalar = false;
    (void)state;
    for (int i = 0; qt_igemm_path_at(i); i++) scalar |= !strcmp(qt_igemm_name(qt_igemm_path_at(i)), "scalar") && qt_igemm_has(qt_igemm_path_at(i));
    assert_true(scalar);
    assert_null(qt_igemm_path_at(-1));
    assert_true(qt_igemm_has(qt_igemm_chosen()));
    EACH_PATH(p) qt_igemm_force(p), assert_ptr_equal(qt_igemm_chosen(), p);
    qt_igemm_force(NULL);
    for (int i = 0; qt_igemm_path_at(i) != qt_igemm_chosen(); i++) assert_false(qt_igemm_has(qt_igemm_path_at(i)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_paths),       cmocka_unit_test(test_bare),    cmocka_unit_test(test_edges),
                                       cmocka_unit_test(test_extremes),    cmocka_unit_test(test_large),   cmocka_unit_test(test_layer),
                                       cmocka_unit_test(test_groups),      cmocka_unit_test(test_long),    cmocka_unit_test(test_far_zero),
                                       cmocka_unit_test(test_layer_large), cmocka_unit_test(test_unsuited)};
    dice = qt_rng_named(1, "igemm");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
