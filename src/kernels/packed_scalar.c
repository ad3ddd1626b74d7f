/* Packed products in plain C, for a CPU without AVX2. */
#include "kernels/packed_path.h"
#include <string.h>

enum { V = QT_PACKED_VECTOR, ROWS = QT_PACKED_ROWS, QUAD = QT_PACKED_QUAD };

static bool has(void) { return true; }

/* A panel of one block against row m of x. */
static void panel(const qt_packed_job *j, const uint8_t *w, const int8_t *x, int32_t *sum)
{
    const int P = qt_packed_per_byte(j->bits), mask = (1 << j->bits) - 1;
    uint32_t  acc[ROWS] = {0};
    for (int64_t v = 0; v < j->vectors; v++, w += V)
        for (int p = 0; p < P; p++, x += j->T * QUAD)
            for (int i = 0; i < V; i++) acc[i / QUAD] += (uint32_t)((w[i] >> p * j->bits & mask) * x[i % QUAD]);
    memcpy(sum, acc, sizeof acc);
}

static void dot(const qt_packed_job *j, int32_t *sum)
{
    const int64_t x_block = j->vectors * qt_packed_codes(j->bits) * j->T;
    for (int64_t n = 0; n < j->panels; n++)
        for (int64_t b = 0; b < j->blocks; b++)
            for (int m = 0; m < j->T; m++, sum += ROWS)
                panel(j, j->w + (size_t)n * j->stride + b * j->vectors * V, j->x + b * x_block + m * QUAD, sum);
}

static void interleave(const qt_real *const *x, int64_t n, qt_real *y)
{
    for (int64_t i = 0; i < n; i++)
        for (int r = 0; r < ROWS; r++) y[i * ROWS + r] = x[r][i];
}

const qt_packed_path qt_packed_scalar = {"scalar", 4, has, dot, interleave, NULL};
