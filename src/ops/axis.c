/* Sum and mean over one axis, which disappears (a vector becomes one number). x as [outer, n, inner]:
 *
 *     sum    y[o,i] = sum_k x[o,k,i]     dx[o,k,i] = dy[o,i]            mean   both over n
 *
 * Sums in double, in the order of k (along the last axis in lanes). */
#include "ops/inner.h"

enum { STRIP = 64 };

static qt_err shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const int        axis = *(int *)nd->arg;
    int64_t          dim[QT_MAX_DIM] = {1};
    char             s[96];
    if (!qt_axis_fits(x, axis)) return qt_node_fail(nd, "there is no axis %d in %s", axis, qt_shape_str(x, s));
    for (int i = 0, k = 0; i < x->rank; i++)
        if (i != qt_axis_of(x, axis).at) dim[k++] = x->dim[i];
    return qt_node_out(nd, x->rank > 1 ? x->rank - 1 : 1, dim);
}

QT_CLONES static double row_sum(const R *x, int64_t n)
{
    double sum = 0;
    QT_SUM(sum, j, n, x[j]);
    return sum;
}

/* Columns [0, width) of n rows that lie `inner` apart. */
QT_CLONES static void strip_sum(R *y, const R *x, int64_t n, int64_t inner, int64_t width, double over)
{
    double sum[STRIP] = {0};
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < width; i++) sum[i] += (double)x[k * inner + i];
    for (int64_t i = 0; i < width; i++) y[i] = (R)(sum[i] / over);
}

static void reduce(qt_node *nd, bool mean)
{
    const qt_axis a = qt_axis_of(nd->in[0], *(int *)nd->arg);
    const R      *x = nd->in[0]->data;
    R            *y = nd->out->data;
    const double  over = mean ? (double)a.n : 1;
    const int64_t strips = QT_CHUNKS(a.inner, STRIP), grain = qt_row_grain(a.n * qt_min_i64(a.inner, STRIP));
    QT_FOR_CHUNKS(b, e, a.outer * strips, grain)
    for (int64_t s = b; s < e; s++) {
        const int64_t o = s / strips, i = s % strips * STRIP;
        if (a.inner == 1) y[o] = (R)(row_sum(x + o * a.n, a.n) / over);
        else strip_sum(y + o * a.inner + i, x + o * a.n * a.inner + i, a.n, a.inner, qt_min_i64(STRIP, a.inner - i), over);
    }
}

QT_CLONES static void spread(R *restrict dx, const R *restrict dy, int64_t n, int64_t inner, R over)
{
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < inner; i++) dx[k * inner + i] += dy[i] / over;
}

static void spread_back(const qt_node *nd, bool mean)
{
    const qt_axis a = qt_axis_of(nd->in[0], *(int *)nd->arg);
    const int64_t step = a.n * a.inner, grain = qt_row_grain(step);
    R            *dx = nd->in[0]->grad;
    if (!dx) return;
    QT_FOR_CHUNKS(b, e, a.outer, grain)
    for (int64_t o = b; o < e; o++) spread(dx + o * step, nd->out->grad + o * a.inner, a.n, a.inner, mean ? (R)a.n : 1);
}

static void sum_forward(qt_node *nd) { reduce(nd, false); }
static void mean_forward(qt_node *nd) { reduce(nd, true); }
static void sum_backward(const qt_node *nd) { spread_back(nd, false); }
static void mean_backward(const qt_node *nd) { spread_back(nd, true); }

qt_tensor *qt_sum(qt_tape *t, qt_tensor *x, int axis) { return QT_EMIT(t, &qt_op_sum, &axis, sizeof axis, x); }
qt_tensor *qt_mean(qt_tape *t, qt_tensor *x, int axis) { return QT_EMIT(t, &qt_op_mean, &axis, sizeof axis, x); }

static qt_tensor *build_sum0(qt_tape *t, qt_tensor **in) { return qt_sum(t, in[0], 0); }
static qt_tensor *build_sum1(qt_tape *t, qt_tensor **in) { return qt_sum(t, in[0], 1); }
static qt_tensor *build_sum_last(qt_tape *t, qt_tensor **in) { return qt_sum(t, in[0], -1); }
static qt_tensor *build_mean0(qt_tape *t, qt_tensor **in) { return qt_mean(t, in[0], 0); }
static qt_tensor *build_mean1(qt_tape *t, qt_tensor **in) { return qt_mean(t, in[0], 1); }
static qt_tensor *build_mean_last(qt_tape *t, qt_tensor **in) { return qt_mean(t, in[0], -1); }

#define CASES(f0, f1, f_last)                                                                                                \
    {                                                                                                                        \
        {"vector", f0, {{{19}, 'n'}}}, {"columns", f0, {{{4, 70}, 'n'}}}, {"rows", f_last, {{{3, 6}, 'n'}}},                 \
        {"channels", f1, {{{2, 3, 2, 2}, 'n'}}}, {"an axis of one", f1, {{{2, 1, 3}, 'n'}}}, {"one number", f0, {{{1}, 'n'}}}, \
        {"last of rank 5", f_last, {{{2, 1, 2, 2, 3}, 'n'}}}, {NULL}                                                         \
    }
static const qt_case sum_cases[] = CASES(build_sum0, build_sum1, build_sum_last), mean_cases[] = CASES(build_mean0, build_mean1, build_mean_last);

const qt_op qt_op_sum = {.d = {"sum", "sum over an axis"}, .kind = QT_EXACT,
                         .shape = shape, .forward = sum_forward, .backward = sum_backward, .reads = qt_reads_nothing, .cases = sum_cases};
const qt_op qt_op_mean = {.d = {"mean", "mean over an axis"}, .kind = QT_EXACT,
                          .shape = shape, .forward = mean_forward, .backward = mean_backward, .reads = qt_reads_nothing, .cases = mean_cases};
