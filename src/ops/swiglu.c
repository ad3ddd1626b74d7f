/* Gated unit with SiLU, both operands of one shape:
 *
 *     y = a s u,   s = 1/(1 + exp(-a)),   a = gate, u = up         da = dy u s (1 + a (1 - s)),   du = dy a s
 *
 * in one pass each way. Shazeer, "GLU variants improve transformer", 2020, equation 6 (SwiGLU, beta = 1), without its three products. */
#include "ops/inner.h"
#include "ops/vmath.h"
#include <string.h>

enum { RUN = 256 };

static qt_err shape(qt_node *nd)
{
    const qt_tensor *a = nd->in[0], *u = nd->in[1];
    char             s[96], v[96];
    bool             same = a->rank == u->rank;
    for (int i = 0; same && i < a->rank; i++) same = a->dim[i] == u->dim[i];
    if (!same) return qt_node_fail(nd, "gate %s and up %s must have one shape", qt_shape_str(a, s), qt_shape_str(u, v));
    return qt_node_out_like(nd, a);
}

QT_INLINE R sigmoid(R x) { return 1 / (1 + qt_vexp(-x)); }

QT_CLONES static void values(R *restrict y, const R *a, const R *u, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = a[i] * sigmoid(a[i]) * u[i];
}

QT_CLONES static void grads(R *restrict da, R *restrict du, const R *a, const R *u, const R *dy, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const R s = sigmoid(a[i]);
        da[i] = dy[i] * u[i] * (s * (1 + a[i] * (1 - s)));
        du[i] = dy[i] * (a[i] * s);
    }
}

QT_CLONES static void add(R *restrict x, const R *restrict g, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] += g[i];
}

/* x = g where nothing is there yet, else x += g; x may be NULL */
static void put(R *x, const R *g, int64_t n, bool first)
{
    if (x && first) memcpy(x, g, (size_t)n * sizeof(R));
    else if (x) add(x, g, n);
}

static void forward(qt_node *nd)
{
    const R *a = nd->in[0]->data, *u = nd->in[1]->data;
    R       *y = nd->out->data;
    QT_FOR_CHUNKS(i, e, nd->out->n, QT_GRAIN) values(y + i, a + i, u + i, e - i);
}

static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS_NEARLY(3); }

static void backward(const qt_node *nd)
{
    const R   *a = nd->in[0]->data, *u = nd->in[1]->data, *dy = nd->out->grad;
    R         *da = nd->in[0]->grad, *du = nd->in[1]->grad;
    const bool first_a = qt_grad_first(nd->in[0]), first_u = qt_grad_first(nd->in[1]);
    QT_FOR_CHUNKS(b, e, nd->out->n, QT_GRAIN)
    for (int64_t i = b; i < e; i += RUN) {
        const int64_t n = qt_min_i64(RUN, e - i);
        R             ga[RUN], gu[RUN];
        grads(ga, gu, a + i, u + i, dy + i, n);
        put(da ? da + i : NULL, ga, n, first_a), put(du ? du + i : NULL, gu, n, first_u);
    }
}

qt_tensor *qt_swiglu(qt_tape *t, qt_tensor *gate, qt_tensor *up) { return QT_EMIT(t, &qt_op_swiglu, NULL, 0, gate, up); }

static qt_tensor    *build(qt_tape *t, qt_tensor **in) { return qt_swiglu(t, in[0], in[1]); }
static qt_tensor    *build_aliased(qt_tape *t, qt_tensor **in) { return qt_swiglu(t, in[0], in[0]); }
static const qt_case cases[] = {{"vector", build, {{{19}, 'n'}, {{19}, 'n'}}},
                                {"batch of sequences", build, {{{2, 3, 5}, 'n'}, {{2, 3, 5}, 'n'}}},
                                {"more than a run", build, {{{3, 100}, 'n'}, {{3, 100}, 'n'}}},
                                {"gate is up", build_aliased, {{{2, 4}, 'n'}}},
                                {"one number", build, {{{1}, 'n'}, {{1}, 'n'}}},
                                {NULL}};
const qt_op qt_op_swiglu = {
    .d = {"swiglu", "gate sigmoid(gate) up, the gated unit of many language models", .source = "Shazeer, 2020, equation 6"},
    .kind = QT_EXACT, .shape = shape, .forward = forward, .backward = backward, .stores = true, .reads = reads, .cases = cases};
