/* Matrix product over OpenBLAS. C is cut along its longer side into strips whose number follows from M, N, K alone; each strip is one
 * single-threaded call. A strip packs the whole of the other operand again, so strips are few and large: one below SERIAL multiply-adds,
 * two below TWO, twice as many for every four times that, at most STRIPS, and none thinner than THIN. */
#include "kernels/gemm.h"
#include "base/par.h"
#include <cblas.h>
#include <pthread.h>

enum { SERIAL = 1 << 20, TWO = 1 << 26, STRIPS = 16, THIN = 32 };

#ifdef QT_DOUBLE
#define GEMM cblas_dgemm
#else
#define GEMM cblas_sgemm
#endif

static void one_thread(void) { openblas_set_num_threads(1); }

/* op(A) [M,K] with lda, op(B) [K,N] with ldb, C [M,N] with ldc */
static void call(bool ta, bool tb, int64_t M, int64_t N, int64_t K, R alpha, const R *A, int64_t lda, const R *B, int64_t ldb, R beta, R *C,
                 int64_t ldc)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, one_thread);
    GEMM(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (blasint)M, (blasint)N, (blasint)K, alpha, A, (blasint)lda, B,
         (blasint)ldb, beta, C, (blasint)ldc);
}

void qt_gemm_serial(bool ta, bool tb, int64_t M, int64_t N, int64_t K, R alpha, const R *A, const R *B, R beta, R *C)
{
    if (M && N) call(ta, tb, M, N, K, alpha, A, qt_max_i64(1, ta ? M : K), B, qt_max_i64(1, tb ? K : N), beta, C, N);
}

/* Thickness of a strip along the longer side L of C, a multiple of 16. */
static int64_t strip(int64_t L, int64_t work)
{
    int64_t n = work < SERIAL ? 1 : 2;
    for (int64_t at = TWO; work > at && n < STRIPS; at *= 4) n *= 2;
    return qt_max_i64(THIN, ((L + n - 1) / n + 15) / 16 * 16);
}

void qt_gemm_wide(bool ta, bool tb, int64_t M, int64_t N, int64_t K, R alpha, const R *A, int64_t lda, const R *B, int64_t ldb, R beta, R *C,
                  int64_t ldc)
{
    int64_t S = strip(qt_max_i64(M, N), M * N * K);
    if (M >= N) {
        QT_FOR_CHUNKS(b, e, M, S) call(ta, tb, e - b, N, K, alpha, ta ? A + b : A + b * lda, lda, B, ldb, beta, C + b * ldc, ldc);
    } else {
        QT_FOR_CHUNKS(b, e, N, S) call(ta, tb, M, e - b, K, alpha, A, lda, tb ? B + b * ldb : B + b, ldb, beta, C + b, ldc);
    }
}

void qt_gemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, R alpha, const R *A, const R *B, R beta, R *C)
{
    qt_gemm_wide(ta, tb, M, N, K, alpha, A, qt_max_i64(1, ta ? M : K), B, qt_max_i64(1, tb ? K : N), beta, C, N);
}

void qt_gemm_naive(bool ta, bool tb, int64_t M, int64_t N, int64_t K, R alpha, const R *A, const R *B, R beta, R *C)
{
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) {
            double sum = 0;
            for (int64_t k = 0; k < K; k++) sum += (double)(ta ? A[k * M + m] : A[m * K + k]) * (tb ? B[n * K + k] : B[k * N + n]);
            C[m * N + n] = (R)(alpha * sum + (beta ? beta * (double)C[m * N + n] : 0.0));
        }
}
