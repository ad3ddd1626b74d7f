/* Pooling of images [C, H, W]: the largest or the mean value under a square window, or the mean of each whole channel. */
#include "nn/nn.h"

typedef struct config {
    int64_t kernel, stride, padding;
} config;

static const qt_field fields[] = {
    QT_F_INT(config, kernel, NULL, 1, 1024, "side of the window"),
    QT_F_INT(config, stride, "0", 0, 1024, "pixels between two windows; 0: as many as the window is wide"),
    QT_F_INT(config, padding, "0", 0, 512, "pixels around the image, at most half a window"),
    {NULL},
};

static int stride_of(const config *c) { return (int)(c->stride ? c->stride : c->kernel); }

static qt_err build(qt_module *m, qt_store *s)
{
    const config   *c = m->cfg;
    const qt_shape *x = &m->in_shape[0];
    (void)s;
    if (x->rank != 3) return qt_module_misfit(m, 0, "an image [C, H, W]", NULL);
    if (2 * c->padding > c->kernel)
        return qt_module_fail(m, "padding %lld is more than half of the window of %lld", (long long)c->padding, (long long)c->kernel);
    m->out_shape = *x;
    for (int i = 1; i < 3; i++) {
        int64_t room = x->dim[i] + 2 * c->padding - c->kernel;
        if (room < 0) return qt_module_misfit(m, 0, "an image as large as the window", NULL);
        m->out_shape.dim[i] = room / stride_of(c) + 1;
    }
    return QT_OK;
}

static qt_err build_global(qt_module *m, qt_store *s)
{
    (void)s;
    if (m->in_shape[0].rank != 3) return qt_module_misfit(m, 0, "an image [C, H, W]", NULL);
    m->out_shape = (qt_shape){1, {m->in_shape[0].dim[0]}};
    return QT_OK;
}

static qt_tensor *forward_max(qt_tape *t, qt_module *m, qt_tensor **in)
{
    const config *c = m->cfg;
    return qt_max_pool2d(t, in[0], (int)c->kernel, stride_of(c), (int)c->padding);
}

static qt_tensor *forward_avg(qt_tape *t, qt_module *m, qt_tensor **in)
{
    const config *c = m->cfg;
    return qt_avg_pool2d(t, in[0], (int)c->kernel, stride_of(c), (int)c->padding);
}

static qt_tensor *forward_global(qt_tape *t, qt_module *m, qt_tensor **in)
{
    (void)m;
    return qt_global_avg_pool(t, in[0]);
}

const qt_layer qt_layer_max_pool = {
    .d = {"max_pool", "the largest value under a window", NULL, fields, sizeof(config)},
    .token_rank = 3,
    .build = build,
    .forward = forward_max,
};
const qt_layer qt_layer_avg_pool = {
    .d = {"avg_pool", "the mean value under a window", NULL, fields, sizeof(config)},
    .token_rank = 3,
    .build = build,
    .forward = forward_avg,
};
const qt_layer qt_layer_global_avg_pool = {
    .d = {"global_avg_pool", "the mean of each channel: [C, H, W] to [C]", NULL, NULL, 0},
    .token_rank = 3,
    .build = build_global,
    .forward = forward_global,
};
