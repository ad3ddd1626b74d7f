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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(streams_differ_and_repeat),
        cmocka_unit_test(parameters_have_names_places_and_values_by_name),
        cmocka_unit_test(backward_adds_over_uses),
        cmocka_unit_test(first_error_sticks_and_memory_failures_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
