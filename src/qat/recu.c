/* ReCU: weights far out and weights near 0 are brought where the sign can still change.
 *
 *     weight      w0 = w - mean_c,  w1 = w0 2 sqrt(2)/std_c,  Q = -mean|w1| ln(2 - 2 tau),  y = sign(clamp(w1, -Q, Q))
 *                 dw1 = dy [|w1| <= Q],   Q a constant of the layer,   tau = A e^(epoch/E) + B:  0.85 -> 0.99 over the E epochs
 *     activation  in training u = x/std of its sample,   y = sign(u),   du = dy max(0, 2 - 2|u|)
 *
 * A Laplace distribution of standard deviation std has the scale b = std/sqrt(2), so w1 has b = 2 and Q is a quantile of it: outermost weights
 * stop being pushed further out. With S = sum (x - mean)^2, std = sqrt(S/(N-1) + 1e-5) over the N numbers of a channel or sample, u = k v/std where
 * v = x - mean or x, and g = du:
 *     dstd/dx_i = (x_i - mean)/((N-1) std),     dx_i = k/std (g_i - mean(g))  - k (sum g v)/((N-1) std^3) (x_i - mean)
 * (without mean(g) for activations, whose mean stays). What the layer gives is multiplied by a learned number for each channel
 * (`output_scale`). Xu et al. 2021, "ReCU: reviving the dead weights" (arXiv 2103.12369), eq. 7-13. */
#include "kernels/reduce.h"
#include "ops/inner.h"
#include "qat/sign.h"

static qt_err init(qt_site *q) { return (void)q, QT_OK; }

static double tau_of(const qt_site *q)
{
    const double A = (0.99 - 0.85) / (2.7182818284590452 - 1);
    return A * (q->epochs ? exp((double)q->epoch / (double)q->epochs) : 1) + 0.85 - A;
}

/* ---- rows divided by their deviation ---- */

typedef struct arg {
    int64_t D;
    bool    centred; /* the mean is taken off, and b becomes 2 */
} arg;

static double factor_of(const arg *a) { return a->centred ? 2.8284271247461901 : 1; }

QT_CLONES static void row_moments(const R *x, int64_t D, R *mean, R *std)
{
    double sum = 0, square = 0;
    QT_SUM(sum, j, D, x[j]);
    const R m = *mean = (R)(sum / (double)D);
    QT_SUM(square, j, D, (x[j] - m) * (x[j] - m));
    *std = (R)sqrt(square / (double)qt_max_i64(1, D - 1) + 1e-5);
}

/* saved: mean and deviation of each row */
static qt_err shape(qt_node *nd)
{
    QT_TRY(qt_node_save(nd, 2 * (size_t)(nd->in[0]->n / ((const arg *)nd->arg)->D) * sizeof(R)));
    return qt_node_out_like(nd, nd->in[0]);
}

QT_CLONES static void row_forward(R *restrict y, const R *restrict x, int64_t D, R mean, R factor)
{
    for (int64_t j = 0; j < D; j++) y[j] = (x[j] - mean) * factor;
}

static void forward(qt_node *nd)
{
    const arg *a = nd->arg;
    const R   *x = nd->in[0]->data;
    R         *m = nd->saved;
    QT_FOR_CHUNKS(b, e, nd->out->n / a->D, qt_row_grain(a->D))
    for (int64_t i = b; i < e; i++) {
        row_moments(x + i * a->D, a->D, &m[2 * i], &m[2 * i + 1]);
        row_forward(nd->out->data + i * a->D, x + i * a->D, a->D, a->centred ? m[2 * i] : 0, (R)(factor_of(a) / (double)m[2 * i + 1]));
    }
}

QT_CLONES static void row_backward(R *restrict dx, const R *restrict g, const R *restrict x, int64_t D, R mean, R std, const arg *a, bool first)
{
    const R off = a->centred ? mean : 0;
    double  sum = 0, dot = 0, k = factor_of(a) / (double)std;
    if (a->centred) QT_SUM(sum, j, D, g[j]);
    QT_SUM(dot, j, D, g[j] * (x[j] - off));
    const R f = (R)k, h = (R)(sum / (double)D), c = (R)(k * dot / ((double)qt_max_i64(1, D - 1) * (double)std * (double)std));
    if (first)
        for (int64_t j = 0; j < D; j++) dx[j] = f * (g[j] - h) - c * (x[j] - mean);
    else
        for (int64_t j = 0; j < D; j++) dx[j] += f * (g[j] - h) - c * (x[j] - mean);
}

static void backward(const qt_node *nd)
{
    const arg *a = nd->arg;
    const R   *x = nd->in[0]->data, *dy = nd->out->grad, *m = nd->saved;
    R         *dx = nd->in[0]->grad;
    const bool first = qt_grad_first(nd->in[0]);
    if (!dx) return;
    QT_FOR_CHUNKS(b, e, nd->out->n / a->D, qt_row_grain(a->D))
    for (int64_t i = b; i < e; i++) row_backward(dx + i * a->D, dy + i * a->D, x + i * a->D, a->D, m[2 * i], m[2 * i + 1], a, first);
}

static const qt_op op;

static qt_tensor *build_centred(qt_tape *t, qt_tensor **in) { return QT_EMIT(t, &op, (&(arg){8, true}), sizeof(arg), in[0]); }
static qt_tensor *build(qt_tape *t, qt_tensor **in) { return QT_EMIT(t, &op, (&(arg){24, false}), sizeof(arg), in[0]); }

static const qt_case cases[] = {{"channels", build_centred, {{{6, 8}, 'n'}}}, {"samples", build, {{{2, 24}, 'n'}}}, {0}};

static const qt_op op = {.d = {"standardize", "rows divided by their standard deviation"}, .kind = QT_EXACT, .shape = shape, .forward = forward,
                         .backward = backward, .stores = true, .reads = qt_reads_input, .cases = cases};

/* ---- the quantizer ---- */

static qt_err sign_of(const qt_site *q, const qt_tensor *x, qt_arena *a, qt_sign *s)
{
    *s = (qt_sign){.surrogate = q->role == QT_ROLE_WEIGHT ? QT_IDENTITY : QT_POLY, .plain = true};
    return qt_sign_unit(x, a, s);
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    const bool weight = q->role == QT_ROLE_WEIGHT;
    qt_layout  l = {x->n, 1};
    qt_tape_fail(t, qt_site_layout(q, weight ? QT_PER_CHANNEL : QT_PER_TOKEN, NULL, 0, x, &l));
    if (weight || t->train) x = QT_EMIT(t, &op, (&(arg){l.inner, weight}), sizeof(arg), x);
    if (t->err) return x;
    if (weight) {
        double top = -qt_reduce_sum_abs(x->data, x->n) / (double)x->n * log(2 - 2 * tau_of(q));
        x = qt_clamp(t, x, -top, top);
    }
    return qt_sign_apply(t, q, x, sign_of);
}

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    qt_tensor u = *x;
    qt_layout l;
    if (q->role == QT_ROLE_WEIGHT) {
        QT_TRY(qt_site_layout(q, QT_PER_CHANNEL, NULL, 0, x, &l));
        if (!(u.data = qt_arena_alloc(a, (size_t)x->n * sizeof(R)))) return QT_EMEM;
        for (int64_t i = 0; i < x->n; i += l.inner) {
            R mean, std;
            row_moments(x->data + i, l.inner, &mean, &std);
            row_forward(u.data + i, x->data + i, l.inner, mean, 1);
        }
    }
    return qt_sign_encode(q, sign_of, &u, a, codes);
}

const qt_quant qt_quant_recu = {
    {"recu", "sign; weights standardized and clamped to a quantile that grows", "Xu et al. 2021, arXiv 2103.12369, eq. 7-13"},
    init, NULL, apply, .encode = encode, .bits = qt_sign_bits, .op = &op};
