/* Integer convolution: every path that this CPU has against the plain loops, bit for bit, with one thread and with several. */
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/iconv.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { GUARD = 256, MARK = 0x5a };

/* Codes within [lo, hi], zeros within [zlo, zhi] (none where zlo > zhi), a scale and a zero for each of `count` blocks. */
typedef struct range {
    int  lo, hi, zlo, zhi;
    bool each, extreme; /* each: a scale for each image or output channel; extreme: only lo and hi */
} range;

static qt_rng rng;

static int draw(int lo, int hi) { return lo + (int)qt_rng_below(&rng, (uint64_t)(hi - lo + 1)); }

static void *memory(size_t n)
{
    void *p = qt_alloc(n);
    assert_non_null(p);
    return p;
}

static R *numbers(int64_t n)
{
    R *x = memory((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (R)qt_rng_normal(&rng);
    return x;
}

/* What lies behind the codes may be anything. */
static qt_icodes codes(range r, bool is_signed, int64_t n, int64_t inner)
{
    qt_icodes c = {.is_signed = is_signed, .lo = r.lo, .hi = r.hi, .n = n, .inner = r.each ? inner : n, .count = r.each ? n / inner : 1};
    uint8_t  *q = memory((size_t)n + QT_CODES_SLACK);
    int32_t  *zero = memory((size_t)c.count * sizeof *zero);
    for (int64_t i = 0; i < n; i++) q[i] = (uint8_t)(r.extreme ? (draw(0, 3) ? r.hi : r.lo) : draw(r.lo, r.hi));
    for (int64_t i = 0; i < QT_CODES_SLACK; i++) q[n + i] = (uint8_t)draw(0, 255);
    for (int64_t k = 0; k < c.count; k++) zero[k] = r.zlo <= r.zhi ? draw(r.zlo, r.zhi) : 0;
    c.q = q, c.scale = numbers(c.count), c.zero = zero;
    if (r.zlo > r.zhi) qt_free(zero), c.zero = NULL;
    return c;
}

static void codes_free(qt_icodes *c) { qt_free(c->q), qt_free((void *)c->scale), qt_free((void *)c->zero); }

static void run(const qt_conv *c, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, const R *want, int64_t NY, const char *what)
{
    size_t bytes, ny = (size_t)NY * sizeof(R);
    for (int threads = 1; threads <= 4; threads += threads == 1 ? 1 : 2) {
        unsigned char *work, *y = memory(ny + GUARD);
        qt_set_threads(threads);
        bytes = qt_iconv_work(c, x, w);
        work = memory(bytes + GUARD);
        memset(work, MARK, bytes + GUARD), memset(y, MARK, ny + GUARD);
        qt_iconv(c, x, w, end, work, (R *)(void *)y);
        if (memcmp(y, want, ny)) {
            int64_t i = 0;
            while (!memcmp(y + (size_t)i * sizeof(R), want + i, sizeof(R))) i++;
            fail_msg("%s, %d threads: N %d C %d H %d W %d O %d K %dx%d stride %d padding %d dilation %d groups %d, x %d..%d w %d..%d: y[%d] = %.9g, "
                     "wants %.9g",
                     what, threads, (int)c->N, (int)c->C, (int)c->H, (int)c->W, (int)c->O, (int)c->KH, (int)c->KW, (int)c->stride, (int)c->padding,
                     (int)c->dilation, (int)c->groups, x->lo, x->hi, w->lo, w->hi, (int)i, (double)((R *)(void *)y)[i], (double)want[i]);
        }
        for (int i = 0; i < GUARD; i++)
            if (y[ny + (size_t)i] != MARK || work[bytes + (size_t)i] != MARK) fail_msg("%s writes behind its memory", what);
        qt_free(work), qt_free(y);
    }
}

/* All paths; epilogue: bit 0 bias, bit 1 batch norm, bit 2 relu */
static void check(qt_conv c, range rx, range rw, int epilogue)
{
    int64_t   image = c.C * c.H * c.W, taps = c.C / c.groups * c.KH * c.KW, NY;
    qt_icodes x, w;
    qt_iend   end;
    R        *bias = numbers(c.O), *mul = numbers(c.O), *add = numbers(c.O), *want;
    c.OH = (c.H + 2 * c.padding - c.dilation * (c.KH - 1) - 1) / c.stride + 1;
    c.OW = (c.W + 2 * c.padding - c.dilation * (c.KW - 1) - 1) / c.stride + 1;
    NY = c.N * c.O * c.OH * c.OW;
    x = codes(rx, false, c.N * image, image), w = codes(rw, true, c.O * taps, taps);
    end = (qt_iend){epilogue & 1 ? bias : NULL, epilogue & 2 ? mul : NULL, epilogue & 2 ? add : NULL, epilogue & 4};
    want = memory((size_t)NY * sizeof *want);
    assert_true(qt_iconv_suits(&c, &x, &w));
    qt_iconv_naive(&c, &x, &w, &end, want);
    for (int i = 0; qt_iconv_path_at(i); i++) {
        const qt_iconv_path *p = qt_iconv_path_at(i);
        if (!qt_iconv_has(p)) continue;
        qt_iconv_force(p);
        run(&c, &x, &w, &end, want, NY, qt_iconv_name(p));
    }
    qt_iconv_force(NULL);
    codes_free(&x), codes_free(&w), qt_free(bias), qt_free(mul), qt_free(add), qt_free(want);
}

/* 4 bits, unsigned and signed; 8 bits with ternary, 4-bit and 8-bit weights; 7 bits; weights with zeros, such that a byte holds the difference or not
 */
static const range inputs[] = {{0, 15, 1, 0},        {0, 15, 8, 8},      {0, 255, 1, 0},        {0, 255, 0, 255, true},
                               {0, 127, 0, 0, true}, {0, 255, 128, 128}, {3, 3, 200, 250, true}};
static const range weights[] = {
    {-8, 7, 1, 0}, {-1, 1, 1, 0, true}, {-128, 127, 1, 0, true}, {-127, 127, 0, 0}, {-8, 7, -7, 7, true}, {-128, 127, -128, 127, true}, {0, 1, 0, 0}};

static void test_shapes(void **state)
{
    static const int64_t channels[] = {1, 2, 3, 4, 5, 7, 8, 16, 17}, outputs[] = {1, 2, 3, 4, 6, 9, 16};
    (void)state;
    rng = qt_rng_at(7, 1);
    for (int i = 0; i < 700;) {
        int64_t g = draw(0, 3) ? 1 : draw(2, 4);
        qt_conv c = {draw(1, 4),
                     channels[draw(0, 8)] * g,
                     draw(1, 21),
                     draw(1, 21),
                     outputs[draw(0, 6)] * g,
                     draw(1, 5),
                     draw(1, 6),
                     draw(1, 3),
                     draw(0, 3),
                     draw(1, 3),
                     g};
        range   x = inputs[draw(0, 6)], w = weights[draw(0, 6)];
        if (c.H + 2 * c.padding < c.dilation * (c.KH - 1) + 1 || c.W + 2 * c.padding < c.dilation * (c.KW - 1) + 1) continue;
        x.extreme = !draw(0, 3), w.extreme = !draw(0, 3);
        check(c, x, w, draw(0, 7));
        i++;
    }
}

static void test_strides(void **state)
{
    (void)state;
    rng = qt_rng_at(7, 2);
    for (int64_t s = 4; s <= 9; s++)
        for (int64_t C = 1; C <= 5; C += 2) check((qt_conv){2, C, 23, 30, 5, 3, 4, s, 2, 1, 1}, inputs[1], weights[(int)s - 4], 1);
}

static void test_depthwise(void **state)
{
    (void)state;
    rng = qt_rng_at(7, 3);
    for (int i = 0; i < 60; i++) {
        int64_t C = draw(2, 19), O = C * draw(1, 3);
        check((qt_conv){draw(1, 3), C, draw(5, 30), draw(5, 30), O, draw(1, 5), draw(1, 5), draw(1, 3), draw(0, 2), 1, C}, inputs[draw(0, 6)],
              weights[draw(0, 6)], draw(0, 7));
    }
}

/* The layers of ResNet-8 and ResNet-20 */
static void test_resnet(void **state)
{
    static const qt_conv layer[] = {
        {3, 1, 28, 28, 16, 3, 3, 1, 1, 1, 1},  {2, 3, 32, 32, 16, 3, 3, 1, 1, 1, 1},  {2, 16, 28, 28, 16, 3, 3, 1, 1, 1, 1},
        {2, 16, 28, 28, 32, 3, 3, 2, 1, 1, 1}, {2, 16, 28, 28, 32, 1, 1, 2, 0, 1, 1}, {3, 32, 14, 14, 32, 3, 3, 1, 1, 1, 1},
        {2, 32, 14, 14, 64, 3, 3, 2, 1, 1, 1}, {9, 64, 7, 7, 64, 3, 3, 1, 1, 1, 1},   {1, 64, 7, 7, 64, 3, 3, 1, 1, 1, 1}};
    (void)state;
    rng = qt_rng_at(7, 4);
    for (size_t i = 0; i < sizeof layer / sizeof *layer; i++)
        for (int k = 0; k < 3; k++) check(layer[i], inputs[k], weights[k], 7);
}

/* The largest sums: all codes at their ends, and as many words as int16 sums may hold. */
static void test_extremes(void **state)
{
    static const range ends[] = {{255, 255, 1, 0}, {255, 255, 0, 0}, {0, 255, 255, 255}, {255, 255, 0, 255, true}, {15, 15, 1, 0}};
    static const range sides[] = {{-128, -128, 1, 0}, {127, 127, 1, 0}, {-128, -128, 127, 127}, {-8, -8, 1, 0}, {7, 7, 1, 0},
                                  {-1, -1, 1, 0},     {1, 1, 1, 0},     {-64, 64, 1, 0},        {-16, 16, 1, 0}};
    (void)state;
    rng = qt_rng_at(7, 5);
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 9; k++)
            for (int64_t C = 1; C < 100; C += 61) check((qt_conv){2, C, 9, 11, 5, 3, 3, 1, 1, 1, 1}, ends[i], sides[k], k % 8);
}

/* NaN and infinite scales, sums of zero under relu */
static void test_epilogue(void **state)
{
    static const R special[] = {(R)NAN, (R)INFINITY, (R)-INFINITY, 0, (R)-0.0, 1};
    (void)state;
    rng = qt_rng_at(7, 6);
    for (int k = 0; k < 6; k++) {
        qt_conv   c = {1, 4, 6, 6, 6, 3, 3, 1, 1, 1, 1, 6, 6};
        qt_icodes x = codes(inputs[0], false, 144, 144), w = codes((range){-8, 7, 1, 0, true}, true, 216, 36);
        qt_iend   end = {.relu = true};
        R         want[216];
        memcpy((R *)w.scale, special, sizeof special), *(R *)x.scale = special[k];
        qt_iconv_naive(&c, &x, &w, &end, want);
        for (int i = 0; qt_iconv_path_at(i); i++) {
            R     y[216];
            void *work = memory(qt_iconv_work(&c, &x, &w));
            if (qt_iconv_has(qt_iconv_path_at(i))) {
                qt_iconv_force(qt_iconv_path_at(i));
                qt_iconv(&c, &x, &w, &end, work, y);
                for (int j = 0; j < 216; j++) assert_true(isnan(want[j]) ? isnan(y[j]) : !memcmp(y + j, want + j, sizeof *y));
            }
            qt_free(work);
        }
        codes_free(&x), codes_free(&w);
    }
    qt_iconv_force(NULL);
}

/* What the kernels cannot do is refused, and right all the same. */
static void test_refused(void **state)
{
    qt_conv   c = {2, 4, 6, 6, 5, 3, 3, 1, 1, 1, 1, 6, 6};
    qt_icodes x, w;
    qt_iend   end = {.relu = true};
    R         want[360], y[360];
    void     *work;
    (void)state;
    rng = qt_rng_at(7, 7);
    x = codes((range){0, 255, -3, -3}, false, 288, 288), w = codes(weights[0], true, 180, 180);
    work = memory(qt_iconv_work(&c, &x, &w));
    assert_false(qt_iconv_suits(&c, &x, &w));
    qt_iconv_naive(&c, &x, &w, &end, want), qt_iconv(&c, &x, &w, &end, work, y);
    assert_memory_equal(want, y, sizeof y);
    qt_free((void *)x.zero), x.zero = NULL;
    assert_true(qt_iconv_suits(&c, &x, &w));
    x.inner = 7, x.count = 2;
    assert_false(qt_iconv_suits(&c, &x, &w));
    qt_free(work), codes_free(&x), codes_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_strides),  cmocka_unit_test(test_depthwise),
                                       cmocka_unit_test(test_resnet), cmocka_unit_test(test_extremes), cmocka_unit_test(test_epilogue),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
