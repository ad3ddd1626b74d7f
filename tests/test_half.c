/* Half precision: every half and its neighbours in float, both ways. */
#include "base/half.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

/* By its definition. */
static double value(uint16_t h)
{
    int    e = h >> 10 & 31, m = h & 1023;
    double v = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

static void test_values(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = qt_half_to_float((uint16_t)h);
        assert_true((signbit(f) != 0) == (h >> 15 != 0));
        if ((h & 0x7fff) > 0x7c00) assert_true(isnan(f) && isnan(qt_half_to_float(qt_half_from_float(f))));
        else if ((h & 0x7fff) == 0x7c00) assert_true(isinf(f) && qt_half_from_float(f) == h);
        else assert_true((double)f == value((uint16_t)h) && qt_half_from_float(f) == h);
    }
}

/* Between two neighbours the middle goes to the even one, what is beside the middle to the nearer. */
static void test_rounding(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        float    middle = (float)((value((uint16_t)h) + (h == 0x7bff ? 65536 : value((uint16_t)(h + 1)))) / 2);
        uint16_t even = (uint16_t)(h + (h & 1));
        for (int minus = 0; minus < 2; minus++) {
            uint16_t sign = minus ? 0x8000 : 0;
            float    m = minus ? -middle : middle;
            assert_int_equal(qt_half_from_float(m), sign | even);
            assert_int_equal(qt_half_from_float(nextafterf(m, 0)), sign | h);
            assert_int_equal(qt_half_from_float(nextafterf(m, minus ? -INFINITY : INFINITY)), sign | (h + 1));
        }
    }
    assert_int_equal(qt_half_from_float(1e30f), 0x7c00);
    assert_int_equal(qt_half_from_float(-1e-30f), 0x8000);
    assert_int_equal(qt_half_from_float(1e-45f), 0);
}

/* A journey through 16 bits, at each half and the floats between and beside; and at floats of all magnitudes. */
static void test_journey(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++)
        for (int beside = -2; beside <= 2; beside++)
            for (uint32_t middle = 0; middle <= 0x1000; middle += 0x1000) {
                float f = qt_float_of_bits(qt_float_bits(qt_half_to_float((uint16_t)h)) + middle + (uint32_t)beside);
                assert_int_equal(qt_float_bits(qt_half_round(f)), qt_float_bits(qt_half_to_float(qt_half_from_float(f))));
            }
    for (uint64_t b = 0; b < UINT32_MAX; b += 4099) {
        float f = qt_float_of_bits((uint32_t)b);
        assert_int_equal(qt_float_bits(qt_half_round(f)), qt_float_bits(qt_half_to_float(qt_half_from_float(f))));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_rounding), cmocka_unit_test(test_journey)};
    return cmocka_run_group_tests_name("half", tests, NULL, NULL);
}
