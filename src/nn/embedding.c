/* Embedding: row `id` of a table w [num, dim] for each id; ids [...] become [..., dim]. Rows begin as N(0, init_std^2); 1 is PyTorch's way.
 * Quant rules apply to the table, not to the ids. */
#include "nn/nn.h"

typedef struct config {
    int64_t num, dim;
    double  init_std;
} config;

static const qt_field fields[] = {
    QT_F_INT(config, num, "0", 0, INT32_MAX, "number of rows: ids are 0 to num - 1; must be given"),
    QT_F_INT(config, dim, "0", 0, 1 << 20, "numbers a row; must be given"),
    QT_F_REAL(config, init_std, "1", 0, 1e6, "standard deviation of the numbers at first"),
    {NULL},
};

static qt_err build(qt_module *m, qt_store *s)
{
    const config *c = m->cfg;
    if (c->num == 0 || c->dim == 0) return qt_module_fail(m, "embedding needs 'num', its number of rows, and 'dim', the numbers a row");
    m->out_shape = m->in_shape[0];
    if (m->out_shape.rank >= QT_MAX_DIM - 1) return qt_module_misfit(m, 0, "ids with one axis less", NULL);
    m->out_shape.dim[m->out_shape.rank++] = c->dim;
    return qt_module_param(m, s, 0, "weight", QT_WEIGHT, (qt_init){QT_INIT_NORMAL, c->init_std}, 2, (int64_t[]){c->num, c->dim});
}

static qt_tensor *forward(qt_tape *t, qt_module *m, qt_tensor **in) { return qt_embedding(t, qt_module_weight(t, m), in[0]); }

static void sizes(void *cfg, const qt_tensor *weight, const qt_tensor *bias)
{
    config *c = cfg;
    (void)bias;
    if (weight && weight->rank == 2) c->num = weight->dim[0], c->dim = weight->dim[1];
}

const qt_layer qt_layer_embedding = {
    .d = {"embedding", "a learned row of numbers for each id", NULL, fields, sizeof(config)},
    .quantizes = true,
    .reads_ids = true,
    .token_rank = 1,
    .build = build,
    .forward = forward,
    .sizes = sizes,
};
