/* Arrays in files of numpy, .npy versions 1 to 3:
 *
 *     "\x93NUMPY" | u8 major, u8 minor | u16 (major 1) or u32 length | header | numbers, row-major or by columns
 *     header     a Python dict: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, blanks, newline
 *
 * Read are little-endian floats and integers of 2 to 8 bytes in row-major order. A file is mapped and wholly checked before it is handed out. */
#ifndef QT_BASE_NPY_H
#define QT_BASE_NPY_H
#include "base/files.h"

enum { QT_NPY_DIMS = 8 };
typedef struct qt_npy {
    const char *file;
    char        kind;  /* 'f', 'i' or 'u' */
    int         size;  /* bytes a number */
    int         rank;
    int64_t     dim[QT_NPY_DIMS], n;
    const uint8_t *p;
    qt_map      map;
} qt_npy;

qt_err qt_npy_open(const char *file, qt_npy *a); /* to be closed whatever comes back */
void   qt_npy_close(qt_npy *a);
double qt_npy_get(const qt_npy *a, int64_t i);
#endif
