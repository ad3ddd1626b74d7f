/* Numerical safety of all quantizers: tensors of nothing but zeros, channels that are dead, learned steps that an optimizer has pushed to zero or
 * below. Whatever comes in that is finite gives finite numbers, finite gradients and a scale that is positive. */
#include "quants_util.h"

static int clear(void **state)
{
    (void)state;
    qt_error_clear();
    return 0;
}

static void all_finite(const char *spec, const char *what, const R *v, int64_t n)
{
    for (int64_t i = 0; v && i < n; i++)
        if (!isfinite(v[i])) fail_msg("%s: number %lld of %s is %g", spec, (long long)i, what, (double)v[i]);
}

/* One pass, forward and back, and all that it leaves behind. */
static void pass(rig *r, int i, const R *x, const R *dy)
{
    rig_run(r, 2, dim_of(i), x, dy);
    all_finite(configs[i].spec, "the result", r->y->data, N);
    all_finite(configs[i].spec, "the gradient", r->x->grad, N);
    for (int k = 0; k < QT_SITE_PARAMS; k++)
        if (r->site->p[k])
            all_finite(configs[i].spec, r->site->p[k]->name, r->site->p[k]->data, r->site->p[k]->n),
                all_finite(configs[i].spec, r->site->p[k]->name, r->site->p[k]->grad, r->site->p[k]->n);
}

/* The integers of the last pass have scales that are positive; those of some types of ggml carry a sign. Where a scale is a magnitude that nothing is
 * divided by, that of zeros may be 0. */
static void encoded(rig *r, int i)
{
    qt_arena a = {0};
    qt_codes c = {0};
    if (!configs[i].levels) return;
    if (r->site->quant->encode(r->site, r->x, &a, &c)) fail_msg("%s: %s", configs[i].spec, qt_error_text());
    for (int64_t n = 0; n < c.n; n++) {
        const int64_t k = n / c.layout.inner % c.layout.count;
        const double  s = is(r->site, "ggml") || is(r->site, "q8_k") ? fabs((double)c.scale[k]) : (double)c.scale[k];
        if (!isfinite(s) || !(s > 0 || (s == 0 && r->x->data[n] == 0 && r->y->data[n] == 0)))
            fail_msg("%s: scale %lld is %g", configs[i].spec, (long long)k, (double)c.scale[k]);
    }
    qt_arena_free(&a);
}

/* Zeros are what it starts with; a batch that is alive comes later. */
static void test_zeros(void **state)
{
    (void)state;
    R *zero = normal(N, 1), *x = normal(N, 2), *dy = normal(N, 3);
    memset(zero, 0, N * sizeof *zero);
    FOR_CONFIGS(i) {
        rig r = rig_new(configs[i].role, configs[i].spec, 2, dim_of(i));
        pass(&r, i, zero, dy), encoded(&r, i);
        for (int k = 0; r.site->quant->zero_to_zero && k < N; k++) assert_true(r.y->data[k] == 0);
        pass(&r, i, zero, NULL), encoded(&r, i);
        pass(&r, i, x, dy), encoded(&r, i);
        qt_tape_mode(r.tape, false, false);
        pass(&r, i, zero, NULL), encoded(&r, i);
        rig_free(&r);
    }
    qt_free(zero), qt_free(x), qt_free(dy);
}

/* Rows are the channels of weights, columns those of activations; of both the first, the last and one between are zero, and their gradient too. */
static void test_dead_channels(void **state)
{
    (void)state;
    FOR_CONFIGS(i) {
        const int64_t rows = dim_of(i)[0], cols = dim_of(i)[1];
        R            *x = normal(N, 4), *dy = normal(N, 5);
        for (int64_t m = 0; m < rows; m++)
            for (int64_t n = 0; n < cols; n++)
                if (m == 0 || m == 2 || m == rows - 1 || n == 0 || n == 5 || n == cols - 1) x[m * cols + n] = dy[m * cols + n] = 0;
        rig r = rig_new(configs[i].role, configs[i].spec, 2, dim_of(i));
        for (int step = 0; step < 3; step++) {
            pass(&r, i, x, dy), encoded(&r, i);
            if (r.site->quant->after_step) r.site->quant->after_step(r.site, step);
        }
        qt_tape_mode(r.tape, false, false);
        pass(&r, i, x, NULL), encoded(&r, i);
        rig_free(&r), qt_free(x), qt_free(dy);
    }
}

/* What is learned is set to where an optimizer might take it. */
static void test_steps_stay_positive(void **state)
{
    static const double to[] = {0, -0.0, -0.25, -1e-30, 1e-30};
    (void)state;
    R *x = normal(N, 6), *dy = normal(N, 7);
    FOR_CONFIGS(i)
        for (int v = 0; v < 5; v++) {
            rig r = rig_new(configs[i].role, configs[i].spec, 2, dim_of(i));
            pass(&r, i, x, dy);
            if (r.site->quant->after_step) {
                for (int k = 0; k < QT_SITE_PARAMS; k++)
                    for (int64_t n = 0; r.site->p[k] && r.site->p[k]->grad && n < r.site->p[k]->n; n++) r.site->p[k]->data[n] = (R)to[v];
                r.site->quant->after_step(r.site, 1);
                pass(&r, i, x, dy), encoded(&r, i);
            }
            rig_free(&r);
        }
    qt_free(x), qt_free(dy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_zeros, clear), cmocka_unit_test_setup(test_dead_channels, clear),
                                       cmocka_unit_test_setup(test_steps_stay_positive, clear)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
