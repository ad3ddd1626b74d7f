/* A learned scale for each number of an image, of rank one: what XNOR-Net++ multiplies the results of a binary convolution with.
 *
 *     y[n,c,i,j] = x[n,c,i,j] G[c,i,j],    G = o[c] h[i] v[j]      (h and v missing: o[c] alone, for rows [N,C] too)
 *
 * C + H + W numbers instead of C H W. With P[c,i,j] = sum_n dy x:
 *     dx = dy G,    do[c] = sum_{i,j} P h[i] v[j],    dh[i] = sum_{c,j} P o[c] v[j],    dv[j] = sum_{c,i} P o[c] h[i]
 * Bulat and Tzimiropoulos 2019, "XNOR-Net++" (arXiv 1909.13863), eq. 7 (case 4). */
#include "ops/inner.h"

typedef struct maps {
    int64_t C, H, W, n; /* n = C H W */
    R      *G, *P;
} maps;

static bool fits(const qt_tensor *s, int64_t n) { return !s || (s->rank == 1 && s->n == n); }

static qt_err shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *o = nd->in[1], *h = nd->in[2], *v = nd->in[3];
    const bool       image = x->rank == 4;
    char             s[96];
    maps            *m;
    QT_TRY(qt_node_save(nd, sizeof *m));
    m = nd->saved;
    *m = (maps){image ? x->dim[1] : x->dim[x->rank - 1], image ? x->dim[2] : 1, image ? x->dim[3] : 1};
    m->n = m->C * m->H * m->W;
    if (!fits(o, m->C) || !fits(h, m->H) || !fits(v, m->W))
        return qt_node_fail(nd, "x %s wants scales [%lld], [%lld] and [%lld]", qt_shape_str(x, s), (long long)m->C, (long long)m->H, (long long)m->W);
    m->G = qt_tape_alloc(nd->tape, 2 * (size_t)m->n * sizeof(R));
    if (!m->G) return QT_EMEM;
    m->P = m->G + m->n;
    nd->own = m->n * (int64_t)sizeof(R);
    return qt_node_out_like(nd, x);
}

static R at(const qt_tensor *s, int64_t i) { return s ? s->data[i] : 1; }

QT_CLONES static void times(R *restrict y, const R *restrict x, const R *restrict G, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * G[i];
}

static void forward(qt_node *nd)
{
    const maps *m = nd->saved;
    R          *G = m->G;
    for (int64_t c = 0; c < m->C; c++)
        for (int64_t i = 0; i < m->H; i++)
            for (int64_t j = 0; j < m->W; j++) *G++ = at(nd->in[1], c) * at(nd->in[2], i) * at(nd->in[3], j);
    QT_FOR_EACH(k, nd->out->n / m->n, nd->out->n > QT_GRAIN) times(nd->out->data + k * m->n, nd->in[0]->data + k * m->n, m->G, m->n);
}

QT_CLONES static void add_times(R *restrict dx, const R *restrict dy, const R *restrict G, int64_t n, bool first)
{
    for (int64_t i = 0; i < n; i++) dx[i] = first ? dy[i] * G[i] : dx[i] + dy[i] * G[i];
}

/* P within [b, e), over all images. */
QT_CLONES static void sum_products(R *restrict P, const R *restrict dy, const R *restrict x, int64_t images, int64_t n, int64_t b, int64_t e)
{
    for (int64_t i = b; i < e; i++) P[i] = dy[i] * x[i];
    for (int64_t k = 1; k < images; k++)
        for (int64_t i = b; i < e; i++) P[i] += dy[k * n + i] * x[k * n + i];
}

/* ds[k] += the sum of P times the other two scales over all places of which `axis` is k. */
static void backward_scale(const qt_node *nd, int axis)
{
    const maps   *m = nd->saved;
    const int64_t size[3] = {m->C, m->H, m->W};
    qt_tensor    *s = nd->in[1 + axis];
    if (!s) return;
    qt_grad_clear(s);
    for (int64_t k = 0; s->grad && k < size[axis]; k++) {
        double  sum = 0;
        int64_t b[3] = {0, 0, 0}, e[3] = {m->C, m->H, m->W};
        b[axis] = k, e[axis] = k + 1;
        for (int64_t c = b[0]; c < e[0]; c++)
            for (int64_t i = b[1]; i < e[1]; i++)
                for (int64_t j = b[2]; j < e[2]; j++)
                    sum += (double)(m->P[(c * m->H + i) * m->W + j] * (axis != 0 ? at(nd->in[1], c) : 1) * (axis != 1 ? at(nd->in[2], i) : 1) *
                                    (axis != 2 ? at(nd->in[3], j) : 1));
        s->grad[k] += (R)sum;
    }
}

static void backward(const qt_node *nd)
{
    const maps *m = nd->saved;
    const R    *dy = nd->out->grad, *x = nd->in[0]->data;
    R          *dx = nd->in[0]->grad;
    QT_FOR_CHUNKS(b, e, m->n, QT_GRAIN / 64) sum_products(m->P, dy, x, nd->out->n / m->n, m->n, b, e);
    for (int axis = 0; axis < 3; axis++) backward_scale(nd, axis);
    const bool first = qt_grad_first(nd->in[0]);
    if (!dx) return;
    QT_FOR_EACH(k, nd->out->n / m->n, nd->out->n > QT_GRAIN) add_times(dx + k * m->n, dy + k * m->n, m->G, m->n, first);
}

static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS_NEARLY(1) | QT_READS(14); }

qt_tensor *qt_output_scale(qt_tape *t, qt_tensor *x, qt_tensor *o, qt_tensor *h, qt_tensor *v)
{
    return QT_EMIT(t, &qt_op_output_scale, NULL, 0, x, o, h, v);
}

static qt_tensor *build(qt_tape *t, qt_tensor **in) { return qt_output_scale(t, in[0], in[1], in[2], in[3]); }
static qt_tensor *build_channels(qt_tape *t, qt_tensor **in) { return qt_output_scale(t, in[0], in[1], NULL, NULL); }
static const qt_case cases[] = {{"images", build, {{{2, 3, 4, 5}, 'n'}, {{3}, 'n'}, {{4}, 'n'}, {{5}, 'n'}}},
                                {"channels of images", build_channels, {{{2, 3, 4, 2}, 'n'}, {{3}, 'n'}}},
                                {"rows", build_channels, {{{5, 7}, 'n'}, {{7}, 'n'}}},
                                {NULL}};

const qt_op qt_op_output_scale = {
    .d = {"output_scale", "a learned scale for each channel, row and column", "arXiv 1909.13863, eq. 7"},
    .kind = QT_EXACT, .shape = shape, .forward = forward, .backward = backward, .stores = true, .reads = reads, .cases = cases};
