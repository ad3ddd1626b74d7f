/* A layer in integers against its float simulation: the same numbers from the quantizers, and results no further apart than the float sum of the
 * same products can be from its exact value. Which layers compute in integers, and which may not. */
#include "base/mem.h"
#include "ops/ops.h"
#include "qat/quant.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef QT_DOUBLE
#define EPS 0x1p-53
#else
#define EPS 0x1p-24
#endif

typedef struct rig {
    qt_store  *s;
    qt_tape   *t;
    qt_tensor *x, *w, *b, *y;
    bool       integer;
} rig;

typedef struct shape {
    int     rank;
    int64_t x[4], w[4];
    int     stride, padding, groups;
} shape;

static rig run(const char *weight, const char *input, const shape *d, bool simulate)
{
    rig       r = {qt_store_new(4), qt_tape_new()};
    qt_tensor like = {.rank = (int8_t)d->rank}, *x;
    qt_rng    u = qt_rng_at(6, 1);
    memcpy(like.dim, d->x, (size_t)d->rank * sizeof *d->x);
    r.w = qt_param_add(r.s, "w", QT_WEIGHT, (qt_init){QT_INIT_NORMAL, 1}, d->rank, d->w);
    r.b = qt_param_add(r.s, "b", QT_BIAS, (qt_init){QT_INIT_NORMAL, 1}, 1, d->w);
    qt_site *qw = qt_site_new(r.s, "w", QT_ROLE_WEIGHT, weight, r.w), *qx = qt_site_new(r.s, "x", QT_ROLE_ACT, input, &like);
    if (!qw || !qx) fail_msg("%s", qt_error_text());
    assert_int_equal(qt_store_seal(r.s, 0), QT_OK);
    qt_tape_simulate(r.t, simulate);
    x = qt_input(r.t, d->rank, d->x);
    for (int64_t i = 0; i < x->n; i++) x->data[i] = (R)qt_rng_normal(&u);
    r.x = qt_quantize(r.t, qx, x), r.w = qt_quantize(r.t, qw, r.w);
    if (d->rank == 2) r.integer = qt_linear_integer(r.x, r.w), r.y = qt_linear(r.t, r.x, r.w, r.b);
    else r.integer = qt_conv2d_integer(r.x, r.w, d->stride, d->padding, 1, d->groups), r.y = qt_conv2d(r.t, r.x, r.w, r.b, d->stride, d->padding, 1, d->groups);
    if (qt_tape_error(r.t)) fail_msg("%s", qt_error_text());
    return r;
}

static void rig_free(rig *r) { qt_tape_free(r->t), qt_store_free(r->s); }

/* Sum of |x w| of an output, and of |b|: the layer on magnitudes, in double where it matters. */
static void magnitudes(rig *r, const shape *d, R *to)
{
    qt_tape   *t = qt_tape_new();
    qt_tensor *x = qt_input(t, d->rank, d->x), *w = qt_input(t, d->rank, d->w), *b = qt_input(t, 1, d->w), *y;
    for (int64_t i = 0; i < x->n; i++) x->data[i] = (R)fabs((double)r->x->data[i]);
    for (int64_t i = 0; i < w->n; i++) w->data[i] = (R)fabs((double)r->w->data[i]);
    for (int64_t i = 0; i < b->n; i++) b->data[i] = (R)fabs((double)r->b->data[i]);
    y = d->rank == 2 ? qt_linear(t, x, w, b) : qt_conv2d(t, x, w, b, d->stride, d->padding, 1, d->groups);
    memcpy(to, y->data, (size_t)y->n * sizeof *to);
    qt_tape_free(t);
}

/* K products and sums, each off by at most a unit roundoff of the magnitudes, the scale's two products, and as much again for the
 * transformed convolutions of the float path, whose intermediate sums are larger. */
static void compare(const char *weight, const char *input, const shape *d)
{
    rig     a = run(weight, input, d, false), b = run(weight, input, d, true);
    int64_t K = a.w->n / a.w->dim[0];
    R      *top = qt_alloc((size_t)a.y->n * sizeof *top);
    if (!a.integer) fail_msg("%s, %s: not in integers", weight, input);
    assert_false(b.integer);
    assert_memory_equal(a.x->data, b.x->data, (size_t)a.x->n * sizeof(R));
    assert_memory_equal(a.w->data, b.w->data, (size_t)a.w->n * sizeof(R));
    magnitudes(&a, d, top);
    for (int64_t i = 0; i < a.y->n; i++)
        if (!(fabs((double)(a.y->data[i] - b.y->data[i])) <= 2 * EPS * (double)(K + 8) * (double)top[i]))
            fail_msg("%s, %s: element %lld is %.9g, simulated %.9g", weight, input, (long long)i, (double)a.y->data[i], (double)b.y->data[i]);
    qt_free(top), rig_free(&a), rig_free(&b);
}

static const shape linear = {2, {17, 96}, {33, 96}}, convs[] = {{4, {2, 8, 9, 7}, {12, 8, 3, 3}, 1, 1, 1}, {4, {3, 4, 8, 8}, {6, 4, 3, 3}, 2, 1, 1},
                                                                {4, {2, 6, 7, 7}, {6, 1, 3, 3}, 1, 1, 6}, {4, {2, 1, 12, 12}, {5, 1, 5, 5}, 1, 2, 1},
                                                                {4, {2, 8, 6, 6}, {4, 4, 1, 1}, 2, 0, 2}};
enum { CONVS = sizeof convs / sizeof *convs };

static const char *const weights[] = {"{use: lsq, num_bits: 4}", "{use: lsq, num_bits: 8, granularity: channel}", "{use: uniform, num_bits: 4, granularity: channel}",
                                      "{use: uniform, num_bits: 8, symmetric: false}", "{use: ternary}", "{use: binary, granularity: channel}"};
static const char *const inputs[] = {"{use: lsq, num_bits: 4, signed: false}", "{use: lsq, num_bits: 8}", "{use: int}", "{use: uniform, num_bits: 8, symmetric: false}",
                                     "{use: uniform, num_bits: 3}", "{use: pact, num_bits: 4}"};

static void test_linear(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        for (size_t k = 0; k < sizeof inputs / sizeof *inputs; k++) compare(weights[i], inputs[k], &linear);
}

static void test_conv(void **state)
{
    (void)state;
    for (int j = 0; j < CONVS; j++)
        for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
            for (size_t k = 0; k < sizeof inputs / sizeof *inputs; k++) compare(weights[i], inputs[k], &convs[j]);
}

static void test_groups(void **state)
{
    (void)state;
    compare("{use: uniform, num_bits: 4, granularity: group, group_size: 32}", "{use: int}", &linear);
    compare("{use: uniform, num_bits: 4, granularity: group, group_size: 32}", "{use: uniform, num_bits: 8, granularity: group, group_size: 32}", &linear);
    compare("{use: uniform, num_bits: 4, granularity: group, group_size: 16}", "{use: uniform, num_bits: 8, granularity: group, group_size: 48}", &linear);
    compare("{use: lsq, num_bits: 4}", "{use: uniform, num_bits: 8, granularity: group, group_size: 24}", &linear);
}

/* What stays in float: more than 8 bits, a real offset, a scale that changes from one product to the next. */
static void test_float(void **state)
{
    (void)state;
    static const struct {
        const char *weight, *input;
    } cases[] = {{"{use: lsq, num_bits: 9}", "{use: int}"}, {"{use: lsq, num_bits: 4}", "{use: lsq_plus, num_bits: 4}"},
                 {"{use: lsq, num_bits: 4}", "{use: uniform, num_bits: 8, granularity: channel}"}, {"none", "{use: int}"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rig r = run(cases[i].weight, cases[i].input, &linear, false);
        assert_false(r.integer);
        rig_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_linear), cmocka_unit_test(test_conv), cmocka_unit_test(test_groups), cmocka_unit_test(test_float)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
