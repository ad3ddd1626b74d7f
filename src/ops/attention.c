/* Scaled dot-product attention of several heads of D numbers each. Of one head, with a = 1/sqrt(D):
 *
 *     S = a Q K^T [Tq,Tk],   P = softmax of each row of S,   O = P V
 *
 * causal: query i sees keys j <= Tk - Tq + i only, so that the last query sees all of them. Query head h reads key and value head
 * h*kv_heads/heads. With G = dL/dO
 *
 *     dV = P^T G,   dP = G V^T,   dS = P (dP - r),  r_i = sum_j P_ij dP_ij,   dQ = a dS K,   dK = a dS^T Q.
 *
 * S and P never exist as a whole: work goes by blocks of ROWS queries with all keys that the last of them sees, and of P only the maximum
 * and the sum of each row are kept; backward makes the rest again. Memory grows with T, not with T^2, and causal attention does little
 * more than half of the work. A block belongs to one thread. Backward shares out (sequence, key head), for all queries add to the gradients
 * of the same keys: those sums run over heads and blocks in a fixed order, from the last block, which sees all keys and so can write what
 * the others add to.
 *
 * attention_kept is the same for tokens that follow others: keys and values of all tokens so far lie in memory of their own, keys as columns,
 * so that nothing is turned or copied for a new token, and both rounded already where fp16. It has no gradient.
 *
 * fp16: Q, K, V and P are rounded to half precision before they are multiplied, sums stay in R; that is what deployment engines do which
 * keep keys and values in half precision. Backward takes the rounding for the identity.
 *
 * Vaswani et al., "Attention is all you need", 2017, equation 1. Ainslie et al., "GQA", 2023 (shared key heads). Dao et al.,
 * "FlashAttention", 2022, section 3 (blocks, and probabilities made again). Left out: dropout of P, masks but the causal one, windows. */
#include "base/half.h"
#include "kernels/block.h"
#include "ops/inner.h"
#include "ops/vmath.h"
#include <omp.h>
#include <string.h>

enum { ROWS = 24, PAD = 16 };

typedef struct arg {
    int     heads, kv_heads;
    bool    causal, fp16;
    int64_t n; /* of attention_kept: keys so far */
} arg;
typedef struct plan {
    int64_t  B, Tq, Tk, H, KV, D;
    int64_t  wide;        /* apart(Tk); of kept keys: the room for them */
    bool     causal, fp16;
    R        scale;
    const R *q, *k, *v;   /* the operands, rounded where fp16 */
    R       *half;        /* where the rounded ones lie */
    R       *max, *inv;   /* [B,H,Tq]: of each row of S its maximum, and 1 / sum exp(S - max) */
    R       *kt;          /* K^T of each key head [B,KV,D,wide] */
    R       *own;         /* work space, `each` numbers a thread */
    int64_t  each;
} plan;

static inline int64_t padded(int64_t n) { return (n + PAD - 1) / PAD * PAD; }
/* Rows an odd number of cache lines apart: with a power of two between them they would share a few sets of the cache and drive each other out. */
static inline int64_t apart(int64_t n) { return padded(n) | PAD; }

static qt_err check(const qt_node *nd, const arg *g)
{
    const qt_tensor *q = nd->in[0], *k = nd->in[1], *v = nd->in[2];
    char             s[96], u[96];
    if (g->heads < 1 || g->kv_heads < 1 || g->heads % g->kv_heads)
        return qt_node_fail(nd, "%d heads cannot share %d key heads evenly", g->heads, g->kv_heads);
    if (q->rank != 3 || q->dim[2] % g->heads) return qt_node_fail(nd, "q is %s, it must be [B, T, %d*D]", qt_shape_str(q, s), g->heads);
    if (k->rank != 3 || k->dim[0] != q->dim[0] || k->dim[2] != q->dim[2] / g->heads * g->kv_heads)
        return qt_node_fail(nd, "k %s does not go with q %s: it must be [%lld, T, %lld], %d heads", qt_shape_str(k, s), qt_shape_str(q, u),
                            (long long)q->dim[0], (long long)(q->dim[2] / g->heads * g->kv_heads), g->kv_heads);
    if (v->rank != 3 || v->dim[0] != k->dim[0] || v->dim[1] != k->dim[1] || v->dim[2] != k->dim[2])
        return qt_node_fail(nd, "v %s must have the shape of k %s", qt_shape_str(v, s), qt_shape_str(k, u));
    if (g->causal && k->dim[1] < q->dim[1])
        return qt_node_fail(nd, "causal: %lld queries, but %lld keys: the first query would see none", (long long)q->dim[1], (long long)k->dim[1]);
    return QT_OK;
}

static R *numbers(const qt_node *nd, int64_t n) { return qt_tape_alloc(nd->tape, (size_t)n * sizeof(R)); }

static qt_err shape(qt_node *nd)
{
    const qt_tensor *q = nd->in[0], *k = nd->in[1], *v = nd->in[2];
    const arg       *g = nd->arg;
    plan            *p;
    QT_TRY(check(nd, g));
    QT_TRY(qt_node_save(nd, sizeof *p));
    p = nd->saved;
    *p = (plan){.B = q->dim[0], .Tq = q->dim[1], .Tk = k->dim[1], .H = g->heads, .KV = g->kv_heads, .D = q->dim[2] / g->heads,
                .causal = g->causal, .fp16 = g->fp16, .q = q->data, .k = k->data, .v = v->data};
    p->wide = apart(p->Tk);
    p->scale = (R)(1 / sqrt((double)p->D));
    p->each = 2 * p->wide * (ROWS + p->D);
    if (p->fp16 && !(p->half = numbers(nd, q->n + k->n + v->n))) return QT_EMEM;
    if (!(p->max = numbers(nd, 2 * p->B * p->H * p->Tq))) return QT_EMEM;
    if (!(p->kt = numbers(nd, p->B * p->KV * p->D * p->wide))) return QT_EMEM;
    if (!(p->own = numbers(nd, p->each * qt_threads()))) return QT_EMEM;
    p->inv = p->max + p->B * p->H * p->Tq;
    nd->own = (2 * p->B * p->H * p->Tq + p->B * p->KV * p->D * p->wide + (p->fp16 ? q->n + k->n + v->n : 0)) * (int64_t)sizeof(R);
    return qt_node_out_like(nd, q);
}

/* ---- rounding to half precision ---- */

QT_CLONES static void round_run(R *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = (R)qt_half_round((float)x[i]);
}

static void round_part(R *to, const R *x, int64_t n)
{
    memcpy(to, x, (size_t)n * sizeof(R));
    round_run(to, n);
}

static R *round_all(R *to, const R *x, int64_t n)
{
    if (n <= QT_GRAIN) {
        round_part(to, x, n);
        return to;
    }
    QT_FOR_CHUNKS(b, e, n, QT_GRAIN) round_part(to + b, x + b, e - b);
    return to;
}

static void round_operands(const qt_node *nd)
{
    const qt_tensor *q = nd->in[0], *k = nd->in[1], *v = nd->in[2];
    plan            *p = nd->saved;
    p->q = round_all(p->half, q->data, q->n);
    p->k = round_all(p->half + q->n, k->data, k->n);
    p->v = round_all(p->half + q->n + k->n, v->data, v->n);
}

/* ---- one block: the queries [i, end) of head h of sequence b ---- */

typedef struct block {
    int64_t i, rows, keys; /* keys that its last query sees */
    int64_t q, kv, stat;   /* where its numbers begin in q and O, in k and v, in max and inv */
} block;

static block block_at(const plan *p, int64_t b, int64_t h, int64_t number)
{
    const int64_t i = number * ROWS, end = qt_min_i64(p->Tq, i + ROWS);
    return (block){.i = i, .rows = end - i, .keys = p->causal ? p->Tk - p->Tq + end : p->Tk, .q = ((b * p->Tq + i) * p->H + h) * p->D,
                   .kv = (b * p->Tk * p->KV + h * p->KV / p->H) * p->D, .stat = (b * p->H + h) * p->Tq + i};
}
/* keys that query r of the block sees */
static int64_t seen(const plan *p, const block *k, int64_t r) { return p->causal ? p->Tk - p->Tq + k->i + r + 1 : p->Tk; }
static int64_t blocks(const plan *p) { return (p->Tq + ROWS - 1) / ROWS; }

/* The rows of a block are worked on up to a multiple of PAD, and one step of the work for all rows after the other, so that the processor
 * need not wait for one row's sum before it begins the next. */
QT_INLINE void fill(R *s, int64_t begin, int64_t end, R with)
{
    for (int64_t j = begin; j < end; j++) s[j] = with;
}

QT_INLINE void exponentials(R *restrict s, int64_t n, R scale, R max)
{
    for (int64_t j = 0; j < n; j++) s[j] = qt_vexp(s[j] * scale - max);
}

QT_INLINE void times(R *restrict s, int64_t n, R factor)
{
    for (int64_t j = 0; j < n; j++) s[j] *= factor;
}

/* s, scores without their scale, become probabilities, 0 behind what a query sees. */
QT_CLONES static void rows_softmax(const plan *p, const block *k, R *s)
{
    const int64_t W = p->wide;
    R            *max = p->max + k->stat, *inv = p->inv + k->stat;
    for (int64_t r = 0; r < k->rows; r++) {
        const int64_t n = seen(p, k, r), N = padded(n);
        fill(s + r * W, n, N, s[r * W]);
        max[r] = qt_lane_max(s + r * W, N) * p->scale;
    }
    for (int64_t r = 0; r < k->rows; r++) exponentials(s + r * W, padded(seen(p, k, r)), p->scale, max[r]);
    for (int64_t r = 0; r < k->rows; r++) fill(s + r * W, seen(p, k, r), padded(k->keys), 0);
    for (int64_t r = 0; r < k->rows; r++) {
        double sum = 0;
        QT_SUM(sum, j, padded(seen(p, k, r)), s[r * W + j]);
        inv[r] = (R)(1 / sum);
    }
    for (int64_t r = 0; r < k->rows; r++) times(s + r * W, padded(seen(p, k, r)), inv[r]);
    for (int64_t r = 0; p->fp16 && r < k->rows; r++) round_run(s + r * W, padded(seen(p, k, r)));
}

static void block_forward(const plan *p, const block *k, const R *kt, R *s, R *y)
{
    const int64_t W = p->wide, D = p->D, wq = p->H * D, wk = p->KV * D;
    qt_block_product(k->rows, k->keys, D, p->q + k->q, wq, 1, kt, W, s, W, false);
    rows_softmax(p, k, s);
    qt_block_product(k->rows, D, k->keys, s, W, 1, p->v + k->kv, wk, y + k->q, wq, false);
}

/* Block j of all: of sequences, of their heads, of the rows of these. */
static void one_block(const plan *p, int64_t j, R *work, R *y)
{
    const int64_t n = blocks(p), b = j / n / p->H, h = j / n % p->H;
    const block   k = block_at(p, b, h, j % n);
    block_forward(p, &k, p->kt + (b * p->KV + h * p->KV / p->H) * p->D * p->wide, work, y);
}

static void all_blocks(const plan *p, R *y)
{
    const int64_t n = p->B * p->H * blocks(p);
    const bool    many = p->B * p->H * p->Tq * p->Tk > QT_GRAIN && qt_threads() > 1;
    for (int64_t j = 0; !many && j < n; j++) one_block(p, j, p->own, y);
    if (!many) return; /* without a team of threads */
    QT_FOR_EACH(j, n, true) one_block(p, j, p->own + omp_get_thread_num() * p->each, y);
}

static void forward(qt_node *nd)
{
    plan         *p = nd->saved;
    const int64_t wk = p->KV * p->D, size = p->D * p->wide;
    if (p->fp16) round_operands(nd);
    QT_FOR_EACH(j, p->B * p->KV, p->B * p->Tk * wk > QT_GRAIN)
    qt_block_transpose(p->Tk, p->D, p->k + (j / p->KV * p->Tk * p->KV + j % p->KV) * p->D, wk, p->kt + j * size, p->wide);
    all_blocks(p, nd->out->data);
}

/* ---- backward ---- */

typedef struct grads {
    R   *q, *k, *v;                /* NULL where none is wanted */
    bool first_q, first_k, first_v; /* nothing is there yet */
} grads;

QT_INLINE void scores_back(R *restrict ds, const R *restrict s, int64_t n, R scale, R mean)
{
    for (int64_t j = 0; j < n; j++) ds[j] = scale * s[j] * (ds[j] - mean);
}

/* s, scores without their scale, become probabilities, and ds, which comes as dP, becomes a dS; 0 behind what a query sees in both. */
QT_CLONES static void rows_backward(const plan *p, const block *k, R *s, R *ds)
{
    const int64_t W = p->wide;
    const R      *max = p->max + k->stat, *inv = p->inv + k->stat;
    for (int64_t r = 0; r < k->rows; r++) fill(s + r * W, seen(p, k, r), padded(seen(p, k, r)), s[r * W]);
    for (int64_t r = 0; r < k->rows; r++) exponentials(s + r * W, padded(seen(p, k, r)), p->scale, max[r]);
    for (int64_t r = 0; r < k->rows; r++) {
        fill(s + r * W, seen(p, k, r), padded(k->keys), 0);
        fill(ds + r * W, seen(p, k, r), padded(k->keys), 0);
    }
    for (int64_t r = 0; r < k->rows; r++) times(s + r * W, padded(seen(p, k, r)), inv[r]);
    for (int64_t r = 0; r < k->rows; r++) {
        double mean = 0;
        QT_SUM(mean, j, padded(seen(p, k, r)), s[r * W + j] * ds[r * W + j]);
        scores_back(ds + r * W, s + r * W, padded(seen(p, k, r)), p->scale, (R)mean);
    }
    for (int64_t r = 0; p->fp16 && r < k->rows; r++) round_run(s + r * W, padded(seen(p, k, r)));
}

/* whole: it is the first block of its key head, and sees all keys */
static void block_backward(const plan *p, const block *k, const grads *d, bool whole, const R *kt, const R *vt, R *s, const R *dy)
{
    const int64_t W = p->wide, D = p->D, wq = p->H * D, wk = p->KV * D;
    R            *ds = s + ROWS * W;
    qt_block_product(k->rows, k->keys, D, p->q + k->q, wq, 1, kt, W, s, W, false);
    qt_block_product(k->rows, k->keys, D, dy + k->q, wq, 1, vt, W, ds, W, false);
    rows_backward(p, k, s, ds);
    if (d->v) qt_block_product(k->keys, D, k->rows, s, 1, W, dy + k->q, wq, d->v + k->kv, wk, !(whole && d->first_v));
    if (d->k) qt_block_product(k->keys, D, k->rows, ds, 1, W, p->q + k->q, wq, d->k + k->kv, wk, !(whole && d->first_k));
    if (d->q) qt_block_product(k->rows, D, k->keys, ds, W, 1, p->k + k->kv, wk, d->q + k->q, wq, !d->first_q);
}

/* All queries that read key head c of sequence b. */
static void head_backward(const plan *p, int64_t b, int64_t c, const grads *d, R *work, const R *dy)
{
    const int64_t group = p->H / p->KV, size = p->D * p->wide, at = (b * p->Tk * p->KV + c) * p->D;
    R            *vt = work;
    qt_block_transpose(p->Tk, p->D, p->v + at, p->KV * p->D, vt, p->wide);
    for (int64_t h = c * group; h < (c + 1) * group; h++)
        for (int64_t number = blocks(p) - 1; number >= 0; number--) {
            const block k = block_at(p, b, h, number);
            const bool  whole = h == c * group && number == blocks(p) - 1;
            block_backward(p, &k, d, whole, p->kt + (b * p->KV + c) * size, vt, work + size, dy);
        }
}

static uint32_t reads(const qt_node *nd) { return ((const plan *)nd->saved)->fp16 ? 0 : QT_READS_NEARLY(7); }

static void backward(const qt_node *nd)
{
    plan       *p = nd->saved;
    qt_tensor  *q = nd->in[0], *k = nd->in[1], *v = nd->in[2];
    if (!p->fp16) p->q = q->data, p->k = k->data, p->v = v->data; /* they may have moved */
    grads       d = {.q = q->grad, .k = k->grad, .v = v->grad};
    d.first_v = qt_grad_first(v), d.first_k = qt_grad_first(k), d.first_q = qt_grad_first(q); /* in the order of their products */
    QT_FOR_EACH(j, p->B * p->KV, p->B * p->H * p->Tq * p->Tk > QT_GRAIN)
    head_backward(p, j / p->KV, j % p->KV, &d, p->own + omp_get_thread_num() * p->each, nd->out->grad);
}

/* ---- the slow twin: the definition, sums in double ---- */

static void naive_row(const plan *p, const R *q, const R *k, const R *v, int64_t n, R *y)
{
    const int64_t D = p->D, wk = p->KV * D;
    double        max = -INFINITY, sum = 0;
    for (int pass = 0; pass < 3; pass++)
        for (int64_t j = 0; j < n; j++) {
            double s = 0;
            for (int64_t i = 0; i < D; i++) s += (double)q[i] * (double)k[j * wk + i];
            s *= (double)p->scale;
            if (pass == 0) max = fmax(max, s);
            if (pass == 1) sum += exp(s - max);
            for (int64_t i = 0; pass == 2 && i < D; i++) {
                const double e = exp(s - max) / sum, w = p->fp16 ? (double)qt_half_round((float)e) : e;
                y[i] = (R)((j ? (double)y[i] : 0) + w * (double)v[j * wk + i]);
            }
        }
}

static void naive_all(const plan *p, R *y)
{
    for (int64_t b = 0; b < p->B; b++)
        for (int64_t h = 0; h < p->H; h++)
            for (int64_t i = 0; i < p->Tq; i++) {
                const int64_t at = ((b * p->Tq + i) * p->H + h) * p->D, kv = (b * p->Tk * p->KV + h * p->KV / p->H) * p->D;
                naive_row(p, p->q + at, p->k + kv, p->v + kv, p->causal ? p->Tk - p->Tq + i + 1 : p->Tk, y + at);
            }
}

static void naive(qt_node *nd)
{
    forward(nd); /* for what backward needs */
    naive_all(nd->saved, nd->out->data);
}

qt_tensor *qt_attention(qt_tape *t, qt_tensor *q, qt_tensor *k, qt_tensor *v, int heads, int kv_heads, bool causal, bool fp16)
{
    arg g = {heads, kv_heads, causal, fp16, 0};
    return QT_EMIT(t, &qt_op_attention, &g, sizeof g, q, k, v);
}

static qt_tensor *build_one(qt_tape *t, qt_tensor **in) { return qt_attention(t, in[0], in[1], in[2], 1, 1, false, false); }
static qt_tensor *build_two(qt_tape *t, qt_tensor **in) { return qt_attention(t, in[0], in[1], in[2], 2, 2, false, false); }
static qt_tensor *build_causal(qt_tape *t, qt_tensor **in) { return qt_attention(t, in[0], in[1], in[2], 2, 2, true, false); }
static qt_tensor *build_shared(qt_tape *t, qt_tensor **in) { return qt_attention(t, in[0], in[1], in[2], 4, 2, true, false); }
static qt_tensor *build_self(qt_tape *t, qt_tensor **in) { return qt_attention(t, in[0], in[0], in[0], 2, 2, true, false); }
static qt_tensor *build_kv(qt_tape *t, qt_tensor **in) { return qt_attention(t, in[0], in[1], in[1], 3, 1, false, false); }
static const qt_case cases[] = {{"one head", build_one, {{{1, 3, 2}, 'n'}, {{1, 4, 2}, 'n'}, {{1, 4, 2}, 'n'}}},
                                {"two heads", build_two, {{{2, 5, 6}, 'n'}, {{2, 4, 6}, 'n'}, {{2, 4, 6}, 'n'}}},
                                {"causal", build_causal, {{{2, 5, 6}, 'n'}, {{2, 5, 6}, 'n'}, {{2, 5, 6}, 'n'}}},
                                {"causal, more keys than queries", build_causal, {{{1, 3, 4}, 'n'}, {{1, 7, 4}, 'n'}, {{1, 7, 4}, 'n'}}},
                                {"causal, shared key heads", build_shared, {{{2, 4, 8}, 'n'}, {{2, 4, 4}, 'n'}, {{2, 4, 4}, 'n'}}},
                                {"causal, several blocks", build_causal, {{{1, 70, 4}, 'n'}, {{1, 70, 4}, 'n'}, {{1, 70, 4}, 'n'}}},
                                {"shared key heads, several blocks", build_shared, {{{1, 40, 8}, 'n'}, {{1, 45, 4}, 'n'}, {{1, 45, 4}, 'n'}}},
                                {"q, k and v are one", build_self, {{{2, 5, 6}, 'n'}}},
                                {"k and v are one", build_kv, {{{1, 3, 9}, 'n'}, {{1, 4, 3}, 'n'}}},
                                {"one token of one number", build_one, {{{1, 1, 1}, 'n'}, {{1, 1, 1}, 'n'}, {{1, 1, 1}, 'n'}}},
                                {NULL}};
const qt_op qt_op_attention = {
    .d = {"attention", "softmax(q k^T / sqrt(D)) v for each head, causal or not, key heads shared or not",
          .source = "Vaswani et al., 2017, equation 1"},
    .kind = QT_EXACT, .shape = shape, .forward = forward, .backward = backward, .stores = true, .reads = reads, .naive = naive, .cases = cases};

/* ---- keys and values that are kept ---- */

static qt_err kept_check(const qt_node *nd, const arg *g)
{
    const qt_tensor *q = nd->in[0], *k = nd->in[1], *v = nd->in[2];
    char             s[96], u[96];
    if (g->heads < 1 || g->kv_heads < 1 || g->heads % g->kv_heads)
        return qt_node_fail(nd, "%d heads cannot share %d key heads evenly", g->heads, g->kv_heads);
    if (q->rank != 3 || q->dim[0] != 1 || q->dim[2] % g->heads)
        return qt_node_fail(nd, "q is %s, it must be [1, T, %d*D]", qt_shape_str(q, s), g->heads);
    if (k->rank != 2 || k->dim[0] != q->dim[2] / g->heads * g->kv_heads || k->dim[1] % PAD)
        return qt_node_fail(nd, "keys %s do not go with q %s: they must be [%lld, room], the room a multiple of %d", qt_shape_str(k, s),
                            qt_shape_str(q, u), (long long)(q->dim[2] / g->heads * g->kv_heads), PAD);
    if (v->rank != 2 || v->dim[0] != k->dim[1] || v->dim[1] != k->dim[0])
        return qt_node_fail(nd, "values %s do not go with keys %s: they must be [room, width]", qt_shape_str(v, s), qt_shape_str(k, u));
    if (g->n < q->dim[1] || g->n > k->dim[1])
        return qt_node_fail(nd, "%lld keys for %lld queries, with room for %lld", (long long)g->n, (long long)q->dim[1], (long long)k->dim[1]);
    return QT_OK;
}

static qt_err kept_shape(qt_node *nd)
{
    const qt_tensor *q = nd->in[0], *k = nd->in[1], *v = nd->in[2];
    const arg       *g = nd->arg;
    plan            *p;
    QT_TRY(kept_check(nd, g));
    QT_TRY(qt_node_save(nd, sizeof *p));
    p = nd->saved;
    *p = (plan){.B = 1, .Tq = q->dim[1], .Tk = g->n, .H = g->heads, .KV = g->kv_heads, .D = q->dim[2] / g->heads, .wide = k->dim[1],
                .causal = g->causal, .fp16 = g->fp16, .q = q->data, .k = k->data, .v = v->data, .kt = k->data};
    p->scale = (R)(1 / sqrt((double)p->D));
    p->each = qt_min_i64(ROWS, p->Tq) * p->wide;
    if (p->fp16 && !(p->half = numbers(nd, q->n))) return QT_EMEM;
    if (!(p->max = numbers(nd, 2 * p->H * p->Tq))) return QT_EMEM;
    if (!(p->own = numbers(nd, p->each * qt_threads()))) return QT_EMEM;
    p->inv = p->max + p->H * p->Tq;
    return qt_node_out_like(nd, q);
}

static void kept_forward(qt_node *nd)
{
    plan *p = nd->saved;
    if (p->fp16) p->q = round_all(p->half, nd->in[0]->data, nd->in[0]->n);
    all_blocks(p, nd->out->data);
}

/* By way of the definition, on the keys as rows. */
static void kept_naive(qt_node *nd)
{
    plan         *p = nd->saved;
    const int64_t wk = p->KV * p->D;
    R            *k = qt_tape_alloc(nd->tape, (size_t)(p->Tk * wk) * sizeof(R));
    if (p->fp16) p->q = round_all(p->half, nd->in[0]->data, nd->in[0]->n);
    if (!k) return;
    qt_block_transpose(wk, p->Tk, nd->in[1]->data, p->wide, k, wk);
    p->k = k;
    naive_all(p, nd->out->data);
}

qt_tensor *qt_attention_kept(qt_tape *t, qt_tensor *q, qt_tensor *keys, qt_tensor *values, int64_t n, int heads, int kv_heads, bool causal, bool fp16)
{
    arg g = {heads, kv_heads, causal, fp16, n};
    return QT_EMIT(t, &qt_op_attention_kept, &g, sizeof g, q, keys, values);
}

static qt_tensor *build_last(qt_tape *t, qt_tensor **in) { return qt_attention_kept(t, in[0], in[1], in[2], 5, 2, 2, true, false); }
static qt_tensor *build_few(qt_tape *t, qt_tensor **in) { return qt_attention_kept(t, in[0], in[1], in[2], 16, 4, 2, true, false); }
static qt_tensor *build_all(qt_tape *t, qt_tensor **in) { return qt_attention_kept(t, in[0], in[1], in[2], 7, 2, 1, false, false); }
static const qt_case kept_cases[] = {{"one token", build_last, {{{1, 1, 6}, 'n'}, {{6, 16}, 'n'}, {{16, 6}, 'n'}}},
                                     {"some tokens, shared key heads", build_few, {{{1, 4, 8}, 'n'}, {{4, 32}, 'n'}, {{32, 4}, 'n'}}},
                                     {"not causal", build_all, {{{1, 3, 4}, 'n'}, {{2, 16}, 'n'}, {{16, 2}, 'n'}}},
                                     {NULL}};
const qt_op qt_op_attention_kept = {
    .d = {"attention_kept", "attention over keys and values that are kept while a text is generated", .source = "Vaswani et al., 2017, equation 1"},
    .kind = QT_NO_GRAD, .shape = kept_shape, .forward = kept_forward, .naive = kept_naive, .cases = kept_cases};
