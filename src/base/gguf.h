/* GGUF files, versions 2 and 3: metadata keys and tensors for ggml and what stands on it.
 *
 *     "GGUF" | u32 version | u64 tensors | u64 keys | key ... | tensor info ... | zeros up to the alignment | data
 *     key          string name | u32 type | value               string: u64 length, bytes      array: u32 type of elements, u64 n, elements
 *     tensor info  string name | u32 rank | u64 dim[rank] | u32 type | u64 offset within data
 *
 * All little-endian. Dimension 0 runs fastest: a row-major matrix of C [out][in] has dim = {in, out}. Data of the tensors stand in the order
 * of their infos, each at a multiple of the alignment (key general.alignment, or 32), without gaps.
 *
 * A file is mapped, not read, and wholly checked before anything is handed out, so that what a qt_gguf gives needs no further check.
 * Values of floats are not looked at. */
#ifndef QT_BASE_GGUF_H
#define QT_BASE_GGUF_H
#include "base/files.h"
#include "kernels/ggml.h"

typedef enum qt_gguf_type {
    QT_GGUF_U8, QT_GGUF_I8, QT_GGUF_U16, QT_GGUF_I16, QT_GGUF_U32, QT_GGUF_I32, QT_GGUF_F32, QT_GGUF_BOOL, QT_GGUF_STR, QT_GGUF_ARRAY,
    QT_GGUF_U64, QT_GGUF_I64, QT_GGUF_F64, QT_GGUF_TYPES
} qt_gguf_type;

typedef struct qt_gguf_key {
    const char    *name;
    qt_gguf_type   type;  /* of the value, or of the elements of the array */
    bool           array;
    uint64_t       n;     /* elements; 1 if there is no array */
    const uint8_t *p;     /* the first of them, as it stands in the file */
} qt_gguf_key;

enum { QT_GGUF_DIMS = 4, QT_GGUF_NAME = 64 /* a tensor's name is shorter */ };
typedef struct qt_gguf_tensor {
    const char    *name;
    int            rank;
    int64_t        dim[QT_GGUF_DIMS]; /* 1 beyond the rank */
    int64_t        n, bytes;
    const qt_ggml *type;
    const uint8_t *data;
} qt_gguf_tensor;

typedef struct qt_gguf {
    const char           *file;
    uint32_t              version, alignment;
    int64_t               n_keys, n_tensors;
    const qt_gguf_key    *key;
    const qt_gguf_tensor *tensor;
    /* private */
    const qt_gguf_key    **keys_by_name;
    const qt_gguf_tensor **tensors_by_name;
    qt_arena               arena;
    qt_map                 map;
} qt_gguf;

qt_err qt_gguf_open(const char *file, qt_gguf **out);
void   qt_gguf_free(qt_gguf *g);

const qt_gguf_key    *qt_gguf_find(const qt_gguf *g, const char *key);        /* NULL: there is none */
const qt_gguf_tensor *qt_gguf_find_tensor(const qt_gguf *g, const char *name);
/* The value of a key that must be there, of a fitting type; QT_EDATA naming file and key. A string lives as long as g. */
qt_err qt_gguf_int(qt_gguf *g, const char *key, int64_t *v);
qt_err qt_gguf_real(qt_gguf *g, const char *key, double *v);
qt_err qt_gguf_str(qt_gguf *g, const char *key, const char **v);
/* Element i of a key that holds numbers or bools. */
double  qt_gguf_number(const qt_gguf_key *k, uint64_t i);
int64_t qt_gguf_integer(const qt_gguf_key *k, uint64_t i); /* of integers and bools only; of an unsigned one beyond INT64_MAX: INT64_MAX */
/* The string at *p, not terminated; moves *p to the next. For k->p of a key of strings, k->n times. */
const char *qt_gguf_next_str(const uint8_t **p, size_t *n);
const char *qt_gguf_type_name(qt_gguf_type t);

/* ---- writing --------------------------------------------------------------------------------------------------------------------- */

/* First all keys, then all tensors by name and shape, then their data, in any pieces, in the same order. The first error stays, until
 * qt_gguf_close says it. The file is read back, as far as its tensors' data, before it gets its name. */
typedef struct qt_gguf_out qt_gguf_out;
qt_err qt_gguf_create(const char *file, qt_gguf_out **out);
void   qt_gguf_put_u32(qt_gguf_out *o, const char *key, uint32_t v);
void   qt_gguf_put_f32(qt_gguf_out *o, const char *key, float v);
void   qt_gguf_put_bool(qt_gguf_out *o, const char *key, bool v);
void   qt_gguf_put_str(qt_gguf_out *o, const char *key, const char *v);
void   qt_gguf_put_strs(qt_gguf_out *o, const char *key, int64_t n, const char *const *v);
void   qt_gguf_put_i32s(qt_gguf_out *o, const char *key, int64_t n, const int32_t *v);
void   qt_gguf_put_f32s(qt_gguf_out *o, const char *key, int64_t n, const float *v);
void   qt_gguf_add(qt_gguf_out *o, const char *name, const qt_ggml *type, int rank, const int64_t *dim);
void   qt_gguf_data(qt_gguf_out *o, const void *p, size_t n);
qt_err qt_gguf_close(qt_gguf_out *o);   /* frees o */
void   qt_gguf_abandon(qt_gguf_out *o); /* no file; frees o, which may be NULL */
#endif
