/* A store in a file of its own: round trip of all values, quantizer state included; files that hold other parameters, or are damaged, change nothing. */
#include "autograd/store.h"
#include "base/h5.h"
#include "files_util.h"

static const int64_t DIM[] = {4, 3};

/* A weight, a bias, a buffer and a learned step; none of the last with fewer > 0. */
static qt_store *make(uint64_t seed, int fewer, int64_t cols)
{
    qt_store  *s = qt_store_new(seed);
    qt_tensor *w = qt_param_add(s, "fc.weight", QT_WEIGHT, (qt_init){QT_INIT_NORMAL, 1}, 2, (int64_t[]){4, cols});
    qt_param_add(s, "fc.bias", QT_BIAS, (qt_init){QT_INIT_UNIFORM, 1}, 1, DIM);
    qt_param_add(s, "bn.mean", QT_BUFFER, QT_INIT_CONST(seed), 1, DIM);
    if (!fewer) assert_non_null(qt_site_new(s, "fc.weight", QT_ROLE_WEIGHT, "{use: lsq, num_bits: 4}", w));
    OK(qt_store_seal(s, 1));
    return s;
}

static void test_round_trip(void **state)
{
    qt_store *a = make(1, 0, 3), *b = make(2, 0, 3);
    (void)state;
    qt_param_find(a, "fc.weight.scale")->data[0] = (R)0.125;
    OK(qt_store_save(a, file));
    OK(qt_store_load(b, file));
    for (int i = 0; i < a->n; i++) {
        const qt_tensor *x = &a->p[i]->t, *y = qt_param_find(b, x->name);
        assert_true(y && y->n == x->n);
        assert_memory_equal(y->data, x->data, (size_t)x->n * sizeof *x->data);
    }
    assert_true(qt_param_find(b, "fc.weight.scale")->data[0] == (R)0.125 && qt_param_find(b, "bn.mean")->data[3] == 1);
    qt_store_free(a), qt_store_free(b);
}

/* Loading fails with these lines, each with the file's name in front, and no value changes. */
static void refused(qt_store *s, int n, const char *const line[])
{
    R *before = qt_alloc((size_t)s->size * sizeof *before);
    memcpy(before, s->value, (size_t)s->size * sizeof *before);
    assert_int_equal(qt_store_load(s, file), QT_EDATA);
    assert_memory_equal(s->value, before, (size_t)s->size * sizeof *before);
    assert_int_equal(qt_error_count(), n);
    for (int i = 0; i < n; i++) {
        char want[256];
        snprintf(want, sizeof want, "%s: %s", file, line[i]);
        if (!strstr(qt_error_text(), want)) fail_msg("said '%s', expected '%s'", qt_error_text(), want);
    }
    qt_error_clear();
    qt_free(before);
}

static void test_misfits(void **state)
{
    qt_store *a = make(1, 0, 3), *fewer = make(2, 1, 3), *wider = make(3, 0, 5);
    (void)state;
    OK(qt_store_save(a, file));
    refused(wider, 1, (const char *const[]){"params/fc.weight has 12 numbers in 2 dimensions, expected [4, 5]"});
    refused(fewer, 2, (const char *const[]){"params/fc.weight.scale is no parameter of this store", "params/fc.weight.initialized is no parameter of this store"});
    OK(qt_store_save(fewer, file));
    refused(a, 2, (const char *const[]){"params/fc.weight.scale is missing", "params/fc.weight.initialized is missing"});
    qt_h5 *f;
    OK(qt_h5_create(file, 0, &f));
    OK(qt_h5_write(f, "other", 1, DIM, a->value, false));
    OK(qt_h5_close(f));
    refused(fewer, 4, (const char *const[]){"other is no parameter of this store", "params/fc.weight is missing", "params/fc.bias is missing", "params/bn.mean is missing"});
    put_file("no HDF5", 7);
    refused(a, 1, (const char *const[]){"not a readable HDF5 file"});
    qt_store_free(a), qt_store_free(fewer), qt_store_free(wider);
}

static void test_not_sealed(void **state)
{
    qt_store *s = qt_store_new(1);
    (void)state;
    unlink(file);
    assert_int_equal(qt_store_save(s, file), QT_EUSAGE);
    says("a store has no values to save before qt_store_seal");
    assert_int_not_equal(access(file, F_OK), 0);
    assert_int_equal(qt_store_load(s, file), QT_EUSAGE);
    says("seal the store before loading it");
    qt_store_free(s);
}

/* No room and no memory: the file of before stays, no part of a new one, and the values stay as they are. */
static void test_failures(void **state)
{
    qt_store *a = make(1, 0, 3), *b = make(2, 0, 3);
    uint8_t   before[1 << 16], after[1 << 16];
    char      part[80];
    (void)state;
    snprintf(part, sizeof part, "%s.part", file);
    OK(qt_store_save(a, file));
    size_t n = get_file(before, sizeof before);
    file_limit(1000);
    assert_int_equal(qt_store_save(b, file), QT_EIO);
    file_limit(0);
    assert_non_null(strstr(qt_error_text(), "cannot write: File too large"));
    qt_error_clear();
    assert_true(get_file(after, sizeof after) == n && !memcmp(before, after, n) && access(part, F_OK));
    qt_err e = QT_EMEM;
    for (int64_t at = 1; e != QT_OK; at++) {
        R keep = b->value[0];
        qt_alloc_fail_at(at);
        e = qt_store_load(b, file);
        qt_alloc_fail_at(0);
        if (e != QT_OK) assert_true(e == QT_EMEM && strstr(qt_error_text(), "out of memory") && b->value[0] == keep);
        qt_error_clear();
        assert_true(at < 1000);
    }
    assert_memory_equal(a->value, b->value, (size_t)a->size * sizeof *a->value);
    assert_int_equal(qt_store_save(a, "/nonexistent/a.h5"), QT_EIO);
    assert_non_null(strstr(qt_error_text(), "cannot create: No such file or directory"));
    qt_error_clear();
    qt_store_free(a), qt_store_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, setup)
        T(test_round_trip), T(test_misfits), T(test_not_sealed), T(test_failures),
    };
    return cmocka_run_group_tests_name("store", tests, make_dir, remove_dir);
}
