/* Files that are whole or not there: written under a temporary name, brought to the disk, renamed, and the folder brought to the disk. And
 * files mapped into memory, to be read. */
#include "base/files.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool qt_file_exists(const char *file) { return access(file, F_OK) == 0; }

qt_err qt_file_read(qt_arena *a, const char *file, char **text, size_t *n)
{
    FILE       *f = fopen(file, "rb");
    struct stat st;
    long        size = -1;
    char       *p = NULL;
    if (f && !fstat(fileno(f), &st) && S_ISDIR(st.st_mode)) errno = EISDIR; /* can be opened, and claims to have LONG_MAX bytes */
    else if (f && fseek(f, 0, SEEK_END) == 0) size = ftell(f);
    if (size >= 0 && fseek(f, 0, SEEK_SET) == 0 && (p = qt_arena_alloc(a, (size_t)size + 1))) *n = fread(p, 1, (size_t)size, f), p[*n] = 0;
    bool bad = !p || *n != (size_t)size || ferror(f);
    if (f) fclose(f);
    if (f && size >= 0 && !p) return QT_EMEM;
    if (bad) return qt_fail(QT_EIO, "%s: cannot read: %s", file, strerror(errno));
    *text = p;
    return QT_OK;
}

static qt_err sync_folder_of(const char *file)
{
    char  dir[4096];
    char *slash;
    int   fd, bad;
    snprintf(dir, sizeof dir, "%s", file);
    slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = 0;
    fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY);
    if (fd < 0) return qt_fail(QT_EIO, "%s: cannot open: %s", dir, strerror(errno));
    bad = fsync(fd) && errno != EINVAL; /* some file systems cannot sync folders */
    close(fd);
    return bad ? qt_fail(QT_EIO, "%s: cannot sync: %s", dir, strerror(errno)) : QT_OK;
}

qt_err qt_file_commit(const char *part, const char *file)
{
    int fd = open(part, O_RDONLY);
    if (fd < 0 || fsync(fd) || rename(part, file)) {
        int why = errno;
        if (fd >= 0) close(fd);
        unlink(part);
        return qt_fail(QT_EIO, "%s: cannot write: %s", file, strerror(why));
    }
    close(fd);
    return sync_folder_of(file);
}

qt_err qt_file_write(const char *file, const char *text, size_t n)
{
    char  part[4096];
    FILE *f;
    bool  bad;
    if (snprintf(part, sizeof part, "%s.part", file) >= (int)sizeof part) return qt_fail(QT_EIO, "%s: cannot write: %s", file, strerror(ENAMETOOLONG));
    if (!(f = fopen(part, "wb"))) return qt_fail(QT_EIO, "%s: cannot write: %s", file, strerror(errno));
    bad = fwrite(text, 1, n, f) != n;
    bad |= fclose(f) != 0;
    if (!bad) return qt_file_commit(part, file);
    int why = errno;
    unlink(part);
    return qt_fail(QT_EIO, "%s: cannot write: %s", file, strerror(why));
}

qt_err qt_stream_close(qt_err e, FILE *f, char **text)
{
    bool bad = ferror(f) != 0;
    bad |= fclose(f) != 0 || !*text;
    if (!bad) return e;
    free(*text), *text = NULL;
    return e != QT_OK ? e : qt_fail(QT_EMEM, "out of memory");
}

qt_err qt_folder_make(const char *dir)
{
    char        path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s", dir);
    for (char *s = path + 1;; s++) {
        char c = *s;
        if (c != '/' && c) continue;
        *s = 0;
        if (mkdir(path, 0777) && errno != EEXIST) return qt_fail(QT_EIO, "%s: cannot make the folder: %s", path, strerror(errno));
        *s = c;
        if (!c) break;
    }
    if (stat(path, &st) || !S_ISDIR(st.st_mode)) return qt_fail(QT_EIO, "%s: is not a folder", dir);
    return QT_OK;
}

qt_err qt_file_map(const char *file, qt_map *m)
{
    struct stat st;
    int         fd = open(file, O_RDONLY | O_CLOEXEC);
    *m = (qt_map){(const uint8_t *)"", 0};
    if (fd < 0) return qt_fail(QT_EIO, "%s: cannot read: %s", file, strerror(errno));
    bool ok = !fstat(fd, &st);
    if (ok && !S_ISREG(st.st_mode)) ok = false, errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
    if (ok && st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) ok = false;
        else *m = (qt_map){p, (size_t)st.st_size};
    }
    int why = errno;
    close(fd);
    return ok ? QT_OK : qt_fail(QT_EIO, "%s: cannot read: %s", file, strerror(why));
}

void qt_file_unmap(qt_map *m)
{
    if (m->n) munmap((void *)m->p, m->n);
    *m = (qt_map){NULL, 0};
}
