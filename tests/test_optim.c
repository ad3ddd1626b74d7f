/* Optimizers against trajectories of an independent script (golden/optim.py), schedules at known points, groups and their errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/match.h"
#include "optim/optim.h"

#ifdef QT_DOUBLE
static const double tol = 1e-14;
#else
static const double tol = 5e-7;
#endif

static void assert_near(double got, double want)
{
    if (!(fabs(got - want) <= tol * fmax(1, fabs(want)))) fail_msg("got %.17g, expected %.17g", got, want);
}

static void assert_error(const char *text)
{
    assert_string_equal(qt_error_text(), text);
    qt_error_clear();
}

/* ---- trajectories ------------------------------------------------------------------------------------------------------------ */

static const double begin[3] = {0.5, -1.25, 2.0};

/* Gradient of the script's function at step k (0-based). */
static void fill_grad(qt_tensor *w, int k)
{
    static const double slope[3] = {0.3, -0.7, 1.1}, drift[3] = {1, -2, 0.5};
    for (int i = 0; i < 3; i++) w->grad[i] = (R)(slope[i] * (double)w->data[i] + 0.1 * (k + 1) * drift[i]);
}

static qt_store *store_of(qt_tensor **w, qt_param_kind kind, int slots)
{
    qt_store *s = qt_store_new(1);
    *w = qt_param_add(s, "w", kind, QT_INIT_CONST(0), 1, (int64_t[]){3});
    assert_int_equal(qt_store_seal(s, slots), QT_OK);
    for (int i = 0; i < 3; i++) (*w)->data[i] = (R)begin[i];
    return s;
}

static void run(const char *spec, int steps, const double want[3])
{
    qt_tensor    *w;
    qt_store     *s = store_of(&w, QT_WEIGHT, 3);
    qt_optimizer *o = qt_optimizer_new(s, spec);
    if (!o) fail_msg("%s: %s", spec, qt_error_text());
    for (int k = 0; k < steps; k++) {
        fill_grad(w, k);
        assert_int_equal(qt_optimizer_step(o, 1), QT_OK);
        for (int i = 0; i < 3; i++) assert_true(w->grad[i] == 0);
    }
    assert_int_equal(qt_optimizer_count(o), steps);
    for (int i = 0; i < 3; i++) assert_near(w->data[i], want[i]);
    for (int64_t i = 3; i < s->size; i++) assert_true(s->value[i] == 0); /* the padding stays zero */
    qt_optimizer_free(o);
    qt_store_free(s);
}

static void test_sgd(void **state)
{
    (void)state;
    run("{use: sgd, lr: 0.1}", 5, (double[]){0.28523362475, -1.423678023175, 1.05194358775});
    run("{use: sgd, lr: 0.1, weight_decay: 0.05}", 5, (double[]){0.275233157795312, -1.38530751725703, 1.02134415585313});
    run("{use: sgd, lr: 0.1, momentum: 0.9}", 5, (double[]){0.0143104047499999, -1.892994417175, -0.33979850225});
    run("{use: sgd, lr: 0.1, momentum: 0.9, dampening: 0.25, weight_decay: 0.05}", 5,
        (double[]){0.0848178403502746, -1.7093067065701, -0.103004736821863});
    run("{use: sgd, lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.05}", 5,
        (double[]){-0.150057169404423, -1.97979347225695, -0.537820633152231});
}

static void test_adam(void **state)
{
    (void)state;
    run("{use: adam, lr: 0.05}", 5, (double[]){0.250324038460516, -1.4769770378337, 1.75004878352844});
    run("{use: adam, lr: 0.05, weight_decay: 0.1}", 5, (double[]){0.249617902166742, -1.45965583062184, 1.75009067028175});
    run("{use: adamw, lr: 0.05, weight_decay: 0.1}", 5, (double[]){0.240403876198426, -1.44212144805651, 1.70314156542341});
    run("{use: adam, lr: 0.05, betas: [0.8, 0.95], eps: 1e-3}", 5, (double[]){0.248138323168332, -1.47031449067519, 1.75018952445217});
    run("{use: adam, lr: 0.05, beta1: 0.8, beta2: 0.95, eps: 1e-3}", 5, (double[]){0.248138323168332, -1.47031449067519, 1.75018952445217});
}

/* ---- what the section adds --------------------------------------------------------------------------------------------------- */

static void test_clipping(void **state)
{
    qt_tensor *w;
    (void)state;
    qt_store     *s = store_of(&w, QT_WEIGHT, 0);
    qt_optimizer *o = qt_optimizer_new(s, "{use: sgd, lr: 1, clip_grad_norm: 1}"),
                 *v = qt_optimizer_new(s, "{use: sgd, lr: 1, clip_grad_value: 0.5}");
    assert_non_null(o);
    assert_non_null(v);
    w->grad[0] = 3, w->grad[1] = 0, w->grad[2] = -4;
    qt_optimizer_step(o, 1);
    assert_near(w->data[0], 0.5 - 0.6);
    assert_near(w->data[2], 2.0 + 0.8);
    w->grad[0] = 3, w->grad[1] = 0.25, w->grad[2] = -4;
    qt_optimizer_step(v, 0.5);
    assert_near(w->data[0], 0.5 - 0.6 - 0.25);
    assert_near(w->data[1], -1.25 - 0.125);
    assert_near(w->data[2], 2.0 + 0.8 + 0.25);
    qt_optimizer_free(o), qt_optimizer_free(v);
    qt_store_free(s);
}

static void test_ema(void **state)
{
    qt_tensor *w;
    double     mean[3];
    (void)state;
    qt_store *s = qt_store_new(1);
    w = qt_param_add(s, "w", QT_WEIGHT, QT_INIT_CONST(1), 1, (int64_t[]){3});
    qt_tensor *buffer = qt_param_add(s, "b", QT_BUFFER, QT_INIT_CONST(7), 1, (int64_t[]){2});
    assert_int_equal(qt_store_seal(s, 3), QT_OK);
    qt_optimizer *o = qt_optimizer_new(s, "{use: adam, lr: 0.1, ema: 0.75}");
    assert_non_null(o);
    assert_int_equal(qt_optimizer_slots(o), 3);
    assert_int_equal(qt_optimizer_ema_slot(o), 2);
    for (int k = 0; k < 4; k++) {
        fill_grad(w, k);
        buffer->data[1] = (R)k;
        qt_optimizer_step(o, 1);
        for (int i = 0; i < 3; i++) mean[i] = k ? 0.75 * mean[i] + 0.25 * (double)w->data[i] : (double)w->data[i];
    }
    for (int i = 0; i < 3; i++) assert_near(s->slot[2][i], mean[i]);
    assert_true(s->slot[2][16] == 7 && s->slot[2][17] == 3); /* buffers are copied */
    assert_true(buffer->data[0] == 7);
    qt_optimizer_free(o);
    qt_store_free(s);
}

/* One step of lr 1 and gradient 0 on ones: what is left is 1 - lr wd; with gradient 1 also the learning rate shows. */
static void test_groups(void **state)
{
    static const struct {
        const char   *name;
        qt_param_kind kind;
        double        want; /* after gradient 1 with the groups below */
    } param[] = {
        {"fc1.weight", QT_WEIGHT, 1 - 0.5 * (1 + 0.1)},
        {"fc1.bias", QT_BIAS, 1 - 0.5},
        {"bn.weight", QT_NORM, 1 - 0.5},
        {"fc1.weight.scale", QT_QUANT, 1 - 0.05},
        {"fc2.weight", QT_WEIGHT, 1 - 2},
        {"fc2.bias", QT_BIAS, 1 - 2},
        {"head.weight", QT_WEIGHT, 1 - 0.25 * 0.5 * (1 + 0.1)},
        {"head.bias", QT_BIAS, 1 - 0.25 * 0.5},
        {"bn.running_mean", QT_BUFFER, 1},
    };
    enum { N = sizeof param / sizeof *param };
    qt_store *s = qt_store_new(1);
    (void)state;
    for (int i = 0; i < N; i++) qt_param_add(s, param[i].name, param[i].kind, QT_INIT_CONST(1), 1, (int64_t[]){5});
    assert_int_equal(qt_store_seal(s, 1), QT_OK);
    qt_optimizer *o = qt_optimizer_new(s, "{use: sgd, lr: 0.5, weight_decay: 0.1, groups: ["
                                          "{match: '*', lr_mult: 100},"
                                          "{match: '*', lr_mult: 1},"
                                          "{match: '*.scale', lr_mult: 0.1, weight_decay: 0},"
                                          "{match: ['re:fc2\\..*', 'nothing'], lr: 2, weight_decay: 0},"
                                          "{match: 'head.*', lr_mult: 0.25}]}");
    if (!o) fail_msg("%s", qt_error_text());
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 5 && s->p[i]->t.grad; k++) s->p[i]->t.grad[k] = 1;
    qt_optimizer_step(o, 1);
    for (int i = 0; i < N; i++) {
        if (fabs((double)s->p[i]->t.data[4] - param[i].want) > 1e-6)
            fail_msg("%s: %g, expected %g", param[i].name, (double)s->p[i]->t.data[4], param[i].want);
    }
    qt_optimizer_free(o);
    qt_store_free(s);
}

static void test_frozen(void **state)
{
    qt_store  *s = qt_store_new(1);
    qt_tensor *w[3];
    (void)state;
    for (int i = 0; i < 3; i++) w[i] = qt_param_add(s, (const char *[]){"a", "b", "c"}[i], QT_WEIGHT, QT_INIT_CONST(1), 1, (int64_t[]){16});
    qt_store_seal(s, 3);
    s->p[1]->frozen = true;
    qt_optimizer *o = qt_optimizer_new(s, "{use: adamw, lr: 0.1, weight_decay: 0.5, ema: 0.5}");
    for (int i = 0; i < 16; i++) w[0]->grad[i] = w[2]->grad[i] = 1;
    qt_optimizer_step(o, 1);
    for (int i = 0; i < 16; i++) assert_true(w[0]->data[i] < 1 && w[1]->data[i] == 1 && w[2]->data[i] == w[0]->data[i] && s->slot[2][16 + i] == 1);
    qt_optimizer_free(o);
    qt_store_free(s);
}

/* Large enough for many chunks; the bits must not depend on the threads. A resumed count continues the bias correction. */
static void test_threads_and_count(void **state)
{
    enum { N = 100003 };
    R *first = NULL;
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        qt_set_threads(threads);
        qt_store  *s = qt_store_new(3);
        qt_tensor *w = qt_param_add(s, "w", QT_WEIGHT, (qt_init){QT_INIT_NORMAL, 1}, 1, (int64_t[]){N});
        qt_store_seal(s, 3);
        qt_optimizer *o = qt_optimizer_new(s, "{use: adamw, lr: 0.01, clip_grad_norm: 1, ema: 0.9}");
        for (int k = 0; k < 4; k++) {
            if (k == 2) { /* as after a resume */
                qt_optimizer_free(o);
                o = qt_optimizer_new(s, "{use: adamw, lr: 0.01, clip_grad_norm: 1, ema: 0.9}");
                qt_optimizer_set_count(o, 2);
            }
            for (int64_t i = 0; i < N; i++) w->grad[i] = (R)sin((double)(i + 7 * k)) * w->data[i];
            qt_optimizer_step(o, 1);
        }
        if (first)
            assert_memory_equal(first, s->value, N * sizeof(R));
        else
            first = memcpy(qt_alloc(N * sizeof(R)), s->value, N * sizeof(R));
        qt_optimizer_free(o);
        qt_store_free(s);
    }
    qt_free(first);
    qt_set_threads(0);
}

static void test_warm_step_allocates_nothing(void **state)
{
    qt_tensor *w;
    (void)state;
    qt_store     *s = store_of(&w, QT_WEIGHT, 3);
    qt_optimizer *o = qt_optimizer_new(s, "{use: adam, ema: 0.9, clip_grad_norm: 1, clip_grad_value: 1}");
    fill_grad(w, 0);
    qt_optimizer_step(o, 1);
    int64_t before = qt_alloc_count();
    for (int k = 1; k < 5; k++) fill_grad(w, k), qt_optimizer_step(o, 1);
    assert_int_equal(qt_alloc_count(), before);
    qt_optimizer_free(o);
    qt_store_free(s);
}

/* ---- errors ------------------------------------------------------------------------------------------------------------------ */

static void refuse(const char *spec, int slots, const char *message)
{
    qt_tensor *w;
    qt_store  *s = store_of(&w, QT_WEIGHT, slots);
    assert_null(qt_optimizer_new(s, spec));
    assert_error(message);
    qt_store_free(s);
}

static void test_errors(void **state)
{
    (void)state;
    refuse("{use: sgd, lr: 0.1, groups: [{match: '*.scale', lr_mult: 0.1}]}", 2,
           "optim:1:38: optim.groups[0].match: matches no parameter; a parameter's path is its layer's and its name, as in 'w'");
    refuse("{use: sgd, groups: [{match: 're:w(', lr_mult: 0.1}, {lr: 1}]}", 2,
           "optim:1:29: optim.groups[0].match: bad expression 're:w(': Unmatched ( or \\(\n"
           "optim:1:53: optim.groups[1].match: missing, it has no default (pattern or list of patterns of parameter paths)");
    refuse("{use: sgd, groups: {match: w}}", 2, "optim:1:20: optim.groups: expected a list of {match, ...}, found a map");
    refuse("{use: adam, betas: [0.9, 1.0]}", 2, "optim:1:20: optim.betas: expected [beta1, beta2], each from 0 to below 1");
    refuse("{use: adam, beta1: 0.5, betas: [0.9, 0.99]}", 2, "optim:1:32: optim.betas: given together with beta1 or beta2; keep one of the two ways");
    refuse("{use: sgd, nesterov: true}", 2, "optim:1:22: optim.nesterov: needs a momentum above 0 and no dampening");
    refuse("{use: adam}", 1, "optimizer adam needs a store sealed with 2 slots; this one has fewer");
}

/* ---- schedules --------------------------------------------------------------------------------------------------------------- */

static double factor(const char *spec, int64_t step, int64_t steps)
{
    qt_arena a = {0};
    qt_yaml *y;
    qt_lr    lr;
    if (qt_yaml_parse(&a, spec, strlen(spec), "lr", &y) != QT_OK || qt_lr_make(&a, y, &lr) != QT_OK) fail_msg("%s", qt_error_text());
    double f = qt_lr_factor(&lr, step, steps);
    qt_arena_free(&a);
    return f;
}

static void assert_factor(const char *spec, int64_t step, int64_t steps, double want)
{
    double got = factor(spec, step, steps);
    if (!(fabs(got - want) <= 1e-12)) fail_msg("%s at %lld of %lld: %.15g, expected %.15g", spec, (long long)step, (long long)steps, got, want);
}

static void test_schedules(void **state)
{
    (void)state;
    assert_factor("constant", 77, 100, 1);
    assert_factor("cosine", 0, 100, 1);
    assert_factor("cosine", 50, 100, 0.5);
    assert_factor("cosine", 100, 100, 0);
    assert_factor("{use: cosine, min_factor: 0.1}", 25, 100, 0.868198051533946);
    assert_factor("{use: cosine, min_factor: 0.1}", 75, 100, 0.231801948466054);
    assert_factor("{use: cosine, min_factor: 0.1}", 99, 100, 0.100222047835421);
    assert_factor("linear", 25, 100, 0.75);
    assert_factor("{use: linear, min_factor: 0.2}", 75, 100, 0.4);
    assert_factor("two_stage_linear", 49, 100, 0.51);
    assert_factor("{use: two_stage_linear, second_peak: 0.5, at: 0.6}", 59, 100, 0.41);
    assert_factor("{use: two_stage_linear, second_peak: 0.5, at: 0.6}", 60, 100, 0.2);
    assert_factor("{use: step, step_size: 30}", 29, 100, 1);
    assert_factor("{use: step, step_size: 30, gamma: 0.5}", 30, 100, 0.5);
    assert_factor("{use: step, step_size: 30, gamma: 0.5}", 95, 100, 0.125);
    assert_factor("{use: step, step_size: 0.25, gamma: 0.5}", 50, 100, 0.25);
    assert_factor("{use: step, milestones: [40, 0.8]}", 39, 100, 1);
    assert_factor("{use: step, milestones: [40, 0.8]}", 40, 100, 0.1);
    assert_factor("{use: step, milestones: [40, 0.8]}", 80, 100, 0.01);
    assert_factor("one_cycle", 0, 100, 0.04);
    assert_factor("one_cycle", 7, 100, 0.171522163876897);
    assert_factor("one_cycle", 29, 100, 1);
    assert_factor("one_cycle", 30, 100, 0.999496535284524);
    assert_factor("one_cycle", 60, 100, 0.589280090285529);
    assert_factor("one_cycle", 99, 100, 4e-6);
    assert_factor("{use: one_cycle, pct_start: 0.5, div: 10, final_div: 100}", 4, 10, 1);
    assert_factor("{use: one_cycle, pct_start: 0, div: 10}", 0, 10, 1);
}

static void test_warmup(void **state)
{
    (void)state;
    assert_factor("{use: constant, warmup_steps: 4}", 0, 100, 0.25);
    assert_factor("{use: constant, warmup_steps: 4}", 3, 100, 1);
    assert_factor("{use: constant, warmup_steps: 4}", 4, 100, 1);
    assert_factor("{use: cosine, warmup_steps: 20}", 9, 100, 0.5);
    assert_factor("{use: cosine, warmup_steps: 20}", 20, 100, 1);
    assert_factor("{use: cosine, warmup_steps: 20}", 60, 100, 0.5);
    assert_factor("{use: linear, warmup_steps: 0.2}", 40, 100, 0.75);
    assert_factor("{use: one_cycle, warmup_steps: 2}", 0, 102, 0.02);
    assert_factor("{use: cosine, warmup_steps: 200}", 99, 100, 0.5);
}

static void test_schedule_errors(void **state)
{
    static const char *const bad[][2] = {
        {"step", "lr:1:1: lr_schedule: step needs either step_size or milestones"},
        {"{use: step, step_size: 5, milestones: [7]}", "lr:1:39: lr_schedule: step needs either step_size or milestones"},
        {"{use: step, step_size: 0}", "lr:1:24: lr_schedule.step_size: must be above 0"},
        {"{use: step, milestones: [3, x]}", "lr:1:29: lr_schedule.milestones[1]: expected a number of steps or a fraction 0.0 to 1.0"},
        {"{use: step, milestones: 3}", "lr:1:25: lr_schedule.milestones: expected a list of 1 to 16 steps or fractions"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qt_arena a = {0};
        qt_yaml *y;
        qt_lr    lr;
        assert_int_equal(qt_yaml_parse(&a, bad[i][0], strlen(bad[i][0]), "lr", &y), QT_OK);
        assert_int_equal(qt_lr_make(&a, y, &lr), QT_ERECIPE);
        assert_error(bad[i][1]);
        qt_arena_free(&a);
    }
}

static void test_patterns(void **state)
{
    (void)state;
    assert_true(qt_match("*", "blk.0.conv1"));
    assert_true(qt_match("*.scale", "s1.b0.conv1.weight.scale"));
    assert_true(qt_match("fc?", "fc1"));
    assert_false(qt_match("fc", "fc1"));
    assert_true(qt_match("re:blk\\.[0-9]+\\.conv.", "blk.12.conv1"));
    assert_false(qt_match("re:conv", "blk.0.conv1")); /* the whole path */
    assert_true(qt_match("re:a|b", "b"));
    assert_false(qt_match("re:a|b", "xb"));
    assert_false(qt_match("re:(", "("));
    static const char *const bad[][2] = {{"{a: 1}", "m:1:1: match: expected a pattern (\"conv*\", \"re:blk\\..*\") or a list of them, found a map"},
                                         {"[a, [b], 3]", "m:1:5: match: expected a pattern (\"conv*\", \"re:blk\\..*\") or a list of them, found a list\n"
                                                         "m:1:10: match: expected a pattern (\"conv*\", \"re:blk\\..*\") or a list of them, found a number"},
                                         {"[]", "m:1:1: match: an empty list matches nothing"},
                                         {"'re:a('", "m:1:1: match: bad expression 're:a(': Unmatched ( or \\("}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qt_arena a = {0};
        qt_yaml *y;
        assert_int_equal(qt_yaml_parse(&a, bad[i][0], strlen(bad[i][0]), "m", &y), QT_OK);
        assert_int_equal(qt_match_check(y, "match"), QT_ERECIPE);
        assert_error(bad[i][1]);
        assert_false(qt_match_any(y, "nothing"));
        qt_arena_free(&a);
    }
    assert_true(qt_match("re:(blk\\.[0-9]{1,3}\\.)?(attn|ffn)_(q|k|v)?.*", "blk.12.attn_q.weight"));
    static const struct {
        const char *pattern, *path;
    } good[] = {{"re:[]*+?{]+", "*+]{"}, {"re:(ab){2}c*d+", "ababdd"}, {"re:((a|b)c?)?d", "bd"}, {"re:\\(\\*+", "(**"}, {"re:(x|y)*[^]]", "xyxz"}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(qt_match_check(&(qt_yaml){QT_YAML_SCALAR, .text = good[i].pattern}, "match"), QT_OK);
        assert_true(qt_match(good[i].pattern, good[i].path));
    }
    static const struct {
        const char *pattern, *says;
    } refused[] = {{"re:(abcdefgh){255}", "too large, or nested too deep"},
                   {"re:a{1001}", "too large, or nested too deep"},
                   {"re:((a{1,255}){1,255}){1,255}", "a repetition of what is repeated or may be empty"},
                   {"re:(((a+)+)+)+", "a repetition of what is repeated or may be empty"},
                   {"re:(a|b|)*(a|b|)*", "a repetition of what is repeated or may be empty"},
                   {"re:(|a){3}", "a repetition of what is repeated or may be empty"},
                   {"re:((b?)a)*", "a repetition of what is repeated or may be empty"},
                   {"re:.*+++++4", "a repetition of what is repeated or may be empty"},
                   {"re:0??", "a repetition of what is repeated or may be empty"},
                   {"re:(a?)(b?)(c?)(d?)(e?)(f?)(g?)(h?)(i?)", "too large, or nested too deep"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_false(qt_match(refused[i].pattern, "a"));
        assert_int_equal(qt_match_check(&(qt_yaml){QT_YAML_SCALAR, .text = refused[i].pattern}, "match"), QT_ERECIPE);
        assert_non_null(strstr(qt_error_text(), refused[i].says));
        qt_error_clear();
    }
    char deep[40000] = "re:";
    memset(deep + 3, '(', 30000);
    assert_false(qt_match(deep, "a"));
    qt_error_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sgd),
        cmocka_unit_test(test_adam),
        cmocka_unit_test(test_clipping),
        cmocka_unit_test(test_ema),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_threads_and_count),
        cmocka_unit_test(test_warm_step_allocates_nothing),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_warmup),
        cmocka_unit_test(test_schedule_errors),
        cmocka_unit_test(test_patterns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
