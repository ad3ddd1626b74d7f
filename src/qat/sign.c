/* The sign and its surrogate gradients, see sign.h. The sum of fda is taken by the recurrence of Reinsch, which keeps its digits for small
 * angles u = w x: with c_i = cos((2i+1) u),  e_i = c_i - c_{i-1},  e_{i+1} = e_i - 4 sin(u)^2 c_i  and  e_0 = 0, for cos(-u) = cos(u).
 * |u| <= 0.1, so a few terms of their series give sin(u) and cos(u) to the last digit, and no libm stands in the loop. */
#include "qat/sign.h"
#include "kernels/reduce.h"
#include <string.h>

/* ---- surrogates ---------------------------------------------------------------------------------------------------------------------- */

enum { RUN = 256, LANES = 16 };

/* LANES numbers within [-1, 1]. */
static inline void fda_lanes(R *restrict d, const R *restrict x, int terms)
{
    const R w = (R)0.1, factor = (R)(0.4 / 3.14159265358979323846);
    R       c[LANES], e[LANES], q[LANES], sum[LANES];
    for (int l = 0; l < LANES; l++) {
        const R u = w * x[l], v = u * u, sine = u * (1 - v / 6 * (1 - v / 20 * (1 - v / 42 * (1 - v / 72))));
        q[l] = 4 * sine * sine, e[l] = 0;
        sum[l] = c[l] = 1 - v / 2 * (1 - v / 12 * (1 - v / 30 * (1 - v / 56)));
    }
    for (int i = 1; i < terms; i++)
        for (int l = 0; l < LANES; l++) e[l] -= q[l] * c[l], c[l] += e[l], sum[l] += c[l];
    for (int l = 0; l < LANES; l++) d[l] = factor * sum[l];
}

static inline void fda(R *restrict d, const R *restrict x, int64_t n, int terms)
{
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t some = qt_min_i64(LANES, n - i);
        R             in[LANES] = {0}, out[LANES];
        for (int64_t l = 0; l < some; l++) in[l] = qt_clip(x[i + l], -1, 1);
        fda_lanes(out, in, terms);
        for (int64_t l = 0; l < some; l++) d[i + l] = qt_keep((x[i + l] >= -1) & (x[i + l] <= 1), out[l]);
    }
}

QT_CLONES static void slopes(qt_surrogate kind, int terms, R k, R *restrict d, const R *restrict x, int64_t n)
{
    switch (kind) {
    case QT_STE:
        for (int64_t i = 0; i < n; i++) d[i] = qt_keep((x[i] >= -1) & (x[i] <= 1), 1);
        break;
    case QT_POLY:
        for (int64_t i = 0; i < n; i++) d[i] = qt_clip(2 - 2 * (x[i] < 0 ? -x[i] : x[i]), 0, 2);
        break;
    case QT_FDA: fda(d, x, n, terms); break;
    case QT_IDENTITY:
        for (int64_t i = 0; i < n; i++) d[i] = 1;
        break;
    case QT_TANH:
        for (int64_t i = 0; i < n; i++) {
            const R y = qt_vtanh(k * x[i]);
            d[i] = k * (1 - y * y);
        }
        break;
    }
}

/* Clones are exported whatever is hidden, so they are static. */
void qt_surrogate_slopes(qt_surrogate kind, int terms, R k, R *d, const R *x, int64_t n) { slopes(kind, terms, k, d, x, n); }

/* ---- scales ---------------------------------------------------------------------------------------------------------------------------- */

qt_err qt_sign_unit(const qt_tensor *x, qt_arena *a, qt_sign *s)
{
    s->layout = (qt_layout){x->n, 1};
    if (!(s->scale = qt_arena_alloc(a, sizeof *s->scale))) return QT_EMEM;
    s->scale[0] = 1;
    return QT_OK;
}

/* Run by run, the runs of a scale in order. */
qt_err qt_sign_means(const qt_site *q, qt_granularity g, const qt_ints *axis, const qt_tensor *x, qt_arena *a, qt_sign *s)
{
    QT_TRY(qt_site_layout(q, g, axis, 0, x, &s->layout));
    int64_t inner = s->layout.inner, count = s->layout.count;
    if (!(s->scale = qt_arena_alloc(a, (size_t)count * sizeof(R)))) return QT_EMEM;
    QT_FOR_EACH(k, count, count > 1 && x->n > QT_GRAIN) {
        double sum = 0;
        for (int64_t b = k * inner; b < x->n; b += count * inner) sum += qt_reduce_sum_abs(x->data + b, inner);
        s->scale[k] = (R)(sum / (double)(x->n / count));
    }
    return QT_OK;
}

/* ---- the op ---------------------------------------------------------------------------------------------------------------------------- */

static inline R sign(R x) { return 1 - qt_keep(x < 0, 2); }

/* A NaN stays one, for it has no sign. True if there is one. */
QT_CLONES static bool signs(R *restrict y, const R *restrict x, int64_t n, R s)
{
    qt_real_bits nan = 0; /* as wide as R, so that it counts in the lanes of R */
    for (int64_t i = 0; i < n; i++) {
        const qt_real_bits none = -(qt_real_bits)(x[i] != x[i]); /* all ones are a NaN */
        const R            v = qt_value(sign(x[i]), s, 0);
        qt_real_bits       b;
        memcpy(&b, &v, sizeof b);
        b |= none, nan |= none;
        memcpy(&y[i], &b, sizeof b);
    }
    return nan != 0;
}

QT_CLONES static void signs_to_bytes(uint8_t *restrict q, const R *restrict x, int64_t n, int base)
{
    for (int64_t i = 0; i < n; i++) q[i] = (uint8_t)(qt_bits_of_code(sign(x[i])) - (qt_real_bits)base);
}

QT_CLONES static void smooth_signs(R *restrict y, const R *restrict x, int64_t n, R s, R k)
{
    for (int64_t i = 0; i < n; i++) y[i] = s * qt_vtanh(k * x[i]);
}

/* Nothing to compute in backward. */
static bool passes(const qt_sign *s) { return s->surrogate == QT_IDENTITY && s->plain; }

static qt_err shape(qt_node *nd)
{
    qt_sign *s = nd->arg;
    QT_TRY(qt_node_out_like(nd, nd->in[0]));
    if (passes(s)) qt_pass_shape(nd);
    return s->smooth > 0 ? QT_OK : qt_bytes_attach_signs(nd, s->role, s->layout, &s->bytes);
}

static void forward(qt_node *nd)
{
    const qt_sign *s = nd->arg;
    const R       *x = nd->in[0]->data;
    R             *y = nd->out->data;
    uint8_t       *q = s->bytes.q;
    qt_cut         c = qt_cut_of(s->layout, nd->out->n);
    if (q) memcpy(s->bytes.scale, s->scale, (size_t)c.count * sizeof(R));
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        if (s->smooth > 0) {
            smooth_signs(y + p.at, x + p.at, p.n, s->scale[p.k], s->smooth);
            continue;
        }
        if (q) signs_to_bytes(q + p.at, x + p.at, p.n, s->bytes.base);
        if (signs(y + p.at, x + p.at, p.n, s->scale[p.k]) && q) qt_bytes_spoil(&s->bytes, p.k);
    }
}

static uint32_t reads(const qt_node *nd) { return ((const qt_sign *)nd->arg)->surrogate == QT_IDENTITY ? 0 : QT_READS(1); }

QT_CLONES static void add_products(R *restrict dx, const R *restrict dy, const R *restrict d, int64_t n, R f, bool first)
{
    if (first)
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * (d[i] * f);
    else
        for (int64_t i = 0; i < n; i++) dx[i] += dy[i] * (d[i] * f);
}

static void backward(const qt_node *nd)
{
    const qt_sign *s = nd->arg;
    const R       *dy = nd->out->grad, *x = nd->in[0]->data ? nd->in[0]->data : dy; /* unread: any */
    R             *dx = nd->in[0]->grad;
    qt_cut         c = qt_cut_of(s->layout, nd->out->n);
    if (passes(s)) qt_pass_backward(nd);
    if (passes(s) || !dx) return;
    const bool first = qt_grad_first(nd->in[0]);
    QT_FOR_EACH(j, c.pieces, c.many) {
        qt_piece p = qt_piece_of(&c, j);
        for (int64_t i = p.at, n; i < p.at + p.n; i += n) {
            R d[RUN];
            n = qt_min_i64(RUN, p.at + p.n - i);
            qt_surrogate_slopes(s->surrogate, s->terms, s->smooth, d, x + i, n);
            add_products(dx + i, dy + i, d, n, s->plain ? 1 : s->scale[p.k], first);
        }
    }
}

qt_tensor *qt_sign_apply(qt_tape *t, const qt_site *q, qt_tensor *x, qt_sign_of sign_of)
{
    qt_sign s = {0};
    if (!t->err) qt_tape_fail(t, sign_of(q, x, &t->arena, &s));
    s.role = q->role;
    if (q->smooth) s.smooth = q->smooth->k, s.surrogate = q->smooth->surrogate, s.terms = q->smooth->terms;
    return QT_EMIT(t, &qt_sign_op, &s, sizeof s, x);
}

qt_err qt_sign_encode(const qt_site *q, qt_sign_of sign_of, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    qt_sign s;
    QT_TRY(sign_of(q, x, a, &s));
    QT_TRY(qt_codes_check(q, x));
    QT_TRY(qt_codes_new(a, x->n, s.layout, s.scale, 1, codes));
    for (int64_t i = 0; i < x->n; i++) codes->code[i] = x->data[i] < 0 ? -1 : 1;
    return QT_OK;
}

double qt_sign_bits(const qt_site *q) { return (void)q, 1; }

static qt_tensor *emit(qt_tape *t, qt_tensor **in, qt_surrogate surrogate, int terms, bool plain)
{
    qt_sign s = {.layout = {8, 6}, .scale = in[1]->data, .surrogate = surrogate, .terms = terms, .plain = plain};
    return QT_EMIT(t, &qt_sign_op, &s, sizeof s, in[0]);
}
static qt_tensor *build_ste(qt_tape *t, qt_tensor **in) { return emit(t, in, QT_STE, 0, true); }
static qt_tensor *build_poly(qt_tape *t, qt_tensor **in) { return emit(t, in, QT_POLY, 0, false); }
static qt_tensor *build_fda(qt_tape *t, qt_tensor **in) { return emit(t, in, QT_FDA, 12, false); }

static const qt_case cases[] = {{"ste", build_ste, {{{6, 8}, 'n'}, {{6}, 'c'}}},
                                {"poly", build_poly, {{{6, 8}, 'n'}, {{6}, 'c'}}},
                                {"fda", build_fda, {{{6, 8}, 'n'}, {{6}, 'c'}}},
                                {0}};

const qt_op qt_sign_op = {.d = {"sign", "two levels, with a surrogate gradient"}, .kind = QT_SURROGATE, .shape = shape, .forward = forward,
                          .backward = backward, .stores = true, .reads = reads, .cases = cases};
