/* The store: see store.h. Parameters are added one by one, then sealed: each block is one allocation and never moves again. */
#include "autograd/store.h"
#include "base/par.h"
#include "kernels/reduce.h"
#include <math.h>
#include <string.h>

enum { ROW = 16 }; /* parameters start at multiples of this many numbers: 64 bytes of floats */

qt_init QT_INIT_FAN_IN(int64_t fan_in) { return (qt_init){QT_INIT_UNIFORM, 1 / sqrt((double)fan_in)}; }

qt_store *qt_store_new(uint64_t seed)
{
    qt_store *s = qt_alloc(sizeof *s);
    if (s) s->seed = seed;
    return s;
}

static void param_free(qt_param *p)
{
    qt_free((char *)p->t.name);
    qt_free(p);
}

void qt_store_free(qt_store *s)
{
    if (!s) return;
    for (int i = 0; i < s->n_site; i++) s->site_free(s->site[i]);
    for (int i = 0; i < s->n; i++) param_free(s->p[i]);
    for (int k = 0; k < s->n_slots; k++) qt_free(s->slot[k]);
    qt_free(s->site), qt_free(s->p), qt_free(s->value), qt_free(s->grad), qt_free(s->base), qt_free(s);
}

qt_param *qt_store_param(const qt_store *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->p[i]->t.name, name)) return s->p[i];
    return NULL;
}

qt_tensor *qt_param_find(const qt_store *s, const char *name)
{
    qt_param *p = qt_store_param(s, name);
    return p ? &p->t : NULL;
}

qt_param *qt_store_param_of(const qt_store *s, const qt_tensor *t)
{
    for (int i = 0; i < s->n; i++)
        if (&s->p[i]->t == t) return s->p[i];
    return NULL;
}

qt_tensor *qt_param_add(qt_store *s, const char *name, qt_param_kind kind, qt_init init, int rank, const int64_t *dim)
{
    qt_param *p;
    QT_ASSERT(!s->sealed && rank >= 1 && rank <= QT_MAX_DIM);
    if (qt_store_param(s, name)) return qt_fail(QT_EUSAGE, "parameter '%s' exists already", name), NULL;
    if (qt_grow(&s->p, &s->cap, s->n + 1, sizeof *s->p)) return NULL;
    if (!(p = qt_alloc(sizeof *p))) return NULL;
    if (!(p->t.name = qt_strdup(name))) return qt_free(p), NULL;
    p->kind = kind, p->init = init, p->at = s->size;
    p->t.rank = (int8_t)rank, p->t.n = 1;
    p->t.flags = (uint8_t)(QT_PERSISTENT | (kind == QT_BUFFER ? 0 : QT_NEEDS_GRAD));
    for (int i = 0; i < rank; i++) p->t.n *= p->t.dim[i] = dim[i];
    s->size += (p->t.n + ROW - 1) / ROW * ROW;
    s->p[s->n++] = p;
    return &p->t;
}

/* A parameter's tensor is its first member. */
qt_tensor *qt_param_row(qt_tape *t, qt_tensor *param, int k)
{
    qt_param  *p = (qt_param *)param;
    qt_tensor *row;
    if (!p->rows) return param;
    QT_ASSERT(k >= 0 && k < p->rows);
    if (!(row = qt_tape_alloc(t, sizeof *row))) return param;
    *row = (qt_tensor){.data = param->data, .grad = param->grad, .n = param->n / p->rows, .rank = (int8_t)(param->rank - 1), .flags = param->flags,
                       .name = param->name};
    memcpy(row->dim, param->dim + 1, (size_t)row->rank * sizeof *row->dim);
    if (row->data) row->data += k * row->n;
    if (row->grad) row->grad += k * row->n;
    if (t->grad && row->grad) p->used |= (uint64_t)1 << k;
    return row;
}

void qt_store_init(const qt_store *s, const qt_param *p, R *x)
{
    qt_rng r = qt_rng_named(s->seed, "init/%s", p->t.name);
    for (int64_t i = 0; i < p->t.n; i++)
        switch (p->init.kind) {
        case QT_INIT_CONSTANT: x[i] = (R)p->init.a; break;
        case QT_INIT_UNIFORM: x[i] = (R)(p->init.a * (2 * qt_rng_uniform(&r) - 1)); break;
        case QT_INIT_NORMAL: x[i] = (R)(p->init.a * qt_rng_normal(&r)); break;
        case QT_INIT_POSITIVE: x[i] = (R)(p->init.a * qt_rng_uniform(&r)); break;
        }
}

static int64_t padded(const qt_param *p) { return (p->t.n + ROW - 1) / ROW * ROW; }

/* Puts the parameters that are marked as base into a block of their own, and the others together. Nothing moves where none is marked. */
static qt_err part_base(qt_store *s)
{
    int64_t n = 0, base = 0;
    for (int i = 0; i < s->n; i++) {
        qt_param *p = s->p[i];
        if (p->outside) p->at = 0;
        else if (p->base) p->at = base, base += padded(p);
        else p->at = n, n += padded(p);
    }
    s->size = n;
    return base && !(s->base = qt_alloc((size_t)base * sizeof(R))) ? QT_EMEM : QT_OK;
}

static void point(qt_store *s, qt_param *p)
{
    p->t.grad = NULL;
    if (p->frozen) p->t.flags &= (uint8_t)~QT_NEEDS_GRAD;
    if (p->outside) return;
    p->t.data = (p->base ? s->base : s->value) + p->at;
    if (p->kind != QT_BUFFER && !p->frozen) p->t.grad = s->grad + p->at;
    qt_store_init(s, p, p->t.data);
}

qt_err qt_store_seal(qt_store *s, int n_slots)
{
    QT_ASSERT(!s->sealed && n_slots <= QT_MAX_SLOTS);
    QT_TRY(part_base(s));
    size_t bytes = (size_t)s->size * sizeof(R);
    if (!(s->value = qt_alloc(bytes)) || !(s->grad = qt_alloc(bytes))) return QT_EMEM;
    for (; s->n_slots < n_slots; s->n_slots++)
        if (!(s->slot[s->n_slots] = qt_alloc(bytes))) return QT_EMEM;
    s->sealed = true;
    for (int i = 0; i < s->n; i++) point(s, s->p[i]);
    return QT_OK;
}

qt_err qt_store_seal_values(qt_store *s)
{
    QT_ASSERT(!s->sealed);
    s->size = 0;
    for (int i = 0; i < s->n; i++) {
        s->p[i]->at = s->size;
        if (!s->p[i]->outside) s->size += (s->p[i]->t.n + ROW - 1) / ROW * ROW;
    }
    if (!(s->value = qt_alloc((size_t)s->size * sizeof(R)))) return QT_EMEM;
    s->sealed = true;
    for (int i = 0; i < s->n; i++) {
        s->p[i]->t.flags &= (uint8_t)~QT_NEEDS_GRAD;
        if (!s->p[i]->outside) s->p[i]->t.data = s->value + s->p[i]->at;
    }
    return QT_OK;
}

void qt_store_zero_grad(qt_store *s) { memset(s->grad, 0, (size_t)s->size * sizeof(R)); }

void qt_store_freeze(qt_param *p, R *grad_block)
{
    p->frozen = !grad_block;
    p->t.flags = (uint8_t)(grad_block ? p->t.flags | QT_NEEDS_GRAD : p->t.flags & ~QT_NEEDS_GRAD);
    p->t.grad = grad_block ? grad_block + p->at : NULL;
}

int64_t qt_store_trained(const qt_store *s)
{
    int64_t n = 0;
    for (int i = 0; i < s->n; i++) n += s->p[i]->kind == QT_BUFFER ? 0 : s->p[i]->t.n;
    return n;
}

int64_t qt_store_moving(const qt_store *s)
{
    int64_t n = 0;
    for (int i = 0; i < s->n; i++) n += s->p[i]->kind == QT_BUFFER || s->p[i]->frozen ? 0 : s->p[i]->t.n;
    return n;
}

QT_CLONES static void scale(R *x, int64_t n, R by)
{
    for (int64_t i = 0; i < n; i++) x[i] *= by;
}

QT_CLONES static void bound(R *x, int64_t n, R max)
{
    for (int64_t i = 0; i < n; i++) {
        const R v = x[i] < -max ? -max : x[i];
        x[i] = v > max ? max : v;
    }
}

/* Padding and buffers have zero gradients, so the whole block can be summed. */
double qt_store_clip_norm(qt_store *s, double max)
{
    double norm = sqrt(qt_reduce_sum_sq(s->grad, s->size));
    if (norm > max) QT_FOR_CHUNKS(b, e, s->size, QT_GRAIN) scale(s->grad + b, e - b, (R)(max / norm));
    return norm;
}

void qt_store_clip_value(qt_store *s, double max)
{
    QT_FOR_CHUNKS(b, e, s->size, QT_GRAIN) bound(s->grad + b, e - b, (R)max);
}
