/* Losses: one number, the mean, from the model's output and the target. */
#include "nn/nn.h"

typedef struct cross_entropy_config {
    double  label_smoothing;
    int64_t ignore_index;
} cross_entropy_config;

static const qt_field cross_entropy_fields[] = {
    QT_F_REAL(cross_entropy_config, label_smoothing, "0", 0, 1, "share of the target that is spread evenly over all classes"),
    QT_F_INT(cross_entropy_config, ignore_index, "-100", INT32_MIN, INT32_MAX, "class id of samples that do not count"),
    {NULL},
};

static qt_tensor *apply_cross_entropy(qt_tape *t, const void *cfg, qt_tensor *out, qt_tensor *target)
{
    const cross_entropy_config *c = cfg;
    return qt_cross_entropy(t, out, target, c->label_smoothing, (int)c->ignore_index);
}

static qt_tensor *apply_mse(qt_tape *t, const void *cfg, qt_tensor *out, qt_tensor *target)
{
    (void)cfg;
    return qt_mse(t, out, target);
}

static qt_tensor *apply_l1(qt_tape *t, const void *cfg, qt_tensor *out, qt_tensor *target)
{
    (void)cfg;
    return qt_l1(t, out, target);
}

static qt_tensor *apply_kl(qt_tape *t, const void *cfg, qt_tensor *out, qt_tensor *target)
{
    (void)cfg;
    return qt_kl(t, qt_log_softmax(t, out), target);
}

const qt_loss qt_loss_cross_entropy = {
    .d = {"cross_entropy", "-log of the softmax at the true class", NULL, cross_entropy_fields, sizeof(cross_entropy_config)},
    .classes = true,
    .apply = apply_cross_entropy,
};
const qt_loss qt_loss_mse = {.d = {"mse", "mean of the squared differences", NULL, NULL, 0}, .apply = apply_mse};
const qt_loss qt_loss_l1 = {.d = {"l1", "mean of the absolute differences", NULL, NULL, 0}, .apply = apply_l1};
const qt_loss qt_loss_kl = {
    .d = {"kl", "Kullback-Leibler divergence of the target's probabilities from the output's softmax", NULL, NULL, 0},
    .apply = apply_kl,
};
