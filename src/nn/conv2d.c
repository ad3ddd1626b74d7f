/* Convolution of images: x [C, H, W] to [out, H', W'] with w [out, C/groups, kh, kw] and H' = (H + 2 padding - dilation (kh - 1) - 1) /
 * stride + 1. Groups cut the channels into independent parts; groups = C is depthwise. Weight and bias begin as U(-a, a) with
 * a = 1/sqrt(C/groups kh kw). With padding_mode: circular the pixels around the image come from its other side (ops/wrap.c), and what follows is
 * a convolution without padding, in floats or integers. Left out: padding that differs by side (put a `pad` before it) and strides that differ
 * by axis. */
#include "nn/nn.h"

typedef struct config {
    int64_t out, stride, padding, dilation, groups;
    qt_ints kernel;
    int     padding_mode;
    bool    bias;
} config;

static const qt_field fields[] = {
    QT_F_INT(config, out, "0", 0, 1 << 20, "number of output channels; must be given"),
    QT_F_INTS(config, kernel, "0", 0, 1024, "size of the kernel, one number or [height, width]; must be given"),
    QT_F_INT(config, stride, "1", 1, 1024, "pixels between two outputs"),
    QT_F_INT(config, padding, "0", 0, 1024, "pixels around the image"),
    QT_F_ENUM(config, padding_mode, "zeros", "zeros|circular", "what these hold: zeros, or the pixels of the opposite side"),
    QT_F_INT(config, dilation, "1", 1, 1024, "pixels between two taps of the kernel"),
    QT_F_INT(config, groups, "1", 1, 1 << 20, "independent parts of the channels"),
    QT_F_BOOL(config, bias, "true", "add a learned offset to each channel"),
    {NULL},
};

enum { ZEROS, CIRCULAR };

static int64_t extent(const config *c, int64_t n, int64_t k)
{
    int64_t room = n + 2 * c->padding - c->dilation * (k - 1) - 1;
    return room < 0 ? 0 : room / c->stride + 1;
}

static qt_err build(qt_module *m, qt_store *s)
{
    const config   *c = m->cfg;
    const qt_shape *x = &m->in_shape[0];
    int64_t         kh = c->kernel.v[0], kw = c->kernel.v[c->kernel.n > 1];
    if (c->out == 0 || c->kernel.n < 1 || kh == 0 || kw == 0)
        return qt_module_fail(m, "conv2d needs 'out', its number of channels, and 'kernel', its size");
    if (c->kernel.n > 2) return qt_module_fail(m, "kernel: expected one number or [height, width]");
    if (x->rank != 3) return qt_module_misfit(m, 0, "an image [C, H, W]", NULL);
    if (x->dim[0] % c->groups || c->out % c->groups)
        return qt_module_fail(m, "groups %lld must divide both the %lld input channels and the %lld output channels", (long long)c->groups,
                              (long long)x->dim[0], (long long)c->out);
    m->out_shape = (qt_shape){3, {c->out, extent(c, x->dim[1], kh), extent(c, x->dim[2], kw)}};
    if (!m->out_shape.dim[1] || !m->out_shape.dim[2]) return qt_module_misfit(m, 0, "an image as large as the kernel", "more padding?");
    int64_t dim[4] = {c->out, x->dim[0] / c->groups, kh, kw};
    qt_init init = QT_INIT_FAN_IN(dim[1] * kh * kw);
    QT_TRY(qt_module_param(m, s, 0, "weight", QT_WEIGHT, init, 4, dim));
    return c->bias ? qt_module_param(m, s, 1, "bias", QT_BIAS, init, 1, dim) : QT_OK;
}

static qt_tensor *forward(qt_tape *t, qt_module *m, qt_tensor **in)
{
    const config *c = m->cfg;
    int           stride = (int)c->stride, padding = (int)c->padding, dilation = (int)c->dilation, groups = (int)c->groups;
    qt_tensor    *x = qt_module_act(t, m, in[0]), *w = qt_module_weight(t, m);
    if (c->padding_mode == CIRCULAR && padding) x = qt_wrap(t, x, padding), padding = 0;
    m->integer = !t->err && qt_conv2d_integer(x, w, stride, padding, dilation, groups);
    qt_gradq grad;
    qt_extra extra = qt_module_extra(t, m, &grad);
    return qt_conv2d_extra(t, x, w, qt_module_bias(t, m), stride, padding, dilation, groups, &extra);
}

static void sizes(void *cfg, const qt_tensor *weight, const qt_tensor *bias)
{
    config *c = cfg;
    if (weight && weight->rank == 4) c->out = weight->dim[0], c->kernel = (qt_ints){2, {weight->dim[2], weight->dim[3]}};
    c->bias = bias != NULL;
}

static int64_t macs(const qt_module *m) { return m->p[0]->n * m->out_shape.dim[1] * m->out_shape.dim[2]; }

bool qt_conv2d_walk(const qt_module *m, qt_walk *w)
{
    const config *c = m->cfg;
    if (m->layer != &qt_layer_conv2d) return false;
    *w = (qt_walk){c->stride, c->padding, c->dilation, c->groups, c->padding_mode == CIRCULAR};
    return true;
}

const qt_layer qt_layer_conv2d = {
    .d = {"conv2d", "convolution of images", NULL, fields, sizeof(config)},
    .quantizes = true,
    .token_rank = 3,
    .build = build,
    .forward = forward,
    .sizes = sizes,
    .macs = macs,
};
