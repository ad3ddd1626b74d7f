/* y = x w^T + b with a frozen weight, which exists as packed codes (kernels/frozen.h). Some rows of w at a time become numbers in scratch and
 * meet x, so that memory never holds w as numbers:
 *     y[:, n..] = x w[n.., :]^T + b[n..],      dx += dy[:, n..] w[n.., :],      db = column sums of dy,      w has no gradient.
 * Where w has integer codes and x too, the forward is the product of integers that a trained weight would give, bit for bit.
 * QLoRA (arXiv 2305.14314, eq. 5-6). */
#include "base/par.h"
#include "kernels/gemm.h"
#include "kernels/igemm.h"
#include "kernels/reduce.h"
#include "ops/ops.h"

typedef struct frozen {
    int64_t M;
    bool    integer;
    qt_iend end;
    void   *work; /* of the integer product */
} frozen;

qt_tensor *qt_frozen_linear(qt_tape *t, qt_tensor *x, const qt_frozen *w, qt_tensor *b)
{
    return QT_EMIT(t, &qt_op_frozen_linear, &w, sizeof w, x, b);
}

static const qt_frozen *weight_of(const qt_node *nd) { return *(const qt_frozen *const *)nd->arg; }

static qt_err shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *b = nd->in[1];
    const qt_frozen *w = weight_of(nd);
    const int64_t    N = w->codes.N, K = w->codes.K;
    int64_t          dim[QT_MAX_DIM];
    char             s[96];
    frozen          *p;
    if (x->rank < 1 || x->dim[x->rank - 1] != K)
        return qt_node_fail(nd, "input %s does not fit a weight [%lld, %lld]: wants [..., in] and [out, in]", qt_shape_str(x, s), (long long)N,
                            (long long)K);
    if (b && b->n != N) return qt_node_fail(nd, "bias %s does not fit a weight [%lld, %lld]", qt_shape_str(b, s), (long long)N, (long long)K);
    QT_TRY(qt_node_save(nd, sizeof *p));
    p = nd->saved;
    *p = (frozen){.M = x->n / K, .end = {.bias = b ? b->data : NULL}};
    p->integer = x->codes && w->integer.packed && qt_ilinear_suits(p->M, N, K, x->codes, &w->integer);
    if (p->integer && !(p->work = qt_tape_alloc(nd->tape, qt_packed_work(p->M, x->codes, &w->integer)))) return QT_EMEM;
    for (int i = 0; i < x->rank; i++) dim[i] = x->dim[i];
    dim[x->rank - 1] = N;
    return qt_node_out(nd, x->rank, dim);
}

/* y [M,N] starts as rows of b */
static void fill_rows(R *y, const R *b, int64_t M, int64_t N)
{
    QT_FOR_CHUNKS(m, e, M, qt_max_i64(1, QT_GRAIN / N))
    for (int64_t i = m; i < e; i++) memcpy(y + i * N, b, (size_t)N * sizeof *y);
}

static void forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *b = nd->in[1];
    const qt_frozen *w = weight_of(nd);
    const frozen    *p = nd->saved;
    const int64_t    N = w->codes.N, K = w->codes.K;
    R               *y = nd->out->data;
    if (p->integer) {
        qt_packed_linear(p->M, x->codes, &w->integer, &p->end, p->work, y);
        return;
    }
    if (b) fill_rows(y, b->data, p->M, N);
    for (int64_t n = 0; n < N; n += w->rows) {
        const int64_t rows = qt_min_i64(w->rows, N - n);
        qt_frozen_rows(w, n, rows, w->work);
        qt_gemm_wide(false, true, p->M, rows, K, 1, x->data, K, w->work, K, b ? 1 : 0, y + n, N);
    }
}

static void backward(const qt_node *nd)
{
    qt_tensor       *x = nd->in[0], *b = nd->in[1];
    const qt_frozen *w = weight_of(nd);
    const frozen    *p = nd->saved;
    const int64_t    N = w->codes.N, K = w->codes.K;
    const R         *dy = nd->out->grad;
    const bool       first = qt_wants_grad(x) && qt_grad_first(x);
    qt_grad_clear(b);
    for (int64_t n = 0; n < N && qt_wants_grad(x); n += w->rows) {
        const int64_t rows = qt_min_i64(w->rows, N - n);
        qt_frozen_rows(w, n, rows, w->work);
        qt_gemm_wide(false, false, p->M, K, rows, 1, dy + n, N, w->work, K, first && !n ? 0 : 1, x->grad, K);
    }
    if (qt_wants_grad(b)) qt_reduce_sum_rows(dy, p->M, N, b->grad);
}

/* A weight of 4-bit codes with zero points in groups of 4, which the scratch block takes 2 rows at a time. */
static const qt_frozen *make_weight(qt_tape *t, int64_t N, int64_t K)
{
    qt_frozen *f = qt_tape_alloc(t, sizeof *f);
    int8_t    *q = qt_tape_alloc(t, (size_t)(N * K));
    void      *data = qt_tape_alloc(t, qt_packed_size(N, K, 4));
    int32_t   *sum = qt_tape_alloc(t, (size_t)N * sizeof *sum);
    if (!f || !q || !data || !sum) return NULL;
    *f = (qt_frozen){.inner = 4, .count = N * K / 4, .rows = 2};
    if (!(f->scale = qt_tape_alloc(t, (size_t)f->count * sizeof(R))) || !(f->zero = qt_tape_alloc(t, (size_t)f->count * sizeof(R))) ||
        !(f->work = qt_tape_alloc(t, (size_t)(2 * K) * sizeof(R))) || !(f->work_codes = qt_tape_alloc(t, (size_t)(2 * K))))
        return NULL;
    for (int64_t i = 0; i < N * K; i++) q[i] = (int8_t)(7 * i % 16);
    for (int64_t k = 0; k < f->count; k++) f->scale[k] = (R)(0.1 + 0.02 * (double)(k % 5)), f->zero[k] = (R)(7 + 0.3 * (double)(k % 3));
    qt_packed_fill(&f->codes, N, K, 4, 0, 15, q, data, sum);
    return f;
}

static int64_t    width(const qt_tensor *x) { return x->dim[x->rank - 1]; }
static qt_tensor *with_bias(qt_tape *t, qt_tensor **in) { return qt_frozen_linear(t, in[0], make_weight(t, in[1]->n, width(in[0])), in[1]); }
static qt_tensor *no_bias(qt_tape *t, qt_tensor **in) { return qt_frozen_linear(t, in[0], make_weight(t, 5, width(in[0])), NULL); }

static const qt_case cases[] = {{"matrix", with_bias, {{{3, 8}, 'n'}, {{5}, 'n'}}},
                                {"no bias", no_bias, {{{4, 12}, 'n'}}},
                                {"batch of sequences", with_bias, {{{2, 3, 8}, 'n'}, {{4}, 'n'}}},
                                {NULL}};

const qt_op qt_op_frozen_linear = {.d = {"frozen_linear", "fully connected layer with a frozen weight kept as packed codes"},
                                   .kind = QT_EXACT,
                                   .shape = shape,
                                   .forward = forward,
                                   .backward = backward,
                                   .stores = true,
                                   .reads = qt_reads_nothing,
                                   .cases = cases};
