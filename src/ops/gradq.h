/* Backward of linear and conv2d with quantized gradients: both matrix products in integers. With codes of x and w, q_x s_x and q_w s_w,
 *
 *     dx = dy w      sums over output channels c:      T = dy s_w,  q = shiftq(T, keys c),    dx = s0 2^-(g-1) (q << (g-1-e_c)) q_w
 *     dw = dy^T x    sums over samples and places p:   T = dy s_x,  q = shiftq(T, keys p),    dw = s0 2^-(g-1) (q << (g-1-e_p))^T q_x
 *
 * (kernels/shiftq.h): two independent quantizations of dy, each with scales along the inner axis of its product; the shift is folded into
 * q, once. A scale of w for each c, or of x for each sample, lies on the inner axis too and is folded into T; one scale for all comes out
 * of the sum. Both are unbiased estimates of the gradients that float products would give. db stays a sum of dy in float.
 *
 * Where the tape simulates, or scales are `exact`, the same kind of codes goes through float products instead. */
#ifndef QT_OPS_GRADQ_H
#define QT_OPS_GRADQ_H
#include "kernels/conv.h"
#include "kernels/igemm.h"
#include "ops/ops.h"

/* One product's side: the quantized dy, and what it needs. */
typedef struct qt_gradq_side {
    qt_shiftq how;
    qt_rng    u;
    uint8_t  *e;     /* [keys] */
    R        *s;     /* [keys] */
    int8_t   *q;     /* [A,C,B] codes, shifted where the product is in integers: bytes, or 16-bit words */
    R        *value; /* [A,C,B] q s, for float products */
    int32_t  *sum;
    int64_t  *total; /* sums of blocks that would not fit 32 bits together */
    void     *other, *work; /* the other operand where it must be rewritten; work space of the product */
} qt_gradq_side;

typedef struct qt_gradq_plan {
    bool          integer;
    qt_gradq_side dx, dw;
    qt_conv       c;            /* conv2d */
} qt_gradq_plan;

/* For shape(): the two sides for dy [A,C,B], with memory for codes and values; the layers plan the rest. */
qt_err qt_gradq_sides(qt_node *nd, const qt_gradq *g, bool integer, int64_t A, int64_t C, int64_t B, qt_gradq_plan *p);
/* dy as float products take it: q s. */
const R *qt_gradq_value(const qt_gradq_side *d, const R *dy);
/* Quantizes dy for integer products, q << (g-1-e), for dx with a bias: into the sides that are wanted, s [2] their s0 2^-(g-1). */
void   qt_gradq_codes(qt_gradq_plan *p, const R *dy, bool dx, bool dw, int bias, R s[2]);
/* Whether shifted codes fit bytes. */
static inline bool qt_gradq_bytes(const qt_gradq_side *d) { return qt_shiftq_top(&d->how) <= INT8_MAX; }
/* "4-bit gradients in 4 groups ..." as an error of the node unless inner * codes up to reach fit 32 bits. */
qt_err qt_gradq_guard(const qt_node *nd, const qt_gradq_side *d, int64_t inner, int64_t reach);
/* The scales of the other operand: one for each of `keys` goes into dy, one for all comes out of the sum. Anything else is an error. */
qt_err qt_gradq_fold(const qt_node *nd, const char *name, const qt_icodes *c, int64_t keys, qt_gradq_side *d);

/* y = x w^T with x [M,K], w [N,K]. dx and dw may be NULL; gradients are added, but dx is written where it is the first. */
qt_err qt_gradq_linear_plan(qt_node *nd, const qt_gradq *g, bool integer, qt_gradq_plan *p);
void   qt_gradq_linear(const qt_node *nd, qt_gradq_plan *p, bool first, R *dx, R *dw);
/* y = conv(x, w) with the sizes c. */
qt_err qt_gradq_conv_plan(qt_node *nd, const qt_gradq *g, bool integer, const qt_conv *c, qt_gradq_plan *p);
void   qt_gradq_conv(const qt_node *nd, qt_gradq_plan *p, bool first, R *dx, R *dw);
#endif
