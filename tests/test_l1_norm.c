/* The L1 norms: values and gradients against golden/l1_norm.h (differences of the definition, made with numpy alone), corners, running
 * statistics, folding, the layers and their probe; then the integer kernel against a plain twin, bit for bit, and against the float form
 * within the bounds of its header. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/h5.h"
#include "kernels/l1_norm.h"
#include "kernels/reduce.h"
#include "nn/nn.h"
#include "ops/ops.h"

static const double eps = sizeof(R) == sizeof(float) ? 0x1p-24 : 0x1p-53;
static const double GAIN = 0.7978845608028654; /* sqrt(2/pi) */

typedef struct golden {
    const char   *name;
    int           rank;
    int64_t       dim[4], C;
    double        eps;
    bool          frozen;
    const double *x, *w, *b, *mean, *sigma, *dy, *y, *dx, *dw, *db, *mean_after, *sigma_after;
} golden;
#include "golden/l1_norm.h"

static qt_tensor *variable(qt_tape *t, int rank, const int64_t *dim, const double *v)
{
    qt_tensor *x = qt_variable(t, rank, dim);
    for (int64_t i = 0; i < x->n; i++) x->data[i] = (R)v[i];
    return x;
}

static void fill(R *x, int64_t n, uint64_t stream)
{
    qt_rng r = qt_rng_at(3, stream);
    for (int64_t i = 0; i < n; i++) x[i] = (R)qt_rng_normal(&r);
}

static void near(const char *what, const R *got, const double *want, int64_t n, double bound)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= bound * (1 + fabs(want[i]))))
            fail_msg("%s, element %d: %.17g, expected %.17g", what, (int)i, (double)got[i], want[i]);
}

/* ---- operations -------------------------------------------------------------------------------------------------------------- */

static void check_golden(const golden *g, bool first)
{
    qt_tape   *t = qt_tape_new();
    qt_tensor *x = variable(t, g->rank, g->dim, g->x), *w = variable(t, 1, &g->C, g->w), *b = variable(t, 1, &g->C, g->b);
    qt_tensor *mean = variable(t, 1, &g->C, g->mean), *sigma = variable(t, 1, &g->C, g->sigma), *y;
    R         *dy = malloc((size_t)x->n * sizeof *dy);
    const bool batch = strncmp(g->name, "batch", 5) == 0;
    for (int64_t i = 0; i < x->n; i++) dy[i] = (R)g->dy[i];
    if (first) x = qt_scale(t, x, 1); /* its gradient is written by the norm, not added to */
    y = batch ? qt_l1_batch_norm(t, x, w, b, mean, sigma, !g->frozen, 0.25, g->eps) : qt_l1_layer_norm(t, x, w, b, g->eps);
    assert_int_equal(qt_backward_from(t, y, dy), QT_OK);
    near(g->name, y->data, g->y, y->n, 32 * eps);
    const double bound = 1e-8 + 64 * eps; /* of the golden differences, of the float sums */
    near(g->name, t->n > 1 ? t->node[0].in[0]->grad : x->grad, g->dx, x->n, bound);
    near(g->name, w->grad, g->dw, g->C, bound), near(g->name, b->grad, g->db, g->C, bound);
    near(g->name, mean->data, g->mean_after, g->C, 16 * eps), near(g->name, sigma->data, g->sigma_after, g->C, 16 * eps);
    free(dy);
    qt_tape_free(t);
}

static void values_and_gradients_are_the_expected_ones(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof goldens / sizeof *goldens; k++) check_golden(&goldens[k], false), check_golden(&goldens[k], true);
}

enum { NORM_ROWS, NORM_IMAGES, NORM_LAYER, NORMS };

/* x of n numbers, all of one channel or row, through a norm with weight 2 and bias 1/2 */
static qt_tensor *one_channel(qt_tape *t, int norm, qt_tensor **x, int64_t n, double (*value)(int64_t))
{
    const int64_t one = 1, dim[NORMS][4] = {{n, 1}, {1, 1, 1, n}, {1, n}};
    static const int rank[] = {2, 4, 2};
    const int64_t count = norm == NORM_LAYER ? n : 1;
    qt_tensor *w = qt_variable(t, 1, &count), *b = qt_variable(t, 1, &count), *mean = qt_input(t, 1, &one), *sigma = qt_input(t, 1, &one);
    *x = qt_variable(t, rank[norm], dim[norm]);
    for (int64_t i = 0; i < n; i++) (*x)->data[i] = (R)value(i);
    for (int64_t i = 0; i < count; i++) w->data[i] = 2, b->data[i] = (R)0.5;
    sigma->data[0] = 3;
    return norm == NORM_LAYER ? qt_l1_layer_norm(t, *x, w, b, 1e-12) : qt_l1_batch_norm(t, *x, w, b, mean, sigma, true, 0.25, 1e-12);
}

static double constant(int64_t i) { return (void)i, 1000.1; }
static double steps(int64_t i) { return 1000 + (double)(i % 4) / 16; } /* mean 1000 + 1.5/16, deviation 1/16 */

/* A constant channel has d = 0, and no rounding of its mean is blown up by the small eps; a large mean swallows nothing. */
static void constant_channels_and_large_means(void **state)
{
    static const int64_t size[] = {1, 3, 4, 8, 13, 36, 64, 100, 1000, 5000};
    qt_tape             *t = qt_tape_new();
    qt_tensor           *x, *y;
    (void)state;
    for (int norm = 0; norm < NORMS; norm++)
        for (size_t k = 0; k < sizeof size / sizeof *size; k++) {
            const int64_t n = size[k];
            R             dy[5000];
            qt_tape_reset(t);
            y = one_channel(t, norm, &x, n, constant);
            for (int64_t i = 0; i < n; i++) dy[i] = 1;
            assert_int_equal(qt_backward_from(t, y, dy), QT_OK);
            for (int64_t i = 0; i < n; i++) assert_true(y->data[i] == (R)0.5 && x->grad[i] == 0);
            if (n % 4) continue;
            y = one_channel(t, norm, &x, n, steps);
            for (int64_t i = 0; i < n; i++) assert_true(fabs((double)y->data[i] - ((double)(i % 4) - 1.5) * 2 - 0.5) < 64 * eps * 16000);
        }
    qt_tape_free(t);
}

static void a_single_value_leaves_the_running_deviation(void **state)
{
    static const struct {
        bool train, batch_stats, moves;
    } mode[] = {{true, true, true}, {true, false, false}, {false, true, false}, {false, false, false}};
    qt_tape *t = qt_tape_new();
    (void)state;
    for (int N = 1; N <= 2; N++)
        for (int k = 0; k < 4; k++) {
            qt_tape_reset(t);
            qt_tape_mode(t, mode[k].train, true);
            const int64_t one = 1;
            qt_tensor    *x = qt_variable(t, 2, (int64_t[]){N, 1}), *mean = qt_input(t, 1, &one), *sigma = qt_input(t, 1, &one);
            x->data[0] = 7, x->data[N - 1] = N == 2 ? 4 : 7, sigma->data[0] = 3, mean->data[0] = 1; /* 7, or 7 and 4: deviation 1.5 */
            qt_l1_batch_norm(t, x, NULL, NULL, mean, sigma, mode[k].batch_stats, 0.25, 1e-5);
            near("mean", mean->data, (double[]){!mode[k].moves ? 1 : N == 1 ? 0.75 + 0.25 * 7 : 0.75 + 0.25 * 5.5}, 1, 8 * eps);
            near("sigma", sigma->data, (double[]){mode[k].moves && N == 2 ? 0.75 * 3 + 0.25 * 1.5 : 3}, 1, 8 * eps);
        }
    qt_tape_free(t);
}

/* Sizes with rests of all kinds, more than one chunk. */
static void threads_do_not_change_a_bit(void **state)
{
    static const int64_t dim[][4] = {{9, 7, 33, 31}, {137, 301, 1, 1}, {37, 70, 7, 7}, {50, 130, 3, 3}, {301, 137}, {70, 1031}};
    (void)state;
    for (int k = 0; k < 6; k++) {
        R *kept[4] = {NULL};
        for (int threads = 1; threads <= 4; threads++) {
            qt_tape      *t = qt_tape_new();
            const bool    layer = k >= 4;
            const int64_t C = dim[k][1];
            qt_tensor    *x = qt_variable(t, layer ? 2 : 4, dim[k]), *w = qt_variable(t, 1, &C), *b = qt_variable(t, 1, &C);
            qt_tensor    *mean = qt_input(t, 1, &C), *sigma = qt_input(t, 1, &C);
            R            *dy = malloc((size_t)x->n * sizeof *dy);
            qt_set_threads(threads);
            fill(x->data, x->n, 1), fill(w->data, C, 2), fill(b->data, C, 3), fill(dy, x->n, 4);
            qt_tensor *y = layer ? qt_l1_layer_norm(t, x, w, b, 1e-5) : qt_l1_batch_norm(t, x, w, b, mean, sigma, true, 0.1, 1e-5);
            assert_int_equal(qt_backward_from(t, y, dy), QT_OK);
            const R      *now[] = {y->data, x->grad, w->grad, b->grad};
            const int64_t n[] = {x->n, x->n, C, C};
            for (int i = 0; i < 4; i++) {
                if (threads == 1) kept[i] = memcpy(malloc((size_t)n[i] * sizeof(R)), now[i], (size_t)n[i] * sizeof(R));
                assert_memory_equal(kept[i], now[i], (size_t)n[i] * sizeof(R));
            }
            free(dy);
            qt_tape_free(t);
        }
        for (int i = 0; i < 4; i++) free(kept[i]);
    }
    qt_set_threads(0);
}

static void wrong_shapes_are_reported(void **state)
{
    static const struct {
        int         k;
        const char *says;
    } wrong[] = {{0, "weight is [4], but x [2, 3] has 3 channels"}, {1, "x is [6], it must be [N, C]"}, {2, "sigma is missing"},
                 {3, "bias is [2], but the rows of x [2, 3] have 3 numbers"}};
    qt_tape *t = qt_tape_new();
    (void)state;
    for (int k = 0; k < 4; k++) {
        qt_tape_reset(t);
        qt_error_clear();
        qt_tensor *x = qt_variable(t, 2, (int64_t[]){2, 3}), *row = qt_variable(t, 1, (int64_t[]){6});
        qt_tensor *p[] = {qt_variable(t, 1, (int64_t[]){2}), qt_variable(t, 1, (int64_t[]){3}), qt_variable(t, 1, (int64_t[]){4})};
        if (k == 0) qt_l1_batch_norm(t, x, p[2], NULL, p[1], p[1], true, 0.1, 1e-5);
        if (k == 1) qt_l1_batch_norm(t, row, NULL, NULL, row, row, true, 0.1, 1e-5);
        if (k == 2) qt_l1_batch_norm(t, x, NULL, NULL, p[1], NULL, true, 0.1, 1e-5);
        if (k == 3) qt_l1_layer_norm(t, x, p[1], p[0], 1e-5);
        assert_int_equal(qt_tape_error(t), QT_ESHAPE);
        if (!strstr(qt_error_text(), wrong[k].says)) fail_msg("'%s' is not in '%s'", wrong[k].says, qt_error_text());
    }
    qt_error_clear();
    qt_tape_free(t);
}

/* ---- layers ------------------------------------------------------------------------------------------------------------------ */

typedef struct built {
    qt_arena  arena;
    qt_store *store;
    qt_model *model;
} built;

static built make(const char *model, const char *quant, qt_shape in)
{
    built    b = {.store = qt_store_new(1)};
    qt_yaml *y[2] = {NULL, NULL};
    assert_int_equal(qt_yaml_parse(&b.arena, model, strlen(model), "m", &y[0]), QT_OK);
    if (quant) assert_int_equal(qt_yaml_parse(&b.arena, quant, strlen(quant), "q", &y[1]), QT_OK);
    if (qt_model_build(&b.arena, b.store, y[0], y[1], in, 0, &b.model)) fail_msg("%s", qt_error_text());
    assert_int_equal(qt_store_seal(b.store, 0), QT_OK);
    return b;
}

static void drop(built *b)
{
    qt_store_free(b->store);
    qt_arena_free(&b->arena);
}

/* The weight starts where normal numbers come out with variance 1. */
static void fresh_layers_give_variance_one(void **state)
{
    static const char *const text[] = {"[{use: l1_batch_norm, name: n}]", "[{use: l1_layer_norm, name: n}]",
                                       "[{use: l1_batch_norm, name: n, gain_init: 0.5}]"};
    (void)state;
    for (int k = 0; k < 3; k++) {
        const int64_t D = 64, rows = 4096;
        built         b = make(text[k], NULL, (qt_shape){1, {D}});
        qt_tape      *t = qt_tape_new();
        qt_tensor    *x = qt_input(t, 2, (int64_t[]){rows, D});
        double        sq = 0;
        qt_tape_mode(t, true, true);
        fill(x->data, x->n, 5);
        for (int64_t i = 0; i < x->n; i++) x->data[i] = 3 * x->data[i] + 2;
        const qt_tensor *y = qt_model_forward(t, b.model, x), *w = qt_param_find(b.store, "n.weight");
        assert_int_equal(qt_tape_error(t), QT_OK);
        for (int64_t i = 0; i < y->n; i++) sq += (double)y->data[i] * (double)y->data[i];
        for (int64_t i = 0; i < w->n; i++) assert_true(w->data[i] == (k < 2 ? (R)GAIN : (R)0.5));
        if (k < 2) assert_true(fabs(sq / (double)y->n - 1) < 0.03);
        qt_tape_free(t);
        drop(&b);
    }
}

static void frozen_statistics_stay(void **state)
{
    (void)state;
    built      b = make("[{use: l1_batch_norm, name: n, momentum: 0.5, affine: false}]", NULL, (qt_shape){1, {1}});
    qt_tape   *t = qt_tape_new();
    qt_tensor *mean = qt_param_find(b.store, "n.running_mean"), *sigma = qt_param_find(b.store, "n.running_sigma");
    qt_tensor *x = qt_input(t, 2, (int64_t[]){2, 1});
    qt_tape_mode(t, true, true);
    x->data[0] = 1, x->data[1] = 5;
    assert_true(fabs((double)qt_model_forward(t, b.model, x)->data[0] + 1) < 1e-4);
    assert_true(mean->data[0] == (R)1.5 && sigma->data[0] == (R)1.5);
    b.model->m[0].frozen_stats = true;
    assert_true(fabs((double)qt_model_forward(t, b.model, x)->data[0] + 0.5 / 1.5) < 1e-4);
    assert_true(mean->data[0] == (R)1.5 && sigma->data[0] == (R)1.5);
    qt_tape_free(t);
    drop(&b);
}

static void check_folding(bool relu)
{
    built      b = make(relu ? "[{use: linear, out: 6, name: fc}, {use: l1_batch_norm, name: n}, relu]"
                             : "[{use: linear, out: 6, name: fc}, {use: l1_batch_norm, name: n}]",
                        "[{match: fc, weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 4}}]", (qt_shape){1, {10}});
    qt_tape   *t = qt_tape_new();
    qt_module *n = &b.model->m[1];
    qt_tensor *x = qt_input(t, 2, (int64_t[]){20, 10});
    R          plain[120], *mul, *add;
    fill(x->data, x->n, 6), fill(n->p[0]->data, 6, 7), fill(n->p[1]->data, 6, 8);
    qt_tape_mode(t, true, true);
    qt_model_forward(t, b.model, x); /* steps and running statistics */
    qt_tape_mode(t, false, true);
    qt_tensor *y = qt_model_forward(t, b.model, x), *in = b.model->value[0], *out = b.model->value[1];
    assert_false(n->folded);
    memcpy(plain, y->data, sizeof plain);
    assert_int_equal(n->layer->affine(t, n, &mul, &add), QT_OK);
    for (int64_t i = 0; i < out->n; i++) {
        const double want = (double)out->data[i], y_i = (double)in->data[i] * (double)mul[i % 6] + (double)add[i % 6], got = relu ? fmax(y_i, 0) : y_i;
        assert_true(fabs(got - want) <= 32 * eps * (1 + fabs(want) + fabs((double)add[i % 6])));
    }
    qt_tape_mode(t, false, false);
    y = qt_model_forward(t, b.model, x);
    assert_int_equal(qt_tape_error(t), QT_OK);
    for (int64_t i = 0; i < y->n; i++) assert_true(fabs((double)y->data[i] - (double)plain[i]) <= 64 * eps * (4 + fabs((double)plain[i])));
    if (b.model->m[0].integer) assert_true(n->folded);
    qt_tape_free(t);
    drop(&b);
}

/* As an affine map, and folded into the integer sums of the layer before it, the norm gives what it gives by itself, with a relu in its passes or not. */
static void folding_changes_nothing_but_rounding(void **state)
{
    (void)state;
    check_folding(false), check_folding(true);
}

static void probe_put(qt_h5 *f, const char *name, int rank, const int64_t *dim, const double *v)
{
    R       x[256];
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dim[i];
    for (int64_t i = 0; i < n; i++) x[i] = (R)v[i];
    assert_int_equal(qt_h5_write(f, name, rank, dim, x, true), QT_OK);
}

static void probe_near(qt_h5 *f, const char *name, const double *want, int64_t n)
{
    R x[256];
    if (qt_h5_read(f, name, n, x)) fail_msg("%s", qt_error_text());
    near(name, x, want, n, 1e-5); /* the program computes in float */
}

static void probe_knows_the_layers(void **state)
{
    char        dir[] = "/tmp/qtape-l1-XXXXXX", in[64], out[64], command[512];
    const char *program = getenv("QTAPE_BIN");
    qt_h5      *f;
    (void)state;
    assert_non_null(program);
    assert_non_null(mkdtemp(dir));
    snprintf(in, sizeof in, "%s/a.h5", dir), snprintf(out, sizeof out, "%s/b.h5", dir);
    for (size_t k = 0; k < sizeof goldens / sizeof *goldens; k++) {
        const golden *g = &goldens[k];
        const bool    batch = strncmp(g->name, "batch", 5) == 0;
        int64_t       n = 1;
        for (int i = 0; i < g->rank; i++) n *= g->dim[i];
        if (g->frozen) continue;
        assert_int_equal(qt_h5_create(in, 0, &f), QT_OK);
        probe_put(f, "x", g->rank, g->dim, g->x), probe_put(f, "grad_y", g->rank, g->dim, g->dy);
        probe_put(f, "weight", 1, &g->C, g->w), probe_put(f, "bias", 1, &g->C, g->b);
        if (batch) probe_put(f, "running_mean", 1, &g->C, g->mean), probe_put(f, "running_sigma", 1, &g->C, g->sigma);
        assert_int_equal(qt_h5_close(f), QT_OK);
        snprintf(command, sizeof command, "'%s' probe layer l1_%s_norm mode=train eps=%g%s --in %s --out %s", program,
                 batch ? "batch" : "layer", g->eps, batch ? " momentum=0.25" : "", in, out);
        assert_int_equal(system(command), 0);
        assert_int_equal(qt_h5_open(out, &f), QT_OK);
        probe_near(f, "y", g->y, n), probe_near(f, "grad_x", g->dx, n);
        probe_near(f, "grad_weight", g->dw, g->C), probe_near(f, "grad_bias", g->db, g->C);
        if (batch) probe_near(f, "running_mean", g->mean_after, g->C), probe_near(f, "running_sigma", g->sigma_after, g->C);
        assert_int_equal(qt_h5_close(f), QT_OK);
    }
    unlink(in), unlink(out), rmdir(dir);
}

/* ---- integers ------------------------------------------------------------------------------------------------------------------ */

enum { MOST = 1 << 14 };
static uint8_t codes[MOST];

/* Random codes of `levels` values from `lowest` on, as a channel of odd sizes. */
static qt_l1_codes draw(qt_rng *r, bool is_signed, int levels, int lowest)
{
    qt_l1_codes x = {codes, is_signed, 1 + (int64_t)qt_rng_below(r, 5), 0, 1 + (int64_t)qt_rng_below(r, 300)};
    x.step = x.length + (int64_t)qt_rng_below(r, 40);
    for (int i = 0; i < MOST; i++) codes[i] = (uint8_t)(lowest + (int)qt_rng_below(r, (uint64_t)levels));
    return x;
}

static int code_at(const qt_l1_codes *x, int64_t i)
{
    const int64_t at = i / x->length * x->step + i % x->length;
    return x->is_signed ? ((const int8_t *)x->q)[at] : ((const uint8_t *)x->q)[at];
}

/* The definition, number by number. */
static qt_l1_stats plain_stats(const qt_l1_codes *x)
{
    qt_l1_stats s = {.n = x->runs * x->length, .lowest = 1000, .highest = -1000};
    int64_t     sum = 0;
    for (int64_t i = 0; i < s.n; i++) {
        const int q = code_at(x, i);
        sum += q, s.lowest = q < s.lowest ? q : s.lowest, s.highest = q > s.highest ? q : s.highest;
    }
    s.mean = (int64_t)floor((double)sum * 65536 / (double)s.n + 0.5);
    for (int64_t i = 0; i < s.n; i++) s.total += llabs(code_at(x, i) * 65536ll - s.mean), s.above += code_at(x, i) * 65536ll > s.mean;
    return s;
}

static const struct {
    bool is_signed;
    int  levels, lowest;
} range[] = {{true, 256, -128}, {false, 256, 0}, {true, 15, -7}, {false, 16, 0}, {true, 3, -1}, {false, 2, 254}, {true, 1, -128}, {false, 1, 255},
             {true, 2, 0}};
enum { RANGES = sizeof range / sizeof *range, TRIALS = 40 };
static qt_l1_codes draw_range(qt_rng *r, int k) { return draw(r, range[k].is_signed, range[k].levels, range[k].lowest); }
#define FOR_DRAWS(x)                             \
    for (int k_ = 0; k_ < RANGES * TRIALS; k_++) \
        for (qt_l1_codes x = draw_range(&r, k_ % RANGES), *once_ = &x; once_; once_ = NULL)

static void statistics_are_those_of_the_definition(void **state)
{
    qt_rng r = qt_rng_at(1, 1);
    (void)state;
    FOR_DRAWS(x)
    {
        qt_l1_stats s, p = plain_stats(&x);
        qt_l1_take_stats(&x, &s);
        assert_true(s.n == p.n && s.mean == p.mean && s.total == p.total && s.above == p.above && s.lowest == p.lowest && s.highest == p.highest);
    }
}

/* Codes of t and of y: the rule at each d, and within the bound of the float form of s (q - z), for any s and z. */
static void the_integer_form_is_the_float_form(void **state)
{
    qt_rng r = qt_rng_at(1, 2);
    (void)state;
    FOR_DRAWS(x)
    {
        static int8_t out[MOST];
        qt_l1_stats   s;
        qt_l1_take_stats(&x, &s);
        const double sx = ldexp(qt_rng_uniform(&r) + 0.5, (int)qt_rng_below(&r, 40) - 20), z = (double)qt_rng_below(&r, 9);
        const double gamma = qt_rng_normal(&r), beta = qt_rng_normal(&r), sy = 0.02 + 0.1 * qt_rng_uniform(&r);
        const int    zero = (int)qt_rng_below(&r, 7) - 3;
        qt_l1_map    m = qt_l1_map_of(&s, gamma, beta, sy, zero, -128, 127);
        qt_l1_apply(&x, &s, &m, out);
        double mean = 0, deviation = 0;
        for (int64_t i = 0; i < s.n; i++) mean += sx * (code_at(&x, i) - z) / (double)s.n;
        for (int64_t i = 0; i < s.n; i++) deviation += fabs(sx * (code_at(&x, i) - z) - mean) / (double)s.n;
        for (int64_t i = 0; i < s.n; i++) {
            const int64_t at = i / x.length * x.step + i % x.length;
            assert_int_equal(out[at], qt_l1_map_at(&m, code_at(&x, i) * 65536ll - s.mean));
            const double t = s.total ? (sx * (code_at(&x, i) - z) - mean) / deviation : 0, v = (gamma * t + beta) / sy + zero;
            const double bound = 0.5 + (s.total ? fabs(gamma) * (1 + fabs(t)) / (131072 * qt_l1_sigma(&s) * sy) : 0) + 0x1p-20;
            const double want = v < -128 ? -128 : v > 127 ? 127 : v;
            if (!(fabs(out[at] - want) <= bound)) fail_msg("code %d, expected %.9g within %.9g", out[at], want, bound);
        }
    }
}

/* A constant added to all codes, and int8 read as uint8, change nothing; a factor of all codes only what the mean's fraction bits lose. */
static void scale_and_zero_point_cancel(void **state)
{
    qt_rng r = qt_rng_at(1, 3);
    (void)state;
    for (int k = 0; k < 200; k++) {
        static uint8_t moved[MOST], wide[MOST], a[MOST], b[MOST];
        qt_l1_codes    x = draw(&r, true, 15, -7), y = x, w = x;
        const int      add = (int)qt_rng_below(&r, 100);
        qt_l1_stats    s, v, u;
        for (int i = 0; i < MOST; i++) moved[i] = (uint8_t)((int8_t)codes[i] + 7 + add), wide[i] = (uint8_t)((int8_t)codes[i] * 8);
        y.q = moved, y.is_signed = false, w.q = wide;
        qt_l1_take_stats(&x, &s), qt_l1_take_stats(&y, &v), qt_l1_take_stats(&w, &u);
        assert_true(v.total == s.total && v.mean == s.mean + (7 + add) * 65536ll);
        if (!s.total) continue;
        const qt_l1_map m = qt_l1_map_of(&s, 1, 0.3, 0.05, 0, -128, 127), n = qt_l1_map_of(&v, 1, 0.3, 0.05, 0, -128, 127);
        qt_l1_apply(&x, &s, &m, a), qt_l1_apply(&y, &v, &n, b);
        for (int64_t i = 0; i < x.runs; i++) assert_memory_equal(a + i * x.step, b + i * x.step, (size_t)x.length);
        for (int64_t i = 0; i < s.n; i++) {
            const double t = (double)(code_at(&x, i) * 65536ll - s.mean) * (double)s.n / (double)s.total;
            const double f = (double)(code_at(&w, i) * 65536ll - u.mean) * (double)u.n / (double)u.total;
            assert_true(fabs(t - f) <= (1 + fabs(t)) * (1 / qt_l1_sigma(&s) + 1 / qt_l1_sigma(&u)) / 131072);
        }
    }
}

/* One odd code in many: the case that needs all fraction bits; and extreme gains that only clamp. */
static void nearly_constant_channels_and_extreme_gains(void **state)
{
    enum { N = 20000 };
    static int8_t q[N], out[N];
    qt_l1_codes   x = {q, true, 1, 0, N};
    qt_l1_stats   s;
    (void)state;
    memset(q, 5, sizeof q);
    q[77] = 6;
    qt_l1_take_stats(&x, &s);
    qt_l1_map    m = qt_l1_map_of(&s, 0.01, 0, 1, 0, -128, 127);
    const double t = (N - 1.0) / N / (2 * (N - 1.0) / N / N); /* N/2 */
    qt_l1_apply(&x, &s, &m, out);
    assert_true(fabs(out[77] - 0.01 * t) <= 0.5 + 0.01 * (1 + t) / (131072 * qt_l1_sigma(&s)));
    assert_int_equal(out[78], 0);
    static const double gain[] = {1e30, -1e30, 1e-30, 0};
    static const int    high[] = {127, -128, 3, 3};
    for (int k = 0; k < 4; k++) {
        m = qt_l1_map_of(&s, gain[k], 0, 1, 3, -128, 127);
        qt_l1_apply(&x, &s, &m, out);
        assert_int_equal(out[77], high[k]);
    }
}

/* A row with a gain and an offset for each number. */
static void rows_have_gains(void **state)
{
    qt_rng r = qt_rng_at(1, 4);
    (void)state;
    FOR_DRAWS(x)
    {
        static R       gamma[300], beta[300];
        static int32_t mul[300];
        static int64_t add[300];
        static uint8_t out[MOST];
        qt_l1_gains    g = {.mul = mul, .add = add};
        qt_l1_stats    s;
        const double   sy = 0.03;
        x.runs = 1;
        for (int64_t j = 0; j < x.length; j++) gamma[j] = (R)qt_rng_normal(&r), beta[j] = (R)qt_rng_normal(&r);
        qt_l1_take_stats(&x, &s);
        qt_l1_gains_of(gamma, k_ % 2 ? beta : NULL, x.length, sy, 100, 0, 255, &g);
        qt_l1_apply_row(&x, &s, &g, out);
        for (int64_t j = 0; j < x.length; j++) {
            const double t = s.total ? (double)(code_at(&x, j) * 65536ll - s.mean) * (double)s.n / (double)s.total : 0;
            const double v = ((double)gamma[j] * t + (k_ % 2 ? (double)beta[j] : 0)) / sy + 100, want = v < 0 ? 0 : v > 255 ? 255 : v;
            assert_true(fabs(out[j] - want) <= 0.5 + fabs((double)gamma[j]) / (131072 * sy) + 0x1p-16);
        }
    }
}

/* From float dy and x: codes of both, signs, backward; against the float formula within the header's bound. */
static void backward_is_the_float_one_within_its_quantization(void **state)
{
    qt_rng r = qt_rng_at(1, 5);
    (void)state;
    FOR_DRAWS(x)
    {
        static int8_t  qt[MOST], qg[MOST];
        static uint8_t sign[MOST];
        static R       dx[MOST];
        static double  dy[MOST], t[MOST];
        qt_l1_stats    s;
        qt_l1_sums     sums;
        double         most = 0, mh = 0, mht = 0, msg = 0, mean_g = 0, dw = 0;
        qt_l1_take_stats(&x, &s);
        const double st = fmax(qt_l1_reach(&s) / 127, 1e-9), gamma = 1.5, sx = 0.01;
        qt_l1_map    m = qt_l1_map_of(&s, 1, 0, st, 0, -127, 127);
        qt_l1_apply(&x, &s, &m, qt);
        qt_l1_take_signs(&x, &s, sign);
        for (int64_t i = 0; i < s.n; i++) dy[i] = qt_rng_normal(&r), most = fmax(most, fabs(dy[i]));
        const double sg = most / 127, sigma = sx * qt_l1_sigma(&s), gain = s.total ? gamma * sg / sigma : 1, n = (double)s.n;
        for (int64_t i = 0; i < s.n; i++) {
            const int64_t at = i / x.length * x.step + i % x.length, d = code_at(&x, i) * 65536ll - s.mean;
            const int     bit = sign[i / x.length * ((x.length + 7) / 8) + i % x.length / 8] >> i % x.length % 8 & 1;
            assert_int_equal(bit, d > 0);
            qg[at] = (int8_t)rint(dy[i] / sg), dx[at] = 1;
            t[i] = s.total ? (double)d * n / (double)s.total : 0;
            mh += dy[i] / n, mht += dy[i] * t[i] / n, msg += (bit ? 1 : -1) / n, mean_g += abs(qg[at]) / n, dw += qg[at] * (double)qt[at];
        }
        qt_l1_back_sums(qg, qt, sign, x.runs, x.step, x.length, &sums);
        assert_true(dw == (double)sums.gt);
        qt_l1_backward(qg, sign, x.runs, x.step, x.length, &sums, gain, st, dx);
        for (int64_t i = 0; i < s.n; i++) {
            const int64_t at = i / x.length * x.step + i % x.length;
            const double  want = 1 + gain / sg * (dy[i] - mh - mht * ((code_at(&x, i) * 65536ll > s.mean ? 1 : -1) - msg));
            if (!(fabs((double)dx[at] - want) <= gain * (2 + st * mean_g) * (1 + 1e-5) + 64 * eps * (1 + gain * 127)))
                fail_msg("dx %.9g, expected %.9g within %.9g", (double)dx[at], want, gain * (2 + st * mean_g));
        }
    }
}

/* Of codes that are exact, backward is exact: small whole numbers, against the formula in double. */
static void backward_of_exact_codes(void **state)
{
    static const int8_t g[] = {3, -1, 4, 1, -5, 9, -2, 6, 5}, t[] = {-2, -1, 0, 1, 2, 3, -3, 0, 0};
    static const uint8_t sign[] = {0x38, 0}; /* t > 0 at 3, 4, 5 */
    qt_l1_sums           s;
    R                    dx[9] = {0};
    double               m1 = 20.0 / 9, gt = -6 + 1 + 0 + 1 - 10 + 27 + 6, m2 = 0.5 * gt / 9, m3 = (3.0 - 6.0) / 9;
    (void)state;
    qt_l1_back_sums(g, t, sign, 1, 0, 9, &s);
    assert_true(s.n == 9 && s.g == 20 && s.gt == (int64_t)gt && s.above == 3);
    qt_l1_backward(g, sign, 1, 0, 9, &s, 0.25, 0.5, dx);
    for (int i = 0; i < 9; i++) near("dx", dx + i, (double[]){0.25 * (g[i] - m1 - m2 * ((t[i] > 0 ? 1 : -1) - m3))}, 1, 8 * eps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_gradients_are_the_expected_ones),
        cmocka_unit_test(constant_channels_and_large_means),
        cmocka_unit_test(a_single_value_leaves_the_running_deviation),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(wrong_shapes_are_reported),
        cmocka_unit_test(fresh_layers_give_variance_one),
        cmocka_unit_test(frozen_statistics_stay),
        cmocka_unit_test(folding_changes_nothing_but_rounding),
        cmocka_unit_test(probe_knows_the_layers),
        cmocka_unit_test(statistics_are_those_of_the_definition),
        cmocka_unit_test(the_integer_form_is_the_float_form),
        cmocka_unit_test(scale_and_zero_point_cancel),
        cmocka_unit_test(nearly_constant_channels_and_extreme_gains),
        cmocka_unit_test(rows_have_gains),
        cmocka_unit_test(backward_is_the_float_one_within_its_quantization),
        cmocka_unit_test(backward_of_exact_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
