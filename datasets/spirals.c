/* Two or more spiral arms in the plane, one a class: the smallest problem that a linear model cannot solve and a small network can.
 * Sample i of arm c = i mod K lies at radius r = u in (0, 1] and angle 2 pi (c / K + turns r), plus noise N(0, noise^2) in both
 * coordinates. Drawn from the streams data/spirals/train and data/spirals/test. */
#include "table.h"
#include <math.h>

typedef struct spirals_cfg {
    int64_t n, n_test, classes, seed;
    double  turns, noise;
} spirals_cfg;

static const qt_field fields[] = {
    QT_F_INT(spirals_cfg, n, "1000", 1, 10000000, "training samples"),
    QT_F_INT(spirals_cfg, n_test, "500", 1, 10000000, "test samples"),
    QT_F_INT(spirals_cfg, classes, "3", 2, 1000, "arms"),
    QT_F_REAL(spirals_cfg, turns, "0.75", 0, 100, "turns of an arm"),
    QT_F_REAL(spirals_cfg, noise, "0.03", 0, 10, "standard deviation of the noise"),
    QT_F_INT(spirals_cfg, seed, "0", 0, 9007199254740992, "seed of the samples; the recipe's seed does not change them"),
    {NULL}};

static qt_err info_of(const void *cfg, qt_data_info *info)
{
    *info = (qt_data_info){.rank = 1, .dim = {2}, .classes = ((const spirals_cfg *)cfg)->classes, .known = true};
    return QT_OK;
}

static void draw_split(const spirals_cfg *c, qt_table *b, qt_split s, qt_rng r)
{
    for (int64_t i = 0; i < b->n[s]; i++) {
        int64_t arm    = i % c->classes;
        double  radius = 1 - qt_rng_uniform(&r), angle = 6.283185307179586 * ((double)arm / (double)c->classes + c->turns * radius);
        b->x[s][2 * i]     = (R)(radius * cos(angle) + c->noise * qt_rng_normal(&r));
        b->x[s][2 * i + 1] = (R)(radius * sin(angle) + c->noise * qt_rng_normal(&r));
        b->y[s][i]         = (int32_t)arm;
    }
}

static qt_err begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info)
{
    const spirals_cfg *c = cfg;
    qt_table          *b;
    (void)seed;
    QT_TRY(info_of(cfg, info));
    QT_TRY(qt_table_new(2, 0, c->n, c->n_test, "spirals", &b));
    draw_split(c, b, QT_TRAIN, qt_rng_named((uint64_t)c->seed, "data/spirals/train"));
    draw_split(c, b, QT_TEST, qt_rng_named((uint64_t)c->seed, "data/spirals/test"));
    *state = b;
    return QT_OK;
}

const qt_dataset qt_dataset_spirals = {
    .d     = {"spirals", "spiral arms in the plane, one a class (synthetic)", NULL, fields, sizeof(spirals_cfg)},
    .info  = info_of,
    .open  = begin,
    .size  = qt_table_size,
    .get   = qt_table_get,
    .close = qt_table_close,
    .where = "made by qtape"};
