/* Static bounds: running statistics, when a bound is set, frozen and renewed; the two roundings; and the cost of a model by its bits. */
#include "quants_util.h"
#include "qat/stats.h"
#include "train/train.h"

/* ---- statistics -------------------------------------------------------------------------------------------------------------- */

static void test_statistics(void **state)
{
    (void)state;
    const int64_t dim[3] = {2, 2, 3}; /* two channels of three numbers, of two samples */
    const R       first[12] = {1, 0, -3, 0, 0, 0, 2, 0, 0, 0, 0, 0}, second[12] = {5, 5, 5, 0, 4, 0, 5, 5, 5, 0, 0, 0};
    R             max[2] = {0}, min[2] = {0}, abs[2] = {0}, sq[2] = {0};
    qt_arena      a = {0};
    qt_stats      s = {max, min, abs, sq};
    qt_tape      *t = qt_tape_new();
    qt_tensor    *x = qt_variable(t, 3, dim);
    memcpy(x->data, first, sizeof first);
    assert_int_equal(qt_stats_update(&s, x, (qt_layout){3, 2}, 0.1, true, &a), QT_OK);
    assert_true(max[0] == 2 && min[0] == -3 && abs[0] == 2 && fabs((double)sq[0] - 14.0 / 3) < 1e-6);
    assert_true(max[1] == 0 && sq[1] == 0); /* zeros only: nothing seen */
    memcpy(x->data, second, sizeof second);
    assert_int_equal(qt_stats_update(&s, x, (qt_layout){3, 2}, 0.1, true, &a), QT_OK);
    assert_true(fabs((double)max[0] - 2.3) < 1e-6 && fabs((double)min[0] + 2.2) < 1e-6 && fabs((double)abs[0] - 2.3) < 1e-6);
    assert_true(max[1] == 4 && min[1] == 4 && abs[1] == 4 && sq[1] == 16); /* its first numbers */
    assert_int_equal(qt_stats_update(&s, x, (qt_layout){3, 2}, 1, false, &a), QT_OK);
    assert_true(max[1] == 4 && min[1] == 0 && fabs((double)abs[1] - 4.0 / 6) < 1e-6);
    qt_tape_free(t), qt_arena_free(&a);
}

/* ---- bounds over a training -------------------------------------------------------------------------------------------------------- */

static void step(rig *r, R scale)
{
    R x[N];
    for (int i = 0; i < N; i++) x[i] = scale * (R)(i + 1) / N;
    rig_run(r, 2, DIM, x, NULL);
}

static double bound(rig *r) { return (double)param(r, "bound")->data[0]; }

/* Floats until start_step, then the mean of the batches' maxima, for good. */
static void test_start_and_freeze(void **state)
{
    (void)state;
    rig r = rig_new(A, "{use: aqt, num_bits: 4, signed: false, granularity: tensor, bound: max, start_step: 2}", 2, DIM);
    step(&r, 1), assert_ptr_equal(r.x, r.y);
    step(&r, 2), assert_ptr_equal(r.x, r.y);
    qt_tape_mode(r.tape, false, false); /* an evaluation takes no batch in, and sees floats too */
    step(&r, 9), assert_ptr_equal(r.x, r.y);
    qt_tape_mode(r.tape, true, true);
    step(&r, 3), assert_ptr_not_equal(r.x, r.y);
    const double want = 0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 3;
    assert_true(fabs(bound(&r) - want) < 1e-6);
    assert_true(r.y->data[N - 1] == 15 * ((R)bound(&r) / 16)); /* clipped to the last cell */
    step(&r, 50);
    assert_true(fabs(bound(&r) - want) < 1e-6);
    rig_free(&r);
}

static void test_renewal(void **state)
{
    (void)state;
    rig    r = rig_new(A, "{use: aqt, signed: false, granularity: tensor, bound: max, start_step: 1, update_every: 2}", 2, DIM);
    double m = 1, want = 0;
    for (int i = 0; i < 6; i++) {
        step(&r, (R)(i + 1));
        if (i) m += 0.1 * (i + 1 - m);
        if (i == 1 || i == 3 || i == 5) want = m;
        if (i) assert_true(fabs(bound(&r) - want) < 1e-5);
    }
    rig_free(&r);
}

/* The other bounds, of one batch x = 1, 2, ... with E|x| and E x^2 known. */
static void test_kinds(void **state)
{
    static const char *const kind[] = {"bound: abs, coef: 3", "bound: rms, coef: 2", "bound: dev, coef: 1.5", "bound: fixed, value: 0.7"};
    double                   abs = 0, sq = 0;
    (void)state;
    for (int i = 1; i <= N; i++) abs += (double)i / N / N, sq += (double)i / N * i / N / N;
    const double want[] = {3 * abs, 2 * sqrt(sq), abs + 1.5 * sqrt(sq - abs * abs), 0.7};
    for (int k = 0; k < 4; k++) {
        char spec[128];
        snprintf(spec, sizeof spec, "{use: aqt, signed: false, granularity: tensor, %s}", kind[k]);
        rig r = rig_new(A, spec, 2, DIM);
        step(&r, 1);
        assert_true(fabs(bound(&r) - want[k]) < 1e-5);
        rig_free(&r);
    }
}

/* The lower edge of a cell costs the square of half a step more than its middle; weights are on a symmetric grid whose ends are the maxima. */
static void test_roundings(void **state)
{
    (void)state;
    R      x[N];
    double low = 0, mid = 0, bias = 0;
    for (int i = 0; i < N; i++) x[i] = ((R)i + (R)0.5) / N;
    rig f = rig_new(A, "{use: aqt, num_bits: 4, signed: false, granularity: tensor, bound: fixed, value: 1}", 2, DIM);
    rig_run(&f, 2, DIM, x, NULL);
    for (int i = 0; i < N; i++) {
        double d = (double)x[i] - (double)f.y->data[i];
        bias += d / N, low += d * d / N, mid += (d - 1.0 / 32) * (d - 1.0 / 32) / N;
    }
    assert_true(fabs(bias - 1.0 / 32) < 1e-4 && fabs(mid - 1.0 / 256 / 12) < 1e-5 && fabs(low - 4 * mid) < 1e-5);
    rig_free(&f);
    rig  w = rig_new(W, "{use: aqt, num_bits: 3}", 2, DIM);
    R   *z = normal(N, 3);
    rig_run(&w, 2, DIM, z, NULL);
    for (int k = 0; k < 24; k++) {
        double most = 0, got = 0;
        for (int i = 0; i < 32; i++) most = fmax(most, fabs((double)z[32 * k + i])), got = fmax(got, fabs((double)w.y->data[32 * k + i]));
        assert_true(fabs(most - got) < 1e-6 * most);
    }
    qt_free(z), rig_free(&w);
}

static void test_refused(void **state)
{
    qt_store *s = qt_store_new(1);
    qt_tensor like = {.rank = 2, .dim = {4, 4}, .n = 16};
    (void)state;
    assert_null(qt_site_new(s, "q", A, "{use: aqt, start_step: 3}", &like));
    assert_non_null(strstr(qt_error_text(), "q: quant aqt: start_step is for static bounds"));
    qt_error_clear();
    assert_null(qt_site_new(s, "q", A, "{use: aqt, num_bits: 1}", &like));
    qt_error_clear(), qt_store_free(s);
}

/* ---- cost ---------------------------------------------------------------------------------------------------------------------- */

/* conv 1 -> 2 on 8 x 8 with 3 x 3 taps: 2 * 64 * 9 multiply-adds; linear 128 -> 10: 1280. */
static void test_cost(void **state)
{
    static const struct { const char *quant; double quadratic, linear; } want[] = {
        {"", 1152 + 1280, 1152 + 1280},
        {"quant: [{match: conv, weights: {use: aqt, num_bits: 4}, activations: {use: aqt, num_bits: 4}}]", 1152 / 16.0 + 1280, 1152 / 4.0 + 1280},
        {"quant: [{match: \"*\", weights: {use: aqt, num_bits: 8}, activations: {use: aqt, num_bits: 8}}]", 2432 / 4.0, 2432 / 2.0},
        {"quant: [{match: \"*\", weights: {use: aqt, num_bits: 2}}]", 2432 * 2 / 16.0, 2432},
        {"quant: [{match: \"*\", weights: {use: aqt, num_bits: 3}, activations: {use: aqt, num_bits: 5}}]", 2432 * 15 / 256.0, 2432 / 2.0},
    };
    (void)state;
    for (int i = 0; i < 5; i++) {
        char      text[512];
        qt_arena  a = {0};
        qt_yaml  *y;
        qt_model *m;
        qt_store *s = qt_store_new(1);
        snprintf(text, sizeof text, "model: [{use: conv2d, out: 2, kernel: 3, padding: 1, name: conv}, flatten, {use: linear, out: 10}]\n%s\n", want[i].quant);
        assert_int_equal(qt_yaml_parse(&a, text, strlen(text), "t", &y), QT_OK);
        assert_int_equal(qt_model_build(&a, s, qt_yaml_get(y, "model"), qt_yaml_get(y, "quant"), (qt_shape){3, {1, 8, 8}}, 10, &m), QT_OK);
        qt_cost c = qt_model_cost(m);
        assert_true(c.macs == 2432 && c.quadratic == want[i].quadratic && c.linear == want[i].linear);
        qt_store_free(s), qt_arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statistics), cmocka_unit_test(test_start_and_freeze), cmocka_unit_test(test_renewal), cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_roundings),  cmocka_unit_test(test_refused),          cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
