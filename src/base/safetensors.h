/* safetensors files: named tensors behind a JSON header.
 *
 *     u64 N | N bytes of JSON, which may end in spaces | data
 *     {"__metadata__": {"key": "string", ...}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
 *
 * Little-endian and row-major, offsets within data. The tensors cover the data: no holes, no overlaps, nothing behind the last one.
 *
 * As a GGUF file (gguf.h) it is mapped, and wholly checked before anything is handed out. */
#ifndef QT_BASE_SAFETENSORS_H
#define QT_BASE_SAFETENSORS_H
#include "base/files.h"

/* In the order of the format's reference implementation, by which files are sorted. */
#define QT_SAFE_TYPES(X)                                                                                                          \
    X(BOOL, 8) X(F4, 4) X(F6_E2M3, 6) X(F6_E3M2, 6) X(U8, 8) X(I8, 8) X(F8_E5M2, 8) X(F8_E4M3, 8) X(F8_E8M0, 8) X(I16, 16) X(U16, 16) \
    X(F16, 16) X(BF16, 16) X(I32, 32) X(U32, 32) X(F32, 32) X(C64, 64) X(F64, 64) X(I64, 64) X(U64, 64)
typedef enum qt_safe_type {
#define QT_X(name, bits) QT_SAFE_##name,
    QT_SAFE_TYPES(QT_X)
#undef QT_X
} qt_safe_type;

enum { QT_SAFE_DIMS = 8 };
typedef struct qt_safe_tensor {
    const char    *name;
    qt_safe_type   type;
    int            rank;
    int64_t        dim[QT_SAFE_DIMS], n;
    uint64_t       begin, end; /* within data */
    const uint8_t *data;
} qt_safe_tensor;

typedef struct qt_safe {
    const char           *file;
    int64_t               n;
    const qt_safe_tensor *tensor; /* sorted by name */
    int64_t               n_meta;
    const char *const    *meta;   /* key, value, key, value ... */
    /* private */
    qt_arena              arena;
    qt_map                map;
} qt_safe;

qt_err qt_safe_open(const char *file, qt_safe **out);
void   qt_safe_free(qt_safe *s);
const qt_safe_tensor *qt_safe_find(const qt_safe *s, const char *name); /* NULL: there is none */
/* All numbers of a tensor; QT_EDATA if its type holds none that can be read (4, 6 and 8-bit floats, complex numbers). */
qt_err      qt_safe_read(const qt_safe *s, const qt_safe_tensor *t, qt_real *x);
const char *qt_safe_type_name(qt_safe_type t);
int         qt_safe_type_bits(qt_safe_type t);

/* Writes n tensors, of which name, type, rank, dim and data are set, and n_meta pairs of strings, in the order that the format's reference
 * implementation has: wider types first, then by name. Whole or not at all. */
qt_err qt_safe_write(const char *file, int64_t n, const qt_safe_tensor *tensor, int64_t n_meta, const char *const *meta);
#endif
