/* RPReLU, the activation of ReActNet: y = PReLU(x - g) + z with g, z and the slope below 0 learned for each channel, so that the distribution that
 * the next sign sees can be moved and bent. g and z begin as 0, the slope as 0.25. Liu et al. 2020 (arXiv 2003.03488), eq. 5. */
#include "nn/nn.h"

enum { SLOPE, SHIFT, OFFSET };

static qt_err build(qt_module *m, qt_store *s)
{
    const qt_shape *x = &m->in_shape[0];
    const int64_t  *C = &x->dim[x->rank == 3 ? 0 : x->rank - 1];
    m->out_shape = *x;
    QT_TRY(qt_module_param(m, s, SLOPE, "weight", QT_NORM, QT_INIT_CONST(0.25), 1, C));
    QT_TRY(qt_module_param(m, s, SHIFT, "shift", QT_NORM, QT_INIT_CONST(0), 1, C));
    return qt_module_param(m, s, OFFSET, "offset", QT_NORM, QT_INIT_CONST(0), 1, C);
}

static qt_tensor *forward(qt_tape *t, qt_module *m, qt_tensor **in)
{
    qt_tensor *moved = qt_add_channels(t, in[0], qt_scale(t, m->p[SHIFT], -1));
    return qt_add_channels(t, qt_prelu(t, moved, m->p[SLOPE]), m->p[OFFSET]);
}

const qt_layer qt_layer_rprelu = {
    .d = {"rprelu", "PReLU whose input and output are shifted by learned numbers", "Liu et al. 2020, arXiv 2003.03488, eq. 5"},
    .token_rank = 3,
    .build = build,
    .forward = forward,
};
