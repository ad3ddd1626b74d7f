/* Attention: each token gathers from the tokens it may see, softmax(q k^T / sqrt(D)) v for each head. Inputs are queries, keys and values
 * [tokens, heads D], three results named by `from: [q, k, v]`, or one with all three side by side. Fewer heads of keys and values than of
 * queries are shared by groups of these. rope turns queries and keys by their position first.
 *
 * While text is generated (m->kv), keys and values of the tokens so far are kept, and the input is the tokens that are new.
 *
 * Vaswani et al., "Attention is all you need", NeurIPS 2017; Su et al., "RoFormer", arXiv 2104.09864 (rope); Ainslie et al., "GQA", 2023. */
#include "nn/nn.h"
#include <string.h>

enum { ROPE_NONE, ROPE_INTERLEAVED, ROPE_HALF };

typedef struct config {
    int64_t heads, kv_heads;
    bool    causal, fp16;
    int     rope;
    double  rope_base;
} config;

static const qt_field fields[] = {
    QT_F_INT(config, heads, "0", 0, 1 << 16, "heads of the queries; must be given"),
    QT_F_INT(config, kv_heads, "0", 0, 1 << 16, "heads of keys and values, a divisor of heads; 0: as many as heads"),
    QT_F_BOOL(config, causal, "false", "a token sees itself and those before it"),
    QT_F_ENUM(config, rope, "none", "none|interleaved|half", "rotary positions, on neighbouring pairs or on pairs half a head apart"),
    QT_F_REAL(config, rope_base, "10000", 1, 1e9, "base of the rotary angles"),
    QT_F_BOOL(config, fp16, "false", "round queries, keys, values and probabilities to half precision, as llama.cpp does"),
    {NULL},
};

static int64_t kv_heads(const config *c) { return c->kv_heads ? c->kv_heads : c->heads; }

/* Numbers a head; 0 if the inputs' widths do not fit the heads. */
static int64_t head_size(const qt_module *m, const config *c)
{
    const qt_shape *s = m->in_shape;
    int64_t         kv = kv_heads(c);
    if (m->n_in == 1) return s[0].dim[1] % (c->heads + 2 * kv) ? 0 : s[0].dim[1] / (c->heads + 2 * kv);
    int64_t D = s[0].dim[1] / c->heads;
    return s[0].dim[1] == D * c->heads && s[1].dim[1] == D * kv && qt_shape_same(&s[1], &s[2]) && s[0].dim[0] == s[1].dim[0] ? D : 0;
}

static qt_err build(qt_module *m, qt_store *s)
{
    const config *c = m->cfg;
    int64_t       D;
    char          q[96], k[96], v[96];
    (void)s;
    if (!c->heads) return qt_module_fail(m, "attention needs 'heads'");
    if (c->heads % kv_heads(c)) return qt_module_fail(m, "%lld heads cannot share %lld kv_heads", (long long)c->heads, (long long)c->kv_heads);
    for (int i = 0; i < m->n_in; i++)
        if (m->in_shape[i].rank != 2) return qt_module_misfit(m, i, "[tokens, features]", NULL);
    if (!(D = head_size(m, c)) && m->n_in == 1)
        return qt_module_fail(m, "queries, keys and values of %lld + 2 x %lld heads side by side do not make %s", (long long)c->heads,
                              (long long)kv_heads(c), qt_shape_text(&m->in_shape[0], q));
    if (!D)
        return qt_module_fail(m, "queries %s, keys %s and values %s do not fit %lld heads and %lld kv_heads", qt_shape_text(&m->in_shape[0], q),
                              qt_shape_text(&m->in_shape[1], k), qt_shape_text(&m->in_shape[2], v), (long long)c->heads, (long long)kv_heads(c));
    if (c->rope && D % 2) return qt_module_fail(m, "rope turns pairs of numbers, but a head has %lld; an even head size is wanted", (long long)D);
    m->out_shape = m->in_shape[0];
    m->out_shape.dim[1] = c->heads * D;
    return QT_OK;
}

/* Appends k or v [1, T, width] to what is kept, and gives all of it. */
static qt_tensor *remember(qt_tape *t, const qt_kv *kv, R *kept, const qt_tensor *x)
{
    int64_t    T = x->dim[1];
    qt_tensor *all = qt_input(t, 3, (int64_t[]){1, kv->n + T, kv->width});
    if (t->err || !all->data) return all;
    memcpy(kept + kv->n * kv->width, x->data, (size_t)(T * kv->width) * sizeof(R));
    memcpy(all->data, kept, (size_t)all->n * sizeof(R));
    return all;
}

static qt_tensor *forward(qt_tape *t, qt_module *m, qt_tensor **in)
{
    const config *c = m->cfg;
    int           H = (int)c->heads, G = (int)kv_heads(c);
    int64_t       D = m->out_shape.dim[1] / H;
    qt_tensor    *q = in[0], *k = in[1], *v = in[2];
    if (m->n_in == 1) {
        q = qt_slice(t, in[0], 2, 0, H * D);
        k = qt_slice(t, in[0], 2, H * D, (H + G) * D);
        v = qt_slice(t, in[0], 2, (H + G) * D, (H + 2 * G) * D);
    }
    if (c->rope) {
        q = qt_rope(t, q, H, t->first, c->rope_base, c->rope == ROPE_INTERLEAVED);
        k = qt_rope(t, k, G, t->first, c->rope_base, c->rope == ROPE_INTERLEAVED);
    }
    if (m->kv && !t->err) {
        QT_ASSERT(k->dim[0] == 1 && m->kv->n == t->first && m->kv->n + k->dim[1] <= m->kv->max && m->kv->width == G * D);
        int64_t T = k->dim[1];
        k = remember(t, m->kv, m->kv->k, k), v = remember(t, m->kv, m->kv->v, v);
        m->kv->n += T;
    }
    return qt_attention(t, q, k, v, H, G, c->causal, c->fp16);
}

/* q k^T and p v; half of them where a token sees only what is before it. */
static int64_t macs(const qt_module *m)
{
    int64_t T = m->out_shape.dim[0], seen = ((const config *)m->cfg)->causal ? T * (T + 1) / 2 : T * T;
    return 2 * seen * m->out_shape.dim[1];
}

const qt_layer qt_layer_attention = {
    .d = {"attention", "each token gathers from the tokens it may see", "Vaswani et al., NeurIPS 2017, section 3.2", fields, sizeof(config)},
    .inputs = 3,
    .token_rank = 1,
    .build = build,
    .forward = forward,
    .macs = macs,
};
