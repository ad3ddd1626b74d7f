/* The learning rate as it is (after the warm-up). */
#include "optim/optim.h"

static const qt_field fields[] = {QT_SCHEDULE_FIELDS, {NULL}};

static double factor(const void *cfg, double step, double steps)
{
    (void)cfg, (void)step, (void)steps;
    return 1;
}

const qt_schedule qt_schedule_constant = {
    .d = {"constant", "the same learning rate all along", NULL, fields, sizeof(qt_schedule_base)},
    .factor = factor,
};
