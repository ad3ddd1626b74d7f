/* Families of models: the layers and names they stand for, gradients of whole models by finite differences (double build), what a token may
 * see, generation with kept keys and values, tied weights, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/nn.h"

typedef struct built {
    qt_arena  arena;
    qt_store *store;
    qt_model *model;
    qt_tape  *tape;
    qt_err    err;
} built;

enum { T = 6, VOCAB = 11, N = 2 };
static const qt_shape text = {1, {T}, VOCAB}, image = {3, {1, 28, 28}};

static built make(const char *model, qt_shape in, int64_t classes)
{
    built    b = {.store = qt_store_new(1), .tape = qt_tape_new()};
    qt_yaml *y;
    if (qt_yaml_parse(&b.arena, model, strlen(model), "m", &y) != QT_OK) fail_msg("%s", qt_error_text());
    b.err = qt_model_build(&b.arena, b.store, y, NULL, in, classes, &b.model);
    if (b.err == QT_OK) assert_int_equal(qt_store_seal(b.store, 0), QT_OK);
    return b;
}

static void drop(built *b)
{
    qt_tape_free(b->tape);
    qt_store_free(b->store);
    qt_arena_free(&b->arena);
}

static built make_ok(const char *model, qt_shape in, int64_t classes)
{
    built b = make(model, in, classes);
    if (b.err != QT_OK) fail_msg("%s: %s", model, qt_error_text());
    return b;
}

static void refuse(const char *model, qt_shape in, const char *message)
{
    built b = make(model, in, in.ids ? VOCAB : 10);
    assert_int_not_equal(b.err, QT_OK);
    assert_string_equal(qt_error_text(), message);
    qt_error_clear();
    drop(&b);
}

static int32_t token(int64_t i) { return (int32_t)((i * 7 + i * i * 3 + 2) % VOCAB); }

/* Loss on n texts (or images) whose contents depend on their place only. */
static qt_tensor *loss_of(built *b)
{
    qt_tape   *t = b->tape;
    qt_tensor *x, *y;
    if (b->model->in.ids) {
        x = qt_input_ids(t, 2, (int64_t[]){N, T}), y = qt_input_ids(t, 1, (int64_t[]){N * T});
        for (int64_t i = 0; i < x->n; i++) x->ids[i] = token(i), y->ids[i] = token(i + 1);
    } else {
        qt_rng r = qt_rng_named(7, "x");
        x = qt_input(t, 4, (int64_t[]){N, 1, 28, 28}), y = qt_input_ids(t, 1, (int64_t[]){N});
        for (int64_t i = 0; i < x->n; i++) x->data[i] = (R)qt_rng_normal(&r);
        for (int64_t i = 0; i < N; i++) y->ids[i] = (int32_t)i;
    }
    return qt_cross_entropy(t, qt_model_forward(t, b->model, x), y, 0, -100);
}

static const char *const family[] = {
    "{arch: llama, d_model: 8, n_layer: 2, n_head: 2, n_kv_head: 1, d_ff: 12, init_std: 0.3}",
    "{arch: bitnet, d_model: 8, n_layer: 1, n_head: 2, d_ff: 12, activation: relu2, init_std: 0.3}",
    "{arch: llama, d_model: 8, n_layer: 1, n_head: 2, d_ff: 12, linear_norm: layer_norm, rope: half, activation: gelu, init_std: 0.3}",
    "{arch: gpt2, d_model: 8, n_layer: 2, n_head: 2, init_std: 0.3}",
};
enum { FAMILIES = sizeof family / sizeof *family };
static const char *const vit = "{arch: vit, d_model: 8, n_layer: 2, n_head: 2}";

/* ---- what they stand for ------------------------------------------------------------------------------------------------------- */

static void assert_has(const built *b, const char *name, int64_t rows, int64_t columns)
{
    qt_tensor *w = qt_param_find(b->store, name);
    if (!w) fail_msg("no parameter %s", name);
    assert_int_equal(w->dim[0], rows);
    if (columns) assert_int_equal(w->dim[1], columns);
}

static void test_names(void **state)
{
    (void)state;
    built b = make_ok(family[0], text, VOCAB);
    assert_has(&b, "token_embd.weight", VOCAB, 8);
    assert_has(&b, "blk.0.attn_norm.weight", 8, 0);
    assert_has(&b, "blk.1.attn_q.weight", 8, 8);
    assert_has(&b, "blk.1.attn_k.weight", 4, 8);
    assert_has(&b, "blk.0.attn_output.weight", 8, 8);
    assert_has(&b, "blk.0.ffn_gate.weight", 12, 8);
    assert_has(&b, "blk.0.ffn_down.weight", 8, 12);
    assert_has(&b, "output_norm.weight", 8, 0);
    assert_has(&b, "output.weight", VOCAB, 8);
    assert_null(qt_param_find(b.store, "blk.0.attn_sub_norm.weight"));
    drop(&b);
    b = make_ok(family[1], text, VOCAB);
    assert_has(&b, "blk.0.attn_sub_norm.weight", 8, 0);
    assert_has(&b, "blk.0.ffn_sub_norm.weight", 12, 0);
    assert_null(qt_param_find(b.store, "output.weight")); /* the embedding's */
    drop(&b);
    b = make_ok(vit, image, 10);
    assert_has(&b, "embed.weight", 8, 49);
    assert_has(&b, "positions.weight", 16, 8);
    assert_has(&b, "blk.1.qkv.bias", 24, 0);
    assert_has(&b, "head.weight", 10, 8);
    drop(&b);
}

static void test_tied_weight_counts_once(void **state)
{
    double bits, tied, own;
    (void)state;
    built b = make_ok("{arch: llama, d_model: 8, n_layer: 1, n_head: 2, d_ff: 12, tied: true}", text, VOCAB);
    assert_int_equal(qt_model_bits(b.model, &bits, &tied), QT_OK);
    assert_false(qt_module_owns_weight(&b.model->m[b.model->n - 1]));
    drop(&b);
    b = make_ok("{arch: llama, d_model: 8, n_layer: 1, n_head: 2, d_ff: 12}", text, VOCAB);
    assert_int_equal(qt_model_bits(b.model, &bits, &own), QT_OK);
    assert_true(own - tied == 4 * VOCAB * 8);
    drop(&b);
}

/* ---- running ------------------------------------------------------------------------------------------------------------------- */

#ifdef QT_DOUBLE
/* Central differences over some elements of each parameter. */
static void check_gradient(const char *model, qt_shape in, int64_t classes)
{
    const double h = 1e-6;
    built        b = make_ok(model, in, classes);
    qt_tape_mode(b.tape, true, true);
    if (qt_backward(b.tape, loss_of(&b)) != QT_OK) fail_msg("%s", qt_error_text());
    for (int k = 0; k < b.store->n; k++) {
        qt_param *p = b.store->p[k];
        for (int64_t i = 0; i < p->t.n; i += 1 + p->t.n / 12) {
            R      w = p->t.data[i];
            double up, down;
            qt_tape_reset(b.tape), p->t.data[i] = w + h, up = loss_of(&b)->data[0];
            qt_tape_reset(b.tape), p->t.data[i] = w - h, down = loss_of(&b)->data[0];
            p->t.data[i] = w;
            if (fabs((up - down) / (2 * h) - p->t.grad[i]) > 1e-8)
                fail_msg("%s: %s[%lld]: %g, numeric %g", model, p->t.name, (long long)i, p->t.grad[i], (up - down) / (2 * h));
        }
    }
    drop(&b);
}

static void test_gradients(void **state)
{
    (void)state;
    for (int i = 0; i < FAMILIES; i++) check_gradient(family[i], text, VOCAB);
    check_gradient(vit, image, 10);
}
#endif

/* Logits [T, VOCAB] of one text; the caller frees them. */
static R *logits(built *b, const int32_t *ids, int64_t n)
{
    qt_tape_reset(b->tape);
    qt_tape_mode(b->tape, false, false);
    qt_tensor *x = qt_input_ids(b->tape, 2, (int64_t[]){1, n});
    memcpy(x->ids, ids, (size_t)n * sizeof *ids);
    qt_tensor *y = qt_model_forward(b->tape, b->model, x);
    if (qt_tape_error(b->tape) != QT_OK) fail_msg("%s", qt_error_text());
    assert_int_equal(y->n, n * VOCAB);
    return memcpy(malloc((size_t)y->n * sizeof(R)), y->data, (size_t)y->n * sizeof(R));
}

/* A later token changes nothing before it, and something at its own place. */
static void test_causal(void **state)
{
    (void)state;
    for (int i = 0; i < FAMILIES; i++) {
        built   b = make_ok(family[i], text, VOCAB);
        int32_t ids[T] = {1, 2, 3, 4, 5, 6};
        R      *a = logits(&b, ids, T);
        ids[4] = 9;
        R *c = logits(&b, ids, T);
        assert_memory_equal(a, c, 4 * VOCAB * sizeof(R));
        assert_memory_not_equal(a + 4 * VOCAB, c + 4 * VOCAB, VOCAB * sizeof(R));
        assert_memory_not_equal(a + 5 * VOCAB, c + 5 * VOCAB, VOCAB * sizeof(R));
        free(a), free(c);
        drop(&b);
    }
}

/* Three tokens at once and then one by one give what the whole text gives. */
static void test_kept_keys(void **state)
{
    const double close = sizeof(R) == 8 ? 1e-13 : 1e-5;
    (void)state;
    for (int i = 0; i < FAMILIES; i++) {
        built   b = make_ok(family[i], text, VOCAB);
        int32_t ids[T] = {1, 2, 3, 4, 5, 6};
        R      *whole = logits(&b, ids, T);
        assert_int_equal(qt_model_keep(&b.arena, b.model, T), QT_OK);
        for (int64_t at = 0, n = 3; at < T; at += n, n = 1) {
            b.tape->first = at;
            R *part = logits(&b, ids + at, n);
            for (int64_t k = 0; k < n * VOCAB; k++)
                if (fabs((double)(part[k] - whole[at * VOCAB + k])) > close) fail_msg("%s, token %d", family[i], (int)at);
            free(part);
        }
        free(whole);
        drop(&b);
    }
}

static void test_threads_and_memory(void **state)
{
    (void)state;
    for (int i = 0; i <= FAMILIES; i++) {
        const char *model = i < FAMILIES ? family[i] : vit;
        R          *grad = NULL;
        for (int threads = 1; threads <= 2; threads++) {
            int64_t before = 0;
            qt_set_threads(threads);
            built b = make_ok(model, i < FAMILIES ? text : image, i < FAMILIES ? VOCAB : 10);
            qt_tape_mode(b.tape, true, true);
            for (int k = 0; k < 4; k++) {
                if (k == 2) before = qt_alloc_count();
                qt_tape_reset(b.tape), qt_store_zero_grad(b.store);
                if (qt_backward(b.tape, loss_of(&b)) != QT_OK) fail_msg("%s", qt_error_text());
            }
            assert_int_equal(qt_alloc_count(), before);
            size_t bytes = (size_t)b.store->size * sizeof(R);
            if (grad) assert_memory_equal(grad, b.store->grad, bytes);
            else grad = memcpy(malloc(bytes), b.store->grad, bytes);
            drop(&b);
        }
        free(grad);
    }
    qt_set_threads(0);
}

/* ---- errors -------------------------------------------------------------------------------------------------------------------- */

static void test_errors(void **state)
{
    (void)state;
    refuse("{arch: llama, d_model: 6, n_layer: 1, n_head: 4, d_ff: 8}", text, "m:1:1: model: 6 numbers a token do not share out to 4 heads");
    refuse("{arch: llama, d_model: 6, n_layer: 1, n_head: 2, d_ff: 8}", text,
           "m:1:1: blk.0.attn: rope turns pairs of numbers, but a head has 3; an even head size is wanted");
    refuse("{arch: llama, d_model: 8, n_layer: 1, n_head: 4, n_kv_head: 3, d_ff: 8}", text, "m:1:1: blk.0.attn: 4 heads cannot share 3 kv_heads");
    refuse("{arch: llama, d_model: 8, n_layer: 1, n_head: 4, d_ff: 8}", image,
           "m:1:1: model: a language model reads tokens, but the data are numbers");
    refuse("{arch: llama, d_model: 8, n_head: 4, d_ff: 8, n_layers: 2}", text,
           "m:1:47: model.n_layers: unknown key, did you mean 'n_layer'?\nm:1:1: model.n_layer: missing, it has no default (blocks)");
    refuse("{arch: llama, d_model: 8, n_layer: 1, n_head: 4, d_ff: 8, vocab: 9}", text,
           "m:1:1: output: the last layer gives [6, 9], but 6 tokens of 11 kinds take [6, 11]");
    refuse("{arch: vit, patch: 5}", image, "m:1:1: patches1: patches of 5 x 5 do not tile an image of 28 x 28");
    refuse("[{use: linear, out: 4}]", text, "m:1:2: linear1: linear reads numbers, but the data are ids (begin with an `embedding`)\n"
                                            "m:1:21: linear1: the last layer gives [4], but 6 tokens of 11 kinds take [6, 11]");
    refuse("[{use: embedding, num: 11, dim: 4, name: e}, {use: linear, out: 11, tied: f}]", text,
           "m:1:46: linear1: tied: there is no layer 'f' with a weight before this one");
    refuse("[{use: embedding, num: 11, dim: 4, name: e}, {use: attention, heads: 2, from: [e, e]}, {use: linear, out: 11}]", text,
           "m:1:79: model[1].from: expected a list of 3 names, found 2");
    refuse("[{use: embedding, num: 11, dim: 4, name: e}, {use: attention, heads: 3}, {use: linear, out: 11}]", text,
           "m:1:46: attention1: queries, keys and values of 3 + 2 x 3 heads side by side do not make [6, 4]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_tied_weight_counts_once),
#ifdef QT_DOUBLE
        cmocka_unit_test(test_gradients),
#endif
        cmocka_unit_test(test_causal),
        cmocka_unit_test(test_kept_keys),
        cmocka_unit_test(test_threads_and_memory),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
