/* Layers that move numbers and change none: flatten, identity (a name for `from` to point at), pad. */
#include "nn/nn.h"

static qt_err build_flatten(qt_module *m, qt_store *s)
{
    (void)s;
    m->out_shape = (qt_shape){1, {1}};
    for (int i = 0; i < m->in_shape[0].rank; i++) m->out_shape.dim[0] *= m->in_shape[0].dim[i];
    return QT_OK;
}

static qt_tensor *forward_flatten(qt_tape *t, qt_module *m, qt_tensor **in)
{
    return qt_reshape(t, in[0], 2, (int64_t[]){in[0]->dim[0], m->out_shape.dim[0]});
}

static qt_err build_identity(qt_module *m, qt_store *s)
{
    (void)s;
    m->out_shape = m->in_shape[0];
    return QT_OK;
}

static qt_tensor *forward_identity(qt_tape *t, qt_module *m, qt_tensor **in)
{
    (void)t, (void)m;
    return in[0];
}

typedef struct pad_config {
    qt_ints padding;
    double  value;
} pad_config;
static const qt_field pad_fields[] = {
    QT_F_INTS(pad_config, padding, NULL, 0, 1024, "pixels: all sides, [vertical, horizontal] or [top, bottom, left, right]"),
    QT_F_REAL(pad_config, value, "0", -1e30, 1e30, "what they hold"),
    {NULL},
};

/* top, bottom, left, right */
static void sides(const pad_config *c, int64_t side[4])
{
    for (int i = 0; i < 4; i++) side[i] = c->padding.v[c->padding.n == 4 ? i : c->padding.n == 2 ? i / 2 : 0];
}

static qt_err build_pad(qt_module *m, qt_store *s)
{
    const pad_config *c = m->cfg;
    int64_t           side[4];
    (void)s;
    if (m->in_shape[0].rank != 3) return qt_module_misfit(m, 0, "an image [C, H, W]", NULL);
    if (c->padding.n != 1 && c->padding.n != 2 && c->padding.n != 4)
        return qt_module_fail(m, "padding: expected 1, 2 or 4 numbers, found %d", c->padding.n);
    sides(c, side);
    m->out_shape = m->in_shape[0];
    m->out_shape.dim[1] += side[0] + side[1];
    m->out_shape.dim[2] += side[2] + side[3];
    return QT_OK;
}

static qt_tensor *forward_pad(qt_tape *t, qt_module *m, qt_tensor **in)
{
    const pad_config *c = m->cfg;
    int64_t           side[4];
    sides(c, side);
    return qt_pad(t, qt_pad(t, in[0], 2, side[0], side[1], c->value), 3, side[2], side[3], c->value);
}

const qt_layer qt_layer_flatten = {
    .d = {"flatten", "all numbers of a sample as one row", NULL, NULL, 0},
    .token_rank = 1,
    .build = build_flatten,
    .forward = forward_flatten,
};
const qt_layer qt_layer_identity = {
    .d = {"identity", "what comes in goes out; a name for `from`", NULL, NULL, 0},
    .token_rank = 1,
    .build = build_identity,
    .forward = forward_identity,
};
const qt_layer qt_layer_pad = {
    .d = {"pad", "a border around images", NULL, pad_fields, sizeof(pad_config)},
    .token_rank = 3,
    .build = build_pad,
    .forward = forward_pad,
};
