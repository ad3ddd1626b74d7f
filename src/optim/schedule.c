/* The learning-rate schedule of a run: a warm-up that rises linearly, then the schedule over the steps that are left. */
#include "optim/optim.h"

qt_err qt_lr_make(qt_arena *a, const qt_yaml *section, qt_lr *out)
{
    const qt_desc *d;
    void          *cfg;
    if (!section && !(section = qt_yaml_scalar(a, "constant", (qt_pos){NULL}))) return QT_EMEM;
    QT_TRY(qt_desc_read(a, &qt_schedules, section, "lr_schedule", NULL, &d, &cfg));
    *out = (qt_lr){(const qt_schedule *)d, cfg, ((const qt_schedule_base *)cfg)->warmup_steps};
    return out->schedule->check ? out->schedule->check(cfg, section) : QT_OK;
}

/* Step k of a warm-up of w steps has (k + 1) / w of what the schedule begins with. */
double qt_lr_factor(const qt_lr *l, int64_t step, int64_t steps)
{
    int64_t w = qt_span_step(l->warmup, steps), left;
    if (w < 0) w = 0;
    left = steps > w ? steps - w : 1;
    if (step < w) return (double)(step + 1) / (double)w * l->schedule->factor(l->cfg, 0, (double)left);
    step = step - w < left ? step - w : left;
    return l->schedule->factor(l->cfg, (double)step, (double)left);
}
