/* Functions to fit, with noise N(0, noise^2) on the target:
 *   sine      y = sin(pi x), x uniform in [-1, 1]; always one feature
 *   linear    y = sum_k w_k x_k, x normal, w normal (stream data/regression/weights)
 *   friedman  y = 10 sin(pi x0 x1) + 20 (x2 - 1/2)^2 + 10 x3 + 5 x4, x uniform in [0, 1], at least 5 features, the others irrelevant:
 *             Friedman, "Multivariate adaptive regression splines", Ann. Statist. 19, 1991, equation 61 */
#include "table.h"
#include <math.h>

enum { SINE, LINEAR, FRIEDMAN };

typedef struct regression_cfg {
    int     function;
    int64_t n, n_test, features, seed;
    double  noise;
} regression_cfg;

static const qt_field fields[] = {
    QT_F_ENUM(regression_cfg, function, "sine", "sine|linear|friedman", "what is to be fitted"),
    QT_F_INT(regression_cfg, n, "1000", 1, 10000000, "training samples"),
    QT_F_INT(regression_cfg, n_test, "500", 1, 10000000, "test samples"),
    QT_F_INT(regression_cfg, features, "10", 5, 10000, "numbers a sample (linear, friedman)"),
    QT_F_REAL(regression_cfg, noise, "0.1", 0, 1e6, "standard deviation of the noise"),
    QT_F_INT(regression_cfg, seed, "0", 0, 9007199254740992, "seed of the samples; the recipe's seed does not change them"),
    {NULL}};

static const double pi = 3.14159265358979323846;

static qt_err info_of(const void *cfg, qt_data_info *info)
{
    const regression_cfg *c = cfg;
    *info = (qt_data_info){.rank = 1, .dim = {c->function == SINE ? 1 : c->features}, .target_n = 1, .known = true};
    return QT_OK;
}

/* Draws one sample x[width] and returns its target without noise. */
static double draw_sample(const regression_cfg *c, R *x, int64_t width, qt_rng *r)
{
    qt_rng w = qt_rng_named((uint64_t)c->seed, "data/regression/weights");
    double y = 0;
    for (int64_t k = 0; k < width; k++) {
        x[k] = (R)(c->function == SINE ? 2 * qt_rng_uniform(r) - 1 : c->function == LINEAR ? qt_rng_normal(r) : qt_rng_uniform(r));
        if (c->function == LINEAR) y += qt_rng_normal(&w) * (double)x[k];
    }
    if (c->function == SINE) return sin(pi * (double)x[0]);
    if (c->function == LINEAR) return y;
    return 10 * sin(pi * (double)x[0] * (double)x[1]) + 20 * ((double)x[2] - 0.5) * ((double)x[2] - 0.5) + 10 * (double)x[3] + 5 * (double)x[4];
}

static void draw_split(const regression_cfg *c, qt_table *b, qt_split s, qt_rng r)
{
    for (int64_t i = 0; i < b->n[s]; i++) {
        double y   = draw_sample(c, b->x[s] + i * b->width, b->width, &r);
        b->t[s][i] = (R)(y + c->noise * qt_rng_normal(&r));
    }
}

static qt_err begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info)
{
    const regression_cfg *c = cfg;
    qt_table             *b;
    (void)seed;
    QT_TRY(info_of(cfg, info));
    QT_TRY(qt_table_new(info->dim[0], 1, c->n, c->n_test, "regression", &b));
    draw_split(c, b, QT_TRAIN, qt_rng_named((uint64_t)c->seed, "data/regression/train"));
    draw_split(c, b, QT_TEST, qt_rng_named((uint64_t)c->seed, "data/regression/test"));
    *state = b;
    return QT_OK;
}

const qt_dataset qt_dataset_regression = {
    .d     = {"regression", "a function to fit: sine, linear or Friedman's (synthetic)", "Friedman 1991, equation 61", fields,
              sizeof(regression_cfg)},
    .info  = info_of,
    .open  = begin,
    .size  = qt_table_size,
    .get   = qt_table_get,
    .close = qt_table_close,
    .where = "made by qtape"};
