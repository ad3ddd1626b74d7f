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

static qt_err saver_of(qt_arena *a, qt_module *m, const qt_memory *how, int64_t groups, qt_store *s)
{
    const qt_codec *c = how->codec;
    qt_saver       *v = m->saver = qt_arena_zalloc(a, sizeof *v);
    if (!v) return QT_EMEM;
    *v = (qt_saver){.codec = c, .cfg = how->cfg, .groups = groups, .path = qt_arena_sprintf(a, "%s.saved", m->path)};
    if (!v->path) return QT_EMEM;
    return c->encode ? state_of(a, v->path, groups, c->fresh, s, &v->state) : QT_OK;
}

qt_err qt_memory_savers(qt_arena *a, const qt_memory *how, bool store, qt_model *m)
{
    int64_t groups = how->codec->groups ? how->codec->groups(how->cfg, qt_model_heads(m)) : 1;
    for (int i = 0; i < m->n; i++) {
        qt_module *l = &m->m[i];
        l->saver = NULL;
        if (l->layer && (!how->match || qt_match_any(how->match, l->path))) QT_TRY(saver_of(a, l, how, groups, store ? m->store : NULL));
    }
    return QT_OK;
}

/* Every pattern is there for some layer. */
static qt_err check_match(const qt_yaml *match, const char *path, const qt_model *m)
{
    bool hit = false;
    QT_TRY(qt_match_check(match, path));
    for (int k = 0; match->kind == QT_YAML_LIST && k < match->n; k++) QT_TRY(check_match(match->item[k], path, m));
    for (int i = 0; i < m->n && !hit; i++) hit = qt_match_any(match, m->m[i].path);
    return hit || !m->n ? QT_OK : qt_fail_at(QT_ERECIPE, match->pos, "%s: matches no layer (`qtape show --cost` lists them)", path);
}

qt_err qt_memory_read(qt_arena *a, const qt_yaml *y, const char *path, const qt_model *m, qt_memory *out)
{
    const qt_yaml *name = qt_yaml_get(y, "codec"), *group = qt_yaml_get(y, "group");
    const qt_desc *d;
    const char    *word, *match = qt_arena_sprintf(a, "%s.match", path);
    void          *cfg;
    if (!name || !qt_yaml_str(name, &word))
        return qt_fail_at(QT_ERECIPE, name ? name->pos : y->pos, "%s: expected {codec: NAME, ...}; `qtape list codecs` lists the names", path);
    if (!(d = qt_desc_find(&qt_codecs, word, name->pos))) return QT_ERECIPE;
    if (!(cfg = qt_arena_zalloc(a, d->cfg_size)) || !match) return QT_EMEM;
    QT_TRY(qt_fields_read(y, path, d->fields, "codec|match", cfg));
    *out = (qt_memory){(const qt_codec *)d, cfg, qt_yaml_get(y, "match")};
    if (out->codec->groups && !out->codec->groups(cfg, qt_model_heads(m)))
        return qt_fail_at(QT_ERECIPE, group->pos, "%s.group: expected head, layer, or a number from 1 to 4096", path);
    return out->match ? check_match(out->match, match, m) : QT_OK;
}

qt_err qt_memory_build(qt_arena *a, const qt_yaml *memory, qt_model *m)
{
    qt_memory how;
    if (!memory) return QT_OK;
    QT_TRY(qt_memory_read(a, memory, "memory", m, &how));
    m->thrifty = true;
    return qt_memory_savers(a, &how, true, m);
}
