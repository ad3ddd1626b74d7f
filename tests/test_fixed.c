/* Fixed point: the quantizer against golden values (golden/fixed.py) and against a difference quotient, where its binary point begins and how it is
 * held, rules for any tensor of a model, and the integer interpreter against the training graph. */
#include "export/fixed_point.h"
#include "golden/fixed.h"
#include "quants_util.h"
#include <math.h>

/* ---- the quantizer ----------------------------------------------------------------------------------------------------------------------- */

static void hold(rig *r, double point)
{
    param(r, "point")->data[0] = (R)point, param(r, "initialized")->data[0] = 1;
}

static void test_golden(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof golden / sizeof *golden; k++) {
        const int64_t n = golden[k].n;
        R             x[MOST], dy[MOST];
        qt_arena      a = {0};
        qt_codes      c;
        rig           r = rig_new(A, golden[k].spec, 1, &n);
        hold(&r, golden[k].point + 0.3);
        for (int i = 0; i < n; i++) x[i] = (R)golden[k].x[i], dy[i] = (R)golden[k].dy[i];
        rig_run(&r, 1, &n, x, dy);
        assert_int_equal(r.site->quant->encode(r.site, r.x, &a, &c), QT_OK);
        for (int i = 0; i < n; i++) {
            if ((double)r.y->data[i] != golden[k].y[i]) fail_msg("%s: y[%d] is %g, expected %g", golden[k].spec, i, (double)r.y->data[i], golden[k].y[i]);
            assert_int_equal(c.code[i], golden[k].code[i]);
            assert_true((double)r.x->grad[i] == golden[k].dx[i]);
        }
        const double d = (double)param(&r, "point")->grad[0];
        if (!(fabs(d - golden[k].dpoint) <= 1e-5 * (1 + fabs(golden[k].dpoint)))) fail_msg("%s: dF %g, expected %g", golden[k].spec, d, golden[k].dpoint);
        qt_arena_free(&a), rig_free(&r);
    }
}

/* y of F with the rest that rounding adds, or the side of the clamp, held as they are at F0. */
static double frozen(double x, double F, double F0, double n, double p)
{
    const double u0 = x * exp2(F0), i = floor(u0 + 0.5), s = exp2(-F);
    return i < n ? n * s : i > p ? p * s : (x / s + i - u0) * s;
}

static void test_gradient(void **state)
{
    (void)state;
    const double h = 1e-6;
    R           *x = normal(N, 1), *dy = normal(N, 2);
    double       dF = 0;
    rig          r = rig_new(W, "{use: fixed, num_bits: 3, grad_scale: none}", 2, DIM);
    hold(&r, 1);
    rig_run(&r, 2, DIM, x, dy);
    for (int i = 0; i < N; i++) dF += (double)dy[i] * (frozen((double)x[i], 1 + h, 1, -4, 3) - frozen((double)x[i], 1 - h, 1, -4, 3)) / (2 * h);
    assert_true(fabs((double)param(&r, "point")->grad[0] - dF) < 1e-4 * (1 + fabs(dF)));
    rig_free(&r);
    r = rig_new(W, "{use: fixed, num_bits: 3}", 2, DIM); /* the factor 1/sqrt(N p) */
    hold(&r, 1);
    rig_run(&r, 2, DIM, x, dy);
    assert_true(fabs((double)param(&r, "point")->grad[0] - dF / sqrt(N * 3.0)) < 1e-4 * (1 + fabs(dF)));
    rig_free(&r);
    qt_free(x), qt_free(dy);
}

/* Numbers far outside wrap as integers do, in float as in the interpreter's shifts. */
static void test_wrap(void **state)
{
    (void)state;
    const int64_t four = 4;
    rig           r = rig_new(A, "{use: fixed, num_bits: 4, overflow: wrap}", 1, &four), s = rig_new(A, "{use: fixed, num_bits: 4}", 1, &four);
    hold(&r, 0), hold(&s, 0);
    rig_run(&r, 1, &four, (R[]){16777217 * 2.0, -9, 8, 4099}, NULL);
    rig_run(&s, 1, &four, (R[]){16777217 * 2.0, -9, 8, 4099}, NULL);
    const double sum = 2.0 * 16777217;
    assert_true((double)r.y->data[0] == (double)(((int64_t)(R)sum + 8) % 16 - 8));
    assert_true(r.y->data[1] == 7 && r.y->data[2] == -8 && r.y->data[3] == 3);
    assert_true(s.y->data[0] == 7 && s.y->data[1] == -8 && s.y->data[2] == 7 && s.y->data[3] == 7);
    rig_free(&r), rig_free(&s);
}

static double first_point(const char *spec, const R *x)
{
    rig r = rig_new(A, spec, 2, DIM);
    rig_run(&r, 2, DIM, x, NULL);
    const double f = (double)param(&r, "point")->data[0];
    assert_true((double)param(&r, "start")->data[0] == f && param(&r, "initialized")->data[0] == 1);
    rig_free(&r);
    return f;
}

static void test_start(void **state)
{
    (void)state;
    R *x = normal(N, 3);
    for (int i = 0; i < N; i++) x[i] = (R)((i % 7 - 3) * 0.5);
    x[0] = (R)2.9;
    assert_true(first_point("{use: fixed, num_bits: 8, init: max}", x) == 5);
    assert_true(first_point("{use: fixed, num_bits: 8, init: max, signed: false}", x) == 6);
    assert_true(first_point("{use: fixed, num_bits: 3, init: mse}", x) == 1); /* all but one number are there; f0 = 0 has half of them */
    x[0] = (R)5000;
    assert_true(first_point("{use: fixed, num_bits: 8, init: max}", x) == -6);
    for (int i = 0; i < N; i++) x[i] = i ? (R)7.5 : 9; /* with f = 1 a word is 15, and the largest 1-hot one 8: 4 for 7.5 */
    assert_true(first_point("{use: fixed, num_bits: 5, k_hot: 1}", x) == 1);
    assert_true(first_point("{use: fixed, num_bits: 5, k_hot: 1, init: mse_hot}", x) == 0);
    memset(x, 0, N * sizeof *x);
    assert_true(first_point("{use: fixed, num_bits: 8}", x) == 7);
    qt_free(x);
}

/* Once it is held, the point gets no gradient, and what the optimizer's momentum does to it is undone. */
static void test_hold(void **state)
{
    (void)state;
    R  *x = normal(N, 4);
    rig r = rig_new(W, "{use: fixed, num_bits: 4, freeze_at: 0.5}", 2, DIM);
    assert_true(r.site->freeze_at.set);
    hold(&r, 2.49);
    rig_run(&r, 2, DIM, x, x);
    assert_true(param(&r, "point")->grad[0] != 0 && (double)param(&r, "point")->data[0] == (double)(R)2.49);
    param(&r, "point")->grad[0] = 0;
    r.site->observing = false;
    rig_run(&r, 2, DIM, x, x);
    assert_true(param(&r, "point")->grad[0] == 0 && param(&r, "point")->data[0] == 2);
    param(&r, "point")->data[0] += (R)0.3;
    r.site->quant->after_step(r.site, 1);
    assert_true(param(&r, "point")->data[0] == 2);
    rig_free(&r);
    r = rig_new(W, "{use: fixed, num_bits: 4, learn: false}", 2, DIM);
    rig_run(&r, 2, DIM, x, x);
    assert_null(param(&r, "point")->grad);
    rig_free(&r);
    qt_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden), cmocka_unit_test(test_gradient), cmocka_unit_test(test_wrap), cmocka_unit_test(test_start),
        cmocka_unit_test(test_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
