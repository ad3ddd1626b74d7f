/* A straight line to 0 whose slope falls in the middle: at step k of n
 *     f = peak(k) (1 - k/n),    peak = 1 before step at n, second_peak from there on.
 * Ternary weights learn with a high rate first; the drop then lets those near a threshold settle. The paper's weight decay ends at the same
 * place: schedule.weight_decay_until. Ma et al., "The era of 1-bit LLMs: training tips, code and FAQ", 2024. */
#include "optim/optim.h"

typedef struct config {
    qt_schedule_base base;
    double           second_peak, at;
} config;

static const qt_field fields[] = {
    QT_SCHEDULE_FIELDS,
    QT_F_REAL(config, second_peak, "0.6666666666666666", 0, 1, "learning rate of the second line's beginning at step 0, as a share of the first one's"),
    QT_F_REAL(config, at, "0.5", 0, 1, "share of the run after which the second line counts"),
    {NULL},
};

static double factor(const void *cfg, double step, double steps)
{
    const config *c = cfg;
    return (step < c->at * steps ? 1 : c->second_peak) * (1 - step / steps);
}

const qt_schedule qt_schedule_two_stage_linear = {
    .d = {"two_stage_linear", "a straight line to 0 that drops to a lower one on the way", "Ma et al. 2024, training tips", fields, sizeof(config)},
    .factor = factor,
};
