/* The deployment engine: the model of a file that was exported, as the same graph that training evaluates, on a store in which integer weights
 * have no float values. A layer whose weight is there as codes finds them as if its quantizer had just given them, so the engine's answers
 * have the bits of the training graph's evaluation: nothing is computed in another way here. Left out: several threads on one engine. */
#include "export/engine.h"
#include <string.h>

qt_engine *qt_engine_open(const char *file)
{
    qt_engine *e;
    return qt_engine_load(file, &e) == QT_OK ? e : NULL;
}

int64_t qt_engine_inputs(const qt_engine *e) { return e->in_n; }
int64_t qt_engine_outputs(const qt_engine *e) { return e->out_n; }

qt_err qt_engine_run(qt_engine *e, int64_t n, const qt_real *x, qt_real *y)
{
    int64_t    dim[QT_MAX_DIM] = {n};
    qt_tensor *in, *out;
    QT_CHECK(n >= 0, QT_EUSAGE, "%s: a batch of %lld samples", e->name, (long long)n);
    if (!n) return QT_OK;
    memcpy(dim + 1, e->model->in.dim, (size_t)e->model->in.rank * sizeof *dim);
    qt_tape_reset(e->tape);
    qt_tape_mode(e->tape, false, false);
    in = e->model->in.ids ? qt_input_ids(e->tape, 1 + e->model->in.rank, dim) : qt_input(e->tape, 1 + e->model->in.rank, dim);
    if (in->data) memcpy(in->data, x, (size_t)in->n * sizeof *x);
    for (int64_t i = 0; in->ids && i < in->n; i++) in->ids[i] = (int32_t)x[i];
    out = qt_model_forward(e->tape, e->model, in);
    QT_TRY(qt_tape_error(e->tape));
    memcpy(y, out->data, (size_t)out->n * sizeof *y);
    return QT_OK;
}

void qt_engine_free(qt_engine *e)
{
    qt_arena arena;
    if (!e) return;
    qt_tape_free(e->tape);
    qt_store_free(e->store);
    arena = e->arena;
    qt_arena_free(&arena);
    qt_free(e);
}

/* ---- evaluation ------------------------------------------------------------------------------------------------------------------------- */

static qt_err read_loss(qt_engine *e, const qt_data_info *info, qt_run *r)
{
    const qt_desc *loss, *metric;
    const qt_yaml *y = qt_yaml_get(e->recipe, "loss"), *m = qt_yaml_get(e->recipe, "metric");
    void          *cfg;
    if (!y) y = qt_yaml_scalar(&e->arena, info->classes ? "cross_entropy" : "mse", (qt_pos){0});
    if (!y) return QT_EMEM;
    QT_TRY(qt_desc_read(&e->arena, &qt_losses, y, "loss", NULL, &loss, &r->loss_cfg));
    r->loss = (const qt_loss *)loss;
    if (!m) return QT_OK;
    QT_TRY(qt_desc_read(&e->arena, &qt_metrics, m, "metric", NULL, &metric, &cfg));
    r->recipe->metric = (const qt_metric *)metric;
    return QT_OK;
}

qt_err qt_engine_as_run(qt_engine *e, qt_run *r)
{
    const qt_yaml *section = qt_yaml_get(e->recipe, "data"), *batch = qt_yaml_get(qt_yaml_get(e->recipe, "train"), "eval_batch_size");
    qt_recipe     *rc = qt_arena_zalloc(&e->arena, sizeof *rc);
    *r = (qt_run){.recipe = rc, .store = e->store, .model = e->model, .tape = e->tape, .lock = -1};
    if (!rc) return QT_EMEM;
    rc->name = e->name, rc->seed = e->seed;
    if (!batch || !qt_yaml_int(batch, &rc->train.eval_batch_size) || rc->train.eval_batch_size < 1) rc->train.eval_batch_size = 256;
    QT_CHECK(section, QT_EDATA, "%s: the exported recipe names no data", e->name);
    QT_TRY(qt_data_read(&e->arena, section, &r->data));
    QT_TRY(qt_data_open(r->data, (uint64_t)e->seed));
    const qt_data_info *info = qt_data_info_of(r->data);
    qt_shape            in = {.rank = info->rank, .ids = info->ids};
    memcpy(in.dim, info->dim, (size_t)info->rank * sizeof *in.dim);
    QT_CHECK(qt_shape_same(&in, &e->model->in) && info->classes == e->classes, QT_EDATA, "%s: the data are not those that it was exported with",
             e->name);
    return read_loss(e, info, r);
}
