/* Operations with a number for each channel: C is dimension 1 of images [N,C,H,W] and the last dimension of anything else, b and slope [C].
 *
 *     add_channels  y = x + b[c]                          dx = dy,                      db[c] = sum of dy over channel c
 *     prelu         y = x where x > 0, else slope[c] x    dx = dy (1 or slope[c]),      dslope[c] = sum of dy x where x <= 0
 *
 * He et al. 2015, "Delving deep into rectifiers" (arXiv 1502.01852), eq. 1, for prelu. */
#include "ops/inner.h"

static qt_axis channels_of(const qt_tensor *x) { return qt_axis_of(x, x->rank == 4 ? 1 : -1); }

static qt_err shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *b = nd->in[1];
    qt_axis          a = channels_of(x);
    char             s[96], u[96];
    if (b->rank != 1 || b->n != a.n)
        return qt_node_fail(nd, "x %s has %lld channels, their numbers are %s", qt_shape_str(x, s), (long long)a.n, qt_shape_str(b, u));
    return qt_node_out_like(nd, x);
}

/* For each run of a channel's numbers, i.e. `inner` of them at `at`: FOR_RUNS(a) { ... } */
#define FOR_RUNS(a, at, c)                                                                      \
    QT_FOR_EACH(run_, (a).outer * (a).n, (a).outer * (a).n * (a).inner > QT_GRAIN)              \
    for (int64_t c = run_ % (a).n, at = run_ * (a).inner, once_ = 1; once_; once_ = 0)

QT_CLONES static void add_run(R *restrict y, const R *restrict x, int64_t n, R b)
{
    for (int64_t i = 0; i < n; i++) y[i] = x[i] + b;
}

/* one = 1: a number that the compiler does not know keeps both sides of the choice a product, without a branch. */
QT_CLONES static void prelu_run(R *restrict y, const R *restrict x, int64_t n, R one, R slope)
{
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * (x[i] > 0 ? one : slope);
}

static void forward_add(qt_node *nd)
{
    const qt_axis a = channels_of(nd->in[0]);
    FOR_RUNS(a, at, c) add_run(nd->out->data + at, nd->in[0]->data + at, a.inner, nd->in[1]->data[c]);
}

static void forward_prelu(qt_node *nd)
{
    const qt_axis a = channels_of(nd->in[0]);
    FOR_RUNS(a, at, c) prelu_run(nd->out->data + at, nd->in[0]->data + at, a.inner, 1, nd->in[1]->data[c]);
}

QT_CLONES static void add_dx(R *restrict dx, const R *restrict dy, int64_t n, bool first)
{
    for (int64_t i = 0; i < n; i++) dx[i] = first ? dy[i] : dx[i] + dy[i];
}

QT_CLONES static void prelu_dx(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t n, R one, R slope, bool first)
{
    if (first)
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * (x[i] > 0 ? one : slope);
    else
        for (int64_t i = 0; i < n; i++) dx[i] += dy[i] * (x[i] > 0 ? one : slope);
}

/* Sum of dy, or of dy x where x <= 0, over channel c. */
QT_CLONES static double channel_sum(const qt_axis *a, int64_t c, const R *dy, const R *x)
{
    double sum = 0;
    for (int64_t o = 0; o < a->outer; o++) {
        const R *g = dy + (o * a->n + c) * a->inner, *u = x ? x + (o * a->n + c) * a->inner : NULL;
        if (u) QT_SUM(sum, j, a->inner, g[j] * (u[j] > 0 ? 0 : u[j]));
        else QT_SUM(sum, j, a->inner, g[j]);
    }
    return sum;
}

static void backward_numbers(const qt_node *nd, const R *x)
{
    const qt_axis a = channels_of(nd->out);
    R            *db = nd->in[1]->grad;
    qt_grad_clear(nd->in[1]);
    if (!db) return;
    QT_FOR_EACH(c, a.n, nd->out->n > QT_GRAIN) db[c] += (R)channel_sum(&a, c, nd->out->grad, x);
}

static void backward_add(const qt_node *nd)
{
    const R *dy = nd->out->grad;
    R       *dx = nd->in[0]->grad;
    backward_numbers(nd, NULL);
    const bool first = qt_grad_first(nd->in[0]);
    if (!dx) return;
    QT_FOR_CHUNKS(b, e, nd->out->n, QT_GRAIN) add_dx(dx + b, dy + b, e - b, first);
}

static void backward_prelu(const qt_node *nd)
{
    const qt_axis a = channels_of(nd->out);
    const R      *dy = nd->out->grad, *x = nd->in[0]->data, *slope = nd->in[1]->data;
    R            *dx = nd->in[0]->grad;
    backward_numbers(nd, x);
    const bool first = qt_grad_first(nd->in[0]);
    if (!dx) return;
    FOR_RUNS(a, at, c) prelu_dx(dx + at, dy + at, x + at, a.inner, 1, slope[c], first);
}

static uint32_t reads_prelu(const qt_node *nd) { return (void)nd, QT_READS_NEARLY(1) | QT_READS(2); }

qt_tensor *qt_add_channels(qt_tape *t, qt_tensor *x, qt_tensor *b) { return QT_EMIT(t, &qt_op_add_channels, NULL, 0, x, b); }
qt_tensor *qt_prelu(qt_tape *t, qt_tensor *x, qt_tensor *slope) { return QT_EMIT(t, &qt_op_prelu, NULL, 0, x, slope); }

static qt_tensor *build_add(qt_tape *t, qt_tensor **in) { return qt_add_channels(t, in[0], in[1]); }
static qt_tensor *build_prelu(qt_tape *t, qt_tensor **in) { return qt_prelu(t, in[0], in[1]); }
#define CASES(build)                                                                                         \
    {{"images", build, {{{2, 3, 4, 5}, 'k'}, {{3}, 'n'}}}, {"rows", build, {{{5, 7}, 'k'}, {{7}, 'n'}}},      \
     {"tokens", build, {{{2, 3, 4}, 'k'}, {{4}, 'n'}}}, {NULL}}
static const qt_case add_cases[] = CASES(build_add), prelu_cases[] = CASES(build_prelu);

const qt_op qt_op_add_channels = {
    .d = {"add_channels", "a number added to each channel"},
    .kind = QT_EXACT, .shape = shape, .forward = forward_add, .backward = backward_add, .stores = true, .reads = qt_reads_nothing,
    .cases = add_cases};
const qt_op qt_op_prelu = {
    .d = {"prelu", "x above zero, a learned slope for each channel below", "He et al. 2015, arXiv 1502.01852, eq. 1"},
    .kind = QT_EXACT, .shape = shape, .forward = forward_prelu, .backward = backward_prelu, .stores = true, .reads = reads_prelu,
    .cases = prelu_cases};
