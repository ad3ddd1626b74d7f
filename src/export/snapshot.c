/* Snapshots: see export.h. One batch goes through the training graph in evaluation mode; what its quantizers gave, and which layers have
 * computed in integers, is then read off the modules. */
#include "export/export.h"
#include <stdlib.h>
#include <string.h>

enum { BATCH = 64 };

/* ---- layers ----------------------------------------------------------------------------------------------------------------------- */

static bool quantized(const qt_site *q) { return q && q->enabled; }
static bool has_codes(const qt_site *q) { return q->last_y && q->last_y->codes; }

static const char *why_float(const qt_run *r, const qt_module *m)
{
    if (m->integer) return NULL;
    if (r->tape->simulate) return "the recipe says engine: float";
    if (!m->weight) return "its weights are not quantized";
    if (m->layer->reads_ids) return "it looks rows up, it multiplies nothing";
    if (!m->weight->enabled) return "quantization has not begun (schedule.fake_quant_after)";
    if (!has_codes(m->weight)) return "its weights have no codes of 8 bits";
    if (!m->act) return "its input is not quantized";
    if (!has_codes(m->act)) return "its input has no codes of 8 bits";
    return "the layout of its scales is not one that the integer kernels take";
}

/* The smallest grid that holds the codes: odd numbers alone, as -1 and 1, are every second one. */
static void fit_grid(qt_snap_layer *l)
{
    const qt_icodes *c = l->w->codes;
    const int8_t    *q = c->q;
    bool             odd = c->lo % 2 && c->hi % 2;
    for (int64_t i = 0; odd && i < c->n; i++) odd = q[i] % 2 != 0;
    l->lo = c->lo, l->hi = c->hi, l->step = odd ? 2 : 1, l->bits = 1;
    while ((l->hi - l->lo) / l->step >> l->bits) l->bits++;
}

static void take_layer(const qt_run *r, const qt_module *m, qt_snap_layer *l)
{
    *l = (qt_snap_layer){m, m->integer, why_float(r, m), quantized(m->weight) ? m->weight->last_y : m->p[0]};
    if (l->integer) fit_grid(l);
}

static qt_err take_layers(qt_snapshot *s)
{
    const qt_model *m = s->run->model;
    if (!(s->layer = qt_arena_zalloc(&s->arena, (size_t)m->n * sizeof *s->layer))) return QT_EMEM;
    for (int i = 0; i < m->n; i++) {
        if (!m->m[i].layer->quantizes) continue;
        take_layer(s->run, &m->m[i], &s->layer[s->n]);
        s->integers += s->layer[s->n++].integer;
    }
    return QT_OK;
}

/* ---- one batch --------------------------------------------------------------------------------------------------------------------- */

/* A format answers numbers: ids are given to it as such. */
static qt_err ids_as_numbers(qt_snapshot *s, const qt_tensor *x)
{
    R *v = qt_arena_alloc(&s->arena, (size_t)x->n * sizeof *v);
    if (!v) return QT_EMEM;
    for (int64_t i = 0; i < x->n; i++) v[i] = (R)x->ids[i];
    s->x = v;
    return QT_OK;
}

static qt_err forward(qt_snapshot *s, const qt_batch *b)
{
    qt_run    *r = s->run;
    qt_tensor *x, *y;
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, false, false);
    r->tape->step = r->step;
    x = qt_run_input(r, b), y = qt_model_forward(r->tape, r->model, x);
    QT_TRY(qt_tape_error(r->tape));
    s->samples = b->n, s->outputs = y->n / b->n, s->y = y->data;
    return x->ids ? ids_as_numbers(s, x) : (s->x = x->data, QT_OK);
}

static qt_err answer_batch(qt_snapshot *s)
{
    qt_run         *r = s->run;
    qt_split        split = qt_data_size(r->data, QT_TEST) ? QT_TEST : qt_run_eval_split(r);
    qt_loader      *l;
    const qt_batch *b = NULL;
    QT_TRY(qt_loader_eval(r->data, split, BATCH, &l));
    qt_err e = qt_loader_next(l, &b);
    if (e == QT_OK && !b) e = qt_fail(QT_EUSAGE, "%s: the data have no samples to export with", r->dir);
    if (e == QT_OK) e = forward(s, b);
    qt_loader_free(l);
    return e;
}

qt_err qt_snapshot_take(qt_run *r, qt_snapshot *s)
{
    *s = (qt_snapshot){.run = r, .averaged = qt_run_swap_average(r)};
    QT_TRY(answer_batch(s));
    QT_TRY(take_layers(s));
    return qt_model_bits(r->model, &s->bits_per_weight, &s->bytes);
}

void qt_snapshot_free(qt_snapshot *s)
{
    if (!s->run) return;
    if (s->averaged) qt_run_swap_average(s->run);
    qt_tape_reset(s->run->tape);
    qt_arena_free(&s->arena);
    s->run = NULL;
}

/* ---- for formats ------------------------------------------------------------------------------------------------------------------- */

bool qt_snapshot_weight_site(const qt_snapshot *s, const qt_site *q)
{
    for (int i = 0; i < s->n; i++)
        if (s->layer[i].m->weight == q) return true;
    return false;
}

static bool weight_state(const qt_snapshot *s, const qt_param *p)
{
    const qt_store *st = s->run->store;
    for (int i = 0; i < st->n_site; i++)
        for (int k = 0; k < QT_SITE_PARAMS; k++)
            if (st->site[i]->p[k] == &p->t) return qt_snapshot_weight_site(s, st->site[i]);
    return false;
}

const R *qt_snapshot_values(const qt_snapshot *s, const qt_param *p)
{
    for (int i = 0; i < s->n; i++)
        if (s->layer[i].m->p[0] == &p->t && qt_module_owns_weight(s->layer[i].m)) return s->layer[i].integer ? NULL : s->layer[i].w->data;
    return weight_state(s, p) ? NULL : p->t.data;
}

bool qt_snapshot_differs(const qt_snapshot *s, const qt_snap_layer *l)
{
    return !l->integer && !qt_module_owns_weight(l->m) && qt_snapshot_values(s, qt_store_param_of(s->run->store, l->m->p[0])) != l->w->data;
}

static qt_err put(qt_arena *a, qt_yaml *map, const char *key, const qt_yaml *value)
{
    return value ? qt_yaml_put(a, map, key, qt_yaml_copy(a, value)) : QT_OK;
}

static qt_err recipe_tree(qt_arena *a, const qt_run *r, qt_yaml **out)
{
    const qt_recipe *rc = r->recipe;
    qt_pos           none = {0};
    qt_yaml         *y = qt_yaml_map(a, none), *train = qt_yaml_map(a, none);
    char            *seed = qt_arena_sprintf(a, "%lld", (long long)rc->seed);
    char            *batch = qt_arena_sprintf(a, "%lld", (long long)rc->train.eval_batch_size);
    if (!y || !train || !seed || !batch) return QT_EMEM;
    QT_TRY(qt_yaml_put(a, y, "name", qt_yaml_scalar(a, rc->name, none)));
    QT_TRY(qt_yaml_put(a, y, "seed", qt_yaml_scalar(a, seed, none)));
    QT_TRY(qt_yaml_put(a, y, "engine", qt_yaml_scalar(a, rc->engine_float ? "float" : "auto", none)));
    QT_TRY(put(a, y, "model", rc->model));
    QT_TRY(put(a, y, "quant", rc->quant));
    QT_TRY(put(a, y, "data", r->data_section));
    QT_TRY(put(a, y, "loss", qt_yaml_get(rc->tree, "loss")));
    QT_TRY(put(a, y, "metric", qt_yaml_get(rc->tree, "metric")));
    QT_TRY(qt_yaml_put(a, train, "eval_batch_size", qt_yaml_scalar(a, batch, none)));
    *out = y;
    return qt_yaml_put(a, y, "train", train);
}

qt_err qt_snapshot_recipe(qt_snapshot *s, char **text)
{
    qt_yaml *y;
    char    *buf = NULL;
    size_t   n = 0;
    QT_TRY(recipe_tree(&s->arena, s->run, &y));
    FILE *f = open_memstream(&buf, &n);
    if (!f) return qt_fail(QT_EMEM, "out of memory");
    qt_yaml_print(f, y);
    QT_TRY(qt_stream_close(QT_OK, f, &buf));
    *text = qt_arena_strdup(&s->arena, buf);
    free(buf);
    return *text ? QT_OK : QT_EMEM;
}
