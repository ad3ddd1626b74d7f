/* A pull of weights towards the levels of their quantizer:
 *
 *     sum over the weights of sin^2(pi w / s),
 *
 * zero on every multiple of the step s and largest half way between two. With levels that do not lie on multiples of s (zero points, offsets) w is
 * measured from its own level y: sin^2(pi (w - y) / s), the same where they do. y and s are constants here: of the quantizer's codes as they
 * stand, one s for each run of its layout, or of the option `step`. d/dw = pi/s sin(2 pi w / s), by the tape.
 *
 * Beyond the range of the codes the pull is towards multiples of s all the same. Left out: codebooks, whose levels are not equally spaced. */
#include "nn/nn.h"

typedef struct config {
    qt_regularizer_base base;
    double              step;
} config;

static const qt_field fields[] = {
    QT_REGULARIZER_FIELDS,
    QT_F_REAL(config, step, "0", 0, 1e9, "distance of two levels; 0: as the quantizer of the weight has it"),
    {NULL},
};

static qt_err suits(const void *cfg, const qt_module *m)
{
    if (((const config *)cfg)->step > 0 || m->weight) return QT_OK;
    return qt_module_fail(m, "regularizer sine: the weight has no quantizer whose step to take; give it one, or `step`");
}

/* Levels y and factors pi/s of the weights, from the codes. */
static qt_err levels(qt_tape *t, const qt_module *m, qt_tensor *y, qt_tensor *f)
{
    qt_codes c = {0};
    QT_TRY(m->weight->quant->encode(m->weight, m->p[0], &t->arena, &c));
    if (c.table || !c.scale)
        return qt_module_fail(m, "regularizer sine: the levels of quantizer %s are not equally spaced", m->weight->quant->d.name);
    qt_codes_decode(&c, y->data);
    for (int64_t i = 0; i < c.n; i++) f->data[i] = (R)(3.14159265358979323846 / (double)c.scale[i / c.layout.inner % c.layout.count]);
    return QT_OK;
}

static void multiples(double step, qt_tensor *f)
{
    for (int64_t i = 0; i < f->n; i++) f->data[i] = (R)(3.14159265358979323846 / step);
}

static qt_tensor *apply(qt_tape *t, const void *cfg, const qt_module *m, qt_tensor *w)
{
    double     step = ((const config *)cfg)->step;
    qt_tensor *y = qt_input(t, w->rank, w->dim), *f = qt_input(t, w->rank, w->dim), *s;
    if (t->err) return w;
    if (step > 0) multiples(step, f);
    else qt_tape_fail(t, levels(t, m, y, f));
    s = qt_sin(t, qt_mul(t, qt_sub(t, w, y), f));
    return qt_sum(t, qt_reshape(t, qt_mul(t, s, s), 1, &w->n), 0);
}

const qt_regularizer qt_regularizer_sine = {
    {"sine", "sin^2(pi w / step): weights are pulled to the levels of their quantizer", NULL, fields, sizeof(config)}, apply, suits};
