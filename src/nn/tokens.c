/* Layers of sequences: patches (an image as a list of tokens), positions (a learned row for each place, added), mean_tokens (one row from
 * all tokens). Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, equation 1; Radford et al., "Language models are unsupervised
 * multitask learners", 2019 (positions). */
#include "nn/nn.h"

typedef struct patches_config {
    int64_t size;
} patches_config;
static const qt_field patches_fields[] = {
    QT_F_INT(patches_config, size, NULL, 1, 1024, "pixels of a side"),
    {NULL},
};

static qt_err build_patches(qt_module *m, qt_store *s)
{
    int64_t         p = ((const patches_config *)m->cfg)->size;
    const qt_shape *x = &m->in_shape[0];
    (void)s;
    if (x->rank != 3) return qt_module_misfit(m, 0, "an image [C, H, W]", NULL);
    if (x->dim[1] % p || x->dim[2] % p)
        return qt_module_fail(m, "patches of %lld x %lld do not tile an image of %lld x %lld", (long long)p, (long long)p, (long long)x->dim[1],
                              (long long)x->dim[2]);
    m->out_shape = (qt_shape){2, {x->dim[1] / p * (x->dim[2] / p), x->dim[0] * p * p}};
    return QT_OK;
}

/* [N, C, H, W] -> [N C, rows, p, columns, p] -> [N C, rows, columns, p, p] -> [N, C, tokens, p p] -> [N, tokens, C p p] */
static qt_tensor *forward_patches(qt_tape *t, qt_module *m, qt_tensor **in)
{
    int64_t    p = ((const patches_config *)m->cfg)->size, N = in[0]->dim[0], C = m->in_shape[0].dim[0], T = m->out_shape.dim[0];
    int64_t    rows = m->in_shape[0].dim[1] / p;
    qt_tensor *x = qt_reshape(t, in[0], 5, (int64_t[]){N * C, rows, p, T / rows, p});
    x = qt_permute(t, x, (int[]){0, 1, 3, 2, 4});
    if (C > 1) x = qt_permute(t, qt_reshape(t, x, 4, (int64_t[]){N, C, T, p * p}), (int[]){0, 2, 1, 3});
    return qt_reshape(t, x, 3, (int64_t[]){N, T, C * p * p});
}

typedef struct positions_config {
    double init_std;
} positions_config;
static const qt_field positions_fields[] = {
    QT_F_REAL(positions_config, init_std, "0.02", 0, 1e6, "standard deviation of the numbers at first"),
    {NULL},
};

static qt_err build_positions(qt_module *m, qt_store *s)
{
    m->out_shape = m->in_shape[0];
    if (m->out_shape.rank != 2) return qt_module_misfit(m, 0, "[tokens, features]", NULL);
    return qt_module_param(m, s, 0, "weight", QT_WEIGHT, (qt_init){QT_INIT_NORMAL, ((const positions_config *)m->cfg)->init_std}, 2,
                           m->out_shape.dim);
}

/* The rows of the tokens' places, added to each sequence. */
static qt_tensor *forward_positions(qt_tape *t, qt_module *m, qt_tensor **in)
{
    int64_t    N = in[0]->rank == 3 ? in[0]->dim[0] : 0, T = N ? in[0]->dim[1] : 0, D = m->out_shape.dim[1];
    qt_tensor *rows = m->p[0], *y;
    if (t->first || T != rows->dim[0]) rows = qt_slice(t, rows, 0, t->first, t->first + T);
    y = qt_add(t, qt_reshape(t, in[0], 2, (int64_t[]){N, T * D}), qt_reshape(t, rows, 1, (int64_t[]){T * D}));
    return qt_reshape(t, y, 3, (int64_t[]){N, T, D});
}

static qt_err build_mean(qt_module *m, qt_store *s)
{
    (void)s;
    if (m->in_shape[0].rank != 2) return qt_module_misfit(m, 0, "[tokens, features]", NULL);
    m->out_shape = (qt_shape){1, {m->in_shape[0].dim[1]}};
    return QT_OK;
}

static qt_tensor *forward_mean(qt_tape *t, qt_module *m, qt_tensor **in)
{
    (void)m;
    return qt_mean(t, in[0], 1);
}

const qt_layer qt_layer_patches = {
    .d = {"patches", "an image as a list of tokens, one a square", "Dosovitskiy et al., ICLR 2021", patches_fields, sizeof(patches_config)},
    .token_rank = 3,
    .build = build_patches,
    .forward = forward_patches,
};
const qt_layer qt_layer_positions = {
    .d = {"positions", "a learned row for each place of a sequence, added", "Dosovitskiy et al., ICLR 2021", positions_fields,
          sizeof(positions_config)},
    .token_rank = 1,
    .build = build_positions,
    .forward = forward_positions,
};
const qt_layer qt_layer_mean_tokens = {
    .d = {"mean_tokens", "the mean of all tokens", NULL, NULL, 0},
    .token_rank = 1,
    .build = build_mean,
    .forward = forward_mean,
};
