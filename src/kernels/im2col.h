/* im2col and col2im: a convolution as a matrix product. For one image x [C,H,W] the columns are
 *     col[(c, i, j), (oh, ow)] = x[c, oh*stride + i*dilation - padding, ow*stride + j*dilation - padding], zero outside,
 * so that y [O, OH*OW] = w [O, C*KH*KW] col. */
#ifndef QT_KERNELS_IM2COL_H
#define QT_KERNELS_IM2COL_H
#include "kernels/conv.h"

/* C channels of x [C,H,W] into col [C*KH*KW, OH*OW] */
void qt_im2col(const qt_conv *c, int64_t C, const R *x, R *col);
/* its transpose: adds col into dx [C,H,W] */
void qt_col2im(const qt_conv *c, int64_t C, const R *col, R *dx);
#endif
