/* IDX, the format of MNIST and its relatives: 2 zero bytes, the type (8: bytes), the rank, the dimensions as big-endian 32-bit numbers,
 * the values. Plain or gzip. */
#ifndef QT_DATASETS_IDX_H
#define QT_DATASETS_IDX_H
#include "dataset.h"
#include "image.h"

typedef struct qt_idx {
    int64_t  dim[3], n; /* n: all values */
    uint8_t *data;      /* qt_free it */
} qt_idx;

/* Reads a file of bytes with that rank (1..3). QT_EDATA: what was expected and what was found. */
qt_err qt_idx_read(const char *file, int rank, qt_idx *out);

/* A set of 28 x 28 grey images with 10 classes in four IDX files, train and t10k. */
typedef struct qt_idx_set {
    const char *name, *system; /* `system`: folder where a package of the system puts it, or NULL */
    double      mean, std;     /* of all training pixels / 255 */
    uint32_t    crc[4];        /* CRC-32 of the unpacked files: train images and labels, test images and labels */
} qt_idx_set;

typedef struct qt_idx_cfg {
    const char *path;
    int         normalize;
    bool        flip;
    int64_t     crop;
} qt_idx_cfg;
extern const qt_field qt_idx_fields[];

/* What the descriptors of such sets are made of. */
qt_err      qt_idx_info(const void *cfg, qt_data_info *info);
qt_err      qt_idx_open(const qt_idx_set *set, const qt_idx_cfg *cfg, void **state, qt_data_info *info);
int64_t     qt_idx_size(const void *state, qt_split s);
qt_err      qt_idx_get(void *state, qt_split s, int64_t i, qt_rng *draw, R *x, int32_t *y, R *t);
void        qt_idx_close(void *state);
const char *qt_idx_find(qt_arena *a, const qt_idx_set *set, const qt_idx_cfg *cfg);
/* The four files in a folder, with the checksums of the set? */
qt_err      qt_idx_verify(const qt_idx_set *set, const char *folder);
/* Moves the four files, verified, from a folder to <data dir>/<name>. */
qt_err      qt_idx_install(const qt_idx_set *set, const char *from);
#endif
