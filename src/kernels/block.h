/* Products of small blocks inside larger arrays, by one thread: C = A B, or C += A B with `add`. A is [M,K] with any strides, so that it may
 * be read as its transpose: A(i,k) = A[i * row + k * col]; B is [K,N] and C [M,N], with rows ldb and ldc apart. A, B and C do not overlap. */
#ifndef QT_KERNELS_BLOCK_H
#define QT_KERNELS_BLOCK_H
#include "qtape.h"
typedef qt_real R;
void qt_block_product(int64_t M, int64_t N, int64_t K, const R *A, int64_t row, int64_t col, const R *B, int64_t ldb, R *C, int64_t ldc, bool add);
/* y [N,M], rows ldy apart = the transpose of x [M,N], rows ldx apart */
void qt_block_transpose(int64_t M, int64_t N, const R *x, int64_t ldx, R *y, int64_t ldy);
#endif
