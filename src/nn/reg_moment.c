/* The shape of a weight's distribution, whatever its width: with mean m and (unbiased) deviation d over all n weights of a layer and
 * h = (w - m)/d,
 *
 *     kurtosis   (mean(h^4) - target)^2          1.8 is that of a uniform distribution, 3 of a normal one
 *     skewness   (mean(h^3) - target)^2          0 of any symmetric one
 *
 * or the absolute difference (error: absolute), which with target 0 and weight 0 measures the moment itself. A uniform distribution loses
 * least when the step of its grid changes, so weights near it stand many bit widths at once. The gradient is that of src/ops/moment.c.
 *
 * Xu et al. 2023, "EQ-Net" (arXiv 2308.07650): weight distribution regularization, 0.015 and 1 as factors, mean over the layers. Before it
 * Chmiel et al. 2020, "Robust Quantization" (NeurIPS): the kurtosis alone. */
#include "nn/nn.h"

typedef struct config {
    qt_regularizer_base base;
    double              target;
    int                 error;
} config;
enum { SQUARE, ABSOLUTE };

#define FIELDS(target_default) \
    {QT_REGULARIZER_FIELDS, QT_F_REAL(config, target, target_default, -1e6, 1e6, "what the moment is pulled to"), \
     QT_F_ENUM(config, error, "square", "square|absolute", "of the difference from it"), {NULL}}
static const qt_field kurtosis_fields[] = FIELDS("1.8"), skewness_fields[] = FIELDS("0");

static qt_tensor *difference(qt_tape *t, const config *c, qt_tensor *moment)
{
    qt_tensor *target = qt_input(t, 1, (int64_t[]){1});
    if (target->data) target->data[0] = (R)c->target;
    qt_tensor *d = qt_sub(t, moment, target);
    return c->error == ABSOLUTE ? qt_abs(t, d) : qt_mul(t, d, d);
}

static qt_tensor *kurtosis(qt_tape *t, const void *cfg, const qt_module *m, qt_tensor *w) { return (void)m, difference(t, cfg, qt_moment(t, w, 4)); }
static qt_tensor *skewness(qt_tape *t, const void *cfg, const qt_module *m, qt_tensor *w) { return (void)m, difference(t, cfg, qt_moment(t, w, 3)); }

const qt_regularizer qt_regularizer_kurtosis = {
    {"kurtosis", "kurtosis of the weights, pulled to that of a uniform distribution", "Xu et al. 2023, arXiv 2308.07650", kurtosis_fields, sizeof(config)},
    kurtosis};
const qt_regularizer qt_regularizer_skewness = {
    {"skewness", "skewness of the weights, pulled to 0", "Xu et al. 2023, arXiv 2308.07650", skewness_fields, sizeof(config)}, skewness};
