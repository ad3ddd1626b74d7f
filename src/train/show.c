/* Recipes for people and for resolved.yaml, and what a model costs. */
#include "train/train.h"
#include <string.h>

/* The tree with its name and seed, without some keys. */
static qt_err trimmed(const qt_recipe *r, int n, const char *const *drop, qt_yaml **out)
{
    qt_arena *a = r->arena;
    char     *seed = qt_arena_sprintf(a, "%lld", (long long)r->seed);
    qt_yaml  *y = qt_yaml_copy(a, r->tree);
    qt_pos    none = {0};
    if (!y || !seed) return QT_EMEM;
    for (int i = 0; i < n; i++)
        if (qt_yaml_get(y, drop[i])) QT_TRY(qt_yaml_remove(a, y, drop[i], none));
    if (!qt_yaml_get(y, "name")) QT_TRY(qt_yaml_put(a, y, "name", qt_yaml_scalar(a, r->name, none)));
    QT_TRY(qt_yaml_put(a, y, "seed", qt_yaml_scalar(a, seed, none)));
    *out = y;
    return QT_OK;
}

qt_err qt_recipe_print(FILE *f, const qt_recipe *r, const qt_yaml *data)
{
    static const char *const drop[] = {"vars", "arms", "claims", "seeds", "tags", "doc", "paper"};
    qt_yaml                 *y;
    QT_TRY(trimmed(r, sizeof drop / sizeof *drop, drop, &y));
    QT_TRY(qt_yaml_put(r->arena, y, "data", qt_yaml_copy(r->arena, data)));
    qt_yaml_print(f, y);
    return QT_OK;
}

static int64_t parameters(const qt_module *m)
{
    int64_t n = 0;
    for (int i = 0; i < QT_MODULE_PARAMS; i++)
        if (m->p[i] && m->p[i]->flags & QT_NEEDS_GRAD) n += m->p[i]->n;
    return n;
}

static void bits(char buf[16], const qt_module *m, qt_site *q)
{
    if (q) snprintf(buf, 16, "%.3g", q->quant->bits(q));
    else snprintf(buf, 16, m->layer->quantizes ? "32" : "-");
}

static void print_cost(FILE *f, const qt_model *m)
{
    int64_t sum_p = 0, sum_macs = 0, sum_int = 0;
    fprintf(f, "# %-24s %-16s %-20s %12s %14s %7s %7s %7s\n", "layer", "kind", "output", "parameters", "multiply-adds", "w bits", "a bits",
            "engine");
    for (int i = 0; i < m->n; i++) {
        const qt_module *l = &m->m[i];
        char             shape[96], w[16], a[16];
        int64_t          p = parameters(l), macs = l->layer->macs ? l->layer->macs(l) : 0;
        bits(w, l, l->weight), bits(a, l, l->act);
        fprintf(f, "# %-24s %-16s %-20s %12lld %14lld %7s %7s %7s\n", l->path, l->layer->d.name, qt_shape_text(&l->out_shape, shape),
                (long long)p, (long long)macs, w, a, !l->layer->quantizes ? "-" : l->integer ? "int" : "float");
        sum_p += p, sum_macs += macs, sum_int += l->integer ? macs : 0;
    }
    fprintf(f, "# %-24s %-16s %-20s %12lld %14lld   %.0f %% of them in integers\n", "sum", "", "", (long long)sum_p, (long long)sum_macs,
            sum_macs ? 100 * (double)sum_int / (double)sum_macs : 0);
}

/* One sample of zeros through the model: afterwards each module knows whether it computes in integers. */
static qt_err run_once(const qt_recipe *r, qt_store *s, qt_model *m)
{
    int64_t  dim[QT_MAX_DIM] = {1};
    qt_tape *t = qt_tape_new();
    if (!t) return QT_EMEM;
    memcpy(dim + 1, m->in.dim, (size_t)m->in.rank * sizeof *dim);
    qt_tape_mode(t, true, false);
    qt_tape_simulate(t, r->engine_float);
    qt_err e = qt_store_seal(s, 0);
    if (e == QT_OK) qt_model_forward(t, m, m->in.ids ? qt_input_ids(t, 2, dim) : qt_input(t, 1 + m->in.rank, dim)), e = qt_tape_error(t);
    qt_tape_free(t);
    return e;
}

static qt_err show_cost(FILE *f, qt_recipe *r)
{
    qt_data  *data;
    qt_model *m;
    QT_TRY(qt_data_read(r->arena, r->data, &data));
    const qt_data_info *info = qt_data_info_of(data);
    qt_shape            in = {.rank = info->rank, .ids = info->ids};
    if (!info->known) return fprintf(f, "# the shape of the data is known only when they are read\n"), QT_OK;
    memcpy(in.dim, info->dim, sizeof in.dim);
    qt_store *s = qt_store_new((uint64_t)r->seed);
    if (!s) return QT_EMEM;
    qt_err e = qt_model_build(r->arena, s, r->model, r->quant, in, info->classes, &m);
    if (e == QT_OK) e = run_once(r, s, m);
    if (e == QT_OK) print_cost(f, m);
    qt_store_free(s);
    return e;
}

qt_err qt_recipe_show(FILE *f, qt_recipe *r, bool cost)
{
    static const char *const drop[] = {"vars"};
    qt_yaml                 *y;
    QT_TRY(trimmed(r, 1, drop, &y));
    qt_yaml_print(f, y);
    return cost ? show_cost(f, r) : QT_OK;
}
