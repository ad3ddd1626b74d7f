/* Learned scales behind a layer of signs: y = x o[c] h[i] v[j] (XNOR-Net++, Bulat and Tzimiropoulos 2019, arXiv 1909.13863), or o[c] alone (the
 * alpha of ReCU). They begin as 1, or as U(0, 1). */
#include "nn/nn.h"

typedef struct config {
    int over, init;
} config;
enum { CHANNEL, RANK_ONE };
enum { ONE, UNIFORM };

static const qt_field fields[] = {
    QT_F_ENUM(config, over, "rank_one", "channel|rank_one", "a number for each channel; or also for each row and column of an image"),
    QT_F_ENUM(config, init, "one", "one|uniform", "all 1, or drawn from 0 to 1"),
    {NULL},
};

static qt_err build(qt_module *m, qt_store *s)
{
    const config   *c = m->cfg;
    const qt_shape *x = &m->in_shape[0];
    const bool      image = x->rank == 3;
    const qt_init   init = c->init == UNIFORM ? (qt_init){QT_INIT_POSITIVE, 1} : QT_INIT_CONST(1);
    m->out_shape = *x;
    QT_TRY(qt_module_param(m, s, 0, "weight", QT_NORM, init, 1, &x->dim[image ? 0 : x->rank - 1]));
    if (!image || c->over == CHANNEL) return QT_OK;
    QT_TRY(qt_module_param(m, s, 1, "rows", QT_NORM, init, 1, &x->dim[1]));
    return qt_module_param(m, s, 2, "columns", QT_NORM, init, 1, &x->dim[2]);
}

static qt_tensor *forward(qt_tape *t, qt_module *m, qt_tensor **in) { return qt_output_scale(t, in[0], m->p[0], m->p[1], m->p[2]); }

const qt_layer qt_layer_output_scale = {
    .d = {"output_scale", "learned scales of channels, rows and columns", "Bulat and Tzimiropoulos 2019, arXiv 1909.13863", fields, sizeof(config)},
    .token_rank = 3,
    .build = build,
    .forward = forward,
};
