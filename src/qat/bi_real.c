/* Bi-Real Net: a surrogate gradient that is nearer to the sign's than a box.
 *
 *     weight      y = sign(w) mean|w|  of its output channel, a constant,      dw = dy mean|w| [|w| <= 1]
 *     activation  y = sign(x),                                                  dx = dy max(0, 2 - 2|x|)
 *
 * The box [|x| <= 1] is the derivative of clamp(x, -1, 1), which differs from sign(x) by up to 1; that of a parabola on either side of 0 differs
 * less, and its derivative is the triangle. Liu et al. 2018, "Bi-Real Net" (arXiv 1808.00278), eq. 7-8. The shortcut around every
 * convolution that goes with it is the recipe's; left out: the magnitude-aware gradient of the weights. */
#include "qat/sign.h"

static qt_err init(qt_site *q) { return (void)q, QT_OK; }

static qt_err sign_of(const qt_site *q, const qt_tensor *x, qt_arena *a, qt_sign *s)
{
    const bool weight = q->role == QT_ROLE_WEIGHT;
    *s = (qt_sign){.surrogate = weight ? QT_STE : QT_POLY};
    return weight ? qt_sign_means(q, QT_PER_CHANNEL, NULL, x, a, s) : qt_sign_unit(x, a, s);
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x) { return qt_sign_apply(t, q, x, sign_of); }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes) { return qt_sign_encode(q, sign_of, x, a, codes); }

const qt_quant qt_quant_bi_real = {
    {"bi_real", "sign with a triangle as gradient; weights times their channel's mean magnitude", "Liu et al. 2018, arXiv 1808.00278"},
    init, NULL, apply, .encode = encode, .bits = qt_sign_bits, .op = &qt_sign_op};
