/* The one rule of rounding, clamping and scaling, for training, export and engine alike: a true division x/s, half to even, clamp. A
 * number x with offset o has code and value
 *     qt_code(x - o, s, z, qn, qp) = clamp(round((x - o)/s) + z, qn, qp),      qt_value(code, s, z) + o = (code - z) s + o. */
#ifndef QT_QAT_ROUND_H
#define QT_QAT_ROUND_H
#include "qtape.h"
#include <math.h>
#include <string.h>
typedef qt_real R;

#ifdef QT_DOUBLE
typedef uint64_t qt_real_bits;
#define QT_CODE_MAGIC 6755399441055744.0
#define QT_EXPONENT ((qt_real_bits)0x7ff << 52)
#else
typedef uint32_t qt_real_bits;
#define QT_CODE_MAGIC 12582912.0f
#define QT_EXPONENT ((qt_real_bits)0xff << 23)
#endif

static inline R qt_round(R u)
{
#ifdef QT_DOUBLE
    return rint(u);
#else
    return rintf(u);
#endif
}
/* v where m holds, otherwise +0. By bits: compilers may make a branch of a conditional expression, and branches on data mispredict. */
static inline R qt_keep(bool m, R v)
{
    qt_real_bits b;
    memcpy(&b, &v, sizeof b);
    b &= 0 - (qt_real_bits)m;
    memcpy(&v, &b, sizeof v);
    return v;
}
/* NaN stays. Two steps, as compilers make one instruction of each. */
static inline R qt_clip(R u, R lo, R hi)
{
    R v = u < lo ? lo : u;
    return v > hi ? hi : v;
}
/* Adding z = +0 turns a rounded -0 into +0, so that a value and its decoded code have the same bits. */
static inline R qt_code(R x, R s, R z, R qn, R qp) { return qt_clip(qt_round(x / s) + z, qn, qp); }
static inline R qt_value(R code, R s, R z) { return (code - z) * s; }

/* A code as an integer: 1.5 2^23 + code (1.5 2^52 in double) is a number whose last bits are those of the code in two's complement. Unlike
 * a conversion this is defined for NaN, whose exponent bits stay all set, and compilers put a loop around it into vector registers. */
static inline qt_real_bits qt_bits_of_code(R code)
{
    qt_real_bits b;
    code += QT_CODE_MAGIC;
    memcpy(&b, &code, sizeof b);
    return b;
}
/* Of several such bits, or-ed: whether one was NaN. */
static inline bool qt_bits_nan(qt_real_bits seen) { return (seen & QT_EXPONENT) == QT_EXPONENT; }

/* Level bounds of b bits: signed -2^(b-1)..2^(b-1)-1 (narrow: from -(2^(b-1)-1)), unsigned 0..2^b-1. */
static inline void qt_levels(int bits, bool is_signed, bool narrow, R *qn, R *qp)
{
    *qp = is_signed ? (R)((1ll << (bits - 1)) - 1) : (R)((1ll << bits) - 1);
    *qn = !is_signed ? 0 : narrow ? -*qp : -*qp - 1;
}
#endif
