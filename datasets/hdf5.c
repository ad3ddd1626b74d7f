/* Your own arrays from an HDF5 file: x [N, ...] numbers, y [N] class ids or [N, k] numbers to predict. Either train/x, train/y with
 * val/... and test/... beside them, or x and y at the root, which are all `train` (cut them with split expressions). The file is first
 * read in a child process, as libhdf5 may crash on a damaged one, and then held in memory: libhdf5 is not called from two threads. */
#include "base/h5.h"
#include "files.h"
#include "table.h"
#include <math.h>
#include <string.h>

typedef struct hdf5_cfg {
    const char *path, *x_name, *y_name;
    qt_ints     shape;
    int64_t     classes;
} hdf5_cfg;

static const qt_field fields[] = {
    QT_F_STR(hdf5_cfg, path, NULL, "the file"),
    QT_F_STR(hdf5_cfg, x_name, "x", "data set of the samples, below train/, val/, test/ or at the root"),
    QT_F_STR(hdf5_cfg, y_name, "y", "data set of the targets"),
    QT_F_INTS(hdf5_cfg, shape, "[]", 1, 1 << 24, "shape of a sample, so that `check` knows it; also gives flat rows a shape, as [1, 28, 28]"),
    QT_F_INT(hdf5_cfg, classes, "-1", -1, 1000000, "number of classes; 0: y holds numbers to predict; -1: the largest class id and one"),
    {NULL}};

static qt_err info_of(const void *cfg, qt_data_info *info)
{
    const hdf5_cfg *c = cfg;
    *info = (qt_data_info){.rank = c->shape.n, .classes = c->classes, .target_n = c->classes == 0, .known = c->shape.n > 0};
    QT_CHECK(c->shape.n < QT_MAX_DIM, QT_ERECIPE, "data.shape: at most %d dimensions, found %d", QT_MAX_DIM - 1, c->shape.n);
    for (int i = 0; i < c->shape.n; i++) info->dim[i] = c->shape.v[i];
    return QT_OK;
}

/* "[600, 28, 28]" */
static const char *shape_text(char text[128], int rank, const int64_t *dim)
{
    int n = snprintf(text, 128, "[");
    for (int i = 0; i < rank && n < 100; i++) n += snprintf(text + n, 128 - (size_t)n, i ? ", %lld" : "%lld", (long long)dim[i]);
    snprintf(text + n, 128 - (size_t)n, "]");
    return text;
}

/* Numbers of a sample; -1: more than 2^40. */
static int64_t numbers(int rank, const int64_t *dim)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++) {
        if (dim[i] < 1) return 0;
        if (dim[i] > ((int64_t)1 << 40) / n) return -1;
        n *= dim[i];
    }
    return n;
}

/* Checks x [N, ...] against the shape of a sample, or takes its shape where none is known. */
static qt_err fit_samples(const char *file, const char *name, int rank, const int64_t *dim, qt_data_info *info)
{
    char    found[128], want[128];
    int64_t n, have;
    QT_CHECK(rank >= 1 && rank <= QT_MAX_DIM && dim[0] > 0, QT_EDATA, "%s: %s is %s, expected [N, ...] with 1 to %d dimensions, N > 0", file,
             name, shape_text(found, rank, dim), QT_MAX_DIM);
    if (!info->rank) {
        info->rank = rank > 1 ? rank - 1 : 1, info->dim[0] = 1;
        for (int i = 1; i < rank; i++) info->dim[i - 1] = dim[i];
    }
    n = numbers(info->rank, info->dim), have = numbers(rank - 1, dim + 1);
    QT_CHECK(have >= 0, QT_EDATA, "%s: %s is %s: samples of more than 2^40 numbers", file, name, shape_text(found, rank, dim));
    QT_CHECK(n == have && n > 0, QT_EDATA, "%s: %s is %s, expected N samples of %s", file, name, shape_text(found, rank, dim),
             shape_text(want, info->rank, info->dim));
    return QT_OK;
}

/* y [N] or [N, 1] are classes unless `classes: 0` says numbers; [N, k] are numbers. */
static qt_err fit_targets(const char *file, const char *name, int rank, const int64_t *dim, int64_t n, qt_data_info *info)
{
    char    found[128];
    int64_t k = rank == 2 ? dim[1] : 1;
    QT_CHECK((rank == 1 || rank == 2) && dim[0] == n && k > 0, QT_EDATA, "%s: %s is %s, expected [%lld] or [%lld, k]: one target a sample", file,
             name, shape_text(found, rank, dim), (long long)n, (long long)n);
    if (k > 1 && info->classes < 0) info->classes = 0, info->target_n = k;
    if (info->classes == 0 && info->target_n <= 1) info->target_n = k;
    QT_CHECK(info->classes ? k == 1 : k == info->target_n, QT_EDATA, "%s: %s is %s, expected %lld number%s a sample", file, name,
             shape_text(found, rank, dim), (long long)(info->classes ? 1 : info->target_n), info->classes || info->target_n == 1 ? "" : "s");
    return QT_OK;
}

static qt_err all_finite(const char *file, const char *name, const R *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) QT_CHECK(isfinite(x[i]), QT_EDATA, "%s: %s holds %g at element %lld", file, name, (double)x[i], (long long)i);
    return QT_OK;
}

/* Class ids are read as numbers, so that 1.5 is seen and not cut to 1. */
static qt_err read_classes(qt_h5 *f, const char *file, const char *name, int64_t n, int32_t *y)
{
    R     *v = qt_alloc(sizeof *v * (size_t)n);
    qt_err e = v ? qt_h5_read(f, name, n, v) : QT_EMEM;
    for (int64_t i = 0; e == QT_OK && i < n; i++) {
        if (v[i] != (R)floor((double)v[i]) || !(v[i] > -1e9 && v[i] < 1e9))
            e = qt_fail(QT_EDATA, "%s: %s[%lld] is %g, expected a class id; `classes: 0` takes numbers to predict", file, name, (long long)i,
                        (double)v[i]);
        else y[i] = (int32_t)v[i];
    }
    qt_free(v);
    return e;
}

static qt_err read_split(qt_h5 *f, const char *file, qt_split s, const char *x_name, const char *y_name, qt_table *b, qt_data_info *info)
{
    int     x_rank, y_rank;
    int64_t x_dim[8], y_dim[8];
    QT_TRY(qt_h5_shape(f, x_name, &x_rank, x_dim));
    QT_TRY(qt_h5_shape(f, y_name, &y_rank, y_dim));
    QT_TRY(fit_samples(file, x_name, x_rank, x_dim, info));
    QT_TRY(fit_targets(file, y_name, y_rank, y_dim, x_dim[0], info));
    b->width = 1, b->target_n = info->target_n;
    for (int i = 0; i < info->rank; i++) b->width *= info->dim[i];
    QT_TRY(qt_table_room(b, s, x_dim[0], file));
    QT_TRY(qt_h5_read(f, x_name, b->n[s] * b->width, b->x[s]));
    QT_TRY(all_finite(file, x_name, b->x[s], b->n[s] * b->width));
    if (!b->target_n) return read_classes(f, file, y_name, b->n[s], b->y[s]);
    QT_TRY(qt_h5_read(f, y_name, b->n[s] * b->target_n, b->t[s]));
    return all_finite(file, y_name, b->t[s], b->n[s] * b->target_n);
}

static qt_err read_splits(qt_arena *a, qt_h5 *f, const hdf5_cfg *c, qt_table *b, qt_data_info *info)
{
    static const char *const split[] = {"train", "val", "test"};
    const char              *name[QT_SPLITS];
    const char              *group = qt_arena_sprintf(a, "train/%s", c->x_name);
    bool                     grouped = group && qt_h5_has(f, group);
    if (!group) return QT_EMEM;
    for (int s = 0; s < QT_SPLITS; s++) {
        const char *x = grouped ? qt_arena_sprintf(a, "%s/%s", split[s], c->x_name) : c->x_name;
        const char *y = grouped ? qt_arena_sprintf(a, "%s/%s", split[s], c->y_name) : c->y_name;
        name[s]       = qt_arena_sprintf(a, "%s: %s", c->path, y);
        if (!x || !y || !name[s]) return QT_EMEM;
        if (s == QT_TRAIN || (grouped && qt_h5_has(f, x))) QT_TRY(read_split(f, c->path, s, x, y, b, info));
    }
    return b->target_n ? QT_OK : qt_table_classes(b, name, &info->classes);
}

static qt_err load(const hdf5_cfg *c, qt_table *b, qt_data_info *info)
{
    qt_arena a = {0};
    qt_h5   *f;
    qt_err   e;
    QT_TRY(info_of(c, info));
    QT_CHECK(qt_is_file(c->path), QT_EIO, "%s: no such file (data.path of hdf5)", c->path);
    QT_TRY(qt_h5_vet(c->path));
    QT_TRY(qt_h5_open(c->path, &f));
    e = read_splits(&a, f, c, b, info);
    qt_h5_close(f);
    qt_arena_free(&a);
    return e;
}

static qt_err begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info)
{
    qt_table *b = *state = qt_alloc(sizeof *b);
    qt_err    e = b ? load(cfg, b, info) : QT_EMEM;
    (void)seed;
    if (e == QT_OK) return QT_OK;
    qt_table_close(b);
    *state = NULL;
    return e;
}

const qt_dataset qt_dataset_hdf5 = {
    .d     = {"hdf5", "your own arrays x and y from an HDF5 file", NULL, fields, sizeof(hdf5_cfg)},
    .info  = info_of,
    .open  = begin,
    .size  = qt_table_size,
    .get   = qt_table_get,
    .close = qt_table_close,
    .where = "your file (path)"};
