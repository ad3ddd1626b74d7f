/* Batch normalization of channels: [C] or [C, H, W]. weight and bias are learned; running_mean and running_var are buffers that training
 * updates and evaluation uses. After schedule.freeze_bn_at (frozen_stats) training uses them too and leaves them alone, so that what
 * is trained then is the network that will be shipped. Ioffe, Szegedy, "Batch normalization", ICML 2015.
 * With a list of bits every one of the four is a table with a row for each precision, for activations of few bits have other statistics than
 * those of many (switchable batch norm: Jin et al., "AdaBits", CVPR 2020). The row is that of the bits of the weight before the layer, or, if
 * that has one precision only, after it. transitional: a row for each pair of bits before and after (Bulat, Tzimiropoulos, "Bit-Mixer",
 * ICCV 2021). With quantizers for a = weight/sqrt(var + eps) and b = bias - mean a (role `affine`) it is y = a x + b in all modes, with both as
 * they are quantized: what a device computes. */
#include "nn/nn.h"
#include "ops/ops.h"
#include <math.h>

enum { WEIGHT, BIAS, MEAN, VAR };

typedef struct config {
    double  eps, momentum;
    bool    affine, transitional;
    qt_ints bits;
} config;

static const qt_field fields[] = {
    QT_F_REAL(config, eps, "1e-5", 0, 1, "added to the variance"),
    QT_F_REAL(config, momentum, "0.1", 0, 1, "share of the batch's statistics in the running ones"),
    QT_F_BOOL(config, affine, "true", "learn a scale and an offset for each channel"),
    QT_F_INTS(config, bits, "[]", 1, 32, "own statistics, scales and offsets for each of these precisions of the weights around the layer"),
    QT_F_BOOL(config, transitional, "false", "a set for each pair of bits, before and after the layer"),
    {NULL},
};

/* A parameter of one number a channel, or a table of such. */
static qt_err add(qt_module *m, qt_store *s, int k, const char *name, qt_param_kind kind, double value)
{
    const config *c = m->cfg;
    const int     rows = c->bits.n * (c->transitional ? c->bits.n : 1);
    const int64_t dim[2] = {rows, m->in_shape[0].dim[0]};
    QT_TRY(qt_module_param(m, s, k, name, kind, QT_INIT_CONST(value), rows ? 2 : 1, rows ? dim : dim + 1));
    qt_store_param_of(s, m->p[k])->rows = rows;
    return QT_OK;
}

static qt_err build(qt_module *m, qt_store *s)
{
    const config *c = m->cfg;
    if (m->in_shape[0].rank != 1 && m->in_shape[0].rank != 3) return qt_module_misfit(m, 0, "[C] or an image [C, H, W]", NULL);
    if (c->transitional && !c->bits.n) return qt_module_fail(m, "transitional needs a list of bits");
    m->out_shape = m->in_shape[0];
    if (c->affine) {
        QT_TRY(add(m, s, WEIGHT, "weight", QT_NORM, 1));
        QT_TRY(add(m, s, BIAS, "bias", QT_NORM, 0));
    }
    QT_TRY(add(m, s, MEAN, "running_mean", QT_BUFFER, 0));
    return add(m, s, VAR, "running_var", QT_BUFFER, 1);
}

/* Its place in the list, -1 if it is not there. */
static int find(const qt_ints *bits, int b)
{
    for (int i = 0; i < bits->n; i++)
        if (bits->v[i] == b) return i;
    return -1;
}

static qt_err follow(qt_module *m, int before, int after)
{
    const config *c = m->cfg;
    const int     i = find(&c->bits, before ? before : after), j = find(&c->bits, after ? after : before);
    if (!c->bits.n || (!before && !after)) return QT_OK;
    if (i < 0 || j < 0)
        return qt_module_fail(m, "has no set for %d bits, to which the weights around it can be switched", i < 0 ? before ? before : after : after);
    m->row = c->transitional ? i * c->bits.n + j : i;
    return QT_OK;
}

static qt_tensor *row(qt_tape *t, const qt_module *m, int k) { return m->p[k] ? qt_param_row(t, m->p[k], m->row) : NULL; }

static qt_tensor *forward_quantized(qt_tape *t, qt_module *m, qt_tensor *x)
{
    const config *c = m->cfg;
    qt_tensor    *ab = qt_norm_affine(t, x, row(t, m, WEIGHT), row(t, m, BIAS), row(t, m, MEAN), row(t, m, VAR), !m->frozen_stats, c->momentum,
                                      c->eps);
    qt_tensor    *a = qt_quantize(t, m->scale, qt_slice(t, ab, 0, 0, 1)), *b = qt_quantize(t, m->shift, qt_slice(t, ab, 0, 1, 2));
    return qt_channel_affine(t, x, a, b);
}

static qt_tensor *forward(qt_tape *t, qt_module *m, qt_tensor **in)
{
    const config *c = m->cfg;
    if (m->scale) return forward_quantized(t, m, in[0]);
    return qt_batch_norm_then(t, in[0], row(t, m, WEIGHT), row(t, m, BIAS), row(t, m, MEAN), row(t, m, VAR), m->join ? in[1] : NULL, m->relu != NULL,
                              m->recount || !m->frozen_stats, m->recount ? 1 / (double)m->recount : c->momentum, c->eps);
}

/* (x - mean) gain + bias = x gain + (bias - mean gain) */
static qt_err affine(qt_tape *t, const qt_module *m, R **mul, R **add)
{
    const config    *c = m->cfg;
    const qt_tensor *w = row(t, m, WEIGHT), *b = row(t, m, BIAS), *mean = row(t, m, MEAN), *var = row(t, m, VAR);
    R               *gain = qt_tape_alloc(t, 2 * (size_t)mean->n * sizeof(R)), *offset;
    if (!gain) return QT_EMEM;
    offset = gain + mean->n;
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
    .scales = true,
    .absorbs = true,
    .build = build,
    .forward = forward,
    .affine = affine,
    .follow = follow,
    .sizes = sizes,
};
