/* Elementary functions of one operand, element by element; dx = dy f'(x).
 *
 *     scale  a x        f' = a              exp   f' = y          log   f' = 1/x
 *     sqrt   f' = 1/(2 y)                   abs   f' = sign(x), 0 at 0
 *     sin    sine of radians                f' = cos x
 *     clamp  min(max(x, a), b)              f' = 1 where a <= x <= b (the bounds included), else 0
 *
 * NaN comes out as NaN of all of them. */
#include "ops/pointwise.h"
#include "ops/vmath.h"

static inline R clamp(R x, R lo, R hi)
{
    const R y = x < lo ? lo : x;
    return y > hi ? hi : y;
}

qt_tensor *qt_scale(qt_tape *t, qt_tensor *x, double factor) { return POINTWISE_EMIT(scale, (R)factor); }
qt_tensor *qt_exp(qt_tape *t, qt_tensor *x) { return POINTWISE_EMIT(exp, 0); }
qt_tensor *qt_log(qt_tape *t, qt_tensor *x) { return POINTWISE_EMIT(log, 0); }
qt_tensor *qt_sqrt(qt_tape *t, qt_tensor *x) { return POINTWISE_EMIT(sqrt, 0); }
qt_tensor *qt_abs(qt_tape *t, qt_tensor *x) { return POINTWISE_EMIT(abs, 0); }
qt_tensor *qt_sin(qt_tape *t, qt_tensor *x) { return POINTWISE_EMIT(sin, 0); }
qt_tensor *qt_clamp(qt_tape *t, qt_tensor *x, double lo, double hi) { return POINTWISE_EMIT(clamp, (R)lo, (R)hi); }

POINTWISE_READS(scale, "x times a constant", 'n', qt_scale(t, x, -1.5), a * x, a * dy, 0)
POINTWISE_READS(exp, "e to the power x", 'n', qt_exp(t, x), qt_vexp(x), dy * y, QT_READS(QT_RESULT))
POINTWISE_READS(log, "natural logarithm", 'p', qt_log(t, x), qt_vlog(x), dy / x, QT_READS(1))
POINTWISE_READS(sqrt, "square root", 'p', qt_sqrt(t, x), QT_M(sqrt)(x), dy / (2 * y), QT_READS(QT_RESULT))
POINTWISE_READS(abs, "absolute value", 'k', qt_abs(t, x), QT_M(fabs)(x), dy * QT_M(copysign)(x == 0 ? 0 : 1, x), QT_READS(1))
POINTWISE_READS(sin, "sine of x radians", 'n', qt_sin(t, x), QT_M(sin)(x), dy * QT_M(cos)(x), QT_READS(1))
POINTWISE_READS(clamp, "x, not below lo and not above hi", 'k', qt_clamp(t, x, -0.05, 1.5), clamp(x, a, b), ((x < a) | (x > b)) ? 0 : dy, QT_READS(1))
