/* Models in fixed point: rules for any tensor of a model, and the interpreter in integers against the training graph's evaluation, which must give
 * the very same numbers, for every rounding and overflow, with binary points by channel, K-hot weights, all layers it knows; what it refuses;
 * export of such models. All on the embedded digits. */
#include "train_util.h"
#include "export/export.h"
#include "export/fixed_point.h"

/* Every layer that the interpreter knows. */
static const char every[] = "model:\n"
                            "  - {use: conv2d, out: 8, kernel: 3, padding: 1, bias: false, name: stem}\n"
                            "  - {use: batch_norm, name: bn1}\n"
                            "  - {use: relu, name: start}\n"
                            "  - {use: conv2d, out: 8, kernel: 3, padding: 2, dilation: 2, groups: 2, name: conv}\n"
                            "  - {use: batch_norm, affine: false, name: bn2}\n"
                            "  - {use: add, from: start, name: sum}\n"
                            "  - {use: relu, name: relu2}\n"
                            "  - {use: max_pool, kernel: 3, stride: 2, padding: 1, name: most}\n"
                            "  - {use: avg_pool, kernel: 2, padding: 1, name: mean}\n"
                            "  - {use: conv2d, out: 12, kernel: [3, 2], stride: 2, padding: 1, name: down}\n"
                            "  - {use: dropout, p: 0.1, name: drop}\n"
                            "  - {use: global_avg_pool, name: whole}\n"
                            "  - flatten\n"
                            "  - {use: linear, out: 10, name: fc}\n";
static const char mlp[] = "model: [{use: flatten, name: flat}, {use: linear, out: 24, name: fc1}, {use: relu, name: relu1}, {use: linear, out: 10, name: fc2}]\n";

/* All tensors with the same words. */
#define ALL(word) "[{match: \"*\", weights: {use: fixed, " word "}, bias: {use: fixed, " word "}, affine: {use: fixed, " word "}, outputs: {use: fixed, " word "}}, " \
                  "{match: first, activations: {use: fixed, " word "}}"

static qt_err try_train(qt_arena *a, const char *model, const char *quant, const char *more, qt_run **r)
{
    qt_recipe *rc;
    qt_result  res;
    char       text[4096];
    snprintf(text, sizeof text,
             "recipe: 1\nname: m\n%squant: %s\ndata: {use: digits, batch_size: 32}\ntrain: {steps: 12, eval_every: 0, log_every: 0}\n"
             "optim: {use: adam, lr: 1e-2}\n%s", model, quant, more);
    put_file("r.yaml", text);
    *r = NULL;
    QT_TRY(qt_recipe_load(a, "r.yaml", 0, NULL, NULL, &rc));
    QT_TRY(qt_run_new(rc, "run", NULL, true, QT_PROGRESS_QUIET, r));
    return qt_run_go(*r, &res);
}

static qt_run *trained(qt_arena *a, const char *model, const char *quant, const char *more)
{
    qt_run *r;
    assert_ok(try_train(a, model, quant, more, &r));
    return r;
}

enum { SAMPLES = 449, OUTPUTS = 10 };

/* The test set's logits, by the graph or by what answers in its place. */
static void logits(qt_run *r, R *y)
{
    qt_result res;
    assert_ok(qt_run_eval(r, QT_TEST, &res, y, NULL));
}

static int64_t differing(const R *a, const R *b)
{
    int64_t n = 0;
    for (int i = 0; i < SAMPLES * OUTPUTS; i++) n += a[i] != b[i];
    return n;
}

/* ---- the same numbers ------------------------------------------------------------------------------------------------------------------- */

static void compare(const char *model, const char *quant, const char *more, R *y)
{
    static R  z[SAMPLES * OUTPUTS];
    qt_arena  a = {0};
    qt_run   *r = trained(&a, model, quant, more);
    qt_fixed *p;
    bool      alive = false;
    assert_ok(qt_fixed_make(r->tape, r->model, &p));
    assert_ok(qt_fixed_exact(p));
    logits(r, y);
    qt_fixed_answers(r, p);
    for (int threads = 1; threads <= 2; threads++) {
        qt_set_threads(threads);
        logits(r, z);
        if (differing(y, z)) fail_msg("%s: %lld numbers differ", quant, (long long)differing(y, z));
    }
    for (int i = 1; i < SAMPLES * OUTPUTS; i++) alive |= z[i] != z[0];
    assert_true(alive);
    qt_fixed_free(p), qt_run_free(r), qt_arena_free(&a);
}

static void test_same_numbers(void **state)
{
    static const char *const quant[] = {
        ALL("num_bits: 8") "]",
        ALL("num_bits: 4") "]",
        ALL("num_bits: 6, rounding: trn, overflow: wrap") "]",
        ALL("num_bits: 7, rounding: rnd_conv, learn: false") "]",
        ALL("num_bits: 5, rounding: rnd_zero, init: max") "]",
        ALL("num_bits: 5") ", {match: \"*\", weights: {use: fixed, num_bits: 5, k_hot: 2}, affine: {use: fixed, num_bits: 5, k_hot: 1}}]",
        ALL("num_bits: 8") ", {match: \"*\", weights: {use: fixed, num_bits: 6, granularity: channel}, bias: {use: fixed, num_bits: 8, granularity: channel}, "
                           "affine: {use: fixed, num_bits: 7, granularity: channel}}, {match: [start, relu2, most], outputs: {use: fixed, signed: false}}]",
        ALL("num_bits: 6") ", {match: [bn1, bn2, sum, most, whole, flatten1], outputs: none}]", /* sums go on to what follows */
        ALL("num_bits: 10") ", {match: [stem, conv, down, fc], weights: {use: fixed, num_bits: 3}}]", /* products of floats */
    };
    static R y[SAMPLES * OUTPUTS];
    (void)state;
    for (size_t i = 0; i < sizeof quant / sizeof *quant; i++) compare(every, quant[i], "", y);
    compare(every, ALL("num_bits: 4") "]", "engine: float\n", y);
    compare(mlp, ALL("num_bits: 8") "]", "", y);
    compare(mlp, "[{match: \"*\", weights: {use: fixed}, bias: {use: fixed}, activations: {use: fixed}}]", "", y); /* sums as logits */
    compare(mlp, ALL("num_bits: 6") ", {match: flat, outputs: none}]", "", y);
}

static void test_wrap_is_not_sat(void **state)
{
    static R sat[SAMPLES * OUTPUTS], wrap[SAMPLES * OUTPUTS];
    (void)state;
    compare(every, ALL("num_bits: 4") "]", "", sat);
    compare(every, ALL("num_bits: 4, overflow: wrap") "]", "", wrap);
    assert_true(differing(sat, wrap) > SAMPLES);
}

/* ---- what is in the way ------------------------------------------------------------------------------------------------------------------- */

static void refused(const char *model, const char *quant, const char *message)
{
    qt_arena  a = {0};
    qt_run   *r = trained(&a, model, quant, "");
    qt_fixed *p;
    qt_err    e = qt_fixed_make(r->tape, r->model, &p);
    if (e == QT_OK) e = qt_fixed_exact(p), qt_fixed_free(p);
    assert_int_equal(e, QT_EUSAGE);
    if (!strstr(qt_error_text(), message)) fail_msg("said '%s', expected '%s'", qt_error_text(), message);
    qt_error_clear();
    qt_run_free(r), qt_arena_free(&a);
}

static void test_refused(void **state)
{
    (void)state;
    refused(mlp, "[]", "fc1: not in fixed point: its input has no binary point");
    refused(mlp, "[{match: \"*\", weights: {use: fixed}, outputs: {use: fixed}}]", "a rule with `bias: {use: fixed}`");
    refused(mlp, "[{match: \"*\", weights: {use: lsq}, bias: {use: fixed}, outputs: {use: fixed}}]", "a rule with `weights: {use: fixed}`");
    refused(mlp, "[{match: \"*\", weights: {use: fixed}, bias: {use: fixed}, outputs: {use: lsq}}]", "something other than `fixed`");
    refused(mlp, "[{match: \"*\", weights: {use: fixed}, bias: {use: fixed}, outputs: {use: fixed, granularity: channel}}]", "for each channel");
    refused(mlp, "[{match: \"*\", weights: {use: fixed}, bias: {use: fixed}, outputs: {use: fixed, k_hot: 2}}]", "K-hot");
    refused(mlp, "[{match: \"*\", weights: {use: fixed, granularity: channel, axis: [1]}, bias: {use: fixed}, outputs: {use: fixed}}, {match: first, activations: {use: fixed}}]",
            "fc1: not in fixed point: binary points go along an axis other than the outputs");
    refused(mlp, "[{match: \"*\", weights: {use: fixed, num_bits: 24}, bias: {use: fixed, num_bits: 24}}, {match: first, activations: {use: fixed, num_bits: 24}}]",
            "fc2: not in fixed point: binary points are too far apart to be aligned in 64 bits");
    refused("model: [flatten, {use: linear, out: 24, bias: false, name: fc1}, {use: linear, out: 10, bias: false, name: fc2}]\n",
            "[{match: \"*\", weights: {use: fixed, num_bits: 24}}, {match: first, activations: {use: fixed, num_bits: 24}}]", "fc2: not in fixed point: its sums do not fit 64 bits");
    refused("model: [flatten, {use: linear, out: 10, name: fc}, gelu]\n", ALL("num_bits: 8") "]", "knows no layer `gelu`");
    refused("model: [{use: conv2d, out: 9, kernel: 3, name: c}, {use: avg_pool, kernel: 3, name: p}, flatten, {use: linear, out: 10, name: fc}]\n",
            ALL("num_bits: 8") "]", "p: not in fixed point: it divides by a number that is no power of two");
    refused("model: [{use: conv2d, out: 9, kernel: 3, name: c}, {use: batch_norm, name: bn}, flatten, {use: linear, out: 10, name: fc}]\n",
            "[{match: \"*\", weights: {use: fixed}, bias: {use: fixed}, outputs: {use: fixed}}, {match: first, activations: {use: fixed}}]",
            "bn: not in fixed point");
    if (sizeof(R) == sizeof(float)) refused(mlp, ALL("num_bits: 16") "]", "and a float has 24");
}

static void wrong_rule(const char *quant, const char *message)
{
    qt_arena a = {0};
    qt_run  *r;
    assert_int_equal(try_train(&a, mlp, quant, "", &r), QT_ERECIPE);
    if (!strstr(qt_error_text(), message)) fail_msg("said '%s', expected '%s'", qt_error_text(), message);
    qt_error_clear();
    qt_run_free(r), qt_arena_free(&a);
}

static void test_rules(void **state)
{
    (void)state;
    wrong_rule("[{match: relu1, weights: {use: fixed}}]", "quant[0].match: matches no layer that can be quantized; these can: fc1, fc2");
    wrong_rule("[{match: \"*\", affine: {use: fixed}}]", "these can: none");
    wrong_rule("[{match: relu7, outputs: {use: fixed}}]", "these can: flat, fc1, relu1, fc2");
    wrong_rule("[{match: relu1, outputs: {use: fixd}}]", "did you mean 'fixed'");
    wrong_rule("[{match: relu1, output: {use: fixed}}]", "did you mean 'outputs'");
    qt_arena a = {0};
    qt_run  *r = trained(&a, mlp, "[{match: [relu1, last], outputs: {use: fixed}, bias: {use: lsq}}, {match: fc2, bias: none}]", "");
    assert_int_equal(r->store->n_site, 2);
    assert_string_equal(r->store->site[0]->path, "relu1.output");
    assert_string_equal(r->store->site[1]->path, "fc2.output");
    qt_run_free(r), qt_arena_free(&a);
}

/* ---- the phase, and what is shipped ---------------------------------------------------------------------------------------------------------- */

static void test_phase(void **state)
{
    qt_arena       a = {0};
    const qt_yaml *y;
    double         v;
    (void)state;
    qt_run *r = trained(&a, every, ALL("num_bits: 5") "]",
                        "phases: [{use: calibrate, batches: 1}, train, {use: fixed_point_check, samples: 100}]\nschedule: {freeze_observers_at: 0.5}\n");
    assert_ok(qt_metrics_last(&a, "run", "measure", "fixed", &y));
    static const char *const name[] = {"samples", "logits", "differ"};
    for (int i = 0; i < 3; i++) assert_true(qt_yaml_real(qt_yaml_get(y, name[i]), &v) && v == ((double[]){100, 1000, 0})[i]);
    assert_true(qt_yaml_real(qt_yaml_get(y, "points"), &v) && v == r->store->n_site);
    for (int i = 0; i < r->store->n_site; i++) {
        const qt_tensor *point = r->store->site[i]->p[0];
        assert_true(point->data[0] == (R)(int)point->data[0]); /* held */
    }
    qt_run_free(r), qt_arena_free(&a);
}

/* The exporter compares the answers itself. Casts of all roles go with the model. */
static void test_export(void **state)
{
    qt_arena    a = {0};
    qt_exported made;
    (void)state;
    qt_run *r = trained(&a, every, ALL("num_bits: 6") "]", "");
    assert_ok(qt_exporter_h5.run(&qt_exporter_h5, r, NULL, "m.h5", &made));
    assert_true(made.layers == 4 && made.integers == 4);
    FILE  *f = fopen("export.json", "r");
    char   text[16384] = "";
    assert_non_null(f);
    assert_true(fread(text, 1, sizeof text - 1, f) > 0);
    fclose(f);
    assert_non_null(strstr(text, "{\"path\": \"bn2.shift\", \"bits\": 6, \"signed\": true, \"fraction\": ["));
    qt_run_free(r), qt_arena_free(&a);
}

/* A line for each cast, with its words and the places of its binary point, and one for each sum. */
static void test_print(void **state)
{
    qt_arena    a = {0};
    qt_fixed   *p;
    char       *text;
    const char *where;
    size_t      n;
    int         lines = 0, sums = 0, most = 0;
    (void)state;
    qt_run *r = trained(&a, every,
                        "[{match: \"*\", weights: {use: fixed, num_bits: 6, granularity: channel, init: max}, bias: {use: fixed, num_bits: 7}, affine: {use: fixed, num_bits: 5, "
                        "rounding: rnd_conv}, outputs: {use: fixed, num_bits: 6}}, {match: fc, weights: {use: fixed, num_bits: 5, k_hot: 2}}, "
                        "{match: relu2, outputs: {use: fixed, num_bits: 6, signed: false, overflow: wrap, rounding: trn}}, {match: first, activations: {use: fixed, num_bits: 6}}]", "");
    assert_ok(qt_fixed_make(r->tape, r->model, &p));
    FILE *f = open_memstream(&text, &n);
    qt_fixed_print(f, p);
    fclose(f);
    for (int i = 0; i < r->store->n_site; i++) {
        const qt_site *q = r->store->site[i];
        char           word[128], *at;
        qt_cast        c;
        int            bits, lo = 1000, hi = -1000, l, h, got;
        q->quant->cast(q, &c);
        for (int64_t k = 0; k < c.count; k++) lo = qt_cast_point(&c, k) < lo ? qt_cast_point(&c, k) : lo, hi = qt_cast_point(&c, k) > hi ? qt_cast_point(&c, k) : hi;
        snprintf(word, sizeof word, "\n%s ", q->path);
        if (!(at = strstr(text, word))) fail_msg("no line of %s in:\n%s", q->path, text);
        got = sscanf(at + strlen(word), "%d %d..%d", &bits, &l, &h);
        assert_true(got >= 2 && bits == c.bits && l == lo && (got == 3 ? h == hi : lo == hi));
        assert_true(!strncmp(q->path, "fc.weight", 9) == (strstr(at + 1, ", 2-hot\n") && strstr(at + 1, ", 2-hot\n") < strchr(at + 1, '\n')));
    }
    for (const char *s = text; (s = strchr(s, '\n')); s++) lines++;
    for (const char *s = text; (s = strstr(s, ".sum ")); sums++) {
        int bits = atoi(s += 5);
        most = bits > most ? bits : most;
    }
    assert_int_equal(lines, 1 + r->store->n_site + sums);
    assert_true(sums >= 4 && most == qt_fixed_widest(p, &where));
    assert_non_null(strstr(text, "   trn, wrap, unsigned\n"));
    free(text);
    qt_fixed_free(p);
    qt_run_free(r), qt_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_numbers), cmocka_unit_test(test_wrap_is_not_sat), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_rules),        cmocka_unit_test(test_phase),           cmocka_unit_test(test_export),
        cmocka_unit_test(test_print),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
