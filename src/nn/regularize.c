/* The `regularize` section: a list of {use: NAME, match: layers, weight: W, ...}, terms of the loss that look at weights,
 *
 *     loss = task + sum over the list of W * (sum or mean over the matched layers of value(w)),
 *
 * w being the layer's weight as the optimizer moves it or, with fake_quant, as its quantizer gives it; the gradient then passes the
 * quantizer as the layer's own does. The values are recorded on the tape behind the task's loss, so backward needs nothing more. A weight that two
 * layers share counts once, with the layer that owns it. Evaluations measure every term without its W (train/measure.c). */
#include "nn/build.h"
#include <string.h>

static const qt_desc *const regularizers[] = {
#define QT_REGULARIZER(name) &qt_regularizer_##name.d,
#include "nn/regularizers.def"
#undef QT_REGULARIZER
    NULL};

const qt_kind qt_regularizers = {"regularizers", "regularizer", "terms of the loss that look at weights", regularizers};

/* ---- reading --------------------------------------------------------------------------------------------------------------- */

static bool has_weight(const qt_module *m) { return m->layer && m->layer->quantizes && qt_module_owns_weight(m); }

static qt_err check_layer(const qt_term *r, const qt_module *m, const qt_store *s, qt_pos pos)
{
    const qt_regularizer_base *b = r->cfg;
    if (qt_store_param_of(s, m->p[0])->frozen) return qt_fail_at(QT_ERECIPE, pos, "%s: the weight of %s is frozen", r->how->d.name, m->path);
    if (b->fake_quant && !m->weight)
        return qt_fail_at(QT_ERECIPE, pos, "%s: fake_quant, but the weight of %s has no quantizer", r->how->d.name, m->path);
    return r->how->suits ? r->how->suits(r->cfg, m) : QT_OK;
}

static qt_err find_layers(qt_arena *a, qt_term *r, const qt_model *m, const char *path, qt_pos pos)
{
    const qt_yaml *match = ((const qt_regularizer_base *)r->cfg)->match;
    qt_err         e = QT_OK;
    QT_TRY(qt_match_check(match, path));
    if (!(r->module = qt_arena_alloc(a, (size_t)(m->n + 1) * sizeof *r->module))) return QT_EMEM;
    for (int i = 0; i < m->n; i++)
        if (has_weight(&m->m[i]) && qt_match_any(match, m->m[i].path)) {
            r->module[r->n++] = i;
            e = qt_first(e, check_layer(r, &m->m[i], m->store, pos));
        }
    return r->n ? e : qt_fail_at(QT_ERECIPE, match->pos, "%s: matches no layer with a weight (`qtape show --cost` lists them)", path);
}

static qt_err read_term(qt_arena *a, const qt_yaml *y, int i, qt_model *m)
{
    qt_term       *r = &m->term[i];
    char           path[48];
    const qt_desc *d;
    void          *cfg;
    snprintf(path, sizeof path, "regularize[%d]", i);
    QT_TRY(qt_desc_read(a, &qt_regularizers, y, path, NULL, &d, &cfg));
    r->how = (const qt_regularizer *)d, r->cfg = cfg;
    r->name = ((const qt_regularizer_base *)cfg)->name ? ((const qt_regularizer_base *)cfg)->name : d->name;
    for (int k = 0; k < i; k++)
        if (m->term[k].name && !strcmp(m->term[k].name, r->name))
            return qt_fail_at(QT_ERECIPE, y->pos, "%s: '%s' stands here twice; give one of them another `name`", path, r->name);
    snprintf(path, sizeof path, "regularize[%d].match", i);
    return find_layers(a, r, m, path, y->pos);
}

qt_err qt_regularize_build(qt_arena *a, const qt_yaml *section, qt_model *m)
{
    qt_err e = QT_OK;
    if (!section || section->kind == QT_YAML_NULL) return QT_OK;
    if (section->kind != QT_YAML_LIST)
        return qt_fail_at(QT_ERECIPE, section->pos, "regularize: expected a list of {use, match, weight}, found %s", qt_yaml_kind_name(section));
    if (!(m->term = qt_arena_zalloc(a, (size_t)(section->n + 1) * sizeof *m->term))) return QT_EMEM;
    for (int i = 0; i < section->n; i++) e = qt_first(e, read_term(a, section->item[i], i, m));
    m->n_terms = section->n;
    return e;
}

/* ---- on the tape ----------------------------------------------------------------------------------------------------------- */

/* The weight once more through its quantizer, which has observed it already in this step; as numbers only. */
static qt_tensor *quantized(qt_tape *t, qt_module *m)
{
    bool observing = m->weight->observing, simulate = t->simulate;
    m->weight->observing = false, t->simulate = true;
    qt_tensor *w = qt_quantize(t, m->weight, m->p[0]);
    m->weight->observing = observing, t->simulate = simulate;
    return w;
}

qt_tensor *qt_term_value(qt_tape *t, qt_model *m, const qt_term *r, int k)
{
    qt_module  *mod = &m->m[r->module[k]];
    const char *path = t->path;
    t->path = mod->path;
    qt_tensor *w = ((const qt_regularizer_base *)r->cfg)->fake_quant ? quantized(t, mod) : mod->p[0];
    qt_tensor *value = r->how->apply(t, r->cfg, mod, w);
    t->path = path;
    return value;
}

qt_tensor *qt_regularize(qt_tape *t, qt_model *m, qt_tensor *loss)
{
    for (int i = 0; i < m->n_terms; i++) {
        const qt_term             *r = &m->term[i];
        const qt_regularizer_base *b = r->cfg;
        qt_tensor                 *sum = NULL;
        for (int k = 0; k < r->n && b->weight > 0; k++) {
            qt_tensor *value = qt_term_value(t, m, r, k);
            sum = sum ? qt_add(t, sum, value) : value;
        }
        if (sum) loss = qt_add(t, loss, qt_scale(t, sum, b->reduce ? b->weight / r->n : b->weight));
    }
    return loss;
}
