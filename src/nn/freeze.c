/* What is frozen beside adapters. A frozen parameter has no gradient and no optimizer state, and its value comes from the base that it belongs
 * to, not from the run's own checkpoints; state of quantizers is small and stays with the run. The weight of a linear layer that has a
 * quantizer is kept as packed codes alone (kernels/frozen.h). Weights of other layers stay numbers and pass their quantizer in each step. */
#include "nn/build.h"
#include "qat/frozen.h"

/* Is p the state of a quantizer? */
static bool of_site(const qt_store *s, const qt_param *p)
{
    for (int i = 0; i < s->n_site; i++)
        for (int k = 0; k < QT_SITE_PARAMS; k++)
            if (s->site[i]->p[k] == &p->t) return true;
    return false;
}

/* Does p belong to a layer with an adapter? */
static bool targeted(const qt_model *m, const qt_param *p)
{
    for (int i = 0; i < m->n; i++)
        for (int k = 0; m->m[i].lora && k < QT_MODULE_PARAMS; k++)
            if (m->m[i].p[k] == &p->t) return true;
    return false;
}

/* Each pattern of `train` names a parameter. */
static qt_err check_train(const qt_store *s, const qt_yaml *train)
{
    qt_err e = qt_match_check(train, "lora.train");
    for (int i = 0; e == QT_OK && i < s->n; i++)
        if (s->p[i]->kind != QT_BUFFER && qt_match_any(train, s->p[i]->t.name)) return QT_OK;
    if (e != QT_OK || !s->n) return e;
    return qt_fail_at(QT_ERECIPE, train->pos, "lora.train: matches no parameter; a parameter's path is its layer's and its name, as in '%s'",
                      s->p[0]->t.name);
}

/* Another layer reads the module's weight too. */
static bool shared(const qt_model *m, const qt_module *mod)
{
    for (int i = 0; i < m->n; i++)
        if (&m->m[i] != mod && m->m[i].p[0] == mod->p[0]) return true;
    return false;
}

static qt_err pack_later(qt_arena *a, const qt_model *m, qt_module *mod)
{
    qt_param *p = mod->p[0] ? qt_store_param_of(m->store, mod->p[0]) : NULL;
    if (!p || !p->base || mod->layer != &qt_layer_linear || !mod->weight || shared(m, mod)) return QT_OK;
    if (mod->gradq) return qt_module_fail(mod, "its weight is frozen, which leaves no use for a quantized gradient (quant: grad)");
    p->outside = true;
    return (mod->frozen = qt_arena_zalloc(a, sizeof *mod->frozen)) ? QT_OK : QT_EMEM;
}

qt_err qt_model_freeze(qt_arena *a, qt_model *m, const qt_yaml *train, bool targets)
{
    qt_store *s = m->store;
    qt_err    e = train ? check_train(s, train) : QT_OK;
    if (e != QT_OK) return e;
    for (int i = 0; i < s->n; i++) {
        qt_param *p = s->p[i];
        if (p->kind == QT_BUFFER || qt_lora_owns(m, &p->t) || (train && qt_match_any(train, p->t.name)) || (targets && !targeted(m, p))) continue;
        p->frozen = true, p->base = !of_site(s, p);
    }
    for (int i = 0; i < m->n; i++) e = qt_first(e, pack_later(a, m, &m->m[i]));
    return e;
}

/* Scratch for the largest block of rows of all frozen weights. */
static qt_err make_work(qt_arena *a, qt_model *m)
{
    int64_t n = 0;
    for (int i = 0; i < m->n; i++)
        if (m->m[i].frozen) {
            const int64_t *dim = m->m[i].p[0]->dim, here = qt_frozen_block(dim[0], dim[1]) * dim[1];
            n = here > n ? here : n;
        }
    if (!m->work) m->work = qt_arena_alloc(a, (size_t)n * sizeof(R)), m->work_codes = qt_arena_alloc(a, (size_t)n);
    return m->work && m->work_codes ? QT_OK : QT_EMEM;
}

qt_err qt_model_pack(qt_arena *a, qt_model *m, int i, qt_tape *t)
{
    qt_module *mod = &m->m[i];
    qt_tensor *w = mod->p[0];
    QT_TRY(make_work(a, m));
    QT_TRY(qt_frozen_pack(mod->weight, w, t, a, mod->frozen));
    mod->frozen->rows = qt_frozen_block(w->dim[0], w->dim[1]);
    mod->frozen->work = m->work, mod->frozen->work_codes = m->work_codes;
    return QT_OK;
}
