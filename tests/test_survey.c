/* What a survey of quantization expects of its basic parts (rows of docs/features.txt): errors of uniform and other levels on given data, ranges
 * and granularities against one another, codebooks, calibration without data, the size of files. */
#include "quants_util.h"
#include "train_util.h"
#include <math.h>

static int clear(void **state)
{
    (void)state;
    qt_error_clear();
    return 0;
}

/* Mean squared error of a quantizer over x [rows, cols], but for element `leave` (-1: none). */
static double error_of(qt_role role, const char *spec, const int64_t dim[2], const R *x, int64_t leave)
{
    double sum = 0;
    rig    r = rig_new(role, spec, 2, dim);
    rig_run(&r, 2, dim, x, NULL);
    for (int64_t i = 0; i < r.x->n; i++)
        if (i != leave) sum += ((double)x[i] - (double)r.y->data[i]) * ((double)x[i] - (double)r.y->data[i]);
    sum /= (double)(leave < 0 ? r.x->n : r.x->n - 1);
    rig_free(&r);
    return sum;
}

static const int64_t BIG[2] = {64, 1024};
enum { NUMBERS = 64 * 1024 };

/* Inside the range a number is at most half a step from its level, and levels stay where they are. */
static void test_uniform(void **state)
{
    (void)state;
    R         *x = normal(N, 1);
    rig        r = rig_new(W, "{use: uniform, num_bits: 5}", 2, DIM);
    rig_run(&r, 2, DIM, x, NULL);
    const double s = (double)param(&r, "scale")->data[0];
    for (int i = 0; i < N; i++) assert_true(fabs((double)x[i] - (double)r.y->data[i]) <= s / 2 * (1 + 1e-6));
    memcpy(x, r.y->data, N * sizeof *x);
    rig_run(&r, 2, DIM, x, NULL);
    for (int i = 0; i < N; i++) assert_true(fabs((double)x[i] - (double)r.y->data[i]) <= 1e-6);
    qt_free(x), rig_free(&r);
}

/* Of numbers that are never negative, symmetric codes waste half. */
static void test_asymmetric(void **state)
{
    (void)state;
    R *x = normal(N, 2);
    for (int i = 0; i < N; i++) x[i] = x[i] > 0 ? x[i] : 0;
    assert_true(error_of(A, "{use: uniform, num_bits: 4, symmetric: false}", DIM, x, -1) <
                0.5 * error_of(A, "{use: uniform, num_bits: 4}", DIM, x, -1));
    qt_free(x);
}

/* One number a hundred times too large ruins the range of the extremes; the other ways to a range keep the bulk. */
static void test_outlier(void **state)
{
    static const char *const ways[] = {"percentile, percentile: 0.99", "mse", "entropy"};
    (void)state;
    R *x = normal(NUMBERS, 3);
    x[77] = 50; /* a standard deviation is a half */
    const double extremes = error_of(A, "{use: uniform, num_bits: 6}", BIG, x, 77);
    for (int i = 0; i < 3; i++) {
        char spec[128];
        snprintf(spec, sizeof spec, "{use: uniform, num_bits: 6, observer: %s}", ways[i]);
        if (!(error_of(A, spec, BIG, x, 77) < extremes)) fail_msg("%s: the bulk is no better", ways[i]);
    }
    qt_free(x);
}

/* Data that have moved since the static range was taken. */
static void test_dynamic(void **state)
{
    double error[2] = {0, 0};
    (void)state;
    for (int k = 0; k < 2; k++) {
        R  *x = normal(N, 4);
        rig r = rig_new(A, k ? "{use: uniform, num_bits: 4, symmetric: false, dynamic: true}" : "{use: uniform, num_bits: 4, symmetric: false}", 2, DIM);
        rig_run(&r, 2, DIM, x, NULL);
        qt_tape_mode(r.tape, false, false);
        for (int i = 0; i < N; i++) x[i] = x[i] * 2 + 1;
        rig_run(&r, 2, DIM, x, NULL);
        for (int i = 0; i < N; i++) error[k] += ((double)x[i] - (double)r.y->data[i]) * ((double)x[i] - (double)r.y->data[i]);
        qt_free(x), rig_free(&r);
    }
    assert_true(error[1] < error[0]);
}

/* Rows of unlike size: the finer the groups, the smaller the error, for each seed. */
static void test_granularity(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        R *x = normal(NUMBERS, seed);
        for (int i = 0; i < NUMBERS; i++) x[i] *= (R)(1 + i / 1024 % 8);
        double tensor = error_of(W, "{use: uniform, num_bits: 4}", BIG, x, -1);
        double channel = error_of(W, "{use: uniform, num_bits: 4, granularity: channel}", BIG, x, -1);
        double group = error_of(W, "{use: uniform, num_bits: 4, granularity: group, group_size: 64}", BIG, x, -1);
        double block = error_of(W, "{use: uniform, num_bits: 4, granularity: group, group_size: 16}", BIG, x, -1);
        assert_true(tensor > channel && channel > group && group > block);
        qt_free(x);
    }
}

/* Lloyd-Max reaches the error of the best levels for a normal distribution (0.1175 of the variance with four, 0.009497 with 16), and is never
 * behind uniform ones, be their range that of least error. */
static void test_lloyd_max(void **state)
{
    (void)state;
    R     *x = normal(NUMBERS, 5);
    double power = 0;
    for (int i = 0; i < NUMBERS; i++) power += (double)x[i] * (double)x[i] / NUMBERS;
    assert_true(fabs(error_of(W, "{use: kmeans, num_bits: 2, iterations: 200}", BIG, x, -1) / power - 0.1175) < 0.002);
    assert_true(fabs(error_of(W, "{use: kmeans, num_bits: 4, iterations: 1000}", BIG, x, -1) / power - 0.009497) < 0.0003);
    for (int b = 2; b <= 4; b++) {
        char book[64], line[96];
        snprintf(book, sizeof book, "{use: kmeans, num_bits: %d}", b);
        snprintf(line, sizeof line, "{use: uniform, num_bits: %d, observer: mse}", b);
        assert_true(error_of(W, book, BIG, x, -1) < error_of(W, line, BIG, x, -1));
    }
    qt_free(x);
}

/* Turns only ever lower the error; the codebook follows in training, and stays in evaluation; a code is log2 of the levels. */
static void test_codebook(void **state)
{
    (void)state;
    R     *x = normal(N, 6);
    double last = INFINITY;
    rig    r = rig_new(W, "{use: kmeans, num_bits: 3, iterations: 1}", 2, DIM);
    for (int k = 0; k < 8; k++) {
        double sum = 0;
        rig_run(&r, 2, DIM, x, NULL);
        for (int i = 0; i < N; i++) sum += ((double)x[i] - (double)r.y->data[i]) * ((double)x[i] - (double)r.y->data[i]);
        assert_true(sum <= last * (1 + 1e-6));
        last = sum;
    }
    R level[8];
    memcpy(level, param(&r, "levels")->data, sizeof level);
    qt_tape_mode(r.tape, false, false);
    for (int i = 0; i < N; i++) x[i] *= 2;
    rig_run(&r, 2, DIM, x, NULL);
    assert_memory_equal(level, param(&r, "levels")->data, sizeof level);
    for (int i = 1; i < 8; i++) assert_true(level[i] >= level[i - 1]);
    assert_true(r.site->quant->bits(r.site) == 3);
    qt_free(x), rig_free(&r);
}

/* a sign(x) with a = mean|x| is the best of all a: its error is E x^2 - a^2, below that of sign(x) itself. */
static void test_binary_scale(void **state)
{
    double power = 0, mean = 0, plain = 0;
    (void)state;
    R *x = normal(N, 7);
    for (int i = 0; i < N; i++) {
        double v = (double)x[i];
        power += v * v / N, mean += fabs(v) / N, plain += (fabs(v) - 1) * (fabs(v) - 1) / N;
    }
    double scaled = error_of(W, "binary", DIM, x, -1);
    assert_true(fabs(scaled - (power - mean * mean)) < 1e-6 && scaled < plain);
    qt_free(x);
}

/* ---- runs ---------------------------------------------------------------------------------------------------------------------- */

static void reproduce(const char *recipe, const char *root)
{
    char             *text;
    size_t            n;
    qt_reproduce_opts o = {.run_root = root, .progress = QT_PROGRESS_QUIET, .threads = 1};
    FILE             *f = open_memstream(&text, &n);
    put_file("r.yaml", recipe);
    qt_err e = qt_reproduce("r.yaml", &o, f);
    fclose(f);
    if (e != QT_OK) print_error("%s\n", text);
    assert_ok(e);
    free(text);
}

#define CNN \
    "recipe: 1\ndata: {use: digits, batch_size: 32}\noptim: {use: adam, lr: 3e-3}\ntrain: {steps: 200, eval_every: 0}\n" \
    "model: [{use: conv2d, out: 8, kernel: 3, padding: 1, bias: false}, batch_norm, relu, {use: conv2d, out: 16, kernel: 3, stride: 2, padding: 1, bias: " \
    "false}, batch_norm, relu, flatten, {use: linear, out: 10}]\n"

/* Inputs made from the statistics of batch norms calibrate better than noise, and come much closer to them. */
static void test_synthesize(void **state)
{
    (void)state;
    reproduce(CNN "init: {arm: fp32}\nphases: [{use: synthesize, batches: 2, steps: 60}]\n"
                  "quant: [{match: \"*\", weights: {use: uniform, num_bits: 4, granularity: channel}, activations: {use: uniform, num_bits: 4, symmetric: false}}]\n"
                  "arms: {fp32: {init: !unset, quant: !unset, phases: !unset}, made: {}, noise: {\"phases[0].steps\": 0}}\n"
                  "claims:\n"
                  "  - {say: at least as good, arm: made, at_least: {arm: noise}}\n"
                  "  - {say: nearer, arm: made, metric: measure.synthesize.distance, at_most: {arm: noise, times: 0.2}}\n"
                  "  - {say: noise is noise, arm: made, metric: measure.synthesize.noise, within: {arm: noise, of: 0}}\n",
              "synthetic");
}

/* Training with four bits is not behind calibration to four bits. */
static void test_training(void **state)
{
    (void)state;
    reproduce(CNN "init: {arm: fp32}\n"
                  "quant: [{match: \"*\", weights: {use: uniform, num_bits: 4}, activations: {use: uniform, num_bits: 4, symmetric: false}}]\n"
                  "arms: {fp32: {init: !unset, quant: !unset}, qat: {optim.lr: 1e-3}, ptq: {phases: [calibrate]}}\n"
                  "claims: [{say: trained is not behind, arm: qat, at_least: {arm: ptq}}]\n",
              "trained");
}

static void test_synthesize_refused(void **state)
{
    qt_arena   a = {0};
    qt_recipe *r;
    (void)state;
    put_file("no.yaml", "recipe: 1\nmodel: [flatten, {use: linear, out: 10}]\ndata: {use: digits}\nphases: [synthesize]\n");
    assert_int_equal(qt_recipe_load(&a, "no.yaml", 0, NULL, NULL, &r), QT_ERECIPE);
    assert_errors("phases: synthesize needs a model with batch_norm, whose statistics it makes inputs for");
    qt_arena_free(&a);
}

/* Quantizers of papers about convolutions in a network without any. */
static void test_other_networks(void **state)
{
    (void)state;
    reproduce("recipe: 1\nmodel: [flatten, {use: linear, out: 32, name: fc1}, relu, {use: linear, out: 10, name: fc2}]\n"
              "data: {use: digits, batch_size: 32}\noptim: {use: adam, lr: 5e-3}\ntrain: {steps: 250, eval_every: 0}\n"
              "arms:\n"
              "  aqt: {quant: [{match: \"*\", weights: {use: aqt, num_bits: 4}, activations: {use: aqt, num_bits: 4, signed: false, granularity: tensor, bound: dev, coef: 4, start_step: 50}}]}\n"
              "  kmeans: {quant: [{match: \"*\", weights: {use: kmeans, num_bits: 2, granularity: channel}}]}\n"
              "claims: [{say: learns, arm: aqt, at_least: 0.85}, {say: learns, arm: kmeans, at_least: 0.85}]\n",
              "others");
}

/* A file is as large as its codes, scales and floats, and a little for their names. */
static void test_file_size(void **state)
{
    struct stat st;
    (void)state;
    reproduce("recipe: 1\nname: wide\nmodel: [flatten, {use: linear, out: 2048}, relu, {use: linear, out: 2048}, relu, {use: linear, out: 10}]\n"
              "data: {use: digits, batch_size: 32}\noptim: adam\ntrain: {steps: 1}\nexport: [{format: h5}]\n"
              "quant: [{match: \"*\", weights: {use: uniform, num_bits: 4, granularity: channel}, activations: {use: uniform, symmetric: false}}]\n",
              "size");
    const double codes = (64.0 + 2048 + 10) * 2048 / 2, floats = (double)sizeof(R) * (2048 + 2048 + 10) * 2; /* biases and scales */
    assert_int_equal(stat("size/base-s1/export/wide.h5", &st), 0);
    if (fabs((double)st.st_size / (codes + floats) - 1) >= 0.02) fail_msg("%lld bytes, expected %.0f", (long long)st.st_size, codes + floats);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, clear)
    const struct CMUnitTest tests[] = {
        T(test_uniform),   T(test_asymmetric), T(test_outlier),      T(test_dynamic),    T(test_granularity),        T(test_lloyd_max),
        T(test_codebook),  T(test_binary_scale), T(test_synthesize), T(test_training), T(test_synthesize_refused), T(test_other_networks), T(test_file_size),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
