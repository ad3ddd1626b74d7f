/* im2col and col2im, row by row: each tap of the kernel moves along a row of the image, and the columns that fall into the padding
 * are a prefix and a suffix of that row. */
#include "kernels/im2col.h"
#include "base/par.h"
#include <string.h>

void qt_conv_range(int64_t at, int64_t stride, int64_t size, int64_t out, int64_t *begin, int64_t *end)
{
    *begin = at >= 0 ? 0 : qt_min_i64(out, (-at + stride - 1) / stride);
    *end = at >= size ? *begin : qt_max_i64(*begin, qt_min_i64(out, (size - 1 - at) / stride + 1));
}

static void row_to_col(const R *row, int64_t left, int64_t stride, int64_t begin, int64_t end, int64_t out, R *col)
{
    for (int64_t i = 0; i < begin; i++) col[i] = 0;
    if (stride == 1 && end > begin) memcpy(col + begin, row + left + begin, (size_t)(end - begin) * sizeof *row);
    else
        for (int64_t i = begin; i < end; i++) col[i] = row[left + i * stride];
    for (int64_t i = end; i < out; i++) col[i] = 0;
}

void qt_im2col(const qt_conv *c, int64_t C, const R *x, R *col)
{
    for (int64_t ch = 0; ch < C; ch++, x += c->H * c->W)
        for (int64_t i = 0; i < c->KH; i++)
            for (int64_t j = 0; j < c->KW; j++) {
                int64_t left = j * c->dilation - c->padding, begin, end;
                qt_conv_range(left, c->stride, c->W, c->OW, &begin, &end);
                for (int64_t oh = 0; oh < c->OH; oh++, col += c->OW) {
                    int64_t h = oh * c->stride + i * c->dilation - c->padding;
                    if (h < 0 || h >= c->H) memset(col, 0, (size_t)c->OW * sizeof *col);
                    else row_to_col(x + h * c->W, left, c->stride, begin, end, c->OW, col);
                }
            }
}

void qt_col2im(const qt_conv *c, int64_t C, const R *col, R *dx)
{
    for (int64_t ch = 0; ch < C; ch++, dx += c->H * c->W)
        for (int64_t i = 0; i < c->KH; i++)
            for (int64_t j = 0; j < c->KW; j++) {
                int64_t left = j * c->dilation - c->padding, begin, end;
                qt_conv_range(left, c->stride, c->W, c->OW, &begin, &end);
                for (int64_t oh = 0; oh < c->OH; oh++, col += c->OW) {
                    int64_t h = oh * c->stride + i * c->dilation - c->padding;
                    if (h < 0 || h >= c->H) continue;
                    for (int64_t ow = begin; ow < end; ow++) dx[h * c->W + left + ow * c->stride] += col[ow];
                }
            }
}
