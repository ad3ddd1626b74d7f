/* Quantized gradients: what linear and conv2d share, and linear. See gradq.h. */
#include "ops/gradq.h"
#include "base/par.h"

/* ---- shared ----------------------------------------------------------------------------------------------------------------------------- */

static qt_err side(qt_tape *t, bool integer, qt_gradq_side *d)
{
    size_t n = (size_t)(d->how.A * d->how.C * d->how.B), keys = (size_t)qt_shiftq_keys(&d->how);
    d->e = qt_tape_alloc(t, keys), d->s = qt_tape_alloc(t, keys * sizeof(R));
    d->q = qt_tape_alloc(t, n * (integer && !qt_gradq_bytes(d) ? 2 : 1) + QT_CODES_SLACK);
    if (!integer) d->value = qt_tape_alloc(t, n * sizeof(R));
    return t->err;
}

qt_err qt_gradq_sides(qt_node *nd, const qt_gradq *g, bool integer, int64_t A, int64_t C, int64_t B, qt_gradq_plan *p)
{
    uint64_t stream = g->stream + 2 * (uint64_t)nd->tape->step;
    *p = (qt_gradq_plan){.integer = integer && !g->how.exact};
    p->dx.how = p->dw.how = g->how;
    p->dx.how.A = p->dw.how.A = A, p->dx.how.C = p->dw.how.C = C, p->dx.how.B = p->dw.how.B = B;
    p->dw.how.pairs = true;
    p->dx.u = qt_rng_at(nd->tape->seed, stream), p->dw.u = qt_rng_at(nd->tape->seed, stream + 1);
    QT_TRY(side(nd->tape, p->integer, &p->dx));
    return side(nd->tape, p->integer, &p->dw);
}

qt_err qt_gradq_fold(const qt_node *nd, const char *name, const qt_icodes *c, int64_t keys, qt_gradq_side *d)
{
    d->how.by = c->count == 1 ? NULL : c->scale;
    if (c->count == 1 || c->count == keys) return QT_OK;
    return qt_node_fail(nd, "the gradient is quantized, so the %s may have one scale or one for each of %lld, not %lld", name, (long long)keys, (long long)c->count);
}

qt_err qt_gradq_guard(const qt_node *nd, const qt_gradq_side *d, int64_t inner, int64_t reach)
{
    int64_t longest = qt_longest_block(qt_shiftq_top(&d->how), reach);
    if (inner <= longest) return QT_OK;
    return qt_node_fail(nd, "%d-bit gradients in %d groups times codes up to %lld: a sum of %lld products may overflow 32 bits, at most %lld fit; "
                            "take fewer groups or bits", d->how.bits, d->how.groups, (long long)reach, (long long)inner, (long long)longest);
}

QT_CLONES static void multiply(R *y, const int8_t *q, const R *s, int64_t step, int64_t n)
{
    if (step)
        for (int64_t i = 0; i < n; i++) y[i] = (R)q[i] * s[i];
    else
        for (int64_t i = 0; i < n; i++) y[i] = (R)q[i] * *s;
}

const R *qt_gradq_value(const qt_gradq_side *d, const R *dy)
{
    const qt_shiftq *h = &d->how;
    qt_shiftq_scales(h, dy, d->e, d->s);
    qt_shiftq_codes(h, dy, d->s, &d->u, d->q);
    QT_FOR_EACH(a, h->A, h->A * h->C * h->B > QT_GRAIN) {
        int64_t at = a * h->C * h->B;
        if (h->B == 1) multiply(d->value + at, d->q + at, h->pairs ? d->s + a : d->s, !h->pairs, h->C);
        else
            for (int64_t c = 0; c < h->C; c++, at += h->B) multiply(d->value + at, d->q + at, h->pairs ? d->s + a * h->B : d->s + c, h->pairs, h->B);
    }
    return d->value;
}

R qt_gradq_codes(qt_gradq_side *d, const R *dy, int bias)
{
    R s0 = qt_shiftq_scales(&d->how, dy, d->e, d->s);
    qt_shiftq_shifted(&d->how, dy, d->s, d->e, &d->u, qt_gradq_bytes(d), bias, d->q);
    return s0 / (R)(1 << (d->how.groups - 1));
}

/* ---- linear ----------------------------------------------------------------------------------------------------------------------------- */

/* The codes of a side as operand. */
static qt_ioperand gradient(const qt_gradq_side *d, bool trans)
{
    int top = qt_shiftq_top(&d->how);
    return (qt_ioperand){d->q, true, trans, -top, top, .wide = !qt_gradq_bytes(d)};
}

/* Codes of x or w less their zero points: as they are where there are none, else rewritten into 16 bits. */
static qt_ioperand operand(const qt_icodes *c, const void *rewritten)
{
    int reach = (int)qt_icodes_reach(c);
    if (c->zero) return (qt_ioperand){rewritten, true, false, -reach, reach, .wide = true};
    return (qt_ioperand){c->q, c->is_signed, false, c->lo, c->hi};
}

static void rewrite(const qt_icodes *c, int16_t *to)
{
    const uint8_t *u = c->q;
    const int8_t  *s = c->q;
    if (!c->zero) return;
    QT_FOR_CHUNKS(b, e, c->n, QT_GRAIN)
    for (int64_t i = b; i < e; i++) to[i] = (int16_t)((c->is_signed ? s[i] : u[i]) - c->zero[i / c->inner % c->count]);
}

/* Memory of one product: the sums, and the other operand where it is rewritten. */
static qt_err product(const qt_node *nd, qt_gradq_side *d, const qt_icodes *other, int64_t sums, size_t work)
{
    if (other->zero) d->other = qt_tape_alloc(nd->tape, 2 * (size_t)other->n + QT_CODES_SLACK);
    d->sum = qt_tape_alloc(nd->tape, (size_t)sums * sizeof *d->sum), d->work = qt_tape_alloc(nd->tape, work);
    return nd->tape->err;
}

qt_err qt_gradq_linear_plan(qt_node *nd, const qt_gradq *g, bool integer, qt_gradq_plan *p)
{
    const qt_icodes *x = nd->in[0]->codes, *w = nd->in[1]->codes;
    int64_t          N = nd->in[1]->dim[0], K = nd->in[1]->dim[1], M = nd->in[0]->n / K;
    QT_TRY(qt_gradq_sides(nd, g, integer, M, N, 1, p));
    if (!p->integer) return QT_OK;
    QT_TRY(qt_gradq_fold(nd, "weight", w, N, &p->dx));
    QT_TRY(qt_gradq_fold(nd, "input", x, M, &p->dw));
    QT_TRY(qt_gradq_guard(nd, &p->dx, N, qt_icodes_reach(w)));
    QT_TRY(qt_gradq_guard(nd, &p->dw, M, qt_icodes_reach(x)));
    QT_TRY(product(nd, &p->dx, w, M * K, qt_igemm_work(M, K, N, gradient(&p->dx, false), operand(w, p->dx.q))));
    return product(nd, &p->dw, x, N * K, qt_igemm_work(N, K, M, gradient(&p->dw, true), operand(x, p->dw.q)));
}

QT_CLONES static void add_scaled(R *y, const int32_t *sum, R s, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += (R)sum[i] * s;
}

/* y [M,N] += s op(q) other; sums over K */
static void add_product(qt_gradq_side *d, const R *dy, bool trans, const qt_icodes *other, int64_t M, int64_t N, int64_t K, R *y)
{
    R s = qt_gradq_codes(d, dy, 0) * (other->count == 1 ? other->scale[0] : 1);
    rewrite(other, d->other);
    qt_igemm(M, N, K, gradient(d, trans), operand(other, d->other), d->work, d->sum);
    QT_FOR_CHUNKS(b, e, M * N, QT_GRAIN) add_scaled(y + b, d->sum + b, s, e - b);
}

void qt_gradq_linear(const qt_node *nd, qt_gradq_plan *p, R *dx, R *dw)
{
    int64_t N = nd->in[1]->dim[0], K = nd->in[1]->dim[1], M = nd->in[0]->n / K;
    if (dx) add_product(&p->dx, nd->out->grad, false, nd->in[1]->codes, M, K, N, dx);
    if (dw) add_product(&p->dw, nd->out->grad, true, nd->in[0]->codes, N, K, M, dw);
}
