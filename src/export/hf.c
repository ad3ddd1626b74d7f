/* Llama models as Hugging Face's transformers know them. They turn pairs of numbers half a head apart, where `rope: interleaved` turns neighbours:
 * row 2i + p of a head of q or k, p = 0 or 1, is row i + p D/2 of D there, and all products of queries and keys are the same sums in another order.
 * With `rope: half` rows stay where they are. transformers: modeling_llama.py. Left out: other architectures, biases, scaled angles. */
#include "export/hf.h"
#include "base/scan.h"
#include <stdlib.h>
#include <string.h>

/* ---- names --------------------------------------------------------------------------------------------------------------------------- */

static const char *const whole[][2] = {{"token_embd.weight", "model.embed_tokens.weight"}, {"output_norm.weight", "model.norm.weight"}, {"output.weight", "lm_head.weight"}};
static const char *const block[][2] = {
    {"attn_norm.weight", "input_layernorm.weight"}, {"attn_q.weight", "self_attn.q_proj.weight"}, {"attn_k.weight", "self_attn.k_proj.weight"},
    {"attn_v.weight", "self_attn.v_proj.weight"}, {"attn_output.weight", "self_attn.o_proj.weight"}, {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"}, {"ffn_up.weight", "mlp.up_proj.weight"}, {"ffn_down.weight", "mlp.down_proj.weight"}};

/* The name within its block: "attn_q.weight" of "blk.3.attn_q.weight", NULL outside of blocks. */
static const char *in_block(const char *name, int64_t *n)
{
    const char *s = name + 4;
    return !strncmp(name, "blk.", 4) && qt_scan_number(&s, INT32_MAX, n) && *s == '.' ? s + 1 : NULL;
}

const char *qt_hf_name(qt_arena *a, const char *name)
{
    int64_t     n = 0;
    const char *part = in_block(name, &n);
    for (size_t i = 0; !part && i < sizeof whole / sizeof *whole; i++)
        if (!strcmp(whole[i][0], name)) return whole[i][1];
    for (size_t i = 0; part && i < sizeof block / sizeof *block; i++)
        if (!strcmp(block[i][0], part)) return qt_arena_sprintf(a, "model.layers.%lld.%s", (long long)n, block[i][1]);
    return NULL;
}

/* ---- rows of q and k ----------------------------------------------------------------------------------------------------------------- */

int64_t qt_hf_heads(const qt_llama *c, const char *name)
{
    int64_t     n;
    const char *part = in_block(name, &n);
    if (!part || c->rope == QT_LLAMA_HALF) return 0;
    return !strcmp(part, "attn_q.weight") ? c->n_head : !strcmp(part, "attn_k.weight") ? c->n_kv_head : 0;
}

void qt_hf_rows(bool there, int64_t heads, int64_t rows, int64_t cols, const R *x, R *y)
{
    const int64_t D = rows / heads;
    for (int64_t row = 0; row < rows; row++) {
        const int64_t h = row / D, i = row % D / 2, p = row % 2, other = h * D + i + p * (D / 2);
        memcpy(y + (there ? other : row) * cols, x + (there ? row : other) * cols, (size_t)cols * sizeof *y);
    }
}

/* ---- the model ----------------------------------------------------------------------------------------------------------------------- */

bool qt_hf_llama(const qt_recipe *r, const qt_model *m, qt_llama *c)
{
    const char *arch = "";
    qt_yaml_str(qt_yaml_get(r->model, "arch"), &arch);
    if (strcmp(arch, "llama") || qt_fields_read(r->model, "model", qt_arch_llama.d.fields, "arch", c) != QT_OK) return false;
    if (!c->n_kv_head) c->n_kv_head = c->n_head;
    c->vocab = m->m[0].p[0]->dim[0];
    return !c->sub_norm && !c->linear_norm && c->activation == QT_LLAMA_SILU && c->d_model / c->n_head % 2 == 0;
}

static void print_config(FILE *f, const qt_llama *c, int64_t context, bool tied)
{
    const struct { const char *name; int64_t v; } sizes[] = {
        {"vocab_size", c->vocab}, {"hidden_size", c->d_model}, {"intermediate_size", c->d_ff}, {"num_hidden_layers", c->n_layer}, {"num_attention_heads", c->n_head},
        {"num_key_value_heads", c->n_kv_head}, {"head_dim", c->d_model / c->n_head}, {"max_position_embeddings", context}};
    fprintf(f, "{\n  \"architectures\": [\"LlamaForCausalLM\"],\n  \"model_type\": \"llama\",\n");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) fprintf(f, "  \"%s\": %lld,\n", sizes[i].name, (long long)sizes[i].v);
    fprintf(f, "  \"rms_norm_eps\": "), qt_export_real(f, c->norm_eps, false);
    fprintf(f, ",\n  \"rope_theta\": "), qt_export_real(f, c->rope_base, false);
    fprintf(f, ",\n  \"hidden_act\": \"silu\",\n  \"attention_bias\": false,\n  \"mlp_bias\": false,\n  \"bos_token_id\": null,\n  \"eos_token_id\": null,\n");
    fprintf(f, "  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\"\n}\n", tied ? "true" : "false", sizeof(R) == 8 ? "float64" : "float32");
}

qt_err qt_hf_config(const char *file, const qt_llama *c, int64_t context, bool tied)
{
    char  *text = NULL;
    size_t n = 0;
    FILE  *f = open_memstream(&text, &n);
    if (!f) return qt_fail(QT_EMEM, "out of memory");
    print_config(f, c, context, tied);
    qt_err e = qt_stream_close(QT_OK, f, &text);
    if (e == QT_OK) e = qt_file_write(file, text, n);
    free(text);
    return e;
}
