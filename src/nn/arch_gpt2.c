/* GPT-2 as a list of layers, with the tensor names of GGUF: learned positions, layer norm, biases, GELU, output tied to the embedding.
 *
 *     x += attn_output(attention(q, k, v of attn_norm(x)))             x += ffn_down(gelu(ffn_up(ffn_norm(x))))
 *
 * Radford et al., "Language models are unsupervised multitask learners", 2019. Left out: dropout; the start value of attn_output and ffn_down
 * scaled down by the number of blocks. */
#include "nn/nn.h"

typedef struct config {
    int64_t d_model, n_layer, n_head, d_ff, vocab;
    double  norm_eps, init_std;
    bool    tied;
} config;

static const qt_field fields[] = {
    QT_F_INT(config, d_model, NULL, 1, 1 << 20, "numbers a token"),
    QT_F_INT(config, n_layer, NULL, 1, 1000, "blocks"),
    QT_F_INT(config, n_head, NULL, 1, 1 << 12, "heads of attention"),
    QT_F_INT(config, d_ff, "0", 0, 1 << 22, "numbers inside the feed-forward part; 0: 4 d_model"),
    QT_F_INT(config, vocab, "0", 0, 1 << 24, "kinds of tokens; 0: as the data have"),
    QT_F_REAL(config, norm_eps, "1e-5", 0, 1, "added to the variance in norms"),
    QT_F_REAL(config, init_std, "0.02", 0, 1e6, "standard deviation of all matrices at first"),
    QT_F_BOOL(config, tied, "true", "the output shares the embedding's table"),
    {NULL},
};

static void product(FILE *f, const config *c, const char *name, int64_t out, const char *from)
{
    fprintf(f, "    - {use: linear, out: %lld, init: normal, init_std: %.17g, name: %s", (long long)out, c->init_std, name);
    if (from) fprintf(f, ", from: %s", from);
    fprintf(f, "}\n");
}

static qt_err expand(FILE *f, const void *cfg, const qt_shape *in, int64_t classes, qt_pos pos)
{
    const config *c = cfg;
    int64_t       vocab = c->vocab ? c->vocab : in->ids ? in->ids : 1;
    (void)classes;
    if (c->d_model % c->n_head)
        return qt_fail_at(QT_ERECIPE, pos, "model: %lld numbers a token do not share out to %lld heads", (long long)c->d_model, (long long)c->n_head);
    if (in->rank && !in->ids) return qt_fail_at(QT_ERECIPE, pos, "model: a language model reads tokens, but the data are numbers");
    fprintf(f, "- {use: embedding, num: %lld, dim: %lld, init_std: %.17g, name: token_embd}\n", (long long)vocab, (long long)c->d_model, c->init_std);
    fprintf(f, "- {use: positions, init_std: %.17g, name: position_embd}\n", c->init_std);
    fprintf(f, "- name: blk\n  repeat: %lld\n  layers:\n", (long long)c->n_layer);
    fprintf(f, "    - {use: layer_norm, eps: %.17g, name: attn_norm}\n", c->norm_eps);
    product(f, c, "attn_q", c->d_model, NULL);
    product(f, c, "attn_k", c->d_model, "attn_norm");
    product(f, c, "attn_v", c->d_model, "attn_norm");
    fprintf(f, "    - {use: attention, heads: %lld, causal: true, name: attn, from: [attn_q, attn_k, attn_v]}\n", (long long)c->n_head);
    product(f, c, "attn_output", c->d_model, NULL);
    fprintf(f, "    - {use: add, name: attn_add, from: input}\n");
    fprintf(f, "    - {use: layer_norm, eps: %.17g, name: ffn_norm}\n", c->norm_eps);
    product(f, c, "ffn_up", c->d_ff ? c->d_ff : 4 * c->d_model, NULL);
    fprintf(f, "    - {use: gelu, approximate: tanh}\n");
    product(f, c, "ffn_down", c->d_model, NULL);
    fprintf(f, "    - {use: add, name: ffn_add, from: attn_add}\n");
    fprintf(f, "- {use: layer_norm, eps: %.17g, name: output_norm}\n", c->norm_eps);
    fprintf(f, "- {use: linear, out: %lld, bias: false, name: output, ", (long long)vocab);
    if (c->tied) fprintf(f, "tied: token_embd}\n");
    else fprintf(f, "init: normal, init_std: %.17g}\n", c->init_std);
    return QT_OK;
}

const qt_arch qt_arch_gpt2 = {{"gpt2", "language model: learned positions, layer norm, GELU", "Radford et al., 2019", fields, sizeof(config)}, expand};
