/* One-sided Jacobi: pairs of vectors p, q are turned in their plane until all pairs are orthogonal; their lengths then are the singular values.
 * With a = |p|^2, b = |q|^2 and p^H q = g e^(i phi), g > 0, q e^(-i phi) and p have the real product g, and
 *
 *     z = (b - a) / 2g,    t = sign(z) / (|z| + sqrt(1 + z^2)),    c = 1 / sqrt(1 + t^2),    s = c t,
 *     p' = c p - s q e^(-i phi),      q' = s p + c q e^(-i phi)
 *
 * are orthogonal. Small singular values come out as exact as large ones, which squaring the matrix would spoil.
 * Hestenes 1958; Golub, Van Loan, "Matrix Computations", section 8.6.3. */
#include "kernels/svd.h"
#include <math.h>
#include <stdbool.h>

enum { MOST_SWEEPS = 60 };

static double square(const double *p, int64_t m)
{
    double sum = 0;
    for (int64_t i = 0; i < 2 * m; i++) sum += p[i] * p[i];
    return sum;
}

static void product(const double *p, const double *q, int64_t m, double *re, double *im)
{
    *re = *im = 0;
    for (int64_t i = 0; i < 2 * m; i += 2) *re += p[i] * q[i] + p[i + 1] * q[i + 1], *im += p[i] * q[i + 1] - p[i + 1] * q[i];
}

/* Makes p and q orthogonal. False if they were. */
static bool turn(double *p, double *q, int64_t m)
{
    double a = square(p, m), b = square(q, m), re, im, g;
    product(p, q, m, &re, &im);
    g = hypot(re, im);
    if (!(g > 1e-15 * sqrt(a * b))) return false;
    double z = (b - a) / (2 * g), t = copysign(1 / (fabs(z) + sqrt(1 + z * z)), z), c = 1 / sqrt(1 + t * t), s = c * t;
    double cos_phi = re / g, sin_phi = im / g;
    for (int64_t i = 0; i < 2 * m; i += 2) {
        double x = p[i], y = p[i + 1], u = q[i] * cos_phi + q[i + 1] * sin_phi, v = q[i + 1] * cos_phi - q[i] * sin_phi;
        p[i] = c * x - s * u, p[i + 1] = c * y - s * v;
        q[i] = s * x + c * u, q[i + 1] = s * y + c * v;
    }
    return true;
}

void qt_svd_range(int64_t n, int64_t m, double *v, double *least, double *most)
{
    bool moved = true;
    for (int sweep = 0; moved && sweep < MOST_SWEEPS; sweep++) {
        moved = false;
        for (int64_t p = 0; p < n; p++)
            for (int64_t q = p + 1; q < n; q++) moved |= turn(v + 2 * m * p, v + 2 * m * q, m);
    }
    *least = INFINITY, *most = 0;
    for (int64_t p = 0; p < n; p++) {
        double s = sqrt(square(v + 2 * m * p, m));
        *least = fmin(*least, s), *most = fmax(*most, s);
    }
}
