/* Between build.c (the list of modules from YAML), rules.c (quantizer sites) and model.c (the model in use). */
#ifndef QT_NN_BUILD_H
#define QT_NN_BUILD_H
#include "nn/nn.h"

/* Modules while the list grows: what YAML node each came from stands beside it. */
typedef struct qt_build {
    qt_arena       *arena;
    qt_module      *m;
    int             n, cap;
    const qt_yaml **from; /* [n] */
    int             cap_from;
    struct qt_group *group;
    int              n_group, cap_group;
    bool             partial; /* layers are missing: the first round of a `repeat` had errors, the others were not expanded */
} qt_build;

/* The first of two errors: how a pass goes on after one and still tells of it. */
static inline qt_err qt_first(qt_err e, qt_err more) { return e != QT_OK ? e : more; }

/* Expands a list of layers into b: layers found, options read, names and inputs resolved; no shapes yet. An element with errors
 * stands in the list with layer NULL, so that others may name it. b is to be cleared with qt_build_clear whatever comes back. */
qt_err qt_build_expand(qt_build *b, const qt_yaml *model);
void   qt_build_clear(qt_build *b);

/* Reads the `quant` section and gives the modules their sites. all: m has all its modules, so that a rule that matches none is wrong. */
qt_err qt_rules_apply(qt_arena *a, const qt_yaml *quant, qt_model *m, bool all);
/* precision.c: do the layers with tables have a row for whatever the sites can be switched to? Leaves all at their highest. */
qt_err qt_precisions_check(qt_model *m);
#endif
