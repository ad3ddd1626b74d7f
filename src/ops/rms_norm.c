/* RMS normalization over the last axis, D numbers a row, no mean taken off:
 *
 *     y = w h,   h = x r,   r = 1/sqrt(mean(x^2) + eps)          w [D] or NULL
 *
 * dr/dx_j = -r^3 x_j / D, so with g = dy w:   dx = r (g - h mean(g h)),    dw = sum over rows dy h.
 *
 * Zhang, Sennrich, "Root mean square layer normalization", NeurIPS 2019, equation 4, with eps inside the root. Left out: pRMSNorm. */
#include "ops/inner.h"

enum { STRIP = 64, RUN = 64 };

static qt_err shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *w = nd->in[1];
    const int64_t    D = x->dim[x->rank - 1];
    char             s[96], u[96];
    if (w && w->n != D)
        return qt_node_fail(nd, "weight is %s, but the rows of x %s have %lld numbers", qt_shape_str(w, s), qt_shape_str(x, u), (long long)D);
    QT_TRY(qt_node_save(nd, (size_t)(x->n / D) * sizeof(R)));
    nd->own = x->n / D * (int64_t)sizeof(R);
    return qt_node_out_like(nd, x);
}

/* Returns r. */
QT_CLONES static R row_forward(R *restrict y, const R *restrict x, const R *w, int64_t D, double eps)
{
    double sq = 0;
    QT_SUM(sq, j, D, x[j] * x[j]);
    const R r = (R)(1 / sqrt(sq / (double)D + eps));
    if (w)
        for (int64_t j = 0; j < D; j++) y[j] = x[j] * r * w[j];
    else
        for (int64_t j = 0; j < D; j++) y[j] = x[j] * r;
    return r;
}

static void forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const R         *w = nd->in[1] ? nd->in[1]->data : NULL;
    const double     eps = *(double *)nd->arg;
    R               *root = nd->saved;
    const int64_t    D = x->dim[x->rank - 1], rows = x->n / D, grain = qt_row_grain(D);
    QT_FOR_CHUNKS(r, e, rows, grain)
    for (int64_t i = r; i < e; i++) root[i] = row_forward(nd->out->data + i * D, x->data + i * D, w, D, eps);
}

QT_CLONES static void row_backward(R *restrict dx, const R *restrict dy, const R *restrict x, const R *w, int64_t D, R r, bool first)
{
    double dot = 0;
    if (w) QT_SUM(dot, j, D, dy[j] * w[j] * (x[j] * r));
    else QT_SUM(dot, j, D, dy[j] * (x[j] * r));
    const R q = (R)(dot / (double)D);
    if (w && first)
        for (int64_t j = 0; j < D; j++) dx[j] = r * (dy[j] * w[j] - x[j] * r * q);
    else if (w)
        for (int64_t j = 0; j < D; j++) dx[j] += r * (dy[j] * w[j] - x[j] * r * q);
    else if (first)
        for (int64_t j = 0; j < D; j++) dx[j] = r * (dy[j] - x[j] * r * q);
    else
        for (int64_t j = 0; j < D; j++) dx[j] += r * (dy[j] - x[j] * r * q);
}

/* dw of `width` columns: RUN rows at a time in R, those sums in double. */
QT_CLONES static void strip_backward(R *dw, const R *dy, const R *x, const R *root, int64_t rows, int64_t D, int width)
{
    double sum[STRIP] = {0};
    for (int64_t run = 0; run < rows; run += RUN) {
        R part[STRIP] = {0};
        for (int64_t i = run; i < qt_min_i64(rows, run + RUN); i++)
            for (int c = 0; c < width; c++) part[c] += dy[i * D + c] * (x[i * D + c] * root[i]);
        for (int c = 0; c < width; c++) sum[c] += (double)part[c];
    }
    for (int c = 0; c < width; c++) dw[c] += (R)sum[c];
}

static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS_NEARLY(1) | QT_READS(2); }

static void backward(const qt_node *nd)
{
    qt_tensor    *x = nd->in[0], *w = nd->in[1];
    const R      *root = nd->saved, *dy = nd->out->grad;
    const int64_t D = x->dim[x->rank - 1], rows = x->n / D, grain = qt_row_grain(D);
    qt_grad_clear(w);
    if (w && w->grad) {
        QT_FOR_EACH(k, QT_CHUNKS(D, STRIP), x->n > QT_GRAIN)
        strip_backward(w->grad + k * STRIP, dy + k * STRIP, x->data + k * STRIP, root, rows, D, (int)qt_min_i64(STRIP, D - k * STRIP));
    }
    const bool first = qt_grad_first(x);
    if (!x->grad) return;
    QT_FOR_CHUNKS(r, e, rows, grain)
    for (int64_t i = r; i < e; i++) row_backward(x->grad + i * D, dy + i * D, x->data + i * D, w ? w->data : NULL, D, root[i], first);
}

qt_tensor *qt_rms_norm(qt_tape *t, qt_tensor *x, qt_tensor *w, double eps) { return QT_EMIT(t, &qt_op_rms_norm, &eps, sizeof eps, x, w); }

static qt_tensor *build(qt_tape *t, qt_tensor **in) { return qt_rms_norm(t, in[0], in[1], 1e-6); }
static qt_tensor *build_plain(qt_tape *t, qt_tensor **in) { return qt_rms_norm(t, in[0], NULL, 1e-2); }
static qt_tensor *build_aliased(qt_tape *t, qt_tensor **in) { return qt_rms_norm(t, in[0], in[0], 1e-1); }
static const qt_case cases[] = {{"rows", build, {{{4, 7}, 'n'}, {{7}, 'n'}}},
                                {"vector", build, {{{19}, 'n'}, {{19}, 'n'}}},
                                {"rank 3, many columns", build, {{{2, 2, 70}, 'n'}, {{70}, 'n'}}},
                                {"no weight", build_plain, {{{3, 6}, 'n'}}},
                                {"x is weight", build_aliased, {{{5}, 'n'}}},
                                {"rows of one number", build, {{{3, 1}, 'k'}, {{1}, 'n'}}},
                                {NULL}};
const qt_op qt_op_rms_norm = {
    .d = {"rms_norm", "normalization of each row of the last axis by its root mean square", .source = "Zhang, Sennrich, NeurIPS 2019, equation 4"},
    .kind = QT_EXACT, .shape = shape, .forward = forward, .backward = backward, .stores = true, .reads = reads, .cases = cases};
