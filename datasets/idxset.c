/* Sets of 28 x 28 grey images in four IDX files (MNIST, Fashion-MNIST): see idx.h. Pixels stay bytes in memory; a table of 256 numbers
 * turns them into what the recipe asks for when a sample is fetched. */
#include "files.h"
#include "base/files.h"
#include "idx.h"
#include <errno.h>
#include <string.h>

enum { H = 28, W = 28, CLASSES = 10, FILES = 4 };

/* File 2 s holds the images of split s, file 2 s + 1 their labels. */
static const char *const names[FILES] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

const qt_field qt_idx_fields[] = {
    QT_F_STR(qt_idx_cfg, path, "~", "folder with the four IDX files, plain or .gz; default: where they were fetched or installed"),
    QT_F_ENUM(qt_idx_cfg, normalize, "unit", "none|unit|standard",
              "none: pixels 0..255; unit: 0..1; standard: mean 0 and variance 1 over the training pixels"),
    QT_F_BOOL(qt_idx_cfg, flip, "false", "training: mirror every other image, left to right"),
    QT_F_INT(qt_idx_cfg, crop, "0", 0, H / 2, "training: shift by up to so many pixels, black comes in"),
    {NULL}};

typedef struct set_state {
    qt_idx     file[FILES];
    R          table[1][256];
    qt_augment augment;
} set_state;

qt_err qt_idx_info(const void *cfg, qt_data_info *info)
{
    (void)cfg;
    *info = (qt_data_info){.rank = 3, .dim = {1, H, W}, .classes = CLASSES, .known = true};
    return QT_OK;
}

/* <folder>/<file>.gz or <folder>/<file>, NULL if there is neither. */
static const char *find_file(qt_arena *a, const char *folder, int i)
{
    static const char *const ends[] = {".gz", ""};
    for (int k = 0; k < 2; k++) {
        char *file = qt_arena_sprintf(a, "%s/%s%s", folder, names[i], ends[k]);
        if (file && qt_is_file(file)) return file;
    }
    return NULL;
}

const char *qt_idx_find(qt_arena *a, const qt_idx_set *set, const qt_idx_cfg *cfg)
{
    const char *folder[] = {qt_arena_sprintf(a, "%s/%s", qt_data_dir(a), set->name), set->system};
    if (cfg->path) return find_file(a, cfg->path, 0) ? cfg->path : NULL;
    for (int i = 0; i < 2; i++)
        if (folder[i] && find_file(a, folder[i], 0)) return folder[i];
    return NULL;
}

static qt_err check_images(const char *file, const qt_idx *x)
{
    QT_CHECK(x->dim[1] == H && x->dim[2] == W, QT_EDATA, "%s: images of %lld x %lld pixels, expected %d x %d", file, (long long)x->dim[1],
             (long long)x->dim[2], H, W);
    return QT_OK;
}

static qt_err check_labels(const char *file, const qt_idx *y, int64_t images)
{
    QT_CHECK(y->n == images, QT_EDATA, "%s: %lld labels for %lld images", file, (long long)y->n, (long long)images);
    for (int64_t i = 0; i < y->n; i++)
        QT_CHECK(y->data[i] < CLASSES, QT_EDATA, "%s: label %lld is %d, expected a class 0..%d", file, (long long)i, y->data[i], CLASSES - 1);
    return QT_OK;
}

static qt_err read_files(qt_arena *a, const qt_idx_set *set, const qt_idx_cfg *cfg, qt_idx x[FILES])
{
    const char *folder = qt_idx_find(a, set, cfg), *file;
    QT_CHECK(folder || !cfg->path, QT_EIO, "%s: holds no %s(.gz); data.path is the folder with the four IDX files, which `qtape data get %s` brings", cfg->path,
             names[0], set->name);
    QT_CHECK(folder, QT_EIO, "data set %s not found; `qtape data get %s` installs it, or use data.use=digits", set->name, set->name);
    for (int i = 0; i < FILES; i++) {
        QT_CHECK((file = find_file(a, folder, i)), QT_EIO, "%s/%s(.gz): not found; `qtape data get %s` installs it", folder, names[i], set->name);
        QT_TRY(qt_idx_read(file, i % 2 ? 1 : 3, &x[i]));
        QT_TRY(i % 2 ? check_labels(file, &x[i], x[i - 1].dim[0]) : check_images(file, &x[i]));
    }
    return QT_OK;
}

qt_err qt_idx_open(const qt_idx_set *set, const qt_idx_cfg *cfg, void **state, qt_data_info *info)
{
    const double white[] = {1, 255, 255}, mean[] = {0, 0, set->mean}, std[] = {1, 1, set->std};
    qt_arena     a  = {0};
    set_state   *st = *state = qt_alloc(sizeof *st);
    qt_err       e;
    if (!st) return QT_EMEM;
    qt_image_table(st->table[0], white[cfg->normalize], mean[cfg->normalize], std[cfg->normalize]);
    st->augment = (qt_augment){cfg->flip, cfg->crop};
    e = read_files(&a, set, cfg, st->file);
    qt_arena_free(&a);
    if (e == QT_OK) return qt_idx_info(cfg, info);
    qt_idx_close(st);
    *state = NULL;
    return e;
}

int64_t qt_idx_size(const void *state, qt_split s)
{
    const set_state *st = state;
    return s == QT_VAL ? 0 : st->file[s == QT_TEST ? 3 : 1].n;
}

qt_err qt_idx_get(void *state, qt_split s, int64_t i, qt_rng *draw, R *x, int32_t *y, R *t)
{
    const set_state *st = state;
    const qt_idx    *f  = &st->file[s == QT_TEST ? 2 : 0];
    (void)t;
    qt_image_put(x, f[0].data + i * H * W, 1, H, W, st->table, &st->augment, draw);
    *y = f[1].data[i];
    return QT_OK;
}

void qt_idx_close(void *state)
{
    set_state *st = state;
    for (int i = 0; i < FILES; i++) qt_free(st->file[i].data);
    qt_free(st);
}

/* ---- fetching --------------------------------------------------------------------------------------------------------------------- */

qt_err qt_idx_verify(const qt_idx_set *set, const char *folder)
{
    qt_arena a = {0};
    qt_err   e = QT_OK;
    for (int i = 0; i < FILES && e == QT_OK; i++) {
        const char *file = find_file(&a, folder, i);
        uint32_t    crc  = 0;
        if (!file) e = qt_fail(QT_EIO, "%s/%s(.gz): not found", folder, names[i]);
        else if ((e = qt_unpacked_crc(file, &crc)) == QT_OK && crc != set->crc[i])
            e = qt_fail(QT_EDATA, "%s: checksum %08x, expected %08x: not the file of %s", file, crc, set->crc[i], set->name);
    }
    qt_arena_free(&a);
    return e;
}

static qt_err move_files(qt_arena *a, const qt_idx_set *set, const char *from)
{
    const char *to = qt_arena_sprintf(a, "%s/%s", qt_data_dir(a), set->name);
    if (!to) return QT_EMEM;
    QT_TRY(qt_idx_verify(set, from));
    QT_TRY(qt_folder_make(to));
    for (int i = 0; i < FILES; i++) {
        const char *file = find_file(a, from, i), *target = file ? qt_arena_sprintf(a, "%s/%s", to, strrchr(file, '/') + 1) : NULL;
        if (!target) return QT_EMEM;
        QT_CHECK(rename(file, target) == 0, QT_EIO, "%s: cannot move it to %s: %s", file, target, strerror(errno));
    }
    return QT_OK;
}

qt_err qt_idx_install(const qt_idx_set *set, const char *from)
{
    qt_arena a = {0};
    qt_err   e = move_files(&a, set, from);
    qt_arena_free(&a);
    return e;
}
