/* Singular values of complex matrices. */
#ifndef QT_KERNELS_SVD_H
#define QT_KERNELS_SVD_H
#include <stddef.h>
#include <stdint.h>

/* Numbers of work space that qt_svd_range wants. */
size_t qt_svd_work(int64_t n, int64_t m);
/* Smallest and largest singular value of the matrix whose columns (or rows) are n vectors of m >= n complex numbers, re and im side by side, one
 * vector after the other. v is overwritten. NaN if v is not finite, or LAPACK does not come to an end. May be called by several threads. */
void qt_svd_range(int64_t n, int64_t m, double *v, double *work, double *least, double *most);
#endif
