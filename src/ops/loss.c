/* Losses against a target of x's shape; one number.
 *
 *     mse   mean of (x - t)^2 over all n elements          dx = 2 (x - t)/n,    dt = -dx
 *     l1    mean of |x - t|                                dx = sign(x - t)/n (0 at 0),    dt = -dx
 *     kl    sum of t (log t - x) over the last axis,       dx = -t/rows,    dt = (log t + 1 - x)/rows
 *           mean over rows; x are log-probabilities, t probabilities, 0 log 0 = 0 (and no gradient into t there)
 *
 * Each chunk of elements leaves its part in double, the parts are added in order. */
#include "ops/inner.h"

typedef double (*part)(const R *x, const R *t, int64_t n);
typedef void (*part_grads)(R *dx, R *dt, const R *x, const R *t, int64_t n, R dy); /* dx or dt may be NULL */

static qt_err shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *t = nd->in[1];
    char             s[96], u[96];
    bool             same = x->rank == t->rank && !(t->flags & QT_IDS);
    for (int i = 0; same && i < x->rank; i++) same = x->dim[i] == t->dim[i];
    if (!same)
        return qt_node_fail(nd, "the target %s%s must have the shape of x %s", qt_shape_str(t, s), t->flags & QT_IDS ? " (ids)" : "",
                            qt_shape_str(x, u));
    QT_TRY(qt_node_save(nd, (size_t)QT_CHUNKS(x->n, QT_GRAIN) * sizeof(double)));
    return qt_node_out(nd, 1, (int64_t[]){1});
}

static void mean_forward(qt_node *nd, part f, int64_t over)
{
    const R      *x = nd->in[0]->data, *t = nd->in[1]->data;
    const int64_t n = nd->in[0]->n;
    double       *sums = nd->saved, sum = 0;
    QT_FOR_CHUNKS(b, e, n, QT_GRAIN) sums[QT_CHUNK_OF(b)] = f(x + b, t + b, e - b);
    for (int64_t k = 0; k < QT_CHUNKS(n, QT_GRAIN); k++) sum += sums[k];
    nd->out->data[0] = (R)(sum / (double)over);
}

static void mean_backward(const qt_node *nd, part_grads f, int64_t over)
{
    const qt_tensor *x = nd->in[0], *t = nd->in[1];
    const R          dy = (R)((double)nd->out->grad[0] / (double)over);
    QT_FOR_CHUNKS(b, e, x->n, QT_GRAIN) f(x->grad ? x->grad + b : NULL, t->grad ? t->grad + b : NULL, x->data + b, t->data + b, e - b, dy);
}

QT_CLONES static double mse_part(const R *x, const R *t, int64_t n)
{
    double sum = 0;
    QT_SUM(sum, j, n, (x[j] - t[j]) * (x[j] - t[j]));
    return sum;
}

QT_CLONES static void mse_grads(R *dx, R *dt, const R *x, const R *t, int64_t n, R dy)
{
    for (int64_t j = 0; dx && j < n; j++) dx[j] += 2 * dy * (x[j] - t[j]);
    for (int64_t j = 0; dt && j < n; j++) dt[j] -= 2 * dy * (x[j] - t[j]);
}

QT_CLONES static double l1_part(const R *x, const R *t, int64_t n)
{
    double sum = 0;
    QT_SUM(sum, j, n, QT_M(fabs)(x[j] - t[j]));
    return sum;
}

static inline R sign(R x) { return QT_M(copysign)(x == 0 ? 0 : 1, x); }

QT_CLONES static void l1_grads(R *dx, R *dt, const R *x, const R *t, int64_t n, R dy)
{
    for (int64_t j = 0; dx && j < n; j++) dx[j] += dy * sign(x[j] - t[j]);
    for (int64_t j = 0; dt && j < n; j++) dt[j] -= dy * sign(x[j] - t[j]);
}

static double kl_part(const R *x, const R *t, int64_t n)
{
    double sum = 0;
    for (int64_t j = 0; j < n; j++)
        if (t[j] != 0) sum += (double)t[j] * (log((double)t[j]) - (double)x[j]);
    return sum;
}

static void kl_grads(R *dx, R *dt, const R *x, const R *t, int64_t n, R dy)
{
    for (int64_t j = 0; dx && j < n; j++) dx[j] -= dy * t[j];
    for (int64_t j = 0; dt && j < n; j++)
        if (t[j] != 0) dt[j] += dy * (QT_M(log)(t[j]) + 1 - x[j]);
}

static int64_t elements(const qt_node *nd) { return nd->in[0]->n; }
static int64_t rows(const qt_node *nd) { return nd->in[0]->n / nd->in[0]->dim[nd->in[0]->rank - 1]; }

static void mse_forward(qt_node *nd) { mean_forward(nd, mse_part, elements(nd)); }
static void mse_backward(const qt_node *nd) { mean_backward(nd, mse_grads, elements(nd)); }
static void l1_forward(qt_node *nd) { mean_forward(nd, l1_part, elements(nd)); }
static void l1_backward(const qt_node *nd) { mean_backward(nd, l1_grads, elements(nd)); }
static void kl_forward(qt_node *nd) { mean_forward(nd, kl_part, rows(nd)); }
static void kl_backward(const qt_node *nd) { mean_backward(nd, kl_grads, rows(nd)); }

qt_tensor *qt_mse(qt_tape *t, qt_tensor *x, qt_tensor *target) { return QT_EMIT(t, &qt_op_mse, NULL, 0, x, target); }
qt_tensor *qt_l1(qt_tape *t, qt_tensor *x, qt_tensor *target) { return QT_EMIT(t, &qt_op_l1, NULL, 0, x, target); }
qt_tensor *qt_kl(qt_tape *t, qt_tensor *x, qt_tensor *target) { return QT_EMIT(t, &qt_op_kl, NULL, 0, x, target); }

static qt_tensor *build_mse(qt_tape *t, qt_tensor **in) { return qt_mse(t, in[0], in[1]); }
static qt_tensor *build_mse_same(qt_tape *t, qt_tensor **in) { return qt_mse(t, in[0], in[0]); }
static const qt_case mse_cases[] = {{"matrix", build_mse, {{{3, 4}, 'n'}, {{3, 4}, 'n'}}},
                                    {"constant target", build_mse, {{{19}, 'n'}, {{19}, 'c'}}},
                                    {"one number", build_mse, {{{1}, 'n'}, {{1}, 'n'}}},
                                    {"x is target", build_mse_same, {{{5}, 'n'}}},
                                    {NULL}};
/* The target is made small, so that |x - target| keeps away from its kink. */
static qt_tensor *build_l1(qt_tape *t, qt_tensor **in) { return qt_l1(t, in[0], qt_scale(t, in[1], 0.05)); }
static qt_tensor *build_l1_back(qt_tape *t, qt_tensor **in) { return qt_l1(t, qt_scale(t, in[1], 0.05), in[0]); }
static const qt_case l1_cases[] = {{"matrix", build_l1, {{{3, 4}, 'k'}, {{3, 4}, 'u'}}},
                                   {"vector", build_l1_back, {{{19}, 'k'}, {{19}, 'u'}}},
                                   {"one number", build_l1, {{{1}, 'k'}, {{1}, 'u'}}},
                                   {NULL}};
static qt_tensor *build_kl(qt_tape *t, qt_tensor **in) { return qt_kl(t, in[0], in[1]); }
static qt_tensor *build_kl_logits(qt_tape *t, qt_tensor **in) { return qt_kl(t, qt_log_softmax(t, in[0]), qt_softmax(t, in[1])); }
static const qt_case kl_cases[] = {{"rows", build_kl, {{{3, 4}, 'n'}, {{3, 4}, 'q'}}},
                                   {"from logits", build_kl_logits, {{{2, 2, 5}, 'n'}, {{2, 2, 5}, 'n'}}},
                                   {"one number", build_kl, {{{1}, 'n'}, {{1}, 'q'}}},
                                   {NULL}};

const qt_op qt_op_mse = {.d = {"mse", "mean of the squared differences from the target"}, .kind = QT_EXACT,
                         .shape = shape, .forward = mse_forward, .backward = mse_backward, .cases = mse_cases};
const qt_op qt_op_l1 = {.d = {"l1", "mean of the absolute differences from the target"}, .kind = QT_EXACT,
                        .shape = shape, .forward = l1_forward, .backward = l1_backward, .cases = l1_cases};
const qt_op qt_op_kl = {.d = {"kl", "Kullback-Leibler divergence of log-probabilities x from target probabilities, mean over rows"}, .kind = QT_EXACT,
                        .shape = shape, .forward = kl_forward, .backward = kl_backward, .cases = kl_cases};
