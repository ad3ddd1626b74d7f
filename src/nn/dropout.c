/* Dropout: in training each number is 0 with probability p and divided by 1 - p otherwise; in evaluation nothing happens.
 * Srivastava et al., "Dropout", JMLR 2014. What is dropped depends on the seed, the layer's path and the step only. */
#include "nn/nn.h"

typedef struct config {
    double p;
} config;

static const qt_field fields[] = {
    QT_F_REAL(config, p, "0.5", 0, 0.999999, "probability of being dropped"),
    {NULL},
};

static qt_err build(qt_module *m, qt_store *s)
{
    (void)s;
    m->out_shape = m->in_shape[0];
    return QT_OK;
}

static qt_tensor *forward(qt_tape *t, qt_module *m, qt_tensor **in) { return qt_dropout(t, in[0], ((config *)m->cfg)->p); }

const qt_layer qt_layer_dropout = {
    .d = {"dropout", "a random part of the numbers left out in training", "Srivastava et al., JMLR 2014", fields, sizeof(config)},
    .token_rank = 1,
    .build = build,
    .forward = forward,
};
