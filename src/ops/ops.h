/* The operations' descriptors; their functions are in qtape.h. */
#ifndef QT_OPS_OPS_H
#define QT_OPS_OPS_H
#include "autograd/tape.h"
#define QT_OP(name, signature) extern const qt_op qt_op_##name;
#include "qtape/ops.def"
#undef QT_OP
#endif
