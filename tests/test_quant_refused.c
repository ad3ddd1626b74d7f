/* What quantizers refuse: configurations, tensors of another shape than their site's, numbers that are none, evaluation before training; and that
 * a gradient is the same whether it is the first that a result gets or is added to one. */
#include "quants_util.h"

static int clear(void **state) { return (void)state, qt_error_clear(), 0; }

/* ---- configurations ---------------------------------------------------------------------------------------------------------------------- */

static void test_configurations(void **state)
{
    static const struct {
        qt_role     role;
        const char *spec, *want;
    } cases[] = {
        {W, "{use: shiftq, axis: 2}", "fc1.weight:1:1: fc1.weight: quant shiftq: axis 2 does not exist, the tensor has rank 2"},
        {W, "{use: shiftq, axis: -3}", "axis -3 does not exist, the tensor has rank 2"},
        {W, "{use: dorefa, num_bits: 2, signs: true}", "signs takes num_bits: 1, found 2"},
        {W, "{use: fixed, num_bits: 1}", "signed words need num_bits of at least 2"},
        {W, "{use: lsq_plus, num_bits: 1}", "signed codes need num_bits of at least 2"},
        {A, "{use: lsq_plus, num_bits: [4, 1], signed: true}", "signed codes need num_bits of at least 2"},
        {W, "{use: lsq, num_bits: []}", "num_bits: expected at least one number of bits"},
        {W, "{use: lsq, num_bits: [4, 4]}", "num_bits: "},
        {W, "{use: lsq, num_bits: [2, 4]}", "num_bits: "},
        {W, "{use: elastic, num_bits: [9, 4]}", "num_bits"},
        {W, "{use: double_rounding, bits: [17, 4]}", "bits"},
        {W, "{use: uniform, granularity: group, group_size: 0}", "group_size"},
        {W, "{use: int_group, group_size: 7}", "group_size 7 does not divide a row of 32"},
        {W, "{use: lsq, granularity: channel, axis: [3]}", "axis 3 does not exist"},
        {W, "{use: ggml, type: Q1_0}", "32"},
        {W, "{use: ggml, type: F32}", "type"},
        {A, "{use: q8_k}", "32"},
    };
    const qt_tensor like = {.rank = 2, .dim = {24, 32}, .n = N};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qt_store *s = qt_store_new(1);
        if (qt_site_new(s, "fc1.weight", cases[i].role, cases[i].spec, &like)) fail_msg("%s: not refused", cases[i].spec);
        if (!strstr(qt_error_text(), cases[i].want)) fail_msg("%s: said '%s', expected '%s'", cases[i].spec, qt_error_text(), cases[i].want);
        qt_error_clear();
        qt_store_free(s);
    }
}

/* ---- tensors ----------------------------------------------------------------------------------------------------------------------------- */

static void test_other_shapes(void **state)
{
    static const struct {
        qt_role     role;
        const char *spec, *want;
    } cases[] = {
        {W, "{use: aqt, granularity: channel, bound: max}", "q: the tensor has 12 channels, the site 24 bounds"},
        {W, "{use: elastic, granularity: channel}", "q: the tensor has 12 channels, the site 24"},
        {W, "{use: fixed, granularity: channel}", "q: the tensor has 12 channels, the site 24 binary points"},
        {W, "{use: kmeans, granularity: channel}", "q: the tensor has 12 channels, the site 24 scales"},
        {W, "{use: lsq, granularity: channel}", "q: the tensor has 12 channels, the site 24 steps"},
        {A, "{use: lsq_plus, granularity: channel}", "q: the tensor has 20 channels, the site 32 steps"},
        {A, "{use: uniform, granularity: channel}", "q: the tensor has 20 scales, the site 32"},
        {W, "{use: double_rounding, granularity: channel}", "q: the tensor has 12 channels, the site 24 steps"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rig              r = rig_new(cases[i].role, cases[i].spec, 2, DIM);
        const qt_tensor *y = qt_quantize(r.tape, r.site, qt_variable(r.tape, 2, (int64_t[]){12, 20}));
        assert_int_equal(qt_tape_error(r.tape), QT_ESHAPE);
        assert_int_equal(y->rank, 0);
        if (!strstr(qt_error_text(), cases[i].want)) fail_msg("%s: said '%s', expected '%s'", cases[i].spec, qt_error_text(), cases[i].want);
        qt_error_clear();
        rig_free(&r);
    }
}

/* Neither a NaN nor an infinity has a code, and no scale fits it: encoding says so and names the site. Nor a number so large that a scale in floats overflows. Where the
 * mean of a channel is taken off first, none of its numbers is one, from element 64 on. */
static void test_no_number(void **state)
{
    const R     bad[] = {(R)NAN, (R)INFINITY, -(R)INFINITY, (R)3e38};
    const char *want[] = {"q: element 77 is not a number", "q: element 77 is infinite", "q: element 77 is infinite", "q: "};
    R          *x = sample(1), *back = normal(N, 3);
    (void)state;
    FOR_CONFIGS(i)
        for (int v = 0; v < 4 && configs[i].levels; v++) {
            rig      r = rig_new(configs[i].role, configs[i].spec, 2, dim_of(i));
            qt_arena a = {0};
            qt_codes c;
            rig_run(&r, 2, dim_of(i), x, NULL);
            r.x->data[77] = bad[v], r.x->data[78] = v == 3 ? -bad[v] : 1;
            qt_err e = r.site->quant->encode(r.site, r.x, &a, &c);
            if (v < 3 ? e != QT_EDATA : e != QT_OK && e != QT_EDATA) fail_msg("%s: %g gave code %d", configs[i].spec, (double)bad[v], (int)e);
            const char *said = qt_error_text();
            if (e != QT_OK && !strstr(said, want[v]) && !strstr(said, "q: element 64 is ")) fail_msg("%s: said '%s'", configs[i].spec, said);
            if (e == QT_OK) qt_codes_decode(&c, back);
            for (int k = 0; e == QT_OK && k < N; k++)
                if (!isfinite(back[k])) fail_msg("%s: beside %g number %d is %g", configs[i].spec, (double)bad[v], k, (double)back[k]);
            qt_error_clear();
            qt_arena_free(&a), rig_free(&r);
        }
    qt_free(x), qt_free(back);
}


/* ---- evaluation before training ---------------------------------------------------------------------------------------------------------- */

static void test_not_known_yet(void **state)
{
    static const char *const specs[] = {"{use: double_rounding}", "{use: elastic}", "{use: elastic, symmetry: asymmetric}", "{use: lsq, num_bits: [4, 2]}",
                                        "{use: aqt, bound: max, granularity: tensor}"};
    (void)state;
    for (int i = 0; i < 5; i++) {
        rig r = rig_new(A, specs[i], 2, DIM);
        qt_tape_mode(r.tape, false, false);
        qt_quantize(r.tape, r.site, qt_input(r.tape, 2, DIM));
        assert_int_equal(qt_tape_error(r.tape), QT_EUSAGE);
        if (!strstr(qt_error_text(), "not known yet; train or calibrate before evaluating")) fail_msg("%s: said '%s'", specs[i], qt_error_text());
        qt_error_clear();
        rig_free(&r);
    }
}

/* ---- gradients --------------------------------------------------------------------------------------------------------------------------- */

/* dx of x = 2v, which the quantizer is the first to write, is that of a variable, which it adds to. */
static void test_first_gradient(void **state)
{
    R *x = sample(4), *dy = normal(N, 5), *half = normal(N, 0);
    (void)state;
    for (int k = 0; k < N; k++) half[k] = x[k] / 2;
    FOR_CONFIGS(i) {
        rig added = rig_new(configs[i].role, configs[i].spec, 2, dim_of(i)), first = rig_new(configs[i].role, configs[i].spec, 2, dim_of(i));
        rig_run(&added, 2, dim_of(i), x, dy);
        qt_tensor *v = qt_variable(first.tape, 2, dim_of(i));
        memcpy(v->data, half, N * sizeof *half);
        qt_tensor *y = qt_quantize(first.tape, first.site, qt_scale(first.tape, v, 2));
        if (qt_tape_error(first.tape)) fail_msg("%s: %s", configs[i].spec, qt_error_text());
        assert_int_equal(qt_backward_from(first.tape, y, dy), QT_OK);
        for (int k = 0; k < N; k++)
            if (v->grad[k] != 2 * added.x->grad[k]) fail_msg("%s: gradient %d is %g, expected %g", configs[i].spec, k, (double)v->grad[k] / 2, (double)added.x->grad[k]);
        rig_free(&added), rig_free(&first);
    }
    qt_free(x), qt_free(dy), qt_free(half);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_configurations, clear), cmocka_unit_test_setup(test_other_shapes, clear), cmocka_unit_test_setup(test_no_number, clear),
        cmocka_unit_test_setup(test_not_known_yet, clear), cmocka_unit_test_setup(test_first_gradient, clear),
    };
    return cmocka_run_group_tests_name("quant_refused", tests, NULL, NULL);
}
