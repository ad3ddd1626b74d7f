/* YAML 1.2 (core schema) over libyaml, as a tree that keeps the place of every node. Refused: duplicate keys (the message names both
 * places), tabs as indentation, several documents, anchors' cycles, keys that are not scalars, tags other than !unset. `no` is a
 * string, 1e-3 a number. More than YAML: ${name}, quant[1].lr and train[:90%] are plain words in flow style too. */
#ifndef QT_BASE_YAML_H
#define QT_BASE_YAML_H
#include "base/err.h"
#include "base/mem.h"

typedef enum qt_yaml_kind { QT_YAML_NULL, QT_YAML_SCALAR, QT_YAML_LIST, QT_YAML_MAP } qt_yaml_kind;

typedef struct qt_yaml {
    qt_yaml_kind     kind;
    const char      *text;   /* SCALAR: the value; NULL kind: "~" as written */
    const char      *tag;    /* "!unset" and the like, or NULL */
    bool             quoted; /* SCALAR in quotes or block style: always a string */
    qt_pos           pos;
    int              n, cap; /* LIST, MAP: children */
    struct qt_yaml **item;
    const char     **key;    /* MAP: key of each child */
    qt_pos          *key_pos;
} qt_yaml;

/* All nodes and strings live in the arena. After errors of meaning alone (duplicate keys, unknown tags) *out is the tree without the
 * offenders, so that a reader can go on and tell the rest too; otherwise NULL. Errors: QT_ERECIPE with every position (QT_EIO if the file cannot be read). */
qt_err qt_yaml_load(qt_arena *a, const char *file, qt_yaml **out);
/* The same from memory; name stands for the file in positions. An empty document gives a NULL-kind node. */
qt_err qt_yaml_parse(qt_arena *a, const char *text, size_t n, const char *name, qt_yaml **out);

/* Child of a map, NULL if absent (or if map is NULL or no map). */
const qt_yaml *qt_yaml_get(const qt_yaml *map, const char *key);
qt_pos         qt_yaml_key_pos(const qt_yaml *map, const char *key);
int            qt_yaml_find(const qt_yaml *map, const char *key); /* index of the child, -1 if absent */

/* Typed reading without messages: false if the node is no such value. */
bool qt_yaml_bool(const qt_yaml *y, bool *v);
bool qt_yaml_int(const qt_yaml *y, int64_t *v);
bool qt_yaml_real(const qt_yaml *y, double *v); /* integers too; .inf, .nan */
bool qt_yaml_str(const qt_yaml *y, const char **v);
/* Whether two trees say the same: the order of keys does not matter, that of a list does. */
bool qt_yaml_same(const qt_yaml *a, const qt_yaml *b);
const char *qt_yaml_kind_name(const qt_yaml *y); /* "a map", "a list", "a number", "a string", "null" for messages */

/* Building and changing trees. A value of NULL is one that memory was short for: QT_EMEM. */
qt_yaml *qt_yaml_map(qt_arena *a, qt_pos pos);
qt_yaml *qt_yaml_list(qt_arena *a, qt_pos pos);
qt_yaml *qt_yaml_scalar(qt_arena *a, const char *text, qt_pos pos);
qt_err   qt_yaml_put(qt_arena *a, qt_yaml *map, const char *key, qt_yaml *value); /* replaces or appends; QT_EMEM if value is NULL */
qt_err   qt_yaml_push(qt_arena *a, qt_yaml *list, qt_yaml *value);
qt_yaml *qt_yaml_copy(qt_arena *a, const qt_yaml *y);
/* Deep merge: maps key by key, anything else is replaced by `over`; a value tagged !unset removes the key. Returns the new tree. */
qt_yaml *qt_yaml_merge(qt_arena *a, const qt_yaml *base, const qt_yaml *over);
/* "quant[1].weights.num_bits": sets (making maps on the way) or removes. A list index out of range and a path through a scalar are
 * errors that name the path and what was found. */
/* A bare word on the way becomes {use: word}; a value tagged !unset removes. Removing what is not there is an error in qt_yaml_remove. */
qt_err   qt_yaml_set(qt_arena *a, qt_yaml *root, const char *path, qt_yaml *value);
qt_err   qt_yaml_remove(qt_arena *a, qt_yaml *root, const char *path, qt_pos pos);
/* Writes a tree as YAML text (block style, flow style for short leaves) that reads back as the same tree. */
void     qt_yaml_print(FILE *f, const qt_yaml *y);
#endif
