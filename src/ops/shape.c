/* Moving numbers without changing them; what forward copies to a place, backward adds back from there.
 *
 *     reshape   the same numbers under another shape; one dimension may be -1 and is worked out
 *     concat    a, then b, along an axis
 *     slice     [begin, end) of an axis
 *     pad       before and after an axis, with a constant that gets no gradient
 *
 * A negative axis counts from the end. Left out: strides and views, negative slice bounds, reflecting pads. */
#include "ops/inner.h"
#include <string.h>

QT_CLONES static void add_up(R *restrict x, const R *restrict g, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] += g[i];
}

static qt_err check_axis(const qt_node *nd, const qt_tensor *x, int axis)
{
    char s[96];
    if (!qt_axis_fits(x, axis)) return qt_node_fail(nd, "there is no axis %d in %s", axis, qt_shape_str(x, s));
    return QT_OK;
}

/* ---- reshape ----------------------------------------------------------------------------------------------------------------- */

typedef struct reshape_arg {
    int     rank;
    int64_t dim[QT_MAX_DIM];
} reshape_arg;

static qt_err reshape_shape(qt_node *nd)
{
    const qt_tensor   *x = nd->in[0];
    const reshape_arg *g = nd->arg;
    int64_t            dim[QT_MAX_DIM], n = 1;
    int                open = -1;
    char               s[96], u[96];
    qt_tensor          wanted = {.rank = (int8_t)g->rank};
    if (g->rank < 1 || g->rank > QT_MAX_DIM) return qt_node_fail(nd, "a tensor has 1 to %d axes, not %d", QT_MAX_DIM, g->rank);
    memcpy(wanted.dim, g->dim, sizeof dim);
    memcpy(dim, g->dim, sizeof dim);
    for (int i = 0; i < g->rank; i++) {
        if (dim[i] < -1 || dim[i] == 0 || (dim[i] == -1 && open >= 0))
            return qt_node_fail(nd, "%s is no shape: sizes are positive, at most one is -1", qt_shape_str(&wanted, u));
        if (dim[i] == -1) open = i;
        else n *= dim[i];
    }
    if (open >= 0) dim[open] = x->n / n, n *= dim[open];
    if (n != x->n) return qt_node_fail(nd, "%s has %lld numbers, they do not make %s", qt_shape_str(x, s), (long long)x->n, qt_shape_str(&wanted, u));
    return qt_node_out(nd, g->rank, dim);
}

static void reshape_forward(qt_node *nd)
{
    const R *x = nd->in[0]->data;
    R       *y = nd->out->data;
    QT_FOR_CHUNKS(b, e, nd->out->n, QT_GRAIN) memcpy(y + b, x + b, (size_t)(e - b) * sizeof(R));
}

static void reshape_backward(const qt_node *nd)
{
    const R *dy = nd->out->grad;
    R       *dx = nd->in[0]->grad;
    if (!dx) return;
    QT_FOR_CHUNKS(b, e, nd->out->n, QT_GRAIN) add_up(dx + b, dy + b, e - b);
}

qt_tensor *qt_reshape(qt_tape *t, qt_tensor *x, int rank, const int64_t *dim)
{
    reshape_arg g = {rank, {0}};
    for (int i = 0; i < rank && i < QT_MAX_DIM; i++) g.dim[i] = dim[i];
    return QT_EMIT(t, &qt_op_reshape, &g, sizeof g, x);
}

static qt_tensor    *build_flatten(qt_tape *t, qt_tensor **in) { return qt_reshape(t, in[0], 2, (int64_t[]){2, -1}); }
static qt_tensor    *build_unflatten(qt_tape *t, qt_tensor **in) { return qt_reshape(t, in[0], 5, (int64_t[]){1, 2, -1, 3, 1}); }
static qt_tensor    *build_line(qt_tape *t, qt_tensor **in) { return qt_reshape(t, in[0], 1, (int64_t[]){-1}); }
static const qt_case reshape_cases[] = {{"flatten", build_flatten, {{{2, 3, 2, 2}, 'n'}}},
                                        {"unflatten", build_unflatten, {{{4, 6}, 'n'}}},
                                        {"to a vector", build_line, {{{1, 1}, 'n'}}},
                                        {NULL}};
const qt_op qt_op_reshape = {.d = {"reshape", "the same numbers under another shape"}, .kind = QT_EXACT,
                             .shape = reshape_shape, .forward = reshape_forward, .backward = reshape_backward, .reads = qt_reads_nothing, .cases = reshape_cases};

/* ---- concat, slice, pad: rows of `n` numbers that lie in one tensor `step` apart ---------------------------------------------- */

static void copy_rows(R *to, int64_t to_step, const R *from, int64_t from_step, int64_t rows, int64_t n)
{
    const int64_t grain = qt_row_grain(n);
    QT_FOR_CHUNKS(b, e, rows, grain)
    for (int64_t r = b; r < e; r++) memcpy(to + r * to_step, from + r * from_step, (size_t)n * sizeof(R));
}

static void add_rows(R *to, int64_t to_step, const R *from, int64_t from_step, int64_t rows, int64_t n)
{
    const int64_t grain = qt_row_grain(n);
    QT_FOR_CHUNKS(b, e, rows, grain)
    for (int64_t r = b; r < e; r++) add_up(to + r * to_step, from + r * from_step, n);
}

static qt_err concat_shape(qt_node *nd)
{
    const qt_tensor *a = nd->in[0], *b = nd->in[1];
    const int        axis = *(int *)nd->arg;
    int64_t          dim[QT_MAX_DIM];
    char             s[96], u[96];
    QT_TRY(check_axis(nd, a, axis));
    const int at = qt_axis_of(a, axis).at;
    bool      fits = a->rank == b->rank;
    for (int i = 0; fits && i < a->rank; i++) {
        fits = i == at || a->dim[i] == b->dim[i];
        dim[i] = a->dim[i] + (i == at ? b->dim[i] : 0);
    }
    if (!fits) return qt_node_fail(nd, "%s and %s must agree in all axes but %d", qt_shape_str(a, s), qt_shape_str(b, u), at);
    return qt_node_out(nd, a->rank, dim);
}

static void concat_forward(qt_node *nd)
{
    const qt_axis a = qt_axis_of(nd->in[0], *(int *)nd->arg), b = qt_axis_of(nd->in[1], *(int *)nd->arg);
    const int64_t na = a.n * a.inner, nb = b.n * b.inner;
    copy_rows(nd->out->data, na + nb, nd->in[0]->data, na, a.outer, na);
    copy_rows(nd->out->data + na, na + nb, nd->in[1]->data, nb, a.outer, nb);
}

static void concat_backward(const qt_node *nd)
{
    const qt_axis a = qt_axis_of(nd->in[0], *(int *)nd->arg), b = qt_axis_of(nd->in[1], *(int *)nd->arg);
    const int64_t na = a.n * a.inner, nb = b.n * b.inner;
    if (nd->in[0]->grad) add_rows(nd->in[0]->grad, na, nd->out->grad, na + nb, a.outer, na);
    if (nd->in[1]->grad) add_rows(nd->in[1]->grad, nb, nd->out->grad + na, na + nb, a.outer, nb);
}

qt_tensor *qt_concat(qt_tape *t, qt_tensor *a, qt_tensor *b, int axis) { return QT_EMIT(t, &qt_op_concat, &axis, sizeof axis, a, b); }

typedef struct slice_arg {
    int     axis;
    int64_t begin, end;
} slice_arg;

static qt_err slice_shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const slice_arg *g = nd->arg;
    int64_t          dim[QT_MAX_DIM];
    char             s[96];
    QT_TRY(check_axis(nd, x, g->axis));
    const qt_axis a = qt_axis_of(x, g->axis);
    if (g->begin < 0 || g->begin >= g->end || g->end > a.n)
        return qt_node_fail(nd, "[%lld, %lld) is not within axis %d of %s", (long long)g->begin, (long long)g->end, a.at, qt_shape_str(x, s));
    memcpy(dim, x->dim, sizeof dim);
    dim[a.at] = g->end - g->begin;
    return qt_node_out(nd, x->rank, dim);
}

static void slice_forward(qt_node *nd)
{
    const slice_arg *g = nd->arg;
    const qt_axis    a = qt_axis_of(nd->in[0], g->axis);
    const int64_t    n = (g->end - g->begin) * a.inner;
    copy_rows(nd->out->data, n, nd->in[0]->data + g->begin * a.inner, a.n * a.inner, a.outer, n);
}

static void slice_backward(const qt_node *nd)
{
    const slice_arg *g = nd->arg;
    const qt_axis    a = qt_axis_of(nd->in[0], g->axis);
    const int64_t    n = (g->end - g->begin) * a.inner;
    if (nd->in[0]->grad) add_rows(nd->in[0]->grad + g->begin * a.inner, a.n * a.inner, nd->out->grad, n, a.outer, n);
}

qt_tensor *qt_slice(qt_tape *t, qt_tensor *x, int axis, int64_t begin, int64_t end)
{
    slice_arg g = {axis, begin, end};
    return QT_EMIT(t, &qt_op_slice, &g, sizeof g, x);
}

typedef struct pad_arg {
    int     axis;
    int64_t before, after;
    R       value;
} pad_arg;

static qt_err pad_shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const pad_arg   *g = nd->arg;
    int64_t          dim[QT_MAX_DIM];
    QT_TRY(check_axis(nd, x, g->axis));
    if (g->before < 0 || g->after < 0)
        return qt_node_fail(nd, "%lld before and %lld after: a pad is not negative (slice cuts off)", (long long)g->before, (long long)g->after);
    memcpy(dim, x->dim, sizeof dim);
    dim[qt_axis_of(x, g->axis).at] += g->before + g->after;
    return qt_node_out(nd, x->rank, dim);
}

static void pad_forward(qt_node *nd)
{
    const pad_arg *g = nd->arg;
    const qt_axis  a = qt_axis_of(nd->in[0], g->axis);
    const int64_t  n = a.n * a.inner, step = n + (g->before + g->after) * a.inner;
    for (int64_t i = 0; i < nd->out->n; i++) nd->out->data[i] = g->value;
    copy_rows(nd->out->data + g->before * a.inner, step, nd->in[0]->data, n, a.outer, n);
}

static void pad_backward(const qt_node *nd)
{
    const pad_arg *g = nd->arg;
    const qt_axis  a = qt_axis_of(nd->in[0], g->axis);
    const int64_t  n = a.n * a.inner, step = n + (g->before + g->after) * a.inner;
    if (nd->in[0]->grad) add_rows(nd->in[0]->grad, n, nd->out->grad + g->before * a.inner, step, a.outer, n);
}

qt_tensor *qt_pad(qt_tape *t, qt_tensor *x, int axis, int64_t before, int64_t after, double value)
{
    pad_arg g = {axis, before, after, (R)value};
    return QT_EMIT(t, &qt_op_pad, &g, sizeof g, x);
}

static qt_tensor    *build_concat0(qt_tape *t, qt_tensor **in) { return qt_concat(t, in[0], in[1], 0); }
static qt_tensor    *build_concat1(qt_tape *t, qt_tensor **in) { return qt_concat(t, in[0], in[1], 1); }
static qt_tensor    *build_concat_same(qt_tape *t, qt_tensor **in) { return qt_concat(t, in[0], in[0], -1); }
static const qt_case concat_cases[] = {{"vectors", build_concat0, {{{3}, 'n'}, {{5}, 'n'}}},
                                       {"channels", build_concat1, {{{2, 3, 2, 2}, 'n'}, {{2, 1, 2, 2}, 'n'}}},
                                       {"rows", build_concat0, {{{1, 3}, 'n'}, {{2, 3}, 'n'}}},
                                       {"a is b, last axis", build_concat_same, {{{2, 2, 3}, 'n'}}},
                                       {NULL}};
static qt_tensor    *build_slice(qt_tape *t, qt_tensor **in) { return qt_slice(t, in[0], 0, 1, 3); }
static qt_tensor    *build_slice_last(qt_tape *t, qt_tensor **in) { return qt_slice(t, in[0], -1, 2, 5); }
static qt_tensor    *build_slice_mid(qt_tape *t, qt_tensor **in) { return qt_slice(t, in[0], 1, 0, 1); }
static const qt_case slice_cases[] = {{"vector", build_slice, {{{4}, 'n'}}},
                                      {"last axis", build_slice_last, {{{3, 6}, 'n'}}},
                                      {"one channel", build_slice_mid, {{{2, 3, 2, 2}, 'n'}}},
                                      {"all of an axis", build_slice_mid, {{{2, 1, 3}, 'n'}}},
                                      {NULL}};
static qt_tensor    *build_pad(qt_tape *t, qt_tensor **in) { return qt_pad(t, in[0], 0, 1, 2, 0); }
static qt_tensor    *build_pad_last(qt_tape *t, qt_tensor **in) { return qt_pad(t, in[0], -1, 2, 0, -3); }
static qt_tensor    *build_pad_none(qt_tape *t, qt_tensor **in) { return qt_pad(t, in[0], 1, 0, 0, 1); }
static const qt_case pad_cases[] = {{"vector", build_pad, {{{3}, 'n'}}},
                                    {"last axis", build_pad_last, {{{2, 3, 2}, 'n'}}},
                                    {"rows of images", build_pad, {{{2, 1, 2, 2}, 'n'}}},
                                    {"nothing", build_pad_none, {{{1, 1}, 'n'}}},
                                    {NULL}};
const qt_op qt_op_concat = {.d = {"concat", "two tensors one after the other along an axis"}, .kind = QT_EXACT,
                            .shape = concat_shape, .forward = concat_forward, .backward = concat_backward, .reads = qt_reads_nothing, .cases = concat_cases};
const qt_op qt_op_slice = {.d = {"slice", "a range of an axis"}, .kind = QT_EXACT,
                           .shape = slice_shape, .forward = slice_forward, .backward = slice_backward, .reads = qt_reads_nothing, .cases = slice_cases};
const qt_op qt_op_pad = {.d = {"pad", "an axis made longer at its ends with a constant"}, .kind = QT_EXACT,
                         .shape = pad_shape, .forward = pad_forward, .backward = pad_backward, .reads = qt_reads_nothing, .cases = pad_cases};
