/* Vision transformer as a list of layers: patches, a linear embedding, learned positions, blocks
 *
 *     x += proj(attention(qkv(norm1(x))))             x += fc2(gelu(fc1(norm2(x))))
 *
 * a last norm, the mean of all tokens, and a linear head. Matrices begin as N(0, 1/in).
 * Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021. Left out: the class token (the mean does as well at small scale). */
#include "nn/nn.h"

typedef struct config {
    int64_t patch, d_model, n_layer, n_head, classes;
    double  mlp_ratio;
    int     norm;
    bool    fused;
} config;

#define NORMS "layer_norm|rms_norm|l1_layer_norm|l1_layer_norm_int"
static const char *const norm_name[] = {"layer_norm", "rms_norm", "l1_layer_norm", "l1_layer_norm_int"};

static const qt_field fields[] = {
    QT_F_INT(config, patch, "7", 1, 1024, "pixels of a side of a patch"),
    QT_F_INT(config, d_model, "64", 1, 1 << 20, "numbers a token"),
    QT_F_INT(config, n_layer, "2", 1, 1000, "blocks"),
    QT_F_INT(config, n_head, "4", 1, 1 << 12, "heads of attention"),
    QT_F_REAL(config, mlp_ratio, "2", 0.01, 100, "numbers inside the feed-forward part, in units of d_model"),
    QT_F_ENUM(config, norm, "layer_norm", NORMS, "the norm in front of each part"),
    QT_F_BOOL(config, fused, "true", "attention as one operation"),
    QT_F_INT(config, classes, "0", 0, 1 << 24, "outputs; 0: as the data have"),
    {NULL},
};

static void product(FILE *f, const char *indent, const char *name, int64_t out)
{
    fprintf(f, "%s- {use: linear, out: %lld, init: normal, name: %s}\n", indent, (long long)out, name);
}

static qt_err expand(FILE *f, const void *cfg, const qt_shape *in, int64_t classes, qt_pos pos)
{
    const config *c = cfg;
    const char   *norm = norm_name[c->norm];
    int64_t       out = c->classes ? c->classes : classes > 0 ? classes : 1;
    (void)in;
    if (c->d_model % c->n_head)
        return qt_fail_at(QT_ERECIPE, pos, "model: %lld numbers a token do not share out to %lld heads", (long long)c->d_model, (long long)c->n_head);
    fprintf(f, "- {use: patches, size: %lld}\n", (long long)c->patch);
    product(f, "", "embed", c->d_model);
    fprintf(f, "- {use: positions, name: positions}\n");
    fprintf(f, "- name: blk\n  repeat: %lld\n  layers:\n", (long long)c->n_layer);
    fprintf(f, "    - {use: %s, name: norm1}\n", norm);
    product(f, "    ", "qkv", 3 * c->d_model);
    fprintf(f, "    - {use: attention, heads: %lld, fused: %s, name: attn}\n", (long long)c->n_head, c->fused ? "true" : "false");
    product(f, "    ", "proj", c->d_model);
    fprintf(f, "    - {use: add, name: add1, from: input}\n    - {use: %s, name: norm2}\n", norm);
    product(f, "    ", "fc1", (int64_t)((double)c->d_model * c->mlp_ratio));
    fprintf(f, "    - gelu\n");
    product(f, "    ", "fc2", c->d_model);
    fprintf(f, "    - {use: add, name: add2, from: add1}\n");
    fprintf(f, "- {use: %s, name: norm}\n- mean_tokens\n", norm);
    product(f, "", "head", out);
    return QT_OK;
}

const qt_arch qt_arch_vit = {{"vit", "vision transformer: patches, blocks of attention, mean of the tokens", "Dosovitskiy et al., ICLR 2021", fields,
                              sizeof(config)},
                             expand};
