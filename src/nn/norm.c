/* Normalization of each row over its last axis, the same in training and evaluation: layer norm takes off the mean and divides by the
 * standard deviation, RMS norm divides by the root of the mean square. Weight (and bias) are learned, one number a feature.
 * Ba, Kiros, Hinton, "Layer normalization", 2016; Zhang, Sennrich, "Root mean square layer normalization", NeurIPS 2019. */
#include "nn/nn.h"

typedef struct config {
    double eps;
    bool   affine;
} config;

static const qt_field fields[] = {
    QT_F_REAL(config, eps, "1e-5", 0, 1, "added to the mean square"),
    QT_F_BOOL(config, affine, "true", "learn a scale (and, in layer_norm, an offset) for each feature"),
    {NULL},
};

static qt_err build_rms(qt_module *m, qt_store *s)
{
    m->out_shape = m->in_shape[0];
    if (m->out_shape.rank < 1) return qt_module_misfit(m, 0, "[features]", NULL);
    if (!((config *)m->cfg)->affine) return QT_OK;
    return qt_module_param(m, s, 0, "weight", QT_NORM, QT_INIT_CONST(1), 1, &m->out_shape.dim[m->out_shape.rank - 1]);
}

static qt_err build_layer(qt_module *m, qt_store *s)
{
    QT_TRY(build_rms(m, s));
    if (!((config *)m->cfg)->affine) return QT_OK;
    return qt_module_param(m, s, 1, "bias", QT_NORM, QT_INIT_CONST(0), 1, &m->out_shape.dim[m->out_shape.rank - 1]);
}

static qt_tensor *forward_rms(qt_tape *t, qt_module *m, qt_tensor **in) { return qt_rms_norm(t, in[0], m->p[0], ((config *)m->cfg)->eps); }
static qt_tensor *forward_layer(qt_tape *t, qt_module *m, qt_tensor **in)
{
    return qt_layer_norm(t, in[0], m->p[0], m->p[1], ((config *)m->cfg)->eps);
}

static void sizes(void *cfg, const qt_tensor *weight, const qt_tensor *bias)
{
    (void)bias;
    ((config *)cfg)->affine = weight != NULL;
}

const qt_layer qt_layer_layer_norm = {
    .d = {"layer_norm", "each row brought to mean 0 and variance 1", "Ba et al., 2016, section 3", fields, sizeof(config)},
    .token_rank = 1,
    .build = build_layer,
    .forward = forward_layer,
    .sizes = sizes,
};
const qt_layer qt_layer_rms_norm = {
    .d = {"rms_norm", "each row divided by its root mean square", "Zhang and Sennrich, NeurIPS 2019, equation 4", fields, sizeof(config)},
    .token_rank = 1,
    .build = build_rms,
    .forward = forward_rms,
    .sizes = sizes,
};
