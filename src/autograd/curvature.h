/* Second-order tools: products of the Hessian of a loss with a vector, and the trace of its diagonal blocks. */
#ifndef QT_AUTOGRAD_CURVATURE_H
#define QT_AUTOGRAD_CURVATURE_H
#include "autograd/store.h"

/* Adds the gradient of the loss at the store's values to the store's gradients, which are zero when it is called. */
typedef qt_err (*qt_gradient)(void *arg);

/* hv = H v, v and hv [s->size] laid out as the store's values. Values are as before afterwards, gradients zero. */
qt_err qt_hessian_product(qt_store *s, qt_gradient gradient, void *arg, const R *v, R *hv);

typedef struct qt_trace {
    const qt_tensor *param; /* whose block of the Hessian: given */
    double trace, error;    /* the estimate and its standard error (0 for one draw) */
} qt_trace;
/* Traces of the blocks of n parameters, from `draws` products that serve all of them. */
qt_err qt_hessian_traces(qt_store *s, qt_gradient gradient, void *arg, int draws, uint64_t seed, int n, qt_trace *t);
#endif
