/* Optimizers and learning-rate schedules. An optimizer sees flat ranges of the store, never a layer. */
#ifndef QT_OPTIM_OPTIM_H
#define QT_OPTIM_OPTIM_H
#include "autograd/store.h"

/* What every optimizer's configuration begins with: the options that optimizer.c handles for all of them. */
typedef struct qt_optim_base {
    double         lr, weight_decay, clip_grad_norm, clip_grad_value, ema;
    const qt_yaml *groups;
} qt_optim_base;
#define QT_OPTIM_FIELDS(default_lr, default_decay)                                                                                         \
    {"lr", QT_REAL, offsetof(qt_optim_base, lr), default_lr, 0, 1e6, NULL, "learning rate, scaled by lr_schedule"},                        \
    {"weight_decay", QT_REAL, offsetof(qt_optim_base, weight_decay), default_decay, 0, 1e6, NULL,                                          \
     "weight decay of weight matrices and kernels; biases, norms and quantizer parameters have none unless a group says so"},              \
    {"clip_grad_norm", QT_REAL, offsetof(qt_optim_base, clip_grad_norm), "0", 0, 1e30, NULL, "largest norm of all gradients; 0: no limit"}, \
    {"clip_grad_value", QT_REAL, offsetof(qt_optim_base, clip_grad_value), "0", 0, 1e30, NULL, "largest |gradient|; 0: no limit"},         \
    {"ema", QT_REAL, offsetof(qt_optim_base, ema), "0", 0, 0.9999999, NULL, "decay of a moving average of the weights; 0: none"},          \
    {"groups", QT_TREE, offsetof(qt_optim_base, groups), "~", 0, 0, NULL,                                                                  \
     "list of {match, lr_mult, lr, weight_decay}: own settings for the parameters whose path matches; the last match counts"}

/* One step over elements [0, n) of a range of one parameter group; t counts from 1. slot[k] as many as slots() says. */
typedef struct qt_optim {
    qt_desc  d;
    int      n_slots;                                    /* state arrays of the size of the parameters, at most */
    int    (*slots)(const void *cfg);                    /* OPTIONAL: how many this configuration needs */
    qt_err (*check)(void *cfg, const qt_yaml *section);  /* OPTIONAL: what a field table cannot say; errors at their positions */
    void   (*step)(const void *cfg, int64_t n, R *w, const R *g, R *const *slot, double lr, double weight_decay, int64_t t);
} qt_optim;

/* What every schedule's configuration begins with. */
typedef struct qt_schedule_base {
    qt_span warmup_steps;
} qt_schedule_base;
#define QT_SCHEDULE_FIELDS                                                                            \
    {"warmup_steps", QT_SPAN, offsetof(qt_schedule_base, warmup_steps), "~", 0, 0, NULL,              \
     "linear rise from 1/warmup_steps, in steps or as a fraction; the schedule runs over what is left"}

/* factor(step, steps) scales the base learning rate, 0 <= step <= steps; warm-up is handled for all of them by qt_lr_factor. */
typedef struct qt_schedule {
    qt_desc  d;
    qt_err (*check)(void *cfg, const qt_yaml *section); /* OPTIONAL */
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
/* Whether steps decay weights; at first they do. */
void    qt_optimizer_decays(qt_optimizer *o, bool on);
/* A factor on the learning rate of quantizer parameters (steps, offsets, ranges) from now on; 1 at first. */
void    qt_optimizer_quant_rate(qt_optimizer *o, double factor);
/* Which store slot holds the weight EMA, -1 if there is none. After a step the slot is a whole set of values: averages of what is
 * trained, copies of the rest (running statistics, frozen parameters). */
int     qt_optimizer_ema_slot(const qt_optimizer *o);

/* `lr_schedule` section: {use: cosine, warmup_steps: 50}; NULL is constant. Factor of the learning rate at step (0-based) of steps. */
typedef struct qt_lr {
    const qt_schedule *schedule;
    void              *cfg;
    qt_span            warmup;
} qt_lr;
qt_err  qt_lr_make(qt_arena *a, const qt_yaml *section, qt_lr *out);
double  qt_lr_factor(const qt_lr *l, int64_t step, int64_t steps);
#endif
