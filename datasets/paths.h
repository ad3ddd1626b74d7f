/* Your files, as a recipe names them: a file, a folder, a pattern, or a list of these. */
#ifndef QT_DATASETS_PATHS_H
#define QT_DATASETS_PATHS_H
#include "base/mem.h"
#include "base/yaml.h"

typedef struct qt_paths {
    qt_arena     arena;
    const char **name;
    int          n, cap;
} qt_paths;

/* Is y (NULL: not given) written as paths are? `key` stands in the message. */
qt_err qt_paths_check(const qt_yaml *y, const char *key);
/* All files, in the order of the list; those below a folder sorted by name. To be freed whatever comes back. */
qt_err qt_paths_find(const qt_yaml *y, qt_paths *f);
void   qt_paths_free(qt_paths *f);
#endif
