/* The table of phases, made from phases.def. */
#include "train/train.h"

static const qt_desc *const phases[] = {
#define QT_P(name) &qt_phase_##name.d,
#include "train/phases.def"
#undef QT_P
    NULL};

const qt_kind qt_phases = {"phases", "phase", "what a run does, one after the other", phases};
