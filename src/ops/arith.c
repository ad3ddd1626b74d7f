/* Arithmetic of two operands, element by element. a gives the result's shape; b has it too, or is a row [D] of a's last dimension, or
 * is one number [1].
 *
 *     add  da = dy, db = dy      sub  da = dy, db = -dy      mul  da = dy b, db = dy a      div  da = dy/b, db = -dy a/b^2
 *
 * where b was repeated, db is the sum over its repetitions. A short b is first laid out over and over in a block of at least RUN numbers,
 * so that the inner loops are long and the three forms are one: y[i] = a[i] op block[i mod period].
 * Left out: any other broadcasting (reshape and permute first). */
#include "ops/inner.h"
#include <string.h>

enum { RUN = 256 };
typedef struct block {
    R      *b;      /* repetition of b's numbers; NULL: they are read where they lie */
    int64_t period; /* a multiple of b->n; n where nothing repeats */
} block;

static bool same_shape(const qt_tensor *a, const qt_tensor *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

static qt_err shape(qt_node *nd)
{
    const qt_tensor *a = nd->in[0], *b = nd->in[1];
    char             s[96], u[96];
    block           *k;
    if (!same_shape(a, b) && !(b->rank == 1 && (b->n == 1 || b->n == a->dim[a->rank - 1])))
        return qt_node_fail(nd, "b %s does not fit a %s: it must have a's shape, or be [%lld] (a's last dimension) or [1]", qt_shape_str(b, s),
                            qt_shape_str(a, u), (long long)a->dim[a->rank - 1]);
    QT_TRY(qt_node_save(nd, sizeof *k));
    k = nd->saved;
    *k = (block){NULL, b->n};
    if (b->n < a->n && b->n < RUN) {
        k->period = (RUN + b->n - 1) / b->n * b->n;
        if (!(k->b = qt_tape_alloc(nd->tape, (size_t)k->period * sizeof(R)))) return QT_EMEM;
        for (int64_t i = 0; i < k->period; i += b->n) memcpy(k->b + i, b->data, (size_t)b->n * sizeof(R));
    }
    return qt_node_out_like(nd, a);
}

/* b's numbers from place i on. Where the gradient does not read them they may be gone, and dy's stand in. */
static const R *operand(const qt_node *nd, int64_t i)
{
    const block *k = nd->saved;
    const R     *b = k->b ? k->b : nd->in[1]->data ? nd->in[1]->data : nd->out->grad;
    return b + i % k->period;
}

typedef void (*values)(R *restrict y, const R *a, const R *b, int64_t n);
typedef void (*grads)(R *restrict g, const R *dy, const R *a, const R *b, int64_t n); /* g = dy d(a op b)/da, or /db */

static void run_forward(qt_node *nd, values f)
{
    const block *k = nd->saved;
    const R     *a = nd->in[0]->data;
    R           *y = nd->out->data;
    QT_FOR_CHUNKS(from, to, nd->out->n, QT_GRAIN)
    for (int64_t i = from, end; i < to; i = end) {
        end = qt_min_i64(to, (i / k->period + 1) * k->period);
        f(y + i, a + i, operand(nd, i), end - i);
    }
}

QT_CLONES static void add_up(R *restrict x, const R *restrict g, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] += g[i];
}

QT_CLONES static void add_up_double(double *restrict x, const R *restrict g, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] += (double)g[i];
}

/* dx = g, or dx += g, all of a's shape, in pieces of RUN */
static void run_same(const qt_node *nd, qt_tensor *x, grads f)
{
    const block *k = nd->saved;
    const R     *dy = nd->out->grad, *a = nd->in[0]->data ? nd->in[0]->data : dy;
    R           *dx = x->grad;
    const bool   first = qt_grad_first(x);
    QT_FOR_CHUNKS(from, to, nd->out->n, QT_GRAIN)
    for (int64_t i = from, end; i < to; i = end) {
        R g[RUN];
        end = qt_min_i64(qt_min_i64(to, i + RUN), (i / k->period + 1) * k->period);
        f(first ? dx + i : g, dy + i, a + i, operand(nd, i), end - i);
        if (!first) add_up(dx + i, g, end - i);
    }
}

/* db += its sums, where b is repeated: strips of its block, each added up over all repetitions in order, then the block folded into b. */
static void run_folded(const qt_node *nd, qt_tensor *b, grads f)
{
    const block  *k = nd->saved;
    const R      *dy = nd->out->grad, *a = nd->in[0]->data ? nd->in[0]->data : dy;
    const int64_t n = nd->out->n, nb = b->n, width = nb < RUN ? k->period : RUN;
    const bool    first = qt_grad_first(b);
    QT_FOR_EACH(strip, QT_CHUNKS(k->period, width), n > QT_GRAIN)
    {
        const int64_t at = strip * width, end = qt_min_i64(k->period, at + width);
        double        sum[2 * RUN] = {0};
        R             g[2 * RUN];
        for (int64_t i = at; i < n; i += k->period) {
            const int64_t m = qt_min_i64(end - at, n - i);
            f(g, dy + i, a + i, operand(nd, at), m);
            add_up_double(sum, g, m);
        }
        for (int64_t j = nb; j < end - at; j++) sum[j % nb] += sum[j];
        for (int64_t j = 0; j < qt_min_i64(nb, end - at); j++) b->grad[at + j] = (first ? 0 : b->grad[at + j]) + (R)sum[j];
    }
}

static void run_backward(const qt_node *nd, grads to_a, grads to_b)
{
    qt_tensor *a = nd->in[0], *b = nd->in[1];
    if (a->grad) run_same(nd, a, to_a);
    if (b->grad && b->n == nd->out->n) run_same(nd, b, to_b);
    else if (b->grad) run_folded(nd, b, to_b);
}

static qt_tensor *domain_ab(qt_tape *t, qt_tensor **in, qt_tensor *(*f)(qt_tape *, qt_tensor *, qt_tensor *)) { return f(t, in[0], in[1]); }
static qt_tensor *domain_aa(qt_tape *t, qt_tensor **in, qt_tensor *(*f)(qt_tape *, qt_tensor *, qt_tensor *)) { return f(t, in[0], in[0]); }

/* op: name; text: the doc; da, db: the operands' gradients; all in terms of a, b, dy; read: what they read of a (bit 0) and b (bit 1) */
#define ARITH(op, text, value, da, db, read)                                                                                              \
    QT_CLONES static void op##_values(R *restrict ys, const R *as, const R *bs, int64_t n)                                          \
    {                                                                                                                               \
        for (int64_t i = 0; i < n; i++) {                                                                                           \
            const R a = as[i], b = bs[i];                                                                                           \
            ys[i] = (value);                                                                                                        \
        }                                                                                                                           \
    }                                                                                                                               \
    QT_CLONES static void op##_grads_a(R *restrict gs, const R *dys, const R *as, const R *bs, int64_t n)                           \
    {                                                                                                                               \
        for (int64_t i = 0; i < n; i++) {                                                                                           \
            const R a = as[i], b = bs[i], dy = dys[i];                                                                              \
            (void)a, (void)b;                                                                                                       \
            gs[i] = (da);                                                                                                           \
        }                                                                                                                           \
    }                                                                                                                               \
    QT_CLONES static void op##_grads_b(R *restrict gs, const R *dys, const R *as, const R *bs, int64_t n)                           \
    {                                                                                                                               \
        for (int64_t i = 0; i < n; i++) {                                                                                           \
            const R a = as[i], b = bs[i], dy = dys[i];                                                                              \
            (void)a, (void)b;                                                                                                       \
            gs[i] = (db);                                                                                                           \
        }                                                                                                                           \
    }                                                                                                                               \
    static uint32_t      op##_reads(const qt_node *nd) { return (void)nd, read; }                                                   \
    static void          op##_forward(qt_node *nd) { run_forward(nd, op##_values); }                                                \
    static void          op##_backward(const qt_node *nd) { run_backward(nd, op##_grads_a, op##_grads_b); }                         \
    qt_tensor           *qt_##op(qt_tape *t, qt_tensor *a, qt_tensor *b) { return QT_EMIT(t, &qt_op_##op, NULL, 0, a, b); }         \
    static qt_tensor    *op##_build(qt_tape *t, qt_tensor **in) { return domain_ab(t, in, qt_##op); }                               \
    static qt_tensor    *op##_build_aliased(qt_tape *t, qt_tensor **in) { return domain_aa(t, in, qt_##op); }                       \
    static const qt_case op##_cases[] = {{"same shape", op##_build, {{{3, 5}, 'n'}, {{3, 5}, 'p'}}},                                \
                                         {"same shape, rank 4", op##_build, {{{2, 3, 2, 2}, 'n'}, {{2, 3, 2, 2}, 'p'}}},            \
                                         {"last axis", op##_build, {{{4, 3}, 'n'}, {{3}, 'p'}}},                                    \
                                         {"last axis, rank 3", op##_build, {{{2, 3, 4}, 'n'}, {{4}, 'p'}}},                         \
                                         {"last axis, longer than a block", op##_build, {{{100, 3}, 'n'}, {{3}, 'p'}}},             \
                                         {"last axis, wide", op##_build, {{{2, 300}, 'n'}, {{300}, 'p'}}},                          \
                                         {"one number", op##_build, {{{4, 3}, 'n'}, {{1}, 'p'}}},                                   \
                                         {"one number, longer than a block", op##_build, {{{300}, 'n'}, {{1}, 'p'}}},               \
                                         {"one and one", op##_build, {{{1}, 'n'}, {{1}, 'p'}}},                                     \
                                         {"a is b", op##_build_aliased, {{{3, 4}, 'p'}}},                                           \
                                         {NULL}};                                                                                   \
    const qt_op qt_op_##op = {.d = {#op, text}, .kind = QT_EXACT, .shape = shape, .forward = op##_forward,                          \
                              .backward = op##_backward, .stores = true, .reads = op##_reads, .cases = op##_cases};

ARITH(add, "a + b", a + b, dy, dy, 0)
ARITH(sub, "a - b", a - b, dy, -dy, 0)
ARITH(mul, "a times b", a * b, dy * b, dy * a, QT_READS_NEARLY((qt_wants_grad(nd->in[1]) ? 1 : 0) | (qt_wants_grad(nd->in[0]) ? 2 : 0)))
ARITH(div, "a over b", a / b, dy / b, -(dy * (a / b)) / b, QT_READS(3))
