/* Exporting: what a trained run ships. A *snapshot* is the run's model as its evaluation computes it: which layers compute in integers, and the
 * integers themselves, taken from the very tensors that a forward pass has used. Formats write snapshots; nothing is quantized again. */
#ifndef QT_EXPORT_EXPORT_H
#define QT_EXPORT_EXPORT_H
#include "base/json.h"
#include "kernels/codes.h"
#include "train/train.h"
#include <string.h>

/* A layer with weights. */
typedef struct qt_snap_layer {
    const qt_module *m;
    bool             integer; /* it computes in integers: codes, and no float weights */
    const char      *why;     /* it does not, because ... */
    const qt_tensor *w;       /* the weight as the layer's forward took it: with codes, or decoded, or as it is */
    int              bits, lo, hi, step; /* integer: codes are lo, lo + step, ..., hi and take so many bits */
} qt_snap_layer;

typedef struct qt_snapshot {
    qt_run        *run; /* its tape holds the tensors: no step, no evaluation while the snapshot lives */
    qt_arena       arena;
    bool           averaged; /* the averaged weights stand in the store */
    int            n, integers;
    qt_snap_layer *layer;
    int64_t        samples, outputs; /* one batch, and what the training graph's evaluation answers */
    const R       *x, *y;
    double         bits_per_weight, bytes;
    int64_t        compared; /* tensors that were read back from the file */
} qt_snapshot;

/* Evaluates one batch, with the averaged weights if the run evaluates with them. To be freed whatever comes back. */
qt_err   qt_snapshot_take(qt_run *r, qt_snapshot *s);
void     qt_snapshot_free(qt_snapshot *s);
/* The values of a parameter in a file: NULL where the file has none (integer weights, the state of weights' quantizers). */
const R *qt_snapshot_values(const qt_snapshot *s, const qt_param *p);
/* Whether a site quantizes a layer's weight: it has done its work. All others are needed to compute. */
bool     qt_snapshot_weight_site(const qt_snapshot *s, const qt_site *q);
/* Whether a layer computes in floats that are not those of its parameter in the file: it is tied, and rounds them in its own way. */
bool     qt_snapshot_differs(const qt_snapshot *s, const qt_snap_layer *l);
/* The part of the recipe that says what the model is and what it is evaluated on. */
qt_err   qt_snapshot_recipe(qt_snapshot *s, char **text);

/* What all formats share, as qt_exporter.run: snapshot, temporary name, write, answer the batch from the file, compare the bits, rename,
 * export.json. QT_ECLAIM if the bits differ. */
qt_err qt_export_run(const qt_exporter *x, qt_run *r, const void *cfg, const char *file, qt_exported *out);
/* For describe: a string in quotes. */
static inline void qt_export_str(FILE *f, const char *s) { qt_json_print(f, s, strlen(s)); }
/* v with the fewest digits that give it again, as a double or, if single, as a number of single precision. */
void   qt_export_real(FILE *f, double v, bool single);

#define QT_E(name) extern const qt_exporter qt_exporter_##name;
#include "export/exporters.def"
#undef QT_E
#endif
