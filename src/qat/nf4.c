/* Codebook quantizer of blocks: 4-bit NormalFloat (QLoRA) and other tables of at most 16 entries t in [-1, 1].
 *
 *     a = max|w| over a block of the flattened tensor,   code = nearest entry to w/a,   y = t[code] a,      dw = dy
 *
 * The nearest entry is the number of midpoints below w/a. NF4 has equally likely entries for normally distributed weights: with Phi^-1 the normal
 * quantile and o = 0.9677083, positive entries Phi^-1(p) at the first 8 points of linspace(o, 1/2, 9), negative ones -Phi^-1(p) at the first 7 of
 * linspace(o, 1/2, 8), and 0; all divided by the largest.
 * Double quantization: the a themselves become codes. Their mean is subtracted, and blocks of block2 of them get one scale,
 *     c = round((a - mean) / step),   step = max|a - mean| / 127,   a' = max(0, c step + mean),
 * which costs 8/64 + 32/(64 256) = 0.127 bits a weight instead of 0.5. Codes are of w/a, values t[code] a'.
 * The gradient is the identity, a being a constant for it; it is there for training through the table, frozen weights need none.
 *
 * Dettmers et al. 2023, "QLoRA" (arXiv 2305.14314), section 3. Left out: the paper's 8-bit floats for the second level (8-bit integers here). */
#include "qat/grid.h"
#include <string.h>

enum { LEVELS = QT_TABLE, MOST_CODE = 127 };
enum { NF4, FP4, INT4, UNIFORM, UNIFORM2 };

typedef struct cfg {
    int64_t block, block2;
    bool    double_quant;
    int     table;
    int     levels; /* made of table */
    R       t[LEVELS], middle[LEVELS];
} cfg;

static const qt_field fields[] = {
    QT_F_ENUM(cfg, table, "nf4", "nf4|fp4|int4|uniform|uniform2",
              "nf4: NormalFloat; fp4: 1-2-1 floats; int4: -7/7 to 7/7; uniform, uniform2: 16 or 4 even steps from -1 to 1"),
    QT_F_INT(cfg, block, "64", 1, 1 << 20, "weights that share a scale, in the order of memory; the last block may be short"),
    QT_F_BOOL(cfg, double_quant, "true", "keep the scales as codes of 8 bits too"),
    QT_F_INT(cfg, block2, "256", 1, 1 << 20, "double_quant: scales that share a scale; the last block may be short"),
    {0}};

/* ---- tables ------------------------------------------------------------------------------------------------------------------------ */

/* x with P(N(0,1) < x) = p, for 1/2 < p < 1: Newton's steps on the distribution, which is concave there. */
static double normal_quantile(double p)
{
    double x = 0;
    for (int i = 0; i < 40; i++) x += (p - 0.5 * erfc(-x / sqrt(2))) * sqrt(8 * atan(1)) * exp(x * x / 2);
    return x;
}

static int make_nf4(double *t)
{
    const double o = 0.9677083, most = normal_quantile(o);
    for (int i = 0; i < 7; i++) t[i] = -normal_quantile(o + i * (0.5 - o) / 7) / most;
    t[7] = 0;
    for (int i = 0; i < 8; i++) t[15 - i] = normal_quantile(o + i * (0.5 - o) / 8) / most;
    return 16;
}

static int make_fp4(double *t)
{
    static const double size[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    for (int i = 0; i < 8; i++) t[7 - i] = -size[i] / 6, t[7 + i] = size[i] / 6;
    return 15;
}

static int make_even(double *t, int levels)
{
    for (int i = 0; i < levels; i++) t[i] = (double)(2 * i - (levels - 1)) / (levels - 1);
    return levels;
}

static qt_err init(qt_site *q)
{
    cfg   *c = q->cfg;
    double t[LEVELS] = {0};
    switch (c->table) {
    case NF4: c->levels = make_nf4(t); break;
    case FP4: c->levels = make_fp4(t); break;
    case INT4: c->levels = make_even(t, 15); break;
    case UNIFORM: c->levels = make_even(t, 16); break;
    case UNIFORM2: c->levels = make_even(t, 4); break;
    }
    for (int i = 0; i < LEVELS; i++) c->t[i] = (R)t[i], c->middle[i] = i + 1 < c->levels ? (R)((t[i] + t[i + 1]) / 2) : (R)INFINITY;
    return QT_OK;
}

/* ---- scales ------------------------------------------------------------------------------------------------------------------------ */

typedef struct grid {
    const cfg     *c;
    qt_layout      layout;
    R             *most, *scale; /* [count] largest |w| of a block, and what stands for it */
    qt_scale_codes codes;
} grid;

QT_CLONES static R largest(const R *x, int64_t n)
{
    R m = 0;
    for (int64_t i = 0; i < n; i++) {
        R a = (R)fabs(x[i]);
        m = a > m ? a : m;
    }
    return m;
}

static qt_err quantize_scales(const cfg *c, grid *g, qt_arena *a)
{
    int64_t n = g->layout.count;
    double  sum = 0;
    g->codes = (qt_scale_codes){.n = n, .block = c->block2};
    if (!(g->codes.code = qt_arena_alloc(a, (size_t)n)) || !(g->codes.step = qt_arena_alloc(a, (size_t)qt_scale_blocks(&g->codes) * sizeof(R))))
        return QT_EMEM;
    for (int64_t k = 0; k < n; k++) sum += (double)g->most[k];
    g->codes.mean = (R)(sum / (double)n);
    for (int64_t b = 0; b < n; b += c->block2) {
        int64_t e = qt_min_i64(n, b + c->block2);
        R       far = 0, step;
        for (int64_t k = b; k < e; k++) far = (R)fmax((double)far, fabs((double)(g->most[k] - g->codes.mean)));
        step = g->codes.step[b / c->block2] = far / MOST_CODE;
        for (int64_t k = b; k < e; k++)
            g->codes.code[k] = (int8_t)(step > 0 && isfinite(far) ? qt_clip(qt_round((g->most[k] - g->codes.mean) / step), -MOST_CODE, MOST_CODE) : 0);
    }
    for (int64_t k = 0; k < n; k++) g->scale[k] = qt_scale_value(&g->codes, k);
    return QT_OK;
}

static qt_err grid_of(const cfg *c, const qt_tensor *x, qt_arena *a, grid *g)
{
    *g = (grid){.c = c, .layout = {c->block, (x->n + c->block - 1) / c->block}};
    size_t n = (size_t)g->layout.count * sizeof(R);
    if (!(g->most = qt_arena_alloc(a, n)) || !(g->scale = qt_arena_alloc(a, n))) return QT_EMEM;
    QT_FOR_EACH(k, g->layout.count, x->n > QT_GRAIN) g->most[k] = largest(x->data + k * c->block, qt_min_i64(c->block, x->n - k * c->block));
    if (c->double_quant) return quantize_scales(c, g, a);
    memcpy(g->scale, g->most, n);
    return QT_OK;
}

/* ---- the op ------------------------------------------------------------------------------------------------------------------------ */

/* Codes of one block. The entry below a midpoint wins where w/a is the midpoint. */
QT_CLONES static void find(int32_t *restrict code, const R *restrict x, int64_t n, R most, const R *middle)
{
    const R over = most > 0 ? most : 1;
    for (int64_t i = 0; i < n; i++) {
        const R u = x[i] / over;
        int32_t c = 0;
        for (int j = 0; j < LEVELS - 1; j++) c += u > middle[j];
        code[i] = c;
    }
}

enum { PIECE = 256 };

/* y of one block; NaN stays. */
static void quantize(R *y, const R *x, int64_t n, R most, R scale, const cfg *c)
{
    int32_t code[PIECE];
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t len = qt_min_i64(PIECE, n - at);
        find(code, x + at, len, most, c->middle);
        for (int64_t i = 0; i < len; i++) y[at + i] = isnan(x[at + i]) ? x[at + i] : c->t[code[i]] * scale;
    }
}

static qt_err shape(qt_node *nd)
{
    QT_TRY(qt_node_out_like(nd, nd->in[0]));
    qt_pass_shape(nd);
    return QT_OK;
}

static void forward(qt_node *nd)
{
    const grid *g = nd->arg;
    const R    *x = nd->in[0]->data;
    R          *y = nd->out->data;
    int64_t     n = nd->out->n, block = g->layout.inner;
    QT_FOR_EACH(k, g->layout.count, n > QT_GRAIN)
        quantize(y + k * block, x + k * block, qt_min_i64(block, n - k * block), g->most[k], g->scale[k], g->c);
}

static const qt_op op;

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    grid g = {0};
    qt_tape_fail(t, grid_of(q->cfg, x, &t->arena, &g));
    return QT_EMIT(t, &op, &g, sizeof g, x);
}

static double bits(const qt_site *q) { return ((const cfg *)q->cfg)->table == UNIFORM2 ? 2 : 4; }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    const cfg      *c = q->cfg;
    qt_scale_codes *own = qt_arena_alloc(a, sizeof *own);
    grid            g;
    if (!own) return QT_EMEM;
    QT_TRY(qt_codes_check(q, x));
    QT_TRY(grid_of(c, x, a, &g));
    for (int64_t k = 0; k < g.layout.count; k++)
        QT_CHECK(isfinite(g.most[k]), QT_EDATA, "%s: block %lld holds a number that is not finite", q->path, (long long)k);
    QT_TRY(qt_codes_new(a, x->n, g.layout, g.scale, bits(q), codes));
    *own = g.codes;
    codes->table = c->t, codes->scale_codes = c->double_quant ? own : NULL;
    QT_FOR_EACH(k, g.layout.count, x->n > QT_GRAIN)
        find(codes->code + k * c->block, x->data + k * c->block, qt_min_i64(c->block, x->n - k * c->block), g.most[k], c->middle);
    return QT_OK;
}

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    static cfg c = {.block = 16, .levels = 4, .t = {-1, (R)-0.25, (R)0.25, 1}, .middle = {(R)-0.625, 0, (R)0.625}};
    for (int i = 3; i < LEVELS; i++) c.middle[i] = (R)INFINITY;
    grid g = {.c = &c, .layout = {16, 3}, .most = in[1]->data, .scale = in[1]->data};
    return QT_EMIT(t, &op, &g, sizeof g, in[0]);
}

static const qt_case cases[] = {{"blocks", build, {{{6, 8}, 'n'}, {{3}, 'c'}}}, {0}};

static const qt_op op = {{"nf4", "nearest entry of a table, gradient passed on", "arXiv 2305.14314"}, QT_SURROGATE, shape, forward, qt_pass_backward,
                         .stores = true, .reads = qt_reads_nothing, .cases = cases};

const qt_quant qt_quant_nf4 = {
    {"nf4", "entries of a table times the largest of a block: NormalFloat of QLoRA, with double quantization",
     "Dettmers et al. 2023, arXiv 2305.14314", fields, sizeof(cfg)},
    init, NULL, apply, .encode = encode, .bits = bits, .op = &op};
