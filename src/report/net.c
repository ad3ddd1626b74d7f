/* A run directory's model for looking at: see net.h. */
#include "report/net.h"
#include <string.h>

static qt_err shape_of(qt_net *n, qt_shape *in, int64_t *classes)
{
    qt_data *d;
    qt_err   e = qt_data_read(&n->arena, n->recipe->data, &d);
    if (e == QT_OK && !qt_data_info_of(d)->known) e = qt_data_open(d, (uint64_t)n->recipe->seed);
    if (e == QT_OK) {
        const qt_data_info *info = qt_data_info_of(d);
        *in = (qt_shape){.rank = info->rank, .ids = info->ids}, *classes = info->classes;
        memcpy(in->dim, info->dim, sizeof in->dim);
    }
    qt_data_close(d);
    return e;
}

static qt_err read_param(qt_h5 *f, const char *file, qt_param *p)
{
    char    name[512];
    int     rank;
    int64_t dim[8];
    snprintf(name, sizeof name, "params/%s", p->t.name);
    QT_CHECK(qt_h5_has(f, name), QT_EDATA, "%s: has no parameter %s", file, p->t.name);
    QT_TRY(qt_h5_shape(f, name, &rank, dim));
    QT_CHECK(rank == p->t.rank && !memcmp(dim, p->t.dim, (size_t)rank * sizeof *dim), QT_EDATA, "%s: %s has another shape than the recipe gives it", file,
             p->t.name);
    return qt_h5_read(f, name, p->t.n, p->t.data);
}

static qt_err read_values(qt_net *n, const char *file)
{
    qt_h5 *f;
    QT_TRY(qt_ckpt_verify(file));
    QT_TRY(qt_h5_open(file, &f));
    qt_err e = QT_OK;
    for (int i = 0; i < n->store->n && e == QT_OK; i++) e = read_param(f, file, n->store->p[i]);
    qt_h5_close(f);
    return e;
}

static qt_err build(qt_net *n, const char *dir)
{
    const char *recipe = qt_arena_sprintf(&n->arena, "%s/resolved.yaml", dir), *file = qt_arena_sprintf(&n->arena, "%s/ckpt/last.h5", dir);
    qt_shape    in;
    int64_t     classes;
    if (!recipe || !file) return QT_EMEM;
    QT_CHECK(qt_file_exists(file), QT_EIO, "%s: is not there", file);
    QT_TRY(qt_recipe_load(&n->arena, recipe, 0, NULL, NULL, &n->recipe));
    QT_CHECK(!n->recipe->lora, QT_EUSAGE, "%s: a run with adapters, whose checkpoint does not hold the base", dir);
    QT_TRY(shape_of(n, &in, &classes));
    if (!(n->store = qt_store_new((uint64_t)n->recipe->seed))) return QT_EMEM;
    QT_TRY(qt_model_build(&n->arena, n->store, n->recipe->model, n->recipe->quant, in, classes, &n->model));
    QT_TRY(qt_store_seal(n->store, 0));
    return read_values(n, file);
}

qt_err qt_net_open(qt_net *n, const char *dir)
{
    *n = (qt_net){0};
    qt_err e = build(n, dir);
    if (e) qt_net_close(n);
    return e;
}

void qt_net_close(qt_net *n)
{
    qt_store_free(n->store);
    qt_arena_free(&n->arena);
    *n = (qt_net){0};
}
