/* Rotary position embedding: each pair (a, b) of a head's D numbers is turned by an angle that grows with the position p of its token,
 *
 *     a' = a cos f - b sin f,   b' = a sin f + b cos f,      f = p base^(-2i/D),   i = 0 .. D/2 - 1,
 *
 * so that the product of two turned vectors depends on the distance of their positions only. Pair i is (2i, 2i + 1) where pairs are
 * interleaved, else (i, i + D/2). Token t of each sequence is at p = first + t. A turn is undone by its transpose: dx is dy turned back.
 * Angles come from the one before by multiplication, as in ggml: a pair's angle is then that of a runtime, to the last bit, also at positions where
 * an angle of many turns has few exact digits left. Cosines and sines are computed in double.
 *
 * Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021, equations 14-15 (interleaved); the other layout holds
 * the same pairs in another order. Left out: angles scaled for longer contexts. */
#include "ops/inner.h"

typedef struct arg {
    int     heads;
    int64_t first;
    double  base;
    bool    interleaved;
} arg;
typedef struct plan {
    int64_t T, D, rows; /* rows: tokens of all sequences */
    R      *cos, *sin;  /* [T, D/2] */
} plan;

/* R, so that in single precision the angles have the rounding errors of ggml's. */
static void fill_tables(const plan *p, const arg *g)
{
    const int64_t half = p->D / 2;
    const R       slower = (R)pow(g->base, -2.0 / (double)p->D);
    for (int64_t t = 0; t < p->T; t++) {
        R angle = (R)(g->first + t);
        for (int64_t i = 0; i < half; i++, angle *= slower)
            p->cos[t * half + i] = (R)cos((double)angle), p->sin[t * half + i] = (R)sin((double)angle);
    }
}

static qt_err shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const arg       *g = nd->arg;
    const int64_t    width = x->dim[x->rank - 1];
    char             s[96];
    plan            *p;
    if (x->rank < 2 || x->rank > 3) return qt_node_fail(nd, "x is %s, it must be [B, T, heads*D] or [T, heads*D]", qt_shape_str(x, s));
    if (g->heads < 1 || width % g->heads || width / g->heads % 2)
        return qt_node_fail(nd, "rows of %lld numbers do not make %d heads of an even size", (long long)width, g->heads);
    if (!(g->base > 0)) return qt_node_fail(nd, "the base is %g, it must be above 0", g->base);
    QT_TRY(qt_node_save(nd, sizeof *p));
    p = nd->saved;
    *p = (plan){x->dim[x->rank - 2], width / g->heads, x->n / width, NULL, NULL};
    if (!(p->cos = qt_tape_alloc(nd->tape, (size_t)(p->T * p->D) * sizeof(R)))) return QT_EMEM;
    p->sin = p->cos + p->T * p->D / 2;
    fill_tables(p, g);
    return qt_node_out_like(nd, x);
}

/* One token's heads: y = x turned, or turned back, or that added to y. */
QT_CLONES static void turn_halves(R *restrict y, const R *restrict x, const R *restrict c, const R *restrict s, int64_t heads, int64_t half,
                                  bool back, bool add)
{
    for (int64_t h = 0; h < heads; h++, x += 2 * half, y += 2 * half)
        for (int64_t i = 0; i < half; i++) {
            const R a = x[i], b = x[i + half], sn = back ? -s[i] : s[i];
            const R u = a * c[i] - b * sn, v = a * sn + b * c[i];
            y[i] = add ? y[i] + u : u, y[i + half] = add ? y[i + half] + v : v;
        }
}

QT_CLONES static void turn_pairs(R *restrict y, const R *restrict x, const R *restrict c, const R *restrict s, int64_t heads, int64_t half,
                                 bool back, bool add)
{
    for (int64_t h = 0; h < heads; h++, x += 2 * half, y += 2 * half)
        for (int64_t i = 0; i < half; i++) {
            const R a = x[2 * i], b = x[2 * i + 1], sn = back ? -s[i] : s[i];
            const R u = a * c[i] - b * sn, v = a * sn + b * c[i];
            y[2 * i] = add ? y[2 * i] + u : u, y[2 * i + 1] = add ? y[2 * i + 1] + v : v;
        }
}

static void turn(const qt_node *nd, R *y, const R *x, bool back, bool add)
{
    const arg    *g = nd->arg;
    const plan   *p = nd->saved;
    const int64_t half = p->D / 2, width = g->heads * p->D, grain = qt_row_grain(width);
    QT_FOR_CHUNKS(b, e, p->rows, grain)
    for (int64_t i = b; i < e; i++) {
        const int64_t at = i % p->T * half;
        (g->interleaved ? turn_pairs : turn_halves)(y + i * width, x + i * width, p->cos + at, p->sin + at, g->heads, half, back, add);
    }
}

static void forward(qt_node *nd) { turn(nd, nd->out->data, nd->in[0]->data, false, false); }
static void backward(const qt_node *nd)
{
    const bool first = qt_grad_first(nd->in[0]);
    if (nd->in[0]->grad) turn(nd, nd->in[0]->grad, nd->out->grad, true, !first);
}

qt_tensor *qt_rope(qt_tape *t, qt_tensor *x, int heads, int64_t first, double base, bool interleaved)
{
    arg g = {heads, first, base, interleaved};
    return QT_EMIT(t, &qt_op_rope, &g, sizeof g, x);
}

static qt_tensor *build_halves(qt_tape *t, qt_tensor **in) { return qt_rope(t, in[0], 2, 0, 10000, false); }
static qt_tensor *build_pairs(qt_tape *t, qt_tensor **in) { return qt_rope(t, in[0], 2, 3, 100, true); }
static qt_tensor *build_one_head(qt_tape *t, qt_tensor **in) { return qt_rope(t, in[0], 1, 7, 500, false); }
static const qt_case cases[] = {{"halves", build_halves, {{{2, 3, 12}, 'n'}}},
                                {"pairs, from position 3", build_pairs, {{{2, 3, 12}, 'n'}}},
                                {"halves of a register and more", build_halves, {{{1, 2, 44}, 'n'}}},
                                {"pairs of a register and more", build_pairs, {{{1, 2, 44}, 'n'}}},
                                {"one sequence", build_one_head, {{{5, 4}, 'n'}}},
                                {"one pair", build_one_head, {{{1, 2}, 'n'}}},
                                {NULL}};
const qt_op qt_op_rope = {
    .d = {"rope", "rotary position embedding of the heads of each token", .source = "Su et al., 2021, equations 14-15"},
    .kind = QT_EXACT, .shape = shape, .forward = forward, .backward = backward, .stores = true, .reads = qt_reads_nothing, .cases = cases};
