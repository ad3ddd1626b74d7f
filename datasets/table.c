/* Samples that lie in memory as numbers: see table.h. */
#include "table.h"
#include "files.h"
#include <string.h>

qt_err qt_table_room(qt_table *b, qt_split s, int64_t n, const char *file)
{
    QT_TRY(qt_fits_memory(file, (double)sizeof(R) * (double)n * (double)(b->width + b->target_n + 1)));
    b->x[s] = qt_alloc(sizeof(R) * (size_t)(n * b->width));
    if (b->target_n) b->t[s] = qt_alloc(sizeof(R) * (size_t)(n * b->target_n));
    else b->y[s] = qt_alloc(sizeof(int32_t) * (size_t)n);
    b->n[s] = n;
    return b->x[s] && (b->t[s] || b->y[s]) ? QT_OK : QT_EMEM;
}

qt_err qt_table_new(int64_t width, int64_t target_n, int64_t n, int64_t n_test, const char *name, qt_table **out)
{
    qt_err    e;
    qt_table *b = *out = qt_alloc(sizeof *b);
    if (!b) return QT_EMEM;
    b->width = width, b->target_n = target_n;
    if ((e = qt_table_room(b, QT_TRAIN, n, name)) == QT_OK) e = qt_table_room(b, QT_TEST, n_test, name);
    if (e == QT_OK) return QT_OK;
    qt_table_close(b);
    *out = NULL;
    return e;
}

qt_err qt_table_classes(const qt_table *b, const char *const name[QT_SPLITS], int64_t *classes)
{
    int64_t top = 0;
    for (int s = 0; s < QT_SPLITS; s++)
        for (int64_t i = 0; i < b->n[s]; i++) {
            QT_CHECK(b->y[s][i] >= 0 && (*classes < 0 || b->y[s][i] < *classes), QT_EDATA, "%s: label %lld is %d, expected a class %s%lld", name[s],
                     (long long)i, b->y[s][i], *classes < 0 ? "of at least " : "0..", (long long)(*classes < 0 ? 0 : *classes - 1));
            if (b->y[s][i] >= top) top = b->y[s][i] + (int64_t)1;
        }
    if (*classes < 0) *classes = top;
    return QT_OK;
}

int64_t qt_table_size(const void *state, qt_split s) { return ((const qt_table *)state)->n[s]; }

qt_err qt_table_get(void *state, qt_split s, int64_t i, qt_rng *draw, R *x, int32_t *y, R *t)
{
    const qt_table *b = state;
    (void)draw;
    memcpy(x, b->x[s] + i * b->width, sizeof(R) * (size_t)b->width);
    if (b->target_n) memcpy(t, b->t[s] + i * b->target_n, sizeof(R) * (size_t)b->target_n);
    else *y = b->y[s][i];
    return QT_OK;
}

void qt_table_close(void *state)
{
    qt_table *b = state;
    for (int s = 0; b && s < QT_SPLITS; s++) qt_free(b->x[s]), qt_free(b->t[s]), qt_free(b->y[s]);
    qt_free(b);
}
