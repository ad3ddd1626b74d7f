/* Philox, store and tape: what every other test takes for granted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "autograd/gradcheck.h"
#include "autograd/store.h"

/* Known answers published with Random123 (kat_vectors, philox4x32 10) */
static void philox_known_answers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } kat[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    (void)state;
    for (size_t k = 0; k < sizeof kat / sizeof *kat; k++) {
        uint32_t out[4];
        qt_philox(kat[k].counter, kat[k].key, out);
        assert_memory_equal(out, kat[k].out, sizeof out);
    }
}

/* Many numbers at once are those drawn one by one: with and without vectors, also where the low half of the block number runs over. */
static void numbers_at_once_are_those_one_by_one(void **state)
{
    static const uint64_t from[] = {0, 256, (uint64_t)4 << 32, ((uint64_t)4 << 32) - 128};
    const qt_rng          r = qt_rng_at(0x123456789abcdefull, 0xfedcba987654321ull);
    (void)state;
    for (int k = 0; k < 8; k++) {
        const uint64_t at = from[k / 2];
        uint32_t       words[44] = {0};
        uint16_t       halves[QT_RNG_BLOCK];
        qt_rng_scalar(k % 2);
        qt_rng_words(&r, at + 112, 44, words);
        qt_rng_bits16(&r, 2 * at, halves);
        for (uint64_t i = 0; i < 44; i++) assert_int_equal(words[i], qt_rng_u32_at(&r, at + 112 + i));
        for (uint64_t i = 0; i < QT_RNG_BLOCK / 2; i++) { /* word i/32 of block i%32 */
            const uint32_t w = qt_rng_u32_at(&r, at + i % 32 * 4 + i / 32);
            assert_int_equal(halves[2 * i], w & 0xffff), assert_int_equal(halves[2 * i + 1], w >> 16);
        }
    }
    qt_rng_scalar(false);
}

static void streams_differ_and_repeat(void **state)
{
    qt_rng a = qt_rng_named(1, "init/%s", "fc1"), b = qt_rng_named(1, "init/%s", "fc2"), c = a;
    double sum = 0, sq = 0;
    (void)state;
    assert_true(a.stream != b.stream);
    for (int i = 0; i < 1000; i++) assert_int_equal(qt_rng_u32(&a), qt_rng_u32_at(&c, (uint64_t)i));
    for (int i = 0; i < 20000; i++) {
        double z = qt_rng_normal(&b);
        sum += z, sq += z * z;
    }
    assert_true(fabs(sum / 20000) < 0.03 && fabs(sq / 20000 - 1) < 0.05);
    for (int i = 0; i < 1000; i++) assert_true(qt_rng_below(&b, 7) < 7);
}

static void parameters_have_names_places_and_values_by_name(void **state)
{
    qt_store *s = qt_store_new(3), *other = qt_store_new(3);
    int64_t   d[] = {5, 3};
    (void)state;
    qt_tensor *w = qt_param_add(s, "w", QT_WEIGHT, QT_INIT_FAN_IN(3), 2, d);
    qt_tensor *n = qt_param_add(s, "n", QT_BUFFER, QT_INIT_CONST(2), 1, d);
    qt_tensor *v = qt_param_add(other, "v", QT_WEIGHT, QT_INIT_FAN_IN(3), 2, d);
    qt_tensor *w2 = qt_param_add(other, "w", QT_WEIGHT, QT_INIT_FAN_IN(3), 2, d);
    assert_null(qt_param_add(s, "w", QT_WEIGHT, QT_INIT_CONST(0), 1, d));
    assert_non_null(strstr(qt_error_text(), "'w' exists already"));
    qt_error_clear();
    assert_int_equal(qt_store_seal(s, 2), QT_OK);
    assert_int_equal(qt_store_seal(other, 0), QT_OK);
    assert_int_equal((uintptr_t)n->data % 64, 0);
    assert_memory_equal(w->data, w2->data, sizeof(R) * 15); /* seed and name decide, not the order */
    assert_memory_not_equal(w->data, v->data, sizeof(R) * 15);
    assert_true(n->data[4] == 2 && !n->grad && w->grad);
    assert_int_equal(qt_store_trained(s), 15);
    for (int i = 0; i < 15; i++) assert_true(fabs((double)w->data[i]) <= 1 / sqrt(3.0) + 1e-7);
    for (int i = 0; i < 15; i++) w->grad[i] = 2;
    assert_true(fabs(qt_store_clip_norm(s, 1) - 2 * sqrt(15.0)) < 1e-5);
    assert_true(fabs((double)w->grad[7] - 1 / sqrt(15.0)) < 1e-6);
    qt_store_freeze(qt_store_param(s, "w"), NULL);
    assert_true(!qt_wants_grad(w) && !w->grad);
    qt_store_free(s), qt_store_free(other);
}

/* y = (a + b) * a by hand: dy/da = 2a + b, dy/db = a; a is used twice, so gradients must add */
static void backward_adds_over_uses(void **state)
{
    qt_tape   *t = qt_tape_new();
    (void)state;
    for (int round = 0; round < 3; round++) {
        qt_tensor *a = qt_variable(t, 1, (int64_t[]){2}), *b = qt_variable(t, 1, (int64_t[]){2});
        a->data[0] = 3, a->data[1] = -1, b->data[0] = 5, b->data[1] = 4;
        qt_tensor *loss = qt_sum(t, qt_mul(t, qt_add(t, a, b), a), 0);
        assert_int_equal(qt_backward(t, loss), QT_OK);
        assert_true(loss->data[0] == 24 - 3);
        assert_true(a->grad[0] == 11 && a->grad[1] == 2 && b->grad[0] == 3 && b->grad[1] == -1);
        qt_tape_reset(t);
    }
    qt_tape_free(t);
}

static void first_error_sticks_and_memory_failures_are_errors(void **state)
{
    (void)state;
    for (int64_t k = 1; k < 40; k++) {
        qt_alloc_fail_at(k);
        qt_tape *t = qt_tape_new();
        if (t) {
            qt_tensor *a = qt_variable(t, 2, (int64_t[]){300, 400}), *b = qt_variable(t, 2, (int64_t[]){300, 400});
            qt_tensor *y = qt_mul(t, qt_add(t, a, b), a);
            qt_err     e = qt_backward_from(t, y, a->data);
            assert_true(e == QT_OK || (e == QT_EMEM && strstr(qt_error_text(), "out of memory")));
        }
        qt_tape_free(t);
        qt_alloc_fail_at(0);
        qt_error_clear();
    }
}

/* The gradient of a result lives only while backward needs it: a chain of any length works in two blocks, and a second backward finds
 * everything as the first did. */
static void gradients_of_results_are_lent(void **state)
{
    qt_tape   *t = qt_tape_new();
    qt_tensor *x = qt_variable(t, 1, (int64_t[]){100}), *y = x, *mid;
    R          dy[100];
    (void)state;
    for (int i = 0; i < 100; i++) x->data[i] = (R)i - 50, dy[i] = 1;
    for (int k = 0; k < 9; k++) y = qt_scale(t, y, 2);
    mid = y, y = qt_add(t, qt_relu(t, y), y);
    assert_true(!mid->grad && !y->grad && qt_wants_grad(y));
    for (int round = 1; round <= 2; round++) {
        assert_int_equal(qt_backward_from(t, y, dy), QT_OK);
        for (int i = 0; i < 100; i++) assert_true(x->grad[i] == (R)(512 * (i > 50 ? 2 : 1) * round));
        assert_true(!mid->grad && y->grad);
    }
    assert_true(t->n_lent <= 3);
    qt_tape_free(t);
}

/* What nobody wrote to is zero for an op that adds and for one that has nothing to say, whatever lay in the memory before. */
static void gradients_start_at_nothing(void **state)
{
    qt_tape   *t = qt_tape_new();
    (void)state;
    for (int round = 0; round < 2; round++) {
        qt_tensor *x = qt_variable(t, 2, (int64_t[]){4, 6}), *big = qt_scale(t, x, 1);
        qt_tensor *part = qt_slice(t, big, 1, 2, 3), *far = qt_exp(t, qt_scale(t, qt_slice(t, big, 0, 0, 1), 1000));
        R          dy[4] = {1, 2, 3, 4};
        (void)far; /* leads nowhere: no gradient comes from it */
        for (int i = 0; i < 24; i++) x->data[i] = 1;
        assert_int_equal(qt_backward_from(t, part, dy), QT_OK);
        for (int i = 0; i < 24; i++) assert_true(x->grad[i] == (R)(i % 6 == 2 ? i / 6 + 1 : 0));
        qt_tape_reset(t);
        R *dirt = qt_tape_alloc(t, 1 << 16);
        for (size_t i = 0; i < (1 << 16) / sizeof(R); i++) dirt[i] = (R)NAN;
        qt_tape_reset(t);
    }
    qt_tape_free(t);
}

/* The first node, backward, that gives what is not finite; results keep no gradients, so it is looked for by running again. */
static void gradients_that_are_not_finite_are_found(void **state)
{
    qt_tape    *t = qt_tape_new();
    qt_tensor  *x = qt_variable(t, 1, (int64_t[]){2}), *root;
    const char *which;
    (void)state;
    x->data[0] = 0, x->data[1] = 4;
    root = qt_sqrt(t, qt_scale(t, x, 1));
    assert_int_equal(qt_backward(t, qt_sum(t, root, 0)), QT_OK);
    const qt_node *nd = qt_tape_nonfinite(t, &which);
    assert_non_null(nd);
    assert_string_equal(which, "gradient");
    assert_string_equal(nd->op->d.name, "sqrt");
    qt_tape_free(t);
}

static void clipping(void **state)
{
    enum { N = 70001 };
    qt_store  *s = qt_store_new(1);
    qt_tensor *w = qt_param_add(s, "w", QT_WEIGHT, QT_INIT_CONST(0), 1, (int64_t[]){N});
    (void)state;
    assert_int_equal(qt_store_seal(s, 0), QT_OK);
    for (int i = 0; i < N; i++) w->grad[i] = (R)(i % 7) - 3;
    w->grad[5] = (R)NAN;
    qt_store_clip_value(s, 2);
    for (int i = 0; i < N; i++) assert_true(i == 5 ? w->grad[i] != w->grad[i] : w->grad[i] == (R)fmin(2, fmax(-2, i % 7 - 3)));
    for (int i = 0; i < N; i++) w->grad[i] = (R)3;
    assert_true(fabs(qt_store_clip_norm(s, 1) / (3 * sqrt(N)) - 1) < 1e-6);
    for (int i = 0; i < N; i++) assert_true(fabs((double)w->grad[i] * sqrt(N) - 1) < 1e-6);
    assert_true(qt_store_clip_norm(s, 2) < 1.001);
    qt_store_free(s);
}

/* What cannot be run backward says why, and nothing is touched. */
static void backward_refuses(void **state)
{
    qt_tape   *t = qt_tape_new();
    qt_tensor *x = qt_input(t, 1, (int64_t[]){3}), *v = qt_variable(t, 1, (int64_t[]){3});
    R          dy[3] = {1, 1, 1};
    (void)state;
    assert_int_equal(qt_backward_from(t, qt_relu(t, x), dy), QT_EUSAGE);
    assert_string_equal(qt_error_text(), "backward: the tensor depends on nothing that wants a gradient");
    qt_error_clear();
    assert_int_equal(qt_backward(t, qt_relu(t, v)), QT_EUSAGE);
    assert_string_equal(qt_error_text(), "backward: the loss must be one number, it has 3");
    qt_error_clear();
    assert_true(v->grad[0] == 0 && v->grad[2] == 0);
    qt_tape_free(t);
}

static void all_finite(void **state)
{
    R x[5000];
    (void)state;
    for (int i = 0; i < 5000; i++) x[i] = (R)(i % 2 ? 3e38 : -3e38);
    assert_true(qt_all_finite(x, 5000) && qt_all_finite(x, 0) && qt_all_finite(x, 17));
    for (int at = 0; at < 5000; at += 1 + at / 3)
        for (int k = 0; k < 3; k++) {
            R was = x[at];
            x[at] = k == 0 ? (R)NAN : k == 1 ? (R)INFINITY : (R)-INFINITY;
            assert_true(!qt_all_finite(x, 5000) && !qt_all_finite(x, at + 1) && qt_all_finite(x, at));
            x[at] = was;
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(numbers_at_once_are_those_one_by_one),
        cmocka_unit_test(streams_differ_and_repeat),
        cmocka_unit_test(parameters_have_names_places_and_values_by_name),
        cmocka_unit_test(backward_adds_over_uses),
        cmocka_unit_test(gradients_of_results_are_lent),
        cmocka_unit_test(gradients_start_at_nothing),
        cmocka_unit_test(gradients_that_are_not_finite_are_found),
        cmocka_unit_test(clipping),
        cmocka_unit_test(all_finite),
        cmocka_unit_test(backward_refuses),
        cmocka_unit_test(first_error_sticks_and_memory_failures_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
