/* One cycle: up from 1 / div to 1 over the first pct_start of the steps, down to 1 / (div final_div) at the last step, each along half
 * a cosine. The steps of the bends are those of PyTorch's OneCycleLR: the top at step pct_start n - 1, the end at step n - 1.
 * Smith, Topin, "Super-convergence", 2018, section 3. Left out: the cycle of momentum. */
#include "optim/optim.h"
#include <math.h>

typedef struct config {
    qt_schedule_base base;
    double           pct_start, div, final_div;
} config;

static const qt_field fields[] = {
    QT_SCHEDULE_FIELDS,
    QT_F_REAL(config, pct_start, "0.3", 0, 1, "share of the steps in which the learning rate rises"),
    QT_F_REAL(config, div, "25", 1, 1e9, "the first learning rate is lr / div"),
    QT_F_REAL(config, final_div, "1e4", 1, 1e12, "the last learning rate is the first / final_div"),
    {NULL},
};

/* From a at u = 0 to b at u = 1. */
static double bend(double a, double b, double u) { return b + (a - b) * 0.5 * (1 + cos(M_PI * (u < 1 ? u : 1))); }

static double factor(const void *cfg, double step, double steps)
{
    const config *c = cfg;
    double        top = c->pct_start * steps - 1, end = steps - 1, low = 1 / c->div;
    if (step < top) return bend(low, 1, step / top);
    if (step >= end) return low / c->final_div;
    return bend(1, low / c->final_div, (step - fmax(top, 0)) / (end - fmax(top, 0)));
}

const qt_schedule qt_schedule_one_cycle = {
    .d = {"one_cycle", "up to the learning rate and down to almost nothing", "Smith and Topin, 2018, section 3", fields, sizeof(config)},
    .factor = factor,
};
