/* A learned step that keeps codes and rounding residuals for backward, instead of its input: the result and dx have the bits they had, ds is right
 * on average with the variance that theory gives. Whole runs, and bytes, are in test_codec.c. */
#include "quants_util.h"
#include <math.h>

static const int BITS[] = {2, 4, 8};
static const int64_t ODD[2] = {3, 331}; /* blocks are cut off, and rows begin inside them */
enum { MANY = 3 * 331 };

typedef struct result {
    R     *y, *dx;
    double ds;
} result;

/* One step with this spec, whose steps are s. */
static result step(rig *r, const R *s, const R *x, const R *dy)
{
    qt_tensor *scale = param(r, "scale");
    memcpy(scale->data, s, (size_t)scale->n * sizeof *s);
    param(r, "initialized")->data[0] = 1;
    qt_store_zero_grad(r->store);
    rig_run(r, 2, ODD, x, dy);
    return (result){r->y->data, r->x->grad, (double)scale->grad[0]};
}

static rig residual_rig(const char *more, int bits)
{
    char spec[128];
    snprintf(spec, sizeof spec, "{use: lsq, num_bits: 3, grad_scale: none, residual_bits: %d%s}", bits, more);
    return rig_new(A, spec, 2, ODD);
}

/* Codes at both ends, numbers between u = n and the first bound of rounding, and beyond. */
static R *input(R s)
{
    static const double u[] = {-4, -3.9, -4.1, -3.5, -3.49, 3, 2.9, 3.1, 2.5, 2.51, 0, -0.5, 0.5, 100, -100, 1.5};
    R                  *x = normal(MANY, 11);
    for (size_t i = 0; i < sizeof u / sizeof *u; i++) x[i] = (R)u[i] * s;
    return x;
}

static void test_exact_parts(void **state)
{
    static const R s[1] = {(R)0.25};
    R             *x = input(s[0]), *dy = normal(MANY, 12);
    (void)state;
    for (int k = 0; k < 3; k++) {
        rig    plain = residual_rig(", signed: true", 0), kept = residual_rig(", signed: true", BITS[k]);
        result a = step(&plain, s, x, dy), b = step(&kept, s, x, dy);
        assert_memory_equal(a.y, b.y, MANY * sizeof(R));
        assert_memory_equal(a.dx, b.dx, MANY * sizeof(R));
        assert_true(a.ds != b.ds);
        rig_free(&plain), rig_free(&kept);
    }
    qt_free(x), qt_free(dy);
}

/* The sum of dy r~ has the mean of the sum of dy r. A residual between two levels, at the share f of their distance d, has the variance
 * f (1 - f) d^2, and so does what the test computes in double by the definition. */
static void test_unbiased(void **state)
{
    static const R s[1] = {(R)0.25};
    enum { DRAWS = 2000 };
    R *x = input(s[0]), *dy = normal(MANY, 13);
    (void)state;
    for (int k = 0; k < 3; k++) {
        const double L1 = (1 << BITS[k]) - 2;
        double       exact = 0, variance = 0, sum = 0, square = 0;
        for (int i = 0; i < MANY; i++) {
            double u = (double)x[i] / (double)s[0], r = rint(u) - u, f = (r + 0.5) * L1 - floor((r + 0.5) * L1), g = (double)dy[i];
            exact += g * (u <= -4 ? -4 : u >= 3 ? 3 : r);
            variance += u <= -4 || u >= 3 ? 0 : g * g * f * (1 - f) / (L1 * L1);
        }
        rig kept = residual_rig("", BITS[k]);
        for (int d = 0; d < DRAWS; d++) {
            kept.tape->step = d;
            double e = step(&kept, s, x, dy).ds - exact;
            sum += e, square += e * e;
        }
        print_message("%d bits: bias %.2f standard errors, variance %.3f of what theory gives\n", BITS[k], sum / DRAWS / sqrt(variance / DRAWS),
                      square / DRAWS / variance);
        assert_true(fabs(sum / DRAWS) < 4.5 * sqrt(variance / DRAWS));
        assert_true(fabs(square / DRAWS / variance - 1) < 4.5 * sqrt(2.0 / DRAWS)); /* of a sum of 993 */
        rig_free(&kept);
    }
    qt_free(x), qt_free(dy);
}

/* A step a channel: each has its own sum. */
static void test_channels(void **state)
{
    static R s[331];
    R       *x = normal(MANY, 14), *dy = normal(MANY, 15);
    rig      plain = residual_rig(", granularity: channel, axis: 1", 0), kept = residual_rig(", granularity: channel, axis: 1", 8);
    (void)state;
    for (int i = 0; i < 331; i++) s[i] = (R)(0.1 + 0.001 * i);
    step(&plain, s, x, dy), step(&kept, s, x, dy);
    assert_memory_equal(plain.x->grad, kept.x->grad, MANY * sizeof(R));
    for (int i = 0; i < 331; i++) {
        double most = 0; /* a level is 1/254 from the next */
        for (int n = 0; n < 3; n++) most += fabs((double)dy[n * 331 + i]) / 254 + 1e-6;
        assert_true(fabs((double)param(&plain, "scale")->grad[i] - (double)param(&kept, "scale")->grad[i]) <= most);
    }
    rig_free(&plain), rig_free(&kept), qt_free(x), qt_free(dy);
}

static void test_refused(void **state)
{
    static const struct {
        qt_role     role;
        const char *spec, *message;
    } cases[] = {{A, "{use: lsq, residual_bits: 3}", "q:1:1: q: quant lsq: residual_bits is 3, must be 2, 4 or 8, or 0"},
                 {W, "{use: lsq, residual_bits: 4}", "q:1:1: q: quant lsq: residual_bits is for activations"},
                 {A, "{use: lsq, num_bits: [12, 4], residual_bits: 4}", "q:1:1: q: quant lsq: residual_bits needs num_bits of at most 8"}};
    qt_tensor like = {.rank = 2, .n = MANY, .dim = {3, 331}};
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        qt_store *store = qt_store_new(1);
        assert_null(qt_site_new(store, "q", cases[k].role, cases[k].spec, &like));
        assert_string_equal(qt_error_text(), cases[k].message);
        qt_error_clear(), qt_store_free(store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exact_parts), cmocka_unit_test(test_unbiased), cmocka_unit_test(test_channels),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
