/* Convolution as im2col and a matrix product, image by image and group by group: the path for any shape, precision and processor.
 *     y = w col,   dcol = w^T dy,   dw = dy col^T */
#include "kernels/gemm.h"
#include "kernels/im2col.h"
#include <string.h>

static bool    suits(const qt_conv *c) { return c->N > 0; }
static int64_t taps(const qt_conv *c) { return c->C / c->groups * c->KH * c->KW; }

static void plan(qt_conv *c)
{
    c->packed = 0;
    c->scratch = taps(c) * c->OH * c->OW;
    c->partial = c->O * taps(c);
}

static void forward(const qt_conv *c, const R *x, const R *w, const R *b, const R *packed, R *scratch, R *y)
{
    int64_t Cg = c->C / c->groups, Og = c->O / c->groups, K = taps(c), P = c->OH * c->OW;
    (void)packed;
    for (int64_t o = 0; o < c->O; o++)
        for (int64_t p = 0; p < P; p++) y[o * P + p] = b ? b[o] : 0;
    for (int64_t g = 0; g < c->groups; g++) {
        qt_im2col(c, Cg, x + g * Cg * c->H * c->W, scratch);
        qt_gemm_serial(false, false, Og, P, K, 1, w + g * Og * K, scratch, 1, y + g * Og * P);
    }
}

static void dx(const qt_conv *c, const R *dy, const R *w, const R *packed, R *scratch, R *out, bool first)
{
    int64_t Cg = c->C / c->groups, Og = c->O / c->groups, K = taps(c), P = c->OH * c->OW;
    (void)packed;
    if (first) memset(out, 0, (size_t)(c->C * c->H * c->W) * sizeof *out);
    for (int64_t g = 0; g < c->groups; g++) {
        qt_gemm_serial(true, false, K, P, Og, 1, w + g * Og * K, dy + g * Og * P, 0, scratch);
        qt_col2im(c, Cg, scratch, out + g * Cg * c->H * c->W);
    }
}

static void dw(const qt_conv *c, const R *x, const R *dy, const R *packed, R *scratch, R *partial)
{
    int64_t Cg = c->C / c->groups, Og = c->O / c->groups, K = taps(c), P = c->OH * c->OW;
    (void)packed;
    for (int64_t g = 0; g < c->groups; g++) {
        qt_im2col(c, Cg, x + g * Cg * c->H * c->W, scratch);
        qt_gemm_serial(false, true, Og, K, P, 1, dy + g * Og * P, scratch, 1, partial + g * Og * K);
    }
}

static void unpack_dw(const qt_conv *c, const R *partial, R *out)
{
    for (int64_t i = 0; i < c->O * taps(c); i++) out[i] += partial[i];
}

const qt_conv_path qt_conv_portable = {"im2col", suits, plan, NULL, forward, dx, dw, unpack_dw};
