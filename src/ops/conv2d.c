/* Two-dimensional convolution (cross-correlation, as everywhere in deep learning), x [N,C,H,W], w [O,C/groups,KH,KW], b [O] or NULL:
 *     y[n,o,oh,ow] = b[o] + sum_{c,i,j} w[o,c,i,j] x[n, c of o's group, oh*stride + i*dilation - padding, ow*stride + j*dilation - padding]
 * Backward: y is linear in each of x, w and b, so dx is the sum over the outputs that read x of w dy, dw the sum over batch and
 * positions of dy x, db the sum of dy. How they are computed is in kernels/conv.h. Where x and w are quantized the forward is computed on
 * their integers and scaled once (kernels/iconv.h); backward works on the numbers that the integers stand for.
 * Left out: different strides, paddings or dilations for the two axes, and paddings of other than zero. */
#include "kernels/conv.h"
#include "kernels/iconv.h"
#include "kernels/packed.h"
#include "ops/gradq.h"

typedef struct settings {
    int      stride, padding, dilation, groups;
    qt_extra extra;
} settings;

typedef struct plan {
    qt_conv   c;
    R        *work;
    bool      integer, gradq;
    qt_iend   end;
    qt_icodes w; /* of the weight; unpacked, where it is kept packed */
    void     *iwork;
    qt_gradq_plan grad;
} plan;

static R *grad_of(const qt_tensor *x) { return qt_wants_grad(x) ? x->grad : NULL; }

static qt_conv sizes(const settings *s, const qt_tensor *x, const qt_tensor *w)
{
    return (qt_conv){x->dim[0], x->dim[1], x->dim[2], x->dim[3], w->dim[0], w->dim[2], w->dim[3], s->stride, s->padding, s->dilation, s->groups};
}

qt_tensor *qt_conv2d(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, int stride, int padding, int dilation, int groups)
{
    return qt_conv2d_extra(t, x, w, b, stride, padding, dilation, groups, &(qt_extra){0});
}

qt_tensor *qt_conv2d_extra(qt_tape *t, qt_tensor *x, qt_tensor *w, qt_tensor *b, int stride, int padding, int dilation, int groups,
                           const qt_extra *extra)
{
    settings s = {stride, padding, dilation, groups, *extra};
    return QT_EMIT(t, &qt_op_conv2d, &s, sizeof s, x, w, b);
}

bool qt_conv2d_integer(const qt_tensor *x, const qt_tensor *w, int stride, int padding, int dilation, int groups)
{
    settings s = {stride, padding, dilation, groups};
    qt_conv  c;
    if (!x->codes || !w->codes || x->rank != 4 || w->rank != 4) return false;
    c = sizes(&s, x, w);
    return qt_iconv_suits(&c, x->codes, w->codes);
}

static qt_err check(const qt_node *nd, const settings *s, const qt_tensor *x, const qt_tensor *w, const qt_tensor *b)
{
    char sx[96], sw[96];
    qt_shape_str(x, sx), qt_shape_str(w, sw);
    if (s->stride < 1 || s->padding < 0 || s->dilation < 1 || s->groups < 1)
        return qt_node_fail(nd, "stride %d, padding %d, dilation %d, groups %d: wants stride, dilation and groups >= 1, padding >= 0", s->stride,
                            s->padding, s->dilation, s->groups);
    if (x->rank != 4 || w->rank != 4)
        return qt_node_fail(nd, "input %s, weight %s: wants [N,C,H,W] and [out, C/groups, kh, kw]", sx, sw);
    if (x->dim[1] % s->groups || w->dim[0] % s->groups)
        return qt_node_fail(nd, "%d groups do not divide the channels of input %s and weight %s", s->groups, sx, sw);
    if (x->dim[1] / s->groups != w->dim[1])
        return qt_node_fail(nd, "input %s in %d group%s has %lld channels each, weight %s wants %lld", sx, s->groups, s->groups > 1 ? "s" : "",
                            (long long)(x->dim[1] / s->groups), sw, (long long)w->dim[1]);
    if (b && (b->rank != 1 || b->dim[0] != w->dim[0])) {
        qt_shape_str(b, sx);
        return qt_node_fail(nd, "bias %s does not fit weight %s: wants [out]", sx, sw);
    }
    for (int k = 2; k < 4; k++)
        if (x->dim[k] + 2 * s->padding < s->dilation * (w->dim[k] - 1) + 1)
            return qt_node_fail(nd, "input %s with padding %d is smaller than kernel %s with dilation %d", sx, s->padding, sw, s->dilation);
    return QT_OK;
}

/* Work space of the forward in integers. */
static qt_err plan_integers(qt_node *nd, plan *p)
{
    const qt_icodes *x = nd->in[0]->codes, *w = nd->in[1]->codes;
    p->w = *w;
    if (w->packed && !(p->w.q = qt_tape_alloc(nd->tape, (size_t)w->n + QT_CODES_SLACK))) return QT_EMEM;
    p->iwork = qt_tape_alloc(nd->tape, qt_iconv_work(&p->c, x, w));
    return p->iwork ? QT_OK : QT_EMEM;
}

static qt_err shape(qt_node *nd)
{
    const qt_tensor *x = nd->in[0], *w = nd->in[1], *b = nd->in[2];
    const settings  *s = nd->arg;
    plan            *p;
    size_t           work;
    bool             grad = nd->tape->grad && (qt_wants_grad(w) || qt_wants_grad(b));
    QT_TRY(check(nd, s, x, w, b));
    QT_TRY(qt_node_save(nd, sizeof *p));
    p = nd->saved;
    *p = (plan){sizes(s, x, w), .integer = qt_conv2d_integer(x, w, s->stride, s->padding, s->dilation, s->groups), .end = s->extra.end};
    if (!p->integer && !w->data) return qt_node_fail(nd, "the weight is there as integers only, and the input has none that go with them");
    p->end.bias = b ? b->data : NULL;
    work = qt_conv_plan(&p->c, grad);
    if (p->integer) QT_TRY(plan_integers(nd, p));
    p->gradq = s->extra.grad && nd->tape->grad && (qt_wants_grad(x) || qt_wants_grad(w));
    if (p->gradq) QT_TRY(qt_gradq_conv_plan(nd, s->extra.grad, p->integer, &p->c, &p->grad));
    if ((!p->integer || nd->tape->grad) && !(p->work = qt_tape_alloc(nd->tape, work))) return QT_EMEM;
    return qt_node_out(nd, 4, (int64_t[]){p->c.N, p->c.O, p->c.OH, p->c.OW});
}

static void forward(qt_node *nd)
{
    plan            *p = nd->saved;
    const qt_tensor *x = nd->in[0], *w = nd->in[1];
    if (!p->integer) {
        qt_conv_forward(&p->c, x->data, w->data, p->end.bias, p->work, nd->out->data);
        return;
    }
    if (p->w.packed) qt_packed_unpack(p->w.packed, 0, p->w.packed->N, p->w.q);
    qt_iconv(&p->c, x->codes, &p->w, &p->end, p->iwork, nd->out->data);
}

static void naive(qt_node *nd)
{
    const plan *p = nd->saved;
    qt_conv_naive(&p->c, nd->in[0]->data, nd->in[1]->data, nd->in[2] ? nd->in[2]->data : NULL, nd->out->data);
}

static void backward(const qt_node *nd)
{
    plan      *p = nd->saved;
    qt_tensor *x = nd->in[0], *w = nd->in[1];
    const R   *dyx = nd->out->grad, *dyw = dyx;
    R         *dx = grad_of(x), *dw = grad_of(w), *db = grad_of(nd->in[2]);
    qt_grad_clear(w), qt_grad_clear(nd->in[2]);
    if (p->gradq && p->grad.integer) {
        qt_gradq_conv(nd, &p->grad, dx && qt_grad_first(x), dx, dw);
        dx = dw = NULL;
    }
    if (p->gradq && dx) dyx = qt_gradq_value(&p->grad.dx, dyx);
    if (p->gradq && dw) dyw = qt_gradq_value(&p->grad.dw, dyw);
    if (dx) (qt_grad_first(x) ? qt_conv_dx_first : qt_conv_dx)(&p->c, dyx, w->data, p->work, dx);
    if (dw && dyw != nd->out->grad) qt_conv_dw(&p->c, x->data, dyw, p->work, dw, NULL), dw = NULL;
    if (dw || db) qt_conv_dw(&p->c, x->data, nd->out->grad, p->work, dw, db);
}

/* x for dw, w for dx; integer gradients are products with their integers. */
static uint32_t reads(const qt_node *nd)
{
    const plan *p = nd->saved;
    uint32_t    operands = (qt_wants_grad(nd->in[1]) ? 1u : 0) | (qt_wants_grad(nd->in[0]) ? 2u : 0);
    return p->gradq && p->grad.integer ? QT_READS_CODES(operands) : QT_READS_NEARLY(operands);
}

#define CASE(name, bias, stride, padding, dilation, groups) \
    static qt_tensor *name(qt_tape *t, qt_tensor **in) { return qt_conv2d(t, in[0], in[1], bias, stride, padding, dilation, groups); }
CASE(plain, in[2], 1, 0, 1, 1)
CASE(same, NULL, 1, 1, 1, 1)
CASE(stride2, in[2], 2, 1, 1, 1)
CASE(stride2_valid, NULL, 2, 0, 1, 1)
CASE(stride3, in[2], 3, 2, 1, 1)
CASE(dilated, in[2], 1, 2, 2, 1)
CASE(dilated_stride2, NULL, 2, 2, 2, 1)
CASE(grouped, in[2], 1, 1, 1, 2)
CASE(grouped_stride2, NULL, 2, 1, 1, 2)
CASE(depthwise, in[2], 1, 1, 1, 3)
CASE(depthwise_stride2, NULL, 2, 1, 1, 3)

static const qt_case cases[] = {{"3x3", plain, {{{2, 2, 5, 6}, 'n'}, {{3, 2, 3, 3}, 'n'}, {{3}, 'n'}}},
                                {"padded", same, {{{1, 3, 4, 5}, 'n'}, {{5, 3, 3, 3}, 'n'}}},
                                {"stride 2, odd size", stride2, {{{2, 2, 7, 5}, 'n'}, {{4, 2, 3, 3}, 'n'}, {{4}, 'n'}}},
                                {"stride 2, even size", stride2, {{{1, 3, 6, 8}, 'n'}, {{2, 3, 3, 3}, 'n'}, {{2}, 'n'}}},
                                {"1x1, stride 2", stride2_valid, {{{2, 3, 5, 4}, 'n'}, {{4, 3, 1, 1}, 'n'}}},
                                {"stride 3, even kernel", stride3, {{{1, 2, 7, 8}, 'n'}, {{2, 2, 2, 4}, 'n'}, {{2}, 'n'}}},
                                {"dilation 2", dilated, {{{1, 2, 6, 5}, 'n'}, {{3, 2, 3, 3}, 'n'}, {{3}, 'n'}}},
                                {"dilation 2, stride 2", dilated_stride2, {{{1, 2, 8, 7}, 'n'}, {{2, 2, 3, 2}, 'n'}}},
                                {"2 groups", grouped, {{{1, 4, 4, 4}, 'n'}, {{6, 2, 3, 3}, 'n'}, {{6}, 'n'}}},
                                {"2 groups, stride 2", grouped_stride2, {{{2, 4, 5, 5}, 'n'}, {{2, 2, 3, 3}, 'n'}}},
                                {"depthwise", depthwise, {{{2, 3, 5, 6}, 'n'}, {{3, 1, 3, 3}, 'n'}, {{3}, 'n'}}},
                                {"depthwise, 2 outputs a channel, stride 2", depthwise_stride2, {{{1, 3, 5, 6}, 'n'}, {{6, 1, 3, 3}, 'n'}}},
                                {"1x1", plain, {{{2, 5, 3, 3}, 'n'}, {{7, 5, 1, 1}, 'n'}, {{7}, 'n'}}},
                                {NULL}};

const qt_op qt_op_conv2d = {.d = {"conv2d", "2-D convolution with stride, zero padding, dilation and groups"},
                            .kind = QT_EXACT,
                            .shape = shape,
                            .forward = forward,
                            .backward = backward,
                            .stores = true,
                            .reads = reads,
                            .naive = naive,
                            .cases = cases};
