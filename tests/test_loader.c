/* The loader: which sample stands where, resuming, errors from its thread, no allocation, and two loaders on one set. */
#include "data_util.h"

/* Permutation of an epoch, computed here on its own. */
static void permutation(int64_t n, uint64_t seed, int64_t epoch, int64_t *order)
{
    qt_rng r = qt_rng_named(seed, "data/epoch/%lld", (long long)epoch);
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t u = (int64_t)qt_rng_below(&r, (uint64_t)i + 1), v = order[i];
        order[i] = order[u], order[u] = v;
    }
}

static void expect_sample(qt_data *d, qt_split s, int64_t i, const qt_batch *b, int64_t at)
{
    R       x[64];
    int32_t y;
    expect_ok(qt_data_get(d, s, i, NULL, x, &y, NULL));
    assert_memory_equal(b->x + at * 64, x, sizeof x);
    assert_int_equal(b->y[at], y);
    assert_null(b->t);
}

static void test_order(void **state)
{
    qt_data        *d;
    qt_loader      *l;
    const qt_batch *b;
    int64_t         order[1348], epoch = -1;
    (void)state;
    OPEN(d, "{use: digits, batch_size: 100}");
    assert_int_equal(qt_loader_batches_per_epoch(d), 13);
    expect_ok(qt_loader_train(d, 7, 0, &l));
    for (int64_t k = 0; k < 30; k++) {
        expect_ok(qt_loader_next(l, &b));
        assert_int_equal(b->n, 100);
        if (k / 13 != epoch) permutation(1348, 7, epoch = k / 13, order);
        for (int64_t i = 0; i < 100; i++) expect_sample(d, QT_TRAIN, order[k % 13 * 100 + i], b, i);
    }
    qt_loader_free(l);
    qt_data_close(d);
}

static void test_permutations(void **state)
{
    int64_t a[1348], b[1348], same = 0;
    bool    seen[1348] = {0};
    (void)state;
    permutation(1348, 1, 0, a), permutation(1348, 1, 1, b);
    for (int i = 0; i < 1348; i++) same += a[i] == b[i], seen[a[i]] = true;
    for (int i = 0; i < 1348; i++) assert_true(seen[i]);
    assert_true(same < 10);
}

/* A loader that starts at batch k gives what one from the beginning gives there, augmentation too. */
static void test_resume(void **state)
{
    qt_data        *d;
    qt_loader      *from_start, *late;
    const qt_batch *a, *b;
    (void)state;
    if (access("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz", R_OK)) skip();
    OPEN(d, "{use: fashion-mnist, flip: true, crop: 3, batch_size: 50, train: 'train[:520]'}");
    for (int64_t k = 0; k < 25; k += 8) {
        expect_ok(qt_loader_train(d, 3, 0, &from_start));
        expect_ok(qt_loader_train(d, 3, k, &late));
        for (int64_t i = 0; i < k; i++) expect_ok(qt_loader_next(from_start, &a));
        for (int i = 0; i < 12; i++) {
            expect_ok(qt_loader_next(from_start, &a));
            expect_ok(qt_loader_next(late, &b));
            assert_memory_equal(a->x, b->x, sizeof(R) * 50 * 784);
            assert_memory_equal(a->y, b->y, sizeof(int32_t) * 50);
        }
        qt_loader_free(from_start), qt_loader_free(late);
    }
    qt_data_close(d);
}

static void test_eval(void **state)
{
    qt_data        *d;
    qt_loader      *l;
    const qt_batch *b;
    (void)state;
    OPEN(d, "digits");
    for (int64_t size = 1; size < 1000; size *= 10) {
        int64_t at = 0;
        expect_ok(qt_loader_eval(d, QT_TEST, size, &l));
        for (;;) {
            expect_ok(qt_loader_next(l, &b));
            if (!b) break;
            assert_int_equal(b->n, size < 449 - at ? size : 449 - at);
            for (int64_t i = 0; i < b->n; i++) expect_sample(d, QT_TEST, at + i, b, i);
            at += b->n;
        }
        assert_int_equal(at, 449);
        expect_ok(qt_loader_next(l, &b)); /* and stays at the end */
        assert_null(b);
        qt_loader_free(l);
    }
    expect(qt_loader_eval(d, QT_VAL, 10, &l), QT_EDATA, "there is no split 'val'");
    qt_data_close(d);
}

/* A split smaller than a batch is one batch an epoch; targets that are numbers come in t. */
static void test_small(void **state)
{
    qt_data        *d;
    qt_loader      *l;
    const qt_batch *b;
    (void)state;
    OPEN(d, "{use: regression, n: 5, batch_size: 8}");
    assert_int_equal(qt_loader_batches_per_epoch(d), 1);
    expect_ok(qt_loader_train(d, 1, 0, &l));
    for (int64_t epoch = 0; epoch < 5; epoch++) {
        int64_t order[5];
        permutation(5, 1, epoch, order);
        expect_ok(qt_loader_next(l, &b));
        assert_int_equal(b->n, 5);
        assert_null(b->y);
        for (int i = 0; i < 5; i++) {
            R x, t;
            expect_ok(qt_data_get(d, QT_TRAIN, order[i], NULL, &x, NULL, &t));
            assert_true(b->x[i] == x && b->t[i] == t);
        }
    }
    qt_loader_free(l);
    qt_data_close(d);
}

/* An error of the loader's thread reaches the caller, after the good batches before it, and again on the next call. */
static void test_error(void **state)
{
    char           *at = folder("lazy"), *last = NULL;
    qt_data        *d;
    qt_loader      *l;
    const qt_batch *b;
    (void)state;
    folder("lazy/only");
    for (int i = 0; i < 8; i++) { /* a BMP of one pixel */
        static const uint8_t bmp[58] = {'B', 'M', 58, [10] = 54, [14] = 40, [18] = 1, [22] = 1, [26] = 1, [28] = 24, [54] = 7};
        last = qt_arena_sprintf(&arena, "%s/only/%d.bmp", at, i);
        write_file(last, bmp, sizeof bmp);
    }
    OPEN(d, "{use: imagefolder, path: %s, size: 1, cache_mb: 0}", at);
    write_file(last, "gone", 4);
    expect_ok(qt_loader_eval(d, QT_TRAIN, 3, &l));
    for (int i = 0; i < 2; i++) {
        expect_ok(qt_loader_next(l, &b));
        assert_int_equal(b->n, 3);
    }
    expect(qt_loader_next(l, &b), QT_EDATA, "only/7.bmp: no PNG, JPEG or BMP image");
    assert_null(b);
    assert_int_equal(qt_loader_next(l, &b), QT_EDATA);
    qt_loader_free(l);
    qt_data_close(d);
}

static void test_no_allocation(void **state)
{
    qt_data        *d;
    qt_loader      *l;
    const qt_batch *b;
    int64_t         before;
    (void)state;
    OPEN(d, "{use: digits, batch_size: 32}");
    expect_ok(qt_loader_train(d, 1, 0, &l));
    before = qt_alloc_count();
    for (int i = 0; i < 200; i++) expect_ok(qt_loader_next(l, &b));
    assert_int_equal(qt_alloc_count(), before);
    qt_loader_free(l);
    qt_data_close(d);
}

/* Training goes on while an evaluation reads the same set. */
static void test_two_loaders(void **state)
{
    qt_data        *d;
    qt_loader      *train, *eval;
    const qt_batch *a, *b;
    int64_t         order[1348];
    (void)state;
    OPEN(d, "{use: digits, batch_size: 10}");
    permutation(1348, 5, 0, order);
    expect_ok(qt_loader_train(d, 5, 0, &train));
    expect_ok(qt_loader_eval(d, QT_TEST, 4, &eval));
    for (int64_t k = 0; k < 100; k++) {
        expect_ok(qt_loader_next(train, &a));
        expect_ok(qt_loader_next(eval, &b));
        for (int64_t i = 0; i < 10; i++) expect_sample(d, QT_TRAIN, order[10 * k + i], a, i);
        for (int64_t i = 0; i < 4; i++) expect_sample(d, QT_TEST, 4 * k + i, b, i);
    }
    qt_loader_free(eval), qt_loader_free(train); /* both in the middle */
    qt_data_close(d);
}

static void test_start_and_stop(void **state)
{
    qt_data *d;
    (void)state;
    OPEN(d, "{use: digits, batch_size: 64}");
    for (int i = 0; i < 200; i++) {
        qt_loader      *l;
        const qt_batch *b;
        expect_ok(qt_loader_train(d, 1, i, &l));
        for (int k = i % 6; k > 0; k--) expect_ok(qt_loader_next(l, &b));
        qt_loader_free(l);
    }
    for (int64_t at = 1, e = QT_EMEM; e != QT_OK; at++) {
        qt_loader *l;
        qt_alloc_fail_at(at);
        e = qt_loader_train(d, 1, 0, &l);
        qt_alloc_fail_at(0);
        if (e == QT_OK) qt_loader_free(l);
        else expect((qt_err)e, QT_EMEM, "out of memory");
    }
    qt_loader_free(NULL);
    qt_data_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order), cmocka_unit_test(test_permutations),  cmocka_unit_test(test_resume),      cmocka_unit_test(test_eval),
        cmocka_unit_test(test_small), cmocka_unit_test(test_error),         cmocka_unit_test(test_no_allocation), cmocka_unit_test(test_two_loaders),
        cmocka_unit_test(test_start_and_stop),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
