/* ShiftQuant: unbiased low-bit integers whose scales change along one axis, by powers of two only. A scale leaves an integer matrix
 * product only if it is constant along the inner axis; a power of two need not leave, for it can be shifted into the other operand.
 *
 * A gradient is seen as x [A,C,B], and its numbers are grouped by a key: c, or the pair (a, b). For a layer y = x w^T with dy [N,M] that
 * is A = N, C = M, B = 1, for a convolution A = N, C = O, B = OH*OW; dx sums over c, dw over (a, b). With
 *     r_k = max |x| over the numbers of key k,   rmax = max r_k,   Q = 2^(bits-1) - 1,   s0 = rmax / Q
 *     e_k = min(groups - 1, floor(log2(rmax / r_k))),   s_k = s0 2^-e_k
 * a code is q = floor(x/s_k + u), u uniform in [0,1): nothing clips, E[q s_k] = x, and the variance is s_k^2 f (1-f), f = frac(x/s_k).
 * A product over the key then is an integer one: sum_k q_k s_k b_k = s0 2^-(groups-1) sum_k q_k (b_k << (groups-1-e_k)).
 *
 * Guo et al. 2024, "Towards Accurate and Efficient Sub-8-Bit Integer Training" (arXiv 2411.10948); thresholds and bounds are our own. */
#ifndef QT_KERNELS_SHIFTQ_H
#define QT_KERNELS_SHIFTQ_H
#include "base/rng.h"
typedef qt_real R;

enum { QT_SHIFTQ_GROUPS = 16 };
#define QT_SHIFTQ_LEAST ((R)0x1p-100)

typedef struct qt_shiftq {
    int64_t A, C, B;
    bool    pairs;   /* keys are (a, b), a*B + b; otherwise c */
    int     bits;    /* 2..8 */
    int     groups;  /* 1..QT_SHIFTQ_GROUPS; 1: one scale */
    bool    exact;   /* s_k = r_k / Q instead: the finest there is, but not for integer products. e is not set */
    bool    nearest; /* round half to even instead of up with the probability of the fraction */
    const R *by;     /* [C], with pairs [A], or NULL: x[a,c,b] is multiplied by it first. How the other operand's scale comes in */
} qt_shiftq;

int64_t qt_shiftq_keys(const qt_shiftq *p);
/* Scales of all keys: e [keys] (uint8), s [keys]; returns s0. A key of zeros gets the last group. Where rmax is 0, or so little that s0 would be
 * below QT_SHIFTQ_LEAST, there is nothing to scale: s0 = 1, and all codes are 0. Where x has an infinity or a NaN s0 is not finite. */
R       qt_shiftq_scales(const qt_shiftq *p, const R *x, uint8_t *e, R *s);
/* The scales of both kinds of keys, c and (a, b), in one pass over x [A,C,B]. */
void    qt_shiftq_both(const qt_shiftq *channels, const qt_shiftq *pairs, const R *x, uint8_t *e[2], R *s[2], R s0[2]);
/* Codes q [A,C,B], |q| <= Q. Number i of the stream rounds element i. */
void    qt_shiftq_codes(const qt_shiftq *p, const R *x, const R *s, const qt_rng *u, int8_t *q);
/* y = q s, [A,C,B]. */
void    qt_shiftq_values(const qt_shiftq *p, const int8_t *q, const R *s, R *y);
/* The codes as a product takes them, q << (groups-1-e), in units of s0 2^-(groups-1): in bytes where qt_shiftq_top fits them, plus bias
 * (0, or up to 128 for an unsigned operand); or in 16 bits (bytes false, bias 0). */
void    qt_shiftq_shifted(const qt_shiftq *p, const R *x, const R *s, const uint8_t *e, const qt_rng *u, bool bytes, int bias, void *q);
/* The largest of them: Q 2^(groups-1). */
static inline int qt_shiftq_top(const qt_shiftq *p) { return ((1 << (p->bits - 1)) - 1) << (p->groups - 1); }
#endif
