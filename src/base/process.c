/* Process-wide settings: the thread team and the version. */
#include "qtape.h"
#include <omp.h>

void        qt_set_threads(int n) { omp_set_num_threads(n > 0 ? n : omp_get_num_procs()); }
int         qt_threads(void) { return omp_get_max_threads(); }
const char *qt_version(void) { return QT_VERSION; }
