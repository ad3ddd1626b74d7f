/* Conformance of all quantizers: what each promises in its descriptor, and what all must keep: at most 2^b levels, decode(encode(x)) ==
 * apply(x) bit for bit, a channel as a tensor of its own, the same bits for any number of threads, no flush to zero, state that
 * lives in parameters, no allocation in a warm step. Then the learned gradients against a difference quotient of the function whose
 * rounding is frozen, and the observers. */
#include "quants_util.h"

/* ---- promises ---------------------------------------------------------------------------------------------------------------------------- */

static void test_codes(void **state)
{
    (void)state;
    R *x = sample(1), *back = normal(N, 2);
    FOR_CONFIGS(i) {
        rig      r = rig_new(configs[i].role, configs[i].spec, 2, dim_of(i));
        qt_arena a = {0};
        qt_codes c;
        rig_run(&r, 2, dim_of(i), x, NULL);
        if (!configs[i].levels) {
            assert_ptr_equal(r.y, r.x);
            assert_int_equal(r.site->quant->encode(r.site, r.x, &a, &c), QT_EUSAGE);
            qt_error_clear();
        } else {
            bool    seen[1 << 16] = {0};
            int     levels = 0;
            int32_t lo = INT32_MAX;
            assert_int_equal(r.site->quant->encode(r.site, r.x, &a, &c), QT_OK);
            assert_int_equal(c.n, N);
            qt_codes_decode(&c, back);
            if (memcmp(back, r.y->data, N * sizeof *back)) fail_msg("%s: decoded codes differ", configs[i].spec);
            for (int k = 0; k < N; k++) lo = c.code[k] < lo ? c.code[k] : lo;
            for (int k = 0; k < N; k++) levels += !seen[c.code[k] - lo], seen[c.code[k] - lo] = true;
            assert_in_range(levels, configs[i].levels > 2 ? 2 : 1, configs[i].levels);
            assert_true(pow(2, c.bits) + 1e-9 >= configs[i].levels && c.bits == r.site->quant->bits(r.site));
            double scales = (c.scale_codes ? 8.0 * (double)c.layout.count + 64 : 32.0 * (double)c.layout.count) * (c.offset ? 2 : 1);
            if (c.zero_point) scales += (c.real_zero ? 32 : c.bits) * (double)c.layout.count;
            assert_true(qt_codes_bits(&c) == N * c.bits + scales);
        }
        qt_arena_free(&a);
        rig_free(&r);
    }
    qt_free(x), qt_free(back);
}

static int ascending(const void *a, const void *b) { return (*(const R *)a > *(const R *)b) - (*(const R *)a < *(const R *)b); }

static void test_promises(void **state)
{
    (void)state;
    const int64_t row[2] = {1, 1024}; /* one token, one channel, so one scale (but for groups) */
    R            *x = normal(1024, 3), *y = normal(1024, 4);
    int           zero = 0;
    x[0] = 0;
    qsort(x, 1024, sizeof *x, ascending);
    while (x[zero] != 0) zero++;
    FOR_CONFIGS(i) {
        bool any = strstr(configs[i].spec, "channel") && configs[i].role == A, group = strstr(configs[i].spec, "group") != NULL;
        rig  r = rig_new(configs[i].role, configs[i].spec, 2, row);
        rig_run(&r, 2, row, x, NULL);
        memcpy(y, r.y->data, 1024 * sizeof *y);
        if (r.site->quant->zero_to_zero) assert_true(y[zero] == 0);
        for (int k = 1; k < 1024 && r.site->quant->monotone && !any && !group; k++)
            if (y[k] < y[k - 1]) fail_msg("%s: not monotone at %d", configs[i].spec, k);
        qt_tensor *known = param(&r, "initialized");
        if (known) known->data[0] = 1; /* hold the grid of x */
        r.site->observing = false;
        if (r.site->quant->idempotent && (known || !is(r.site, "uniform"))) {
            rig_run(&r, 2, row, y, NULL);
            if (memcmp(y, r.y->data, 1024 * sizeof *y)) fail_msg("%s: not idempotent", configs[i].spec);
        }
        rig_free(&r);
    }
    qt_free(x), qt_free(y);
}

/* Per channel must be a loop of per tensor. axis 0 of a weight, axis 1 of an activation. */
static void channel_is_tensor(qt_role role, const char *spec)
{
    char          one[256];
    const int64_t row[2] = {1, 32};
    const int     rows = 24;
    R            *x = normal(N, 5), *dy = normal(N, 6), *xr = normal(32, 0), *dyr = normal(32, 0);
    const int64_t act[3] = {2, 24, 16}; /* channel c: 2 runs of 16 */
    rig           all = rig_new(role, spec, role == W ? 2 : 3, role == W ? DIM : act);
    rig_run(&all, role == W ? 2 : 3, role == W ? DIM : act, x, dy);
    snprintf(one, sizeof one, "%s", spec);
    memcpy(strstr(one, "channel"), "tensor ", 7);
    for (int c = 0; c < rows; c++) {
        rig r = rig_new(role, one, 2, row);
        for (int k = 0; k < 32; k++) {
            int at = role == W ? c * 32 + k : k / 16 * 24 * 16 + c * 16 + k % 16;
            xr[k] = x[at], dyr[k] = dy[at];
        }
        rig_run(&r, 2, row, xr, dyr);
        for (int k = 0; k < 32; k++) {
            int at = role == W ? c * 32 + k : k / 16 * 24 * 16 + c * 16 + k % 16;
            if (r.y->data[k] != all.y->data[at] || r.x->grad[k] != all.x->grad[at]) fail_msg("%s: channel %d differs", spec, c);
        }
        for (int k = 0; k < QT_SITE_PARAMS; k++)
            if (r.site->p[k] && r.site->p[k]->n == 1 && all.site->p[k]->n > 1 && r.site->p[k]->grad)
                assert_true(fabs((double)r.site->p[k]->grad[0] - (double)all.site->p[k]->grad[c]) < 1e-5);
        rig_free(&r);
    }
    rig_free(&all);
    qt_free(x), qt_free(dy), qt_free(xr), qt_free(dyr);
}

static void test_channels(void **state)
{
    (void)state;
    channel_is_tensor(W, "{use: uniform, num_bits: 4, granularity: channel}");
    channel_is_tensor(W, "{use: uniform, num_bits: 3, symmetric: false, granularity: channel, observer: mse}");
    channel_is_tensor(A, "{use: uniform, num_bits: 4, granularity: channel, observer: percentile, percentile: 0.9}");
    channel_is_tensor(A, "{use: uniform, num_bits: 4, granularity: channel, observer: entropy}");
    channel_is_tensor(W, "{use: lsq, num_bits: 3, granularity: channel, grad_scale: none}");
    channel_is_tensor(A, "{use: lsq, num_bits: 3, granularity: channel, grad_scale: none, init: mse}");
    channel_is_tensor(W, "{use: double_rounding, granularity: channel}");
    channel_is_tensor(A, "{use: lsq_plus, num_bits: 3, granularity: channel, grad_scale: none}");
    channel_is_tensor(W, "{use: lsq_plus, num_bits: 3, granularity: channel, grad_scale: none}");
    channel_is_tensor(W, "{use: binary, granularity: channel}");
    channel_is_tensor(W, "{use: fixed, num_bits: 3, granularity: channel, grad_scale: none}");
    channel_is_tensor(A, "{use: fixed, num_bits: 4, granularity: channel, grad_scale: none}");
}

static void test_threads(void **state)
{
    (void)state;
    const int64_t dim[2] = {64, 1024};
    const int64_t n = 64 * 1024;
    R            *x = normal(n, 8), *dy = normal(n, 9), *y = normal(n, 0), *dx = normal(n, 0), *dp = normal(QT_SITE_PARAMS * 1000, 0);
    FOR_CONFIGS(i)
        for (int threads = 1; threads <= 2; threads++) {
            qt_set_threads(threads);
            rig r = rig_new(configs[i].role, configs[i].spec, 2, dim);
            rig_run(&r, 2, dim, x, dy);
            for (int k = 0; k < QT_SITE_PARAMS; k++) {
                qt_tensor *p = r.site->p[k];
                if (!p || p->n > 1000) continue;
                R *now = p->grad ? p->grad : p->data;
                if (threads == 1) memcpy(dp + 1000 * k, now, (size_t)p->n * sizeof *now);
                else if (memcmp(dp + 1000 * k, now, (size_t)p->n * sizeof *now)) fail_msg("%s: parameter %d depends on threads", configs[i].spec, k);
            }
            if (threads == 1) memcpy(y, r.y->data, (size_t)n * sizeof *y), memcpy(dx, r.x->grad, (size_t)n * sizeof *dx);
            else if (memcmp(y, r.y->data, (size_t)n * sizeof *y) || memcmp(dx, r.x->grad, (size_t)n * sizeof *dx))
                fail_msg("%s depends on threads", configs[i].spec);
            rig_free(&r);
        }
    qt_set_threads(0);
    qt_free(x), qt_free(y), qt_free(dx), qt_free(dy), qt_free(dp);
}

/* A scale of 1e-40 is used as it is, and gradients of 1e-40 pass (of two sizes, for some quantizers take their mean off). */
static void test_tiny(void **state)
{
    (void)state;
    R   x[N], dy[N];
    rig r = rig_new(W, "{use: uniform, num_bits: 4}", 2, DIM);
    param(&r, "scale")->data[0] = (R)1e-40, param(&r, "initialized")->data[0] = 1;
    for (int i = 0; i < N; i++) x[i] = (R)(i % 8) * (R)1e-40, dy[i] = (R)(1 + i % 2) * (R)1e-40;
    rig_run(&r, 2, DIM, x, dy);
    for (int i = 0; i < N; i++) assert_true(r.y->data[i] == x[i] && r.x->grad[i] == dy[i]);
    rig_free(&r);
    FOR_CONFIGS(i) {
        R *z = normal(N, 10);
        for (int k = 0; k < N; k++) z[k] = (R)(fabs(z[k]) / 100 + 1e-3);
        r = rig_new(configs[i].role, configs[i].spec, 2, dim_of(i));
        rig_run(&r, 2, dim_of(i), z, dy);
        bool passed = false;
        for (int k = 0; k < N; k++) passed |= r.x->grad[k] > 0 && r.x->grad[k] < (R)1e-35;
        if (!passed) fail_msg("%s: small gradients are lost", configs[i].spec);
        rig_free(&r);
        qt_free(z);
    }
}

/* A copy of the parameters is a copy of the quantizer. */
static void test_state(void **state)
{
    (void)state;
    FOR_CONFIGS(i) {
        rig r = rig_new(configs[i].role, configs[i].spec, 2, dim_of(i)), copy = rig_new(configs[i].role, configs[i].spec, 2, dim_of(i));
        for (uint64_t step = 0; step < 3; step++) {
            R *x = normal(N, 20 + step);
            rig_run(&r, 2, dim_of(i), x, NULL);
            qt_free(x);
        }
        for (int k = 0; k < QT_SITE_PARAMS; k++)
            if (r.site->p[k]) memcpy(copy.site->p[k]->data, r.site->p[k]->data, (size_t)r.site->p[k]->n * sizeof(R));
        R *x = normal(N, 30);
        qt_tape_mode(r.tape, false, false), qt_tape_mode(copy.tape, false, false);
        rig_run(&r, 2, dim_of(i), x, NULL), rig_run(&copy, 2, dim_of(i), x, NULL);
        if (memcmp(r.y->data, copy.y->data, N * sizeof *x)) fail_msg("%s: a restored site differs", configs[i].spec);
        qt_tape_mode(copy.tape, true, true); /* and goes on in the same way */
        qt_tape_mode(r.tape, true, true);
        rig_run(&r, 2, dim_of(i), x, NULL), rig_run(&copy, 2, dim_of(i), x, NULL);
        assert_memory_equal(r.y->data, copy.y->data, N * sizeof *x);
        qt_free(x), rig_free(&r), rig_free(&copy);
    }
}

static void test_no_allocation(void **state)
{
    (void)state;
    R *x = sample(11), *dy = normal(N, 12);
    FOR_CONFIGS(i) {
        rig r = rig_new(configs[i].role, configs[i].spec, 2, dim_of(i));
        rig_run(&r, 2, dim_of(i), x, dy), rig_run(&r, 2, dim_of(i), x, dy);
        int64_t before = qt_alloc_count();
        rig_run(&r, 2, dim_of(i), x, dy);
        if (qt_alloc_count() != before) fail_msg("%s: a warm step allocates", configs[i].spec);
        rig_free(&r);
    }
    qt_free(x), qt_free(dy);
}

/* ---- gradients ------------------------------------------------------------------------------------------------------------------------- */

/* The whole tensor, whose loops run in lanes, against slices of five, whose loops do not. */
static void test_slices(void **state)
{
    (void)state;
    const int64_t dim[1] = {N}, five[1] = {5};
    for (int i = 0; i < 4; i++) {
        const char *spec = ((const char *[]){"{use: lsq, num_bits: 3, grad_scale: none}", "{use: lsq_plus, num_bits: 3, grad_scale: none}",
                                             "{use: pact, alpha: 0.7}",
                                             "{use: lsq, signed: false, num_bits: 2, grad_scale: none}"})[i];
        R          *x = normal(N, 50), *dy = normal(N, 51);
        double      sum[2] = {0, 0};
        rig         all = rig_new(A, spec, 1, dim), slice = rig_new(A, spec, 1, five);
        rig_run(&all, 1, dim, x, dy);
        for (int k = 0; k < QT_SITE_PARAMS; k++)
            if (all.site->p[k]) memcpy(slice.site->p[k]->data, all.site->p[k]->data, sizeof(R));
        for (int at = 0; at + 5 <= N; at += 5) {
            rig_run(&slice, 1, five, x + at, dy + at);
            assert_memory_equal(slice.y->data, all.y->data + at, 5 * sizeof *x);
            assert_memory_equal(slice.x->grad, all.x->grad + at, 5 * sizeof *x);
        }
        rig_run(&slice, 1, (int64_t[]){N % 5}, x + N / 5 * 5, dy + N / 5 * 5);
        for (int k = 0; k < QT_SITE_PARAMS; k++) {
            if (!all.site->p[k] || !all.site->p[k]->grad) continue;
            sum[0] = (double)all.site->p[k]->grad[0], sum[1] = (double)slice.site->p[k]->grad[0];
            if (!(fabs(sum[0] - sum[1]) <= 1e-4 * (1 + fabs(sum[0])))) fail_msg("%s: parameter %d: %g, slices give %g", spec, k, sum[0], sum[1]);
        }
        rig_free(&all), rig_free(&slice);
        qt_free(x), qt_free(dy);
    }
}

/* The function that LSQ and LSQ+ differentiate: r and the side of the clamp are those at (x0, s0, o0) and do not move. */
static double frozen(double x, double s, double o, double x0, double s0, double o0, double qn, double qp)
{
    double u0 = (x0 - o0) / s0, r = rint(u0) - u0, u = (x - o) / s;
    return u0 <= qn ? qn * s + o : u0 >= qp ? qp * s + o : (u + r) * s + o;
}

static void check_frozen(const qt_op *op, const qt_case *c, double qn, double qp)
{
    const double h = 1e-6, tolerance = sizeof(R) == 8 ? 1e-8 : 1e-5;
    qt_tape     *t = qt_tape_new();
    qt_tensor   *in[QT_MAX_IN] = {0};
    for (int k = 0; k < qt_case_inputs(c); k++) in[k] = qt_case_input(t, c, k, 3);
    in[0]->data[0] = 50, in[0]->data[1] = -50;
    qt_tensor *y = c->build(t, in);
    R         *dy = normal(y->n, 40);
    assert_int_equal(qt_tape_error(t), QT_OK);
    assert_int_equal(qt_backward_from(t, y, dy), QT_OK);
    for (int64_t k = 0; k < in[1]->n; k++) {
        double ds = 0, doff = 0, s = (double)in[1]->data[k], o = in[2] ? (double)in[2]->data[k] : 0;
        for (int64_t i = k * 8; i < k * 8 + 8; i++) {
            double x = (double)in[0]->data[i], d = (double)dy[i];
            double dx = d * (frozen(x + h, s, o, x, s, o, qn, qp) - frozen(x - h, s, o, x, s, o, qn, qp)) / (2 * h);
            ds += d * (frozen(x, s + h, o, x, s, o, qn, qp) - frozen(x, s - h, o, x, s, o, qn, qp)) / (2 * h);
            doff += d * (frozen(x, s, o + h, x, s, o, qn, qp) - frozen(x, s, o - h, x, s, o, qn, qp)) / (2 * h);
            assert_true(fabs((double)in[0]->grad[i] - dx) < tolerance);
        }
        assert_true(fabs((double)in[1]->grad[k] - ds) < tolerance * 100);
        if (in[2]) assert_true(fabs((double)in[2]->grad[k] - doff) < tolerance * 10);
    }
    (void)op;
    qt_free(dy);
    qt_tape_free(t);
}

static void test_frozen_rounding(void **state)
{
    (void)state;
    check_frozen(qt_quant_lsq.op, qt_quant_lsq.op->cases, -4, 3);
    check_frozen(qt_quant_lsq_plus.op, qt_quant_lsq_plus.op->cases, 0, 3);
}

/* Every op of a quantizer: backward adds to what is there, and every case can be built. */
static void test_gradients_add(void **state)
{
    (void)state;
    for (int i = 0; qt_quants.all[i]; i++) {
        const qt_op *op = ((const qt_quant *)qt_quants.all[i])->op;
        for (const qt_case *c = op ? op->cases : NULL; c && c->name; c++) {
            qt_tape   *t = qt_tape_new();
            qt_tensor *in[QT_MAX_IN] = {0};
            int        n = qt_case_inputs(c);
            for (int k = 0; k < n; k++) in[k] = qt_case_input(t, c, k, 5);
            qt_tensor *y = c->build(t, in);
            R         *dy = normal(y->n, 41), *first = normal(y->n, 0);
            assert_int_equal(qt_backward_from(t, y, dy), QT_OK);
            memcpy(first, in[0]->grad, (size_t)y->n * sizeof *first);
            R step = n > 1 && in[1]->grad ? in[1]->grad[0] : 0;
            op->backward(&t->node[t->n - 1]);
            for (int64_t k = 0; k < y->n; k++) assert_true(in[0]->grad[k] == 2 * first[k]);
            if (n > 1 && in[1]->grad) assert_true(in[1]->grad[0] == 2 * step);
            qt_free(dy), qt_free(first), qt_tape_free(t);
        }
    }
}

static void test_penalty(void **state)
{
    (void)state;
    const int64_t dim[1] = {4};
    rig           r = rig_new(A, "{use: pact, num_bits: 4, alpha: 3, lambda: 0.5}", 1, dim);
    qt_tensor    *p = r.site->quant->penalty(r.tape, r.site);
    assert_true(p->n == 1 && p->data[0] == (R)4.5);
    assert_int_equal(qt_backward(r.tape, p), QT_OK);
    assert_true(param(&r, "alpha")->grad[0] == 3);
    rig_free(&r);
    r = rig_new(A, "{use: pact, lambda: 0}", 1, dim);
    assert_null(r.site->quant->penalty(r.tape, r.site));
    rig_free(&r);
}

/* ---- learned steps: start, guard ---------------------------------------------------------------------------------------------------------- */

static void test_steps(void **state)
{
    (void)state;
    R     *x = normal(N, 13);
    double sum = 0;
    for (int i = 0; i < N; i++) sum += fabs((double)x[i]);
    rig r = rig_new(W, "{use: lsq, num_bits: 4, init_scale_mult: 0.2}", 2, DIM);
    rig_run(&r, 2, DIM, x, NULL);
    qt_tensor *s = param(&r, "scale");
    assert_true(fabs((double)s->data[0] / (0.2 * 2 * sum / N / sqrt(7)) - 1) < 1e-6);
    assert_true(s->grad != NULL);
    s->data[0] = (R)-0.25;
    r.site->quant->after_step(r.site, 1);
    assert_true(s->data[0] == (R)0.25);
    s->data[0] = 0;
    r.site->quant->after_step(r.site, 2);
    assert_true(s->data[0] == (R)1e-8);
    s->data[0] = (R)NAN; /* must not be hidden */
    r.site->quant->after_step(r.site, 3);
    assert_true(isnan(s->data[0]));
    rig_free(&r);

    r = rig_new(W, "{use: lsq, learn_scale: false}", 2, DIM);
    rig_run(&r, 2, DIM, x, x);
    assert_null(param(&r, "scale")->grad);
    rig_free(&r);

    memset(x, 0, N * sizeof *x);
    r = rig_new(W, "{use: lsq, num_bits: 4}", 2, DIM);
    rig_run(&r, 2, DIM, x, NULL);
    assert_true(param(&r, "scale")->data[0] == (R)1 / 7);
    rig_free(&r);
    qt_free(x);
}

/* Few levels on a tensor with a short negative tail: the offset must pay, as the paper says it does. */
static void test_offset_pays(void **state)
{
    (void)state;
    R     *x = normal(N, 14);
    double e[2] = {0, 0};
    for (int i = 0; i < N; i++) x[i] = (R)(2 * (double)x[i] / (1 + exp(-2 * (double)x[i]))); /* SiLU of N(0, 1) */
    for (int k = 0; k < 2; k++) {
        rig r = rig_new(A, k ? "{use: lsq_plus, num_bits: 2, signed: false}" : "{use: lsq, num_bits: 2, signed: false, init: mse}", 2, DIM);
        rig_run(&r, 2, DIM, x, NULL);
        for (int i = 0; i < N; i++) e[k] += pow((double)(r.y->data[i] - x[i]), 2);
        rig_free(&r);
    }
    assert_true(e[1] <= 0.9 * e[0]);
    qt_free(x);
}

/* ---- observers --------------------------------------------------------------------------------------------------------------------------- */

static double error_of(const char *observer, int bits, bool symmetric, const R *x)
{
    char   spec[128];
    double e = 0;
    snprintf(spec, sizeof spec, "{use: uniform, num_bits: %d, symmetric: %s, observer: %s}", bits, symmetric ? "true" : "false", observer);
    rig r = rig_new(W, spec, 2, DIM);
    rig_run(&r, 2, DIM, x, NULL);
    for (int i = 0; i < N; i++) e += pow((double)(r.y->data[i] - x[i]), 2);
    rig_free(&r);
    return e;
}

static void test_mse_never_worse(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++)
        for (int bits = 2; bits <= 8; bits += 2) {
            R *x = normal(N, 100 + seed);
            if (seed % 2) x[5] = 20;
            assert_true(error_of("mse", bits, seed % 4 < 2, x) <= error_of("minmax", bits, seed % 4 < 2, x));
            qt_free(x);
        }
}

/* One outlier: percentile and entropy leave it out, minmax does not; nothing is ever wider than minmax. */
static void test_outlier(void **state)
{
    (void)state;
    static const char *const name[] = {"minmax", "percentile", "mse", "entropy"};
    const int64_t            dim[2] = {1, 20000};
    R                       *x = normal(20000, 15), s[4];
    x[77] = 60;
    for (int k = 0; k < 4; k++) {
        char spec[128];
        snprintf(spec, sizeof spec, "{use: uniform, num_bits: 8, observer: %s}", name[k]);
        rig r = rig_new(A, spec, 2, dim);
        rig_run(&r, 2, dim, x, NULL);
        s[k] = param(&r, "scale")->data[0];
        rig_free(&r);
    }
    assert_true(s[0] == (R)60 / 127);
    for (int k = 1; k < 4; k++) assert_true(s[k] > 0 && s[k] <= s[0]);
    assert_true(s[1] < s[0] / 20 && s[3] < s[0] / 5);
    qt_free(x);
}

/* Extremes of each scale over long and short runs, infinities and numbers that are none. */
static void test_extremes(void **state)
{
    (void)state;
    static const qt_layout layouts[] = {{70000, 1}, {7, 10000}, {100, 7}, {35000, 1}, {20000, 1}, {1, 5}};
    const int64_t          n = 140000;
    R                     *x = normal(n, 17);
    for (int64_t i = 0; i < n; i += 13) x[i] = (R)NAN;
    for (int64_t i = 5; i < n; i += 9973) x[i] = i % 2 ? (R)1e-40 : (R)INFINITY;
    for (int64_t i = 0; i < 14; i++) x[i] = i % 2 ? (R)NAN : -(R)NAN;
    for (int j = 0; j < 6; j++) {
        qt_layout l = layouts[j];
        for (int64_t k = 0; k < l.count; k += 1 + l.count / 7) {
            R lo = (R)INFINITY, hi = (R)-INFINITY, a, b;
            qt_scale_min_max(x, n, l, k, &a, &b);
            for (int64_t i = 0; i < n; i++)
                if (i / l.inner % l.count == k && !isnan(x[i])) lo = x[i] < lo ? x[i] : lo, hi = x[i] > hi ? x[i] : hi;
            assert_true(lo > hi ? isnan(a) && isnan(b) : a == lo && b == hi);
        }
    }
    qt_free(x);
}

static void test_running_range(void **state)
{
    (void)state;
    const int64_t dim[1] = {2};
    rig           r = rig_new(A, "{use: uniform, symmetric: false}", 1, dim);
    rig           e = rig_new(A, "{use: uniform, symmetric: false, observer: ema, freeze_at: 0.5}", 1, dim);
    assert_true(e.site->freeze_at.set && e.site->freeze_at.fraction && !r.site->freeze_at.set);
    for (int i = 0; i < 2; i++) {
        rig_run(&r, 1, dim, (R[2][2]){{-1, 4}, {-3, 2}}[i], NULL);
        rig_run(&e, 1, dim, (R[2][2]){{-1, 4}, {-3, 2}}[i], NULL);
    }
    assert_true(param(&r, "range_lo")->data[0] == -3 && param(&r, "range_hi")->data[0] == 4);
    assert_true(param(&e, "range_lo")->data[0] == (R)-1 + (R)0.01 * (R)-2 && param(&e, "range_hi")->data[0] == (R)4 + (R)0.01 * (R)-2);
    r.site->observing = false;
    rig_run(&r, 1, dim, (R[]){-9, 9}, NULL);
    assert_true(param(&r, "range_lo")->data[0] == -3 && r.y->data[0] >= -3);
    r.site->observing = true;
    qt_tape_mode(r.tape, false, true); /* evaluation observes nothing */
    rig_run(&r, 1, dim, (R[]){-9, 9}, NULL);
    assert_true(param(&r, "range_lo")->data[0] == -3);
    r.site->bypass = true; /* calibration does, and leaves x alone */
    rig_run(&r, 1, dim, (R[]){-9, 9}, NULL);
    assert_true(param(&r, "range_lo")->data[0] == -9 && r.y == r.x);
    r.site->bypass = false, r.site->enabled = false;
    rig_run(&r, 1, dim, (R[]){-20, 9}, NULL);
    assert_true(param(&r, "range_lo")->data[0] == -9 && r.y == r.x);
    rig_free(&r), rig_free(&e);
}

/* 0.1 % of weights of 50 deviations: the zero bin grows with the mean, hardly with the median. */
static void test_median_resists(void **state)
{
    (void)state;
    const int64_t dim[2] = {100, 200};
    const int     n = 20000;
    double        zeros[2][2];
    for (int median = 0; median < 2; median++)
        for (int outliers = 0; outliers < 2; outliers++) {
            R  *x = normal(n, 16);
            int count = 0;
            for (int i = 0; outliers && i < n; i += 1000) x[i] = 25;
            rig r = rig_new(W, median ? "{use: ternary, measure: absmedian}" : "ternary", 2, dim);
            rig_run(&r, 2, dim, x, NULL);
            for (int i = 0; i < n; i++) count += r.y->data[i] == 0;
            zeros[median][outliers] = 100.0 * count / n;
            rig_free(&r), qt_free(x);
        }
    assert_true(fabs(zeros[0][0] - 31) < 1 && fabs(zeros[1][0] - 26.4) < 1);
    assert_true(zeros[0][1] - zeros[0][0] > 1);
    assert_true(zeros[1][1] - zeros[1][0] < 0.3);
}

/* ---- errors ------------------------------------------------------------------------------------------------------------------------------ */

static void refuse(qt_role role, const char *spec, const char *message)
{
    qt_store *s = qt_store_new(1);
    qt_tensor like = {.rank = 2, .dim = {24, 30}, .n = 720};
    assert_null(qt_site_new(s, "fc1.weight", role, spec, &like));
    if (!strstr(qt_error_text(), message)) fail_msg("%s: said '%s', expected '%s'", spec, qt_error_text(), message);
    qt_error_clear();
    qt_store_free(s);
}

static void test_errors(void **state)
{
    (void)state;
    refuse(W, "{use: uniform, granularity: group, group_size: 8}", "group_size 8 does not divide a row of 30");
    refuse(W, "{use: uniform, granularity: channel, axis: 2}", "axis 2 does not exist");
    refuse(A, "{use: uniform, granularity: channel, axis: 0}", "the batch");
    refuse(W, "{use: uniform, num_bits: 1}", "num_bits of at least 2");
    refuse(W, "{use: uniform, symmetric: false, narrow: true}", "narrow");
    refuse(W, "{use: uniform, num_bits: 17}", "num_bits");
    refuse(W, "{use: uniform, formt: 1}", "formt");
    refuse(W, "{use: lsq, num_bits: 1}", "num_bits of at least 2");
    refuse(W, "{use: int, num_bits: 8, range: 100}", "range 100");
    refuse(W, "{use: trenary}", "did you mean 'ternary'");
}

/* Activations cannot be evaluated before a training batch was seen. */
static void test_uncalibrated(void **state)
{
    (void)state;
    static const char *const spec[] = {"{use: uniform}", "{use: lsq}", "{use: lsq_plus}", "fixed"};
    for (int i = 0; i < 4; i++) {
        rig r = rig_new(A, spec[i], 2, DIM);
        qt_tape_mode(r.tape, false, false);
        qt_quantize(r.tape, r.site, qt_input(r.tape, 2, DIM));
        assert_int_equal(qt_tape_error(r.tape), QT_EUSAGE);
        assert_non_null(strstr(qt_error_text(), "q: "));
        qt_error_clear();
        rig_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes),         cmocka_unit_test(test_promises),        cmocka_unit_test(test_channels),
        cmocka_unit_test(test_threads),       cmocka_unit_test(test_tiny),            cmocka_unit_test(test_state),
        cmocka_unit_test(test_no_allocation), cmocka_unit_test(test_frozen_rounding), cmocka_unit_test(test_gradients_add),
        cmocka_unit_test(test_slices),        cmocka_unit_test(test_penalty),         cmocka_unit_test(test_steps),
        cmocka_unit_test(test_offset_pays),   cmocka_unit_test(test_mse_never_worse), cmocka_unit_test(test_outlier),
        cmocka_unit_test(test_running_range), cmocka_unit_test(test_median_resists),  cmocka_unit_test(test_errors),
        cmocka_unit_test(test_uncalibrated),  cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
