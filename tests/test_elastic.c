/* Elastic quantizers and what trains, measures and searches models of them: entries of the table, their start and gradients; the sandwich step,
 * recalibration of batch norms, evaluation of all precisions, the search; the predictor and Kendall's tau. */
#include "autograd/gradcheck.h"
#include "qat/grid.h"
#include "train/predictor.h"
#include "train_util.h"
#include <math.h>

/* ---- a site ---------------------------------------------------------------------------------------------------------------- */

enum { ROWS = 6, COLS = 20, N = ROWS * COLS };

typedef struct rig {
    qt_store  *store;
    qt_site   *site;
    qt_tape   *tape;
    qt_tensor *x, *y;
} rig;

static rig rig_new(qt_role role, const char *spec)
{
    rig       r = {qt_store_new(1), .tape = qt_tape_new()};
    qt_tensor like = {.rank = 2, .dim = {ROWS, COLS}, .n = N};
    r.site = qt_site_new(r.store, "q", role, spec, &like);
    assert_non_null(r.site);
    assert_ok(qt_store_seal(r.store, 0));
    return r;
}

static void rig_free(rig *r)
{
    qt_tape_free(r->tape), qt_store_free(r->store);
}

static void rig_run(rig *r, const R *x, const R *dy)
{
    qt_tape_reset(r->tape);
    r->x = qt_variable(r->tape, 2, (int64_t[]){ROWS, COLS});
    memcpy(r->x->data, x, N * sizeof *x);
    r->y = qt_quantize(r->tape, r->site, r->x);
    assert_ok(qt_tape_error(r->tape));
    if (dy) assert_ok(qt_backward_from(r->tape, r->y, dy));
}

static void fill(R *x, uint64_t seed)
{
    qt_rng r = qt_rng_at(seed, 3);
    for (int i = 0; i < N; i++) x[i] = (R)qt_rng_normal(&r);
}

static const char table[] = "{use: elastic, num_bits: [4, 2]}";
/* bits, asymmetric, channel, and where its steps begin */
static const struct { qt_precision p; int at, n; } entry[] = {
    {{4, false, false}, 0, 1}, {{4, false, true}, 1, ROWS}, {{4, true, false}, 7, 1}, {{4, true, true}, 8, ROWS},
    {{2, false, false}, 14, 1}, {{2, false, true}, 15, ROWS}, {{2, true, false}, 21, 1}, {{2, true, true}, 22, ROWS}};

static void test_precisions(void **state)
{
    (void)state;
    qt_precision list[QT_MAX_PRECISIONS];
    rig          w = rig_new(QT_ROLE_WEIGHT, table), a = rig_new(QT_ROLE_ACT, table);
    assert_int_equal(qt_site_precisions(w.site, list), 8);
    for (int i = 0; i < 8; i++)
        assert_true(list[i].bits == entry[i].p.bits && list[i].asymmetric == entry[i].p.asymmetric && list[i].channel == entry[i].p.channel);
    assert_int_equal(qt_site_precisions(a.site, list), 4);
    assert_true(qt_site_switch(w.site, (qt_precision){2, true, true}) && w.site->quant->bits(w.site) == 2);
    assert_false(qt_site_switch(w.site, (qt_precision){3, true, true}));
    assert_true(w.site->quant->bits(w.site) == 2);
    assert_false(qt_site_switch(a.site, (qt_precision){2, false, true}));
    assert_int_equal(qt_param_find(w.store, "q.scale")->n, 28);
    assert_int_equal(qt_param_find(w.store, "q.offset")->n, 14);
    rig_free(&w), rig_free(&a);
    qt_tensor like = {.rank = 1, .dim = {4}, .n = 4};
    qt_store *s = qt_store_new(1);
    assert_null(qt_site_new(s, "q", QT_ROLE_WEIGHT, "{use: elastic, num_bits: [4, 8]}", &like));
    qt_error_clear(), qt_store_free(s);
}

/* Only the entry that a site is switched to starts, quantizes and gets gradients; a calibration starts all. */
static void test_entries(void **state)
{
    (void)state;
    R   x[N], dy[N];
    rig r = rig_new(QT_ROLE_WEIGHT, table);
    fill(x, 1), fill(dy, 2);
    qt_tensor *s = qt_param_find(r.store, "q.scale"), *o = qt_param_find(r.store, "q.offset"), *known = qt_param_find(r.store, "q.initialized");
    for (int i = 0; i < 8; i++) {
        qt_store_zero_grad(r.store);
        assert_true(qt_site_switch(r.site, entry[i].p));
        assert_true(known->data[i] == 0);
        rig_run(&r, x, dy);
        for (int k = 0; k < 8; k++) assert_true((known->data[k] == 1) == (k <= i));
        for (int k = 0; k < s->n; k++) assert_true((s->grad[k] != 0) == (k >= entry[i].at && k < entry[i].at + entry[i].n));
        int offsets = 0, at = entry[i].at % 14 - 7 + (entry[i].p.bits == 2) * 7; /* they begin with the first asymmetric entry */
        for (int k = 0; k < o->n; k++) offsets += o->grad[k] != 0;
        for (int k = 0; k < o->n; k++) assert_true(o->grad[k] == 0 || (k >= at && k < at + entry[i].n));
        if (entry[i].p.bits == 2) assert_true((offsets > 0) == entry[i].p.asymmetric);
        assert_true((r.y->codes != NULL) == !entry[i].p.asymmetric);
    }
    rig_free(&r);
    r = rig_new(QT_ROLE_ACT, table);
    r.site->bypass = true;
    rig_run(&r, x, NULL);
    assert_ptr_equal(r.y, r.x);
    for (int k = 0; k < 4; k++) assert_true(qt_param_find(r.store, "q.initialized")->data[k] == 1);
    rig_free(&r);
}

/* sum |x - y|^2.4 of a range, as a grid of bits from lo or symmetric. */
static double error_of(const R *x, double s, double o, double qn, double qp)
{
    double sum = 0;
    for (int i = 0; i < N; i++) {
        double code = rint(((double)x[i] - o) / (s + 1e-6));
        sum += pow(fabs(fmin(fmax(code, qn), qp) * (s + 1e-6) + o - (double)x[i]), 2.4);
    }
    return sum;
}

/* No range of the 80 is better than the one an entry starts with; activations that are never negative have codes from 0 on. */
static void test_start(void **state)
{
    (void)state;
    for (int asymmetric = 0; asymmetric < 2; asymmetric++)
        for (int positive = 0; positive < 2; positive++) {
            R      x[N];
            double lo = 1e9, hi = -1e9;
            rig    r = rig_new(QT_ROLE_ACT, "{use: elastic, num_bits: [3]}");
            fill(x, 5);
            if (positive)
                for (int i = 0; i < N; i++) x[i] = (R)fabs((double)x[i]);
            for (int i = 0; i < N; i++) lo = fmin(lo, (double)x[i]), hi = fmax(hi, (double)x[i]);
            const double qn = positive ? 0 : -4, qp = positive ? 7 : 3, top = fmax(-lo, hi);
            qt_site_switch(r.site, (qt_precision){3, asymmetric, false});
            rig_run(&r, x, NULL);
            assert_true(qt_param_find(r.store, "q.unsigned")->data[0] == positive);
            double s = (double)qt_param_find(r.store, "q.scale")->data[asymmetric];
            double o = asymmetric ? (double)qt_param_find(r.store, "q.offset")->data[0] : 0;
            double own = error_of(x, s, o, qn, qp), best = 1e9;
            for (int i = 0; i < 80; i++) {
                double f = (100 - i) / 100.0, step = asymmetric ? f * (hi - lo) / 7 : positive ? f * top / 7 : 2 * f * top / 7;
                best = fmin(best, error_of(x, step, asymmetric ? f * lo - qn * step : 0, qn, qp));
            }
            assert_true(own <= best * 1.0001);
            rig_free(&r);
        }
}

/* Against the difference quotient of the function whose rounding and clamp are frozen. */
static void test_gradient(void **state)
{
    (void)state;
    const double h = 1e-5, eps = 1e-6;
    R            x[N], dy[N];
    rig          r = rig_new(QT_ROLE_WEIGHT, table);
    fill(x, 6), fill(dy, 7);
    qt_site_switch(r.site, (qt_precision){2, true, true});
    rig_run(&r, x, NULL);
    rig_run(&r, x, dy);
    const qt_tensor *s = qt_param_find(r.store, "q.scale"), *o = qt_param_find(r.store, "q.offset");
    const double     g = 2 / sqrt(1.0 * N / COLS);
    for (int k = 0; k < ROWS; k++) {
        double s0 = (double)s->data[22 + k] + eps, o0 = (double)o->data[8 + k], ds = 0, dof = 0;
        for (int i = k * COLS; i < (k + 1) * COLS; i++) {
            double u = ((double)x[i] - o0) / s0, code = rint(u), d = (double)dy[i], dx = 0;
            bool   inside = u > -2 && u < 1;
            double end = u <= -2 ? -2 : 1;
            for (int sign = -1; sign <= 1; sign += 2) {
                double a = s0 + sign * h;
                ds += sign * d * (inside ? (((double)x[i] - o0) / a + (code - u)) * a + o0 : end * a + o0) / (2 * h);
                dof += sign * d * (inside ? (double)x[i] + (code - u) * s0 : end * s0 + o0 + sign * h) / (2 * h);
                dx += sign * d * (inside ? (double)x[i] + sign * h + (code - u) * s0 : end * s0 + o0) / (2 * h);
            }
            assert_true(fabs((double)r.x->grad[i] - dx) < 1e-5);
        }
        assert_true(fabs((double)s->grad[22 + k] - g * ds) < 1e-4 && fabs((double)o->grad[8 + k] - g * dof) < 1e-4);
    }
    rig_free(&r);
}

/* ---- the shape of a distribution ------------------------------------------------------------------------------------------- */

/* The regularization alone makes a skewed normal matrix uniform: factors and rate as in training, 400 steps. */
static void test_distribution(void **state)
{
    (void)state;
    qt_store     *s = qt_store_new(1);
    qt_tape      *t = qt_tape_new();
    qt_tensor    *w = qt_param_add(s, "w", QT_WEIGHT, QT_INIT_CONST(0), 2, (int64_t[]){64, 72}), *loss, *kurt = NULL, *skew = NULL;
    qt_rng        r = qt_rng_at(11, 1);
    double        first = 0;
    assert_ok(qt_store_seal(s, 2));
    qt_optimizer *o = qt_optimizer_new(s, "{use: adam, lr: 1e-3}");
    for (int i = 0; i < w->n; i++) {
        double z = qt_rng_normal(&r);
        w->data[i] = (R)(0.05 * (z + 0.1 * (z * z - 1)));
    }
    for (int k = 0; k <= 400; k++) {
        qt_tape_reset(t);
        qt_tensor *target = qt_input(t, 1, (int64_t[]){1});
        target->data[0] = (R)1.8;
        kurt = qt_moment(t, w, 4), skew = qt_moment(t, w, 3);
        if (!k) first = (double)skew->data[0];
        qt_tensor *d = qt_sub(t, kurt, target);
        loss = qt_add(t, qt_scale(t, qt_mul(t, d, d), 0.015), qt_mul(t, skew, skew));
        assert_ok(qt_backward(t, loss));
        if (k < 400) assert_ok(qt_optimizer_step(o, 1));
    }
    assert_true(first > 0.4);
    if (!(fabs((double)kurt->data[0] - 1.8) < 0.02 && fabs((double)skew->data[0]) < 0.01))
        fail_msg("kurtosis %g, skewness %g", (double)kurt->data[0], (double)skew->data[0]);
    qt_optimizer_free(o), qt_tape_free(t), qt_store_free(s);
}

/* ---- runs ------------------------------------------------------------------------------------------------------------------ */

static const char recipe[] =
    "recipe: 1\nname: e\ndata: {use: digits, batch_size: 32, normalize: unit}\n"
    "model: [flatten, {use: linear, out: 24, name: a}, {use: batch_norm, name: n}, relu, {use: linear, out: 16, name: b}, relu,\n"
    "        {use: linear, out: 10, name: c}]\n"
    "quant: [{match: '*', weights: {use: elastic, num_bits: [8, 4, 2]}, activations: {use: elastic, num_bits: [8, 4, 2]}},\n"
    "        {match: last, weights: {use: elastic, num_bits: 8}, activations: {use: elastic, num_bits: 8}}]\n"
    "regularize: [{use: kurtosis, match: b, weight: 0.015}, {use: skewness, match: b, weight: 1}]\n"
    "step: {use: sandwich, subnets: 4}\noptim: {use: adam, lr: 5e-3, clip_grad_value: 1}\n"
    "phases: [{use: calibrate, batches: 1, batch_size: 200}, train]\n"
    "train: {steps: 60, eval_every: 30, save_every: 25, keep: 4, log_every: 0, threads: 1}\n";

static qt_run *begin(qt_arena *a, const char *dir, int n, const char *const *sets)
{
    qt_recipe *rc;
    qt_run    *r;
    put_file("r.yaml", recipe);
    assert_ok(qt_recipe_load(a, "r.yaml", n, sets, NULL, &rc));
    assert_ok(qt_run_new(rc, dir, NULL, true, QT_PROGRESS_QUIET, &r));
    return r;
}

/* All values after a run. */
static R *values(const char *dir, int n, const char *const *sets, int64_t *size)
{
    qt_arena  a = {0};
    qt_run   *r = begin(&a, dir, n, sets);
    qt_result res;
    assert_ok(qt_run_go(r, &res));
    R *v = qt_alloc((size_t)(*size = r->store->size) * sizeof *v);
    memcpy(v, r->store->value, (size_t)*size * sizeof *v);
    qt_run_free(r), qt_arena_free(&a);
    return v;
}

static double measured(const char *dir, const char *path, const char *key)
{
    qt_arena       a = {0};
    const qt_yaml *y;
    double         v = NAN;
    assert_ok(qt_metrics_last(&a, dir, "measure", path, &y));
    if (!y || !qt_yaml_real(qt_yaml_get(y, key), &v)) fail_msg("no %s of %s", key, path);
    qt_arena_free(&a);
    return v;
}

/* The same bits with two threads, and after a stop at each of the first steps. */
static void test_same_bits(void **state)
{
    (void)state;
    const char  *sets[] = {"phases=[train]", "train.threads=2"};
    int64_t      n, m;
    R           *one = values("one", 1, sets, &n), *two = values("two", 2, sets, &m);
    qt_arena     a = {0};
    qt_run      *r = begin(&a, "half", 1, sets);
    qt_result    res;
    volatile int stop = 1;
    assert_int_equal(n, m);
    assert_memory_equal(one, two, (size_t)n * sizeof *one);
    for (int k = 0; k < 3; k++) {
        r->stop = &stop;
        assert_int_equal(qt_run_go(r, &res), QT_ESTOPPED);
        qt_error_clear(), qt_run_free(r);
        assert_ok(qt_run_resume("half", QT_PROGRESS_QUIET, &r));
    }
    assert_ok(qt_run_go(r, &res));
    assert_memory_equal(one, r->store->value, (size_t)n * sizeof *one);
    qt_run_free(r), qt_arena_free(&a), qt_free(one), qt_free(two);
}

static int64_t allocations(const char *dir, const char *steps)
{
    qt_arena  a = {0};
    qt_run   *r = begin(&a, dir, 3, (const char *[]){steps, "train.eval_every=0", "train.save_every=1000"});
    qt_result res;
    int64_t   before = qt_alloc_count();
    assert_ok(qt_run_go(r, &res));
    before = qt_alloc_count() - before;
    qt_run_free(r), qt_arena_free(&a);
    return before;
}

static void test_no_allocation(void **state)
{
    (void)state;
    assert_int_equal(allocations("few", "train.steps=20"), allocations("many", "train.steps=40"));
}

/* One step by hand: the passes of a step in order, their gradients added, regularizers once. */
static void test_sandwich(void **state)
{
    (void)state;
    qt_arena        a = {0};
    const char     *sets[] = {"optim={use: sgd, lr: 0.1}", "train.steps=1", "step.subnets=2", "~phases", "train.eval_every=0", "quant[0].weights.granularity=tensor",
                              "quant[0].weights.symmetry=symmetric", "quant[0].activations.symmetry=symmetric", "quant[1].weights.granularity=tensor",
                              "quant[1].weights.symmetry=symmetric", "quant[1].activations.symmetry=symmetric"};
    qt_run         *r = begin(&a, "hand", 11, sets);
    const qt_batch *b;
    qt_tensor      *out, *loss;
    int64_t         n;
    R               logits[32 * 10];
    assert_ok(qt_loader_train(r->data, (uint64_t)r->recipe->seed, 0, &r->loader));
    assert_ok(qt_loader_next(r->loader, &b));
    assert_ok(qt_step_forward(r, b, &out, &loss)); /* the highest bits */
    memcpy(logits, out->data, sizeof logits);
    assert_ok(qt_backward(r->tape, loss));
    qt_subnet_uniform(r, (qt_precision){2, false, false});
    qt_step_open(r);
    loss = qt_run_forward(r, b, &out);
    qt_tensor *teacher = qt_input(r->tape, 2, out->dim);
    for (int i = 0; i < 32; i++) {
        double sum = 0;
        for (int k = 0; k < 10; k++) sum += exp((double)logits[i * 10 + k]);
        for (int k = 0; k < 10; k++) teacher->data[i * 10 + k] = (R)(exp((double)logits[i * 10 + k]) / sum);
    }
    loss = qt_add(r->tape, qt_scale(r->tape, loss, 0.5), qt_scale(r->tape, qt_kl(r->tape, qt_log_softmax(r->tape, out), teacher), 0.5));
    assert_ok(qt_backward(r->tape, loss));
    assert_ok(qt_step_update(r, 1, 1));
    R *v = values("step", 11, sets, &n), most = 0;
    for (int64_t i = 0; i < n; i++) most = (R)fmax((double)most, fabs((double)v[i] - (double)r->store->value[i]));
    assert_true(most < 1e-6);
    qt_run_free(r), qt_arena_free(&a), qt_free(v);
}

/* Each subnet has its own accuracy; evaluation leaves nothing behind; every layer has the bits that were asked for. */
static void test_eval_elastic(void **state)
{
    (void)state;
    const char *with[] = {"phases=[{use: calibrate, batches: 1, batch_size: 200}, train, {use: eval_elastic, num_bits: [8, 2]}]"};
    int64_t     n, m;
    R          *plain = values("plain", 0, NULL, &n), *evaluated = values("all", 1, with, &m);
    assert_int_equal(n, m);
    assert_memory_equal(plain, evaluated, (size_t)n * sizeof *plain);
    double t = measured("all", "bits2-tensor", "accuracy"), c = measured("all", "bits2-channel", "accuracy"), b2 = measured("all", "bits2", "accuracy");
    assert_true(fabs((t + c) / 2 - b2) < 1e-8 && b2 > 0.3 && measured("all", "bits8", "accuracy") > b2);
    assert_true(fabs((b2 + measured("all", "bits8", "accuracy")) / 2 - measured("all", "elastic", "accuracy")) < 1e-8);
    qt_free(plain), qt_free(evaluated);
}

/* The running mean after k batches is the mean of theirs, and the phase is what the function is. */
static void test_recalibrate(void **state)
{
    (void)state;
    enum { BATCHES = 5, C = 64 };
    qt_arena        a = {0};
    const char     *sets[] = {"model=[flatten, {use: batch_norm, name: n}, {use: linear, out: 10, name: c}]", "~quant", "~regularize", "~step",
                              "phases=[{use: recalibrate_bn, batches: 5}]"};
    qt_run         *r = begin(&a, "bn", 5, sets);
    qt_loader      *l;
    const qt_batch *b;
    qt_result       res;
    double          mean[C] = {0}, var[C] = {0};
    assert_ok(qt_run_go(r, &res));
    assert_ok(qt_loader_train(r->data, (uint64_t)r->recipe->seed, 0, &l));
    for (int k = 0; k < BATCHES; k++) {
        assert_ok(qt_loader_next(l, &b));
        for (int c = 0; c < C; c++) {
            double m = 0, v = 0;
            for (int i = 0; i < 32; i++) m += (double)b->x[i * C + c] / 32;
            for (int i = 0; i < 32; i++) v += pow((double)b->x[i * C + c] - m, 2) / 31;
            mean[c] += m / BATCHES, var[c] += v / BATCHES;
        }
    }
    for (int c = 0; c < C; c++) {
        assert_true(fabs((double)qt_param_find(r->store, "n.running_mean")->data[c] - mean[c]) < 1e-5);
        assert_true(fabs((double)qt_param_find(r->store, "n.running_var")->data[c] - var[c]) < 1e-5);
    }
    qt_loader_free(l), qt_run_free(r), qt_arena_free(&a);
}

#define SEARCH "{use: search, target: 4, samples: 24, random: 8, batches: 1, rounds: 20, width: 32, steps: 100}"

static void test_search(void **state)
{
    (void)state;
    const char *with[] = {"phases=[{use: calibrate, batches: 1, batch_size: 200}, train, " SEARCH "]"};
    int64_t     n, m;
    R          *plain = values("plain", 0, NULL, &n), *searched = values("searched", 1, with, &m), *again = values("again", 1, with, &m);
    assert_memory_equal(plain, searched, (size_t)n * sizeof *plain);
    assert_memory_equal(searched, again, (size_t)n * sizeof *again);
    double w = measured("searched", "search", "bits_weights"), x = measured("searched", "search", "bits_activations");
    assert_true(w > 3.5 && w <= 4 && x > 3.5 && x <= 4);
    assert_true(fabs((measured("searched", "subnet.a", "weight") + measured("searched", "subnet.b", "weight")) / 2 - w) < 1e-9);
    assert_true(measured("searched", "subnet.c", "weight") == 8); /* pinned */
    assert_true(measured("searched", "search", "accuracy") == measured("again", "search", "accuracy"));
    assert_true(measured("searched", "search", "accuracy") >= measured("searched", "search", "median"));
    assert_true(measured("searched", "search", "tau") > -1);
    qt_free(plain), qt_free(searched), qt_free(again);
}

/* Another quantizer with several precisions, steps for each, is trained and searched as well. */
static void test_search_others(void **state)
{
    (void)state;
    const char *other[] = {"phases=[train, {use: calibrate, batches: 1}, " SEARCH "]",
                           "quant=[{match: '*', weights: {use: double_rounding, bits: [8, 4, 2]}, activations: {use: lsq, num_bits: [8, 4, 2], signed: false}}]"};
    int64_t     n;
    qt_free(values("others", 2, other, &n));
    double w = measured("others", "search", "bits_weights");
    assert_true(w > 3.5 && w <= 4 && measured("others", "search", "accuracy") >= measured("others", "search", "median"));
}

/* A language model: each token's outputs guide. */
static void test_text(void **state)
{
    (void)state;
    qt_arena   a = {0};
    qt_recipe *rc;
    qt_run    *r;
    qt_result  res;
    char       text[4000] = "";
    for (int i = 0; i < 60; i++) strcat(text, "the quick brown fox jumps over the lazy dog. ");
    put_file("text.txt", text);
    put_file("t.yaml", "recipe: 1\ndata: {use: text, path: text.txt, seq_len: 16, batch_size: 8}\n"
                       "model: [{use: embedding, num: 256, dim: 16}, {use: linear, out: 32, name: up}, relu, {use: linear, out: 256, name: head}]\n"
                       "quant: [{match: [up, head], weights: {use: elastic, num_bits: [4, 2]}, activations: {use: elastic, num_bits: [4, 2]}}]\n"
                       "step: sandwich\noptim: {use: adam, lr: 1e-2}\ntrain: {steps: 80, threads: 1}\n");
    assert_ok(qt_recipe_load(&a, "t.yaml", 0, NULL, NULL, &rc));
    assert_ok(qt_run_new(rc, "text", NULL, true, QT_PROGRESS_QUIET, &r));
    assert_ok(qt_run_go(r, &res));
    assert_true(res.tokens && res.loss < 2.5); /* from 5.5 */
    qt_run_free(r), qt_arena_free(&a);
}

static void refuse(int n, const char *const *sets, const char *message)
{
    qt_arena   a = {0};
    qt_recipe *r;
    put_file("r.yaml", recipe);
    assert_int_equal(qt_recipe_load(&a, "r.yaml", n, sets, NULL, &r), QT_ERECIPE);
    if (!strstr(qt_error_text(), message)) fail_msg("'%s' is not '%s'", qt_error_text(), message);
    qt_error_clear();
    qt_arena_free(&a);
}

static void test_refused(void **state)
{
    (void)state;
    refuse(1, (const char *[]){"~quant"}, "step: sandwich needs quantizers that hold several precisions");
    refuse(1, (const char *[]){"phases=[train, {use: eval_elastic, num_bits: [8, 5]}]"}, "no quantizer of the model can be switched to 5 bits");
    refuse(1, (const char *[]){"phases=[train, {use: search, target: 1.5}]"}, "target 1.5 cannot be reached, mean bits of weights are 2 to 8");
    refuse(3, (const char *[]){"phases=[train, {use: search, target: 3}]", "quant=[{match: '*', weights: {use: lsq, num_bits: 4}}]", "~step"},
           "search wants weights that can be switched");
    refuse(1, (const char *[]){"quant[0].weights.num_bits=[2, 8]"}, "expected the highest first");
    refuse(5, (const char *[]){"phases=[train, {use: search, target: 3}]", "data={use: regression}",
                               "model=[{use: linear, out: 8, name: b}, relu, {use: linear, out: 1}]", "~regularize", "~quant"},
           "search goes by accuracy");
}

/* ---- the predictor --------------------------------------------------------------------------------------------------------- */

static void test_tau(void **state)
{
    (void)state;
    const double a[] = {1, 2, 3, 4, 5}, down[] = {5, 4, 3, 2, 1}, near[] = {1, 2, 3, 5, 4}, ties[] = {1, 1, 2, 2, 2}, flat[] = {7, 7, 7, 7, 7};
    assert_true(qt_kendall_tau(5, a, a) == 1 && qt_kendall_tau(5, a, down) == -1);
    assert_true(fabs(qt_kendall_tau(5, a, near) - 0.8) < 1e-12);
    assert_true(fabs(qt_kendall_tau(5, a, ties) - 6 / sqrt(60)) < 1e-12);
    assert_true(isnan(qt_kendall_tau(5, a, flat)));
}

/* A sum over choices with a product of two: learned from examples, the order of others comes out. */
static void test_predictor(void **state)
{
    (void)state;
    enum { GENES = 6, CHOICES = 4, ALL = 260, SEEN = 200, IN = GENES * CHOICES };
    static R      x[ALL * IN];
    double        y[ALL], asked[ALL];
    qt_rng        r = qt_rng_at(21, 1);
    qt_predictor *p;
    for (int i = 0; i < ALL; i++) {
        int g[GENES];
        y[i] = 0.8;
        for (int k = 0; k < GENES; k++) x[i * IN + k * CHOICES + (g[k] = (int)qt_rng_below(&r, CHOICES))] = 1, y[i] += 0.002 * (k + 1) * sqrt(g[k]);
        y[i] += 0.01 * (g[0] == g[1]);
    }
    assert_ok(qt_predictor_new(1, IN, 64, &p));
    assert_ok(qt_predictor_fit(p, SEEN, x, y, 300));
    assert_ok(qt_predictor_ask(p, ALL, x, asked));
    assert_true(qt_kendall_tau(ALL - SEEN, asked + SEEN, y + SEEN) > 0.8);
    for (int i = 0; i < ALL; i++) assert_true(fabs(asked[i] - y[i]) < 0.03);
    qt_predictor_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_precisions),  cmocka_unit_test(test_entries),      cmocka_unit_test(test_start),     cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_distribution), cmocka_unit_test(test_same_bits),   cmocka_unit_test(test_no_allocation), cmocka_unit_test(test_sandwich),
        cmocka_unit_test(test_eval_elastic), cmocka_unit_test(test_recalibrate), cmocka_unit_test(test_search),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_search_others), cmocka_unit_test(test_text),
        cmocka_unit_test(test_tau),          cmocka_unit_test(test_predictor),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
