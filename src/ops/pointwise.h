/* Element-wise operations of one operand: an op is two expressions, its value and its gradient, over the names
 *     x   the operand's element         a, b  the op's arguments (0 if it has none)
 *     y   the result's element          dy    the gradient that comes in
 * Everything else (loops for several instruction sets, chunks over threads, descriptor, cases) is here. */
#ifndef QT_OPS_POINTWISE_H
#define QT_OPS_POINTWISE_H
#include "ops/inner.h"
#include "ops/vmath.h"

typedef struct pointwise_arg {
    R a, b;
} pointwise_arg;
typedef void (*pointwise_values)(R *restrict ys, const R *restrict xs, int64_t n, R a, R b);
typedef void (*pointwise_grads)(R *restrict dxs, const R *restrict xs, const R *restrict ys, const R *restrict dys, int64_t n, R a, R b,
                                bool first);

static qt_err pointwise_shape(qt_node *nd) { return qt_node_out_like(nd, nd->in[0]); }

static void pointwise_forward(qt_node *nd, pointwise_values values)
{
    const pointwise_arg *g = nd->arg;
    const R             *x = nd->in[0]->data;
    R                   *y = nd->out->data;
    QT_FOR_CHUNKS(i, e, nd->out->n, QT_GRAIN) values(y + i, x + i, e - i, g->a, g->b);
}

static void pointwise_backward(const qt_node *nd, pointwise_grads grads)
{
    const pointwise_arg *g = nd->arg;
    const R             *dy = nd->out->grad, *x = nd->in[0]->data ? nd->in[0]->data : dy, *y = nd->out->data ? nd->out->data : dy; /* unread: any */
    R                   *dx = nd->in[0]->grad;
    const bool           first = qt_grad_first(nd->in[0]);
    if (!dx) return;
    QT_FOR_CHUNKS(i, e, nd->out->n, QT_GRAIN) grads(dx + i, x + i, y + i, dy + i, e - i, g->a, g->b, first);
}

/* op: name; text: the doc; input: domain of its cases; call: builds a case from x; value, grad: the expressions; read: what backward reads of
 * x (bit 0) and y (QT_RESULT), as qt_op.reads says it. POINTWISE reads both. */
#define POINTWISE(op, text, input, call, value, gradient) \
    POINTWISE_READS(op, text, input, call, value, gradient, QT_READS(1 | QT_RESULT))
#define POINTWISE_READS(op, text, input, call, value, gradient, read)                                                               \
    QT_CLONES static void op##_values(R *restrict ys, const R *restrict xs, int64_t n, R a, R b)                                    \
    {                                                                                                                               \
        (void)a, (void)b;                                                                                                           \
        for (int64_t i = 0; i < n; i++) {                                                                                           \
            const R x = xs[i];                                                                                                      \
            ys[i] = (value);                                                                                                        \
        }                                                                                                                           \
    }                                                                                                                               \
    QT_INLINE R op##_grad(R x, R y, R dy, R a, R b)                                                                                 \
    {                                                                                                                               \
        (void)x, (void)y, (void)a, (void)b;                                                                                         \
        return (gradient);                                                                                                          \
    }                                                                                                                               \
    QT_CLONES static void op##_grads(R *restrict dxs, const R *restrict xs, const R *restrict ys, const R *restrict dys, int64_t n, \
                                     R a, R b, bool first)                                                                          \
    {                                                                                                                               \
        if (first)                                                                                                                  \
            for (int64_t i = 0; i < n; i++) dxs[i] = op##_grad(xs[i], ys[i], dys[i], a, b);                                         \
        else                                                                                                                        \
            for (int64_t i = 0; i < n; i++) dxs[i] += op##_grad(xs[i], ys[i], dys[i], a, b);                                        \
    }                                                                                                                               \
    static void       op##_forward(qt_node *nd) { pointwise_forward(nd, op##_values); }                                             \
    static void       op##_backward(const qt_node *nd) { pointwise_backward(nd, op##_grads); }                                      \
    static uint32_t   op##_reads(const qt_node *nd) { return (void)nd, read; }                                                      \
    static qt_tensor *op##_build(qt_tape *t, qt_tensor **in)                                                                        \
    {                                                                                                                               \
        qt_tensor *x = in[0];                                                                                                       \
        return call;                                                                                                                \
    }                                                                                                                               \
    static const qt_case op##_cases[] = {{"one number", op##_build, {{{1}, input}}},                                                \
                                         {"vector", op##_build, {{{19}, input}}},                                                   \
                                         {"matrix", op##_build, {{{3, 5}, input}}},                                                 \
                                         {"images", op##_build, {{{2, 3, 2, 2}, input}}},                                           \
                                         {"rank 5", op##_build, {{{2, 1, 2, 1, 3}, input}}},                                        \
                                         {NULL}};                                                                                   \
    const qt_op qt_op_##op = {.d = {#op, text}, .kind = QT_EXACT, .shape = pointwise_shape, .forward = op##_forward,                \
                              .backward = op##_backward, .stores = true, .reads = op##_reads, .cases = op##_cases};

#define POINTWISE_EMIT(op, ...) QT_EMIT(t, &qt_op_##op, (&(pointwise_arg){__VA_ARGS__}), sizeof(pointwise_arg), x)
#endif
