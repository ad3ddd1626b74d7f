/* The sign with a surrogate gradient: what all binarizers share.
 *
 *     y = sign(x) s,   sign(0) = +1,        dx = dy d(x) s     (or dy d(x), `plain`),        s a constant
 *
 * The sign has derivative 0 almost everywhere; d stands in for it:
 *     ste       1 where |x| <= 1, else 0: the derivative of clamp(x, -1, 1)
 *     poly      max(0, 2 - 2|x|): that of a piecewise parabola
 *     fda       (4 w/pi) sum_{i=0..n} cos((2i+1) w x) where |x| <= 1, w = 0.1: that of the first n + 1 terms of the Fourier series of a
 *               square wave, which is the sign from -pi/w to pi/w
 *     identity  1
 *     tanh      k (1 - tanh(k x)^2): the true derivative of tanh(k x), for the meter of gradients (train/surrogates.c) */
#ifndef QT_QAT_SIGN_H
#define QT_QAT_SIGN_H
#include "qat/grid.h"

typedef enum qt_surrogate { QT_STE, QT_POLY, QT_FDA, QT_IDENTITY, QT_TANH } qt_surrogate;

typedef struct qt_sign {
    qt_layout    layout;
    R           *scale;     /* [layout.count] */
    qt_surrogate surrogate;
    int          terms;     /* n + 1 of fda */
    R            smooth;    /* k of tanh(k x) in place of the sign, or 0 */
    bool         plain;     /* the gradient without the scale */
    qt_role      role;
    qt_bytes     bytes;     /* set by shape */
} qt_sign;

/* A site's smooth function in place of the sign, while gradients are compared (qt_site.smooth). */
typedef struct qt_smooth {
    R            k; /* tanh(k x) */
    qt_surrogate surrogate;
    int          terms;
} qt_smooth;

/* Fills in layout and scale: s = 1; or the mean magnitudes of the site's channels (tokens: of its tokens), or of all of x. */
qt_err qt_sign_unit(const qt_tensor *x, qt_arena *a, qt_sign *s);
qt_err qt_sign_means(const qt_site *q, qt_granularity g, const qt_ints *axis, const qt_tensor *x, qt_arena *a, qt_sign *s);
/* What a binarizer is beside its sign: the surrogate, and layout and scales of x, in the arena. */
typedef qt_err (*qt_sign_of)(const qt_site *q, const qt_tensor *x, qt_arena *a, qt_sign *s);
/* Records the op, with the site's role. */
qt_tensor *qt_sign_apply(qt_tape *t, const qt_site *q, qt_tensor *x, qt_sign_of sign_of);
/* Codes -1 and 1 of x. */
qt_err qt_sign_encode(const qt_site *q, qt_sign_of sign_of, const qt_tensor *x, qt_arena *a, qt_codes *codes);
/* d[i] = d(x[i]), n of them. */
void   qt_surrogate_slopes(qt_surrogate kind, int terms, R k, R *d, const R *x, int64_t n);
/* For `bits` of binarizers: 1. */
double qt_sign_bits(const qt_site *q);
extern const qt_op qt_sign_op;
#endif
