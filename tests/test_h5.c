/* HDF5: round trips, conversions, messages, equal bytes, full disks, and that damaged files end in a message. */
#include "base/h5.h"
#include "base/rng.h"
#include <dirent.h>
#include <errno.h>
#include <hdf5.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[] = "/tmp/qtape-h5-XXXXXX", file[64], other[64];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return -1;
    (void)snprintf(file, sizeof file, "%s/a.h5", dir), (void)snprintf(other, sizeof other, "%s/b.h5", dir);
    return 0;
}
static int remove_dir(void **state) { return (void)state, unlink(file), unlink(other), rmdir(dir); }
static int setup(void **state) { return (void)state, qt_error_clear(), 0; }

#define OK(call)                                        \
    do {                                                \
        if ((call) != QT_OK) fail_msg("%s", qt_error_text()); \
    } while (0)

static void says(const char *fmt, ...)
{
    char    want[2048];
    va_list ap;
    va_start(ap, fmt), (void)vsnprintf(want, sizeof want, fmt, ap), va_end(ap);
    assert_string_equal(qt_error_text(), want);
    qt_error_clear();
}

static const qt_real x[6] = {1, -2.5, 1e-30, 0, 5, 6};
static const int32_t ids[3] = {7, -1, 2147483647};

static void write_sample(const char *name)
{
    qt_h5 *f;
    OK(qt_h5_create(name, 0, &f));
    OK(qt_h5_write(f, "x", 2, (int64_t[]){2, 3}, x, true));
    OK(qt_h5_write(f, "params/fc1.weight", 1, (int64_t[]){6}, x, false));
    OK(qt_h5_write(f, "params/deep/er/s", 0, NULL, x + 1, false));
    OK(qt_h5_write_ids(f, "ids", 1, (int64_t[]){3}, ids));
    OK(qt_h5_write(f, "empty", 2, (int64_t[]){0, 4}, x, true));
    OK(qt_h5_put_str(f, "name", "m\xc3\xa4"));
    OK(qt_h5_put_int(f, "step", -5000000000));
    OK(qt_h5_put_real(f, "best", 0.1));
    OK(qt_h5_put_real(f, "best", 0.2)); /* replaces */
    OK(qt_h5_put_str(f, "none", ""));
    OK(qt_h5_close(f));
}

static void round_trip(void **state)
{
    qt_arena    a = {0};
    qt_h5      *f;
    int         rank;
    int64_t     dim[8], i;
    double      d;
    qt_real     y[6];
    int32_t     k[3];
    const char *s;
    (void)state;
    write_sample(file);
    OK(qt_h5_vet(file));
    OK(qt_h5_open(file, &f));
    OK(qt_h5_shape(f, "x", &rank, dim));
    assert_true(rank == 2 && dim[0] == 2 && dim[1] == 3);
    OK(qt_h5_read(f, "x", 6, y));
    for (int j = 0; j < 6; j++) assert_true((float)y[j] == (float)x[j]); /* stored as float32 */
    OK(qt_h5_read(f, "params/fc1.weight", 6, y));
    assert_memory_equal(x, y, sizeof x); /* stored as it is */
    OK(qt_h5_shape(f, "params/deep/er/s", &rank, dim));
    assert_int_equal(rank, 0);
    OK(qt_h5_read(f, "params/deep/er/s", 1, y));
    assert_true(y[0] == -2.5);
    OK(qt_h5_read_ids(f, "ids", 3, k));
    assert_memory_equal(ids, k, sizeof k);
    OK(qt_h5_read(f, "ids", 3, y));
    assert_true(y[0] == 7 && y[1] == -1);
    OK(qt_h5_read_rows(f, "x", 1, 1, y));
    assert_true(y[0] == 0 && y[1] == 5 && y[2] == 6);
    OK(qt_h5_read_rows(f, "x", 2, 0, y));
    OK(qt_h5_shape(f, "empty", &rank, dim));
    assert_true(rank == 2 && dim[0] == 0 && dim[1] == 4);
    OK(qt_h5_read(f, "empty", 0, y));
    assert_true(qt_h5_has(f, "x") && qt_h5_has(f, "params/fc1.weight") && !qt_h5_has(f, "params") && !qt_h5_has(f, "y") && !qt_h5_has(f, "y/z") &&
                !qt_h5_has(f, ""));
    OK(qt_h5_get_str(f, "name", &a, &s));
    assert_string_equal(s, "m\xc3\xa4");
    OK(qt_h5_get_str(f, "none", &a, &s));
    assert_string_equal(s, "");
    OK(qt_h5_get_int(f, "step", &i));
    assert_true(i == -5000000000);
    OK(qt_h5_get_real(f, "best", &d));
    assert_true(d == 0.2);
    OK(qt_h5_get_real(f, "step", &d));
    assert_true(d == -5e9);
    OK(qt_h5_close(f));
    OK(qt_h5_close(NULL));
    qt_arena_free(&a);
}

static qt_err collect(void *arg, const char *name, int rank, const int64_t *dim, const char *type)
{
    char *text = arg;
    (void)sprintf(text + strlen(text), "%s:%s", name, type);
    for (int i = 0; i < rank; i++) (void)sprintf(text + strlen(text), ",%d", (int)dim[i]);
    (void)strcat(text, " ");
    return strstr(name, "stop") ? QT_EDATA : QT_OK;
}

static void each(void **state)
{
    char   text[1000] = "";
    qt_h5 *f;
    (void)state;
    OK(qt_h5_create(file, 0, &f));
    for (int i = 3; i >= 0; i--) {
        char name[16];
        (void)snprintf(name, sizeof name, "%s%c", i % 2 ? "g/" : "", 'a' + i);
        OK(qt_h5_write(f, name, 1, (int64_t[]){2}, x, true));
    }
    OK(qt_h5_write_ids(f, "i", 0, NULL, ids));
    OK(qt_h5_close(f));
    OK(qt_h5_open(file, &f));
    OK(qt_h5_each(f, "", collect, text));
    assert_string_equal(text, "a:float32,2 c:float32,2 g/b:float32,2 g/d:float32,2 i:int32 ");
    *text = 0;
    OK(qt_h5_each(f, "g", collect, text));
    assert_string_equal(text, "g/b:float32,2 g/d:float32,2 ");
    assert_int_equal(qt_h5_each(f, "nogroup", collect, text), QT_EDATA);
    assert_non_null(strstr(qt_error_text(), "no group 'nogroup'"));
    OK(qt_h5_close(f));
    OK(qt_h5_create(file, 0, &f));
    OK(qt_h5_write(f, "a/stop", 1, (int64_t[]){2}, x, true));
    OK(qt_h5_write(f, "b", 1, (int64_t[]){2}, x, true));
    *text = 0;
    assert_int_equal(qt_h5_each(f, "", collect, text), QT_EDATA); /* also while writing */
    assert_string_equal(text, "a/stop:float32,2 ");
    OK(qt_h5_close(f));
}

static void messages(void **state)
{
    qt_arena    a = {0};
    qt_h5      *f;
    int         rank;
    int64_t     dim[8], i;
    qt_real     y[6];
    int32_t     k[6];
    const char *s;
    (void)state;
    write_sample(file);
    OK(qt_h5_open(file, &f));
    assert_int_equal(qt_h5_shape(f, "y", &rank, dim), QT_EDATA);
    says("%s: no data set 'y'; it holds empty, ids, params/deep/er/s, params/fc1.weight, x", file);
    assert_int_equal(qt_h5_read(f, "params", 6, y), QT_EDATA);
    says("%s: no data set 'params'; it holds empty, ids, params/deep/er/s, params/fc1.weight, x", file);
    assert_int_equal(qt_h5_read(f, "x", 5, y), QT_EDATA);
    says("%s: data set 'x' holds 6 numbers, expected 5", file);
    assert_int_equal(qt_h5_read_rows(f, "x", 1, 2, y), QT_EDATA);
    says("%s: data set 'x' has no rows 1 to 2", file);
    assert_int_equal(qt_h5_read_rows(f, "params/deep/er/s", 0, 1, y), QT_EDATA);
    says("%s: data set 'params/deep/er/s' has no rows 0 to 0", file);
    assert_int_equal(qt_h5_read_ids(f, "x", 6, k), QT_EDATA);
    says("%s: data set 'x': element 1 is -2.5, expected an integer", file);
    assert_int_equal(qt_h5_get_int(f, "absent", &i), QT_EDATA);
    says("%s: no attribute 'absent'", file);
    assert_int_equal(qt_h5_get_int(f, "best", &i), QT_EDATA);
    says("%s: attribute 'best': expected an integer", file);
    assert_int_equal(qt_h5_get_str(f, "step", &a, &s), QT_EDATA);
    says("%s: attribute 'step': expected a string", file);
    OK(qt_h5_close(f));
    assert_int_equal(qt_h5_open("/nonexistent/a.h5", &f), QT_EIO);
    says("/nonexistent/a.h5: cannot open: No such file or directory");
    assert_int_equal(qt_h5_vet("/nonexistent/a.h5"), QT_EIO);
    says("/nonexistent/a.h5: cannot open: No such file or directory");
    assert_int_equal(qt_h5_open("/tmp", &f), QT_EIO);
    says("/tmp: cannot open: not a file");
    assert_int_equal(qt_h5_create("/nonexistent/a.h5", 0, &f), QT_EIO);
    says("/nonexistent/a.h5: cannot create: No such file or directory");
    assert_null(f);
    OK(qt_h5_create(file, 0, &f));
    OK(qt_h5_write(f, "x", 1, (int64_t[]){6}, x, true));
    assert_int_equal(qt_h5_write(f, "x", 1, (int64_t[]){6}, x, true), QT_EIO);
    says("%s: data set 'x': cannot write: name already exists", file);
    assert_int_equal(qt_h5_write(f, "x/y", 1, (int64_t[]){6}, x, true), QT_EIO);
    assert_non_null(strstr(qt_error_text(), "data set 'x/y': cannot write: "));
    OK(qt_h5_close(f));
    OK(qt_h5_create(file, 0, &f));
    OK(qt_h5_close(f));
    OK(qt_h5_open(file, &f));
    qt_error_clear();
    assert_int_equal(qt_h5_shape(f, "x", &rank, dim), QT_EDATA);
    says("%s: no data set 'x'; it holds no data sets", file);
    OK(qt_h5_close(f));
    qt_arena_free(&a);
}

static char *contents(const char *name, size_t *n)
{
    FILE *f = fopen(name, "rb");
    char *p = malloc(1 << 20);
    *n = fread(p, 1, 1 << 20, f);
    fclose(f);
    return p;
}

static void equal_bytes(void **state)
{
    size_t n, m;
    char  *a, *b;
    (void)state;
    write_sample(file);
    sleep(1); /* a time stamp would differ */
    write_sample(other);
    a = contents(file, &n), b = contents(other, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a), free(b);
}

static void user_block(void **state)
{
    qt_h5  *f;
    size_t  n;
    char   *p;
    qt_real y[6];
    (void)state;
    OK(qt_h5_create(file, QT_H5_USERBLOCK, &f));
    OK(qt_h5_write(f, "x", 1, (int64_t[]){6}, x, false));
    OK(qt_h5_close(f));
    p = contents(file, &n);
    assert_memory_equal(p + QT_H5_USERBLOCK, "\x89HDF\r\n\x1a\n", 8);
    for (int i = 0; i < QT_H5_USERBLOCK; i++) assert_int_equal(p[i], 0);
    free(p);
    OK(qt_h5_vet(file));
    OK(qt_h5_open(file, &f));
    OK(qt_h5_read(f, "x", 6, y));
    assert_memory_equal(x, y, sizeof x);
    OK(qt_h5_close(f));
}

static void large(void **state)
{
    enum { N = 3 << 20 };
    qt_arena    a = {0};
    qt_real    *big = qt_alloc(N * sizeof *big), *back = qt_alloc(N * sizeof *back);
    char       *text = qt_alloc(300001);
    const char *s;
    qt_h5      *f;
    (void)state;
    for (int i = 0; i < N; i++) big[i] = (qt_real)i / 7;
    memset(text, 'a', 300000);
    OK(qt_h5_create(file, 0, &f));
    OK(qt_h5_write(f, "big", 3, (int64_t[]){3, 1 << 10, 1 << 10}, big, false));
    OK(qt_h5_write(f, "wide", 2, (int64_t[]){1, N}, big, false)); /* a row beyond one piece of the walk in double */
    OK(qt_h5_put_str(f, "text", text));
    OK(qt_h5_close(f));
    OK(qt_h5_vet(file));
    OK(qt_h5_open(file, &f));
    OK(qt_h5_read(f, "wide", N, back));
    assert_memory_equal(big, back, N * sizeof *big);
    OK(qt_h5_read_rows(f, "big", 2, 1, back));
    assert_memory_equal(big + (2 << 20), back, (1 << 20) * sizeof *big);
    OK(qt_h5_get_str(f, "text", &a, &s));
    assert_string_equal(s, text);
    OK(qt_h5_close(f));
    qt_free(big), qt_free(back), qt_free(text), qt_arena_free(&a);
}

static void full_disk(void **state)
{
    qt_h5 *f;
    (void)state;
    if (access("/dev/full", W_OK)) skip();
    OK(qt_h5_create("/dev/full", 0, &f));
    OK(qt_h5_write(f, "x", 1, (int64_t[]){6}, x, false));
    assert_int_equal(qt_h5_close(f), QT_EIO);
    says("/dev/full: cannot write: No space left on device");
}

/* ---- files from elsewhere ------------------------------------------------------------------------------------------------------ */

static void put_raw(hid_t f, const char *name, hid_t type, int n, const void *v)
{
    hid_t space = H5Screate_simple(1, (hsize_t[]){(hsize_t)n}, NULL), set = H5Dcreate2(f, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, v) >= 0);
    H5Dclose(set), H5Sclose(space);
}

static void other_types(void **state)
{
    static const uint8_t bytes[] = {0, 1, 255};
    static const int64_t wide[] = {1, 2, 3000000000};
    static const double  reals[] = {1, 2, -3};
    static const char    words[] = "ab\0cd\0ef";
    hid_t       f = H5Fcreate(file, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), string = H5Tcopy(H5T_C_S1), variable = H5Tcopy(H5T_C_S1), space, attr;
    const char *v = "text", *s;
    char        text[400] = "";
    qt_arena    a = {0};
    qt_real     y[3];
    int32_t     k[3];
    qt_h5      *h;
    (void)state;
    H5Tset_size(string, 3), H5Tset_size(variable, H5T_VARIABLE);
    put_raw(f, "bytes", H5T_NATIVE_UINT8, 3, bytes), put_raw(f, "wide", H5T_NATIVE_INT64, 3, wide),
        put_raw(f, "big_endian", H5T_IEEE_F64BE, 3, reals);
    put_raw(f, "words", string, 3, words), put_raw(f, "native", H5T_NATIVE_DOUBLE, 3, reals);
    space = H5Screate(H5S_SCALAR), attr = H5Acreate2(f, "variable", variable, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(attr, variable, &v) >= 0);
    H5Lcreate_soft("/bytes", f, "soft", H5P_DEFAULT, H5P_DEFAULT);
    H5Aclose(attr), H5Sclose(space), H5Tclose(string), H5Tclose(variable), H5Fclose(f);
    OK(qt_h5_vet(file));
    OK(qt_h5_open(file, &h));
    OK(qt_h5_each(h, "", collect, text));
    assert_string_equal(text, "big_endian:float64,3 bytes:uint8,3 native:float64,3 wide:int64,3 words:string,3 ");
    OK(qt_h5_read(h, "bytes", 3, y));
    assert_true(y[0] == 0 && y[2] == 255);
    OK(qt_h5_read_ids(h, "soft", 3, k));
    assert_int_equal(k[2], 255);
    OK(qt_h5_read_ids(h, "native", 3, k));
    assert_int_equal(k[2], -3);
    assert_int_equal(qt_h5_read_ids(h, "wide", 3, k), QT_EDATA);
    says("%s: data set 'wide': element 2 is 3e+09, expected an integer", file);
    assert_int_equal(qt_h5_read(h, "words", 3, y), QT_EDATA);
    says("%s: data set 'words' holds no numbers (its type is string)", file);
    OK(qt_h5_get_str(h, "variable", &a, &s));
    assert_string_equal(s, "text");
    OK(qt_h5_close(h));
    qt_arena_free(&a);
}

static hid_t group_for_many(hid_t f, int n)
{
    hid_t group = H5Gcreate2(f, "many", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    for (int i = 0; i < n; i++) {
        char name[80];
        snprintf(name, sizeof name, "a_name_of_some_length_that_stands_in_a_message_%03d", i);
        put_raw(group, name, H5T_STD_U8LE, 1, "x");
    }
    return group;
}

/* Shapes and types that HDF5 has and qtape does not read. */
static void other_shapes(void **state)
{
    hid_t   f = H5Fcreate(file, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), space, set, type;
    hsize_t ones[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    char    text[128], deep[1200];
    int     rank;
    int64_t dim[8];
    qt_real y;
    uint8_t b[3];
    qt_h5  *h;
    (void)state;
    space = H5Screate_simple(9, ones, NULL), set = H5Dcreate2(f, "nine", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dclose(set), H5Sclose(space);
    space = H5Screate(H5S_NULL), set = H5Dcreate2(f, "null", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dclose(set), H5Sclose(space);
    type = H5Tcreate(H5T_COMPOUND, 4), H5Tinsert(type, "re", 0, H5T_STD_I32LE);
    put_raw(f, "pair", type, 1, (int32_t[]){1});
    put_raw(f, "real", H5T_IEEE_F32LE, 3, (float[]){1, 2, 3}), put_raw(f, "signed", H5T_STD_I8LE, 3, "abc");
    H5Tclose(type), H5Gclose(group_for_many(f, 40)), H5Fclose(f);
    OK(qt_h5_vet(file));
    OK(qt_h5_open(file, &h));
    assert_int_equal(qt_h5_shape(h, "nine", &rank, dim), QT_EDATA);
    says("%s: data set 'nine' has 9 dimensions, at most 8 are read", file);
    assert_int_equal(qt_h5_read(h, "null", 1, &y), QT_EDATA);
    assert_non_null(strstr(qt_error_text(), "data set 'null': no shape"));
    qt_error_clear();
    assert_int_equal(qt_h5_read(h, "pair", 1, &y), QT_EDATA);
    snprintf(text, sizeof text, "data set 'pair' holds no numbers (its type is ");
    assert_non_null(strstr(qt_error_text(), text));
    qt_error_clear();
    assert_int_equal(qt_h5_read_bytes(h, "real", 3, b), QT_EDATA);
    says("%s: data set 'real' is of type float32, expected uint8", file);
    assert_int_equal(qt_h5_read_bytes(h, "signed", 3, b), QT_EDATA);
    says("%s: data set 'signed' is of type int8, expected uint8", file);
    assert_int_equal(qt_h5_read(h, "none", 1, &y), QT_EDATA); /* a list of all would be too long */
    assert_true(strlen(qt_error_text()) < 1200 && !strcmp(qt_error_text() + strlen(qt_error_text()) - 4, " ..."));
    qt_error_clear();
    OK(qt_h5_close(h));
    memset(deep, 'n', sizeof deep), deep[1100] = '/', deep[1101] = 'x', deep[1102] = 0;
    OK(qt_h5_create(file, 0, &h));
    assert_int_equal(qt_h5_write(h, deep, 1, (int64_t[]){1}, x, false), QT_EIO);
    assert_non_null(strstr(qt_error_text(), "the name of a data set is too long: nnnn"));
    qt_error_clear();
    OK(qt_h5_close(h));
}

static void refused(const char *reason)
{
    assert_int_equal(qt_h5_vet(file), QT_EDATA);
    says("%s: not a readable HDF5 file: %s", file, reason);
}

static void ways_out(void **state)
{
    hid_t f = H5Fcreate(file, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), group, plist, set, space;
    (void)state;
    H5Lcreate_external("/etc/x.h5", "/x", f, "out", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(f);
    refused("'out' is a link to another file");
    f = H5Fcreate(file, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), plist = H5Pcreate(H5P_DATASET_CREATE),
    space = H5Screate_simple(1, (hsize_t[]){8}, NULL);
    H5Pset_external(plist, "/etc/passwd", 0, 8);
    set = H5Dcreate2(f, "raw", H5T_NATIVE_INT8, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5Dclose(set), H5Sclose(space), H5Pclose(plist), H5Fclose(f);
    refused("'raw' keeps its data in another file");
    f = H5Fcreate(file, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), group = H5Gcreate2(f, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_hard(f, "/g", group, "self", H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(group), H5Fclose(f);
    refused("groups deeper than 64 levels");
    f = H5Fcreate(file, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), plist = H5Pcreate(H5P_DATASET_CREATE);
    space = H5Screate_simple(2, (hsize_t[]){1u << 31, 1u << 20}, NULL);
    H5Pset_chunk(plist, 2, (hsize_t[]){64, 64});
    set = H5Dcreate2(f, "huge", H5T_NATIVE_FLOAT, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5Dclose(set), H5Sclose(space), H5Pclose(plist), H5Fclose(f);
    refused("'huge': more elements than the file can hold");
    f = H5Fcreate(file, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), plist = H5Pcreate(H5P_DATASET_CREATE);
    space = H5Screate_simple(2, (hsize_t[]){(hsize_t)1 << 32, (hsize_t)1 << 32}, NULL); /* 2^64 wraps to 0 */
    H5Pset_chunk(plist, 2, (hsize_t[]){64, 64});
    set = H5Dcreate2(f, "wrapped", H5T_NATIVE_INT8, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    assert_true(set >= 0);
    H5Dclose(set), H5Sclose(space), H5Pclose(plist), H5Fclose(f);
    refused("'wrapped': more elements than the file can hold");
    f = H5Fcreate(file, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), plist = H5Pcreate(H5P_DATASET_CREATE);
    space = H5Screate_simple(1, (hsize_t[]){1 << 21}, NULL); /* allowed, for it was never written; but not again and again */
    H5Pset_chunk(plist, 1, (hsize_t[]){1 << 12});
    set = H5Dcreate2(f, "a", H5T_NATIVE_DOUBLE, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5Dclose(set), H5Fclose(f);
    OK(qt_h5_vet(file));
    f = H5Fopen(file, H5F_ACC_RDWR, H5P_DEFAULT);
    H5Lcreate_hard(f, "a", f, "b", H5P_DEFAULT, H5P_DEFAULT), H5Fclose(f);
    refused("'b': with the data sets before it more than the file can hold");
    f = H5Fcreate(file, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Pset_chunk(plist, 1, (hsize_t[]){64});
    set = H5Dcreate2(f, "a", H5T_NATIVE_DOUBLE, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5Dclose(set), H5Sclose(space), H5Pclose(plist), H5Fclose(f);
    refused("'a': 32768 chunks are more than the file can hold");
}

static void write_bytes(const char *p, size_t n)
{
    FILE *f = fopen(file, "wb");
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
}

/* A file as h5py writes it: the old format, without checksums. */
static void write_old(void)
{
    static const double reals[] = {1, 2, -3};
    hid_t f = H5Fcreate(file, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), group = H5Gcreate2(f, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    hid_t               plist = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(2, (hsize_t[]){30, 20}, NULL), set;
    float               grid[600];
    for (int i = 0; i < 600; i++) grid[i] = (float)i;
    put_raw(f, "y", H5T_NATIVE_DOUBLE, 3, reals), put_raw(group, "z", H5T_NATIVE_INT32, 3, ids);
    H5Pset_chunk(plist, 2, (hsize_t[]){10, 10}), H5Pset_deflate(plist, 6), H5Pset_shuffle(plist);
    set = H5Dcreate2(f, "x", H5T_NATIVE_FLOAT, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    assert_true(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, grid) >= 0);
    H5Dclose(set), H5Sclose(space), H5Pclose(plist), H5Gclose(group), H5Fclose(f);
}

/* What passes the walk can be read, or its checksum tells that it was changed. */
static qt_err read_it(void *f, const char *name, int rank, const int64_t *dim, const char *type)
{
    int64_t  n = 1;
    qt_real *y;
    for (int i = 0; i < rank; i++) n *= dim[i];
    OK((y = qt_alloc((size_t)n * sizeof *y)) ? QT_OK : QT_EMEM);
    if (strncmp(type, "string", 6) && strncmp(type, "other", 5) && qt_h5_read(f, name, n, y) != QT_OK) {
        assert_non_null(strstr(qt_error_text(), "' is damaged: its numbers do not have the checksum that stands beside them"));
        qt_error_clear();
    }
    qt_free(y);
    return QT_OK;
}

static void damage(int flips)
{
    size_t n;
    char  *p = contents(file, &n), *q = malloc(n);
    qt_rng r = qt_rng_named(1, "test/h5");
    qt_h5 *f;
    int    survived = 0;
    for (int i = 0; i < 30; i++) { /* cut anywhere */
        write_bytes(p, n * (size_t)i / 30);
        qt_error_clear();
        assert_int_equal(qt_h5_vet(file), QT_EDATA);
        assert_non_null(strstr(qt_error_text(), ": not a readable HDF5 file: "));
        assert_int_equal(qt_error_count(), 1);
        assert_int_equal(qt_h5_open(file, &f), QT_EDATA); /* the length stands in the head */
    }
    for (int i = 0; i < 150; i++) {
        memcpy(q, p, n);
        for (int k = 0; k < flips; k++) q[qt_rng_below(&r, n)] = (char)qt_rng_below(&r, 256);
        write_bytes(q, n);
        qt_error_clear();
        if (qt_h5_vet(file)) {
            assert_int_equal(qt_error_count(), 1);
            continue;
        }
        survived++;
        OK(qt_h5_open(file, &f));
        OK(qt_h5_each(f, "", read_it, f));
        OK(qt_h5_close(f));
    }
    assert_true(survived > 0 && survived < 150);
    free(p), free(q);
}

static void damaged(void **state)
{
    (void)state;
    write_sample(file);
    damage(3);
    write_old();
    OK(qt_h5_vet(file));
    damage(10);
    write_bytes("not HDF5 at all", 15);
    qt_error_clear();
    refused("'/': cannot open: file signature not found");
}

/* Files in /dev/shm by which OpenMP knows processes that are no more. */
static int forgotten(void)
{
    DIR           *d = opendir("/dev/shm");
    struct dirent *e;
    int            pid, n = 0;
    if (!d) return 0;
    while ((e = readdir(d))) n += sscanf(e->d_name, "__KMP_REGISTERED_LIB_%d", &pid) == 1 && kill(pid, 0) && errno == ESRCH;
    closedir(d);
    return n;
}

static void child_signs_off(void **state)
{
    (void)state;
    assert_true(qt_threads() > 0); /* OpenMP has started */
    write_sample(file);
    const int before = forgotten();
    for (int i = 0; i < 100; i++) OK(qt_h5_vet(file));
    assert_true(forgotten() < before + 50); /* other programs may be killed meanwhile, but not so many */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, setup)
        T(round_trip), T(each), T(messages), T(equal_bytes), T(user_block), T(large), T(full_disk), T(other_types), T(other_shapes), T(ways_out), T(damaged), T(child_signs_off),
    };
    return cmocka_run_group_tests_name("h5", tests, make_dir, remove_dir);
}
