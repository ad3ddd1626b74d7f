/* The tables of optimizers and schedules, made from optims.def. */
#include "optim/optim.h"

#define QT_S(name)
static const qt_desc *const optims[] = {
#define QT_O(name) &qt_optim_##name.d,
#include "optim/optims.def"
#undef QT_O
#undef QT_S
    NULL};

#define QT_O(name)
static const qt_desc *const schedules[] = {
#define QT_S(name) &qt_schedule_##name.d,
#include "optim/optims.def"
    NULL};

const qt_kind qt_optims = {"optims", "optim", "what moves the parameters", optims};
const qt_kind qt_schedules = {"schedules", "schedule", "how the learning rate goes over a run", schedules};
