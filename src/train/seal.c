/* The seal of the HDF5 files that qtape writes for itself (checkpoints, exported models): in front of the HDF5 part stands a user block of
 * 512 bytes, "QTAPE-CKPT 1 crc32=XXXXXXXX bytes=N" (what it is, the version of its format, CRC-32 and length of the rest). It is verified
 * before libhdf5 sees the file, so that a damaged one is a message and never a crash. */
#include "base/h5.h"
#include "base/scan.h"
#include "train/train.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* CRC-32 and length of what follows the user block. */
static bool crc_of(FILE *f, unsigned long *crc, long long *bytes)
{
    unsigned char buf[65536];
    *crc = crc32(0, NULL, 0), *bytes = 0;
    if (fseek(f, QT_H5_USERBLOCK, SEEK_SET)) return false;
    for (size_t n; (n = fread(buf, 1, sizeof buf, f)) > 0; *bytes += (long long)n) *crc = crc32(*crc, buf, (unsigned)n);
    return !ferror(f);
}

qt_err qt_seal_write(const qt_seal *s, const char *file)
{
    char          block[QT_H5_USERBLOCK] = "";
    unsigned long crc;
    long long     bytes;
    FILE         *f = fopen(file, "r+b");
    bool          ok = f && crc_of(f, &crc, &bytes);
    if (ok) {
        snprintf(block, sizeof block, "%s %d crc32=%08lx bytes=%lld\n", s->magic, s->version, crc, bytes);
        ok = !fseek(f, 0, SEEK_SET) && fwrite(block, 1, sizeof block, f) == sizeof block;
    }
    if (f && fclose(f)) ok = false;
    return ok ? QT_OK : qt_fail(QT_EIO, "%s: cannot write: %s", file, strerror(errno));
}

/* Takes the text apart. Of a version that is newer only the number is known. */
static bool parse(const qt_seal *s, const char *block, int64_t *version, unsigned long *crc, int64_t *bytes)
{
    size_t      head = strlen(s->magic);
    const char *p = block + head + 1;
    char       *end;
    if (strncmp(block, s->magic, head) || block[head] != ' ' || !qt_scan_number(&p, INT32_MAX, version) || *version == 0) return false;
    if (*version > s->version) return *p == ' ';
    if (strncmp(p, " crc32=", 7)) return false;
    *crc = strtoul(p + 7, &end, 16);
    if (end != p + 15 || strncmp(end, " bytes=", 7)) return false;
    p = end + 7;
    return qt_scan_number(&p, INT64_MAX, bytes) && *p == '\n';
}

qt_err qt_seal_verify(const qt_seal *s, const char *file)
{
    char          block[QT_H5_USERBLOCK + 1] = "";
    unsigned long crc, want;
    long long     bytes;
    int64_t       version = 0, want_bytes = 0;
    FILE         *f = fopen(file, "rb");
    QT_CHECK(f, QT_EIO, "%s: cannot read: %s", file, strerror(errno));
    size_t n = fread(block, 1, QT_H5_USERBLOCK, f);
    bool   is_one = n == QT_H5_USERBLOCK && parse(s, block, &version, &want, &want_bytes);
    bool ok = is_one && version <= s->version && crc_of(f, &crc, &bytes);
    fclose(f);
    QT_CHECK(is_one, QT_EDATA, "%s: is no qtape %s, or its first bytes are damaged", file, s->what);
    QT_CHECK(version <= s->version, QT_EDATA, "%s: %s for a newer format version, %lld; this qtape reads version %d", file, s->made, (long long)version,
             s->version);
    QT_CHECK(ok, QT_EIO, "%s: cannot read: %s", file, strerror(errno));
    QT_CHECK(bytes == want_bytes, QT_EDATA, "%s: damaged %s: %lld bytes after the first %d, expected %lld", file, s->what, bytes, QT_H5_USERBLOCK,
             (long long)want_bytes);
    QT_CHECK(crc == want, QT_EDATA, "%s: damaged %s: its checksum is %08lx, expected %08lx", file, s->what, crc, want);
    return QT_OK;
}
