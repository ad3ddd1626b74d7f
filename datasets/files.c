/* Reading plain or gzip files, finding and fetching packages: see files.h. */
#include "files.h"
#include "base/files.h"
#include "dataset.h"
#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

enum { CHUNK = 1 << 18 };

static qt_err open_gz(const char *file, gzFile *f)
{
    if (qt_is_folder(file)) QT_FAIL(QT_EIO, "%s: is a folder, expected a file", file);
    *f = gzopen(file, "rb");
    QT_CHECK(*f, QT_EIO, "%s: %s", file, errno ? strerror(errno) : "out of memory");
    gzbuffer(*f, CHUNK);
    return QT_OK;
}

/* Message for a read that failed. */
static qt_err damaged(const char *file, gzFile f)
{
    int         code;
    const char *text = gzerror(f, &code);
    if (code == Z_ERRNO) return qt_fail(QT_EIO, "%s: %s", file, strerror(errno));
    if (code == Z_BUF_ERROR) return qt_fail(QT_EDATA, "%s: truncated: the gzip stream ends too early", file);
    return qt_fail(QT_EDATA, "%s: damaged gzip file: %s", file, text);
}

static qt_err read_all(const char *file, gzFile f, size_t max, char **bytes, size_t *n)
{
    int cap = 0, got;
    for (;;) {
        QT_CHECK(*n <= max, QT_EDATA, "%s: more than %zu MB unpacked", file, max >> 20);
        QT_TRY(qt_grow(bytes, &cap, (int)*n + CHUNK + 1, 1));
        got = gzread(f, *bytes + *n, CHUNK);
        if (got < 0) return damaged(file, f);
        if (got == 0) break;
        *n += (size_t)got;
    }
    (*bytes)[*n] = 0;
    return QT_OK;
}

qt_err qt_unpacked_read(const char *file, size_t max, char **bytes, size_t *n)
{
    gzFile f;
    qt_err e;
    QT_ASSERT(max <= (size_t)1 << 29);
    *bytes = NULL, *n = 0;
    QT_TRY(open_gz(file, &f));
    e = read_all(file, f, max, bytes, n);
    if (gzclose_r(f) != Z_OK && e == QT_OK) e = qt_fail(QT_EDATA, "%s: truncated: the gzip stream ends too early", file);
    if (e != QT_OK) {
        qt_free(*bytes);
        *bytes = NULL;
    }
    return e;
}

qt_err qt_unpacked_crc(const char *file, uint32_t *crc)
{
    gzFile f;
    int    got;
    qt_err e   = QT_OK;
    Bytef *buf = qt_alloc(CHUNK);
    uLong  sum = crc32(0, NULL, 0);
    if (!buf) return QT_EMEM;
    if ((e = open_gz(file, &f)) == QT_OK) {
        while ((got = gzread(f, buf, CHUNK)) > 0) sum = crc32(sum, buf, (uInt)got);
        if (got < 0) e = damaged(file, f);
        if (gzclose_r(f) != Z_OK && e == QT_OK) e = qt_fail(QT_EDATA, "%s: truncated: the gzip stream ends too early", file);
    }
    qt_free(buf);
    *crc = (uint32_t)sum;
    return e;
}

const char *qt_data_dir(qt_arena *a)
{
    const char *dir = getenv("QTAPE_DATA"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (dir && *dir) return qt_arena_strdup(a, dir);
    if (cache && *cache) return qt_arena_sprintf(a, "%s/qtape", cache);
    return qt_arena_sprintf(a, "%s/.cache/qtape", home && *home ? home : ".");
}

bool qt_is_file(const char *file)
{
    struct stat st;
    return stat(file, &st) == 0 && S_ISREG(st.st_mode);
}

bool qt_is_folder(const char *folder)
{
    struct stat st;
    return stat(folder, &st) == 0 && S_ISDIR(st.st_mode);
}

extern char **environ;

qt_err qt_run_program(const char *folder, const char *const argv[])
{
    posix_spawn_file_actions_t act;
    pid_t                      pid;
    int                        status = 0, e;
    char                       line[512] = "";
    QT_ASSERT(argv[0]);
    for (int i = 0; argv[i]; i++) snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", i ? " " : "", argv[i]);
    QT_CHECK(posix_spawn_file_actions_init(&act) == 0, QT_EMEM, "out of memory");
    posix_spawn_file_actions_adddup2(&act, STDERR_FILENO, STDOUT_FILENO);
    if (folder) posix_spawn_file_actions_addchdir_np(&act, folder);
    e = posix_spawnp(&pid, argv[0], &act, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&act);
    QT_CHECK(e == 0, QT_EIO, "cannot run '%s': %s", line, strerror(e));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) QT_FAIL(QT_EIO, "'%s': %s", line, strerror(errno));
    QT_CHECK(WIFEXITED(status), QT_EIO, "'%s' was killed by signal %d", line, WTERMSIG(status));
    QT_CHECK(WEXITSTATUS(status) == 0, QT_EIO, "'%s' failed with exit code %d", line, WEXITSTATUS(status));
    return QT_OK;
}

qt_err qt_in_fetch_folder(const char *name, qt_err (*unpack)(const char *folder, const void *arg), const void *arg)
{
    qt_arena    a      = {0};
    const char *folder = qt_arena_sprintf(&a, "%s/.fetch-%s-%d", qt_data_dir(&a), name, (int)getpid()), *const clean[] = {"rm", "-rf", folder, NULL};
    qt_err      e      = folder ? qt_folder_make(folder) : QT_EMEM;
    if (e == QT_OK) {
        e = unpack(folder, arg);
        qt_run_program(NULL, clean);
    }
    qt_arena_free(&a);
    return e;
}

enum { MAX_WORDS = 16 };

/* The words, and behind them the packages. */
static void command(const char *argv[MAX_WORDS], const char *const word[], const char *const package[])
{
    int n = 0;
    for (int i = 0; word[i]; i++) argv[n++] = word[i];
    for (int i = 0; package[i]; i++) argv[n++] = package[i];
    QT_ASSERT(n < MAX_WORDS);
    argv[n] = NULL;
}

/* A machine without package lists needs `update` before `install` finds anything. */
qt_err qt_apt_install(const char *const package[])
{
    static const char *const install[] = {"apt-get", "install", "-y", "--no-install-recommends", NULL}, *const update[] = {"apt-get", "update", NULL};
    const char              *argv[MAX_WORDS];
    command(argv, install, package);
    setenv("DEBIAN_FRONTEND", "noninteractive", 0);
    if (qt_run_program(NULL, argv) == QT_OK) return QT_OK;
    qt_error_clear();
    QT_TRY(qt_run_program(NULL, update));
    return qt_run_program(NULL, argv);
}

qt_err qt_apt_unpack(const char *folder, const char *const package[])
{
    static const char *const download[] = {"apt-get", "download", NULL};
    static const char *const extract[] = {"sh", "-c", "for f in *.deb; do dpkg-deb -x \"$f\" . || exit; done", NULL};
    const char              *argv[MAX_WORDS];
    command(argv, download, package);
    QT_TRY(qt_run_program(folder, argv));
    return qt_run_program(folder, extract);
}

bool qt_has_program(const char *name)
{
    const char *path = getenv("PATH");
    char        file[4096];
    for (size_t n; path && *path; path += n + (path[n] == ':')) {
        n = strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s/%s", (int)n, path, name);
        if (qt_is_file(file) && access(file, X_OK) == 0) return true;
    }
    return false;
}

qt_err qt_fits_memory(const char *file, double bytes)
{
    double have = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    QT_CHECK(bytes <= 0.75 * have, QT_EDATA, "%s: holds %.3g GB of numbers; this machine has %.3g GB of memory", file, bytes / 1e9, have / 1e9);
    return QT_OK;
}
