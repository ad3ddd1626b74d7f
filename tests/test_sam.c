/* Steppers sam and sagm and the conflict meter: trajectories against torch, and what holds exactly. All on the embedded digits. */
#include "run_util.h"
#include "golden/sam.h"
#include <math.h>

enum { GOLDEN = sizeof golden_sam / sizeof *golden_sam, TENSORS = sizeof golden_sam->tensor / sizeof *golden_sam->tensor };

static int clear(void **state)
{
    (void)state;
    qt_error_clear();
    return 0;
}

/* ---- another implementation -------------------------------------------------------------------------------------------------------- */

static const char golden_recipe[] =
    "recipe: 1\n"
    "model: [flatten, {use: linear, out: 8, name: fc1}, {use: batch_norm, name: bn}, relu, {use: linear, out: 10, name: fc2}]\n"
    "data: {use: digits, normalize: unit, train: \"train[:48]\", batch_size: 64}\n"
    "quant: [{match: \"*\", weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 4, signed: false}}]\n"
    "optim: {use: sgd, lr: 0.1}\n"
    "train: {steps: 6, eval_every: 0}\n"
    "step: %s\n";

static void wave(qt_run *r, const char *name, double k, double size, double mean)
{
    qt_tensor *t = qt_param_find(r->store, name);
    assert_non_null(t);
    for (int64_t i = 0; i < t->n; i++) t->data[i] = (R)(mean + size * sin(0.37 * (double)i + k));
}

static void begin_at(qt_run *r)
{
    static const char *const site[] = {"fc1.weight", "fc1.input", "fc2.weight", "fc2.input"};
    static const double      scale[] = {0.05, 0.08, 0.1, 0.2};
    char                     name[64];
    wave(r, "fc1.weight", 1, 0.2, 0), wave(r, "fc1.bias", 2, 0.1, 0), wave(r, "bn.weight", 3, 0.2, 1), wave(r, "bn.bias", 4, 0.3, 0);
    wave(r, "fc2.weight", 5, 0.4, 0), wave(r, "fc2.bias", 6, 0.1, 0);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.scale", site[i]), wave(r, name, 0, 0, scale[i]);
        snprintf(name, sizeof name, "%s.initialized", site[i]), wave(r, name, 0, 0, 1);
    }
}

/* Tensor k of trajectory i. */
static void expect_tensor(const qt_run *r, int i, int k)
{
    const double     tolerance = sizeof(R) == 8 ? 1e-10 : 2e-5, c = golden_sam[i].tensor[k].c, s = golden_sam[i].tensor[k].s;
    const char      *name = golden_sam[i].tensor[k].name;
    const qt_tensor *t = qt_param_find(r->store, name);
    double           got[2] = {0};
    for (int64_t j = 0; j < t->n; j++) got[0] += (double)t->data[j] * cos((double)j), got[1] += (double)t->data[j] * sin(3 * (double)j);
    if (fabs(got[0] - c) > tolerance || fabs(got[1] - s) > tolerance)
        fail_msg("%s, %s: (%.12g, %.12g), expected (%.12g, %.12g)", golden_sam[i].step, name, got[0], got[1], c, s);
}

static void test_golden(void **state)
{
    (void)state;
    for (int i = 0; i < GOLDEN; i++) {
        char       text[1024];
        qt_arena   a = {0};
        qt_recipe *rc;
        qt_run    *r;
        qt_result  res;
        snprintf(text, sizeof text, golden_recipe, golden_sam[i].step);
        put_file("r.yaml", text);
        assert_ok(qt_recipe_load(&a, "r.yaml", 0, NULL, NULL, &rc));
        assert_ok(qt_run_new(rc, "golden", NULL, true, QT_PROGRESS_QUIET, &r));
        begin_at(r);
        assert_ok(qt_run_go(r, &res));
        for (int k = 0; k < TENSORS; k++) expect_tensor(r, i, k);
        qt_run_free(r), qt_arena_free(&a);
    }
}

/* ---- what holds exactly ------------------------------------------------------------------------------------------------------------ */

/* Everything that has state or draws: batch norm, dropout, learned steps, one a channel, running ranges, averaged weights, clipping. */
static const char full_recipe[] =
    "recipe: 1\n"
    "model:\n"
    "  - {use: conv2d, out: 6, kernel: 3, stride: 2, padding: 1, name: conv}\n"
    "  - batch_norm\n"
    "  - relu\n"
    "  - flatten\n"
    "  - {use: dropout, p: 0.1}\n"
    "  - {use: linear, out: 24, name: fc1}\n"
    "  - relu\n"
    "  - {use: linear, out: 10, name: fc2}\n"
    "data: {use: digits, batch_size: 32}\n"
    "quant:\n"
    "  - {match: \"*\", weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 4, signed: false}}\n"
    "  - {match: fc1, weights: {use: lsq, num_bits: 3, granularity: channel}, activations: {use: uniform, num_bits: 8, symmetric: false, granularity: "
    "tensor, observer: ema}}\n"
    "optim: {use: adamw, lr: 5e-3, weight_decay: 0.01, clip_grad_norm: 5.0, ema: 0.9}\n"
    "train: {steps: 24, eval_every: 8, log_every: 2}\n"
    "step: %s\n";

static void train_with(const char *step, const char *dir, int threads)
{
    char text[2048];
    snprintf(text, sizeof text, full_recipe, step);
    train(text, dir, threads);
}

/* The value of a key in the last measure event of a path up to a step. */
static double measured(const char *dir, int step, const char *path, const char *key)
{
    char *text = metrics_of(dir), want[2][128], name[64];
    double v = NAN;
    snprintf(want[0], sizeof want[0], "{\"event\": \"measure\", \"step\": %d,", step), snprintf(want[1], sizeof want[1], "\"path\": \"%s\"", path);
    snprintf(name, sizeof name, "\"%s\": ", key);
    for (char *s = text, *end; *s; s = end + 1) {
        end = strchr(s, '\n'), *end = 0;
        if (!strncmp(s, want[0], strlen(want[0])) && strstr(s, want[1])) v = atof(strstr(s, name) + strlen(name));
    }
    free(text);
    return v;
}

/* No threshold, nothing frozen: the bits of sagm without freezing. */
static void test_tau_zero(void **state)
{
    (void)state;
    train_with("{use: sagm, window: 4}", "none", 1);
    train_with("{use: sagm, window: 4, freeze: task, tau: 0}", "zero", 1);
    assert_same_run("none", "zero");
    assert_true(measured("zero", 24, "scales", "freeze_rate") == 0);
    assert_true(measured("zero", 24, "scales", "pairs") == 6 * (24 + 4)); /* 6 windows; 24 channels and 4 other steps */
}

static const char *const paths[] = {"conv.weight.scale", "conv.input.scale", "fc1.weight.scale", "fc2.weight.scale", "fc2.input.scale"};

/* A threshold above every disorder: all is frozen from the second window on. */
static void test_tau_above_one(void **state)
{
    (void)state;
    train_with("{use: sagm, window: 4, freeze: task, tau: 1.1}", "above", 1);
    for (int step = 4; step <= 24; step += 4)
        for (int i = 0; i < 5; i++) assert_true(measured("above", step, paths[i], "frozen") == (step > 4));
    assert_true(measured("above", 24, "scales", "freeze_rate") == 1);
    assert_true(isnan(measured("above", 23, "scales", "pairs"))); /* no event but at the end of a window */
    train_with("{use: sagm, window: 4, freeze: task, when: always}", "always", 1);
    assert_true(measured("always", 4, "conv.weight.scale", "frozen") == 1);
    train_with("{use: sagm, window: 4, freeze: task, when: random, rate: 1}", "random", 1);
    assert_same_ckpt("above/ckpt/last.h5", "random/ckpt/last.h5"); /* a coin that always falls so */
}

/* Without a perturbation the second pass is the first one again. */
static void test_no_perturbation(void **state)
{
    (void)state;
    train_with("{use: sagm, rho: 0, alpha: 0, window: 4}", "still", 1);
    for (int step = 4; step <= 24; step += 4)
        for (int i = 0; i < 5; i++) {
            assert_true(measured("still", step, paths[i], "sum_task") == measured("still", step, paths[i], "sum_smooth"));
            assert_true(measured("still", step, paths[i], "disorder_task") == measured("still", step, paths[i], "disorder_smooth"));
            assert_true(measured("still", step, paths[i], "disorder_between") == 0);
        }
    assert_true(measured("still", 24, "scales", "opposite") == 0);
}

/* sam at rho 0 is plain: the same losses, and the same evaluations. */
static void test_plain(void **state)
{
    char *a, *b, *at;
    (void)state;
    train_with("{use: sam, rho: 0, window: 1000}", "sam", 1), train_with("plain", "plain", 1);
    a = metrics_of("sam"), b = metrics_of("plain");
    assert_string_equal(a, b);
    free(a), free(b);
    train_with("{use: sam, window: 1000}", "sam5", 1);
    a = metrics_of("sam5"), b = metrics_of("plain");
    at = strchr(a, '\n');
    assert_true(strcmp(at, b + (at - a)) != 0); /* and another one with it */
    free(a), free(b);
}

/* What is frozen had a disorder below tau in the window before, and nothing else. */
static void test_rule(void **state)
{
    int frozen = 0, pairs = 0;
    (void)state;
    train_with("{use: sagm, window: 3, freeze: smooth, tau: 0.5}", "rule", 1);
    for (int step = 6; step <= 24; step += 3)
        for (int i = 0; i < 5; i++) {
            double D = measured("rule", step - 3, paths[i], "disorder_smooth"), f = measured("rule", step, paths[i], "frozen");
            if (i != 2) assert_true((D < 0.5) == (f == 1)); /* of fc1 both are means over channels */
            pairs++, frozen += f == 1;
        }
    assert_true(frozen > 0 && frozen < pairs);
    assert_true(measured("rule", 24, "scales", "frozen_disorder") < 0.5);
}

/* One decision a layer, by the mean over its numbers: 24 steps of fc1's channels have one alone, the activation's range is not learned. */
static void test_share(void **state)
{
    int frozen = 0, windows = 0;
    (void)state;
    train_with("{use: sagm, window: 3, freeze: task, tau: 0.5, share: layer}", "share", 1);
    for (int step = 6; step <= 24; step += 3) {
        double weight = measured("share", step, "fc2.weight.scale", "frozen"), input = measured("share", step, "fc2.input.scale", "frozen");
        double D = (measured("share", step - 3, "fc2.weight.scale", "disorder_task") + measured("share", step - 3, "fc2.input.scale", "disorder_task")) / 2;
        double channels = measured("share", step, "fc1.weight.scale", "frozen");
        assert_true(weight == input && weight == (D < 0.5));
        assert_true(channels == (measured("share", step - 3, "fc1.weight.scale", "disorder_task") < 0.5));
        windows++, frozen += weight == 1;
    }
    assert_true(frozen > 0 && frozen < windows);
    train_with("{use: sagm, window: 3, freeze: task, when: random, rate: 0.5, share: layer}", "coin", 1);
    for (int step = 6; step <= 24; step += 3) {
        double channels = measured("coin", step, "fc1.weight.scale", "frozen");
        assert_true(channels == 0 || channels == 1);
        assert_true(measured("coin", step, "fc2.weight.scale", "frozen") == measured("coin", step, "fc2.input.scale", "frozen"));
    }
}

/* ---- same bits --------------------------------------------------------------------------------------------------------------------- */

static void test_same_bits(void **state)
{
    static const char *const step[] = {"{use: sagm, window: 5, freeze: task, tau: 0.6}", "{use: sam, window: 5}",
                                       "{use: sagm, window: 4, freeze: smooth, when: random, rate: 0.4}"};
    volatile int stop = 1;
    (void)state;
    for (int i = 0; i < 3; i++) {
        char      text[2048], dir[3][16];
        qt_result res;
        for (int k = 0; k < 3; k++) snprintf(dir[k], sizeof dir[k], "bits%d-%d", i, k);
        snprintf(text, sizeof text, full_recipe, step[i]);
        train(text, dir[0], 1), train(text, dir[1], 2);
        assert_same_run(dir[0], dir[1]);
        qt_err e = try_train(text, dir[2], 0, NULL, NULL, 1, &stop, false, &res);
        for (; e == QT_ESTOPPED; e = try_resume(dir[2], &stop, &res)) qt_error_clear();
        assert_ok(e);
        assert_same_run(dir[0], dir[2]);
    }
}

static void test_no_allocation(void **state)
{
    int64_t used[2];
    (void)state;
    for (int k = 0; k < 2; k++) {
        char    dir[16], text[1024];
        int64_t before = qt_alloc_count();
        snprintf(text, sizeof text, golden_recipe, "{use: sagm, window: 5, freeze: task}");
        snprintf(dir, sizeof dir, "alloc%d", k);
        const char *sets[] = {k ? "train.steps=80" : "train.steps=20"};
        qt_result   res;
        assert_ok(try_train(text, dir, 1, sets, NULL, 2, NULL, false, &res));
        used[k] = qt_alloc_count() - before;
    }
    assert_int_equal(used[0], used[1]);
}

/* ---- recipes ----------------------------------------------------------------------------------------------------------------------- */

/* From the checkpoint of a plain run, which knows nothing of a meter, and back to a plain one. */
static void test_start_values(void **state)
{
    qt_result   res;
    const char *sets[] = {"init={run: first}", "train.steps=3"}, *back[] = {"init={run: second}", "train.steps=3"};
    char        text[2048], plain[2048];
    (void)state;
    snprintf(plain, sizeof plain, full_recipe, "plain"), snprintf(text, sizeof text, full_recipe, "{use: sagm, window: 2}");
    train(plain, "first", 1);
    assert_ok(try_train(text, "second", 2, sets, NULL, 1, NULL, false, &res));
    assert_ok(try_train(plain, "third", 2, back, NULL, 1, NULL, false, &res));
}

static void refused(const char *step, const char *quant, const char *want)
{
    char text[1024];
    snprintf(text, sizeof text,
             "recipe: 1\nmodel: [flatten, {use: linear, out: 10}]\ndata: digits\ntrain: {steps: 1}\nquant: [{match: \"*\", weights: %s}]\nstep: %s\n", quant,
             step);
    assert_int_equal(try_train(text, "refused", 0, NULL, NULL, 1, NULL, false, NULL), QT_ERECIPE);
    assert_errors(want);
    assert_false(qt_file_exists("refused"));
}

static void test_errors(void **state)
{
    (void)state;
    refused("{use: sagm, freeze: task}", "ternary", "r.yaml:6:7: step.freeze: the model has no quantizer that learns a number");
    refused("{use: sagm, freeze: tusk}", "lsq", "r.yaml:6:27: step.freeze: unknown value 'tusk', did you mean 'task'? Must be one of none, task, smooth");
    refused("{use: sam, freeze: task}", "lsq", "r.yaml:6:18: step.freeze: unknown key");
    refused("{use: sagm, window: 1}", "lsq", "r.yaml:6:27: step.window: 1 is out of bounds, must be 2 to 1000000000");
    refused("sgam", "lsq", "r.yaml:6:7: unknown stepper 'sgam', did you mean 'sam'? (`qtape list steppers` lists them)");
}

#define T(f) cmocka_unit_test_setup(f, clear)

int main(void)
{
    const struct CMUnitTest tests[] = {T(test_golden), T(test_tau_zero), T(test_tau_above_one), T(test_no_perturbation), T(test_plain), T(test_rule), T(test_share),
                                       T(test_same_bits), T(test_no_allocation), T(test_start_values), T(test_errors)};
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
