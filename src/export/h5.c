/* Format h5: a model for qtape's own deployment engine (load.c, engine.c) and for whoever reads HDF5. Behind the seal of 512 bytes (train/seal.c,
 * "QTAPE-MODEL") stand
 *   attributes           format_version 1, version, name, step, seed, real_bits, classes, parameters, bits_per_weight, bytes, and recipe, the
 *                        YAML that the model is built from (model, quant) and evaluated on (data, loss, metric)
 *   input                shape of a sample
 *   ids                  of text: a sample is so many ids below this; missing where it is numbers
 *   layers/PATH/codes    a layer that computes in integers: uint8 [N, bytes a row], packed as bits.h says; N outputs, K = inputs of one
 *   layers/PATH/grid     bits, lo, hi, step: the packed number u stands for the code q = lo + step u <= hi
 *   layers/PATH/scale    [count] of equal parts of the weight in its order: all of it, rows, or groups of a row
 *   layers/PATH/zero     [count], missing if all are 0:          weight = (q - zero) scale
 *   layers/PATH/weight   a layer that computes in floats, is tied to the table of another one, and rounds it in its own way: its weight
 *   sites/PATH           1 if this quantizer, of any tensor but a layer's weight, is switched on
 *   params/NAME          all else: biases, norms with their statistics, quantizers of inputs, weights of layers that compute in float
 * Numbers have the precision of the library that wrote them, float or double: scales decide about bits. */
#include "base/h5.h"
#include "export/bits.h"
#include "export/engine.h"
#include <string.h>

const qt_seal qt_engine_seal = {"QTAPE-MODEL", "exported model", "exported", QT_ENGINE_FORMAT};

static qt_err write_ints(qt_h5 *f, const char *name, int n, const int32_t *v) { return qt_h5_write_ids(f, name, 1, (int64_t[]){n}, v); }

/* ---- integer layers ------------------------------------------------------------------------------------------------------------------ */

static qt_err write_codes(qt_h5 *f, const char *name, const qt_snap_layer *l)
{
    const qt_icodes *c = l->w->codes;
    int64_t          N = l->w->dim[0], K = c->n / N, row = qt_bits_row(K, l->bits);
    const int8_t    *q = c->q;
    uint8_t         *packed = qt_alloc((size_t)(N * row));
    if (!packed) return QT_EMEM;
    for (int64_t n = 0; n < N; n++)
        for (int64_t k = 0; k < K; k++) qt_bits_put(packed + n * row, k, l->bits, (unsigned)((q[n * K + k] - l->lo) / l->step));
    qt_err e = qt_h5_write_bytes(f, name, 2, (int64_t[]){N, row}, packed);
    qt_free(packed);
    return e;
}

static qt_err write_layer(qt_h5 *f, const qt_snap_layer *l)
{
    const qt_icodes *c = l->w->codes;
    char             name[512];
    size_t           n = (size_t)snprintf(name, sizeof name, "layers/%s/", l->m->path);
    QT_ASSERT(c->is_signed && c->q && c->inner * c->count == c->n);
    snprintf(name + n, sizeof name - n, "codes");
    QT_TRY(write_codes(f, name, l));
    snprintf(name + n, sizeof name - n, "grid");
    QT_TRY(write_ints(f, name, 4, (int32_t[]){l->bits, l->lo, l->hi, l->step}));
    snprintf(name + n, sizeof name - n, "scale");
    QT_TRY(qt_h5_write(f, name, 1, &c->count, c->scale, false));
    snprintf(name + n, sizeof name - n, "zero");
    return c->zero ? qt_h5_write_ids(f, name, 1, &c->count, c->zero) : QT_OK;
}

/* The weight of a tied layer that is not the numbers of the table. */
static qt_err write_own_weight(qt_h5 *f, const qt_snap_layer *l)
{
    char name[512];
    snprintf(name, sizeof name, "layers/%s/weight", l->m->path);
    return qt_h5_write(f, name, l->w->rank, l->w->dim, l->w->data, false);
}

/* ---- the rest ------------------------------------------------------------------------------------------------------------------------ */

static qt_err write_attributes(qt_h5 *f, qt_snapshot *s)
{
    const qt_run *r = s->run;
    char         *recipe;
    QT_TRY(qt_snapshot_recipe(s, &recipe));
    QT_TRY(qt_h5_put_int(f, "format_version", QT_ENGINE_FORMAT));
    QT_TRY(qt_h5_put_str(f, "version", qt_version()));
    QT_TRY(qt_h5_put_str(f, "name", r->recipe->name));
    QT_TRY(qt_h5_put_int(f, "step", r->step));
    QT_TRY(qt_h5_put_int(f, "seed", r->recipe->seed));
    QT_TRY(qt_h5_put_int(f, "real_bits", 8 * sizeof(R)));
    QT_TRY(qt_h5_put_int(f, "classes", qt_data_info_of(r->data)->classes));
    QT_TRY(qt_h5_put_int(f, "parameters", qt_store_trained(r->store)));
    QT_TRY(qt_h5_put_real(f, "bits_per_weight", s->bits_per_weight));
    QT_TRY(qt_h5_put_real(f, "bytes", s->bytes));
    return qt_h5_put_str(f, "recipe", recipe);
}

static qt_err write_sites(qt_h5 *f, const qt_snapshot *s)
{
    const qt_store *st = s->run->store;
    char            name[512];
    for (int i = 0; i < st->n_site; i++) {
        if (st->site[i]->role == QT_ROLE_GRAD || qt_snapshot_weight_site(s, st->site[i])) continue;
        snprintf(name, sizeof name, "sites/%s", st->site[i]->path);
        QT_TRY(write_ints(f, name, 1, (int32_t[]){st->site[i]->enabled}));
    }
    return QT_OK;
}

static qt_err write_params(qt_h5 *f, const qt_snapshot *s)
{
    const qt_store *st = s->run->store;
    char            name[512];
    for (int i = 0; i < st->n; i++) {
        const qt_tensor *t = &st->p[i]->t;
        const R         *v = qt_snapshot_values(s, st->p[i]);
        snprintf(name, sizeof name, "params/%s", t->name);
        if (v) QT_TRY(qt_h5_write(f, name, t->rank, t->dim, v, false));
    }
    return QT_OK;
}

static qt_err write_all(qt_h5 *f, qt_snapshot *s)
{
    const qt_shape *in = &s->run->model->in;
    int32_t         dim[QT_MAX_DIM];
    for (int i = 0; i < in->rank; i++) dim[i] = (int32_t)in->dim[i];
    QT_TRY(write_attributes(f, s));
    QT_TRY(write_ints(f, "input", in->rank, dim));
    if (in->ids) QT_TRY(write_ints(f, "ids", 1, (int32_t[]){(int32_t)in->ids}));
    for (int i = 0; i < s->n; i++)
        if (s->layer[i].integer) QT_TRY(write_layer(f, &s->layer[i]));
        else if (qt_snapshot_differs(s, &s->layer[i])) QT_TRY(write_own_weight(f, &s->layer[i]));
    QT_TRY(write_sites(f, s));
    return write_params(f, s);
}

static qt_err write(qt_snapshot *s, const void *cfg, const char *file)
{
    qt_h5 *f;
    (void)cfg;
    QT_TRY(qt_h5_create(file, QT_H5_USERBLOCK, &f));
    qt_err e = write_all(f, s), closed = qt_h5_close(f);
    if (e == QT_OK) e = closed;
    return e == QT_OK ? qt_seal_write(&qt_engine_seal, file) : e;
}

static qt_err answer(const char *file, int64_t n, const R *x, R *y)
{
    qt_engine *e;
    QT_TRY(qt_engine_load(file, &e));
    qt_err got = qt_engine_run(e, n, x, y);
    qt_engine_free(e);
    return got;
}

const qt_exporter qt_exporter_h5 = {
    {"h5", "HDF5 for qtape's own engine: packed integer weights, scales, the recipe's model", NULL, NULL, 0}, "h5", QT_ENGINE_FORMAT, qt_export_run,
    write, answer};
