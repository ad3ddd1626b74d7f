/* Quantizers of runtimes that keep one scale for each short block of a row. What they share: the walk over the blocks, codes and bytes
 * for the integer kernels, and the gradient, which is the identity: dx = dy. A block's number is
 *     y = (R)code * scale,
 * and the two come from one function a quantizer. */
#ifndef QT_QAT_BLOCKS_H
#define QT_QAT_BLOCKS_H
#include "qat/grid.h"

enum { QT_BLOCK_LONGEST = 256 };

typedef struct qt_blocks qt_blocks;
struct qt_blocks {
    /* Codes of the block x as whole numbers into code, none of them -0; its scale is the result. A NaN in x makes the scale NaN. */
    R (*encode)(const qt_blocks *b, const R *x, R *code);
    int64_t  block; /* numbers a block; at most QT_BLOCK_LONGEST */
    R        qn, qp;
    int      choice; /* the quantizer's own */
    qt_role  role;
    qt_bytes bytes; /* set by qt_blocks_shape */
};

/* For init: a row of the site's tensor must be whole blocks; QT_ERECIPE with the nearest widths otherwise. */
qt_err qt_blocks_check(const qt_site *q, int64_t block);
/* An op with these has a qt_blocks as its argument; it `stores`. */
qt_err qt_blocks_shape(qt_node *nd);
void   qt_blocks_forward(qt_node *nd);
/* Codes of x for the quantizer's encode. */
qt_err qt_blocks_encode(const qt_site *q, const qt_blocks *b, const qt_tensor *x, qt_arena *a, double bits, qt_codes *c);

/* ---- leaf loops, for encode ------------------------------------------------------------------------------------------------------ */

/* The number of x with the largest magnitude, with its sign; of equal ones the first. NaN if any is. */
static inline R qt_block_extreme(const R *x, int64_t n)
{
    qt_real_bits most = 0, b;
    int64_t      i = 0;
    for (int64_t k = 0; k < n; k++) {
        memcpy(&b, &x[k], sizeof b);
        b &= ~((qt_real_bits)1 << (8 * sizeof b - 1)); /* without its sign a float orders as an integer, NaN above all */
        most = b > most ? b : most;
    }
    for (; i < n; i++) {
        memcpy(&b, &x[i], sizeof b);
        if (((b ^ most) & ~((qt_real_bits)1 << (8 * sizeof b - 1))) == 0) break;
    }
    return x[i];
}
#endif
