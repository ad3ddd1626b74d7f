/* Adam and AdamW. With t counting steps from 1:
 *
 *     m  = beta1 m + (1 - beta1) g               v = beta2 v + (1 - beta2) g^2
 *     w -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
 *
 * Adam adds weight_decay w to g (L2); AdamW shrinks w by 1 - lr weight_decay first, so that the decay is not divided by sqrt(v).
 * Both are one loop with one of the two factors switched off, in PyTorch's order of operations, so that the numbers match it.
 * Kingma, Ba, "Adam", ICLR 2015, algorithm 1; Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.
 * Left out: AMSGrad. */
#include "base/par.h"
#include "optim/optim.h"
#include <tgmath.h>

typedef struct config {
    qt_optim_base  base;
    double         beta1, beta2, eps;
    const qt_yaml *betas;
} config;

#define MOMENT_FIELDS                                                                             \
    QT_F_REAL(config, beta1, "0.9", 0, 0.999999999, "decay of the mean of the gradient"),         \
    QT_F_REAL(config, beta2, "0.999", 0, 0.999999999, "decay of the mean of its square"),         \
    QT_F_REAL(config, eps, "1e-8", 1e-30, 1, "added to the root of the mean square"),             \
    QT_F_TREE(config, betas, "~", "[beta1, beta2] in one, as other libraries write it"), {NULL}

static const qt_field adam_fields[] = {QT_OPTIM_FIELDS("1e-3", "0"), MOMENT_FIELDS};
static const qt_field adamw_fields[] = {QT_OPTIM_FIELDS("1e-3", "1e-2"), MOMENT_FIELDS};

typedef struct terms {
    R shrink, l2, b2, c1, c2, rate, root, eps; /* c = 1 - b; rate = lr / (1 - b1^t), root = sqrt(1 - b2^t) */
} terms;

QT_CLONES static void update(int64_t n, R *restrict w, const R *restrict g, R *restrict m, R *restrict v, const terms *k)
{
    const R shrink = k->shrink, l2 = k->l2, b2 = k->b2, c1 = k->c1, c2 = k->c2, rate = k->rate, root = k->root, eps = k->eps;
    for (int64_t i = 0; i < n; i++) {
        R d = g[i] + l2 * w[i];
        m[i] += c1 * (d - m[i]);
        v[i] = b2 * v[i] + c2 * d * d;
        w[i] = shrink * w[i] - rate * (m[i] / (sqrt(v[i]) / root + eps));
    }
}

static void move(const config *c, int64_t n, R *w, const R *g, R *const *slot, double lr, double shrink, double l2, int64_t t)
{
    double late1 = 1 - pow(c->beta1, (double)t), late2 = 1 - pow(c->beta2, (double)t);
    terms  k = {(R)shrink, (R)l2, (R)c->beta2, (R)(1 - c->beta1), (R)(1 - c->beta2), (R)(lr / late1), (R)sqrt(late2), (R)c->eps};
    update(n, w, g, slot[0], slot[1], &k);
}

static void adam_step(const void *cfg, int64_t n, R *w, const R *g, R *const *slot, double lr, double weight_decay, int64_t t)
{
    move(cfg, n, w, g, slot, lr, 1, weight_decay, t);
}

static void adamw_step(const void *cfg, int64_t n, R *w, const R *g, R *const *slot, double lr, double weight_decay, int64_t t)
{
    move(cfg, n, w, g, slot, lr, 1 - lr * weight_decay, 0, t);
}

static qt_err check(void *cfg, const qt_yaml *section)
{
    config        *c = cfg;
    const qt_yaml *y = c->betas;
    double         b[2];
    if (!y) return QT_OK;
    for (int i = 0; i < 2; i++)
        if (y->kind != QT_YAML_LIST || y->n != 2 || !qt_yaml_real(y->item[i], &b[i]) || !(b[i] >= 0 && b[i] < 1))
            return qt_fail_at(QT_ERECIPE, y->pos, "optim.betas: expected [beta1, beta2], each from 0 to below 1");
    if (qt_yaml_get(section, "beta1") || qt_yaml_get(section, "beta2"))
        return qt_fail_at(QT_ERECIPE, y->pos, "optim.betas: given together with beta1 or beta2; keep one of the two ways");
    c->beta1 = b[0], c->beta2 = b[1];
    return QT_OK;
}

const qt_optim qt_optim_adam = {
    .d = {"adam", "Adam; weight_decay is an L2 term of the gradient", "Kingma and Ba, ICLR 2015, algorithm 1", adam_fields, sizeof(config)},
    .n_slots = 2,
    .check = check,
    .step = adam_step,
};
const qt_optim qt_optim_adamw = {
    .d = {"adamw", "Adam with decoupled weight decay", "Loshchilov and Hutter, ICLR 2019, algorithm 2", adamw_fields, sizeof(config)},
    .n_slots = 2,
    .check = check,
    .step = adamw_step,
};
