/* Claims: their arithmetic over given numbers, and `reproduce` from a recipe to a verdict. */
#include "train_util.h"
#include <math.h>

static int clear(void **state)
{
    (void)state;
    qt_error_clear();
    return 0;
}

/* ---- arithmetic ------------------------------------------------------------------------------------------------------------ */

/* Three seeds of two arms and two metrics. */
static qt_err numbers(void *arg, const char *arm, const char *metric, qt_sample *s)
{
    static const double accuracy[2][3] = {{0.90, 0.92, 0.94}, {0.89, 0.93, 0.91}}, bytes[2] = {1000, 250};
    int                 k = !strcmp(arm, "q");
    int                *asked = arg;
    ++*asked, s->n = 3;
    for (int i = 0; i < 3; i++) s->v[i] = !strcmp(metric, "bytes") ? bytes[k] : !strcmp(metric, "test.loss") ? NAN : accuracy[k][i];
    return QT_OK;
}

static void judge(const char *claim, bool pass, const char *text)
{
    qt_arena   a = {0};
    qt_recipe *r;
    qt_verdict v;
    char       recipe[1024];
    int        asked = 0;
    snprintf(recipe, sizeof recipe,
             "recipe: 1\nmodel: [flatten, {use: linear, out: 10}]\ndata: {use: digits}\ntrain: {steps: 1}\narms: {fp32: {}, q: {}}\nclaims:\n  - "
             "{say: it is so, %s}\n",
             claim);
    put_file("c.yaml", recipe);
    assert_ok(qt_recipe_load(&a, "c.yaml", 0, NULL, NULL, &r));
    assert_string_equal(qt_claim_say(r, 0), "it is so");
    assert_ok(qt_claim_judge(r, 0, numbers, &asked, &v));
    assert_string_equal(v.text, text);
    assert_int_equal(v.pass, pass);
    assert_true(asked >= 1);
    qt_arena_free(&a);
}

static void test_arithmetic(void **state)
{
    (void)state;
    judge("arm: fp32, at_least: 0.919", true, "fp32 92.00 % >= 91.90 %");
    judge("arm: fp32, at_least: 0.921", false, "fp32 92.00 % >= 92.10 %");
    judge("arm: q, at_most: 0.92", true, "q 91.00 % <= 92.00 %");
    judge("arm: q, at_least: {arm: fp32, minus: 0.011}", true, "q 91.00 % >= 90.90 % (fp32 92.00 %)");
    judge("arm: q, at_least: {arm: fp32, minus: 0.009}", false, "q 91.00 % >= 91.10 % (fp32 92.00 %)");
    judge("arm: fp32, at_least: {arm: q, plus: 0.009}", true, "fp32 92.00 % >= 91.90 % (q 91.00 %)");
    judge("arm: q, metric: bytes, at_most: {arm: fp32, times: 0.25}", true, "q 250 <= 250 (fp32 1000)");
    judge("arm: q, metric: bytes, at_most: {arm: fp32, times: 0.25, minus: 1}", false, "q 250 <= 249 (fp32 1000)");
    judge("arm: q, metric: bytes, at_least: {arm: fp32, metric: test.accuracy, times: 100}", true, "q 250 >= 92 (fp32 92.00 %)");
    judge("arm: q, within: {arm: fp32, of: 0.0101}", true, "q 91.00 % and fp32 92.00 %: not more than 1.01 % apart");
    judge("arm: fp32, within: {arm: q, of: 0.0099}", false, "fp32 92.00 % and q 91.00 %: not more than 0.99 % apart");
}

static void test_gaps(void **state)
{
    (void)state;
    judge("arm: fp32, over: q, at_least: 0.009", true, "fp32 - q 1.00 % >= 0.90 %");
    judge("arm: fp32, over: q, at_most: {arm: fp32, over: q, plus: 0.001}", true, "fp32 - q 1.00 % <= 1.10 % (fp32 - q 1.00 %)");
    judge("arm: q, over: fp32, at_least: {arm: fp32, over: q}", false, "q - fp32 -1.00 % >= 1.00 % (fp32 - q 1.00 %)");
    judge("arm: q, over: fp32, every_seed: true, at_most: 0.011", true, "q - fp32 -1.00 % <= 1.10 %, holds for 3 of 3 seeds");
    judge("arm: q, metric: bytes, over: fp32, within: {arm: q, over: q, of: 750}", true, "q - fp32 -750 and q - q 0: not more than 750 apart");
}

static void test_every_seed(void **state)
{
    (void)state;
    judge("arm: q, every_seed: true, at_least: {arm: fp32, minus: 0.031}", true, "q 91.00 % >= 88.90 % (fp32 92.00 %), holds for 3 of 3 seeds");
    judge("arm: q, every_seed: true, at_least: {arm: fp32, minus: 0.011}", false, "q 91.00 % >= 90.90 % (fp32 92.00 %), holds for 2 of 3 seeds");
    judge("arm: q, every_seed: true, within: {arm: fp32, of: 0.0101}", false,
          "q 91.00 % and fp32 92.00 %: not more than 1.01 % apart, holds for 2 of 3 seeds");
}

/* What is not a number proves nothing. */
static void test_nan(void **state)
{
    (void)state;
    judge("arm: q, metric: test.loss, at_least: 0", false, "q nan >= 0");
    judge("arm: q, metric: test.loss, at_most: 0", false, "q nan <= 0");
    judge("arm: q, metric: test.loss, within: {arm: fp32, of: 1}", false, "q nan and fp32 nan: not more than 1 apart");
}

static void test_statistics(void **state)
{
    qt_sample s = {3, {1, 2, 6}}, one = {1, {5}}, none = {0, {0}};
    (void)state;
    assert_true(qt_sample_mean(&s) == 3);
    assert_true(fabs(qt_sample_sd(&s) - sqrt(7)) < 1e-15);
    assert_true(qt_sample_mean(&one) == 5 && qt_sample_sd(&one) == 0);
    assert_true(isnan(qt_sample_mean(&none)));
}

/* ---- fronts ---------------------------------------------------------------------------------------------------------------- */

/* cost and accuracy of arms a to f: b is dominated by a, d by c at the same cost, f has none. */
static qt_err places(void *arg, const char *arm, const char *metric, qt_sample *s)
{
    static const double at[6][2] = {{1, 0.8}, {2, 0.79}, {3, 0.9}, {3, 0.85}, {4, 0.95}, {1, NAN}};
    (void)arg;
    s->n = 1, s->v[0] = at[*arm - 'a'][!!strcmp(metric, "cost")];
    return QT_OK;
}

static void front(const char *claim, bool pass, const char *text)
{
    qt_arena   a = {0};
    qt_recipe *r;
    qt_verdict v;
    char       recipe[1024];
    snprintf(recipe, sizeof recipe,
             "recipe: 1\nmodel: [flatten, {use: linear, out: 10}]\ndata: {use: digits}\ntrain: {steps: 1}\narms: {e: {}, d: {}, c: {}, b: {}, a: "
             "{}, f: {}}\nclaims:\n  - {say: so, front: %s}\n", claim);
    put_file("c.yaml", recipe);
    qt_err e = qt_recipe_load(&a, "c.yaml", 0, NULL, NULL, &r);
    if (e != QT_OK) {
        assert_errors(text);
    } else {
        assert_ok(qt_claim_judge(r, 0, places, NULL, &v));
        assert_string_equal(v.text, text);
        assert_int_equal(v.pass, pass);
    }
    qt_arena_free(&a);
}

static void test_front(void **state)
{
    (void)state;
    front("{}, on: [a, c, e], off: [b, d, f]", true, "the front of 6 arms: a (1, 80.00 %), c (3, 90.00 %), e (4, 95.00 %)");
    front("{}, on: [b, c], off: [e]", false, "the front of 6 arms: a (1, 80.00 %), c (3, 90.00 %), e (4, 95.00 %); b is not on it; e is on it");
    front("{arms: [b, d, f]}, on: [d, b]", true, "the front of 3 arms: b (2, 79.00 %), d (3, 85.00 %)");
    front("{metric: test.loss, arms: \"[abe]\"}, on: [a, b], off: [e]", true, "the front of 3 arms: a (1, 0.8), b (2, 0.79)");
    front("{costs: x}, on: [a]", false, "c.yaml:7:23: claims[0].front.costs: unknown key, did you mean 'cost'?");
    front("{arms: [a, b]}, on: [a, c], off: [none]", false,
          "c.yaml:7:46: claims[0].on: arm 'c' is none of the points of front.arms\nc.yaml:7:56: claims[0].off: unknown arm 'none'");
    front("{cost: csot}", false, "c.yaml:7:5: claims[0]: expected on or off, found neither");
    front("{cost: csot}, on: a", false,
          "c.yaml:7:29: claims[0].front.cost: unknown metric 'csot', did you mean 'cost'?\nc.yaml:7:40: claims[0].on: expected a list of arms, found a string");
}

static void test_front_of_nothing(void **state)
{
    qt_arena   a = {0};
    qt_recipe *r;
    (void)state;
    put_file("c.yaml", "recipe: 1\nmodel: [flatten, {use: linear, out: 10}]\ndata: {use: digits}\ntrain: {steps: 1}\nclaims: [{say: so, front: {}, on: [base]}]\n");
    assert_int_equal(qt_recipe_load(&a, "c.yaml", 0, NULL, NULL, &r), QT_ERECIPE);
    assert_errors("c.yaml:5:27: claims[0].front: a front needs arms, and the recipe has none");
    qt_arena_free(&a);
}

/* ---- reproduce ------------------------------------------------------------------------------------------------------------- */

static const char recipe_text[] =
    "recipe: 1\n"
    "name: demo\n"
    "model: [flatten, {use: linear, out: 16, name: fc1}, relu, {use: linear, out: 10, name: fc2}]\n"
    "data: {use: digits, batch_size: 32}\n"
    "optim: {use: adam, lr: 1e-2}\n"
    "train: {steps: 40, eval_every: 0}\n"
    "seeds: [1, 2]\n"
    "arms:\n"
    "  ternary: {init: {arm: fp32}, quant: [{match: \"*\", weights: ternary}]}\n" /* begins with an arm that stands after it */
    "  fp32: {}\n"
    "claims:\n"
    "  - {say: fp32 learns, arm: fp32, at_least: 0.5, every_seed: true}\n"
    "  - {say: ternary is small, arm: ternary, metric: bits_per_weight, at_most: 2}\n"
    "  - {say: its scale is a number, arm: ternary, metric: quant.fc1.weight.scale, at_least: 0}\n"
    "  - {say: ternary is near fp32, arm: ternary, metric: test.loss, within: {arm: fp32, of: 0.5}}\n";

static qt_err reproduce(const char *root, char **out)
{
    size_t            n;
    qt_reproduce_opts o = {.run_root = root, .progress = QT_PROGRESS_QUIET, .threads = 1};
    FILE             *f = open_memstream(out, &n);
    qt_err            e = qt_reproduce("demo.yaml", &o, f);
    fclose(f);
    return e;
}

static ino_t inode(const char *file)
{
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    return st.st_ino;
}

static void test_reproduce(void **state)
{
    char *first, *second, *third;
    (void)state;
    put_file("demo.yaml", recipe_text);
    assert_ok(reproduce("root", &first));
    assert_non_null(strstr(first, "| ternary |     2 | "));
    assert_non_null(strstr(first, "- PASS  fp32 learns: fp32 "));
    assert_non_null(strstr(first, ", holds for 2 of 2 seeds\n"));
    assert_non_null(strstr(first, "- PASS  ternary is small: ternary 1."));
    assert_non_null(strstr(first, "\nverdict: PASS\n"));
    assert_true(qt_file_exists("root/fp32-s1/DONE") && qt_file_exists("root/ternary-s2/DONE"));
    assert_true(qt_file_exists("root/results.json") && qt_file_exists("root/results.md"));
    /* nothing runs again, and the table is the same */
    ino_t done = inode("root/fp32-s1/ckpt/last.h5");
    assert_ok(reproduce("root", &second));
    assert_string_equal(first, second);
    assert_true(done == inode("root/fp32-s1/ckpt/last.h5"));
    /* one that was stopped goes on */
    unlink("root/ternary-s2/DONE");
    assert_ok(reproduce("root", &third));
    assert_true(qt_file_exists("root/ternary-s2/DONE"));
    free(first), free(second), free(third);
}

static void replaced(const char *what, const char *with)
{
    char        text[2048];
    const char *at = strstr(recipe_text, what);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - recipe_text), recipe_text, with, at + strlen(what));
    put_file("demo.yaml", text);
}

static void test_failed_claim(void **state)
{
    char *out;
    (void)state;
    replaced("at_least: 0.5", "at_least: 1.1");
    qt_err e = reproduce("root", &out); /* claims are no part of a run: the arms of the test above still stand */
    assert_int_equal(e, QT_ECLAIM);
    assert_int_equal(qt_error_exit(e), 3);
    assert_errors("demo: 1 of 4 claims failed");
    assert_non_null(strstr(out, "- FAIL  fp32 learns: fp32 "));
    assert_non_null(strstr(out, "\nverdict: FAIL\n"));
    free(out);
    replaced("optim: {use: adam, lr: 1e-2}\ntrain: {steps: 40, eval_every: 0}\n", "train: {eval_every: 0, steps: 40}\noptim: {lr: 1e-2, use: adam}\n");
    ino_t done = inode("root/fp32-s1/ckpt/last.h5");
    assert_ok(reproduce("root", &out)); /* nor is the order of keys */
    assert_true(done == inode("root/fp32-s1/ckpt/last.h5"));
    free(out);
    replaced("lr: 1e-2", "lr: 2e-2");
    assert_int_equal(reproduce("root", &out), QT_EUSAGE);
    assert_errors("root/fp32-s1: was made from another version of demo.yaml; remove it, or give another --run");
    free(out);
    replaced("quant.fc1.weight.scale", "quant.fc7.weight.scale");
    assert_int_equal(reproduce("root", &out), QT_ERECIPE);
    assert_errors("demo.yaml:14:56: claims[2].metric: arm 'ternary' has no quantizer at 'fc7.weight', did you mean 'fc1.weight'? (arm 'ternary')");
    free(out);
}

static void test_measure(void **state)
{
    char *out;
    (void)state;
    replaced("quant.fc1.weight.scale", "measure.bits4.accuracy");
    assert_int_equal(reproduce("root", &out), QT_ERECIPE);
    assert_errors("demo.yaml:14:56: claims[2].metric: nothing in arm 'ternary' measures 'bits4.accuracy' (arm 'ternary')");
    free(out);
}

/* An arm that diverges is shown, has no accuracy, and does not stop the others. */
static void test_diverged(void **state)
{
    char *out;
    (void)state;
    put_file("demo.yaml",
             "recipe: 1\nmodel: [{use: linear, out: 1, name: fc}]\ndata: {use: regression, batch_size: 32}\noptim: {use: sgd, lr: 1e-2}\n"
             "train: {steps: 200, eval_every: 0}\narms: {wild: {optim.lr: 1e6}, tame: {}}\n"
             "claims: [{say: only one learns, arm: wild, metric: test.loss, at_least: {arm: tame}}]\n");
    assert_ok(reproduce("wild", &out));
    assert_non_null(strstr(out, "| wild |     1 |          diverged |"));
    assert_non_null(strstr(out, "- PASS  only one learns: wild inf >= "));
    free(out);
}

static void test_fallback(void **state)
{
    char *out;
    (void)state;
    replaced("data: {use: digits, batch_size: 32}", "data: {use: fashion-mnist, path: /nowhere, batch_size: 32, fallback: digits}");
    assert_ok(reproduce("fell", &out));
    assert_non_null(strstr(out, "- SKIP  fp32 learns: "));
    assert_non_null(strstr(out, "Trained on 'digits' because 'fashion-mnist' could not be had: the claims are not judged."));
    assert_non_null(strstr(out, "\nverdict: SKIP\n"));
    free(out);
    assert_ok(reproduce("fell", &out)); /* done is done, on the fallback too */
    free(out);
}

/* A phase `evaluate` measures one more split, and the final event has the cost of the model. */
static void test_evaluate(void **state)
{
    char *out;
    (void)state;
    put_file("demo.yaml",
             "recipe: 1\nmodel: [flatten, {use: linear, out: 10, name: fc}]\ndata: {use: digits, batch_size: 32}\noptim: adam\ntrain: {steps: 60}\n"
             "arms: {a: {phases: [train, {use: evaluate, split: train}]}, b: {}}\n"
             "claims:\n  - {say: learnt, arm: a, metric: measure.train.accuracy, at_least: 0.5}\n"
             "  - {say: costs as much as it has multiply-adds, arm: a, metric: cost, within: {arm: b, metric: macs, of: 0}}\n"
             "  - {say: and so, arm: a, metric: cost_linear, within: {arm: b, of: 0}}\n");
    assert_ok(reproduce("evaluated", &out));
    assert_non_null(strstr(out, "- PASS  costs as much as it has multiply-adds: a 640 and b 640"));
    free(out);
    put_file("demo.yaml",
             "recipe: 1\nmodel: [flatten, {use: linear, out: 10, name: fc}]\ndata: {use: digits, batch_size: 32}\ntrain: {steps: 1}\n"
             "claims: [{say: none, arm: base, metric: measure.train.accuracy, at_least: 0}]\n");
    assert_int_equal(reproduce("unmeasured", &out), QT_ERECIPE);
    assert_errors("demo.yaml:5:41: claims[0].metric: nothing in arm 'base' measures 'train.accuracy'");
    free(out);
}

/* The points of a sweep are arms, and results.json says where they lie. */
static void test_sweep(void **state)
{
    qt_arena a = {0};
    char    *out, *json;
    size_t   n;
    (void)state;
    put_file("demo.yaml",
             "recipe: 1\nmodel: [flatten, {use: linear, out: 10, name: fc}]\ndata: {use: digits, batch_size: 32}\noptim: adam\ntrain: {steps: 2}\n"
             "sweep: {bits: {float: {}, two: {quant: [{match: fc, weights: {use: lsq, num_bits: 2}}]}}, optim.lr: [1e-2, 0.2]}\n"
             "claims: [{say: smaller, arm: two-0.2, metric: bits_per_weight, at_most: {arm: float-0.2, times: 0.1}}]\n");
    assert_ok(reproduce("grid", &out));
    assert_non_null(strstr(out, "| float-1e-2 |     1 | "));
    assert_non_null(strstr(out, "- PASS  smaller: two-0.2 "));
    assert_ok(qt_file_read(&a, "grid/results.json", &json, &n));
    assert_non_null(strstr(json, "\"axes\": [{\"axis\": \"bits\", \"labels\": [\"float\", \"two\"]}, {\"axis\": \"optim.lr\", \"labels\": [\"1e-2\", \"0.2\"]}]"));
    assert_non_null(strstr(json, "{\"arm\": \"two-1e-2\", \"point\": [\"two\", \"1e-2\"], "));
    qt_reproduce_opts o = {.run_root = "no", .progress = QT_PROGRESS_QUIET, .max_runs = 3};
    assert_int_equal(qt_reproduce("demo.yaml", &o, stdout), QT_ERECIPE);
    assert_errors("demo.yaml:6:8: 4 arms and 1 seed are 4 runs, more than 3 (--max-runs 4 allows them)");
    assert_false(qt_file_exists("no"));
    free(out), qt_arena_free(&a);
}

static void test_no_recipe(void **state)
{
    qt_reproduce_opts o = {.progress = QT_PROGRESS_QUIET};
    (void)state;
    assert_int_equal(qt_reproduce("nosuchslug", &o, stdout), QT_ERECIPE);
    assert_non_null(strstr(qt_error_text(), "no recipe 'nosuchslug'"));
    qt_error_clear();
    assert_int_equal(qt_reproduce("./none.yaml", &o, stdout), QT_ERECIPE);
    assert_errors("./none.yaml: no such recipe file");
    put_file(
        "demo.yaml",
        "recipe: 1\nmodel: [flatten, {use: linear, out: 10}]\ndata: digits\ntrain: {steps: 1}\narms: {a: {init: {arm: b}}, b: {init: {arm: a}}}\n");
    assert_int_equal(qt_reproduce("demo.yaml", &o, stdout), QT_ERECIPE);
    assert_errors("demo.yaml:5:8: arms: 'a' begins with arm 'b', which begins with it");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, clear)
    const struct CMUnitTest tests[] = {
        T(test_arithmetic),   T(test_gaps), T(test_every_seed), T(test_nan),      T(test_statistics), T(test_reproduce),
        T(test_failed_claim), T(test_measure), T(test_diverged),   T(test_fallback), T(test_front), T(test_front_of_nothing), T(test_evaluate), T(test_sweep), T(test_no_recipe),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
