/* HDF5 in the few calls that qtape needs. Files that qtape did not write are first walked in a child process (every object opened,
 * every data set read), so that a crash inside libhdf5 becomes an error message.
 * A file being written lives in memory and goes to disk at close; equal contents give equal bytes. */
#ifndef QT_BASE_H5_H
#define QT_BASE_H5_H
#include "base/err.h"
#include "base/mem.h"

enum { QT_H5_USERBLOCK = 512 };
typedef struct qt_h5 qt_h5; /* an open file */

/* The walk in a child process; QT_EDATA with the reason if it dies or fails. Not while another thread is inside HDF5. */
qt_err qt_h5_vet(const char *file);
qt_err qt_h5_open(const char *file, qt_h5 **out);      /* read-only; does not vet */
qt_err qt_h5_create(const char *file, size_t userblock, qt_h5 **out);
qt_err qt_h5_close(qt_h5 *f);                          /* reports write errors (disk full) */

/* Shape of a data set: QT_EDATA naming file and data set, listing what the file holds, if there is none. rank <= 8. */
bool   qt_h5_has(qt_h5 *f, const char *name);
qt_err qt_h5_shape(qt_h5 *f, const char *name, int *rank, int64_t dim[8]);
/* n numbers, converted to qt_real / int32. n must be the data set's size. */
qt_err qt_h5_read(qt_h5 *f, const char *name, int64_t n, qt_real *x);
qt_err qt_h5_read_ids(qt_h5 *f, const char *name, int64_t n, int32_t *x);
/* Rows [begin, begin + rows) along the first dimension. */
qt_err qt_h5_read_rows(qt_h5 *f, const char *name, int64_t begin, int64_t rows, qt_real *x);
/* as_float32: stored as float32 even in the double build. Groups in the name ("params/fc1.weight") are made. */
qt_err qt_h5_write(qt_h5 *f, const char *name, int rank, const int64_t *dim, const qt_real *x, bool as_float32);
qt_err qt_h5_write_ids(qt_h5 *f, const char *name, int rank, const int64_t *dim, const int32_t *x);
/* Bytes, stored as they are: a data set of type uint8. */
qt_err qt_h5_read_bytes(qt_h5 *f, const char *name, int64_t n, uint8_t *x);
qt_err qt_h5_write_bytes(qt_h5 *f, const char *name, int rank, const int64_t *dim, const uint8_t *x);
/* Attributes of the root group. */
qt_err qt_h5_put_str(qt_h5 *f, const char *key, const char *value);
qt_err qt_h5_put_int(qt_h5 *f, const char *key, int64_t value);
qt_err qt_h5_put_real(qt_h5 *f, const char *key, double value);
qt_err qt_h5_get_str(qt_h5 *f, const char *key, qt_arena *a, const char **value);
bool   qt_h5_has_key(qt_h5 *f, const char *key);
qt_err qt_h5_get_int(qt_h5 *f, const char *key, int64_t *value);
qt_err qt_h5_get_real(qt_h5 *f, const char *key, double *value);
/* Calls each for every data set below group ("" is the root), in name order; stops at the first error. */
qt_err qt_h5_each(qt_h5 *f, const char *group, qt_err (*each)(void *arg, const char *name, int rank, const int64_t *dim, const char *type),
                  void *arg);
#endif
