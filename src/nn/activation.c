/* Activations: one number in, one number out (softmax: one row), no parameters. */
#include "nn/nn.h"

typedef struct leaky_config {
    double slope;
} leaky_config;
static const qt_field leaky_fields[] = {
    QT_F_REAL(leaky_config, slope, "0.01", 0, 1, "slope below zero"),
    {NULL},
};

typedef struct gelu_config {
    int approximate;
} gelu_config;
static const qt_field gelu_fields[] = {
    QT_F_ENUM(gelu_config, approximate, "none", "none|tanh", "none: the normal distribution itself; tanh: its common approximation"),
    {NULL},
};

static qt_err build(qt_module *m, qt_store *s)
{
    (void)s;
    m->out_shape = m->in_shape[0];
    return QT_OK;
}

/* cfg stands for the options in the call. */
#define ACTIVATION(name, text, fields, size, rectified, call)                         \
    static qt_tensor *forward_##name(qt_tape *t, qt_module *m, qt_tensor **in)        \
    {                                                                                 \
        qt_tensor  *x = in[0];                                                        \
        const void *cfg = m->cfg;                                                     \
        (void)cfg;                                                                    \
        return call;                                                                  \
    }                                                                                 \
    const qt_layer qt_layer_##name = {                                                \
        .d = {#name, text, NULL, fields, size},                                       \
        .token_rank = 1,                                                              \
        .build = build,                                                               \
        .forward = forward_##name,                                                    \
        .rectifies = rectified,                                                       \
    };

ACTIVATION(relu, "max(x, 0)", NULL, 0, true, qt_relu(t, x))
ACTIVATION(relu2, "max(x, 0) squared", NULL, 0, false, qt_relu2(t, x))
ACTIVATION(leaky_relu, "x above zero, slope x below", leaky_fields, sizeof(leaky_config), false, qt_leaky_relu(t, x, ((const leaky_config *)cfg)->slope))
ACTIVATION(gelu, "x times the share of the normal distribution below x", gelu_fields, sizeof(gelu_config), false,
           ((const gelu_config *)cfg)->approximate ? qt_gelu_tanh(t, x) : qt_gelu(t, x))
ACTIVATION(silu, "x sigmoid(x)", NULL, 0, false, qt_silu(t, x))
ACTIVATION(sigmoid, "1 / (1 + exp(-x))", NULL, 0, false, qt_sigmoid(t, x))
ACTIVATION(tanh, "hyperbolic tangent", NULL, 0, false, qt_tanh(t, x))
ACTIVATION(softmax, "exp(x) over the sum of its row", NULL, 0, false, qt_softmax(t, x))
