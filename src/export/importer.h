/* What all imports share: the directory, its recipe, a checkpoint with the numbers of the file; nothing of it stays if one step fails. */
#ifndef QT_EXPORT_IMPORTER_H
#define QT_EXPORT_IMPORTER_H
#include "export/import.h"

/* The first member of what an import knows beside it. */
typedef struct qt_importer {
    const char *file, *dir;
    qt_err    (*recipe)(struct qt_importer *im, FILE *f); /* prints the recipe; may write files that it names into the directory */
    qt_err    (*values)(struct qt_importer *im);          /* fills the store of the run */
    qt_arena    arena;
    qt_run     *run;
} qt_importer;

/* Frees the run and the arena, whatever comes back. QT_EUSAGE if the directory is there already. */
qt_err      qt_importer_go(qt_importer *im, qt_sets sets);
/* A file in the directory; "" and an error if memory is out. */
const char *qt_importer_path(qt_importer *im, const char *name);
/* The recipe's lines from `data` on: a text that holds no text yet, in tokens of a vocabulary. */
void        qt_importer_print_data(qt_importer *im, FILE *f, const char *tokens, int64_t context);
#endif
