/* Data sets: decode, split, fetch a sample. Sees tensors only as plain arrays. A sample is given by (split, index, draw), where draw is
 * the random stream for augmentation, so that what is loaded depends on the recipe's seed and the position only. */
#ifndef QT_DATASETS_DATASET_H
#define QT_DATASETS_DATASET_H
#include "base/desc.h"
#include "base/mem.h"
#include "base/rng.h"

typedef qt_real R;
enum { QT_IGNORE = -100 }; /* a target that does not count */
typedef enum qt_split { QT_TRAIN, QT_VAL, QT_TEST, QT_SPLITS } qt_split;

/* Shape of one sample (without the batch), and what the target is. Known before the data is read where possible. */
typedef struct qt_data_info {
    int     rank;
    int64_t dim[QT_MAX_DIM - 1]; /* images: C, H, W */
    int64_t classes;             /* 0: regression; -1: not known before the data is read */
    int64_t target_n;            /* regression: numbers a target */
    int64_t ids;                 /* 0: a sample is numbers. Otherwise it is dim[0] ids below this, and each has a target of its own: text.
                                    classes is the same number then */
    bool    known;               /* the shape is certain without reading data */
} qt_data_info;

typedef struct qt_dataset {
    qt_desc  d;
    qt_err (*info)(const void *cfg, qt_data_info *info);                    /* REQUIRED: touches no file */
    qt_err (*open)(const void *cfg, uint64_t seed, void **state, qt_data_info *info); /* REQUIRED: reads or maps; fills info whole */
    int64_t (*size)(const void *state, qt_split s);                         /* REQUIRED: 0 if the split does not exist */
    /* REQUIRED: sample i of a split: x[product of dim], and *y (class) or t[target_n]. draw NULL: no augmentation. Called from one
     * thread at a time, not the trainer's. */
    qt_err (*get)(void *state, qt_split s, int64_t i, qt_rng *draw, R *x, int32_t *y, R *t);
    /* REQUIRED where info.ids, instead of get: x[dim[0]] ids and the target y[dim[0]] of each, QT_IGNORE where none counts */
    qt_err (*tokens)(void *state, qt_split s, int64_t i, qt_rng *draw, int32_t *x, int32_t *y);
    int64_t (*domains)(const void *state);                                   /* OPTIONAL: training sample i is of domain i mod so many */
    void   (*close)(void *state);
    qt_err (*fetch)(const void *cfg);                                        /* OPTIONAL: `qtape data get NAME` */
    const char *(*find)(qt_arena *a, const void *cfg);                       /* OPTIONAL: folder that holds the files, NULL if there is none */
    const char *where;                                                      /* where the data comes from, with its licence, one line */
} qt_dataset;

#define QT_D(name) extern const qt_dataset qt_dataset_##name;
#include "datasets.def"
#undef QT_D

/* ---- the loader: batches in a fixed order, made ahead of the training on a thread of its own ------------------------------------ */

typedef struct qt_loader qt_loader;
typedef struct qt_batch {
    int64_t n;      /* samples: batch_size, fewer in a last batch of an evaluation pass */
    R      *x;      /* [n, dim...], or NULL */
    int32_t *ids;   /* [n, dim[0]] where the data are ids, or NULL */
    int32_t *y;     /* [n] class ids, where the data are ids [n, dim[0]], or NULL */
    R      *t;      /* [n, target_n], or NULL */
} qt_batch;

/* An opened `data` section. It is {use: NAME, batch_size: 64, ...} or {train: {use, split: "train[:90%]", ...}, val: {...}, test: {...},
 * batch_size: 64}. Split expressions: "train", "train[:90%]", "train[1000:2000]", "test[-10%:]". Beside one `use`, train, val and test
 * may be split expressions of that set: {use: NAME, train: "train[:90%]", val: "train[90%:]"}. */
typedef struct qt_data qt_data;
/* Reads the section only (for `check`): which data sets, info; errors with positions. */
qt_err   qt_data_read(qt_arena *a, const qt_yaml *section, qt_data **out);
const qt_data_info *qt_data_info_of(const qt_data *d);
int64_t  qt_data_batch_size(const qt_data *d);
/* Opens the files. A missing file is QT_EIO with the `qtape data get` line that mends it. */
qt_err   qt_data_open(qt_data *d, uint64_t seed);
int64_t  qt_data_size(const qt_data *d, qt_split s);
/* Domains of the training data; 1 where a set knows none. */
int64_t  qt_data_domains(const qt_data *d);
/* Sample i of a split of the section, as qt_dataset.get; may be called from several threads. */
qt_err   qt_data_get(qt_data *d, qt_split s, int64_t i, qt_rng *draw, R *x, int32_t *y, R *t);
qt_err   qt_data_tokens(qt_data *d, qt_split s, int64_t i, qt_rng *draw, int32_t *x, int32_t *y);
void     qt_data_close(qt_data *d);

/* Training order: epoch e is a permutation drawn from stream "data/epoch/e", within each domain where there are several, so that n samples in a
 * row hold equal shares of n domains; incomplete last batches are dropped (unless the split is smaller than a batch). Starts at batch `start` counted over all epochs, so a resumed run continues where it was. */
qt_err   qt_loader_train(qt_data *d, uint64_t seed, int64_t start, qt_loader **out);
/* One pass over a split in order, all samples, no augmentation. */
qt_err   qt_loader_eval(qt_data *d, qt_split s, int64_t batch_size, qt_loader **out);
/* The next batch, valid until the next call; *b = NULL at the end of an evaluation pass. */
qt_err   qt_loader_next(qt_loader *l, const qt_batch **b);
void     qt_loader_free(qt_loader *l);
int64_t  qt_loader_batches_per_epoch(const qt_data *d);
/* Folder of fetched data: $QTAPE_DATA, or $XDG_CACHE_HOME/qtape, or ~/.cache/qtape. In the arena. */
const char *qt_data_dir(qt_arena *a);
#endif
