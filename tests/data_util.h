/* Shared by the tests of data sets: a scratch folder, files in it, and data sections read from YAML. */
#ifndef QT_TESTS_DATA_UTIL_H
#define QT_TESTS_DATA_UTIL_H
#include "base/err.h"
#include "dataset.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <cmocka.h>

#define UNUSED __attribute__((unused))

static char     scratch[64]; /* folder of this test program, removed at its end */
static qt_arena arena;

UNUSED static int make_scratch(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "%s/qtape-test-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    return mkdtemp(scratch) ? 0 : -1;
}

UNUSED static int remove_scratch(void **state)
{
    char command[128];
    (void)state;
    qt_arena_free(&arena);
    qt_error_clear();
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    return system(command);
}

/* Path of a file or folder in the scratch folder. */
UNUSED static char *path_of(const char *name) { return qt_arena_sprintf(&arena, "%s/%s", scratch, name); }

UNUSED static char *folder(const char *name)
{
    assert_int_equal(mkdir(path_of(name), 0700), 0);
    return path_of(name);
}

UNUSED static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

UNUSED static size_t read_file(const char *path, uint8_t **bytes)
{
    FILE  *f = fopen(path, "rb");
    size_t n;
    assert_non_null(f);
    fseek(f, 0, SEEK_END), n = (size_t)ftell(f), rewind(f);
    *bytes = qt_alloc(n);
    assert_int_equal(fread(*bytes, 1, n, f), n);
    fclose(f);
    return n;
}

/* Reads a section, "{use: digits}" with %s filled in. */
UNUSED static qt_err read_section(qt_data **d, const char *fmt, ...) QT_PRINTF(2, 3);
static qt_err        read_section(qt_data **d, const char *fmt, ...)
{
    char     text[2048];
    va_list  ap;
    qt_yaml *y;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    qt_error_clear();
    assert_int_equal(qt_yaml_parse(&arena, text, strlen(text), "r.yaml", &y), QT_OK);
    return qt_data_read(&arena, y, d);
}

UNUSED static void expect(qt_err got, qt_err want, const char *text)
{
    if (got != want || !strstr(qt_error_text(), text)) fail_msg("error %d, expected %d with '%s'; messages: %s", got, want, text, qt_error_text());
    qt_error_clear();
}

UNUSED static void expect_ok(qt_err got)
{
    if (got != QT_OK) fail_msg("error %d: %s", got, qt_error_text());
}

/* Section that opens. */
#define OPEN(d, ...)                                \
    do {                                            \
        expect_ok(read_section(&(d), __VA_ARGS__)); \
        expect_ok(qt_data_open(d, 1));              \
    } while (0)
/* Section that reads and then fails to open with that code and text. */
#define OPEN_FAILS(code, text, ...)                 \
    do {                                            \
        qt_data *d_;                                \
        expect_ok(read_section(&d_, __VA_ARGS__));  \
        expect(qt_data_open(d_, 1), code, text);    \
    } while (0)
/* Section that does not read. */
#define READ_FAILS(text, ...)                                         \
    do {                                                              \
        qt_data *d_;                                                  \
        expect(read_section(&d_, __VA_ARGS__), QT_ERECIPE, text);     \
    } while (0)
#endif
