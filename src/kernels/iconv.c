/* Convolution in integers: plain loops. */
#include "kernels/iconv.h"

bool qt_iconv_suits(const qt_conv *c, const qt_icodes *x, const qt_icodes *w)
{
    int64_t taps = c->C / c->groups * c->KH * c->KW;
    return x->inner % (c->C * c->H * c->W) == 0 && w->inner % taps == 0 && taps <= qt_longest_block(qt_icodes_reach(x), qt_icodes_reach(w));
}

size_t qt_iconv_work(const qt_conv *c, const qt_icodes *x, const qt_icodes *w) { return (void)c, (void)x, (void)w, 64; }

void qt_iconv(const qt_conv *c, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y)
{
    (void)work;
    qt_iconv_naive(c, x, w, end, y);
}

void qt_iconv_naive(const qt_conv *c, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, R *y)
{
    int64_t        Cg = c->C / c->groups, Og = c->O / c->groups, image = c->C * c->H * c->W, taps = Cg * c->KH * c->KW;
    const uint8_t *xq = x->q;
    const int8_t  *wq = w->q;
    for (int64_t n = 0; n < c->N; n++)
        for (int64_t o = 0; o < c->O; o++) {
            int64_t kx = n * image / x->inner % x->count, kw = o * taps / w->inner % w->count, zx = x->zero ? x->zero[kx] : 0, zw = w->zero ? w->zero[kw] : 0;
            R       s = qt_iend_scale(end, x->scale[kx] * w->scale[kw], o), offset = qt_iend_offset(end, o);
            for (int64_t oh = 0; oh < c->OH; oh++)
                for (int64_t ow = 0; ow < c->OW; ow++) {
                    int64_t acc = 0;
                    for (int64_t k = 0; k < taps; k++) {
                        int64_t h = oh * c->stride + k / c->KW % c->KH * c->dilation - c->padding, v = ow * c->stride + k % c->KW * c->dilation - c->padding;
                        if (h < 0 || h >= c->H || v < 0 || v >= c->W) continue;
                        acc += (xq[n * image + ((o / Og * Cg + k / (c->KH * c->KW)) * c->H + h) * c->W + v] - zx) * (wq[o * taps + k] - zw);
                    }
                    *y++ = qt_iend_store(end, (R)acc * s, offset);
                }
        }
}
