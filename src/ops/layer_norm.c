/* Layer normalization over the last axis, D numbers a row:
 *
 *     y = w h + b,   h = (x - m) r,   m = mean(x),   r = 1/sqrt(mean((x - m)^2) + eps)          w, b [D] or NULL
 *
 * m and r depend on the whole row, so with g = dy w
 *     dx = r (g - mean(g) - h mean(g h)),    dw = sum over rows dy h,    db = sum over rows dy.
 *
 * Ba, Kiros, Hinton, "Layer normalization", 2016, section 3. Left out: normalizing over several axes (reshape does it). */
#include "ops/inner.h"

typedef struct stats {
    R mean, root;
} stats; /* of a row */
enum { STRIP = 64, RUN = 64 };

static qt_err shape(qt_node *nd)
{
    static const char *const name[] = {"x", "weight", "bias"};
    const qt_tensor         *x = nd->in[0];
    const int64_t            D = x->dim[x->rank - 1];
    char                     s[96], u[96];
    for (int i = 1; i < 3; i++)
        if (nd->in[i] && nd->in[i]->n != D)
            return qt_node_fail(nd, "%s is %s, but the rows of x %s have %lld numbers", name[i], qt_shape_str(nd->in[i], s),
                                qt_shape_str(x, u), (long long)D);
    QT_TRY(qt_node_save(nd, (size_t)(x->n / D) * sizeof(stats)));
    nd->own = x->n / D * (int64_t)sizeof(stats);
    return qt_node_out_like(nd, x);
}

QT_CLONES static void row_forward(R *restrict y, const R *restrict x, const R *w, const R *b, int64_t D, double eps, stats *st)
{
    double sum = 0, sq = 0;
    QT_SUM(sum, j, D, x[j]);
    const R m = (R)(sum / (double)D);
    QT_SUM(sq, j, D, (x[j] - m) * (x[j] - m));
    const R r = (R)(1 / sqrt(sq / (double)D + eps));
    if (w && b)
        for (int64_t j = 0; j < D; j++) y[j] = (x[j] - m) * r * w[j] + b[j];
    else
        for (int64_t j = 0; j < D; j++) y[j] = (x[j] - m) * r * (w ? w[j] : 1) + (b ? b[j] : 0);
    *st = (stats){m, r};
}

static void forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const R         *w = nd->in[1] ? nd->in[1]->data : NULL, *b = nd->in[2] ? nd->in[2]->data : NULL;
    const double     eps = *(double *)nd->arg;
    const int64_t    D = x->dim[x->rank - 1], rows = x->n / D, grain = qt_row_grain(D);
    QT_FOR_CHUNKS(r, e, rows, grain)
    for (int64_t i = r; i < e; i++) row_forward(nd->out->data + i * D, x->data + i * D, w, b, D, eps, (stats *)nd->saved + i);
}

QT_CLONES static void row_backward(R *restrict dx, const R *restrict dy, const R *restrict x, const R *w, int64_t D, stats st, bool first)
{
    double  sum = 0, dot = 0;
    const R m = st.mean, r = st.root;
    if (w) {
        QT_SUM(sum, j, D, dy[j] * w[j]);
        QT_SUM(dot, j, D, dy[j] * w[j] * ((x[j] - m) * r));
    } else {
        QT_SUM(sum, j, D, dy[j]);
        QT_SUM(dot, j, D, dy[j] * ((x[j] - m) * r));
    }
    const R p = (R)(sum / (double)D), q = (R)(dot / (double)D);
    if (w && first)
        for (int64_t j = 0; j < D; j++) dx[j] = r * (dy[j] * w[j] - p - (x[j] - m) * r * q);
    else if (w)
        for (int64_t j = 0; j < D; j++) dx[j] += r * (dy[j] * w[j] - p - (x[j] - m) * r * q);
    else if (first)
        for (int64_t j = 0; j < D; j++) dx[j] = r * (dy[j] - p - (x[j] - m) * r * q);
    else
        for (int64_t j = 0; j < D; j++) dx[j] += r * (dy[j] - p - (x[j] - m) * r * q);
}

/* dw and db of `width` columns: RUN rows at a time in R, those sums in double. */
QT_CLONES static void strip_backward(R *dw, R *db, const R *dy, const R *x, const stats *st, int64_t rows, int64_t D, int width)
{
    double w[STRIP] = {0}, b[STRIP] = {0};
    for (int64_t run = 0; run < rows; run += RUN) {
        R u[STRIP] = {0}, v[STRIP] = {0};
        for (int64_t i = run; i < qt_min_i64(rows, run + RUN); i++)
            for (int c = 0; c < width; c++) {
                u[c] += dy[i * D + c] * ((x[i * D + c] - st[i].mean) * st[i].root);
                v[c] += dy[i * D + c];
            }
        for (int c = 0; c < width; c++) w[c] += (double)u[c], b[c] += (double)v[c];
    }
    for (int c = 0; dw && c < width; c++) dw[c] += (R)w[c];
    for (int c = 0; db && c < width; c++) db[c] += (R)b[c];
}

static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS_NEARLY(1) | QT_READS(2); }

static void backward(const qt_node *nd)
{
    qt_tensor    *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const stats  *st = nd->saved;
    const R      *dy = nd->out->grad;
    R            *dw = w ? w->grad : NULL, *db = b ? b->grad : NULL;
    const int64_t D = x->dim[x->rank - 1], rows = x->n / D, grain = qt_row_grain(D);
    qt_grad_clear(w), qt_grad_clear(b);
    if (dw || db) {
        QT_FOR_EACH(k, QT_CHUNKS(D, STRIP), x->n > QT_GRAIN)
        {
            const int64_t c = k * STRIP;
            strip_backward(dw ? dw + c : NULL, db ? db + c : NULL, dy + c, x->data + c, st, rows, D, (int)qt_min_i64(STRIP, D - c));
        }
    }
    const bool first = qt_grad_first(x);
    if (!x->grad) return;
    QT_FOR_CHUNKS(r, e, rows, grain)
    for (int64_t i = r; i < e; i++) row_backward(x->grad + i * D, dy + i * D, x->data + i * D, w ? w->data : NULL, D, st[i], first);
}

qt_tensor *qt_layer_norm(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, double eps)
{
    return QT_EMIT(t, &qt_op_layer_norm, &eps, sizeof eps, x, w, b);
}

static qt_tensor *build(qt_tape *t, qt_tensor **in) { return qt_layer_norm(t, in[0], in[1], in[2], 1e-5); }
static qt_tensor *build_plain(qt_tape *t, qt_tensor **in) { return qt_layer_norm(t, in[0], NULL, NULL, 1e-5); }
static qt_tensor *build_no_weight(qt_tape *t, qt_tensor **in) { return qt_layer_norm(t, in[0], NULL, in[1], 1e-3); }
static qt_tensor *build_aliased(qt_tape *t, qt_tensor **in) { return qt_layer_norm(t, in[0], in[0], in[0], 1e-1); }
static const qt_case cases[] = {{"rows", build, {{{4, 7}, 'n'}, {{7}, 'n'}, {{7}, 'n'}}},
                                {"vector", build, {{{19}, 'n'}, {{19}, 'n'}, {{19}, 'n'}}},
                                {"rank 3, many columns", build, {{{2, 2, 70}, 'n'}, {{70}, 'n'}, {{70}, 'n'}}},
                                {"no weight, no bias", build_plain, {{{3, 6}, 'n'}}},
                                {"no weight", build_no_weight, {{{3, 6}, 'n'}, {{6}, 'n'}}},
                                {"x is weight and bias", build_aliased, {{{5}, 'n'}}},
                                {"rows of one number", build, {{{3, 1}, 'n'}, {{1}, 'n'}, {{1}, 'n'}}},
                                {NULL}};
const qt_op qt_op_layer_norm = {
    .d = {"layer_norm", "normalization of each row of the last axis by mean and variance", .source = "Ba, Kiros, Hinton, 2016, section 3"},
    .kind = QT_EXACT, .shape = shape, .forward = forward, .backward = backward, .stores = true, .reads = reads, .cases = cases};
