/* What quantizers do for speed, against the plain formula: codes as bytes in the pass that quantizes, learned gradients in one pass of
 * float sums, identity gradients in the parameter's own memory. */
#include "quants_util.h"
#include "qat/steps.h"

/* ---- byte codes -------------------------------------------------------------------------------------------------------------------------- */

/* In range, (q - zero) scale is y bit for bit, q + base is encode's code, and they are there whenever 8 bits suffice. */
static void check_bytes(rig *r, const char *spec, bool expected)
{
    const qt_icodes *b = r->y->codes;
    qt_arena         a = {0};
    qt_codes         c;
    if (!expected) {
        if (b) fail_msg("%s: has codes", spec);
        return;
    }
    if (!b) fail_msg("%s: no codes", spec);
    assert_int_equal(r->site->quant->encode(r->site, r->x, &a, &c), QT_OK);
    assert_true(b->n == c.n && b->inner == c.layout.inner && b->count == c.layout.count && !b->packed);
    assert_true(b->is_signed == (r->site->role == W) && b->hi - b->lo <= 255);
    int base = c.code[0] - (b->is_signed ? ((const int8_t *)b->q)[0] : ((const uint8_t *)b->q)[0]);
    for (int64_t i = 0; i < b->n; i++) {
        int64_t k = i / b->inner % b->count;
        int     q = b->is_signed ? ((const int8_t *)b->q)[i] : ((const uint8_t *)b->q)[i], z = b->zero ? b->zero[k] : 0;
        R       y = (R)(q - z) * b->scale[k];
        if (q < b->lo || q > b->hi) fail_msg("%s: code %d outside [%d, %d]", spec, q, b->lo, b->hi);
        if (q + base != c.code[i]) fail_msg("%s: element %lld: byte %d is not code %d", spec, (long long)i, q, c.code[i]);
        if (memcmp(&y, &r->y->data[i], sizeof y)) fail_msg("%s: element %lld: %g, not %g", spec, (long long)i, (double)y, (double)r->y->data[i]);
        assert_int_equal(z + base, c.zero_point ? (int)c.zero_point[k] : 0);
    }
    assert_true(!b->is_signed || base == 0 || base == 128);
    qt_arena_free(&a);
}

static void test_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        bool        weight, act;
    } more[] = {
        {"{use: uniform, num_bits: 8, symmetric: false}", true, true},
        {"{use: uniform, num_bits: 8, symmetric: false, granularity: channel}", true, true},
        {"{use: uniform, num_bits: 8, symmetric: false, granularity: token}", true, true},
        {"{use: uniform, num_bits: 7, granularity: group, group_size: 16}", true, true},
        {"{use: uniform, num_bits: 9}", false, false},
        {"{use: int, num_bits: 9}", false, false},
        {"{use: lsq, num_bits: 8, signed: false, granularity: channel}", true, true},
        {"{use: lsq, num_bits: 9, signed: false}", false, false},
        {"{use: pact, num_bits: 8}", true, true},
        {"{use: pact, num_bits: 9}", false, false},
        {"{use: dorefa, num_bits: 7}", true, true},
        {"{use: dorefa, num_bits: 8}", false, true},
        {"{use: dorefa, num_bits: 9}", false, false},
        {"{use: lsq_plus, num_bits: 4, granularity: channel}", false, false},
    };
    const int64_t image[4] = {2, 3, 8, 16};
    R            *x = sample(1);
    for (int role = 0; role < 2; role++)
        for (int i = 0; i < CONFIGS + (int)(sizeof more / sizeof *more); i++)
            for (int rank = 2; rank <= 4; rank += 2) {
                const char *spec = i < CONFIGS ? configs[i].spec : more[i - CONFIGS].spec;
                const bool  any = !strstr(spec, "none") && !strstr(spec, "lsq_plus") && !strstr(spec, "nf4") && !strstr(spec, "int_group") &&
                                !strstr(spec, "asymmetric") && !strstr(spec, "kmeans") && !strstr(spec, "shiftq");
                const bool  expected = i < CONFIGS ? any : role ? more[i - CONFIGS].act : more[i - CONFIGS].weight;
                const int64_t *dim = rank == 4 ? image : i < CONFIGS ? dim_of(i) : DIM;
                if (rank == 4 && (strstr(spec, "q8_") || strstr(spec, "ggml"))) continue; /* its rows are no whole blocks */
                rig r = rig_new(role ? A : W, spec, rank, dim);
                rig_run(&r, rank, dim, x, NULL);
                check_bytes(&r, spec, expected);
                qt_tape_simulate(r.tape, true);
                rig_run(&r, rank, dim, x, NULL);
                check_bytes(&r, spec, false);
                rig_free(&r);
            }
    qt_free(x);
}

/* A zero point that is not a code, which only foreign state can bring, has no place in bytes; and a NaN must not vanish in them. */
static void test_bytes_refused(void **state)
{
    (void)state;
    R  *x = sample(2);
    rig r = rig_new(A, "{use: uniform, num_bits: 4, symmetric: false}", 2, DIM);
    for (int i = 0; i < 4; i++) {
        param(&r, "scale")->data[0] = (R)0.25, param(&r, "initialized")->data[0] = 1;
        param(&r, "zero_point")->data[0] = ((const R[]){15, 16, -1, (R)0.5})[i];
        r.site->observing = false;
        rig_run(&r, 2, DIM, x, NULL);
        assert_true((r.y->codes != NULL) == (i == 0));
    }
    rig_free(&r);
    FOR_CONFIGS(i) {
        if (strstr(configs[i].spec, "mse") || strstr(configs[i].spec, "entropy") || strstr(configs[i].spec, "percentile")) continue;
        r = rig_new(configs[i].role, configs[i].spec, 2, dim_of(i));
        rig_run(&r, 2, dim_of(i), x, NULL);
        x[70] = (R)NAN;
        r.site->observing = false;
        rig_run(&r, 2, dim_of(i), x, NULL);
        x[70] = 0;
        assert_true(isnan(r.y->data[70]));
        if (r.y->codes && !isnan(r.y->codes->scale[70 / r.y->codes->inner % r.y->codes->count])) fail_msg("%s: NaN is hidden", configs[i].spec);
        rig_free(&r);
    }
    qt_free(x);
}


/* Values, bytes and scales do not depend on threads, nor on the pieces that long runs are cut into. */
static void test_bytes_threads(void **state)
{
    (void)state;
    const int64_t dim[2] = {4, 20480}, n = 4 * 20480;
    R            *x = normal(n, 3), *scale = normal(n / 32, 0);
    uint8_t      *q = qt_alloc((size_t)n);
    FOR_CONFIGS(i)
        for (int threads = 1; threads <= 2; threads++) {
            if (strstr(configs[i].spec, "mse") || strstr(configs[i].spec, "group") || strstr(configs[i].spec, "channel")) continue;
            rig r = rig_new(configs[i].role, configs[i].spec, 2, dim);
            qt_set_threads(threads);
            rig_run(&r, 2, dim, x, NULL);
            const qt_icodes *c = r.y->codes;
            if (c && threads == 1) memcpy(q, c->q, (size_t)n), memcpy(scale, c->scale, (size_t)c->count * sizeof *scale);
            if (c && threads == 2) assert_memory_equal(q, c->q, n);
            if (c && threads == 2) assert_memory_equal(scale, c->scale, c->count * (int64_t)sizeof *scale);
            if (c) check_bytes(&r, configs[i].spec, true);
            rig_free(&r);
        }
    qt_set_threads(0);
    qt_free(x), qt_free(q), qt_free(scale);
}

/* The leaf of all grids, over odd lengths and scales as small and large as there are. */
static void test_run(void **state)
{
    (void)state;
    enum { MOST = 150 };
    static const double scales[] = {0.1, 0.25, 1e-8, 1e-38, 1e-44, 3e5, 1e30, 3e38};
    static const struct {
        R   z, qn, qp;
        int base;
    } grid[] = {{0, -128, 127, 0}, {0, -128, 127, -128}, {0, -8, 7, -8}, {0, -1, 1, 0}, {3, 0, 15, 0}, {200, 0, 255, 0}, {255, 0, 255, 128}};
    R      *noise = normal(MOST, 4), x[MOST], y[MOST + 1], plain[MOST + 1];
    uint8_t q[MOST + 1];
    for (int k = 0; k < (int)(sizeof scales / sizeof *scales); k++)
        for (int g = 0; g < (int)(sizeof grid / sizeof *grid); g++)
            for (int n = 0; n <= MOST; n += n < 70 ? 1 : 40) {
                const R s = (R)scales[k], z = grid[g].z, qn = grid[g].qn, qp = grid[g].qp;
                for (int i = 0; i < n; i++) { /* around every rounding bound, and beyond all */
                    R at = (qn + (R)(i * 7 % (int)(qp - qn + 4)) - 2 - z + (R)0.5) * s;
                    x[i] = i % 5 == 0 ? noise[i] * s * 100 : i % 5 == 1 ? at : i % 5 == 2 ? (R)nextafter((double)at, HUGE_VAL) : at * (R)0.999;
                    if (i == 11) x[i] = (R)INFINITY;
                    if (i == 12) x[i] = (R)-INFINITY;
                    if (i == 13) x[i] = (R)-0.0;
                }
                y[n] = plain[n] = 77, q[n] = 99;
                assert_true(qt_quantize_run(y, q, x, n, s, z, qn, qp, grid[g].base));
                assert_true(qt_quantize_run(plain, NULL, x, n, s, z, qn, qp, grid[g].base));
                assert_memory_equal(y, plain, (size_t)n * sizeof *y);
                assert_true(y[n] == 77 && plain[n] == 77 && q[n] == 99);
                for (int i = 0; i < n; i++) {
                    double u = rint((double)(x[i] / s)) + (double)z;
                    int    code = (int)fmin(fmax(u, (double)qn), (double)qp);
                    R      value = (R)(code - (int)z) * s;
                    assert_int_equal(q[i], (uint8_t)(code - grid[g].base));
                    assert_memory_equal(&y[i], &value, sizeof value);
                }
                if (n < 20) continue;
                x[n - 1] = (R)NAN;
                assert_false(qt_quantize_run(y, q, x, n, s, z, qn, qp, grid[g].base));
                assert_true(isnan(y[n - 1]));
            }
    qt_free(noise);
}

/* ---- learned steps ----------------------------------------------------------------------------------------------------------------------- */

typedef struct sums {
    double ds, doff, size; /* size: sum of magnitudes, what an error is relative to */
} sums;

/* The formulas, in double but for the quotient that decides. */
static sums slowly(R *dx, const R *dy, const R *x, int64_t n, R s, R o, R qn, R qp)
{
    sums r = {0, 0, 0};
    for (int64_t i = 0; i < n; i++) {
        R      u = (x[i] - o) / s;
        double slope = u <= qn ? (double)qn : u >= qp ? (double)qp : rint((double)u) - (double)u;
        bool   m = u > qn && u < qp;
        dx[i] = m ? dy[i] : 0;
        r.ds += (double)dy[i] * slope, r.doff += m ? 0 : (double)dy[i];
        r.size += fabs((double)dy[i]) * (1 + fabs(slope));
    }
    return r;
}

static void test_step_run(void **state)
{
    (void)state;
    static const int64_t lengths[] = {0, 1, 15, 16, 17, 1023, 1024, 1025, 5000};
    static const double  scales[] = {0.03, 1e-8, 1e-30, 1e30};
    R *x = normal(5000, 5), *dy = normal(5000, 6), *dx = normal(5000, 7), *before = normal(5000, 7), *want = normal(5000, 0);
    for (int k = 0; k < 4; k++)
        for (int bound = 0; bound < 3; bound++)
            for (int j = 0; j < 9; j++)
                for (qt_step_dx mode = QT_DX_NONE; mode <= QT_DX_ADD; mode++) {
                    const int64_t n = lengths[j];
                    const R       s = (R)scales[k], o = bound == 2 ? s * 3 : 0, qn = (R[]){-8, 0, -2}[bound], qp = (R[]){7, 15, 1}[bound];
                    for (int64_t i = 0; i < n; i++) {
                        R edge = (i % 2 ? qn : qp) * s + o;
                        if (i % 7 == 0) x[i] = edge;
                        else if (i % 7 == 1) x[i] = (R)nextafter((double)edge, i % 4 < 2 ? HUGE_VAL : -HUGE_VAL);
                        else x[i] = (before[i] * 20 + (R)(i % 3) / 2) * s;
                    }
                    memcpy(dx, before, 5000 * sizeof *dx);
                    sums         a = slowly(want, dy, x, n, s, o, qn, qp);
                    qt_step_sums b = qt_step_run(mode == QT_DX_NONE ? NULL : dx, dy, x, n, s, o, qn, qp, mode, true);
                    assert_true(fabs(a.ds - b.ds) <= 1e-6 * a.size && fabs(a.doff - b.doff) <= 1e-6 * a.size);
                    for (int64_t i = 0; i < 5000; i++) {
                        R expect = i >= n || mode == QT_DX_NONE ? before[i] : mode == QT_DX_ADD ? before[i] + want[i] : want[i];
                        if (dx[i] != expect) fail_msg("scale %g, length %lld, element %lld", scales[k], (long long)n, (long long)i);
                    }
                }
    qt_free(x), qt_free(dy), qt_free(dx), qt_free(before), qt_free(want);
}

/* An input that wants no gradient (the image of the first layer) leaves that of the step as it is; and infinite numbers are clipped ones. */
static void test_step_of_input(void **state)
{
    (void)state;
    R *x = sample(8), *dy = normal(N, 9);
    x[20] = (R)INFINITY, x[21] = (R)-INFINITY;
    for (int k = 0; k < 3; k++) {
        static const char *const spec[] = {"{use: lsq, num_bits: 3, granularity: channel}", "{use: lsq_plus, num_bits: 3, init: minmax}",
                                           "{use: pact, alpha: 0.5}"};
        static const char *const name[] = {"scale", "scale", "alpha"};
        rig r = rig_new(A, spec[k], 2, DIM);
        for (int64_t c = 0; c < param(&r, name[k])->n; c++) param(&r, name[k])->data[c] = (R)0.2;
        if (param(&r, "initialized")) param(&r, "initialized")->data[0] = 1;
        rig_run(&r, 2, DIM, x, dy);
        qt_tensor *p = param(&r, name[k]);
        R          with[32];
        memcpy(with, p->grad, (size_t)p->n * sizeof *with), memset(p->grad, 0, (size_t)p->n * sizeof *with);
        assert_true(isfinite(with[0]) && with[0] != 0 && r.x->grad[20] == 0 && r.x->grad[21] == 0);
        qt_tape_reset(r.tape);
        qt_tensor *in = qt_input(r.tape, 2, DIM);
        memcpy(in->data, x, N * sizeof *x);
        assert_int_equal(qt_backward_from(r.tape, qt_quantize(r.tape, r.site, in), dy), QT_OK);
        assert_memory_equal(with, p->grad, (size_t)p->n * sizeof *with);
        rig_free(&r);
    }
    qt_free(x), qt_free(dy);
}

/* ---- identity gradients -------------------------------------------------------------------------------------------------------------------- */

/* A parameter that is used three times, twice through its quantizer: all gradients arrive, and they add to what was there. */
static void test_shared_gradient(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        bool        shared;
    } list[] = {{"ternary", true},
                {"{use: int, granularity: tensor}", true},
                {"{use: binary, ste: identity}", true},
                {"{use: dorefa, num_bits: 1}", true},
                {"{use: uniform, ste: identity}", true},
                {"{use: uniform, observer: minmax}", false},
                {"{use: binary}", false}};
    R *x = normal(N, 10), *dy = normal(N, 11);
    for (int k = 0; k < 7; k++) {
        qt_store  *s = qt_store_new(1);
        qt_tensor *w = qt_param_add(s, "w", QT_WEIGHT, QT_INIT_CONST(0), 2, DIM);
        qt_site   *q = qt_site_new(s, "w", W, list[k].spec, w);
        assert_int_equal(qt_store_seal(s, 0), QT_OK);
        memcpy(w->data, x, N * sizeof *x);
        for (int i = 0; i < N; i++) w->data[i] = (R)fmin(fmax((double)w->data[i], -1), 1), w->grad[i] = (R)i;
        for (int grad = 1; grad >= 0; grad--) {
            qt_tape *t = qt_tape_new();
            qt_tape_mode(t, true, grad);
            qt_tensor *a = qt_quantize(t, q, w), *b = qt_quantize(t, q, w), *sum = qt_add(t, qt_scale(t, a, 2), qt_add(t, qt_scale(t, b, 4), w));
            assert_true((a->grad == w->grad) == (list[k].shared && grad));
            if (grad) assert_int_equal(qt_backward_from(t, sum, dy), QT_OK);
            qt_tape_free(t);
        }
        for (int i = 0; i < N; i++) assert_true(fabs((double)w->grad[i] - (double)i - 7 * (double)dy[i]) <= 1e-6 * (i + 10));
        qt_store_free(s);
    }
    qt_free(x), qt_free(dy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),    cmocka_unit_test(test_bytes_refused), cmocka_unit_test(test_bytes_threads),   cmocka_unit_test(test_run),
        cmocka_unit_test(test_step_run), cmocka_unit_test(test_step_of_input), cmocka_unit_test(test_shared_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
