/* Attention: each token gathers from the tokens it may see, softmax(q k^T / sqrt(D)) v for each head. Inputs are queries, keys and values
 * [tokens, heads D], three results named by `from: [q, k, v]`, or one with all three side by side. Fewer heads of keys and values than of
 * queries are shared by groups of these. rope turns queries and keys by their position first.
 *
 * While text is generated (m->kv), keys and values of the tokens so far are kept, and the input is the tokens that are new.
 *
 * Vaswani et al., "Attention is all you need", NeurIPS 2017; Su et al., "RoFormer", arXiv 2104.09864 (rope); Ainslie et al., "GQA", 2023. */
#include "base/half.h"
#include "base/par.h"
#include "nn/nn.h"
#include <math.h>
#include <string.h>

enum { ROPE_NONE, ROPE_INTERLEAVED, ROPE_HALF };

typedef struct config {
    int64_t heads, kv_heads;
    bool    causal, fp16, fused;
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
    QT_F_BOOL(config, fused, "true", "one operation; false: products and softmax as operations of their own, with all probabilities in memory"),
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
    if (!c->fused && (c->causal || c->fp16 || kv_heads(c) != c->heads))
        return qt_module_fail(m, "fused: false is for attention that is not causal, with as many kv_heads as heads, without fp16");
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

/* ---- generation ------------------------------------------------------------------------------------------------------------------------ */

enum { PAD = 16 };

static qt_err keep(qt_arena *a, qt_module *m, int64_t max)
{
    const config *c = m->cfg;
    qt_kv        *kv = m->kv = a ? qt_arena_zalloc(a, sizeof *kv) : NULL;
    if (!a) return QT_OK;
    if (!kv) return QT_EMEM;
    *kv = (qt_kv){.max = max, .width = m->out_shape.dim[1] / c->heads * kv_heads(c), .room = (max + PAD - 1) / PAD * PAD};
    kv->k = qt_arena_zalloc(a, (size_t)(kv->width * kv->room) * sizeof(R));
    kv->v = qt_arena_zalloc(a, (size_t)(kv->width * kv->room) * sizeof(R));
    return kv->k && kv->v ? QT_OK : QT_EMEM;
}

qt_err qt_model_keep(qt_arena *a, qt_model *m, int64_t max)
{
    qt_err e = QT_OK;
    for (int i = 0; i < m->n; i++)
        if (m->m[i].layer == &qt_layer_attention && e == QT_OK) e = keep(a, &m->m[i], max);
    return e;
}

void qt_model_forget(qt_model *m, int64_t n)
{
    for (int i = 0; i < m->n; i++)
        if (m->m[i].kv) m->m[i].kv->n = qt_min_i64(m->m[i].kv->n, n);
}

bool qt_attention_causal(const qt_module *m) { return ((const config *)m->cfg)->causal; }

QT_CLONES static void keep_row(R *restrict y, int64_t step, const R *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i * step] = x[i];
}

QT_CLONES static void keep_half(R *restrict y, const R *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = (R)qt_half_round((float)x[i]);
}

/* Adds k and v [1, T, width] to what is kept. */
static void remember(qt_kv *kv, const qt_tensor *k, const qt_tensor *v, bool fp16)
{
    enum { PIECE = 256 };
    R half[PIECE];
    for (int64_t t = 0; t < k->dim[1]; t++, kv->n++)
        for (int64_t i = 0; i < kv->width; i += PIECE) {
            const int64_t n = qt_min_i64(PIECE, kv->width - i), at = t * kv->width + i;
            R            *value = kv->v + kv->n * kv->width + i;
            if (fp16) keep_half(half, k->data + at, n), keep_half(value, v->data + at, n);
            else memcpy(value, v->data + at, (size_t)n * sizeof(R));
            keep_row(kv->k + i * kv->room + kv->n, kv->room, fp16 ? half : k->data + at, n);
        }
}

/* New tokens, with all that came before. */
static qt_tensor *go_on(qt_tape *t, qt_kv *kv, const config *c, qt_tensor *q, const qt_tensor *k, const qt_tensor *v)
{
    QT_ASSERT(k->dim[0] == 1 && kv->n == t->first && kv->n + k->dim[1] <= kv->max && kv->width == k->dim[2]);
    remember(kv, k, v, c->fp16);
    qt_tensor *keys = qt_tape_view(t, kv->k, 2, (int64_t[]){kv->width, kv->room});
    qt_tensor *values = qt_tape_view(t, kv->v, 2, (int64_t[]){kv->room, kv->width});
    return qt_attention_kept(t, q, keys, values, kv->n, (int)c->heads, (int)kv_heads(c), c->causal, c->fp16);
}

/* ---- running ----------------------------------------------------------------------------------------------------------------------------- */

/* [N, T, H D] as [N, H, T, D], or back. */
static qt_tensor *apart(qt_tape *t, qt_tensor *x, int64_t H)
{
    if (t->err) return x;
    x = qt_reshape(t, x, 4, (int64_t[]){x->dim[0], x->dim[1], H, x->dim[2] / H});
    return qt_permute(t, x, (int[]){0, 2, 1, 3});
}
static qt_tensor *together(qt_tape *t, qt_tensor *x)
{
    if (t->err) return x;
    int64_t dim[3] = {x->dim[0], x->dim[2], x->dim[1] * x->dim[3]};
    return qt_reshape(t, qt_permute(t, x, (int[]){0, 2, 1, 3}), 3, dim);
}

/* The same from its parts. */
static qt_tensor *composed(qt_tape *t, qt_tensor *q, qt_tensor *k, qt_tensor *v, int64_t H, int64_t D)
{
    qt_tensor *s = qt_matmul(t, apart(t, q, H), apart(t, k, H), false, true);
    qt_tensor *p = qt_softmax(t, qt_scale(t, s, 1 / sqrt((double)D)));
    return together(t, qt_matmul(t, p, apart(t, v, H), false, false));
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
    if (m->kv && !t->err) return go_on(t, m->kv, c, q, k, v);
    return c->fused ? qt_attention(t, q, k, v, H, G, c->causal, c->fp16) : composed(t, q, k, v, H, D);
}

/* q k^T and p v; half of them where a token sees only what is before it. */
static int64_t macs(const qt_module *m)
{
    int64_t T = m->out_shape.dim[0], seen = ((const config *)m->cfg)->causal ? T * (T + 1) / 2 : T * T;
    return 2 * seen * m->out_shape.dim[1];
}

static int64_t heads(const qt_module *m) { return ((const config *)m->cfg)->heads; }

const qt_layer qt_layer_attention = {
    .d = {"attention", "each token gathers from the tokens it may see", "Vaswani et al., NeurIPS 2017, section 3.2", fields, sizeof(config)},
    .inputs = 3,
    .token_rank = 1,
    .build = build,
    .forward = forward,
    .macs = macs,
    .heads = heads,
};
