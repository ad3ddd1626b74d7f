/* The table of operations, made from ops.def. */
#include "ops/ops.h"

static const qt_desc *const all[] = {
#define QT_OP(name, signature) &qt_op_##name.d,
#include "qtape/ops.def"
#undef QT_OP
    NULL};
const qt_kind qt_ops = {"ops", "op", "operations of the tape, with their gradients", all};
