/* Descriptors: everything that can be extended (op, quantizer, layer, loss, metric, optimizer, schedule, data set, phase, exporter,
 * command) is a const struct whose first member is a qt_desc, listed in one .def file. This is the one mechanism to look up, list,
 * document and configure them all. */
#ifndef QT_BASE_DESC_H
#define QT_BASE_DESC_H
#include "base/field.h"

typedef struct qt_desc {
    const char     *name;
    const char     *doc;      /* one line */
    const char     *source;   /* paper and equation, or NULL */
    const qt_field *fields;   /* NULL: no options */
    size_t          cfg_size; /* sizeof of the struct that fields fill */
} qt_desc;

/* A kind of descriptor: "quants", "quant", its NULL-terminated table. */
typedef struct qt_kind {
    const char           *name, *one, *doc;
    const qt_desc *const *all;
} qt_kind;

extern const qt_kind qt_ops, qt_quants, qt_layers, qt_losses, qt_metrics, qt_optims, qt_schedules, qt_datasets, qt_phases, qt_steppers, qt_exporters,
    qt_codecs, qt_regularizers;

/* NULL if there is none; with pos.file or not, the message "unknown quant 'lqs', did you mean 'lsq'?" is then added. */
const qt_desc *qt_desc_find(const qt_kind *k, const char *name, qt_pos pos);

/* Reads {use: NAME, key: value} or a bare NAME: finds the descriptor, allocates its configuration in the arena and fills it.
 * `also` as in qt_fields_read ("use" is implied). */
qt_err qt_desc_read(qt_arena *a, const qt_kind *k, const qt_yaml *y, const char *path, const char *also, const qt_desc **d, void **cfg);
#endif
