/* ReActNet: the threshold of each channel of the activations is learned.
 *
 *     weight      y = sign(w) mean|w|  of its output channel, a constant,      dw = dy mean|w| [|w| <= 1]
 *     activation  y = sign(x + t[c]),  t learned, 0 at first,                   dx = dy max(0, 2 - 2|x + t[c]|),   dt[c] = sum of dx over channel c
 *
 * Which values of a channel become -1 decides how much of its information is left; batch norm's offset could not learn it where a shortcut
 * goes around the sign. Liu et al. 2020, "ReActNet" (arXiv 2003.03488), eq. 1-4. Its RPReLU is a layer of its own (nn/rprelu.c). */
#include "qat/sign.h"
#include "ops/ops.h"

enum { SHIFT };

static qt_err init(qt_site *q)
{
    int64_t channels = q->rank == 4 ? q->dim[1] : q->dim[q->rank - 1];
    return q->role == QT_ROLE_WEIGHT ? QT_OK : qt_site_param(q, SHIFT, "shift", QT_QUANT, channels, 0);
}

static qt_err sign_of(const qt_site *q, const qt_tensor *x, qt_arena *a, qt_sign *s)
{
    const bool weight = q->role == QT_ROLE_WEIGHT;
    *s = (qt_sign){.surrogate = weight ? QT_STE : QT_POLY};
    return weight ? qt_sign_means(q, QT_PER_CHANNEL, NULL, x, a, s) : qt_sign_unit(x, a, s);
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    if (q->p[SHIFT]) x = qt_add_channels(t, x, q->p[SHIFT]);
    return qt_sign_apply(t, q, x, sign_of);
}

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    qt_tensor moved = *x;
    qt_layout c = {0};
    if (q->p[SHIFT]) {
        if (!(moved.data = qt_arena_alloc(a, (size_t)x->n * sizeof(R)))) return QT_EMEM;
        QT_TRY(qt_site_layout(q, QT_PER_CHANNEL, &(qt_ints){1, {x->rank == 4 ? 1 : x->rank - 1}}, 0, x, &c));
        for (int64_t i = 0; i < x->n; i++) moved.data[i] = x->data[i] + q->p[SHIFT]->data[i / c.inner % c.count];
    }
    return qt_sign_encode(q, sign_of, &moved, a, codes);
}

const qt_quant qt_quant_reactnet = {
    {"reactnet", "sign of x + t, t learned for each channel", "Liu et al. 2020, arXiv 2003.03488, eq. 1-4"},
    init, NULL, apply, .encode = encode, .bits = qt_sign_bits, .op = &qt_sign_op};
