/* The conflict meter: do two gradients of a quantizer's numbers (steps, offsets, ranges) pull the same way? See conflict.c. */
#ifndef QT_TRAIN_CONFLICT_H
#define QT_TRAIN_CONFLICT_H
#include "train/train.h"

enum { QT_FREEZE_NONE, QT_FREEZE_TASK, QT_FREEZE_SMOOTH };
enum { QT_WHEN_DISORDER, QT_WHEN_ALWAYS, QT_WHEN_RANDOM };
enum { QT_SHARE_NONE, QT_SHARE_LAYER };

/* What the configuration of a stepper that measures begins with. */
typedef struct qt_conflict_cfg {
    int64_t window;
    int     freeze, when, share;
    double  tau, rate;
} qt_conflict_cfg;
#define QT_CONFLICT_METER                                                           \
    {"window", QT_INT, offsetof(qt_conflict_cfg, window), "300", 2, 1e9, NULL,      \
     "steps over which signs of gradients are compared; one measure event each"}
#define QT_CONFLICT_FREEZE                                                                                                                     \
    {"freeze", QT_ENUM, offsetof(qt_conflict_cfg, freeze), "none", 0, 0, "none|task|smooth",                                                   \
     "which gradient of what quantizers learn is left out: at the weights (task), or at the perturbed ones (smooth)"},                         \
    {"when", QT_ENUM, offsetof(qt_conflict_cfg, when), "disorder", 0, 0, "disorder|always|random",                                             \
     "disorder: for a window after one in which its sign has flipped in less than tau of the steps; random: for a window, with probability rate"}, \
    {"share", QT_ENUM, offsetof(qt_conflict_cfg, share), "none", 0, 0, "none|layer",                                                           \
     "layer: one decision for all that the quantizers of a layer learn, by their mean disorder (FQAT)"},                                       \
    {"tau", QT_REAL, offsetof(qt_conflict_cfg, tau), "0.3", 0, 2, NULL, "disorder below which the gradient is left out"},                       \
    {"rate", QT_REAL, offsetof(qt_conflict_cfg, rate), "0.1", 0, 1, NULL, "probability of when: random"}

/* What both measure: patterns for the stepper's `gives`. */
#define QT_CONFLICT_GIVES                                                                                                                      \
    "scales.pairs|scales.opposite|scales.freeze_rate|scales.frozen_disorder|*.disorder_task|*.disorder_smooth|*.disorder_between|*.sum_task|"  \
    "*.sum_smooth|*.opposite|*.frozen|*.scale|*.deviation"

typedef struct qt_conflict qt_conflict;
/* For make: the buffers that survive a resume. */
qt_err qt_conflict_make(const qt_conflict_cfg *c, qt_model *m, qt_pos pos);
/* For begin. */
qt_err qt_conflict_begin(qt_run *r, const qt_conflict_cfg *c, qt_conflict **out);
/* Once a step, before the optimizer's: both gradients, as blocks of the store's size. A part that is frozen is set to zero. At the end of a window writes
 * the measure events and decides what is frozen next. */
void   qt_conflict_step(qt_run *r, qt_conflict *k, R *task, R *smooth);
#endif
