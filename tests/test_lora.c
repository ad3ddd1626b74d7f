/* Adapters on frozen bases: the quantizers of such bases against golden values and what papers say of them, packed weights bit for bit against
 * the quantizers, gradients, merges, memory, checkpoints that know their base, resuming, and every refusal. */
#include "train_util.h"
#include "autograd/gradcheck.h"
#include "golden/adapter.h"
#include "ops/inner.h"
#include "qat/frozen.h"

static int clear(void **state)
{
    (void)state;
    qt_error_clear();
    return 0;
}

static R *normal(int64_t n, uint64_t seed)
{
    R     *x = qt_alloc((size_t)n * sizeof *x);
    qt_rng r = qt_rng_at(seed, 3);
    for (int64_t i = 0; i < n; i++) x[i] = (R)qt_rng_normal(&r);
    return x;
}

/* ---- quantizers ------------------------------------------------------------------------------------------------------------ */

typedef struct coded {
    qt_store *store;
    qt_site  *site;
    qt_tape  *tape;
    qt_arena  arena;
    qt_codes  codes;
    R        *value; /* decoded */
} coded;

static coded code(const char *spec, qt_tensor *w)
{
    coded c = {qt_store_new(1), .tape = qt_tape_new()};
    c.site = qt_site_new(c.store, "w", QT_ROLE_WEIGHT, spec, w);
    if (!c.site) fail_msg("%s", qt_error_text());
    assert_ok(qt_store_seal(c.store, 0));
    qt_tape_mode(c.tape, true, false);
    qt_quantize(c.tape, c.site, w);
    assert_ok(qt_tape_error(c.tape));
    assert_ok(c.site->quant->encode(c.site, w, &c.arena, &c.codes));
    c.value = qt_alloc((size_t)w->n * sizeof *c.value);
    qt_codes_decode(&c.codes, c.value);
    return c;
}

static void coded_free(coded *c)
{
    qt_free(c->value);
    qt_tape_free(c->tape), qt_store_free(c->store), qt_arena_free(&c->arena);
}

static qt_tensor matrix(int64_t N, int64_t K, R *data) { return (qt_tensor){.rank = 2, .dim = {N, K}, .n = N * K, .data = data}; }

static void test_golden(void **state)
{
    R w[300];
    (void)state;
    for (int i = 0; i < 300; i++) w[i] = (R)golden_w[i];
    qt_tensor x = matrix(6, 50, w);
    for (size_t k = 0; k < sizeof goldens / sizeof *goldens; k++) {
        coded c = code(goldens[k].spec, &x);
        for (int i = 0; i < 300; i++) {
            if (c.codes.code[i] != goldens[k].code[i]) fail_msg("%s: code %d is %d, not %d", goldens[k].spec, i, c.codes.code[i], goldens[k].code[i]);
            if (fabs((double)c.value[i] - goldens[k].value[i]) > 2e-6)
                fail_msg("%s: value %d is %g, not %g", goldens[k].spec, i, (double)c.value[i], goldens[k].value[i]);
        }
        coded_free(&c);
    }
}

/* As printed in the paper's code. */
static void test_table(void **state)
{
    static const double printed[16] = {-1,        -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0,
                                       0.0795803, 0.1609302,  0.2461123,  0.3379152,  0.4407098,  0.5626170,  0.7229568,  1};
    R                   w[64] = {1};
    qt_tensor           x = matrix(1, 64, w);
    (void)state;
    coded c = code("nf4", &x);
    for (int i = 0; i < 16; i++) {
        assert_true(fabs((double)c.codes.table[i] - printed[i]) < 1e-6);
        assert_true(fabs((double)c.codes.table[i] - golden_nf4[i]) < 1e-7);
    }
    coded_free(&c);
}

/* Power of the error over power of the weights. */
static double noise_of(const char *spec, qt_tensor *x)
{
    coded  c = code(spec, x);
    double noise = 0, signal = 0;
    for (int64_t i = 0; i < x->n; i++) noise += pow((double)(c.value[i] - x->data[i]), 2), signal += pow((double)x->data[i], 2);
    coded_free(&c);
    return noise / signal;
}

static void test_noise(void **state)
{
    R        *w = normal(512 * 1024, 5);
    qt_tensor x = matrix(512, 1024, w);
    (void)state;
    double nf4 = noise_of("{use: nf4, double_quant: false}", &x), twice = noise_of("nf4", &x);
    double int4 = noise_of("{use: nf4, table: int4, double_quant: false}", &x), real = noise_of("{use: int_group, num_bits: 4, group_size: 64}", &x);
    assert_true(fabs(nf4 - 0.0085) < 1e-4 && fabs(int4 - 0.0116) < 1e-4 && fabs(real - 0.0080) < 1e-4);
    assert_true(nf4 <= 0.8 * int4);
    assert_true(twice < 1.02 * nf4);
    assert_true(noise_of("{use: nf4, table: fp4, double_quant: false}", &x) > nf4);
    qt_free(w);
}

/* Bits a weight: 4 + 8/64 + 32/(64 256), and the mean; a short last block; blocks of zeros. */
static void test_storage(void **state)
{
    R        *w = normal(512 * 1024, 6);
    qt_tensor x = matrix(512, 1024, w), odd = matrix(3, 27, w);
    (void)state;
    coded c = code("nf4", &x);
    assert_true(fabs(qt_codes_bits(&c.codes) / (double)x.n - 4.127) < 1e-3);
    coded_free(&c);
    for (int i = 0; i < 64; i++) w[i] = 0;
    c = code("{use: nf4, double_quant: false}", &odd);
    assert_int_equal(c.codes.layout.count, 2);
    for (int i = 0; i < 64; i++) assert_true(c.value[i] == 0);
    for (int i = 64; i < 81; i++) assert_true(fabs((double)(c.value[i] - w[i])) < 0.5);
    coded_free(&c);
    for (int i = 0; i < 64; i++) w[i] = 3;
    c = code("{use: int_group, num_bits: 2, group_size: 27}", &odd); /* two groups of one number */
    for (int i = 0; i < 54; i++) assert_true(c.value[i] == 3);
    coded_free(&c);
    qt_free(w);
}

/* ---- packed weights -------------------------------------------------------------------------------------------------------- */

static const char *const specs[] = {"nf4", "{use: nf4, block: 10, double_quant: false}", "{use: nf4, table: uniform2}",
                                    "{use: int_group, num_bits: 4, group_size: 8}", "{use: int_group, num_bits: 8, group_size: 24}", "ternary",
                                    "binary", "{use: int, num_bits: 8, granularity: tensor}", "{use: lsq, num_bits: 3, granularity: channel}",
                                    "{use: lsq_plus, num_bits: 4}", "{use: dorefa, num_bits: 3}",
                                    "{use: uniform, num_bits: 4, granularity: group, group_size: 8, symmetric: false}"};
enum { SPECS = sizeof specs / sizeof *specs };

/* A frozen weight [N,K] and its scratch of few rows. */
static qt_frozen freeze(const char *spec, qt_tensor *w, qt_arena *a, qt_tape *t, int64_t rows)
{
    qt_store *s = qt_store_new(1);
    qt_frozen f;
    qt_site  *q = qt_site_new(s, "w", QT_ROLE_WEIGHT, spec, w);
    if (!q) fail_msg("%s", qt_error_text());
    assert_ok(qt_store_seal(s, 0));
    assert_ok(qt_frozen_pack(q, w, t, a, &f));
    f.rows = rows, f.work = qt_arena_alloc(a, (size_t)(rows * w->dim[1]) * sizeof(R)), f.work_codes = qt_arena_alloc(a, (size_t)(rows * w->dim[1]));
    qt_store_free(s);
    return f;
}

static void test_packed_bits(void **state)
{
    enum { N = 21, K = 48 };
    R        *x = normal(N * K, 7), *back = normal(N * K, 0);
    qt_tensor w = matrix(N, K, x);
    (void)state;
    for (int k = 0; k < SPECS; k++) {
        qt_arena  a = {0};
        qt_tape  *t = qt_tape_new();
        coded     c = code(specs[k], &w);
        qt_frozen f = freeze(specs[k], &w, &a, t, 5);
        for (int n = 0; n < N; n += 5) qt_frozen_rows(&f, n, n + 5 < N ? 5 : N - n, back + n * K);
        if (memcmp(back, c.value, N * K * sizeof *back)) fail_msg("%s: unpacked weights differ", specs[k]);
        coded_free(&c), qt_tape_free(t), qt_arena_free(&a);
    }
    qt_free(x), qt_free(back);
}

/* A large matrix takes its bits, whole bytes of codes and a sum a row, and no more. */
static void test_packed_memory(void **state)
{
    R        *x = normal(256 * 512, 8);
    qt_tensor w = matrix(256, 512, x);
    qt_arena  a = {0};
    qt_tape  *t = qt_tape_new();
    (void)state;
    assert_true((double)freeze("nf4", &w, &a, t, 16).bytes <= 256 * 512 * 4.127 / 8 + 4 * 256 + 64);
    assert_true((double)freeze("ternary", &w, &a, t, 16).bytes <= 256 * 512 * 2 / 8 + 4 * 256 + 64);
    qt_tape_free(t), qt_arena_free(&a), qt_free(x);
}

static double distance(const R *x, const R *y, int64_t n)
{
    double d = 0;
    for (int64_t i = 0; i < n; i++) d = fmax(d, fabs((double)(x[i] - y[i])));
    return d;
}

/* The product and its gradients against those of linear with the numbers that the codes stand for. */
static void test_product(void **state)
{
    enum { M = 9, N = 21, K = 48 };
    R        *x = normal(N * K, 9), *dy = normal(M * N, 10), *in = normal(M * K, 11), *bias = normal(N, 12);
    qt_tensor w = matrix(N, K, x);
    (void)state;
    for (int k = 0; k < SPECS; k++) {
        qt_arena  a = {0};
        qt_tape  *t = qt_tape_new(), *u = qt_tape_new();
        coded     c = code(specs[k], &w);
        qt_frozen f = freeze(specs[k], &w, &a, u, 8);
        qt_tensor *v[2], *b[2], *y[2], *what = qt_input(t, 2, (int64_t[]){N, K});
        memcpy(what->data, c.value, N * K * sizeof(R));
        for (int i = 0; i < 2; i++) {
            v[i] = qt_variable(t, 2, (int64_t[]){M, K}), b[i] = qt_variable(t, 1, (int64_t[]){N});
            memcpy(v[i]->data, in, M * K * sizeof(R)), memcpy(b[i]->data, bias, N * sizeof(R));
            y[i] = i ? qt_frozen_linear(t, v[i], &f, b[i]) : qt_linear(t, v[i], what, b[i]);
        }
        assert_true(distance(y[0]->data, y[1]->data, M * N) < 1e-5);
        for (int i = 0; i < 2; i++) assert_ok(qt_backward_from(t, y[i], dy));
        assert_true(distance(v[0]->grad, v[1]->grad, M * K) < 1e-4 && distance(b[0]->grad, b[1]->grad, N) < 1e-5);
        coded_free(&c), qt_tape_free(t), qt_tape_free(u), qt_arena_free(&a);
    }
    qt_free(x), qt_free(dy), qt_free(in), qt_free(bias);
}

static void test_gradcheck(void **state)
{
    qt_gradcheck_result r;
    (void)state;
    for (const qt_case *c = qt_op_frozen_linear.cases; c->name; c++) {
        assert_ok(qt_gradcheck(&qt_op_frozen_linear, c, 1, &r));
        if (r.worst > qt_gradcheck_bound()) fail_msg("%s: %g", c->name, r.worst);
    }
}

/* ---- models ---------------------------------------------------------------------------------------------------------------- */

typedef struct net {
    qt_arena  arena;
    qt_store *store;
    qt_model *model;
    qt_tape  *tape;
} net;

static const qt_yaml *parse(qt_arena *a, const char *text)
{
    qt_yaml *y;
    if (!text) return NULL;
    assert_ok(qt_yaml_parse(a, text, strlen(text), "t", &y));
    return y;
}

#define MLP "[{use: linear, out: 24, name: fc1}, gelu, {use: linear, out: 8, name: fc2}]"

static net net_new(const char *quant, const char *lora)
{
    net n = {.store = qt_store_new(3), .tape = qt_tape_new()};
    assert_ok(qt_model_build(&n.arena, n.store, parse(&n.arena, MLP), parse(&n.arena, quant), (qt_shape){1, {16}}, 0, &n.model));
    assert_ok(qt_lora_apply(&n.arena, parse(&n.arena, lora), n.model));
    assert_ok(qt_store_seal(n.store, 2));
    for (int i = 0; i < n.model->n; i++) {
        qt_module *m = &n.model->m[i];
        if (!m->frozen) continue;
        R *w = qt_alloc((size_t)m->p[0]->n * sizeof *w);
        qt_store_init(n.store, qt_store_param_of(n.store, m->p[0]), w);
        m->p[0]->data = w;
        assert_ok(qt_model_pack(&n.arena, n.model, i, n.tape));
        m->p[0]->data = NULL;
        qt_free(w);
    }
    return n;
}

static void net_free(net *n)
{
    qt_tape_free(n->tape), qt_store_free(n->store);
    qt_arena_free(&n->arena);
}

/* B is 0 at first; here it is what training might make of it. */
static void trained(net *n)
{
    for (int i = 0; i < n->model->n; i++)
        if (n->model->m[i].lora) {
            qt_tensor *b = n->model->m[i].lora->b;
            qt_rng     r = qt_rng_at(17, (uint64_t)i);
            for (int64_t k = 0; k < b->n; k++) b->data[k] = (R)(0.2 * qt_rng_normal(&r));
        }
}

static qt_tensor *answer(net *n, const R *x, bool grad)
{
    qt_tape_reset(n->tape), qt_tape_mode(n->tape, false, grad);
    qt_tensor *in = qt_input(n->tape, 2, (int64_t[]){6, 16});
    memcpy(in->data, x, 6 * 16 * sizeof *x);
    qt_tensor *y = qt_model_forward(n->tape, n->model, in);
    assert_ok(qt_tape_error(n->tape));
    return y;
}

static double loss_of(net *n, const R *x, const R *dy)
{
    qt_tensor *y = answer(n, x, false);
    double     sum = 0;
    for (int64_t i = 0; i < y->n; i++) sum += (double)y->data[i] * (double)dy[i];
    return sum;
}

static const struct {
    const char *quant, *lora;
    bool        exact; /* the merge changes no answer */
} bases[] = {
    {NULL, "{rank: 3, alpha: 6}", true},
    {"[{match: '*', weights: nf4}]", "{rank: 3, alpha: 6, targets: [fc1, fc2]}", false},
    {"[{match: '*', weights: ternary}]", "{rank: 3, alpha: 6, targets: fc2, train: ['*.bias']}", false},
    {"[{match: '*', weights: {use: int_group, group_size: 8}}]", "{rank: 1, alpha: 6}", false},
    {"[{match: '*', weights: {use: int_group, num_bits: 2, group_size: 4}}]", "{rank: 3, alpha: 6, variant: qa}", true},
    {"[{match: '*', weights: {use: int_group, group_size: 4}}]", "{rank: 2, variant: qa, pool: mean}", true},
};
enum { BASES = sizeof bases / sizeof *bases };

/* Without what an adapter adds at first, answers are those of the model without adapters. Then the gradient of each trained number. */
static void test_gradients(void **state)
{
    R *x = normal(6 * 16, 13), *dy = normal(6 * 8, 14);
    (void)state;
    for (int k = 0; k < BASES; k++) {
        net    n = net_new(bases[k].quant, bases[k].lora), plain = net_new(bases[k].quant, NULL);
        R      y[6 * 8];
        double h = sizeof(R) == 8 ? 1e-6 : 1e-2, bound = sizeof(R) == 8 ? 1e-6 : 2e-2;
        memcpy(y, answer(&plain, x, false)->data, sizeof y);
        assert_true(distance(y, answer(&n, x, false)->data, 6 * 8) < 1e-5);
        trained(&n);
        assert_ok(qt_backward_from(n.tape, answer(&n, x, true), dy));
        for (int i = 0; i < n.store->n; i++) {
            qt_param *p = n.store->p[i];
            assert_true(p->frozen == (p->t.grad == NULL));
            for (int64_t j = 0; !p->frozen && j < p->t.n; j += 1 + p->t.n / 13) {
                R keep = p->t.data[j];
                p->t.data[j] = keep + (R)h;
                double up = loss_of(&n, x, dy);
                p->t.data[j] = keep - (R)h;
                double down = loss_of(&n, x, dy), numeric = (up - down) / (2 * h), got = (double)p->t.grad[j];
                p->t.data[j] = keep;
                if (fabs(got - numeric) > bound * fmax(1, fabs(numeric))) fail_msg("base %d, %s[%d]: %g, not %g", k, p->t.name, (int)j, got, numeric);
            }
        }
        net_free(&n), net_free(&plain);
    }
    qt_free(x), qt_free(dy);
}

/* Exact merges: answers stay, and under variant qa codes and steps keep their bits. Others are rounded again, but near. */
static void test_merge(void **state)
{
    R *x = normal(6 * 16, 15);
    (void)state;
    for (int k = 0; k < BASES; k++) {
        net              n = net_new(bases[k].quant, bases[k].lora);
        R                before[6 * 8];
        const qt_frozen *f = n.model->m[0].frozen;
        qt_frozen        was = f ? *f : (qt_frozen){.bytes = 0};
        size_t           size = f ? was.codes.size : 0;
        void            *codes = qt_alloc(size + 1);
        if (f) memcpy(codes, was.codes.data, size);
        trained(&n);
        memcpy(before, answer(&n, x, false)->data, sizeof before);
        assert_ok(qt_lora_merge(&n.arena, n.model, NULL, n.tape));
        double d = distance(before, answer(&n, x, false)->data, 6 * 8);
        assert_true(bases[k].exact ? d < 1e-5 : d > 1e-3);
        if (f && bases[k].exact) {
            assert_memory_equal(codes, f->codes.data, size);
            assert_true(f->scale == was.scale);
        }
        qt_free(codes);
        net_free(&n);
    }
    qt_free(x);
}

/* The wrong factor is seen at once: with the mean, a merge as if it were the sum. */
static void test_wrong_factor(void **state)
{
    R  *x = normal(6 * 16, 16), before[6 * 8];
    net n = net_new(bases[5].quant, bases[5].lora);
    (void)state;
    trained(&n);
    memcpy(before, answer(&n, x, false)->data, sizeof before);
    for (int i = 0; i < n.model->n; i++)
        if (n.model->m[i].lora) n.model->m[i].lora->mean = false;
    assert_ok(qt_lora_merge(&n.arena, n.model, NULL, n.tape));
    assert_true(distance(before, answer(&n, x, false)->data, 6 * 8) > 0.1);
    net_free(&n), qt_free(x);
}

/* A float base that is merged and rounded is what its quantizer gives for the sum. */
static void test_merge_rounds(void **state)
{
    net       n = net_new(NULL, bases[0].lora);
    qt_tensor w = *n.model->m[0].p[0];
    R        *sum = normal(w.n, 0);
    (void)state;
    trained(&n);
    const qt_lora *l = n.model->m[0].lora;
    for (int64_t i = 0; i < w.n; i++) {
        double change = 0;
        for (int64_t r = 0; r < 3; r++) change += (double)l->b->data[i / 16 * 3 + r] * (double)l->a->data[r * 16 + i % 16];
        sum[i] = w.data[i] + (R)(2 * change);
    }
    assert_ok(qt_lora_merge(&n.arena, n.model, parse(&n.arena, "{use: int_group, group_size: 8}"), n.tape));
    w.data = sum;
    coded c = code("{use: int_group, group_size: 8}", &w);
    assert_true(distance(c.value, n.model->m[0].p[0]->data, w.n) < 1e-5);
    coded_free(&c), qt_free(sum), net_free(&n);
}

/* Dropout reaches the adapter only. */
static void test_dropout(void **state)
{
    R  *x = normal(6 * 16, 18), y[6 * 8];
    net n = net_new(NULL, "{rank: 3, dropout: 0.5}");
    (void)state;
    for (int round = 0; round < 2; round++) {
        memcpy(y, answer(&n, x, false)->data, sizeof y);
        qt_tape_reset(n.tape), qt_tape_mode(n.tape, true, false);
        qt_tensor *in = qt_input(n.tape, 2, (int64_t[]){6, 16});
        memcpy(in->data, x, 6 * 16 * sizeof *x);
        assert_true((distance(y, qt_model_forward(n.tape, n.model, in)->data, 6 * 8) > 1e-3) == round);
        trained(&n);
    }
    net_free(&n), qt_free(x);
}

/* Freezing takes no gradient and no optimizer memory, and a quantized weight no numbers. */
static void test_memory(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        net     n = net_new(bases[k].quant, bases[k].lora);
        int64_t thin = 0;
        for (int i = 0; i < n.store->n; i++) {
            const qt_param *p = n.store->p[i];
            if (!p->frozen) thin += (p->t.n + 15) / 16 * 16;
            assert_true(p->base == p->frozen);
            assert_true(p->outside == (p->t.data == NULL));
            assert_true(p->outside == (k && strstr(p->t.name, ".weight") != NULL));
        }
        assert_int_equal(n.store->size, thin); /* of values, gradients and slots alike */
        assert_int_equal(qt_store_moving(n.store), 3 * (16 + 24) + 3 * (24 + 8));
        net_free(&n);
    }
}

/* ---- runs ------------------------------------------------------------------------------------------------------------------ */

#define RECIPE \
    "recipe: 1\n" \
    "model: [flatten, {use: linear, out: 24, name: fc1}, relu, {use: linear, out: 10, name: fc2}]\n" \
    "data: {use: digits, batch_size: 32, normalize: unit}\n" \
    "optim: {use: adam, lr: 5e-3, ema: 0.8}\n"
static const char base_recipe[] = RECIPE "train: {steps: 12}\n";
#define ADAPTED(section) RECIPE "init: {run: base}\ntrain: {steps: 10, eval_every: 4, log_every: 2}\n" section
static const char *const adapted[] = {
    ADAPTED("lora: {rank: 4}\nquant: [{match: '*', weights: nf4}]\n"),
    ADAPTED("lora: {rank: 4}\nphases: [train, {use: merge, weights: {use: int_group, group_size: 8}}]\n"),
    ADAPTED("lora: {rank: 4}\nquant: [{match: '*', weights: ternary, activations: {use: int, num_bits: 8}}]\nphases: [train, merge]\n"),
    ADAPTED("lora: {rank: 2, targets: fc1, train: [fc2.bias]}\n"
            "quant: [{match: '*', weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 8, signed: false}}]\n"),
    ADAPTED("lora: {rank: 2, variant: qa}\nquant: [{match: '*', weights: {use: int_group, num_bits: 3, group_size: 8}}]\nphases: [train, merge]\n"),
};
enum { ADAPTERS = sizeof adapted / sizeof *adapted };

static qt_err train(const char *text, const char *dir, volatile int *stop, int threads, qt_result *res)
{
    qt_arena   a = {0};
    qt_recipe *rc;
    qt_run    *r;
    put_file("r.yaml", text);
    assert_ok(qt_recipe_load(&a, "r.yaml", 0, NULL, NULL, &rc));
    assert_ok(qt_run_new(rc, dir, NULL, true, QT_PROGRESS_QUIET, &r));
    rc->train.threads = threads, r->stop = stop;
    qt_err e = qt_run_go(r, res);
    qt_run_free(r), qt_arena_free(&a);
    return e;
}

static void make_base(void)
{
    qt_result res;
    assert_ok(train(base_recipe, "base", NULL, 1, &res));
}

/* The logits of the test split. */
static R *logits_of(const char *dir)
{
    qt_run   *r;
    qt_result res;
    R        *y = qt_alloc(449 * 10 * sizeof *y);
    assert_ok(qt_run_resume(dir, QT_PROGRESS_QUIET, &r));
    assert_ok(qt_run_eval(r, QT_TEST, &res, y, NULL));
    qt_run_free(r);
    return y;
}

/* One thread and two, and a stop after each step: the same answers, bit for bit. */
static void test_resume(void **state)
{
    qt_result one, other;
    (void)state;
    make_base();
    for (int k = 0; k < ADAPTERS; k++) {
        assert_ok(train(adapted[k], "one", NULL, 1, &one));
        R           *y = logits_of("one");
        volatile int stop = 1;
        int          stops = 0;
        qt_err       e = train(adapted[k], "two", &stop, 2, &other);
        for (; e == QT_ESTOPPED; stops++) {
            qt_run *r;
            qt_error_clear();
            assert_ok(qt_run_resume("two", QT_PROGRESS_QUIET, &r));
            r->stop = &stop;
            e = qt_run_go(r, &other);
            qt_run_free(r);
        }
        assert_ok(e);
        assert_true(stops == 9 && one.loss == other.loss && one.accuracy == other.accuracy);
        R *z = logits_of("two");
        assert_memory_equal(y, z, 449 * 10 * sizeof *y);
        qt_free(y), qt_free(z);
    }
}

static qt_err no_base_value(void *arg, const char *name, int rank, const int64_t *dim, const char *type)
{
    (void)rank, (void)dim, (void)type;
    for (const char *const *frozen = arg; *frozen; frozen++)
        if (!strcmp(name, *frozen)) fail_msg("the checkpoint holds %s", name);
    return QT_OK;
}

/* A checkpoint holds the adapter and fingerprints; another base is refused, and so is an adapter as a base. */
static void test_checkpoint(void **state)
{
    static const char *const frozen[] = {"params/fc1.weight", "params/fc1.bias", "params/fc2.weight", "slots/0/fc1.weight", NULL};
    qt_result                res;
    qt_run                  *r;
    qt_h5                   *f;
    qt_arena                 a = {0};
    qt_recipe               *rc;
    char                     digest[65] = "", want[65];
    (void)state;
    make_base();
    assert_ok(train(adapted[0], "one", NULL, 1, &res));
    assert_ok(qt_h5_open("one/ckpt/last.h5", &f));
    assert_ok(qt_h5_each(f, "", no_base_value, (void *)frozen));
    assert_true(qt_h5_has(f, "params/fc1.lora_a") && qt_h5_has(f, "slots/0/fc2.lora_b"));
    assert_ok(qt_h5_read_bytes(f, "base/fc1.bias", 64, (uint8_t *)digest));
    assert_ok(qt_h5_close(f));
    assert_ok(qt_h5_open("base/ckpt/last.h5", &f));
    R bias[24];
    assert_ok(qt_h5_read(f, "params/fc1.bias", 24, bias));
    assert_ok(qt_h5_close(f));
    qt_sha256(bias, sizeof bias, want);
    assert_string_equal(digest, want);

    assert_ok(train(RECIPE "train: {steps: 13}\n", "base", NULL, 1, &res)); /* another base in the same place */
    assert_int_not_equal(qt_run_resume("one", QT_PROGRESS_QUIET, &r), QT_OK);
    assert_non_null(strstr(qt_error_text(), "one/ckpt/last.h5: holds an adapter of another base than the one that `init` gives; these tensors "
                                            "differ: fc1.weight, fc1.bias, fc2.weight, fc2.bias"));
    qt_error_clear();

    put_file("r.yaml", RECIPE "init: {run: one}\ntrain: {steps: 1}\n");
    assert_ok(qt_recipe_load(&a, "r.yaml", 0, NULL, NULL, &rc));
    assert_int_not_equal(qt_run_new(rc, "two", NULL, true, QT_PROGRESS_QUIET, &r), QT_OK);
    assert_non_null(strstr(qt_error_text(), "params/fc1.weight (the file holds an adapter, not its base)"));
    qt_error_clear();
    qt_arena_free(&a);
}

/* The integer product on a packed ternary base has the bits of the unfrozen one: before training, adapters change nothing at all. */
static void test_integer_base(void **state)
{
    qt_result frozen, plain;
    (void)state;
    make_base();
#define TERNARY \
    "quant: [{match: '*', weights: ternary, activations: {use: int, num_bits: 8}}]\n" \
    "init: {run: base}\ntrain: {steps: 0}\nphases: [{use: calibrate, batches: 1}]\n"
    assert_ok(train(RECIPE TERNARY, "plain", NULL, 1, &plain));
    assert_ok(train(RECIPE TERNARY "lora: {rank: 2}\n", "frozen", NULL, 1, &frozen));
    assert_true(frozen.loss == plain.loss && frozen.bits_per_weight == plain.bits_per_weight);
}

/* A merged model is a start value like any other: its codes are found again. */
static void test_merged_checkpoint(void **state)
{
#define GROUPS "quant: [{match: '*', weights: {use: int_group, num_bits: 4, group_size: 8}}]\n"
    qt_result merged, again;
    (void)state;
    make_base();
    assert_ok(train(ADAPTED("lora: {rank: 2, variant: qa}\nphases: [train, {use: merge, checkpoint: true}]\n" GROUPS), "one", NULL, 1, &merged));
    assert_ok(train(RECIPE "init: {checkpoint: one/ckpt/merged.h5}\ntrain: {steps: 0}\nphases: [{use: calibrate, batches: 1}]\n" GROUPS, "plain",
                    NULL, 1, &again));
    assert_true(fabs(merged.loss - again.loss) < 1e-5);
}

/* Memory that runs out anywhere in a run with a packed base, a merge and a checkpoint of it is a message. */
static void test_out_of_memory(void **state)
{
    static const char text[] = RECIPE "init: {run: base}\ntrain: {steps: 1}\nlora: {rank: 2}\nquant: [{match: '*', weights: nf4}]\n"
                                      "phases: [train, {use: merge, checkpoint: true}]\n";
    qt_result         res;
    (void)state;
    make_base();
    put_file("r.yaml", text);
    int64_t before = qt_alloc_count();
    assert_ok(train(text, "memory", NULL, 1, &res));
    int64_t n = qt_alloc_count() - before;
    for (int64_t k = 1; k <= n; k += n / 120 + 1) {
        qt_arena   a = {0};
        qt_recipe *rc;
        qt_run    *r;
        qt_alloc_fail_at(k);
        qt_err e = qt_recipe_load(&a, "r.yaml", 0, NULL, NULL, &rc);
        if (e == QT_OK) e = qt_run_new(rc, "memory", NULL, true, QT_PROGRESS_QUIET, &r);
        if (e == QT_OK) e = qt_run_go(r, &res), qt_run_free(r);
        qt_alloc_fail_at(0);
        if (e != QT_OK && !strstr(qt_error_text(), "out of memory")) fail_msg("allocation %d: %s", (int)k, qt_error_text());
        qt_error_clear();
        qt_arena_free(&a);
    }
}

/* ---- refusals -------------------------------------------------------------------------------------------------------------- */

static void refuse(const char *section, const char *message)
{
    qt_arena   a = {0};
    qt_recipe *rc;
    char       text[2048];
    snprintf(text, sizeof text, RECIPE "init: {run: base}\ntrain: {steps: 1}\n%s", section);
    put_file("r.yaml", text);
    assert_int_not_equal(qt_recipe_load(&a, "r.yaml", 0, NULL, NULL, &rc), QT_OK);
    if (!strstr(qt_error_text(), message)) fail_msg("%s: said '%s', expected '%s'", section, qt_error_text(), message);
    qt_error_clear();
    qt_arena_free(&a);
}

static void test_errors(void **state)
{
    (void)state;
    refuse("lora: {rank: 11}\n", "r.yaml:7:14: lora.rank: 11 is more than the matrix of 'fc2' has, [10, 24]");
    refuse("lora: {targets: [fc1, fc_2]}\n", "r.yaml:7:23: lora.targets[1]: 'fc_2' matches no linear layer, did you mean 'fc2'?");
    refuse("lora: {targets: 'blk.*'}\n", "lora.targets: 'blk.*' matches no linear layer; there are fc1 and others");
    refuse("lora: {targets: flatten1}\n", "matches no linear layer");
    refuse("lora: {variant: qa}\n", "variant qa merges into zero points of groups, and the weight of 'fc1' is not quantized");
    refuse("lora: {variant: qa}\nquant: [{match: '*', weights: nf4}]\n", "the weight of 'fc1' has a quantizer without them");
    refuse("lora: {variant: qa, rank: 4}\nquant: [{match: '*', weights: {use: int_group, group_size: 8}}]\n", "[10, 3] with its inputs in groups");
    refuse("lora: {variant: qa, rank: 2}\nquant: [{match: '*', weights: {use: int_group, group_size: 32}}]\n",
           "group_size 32 does not divide a row of 24");
    refuse("lora: {variant: qa, rank: 2, train: '*.weight'}\nquant: [{match: '*', weights: {use: int_group, group_size: 8}}]\n",
           "variant qa wants a frozen weight");
    refuse("lora: {train: ['*.wieght']}\n", "lora.train: matches no parameter");
    refuse("lora: {rang: 4}\n", "rang");
    refuse("phases: [train, merge]\n", "phases[1]: merge has nothing to merge");
    refuse("lora: {rank: 2}\nphases: [merge, train]\n", "phases[0]: training after merge has no adapters to train");
    refuse("lora: {rank: 2}\nphases: [train, merge, merge]\n", "phases[2]: merge stands here twice");
    refuse("lora: {rank: 2}\nphases: [train, {use: merge, weights: nf5}]\n", "did you mean 'nf4'?");
    refuse("lora: {rank: 2}\nexport: [{format: h5}]\n", "r.yaml:8:10: export: format h5 holds no adapters; merge them into a checkpoint");
}

/* Without init the base is random: allowed, with a warning. */
static void test_no_init(void **state)
{
    qt_result res;
    (void)state;
    assert_ok(train(RECIPE "lora: {rank: 2}\nquant: [{match: '*', weights: nf4}]\ntrain: {steps: 2}\n", "alone", NULL, 1, &res));
    R *x = logits_of("alone");
    qt_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),       cmocka_unit_test(test_table),         cmocka_unit_test(test_noise),
        cmocka_unit_test(test_storage),      cmocka_unit_test(test_packed_bits),   cmocka_unit_test(test_packed_memory),
        cmocka_unit_test(test_product),      cmocka_unit_test(test_gradcheck),     cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_merge),        cmocka_unit_test(test_wrong_factor),  cmocka_unit_test(test_merge_rounds),
        cmocka_unit_test(test_dropout),      cmocka_unit_test(test_memory),        cmocka_unit_test_setup(test_resume, clear),
        cmocka_unit_test_setup(test_checkpoint, clear),                            cmocka_unit_test_setup(test_integer_base, clear),
        cmocka_unit_test_setup(test_merged_checkpoint, clear),
        cmocka_unit_test_setup(test_out_of_memory, clear),
        cmocka_unit_test_setup(test_errors, clear),                                cmocka_unit_test_setup(test_no_init, clear),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
