/* Field tables: one table turns YAML into a struct, and gives the defaults, the bounds, the error messages with positions,
 * `qtape list`, and the reference. */
#ifndef QT_BASE_FIELD_H
#define QT_BASE_FIELD_H
#include "base/err.h"
#include "base/yaml.h"

typedef enum qt_type {
    QT_BOOL, /* bool */
    QT_INT,  /* int64_t, bounds inclusive */
    QT_REAL, /* double, bounds inclusive */
    QT_STR,  /* const char *, lives as long as the tree; NULL when the default is "~" */
    QT_ENUM, /* int: index into choices "a|b|c" */
    QT_INTS, /* qt_ints: a list of up to 8 integers; a single integer is a list of one */
    QT_SPAN, /* qt_span: an integer is steps, a number with a point or exponent a fraction 0..1 of the run; "~" is never */
    QT_TREE  /* const qt_yaml *: handed on as it is, NULL if absent or null */
} qt_type;

typedef struct qt_ints {
    int     n;
    int64_t v[8];
} qt_ints;
typedef struct qt_span {
    bool   set, fraction;
    double v;
} qt_span;

typedef struct qt_field {
    const char *name; /* NULL ends the table */
    qt_type     type;
    size_t      at;      /* offsetof in the configuration struct */
    const char *def;     /* default as YAML text; NULL: required */
    double      min, max; /* inclusive; both 0: any value */
    const char *choices; /* QT_ENUM: "a|b|c" */
    const char *doc;     /* one line, with the unit */
} qt_field;

#define QT_F_BOOL(T, m, def, doc) {#m, QT_BOOL, offsetof(T, m), def, 0, 0, NULL, doc}
#define QT_F_INT(T, m, def, min, max, doc) {#m, QT_INT, offsetof(T, m), def, min, max, NULL, doc}
#define QT_F_REAL(T, m, def, min, max, doc) {#m, QT_REAL, offsetof(T, m), def, min, max, NULL, doc}
#define QT_F_STR(T, m, def, doc) {#m, QT_STR, offsetof(T, m), def, 0, 0, NULL, doc}
#define QT_F_ENUM(T, m, def, choices, doc) {#m, QT_ENUM, offsetof(T, m), def, 0, 0, choices, doc}
#define QT_F_INTS(T, m, def, min, max, doc) {#m, QT_INTS, offsetof(T, m), def, min, max, NULL, doc}
#define QT_F_SPAN(T, m, def, doc) {#m, QT_SPAN, offsetof(T, m), def, 0, 0, NULL, doc}
#define QT_F_TREE(T, m, def, doc) {#m, QT_TREE, offsetof(T, m), def, 0, 0, NULL, doc}

/* Reads map (NULL or null: all defaults) into cfg. path names the map in messages ("optim", "quant[1].weights"). `also` lists keys
 * that somebody else reads ("use|name|from"), or NULL. Reports every unknown key (with the near name), wrong type, value out of
 * bounds and missing required field, each at its position, and returns QT_ERECIPE if there was any. */
qt_err qt_fields_read(const qt_yaml *map, const char *path, const qt_field *fields, const char *also, void *cfg);
/* Step number of a span in a run of `steps` steps; -1 if it is not set. */
int64_t qt_span_step(qt_span s, int64_t steps);
/* Index of word in "a|b|c", -1 if absent. */
int  qt_choice(const char *choices, const char *word);
/* Prints one line a field: name, type, default, bounds, doc. */
void qt_fields_print(FILE *f, const qt_field *fields, const char *indent);
const char *qt_type_name(qt_type t);
#endif
