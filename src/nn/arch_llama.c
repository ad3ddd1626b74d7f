/* Language models of the Llama family as lists of layers, with the tensor names of GGUF. A block, n_layer times:
 *
 *     x += attn_output(sub(attention(q, k, v of attn_norm(x))))        x += ffn_down(sub(act(ffn_gate h) * ffn_up h)),  h = ffn_norm(x)
 *
 * between an embedding and output_norm, output. llama: no sub-norms, rope on neighbouring pairs. bitnet (BitNet b1.58 2B4T): a norm `sub`
 * before attn_output and before ffn_down, rope on pairs half a head apart, output tied to the embedding.
 * linear_norm puts a norm without parameters in front of every quantizable product beside these (BitNet b1.58 Reloaded).
 *
 * Touvron et al., "LLaMA", arXiv 2302.13971; Ma et al., "BitNet b1.58 2B4T", arXiv 2504.12285. Left out: biases, mixtures of experts. */
#include "nn/llama.h"

typedef qt_llama config;

#define ROPES "interleaved|half"
#define ACTIVATIONS "silu|relu2|gelu"
#define NORMS "none|layer_norm|rms_norm"
static const char *const rope_name[] = {"interleaved", "half"}, *const activation_name[] = {"silu", "relu2", "gelu"},
                         *const norm_name[] = {NULL, "layer_norm", "rms_norm"};

#define FIELDS(rope_default, sub_default, tied_default)                                                                                     \
    {                                                                                                                                       \
        QT_F_INT(config, d_model, NULL, 1, 1 << 20, "numbers a token"), QT_F_INT(config, n_layer, NULL, 1, 1000, "blocks"),                 \
            QT_F_INT(config, n_head, NULL, 1, 1 << 12, "heads of attention"),                                                              \
            QT_F_INT(config, n_kv_head, "0", 0, 1 << 12, "heads of keys and values; 0: n_head"),                                           \
            QT_F_INT(config, d_ff, NULL, 1, 1 << 22, "numbers inside the feed-forward part"),                                              \
            QT_F_INT(config, vocab, "0", 0, 1 << 24, "kinds of tokens; 0: as the data have"),                                              \
            QT_F_ENUM(config, rope, rope_default, ROPES, "pairs that rotary positions turn: neighbours, or half a head apart"),            \
            QT_F_REAL(config, rope_base, "10000", 1, 1e9, "base of the rotary angles"),                                                    \
            QT_F_ENUM(config, activation, "silu", ACTIVATIONS, "of the gate; relu2 is max(x, 0)^2"),                                       \
            QT_F_BOOL(config, sub_norm, sub_default, "a norm before attn_output and before ffn_down"),                                     \
            QT_F_ENUM(config, linear_norm, "none", NORMS, "a norm without parameters in front of every product but the output"),           \
            QT_F_REAL(config, norm_eps, "1e-5", 0, 1, "added to the mean square in norms"),                                                \
            QT_F_BOOL(config, tied, tied_default, "the output shares the embedding's table"),                                              \
            QT_F_BOOL(config, fp16, "false", "attention rounds to half precision, as llama.cpp does"),                                     \
            QT_F_REAL(config, init_std, "0.02", 0, 1e6, "standard deviation of all matrices at first"),                                    \
            QT_F_REAL(config, dropout, "0", 0, 0.99, "share left out of what a block adds, in training"), {NULL},                          \
    }
static const qt_field llama_fields[] = FIELDS("interleaved", "false", "false"), bitnet_fields[] = FIELDS("half", "true", "true");

static void norm(FILE *f, const config *c, const char *name)
{
    fprintf(f, "    - {use: rms_norm, eps: %.17g, name: %s}\n", c->norm_eps, name);
}

/* A norm without parameters, where linear_norm asks for one; what follows reads it by its name. */
static void plain_norm(FILE *f, const config *c, const char *name)
{
    if (c->linear_norm) fprintf(f, "    - {use: %s, affine: false, eps: %.17g, name: %s}\n", norm_name[c->linear_norm], c->norm_eps, name);
}

/* from NULL: what stands before. */
static void product(FILE *f, const config *c, const char *name, int64_t out, const char *from)
{
    fprintf(f, "    - {use: linear, out: %lld, bias: false, init: normal, init_std: %.17g, name: %s", (long long)out, c->init_std, name);
    if (from) fprintf(f, ", from: %s", from);
    fprintf(f, "}\n");
}

/* What the block has made, added to what came in. */
static void residual(FILE *f, const config *c, const char *name, const char *to)
{
    if (c->dropout > 0) fprintf(f, "    - {use: dropout, p: %.17g}\n", c->dropout);
    fprintf(f, "    - {use: add, name: %s, from: %s}\n", name, to);
}

static void block(FILE *f, const config *c)
{
    int64_t     D = c->d_model / c->n_head, kv = c->n_kv_head ? c->n_kv_head : c->n_head;
    const char *attn = c->linear_norm ? "attn_plain_norm" : "attn_norm", *ffn = c->linear_norm ? "ffn_plain_norm" : "ffn_norm";
    fprintf(f, "- name: blk\n  repeat: %lld\n  layers:\n", (long long)c->n_layer);
    norm(f, c, "attn_norm");
    plain_norm(f, c, "attn_plain_norm");
    product(f, c, "attn_q", D * c->n_head, NULL);
    product(f, c, "attn_k", D * kv, attn);
    product(f, c, "attn_v", D * kv, attn);
    fprintf(f, "    - {use: attention, heads: %lld, kv_heads: %lld, causal: true, rope: %s, rope_base: %.17g, fp16: %s, name: attn, from: [attn_q, "
               "attn_k, attn_v]}\n",
            (long long)c->n_head, (long long)kv, rope_name[c->rope], c->rope_base, c->fp16 ? "true" : "false");
    if (c->sub_norm) norm(f, c, "attn_sub_norm");
    plain_norm(f, c, "attn_output_plain_norm");
    product(f, c, "attn_output", c->d_model, NULL);
    residual(f, c, "attn_add", "input");
    norm(f, c, "ffn_norm");
    plain_norm(f, c, "ffn_plain_norm");
    product(f, c, "ffn_gate", c->d_ff, NULL);
    product(f, c, "ffn_up", c->d_ff, ffn);
    fprintf(f, "    - {use: glu, activation: %s, name: ffn_glu, from: [ffn_gate, ffn_up]}\n", activation_name[c->activation]);
    if (c->sub_norm) norm(f, c, "ffn_sub_norm");
    plain_norm(f, c, "ffn_down_plain_norm");
    product(f, c, "ffn_down", c->d_model, NULL);
    residual(f, c, "ffn_add", "attn_add");
}

static qt_err expand(FILE *f, const void *cfg, const qt_shape *in, int64_t classes, qt_pos pos)
{
    const config *c = cfg;
    int64_t       vocab = c->vocab ? c->vocab : in->ids;
    (void)classes;
    if (c->d_model % c->n_head)
        return qt_fail_at(QT_ERECIPE, pos, "model: %lld numbers a token do not share out to %lld heads", (long long)c->d_model, (long long)c->n_head);
    if (in->rank && !in->ids) return qt_fail_at(QT_ERECIPE, pos, "model: a language model reads tokens, but the data are numbers");
    if (!vocab) vocab = 1; /* not known yet: the shape of the data is not */
    fprintf(f, "- {use: embedding, num: %lld, dim: %lld, init_std: %.17g, name: token_embd}\n", (long long)vocab, (long long)c->d_model, c->init_std);
    block(f, c);
    fprintf(f, "- {use: rms_norm, eps: %.17g, name: output_norm}\n", c->norm_eps);
    fprintf(f, "- {use: linear, out: %lld, bias: false, name: output, ", (long long)vocab);
    if (c->tied) fprintf(f, "tied: token_embd}\n");
    else fprintf(f, "init: normal, init_std: %.17g}\n", c->init_std);
    return QT_OK;
}

const qt_arch qt_arch_llama = {{"llama", "language model: RMS norm, rotary positions, gated feed-forward", "arXiv 2302.13971", llama_fields, sizeof(config)},
                               expand};
const qt_arch qt_arch_bitnet = {{"bitnet", "llama with norms inside the blocks, for ternary weights", "arXiv 2504.12285", bitnet_fields, sizeof(config)},
                                expand};
