/* A straight line from 1 to min_factor: at step k of n  f = 1 - (1 - min) k / n. */
#include "optim/optim.h"

typedef struct config {
    qt_schedule_base base;
    double           min_factor;
} config;

static const qt_field fields[] = {
    QT_SCHEDULE_FIELDS,
    QT_F_REAL(config, min_factor, "0", 0, 1, "share of the learning rate that is left at the end"),
    {NULL},
};

static double factor(const void *cfg, double step, double steps) { return 1 - (1 - ((const config *)cfg)->min_factor) * step / steps; }

const qt_schedule qt_schedule_linear = {
    .d = {"linear", "a straight line down to min_factor", NULL, fields, sizeof(config)},
    .factor = factor,
};
