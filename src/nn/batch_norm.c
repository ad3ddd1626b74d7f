/* Batch normalization of channels: [C] or [C, H, W]. weight and bias are learned; running_mean and running_var are buffers that training
 * updates and evaluation uses. After schedule.freeze_bn_at (frozen_stats) training uses them too and leaves them alone, so that what
 * is trained then is the network that will be shipped. Ioffe, Szegedy, "Batch normalization", ICML 2015. */
#include "nn/nn.h"
#include "ops/ops.h"
#include <math.h>

enum { WEIGHT, BIAS, MEAN, VAR };

typedef struct config {
    double eps, momentum;
    bool   affine;
} config;

static const qt_field fields[] = {
    QT_F_REAL(config, eps, "1e-5", 0, 1, "added to the variance"),
    QT_F_REAL(config, momentum, "0.1", 0, 1, "share of the batch's statistics in the running ones"),
    QT_F_BOOL(config, affine, "true", "learn a scale and an offset for each channel"),
    {NULL},
};

static qt_err build(qt_module *m, qt_store *s)
{
    const config *c = m->cfg;
    int64_t      *C = m->in_shape[0].dim; /* the channels come first */
    if (m->in_shape[0].rank != 1 && m->in_shape[0].rank != 3) return qt_module_misfit(m, 0, "[C] or an image [C, H, W]", NULL);
    m->out_shape = m->in_shape[0];
    if (c->affine) {
        QT_TRY(qt_module_param(m, s, WEIGHT, "weight", QT_NORM, QT_INIT_CONST(1), 1, C));
        QT_TRY(qt_module_param(m, s, BIAS, "bias", QT_NORM, QT_INIT_CONST(0), 1, C));
    }
    QT_TRY(qt_module_param(m, s, MEAN, "running_mean", QT_BUFFER, QT_INIT_CONST(0), 1, C));
    return qt_module_param(m, s, VAR, "running_var", QT_BUFFER, QT_INIT_CONST(1), 1, C);
}

static qt_tensor *forward(qt_tape *t, qt_module *m, qt_tensor **in)
{
    const config *c = m->cfg;
    qt_tensor   **p = m->p;
    if (m->join) m->join->folded = true;
    if (m->relu) m->relu->folded = true;
    return qt_batch_norm_then(t, in[0], p[WEIGHT], p[BIAS], p[MEAN], p[VAR], m->join ? in[1] : NULL, m->relu != NULL, !m->frozen_stats, c->momentum,
                              c->eps);
}

/* (x - mean) gain + bias = x gain + (bias - mean gain) */
static qt_err affine(qt_tape *t, const qt_module *m, R **mul, R **add)
{
    const config    *c = m->cfg;
    const qt_tensor *w = m->p[WEIGHT], *b = m->p[BIAS], *mean = m->p[MEAN], *var = m->p[VAR];
    R               *gain = qt_tape_alloc(t, 2 * (size_t)mean->n * sizeof(R)), *offset = gain + mean->n;
    if (!gain) return QT_EMEM;
    for (int64_t k = 0; k < mean->n; k++) {
        gain[k] = (R)((w ? (double)w->data[k] : 1) / sqrt((double)var->data[k] + c->eps));
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

const qt_layer qt_layer_batch_norm = {
    .d = {"batch_norm", "channels brought to mean 0 and variance 1 over the batch", "Ioffe and Szegedy, ICML 2015, algorithm 1", fields,
          sizeof(config)},
    .token_rank = 3,
    .build = build,
    .forward = forward,
    .affine = affine,
    .sizes = sizes,
};
