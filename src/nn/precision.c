/* Models that hold several precisions: their sites are switched while the model runs, and layers that keep parameters for each precision
 * (batch norm with a list of bits) follow the bits of the weights around them: of the nearest one that leads to the layer, and of the
 * nearest one behind it. */
#include "nn/build.h"

static int weight_bits(const qt_module *m) { return m->weight ? qt_site_bits(m->weight) : 0; }

/* The bits of the nearest weight on the way to module i, along first inputs. */
static int bits_before(const qt_model *m, int i)
{
    for (int k = m->m[i].in[0]; k >= 0; k = m->m[k].in[0])
        if (m->m[k].layer->quantizes) return weight_bits(&m->m[k]);
    return 0;
}

/* Of the first weight behind module i that has it, and no other weight, on its way. */
static int bits_after(const qt_model *m, int i)
{
    for (int k = i + 1; k < m->n; k++) {
        int at = m->m[k].in[0];
        if (!m->m[k].layer->quantizes) continue;
        while (at > i && !m->m[at].layer->quantizes) at = m->m[at].in[0];
        if (at == i) return weight_bits(&m->m[k]);
    }
    return 0;
}

qt_err qt_model_follow(qt_model *m)
{
    for (int i = 0; i < m->n; i++)
        if (m->m[i].layer->follow) QT_TRY(m->m[i].layer->follow(&m->m[i], bits_before(m, i), bits_after(m, i)));
    return QT_OK;
}

static bool switch_site(qt_site *q, qt_precision p)
{
    qt_precision list[QT_MAX_PRECISIONS];
    if (!q || !qt_site_precisions(q, list)) return false;
    return qt_site_switch(q, p.bits ? p : list[0]);
}

static int switch_sites(qt_model *m, qt_precision p)
{
    int n = 0;
    for (int i = 0; i < m->n; i++) n += switch_site(m->m[i].weight, p) + switch_site(m->m[i].act, p);
    return n;
}

int qt_model_switch(qt_model *m, qt_precision p)
{
    int n = switch_sites(m, p);
    qt_model_follow(m);
    return n;
}

/* Into a list by falling bits, unless it is there. */
static int insert(qt_precision p, qt_precision *list, int n)
{
    int at = 0;
    for (int i = 0; i < n; i++)
        if (qt_precision_same(list[i], p)) return n;
    if (n == QT_MAX_PRECISIONS) return n;
    while (at < n && list[at].bits >= p.bits) at++;
    for (int i = n; i > at; i--) list[i] = list[i - 1];
    list[at] = p;
    return n + 1;
}

int qt_model_precisions(const qt_model *m, qt_precision list[QT_MAX_PRECISIONS])
{
    int n = 0;
    for (int i = 0; i < m->n; i++) {
        const qt_site *site[2] = {m->m[i].weight, m->m[i].act};
        for (int k = 0; k < 2; k++) {
            qt_precision own[QT_MAX_PRECISIONS];
            int          count = site[k] ? qt_site_precisions(site[k], own) : 0;
            for (int j = 0; j < count; j++) n = insert(own[j], list, n);
        }
    }
    return n;
}

qt_err qt_precisions_check(qt_model *m)
{
    qt_precision list[QT_MAX_PRECISIONS];
    int          n = qt_model_precisions(m, list);
    for (int i = 0; i < m->n; i++)
        if (!m->m[i].layer) return QT_OK; /* its own error has been reported */
    for (int i = 0; i < n; i++) {
        switch_sites(m, list[i]);
        QT_TRY(qt_model_follow(m));
    }
    qt_model_switch(m, (qt_precision){0});
    return QT_OK;
}
