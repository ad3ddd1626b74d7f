/* MaxMin, which sorts channels in pairs: of x [N,C] or [N,C,H,W], C even,
 *
 *     y[.,2i] = max(x[.,2i], x[.,2i+1]),      y[.,2i+1] = min of the two.
 *
 * Each place of the image permutes its numbers, so lengths of vectors and (backward, by the same permutation) of gradients stay what they are: a
 * network of orthogonal layers keeps gradients of norm 1, where relu would lose half of them. Of equal numbers none is moved.
 * dx is dy through the inverse permutation, kept as a byte a pair. A NaN is not moved either.
 * Anil, Lucas, Grosse, "Sorting out Lipschitz function approximation", ICML 2019, section 4.2: GroupSort with groups of two. */
#include "ops/inner.h"

qt_tensor *qt_max_min(qt_tape *t, qt_tensor *x) { return QT_EMIT(t, &qt_op_max_min, NULL, 0, x); }

static qt_err shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    char             s[96];
    if (x->rank < 2 || x->dim[1] % 2) return qt_node_fail(nd, "input %s: wants an even number of channels, [N,C] or [N,C,H,W]", qt_shape_str(x, s));
    QT_TRY(qt_node_out_like(nd, x));
    nd->own = x->n / 2;
    return qt_node_save(nd, (size_t)nd->own);
}

/* The planes of a pair, P numbers each. swap[j]: the second is the larger one. */
QT_CLONES static void sort(R *restrict y, uint8_t *restrict swap, const R *restrict x, int64_t P)
{
    for (int64_t j = 0; j < P; j++) {
        const R    a = x[j], b = x[P + j];
        const bool s = a < b;
        y[j] = s ? b : a, y[P + j] = s ? a : b, swap[j] = s;
    }
}

QT_CLONES static void unsort(R *restrict dx, const R *restrict dy, const uint8_t *restrict swap, int64_t P)
{
    for (int64_t j = 0; j < P; j++) {
        const R a = dy[j], b = dy[P + j];
        dx[j] += swap[j] ? b : a, dx[P + j] += swap[j] ? a : b;
    }
}

static int64_t plane(const qt_tensor *x) { return x->n / (x->dim[0] * x->dim[1]); }

static void forward(qt_node *nd)
{
    const R *x = nd->in[0]->data;
    R       *y = nd->out->data;
    uint8_t *swap = nd->saved;
    int64_t  P = plane(nd->out), pairs = nd->out->n / (2 * P), grain = qt_row_grain(2 * P);
    QT_FOR_CHUNKS(b, e, pairs, grain)
        for (int64_t k = b; k < e; k++) sort(y + 2 * k * P, swap + k * P, x + 2 * k * P, P);
}

static void backward(const qt_node *nd)
{
    const R       *dy = nd->out->grad;
    R             *dx = nd->in[0]->grad;
    const uint8_t *swap = nd->saved;
    int64_t        P = plane(nd->out), pairs = nd->out->n / (2 * P), grain = qt_row_grain(2 * P);
    if (!dx) return;
    QT_FOR_CHUNKS(b, e, pairs, grain)
        for (int64_t k = b; k < e; k++) unsort(dx + 2 * k * P, dy + 2 * k * P, swap + k * P, P);
}

static qt_tensor    *build(qt_tape *t, qt_tensor **in) { return qt_max_min(t, in[0]); }
static const qt_case cases[] = {{"images", build, {{{2, 4, 3, 2}, 'd'}}},
                                {"rows", build, {{{3, 6}, 'd'}}},
                                {"one pair", build, {{{1, 2, 5, 7}, 'd'}}},
                                {NULL}};

const qt_op qt_op_max_min = {.d = {"max_min", "channels sorted in pairs, the larger first", "Anil, Lucas, Grosse 2019, section 4.2"},
                             .kind = QT_EXACT,
                             .shape = shape,
                             .forward = forward,
                             .backward = backward,
                             .reads = qt_reads_nothing,
                             .cases = cases};
