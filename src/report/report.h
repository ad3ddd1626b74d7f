/* Reports on runs: a page, a gallery of pages, and the comparison of two runs. */
#ifndef QT_REPORT_REPORT_H
#define QT_REPORT_REPORT_H
#include "base/err.h"
#include <stdio.h>

/* One page about run directories and roots of `reproduce`, whole or not. QT_EIO if none of them holds anything of a run. */
qt_err qt_report_write(int n, const char *const *dir, const char *file);

/* The gallery in dir, from dir/papers/NAME/results.json; before, the results of n roots of `reproduce` are taken into it. */
qt_err qt_gallery_write(const char *dir, int n, const char *const *root);

/* Two run directories, or two checkpoints, side by side. exact: QT_ECLAIM if their metrics (but timing) or checkpoints differ in any bit. */
qt_err qt_compare(const char *a, const char *b, bool exact, FILE *out);
#endif
