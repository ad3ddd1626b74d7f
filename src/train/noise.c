/* The noise meter of quantized gradients. At an evaluation during training two batches of the training split, in order, give each layer the
 * gradient G that it has when nothing in backward is quantized, and per grad site one `quant` event says what quantizing it costs, as
 * noise power over signal power, from four draws of each batch:
 *
 *   nmse_channel, nmse_sample    G itself, with scales along output channels (for dx) and along samples and places (for dw);
 *   ..._tensor, ..._exact        the same with one scale for all, and with a scale of its own for each
 *   nmse_dx, nmse_dw             the layer's gradients of its input and weight against those of its float products
 *   nmse_dx_nearest, nmse_dw_nearest     the same, rounded to the nearest code
 *   octaves_channel, octaves_sample      how many channels, or samples and places, have a range of 0, 1, 2 ... octaves below the largest;
 *                                        the last number counts all that are still smaller
 *
 * The run itself is left as it was: what batch norm and observers learn from these batches is undone. */
#include "base/par.h"
#include "kernels/reduce.h"
#include "train/train.h"
#include <math.h>
#include <string.h>

enum { BATCHES = 2, DRAWS = 4 };
enum { TENSOR, SHIFT, EXACT, SCHEMES };
enum { STOCHASTIC, NEAREST, ROUNDINGS };

typedef struct noise {
    double signal, g[2][SCHEMES];                /* [channel, sample] */
    double signal_dx, signal_dw, dx[ROUNDINGS], dw[ROUNDINGS];
    double scale, zeros;
    int64_t octaves[2][QT_SHIFTQ_GROUPS];
} noise;

/* ---- G itself -------------------------------------------------------------------------------------------------------------- */

QT_CLONES static int64_t zeros_of(const int8_t *q, int64_t n)
{
    int64_t zeros = 0;
    for (int64_t i = 0; i < n; i++) zeros += q[i] == 0;
    return zeros;
}

/* Adds the power of the error of each draw. [A,C,B] as in kernels/shiftq.h; the arena is for memory on the way. */
static qt_err add_scheme(const qt_shiftq *p, const R *G, qt_arena *a, double *power, noise *v)
{
    const int64_t n = p->A * p->C * p->B, keys = qt_shiftq_keys(p);
    uint8_t      *e = qt_arena_alloc(a, (size_t)keys);
    R            *s = qt_arena_alloc(a, (size_t)keys * sizeof *s), *values = qt_arena_alloc(a, (size_t)n * sizeof *values);
    int8_t       *q = qt_arena_alloc(a, (size_t)n);
    if (!e || !s || !values || !q) return QT_EMEM;
    const double scale = (double)qt_shiftq_scales(p, G, e, s);
    if (v) v->scale = scale;
    for (uint64_t draw = 0; draw < DRAWS; draw++) {
        const qt_rng u = qt_rng_at(draw, 1);
        qt_shiftq_codes(p, G, s, &u, q);
        qt_shiftq_values(p, q, s, values);
        *power += qt_reduce_distance_sq(values, G, n);
        if (v) v->zeros += (double)zeros_of(q, n);
    }
    return QT_OK;
}

/* Ranges of a batch: the groups they would fall into if there were so many. */
static qt_err add_octaves(qt_shiftq p, const R *G, qt_arena *a, int64_t octaves[QT_SHIFTQ_GROUPS])
{
    int64_t  keys = qt_shiftq_keys(&p);
    uint8_t *e = qt_arena_alloc(a, (size_t)keys);
    R       *s = qt_arena_alloc(a, (size_t)keys * sizeof *s);
    if (!e || !s) return QT_EMEM;
    p.groups = QT_SHIFTQ_GROUPS, p.exact = false;
    qt_shiftq_scales(&p, G, e, s);
    for (int64_t k = 0; k < keys; k++) octaves[e[k]]++;
    return QT_OK;
}

static qt_err add_schemes(const qt_module *m, const qt_tensor *y, qt_arena *a, noise *v)
{
    qt_shiftq how;
    bool      image = y->rank == 4;
    m->gradq->quant->gradient(m->gradq, &how);
    how.A = image ? y->dim[0] : y->n / y->dim[y->rank - 1], how.C = image ? y->dim[1] : y->dim[y->rank - 1];
    how.B = image ? y->dim[2] * y->dim[3] : 1;
    how.nearest = false;
    for (int axis = 0; axis < 2; axis++) {
        how.pairs = axis == 1;
        QT_TRY(add_octaves(how, y->grad, a, v->octaves[axis]));
        v->g[1][TENSOR] = v->g[0][TENSOR]; /* one scale for all is the same along both */
        for (int k = axis ? SHIFT : TENSOR; k < SCHEMES; k++) {
            qt_shiftq p = how;
            p.exact = k == EXACT;
            if (k == TENSOR) p.groups = 1;
            QT_TRY(add_scheme(&p, y->grad, a, &v->g[axis][k], k == SHIFT && axis == 0 ? v : NULL));
            qt_arena_reset(a);
        }
    }
    return QT_OK;
}

/* ---- the layer's products ------------------------------------------------------------------------------------------------------ */

/* The layer alone, forward on x and backward from G: its dx and dw. how NULL: float gradients. */
static qt_err alone(qt_tape *t, qt_module *m, const qt_tensor *x, const R *G, const qt_shiftq *how, const R **dx)
{
    qt_tensor *in, *y;
    qt_tape_reset(t);
    in = qt_variable(t, x->rank, x->dim);
    if (t->err) return t->err;
    memcpy(in->data, x->data, (size_t)x->n * sizeof(R));
    memset(m->p[0]->grad, 0, (size_t)m->p[0]->n * sizeof(R));
    m->gradq->enabled = how != NULL, m->trial = how;
    t->path = m->path;
    y = m->layer->forward(t, m, &in);
    m->gradq->enabled = false, m->trial = NULL;
    QT_TRY(t->err);
    *dx = in->grad;
    return qt_backward_from(t, y, G);
}

static qt_err add_products(qt_tape *t, qt_module *m, const qt_tensor *x, const R *G, int draws, qt_arena *a, noise *v)
{
    qt_shiftq how;
    const R  *dx;
    R        *dx0 = qt_arena_alloc(a, (size_t)x->n * sizeof(R)), *dw0 = qt_arena_alloc(a, (size_t)m->p[0]->n * sizeof(R)), *dw = m->p[0]->grad;
    if (!dx0 || !dw0) return QT_EMEM;
    QT_TRY(alone(t, m, x, G, NULL, &dx));
    memcpy(dx0, dx, (size_t)x->n * sizeof(R)), memcpy(dw0, dw, (size_t)m->p[0]->n * sizeof(R));
    v->signal_dx += draws * qt_reduce_sum_sq(dx0, x->n), v->signal_dw += draws * qt_reduce_sum_sq(dw0, m->p[0]->n);
    m->gradq->quant->gradient(m->gradq, &how);
    for (int k = 0; k < ROUNDINGS; k++)
        for (int d = 0; d < draws; d++) {
            how.nearest = k == NEAREST;
            t->step = d;
            QT_TRY(alone(t, m, x, G, &how, &dx));
            v->dx[k] += qt_reduce_distance_sq(dx, dx0, x->n), v->dw[k] += qt_reduce_distance_sq(dw, dw0, m->p[0]->n);
        }
    return QT_OK;
}

/* ---- batches ------------------------------------------------------------------------------------------------------------------- */

static void enable(qt_run *r, bool grads, bool observing)
{
    for (int i = 0; i < r->store->n_site; i++) {
        if (r->store->site[i]->role == QT_ROLE_GRAD) r->store->site[i]->enabled = grads;
        else r->store->site[i]->observing = observing && r->store->site[i]->observing;
    }
}

static qt_err add_batch(qt_run *r, const qt_batch *b, qt_tape *t, noise *v)
{
    qt_tensor *out, *loss;
    qt_arena   a = {0};
    qt_err     e = QT_OK;
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, true, true);
    loss = qt_run_forward(r, b, &out);
    r->tape->keep = true;
    QT_TRY(qt_backward(r->tape, loss));
    enable(r, false, false);
    for (int i = 0; i < r->model->n && e == QT_OK; i++) {
        qt_module       *m = &r->model->m[i];
        const qt_tensor *y = r->model->value[i], *x = m->gradq && m->in[0] >= 0 ? r->model->value[m->in[0]] : r->model->x;
        if (!m->gradq || !y->grad) continue;
        v[i].signal += DRAWS * qt_reduce_sum_sq(y->grad, y->n);
        e = add_schemes(m, y, &a, &v[i]);
        if (e == QT_OK) e = add_products(t, m, x, y->grad, DRAWS, &a, &v[i]);
        qt_arena_reset(&a);
    }
    qt_arena_free(&a);
    return e;
}

static qt_err measure(qt_run *r, qt_tape *t, noise *v)
{
    qt_loader      *l;
    const qt_batch *b;
    QT_TRY(qt_loader_eval(r->data, QT_TRAIN, qt_data_batch_size(r->data), &l));
    qt_err e = QT_OK;
    for (int i = 0; i < BATCHES && e == QT_OK; i++) {
        e = qt_loader_next(l, &b);
        if (e != QT_OK || !b) break;
        e = add_batch(r, b, t, v);
    }
    qt_loader_free(l);
    return e;
}

static void report(qt_run *r, const qt_module *m, const qt_tensor *y, const noise *v)
{
    const double *c = v->g[0], *s = v->g[1], S = v->signal;
    qt_site_stats st = {v->scale, 0, v->zeros / (double)(BATCHES * DRAWS * y->n), NAN, 10 * log10(S / c[SHIFT])};
    qt_noise      n = {c[SHIFT] / S, s[SHIFT] / S, c[TENSOR] / S, s[TENSOR] / S, c[EXACT] / S, s[EXACT] / S, v->dx[STOCHASTIC] / v->signal_dx,
                       v->dw[STOCHASTIC] / v->signal_dw, v->dx[NEAREST] / v->signal_dx, v->dw[NEAREST] / v->signal_dw};
    memcpy(n.octaves, v->octaves, sizeof n.octaves);
    qt_metrics_noise(r, m->gradq, &st, &n);
}

/* The run's parameters are kept aside, and its sites as they stand. */
qt_err qt_noise_events(qt_run *r)
{
    size_t   size = (size_t)r->store->size * sizeof(R);
    bool     any = false, *observing;
    qt_arena a = {0};
    R       *values;
    noise   *v;
    qt_tape *t;
    qt_err   e = QT_EMEM;
    for (int i = 0; i < r->model->n; i++) any |= r->model->m[i].gradq && r->model->m[i].gradq->enabled;
    if (!any) return QT_OK;
    observing = qt_arena_alloc(&a, (size_t)r->store->n_site * sizeof *observing);
    values = qt_arena_alloc(&a, size), v = qt_arena_zalloc(&a, (size_t)r->model->n * sizeof *v), t = qt_tape_new();
    if (observing && values && v && t) {
        for (int i = 0; i < r->store->n_site; i++) observing[i] = r->store->site[i]->observing;
        memcpy(values, r->store->value, size);
        t->seed = r->tape->seed, t->simulate = r->tape->simulate;
        enable(r, false, true);
        r->tape->thrifty = false;
        e = measure(r, t, v);
        r->tape->thrifty = r->model->thrifty;
        memcpy(r->store->value, values, size);
        qt_store_zero_grad(r->store);
        for (int i = 0; i < r->model->n && e == QT_OK; i++)
            if (r->model->m[i].gradq && v[i].signal > 0) report(r, &r->model->m[i], r->model->value[i], &v[i]);
        enable(r, true, true);
        for (int i = 0; i < r->store->n_site; i++) r->store->site[i]->observing = observing[i];
    }
    qt_tape_free(t), qt_arena_free(&a);
    qt_tape_reset(r->tape);
    return e;
}
