/* Subnets of a model whose sites hold several precisions: which one runs is what each site is switched to. */
#include "train/train.h"
#include <string.h>

/* How near a precision comes to the one wanted: bits count more than symmetry, symmetry more than granularity. */
static int nearness(qt_precision a, qt_precision b)
{
    return 4 * (a.bits == b.bits) + 2 * (a.asymmetric == b.asymmetric) + (a.channel == b.channel);
}

void qt_subnet_switch(qt_site *q, qt_precision p)
{
    qt_precision list[QT_MAX_PRECISIONS];
    int          n = qt_site_precisions(q, list), best = 0;
    for (int k = 1; k < n; k++)
        if (nearness(list[k], p) > nearness(list[best], p)) best = k;
    if (n) qt_site_switch(q, list[best]);
}

void qt_subnet_uniform(qt_run *r, qt_precision p)
{
    for (int i = 0; i < r->store->n_site; i++) qt_subnet_switch(r->store->site[i], p);
    qt_model_follow(r->model);
}

void qt_subnet_draw(qt_run *r, qt_rng *draw, qt_subnet_bits which)
{
    for (int i = 0; i < r->store->n_site; i++) {
        qt_precision list[QT_MAX_PRECISIONS];
        int          n = qt_site_precisions(r->store->site[i], list), from = 0, to = n;
        if (!n) continue;
        while (which == QT_SUBNET_HIGHEST && list[to - 1].bits < list[0].bits) to--;
        while (which == QT_SUBNET_LOWEST && list[from].bits > list[n - 1].bits) from++;
        qt_site_switch(r->store->site[i], list[from + (int)qt_rng_below(draw, (uint64_t)(to - from))]);
    }
    qt_model_follow(r->model);
}

void qt_subnet_keep(const qt_run *r, qt_precision *p)
{
    for (int i = 0; i < r->store->n_site; i++) p[i] = r->store->site[i]->now;
}

void qt_subnet_restore(qt_run *r, const qt_precision *p)
{
    for (int i = 0; i < r->store->n_site; i++) r->store->site[i]->now = p[i];
    qt_model_follow(r->model);
}

qt_err qt_subnet_aside(qt_run *r, const void *cfg, qt_err (*work)(qt_run *r, const void *cfg))
{
    size_t        n = (size_t)r->store->size * sizeof(R);
    R            *value = qt_alloc(n);
    qt_precision *now = qt_alloc((size_t)r->store->n_site * sizeof *now);
    qt_err        e = QT_EMEM;
    if (value && now) {
        memcpy(value, r->store->value, n);
        qt_subnet_keep(r, now);
        e = work(r, cfg);
        qt_subnet_restore(r, now);
        memcpy(r->store->value, value, n);
    }
    qt_free(value), qt_free(now);
    return e;
}

bool qt_model_elastic(const qt_model *m)
{
    qt_precision list[QT_MAX_PRECISIONS];
    for (int i = 0; i < m->store->n_site; i++)
        if (qt_site_precisions(m->store->site[i], list) > 1) return true;
    return false;
}
