/* Under sanitizers, where all is many times slower, QTAPE_QUICK is set: tests of thousands of drawn cases take every seventh, and the matrix of
 * threads and kernels leaves out the kernels, which have tests of their own. */
#ifndef QT_TESTS_QUICK_H
#define QT_TESTS_QUICK_H
#include <stdlib.h>

static inline int stride(void) { return getenv("QTAPE_QUICK") ? 7 : 1; }
#endif
