/* Curvature of a run's loss along its layers (hessian.c). */
#ifndef QT_TRAIN_HESSIAN_H
#define QT_TRAIN_HESSIAN_H
#include "autograd/curvature.h"
#include "train/train.h"

/* The layers with weights of their own that are trained, into layer [m->n]; with `switched` only those whose weight holds several precisions. The
 * count. */
int qt_hessian_layers(const qt_model *m, bool switched, const qt_module **layer);
/* Traces t [n] of the Hessian for the layers' weights, on so many training samples, the quantizers being off. */
qt_err qt_run_traces(qt_run *r, int64_t images, int draws, int n, const qt_module *const *layer, qt_trace *t);
#endif
