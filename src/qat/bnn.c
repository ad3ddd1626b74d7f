/* BNN: weights and activations are their signs.
 *
 *     y = sign(x)  with sign(0) = +1,      dx = dy [|x| <= 1]
 *
 * No scale: the batch norm that follows supplies it. Courbariaux et al. 2016, "Binarized neural networks" (arXiv 1602.02830), eq. 1 and 4. With an
 * `output_scale` behind the layer it is XNOR-Net++. Left out: the stochastic sign. */
#include "qat/sign.h"

static qt_err init(qt_site *q) { return (void)q, QT_OK; }

static qt_err sign_of(const qt_site *q, const qt_tensor *x, qt_arena *a, qt_sign *s)
{
    (void)q;
    *s = (qt_sign){.surrogate = QT_STE};
    return qt_sign_unit(x, a, s);
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x) { return qt_sign_apply(t, q, x, sign_of); }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes) { return qt_sign_encode(q, sign_of, x, a, codes); }

const qt_quant qt_quant_bnn = {
    {"bnn", "sign, gradient through where |x| <= 1", "Courbariaux et al. 2016, arXiv 1602.02830"},
    init, NULL, apply, .encode = encode, .bits = qt_sign_bits, .idempotent = true, .monotone = true, .op = &qt_sign_op};
