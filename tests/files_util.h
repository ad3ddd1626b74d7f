/* What the tests of file formats share: a folder of their own, whole files as bytes, and messages. */
#ifndef QT_TESTS_FILES_UTIL_H
#define QT_TESTS_FILES_UTIL_H
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/qtape-file-XXXXXX", file[64];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return -1;
    (void)snprintf(file, sizeof file, "%s/a", dir);
    return 0;
}
static int remove_dir(void **state) { return (void)state, unlink(file), rmdir(dir); }
static int setup(void **state) { return (void)state, qt_error_clear(), 0; }

#define OK(call)                                              \
    do {                                                      \
        if ((call) != QT_OK) fail_msg("%s", qt_error_text()); \
    } while (0)

/* The one message is "FILE: ..." with the file's name in front. */
static inline void says(const char *want)
{
    const char *text = qt_error_text();
    size_t      n = strlen(file);
    assert_int_equal(qt_error_count(), 1);
    if (strncmp(text, file, n) || strncmp(text + n, ": ", 2) || strcmp(text + n + 2, want)) fail_msg("said '%s', expected '%s'", text, want);
    qt_error_clear();
}

/* Files of at most n bytes from now on, as on a disk that is full; 0: of any size again. */
static inline void file_limit(rlim_t n)
{
    struct rlimit r;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
    r.rlim_cur = n ? n : r.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

static inline void put_file(const void *p, size_t n)
{
    FILE *f = fopen(file, "wb");
    assert_true(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

static inline size_t get_file(uint8_t *p, size_t most)
{
    FILE  *f = fopen(file, "rb");
    size_t n = fread(p, 1, most, f);
    assert_true(n < most && fclose(f) == 0);
    return n;
}

/* Each file that p can be damaged to: cut at every length, then with every bit turned. `look` opens `file`, which is one in memory
 * meanwhile, and walks all of it; if it cannot, there is one message that begins with the file's name. Says how many were refused. */
static inline int damage_all(const uint8_t *p, size_t n, qt_err (*look)(void))
{
    char keep[sizeof file];
    int  refused = 0, fd = memfd_create("damaged", 0);
    memcpy(keep, file, sizeof file), (void)snprintf(file, sizeof file, "/proc/self/fd/%d", fd);
    for (size_t i = 0; i < n + 8 * n; i++) {
        uint8_t turned = i < n ? 0 : p[(i - n) / 8] ^ (uint8_t)(1 << (i - n) % 8);
        assert_true(ftruncate(fd, (off_t)(i < n ? i : n)) == 0 && pwrite(fd, p, i < n ? i : n, 0) >= 0);
        if (i >= n) assert_true(pwrite(fd, &turned, 1, (off_t)((i - n) / 8)) == 1);
        qt_err e = look();
        if (e) assert_true(e == QT_EDATA && qt_error_count() == 1 && !strncmp(qt_error_text(), file, strlen(file)));
        qt_error_clear();
        refused += e != QT_OK;
    }
    memcpy(file, keep, sizeof file), close(fd);
    return refused;
}
#endif
