/* Stochastic gradient descent with momentum, as PyTorch writes it (the learning rate outside of the momentum buffer):
 *
 *     g += weight_decay w
 *     m  = momentum m + (1 - dampening) g        the first step takes m = g
 *     w -= lr (nesterov ? g + momentum m : m)
 *
 * Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep learning", ICML 2013, section 2, has
 * lr inside of m; the two differ only while lr changes. Left out: maximize, foreach. */
#include "base/par.h"
#include "optim/optim.h"

typedef struct config {
    qt_optim_base base;
    double        momentum, dampening;
    bool          nesterov;
} config;

static const qt_field fields[] = {
    QT_OPTIM_FIELDS("1e-2", "0"),
    QT_F_REAL(config, momentum, "0", 0, 1, "share of the last direction that is kept"),
    QT_F_REAL(config, dampening, "0", 0, 1, "share of the gradient that momentum leaves out"),
    QT_F_BOOL(config, nesterov, "false", "look ahead along the momentum"),
    {NULL},
};

QT_CLONES static void descend(int64_t n, R *restrict w, const R *restrict g, R lr, R decay)
{
    for (int64_t i = 0; i < n; i++) w[i] -= lr * (g[i] + decay * w[i]);
}

/* m = keep m + take g, and w moves along ahead m + now g. */
QT_CLONES static void roll(int64_t n, R *restrict w, const R *restrict g, R *restrict m, R lr, R decay, R keep, R take, R ahead, R now)
{
    for (int64_t i = 0; i < n; i++) {
        R d = g[i] + decay * w[i];
        m[i] = keep * m[i] + take * d;
        w[i] -= lr * (ahead * m[i] + now * d);
    }
}

static int slots(const void *cfg) { return ((const config *)cfg)->momentum > 0; }

static qt_err check(void *cfg, const qt_yaml *section)
{
    const config *c = cfg;
    if (c->nesterov && (c->momentum == 0 || c->dampening != 0))
        return qt_fail_at(QT_ERECIPE, qt_yaml_get(section, "nesterov")->pos, "optim.nesterov: needs a momentum above 0 and no dampening");
    return QT_OK;
}

static void step(const void *cfg, int64_t n, R *w, const R *g, R *const *slot, double lr, double weight_decay, int64_t t)
{
    const config *c = cfg;
    R             keep = (R)c->momentum, take = t == 1 ? 1 : (R)(1 - c->dampening);
    if (c->momentum == 0)
        descend(n, w, g, (R)lr, (R)weight_decay);
    else
        roll(n, w, g, slot[0], (R)lr, (R)weight_decay, keep, take, c->nesterov ? keep : 1, c->nesterov);
}

const qt_optim qt_optim_sgd = {
    .d = {"sgd", "stochastic gradient descent with momentum", "Sutskever et al., ICML 2013, section 2", fields, sizeof(config)},
    .n_slots = 1,
    .slots = slots,
    .check = check,
    .step = step,
};
