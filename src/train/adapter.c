/* The frozen base of adapters. Its values are read once, when a run is built (from what `init` names, or from the initialisation), and are not
 * kept where they are quantized: qt_model_pack makes codes of them, tensor by tensor. Checkpoints hold what is trained and, for each tensor of
 * the base, the SHA-256 of its values; a checkpoint is only loaded onto the base that it was trained on. */
#include "base/par.h"
#include "train/train.h"
#include <string.h>

enum { DIGITS = QT_SHA256_TEXT - 1 };

static int module_of(const qt_model *m, const qt_param *p)
{
    int i = 0;
    while (m->m[i].p[0] != &p->t) i++;
    return i;
}

static qt_err read_values(const qt_run *r, qt_h5 *f, const qt_param *p, R *x)
{
    char name[512];
    snprintf(name, sizeof name, "params/%s", p->t.name);
    if (f) return qt_h5_read(f, name, p->t.n, x);
    return qt_store_init(r->store, p, x), QT_OK;
}

/* The weight has numbers only here. */
static qt_err load_packed(qt_run *r, qt_h5 *f, qt_param *p, char digest[static QT_SHA256_TEXT])
{
    R     *x = qt_alloc((size_t)p->t.n * sizeof *x);
    qt_err e = x ? read_values(r, f, p, x) : QT_EMEM;
    p->t.data = x;
    if (e == QT_OK) e = qt_model_pack(&r->arena, r->model, module_of(r->model, p), r->tape);
    if (e == QT_OK) qt_sha256(x, (size_t)p->t.n * sizeof *x, digest);
    p->t.data = NULL;
    qt_free(x);
    return e;
}

qt_err qt_base_load(qt_run *r, qt_h5 *f)
{
    for (int i = 0; i < r->store->n; i++) {
        qt_param *p = r->store->p[i];
        if (!p->base) continue;
        if (p->outside) QT_TRY(load_packed(r, f, p, r->base[i]));
        else QT_TRY(read_values(r, f, p, p->t.data));
        if (!p->outside) qt_sha256(p->t.data, (size_t)p->t.n * sizeof(R), r->base[i]);
    }
    return QT_OK;
}

/* ---- fingerprints ------------------------------------------------------------------------------------------------------------------- */

qt_err qt_base_write(qt_h5 *f, const qt_run *r)
{
    char name[512];
    for (int i = 0; i < r->store->n; i++) {
        if (!r->store->p[i]->base) continue;
        snprintf(name, sizeof name, "base/%s", r->store->p[i]->t.name);
        QT_TRY(qt_h5_write_bytes(f, name, 1, (int64_t[]){DIGITS}, (const uint8_t *)r->base[i]));
    }
    return QT_OK;
}

/* Appends a name to a list, which ends in dots where it is full. */
static void add_name(char list[static 1024], const char *name)
{
    size_t n = strlen(list);
    if (n < 800) snprintf(list + n, 1024 - n, "%s%s", n ? ", " : "", name);
    else if (list[n - 1] != '.') snprintf(list + n, 1024 - n, ", ...");
}

qt_err qt_base_check(qt_h5 *f, const qt_run *r, const char *file)
{
    char    name[512], differ[1024] = "";
    uint8_t found[DIGITS];
    for (int i = 0; i < r->store->n; i++) {
        const qt_param *p = r->store->p[i];
        if (!p->base) continue;
        snprintf(name, sizeof name, "base/%s", p->t.name);
        QT_TRY(qt_h5_read_bytes(f, name, DIGITS, found));
        if (memcmp(found, r->base[i], DIGITS)) add_name(differ, p->t.name);
    }
    if (!*differ) return QT_OK;
    QT_FAIL(QT_EDATA, "%s: holds an adapter of another base than the one that `init` gives; these tensors differ: %s", file, differ);
}

/* ---- the merged model --------------------------------------------------------------------------------------------------------------- */

static qt_err write_values(qt_h5 *f, const qt_param *p, const R *x)
{
    char name[512];
    snprintf(name, sizeof name, "params/%s", p->t.name);
    return qt_h5_write(f, name, p->t.rank, p->t.dim, x, false);
}

static qt_err write_packed(qt_h5 *f, const qt_run *r, const qt_param *p)
{
    const qt_frozen *w = r->model->m[module_of(r->model, p)].frozen;
    R               *x = qt_alloc((size_t)p->t.n * sizeof *x);
    if (!x) return QT_EMEM;
    for (int64_t n = 0; n < w->codes.N; n += w->rows) qt_frozen_rows(w, n, qt_min_i64(w->rows, w->codes.N - n), x + n * w->codes.K);
    qt_err e = write_values(f, p, x);
    qt_free(x);
    return e;
}

qt_err qt_base_write_merged(qt_h5 *f, const qt_run *r)
{
    for (int i = 0; i < r->store->n; i++) {
        const qt_param *p = r->store->p[i];
        if (qt_lora_owns(r->model, &p->t)) continue;
        QT_TRY(p->outside ? write_packed(f, r, p) : write_values(f, p, p->t.data));
    }
    QT_TRY(qt_h5_put_str(f, "version", qt_version()));
    QT_TRY(qt_h5_put_str(f, "recipe", r->recipe->name));
    return qt_h5_put_int(f, "step", r->step);
}

/* ---- phase merge -------------------------------------------------------------------------------------------------------------------- */

typedef struct merge_cfg {
    const qt_yaml *weights;
    bool           checkpoint;
} merge_cfg;

static const qt_field fields[] = {
    QT_F_TREE(merge_cfg, weights, "~", "quantizer that rounds merged weights whose layer has none (default: they stay numbers)"),
    QT_F_BOOL(merge_cfg, checkpoint, "false", "write ckpt/merged.h5: the values of the model without adapters, for another recipe's `init`"),
    {NULL}};

/* With averages where there are any, for these are what evaluation shows. file NULL: no checkpoint. */
static qt_err merge(qt_run *r, const merge_cfg *c, const char *file)
{
    qt_run_swap_average(r);
    qt_err e = qt_lora_merge(&r->arena, r->model, c->weights, r->tape);
    if (e == QT_OK && file) e = qt_ckpt_save_merged(r, file);
    qt_run_swap_average(r);
    return e;
}

static qt_err run(qt_run *r, const void *cfg)
{
    const merge_cfg *c = cfg;
    qt_result        res;
    char             file[4096];
    snprintf(file, sizeof file, "%s/ckpt/merged.h5", r->dir);
    QT_TRY(merge(r, c, c->checkpoint ? file : NULL));
    QT_TRY(qt_run_eval_event(r, qt_run_eval_split(r), &res));
    qt_run_log(r, "%s  adapters merged  %s loss %.4f", r->arm, qt_split_name[qt_run_eval_split(r)], res.loss);
    return QT_OK;
}

qt_err qt_base_merge_again(qt_run *r)
{
    for (int i = 0; i < r->phase; i++)
        if (r->recipe->phase[i].phase == &qt_phase_merge) QT_TRY(merge(r, r->recipe->phase[i].cfg, NULL));
    return QT_OK;
}

static qt_err check(const qt_recipe *r, int i)
{
    const merge_cfg *c = r->phase[i].cfg;
    const qt_desc   *d;
    void            *cfg;
    char             path[48];
    qt_pos           pos = qt_yaml_get(r->tree, "phases")->pos;
    if (!r->lora) return qt_fail_at(QT_ERECIPE, pos, "phases[%d]: merge has nothing to merge; the recipe has no lora section", i);
    for (int k = 0; k < r->n_phases; k++)
        if ((k > i && r->phase[k].phase == &qt_phase_train) || (k < i && r->phase[k].phase == &qt_phase_merge))
            return qt_fail_at(QT_ERECIPE, pos, "phases[%d]: %s", i,
                              k > i ? "training after merge has no adapters to train" : "merge stands here twice");
    snprintf(path, sizeof path, "phases[%d].weights", i);
    return c->weights ? qt_desc_read(r->arena, &qt_quants, c->weights, path, NULL, &d, &cfg) : QT_OK;
}

const qt_phase qt_phase_merge = {
    {"merge", "make adapters part of the base: exactly for variant qa, otherwise rounded again where weights are quantized", NULL, fields,
     sizeof(merge_cfg)},
    run, check};
