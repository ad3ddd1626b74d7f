/* The inside of the deployment engine (qt_engine of qtape.h). */
#ifndef QT_EXPORT_ENGINE_H
#define QT_EXPORT_ENGINE_H
#include "export/export.h"

enum { QT_ENGINE_FORMAT = 1 }; /* version of the file format, src/export/h5.c */
extern const qt_seal qt_engine_seal;

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
};

/* qt_engine_open with the error's code. */
qt_err qt_engine_load(const char *file, qt_engine **out);
/* The engine of a run as it stands, by way of a file that exists for the time of the loading. */
qt_err qt_engine_of_run(qt_run *r, qt_engine **out);
/* A run over the data that the file names, for qt_run_eval; everything in it belongs to the engine but r->data, to be closed. */
qt_err qt_engine_as_run(qt_engine *e, qt_run *r);
#endif
