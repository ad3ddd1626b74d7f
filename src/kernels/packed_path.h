/* Inside of the packed products: what one instruction set has to supply, and the layout that it reads. Private to packed*.c.
 *
 * Codes are stored as u = (w - lo) / step >= 0, step 2 for 1 bit and 1 otherwise, P = 8 / bits of them in a byte. A row is a sequence of
 * vectors of 32 bytes; byte j of vector v holds, from its low bits up, codes k = 32 P v + j, + 32, + 64 ...: one shift and one mask give 32
 * codes that follow each other. A *step* is 32 codes, so a vector has P steps. Rows end with whole vectors, zeros behind the last code. */
#ifndef QT_KERNELS_PACKED_PATH_H
#define QT_KERNELS_PACKED_PATH_H
#include "kernels/packed.h"

enum { QT_PACKED_VECTOR = 32, QT_PACKED_LANES = 8 };

/* T rows of x against `rows` rows of weights; x lies in steps: x[step][T][32], int8. A tile is 8/T rows of weights, 8 sums. */
typedef struct qt_packed_job {
    int            bits, T;       /* T: 1, 2, 4 or 8; at most 4 for 8 bits */
    int            products;      /* so many products u x always fit int16 together; with 8 bits u counts as its halves of 4 bits */
    const uint8_t *w;             /* first row, from the first code of the first block */
    size_t         stride;        /* bytes from row to row */
    int64_t        rows;
    const int8_t  *x;
    int64_t        blocks, steps; /* blocks that get a sum of their own, steps of each: whole vectors, or a part that divides a vector */
} qt_packed_job;

struct qt_packed_path {
    const char *name;
    bool      (*has)(void);
    void      (*dot)(const qt_packed_job *j, int32_t *sum); /* sum[tile][block][row of tile * T + row of x]; rows behind the last: anything */
};
extern const qt_packed_path qt_packed_avx512, qt_packed_avx2, qt_packed_scalar;

static inline int qt_packed_per_byte(int bits) { return 8 / bits; }
static inline int64_t qt_packed_vectors(int64_t K, int bits)
{
    int64_t codes = QT_PACKED_VECTOR * qt_packed_per_byte(bits);
    return (K + codes - 1) / codes;
}
#endif
