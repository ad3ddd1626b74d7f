/* Orthogonal convolutions: the penalty against dense matrices (identity, spectral bound, a grid too small for it), its gradient, which kernels
 * can be orthogonal, circular padding in floats and integers, singular values, the attack. */
#include "train_util.h"
#include <math.h>
#include "export/fixed_point.h"
#include "kernels/svd.h"

typedef struct conv {
    int64_t M, C, k, S, N;
} conv;

typedef struct built {
    qt_arena  arena;
    qt_store *store;
    qt_model *model;
    qt_tape  *tape;
} built;

static const qt_yaml *parse(qt_arena *a, const char *text)
{
    qt_yaml *y;
    assert_ok(qt_yaml_parse(a, text, strlen(text), "t", &y));
    return y;
}

static built make(const char *model, const char *quant, const char *regularize, qt_shape in, uint64_t seed)
{
    built b = {.store = qt_store_new(seed), .tape = qt_tape_new()};
    assert_ok(qt_model_build(&b.arena, b.store, parse(&b.arena, model), parse(&b.arena, quant), in, 0, &b.model));
    assert_ok(qt_regularize_build(&b.arena, parse(&b.arena, regularize), b.model));
    assert_ok(qt_store_seal(b.store, 2));
    return b;
}

static void drop(built *b)
{
    qt_tape_free(b->tape), qt_store_free(b->store), qt_arena_free(&b->arena);
}

static built make_conv(const conv *c, uint64_t seed)
{
    char text[200];
    snprintf(text, sizeof text, "[{use: conv2d, out: %d, kernel: %d, stride: %d, padding: %d, padding_mode: circular, bias: false, name: conv}]",
             (int)c->M, (int)c->k, (int)c->S, (int)(c->k / 2));
    built      b = make(text, "[]", "[{use: orthogonal, match: conv, weight: 1}]", (qt_shape){3, {c->C, c->S * c->N, c->S * c->N}}, seed);
    qt_rng     u = qt_rng_named(seed, "kernel");
    qt_tensor *K = b.model->m[0].p[0];
    for (int64_t i = 0; i < K->n; i++) K->data[i] = (R)(qt_rng_normal(&u) / sqrt((double)(c->C * c->k * c->k)));
    return b;
}

static qt_tensor *penalty(built *b)
{
    qt_tape_reset(b->tape);
    qt_tape_mode(b->tape, true, true);
    qt_tensor *L = qt_term_value(b->tape, b->model, &b->model->term[0], 0);
    assert_ok(qt_tape_error(b->tape));
    return L;
}

/* ---- the layer as a matrix ------------------------------------------------------------------------------------------------------------ */

/* KK [M N^2, C S^2 N^2], row-major: what the layer makes of each unit vector. */
static double *dense(built *b, const conv *c)
{
    int64_t rows = c->M * c->N * c->N, cols = c->C * c->S * c->S * c->N * c->N;
    double *A = malloc((size_t)(rows * cols) * sizeof *A);
    qt_tape_reset(b->tape);
    qt_tape_mode(b->tape, false, false);
    qt_tensor *x = qt_input(b->tape, 4, (int64_t[]){cols, c->C, c->S * c->N, c->S * c->N}), *y;
    for (int64_t i = 0; i < cols; i++) x->data[i * cols + i] = 1;
    y = qt_model_forward(b->tape, b->model, x);
    assert_ok(qt_tape_error(b->tape));
    assert_int_equal(y->n, rows * cols);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) A[i * cols + j] = (double)y->data[j * rows + i];
    return A;
}

/* A A^T - I or, of more rows than columns, A^T A - I: its Frobenius and its spectral norm. */
static void distance(const double *A, int64_t rows, int64_t cols, double *frobenius, double *spectral)
{
    bool    wide = rows <= cols;
    int64_t n = wide ? rows : cols, m = wide ? cols : rows;
    double *G = malloc((size_t)(2 * n * n) * sizeof *G), *work = malloc(qt_svd_work(n, n) * sizeof *work), least;
    *frobenius = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double dot = i == j ? -1 : 0;
            for (int64_t k = 0; k < m; k++) dot += wide ? A[i * cols + k] * A[j * cols + k] : A[k * cols + i] * A[k * cols + j];
            G[2 * (i * n + j)] = dot, G[2 * (i * n + j) + 1] = 0, *frobenius += dot * dot;
        }
    qt_svd_range(n, n, G, work, &least, spectral);
    free(G), free(work);
}

static bool by_rows(const conv *c) { return c->M <= c->C * c->S * c->S; }

/* N^2 L is the squared distance, and alpha sqrt(L) bounds the largest change of a squared length. */
static void test_identity(void **state)
{
    (void)state;
    static const conv all[] = {{3, 4, 3, 1, 5}, {5, 2, 3, 2, 4}, {5, 3, 3, 1, 5}, {10, 2, 3, 2, 4}};
    for (int i = 0; i < 4; i++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            const conv *c = &all[i];
            built       b = make_conv(c, seed);
            double      L = (double)penalty(&b)->data[0], *A = dense(&b, c), frobenius, spectral;
            double      alpha = by_rows(c) ? (double)(2 * ((c->k - 1) / c->S) + 1) * sqrt((double)c->M) : (double)(2 * c->k - 1) * sqrt((double)c->C);
            distance(A, c->M * c->N * c->N, c->C * c->S * c->S * c->N * c->N, &frobenius, &spectral);
            assert_true(L > 0);
            assert_true(fabs((double)(c->N * c->N) * L / frobenius - 1) < (sizeof(R) == 4 ? 1e-4 : 1e-12));
            assert_true(spectral <= alpha * sqrt(L));
            assert_true(spectral > 0.01 * alpha * sqrt(L));
            free(A), drop(&b);
        }
}

/* S N < 2k - 1: shifts of the kernel meet around the image, and the identity is off. */
static void test_too_small(void **state)
{
    (void)state;
    const conv c = {3, 4, 3, 1, 4};
    built      b = make_conv(&c, 0);
    double     L = (double)penalty(&b)->data[0], *A = dense(&b, &c), frobenius, spectral;
    distance(A, 48, 64, &frobenius, &spectral);
    assert_true(fabs(16 * L / frobenius - 1) > 0.01);
    free(A), drop(&b);
}

/* Both operands of the correlation get their gradient: by differences, in double. */
static void test_gradient(void **state)
{
    (void)state;
    static const conv all[] = {{3, 4, 3, 1, 5}, {5, 2, 3, 2, 4}, {10, 2, 3, 2, 4}, {4, 1, 5, 2, 6}};
    for (int i = 0; i < 4; i++) {
        built      b = make_conv(&all[i], 7);
        qt_tensor *K = b.model->m[0].p[0];
        double     h = sizeof(R) == 8 ? 1e-6 : 1e-3, bound = sizeof(R) == 8 ? 1e-6 : 2e-2;
        assert_ok(qt_backward(b.tape, penalty(&b)));
        for (int64_t j = 0; j < K->n; j += 3) {
            R keep = K->data[j], up, down;
            K->data[j] = keep + (R)h, up = penalty(&b)->data[0];
            K->data[j] = keep - (R)h, down = penalty(&b)->data[0];
            K->data[j] = keep;
            double numeric = ((double)up - (double)down) / (2 * h), analytic = (double)K->grad[j];
            assert_true(fabs(numeric - analytic) < bound * fmax(1, fabs(numeric)));
        }
        drop(&b);
    }
}

/* ---- existence -------------------------------------------------------------------------------------------------------------------------- */

/* The penalty after 1500 steps of Adam on it alone. */
static double minimum(const conv *c, uint64_t seed)
{
    built         b = make_conv(c, seed);
    qt_optimizer *o;
    assert_ok(qt_optimizer_make(&b.arena, b.store, parse(&b.arena, "{use: adam, lr: 1e-2}"), &o));
    for (int i = 0; i < 1500; i++) {
        double factor = 0.01 + 0.99 * 0.5 * (1 + cos(3.14159265358979323846 * i / 1500));
        assert_ok(qt_backward(b.tape, penalty(&b)));
        assert_ok(qt_optimizer_step(o, factor));
    }
    double L = (double)penalty(&b)->data[0];
    drop(&b);
    return L;
}

/* Rows can be orthonormal where M <= C k^2, columns where S <= k; where not, the least distance is known. */
static void test_existence(void **state)
{
    (void)state;
    static const struct {
        conv   c;
        double least, tolerance;
    } all[] = {{{4, 8, 3, 1, 8}, 0, 1e-3}, {{16, 8, 3, 1, 8}, 0, 1e-3}, {{8, 4, 3, 2, 8}, 0, 1e-3}, {{12, 1, 3, 4, 8}, 3, 1e-2},
               {{20, 1, 3, 4, 8}, 7, 1e-2}};
    uint64_t seeds = sizeof(R) == 4 ? 3 : 1; /* the double build has no fast convolution */
    for (int i = 0; i < 5; i++)
        for (uint64_t seed = 0; seed < seeds; seed++) assert_true(fabs(minimum(&all[i].c, seed) - all[i].least) < all[i].tolerance);
}

/* ---- circular padding ------------------------------------------------------------------------------------------------------------------- */

static void test_circular_values(void **state)
{
    (void)state;
    qt_tape   *t = qt_tape_new();
    qt_tensor *x = qt_input(t, 4, (int64_t[]){1, 1, 2, 3}), *y;
    for (int i = 0; i < 6; i++) x->data[i] = (R)i;
    y = qt_wrap(t, x, 1);
    static const int want[] = {5, 3, 4, 5, 3, 2, 0, 1, 2, 0, 5, 3, 4, 5, 3, 2, 0, 1, 2, 0};
    assert_int_equal(y->n, 20);
    for (int i = 0; i < 20; i++) assert_true(y->data[i] == (R)want[i]);
    qt_tape_free(t);
}

static const char circular[] = "[{use: conv2d, out: 6, kernel: 3, stride: 2, padding: 1, padding_mode: circular, name: conv}]";

/* The integers go around the image with the numbers: the layer computes in integers, and gives what the floats give. */
static void integers(const char *activations, bool integer)
{
    char quant[300];
    snprintf(quant, sizeof quant, "[{match: '*', weights: {use: uniform, num_bits: 8, granularity: channel, dynamic: true}, activations: %s}]",
             activations);
    built      b = make(circular, quant, "[]", (qt_shape){3, {3, 6, 8}}, 3);
    qt_rng     u = qt_rng_named(1, "image");
    R          first[2 * 6 * 3 * 4];
    for (int simulate = 0; simulate < 2; simulate++) {
        qt_tape_reset(b.tape), qt_tape_mode(b.tape, true, true), qt_tape_simulate(b.tape, simulate);
        qt_tensor *x = qt_input(b.tape, 4, (int64_t[]){2, 3, 6, 8}), *y;
        u = qt_rng_named(1, "image");
        for (int64_t i = 0; i < x->n; i++) x->data[i] = (R)qt_rng_normal(&u);
        y = qt_model_forward(b.tape, b.model, x);
        assert_ok(qt_tape_error(b.tape));
        assert_int_equal(y->n, sizeof first / sizeof *first);
        assert_int_equal(b.model->m[0].integer, integer && !simulate);
        for (int64_t i = 0; simulate && i < y->n; i++) assert_true(fabs((double)(y->data[i] - first[i])) < 1e-5);
        memcpy(first, y->data, sizeof first);
    }
    drop(&b);
}

static void test_circular_integers(void **state)
{
    (void)state;
    integers("{use: uniform, num_bits: 8, symmetric: false, dynamic: true}", true);
    integers("{use: int, num_bits: 8, granularity: token}", true);
    integers("{use: uniform, num_bits: 8, granularity: channel, dynamic: true}", false);
}

/* So does the interpreter of fixed-point models, bit for bit. */
static void test_circular_fixed(void **state)
{
    (void)state;
    built b = make("[{use: conv2d, out: 4, kernel: 3, stride: 2, padding: 1, padding_mode: circular, bias: false, name: a}, max_min,"
                   " {use: conv2d, out: 4, kernel: 5, padding: 2, padding_mode: circular, bias: false, name: b}, max_min]",
                   "[{match: '*', weights: {use: fixed, num_bits: 4}, activations: {use: fixed, num_bits: 6}}]", "[]", (qt_shape){3, {2, 8, 6}}, 5);
    qt_rng     u = qt_rng_named(2, "image");
    R          images[2 * 96], answers[2 * 48];
    qt_fixed  *p;
    for (int i = 0; i < 2 * 96; i++) images[i] = (R)qt_rng_normal(&u);
    for (int train = 1; train >= 0; train--) { /* where the binary points begin, and what the graph answers */
        qt_tape_reset(b.tape), qt_tape_mode(b.tape, train, false);
        qt_tensor *x = qt_input(b.tape, 4, (int64_t[]){2, 2, 8, 6}), *y;
        memcpy(x->data, images, sizeof images);
        y = qt_model_forward(b.tape, b.model, x);
        assert_ok(qt_tape_error(b.tape));
        assert_int_equal(y->n, 2 * 48);
        memcpy(answers, y->data, sizeof answers);
    }
    R integers[2 * 48];
    assert_ok(qt_fixed_make(b.tape, b.model, &p));
    assert_ok(qt_fixed_run(p, 2, images, integers));
    assert_memory_equal(integers, answers, sizeof answers);
    qt_fixed_free(p), drop(&b);
}

/* ---- singular values -------------------------------------------------------------------------------------------------------------------- */

static void test_svd(void **state)
{
    (void)state;
    /* 2 vectors of 3: (1, i, 0) and (0, 2, 2i): Gram [[2, 2i (+-)], [., 8]], eigenvalues 5 +- sqrt(13) */
    double v[] = {1, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 2}, least, most, work[64];
    assert_true(qt_svd_work(2, 3) <= 64);
    qt_svd_range(2, 3, v, work, &least, &most);
    assert_true(fabs(least - sqrt(5 - sqrt(13))) < 1e-12 && fabs(most - sqrt(5 + sqrt(13))) < 1e-12);
    double small[] = {1, 0, 1, 0, 1, 0, 1 + 1e-9, 0}; /* nearly parallel: the small one survives */
    qt_svd_range(2, 2, small, work, &least, &most);
    assert_true(fabs(least / 5e-10 - 1) < 1e-6);
}

static double number(const char *dir, const char *path, const char *key)
{
    qt_arena       a = {0};
    const qt_yaml *y;
    double         v;
    assert_ok(qt_metrics_last(&a, dir, "measure", path, &y));
    assert_non_null(y);
    assert_true(qt_yaml_real(qt_yaml_get(y, key), &v));
    qt_arena_free(&a);
    return v;
}

/* A recipe on 6 x 6 images from a file of numbers, without training. */
static void run_recipe(const char *dir, const char *text, int n, const char *const *sets)
{
    qt_arena   a = {0};
    qt_recipe *r;
    qt_run    *run;
    qt_result  res;
    put_file("r.yaml", text);
    assert_ok(qt_recipe_load(&a, "r.yaml", n, sets, NULL, &r));
    assert_ok(qt_run_new(r, dir, NULL, true, QT_PROGRESS_QUIET, &run));
    assert_ok(qt_run_go(run, &res));
    qt_run_free(run), qt_arena_free(&a);
}

static const char net[] = "recipe: 1\ndata: {use: digits, batch_size: 32, normalize: unit}\n"
                          "model:\n"
                          "  - {use: conv2d, out: 6, kernel: 3, stride: 2, padding: 1, padding_mode: circular, name: a}\n"
                          "  - max_min\n"
                          "  - {use: conv2d, out: 4, kernel: 3, padding: 1, padding_mode: circular, name: b}\n"
                          "  - max_min\n"
                          "  - flatten\n"
                          "  - {use: linear, out: 10, name: fc}\n"
                          "optim: {use: adam, lr: 1e-2}\ntrain: {steps: 60, eval_every: 0}\n";

/* Against the dense matrices of the trained layers. */
static void test_singular_values(void **state)
{
    (void)state;
    static char      text[2000];
    static const conv layers[] = {{6, 1, 3, 2, 4}, {4, 6, 3, 1, 4}};
    snprintf(text, sizeof text, "%sphases: [train, singular_values]\n", net);
    run_recipe("s", text, 0, NULL);
    qt_run *run;
    assert_ok(qt_run_resume("s", QT_PROGRESS_QUIET, &run));
    for (int i = 0; i < 2; i++) {
        const conv *c = &layers[i];
        built       b = make_conv(c, 1);
        int64_t     rows = c->M * c->N * c->N, cols = c->C * c->S * c->S * c->N * c->N, n = rows < cols ? rows : cols, m = rows + cols - n;
        const qt_tensor *w = qt_param_find(run->store, i ? "b.weight" : "a.weight");
        memcpy(b.model->m[0].p[0]->data, w->data, (size_t)w->n * sizeof(R));
        double *A = dense(&b, c), *v = calloc((size_t)(2 * rows * cols), sizeof *v), *work = malloc(qt_svd_work(n, m) * sizeof *work), least, most;
        for (int64_t k = 0; k < rows * cols; k++) v[2 * (rows <= cols ? k : k % cols * rows + k / cols)] = A[k];
        qt_svd_range(n, m, v, work, &least, &most);
        assert_true(fabs(number("s", "sigma", i ? "b_min" : "a_min") - least) < 1e-5);
        assert_true(fabs(number("s", "sigma", i ? "b_max" : "a_max") - most) < 1e-5);
        free(A), free(v), free(work), drop(&b);
    }
    assert_true(number("s", "sigma", "fc_max") > number("s", "sigma", "fc_min"));
    qt_run_free(run);
}

/* ---- the attack ------------------------------------------------------------------------------------------------------------------------- */

/* Further is worse, several steps are worse than one, radius 0 is the test itself. */
static void test_attack(void **state)
{
    (void)state;
    static char text[2000];
    snprintf(text, sizeof text,
             "%sphases: [train, {use: attack, radius: [0, 0.25, 0.5], split: test}, {use: attack, method: pgd, radius: 0.5, steps: 5}]\n", net);
    run_recipe("f", text, 0, NULL);
    qt_arena       a = {0};
    const qt_yaml *y;
    double         loss;
    assert_ok(qt_metrics_last(&a, "f", "final", NULL, &y));
    assert_true(qt_yaml_real(qt_yaml_get(y, "loss"), &loss));
    assert_true(fabs(number("f", "fgm@0", "loss") / loss - 1) < 1e-6);
    assert_true(number("f", "fgm@0.25", "loss") > 1.05 * loss);
    assert_true(number("f", "fgm@0.5", "loss") > 1.05 * number("f", "fgm@0.25", "loss"));
    assert_true(number("f", "pgd@0.5", "loss") > number("f", "fgm@0.5", "loss"));
    assert_true(number("f", "fgm@0.5", "accuracy") < number("f", "fgm@0", "accuracy"));
    qt_arena_free(&a);
}

/* Of a linear model with squared loss the worst sample in the ball is known: its error e grows to |e| + r |w|. Both methods find it. */
static void test_attack_values(void **state)
{
    (void)state;
    static const char recipe[] = "recipe: 1\ndata: {use: csv, path: line.csv, classes: 0, batch_size: 5}\nmodel: [{use: linear, out: 1, name: fc}]\n"
                                 "phases:\n  - {use: attack, radius: [0, 2], split: train}\n"
                                 "  - {use: attack, method: pgd, radius: 2, steps: 3, split: train, limit: 7}\ntrain: {eval_batch_size: 5}\n";
    FILE  *f = fopen("line.csv", "w");
    qt_run *run;
    double  clean = 0, far = 0, seven = 0;
    assert_non_null(f);
    for (int i = 0; i < 16; i++) fprintf(f, "%d,%d,%d\n", i % 4, i % 3, i);
    fclose(f);
    run_recipe("l", recipe, 0, NULL);
    assert_ok(qt_run_resume("l", QT_PROGRESS_QUIET, &run));
    const R *w = qt_param_find(run->store, "fc.weight")->data, *b = qt_param_find(run->store, "fc.bias")->data;
    for (int i = 0; i < 16; i++) {
        double e = fabs((double)w[0] * (i % 4) + (double)w[1] * (i % 3) + (double)b[0] - i), worst = e + 2 * hypot((double)w[0], (double)w[1]);
        clean += e * e / 16, far += worst * worst / 16, seven += i < 7 ? worst * worst / 7 : 0;
    }
    assert_true(fabs(number("l", "fgm@0", "loss") / clean - 1) < 1e-5);
    assert_true(fabs(number("l", "fgm@2", "loss") / far - 1) < 1e-5);
    assert_true(fabs(number("l", "pgd@2", "loss") / seven - 1) < 1e-5);
    qt_run_free(run);
}

static void refuse(const char *text, const char *message)
{
    qt_arena   a = {0};
    qt_recipe *r;
    put_file("bad.yaml", text);
    assert_int_not_equal(qt_recipe_load(&a, "bad.yaml", 0, NULL, NULL, &r), QT_OK);
    assert_errors(message);
    qt_arena_free(&a);
}

static void test_refused(void **state)
{
    (void)state;
    static char text[2000];
    snprintf(text, sizeof text, "%sphases: [{use: attack, radius: [1, -1]}, {use: singular_values, match: max_min1}]\n", net);
    refuse(text, "bad.yaml:12:32: attack.radius: expected a number from 0 on, or a list of up to 16 of them\n"
                 "bad.yaml:12:72: singular_values: no such layer; linear layers can be measured, and conv2d without groups and dilation whose stride "
                 "divides its image");
    refuse("recipe: 1\ndata: {use: digits}\ntrain: {steps: 1}\nmodel: [flatten, {use: linear, out: 9}, max_min, {use: linear, out: 10}]\n",
           "bad.yaml:4:41: max_min1: expects an even number of channels, but linear1 gives [9]");
    snprintf(text, sizeof text,
             "%sphases: [{use: singular_values, match: [a, fc]}, {use: attack, radius: [0.5, 1]}]\nclaims:\n"
             "  - {say: s, arm: base, metric: measure.sigma.a_mean, at_most: 1}\n  - {say: s, arm: base, metric: measure.sigma.b_max, at_most: 1}\n"
             "  - {say: s, arm: base, metric: measure.fgm@2.accuracy, at_most: 1}\n  - {say: s, arm: base, metric: measure.fgm@1.loss, at_most: 9}\n"
             "  - {say: s, arm: base, metric: measure.sigma.fc_min, at_most: 1}\n", net);
    refuse(text, "bad.yaml:14:33: claims[0].metric: nothing in arm 'base' measures 'sigma.a_mean'\n"
                 "bad.yaml:15:33: claims[1].metric: nothing in arm 'base' measures 'sigma.b_max'\n"
                 "bad.yaml:16:33: claims[2].metric: nothing in arm 'base' measures 'fgm@2.accuracy'");
}

/* ---- elsewhere -------------------------------------------------------------------------------------------------------------------------- */

/* The penalty on fake-quantized kernels of another net: a linear layer among them, ternary and 4-bit weights, the same bits for 1 and 2 threads. */
static void test_quantized_kernels(void **state)
{
    (void)state;
    static char text[2000];
    snprintf(text, sizeof text,
             "%squant: [{match: '*', weights: {use: lsq, num_bits: 4}}, {match: b, weights: ternary}]\n"
             "regularize: [{use: orthogonal, match: [a, b, fc], weight: 0, fake_quant: true}]\nphases: [train, singular_values]\n", net);
    run_recipe("q0", text, 1, (const char *[]){"train.steps=200"});
    run_recipe("q1", text, 2, (const char *[]){"train.steps=200", "regularize[0].weight=0.1"});
    run_recipe("q2", text, 3, (const char *[]){"train.steps=200", "regularize[0].weight=0.1", "train.threads=2"});
    assert_true(number("q1", "orthogonal", "total") < 0.7 * number("q0", "orthogonal", "total"));
    assert_true(number("q1", "sigma", "a_max") < number("q0", "sigma", "a_max"));
    assert_true(number("q1", "orthogonal", "total") == number("q2", "orthogonal", "total"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_too_small),
        cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_existence),
        cmocka_unit_test(test_circular_values),
        cmocka_unit_test(test_circular_integers),
        cmocka_unit_test(test_circular_fixed),
        cmocka_unit_test(test_svd),
        cmocka_unit_test(test_singular_values),
        cmocka_unit_test(test_attack),
        cmocka_unit_test(test_attack_values),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_quantized_kernels),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
