/* Optimizers and learning-rate schedules. An optimizer sees flat ranges of the store, never a layer. */
#ifndef QT_OPTIM_OPTIM_H
#define QT_OPTIM_OPTIM_H
#include "autograd/store.h"

/* One step over elements [0, n) of a range of one parameter group; t counts from 1. slot[k] as many as n_slots. */
typedef struct qt_optim {
    qt_desc d;
    int     n_slots;  /* state arrays of the size of the parameters; may be fewer for some configurations */
    void  (*step)(const void *cfg, int64_t n, R *w, const R *g, R *const *slot, double lr, double weight_decay, int64_t t);
} qt_optim;

/* factor(step, total) scales the base learning rate; warm-up is handled for all of them by qt_schedule_factor. */
typedef struct qt_schedule {
    qt_desc d;
    double (*factor)(const void *cfg, double step, double steps);
} qt_schedule;

#define QT_O(name) extern const qt_optim qt_optim_##name;
#define QT_S(name) extern const qt_schedule qt_schedule_##name;
#include "optim/optims.def"
#undef QT_O
#undef QT_S

struct qt_optimizer; /* qtape.h's qt_optimizer: descriptor + configuration + groups resolved over a store */
/* From the `optim` section: {use: adamw, lr, weight_decay, clip_grad_norm, clip_grad_value, ema, groups: [{match, lr_mult, weight_decay}]}.
 * Weight decay never touches biases, norms, step sizes unless a group says so. A group that matches nothing is an error. The arena
 * keeps the configuration. Call before the store is sealed; slots() tells how many it needs. */
qt_err  qt_optimizer_make(qt_arena *a, qt_store *s, const qt_yaml *section, qt_optimizer **out);
int     qt_optimizer_slots(const qt_optimizer *o);
double  qt_optimizer_lr(const qt_optimizer *o);     /* base learning rate */
int64_t qt_optimizer_count(const qt_optimizer *o);  /* steps taken; part of a checkpoint */
void    qt_optimizer_set_count(qt_optimizer *o, int64_t n);
/* Which store slot holds the weight EMA, -1 if there is none. */
int     qt_optimizer_ema_slot(const qt_optimizer *o);

/* `lr_schedule` section: {use: cosine, warmup_steps: 50}. Factor of the learning rate at step (0-based) of steps. */
typedef struct qt_lr {
    const qt_schedule *schedule;
    void              *cfg;
    qt_span            warmup;
} qt_lr;
qt_err  qt_lr_make(qt_arena *a, const qt_yaml *section, qt_lr *out);
double  qt_lr_factor(const qt_lr *l, int64_t step, int64_t steps);
#endif
