/* Phase `train`: the loop. A stepper makes a step of the optimizer from each batch (step.c). All that a step depends on is the store, the
 * optimizer's state and the step's number (data order, dropout, learning rate and schedule are functions of it), which is why a run that was
 * stopped goes on with the same bits. A warm step allocates nothing. */
#include "train/train.h"
#include <math.h>
#include <unistd.h>

/* ---- one step -------------------------------------------------------------------------------------------------------------- */

static qt_err train_step(qt_run *r, const qt_batch *b, bool measure, qt_outcome *o)
{
    double factor = qt_lr_factor(&r->lr, r->step, r->steps);
    o->measure = measure, o->lr = qt_optimizer_lr(r->optim) * factor;
    QT_TRY(r->recipe->stepper->step(r, r->recipe->stepper_cfg, r->stepper, b, factor, o));
    r->step++;
    return QT_OK;
}

/* ---- what happens between steps -------------------------------------------------------------------------------------------- */

static qt_err save_best(qt_run *r)
{
    char file[4096];
    snprintf(file, sizeof file, "%s/ckpt/best.h5", r->dir);
    return qt_ckpt_save(r, file);
}

static qt_err evaluate(qt_run *r)
{
    qt_split  split = qt_run_eval_split(r);
    qt_result res;
    double    value;
    QT_TRY(qt_run_eval_event(r, split, &res));
    value = res.classes ? res.accuracy : -res.loss;
    if (res.classes)
        qt_run_log(r, "%s  step %lld/%lld  %s loss %.4f  accuracy %.2f %%", r->arm, (long long)r->step, (long long)r->steps, qt_split_name[split],
                   res.loss, 100 * res.accuracy);
    else if (res.tokens)
        qt_run_log(r, "%s  step %lld/%lld  %s loss %.4f  perplexity %.4f", r->arm, (long long)r->step, (long long)r->steps, qt_split_name[split],
                   res.loss, exp(res.loss));
    else qt_run_log(r, "%s  step %lld/%lld  %s loss %.6g", r->arm, (long long)r->step, (long long)r->steps, qt_split_name[split], res.loss);
    QT_TRY(qt_metrics_sync(r));
    if (r->has_best && !(value > r->best)) return QT_OK;
    r->best = value, r->has_best = true;
    return save_best(r);
}

static bool every(int64_t step, int64_t period) { return period > 0 && step % period == 0; }

static qt_err between(qt_run *r, const qt_outcome *o, double rate)
{
    const qt_train_cfg *t = &r->recipe->train;
    int64_t             eval_every = t->eval_every < 0 ? r->steps_per_epoch : t->eval_every;
    bool                last = r->step == r->steps, eval = every(r->step, eval_every) || last;
    const double       *accuracy = r->loss->classes && !qt_run_is_text(r) ? &o->accuracy : NULL;
    if (every(r->step, t->log_every)) qt_metrics_step(r, o->loss, accuracy, o->lr, rate);
    qt_progress_step(r, o->loss, accuracy, o->lr, rate);
    if (eval) QT_TRY(evaluate(r));
    if (last) return QT_OK; /* qt_run_go saves at the end of a phase */
    if (t->save_every ? every(r->step, t->save_every) : eval) QT_TRY(qt_run_save(r));
    if (!r->stop || !*r->stop) return QT_OK;
    QT_TRY(qt_run_save(r));
    QT_FAIL(QT_ESTOPPED, "stopped at step %lld of %lld, saved; go on with: qtape resume %s", (long long)r->step, (long long)r->steps, r->dir);
}

/* Accuracy of a training batch is wanted where a step event or a progress line will show it. */
static bool measured(const qt_run *r) { return every(r->step + 1, r->recipe->train.log_every) || r->progress != QT_PROGRESS_QUIET; }

/* Samples, or tokens of text, a second over the last half second or more of steps; evaluation and saving are no training. */
typedef struct speed {
    double  busy, rate;
    int64_t items;
} speed;

static void add_step(speed *s, double seconds, int64_t items)
{
    s->busy += seconds, s->items += items;
    if (s->rate > 0 && s->busy < 0.5) return;
    *s = (speed){0, (double)s->items / s->busy, 0};
}

static qt_err loop(qt_run *r)
{
    const qt_batch *b;
    qt_outcome      o = {0};
    speed           s = {0};
    int64_t         per_sample = qt_run_items(r) / qt_data_batch_size(r->data);
    while (r->step < r->steps) {
        double start = qt_clock(), took;
        QT_TRY(qt_loader_next(r->loader, &b));
        qt_run_schedule(r, r->step);
        QT_TRY(train_step(r, b, measured(r), &o));
        took = qt_clock() - start;
        r->busy += took;
        add_step(&s, took, b->n * per_sample);
        QT_TRY(between(r, &o, s.rate));
    }
    return QT_OK;
}

static qt_err run(qt_run *r, const void *cfg)
{
    qt_err e;
    (void)cfg;
    if (r->step >= r->steps) return QT_OK;
    QT_CHECK(qt_data_size(r->data, QT_TRAIN) > 0, QT_EUSAGE, "the data have no split 'train'");
    if (!qt_data_size(r->data, QT_VAL))
        qt_run_log(r, "%s  the data have no split 'val': '%s' is evaluated during training too", r->arm, qt_split_name[qt_run_eval_split(r)]);
    QT_TRY(qt_loader_train(r->data, (uint64_t)r->recipe->seed, r->step, &r->loader));
    e = loop(r);
    qt_progress_end(r);
    qt_loader_free(r->loader), r->loader = NULL;
    qt_err synced = e == QT_EIO ? e : qt_metrics_sync(r); /* a full disk has been told of */
    return e == QT_OK ? synced : e;
}

const qt_phase qt_phase_train = {{"train", "gradient descent for train.steps or train.epochs"}, run};
