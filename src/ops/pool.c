/* Pooling over windows of kernel x kernel, x [N,C,H,W] -> [N,C,OH,OW], OH = floor((H + 2 padding - kernel) / stride) + 1.
 *
 * max_pool2d: the largest of the window; padding counts as -infinity, of equal values the first in scan order wins. The gradient of a
 *     maximum goes to the element that won: dx[winner] += dy.
 * avg_pool2d: the mean of the window; padding counts as zeros and in the divisor, so y = sum / kernel^2 and dx += dy / kernel^2.
 * global_avg_pool: the mean of each plane, x [N,C,H,W] -> [N,C]; dx += dy / (H W).
 * Left out: windows and strides that differ between the axes, ceil mode, and averages that leave padding out of the divisor. */
#include "base/par.h"
#include "ops/ops.h"
#include <string.h>

typedef struct settings {
    int kernel, stride, padding;
} settings;

/* The part of a window inside the image along one axis, [begin, end) */
typedef struct range {
    int64_t begin, end;
} range;

static R *grad_of(const qt_tensor *x) { return qt_wants_grad(x) ? x->grad : NULL; }

static range window(const settings *s, int64_t out, int64_t size)
{
    int64_t at = out * s->stride - s->padding;
    return (range){qt_max_i64(0, at), qt_min_i64(size, at + s->kernel)};
}

static qt_err pooled(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const settings  *s = nd->arg;
    char             sx[96];
    if (x->rank != 4) return qt_node_fail(nd, "input %s: wants [N,C,H,W]", qt_shape_str(x, sx));
    if (s->kernel < 1 || s->stride < 1 || s->padding < 0 || 2 * s->padding > s->kernel)
        return qt_node_fail(nd, "kernel %d, stride %d, padding %d: wants kernel and stride >= 1, padding 0 to half the kernel", s->kernel, s->stride,
                            s->padding);
    if (x->dim[2] + 2 * s->padding < s->kernel || x->dim[3] + 2 * s->padding < s->kernel)
        return qt_node_fail(nd, "input %s with padding %d is smaller than the window %d x %d", qt_shape_str(x, sx), s->padding, s->kernel, s->kernel);
    return qt_node_out(nd, 4,
                       (int64_t[]){x->dim[0], x->dim[1], (x->dim[2] + 2 * s->padding - s->kernel) / s->stride + 1,
                                   (x->dim[3] + 2 * s->padding - s->kernel) / s->stride + 1});
}

/* for each plane [H,W] of x, in parallel */
#define FOR_PLANES(c, x) QT_FOR_EACH(c, (x)->dim[0] * (x)->dim[1], (x)->n > QT_GRAIN)

/* Plane c, of P numbers, of the gradient of x; cleared if nothing has been written to it before. */
static R *plane_of(R *dx, int64_t c, int64_t P, bool first) { return first ? memset(dx + c * P, 0, (size_t)P * sizeof *dx) : dx + c * P; }

/* ---- max_pool2d: saved holds the winner of each window, as its place in the plane ---- */

qt_tensor *qt_max_pool2d(qt_tape *t, qt_tensor *x, int kernel, int stride, int padding)
{
    settings s = {kernel, stride, padding};
    return QT_EMIT(t, &qt_op_max_pool2d, &s, sizeof s, x);
}

static qt_err max_shape(qt_node *nd)
{
    QT_TRY(pooled(nd));
    nd->own = nd->out->n * (int64_t)sizeof(int32_t);
    return qt_node_save(nd, (size_t)nd->own);
}

/* NaN wins: it must not vanish here. No branch, for the winner of a window is a coin toss. */
static inline int64_t winner(const R *x, int64_t a, int64_t best) { return ((x[a] > x[best]) | (x[a] != x[a])) ? a : best; }

static void max_plane(const settings *s, const R *x, const int64_t *in, const int64_t *out, R *y, int32_t *won)
{
    for (int64_t oh = 0; oh < out[0]; oh++)
        for (int64_t ow = 0; ow < out[1]; ow++) {
            range   h = window(s, oh, in[0]), v = window(s, ow, in[1]);
            int64_t best = h.begin * in[1] + v.begin;
            for (int64_t r = h.begin; r < h.end; r++)
                for (int64_t c = v.begin; c < v.end; c++) best = winner(x, r * in[1] + c, best);
            *y++ = x[best], *won++ = (int32_t)best;
        }
}

/* The common case: 2 x 2 windows side by side. */
static void max_plane_2x2(const R *x, const int64_t *in, const int64_t *out, R *y, int32_t *won)
{
    for (int64_t oh = 0; oh < out[0]; oh++)
        for (int64_t ow = 0; ow < out[1]; ow++) {
            int64_t a = 2 * oh * in[1] + 2 * ow, best = winner(x, a + in[1] + 1, winner(x, a + in[1], winner(x, a + 1, a)));
            *y++ = x[best], *won++ = (int32_t)best;
        }
}

static void max_forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *y = nd->out;
    const settings  *s = nd->arg;
    int64_t          P = x->dim[2] * x->dim[3], Q = y->dim[2] * y->dim[3];
    int32_t         *won = nd->saved;
    FOR_PLANES(c, x)
    {
        if (s->kernel == 2 && s->stride == 2 && !s->padding) max_plane_2x2(x->data + c * P, x->dim + 2, y->dim + 2, y->data + c * Q, won + c * Q);
        else max_plane(s, x->data + c * P, x->dim + 2, y->dim + 2, y->data + c * Q, won + c * Q);
    }
}

static void max_backward(const qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *y = nd->out;
    int64_t          P = x->dim[2] * x->dim[3], Q = y->dim[2] * y->dim[3];
    R               *dx = grad_of(x);
    const bool       first = qt_grad_first(nd->in[0]);
    if (!dx) return;
    FOR_PLANES(c, x)
    {
        R *plane = plane_of(dx, c, P, first);
        for (int64_t q = c * Q; q < (c + 1) * Q; q++) plane[((const int32_t *)nd->saved)[q]] += y->grad[q];
    }
}

/* ---- avg_pool2d ---- */

qt_tensor *qt_avg_pool2d(qt_tape *t, qt_tensor *x, int kernel, int stride, int padding)
{
    settings s = {kernel, stride, padding};
    return QT_EMIT(t, &qt_op_avg_pool2d, &s, sizeof s, x);
}

static void avg_forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *y = nd->out;
    const settings  *s = nd->arg;
    int64_t          P = x->dim[2] * x->dim[3], Q = y->dim[2] * y->dim[3], W = x->dim[3], OW = y->dim[3];
    FOR_PLANES(c, x)
    for (int64_t oh = 0; oh < y->dim[2]; oh++)
        for (int64_t ow = 0; ow < OW; ow++) {
            range h = window(s, oh, x->dim[2]), v = window(s, ow, W);
            R     sum = 0;
            for (int64_t r = h.begin; r < h.end; r++)
                for (int64_t k = v.begin; k < v.end; k++) sum += x->data[c * P + r * W + k];
            y->data[c * Q + oh * OW + ow] = sum / (R)(s->kernel * s->kernel);
        }
}

static void avg_backward(const qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *y = nd->out;
    const settings  *s = nd->arg;
    int64_t          P = x->dim[2] * x->dim[3], Q = y->dim[2] * y->dim[3], W = x->dim[3], OW = y->dim[3];
    R               *dx = grad_of(x);
    const bool       first = qt_grad_first(nd->in[0]);
    if (!dx) return;
    FOR_PLANES(c, x)
    {
        R *plane = plane_of(dx, c, P, first);
        for (int64_t oh = 0; oh < y->dim[2]; oh++)
            for (int64_t ow = 0; ow < OW; ow++) {
                range h = window(s, oh, x->dim[2]), v = window(s, ow, W);
                R     g = y->grad[c * Q + oh * OW + ow] / (R)(s->kernel * s->kernel);
                for (int64_t r = h.begin; r < h.end; r++)
                    for (int64_t k = v.begin; k < v.end; k++) plane[r * W + k] += g;
            }
    }
}

/* ---- global_avg_pool ---- */

qt_tensor *qt_global_avg_pool(qt_tape *t, qt_tensor *x) { return QT_EMIT(t, &qt_op_global_avg_pool, NULL, 0, x); }

static qt_err global_shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    char             sx[96];
    if (x->rank != 4) return qt_node_fail(nd, "input %s: wants [N,C,H,W]", qt_shape_str(x, sx));
    return qt_node_out(nd, 2, x->dim);
}

/* mean in 8 lanes, so that it vectorises without changing its bits */
QT_CLONES static R mean(const R *x, int64_t n)
{
    R       lane[8] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += x[i + l];
    for (int l = 0; l < 8; l++) sum += lane[l];
    for (; i < n; i++) sum += x[i];
    return sum / (R)n;
}

static void global_forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    int64_t          P = x->dim[2] * x->dim[3];
    FOR_PLANES(c, x) nd->out->data[c] = mean(x->data + c * P, P);
}

static void global_backward(const qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    int64_t          P = x->dim[2] * x->dim[3];
    R               *dx = grad_of(x);
    const bool       first = qt_grad_first(nd->in[0]);
    if (!dx) return;
    FOR_PLANES(c, x)
    {
        R *plane = plane_of(dx, c, P, first), g = nd->out->grad[c] / (R)P;
        for (int64_t p = 0; p < P; p++) plane[p] += g;
    }
}

/* ---- descriptors ---- */

static qt_tensor *max2(qt_tape *t, qt_tensor **in) { return qt_max_pool2d(t, in[0], 2, 2, 0); }
static qt_tensor *max3(qt_tape *t, qt_tensor **in) { return qt_max_pool2d(t, in[0], 3, 2, 1); }
static qt_tensor *max3_dense(qt_tape *t, qt_tensor **in) { return qt_max_pool2d(t, in[0], 3, 1, 0); }
static qt_tensor *avg2(qt_tape *t, qt_tensor **in) { return qt_avg_pool2d(t, in[0], 2, 2, 0); }
static qt_tensor *avg3(qt_tape *t, qt_tensor **in) { return qt_avg_pool2d(t, in[0], 3, 2, 1); }
static qt_tensor *avg3_dense(qt_tape *t, qt_tensor **in) { return qt_avg_pool2d(t, in[0], 3, 1, 1); }

static const qt_case max_cases[] = {{"2x2", max2, {{{2, 3, 4, 6}, 'd'}}},
                                    {"2x2, odd size", max2, {{{1, 2, 5, 7}, 'd'}}},
                                    {"3x3, stride 2, padded", max3, {{{2, 2, 5, 6}, 'd'}}},
                                    {"3x3, overlapping", max3_dense, {{{1, 2, 4, 5}, 'd'}}},
                                    {NULL}};
static const qt_case avg_cases[] = {{"2x2", avg2, {{{2, 3, 4, 6}, 'n'}}},
                                    {"2x2, odd size", avg2, {{{1, 2, 5, 7}, 'n'}}},
                                    {"3x3, stride 2, padded", avg3, {{{2, 2, 5, 6}, 'n'}}},
                                    {"3x3, overlapping, padded", avg3_dense, {{{1, 2, 4, 5}, 'n'}}},
                                    {NULL}};
static qt_tensor   *whole(qt_tape *t, qt_tensor **in) { return qt_global_avg_pool(t, in[0]); }
static const qt_case global_cases[] = {{"7x7", whole, {{{2, 3, 7, 7}, 'n'}}},
                                       {"1x1", whole, {{{2, 3, 1, 1}, 'n'}}},
                                       {"3x8", whole, {{{1, 2, 3, 8}, 'n'}}},
                                       {NULL}};

const qt_op qt_op_max_pool2d = {.d = {"max_pool2d", "largest value of each window; padding never wins"},
                                .kind = QT_EXACT,
                                .shape = max_shape,
                                .forward = max_forward,
                                .backward = max_backward, .reads = qt_reads_nothing,
                                .stores = true,
                                .cases = max_cases};
const qt_op qt_op_avg_pool2d = {.d = {"avg_pool2d", "mean of each window; padding counts as zeros"},
                                .kind = QT_EXACT,
                                .shape = pooled,
                                .forward = avg_forward,
                                .backward = avg_backward, .reads = qt_reads_nothing,
                                .stores = true,
                                .cases = avg_cases};
const qt_op qt_op_global_avg_pool = {.d = {"global_avg_pool", "mean of each channel's plane: [N,C,H,W] to [N,C]"},
                                     .kind = QT_EXACT,
                                     .shape = global_shape,
                                     .forward = global_forward,
                                     .backward = global_backward, .reads = qt_reads_nothing,
                                     .stores = true,
                                     .cases = global_cases};
