/* No quantization: the tensor as it is. What a recipe's rule says to switch off a rule before it. */
#include "qat/quant.h"

static qt_err     init(qt_site *q) { return (void)q, QT_OK; }
static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x) { return (void)t, (void)q, x; }
static double     bits(const qt_site *q) { return (void)q, 32; }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    (void)x, (void)a, (void)codes;
    return qt_fail(QT_EUSAGE, "%s: the tensor is not quantized, it has no integer codes", q->path);
}

const qt_quant qt_quant_none = {
    {"none", "no quantization"}, init, NULL, apply, .encode = encode, .bits = bits, .idempotent = true, .monotone = true, .zero_to_zero = true};
