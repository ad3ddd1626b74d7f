/* Switching the deployment engine between precisions. The file holds the integers of the highest one; those of the others are made of them by
 * the rounding shift that training used (qat/double_rounding.h), when they are first wanted, and kept packed. Steps of activations and the
 * sets of batch norm, which the file holds for every precision, are chosen as in training, so the answers have its bits. */
#include "export/engine.h"
#include "qat/double_rounding.h"

static const qt_site *site_of(const qt_switched *s) { return s->m->weight; }

/* The codes of a layer at so many bits, from those that are stored. */
static qt_err make_codes(qt_engine *e, const qt_switched *s, int bits, qt_icodes *c)
{
    int8_t *q = qt_alloc((size_t)s->stored.n + QT_CODES_SLACK);
    R      *scale = qt_arena_alloc(&e->arena, (size_t)s->stored.count * sizeof *scale), factor = 1;
    qt_err  err = q && scale ? QT_OK : QT_EMEM;
    *c = s->stored, c->q = NULL, c->packed = NULL, c->scale = scale;
    if (err == QT_OK) QT_ASSERT(qt_codes_switch(site_of(s), bits, c->n, s->q, q, &factor));
    for (int64_t k = 0; k < c->count && err == QT_OK; k++) scale[k] = s->stored.scale[k] * factor;
    c->lo = -(1 << (bits - 1)), c->hi = -c->lo - 1;
    if (err == QT_OK) err = qt_engine_pack(e, s->m, 1, q, c);
    qt_free(q);
    return err;
}

static qt_err switch_layer(qt_engine *e, qt_switched *s, int bits)
{
    qt_precision list[QT_MAX_PRECISIONS];
    int          n = qt_site_precisions(site_of(s), list), k = 0;
    while (k < n && list[k].bits != bits) k++;
    if (k == n) return QT_OK; /* stays at what it has */
    if (!s->at[k]) {
        qt_icodes *c = qt_arena_zalloc(&e->arena, sizeof *c);
        if (!c) return QT_EMEM;
        QT_TRY(make_codes(e, s, bits, c));
        s->at[k] = c;
    }
    s->m->p[0]->codes = s->at[k];
    return QT_OK;
}

/* Of the weights that can be switched. */
static bool has_bits(const qt_engine *e, int bits)
{
    qt_precision list[QT_MAX_PRECISIONS];
    bool         has = false;
    for (int i = 0; i < e->n_switched; i++) {
        int n = qt_site_precisions(site_of(&e->switched[i]), list);
        for (int k = 0; k < n; k++) has |= list[k].bits == bits;
    }
    return has;
}

qt_err qt_engine_switch(qt_engine *e, int bits)
{
    qt_precision list[QT_MAX_PRECISIONS];
    QT_CHECK(!e->fixed, QT_EUSAGE, "%s: the weights of layer '%s' are stored for one precision", e->name, e->fixed);
    if (!bits && qt_model_precisions(e->model, list)) bits = list[0].bits;
    QT_CHECK(has_bits(e, bits), QT_EUSAGE, "%s: cannot be switched to %d bits", e->name, bits);
    for (int i = 0; i < e->n_switched; i++) QT_TRY(switch_layer(e, &e->switched[i], bits));
    qt_model_switch(e->model, (qt_precision){.bits = bits});
    return QT_OK;
}
