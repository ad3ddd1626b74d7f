/* Quantizers that do as ggml does: activations against what ggml itself gave, bit for bit; weights, that they pack into the type's blocks as
 * they are and come back as the same numbers. */
#include "base/half.h"
#include "golden/ggml.h"
#include "kernels/ggml.h"
#include "quants_util.h"

enum { ROWS = 4, WIDTH = 256, ALL = ROWS * WIDTH };

static void golden_codes(const char *spec, const int8_t *codes, int block, const float *scales)
{
    R             x[ALL], back[ALL];
    const int64_t dim[2] = {ROWS, WIDTH};
    qt_arena      a = {0};
    qt_codes      c;
    rig           r = rig_new(A, spec, 2, dim);
    for (int i = 0; i < ALL; i++) x[i] = (R)qt_float_of_bits(act_numbers[i]);
    rig_run(&r, 2, dim, x, NULL);
    assert_int_equal(r.site->quant->encode(r.site, r.x, &a, &c), QT_OK);
    assert_true(c.layout.inner == block && c.layout.count == ALL / block && c.bits == 8);
    for (int i = 0; i < ALL; i++) {
        if (c.code[i] != codes[i]) fail_msg("%s: code %d is %d, ggml has %d", spec, i, c.code[i], codes[i]);
        if (c.scale[i / block] != (R)scales[i / block]) fail_msg("%s: scale %d differs", spec, i / block);
        assert_true(r.y->data[i] == (R)codes[i] * (R)scales[i / block]);
    }
    qt_codes_decode(&c, back);
    assert_memory_equal(back, r.y->data, sizeof back);
    assert_non_null(r.y->codes); /* and as bytes */
    for (int i = 0; i < ALL; i++) assert_int_equal(((const uint8_t *)r.y->codes->q)[i] - 127, codes[i]);
    qt_arena_free(&a), rig_free(&r);
}

static void test_golden(void **state)
{
    float scale[ALL / 32];
    (void)state;
    for (int i = 0; i < ROWS; i++) scale[i] = qt_float_of_bits(q8_k_scales[i]);
    golden_codes("q8_k", q8_k_codes, 256, scale);
    for (int i = 0; i < ALL / 32; i++) scale[i] = qt_half_to_float(q8_0_scales_avx[i]);
    golden_codes("q8_0", q8_0_codes_avx, 32, scale);
    for (int i = 0; i < ALL / 32; i++) scale[i] = qt_half_to_float(q8_0_scales_reference[i]);
    golden_codes("{use: q8_0, rounding: reference}", q8_0_codes_reference, 32, scale);
}

/* Numbers so small that the factor is infinite, and infinity itself, give what is said: zeros, and no silent numbers. */
static void test_ends(void **state)
{
    static const char *const specs[] = {"q8_k", "q8_0", "{use: q8_0, rounding: reference}"};
    const int64_t            dim[2] = {1, WIDTH};
    R                        x[WIDTH];
    (void)state;
    for (int k = 0; k < 3; k++) {
        rig r = rig_new(A, specs[k], 2, dim);
        for (int i = 0; i < WIDTH; i++) x[i] = i % 2 ? (R)1e-39 : -(R)1e-40;
        rig_run(&r, 2, dim, x, NULL);
        for (int i = 0; i < WIDTH; i++) assert_true(r.y->data[i] == 0);
        x[5] = (R)INFINITY;
        rig_run(&r, 2, dim, x, NULL);
        assert_false(qt_all_finite(r.y->data, WIDTH));
        rig_free(&r);
    }
}

/* ---- weights --------------------------------------------------------------------------------------------------------------------- */

static void packs(const char *type, const char *more, const R *x)
{
    char           spec[64];
    const qt_ggml *t = qt_ggml_find(type);
    const int64_t  dim[2] = {ROWS, WIDTH};
    uint8_t        bytes[ALL * 2];
    R              back[ALL];
    int64_t        bad;
    qt_arena       a = {0};
    qt_codes       c;
    snprintf(spec, sizeof spec, "{use: ggml, type: %s%s}", type, more);
    rig r = rig_new(W, spec, 2, dim);
    rig_run(&r, 2, dim, x, NULL);
    assert_int_equal(r.site->quant->encode(r.site, r.x, &a, &c), QT_OK);
    for (int64_t k = 0; k < c.layout.count; k++) assert_true(fabs(c.scale[k]) >= (R)0x1p-14 && fabs(c.scale[k]) <= 65504);
    if (!qt_ggml_pack(t, c.n, c.code, c.scale, c.layout.inner, c.layout.count, bytes, &bad)) fail_msg("%s: block %d does not pack", spec, (int)bad);
    assert_true(qt_ggml_read(t, c.n, bytes, back));
    for (int i = 0; i < ALL; i++)
        if (back[i] != r.y->data[i]) fail_msg("%s: number %d differs", spec, i);
    qt_arena_free(&a), rig_free(&r);
}

static void test_weights(void **state)
{
    R *x = normal(ALL, 60);
    (void)state;
    memset(x, 0, 256 * sizeof *x);                                        /* blocks of zeros */
    for (int i = 256; i < 320; i++) x[i] *= (R)1e-6;                      /* below the smallest scale */
    for (int i = 320; i < 384; i++) x[i] *= (R)1e8;                       /* above the largest */
    for (int i = 384; i < 416; i++) x[i] = i % 2 ? (R)0.75 : (R)-0.75;    /* both ends equal */
    for (int k = 0; k < 6; k++) packs(((const char *[]){"Q8_0", "Q4_0", "Q2_0", "Q1_0", "TQ1_0", "TQ2_0"})[k], "", x);
    packs("Q4_0", ", ends: symmetric", x);
    qt_free(x);
}

/* The scales and codes that the head of ggml.c promises, on a block where they are whole numbers. */
static void test_formulas(void **state)
{
    static const struct {
        const char *spec;
        double      scale;
        int         code[3]; /* of -8, 7.4, 1 */
    } want[] = {{"{use: ggml, type: Q4_0}", 1, {-8, 7, 1}},
                {"{use: ggml, type: Q4_0, ends: symmetric}", 1.142578125, {-7, 6, 1}},
                {"{use: ggml, type: Q8_0}", 0.06298828125, {-127, 117, 16}},
                {"{use: ggml, type: Q2_0}", -0.25634765625, {2, -1, -1}},
                {"{use: ggml, type: TQ2_0}", 0.06408691406, {-1, 1, 1}},
                {"{use: ggml, type: Q1_0}", 0.1281738281, {-1, 1, 1}}};
    const int64_t dim[2] = {1, WIDTH};
    R             x[WIDTH] = {-8, (R)7.4, 1};
    (void)state;
    for (int k = 0; k < 6; k++) {
        qt_arena a = {0};
        qt_codes c;
        rig      r = rig_new(W, want[k].spec, 2, dim);
        rig_run(&r, 2, dim, x, NULL);
        assert_int_equal(r.site->quant->encode(r.site, r.x, &a, &c), QT_OK);
        if (fabs((double)c.scale[0] - want[k].scale) > 1e-9) fail_msg("%s: scale %.10f", want[k].spec, (double)c.scale[0]);
        for (int i = 0; i < 3; i++)
            if (c.code[i] != want[k].code[i]) fail_msg("%s: code %d of %g", want[k].spec, c.code[i], (double)x[i]);
        qt_arena_free(&a), rig_free(&r);
    }
}

/* ---- errors ---------------------------------------------------------------------------------------------------------------------- */

static void refuse(qt_role role, const char *spec, int64_t width, const char *message)
{
    qt_store *s = qt_store_new(1);
    qt_tensor like = {.rank = 2, .dim = {24, width}, .n = 24 * width};
    assert_null(qt_site_new(s, "fc1", role, spec, &like));
    if (!strstr(qt_error_text(), message)) fail_msg("%s: said '%s', expected '%s'", spec, qt_error_text(), message);
    qt_error_clear();
    qt_store_free(s);
}

static void test_errors(void **state)
{
    (void)state;
    refuse(A, "q8_k", 300, "fc1: quant q8_k: a row of 300 is not made of blocks of 256; the nearest widths are 256 and 512");
    refuse(A, "q8_k", 64, "fc1: quant q8_k: a row of 64 is shorter than a block of 256; the nearest width is 256");
    refuse(A, "q8_0", 100, "the nearest widths are 96 and 128");
    refuse(W, "{use: ggml, type: Q1_0}", 200, "the nearest widths are 128 and 256");
    refuse(W, "{use: ggml, type: TQ2_0}", 128, "shorter than a block of 256");
    refuse(W, "{use: ggml, type: Q8_0, ends: symmetric}", 32, "only type Q4_0 has ends");
    refuse(W, "{use: ggml}", 32, "type");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden),   cmocka_unit_test(test_ends),  cmocka_unit_test(test_weights),
                                       cmocka_unit_test(test_formulas), cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests_name("ggml_quants", tests, NULL, NULL);
}
