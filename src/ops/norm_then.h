/* What follows a norm of channels in a residual network, done in the norm's own passes: z = max(0, y + skip), either of the two if asked, with the
 * norm's y = (x - m) k + b. Backward of the norm sees g, which is dz where z is not <= 0 and 0 elsewhere; dskip is g too.
 * The same operations in the same order as those of the norm, the sum and the relu one after the other, so the same bits. Without skip the mask of the
 * relu need not be read: z can be computed from x again, by the same operations. */
#ifndef QT_OPS_NORM_THEN_H
#define QT_OPS_NORM_THEN_H
#include "base/par.h"
#include "ops/ops.h"
#include "ops/vmath.h"

QT_INLINE R qt_rectified(R v) { return v <= 0 ? 0 : v; }
QT_INLINE R qt_masked(R dz, R z) { return z <= 0 ? 0 : dz; }
/* How dz becomes g: as it is, masked by z, or by z computed again. */
enum { QT_UNMASKED, QT_BY_Z, QT_BY_X };
QT_INLINE R qt_let_through(int mask, R dz, R x, R z, R m, R k, R b)
{
    return mask == QT_UNMASKED ? dz : qt_masked(dz, mask == QT_BY_X ? (x - m) * k + b : z);
}
/* Which of them a norm is to take; again: whether its passes can compute z again. Where a codec stands in for x that would not be z. */
int qt_then_mask(const qt_node *nd, bool relu, const qt_tensor *skip, bool again);

/* skip NULL: none. Fails on a shape that is not x's. */
qt_err qt_then_shape(qt_node *nd, const qt_tensor *skip);
/* z from x, N runs of S numbers that lie `step` apart. */
void qt_then_runs(R *z, const R *x, const R *skip, bool relu, int64_t N, int64_t step, int64_t S, R m, R k, R b);
/* z from x, N rows of `width` columns that lie `step` apart; m, k, b of the columns. */
void qt_then_strip(R *z, const R *x, const R *skip, bool relu, int64_t N, int64_t step, int width, const R *m, const R *k, const R *b);
/* dskip, all of it, if it is wanted. */
void qt_then_back(const qt_node *nd, qt_tensor *skip, bool relu);
#endif
