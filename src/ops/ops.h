/* The operations' descriptors; their functions are in qtape.h. */
#ifndef QT_OPS_OPS_H
#define QT_OPS_OPS_H
#include "autograd/tape.h"
#include "kernels/codes.h"
#include "kernels/frozen.h"
#include "kernels/shiftq.h"
#define QT_OP(name, signature) extern const qt_op qt_op_##name;
#include "qtape/ops.def"
#undef QT_OP

/* linear and conv2d compute their result in integers where this holds: both operands have codes whose layouts the kernels can take. */
bool qt_linear_integer(const qt_tensor *x, const qt_tensor *w);
bool qt_conv2d_integer(const qt_tensor *x, const qt_tensor *w, int stride, int padding, int dilation, int groups);
/* What a layer does beside its product. */
typedef struct qt_gradq {
    qt_shiftq how;    /* bits, groups, exact, nearest */
    uint64_t  stream; /* of its random numbers; 2 step and 2 step + 1 are added */
} qt_gradq;
typedef struct qt_extra {
    qt_iend         end;  /* evaluation in integers: what follows, done to the sums. end.bias is not used, b is the bias */
    const qt_gradq *grad; /* training: quantized gradients (gradq.h), or NULL */
} qt_extra;
qt_tensor *qt_linear_extra(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, const qt_extra *extra);
qt_tensor *qt_conv2d_extra(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, int stride, int padding, int dilation, int groups,
                           const qt_extra *extra);
/* linear with a weight that is frozen, and there as packed codes only. b may be NULL. */
extern const qt_op qt_op_frozen_linear;
qt_tensor *qt_frozen_linear(qt_tape *t, qt_tensor *x, const qt_frozen *w, qt_tensor *b);
/* The L1 norms in integers of so many bits; `stream` names the random numbers that round the gradient. skip, relu: as of the norms below. */
typedef struct qt_l1_codes_cfg {
    int      bits, grad_bits;
    uint64_t stream;
} qt_l1_codes_cfg;
extern const qt_op qt_op_l1_batch_norm_codes, qt_op_l1_layer_norm_codes;
qt_tensor *qt_l1_batch_norm_codes(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, qt_tensor *mean, qt_tensor *sigma, qt_tensor *skip,
                                  bool relu, const qt_l1_codes_cfg *how, double momentum, double eps);
qt_tensor *qt_l1_layer_norm_codes(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, const qt_l1_codes_cfg *how, double eps);
/* Batch norms with what follows in the same passes: max(0, norm(x) + skip); skip may be NULL. */
qt_tensor *qt_l1_batch_norm_then(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, qt_tensor *mean, qt_tensor *sigma, qt_tensor *skip, bool relu,
                                 bool batch_stats, double momentum, double eps);
qt_tensor *qt_batch_norm_then(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, qt_tensor *mean, qt_tensor *var, qt_tensor *skip, bool relu,
                              bool batch_stats, double momentum, double eps);
#endif
