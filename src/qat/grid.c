/* The affine grid with constant scales: forward, straight-through backward, codes. See grid.h.
 *
 *     forward   q = clamp(round(x/s) + z, qn, qp),  y = (q - z) s
 *     backward  dx = dy [qn <= round(x/s) + z <= qp]   (mask), or dx = dy (identity)
 *
 * round() has derivative 0 almost everywhere; the straight-through estimator (Bengio et al. 2013, arXiv 1308.3432) puts 1 in its place,
 * and clamp then gives the mask. The index is computed again in backward: a division costs less than storing and loading a mask.
 * Adding z = +0 turns a rounded -0 into +0, so that a value and its decoded code have the same bits. */
#include "qat/grid.h"

double qt_cut_sum(const qt_cut *c, const double *partial, int64_t k)
{
    double sum = 0;
    for (int64_t j = k * c->per_run; j < c->pieces; j += c->count * c->per_run)
        for (int64_t i = 0; i < c->per_run; i++) sum += partial[j + i];
    return sum;
}

/* ---- leaf loops over one piece -------------------------------------------------------------------------------------------------- */

QT_CLONES static void quantize(R *y, const R *x, int64_t n, R s, R z, R qn, R qp)
{
    for (int64_t i = 0; i < n; i++) y[i] = (qt_clip(qt_round(x[i] / s) + z, qn, qp) - z) * s;
}

QT_CLONES static void encode(int32_t *code, const R *x, int64_t n, R s, R z, R o, R qn, R qp)
{
    for (int64_t i = 0; i < n; i++) code[i] = (int32_t)qt_clip(qt_round((x[i] - o) / s) + z, qn, qp);
}

QT_CLONES static void pass_inside(R *dx, const R *dy, const R *x, int64_t n, R s, R z, R qn, R qp)
{
    for (int64_t i = 0; i < n; i++) {
        R u = qt_round(x[i] / s) + z;
        dx[i] += ((u >= qn) & (u <= qp)) ? dy[i] : 0;
    }
}

QT_CLONES static void pass(R *dx, const R *dy, int64_t n)
{
    for (int64_t i = 0; i < n; i++) dx[i] += dy[i];
}

/* ---- the op --------------------------------------------------------------------------------------------------------------------- */

static R zero_of(const qt_grid *g, int64_t k) { return g->zero ? g->zero[k] : 0; }

qt_err qt_grid_shape(qt_node *nd) { return qt_node_out_like(nd, nd->in[0]); }

void qt_grid_forward(qt_node *nd)
{
    const qt_grid *g = nd->arg;
    const R       *x = nd->in[0]->data;
    R             *y = nd->out->data;
    qt_cut         c = qt_cut_of(g->layout, nd->out->n);
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        quantize(y + p.at, x + p.at, p.n, g->scale[p.k], zero_of(g, p.k), g->qn, g->qp);
    }
}

void qt_grid_backward(const qt_node *nd)
{
    const qt_grid *g = nd->arg;
    const R       *x = nd->in[0]->data, *dy = nd->out->grad;
    R             *dx = nd->in[0]->grad;
    qt_cut         c = qt_cut_of(g->layout, nd->out->n);
    if (!dx) return;
    if (!g->mask) {
        qt_pass_gradient(dx, dy, nd->out->n);
        return;
    }
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        pass_inside(dx + p.at, dy + p.at, x + p.at, p.n, g->scale[p.k], zero_of(g, p.k), g->qn, g->qp);
    }
}

void qt_pass_gradient(R *dx, const R *dy, int64_t n)
{
    QT_FOR_CHUNKS(b, e, n, QT_GRAIN) pass(dx + b, dy + b, e - b);
}

/* ---- codes ---------------------------------------------------------------------------------------------------------------------- */

qt_err qt_grid_alloc(qt_arena *a, qt_grid *g, bool with_zero)
{
    size_t n = (size_t)g->layout.count * sizeof(R);
    if (!(g->scale = qt_arena_alloc(a, n))) return QT_EMEM;
    g->zero = NULL;
    if (with_zero && !(g->zero = qt_arena_zalloc(a, n))) return QT_EMEM;
    return QT_OK;
}

qt_err qt_codes_new(qt_arena *a, int64_t n, qt_layout l, R *scale, double bits, qt_codes *c)
{
    *c = (qt_codes){.n = n, .layout = l, .scale = scale, .bits = bits};
    return (c->code = qt_arena_alloc(a, (size_t)n * sizeof *c->code)) ? QT_OK : QT_EMEM;
}

qt_err qt_codes_check(const qt_site *q, const qt_tensor *x)
{
    for (int64_t i = 0; i < x->n; i++) QT_CHECK(!isnan(x->data[i]), QT_EDATA, "%s: element %lld is not a number", q->path, (long long)i);
    return QT_OK;
}

qt_err qt_grid_encode(const qt_site *q, const qt_grid *g, const qt_tensor *x, qt_arena *a, double bits, qt_codes *codes)
{
    qt_cut c = qt_cut_of(g->layout, x->n);
    QT_TRY(qt_codes_check(q, x));
    for (int64_t k = 0; k < g->layout.count; k++)
        QT_CHECK(g->scale[k] > 0 && isfinite(g->scale[k]), QT_EDATA, "%s: scale %lld is %g, it must be positive and finite", q->path, (long long)k,
                 (double)g->scale[k]);
    QT_TRY(qt_codes_new(a, x->n, g->layout, g->scale, bits, codes));
    codes->zero_point = g->zero, codes->offset = g->offset;
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        encode(codes->code + p.at, x->data + p.at, p.n, g->scale[p.k], zero_of(g, p.k), g->offset ? g->offset[p.k] : 0, g->qn, g->qp);
    }
    return QT_OK;
}
