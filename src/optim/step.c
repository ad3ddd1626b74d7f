/* Steps down: f = gamma^j, where j counts the multiples of step_size, or the milestones, that have been reached. */
#include "optim/optim.h"
#include <math.h>

enum { MAX_MILESTONES = 16 };

typedef struct config {
    qt_schedule_base base;
    qt_span          step_size;
    const qt_yaml   *milestones;
    double           gamma;
    int              n; /* the milestones, read by check() */
    qt_span          at[MAX_MILESTONES];
} config;

static const qt_field fields[] = {
    QT_SCHEDULE_FIELDS,
    QT_F_SPAN(config, step_size, "~", "steps between two reductions, or the fraction of the run"),
    QT_F_TREE(config, milestones, "~", "list of steps (integers) or fractions of the run at which the learning rate is reduced"),
    QT_F_REAL(config, gamma, "0.1", 0, 1, "factor of each reduction"),
    {NULL},
};

static bool read_span(const qt_yaml *y, qt_span *s)
{
    int64_t whole;
    if (qt_yaml_int(y, &whole))
        *s = (qt_span){true, false, (double)whole};
    else if (qt_yaml_real(y, &s->v) && s->v <= 1)
        s->set = s->fraction = true;
    else
        return false;
    return s->v >= 0;
}

static qt_err check(void *cfg, const qt_yaml *section)
{
    config        *c = cfg;
    const qt_yaml *y = c->milestones;
    if (!y == !c->step_size.set) return qt_fail_at(QT_ERECIPE, y ? y->pos : section->pos, "lr_schedule: step needs either step_size or milestones");
    if (!y && c->step_size.v == 0) return qt_fail_at(QT_ERECIPE, qt_yaml_get(section, "step_size")->pos, "lr_schedule.step_size: must be above 0");
    if (!y) return QT_OK;
    if (y->kind != QT_YAML_LIST || !y->n || y->n > MAX_MILESTONES)
        return qt_fail_at(QT_ERECIPE, y->pos, "lr_schedule.milestones: expected a list of 1 to %d steps or fractions", MAX_MILESTONES);
    for (c->n = 0; c->n < y->n; c->n++)
        if (!read_span(y->item[c->n], &c->at[c->n]))
            return qt_fail_at(QT_ERECIPE, y->item[c->n]->pos, "lr_schedule.milestones[%d]: expected a number of steps or a fraction 0.0 to 1.0",
                              c->n);
    return QT_OK;
}

static double length(qt_span s, double steps) { return s.fraction ? s.v * steps : s.v; }

static double factor(const void *cfg, double step, double steps)
{
    const config *c = cfg;
    double        reached = 0;
    if (c->step_size.set) reached = floor(step / length(c->step_size, steps));
    for (int i = 0; i < c->n; i++) reached += step >= length(c->at[i], steps);
    return pow(c->gamma, reached);
}

const qt_schedule qt_schedule_step = {
    .d = {"step", "reduced by gamma every step_size steps or at milestones", NULL, fields, sizeof(config)},
    .check = check,
    .factor = factor,
};
