/* Language models as GGUF: every block type, both architectures, the tokenizer, adapters; what is not on a type's grid is refused, and what can be
 * known before training is said before it. That llama.cpp computes the same is for tests/oracle. */
#include "train_util.h"
#include "export/import.h"
#include "export/lm.h"
#include "base/bpe.h"

static int clear(void **state)
{
    (void)state;
    qt_error_clear();
    return 0;
}

/* ---- runs -------------------------------------------------------------------------------------------------------------------------- */

static void put_text(void)
{
    char text[4001];
    for (int i = 0; i < 4000; i++) text[i] = "the cat sat on the mat, and the rat sat on the cat. "[(i * 7 / 5) % 52];
    text[4000] = 0;
    put_file("text.txt", text);
}

/* A recipe of two steps. */
static void put_recipe(const char *file, const char *model, const char *quant, const char *more)
{
    char text[4096];
    snprintf(text, sizeof text,
             "recipe: 1\nname: m\nmodel: %s\nquant: %s\ndata: {use: text, path: text.txt, seq_len: 16, batch_size: 4%s\n"
             "train: {steps: 2, eval_every: 0, log_every: 0}\n",
             model, quant, *more ? more : "}");
    put_file(file, text);
}

static qt_err run_recipe(qt_arena *a, const char *file, const char *dir, qt_run **r)
{
    qt_recipe *rc;
    qt_result  res;
    *r = NULL;
    QT_TRY(qt_recipe_load(a, file, 0, NULL, NULL, &rc));
    QT_TRY(qt_run_new(rc, dir, NULL, true, QT_PROGRESS_QUIET, r));
    return qt_run_go(*r, &res);
}

#define LLAMA(d, ff) "{arch: llama, d_model: " #d ", n_layer: 1, n_head: 4, n_kv_head: 2, d_ff: " #ff ", fp16: true}"
#define GGML(type, act) "[{match: \"blk.*\", weights: {use: ggml, type: " type "}, activations: " act "}]"

/* Exports a run as the options say. */
static qt_err export_run(qt_run *r, const char *options, const char *file)
{
    qt_arena       a = {0};
    qt_yaml       *y;
    const qt_desc *d;
    void          *cfg;
    qt_exported    made;
    qt_err         e = qt_yaml_parse(&a, options, strlen(options), "options", &y);
    if (e == QT_OK) e = qt_desc_read(&a, &qt_exporters, y, "export", NULL, &d, &cfg);
    if (e == QT_OK) e = qt_exporter_gguf.run(&qt_exporter_gguf, r, cfg, file, &made);
    qt_arena_free(&a);
    return e;
}

static qt_gguf *exported(const char *model, const char *quant, const char *more, const char *options)
{
    qt_arena a = {0};
    qt_run  *r;
    qt_gguf *g;
    put_recipe("r.yaml", model, quant, more);
    assert_ok(run_recipe(&a, "r.yaml", "run", &r));
    assert_ok(export_run(r, options, "m.gguf"));
    qt_run_free(r);
    qt_arena_free(&a);
    assert_ok(qt_gguf_open("m.gguf", &g));
    return g;
}

static const char *type_of(const qt_gguf *g, const char *tensor)
{
    const qt_gguf_tensor *t = qt_gguf_find_tensor(g, tensor);
    assert_non_null(t);
    return t->type->name;
}

static int64_t integer(qt_gguf *g, const char *key)
{
    int64_t v;
    assert_ok(qt_gguf_int(g, key, &v));
    return v;
}

/* ---- types ------------------------------------------------------------------------------------------------------------------------- */

/* The exporter itself compares every tensor with what the forward used, or fails. */
static void test_every_type(void **state)
{
    static const char *const types[][2] = {{"Q8_0", "q8_0"}, {"Q4_0", "q8_0"}, {"Q2_0", "q8_0"}, {"Q1_0", "q8_0"}, {"TQ1_0", "q8_k"}, {"TQ2_0", "q8_k"}};
    (void)state;
    put_text();
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char quant[256], options[64];
        snprintf(quant, sizeof quant, GGML("%s", "%s"), types[i][0], types[i][1]);
        snprintf(options, sizeof options, "{use: gguf, type: %s}", types[i][0]);
        qt_gguf *g = exported(LLAMA(256, 256), quant, "", options);
        assert_string_equal(type_of(g, "blk.0.attn_q.weight"), types[i][0]);
        assert_string_equal(type_of(g, "blk.0.ffn_down.weight"), types[i][0]);
        assert_string_equal(type_of(g, "blk.0.attn_norm.weight"), "F32");
        assert_string_equal(type_of(g, "output.weight"), "F32");
        qt_gguf_free(g);
        g = exported(LLAMA(256, 256), quant, "", "{use: gguf}");
        assert_string_equal(type_of(g, "blk.0.ffn_up.weight"), strcmp(types[i][0], "TQ1_0") ? types[i][0] : "TQ2_0");
        qt_gguf_free(g);
    }
}

static void test_keys(void **state)
{
    const char *s;
    double      v;
    (void)state;
    put_text();
    qt_gguf *g = exported(LLAMA(64, 96), "[]", "", "{use: gguf, name: a name}");
    assert_ok(qt_gguf_str(g, "general.architecture", &s));
    assert_string_equal(s, "llama");
    assert_ok(qt_gguf_str(g, "general.name", &s));
    assert_string_equal(s, "a name");
    assert_int_equal(integer(g, "llama.context_length"), 16);
    assert_int_equal(integer(g, "llama.embedding_length"), 64);
    assert_int_equal(integer(g, "llama.block_count"), 1);
    assert_int_equal(integer(g, "llama.feed_forward_length"), 96);
    assert_int_equal(integer(g, "llama.attention.head_count"), 4);
    assert_int_equal(integer(g, "llama.attention.head_count_kv"), 2);
    assert_int_equal(integer(g, "llama.rope.dimension_count"), 16);
    assert_int_equal(integer(g, "llama.vocab_size"), 256);
    assert_ok(qt_gguf_real(g, "llama.rope.freq_base", &v));
    assert_true(v == 10000);
    assert_ok(qt_gguf_real(g, "llama.attention.layer_norm_rms_epsilon", &v));
    assert_true((float)v == 1e-5f);
    const qt_gguf_tensor *k = qt_gguf_find_tensor(g, "blk.0.attn_k.weight");
    assert_true(k && k->rank == 2 && k->dim[0] == 64 && k->dim[1] == 32); /* the contraction first */
    qt_gguf_free(g);
}

static void test_bitnet(void **state)
{
    const char *s;
    (void)state;
    put_text();
    qt_gguf *g = exported("{arch: bitnet, d_model: 256, n_layer: 1, n_head: 4, d_ff: 256, fp16: true}",
                          "[{match: \"blk.*\", weights: {use: ternary, scale_grid: fp16}, activations: q8_k}]", "", "{use: gguf, type: TQ2_0}");
    assert_ok(qt_gguf_str(g, "general.architecture", &s));
    assert_string_equal(s, "bitnet");
    assert_string_equal(type_of(g, "blk.0.attn_sub_norm.weight"), "F32");
    assert_string_equal(type_of(g, "blk.0.ffn_sub_norm.weight"), "F32");
    assert_string_equal(type_of(g, "blk.0.attn_v.weight"), "TQ2_0");
    assert_null(qt_gguf_find_tensor(g, "output.weight")); /* tied */
    qt_gguf_free(g);
}

/* ---- the tokenizer ------------------------------------------------------------------------------------------------------------------- */

static void assert_token(const qt_gguf_key *k, int64_t i, const char *want)
{
    const uint8_t *p = k->p;
    size_t         n;
    const char    *s = NULL;
    for (int64_t j = 0; j <= i; j++) s = qt_gguf_next_str(&p, &n);
    if (n != strlen(want) || memcmp(s, want, n)) fail_msg("token %d is '%.*s', expected '%s'", (int)i, (int)n, s, want);
}

static void test_bytes_are_tokens(void **state)
{
    (void)state;
    put_text();
    qt_gguf *g = exported("{arch: llama, d_model: 32, n_layer: 1, n_head: 2, d_ff: 32, vocab: 258}", "[]", "", "{use: gguf}");
    const qt_gguf_key *k = qt_gguf_find(g, "tokenizer.ggml.tokens"), *kind = qt_gguf_find(g, "tokenizer.ggml.token_type");
    assert_true(k->n == 258 && kind->n == 258 && qt_gguf_find(g, "tokenizer.ggml.merges")->n == 0);
    assert_token(k, 0, "<|endoftext|>");
    assert_token(k, 10, "\u010a");
    assert_token(k, 32, "\u0120");
    assert_token(k, 65, "A");
    assert_token(k, 127, "\u0121");
    assert_token(k, 160, "\u0142");
    assert_token(k, 161, "\u00a1");
    assert_token(k, 173, "\u0143");
    assert_token(k, 255, "\u00ff");
    assert_token(k, 257, "<unused 257>");
    assert_int_equal(qt_gguf_integer(kind, 0), 3);
    assert_int_equal(qt_gguf_integer(kind, 65), 1);
    assert_int_equal(qt_gguf_integer(kind, 257), 5);
    qt_gguf_free(g);
}

static void test_merges(void **state)
{
    qt_bpe *b;
    (void)state;
    put_text();
    assert_ok(qt_bpe_make("v", 3, (int32_t[]){' ', 't', 256, 'h', 'a', 't'}, &b));
    assert_ok(qt_bpe_save(b, "v.bpe"));
    qt_bpe_free(b);
    qt_gguf *g = exported("{arch: llama, d_model: 32, n_layer: 1, n_head: 2, d_ff: 32}", "[]", ", tokens: v.bpe}", "{use: gguf}");
    const qt_gguf_key *k = qt_gguf_find(g, "tokenizer.ggml.tokens"), *m = qt_gguf_find(g, "tokenizer.ggml.merges");
    assert_true(k->n == 259 && m->n == 3);
    assert_token(k, 257, "\u0120th");
    assert_token(k, 258, "at");
    assert_token(m, 0, "\u0120 t");
    assert_token(m, 1, "\u0120t h");
    qt_gguf_free(g);
}

/* ---- adapters ------------------------------------------------------------------------------------------------------------------------ */

static void test_adapter(void **state)
{
    qt_arena    a = {0};
    qt_run     *base, *r;
    qt_gguf    *g;
    const char *s;
    double      alpha;
    (void)state;
    put_text();
    put_recipe("base.yaml", LLAMA(256, 256), GGML("TQ2_0", "q8_k"), "");
    assert_ok(run_recipe(&a, "base.yaml", "base", &base));
    qt_run_free(base);
    put_recipe("r.yaml", LLAMA(256, 256), GGML("TQ2_0", "q8_k"), "}\ninit: {run: base}\nlora: {rank: 3, alpha: 12, targets: [\"*.attn_q\"]}\n"
                                                                 "export: [{format: gguf}]");
    assert_ok(run_recipe(&a, "r.yaml", "run", &r));
    assert_ok(qt_gguf_open("run/export/m.gguf", &g));
    assert_int_equal(g->n_tensors, 2);
    const qt_gguf_tensor *A = qt_gguf_find_tensor(g, "blk.0.attn_q.weight.lora_a"), *B = qt_gguf_find_tensor(g, "blk.0.attn_q.weight.lora_b");
    assert_true(A && B && A->dim[0] == 256 && A->dim[1] == 3 && B->dim[0] == 3 && B->dim[1] == 256);
    assert_ok(qt_gguf_str(g, "general.type", &s));
    assert_string_equal(s, "adapter");
    assert_ok(qt_gguf_real(g, "adapter.lora.alpha", &alpha));
    assert_true(alpha == 12);
    qt_gguf_free(g);
    qt_exported made;
    assert_int_equal(qt_exporter_h5.run(&qt_exporter_h5, r, NULL, "no.h5", &made), QT_EUSAGE);
    assert_errors("run: a run of adapters on a frozen base; format h5 holds no adapters. Merge them into a checkpoint (phases: {use: merge, checkpoint: true}), and export a "
                  "run that begins with it");
    assert_true(access("no.h5", F_OK) != 0);
    qt_run_free(r);
    qt_arena_free(&a);
}

/* ---- import ------------------------------------------------------------------------------------------------------------------------- */

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

/* Exported, imported and exported again: the same bytes. */
static void around(const char *model, const char *quant, const char *more, const char *options)
{
    qt_run *r;
    qt_gguf_free(exported(model, quant, more, options));
    if (system("rm -rf imported")) abort();
    assert_ok(qt_import_gguf("m.gguf", "imported", (qt_sets){0}));
    assert_ok(qt_run_resume("imported", QT_PROGRESS_QUIET, &r));
    assert_ok(export_run(r, options, "again.gguf"));
    qt_run_free(r);
    assert_same_files("m.gguf", "again.gguf");
}

static void test_import(void **state)
{
    static const char *const types[] = {"Q8_0", "Q4_0", "Q2_0", "Q1_0", "TQ1_0", "TQ2_0"};
    (void)state;
    put_text();
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char quant[256], options[64];
        snprintf(quant, sizeof quant, GGML("%s", "q8_0"), types[i]);
        snprintf(options, sizeof options, "{use: gguf, name: n, type: %s}", types[i]);
        around(LLAMA(256, 256), quant, "", options);
    }
    around("{arch: bitnet, d_model: 256, n_layer: 1, n_head: 4, d_ff: 256, norm_eps: 1e-6, rope_base: 5e5}",
           "[{match: \"blk.*\", weights: {use: ternary, scale_grid: fp16}}]", "", "{use: gguf, name: n}");
    qt_bpe *b;
    assert_ok(qt_bpe_make("v", 3, (int32_t[]){' ', 't', 256, 'h', 'a', 't'}, &b));
    assert_ok(qt_bpe_save(b, "v.bpe"));
    qt_bpe_free(b);
    around(LLAMA(64, 64), "[]", ", tokens: v.bpe}", "{use: gguf, name: n}");
}

/* A path is a path, whatever stands in it. */
static void test_import_odd_folder(void **state)
{
    static const char odd[] = "it's \"L\xc3\xa4ufe\" & 'mehr', {a: b}; $HOME #1";
    qt_run *r;
    (void)state;
    put_text();
    qt_gguf_free(exported(LLAMA(64, 64), "[]", "", "{use: gguf, name: n}"));
    assert_int_equal(rename("m.gguf", "odd\n name: x.gguf"), 0);
    assert_ok(qt_import_gguf("odd\n name: x.gguf", odd, (qt_sets){0}));
    assert_ok(qt_run_resume(odd, QT_PROGRESS_QUIET, &r));
    assert_string_equal(r->recipe->name, "imported");
    qt_run_free(r);
}

/* m.gguf in x.gguf: a key or tensor of this name is left out, or changed. */
static void rewrite(const char *name, void (*key)(qt_gguf_out *o, const qt_gguf_key *k), void (*tensor)(qt_gguf_tensor *t))
{
    qt_gguf       *g;
    qt_gguf_out   *o;
    qt_gguf_tensor t[64];
    int            n = 0;
    assert_ok(qt_gguf_open("m.gguf", &g));
    assert_ok(qt_gguf_create("x.gguf", &o));
    for (int64_t i = 0; i < g->n_keys; i++) {
        const qt_gguf_key *k = &g->key[i];
        const uint8_t     *p = k->p;
        const char        *s[400];
        const bool         strings = k->type == QT_GGUF_STR;
        if (!strcmp(k->name, name)) {
            if (key) key(o, k);
            continue;
        }
        for (uint64_t e = 0; strings && e < k->n; e++) {
            size_t      len;
            const char *at = qt_gguf_next_str(&p, &len);
            s[e] = strndup(at, len);
        }
        if (strings && k->array) qt_gguf_put_strs(o, k->name, (int64_t)k->n, s);
        else if (strings) qt_gguf_put_str(o, k->name, s[0]);
        else if (k->array && k->type == QT_GGUF_I32) qt_gguf_put_i32s(o, k->name, (int64_t)k->n, (const int32_t *)(const void *)k->p);
        else if (k->type == QT_GGUF_U32) qt_gguf_put_u32(o, k->name, (uint32_t)qt_gguf_integer(k, 0));
        else if (k->type == QT_GGUF_F32) qt_gguf_put_f32(o, k->name, (float)qt_gguf_number(k, 0));
        for (uint64_t e = 0; strings && e < k->n; e++) free((void *)(uintptr_t)s[e]);
    }
    if (!qt_gguf_find(g, name) && key) key(o, NULL);
    for (int64_t i = 0; i < g->n_tensors; i++) {
        t[n] = g->tensor[i];
        if (strcmp(t[n].name, name) || (tensor && (tensor(&t[n]), true))) n++;
    }
    for (int i = 0; i < n; i++) qt_gguf_add(o, t[i].name, t[i].type, t[i].rank, t[i].dim);
    for (int i = 0; i < n; i++) qt_gguf_data(o, t[i].data, (size_t)t[i].bytes);
    assert_ok(qt_gguf_close(o));
    qt_gguf_free(g);
}

static void too_many_merges(qt_gguf_out *o, const qt_gguf_key *k)
{
    (void)k;
    qt_gguf_put_strs(o, "tokenizer.ggml.merges", 5, (const char *const[]){"a b", "a c", "a d", "a e", "a f"});
}
static void strange_merges(qt_gguf_out *o, const qt_gguf_key *k)
{
    (void)k;
    qt_gguf_put_strs(o, "tokenizer.ggml.merges", 2, (const char *const[]){"\xc4\xa0 t", "zz h"});
}
static void no_blank(qt_gguf_out *o, const qt_gguf_key *k)
{
    (void)k;
    qt_gguf_put_strs(o, "tokenizer.ggml.merges", 1, (const char *const[]){"ab"});
}
static void strange_tokens(qt_gguf_out *o, const qt_gguf_key *k)
{
    const char *s[256];
    for (int i = 0; i < 256; i++) s[i] = "x";
    qt_gguf_put_strs(o, k->name, 256, s);
}
static void wide(qt_gguf_out *o, const qt_gguf_key *k) { qt_gguf_put_u32(o, k->name, 96); }
static void many(qt_gguf_out *o, const qt_gguf_key *k) { qt_gguf_put_u32(o, k->name, 1000); }
static void whole(qt_gguf_out *o, const qt_gguf_key *k) { qt_gguf_put_str(o, k->name, "many"); }
static void rename_it(qt_gguf_tensor *t) { t->name = "a, b}\": *.weight"; }
static void integers(qt_gguf_tensor *t) { t->type = qt_ggml_find("I32"); }
static void turn_it(qt_gguf_tensor *t) { t->dim[1] = t->dim[0], t->dim[0] = 32; }
static void flat(qt_gguf_tensor *t) { t->rank = 2, t->dim[1] = 1; }
static void endless(qt_gguf_tensor *t) /* the first block's scale is infinite */
{
    static uint8_t copy[1 << 14];
    assert_true((size_t)t->bytes <= sizeof copy);
    memcpy(copy, t->data, (size_t)t->bytes), copy[0] = 0, copy[1] = 0x7c, t->data = copy;
}
static void coarse(qt_gguf_tensor *t) /* the first block's codes are all even: their scale may as well be twice as large */
{
    static uint8_t copy[1 << 14];
    assert_true((size_t)t->bytes <= sizeof copy);
    memcpy(copy, t->data, (size_t)t->bytes), copy[0] = 0, copy[1] = 0x3c;
    for (int i = 0; i < 32; i++) copy[2 + i] = (uint8_t)(i % 2 ? 2 : -4);
    t->data = copy;
}

/* Models of others, whole as files. */
static void test_import_misfits(void **state)
{
    static const struct {
        const char *name;
        void      (*key)(qt_gguf_out *o, const qt_gguf_key *k);
        void      (*tensor)(qt_gguf_tensor *t);
        const char *want;
    } cases[] = {
        {"llama.embedding_length", NULL, NULL, "x.gguf: has no key 'llama.embedding_length'"},
        {"llama.embedding_length", whole, NULL, "x.gguf: key 'llama.embedding_length': expected an integer, found string"},
        {"llama.embedding_length", wide, NULL, "x.gguf: tensor token_embd.weight has another shape than the keys say"},
        {"llama.block_count", many, NULL, " bytes of data, and its keys describe a model of "},
        {"tokenizer.ggml.tokens", NULL, NULL, "x.gguf: has no vocabulary of 256 to 65536 tokens"},
        {"tokenizer.ggml.tokens", strange_tokens, NULL, "x.gguf: its tokens are not bytes, and merges of bytes, in their order; other tokenizers cannot be imported"},
        {"tokenizer.ggml.merges", too_many_merges, NULL, "x.gguf: has more merges than tokens"},
        {"tokenizer.ggml.merges", strange_merges, NULL,
         "x.gguf: merge 1 is none of two tokens before it; a vocabulary with ids of another order cannot be imported"},
        {"tokenizer.ggml.merges", no_blank, NULL, "x.gguf: merge 0 is none of two tokens before it; a vocabulary with ids of another order cannot be imported"},
        {"blk.0.attn_norm.weight", NULL, NULL, "x.gguf: has no tensor blk.0.attn_norm.weight"},
        {"blk.0.attn_norm.weight", NULL, flat, "x.gguf: tensor blk.0.attn_norm.weight has another shape than the keys say"},
        {"blk.0.attn_norm.weight", NULL, integers, "x.gguf: tensor blk.0.attn_norm.weight is of type I32, which cannot be read"},
        {"blk.0.attn_k.weight", NULL, turn_it, "x.gguf: tensor blk.0.attn_k.weight has another shape than the keys say"},
        {"blk.0.attn_q.weight", NULL, rename_it, "quant[0].match: matches no layer that can be quantized"},
        {"blk.0.attn_q.weight", NULL, endless, "blk.0.attn_q.weight"},
        {"blk.0.attn_q.weight", NULL, coarse, "blk.0.attn_q.weight"},
    };
    (void)state;
    put_text();
    qt_bpe *b;
    assert_ok(qt_bpe_make("v", 3, (int32_t[]){' ', 't', 256, 'h', 'a', 't'}, &b));
    assert_ok(qt_bpe_save(b, "v.bpe"));
    qt_bpe_free(b);
    qt_gguf_free(exported(LLAMA(64, 64), GGML("Q8_0", "q8_0"), ", tokens: v.bpe}", "{use: gguf, type: Q8_0}"));
    rewrite("nothing", NULL, NULL);
    if (system("rm -rf whole")) abort();
    assert_ok(qt_import_gguf("x.gguf", "whole", (qt_sets){0}));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rewrite(cases[i].name, cases[i].key, cases[i].tensor);
        qt_err e = qt_import_gguf("x.gguf", "none", (qt_sets){0});
        if (e == QT_OK || !strstr(qt_error_text(), cases[i].want)) fail_msg("%zu: %s: said '%s'", i, cases[i].name, qt_error_text());
        qt_error_clear();
        assert_true(access("none", F_OK) != 0);
    }
}

static void test_import_refused(void **state)
{
    qt_gguf_out *o;
    (void)state;
    assert_ok(qt_gguf_create("x.gguf", &o));
    qt_gguf_put_str(o, "general.architecture", "mamba");
    assert_ok(qt_gguf_close(o));
    assert_int_equal(qt_import_gguf("x.gguf", "none", (qt_sets){0}), QT_EDATA);
    assert_errors("x.gguf: architecture 'mamba'; llama and bitnet can be imported");
    assert_true(access("none", F_OK) != 0);
    assert_int_equal(qt_import_gguf("x.gguf", ".", (qt_sets){0}), QT_EUSAGE);
    assert_errors(".: is there already");
    assert_ok(qt_gguf_create("x.gguf", &o));
    qt_gguf_put_str(o, "general.architecture", "llama");
    assert_ok(qt_gguf_close(o));
    assert_int_equal(qt_import_gguf("x.gguf", "none", (qt_sets){0}), QT_EDATA);
    assert_errors("x.gguf: has no vocabulary of 256 to 65536 tokens");
    assert_true(access("none", F_OK) != 0);
}

/* ---- refusals ------------------------------------------------------------------------------------------------------------------------ */

static void refused(const char *model, const char *quant, const char *type, const char *want)
{
    qt_arena   a = {0};
    qt_recipe *rc;
    char       more[128];
    snprintf(more, sizeof more, "}\nexport: [{format: gguf, type: %s}]", type);
    put_recipe("r.yaml", model, quant, more);
    assert_int_equal(qt_recipe_load(&a, "r.yaml", 0, NULL, NULL, &rc), QT_ERECIPE);
    if (strncmp(qt_error_text(), want, strlen(want))) fail_msg("said '%s'", qt_error_text());
    qt_error_clear();
    qt_arena_free(&a);
}

static void test_refused_before_training(void **state)
{
    (void)state;
    refused(LLAMA(320, 256), GGML("Q8_0", "q8_0"), "TQ2_0",
            "r.yaml:6:10: gguf: blk.0.attn_q.weight cannot be TQ2_0: its rows have 320 numbers, and a block is 256; the nearest widths are 256 and 512");
    refused(LLAMA(64, 64), "[{match: \"blk.*\", weights: ternary}]", "TQ1_0",
            "r.yaml:6:10: gguf: blk.0.attn_q.weight cannot be TQ1_0: its rows have 64 numbers, and a block is 256; the nearest width is 256");
    refused(LLAMA(64, 64), "[]", "Q8_0", "r.yaml:6:10: gguf: blk.0.attn_q.weight cannot be Q8_0: its weights are not quantized");
    refused(LLAMA(64, 64), GGML("Q8_0", "q8_0"), "Q4_0", "r.yaml:6:10: gguf: blk.0.attn_q.weight cannot be Q4_0: its quantizer 'ggml' has codes of 8 bits");
    refused("{arch: llama, d_model: 64, n_layer: 1, n_head: 2, d_ff: 64, rope: half}", "[]", "auto",
            "r.yaml:6:10: gguf: no architecture of llama.cpp has rope: half without sub_norm (instead: rope: interleaved)");
    refused("{arch: llama, d_model: 64, n_layer: 1, n_head: 2, d_ff: 64, linear_norm: rms_norm}", "[]", "auto",
            "r.yaml:6:10: gguf: no architecture of llama.cpp has linear_norm (instead: none)");
    refused("{arch: llama, d_model: 64, n_layer: 1, n_head: 2, d_ff: 64, activation: relu2}", "[]", "auto",
            "r.yaml:6:10: gguf: no architecture of llama.cpp has an activation other than silu (instead: activation: silu)");
    refused("{arch: bitnet, d_model: 64, n_layer: 1, n_head: 2, d_ff: 64, rope: interleaved}", "[]", "auto",
            "r.yaml:6:10: gguf: no architecture of llama.cpp has sub_norm with rope: interleaved (instead: arch: bitnet)");
    refused("{arch: bitnet, d_model: 64, n_layer: 1, n_head: 2, d_ff: 64, tied: false}", "[]", "auto",
            "r.yaml:6:10: gguf: no architecture of llama.cpp has sub_norm with an output of its own (instead: tied: true)");
    refused(LLAMA(64, 64), "[{match: \"blk.*\", weights: {use: uniform, num_bits: 12}}]", "auto",
            "r.yaml:6:10: gguf: no type holds blk.0.attn_q.weight: codes of 12 bits in rows of 64 numbers; a multiple of 32 is wanted, for ternary weights one of 256");
    refused("{arch: gpt2, d_model: 64, n_layer: 1, n_head: 2}", "[]", "auto", "r.yaml:6:10: gguf: holds models {arch: llama} and {arch: bitnet}; this one is arch: gpt2");
}

static void not_on_the_grid(const char *quant, const char *options, const char *want)
{
    qt_arena a = {0};
    qt_run  *r;
    put_recipe("r.yaml", LLAMA(256, 256), quant, "");
    assert_ok(run_recipe(&a, "r.yaml", "run", &r));
    unlink("no.gguf"), unlink("export.json");
    assert_int_equal(export_run(r, options, "no.gguf"), QT_EDATA);
    if (strncmp(qt_error_text(), want, strlen(want))) fail_msg("said '%s'", qt_error_text());
    qt_error_clear();
    assert_true(access("no.gguf", F_OK) && access("no.gguf.part", F_OK) && access("export.json", F_OK));
    qt_run_free(r);
    qt_arena_free(&a);
}

/* A scale that half precision does not have, for it is too large or too small. */
static void out_of_range(R factor, const char *half)
{
    qt_arena a = {0};
    qt_run  *r;
    char     want[64];
    put_recipe("r.yaml", LLAMA(64, 64), "[{match: \"blk.*\", weights: {use: uniform, num_bits: 4, granularity: group, group_size: 32}}]", "");
    assert_ok(run_recipe(&a, "r.yaml", "run", &r));
    qt_tensor *w = qt_param_find(r->store, "blk.0.attn_q.weight");
    for (int64_t i = 0; i < w->n; i++) w->data[i] *= factor;
    unlink("no.gguf");
    assert_int_equal(export_run(r, "{use: gguf, type: Q4_0}", "no.gguf"), QT_EDATA);
    snprintf(want, sizeof want, ", and half precision has %s; train with scales on its grid", half);
    if (strncmp(qt_error_text(), "blk.0.attn_q.weight: cannot be Q4_0: the scale of block 0 is ", 61) || !strstr(qt_error_text(), want))
        fail_msg("said '%s'", qt_error_text());
    qt_error_clear();
    assert_true(access("no.gguf", F_OK) && access("no.gguf.part", F_OK));
    qt_run_free(r);
    qt_arena_free(&a);
}

static void test_refused_out_of_range(void **state)
{
    (void)state;
    put_text();
    out_of_range((R)1e9, "inf");
    out_of_range((R)1e-12, "0");
}

static void test_refused_off_the_grid(void **state)
{
    (void)state;
    put_text();
    not_on_the_grid("[{match: \"blk.*\", weights: ternary}]", "{use: gguf, type: TQ2_0}", "blk.0.attn_q.weight: cannot be TQ2_0: the scale of block 0 is ");
    not_on_the_grid("[{match: \"blk.*\", weights: {use: ggml, type: Q4_0}}]", "{use: gguf, type: Q8_0, embedding: F16}", "token_embd.weight: number 0 is ");
    not_on_the_grid("[{match: \"blk.*\", weights: {use: uniform, num_bits: 4, granularity: group, group_size: 16}}]", "{use: gguf, type: Q4_0}",
                    "blk.0.attn_q.weight: cannot be Q4_0: 16 numbers share a scale, and a block is 32");
    not_on_the_grid("[{match: \"blk.*\", weights: {use: nf4, block: 32}}]", "{use: gguf, type: Q4_0}",
                    "blk.0.attn_q.weight: cannot be Q4_0: its numbers are not integers times a scale; they come from a table");
    not_on_the_grid("[{match: \"blk.*\", weights: {use: elastic, num_bits: 4, symmetry: asymmetric}}]", "{use: gguf, type: Q4_0}",
                    "blk.0.attn_q.weight: cannot be Q4_0: its numbers are not integers times a scale; they have an offset");
    not_on_the_grid("[{match: \"blk.*\", weights: {use: int_group, num_bits: 4, group_size: 32}}]", "{use: gguf, type: Q4_0}",
                    "blk.0.attn_q.weight: cannot be Q4_0: its numbers are not integers times a scale; they have zero points");
}

/* A scale that half precision has, and a code that the type has not. */
static void test_refused_code(void **state)
{
    qt_arena a = {0};
    qt_run  *r;
    (void)state;
    put_text();
    put_recipe("r.yaml", LLAMA(64, 64), "[{match: \"blk.*\", weights: {use: lsq, num_bits: 2}}]", "");
    assert_ok(run_recipe(&a, "r.yaml", "run", &r));
    qt_param_find(r->store, "blk.0.attn_q.weight.scale")->data[0] = (R)0.5;
    qt_param_find(r->store, "blk.0.attn_q.weight")->data[3] = -9;
    assert_int_equal(export_run(r, "{use: gguf, type: Q2_0}", "no.gguf"), QT_EDATA);
    assert_errors("blk.0.attn_q.weight: cannot be Q2_0: number 3 has code -2, and the type has -1 to 2");
    assert_true(access("no.gguf", F_OK) && access("no.gguf.part", F_OK));
    qt_run_free(r);
    put_recipe("r.yaml", LLAMA(64, 64), GGML("Q8_0", "q8_0"), "}\nschedule: {fake_quant_after: 100}");
    assert_ok(run_recipe(&a, "r.yaml", "run", &r));
    assert_int_equal(export_run(r, "{use: gguf, type: Q8_0}", "no.gguf"), QT_EDATA);
    assert_errors("blk.0.attn_q.weight: cannot be Q8_0: quantization has not begun (schedule.fake_quant_after)");
    qt_run_free(r);
    qt_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_every_type, clear), cmocka_unit_test_setup(test_keys, clear), cmocka_unit_test_setup(test_bitnet, clear),
        cmocka_unit_test_setup(test_bytes_are_tokens, clear), cmocka_unit_test_setup(test_merges, clear), cmocka_unit_test_setup(test_adapter, clear),
        cmocka_unit_test_setup(test_import, clear), cmocka_unit_test_setup(test_import_odd_folder, clear),
        cmocka_unit_test_setup(test_import_misfits, clear), cmocka_unit_test_setup(test_import_refused, clear),
        cmocka_unit_test_setup(test_refused_before_training, clear), cmocka_unit_test_setup(test_refused_off_the_grid, clear),
        cmocka_unit_test_setup(test_refused_out_of_range, clear), cmocka_unit_test_setup(test_refused_code, clear),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
