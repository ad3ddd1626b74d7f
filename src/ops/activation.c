/* Activations: y = f(x) for each element, dx = dy f'(x).
 *
 *     relu        max(0, x)                  f' = 1 where y > 0, else 0 (0 at 0)
 *     relu2       max(0, x)^2                f' = 2 max(0, x)
 *     leaky_relu  x, or slope x below 0      f' = 1 or slope
 *     gelu        x Phi(x), Phi(x) = erfc(-x/sqrt 2)/2           f' = Phi(x) + x phi(x), phi the normal density
 *     gelu_tanh   x (1 + tanh u)/2, u = c (x + k x^3)            f' = (1 + tanh u)/2 + x/2 (1 - tanh^2 u) c (1 + 3 k x^2)
 *     silu        x s, s = sigmoid(x)                            f' = s (1 + x (1 - s))
 *     sigmoid     1/(1 + exp(-x))            f' = y (1 - y)
 *     tanh                                   f' = 1 - y^2
 *
 * The comparisons are written so that NaN comes out as NaN. Phi comes from erfc, which keeps gelu's left tail where 1 + erf cancels.
 * gelu: Hendrycks, Gimpel, "Gaussian error linear units", 2016, section 2, both forms. silu: Elfwing et al., 2018; there "SiL".
 * relu2: So et al., "Primer", 2021, section 3. */
#include "ops/pointwise.h"
#include "ops/vmath.h"

static const R inv_root_2pi = (R)0.39894228040143268;
static const R gelu_c = (R)0.79788456080286536 /* sqrt(2/pi) */, gelu_k = (R)0.044715;

QT_INLINE R above_zero(R x) { return qt_vselect(x <= 0, 0, x); }
QT_INLINE R sigmoid(R x) { return 1 / (1 + qt_vexp(-x)); }
QT_INLINE R gelu_slope(R x)
{
    R       e; /* phi is e / sqrt(2 pi) */
    const R share = qt_vphi_and_exp(x, &e);
    return share + x * (inv_root_2pi * e);
}
QT_INLINE R gelu_tanh_of(R x) { return qt_vtanh(gelu_c * (x + gelu_k * x * x * x)); }
QT_INLINE R gelu_tanh_slope(R x)
{
    const R th = gelu_tanh_of(x);
    return (R)0.5 * (1 + th) + (R)0.5 * x * (1 - th * th) * gelu_c * (1 + 3 * gelu_k * x * x);
}
QT_INLINE R silu_slope(R x)
{
    const R s = sigmoid(x);
    return s * (1 + x * (1 - s));
}

qt_tensor *qt_relu(qt_tape *t, qt_tensor *x) { return POINTWISE_EMIT(relu, 0); }
qt_tensor *qt_relu2(qt_tape *t, qt_tensor *x) { return POINTWISE_EMIT(relu2, 0); }
qt_tensor *qt_leaky_relu(qt_tape *t, qt_tensor *x, double slope) { return POINTWISE_EMIT(leaky_relu, (R)slope, 1); }
qt_tensor *qt_gelu(qt_tape *t, qt_tensor *x) { return POINTWISE_EMIT(gelu, 0); }
qt_tensor *qt_gelu_tanh(qt_tape *t, qt_tensor *x) { return POINTWISE_EMIT(gelu_tanh, 0); }
qt_tensor *qt_silu(qt_tape *t, qt_tensor *x) { return POINTWISE_EMIT(silu, 0); }
qt_tensor *qt_sigmoid(qt_tape *t, qt_tensor *x) { return POINTWISE_EMIT(sigmoid, 0); }
qt_tensor *qt_tanh(qt_tape *t, qt_tensor *x) { return POINTWISE_EMIT(tanh, 0); }

POINTWISE_READS(relu, "max(0, x)", 'k', qt_relu(t, x), x <= 0 ? 0 : x, y <= 0 ? 0 : dy,
                QT_READS_SIGNS(QT_RESULT))
POINTWISE_READS(relu2, "max(0, x) squared", 'k', qt_relu2(t, x), above_zero(x) * above_zero(x), dy * (2 * above_zero(x)),
                QT_READS_NEARLY(1))
POINTWISE_READS(leaky_relu, "x, or slope x where x is negative", 'k', qt_leaky_relu(t, x, 0.1), x * (x < 0 ? a : b), dy * (x < 0 ? a : b),
                QT_READS_NEARLY(1))
POINTWISE_READS(gelu, "x times the normal distribution function of x", 'n', qt_gelu(t, x), x * qt_vphi(x), dy * gelu_slope(x),
                QT_READS_NEARLY(1))
POINTWISE_READS(gelu_tanh, "gelu in its tanh approximation", 'n', qt_gelu_tanh(t, x), (R)0.5 * x * (1 + gelu_tanh_of(x)), dy * gelu_tanh_slope(x),
                QT_READS_NEARLY(1))
POINTWISE_READS(silu, "x sigmoid(x), also called swish", 'n', qt_silu(t, x), x * sigmoid(x), dy * silu_slope(x),
                QT_READS_NEARLY(1))
POINTWISE_READS(sigmoid, "1 / (1 + exp(-x))", 'n', qt_sigmoid(t, x), sigmoid(x), dy * (y * (1 - y)),
                QT_READS_NEARLY(QT_RESULT))
POINTWISE_READS(tanh, "hyperbolic tangent", 'n', qt_tanh(t, x), qt_vtanh(x), dy * (1 - y * y),
                QT_READS_NEARLY(QT_RESULT))
