/* Second-order tools against what is known: a quadratic, whose Hessian is its matrix; softmax regression, whose Hessian is a formula; and the
 * knapsack against all its choices. */
#include "autograd/curvature.h"
#include "base/knapsack.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define TOLERANCE (sizeof(R) == 8 ? 1e-8 : 2e-3)

/* ---- a quadratic: loss = 1/2 w^T A w with w [1, N] ------------------------------------------------------------------------------------- */

enum { N = 6 };

typedef struct quadratic {
    qt_tape   *t;
    qt_store  *s;
    qt_tensor *w, *u; /* u has a quadratic of its own, 3/2 |u|^2 */
    R          a[N * N];
} quadratic;

static qt_err quadratic_gradient(void *arg)
{
    quadratic *q = arg;
    qt_tape_reset(q->t);
    qt_tensor *a = qt_input(q->t, 2, (int64_t[]){N, N});
    memcpy(a->data, q->a, sizeof q->a);
    qt_tensor *wa = qt_linear(q->t, q->w, a, NULL), *half = qt_scale(q->t, qt_sum(q->t, qt_mul(q->t, wa, q->w), 1), 0.5);
    qt_tensor *own = qt_scale(q->t, qt_sum(q->t, qt_mul(q->t, q->u, q->u), 0), 1.5);
    return qt_backward(q->t, qt_add(q->t, half, own));
}

/* A random symmetric matrix; the second parameter does not meet the first. */
static void quadratic_new(quadratic *q, bool diagonal)
{
    const int64_t w[2] = {1, N}, u[1] = {5};
    qt_rng        r = qt_rng_at(3, 4);
    *q = (quadratic){qt_tape_new(), qt_store_new(1)};
    q->w = qt_param_add(q->s, "w", QT_WEIGHT, (qt_init){QT_INIT_NORMAL, 0.3}, 2, w);
    q->u = qt_param_add(q->s, "u", QT_WEIGHT, (qt_init){QT_INIT_NORMAL, 2}, 1, u);
    assert_int_equal(qt_store_seal(q->s, 0), QT_OK);
    qt_tape_mode(q->t, true, true);
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= i; j++) q->a[i * N + j] = q->a[j * N + i] = diagonal && i != j ? 0 : (R)qt_rng_normal(&r);
}

static void quadratic_free(quadratic *q) { qt_tape_free(q->t), qt_store_free(q->s); }

static void test_quadratic_product(void **state)
{
    (void)state;
    quadratic q;
    quadratic_new(&q, false);
    R *v = qt_alloc((size_t)q.s->size * sizeof *v), *hv = qt_alloc((size_t)q.s->size * sizeof *v), *was = qt_alloc((size_t)q.s->size * sizeof *v);
    memcpy(was, q.s->value, (size_t)q.s->size * sizeof *was);
    for (int j = 0; j < N; j++) { /* one column after the other */
        memset(v, 0, (size_t)q.s->size * sizeof *v);
        v[q.w->data - q.s->value + j] = 2;
        assert_int_equal(qt_hessian_product(q.s, quadratic_gradient, &q, v, hv), QT_OK);
        for (int i = 0; i < N; i++) assert_true(fabs((double)hv[q.w->data - q.s->value + i] - 2 * (double)q.a[i * N + j]) < TOLERANCE);
        for (int i = 0; i < 5; i++) assert_true(fabs((double)hv[q.u->data - q.s->value + i]) < TOLERANCE);
    }
    assert_memory_equal(was, q.s->value, (size_t)q.s->size * sizeof *was); /* as before */
    for (int64_t i = 0; i < q.s->size; i++) assert_true(q.s->grad[i] == 0);
    qt_free(v), qt_free(hv), qt_free(was);
    quadratic_free(&q);
}

/* Hutchinson: exact with one draw where the Hessian is diagonal, within its own error where it is not, the same for the same seed. */
static void test_quadratic_traces(void **state)
{
    (void)state;
    for (int diagonal = 0; diagonal < 2; diagonal++) {
        quadratic q;
        quadratic_new(&q, diagonal);
        double   want = 0;
        qt_trace t[2] = {{.param = q.w}, {.param = q.u}}, again[1] = {{.param = q.w}};
        for (int i = 0; i < N; i++) want += (double)q.a[i * N + i];
        assert_int_equal(qt_hessian_traces(q.s, quadratic_gradient, &q, diagonal ? 1 : 400, 7, 2, t), QT_OK);
        assert_true(fabs(t[1].trace - 15) < 20 * TOLERANCE);
        if (diagonal) assert_true(fabs(t[0].trace - want) < 20 * TOLERANCE && t[0].error == 0);
        else assert_true(t[0].error > 0.01 && t[0].error < 0.5 && fabs(t[0].trace - want) < 4 * t[0].error);
        assert_int_equal(qt_hessian_traces(q.s, quadratic_gradient, &q, diagonal ? 1 : 400, 7, 1, again), QT_OK);
        assert_true(fabs(again[0].trace - t[0].trace) < 0.01); /* the other block is not moved now */
        quadratic_free(&q);
    }
}

/* ---- softmax regression: H = mean_n x x^T (x) (diag p - p p^T) -------------------------------------------------------------------------- */

enum { BATCH = 16, IN = 5, OUT = 3 };

typedef struct softmax {
    qt_tape   *t;
    qt_store  *s;
    qt_tensor *w;
    R          x[BATCH * IN];
    double     p[BATCH][OUT];
} softmax;

static qt_err softmax_gradient(void *arg)
{
    softmax *m = arg;
    int64_t  n = BATCH;
    qt_tape_reset(m->t);
    qt_tensor *x = qt_input(m->t, 2, (int64_t[]){BATCH, IN}), *target = qt_input_ids(m->t, 1, &n);
    memcpy(x->data, m->x, sizeof m->x);
    for (int i = 0; i < BATCH; i++) target->ids[i] = i % OUT;
    qt_tensor *y = qt_linear(m->t, x, m->w, NULL);
    for (int i = 0; i < BATCH; i++) {
        double sum = 0;
        for (int k = 0; k < OUT; k++) sum += m->p[i][k] = exp((double)y->data[i * OUT + k]);
        for (int k = 0; k < OUT; k++) m->p[i][k] /= sum;
    }
    return qt_backward(m->t, qt_cross_entropy(m->t, y, target, 0, -1));
}

static double softmax_entry(const softmax *m, int k, int i, int l, int j)
{
    double sum = 0;
    for (int n = 0; n < BATCH; n++)
        sum += (double)m->x[n * IN + i] * (double)m->x[n * IN + j] * ((k == l ? m->p[n][k] : 0) - m->p[n][k] * m->p[n][l]) / BATCH;
    return sum;
}

static void test_softmax(void **state)
{
    (void)state;
    const int64_t dim[2] = {OUT, IN};
    softmax       m = {qt_tape_new(), qt_store_new(1)};
    qt_rng        r = qt_rng_at(5, 6);
    R             v[64] = {0}, hv[64];
    double        trace = 0;
    m.w = qt_param_add(m.s, "w", QT_WEIGHT, (qt_init){QT_INIT_NORMAL, 0.5}, 2, dim);
    assert_int_equal(qt_store_seal(m.s, 0), QT_OK);
    assert_true(m.s->size <= 64);
    qt_tape_mode(m.t, true, true);
    for (int i = 0; i < BATCH * IN; i++) m.x[i] = (R)qt_rng_normal(&r);
    for (int i = 0; i < OUT * IN; i++) v[i] = (R)qt_rng_normal(&r);
    assert_int_equal(qt_hessian_product(m.s, softmax_gradient, &m, v, hv), QT_OK);
    assert_int_equal(softmax_gradient(&m), QT_OK); /* p at w itself */
    for (int a = 0; a < OUT * IN; a++) {
        double want = 0;
        for (int b = 0; b < OUT * IN; b++) want += softmax_entry(&m, a / IN, a % IN, b / IN, b % IN) * (double)v[b];
        assert_true(fabs((double)hv[a] - want) < (sizeof(R) == 8 ? 1e-9 : 2e-4));
        trace += softmax_entry(&m, a / IN, a % IN, a / IN, a % IN);
    }
    qt_trace t = {.param = m.w};
    assert_int_equal(qt_hessian_traces(m.s, softmax_gradient, &m, 300, 1, 1, &t), QT_OK);
    assert_true(t.error < 0.05 * trace && fabs(t.trace - trace) < 4 * t.error);
    qt_tape_free(m.t), qt_store_free(m.s);
}

/* ---- knapsack ---------------------------------------------------------------------------------------------------------------------------- */

enum { ITEMS = 6, CHOICES = 4 };

/* All CHOICES^ITEMS picks. */
static double brute_force(const qt_knapsack_choice *table, int64_t room)
{
    double best = INFINITY;
    for (int code = 0; code < 1 << 2 * ITEMS; code++) {
        double  cost = 0;
        int64_t weight = 0;
        for (int i = 0; i < ITEMS; i++) {
            const qt_knapsack_choice *o = &table[i * CHOICES + (code >> 2 * i & 3)];
            cost += o->cost, weight += o->weight;
        }
        if (weight <= room && cost < best) best = cost;
    }
    return best;
}

static void test_knapsack(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        qt_knapsack_choice table[ITEMS * CHOICES];
        int       pick[ITEMS];
        double    cost, sum = 0;
        int64_t   weight = 0, room = 30 + (int64_t)(3 * seed);
        qt_rng    r = qt_rng_at(seed, 1);
        for (int i = 0; i < ITEMS * CHOICES; i++) {
            table[i] = (qt_knapsack_choice){qt_rng_normal(&r), (int64_t)qt_rng_below(&r, seed % 2 ? 60 : 8)}; /* costs below 0, and many equal weights */
            if (seed % 5 == 0 && i % 7 == 3) table[i].cost = INFINITY;
            if (seed % 3 == 0) table[i].cost = round(2 * table[i].cost);
        }
        double want = brute_force(table, room);
        if (isinf(want)) {
            assert_int_equal(qt_knapsack(ITEMS, CHOICES, table, room, pick, &cost), QT_EUSAGE);
            qt_error_clear();
            continue;
        }
        assert_int_equal(qt_knapsack(ITEMS, CHOICES, table, room, pick, &cost), QT_OK);
        for (int i = 0; i < ITEMS; i++) sum += table[i * CHOICES + pick[i]].cost, weight += table[i * CHOICES + pick[i]].weight;
        assert_true(cost == want && sum == want && weight <= room);
    }
}

static void test_knapsack_edges(void **state)
{
    (void)state;
    const qt_knapsack_choice one[2] = {{1, 5}, {0, 6}};
    int             pick[1];
    double          cost;
    assert_int_equal(qt_knapsack(0, 2, one, 0, pick, &cost), QT_OK);
    assert_true(cost == 0);
    assert_int_equal(qt_knapsack(1, 2, one, 5, pick, &cost), QT_OK);
    assert_true(pick[0] == 0 && cost == 1);
    assert_int_equal(qt_knapsack(1, 2, one, 6, pick, &cost), QT_OK);
    assert_true(pick[0] == 1 && cost == 0);
    assert_int_equal(qt_knapsack(1, 2, one, 4, pick, &cost), QT_EUSAGE);
    assert_string_equal(qt_error_text(), "knapsack: no choice fits 4");
    qt_error_clear();
    assert_int_equal(qt_knapsack(1, 2, one, -1, pick, &cost), QT_EUSAGE);
    qt_error_clear();
    qt_alloc_fail_at(1);
    assert_int_equal(qt_knapsack(1, 2, one, 6, pick, &cost), QT_EMEM);
    qt_alloc_fail_at(0);
    qt_error_clear();
}

/* A hundred layers of four precisions, weights of all sizes: exact in a moment. */
static void test_knapsack_many(void **state)
{
    (void)state;
    enum { LAYERS = 100 };
    static qt_knapsack_choice table[LAYERS * 4];
    int              pick[LAYERS];
    double           cost;
    int64_t          weight = 0;
    qt_rng           r = qt_rng_at(9, 9);
    for (int i = 0; i < LAYERS; i++) {
        double  t = exp(2 * qt_rng_normal(&r));
        for (int j = 0; j < 4; j++) table[4 * i + j] = (qt_knapsack_choice){t * pow(4, -(8 - 2 * j)), 8 - 2 * j};
    }
    assert_int_equal(qt_knapsack(LAYERS, 4, table, 4 * LAYERS, pick, &cost), QT_OK);
    for (int i = 0; i < LAYERS; i++) weight += table[4 * i + pick[i]].weight;
    assert_int_equal(weight, 4 * LAYERS);
}

/* Weights and costs that no choice makes worse than another: the table of states would grow without end. */
static void test_knapsack_too_many(void **state)
{
    (void)state;
    enum { MANY = 40 };
    qt_knapsack_choice table[MANY * 2];
    int                pick[MANY];
    double             cost;
    for (int i = 0; i < MANY; i++) table[2 * i] = (qt_knapsack_choice){0, 1ll << i}, table[2 * i + 1] = (qt_knapsack_choice){(double)(1ll << i), 0};
    assert_int_equal(qt_knapsack(MANY, 2, table, 1ll << 50, pick, &cost), QT_EUSAGE);
    assert_string_equal(qt_error_text(), "knapsack: 40 items of 2 choices are more than can be solved exactly");
    qt_error_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quadratic_product), cmocka_unit_test(test_quadratic_traces),
                                       cmocka_unit_test(test_softmax),           cmocka_unit_test(test_knapsack),
                                       cmocka_unit_test(test_knapsack_edges),    cmocka_unit_test(test_knapsack_many),
                                       cmocka_unit_test(test_knapsack_too_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
