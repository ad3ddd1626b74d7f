/* metrics.jsonl as curves: every number that an event gives becomes a point (step, value) of the series named after the event, where it was
 * measured (the path of a site or of a measurement, else the split) and the key. The reader knows no event by name, so that new ones are curves
 * as well, and survives everything: what is no event is counted and passed over; of the series beyond the first 2^17 nothing is kept. */
#ifndef QT_REPORT_SERIES_H
#define QT_REPORT_SERIES_H
#include "base/err.h"
#include "base/mem.h"

typedef struct qt_series {
    const char *event, *where, *key;
    int         n, cap;
    double     *step, *value;
} qt_series;

typedef struct qt_events {
    qt_arena   *arena;
    int         n, cap, slots;
    qt_series **series;         /* [n] in the order of their first points */
    int        *slot;           /* [slots] hash table: 1 + index into series */
    int64_t     lines, bad, first_bad; /* lines that are no events; the first of them, from 1 */
    double      step;           /* the last step seen, -1 if none */
} qt_events;

/* QT_EIO if the file cannot be read, QT_EMEM; nothing in the file is an error. */
qt_err qt_events_read(qt_arena *a, const char *file, qt_events *l);
/* NULL if there is no such series. where NULL: any, the first. */
const qt_series *qt_events_find(const qt_events *l, const char *event, const char *where, const char *key);
/* Its last value, NaN if there is none. */
double qt_events_last(const qt_events *l, const char *event, const char *where, const char *key);
#endif
