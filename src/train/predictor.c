/* A predictor: three hidden layers with ReLU, one linear output, trained by Adam on the squared error with a rate that falls to 0. Targets are
 * brought to mean 0 and deviation 1 first, as accuracies that differ by a thousandth would drown in the start values otherwise. It is
 * made of the same tape, operations and optimizer as the models that are searched.
 *
 * Kendall's tau-b: with C pairs in the same order, D in opposite order and P pairs in all, of which Ta (Tb) are equal in a (in b),
 *     tau = (C - D) / sqrt((P - Ta) (P - Tb)).                                            Kendall, Biometrika 33, 1945 */
#include "train/predictor.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

enum { LAYERS = 4 };

struct qt_predictor {
    qt_store     *store;
    qt_tape      *tape;
    qt_optimizer *optim;
    qt_tensor    *w[LAYERS], *b[LAYERS];
    int64_t       inputs;
    double        mean, deviation;
};

static qt_err add_layer(qt_predictor *p, int k, int64_t in, int64_t out)
{
    char name[2][16];
    snprintf(name[0], sizeof name[0], "%d.weight", k), snprintf(name[1], sizeof name[1], "%d.bias", k);
    p->w[k] = qt_param_add(p->store, name[0], QT_WEIGHT, QT_INIT_FAN_IN(in), 2, (int64_t[]){out, in});
    p->b[k] = qt_param_add(p->store, name[1], QT_BIAS, QT_INIT_FAN_IN(in), 1, &out);
    return p->w[k] && p->b[k] ? QT_OK : QT_EMEM;
}

static qt_err build(qt_predictor *p, uint64_t seed, int64_t width)
{
    if (!(p->store = qt_store_new(seed)) || !(p->tape = qt_tape_new())) return QT_EMEM;
    for (int k = 0; k < LAYERS; k++) QT_TRY(add_layer(p, k, k ? width : p->inputs, k < LAYERS - 1 ? width : 1));
    QT_TRY(qt_store_seal(p->store, 2));
    return (p->optim = qt_optimizer_new(p->store, "{use: adam, lr: 1e-3}")) ? QT_OK : QT_EMEM;
}

qt_err qt_predictor_new(uint64_t seed, int64_t inputs, int64_t width, qt_predictor **out)
{
    qt_predictor *p = qt_alloc(sizeof *p);
    if (!p) return QT_EMEM;
    *p = (qt_predictor){.inputs = inputs, .deviation = 1};
    qt_err e = build(p, seed, width);
    if (e == QT_OK) *out = p;
    else qt_predictor_free(p);
    return e;
}

void qt_predictor_free(qt_predictor *p)
{
    if (!p) return;
    qt_optimizer_free(p->optim), qt_tape_free(p->tape), qt_store_free(p->store);
    qt_free(p);
}

static qt_tensor *forward(qt_predictor *p, int64_t n, const R *x, bool train)
{
    qt_tape_reset(p->tape);
    qt_tape_mode(p->tape, train, train);
    qt_tensor *h = qt_input(p->tape, 2, (int64_t[]){n, p->inputs});
    if (h->data) memcpy(h->data, x, (size_t)h->n * sizeof *x);
    for (int k = 0; k < LAYERS; k++) {
        h = qt_linear(p->tape, h, p->w[k], p->b[k]);
        if (k < LAYERS - 1) h = qt_relu(p->tape, h);
    }
    return h;
}

static void standardize(qt_predictor *p, int64_t n, const double *y)
{
    double sum = 0, sq = 0;
    for (int64_t i = 0; i < n; i++) sum += y[i];
    p->mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) sq += (y[i] - p->mean) * (y[i] - p->mean);
    p->deviation = sq > 0 ? sqrt(sq / (double)n) : 1;
}

qt_err qt_predictor_fit(qt_predictor *p, int64_t n, const R *x, const double *y, int64_t steps)
{
    standardize(p, n, y);
    for (int64_t k = 0; k < steps; k++) {
        qt_tensor *out = forward(p, n, x, true), *target = qt_input(p->tape, 2, (int64_t[]){n, 1});
        for (int64_t i = 0; target->data && i < n; i++) target->data[i] = (R)((y[i] - p->mean) / p->deviation);
        QT_TRY(qt_backward(p->tape, qt_mse(p->tape, out, target)));
        QT_TRY(qt_optimizer_step(p->optim, 1 - (double)k / (double)steps));
    }
    return QT_OK;
}

qt_err qt_predictor_ask(qt_predictor *p, int64_t n, const R *x, double *y)
{
    const qt_tensor *out = forward(p, n, x, false);
    QT_TRY(qt_tape_error(p->tape));
    for (int64_t i = 0; i < n; i++) y[i] = p->mean + p->deviation * (double)out->data[i];
    return QT_OK;
}

double qt_kendall_tau(int n, const double *a, const double *b)
{
    double same = 0, in_a = 0, in_b = 0; /* C - D; pairs that differ in a, and in b */
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) {
            int da = (a[i] > a[j]) - (a[i] < a[j]), db = (b[i] > b[j]) - (b[i] < b[j]);
            same += da * db, in_a += da != 0, in_b += db != 0;
        }
    return in_a && in_b ? same / sqrt(in_a * in_b) : NAN;
}
