/* Reports on runs: a page, a gallery of pages, and the comparison of two runs. */
#ifndef QT_REPORT_REPORT_H
#define QT_REPORT_REPORT_H
#include "base/err.h"

/* One page about run directories and roots of `reproduce`, whole or not. QT_EIO if none of them holds anything of a run. */
qt_err qt_report_write(int n, const char *const *dir, const char *file);

#endif
