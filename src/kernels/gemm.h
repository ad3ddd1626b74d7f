/* Matrix product over OpenBLAS (sgemm, or dgemm in the double build): C = alpha op(A) op(B) + beta C, row-major and contiguous.
 * op(A) is [M,K], op(B) [K,N]. OpenBLAS is called single-threaded on blocks of C whose bounds depend on M, N, K only, never on the
 * number of threads, so the result has the same bits for any. */
#ifndef QT_KERNELS_GEMM_H
#define QT_KERNELS_GEMM_H
#include "qtape.h"
typedef qt_real R;
void qt_gemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, R alpha, const R *A, const R *B, R beta, R *C);
/* The same for matrices that are columns of wider ones: a row of A begins lda numbers after the one before, of B ldb, of C ldc. */
void qt_gemm_wide(bool ta, bool tb, int64_t M, int64_t N, int64_t K, R alpha, const R *A, int64_t lda, const R *B, int64_t ldb, R beta, R *C,
                  int64_t ldc);
/* The slow twin: three loops, sums in double. */
void qt_gemm_naive(bool ta, bool tb, int64_t M, int64_t N, int64_t K, R alpha, const R *A, const R *B, R beta, R *C);
/* The same single-threaded, for callers that are parallel already (one image of a convolution). */
void qt_gemm_serial(bool ta, bool tb, int64_t M, int64_t N, int64_t K, R alpha, const R *A, const R *B, R beta, R *C);
#endif
