/* Fashion-MNIST: 70,000 grey images of garments, 28 x 28, 10 classes (T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker,
 * bag, ankle boot), 60,000 for training. Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
 * algorithms", 2017. Debian packages the original four files as dataset-fashion-mnist; fetch installs that package as root, and
 * otherwise unpacks it into the user's data folder. */
#include "files.h"
#include "idx.h"
#include <unistd.h>

#define PACKAGE "dataset-fashion-mnist"
#define SYSTEM "/usr/share/datasets/fashion-mnist"

static const qt_idx_set set = {.name = "fashion-mnist", .system = SYSTEM, .mean = 0.2860405969887955, .std = 0.3530242445149226,
                               .crc = {0xb4f29f28, 0x741a4657, 0x678fe0b1, 0x80142c1f}};

static qt_err      begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info) { (void)seed; return qt_idx_open(&set, cfg, state, info); }
static const char *find(qt_arena *a, const void *cfg) { return qt_idx_find(a, &set, cfg); }

static const char *const package[] = {PACKAGE, NULL};

static qt_err unpack(const char *folder, const void *arg)
{
    char at[4096];
    (void)arg;
    QT_TRY(qt_apt_unpack(folder, package));
    snprintf(at, sizeof at, "%s" SYSTEM, folder);
    return qt_idx_install(&set, at);
}

static qt_err fetch(const void *cfg)
{
    (void)cfg;
    if (qt_is_folder(SYSTEM) && qt_idx_verify(&set, SYSTEM) == QT_OK) return QT_OK;
    qt_error_clear();
    QT_CHECK(qt_has_program("apt-get"), QT_EIO,
             "fashion-mnist comes from the Debian package " PACKAGE
             ", and there is no apt-get here; put its four .gz files into $QTAPE_DATA/fashion-mnist");
    if (geteuid() != 0) return qt_in_fetch_folder(set.name, unpack, NULL);
    QT_TRY(qt_apt_install(package));
    return qt_idx_verify(&set, SYSTEM);
}

const qt_dataset qt_dataset_fashion_mnist = {
    .d     = {"fashion-mnist", "70,000 grey images of garments, 28 x 28, 10 classes", "Xiao, Rasul, Vollgraf, 2017", qt_idx_fields,
              sizeof(qt_idx_cfg)},
    .info  = qt_idx_info,
    .open  = begin,
    .size  = qt_idx_size,
    .get   = qt_idx_get,
    .close = qt_idx_close,
    .fetch = fetch,
    .find  = find,
    .where = "Debian package " PACKAGE " (MIT)"};
