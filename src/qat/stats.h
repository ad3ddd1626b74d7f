/* Running statistics of a tensor over the batches of a training: for each scale of a layout, means over time of a batch's largest and smallest
 * number, its mean |x| and its mean x^2,
 *
 *     m += c (batch's - m),     the first batch sets m.
 *
 * After a relu zeros say nothing about the scale, so they may be left out; a batch with nothing but zeros then changes nothing. The arrays are
 * the caller's, as parameters of a site, all 0 at first; mean_sq is 0 as long as nothing was seen. */
#ifndef QT_QAT_STATS_H
#define QT_QAT_STATS_H
#include "qat/grid.h"

typedef struct qt_stats {
    R *max, *min, *mean_abs, *mean_sq; /* [count] */
} qt_stats;

/* Takes a batch in. Scratch comes from the arena. Same bits for any number of threads. */
qt_err qt_stats_update(const qt_stats *s, const qt_tensor *x, qt_layout l, double c, bool skip_zeros, qt_arena *a);
#endif
