/* Elementary functions that a compiler can put into vector registers: no branch, no table, no call. In float each is within 1.2 units in
 * the last place of the true value (qt_vphi: of 1); infinities, NaN and numbers below the normal range come out right. In double they
 * are the C library's, and so the double build checks the gradients, not these. The coefficients have the least largest error on their
 * interval; tests/golden/vmath.py finds them. */
#ifndef QT_OPS_VMATH_H
#define QT_OPS_VMATH_H
#include "qtape.h"
#include <math.h>
#include <string.h>

/* A call left inside a loop would keep it from the vector registers. */
#if defined(__GNUC__)
#define QT_INLINE static inline __attribute__((always_inline))
#else
#define QT_INLINE static inline
#endif

#ifdef QT_DOUBLE

QT_INLINE double qt_vexp(double x) { return exp(x); }
QT_INLINE double qt_vlog(double x) { return log(x); }
QT_INLINE double qt_vtanh(double x) { return tanh(x); }
QT_INLINE double qt_vphi(double x) { return 0.5 * erfc(-x * 0.70710678118654752); }
QT_INLINE double qt_vphi_and_exp(double x, double *e) { return *e = exp(-0.5 * x * x), qt_vphi(x); }
QT_INLINE double qt_vselect(bool c, double a, double b) { return c ? a : b; }

#else

/* c ? a : b, with both computed: the compiler may not compute what a condition skips, as floating-point operations can trap. */
QT_INLINE float qt_vselect(bool c, float a, float b)
{
    const uint32_t mask = 0u - (uint32_t)c;
    uint32_t       m, n;
    memcpy(&m, &a, sizeof m), memcpy(&n, &b, sizeof n);
    m = (m & mask) | (n & ~mask);
    memcpy(&a, &m, sizeof a);
    return a;
}

/* 2^n for -126 <= n <= 127, some number for other n */
QT_INLINE float qt_vpow2(int32_t n)
{
    const uint32_t bits = (uint32_t)(n + 127) << 23;
    float          p;
    memcpy(&p, &bits, sizeof p);
    return p;
}

/* x = n log 2 + r with |r| <= log(2)/2, so e^x = 2^n e^r. Adding 1.5 * 2^23 leaves n, rounded, in the last bits of the sum; log 2 is
 * taken off in two parts, the first of which has so few bits that n times it is exact; 2^n is applied in two halves, as the result may
 * lie beyond the range of one. */
QT_INLINE float qt_vexp(float x)
{
    static const float magic = 12582912.0f;
    const float        u = qt_vselect(x > 89.0f, 89.0f, qt_vselect(x < -104.0f, -104.0f, x));
    const float        shifted = u * 1.44269504f + magic, n = shifted - magic;
    const float        r = (u - n * 0.693359375f) - n * -2.12194440e-4f;
    const float        q = ((0.0013813145f * r + 0.0083694188f) * r + 0.041668456f) * r + 0.16666515f;
    const float        e = (q * r + 0.49999994f) * (r * r) + r + 1;
    int32_t            i, half;
    memcpy(&i, &shifted, sizeof i);
    i -= 0x4b400000; /* the bits of magic; NaN gives any i, and stays NaN */
    half = i >> 1;
    return e * qt_vpow2(half) * qt_vpow2(i - half);
}

/* x = 2^n m with sqrt(1/2) <= m < sqrt 2, f = m - 1, and log(1 + f) = f - f^2/2 + f^3 times a polynomial. Numbers below the normal range are
 * brought into it first. n is the exponent as it stands in the bits, where what is taken off before puts the border at sqrt(1/2). */
QT_INLINE float qt_vlog(float x)
{
    const bool  small = x < 1.17549435e-38f;
    const float u = qt_vselect(small, x * 8388608.0f, x);
    int32_t     i, n;
    float       m;
    memcpy(&i, &u, sizeof i);
    n = (i - 0x3f3504f3) >> 23;
    i -= (int32_t)((uint32_t)n << 23);
    memcpy(&m, &i, sizeof m);
    const float e = (float)n - qt_vselect(small, 23, 0), f = m - 1, s = f * f;
    const float q = (((-0.07668206f * f + 0.12813511f) * f - 0.1317223f) * f + 0.1419561f) * f - 0.16621573f;
    const float p = ((q * f + 0.20001425f) * f - 0.25000873f) * f + 0.3333333f;
    const float y = ((s * f * p - e * 2.12194440e-4f) - 0.5f * s + f) + e * 0.693359375f;
    return qt_vselect(x > 0, qt_vselect(x < INFINITY, y, x), qt_vselect(x == 0, -INFINITY, NAN));
}

/* A polynomial where 1 - 2/(e^(2|x|) + 1) would cancel, |x| < 0.65. */
QT_INLINE float qt_vtanh(float x)
{
    const float a = fabsf(x), s = x * x;
    const float p = (((-0.0055151633f * s + 0.02046942f) * s - 0.053688023f) * s + 0.13330831f) * s - 0.3333326f;
    const float big = 1 - 2 / (qt_vexp(2 * a) + 1), small = a + a * s * p;
    return copysignf(qt_vselect(a < 0.65f, small, big), x);
}

/* The normal distribution function. Near 0 a polynomial; further out the smaller tail is erfc(z)/2 with z = |x|/sqrt 2, where
 * erfc(z) e^(z^2) is a polynomial in t = 1/(1 + 0.4 z) without constant term. e gets e^(-z^2), without which there is no tail. */
QT_INLINE float qt_vphi_and_exp(float x, float *e)
{
    const float z = fabsf(x) * 0.70710678f, t = 1 / (1 + 0.4f * z), s = x * x;
    const float p = (((0.04973015f * t - 0.18050759f) * t + 0.16458057f) * t - 0.001010593f) * t + 0.13867414f;
    const float g = ((((p * t + 0.1695263f) * t + 0.20764135f) * t + 0.2256908f) * t + 0.225675f) * t;
    *e = qt_vexp(-z * z);
    const float tail = 0.5f * g * *e;
    const float q = ((-7.1853183e-6f * s + 1.1219303e-4f) * s - 1.1850393e-3f) * s + 9.972763e-3f;
    const float middle = 0.5f + x * ((q * s - 0.06649026f) * s + 0.39894226f);
    return qt_vselect(fabsf(x) < 1.1f, middle, qt_vselect(x < 0, tail, 1 - tail));
}
QT_INLINE float qt_vphi(float x)
{
    float e;
    return qt_vphi_and_exp(x, &e);
}

#endif
#endif
