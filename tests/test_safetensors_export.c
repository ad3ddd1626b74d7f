/* Models as safetensors: names and rows of transformers for {arch: llama}, own names for others, numbers as evaluation used them; imported again
 * they answer with the same bits and export to the same bytes; files that do not fit are refused in one message. */
#include "train_util.h"
#include "base/half.h"
#include "base/safetensors.h"
#include "export/export.h"
#include "export/hf.h"
#include "export/import.h"
#include <math.h>

static int clear(void **state)
{
    (void)state;
    qt_error_clear();
    return system("rm -rf run imported again.safetensors m.safetensors x.safetensors config.json none") ? -1 : 0;
}

/* ---- runs -------------------------------------------------------------------------------------------------------------------------- */

static void put_text(void)
{
    char text[4001];
    for (int i = 0; i < 4000; i++) text[i] = "the cat sat on the mat, and the rat sat on the cat. "[(i * 7 / 5) % 52];
    text[4000] = 0;
    put_file("text.txt", text);
}

static qt_run *trained(const char *model, const char *quant)
{
    char       text[2048];
    qt_arena   a = {0};
    qt_recipe *rc;
    qt_run    *r;
    qt_result  res;
    put_text();
    snprintf(text, sizeof text,
             "recipe: 1\nname: m\nmodel: %s\nquant: %s\ndata: {use: text, path: text.txt, seq_len: 16, batch_size: 4, test_fraction: 0.5}\n"
             "train: {steps: 2, eval_every: 0, log_every: 0}\n", model, quant);
    put_file("r.yaml", text);
    assert_ok(qt_recipe_load(&a, "r.yaml", 0, NULL, NULL, &rc));
    assert_ok(qt_run_new(rc, "run", NULL, true, QT_PROGRESS_QUIET, &r));
    assert_ok(qt_run_go(r, &res));
    qt_run_free(r);
    qt_arena_free(&a);
    assert_ok(qt_run_resume("run", QT_PROGRESS_QUIET, &r));
    return r;
}

static void export_to(qt_run *r, const char *options, const char *file)
{
    qt_arena       a = {0};
    qt_yaml       *y;
    const qt_desc *d;
    void          *cfg;
    qt_exported    made;
    assert_ok(qt_yaml_parse(&a, options, strlen(options), "options", &y));
    assert_ok(qt_desc_read(&a, &qt_exporters, y, "export", NULL, &d, &cfg));
    assert_ok(qt_exporter_safetensors.run(&qt_exporter_safetensors, r, cfg, file, &made));
    qt_arena_free(&a);
}

static qt_safe *opened(const char *file)
{
    qt_safe *f;
    assert_ok(qt_safe_open(file, &f));
    return f;
}

static const qt_safe_tensor *tensor(const qt_safe *f, const char *name)
{
    const qt_safe_tensor *t = qt_safe_find(f, name);
    if (!t) fail_msg("no tensor %s", name);
    return t;
}

static qt_run *imported(const char *file, int n, const char *const *more)
{
    const char *word[8] = {"data.path=text.txt"};
    qt_run     *r;
    for (int i = 0; i < n; i++) word[i + 1] = more[i];
    if (system("rm -rf imported")) abort();
    assert_ok(qt_import_safetensors(file, "imported", (qt_sets){n + 1, word}));
    assert_ok(qt_run_resume("imported", QT_PROGRESS_QUIET, &r));
    return r;
}

static void assert_same_files(const char *one, const char *two)
{
    qt_arena a = {0};
    char    *p, *q;
    size_t   n, m;
    assert_ok(qt_file_read(&a, one, &p, &n));
    assert_ok(qt_file_read(&a, two, &q, &m));
    assert_true(n == m && !memcmp(p, q, n));
    qt_arena_free(&a);
}

/* The largest difference of their answers to the same text; 0 for the same bits alone. */
static double difference(qt_run *r, qt_run *q)
{
    qt_snapshot s, t;
    double      most = 0;
    assert_ok(qt_snapshot_take(r, &s));
    assert_ok(qt_snapshot_take(q, &t));
    assert_true(s.samples == t.samples && s.outputs == t.outputs && s.samples > 0);
    assert_memory_equal(s.x, t.x, (size_t)s.samples * sizeof *s.x);
    for (int64_t i = 0; i < s.samples * s.outputs; i++) most = fmax(most, fabs((double)(s.y[i] - t.y[i])));
    if (most == 0 && memcmp(s.y, t.y, (size_t)(s.samples * s.outputs) * sizeof *s.y)) most = 1;
    qt_snapshot_free(&s), qt_snapshot_free(&t);
    return most;
}

#define LLAMA(more) "{arch: llama, d_model: 32, n_layer: 2, n_head: 4, n_kv_head: 2, d_ff: 48" more "}"

/* ---- there and back ---------------------------------------------------------------------------------------------------------------- */

static void around(const char *model, const char *quant)
{
    qt_run *r = trained(model, quant), *q;
    export_to(r, "{use: safetensors}", "run/m.safetensors");
    q = imported("run/m.safetensors", 0, NULL);
    assert_true(difference(r, q) == 0);
    export_to(q, "{use: safetensors}", "again.safetensors");
    assert_same_files("run/m.safetensors", "again.safetensors");
    assert_same_files("run/config.json", "config.json");
    qt_run_free(q), qt_run_free(r);
    if (system("rm -rf run")) abort();
}

static void test_around(void **state)
{
    (void)state;
    around(LLAMA(""), "[]");
    around(LLAMA(", tied: true, norm_eps: 1e-6, rope_base: 500000, vocab: 260"), "[]");
    around(LLAMA(", rope: half, fp16: true"), "[]");
    around(LLAMA(""), "[{match: \"blk.*\", weights: ternary}]"); /* the dequantized weights are a float model */
}

/* What transformers compute with the file, pairs half a head apart and rows as they stand, is the same but for the order of sums. */
static void test_rows_are_those_of_transformers(void **state)
{
    qt_run *r = trained(LLAMA(""), "[]"), *q;
    (void)state;
    export_to(r, "{use: safetensors}", "m.safetensors");
    q = imported("m.safetensors", 1, (const char *[]){"model.rope=half"});
    assert_true(difference(r, q) < 1e-6);
    qt_run_free(q);
    q = imported("m.safetensors", 1, (const char *[]){"model.rope_base=100"}); /* and rotation is seen in the answers */
    assert_true(difference(r, q) > 1e-6);
    qt_run_free(q), qt_run_free(r);
}

/* Files of newer transformers say their base of the angles elsewhere. */
static void test_rope_parameters(void **state)
{
    qt_run *r = trained(LLAMA(", rope_base: 5000"), "[]"), *q;
    (void)state;
    export_to(r, "{use: safetensors}", "m.safetensors");
    put_file("config.json", "{\"model_type\": \"llama\", \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"max_position_embeddings\": 16, \"rms_norm_eps\": 1e-5,"
                            " \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 5000.0}}");
    q = imported("m.safetensors", 0, NULL);
    assert_true(difference(r, q) == 0);
    qt_run_free(q), qt_run_free(r);
}

static void test_without_config(void **state)
{
    qt_run *r = trained(LLAMA(", tied: true"), "[]"), *q;
    (void)state;
    export_to(r, "{use: safetensors}", "m.safetensors");
    assert_int_equal(remove("config.json"), 0);
    q = imported("m.safetensors", 3, (const char *[]){"model.n_head=4", "model.n_kv_head=2", "data.seq_len=16"});
    assert_true(difference(r, q) == 0);
    qt_run_free(q), qt_run_free(r);
}

/* ---- contents ---------------------------------------------------------------------------------------------------------------------- */

static void test_contents(void **state)
{
    qt_run  *r = trained(LLAMA(""), "[]");
    qt_arena a = {0};
    char    *text;
    size_t   n;
    qt_yaml *y;
    int64_t  v;
    (void)state;
    export_to(r, "{use: safetensors}", "m.safetensors");
    qt_safe *f = opened("m.safetensors");
    assert_int_equal(f->n, 2 * 9 + 3);
    assert_true(f->n_meta == 2 && !strcmp(f->meta[0], "format") && !strcmp(f->meta[1], "pt"));
    const qt_safe_tensor *k = tensor(f, "model.layers.1.self_attn.k_proj.weight"), *v_proj = tensor(f, "model.layers.1.self_attn.v_proj.weight");
    assert_true(k->rank == 2 && k->dim[0] == 16 && k->dim[1] == 32);
    const qt_tensor *ours = &qt_store_param(r->store, "blk.1.attn_k.weight")->t;
    const R         *theirs = (const R *)(const void *)k->data;
    for (int64_t row = 0; row < 16; row++) { /* two heads of 8 rows: 0 2 4 6 1 3 5 7 */
        const int64_t from = row / 8 * 8 + row % 8 % 4 * 2 + row % 8 / 4;
        assert_memory_equal(theirs + row * 32, ours->data + from * 32, 32 * sizeof(R));
    }
    assert_memory_equal(v_proj->data, qt_store_param(r->store, "blk.1.attn_v.weight")->t.data, 16 * 32 * sizeof(R));
    assert_true(tensor(f, "model.norm.weight")->n == 32 && tensor(f, "lm_head.weight")->n == 256 * 32);
    qt_safe_free(f);
    assert_ok(qt_file_read(&a, "config.json", &text, &n));
    assert_ok(qt_yaml_parse(&a, text, n, "config.json", &y));
    assert_true(qt_yaml_int(qt_yaml_get(y, "num_key_value_heads"), &v) && v == 2);
    assert_true(qt_yaml_int(qt_yaml_get(y, "intermediate_size"), &v) && v == 48);
    assert_true(qt_yaml_int(qt_yaml_get(y, "max_position_embeddings"), &v) && v == 16);
    qt_arena_free(&a);
    qt_run_free(r);
}

/* Ternary weights are three numbers; the floats behind them are those of the store. */
static void test_master(void **state)
{
    qt_run  *r = trained(LLAMA(""), "[{match: \"blk.*\", weights: ternary, activations: {use: int, num_bits: 8, granularity: token}}]");
    qt_safe *f;
    (void)state;
    export_to(r, "{use: safetensors}", "m.safetensors");
    f = opened("m.safetensors");
    const qt_safe_tensor *t = tensor(f, "model.layers.0.mlp.up_proj.weight");
    const R              *w = (const R *)(const void *)t->data;
    double                s = 0;
    for (int64_t i = 0; i < t->n; i++) s = fmax(s, fabs((double)w[i]));
    for (int64_t i = 0; i < t->n; i++) assert_true(w[i] == 0 || fabs((double)w[i]) == s);
    qt_safe_free(f);
    export_to(r, "{use: safetensors, master: true}", "m.safetensors");
    f = opened("m.safetensors");
    t = tensor(f, "model.layers.0.mlp.up_proj.weight");
    assert_memory_equal(t->data, qt_store_param(r->store, "blk.0.ffn_up.weight")->t.data, (size_t)t->n * sizeof(R));
    qt_safe_free(f), qt_run_free(r);
}

/* Other models keep their names, and the steps of their inputs' quantizers. */
static void test_own_names(void **state)
{
    qt_run  *r = trained("{arch: bitnet, d_model: 32, n_layer: 1, n_head: 4, d_ff: 48}", "[{match: \"blk.*\", weights: lsq, activations: lsq}]");
    qt_safe *f;
    (void)state;
    export_to(r, "{use: safetensors}", "m.safetensors");
    f = opened("m.safetensors");
    tensor(f, "blk.0.attn_sub_norm.weight"), tensor(f, "token_embd.weight"), tensor(f, "blk.0.attn_q.input.scale");
    assert_null(qt_safe_find(f, "blk.0.attn_q.weight.scale"));
    assert_true(access("config.json", F_OK) != 0);
    qt_safe_free(f);
    export_to(r, "{use: safetensors, master: true}", "m.safetensors");
    f = opened("m.safetensors");
    tensor(f, "blk.0.attn_q.weight.scale");
    qt_safe_free(f), qt_run_free(r);
}

/* An output that is tied to the table and rounds it in its own way is a tensor of its own. */
static void test_tied_otherwise(void **state)
{
    const char *model = "{arch: bitnet, d_model: 32, n_layer: 1, n_head: 4, d_ff: 48}";
    (void)state;
    for (int k = 0; k < 2; k++) {
        qt_run *r = trained(model, k ? "[{match: output, weights: {use: lsq, num_bits: 2}}]" : "[]");
        export_to(r, "{use: safetensors}", "m.safetensors");
        qt_safe *f = opened("m.safetensors");
        assert_true((qt_safe_find(f, "output.weight") != NULL) == (k == 1));
        if (k) {
            const qt_safe_tensor *t = tensor(f, "output.weight"), *table = tensor(f, "token_embd.weight");
            const R              *w = (const R *)(const void *)t->data, s = qt_param_find(r->store, "output.weight.scale")->data[0];
            assert_true(t->n == table->n && memcmp(t->data, table->data, (size_t)t->n * sizeof *w));
            for (int64_t i = 0; i < t->n; i++) assert_true(w[i] == -2 * s || w[i] == -s || w[i] == 0 || w[i] == s);
        }
        qt_safe_free(f), qt_run_free(r);
    }
}

/* ---- files of others --------------------------------------------------------------------------------------------------------------- */

/* All tensors of m.safetensors in x.safetensors, but changed. */
static void rewrite(void (*change)(qt_safe_tensor *t, int64_t *n))
{
    qt_safe       *f = opened("m.safetensors");
    qt_safe_tensor t[64];
    int64_t        n = f->n;
    assert_true(n < 60);
    memcpy(t, f->tensor, (size_t)n * sizeof *t);
    change(t, &n);
    assert_ok(qt_safe_write("x.safetensors", n, t, 0, NULL));
    qt_safe_free(f);
}

static uint16_t half[64][256 * 32];

static void to_halves(qt_safe_tensor *t, int64_t *n)
{
    for (int64_t i = 0; i < *n; i++) {
        const R *x = (const R *)(const void *)t[i].data;
        for (int64_t k = 0; k < t[i].n; k++) half[i][k] = i % 2 ? qt_half_from_float((float)x[k]) : (uint16_t)(qt_float_bits((float)x[k]) >> 16);
        t[i].type = i % 2 ? QT_SAFE_F16 : QT_SAFE_BF16, t[i].data = (const uint8_t *)half[i];
    }
}

static void test_half_precision(void **state)
{
    qt_run *r = trained(LLAMA(""), "[]"), *q;
    (void)state;
    export_to(r, "{use: safetensors}", "m.safetensors");
    rewrite(to_halves);
    q = imported("x.safetensors", 0, NULL);
    qt_safe              *f = opened("x.safetensors");
    const qt_safe_tensor *t = tensor(f, "model.embed_tokens.weight"); /* the second by name */
    const qt_tensor      *w = &qt_store_param(q->store, "token_embd.weight")->t, *n = &qt_store_param(q->store, "output.weight")->t;
    assert_true(t->type == QT_SAFE_F16 && tensor(f, "lm_head.weight")->type == QT_SAFE_BF16);
    for (int64_t i = 0; i < w->n; i++) assert_true(w->data[i] == (R)qt_half_to_float(half[1][i]));
    for (int64_t i = 0; i < n->n; i++) assert_true(n->data[i] == (R)qt_float_of_bits((uint32_t)half[0][i] << 16));
    qt_safe_free(f), qt_run_free(q), qt_run_free(r);
}

static void spoil(qt_safe_tensor *t, int64_t *n)
{
    for (int64_t i = 0; i < *n; i++) {
        if (!strcmp(t[i].name, "model.norm.weight")) t[i].name = "model.norm.bias";
        if (!strcmp(t[i].name, "model.layers.0.mlp.up_proj.weight")) t[i].dim[0] = 32, t[i].dim[1] = 48;
        if (!strcmp(t[i].name, "model.layers.1.input_layernorm.weight")) t[i].type = sizeof(R) == 8 ? QT_SAFE_I64 : QT_SAFE_I32;
    }
    t[*n] = t[0], t[*n].name = "model.layers.0.self_attn.rotary_emb.inv_freq", ++*n; /* nobody minds */
}

static void refused(const char *file, qt_err code, const char *want)
{
    assert_int_equal(qt_import_safetensors(file, "none", (qt_sets){0}), code);
    if (!strstr(qt_error_text(), want)) fail_msg("said '%s'", qt_error_text());
    qt_error_clear();
    assert_true(access("none", F_OK) != 0);
}

static void test_names(void **state)
{
    static const char *const none[] = {"", "bl", "blk.", "blk.x.attn_q.weight", "blk.-1.attn_q.weight", "blk.4294967296.attn_q.weight", "blk.1", "blk.1.x"};
    qt_arena a = {0};
    (void)state;
    assert_string_equal(qt_hf_name(&a, "blk.12.attn_q.weight"), "model.layers.12.self_attn.q_proj.weight");
    assert_string_equal(qt_hf_name(&a, "output.weight"), "lm_head.weight");
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) assert_null(qt_hf_name(&a, none[i]));
    qt_arena_free(&a);
}

static void test_refused(void **state)
{
    qt_run *r = trained(LLAMA(""), "[]");
    (void)state;
    export_to(r, "{use: safetensors}", "m.safetensors");
    rewrite(spoil);
    refused("x.safetensors", QT_EDATA,
            sizeof(R) == 8 ? "x.safetensors: its tensors are not those of the model in config.json: missing: model.norm.weight; unexpected: model.norm.bias; of another "
                             "shape: model.layers.0.mlp.up_proj.weight [32, 48], expected [48, 32]; of a type other than F32, F16 and BF16: "
                             "model.layers.1.input_layernorm.weight (I64)"
                           : "x.safetensors: its tensors are not those of the model in config.json: missing: model.norm.weight; unexpected: model.norm.bias; of another "
                             "shape: model.layers.0.mlp.up_proj.weight [32, 48], expected [48, 32]; of a type other than F32, F16 and BF16: "
                             "model.layers.1.input_layernorm.weight (I32)");
    put_file("config.json", "{\"model_type\": \"gpt2\"}");
    refused("m.safetensors", QT_EDATA, "config.json: model_type is not llama");
    put_file("config.json", "{\"model_type\": \"llama\", \"rope_scaling\": {\"rope_type\": \"llama3\"}}");
    refused("m.safetensors", QT_EDATA, "config.json: its rotary angles are scaled");
    put_file("config.json", "{\"hidden_act\": \"gelu\"}");
    refused("m.safetensors", QT_EDATA, "config.json: hidden_act is not silu");
    put_file("config.json", "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 1e4}}");
    refused("m.safetensors", QT_EDATA, "config.json: its rotary angles are scaled");
    put_file("config.json", "[1, 2]");
    refused("m.safetensors", QT_EDATA, "config.json: expected an object, found a list");
    put_file("config.json", "{\"hidden_size\": 4");
    refused("m.safetensors", QT_ERECIPE, "config.json:2:1: did not find expected");
    put_file("config.json", "{\"hidden_size\": 64, \"num_attention_heads\": 4, \"num_key_value_heads\": 2}");
    refused("m.safetensors", QT_EDATA, "model.embed_tokens.weight [256, 32], expected [256, 64], model.layers.0.input_layernorm.weight [32], expected [64]");
    put_file("config.json", "{\"hidden_size\": 65536, \"num_attention_heads\": 4, \"num_hidden_layers\": 2}");
    refused("m.safetensors", QT_EDATA, " bytes of data, and config.json describes a model of 8.59e+09 numbers or more");
    assert_int_equal(remove("config.json"), 0);
    refused("m.safetensors", QT_ERECIPE, "n_head");
    assert_int_equal(qt_import_safetensors("m.safetensors", "none", (qt_sets){1, (const char *const[]){"model={arch: gpt2, d_model: 32, n_layer: 1, n_head: 4}"}}), QT_EUSAGE);
    assert_errors("m.safetensors: the recipe's model is none that LlamaForCausalLM computes");
    assert_true(access("none", F_OK) != 0);
    put_file("x.safetensors", "short");
    refused("x.safetensors", QT_EDATA, "x.safetensors: is no safetensors file");
    assert_int_equal(qt_import_safetensors("m.safetensors", ".", (qt_sets){0}), QT_EUSAGE);
    assert_errors(".: is there already");
    qt_run_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_around, clear), cmocka_unit_test_setup(test_rows_are_those_of_transformers, clear),
        cmocka_unit_test_setup(test_without_config, clear), cmocka_unit_test_setup(test_rope_parameters, clear), cmocka_unit_test_setup(test_contents, clear), cmocka_unit_test_setup(test_master, clear),
        cmocka_unit_test_setup(test_own_names, clear), cmocka_unit_test_setup(test_tied_otherwise, clear), cmocka_unit_test_setup(test_half_precision, clear), cmocka_unit_test_setup(test_names, clear), cmocka_unit_test_setup(test_refused, clear),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
