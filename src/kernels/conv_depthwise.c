/* Convolution of single channels (groups = C): no sum over channels, so a matrix product has nothing to hold on to; every pass goes along
 * whole rows, which compilers turn into vector code of any width.
 *     stride 1  a plane is copied with its zeros around it, and then row by row  y = b + sum over taps of w x,  in one sweep for 3 x 3.
 *               dx is the same with dy for x and the kernel turned by 180 degrees. dw: a row of running sums for each tap, tap[v] +=
 *               dy[v] x[v + j], that lie in the first-level cache and are added up at the end of the plane.
 *     others    each tap moves along the part of a row that is not padding: y_row += w x_row, dx_row += w dy_row, dw = dot(dy_row, x_row). */
#include "base/par.h"
#include "kernels/conv.h"
#include <string.h>

static bool suits(const qt_conv *c) { return c->groups == c->C && c->C > 1; }

/* Padding that makes dx a convolution of dy. */
static int64_t outer(int64_t K, const qt_conv *c) { return (K - 1) * c->dilation - c->padding; }
static bool    dense(const qt_conv *c) { return c->stride == 1 && outer(c->KH, c) >= 0 && outer(c->KW, c) >= 0; }

static void plan(qt_conv *c)
{
    int64_t reach_h = (c->KH - 1) * c->dilation, reach_v = (c->KW - 1) * c->dilation;
    c->packed = 0;
    c->scratch = dense(c) ? (qt_max_i64(c->H, c->OH) + reach_h) * (qt_max_i64(c->W, c->OW) + reach_v) + c->KH * c->KW * c->OW : 0;
    c->partial = c->O * c->KH * c->KW;
}

/* ---- stride 1 ---- */

/* x [H,W] with `top` and `left` zeros around it on either side; returns the length of a row of d. */
static int64_t pad(const R *x, int64_t H, int64_t W, int64_t top, int64_t left, R *d)
{
    int64_t pitch = W + 2 * left;
    memset(d, 0, (size_t)((H + 2 * top) * pitch) * sizeof *d);
    for (int64_t h = 0; h < H; h++) memcpy(d + (h + top) * pitch + left, x + h * W, (size_t)W * sizeof *d);
    return pitch;
}

/* y[v] = b + sum of w x, or added to y */
QT_CLONES static void row_3x3(const R *restrict x, int64_t pitch, const R *restrict w, R b, R *restrict y, int64_t n, bool first)
{
    const R *restrict x1 = x + pitch, *restrict x2 = x + 2 * pitch;
    const R a0 = w[0], a1 = w[1], a2 = w[2], a3 = w[3], a4 = w[4], a5 = w[5], a6 = w[6], a7 = w[7], a8 = w[8];
    for (int64_t v = 0; v < n; v++) {
        R sum = b + a0 * x[v] + a1 * x[v + 1] + a2 * x[v + 2];
        sum = sum + a3 * x1[v] + a4 * x1[v + 1] + a5 * x1[v + 2];
        sum = sum + a6 * x2[v] + a7 * x2[v + 1] + a8 * x2[v + 2];
        y[v] = first ? sum : y[v] + sum;
    }
}

QT_CLONES static void row_any(const qt_conv *c, const R *restrict x, int64_t pitch, const R *restrict w, R b, R *restrict y, int64_t n, bool first)
{
    for (int64_t v = 0; v < n; v++) y[v] = first ? b : y[v] + b;
    for (int64_t i = 0; i < c->KH; i++)
        for (int64_t j = 0; j < c->KW; j++) {
            const R *restrict at = x + i * c->dilation * pitch + j * c->dilation;
            const R wk = w[i * c->KW + j];
            for (int64_t v = 0; v < n; v++) y[v] += wk * at[v];
        }
}

/* y [H,W] from a plane with its zeros */
static void rows(const qt_conv *c, const R *x, int64_t pitch, const R *w, R b, R *y, int64_t H, int64_t W, bool first)
{
    for (int64_t h = 0; h < H; h++, x += pitch, y += W) {
        if (c->KH == 3 && c->KW == 3 && c->dilation == 1) row_3x3(x, pitch, w, b, y, W, first);
        else row_any(c, x, pitch, w, b, y, W, first);
    }
}

static void forward_dense(const qt_conv *c, const R *x, const R *w, const R *b, R *scratch, R *y)
{
    int64_t each = c->O / c->C, pitch = 0;
    for (int64_t o = 0; o < c->O; o++, w += c->KH * c->KW, y += c->OH * c->OW) {
        if (o % each == 0) pitch = pad(x + o / each * c->H * c->W, c->H, c->W, c->padding, c->padding, scratch);
        rows(c, scratch, pitch, w, b ? b[o] : 0, y, c->OH, c->OW, true);
    }
}

static void dx_dense(const qt_conv *c, const R *dy, const R *w, R *scratch, R *out, bool first)
{
    int64_t each = c->O / c->C, K = c->KH * c->KW;
    R      *turned = scratch + c->scratch - K; /* the end of what dw sums in: behind any plane of dy */
    for (int64_t o = 0; o < c->O; o++, w += K, dy += c->OH * c->OW) {
        int64_t pitch = pad(dy, c->OH, c->OW, outer(c->KH, c), outer(c->KW, c), scratch);
        for (int64_t k = 0; k < K; k++) turned[k] = w[K - 1 - k];
        rows(c, scratch, pitch, turned, 0, out + o / each * c->H * c->W, c->H, c->W, first && o % each == 0);
    }
}

/* sum[k][v] += dy[v] x[v + tap k], all taps of one row of dy */
QT_CLONES static void row_products(const qt_conv *c, const R *restrict dy, const R *restrict x, int64_t pitch, R *restrict sum)
{
    for (int64_t i = 0; i < c->KH; i++)
        for (int64_t j = 0; j < c->KW; j++, sum += c->OW) {
            const R *restrict at = x + i * c->dilation * pitch + j * c->dilation;
            for (int64_t v = 0; v < c->OW; v++) sum[v] += dy[v] * at[v];
        }
}

static R total(const R *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i];
    return (R)sum;
}

static void dw_dense(const qt_conv *c, const R *x, const R *dy, R *scratch, R *partial)
{
    int64_t each = c->O / c->C, K = c->KH * c->KW, pitch = 0;
    R      *sum = scratch + c->scratch - K * c->OW;
    for (int64_t o = 0; o < c->O; o++, dy += c->OH * c->OW, partial += K) {
        if (o % each == 0) pitch = pad(x + o / each * c->H * c->W, c->H, c->W, c->padding, c->padding, scratch);
        memset(sum, 0, (size_t)(K * c->OW) * sizeof *sum);
        for (int64_t h = 0; h < c->OH; h++) row_products(c, dy + h * c->OW, scratch + h * pitch, pitch, sum);
        for (int64_t k = 0; k < K; k++) partial[k] += total(sum + k * c->OW, c->OW);
    }
}

/* ---- any stride ---- */

QT_CLONES static void add_row(R *y, int64_t ys, const R *x, int64_t xs, R w, int64_t n)
{
    if (xs == 1 && ys == 1)
        for (int64_t i = 0; i < n; i++) y[i] += w * x[i];
    else
        for (int64_t i = 0; i < n; i++) y[i * ys] += w * x[i * xs];
}

QT_CLONES static R dot_row(const R *y, const R *x, int64_t xs, int64_t n)
{
    R sum = 0;
    for (int64_t i = 0; i < n; i++) sum += y[i] * x[i * xs];
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

/* ---- the passes ---- */

static void forward(const qt_conv *c, const R *x, const R *w, const R *b, const R *packed, R *scratch, R *y)
{
    (void)packed;
    if (dense(c)) {
        forward_dense(c, x, w, b, scratch, y);
        return;
    }
    for (int64_t o = 0; o < c->O; o++)
        for (int64_t p = 0; p < c->OH * c->OW; p++) y[o * c->OH * c->OW + p] = b ? b[o] : 0;
    each_row(c, (R *)x, y, (R *)w, forward_row);
}

static void dx(const qt_conv *c, const R *dy, const R *w, const R *packed, R *scratch, R *out, bool first)
{
    (void)packed;
    if (dense(c)) {
        dx_dense(c, dy, w, scratch, out, first);
        return;
    }
    if (first) memset(out, 0, (size_t)(c->C * c->H * c->W) * sizeof *out);
    each_row(c, out, (R *)dy, (R *)w, dx_row);
}

static void dw(const qt_conv *c, const R *x, const R *dy, const R *packed, R *scratch, R *partial)
{
    (void)packed;
    if (dense(c)) dw_dense(c, x, dy, scratch, partial);
    else each_row(c, (R *)x, (R *)dy, partial, dw_row);
}

static void unpack_dw(const qt_conv *c, const R *partial, R *out)
{
    for (int64_t i = 0; i < c->partial && i < c->O * c->KH * c->KW; i++) out[i] += partial[i];
}

const qt_conv_path qt_conv_depthwise = {"depthwise", suits, plan, NULL, forward, dx, dw, unpack_dw};
