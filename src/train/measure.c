/* Numbers about layers as `measure` events. Claims speak of a number as measure.WHAT.NAME, NAME beginning with a layer's path. The path of an
 * event goes up to the last dot and its keys come after it, so numbers of the layers of one group are one event:
 *
 *     conv1, conv2, total of orthogonal        {"event": "measure", "path": "orthogonal", "conv1": .., "conv2": .., "total": ..}
 *     blk.0.conv1, blk.0.conv2                 {"event": "measure", "path": "orthogonal.blk.0", "conv1": .., "conv2": ..}
 *
 * Every evaluation measures the terms of the `regularize` section in this way: for each layer its value without the weight W, and as `total`
 * the sum or mean that is in the loss. */
#include "train/train.h"
#include <string.h>

/* Length of what stands before the last dot, 0 if there is none. */
static size_t stem(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? (size_t)(dot - name) : 0;
}

static bool together(const char *a, const char *b) { return stem(a) == stem(b) && !strncmp(a, b, stem(a)); }

/* The event of name[i] and all later ones of its group. key and value: room for n. */
static void group_event(qt_run *r, const char *what, int n, const char *const *name, const double *v, int i, const char **key, double *value)
{
    size_t at = stem(name[i]);
    char   path[512];
    int    m = 0;
    snprintf(path, sizeof path, "%s%s%.*s", what, at ? "." : "", (int)at, name[i]);
    for (int k = i; k < n; k++)
        if (together(name[i], name[k])) key[m] = name[k] + at + (at > 0), value[m++] = v[k];
    qt_metrics_measure(r, path, m, key, value);
}

qt_err qt_measure_layers(qt_run *r, const char *what, int n, const char *const *name, const double *v)
{
    qt_arena     a = {0};
    const char **key = qt_arena_alloc(&a, (size_t)n * sizeof *key);
    double      *value = qt_arena_alloc(&a, (size_t)n * sizeof *value);
    for (int i = 0; key && value && i < n; i++) {
        int k = 0;
        while (!together(name[k], name[i])) k++;
        if (k == i) group_event(r, what, n, name, v, i, key, value);
    }
    qt_arena_free(&a);
    return key && value ? QT_OK : QT_EMEM;
}

/* ---- regularizers ---------------------------------------------------------------------------------------------------------- */

static qt_err measure_term(qt_run *r, const qt_term *term, qt_arena *a)
{
    const char **name = qt_arena_alloc(a, (size_t)(term->n + 1) * sizeof *name);
    double      *v = qt_arena_zalloc(a, (size_t)(term->n + 1) * sizeof *v), *total;
    if (!name || !v) return QT_EMEM;
    total = v + term->n;
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, false, false);
    for (int k = 0; k < term->n; k++) {
        const qt_tensor *value = qt_term_value(r->tape, r->model, term, k);
        QT_TRY(qt_tape_error(r->tape));
        name[k] = r->model->m[term->module[k]].path, v[k] = (double)value->data[0], *total += v[k];
    }
    if (((const qt_regularizer_base *)term->cfg)->reduce) *total /= term->n;
    name[term->n] = "total";
    return qt_measure_layers(r, term->name, term->n + 1, name, v);
}

qt_err qt_measure_terms(qt_run *r)
{
    qt_arena a = {0};
    qt_err   e = QT_OK;
    if (!r->model->n_terms) return QT_OK;
    r->tape->thrifty = false;
    qt_run_swap_average(r);
    for (int i = 0; i < r->model->n_terms && e == QT_OK; i++) e = measure_term(r, &r->model->term[i], &a), qt_arena_reset(&a);
    qt_run_swap_average(r);
    r->tape->thrifty = r->model->thrifty;
    qt_tape_reset(r->tape), qt_arena_free(&a);
    return e;
}

bool qt_term_measures(const qt_model *m, const char *metric)
{
    for (int i = 0; i < m->n_terms; i++) {
        const qt_term *r = &m->term[i];
        size_t         n = strlen(r->name);
        if (strncmp(metric, r->name, n) || metric[n] != '.') continue;
        if (!strcmp(metric + n + 1, "total")) return true;
        for (int k = 0; k < r->n; k++)
            if (!strcmp(metric + n + 1, m->m[r->module[k]].path)) return true;
    }
    return false;
}
