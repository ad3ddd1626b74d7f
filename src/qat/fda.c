/* FDA-BNN: the gradient of the sign in the frequency domain.
 *
 *     y = sign(x),      dx = dy (4 w/pi) sum_{i=0..n} cos((2i+1) w x)  where |x| <= 1, else 0,     w = 0.1,  n = 9 + floor(9 epoch/E)
 *     weight      y = sign(w) mean|w|  of its output channel, a constant
 *     activation  in training y + alpha eta(x),  eta(x) = W2 relu(W1 x) + 0.1 sin(x),  alpha = 0.05 (1 + cos(pi (epoch + 1)/E))
 *
 * The sign is a square wave near 0; its Fourier series, cut off after n + 1 terms, has a smooth derivative, which sharpens as n grows from 9 to 18
 * over the E epochs. eta, two 1x1 convolutions with max(1, C/64) channels between them, learns what the series leaves out; its weight
 * alpha falls to 0, and evaluation is without it. While alpha is not 0 training computes in float. Xu et al. 2021, "Learning frequency domain
 * approximation for binary neural networks" (arXiv 2103.00841), eq. 6-11. */
#include "ops/ops.h"
#include "qat/sign.h"

typedef struct cfg {
    bool noise;
} cfg;
enum { W1, W2 };

static const qt_field fields[] = {QT_F_BOOL(cfg, noise, "true", "add the noise adaptation to activations in training"), {0}};

static int64_t channels_of(const qt_site *q) { return q->rank == 4 ? q->dim[1] : q->dim[q->rank - 1]; }

/* A matrix of a 1x1 convolution, or of a linear layer. */
static qt_err add_matrix(qt_site *q, int k, const char *name, int64_t out, int64_t in)
{
    char *full = qt_arena_sprintf(&q->arena, "%s.%s", q->path, name);
    if (!full) return QT_EMEM;
    q->p[k] = qt_param_add(q->store, full, QT_QUANT, QT_INIT_FAN_IN(in), q->rank == 4 ? 4 : 2, (int64_t[]){out, in, 1, 1});
    return q->p[k] ? QT_OK : QT_ERECIPE;
}

static qt_err init(qt_site *q)
{
    int64_t C = channels_of(q), hidden = qt_max_i64(1, C / 64);
    if (q->role == QT_ROLE_WEIGHT || !((const cfg *)q->cfg)->noise) return QT_OK;
    QT_TRY(add_matrix(q, W1, "w1", hidden, C));
    return add_matrix(q, W2, "w2", C, hidden);
}

static int terms_of(const qt_site *q) { return 10 + (q->epochs ? (int)(9 * q->epoch / q->epochs) : 0); }
static double alpha_of(const qt_site *q)
{
    return q->epochs ? 0.05 * (1 + cos(3.14159265358979323846 * (double)(q->epoch + 1) / (double)q->epochs)) : 0;
}

static qt_err sign_of(const qt_site *q, const qt_tensor *x, qt_arena *a, qt_sign *s)
{
    *s = (qt_sign){.surrogate = QT_FDA, .terms = terms_of(q)};
    return q->role == QT_ROLE_WEIGHT ? qt_sign_means(q, QT_PER_CHANNEL, NULL, x, a, s) : qt_sign_unit(x, a, s);
}

static qt_tensor *product(qt_tape *t, qt_tensor *x, qt_tensor *w)
{
    return w->rank == 4 ? qt_conv2d(t, x, w, NULL, 1, 0, 1, 1) : qt_linear(t, x, w, NULL);
}

static qt_tensor *eta(qt_tape *t, const qt_site *q, qt_tensor *x)
{
    return qt_add(t, product(t, qt_relu(t, product(t, x, q->p[W1])), q->p[W2]), qt_scale(t, qt_sin(t, x), 0.1));
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    const double alpha = alpha_of(q);
    qt_tensor   *y = qt_sign_apply(t, q, x, sign_of);
    return t->train && q->p[W1] && alpha > 1e-9 ? qt_add(t, y, qt_scale(t, eta(t, q, x), alpha)) : y;
}

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes) { return qt_sign_encode(q, sign_of, x, a, codes); }

const qt_quant qt_quant_fda = {
    {"fda", "sign, its gradient a Fourier series cut off", "Xu et al. 2021, arXiv 2103.00841, eq. 6-11", fields, sizeof(cfg)},
    init, NULL, apply, .encode = encode, .bits = qt_sign_bits, .op = &qt_sign_op};
