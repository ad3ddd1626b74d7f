/* Binary: the sign times the mean magnitude.
 *
 *     s = mean|x| (of the tensor or the channel),   y = sign(x) s  with sign(0) = +1,      dx = dy [|x| <= 1]   (clip), or dy (identity)
 *
 * s is a constant for the gradient; sign has derivative 0 almost everywhere, and the straight-through estimator takes that of
 * clamp(x, -1, 1), so that weights far out stop moving. Rastegari et al. 2016, "XNOR-Net" (arXiv 1603.05279), eq. 6; Courbariaux et al. 2016
 * (arXiv 1602.02830), eq. 4, for the mask. Left out: the gradient through s. */
#include "qat/sign.h"

typedef struct cfg {
    int     granularity, ste;
    qt_ints axis;
} cfg;
enum { TENSOR, CHANNEL };
enum { CLIP, IDENTITY };

static const qt_field fields[] = {
    QT_F_ENUM(cfg, granularity, "tensor", "tensor|channel", "what shares a scale"),
    QT_F_INTS(cfg, axis, "[]", -QT_MAX_DIM, QT_MAX_DIM - 1, "channel axis; negative counts from the last; default: the layer's"),
    QT_F_ENUM(cfg, ste, "clip", "clip|identity", "gradient: 0 where |x| > 1, or passed on everywhere"),
    {0}};

static qt_granularity granularity_of(const cfg *c) { return c->granularity == CHANNEL ? QT_PER_CHANNEL : QT_PER_TENSOR; }

static qt_err init(qt_site *q)
{
    const cfg *c = q->cfg;
    int64_t    count;
    return qt_site_count(q, granularity_of(c), &c->axis, 0, &count); /* checks the axis */
}

static qt_err sign_of(const qt_site *q, const qt_tensor *x, qt_arena *a, qt_sign *s)
{
    const cfg *c = q->cfg;
    *s = (qt_sign){.surrogate = c->ste == CLIP ? QT_STE : QT_IDENTITY, .plain = true};
    return qt_sign_means(q, granularity_of(c), &c->axis, x, a, s);
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x) { return qt_sign_apply(t, q, x, sign_of); }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes) { return qt_sign_encode(q, sign_of, x, a, codes); }

const qt_quant qt_quant_binary = {
    {"binary", "sign times mean magnitude", "Rastegari et al. 2016, arXiv 1603.05279, eq. 6", fields, sizeof(cfg)},
    init, NULL, apply, .encode = encode, .bits = qt_sign_bits, .monotone = true, .op = &qt_sign_op};
