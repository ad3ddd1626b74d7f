/* Softmax and its logarithm over the last axis, D numbers a row, with the row's largest number taken off first:
 *
 *     softmax       y = exp(x - m) / sum exp(x - m)            dx = y (dy - sum dy y)
 *     log_softmax   y = x - m - log sum exp(x - m)             dx = dy - exp(y) sum dy
 *
 * as dy_i/dx_j = y_i (1[i=j] - y_j), and for the logarithm 1[i=j] - exp(y_j). A row of -inf alone gives NaN. */
#include "ops/inner.h"
#include "ops/vmath.h"

static qt_err shape(qt_node *nd) { return qt_node_out_like(nd, nd->in[0]); }

QT_CLONES static void softmax_row(R *restrict y, const R *restrict x, int64_t D)
{
    const R m = qt_lane_max(x, D);
    double  sum = 0;
    for (int64_t j = 0; j < D; j++) y[j] = qt_vexp(x[j] - m);
    QT_SUM(sum, j, D, y[j]);
    const R s = (R)sum;
    for (int64_t j = 0; j < D; j++) y[j] /= s;
}

QT_CLONES static void log_softmax_row(R *restrict y, const R *restrict x, int64_t D)
{
    const R m = qt_lane_max(x, D);
    double  sum = 0;
    for (int64_t j = 0; j < D; j++) y[j] = qt_vexp(x[j] - m);
    QT_SUM(sum, j, D, y[j]);
    const R s = (R)log(sum);
    for (int64_t j = 0; j < D; j++) y[j] = x[j] - m - s;
}

QT_CLONES static void softmax_row_back(R *restrict dx, const R *restrict y, const R *restrict dy, int64_t D, bool first)
{
    double sum = 0;
    QT_SUM(sum, j, D, dy[j] * y[j]);
    const R s = (R)sum;
    if (first)
        for (int64_t j = 0; j < D; j++) dx[j] = y[j] * (dy[j] - s);
    else
        for (int64_t j = 0; j < D; j++) dx[j] += y[j] * (dy[j] - s);
}

QT_CLONES static void log_softmax_row_back(R *restrict dx, const R *restrict y, const R *restrict dy, int64_t D, bool first)
{
    double sum = 0;
    QT_SUM(sum, j, D, dy[j]);
    const R s = (R)sum;
    if (first)
        for (int64_t j = 0; j < D; j++) dx[j] = dy[j] - qt_vexp(y[j]) * s;
    else
        for (int64_t j = 0; j < D; j++) dx[j] += dy[j] - qt_vexp(y[j]) * s;
}

static void rows_forward(qt_node *nd, void (*row)(R *restrict, const R *restrict, int64_t))
{
    const qt_tensor *x = nd->in[0];
    const int64_t    D = x->dim[x->rank - 1], rows = x->n / D, grain = qt_row_grain(D);
    QT_FOR_CHUNKS(r, e, rows, grain)
    for (int64_t i = r; i < e; i++) row(nd->out->data + i * D, x->data + i * D, D);
}

static void rows_backward(const qt_node *nd, void (*row)(R *restrict, const R *restrict, const R *restrict, int64_t, bool))
{
    const qt_tensor *x = nd->in[0], *y = nd->out;
    const int64_t    D = x->dim[x->rank - 1], rows = x->n / D, grain = qt_row_grain(D);
    const bool       first = qt_grad_first(nd->in[0]);
    if (!x->grad) return;
    QT_FOR_CHUNKS(r, e, rows, grain)
    for (int64_t i = r; i < e; i++) row(x->grad + i * D, y->data + i * D, y->grad + i * D, D, first);
}

static void softmax_forward(qt_node *nd) { rows_forward(nd, softmax_row); }
static void softmax_backward(const qt_node *nd) { rows_backward(nd, softmax_row_back); }
static void log_softmax_forward(qt_node *nd) { rows_forward(nd, log_softmax_row); }
static void log_softmax_backward(const qt_node *nd) { rows_backward(nd, log_softmax_row_back); }

qt_tensor *qt_softmax(qt_tape *t, qt_tensor *x) { return QT_EMIT(t, &qt_op_softmax, NULL, 0, x); }
qt_tensor *qt_log_softmax(qt_tape *t, qt_tensor *x) { return QT_EMIT(t, &qt_op_log_softmax, NULL, 0, x); }

static qt_tensor *build_softmax(qt_tape *t, qt_tensor **in) { return qt_softmax(t, in[0]); }
static qt_tensor *build_log_softmax(qt_tape *t, qt_tensor **in) { return qt_log_softmax(t, in[0]); }

#define CASES(build)                                                                                                                       \
    {                                                                                                                                      \
        {"rows", build, {{{4, 6}, 'n'}}}, {"vector", build, {{{19}, 'n'}}}, {"rank 4", build, {{{2, 2, 2, 3}, 'n'}}},                      \
        {"rows of one number", build, {{{3, 1}, 'n'}}}, {NULL}                                                                             \
    }
static const qt_case softmax_cases[] = CASES(build_softmax), log_softmax_cases[] = CASES(build_log_softmax);

static uint32_t reads_nearly(const qt_node *nd) { return (void)nd, QT_READS_NEARLY(QT_RESULT); }

const qt_op qt_op_softmax = {.d = {"softmax", "exp(x) over the sum of exp(x), over the last axis"}, .kind = QT_EXACT,
                             .shape = shape, .forward = softmax_forward, .backward = softmax_backward, .stores = true,
                             .reads = reads_nearly, .cases = softmax_cases};
const qt_op qt_op_log_softmax = {.d = {"log_softmax", "logarithm of softmax over the last axis"}, .kind = QT_EXACT,
                                 .shape = shape, .forward = log_softmax_forward, .backward = log_softmax_backward, .stores = true,
                                 .reads = qt_reads_result, .cases = log_softmax_cases};
