/* Adapters: beside a frozen linear layer, two thin matrices that are trained instead of its weight.
 *
 *     y = x What^T + b + c drop(x) A^T B^T,      A [r, in], B [out, r],      c = alpha / r
 *
 * What is the layer's weight as its quantizer gives it, or as it is; the adapter reads the layer's input before any quantizer. A begins as
 * U(-1/sqrt(in), 1/sqrt(in)) (Kaiming's with a = sqrt 5), B as 0, so y is unchanged at first. With h = x A^T the gradients are those of the ops:
 *     dB = c dy^T h,   dh = c dy B,   dA = dh^T x,   dx = dy What + dh A.
 *
 * QA-LoRA (variant qa): the weight has groups of g inputs with a step s and a real zero point z each (qat/int_group.c), and A [r, in / g], which
 * begins as Xavier's U(+-sqrt(6 / (in/g + r))), sees the sum of each group of x. The adapter then changes all weights of a group alike, by
 * c (B A)[m,j], and its merge is exact: z'[m,j] = z[m,j] - c (B A)[m,j] / s[m,j], codes and steps as they were. With the mean instead of the sum
 * the change is g times smaller.
 * Any other merge, What + c B A, has to be rounded again where the weight is to be quantized.
 *
 * Hu et al. 2021 (arXiv 2106.09685), section 4; Dettmers et al. 2023 (arXiv 2305.14314); Xu et al. 2023 (arXiv 2309.14717), section 3. Left out:
 * adapters beside convolutions and embeddings; other scalings than alpha / r. */
#include "base/par.h"
#include "kernels/gemm.h"
#include "nn/build.h"
#include <math.h>
#include <string.h>

typedef struct config {
    int64_t        rank;
    double         alpha, dropout;
    int            variant, pool, freeze;
    const qt_yaml *targets, *train;
} config;
enum { LORA, QA };
enum { SUM, MEAN };
enum { ALL, TARGETS };

static const qt_field fields[] = {
    QT_F_INT(config, rank, "8", 1, 1 << 16, "rows of A, columns of B"),
    QT_F_REAL(config, alpha, "16", 0, 1e6, "the adapter's part is scaled by alpha / rank"),
    QT_F_REAL(config, dropout, "0", 0, 0.99, "part of the adapter's inputs set to 0 in training"),
    QT_F_TREE(config, targets, "~", "pattern or list of patterns of linear layers (default: all but an output tied to its embedding)"),
    QT_F_ENUM(config, variant, "lora", "lora|qa", "qa: one input a group of the weight's quantizer, int_group, so that the merge is exact"),
    QT_F_ENUM(config, pool, "sum", "sum|mean", "variant qa: what of a group the adapter reads"),
    QT_F_ENUM(config, freeze, "all", "all|targets", "all: only adapters are trained; targets: and the layers without one"),
    QT_F_TREE(config, train, "~", "pattern or list of patterns of further parameters to train, as '*.bias'"),
    {NULL},
};

/* ---- which layers ------------------------------------------------------------------------------------------------------------------ */

/* One that shares the table of an embedding is left out: what is merged into it would change the embedding. */
static bool linear(const qt_module *m) { return m->layer == &qt_layer_linear && (!m->p[0] || qt_module_owns_weight(m)); }

static qt_err no_target(const qt_model *m, const qt_yaml *pattern, const char *where)
{
    const char *names[256], *word = "";
    int         n = 0;
    for (int i = 0; i < m->n && n < 256; i++)
        if (linear(&m->m[i])) names[n++] = m->m[i].path;
    qt_yaml_str(pattern, &word);
    const char *near = qt_near(word, n, names);
    if (near) return qt_fail_at(QT_ERECIPE, pattern->pos, "%s: '%s' matches no linear layer, did you mean '%s'?", where, word, near);
    return qt_fail_at(QT_ERECIPE, pattern->pos, "%s: '%s' matches no linear layer; %s%s%s", where, word, n ? "there are " : "the model has none",
                      n ? names[0] : "", n > 1 ? " and others" : "");
}

/* Each pattern must match a layer. A model with layers that failed is no measure. */
static qt_err check_pattern(const qt_model *m, const qt_yaml *pattern, const char *where)
{
    for (int i = 0; i < m->n; i++)
        if (!m->m[i].layer || (linear(&m->m[i]) && qt_match_any(pattern, m->m[i].path))) return QT_OK;
    return no_target(m, pattern, where);
}

static qt_err check_targets(const qt_model *m, const qt_yaml *targets)
{
    qt_err e = QT_OK;
    char   where[48];
    QT_TRY(qt_match_check(targets, "lora.targets"));
    if (targets->kind != QT_YAML_LIST) return check_pattern(m, targets, "lora.targets");
    for (int i = 0; i < targets->n; i++) {
        snprintf(where, sizeof where, "lora.targets[%d]", i);
        e = qt_first(e, check_pattern(m, targets->item[i], where));
    }
    return e;
}

/* ---- making ------------------------------------------------------------------------------------------------------------------------ */

static qt_err group_of(const qt_module *m, qt_pos pos, int64_t *group)
{
    if (!m->weight || !m->weight->quant->zero_group)
        return qt_fail_at(QT_ERECIPE, pos,
                          "lora: variant qa merges into zero points of groups, and the weight of '%s' %s; give it a rule as {match: %s, weights: "
                          "{use: int_group, num_bits: 4, group_size: 32}}",
                          m->path, m->weight ? "has a quantizer without them" : "is not quantized", m->path);
    *group = m->weight->quant->zero_group(m->weight);
    return QT_OK;
}

static qt_tensor *param(const qt_module *m, qt_store *s, const char *name, qt_init init, int64_t rows, int64_t columns)
{
    char path[256];
    snprintf(path, sizeof path, "%s.%s", m->path, name);
    return qt_param_add(s, path, QT_WEIGHT, init, 2, (int64_t[]){rows, columns});
}

static qt_err attach(qt_arena *a, const config *c, const qt_yaml *section, qt_store *s, qt_module *m)
{
    const qt_yaml *rank = qt_yaml_get(section, "rank"), *variant = qt_yaml_get(section, "variant");
    int64_t        out, in, group = 0;
    qt_lora       *l;
    if (!m->p[0]) return QT_OK; /* its shape is not known */
    out = m->p[0]->dim[0], in = m->p[0]->dim[1];
    if (c->variant == QA) QT_TRY(group_of(m, variant->pos, &group));
    if (group) in /= group;
    if (c->rank > in || c->rank > out)
        return qt_fail_at(QT_ERECIPE, rank ? rank->pos : section->pos, "lora.rank: %lld is more than the matrix of '%s' has, [%lld, %lld]%s",
                          (long long)c->rank, m->path, (long long)out, (long long)in, group ? " with its inputs in groups" : "");
    if (!(l = m->lora = qt_arena_zalloc(a, sizeof *l))) return QT_EMEM;
    *l = (qt_lora){.c = c->alpha / (double)c->rank, .dropout = c->dropout, .group = group, .mean = c->pool == MEAN};
    qt_init start = group ? (qt_init){QT_INIT_UNIFORM, sqrt(6 / (double)(in + c->rank))} : QT_INIT_FAN_IN(in);
    l->a = param(m, s, "lora_a", start, c->rank, in);
    l->b = param(m, s, "lora_b", QT_INIT_CONST(0), out, c->rank);
    m->then[0] = m->then[1] = NULL; /* what follows reads the sum with the adapter */
    return l->a && l->b ? QT_OK : QT_EMEM;
}

/* An exact merge wants codes that stay as they are. */
static qt_err check_frozen(const qt_model *m, const config *c, const qt_yaml *section)
{
    qt_err e = QT_OK;
    for (int i = 0; i < m->n; i++)
        if (c->variant == QA && m->m[i].lora && !m->m[i].frozen)
            e = qt_fail_at(QT_ERECIPE, section->pos, "lora: variant qa wants a frozen weight, and lora.train names that of '%s'", m->m[i].path);
    return e;
}

qt_err qt_lora_apply(qt_arena *a, const qt_yaml *section, qt_model *m)
{
    config c;
    qt_err e = QT_OK;
    if (!section) return QT_OK;
    QT_TRY(qt_fields_read(section, "lora", fields, NULL, &c));
    if (!c.targets && !(c.targets = qt_yaml_scalar(a, "*", section->pos))) return QT_EMEM;
    QT_TRY(check_targets(m, c.targets));
    for (int i = 0; i < m->n; i++)
        if (linear(&m->m[i]) && qt_match_any(c.targets, m->m[i].path)) e = qt_first(e, attach(a, &c, section, m->store, &m->m[i]));
    if (e != QT_OK || !m->store->n) return e;
    QT_TRY(qt_model_freeze(a, m, c.train, c.freeze == TARGETS));
    return check_frozen(m, &c, section);
}

bool qt_lora_owns(const qt_model *m, const qt_tensor *param)
{
    for (int i = 0; i < m->n; i++)
        if (m->m[i].lora && (m->m[i].lora->a == param || m->m[i].lora->b == param)) return true;
    return false;
}

/* ---- forward ----------------------------------------------------------------------------------------------------------------------- */

/* A [r, in / group] -> [r, in], each column as often as a group has inputs: A is thin, so this is cheaper than to sum the groups of x, and
 * x A^T is the same. */
static qt_tensor *spread(qt_tape *t, const qt_lora *l)
{
    qt_tensor *column = qt_reshape(t, l->a, 2, (int64_t[]){l->a->n, 1}), *row = qt_input(t, 2, (int64_t[]){1, l->group});
    for (int64_t i = 0; i < row->n && row->data; i++) row->data[i] = l->mean ? 1 / (R)l->group : 1;
    return qt_reshape(t, qt_matmul(t, column, row, false, false), 2, (int64_t[]){l->a->dim[0], l->a->dim[1] * l->group});
}

qt_tensor *qt_lora_add(qt_tape *t, const qt_module *m, qt_tensor *x, qt_tensor *y)
{
    const qt_lora *l = m->lora;
    if (l->merged || t->err) return y;
    if (l->dropout > 0) x = qt_dropout(t, x, l->dropout);
    qt_tensor *h = qt_linear(t, x, l->group ? spread(t, l) : l->a, NULL);
    return qt_add(t, y, qt_linear(t, qt_scale(t, h, l->c), l->b, NULL));
}

/* ---- merging ----------------------------------------------------------------------------------------------------------------------- */

/* z -= c (B A) / s, the sum over a group having been what A read. */
static void merge_zeros(const qt_lora *l, const R *change, qt_frozen *f)
{
    const double over = l->mean ? (double)l->group : 1;
    for (int64_t k = 0; k < f->count; k++) f->zero[k] = (R)((double)f->zero[k] - (double)change[k] / (over * (double)f->scale[k]));
}

/* w as the quantizer of a spec gives it, which keeps no state. */
static qt_err round_again(const qt_yaml *spec, const qt_module *m, qt_tape *t, qt_tensor *w)
{
    qt_store *s = qt_store_new(0);
    qt_site  *q;
    if (!s) return QT_EMEM;
    qt_err e = qt_site_make(s, m->path, QT_ROLE_WEIGHT, 0, w->rank - 1, w->rank, w->dim, spec, "merge.weights", &q);
    if (e == QT_OK) e = qt_store_seal(s, 0);
    if (e == QT_OK) {
        qt_tape_reset(t), qt_tape_mode(t, true, false);
        qt_tensor *y = qt_quantize(t, q, w);
        e = qt_tape_error(t);
        if (e == QT_OK) memcpy(w->data, y->data, (size_t)w->n * sizeof(R));
        qt_tape_reset(t);
    }
    qt_store_free(s);
    return e;
}

/* The weight as numbers, changed, and back to what it was made of. */
static qt_err merge_numbers(qt_arena *a, qt_model *m, int i, const R *change, const qt_yaml *weights, qt_tape *t)
{
    qt_module *mod = &m->m[i];
    qt_tensor *w = mod->p[0];
    qt_frozen *f = mod->frozen;
    R         *own = NULL;
    if (f && !(w->data = own = qt_alloc((size_t)w->n * sizeof(R)))) return QT_EMEM;
    for (int64_t n = 0; f && n < w->dim[0]; n += f->rows) qt_frozen_rows(f, n, qt_min_i64(f->rows, w->dim[0] - n), own + n * w->dim[1]);
    for (int64_t k = 0; k < w->n; k++) w->data[k] += change[k];
    qt_err e = f ? qt_model_pack(a, m, i, t) : weights && !mod->weight ? round_again(weights, mod, t, w) : QT_OK;
    if (f) w->data = NULL;
    qt_free(own);
    return e;
}

static qt_err merge_module(qt_arena *a, qt_model *m, int i, const qt_yaml *weights, qt_tape *t)
{
    qt_lora      *l = m->m[i].lora;
    const int64_t out = l->b->dim[0], r = l->b->dim[1], in = l->a->dim[1];
    R            *change = qt_alloc((size_t)(out * in) * sizeof *change);
    qt_err        e = QT_OK;
    if (!change) return QT_EMEM;
    qt_gemm(false, false, out, in, r, (R)l->c, l->b->data, l->a->data, 0, change);
    if (l->group) merge_zeros(l, change, m->m[i].frozen);
    else e = merge_numbers(a, m, i, change, weights, t);
    qt_free(change);
    l->merged = e == QT_OK;
    return e;
}

qt_err qt_lora_merge(qt_arena *a, qt_model *m, const qt_yaml *weights, qt_tape *t)
{
    for (int i = 0; i < m->n; i++)
        if (m->m[i].lora && !m->m[i].lora->merged) QT_TRY(merge_module(a, m, i, weights, t));
    return QT_OK;
}
