/* The table of codecs, made from codecs.def, and the one that keeps floats: what nobody reads comes back, relu keeps bits, and tensors with
 * integer codes keep these. Gradients have the same bits as without it. */
#include "autograd/codec.h"

const qt_codec qt_codec_none = {.d = {"none", "floats, but only of what backward reads; exact"}};

static const qt_desc *const codecs[] = {
#define QT_CODEC(name) &qt_codec_##name.d,
#include "autograd/codecs.def"
#undef QT_CODEC
    NULL};

const qt_kind qt_codecs = {"codecs", "codec", "how tensors are kept for backward", codecs};
