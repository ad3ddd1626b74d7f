/* Matrix products.
 *
 * matmul: C = op(A) op(B), op(A) [M,K], op(B) [K,N], op transposes where asked; A may be a batch [...,M,K] of matrices, and B then a
 * batch of as many or one matrix for all. With G = dL/dC:
 *     d op(A) = G op(B)^T,   d op(B) = op(A)^T G,   a transposed operand gets the transpose: dA = op(B) G^T,  dB = G^T op(A).
 * linear: y = x w^T + b over the last axis of x, the product of every fully connected layer:
 *     dx = dy w,   dw = dy^T x,   db = column sums of dy.
 * Where x and w are quantized its forward is a product of their integers, scaled once (kernels/codes.h); backward works on the numbers
 * that the integers stand for.
 * Left out: broadcasting over some of the batch axes only, and vectors as operands. */
#include "kernels/gemm.h"
#include "base/par.h"
#include "kernels/igemm.h"
#include "kernels/packed.h"
#include "kernels/reduce.h"
#include "ops/gradq.h"
#include <string.h>

static R *grad_of(const qt_tensor *x) { return qt_wants_grad(x) ? x->grad : NULL; }

/* x for dw, w for dx: in[0] and in[1] of any product. */
static uint32_t operands(const qt_node *nd) { return (qt_wants_grad(nd->in[1]) ? 1u : 0) | (qt_wants_grad(nd->in[0]) ? 2u : 0); }

/* ---- matmul ---- */

static uint32_t matmul_reads(const qt_node *nd) { return QT_READS_NEARLY(operands(nd)); }

typedef struct flags {
    bool ta, tb;
} flags;

typedef struct product {
    bool    ta, tb;
    int64_t batch, M, N, K, step_b; /* step_b: from one matrix of b to the next, 0 when it is shared */
} product;

qt_tensor *qt_matmul(qt_tape *t, qt_tensor *a, qt_tensor *b, bool ta, bool tb)
{
    flags f = {ta, tb};
    return QT_EMIT(t, &qt_op_matmul, &f, sizeof f, a, b);
}

static qt_err matmul_shape(qt_node *nd)
{
    const qt_tensor *a = nd->in[0], *b = nd->in[1];
    const flags     *f = nd->arg;
    char             sa[96], sb[96];
    int              ra = a->rank, rb = b->rank;
    product         *p;
    bool             fits = ra >= 2 && (rb == 2 || rb == ra) && a->dim[f->ta ? ra - 2 : ra - 1] == b->dim[f->tb ? rb - 1 : rb - 2];
    int64_t          dim[QT_MAX_DIM], batch = 1;
    for (int i = 0; fits && i < ra - 2; i++) fits = rb == 2 || a->dim[i] == b->dim[i], batch *= dim[i] = a->dim[i];
    if (!fits)
        return qt_node_fail(nd, "cannot multiply %s%s by %s%s: wants [M,K] or [B,M,K] times [K,N] or [B,K,N]", qt_shape_str(a, sa),
                            f->ta ? " transposed" : "", qt_shape_str(b, sb), f->tb ? " transposed" : "");
    QT_TRY(qt_node_save(nd, sizeof *p));
    p = nd->saved;
    *p = (product){f->ta, f->tb, batch, a->dim[f->ta ? ra - 1 : ra - 2], b->dim[f->tb ? rb - 2 : rb - 1], a->dim[f->ta ? ra - 2 : ra - 1],
                   rb > 2 ? b->dim[rb - 1] * b->dim[rb - 2] : 0};
    dim[ra - 2] = p->M, dim[ra - 1] = p->N;
    QT_TRY(qt_node_out(nd, ra, dim));
    if (!f->ta && !p->step_b) p->M *= p->batch, p->batch = 1; /* rows of all matrices meet the same b: one product */
    return QT_OK;
}

static void matmul_forward(qt_node *nd)
{
    const product *p = nd->saved;
    for (int64_t i = 0; i < p->batch; i++)
        qt_gemm(p->ta, p->tb, p->M, p->N, p->K, 1, nd->in[0]->data + i * p->M * p->K, nd->in[1]->data + i * p->step_b, 0,
                nd->out->data + i * p->M * p->N);
}

static void matmul_naive(qt_node *nd)
{
    const product *p = nd->saved;
    for (int64_t i = 0; i < p->batch; i++)
        qt_gemm_naive(p->ta, p->tb, p->M, p->N, p->K, 1, nd->in[0]->data + i * p->M * p->K, nd->in[1]->data + i * p->step_b, 0,
                      nd->out->data + i * p->M * p->N);
}

static void matmul_backward(const qt_node *nd)
{
    const product *p = nd->saved;
    R             *da = grad_of(nd->in[0]), *db = grad_of(nd->in[1]);
    for (int64_t i = 0; i < p->batch; i++) {
        const R *a = nd->in[0]->data + i * p->M * p->K, *b = nd->in[1]->data + i * p->step_b, *dy = nd->out->grad + i * p->M * p->N;
        if (da && !p->ta) qt_gemm(false, !p->tb, p->M, p->K, p->N, 1, dy, b, 1, da + i * p->M * p->K);
        if (da && p->ta) qt_gemm(p->tb, true, p->K, p->M, p->N, 1, b, dy, 1, da + i * p->M * p->K);
        if (db && !p->tb) qt_gemm(!p->ta, false, p->K, p->N, p->M, 1, a, dy, 1, db + i * p->step_b);
        if (db && p->tb) qt_gemm(true, p->ta, p->N, p->K, p->M, 1, dy, a, 1, db + i * p->step_b);
    }
}

static qt_tensor *nn(qt_tape *t, qt_tensor **in) { return qt_matmul(t, in[0], in[1], false, false); }
static qt_tensor *nt(qt_tape *t, qt_tensor **in) { return qt_matmul(t, in[0], in[1], false, true); }
static qt_tensor *tn(qt_tape *t, qt_tensor **in) { return qt_matmul(t, in[0], in[1], true, false); }
static qt_tensor *tt(qt_tape *t, qt_tensor **in) { return qt_matmul(t, in[0], in[1], true, true); }

static const qt_case matmul_cases[] = {{"nn", nn, {{{3, 5}, 'n'}, {{5, 4}, 'n'}}},
                                       {"nt", nt, {{{3, 5}, 'n'}, {{4, 5}, 'n'}}},
                                       {"tn", tn, {{{5, 3}, 'n'}, {{5, 4}, 'n'}}},
                                       {"tt", tt, {{{5, 3}, 'n'}, {{4, 5}, 'n'}}},
                                       {"row by column", nn, {{{1, 7}, 'n'}, {{7, 1}, 'n'}}},
                                       {"batch nn, one b", nn, {{{2, 3, 5}, 'n'}, {{5, 4}, 'n'}}},
                                       {"batch tt, one b", tt, {{{2, 5, 3}, 'n'}, {{4, 5}, 'n'}}},
                                       {"batch nt", nt, {{{2, 3, 5}, 'n'}, {{2, 4, 5}, 'n'}}},
                                       {"batch tn", tn, {{{2, 5, 3}, 'n'}, {{2, 5, 4}, 'n'}}},
                                       {"batch of heads nt", nt, {{{2, 2, 3, 5}, 'n'}, {{2, 2, 4, 5}, 'n'}}},
                                       {"batch of heads, one b", nn, {{{2, 2, 3, 5}, 'n'}, {{5, 4}, 'n'}}},
                                       {NULL}};

const qt_op qt_op_matmul = {.d = {"matmul", "matrix product, either operand transposed if asked, of matrices or batches of them"},
                            .kind = QT_EXACT,
                            .shape = matmul_shape,
                            .forward = matmul_forward,
                            .backward = matmul_backward,
                            .reads = matmul_reads,
                            .naive = matmul_naive,
                            .cases = matmul_cases};

/* ---- linear ---- */

typedef struct linear {
    int64_t        M, N, K;
    qt_iend        end;
    bool           integer, gradq;
    void          *work; /* of the integer product */
    qt_gradq_plan  grad;
} linear;

bool qt_linear_integer(const qt_tensor *x, const qt_tensor *w)
{
    return x->codes && w->codes && qt_ilinear_suits(x->n / w->dim[1], w->dim[0], w->dim[1], x->codes, w->codes);
}

qt_tensor *qt_linear(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b) { return qt_linear_extra(t, x, w, b, &(qt_extra){0}); }

qt_tensor *qt_linear_extra(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, const qt_extra *extra)
{
    return QT_EMIT(t, &qt_op_linear, extra, sizeof *extra, x, w, b);
}

static qt_err linear_check(const qt_node *nd, const qt_tensor *x, const qt_tensor *w, const qt_tensor *b)
{
    char sx[96], sw[96];
    if (w->rank != 2 || x->rank < 1 || x->dim[x->rank - 1] != w->dim[1])
        return qt_node_fail(nd, "input %s does not fit weight %s: wants [..., in] and [out, in]", qt_shape_str(x, sx), qt_shape_str(w, sw));
    if (b && (b->rank != 1 || b->dim[0] != w->dim[0]))
        return qt_node_fail(nd, "bias %s does not fit weight %s: wants [out] and [out, in]", qt_shape_str(b, sx), qt_shape_str(w, sw));
    return QT_OK;
}

static qt_err linear_shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const qt_extra  *extra = nd->arg;
    int64_t          dim[QT_MAX_DIM];
    linear          *p;
    QT_TRY(linear_check(nd, x, w, b));
    QT_TRY(qt_node_save(nd, sizeof *p));
    p = nd->saved;
    *p = (linear){x->n / w->dim[1], w->dim[0], w->dim[1], extra->end, .integer = qt_linear_integer(x, w)};
    if (!p->integer && !w->data) return qt_node_fail(nd, "the weight is there as integers only, and the input has none that go with them");
    p->end.bias = b ? b->data : NULL;
    if (p->integer) {
        size_t work = w->codes->packed ? qt_packed_work(p->M, x->codes, w->codes) : qt_ilinear_work(p->M, p->N, p->K, x->codes, w->codes);
        if (!(p->work = qt_tape_alloc(nd->tape, work))) return QT_EMEM;
    }
    p->gradq = extra->grad && nd->tape->grad && (qt_wants_grad(x) || qt_wants_grad(w));
    if (p->gradq) QT_TRY(qt_gradq_linear_plan(nd, extra->grad, p->integer, &p->grad));
    memcpy(dim, x->dim, sizeof dim);
    dim[x->rank - 1] = p->N;
    return qt_node_out(nd, x->rank, dim);
}

/* y [M,N] starts as rows of b, or zero; the product is added */
static void fill_rows(R *y, const R *b, int64_t M, int64_t N)
{
    QT_FOR_CHUNKS(m, e, M, qt_max_i64(1, QT_GRAIN / N))
    for (int64_t i = m; i < e; i++) memcpy(y + i * N, b, (size_t)N * sizeof *y);
}

static void linear_forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const linear    *p = nd->saved;
    R               *y = nd->out->data;
    if (p->integer && w->codes->packed) {
        qt_packed_linear(p->M, x->codes, w->codes, &p->end, p->work, y);
    } else if (p->integer) {
        qt_ilinear(p->M, p->N, p->K, x->codes, w->codes, &p->end, p->work, y);
    } else {
        if (b) fill_rows(y, b->data, p->M, p->N);
        qt_gemm(false, true, p->M, p->N, p->K, 1, x->data, w->data, b ? 1 : 0, y);
    }
}

static void linear_naive(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const linear    *p = nd->saved;
    if (b) fill_rows(nd->out->data, b->data, p->M, p->N);
    qt_gemm_naive(false, true, p->M, p->N, p->K, 1, x->data, w->data, b ? 1 : 0, nd->out->data);
}

static void linear_backward(const qt_node *nd)
{
    qt_tensor *x = nd->in[0], *w = nd->in[1];
    linear    *p = nd->saved;
    const R   *dyx = nd->out->grad, *dyw = dyx;
    R         *dx = grad_of(x), *dw = grad_of(w), *db = grad_of(nd->in[2]);
    bool       integer = p->gradq && p->grad.integer, first;
    qt_grad_clear(w), qt_grad_clear(nd->in[2]);
    first = dx && qt_grad_first(x);
    if (integer) {
        qt_gradq_linear(nd, &p->grad, first, dx, dw);
    } else {
        if (p->gradq && dx) dyx = qt_gradq_value(&p->grad.dx, dyx);
        if (p->gradq && dw) dyw = qt_gradq_value(&p->grad.dw, dyw);
        if (dx) qt_gemm(false, false, p->M, p->K, p->N, 1, dyx, w->data, first ? 0 : 1, dx);
        if (dw) qt_gemm(true, false, p->N, p->K, p->M, 1, dyw, x->data, 1, dw);
    }
    if (db) qt_reduce_sum_rows(nd->out->grad, p->M, p->N, db);
}

/* Integer gradients are products with the integers of x and w. */
static uint32_t linear_reads(const qt_node *nd)
{
    const linear *p = nd->saved;
    return p->gradq && p->grad.integer ? QT_READS_CODES(operands(nd)) : QT_READS_NEARLY(operands(nd));
}

static qt_tensor *with_bias(qt_tape *t, qt_tensor **in) { return qt_linear(t, in[0], in[1], in[2]); }
static qt_tensor *no_bias(qt_tape *t, qt_tensor **in) { return qt_linear(t, in[0], in[1], NULL); }

static const qt_case linear_cases[] = {{"matrix", with_bias, {{{3, 5}, 'n'}, {{4, 5}, 'n'}, {{4}, 'n'}}},
                                       {"no bias", no_bias, {{{3, 5}, 'n'}, {{4, 5}, 'n'}}},
                                       {"vector", with_bias, {{{7}, 'n'}, {{2, 7}, 'n'}, {{2}, 'n'}}},
                                       {"batch of sequences", with_bias, {{{2, 3, 4}, 'n'}, {{5, 4}, 'n'}, {{5}, 'n'}}},
                                       {"one number", with_bias, {{{1, 1}, 'n'}, {{1, 1}, 'n'}, {{1}, 'n'}}},
                                       {"more than a SIMD register", no_bias, {{{9, 33}, 'n'}, {{17, 33}, 'n'}}},
                                       {NULL}};

const qt_op qt_op_linear = {.d = {"linear", "fully connected layer over the last axis: x w^T + b"},
                            .kind = QT_EXACT,
                            .shape = linear_shape,
                            .forward = linear_forward,
                            .backward = linear_backward,
                            .stores = true,
                            .reads = linear_reads,
                            .naive = linear_naive,
                            .cases = linear_cases};
