/* The deployment engine: the model of a file that was exported, as the same graph that training evaluates, on a store in which integer weights
 * have no float values. A layer whose weight is there as codes finds them as if its quantizer had just given them, so the engine's answers
 * have the bits of the training graph's evaluation: nothing is computed in another way here. Left out: several threads on one engine. */
#include "export/engine.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

qt_engine *qt_engine_open(const char *file)
{
    qt_engine *e;
    return qt_engine_load(file, &e) == QT_OK ? e : NULL;
}

int64_t qt_engine_inputs(const qt_engine *e) { return e->in_n; }
int64_t qt_engine_outputs(const qt_engine *e) { return e->out_n; }

int64_t qt_engine_vocab(const qt_engine *e) { return e->model->in.ids; }

/* What was filled in, through the model. */
static qt_err answer(qt_engine *e, qt_tensor *in, qt_real *y)
{
    qt_tensor *out = qt_model_forward(e->tape, e->model, in);
    QT_TRY(qt_tape_error(e->tape));
    memcpy(y, out->data, (size_t)out->n * sizeof *y);
    return QT_OK;
}

static void begin(qt_engine *e)
{
    qt_tape_reset(e->tape);
    qt_tape_mode(e->tape, false, false);
}

static qt_err check_id(const qt_engine *e, bool fits, double id, int64_t i)
{
    QT_CHECK(fits, QT_EUSAGE, "%s: token %lld is %.9g, expected an id from 0 to %lld", e->name, (long long)i, id, (long long)e->model->in.ids - 1);
    return QT_OK;
}

/* Texts of the trained length, as numbers. */
static qt_err run_text(qt_engine *e, int64_t n, const qt_real *x, qt_real *y)
{
    qt_tensor *in = qt_input_ids(e->tape, 2, (int64_t[]){n, e->in_n});
    for (int64_t i = 0; in->ids && i < in->n; i++) {
        QT_TRY(check_id(e, x[i] >= 0 && x[i] < (qt_real)e->model->in.ids, (double)x[i], i));
        in->ids[i] = (int32_t)x[i];
    }
    return answer(e, in, y);
}

qt_err qt_engine_run(qt_engine *e, int64_t n, const qt_real *x, qt_real *y)
{
    int64_t    dim[QT_MAX_DIM] = {n};
    qt_tensor *in;
    QT_CHECK(n >= 0, QT_EUSAGE, "%s: a batch of %lld samples", e->name, (long long)n);
    if (!n) return QT_OK;
    begin(e);
    if (e->model->in.ids) return run_text(e, n, x, y);
    memcpy(dim + 1, e->model->in.dim, (size_t)e->model->in.rank * sizeof *dim);
    in = qt_input(e->tape, 1 + e->model->in.rank, dim);
    if (in->data) memcpy(in->data, x, (size_t)in->n * sizeof *x);
    return answer(e, in, y);
}

qt_err qt_engine_tokens(qt_engine *e, int64_t n, int64_t T, const int32_t *ids, qt_real *y)
{
    QT_CHECK(e->model->in.ids, QT_EUSAGE, "%s: the model's input is numbers, not tokens", e->name);
    QT_CHECK(n >= 0 && T >= 0 && T <= e->in_n, QT_EUSAGE, "%s: %lld texts of %lld tokens; a text may have up to %lld", e->name, (long long)n,
             (long long)T, (long long)e->in_n);
    if (!n || !T) return QT_OK;
    for (int64_t i = 0; i < n * T; i++) QT_TRY(check_id(e, ids[i] >= 0 && ids[i] < e->model->in.ids, ids[i], i));
    begin(e);
    qt_tensor *in = qt_input_ids(e->tape, 2, (int64_t[]){n, T});
    if (in->ids) memcpy(in->ids, ids, (size_t)in->n * sizeof *ids);
    return answer(e, in, y);
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

/* ---- a run's engine ---------------------------------------------------------------------------------------------------------------------- */

static qt_err export_to(qt_run *r, const char *file)
{
    qt_snapshot s = {0};
    qt_err      e = qt_snapshot_take(r, &s);
    if (e == QT_OK) e = qt_exporter_h5.write(&s, NULL, file);
    qt_snapshot_free(&s);
    return e;
}

qt_err qt_engine_of_run(qt_run *r, qt_engine **out)
{
    const char *folder = getenv("TMPDIR");
    char       *file = qt_sprintf("%s/qtape-engine-XXXXXX", folder && *folder ? folder : "/tmp");
    int         fd = file ? mkstemp(file) : -1;
    qt_err      e = fd < 0 ? qt_fail(QT_EIO, "%s: cannot write: %s", file ? file : "/tmp", strerror(errno)) : export_to(r, file);
    *out = NULL;
    if (e == QT_OK) e = qt_engine_load(file, out);
    if (fd >= 0) close(fd), unlink(file);
    qt_free(file);
    return e;
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
