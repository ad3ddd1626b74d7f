/* XNOR-Net: signs with the mean magnitude of what they stand for.
 *
 *     weight      y = sign(w) s,  s = mean|w| of the output channel                            dw = dy [|w| <= 1]
 *     activation  y = sign(x) k,  k = mean|x| of the sample; of a linear layer, of the row      dx = dy [|x| <= 1]
 *
 * A linear layer takes the mean off each row of its weight first: u = w - mean(w), y = sign(u) mean|u|, du = dy [|u| <= 1], dw = du - mean(du).
 * s and k are constants for the gradient, which is that of clamp(x, -1, 1), without the factor. Rastegari et al. 2016
 * (arXiv 1603.05279), sections 3.1 and 3.2. Left out: a k for each place of the image. */
#include "ops/inner.h"
#include "qat/sign.h"

static qt_err init(qt_site *q) { return (void)q, QT_OK; }

/* ---- rows less their means ---- */

static qt_err shape(qt_node *nd) { return qt_node_out_like(nd, nd->in[0]); }

QT_CLONES static void centre_row(R *restrict y, const R *restrict x, int64_t D, bool add)
{
    double sum = 0;
    QT_SUM(sum, j, D, x[j]);
    const R mean = (R)(sum / (double)D);
    if (add)
        for (int64_t j = 0; j < D; j++) y[j] += x[j] - mean;
    else
        for (int64_t j = 0; j < D; j++) y[j] = x[j] - mean;
}

static void centre_rows(R *y, const R *x, int64_t n, int64_t D, bool add)
{
    QT_FOR_CHUNKS(b, e, n / D, qt_row_grain(D))
    for (int64_t i = b; i < e; i++) centre_row(y + i * D, x + i * D, D, add);
}

static void forward(qt_node *nd) { centre_rows(nd->out->data, nd->in[0]->data, nd->out->n, nd->out->dim[nd->out->rank - 1], false); }

static void backward(const qt_node *nd)
{
    const bool first = qt_grad_first(nd->in[0]);
    if (nd->in[0]->grad) centre_rows(nd->in[0]->grad, nd->out->grad, nd->out->n, nd->out->dim[nd->out->rank - 1], !first);
}

static const qt_op op = {.d = {"centre", "rows less their means"}, .kind = QT_EXACT, .shape = shape, .forward = forward, .backward = backward,
                         .stores = true, .reads = qt_reads_nothing};

/* ---- the quantizer ---- */

static bool centred(const qt_site *q) { return q->role == QT_ROLE_WEIGHT && q->rank == 2; }

static qt_err sign_of(const qt_site *q, const qt_tensor *x, qt_arena *a, qt_sign *s)
{
    *s = (qt_sign){.surrogate = QT_STE, .plain = true};
    return qt_sign_means(q, q->role == QT_ROLE_WEIGHT ? QT_PER_CHANNEL : QT_PER_TOKEN, NULL, x, a, s);
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    if (centred(q)) x = QT_EMIT(t, &op, NULL, 0, x);
    return qt_sign_apply(t, q, x, sign_of);
}

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    qt_tensor u = *x;
    if (centred(q)) {
        if (!(u.data = qt_arena_alloc(a, (size_t)x->n * sizeof(R)))) return QT_EMEM;
        centre_rows(u.data, x->data, x->n, x->dim[x->rank - 1], false);
    }
    return qt_sign_encode(q, sign_of, &u, a, codes);
}

const qt_quant qt_quant_xnor = {
    {"xnor", "sign times the mean magnitude of a weight's channel, of an input's sample", "Rastegari et al. 2016, arXiv 1603.05279"},
    init, NULL, apply, .encode = encode, .bits = qt_sign_bits, .op = &qt_sign_op};
