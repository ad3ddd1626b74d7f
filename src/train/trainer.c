/* Phase `train`: the loop. A step takes a batch, runs the model and the loss on the tape, runs backward, and lets the optimizer move the
 * store. All that a step depends on is the store, the optimizer's state and the step's number (data order, dropout, learning rate and
 * schedule are functions of it), which is why a run that was stopped goes on with the same bits. A warm step allocates nothing. */
#include "base/par.h"
#include "train/train.h"
#include <math.h>
#include <unistd.h>

/* ---- divergence ------------------------------------------------------------------------------------------------------------ */

/* Says where the first number that is not finite stands: in forward order, or, if only gradients are, in the order of backward. */
static qt_err diverged(const qt_run *r, double loss)
{
    const char    *which;
    const qt_node *nd = qt_tape_nonfinite(r->tape, &which);
    int64_t        step = r->step + 1;
    if (nd)
        QT_FAIL(QT_EDIVERGED,
                "diverged at step %lld: loss is %g; the first tensor that is not finite is the %s of %s in layer '%s' (a smaller optim.lr or "
                "clip_grad_norm may help)",
                (long long)step, loss, which, nd->op->d.name, nd->path ? nd->path : "loss");
    for (int i = 0; i < r->store->n; i++) {
        const qt_param *p = r->store->p[i];
        if (p->t.data && !qt_all_finite(p->t.data, p->t.n))
            QT_FAIL(QT_EDIVERGED, "diverged at step %lld: loss is %g; parameter '%s' is not finite", (long long)step, loss, p->t.name);
        if (p->t.grad && !qt_all_finite(p->t.grad, p->t.n))
            QT_FAIL(QT_EDIVERGED, "diverged at step %lld: loss is %g; the gradient of parameter '%s' is not finite", (long long)step, loss,
                    p->t.name);
    }
    QT_FAIL(QT_EDIVERGED, "diverged at step %lld: loss is %g", (long long)step, loss);
}

static bool gradients_finite(const qt_store *s)
{
    int bad = 0;
    QT_FOR_EACH (i, QT_CHUNKS(s->size, QT_GRAIN), s->size > 4 * QT_GRAIN) {
        if (!qt_all_finite(s->grad + i * QT_GRAIN, qt_min_i64(QT_GRAIN, s->size - i * QT_GRAIN))) {
            QT_PRAGMA(omp atomic write)
            bad = 1;
        }
    }
    return !bad;
}

/* ---- one step -------------------------------------------------------------------------------------------------------------- */

typedef struct outcome {
    double loss, accuracy, lr;
} outcome;

/* The forward pass again on a tape that keeps everything, so that what went wrong can be seen. */
static void once_more(qt_run *r, const qt_batch *b)
{
    qt_tensor *out;
    qt_tape_reset(r->tape);
    r->tape->thrifty = false;
    qt_run_forward(r, b, &out);
}

static void account(qt_run *r)
{
    qt_saved s = qt_tape_saved(r->tape);
    r->saved_mb = (double)s.bytes / 1e6;
    if (s.bytes > r->saved.bytes) r->saved = s;
}

static void after_step(qt_run *r)
{
    for (int i = 0; i < r->store->n_site; i++)
        if (r->store->site[i]->quant->after_step) r->store->site[i]->quant->after_step(r->store->site[i], r->step);
}

static qt_err train_step(qt_run *r, const qt_batch *b, bool measure, outcome *o)
{
    qt_tensor *out, *loss;
    double     factor = qt_lr_factor(&r->lr, r->step, r->steps);
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, true, true);
    r->tape->step = r->step;
    loss = qt_model_penalty(r->tape, r->model, qt_run_forward(r, b, &out));
    QT_TRY(qt_tape_error(r->tape));
    o->loss = (double)loss->data[0], o->lr = qt_optimizer_lr(r->optim) * factor;
    if (!isfinite(o->loss) && r->tape->thrifty) once_more(r, b);
    if (!isfinite(o->loss)) return diverged(r, o->loss);
    account(r);
    if (measure && b->y && !b->ids) o->accuracy = qt_run_metric(&qt_metric_accuracy, out, b) / (double)b->n;
    QT_TRY(qt_backward(r->tape, loss));
    if (!gradients_finite(r->store)) return diverged(r, o->loss);
    QT_TRY(qt_optimizer_step(r->optim, factor));
    after_step(r);
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

static qt_err between(qt_run *r, const outcome *o, double rate)
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
    outcome         o = {0};
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
    qt_metrics_sync(r);
    return e;
}

const qt_phase qt_phase_train = {{"train", "gradient descent for train.steps or train.epochs"}, run};
