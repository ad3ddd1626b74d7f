/* Products of small blocks: see block.h. */
#include "kernels/block.h"
#include "base/par.h"
#include <string.h>

QT_CLONES static void row_product(int64_t N, int64_t K, const R *A, int64_t col, const R *B, int64_t ldb, R *restrict c)
{
    for (int64_t k = 0; k < K; k++) {
        const R a = A[k * col];
        for (int64_t j = 0; j < N; j++) c[j] += a * B[k * ldb + j];
    }
}

void qt_block_product(int64_t M, int64_t N, int64_t K, const R *A, int64_t row, int64_t col, const R *B, int64_t ldb, R *C, int64_t ldc, bool add)
{
    for (int64_t i = 0; i < M; i++) {
        if (!add) memset(C + i * ldc, 0, (size_t)N * sizeof(R));
        row_product(N, K, A + i * row, col, B, ldb, C + i * ldc);
    }
}

void qt_block_transpose(int64_t rows, int64_t cols, const R *x, int64_t ldx, R *y, int64_t ldy)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) y[j * ldy + i] = x[i * ldx + j];
}
