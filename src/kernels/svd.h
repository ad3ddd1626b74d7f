/* Singular values of small complex matrices. */
#ifndef QT_KERNELS_SVD_H
#define QT_KERNELS_SVD_H
#include <stdint.h>

/* Smallest and largest singular value of the matrix whose columns (or rows) are n vectors of m >= n complex numbers, re and im side by side, one
 * vector after the other. v is overwritten: its vectors become orthogonal. */
void qt_svd_range(int64_t n, int64_t m, double *v, double *least, double *most);
#endif
