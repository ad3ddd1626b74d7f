/* The operations' descriptors; their functions are in qtape.h. */
#ifndef QT_OPS_OPS_H
#define QT_OPS_OPS_H
#include "autograd/tape.h"
#include "kernels/codes.h"
#define QT_OP(name, signature) extern const qt_op qt_op_##name;
#include "qtape/ops.def"
#undef QT_OP

/* linear and conv2d compute their result in integers where this holds: both operands have codes whose layouts the kernels can take. */
bool qt_linear_integer(const qt_tensor *x, const qt_tensor *w);
bool qt_conv2d_integer(const qt_tensor *x, const qt_tensor *w, int stride, int padding, int dilation, int groups);
/* The two with what follows them in evaluation (batch norm as an affine map, relu) done to the integer sums; only where the above holds
 * and no gradient is wanted. end->bias is not used: b is the bias. */
qt_tensor *qt_linear_end(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, const qt_iend *end);
qt_tensor *qt_conv2d_end(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, int stride, int padding, int dilation, int groups, const qt_iend *end);
/* batch_norm with what follows it in the same passes: max(0, batch_norm(x) + skip); skip may be NULL. */
qt_tensor *qt_batch_norm_then(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, qt_tensor *mean, qt_tensor *var, qt_tensor *skip, bool relu,
                              bool batch_stats, double momentum, double eps);
#endif
