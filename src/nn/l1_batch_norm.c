/* Batch normalization of channels by the mean absolute deviation: [C] or [C, H, W]. Without squares and roots it can be computed in integers,
 * and is smoother to train under few bits. The deviation of normal numbers is sqrt(2/pi) of their standard deviation, so the learned weight
 * starts there (gain_init) and what comes out has variance 1, as from batch_norm; from 1 it would have 1.57. weight and bias are learned;
 * running_mean and running_sigma are buffers, with frozen_stats as in batch_norm. l1_batch_norm_int is the same layer, in training computed in
 * integers forward and backward (ops/l1_norm_int.c); in evaluation both are one affine map of each channel. Guo et al., arXiv 2411.10948. */
#include "nn/nn.h"
#include "ops/ops.h"

enum { WEIGHT, BIAS, MEAN, SIGMA };

typedef struct config {
    double  eps, momentum, gain_init;
    bool    affine;
    int64_t num_bits, grad_bits; /* 0: numbers */
} config;

#define FIELDS                                                                                                     \
    QT_F_REAL(config, eps, "1e-5", 0, 1, "added to the mean absolute deviation"),                                  \
    QT_F_REAL(config, momentum, "0.1", 0, 1, "share of the batch's statistics in the running ones"),               \
    QT_F_REAL(config, gain_init, "0.7978845608028654", 0, 1e6, "the scale that training starts from, sqrt(2/pi)"), \
    QT_F_BOOL(config, affine, "true", "learn a scale and an offset for each channel")

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
    int64_t      *C = m->in_shape[0].dim; /* the channels come first */
    if (m->in_shape[0].rank != 1 && m->in_shape[0].rank != 3) return qt_module_misfit(m, 0, "[C] or an image [C, H, W]", NULL);
    m->out_shape = m->in_shape[0];
    if (c->affine) {
        QT_TRY(qt_module_param(m, s, WEIGHT, "weight", QT_NORM, QT_INIT_CONST(c->gain_init), 1, C));
        QT_TRY(qt_module_param(m, s, BIAS, "bias", QT_NORM, QT_INIT_CONST(0), 1, C));
    }
    QT_TRY(qt_module_param(m, s, MEAN, "running_mean", QT_BUFFER, QT_INIT_CONST(0), 1, C));
    return qt_module_param(m, s, SIGMA, "running_sigma", QT_BUFFER, QT_INIT_CONST(1), 1, C);
}

static qt_tensor *forward(qt_tape *t, qt_module *m, qt_tensor **in)
{
    const config *c = m->cfg;
    const double  momentum = m->recount ? 1 / (double)m->recount : c->momentum;
    const bool    batch_stats = m->recount || !m->frozen_stats;
    qt_tensor    *skip = m->join ? in[1] : NULL;
    if (c->num_bits && t->train && batch_stats) {
        const qt_l1_codes_cfg how = {(int)c->num_bits, (int)c->grad_bits, qt_hash(m->path)};
        return qt_l1_batch_norm_codes(t, in[0], m->p[WEIGHT], m->p[BIAS], m->p[MEAN], m->p[SIGMA], skip, m->relu != NULL, &how, momentum,
                                      c->eps);
    }
    return qt_l1_batch_norm_then(t, in[0], m->p[WEIGHT], m->p[BIAS], m->p[MEAN], m->p[SIGMA], skip, m->relu != NULL, batch_stats, momentum, c->eps);
}

/* (x - mean) gain + bias = x gain + (bias - mean gain) */
static qt_err affine(qt_tape *t, const qt_module *m, R **mul, R **add)
{
    const config    *c = m->cfg;
    const qt_tensor *w = m->p[WEIGHT], *b = m->p[BIAS], *mean = m->p[MEAN], *sigma = m->p[SIGMA];
    R               *gain = qt_tape_alloc(t, 2 * (size_t)mean->n * sizeof(R)), *offset;
    if (!gain) return QT_EMEM;
    offset = gain + mean->n;
    for (int64_t k = 0; k < mean->n; k++) {
        gain[k] = (R)((w ? (double)w->data[k] : 1) / ((double)sigma->data[k] + c->eps));
        offset[k] = (R)((b ? (double)b->data[k] : 0) - (double)mean->data[k] * (double)gain[k]);
    }
    *mul = gain, *add = offset;
    return QT_OK;
}

static void sizes(void *cfg, const qt_tensor *weight, const qt_tensor *bias)
{
    (void)bias;
    ((config *)cfg)->affine = weight != NULL;
}

const qt_layer qt_layer_l1_batch_norm = {
    .d = {"l1_batch_norm", "channels brought to mean 0 and mean absolute deviation 1 over the batch", "Guo et al., arXiv 2411.10948", fields,
          sizeof(config)},
    .token_rank = 3,
    .absorbs = true,
    .build = build,
    .forward = forward,
    .affine = affine,
    .sizes = sizes,
};

const qt_layer qt_layer_l1_batch_norm_int = {
    .d = {"l1_batch_norm_int", "l1_batch_norm, in training computed in integers", "Guo et al., arXiv 2411.10948", int_fields, sizeof(config)},
    .token_rank = 3,
    .absorbs = true,
    .build = build,
    .forward = forward,
    .affine = affine,
    .sizes = sizes,
};
