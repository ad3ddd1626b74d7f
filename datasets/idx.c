/* The reader of IDX files: see idx.h.
 * Format: http://yann.lecun.com/exdb/mnist, "The IDX file format". Left out: types other than unsigned bytes, ranks above 3. */
#include "idx.h"
#include "files.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

/* Reads n bytes; a stream that is shorter is an error that says how far it went. */
static qt_err read_bytes(const char *file, gzFile f, void *to, int64_t n)
{
    int         code;
    int64_t     at = 0;
    const char *text;
    while (at < n) {
        int got = gzread(f, (char *)to + at, (unsigned)(n - at < 1 << 24 ? n - at : 1 << 24));
        if (got <= 0) break;
        at += got;
    }
    if (at == n) return QT_OK;
    text = gzerror(f, &code);
    QT_CHECK(code != Z_ERRNO, QT_EIO, "%s: %s", file, strerror(errno));
    QT_CHECK(code == Z_OK || code == Z_BUF_ERROR, QT_EDATA, "%s: damaged gzip file: %s", file, text);
    QT_FAIL(QT_EDATA, "%s: truncated: expected %lld more bytes, found %lld", file, (long long)n, (long long)at);
}

/* gzip packs at most 1032 bytes into one, so a header cannot make us allocate much more than the file is worth. */
static qt_err read_header(const char *file, gzFile f, int rank, qt_idx *x)
{
    uint8_t     h[16];
    struct stat st;
    QT_TRY(read_bytes(file, f, h, 4));
    QT_CHECK(h[0] == 0 && h[1] == 0 && h[2] == 8 && h[3] == rank, QT_EDATA,
             "%s: no IDX file of bytes with %d dimension%s: expected it to begin with 0000080%d, found %02x%02x%02x%02x", file, rank,
             rank == 1 ? "" : "s", rank, h[0], h[1], h[2], h[3]);
    QT_TRY(read_bytes(file, f, h, 4 * rank));
    x->n = 1;
    for (int i = 0; i < rank; i++) {
        x->dim[i] = (int64_t)h[4 * i] << 24 | h[4 * i + 1] << 16 | h[4 * i + 2] << 8 | h[4 * i + 3];
        QT_CHECK(x->dim[i] > 0 && x->dim[i] <= ((int64_t)1 << 62) / x->n, QT_EDATA, "%s: dimension %d of the IDX file is %lld", file, i,
                 (long long)x->dim[i]);
        x->n *= x->dim[i];
    }
    QT_CHECK(stat(file, &st) == 0, QT_EIO, "%s: %s", file, strerror(errno));
    QT_CHECK((x->n - 1024) / 1032 <= (int64_t)st.st_size, QT_EDATA, "%s: truncated: its header promises %lld bytes, the file has %lld", file,
             (long long)x->n, (long long)st.st_size);
    return QT_OK;
}

static qt_err read_body(const char *file, gzFile f, int rank, qt_idx *x)
{
    int  code;
    char more;
    QT_TRY(read_header(file, f, rank, x));
    if (!(x->data = qt_alloc((size_t)x->n))) return QT_EMEM;
    QT_TRY(read_bytes(file, f, x->data, x->n));
    QT_CHECK(gzread(f, &more, 1) <= 0, QT_EDATA, "%s: longer than the %lld bytes that its header promises", file, (long long)x->n);
    gzerror(f, &code); /* reading past the end has made zlib compare its checksum */
    QT_CHECK(code == Z_OK, QT_EDATA, "%s: damaged gzip file: %s", file, gzerror(f, &code));
    return QT_OK;
}

qt_err qt_idx_read(const char *file, int rank, qt_idx *out)
{
    qt_err e;
    gzFile f;
    memset(out, 0, sizeof *out);
    QT_CHECK(!qt_is_folder(file), QT_EIO, "%s: is a folder, expected a file", file);
    f = gzopen(file, "rb");
    QT_CHECK(f, QT_EIO, "%s: %s", file, strerror(errno));
    gzbuffer(f, 1 << 17);
    e = read_body(file, f, rank, out);
    if (gzclose_r(f) != Z_OK && e == QT_OK) e = qt_fail(QT_EDATA, "%s: truncated: the gzip stream ends too early", file);
    if (e != QT_OK) {
        qt_free(out->data);
        out->data = NULL;
    }
    return e;
}
