/* Quantized gradients: what linear and conv2d share, and linear. See gradq.h. */
#include "ops/gradq.h"
#include "base/par.h"
#include <string.h>

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

void qt_gradq_codes(qt_gradq_plan *p, const R *dy, bool dx, bool dw, int bias, R s[2])
{
    qt_gradq_side *const side[2] = {&p->dx, &p->dw};
    const bool           want[2] = {dx, dw};
    if (dx && dw) qt_shiftq_both(&p->dx.how, &p->dw.how, dy, (uint8_t *[]){p->dx.e, p->dw.e}, (R *[]){p->dx.s, p->dw.s}, s);
    else if (dx) s[0] = qt_shiftq_scales(&p->dx.how, dy, p->dx.e, p->dx.s);
    else s[1] = qt_shiftq_scales(&p->dw.how, dy, p->dw.e, p->dw.s);
    for (int k = 0; k < 2; k++) {
        qt_gradq_side *d = side[k];
        if (!want[k]) continue;
        qt_shiftq_shifted(&d->how, dy, d->s, d->e, &d->u, qt_gradq_bytes(d), k == 0 ? bias : 0, d->q);
        s[k] /= (R)(1 << (d->how.groups - 1));
    }
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

/* The inner lengths of the products' blocks: a sum of so many cannot overflow. */
static int64_t longest(const qt_gradq_side *d, const qt_icodes *other) { return qt_longest_block(qt_shiftq_top(&d->how), qt_icodes_reach(other)); }

/* Memory of one product op(q) [M,inner] other [inner,K]: the sums, and the other operand where it is rewritten. */
static qt_err product(const qt_node *nd, qt_gradq_side *d, const qt_icodes *other, bool trans, int64_t M, int64_t K, int64_t inner)
{
    int64_t block = qt_min_i64(inner, longest(d, other));
    if (other->zero) d->other = qt_tape_alloc(nd->tape, 2 * (size_t)other->n + QT_CODES_SLACK);
    d->sum = qt_tape_alloc(nd->tape, (size_t)(M * K) * sizeof *d->sum);
    d->work = qt_tape_alloc(nd->tape, qt_igemm_work(M, K, block, gradient(d, trans), operand(other, d->q)));
    if (block < inner) d->total = qt_tape_alloc(nd->tape, (size_t)(M * K) * sizeof *d->total);
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
    QT_TRY(product(nd, &p->dx, w, false, M, K, N));
    return product(nd, &p->dw, x, true, N, K, M);
}

QT_CLONES static void add_scaled(R *y, const int32_t *sum, R s, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += (R)sum[i] * s;
}

QT_CLONES static void store_scaled(R *y, const int32_t *sum, R s, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = (R)sum[i] * s;
}

static void add_totals(int64_t *total, const int32_t *sum, int64_t n)
{
    QT_FOR_CHUNKS(b, e, n, QT_GRAIN)
    for (int64_t i = b; i < e; i++) total[i] += sum[i];
}

static qt_ioperand from(qt_ioperand o, int64_t code)
{
    o.q = (const char *)o.q + code * (o.wide ? 2 : 1);
    return o;
}

/* y [M,K] (+)= s op(q) other, in blocks of the inner length whose sums fit 32 bits, added up in 64. */
static void blocks(qt_gradq_side *d, bool trans, const qt_icodes *other, R s, bool first, int64_t M, int64_t K, int64_t inner, int64_t block, R *y)
{
    if (first) memset(y, 0, (size_t)(M * K) * sizeof *y);
    memset(d->total, 0, (size_t)(M * K) * sizeof *d->total);
    for (int64_t k = 0; k < inner; k += block) {
        int64_t     n = qt_min_i64(block, inner - k);
        qt_ioperand a = gradient(d, trans), b = operand(other, d->other);
        a.pitch = trans ? 0 : inner;
        qt_igemm(M, K, n, from(a, trans ? k * M : k), from(b, k * K), d->work, d->sum);
        add_totals(d->total, d->sum, M * K);
    }
    QT_FOR_CHUNKS(b, e, M * K, QT_GRAIN)
    for (int64_t i = b; i < e; i++) y[i] += (R)d->total[i] * s;
}

/* y [M,K] (+)= s op(q) other */
static void multiply_codes(qt_gradq_side *d, bool trans, const qt_icodes *other, R s, bool first, int64_t M, int64_t K, int64_t inner, R *y)
{
    const int64_t block = longest(d, other);
    if (other->count == 1) s *= other->scale[0];
    rewrite(other, d->other);
    if (block < inner) {
        blocks(d, trans, other, s, first, M, K, inner, block, y);
        return;
    }
    qt_igemm(M, K, inner, gradient(d, trans), operand(other, d->other), d->work, d->sum);
    QT_FOR_CHUNKS(b, e, M * K, QT_GRAIN) (first ? store_scaled : add_scaled)(y + b, d->sum + b, s, e - b);
}

void qt_gradq_linear(const qt_node *nd, qt_gradq_plan *p, bool first, R *dx, R *dw)
{
    int64_t N = nd->in[1]->dim[0], K = nd->in[1]->dim[1], M = nd->in[0]->n / K;
    R       s[2];
    qt_gradq_codes(p, nd->out->grad, dx, dw, 0, s);
    if (dx) multiply_codes(&p->dx, false, nd->in[1]->codes, s[0], first, M, K, N, dx);
    if (dw) multiply_codes(&p->dw, true, nd->in[0]->codes, s[1], false, N, K, M, dw);
}
