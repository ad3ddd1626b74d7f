/* Stepper `plain`: one forward pass, one backward pass, one step of the optimizer. */
#include "train/train.h"

static qt_err step(qt_run *r, const void *cfg, void *state, const qt_batch *b, double factor, qt_outcome *o)
{
    qt_tensor *out, *loss;
    (void)cfg, (void)state;
    QT_TRY(qt_step_forward(r, b, &out, &loss));
    qt_step_note(b, out, loss, o);
    QT_TRY(qt_backward(r->tape, loss));
    return qt_step_update(r, factor, (double)loss->data[0]);
}

const qt_stepper qt_stepper_plain = {.d = {"plain", "the gradient of the batch's loss, one step of the optimizer"}, .step = step};
