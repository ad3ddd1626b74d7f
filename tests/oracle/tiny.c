/* Small random models as GGUF files, for the oracle of the oracle: what llama.cpp makes of them must be what check.py makes of them.
 *
 *     tiny FILE.gguf llama|bitnet TYPE      weights of all layers in a block type, packed from random codes; embedding and output in F16
 *     tiny FILE.gguf lora RANK              an adapter for it */
#include "base/gguf.h"
#include "base/half.h"
#include "base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { E = 256, F = 512, HEADS = 4, KV_HEADS = 2, D = E / HEADS, LAYERS = 2, V = 257, MOST = V * F };

static R       x[MOST], scale[MOST];
static int32_t code[MOST];
static uint8_t bytes[4 * MOST];

static float *normal(qt_rng *r, int64_t n, double deviation, double mean)
{
    static float f[MOST];
    for (int64_t i = 0; i < n; i++) f[i] = (float)(qt_rng_normal(r) * deviation + mean);
    return f;
}

/* ---- the vocabulary: bytes, in the characters that GPT-2's tokenizer has for them ---------------------------------------------------- */

static void put_vocabulary(qt_gguf_out *o)
{
    static char       text[V][16];
    const char       *token[V];
    int32_t           kind[V];
    static const char end[] = "<|endoftext|>";
    for (int b = 0, more = 256; b < 256; b++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        int  c = plain ? b : more++;
        if (c < 128) text[b][0] = (char)c;
        else text[b][0] = (char)(0xc0 | c >> 6), text[b][1] = (char)(0x80 | (c & 63));
        token[b] = text[b], kind[b] = 1;
    }
    token[256] = end, kind[256] = 3;
    qt_gguf_put_str(o, "tokenizer.ggml.model", "gpt2");
    qt_gguf_put_str(o, "tokenizer.ggml.pre", "default");
    qt_gguf_put_strs(o, "tokenizer.ggml.tokens", V, token);
    qt_gguf_put_i32s(o, "tokenizer.ggml.token_type", V, kind);
    qt_gguf_put_strs(o, "tokenizer.ggml.merges", 0, token);
    qt_gguf_put_u32(o, "tokenizer.ggml.bos_token_id", 256);
    qt_gguf_put_u32(o, "tokenizer.ggml.eos_token_id", 256);
    qt_gguf_put_bool(o, "tokenizer.ggml.add_bos_token", false);
}

static void put_model(qt_gguf_out *o, const char *arch)
{
    char key[64];
#define KEY(name) (snprintf(key, sizeof key, "%s.%s", arch, name), key)
    qt_gguf_put_str(o, "general.architecture", arch);
    qt_gguf_put_str(o, "general.name", "tiny");
    qt_gguf_put_u32(o, KEY("context_length"), 256);
    qt_gguf_put_u32(o, KEY("embedding_length"), E);
    qt_gguf_put_u32(o, KEY("block_count"), LAYERS);
    qt_gguf_put_u32(o, KEY("feed_forward_length"), F);
    qt_gguf_put_u32(o, KEY("attention.head_count"), HEADS);
    qt_gguf_put_u32(o, KEY("attention.head_count_kv"), KV_HEADS);
    qt_gguf_put_f32(o, KEY("attention.layer_norm_rms_epsilon"), 1e-5f);
    qt_gguf_put_f32(o, KEY("rope.freq_base"), 10000);
    qt_gguf_put_u32(o, KEY("rope.dimension_count"), D);
    qt_gguf_put_u32(o, KEY("vocab_size"), V);
}

/* ---- tensors: listed once to declare them, once to write them ------------------------------------------------------------------------ */

typedef struct maker {
    qt_gguf_out   *o;
    const qt_ggml *type;
    bool           writing;
} maker;

static void tensor(maker *m, const char *name, const qt_ggml *type, int64_t in, int64_t out)
{
    qt_rng  r = qt_rng_named(1, "%s", name);
    int64_t n = in * (out ? out : 1), bad;
    if (!m->writing) {
        qt_gguf_add(m->o, name, type, out ? 2 : 1, (int64_t[]){in, out});
        return;
    }
    if (type->pack) {
        double spread = type->lo == -1 ? 0.8 : (type->hi - type->lo) / sqrt(12);
        for (int64_t i = 0; i < n; i++) {
            do code[i] = type->lo + (int)qt_rng_below(&r, (uint64_t)(type->hi - type->lo + 1));
            while (type->id == QT_GGML_Q1_0 && !code[i]);
        }
        for (int64_t b = 0; b < n / type->block; b++)
            scale[b] = (R)qt_half_to_float(qt_half_from_float((float)((0.5 + qt_rng_uniform(&r)) / spread / sqrt((double)in))));
        if (!qt_ggml_pack(type, n, code, scale, type->block, n / type->block, bytes, &bad)) abort();
    } else {
        const float *f = normal(&r, n, out ? 1 / sqrt((double)in) : 0.2, out ? 0 : 1);
        for (int64_t i = 0; i < n; i++) x[i] = (R)f[i];
        qt_ggml_write(type, n, x, bytes);
    }
    qt_gguf_data(m->o, bytes, (size_t)(n / type->block * type->bytes));
}

static void layer(maker *m, int i, bool bitnet)
{
    char           name[64];
    const qt_ggml *f32 = qt_ggml_of(QT_GGML_F32);
#define NAME(what) (snprintf(name, sizeof name, "blk.%d." what ".weight", i), name)
    tensor(m, NAME("attn_norm"), f32, E, 0);
    tensor(m, NAME("attn_q"), m->type, E, E);
    tensor(m, NAME("attn_k"), m->type, E, KV_HEADS * D);
    tensor(m, NAME("attn_v"), m->type, E, KV_HEADS * D);
    if (bitnet) tensor(m, NAME("attn_sub_norm"), f32, E, 0);
    tensor(m, NAME("attn_output"), m->type, E, E);
    tensor(m, NAME("ffn_norm"), f32, E, 0);
    tensor(m, NAME("ffn_gate"), m->type, E, F);
    tensor(m, NAME("ffn_up"), m->type, E, F);
    if (bitnet) tensor(m, NAME("ffn_sub_norm"), f32, F, 0);
    tensor(m, NAME("ffn_down"), m->type, F, E);
}

static void model(maker *m, bool bitnet)
{
    const qt_ggml *f16 = qt_ggml_of(m->type->id == QT_GGML_F32 ? QT_GGML_F32 : QT_GGML_F16);
    for (m->writing = false;; m->writing = true) {
        tensor(m, "token_embd.weight", f16, E, V);
        for (int i = 0; i < LAYERS; i++) layer(m, i, bitnet);
        tensor(m, "output_norm.weight", qt_ggml_of(QT_GGML_F32), E, 0);
        if (!bitnet) tensor(m, "output.weight", f16, E, V);
        if (m->writing) return;
    }
}

static void adapter(maker *m, int rank)
{
    const qt_ggml *f32 = qt_ggml_of(QT_GGML_F32);
    qt_gguf_put_str(m->o, "general.type", "adapter");
    qt_gguf_put_str(m->o, "general.architecture", "llama");
    qt_gguf_put_str(m->o, "adapter.type", "lora");
    qt_gguf_put_f32(m->o, "adapter.lora.alpha", 2.0f * (float)rank);
    for (m->writing = false;; m->writing = true) {
        tensor(m, "blk.0.attn_q.weight.lora_a", f32, E, rank);
        tensor(m, "blk.0.attn_q.weight.lora_b", f32, rank, E);
        tensor(m, "blk.1.ffn_down.weight.lora_a", f32, F, rank);
        tensor(m, "blk.1.ffn_down.weight.lora_b", f32, rank, E);
        if (m->writing) return;
    }
}

int main(int argc, char **argv)
{
    maker m = {0};
    bool  lora = argc == 4 && !strcmp(argv[2], "lora"), bitnet = argc == 4 && !strcmp(argv[2], "bitnet");
    if (argc != 4 || (!lora && !(m.type = qt_ggml_find(argv[3])))) return fputs("usage: tiny FILE.gguf llama|bitnet|lora TYPE|RANK\n", stderr), 2;
    if (qt_gguf_create(argv[1], &m.o) != QT_OK) return fprintf(stderr, "%s\n", qt_error_text()), 1;
    if (lora) adapter(&m, atoi(argv[3]));
    else put_model(m.o, argv[2]), put_vocabulary(m.o), model(&m, bitnet);
    if (qt_gguf_close(m.o) != QT_OK) return fprintf(stderr, "%s\n", qt_error_text()), 1;
    return 0;
}
