/* Singular values by LAPACK's zgesvd, which OpenBLAS holds (one-threaded, as all of OpenBLAS here: kernels/gemm.c). The library's C interface,
 * LAPACKE, would be one more package for one call. Golub, Van Loan, "Matrix Computations", section 8.6. */
#include "kernels/svd.h"
#include <math.h>

/* The lengths of the two strings stand behind the arguments, as gfortran passes them. */
extern void zgesvd_(const char *jobu, const char *jobvt, const int *m, const int *n, double *a, const int *lda, double *s, double *u, const int *ldu,
                    double *vt, const int *ldvt, double *work, const int *lwork, double *rwork, int *info, size_t, size_t);

/* s [n], rwork [5n], work: 2n + m complex numbers, the least that zgesvd takes */
size_t qt_svd_work(int64_t n, int64_t m) { return (size_t)(6 * n + 2 * (2 * n + m)); }

void qt_svd_range(int64_t n, int64_t m, double *v, double *work, double *least, double *most)
{
    const int rows = (int)m, columns = (int)n, one = 1, size = (int)(2 * n + m);
    double    none[2] = {0}, *s = work, *rwork = s + n, *space = rwork + 5 * n;
    int       info;
    *least = *most = NAN;
    for (int64_t i = 0; i < 2 * n * m; i++)
        if (!isfinite(v[i])) return;
    zgesvd_("N", "N", &rows, &columns, v, &rows, s, none, &one, none, &one, space, &size, rwork, &info, 1, 1);
    if (!info) *most = s[0], *least = s[n - 1];
}
