/* What steps of the optimizer are made of: a pass forward, and the step itself with the checks before it and the quantizers' guards after
 * it. How they follow one another is the stepper's business (step_*.c). A loss or gradient that is not finite ends the run, and the message
 * says where it came from. */
#include "base/par.h"
#include "train/train.h"
#include <math.h>

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

/* ---- forward --------------------------------------------------------------------------------------------------------------- */

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

void qt_step_open(qt_run *r)
{
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, true, true);
    r->tape->step = r->step;
}

qt_err qt_step_forward(qt_run *r, const qt_batch *b, qt_tensor **out, qt_tensor **loss)
{
    qt_step_open(r);
    *loss = qt_model_penalty(r->tape, r->model, qt_run_forward(r, b, out));
    QT_TRY(qt_tape_error(r->tape));
    double value = (double)(*loss)->data[0];
    if (!isfinite(value) && r->tape->thrifty) once_more(r, b);
    if (!isfinite(value)) return diverged(r, value);
    account(r);
    return QT_OK;
}

void qt_step_note(const qt_batch *b, const qt_tensor *out, const qt_tensor *loss, qt_outcome *o)
{
    o->loss = (double)loss->data[0];
    if (o->measure && b->y && !b->ids) o->accuracy = qt_run_metric(&qt_metric_accuracy, out, b) / (double)b->n;
}

/* ---- the step -------------------------------------------------------------------------------------------------------------- */

qt_err qt_step_finite(qt_run *r, double loss) { return isfinite(loss) && gradients_finite(r->store) ? QT_OK : diverged(r, loss); }

qt_err qt_step_update(qt_run *r, double factor, double loss)
{
    QT_TRY(qt_step_finite(r, loss));
    QT_TRY(qt_optimizer_step(r->optim, factor));
    for (int i = 0; i < r->store->n_site; i++)
        if (r->store->site[i]->quant->after_step) r->store->site[i]->quant->after_step(r->store->site[i], r->step);
    return QT_OK;
}
