/* Pooling over windows of kernel x kernel, x [N,C,H,W] -> [N,C,OH,OW], OH = floor((H + 2 padding - kernel) / stride) + 1.
 *
 * max_pool2d: the largest of the window; padding counts as -infinity, of equal values the first in scan order wins. The gradient of a
 *     maximum goes to the element that won: dx[winner] += dy.
 * avg_pool2d: the mean of the window; padding counts as zeros and in the divisor, so y = sum / kernel^2 and dx += dy / kernel^2.
 * global_avg_pool: the mean of each plane, x [N,C,H,W] -> [N,C]; dx += dy / (H W).
 * Left out: windows and strides that differ between the axes, ceil mode, and averages that leave padding out of the divisor. */
#include "base/par.h"
#include "ops/ops.h"

typedef struct settings {
    int kernel, stride, padding;
} settings;

typedef struct window {
    int64_t h, hend, w, wend; /* inside the image */
} window;

static R *grad_of(const qt_tensor *x) { return qt_wants_grad(x) ? x->grad : NULL; }

static window window_of(const settings *s, const qt_tensor *x, int64_t oh, int64_t ow)
{
    int64_t h = oh * s->stride - s->padding, w = ow * s->stride - s->padding;
    return (window){qt_max_i64(0, h), qt_min_i64(x->dim[2], h + s->kernel), qt_max_i64(0, w), qt_min_i64(x->dim[3], w + s->kernel)};
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

/* ---- max_pool2d: saved holds the winner of each window, as its place in the plane ---- */

qt_tensor *qt_max_pool2d(qt_tape *t, qt_tensor *x, int kernel, int stride, int padding)
{
    settings s = {kernel, stride, padding};
    return QT_EMIT(t, &qt_op_max_pool2d, &s, sizeof s, x);
}

/* NaN wins: it must not vanish here */
static bool wins(R v, R best) { return v > best || v != v; }

static qt_err max_shape(qt_node *nd)
{
    QT_TRY(pooled(nd));
    return qt_node_save(nd, (size_t)nd->out->n * sizeof(int32_t));
}

static void max_forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *y = nd->out;
    int64_t          P = x->dim[2] * x->dim[3], Q = y->dim[2] * y->dim[3];
    FOR_PLANES(c, x)
    {
        const R *plane = x->data + c * P;
        for (int64_t q = 0; q < Q; q++) {
            window  v = window_of(nd->arg, x, q / y->dim[3], q % y->dim[3]);
            int64_t best = v.h * x->dim[3] + v.w;
            for (int64_t h = v.h; h < v.hend; h++)
                for (int64_t w = v.w; w < v.wend; w++)
                    if (wins(plane[h * x->dim[3] + w], plane[best])) best = h * x->dim[3] + w;
            y->data[c * Q + q] = plane[best];
            ((int32_t *)nd->saved)[c * Q + q] = (int32_t)best;
        }
    }
}

static void max_backward(const qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *y = nd->out;
    int64_t          P = x->dim[2] * x->dim[3], Q = y->dim[2] * y->dim[3];
    R               *dx = grad_of(x);
    if (!dx) return;
    FOR_PLANES(c, x)
    for (int64_t q = c * Q; q < (c + 1) * Q; q++) dx[c * P + ((const int32_t *)nd->saved)[q]] += y->grad[q];
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
    int64_t          P = x->dim[2] * x->dim[3], Q = y->dim[2] * y->dim[3];
    FOR_PLANES(c, x)
    for (int64_t q = 0; q < Q; q++) {
        window v = window_of(s, x, q / y->dim[3], q % y->dim[3]);
        R      sum = 0;
        for (int64_t h = v.h; h < v.hend; h++)
            for (int64_t w = v.w; w < v.wend; w++) sum += x->data[c * P + h * x->dim[3] + w];
        y->data[c * Q + q] = sum / (R)(s->kernel * s->kernel);
    }
}

static void avg_backward(const qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *y = nd->out;
    const settings  *s = nd->arg;
    int64_t          P = x->dim[2] * x->dim[3], Q = y->dim[2] * y->dim[3];
    R               *dx = grad_of(x);
    if (!dx) return;
    FOR_PLANES(c, x)
    for (int64_t q = 0; q < Q; q++) {
        window v = window_of(s, x, q / y->dim[3], q % y->dim[3]);
        R      g = y->grad[c * Q + q] / (R)(s->kernel * s->kernel);
        for (int64_t h = v.h; h < v.hend; h++)
            for (int64_t w = v.w; w < v.wend; w++) dx[c * P + h * x->dim[3] + w] += g;
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
    if (!dx) return;
    FOR_PLANES(c, x)
    {
        R g = nd->out->grad[c] / (R)P;
        for (int64_t p = c * P; p < (c + 1) * P; p++) dx[p] += g;
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
static const qt_case global_cases[] = {{"7x7", whole, {{{2, 3, 7, 7}, 'n'}}}, {"1x1", whole, {{{2, 3, 1, 1}, 'n'}}}, {"3x8", whole, {{{1, 2, 3, 8}, 'n'}}}, {NULL}};

const qt_op qt_op_max_pool2d = {.d = {"max_pool2d", "largest value of each window; padding never wins"},
                                .kind = QT_EXACT,
                                .shape = max_shape,
                                .forward = max_forward,
                                .backward = max_backward,
                                .cases = max_cases};
const qt_op qt_op_avg_pool2d = {.d = {"avg_pool2d", "mean of each window; padding counts as zeros"},
                                .kind = QT_EXACT,
                                .shape = pooled,
                                .forward = avg_forward,
                                .backward = avg_backward,
                                .cases = avg_cases};
const qt_op qt_op_global_avg_pool = {.d = {"global_avg_pool", "mean of each channel's plane: [N,C,H,W] to [N,C]"},
                                     .kind = QT_EXACT,
                                     .shape = global_shape,
                                     .forward = global_forward,
                                     .backward = global_backward,
                                     .cases = global_cases};
