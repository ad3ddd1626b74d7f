/* A quantized weight that nobody trains, from numbers to packed codes and, for a merge, changed in its zero points. */
#ifndef QT_QAT_FROZEN_H
#define QT_QAT_FROZEN_H
#include "qat/quant.h"

/* Packs w [N,K], quantized by its site, into f, whose arrays come from the arena; work is not set. QT_ERECIPE if its codes take more than 8
 * bits. t is an idle tape, which is reset. */
qt_err qt_frozen_pack(qt_site *q, qt_tensor *w, qt_tape *t, qt_arena *a, qt_frozen *f);
#endif
