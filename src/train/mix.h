/* Random mixes of precisions over the layers of a model (mix.c). */
#ifndef QT_TRAIN_MIX_H
#define QT_TRAIN_MIX_H
#include "train/hessian.h"

typedef struct qt_mix {
    int               n;     /* layers whose weights hold several precisions */
    const qt_module **layer;
    qt_tensor        *trace; /* [n] of the Hessian, a buffer of the store */
    qt_tensor        *bits;  /* [n] of the mix now; 0: not drawn yet */
} qt_mix;

/* Before the store is sealed. */
qt_err qt_mix_make(qt_arena *a, qt_model *m, qt_mix *x);
/* Draws the mix of the run's next step, each layer with the probability sigma (epoch + 1) / epochs: by traces, or uniformly. */
qt_err qt_mix_draw(qt_run *r, const qt_mix *x, bool by_trace, double sigma, int64_t images, int draws);
/* Switches layer k to so many bits; qt_model_follow comes after the last one. */
void   qt_mix_switch(const qt_mix *x, int k, int bits);
/* Switches the layers to the mix; their mean bits. */
double qt_mix_apply(qt_model *m, const qt_mix *x);
#endif
