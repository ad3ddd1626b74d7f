/* The inside of the deployment engine (qt_engine of qtape.h). */
#ifndef QT_EXPORT_ENGINE_H
#define QT_EXPORT_ENGINE_H
#include "export/export.h"

enum { QT_ENGINE_FORMAT = 1 }; /* version of the file format, src/export/h5.c */
extern const qt_seal qt_engine_seal;

/* A layer whose weight can be switched to fewer bits than are stored. */
typedef struct qt_switched {
    qt_module       *m;
    int8_t          *q;      /* the codes as stored */
    qt_icodes        stored; /* what the kernels take for them */
    const qt_icodes *at[QT_MAX_PRECISIONS]; /* at each precision of its site, NULL until it is wanted */
} qt_switched;

struct qt_engine {
    qt_arena       arena; /* the integer weights among others */
    const char    *name;
    const qt_yaml *recipe;
    qt_store      *store; /* floats only of what does not compute in integers */
    qt_model      *model;
    qt_tape       *tape;
    int64_t        in_n, out_n, seed, classes, params;
    double         bits_per_weight, bytes;
    int            layers, integers; /* layers with weights; those that compute in integers */
    qt_switched   *switched;
    int            n_switched;
    const char    *fixed; /* a layer that had several precisions in training, and is stored in one; NULL: none */
};

/* qt_engine_open with the error's code. */
qt_err qt_engine_load(const char *file, qt_engine **out);
/* Codes q of a layer as the kernels take them, into c, whose range is known; step: of codes that are all odd 2, otherwise 1. */
qt_err qt_engine_pack(qt_engine *e, const qt_module *m, int step, const int8_t *q, qt_icodes *c);
/* The engine of a run as it stands, by way of a file that exists for the time of the loading. */
qt_err qt_engine_of_run(qt_run *r, qt_engine **out);
/* A run over the data that the file names, for qt_run_eval; everything in it belongs to the engine but r->data, to be closed. */
qt_err qt_engine_as_run(qt_engine *e, qt_run *r);
#endif
