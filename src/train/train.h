/* Recipes, runs, checkpoints, claims. */
#ifndef QT_TRAIN_TRAIN_H
#define QT_TRAIN_TRAIN_H
#include "dataset.h"
#include "nn/nn.h"
#include "optim/optim.h"

/* ---- recipe.c: a file, its includes, variables and overrides, as one checked struct ------------------------------------------- */

typedef struct qt_train_cfg { int64_t steps, epochs, eval_every, save_every, keep, threads, log_every, eval_batch_size, quant_every; } qt_train_cfg;
typedef struct qt_schedule_cfg { qt_span fake_quant_after, freeze_observers_at, freeze_bn_at; } qt_schedule_cfg;

typedef struct qt_recipe {
    qt_arena       *arena;
    const char     *file, *name, *doc, *paper;
    qt_yaml        *tree;            /* merged, variables replaced, overrides and arm applied: what resolved.yaml holds */
    const char     *source;          /* bytes of the file as given */
    size_t          source_n;
    int64_t         seed;
    bool            engine_float;
    qt_train_cfg    train;
    qt_schedule_cfg schedule;
    const qt_loss  *loss;            /* NULL: cross_entropy for classes, mse otherwise */
    void           *loss_cfg;
    const qt_yaml  *model, *quant, *data, *optim, *lr_schedule, *arms, *seeds, *claims, *phases, *init;
} qt_recipe;

/* sets: "key=value" and "~key" words of the command line, n of them. arm: name of the arm to apply, or NULL. Syntax, unknown keys,
 * types and bounds of every section are checked; all errors in one pass. */
qt_err qt_recipe_load(qt_arena *a, const char *file, int n_sets, const char *const *sets, const char *arm, qt_recipe **out);
/* The deep check of `qtape check` and of every run before step 0: builds data info, model, quant rules, optimizer groups, claims and
 * every arm, without touching data files. */
qt_err qt_recipe_check(qt_recipe *r);
/* For humans: `qtape show`. */
qt_err qt_recipe_show(FILE *f, qt_recipe *r, bool cost);

/* ---- run.c: the run directory; trainer.c: the loop ------------------------------------------------------------------------------ */

typedef enum qt_progress { QT_PROGRESS_LINES, QT_PROGRESS_LIVE, QT_PROGRESS_QUIET, QT_PROGRESS_JSON } qt_progress;

typedef struct qt_run {
    qt_arena     arena;
    qt_recipe   *recipe;
    const char  *dir, *arm;
    qt_store    *store;
    qt_model    *model;
    qt_data     *data;
    qt_optimizer *optim;
    qt_lr        lr;
    qt_tape     *tape;
    qt_loader   *loader;
    const qt_loss *loss;
    void        *loss_cfg;
    int64_t      step, steps, steps_per_epoch;
    int          phase;           /* index of the running phase */
    FILE        *metrics;
    int64_t      metrics_bytes;
    double       seconds;         /* of training so far, over resumes */
    double       best;            /* best val (or test) metric so far */
    qt_progress  progress;
    volatile int *stop;           /* set by SIGINT */
} qt_run;

typedef struct qt_result { double loss, accuracy, bits_per_weight, bytes, seconds, peak_rss_mb; int64_t n, params; bool classes; } qt_result;

typedef struct qt_phase {
    qt_desc d;
    qt_err (*run)(qt_run *, const void *cfg);
} qt_phase;
#define QT_P(name) extern const qt_phase qt_phase_##name;
#include "train/phases.def"
#undef QT_P

/* Makes the directory (refusing one that is not empty, unless force), builds everything. Leaves nothing behind on error. */
qt_err qt_run_new(qt_recipe *r, const char *dir, const char *arm, bool force, qt_progress p, qt_run **out);
/* Opens a run directory at its newest checkpoint: needs no recipe. */
qt_err qt_run_resume(const char *dir, qt_progress p, qt_run **out);
/* Runs the phases that are left, writes DONE. QT_ESTOPPED after SIGINT (state saved), QT_EDIVERGED on a loss that is not finite. */
qt_err qt_run_go(qt_run *r, qt_result *res);
/* Evaluates a split. logits [n, classes] and targets [n] are filled where not NULL. */
qt_err qt_run_eval(qt_run *r, qt_split split, qt_result *res, R *logits, R *target);
void   qt_run_free(qt_run *r);

/* ---- ckpt.c ---------------------------------------------------------------------------------------------------------------------- */

/* A checkpoint is HDF5 behind a 512-byte user block that carries a CRC-32 of the rest: it is checked before libhdf5 sees the file. */
qt_err qt_ckpt_save(const qt_run *r, const char *file);
/* Exact match: missing, unexpected and mis-shaped tensors are listed, and nothing is changed. */
qt_err qt_ckpt_load(qt_run *r, const char *file);
/* Values only, for `init`: every parameter of the model must be there; quantizer state may be new. */
qt_err qt_ckpt_init(qt_run *r, const char *file);

/* ---- claims.c: arms x seeds x claims ------------------------------------------------------------------------------------------- */

typedef struct qt_reproduce_opts { const char *run_root, *tag; int n_seeds; int64_t seeds[64]; qt_progress progress; } qt_reproduce_opts;
qt_err qt_reproduce(const char *recipe, const qt_reproduce_opts *o, FILE *out);
/* Syntax and references of the claims section. */
qt_err qt_claims_check(qt_recipe *r);
#endif
