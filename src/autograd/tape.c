/* The tape: emit and backward. See tape.h. */
#include "autograd/codec.h"
#include "base/par.h"
#include <stdarg.h>

qt_tape *qt_tape_new(void)
{
    qt_tape *t = qt_alloc(sizeof *t);
    if (t) t->train = t->grad = true;
    return t;
}

void qt_tape_free(qt_tape *t)
{
    if (!t) return;
    qt_arena_free(&t->arena);
    qt_free(t->node), qt_free(t->lent), qt_free(t->pack);
    qt_free(t);
}

void qt_tape_reset(qt_tape *t)
{
    qt_arena_reset(&t->arena);
    t->n = t->n_lent = t->n_pack = 0;
    t->err = QT_OK;
    t->path = NULL, t->root = NULL, t->keep = false;
}

void   qt_tape_mode(qt_tape *t, bool train, bool grad) { t->train = train, t->grad = grad; }
void   qt_tape_simulate(qt_tape *t, bool on) { t->simulate = on; }
qt_err qt_tape_error(const qt_tape *t) { return t->err; }

void qt_tape_fail(qt_tape *t, qt_err e)
{
    if (!t->err) t->err = e;
}

void *qt_tape_alloc(qt_tape *t, size_t n)
{
    void *p = qt_arena_alloc(&t->arena, n);
    if (!p) qt_tape_fail(t, QT_EMEM);
    return p;
}

/* A tensor in the arena; its numbers are not set, and it has no gradient yet. NULL when memory is out. */
static qt_tensor *tensor_new(qt_tape *t, int rank, const int64_t *dim, int flags)
{
    qt_tensor *x = qt_arena_zalloc(&t->arena, sizeof *x);
    QT_ASSERT(rank >= 1 && rank <= QT_MAX_DIM);
    if (!x) return NULL;
    x->rank = (int8_t)rank, x->flags = (uint8_t)flags, x->n = 1;
    for (int i = 0; i < rank; i++) x->n *= x->dim[i] = dim[i];
    if (flags & QT_IDS) return (x->ids = qt_arena_zalloc(&t->arena, (size_t)x->n * sizeof *x->ids)) ? x : NULL;
    x->data = t->thrifty ? qt_tape_lend(t, x->n) : qt_arena_alloc(&t->arena, (size_t)x->n * sizeof(R));
    return x->data ? x : NULL;
}

static qt_tensor *leaf(qt_tape *t, int rank, const int64_t *dim, int flags)
{
    qt_tensor *x = t->err ? NULL : tensor_new(t, rank, dim, flags);
    if (!x) return qt_tape_fail(t, QT_EMEM), &t->none;
    if (x->data) memset(x->data, 0, (size_t)x->n * sizeof(R));
    if (flags & QT_NEEDS_GRAD && !(x->grad = qt_arena_zalloc(&t->arena, (size_t)x->n * sizeof(R)))) return qt_tape_fail(t, QT_EMEM), &t->none;
    return x;
}

qt_tensor *qt_input(qt_tape *t, int rank, const int64_t *dim) { return leaf(t, rank, dim, 0); }
qt_tensor *qt_input_ids(qt_tape *t, int rank, const int64_t *dim) { return leaf(t, rank, dim, QT_IDS); }
qt_tensor *qt_variable(qt_tape *t, int rank, const int64_t *dim) { return leaf(t, rank, dim, QT_NEEDS_GRAD); }

qt_tensor *qt_tape_view(qt_tape *t, R *data, int rank, const int64_t *dim)
{
    qt_tensor *x = t->err ? NULL : qt_arena_zalloc(&t->arena, sizeof *x);
    if (!x) return qt_tape_fail(t, QT_EMEM), &t->none;
    x->rank = (int8_t)rank, x->data = data, x->n = 1;
    for (int i = 0; i < rank; i++) x->n *= x->dim[i] = dim[i];
    return x;
}

qt_err qt_node_out(qt_node *nd, int rank, const int64_t *dim)
{
    qt_tape *t = nd->tape;
    bool     wants = false;
    for (int i = 0; i < nd->n_in; i++) wants |= qt_wants_grad(nd->in[i]);
    nd->out = tensor_new(t, rank, dim, t->grad && wants && nd->op->kind != QT_NO_GRAD ? QT_NEEDS_GRAD : 0);
    return nd->out ? QT_OK : QT_EMEM;
}

qt_err qt_node_out_like(qt_node *nd, const qt_tensor *x) { return qt_node_out(nd, x->rank, x->dim); }

qt_err qt_node_save(qt_node *nd, size_t n) { return (nd->saved = qt_arena_alloc(&nd->tape->arena, n)) ? QT_OK : QT_EMEM; }

qt_err qt_node_fail(const qt_node *nd, const char *fmt, ...)
{
    char    text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (nd->path) return qt_fail(QT_ESHAPE, "%s at %s: %s", nd->op->d.name, nd->path, text);
    return qt_fail(QT_ESHAPE, "%s: %s", nd->op->d.name, text);
}

/* Fills in a node and runs it; the node counts only when all went well. */
static qt_err emit(qt_tape *t, qt_node *nd, const qt_op *op, const void *arg, size_t arg_size, int n_in, qt_tensor *const *in)
{
    QT_ASSERT(n_in <= QT_MAX_IN);
    *nd = (qt_node){.op = op, .n_in = (int8_t)n_in, .tape = t, .path = t->path, .saver = t->saver};
    memcpy(nd->in, in, (size_t)n_in * sizeof *in);
    if (arg_size) {
        if (!(nd->arg = qt_arena_alloc(&t->arena, arg_size))) return QT_EMEM;
        memcpy(nd->arg, arg, arg_size);
    }
    QT_TRY(op->shape(nd));
    (t->naive && op->naive ? op->naive : op->forward)(nd);
    t->n++;
    return QT_OK;
}

qt_tensor *qt_emit(qt_tape *t, const qt_op *op, const void *arg, size_t arg_size, int n_in, qt_tensor *const *in)
{
    if (!t->err) t->err = qt_grow(&t->node, &t->cap, t->n + 1, sizeof *t->node);
    if (!t->err) t->err = emit(t, &t->node[t->n], op, arg, arg_size, n_in, in);
    return t->err ? &t->none : t->node[t->n - 1].out;
}

/* ---- backward -------------------------------------------------------------------------------------------------------------- */

/* Memory for the gradient of x. */
static qt_err lend(qt_tape *t, qt_tensor *x)
{
    if (!(x->grad = qt_tape_lend(t, x->n))) return QT_EMEM;
    x->flags |= QT_UNWRITTEN;
    return QT_OK;
}

/* The gradient of a result of a parameter may be the parameter's own, which is not lent. */
static void take_back(qt_tape *t, qt_tensor *x)
{
    if (qt_tape_take_back(t, x->grad)) x->grad = NULL;
}

R *qt_tape_grad(qt_tape *t, qt_tensor *x)
{
    if (!x->grad) {
        qt_tape_fail(t, lend(t, x));
        if (x->grad) qt_grad_clear(x);
    }
    return x->grad;
}

/* One node: every input that wants a gradient has memory for it, zeros or its gradient so far when the op does not store; and after it
 * all are written, even if the op had nothing to say. */
static qt_err back(qt_tape *t, qt_node *nd)
{
    for (int i = 0; i < nd->n_in; i++) {
        qt_tensor *x = nd->in[i];
        if (!qt_wants_grad(x)) continue;
        if (!x->grad) QT_TRY(lend(t, x));
        if (!nd->op->stores) qt_grad_clear(x);
    }
    QT_TRY(qt_node_unpack(nd));
    nd->op->backward(nd);
    qt_node_pack(nd);
    for (int i = 0; i < nd->n_in; i++) qt_grad_clear(nd->in[i]);
    return QT_OK;
}

/* From the last node to the first; a result without a gradient has no part in the root. */
static void walk(qt_tape *t)
{
    for (int k = t->n - 1; k >= 0 && !t->err; k--) {
        qt_node *nd = &t->node[k];
        if (!nd->out->grad) continue;
        qt_tape_fail(t, back(t, nd));
        if (nd->out != t->root && !t->keep) take_back(t, nd->out);
    }
}

qt_err qt_backward_from(qt_tape *t, qt_tensor *y, const R *dy)
{
    QT_TRY(t->err);
    QT_CHECK(qt_wants_grad(y), QT_EUSAGE, "backward: the tensor depends on nothing that wants a gradient");
    if (t->root) take_back(t, t->root);
    if (!qt_tape_grad(t, y)) return t->err;
    for (int64_t i = 0; i < y->n; i++) y->grad[i] += dy[i];
    t->root = y;
    walk(t);
    return t->err;
}

qt_err qt_backward(qt_tape *t, qt_tensor *loss)
{
    QT_TRY(t->err);
    QT_CHECK(loss->n == 1, QT_EUSAGE, "backward: the loss must be one number, it has %lld", (long long)loss->n);
    return qt_backward_from(t, loss, (R[]){1});
}

const char *qt_shape_str(const qt_tensor *x, char buf[static 96])
{
    int n = snprintf(buf, 96, "[");
    for (int i = 0; i < x->rank; i++) n += snprintf(buf + n, 96 - (size_t)n, i ? ", %lld" : "%lld", (long long)x->dim[i]);
    snprintf(buf + n, 96 - (size_t)n, "]");
    return buf;
}

/* x - x is 0, or NaN where x is infinite or none: in lanes, and looked at once a block. */
QT_CLONES static bool block_finite(const R *x, int n)
{
    R   lane[16] = {0}, sum = 0;
    int i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) lane[l] += x[i + l] - x[i + l];
    for (; i < n; i++) sum += x[i] - x[i];
    for (int l = 0; l < 16; l++) sum += lane[l];
    return sum == 0;
}

bool qt_all_finite(const R *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4096)
        if (!block_finite(x + i, (int)qt_min_i64(4096, n - i))) return false;
    return true;
}

/* The first node, backward, with an input whose gradient is not finite. */
static const qt_node *nonfinite_gradient(qt_tape *t)
{
    if (!t->root) return NULL;
    t->keep = true;
    walk(t);
    for (int k = t->n - 1; k >= 0; k--) {
        const qt_node *nd = &t->node[k];
        for (int i = 0; i < nd->n_in; i++)
            if (nd->in[i] && nd->in[i]->grad && !qt_all_finite(nd->in[i]->grad, nd->in[i]->n)) return nd;
    }
    return NULL;
}

const qt_node *qt_tape_nonfinite(qt_tape *t, const char **which)
{
    *which = "output";
    for (int k = 0; k < t->n; k++)
        if (t->node[k].out->data && !qt_all_finite(t->node[k].out->data, t->node[k].out->n)) return &t->node[k];
    *which = "gradient";
    return nonfinite_gradient(t);
}
