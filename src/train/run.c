/* Runs and their directories. A run is built whole (recipe, data, model, optimizer, start values) before its directory is made, so a
 * command that is refused leaves nothing behind. In the directory, everything is written under a temporary name and renamed; DONE is
 * written last. While a process trains, it holds a lock on LOCK, which holds its process id. */
#include "train/train.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *file_in(qt_run *r, const char *name)
{
    const char *path = qt_arena_sprintf(&r->arena, "%s/%s", r->dir, name);
    return path ? path : "";
}

/* ---- SIGINT ---------------------------------------------------------------------------------------------------------------- */

static volatile int interrupted;

static void on_sigint(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

volatile int *qt_run_catch_sigint(void)
{
    struct sigaction a = {.sa_handler = on_sigint, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
    sigaction(SIGINT, &a, NULL);
    return &interrupted;
}

/* ---- building -------------------------------------------------------------------------------------------------------------- */

static qt_err open_data(qt_run *r)
{
    qt_recipe *rc = r->recipe;
    qt_err     e;
    r->data_section = rc->data;
    QT_TRY(qt_data_read(&r->arena, rc->data, &r->data));
    e = qt_data_open(r->data, (uint64_t)rc->seed);
    if (e != QT_EIO || !rc->fallback) return e;
    const qt_yaml *want = qt_yaml_get(rc->data, "use"), *got = qt_yaml_get(rc->fallback, "use");
    char          *why = qt_error_take();
    qt_run_log(r, "%s  warning: %s", r->arm, why ? why : "the data are missing");
    qt_run_log(r, "%s  warning: training on '%s' instead of '%s' (data.fallback)", r->arm, got ? got->text : "?", want ? want->text : "?");
    qt_free(why);
    qt_data_close(r->data), r->data = NULL;
    r->data_section = rc->fallback;
    QT_TRY(qt_data_read(&r->arena, rc->fallback, &r->data));
    return qt_data_open(r->data, (uint64_t)rc->seed);
}

static qt_err build(qt_run *r)
{
    qt_recipe *rc = r->recipe;
    QT_TRY(open_data(r));
    const qt_data_info *info = qt_data_info_of(r->data);
    qt_shape            in = {.rank = info->rank, .ids = info->ids};
    memcpy(in.dim, info->dim, sizeof in.dim);
    if (!rc->train.eval_batch_size) rc->train.eval_batch_size = info->ids ? qt_data_batch_size(r->data) : 256;
    if (!(r->store = qt_store_new((uint64_t)rc->seed))) return QT_EMEM;
    QT_TRY(qt_model_build(&r->arena, r->store, rc->model, rc->quant, in, info->classes, &r->model));
    QT_TRY(qt_lora_apply(&r->arena, rc->lora, r->model));
    QT_TRY(qt_memory_build(&r->arena, rc->memory, r->model));
    QT_TRY(qt_regularize_build(&r->arena, rc->regularize, r->model));
    if (rc->stepper->make) QT_TRY(rc->stepper->make(&r->arena, rc->stepper_cfg, r->model, rc->stepper_pos));
    QT_TRY(qt_optimizer_make(&r->arena, r->store, rc->optim, &r->optim));
    QT_TRY(qt_lr_make(&r->arena, rc->lr_schedule, &r->lr));
    QT_TRY(qt_store_seal(r->store, qt_optimizer_slots(r->optim)));
    if (rc->stepper->begin) QT_TRY(rc->stepper->begin(r, rc->stepper_cfg, &r->stepper));
    if (!(r->tape = qt_tape_new())) return QT_EMEM;
    qt_tape_simulate(r->tape, r->recipe->engine_float);
    r->tape->thrifty = r->model->thrifty;
    r->tape->seed = (uint64_t)rc->seed;
    r->loss = rc->loss, r->loss_cfg = rc->loss_cfg;
    if (!r->loss) {
        const qt_desc *d;
        qt_yaml       *y = qt_yaml_scalar(&r->arena, info->classes ? "cross_entropy" : "mse", (qt_pos){0});
        if (!y) return QT_EMEM;
        QT_TRY(qt_desc_read(&r->arena, &qt_losses, y, "loss", NULL, &d, &r->loss_cfg));
        r->loss = (const qt_loss *)d;
    }
    QT_CHECK(r->loss->classes == (info->classes != 0), QT_ERECIPE, "loss: %s does not fit the targets of the data set", r->loss->d.name);
    r->steps_per_epoch = qt_loader_batches_per_epoch(r->data);
    r->steps = !qt_recipe_trains(rc) ? 0 : rc->by_epochs ? rc->train.epochs * r->steps_per_epoch : rc->train.steps;
    r->codes = qt_arena_zalloc(&r->arena, (size_t)(r->store->n_site + 1) * sizeof *r->codes);
    r->base = qt_arena_zalloc(&r->arena, (size_t)r->store->n * sizeof *r->base + 1);
    return r->codes && r->base ? QT_OK : QT_EMEM;
}

void qt_run_schedule(qt_run *r, int64_t step)
{
    const qt_schedule_cfg *c = &r->recipe->schedule;
    int64_t                quant = qt_span_step(c->fake_quant_after, r->steps), bn = qt_span_step(c->freeze_bn_at, r->steps);
    int64_t                until = qt_span_step(c->weight_decay_until, r->steps), epoch = r->steps_per_epoch ? r->steps_per_epoch : 1;
    for (int i = 0; i < r->store->n_site; i++) {
        qt_site *q = r->store->site[i];
        int64_t  freeze = qt_span_step(q->freeze_at.set ? q->freeze_at : c->freeze_observers_at, r->steps);
        q->enabled = step >= quant;
        q->observing = freeze < 0 || step < freeze;
        q->epoch = step / epoch, q->epochs = (r->steps + epoch - 1) / epoch;
    }
    for (int i = 0; i < r->model->n; i++) r->model->m[i].frozen_stats = bn >= 0 && step >= bn;
    if (r->optim) qt_optimizer_decays(r->optim, until < 0 || step < until);
}

static qt_run *run_alloc(qt_recipe *rc, const char *arm, qt_progress p)
{
    qt_run *r = qt_alloc(sizeof *r);
    if (!r) return NULL;
    r->recipe = rc, r->progress = p, r->lock = -1, r->eval_step = -1;
    r->arm = qt_arena_strdup(&r->arena, arm ? arm : "base");
    return r;
}

/* ---- start values ---------------------------------------------------------------------------------------------------------- */

/* The checkpoint that `init` names; an arm's lies in the directory beside ours, or where train would have put it. */
static qt_err init_file(qt_run *r, const char **file)
{
    const qt_init_cfg *c = &r->recipe->init;
    const char        *slash = strrchr(r->dir, '/');
    int64_t            seed = r->recipe->seed;
    qt_arena          *a = &r->arena;
    if (c->checkpoint) *file = c->checkpoint;
    else if (c->run) *file = qt_arena_sprintf(a, "%s/ckpt/last.h5", c->run);
    else {
        *file =
            qt_arena_sprintf(a, "%.*s%s%s-s%lld/ckpt/last.h5", slash ? (int)(slash - r->dir) : 0, r->dir, slash ? "/" : "", c->arm, (long long)seed);
        if (*file && !qt_file_exists(*file)) *file = qt_arena_sprintf(a, "runs/%s/%s-s%lld/ckpt/last.h5", r->recipe->name, c->arm, (long long)seed);
    }
    if (!*file) return QT_EMEM;
    if (qt_file_exists(*file)) return QT_OK;
    if (c->arm)
        QT_FAIL(QT_EIO, "init: there is no checkpoint of arm '%s' (%s); train it first: qtape train %s --arm %s", c->arm, *file, r->recipe->file,
                c->arm);
    QT_FAIL(QT_EIO, "init: there is no checkpoint %s", *file);
}

static qt_err start_values(qt_run *r)
{
    const qt_init_cfg *c = &r->recipe->init;
    const char        *file;
    if (c->arm || c->run || c->checkpoint) {
        QT_TRY(init_file(r, &file));
        return qt_ckpt_init(r, file);
    }
    if (!r->recipe->lora) return QT_OK;
    qt_run_log(r, "%s  warning: lora without init: the frozen base has random weights", r->arm);
    return qt_base_load(r, NULL);
}

/* ---- the directory --------------------------------------------------------------------------------------------------------- */

static bool folder_empty(const char *dir)
{
    DIR *d = opendir(dir);
    bool empty = true;
    for (struct dirent *e; d && (e = readdir(d));) empty &= !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
    if (d) closedir(d);
    return empty;
}

static bool is_file(int fd, const char *file)
{
    struct stat a, b;
    return !fstat(fd, &a) && !stat(file, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* Takes the lock, or says who has it. The folder must exist. Who had it may have removed the file since it was opened here: then anew. */
static qt_err take_lock(qt_run *r)
{
    const char *file = file_in(r, "LOCK");
    char        pid[32] = "";
    int         fd = -1;
    if (r->lock >= 0) return QT_OK;
    do {
        if (fd >= 0) close(fd);
        fd = open(file, O_RDWR | O_CREAT, 0666);
        if (fd < 0) QT_FAIL(QT_EIO, "%s: cannot write: %s", file, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB)) {
            ssize_t n = read(fd, pid, sizeof pid - 1);
            close(fd);
            pid[n > 0 ? strcspn(pid, "\n") : 0] = 0;
            QT_FAIL(QT_EIO, "%s: run directory in use by process %s", r->dir, *pid ? pid : "unknown");
        }
    } while (!is_file(fd, file));
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) || write(fd, pid, (size_t)n) != n) {
        qt_fail(QT_EIO, "%s: cannot write: %s", file, strerror(errno));
        unlink(file), close(fd);
        return QT_EIO;
    }
    r->lock = fd;
    return QT_OK;
}

static void drop_lock(qt_run *r)
{
    if (r->lock < 0) return;
    unlink(file_in(r, "LOCK"));
    close(r->lock);
    r->lock = -1;
}

/* Removes the plain files of a folder whose names end so. */
static void remove_files(const char *dir, const char *end)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        size_t n = strlen(e->d_name), m = strlen(end);
        char   file[4400];
        if (n < m || strcmp(e->d_name + n - m, end)) continue;
        snprintf(file, sizeof file, "%s/%s", dir, e->d_name);
        unlink(file);
    }
    if (d) closedir(d);
}

/* Removes what qtape itself has put there. */
static void empty_folder(qt_run *r)
{
    static const char *const own[] = {"DONE", "recipe.yaml", "resolved.yaml", "env.json", "metrics.jsonl", "log.txt", "sample.txt", "report.html"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) unlink(file_in(r, own[i]));
    remove_files(file_in(r, "ckpt"), ".h5");
    remove_files(file_in(r, "ckpt"), ".part");
    remove_files(file_in(r, "export"), "");
    rmdir(file_in(r, "ckpt")), rmdir(file_in(r, "export"));
}

static qt_err write_resolved(qt_run *r)
{
    char  *text = NULL;
    size_t n = 0;
    FILE  *f;
    qt_err e;
    if (!(f = open_memstream(&text, &n))) return qt_fail(QT_EMEM, "out of memory");
    e = qt_recipe_print(f, r->recipe, r->data_section);
    e = qt_stream_close(e, f, &text);
    if (e == QT_OK) e = qt_file_write(file_in(r, "resolved.yaml"), text, n);
    free(text);
    return e;
}

static qt_err refuse_folder(qt_run *r)
{
    drop_lock(r);
    QT_FAIL(QT_EUSAGE, "%s: run directory is not empty; go on with `qtape resume %s`, or begin anew with --force", r->dir, r->dir);
}

/* Makes or takes over the directory. Another process may have been faster and be done already: the lock alone does not tell. */
static qt_err claim_folder(qt_run *r, bool force)
{
    struct stat st;
    bool        there = stat(r->dir, &st) == 0;
    if (there && !S_ISDIR(st.st_mode)) QT_FAIL(QT_EUSAGE, "%s: is not a folder", r->dir);
    if (there && !folder_empty(r->dir)) {
        if (qt_file_exists(file_in(r, "LOCK"))) QT_TRY(take_lock(r));
        if (!force) return refuse_folder(r);
    }
    r->created = !there;
    QT_TRY(qt_folder_make(r->dir));
    QT_TRY(take_lock(r));
    if (!force && qt_file_exists(file_in(r, "resolved.yaml"))) return refuse_folder(r);
    if (there) empty_folder(r);
    return QT_OK;
}

static qt_err write_folder(qt_run *r)
{
    QT_TRY(qt_folder_make(file_in(r, "ckpt")));
    QT_TRY(qt_file_write(file_in(r, "recipe.yaml"), r->recipe->source, r->recipe->source_n));
    QT_TRY(write_resolved(r));
    return qt_ckpt_save(r, file_in(r, "ckpt/last.h5"));
}

/* After an error in the making: what was begun is taken away again. */
static void undo_folder(qt_run *r)
{
    if (r->lock >= 0) {
        empty_folder(r);
        drop_lock(r);
    }
    if (r->created) rmdir(r->dir); /* only if nobody has put anything there */
}

qt_err qt_run_new(qt_recipe *rc, const char *dir, const char *arm, bool force, qt_progress p, qt_run **out)
{
    qt_run *r = run_alloc(rc, arm, p);
    qt_err  e;
    *out = NULL;
    if (!r) return QT_EMEM;
    r->dir = dir ? qt_arena_strdup(&r->arena, dir) : qt_arena_sprintf(&r->arena, "runs/%s/%s-s%lld", rc->name, r->arm, (long long)rc->seed);
    e = r->dir && r->arm ? build(r) : QT_EMEM;
    if (e == QT_OK) e = start_values(r);
    if (e == QT_OK) {
        e = claim_folder(r, force);
        if (e == QT_OK) e = write_folder(r);
        if (e != QT_OK) undo_folder(r);
    }
    if (e != QT_OK) qt_run_free(r);
    else *out = r;
    return e;
}

/* ---- resume ---------------------------------------------------------------------------------------------------------------- */

static int newest_first(const struct dirent **a, const struct dirent **b) { return -strcmp((*a)->d_name, (*b)->d_name); }
static int is_kept(const struct dirent *e) { return !strncmp(e->d_name, "step-", 5); }

/* An older checkpoint instead of last.h5, which the messages so far say is damaged or gone. */
static qt_err load_older(qt_run *r, const char *file)
{
    char *why;
    if (!qt_file_exists(file)) return QT_EDATA;
    why = qt_error_take();
    if (qt_ckpt_load(r, file) != QT_OK) return qt_error_clear(), qt_error_give(why), QT_EDATA;
    r->repair = qt_arena_sprintf(&r->arena, "warning: %s; using the older %s of step %lld", why ? why : "", file, (long long)r->step);
    qt_free(why);
    r->done = false; /* what is lost is trained again */
    qt_run_log(r, "%s  %s", r->arm, r->repair ? r->repair : "");
    return r->repair ? QT_OK : QT_EMEM;
}

/* last.h5; if it is damaged or gone, the newest kept step, then previous.h5, then best.h5. */
static qt_err load_newest(qt_run *r)
{
    struct dirent **kept = NULL;
    qt_err          e = qt_ckpt_load(r, file_in(r, "ckpt/last.h5"));
    int             n = e == QT_OK ? 0 : scandir(file_in(r, "ckpt"), &kept, is_kept, newest_first);
    for (int i = 0; i < n; i++) {
        char file[4400];
        snprintf(file, sizeof file, "%s/ckpt/%s", r->dir, kept[i]->d_name);
        if (e != QT_OK) e = load_older(r, file);
        free(kept[i]);
    }
    free(kept);
    if (e != QT_OK) e = load_older(r, file_in(r, "ckpt/previous.h5"));
    return e == QT_OK ? e : load_older(r, file_in(r, "ckpt/best.h5"));
}

static qt_err resume(qt_run *r, const char *dir)
{
    const char *file;
    if (!(r->dir = qt_arena_strdup(&r->arena, dir))) return QT_EMEM;
    file = file_in(r, "resolved.yaml");
    QT_CHECK(qt_file_exists(file), QT_EUSAGE, "%s: is no run directory (it has no resolved.yaml)", dir);
    QT_TRY(qt_recipe_load(&r->arena, file, 0, NULL, NULL, &r->recipe));
    r->done = qt_file_exists(file_in(r, "DONE"));
    QT_TRY(build(r));
    if (r->recipe->lora) QT_TRY(start_values(r)); /* the base, which no checkpoint of the run holds */
    QT_TRY(load_newest(r));
    QT_TRY(qt_base_merge_again(r));
    qt_run_schedule(r, r->step > 0 ? r->step - 1 : 0);
    return QT_OK;
}

qt_err qt_run_resume(const char *dir, qt_progress p, qt_run **out)
{
    qt_run *r = run_alloc(NULL, NULL, p);
    *out = NULL;
    if (!r) return QT_EMEM;
    qt_err e = resume(r, dir);
    if (e != QT_OK) qt_run_free(r);
    else *out = r;
    return e;
}

/* ---- going ----------------------------------------------------------------------------------------------------------------- */

/* Keeps the newest `keep` of ckpt/step-N.h5. */
static void prune_kept(qt_run *r)
{
    struct dirent **kept = NULL;
    int             n = scandir(file_in(r, "ckpt"), &kept, is_kept, newest_first);
    for (int i = 0; i < n; i++) {
        char file[4400];
        snprintf(file, sizeof file, "%s/ckpt/%s", r->dir, kept[i]->d_name);
        if (i >= r->recipe->train.keep) unlink(file);
        free(kept[i]);
    }
    free(kept);
}

/* last.h5 under the name previous.h5 too, so that damage to the next last.h5 costs steps and not the run. File systems without links have none.
 * What a killed process has left, or a rename between two names of one file, does not stand in the way of the next time. */
static void keep_previous(const qt_run *r)
{
    char last[4096], part[4096], previous[4096];
    snprintf(last, sizeof last, "%s/ckpt/last.h5", r->dir);
    snprintf(part, sizeof part, "%s/ckpt/previous.h5.part", r->dir);
    snprintf(previous, sizeof previous, "%s/ckpt/previous.h5", r->dir);
    unlink(part);
    if (!link(last, part)) (void)rename(part, previous);
    unlink(part);
}

qt_err qt_run_save(qt_run *r)
{
    char file[4096];
    QT_TRY(qt_metrics_sync(r));
    keep_previous(r);
    snprintf(file, sizeof file, "%s/ckpt/last.h5", r->dir);
    QT_TRY(qt_ckpt_save(r, file));
    if (!r->recipe->train.keep) return QT_OK;
    snprintf(file, sizeof file, "%s/ckpt/step-%09lld.h5", r->dir, (long long)r->step);
    QT_TRY(qt_ckpt_save(r, file));
    prune_kept(r);
    return QT_OK;
}

static qt_err begin(qt_run *r)
{
    bool fresh = r->step == 0 && r->phase == 0;
    QT_TRY(take_lock(r));
    unlink(file_in(r, "DONE"));
    if (r->recipe->train.threads) qt_set_threads((int)r->recipe->train.threads);
    r->log = fopen(file_in(r, "log.txt"), "a");
    QT_CHECK(r->log, QT_EIO, "%s/log.txt: cannot write: %s", r->dir, strerror(errno));
    QT_TRY(qt_metrics_open(r));
    if (!qt_file_exists(file_in(r, "env.json"))) QT_TRY(qt_env_write(r, file_in(r, "env.json")));
    r->began = qt_clock();
    if (!fresh) qt_run_log(r, "%s  going on at step %lld of %lld", r->arm, (long long)r->step, (long long)r->steps);
    qt_run_log(r, "%s  %lld parameters, %lld steps of %lld %s, %d threads", r->arm, (long long)qt_store_trained(r->store), (long long)r->steps,
               (long long)qt_run_items(r), qt_run_is_text(r) ? "tokens" : "samples", qt_threads());
    if (r->recipe->lora) qt_run_log(r, "%s  of these parameters %lld are trained", r->arm, (long long)qt_store_moving(r->store));
    if (r->repair) fprintf(r->log, "%s  %s\n", r->arm, r->repair);
    if (r->data_section == r->recipe->fallback && r->log) fprintf(r->log, "%s  trained on the fallback data set\n", r->arm);
    return QT_OK;
}

/* What the recipe says to ship. */
static qt_err export(qt_run *r)
{
    for (int i = 0; i < r->recipe->n_exports; i++) {
        const qt_exporter *x = r->recipe->export[i].exporter;
        qt_exported        made;
        QT_TRY(x->run(x, r, r->recipe->export[i].cfg, NULL, &made));
        qt_run_log(r, "%s  exported %s, %d of %d layers in integers", r->arm, made.file, made.integers, made.layers);
    }
    return QT_OK;
}

/* The final evaluation, its event, the exports, DONE. */
static qt_err finish(qt_run *r, qt_result *res)
{
    qt_split split = qt_data_size(r->data, QT_TEST) ? QT_TEST : qt_run_eval_split(r);
    double   seconds = r->seconds + qt_clock() - r->began, items = (double)r->step * (double)qt_run_items(r);
    if (r->eval_step == r->step && r->eval_split == split) *res = r->last_eval;
    else if (!qt_recipe_trains(r->recipe)) QT_TRY(qt_run_eval_event(r, split, res));
    else QT_TRY(qt_run_eval(r, split, res, NULL, NULL));
    res->seconds = seconds;
    qt_metrics_eval(r, "final", split, res, r->busy > 0 ? items / r->busy : 0);
    QT_CHECK(!fflush(r->metrics) && !fsync(fileno(r->metrics)), QT_EIO, "%s/metrics.jsonl: cannot write: %s", r->dir, strerror(errno));
    QT_TRY(export(r));
    QT_TRY(qt_file_write(file_in(r, "DONE"), "", 0));
    if (res->classes)
        qt_run_log(r, "%s  done: %s accuracy %.2f %%, loss %.4f, %.1f s", r->arm, qt_split_name[split], 100 * res->accuracy, res->loss, seconds);
    else if (res->tokens)
        qt_run_log(r, "%s  done: %s perplexity %.4f, loss %.4f, %.1f s", r->arm, qt_split_name[split], exp(res->loss), res->loss, seconds);
    else qt_run_log(r, "%s  done: %s loss %.6g, %.1f s", r->arm, qt_split_name[split], res->loss, seconds);
    return QT_OK;
}

static double number(const qt_yaml *y, const char *key)
{
    double v = 0;
    qt_yaml_real(qt_yaml_get(y, key), &v);
    return v;
}

/* The result of a run that is done, from its last line. */
static qt_err finished(qt_run *r, qt_result *res)
{
    const qt_yaml *y;
    QT_TRY(qt_metrics_last(&r->arena, r->dir, "final", NULL, &y));
    QT_CHECK(y, QT_EDATA, "%s/metrics.jsonl: has no final event, though the run is done", r->dir);
    *res = (qt_result){.loss = number(y, "loss"),
                       .accuracy = number(y, "accuracy"),
                       .bits_per_weight = number(y, "bits_per_weight"),
                       .bytes = number(y, "bytes"),
                       .seconds = number(y, "seconds"),
                       .peak_rss_mb = number(y, "peak_rss_mb"),
                       .n = (int64_t)number(y, "n"),
                       .params = (int64_t)number(y, "params"),
                       .classes = qt_yaml_get(y, "accuracy") != NULL,
                       .tokens = qt_yaml_get(y, "perplexity") != NULL};
    qt_run_log(r, "%s: is done already", r->dir);
    return QT_OK;
}

qt_err qt_run_go(qt_run *r, qt_result *res)
{
    if (r->done) return finished(r, res);
    QT_TRY(begin(r));
    if (r->repair) {
        unlink(file_in(r, "ckpt/last.h5"));
        QT_TRY(qt_run_save(r));
    }
    while (r->phase < r->recipe->n_phases) {
        QT_TRY(r->recipe->phase[r->phase].phase->run(r, r->recipe->phase[r->phase].cfg));
        r->phase++;
        QT_TRY(qt_run_save(r));
    }
    return finish(r, res);
}

void qt_run_free(qt_run *r)
{
    qt_arena arena;
    if (!r) return;
    qt_progress_end(r);
    qt_loader_free(r->loader);
    qt_tape_free(r->tape);
    qt_data_close(r->data);
    qt_store_free(r->store);
    if (r->metrics) fclose(r->metrics);
    if (r->log) fclose(r->log);
    drop_lock(r);
    arena = r->arena;
    qt_arena_free(&arena);
    qt_free(r);
}
