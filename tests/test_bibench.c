/* What a benchmark of binarizers is made of: the phases that measure surrogate gradients and corrupted images, the score table, and the cost that counts
 * operations of one bit. */
#include "train_util.h"
#include <math.h>

#define HEAD                                                                                                                                \
    "recipe: 1\ndata: {use: digits, batch_size: 32, normalize: unit}\n"                                                                       \
    "model: [{use: conv2d, out: 8, kernel: 3, padding: 1, bias: false, name: stem}, batch_norm, {use: conv2d, out: 8, kernel: 3, padding: 1, " \
    "bias: false, name: conv}, batch_norm, global_avg_pool, {use: linear, out: 10, name: fc}]\n"
#define SIGNS "quant: [{match: conv, weights: bi_real, activations: bi_real}]\n"

static qt_err reproduce(const char *root, char **out)
{
    size_t            n;
    FILE             *f = open_memstream(out, &n);
    qt_reproduce_opts o = {.run_root = root, .progress = QT_PROGRESS_QUIET, .threads = 1};
    qt_err            e = qt_reproduce("demo.yaml", &o, f);
    fclose(f);
    return e;
}

static double measured(const char *dir, const char *path, const char *name)
{
    qt_arena       a = {0};
    const qt_yaml *y;
    double         v = NAN;
    assert_ok(qt_metrics_last(&a, dir, "measure", path, &y));
    assert_non_null(y);
    qt_yaml_real(qt_yaml_get(y, name), &v);
    qt_arena_free(&a);
    return v;
}

/* Every cosine is one, the parameters stay as they were, and the triangle's is above the box's. */
static void test_surrogates(void **state)
{
    char *out;
    (void)state;
    put_file("demo.yaml", HEAD SIGNS "train: {steps: 20}\narms:\n  a: {phases: [{use: surrogates, param: stem.weight, samples: 128}, train]}\n  b: {}\n"
                                     "claims:\n  - {say: the same run, arm: a, metric: test.loss, within: {arm: b, of: 0}}\n"
                                     "  - {say: nearer, arm: a, metric: measure.surrogates.poly, at_least: {arm: a, metric: measure.surrogates.ste}}\n");
    assert_ok(reproduce("s", &out));
    if (!strstr(out, "verdict: PASS")) fail_msg("%s", out);
    static const char *const names[] = {"ste", "poly", "fda", "identity"};
    for (int i = 0; i < 4; i++) assert_true(fabs(measured("s/a-s1", "surrogates", names[i])) < 1);
    free(out);
}

static void test_surrogates_refused(void **state)
{
    qt_recipe *r;
    qt_arena   a = {0};
    (void)state;
    put_file("demo.yaml", HEAD "train: {steps: 2}\nphases: [{use: surrogates, param: stem.weight}, train]\n");
    assert_int_equal(qt_recipe_load(&a, "demo.yaml", 0, NULL, NULL, &r), QT_ERECIPE);
    assert_errors("surrogates: the model has no layer with a binarized input");
    put_file("demo.yaml", HEAD SIGNS "train: {steps: 2}\nphases: [{use: surrogates, param: stem.bias}, train]\n");
    assert_int_equal(qt_recipe_load(&a, "demo.yaml", 0, NULL, NULL, &r), QT_ERECIPE);
    assert_errors("surrogates.param: the model has no trained parameter 'stem.bias'");
    qt_arena_free(&a);
}

/* Corrupted images are harder, by more the more severe; the weights do not move; clean is the test accuracy. */
static void test_corruptions(void **state)
{
    char *out;
    (void)state;
    put_file("demo.yaml", "recipe: 1\ndata: {use: digits, batch_size: 32, normalize: unit}\nmodel: [flatten, {use: linear, out: 10}]\n"
                               "train: {epochs: 6}\noptim: {use: adam, lr: 1e-2}\n"
                               "arms:\n  mild: {phases: [train, {use: corruptions, severity: 1}]}\n  hard: {phases: [train, {use: corruptions, severity: 5}]}\n"
                               "claims:\n  - {say: clean, arm: mild, metric: measure.corruptions.clean, within: {arm: hard, metric: test.accuracy, of: 1e-12}}\n"
                               "  - {say: harder, arm: hard, metric: measure.corruptions.drop, at_least: {arm: mild, metric: measure.corruptions.drop, plus: 0.05}}\n");
    assert_ok(reproduce("c", &out));
    if (!strstr(out, "verdict: PASS")) fail_msg("%s", out);
    static const char *const names[] = {"noise", "impulse", "blur", "contrast", "brightness"};
    double                   sum = 0;
    for (int i = 0; i < 5; i++) sum += measured("c/mild-s1", "corruptions", names[i]);
    assert_true(fabs(sum / 5 - measured("c/mild-s1", "corruptions", "mean")) < 1e-8);
    free(out);
}

static void test_corruptions_refused(void **state)
{
    qt_recipe *r;
    qt_arena   a = {0};
    (void)state;
    put_file("demo.yaml", "recipe: 1\nmodel: [{use: linear, out: 3, name: fc}]\ndata: {use: spirals}\nphases: [train, corruptions]\n");
    assert_int_equal(qt_recipe_load(&a, "demo.yaml", 0, NULL, NULL, &r), QT_ERECIPE);
    assert_non_null(strstr(qt_error_text(), "demo.yaml:4:17: corruptions: the data are no images [C, H, W] with classes"));
    qt_error_clear(), qt_arena_free(&a);
}

/* Row `label` of the table, its numbers. */
static int row(const char *out, const char *label, double v[4])
{
    const char *at = strstr(out, label);
    assert_non_null(at);
    at = strchr(at, '|') + 1;
    int n = 0;
    for (char *end; n < 4; n++, at = strchr(end, '|') + 1) {
        v[n] = strtod(at, &end);
        if (end == at) break;
    }
    return n;
}

/* A binary convolution of 8 x 8 places, 8 channels and 9 taps costs a 64th; a weight of it a bit and its channel's scale. */
static void test_scores(void **state)
{
    const double macs = 64 * 8 * 9 + 64 * 8 * 8 * 9 + 80, binary = 64 * 8 * 9 + 64 * 8 * 8 * 9 / 64.0 + 80, ratio = macs / binary;
    double       v[4];
    char        *out;
    (void)state;
    put_file("demo.yaml", HEAD "train: {steps: 30}\narms:\n  full: {}\n  full-slow: {optim: {use: adam, lr: 1e-4}}\n  one: {quant: &q [{match: conv, weights: bnn, activations: bnn}]}\n"
                               "  one-slow: {quant: *q, optim: {use: adam, lr: 1e-4}}\n  two: {quant: [{match: conv, weights: bi_real, activations: bi_real}]}\n"
                               "claims: [{say: cheap, arm: one, metric: cost_binary, at_most: {arm: full, times: 0.2}}]\n"
                               "scores:\n  base: full\n  arms: [one, two]\n  tracks:\n    - {track: size, metric: cost_binary, less: true}\n    - {track: size, metric: macs}\n"
                               "    - {track: calm, metric: test.loss, less: true, deviation: [slow]}\n");
    assert_ok(reproduce("t", &out));
    assert_int_equal(row(out, "| one  ", v), 0); /* the arms' own table comes first */
    const char *table = strstr(out, "| relative score ");
    assert_non_null(table);
    assert_int_equal(row(table, "one     ", v), 3);
    assert_true(fabs(v[0] - ratio) < 1e-3 && v[1] == 1 && v[2] > 0);
    assert_int_equal(row(table, "two     ", v), 2); /* without two-slow there is no deviation */
    assert_int_equal(row(table, "quadratic mean ", v), 3);
    assert_true(fabs(v[0] - ratio) < 1e-3 && v[1] == 1);
    row(table, "of the track ", v);
    assert_true(fabs(v[0] - sqrt((ratio * ratio + 1) / 2)) < 1e-3 && v[0] == v[1]);
    free(out);
}

static void test_scores_refused(void **state)
{
    qt_recipe *r;
    qt_arena   a = {0};
    (void)state;
    put_file("demo.yaml", HEAD "arms: {full: {}, one: {}}\nscores:\n  base: ful\n  arms: [one, tow]\n  tracks: [{track: t, metric: test.acuracy}]\n");
    assert_int_equal(qt_recipe_load(&a, "demo.yaml", 0, NULL, NULL, &r), QT_ERECIPE);
    assert_non_null(strstr(qt_error_text(), "demo.yaml:6:9: scores.base: unknown arm 'ful', did you mean 'full'?"));
    qt_error_clear();
    put_file("demo.yaml", HEAD "arms: {full: {}, one: {}}\nscores:\n  base: full\n  arms: [one, tow]\n  tracks: [{track: t, metric: test.acuracy}]\n");
    assert_int_equal(qt_recipe_load(&a, "demo.yaml", 0, NULL, NULL, &r), QT_ERECIPE);
    assert_non_null(strstr(qt_error_text(), "demo.yaml:7:15: scores.arms: unknown arm 'tow'"));
    assert_non_null(strstr(qt_error_text(), "scores.tracks[0].metric: unknown metric 'test.acuracy', did you mean 'test.accuracy'?"));
    qt_error_clear(), qt_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_surrogates),          cmocka_unit_test(test_surrogates_refused), cmocka_unit_test(test_corruptions),
        cmocka_unit_test(test_corruptions_refused), cmocka_unit_test(test_scores),             cmocka_unit_test(test_scores_refused),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
