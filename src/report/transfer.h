/* What a quantizer does to a number and to its gradient, drawn in characters. */
#ifndef QT_REPORT_TRANSFER_H
#define QT_REPORT_TRANSFER_H
#include "qat/quant.h"
#include <stdio.h>

enum { QT_TRANSFER = 65 };
typedef struct qt_transfer {
    double x[QT_TRANSFER], y[QT_TRANSFER], slope[QT_TRANSFER]; /* y = q(x), and dx for dy = 1 */
    double bits;
} qt_transfer;

/* Drives the quantizer of spec, {use: lsq, num_bits: 3}, over a ramp: see transfer.c. One that holds several precisions works in its lowest. */
qt_err qt_transfer_run(qt_arena *a, const qt_yaml *spec, qt_role role, qt_transfer *t);
void   qt_transfer_print(FILE *f, const qt_transfer *t);
#endif
