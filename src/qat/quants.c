/* The table of quantizers, made from quants.def. */
#include "qat/quant.h"

static const qt_desc *const all[] = {
#define QT_Q(name) &qt_quant_##name.d,
#include "qat/quants.def"
#undef QT_Q
    NULL};
const qt_kind qt_quants = {"quants", "quant", "quantizers: how a tensor becomes integers, and what its gradient is", all};
