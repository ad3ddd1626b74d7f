/* Frozen weights: a matrix w [N,K] that nobody trains is kept as packed codes alone, with the scales of its quantizer, and becomes numbers
 * a few rows at a time, in one scratch block that all matrices of a model share:
 *     w = (code - zero[k]) scale[k] + offset[k],  or  table[code] scale[k],      k = i / inner % count for element i of the matrix. */
#ifndef QT_KERNELS_FROZEN_H
#define QT_KERNELS_FROZEN_H
#include "kernels/packed.h"

/* Scales that are codes themselves (double quantization): scale k = max(0, code[k] step[k / block] + mean). */
typedef struct qt_scale_codes {
    int64_t n, block;
    int8_t *code; /* [n], -127..127 */
    R      *step; /* [ceil(n / block)] */
    R       mean;
} qt_scale_codes;
static inline R qt_scale_value(const qt_scale_codes *c, int64_t k)
{
    R s = (R)c->code[k] * c->step[k / c->block] + c->mean;
    return s > 0 ? s : 0;
}
static inline int64_t qt_scale_blocks(const qt_scale_codes *c) { return (c->n + c->block - 1) / c->block; }
/* Codes of a byte, and fp32 numbers: a step a block and the mean. */
static inline double qt_scale_codes_bits(const qt_scale_codes *c) { return 8 * (double)c->n + 32 * (double)(qt_scale_blocks(c) + 1); }

enum { QT_TABLE = 16 };

typedef struct qt_frozen {
    qt_packed      codes;      /* stored byte = code - base */
    int            base;
    int64_t        inner, count;
    bool           has_table;
    R              table[QT_TABLE];
    R             *scale;       /* [count], NULL: scale_codes */
    qt_scale_codes scale_codes;
    R             *zero, *offset; /* [count] or NULL: 0 */
    int32_t       *stored_zero; /* of integer */
    qt_icodes      integer;     /* for products of integers; packed is NULL where the codes are not made for them */
    double         bits;        /* of the matrix in storage */
    size_t         bytes;       /* of memory it takes here */
    R             *work;        /* [rows, K] shared, and their codes */
    int8_t        *work_codes;
    int64_t        rows;        /* that work holds */
} qt_frozen;

/* Rows [n, n + rows) as numbers into w [rows, K], rows at most f->rows. */
void    qt_frozen_rows(const qt_frozen *f, int64_t n, int64_t rows, R *w);
/* How many rows of K numbers the scratch block holds: a quarter of a megabyte of floats, or one row. */
int64_t qt_frozen_block(int64_t N, int64_t K);
#endif
