/* Convolution of single channels (groups = C): no sum over channels, so a matrix product has nothing to hold on to. Each tap moves
 * along whole rows instead: y_row += w x_row, dx_row += w dy_row, dw = dot(dy_row, x_row), on the part of the row that is not padding. */
#include "base/par.h"
#include "kernels/conv.h"
#include <string.h>

static bool suits(const qt_conv *c) { return c->groups == c->C && c->C > 1; }

static void plan(qt_conv *c)
{
    c->packed = c->scratch = 0;
    c->partial = c->O * c->KH * c->KW;
}

QT_CLONES static void add_row(R *y, int64_t ys, const R *x, int64_t xs, R w, int64_t n)
{
    if (xs == 1 && ys == 1)
        for (int64_t i = 0; i < n; i++) y[i] += w * x[i];
    else
        for (int64_t i = 0; i < n; i++) y[i * ys] += w * x[i * xs];
}

QT_CLONES static R dot_row(const R *y, const R *x, int64_t xs, int64_t n)
{
    R       lane[8] = {0}, sum = 0;
    int64_t i = 0;
    if (xs == 1)
        for (; i + 8 <= n; i += 8)
            for (int l = 0; l < 8; l++) lane[l] += y[i + l] * x[i + l];
    for (int l = 0; l < 8; l++) sum += lane[l];
    for (; i < n; i++) sum += y[i] * x[i * xs];
    return sum;
}

typedef void row_fn(R *x, R *y, R *w, int64_t stride, int64_t n);
static void forward_row(R *x, R *y, R *w, int64_t stride, int64_t n) { add_row(y, 1, x, stride, *w, n); }
static void dx_row(R *x, R *y, R *w, int64_t stride, int64_t n) { add_row(x, stride, y, 1, *w, n); }
static void dw_row(R *x, R *y, R *w, int64_t stride, int64_t n) { *w += dot_row(y, x, stride, n); }

/* For every tap and row of output channel o: the row of y, where its row of x starts, and how long they are. */
static void each_row(const qt_conv *c, R *x, R *y, R *w, row_fn *row)
{
    for (int64_t o = 0; o < c->O; o++, y += c->OH * c->OW)
        for (int64_t i = 0; i < c->KH; i++)
            for (int64_t j = 0; j < c->KW; j++, w++) {
                R      *plane = x + o / (c->O / c->C) * c->H * c->W;
                int64_t top = i * c->dilation - c->padding, left = j * c->dilation - c->padding, begin, end, first, last;
                qt_conv_range(top, c->stride, c->H, c->OH, &first, &last);
                qt_conv_range(left, c->stride, c->W, c->OW, &begin, &end);
                for (int64_t oh = first; oh < last && begin < end; oh++)
                    row(plane + (top + oh * c->stride) * c->W + left + begin * c->stride, y + oh * c->OW + begin, w, c->stride, end - begin);
            }
}

static void forward(const qt_conv *c, const R *x, const R *w, const R *b, const R *packed, R *scratch, R *y)
{
    (void)packed, (void)scratch;
    for (int64_t o = 0; o < c->O; o++)
        for (int64_t p = 0; p < c->OH * c->OW; p++) y[o * c->OH * c->OW + p] = b ? b[o] : 0;
    each_row(c, (R *)x, y, (R *)w, forward_row);
}

static void dx(const qt_conv *c, const R *dy, const R *w, const R *packed, R *scratch, R *out, bool first)
{
    (void)packed, (void)scratch;
    if (first) memset(out, 0, (size_t)(c->C * c->H * c->W) * sizeof *out);
    each_row(c, out, (R *)dy, (R *)w, dx_row);
}

static void dw(const qt_conv *c, const R *x, const R *dy, const R *packed, R *scratch, R *partial)
{
    (void)packed, (void)scratch;
    each_row(c, (R *)x, (R *)dy, partial, dw_row);
}

static void unpack_dw(const qt_conv *c, const R *partial, R *out)
{
    for (int64_t i = 0; i < c->partial && i < c->O * c->KH * c->KW; i++) out[i] += partial[i];
}

const qt_conv_path qt_conv_depthwise = {"depthwise", suits, plan, NULL, forward, dx, dw, unpack_dw};
