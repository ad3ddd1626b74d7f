/* The affine grid with constant scales: forward, straight-through backward, codes. See grid.h.
 *
 *     forward   q = clamp(round(x/s) + z, qn, qp),  y = (q - z) s
 *     backward  dx = dy [qn <= round(x/s) + z <= qp]   (mask), or dx = dy (identity)
 *
 * Forward also gives q as bytes for the integer kernels, in the same pass. round() has derivative 0 almost everywhere; the straight-through
 * estimator (Bengio et al. 2013, arXiv 1308.3432) puts 1 in its place, and clamp then gives the mask. The index is computed again in
 * backward: a division costs no more than loading x does, where x is not in the cache, and less than storing and loading a mask. */
#include "qat/grid.h"
#include <string.h>

double qt_cut_sum(const qt_cut *c, const double *partial, int64_t k)
{
    double sum = 0;
    for (int64_t j = k * c->per_run; j < c->pieces; j += c->count * c->per_run)
        for (int64_t i = 0; i < c->per_run; i++) sum += partial[j + i];
    return sum;
}

/* ---- leaf loops over one piece -------------------------------------------------------------------------------------------------- */

QT_CLONES static void quantize(R *restrict y, const R *restrict x, int64_t n, R s, R z, R qn, R qp)
{
    for (int64_t i = 0; i < n; i++) y[i] = qt_value(qt_code(x[i], s, z, qn, qp), s, z);
}

QT_CLONES static bool quantize_bytes(R *restrict y, uint8_t *restrict q, const R *restrict x, int64_t n, R s, R z, R qn, R qp, int base)
{
    qt_real_bits seen = 0;
    for (int64_t i = 0; i < n; i++) {
        R            code = qt_code(x[i], s, z, qn, qp);
        qt_real_bits bits = qt_bits_of_code(code);
        y[i] = qt_value(code, s, z);
        q[i] = (uint8_t)(bits - (qt_real_bits)base);
        seen |= bits;
    }
    return !qt_bits_nan(seen);
}

QT_CLONES static void encode(int32_t *code, const R *x, int64_t n, R s, R z, R o, R qn, R qp)
{
    for (int64_t i = 0; i < n; i++) code[i] = (int32_t)qt_code(x[i] - o, s, z, qn, qp);
}

static inline R inside(R dy, R x, R s, R z, R qn, R qp)
{
    R u = qt_round(x / s) + z;
    return qt_keep((u >= qn) & (u <= qp), dy);
}

QT_CLONES static void pass_inside(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t n, R s, R z, R qn, R qp, bool first)
{
    if (first)
        for (int64_t i = 0; i < n; i++) dx[i] = inside(dy[i], x[i], s, z, qn, qp);
    else
        for (int64_t i = 0; i < n; i++) dx[i] += inside(dy[i], x[i], s, z, qn, qp);
}

QT_CLONES static void pass(R *restrict dx, const R *restrict dy, int64_t n)
{
    for (int64_t i = 0; i < n; i++) dx[i] += dy[i];
}

/* ---- the op --------------------------------------------------------------------------------------------------------------------- */

static R zero_of(const qt_grid *g, int64_t k) { return g->zero ? g->zero[k] : 0; }

qt_err qt_grid_shape(qt_node *nd)
{
    qt_grid *g = nd->arg;
    QT_TRY(qt_node_out_like(nd, nd->in[0]));
    if (!g->mask) qt_pass_shape(nd);
    return qt_bytes_attach(nd, g->role, g->layout, g->qn, g->qp, g->zero, &g->bytes);
}

bool qt_quantize_run(R *restrict y, uint8_t *restrict q, const R *restrict x, int64_t n, R s, R z, R qn, R qp, int base)
{
    if (q) return quantize_bytes(y, q, x, n, s, z, qn, qp, base);
    quantize(y, x, n, s, z, qn, qp);
    return true;
}

void qt_grid_forward(qt_node *nd)
{
    const qt_grid *g = nd->arg;
    const R       *x = nd->in[0]->data;
    R             *y = nd->out->data;
    uint8_t       *q = g->bytes.q;
    qt_cut         c = qt_cut_of(g->layout, nd->out->n);
    if (q) memcpy(g->bytes.scale, g->scale, (size_t)c.count * sizeof(R));
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        bool     numbers = qt_quantize_run(y + p.at, q ? q + p.at : NULL, x + p.at, p.n, g->scale[p.k], zero_of(g, p.k), g->qn, g->qp, g->bytes.base);
        if (!numbers) qt_bytes_spoil(&g->bytes, p.k);
    }
}

uint32_t qt_grid_reads(const qt_node *nd) { return ((const qt_grid *)nd->arg)->mask ? QT_READS(1) : 0; }

void qt_grid_backward(const qt_node *nd)
{
    const qt_grid *g = nd->arg;
    const R       *x = nd->in[0]->data, *dy = nd->out->grad;
    R             *dx = nd->in[0]->grad;
    qt_cut         c = qt_cut_of(g->layout, nd->out->n);
    if (!g->mask) qt_pass_backward(nd);
    if (!g->mask || !dx) return;
    const bool first = qt_grad_first(nd->in[0]);
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        pass_inside(dx + p.at, dy + p.at, x + p.at, p.n, g->scale[p.k], zero_of(g, p.k), g->qn, g->qp, first);
    }
}

void qt_pass_shape(qt_node *nd)
{
    if (nd->in[0]->flags & QT_PERSISTENT && qt_wants_grad(nd->out)) nd->out->grad = nd->in[0]->grad;
}

void qt_pass_backward(const qt_node *nd)
{
    const R *dy = nd->out->grad;
    R       *dx = nd->in[0]->grad;
    if (!dx || dx == dy) return;
    const bool first = qt_grad_first(nd->in[0]);
    QT_FOR_CHUNKS(b, e, nd->out->n, QT_GRAIN) {
        if (first) memcpy(dx + b, dy + b, (size_t)(e - b) * sizeof *dx);
        else pass(dx + b, dy + b, e - b);
    }
}

/* ---- byte codes ------------------------------------------------------------------------------------------------------------------ */

/* Zero points in units of the stored byte into *stored, NULL if all are 0. false if one of them is not a code. */
static qt_err stored_zeros(qt_arena *a, int64_t count, const R *zero, R qn, R qp, int base, const int32_t **stored, bool *codes)
{
    bool     any = base != 0;
    int32_t *z;
    *stored = NULL;
    for (int64_t k = 0; zero && k < count; k++) {
        if (!(zero[k] >= qn && zero[k] <= qp) || zero[k] != qt_round(zero[k])) return *codes = false, QT_OK;
        any |= (int)zero[k] != base;
    }
    if (!any) return QT_OK;
    if (!(*stored = z = qt_arena_alloc(a, (size_t)count * sizeof *z))) return QT_EMEM;
    for (int64_t k = 0; k < count; k++) z[k] = (zero ? (int32_t)zero[k] : 0) - base;
    return QT_OK;
}

static qt_err attach(qt_node *nd, qt_role role, qt_layout l, R qn, R qp, const R *zero, bool binary, qt_bytes *b)
{
    qt_arena  *a = &nd->tape->arena;
    bool       is_signed = role == QT_ROLE_WEIGHT, codes = !nd->tape->simulate && qp - qn <= 255;
    qt_icodes *c;
    *b = (qt_bytes){NULL};
    if (!codes) return QT_OK;
    b->base = !is_signed ? (int)qn : qn >= -128 && qp <= 127 ? 0 : 128;
    if (!(c = qt_arena_alloc(a, sizeof *c)) || !(b->scale = qt_arena_alloc(a, (size_t)l.count * sizeof(R)))) return QT_EMEM;
    *c = (qt_icodes){.is_signed = is_signed, .lo = (int)qn - b->base, .hi = (int)qp - b->base, .binary = binary, .n = nd->out->n, .inner = l.inner,
                     .count = l.count, .scale = b->scale};
    QT_TRY(stored_zeros(a, l.count, zero, qn, qp, b->base, &c->zero, &codes));
    if (!codes) return QT_OK;
    if (!(c->q = b->q = qt_arena_alloc(a, (size_t)c->n + QT_CODES_SLACK))) return QT_EMEM;
    nd->out->codes = c;
    return QT_OK;
}

qt_err qt_bytes_attach(qt_node *nd, qt_role role, qt_layout l, R qn, R qp, const R *zero, qt_bytes *b)
{
    return attach(nd, role, l, qn, qp, zero, false, b);
}

qt_err qt_bytes_attach_signs(qt_node *nd, qt_role role, qt_layout l, qt_bytes *b) { return attach(nd, role, l, -1, 1, NULL, true, b); }

void qt_bytes_spoil(const qt_bytes *b, int64_t k)
{
    R *s = &b->scale[k];
#pragma omp atomic write
    *s = (R)NAN;
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
    for (int64_t i = 0; i < x->n; i++)
        QT_CHECK(isfinite(x->data[i]), QT_EDATA, "%s: element %lld is %s", q->path, (long long)i, isnan(x->data[i]) ? "not a number" : "infinite");
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
