/* The model: what lists, groups and `from` expand to, every error with its place, quant rules, gradients of whole models by finite
 * differences (double build), the same bits for 1 and 2 threads, no allocation in a warm step, the recipes of recipes/models. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/nn.h"

/* ---- a model from YAML text -------------------------------------------------------------------------------------------------- */

typedef struct built {
    qt_arena  arena;
    qt_store *store;
    qt_model *model;
    qt_err    err;
} built;

static const qt_yaml *parse(qt_arena *a, const char *text, const char *name)
{
    qt_yaml *y;
    if (!text) return NULL;
    if (qt_yaml_parse(a, text, strlen(text), name, &y) != QT_OK) fail_msg("%s", qt_error_text());
    return y;
}

static built make(const char *model, const char *quant, qt_shape in, int64_t classes)
{
    built b = {.store = qt_store_new(1)};
    b.err = qt_model_build(&b.arena, b.store, parse(&b.arena, model, "m"), parse(&b.arena, quant, "q"), in, classes, &b.model);
    return b;
}

static built make_ok(const char *model, const char *quant, qt_shape in, int64_t classes)
{
    built b = make(model, quant, in, classes);
    if (b.err != QT_OK) fail_msg("%s", qt_error_text());
    assert_int_equal(qt_store_seal(b.store, 0), QT_OK);
    return b;
}

static void drop(built *b)
{
    qt_store_free(b->store);
    qt_arena_free(&b->arena);
}

static void refuse(const char *model, const char *quant, qt_shape in, int64_t classes, const char *message)
{
    built b = make(model, quant, in, classes);
    assert_int_not_equal(b.err, QT_OK);
    assert_string_equal(qt_error_text(), message);
    qt_error_clear();
    drop(&b);
}

static const qt_shape image = {3, {1, 28, 28}}, color = {3, {3, 32, 32}}, row = {1, {6}};

static const qt_module *module(const built *b, const char *path)
{
    for (int i = 0; i < b->model->n; i++)
        if (!strcmp(b->model->m[i].path, path)) return &b->model->m[i];
    fail_msg("no module %s", path);
    return NULL;
}

static void assert_paths(const built *b, const char *want)
{
    char   paths[2048] = "";
    size_t n = 0;
    for (int i = 0; i < b->model->n; i++) n += (size_t)snprintf(paths + n, sizeof paths - n, "%s%s", i ? " " : "", b->model->m[i].path);
    assert_string_equal(paths, want);
}

/* ---- names, groups, inputs --------------------------------------------------------------------------------------------------- */

static void test_names(void **state)
{
    (void)state;
    built b = make_ok("[flatten, {use: linear, out: 4}, relu, {use: linear, out: 3, name: top}, relu, {use: linear, out: 2}]", NULL, image, 2);
    assert_paths(&b, "flatten1 linear1 relu1 top relu2 linear3");
    assert_non_null(qt_param_find(b.store, "linear3.bias"));
    assert_int_equal(qt_store_trained(b.store), 784 * 4 + 4 + 4 * 3 + 3 + 3 * 2 + 2);
    assert_int_equal(b.model->out.rank, 1);
    drop(&b);
}

static void test_groups(void **state)
{
    (void)state;
    built b = make_ok("[{repeat: 2, name: blk, layers: [{use: linear, out: 6}, relu, {use: add, from: input}]},\n"
                      " {name: tail, from: blk, layers: [{use: linear, out: 5, name: fc}, {layers: [silu]}]},\n"
                      " {repeat: 1, layers: [{use: add, from: tail.fc}]}, {use: linear, out: 2, from: blk.0.linear1}]",
                      NULL, row, 2);
    assert_paths(&b, "blk.0.linear1 blk.0.relu1 blk.0.add1 blk.1.linear1 blk.1.relu1 blk.1.add1 tail.fc tail.group1.silu1 repeat2.0.add1 linear1");
    assert_int_equal(module(&b, "blk.0.add1")->in[1], -1);
    assert_int_equal(module(&b, "blk.1.add1")->in[0], 4);
    assert_int_equal(module(&b, "blk.1.add1")->in[1], 2); /* what enters the second round */
    assert_int_equal(module(&b, "tail.fc")->in[0], 5);
    assert_int_equal(module(&b, "repeat2.0.add1")->in[1], 6);
    assert_int_equal(module(&b, "linear1")->in[0], 0);
    assert_int_equal(module(&b, "linear1")->in_shape[0].dim[0], 6);
    drop(&b);
}

/* `from` looks in the own list first, then outwards. */
static void test_scopes(void **state)
{
    (void)state;
    built b = make_ok("[{use: linear, out: 6, name: a}, {use: linear, out: 6, name: b},\n"
                      " {name: g, layers: [{use: linear, out: 6, name: a}, {use: add, from: a, name: inner}, {use: add, from: b, name: outer}]}]",
                      NULL, row, 0);
    assert_int_equal(module(&b, "g.inner")->in[1], 2);
    assert_int_equal(module(&b, "g.outer")->in[1], 1);
    drop(&b);
}

static void test_conv_shapes(void **state)
{
    (void)state;
    built b = make_ok(
        "[{use: pad, padding: [1, 2, 3, 4]}, {use: conv2d, out: 4, kernel: [3, 5], stride: 2, padding: 1, name: c},"
        " {use: conv2d, out: 8, kernel: 3, dilation: 2, groups: 4, bias: false, name: d}, {use: max_pool, kernel: 3, stride: 2, padding: 1, name: p},"
        " {use: avg_pool, kernel: 2, name: a}, {use: concat, from: a, name: twice}, {use: global_avg_pool, name: g}]",
        NULL, color, 16);
    char buf[96];
    assert_string_equal(qt_shape_text(&module(&b, "c")->in_shape[0], buf), "[3, 35, 39]");
    assert_string_equal(qt_shape_text(&module(&b, "c")->out_shape, buf), "[4, 18, 19]");
    assert_string_equal(qt_shape_text(&module(&b, "d")->out_shape, buf), "[8, 14, 15]");
    assert_string_equal(qt_shape_text(&module(&b, "p")->out_shape, buf), "[8, 7, 8]");
    assert_string_equal(qt_shape_text(&module(&b, "a")->out_shape, buf), "[8, 3, 4]");
    assert_string_equal(qt_shape_text(&module(&b, "twice")->out_shape, buf), "[16, 3, 4]");
    assert_int_equal(module(&b, "d")->layer->macs(module(&b, "d")), 8 * 9 * 14 * 15);
    qt_tape   *t = qt_tape_new();
    qt_tensor *x = qt_input(t, 4, (int64_t[]){2, 3, 32, 32}), *y = qt_model_forward(t, b.model, x);
    assert_int_equal(qt_tape_error(t), QT_OK);
    for (int i = 0; i < b.model->n; i++) { /* what was foretold is what comes out */
        const qt_tensor *v = b.model->value[i];
        assert_int_equal(v->rank, b.model->m[i].out_shape.rank + 1);
        assert_memory_equal(v->dim + 1, b.model->m[i].out_shape.dim, (size_t)(v->rank - 1) * sizeof *v->dim);
    }
    assert_int_equal(y->dim[1], 16);
    qt_tape_free(t);
    drop(&b);
}

/* Every layer of the table can be built and run, and gives the shape that it promises. */
static void test_every_layer(void **state)
{
    static const struct {
        const char *text;
        qt_shape    in;
    } any[] = {
        {"{use: linear, out: 4, bias: false}", {2, {3, 6}}},
        {"{use: conv2d, out: 4, kernel: 3}", {3, {2, 5, 5}}},
        {"{use: max_pool, kernel: 2}", {3, {2, 5, 5}}},
        {"{use: avg_pool, kernel: 3, stride: 1, padding: 1}", {3, {2, 5, 5}}},
        {"global_avg_pool", {3, {2, 5, 5}}},
        {"batch_norm", {3, {2, 5, 5}}},
        {"{use: batch_norm, affine: false}", {1, {6}}},
        {"layer_norm", {2, {3, 6}}},
        {"{use: layer_norm, affine: false}", {1, {6}}},
        {"rms_norm", {1, {6}}},
        {"l1_batch_norm", {3, {2, 5, 5}}},
        {"{use: l1_batch_norm, affine: false}", {1, {6}}},
        {"l1_batch_norm_int", {3, {2, 5, 5}}},
        {"l1_layer_norm", {2, {3, 6}}},
        {"{use: l1_layer_norm, affine: false}", {1, {6}}},
        {"l1_layer_norm_int", {2, {3, 6}}},
        {"max_min", {3, {4, 3, 2}}},
        {"relu", {1, {6}}},
        {"{use: leaky_relu, slope: 0.2}", {1, {6}}},
        {"rprelu", {3, {2, 4, 6}}},
        {"{use: output_scale, init: uniform}", {3, {2, 4, 6}}},
        {"gelu", {1, {6}}},
        {"{use: gelu, approximate: tanh}", {1, {6}}},
        {"silu", {1, {6}}},
        {"sigmoid", {1, {6}}},
        {"tanh", {1, {6}}},
        {"softmax", {1, {6}}},
        {"flatten", {3, {2, 5, 5}}},
        {"identity", {1, {6}}},
        {"{use: dropout, p: 0.3}", {1, {6}}},
        {"{use: add, from: input}", {1, {6}}},
        {"{use: concat, from: input}", {3, {2, 5, 5}}},
        {"{use: pad, padding: 2, value: 1}", {3, {2, 5, 5}}},
        {"{use: embedding, num: 9, dim: 4}", {1, {3}, 9}},
        {"relu2", {1, {6}}},
        {"{use: glu, from: input}", {1, {6}}},
        {"positions", {2, {3, 6}}},
        {"{use: patches, size: 2}", {3, {3, 4, 6}}},
        {"mean_tokens", {2, {3, 6}}},
        {"{use: attention, heads: 2}", {2, {3, 12}}},
        {"{use: attention, heads: 2, causal: true, rope: half, from: [input, input, input]}", {2, {3, 4}}},
    };
    bool seen[64] = {false};
    (void)state;
    for (size_t i = 0; i < sizeof any / sizeof *any; i++) {
        char    text[128];
        int64_t dim[QT_MAX_DIM] = {2};
        snprintf(text, sizeof text, "[%s]", any[i].text);
        built    b = make_ok(text, NULL, any[i].in, 0);
        qt_tape *t = qt_tape_new();
        memcpy(dim + 1, any[i].in.dim, sizeof any[i].in.dim);
        qt_tensor *x = (strstr(text, "embedding") ? qt_input_ids : qt_input)(t, any[i].in.rank + 1, dim), *y = qt_model_forward(t, b.model, x);
        if (qt_tape_error(t) != QT_OK) fail_msg("%s: %s", text, qt_error_text());
        assert_int_equal(y->rank, b.model->out.rank + 1);
        assert_memory_equal(y->dim + 1, b.model->out.dim, (size_t)b.model->out.rank * sizeof *y->dim);
        for (int k = 0; qt_layers.all[k]; k++) seen[k] |= qt_layers.all[k] == &b.model->m[0].layer->d;
        qt_tape_free(t);
        drop(&b);
    }
    for (int k = 0; qt_layers.all[k]; k++)
        if (!seen[k]) fail_msg("layer %s is not tried", qt_layers.all[k]->name);
}

/* ---- errors ------------------------------------------------------------------------------------------------------------------ */

static void test_shape_errors(void **state)
{
    (void)state;
    refuse("- {use: conv2d, out: 16, kernel: 1, name: conv1}\n- {use: linear, out: 10, name: fc2}", NULL, image, 10,
           "m:2:3: fc2: expects [features] or [tokens, features], but conv1 gives [16, 28, 28] (put a `flatten` between?)");
    refuse("[flatten, {use: conv2d, out: 16, kernel: 3}]", NULL, image, 0, "m:1:11: conv2d1: expects an image [C, H, W], but flatten1 gives [784]");
    refuse("[{use: linear, out: 10}]", NULL, image, 10,
           "m:1:2: linear1: expects [features] or [tokens, features], but the input is [1, 28, 28] (put a `flatten` between?)");
    refuse("- flatten\n- {use: linear, out: 7, name: fc3}", NULL, image, 10,
           "m:2:22: fc3: the last layer gives 7 outputs, but the data have 10 classes");
    refuse("- flatten\n- {use: linear, out: 7, name: fc3}\n- relu", NULL, image, 10,
           "m:2:22: fc3: the last layer gives 7 outputs, but the data have 10 classes");
    refuse("- flatten", NULL, image, 10, "m:1:3: flatten1: the last layer gives 784 outputs, but the data have 10 classes");
    refuse("[{use: conv2d, out: 10, kernel: 3}]", NULL, image, 10,
           "m:1:2: conv2d1: the last layer gives [10, 26, 26], but 10 classes take [10] (put a `flatten` and a `linear` at the end?)");
    refuse("[{use: linear, out: 5, name: a}, {use: linear, out: 6, name: b}, {use: add, from: a}]", NULL, row, 0,
           "m:1:66: add1: expects [6] twice, as b gives, but a gives [5]");
    refuse("[{use: conv2d, out: 4, kernel: 3, stride: 2, name: c}, {use: concat, from: input}]", NULL, image, 0,
           "m:1:56: concat1: expects what fits [4, 13, 13] from c in all axes but 1, but the input is [1, 28, 28]");
    refuse("[{use: conv2d, out: 4, kernel: 29}]", NULL, image, 0,
           "m:1:2: conv2d1: expects an image as large as the kernel, but the input is [1, 28, 28] (more padding?)");
    refuse("[{use: conv2d, out: 4, kernel: 3, groups: 3}]", NULL, image, 0,
           "m:1:2: conv2d1: groups 3 must divide both the 1 input channels and the 4 output channels");
    refuse("[{use: linear, bias: false}]", NULL, row, 0, "m:1:2: linear1: linear needs 'out', its number of outputs");
}

static void test_list_errors(void **state)
{
    (void)state;
    refuse("- {use: linear, out: 5, name: fc1}\n- {use: linear, out: 5, name: fc1}", NULL, row, 0,
           "m:2:31: model[1]: the name 'fc1' is taken by the layer at m:1:3");
    refuse("[relu, {use: add}]", NULL, row, 0, "m:1:8: model[1]: add takes a second input: name an earlier layer, {use: add, from: NAME}");
    refuse("[{use: linear, out: 6, name: fc1}, {use: add, from: fc2}]", NULL, row, 0,
           "m:1:53: model[1].from: no earlier layer is named 'fc2', did you mean 'fc1'?");
    refuse("[relu, {use: add, from: relu3}, relu, relu]", NULL, row, 0,
           "m:1:25: model[1].from: no earlier layer is named 'relu3', did you mean 'relu1'?");
    refuse("[{use: relu, name: input}]", NULL, row, 0, "m:1:20: model[0].name: 'input' means what enters the list; take another name");
    refuse("[{use: relu, name: a.b}]", NULL, row, 0, "m:1:20: model[0].name: expected a name of letters, digits, '_' and '-'");
    refuse("{arch: lama, d_model: 4}", NULL, row, 0, "m:1:8: unknown arch 'lama', did you mean 'llama'? (`qtape list archs` lists them)");
    refuse("relu", NULL, row, 0, "m:1:1: model: expected a list of layers, found a string");
    refuse("[]", NULL, row, 0, "m:1:1: model: the list of layers is empty");
    refuse("[{repeat: 0, layers: [relu]}]", NULL, row, 0, "m:1:11: model[0].repeat: 0 is out of bounds, must be 1 to 1000");
}

/* One pass finds the errors of the options, the shapes, the classes and the rules; errors that follow from others are not told. */
static void test_all_errors_at_once(void **state)
{
    (void)state;
    refuse("- flatten\n"
           "- {use: linear, outt: 5, out: 5, name: fc1}\n"
           "- {use: add, from: fc1}\n"
           "- {use: rleu}\n"
           "- {repeat: 3, layers: [{use: linear, out: x}]}\n"
           "- {use: linear, out: 7, name: fc3}\n",
           "- {match: \"fc1\", weights: {use: lsqq}}\n"
           "- {match: \"*\", weights: {use: lsq, num_bits: 99}}\n",
           image, 10,
           "m:2:17: model[1].outt: unknown key, did you mean 'out'?\n"
           "m:4:9: unknown layer 'rleu', did you mean 'relu'? (`qtape list layers` lists them)\n"
           "m:5:43: model[4].layers[0].out: expected an integer, found the string 'x'\n"
           "m:6:22: fc3: the last layer gives 7 outputs, but the data have 10 classes\n"
           "q:1:33: unknown quant 'lsqq', did you mean 'lsq'? (`qtape list quants` lists them)\n"
           "q:2:46: quant[1].weights.num_bits: 99 is out of bounds, must be 1 to 16");
}

/* ---- quant rules ------------------------------------------------------------------------------------------------------------- */

static const char *const net =
    "[flatten, {use: linear, out: 8, name: fc1}, relu, {use: linear, out: 8, name: fc2}, relu, {use: linear, out: 10, name: fc3}]";

static const char *quant_of(const qt_site *q) { return q ? q->quant->d.name : "-"; }

static void assert_sites(const built *b, const char *path, const char *weight, const char *act)
{
    if (strcmp(quant_of(module(b, path)->weight), weight) || strcmp(quant_of(module(b, path)->act), act))
        fail_msg("%s: %s and %s, expected %s and %s", path, quant_of(module(b, path)->weight), quant_of(module(b, path)->act), weight, act);
}

static void test_rules(void **state)
{
    (void)state;
    built b = make_ok(net,
                      "- {match: \"*\", weights: {use: lsq, num_bits: 4}, activations: {use: int}}\n"
                      "- {match: [fc2, \"re:fc[3]\"], weights: ternary}\n"
                      "- {match: first, activations: none}\n"
                      "- {match: last, weights: {use: none}}\n",
                      image, 10);
    assert_sites(&b, "fc1", "lsq", "-");
    assert_sites(&b, "fc2", "ternary", "int");
    assert_sites(&b, "fc3", "-", "int");
    const qt_site *w = module(&b, "fc1")->weight, *x = module(&b, "fc2")->act;
    assert_string_equal(w->path, "fc1.weight");
    assert_int_equal(w->axis, 0);
    assert_int_equal(w->dim[1], 784);
    assert_string_equal(x->path, "fc2.input");
    assert_int_equal(x->axis, 1);
    assert_int_equal(x->token_rank, 1);
    assert_int_equal(x->rank, 2);
    assert_true(x->dim[0] == 0 && x->dim[1] == 8);
    assert_int_equal(b.store->n_site, 4);
    drop(&b);
}

static void test_rules_of_other_layers(void **state)
{
    (void)state;
    built          b = make_ok("[{use: conv2d, out: 4, kernel: 3, name: c}, {use: batch_norm}, flatten, {use: linear, out: 3, name: f}]",
                               "[{match: \"*\", weights: {use: lsq}, activations: {use: lsq, signed: false}}]", image, 3);
    const qt_site *x = module(&b, "c")->act;
    assert_true(x->rank == 4 && x->axis == 1 && x->token_rank == 3 && x->dim[1] == 1 && x->dim[3] == 28);
    assert_int_equal(module(&b, "c")->weight->rank, 4);
    assert_null(module(&b, "batch_norm1")->weight);
    drop(&b);
    b = make_ok("[{use: embedding, num: 9, dim: 4, name: e}]", "[{match: \"*\", weights: {use: lsq}, activations: {use: lsq}}]", (qt_shape){1, {3}, 9},
                0);
    assert_sites(&b, "e", "lsq", "-"); /* ids are never quantized */
    drop(&b);
}

static void test_rule_errors(void **state)
{
    (void)state;
    refuse(net, "[{match: \"conv*\", weights: ternary}]", image, 10,
           "q:1:10: quant[0].match: matches no layer that can be quantized; these can: fc1, fc2, fc3");
    refuse(net, "[{match: relu1, weights: ternary}]", image, 10,
           "q:1:10: quant[0].match: matches no layer that can be quantized; these can: fc1, fc2, fc3");
    refuse("[relu]", "[{match: last, weights: ternary}]", row, 0, "q:1:10: quant[0].match: matches no layer that can be quantized; these can: none");
    refuse(net, "[{match: \"re:fc[\", weights: ternary}]", image, 10,
           "q:1:10: quant[0].match: bad expression 're:fc[': Unmatched [, [^, [:, [., or [=");
    refuse(net, "[{match: \"*\", weight: ternary}]", image, 10, "q:1:15: quant[0].weight: unknown key, did you mean 'weights'?");
    refuse(net, "{match: \"*\"}", image, 10, "q:1:1: quant: expected a list of rules {match, weights, activations}, found a map");
    refuse(net, "[{match: \"*\", grad: {use: lsq}}]", image, 10, "q:1:21: quant[0].grad: the quantizer 'lsq' is not made for gradients; shiftq is");
    refuse(net, "[{match: fc2, weights: ternary, grad: {use: shiftq}}]", image, 10,
           "q:1:39: quant[0].grad: the gradient of fc2 can be quantized only where weights and activations are; its activations are not");
}

/* A group that does not divide is told for each layer that it does not divide, at the rule. */
static void test_group_size(void **state)
{
    built b = make(net, "[{match: \"*\", weights: {use: uniform, granularity: group, group_size: 16}}]", image, 10);
    (void)state;
    assert_int_not_equal(b.err, QT_OK);
    assert_int_equal(qt_error_count(), 2); /* 784 = 49 16, but 8 is short */
    assert_non_null(strstr(qt_error_text(), "q:1:24"));
    assert_non_null(strstr(qt_error_text(), "fc2.weight"));
    assert_non_null(strstr(qt_error_text(), "fc3.weight"));
    qt_error_clear();
    drop(&b);
}

/* ---- running ----------------------------------------------------------------------------------------------------------------- */

static const char *const small = "- {use: conv2d, out: 4, kernel: 3, padding: 1, stride: 2, name: c1}\n"
                                 "- batch_norm\n"
                                 "- silu\n"
                                 "- name: block\n"
                                 "  layers:\n"
                                 "    - {use: conv2d, out: 4, kernel: 3, padding: 1, groups: 2, bias: false, name: c}\n"
                                 "    - {use: batch_norm, name: bn}\n"
                                 "    - {use: add, from: input}\n"
                                 "    - gelu\n"
                                 "- {use: concat, from: c1}\n"
                                 "- {use: avg_pool, kernel: 2}\n"
                                 "- flatten\n"
                                 "- layer_norm\n"
                                 "- {use: linear, out: 6, name: fc1}\n"
                                 "- tanh\n"
                                 "- {use: rms_norm}\n"
                                 "- {use: linear, out: 3, name: fc2}\n";
static const qt_shape    small_in = {3, {2, 8, 8}};

static qt_tensor *small_loss(qt_tape *t, qt_model *m)
{
    int64_t    n = 5;
    qt_tensor *x = qt_input(t, 4, (int64_t[]){n, 2, 8, 8}), *y = qt_input_ids(t, 1, &n);
    qt_rng     r = qt_rng_named(7, "x");
    for (int64_t i = 0; i < x->n; i++) x->data[i] = (R)qt_rng_normal(&r);
    for (int64_t i = 0; i < n; i++) y->ids[i] = (int32_t)(i % 3);
    return qt_cross_entropy(t, qt_model_forward(t, m, x), y, 0.1, -100);
}

#ifdef QT_DOUBLE
/* Central differences over up to 20 elements of each parameter. */
static void test_gradient(void **state)
{
    const double h = 1e-6;
    (void)state;
    built    b = make_ok(small, NULL, small_in, 3);
    qt_tape *t = qt_tape_new();
    qt_tape_mode(t, true, true);
    assert_int_equal(qt_backward(t, small_loss(t, b.model)), QT_OK);
    for (int k = 0; k < b.store->n; k++) {
        qt_param *p = b.store->p[k];
        if (p->kind == QT_BUFFER) continue;
        for (int64_t i = 0; i < p->t.n; i += 1 + p->t.n / 20) {
            R      w = p->t.data[i];
            double up, down;
            qt_tape_reset(t);
            p->t.data[i] = w + h, up = small_loss(t, b.model)->data[0];
            p->t.data[i] = w - h, down = small_loss(t, b.model)->data[0];
            p->t.data[i] = w;
            if (fabs((up - down) / (2 * h) - p->t.grad[i]) > 1e-8)
                fail_msg("%s[%lld]: %g, numeric %g", p->t.name, (long long)i, p->t.grad[i], (up - down) / (2 * h));
        }
    }
    qt_tape_free(t);
    drop(&b);
}
#endif

static void test_threads(void **state)
{
    R *value = NULL, *grad = NULL;
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        qt_set_threads(threads);
        built    b = make_ok(small, "[{match: \"*\", weights: {use: lsq, num_bits: 4}, activations: {use: int}}]", small_in, 3);
        qt_tape *t = qt_tape_new();
        qt_tape_mode(t, true, true);
        if (qt_backward(t, small_loss(t, b.model)) != QT_OK) fail_msg("%s", qt_error_text());
        size_t bytes = (size_t)b.store->size * sizeof(R);
        if (value) {
            assert_memory_equal(value, b.store->value, bytes); /* running statistics and first steps too */
            assert_memory_equal(grad, b.store->grad, bytes);
        } else {
            value = memcpy(malloc(bytes), b.store->value, bytes);
            grad = memcpy(malloc(bytes), b.store->grad, bytes);
        }
        qt_tape_free(t);
        drop(&b);
    }
    free(value), free(grad);
    qt_set_threads(0);
}

static void test_warm_step_allocates_nothing(void **state)
{
    int64_t before = 0;
    (void)state;
    built    b = make_ok(small, "[{match: \"*\", weights: {use: lsq, num_bits: 4}, activations: {use: lsq}}]", small_in, 3);
    qt_tape *t = qt_tape_new();
    qt_tape_mode(t, true, true);
    for (int k = 0; k < 5; k++) {
        if (k == 2) before = qt_alloc_count();
        assert_int_equal(qt_backward(t, small_loss(t, b.model)), QT_OK);
        qt_tape_reset(t);
    }
    assert_int_equal(qt_alloc_count(), before);
    qt_tape_free(t);
    drop(&b);
}

/* Each allocation of building fails in turn: an error with its message, no crash, and (under a checker) no leak. */
static void test_out_of_memory(void **state)
{
    qt_err e = QT_EMEM;
    int    n = 0;
    (void)state;
    for (; e != QT_OK && n < 1000; n++) {
        built          b = {.store = qt_store_new(1)};
        const qt_yaml *model = parse(&b.arena, small, "m"),
                      *quant = parse(&b.arena, "[{match: \"*\", weights: {use: lsq}, activations: {use: int}}]", "q");
        qt_alloc_fail_at(n + 1);
        e = qt_model_build(&b.arena, b.store, model, quant, small_in, 3, &b.model);
        qt_alloc_fail_at(0);
        if (e != QT_OK) assert_int_equal(e, QT_EMEM), assert_non_null(strstr(qt_error_text(), "out of memory"));
        qt_error_clear();
        drop(&b);
    }
    assert_true(n > 20 && n < 1000);
}

static void test_frozen_batch_norm(void **state)
{
    (void)state;
    built      b = make_ok("[{use: batch_norm, name: bn, momentum: 0.5}]", NULL, (qt_shape){1, {1}}, 0);
    qt_tape   *t = qt_tape_new();
    qt_tensor *mean = qt_param_find(b.store, "bn.running_mean"), *x = qt_input(t, 2, (int64_t[]){2, 1});
    qt_tape_mode(t, true, true);
    x->data[0] = 1, x->data[1] = 3;
    assert_true(fabs((double)qt_model_forward(t, b.model, x)->data[0] + 1) < 1e-4);
    assert_true(mean->data[0] == 1);
    b.model->m[0].frozen_stats = true;
    qt_model_forward(t, b.model, x);
    assert_true(mean->data[0] == 1);
    qt_tape_free(t);
    drop(&b);
}

/* The layer's path stands in messages of operations. */
static void test_path_in_messages(void **state)
{
    (void)state;
    built    b = make_ok(net, NULL, image, 10);
    qt_tape *t = qt_tape_new();
    qt_model_forward(t, b.model, qt_input(t, 2, (int64_t[]){2, 100}));
    assert_int_not_equal(qt_tape_error(t), QT_OK);
    assert_non_null(strstr(qt_error_text(), "flatten1"));
    qt_error_clear();
    qt_tape_free(t);
    drop(&b);
}

static void test_bits(void **state)
{
    double bits, bytes, weights = 784 * 8 + 8 * 8 + 8 * 10;
    (void)state;
    built b = make_ok(net, NULL, image, 10);
    assert_int_equal(qt_model_bits(b.model, &bits, &bytes), QT_OK);
    assert_true(bits == 32 && bytes == 4 * (weights + 8 + 8 + 10));
    drop(&b);
    b = make_ok("[flatten, {use: linear, out: 8, name: fc1}, batch_norm, {use: linear, out: 10, name: fc2}]",
                "[{match: fc1, weights: {use: lsq, num_bits: 4}, activations: {use: lsq}}]", image, 10);
    qt_tape *t = qt_tape_new();
    qt_tape_mode(t, true, true);
    qt_model_forward(t, b.model, qt_input(t, 4, (int64_t[]){2, 1, 28, 28})); /* first steps */
    assert_int_equal(qt_model_bits(b.model, &bits, &bytes), QT_OK);
    assert_true(fabs(bits - (784 * 8 * 4 + 32 + 80 * 32) / (784.0 * 8 + 80)) < 1e-9);
    assert_true(fabs(bytes - ((784 * 8 * 4 + 32) / 8.0 + 4 * (80 + 8 + 10 + 4 * 8 + 1))) < 1e-6);
    qt_tape_free(t);
    drop(&b);
}

/* ---- losses and metrics ------------------------------------------------------------------------------------------------------ */

static void test_losses(void **state)
{
    qt_tape   *t = qt_tape_new();
    qt_tensor *x = qt_input(t, 2, (int64_t[]){2, 2}), *p = qt_input(t, 2, (int64_t[]){2, 2}), *y = qt_input_ids(t, 1, (int64_t[]){2});
    const struct {
        double  label_smoothing;
        int64_t ignore_index;
    } ce = {0, -100};
    double l = log(3);
    (void)state;
    x->data[0] = (R)l, p->data[0] = 1, p->data[2] = (R)0.5, p->data[3] = (R)0.5, y->ids[1] = 1; /* softmax: [.75, .25], [.5, .5] */
    assert_true(fabs((double)qt_loss_cross_entropy.apply(t, &ce, x, y)->data[0] - (log(4. / 3) + log(2)) / 2) < 1e-6);
    assert_true(fabs((double)qt_loss_kl.apply(t, NULL, x, p)->data[0] - log(4. / 3) / 2) < 1e-6);
    assert_true(fabs((double)qt_loss_mse.apply(t, NULL, x, p)->data[0] - ((l - 1) * (l - 1) + 0.5) / 4) < 1e-6);
    assert_true(fabs((double)qt_loss_l1.apply(t, NULL, x, p)->data[0] - (l - 1 + 1) / 4) < 1e-6);
    assert_int_equal(qt_tape_error(t), QT_OK);
    qt_tape_free(t);
}

static void test_metrics(void **state)
{
    R         v[2 * 6] = {0, 5, 4, 3, 2, 1, /**/ 1, 1, 0, 0, 0, 0}, t[2 * 6] = {0, 5, 4, 3, 2, 4, /**/ 1, 1, 0, 4, 0, 0};
    qt_tensor out = {.data = v, .dim = {2, 6}, .n = 12, .rank = 2};
    (void)state;
    assert_true(qt_metric_accuracy.add(&out, (int32_t[]){1, 0}, NULL) == 2);
    assert_true(qt_metric_accuracy.add(&out, (int32_t[]){2, 1}, NULL) == 0); /* of equal outputs the one in front counts */
    assert_true(qt_metric_top5.add(&out, (int32_t[]){0, 5}, NULL) == 0);
    assert_true(qt_metric_top5.add(&out, (int32_t[]){5, 4}, NULL) == 2);
    assert_true(qt_metric_accuracy.value(3, 4) == 0.75);
    assert_true(fabs(qt_metric_mae.value(qt_metric_mae.add(&out, NULL, t), 2) - 7. / 12) < 1e-12);
    assert_true(fabs(qt_metric_rmse.value(qt_metric_rmse.add(&out, NULL, t), 2) - sqrt(25. / 12)) < 1e-12);
    v[1] = (R)NAN;
    assert_true(qt_metric_accuracy.add(&out, (int32_t[]){1, 0}, NULL) == 1);
}

/* ---- recipes/models ---------------------------------------------------------------------------------------------------------- */

/* The include files hold ${width}, ${classes} and ${norm}; here they are put in by hand. */
static const qt_yaml *load_model(qt_arena *a, const char *file)
{
    static char text[16384], filled[16384];
    FILE       *f = fopen(file, "r");
    size_t      n = 0;
    qt_yaml    *y;
    if (!f) fail_msg("%s cannot be opened", file);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    assert_true(text[0] == '#');
    for (const char *s = text; *s;) {
        if (!strncmp(s, "${width}", 8))
            n += (size_t)sprintf(filled + n, "512"), s += 8;
        else if (!strncmp(s, "${classes}", 10))
            n += (size_t)sprintf(filled + n, "10"), s += 10;
        else if (!strncmp(s, "${norm}", 7))
            n += (size_t)sprintf(filled + n, "batch_norm"), s += 7;
        else
            filled[n++] = *s++;
    }
    if (qt_yaml_parse(a, filled, n, file, &y) != QT_OK) fail_msg("%s", qt_error_text());
    return qt_yaml_get(y, "model");
}

static void test_model_recipes(void **state)
{
    static const struct {
        const char *file;
        int64_t     gray, colored; /* trained numbers */
        int         convs;
    } recipe[] = {
        {"recipes/models/mlp.yaml", 669706, 1841162, 0},
        {"recipes/models/lenet.yaml", 61706, 83126, 2},
        {"recipes/models/resnet8.yaml", 77754, 78042, 9},
        {"recipes/models/resnet20.yaml", 272186, 272474, 21},
    };
    (void)state;
    for (size_t i = 0; i < sizeof recipe / sizeof *recipe; i++)
        for (int colored = 0; colored < 2; colored++) {
            built    b = {.store = qt_store_new(1)};
            qt_shape in = colored ? color : image;
            int      convs = 0;
            if (qt_model_build(&b.arena, b.store, load_model(&b.arena, recipe[i].file),
                               parse(&b.arena, "[{match: [first, last], weights: {use: lsq, num_bits: 8}}]", "q"), in, 10, &b.model) != QT_OK)
                fail_msg("%s", qt_error_text());
            qt_store_seal(b.store, 0);
            for (int k = 0; k < b.model->n; k++) convs += b.model->m[k].layer == &qt_layer_conv2d;
            assert_int_equal(convs, recipe[i].convs);
            assert_int_equal(qt_store_trained(b.store) - 2, colored ? recipe[i].colored : recipe[i].gray); /* but the two step sizes */
            qt_tape *t = qt_tape_new();
            qt_tape_mode(t, true, true);
            qt_tensor *y = qt_model_forward(t, b.model, qt_input(t, 4, (int64_t[]){2, in.dim[0], in.dim[1], in.dim[2]}));
            if (qt_tape_error(t) != QT_OK) fail_msg("%s", qt_error_text());
            assert_true(y->rank == 2 && y->dim[1] == 10);
            qt_tape_free(t);
            drop(&b);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_scopes),
        cmocka_unit_test(test_conv_shapes),
        cmocka_unit_test(test_every_layer),
        cmocka_unit_test(test_shape_errors),
        cmocka_unit_test(test_list_errors),
        cmocka_unit_test(test_all_errors_at_once),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_rules_of_other_layers),
        cmocka_unit_test(test_rule_errors),
        cmocka_unit_test(test_group_size),
#ifdef QT_DOUBLE
        cmocka_unit_test(test_gradient),
#endif
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_warm_step_allocates_nothing),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_frozen_batch_norm),
        cmocka_unit_test(test_path_in_messages),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_model_recipes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
