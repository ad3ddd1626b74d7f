/* Binarizers: values and gradients by an independent program (golden/binarizers.py), how near surrogate gradients come to the true one of a steep
 * tanh, and the packed kernels: layers of signs give the bits of the float path on operands -1 and 1, and those of plain integer loops with any scale. */
#include "kernels/iconv.h"
#include "kernels/igemm.h"
#include "kernels/xnor.h"
#include "ops/ops.h"
#include "qat/sign.h"
#include "quants_util.h"

#include "golden/binarizers.h"

#ifdef QT_DOUBLE
#define EPS 1e-11
#else
#define EPS 4e-6
#endif

static void near(const char *what, const R *got, const double *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= EPS * (1 + fabs(want[i])))) fail_msg("%s [%lld]: %.9g, not %.9g", what, (long long)i, (double)got[i], want[i]);
}

static void test_golden(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        rig     r = rig_new(golden[i].role, golden[i].spec, golden[i].rank, golden[i].dim);
        int64_t n = 1;
        for (int k = 0; k < golden[i].rank; k++) n *= golden[i].dim[k];
        R *x = qt_alloc((size_t)n * sizeof *x), *dy = qt_alloc((size_t)n * sizeof *dy);
        for (int64_t k = 0; k < n; k++) x[k] = (R)golden[i].x[k], dy[k] = (R)golden[i].dy[k];
        r.site->epoch = golden[i].epoch, r.site->epochs = golden[i].epochs;
        for (int k = 0; k < golden[i].params; k++)
            for (int64_t j = 0; j < r.site->p[k]->n; j++) r.site->p[k]->data[j] = (R)golden[i].p[k][j];
        rig_run(&r, golden[i].rank, golden[i].dim, x, dy);
        near(golden[i].spec, r.y->data, golden[i].y, n), near(golden[i].spec, r.x->grad, golden[i].dx, n);
        for (int k = 0; k < golden[i].params; k++) near(golden[i].spec, r.site->p[k]->grad, golden[i].dp[k], r.site->p[k]->n);
        qt_free(x), qt_free(dy), rig_free(&r);
    }
}

/* The noise adaptation and the deviation of samples are of training only. */
static void test_evaluation(void **state)
{
    (void)state;
    R *x = normal(N, 3);
    for (int i = 0; i < 2; i++) {
        rig r = rig_new(A, i ? "recu" : "fda", 2, DIM);
        r.site->epoch = 0, r.site->epochs = 3;
        qt_tape_mode(r.tape, false, false);
        rig_run(&r, 2, DIM, x, NULL);
        for (int k = 0; k < N; k++) assert_true(r.y->data[k] == (x[k] < 0 ? -1 : 1));
        assert_true(r.y->codes && r.y->codes->binary);
        qt_tape_mode(r.tape, true, true);
        rig_run(&r, 2, DIM, x, NULL);
        assert_int_equal(r.y->codes != NULL, i); /* noise is no code */
        rig_free(&r);
    }
    qt_free(x);
}

static void test_not_a_number(void **state)
{
    (void)state;
    R x[N];
    for (int k = 0; k < N; k++) x[k] = 1;
    x[5] = (R)NAN;
    rig r = rig_new(A, "bnn", 2, DIM);
    rig_run(&r, 2, DIM, x, NULL);
    assert_true(isnan(r.y->data[5]) && isnan(r.y->codes->scale[0]) && r.y->data[4] == 1);
    rig_free(&r);
}

/* ---- surrogates --------------------------------------------------------------------------------------------------------------------- */

/* Derivative of tanh(5x) against that of a surrogate, both times the same g: cosine over 1e5 normal x and g. */
static void test_cosines(void **state)
{
    enum { MANY = 100000 };
    static R   x[MANY], d[MANY], truth[MANY];
    const struct { qt_surrogate kind; double cosine; } want[] = {{QT_STE, .585}, {QT_POLY, .829}};
    qt_rng     r = qt_rng_named(1, "cosines");
    (void)state;
    for (int i = 0; i < MANY; i++) x[i] = (R)qt_rng_normal(&r);
    qt_surrogate_slopes(QT_TANH, 0, 5, truth, x, MANY);
    for (int k = 0; k < 2; k++) {
        double dot = 0, a = 0, b = 0;
        qt_rng g = qt_rng_named(2, "cosines");
        qt_surrogate_slopes(want[k].kind, 0, 0, d, x, MANY);
        for (int i = 0; i < MANY; i++) {
            double gg = qt_rng_normal(&g), u = gg * (double)d[i], v = gg * (double)truth[i];
            dot += u * v, a += u * u, b += v * v;
        }
        if (!(fabs(dot / sqrt(a * b) - want[k].cosine) <= .01)) fail_msg("surrogate %d: cosine %g", (int)want[k].kind, dot / sqrt(a * b));
    }
}

/* Every surrogate has the area of the sign's jump, 2, or nearly (STE, poly: exactly; the identity has none). */
static void test_areas(void **state)
{
    enum { STEPS = 40000 };
    (void)state;
    for (int kind = QT_STE; kind <= QT_FDA; kind++) {
        double area = 0;
        for (int i = 0; i < STEPS; i++) {
            R x = (R)(4 * (i + 0.5) / STEPS - 2), d;
            qt_surrogate_slopes((qt_surrogate)kind, 10, 0, &d, &x, 1);
            area += 4 * (double)d / STEPS;
        }
        if (kind == QT_FDA) assert_true(area > 1.2 && area < 2.4);
        else assert_true(fabs(area - 2) < 1e-3);
    }
}

/* ---- layers of signs ---------------------------------------------------------------------------------------------------------------- */

static const struct {
    int64_t N, C, H, W, O, KH, KW;
    int     stride, padding, dilation, groups;
} convs[] = {
    {2, 32, 14, 14, 32, 3, 3, 1, 1, 1, 1}, {3, 64, 7, 7, 64, 3, 3, 1, 1, 1, 1}, {1, 5, 6, 9, 7, 3, 3, 1, 1, 1, 1}, {2, 13, 8, 8, 9, 3, 5, 2, 2, 1, 1},
    {1, 100, 5, 5, 3, 1, 1, 1, 0, 1, 1},   {2, 6, 9, 7, 4, 3, 3, 1, 2, 2, 2},   {1, 24, 10, 10, 8, 2, 2, 2, 0, 1, 4}, {1, 4, 5, 5, 4, 3, 3, 1, 1, 1, 4},
    {1, 3, 1, 1, 2, 3, 3, 1, 1, 1, 1},     {1, 9, 3, 40, 5, 3, 3, 1, 3, 3, 1},  {1, 1, 4, 4, 1, 1, 1, 3, 0, 1, 1},    {2, 8, 40, 33, 70, 3, 3, 1, 1, 1, 1},
};
enum { CONVS = sizeof convs / sizeof *convs };

/* The layer on x and w as sites of `spec` give them; simulate: in float. */
static qt_tensor *convolve(qt_tape *t, int i, bool simulate, qt_site *qx, qt_site *qw, const R *x, const R *w)
{
    qt_tape_reset(t);
    qt_tape_mode(t, false, false), qt_tape_simulate(t, simulate);
    qt_tensor *tx = qt_input(t, 4, (int64_t[]){convs[i].N, convs[i].C, convs[i].H, convs[i].W});
    qt_tensor *tw = qt_input(t, 4, (int64_t[]){convs[i].O, convs[i].C / convs[i].groups, convs[i].KH, convs[i].KW});
    memcpy(tx->data, x, (size_t)tx->n * sizeof *x), memcpy(tw->data, w, (size_t)tw->n * sizeof *w);
    tx = qt_quantize(t, qx, tx), tw = qt_quantize(t, qw, tw);
    assert_true(simulate ? !tx->codes : tx->codes->binary && tw->codes->binary);
    qt_tensor *y = qt_conv2d(t, tx, tw, NULL, convs[i].stride, convs[i].padding, convs[i].dilation, convs[i].groups);
    if (qt_tape_error(t)) fail_msg("%s", qt_error_text());
    return y;
}

/* Sites for the shapes of case i. */
static void conv_sites(int i, const char *spec, rig *x, rig *w)
{
    *x = rig_new(A, spec, 4, (int64_t[]){convs[i].N, convs[i].C, convs[i].H, convs[i].W});
    *w = rig_new(W, spec, 4, (int64_t[]){convs[i].O, convs[i].C / convs[i].groups, convs[i].KH, convs[i].KW});
}

/* Operands -1 and 1: packed or in float, the same bits, at the border too, on every path and for any number of threads. */
static void test_conv_as_float(void **state)
{
    (void)state;
    R *x = normal(100000, 1), *w = normal(100000, 2);
    for (int i = 0; i < CONVS; i++) {
        rig rx, rw;
        conv_sites(i, "bnn", &rx, &rw);
        qt_tensor *y = convolve(rx.tape, i, true, rx.site, rw.site, x, w);
        for (int p = 0; qt_xnor_path_at(p); p++)
            for (int threads = 1; threads <= 2; threads++) {
                if (!qt_xnor_has(qt_xnor_path_at(p))) continue;
                qt_set_threads(threads), qt_xnor_force(qt_xnor_path_at(p));
                qt_tensor *z = convolve(rw.tape, i, false, rx.site, rw.site, x, w);
                for (int64_t k = 0; k < y->n; k++)
                    if (memcmp(&y->data[k], &z->data[k], sizeof *x))
                        fail_msg("convolution %d, %s, element %lld: %g, in float %g", i, qt_xnor_name(qt_xnor_path_at(p)), (long long)k,
                                 (double)z->data[k], (double)y->data[k]);
            }
        rig_free(&rx), rig_free(&rw);
    }
    qt_set_threads(0), qt_xnor_force(NULL);
    qt_free(x), qt_free(w);
}

/* A scale for each image and each output channel, batch norm's map and relu: the bits of the plain loops. */
static void test_conv_scales(void **state)
{
    (void)state;
    R *x = normal(100000, 4), *w = normal(100000, 5), *b = normal(100, 6), *mul = normal(100, 7), *add = normal(100, 8);
    for (int i = 0; i < CONVS; i++) {
        rig rx, rw;
        conv_sites(i, "xnor", &rx, &rw);
        qt_tensor *y = convolve(rx.tape, i, false, rx.site, rw.site, x, w);
        const qt_node *nd = &rx.tape->node[rx.tape->n - 1];
        qt_conv c = {convs[i].N, convs[i].C, convs[i].H, convs[i].W, convs[i].O, convs[i].KH, convs[i].KW, convs[i].stride, convs[i].padding,
                     convs[i].dilation, convs[i].groups, y->dim[2], y->dim[3]};
        qt_iend end = {b, mul, add, i % 2};
        const qt_icodes *xc = nd->in[0]->codes, *wc = nd->in[1]->codes;
        R    *want = qt_alloc((size_t)y->n * sizeof *want), *got = qt_alloc((size_t)y->n * sizeof *got);
        void *work = qt_alloc(qt_xnor_conv_work(&c));
        assert_true(qt_xnor_suits(xc, wc) && qt_iconv_suits(&c, xc, wc) && xc->count == c.N && wc->count == c.O);
        qt_iconv_naive(&c, xc, wc, &end, want), qt_xnor_conv(&c, xc, wc, &end, work, got);
        assert_memory_equal(want, got, (size_t)y->n * sizeof *want);
        qt_free(want), qt_free(got), qt_free(work), rig_free(&rx), rig_free(&rw);
    }
    qt_free(x), qt_free(w), qt_free(b), qt_free(mul), qt_free(add);
}

static qt_tensor *multiply(qt_tape *t, bool simulate, qt_site *qx, qt_site *qw, int64_t M, int64_t N_, int64_t K, const R *x, const R *w)
{
    qt_tape_reset(t);
    qt_tape_mode(t, false, false), qt_tape_simulate(t, simulate);
    qt_tensor *tx = qt_input(t, 2, (int64_t[]){M, K}), *tw = qt_input(t, 2, (int64_t[]){N_, K});
    memcpy(tx->data, x, (size_t)tx->n * sizeof *x), memcpy(tw->data, w, (size_t)tw->n * sizeof *w);
    return qt_linear(t, qt_quantize(t, qx, tx), qt_quantize(t, qw, tw), NULL);
}

static void test_linear(void **state)
{
    static const int64_t sizes[][3] = {{3, 5, 4}, {1, 64, 512}, {9, 70, 65}, {64, 300, 1000}, {2, 8, 128}, {5, 1, 63}};
    (void)state;
    R *x = normal(300000, 9), *w = normal(300000, 10);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t    M = sizes[i][0], O = sizes[i][1], K = sizes[i][2];
        rig        rx = rig_new(A, "bnn", 2, (int64_t[]){M, K}), rw = rig_new(W, "bnn", 2, (int64_t[]){O, K});
        qt_tensor *y = multiply(rx.tape, true, rx.site, rw.site, M, O, K, x, w);
        for (int threads = 1; threads <= 2; threads++) {
            qt_set_threads(threads);
            qt_tensor *z = multiply(rw.tape, false, rx.site, rw.site, M, O, K, x, w);
            assert_memory_equal(y->data, z->data, (size_t)y->n * sizeof *x);
        }
        rig_free(&rx), rig_free(&rw);
        rx = rig_new(A, "xnor", 2, (int64_t[]){M, K}), rw = rig_new(W, "xnor", 2, (int64_t[]){O, K}); /* scales of rows */
        y = multiply(rx.tape, false, rx.site, rw.site, M, O, K, x, w);
        const qt_node *nd = &rx.tape->node[rx.tape->n - 1];
        R             *want = qt_alloc((size_t)y->n * sizeof *want);
        qt_iend        end = {NULL};
        assert_true(qt_xnor_linear_suits(K, nd->in[0]->codes, nd->in[1]->codes) && nd->in[0]->codes->count == M);
        qt_ilinear_naive(M, O, K, nd->in[0]->codes, nd->in[1]->codes, &end, want);
        assert_memory_equal(want, y->data, (size_t)y->n * sizeof *want);
        qt_free(want), rig_free(&rx), rig_free(&rw);
    }
    qt_set_threads(0);
    qt_free(x), qt_free(w);
}

/* A bit a weight: 1/32 of single precision. */
static void test_size(void **state)
{
    (void)state;
    for (int64_t K = 64; K <= 4608; K += 64) assert_int_equal(32 * 8 * qt_xnor_words(K), 4 * K);
    assert_int_equal(qt_xnor_panel_words(64, 576) * 8 * 32, 64 * 576 * 4);
}

static void test_standardize(void **state)
{
    (void)state;
    for (const qt_case *c = qt_quant_recu.op->cases; c->name; c++) {
        qt_gradcheck_result g;
        assert_int_equal(qt_gradcheck(qt_quant_recu.op, c, 1, &g), QT_OK);
        assert_true(sizeof(R) == 4 || g.worst <= qt_gradcheck_bound());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),        cmocka_unit_test(test_evaluation), cmocka_unit_test(test_not_a_number), cmocka_unit_test(test_cosines),
        cmocka_unit_test(test_areas),         cmocka_unit_test(test_conv_as_float), cmocka_unit_test(test_conv_scales), cmocka_unit_test(test_linear),
        cmocka_unit_test(test_size),          cmocka_unit_test(test_standardize),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
