/* Files that are whole or not there: what is written, what is left when writing fails, folders, and files as memory. */
#include "base/files.h"
#include "files_util.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static char part[80], below[80];

static int make_names(void **state)
{
    if (make_dir(state)) return -1;
    snprintf(part, sizeof part, "%s.part", file), snprintf(below, sizeof below, "%s/b", file);
    return 0;
}

static void assert_holds(const char *want)
{
    uint8_t p[64];
    size_t  n = get_file(p, sizeof p);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(p, want, n);
    assert_false(qt_file_exists(part));
}

static void test_write(void **state)
{
    qt_arena a = {0};
    char    *text;
    size_t   n;
    (void)state;
    OK(qt_file_write(file, "first", 5));
    assert_holds("first");
    OK(qt_file_write(file, "2", 1));
    assert_holds("2");
    OK(qt_file_read(&a, file, &text, &n));
    assert_true(n == 1 && !strcmp(text, "2"));
    OK(qt_file_write(file, "", 0));
    OK(qt_file_read(&a, file, &text, &n));
    assert_true(n == 0 && !*text);
    qt_arena_free(&a);
}

/* The file of before stays as it was, and no temporary one beside it. */
static void test_write_fails(void **state)
{
    char big[1000] = {0}, deep[4200];
    (void)state;
    OK(qt_file_write(file, "old", 3));
    file_limit(100);
    qt_err e = qt_file_write(file, big, sizeof big);
    file_limit(0);
    assert_int_equal(e, QT_EIO);
    says("cannot write: File too large");
    assert_holds("old");
    assert_int_equal(qt_file_write(below, "x", 1), QT_EIO);
    assert_non_null(strstr(qt_error_text(), "/a/b: cannot write: Not a directory"));
    qt_error_clear();
    assert_int_equal(qt_file_commit(part, file), QT_EIO); /* there is none to commit */
    says("cannot write: No such file or directory");
    assert_holds("old");
    memset(deep, '/', sizeof deep), deep[4094] = 'a', deep[4095] = 0; /* ".part" would be cut off, and the name be the file's own */
    assert_int_equal(qt_file_write(deep, "x", 1), QT_EIO);
    qt_error_clear();
    unlink(file);
    assert_int_equal(mkdir(file, 0700), 0);
    assert_int_equal(qt_file_write(file, "x", 1), QT_EIO);
    says("cannot write: Is a directory");
    assert_false(qt_file_exists(part));
    assert_int_equal(rmdir(file), 0);
}

static void test_folders(void **state)
{
    char nested[128];
    (void)state;
    snprintf(nested, sizeof nested, "%s/b/c//d/", file);
    OK(qt_folder_make(nested));
    OK(qt_folder_make(nested)); /* is there already */
    for (char *s; strlen(nested) > strlen(dir); *s = 0) {
        s = strrchr(nested, '/');
        if (s[1]) assert_int_equal(rmdir(nested), 0);
    }
    OK(qt_file_write(file, "x", 1));
    assert_int_equal(qt_folder_make(file), QT_EIO);
    says("is not a folder");
    assert_int_equal(qt_folder_make(below), QT_EIO);
    assert_non_null(strstr(qt_error_text(), "/a/b: cannot make the folder: Not a directory"));
    qt_error_clear();
    unlink(file);
}

static void test_map(void **state)
{
    qt_map m;
    (void)state;
    OK(qt_file_write(file, "bytes", 5));
    OK(qt_file_map(file, &m));
    assert_true(m.n == 5 && !memcmp(m.p, "bytes", 5));
    qt_file_unmap(&m);
    assert_true(!m.p && !m.n);
    qt_file_unmap(&m);
    OK(qt_file_write(file, "", 0));
    OK(qt_file_map(file, &m));
    assert_true(m.p && !m.n);
    qt_file_unmap(&m);
    unlink(file);
    assert_int_equal(qt_file_map(file, &m), QT_EIO);
    says("cannot read: No such file or directory");
    assert_int_equal(mkdir(file, 0700), 0);
    assert_int_equal(qt_file_map(file, &m), QT_EIO);
    says("cannot read: Is a directory");
    qt_arena a = {0};
    char    *text;
    size_t   n;
    assert_int_equal(qt_file_read(&a, file, &text, &n), QT_EIO);
    says("cannot read: Is a directory");
    assert_int_equal(rmdir(file), 0);
    qt_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, setup)
        T(test_write), T(test_write_fails), T(test_folders), T(test_map),
    };
    return cmocka_run_group_tests_name("files", tests, make_names, remove_dir);
}
