/* Layer max_min: sorts pairs of channels (ops/max_min.c), an activation that keeps the length of gradients. */
#include "nn/nn.h"

static qt_err build(qt_module *m, qt_store *s)
{
    (void)s;
    if (m->in_shape[0].rank == 2) return qt_module_misfit(m, 0, "[features] or [C, H, W]", NULL);
    if (m->in_shape[0].dim[0] % 2) return qt_module_misfit(m, 0, "an even number of channels", NULL);
    m->out_shape = m->in_shape[0];
    return QT_OK;
}

static qt_tensor *forward(qt_tape *t, qt_module *m, qt_tensor **in)
{
    (void)m;
    return qt_max_min(t, in[0]);
}

const qt_layer qt_layer_max_min = {
    .d = {"max_min", "channels sorted in pairs, the larger first (GroupSort of two)", "Anil, Lucas, Grosse 2019, section 4.2", NULL, 0},
    .token_rank = 1,
    .build = build,
    .forward = forward,
};
