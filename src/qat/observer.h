/* Observers: from a tensor to the range [lo, hi] that its grid shall span, and from a range to scale and zero point. */
#ifndef QT_QAT_OBSERVER_H
#define QT_QAT_OBSERVER_H
#include "qat/grid.h"

typedef enum qt_observer_kind { QT_OBSERVE_MINMAX, QT_OBSERVE_EMA, QT_OBSERVE_PERCENTILE, QT_OBSERVE_MSE, QT_OBSERVE_ENTROPY } qt_observer_kind;
#define QT_OBSERVERS "minmax|ema|percentile|mse|entropy"

typedef struct qt_observer {
    qt_observer_kind kind;
    bool             symmetric;  /* range [-a, a], zero point 0 */
    R                qn, qp;     /* the codes that the range will be cut into */
    double           percentile, power, ema_constant;
} qt_observer;

/* Range of x for each scale of the layout. Scratch comes from the arena. */
qt_err qt_observe(const qt_observer *o, const qt_tensor *x, qt_layout l, qt_arena *a, R *lo, R *hi);
/* Takes a new range into a running one: minmax keeps the extremes, all others m += ema_constant (new - m); the first sets it. */
void   qt_observe_merge(const qt_observer *o, bool first, int64_t count, const R *new_lo, const R *new_hi, R *lo, R *hi);
/* symmetric: s = max(|lo|, |hi|) / qp, z = 0. Otherwise the range is widened to hold 0, s = (hi - lo) / (qp - qn) and
 * z = clamp(round(qn - lo / s), qn, qp), so that 0 is a code. s >= 1e-8. */
void   qt_range_to_grid(const qt_observer *o, R lo, R hi, R *s, R *z);
/* sum |x - y|^power over the elements of scale k, y = (clamp(round((x - o) / s) + z, qn, qp) - z) s + o. */
double qt_grid_error(const R *x, int64_t n, qt_layout l, int64_t k, R s, R z, R o, R qn, R qp, double power);
/* Smallest and largest element of scale k; NaN is left out, and found where there is nothing else. */
void   qt_scale_min_max(const R *x, int64_t n, qt_layout l, int64_t k, R *lo, R *hi);
#endif
