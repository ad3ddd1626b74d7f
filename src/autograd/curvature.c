/* Hessian-vector products by central differences of the gradient g, and traces by Hutchinson's estimator.
 *
 *     H v ~ (g(w + h v) - g(w - h v)) / (2 h),      h = e^(1/3) rms(w) / rms(v)
 *
 * with e the spacing of numbers at 1 and rms(w) over the parameters that v moves (1 where they are all 0). The error of the quotient is that
 * of the gradients, about e |g| / h, and that of the curve, h^2 |g'''| / 6; the cube root makes them about equal. A quadratic loss has no
 * second error, whatever h is.
 *
 * Let v have independent entries of -1 and 1 in the blocks looked at. Then E[v_i v_j] = [i = j], so v_b . (H v)_b, over block b, has mean
 * tr H_bb: other blocks have part in (H v)_b, but their mean is 0. So one product serves all blocks. Where H is diagonal, v_i^2 = 1 makes
 * one draw exact. Hutchinson 1990; for networks: Yao et al., "PyHessian", arXiv 1912.07145. Left out: exact products by forward over reverse,
 * which every op would need a second backward for. */
#include "autograd/curvature.h"
#include <float.h>
#include <math.h>

#ifdef QT_DOUBLE
#define SPACING DBL_EPSILON
#else
#define SPACING FLT_EPSILON
#endif

/* rms(w) / rms(v) over what v moves. */
static double ratio(const R *w, const R *v, int64_t n)
{
    double ww = 0, vv = 0;
    for (int64_t i = 0; i < n; i++)
        if (v[i] != 0) ww += (double)w[i] * (double)w[i], vv += (double)v[i] * (double)v[i];
    return vv > 0 ? sqrt((ww > 0 ? ww : 1) / vv) : 1;
}

static void forget(qt_store *s)
{
    qt_store_zero_grad(s);
    for (int i = 0; i < s->n; i++) s->p[i]->used = 0;
}

/* The gradient at w + h v. */
static qt_err gradient_at(qt_store *s, qt_gradient gradient, void *arg, const R *w, const R *v, double h)
{
    for (int64_t i = 0; i < s->size; i++) s->value[i] = (R)((double)w[i] + h * (double)v[i]);
    qt_store_zero_grad(s);
    return gradient(arg);
}

static qt_err product(qt_store *s, qt_gradient gradient, void *arg, const R *w, const R *v, R *hv)
{
    const double h = cbrt((double)SPACING) * ratio(w, v, s->size);
    QT_TRY(gradient_at(s, gradient, arg, w, v, h));
    memcpy(hv, s->grad, (size_t)s->size * sizeof *hv);
    QT_TRY(gradient_at(s, gradient, arg, w, v, -h));
    for (int64_t i = 0; i < s->size; i++) hv[i] = (R)(((double)hv[i] - (double)s->grad[i]) / (2 * h));
    return QT_OK;
}

qt_err qt_hessian_product(qt_store *s, qt_gradient gradient, void *arg, const R *v, R *hv)
{
    size_t bytes = (size_t)s->size * sizeof(R);
    R     *w = qt_alloc(bytes);
    if (!w) return QT_EMEM;
    memcpy(w, s->value, bytes);
    qt_err e = product(s, gradient, arg, w, v, hv);
    memcpy(s->value, w, bytes);
    forget(s);
    qt_free(w);
    return e;
}

static void draw_signs(qt_store *s, uint64_t seed, int draw, int n, const qt_trace *t, R *v)
{
    memset(v, 0, (size_t)s->size * sizeof *v);
    for (int k = 0; k < n; k++) {
        qt_rng r = qt_rng_named(seed, "hutchinson/%d/%s", draw, t[k].param->name);
        R     *to = v + (t[k].param->data - s->value);
        for (int64_t i = 0; i < t[k].param->n; i++) to[i] = qt_rng_u32(&r) >> 31 ? 1 : -1;
    }
}

static double dot(const R *x, const R *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)y[i];
    return sum;
}

static qt_err estimate(qt_store *s, qt_gradient gradient, void *arg, int draws, uint64_t seed, int n, qt_trace *t, R *v, R *hv)
{
    for (int k = 0; k < n; k++) t[k].trace = t[k].error = 0;
    for (int d = 0; d < draws; d++) {
        draw_signs(s, seed, d, n, t, v);
        QT_TRY(qt_hessian_product(s, gradient, arg, v, hv));
        for (int k = 0; k < n; k++) {
            int64_t at = t[k].param->data - s->value;
            double  one = dot(v + at, hv + at, t[k].param->n), off = one - t[k].trace;
            t[k].trace += off / (d + 1), t[k].error += off * (one - t[k].trace); /* running mean and sum of squares about it */
        }
    }
    for (int k = 0; k < n; k++) t[k].error = draws > 1 ? sqrt(t[k].error / (draws - 1) / draws) : 0;
    return QT_OK;
}

qt_err qt_hessian_traces(qt_store *s, qt_gradient gradient, void *arg, int draws, uint64_t seed, int n, qt_trace *t)
{
    R     *v = qt_alloc(2 * (size_t)s->size * sizeof *v);
    qt_err e = v ? estimate(s, gradient, arg, draws, seed, n, t, v, v + s->size) : QT_EMEM;
    qt_free(v);
    return e;
}
