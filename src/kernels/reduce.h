/* Reductions in a fixed order: lanes, then chunks, whatever the number of threads and the instruction set. */
#ifndef QT_KERNELS_REDUCE_H
#define QT_KERNELS_REDUCE_H
#include "qtape.h"
typedef qt_real R;
double qt_reduce_sum(const R *x, int64_t n);
double qt_reduce_sum_abs(const R *x, int64_t n);
double qt_reduce_sum_sq(const R *x, int64_t n);
double qt_reduce_dot(const R *x, const R *y, int64_t n);
double qt_reduce_distance_sq(const R *x, const R *y, int64_t n); /* sum of (x - y)^2 */
R      qt_reduce_max_abs(const R *x, int64_t n);                   /* 0 for n = 0; NaN if any is */
void   qt_reduce_min_max(const R *x, int64_t n, R *lo, R *hi);     /* 0 for n = 0; both NaN if any is */
void   qt_reduce_sum_rows(const R *x, int64_t rows, int64_t cols, R *y); /* y[c] += sum over rows of x[r,c] */
/* The k-th smallest (0-based) of |x|; work holds n numbers and is overwritten. */
R      qt_reduce_select_abs(const R *x, int64_t n, int64_t k, R *work);
#endif
