/* What the tests of recipes, runs and claims share: a folder of their own under /tmp, files in it, and errors compared to the letter. */
#ifndef TRAIN_UTIL_H
#define TRAIN_UTIL_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "train/train.h"

static char *home;

static inline int enter_folder(void **state)
{
    static char dir[] = "/tmp/qtape-test-XXXXXX";
    (void)state;
    home = getcwd(NULL, 0);
    return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static inline int leave_folder(void **state)
{
    char  cmd[128];
    char *here = getcwd(NULL, 0);
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", here);
    if (chdir(home) || system(cmd)) return -1;
    free(here), free(home);
    return 0;
}

static inline void put_file(const char *name, const char *text)
{
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* The errors since the last call must be these, line for line. */
static inline void assert_errors(const char *want)
{
    assert_string_equal(qt_error_text(), want);
    qt_error_clear();
}

static inline void assert_ok(qt_err e)
{
    if (e != QT_OK) print_error("%s\n", qt_error_text());
    assert_int_equal(e, QT_OK);
}
#endif
