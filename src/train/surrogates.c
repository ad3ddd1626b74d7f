/* Phase `surrogates`: how far surrogate gradients of the sign point from a true one. All binarized inputs of layers become tanh(k x), which has a
 * derivative, and the gradient g of a parameter in front of them is taken on the first `samples` training images; then again with each surrogate
 * in place of that derivative, the forward pass being the same. Measured, in training mode on the weights as they stand, is the cosine
 *
 *     measure.surrogates.NAME = <g_NAME, g>/(||g_NAME|| ||g||),      NAME of ste, poly, fda (10 terms), identity
 *
 * Weights, statistics and quantizer state of the run stay as they were. */
#include "qat/sign.h"
#include "train/train.h"
#include <math.h>
#include <string.h>

typedef struct config {
    const char *param;
    double      steepness;
    int64_t     samples;
} config;

static const qt_field fields[] = {
    QT_F_STR(config, param, NULL, "the parameter whose gradient is looked at, as stem.weight"),
    QT_F_REAL(config, steepness, "5", 0.01, 100, "k of tanh(k x)"),
    QT_F_INT(config, samples, "256", 1, 1 << 20, "training images, the first ones of the split"),
    {NULL},
};

enum { NAMES = 4 };
static const char *const  names[NAMES] = {"ste", "poly", "fda", "identity"};
static const qt_surrogate kinds[NAMES] = {QT_STE, QT_POLY, QT_FDA, QT_IDENTITY};

static bool is_binarized(const qt_site *q) { return q->role == QT_ROLE_ACT && q->quant->bits(q) == 1; }

static qt_err check_model(qt_arena *a, const void *cfg, const qt_model *m)
{
    const char *param = ((const config *)cfg)->param;
    bool        any = false;
    (void)a;
    for (int i = 0; i < m->store->n_site; i++) any |= is_binarized(m->store->site[i]);
    QT_CHECK(any, QT_ERECIPE, "surrogates: the model has no layer with a binarized input");
    const qt_tensor *p = qt_param_find(m->store, param);
    QT_CHECK(p && p->flags & QT_NEEDS_GRAD, QT_ERECIPE, "surrogates.param: the model has no trained parameter '%s'", param);
    return QT_OK;
}

static void set_sites(const qt_run *r, const qt_smooth *smooth)
{
    for (int i = 0; i < r->store->n_site; i++)
        if (is_binarized(r->store->site[i])) r->store->site[i]->smooth = smooth;
}

/* Forward with tanh, backward with the surrogate: the parameter's gradient into g. */
static qt_err gradient(qt_run *r, const qt_batch *b, qt_smooth how, const R *values, const qt_tensor *param, R *g)
{
    qt_tensor *out;
    memcpy(r->store->value, values, (size_t)r->store->size * sizeof(R));
    qt_store_zero_grad(r->store);
    qt_step_open(r);
    set_sites(r, &how);
    qt_tensor *loss = qt_run_forward(r, b, &out);
    qt_err     e = qt_tape_error(r->tape);
    if (e == QT_OK) e = qt_backward(r->tape, loss);
    set_sites(r, NULL);
    if (e == QT_OK) memcpy(g, param->grad, (size_t)param->n * sizeof *g);
    return e;
}

static double cosine(const R *a, const R *b, int64_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) ab += (double)a[i] * (double)b[i], aa += (double)a[i] * (double)a[i], bb += (double)b[i] * (double)b[i];
    return ab / sqrt(aa * bb);
}

static qt_err compare(qt_run *r, const config *c, const qt_batch *b, qt_arena *a, double *v)
{
    const qt_tensor *param = qt_param_find(r->store, c->param);
    R *values = qt_arena_alloc(a, (size_t)r->store->size * sizeof(R)), *truth = qt_arena_alloc(a, 2 * (size_t)param->n * sizeof(R));
    R  k = (R)c->steepness;
    if (!values || !truth) return QT_EMEM;
    memcpy(values, r->store->value, (size_t)r->store->size * sizeof(R));
    qt_err e = gradient(r, b, (qt_smooth){k, QT_TANH, 0}, values, param, truth);
    for (int i = 0; i < NAMES && e == QT_OK; i++) {
        e = gradient(r, b, (qt_smooth){k, kinds[i], 10}, values, param, truth + param->n);
        v[i] = cosine(truth, truth + param->n, param->n);
    }
    memcpy(r->store->value, values, (size_t)r->store->size * sizeof(R));
    qt_store_zero_grad(r->store);
    qt_tape_reset(r->tape);
    return e;
}

static qt_err run(qt_run *r, const void *cfg)
{
    const config   *c = cfg;
    const qt_batch *b;
    qt_arena        a = {0};
    qt_loader      *l;
    double          v[NAMES] = {0};
    QT_CHECK(qt_data_size(r->data, QT_TRAIN) > 0, QT_EUSAGE, "the data have no split 'train'");
    QT_TRY(qt_loader_eval(r->data, QT_TRAIN, c->samples, &l));
    qt_err e = qt_loader_next(l, &b);
    if (e == QT_OK) e = compare(r, c, b, &a, v);
    qt_loader_free(l), qt_arena_free(&a);
    if (e != QT_OK) return e;
    qt_metrics_measure(r, "surrogates", NAMES, names, v);
    qt_run_log(r, "%s  gradient of %s: cosine %.4f with ste, %.4f with poly", r->arm, c->param, v[0], v[1]);
    return QT_OK;
}

const qt_phase qt_phase_surrogates = {{"surrogates", "surrogate gradients of the sign against that of a steep tanh", NULL, fields, sizeof(config)},
                                      run,
                                      .check_model = check_model,
                                      .gives = "surrogates.ste|surrogates.poly|surrogates.fda|surrogates.identity"};
