/* Normalization of each row over its last axis by the mean absolute deviation, the same in training and evaluation. Weight, which starts at
 * sqrt(2/pi) as in l1_batch_norm, and bias are learned, one number a feature. l1_layer_norm_int is the same layer computed in integers, the
 * gradient too (ops/l1_norm_int.c). Guo et al., arXiv 2411.10948. */
#include "nn/nn.h"

enum { WEIGHT, BIAS };

typedef struct config {
    double  eps, gain_init;
    bool    affine;
    int64_t num_bits, grad_bits; /* 0: numbers */
} config;

#define FIELDS                                                                                                     \
    QT_F_REAL(config, eps, "1e-5", 0, 1, "added to the mean absolute deviation"),                                  \
    QT_F_REAL(config, gain_init, "0.7978845608028654", 0, 1e6, "the scale that training starts from, sqrt(2/pi)"), \
    QT_F_BOOL(config, affine, "true", "learn a scale and an offset for each feature")

static const qt_field fields[] = {FIELDS, {NULL}};
static const qt_field int_fields[] = {
    FIELDS,
    QT_F_INT(config, num_bits, "8", 2, 8, "bits of the integers that are normalized"),
    QT_F_INT(config, grad_bits, "8", 2, 8, "bits of the gradient"),
    {NULL},
};

static qt_err build(qt_module *m, qt_store *s)
{
    const config *c = m->cfg;
    m->out_shape = m->in_shape[0];
    if (m->out_shape.rank < 1) return qt_module_misfit(m, 0, "[features]", NULL);
    if (!c->affine) return QT_OK;
    const int64_t *D = &m->out_shape.dim[m->out_shape.rank - 1];
    QT_TRY(qt_module_param(m, s, WEIGHT, "weight", QT_NORM, QT_INIT_CONST(c->gain_init), 1, D));
    return qt_module_param(m, s, BIAS, "bias", QT_NORM, QT_INIT_CONST(0), 1, D);
}

static qt_tensor *forward(qt_tape *t, qt_module *m, qt_tensor **in)
{
    const config         *c = m->cfg;
    const qt_l1_codes_cfg how = {(int)c->num_bits, (int)c->grad_bits, qt_hash(m->path)};
    if (c->num_bits) return qt_l1_layer_norm_codes(t, in[0], m->p[WEIGHT], m->p[BIAS], &how, c->eps);
    return qt_l1_layer_norm(t, in[0], m->p[WEIGHT], m->p[BIAS], c->eps);
}

static void sizes(void *cfg, const qt_tensor *weight, const qt_tensor *bias)
{
    (void)bias;
    ((config *)cfg)->affine = weight != NULL;
}

const qt_layer qt_layer_l1_layer_norm = {
    .d = {"l1_layer_norm", "each row brought to mean 0 and mean absolute deviation 1", "Guo et al., arXiv 2411.10948", fields, sizeof(config)},
    .token_rank = 1,
    .build = build,
    .forward = forward,
    .sizes = sizes,
};

const qt_layer qt_layer_l1_layer_norm_int = {
    .d = {"l1_layer_norm_int", "l1_layer_norm computed in integers", "Guo et al., arXiv 2411.10948", int_fields, sizeof(config)},
    .token_rank = 1,
    .build = build,
    .forward = forward,
    .sizes = sizes,
};
