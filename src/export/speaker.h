/* What text can be generated from: a model with its values, the tape it runs on, and how its tokens are spelled. A further file format is a
 * further function that fills these in. */
#ifndef QT_EXPORT_SPEAKER_H
#define QT_EXPORT_SPEAKER_H
#include "export/engine.h"
#include "train/generate.h"

typedef struct qt_speaker {
    qt_model   *model;
    qt_tape    *tape;
    qt_spelling spelling;
    bool        integers; /* it is the deployment engine */
    qt_run     *run;      /* what model and tape belong to, or NULL */
    qt_engine  *engine;
} qt_speaker;

/* A run directory at its newest checkpoint, or at its best one. With integers, as its deployment engine. To be closed whatever comes back. */
qt_err qt_speaker_of_run(const char *dir, bool best, bool integers, qt_speaker *s);
/* An exported model. */
qt_err qt_speaker_of_file(const char *file, qt_speaker *s);
void   qt_speaker_close(qt_speaker *s);
#endif
