/* Clouds of points, one a class: centre c is drawn from N(0, spread^2) in each coordinate (stream data/blobs/centres), sample i of class
 * i mod K is its centre plus N(0, noise^2) (streams data/blobs/train and data/blobs/test). */
#include "table.h"

typedef struct blobs_cfg {
    int64_t n, n_test, classes, features, seed;
    double  spread, noise;
} blobs_cfg;

static const qt_field fields[] = {
    QT_F_INT(blobs_cfg, n, "1000", 1, 10000000, "training samples"),
    QT_F_INT(blobs_cfg, n_test, "500", 1, 10000000, "test samples"),
    QT_F_INT(blobs_cfg, classes, "4", 2, 1000, "clouds"),
    QT_F_INT(blobs_cfg, features, "2", 1, 10000, "coordinates of a point"),
    QT_F_REAL(blobs_cfg, spread, "4", 0, 1e6, "standard deviation of the centres"),
    QT_F_REAL(blobs_cfg, noise, "1", 0, 1e6, "standard deviation of the points about their centre"),
    QT_F_INT(blobs_cfg, seed, "0", 0, 9007199254740992, "seed of the samples; the recipe's seed does not change them"),
    {NULL}};

static qt_err info_of(const void *cfg, qt_data_info *info)
{
    const blobs_cfg *c = cfg;
    *info = (qt_data_info){.rank = 1, .dim = {c->features}, .classes = c->classes, .known = true};
    return QT_OK;
}

/* Coordinate k of centre y is normal number y * features + k of its stream: two draws each. */
static void draw_split(const blobs_cfg *c, qt_table *b, qt_split s, qt_rng r)
{
    for (int64_t i = 0; i < b->n[s]; i++) {
        int64_t y       = i % c->classes;
        qt_rng  centres = qt_rng_named((uint64_t)c->seed, "data/blobs/centres");
        centres.at      = (uint64_t)(2 * y * c->features);
        for (int64_t k = 0; k < c->features; k++)
            b->x[s][i * c->features + k] = (R)(c->spread * qt_rng_normal(&centres) + c->noise * qt_rng_normal(&r));
        b->y[s][i] = (int32_t)y;
    }
}

static qt_err begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info)
{
    const blobs_cfg *c = cfg;
    qt_table        *b;
    (void)seed;
    QT_TRY(info_of(cfg, info));
    QT_TRY(qt_table_new(c->features, 0, c->n, c->n_test, "blobs", &b));
    draw_split(c, b, QT_TRAIN, qt_rng_named((uint64_t)c->seed, "data/blobs/train"));
    draw_split(c, b, QT_TEST, qt_rng_named((uint64_t)c->seed, "data/blobs/test"));
    *state = b;
    return QT_OK;
}

const qt_dataset qt_dataset_blobs = {
    .d     = {"blobs", "clouds of points, one a class (synthetic)", NULL, fields, sizeof(blobs_cfg)},
    .info  = info_of,
    .open  = begin,
    .size  = qt_table_size,
    .get   = qt_table_get,
    .close = qt_table_close,
    .where = "made by qtape"};
