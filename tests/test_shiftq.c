/* ShiftQuant: scales by their definition, unbiased codes, and layers whose backward is in integers: the shift folded into codes is the shift
 * in the loop, and the integer products are the float products of the same codes. */
#include "base/mem.h"
#include "kernels/iconv.h"
#include "ops/gradq.h"
#include "qat/quant.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef QT_DOUBLE
#define EPS 1e-12
#else
#define EPS 2e-5
#endif

/* Fills the memory that a tape takes next with numbers. */
static void litter(qt_tape *t)
{
    qt_tensor *x = qt_input(t, 1, (int64_t[]){1 << 20});
    for (int64_t i = 0; i < x->n; i++) x->data[i] = 1000;
    qt_tape_reset(t);
}

/* x [A,C,B] with ranges that fall over several octaves along c and along a. */
static R *gradient(int64_t A, int64_t C, int64_t B, uint64_t seed)
{
    qt_rng r = qt_rng_at(seed, 3);
    R     *x = qt_alloc((size_t)(A * C * B) * sizeof *x);
    for (int64_t i = 0; i < A * C * B; i++)
        x[i] = (R)(qt_rng_normal(&r) * exp2(-(double)(i / B % C % 7)) * exp2(-(double)(i / (B * C) % 3)));
    return x;
}

static int64_t key_of(const qt_shiftq *p, int64_t i) { return p->pairs ? i / (p->C * p->B) * p->B + i % p->B : i / p->B % p->C; }

static const struct {
    int64_t A, C, B;
    bool    pairs;
} shapes[] = {{7, 19, 1, false}, {7, 19, 1, true}, {3, 5, 49, false}, {3, 5, 49, true}, {70, 130, 3, true}, {1, 1, 1, false}, {300, 65, 1, false}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Groups hold rmax 2^-(g+1) < r <= rmax 2^-g, and the last one all that is smaller; the factor of a key counts in its range. */
static void test_scales(void **state)
{
    (void)state;
    for (int k = 0; k < SHAPES; k++)
        for (int by = 0; by < 2; by++) {
            qt_shiftq p = {shapes[k].A, shapes[k].C, shapes[k].B, shapes[k].pairs, 4, 4};
            int64_t   n = p.A * p.C * p.B, keys = qt_shiftq_keys(&p), factors = p.pairs ? p.A : p.C;
            R        *x = gradient(p.A, p.C, p.B, 1), *s = qt_alloc((size_t)keys * sizeof *s), *r = qt_alloc((size_t)keys * sizeof *r);
            R        *f = qt_alloc((size_t)factors * sizeof *f), top = 0;
            uint8_t  *e = qt_alloc((size_t)keys);
            for (int64_t i = 0; i < factors; i++) f[i] = (R)(1 + i % 5);
            if (by) p.by = f;
            R s0 = qt_shiftq_scales(&p, x, e, s);
            for (int64_t i = 0; i < n; i++) {
                R v = x[i] * (by ? f[p.pairs ? i / (p.C * p.B) : key_of(&p, i)] : 1);
                r[key_of(&p, i)] = fmax(r[key_of(&p, i)], fabs(v));
            }
            for (int64_t i = 0; i < keys; i++) top = fmax(top, r[i]);
            assert_true(s0 == top / 7);
            for (int64_t i = 0; i < keys; i++) {
                assert_true(r[i] <= ldexp(top, -e[i]));
                assert_true(e[i] == 3 || r[i] > ldexp(top, -e[i] - 1));
                assert_true(s[i] == (R)ldexp(s0, -e[i]));
            }
            qt_free(x), qt_free(s), qt_free(r), qt_free(f), qt_free(e);
        }
}

/* At powers of two, where a logarithm in floating point would fall on either side. */
static void test_octaves(void **state)
{
    (void)state;
    qt_shiftq p = {1, 6, 1, false, 4, 8};
    R         x[6] = {1, (R)0.5, (R)0.25 * (1 + (R)1e-6), (R)0.25, (R)0.25 * (1 - (R)1e-6), 0}, s[6];
    uint8_t   e[6], want[6] = {0, 1, 1, 2, 2, 7};
    qt_shiftq_scales(&p, x, e, s);
    assert_memory_equal(e, want, sizeof want);
}

static void test_nothing_and_infinity(void **state)
{
    (void)state;
    qt_shiftq p = {2, 3, 1, false, 4, 4};
    R         zero[6] = {0}, tiny[6] = {(R)1e-44, (R)-1e-44}, small[6] = {(R)1e-28, (R)-1e-28}, huge[6] = {1, (R)INFINITY}, none[6] = {1, 2, (R)NAN}, s[3];
    uint8_t   e[3];
    int8_t    q[6], no[6] = {0};
    qt_rng    u = qt_rng_at(1, 1);
    assert_true(qt_shiftq_scales(&p, zero, e, s) == 1);
    qt_shiftq_codes(&p, zero, s, &u, q);
    assert_memory_equal(q, no, sizeof no);
    assert_true(qt_shiftq_scales(&p, tiny, e, s) == 1);
    qt_shiftq_codes(&p, tiny, s, &u, q);
    assert_memory_equal(q, no, sizeof no);
    assert_true(qt_shiftq_scales(&p, small, e, s) >= QT_SHIFTQ_LEAST);
    qt_shiftq_codes(&p, small, s, &u, q);
    assert_int_equal(q[0], 7), assert_int_equal(q[1], -7);
    assert_false(isfinite(qt_shiftq_scales(&p, huge, e, s)));
    qt_shiftq_codes(&p, huge, s, &u, q);
    assert_false(isfinite(qt_shiftq_scales(&p, none, e, s)));
    qt_shiftq_codes(&p, none, s, &u, q);
}

/* The shift in the codes is the shift of the codes; and the same codes for any number of threads. */
static void test_shifted(void **state)
{
    (void)state;
    for (int k = 0; k < SHAPES; k++)
        for (int bits = 2; bits <= 8; bits += 3) {
            qt_shiftq p = {shapes[k].A, shapes[k].C, shapes[k].B, shapes[k].pairs, bits, bits == 8 ? 8 : 4};
            int64_t   n = p.A * p.C * p.B, keys = qt_shiftq_keys(&p);
            bool      bytes = qt_shiftq_top(&p) <= 127;
            R        *x = gradient(p.A, p.C, p.B, 2), *s = qt_alloc((size_t)keys * sizeof *s);
            uint8_t  *e = qt_alloc((size_t)keys);
            int8_t   *q = qt_alloc((size_t)n), *q1 = qt_alloc((size_t)n);
            int16_t  *f = qt_alloc((size_t)n * 2);
            uint8_t  *b = qt_alloc((size_t)n);
            qt_rng    u = qt_rng_at(5, 6);
            qt_shiftq_scales(&p, x, e, s);
            qt_set_threads(1);
            qt_shiftq_codes(&p, x, s, &u, q1);
            qt_set_threads(2);
            qt_shiftq_codes(&p, x, s, &u, q);
            assert_memory_equal(q, q1, (size_t)n);
            qt_shiftq_shifted(&p, x, s, e, &u, false, 0, f);
            for (int64_t i = 0; i < n; i++) assert_int_equal(f[i], q[i] * (1 << (p.groups - 1 - e[key_of(&p, i)])));
            if (bytes) qt_shiftq_shifted(&p, x, s, e, &u, true, 128, b);
            for (int64_t i = 0; bytes && i < n; i++) assert_int_equal(b[i] - 128, f[i]);
            qt_free(x), qt_free(s), qt_free(e), qt_free(q), qt_free(q1), qt_free(f), qt_free(b);
        }
}

static uint8_t byte_at(const qt_rng *u, int64_t i) { return (uint8_t)(qt_rng_u32_at(u, (uint64_t)i / 4) >> i % 4 * 8); }

/* Codes by their definition: fixed point, and bytes i and i + 1 of the stream. */
static void test_codes(void **state)
{
    (void)state;
    for (int k = 0; k < SHAPES; k++)
        for (int bits = 4; bits <= 8; bits += 4) {
            qt_shiftq p = {shapes[k].A, shapes[k].C, shapes[k].B, shapes[k].pairs, bits, 4};
            int64_t   n = p.A * p.C * p.B, keys = qt_shiftq_keys(&p);
            int       K = bits == 4 ? 16 : 14, Q = (1 << (bits - 1)) - 1;
            R        *x = gradient(p.A, p.C, p.B, 7), *s = qt_alloc((size_t)keys * sizeof *s);
            uint8_t  *e = qt_alloc((size_t)keys);
            int8_t   *q = qt_alloc((size_t)n);
            qt_rng    u = qt_rng_at(0x123456789abcdefull, 0xfedcba9876543210ull);
            qt_shiftq_scales(&p, x, e, s);
            qt_shiftq_codes(&p, x, s, &u, q);
            for (int64_t i = 0; i < n; i++) {
                R   v = (R)fmin(fmax(x[i] * ((R)(1 << K) / s[key_of(&p, i)]), -(double)(Q << K)), (double)(Q << K));
                int up = (byte_at(&u, i) << 8 | byte_at(&u, i + 1)) >> (16 - K);
                assert_int_equal(q[i], (int)floor(ldexp(nearbyint((double)v) + up, -K)));
            }
            qt_free(x), qt_free(s), qt_free(e), qt_free(q);
        }
}

/* The mean over many draws: within 5.5 standard errors where codes vary, within a hundredth of a step where they hardly do, the sum of all
 * within 4; numbers on the grid come out as they are. */
static void test_unbiased(void **state)
{
    (void)state;
    enum { A = 12, C = 10, DRAWS = 4096 };
    qt_shiftq p = {A, C, 1, false, 4, 4};
    R        *x = gradient(A, C, 1, 4), s[C];
    uint8_t   e[C];
    int8_t    q[A * C];
    double    sum[A * C] = {0}, all = 0, var = 0;
    for (int i = 0; i < A * C; i += 11) x[i] = 0;
    qt_shiftq_scales(&p, x, e, s);
    for (int d = 0; d < DRAWS; d++) {
        qt_rng u = qt_rng_at(9, (uint64_t)d);
        qt_shiftq_codes(&p, x, s, &u, q);
        for (int i = 0; i < A * C; i++) sum[i] += q[i];
    }
    for (int i = 0; i < A * C; i++) {
        double u = (double)(x[i] / s[i % C]), f = u - floor(u), mean = sum[i] / DRAWS, error = sqrt(f * (1 - f) / DRAWS);
        if (f == 0) assert_true(mean == u);
        else if (DRAWS * f * (1 - f) > 9) assert_true(fabs(mean - u) < 5.5 * error);
        else assert_true(fabs(mean - u) < 0.01);
        all += (mean - u) * (double)s[i % C], var += error * error * (double)s[i % C] * (double)s[i % C];
    }
    assert_true(fabs(all) < 4 * sqrt(var));
    qt_free(x);
}

/* ---- layers ------------------------------------------------------------------------------------------------------------------------------ */

typedef struct rig {
    qt_store  *s;
    qt_tape   *t;
    qt_tensor *w, *x;
    qt_site   *qw, *qx;
} rig;

static rig rig_new(const char *weight, const char *input, int rank, const int64_t *wdim, const int64_t *xdim, bool simulate)
{
    rig       r = {qt_store_new(3), qt_tape_new()};
    qt_tensor like = {.rank = (int8_t)rank};
    memcpy(like.dim, xdim, (size_t)rank * sizeof *xdim);
    r.w = qt_param_add(r.s, "w", QT_WEIGHT, (qt_init){QT_INIT_NORMAL, 1}, rank, wdim);
    r.qw = qt_site_new(r.s, "w", QT_ROLE_WEIGHT, weight, r.w), r.qx = qt_site_new(r.s, "x", QT_ROLE_ACT, input, &like);
    assert_non_null(r.qw), assert_non_null(r.qx);
    assert_int_equal(qt_store_seal(r.s, 0), QT_OK);
    qt_tape_simulate(r.t, simulate);
    litter(r.t);
    r.t->step = 5;
    r.x = qt_variable(r.t, rank, xdim);
    qt_rng u = qt_rng_at(8, 8);
    for (int64_t i = 0; i < r.x->n; i++) r.x->data[i] = (R)qt_rng_normal(&u);
    return r;
}

static void rig_free(rig *r) { qt_tape_free(r->t), qt_store_free(r->s); }

static void assert_close(const R *a, const R *b, int64_t n)
{
    double top = 0;
    for (int64_t i = 0; i < n; i++) top = fmax(top, fabs((double)b[i]));
    assert_true(top > 0);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)(a[i] - b[i])) <= EPS * top)) fail_msg("element %lld: %g, expected %g", (long long)i, (double)a[i], (double)b[i]);
}

#define G(b, g) {.how = {.bits = (b), .groups = (g)}, .stream = 77}

/* With one scale for x and one for w the simulated backward quantizes the same numbers up to that scale: it draws the same codes. */
static void both_engines(const qt_gradq *g, const char *weight, const char *input, int rank, const int64_t *wdim, const int64_t *xdim, const int *conv)
{
    rig r[2] = {rig_new(weight, input, rank, wdim, xdim, false), rig_new(weight, input, rank, wdim, xdim, true)};
    for (int k = 0; k < 2; k++) {
        qt_extra   extra = {.grad = g};
        qt_tensor *x = qt_quantize(r[k].t, r[k].qx, r[k].x), *w = qt_quantize(r[k].t, r[k].qw, r[k].w);
        qt_tensor *y = conv ? qt_conv2d_extra(r[k].t, x, w, NULL, conv[0], conv[1], conv[2], conv[3], &extra) : qt_linear_extra(r[k].t, x, w, NULL, &extra);
        if (qt_tape_error(r[k].t)) fail_msg("%s", qt_error_text());
        R *dy = conv ? gradient(y->dim[0], y->dim[1], y->dim[2] * y->dim[3], 6) : gradient(y->n / y->dim[y->rank - 1], y->dim[y->rank - 1], 1, 6);
        assert_int_equal(qt_backward_from(r[k].t, y, dy), QT_OK);
        qt_free(dy);
    }
    assert_close(r[0].x->grad, r[1].x->grad, r[0].x->n);
    assert_close(r[0].w->grad, r[1].w->grad, r[0].w->n);
    rig_free(&r[0]), rig_free(&r[1]);
}

static void test_linear(void **state)
{
    (void)state;
    qt_gradq four = G(4, 4), six = G(6, 4), eight = G(8, 1), nearest = {.how = {.bits = 4, .groups = 4, .nearest = true}};
    const qt_gradq *all[] = {&four, &six, &eight, &nearest};
    for (int k = 0; k < 4; k++) {
        both_engines(all[k], "{use: int, num_bits: 4, granularity: tensor}", "{use: int, num_bits: 4, granularity: tensor}", 2, (int64_t[]){19, 33}, (int64_t[]){17, 33}, NULL);
        both_engines(all[k], "{use: int, num_bits: 8, granularity: tensor}", "{use: int, num_bits: 8, granularity: tensor}", 2, (int64_t[]){5, 130}, (int64_t[]){64, 130}, NULL);
        both_engines(all[k], "{use: uniform, num_bits: 4, narrow: true, ste: identity}", "{use: uniform, num_bits: 4, symmetric: false, dynamic: true, ste: identity}", 2,
                     (int64_t[]){10, 1568}, (int64_t[]){128, 1568}, NULL);
        both_engines(all[k], "{use: ternary}", "{use: uniform, num_bits: 8, symmetric: false, dynamic: true}", 2, (int64_t[]){40, 16}, (int64_t[]){3, 16}, NULL);
    }
}

static void test_conv(void **state)
{
    (void)state;
    qt_gradq four = G(4, 4), six = G(6, 3);
    static const struct {
        int64_t w[4], x[4];
        int     conv[4]; /* stride, padding, dilation, groups */
    } cases[] = {{{5, 3, 3, 3}, {2, 3, 9, 8}, {1, 1, 1, 1}}, {{4, 2, 3, 3}, {3, 2, 8, 9}, {2, 1, 1, 1}}, {{6, 4, 1, 1}, {2, 4, 7, 7}, {2, 0, 1, 1}},
                 {{4, 1, 3, 3}, {2, 4, 6, 5}, {1, 1, 1, 4}}, {{6, 2, 3, 2}, {2, 4, 7, 6}, {1, 2, 2, 2}}, {{3, 2, 5, 5}, {2, 2, 11, 10}, {3, 2, 1, 1}},
                 {{2, 3, 2, 4}, {1, 3, 7, 8}, {2, 3, 1, 1}}, {{16, 1, 3, 3}, {20, 1, 28, 28}, {1, 1, 1, 1}}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        both_engines(&four, "{use: int, num_bits: 4, granularity: tensor}", "{use: int, num_bits: 4, granularity: tensor}", 4, cases[k].w, cases[k].x, cases[k].conv);
        both_engines(&six, "{use: int, num_bits: 8, granularity: tensor}", "{use: uniform, num_bits: 8, symmetric: false, dynamic: true}", 4, cases[k].w, cases[k].x,
                     cases[k].conv);
    }
}

/* One scale an output channel of w and one a token of x: the integer products against sums in double of the codes that the kernel gives. */
static void folded_scales(int M, int N, int K)
{
    qt_gradq   g = G(4, 4);
    rig        r = rig_new("{use: uniform, num_bits: 4, granularity: channel, ste: identity}", "{use: int}", 2, (int64_t[]){N, K}, (int64_t[]){M, K}, false);
    qt_extra   extra = {.grad = &g};
    qt_tensor *x = qt_quantize(r.t, r.qx, r.x), *w = qt_quantize(r.t, r.qw, r.w), *y = qt_linear_extra(r.t, x, w, NULL, &extra);
    R         *dy = gradient(M, N, 1, 6), *s = qt_alloc((size_t)(M + N) * sizeof *s), *dx = qt_alloc((size_t)(M * K) * sizeof *dx);
    R         *dw = qt_alloc((size_t)(N * K) * sizeof *dw);
    uint8_t   *e = qt_alloc((size_t)(M + N));
    int8_t    *q = qt_alloc((size_t)(M * N));
    assert_int_equal(qt_backward_from(r.t, y, dy), QT_OK);
    qt_shiftq p = {M, N, 1, false, 4, 4, .by = w->codes->scale};
    qt_rng    u = qt_rng_at(r.t->seed, g.stream + 10);
    qt_shiftq_scales(&p, dy, e, s), qt_shiftq_codes(&p, dy, s, &u, q);
    for (int m = 0; m < M; m++)
        for (int k = 0; k < K; k++)
            for (int n = 0; n < N; n++) dx[m * K + k] += q[m * N + n] * s[n] * ((const int8_t *)w->codes->q)[n * K + k];
    p = (qt_shiftq){M, N, 1, true, 4, 4, .by = x->codes->scale}, u.stream++;
    qt_shiftq_scales(&p, dy, e, s), qt_shiftq_codes(&p, dy, s, &u, q);
    for (int n = 0; n < N; n++)
        for (int k = 0; k < K; k++)
            for (int m = 0; m < M; m++) dw[n * K + k] += q[m * N + n] * s[m] * (R)(((const uint8_t *)x->codes->q)[m * K + k] - x->codes->zero[m]);
    assert_close(r.x->grad, dx, M * K), assert_close(r.w->grad, dw, N * K);
    qt_free(dy), qt_free(s), qt_free(dx), qt_free(dw), qt_free(e), qt_free(q), rig_free(&r);
}

static void test_folded_scales(void **state)
{
    (void)state;
    folded_scales(6, 9, 20), folded_scales(128, 10, 1568), folded_scales(1, 33, 4);
}

/* The weight gradient of convolutions on every path and number of threads: the plain sums, bit for bit. */
static void conv_sums(const qt_conv *c, int hi, int top, const int32_t *zero, int64_t count)
{
    int64_t  nx = c->N * c->C * c->H * c->W, nq = c->N * c->O * c->OH * c->OW, n = c->O * (c->C / c->groups) * c->KH * c->KW;
    qt_rng   r = qt_rng_at(11, (uint64_t)(nx + nq));
    uint8_t *x = qt_alloc((size_t)nx + QT_CODES_SLACK);
    int8_t  *q = qt_alloc((size_t)nq + QT_CODES_SLACK);
    int64_t *want = qt_alloc((size_t)n * sizeof *want), *got = qt_alloc((size_t)n * sizeof *got);
    R        one[32] = {1};
    for (int64_t i = 0; i < nx; i++) x[i] = (uint8_t)(top == 127 ? hi : (int)qt_rng_below(&r, (uint64_t)hi + 1)); /* at the edge: sums of one sign */
    for (int64_t i = 0; i < nq; i++) q[i] = (int8_t)(top == 127 ? top : (int)qt_rng_below(&r, 2 * (uint64_t)top + 1) - top);
    qt_icodes codes = {.q = x, .hi = hi, .n = nx, .inner = nx / count, .count = count, .scale = one, .zero = zero};
    qt_iconv_dw_naive(c, &codes, q, want);
    for (int i = 0; qt_igemm_path_at(i); i++)
        for (int threads = 1; threads <= 2 && qt_igemm_has(qt_igemm_path_at(i)); threads++) {
            qt_igemm_force(qt_igemm_path_at(i)), qt_set_threads(threads);
            void *work = qt_alloc(qt_iconv_dw_work(c, &codes));
            qt_iconv_dw(c, &codes, q, top, work, got);
            for (int64_t k = 0; k < n; k++) assert_int_equal(got[k], want[k]);
            qt_free(work);
        }
    qt_igemm_force(NULL);
    qt_free(x), qt_free(q), qt_free(want), qt_free(got);
}

static void test_conv_sums(void **state)
{
    (void)state;
    static const int64_t sizes[][10] = {/* N C H W O KH KW stride padding dilation; groups */
                                        {3, 5, 9, 8, 7, 3, 3, 1, 1, 1}, {20, 4, 7, 7, 19, 3, 3, 1, 1, 1}, {9, 6, 8, 9, 4, 3, 3, 2, 1, 1}, {5, 4, 7, 7, 6, 1, 1, 2, 0, 1},
                                        {2, 1, 28, 28, 16, 3, 3, 1, 1, 1}, {3, 2, 11, 10, 3, 5, 5, 3, 2, 1}, {2, 3, 7, 8, 2, 2, 4, 2, 3, 1}, {2, 4, 12, 11, 6, 3, 2, 1, 2, 2},
                                        {2, 2, 13, 11, 5, 3, 3, 2, 2, 2}, {1, 17, 40, 3, 33, 3, 3, 1, 1, 1}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const int64_t *s = sizes[k];
        qt_conv        c = {s[0], s[1], s[2], s[3], s[4], s[5], s[6], (int)s[7], (int)s[8], (int)s[9], s[1] % 2 || s[4] % 2 ? 1 : 2};
        int32_t        zero[32], last = 0;
        c.OH = (c.H + 2 * c.padding - c.dilation * (c.KH - 1) - 1) / c.stride + 1, c.OW = (c.W + 2 * c.padding - c.dilation * (c.KW - 1) - 1) / c.stride + 1;
        for (int n = 0; n < 32; n++) zero[n] = last = (last + 37) % 256;
        conv_sums(&c, 15, 56, NULL, 1), conv_sums(&c, 255, 62, zero, 1);
        if (c.N <= 4) conv_sums(&c, 255, 126, zero, c.N);
    }
    qt_conv stem = {128, 1, 28, 28, 3, 3, 3, 1, 1, 1, 1, .OH = 28, .OW = 28}, large = {1, 1, 300, 300, 2, 3, 3, 1, 1, 1, 1, .OH = 300, .OW = 300};
    conv_sums(&stem, 255, 127, NULL, 1), conv_sums(&large, 255, 127, NULL, 1); /* beyond 32 bits */
}

/* Products whose inner length is cut into blocks. */
static void test_long_sums(void **state)
{
    (void)state;
    qt_gradq   g = G(8, 1);
    const char *eight = "{use: uniform, num_bits: 8, symmetric: false, ste: identity, observer: minmax, dynamic: true}";
    both_engines(&g, "{use: int, num_bits: 8, granularity: tensor}", eight, 2, (int64_t[]){3, 2}, (int64_t[]){140000, 2}, NULL);
    both_engines(&g, "{use: int, num_bits: 8, granularity: tensor}", eight, 2, (int64_t[]){140000, 2}, (int64_t[]){3, 2}, NULL);
    both_engines(&g, "{use: int, num_bits: 8, granularity: tensor}", eight, 4, (int64_t[]){4, 1, 3, 3}, (int64_t[]){128, 1, 28, 28}, (int[]){1, 1, 1, 1});
}

/* One infinite element: every gradient of the layer is not finite, so that the step is refused. Nothing but zeros: zeros. */
static void bad_gradient(R element, bool finite)
{
    qt_gradq   g = G(4, 4);
    rig        r = rig_new("{use: int, num_bits: 4, granularity: tensor}", "{use: int, num_bits: 4, granularity: tensor}", 2, (int64_t[]){9, 8}, (int64_t[]){7, 8}, false);
    qt_extra   extra = {.grad = &g};
    qt_tensor *x = qt_quantize(r.t, r.qx, r.x), *w = qt_quantize(r.t, r.qw, r.w), *y = qt_linear_extra(r.t, x, w, NULL, &extra);
    R          dy[7 * 9] = {0};
    dy[31] = element;
    assert_int_equal(qt_backward_from(r.t, y, dy), QT_OK);
    for (int64_t i = 0; i < r.x->n; i++) assert_true(finite ? r.x->grad[i] == 0 : !isfinite(r.x->grad[i]));
    for (int64_t i = 0; i < r.w->n; i++) assert_true(finite ? r.w->grad[i] == 0 : !isfinite(r.w->grad[i]));
    rig_free(&r);
}

static void test_bad_gradients(void **state)
{
    (void)state;
    bad_gradient(0, true), bad_gradient((R)1e-42, true), bad_gradient((R)INFINITY, false), bad_gradient((R)NAN, false);
}

static void test_refusals(void **state)
{
    (void)state;
    qt_gradq  six = G(6, 4);
    rig       r = rig_new("{use: int, num_bits: 4, granularity: tensor}", "{use: int}", 4, (int64_t[]){2, 2, 3, 3}, (int64_t[]){1, 2, 5, 5}, false);
    qt_extra  extra = {.grad = &six};
    qt_tensor *x = qt_quantize(r.t, r.qx, r.x), *w = qt_quantize(r.t, r.qw, r.w);
    qt_conv2d_extra(r.t, x, w, NULL, 1, 1, 1, 1, &extra);
    assert_int_equal(qt_tape_error(r.t), QT_ESHAPE);
    assert_non_null(strstr(qt_error_text(), "4 bits in up to 5 groups"));
    qt_error_clear(), rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scales), cmocka_unit_test(test_octaves), cmocka_unit_test(test_nothing_and_infinity), cmocka_unit_test(test_shifted), cmocka_unit_test(test_codes),
        cmocka_unit_test(test_unbiased), cmocka_unit_test(test_linear), cmocka_unit_test(test_conv), cmocka_unit_test(test_folded_scales),
        cmocka_unit_test(test_conv_sums), cmocka_unit_test(test_long_sums), cmocka_unit_test(test_bad_gradients), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
