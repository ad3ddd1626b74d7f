/* The `memory` section: {codec: NAME, match: patterns, ...}, how the tensors are kept that layers read in backward (autograd/codec.h). Without it
 * all of a step's results stay until the tape is reset. With it the tape is thrifty: each result's floats come back after the last layer that
 * reads it, and the codec stands in for those that the layers matched by `match` read in backward. Ranges of codecs are buffers
 * "LAYER.saved" of the store, so checkpoints carry them. */
#include "autograd/codec.h"
#include "nn/nn.h"
#include <string.h>

int64_t qt_model_heads(const qt_model *m)
{
    int64_t most = 1;
    for (int i = 0; i < m->n; i++) {
        const qt_module *l = &m->m[i];
        int64_t          heads = l->layer && l->layer->heads ? l->layer->heads(l) : 1;
        most = heads > most ? heads : most;
    }
    return most;
}

static qt_err state_of(qt_arena *a, const char *name, int64_t groups, double fresh, qt_store *s, qt_tensor **state)
{
    int64_t dim[3] = {QT_SAVER_TENSORS, groups, 2};
    if (s) return (*state = qt_param_add(s, name, QT_BUFFER, QT_INIT_CONST(fresh), 3, dim)) ? QT_OK : QT_EMEM;
    qt_tensor *x = *state = qt_arena_zalloc(a, sizeof *x);
    if (!x || !(x->data = qt_arena_alloc(a, (size_t)(dim[0] * dim[1] * dim[2]) * sizeof(R)))) return QT_EMEM;
    x->n = dim[0] * dim[1] * dim[2];
    for (int64_t i = 0; i < x->n; i++) x->data[i] = (R)fresh;
    return QT_OK;
}

static qt_err saver_of(qt_arena *a, qt_module *m, const qt_codec *c, const void *cfg, int64_t groups, qt_store *s)
{
    qt_saver *v = m->saver = qt_arena_zalloc(a, sizeof *v);
    if (!v) return QT_EMEM;
    *v = (qt_saver){.codec = c, .cfg = cfg, .groups = groups, .path = qt_arena_sprintf(a, "%s.saved", m->path)};
    if (!v->path) return QT_EMEM;
    return c->encode ? state_of(a, v->path, groups, c->fresh, s, &v->state) : QT_OK;
}

qt_err qt_memory_savers(qt_arena *a, const qt_codec *c, const void *cfg, const qt_yaml *match, bool store, qt_model *m)
{
    int64_t groups = c->groups ? c->groups(cfg, qt_model_heads(m)) : 1;
    for (int i = 0; i < m->n; i++) {
        qt_module *l = &m->m[i];
        l->saver = NULL;
        if (l->layer && (!match || qt_match_any(match, l->path))) QT_TRY(saver_of(a, l, c, cfg, groups, store ? m->store : NULL));
    }
    return QT_OK;
}

/* Every pattern is there for some layer. */
static qt_err check_match(const qt_yaml *match, const qt_model *m)
{
    bool hit = false;
    QT_TRY(qt_match_check(match, "memory.match"));
    for (int k = 0; match->kind == QT_YAML_LIST && k < match->n; k++) QT_TRY(check_match(match->item[k], m));
    for (int i = 0; i < m->n && !hit; i++) hit = qt_match_any(match, m->m[i].path);
    return hit || !m->n ? QT_OK : qt_fail_at(QT_ERECIPE, match->pos, "memory.match: matches no layer (`qtape show --cost` lists them)");
}

qt_err qt_memory_build(qt_arena *a, const qt_yaml *memory, qt_model *m)
{
    const qt_yaml *name = qt_yaml_get(memory, "codec"), *match = qt_yaml_get(memory, "match"), *group = qt_yaml_get(memory, "group");
    const qt_desc *d;
    const char    *word;
    void          *cfg;
    if (!memory || memory->kind == QT_YAML_NULL) return QT_OK;
    if (!name || !qt_yaml_str(name, &word))
        return qt_fail_at(QT_ERECIPE, name ? name->pos : memory->pos, "memory: expected {codec: NAME, ...}; `qtape list codecs` lists the names");
    if (!(d = qt_desc_find(&qt_codecs, word, name->pos))) return QT_ERECIPE;
    if (!(cfg = qt_arena_zalloc(a, d->cfg_size))) return QT_EMEM;
    QT_TRY(qt_fields_read(memory, "memory", d->fields, "codec|match", cfg));
    const qt_codec *c = (const qt_codec *)d;
    if (c->groups && !c->groups(cfg, qt_model_heads(m)))
        return qt_fail_at(QT_ERECIPE, group->pos, "memory.group: expected head, layer, or a number from 1 to 4096");
    if (match) QT_TRY(check_match(match, m));
    m->thrifty = true;
    return qt_memory_savers(a, c, cfg, match, true, m);
}
