/* Axes in another order: y[i_p0, i_p1, ...] = x[i_0, i_1, ...]. transpose exchanges the last two. Backward adds dy back along the same
 * walk; every element of x is met once. The result is written row by row, so that threads share out its rows. */
#include "ops/inner.h"
#include <string.h>

typedef struct permute_arg {
    int perm[QT_MAX_DIM];
} permute_arg;

/* The result as rows of `dim[4]` numbers whose counterparts in x lie step[4] apart; leading dimensions are filled up with ones. */
typedef struct walk {
    int64_t dim[QT_MAX_DIM], step[QT_MAX_DIM], rows;
} walk;

static walk walk_of(const qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const int       *perm = ((permute_arg *)nd->arg)->perm;
    walk             w;
    int64_t          step[QT_MAX_DIM] = {0}, s = 1;
    for (int i = x->rank - 1; i >= 0; i--) step[i] = s, s *= x->dim[i];
    for (int i = 0, lead = QT_MAX_DIM - x->rank; i < QT_MAX_DIM; i++) {
        w.dim[i] = i < lead ? 1 : x->dim[perm[i - lead]];
        w.step[i] = i < lead ? 0 : step[perm[i - lead]];
    }
    w.rows = x->n / w.dim[4];
    return w;
}

/* Where row r of the result begins in x. */
static int64_t walk_row(const walk *w, int64_t r)
{
    int64_t at = 0;
    for (int i = 3; i >= 0; i--) at += r % w->dim[i] * w->step[i], r /= w->dim[i];
    return at;
}

static qt_err permute_shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const int       *perm = ((permute_arg *)nd->arg)->perm;
    int64_t          dim[QT_MAX_DIM];
    int              seen = 0;
    char             s[96];
    for (int i = 0; i < x->rank; i++) {
        if (perm[i] < 0 || perm[i] >= x->rank || seen & 1 << perm[i])
            return qt_node_fail(nd, "entry %d of the permutation is %d; of %s each axis 0 to %d must come once", i, perm[i],
                                qt_shape_str(x, s), x->rank - 1);
        seen |= 1 << perm[i];
        dim[i] = x->dim[perm[i]];
    }
    return qt_node_out(nd, x->rank, dim);
}

static void permute_forward(qt_node *nd)
{
    const walk    w = walk_of(nd);
    const R      *x = nd->in[0]->data;
    const int64_t n = w.dim[4], step = w.step[4], grain = qt_row_grain(n);
    QT_FOR_CHUNKS(b, e, w.rows, grain)
    for (int64_t r = b; r < e; r++) {
        const R *from = x + walk_row(&w, r);
        R       *y = nd->out->data + r * n;
        if (step == 1) memcpy(y, from, (size_t)n * sizeof(R));
        else
            for (int64_t j = 0; j < n; j++) y[j] = from[j * step];
    }
}

static void permute_backward(const qt_node *nd)
{
    const walk    w = walk_of(nd);
    R            *dx = nd->in[0]->grad;
    const int64_t n = w.dim[4], step = w.step[4], grain = qt_row_grain(n);
    if (!dx) return;
    QT_FOR_CHUNKS(b, e, w.rows, grain)
    for (int64_t r = b; r < e; r++) {
        const R *dy = nd->out->grad + r * n;
        R       *to = dx + walk_row(&w, r);
        for (int64_t j = 0; j < n; j++) to[j * step] += dy[j];
    }
}

qt_tensor *qt_permute(qt_tape *t, qt_tensor *x, const int *perm)
{
    permute_arg g = {{0}};
    memcpy(g.perm, perm, (size_t)x->rank * sizeof *perm);
    return QT_EMIT(t, &qt_op_permute, &g, sizeof g, x);
}

static qt_err transpose_shape(qt_node *nd)
{
    char s[96];
    if (nd->in[0]->rank < 2) return qt_node_fail(nd, "x is %s, it must have two axes or more", qt_shape_str(nd->in[0], s));
    return permute_shape(nd);
}

qt_tensor *qt_transpose(qt_tape *t, qt_tensor *x)
{
    permute_arg g = {{0, 1, 2, 3, 4}};
    if (x->rank >= 2) g.perm[x->rank - 1] = x->rank - 2, g.perm[x->rank - 2] = x->rank - 1;
    return QT_EMIT(t, &qt_op_transpose, &g, sizeof g, x);
}

static qt_tensor    *build_permute3(qt_tape *t, qt_tensor **in) { return qt_permute(t, in[0], (int[]){1, 2, 0}); }
static qt_tensor    *build_permute4(qt_tape *t, qt_tensor **in) { return qt_permute(t, in[0], (int[]){0, 2, 1, 3}); }
static qt_tensor    *build_permute5(qt_tape *t, qt_tensor **in) { return qt_permute(t, in[0], (int[]){4, 1, 3, 0, 2}); }
static const qt_case permute_cases[] = {{"rank 3", build_permute3, {{{2, 3, 4}, 'n'}}},
                                        {"heads", build_permute4, {{{2, 3, 2, 5}, 'n'}}},
                                        {"rank 5", build_permute5, {{{2, 3, 1, 2, 2}, 'n'}}},
                                        {"ones", build_permute3, {{{1, 1, 1}, 'n'}}},
                                        {NULL}};
static qt_tensor    *build_transpose(qt_tape *t, qt_tensor **in) { return qt_transpose(t, in[0]); }
static const qt_case transpose_cases[] = {{"matrix", build_transpose, {{{3, 5}, 'n'}}},
                                          {"batch", build_transpose, {{{2, 3, 4}, 'n'}}},
                                          {"rank 5", build_transpose, {{{2, 1, 2, 3, 2}, 'n'}}},
                                          {"column", build_transpose, {{{4, 1}, 'n'}}},
                                          {NULL}};
const qt_op qt_op_permute = {.d = {"permute", "axes in another order"}, .kind = QT_EXACT,
                             .shape = permute_shape, .forward = permute_forward, .backward = permute_backward, .reads = qt_reads_nothing, .cases = permute_cases};
const qt_op qt_op_transpose = {.d = {"transpose", "the last two axes exchanged"}, .kind = QT_EXACT,
                               .shape = transpose_shape, .forward = permute_forward, .backward = permute_backward, .reads = qt_reads_nothing, .cases = transpose_cases};
