/* The `regularize` section: what it refuses and where, what it adds to the loss, and that a weight of 0 changes no bit. */
#include "train_util.h"
#include <math.h>

typedef struct built {
    qt_arena  arena;
    qt_store *store;
    qt_model *model;
    qt_tape  *tape;
    qt_err    err;
} built;

static const qt_yaml *parse(qt_arena *a, const char *text, const char *name)
{
    qt_yaml *y;
    assert_ok(qt_yaml_parse(a, text, strlen(text), name, &y));
    return y;
}

static built make(const char *model, const char *quant, const char *regularize)
{
    built    b = {.store = qt_store_new(1), .tape = qt_tape_new()};
    qt_shape in = {3, {2, 4, 4}};
    assert_ok(qt_model_build(&b.arena, b.store, parse(&b.arena, model, "m"), parse(&b.arena, quant, "q"), in, 0, &b.model));
    b.err = qt_regularize_build(&b.arena, parse(&b.arena, regularize, "r"), b.model);
    if (b.err == QT_OK) assert_ok(qt_store_seal(b.store, 0));
    return b;
}

static void drop(built *b)
{
    qt_tape_free(b->tape), qt_store_free(b->store), qt_arena_free(&b->arena);
}

static const char net[] = "[{use: conv2d, out: 3, kernel: 3, padding: 1, name: conv}, {use: conv2d, out: 4, kernel: 1, groups: 1, name: one}, "
                          "flatten, {use: linear, out: 5, name: fc}]";
static const char four[] = "[{match: '*', weights: {use: uniform, num_bits: 4, granularity: channel, dynamic: true}}]";

static void refuse(const char *model, const char *quant, const char *regularize, const char *message)
{
    built b = make(model, quant, regularize);
    assert_int_not_equal(b.err, QT_OK);
    assert_errors(message);
    drop(&b);
}

static void test_refused(void **state)
{
    (void)state;
    refuse(net, "[]", "{use: sine}", "r:1:1: regularize: expected a list of {use, match, weight}, found a map");
    refuse(net, "[]", "[{use: orthogonl, match: '*', weight: 1}]",
           "r:1:8: unknown regularizer 'orthogonl', did you mean 'orthogonal'? (`qtape list regularizers` lists them)");
    refuse(net, "[]", "[{use: orthogonal, match: 'con', weight: 1}]",
           "r:1:27: regularize[0].match: matches no layer with a weight (`qtape show --cost` lists them)");
    refuse(net, "[]", "[{use: orthogonal, match: conv}]",
           "r:1:2: regularize[0].weight: missing, it has no default (factor in the loss; 0: it is measured only)");
    refuse(net, "[]", "[{use: orthogonal, match: conv, weight: 1}, {use: orthogonal, match: one, weight: 1}]",
           "r:1:45: regularize[1]: 'orthogonal' stands here twice; give one of them another `name`");
    refuse(net, "[]", "[{use: orthogonal, match: [conv, fc], weight: 1, fake_quant: true}]",
           "r:1:2: orthogonal: fake_quant, but the weight of conv has no quantizer\n"
           "r:1:2: orthogonal: fake_quant, but the weight of fc has no quantizer");
    refuse(net, "[]", "[{use: sine, match: conv, weight: 1}]",
           "m:1:2: conv: regularizer sine: the weight has no quantizer whose step to take; give it one, or `step`");
    refuse("[{use: conv2d, out: 4, kernel: 3, groups: 2, name: g}]", "[]", "[{use: orthogonal, match: g, weight: 1}]",
           "m:1:2: g: regularizer orthogonal: takes no groups and no dilation");
}

static double term(built *b, int i, int k)
{
    qt_tape_reset(b->tape);
    qt_tensor *y = qt_term_value(b->tape, b->model, &b->model->term[i], k);
    assert_ok(qt_tape_error(b->tape));
    assert_int_equal(y->n, 1);
    return (double)y->data[0];
}

/* 1 x 1 kernels and linear layers: || W W^T - I ||^2 - max(0, rows - columns). */
static double rows_from_identity(const qt_tensor *w)
{
    int64_t M = w->dim[0], C = w->n / M;
    double  sum = 0;
    for (int64_t a = 0; a < M; a++)
        for (int64_t b = 0; b < M; b++) {
            double dot = 0;
            for (int64_t c = 0; c < C; c++) dot += (double)w->data[a * C + c] * (double)w->data[b * C + c];
            sum += (dot - (a == b)) * (dot - (a == b));
        }
    return sum - (M > C ? (double)(M - C) : 0);
}

static void test_loss(void **state)
{
    (void)state;
    built      b = make(net, four, "[{use: orthogonal, match: [one, fc], weight: 0.5}, {use: sine, match: '*', weight: 2, reduce: mean},"
                                   " {use: sine, match: fc, weight: 0.25, step: 0.125, name: eighths},"
                                   " {use: sine, match: fc, weight: 0, name: off}]");
    qt_tensor *one = qt_param_find(b.store, "one.weight"), *fc = qt_param_find(b.store, "fc.weight"), *loss;
    double     values[4], eighths = 0, want;
    assert_ok(b.err);
    values[0] = term(&b, 0, 0), values[1] = term(&b, 0, 1);
    assert_true(fabs(values[0] - rows_from_identity(one)) < 1e-5 * values[0]);
    assert_true(fabs(values[1] - rows_from_identity(fc)) < 1e-5 * values[1]);
    for (int64_t i = 0; i < fc->n; i++) eighths += pow(sin(3.14159265358979323846 * 8 * (double)fc->data[i]), 2);
    values[2] = term(&b, 2, 0);
    assert_true(fabs(values[2] - eighths) < 1e-5 * eighths);
    values[3] = term(&b, 1, 0) + term(&b, 1, 1) + term(&b, 1, 2);
    want = 7 + 0.5 * (values[0] + values[1]) + 2 * values[3] / 3 + 0.25 * values[2];
    qt_tape_reset(b.tape);
    loss = qt_input(b.tape, 1, (int64_t[]){1});
    loss->data[0] = 7;
    loss = qt_model_penalty(b.tape, b.model, loss);
    assert_ok(qt_tape_error(b.tape));
    assert_true(fabs((double)loss->data[0] - want) < 1e-5 * want);
    drop(&b);
}

/* On the grid the sine is zero; fake_quant looks at these very numbers, whatever the weight is. */
static void test_fake_quant(void **state)
{
    (void)state;
    built b = make(net, four, "[{use: sine, match: fc, weight: 1}, {use: sine, match: fc, weight: 1, fake_quant: true, name: on_grid}]");
    assert_true(term(&b, 0, 0) > 1);
    assert_true(fabs(term(&b, 1, 0)) < 1e-9);
    drop(&b);
}

static const char recipe[] = "recipe: 1\ndata: {use: digits, batch_size: 32, normalize: unit}\n"
                             "model: [flatten, {use: linear, out: 16, name: a}, relu, {use: linear, out: 10, name: b}]\n"
                             "quant: [{match: a, weights: {use: lsq, num_bits: 3}}]\n"
                             "regularize: [{use: orthogonal, match: [a, b], weight: 0.01, fake_quant: false}, {use: sine, match: a, weight: 0.01}]\n"
                             "optim: {use: adam, lr: 1e-2}\ntrain: {steps: 40, log_every: 0, threads: 2}\n";

/* Trains with an override; the values of a's weight are copied to w. */
static double trained(const char *dir, int n, const char *const *sets, R w[16 * 64], int64_t *allocations)
{
    qt_arena   a = {0};
    qt_recipe *r;
    qt_run    *run;
    qt_result  res;
    double     orthogonal = 0;
    put_file("r.yaml", recipe);
    assert_ok(qt_recipe_load(&a, "r.yaml", n, sets, NULL, &r));
    assert_ok(qt_run_new(r, dir, NULL, true, QT_PROGRESS_QUIET, &run));
    int64_t before = qt_alloc_count();
    assert_ok(qt_run_go(run, &res));
    *allocations = qt_alloc_count() - before;
    memcpy(w, qt_param_find(run->store, "a.weight")->data, 16 * 64 * sizeof(R));
    for (int k = 0; k < 2 && run->model->n_terms; k++) {
        qt_tape_reset(run->tape);
        orthogonal += (double)qt_term_value(run->tape, run->model, &run->model->term[0], k)->data[0];
    }
    qt_run_free(run), qt_arena_free(&a);
    return orthogonal;
}

static void test_training(void **state)
{
    (void)state;
    static R with[16 * 64], without[16 * 64], again[16 * 64];
    int64_t  few, many;
    double   on = trained("on", 1, (const char *[]){"train.threads=1"}, with, &few);
    double   off = trained("off", 2, (const char *[]){"regularize[0].weight=0", "regularize[1].weight=0"}, without, &many);
    assert_true(on < 0.6 * off);
    trained("none", 1, (const char *[]){"~regularize"}, again, &many);
    assert_memory_equal(without, again, sizeof again);
    trained("on2", 1, (const char *[]){"train.threads=2"}, again, &many);
    assert_memory_equal(with, again, sizeof again);
    trained("long", 2, (const char *[]){"train.steps=80", "train.eval_every=0"}, again, &many);
    trained("short", 2, (const char *[]){"train.steps=40", "train.eval_every=0"}, again, &few);
    assert_int_equal(few, many);
}

static double measured(const char *dir, const char *path, const char *key)
{
    qt_arena       a = {0};
    const qt_yaml *y;
    double         v;
    assert_ok(qt_metrics_last(&a, dir, "measure", path, &y));
    assert_true(qt_yaml_real(qt_yaml_get(y, key), &v));
    qt_arena_free(&a);
    return v;
}

/* Values of a layer and of all, for claims; names with dots are found too. */
static void test_measured(void **state)
{
    (void)state;
    static R  w[16 * 64];
    int64_t   n;
    double    a, b, total = trained("m", 0, NULL, w, &n);
    const char *dotted[] = {"model=[flatten, {name: g, repeat: 1, layers: [{use: linear, out: 16, name: a}]}, {use: linear, out: 10, name: b}]",
                            "quant[0].match=g.0.a", "regularize[0].match=[g.0.a, b]", "regularize[1].match=g.0.a"};
    a = measured("m", "orthogonal", "a"), b = measured("m", "orthogonal", "b");
    assert_true(fabs(a + b - total) < 1e-6 * total);
    assert_true(fabs(measured("m", "orthogonal", "total") - total) < 1e-6 * total);
    qt_arena   arena = {0};
    qt_recipe *r;
    qt_run    *run;
    qt_result  res;
    assert_ok(qt_recipe_load(&arena, "r.yaml", 4, dotted, NULL, &r));
    assert_ok(qt_run_new(r, "d", NULL, true, QT_PROGRESS_QUIET, &run));
    assert_ok(qt_run_go(run, &res));
    assert_true(measured("d", "orthogonal.g.0", "a") > 0);
    assert_true(fabs(measured("d", "orthogonal.g.0", "a") + measured("d", "orthogonal", "b") - measured("d", "orthogonal", "total")) < 1e-4);
    qt_run_free(run), qt_arena_free(&arena);
}

static void test_claims(void **state)
{
    (void)state;
    qt_arena    a = {0};
    qt_recipe  *r;
    static char text[2000];
    snprintf(text, sizeof text, "%sclaims:\n  - {say: s, arm: base, metric: measure.orthogonal.a, at_most: 1}\n"
                                "  - {say: s, arm: base, metric: measure.sine.total, at_most: 1}\n"
                                "  - {say: s, arm: base, metric: measure.sine.b, at_most: 1}\n", recipe);
    put_file("c.yaml", text);
    assert_int_equal(qt_recipe_load(&a, "c.yaml", 0, NULL, NULL, &r), QT_ERECIPE);
    assert_errors("c.yaml:11:33: claims[2].metric: nothing in arm 'base' measures 'sine.b'");
    qt_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_fake_quant),
        cmocka_unit_test(test_training),
        cmocka_unit_test(test_measured),
        cmocka_unit_test(test_claims),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
