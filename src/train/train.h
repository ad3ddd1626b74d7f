/* Recipes, runs, checkpoints, claims. */
#ifndef QT_TRAIN_TRAIN_H
#define QT_TRAIN_TRAIN_H
#include "autograd/codec.h"
#include "base/files.h"
#include "base/h5.h"
#include "base/sha256.h"
#include "dataset.h"
#include "nn/nn.h"
#include "optim/optim.h"

/* ---- expand.c: a file, its includes, an arm, overrides and variables, as one tree ---------------------------------------------- */

/* "key=value" and "~key" words of the command line. */
typedef struct qt_sets {
    int                n;
    const char *const *word;
} qt_sets;

/* The order is: included files, the file, the arm, the command line, and ${variables} last. Values of the command line have the
 * position <command line>:WORD:COLUMN. A missing file is QT_ERECIPE, and so is an include cycle.
 * *out is NULL if the files could not be read; after other errors it is the tree as far as it came. */
qt_err qt_recipe_tree(qt_arena *a, const char *file, qt_sets sets, const char *arm, qt_yaml **out);

/* ---- sweep.c: a grid of arms ------------------------------------------------------------------------------------------------------ */

enum { QT_MAX_ARMS = 1024, QT_MAX_AXES = 8 };
/* Adds an arm for each point of the section `sweep`, if there is one, whose lists of values become maps. */
qt_err qt_sweep_expand(qt_arena *a, qt_yaml *root);
/* The labels of an arm that is a point of the sweep, one an axis; false if it is none. */
bool   qt_sweep_point(const qt_yaml *sweep, const char *arm, const char *label[QT_MAX_AXES]);

/* ---- messages.c: the errors of a recipe, gathered over several readings of it ------------------------------------------------------ */

/* Gives the messages `before` (of qt_error_take) back, and after them those of now that add something: that are not among `before`, nor
 * (places) speak of a place that `before` has spoken of. An arm, if not NULL, is named at the end of each line added. */
void qt_messages_merge(char *before, bool places, const char *arm);
/* In the order of their places; those of one file stay together, those without a place come last. */
void qt_messages_sort(void);

/* ---- recipe.c: the tree as one checked struct ----------------------------------------------------------------------------------- */

typedef struct qt_train_cfg { int64_t steps, epochs, eval_every, save_every, keep, threads, log_every, eval_batch_size; } qt_train_cfg;
typedef struct qt_schedule_cfg { qt_span fake_quant_after, freeze_observers_at, freeze_bn_at, weight_decay_until; } qt_schedule_cfg;

struct qt_phase;
struct qt_stepper;
struct qt_exporter;
enum { QT_MAX_PHASES = 8, QT_MAX_EXPORTS = 8 };

/* Where a run gets its start values: another arm, a run directory or a checkpoint; all NULL: its own initialisation. */
typedef struct qt_init_cfg { const char *arm, *run, *checkpoint; } qt_init_cfg;

typedef struct qt_recipe {
    qt_arena       *arena;
    const char     *file, *name, *doc, *paper;
    const char     *arm;             /* applied to it, or NULL */
    qt_sets         sets;
    qt_yaml        *tree;            /* what resolved.yaml is made from */
    const char     *source;          /* bytes of the file as given */
    size_t          source_n;
    int64_t         seed;
    bool            engine_float;
    bool            by_epochs;       /* train.epochs was given, not train.steps */
    bool            checked;
    qt_train_cfg    train;
    qt_schedule_cfg schedule;
    qt_init_cfg     init;
    const qt_loss  *loss;            /* NULL: cross_entropy for classes, mse otherwise */
    void           *loss_cfg;
    const qt_metric *metric;         /* reported beside loss and accuracy, or NULL */
    int             n_phases;
    struct { const struct qt_phase *phase; void *cfg; qt_pos pos; } phase[QT_MAX_PHASES];
    const struct qt_stepper *stepper; /* how a batch becomes a step */
    void            *stepper_cfg;
    qt_pos           stepper_pos;
    int              n_exports;
    struct { const struct qt_exporter *exporter; void *cfg; qt_pos pos; } export[QT_MAX_EXPORTS]; /* made when the run ends */
    const qt_yaml  *model, *quant, *lora, *data, *optim, *lr_schedule, *arms, *sweep, *seeds, *claims, *scores, *memory, *regularize;
    const qt_yaml  *fallback;        /* data section to use when the files of `data` are missing, or NULL */
} qt_recipe;

/* sets: "key=value" and "~key" words of the command line, n of them. arm: name of the arm to apply, or NULL. Everything is checked,
 * qt_recipe_check included, and all errors are reported in one pass. */
qt_err qt_recipe_load(qt_arena *a, const char *file, int n_sets, const char *const *sets, const char *arm, qt_recipe **out);
/* The deep check: data info, model, quant rules, optimizer groups, claims and every arm, without touching data files. Arms are left
 * out where words of the command line change the recipe, for they need not fit every arm. Part of qt_recipe_load; costs nothing a second
 * time. */
qt_err qt_recipe_check(qt_recipe *r);
/* What resolved.yaml holds: the tree without what has been applied to it already (include, vars, arms, claims, seeds), and the data
 * section that is used, the recipe's own or its fallback. */
qt_err qt_recipe_print(FILE *f, const qt_recipe *r, const qt_yaml *data);
/* cost.c: multiply-adds of a sample, and what they cost by the bits of their operands, in multiply-adds of 16 bits. */
typedef struct qt_cost { double macs, quadratic, linear, binary; } qt_cost;
qt_cost qt_model_cost(const qt_model *m);
/* For humans: `qtape show`. */
qt_err qt_recipe_show(FILE *f, qt_recipe *r, bool cost);
/* Whether one of the phases is `train`. */
bool   qt_recipe_trains(const qt_recipe *r);
/* QT_ERECIPE if its arms with so many seeds (0: its own) are more than `most` runs. */
qt_err qt_recipe_limit(const qt_recipe *r, int seeds, int64_t most);
enum { QT_MAX_RUNS = 300 }; /* unless the user says otherwise */
/* The seeds of a recipe: its `seeds`, else its `seed`. v holds 64; the count is returned. */
int    qt_recipe_seeds(const qt_recipe *r, int64_t v[64]);

/* ---- run.c: the run directory; trainer.c: the loop ------------------------------------------------------------------------------ */

typedef enum qt_progress { QT_PROGRESS_LINES, QT_PROGRESS_LIVE, QT_PROGRESS_QUIET, QT_PROGRESS_JSON } qt_progress;

typedef struct qt_result { double loss, accuracy, metric, bits_per_weight, bytes, seconds, peak_rss_mb; int64_t n, params; bool classes, tokens; } qt_result; /* tokens: of text, n are tokens and perplexity is exp(loss) */

typedef struct qt_run {
    qt_arena     arena;
    qt_recipe   *recipe;
    const char  *dir, *arm;
    qt_store    *store;
    qt_model    *model;
    const qt_yaml *data_section;  /* recipe->data, or its fallback */
    qt_data     *data;
    qt_optimizer *optim;
    qt_lr        lr;
    qt_tape     *tape;
    qt_loader   *loader;
    const qt_loss *loss;
    void        *loss_cfg;
    int64_t      step, steps, steps_per_epoch;
    int          phase;           /* index of the running phase */
    FILE        *metrics, *log;
    int64_t      metrics_bytes;
    double       seconds;         /* of training so far, over resumes */
    double       busy;            /* of these, in training steps: without evaluation and saving */
    double       began;           /* clock when this process began to train */
    double       saved_mb;        /* what the layers kept for backward in the last step */
    void        *stepper;         /* the stepper's own state */
    qt_saved     saved;           /* what the layers kept for backward, in the step in which that was most */
    double       best;            /* best val (or test) metric so far: accuracy, or minus the loss */
    bool         has_best;
    bool         done;            /* DONE was found: nothing is left to do */
    const char  *repair;          /* why an older checkpoint than last.h5 is used, or NULL */
    bool         created;         /* this process made the directory and has not begun yet */
    qt_progress  progress;
    double       shown;           /* clock of the last progress line */
    bool         live;            /* a live line stands on the terminal */
    int          lock;            /* file descriptor of LOCK, -1 if not held */
    char       (*base)[QT_SHA256_TEXT]; /* [store->n] fingerprints of the values of the base, "" for other parameters */
    int32_t    **codes;           /* [store->n_site] codes of weight sites at the last quant event, NULL before */
    qt_tensor *(*answer)(struct qt_run *, qt_tensor *x); /* what evaluation asks instead of the model, or NULL */
    void        *answerer;        /* its own */
    volatile int *stop;           /* set by SIGINT */
    qt_result    last_eval;       /* of eval_step and eval_split, so that the final evaluation need not be run twice */
    int64_t      eval_step;
    qt_split     eval_split;
} qt_run;

typedef struct qt_phase {
    qt_desc d;
    qt_err (*run)(qt_run *, const void *cfg);
    qt_err (*check)(const qt_recipe *, int i); /* OPTIONAL: phase i of a recipe, whose sections have been read */
    qt_err (*suits)(const void *cfg, const qt_data_info *data, qt_pos pos); /* OPTIONAL: does it go with such data? */
    qt_err (*check_model)(qt_arena *a, const void *cfg, const qt_model *m); /* OPTIONAL: against the model of a recipe */
    const char *gives; /* OPTIONAL: what it measures (qt_metrics_measure), as patterns PATH.NAME with | between them */
    bool (*measures)(const void *cfg, const qt_model *m, const char *metric); /* OPTIONAL: the same where the options decide: is "PATH.NAME" measured? */
} qt_phase;
#define QT_P(name) extern const qt_phase qt_phase_##name;
#include "train/phases.def"
#undef QT_P

/* ---- step.c, step_*.c: how a batch becomes a step of the optimizer ---------------------------------------------------------------- */

typedef struct qt_outcome {
    bool   measure;            /* accuracy is wanted */
    double loss, accuracy, lr; /* of the batch; lr as scheduled */
} qt_outcome;

typedef struct qt_stepper {
    qt_desc d;
    const char *gives; /* OPTIONAL: as a phase's */
    /* OPTIONAL: before the store is sealed, and when a recipe is checked: does it suit the model? Adds what must survive a resume as
     * QT_BUFFER parameters. a keeps cfg and m. Errors at pos */
    qt_err (*make)(qt_arena *a, void *cfg, qt_model *m, qt_pos pos);
    /* OPTIONAL: once the store is sealed: scratch memory from the run's arena into *state */
    qt_err (*begin)(qt_run *r, const void *cfg, void **state);
    /* The step; factor is that of the learning rate. Fills in loss and accuracy. A warm one allocates nothing */
    qt_err (*step)(qt_run *r, const void *cfg, void *state, const qt_batch *b, double factor, qt_outcome *o);
} qt_stepper;
extern const qt_kind qt_steppers;
#define QT_STEPPER(name) extern const qt_stepper qt_stepper_##name;
#include "train/steppers.def"
#undef QT_STEPPER

/* An empty tape in training mode at the run's step. */
void   qt_step_open(qt_run *r);
/* qt_step_open, the batch through the model, its loss with the penalties: QT_EDIVERGED if it is not finite. qt_backward comes next. */
qt_err qt_step_forward(qt_run *r, const qt_batch *b, qt_tensor **out, qt_tensor **loss);
/* Loss and, where wanted, accuracy of a forward pass. */
void   qt_step_note(const qt_batch *b, const qt_tensor *out, const qt_tensor *loss, qt_outcome *o);
/* QT_EDIVERGED, saying where, unless the loss and all gradients are finite. */
qt_err qt_step_finite(qt_run *r, double loss);
/* qt_step_finite, the optimizer's step, which leaves gradients of zero, and the quantizers' guards. */
qt_err qt_step_update(qt_run *r, double factor, double loss);

/* What an export has made. */
typedef struct qt_exported {
    const char *file;
    int         layers, integers; /* layers with weights; those that compute in integers */
} qt_exported;

struct qt_snapshot;
/* A file format of deployment: src/export. */
typedef struct qt_exporter {
    qt_desc     d;
    const char *ext;     /* of its files */
    int         version; /* of the format */
    /* Exports a run as it stands, and export.json beside it. file NULL: DIR/export/NAME.EXT */
    qt_err (*run)(const struct qt_exporter *x, qt_run *r, const void *cfg, const char *file, qt_exported *out);
    /* For run: writes the file; answers a batch x [n, inputs] from it, y [n, outputs] */
    qt_err (*write)(struct qt_snapshot *s, const void *cfg, const char *file);
    qt_err (*answer)(const char *file, int64_t n, const R *x, R *y);
    /* Of a format that qtape cannot compute with, instead of answer: compares the tensors of the file with those that the forward used, bit for
     * bit, and says how many there are */
    qt_err (*compare)(struct qt_snapshot *s, const void *cfg, const char *file, int64_t *tensors);
    void   (*describe)(FILE *f, struct qt_snapshot *s, const void *cfg, const char *file); /* OPTIONAL: members of export.json in place of `tensors` */
    qt_err (*check)(const qt_recipe *r, const qt_model *m, const void *cfg, qt_pos pos); /* OPTIONAL: can such a model be exported, before it is trained? */
    bool   adapters;     /* it exports runs with adapters, as adapters */
} qt_exporter;

/* Makes the directory (refusing one that is not empty, unless force), builds everything. dir NULL: runs/NAME/ARM-sSEED. Leaves nothing
 * behind on error. */
qt_err qt_run_new(qt_recipe *r, const char *dir, const char *arm, bool force, qt_progress p, qt_run **out);
/* Opens a run directory at its newest checkpoint: needs no recipe. Changes nothing in it. */
qt_err qt_run_resume(const char *dir, qt_progress p, qt_run **out);
/* Runs the phases that are left, writes DONE. QT_ESTOPPED after SIGINT (state saved), QT_EDIVERGED on a loss that is not finite. */
qt_err qt_run_go(qt_run *r, qt_result *res);
/* Writes ckpt/last.h5 (and the kept step, if the recipe says so). */
qt_err qt_run_save(qt_run *r);
/* From now on SIGINT sets the int that is returned: give it to qt_run.stop. A second SIGINT ends the process at once. */
volatile int *qt_run_catch_sigint(void);
void   qt_run_free(qt_run *r);

/* Where quantizers and batch norm stand at a training step: fake_quant_after, the freezes. */
void   qt_run_schedule(qt_run *r, int64_t step);
double qt_clock(void); /* seconds, monotonic */

/* ---- eval.c ---------------------------------------------------------------------------------------------------------------------- */

/* Evaluates a split with the averaged weights where there are any. logits [n, outputs] and targets [n] are filled where not NULL. Of
 * text there is a row for each token that counts: res->n of them, room for all. */
qt_err qt_run_eval(qt_run *r, qt_split split, qt_result *res, R *logits, R *target);
/* The same as one event of metrics.jsonl, with one quant event a site. */
qt_err qt_run_eval_event(qt_run *r, qt_split split, qt_result *res);
/* Averaged weights and weights change places, where the optimizer keeps averages. Call it twice. True if there are any. */
bool   qt_run_swap_average(qt_run *r);
/* noise.c: one quant event a site with role grad. Parameters and sites are as before afterwards. */
qt_err qt_noise_events(qt_run *r);
/* A batch as the model's input, on the run's tape. */
qt_tensor *qt_run_input(qt_run *r, const qt_batch *b);
/* How many of a batch's targets count: all its samples, or of text those that are not QT_IGNORE. */
int64_t qt_run_counted(const qt_run *r, const qt_batch *b);
/* A batch through the model: its output, and its target as the loss wants it. The loss is what is returned. */
qt_tensor *qt_run_forward(qt_run *r, const qt_batch *b, qt_tensor **out);
/* The same from an input that stands in for the batch's own. */
qt_tensor *qt_run_forward_from(qt_run *r, const qt_batch *b, qt_tensor *x, qt_tensor **out);
/* Sum of a metric over a batch. */
double qt_run_metric(const qt_metric *m, const qt_tensor *out, const qt_batch *b);
/* Are the data text: samples of ids with a target each? */
bool   qt_run_is_text(const qt_run *r);
/* What a full batch counts as: tokens of text, otherwise samples. */
int64_t qt_run_items(const qt_run *r);
/* val if the data have it, else test, else train. */
qt_split qt_run_eval_split(const qt_run *r);
extern const char *const qt_split_name[QT_SPLITS];

/* ---- subnet.c: models whose sites hold several precisions ------------------------------------------------------------------------- */

/* Can a site of the model be switched? */
bool qt_model_elastic(const qt_model *m);
/* Switches a site to its precision nearest to p: one of its bits, or else its highest ones; then symmetry, then granularity. */
void qt_subnet_switch(qt_site *q, qt_precision p);
/* All sites at once. */
void qt_subnet_uniform(qt_run *r, qt_precision p);
typedef enum qt_subnet_bits { QT_SUBNET_HIGHEST, QT_SUBNET_ANY, QT_SUBNET_LOWEST } qt_subnet_bits;
/* Switches every site to one of its precisions, each as likely: of those with its highest bits, of all, or of those with its lowest. */
void qt_subnet_draw(qt_run *r, qt_rng *draw, qt_subnet_bits which);
/* What all sites are switched to, into p [n_site]; and back. */
void qt_subnet_keep(const qt_run *r, qt_precision *p);
void qt_subnet_restore(qt_run *r, const qt_precision *p);
/* Does work after which the model is as it was: all values, and what its sites are switched to. */
qt_err qt_subnet_aside(qt_run *r, const void *cfg, qt_err (*work)(qt_run *r, const void *cfg));
/* recalibrate_bn.c: running statistics of batch norms, the mean over training batches with the model as it is switched. */
qt_err qt_recalibrate_bn(qt_run *r, int64_t batches);

/* ---- metrics.c: metrics.jsonl ---------------------------------------------------------------------------------------------------- */

typedef struct qt_site_stats { double scale, clip_frac, zero_frac, flip_rate, sqnr_db; } qt_site_stats;

/* Noise over signal of a quantized gradient; the fields of the same names in `quant` events. */
#define QT_NOISE_FIELDS(X)                                                                                                                    \
    X(nmse_channel) X(nmse_sample) X(nmse_channel_tensor) X(nmse_sample_tensor) X(nmse_channel_exact) X(nmse_sample_exact) X(nmse_dx) X(nmse_dw) \
    X(nmse_dx_nearest) X(nmse_dw_nearest)
typedef struct qt_noise {
#define QT_X(name) double name;
    QT_NOISE_FIELDS(QT_X)
#undef QT_X
    int64_t octaves[2][QT_SHIFTQ_GROUPS]; /* channels, and samples and places, whose largest number is so many octaves below that of all */
} qt_noise;

/* What a codec of saved tensors does to one batch; the fields of the same names in `codec` events. */
#define QT_CODEC_FIELDS(X) X(grad_error) X(mse) X(mse_products) X(logits_differ)
typedef struct qt_codec_stats {
#define QT_X(name) double name;
    QT_CODEC_FIELDS(QT_X)
#undef QT_X
} qt_codec_stats;

qt_err qt_metrics_open(qt_run *r); /* cut to metrics_bytes, which is 0 in a new run */
qt_err qt_metrics_sync(qt_run *r); /* on the disk, metrics_bytes brought up to date */
void   qt_metrics_step(qt_run *r, double loss, const double *accuracy, double lr, double items_per_s);
void   qt_metrics_eval(qt_run *r, const char *event, qt_split split, const qt_result *res, double items_per_s);
void   qt_metrics_quant(qt_run *r, const qt_site *q, const qt_site_stats *s);
void   qt_metrics_noise(qt_run *r, const qt_site *q, const qt_site_stats *s, const qt_noise *n); /* of a grad site */
void   qt_metrics_codec(qt_run *r, const char *name, const qt_codec_stats *s);
/* Event `measure`: n numbers by name about path; claims speak of them as measure.PATH.NAME. The last event of a path counts. */
void   qt_metrics_measure(qt_run *r, const char *path, int n, const char *const *name, const double *v);
/* Loss of the first `step` event; NaN if there is none. */
qt_err qt_metrics_first_loss(qt_arena *a, const char *dir, double *loss);
/* Last event of a kind ("final", "eval", "quant" with its path) of a run directory, as a tree; NULL if there is none. */
qt_err qt_metrics_last(qt_arena *a, const char *dir, const char *event, const char *path, const qt_yaml **out);
/* Mean of `loss` over the `step` events of the last epoch of a run; NaN if there are none. train.log_every: 1 makes it the mean of all. */
qt_err qt_metrics_train_loss(qt_arena *a, const char *dir, double *mean);
double qt_peak_rss_mb(void);

/* ---- measure.c: `measure` events about layers -------------------------------------------------------------------------------------- */

/* n numbers whose names begin with a layer's path ("blk.0.conv1", "conv1_max"): claims speak of them as measure.WHAT.NAME. */
qt_err qt_measure_layers(qt_run *r, const char *what, int n, const char *const *name, const double *v);
/* The terms of the `regularize` section, on the averaged weights where there are any; and is "NAME.LAYER" or "NAME.total" one of them? */
qt_err qt_measure_terms(qt_run *r);
bool   qt_term_measures(const qt_model *m, const char *metric);

/* ---- progress.c: stderr and log.txt ---------------------------------------------------------------------------------------------- */

void qt_run_log(qt_run *r, const char *fmt, ...) QT_PRINTF(2, 3);
void qt_progress_step(qt_run *r, double loss, const double *accuracy, double lr, double items_per_s);
void qt_progress_end(qt_run *r); /* leaves the live line */

/* ---- env.c ----------------------------------------------------------------------------------------------------------------------- */

qt_err qt_env_write(const qt_run *r, const char *file);

/* ---- ckpt.c ---------------------------------------------------------------------------------------------------------------------- */

/* A checkpoint is HDF5 behind a 512-byte user block that carries a CRC-32 of the rest: it is checked before libhdf5 sees the file. */
qt_err qt_ckpt_save(const qt_run *r, const char *file);
/* The model without its adapters, values only: for `init` of recipes without a lora section. */
qt_err qt_ckpt_save_merged(const qt_run *r, const char *file);
/* Exact match: missing, unexpected and mis-shaped tensors are listed, and nothing is changed. */
qt_err qt_ckpt_load(qt_run *r, const char *file);
/* Values only, for `init`: every parameter of the model must be there; quantizer state may be new. */
qt_err qt_ckpt_init(qt_run *r, const char *file);
/* QT_EDATA if the file is no whole checkpoint. */
qt_err qt_ckpt_verify(const char *file);

/* ---- adapter.c: the frozen base of adapters ---------------------------------------------------------------------------------------- */

/* Gives all frozen parameters of the base their values, from the checkpoint f or (NULL) their initialisation: takes their fingerprints, packs
 * quantized weights. */
qt_err qt_base_load(qt_run *r, qt_h5 *f);
/* Fingerprints into a checkpoint, and the comparison: QT_EDATA naming the tensors that differ. */
qt_err qt_base_write(qt_h5 *f, const qt_run *r);
qt_err qt_base_check(qt_h5 *f, const qt_run *r, const char *file);
/* All values but those of adapters, frozen weights as the numbers that their codes stand for. */
qt_err qt_base_write_merged(qt_h5 *f, const qt_run *r);
/* Merges once more what the phases that a loaded run has behind it have merged: checkpoints hold adapters and not the merged base. */
qt_err qt_base_merge_again(qt_run *r);

/* ---- seal.c: the checksum in front of qtape's own HDF5 files ------------------------------------------------------------------------ */

typedef struct qt_seal {
    const char *magic, *what, *made; /* "QTAPE-CKPT", "checkpoint", "saved" */
    int         version;             /* of the format that this qtape writes, and the newest one that it reads */
} qt_seal;
qt_err qt_seal_write(const qt_seal *s, const char *file);
/* QT_EDATA if the file is damaged, no such file, or of a newer version. */
qt_err qt_seal_verify(const qt_seal *s, const char *file);

/* ---- claims.c, reproduce.c: arms x seeds x claims ----------------------------------------------------------------------------------- */

/* One number a claim speaks of, over the seeds. */
typedef struct qt_sample { int n; double v[64]; } qt_sample;
/* Fills in the values of a metric of an arm, one a seed. */
typedef qt_err (*qt_lookup)(void *arg, const char *arm, const char *metric, qt_sample *s);
typedef struct qt_verdict { bool pass; char text[512]; } qt_verdict;

/* Syntax and references of the claims section. */
qt_err qt_claims_check(const qt_recipe *r);
/* Of claims that are right otherwise: does the model of this recipe's arm have the quantizers they speak of, and the data the metrics? */
qt_err qt_claims_check_sites(const qt_recipe *r, const qt_model *m, bool text);
/* Judges claim i. */
qt_err qt_claim_judge(const qt_recipe *r, int i, qt_lookup lookup, void *arg, qt_verdict *v);
/* scores.c: the `scores` section, and its table for arms that have been run. */
qt_err qt_scores_check(const qt_recipe *r);
qt_err qt_scores_print(FILE *f, const qt_recipe *r, qt_lookup lookup, void *arg);
const char *qt_claim_say(const qt_recipe *r, int i);
double qt_sample_mean(const qt_sample *s);
double qt_sample_sd(const qt_sample *s); /* with n - 1; 0 for one value */

/* threads 0: what each recipe says. stop as in qt_run. */
typedef struct qt_reproduce_opts {
    const char   *run_root, *tag;
    int           n_seeds;
    int64_t       seeds[64];
    qt_progress   progress;
    int           threads;
    int64_t       max_runs; /* a recipe of more is refused */
    volatile int *stop;
} qt_reproduce_opts;
qt_err qt_reproduce(const char *recipe, const qt_reproduce_opts *o, FILE *out);
#endif
