/* A codebook found by Lloyd-Max: 2^b levels, placed where the numbers are. With u = x/s and levels t_1 <= ... <= t_L:
 *
 *     code = the level nearest to u,     y = t[code] s,     dx = dy (straight through)
 *
 * s is the largest |x| of the tensor or of its channel. The levels minimise sum (u - t[code])^2 by turns: each u to its nearest level (the
 * middles between neighbours are the borders), each level to the mean of its u. Both steps can only lower the sum. They start at the quantiles
 * (i + 1/2)/L and take `iterations` turns when the quantizer is first used; in training one more turn is taken every update_every steps,
 * so that the codebook follows the weights, until observers are frozen. A level that no number is nearest to stays.
 *
 * Max 1960 and Lloyd 1982, "Least squares quantization in PCM"; for weights Han, Mao, Dally 2016, "Deep Compression" (arXiv 1510.00149),
 * section 3. Left out: codebooks of vectors, gradients of the levels, weights of the elements. */
#include "kernels/reduce.h"
#include "qat/grid.h"
#include <stdlib.h>
#include <string.h>

enum { SCALE, LEVELS, INITIALIZED }; /* parameters */
enum { TENSOR, CHANNEL };
enum { MAX_LEVELS = 256 };

typedef struct cfg {
    int64_t num_bits, iterations, update_every;
    int     granularity;
    qt_ints axis;
} cfg;

static const qt_field fields[] = {
    QT_F_INT(cfg, num_bits, "4", 1, 8, "bits of a code: 2^b levels"),
    QT_F_ENUM(cfg, granularity, "tensor", "tensor|channel", "what shares a scale; the levels are those of the tensor"),
    QT_F_INTS(cfg, axis, "[]", -QT_MAX_DIM, QT_MAX_DIM - 1, "channel axis; negative counts from the last; default: the layer's"),
    QT_F_INT(cfg, iterations, "50", 1, 10000, "turns of Lloyd-Max at the start"),
    QT_F_INT(cfg, update_every, "1", 0, 1e12, "steps of training after which one more turn is taken; 0: never"),
    {0}};

typedef struct book {
    qt_layout layout;
    int       n;                  /* levels */
    const R  *scale, *level;
    R         middle[MAX_LEVELS]; /* borders between neighbours */
} book;

/* ---- nearest levels ---------------------------------------------------------------------------------------------------------------- */

/* How many borders lie below u: by halves, as they ascend. NaN has code 0. */
QT_INLINE int code_of(const book *b, R u)
{
    int lo = 0;
    for (int half = b->n / 2; half; half /= 2) lo += u > b->middle[lo + half - 1] ? half : 0;
    return lo;
}

static void borders(book *b)
{
    for (int i = 0; i + 1 < b->n; i++) b->middle[i] = (b->level[i] + b->level[i + 1]) / 2;
}

/* ---- the op: the argument is a book ------------------------------------------------------------------------------------------------ */

static qt_err shape(qt_node *nd)
{
    QT_TRY(qt_node_out_like(nd, nd->in[0]));
    qt_pass_shape(nd);
    return QT_OK;
}

static void forward(qt_node *nd)
{
    const book *b = nd->arg;
    const R    *x = nd->in[0]->data;
    R          *y = nd->out->data;
    qt_cut      c = qt_cut_of(b->layout, nd->out->n);
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        const R  s = b->scale[p.k];
        for (int64_t i = p.at; i < p.at + p.n; i++) y[i] = isnan(x[i]) ? x[i] : b->level[code_of(b, x[i] / s)] * s;
    }
}

static const qt_op op;

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    static const R level[] = {-1, (R)-0.25, (R)0.25, 1};
    book           b = {.layout = {8, 6}, .n = 4, .scale = in[1]->data, .level = level};
    borders(&b);
    return QT_EMIT(t, &op, &b, sizeof b, in[0]);
}

static const qt_case cases[] = {{"channel", build, {{{6, 8}, 'n'}, {{6}, 'c'}}}, {0}};

static const qt_op op = {{"kmeans", "nearest level of a codebook, gradient passed on", "Lloyd 1982"}, QT_SURROGATE, shape, forward, qt_pass_backward,
                         .stores = true, .reads = qt_reads_nothing, .cases = cases};

/* ---- Lloyd-Max ----------------------------------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) { return (*(const R *)a > *(const R *)b) - (*(const R *)a < *(const R *)b); }

static void set_scales(const qt_tensor *x, qt_layout l, R *scale)
{
    QT_FOR_EACH(k, l.count, l.count > 1 && x->n > QT_GRAIN) {
        R most = 0;
        for (int64_t b = k * l.inner; b < x->n; b += l.count * l.inner) {
            R m = qt_reduce_max_abs(x->data + b, l.inner);
            most = m > most ? m : most;
        }
        scale[k] = most > 0 ? most : 1;
    }
}

/* Levels at the quantiles of u. */
static qt_err spread(const qt_tensor *x, const book *b, R *level, qt_arena *a)
{
    R *u = qt_arena_alloc(a, (size_t)x->n * sizeof *u);
    if (!u) return QT_EMEM;
    for (int64_t i = 0; i < x->n; i++) u[i] = x->data[i] / b->scale[i / b->layout.inner % b->layout.count];
    qsort(u, (size_t)x->n, sizeof *u, ascending);
    for (int i = 0; i < b->n; i++) level[i] = u[(int64_t)(((double)i + 0.5) / b->n * (double)x->n)];
    return QT_OK;
}

/* One turn: every level becomes the mean of what is nearest to it. sum: room for two numbers a piece and level. */
static void turn(const qt_tensor *x, book *b, R *level, double *sum)
{
    qt_cut    c = qt_cut_of(b->layout, x->n);
    const int n = b->n;
    borders(b);
    memset(sum, 0, (size_t)(c.pieces * n * 2) * sizeof *sum);
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        double  *own = sum + j * n * 2;
        for (int64_t i = p.at; i < p.at + p.n; i++) {
            const R u = x->data[i] / b->scale[p.k];
            double *mine = own + 2 * code_of(b, u);
            mine[0] += (double)u, mine[1]++;
        }
    }
    for (int64_t j = 1; j < c.pieces; j++)
        for (int i = 0; i < 2 * n; i++) sum[i] += sum[j * n * 2 + i];
    for (int i = 0; i < n; i++)
        if (sum[2 * i + 1] > 0) level[i] = (R)(sum[2 * i] / sum[2 * i + 1]);
}

/* ---- the quantizer --------------------------------------------------------------------------------------------------------------------- */

static qt_granularity granularity_of(const cfg *c) { return c->granularity == CHANNEL ? QT_PER_CHANNEL : QT_PER_TENSOR; }
static double         bits(const qt_site *q) { return (double)((const cfg *)q->cfg)->num_bits; }

static qt_err init(qt_site *q)
{
    const cfg *c = q->cfg;
    int64_t    count;
    QT_TRY(qt_site_count(q, granularity_of(c), &c->axis, 0, &count));
    QT_TRY(qt_site_param(q, SCALE, "scale", QT_BUFFER, count, 1));
    QT_TRY(qt_site_param(q, LEVELS, "levels", QT_BUFFER, 1 << c->num_bits, 0));
    return qt_site_param(q, INITIALIZED, "initialized", QT_BUFFER, 1, 0);
}

static qt_err book_of(const qt_site *q, const qt_tensor *x, book *b)
{
    const cfg *c = q->cfg;
    *b = (book){.n = 1 << c->num_bits, .scale = q->p[SCALE]->data, .level = q->p[LEVELS]->data};
    QT_TRY(qt_site_layout(q, granularity_of(c), &c->axis, 0, x, &b->layout));
    QT_CHECK(b->layout.count == q->p[SCALE]->n, QT_ESHAPE, "%s: the tensor has %lld channels, the site %lld scales", q->path,
             (long long)b->layout.count, (long long)q->p[SCALE]->n);
    borders(b);
    return QT_OK;
}

/* The scales of x and so many turns; the first time from its quantiles. */
static qt_err fit(qt_site *q, const qt_tensor *x, qt_arena *a, int64_t turns)
{
    book    b;
    R      *level = q->p[LEVELS]->data;
    double *sum;
    QT_TRY(book_of(q, x, &b));
    if (!(sum = qt_arena_alloc(a, (size_t)(qt_cut_of(b.layout, x->n).pieces * b.n * 2) * sizeof *sum))) return QT_EMEM;
    set_scales(x, b.layout, q->p[SCALE]->data);
    if (q->p[INITIALIZED]->data[0] == 0) QT_TRY(spread(x, &b, level, a));
    for (int64_t i = 0; i < turns; i++) turn(x, &b, level, sum);
    q->p[INITIALIZED]->data[0] = 1;
    return QT_OK;
}

static qt_err ready(qt_site *q, const qt_tensor *x, qt_arena *a, book *b)
{
    if (q->p[INITIALIZED]->data[0] == 0) QT_TRY(fit(q, x, a, ((const cfg *)q->cfg)->iterations));
    return book_of(q, x, b);
}

static void observe(qt_tape *t, qt_site *q, const qt_tensor *x)
{
    const cfg *c = q->cfg;
    if (q->p[INITIALIZED]->data[0] != 0 && c->update_every && t->step % c->update_every == 0) qt_tape_fail(t, fit(q, x, &t->arena, 1));
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    book b = {0};
    qt_tape_fail(t, ready(q, x, &t->arena, &b));
    return QT_EMIT(t, &op, &b, sizeof b, x);
}

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    book b;
    QT_TRY(qt_codes_check(q, x));
    QT_TRY(ready(q, x, a, &b));
    QT_TRY(qt_codes_new(a, x->n, b.layout, q->p[SCALE]->data, bits(q), codes));
    codes->table = b.level;
    for (int64_t i = 0; i < x->n; i++) codes->code[i] = code_of(&b, x->data[i] / b.scale[i / b.layout.inner % b.layout.count]);
    return QT_OK;
}

const qt_quant qt_quant_kmeans = {
    {"kmeans", "levels of a codebook placed by Lloyd-Max", "Lloyd 1982; Han et al. 2016, arXiv 1510.00149, section 3", fields, sizeof(cfg)},
    init, observe, apply, .encode = encode, .bits = bits, .idempotent = true, .monotone = true, .op = &op};
