/* HDF5. What is written is built in memory by libhdf5's core driver and goes to disk in one piece at close: a full disk is an errno of
 * write(2), not a broken library state, and equal contents give equal bytes (no time stamps, no uninitialised gaps).
 * Data sets are found by path; soft and external links are not listed. Errors carry the innermost line of HDF5's error stack.
 * Left out: compression and chunks when writing, strings and compound types when reading. */
#include "base/h5.h"
#include "base/par.h"
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#ifdef QT_DOUBLE
#define NATIVE_REAL H5T_NATIVE_DOUBLE
#define STORED_REAL H5T_IEEE_F64LE
#else
#define NATIVE_REAL H5T_NATIVE_FLOAT
#define STORED_REAL H5T_IEEE_F32LE
#endif

enum { RANK_MAX = 8, DEPTH_MAX = 32, VISITS_MAX = 100000, GROWTH = 4 << 20 };

struct qt_h5 {
    hid_t  id;
    char  *name;
    int    fd; /* where the image goes at close; -1: read-only */
    size_t userblock;
};

/* ---- errors ------------------------------------------------------------------------------------------------------------------ */

/* The library must not print (the switch is one a thread), nor load filters as plug-ins that a file names. */
static void quiet(void) { H5Eset_auto2(H5E_DEFAULT, NULL, NULL), H5PLset_loading_state(0); }

static herr_t innermost(unsigned n, const H5E_error2_t *e, void *text)
{
    if (n == 0) snprintf(text, 256, "%s", e->desc ? e->desc : "unknown error");
    return 0;
}

/* Why the last call failed. To be asked at once: the next call empties the stack. */
static const char *why(char text[256])
{
    snprintf(text, 256, "unknown error");
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, text);
    H5Eclear2(H5E_DEFAULT);
    return text;
}

static qt_err fail_set(qt_err code, const qt_h5 *f, const char *name, const char *what)
{
    char text[256];
    return qt_fail(code, "%s: data set '%s': %s: %s", f->name, name, what, why(text));
}

/* ---- files ------------------------------------------------------------------------------------------------------------------- */

static qt_err new_handle(const char *file, int fd, qt_h5 **out)
{
    *out = qt_alloc(sizeof **out);
    if (*out) (*out)->id = -1, (*out)->fd = fd, (*out)->name = qt_strdup(file);
    if (*out && (*out)->name) return QT_OK;
    qt_free(*out), *out = NULL;
    return QT_EMEM;
}

static void free_handle(qt_h5 *f)
{
    if (f->fd >= 0) close(f->fd);
    qt_free(f->name);
    qt_free(f);
}

qt_err qt_h5_open(const char *file, qt_h5 **out)
{
    int         fd = open(file, O_RDONLY | O_CLOEXEC);
    struct stat st;
    hid_t       fapl;
    char        text[256];
    qt_err      e = QT_OK;
    quiet();
    *out = NULL;
    if (fd < 0) return qt_fail(QT_EIO, "%s: cannot open: %s", file, strerror(errno));
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) return close(fd), qt_fail(QT_EIO, "%s: cannot open: not a file", file);
    close(fd);
    QT_TRY(new_handle(file, -1, out));
    fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(fapl, false, true); /* a read-only file system has no locks */
    (*out)->id = H5Fopen(file, H5F_ACC_RDONLY, fapl);
    if ((*out)->id < 0) {
        e = qt_fail(QT_EDATA, "%s: not a readable HDF5 file: %s", file, why(text));
        free_handle(*out), *out = NULL;
    }
    H5Pclose(fapl);
    return e;
}

qt_err qt_h5_create(const char *file, size_t userblock, qt_h5 **out)
{
    int    fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    hid_t  fapl, fcpl;
    char   text[256];
    qt_err e = QT_OK;
    quiet();
    *out = NULL;
    if (fd < 0) return qt_fail(QT_EIO, "%s: cannot create: %s", file, strerror(errno));
    if (new_handle(file, fd, out)) return close(fd), QT_EMEM;
    fapl = H5Pcreate(H5P_FILE_ACCESS), fcpl = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_fapl_core(fapl, GROWTH, false);
    H5Pset_libver_bounds(fapl, H5F_LIBVER_V18, H5F_LIBVER_LATEST); /* attributes longer than 64 KiB */
    H5Pset_userblock(fcpl, (*out)->userblock = userblock);
    H5Pset_obj_track_times(fcpl, false);
    (*out)->id = H5Fcreate(file, H5F_ACC_TRUNC, fcpl, fapl);
    if ((*out)->id < 0) {
        e = qt_fail(QT_EIO, "%s: cannot create: %s", file, why(text));
        free_handle(*out), *out = NULL;
    }
    H5Pclose(fapl), H5Pclose(fcpl);
    return e;
}

/* The core driver's own memory after a flush is the file, user block and all. (H5Fget_file_image of 1.10 spoils a checksum and leaves
 * the user block out: here it only tells the size.) */
static qt_err write_image(const qt_h5 *f)
{
    char    text[256], **image = NULL;
    ssize_t size = -1, got;
    size_t  n, at = 0;
    if (H5Fflush(f->id, H5F_SCOPE_GLOBAL) < 0 || (size = H5Fget_file_image(f->id, NULL, 0)) < 0 ||
        H5Fget_vfd_handle(f->id, H5P_DEFAULT, (void **)&image) < 0)
        return qt_fail(QT_EIO, "%s: cannot write: %s", f->name, why(text));
    n = (size_t)size + f->userblock;
    for (; at < n; at += got > 0 ? (size_t)got : 0)
        if ((got = write(f->fd, *image + at, n - at)) < 0 && errno != EINTR) return qt_fail(QT_EIO, "%s: cannot write: %s", f->name, strerror(errno));
    return QT_OK;
}

qt_err qt_h5_close(qt_h5 *f)
{
    qt_err e = QT_OK;
    if (!f) return QT_OK;
    quiet();
    if (f->fd >= 0) {
        e = write_image(f);
        if (close(f->fd) && !e) e = qt_fail(QT_EIO, "%s: cannot write: %s", f->name, strerror(errno));
        f->fd = -1;
    }
    H5Fclose(f->id);
    free_handle(f);
    return e;
}

/* ---- what a file holds ------------------------------------------------------------------------------------------------------- */

typedef struct listing {
    qt_arena arena;
    char   **name;
    int      n, cap, depth, visits;
    char     path[1024];
    qt_err   err;
} listing;

static herr_t list_link(hid_t group, const char *name, const H5L_info_t *info, void *arg)
{
    listing *l = arg;
    size_t   n = strlen(l->path);
    hid_t    object;
    if (info->type != H5L_TYPE_HARD || ++l->visits > VISITS_MAX || (object = H5Oopen(group, name, H5P_DEFAULT)) < 0) return 0;
    snprintf(l->path + n, sizeof l->path - n, "%s%s", n ? "/" : "", name);
    if (H5Iget_type(object) == H5I_DATASET) {
        if (!(l->err = qt_grow(&l->name, &l->cap, l->n + 1, sizeof *l->name)) && !(l->name[l->n++] = qt_arena_strdup(&l->arena, l->path)))
            l->err = QT_EMEM;
    } else if (H5Iget_type(object) == H5I_GROUP && l->depth < DEPTH_MAX) {
        l->depth++;
        H5Literate(object, H5_INDEX_NAME, H5_ITER_INC, NULL, list_link, l);
        l->depth--;
    }
    H5Oclose(object);
    l->path[n] = 0;
    return l->err ? -1 : 0;
}

/* The paths of all data sets below a group, each group's in the order of their names. */
static qt_err list_sets(const qt_h5 *f, const char *group, listing *l)
{
    hid_t  g = H5Gopen2(f->id, *group ? group : "/", H5P_DEFAULT);
    herr_t status;
    char   text[256];
    if (g < 0) return qt_fail(QT_EDATA, "%s: no group '%s': %s", f->name, group, why(text));
    snprintf(l->path, sizeof l->path, "%s", group);
    status = H5Literate(g, H5_INDEX_NAME, H5_ITER_INC, NULL, list_link, l);
    if (status < 0 && !l->err) l->err = qt_fail(QT_EDATA, "%s: cannot list group '%s': %s", f->name, group, why(text));
    H5Gclose(g);
    return l->err;
}

static void free_listing(listing *l)
{
    qt_free(l->name);
    qt_arena_free(&l->arena);
}

static qt_err fail_absent(const qt_h5 *f, const char *name)
{
    listing l = {0};
    char    text[1024] = "no data sets";
    int     at = 0;
    H5Eclear2(H5E_DEFAULT);
    if (list_sets(f, "", &l)) return free_listing(&l), QT_EDATA;
    for (int i = 0; i < l.n && at < 900; i++) at += snprintf(text + at, sizeof text - (size_t)at, "%s%.80s", i ? ", " : "", l.name[i]);
    if (at >= 900) snprintf(text + at, sizeof text - (size_t)at, " ...");
    free_listing(&l);
    return qt_fail(QT_EDATA, "%s: no data set '%s'; it holds %s", f->name, name, text);
}

static qt_err open_set(const qt_h5 *f, const char *name, hid_t *set)
{
    quiet();
    *set = *name ? H5Dopen2(f->id, name, H5P_DEFAULT) : -1;
    return *set < 0 ? fail_absent(f, name) : QT_OK;
}

bool qt_h5_has(qt_h5 *f, const char *name)
{
    hid_t set;
    quiet();
    set = H5Dopen2(f->id, name, H5P_DEFAULT);
    if (set >= 0) H5Dclose(set);
    H5Eclear2(H5E_DEFAULT);
    return set >= 0;
}

static qt_err shape_of(const qt_h5 *f, const char *name, hid_t set, int *rank, int64_t dim[8])
{
    hid_t   space = H5Dget_space(set);
    hsize_t d[H5S_MAX_RANK];
    *rank = space < 0 || H5Sget_simple_extent_type(space) == H5S_NULL ? -1 : H5Sget_simple_extent_dims(space, d, NULL);
    if (space >= 0) H5Sclose(space);
    if (*rank < 0) return fail_set(QT_EDATA, f, name, "no shape");
    QT_CHECK(*rank <= RANK_MAX, QT_EDATA, "%s: data set '%s' has %d dimensions, at most %d are read", f->name, name, *rank, RANK_MAX);
    int64_t n = 1;
    for (int i = 0; i < *rank; i++) {
        dim[i] = (int64_t)d[i];
        QT_CHECK(d[i] <= INT64_MAX / 8 && (n == 0 || dim[i] <= INT64_MAX / 8 / n), QT_EDATA, "%s: data set '%s' has a shape that is too large", f->name, name);
        n *= dim[i];
    }
    return QT_OK;
}

qt_err qt_h5_shape(qt_h5 *f, const char *name, int *rank, int64_t dim[8])
{
    hid_t  set;
    qt_err e;
    QT_TRY(open_set(f, name, &set));
    e = shape_of(f, name, set, rank, dim);
    H5Dclose(set);
    return e;
}

/* "float32", "int8", "uint64", "string", "other" */
static const char *type_name(hid_t set, char text[24])
{
    hid_t       type = H5Dget_type(set);
    H5T_class_t c = H5Tget_class(type);
    int         bits = (int)(8 * H5Tget_size(type));
    if (c == H5T_FLOAT) snprintf(text, 24, "float%d", bits);
    else if (c == H5T_INTEGER) snprintf(text, 24, "%sint%d", H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "", bits);
    else snprintf(text, 24, "%s", c == H5T_STRING ? "string" : "other");
    H5Tclose(type);
    return text;
}

qt_err qt_h5_each(qt_h5 *f, const char *group, qt_err (*each)(void *arg, const char *name, int rank, const int64_t *dim, const char *type), void *arg)
{
    listing l = {0};
    int64_t dim[RANK_MAX] = {0};
    hid_t   set;
    qt_err  e;
    int     rank;
    char    text[24] = "other";
    quiet();
    e = list_sets(f, group, &l);
    for (int i = 0; i < l.n && !e; i++) {
        if ((e = open_set(f, l.name[i], &set))) break;
        e = shape_of(f, l.name[i], set, &rank, dim);
        type_name(set, text);
        H5Dclose(set);
        if (!e) e = each(arg, l.name[i], rank, dim, text);
    }
    free_listing(&l);
    return e;
}

/* ---- checksums: attribute "crc32" of each data set that qtape writes, of its bytes as they are stored ------------------------------------ */

static const char crc_key[] = "crc32";

static uint32_t crc_of(const void *x, size_t n)
{
    uLong crc = crc32(0, NULL, 0);
    for (const Bytef *b = x; n; b += qt_min_i64((int64_t)n, 1 << 30), n -= (size_t)qt_min_i64((int64_t)n, 1 << 30))
        crc = crc32(crc, b, (uInt)qt_min_i64((int64_t)n, 1 << 30));
    return (uint32_t)crc;
}

static bool write_crc(hid_t set, const void *x, size_t n)
{
    uint32_t crc = crc_of(x, n);
    hid_t    space = H5Screate(H5S_SCALAR), a = H5Acreate2(set, crc_key, H5T_STD_U32LE, space, H5P_DEFAULT, H5P_DEFAULT);
    bool     ok = a >= 0 && H5Awrite(a, H5T_NATIVE_UINT32, &crc) >= 0;
    if (a >= 0) H5Aclose(a);
    H5Sclose(space);
    return ok;
}

/* Does what was read of a whole set agree with its checksum? It can be seen only where numbers are read as they are stored. */
static bool crc_agrees(hid_t set, hid_t type, const void *x, int64_t n)
{
    hid_t    stored = H5Dget_type(set), a;
    uint32_t crc = 0;
    bool     same = H5Tequal(stored, type) > 0, ok = true;
    H5Tclose(stored);
    if (!same || H5Aexists(set, crc_key) <= 0 || (a = H5Aopen(set, crc_key, H5P_DEFAULT)) < 0) return true;
    if (H5Aread(a, H5T_NATIVE_UINT32, &crc) >= 0) ok = crc == crc_of(x, (size_t)n * H5Tget_size(type));
    H5Aclose(a);
    return ok;
}

/* ---- reading ----------------------------------------------------------------------------------------------------------------- */

/* Opens a data set of numbers, reads rows [begin, begin + rows) of it (all if rows < 0), which must be n numbers (any if n < 0). */
static qt_err read_set(const qt_h5 *f, const char *name, int64_t begin, int64_t rows, int64_t n, hid_t type, void *x)
{
    int64_t dim[RANK_MAX], total = 1;
    int     rank;
    hid_t   set, file_space = H5S_ALL, space = H5S_ALL;
    qt_err  e;
    char    text[24];
    QT_TRY(open_set(f, name, &set));
    e = shape_of(f, name, set, &rank, dim);
    for (int i = 0; i < rank && !e; i++) total *= i == 0 && rows >= 0 ? rows : dim[i];
    type_name(set, text);
    if (!e && strncmp(text, "float", 5) && strncmp(text, "int", 3) && strncmp(text, "uint", 4))
        e = qt_fail(QT_EDATA, "%s: data set '%s' holds no numbers (its type is %s)", f->name, name, text);
    if (!e && n >= 0 && n != total)
        e = qt_fail(QT_EDATA, "%s: data set '%s' holds %lld numbers, expected %lld", f->name, name, (long long)total, (long long)n);
    if (!e && rows >= 0 && (rank < 1 || begin < 0 || begin + rows > dim[0]))
        e = qt_fail(QT_EDATA, "%s: data set '%s' has no rows %lld to %lld", f->name, name, (long long)begin, (long long)(begin + rows - 1));
    if (!e && rows >= 0) {
        hsize_t first[RANK_MAX] = {(hsize_t)begin}, count[RANK_MAX] = {(hsize_t)rows};
        for (int i = 1; i < rank; i++) count[i] = (hsize_t)dim[i];
        file_space = H5Dget_space(set);
        if (total) H5Sselect_hyperslab(file_space, H5S_SELECT_SET, first, NULL, count, NULL);
        space = H5Screate_simple(rank, count, NULL);
    }
    if (!e && total && H5Dread(set, type, space, file_space, H5P_DEFAULT, x) < 0) e = fail_set(QT_EDATA, f, name, "cannot read");
    if (!e && rows < 0 && !crc_agrees(set, type, x, total))
        e = qt_fail(QT_EDATA, "%s: data set '%s' is damaged: its numbers do not have the checksum that stands beside them", f->name, name);
    if (space != H5S_ALL) H5Sclose(space), H5Sclose(file_space);
    H5Dclose(set);
    return e;
}

qt_err qt_h5_read(qt_h5 *f, const char *name, int64_t n, qt_real *x) { return read_set(f, name, 0, -1, n, NATIVE_REAL, x); }
qt_err qt_h5_read_rows(qt_h5 *f, const char *name, int64_t begin, int64_t rows, qt_real *x)
{
    return read_set(f, name, begin, rows, -1, NATIVE_REAL, x);
}

qt_err qt_h5_read_ids(qt_h5 *f, const char *name, int64_t n, int32_t *x)
{
    double *v = qt_alloc((size_t)n * sizeof *v); /* float32 and int64 files alike, every value checked */
    qt_err  e = v ? read_set(f, name, 0, -1, n, H5T_NATIVE_DOUBLE, v) : QT_EMEM;
    for (int64_t i = 0; i < n && !e; i++)
        if (v[i] >= INT32_MIN && v[i] <= INT32_MAX && v[i] == trunc(v[i])) x[i] = (int32_t)v[i];
        else e = qt_fail(QT_EDATA, "%s: data set '%s': element %lld is %g, expected an integer", f->name, name, (long long)i, v[i]);
    qt_free(v);
    return e;
}

qt_err qt_h5_read_bytes(qt_h5 *f, const char *name, int64_t n, uint8_t *x)
{
    hid_t set;
    char  text[24];
    QT_TRY(open_set(f, name, &set));
    type_name(set, text);
    H5Dclose(set);
    QT_CHECK(!strcmp(text, "uint8"), QT_EDATA, "%s: data set '%s' is of type %s, expected uint8", f->name, name, text);
    return read_set(f, name, 0, -1, n, H5T_NATIVE_UINT8, x);
}

/* ---- writing ----------------------------------------------------------------------------------------------------------------- */

/* Creates the groups of "a/b/x" that are missing. libhdf5 would, but with time stamps. */
static qt_err make_groups(const qt_h5 *f, const char *name)
{
    char   path[1024];
    hid_t  plist = H5Pcreate(H5P_GROUP_CREATE), group;
    qt_err e = QT_OK;
    H5Pset_obj_track_times(plist, false);
    for (const char *slash = strchr(name, '/'); !e && slash; slash = strchr(slash + 1, '/')) {
        int n = snprintf(path, sizeof path, "%.*s", (int)(slash - name), name);
        if (n >= (int)sizeof path) e = qt_fail(QT_EIO, "%s: the name of a data set is too long: %.60s...", f->name, name);
        if (e || !n || H5Lexists(f->id, path, H5P_DEFAULT) > 0) continue;
        group = H5Gcreate2(f->id, path, H5P_DEFAULT, plist, H5P_DEFAULT);
        if (group < 0) e = fail_set(QT_EIO, f, name, "cannot write");
        else H5Gclose(group);
    }
    H5Pclose(plist);
    return e;
}

static qt_err write_set(qt_h5 *f, const char *name, int rank, const int64_t *dim, hid_t native, hid_t stored, const void *x)
{
    hsize_t d[RANK_MAX];
    hid_t   space, plist, set;
    int64_t n = 1;
    qt_err  e = QT_OK;
    QT_ASSERT(rank >= 0 && rank <= RANK_MAX && f->fd >= 0);
    quiet();
    QT_TRY(make_groups(f, name));
    for (int i = 0; i < rank; i++) d[i] = (hsize_t)dim[i], n *= dim[i];
    space = rank ? H5Screate_simple(rank, d, NULL) : H5Screate(H5S_SCALAR);
    plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(plist, false);
    set = H5Dcreate2(f->id, name, stored, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    if (set < 0 || H5Dwrite(set, native, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) < 0 ||
        (H5Tequal(native, stored) > 0 && !write_crc(set, x, (size_t)n * H5Tget_size(native))))
        e = fail_set(QT_EIO, f, name, "cannot write");
    if (set >= 0 && H5Dclose(set) < 0 && !e) e = fail_set(QT_EIO, f, name, "cannot write");
    H5Pclose(plist), H5Sclose(space);
    return e;
}

qt_err qt_h5_write(qt_h5 *f, const char *name, int rank, const int64_t *dim, const qt_real *x, bool as_float32)
{
    hid_t stored = STORED_REAL;
    if (as_float32) stored = H5T_IEEE_F32LE;
    return write_set(f, name, rank, dim, NATIVE_REAL, stored, x);
}

qt_err qt_h5_write_ids(qt_h5 *f, const char *name, int rank, const int64_t *dim, const int32_t *x)
{
    return write_set(f, name, rank, dim, H5T_NATIVE_INT32, H5T_STD_I32LE, x);
}

qt_err qt_h5_write_bytes(qt_h5 *f, const char *name, int rank, const int64_t *dim, const uint8_t *x)
{
    return write_set(f, name, rank, dim, H5T_NATIVE_UINT8, H5T_STD_U8LE, x);
}

/* ---- attributes of the root group -------------------------------------------------------------------------------------------- */

static qt_err put(qt_h5 *f, const char *key, hid_t native, hid_t stored, const void *value)
{
    hid_t  space = H5Screate(H5S_SCALAR), attr;
    char   text[256];
    qt_err e = QT_OK;
    quiet();
    if (H5Aexists(f->id, key) > 0) H5Adelete(f->id, key);
    attr = H5Acreate2(f->id, key, stored, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attr < 0 || H5Awrite(attr, native, value) < 0) e = qt_fail(QT_EIO, "%s: attribute '%s': cannot write: %s", f->name, key, why(text));
    if (attr >= 0) H5Aclose(attr);
    H5Sclose(space);
    return e;
}

qt_err qt_h5_put_int(qt_h5 *f, const char *key, int64_t value) { return put(f, key, H5T_NATIVE_INT64, H5T_STD_I64LE, &value); }
qt_err qt_h5_put_real(qt_h5 *f, const char *key, double value) { return put(f, key, H5T_NATIVE_DOUBLE, H5T_IEEE_F64LE, &value); }

qt_err qt_h5_put_str(qt_h5 *f, const char *key, const char *value)
{
    hid_t  type = H5Tcopy(H5T_C_S1);
    qt_err e;
    H5Tset_size(type, strlen(value) + 1);
    H5Tset_cset(type, H5T_CSET_UTF8);
    e = put(f, key, type, type, value);
    H5Tclose(type);
    return e;
}

static qt_err open_attr(const qt_h5 *f, const char *key, H5T_class_t class_1, H5T_class_t class_2, const char *expected, hid_t *attr, hid_t *type)
{
    H5T_class_t found;
    hid_t       space;
    hssize_t    n;
    quiet();
    *attr = H5Aopen(f->id, key, H5P_DEFAULT);
    if (*attr < 0) return H5Eclear2(H5E_DEFAULT), qt_fail(QT_EDATA, "%s: no attribute '%s'", f->name, key);
    *type = H5Aget_type(*attr), space = H5Aget_space(*attr);
    found = H5Tget_class(*type), n = H5Sget_simple_extent_npoints(space);
    H5Sclose(space);
    if (n == 1 && (found == class_1 || found == class_2)) return QT_OK;
    H5Tclose(*type), H5Aclose(*attr);
    return qt_fail(QT_EDATA, "%s: attribute '%s': expected %s", f->name, key, expected);
}

static qt_err read_attr(const qt_h5 *f, const char *key, hid_t attr, hid_t native, void *value)
{
    char text[256];
    bool ok = H5Aread(attr, native, value) >= 0;
    return ok ? QT_OK : qt_fail(QT_EDATA, "%s: attribute '%s': cannot read: %s", f->name, key, why(text));
}

static qt_err get_number(const qt_h5 *f, const char *key, H5T_class_t also, const char *expected, hid_t native, void *value)
{
    hid_t  attr, type;
    qt_err e;
    QT_TRY(open_attr(f, key, H5T_INTEGER, also, expected, &attr, &type));
    e = read_attr(f, key, attr, native, value);
    H5Tclose(type), H5Aclose(attr);
    return e;
}

bool   qt_h5_has_key(qt_h5 *f, const char *key) { return H5Aexists(f->id, key) > 0; }
qt_err qt_h5_get_int(qt_h5 *f, const char *key, int64_t *value) { return get_number(f, key, H5T_INTEGER, "an integer", H5T_NATIVE_INT64, value); }
qt_err qt_h5_get_real(qt_h5 *f, const char *key, double *value) { return get_number(f, key, H5T_FLOAT, "a number", H5T_NATIVE_DOUBLE, value); }

qt_err qt_h5_get_str(qt_h5 *f, const char *key, qt_arena *a, const char **value)
{
    hid_t  attr, type;
    qt_err e;
    QT_TRY(open_attr(f, key, H5T_STRING, H5T_STRING, "a string", &attr, &type));
    if (H5Tis_variable_str(type) > 0) {
        char *s = NULL;
        if (!(e = read_attr(f, key, attr, type, &s)) && !(*value = qt_arena_strdup(a, s ? s : ""))) e = QT_EMEM;
        if (s) H5free_memory(s);
    } else {
        char *s = qt_arena_zalloc(a, H5Tget_size(type) + 1);
        e = s ? read_attr(f, key, attr, type, s) : QT_EMEM;
        *value = s;
    }
    H5Tclose(type), H5Aclose(attr);
    return e;
}
