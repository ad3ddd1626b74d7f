/* Images in folders, one folder a class: path/train/CLASS/NAME.png with path/val and path/test beside train, or path/CLASS/NAME.png, which is
 * all `train` (cut it with split expressions). Classes are numbered in the order of their names (bytes), files likewise. Images are
 * decoded when the set is opened, so that a damaged one stops the run before its first step, and kept as bytes; a set that is larger than
 * cache_mb is decoded anew each time. Left out: nested folders, 16 bits, GIF and WebP. */
#include "base/par.h"
#include "files.h"
#include "image.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct folder_cfg {
    const char    *path;
    qt_ints        size;
    int            channels; /* 0: 1, 1: 3 */
    int64_t        classes, background, crop, cache_mb;
    bool           flip;
    const qt_yaml *mean, *std;
} folder_cfg;

static const qt_field fields[] = {
    QT_F_STR(folder_cfg, path, NULL, "folder with one folder a class, or with train/, val/, test/ of that kind"),
    QT_F_INTS(folder_cfg, size, NULL, 1, 4096, "[height, width] that images are resized to; one number: square"),
    QT_F_ENUM(folder_cfg, channels, "3", "1|3", "1: grey, 3: red, green, blue"),
    QT_F_INT(folder_cfg, classes, "-1", -1, 100000, "number of classes, so that `check` knows it; -1: count the folders"),
    QT_F_TREE(folder_cfg, mean, "~", "mean of the pixels (0..1), a number or one a channel; default 0"),
    QT_F_TREE(folder_cfg, std, "~", "standard deviation of the pixels (0..1), a number or one a channel; default 1"),
    QT_F_INT(folder_cfg, background, "0", 0, 255, "grey behind transparent images"),
    QT_F_BOOL(folder_cfg, flip, "false", "training: mirror every other image, left to right"),
    QT_F_INT(folder_cfg, crop, "0", 0, 64, "training: shift by up to so many pixels, black comes in"),
    QT_F_INT(folder_cfg, cache_mb, "1024", 0, 1000000, "most memory for decoded images, in MB"),
    {NULL}};

typedef struct folder_state {
    qt_arena   arena;
    int        classes;
    char     **class_name;
    int64_t    n[QT_SPLITS], C, H, W;
    char     **file[QT_SPLITS];
    int32_t   *label[QT_SPLITS];
    uint8_t   *pixels[QT_SPLITS], *scratch; /* [n,C,H,W], or NULL and one image of scratch */
    R          table[3][256];
    qt_augment augment;
    int        background;
} folder_state;

/* ---- options ---------------------------------------------------------------------------------------------------------------------- */

/* A number, or a list of C numbers. */
static qt_err read_reals(const qt_yaml *y, const char *name, int64_t C, double def, double least, double v[3])
{
    for (int64_t c = 0; c < C; c++) {
        const qt_yaml *item = y && y->kind == QT_YAML_LIST ? (c < y->n ? y->item[c] : NULL) : y;
        v[c] = def;
        if (!y || y->kind == QT_YAML_NULL) continue;
        if ((y->kind == QT_YAML_LIST && y->n != C) || !item || !qt_yaml_real(item, &v[c]))
            return qt_fail_at(QT_ERECIPE, y->pos, "data.%s: expected a number or a list of %lld numbers, found %s", name, (long long)C,
                              qt_yaml_kind_name(y));
        if (!(v[c] >= least && v[c] <= 255)) return qt_fail_at(QT_ERECIPE, item->pos, "data.%s: %g is not in %g..255", name, v[c], least);
    }
    return QT_OK;
}

static qt_err info_of(const void *cfg, qt_data_info *info)
{
    const folder_cfg *c = cfg;
    double            v[3];
    int64_t           C = c->channels ? 3 : 1;
    *info = (qt_data_info){.rank = 3, .dim = {C, c->size.v[0], c->size.v[c->size.n > 1]}, .classes = c->classes, .known = true};
    QT_CHECK(c->size.n <= 2, QT_ERECIPE, "data.size: expected [height, width], found %d numbers", c->size.n);
    QT_TRY(read_reals(c->mean, "mean", C, 0, -255, v));
    return read_reals(c->std, "std", C, 1, 1e-6, v);
}

/* ---- finding the files ------------------------------------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Sorted paths of the folders, or of the images, in a folder. */
static qt_err list(qt_arena *a, const char *folder, bool folders, char ***out, int *n)
{
    int            cap = 0;
    struct dirent *entry;
    DIR           *d = opendir(folder);
    qt_err         e = QT_OK;
    *out = NULL, *n = 0;
    QT_CHECK(d, QT_EIO, "%s: %s", folder, strerror(errno));
    while (e == QT_OK && (entry = readdir(d))) {
        char *path = qt_arena_sprintf(a, "%s/%s", folder, entry->d_name);
        if (!path) e = QT_EMEM;
        else if (entry->d_name[0] == '.' || (folders ? !qt_is_folder(path) : !qt_image_name(path) || !qt_is_file(path))) continue;
        else if ((e = qt_grow(out, &cap, *n + 1, sizeof **out)) == QT_OK) (*out)[(*n)++] = path;
    }
    closedir(d);
    if (*n) qsort(*out, (size_t)*n, sizeof **out, by_name);
    return e;
}

static const char *last_name(const char *path) { return strrchr(path, '/') + 1; }

static int class_of(const folder_state *st, const char *folder)
{
    for (int k = 0; k < st->classes; k++)
        if (!strcmp(last_name(st->class_name[k]), last_name(folder))) return k;
    return -1;
}

/* Adds the images of one class folder to a split. */
static qt_err add_class(folder_state *st, int s, const char *folder, int label, int cap[2])
{
    char **file;
    int    n;
    qt_err e = list(&st->arena, folder, false, &file, &n);
    if (e == QT_OK && !n) e = qt_fail(QT_EDATA, "%s: holds no .png, .jpg, .jpeg or .bmp", folder);
    if (e == QT_OK) e = qt_grow(&st->file[s], &cap[0], (int)st->n[s] + n, sizeof **st->file);
    if (e == QT_OK) e = qt_grow(&st->label[s], &cap[1], (int)st->n[s] + n, sizeof **st->label);
    for (int i = 0; e == QT_OK && i < n; i++) st->file[s][st->n[s]] = file[i], st->label[s][st->n[s]++] = label;
    qt_free(file);
    return e;
}

/* The classes are those of the training split; other splits may have some of them, and no others. */
static qt_err scan_split(folder_state *st, int s, const char *folder)
{
    char **class;
    int    n, cap[2] = {0};
    qt_err e = list(&st->arena, folder, true, &class, &n);
    if (e == QT_OK && !n) e = qt_fail(QT_EDATA, "%s: holds no folders; expected one a class", folder);
    if (s == QT_TRAIN) st->class_name = class, st->classes = n;
    for (int i = 0; e == QT_OK && i < n; i++) {
        int label = class_of(st, class[i]);
        if (label >= 0) e = add_class(st, s, class[i], label, cap);
        else e = qt_fail(QT_EDATA, "%s: the training split has no class '%s'", class[i], last_name(class[i]));
    }
    if (s != QT_TRAIN) qt_free(class);
    return e;
}

static qt_err scan(folder_state *st, const folder_cfg *c)
{
    static const char *const name[] = {"train", "val", "test"};
    const char              *folder = qt_arena_sprintf(&st->arena, "%s/train", c->path);
    if (!folder) return QT_EMEM;
    QT_CHECK(qt_is_folder(c->path), QT_EIO, "%s: no such folder (data.path of imagefolder)", c->path);
    if (!qt_is_folder(folder)) QT_TRY(scan_split(st, QT_TRAIN, c->path));
    else
        for (int s = 0; s < QT_SPLITS; s++) {
            if (!(folder = qt_arena_sprintf(&st->arena, "%s/%s", c->path, name[s]))) return QT_EMEM;
            if (qt_is_folder(folder)) QT_TRY(scan_split(st, s, folder));
        }
    QT_CHECK(c->classes < 0 || c->classes == st->classes, QT_EDATA, "%s: %d class folders, expected %lld (data.classes)", c->path, st->classes,
             (long long)c->classes);
    return QT_OK;
}

/* ---- reading them ----------------------------------------------------------------------------------------------------------------- */

static qt_err decode(const folder_state *st, int s, int64_t i, uint8_t *x)
{
    return qt_image_read(st->file[s][i], st->C, st->H, st->W, st->background, x);
}

/* Decodes a split on all threads. The message of the first damaged file is made by reading it once more here: messages belong to threads. */
static qt_err decode_split(folder_state *st, int s)
{
    int64_t image = st->C * st->H * st->W, bad = INT64_MAX;
    if (!(st->pixels[s] = qt_alloc((size_t)(st->n[s] * image)))) return QT_EMEM;
    QT_FOR_EACH(i, st->n[s], st->n[s] > 8)
    {
        if (decode(st, s, i, st->pixels[s] + i * image) == QT_OK) continue;
        qt_error_clear();
        QT_PRAGMA(omp critical(imagefolder))
        bad = qt_min_i64(bad, i);
    }
    return bad == INT64_MAX ? QT_OK : decode(st, s, bad, st->pixels[s]);
}

static qt_err load(folder_state *st, const folder_cfg *c, qt_data_info *info)
{
    double  mean[3] = {0}, std[3] = {0};
    int64_t bytes = 0;
    QT_TRY(info_of(c, info));
    st->C = info->dim[0], st->H = info->dim[1], st->W = info->dim[2], st->background = (int)c->background;
    st->augment = (qt_augment){c->flip, c->crop};
    QT_TRY(read_reals(c->mean, "mean", st->C, 0, -255, mean));
    QT_TRY(read_reals(c->std, "std", st->C, 1, 1e-6, std));
    for (int64_t k = 0; k < st->C; k++) qt_image_table(st->table[k], 255, mean[k], std[k]);
    QT_TRY(scan(st, c));
    info->classes = st->classes;
    if (!(st->scratch = qt_alloc((size_t)(st->C * st->H * st->W)))) return QT_EMEM;
    for (int s = 0; s < QT_SPLITS; s++) bytes += st->n[s] * st->C * st->H * st->W;
    for (int s = 0; s < QT_SPLITS && bytes <= c->cache_mb << 20; s++)
        if (st->n[s]) QT_TRY(decode_split(st, s));
    return QT_OK;
}

static void end(void *state)
{
    folder_state *st = state;
    for (int s = 0; s < QT_SPLITS; s++) qt_free(st->file[s]), qt_free(st->label[s]), qt_free(st->pixels[s]);
    qt_free(st->scratch);
    qt_free(st->class_name);
    qt_arena_free(&st->arena);
    qt_free(st);
}

static qt_err begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info)
{
    folder_state *st = *state = qt_alloc(sizeof *st);
    qt_err        e;
    (void)seed;
    if (!st) return QT_EMEM;
    if ((e = load(st, cfg, info)) == QT_OK) return QT_OK;
    end(st);
    *state = NULL;
    return e;
}

static int64_t size(const void *state, qt_split s) { return ((const folder_state *)state)->n[s]; }

static qt_err get(void *state, qt_split s, int64_t i, qt_rng *draw, R *x, int32_t *y, R *t)
{
    folder_state  *st    = state;
    const uint8_t *image = st->pixels[s] ? st->pixels[s] + i * st->C * st->H * st->W : st->scratch;
    (void)t;
    if (!st->pixels[s]) QT_TRY(decode(st, s, i, st->scratch));
    qt_image_put(x, image, st->C, st->H, st->W, st->table, &st->augment, draw);
    *y = st->label[s][i];
    return QT_OK;
}

const qt_dataset qt_dataset_imagefolder = {
    .d     = {"imagefolder", "your PNG, JPEG or BMP images, one folder a class", NULL, fields, sizeof(folder_cfg)},
    .info  = info_of,
    .open  = begin,
    .size  = size,
    .get   = get,
    .close = end,
    .where = "your files (path)"};
