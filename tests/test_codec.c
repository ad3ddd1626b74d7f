/* What the tape keeps for backward: that each op's `reads` says enough, that a thrifty tape and its codecs change no result, and the codec
 * mesa's own statements. */
#include "train_util.h"
#include <math.h>
#include "autograd/codec.h"
#include "autograd/gradcheck.h"
#include "ops/ops.h"

/* ---- every op: with all that it does not read gone, the same gradients -------------------------------------------------------------- */

/* Runs a case; thrifty: what nobody reads is taken away before backward. dx of input k is copied into grad[k]. */
static void run_case(qt_tape *t, const qt_case *c, qt_arena *a, R *grad[QT_MAX_IN], bool thrifty)
{
    qt_tensor *in[QT_MAX_IN], *y;
    qt_rng     r = qt_rng_named(5, "dy/%s", c->name);
    qt_tape_reset(t);
    t->thrifty = thrifty;
    qt_tape_mode(t, !c->eval, true);
    for (int k = 0; k < qt_case_inputs(c); k++) in[k] = qt_case_input(t, c, k, 11);
    y = c->build(t, in);
    assert_ok(qt_tape_error(t));
    for (int i = 0; i < t->n; i++) qt_tape_done(t, t->node[i].out);
    for (int k = 0; k < qt_case_inputs(c); k++)
        if (c->in[k].domain != 'c') qt_tape_done(t, in[k]); /* those stand for parameters, whose memory stays */
    if (!qt_wants_grad(y)) return;
    R *dy = qt_arena_alloc(a, (size_t)y->n * sizeof(R));
    for (int64_t i = 0; i < y->n; i++) dy[i] = (R)qt_rng_normal(&r);
    assert_ok(qt_backward_from(t, y, dy));
    for (int k = 0; k < qt_case_inputs(c); k++) {
        if (!in[k]->grad) continue;
        grad[k] = qt_arena_alloc(a, (size_t)in[k]->n * sizeof(R));
        memcpy(grad[k], in[k]->grad, (size_t)in[k]->n * sizeof(R));
    }
}

static void same_case(qt_tape *t, const char *op, const qt_case *c, int64_t *kept)
{
    qt_arena a = {0};
    R       *want[QT_MAX_IN] = {NULL}, *got[QT_MAX_IN] = {NULL};
    run_case(t, c, &a, want, false);
    run_case(t, c, &a, got, true);
    *kept += t->n_pack;
    for (int k = 0; k < qt_case_inputs(c); k++) {
        int64_t n = 1;
        for (int i = 0; i < QT_MAX_DIM && c->in[k].dim[i]; i++) n *= c->in[k].dim[i];
        if (!want[k] || !memcmp(want[k], got[k], (size_t)n * sizeof(R))) continue;
        fail_msg("%s, case %s: other gradients of input %d", op, c->name, k);
    }
    qt_arena_free(&a);
}

static void test_ops_read_what_they_say(void **state)
{
    int64_t  kept = 0;
    qt_tape *t = qt_tape_new();
    (void)state;
    for (const qt_desc *const *d = qt_ops.all; *d; d++)
        for (const qt_case *c = ((const qt_op *)*d)->cases; c->name; c++) same_case(t, (*d)->name, c, &kept);
    assert_true(kept > 0); /* relu's masks */
    for (const qt_desc *const *d = qt_quants.all; *d; d++)
        if (((const qt_quant *)*d)->op)
            for (const qt_case *c = ((const qt_quant *)*d)->op->cases; c->name; c++) same_case(t, (*d)->name, c, &kept);
    qt_tape_free(t);
}

/* ---- mesa on a tensor ------------------------------------------------------------------------------------------------------------- */

/* A lone linear layer without bias, y = x w^T, on a thrifty tape; x [N, I]. */
typedef struct lone {
    qt_store  *store;
    qt_tensor *w, state;
    qt_saver   saver;
    qt_tape   *tape;
    qt_arena   arena;
    R          ranges[QT_SAVER_TENSORS * 16];
} lone;

static void lone_begin(lone *l, const char *spec, int64_t I)
{
    const qt_codec *c;
    qt_yaml        *y;
    void           *cfg;
    memset(l, 0, sizeof *l);
    l->store = qt_store_new(3);
    l->w = qt_param_add(l->store, "w", QT_WEIGHT, QT_INIT_FAN_IN(I), 2, (int64_t[]){5, I});
    assert_ok(qt_store_seal(l->store, 0));
    assert_ok(qt_yaml_parse(&l->arena, spec, strlen(spec), "spec", &y));
    c = (const qt_codec *)qt_desc_find(&qt_codecs, "mesa", (qt_pos){0});
    cfg = qt_arena_zalloc(&l->arena, c->d.cfg_size);
    assert_ok(qt_fields_read(y, "memory", c->d.fields, "codec", cfg));
    l->state = (qt_tensor){.data = l->ranges, .n = QT_SAVER_TENSORS * 16};
    l->saver = (qt_saver){.codec = c, .cfg = cfg, .path = "w.saved", .groups = c->groups(cfg, 4), .state = &l->state};
    assert_true(l->saver.groups <= 8);
    for (int i = 0; i < QT_SAVER_TENSORS * 16; i++) l->ranges[i] = (R)c->fresh;
    l->tape = qt_tape_new();
    l->tape->thrifty = true, l->tape->seed = 9;
}

static void lone_end(lone *l)
{
    qt_tape_free(l->tape), qt_store_free(l->store), qt_arena_free(&l->arena);
}

/* Forward of x; the codec has x afterwards. */
static qt_tensor *lone_forward(lone *l, int64_t N, int64_t I, const R *x, int64_t step)
{
    qt_tensor *in, *y;
    qt_tape_reset(l->tape);
    l->tape->step = step, l->saver.used = 0;
    in = qt_input(l->tape, 2, (int64_t[]){N, I});
    memcpy(in->data, x, (size_t)(N * I) * sizeof(R));
    l->tape->saver = &l->saver, l->tape->path = "w";
    y = qt_linear(l->tape, in, l->w, NULL);
    l->tape->saver = NULL, l->tape->path = NULL;
    qt_tape_done(l->tape, in);
    assert_null(in->data);
    assert_int_equal(l->tape->n_pack, 1);
    return y;
}

static const R *lone_decoded(lone *l, int64_t n)
{
    R *y = qt_arena_alloc(&l->arena, (size_t)n * sizeof(R));
    qt_pack_decode(&l->tape->pack[0], y);
    return y;
}

static void draw(R *x, int64_t n, uint64_t seed, double mean, double sd)
{
    qt_rng r = qt_rng_at(seed, 1);
    for (int64_t i = 0; i < n; i++) x[i] = (R)(mean + sd * qt_rng_normal(&r));
}

/* x~ is within one step of x, half a step to the nearest; the group's least and largest number are themselves. */
static void test_steps(void **state)
{
    static const char *const spec[] = {"{codec: mesa, group: layer, stochastic: false}", "{codec: mesa, group: 4, stochastic: false}", "{codec: mesa, group: 4}",
                                       "{codec: mesa, group: head, num_bits: 4}", "{codec: mesa, group: layer, num_bits: 3, stochastic: false}"};
    static const struct { int64_t groups, levels; double steps; } want[] = {{1, 255, 0.5}, {4, 255, 0.5}, {4, 255, 1}, {4, 15, 1}, {1, 7, 0.5}};
    enum { N = 300, I = 64 };
    static R x[N * I];
    (void)state;
    for (int k = 0; k < 5; k++) {
        lone l;
        lone_begin(&l, spec[k], I);
        draw(x, N * I, 1, 0.3, 2);
        lone_forward(&l, N, I, x, 0);
        const R       *y = lone_decoded(&l, N * I);
        const qt_pack *p = &l.tape->pack[0];
        assert_int_equal(p->groups, want[k].groups);
        assert_int_equal(p->bytes, (want[k].levels < 16 ? N * I / 2 : N * I) + 2 * p->groups * (int64_t)sizeof(R));
        for (int64_t i = 0; i < N * I; i++) {
            double alpha = (double)p->range[i / p->inner % p->groups * 2], step = alpha / (double)want[k].levels;
            assert_true(fabs((double)y[i] - (double)x[i]) <= (want[k].steps + 1e-3) * step);
        }
        lone_end(&l);
    }
}

/* The range follows slowly; what lies above it is clipped to its end, not wrapped around. */
static void test_range(void **state)
{
    lone    l;
    const R first[8] = {-1, 1, 0, 0, 0, 0, 0, 0}, later[8] = {-1, 3, 0, 0, 0, 0, 0, 0}, same[8] = {5, 5, 5, 5, 5, 5, 5, 5};
    (void)state;
    lone_begin(&l, "{codec: mesa, group: layer, stochastic: false}", 8);
    lone_forward(&l, 1, 8, first, 0);
    assert_true(l.ranges[0] == 2 && l.ranges[1] == -1);
    assert_true(lone_decoded(&l, 8)[1] == 1);
    lone_forward(&l, 1, 8, later, 1);
    assert_true(fabs((double)l.ranges[0] - 2.2) < 1e-6 && l.ranges[1] == -1); /* 2 - 0.1 (2 - 4) */
    assert_true(fabs((double)lone_decoded(&l, 8)[1] - 1.2) < 1e-6);
    lone_end(&l);
    lone_begin(&l, "{codec: mesa, group: layer}", 8);
    lone_forward(&l, 1, 8, same, 0);
    for (int i = 0; i < 8; i++) assert_true(lone_decoded(&l, 8)[i] == 5); /* alpha = 0 */
    lone_end(&l);
}

/* Channels that do not share out make one group. */
static void test_groups(void **state)
{
    static R x[3 * 49];
    lone     l;
    (void)state;
    lone_begin(&l, "{codec: mesa, group: head}", 49);
    draw(x, 3 * 49, 1, 0, 1);
    lone_forward(&l, 3, 49, x, 0);
    assert_int_equal(l.tape->pack[0].groups, 1);
    lone_end(&l);
}

/* ||a - b|| / ||b|| */
static double relative(const double *a, const R *b, int64_t n)
{
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) d += (a[i] - (double)b[i]) * (a[i] - (double)b[i]), s += (double)b[i] * (double)b[i];
    return sqrt(d / s);
}

/* Of a lone linear layer whose range covers the batch, the mean of dw over n draws comes near the exact dw as 1/sqrt(n); with a range that
 * is a fifth too small, a bias stays. */
static double error_of_mean(lone *l, const R *x, const R *exact, const R *dy, int64_t N, int64_t I, int draws)
{
    double sum[5 * 64] = {0};
    for (int d = 0; d < draws; d++) {
        qt_tensor *y = lone_forward(l, N, I, x, d);
        memset(l->w->grad, 0, (size_t)l->w->n * sizeof(R));
        assert_ok(qt_backward_from(l->tape, y, dy));
        for (int64_t i = 0; i < l->w->n; i++) sum[i] += (double)l->w->grad[i] / draws;
    }
    return relative(sum, exact, l->w->n);
}

static void test_unbiased(void **state)
{
    enum { N = 128, I = 64, DRAWS = 200 };
    static R x[N * I], dy[N * 5], exact[5 * I];
    lone     l;
    double   one, many;
    (void)state;
    draw(x, N * I, 7, 0, 1), draw(dy, N * 5, 8, 0, 1);
    for (int o = 0; o < 5; o++)
        for (int i = 0; i < I; i++) {
            double s = 0;
            for (int n = 0; n < N; n++) s += (double)dy[n * 5 + o] * (double)x[n * I + i];
            exact[o * I + i] = (R)s;
        }
    lone_begin(&l, "{codec: mesa, group: layer, ema: 1}", I);
    one = error_of_mean(&l, x, exact, dy, N, I, 1);
    many = error_of_mean(&l, x, exact, dy, N, I, DRAWS);
    assert_true(one > 5e-4);
    assert_true(many < 1.5 * one / sqrt(DRAWS));
    l.ranges[0] *= (R)0.8, l.ranges[1] *= (R)0.8; /* ema 1: stays so */
    assert_true(error_of_mean(&l, x, exact, dy, N, I, DRAWS) > 4 * many);
    lone_end(&l);
}

/* ---- models ------------------------------------------------------------------------------------------------------------------------- */

static void train(const char *recipe, const char *set, const char *dir, int threads, double *loss)
{
    qt_arena    a = {0};
    qt_recipe  *r;
    qt_run     *run;
    qt_result   res;
    const char *sets[] = {set};
    put_file("r.yaml", recipe);
    qt_set_threads(threads);
    assert_ok(qt_recipe_load(&a, "r.yaml", set ? 1 : 0, sets, NULL, &r));
    assert_ok(qt_run_new(r, dir, NULL, true, QT_PROGRESS_QUIET, &run));
    assert_ok(qt_run_go(run, &res));
    if (loss) *loss = res.loss;
    qt_run_free(run), qt_arena_free(&a);
}

/* The lines of metrics.jsonl without what may differ: time, and memory. */
static char *metrics(const char *dir, bool memory)
{
    char  file[128], line[4096], *all = calloc(1, 1 << 18);
    FILE *f;
    snprintf(file, sizeof file, "%s/metrics.jsonl", dir);
    assert_non_null(f = fopen(file, "r"));
    while (fgets(line, sizeof line, f)) {
        char *cut = strstr(line, ", \"seconds\""), *saved = strstr(line, ", \"saved_");
        if (cut) *cut = 0;
        if (saved && !memory) *saved = 0;
        strcat(strcat(all, line), "\n");
    }
    fclose(f);
    return all;
}

static void assert_same(const char *a, const char *b, bool memory)
{
    char *x = metrics(a, memory), *y = metrics(b, memory);
    assert_string_equal(x, y);
    free(x), free(y);
}

#define DATA "recipe: 1\ndata: {use: digits, batch_size: 32, normalize: unit}\n"
#define TRAIN "train: {steps: 24, eval_every: 12, log_every: 1}\n"
static const char mlp[] = DATA TRAIN "model: [flatten, {use: linear, out: 64}, relu, {use: linear, out: 64}, layer_norm, gelu, {use: dropout, p: 0.1}, "
                                     "{use: linear, out: 10}]\n";
static const char quantized[] = DATA TRAIN "model: [flatten, {use: linear, out: 64}, batch_norm, relu, {use: linear, out: 64}, relu, {use: linear, out: 10}]\n"
                                           "quant: [{match: \"*\", weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 4, signed: false}}, "
                                           "{match: first, activations: {use: int, num_bits: 8}}]\n";
static const char integer[] = DATA TRAIN "model: [flatten, {use: linear, out: 64}, relu, {use: linear, out: 64}, relu, {use: linear, out: 64}, relu, {use: linear, out: 10}]\n"
                                         "quant: [{match: \"*\", weights: {use: uniform, num_bits: 4, narrow: true, ste: identity}, "
                                         "activations: {use: uniform, num_bits: 4, symmetric: false, dynamic: training, ste: identity}, "
                                         "grad: {use: shiftq, num_bits: 4, groups: 4}}]\n";

static const char learned[] = DATA TRAIN "model: [{use: conv2d, out: 16, kernel: 3, padding: 1, bias: false}, l1_batch_norm_int, relu, "
                                         "{use: conv2d, out: 16, kernel: 3, padding: 1, bias: false}, l1_batch_norm_int, relu, flatten, {use: linear, out: 10}]\n"
                                         "quant: [{match: \"*\", weights: {use: lsq, num_bits: 4}, "
                                         "activations: {use: lsq, num_bits: 4, signed: false, residual_bits: 2}, grad: {use: shiftq, num_bits: 4, groups: 4}}]\n";

/* Giving memory back changes nothing. */
static void test_none_is_exact(void **state)
{
    static const char *const recipe[] = {mlp, quantized, integer, learned};
    (void)state;
    for (int k = 0; k < 4; k++) {
        train(recipe[k], NULL, "plain", 1, NULL);
        train(recipe[k], "memory={codec: none}", "thrifty", 1, NULL);
        assert_same("plain", "thrifty", false);
    }
}

/* The first loss has the bits of full precision; one and two threads give the same bits throughout. */
static void test_mesa_forward_and_threads(void **state)
{
    char *plain, *mesa;
    (void)state;
    train(mlp, NULL, "plain", 1, NULL);
    train(mlp, "memory={codec: mesa, group: 4}", "one", 1, NULL);
    train(mlp, "memory={codec: mesa, group: 4}", "two", 2, NULL);
    assert_same("one", "two", true);
    plain = metrics("plain", false), mesa = metrics("one", false);
    *strchr(plain, '\n') = 0, *strchr(mesa, '\n') = 0;
    assert_string_equal(plain, mesa);
    free(plain), free(mesa);
}

static void test_residual_threads(void **state)
{
    (void)state;
    train(learned, "memory={codec: none}", "one", 1, NULL);
    train(learned, "memory={codec: none}", "two", 2, NULL);
    assert_same("one", "two", true);
}

static qt_saved saved_of(const char *dir)
{
    qt_arena       a = {0};
    const qt_yaml *y;
    qt_saved       s = {0};
    assert_ok(qt_metrics_last(&a, dir, "final", NULL, &y));
    assert_true(qt_yaml_int(qt_yaml_get(y, "saved_bytes"), &s.bytes));
    assert_true(qt_yaml_int(qt_yaml_get(y, "saved_bytes_float"), &s.floats));
    assert_true(qt_yaml_int(qt_yaml_get(y, "saved_bytes_per_op"), &s.per_op));
    qt_arena_free(&a);
    return s;
}

/* The vision transformer of docs/papers/mesa.md on one batch of 64 images. */
static void test_account(void **state)
{
    static const char vit[] = "recipe: 1\nmodel: {arch: vit, patch: 2, d_model: 64, n_layer: 2, n_head: 4, mlp_ratio: 2, fused: false}\n"
                              "data: {use: digits, batch_size: 64}\ntrain: {steps: 1, eval_batch_size: 64}\n";
    (void)state;
    /* 16 tokens of 4 pixels instead of 49: 64 16 4 numbers instead of 64 16 49 at the input, which make 4 groups instead of one */
    const int64_t floats = 7335936 - 64 * 16 * 45 * 4, mesa = 1996616 - 64 * 16 * 45 + 3 * 8, size = sizeof(R);
    train(vit, NULL, "plain", 1, NULL);
    assert_int_equal(saved_of("plain").bytes, floats / 4 * size);
    train(vit, "memory={codec: mesa}", "mesa", 1, NULL);
    assert_int_equal(saved_of("mesa").floats, floats / 4 * size);
    if (sizeof(R) == 4) {
        assert_int_equal(saved_of("mesa").per_op, mesa);
        assert_int_equal(saved_of("mesa").bytes, mesa - 2 * (64 * 4 * 16 * 16 + 4 * 8)); /* probabilities once */
    }
}

/* All three products in integers: what backward reads are bytes, and bits of masks; of learned steps, residuals too. */
static void test_integer_account(void **state)
{
    static const char *const recipe[] = {integer, learned};
    (void)state;
    for (int k = 0; k < 2; k++) {
        train(recipe[k], "~quant", "plain", 1, NULL);
        train(recipe[k], "memory={codec: none}", "bytes", 1, NULL);
        print_message("integers: %lld of %lld\n", (long long)saved_of("bytes").bytes, (long long)saved_of("plain").bytes);
        assert_true((double)saved_of("bytes").bytes <= 0.35 / 4 * sizeof(R) * (double)saved_of("plain").bytes);
    }
}

/* A run that is stopped and resumed has the ranges it had, and the random numbers. */
static void stop_and_resume(const char *recipe, const char *memory)
{
    const char       *sets[] = {memory, "train.save_every=7"};
    qt_arena          a = {0};
    qt_recipe        *r;
    qt_run           *run;
    qt_result         res;
    volatile int      stop = 1;
    put_file("r.yaml", recipe);
    assert_ok(qt_recipe_load(&a, "r.yaml", 2, sets, NULL, &r));
    assert_ok(qt_run_new(r, "whole", NULL, true, QT_PROGRESS_QUIET, &run));
    assert_ok(qt_run_go(run, &res));
    qt_run_free(run);
    assert_ok(qt_run_new(r, "parts", NULL, true, QT_PROGRESS_QUIET, &run));
    for (int k = 0; k < 5; k++) { /* each time one step */
        run->stop = &stop;
        assert_int_equal(qt_run_go(run, &res), QT_ESTOPPED);
        qt_error_clear();
        qt_run_free(run);
        assert_ok(qt_run_resume("parts", QT_PROGRESS_QUIET, &run));
    }
    assert_ok(qt_run_go(run, &res));
    qt_run_free(run);
    assert_same("whole", "parts", true);
    qt_arena_free(&a);
}

static void test_resume(void **state)
{
    (void)state;
    stop_and_resume(mlp, "memory={codec: mesa, group: 2}");
    stop_and_resume(learned, "memory={codec: none}");
}

static void test_no_allocation(void **state)
{
    static const char *const codec[] = {"memory={codec: none}", "memory={codec: mesa, num_bits: 4}"};
    (void)state;
    for (int c = 0; c < 2; c++) {
        int64_t used[2];
        for (int k = 0; k < 2; k++) {
            qt_arena    a = {0};
            qt_recipe  *r;
            qt_run     *run;
            qt_result   res;
            char        dir[16];
            const char *sets[] = {codec[c], k ? "train.steps=80" : "train.steps=20", "train.eval_every=0"};
            int64_t     before = qt_alloc_count();
            put_file("r.yaml", mlp);
            assert_ok(qt_recipe_load(&a, "r.yaml", 3, sets, NULL, &r));
            snprintf(dir, sizeof dir, "alloc%d%d", c, k);
            assert_ok(qt_run_new(r, dir, NULL, false, QT_PROGRESS_QUIET, &run));
            assert_ok(qt_run_go(run, &res));
            qt_run_free(run), qt_arena_free(&a);
            used[k] = qt_alloc_count() - before;
        }
        assert_int_equal(used[0], used[1]);
    }
}

/* The meter: forward keeps its bits, 4 bits are worse than 8, floats alone have no error, and the run goes on as if nothing had been measured. */
static double codec_field(const char *dir, const char *name, const char *field)
{
    qt_arena       a = {0};
    const qt_yaml *y;
    double         v = NAN;
    assert_ok(qt_metrics_last(&a, dir, "codec", name, &y));
    assert_true(qt_yaml_real(qt_yaml_get(y, field), &v));
    qt_arena_free(&a);
    return v;
}

static void test_meter(void **state)
{
    static const char phases[] = "phases: [{use: codec_noise, draws: 4, codecs: {f: {codec: none}, b: {codec: mesa, group: 4}, d: {codec: mesa, "
                                 "group: 4, num_bits: 4}}}, train]\n";
    char              text[2048], name[16];
    (void)state;
    for (int k = 0; k < 2; k++) {
        snprintf(text, sizeof text, "%s%s", mlp, k ? phases : "");
        snprintf(name, sizeof name, "meter%d", k);
        train(text, "memory={codec: mesa, group: 2}", name, 1, NULL);
    }
    assert_true(codec_field("meter1", "f", "grad_error") == 0 && codec_field("meter1", "f", "mse") == 0);
    assert_true(codec_field("meter1", "b", "grad_error") > 0 && codec_field("meter1", "b", "mse") > 0);
    assert_true(codec_field("meter1", "d", "grad_error") > 8 * codec_field("meter1", "b", "grad_error"));
    assert_true(codec_field("meter1", "d", "mse") > 100 * codec_field("meter1", "b", "mse"));
    assert_true(codec_field("meter1", "b", "logits_differ") == 0 && codec_field("meter1", "d", "logits_differ") == 0);
    char *plain = metrics("meter0", true), *measured = metrics("meter1", true), *steps = strstr(measured, "{\"event\": \"step\"");
    assert_string_equal(plain, steps);
    free(plain), free(measured);
}

/* What a recipe may say. */
static void test_refused(void **state)
{
    static const struct { const char *memory, *error; } bad[] = {
        {"{codec: messa}", "r.yaml:5:17: unknown codec 'messa', did you mean 'mesa'? (`qtape list codecs` lists them)"},
        {"{num_bits: 8}", "r.yaml:5:9: memory: expected {codec: NAME, ...}; `qtape list codecs` lists the names"},
        {"{codec: mesa, group: 0}", "r.yaml:5:30: memory.group: expected head, layer, or a number from 1 to 4096"},
        {"{codec: mesa, num_bits: 9}", "r.yaml:5:33: memory.num_bits: 9 is out of bounds, must be 2 to 8"},
        {"{codec: mesa, group: []}", "r.yaml:5:30: memory.group: expected head, layer, or a number from 1 to 4096"},
        {"{codec: mesa, match: \"conv*\"}", "r.yaml:5:30: memory.match: matches no layer (`qtape show --cost` lists them)"},
    };
    (void)state;
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        char       text[1024];
        qt_arena   a = {0};
        qt_recipe *r;
        snprintf(text, sizeof text, "%smemory: %s\n", mlp, bad[k].memory);
        put_file("r.yaml", text);
        assert_int_equal(qt_recipe_load(&a, "r.yaml", 0, NULL, NULL, &r), QT_ERECIPE);
        assert_errors(bad[k].error);
        qt_arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ops_read_what_they_say),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_unbiased),
        cmocka_unit_test(test_none_is_exact),
        cmocka_unit_test(test_mesa_forward_and_threads), cmocka_unit_test(test_residual_threads),
        cmocka_unit_test(test_account),
        cmocka_unit_test(test_integer_account),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_meter),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests_name("codec", tests, enter_folder, leave_folder);
}
