/* Format gguf: language models for llama.cpp and what else stands on ggml, from the integers that were trained. The architecture (lm.c) is
 * `llama` or `bitnet`; matrices of quantized layers are packed in a block type of ggml, norms and what is not quantized are floats; the tokenizer
 * (vocab.c) has the ids of training. A run of adapters gives an adapter file: A and B of each layer, for use with the file of its base.
 *
 * llama.cpp computes what was trained, but for the order of sums, where the recipe says so: inputs of TQ1_0 and TQ2_0 layers quantized by q8_k, of
 * other packed layers by q8_0, of F32 layers not at all; model.fp16 for its cache in half precision, or none for -ctk f32 -ctv f32. export.json
 * says whether it is so.
 *
 * llama.cpp: docs of GGUF, and its loader. Left out: GPT-2, biases, adapters of embeddings, merged adapters. */
#include "export/lm.h"
#include "base/half.h"
#include <stdlib.h>
#include <string.h>

enum { AUTO };
#define TYPES "auto|F32|F16|Q8_0|Q4_0|TQ1_0|TQ2_0|Q2_0|Q1_0"
static const char *const type_name[] = {NULL, "F32", "F16", "Q8_0", "Q4_0", "TQ1_0", "TQ2_0", "Q2_0", "Q1_0"};

typedef struct cfg {
    int         type, embedding;
    const char *name;
} cfg;

static const qt_field fields[] = {
    QT_F_ENUM(cfg, type, "auto", TYPES, "of the matrices in blocks; auto: the smallest that holds what each layer was trained to, floats where it is not quantized"),
    QT_F_ENUM(cfg, embedding, "F32", "F32|F16", "of the embedding and the output, where they are not quantized"),
    QT_F_STR(cfg, name, "~", "general.name in the file (default: the recipe's name)"),
    {NULL}};

static qt_err plan_of(qt_arena *a, const qt_recipe *r, const qt_model *m, const cfg *c, qt_pos pos, qt_lm *lm, qt_lm_plan *p)
{
    QT_TRY(qt_lm_of(r, m, "gguf", pos, lm));
    return qt_lm_plan_of(a, m, c->type == AUTO ? NULL : qt_ggml_find(type_name[c->type]), qt_ggml_find(c->embedding ? "F16" : "F32"), pos, p);
}

static qt_err check(const qt_recipe *r, const qt_model *m, const void *config, qt_pos pos)
{
    qt_arena   a = {0};
    qt_lm      lm;
    qt_lm_plan p;
    qt_err     e = r->lora ? qt_lm_of(r, m, "gguf", pos, &lm) : plan_of(&a, r, m, config, pos, &lm, &p);
    qt_arena_free(&a);
    return e;
}

/* ---- keys -------------------------------------------------------------------------------------------------------------------------- */

/* The number that stands for the file's most frequent type of matrices. */
static uint32_t file_type(const qt_lm_plan *p)
{
    static const struct { int type; uint32_t number; } all[] = {{QT_GGML_F32, 0}, {QT_GGML_F16, 1}, {QT_GGML_Q4_0, 2}, {QT_GGML_Q8_0, 7},
        {QT_GGML_TQ1_0, 36}, {QT_GGML_TQ2_0, 37}, {QT_GGML_Q1_0, 40}};
    int64_t  count[QT_GGML_TYPES] = {0}, most = 0;
    uint32_t number = 0;
    for (int i = 0; i < p->n; i++) count[p->t[i].type->id] += p->t[i].m->p[0]->rank == 2;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (count[all[i].type] > most) most = count[all[i].type], number = all[i].number;
    return number;
}

static void put_u32(qt_gguf_out *o, const qt_lm *lm, const char *name, int64_t v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", lm->arch, name);
    qt_gguf_put_u32(o, key, (uint32_t)v);
}

static void put_f32(qt_gguf_out *o, const qt_lm *lm, const char *name, double v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", lm->arch, name);
    qt_gguf_put_f32(o, key, (float)v);
}

static void put_model(qt_gguf_out *o, const qt_lm *lm)
{
    const qt_llama *c = &lm->c;
    put_u32(o, lm, "context_length", lm->context);
    put_u32(o, lm, "embedding_length", c->d_model);
    put_u32(o, lm, "block_count", c->n_layer);
    put_u32(o, lm, "feed_forward_length", c->d_ff);
    put_u32(o, lm, "attention.head_count", c->n_head);
    put_u32(o, lm, "attention.head_count_kv", c->n_kv_head);
    put_f32(o, lm, "attention.layer_norm_rms_epsilon", c->norm_eps);
    put_u32(o, lm, "rope.dimension_count", c->d_model / c->n_head);
    put_f32(o, lm, "rope.freq_base", c->rope_base);
    put_u32(o, lm, "vocab_size", c->vocab);
}

static qt_err put_keys(qt_gguf_out *o, qt_snapshot *s, const cfg *c, const qt_lm *lm, const qt_lm_plan *p)
{
    qt_gguf_put_str(o, "general.architecture", lm->arch);
    qt_gguf_put_str(o, "general.type", "model");
    qt_gguf_put_str(o, "general.name", c->name ? c->name : s->run->recipe->name);
    qt_gguf_put_u32(o, "general.file_type", file_type(p));
    qt_gguf_put_u32(o, "general.quantization_version", 2);
    qt_gguf_put_u32(o, "general.alignment", 32);
    put_model(o, lm);
    return qt_lm_put_vocab(&s->arena, s->run->data_section, lm->c.vocab, o);
}

/* ---- tensors ----------------------------------------------------------------------------------------------------------------------- */

/* The fastest dimension comes first in the file. */
static void add(qt_gguf_out *o, const char *name, const qt_ggml *type, const qt_tensor *t)
{
    int64_t dim[QT_MAX_DIM];
    for (int d = 0; d < t->rank; d++) dim[d] = t->dim[t->rank - 1 - d];
    qt_gguf_add(o, name, type, t->rank, dim);
}

/* llama.cpp multiplies with the table that it looks up in. */
static qt_err check_tied(const qt_snapshot *s)
{
    const qt_model  *m = s->run->model;
    const qt_module *out = &m->m[m->n - 1];
    if (qt_module_owns_weight(out)) return QT_OK;
    for (int i = 0; i < m->n; i++)
        if (&m->m[i] != out && m->m[i].p[0] == out->p[0])
            QT_CHECK(!memcmp(qt_lm_values(s, &m->m[i]), qt_lm_values(s, out), (size_t)out->p[0]->n * sizeof(R)), QT_EDATA,
                     "%s.weight: the output is tied to it and was trained with other numbers than it has; give both the same quantizer, or none", m->m[i].path);
    return QT_OK;
}

static qt_err write_model(qt_gguf_out *o, qt_snapshot *s, const cfg *c)
{
    qt_lm      lm;
    qt_lm_plan p;
    QT_TRY(plan_of(&s->arena, s->run->recipe, s->run->model, c, (qt_pos){0}, &lm, &p));
    QT_TRY(check_tied(s));
    QT_TRY(put_keys(o, s, c, &lm, &p));
    for (int i = 0; i < p.n; i++) add(o, p.t[i].name, p.t[i].type, p.t[i].m->p[0]);
    for (int i = 0; i < p.n; i++) {
        uint8_t *bytes;
        size_t   n;
        QT_TRY(qt_lm_bytes(s, &p.t[i], &s->arena, &bytes, &n));
        qt_gguf_data(o, bytes, n);
    }
    return QT_OK;
}

/* ---- adapters ---------------------------------------------------------------------------------------------------------------------- */

/* A as a matrix over all inputs: over groups, each input of a group has the column of the group. */
static qt_err adapter_a(qt_arena *arena, const qt_module *m, float **out)
{
    const qt_lora *l = m->lora;
    const int64_t  r = l->a->dim[0], K = m->p[0]->dim[1], g = l->group ? l->group : 1;
    if (!(*out = qt_arena_alloc(arena, (size_t)(r * K) * sizeof **out))) return QT_EMEM;
    for (int64_t i = 0; i < r; i++)
        for (int64_t k = 0; k < K; k++) (*out)[i * K + k] = (float)(l->a->data[i * (K / g) + k / g] / (l->mean ? (R)g : 1));
    return QT_OK;
}

static qt_err adapter_b(qt_arena *arena, const qt_module *m, float **out)
{
    const qt_tensor *b = m->lora->b;
    if (!(*out = qt_arena_alloc(arena, (size_t)b->n * sizeof **out))) return QT_EMEM;
    for (int64_t i = 0; i < b->n; i++) (*out)[i] = (float)b->data[i];
    return QT_OK;
}

static qt_err adapter_name(char name[static QT_GGUF_NAME], const qt_module *m, const char *which)
{
    QT_CHECK(snprintf(name, QT_GGUF_NAME, "%s.weight.%s", m->path, which) < QT_GGUF_NAME, QT_EUSAGE, "gguf: the name %s.weight.%s is longer than 63 bytes",
             m->path, which);
    return QT_OK;
}

static qt_err add_adapter(qt_gguf_out *o, const qt_module *m)
{
    const qt_ggml *f32 = qt_ggml_of(QT_GGML_F32);
    const int64_t  r = m->lora->a->dim[0];
    char           name[QT_GGUF_NAME];
    QT_TRY(adapter_name(name, m, "lora_a"));
    qt_gguf_add(o, name, f32, 2, (int64_t[]){m->p[0]->dim[1], r});
    QT_TRY(adapter_name(name, m, "lora_b"));
    qt_gguf_add(o, name, f32, 2, (int64_t[]){r, m->p[0]->dim[0]});
    return QT_OK;
}

static qt_err write_adapter(qt_gguf_out *o, qt_arena *a, const qt_module *m)
{
    float *x;
    QT_TRY(adapter_a(a, m, &x));
    qt_gguf_data(o, x, (size_t)(m->lora->a->dim[0] * m->p[0]->dim[1]) * sizeof *x);
    QT_TRY(adapter_b(a, m, &x));
    qt_gguf_data(o, x, (size_t)m->lora->b->n * sizeof *x);
    return QT_OK;
}

static qt_err write_adapters(qt_gguf_out *o, qt_snapshot *s, const cfg *c)
{
    const qt_model *m = s->run->model;
    double          alpha = 0;
    qt_lm           lm;
    QT_TRY(qt_lm_of(s->run->recipe, m, "gguf", (qt_pos){0}, &lm));
    for (int i = 0; i < m->n; i++) {
        if (!m->m[i].lora) continue;
        QT_CHECK(!m->m[i].lora->merged, QT_EUSAGE, "gguf: %s: the adapters are merged into the base, and no adapter is left", s->run->dir);
        alpha = m->m[i].lora->c * (double)m->m[i].lora->b->dim[1];
    }
    qt_gguf_put_str(o, "general.type", "adapter");
    qt_gguf_put_str(o, "general.architecture", lm.arch);
    qt_gguf_put_str(o, "general.name", c->name ? c->name : s->run->recipe->name);
    qt_gguf_put_str(o, "adapter.type", "lora");
    qt_gguf_put_f32(o, "adapter.lora.alpha", (float)alpha);
    for (int i = 0; i < m->n; i++)
        if (m->m[i].lora) QT_TRY(add_adapter(o, &m->m[i]));
    for (int i = 0; i < m->n; i++)
        if (m->m[i].lora) QT_TRY(write_adapter(o, &s->arena, &m->m[i]));
    return QT_OK;
}

/* ---- the file ---------------------------------------------------------------------------------------------------------------------- */

static qt_err write(qt_snapshot *s, const void *config, const char *file)
{
    qt_gguf_out *o;
    QT_TRY(qt_gguf_create(file, &o));
    qt_err e = s->run->recipe->lora ? write_adapters(o, s, config) : write_model(o, s, config);
    if (e == QT_OK) return qt_gguf_close(o);
    qt_gguf_abandon(o);
    return e;
}

/* Same numbers, in single precision, to the bit. */
static qt_err compare_tensor(qt_gguf *g, const char *name, const R *want, int64_t n, qt_arena *a, int64_t *tensors)
{
    const qt_gguf_tensor *t = qt_gguf_find_tensor(g, name);
    R                    *x = qt_arena_alloc(a, (size_t)n * sizeof *x);
    if (!x) return QT_EMEM;
    bool same = t && t->n == n && qt_ggml_read(t->type, n, t->data, x);
    for (int64_t i = 0; same && i < n; i++) same = qt_float_bits((float)x[i]) == qt_float_bits((float)want[i]);
    QT_CHECK(same, QT_ECLAIM, "%s: tensor %s read back differs from the one that was trained; nothing was exported", g->file, name);
    (*tensors)++;
    return QT_OK;
}

static qt_err compare_model(qt_snapshot *s, const cfg *c, qt_gguf *g, int64_t *tensors)
{
    qt_lm      lm;
    qt_lm_plan p;
    QT_TRY(plan_of(&s->arena, s->run->recipe, s->run->model, c, (qt_pos){0}, &lm, &p));
    for (int i = 0; i < p.n; i++)
        QT_TRY(compare_tensor(g, p.t[i].name, qt_lm_values(s, p.t[i].m), p.t[i].m->p[0]->n, &s->arena, tensors));
    return QT_OK;
}

static qt_err compare_adapters(qt_snapshot *s, qt_gguf *g, int64_t *tensors)
{
    const qt_model *m = s->run->model;
    char            name[QT_GGUF_NAME];
    for (int i = 0; i < m->n; i++) {
        const qt_lora *l = m->m[i].lora;
        if (!l) continue;
        QT_TRY(adapter_name(name, &m->m[i], "lora_b"));
        QT_TRY(compare_tensor(g, name, l->b->data, l->b->n, &s->arena, tensors));
        QT_TRY(adapter_name(name, &m->m[i], "lora_a"));
        if (!l->group) QT_TRY(compare_tensor(g, name, l->a->data, l->a->n, &s->arena, tensors));
    }
    return QT_OK;
}

static qt_err compare(qt_snapshot *s, const void *config, const char *file, int64_t *tensors)
{
    qt_gguf *g;
    QT_TRY(qt_gguf_open(file, &g));
    qt_err e = s->run->recipe->lora ? compare_adapters(s, g, tensors) : compare_model(s, config, g, tensors);
    qt_gguf_free(g);
    return e;
}

/* ---- export.json ------------------------------------------------------------------------------------------------------------------- */

static void describe_tensors(FILE *f, const qt_gguf *g)
{
    fprintf(f, " \"tensors\": [");
    for (int64_t i = 0; i < g->n_tensors; i++) {
        const qt_gguf_tensor *t = &g->tensor[i];
        fprintf(f, "%s\n  {\"name\": \"%s\", \"shape\": [", i ? "," : "", t->name);
        for (int d = t->rank - 1; d >= 0; d--) fprintf(f, "%lld%s", (long long)t->dim[d], d ? ", " : "");
        fprintf(f, "], \"type\": \"%s\", \"bytes\": %lld}", t->type->name, (long long)t->bytes);
    }
    fprintf(f, "],\n");
}

static void describe_runtime(FILE *f, qt_snapshot *s, const cfg *c)
{
    qt_lm       lm;
    qt_lm_plan  p;
    const char *why = "";
    if (s->run->recipe->lora) return;
    if (plan_of(&s->arena, s->run->recipe, s->run->model, c, (qt_pos){0}, &lm, &p) == QT_OK) why = qt_lm_differs(&s->arena, &lm, &p);
    fprintf(f, " \"llama_cpp\": {\"cache_type\": \"%s\", \"computes_what_was_trained\": %s", lm.c.fp16 ? "f16" : "f32", why ? "false, \"why\": " : "true");
    if (why) qt_export_str(f, why);
    fprintf(f, "},\n");
}

static void describe(FILE *f, qt_snapshot *s, const void *config, const char *file)
{
    qt_gguf *g;
    describe_runtime(f, s, config);
    if (qt_gguf_open(file, &g) != QT_OK) return;
    describe_tensors(f, g);
    qt_gguf_free(g);
}

const qt_exporter qt_exporter_gguf = {
    {"gguf", "GGUF for llama.cpp: language models packed from the trained integers, and adapters", "ggml, GGUF 3", fields, sizeof(cfg)}, "gguf", 3, qt_export_run,
    write, .compare = compare, .describe = describe, .check = check, .adapters = true};
