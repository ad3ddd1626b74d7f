/* Every operation of the registry, driven by its cases: a new op is tested by having them. What the results should be is in
 * test_ops_values.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "autograd/gradcheck.h"
#include "base/par.h"
#include "ops/ops.h"

static const double eps = sizeof(R) == sizeof(float) ? 0x1p-24 : 0x1p-53;

/* For each case c of each operation op. */
#define FOR_OPS(op)                                                                                \
    for (const qt_desc *const *desc_ = qt_ops.all; *desc_; desc_++)                                \
        for (const qt_op *op = (const qt_op *)*desc_, *once_ = op; once_; once_ = NULL)
#define FOR_CASES(op, c) for (const qt_case *c = op->cases; c && c->name; c++)

#define HOLDS(cond, op, c, ...)                                                                    \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            print_error("%s, case %s: ", op->d.name, c->name);                                     \
            print_error(__VA_ARGS__);                                                              \
            fail_msg("%s: %s does not hold", op->d.name, #cond);                                   \
        }                                                                                          \
    } while (0)

/* ---- running a case ---------------------------------------------------------------------------------------------------------- */

/* What a run leaves: the result, and the gradient of each input that wanted one. */
typedef struct run {
    qt_tensor *y, *in[QT_MAX_IN];
} run;

static double prefill(int k, int64_t i) { return 1 + 0.5 * (double)((i * 7 + k * 3) % 5); }

/* Runs the case on t, which is reset first. Inputs outside the bit set `wanting` get no gradient. filled: gradients start at prefill()
 * instead of 0. dy is drawn from the seed. */
static run run_case(qt_tape *t, const qt_op *op, const qt_case *c, unsigned wanting, bool filled)
{
    run    r = {0};
    qt_rng dy = qt_rng_named(5, "dy/%s", c->name);
    qt_tape_reset(t);
    qt_tape_mode(t, !c->eval, true);
    for (int k = 0; k < qt_case_inputs(c); k++) {
        qt_tensor *x = r.in[k] = qt_case_input(t, c, k, 11);
        if (!(wanting & 1u << k)) x->flags &= (uint8_t)~QT_NEEDS_GRAD, x->grad = NULL;
        for (int64_t i = 0; x->grad && filled && i < x->n; i++) x->grad[i] = (R)prefill(k, i);
    }
    r.y = c->build(t, r.in);
    HOLDS(qt_tape_error(t) == QT_OK, op, c, "%s\n", qt_error_text());
    if (qt_wants_grad(r.y)) {
        R *g = qt_tape_alloc(t, (size_t)r.y->n * sizeof(R));
        for (int64_t i = 0; i < r.y->n; i++) g[i] = (R)qt_rng_normal(&dy);
        HOLDS(qt_backward_from(t, r.y, g) == QT_OK, op, c, "%s\n", qt_error_text());
    }
    return r;
}

static bool same_bits(const R *a, const R *b, int64_t n) { return memcmp(a, b, (size_t)n * sizeof(R)) == 0; }

/* Result and gradients of two runs are the same bits. */
static void same_run(const qt_op *op, const qt_case *c, const run *a, const run *b, const char *when)
{
    HOLDS(a->y->n == b->y->n && same_bits(a->y->data, b->y->data, a->y->n), op, c, "%s: other results\n", when);
    for (int k = 0; k < qt_case_inputs(c); k++) {
        const R *g = a->in[k]->grad, *h = b->in[k]->grad;
        if (g && h) HOLDS(same_bits(g, h, a->in[k]->n), op, c, "%s: other gradients of input %d\n", when, k);
    }
}

/* ---- the tests --------------------------------------------------------------------------------------------------------------- */

static void every_op_has_doc_functions_and_cases(void **state)
{
    (void)state;
    FOR_OPS(op)
    {
        assert_non_null(op->d.name);
        if (!op->d.doc || !*op->d.doc) fail_msg("%s has no doc", op->d.name);
        if (!op->cases || !op->cases[0].name) fail_msg("%s has no cases", op->d.name);
        if (!op->shape || !op->forward) fail_msg("%s lacks shape or forward", op->d.name);
        if (op->kind != QT_NO_GRAD && !op->backward) fail_msg("%s lacks backward", op->d.name);
        FOR_CASES(op, c)
        {
            HOLDS(c->build && qt_case_inputs(c) > 0, op, c, "no build function or no inputs\n");
            for (const qt_case *other = op->cases; other != c; other++) HOLDS(strcmp(other->name, c->name), op, c, "the name comes twice\n");
        }
    }
}

static void gradients_agree_with_difference_quotients(void **state)
{
    (void)state;
    FOR_OPS(op) FOR_CASES(op, c)
    {
        qt_gradcheck_result r;
        if (op->kind != QT_EXACT) continue;
        HOLDS(qt_gradcheck(op, c, 2, &r) == QT_OK, op, c, "%s\n", qt_error_text());
        HOLDS(r.worst <= qt_gradcheck_bound(), op, c, "error %g at input %d, element %d: backward %.9g, difference quotient %.9g\n", r.worst, r.input,
              (int)r.index, r.analytic, r.numeric);
    }
}

static void gradients_add_to_what_is_there(void **state)
{
    qt_tape *a = qt_tape_new(), *b = qt_tape_new();
    (void)state;
    FOR_OPS(op) FOR_CASES(op, c)
    {
        const run plain = run_case(a, op, c, ~0u, false), filled = run_case(b, op, c, ~0u, true);
        for (int k = 0; k < qt_case_inputs(c); k++)
            for (int64_t i = 0; plain.in[k]->grad && i < plain.in[k]->n; i++) {
                const double before = prefill(k, i), g = (double)plain.in[k]->grad[i], sum = (double)filled.in[k]->grad[i];
                HOLDS(fabs(sum - (before + g)) <= 16 * eps * (before + fabs(g) + 1), op, c, "input %d: %g + %g gave %g\n", k, before, g, sum);
            }
    }
    qt_tape_free(a), qt_tape_free(b);
}

/* An op that stores writes the first gradient of an input, whatever lies in its memory. */
static void first_gradients_are_written(void **state)
{
    qt_tape *a = qt_tape_new(), *b = qt_tape_new();
    (void)state;
    FOR_OPS(op) FOR_CASES(op, c)
    {
        const run plain = run_case(a, op, c, ~0u, false);
        run       r = {0};
        qt_rng    dy = qt_rng_named(5, "dy/%s", c->name);
        qt_tape_reset(b);
        qt_tape_mode(b, !c->eval, true);
        for (int k = 0; k < qt_case_inputs(c); k++) {
            qt_tensor *x = r.in[k] = qt_case_input(b, c, k, 11);
            if (!x->grad) continue;
            x->flags |= QT_UNWRITTEN;
            for (int64_t i = 0; i < x->n; i++) x->grad[i] = (R)NAN;
        }
        r.y = c->build(b, r.in);
        if (!qt_wants_grad(r.y)) continue;
        R *g = qt_tape_alloc(b, (size_t)r.y->n * sizeof(R));
        for (int64_t i = 0; i < r.y->n; i++) g[i] = (R)qt_rng_normal(&dy);
        HOLDS(qt_backward_from(b, r.y, g) == QT_OK, op, c, "%s\n", qt_error_text());
        for (int k = 0; k < qt_case_inputs(c); k++)
            for (int64_t i = 0; plain.in[k]->grad && i < plain.in[k]->n; i++)
                HOLDS(plain.in[k]->grad[i] == r.in[k]->grad[i], op, c, "input %d, element %d: %g written, %g added\n", k, (int)i,
                      (double)r.in[k]->grad[i], (double)plain.in[k]->grad[i]);
    }
    qt_tape_free(a), qt_tape_free(b);
}

static void any_subset_of_inputs_may_want_gradients(void **state)
{
    qt_tape *a = qt_tape_new(), *b = qt_tape_new();
    (void)state;
    FOR_OPS(op) FOR_CASES(op, c)
    {
        const run all = run_case(a, op, c, ~0u, false);
        for (unsigned wanting = 0; wanting < 1u << qt_case_inputs(c); wanting++) {
            const run some = run_case(b, op, c, wanting, false);
            bool      any = false;
            for (int k = 0; k < qt_case_inputs(c); k++) any |= qt_wants_grad(some.in[k]);
            HOLDS(any == (some.y->grad != NULL) || op->kind == QT_NO_GRAD, op, c, "result wants a gradient: %d\n", some.y->grad != NULL);
            same_run(op, c, &all, &some, "fewer inputs want gradients");
        }
    }
    qt_tape_free(a), qt_tape_free(b);
}

/* Evaluation for its own sake (grad off) gives the results of training, and no gradients. */
static void results_do_not_depend_on_grad_mode(void **state)
{
    qt_tape *a = qt_tape_new(), *b = qt_tape_new();
    (void)state;
    FOR_OPS(op) FOR_CASES(op, c)
    {
        const run  all = run_case(a, op, c, ~0u, false);
        qt_tensor *in[QT_MAX_IN];
        qt_tape_reset(b);
        qt_tape_mode(b, !c->eval, false);
        for (int k = 0; k < qt_case_inputs(c); k++) in[k] = qt_case_input(b, c, k, 11);
        const qt_tensor *y = c->build(b, in);
        HOLDS(!y->grad && y->n == all.y->n && same_bits(y->data, all.y->data, y->n), op, c, "without gradients\n");
    }
    qt_tape_free(a), qt_tape_free(b);
}

static void fast_agrees_with_naive(void **state)
{
    qt_tape *a = qt_tape_new(), *b = qt_tape_new();
    int      twins = 0;
    (void)state;
    b->naive = true;
    FOR_OPS(op) FOR_CASES(op, c)
    {
        const run fast = run_case(a, op, c, ~0u, false), slow = run_case(b, op, c, ~0u, false);
        twins += op->naive != NULL;
        for (int64_t i = 0; i < fast.y->n; i++) {
            const double f = (double)fast.y->data[i], s = (double)slow.y->data[i];
            HOLDS(fabs(f - s) <= 64 * eps * (1 + fabs(s)), op, c, "element %d: fast %.9g, naive %.9g\n", (int)i, f, s);
        }
    }
    assert_true(twins > 0);
    qt_tape_free(a), qt_tape_free(b);
}

static void same_for_all_threads(const qt_op *op, const qt_case *c)
{
    qt_tape *a = qt_tape_new(), *b = qt_tape_new();
    qt_set_threads(1);
    const run one = run_case(a, op, c, ~0u, false);
    for (int n = 1; n <= 4; n++) {
        qt_set_threads(n);
        const run many = run_case(b, op, c, ~0u, false);
        same_run(op, c, &one, &many, "with another number of threads");
    }
    qt_set_threads(0);
    qt_tape_free(a), qt_tape_free(b);
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    FOR_OPS(op) FOR_CASES(op, c) same_for_all_threads(op, c);
}

/* Shapes of more than one chunk, with sizes that are no multiple of anything. */
#define BUILD(name, call) static qt_tensor *name(qt_tape *t, qt_tensor **in) { return call; }
BUILD(big_relu, qt_relu(t, in[0]))
BUILD(big_gelu, qt_gelu(t, in[0]))
BUILD(big_batch_norm, qt_batch_norm(t, in[0], in[1], in[2], in[3], in[4], true, 0.1, 1e-5))
BUILD(big_batch_norm_then, qt_batch_norm_then(t, in[0], in[1], in[2], in[3], in[4], in[5], true, true, 0.1, 1e-5))
BUILD(big_layer_norm, qt_layer_norm(t, in[0], in[1], in[2], 1e-5))
BUILD(big_rms_norm, qt_rms_norm(t, in[0], in[1], 1e-5))
BUILD(big_softmax, qt_softmax(t, in[0]))
BUILD(big_log_softmax, qt_log_softmax(t, in[0]))
BUILD(big_cross_entropy, qt_cross_entropy(t, in[0], in[1], 0.1, 3))
BUILD(big_mse, qt_mse(t, in[0], in[1]))
BUILD(big_l1, qt_l1(t, in[0], in[1]))
BUILD(big_kl, qt_kl(t, in[0], in[1]))
BUILD(big_add, qt_add(t, in[0], in[1]))
BUILD(big_mul, qt_mul(t, in[0], in[1]))
BUILD(big_div, qt_div(t, in[0], in[1]))
BUILD(big_permute, qt_permute(t, in[0], (int[]){2, 0, 1}))
BUILD(big_reshape, qt_reshape(t, in[0], 1, (int64_t[]){-1}))
BUILD(big_concat, qt_concat(t, in[0], in[1], 1))
BUILD(big_embedding, qt_embedding(t, in[0], in[1]))
BUILD(big_dropout, qt_dropout(t, in[0], 0.4))
BUILD(big_sum, qt_sum(t, in[0], 0))
BUILD(big_mean, qt_mean(t, in[0], -1))
BUILD(big_linear, qt_linear(t, in[0], in[1], in[2]))
BUILD(big_matmul, qt_matmul(t, in[0], in[1], false, true))
BUILD(big_rope, qt_rope(t, in[0], 3, 0, 10000, false))
BUILD(big_swiglu, qt_swiglu(t, in[0], in[1]))
BUILD(big_attention, qt_attention(t, in[0], in[1], in[2], 4, 2, true, false))
BUILD(big_conv, qt_conv2d(t, in[0], in[1], in[2], 1, 1, 1, 1))
BUILD(big_conv_stride, qt_conv2d(t, in[0], in[1], NULL, 2, 1, 1, 1))
BUILD(big_depthwise, qt_conv2d(t, in[0], in[1], NULL, 1, 1, 1, 9))
BUILD(big_max_pool, qt_max_pool2d(t, in[0], 3, 2, 1))
BUILD(big_avg_pool, qt_avg_pool2d(t, in[0], 2, 2, 0))
BUILD(big_global, qt_global_avg_pool(t, in[0]))

static const struct {
    const qt_op *op;
    qt_case      c;
} big[] = {
    {&qt_op_relu, {"big", big_relu, {{{70001}, 'n'}}}},
    {&qt_op_gelu, {"big", big_gelu, {{{257, 131}, 'n'}}}},
    {&qt_op_batch_norm, {"big images", big_batch_norm, {{{9, 7, 33, 31}, 'n'}, {{7}, 'n'}, {{7}, 'n'}, {{7}, 'c'}, {{7}, 'c'}}}},
    {&qt_op_batch_norm, {"big rows", big_batch_norm, {{{137, 301}, 'n'}, {{301}, 'n'}, {{301}, 'n'}, {{301}, 'c'}, {{301}, 'c'}}}},
    {&qt_op_batch_norm, {"big, skip and relu", big_batch_norm_then,
                         {{{9, 7, 33, 31}, 'n'}, {{7}, 'n'}, {{7}, 'n'}, {{7}, 'c'}, {{7}, 'c'}, {{9, 7, 33, 31}, 'n'}}}},
    {&qt_op_layer_norm, {"big", big_layer_norm, {{{301, 137}, 'n'}, {{137}, 'n'}, {{137}, 'n'}}}},
    {&qt_op_rms_norm, {"big", big_rms_norm, {{{301, 137}, 'n'}, {{137}, 'n'}}}},
    {&qt_op_softmax, {"big", big_softmax, {{{301, 137}, 'n'}}}},
    {&qt_op_log_softmax, {"big", big_log_softmax, {{{301, 137}, 'n'}}}},
    {&qt_op_cross_entropy, {"big", big_cross_entropy, {{{3001, 17}, 'n'}, {{3001}, 'i', 17}}}},
    {&qt_op_mse, {"big", big_mse, {{{50003}, 'n'}, {{50003}, 'n'}}}},
    {&qt_op_l1, {"big", big_l1, {{{50003}, 'n'}, {{50003}, 'n'}}}},
    {&qt_op_kl, {"big", big_kl, {{{5003, 10}, 'n'}, {{5003, 10}, 'q'}}}},
    {&qt_op_add, {"big", big_add, {{{50003}, 'n'}, {{50003}, 'n'}}}},
    {&qt_op_add, {"big, narrow row", big_add, {{{5003, 10}, 'n'}, {{10}, 'n'}}}},
    {&qt_op_mul, {"big, one number", big_mul, {{{50003}, 'n'}, {{1}, 'n'}}}},
    {&qt_op_div, {"big, wide row", big_div, {{{51, 999}, 'n'}, {{999}, 'p'}}}},
    {&qt_op_permute, {"big", big_permute, {{{41, 30, 51}, 'n'}}}},
    {&qt_op_reshape, {"big", big_reshape, {{{41, 30, 51}, 'n'}}}},
    {&qt_op_concat, {"big", big_concat, {{{301, 101}, 'n'}, {{301, 37}, 'n'}}}},
    {&qt_op_embedding, {"big", big_embedding, {{{50, 150}, 'n'}, {{401}, 'i', 50}}}},
    {&qt_op_dropout, {"big", big_dropout, {{{50003}, 'n'}}}},
    {&qt_op_sum, {"big", big_sum, {{{301, 137}, 'n'}}}},
    {&qt_op_mean, {"big", big_mean, {{{301, 137}, 'n'}}}},
    {&qt_op_linear, {"big", big_linear, {{{129, 300}, 'n'}, {{257, 300}, 'n'}, {{257}, 'n'}}}},
    {&qt_op_linear, {"big, thin head", big_linear, {{{129, 512}, 'n'}, {{10, 512}, 'n'}, {{10}, 'n'}}}},
    {&qt_op_matmul, {"big batch", big_matmul, {{{6, 65, 33}, 'n'}, {{6, 71, 33}, 'n'}}}},
    {&qt_op_rope, {"big", big_rope, {{{3, 151, 3 * 38}, 'n'}}}},
    {&qt_op_swiglu, {"big", big_swiglu, {{{301, 137}, 'n'}, {{301, 137}, 'n'}}}},
    {&qt_op_attention, {"big", big_attention, {{{3, 101, 4 * 34}, 'n'}, {{3, 117, 2 * 34}, 'n'}, {{3, 117, 2 * 34}, 'n'}}}},
    {&qt_op_conv2d, {"big", big_conv, {{{5, 16, 17, 19}, 'n'}, {{24, 16, 3, 3}, 'n'}, {{24}, 'n'}}}},
    {&qt_op_conv2d, {"big, stride 2", big_conv_stride, {{{5, 16, 17, 19}, 'n'}, {{24, 16, 3, 3}, 'n'}}}},
    {&qt_op_conv2d, {"big, depthwise", big_depthwise, {{{6, 9, 17, 19}, 'n'}, {{9, 1, 3, 3}, 'n'}}}},
    {&qt_op_max_pool2d, {"big", big_max_pool, {{{6, 9, 23, 29}, 'n'}}}},
    {&qt_op_avg_pool2d, {"big", big_avg_pool, {{{6, 9, 23, 29}, 'n'}}}},
    {&qt_op_global_avg_pool, {"big", big_global, {{{6, 9, 23, 29}, 'n'}}}},
};

static void threads_do_not_change_a_bit_of_many_chunks(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof big / sizeof *big; k++) same_for_all_threads(big[k].op, &big[k].c);
}

static void big_results_agree_with_naive(void **state)
{
    qt_tape *a = qt_tape_new(), *b = qt_tape_new();
    (void)state;
    b->naive = true;
    for (size_t k = 0; k < sizeof big / sizeof *big; k++) {
        const qt_case *c = &big[k].c;
        if (!big[k].op->naive) continue;
        const run fast = run_case(a, big[k].op, c, 0, false), slow = run_case(b, big[k].op, c, 0, false);
        double    largest = 1;
        for (int64_t i = 0; i < fast.y->n; i++) largest = fmax(largest, fabs((double)slow.y->data[i]));
        for (int64_t i = 0; i < fast.y->n; i++) {
            const double f = (double)fast.y->data[i], s = (double)slow.y->data[i];
            HOLDS(fabs(f - s) <= 64 * eps * largest, big[k].op, c, "element %d: fast %.9g, naive %.9g\n", (int)i, f, s);
        }
    }
    qt_tape_free(a), qt_tape_free(b);
}

/* ---- errors ------------------------------------------------------------------------------------------------------------------ */

#define X(...) qt_variable(t, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
#define IDS(...) ids_of(t, (int)(sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)), (int32_t[]){__VA_ARGS__})

static qt_tensor *ids_of(qt_tape *t, int n, const int32_t *v)
{
    qt_tensor *x = qt_input_ids(t, 1, (int64_t[]){n});
    memcpy(x->ids, v, (size_t)n * sizeof *v);
    return x;
}

/* A wrong call of each kind, and what the message must say. */
#define WRONG(k, call) static qt_tensor *wrong_##k(qt_tape *t) { return call; }
WRONG(1, qt_add(t, X(2, 4), X(3)))
WRONG(2, qt_mul(t, X(2, 4), X(4, 2)))
WRONG(3, qt_sub(t, X(3), X(2, 3)))
WRONG(4, qt_cross_entropy(t, X(2, 10), IDS(3, 12), 0, -100))
WRONG(5, qt_cross_entropy(t, X(2, 10), IDS(-1, 2), 0, -100))
WRONG(6, qt_cross_entropy(t, X(2, 10), IDS(1), 0, -100))
WRONG(7, qt_cross_entropy(t, X(2, 10), X(2), 0, -100))
WRONG(8, qt_cross_entropy(t, X(2, 10), IDS(1, 2), 1.5, -100))
WRONG(9, qt_mse(t, X(2, 3), X(3, 2)))
WRONG(10, qt_kl(t, X(2, 3), X(2)))
WRONG(11, qt_batch_norm(t, X(2, 3), X(4), NULL, X(3), X(3), true, 0.1, 1e-5))
WRONG(12, qt_batch_norm(t, X(6), NULL, NULL, X(6), X(6), true, 0.1, 1e-5))
WRONG(13, qt_batch_norm(t, X(2, 3), NULL, NULL, NULL, X(3), true, 0.1, 1e-5))
WRONG(14, qt_layer_norm(t, X(2, 3), X(3), X(2), 1e-5))
WRONG(15, qt_rms_norm(t, X(2, 3), X(2), 1e-5))
WRONG(16, qt_transpose(t, X(3)))
WRONG(17, qt_permute(t, X(2, 3), (int[]){0, 0}))
WRONG(18, qt_permute(t, X(2, 3), (int[]){0, 2}))
WRONG(19, qt_reshape(t, X(2, 3), 2, (int64_t[]){4, -1}))
WRONG(20, qt_reshape(t, X(2, 3), 2, (int64_t[]){-1, -1}))
WRONG(21, qt_reshape(t, X(2, 3), 6, (int64_t[]){1, 1, 1, 1, 1, 6}))
WRONG(22, qt_concat(t, X(2, 3), X(3, 3), 1))
WRONG(23, qt_concat(t, X(2, 3), X(3, 3), 2))
WRONG(24, qt_slice(t, X(2, 3), 1, 2, 4))
WRONG(25, qt_slice(t, X(2, 3), 0, 1, 1))
WRONG(26, qt_slice(t, X(2, 3), -3, 0, 1))
WRONG(27, qt_pad(t, X(2, 3), 0, -1, 0, 0))
WRONG(28, qt_embedding(t, X(5, 3), IDS(0, 5)))
WRONG(29, qt_embedding(t, X(5), IDS(0)))
WRONG(30, qt_embedding(t, X(5, 3), X(2)))
WRONG(31, qt_gather(t, X(5, 3), IDS(0, 1, -2)))
WRONG(32, qt_dropout(t, X(5), 1))
WRONG(33, qt_sum(t, X(2, 3), 2))
WRONG(34, qt_mean(t, X(2, 3), -3))
WRONG(35, qt_linear(t, X(2, 3), X(4, 5), NULL))
WRONG(36, qt_matmul(t, X(2, 3), X(4, 5), false, false))
WRONG(37, qt_conv2d(t, X(1, 3, 8, 8), X(4, 2, 3, 3), NULL, 1, 1, 1, 1))
WRONG(38, qt_conv2d(t, X(1, 3, 2, 2), X(4, 3, 5, 5), NULL, 1, 0, 1, 1))
WRONG(39, qt_max_pool2d(t, X(2, 3), 2, 2, 0))
WRONG(40, qt_rope(t, X(2, 3, 10), 2, 0, 10000, false))
WRONG(41, qt_rope(t, X(12), 2, 0, 10000, false))
WRONG(42, qt_rope(t, X(3, 4), 2, 0, 0, false))
WRONG(43, qt_swiglu(t, X(2, 3), X(3, 2)))
WRONG(44, qt_attention(t, X(1, 3, 8), X(1, 3, 8), X(1, 3, 8), 4, 3, false, false))
WRONG(45, qt_attention(t, X(3, 8), X(3, 8), X(3, 8), 4, 4, false, false))
WRONG(46, qt_attention(t, X(1, 3, 8), X(1, 3, 8), X(1, 3, 8), 4, 2, false, false))
WRONG(47, qt_attention(t, X(1, 3, 8), X(1, 5, 4), X(1, 6, 4), 4, 2, false, false))
WRONG(48, qt_attention(t, X(1, 3, 8), X(1, 2, 8), X(1, 2, 8), 4, 4, true, false))

static const struct {
    qt_tensor *(*call)(qt_tape *t);
    qt_err      code;
    const char *says[3];
} wrong[] = {
    {wrong_1, QT_ESHAPE, {"add", "b [3] does not fit a [2, 4]", "[4]"}},
    {wrong_2, QT_ESHAPE, {"mul", "[4, 2]", "[2, 4]"}},
    {wrong_3, QT_ESHAPE, {"sub", "[2, 3]", "[3]"}},
    {wrong_4, QT_EDATA, {"cross_entropy", "label 12 out of range, the output has 10 classes", "target 2 of 2"}},
    {wrong_5, QT_EDATA, {"cross_entropy", "label -1 out of range", "target 1 of 2"}},
    {wrong_6, QT_ESHAPE, {"cross_entropy", "[1]", "[2, 10]"}},
    {wrong_7, QT_ESHAPE, {"cross_entropy", "must be class ids"}},
    {wrong_8, QT_ESHAPE, {"cross_entropy", "label smoothing is 1.5"}},
    {wrong_9, QT_ESHAPE, {"mse", "[3, 2]", "[2, 3]"}},
    {wrong_10, QT_ESHAPE, {"kl", "[2]", "[2, 3]"}},
    {wrong_11, QT_ESHAPE, {"batch_norm", "weight is [4]", "3 channels"}},
    {wrong_12, QT_ESHAPE, {"batch_norm", "x is [6]", "[N, C]"}},
    {wrong_13, QT_ESHAPE, {"batch_norm", "mean is missing"}},
    {wrong_14, QT_ESHAPE, {"layer_norm", "bias is [2]", "3 numbers"}},
    {wrong_15, QT_ESHAPE, {"rms_norm", "weight is [2]", "[2, 3]"}},
    {wrong_16, QT_ESHAPE, {"transpose", "[3]", "two axes"}},
    {wrong_17, QT_ESHAPE, {"permute", "entry 1", "[2, 3]"}},
    {wrong_18, QT_ESHAPE, {"permute", "entry 1", "is 2"}},
    {wrong_19, QT_ESHAPE, {"reshape", "[2, 3]", "[4, -1]"}},
    {wrong_20, QT_ESHAPE, {"reshape", "[-1, -1]", "at most one is -1"}},
    {wrong_21, QT_ESHAPE, {"reshape", "1 to 5 axes, not 6"}},
    {wrong_22, QT_ESHAPE, {"concat", "[2, 3] and [3, 3]", "axes but 1"}},
    {wrong_23, QT_ESHAPE, {"concat", "no axis 2 in [2, 3]"}},
    {wrong_24, QT_ESHAPE, {"slice", "[2, 4) is not within axis 1 of [2, 3]"}},
    {wrong_25, QT_ESHAPE, {"slice", "[1, 1)"}},
    {wrong_26, QT_ESHAPE, {"slice", "no axis -3 in [2, 3]"}},
    {wrong_27, QT_ESHAPE, {"pad", "-1 before"}},
    {wrong_28, QT_EDATA, {"embedding", "id 5 out of range", "5 rows"}},
    {wrong_29, QT_ESHAPE, {"embedding", "[5]", "[V, D]"}},
    {wrong_30, QT_ESHAPE, {"embedding", "by ids"}},
    {wrong_31, QT_EDATA, {"gather", "id -2 out of range", "id 3 of 3"}},
    {wrong_32, QT_ESHAPE, {"dropout", "the probability is 1"}},
    {wrong_33, QT_ESHAPE, {"sum", "no axis 2 in [2, 3]"}},
    {wrong_34, QT_ESHAPE, {"mean", "no axis -3 in [2, 3]"}},
    {wrong_35, QT_ESHAPE, {"linear", "[2, 3]", "[4, 5]"}},
    {wrong_36, QT_ESHAPE, {"matmul", "[2, 3]", "[4, 5]"}},
    {wrong_37, QT_ESHAPE, {"conv2d"}},
    {wrong_38, QT_ESHAPE, {"conv2d"}},
    {wrong_39, QT_ESHAPE, {"max_pool2d", "[2, 3]"}},
    {wrong_40, QT_ESHAPE, {"rope", "10 numbers", "2 heads of an even size"}},
    {wrong_41, QT_ESHAPE, {"rope", "[12]", "[B, T, heads*D]"}},
    {wrong_42, QT_ESHAPE, {"rope", "base is 0"}},
    {wrong_43, QT_ESHAPE, {"swiglu", "[2, 3]", "[3, 2]"}},
    {wrong_44, QT_ESHAPE, {"attention", "4 heads", "3 key heads"}},
    {wrong_45, QT_ESHAPE, {"attention", "q is [3, 8]", "[B, T, 4*D]"}},
    {wrong_46, QT_ESHAPE, {"attention", "k [1, 3, 8]", "[1, T, 4]"}},
    {wrong_47, QT_ESHAPE, {"attention", "v [1, 6, 4]", "k [1, 5, 4]"}},
    {wrong_48, QT_ESHAPE, {"attention", "3 queries, but 2 keys"}},
};

static void wrong_shapes_are_reported(void **state)
{
    qt_tape *t = qt_tape_new();
    (void)state;
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        qt_tape_reset(t);
        qt_error_clear();
        t->path = "blk.2.here";
        wrong[k].call(t);
        if (qt_tape_error(t) != wrong[k].code) fail_msg("wrong call %d gave error %d: %s", (int)k + 1, (int)qt_tape_error(t), qt_error_text());
        if (!strstr(qt_error_text(), "at blk.2.here: ")) fail_msg("no path in '%s'", qt_error_text());
        for (int i = 0; i < 3 && wrong[k].says[i]; i++) {
            const char *says = wrong[k].says[i];
            if (!strstr(qt_error_text(), says)) fail_msg("wrong call %d: '%s' is not in '%s'", (int)k + 1, says, qt_error_text());
        }
    }
    qt_error_clear();
    qt_tape_free(t);
}

/* After the first error no call does anything, on any operation; the first message stays alone. */
static void errors_stick_to_the_tape(void **state)
{
    qt_tape *t = qt_tape_new();
    (void)state;
    FOR_OPS(op) FOR_CASES(op, c)
    {
        qt_tensor *in[QT_MAX_IN];
        qt_tape_reset(t);
        qt_error_clear();
        for (int k = 0; k < qt_case_inputs(c); k++) in[k] = qt_case_input(t, c, k, 11);
        qt_tensor *bad = qt_add(t, X(2, 4), X(3));
        const int  n = t->n;
        qt_tensor *y = c->build(t, in), *z = qt_relu(t, qt_add(t, y, bad));
        HOLDS(y->rank == 0 && z->rank == 0 && t->n == n, op, c, "a call after an error did something\n");
        HOLDS(qt_tape_error(t) == QT_ESHAPE && qt_backward(t, z) == QT_ESHAPE, op, c, "the error is lost\n");
        HOLDS(strstr(qt_error_text(), "b [3] does not fit") && qt_error_count() == 1, op, c, "%s\n", qt_error_text());
    }
    qt_error_clear();
    qt_tape_free(t);
}

/* ---- memory ------------------------------------------------------------------------------------------------------------------ */

/* An op that runs out of memory in shape() leaves an error, not a crash, at whichever allocation that is. */
static void out_of_memory_is_an_error(void **state)
{
    (void)state;
    FOR_OPS(op)
    {
        const qt_case *c = op->cases;
        qt_err         e = QT_EMEM;
        for (int n = 1; e != QT_OK && n < 50; n++) {
            qt_tape   *t = qt_tape_new();
            qt_tensor *in[QT_MAX_IN];
            for (int k = 0; k < qt_case_inputs(c); k++) in[k] = qt_case_input(t, c, k, 11);
            qt_alloc_fail_at(n);
            c->build(t, in);
            e = qt_tape_error(t);
            qt_alloc_fail_at(0);
            HOLDS(e == QT_OK || e == QT_EMEM, op, c, "error %d, not out of memory: %s\n", (int)e, qt_error_text());
            qt_tape_free(t);
        }
        HOLDS(e == QT_OK, op, c, "still fails after 50 allocations\n");
    }
    qt_error_clear();
}

/* A case that has run twice on a tape runs again without an allocation, forward and backward. */
static void warm_ops_allocate_nothing(void **state)
{
    (void)state;
    FOR_OPS(op) FOR_CASES(op, c)
    {
        qt_tape *t = qt_tape_new();
        run_case(t, op, c, ~0u, false), run_case(t, op, c, ~0u, false);
        const int64_t warm = qt_alloc_count();
        run_case(t, op, c, ~0u, false);
        HOLDS(qt_alloc_count() == warm, op, c, "%d allocations in a warm run\n", (int)(qt_alloc_count() - warm));
        qt_tape_free(t);
    }
}

/* The same for a small network, which learns meanwhile. */
static R step(qt_tape *t, R *p)
{
    qt_tape_reset(t);
    t->step++;
    qt_tensor *x = qt_input(t, 4, (int64_t[]){4, 2, 8, 8}), *k = X(3, 2, 3, 3), *w = X(10, 48), *mean = qt_input(t, 1, (int64_t[]){3}),
              *var = qt_input(t, 1, (int64_t[]){3}), *y = IDS(1, 0, 9, 4);
    for (int64_t i = 0; i < x->n; i++) x->data[i] = (R)sin((double)i);
    memcpy(k->data, p, (size_t)k->n * sizeof(R));
    memcpy(w->data, p + k->n, (size_t)w->n * sizeof(R));
    qt_tensor *h = qt_relu(t, qt_batch_norm(t, qt_conv2d(t, x, k, NULL, 1, 1, 1, 1), NULL, NULL, mean, var, true, 0.1, 1e-5));
    h = qt_reshape(t, qt_max_pool2d(t, h, 2, 2, 0), 2, (int64_t[]){4, -1});
    qt_tensor *loss = qt_cross_entropy(t, qt_linear(t, qt_dropout(t, h, 0.1), w, NULL), y, 0.1, -100);
    assert_int_equal(qt_backward(t, loss), QT_OK);
    for (int64_t i = 0; i < k->n; i++) p[i] -= (R)0.1 * k->grad[i];
    for (int64_t i = 0; i < w->n; i++) p[k->n + i] -= (R)0.1 * w->grad[i];
    return loss->data[0];
}

static void warm_steps_allocate_nothing(void **state)
{
    qt_tape *t = qt_tape_new();
    R        p[54 + 480], first, last = 0;
    (void)state;
    for (int i = 0; i < 534; i++) p[i] = (R)(0.1 * cos(3.0 * i));
    first = step(t, p), step(t, p);
    const int64_t warm = qt_alloc_count();
    for (int i = 0; i < 30; i++) last = step(t, p);
    assert_int_equal(qt_alloc_count(), warm);
    assert_true(last < first - (R)0.5);
    qt_tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_has_doc_functions_and_cases),
        cmocka_unit_test(gradients_agree_with_difference_quotients),
        cmocka_unit_test(gradients_add_to_what_is_there),
        cmocka_unit_test(first_gradients_are_written),
        cmocka_unit_test(any_subset_of_inputs_may_want_gradients),
        cmocka_unit_test(results_do_not_depend_on_grad_mode),
        cmocka_unit_test(fast_agrees_with_naive),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(threads_do_not_change_a_bit_of_many_chunks),
        cmocka_unit_test(big_results_agree_with_naive),
        cmocka_unit_test(wrong_shapes_are_reported),
        cmocka_unit_test(errors_stick_to_the_tape),
        cmocka_unit_test(out_of_memory_is_an_error),
        cmocka_unit_test(warm_ops_allocate_nothing),
        cmocka_unit_test(warm_steps_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
