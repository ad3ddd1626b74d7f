/* Fixed-point numbers with a trained binary point. A word of w bits with f fraction bits holds the integers n..p and stands for j 2^-f, which
 * is ap_fixed<w, w-f> of high-level synthesis. With s = 2^-f a number x is cast in two steps, and every rescaling in hardware is a shift:
 *
 *     i = round(x / s)      trn: down; rnd: nearest, ties up; rnd_conv: ties to even; rnd_zero: ties towards zero
 *     j = overflow(i)       sat: clamp to n..p; wrap: the last w bits
 *     y = j s
 *     dx = dy [n <= i <= p]                                         wrap: dx = dy, unless mask_wrapped
 *     dF = -g ln2 s sum dy { j - x/s  inside,  j  outside }         f = round(F)
 *
 * Derivation. As for a learned step (lsq.c), dy/ds = j - x/s where the cast rounds, for round(u) = u + r with r held constant, and j where it
 * clamps. Then ds/dF = -ln2 s with f = F straight through its rounding. g = 1/sqrt(N p) as in lsq.c; for Adam it makes no difference.
 *
 * F begins at f0 = w - 1 - ceil(log2 max|x|) (unsigned: w - ceil), where nothing but max|x| = 2^k itself can overflow, or (mse) at that of f0,
 * f0 + 1 and f0 + 2 with the least squared error: of a weight when it is first used, of any other tensor in the first batch. From freeze_at on
 * F is held at f: the optimizer's momentum moves it by less than one half a step, and it is put back.
 *
 * k_hot: K keeps at most K non-zero bits of |j|, so that a product is K shifts. The K highest are taken, the last of them rounded to the
 * nearest power of two; what lies above p becomes the largest such number below it. Its gradient is 1. F begins without regard to it (mse) or
 * where the error is least with it (mse_hot): the largest 1-hot word is (p + 1)/2, and numbers above it may ask for one fraction bit less.
 *
 * Dai et al. 2024, "Trainable Fixed-Point Quantization for Deep Learning Acceleration on FPGAs" (arXiv 2401.17544); the gradient of F is derived
 * here from that of LSQ. Left out: AP_RND_INF, AP_RND_MIN_INF and AP_TRN_ZERO, and the symmetric and zeroing forms of saturation. */
#include "kernels/reduce.h"
#include "ops/inner.h"
#include "qat/steps.h"

enum { POINT, START, INITIALIZED }; /* parameters: F; f as it began; has it begun */
enum { BLOCK = QT_STEP_BLOCK, LANES = QT_STEP_LANES, FURTHEST = 60 };

typedef struct cfg {
    int64_t num_bits, k_hot;
    qt_ints axis;
    bool    is_signed, mask_wrapped, learn;
    int     rounding, overflow, granularity, start, grad_scale;
    qt_span freeze_at;
} cfg;
enum { TENSOR, CHANNEL };
enum { MAX, MSE, MSE_HOT };
enum { GRAD_NONE, GRAD_FEATURES, GRAD_NUMEL };

static const qt_field fields[] = {
    QT_F_INT(cfg, num_bits, "8", 1, 24, "bits of a word, sign included"),
    {"signed", QT_BOOL, offsetof(cfg, is_signed), "true", 0, 0, NULL, "integers -2^(b-1)..2^(b-1)-1; false: 0..2^b-1"},
    QT_F_ENUM(cfg, rounding, "rnd", "trn|rnd|rnd_conv|rnd_zero", "down; to nearest with ties up, to even or towards zero"),
    QT_F_ENUM(cfg, overflow, "sat", "sat|wrap", "what does not fit: clamp it, or keep its lowest bits"),
    QT_F_BOOL(cfg, mask_wrapped, "false", "overflow wrap: what has wrapped gets no gradient"),
    QT_F_INT(cfg, k_hot, "0", 0, 24, "at most so many non-zero bits in a number's magnitude; 0: any"),
    QT_F_ENUM(cfg, granularity, "tensor", "tensor|channel", "what shares a binary point"),
    QT_F_INTS(cfg, axis, "[]", -QT_MAX_DIM, QT_MAX_DIM - 1, "channel axis; negative counts from the last; default: the layer's"),
    {"init", QT_ENUM, offsetof(cfg, start), "mse", 0, 0, "max|mse|mse_hot",
     "first binary point: max: nothing overflows; mse: that or one of the next two with the least squared error; mse_hot: the same after k_hot"},
    QT_F_BOOL(cfg, learn, "true", "train the binary point; false: keep the first"),
    QT_F_ENUM(cfg, grad_scale, "features", "none|features|numel", "N of the factor 1/sqrt(N p) on the gradient of the point; none: factor 1"),
    QT_F_SPAN(cfg, freeze_at, "~", "when the binary point stops moving; default: schedule.freeze_observers_at"),
    {0}};

/* ---- the cast of a block: u = x/s, i = round(u), j = overflow(i) ------------------------------------------------------------------- */

typedef struct word {
    R    qn, qp;
    int  rounding, overflow, k_hot;
    bool mask; /* no gradient where i is outside of [qn, qp] */
} word;

/* By way of half to even, which is one instruction, and exact: v + 1/2 would itself be rounded. */
QT_INLINE R rounded(R v, int rounding)
{
    const R even = qt_round(v), rest = v - even;
    switch (rounding) {
    case QT_ROUND_DOWN: return even - qt_keep(rest < 0, 1);
    case QT_ROUND_UP: return even + qt_keep(rest == (R)0.5, 1);
    case QT_ROUND_ZERO: return even + qt_keep((rest == (R)0.5) & (v < 0), 1) - qt_keep((rest == (R)-0.5) & (v > 0), 1);
    default: return even;
    }
}

/* u and i; adding 0 makes +0 of -0, which codes have not. */
#define ROUND_ALL(how)                 \
    for (int k = 0; k < n; k++) {      \
        u[k] = x[k] * over_s;          \
        i[k] = rounded(u[k], how) + 0; \
    }
QT_CLONES static void round_block(R *restrict i, R *restrict u, const R *restrict x, int n, R over_s, int rounding)
{
    if (rounding == QT_ROUND_DOWN) ROUND_ALL(QT_ROUND_DOWN)
    else if (rounding == QT_ROUND_UP) ROUND_ALL(QT_ROUND_UP)
    else if (rounding == QT_ROUND_ZERO) ROUND_ALL(QT_ROUND_ZERO)
    else ROUND_ALL(QT_ROUND_EVEN)
}

/* The lowest bits: i less the multiple of 2^w below it, which is exact, and once more if that is above p. */
QT_CLONES static void overflow_block(R *restrict j, const R *restrict i, int n, const word *w)
{
    const R qn = w->qn, qp = w->qp, span = qp - qn + 1, over_span = 1 / span;
    if (w->overflow == QT_SATURATE)
        for (int k = 0; k < n; k++) j[k] = qt_clip(i[k], qn, qp);
    else
        for (int k = 0; k < n; k++) {
            R low = i[k] - span * qt_floor(i[k] * over_span);
            j[k] = low - qt_keep(low > qp, span);
        }
}

/* The nearest number of at most K bits, for 0 < r < 2^25. */
static int32_t k_hot(int32_t r, int K)
{
    int32_t v = 0;
    for (; K > 0 && r > 0; K--) {
        int p = 31 - __builtin_clz((unsigned)r);
        if (K == 1 && p > 0 && r >= 3 << (p - 1)) p++;
        v += 1 << p, r -= 1 << p;
    }
    return v;
}

/* The largest one up to `most`: its K highest bits. */
static int32_t k_hot_below(int32_t most, int K)
{
    int32_t v = 0;
    for (; K > 0 && most > v; K--) v += 1 << (31 - __builtin_clz((unsigned)(most - v)));
    return v;
}

static void k_hot_block(R *j, int n, const word *w)
{
    const int32_t top = k_hot_below((int32_t)w->qp, w->k_hot);
    for (int k = 0; k < n; k++) {
        if (isnan(j[k])) continue;
        int32_t v = k_hot((int32_t)fabs((double)j[k]), w->k_hot);
        v = v > top ? top : v;
        j[k] = (R)(j[k] < 0 ? -v : v);
    }
}

/* u, i and j of up to BLOCK numbers. */
typedef struct block {
    R u[BLOCK], i[BLOCK], j[BLOCK];
} block;

static void cast_block(block *b, const R *x, int n, R s, const word *w)
{
    round_block(b->i, b->u, x, n, 1 / s, w->rounding);
    overflow_block(b->j, b->i, n, w);
    if (w->k_hot) k_hot_block(b->j, n, w);
}

/* ---- runs --------------------------------------------------------------------------------------------------------------------------- */

QT_CLONES static bool value_block(R *restrict y, uint8_t *restrict q, const R *restrict j, int n, R s, int base)
{
    qt_real_bits seen = 0;
    for (int k = 0; k < n; k++) y[k] = j[k] * s;
    if (!q) return true;
    for (int k = 0; k < n; k++) {
        qt_real_bits bits = qt_bits_of_code(j[k]);
        q[k] = (uint8_t)(bits - (qt_real_bits)base);
        seen |= bits;
    }
    return !qt_bits_nan(seen);
}

/* y and, unless NULL, the bytes of codes; false if there was a NaN among them. */
static bool cast_run(R *y, uint8_t *q, const R *x, int64_t n, R s, int base, const word *w)
{
    block b;
    bool  numbers = true;
    for (int64_t at = 0; at < n; at += BLOCK) {
        int m = (int)qt_min_i64(BLOCK, n - at);
        cast_block(&b, x + at, m, s, w);
        numbers &= value_block(y + at, q ? q + at : NULL, b.j, m, s, base);
    }
    return numbers;
}

/* dx = dy [inside], stored, added or left alone; the sum of dy (j - u [inside]) comes back. */
QT_INLINE double back_block(R *restrict dx, const R *restrict dy, const block *b, int n, R lo, R hi, qt_step_dx mode)
{
    R      lane[LANES] = {0};
    double sum = 0;
    for (int at = 0; at < n; at += LANES) {
        const int m = n - at < LANES ? n - at : LANES;
        for (int l = 0; l < m; l++) {
            const int  k = at + l;
            const bool inside = (b->i[k] >= lo) & (b->i[k] <= hi);
            if (mode == QT_DX_STORE) dx[k] = qt_keep(inside, dy[k]);
            if (mode == QT_DX_ADD) dx[k] += qt_keep(inside, dy[k]);
            lane[l] += dy[k] * (b->j[k] - qt_keep(inside, b->u[k]));
        }
    }
    for (int l = 0; l < LANES; l++) sum += (double)lane[l];
    return sum;
}

QT_CLONES static double back_mode(R *dx, const R *dy, const block *b, int n, R lo, R hi, qt_step_dx mode)
{
    switch (mode) {
    case QT_DX_STORE: return back_block(dx, dy, b, n, lo, hi, QT_DX_STORE);
    case QT_DX_ADD: return back_block(dx, dy, b, n, lo, hi, QT_DX_ADD);
    default: return back_block(NULL, dy, b, n, lo, hi, QT_DX_NONE);
    }
}

static double back_run(R *dx, const R *dy, const R *x, int64_t n, R s, const word *w, qt_step_dx mode)
{
    const R lo = w->mask ? w->qn : (R)-INFINITY, hi = w->mask ? w->qp : (R)INFINITY;
    double  sum = 0;
    block   b;
    for (int64_t at = 0; at < n; at += BLOCK) {
        int m = (int)qt_min_i64(BLOCK, n - at);
        cast_block(&b, x + at, m, s, w);
        sum += back_mode(QT_STEP_AT(dx, at, mode), dy + at, &b, m, lo, hi, mode);
    }
    return sum;
}

/* ---- the op: in[0] is x, in[1] the points F, or NULL where they are held -------------------------------------------------------------- */

typedef struct arg {
    word      w;
    qt_layout layout;
    qt_role   role;
    R        *scale; /* [count] 2^-f */
    double    g;
    qt_bytes  bytes;
} arg;

static R scale_of(R point) { return (R)exp2(-rint((double)point)); }

static qt_err shape(qt_node *nd)
{
    arg *a = nd->arg;
    QT_TRY(qt_node_out_like(nd, nd->in[0]));
    QT_TRY(qt_bytes_attach(nd, a->role, a->layout, a->w.qn, a->w.qp, NULL, &a->bytes));
    qt_cut c = qt_cut_of(a->layout, nd->out->n);
    return qt_wants_grad(nd->out) ? qt_node_save(nd, (size_t)c.pieces * sizeof(double)) : QT_OK; /* partial sums of dF */
}

static void forward(qt_node *nd)
{
    const arg *a = nd->arg;
    const R   *x = nd->in[0]->data;
    uint8_t   *q = a->bytes.q;
    qt_cut     c = qt_cut_of(a->layout, nd->out->n);
    if (q) memcpy(a->bytes.scale, a->scale, (size_t)c.count * sizeof(R));
    QT_FOR_EACH(k, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, k);
        if (!cast_run(nd->out->data + p.at, q ? q + p.at : NULL, x + p.at, p.n, a->scale[p.k], a->bytes.base, &a->w)) qt_bytes_spoil(&a->bytes, p.k);
    }
}

static void backward(const qt_node *nd)
{
    const arg *a = nd->arg;
    const R   *x = nd->in[0]->data, *dy = nd->out->grad;
    R         *dx = nd->in[0]->grad;
    double    *partial = nd->saved;
    qt_cut     c = qt_cut_of(a->layout, nd->out->n);
    qt_step_dx mode = qt_step_mode(nd->in[0]);
    QT_FOR_EACH(k, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, k);
        const R  s = a->scale[p.k];
        partial[k] = -M_LN2 * (double)s * back_run(QT_STEP_AT(dx, p.at, mode), dy + p.at, x + p.at, p.n, s, &a->w, mode);
    }
    qt_step_add(nd->in[1], &c, partial, a->g);
}

static const qt_op op;

static qt_err scales(qt_arena *arena, const R *point, arg *a)
{
    if (!(a->scale = qt_arena_alloc(arena, (size_t)a->layout.count * sizeof(R)))) return QT_EMEM;
    for (int64_t k = 0; k < a->layout.count; k++) a->scale[k] = scale_of(point[k]);
    return QT_OK;
}

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    arg a = {.w = {-8, 7, .rounding = QT_ROUND_UP, .mask = true}, .layout = {8, 6}, .g = 1};
    qt_tape_fail(t, scales(&t->arena, in[1]->data, &a));
    return QT_EMIT(t, &op, &a, sizeof a, in[0], in[1]);
}

static const qt_case cases[] = {{"channel", build, {{{6, 8}, 'n'}, {{6}, 'p'}}}, {0}};
static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS(1); }

static const qt_op op = {
    {"fixed", "cast to fixed point with a trained binary point", "arXiv 2401.17544"}, QT_SURROGATE, shape, forward, backward, .stores = true,
    .reads = reads, .cases = cases};

/* ---- the quantizer -------------------------------------------------------------------------------------------------------------------- */

static qt_granularity granularity_of(const cfg *c) { return c->granularity == CHANNEL ? QT_PER_CHANNEL : QT_PER_TENSOR; }

static qt_err init(qt_site *q)
{
    const cfg *c = q->cfg;
    int64_t    count;
    if (c->is_signed && c->num_bits < 2) return qt_site_fail(q, "signed words need num_bits of at least 2");
    q->freeze_at = c->freeze_at;
    QT_TRY(qt_site_count(q, granularity_of(c), &c->axis, 0, &count));
    QT_TRY(qt_site_param(q, POINT, "point", c->learn ? QT_QUANT : QT_BUFFER, count, 0));
    QT_TRY(qt_site_param(q, START, "start", QT_BUFFER, count, 0));
    return qt_site_param(q, INITIALIZED, "initialized", QT_BUFFER, 1, 0);
}

static word word_of(const cfg *c)
{
    word w = {.rounding = c->rounding, .overflow = c->overflow, .k_hot = (int)c->k_hot, .mask = c->overflow == QT_SATURATE || c->mask_wrapped};
    qt_levels((int)c->num_bits, c->is_signed, false, &w.qn, &w.qp);
    return w;
}

static qt_err arg_of(const qt_site *q, const qt_tensor *x, qt_arena *arena, arg *a)
{
    const cfg    *c = q->cfg;
    const int64_t N = c->grad_scale == GRAD_FEATURES && q->role != QT_ROLE_WEIGHT ? x->n / x->dim[0] : x->n;
    *a = (arg){.w = word_of(c), .role = q->role};
    QT_TRY(qt_site_layout(q, granularity_of(c), &c->axis, 0, x, &a->layout));
    QT_CHECK(a->layout.count == q->p[POINT]->n, QT_ESHAPE, "%s: the tensor has %lld channels, the site %lld binary points", q->path,
             (long long)a->layout.count, (long long)q->p[POINT]->n);
    a->g = c->grad_scale == GRAD_NONE ? 1 : 1 / sqrt((double)N * (double)a->w.qp);
    return scales(arena, q->p[POINT]->data, a);
}

/* Squared error of all numbers of scale k with f fraction bits. */
static double error_of(const qt_tensor *x, qt_layout l, int64_t k, int f, const word *w)
{
    const R s = scale_of((R)f);
    double  e = 0;
    block   b;
    for (int64_t run = k * l.inner; run < x->n; run += l.count * l.inner)
        for (int64_t at = 0; at < l.inner; at += BLOCK) {
            int m = (int)qt_min_i64(BLOCK, l.inner - at);
            cast_block(&b, x->data + run + at, m, s, w);
            for (int i = 0; i < m; i++) {
                double d = (double)x->data[run + at + i] - (double)(b.j[i] * s);
                e += d * d;
            }
        }
    return e;
}

static double max_abs(const qt_tensor *x, qt_layout l, int64_t k)
{
    double most = 0;
    for (int64_t run = k * l.inner; run < x->n; run += l.count * l.inner) most = fmax(most, (double)qt_reduce_max_abs(x->data + run, l.inner));
    return most;
}

/* The first f of scale k. */
static int first_point(const cfg *c, const qt_tensor *x, qt_layout l, int64_t k)
{
    word         w = word_of(c);
    const double most = max_abs(x, l, k);
    const int    whole = (int)c->num_bits - c->is_signed;
    int          f = most > 0 && isfinite(most) ? whole - (int)fmin(fmax(ceil(log2(most)), -FURTHEST), FURTHEST) : whole, best = f;
    double       least = INFINITY;
    if (c->start == MSE) w.k_hot = 0;
    for (int more = 0; c->start != MAX && more < 3; more++) {
        double e = error_of(x, l, k, f + more, &w);
        if (e < least) least = e, best = f + more;
    }
    return best;
}

static qt_err start(qt_site *q, const qt_tensor *x)
{
    const cfg *c = q->cfg;
    qt_layout  l;
    QT_TRY(qt_site_layout(q, granularity_of(c), &c->axis, 0, x, &l));
    for (int64_t k = 0; k < q->p[POINT]->n; k++) q->p[START]->data[k] = q->p[POINT]->data[k] = (R)first_point(c, x, l, k);
    q->p[INITIALIZED]->data[0] = 1;
    return QT_OK;
}

static bool started(const qt_site *q) { return q->p[INITIALIZED]->data[0] != 0; }

static void observe(qt_tape *t, qt_site *q, const qt_tensor *x)
{
    if (!started(q)) qt_tape_fail(t, start(q, x));
}

static qt_err ready(qt_site *q, const qt_tensor *x, qt_arena *arena, bool train, arg *a)
{
    if (!started(q) && !train && q->role != QT_ROLE_WEIGHT)
        return qt_fail(QT_EUSAGE, "%s: the binary point is not known yet; train or calibrate before evaluating", q->path);
    if (!started(q)) QT_TRY(start(q, x));
    return arg_of(q, x, arena, a);
}

/* F = f, before a step and after it. */
static void hold(qt_site *q)
{
    for (int64_t k = 0; k < q->p[POINT]->n; k++) q->p[POINT]->data[k] = qt_round(q->p[POINT]->data[k]);
}

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    const cfg *c = q->cfg;
    arg        a = {0};
    if (t->train && !q->observing) hold(q);
    qt_tape_fail(t, ready(q, x, &t->arena, t->train, &a));
    return QT_EMIT(t, &op, &a, sizeof a, x, c->learn && q->observing ? q->p[POINT] : NULL);
}

static void after_step(qt_site *q, int64_t step)
{
    (void)step;
    for (int64_t k = 0; k < q->p[POINT]->n; k++) q->p[POINT]->data[k] = qt_clip(q->p[POINT]->data[k], -FURTHEST, FURTHEST);
    if (!q->observing) hold(q);
}

static double bits(const qt_site *q) { return (double)((const cfg *)q->cfg)->num_bits; }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *arena, qt_codes *codes)
{
    arg    a;
    block  b;
    QT_TRY(ready(q, x, arena, false, &a));
    QT_TRY(qt_codes_check(q, x));
    QT_TRY(qt_codes_new(arena, x->n, a.layout, a.scale, bits(q), codes));
    qt_cut c = qt_cut_of(a.layout, x->n);
    for (int64_t k = 0; k < c.pieces; k++) {
        qt_piece p = qt_piece_of(&c, k);
        for (int64_t at = p.at; at < p.at + p.n; at += BLOCK) {
            int m = (int)qt_min_i64(BLOCK, p.at + p.n - at);
            cast_block(&b, x->data + at, m, a.scale[p.k], &a.w);
            for (int i = 0; i < m; i++) {
                QT_CHECK(!isnan(b.j[i]), QT_EDATA, "%s: element %lld overflows when it is divided by its step, and has no lowest bits", q->path, (long long)(at + i));
                codes->code[at + i] = (int32_t)b.j[i];
            }
        }
    }
    return QT_OK;
}

static void cast_of(const qt_site *q, qt_cast *cast)
{
    const cfg *c = q->cfg;
    *cast = (qt_cast){.bits = (int)c->num_bits, .is_signed = c->is_signed, .rounding = c->rounding, .overflow = c->overflow, .k_hot = (int)c->k_hot,
                      .count = q->p[POINT]->n, .point = q->p[POINT]->data, .start = q->p[START]->data};
}

const qt_quant qt_quant_fixed = {
    {"fixed", "fixed point with a trained binary point (QFX)", "Dai et al. 2024, arXiv 2401.17544", fields, sizeof(cfg)},
    init, observe, apply, .after_step = after_step, .encode = encode, .bits = bits, .cast = cast_of, .idempotent = true, .monotone = true,
    .zero_to_zero = true, .op = &op};
