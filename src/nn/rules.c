/* The `quant` section: ordered rules {match, weights, activations, grad, bias, affine, outputs}. For each layer and each of its roles the last
 * rule that matches the layer's path and speaks of the role decides; `none` keeps the tensor as it is. Layers with weights have the first four
 * roles, batch_norm has `affine`, its factor and offset of each channel, and every layer has `outputs`: so any tensor between two layers, or
 * inside of one, can be quantized. The words `first` and `last` match the first and the last layer with weights. A rule that matches no layer
 * that has one of its roles is an error. */
#include "nn/build.h"
#include <string.h>

enum { WEIGHTS, ACTIVATIONS, GRAD, BIAS, AFFINE, OUTPUTS, ROLES };
static const char *const role_name[ROLES] = {"weights", "activations", "grad", "bias", "affine", "outputs"};

typedef struct rule {
    const qt_yaml *match, *spec[ROLES];
    bool           good[ROLES]; /* the spec has no error of its own */
} rule;
static const qt_field fields[] = {
    {"match", QT_TREE, offsetof(rule, match), NULL, 0, 0, NULL, "pattern or list of patterns of layer paths; first, last"},
    {"weights", QT_TREE, offsetof(rule, spec[WEIGHTS]), "~", 0, 0, NULL, "quantizer of the weights, or none"},
    {"activations", QT_TREE, offsetof(rule, spec[ACTIVATIONS]), "~", 0, 0, NULL, "quantizer of the layer's input, or none"},
    {"grad", QT_TREE, offsetof(rule, spec[GRAD]), "~", 0, 0, NULL, "quantizer of the gradients, or none"},
    {"bias", QT_TREE, offsetof(rule, spec[BIAS]), "~", 0, 0, NULL, "quantizer of the bias, or none"},
    {"affine", QT_TREE, offsetof(rule, spec[AFFINE]), "~", 0, 0, NULL, "batch_norm: quantizer of a and of b in y = a x + b, or none"},
    {"outputs", QT_TREE, offsetof(rule, spec[OUTPUTS]), "~", 0, 0, NULL, "quantizer of what the layer gives, of any layer, or none"},
    {NULL},
};

static bool is_none(const qt_yaml *spec)
{
    const qt_yaml *use = spec->kind == QT_YAML_MAP ? qt_yaml_get(spec, "use") : spec;
    return use && use->kind == QT_YAML_SCALAR && !strcmp(use->text, "none");
}

/* The module has the role; one that has errors may be such a layer. */
static bool applies(const qt_module *m, int role)
{
    if (!m->layer || role == OUTPUTS) return true;
    return role == AFFINE ? m->layer->scales : m->layer->quantizes;
}

/* The index of the first (step 1) or last (step -1) layer with weights, -1 if there is none. */
static int edge(const qt_model *m, int step)
{
    for (int i = step > 0 ? 0 : m->n - 1; i >= 0 && i < m->n; i += step)
        if (applies(&m->m[i], WEIGHTS)) return i;
    return -1;
}

static bool matches(const qt_yaml *match, const qt_model *m, int i)
{
    const char *word;
    if (match->kind == QT_YAML_LIST) {
        for (int k = 0; k < match->n; k++)
            if (matches(match->item[k], m, i)) return true;
        return false;
    }
    if (!qt_yaml_str(match, &word)) return false;
    if (!strcmp(word, "first")) return i == edge(m, 1);
    if (!strcmp(word, "last")) return i == edge(m, -1);
    return qt_match(word, m->m[i].path);
}

/* "fc1, fc2, fc3" or "conv1, conv2, conv3, ... (21 layers)" */
static const char *layer_names(const qt_model *m, int role, char buf[static 256])
{
    int    shown = 0, all = 0;
    size_t used = 0;
    buf[0] = 0;
    for (int i = 0; i < m->n; i++) {
        const char *path = m->m[i].path;
        if (!applies(&m->m[i], role)) continue;
        if (all++ != shown || shown == 8 || used + strlen(path) > 200) continue;
        used += (size_t)snprintf(buf + used, 256 - used, "%s%s", shown++ ? ", " : "", path);
    }
    if (!all)
        snprintf(buf, 256, "none");
    else if (shown < all)
        snprintf(buf + used, 256 - used, ", ... (%d layers)", all);
    return buf;
}

static qt_err read_spec(qt_arena *a, const qt_yaml *spec, int i, int role)
{
    const qt_desc *d;
    void          *cfg;
    char           path[64];
    snprintf(path, sizeof path, "quant[%d].%s", i, role_name[role]);
    QT_TRY(qt_desc_read(a, &qt_quants, spec, path, NULL, &d, &cfg));
    if (role == GRAD && !is_none(spec) && !((const qt_quant *)d)->gradient)
        return qt_fail_at(QT_ERECIPE, spec->pos, "%s: the quantizer '%s' is not made for gradients; shiftq is", path, d->name);
    return QT_OK;
}

/* Does the rule say anything about a layer? One without roles is taken as one about weights. */
static bool hits(const rule *r, const qt_model *m, int i, int *role)
{
    bool any = false;
    *role = WEIGHTS;
    for (int k = ROLES - 1; k >= 0; k--)
        if (r->spec[k]) *role = k, any |= applies(&m->m[i], k);
    return (any || applies(&m->m[i], *role)) && matches(r->match, m, i);
}

static qt_err read_rule(qt_arena *a, const qt_yaml *y, int i, const qt_model *m, bool all, rule *r)
{
    char   path[48], names[256];
    bool   hit = false;
    int    role = WEIGHTS;
    qt_err e;
    snprintf(path, sizeof path, "quant[%d]", i);
    e = qt_fields_read(y, path, fields, NULL, r);
    for (int k = 0; k < ROLES; k++) {
        qt_err one = r->spec[k] ? read_spec(a, r->spec[k], i, k) : QT_OK;
        r->good[k] = r->spec[k] && one == QT_OK;
        e = qt_first(e, one);
    }
    snprintf(path, sizeof path, "quant[%d].match", i);
    if (!r->match) return e;
    QT_TRY(qt_match_check(r->match, path));
    if (!all) return e;
    for (int j = 0; j < m->n && !hit; j++) hit = hits(r, m, j, &role);
    if (hit) return e;
    return qt_fail_at(QT_ERECIPE, r->match->pos, "%s: matches no layer that can be quantized; these can: %s", path, layer_names(m, role, names));
}

static qt_err weight_site(qt_store *s, qt_module *m, const qt_yaml *spec, const char *where)
{
    const qt_tensor *w = m->p[0];
    char             path[256];
    snprintf(path, sizeof path, "%s.weight", m->path);
    return qt_site_make(s, path, QT_ROLE_WEIGHT, 0, w->rank - 1, w->rank, w->dim, spec, where, &m->weight);
}

/* The batch in front is not known: 0. Channels of an image are its axis 1, those of a row its last axis. */
static qt_err input_site(qt_store *s, qt_module *m, const qt_yaml *spec, const char *where)
{
    const qt_shape *x = &m->in_shape[0];
    int64_t         dim[QT_MAX_DIM] = {0};
    char            path[256];
    snprintf(path, sizeof path, "%s.input", m->path);
    memcpy(dim + 1, x->dim, (size_t)x->rank * sizeof *dim);
    return qt_site_make(s, path, QT_ROLE_ACT, m->layer->token_rank == 1 ? x->rank : 1, m->layer->token_rank, x->rank + 1, dim, spec, where, &m->act);
}

static qt_err bias_site(qt_store *s, qt_module *m, const qt_yaml *spec, const char *where)
{
    char path[256];
    snprintf(path, sizeof path, "%s.bias", m->path);
    return qt_site_make(s, path, QT_ROLE_WEIGHT, 0, 1, 1, m->p[1]->dim, spec, where, &m->bias);
}

/* a and b as batch_norm makes them, [1, C]. */
static qt_err affine_sites(qt_store *s, qt_module *m, const qt_yaml *spec, const char *where)
{
    const int64_t dim[2] = {1, m->in_shape[0].dim[0]};
    char          path[256];
    snprintf(path, sizeof path, "%s.scale", m->path);
    QT_TRY(qt_site_make(s, path, QT_ROLE_WEIGHT, 1, 1, 2, dim, spec, where, &m->scale));
    snprintf(path, sizeof path, "%s.shift", m->path);
    return qt_site_make(s, path, QT_ROLE_WEIGHT, 1, 1, 2, dim, spec, where, &m->shift);
}

static qt_err output_site(qt_store *s, qt_module *m, const qt_yaml *spec, const char *where)
{
    const qt_shape *y = &m->out_shape;
    int64_t         dim[QT_MAX_DIM] = {0};
    char            path[256];
    snprintf(path, sizeof path, "%s.output", m->path);
    memcpy(dim + 1, y->dim, (size_t)y->rank * sizeof *dim);
    return qt_site_make(s, path, QT_ROLE_ACT, y->rank == 3 ? 1 : y->rank, y->rank == 3 ? 3 : 1, y->rank + 1, dim, spec, where, &m->out);
}

/* Is there a tensor of the role? */
static bool has_tensor(const qt_module *m, int role)
{
    if (!m->layer || !applies(m, role)) return false;
    if (role == OUTPUTS) return m->out_shape.rank > 0;
    if (role == AFFINE) return m->p[2] != NULL;
    return role == BIAS ? m->p[1] != NULL : m->p[0] != NULL;
}

/* A gradient is quantized against the integers of the weight and of the input: both must have a quantizer. */
static qt_err grad_site(qt_store *s, qt_module *m, const qt_yaml *spec, const char *where)
{
    const qt_shape *y = &m->out_shape;
    int64_t         dim[QT_MAX_DIM] = {0};
    char            path[256];
    if (!m->weight || !m->act)
        return qt_fail_at(QT_ERECIPE, spec->pos, "%s: the gradient of %s can be quantized only where weights and activations are; its %s not", where,
                          m->path, m->weight ? "activations are" : "weights are");
    snprintf(path, sizeof path, "%s.grad", m->path);
    memcpy(dim + 1, y->dim, (size_t)y->rank * sizeof *dim);
    return qt_site_make(s, path, QT_ROLE_GRAD, 1, m->layer->token_rank, y->rank + 1, dim, spec, where, &m->gradq);
}

/* Sites of module i: for each role the last rule that matches and has the role. */
static qt_err make_sites(qt_model *m, int i, const rule *r, int n)
{
    qt_module *mod = &m->m[i];
    qt_err     e = QT_OK;
    bool       bad = false; /* a role has an error of its own, which may be why another lacks what it needs */
    static qt_err (*const make[ROLES])(qt_store *, qt_module *, const qt_yaml *, const char *) = {weight_site, input_site,   grad_site,
                                                                                                  bias_site,   affine_sites, output_site};
    for (int k = 0; k < ROLES; k++) {
        int  j = n - 1;
        char where[64];
        if (!has_tensor(mod, k)) continue;
        while (j >= 0 && !(r[j].spec[k] && r[j].match && matches(r[j].match, m, i))) j--;
        bad |= j >= 0 && !r[j].good[k];
        if (j < 0 || !r[j].good[k] || (bad && k == GRAD) || is_none(r[j].spec[k]) || (k == ACTIVATIONS && mod->layer->reads_ids)) continue;
        snprintf(where, sizeof where, "quant[%d].%s", j, role_name[k]);
        e = qt_first(e, make[k](m->store, mod, r[j].spec[k], where));
    }
    return e;
}

qt_err qt_rules_apply(qt_arena *a, const qt_yaml *quant, qt_model *m, bool all)
{
    qt_err e = QT_OK;
    rule  *r;
    if (!quant || quant->kind == QT_YAML_NULL) return QT_OK;
    if (quant->kind != QT_YAML_LIST)
        return qt_fail_at(QT_ERECIPE, quant->pos, "quant: expected a list of rules {match, weights, activations}, found %s",
                          qt_yaml_kind_name(quant));
    if (!(r = qt_arena_zalloc(a, (size_t)quant->n * sizeof *r))) return QT_EMEM;
    for (int i = 0; i < quant->n; i++) e = qt_first(e, read_rule(a, quant->item[i], i, m, all, &r[i]));
    for (int i = 0; i < m->n; i++)
        e = qt_first(e, make_sites(m, i, r, quant->n));
    return e;
}
