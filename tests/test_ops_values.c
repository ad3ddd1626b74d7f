/* What the operations compute: expected results made by tests/golden/ops.py, and what the definitions promise beyond a formula:
 * running statistics, masks, infinities, the smallest numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ops/ops.h"

static const double eps = sizeof(R) == sizeof(float) ? 0x1p-24 : 0x1p-53;

typedef struct array {
    int           rank;
    int64_t       dim[QT_MAX_DIM];
    bool          ids;
    const double *v;
} array;
typedef struct golden {
    const char *op;
    qt_tensor *(*build)(qt_tape *t, qt_tensor **in);
    int   n_in;
    array in[QT_MAX_IN], y;
} golden;
#include "golden/ops.h"

static qt_tensor *tensor_of(qt_tape *t, const array *a)
{
    qt_tensor *x = a->ids ? qt_input_ids(t, a->rank, a->dim) : qt_variable(t, a->rank, a->dim);
    for (int64_t i = 0; i < x->n; i++)
        if (a->ids) x->ids[i] = (int32_t)a->v[i];
        else x->data[i] = (R)a->v[i];
    return x;
}

static void check_golden(const golden *g, bool naive)
{
    qt_tape   *t = qt_tape_new();
    qt_tensor *in[QT_MAX_IN], *y;
    t->naive = naive;
    for (int k = 0; k < g->n_in; k++) in[k] = tensor_of(t, &g->in[k]);
    y = g->build(t, in);
    if (qt_tape_error(t)) fail_msg("%s: %s", g->op, qt_error_text());
    assert_int_equal(y->rank, g->y.rank);
    for (int i = 0; i < y->rank; i++) assert_int_equal(y->dim[i], g->y.dim[i]);
    for (int64_t i = 0; i < y->n; i++) {
        const double got = (double)y->data[i], want = g->y.v[i];
        if (isnan(want) ? !isnan(got) : !(fabs(got - want) <= 16 * eps * (1 + fabs(want))))
            fail_msg("%s, row %d, element %d: %.17g, expected %.17g", g->op, (int)(g - goldens), (int)i, got, want);
    }
    qt_tape_free(t);
}

static void results_are_the_expected_ones(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof goldens / sizeof *goldens; k++) check_golden(&goldens[k], false), check_golden(&goldens[k], true);
}

static void every_op_has_expected_results(void **state)
{
    (void)state;
    for (const qt_desc *const *d = qt_ops.all; *d; d++) {
        int n = 0;
        for (size_t k = 0; k < sizeof goldens / sizeof *goldens; k++) n += strcmp(goldens[k].op, (*d)->name) == 0;
        if (!n) fail_msg("no expected results for %s in tests/golden/ops.py", (*d)->name);
    }
}

/* ---- one by one -------------------------------------------------------------------------------------------------------------- */

#define VALUES(...) values_of(t, (int)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), (double[]){__VA_ARGS__})
static qt_tensor *values_of(qt_tape *t, int n, const double *v)
{
    qt_tensor *x = qt_variable(t, 1, (int64_t[]){n});
    for (int i = 0; i < n; i++) x->data[i] = (R)v[i];
    return x;
}

static void near(R got, double want)
{
    if (!(fabs((double)got - want) <= 16 * eps * (1 + fabs(want)))) fail_msg("%.17g, expected %.17g", (double)got, want);
}

/* Two channels, values 1 2 3 4 and 0 0 0 8: means 2.5 and 2, unbiased variances 5/3 and 16. */
static void batch_norm_moves_running_statistics(void **state)
{
    static const struct {
        bool train, batch_stats, moves;
    } mode[] = {{true, true, true}, {true, false, false}, {false, true, false}, {false, false, false}};
    qt_tape *t = qt_tape_new();
    (void)state;
    for (int layout = 0; layout < 2; layout++)
        for (int k = 0; k < 4; k++) {
            static const R rows[] = {1, 0, 2, 0, 3, 0, 4, 8}, images[] = {1, 2, 0, 0, 3, 4, 0, 8};
            qt_tape_reset(t);
            qt_tape_mode(t, mode[k].train, true);
            qt_tensor *x = layout ? qt_input(t, 4, (int64_t[]){2, 2, 1, 2}) : qt_input(t, 2, (int64_t[]){4, 2});
            qt_tensor *mean = VALUES(1, -1), *var = VALUES(2, 3);
            memcpy(x->data, layout ? images : rows, sizeof rows);
            qt_batch_norm(t, x, NULL, NULL, mean, var, mode[k].batch_stats, 0.25, 1e-5);
            assert_int_equal(qt_tape_error(t), QT_OK);
            near(mean->data[0], mode[k].moves ? 0.75 * 1 + 0.25 * 2.5 : 1), near(mean->data[1], mode[k].moves ? -0.75 + 0.25 * 2 : -1);
            near(var->data[0], mode[k].moves ? 0.75 * 2 + 0.25 * 5 / 3 : 2), near(var->data[1], mode[k].moves ? 0.75 * 3 + 0.25 * 16 : 3);
        }
    qt_tape_free(t);
}

/* One value a channel has no variance: the result is the bias, the running variance stays. */
static void batch_norm_of_a_single_value(void **state)
{
    qt_tape   *t = qt_tape_new();
    (void)state;
    qt_tensor *x = qt_variable(t, 2, (int64_t[]){1, 1}), *w = VALUES(2), *b = VALUES(0.5), *mean = VALUES(0), *var = VALUES(3);
    x->data[0] = 7;
    const qt_tensor *y = qt_batch_norm(t, x, w, b, mean, var, true, 0.1, 1e-5);
    near(y->data[0], 0.5), near(mean->data[0], 0.7), near(var->data[0], 3);
    qt_tape_free(t);
}

/* A large mean must not swallow a small variance: 1000 + {0, 1, 2, 3}/16. */
static void norms_do_not_cancel(void **state)
{
    qt_tape *t = qt_tape_new();
    (void)state;
    for (int op = 0; op < 3; op++) {
        const double root = sqrt(1.25 / 256 + 1e-12);
        qt_tape_reset(t);
        static const int64_t dim[][4] = {{4, 1}, {1, 1, 2, 2}, {4}};
        static const int     rank[] = {2, 4, 1};
        qt_tensor           *x = qt_variable(t, rank[op], dim[op]);
        for (int i = 0; i < 4; i++) x->data[i] = (R)(1000 + i / 16.0);
        qt_tensor *y = op == 2 ? qt_layer_norm(t, x, NULL, NULL, 1e-12) : qt_batch_norm(t, x, NULL, NULL, VALUES(0), VALUES(1), true, 0.1, 1e-12);
        for (int i = 0; i < 4; i++) near(y->data[i], (i - 1.5) / 16 / root);
    }
    qt_tape_free(t);
}

static void cross_entropy_gradients(void **state)
{
    qt_tape   *t = qt_tape_new();
    (void)state;
    qt_tensor *x = qt_variable(t, 2, (int64_t[]){3, 2}), *y = qt_input_ids(t, 1, (int64_t[]){3});
    x->data[1] = (R)log(3.0), x->data[2] = 1000, x->data[3] = -1000, x->data[4] = 5; /* probabilities 1/4 3/4, 1 0, ignored */
    y->ids[0] = 0, y->ids[1] = 1, y->ids[2] = -100;
    qt_tensor *loss = qt_cross_entropy(t, x, y, 0, -100);
    assert_int_equal(qt_backward(t, loss), QT_OK);
    near(loss->data[0], (log(4.0) + 2000) / 2);
    static const double want[] = {-0.375, 0.375, 0.5, -0.5, 0, 0};
    for (int i = 0; i < 6; i++) near(x->grad[i], want[i]);

    qt_tape_reset(t);
    x = qt_variable(t, 2, (int64_t[]){2, 3}), y = qt_input_ids(t, 1, (int64_t[]){2});
    x->data[2] = NAN;
    loss = qt_cross_entropy(t, x, y, 0, 0);
    assert_int_equal(qt_backward(t, loss), QT_OK);
    assert_true(loss->data[0] == 0); /* no row counts: 0, whatever the rows hold */
    for (int i = 0; i < 6; i++) assert_true(x->grad[i] == 0);
    qt_tape_free(t);
}

/* Values and gradients at the corners, as PyTorch has them. */
static void gradients_at_the_corners(void **state)
{
    qt_tape   *t = qt_tape_new();
    const R    ones[] = {1, 1, 1, 1, 1};
    (void)state;
    qt_tensor *x = VALUES(-1, 0, 1, NAN, INFINITY), *y = qt_relu(t, x);
    qt_backward_from(t, y, ones);
    assert_true(x->grad[0] == 0 && x->grad[1] == 0 && x->grad[2] == 1 && x->grad[3] == 1 && x->grad[4] == 1);
    assert_true(y->data[0] == 0 && y->data[1] == 0 && y->data[2] == 1 && isnan(y->data[3]) && isinf(y->data[4]));
    x = VALUES(-2, 0, 3), y = qt_abs(t, x);
    qt_backward_from(t, y, ones);
    assert_true(x->grad[0] == -1 && x->grad[1] == 0 && x->grad[2] == 1);
    x = VALUES(-1.5, -1, 0, 2, 2.5), y = qt_clamp(t, x, -1, 2);
    qt_backward_from(t, y, ones);
    assert_true(x->grad[0] == 0 && x->grad[1] == 1 && x->grad[2] == 1 && x->grad[3] == 1 && x->grad[4] == 0);
    x = VALUES(1, 2, 3), y = qt_l1(t, x, VALUES(1, 3, 2));
    qt_backward(t, y);
    near(x->grad[0], 0), near(x->grad[1], -1.0 / 3), near(x->grad[2], 1.0 / 3);
    x = VALUES(-1000, 1000), y = qt_sigmoid(t, x);
    qt_backward_from(t, y, ones);
    assert_true(y->data[0] == 0 && y->data[1] == 1 && x->grad[0] == 0 && x->grad[1] == 0);
    x = VALUES(-1000, 1000), y = qt_silu(t, x);
    qt_backward_from(t, y, ones);
    assert_true(y->data[0] == 0 && y->data[1] == 1000 && x->grad[0] == 0 && x->grad[1] == 1);
    qt_tape_free(t);
}

/* exp, log, tanh and gelu along their range against the C library in double: 1.5 units in the last place (gelu: of x). */
static void elementary_functions_are_accurate(void **state)
{
    enum { POINTS = 60001 };
    const double ulp = 2 * eps, smallest = sizeof(R) == sizeof(float) ? (double)FLT_TRUE_MIN : DBL_TRUE_MIN;
    qt_tape     *t = qt_tape_new();
    qt_tensor   *x = qt_input(t, 1, (int64_t[]){POINTS});
    (void)state;
    for (int i = 0; i < POINTS; i++) x->data[i] = (R)(-108 + 0.0032 * i);
    qt_tensor       *e = qt_exp(t, x);
    const qt_tensor *h = qt_tanh(t, qt_scale(t, x, 0.0625)), *g = qt_gelu(t, qt_scale(t, x, 0.0625));
    for (int i = 0; i < POINTS; i++) {
        const double v = (double)x->data[i], u = v / 16;
        if (v < 88.7) assert_true(fabs((double)e->data[i] - exp(v)) <= fmax(1.5 * ulp * exp(v), smallest));
        assert_true(fabs((double)h->data[i] - tanh(u)) <= 1.5 * ulp * fabs(tanh(u)));
        assert_true(fabs((double)g->data[i] - 0.5 * u * erfc(-u / sqrt(2))) <= 1.5 * ulp * fabs(u));
    }
    const qt_tensor *l = qt_log(t, e); /* from the smallest numbers to the largest */
    for (int i = 0; i < POINTS; i++)
        if (e->data[i] > 0 && isfinite(e->data[i])) {
            const double v = log((double)e->data[i]);
            assert_true(fabs((double)l->data[i] - v) <= 1.5 * ulp * fabs(v));
        }
    l = qt_log(t, VALUES(0, -1, INFINITY, NAN, 1));
    assert_true(isinf(l->data[0]) && l->data[0] < 0 && isnan(l->data[1]) && isinf(l->data[2]) && l->data[2] > 0 && isnan(l->data[3]) && l->data[4] == 0);
    e = qt_exp(t, VALUES(INFINITY, -INFINITY, 1000, -1000, NAN, 0)), h = qt_tanh(t, VALUES(INFINITY, -INFINITY, NAN, 0, -0.0));
    assert_true(isinf(e->data[0]) && e->data[1] == 0 && isinf(e->data[2]) && e->data[3] == 0 && isnan(e->data[4]) && e->data[5] == 1);
    assert_true(h->data[0] == 1 && h->data[1] == -1 && isnan(h->data[2]) && h->data[3] == 0 && signbit(h->data[4]));
    qt_tape_free(t);
}

/* kl: 0 log 0 = 0, and no NaN comes back through it */
static void kl_of_a_zero_probability(void **state)
{
    qt_tape   *t = qt_tape_new();
    (void)state;
    qt_tensor *x = VALUES(-1, -2), *p = VALUES(0, 1), *y = qt_kl(t, x, p);
    qt_backward(t, y);
    near(y->data[0], 2), near(x->grad[0], 0), near(x->grad[1], -1), near(p->grad[0], 0), near(p->grad[1], 3);
    qt_tape_free(t);
}

/* Numbers below the normal range go through as they are, forward and backward. */
static void smallest_numbers_pass(void **state)
{
    const R    tiny = sizeof(R) == sizeof(float) ? (R)1e-40 : (R)1e-310;
    qt_tape   *t = qt_tape_new();
    qt_tensor *x = qt_variable(t, 1, (int64_t[]){33}), *zero = qt_input(t, 1, (int64_t[]){1}), *y[8];
    R          dy[33];
    (void)state;
    for (int i = 0; i < 33; i++) x->data[i] = dy[i] = tiny;
    y[0] = qt_relu(t, x), y[1] = qt_scale(t, x, 1), y[2] = qt_add(t, x, zero), y[3] = qt_abs(t, x);
    y[4] = qt_leaky_relu(t, x, 0.1), y[5] = qt_clamp(t, x, -1, 1), y[6] = qt_slice(t, x, 0, 0, 33), y[7] = qt_dropout(t, x, 0);
    for (int k = 0; k < 8; k++) {
        for (int i = 0; i < 33; i++) assert_true(y[k]->data[i] == tiny);
        memcpy(qt_tape_grad(t, y[k]), dy, sizeof dy);
    }
    assert_int_equal(qt_backward_from(t, y[7], (R[33]){0}), QT_OK);
    for (int i = 0; i < 33; i++) assert_true(x->grad[i] > 7 * tiny && x->grad[i] < 9 * tiny);
    qt_tape_free(t);
}

/* The norm with what follows it in its passes, or alone. */
static qt_tensor *norm_then(qt_tape *t, int norm, qt_tensor **in, qt_tensor *skip, bool relu)
{
    static const qt_l1_codes_cfg how = {8, 8, 1};
    if (norm == 0) return qt_batch_norm_then(t, in[0], in[1], in[2], in[3], in[4], skip, relu, true, 0.1, 1e-5);
    if (norm == 1) return qt_l1_batch_norm_then(t, in[0], in[1], in[2], in[3], in[4], skip, relu, true, 0.1, 1e-5);
    return qt_l1_batch_norm_codes(t, in[0], in[1], in[2], in[3], in[4], skip, relu, &how, 0.1, 1e-5);
}

/* What follows a batch norm, done in its passes, gives the bits of the operations one after the other: results and gradients, with means
 * far from 0 too. */
static void check_what_follows(int norm, const int64_t dim[4], bool skip, bool relu)
{
    qt_rng     r = qt_rng_at(3, 0);
    qt_tape   *t = qt_tape_new();
    qt_tensor *in[2][6], *y[2];
    for (int m = 0; m < 2; m++)
        for (int i = 0; i < 6; i++) {
            const int64_t C = dim[1];
            in[m][i] = i == 0 || i == 5 ? qt_variable(t, 4, dim) : i < 3 ? qt_variable(t, 1, &C) : qt_input(t, 1, &C);
            for (int64_t j = 0; j < in[m][i]->n; j++) in[m][i]->data[j] = m ? in[0][i]->data[j] : (R)qt_rng_normal(&r) + (i ? 1 : 1000);
        }
    R *dy = qt_tape_alloc(t, (size_t)in[0][0]->n * sizeof(R));
    for (int64_t j = 0; j < in[0][0]->n; j++) dy[j] = (R)qt_rng_normal(&r);
    y[0] = norm_then(t, norm, in[0], skip ? in[0][5] : NULL, relu);
    y[1] = norm_then(t, norm, in[1], NULL, false);
    if (skip) y[1] = qt_add(t, y[1], in[1][5]);
    if (relu) y[1] = qt_relu(t, y[1]);
    for (int m = 0; m < 2; m++) assert_int_equal(qt_backward_from(t, y[m], dy), QT_OK);
    assert_memory_equal(y[0]->data, y[1]->data, (size_t)y[0]->n * sizeof(R));
    for (int i = 0; i < 6; i++) {
        assert_memory_equal(in[0][i]->data, in[1][i]->data, (size_t)in[0][i]->n * sizeof(R)); /* the running statistics */
        for (int64_t j = 0; in[0][i]->grad && j < in[0][i]->n; j++) assert_true(in[0][i]->grad[j] == in[1][i]->grad[j]);
    }
    qt_tape_free(t);
}

static void batch_norms_with_what_follows(void **state)
{
    static const int64_t dim[][4] = {{5, 3, 7, 7}, {9, 70, 1, 1}, {5, 20, 2, 2}};
    (void)state;
    for (int norm = 0; norm < 3; norm++)
        for (int k = 0; k < 12; k++) check_what_follows(norm, dim[k / 4], k & 2, k & 1);
}

/* The variance of large numbers that differ little: one pass over them must not lose it. */
static void batch_norm_does_not_cancel(void **state)
{
    qt_tape   *t = qt_tape_new();
    qt_tensor *x = qt_variable(t, 4, (int64_t[]){64, 1, 8, 8}), *mean = qt_input(t, 1, (int64_t[]){1}), *var = qt_input(t, 1, (int64_t[]){1}), *y;
    (void)state;
    for (int64_t i = 0; i < x->n; i++) x->data[i] = 30000 + (R)(i * 7 % 5); /* deviations -2 .. 2: variance 2 */
    y = qt_batch_norm(t, x, NULL, NULL, mean, var, true, 1, 0);
    assert_true(fabs((double)mean->data[0] - 30002) < 0.01);
    assert_true(fabs((double)var->data[0] - 2) < 1e-3);
    for (int64_t i = 0; i < x->n; i++) assert_true(fabs((double)y->data[i] - (double)(i * 7 % 5 - 2) / sqrt(2)) < 3e-3);
    qt_tape_free(t);
}

static int kept(const qt_tensor *y)
{
    int n = 0;
    for (int64_t i = 0; i < y->n; i++) n += y->data[i] != 0;
    return n;
}

static qt_tensor *dropped(qt_tape *t, uint64_t seed, int64_t step, const char *path)
{
    qt_tape_reset(t);
    t->seed = seed, t->step = step, t->path = path;
    qt_tensor *x = qt_variable(t, 1, (int64_t[]){40000});
    for (int64_t i = 0; i < x->n; i++) x->data[i] = 3;
    return qt_dropout(t, x, 0.25);
}

static void dropout_masks(void **state)
{
    qt_tape *t = qt_tape_new(), *u = qt_tape_new();
    (void)state;
    qt_tensor   *y = dropped(t, 1, 7, "blk.0");
    const size_t size = (size_t)y->n * sizeof(R);
    assert_true(abs(kept(y) - 30000) < 5 * 87); /* five standard deviations, sqrt(40000 * 1/4 * 3/4) each */
    for (int64_t i = 0; i < y->n; i++) assert_true(y->data[i] == 0 || y->data[i] == 4);
    assert_memory_equal(dropped(u, 1, 7, "blk.0")->data, y->data, size);
    assert_memory_not_equal(dropped(u, 2, 7, "blk.0")->data, y->data, size);
    assert_memory_not_equal(dropped(u, 1, 8, "blk.0")->data, y->data, size);
    assert_memory_not_equal(dropped(u, 1, 7, "blk.1")->data, y->data, size);
    qt_tensor *again = qt_dropout(t, t->node[0].in[0], 0.25); /* a second one in the same layer draws its own mask */
    assert_memory_not_equal(again->data, y->data, size);
    for (int64_t i = 0; i < y->n; i++) qt_tape_grad(t, again)[i] = 3;
    assert_int_equal(qt_backward_from(t, y, (R[40000]){0}), QT_OK);
    assert_memory_equal(t->node[0].in[0]->grad, again->data, size); /* the gradient meets the same mask */
    qt_tape_mode(u, false, true);
    y = dropped(u, 1, 7, "blk.0");
    assert_int_equal(kept(y), 40000);
    assert_true(y->data[0] == 3);
    qt_tape_free(t), qt_tape_free(u);
}

/* Rows that come several times collect all their gradients, in order. */
static void embedding_gathers_gradients(void **state)
{
    qt_tape   *t = qt_tape_new();
    (void)state;
    qt_tensor *table = qt_variable(t, 2, (int64_t[]){3, 2}), *ids = qt_input_ids(t, 2, (int64_t[]){2, 2});
    memcpy(ids->ids, (int32_t[]){2, 0, 2, 2}, sizeof(int32_t[4]));
    qt_tensor *y = qt_embedding(t, table, ids);
    assert_int_equal(qt_backward_from(t, y, (R[]){1, 2, 3, 4, 5, 6, 7, 8}), QT_OK);
    static const R want[] = {3, 4, 0, 0, 13, 16};
    assert_memory_equal(table->grad, want, sizeof want);
    qt_tape_free(t);
}

/* One query, three keys that it likes the same: probabilities of 1/3, which is 1365/4096 in half precision. */
static void attention_in_half_precision(void **state)
{
    static const R third = (R)(1365.0 / 4096);
    qt_tape       *t = qt_tape_new();
    (void)state;
    for (int half = 0; half < 2; half++) {
        qt_tape_reset(t);
        qt_tensor *q = qt_variable(t, 3, (int64_t[]){1, 1, 1}), *k = qt_variable(t, 3, (int64_t[]){1, 3, 1}), *v = qt_variable(t, 3, (int64_t[]){1, 3, 1});
        q->data[0] = 3;
        k->data[0] = 1, k->data[1] = (R)(1 + 0x1p-11), k->data[2] = (R)(1 - 0x1p-12); /* both half way to the next: to the even one, 1 */
        v->data[0] = 2049, v->data[1] = 1, v->data[2] = 3;                            /* 2048 1 3 */
        qt_tensor *y = qt_attention(t, q, k, v, 1, 1, false, half);
        assert_int_equal(qt_backward_from(t, y, (R[]){2}), QT_OK);
        if (half) {
            const double p = 1 / 3.0, dp[] = {4096, 2, 6}, dot = p * 4104;
            near(y->data[0], (double)third * 2052);
            for (int j = 0; j < 3; j++) near(v->grad[j], 2 * (double)third), near(k->grad[j], 3 * p * (dp[j] - dot));
            assert_true(fabs((double)q->grad[0]) <= 16 * eps * dp[0]); /* 0, as terms of that size cancel */
        } else {
            assert_true(fabs((double)y->data[0] - 2053 / 3.0) > 0.01 && fabs((double)v->grad[0] - 2 / 3.0) > 1e-5);
        }
    }
    qt_tape_free(t);
}

/* Beyond 65504 half precision has nothing but infinity. */
static void attention_overflows_half_precision(void **state)
{
    qt_tape *t = qt_tape_new();
    (void)state;
    for (int half = 0; half < 2; half++) {
        qt_tape_reset(t);
        qt_tensor *q = qt_variable(t, 3, (int64_t[]){1, 1, 1}), *v = qt_variable(t, 3, (int64_t[]){1, 1, 1});
        v->data[0] = -70000;
        const qt_tensor *y = qt_attention(t, q, q, v, 1, 1, false, half);
        assert_true(y->data[0] == (half ? -(R)INFINITY : -70000));
    }
    qt_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_the_expected_ones),
        cmocka_unit_test(every_op_has_expected_results),
        cmocka_unit_test(batch_norm_moves_running_statistics),
        cmocka_unit_test(batch_norm_of_a_single_value),
        cmocka_unit_test(norms_do_not_cancel),
        cmocka_unit_test(cross_entropy_gradients),
        cmocka_unit_test(gradients_at_the_corners),
        cmocka_unit_test(elementary_functions_are_accurate),
        cmocka_unit_test(kl_of_a_zero_probability),
        cmocka_unit_test(batch_norms_with_what_follows), cmocka_unit_test(batch_norm_does_not_cancel),
        cmocka_unit_test(smallest_numbers_pass),
        cmocka_unit_test(dropout_masks),
        cmocka_unit_test(embedding_gathers_gradients),
        cmocka_unit_test(attention_in_half_precision), cmocka_unit_test(attention_overflows_half_precision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
