/* The same bits in every cell: both engines over 1, 2, 3 and 4 threads, straight through and stopped in the middle, where it goes on with
 * another number of threads. And integer layers over the kernels of each instruction set that this CPU has and those in plain C: evaluation,
 * the deployment engine, and a whole training in which every product, forward and back, is one of integers. */
#include "run_util.h"
#include "quick.h"
#include "export/engine.h"
#include "kernels/iconv.h"
#include "kernels/igemm.h"
#include "kernels/packed.h"
#include "kernels/xnor.h"

/* Everything that has state or draws; the convolutions and fc1 are worth a team of threads. Gradients are quantized with random rounding. */
static const char recipe[] = "recipe: 1\n"
                             "name: m\n"
                             "engine: %s\n"
                             "model:\n"
                             "  - {use: conv2d, out: 16, kernel: 3, padding: 1, name: conv1}\n"
                             "  - batch_norm\n"
                             "  - relu\n"
                             "  - {use: conv2d, out: 16, kernel: 3, padding: 1, name: conv2}\n"
                             "  - batch_norm\n"
                             "  - relu\n"
                             "  - flatten\n"
                             "  - {use: linear, out: 64, name: fc1}\n"
                             "  - relu\n"
                             "  - {use: dropout, p: 0.1}\n"
                             "  - {use: linear, out: 10, name: fc2}\n"
                             "data: {use: digits, batch_size: 64}\n"
                             "quant:\n"
                             "  - {match: \"*\", weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 4}, grad: {use: shiftq, num_bits: 4}}\n"
                             "  - {match: fc1, weights: ternary, activations: {use: int, num_bits: 8, granularity: tensor}, grad: {use: shiftq, num_bits: 6}}\n"
                             "optim: {use: adamw, lr: 5e-3, weight_decay: 0.01, clip_grad_norm: 5.0, ema: 0.9}\n"
                             "lr_schedule: {use: cosine, warmup_steps: 2}\n"
                             "train: {steps: 6, eval_every: 3, log_every: 1}\n";

static const char *const engines[] = {"float", "auto"};

static const char *recipe_of(const char *engine)
{
    static char text[4096];
    snprintf(text, sizeof text, recipe, engine);
    return text;
}

/* ---- threads, with and without a stop --------------------------------------------------------------------------------------------- */

/* Two starts of one step each. */
static void stop_twice(const char *text, const char *dir, int threads)
{
    volatile int stop = 1;
    qt_result    res;
    assert_int_equal(try_train(text, dir, 0, NULL, NULL, threads, &stop, false, &res), QT_ESTOPPED);
    qt_error_clear();
    assert_int_equal(try_resume(dir, &stop, &res), QT_ESTOPPED);
    qt_error_clear();
}

static void go_on(const char *dir, int threads)
{
    qt_run   *r;
    qt_result res;
    assert_ok(qt_run_resume(dir, QT_PROGRESS_QUIET, &r));
    assert_int_equal(r->step, 2);
    r->recipe->train.threads = threads;
    assert_ok(qt_run_go(r, &res));
    qt_run_free(r);
}

static void test_threads(void **state)
{
    (void)state;
    for (int e = 0; e < 2; e++) {
        char first[32], dir[32];
        snprintf(first, sizeof first, "%s-1", engines[e]);
        train(recipe_of(engines[e]), first, 1);
        for (int threads = 1; threads <= 4; threads += stride() > 1 ? 2 : 1) {
            snprintf(dir, sizeof dir, "%s-%d", engines[e], threads);
            if (threads > 1) train(recipe_of(engines[e]), dir, threads), assert_same_run(first, dir);
            strcat(dir, "-stopped");
            stop_twice(recipe_of(engines[e]), dir, threads);
            go_on(dir, threads % 4 + 1);
            assert_same_run(first, dir);
        }
    }
    qt_set_threads(0);
}

/* ---- instruction sets ---------------------------------------------------------------------------------------------------------------- */

/* Each family of kernels has a list of its own, best first, with plain C at its end. All take their path number `back` from the end, or the best
 * one where this CPU lacks it. False: no list is so long. */
#define FORCE(family)                                                                     \
    do {                                                                                  \
        int n = 0;                                                                        \
        while (qt_##family##_path_at(n)) n++;                                             \
        const qt_##family##_path *p = back < n ? qt_##family##_path_at(n - 1 - back) : NULL; \
        qt_##family##_force(p && qt_##family##_has(p) ? p : NULL);                        \
        any = any || p;                                                                   \
    } while (0)

static bool force(int back)
{
    bool any = false;
    FORCE(igemm);
    FORCE(iconv);
    FORCE(packed);
    FORCE(xnor);
    return any;
}

static void force_none(void) { qt_igemm_force(NULL), qt_iconv_force(NULL), qt_packed_force(NULL), qt_xnor_force(NULL); }

static qt_run *open_run(const char *dir)
{
    qt_run *r;
    assert_ok(qt_run_resume(dir, QT_PROGRESS_QUIET, &r));
    return r;
}

enum { N = 449, OUT = 10 };

/* Evaluation of the training graph and of the engine that the run was exported to. */
static void answers(qt_run *r, R *graph, R *engine)
{
    qt_result  res;
    qt_engine *e;
    qt_run     view;
    assert_ok(qt_run_eval(r, QT_TEST, &res, graph, NULL));
    assert_int_equal(res.n, N);
    assert_ok(qt_engine_of_run(r, &e));
    assert_true(e->integers == 4 && e->layers == 4);
    assert_ok(qt_engine_as_run(e, &view));
    assert_ok(qt_run_eval(&view, QT_TEST, &res, engine, NULL));
    qt_data_close(view.data), qt_engine_free(e);
}

static void test_instruction_sets(void **state)
{
    static R want[N * OUT], graph[N * OUT], engine[N * OUT];
    (void)state;
    train(recipe_of("auto"), "best", 2);
    qt_run *r = open_run("best");
    answers(r, want, engine);
    assert_memory_equal(want, engine, sizeof want);
    for (int back = 0; force(back); back++) {
        memset(graph, 0, sizeof graph), memset(engine, 0, sizeof engine);
        answers(r, graph, engine);
        assert_memory_equal(want, graph, sizeof want);
        assert_memory_equal(want, engine, sizeof want);
    }
    force_none();
    qt_run_free(r);
}

static void test_training(void **state)
{
    (void)state;
    train(recipe_of("auto"), "widest", 2);
    for (int back = 0; force(back); back++) {
        char dir[32];
        snprintf(dir, sizeof dir, "path-%d", back);
        train(recipe_of("auto"), dir, 2);
        force_none();
        assert_same_run("widest", dir);
    }
    force_none();
}

/* Four threads on fewer cores: those that wait must sleep, which libgomp is told before it starts. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads), cmocka_unit_test(test_instruction_sets), cmocka_unit_test(test_training)},
                            threads[] = {cmocka_unit_test(test_threads)};
    (void)argc;
    if (!getenv("OMP_WAIT_POLICY") && !setenv("OMP_WAIT_POLICY", "passive", 1)) execv("/proc/self/exe", argv);
    if (stride() > 1) return cmocka_run_group_tests(threads, enter_folder, leave_folder);
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
