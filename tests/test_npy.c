/* Files of numpy: what numpy.save writes is read, of every type; whatever is cut off or turned over is refused or means something. */
#include "files_util.h"
#include "base/npy.h"

static size_t make(uint8_t *p, const char *header, const void *data, size_t n)
{
    size_t len = strlen(header);
    memcpy(p, "\x93NUMPY\1\0", 8);
    p[8] = (uint8_t)len, p[9] = 0;
    memcpy(p + 10, header, len), memcpy(p + 10 + len, data, n);
    return 10 + len + n;
}

static void test_types(void **state)
{
    static const float    f4[] = {1.5f, -2};
    static const double   f8[] = {1.5, -2};
    static const uint16_t f2[] = {0x3e00, 0xc000};
    static const int32_t  i4[] = {7, -2};
    static const int64_t  i8[] = {-(1ll << 40), -2};
    static const struct { const char *type; const void *p; size_t n; double first; } all[] = {
        {"<f4", f4, sizeof f4, 1.5}, {"<f8", f8, sizeof f8, 1.5}, {"<f2", f2, sizeof f2, 1.5}, {"<i4", i4, sizeof i4, 7}, {"<i8", i8, sizeof i8, -0x1p40}};
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        uint8_t p[256];
        char    header[128];
        qt_npy  a;
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (1, 2), }  \n", all[i].type);
        put_file(p, make(p, header, all[i].p, all[i].n));
        OK(qt_npy_open(file, &a));
        assert_true(a.rank == 2 && a.dim[0] == 1 && a.dim[1] == 2 && qt_npy_get(&a, 0) == all[i].first && qt_npy_get(&a, 1) == -2);
        qt_npy_close(&a);
    }
}

static void test_unsigned(void **state)
{
    static const uint16_t u2[] = {65535, 1};
    uint8_t p[256];
    qt_npy  a;
    (void)state;
    put_file(p, make(p, "{'descr': '<u2', 'fortran_order': False, 'shape': (2,), }\n", u2, sizeof u2));
    OK(qt_npy_open(file, &a));
    assert_true(a.rank == 1 && a.n == 2 && qt_npy_get(&a, 0) == 65535 && qt_npy_get(&a, 1) == 1);
    qt_npy_close(&a);
}

static void refused(const char *header, const char *want)
{
    uint8_t p[256], data[8] = {0};
    qt_npy  a;
    put_file(p, make(p, header, data, sizeof data));
    assert_int_equal(qt_npy_open(file, &a), QT_EDATA);
    says(want);
    qt_npy_close(&a);
}

static void test_refused(void **state)
{
    (void)state;
    refused("{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }\n",
            "damaged .npy file: it is not in row-major order (save numpy.ascontiguousarray of it)");
    refused("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }\n",
            "damaged .npy file: its numbers are no little-endian floats or integers of 2 to 8 bytes");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n", "damaged .npy file: its shape and its length do not go together");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 9999999999), }\n", "damaged .npy file: no shape of at most 8 dimensions");
    refused("{'descr': '<f4', 'shape': (2,), }\n", "damaged .npy file: its header is not complete");
}

static qt_err look(void)
{
    qt_npy a;
    volatile double sum = 0;
    qt_err          e = qt_npy_open(file, &a);
    for (int64_t i = 0; e == QT_OK && i < a.n; i++) sum = sum + qt_npy_get(&a, i);
    qt_npy_close(&a);
    return e;
}

static void test_damage(void **state)
{
    uint8_t           p[256];
    static const float x[] = {1, 2, 3, 4, 5, 6};
    (void)state;
    size_t n = make(p, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", x, sizeof x);
    assert_true(damage_all(p, n, look) > (int)n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_types, setup), cmocka_unit_test_setup(test_unsigned, setup),
                                       cmocka_unit_test_setup(test_refused, setup), cmocka_unit_test_setup(test_damage, setup)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
