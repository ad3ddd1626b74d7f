/* Half a cosine from 1 to min_factor: at step k of n  f = min + (1 - min) (1 + cos(pi k / n)) / 2.
 * Loshchilov, Hutter, "SGDR", ICLR 2017, equation 5. Left out: restarts. */
#include "optim/optim.h"
#include <math.h>

typedef struct config {
    qt_schedule_base base;
    double           min_factor;
} config;

static const qt_field fields[] = {
    QT_SCHEDULE_FIELDS,
    QT_F_REAL(config, min_factor, "0", 0, 1, "share of the learning rate that is left at the end"),
    {NULL},
};

static double factor(const void *cfg, double step, double steps)
{
    double least = ((const config *)cfg)->min_factor;
    return least + (1 - least) * 0.5 * (1 + cos(M_PI * step / steps));
}

const qt_schedule qt_schedule_cosine = {
    .d = {"cosine", "half a cosine down to min_factor", "Loshchilov and Hutter, ICLR 2017, equation 5", fields, sizeof(config)},
    .factor = factor,
};
