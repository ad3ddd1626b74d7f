/* Phase `attack`: accuracy on samples that were moved, by a distance r in the L2 norm, to where the loss is larger.
 *
 *     fgm   x + r g / |g|, g the gradient of the sample's loss by its input x
 *     pgd   `steps` times: d <- d + a g(x + d) / |g|, then d <- d r / |d| where |d| > r; from d = 0, a = step_size or 2.5 r / steps
 *
 * Results are not clipped to the range of the data. Distances are in units of the data as the model sees them: with `normalize: unit` the whole
 * range is 1. A sample whose gradient is zero stays. The attacker knows the model: the gradient is that of the model in evaluation, through
 * quantizers as their straight-through estimators have it. Measured are `accuracy` (of classes) and `loss`, for each radius r as
 * measure.fgm@r.accuracy, on the first `limit` samples of the split; radius 0 is the samples as they are.
 * Goodfellow, Shlens, Szegedy 2015 and, for the L2 norm, Miyato, Dai, Goodfellow 2017 (fgm); Madry et al., "Towards deep learning models resistant
 * to adversarial attacks", ICLR 2018 (pgd). Left out: random starts, other norms, targets. */
#include "base/par.h"
#include "train/train.h"
#include <math.h>
#include <string.h>

enum { FGM, PGD };
enum { MOST_RADII = 16 };

typedef struct config {
    const qt_yaml *radius;
    int64_t        limit, steps;
    double         step_size;
    int            method, split;
} config;

static const qt_field fields[] = {
    QT_F_TREE(config, radius, NULL, "distance, or list of distances (at most 16)"),
    QT_F_ENUM(config, method, "fgm", "fgm|pgd", "fgm: one step along the gradient; pgd: several, each from where the one before ended"),
    QT_F_INT(config, limit, "0", 0, 1e9, "how many samples, the first of the split; 0: all"),
    QT_F_ENUM(config, split, "test", "train|val|test", "samples to attack"),
    QT_F_INT(config, steps, "10", 1, 100000, "steps of pgd"),
    QT_F_REAL(config, step_size, "0", 0, 1e9, "length of a step of pgd; 0: 2.5 radius / steps"),
    {NULL},
};

/* How many there are, 0 if one of them is no distance. */
static int radii(const config *c, double v[MOST_RADII])
{
    bool list = c->radius->kind == QT_YAML_LIST;
    int  n = list ? c->radius->n : 1;
    if (n > MOST_RADII) return 0;
    for (int i = 0; i < n; i++)
        if (!qt_yaml_real(list ? c->radius->item[i] : c->radius, &v[i]) || !(v[i] >= 0)) return 0;
    return n;
}

static qt_err suits(const void *cfg, const qt_data_info *data, qt_pos pos)
{
    double v[MOST_RADII];
    if (!radii(cfg, v))
        return qt_fail_at(QT_ERECIPE, ((const config *)cfg)->radius->pos, "attack.radius: expected a number from 0 on, or a list of up to %d of them",
                          MOST_RADII);
    return data->ids ? qt_fail_at(QT_ERECIPE, pos, "attack: moves samples that are numbers; text has no place between two tokens") : QT_OK;
}

/* ---- one batch ------------------------------------------------------------------------------------------------------------- */

typedef struct victim {
    qt_run         *r;
    const config   *cfg;
    qt_batch        b;                     /* the samples as they are */
    int64_t         width;                 /* numbers of a sample */
    R              *moved;                 /* [b.n, width] */
    double          correct[MOST_RADII], loss[MOST_RADII];
    int64_t         n;
} victim;

/* The loss of the moved samples. */
static qt_tensor *forward(const victim *v, bool grad, qt_tensor **x, qt_tensor **out)
{
    qt_run         *r = v->r;
    const qt_shape *in = &r->model->in;
    int64_t         dim[QT_MAX_DIM] = {v->b.n};
    memcpy(dim + 1, in->dim, (size_t)in->rank * sizeof *dim);
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, false, grad);
    *x = (grad ? qt_variable : qt_input)(r->tape, 1 + in->rank, dim);
    if ((*x)->data) memcpy((*x)->data, v->moved, (size_t)(*x)->n * sizeof(R));
    return qt_run_forward_from(r, &v->b, *x, out);
}

static double length(const R *x, const R *from, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += ((double)x[i] - (from ? (double)from[i] : 0)) * ((double)x[i] - (from ? (double)from[i] : 0));
    return sqrt(sum);
}

/* A step of length a along the gradient, and back into the ball of radius r around the sample. */
static void move(victim *v, const R *grad, double a, double r)
{
    int64_t n = v->width;
    QT_FOR_EACH (i, v->b.n, v->b.n * n > QT_GRAIN) {
        const R *x = v->b.x + i * n, *g = grad + i * n;
        R       *y = v->moved + i * n;
        double   norm = length(g, NULL, n), far;
        for (int64_t j = 0; norm > 0 && j < n; j++) y[j] = (R)((double)y[j] + a * (double)g[j] / norm);
        far = length(y, x, n);
        for (int64_t j = 0; far > r && j < n; j++) y[j] = (R)((double)x[j] + ((double)y[j] - (double)x[j]) * r / far);
    }
}

static qt_err attack(victim *v, double radius)
{
    bool       pgd = v->cfg->method == PGD;
    int64_t    steps = radius > 0 ? pgd ? v->cfg->steps : 1 : 0;
    double     a = !pgd ? radius : v->cfg->step_size > 0 ? v->cfg->step_size : 2.5 * radius / (double)v->cfg->steps;
    qt_tensor *x, *out;
    memcpy(v->moved, v->b.x, (size_t)(v->b.n * v->width) * sizeof(R));
    for (int64_t k = 0; k < steps; k++) {
        qt_tensor *loss = forward(v, true, &x, &out);
        QT_TRY(qt_backward(v->r->tape, loss));
        move(v, x->grad, a, radius);
    }
    return QT_OK;
}

static qt_err attack_batch(victim *v, int n, const double *radius)
{
    for (int k = 0; k < n; k++) {
        qt_tensor *x, *out, *loss;
        QT_TRY(attack(v, radius[k]));
        loss = forward(v, false, &x, &out);
        QT_TRY(qt_tape_error(v->r->tape));
        v->loss[k] += (double)loss->data[0] * (double)v->b.n;
        if (v->b.y) v->correct[k] += qt_run_metric(&qt_metric_accuracy, out, &v->b);
    }
    v->n += v->b.n;
    return QT_OK;
}

/* ---- the phase ------------------------------------------------------------------------------------------------------------- */

static qt_err attack_all(victim *v, qt_loader *l, int n, const double *radius)
{
    const qt_batch *b;
    int64_t         limit = v->cfg->limit ? v->cfg->limit : INT64_MAX;
    while (v->n < limit) {
        QT_TRY(qt_loader_next(l, &b));
        if (!b) return QT_OK;
        v->b = *b;
        v->b.n = qt_min_i64(b->n, limit - v->n);
        QT_TRY(attack_batch(v, n, radius));
        if (v->r->stop && *v->r->stop) QT_FAIL(QT_ESTOPPED, "stopped while attacking; begin it again with: qtape resume %s", v->r->dir);
    }
    return QT_OK;
}

/* "fgm@0.5" */
static const char *path_of(const config *c, double radius, char path[static 64])
{
    snprintf(path, 64, "%s@%g", c->method == PGD ? "pgd" : "fgm", radius);
    return path;
}

static bool measures(const void *cfg, const qt_model *m, const char *metric)
{
    double v[MOST_RADII];
    char   path[64];
    int    n = radii(cfg, v);
    (void)m;
    for (int i = 0; i < n; i++) {
        size_t at = strlen(path_of(cfg, v[i], path));
        if (!strncmp(metric, path, at) && (!strcmp(metric + at, ".accuracy") || !strcmp(metric + at, ".loss"))) return true;
    }
    return false;
}

static void report(const victim *v, int n, const double *radius)
{
    static const char *const name[] = {"loss", "accuracy"};
    for (int k = 0; k < n; k++) {
        double value[] = {v->loss[k] / (double)v->n, v->correct[k] / (double)v->n};
        char   path[64];
        path_of(v->cfg, radius[k], path);
        qt_metrics_measure(v->r, path, v->b.y ? 2 : 1, name, value);
        if (v->b.y) qt_run_log(v->r, "%s  %s: accuracy %.2f %%, loss %.4f", v->r->arm, path, 100 * value[1], value[0]);
        else qt_run_log(v->r, "%s  %s: loss %.6g", v->r->arm, path, value[0]);
    }
}

static qt_err run(qt_run *r, const void *cfg)
{
    victim     v = {.r = r, .cfg = cfg, .width = 1};
    qt_split   split = (qt_split)v.cfg->split;
    double     radius[MOST_RADII];
    qt_arena   a = {0};
    qt_loader *l;
    int        n = radii(cfg, radius);
    QT_CHECK(qt_data_size(r->data, split) > 0, QT_EUSAGE, "attack: the data have no split '%s'", qt_split_name[split]);
    for (int i = 0; i < r->model->in.rank; i++) v.width *= r->model->in.dim[i];
    if (!(v.moved = qt_arena_alloc(&a, (size_t)(r->recipe->train.eval_batch_size * v.width) * sizeof(R)))) return QT_EMEM;
    QT_TRY(qt_loader_eval(r->data, split, r->recipe->train.eval_batch_size, &l));
    r->tape->thrifty = false;
    qt_run_swap_average(r);
    qt_err e = attack_all(&v, l, n, radius);
    qt_run_swap_average(r);
    r->tape->thrifty = r->model->thrifty;
    qt_store_zero_grad(r->store);
    qt_tape_reset(r->tape), qt_loader_free(l), qt_arena_free(&a);
    if (e == QT_OK) report(&v, n, radius);
    return e;
}

const qt_phase qt_phase_attack = {
    {"attack", "accuracy on samples moved along the gradient of their loss", "Goodfellow et al. 2015; Madry et al. 2018", fields, sizeof(config)},
    run,
    .suits = suits,
    .measures = measures};
