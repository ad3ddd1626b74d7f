/* A small network that learns a number from examples: what a search asks instead of measuring (predictor.c). */
#ifndef QT_TRAIN_PREDICTOR_H
#define QT_TRAIN_PREDICTOR_H
#include "optim/optim.h"

typedef struct qt_predictor qt_predictor;

/* Hidden layers of `width` units, ReLU between them, one linear output. */
qt_err qt_predictor_new(uint64_t seed, int64_t inputs, int64_t width, qt_predictor **out);
/* Trains on n examples x [n, inputs] -> y [n] by their squared error, all of them in each of `steps` steps. */
qt_err qt_predictor_fit(qt_predictor *p, int64_t n, const R *x, const double *y, int64_t steps);
/* y [n] for x [n, inputs]. */
qt_err qt_predictor_ask(qt_predictor *p, int64_t n, const R *x, double *y);
void   qt_predictor_free(qt_predictor *p);

/* How well two lists of n numbers agree in their order: 1 the same, -1 reversed, about 0 unrelated (Kendall's tau-b); NaN if one of them has
 * no order. */
double qt_kendall_tau(int n, const double *a, const double *b);
#endif
