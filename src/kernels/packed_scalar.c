/* Packed products in plain C, for a CPU without AVX2. */
#include "kernels/packed_path.h"
#include <string.h>

enum { V = QT_PACKED_VECTOR, LANES = QT_PACKED_LANES };

static bool has(void) { return true; }

/* One step: 32 codes of w against one row of x. */
static int32_t dot_step(const uint8_t *w, int shift, int mask, const int8_t *x)
{
    int32_t sum = 0;
    for (int j = 0; j < V; j++) sum += (w[j] >> shift & mask) * x[j];
    return sum;
}

static void dot(const qt_packed_job *j, int32_t *sum)
{
    int P = qt_packed_per_byte(j->bits), tile = LANES / j->T, mask = (1 << j->bits) - 1;
    for (int64_t r = 0; r < j->rows; r++)
        for (int64_t b = 0; b < j->blocks; b++) {
            uint32_t acc[LANES] = {0}; /* may wrap: the corrections of the zero points bring it back */
            for (int64_t s = b * j->steps; s < (b + 1) * j->steps; s++)
                for (int m = 0; m < j->T; m++)
                    acc[m] += (uint32_t)dot_step(j->w + (size_t)r * j->stride + s / P * V, (int)(s % P) * j->bits, mask, j->x + (s * j->T + m) * V);
            memcpy(sum + (r / tile * j->blocks + b) * LANES + r % tile * j->T, acc, (size_t)j->T * sizeof *acc);
        }
}

const qt_packed_path qt_packed_scalar = {"scalar", has, dot};
