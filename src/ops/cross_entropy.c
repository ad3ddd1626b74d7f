/* Cross entropy of logits x [..., K] with class ids, the mean over the rows that count (target other than ignore_index). With label
 * smoothing e the wanted distribution is q = (1 - e) onehot + e/K, and as sum q = 1
 *
 *     loss = -sum q log_softmax(x) = log sum exp(x) - (1 - e) x_target - e mean(x)        dx = (softmax(x) - q) / rows that count
 *
 * No row that counts: loss 0, gradient 0. Sums in double, rows added in order. The probabilities are not kept: backward makes them
 * again from the row's maximum and the logarithm of its sum.
 * Szegedy et al., "Rethinking the Inception architecture", 2016, section 7 (label smoothing). Left out: class weights, soft targets. */
#include "ops/inner.h"
#include "ops/vmath.h"

typedef struct arg {
    double smoothing;
    int    ignore;
} arg;
typedef struct rows {
    int64_t n, counted;
    R      *max, *log_sum; /* of each row: max x and log sum exp(x - max) */
    double *loss;
} rows;

static qt_err check_targets(const qt_node *nd, int64_t K, int64_t *counted)
{
    const qt_tensor *target = nd->in[1];
    const int        ignore = ((arg *)nd->arg)->ignore;
    *counted = 0;
    for (int64_t i = 0; i < target->n; i++) {
        const int32_t id = target->ids[i];
        if (id == ignore) continue;
        if (id < 0 || id >= K) {
            qt_node_fail(nd, "label %d out of range, the output has %lld classes (target %lld of %lld)", (int)id, (long long)K,
                         (long long)i + 1, (long long)target->n);
            return QT_EDATA;
        }
        ++*counted;
    }
    return QT_OK;
}

static qt_err shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *target = nd->in[1];
    const arg       *g = nd->arg;
    const int64_t    K = x->dim[x->rank - 1], n = x->n / K;
    char             s[96], u[96];
    rows            *r;
    if (!(target->flags & QT_IDS)) return qt_node_fail(nd, "the target must be class ids, it holds numbers");
    if (target->n != n) return qt_node_fail(nd, "the target %s must hold one class id a row of x %s", qt_shape_str(target, s), qt_shape_str(x, u));
    if (!(g->smoothing >= 0 && g->smoothing <= 1)) return qt_node_fail(nd, "label smoothing is %g, it must be from 0 to 1", g->smoothing);
    QT_TRY(qt_node_save(nd, sizeof *r));
    r = nd->saved, r->n = n;
    QT_TRY(check_targets(nd, K, &r->counted));
    if (!(r->loss = qt_tape_alloc(nd->tape, (size_t)n * sizeof(double)))) return QT_EMEM;
    if (!(r->max = qt_tape_alloc(nd->tape, 2 * (size_t)n * sizeof(R)))) return QT_EMEM;
    r->log_sum = r->max + n;
    return qt_node_out(nd, 1, (int64_t[]){1});
}

QT_CLONES static double row_forward(const R *x, int64_t K, int32_t target, double smoothing, R *max, R *log_sum)
{
    const R m = qt_lane_max(x, K);
    double  sum = 0, total = 0;
    QT_SUM(sum, j, K, qt_vexp(x[j] - m));
    if (smoothing > 0) QT_SUM(total, j, K, x[j] - m);
    *max = m, *log_sum = (R)log(sum);
    return log(sum) - (1 - smoothing) * (double)(x[target] - m) - smoothing * total / (double)K;
}

static void forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const arg       *g = nd->arg;
    const int32_t   *target = nd->in[1]->ids;
    const rows      *r = nd->saved;
    const int64_t    K = x->dim[x->rank - 1], grain = qt_row_grain(8 * K);
    double           sum = 0;
    QT_FOR_CHUNKS(b, e, r->n, grain)
    for (int64_t i = b; i < e; i++)
        r->loss[i] = target[i] == g->ignore ? 0 : row_forward(x->data + i * K, K, target[i], g->smoothing, r->max + i, r->log_sum + i);
    for (int64_t i = 0; i < r->n; i++) sum += r->loss[i];
    nd->out->data[0] = r->counted ? (R)(sum / (double)r->counted) : 0;
}

QT_CLONES static void row_backward(R *restrict dx, const R *restrict x, int64_t K, R max, R log_sum, R each, R dy, bool first)
{
    if (first)
        for (int64_t j = 0; j < K; j++) dx[j] = dy * (qt_vexp(x[j] - max - log_sum) - each);
    else
        for (int64_t j = 0; j < K; j++) dx[j] += dy * (qt_vexp(x[j] - max - log_sum) - each);
}

static void backward(const qt_node *nd)
{
    qt_tensor     *x = nd->in[0];
    const arg     *g = nd->arg;
    const int32_t *target = nd->in[1]->ids;
    const rows    *r = nd->saved;
    const int64_t  K = x->dim[x->rank - 1], grain = qt_row_grain(8 * K);
    if (r->counted < r->n) qt_grad_clear(x); /* rows that do not count */
    const bool first = qt_grad_first(x);
    if (!x->grad || !r->counted) return;
    const R dy = (R)((double)nd->out->grad[0] / (double)r->counted), each = (R)(g->smoothing / (double)K), own = (R)(1 - g->smoothing);
    QT_FOR_CHUNKS(b, e, r->n, grain)
    for (int64_t i = b; i < e; i++) {
        if (target[i] == g->ignore) continue;
        row_backward(x->grad + i * K, x->data + i * K, K, r->max[i], r->log_sum[i], each, dy, first);
        x->grad[i * K + target[i]] -= dy * own;
    }
}

qt_tensor *qt_cross_entropy(qt_tape *t, qt_tensor *x, qt_tensor *target, double label_smoothing, int ignore_index)
{
    arg g = {label_smoothing, ignore_index};
    return QT_EMIT(t, &qt_op_cross_entropy, &g, sizeof g, x, target);
}

static qt_tensor *build(qt_tape *t, qt_tensor **in) { return qt_cross_entropy(t, in[0], in[1], 0, -100); }
static qt_tensor *build_smooth(qt_tape *t, qt_tensor **in) { return qt_cross_entropy(t, in[0], in[1], 0.1, -100); }
static qt_tensor *build_ignore(qt_tape *t, qt_tensor **in) { return qt_cross_entropy(t, in[0], in[1], 0.2, 1); }
static qt_tensor *build_ignore_all(qt_tape *t, qt_tensor **in) { return qt_cross_entropy(t, in[0], in[1], 0, 0); }
static const qt_case cases[] = {{"rows", build, {{{5, 4}, 'n'}, {{5}, 'i', 4}}},
                                {"tokens", build_smooth, {{{2, 3, 7}, 'n'}, {{2, 3}, 'i', 7}}},
                                {"many classes", build_smooth, {{{2, 40}, 'n'}, {{2}, 'i', 40}}},
                                {"some ignored", build_ignore, {{{9, 3}, 'n'}, {{9}, 'i', 3}}},
                                {"all ignored", build_ignore_all, {{{3, 4}, 'n'}, {{3}, 'i', 1}}},
                                {"one row, one class", build, {{{1, 1}, 'n'}, {{1}, 'i', 1}}},
                                {NULL}};
const qt_op qt_op_cross_entropy = {.d = {"cross_entropy", "mean cross entropy of logits with class ids, in nats"}, .kind = QT_EXACT,
                                   .shape = shape, .forward = forward, .backward = backward, .stores = true, .cases = cases};
