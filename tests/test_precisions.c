/* Models that hold several precisions: the stored integers of double rounding serve all of them, in training, evaluation and deployment, with the
 * same bits; batch norm and the optimizer keep them apart; the stepper does what its formulas say, and a run that was stopped goes on alike. */
#include "train_util.h"
#include "export/engine.h"
#include "ops/inner.h"
#include "qat/double_rounding.h"
#include "quants_util.h"
#include "train/mix.h"
#include <math.h>

static const int BITS[] = {8, 6, 4, 2};
enum { LEVELS = 4 };

static int clear(void **state) { return (void)state, qt_error_clear(), 0; }

/* ---- the quantizer ---------------------------------------------------------------------------------------------------------------------- */

/* What a device does with the stored bytes, and integers alone, is what training saw. */
static void test_stored_integers(void **state)
{
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        const char *spec = mode ? "{use: double_rounding, mode: floor}" : "double_rounding";
        rig         r = rig_new(W, spec, 2, DIM);
        R          *x = sample(1), *back = normal(N, 2);
        qt_arena    a = {0};
        qt_codes    stored, c;
        rig_run(&r, 2, DIM, x, NULL);
        assert_int_equal(r.site->quant->encode(r.site, r.x, &a, &stored), QT_OK);
        assert_true(stored.bits == 8);
        for (int k = 0; k < LEVELS; k++) {
            const int l = BITS[k], D = 8 - l, top = 1 << (l - 1);
            const R   step = stored.scale[0] * (R)(1 << D);
            int8_t    in[N], out[N];
            R         factor;
            assert_true(qt_site_switch(r.site, (qt_precision){.bits = l}) && qt_site_bits(r.site) == l);
            rig_run(&r, 2, DIM, x, NULL);
            assert_int_equal(r.site->quant->encode(r.site, r.x, &a, &c), QT_OK);
            assert_true(c.scale[0] == step && c.bits == l && r.site->quant->bits(r.site) == l);
            for (int i = 0; i < N; i++) in[i] = (int8_t)stored.code[i];
            assert_true(qt_codes_switch(r.site, l, N, in, out, &factor) && factor == (R)(1 << D));
            for (int i = 0; i < N; i++) {
                int q = (int)floor(((double)in[i] + (mode || !D ? 0 : 1 << (D - 1))) / (1 << D)), code = q < -top ? -top : q > top - 1 ? top - 1 : q;
                back[i] = (R)out[i] * step;
                assert_true(out[i] == code && c.code[i] == code);
            }
            assert_memory_equal(back, r.y->data, N * sizeof *back);
        }
        assert_false(qt_codes_switch(r.site, 5, 0, NULL, NULL, NULL));
        assert_false(qt_site_switch(r.site, (qt_precision){.bits = 5}));
        assert_int_equal(qt_site_bits(r.site), 2); /* as before */
        qt_arena_free(&a), rig_free(&r);
        qt_free(x), qt_free(back);
    }
}

static double error_at(rig *r, int bits, const R *x, bool *bounded)
{
    double e = 0, s = (double)param(r, "scale")->data[0], sl = s * (1 << (8 - bits)), top = (1 << (bits - 1)) - 0.5;
    qt_site_switch(r->site, (qt_precision){.bits = bits});
    rig_run(r, 2, DIM, x, NULL);
    for (int i = 0; i < N; i++) {
        double d = fabs((double)r->y->data[i] - (double)x[i]);
        if (fabs((double)x[i]) < top * sl && d > sl / 2 + s / 2 + 1e-6) *bounded = false;
        e += d * d / N;
    }
    return e;
}

/* |y - x| <= s_l/2 + s/2, so rounding twice costs hardly more than once. A shift that rounds down has errors from 0 to s_l instead of up to s_l/2
 * on both sides: their mean square is s_l^2/3, four times s_l^2/12. */
static void test_error(void **state)
{
    (void)state;
    R     *x = normal(N, 3);
    bool   bounded = true, ignored = true;
    rig    twice = rig_new(W, "double_rounding", 2, DIM), down = rig_new(W, "{use: double_rounding, mode: floor}", 2, DIM);
    rig_run(&twice, 2, DIM, x, NULL), rig_run(&down, 2, DIM, x, NULL);
    for (int k = 0; k < LEVELS; k++) error_at(&twice, BITS[k], x, &bounded);
    assert_true(bounded);
    double once = 0, s = 16 * (double)param(&twice, "scale")->data[0];
    for (int i = 0; i < N; i++) once += pow(fmax(-8, fmin(7, rint((double)x[i] / s))) * s - (double)x[i], 2) / N;
    double ratio = error_at(&twice, 4, x, &ignored) / once, floors = error_at(&down, 4, x, &ignored) / once;
    assert_true(ratio < 1.05 && floors > 3.5 && floors < 4.5);
    rig_free(&twice), rig_free(&down), qt_free(x);
}

/* ds = 2^D times that of a learned step at s_l, and dx its mask. */
static void test_gradient(void **state)
{
    (void)state;
    R *x = sample(4), *dy = normal(N, 5);
    for (int k = 0; k < LEVELS; k++) {
        char spec[64];
        snprintf(spec, sizeof spec, "{use: lsq, num_bits: %d, grad_scale: none}", BITS[k]);
        rig r = rig_new(W, "double_rounding", 2, DIM), l = rig_new(W, spec, 2, DIM);
        param(&r, "scale")->data[0] = (R)0.01, param(&r, "initialized")->data[0] = 1;
        param(&l, "scale")->data[0] = (R)0.01 * (R)(1 << (8 - BITS[k])), param(&l, "initialized")->data[0] = 1;
        qt_site_switch(r.site, (qt_precision){.bits = BITS[k]});
        rig_run(&r, 2, DIM, x, dy), rig_run(&l, 2, DIM, x, dy);
        assert_memory_equal(r.x->grad, l.x->grad, N * sizeof *x);
        double want = (double)param(&l, "scale")->grad[0] * (1 << (8 - BITS[k]));
        assert_true(fabs((double)param(&r, "scale")->grad[0] - want) <= 1e-6 * fabs(want));
        rig_free(&r), rig_free(&l);
    }
    qt_free(x), qt_free(dy);
}

/* Each of several bits has a step of its own: it starts at its first use, and gets a gradient in its own row alone. */
static void test_own_steps(void **state)
{
    (void)state;
    R  *x = normal(N, 6), *dy = normal(N, 7);
    rig r = rig_new(A, "{use: lsq, num_bits: [8, 2], signed: false}", 2, DIM);
    for (int k = 0; k < 2; k++) {
        qt_site_switch(r.site, (qt_precision){.bits = k ? 2 : 8});
        assert_true(param(&r, "initialized")->data[k] == 0);
        qt_store_zero_grad(r.store);
        rig_run(&r, 2, DIM, x, dy);
        assert_true(param(&r, "initialized")->data[k] == 1 && param(&r, "scale")->grad[k] != 0 && param(&r, "scale")->grad[1 - k] == 0);
    }
    assert_true(param(&r, "scale")->data[1] / param(&r, "scale")->data[0] > 8); /* 2 mean|x|/sqrt(p) of 3 and of 255 */
    rig_free(&r), qt_free(x), qt_free(dy);
}

/* ---- recipes ------------------------------------------------------------------------------------------------------------------------------ */

#define MODEL                                                                                  \
    "recipe: 1\n"                                                                              \
    "data: {use: digits, batch_size: 32, normalize: unit}\n"                                   \
    "model:\n"                                                                                 \
    "  - {use: conv2d, out: 6, kernel: 3, stride: 2, padding: 1, bias: false, name: c1}\n"     \
    "  - {use: batch_norm, bits: [8, 4, 2], transitional: true, name: n1}\n"                   \
    "  - relu\n"                                                                               \
    "  - {use: conv2d, out: 8, kernel: 3, padding: 1, bias: false, name: c2}\n"                \
    "  - {use: batch_norm, bits: [8, 4, 2], name: n2}\n"                                       \
    "  - relu\n"                                                                               \
    "  - flatten\n"                                                                            \
    "  - {use: linear, out: 16, name: f1}\n"                                                   \
    "  - relu\n"                                                                               \
    "  - {use: linear, out: 10, name: f2}\n"                                                   \
    "quant:\n"                                                                                 \
    "  - match: [c1, c2, f1]\n"                                                                \
    "    weights: {use: double_rounding, bits: [8, 4, 2]}\n"                                   \
    "    activations: {use: lsq, num_bits: [8, 4, 2], signed: false}\n"
#define STEP "step: {use: precisions, passes: sandwich, alrs: product, images: 32, draws: 2}\n"
#define TRAIN "optim: {use: adam, lr: 3e-3}\ntrain: {steps: 12, eval_every: 0, log_every: 4}\n"
#define PHASES "phases: [train, eval_precisions, {use: hessian, images: 64, draws: 2}, {use: allocate_bits, target: 4, images: 64, draws: 2}]\n"

static qt_recipe *load(qt_arena *a, const char *text)
{
    qt_recipe *rc;
    put_file("r.yaml", text);
    assert_ok(qt_recipe_load(a, "r.yaml", 0, NULL, NULL, &rc));
    return rc;
}

static qt_run *open_run(qt_arena *a, const char *text, const char *dir)
{
    qt_run *r;
    assert_ok(qt_run_new(load(a, text), dir, NULL, false, QT_PROGRESS_QUIET, &r));
    return r;
}

static qt_err go(const char *text, const char *dir, int threads, volatile int *stop)
{
    qt_arena  a = {0};
    qt_result res;
    qt_run   *r = open_run(&a, text, dir);
    r->recipe->train.threads = threads, r->stop = stop;
    qt_err e = qt_run_go(r, &res);
    qt_run_free(r), qt_arena_free(&a);
    return e;
}

static qt_run *reopen(const char *dir)
{
    qt_run *r;
    assert_ok(qt_run_resume(dir, QT_PROGRESS_QUIET, &r));
    return r;
}

static double measured(const char *dir, const char *path, const char *name)
{
    qt_arena       a = {0};
    const qt_yaml *y;
    double         v = NAN;
    assert_ok(qt_metrics_last(&a, dir, "measure", path, &y));
    assert_non_null(y);
    assert_true(qt_yaml_real(qt_yaml_get(y, name), &v));
    qt_arena_free(&a);
    return v;
}

static void refuse(const char *text, const char *message)
{
    qt_arena   a = {0};
    qt_recipe *rc;
    put_file("r.yaml", text);
    assert_int_equal(qt_error_exit(qt_recipe_load(&a, "r.yaml", 0, NULL, NULL, &rc)), 2);
    assert_errors(message);
    qt_arena_free(&a);
}

static void test_refused(void **state)
{
    (void)state;
    static const char plain[] = "recipe: 1\ndata: {use: digits, batch_size: 32}\nmodel: [flatten, {use: linear, out: 10, name: f}]\ntrain: {steps: 1}\n";
    char              text[2048];
    snprintf(text, sizeof text, "%sstep: precisions\n", plain);
    refuse(text, "r.yaml:5:7: step: precisions wants quantizers that hold several (double_rounding, or lsq with a list of bits)");
    snprintf(text, sizeof text, "%sphases: [eval_precisions]\n", plain);
    refuse(text, "phases: eval_precisions wants quantizers that hold several precisions (double_rounding, or lsq with a list of bits)");
    snprintf(text, sizeof text, "%squant: [{match: f, weights: {use: double_rounding, bits: [4, 8]}}]\n", plain);
    refuse(text, "r.yaml:5:29: f.weight: quant double_rounding: bits: expected the highest first and none twice, as in [8, 4, 2]");
    refuse(MODEL TRAIN "step: {use: precisions, update: together, alrs: product}\n",
           "r.yaml:20:7: step.alrs: rates for each precision want update: each");
    refuse(MODEL TRAIN "phases: [{use: allocate_bits, target: 1.5}]\n",
           "phases: allocate_bits: a target of 1.5 bits is below the lowest precision of the model, 2");
    snprintf(text, sizeof text, "%s", MODEL TRAIN);
    memcpy(strstr(text, "bits: [8, 4, 2], name: n2"), "bits: [8, 4],    name: n2", 25);
    refuse(text, "r.yaml:8:5: n2: has no set for 2 bits, to which the weights around it can be switched");
}

/* ---- the same bits -------------------------------------------------------------------------------------------------------------------------- */

static void assert_same_stores(const char *a, const char *b)
{
    qt_run *x = reopen(a), *y = reopen(b);
    assert_int_equal(x->store->size, y->store->size);
    assert_memory_equal(x->store->value, y->store->value, (size_t)x->store->size * sizeof(R));
    for (int k = 0; k < x->store->n_slots; k++) assert_memory_equal(x->store->slot[k], y->store->slot[k], (size_t)x->store->size * sizeof(R));
    assert_int_equal(qt_optimizer_count(x->optim), qt_optimizer_count(y->optim));
    qt_run_free(x), qt_run_free(y);
}

/* A supernet with random mixes: for 1 and 2 threads, and stopped after every step. */
static void test_same_bits(void **state)
{
    volatile int stop = 1;
    int          stops = 0;
    (void)state;
    assert_ok(go(MODEL STEP TRAIN PHASES, "one", 1, NULL));
    assert_ok(go(MODEL STEP TRAIN PHASES, "two", 2, NULL));
    assert_same_stores("one", "two");
    qt_err e = go(MODEL STEP TRAIN PHASES, "parts", 1, &stop);
    while (e == QT_ESTOPPED) {
        qt_result res;
        qt_run   *r = reopen("parts");
        qt_error_clear(), stops++;
        r->stop = &stop, e = qt_run_go(r, &res);
        qt_run_free(r);
    }
    assert_ok(e);
    assert_int_equal(stops, 11);
    assert_same_stores("one", "parts");
    static const char *const path[] = {"bits8", "bits4", "bits2", "mean", "allocate"};
    for (int k = 0; k < 5; k++)
        assert_true(measured("one", path[k], "accuracy") == measured("two", path[k], "accuracy") &&
                    measured("one", path[k], "loss") == measured("parts", path[k], "loss"));
    assert_true(measured("one", "allocate", "mean_bits") <= 4 && measured("one", "hessian.c1", "trace") == measured("parts", "hessian.c1", "trace"));
    double mean = (measured("one", "bits8", "loss") + measured("one", "bits4", "loss") + measured("one", "bits2", "loss")) / 3;
    assert_true(fabs(measured("one", "mean", "loss") - mean) < 1e-8);
}

/* The exported file holds 8-bit integers; its engine answers at every precision with the bits of the training graph. */
static void test_engine(void **state)
{
    qt_run    *r;
    qt_engine *e;
    qt_result  res;
    (void)state;
    assert_ok(go(MODEL "step: {use: precisions}\n" TRAIN, "net", 1, NULL));
    r = reopen("net");
    assert_ok(qt_engine_of_run(r, &e));
    assert_int_equal(e->integers, 3);
    const int64_t n = qt_data_size(r->data, QT_TEST);
    R            *want = qt_alloc((size_t)(10 * n) * sizeof *want), *got = qt_alloc((size_t)(10 * n) * sizeof *got), *last = qt_alloc((size_t)(10 * n) * sizeof *got);
    static const int order[] = {8, 2, 4, 2, 8};
    for (int k = 0; k < 5; k++) {
        qt_run s;
        qt_model_switch(r->model, (qt_precision){.bits = order[k]});
        assert_ok(qt_run_eval(r, QT_TEST, &res, want, NULL));
        assert_ok(qt_engine_switch(e, order[k] == 8 ? 0 : order[k]));
        assert_ok(qt_engine_as_run(e, &s));
        assert_ok(qt_run_eval(&s, QT_TEST, &res, got, NULL));
        qt_data_close(s.data);
        assert_memory_equal(want, got, (size_t)(10 * n) * sizeof *want);
        assert_true(k == 0 || memcmp(last, got, (size_t)(10 * n) * sizeof *got));
        memcpy(last, got, (size_t)(10 * n) * sizeof *got);
    }
    assert_int_equal(qt_engine_switch(e, 6), QT_EUSAGE);
    assert_errors("r: cannot be switched to 6 bits");
    qt_free(want), qt_free(got), qt_free(last);
    qt_engine_free(e), qt_run_free(r);
}

/* Weights with steps of their own for each precision are stored at one. */
static void test_engine_fixed(void **state)
{
    qt_engine *e;
    (void)state;
    assert_ok(go("recipe: 1\ndata: {use: digits, batch_size: 32, normalize: unit}\nmodel: [flatten, {use: linear, out: 10, name: f}]\n"
                 "quant: [{match: f, weights: {use: lsq, num_bits: [8, 4]}, activations: {use: lsq, num_bits: [8, 4], signed: false}}]\n"
                 "step: precisions\ntrain: {steps: 4}\n", "fixed", 1, NULL));
    qt_run *r = reopen("fixed");
    assert_ok(qt_engine_of_run(r, &e));
    assert_int_equal(qt_engine_switch(e, 4), QT_EUSAGE);
    assert_errors("r: the weights of layer 'f' are stored for one precision");
    qt_engine_free(e), qt_run_free(r);
}

/* ---- what a step moves ---------------------------------------------------------------------------------------------------------------------- */

static qt_tensor *find(qt_run *r, const char *name)
{
    qt_tensor *p = qt_param_find(r->store, name);
    if (!p) fail_msg("no parameter %s", name);
    return p;
}

static const qt_batch *first_batch(qt_run *r)
{
    const qt_batch *b;
    assert_ok(qt_loader_train(r->data, 1, 0, &r->loader));
    assert_ok(qt_loader_next(r->loader, &b));
    return b;
}

/* A forward and backward pass at `bits`. */
static void pass(qt_run *r, const qt_batch *b, int bits)
{
    qt_tensor *out, *loss;
    assert_int_equal(qt_model_switch(r->model, (qt_precision){.bits = bits}), 6);
    assert_ok(qt_step_forward(r, b, &out, &loss));
    assert_ok(qt_backward(r->tape, loss));
}

/* Adam moves a row of a table only in steps in which it had a part, even where its moments would push it on; so the precisions do not disturb
 * each other's batch norm and steps. */
static void test_rows_rest(void **state)
{
    (void)state;
    qt_arena         a = {0};
    qt_run          *r = open_run(&a, MODEL TRAIN, "rows");
    const qt_batch  *b = first_batch(r);
    qt_tensor       *norm = find(r, "n2.weight"), *mean = find(r, "n2.running_mean"), *step = find(r, "c2.input.scale");
    const int        C = 8;
    R                was[3 * 8], ran[3 * 8], steps[3];
    static const int order[] = {4, 4, 2, 8};
    assert_int_equal(norm->n, 3 * C);
    for (int k = 0; k < 4; k++) {
        const int row = order[k] == 8 ? 0 : order[k] == 4 ? 1 : 2;
        memcpy(was, norm->data, sizeof was), memcpy(ran, mean->data, sizeof ran), memcpy(steps, step->data, sizeof steps);
        pass(r, b, order[k]);
        assert_ok(qt_step_update(r, 1, 1));
        for (int i = 0; i < 3 * C; i++) assert_true((norm->data[i] != was[i]) == (i / C == row) && (mean->data[i] != ran[i]) == (i / C == row));
        for (int i = 0; i < 3; i++) assert_true((step->data[i] != steps[i]) == (i == row));
    }
    /* transitional: 9 rows, of the pairs (before, after) = (c1, c2) */
    qt_site_switch(r->model->m[0].weight, (qt_precision){.bits = 2}), qt_site_switch(r->model->m[3].weight, (qt_precision){.bits = 4});
    assert_ok(qt_model_follow(r->model));
    assert_int_equal(find(r, "n1.weight")->n, 9 * 6);
    assert_int_equal(r->model->m[1].row, 2 * 3 + 1);
    assert_int_equal(r->model->m[4].row, 1);
    qt_run_free(r), qt_arena_free(&a);
}

/* Plain gradient descent written out: what one step of the stepper must come to. */
static void descend(qt_run *r, double lr, double quant_lr)
{
    for (int i = 0; i < r->store->n; i++) {
        qt_param *p = r->store->p[i];
        for (int64_t k = 0; k < p->t.n && p->kind != QT_BUFFER; k++) {
            p->t.data[k] -= (R)(p->kind == QT_QUANT ? quant_lr : lr) * p->t.grad[k];
            if (p->kind == QT_QUANT) p->t.data[k] = (R)fmax(fabs((double)p->t.data[k]), 1e-8); /* the quantizers' guard */
        }
    }
    qt_store_zero_grad(r->store);
}

static double mean_clipped(qt_run *r)
{
    static const char *const site[] = {"c1.weight.scale", "c2.weight.scale", "f1.weight.scale"};
    double                   sum = 0;
    for (int k = 0; k < 3; k++) sum += fmin(1, fabs((double)find(r, site[k])->grad[0])) / 3;
    return sum;
}

static void check_step(const char *step, const char *dir, double lr, int kind)
{
    static const int    bits[] = {8, 4, 2};
    static const double eta[] = {1, 0.01, 0.001}; /* D = 0, 4, 6 */
    char                text[4096];
    qt_arena            a = {0}, c = {0};
    snprintf(text, sizeof text, MODEL "optim: {use: sgd, lr: %g}\ntrain: {steps: 4}\n", lr);
    qt_run *by_hand = open_run(&a, text, "hand");
    snprintf(text + strlen(text), sizeof text - strlen(text), "step: %s\n", step);
    qt_run         *r = open_run(&c, text, dir);
    const qt_batch *b = first_batch(by_hand);
    qt_outcome      o = {.measure = true, .lr = lr};
    for (int k = 0; k < 3; k++) {
        pass(by_hand, b, bits[k]);
        double mean = mean_clipped(by_hand);
        if (kind == 3) continue; /* together */
        descend(by_hand, lr, kind == 0 ? lr : kind == 1 ? eta[k] * fmax(0, lr - mean) : eta[k] * lr * fmax(0, 1 - mean));
    }
    if (kind == 3) descend(by_hand, lr, lr);
    const qt_batch *same = first_batch(r);
    assert_ok(r->recipe->stepper->step(r, r->recipe->stepper_cfg, r->stepper, same, 1, &o));
    assert_int_equal(qt_optimizer_count(r->optim), kind == 3 ? 1 : 3);
    assert_int_equal(qt_site_bits(r->model->m[0].weight), 8);
    assert_true(o.loss > 0 && o.accuracy >= 0 && o.accuracy <= 1);
    for (int64_t i = 0; i < r->store->size; i++) {
        double x = (double)r->store->value[i], y = (double)by_hand->store->value[i];
        if (!(fabs(x - y) <= 1e-4 * (0.01 + fabs(y)))) fail_msg("%s: value %d is %g, by hand %g", step, (int)i, x, y);
    }
    qt_run_free(r), qt_run_free(by_hand);
    qt_arena_free(&a), qt_arena_free(&c);
    assert_int_equal(system("rm -rf hand"), 0);
}

static void test_steps_by_hand(void **state)
{
    (void)state;
    check_step("precisions", "each", 1e-3, 0);
    check_step("{use: precisions, alrs: printed_clamped}", "printed", 0.3, 1);
    check_step("{use: precisions, alrs: product}", "product", 1e-3, 2);
    check_step("{use: precisions, update: together}", "together", 1e-3, 3);
}

/* ---- mixes, starts ---------------------------------------------------------------------------------------------------------------------------- */

/* Sensitive layers get b with probability b / 14, the others all alike; with chance 0 nothing is drawn again. */
static void test_mix(void **state)
{
    (void)state;
    qt_arena a = {0};
    qt_run  *r = open_run(&a, MODEL STEP TRAIN, "mix");
    qt_mix   x = {.trace = find(r, "step.trace"), .bits = find(r, "step.bits")};
    int      seen[3][9] = {{0}};
    x.layer = qt_arena_alloc(&a, (size_t)r->model->n * sizeof *x.layer);
    x.n = qt_hessian_layers(r->model, true, x.layer);
    assert_int_equal(x.n, 3);
    x.trace->data[0] = 3, x.trace->data[1] = 1, x.trace->data[2] = (R)0.1;
    for (int k = 0; k < 3; k++) x.bits->data[k] = 8;
    r->steps = 1;
    for (r->step = 0; r->step < 4200; r->step++) {
        r->steps_per_epoch = r->step + 1; /* always in the last epoch */
        assert_ok(qt_mix_draw(r, &x, true, 1, 1, 1));
        for (int k = 0; k < 3; k++) seen[k][(int)x.bits->data[k]]++;
    }
    assert_in_range(seen[0][8], 2250, 2550), assert_in_range(seen[0][4], 1050, 1350), assert_in_range(seen[0][2], 500, 700);
    for (int k = 1; k < 3; k++)
        for (int b = 2; b <= 8; b *= 2) assert_in_range(seen[k][b], 1250, 1550);
    R bits[3] = {x.bits->data[0], x.bits->data[1], x.bits->data[2]};
    assert_ok(qt_mix_draw(r, &x, true, 0, 1, 1));
    assert_memory_equal(bits, x.bits->data, sizeof bits);
    assert_true(fabs(qt_mix_apply(r->model, &x) - (double)(bits[0] + bits[1] + bits[2]) / 3) < 1e-6);
    for (int k = 0; k < 3; k++) assert_true(qt_site_bits(x.layer[k]->weight) == (int)bits[k] && qt_site_bits(x.layer[k]->act) == (int)bits[k]);
    qt_run_free(r), qt_arena_free(&a);
}

/* From a float network every set of batch norm begins as its one set; calibration then finds the steps of all precisions. */
static void test_start(void **state)
{
    (void)state;
    char     text[4096], *bits;
    qt_arena a = {0};
    snprintf(text, sizeof text, "%s", MODEL TRAIN);
    while ((bits = strstr(text, ", bits: [8, 4, 2], name"))) memset(bits, ' ', 17);
    while ((bits = strstr(text, ", bits: [8, 4, 2], transitional: true"))) memset(bits, ' ', 37);
    *strstr(text, "quant:") = '#'; /* the rule is still there, three lines of it */
    for (char *s = strstr(text, "  - match"), *end = strstr(text, "optim"); s < end; s++)
        if (*s != '\n') *s = ' ';
    memcpy(strstr(text, "steps: 12"), "steps: 99", 9);
    assert_ok(go(text, "float", 1, NULL));
    qt_run *from = reopen("float"), *r = open_run(&a, MODEL TRAIN "init: {run: float}\nphases: [{use: calibrate, batches: 1}, eval_precisions]\n", "after");
    qt_tensor *one = find(from, "n1.running_var"), *all = find(r, "n1.running_var");
    assert_int_equal(all->n, 9 * one->n);
    for (int k = 0; k < 9; k++) assert_memory_equal(one->data, all->data + k * one->n, (size_t)one->n * sizeof(R));
    qt_result res;
    assert_ok(qt_run_go(r, &res));
    for (int k = 0; k < 3; k++) assert_true(find(r, "c2.input.initialized")->data[k] == 1);
    assert_ok(qt_run_eval(from, QT_TEST, &res, NULL, NULL));
    assert_true(res.accuracy > 0.5 && fabs(measured("after", "bits8", "accuracy") - res.accuracy) < 0.05);
    qt_run_free(from), qt_run_free(r), qt_arena_free(&a);
}

static void test_warm_step_allocates_nothing(void **state)
{
    (void)state;
    qt_arena        a = {0};
    qt_run         *r = open_run(&a, MODEL STEP TRAIN, "warm");
    const qt_batch *b = first_batch(r);
    qt_outcome      o = {.lr = 1e-3};
    int64_t         before = 0;
    for (int k = 0; k < 12; k++, r->step++) {
        if (k == 8) before = qt_alloc_count();
        assert_ok(r->recipe->stepper->step(r, r->recipe->stepper_cfg, r->stepper, b, 1, &o));
    }
    assert_int_equal(qt_alloc_count(), before);
    qt_run_free(r), qt_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_stored_integers, clear), cmocka_unit_test_setup(test_error, clear),
                                       cmocka_unit_test_setup(test_gradient, clear),        cmocka_unit_test_setup(test_own_steps, clear),
                                       cmocka_unit_test_setup(test_refused, clear),         cmocka_unit_test_setup(test_same_bits, clear),
                                       cmocka_unit_test_setup(test_engine, clear),          cmocka_unit_test_setup(test_engine_fixed, clear),
                                       cmocka_unit_test_setup(test_rows_rest, clear),       cmocka_unit_test_setup(test_steps_by_hand, clear),
                                       cmocka_unit_test_setup(test_mix, clear),             cmocka_unit_test_setup(test_start, clear),
                                       cmocka_unit_test_setup(test_warm_step_allocates_nothing, clear)};
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
