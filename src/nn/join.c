/* Layers with two inputs: the result before them and the one that `from` names. add is the residual connection of He et al., "Deep
 * residual learning", CVPR 2016; concat that of DenseNet and U-Net; glu the
 * gate of the feed-forward part of language models: {use: glu, from: [gate, up]}. */
#include "nn/nn.h"

typedef struct concat_config {
    int64_t axis;
} concat_config;
static const qt_field concat_fields[] = {
    QT_F_INT(concat_config, axis, "1", 1, QT_MAX_DIM - 1, "axis to put them together on, counted with the batch as 0: 1 is the channels of images"),
    {NULL},
};

static qt_err build_add(qt_module *m, qt_store *s)
{
    char a[96], what[128];
    (void)s;
    m->out_shape = m->in_shape[0];
    if (qt_shape_same(&m->in_shape[0], &m->in_shape[1])) return QT_OK;
    snprintf(what, sizeof what, "%s twice, as %s gives", qt_shape_text(&m->in_shape[0], a), m->in_name[0] ? m->in_name[0] : "the input");
    return qt_module_misfit(m, 1, what, NULL);
}

static qt_tensor *forward_add(qt_tape *t, qt_module *m, qt_tensor **in)
{
    (void)m;
    return qt_add(t, in[0], in[1]);
}

static qt_err build_concat(qt_module *m, qt_store *s)
{
    int      axis = (int)((concat_config *)m->cfg)->axis - 1;
    char     a[96], what[192];
    qt_shape want = m->in_shape[0];
    (void)s;
    if (axis >= want.rank) return qt_module_fail(m, "axis %d is none of %s with a batch in front", axis + 1, qt_shape_text(&want, a));
    if (m->in_shape[1].rank == want.rank) want.dim[axis] = m->in_shape[1].dim[axis];
    if (!qt_shape_same(&want, &m->in_shape[1])) {
        snprintf(what, sizeof what, "what fits %s from %s in all axes but %d", qt_shape_text(&m->in_shape[0], a),
                 m->in_name[0] ? m->in_name[0] : "the input", axis + 1);
        return qt_module_misfit(m, 1, what, NULL);
    }
    m->out_shape = m->in_shape[0];
    m->out_shape.dim[axis] += want.dim[axis];
    return QT_OK;
}

static qt_tensor *forward_concat(qt_tape *t, qt_module *m, qt_tensor **in)
{
    return qt_concat(t, in[0], in[1], (int)((concat_config *)m->cfg)->axis);
}

typedef struct glu_config {
    int activation;
} glu_config;
enum { SILU, RELU2, GELU, SIGMOID };
static const qt_field glu_fields[] = {
    QT_F_ENUM(glu_config, activation, "silu", "silu|relu2|gelu|sigmoid", "what the first input goes through; relu2 is max(x, 0)^2"),
    {NULL},
};

static qt_tensor *forward_glu(qt_tape *t, qt_module *m, qt_tensor **in)
{
    switch (((glu_config *)m->cfg)->activation) {
    case SILU: return qt_swiglu(t, in[0], in[1]);
    case RELU2: return qt_mul(t, qt_relu2(t, in[0]), in[1]);
    case GELU: return qt_mul(t, qt_gelu(t, in[0]), in[1]);
    default: return qt_mul(t, qt_sigmoid(t, in[0]), in[1]);
    }
}

const qt_layer qt_layer_glu = {
    .d = {"glu", "gated linear unit: an activation of one result times the other", "Shazeer, arXiv 2002.05202", glu_fields, sizeof(glu_config)},
    .joins = true,
    .token_rank = 1,
    .build = build_add,
    .forward = forward_glu,
};
const qt_layer qt_layer_add = {
    .d = {"add", "the sum of two results", "He et al., CVPR 2016, equation 1", NULL, 0},
    .joins = true,
    .token_rank = 1,
    .build = build_add,
    .forward = forward_add,
};
const qt_layer qt_layer_concat = {
    .d = {"concat", "two results side by side", NULL, concat_fields, sizeof(concat_config)},
    .joins = true,
    .token_rank = 1,
    .build = build_concat,
    .forward = forward_concat,
};
