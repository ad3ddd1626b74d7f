/* Circular padding of images: x [N,C,H,W] -> y [N,C,H+2p,W+2p], on which both axes go round,
 *
 *     y[.,.,i,j] = x[.,.,(i - p) mod H, (j - p) mod W],      dx = the sum of dy over all places that show the same pixel.
 *
 * p may be larger than the image. A convolution with circular padding is one without padding behind this. The codes of a quantized image go along, so
 * that such a convolution computes in integers where others do; scales must be for all numbers or for whole samples. */
#include "ops/inner.h"
#include <string.h>

typedef struct settings {
    int padding;
} settings;

typedef struct plan {
    int64_t planes, H, W, p;
} plan;

qt_tensor *qt_wrap(qt_tape *t, qt_tensor *x, int padding) { return QT_EMIT(t, &qt_op_wrap, &(settings){padding}, sizeof(settings), x); }

/* Memory for the codes of the result, none where a scale belongs to less than a sample. */
static qt_err attach_codes(qt_node *nd)
{
    const qt_icodes *x = nd->in[0]->codes;
    int64_t          sample = nd->in[0]->n / nd->in[0]->dim[0], wide = nd->out->n / nd->out->dim[0];
    if (!x || !x->q || (x->count > 1 && x->inner % sample)) return QT_OK;
    qt_icodes *y = qt_tape_alloc(nd->tape, sizeof *y);
    if (!y) return QT_EMEM;
    *y = *x;
    y->n = nd->out->n, y->inner = x->count > 1 ? x->inner / sample * wide : y->n;
    if (!(y->q = qt_tape_alloc(nd->tape, (size_t)y->n + QT_CODES_SLACK))) return QT_EMEM;
    nd->out->codes = y;
    return QT_OK;
}

static qt_err shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    int64_t          p = ((const settings *)nd->arg)->padding;
    char             s[96];
    if (x->rank != 4 || p < 0) return qt_node_fail(nd, "input %s, padding %d: wants [N,C,H,W], and padding >= 0", qt_shape_str(x, s), (int)p);
    QT_TRY(qt_node_out(nd, 4, (int64_t[]){x->dim[0], x->dim[1], x->dim[2] + 2 * p, x->dim[3] + 2 * p}));
    QT_TRY(qt_node_save(nd, sizeof(plan)));
    *(plan *)nd->saved = (plan){x->dim[0] * x->dim[1], x->dim[2], x->dim[3], p};
    return attach_codes(nd);
}

static inline int64_t around(int64_t i, int64_t n) { return i < 0 ? n - 1 - (-1 - i) % n : i % n; }

/* A row of n elements of `size` bytes, and p more at each end. */
static void wrap_row(char *y, const char *x, int64_t n, int64_t p, size_t size)
{
    for (int64_t j = 0; j < p; j++) memcpy(y + (size_t)j * size, x + (size_t)around(j - p, n) * size, size);
    memcpy(y + (size_t)p * size, x, (size_t)n * size);
    for (int64_t j = 0; j < p; j++) memcpy(y + (size_t)(p + n + j) * size, x + (size_t)around(j, n) * size, size);
}

static void wrap(const plan *g, void *y, const void *x, size_t size)
{
    int64_t H = g->H, W = g->W, p = g->p, rows = H + 2 * p, row = W + 2 * p;
    QT_FOR_EACH (k, g->planes, g->planes * rows * row > QT_GRAIN)
        for (int64_t i = 0; i < rows; i++) {
            const char *from = (const char *)x + (size_t)((k * H + around(i - p, H)) * W) * size;
            wrap_row((char *)y + (size_t)((k * rows + i) * row) * size, from, W, p, size);
        }
}

static void forward(qt_node *nd)
{
    const qt_icodes *codes = nd->out->codes;
    wrap(nd->saved, nd->out->data, nd->in[0]->data, sizeof(R));
    if (codes) wrap(nd->saved, codes->q, nd->in[0]->codes->q, 1);
}

QT_CLONES static void add_up(R *restrict x, const R *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] += y[i];
}

static void unwrap_row(R *dx, const R *dy, int64_t n, int64_t p)
{
    for (int64_t j = 0; j < p; j++) dx[around(j - p, n)] += dy[j];
    add_up(dx, dy + p, n);
    for (int64_t j = 0; j < p; j++) dx[around(j, n)] += dy[p + n + j];
}

static void backward(const qt_node *nd)
{
    const plan *g = nd->saved;
    int64_t     H = g->H, W = g->W, p = g->p, rows = H + 2 * p, row = W + 2 * p;
    R          *dx = nd->in[0]->grad;
    const R    *dy = nd->out->grad;
    if (!dx) return;
    QT_FOR_EACH (k, g->planes, nd->out->n > QT_GRAIN)
        for (int64_t i = 0; i < rows; i++) unwrap_row(dx + (k * H + around(i - p, H)) * W, dy + (k * rows + i) * row, W, p);
}

static qt_tensor    *one(qt_tape *t, qt_tensor **in) { return qt_wrap(t, in[0], 1); }
static qt_tensor    *two(qt_tape *t, qt_tensor **in) { return qt_wrap(t, in[0], 2); }
static qt_tensor    *far(qt_tape *t, qt_tensor **in) { return qt_wrap(t, in[0], 5); }
static qt_tensor    *none(qt_tape *t, qt_tensor **in) { return qt_wrap(t, in[0], 0); }
static qt_tensor    *convolved(qt_tape *t, qt_tensor **in) { return qt_conv2d(t, qt_wrap(t, in[0], 1), in[1], NULL, 2, 0, 1, 1); }
static const qt_case cases[] = {{"one pixel", one, {{{2, 3, 4, 5}, 'n'}}},
                                {"two pixels", two, {{{1, 2, 3, 2}, 'n'}}},
                                {"several times around", far, {{{1, 2, 2, 3}, 'n'}}},
                                {"no padding", none, {{{2, 1, 3, 3}, 'n'}}},
                                {"and a convolution of stride 2", convolved, {{{2, 2, 4, 6}, 'n'}, {{3, 2, 3, 3}, 'n'}}},
                                {NULL}};

const qt_op qt_op_wrap = {.d = {"wrap", "circular padding of both axes of an image"},
                          .kind = QT_EXACT,
                          .shape = shape,
                          .forward = forward,
                          .backward = backward,
                          .reads = qt_reads_nothing,
                          .cases = cases};
