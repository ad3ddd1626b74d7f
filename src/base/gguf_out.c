/* Writing GGUF: see gguf.h. Keys and tensor infos gather in memory; with the first data they go to the file, and all data behind them. */
#include "base/gguf.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { VERSION = 3, ALIGN = 32, LARGEST = 1 << 30 /* bytes of keys, of infos */ };

typedef struct bytes {
    uint8_t *p;
    int      n, cap;
} bytes;

struct qt_gguf_out {
    char    *file, *part;
    FILE    *f;
    qt_err   err;
    bytes    keys, infos;
    uint64_t n_keys, n_tensors, offset;
    int64_t *size; /* bytes of each tensor */
    int      cap_size;
    bool     begun;
    uint64_t now;  /* tensor whose data come next */
    int64_t  done; /* bytes of it that are written */
};

/* ---- header ---------------------------------------------------------------------------------------------------------------------- */

static void put(qt_gguf_out *o, bytes *b, const void *p, size_t n)
{
    if (!o->err && n > (size_t)(LARGEST - b->n)) o->err = qt_fail(QT_EDATA, "%s: more than %d bytes of metadata", o->file, LARGEST);
    if (!o->err) o->err = qt_grow(&b->p, &b->cap, b->n + (int)n, 1);
    if (o->err || !n) return;
    memcpy(b->p + b->n, p, n);
    b->n += (int)n;
}

static void put_string(qt_gguf_out *o, bytes *b, const char *s)
{
    uint64_t n = strlen(s);
    put(o, b, &n, sizeof n);
    put(o, b, s, (size_t)n);
}

static void put_head(qt_gguf_out *o, const char *key, uint32_t type)
{
    QT_ASSERT(!o->begun);
    put_string(o, &o->keys, key);
    put(o, &o->keys, &type, sizeof type);
    o->n_keys++;
}

static void put_value(qt_gguf_out *o, const char *key, qt_gguf_type type, const void *v, size_t n)
{
    put_head(o, key, type);
    put(o, &o->keys, v, n);
}

static void put_array(qt_gguf_out *o, const char *key, qt_gguf_type type, int64_t n, const void *v, size_t size)
{
    uint32_t of = type;
    put_head(o, key, QT_GGUF_ARRAY);
    put(o, &o->keys, &of, sizeof of);
    put(o, &o->keys, &n, sizeof n);
    put(o, &o->keys, v, size);
}

void qt_gguf_put_u32(qt_gguf_out *o, const char *key, uint32_t v) { put_value(o, key, QT_GGUF_U32, &v, sizeof v); }
void qt_gguf_put_f32(qt_gguf_out *o, const char *key, float v) { put_value(o, key, QT_GGUF_F32, &v, sizeof v); }
void qt_gguf_put_bool(qt_gguf_out *o, const char *key, bool v) { put_value(o, key, QT_GGUF_BOOL, &(uint8_t){v}, 1); }

void qt_gguf_put_str(qt_gguf_out *o, const char *key, const char *v)
{
    put_head(o, key, QT_GGUF_STR);
    put_string(o, &o->keys, v);
}

void qt_gguf_put_strs(qt_gguf_out *o, const char *key, int64_t n, const char *const *v)
{
    put_array(o, key, QT_GGUF_STR, n, "", 0);
    for (int64_t i = 0; i < n; i++) put_string(o, &o->keys, v[i]);
}

void qt_gguf_put_i32s(qt_gguf_out *o, const char *key, int64_t n, const int32_t *v) { put_array(o, key, QT_GGUF_I32, n, v, (size_t)n * sizeof *v); }
void qt_gguf_put_f32s(qt_gguf_out *o, const char *key, int64_t n, const float *v) { put_array(o, key, QT_GGUF_F32, n, v, (size_t)n * sizeof *v); }

static int64_t padded(int64_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

void qt_gguf_add(qt_gguf_out *o, const char *name, const qt_ggml *type, int rank, const int64_t *dim)
{
    uint32_t id = (uint32_t)type->id, dims = (uint32_t)rank;
    int64_t  n = 1;
    QT_ASSERT(!o->begun && rank >= 1 && rank <= QT_GGUF_DIMS && dim[0] % type->block == 0);
    for (int d = 0; d < rank; d++) n *= dim[d];
    put_string(o, &o->infos, name);
    put(o, &o->infos, &dims, sizeof dims);
    put(o, &o->infos, dim, dims * sizeof *dim);
    put(o, &o->infos, &id, sizeof id);
    put(o, &o->infos, &o->offset, sizeof o->offset);
    if (!o->err) o->err = qt_grow(&o->size, &o->cap_size, (int)o->n_tensors + 1, sizeof *o->size);
    if (o->err) return;
    o->size[o->n_tensors++] = n / type->block * type->bytes;
    o->offset += (uint64_t)padded(n / type->block * type->bytes);
}

/* ---- the file -------------------------------------------------------------------------------------------------------------------- */

static void write_all(qt_gguf_out *o, const void *p, size_t n)
{
    if (!o->err && n && fwrite(p, 1, n, o->f) != n) o->err = qt_fail(QT_EIO, "%s: cannot write: %s", o->file, strerror(errno));
}

static void pad(qt_gguf_out *o, int64_t n)
{
    static const uint8_t zeros[ALIGN];
    write_all(o, zeros, (size_t)(padded(n) - n));
}

static void begin(qt_gguf_out *o)
{
    uint32_t version = VERSION;
    if (o->begun) return;
    o->begun = true;
    write_all(o, "GGUF", 4);
    write_all(o, &version, sizeof version);
    write_all(o, &o->n_tensors, sizeof o->n_tensors);
    write_all(o, &o->n_keys, sizeof o->n_keys);
    write_all(o, o->keys.p, (size_t)o->keys.n);
    write_all(o, o->infos.p, (size_t)o->infos.n);
    pad(o, 24 + (int64_t)o->keys.n + o->infos.n);
}

void qt_gguf_data(qt_gguf_out *o, const void *p, size_t n)
{
    const uint8_t *from = p;
    begin(o);
    while (n && !o->err) {
        QT_ASSERT(o->now < o->n_tensors);
        int64_t rest = o->size[o->now] - o->done, some = (int64_t)n < rest ? (int64_t)n : rest;
        write_all(o, from, (size_t)some);
        from += some, n -= (size_t)some, o->done += some;
        if (o->done < o->size[o->now]) continue;
        pad(o, o->done);
        o->now++, o->done = 0;
    }
}

qt_err qt_gguf_create(const char *file, qt_gguf_out **out)
{
    qt_gguf_out *o = qt_alloc(sizeof *o);
    *out = NULL;
    if (!o) return QT_EMEM;
    if (!(o->file = qt_strdup(file)) || !(o->part = qt_sprintf("%s.part", file))) return qt_gguf_abandon(o), QT_EMEM;
    if (!(o->f = fopen(o->part, "wb"))) {
        qt_err e = qt_fail(QT_EIO, "%s: cannot write: %s", file, strerror(errno));
        return qt_gguf_abandon(o), e;
    }
    *out = o;
    return QT_OK;
}

static void close_file(qt_gguf_out *o)
{
    if (o->f && fclose(o->f) && !o->err) o->err = qt_fail(QT_EIO, "%s: cannot write: %s", o->file, strerror(errno));
    o->f = NULL;
}

/* What another reader would refuse must not get a name. */
static qt_err read_back(const char *part)
{
    qt_gguf *g;
    QT_TRY(qt_gguf_open(part, &g));
    qt_gguf_free(g);
    return QT_OK;
}

qt_err qt_gguf_close(qt_gguf_out *o)
{
    begin(o);
    QT_ASSERT(o->err || o->now == o->n_tensors);
    close_file(o);
    if (!o->err) o->err = read_back(o->part);
    if (!o->err) o->err = qt_file_commit(o->part, o->file);
    qt_err e = o->err;
    qt_gguf_abandon(o);
    return e;
}

void qt_gguf_abandon(qt_gguf_out *o)
{
    if (!o) return;
    bool opened = o->f != NULL;
    close_file(o);
    if (o->part && (opened || o->err)) unlink(o->part);
    qt_free(o->keys.p), qt_free(o->infos.p), qt_free(o->size), qt_free(o->file), qt_free(o->part);
    qt_free(o);
}
