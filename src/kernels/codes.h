/* Integers of a quantized tensor as the integer kernels read them, and the one rule by which an integer sum becomes a number again.
 * Training, evaluation and deployment all go through this header: that is why they give the same bits.
 *
 * A code is stored as a byte q: of an activation uint8_t (code - the lowest code), of a weight int8_t. Element i of the tensor has
 *     value = (q[i] - zero[k]) * scale[k],      k = i / inner % count,
 * with zero in units of the stored byte. With s = scale_x * scale_w a product of codes is exact in int32:
 *     acc = sum_k (q_x - zero_x) (q_w - zero_w),      y = (R)acc * s + bias.
 * Where scales change along the inner axis (groups), it is cut into blocks that share one, and y is the sum of (R)acc_b * s_b in the order
 * of the blocks. A block too long for int32 is cut by the same rule. */
#ifndef QT_KERNELS_CODES_H
#define QT_KERNELS_CODES_H
#include "qtape.h"
typedef qt_real R;

enum { QT_CODES_SLACK = 64 }; /* bytes that may be read, and hold anything, behind the last code */

struct qt_packed; /* packed.h */

typedef struct qt_icodes {
    void                   *q;         /* [n] bytes, row-major as the tensor, and QT_CODES_SLACK more; NULL: packed */
    const struct qt_packed *packed;    /* low-bit weights of the deployment engine, or NULL */
    bool                    is_signed; /* q is int8_t: weights; otherwise uint8_t: activations */
    int                     lo, hi;    /* every q is within [lo, hi] */
    bool                    binary;    /* every q is the code -1 or 1: the kernels of xnor.h know what to do */
    int64_t                 n, inner, count;
    const R                *scale;     /* [count] */
    const int32_t          *zero;      /* [count], NULL: all 0 */
} qt_icodes;

/* What happens to the sums of output channel n before they are stored, in this order. Batch norm of evaluation is an affine map of each
 * channel, x mul + add, and goes into scale and bias: y = (R)acc (s mul) + (bias mul + add). */
typedef struct qt_iend {
    const R *bias;      /* [N] or NULL */
    const R *mul, *add; /* [N] both or NULL */
    bool     relu;
} qt_iend;

/* The rule, for one sum of channel n; s = scale_x * scale_w. */
static inline R qt_iend_scale(const qt_iend *e, R s, int64_t n) { return e->mul ? s * e->mul[n] : s; }
static inline R qt_iend_offset(const qt_iend *e, int64_t n)
{
    R b = e->bias ? e->bias[n] : 0;
    return e->mul ? b * e->mul[n] + e->add[n] : b;
}
static inline R qt_iend_store(const qt_iend *e, R sum, R offset)
{
    R y = sum + offset;
    return e->relu ? (y > 0 ? y : y != y ? y : 0) : y;
}

/* Longest inner block whose sum fits int32: |q_x - zero_x| <= x_max, |q_w - zero_w| <= w_max. */
static inline int64_t qt_longest_block(int64_t x_max, int64_t w_max) { return INT32_MAX / (x_max * w_max > 0 ? x_max * w_max : 1); }
/* max |q - zero| over all q in [lo, hi] and all zeros. */
int64_t qt_icodes_reach(const qt_icodes *c);
#endif
