/* Under the address sanitizer, where all is many times slower, tests of thousands of drawn cases take every seventh: QTAPE_QUICK says so. */
#ifndef QT_TESTS_QUICK_H
#define QT_TESTS_QUICK_H
#include <stdlib.h>

static inline int stride(void) { return getenv("QTAPE_QUICK") ? 7 : 1; }
#endif
