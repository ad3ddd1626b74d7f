/* Writing safetensors: see safetensors.h. Its header ends in spaces, so that data begin at a multiple of 8; together with the order of the
 * types that puts every number on a multiple of its own size. */
#include "base/safetensors.h"
#include "base/json.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int wide_first(const void *a, const void *b)
{
    const qt_safe_tensor *x = *(const qt_safe_tensor *const *)a, *y = *(const qt_safe_tensor *const *)b;
    return x->type != y->type ? (x->type < y->type) - (x->type > y->type) : strcmp(x->name, y->name);
}

static void print_string(FILE *f, const char *s) { qt_json_print(f, s, strlen(s)); }

static int64_t size_of(const qt_safe_tensor *t)
{
    int64_t n = 1;
    for (int d = 0; d < t->rank; d++) n *= t->dim[d];
    return n * qt_safe_type_bits(t->type) / 8;
}

static void print_meta(FILE *f, int64_t n, const char *const *meta)
{
    fputs("\"__metadata__\":{", f);
    for (int64_t i = 0; i < n; i++) {
        if (i) putc(',', f);
        print_string(f, meta[2 * i]), putc(':', f), print_string(f, meta[2 * i + 1]);
    }
    putc('}', f);
}

static void print_tensor(FILE *f, const qt_safe_tensor *t, int64_t begin)
{
    print_string(f, t->name);
    fprintf(f, ":{\"dtype\":\"%s\",\"shape\":[", qt_safe_type_name(t->type));
    for (int d = 0; d < t->rank; d++) fprintf(f, "%s%lld", d ? "," : "", (long long)t->dim[d]);
    fprintf(f, "],\"data_offsets\":[%lld,%lld]}", (long long)begin, (long long)(begin + size_of(t)));
}

/* The header, its length in front. False if it was not written. */
static bool print_header(FILE *f, int64_t n, const qt_safe_tensor *const *t, int64_t n_meta, const char *const *meta)
{
    uint64_t bytes = 0;
    int64_t  at = 0;
    fwrite(&bytes, sizeof bytes, 1, f);
    putc('{', f);
    if (n_meta) print_meta(f, n_meta, meta);
    for (int64_t i = 0; i < n; at += size_of(t[i++])) {
        if (i || n_meta) putc(',', f);
        print_tensor(f, t[i], at);
    }
    putc('}', f);
    long end = ftell(f);
    for (; end % 8 > 0; end++) putc(' ', f);
    bytes = (uint64_t)end - 8;
    return end > 0 && !ferror(f) && !fseek(f, 0, SEEK_SET) && fwrite(&bytes, sizeof bytes, 1, f) == 1 && !fseek(f, 0, SEEK_END);
}

/* What another reader would refuse must not get a name. */
static qt_err read_back(const char *part)
{
    qt_safe *s;
    QT_TRY(qt_safe_open(part, &s));
    qt_safe_free(s);
    return QT_OK;
}

static qt_err write_part(const char *part, const char *file, int64_t n, const qt_safe_tensor *const *t, int64_t n_meta, const char *const *meta)
{
    FILE *f = fopen(part, "w+b");
    QT_CHECK(f, QT_EIO, "%s: cannot write: %s", file, strerror(errno));
    bool bad = !print_header(f, n, t, n_meta, meta);
    for (int64_t i = 0; i < n; i++) fwrite(t[i]->data, 1, (size_t)size_of(t[i]), f);
    bad |= ferror(f) != 0;
    bad |= fclose(f) != 0;
    return bad ? qt_fail(QT_EIO, "%s: cannot write: %s", file, strerror(errno)) : QT_OK;
}

qt_err qt_safe_write(const char *file, int64_t n, const qt_safe_tensor *tensor, int64_t n_meta, const char *const *meta)
{
    char                  *part = qt_sprintf("%s.part", file);
    const qt_safe_tensor **t = qt_alloc((size_t)n * sizeof *t);
    qt_err                 e = part && t ? QT_OK : QT_EMEM;
    if (e == QT_OK) {
        for (int64_t i = 0; i < n; i++) t[i] = &tensor[i];
        qsort(t, (size_t)n, sizeof *t, wide_first);
        e = write_part(part, file, n, t, n_meta, meta);
        if (e == QT_OK) e = read_back(part);
        if (e == QT_OK) e = qt_file_commit(part, file);
        else unlink(part);
    }
    qt_free(t), qt_free(part);
    return e;
}
