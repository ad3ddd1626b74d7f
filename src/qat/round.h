/* The one rule of rounding, clamping and scaling, for training, export and engine alike: a true division x/s, half to even, clamp. */
#ifndef QT_QAT_ROUND_H
#define QT_QAT_ROUND_H
#include "qtape.h"
#include <math.h>
typedef qt_real R;

static inline R qt_round(R u)
{
#ifdef QT_DOUBLE
    return rint(u);
#else
    return rintf(u);
#endif
}
static inline R qt_clip(R u, R lo, R hi) { return u < lo ? lo : u > hi ? hi : u; }
/* Level bounds of b bits: signed -2^(b-1)..2^(b-1)-1 (narrow: from -(2^(b-1)-1)), unsigned 0..2^b-1. */
static inline void qt_levels(int bits, bool is_signed, bool narrow, R *qn, R *qp)
{
    *qp = is_signed ? (R)((1ll << (bits - 1)) - 1) : (R)((1ll << bits) - 1);
    *qn = !is_signed ? 0 : narrow ? -*qp : -*qp - 1;
}
#endif
