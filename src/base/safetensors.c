/* Reading safetensors: see safetensors.h. The shape of the header is fixed, so it is read with a JSON cursor, without a tree. */
#include "base/safetensors.h"
#include "base/half.h"
#include "base/json.h"
#include <stdlib.h>
#include <string.h>

enum { HEADER_LONGEST = 100000000 };

static const struct {
    const char *name;
    int         bits;
} types[] = {
#define QT_X(name, bits) {#name, bits},
    QT_SAFE_TYPES(QT_X)
#undef QT_X
};
enum { TYPES = sizeof types / sizeof *types };

const char *qt_safe_type_name(qt_safe_type t) { return types[t].name; }
int         qt_safe_type_bits(qt_safe_type t) { return types[t].bits; }

/* ---- one tensor of the header ---------------------------------------------------------------------------------------------------- */

static qt_err read_type(qt_json *j, qt_safe_type *type)
{
    const char *name;
    QT_TRY(qt_json_string(j, &name));
    for (int i = 0; i < TYPES; i++)
        if (!strcmp(types[i].name, name)) return *type = (qt_safe_type)i, QT_OK;
    return qt_json_fail(j, "dtype '%s' is not known", name);
}

static qt_err read_shape(qt_json *j, qt_safe_tensor *t)
{
    QT_TRY(qt_json_enter(j, '['));
    for (t->rank = 0;; t->rank++) {
        uint64_t v;
        bool     more;
        QT_TRY(qt_json_element(j, &more));
        if (!more) return QT_OK;
        if (t->rank == QT_SAFE_DIMS) return qt_json_fail(j, "tensor '%s' has more than %d dimensions", t->name, QT_SAFE_DIMS);
        QT_TRY(qt_json_uint(j, &v));
        if (v > INT64_MAX) return qt_json_fail(j, "tensor '%s': a dimension of %llu", t->name, (unsigned long long)v);
        t->dim[t->rank] = (int64_t)v;
    }
}

static qt_err read_offsets(qt_json *j, qt_safe_tensor *t)
{
    bool more;
    QT_TRY(qt_json_enter(j, '['));
    for (int i = 0; i < 2; i++) {
        QT_TRY(qt_json_element(j, &more));
        if (!more) return qt_json_fail(j, "tensor '%s': expected two data_offsets", t->name);
        QT_TRY(qt_json_uint(j, i ? &t->end : &t->begin));
    }
    QT_TRY(qt_json_element(j, &more));
    return more ? qt_json_fail(j, "tensor '%s': expected two data_offsets", t->name) : QT_OK;
}

static qt_err read_member(qt_json *j, qt_safe_tensor *t, unsigned *seen)
{
    static const char *const name[] = {"dtype", "shape", "data_offsets"};
    const char              *key;
    QT_TRY(qt_json_enter(j, '{'));
    for (;;) {
        int i = 0;
        QT_TRY(qt_json_member(j, &key));
        if (!key) return QT_OK;
        while (i < 3 && strcmp(name[i], key)) i++;
        if (i == 3) return qt_json_fail(j, "tensor '%s': unknown key '%s'", t->name, key);
        if (*seen >> i & 1) return qt_json_fail(j, "tensor '%s': '%s' is there twice", t->name, key);
        *seen |= 1u << i;
        QT_TRY(i == 0 ? read_type(j, &t->type) : i == 1 ? read_shape(j, t) : read_offsets(j, t));
    }
}

/* Its numbers, and that they take the bytes it says. */
static qt_err measure(const qt_safe *s, qt_safe_tensor *t)
{
    int64_t bits = types[t->type].bits;
    bool    fits = true;
    t->n = 1;
    for (int d = 0; d < t->rank; d++) fits = fits && (t->dim[d] == 0 || t->n <= INT64_MAX / 64 / t->dim[d]), t->n *= fits ? t->dim[d] : 1;
    QT_CHECK(fits, QT_EDATA, "%s: tensor '%s': its shape is too large", s->file, t->name);
    QT_CHECK(t->n * bits % 8 == 0, QT_EDATA, "%s: tensor '%s': %lld numbers of %lld bits are no whole bytes", s->file, t->name, (long long)t->n,
             (long long)bits);
    QT_CHECK(t->end >= t->begin && t->end - t->begin == (uint64_t)(t->n * bits / 8), QT_EDATA,
             "%s: tensor '%s': data_offsets %llu to %llu, expected %lld bytes for its shape", s->file, t->name, (unsigned long long)t->begin,
             (unsigned long long)t->end, (long long)(t->n * bits / 8));
    return QT_OK;
}

static qt_err read_tensor(const qt_safe *s, qt_json *j, const char *name, qt_safe_tensor *t)
{
    unsigned seen = 0;
    *t = (qt_safe_tensor){.name = name};
    QT_TRY(read_member(j, t, &seen));
    if (seen != 7) return qt_json_fail(j, "tensor '%s' needs dtype, shape and data_offsets", name);
    return measure(s, t);
}

/* ---- the header ------------------------------------------------------------------------------------------------------------------ */

typedef struct gathered {
    qt_safe_tensor *tensor;
    const char    **meta;
    int             n, cap, n_meta, cap_meta;
    bool            has_meta;
} gathered;

static qt_err read_meta(qt_json *j, gathered *h)
{
    const char *key, *value;
    if (h->has_meta) return qt_json_fail(j, "'__metadata__' is there twice");
    h->has_meta = true;
    QT_TRY(qt_json_enter(j, '{'));
    for (;;) {
        QT_TRY(qt_json_member(j, &key));
        if (!key) return QT_OK;
        QT_TRY(qt_json_string(j, &value));
        QT_TRY(qt_grow(&h->meta, &h->cap_meta, h->n_meta + 2, sizeof *h->meta));
        h->meta[h->n_meta++] = key, h->meta[h->n_meta++] = value;
    }
}

static qt_err read_header(qt_safe *s, uint64_t n, gathered *h)
{
    qt_json     j = qt_json_of(s->file, "header", (const char *)s->map.p + 8, (size_t)n, &s->arena);
    const char *name;
    if (n == 0 || s->map.p[8] != '{') return qt_json_fail(&j, "expected '{' as its first byte");
    QT_TRY(qt_json_enter(&j, '{'));
    for (;;) {
        QT_TRY(qt_json_member(&j, &name));
        if (!name) return qt_json_end(&j);
        if (!strcmp(name, "__metadata__")) {
            QT_TRY(read_meta(&j, h));
            continue;
        }
        QT_TRY(qt_grow(&h->tensor, &h->cap, h->n + 1, sizeof *h->tensor));
        QT_TRY(read_tensor(s, &j, name, &h->tensor[h->n++]));
    }
}

static int by_name(const void *a, const void *b) { return strcmp(((const qt_safe_tensor *)a)->name, ((const qt_safe_tensor *)b)->name); }
static int to_name(const void *name, const void *t) { return strcmp(name, ((const qt_safe_tensor *)t)->name); }
static int by_place(const void *a, const void *b)
{
    const qt_safe_tensor *x = a, *y = b;
    return x->begin != y->begin ? (x->begin > y->begin) - (x->begin < y->begin) : (x->end > y->end) - (x->end < y->end);
}

/* In the order of their places, each tensor begins where the one before ends, and the last ends with the file. */
static qt_err check_cover(const qt_safe *s, uint64_t data, qt_safe_tensor *t, int n)
{
    uint64_t at = 0;
    if (n) qsort(t, (size_t)n, sizeof *t, by_place);
    for (int i = 0; i < n; at = t[i++].end) {
        QT_CHECK(t[i].end <= data, QT_EDATA, "%s: tensor '%s': its data ends at %llu, the file has %llu bytes of data", s->file, t[i].name,
                 (unsigned long long)t[i].end, (unsigned long long)data);
        QT_CHECK(t[i].begin <= at, QT_EDATA, "%s: tensor '%s': a hole of %llu bytes before its data", s->file, t[i].name,
                 (unsigned long long)(t[i].begin - at));
        QT_CHECK(t[i].begin >= at, QT_EDATA, "%s: tensors '%s' and '%s' overlap", s->file, t[i ? i - 1 : 0].name, t[i].name);
    }
    QT_CHECK(at == data, QT_EDATA, "%s: %llu bytes behind the last tensor", s->file, (unsigned long long)(data - at));
    return QT_OK;
}

static qt_err check_names(const qt_safe *s, qt_safe_tensor *t, int n)
{
    if (n) qsort(t, (size_t)n, sizeof *t, by_name);
    for (int i = 1; i < n; i++) QT_CHECK(by_name(&t[i - 1], &t[i]), QT_EDATA, "%s: tensor '%s' is there twice", s->file, t[i].name);
    return QT_OK;
}

/* Copies what has been gathered into the arena. */
static qt_err keep(qt_safe *s, const gathered *h, const uint8_t *data)
{
    qt_safe_tensor *t = qt_arena_alloc(&s->arena, (size_t)h->n * sizeof *t);
    const char    **m = qt_arena_alloc(&s->arena, (size_t)h->n_meta * sizeof *m);
    if (!t || !m) return QT_EMEM;
    for (int i = 0; i < h->n; i++) t[i] = h->tensor[i], t[i].data = data + t[i].begin;
    for (int i = 0; i < h->n_meta; i++) m[i] = h->meta[i];
    s->n = h->n, s->tensor = t, s->n_meta = h->n_meta / 2, s->meta = m;
    return QT_OK;
}

static qt_err read_all(qt_safe *s, const char *file, gathered *h)
{
    uint64_t n = 0;
    if (!(s->file = qt_arena_strdup(&s->arena, file))) return QT_EMEM;
    QT_TRY(qt_file_map(file, &s->map));
    QT_CHECK(s->map.n >= 8, QT_EDATA, "%s: is no safetensors file: it has %zu bytes", file, s->map.n);
    memcpy(&n, s->map.p, sizeof n);
    QT_CHECK(n <= HEADER_LONGEST, QT_EDATA, "%s: is no safetensors file: a header of %llu bytes, expected at most %d", file, (unsigned long long)n,
             HEADER_LONGEST);
    QT_CHECK(n <= s->map.n - 8, QT_EDATA, "%s: a header of %llu bytes, the file has %zu", file, (unsigned long long)n, s->map.n);
    QT_TRY(read_header(s, n, h));
    QT_TRY(check_names(s, h->tensor, h->n)); /* first, so that a name twice is not called an overlap */
    QT_TRY(check_cover(s, s->map.n - 8 - n, h->tensor, h->n));
    QT_TRY(check_names(s, h->tensor, h->n));
    return keep(s, h, s->map.p + 8 + n);
}

qt_err qt_safe_open(const char *file, qt_safe **out)
{
    gathered h = {0};
    qt_safe *s = qt_alloc(sizeof *s);
    *out = NULL;
    if (!s) return QT_EMEM;
    qt_err e = read_all(s, file, &h);
    qt_free(h.tensor), qt_free(h.meta);
    if (e) qt_safe_free(s);
    else *out = s;
    return e;
}

void qt_safe_free(qt_safe *s)
{
    if (!s) return;
    qt_file_unmap(&s->map);
    qt_arena_free(&s->arena);
    qt_free(s);
}

const qt_safe_tensor *qt_safe_find(const qt_safe *s, const char *name)
{
    return s->n ? bsearch(name, s->tensor, (size_t)s->n, sizeof *s->tensor, to_name) : NULL;
}

/* ---- numbers --------------------------------------------------------------------------------------------------------------------- */

#define READ(T, value)                                 \
    for (int64_t i = 0; i < t->n; i++) {               \
        T v;                                           \
        memcpy(&v, t->data + i * (int64_t)sizeof v, sizeof v); \
        x[i] = (qt_real)(value);                       \
    }                                                  \
    return QT_OK

qt_err qt_safe_read(const qt_safe *s, const qt_safe_tensor *t, qt_real *x)
{
    switch (t->type) {
    case QT_SAFE_BOOL:
    case QT_SAFE_U8: READ(uint8_t, v);
    case QT_SAFE_I8: READ(int8_t, v);
    case QT_SAFE_I16: READ(int16_t, v);
    case QT_SAFE_U16: READ(uint16_t, v);
    case QT_SAFE_F16: READ(uint16_t, qt_half_to_float(v));
    case QT_SAFE_BF16: READ(uint16_t, qt_float_of_bits((uint32_t)v << 16));
    case QT_SAFE_I32: READ(int32_t, v);
    case QT_SAFE_U32: READ(uint32_t, v);
    case QT_SAFE_F32: READ(float, v);
    case QT_SAFE_F64: READ(double, v);
    case QT_SAFE_I64: READ(int64_t, v);
    case QT_SAFE_U64: READ(uint64_t, v);
    default: return qt_fail(QT_EDATA, "%s: tensor '%s': numbers of type %s cannot be read", s->file, t->name, types[t->type].name);
    }
}
