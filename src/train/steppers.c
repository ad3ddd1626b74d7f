/* The table of steppers, made from steppers.def. */
#include "train/train.h"

static const qt_desc *const steppers[] = {
#define QT_STEPPER(name) &qt_stepper_##name.d,
#include "train/steppers.def"
#undef QT_STEPPER
    NULL};

const qt_kind qt_steppers = {"steppers", "stepper", "how a batch becomes a step of the optimizer", steppers};
