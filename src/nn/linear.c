/* Linear layer: y = x w^T + b over the last axis of x, w [out, in], b [out]. Both begin as U(-1/sqrt(in), 1/sqrt(in)), PyTorch's way, or w as
 * a normal distribution and b as 0, the transformers' way. A layer may be tied to an embedding: w is then the table of that one.
 * Input, weight and bias come through the layer's quantizer sites. Where both give integers, so does the product.
 * A frozen weight is packed codes, and an adapter adds its part (lora.c). */
#include "nn/nn.h"
#include <math.h>

typedef struct config {
    int64_t     out;
    bool        bias;
    int         init;
    double      init_std;
    const char *tied;
} config;

static const qt_field fields[] = {
    QT_F_INT(config, out, "0", 0, 1 << 24, "number of outputs; must be given"),
    QT_F_BOOL(config, bias, "true", "add a learned offset to each output"),
    QT_F_ENUM(config, init, "uniform", "uniform|normal", "uniform: within 1/sqrt(in) of 0, bias too; normal: of deviation init_std, bias 0"),
    QT_F_REAL(config, init_std, "0", 0, 1e6, "standard deviation of init: normal; 0: 1/sqrt(in)"),
    QT_F_STR(config, tied, "~", "path of an embedding whose table is the weight"),
    {NULL},
};

static qt_err tie(qt_module *m, const qt_store *s, const config *c, int64_t in)
{
    char name[256], shape[96];
    snprintf(name, sizeof name, "%s.weight", c->tied);
    qt_tensor *w = m->p[0] = qt_param_find(s, name);
    if (!w) return qt_module_fail(m, "tied: there is no layer '%s' with a weight before this one", c->tied);
    if (w->rank == 2 && w->dim[0] == c->out && w->dim[1] == in) return QT_OK;
    m->p[0] = NULL;
    return qt_module_fail(m, "tied: the weight of '%s' is %s, this layer needs [%lld, %lld]", c->tied, qt_shape_str(w, shape), (long long)c->out,
                          (long long)in);
}

static qt_err build(qt_module *m, qt_store *s)
{
    const config *c = m->cfg;
    if (c->out == 0) return qt_module_fail(m, "linear needs 'out', its number of outputs");
    if (m->in_shape[0].rank < 1) return qt_module_misfit(m, 0, "[features]", NULL);
    int64_t in = m->in_shape[0].dim[m->in_shape[0].rank - 1], dim[2] = {c->out, in};
    qt_init w = c->init ? (qt_init){QT_INIT_NORMAL, c->init_std > 0 ? c->init_std : 1 / sqrt((double)in)} : QT_INIT_FAN_IN(in);
    m->out_shape = m->in_shape[0];
    m->out_shape.dim[m->out_shape.rank - 1] = c->out;
    QT_TRY(c->tied ? tie(m, s, c, in) : qt_module_param(m, s, 0, "weight", QT_WEIGHT, w, 2, dim));
    return c->bias ? qt_module_param(m, s, 1, "bias", QT_BIAS, c->init ? QT_INIT_CONST(0) : w, 1, dim) : QT_OK;
}

static qt_tensor *product(qt_tape *t, qt_module *m, qt_tensor *in)
{
    qt_tensor *x = qt_module_act(t, m, in);
    if (m->frozen) return qt_frozen_linear(t, x, m->frozen, qt_module_bias(t, m));
    qt_tensor *w = qt_module_weight(t, m);
    m->integer = !t->err && qt_linear_integer(x, w);
    qt_gradq grad;
    qt_extra extra = qt_module_extra(t, m, &grad);
    return qt_linear_extra(t, x, w, qt_module_bias(t, m), &extra);
}

static qt_tensor *forward(qt_tape *t, qt_module *m, qt_tensor **in)
{
    qt_tensor *y = product(t, m, in[0]);
    return m->lora ? qt_lora_add(t, m, in[0], y) : y;
}

static void sizes(void *cfg, const qt_tensor *weight, const qt_tensor *bias)
{
    config *c = cfg;
    if (weight) c->out = weight->dim[0];
    c->bias = bias != NULL;
}

static int64_t macs(const qt_module *m)
{
    int64_t n = m->p[0]->n;
    for (int i = 0; i < m->in_shape[0].rank - 1; i++) n *= m->in_shape[0].dim[i];
    return n;
}

const qt_layer qt_layer_linear = {
    .d = {"linear", "each output a weighted sum of all inputs", NULL, fields, sizeof(config)},
    .quantizes = true,
    .token_rank = 1,
    .max_rank = 2,
    .build = build,
    .forward = forward,
    .sizes = sizes,
    .macs = macs,
};
