/* SHA-256 of a file or of bytes, as hexadecimal digits: how export.json names what was exported. FIPS 180-4. */
#ifndef QT_BASE_SHA256_H
#define QT_BASE_SHA256_H
#include "base/err.h"

enum { QT_SHA256_TEXT = 65 };
void   qt_sha256(const void *bytes, size_t n, char text[static QT_SHA256_TEXT]);
qt_err qt_sha256_file(const char *file, char text[static QT_SHA256_TEXT]);
#endif
