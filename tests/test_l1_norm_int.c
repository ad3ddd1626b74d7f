/* The L1 norms computed in integers: near the norms of numbers, right on the mean, the same for any number of threads; numbers that are all
 * equal or not finite; the bytes they keep. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "base/rng.h"
#include "kernels/reduce.h"
#include "ops/ops.h"

enum { BATCH, LAYER, NORMS };
enum { B = 64, C = 3, S = 77, N = B * C * S, D = 77, ROWS = B * C, P = 77 }; /* large enough for threads; P >= C, D parameters */
static const int64_t dim[NORMS][4] = {{B, C, 7, 11}, {B, C, D}};
static const int     rank[] = {4, 3}, params[] = {C, D};

typedef struct grads {
    R y[N], dx[N], dw[P], db[P], mean[P], sigma[P];
} grads;

static void fill(R *x, int64_t n, uint64_t stream)
{
    qt_rng r = qt_rng_at(3, stream);
    for (int64_t i = 0; i < n; i++) x[i] = (R)qt_rng_normal(&r);
}

static qt_tensor *norm_of(qt_tape *t, int norm, int bits, uint64_t stream, qt_tensor *x, qt_tensor **p)
{
    const qt_l1_codes_cfg how = {bits, bits, stream};
    if (norm == BATCH && bits) return qt_l1_batch_norm_codes(t, x, p[0], p[1], p[2], p[3], NULL, false, &how, 0.1, 1e-5);
    if (norm == BATCH) return qt_l1_batch_norm(t, x, p[0], p[1], p[2], p[3], true, 0.1, 1e-5);
    return bits ? qt_l1_layer_norm_codes(t, x, p[0], p[1], &how, 1e-5) : qt_l1_layer_norm(t, x, p[0], p[1], 1e-5);
}

/* The norm of x and its gradients for dy in integers of so many bits, or (bits 0) in numbers. */
static void run_norm(int norm, int bits, uint64_t stream, const R *x0, const R *dy, grads *g)
{
    const int64_t n = params[norm];
    const size_t  size = (size_t)n * sizeof(R);
    qt_tape      *t = qt_tape_new();
    qt_tensor    *x = qt_variable(t, rank[norm], dim[norm]), *p[4], *y;
    qt_tape_mode(t, true, true);
    for (int k = 0; k < 4; k++) {
        p[k] = qt_variable(t, 1, &n);
        for (int64_t c = 0; c < n; c++) p[k]->data[c] = k == 0 ? (R)(0.5 + (double)(c % 3)) : k == 1 ? (R)-0.25 : k == 3;
    }
    memcpy(x->data, x0, sizeof g->y);
    y = norm_of(t, norm, bits, stream, x, p);
    assert_int_equal(qt_tape_error(t), QT_OK);
    assert_int_equal(qt_backward_from(t, y, dy), QT_OK);
    memset(g, 0, sizeof *g);
    memcpy(g->y, y->data, sizeof g->y), memcpy(g->dx, x->grad, sizeof g->dx);
    memcpy(g->dw, p[0]->grad, size), memcpy(g->db, p[1]->grad, size);
    memcpy(g->mean, p[2]->data, size), memcpy(g->sigma, p[3]->data, size);
    qt_tape_free(t);
}

static double apart(const R *a, const R *b, int64_t n)
{
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) d += pow((double)a[i] - (double)b[i], 2), s += pow((double)b[i], 2);
    return sqrt(d / s);
}

/* x to the nearest multiple of its channel's or row's largest number over 127. tied: its codes have a whole mean, where a code may lie and the
 * gradient has a kink. */
static void to_codes(int norm, const R *x, R *to, bool tied[N])
{
    R       most[ROWS] = {0};
    int64_t sum[ROWS] = {0}, n = norm == LAYER ? D : B * S;
    for (int i = 0; i < N; i++) {
        R *m = &most[norm == LAYER ? i / D : i / S % C];
        *m = (R)fmax((double)*m, fabs((double)x[i]));
    }
    for (int i = 0; i < N; i++) {
        const int group = norm == LAYER ? i / D : i / S % C;
        const R   s = most[group] / 127, code = (R)rint((double)(x[i] / s));
        to[i] = code * s, sum[group] += (int64_t)code;
    }
    for (int i = 0; i < N; i++) tied[i] = sum[norm == LAYER ? i / D : i / S % C] % n == 0;
}

/* At 8 bits it is the norm of numbers within what codes cost, s/sqrt(12) of an x of about 3 sigma; at 4 bits, s is 18 times that. The gradient is
 * on the mean that of the norm at the codes: the error of 64 draws is an eighth of that of one. */
static void integers_are_the_norm(void **state)
{
    enum { DRAWS = 64 };
    static R     x[N], dy[N], mean[N], coded[N];
    static grads exact, g, once;
    static bool  tied[N];
    (void)state;
    fill(x, N, 1), fill(dy, N, 2);
    for (int norm = 0; norm < NORMS; norm++) {
        run_norm(norm, 0, 1, x, dy, &exact), run_norm(norm, 8, 1, x, dy, &once);
        assert_true(apart(once.y, exact.y, N) < 0.01);
        assert_true(apart(once.dx, exact.dx, N) < 0.025);
        to_codes(norm, x, coded, tied);
        run_norm(norm, 0, 1, coded, dy, &exact);
        memset(mean, 0, sizeof mean);
        for (int k = 0; k < DRAWS; k++) {
            run_norm(norm, 8, (uint64_t)k + 2, x, dy, &g);
            for (int i = 0; i < N; i++) mean[i] += g.dx[i] / DRAWS;
            if (!k) assert_memory_not_equal(g.dx, once.dx, sizeof g.dx);
        }
        for (int i = 0; i < N; i++)
            if (tied[i]) mean[i] = once.dx[i] = exact.dx[i] = 0;
        assert_true(apart(once.y, exact.y, N) < 1e-5);
        assert_true(apart(mean, exact.dx, N) < 0.15 * apart(once.dx, exact.dx, N));
        run_norm(norm, 4, 1, x, dy, &g);
        assert_true(apart(g.y, exact.y, N) > 0.1 && apart(g.y, exact.y, N) < 0.2);
    }
}

static void parameters_and_running_values(void **state)
{
    static R     x[N], dy[N];
    static grads exact, g;
    (void)state;
    fill(x, N, 1), fill(dy, N, 2);
    run_norm(BATCH, 0, 1, x, dy, &exact), run_norm(BATCH, 8, 1, x, dy, &g);
    const double step = (double)qt_reduce_max_abs(dy, N) / 127, five = 5 * step / 2 * sqrt(B * S); /* deviations of a sum of roundings */
    for (int c = 0; c < C; c++) assert_true(fabs((double)g.db[c] - (double)exact.db[c]) < five);
    for (int c = 0; c < C; c++) assert_true(fabs((double)g.dw[c] - (double)exact.dw[c]) < 2 * five);
    assert_true(apart(g.mean, exact.mean, C) < 0.05 && apart(g.sigma, exact.sigma, C) < 0.001);
    run_norm(LAYER, 0, 1, x, dy, &exact), run_norm(LAYER, 8, 1, x, dy, &g);
    assert_true(apart(g.db, exact.db, D) < 1e-5 && apart(g.dw, exact.dw, D) < 0.01);
}

/* Channel, or token, 1 has one value only, and 2 a NaN in channel 2 of the batch, token 2 of each row of three. */
static void one_value_or_none(void **state)
{
    static R     x[N], dy[N];
    static grads g;
    (void)state;
    fill(x, N, 1), fill(dy, N, 2);
    for (int n = 0; n < B; n++)
        for (int i = 0; i < S; i++) x[(n * C + 1) * S + i] = 7, x[(n * C + 2) * S + i] = i == 3 && (n == 3 || n == 0) ? (R)NAN : 1;
    for (int norm = 0; norm < NORMS; norm++) {
        run_norm(norm, 8, 1, x, dy, &g);
        for (int i = 0; i < S; i++) {
            assert_true(g.y[S + i] == (R)-0.25 && g.dx[S + i] == 0);
            assert_true(isnan(g.y[2 * S + i]));
            assert_true(isfinite(g.y[i]) && isfinite(g.dx[i]));
        }
    }
}

static void threads_do_not_change_a_bit(void **state)
{
    static R     x[N], dy[N];
    static grads a, b;
    (void)state;
    fill(x, N, 1), fill(dy, N, 2);
    for (int norm = 0; norm < NORMS; norm++) {
        qt_set_threads(1), run_norm(norm, 6, 1, x, dy, &a);
        qt_set_threads(3), run_norm(norm, 6, 1, x, dy, &b);
        assert_memory_equal(&a, &b, sizeof a);
    }
    qt_set_threads(0);
}

/* A row alone, of one element, without weight or bias, and twice through the same gradient. */
static void rows_by_themselves(void **state)
{
    static const qt_l1_codes_cfg how = {8, 8, 1};
    const int64_t                one = 1, six = 6;
    const double                 x0[] = {-3, -1, 0, 1, 1, 2}, sigma = 8.0 / 6; /* mean 0 */
    qt_tape                     *t = qt_tape_new();
    R                            dy[6] = {1, -1, 0.5, 0, 0, 2}, first[6];
    (void)state;
    qt_tensor *x = qt_variable(t, 1, &six), *lone = qt_variable(t, 1, &one);
    for (int i = 0; i < 6; i++) x->data[i] = (R)x0[i];
    lone->data[0] = 5;
    qt_tensor *y = qt_l1_layer_norm_codes(t, x, NULL, NULL, &how, 0), *z = qt_l1_layer_norm_codes(t, lone, NULL, NULL, &how, 0);
    for (int i = 0; i < 6; i++) assert_true(fabs((double)y->data[i] - x0[i] / sigma) < 3.0 / 127);
    assert_true(z->data[0] == 0);
    assert_int_equal(qt_backward_from(t, y, dy), QT_OK);
    memcpy(first, x->grad, sizeof first);
    assert_int_equal(qt_backward_from(t, y, dy), QT_OK);
    for (int i = 0; i < 6; i++) assert_true(x->grad[i] == 2 * first[i]);
    qt_tape_free(t);
}

static void wrong_shapes_are_reported(void **state)
{
    static const qt_l1_codes_cfg how = {8, 8, 1};
    qt_tape                     *t = qt_tape_new();
    (void)state;
    qt_tensor *x = qt_variable(t, 2, (int64_t[]){2, 3}), *w = qt_variable(t, 1, (int64_t[]){4});
    qt_l1_layer_norm_codes(t, x, w, NULL, &how, 1e-5);
    assert_int_equal(qt_tape_error(t), QT_ESHAPE);
    assert_non_null(strstr(qt_error_text(), "weight is [4], but the rows of x [2, 3] have 3 numbers"));
    qt_tape_reset(t);
    qt_error_clear();
    x = qt_variable(t, 1, (int64_t[]){6}), w = qt_variable(t, 1, (int64_t[]){6});
    qt_l1_batch_norm_codes(t, x, NULL, NULL, w, w, NULL, false, &how, 0.1, 1e-5);
    assert_non_null(strstr(qt_error_text(), "x is [6], it must be [N, C]"));
    qt_error_clear();
    qt_tape_free(t);
}

/* A byte a number, and the statistics of each row. */
static void kept_bytes(void **state)
{
    static const qt_l1_codes_cfg how = {8, 8, 1};
    qt_tape                     *t = qt_tape_new();
    (void)state;
    qt_tensor *x = qt_variable(t, 2, (int64_t[]){10, 64});
    for (int64_t i = 0; i < x->n; i++) x->data[i] = (R)i;
    qt_l1_layer_norm_codes(t, x, NULL, NULL, &how, 1e-5);
    assert_int_equal(t->node[0].own, 640 + 10 * 5 * (int64_t)sizeof(R));
    qt_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_the_norm),       cmocka_unit_test(parameters_and_running_values), cmocka_unit_test(one_value_or_none),
        cmocka_unit_test(threads_do_not_change_a_bit), cmocka_unit_test(rows_by_themselves),            cmocka_unit_test(wrong_shapes_are_reported),
        cmocka_unit_test(kept_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
