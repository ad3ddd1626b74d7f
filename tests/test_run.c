/* Runs: the same bits for 1 and 2 threads and across stops at every step, checkpoints that are whole or refused, directories that are
 * clean or not touched, divergence, phases, start values, a full disk. All on the embedded digits. */
#include "run_util.h"
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>

/* Everything that has state: batch norm, dropout, learned steps, running ranges, averaged weights, a late start of quantization. */
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
    "  - {match: \"*\", weights: {use: lsq, num_bits: 4}, activations: {use: uniform, num_bits: 8, symmetric: false, granularity: tensor, observer: "
    "ema}}\n"
    "  - {match: fc1, weights: {use: ternary, measure: absmean}, activations: {use: int, num_bits: 8, granularity: token}}\n"
    "schedule: {fake_quant_after: 6, freeze_observers_at: 0.75, freeze_bn_at: 0.8}\n"
    "optim: {use: adamw, lr: 5e-3, weight_decay: 0.01, clip_grad_norm: 5.0, ema: 0.9}\n"
    "lr_schedule: {use: cosine, warmup_steps: 3}\n"
    "train: {steps: 24, eval_every: 8, log_every: 2}\n";

static const char small_recipe[] =
    "recipe: 1\n"
    "model: [flatten, {use: linear, out: 16, name: fc1}, relu, {use: linear, out: 10, name: fc2}]\n"
    "data: {use: digits, batch_size: 32}\n"
    "optim: {use: adam, lr: 1e-2}\n"
    "train: {steps: 6, eval_every: 3, log_every: 2}\n";

static int clear(void **state)
{
    (void)state;
    qt_error_clear();
    return 0;
}

/* ---- same bits ------------------------------------------------------------------------------------------------------------- */

static void test_threads(void **state)
{
    (void)state;
    train(full_recipe, "one", 1);
    train(full_recipe, "two", 2);
    assert_same_run("one", "two");
}

/* Stopped after every single step, and gone on with. */
static void test_resume_every_step(void **state)
{
    volatile int stop = 1;
    qt_result    whole = train(full_recipe, "whole", 2), res = {0};
    int          n = 0;
    (void)state;
    qt_err e = try_train(full_recipe, "parts", 0, NULL, NULL, 1, &stop, false, &res);
    for (; e == QT_ESTOPPED; e = try_resume("parts", &stop, &res)) n++, qt_error_clear();
    assert_ok(e);
    assert_int_equal(n, 23);
    assert_same_run("whole", "parts");
    assert_true(whole.loss == res.loss && whole.accuracy == res.accuracy);
    /* what is done stays as it is */
    char *before = slurp("parts/metrics.jsonl", NULL), *after;
    assert_ok(try_resume("parts", NULL, &res));
    after = slurp("parts/metrics.jsonl", NULL);
    assert_string_equal(before, after);
    assert_true(fabs(res.loss - whole.loss) < 1e-8 && res.n == 449 && res.classes);
    free(before), free(after);
}

/* A process that was killed: more lines than the checkpoint knows, one of them cut short. */
static void test_resume_after_kill(void **state)
{
    volatile int stop = 1;
    qt_result    res;
    FILE        *f;
    (void)state;
    train(full_recipe, "unkilled", 1);
    assert_int_equal(try_train(full_recipe, "killed", 0, NULL, NULL, 1, &stop, false, &res), QT_ESTOPPED);
    assert_non_null(strstr(qt_error_text(), "stopped at step 1 of 24, saved; go on with: qtape resume killed"));
    f = fopen("killed/metrics.jsonl", "a");
    fputs("{\"event\": \"step\", \"step\": 99}\n{\"event\": \"st", f);
    fclose(f);
    assert_ok(try_resume("killed", NULL, &res));
    assert_same_run("unkilled", "killed");
    /* the newest checkpoint is damaged: the newest kept one is used, and the result is the same */
    train("recipe: 1\nmodel: [flatten, {use: linear, out: 10, name: fc}]\ndata: {use: digits, batch_size: 32}\ntrain: {steps: 9, eval_every: 2, "
          "log_every: 1, keep: 2}\n",
          "kept", 1);
    assert_false(qt_file_exists("kept/ckpt/step-000000006.h5"));
    assert_true(qt_file_exists("kept/ckpt/step-000000008.h5"));
    assert_true(qt_file_exists("kept/ckpt/step-000000009.h5"));
    char *want = metrics_of("kept"), *got;
    unlink("kept/DONE"), unlink("kept/ckpt/step-000000009.h5");
    assert_int_equal(truncate("kept/ckpt/last.h5", 3000), 0);
    qt_run *r;
    assert_ok(qt_run_resume("kept", QT_PROGRESS_QUIET, &r));
    assert_int_equal(r->step, 8);
    qt_run_free(r);
    assert_ok(try_resume("kept", NULL, &res));
    got = metrics_of("kept");
    assert_string_equal(want, got);
    free(want), free(got);
}

static void test_sigint(void **state)
{
    volatile int *flag = qt_run_catch_sigint();
    (void)state;
    assert_int_equal(*flag, 0);
    raise(SIGINT);
    assert_int_equal(*flag, 1);
    *flag = 0;
    signal(SIGINT, SIG_DFL);
}

static void test_no_allocation(void **state)
{
    static const char text[] =
        "recipe: 1\nmodel: [flatten, {use: linear, out: 32, name: fc1}, batch_norm, relu, {use: linear, out: 10}]\n"
        "data: {use: digits, batch_size: 32}\nquant: [{match: \"*\", weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 4}}]\n"
        "train: {steps: %d, eval_every: 0, log_every: 5}\n";
    int64_t           used[2];
    (void)state;
    for (int k = 0; k < 2; k++) {
        char recipe[512], dir[16];
        snprintf(recipe, sizeof recipe, text, k ? 80 : 20), snprintf(dir, sizeof dir, "alloc%d", k);
        int64_t before = qt_alloc_count();
        train(recipe, dir, 2);
        used[k] = qt_alloc_count() - before;
    }
    assert_int_equal(used[0], used[1]);
}

/* Whichever allocation fails, the run says so or goes on; it never ends in between, and what it leaves can be taken over. */
static void test_out_of_memory(void **state)
{
    qt_result res;
    int64_t   n = 0, before = qt_alloc_count();
    (void)state;
    train(small_recipe, "memory", 1);
    n = qt_alloc_count() - before;
    for (int64_t k = 1; k <= n; k += n / 120 + 1) {
        put_file("r.yaml", small_recipe);
        qt_alloc_fail_at(k);
        qt_err e = try_train(small_recipe, "memory", 0, NULL, NULL, 1, NULL, true, &res);
        qt_alloc_fail_at(0);
        if (e != QT_OK) assert_non_null(strstr(qt_error_text(), "out of memory"));
        qt_error_clear();
    }
    assert_ok(try_train(small_recipe, "memory", 0, NULL, NULL, 1, NULL, true, &res));
}

/* ---- what a run leaves ----------------------------------------------------------------------------------------------------- */

static void test_folder(void **state)
{
    qt_result res = train(small_recipe, NULL, 1);
    char     *text;
    (void)state;
    static const char *const files[] = {"recipe.yaml", "resolved.yaml", "env.json",     "metrics.jsonl",
                                        "log.txt",     "DONE",          "ckpt/last.h5", "ckpt/best.h5"};
    for (int i = 0; i < 8; i++) assert_true(qt_file_exists(in("runs/r/base-s1", files[i])));
    assert_false(qt_file_exists("runs/r/base-s1/LOCK"));
    text = slurp("runs/r/base-s1/recipe.yaml", NULL);
    assert_string_equal(text, small_recipe);
    free(text);
    text = metrics_of("runs/r/base-s1");
    assert_int_equal(count(text, "\"event\": \"step\""), 3);
    assert_int_equal(count(text, "\"event\": \"eval\""), 2);
    assert_int_equal(count(text, "\"event\": \"quant\""), 0);
    assert_int_equal(count(text, "\"event\": \"final\""), 1);
    assert_non_null(strstr(text, "{\"event\": \"eval\", \"step\": 3, \"epoch\": 0.0714285714, \"split\": \"test\", \"loss\": "));
    assert_non_null(strstr(text, "\"params\": 1210, \"bits_per_weight\": 32, "));
    assert_null(strstr(text, "nan"));
    free(text);
    text = slurp("runs/r/base-s1/log.txt", NULL);
    assert_non_null(strstr(text, "the data have no split 'val': 'test' is evaluated during training too"));
    free(text);
    assert_int_equal(res.n, 449);
    assert_int_equal(res.params, 1210);
    assert_true(res.accuracy > 0.1 && res.accuracy <= 1);
}

/* Zero steps and zero epochs: the start values, evaluated. */
static void test_no_steps(void **state)
{
    qt_result res;
    (void)state;
    assert_ok(try_train(small_recipe, "zero", 1, (const char *[]){"train.steps=0"}, NULL, 1, NULL, false, &res));
    assert_true(res.n == 449 && qt_file_exists("zero/DONE"));
    char *text = metrics_of("zero");
    assert_int_equal(count(text, "\n"), 1);
    assert_non_null(strstr(text, "{\"event\": \"final\", \"step\": 0, \"epoch\": 0, \"split\": \"test\""));
    free(text);
}

static void test_folder_refused(void **state)
{
    qt_result res;
    (void)state;
    mkdir("full", 0777);
    put_file("full/mine.txt", "keep me");
    assert_int_equal(try_train(small_recipe, "full", 0, NULL, NULL, 1, NULL, false, &res), QT_EUSAGE);
    assert_errors("full: run directory is not empty; go on with `qtape resume full`, or begin anew with --force");
    assert_false(qt_file_exists("full/LOCK"));
    assert_ok(try_train(small_recipe, "full", 0, NULL, NULL, 1, NULL, true, &res));
    assert_ok(try_train(small_recipe, "full", 1, (const char *[]){"train.steps=2"}, NULL, 1, NULL, true, &res));
    assert_true(qt_file_exists("full/mine.txt"));
    char *text = metrics_of("full");
    assert_int_equal(count(text, "\n"), 3);
    free(text);
    put_file("plain", "");
    assert_int_equal(try_train(small_recipe, "plain", 0, NULL, NULL, 1, NULL, true, &res), QT_EUSAGE);
    assert_errors("plain: is not a folder");
    assert_int_equal(try_resume("nowhere", NULL, &res), QT_EUSAGE);
    assert_errors("nowhere: is no run directory (it has no resolved.yaml)");
}

static void test_folder_in_use(void **state)
{
    qt_result    res;
    volatile int stop = 1;
    (void)state;
    assert_int_equal(try_train(small_recipe, "used", 0, NULL, NULL, 1, &stop, false, &res), QT_ESTOPPED);
    qt_error_clear();
    int fd = open("used/LOCK", O_RDWR | O_CREAT, 0666);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(write(fd, "4711\n", 5), 5);
    assert_int_equal(try_train(small_recipe, "used", 0, NULL, NULL, 1, NULL, true, &res), QT_EIO);
    assert_errors("used: run directory in use by process 4711");
    assert_int_equal(try_resume("used", NULL, &res), QT_EIO);
    assert_errors("used: run directory in use by process 4711");
    close(fd);
    assert_ok(try_resume("used", NULL, &res));
    assert_false(qt_file_exists("used/LOCK"));
}

/* A command that is refused leaves nothing behind. */
static void test_nothing_left(void **state)
{
    qt_result res;
    (void)state;
    assert_int_equal(try_train(small_recipe, "bad", 2, (const char *[]){"data={use: csv, path: nothing.csv, target: y}", "model[3].out=1"}, NULL, 1,
                               NULL, false, &res) == QT_OK,
                     0);
    qt_error_clear();
    assert_false(qt_file_exists("bad"));
    assert_int_equal(try_train(small_recipe, "bad/deep", 1, (const char *[]){"init={checkpoint: none.h5}"}, NULL, 1, NULL, false, &res), QT_EIO);
    assert_errors("init: there is no checkpoint none.h5");
    assert_false(qt_file_exists("bad"));
}

/* The file size limit stands for a full disk. */
static void test_disk_full(void **state)
{
    struct rlimit old, tight = {4096, RLIM_INFINITY};
    volatile int  stop = 1;
    qt_result     res;
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    tight.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &tight);
    qt_err e = try_train(small_recipe, "tight", 0, NULL, NULL, 1, NULL, false, &res);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(e, QT_EIO);
    assert_non_null(strstr(qt_error_text(), "tight/ckpt/last.h5"));
    assert_non_null(strstr(qt_error_text(), strerror(EFBIG)));
    qt_error_clear();
    assert_false(qt_file_exists("tight"));

    assert_int_equal(try_train(small_recipe, "tight", 0, NULL, NULL, 1, &stop, false, &res), QT_ESTOPPED);
    qt_error_clear();
    setrlimit(RLIMIT_FSIZE, &tight);
    e = try_resume("tight", NULL, &res);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(e, QT_EIO);
    qt_error_clear();
    assert_false(qt_file_exists("tight/ckpt/last.h5.part") || qt_file_exists("tight/ckpt/best.h5.part"));
    assert_ok(try_resume("tight", NULL, &res)); /* the checkpoint before is whole */
    train(small_recipe, "roomy", 1);
    assert_same_ckpt("roomy/ckpt/last.h5", "tight/ckpt/last.h5");
}

static void test_diverged(void **state)
{
    qt_result res;
    (void)state;
    static const char text[] = "recipe: 1\nmodel: [{use: linear, out: 1, name: fc}]\ndata: {use: regression, batch_size: 32}\n"
                               "optim: {use: sgd, lr: 1e6}\ntrain: {steps: 200, log_every: 1, eval_every: 0}\n";
    qt_err            e = try_train(text, "away", 0, NULL, NULL, 1, NULL, false, &res);
    assert_int_equal(e, QT_EDIVERGED);
    assert_int_equal(qt_error_exit(e), 4);
    assert_non_null(strstr(qt_error_text(), "diverged at step "));
    assert_non_null(strstr(qt_error_text(), "the first tensor that is not finite is the "));
    qt_error_clear();
    char *lines = metrics_of("away"); /* every line is whole */
    assert_null(strstr(lines, "nan"));
    assert_null(strstr(lines, "inf"));
    free(lines);
    assert_false(qt_file_exists("away/DONE"));
    assert_ok(qt_ckpt_verify("away/ckpt/last.h5"));
}

/* A gradient that overflows on its way to a layer that quantizes it: the loss is finite, the first pixel of all digits is 0, so its norm divides
 * by eps. No scale is made of it; the message names the layer and the step. */
#ifdef QT_DOUBLE
#define LITTLE "1e-307"
#else
#define LITTLE "3e-39"
#endif
static void test_infinite_gradient(void **state)
{
    qt_result res;
    (void)state;
    static const char text[] = "recipe: 1\nmodel: [{use: conv2d, out: 1, kernel: 1, bias: false, name: conv}, flatten, {use: l1_batch_norm, eps: " LITTLE
                               ", name: norm}, {use: linear, out: 10}, {use: l1_batch_norm, gain_init: 5000}]\ndata: {use: digits, batch_size: 32}\n"
                               "quant: [{match: conv, weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 4, signed: false}, grad: {use: shiftq}}]\n"
                               "train: {steps: 2}\n";
    qt_err            e = try_train(text, "infinite", 0, NULL, NULL, 1, NULL, false, &res);
    assert_int_equal(qt_error_exit(e), 4);
    assert_non_null(strstr(qt_error_text(), "diverged at step 1: loss is "));
    assert_non_null(strstr(qt_error_text(), "the gradient of l1_batch_norm in layer 'norm'"));
    qt_error_clear();
}

/* ---- checkpoints ----------------------------------------------------------------------------------------------------------- */

/* Any byte that changes and any length is noticed before libhdf5 sees the file. */
static void test_damage(void **state)
{
    size_t n;
    (void)state;
    train(small_recipe, "ok", 1);
    char *good = slurp("ok/ckpt/last.h5", &n);
    assert_ok(qt_ckpt_verify("ok/ckpt/last.h5"));
    for (size_t at = 0; at < n; at += at < 40 ? 1 : n / 50) {
        if (at >= 40 && at < QT_H5_USERBLOCK) continue; /* zeros that mean nothing */
        good[at] ^= 0x55;
        spill("damaged.h5", good, n);
        good[at] ^= 0x55;
        assert_int_equal(qt_ckpt_verify("damaged.h5"), QT_EDATA);
        assert_non_null(strstr(qt_error_text(), "damaged.h5: "));
        qt_error_clear();
    }
    for (size_t len = 0; len < n; len += n / 20 + 1) {
        spill("damaged.h5", good, len);
        assert_int_equal(qt_ckpt_verify("damaged.h5"), QT_EDATA);
    }
    qt_error_clear();
    qt_result res;
    char     *want = metrics_of("ok"), *got;
    put_file("ok/ckpt/previous.h5.part", ""); /* what a killed process leaves */
    spill("ok/ckpt/last.h5", good, n / 2), unlink("ok/DONE"); /* the one before it is there still */
    assert_ok(try_resume("ok", NULL, &res));
    got = metrics_of("ok");
    assert_string_equal(want, got);
    free(want), free(got);
    assert_false(qt_file_exists("ok/ckpt/previous.h5.part"));
    spill("ok/ckpt/last.h5", good, n / 2), spill("ok/ckpt/previous.h5", good, n / 4), spill("ok/ckpt/best.h5", good, n / 3);
    assert_int_equal(try_resume("ok", NULL, &res), QT_EDATA);
    assert_int_equal(strncmp(qt_error_text(), "ok/ckpt/last.h5: damaged checkpoint: ", 37), 0);
    free(good);
}

static void test_other_model(void **state)
{
    qt_arena   a = {0};
    qt_recipe *rc;
    qt_run    *r;
    R          before[10];
    (void)state;
    train(small_recipe, "model", 1);
    put_file("r.yaml", "recipe: 1\nmodel: [flatten, {use: linear, out: 12, name: fc1}, relu, {use: linear, out: 10, name: head}]\n"
                       "data: {use: digits, batch_size: 32}\noptim: sgd\ntrain: {steps: 1}\n");
    assert_ok(qt_recipe_load(&a, "r.yaml", 0, NULL, NULL, &rc));
    assert_ok(qt_run_new(rc, "other", NULL, false, QT_PROGRESS_QUIET, &r));
    memcpy(before, r->store->value, sizeof before);
    assert_int_equal(qt_ckpt_load(r, "model/ckpt/last.h5"), QT_EDATA);
    assert_errors(
        "model/ckpt/last.h5: is a checkpoint of another model; missing: params/head.weight, params/head.bias; unexpected: fc2.bias, fc2.weight; "
        "of another shape: params/fc1.weight is [16, 64], expected [12, 64], params/fc1.bias is [16], expected [12]");
    assert_memory_equal(before, r->store->value, sizeof before);
    assert_int_equal(r->step, 0);
    qt_run_free(r);
    qt_arena_free(&a);
}

/* ---- phases, start values, fallback ---------------------------------------------------------------------------------------- */

static const char ptq_recipe[] = "recipe: 1\n"
                                 "model: [flatten, {use: linear, out: 16, name: fc1}, relu, {use: linear, out: 10, name: fc2}]\n"
                                 "data: {use: digits, batch_size: 32}\n"
                                 "optim: {use: adam, lr: 1e-2}\n"
                                 "train: {steps: 60}\n"
                                 "arms:\n"
                                 "  fp32: {}\n"
                                 "  ptq:\n"
                                 "    init: {arm: fp32}\n"
                                 "    phases: [{use: calibrate, batches: 4}]\n"
                                 "    quant: [{match: \"*\", weights: {use: uniform, num_bits: 8, granularity: channel}, activations: {use: uniform, "
                                 "num_bits: 8, symmetric: false, observer: minmax, dynamic: false}}]\n";

static void test_calibrate(void **state)
{
    qt_result fp32, ptq;
    (void)state;
    assert_int_equal(try_train(ptq_recipe, "q/ptq-s1", 0, NULL, "ptq", 1, NULL, false, &ptq), QT_EIO);
    assert_errors("init: there is no checkpoint of arm 'fp32' (runs/r/fp32-s1/ckpt/last.h5); train it first: qtape train r.yaml --arm fp32");
    assert_ok(try_train(ptq_recipe, "q/fp32-s1", 0, NULL, "fp32", 1, NULL, false, &fp32));
    assert_ok(try_train(ptq_recipe, "q/ptq-s1", 0, NULL, "ptq", 1, NULL, false, &ptq));
    assert_true(fp32.accuracy > 0.8);
    assert_true(fabs(fp32.accuracy - ptq.accuracy) < 0.02);
    assert_true(fp32.loss != ptq.loss);
    assert_true(ptq.bits_per_weight > 8 && ptq.bits_per_weight < 10);
    char *text = metrics_of("q/ptq-s1");
    assert_int_equal(count(text, "\"event\": \"quant\""), 4);
    assert_int_equal(count(text, "\"event\": \"step\""), 0);
    free(text);
}

static void test_fallback(void **state)
{
    qt_result res;
    (void)state;
    assert_ok(try_train(small_recipe, "fall", 1, (const char *[]){"data={use: fashion-mnist, path: /nowhere, batch_size: 32, fallback: digits}"},
                        NULL, 1, NULL, false, &res));
    assert_int_equal(res.n, 449);
    char *text = slurp("fall/metrics.jsonl", NULL), *yaml = slurp("fall/resolved.yaml", NULL), *env = slurp("fall/env.json", NULL);
    assert_non_null(strstr(text, "\"data\": \"digits\""));
    assert_non_null(strstr(yaml, "data: {use: digits, batch_size: 32}"));
    assert_null(strstr(yaml, "fashion"));
    assert_non_null(strstr(env, "\"data\": \"digits\", \"fallback\": true"));
    free(text), free(yaml), free(env);
    assert_int_equal(try_train(small_recipe, "fall2", 1, (const char *[]){"data={use: fashion-mnist, path: /nowhere, batch_size: 32}"}, NULL, 1, NULL,
                               false, &res),
                     QT_EIO);
    assert_int_equal(strncmp(qt_error_text(), "/nowhere: ", 10), 0);
    assert_false(qt_file_exists("fall2"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, clear)
    const struct CMUnitTest tests[] = {
        T(test_threads),
        T(test_resume_every_step),
        T(test_resume_after_kill),
        T(test_sigint),
        T(test_no_allocation),
        T(test_out_of_memory),
        T(test_folder),
        T(test_no_steps),
        T(test_folder_refused),
        T(test_folder_in_use),
        T(test_nothing_left),
        T(test_disk_full),
        T(test_diverged),
        T(test_infinite_gradient),
        T(test_damage),
        T(test_other_model),
        T(test_calibrate),
        T(test_fallback),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
