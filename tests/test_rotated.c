/* The data set `rotated`: pixels against another implementation, which image stands where, disjoint domains, equal shares in each batch. */
#include "data_util.h"
#include "golden/rotated.h"
#include <math.h>

enum { PIXELS = 64, GOLDEN = sizeof golden_angles / sizeof *golden_angles };

static void test_pixels(void **state)
{
    qt_data *d;
    R        x[PIXELS];
    int32_t  y;
    (void)state;
    for (int a = 0; a < GOLDEN; a++) {
        OPEN(d, "{use: rotated, of: digits, angles: %d}", golden_angles[a]);
        for (int i = 0; i < 3; i++) {
            expect_ok(qt_data_get(d, QT_TRAIN, i, NULL, x, &y, NULL));
            for (int k = 0; k < PIXELS; k++)
                if (fabs((double)x[k] - golden_images[a][i][k]) > 2e-6)
                    fail_msg("%d degrees, image %d, pixel %d: %g, expected %g", golden_angles[a], i, k, (double)x[k], golden_images[a][i][k]);
        }
        qt_data_close(d);
    }
}

/* No angle, no change: bit for bit, and what lies beyond the edge is `fill`. */
static void test_exact(void **state)
{
    qt_data *d, *plain;
    R        a[PIXELS], b[PIXELS];
    int32_t  y, z;
    (void)state;
    OPEN(plain, "digits");
    OPEN(d, "{use: rotated, of: {use: digits, normalize: unit}, angles: [0, 45], fill: -7}");
    for (int i = 0; i < 20; i += 2) {
        expect_ok(qt_data_get(d, QT_TRAIN, i, NULL, a, &y, NULL));
        expect_ok(qt_data_get(plain, QT_TRAIN, i, NULL, b, &z, NULL));
        for (int k = 0; k < PIXELS; k++) assert_true(a[k] == b[k] / 16);
        assert_int_equal(y, z);
    }
    expect_ok(qt_data_get(d, QT_TRAIN, 1, NULL, a, &y, NULL));
    assert_true(a[0] == -7 && a[7] == -7 && a[56] == -7 && a[63] == -7);
    qt_data_close(d), qt_data_close(plain);
}

/* 1348 digits, 3 domains of 100: images 0, 4, 8 ... (j 1348 / 300), number j of domain j mod 3. */
static void test_domains(void **state)
{
    qt_data *d, *each[3], *plain;
    R        a[PIXELS], b[PIXELS];
    int32_t  y, z;
    (void)state;
    OPEN(plain, "digits");
    OPEN(d, "{use: rotated, of: digits, angles: [10, 20, 30], held_out: 20, per_domain: 100}");
    for (int k = 0; k < 3; k++) OPEN(each[k], "{use: rotated, of: digits, angles: %d}", 10 * (k + 1));
    assert_int_equal(qt_data_domains(d), 2);
    assert_int_equal(qt_data_domains(plain), 1);
    assert_int_equal(qt_data_size(d, QT_TRAIN), 200);
    assert_int_equal(qt_data_size(d, QT_TEST), 449);
    for (int i = 0; i < 200; i++) {
        int domain = i % 2 ? 2 : 0, j = i / 2 * 3 + domain;
        expect_ok(qt_data_get(d, QT_TRAIN, i, NULL, a, &y, NULL));
        expect_ok(qt_data_get(each[domain], QT_TRAIN, j * 1348 / 300, NULL, b, &z, NULL));
        assert_memory_equal(a, b, sizeof a);
        assert_int_equal(y, z);
    }
    for (int i = 0; i < 449; i++) {
        expect_ok(qt_data_get(d, QT_TEST, i, NULL, a, &y, NULL));
        expect_ok(qt_data_get(each[1], QT_TEST, i, NULL, b, &z, NULL));
        assert_memory_equal(a, b, sizeof a);
        assert_int_equal(y, z);
    }
    for (int k = 0; k < 3; k++) qt_data_close(each[k]);
    qt_data_close(d), qt_data_close(plain);
    OPEN(d, "{use: rotated, of: digits, angles: [10, 20, 30], per_domain: 5}");
    assert_int_equal(qt_data_size(d, QT_TRAIN), 15);
    assert_int_equal(qt_data_size(d, QT_TEST), 3 * 449);
    qt_data_close(d);
}

/* Which training sample a row of a batch is, and that none comes twice in an epoch. */
static int find(qt_data *d, const R *x, bool *seen)
{
    static R all[96][PIXELS];
    static bool filled;
    int32_t     y;
    for (int i = 0; i < 96 && !filled; i++) expect_ok(qt_data_get(d, QT_TRAIN, i, NULL, all[i], &y, NULL));
    filled = true;
    for (int i = 0; i < 96; i++)
        if (!seen[i] && !memcmp(all[i], x, sizeof all[i])) return seen[i] = true, i;
    fail_msg("a row is no sample, or one that has come before");
    return -1;
}

static void test_balance(void **state)
{
    qt_data        *d;
    qt_loader      *l, *late;
    const qt_batch *b, *c;
    int             first[2][24];
    (void)state;
    OPEN(d, "{use: rotated, of: digits, angles: [0, 30, 60, 90, 120], held_out: 60, per_domain: 24, batch_size: 24}");
    expect_ok(qt_loader_train(d, 5, 0, &l));
    expect_ok(qt_loader_train(d, 5, 3, &late));
    for (int k = 0; k < 8; k++) {
        static bool seen[96];
        int         share[4] = {0};
        if (k % 4 == 0) memset(seen, 0, sizeof seen);
        expect_ok(qt_loader_next(l, &b));
        for (int i = 0; i < 24; i++) {
            int at = find(d, b->x + i * PIXELS, seen);
            share[at % 4]++;
            if (k % 4 == 0) first[k / 4][i] = at;
        }
        for (int j = 0; j < 4; j++) assert_int_equal(share[j], 6);
        if (k < 3) continue;
        expect_ok(qt_loader_next(late, &c));
        assert_memory_equal(b->x, c->x, sizeof(R) * 24 * PIXELS);
    }
    assert_memory_not_equal(first[0], first[1], sizeof first[0]); /* another epoch, another order */
    qt_loader_free(l), qt_loader_free(late);
    qt_data_close(d);
}

static void test_errors(void **state)
{
    (void)state;
    READ_FAILS("r.yaml:1:20: data.of: blobs gives no images", "{use: rotated, of: blobs}");
    READ_FAILS("r.yaml:1:20: unknown dataset 'digit', did you mean 'digits'?", "{use: rotated, of: digit}");
    READ_FAILS("data.of: text gives no images", "{use: rotated, of: {use: text, path: x.txt}}");
    READ_FAILS("data.held_out: 16 is none of data.angles", "{use: rotated, of: digits, held_out: 16}");
    READ_FAILS("data.held_out: leaves no domain to train on", "{use: rotated, of: digits, angles: [1, 2], held_out: [1, 2]}");
    READ_FAILS("data.angles: expected at least one angle", "{use: rotated, of: digits, angles: []}");
    READ_FAILS("at most 8 integers", "{use: rotated, of: digits, angles: [1, 2, 3, 4, 5, 6, 7, 8, 9]}");
    OPEN_FAILS(QT_EDATA, "6 domains of 1000 images are 6000, but digits has 1348 in 'train'", "{use: rotated, of: digits, per_domain: 1000}");
    OPEN_FAILS(QT_EIO, "nowhere", "{use: rotated, of: {use: imagefolder, path: nowhere, size: [8, 8]}}");
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(test_pixels), cmocka_unit_test(test_exact), cmocka_unit_test(test_domains),
                                          cmocka_unit_test(test_balance), cmocka_unit_test(test_errors)};

int main(void) { return cmocka_run_group_tests(tests, NULL, NULL); }
