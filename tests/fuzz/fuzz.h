/* Fuzz targets: each file of this folder reads bytes as one format and says in fuzz_one what came of it. fuzz.c makes them a libFuzzer
 * target and, without libFuzzer, a test that changes its seeds at random. */
#ifndef QT_TESTS_FUZZ_H
#define QT_TESTS_FUZZ_H
#include <stdio.h>
#include <string.h>
#include "qtape.h"
#include "base/err.h"
#include "base/mem.h"

/* Reads the file, whose bytes are data[0..n), as a user's command would. Errors are the library's own. */
qt_err fuzz_one(const char *file, const uint8_t *data, size_t n);
/* Reads a data section as a recipe would, "%s" being the file, opens the set and takes its first and last samples. */
qt_err fuzz_data(const char *section, const char *file);
#endif
