/* Files of numpy: see npy.h. Left out: big-endian numbers, bools, complex numbers, structures, objects, and .npz archives. */
#include "base/npy.h"
#include "base/half.h"
#include <string.h>

static qt_err bad(const qt_npy *a, const char *what) { return qt_fail(QT_EDATA, "%s: damaged .npy file: %s", a->file, what); }

/* ---- the header: a dict of three keys, in any order ---------------------------------------------------------------------------------- */

typedef struct text {
    const char *p, *end;
} text;

static void blanks(text *t)
{
    while (t->p < t->end && (*t->p == ' ' || *t->p == '\n')) t->p++;
}

static bool take(text *t, const char *word)
{
    const size_t n = strlen(word);
    blanks(t);
    if ((size_t)(t->end - t->p) < n || memcmp(t->p, word, n)) return false;
    return t->p += n, true;
}

static bool take_size(text *t, int64_t *v)
{
    int digits = 0;
    blanks(t);
    for (*v = 0; t->p < t->end && *t->p >= '0' && *t->p <= '9' && digits < 16; digits++) *v = 10 * *v + (*t->p++ - '0');
    return digits > 0 && digits < 16;
}

static bool take_shape(text *t, qt_npy *a)
{
    if (!take(t, "(")) return false;
    for (a->rank = 0, a->n = 1; !take(t, ")"); a->rank++) {
        if (a->rank == QT_NPY_DIMS || !take_size(t, &a->dim[a->rank])) return false;
        if (__builtin_mul_overflow(a->n, a->dim[a->rank], &a->n)) return false;
        if (!take(t, ",") && (t->p == t->end || *t->p != ')')) return false;
    }
    return true;
}

static bool take_type(text *t, qt_npy *a)
{
    if (!take(t, "'<") || t->end - t->p < 3) return false;
    a->kind = t->p[0], a->size = t->p[1] - '0';
    t->p += 2;
    return (a->size == 2 || a->size == 4 || a->size == 8) && strchr("fiu", a->kind) && a->kind && take(t, "'");
}

static qt_err read_header(qt_npy *a, text t)
{
    int seen = 0;
    if (!take(&t, "{")) return bad(a, "no header");
    while (!take(&t, "}")) {
        if (take(&t, "'descr':")) {
            if (!take_type(&t, a)) return bad(a, "its numbers are no little-endian floats or integers of 2 to 8 bytes");
            seen |= 1;
        } else if (take(&t, "'fortran_order':")) {
            if (!take(&t, "False")) return bad(a, "it is not in row-major order (save numpy.ascontiguousarray of it)");
            seen |= 2;
        } else if (take(&t, "'shape':")) {
            if (!take_shape(&t, a)) return bad(a, "no shape of at most 8 dimensions");
            seen |= 4;
        } else return bad(a, "an unknown key in its header");
        take(&t, ",");
    }
    blanks(&t);
    return seen == 7 && t.p == t.end ? QT_OK : bad(a, "its header is not complete");
}

static qt_err read_file(qt_npy *a)
{
    const uint8_t *p = a->map.p;
    const size_t   n = a->map.n;
    size_t         head = 10, len;
    if (n < 12 || memcmp(p, "\x93NUMPY", 6)) return qt_fail(QT_EDATA, "%s: no .npy file", a->file);
    if (p[6] < 1 || p[6] > 3) return bad(a, "an unknown version");
    len = p[8] | (size_t)p[9] << 8;
    if (p[6] > 1) len |= (size_t)p[10] << 16 | (size_t)p[11] << 24, head = 12;
    if (len > n - head) return bad(a, "cut off in its header");
    QT_TRY(read_header(a, (text){(const char *)p + head, (const char *)p + head + len}));
    if ((uint64_t)a->n > (n - head - len) / (size_t)a->size || (size_t)a->n * (size_t)a->size != n - head - len)
        return bad(a, "its shape and its length do not go together");
    a->p = p + head + len;
    return QT_OK;
}

qt_err qt_npy_open(const char *file, qt_npy *a)
{
    *a = (qt_npy){.file = file};
    QT_TRY(qt_file_map(file, &a->map));
    return read_file(a);
}

void qt_npy_close(qt_npy *a) { qt_file_unmap(&a->map); }

double qt_npy_get(const qt_npy *a, int64_t i)
{
    const uint8_t *p = a->p + i * a->size;
    uint64_t       u = 0;
    double         d;
    memcpy(&u, p, (size_t)a->size), memcpy(&d, &u, sizeof d);
    if (a->kind == 'f' && a->size == 2) return (double)qt_half_to_float((uint16_t)u);
    if (a->kind == 'f' && a->size == 4) return (double)qt_float_of_bits((uint32_t)u);
    if (a->kind == 'f') return d;
    if (a->kind == 'u') return (double)u;
    return (double)((int64_t)(u << (64 - 8 * a->size)) >> (64 - 8 * a->size));
}
