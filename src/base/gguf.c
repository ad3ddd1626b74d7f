/* Reading GGUF: see gguf.h. Every count and length is compared with what is left of the file before anything is allocated or walked, so
 * that memory and time are bounded by the size of the file, whatever it claims. */
#include "base/gguf.h"
#include <stdlib.h>
#include <string.h>

enum { KEY_LEAST = 8 + 1 + 4 + 1, TENSOR_LEAST = 8 + 1 + 4 + 4 + 8, KEY_LONGEST = 65535 };

static const struct {
    const char *name;
    size_t      bytes;
} types[QT_GGUF_TYPES] = {{"u8", 1},   {"i8", 1},     {"u16", 2},   {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4},
                          {"bool", 1}, {"string", 8}, {"array", 12}, {"u64", 8}, {"i64", 8}, {"f64", 8}};

const char *qt_gguf_type_name(qt_gguf_type t) { return types[t].name; }

/* ---- the bytes ------------------------------------------------------------------------------------------------------------------- */

typedef struct reader {
    qt_gguf       *g;
    const uint8_t *p, *end;
    char           what[128]; /* is being read: "key 3 of 20" */
} reader;

#define DATA(r, fmt, ...) qt_fail(QT_EDATA, "%s: %s: " fmt, (r)->g->file, (r)->what, __VA_ARGS__)

static uint64_t left(const reader *r) { return (uint64_t)(r->end - r->p); }

static qt_err ended(const reader *r) { return qt_fail(QT_EDATA, "%s: the file ends within %s", r->g->file, r->what); }

static qt_err take(reader *r, void *v, size_t n)
{
    memset(v, 0, n);
    if (left(r) < n) return ended(r);
    memcpy(v, r->p, n);
    r->p += n;
    return QT_OK;
}

/* A name of 1 to `longest` bytes without control characters, copied and terminated. */
static qt_err take_name(reader *r, uint64_t longest, const char **name)
{
    uint64_t n;
    char    *s;
    QT_TRY(take(r, &n, sizeof n));
    if (n == 0 || n > longest) return DATA(r, "its name has %llu bytes, expected 1 to %llu", (unsigned long long)n, (unsigned long long)longest);
    if (left(r) < n) return ended(r);
    for (uint64_t i = 0; i < n; i++)
        if (r->p[i] < 32 || r->p[i] == 127) return DATA(r, "its name holds the control character 0x%02x", r->p[i]);
    if (!(s = qt_arena_alloc(&r->g->arena, (size_t)n + 1))) return QT_EMEM;
    memcpy(s, r->p, (size_t)n);
    s[n] = 0, r->p += n, *name = s;
    return QT_OK;
}

/* ---- keys ------------------------------------------------------------------------------------------------------------------------ */

static qt_err skip_strings(reader *r, uint64_t n)
{
    for (uint64_t i = 0, bytes; i < n; i++) {
        QT_TRY(take(r, &bytes, sizeof bytes));
        if (left(r) < bytes) return DATA(r, "string %llu has %llu bytes, the file has %llu left", (unsigned long long)i, (unsigned long long)bytes,
                                         (unsigned long long)left(r));
        r->p += bytes;
    }
    return QT_OK;
}

static qt_err check_bools(const reader *r, const qt_gguf_key *k)
{
    for (uint64_t i = 0; i < k->n; i++)
        if (k->p[i] > 1) return DATA(r, "a bool is %d, expected 0 or 1", k->p[i]);
    return QT_OK;
}

static qt_err read_type(reader *r, const char *what, qt_gguf_type *type)
{
    uint32_t t;
    QT_TRY(take(r, &t, sizeof t));
    if (t >= QT_GGUF_TYPES) return DATA(r, "%s %u, expected 0 to %d", what, t, QT_GGUF_TYPES - 1);
    *type = (qt_gguf_type)t;
    return QT_OK;
}

static qt_err read_key(reader *r, int64_t i, qt_gguf_key *k)
{
    snprintf(r->what, sizeof r->what, "key %lld of %lld", (long long)i + 1, (long long)r->g->n_keys);
    QT_TRY(take_name(r, KEY_LONGEST, &k->name));
    snprintf(r->what, sizeof r->what, "key '%.100s'", k->name);
    QT_TRY(read_type(r, "type", &k->type));
    k->n = 1, k->array = k->type == QT_GGUF_ARRAY;
    if (k->array) {
        QT_TRY(read_type(r, "type of its elements", &k->type));
        if (k->type == QT_GGUF_ARRAY) return DATA(r, "%s", "an array of arrays, which readers of GGUF do not know");
        QT_TRY(take(r, &k->n, sizeof k->n));
        if (k->n > left(r) / types[k->type].bytes)
            return DATA(r, "an array of %llu elements, the file has %llu bytes left", (unsigned long long)k->n, (unsigned long long)left(r));
    }
    k->p = r->p;
    if (k->type == QT_GGUF_STR) return skip_strings(r, k->n);
    if (k->n > left(r) / types[k->type].bytes) return ended(r);
    r->p += k->n * types[k->type].bytes;
    return k->type == QT_GGUF_BOOL ? check_bools(r, k) : QT_OK;
}

/* ---- tensors --------------------------------------------------------------------------------------------------------------------- */

static qt_err read_dims(reader *r, qt_gguf_tensor *t)
{
    uint32_t rank;
    QT_TRY(take(r, &rank, sizeof rank));
    if (rank > QT_GGUF_DIMS) return DATA(r, "%u dimensions, expected at most %d", rank, QT_GGUF_DIMS);
    t->rank = (int)rank, t->n = 1;
    for (int d = 0; d < QT_GGUF_DIMS; d++) t->dim[d] = 1;
    for (int d = 0; d < t->rank; d++) {
        QT_TRY(take(r, &t->dim[d], sizeof t->dim[d]));
        if (t->dim[d] < 1) return DATA(r, "dimension %d is %lld, expected at least 1", d, (long long)t->dim[d]);
        if (t->dim[d] > INT64_MAX / t->n) return DATA(r, "dimension %d is %lld, too large", d, (long long)t->dim[d]);
        t->n *= t->dim[d];
    }
    return QT_OK;
}

/* offset: where its data must begin. */
static qt_err read_tensor(reader *r, int64_t i, qt_gguf_tensor *t, uint64_t *offset)
{
    uint32_t type;
    uint64_t at, alignment = r->g->alignment;
    snprintf(r->what, sizeof r->what, "tensor %lld of %lld", (long long)i + 1, (long long)r->g->n_tensors);
    QT_TRY(take_name(r, QT_GGUF_NAME - 1, &t->name));
    snprintf(r->what, sizeof r->what, "tensor '%s'", t->name);
    QT_TRY(read_dims(r, t));
    QT_TRY(take(r, &type, sizeof type));
    if (!(t->type = type <= INT32_MAX ? qt_ggml_of((int)type) : NULL)) return DATA(r, "type %u is not known", type);
    if (t->dim[0] % t->type->block)
        return DATA(r, "a row of %lld is no multiple of the block of %s, %lld", (long long)t->dim[0], t->type->name, (long long)t->type->block);
    if (t->n / t->type->block > INT64_MAX / 2 / t->type->bytes) return DATA(r, "%lld numbers are too many", (long long)t->n);
    t->bytes = t->n / t->type->block * t->type->bytes;
    QT_TRY(take(r, &at, sizeof at));
    if (at != *offset)
        return DATA(r, "its data begins at %llu, expected %llu: data stand in the order of the list, without gaps", (unsigned long long)at,
                    (unsigned long long)*offset);
    if (*offset > r->g->map.n || (uint64_t)t->bytes > r->g->map.n - *offset)
        return DATA(r, "its data would be %lld bytes, the whole file has %zu", (long long)t->bytes, r->g->map.n);
    *offset += ((uint64_t)t->bytes + alignment - 1) / alignment * alignment;
    return QT_OK;
}

/* Data begin behind the list; now that its end is known, each tensor gets its place. */
static qt_err place_data(reader *r, qt_gguf_tensor *t)
{
    qt_gguf *g = r->g;
    uint64_t head = (uint64_t)(r->p - g->map.p), a = g->alignment, at = (head + a - 1) / a * a;
    for (int64_t i = 0; i < g->n_tensors; i++) {
        if (at > g->map.n || (uint64_t)t[i].bytes > g->map.n - at)
            return qt_fail(QT_EDATA, "%s: tensor '%s': its data is at bytes %llu to %llu, the file ends at %zu", g->file, t[i].name,
                           (unsigned long long)at, (unsigned long long)(at + (uint64_t)t[i].bytes), g->map.n);
        t[i].data = g->map.p + at;
        at += ((uint64_t)t[i].bytes + a - 1) / a * a;
    }
    return QT_OK;
}

/* ---- names ----------------------------------------------------------------------------------------------------------------------- */

/* Keys and tensors begin with their name. */
static const char *name_of(const void *p) { return *(const char *const *)p; }
static int by_name(const void *a, const void *b) { return strcmp(name_of(*(const void *const *)a), name_of(*(const void *const *)b)); }
static int to_name(const void *name, const void *p) { return strcmp(name, name_of(*(const void *const *)p)); }

static qt_err sort_names(qt_gguf *g, const char *what, const void *all, int64_t n, size_t size, void *sorted)
{
    const void **p = qt_arena_alloc(&g->arena, (size_t)n * sizeof *p);
    if (!p) return QT_EMEM;
    for (int64_t i = 0; i < n; i++) p[i] = (const char *)all + (size_t)i * size;
    qsort(p, (size_t)n, sizeof *p, by_name);
    for (int64_t i = 1; i < n; i++)
        if (!by_name(&p[i - 1], &p[i])) return qt_fail(QT_EDATA, "%s: %s '%s' is there twice", g->file, what, name_of(p[i]));
    memcpy(sorted, &p, sizeof p);
    return QT_OK;
}

/* ---- the file -------------------------------------------------------------------------------------------------------------------- */

static qt_err read_head(reader *r)
{
    qt_gguf *g = r->g;
    char     magic[4];
    uint64_t tensors, keys;
    snprintf(r->what, sizeof r->what, "its header");
    QT_TRY(take(r, magic, sizeof magic));
    QT_CHECK(!memcmp(magic, "GGUF", 4), QT_EDATA, "%s: is no GGUF file: its first bytes are not 'GGUF'", g->file);
    QT_TRY(take(r, &g->version, sizeof g->version));
    QT_CHECK(g->version != 2u << 24 && g->version != 3u << 24, QT_EDATA, "%s: a big-endian GGUF file, expected little-endian", g->file);
    QT_CHECK(g->version == 2 || g->version == 3, QT_EDATA, "%s: version %u of GGUF, expected 2 or 3", g->file, g->version);
    QT_TRY(take(r, &tensors, sizeof tensors));
    QT_TRY(take(r, &keys, sizeof keys));
    QT_CHECK(keys <= left(r) / KEY_LEAST, QT_EDATA, "%s: claims %llu keys, which do not fit into its %zu bytes", g->file, (unsigned long long)keys,
             g->map.n);
    QT_CHECK(tensors <= left(r) / TENSOR_LEAST, QT_EDATA, "%s: claims %llu tensors, which do not fit into its %zu bytes", g->file,
             (unsigned long long)tensors, g->map.n);
    g->n_keys = (int64_t)keys, g->n_tensors = (int64_t)tensors;
    return QT_OK;
}

static qt_err read_keys(reader *r)
{
    qt_gguf     *g = r->g;
    qt_gguf_key *k = qt_arena_zalloc(&g->arena, (size_t)g->n_keys * sizeof *k);
    if (!k) return QT_EMEM;
    g->key = k;
    for (int64_t i = 0; i < g->n_keys; i++) QT_TRY(read_key(r, i, &k[i]));
    return sort_names(g, "key", k, g->n_keys, sizeof *k, &g->keys_by_name);
}

static qt_err read_alignment(qt_gguf *g)
{
    const qt_gguf_key *k = qt_gguf_find(g, "general.alignment");
    g->alignment = 32;
    if (!k) return QT_OK;
    QT_CHECK(k->type == QT_GGUF_U32 && !k->array, QT_EDATA, "%s: key 'general.alignment': expected a u32", g->file);
    g->alignment = (uint32_t)qt_gguf_integer(k, 0);
    QT_CHECK(g->alignment && !(g->alignment & (g->alignment - 1)), QT_EDATA, "%s: key 'general.alignment' is %u, expected a power of two", g->file,
             g->alignment);
    return QT_OK;
}

static qt_err read_tensors(reader *r)
{
    qt_gguf        *g = r->g;
    uint64_t        offset = 0;
    qt_gguf_tensor *t = qt_arena_zalloc(&g->arena, (size_t)g->n_tensors * sizeof *t);
    if (!t) return QT_EMEM;
    g->tensor = t;
    for (int64_t i = 0; i < g->n_tensors; i++) QT_TRY(read_tensor(r, i, &t[i], &offset));
    QT_TRY(sort_names(g, "tensor", t, g->n_tensors, sizeof *t, &g->tensors_by_name));
    return place_data(r, t);
}

static qt_err read_all(qt_gguf *g, const char *file)
{
    reader r = {g};
    if (!(g->file = qt_arena_strdup(&g->arena, file))) return QT_EMEM;
    QT_TRY(qt_file_map(file, &g->map));
    r.p = g->map.p, r.end = g->map.p + g->map.n;
    QT_TRY(read_head(&r));
    QT_TRY(read_keys(&r));
    QT_TRY(read_alignment(g));
    return read_tensors(&r);
}

qt_err qt_gguf_open(const char *file, qt_gguf **out)
{
    qt_gguf *g = qt_alloc(sizeof *g);
    *out = NULL;
    if (!g) return QT_EMEM;
    qt_err e = read_all(g, file);
    if (e) qt_gguf_free(g);
    else *out = g;
    return e;
}

void qt_gguf_free(qt_gguf *g)
{
    if (!g) return;
    qt_file_unmap(&g->map);
    qt_arena_free(&g->arena);
    qt_free(g);
}

/* ---- what is in it --------------------------------------------------------------------------------------------------------------- */

const qt_gguf_key *qt_gguf_find(const qt_gguf *g, const char *key)
{
    const qt_gguf_key **p = g->n_keys ? bsearch(key, g->keys_by_name, (size_t)g->n_keys, sizeof *p, to_name) : NULL;
    return p ? *p : NULL;
}

const qt_gguf_tensor *qt_gguf_find_tensor(const qt_gguf *g, const char *name)
{
    const qt_gguf_tensor **p = g->n_tensors ? bsearch(name, g->tensors_by_name, (size_t)g->n_tensors, sizeof *p, to_name) : NULL;
    return p ? *p : NULL;
}

static bool is_integer(qt_gguf_type t) { return t <= QT_GGUF_I32 || t == QT_GGUF_BOOL || t == QT_GGUF_U64 || t == QT_GGUF_I64; }

int64_t qt_gguf_integer(const qt_gguf_key *k, uint64_t i)
{
    const size_t   bytes = types[k->type].bytes;
    const uint8_t *p = k->p + i * bytes;
    const bool     is_signed = k->type == QT_GGUF_I8 || k->type == QT_GGUF_I16 || k->type == QT_GGUF_I32;
    uint64_t       v = 0;
    memcpy(&v, p, bytes);
    if (is_signed && v >> (8 * bytes - 1)) v -= (uint64_t)1 << 8 * bytes;
    return k->type == QT_GGUF_U64 && v > INT64_MAX ? INT64_MAX : (int64_t)v;
}

double qt_gguf_number(const qt_gguf_key *k, uint64_t i)
{
    float  f;
    double d;
    if (k->type == QT_GGUF_F32) return memcpy(&f, k->p + 4 * i, sizeof f), (double)f;
    if (k->type == QT_GGUF_F64) return memcpy(&d, k->p + 8 * i, sizeof d), d;
    return (double)qt_gguf_integer(k, i);
}

const char *qt_gguf_next_str(const uint8_t **p, size_t *n)
{
    uint64_t bytes;
    memcpy(&bytes, *p, sizeof bytes);
    const char *s = (const char *)*p + sizeof bytes;
    *n = (size_t)bytes, *p += sizeof bytes + bytes;
    return s;
}

static qt_err find(const qt_gguf *g, const char *key, const qt_gguf_key **k)
{
    *k = qt_gguf_find(g, key);
    return *k ? QT_OK : qt_fail(QT_EDATA, "%s: has no key '%s'", g->file, key);
}

static qt_err unfit(const qt_gguf *g, const qt_gguf_key *k, const char *expected)
{
    return qt_fail(QT_EDATA, "%s: key '%s': expected %s, found %s%s", g->file, k->name, expected, k->array ? "an array of " : "",
                   qt_gguf_type_name(k->type));
}

qt_err qt_gguf_int(qt_gguf *g, const char *key, int64_t *v)
{
    const qt_gguf_key *k;
    QT_TRY(find(g, key, &k));
    if (k->array || !is_integer(k->type)) return unfit(g, k, "an integer");
    *v = qt_gguf_integer(k, 0);
    return QT_OK;
}

qt_err qt_gguf_real(qt_gguf *g, const char *key, double *v)
{
    const qt_gguf_key *k;
    QT_TRY(find(g, key, &k));
    if (k->array || k->type == QT_GGUF_STR) return unfit(g, k, "a number");
    *v = qt_gguf_number(k, 0);
    return QT_OK;
}

qt_err qt_gguf_str(qt_gguf *g, const char *key, const char **v)
{
    const qt_gguf_key *k;
    size_t             n;
    QT_TRY(find(g, key, &k));
    if (k->array || k->type != QT_GGUF_STR) return unfit(g, k, "a string");
    const uint8_t *p = k->p;
    const char    *s = qt_gguf_next_str(&p, &n);
    char          *copy = qt_arena_zalloc(&g->arena, n + 1);
    if (!copy) return QT_EMEM;
    *v = memcpy(copy, s, n);
    return QT_OK;
}
