/* Block types of ggml against blocks that ggml itself has made: unpacked they give its numbers, packed again its bytes, bit for bit. */
#include "base/half.h"
#include "base/rng.h"
#include "golden/ggml.h"
#include "kernels/ggml.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 512 };

static const struct {
    const char     *name;
    const uint8_t  *blocks;
    const uint32_t *numbers;
    size_t          bytes, n;
} golden[] = {
#define G(name) {#name, name##_blocks, name##_numbers, sizeof name##_blocks, sizeof name##_numbers / 4}
    G(q8_0), G(q4_0), G(q2_0), G(q1_0), G(tq2_0), G(tq1_0)};
enum { GOLDEN = sizeof golden / sizeof *golden };

static void test_golden(void **state)
{
    (void)state;
    for (int g = 0; g < GOLDEN; g++) {
        const qt_ggml *t = qt_ggml_find(golden[g].name);
        int64_t        n = (int64_t)golden[g].n, bad;
        int32_t        code[MOST];
        R              scale[MOST], x[MOST];
        uint8_t        bytes[MOST];
        assert_true(t && t->pack && n == 2 * t->block && (int64_t)golden[g].bytes == 2 * t->bytes);
        assert_true(qt_ggml_read(t, n, golden[g].blocks, x));
        for (int64_t i = 0; i < n; i++) assert_int_equal(qt_float_bits((float)x[i]), golden[g].numbers[i]);
        qt_ggml_unpack(t, n, golden[g].blocks, code, scale);
        for (int64_t i = 0; i < n; i++) assert_true((float)code[i] * (float)scale[i / t->block] == (float)x[i]);
        assert_true(qt_ggml_pack(t, n, code, scale, t->block, 2, bytes, &bad) && bad == 2);
        assert_memory_equal(bytes, golden[g].blocks, golden[g].bytes);
    }
}

/* Any codes in range survive, whatever shares a scale. */
static void test_round_trip(void **state)
{
    (void)state;
    qt_rng r = qt_rng_named(1, "test/ggml");
    for (int g = 0; g < GOLDEN; g++)
        for (int shared = 0; shared < 2; shared++) {
            const qt_ggml *t = qt_ggml_find(golden[g].name);
            int32_t        code[4 * QT_GGML_LONGEST], back[4 * QT_GGML_LONGEST];
            R              scale[4] = {(R)0.25, (R)-3, (R)0x1p-24, 65504}, blocks[4];
            uint8_t        bytes[4 * 66];
            int64_t        n = 4 * t->block, bad;
            for (int64_t i = 0; i < n; i++) {
                code[i] = t->lo + (int)qt_rng_below(&r, (uint64_t)(t->hi - t->lo + 1));
                if (t->id == QT_GGML_Q1_0 && !code[i]) code[i] = 1;
            }
            assert_true(qt_ggml_pack(t, n, code, scale, shared ? 2 * t->block : t->block, shared ? 2 : 4, bytes, &bad));
            qt_ggml_unpack(t, n, bytes, back, blocks);
            assert_memory_equal(code, back, (size_t)n * sizeof *code);
            for (int b = 0; b < 4; b++) assert_true(blocks[b] == scale[shared ? b / 2 : b]);
        }
}

static void test_refusals(void **state)
{
    (void)state;
    for (int g = 0; g < GOLDEN; g++) {
        const qt_ggml *t = qt_ggml_find(golden[g].name);
        const R        off[] = {(R)0.1, (R)65520, (R)INFINITY, (R)NAN, (R)1e-10};
        int32_t        code[3 * QT_GGML_LONGEST];
        uint8_t        bytes[3 * 66];
        int64_t        n = 3 * t->block, bad;
        for (int64_t i = 0; i < n; i++) code[i] = 1;
        for (int at = 0; at < 3; at++) {
            for (int k = 0; k < 5; k++) {
                R scale[3] = {1, 1, 1};
                scale[at] = off[k];
                assert_false(qt_ggml_pack(t, n, code, scale, t->block, 3, bytes, &bad));
                assert_int_equal(bad, at);
            }
            int32_t wrong[] = {t->lo - 1, t->hi + 1, t->id == QT_GGML_Q1_0 ? 0 : 1000};
            for (int k = 0; k < 3; k++) {
                code[at * t->block + 7] = wrong[k];
                assert_false(qt_ggml_pack(t, n, code, (R[]){1}, n, 1, bytes, &bad));
                assert_int_equal(bad, at);
                code[at * t->block + 7] = 1;
            }
        }
    }
}

static void test_floats(void **state)
{
    (void)state;
    const R        x[] = {1, (R)-0.1, (R)65520, (R)1e-8, 0}, half[] = {1, (R)-0.0999755859375, (R)INFINITY, 0, 0};
    const uint8_t  bf16[] = {0x80, 0x3f, 0xcc, 0xbd};
    R              y[5];
    uint8_t        bytes[20];
    const qt_ggml *t = qt_ggml_of(QT_GGML_F32);
    qt_ggml_write(t, 5, x, bytes);
    assert_true(qt_ggml_read(t, 5, bytes, y));
    for (int i = 0; i < 5; i++) assert_true(y[i] == (R)(float)x[i]);
    t = qt_ggml_of(QT_GGML_F16);
    qt_ggml_write(t, 5, x, bytes);
    assert_true(qt_ggml_read(t, 5, bytes, y));
    for (int i = 0; i < 5; i++) assert_true(y[i] == half[i]);
    assert_true(qt_ggml_read(qt_ggml_of(QT_GGML_BF16), 2, bf16, y));
    assert_true(y[0] == 1 && y[1] == (R)-0.099609375);
    assert_false(qt_ggml_read(qt_ggml_find("q4_k"), 256, bytes, y));
    assert_null(qt_ggml_of(4));
    assert_null(qt_ggml_find("Q9_0"));
    assert_true(qt_ggml_bits(qt_ggml_find("TQ2_0")) == 2.0625 && qt_ggml_bits(qt_ggml_find("Q4_0")) == 4.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_round_trip), cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_floats)};
    return cmocka_run_group_tests_name("ggml", tests, NULL, NULL);
}
