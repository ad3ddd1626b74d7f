/* Samples that lie in memory as numbers: what the CSV, HDF5 and synthetic sets are made of. */
#ifndef QT_DATASETS_TABLE_H
#define QT_DATASETS_TABLE_H
#include "dataset.h"

typedef struct qt_table {
    int64_t  n[QT_SPLITS], width, target_n; /* samples; numbers a sample and a target (0: classes) */
    R       *x[QT_SPLITS], *t[QT_SPLITS];   /* [n, width], [n, target_n] */
    int32_t *y[QT_SPLITS];                  /* [n] */
} qt_table;

/* A table with room for n training and n_test test samples. */
qt_err  qt_table_new(int64_t width, int64_t target_n, int64_t n, int64_t n_test, const char *name, qt_table **out);
/* Room for n samples of a split, after width and target_n are set. `file` stands in the message when that is too much. */
qt_err  qt_table_room(qt_table *b, qt_split s, int64_t n, const char *file);
/* Checks y of every split: 0 <= y < classes, or finds classes (-1) as the largest class + 1. `name` of a split for messages. */
qt_err  qt_table_classes(const qt_table *b, const char *const name[QT_SPLITS], int64_t *classes);

int64_t qt_table_size(const void *state, qt_split s);
qt_err  qt_table_get(void *state, qt_split s, int64_t i, qt_rng *draw, R *x, int32_t *y, R *t);
void    qt_table_close(void *state);
#endif
