/* Walks an HDF5 file in a child process before this one opens it. libhdf5 1.10 crashes or spins on some damaged files; here that
 * ends a child with limits on time and memory, and becomes a message. The child opens every object, reads every attribute, and reads
 * every data set in its own type and, if it holds numbers, as the numbers that qt_h5_read would ask for.
 * Refused besides damage: what leads out of the file (external links and storage, virtual data sets), data sets far larger than
 * the file can hold. fork() takes a copy of HDF5's locks: call it while no other thread is inside libhdf5. */
#include "base/h5.h"
#include "base/par.h"
#include "base/scan.h"
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <omp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PIECE = 16 << 20, SECONDS = 60, DEPTH_MAX = 64, OBJECTS_MAX = 100000, DEFLATE_MAX = 1032, CHUNKS_MIN = 1024 };

static struct child {
    int     pipe, depth, objects;
    int64_t file_bytes, bytes; /* of the file; of its data sets so far */
    char   *buffer;
    char    path[512]; /* of the object in hand */
} child;

/* ---- the child --------------------------------------------------------------------------------------------------------------- */

_Noreturn static void refuse(const char *fmt, ...) QT_PRINTF(1, 2);
_Noreturn static void refuse(const char *fmt, ...)
{
    char    text[256];
    va_list ap;
    int     n;
    va_start(ap, fmt), n = vsnprintf(text, sizeof text, fmt, ap), va_end(ap);
    n = n < (int)sizeof text ? n : (int)sizeof text - 1;
    _exit(write(child.pipe, text, (size_t)n) == n ? 1 : 2);
}

static herr_t innermost(unsigned n, const H5E_error2_t *e, void *text)
{
    if (n == 0) snprintf(text, 128, "%s", e->desc ? e->desc : "");
    return 0;
}

/* Leaves if the result of a call is negative. */
static hid_t must(hid_t result, const char *what)
{
    char text[128] = "unknown error";
    if (result >= 0) return result;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, text);
    refuse("'%.80s': cannot %s: %s", child.path[0] ? child.path : "/", what, text);
}

/* The most that can come out of the file by deflate, and what is small or was never written. */
static int64_t most_bytes(void) { return DEFLATE_MAX * qt_min_i64(child.file_bytes, INT64_MAX / 2 / DEFLATE_MAX) + PIECE; }

/* Bytes of all elements. (libhdf5 multiplies dimensions without a look at overflow.) */
static int64_t bytes_of(hid_t space, hid_t type)
{
    hsize_t dim[H5S_MAX_RANK];
    int     rank = (int)must(H5Sget_simple_extent_dims(space, dim, NULL), "read the shape");
    int64_t n = H5Sget_simple_extent_type(space) != H5S_NULL, size = (int64_t)H5Tget_size(type), most = most_bytes();
    bool    fits = size > 0 && size <= PIECE;
    for (int i = 0; i < rank; i++) n = dim[i] ? n : 0;
    for (int i = 0; i < rank && n && fits; i++) {
        fits = dim[i] <= (hsize_t)(most / n);
        if (fits) n *= (int64_t)dim[i];
    }
    if (!fits || n > most / size) refuse("'%.80s': more elements than the file can hold", child.path);
    return n * size;
}

/* The same set may be there under many names. */
static void count_bytes(int64_t n)
{
    child.bytes += n;
    if (child.bytes > most_bytes()) refuse("'%.80s': with the data sets before it more than the file can hold", child.path);
}

/* A chunk that is there has an address of 8 bytes at least; those that were never written cost time too. */
static void check_chunks(hid_t plist, hid_t space)
{
    hsize_t dim[H5S_MAX_RANK], chunk[H5S_MAX_RANK];
    double  n = 1;
    if (H5Pget_layout(plist) != H5D_CHUNKED) return;
    int rank = (int)must(H5Sget_simple_extent_dims(space, dim, NULL), "read the shape");
    if (must(H5Pget_chunk(plist, H5S_MAX_RANK, chunk), "read the layout") != rank) refuse("'%.80s': chunks of another rank", child.path);
    for (int i = 0; i < rank; i++) n *= ceil((double)dim[i] / (double)chunk[i]);
    if (n > CHUNKS_MIN + (double)child.file_bytes / 8) refuse("'%.80s': %.0f chunks are more than the file can hold", child.path, n);
}

/* Reads all of a data set, at most PIECE bytes at once: axis k is cut, the axes before it are walked one index at a time. */
static void read_pieces(hid_t set, hid_t space, hid_t type, int rank, const hsize_t *dim)
{
    hsize_t at[H5S_MAX_RANK] = {0}, count[H5S_MAX_RANK], inner = H5Tget_size(type), rows;
    int     k = rank - 1;
    for (int i = 0; i < rank; i++)
        if (dim[i] == 0) return;
    for (; k > 0 && inner * dim[k] <= PIECE; k--) inner *= dim[k];
    rows = PIECE / inner;
    for (int i = 0; i < rank; i++) count[i] = i < k ? 1 : dim[i];
    for (;;) {
        hid_t piece;
        int   i = k;
        count[k] = dim[k] - at[k] < rows ? dim[k] - at[k] : rows;
        piece = must(H5Screate_simple(rank, count, NULL), "select");
        must(H5Sselect_hyperslab(space, H5S_SELECT_SET, at, NULL, count, NULL), "select");
        must(H5Dread(set, type, piece, space, H5P_DEFAULT, child.buffer), "read");
        H5Sclose(piece);
        for (at[k] += count[k]; i > 0 && at[i] >= dim[i]; i--) at[i] = 0, at[i - 1]++;
        if (at[0] >= dim[0]) return;
    }
}

static void read_as(hid_t set, hid_t space, hid_t type)
{
    hsize_t dim[H5S_MAX_RANK];
    int     rank = (int)must(H5Sget_simple_extent_dims(space, dim, NULL), "read the shape");
    if (H5Sget_simple_extent_type(space) == H5S_NULL) return;
    bytes_of(space, type);
    if (rank) read_pieces(set, space, type, rank, dim);
    else must(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, child.buffer), "read");
}

static void visit_set(hid_t set)
{
    hid_t       stored = must(H5Dget_type(set), "read the type"), space = must(H5Dget_space(set), "read the shape");
    hid_t native = must(H5Tget_native_type(stored, H5T_DIR_DEFAULT), "read the type"), plist = must(H5Dget_create_plist(set), "read the layout");
    H5T_class_t c = H5Tget_class(stored);
    if (H5Pget_layout(plist) == H5D_VIRTUAL || H5Pget_external_count(plist) > 0) refuse("'%.80s' keeps its data in another file", child.path);
    count_bytes(bytes_of(space, stored));
    check_chunks(plist, space);
    read_as(set, space, native);
    if (c == H5T_INTEGER || c == H5T_FLOAT) {
        if (sizeof(qt_real) == 4 && H5Tequal(native, H5T_NATIVE_FLOAT) <= 0) read_as(set, space, H5T_NATIVE_FLOAT);
        if (H5Tequal(native, H5T_NATIVE_DOUBLE) <= 0) read_as(set, space, H5T_NATIVE_DOUBLE);
    }
    H5Tclose(stored), H5Tclose(native), H5Sclose(space), H5Pclose(plist);
}

static herr_t visit_attribute(hid_t object, const char *name, const H5A_info_t *info, void *arg)
{
    hid_t attr = must(H5Aopen(object, name, H5P_DEFAULT), "open an attribute"), stored = must(H5Aget_type(attr), "read an attribute");
    hid_t space = must(H5Aget_space(attr), "read an attribute"), native = must(H5Tget_native_type(stored, H5T_DIR_DEFAULT), "read an attribute");
    void *value = malloc((size_t)bytes_of(space, native) + 1);
    (void)info, (void)arg;
    if (!value) refuse("'%.80s': an attribute is too large", child.path);
    bytes_of(space, stored);
    must(H5Aread(attr, native, value), "read an attribute");
    free(value);
    H5Tclose(stored), H5Tclose(native), H5Sclose(space), H5Aclose(attr);
    return 0;
}

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *info, void *arg);

static void visit(hid_t object)
{
    H5I_type_t type = H5Iget_type(object);
    if (++child.objects > OBJECTS_MAX) refuse("more than %d objects, or groups that hold each other", OBJECTS_MAX);
    if (child.depth > DEPTH_MAX) refuse("groups deeper than %d levels", DEPTH_MAX);
    must(H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_attribute, NULL), "list attributes");
    if (type == H5I_DATASET) visit_set(object);
    if (type == H5I_GROUP) must(H5Literate(object, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_link, NULL), "list the group");
}

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *info, void *arg)
{
    size_t n = strlen(child.path);
    hid_t  object;
    (void)arg;
    snprintf(child.path + n, sizeof child.path - n, "%s%s", n ? "/" : "", name);
    if (info->type == H5L_TYPE_HARD) {
        object = must(H5Oopen(group, name, H5P_DEFAULT), "open");
        child.depth++;
        visit(object);
        child.depth--;
        H5Oclose(object);
    } else if (info->type != H5L_TYPE_SOFT) refuse("'%.80s' is a link to another file", child.path);
    child.path[n] = 0;
    return 0;
}

static void limit(int what, int64_t n)
{
    struct rlimit r;
    if (getrlimit(what, &r)) return;
    if (r.rlim_max == RLIM_INFINITY || r.rlim_max > (rlim_t)n) r.rlim_cur = (rlim_t)n;
    setrlimit(what, &r);
}

static int64_t address_space(void)
{
    FILE       *f = fopen("/proc/self/statm", "r");
    char        line[128] = "";
    const char *s = line;
    int64_t     pages;
    bool        known = f && fgets(line, sizeof line, f) && qt_scan_number(&s, INT64_MAX >> 32, &pages);
    if (f) fclose(f);
    return known ? pages * sysconf(_SC_PAGESIZE) : 0;
}

/* LLVM's OpenMP signs every process on in /dev/shm, this child too, and off only in exit(), which no child of ours comes to. GNU's does not, and
 * would wait here for the parent's threads. */
static void leave_openmp(void)
{
#ifdef __clang__
    omp_pause_resource_all(omp_pause_hard);
#endif
}

_Noreturn static void walk(const char *file, int64_t bytes, int out)
{
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP, SIGALRM, SIGXCPU};
    int     null = open("/dev/null", O_WRONLY), seconds = SECONDS + (int)(qt_min_i64(bytes, (int64_t)1 << 40) / (50 << 20));
    hid_t   fapl, id, root;
    int64_t space = address_space();
    leave_openmp();
    if (null >= 0) dup2(null, 2); /* assertions inside libhdf5 */
    child = (struct child){.pipe = out, .file_bytes = bytes, .buffer = malloc(PIECE + 64)};
    if (!child.buffer) refuse("out of memory");
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, seconds);
    if (space) limit(RLIMIT_AS, space + ((int64_t)512 << 20) + 16 * qt_min_i64(bytes, (int64_t)1 << 40));
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++) signal(deadly[i], SIG_DFL); /* a crash is to end this process, not to be caught */
    alarm((unsigned)seconds);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0); /* a file names filters, and libhdf5 would load them as plug-ins */
    fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(fapl, false, true);
    id = must(H5Fopen(file, H5F_ACC_RDONLY, fapl), "open");
    visit(root = must(H5Gopen2(id, "/", H5P_DEFAULT), "open"));
    H5Gclose(root);
    must(H5Fclose(id), "close");
    _exit(0);
}

/* ---- the parent -------------------------------------------------------------------------------------------------------------- */

static qt_err judge(const char *file, int status, const char *text)
{
    int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return QT_OK;
    if (sig == SIGALRM || sig == SIGXCPU) return qt_fail(QT_EDATA, "%s: not a readable HDF5 file: libhdf5 does not come to an end with it", file);
    if (sig) return qt_fail(QT_EDATA, "%s: not a readable HDF5 file: libhdf5 crashes on it (%s)", file, strsignal(sig));
    return qt_fail(QT_EDATA, "%s: not a readable HDF5 file: %s", file, *text ? text : "libhdf5 gives up on it");
}

qt_err qt_h5_vet(const char *file)
{
    int         fd = open(file, O_RDONLY | O_CLOEXEC), ends[2], status = 0;
    struct stat st;
    char        text[256] = "";
    pid_t       pid;
    size_t      n = 0;
    if (fd < 0) return qt_fail(QT_EIO, "%s: cannot open: %s", file, strerror(errno));
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) return close(fd), qt_fail(QT_EIO, "%s: cannot open: not a file", file);
    close(fd);
    if (pipe(ends)) return qt_fail(QT_EIO, "%s: cannot make a pipe: %s", file, strerror(errno));
    pid = fork();
    if (pid == 0) close(ends[0]), walk(file, st.st_size, ends[1]);
    close(ends[1]);
    if (pid < 0) return close(ends[0]), qt_fail(QT_EIO, "%s: cannot start a process: %s", file, strerror(errno));
    for (ssize_t got = 1; got && n < sizeof text - 1; n += got > 0 ? (size_t)got : 0)
        if ((got = read(ends[0], text + n, sizeof text - 1 - n)) < 0 && errno != EINTR) break;
    close(ends[0]);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return qt_fail(QT_EIO, "%s: lost the child process: %s", file, strerror(errno));
    return judge(file, status, text);
}
