/* Language models as GGUF knows them: see lm.h. Weights are packed from the integers that the quantizer's encode gives for the weight as it
 * stands; a scale must be a number of half precision, each block of the type must lie within one run of the quantizer's scales, and there may
 * be no zero points. What is not so is refused: nothing is quantized again. Left out: biases, GPT-2. */
#include "export/lm.h"
#include "base/half.h"
#include <math.h>
#include <string.h>

/* ---- the architecture -------------------------------------------------------------------------------------------------------------- */

static qt_err read_config(const qt_recipe *r, const char *format, qt_pos pos, qt_llama *c)
{
    const qt_yaml *arch = qt_yaml_get(r->model, "arch");
    const char    *name = "";
    qt_yaml_str(arch, &name);
    if (strcmp(name, "llama") && strcmp(name, "bitnet"))
        return qt_fail_at(QT_ERECIPE, pos, "%s: holds models {arch: llama} and {arch: bitnet}; this one is %s%s", format, arch ? "arch: " : "a list of layers",
                          name);
    return qt_fields_read(r->model, "model", (*name == 'l' ? &qt_arch_llama : &qt_arch_bitnet)->d.fields, "arch", c);
}

/* The option of the model that no architecture has, with what to write instead. */
static const char *misfit(const qt_llama *c)
{
    if (c->linear_norm) return "linear_norm (instead: none)";
    if (c->activation != QT_LLAMA_SILU) return "an activation other than silu (instead: activation: silu)";
    if (!c->sub_norm && c->rope == QT_LLAMA_HALF) return "rope: half without sub_norm (instead: rope: interleaved)";
    if (c->sub_norm && c->rope != QT_LLAMA_HALF) return "sub_norm with rope: interleaved (instead: arch: bitnet)";
    if (c->sub_norm && !c->tied) return "sub_norm with an output of its own (instead: tied: true)";
    return NULL;
}

qt_err qt_lm_of(const qt_recipe *r, const qt_model *m, const char *format, qt_pos pos, qt_lm *lm)
{
    *lm = (qt_lm){0};
    QT_TRY(read_config(r, format, pos, &lm->c));
    const char *what = misfit(&lm->c);
    if (what) return qt_fail_at(QT_ERECIPE, pos, "%s: no architecture of llama.cpp has %s", format, what);
    lm->arch = lm->c.sub_norm ? "bitnet" : "llama";
    if (!lm->c.n_kv_head) lm->c.n_kv_head = lm->c.n_head;
    lm->c.vocab = m->m[0].p[0]->dim[0];
    lm->context = m->in.dim[0];
    return QT_OK;
}

/* ---- types ------------------------------------------------------------------------------------------------------------------------- */

static const struct fit { int id; double bits; } fits[] = {
    {QT_GGML_Q1_0, 1}, {QT_GGML_TQ2_0, 1.585}, {QT_GGML_TQ1_0, 1.585}, {QT_GGML_Q2_0, 2}, {QT_GGML_Q4_0, 4}, {QT_GGML_Q8_0, 8}};

static double bits_of(const qt_module *m) { return m->weight ? m->weight->quant->bits(m->weight) : 32; }
static int64_t width_of(const qt_module *m) { return m->p[0]->dim[m->p[0]->rank - 1]; }

/* The smallest type for the codes of a layer whose rows are whole blocks; F32 without a quantizer; NULL: there is none. */
static const qt_ggml *smallest(const qt_module *m)
{
    const double bits = bits_of(m);
    if (bits >= 32) return qt_ggml_of(QT_GGML_F32);
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++)
        if (bits <= fits[i].bits && width_of(m) % qt_ggml_of(fits[i].id)->block == 0) return qt_ggml_of(fits[i].id);
    return NULL;
}

static bool holds(const qt_ggml *type, double bits)
{
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++)
        if (fits[i].id == type->id) return bits <= fits[i].bits;
    return true;
}

static qt_err check_type(const qt_module *m, const qt_ggml *type, qt_pos pos)
{
    const int64_t K = width_of(m), down = K / type->block * type->block;
    const double  bits = bits_of(m);
    if (!type->pack) return QT_OK;
    if (bits >= 32)
        return qt_fail_at(QT_ERECIPE, pos, "gguf: %s.weight cannot be %s: its weights are not quantized; give the layer a quantizer, or type: auto", m->path,
                          type->name);
    if (K % type->block && down)
        return qt_fail_at(QT_ERECIPE, pos, "gguf: %s.weight cannot be %s: its rows have %lld numbers, and a block is %lld; the nearest widths are %lld and %lld",
                          m->path, type->name, (long long)K, (long long)type->block, (long long)down, (long long)(down + type->block));
    if (K % type->block)
        return qt_fail_at(QT_ERECIPE, pos, "gguf: %s.weight cannot be %s: its rows have %lld numbers, and a block is %lld; the nearest width is %lld", m->path,
                          type->name, (long long)K, (long long)type->block, (long long)type->block);
    if (!holds(type, bits))
        return qt_fail_at(QT_ERECIPE, pos, "gguf: %s.weight cannot be %s: its quantizer '%s' has codes of %.3g bits", m->path, type->name,
                          m->weight->quant->d.name, bits);
    return QT_OK;
}

static bool is_norm(const qt_module *m) { return m->p[0]->rank == 1; }
/* Embedding and output: looked up, or in floats where their rule says nothing. */
static bool is_table(const qt_module *m) { return m->layer->reads_ids || !strcmp(m->path, "output"); }

static qt_err choose(const qt_module *m, const qt_ggml *type, const qt_ggml *embedding, qt_pos pos, const qt_ggml **out)
{
    if (is_norm(m)) return *out = qt_ggml_of(QT_GGML_F32), QT_OK;
    if (is_table(m) && bits_of(m) >= 32) return *out = embedding, QT_OK;
    if (!(*out = type ? type : smallest(m)))
        return qt_fail_at(QT_ERECIPE, pos, "gguf: no type holds %s.weight: codes of %.3g bits in rows of %lld numbers; a multiple of 32 is wanted, for ternary weights one of 256",
                          m->path, bits_of(m), (long long)width_of(m));
    return check_type(m, *out, pos);
}

static qt_err first(qt_err e, qt_err more) { return e != QT_OK ? e : more; }

qt_err qt_lm_plan_of(qt_arena *a, const qt_model *m, const qt_ggml *type, const qt_ggml *embedding, qt_pos pos, qt_lm_plan *p)
{
    qt_err e = QT_OK;
    p->n = 0;
    if (!(p->t = qt_arena_zalloc(a, (size_t)m->n * sizeof *p->t))) return QT_EMEM;
    for (int i = 0; i < m->n; i++) {
        const qt_module *mod = &m->m[i];
        qt_lm_tensor    *t = &p->t[p->n];
        if (!mod->p[0] || !qt_module_owns_weight(mod)) continue;
        t->m = mod;
        if (snprintf(t->name, sizeof t->name, "%s.weight", mod->path) >= (int)sizeof t->name)
            return qt_fail_at(QT_ERECIPE, pos, "gguf: the name %s.weight is longer than 63 bytes", mod->path);
        e = first(e, choose(mod, type, embedding, pos, &t->type));
        p->n++;
    }
    return e;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------------------------- */

const R *qt_lm_values(const qt_snapshot *s, const qt_module *m)
{
    for (int i = 0; i < s->n; i++)
        if (s->layer[i].m == m) return s->layer[i].w->data;
    return m->p[0]->data;
}

static qt_err write_floats(const qt_lm_tensor *t, const R *x, int64_t n, uint8_t *out)
{
    R y;
    qt_ggml_write(t->type, n, x, out);
    for (int64_t i = 0; i < n && t->type->id == QT_GGML_F16; i++) {
        qt_ggml_read(t->type, 1, out + 2 * i, &y);
        QT_CHECK(y == x[i], QT_EDATA, "%s: number %lld is %.9g, which half precision does not have (F16); use F32", t->name, (long long)i, (double)x[i]);
    }
    return QT_OK;
}

/* Codes that the block types know: integers times a scale. */
static qt_err check_codes(const qt_lm_tensor *t, const qt_codes *c)
{
    bool zero = true;
    for (int64_t k = 0; c->zero_point && k < c->layout.count; k++) zero &= c->zero_point[k] == 0;
    QT_CHECK(c->scale && !c->table && !c->offset && zero, QT_EDATA, "%s: cannot be %s: its numbers are not integers times a scale; %s", t->name,
             t->type->name, c->table ? "they come from a table" : zero ? "they have an offset" : "they have zero points");
    QT_CHECK(c->layout.inner % t->type->block == 0, QT_EDATA, "%s: cannot be %s: %lld numbers share a scale, and a block is %lld", t->name, t->type->name,
             (long long)c->layout.inner, (long long)t->type->block);
    return QT_OK;
}

static qt_err off_grid(const qt_lm_tensor *t, const qt_codes *c, int64_t bad)
{
    const int64_t at = bad * t->type->block;
    const R       s = c->scale[at / c->layout.inner % c->layout.count];
    const float   half = qt_half_to_float(qt_half_from_float((float)s));
    if ((R)half != s)
        QT_FAIL(QT_EDATA, "%s: cannot be %s: the scale of block %lld is %.9g, and half precision has %.9g; train with scales on its grid (quantizer ggml, or "
                          "ternary with scale_grid: fp16)", t->name, t->type->name, (long long)bad, (double)s, (double)half);
    for (int64_t i = at; i < at + t->type->block; i++)
        if (c->code[i] < t->type->lo || c->code[i] > t->type->hi || (t->type->id == QT_GGML_Q1_0 && !c->code[i]))
            QT_FAIL(QT_EDATA, "%s: cannot be %s: number %lld has code %d, and the type has %d to %d", t->name, t->type->name, (long long)i, (int)c->code[i],
                    t->type->lo, t->type->hi);
    QT_FAIL(QT_EDATA, "%s: cannot be %s: block %lld is not on its grid", t->name, t->type->name, (long long)bad);
}

static qt_err write_codes(const qt_module *m, const qt_lm_tensor *t, qt_arena *a, uint8_t *out)
{
    qt_codes c = {0};
    int64_t  bad;
    QT_CHECK(m->weight->enabled && m->weight->last_x, QT_EDATA, "%s: cannot be %s: quantization has not begun (schedule.fake_quant_after)", t->name, t->type->name);
    QT_TRY(m->weight->quant->encode(m->weight, m->weight->last_x, a, &c));
    QT_TRY(check_codes(t, &c));
    return qt_ggml_pack(t->type, c.n, c.code, c.scale, c.layout.inner, c.layout.count, out, &bad) ? QT_OK : off_grid(t, &c, bad);
}

qt_err qt_lm_bytes(const qt_snapshot *s, const qt_lm_tensor *t, qt_arena *a, uint8_t **bytes, size_t *n)
{
    const int64_t count = t->m->p[0]->n;
    *n = (size_t)(count / t->type->block * t->type->bytes);
    if (!(*bytes = qt_arena_alloc(a, *n))) return QT_EMEM;
    return t->type->pack ? write_codes(t->m, t, a, *bytes) : write_floats(t, qt_lm_values(s, t->m), count, *bytes);
}

/* ---- what llama.cpp computes --------------------------------------------------------------------------------------------------------- */

/* The quantizer that llama.cpp has for the other operand of a product with such weights; NULL: none. */
static const char *activation_of(const qt_ggml *t)
{
    if (!t->pack) return t->id == QT_GGML_F32 ? NULL : "half precision";
    return t->id == QT_GGML_TQ1_0 || t->id == QT_GGML_TQ2_0 ? "q8_k" : "q8_0";
}

const char *qt_lm_differs(qt_arena *a, const qt_lm *lm, const qt_lm_plan *p)
{
    for (int i = 0; i < p->n; i++) {
        const qt_module *m = p->t[i].m;
        const char      *want = activation_of(p->t[i].type), *have = m->act ? m->act->quant->d.name : NULL;
        if (!m->layer->quantizes || (m->layer->reads_ids && !lm->c.tied)) continue;
        if (have && !strcmp(have, "none")) have = NULL;
        if (want == have || (want && have && !strcmp(want, have))) continue;
        return qt_arena_sprintf(a, "%s was trained with inputs %s%s; llama.cpp multiplies %s with %s", m->path, have ? "as of the quantizer " : "in floats",
                                have ? have : "", p->t[i].type->name, want ? want : "floats");
    }
    return NULL;
}
