/* Dropout: in training each element is zero with probability p and x/(1-p) otherwise, so that its expectation is x; dx likewise.
 * In evaluation, and for p = 0, y = x.
 *
 * Element i is kept where number i of a random stream, 32 bits, is at least p 2^32. The stream belongs to the tape's seed and to layer,
 * step and place on the tape, so no thread count changes it, and two dropouts in one layer differ. The mask is kept as bytes.
 *
 * Srivastava et al., "Dropout", JMLR 2014, in its inverted form. Left out: whole channels at a time. */
#include "ops/inner.h"
#include <string.h>

typedef struct drop {
    R        factor;
    uint8_t *keep; /* NULL: everything passes */
} drop;

static qt_err shape(qt_node *nd)
{
    const double p = *(double *)nd->arg;
    drop        *d;
    if (!(p >= 0 && p < 1)) return qt_node_fail(nd, "the probability is %g, it must be at least 0 and less than 1", p);
    QT_TRY(qt_node_save(nd, sizeof *d));
    d = nd->saved;
    *d = (drop){(R)(1 / (1 - p)), NULL};
    if (nd->tape->train && p > 0 && !(d->keep = qt_tape_alloc(nd->tape, (size_t)nd->in[0]->n))) return QT_EMEM;
    nd->own = d->keep ? nd->in[0]->n : 0;
    return qt_node_out_like(nd, nd->in[0]);
}

/* splitmix64's mixing step: neighbouring steps and places become unrelated streams */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static qt_rng stream(const qt_node *nd)
{
    const qt_tape *t = nd->tape;
    const uint64_t place = (uint64_t)t->step << 20 ^ (uint64_t)t->n;
    return qt_rng_at(t->seed, qt_hash(nd->path ? nd->path : "") ^ mix(place + 0x9e3779b97f4a7c15u));
}

/* keep[i] for i in [b, e); b is a multiple of 4, as one block of the generator gives numbers 4k to 4k + 3 */
static void draw(uint8_t *keep, const qt_rng *r, int64_t b, int64_t e, uint32_t least)
{
    const uint32_t key[2] = {(uint32_t)r->seed, (uint32_t)(r->seed >> 32)};
    for (int64_t i = b; i < e; i += 4) {
        const uint64_t block = (uint64_t)i / 4;
        uint32_t       u[4];
        qt_philox((uint32_t[]){(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)r->stream, (uint32_t)(r->stream >> 32)}, key, u);
        for (int64_t j = i; j < qt_min_i64(i + 4, e); j++) keep[j] = u[j - i] >= least;
    }
}

QT_CLONES static void pass(R *restrict y, const R *restrict x, const uint8_t *restrict keep, int64_t n, R factor)
{
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * (keep[i] ? factor : 0);
}

QT_CLONES static void pass_back(R *restrict dx, const R *restrict dy, const uint8_t *restrict keep, int64_t n, R factor, bool first)
{
    if (first)
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * (keep[i] ? factor : 0);
    else
        for (int64_t i = 0; i < n; i++) dx[i] += dy[i] * (keep[i] ? factor : 0);
}

static void forward(qt_node *nd)
{
    const drop    *d = nd->saved;
    const qt_rng   r = stream(nd);
    const R       *x = nd->in[0]->data;
    R             *y = nd->out->data;
    const uint32_t least = (uint32_t)(*(double *)nd->arg * 0x1p32);
    QT_FOR_CHUNKS(b, e, nd->out->n, QT_GRAIN)
    {
        if (d->keep) {
            draw(d->keep, &r, b, e, least);
            pass(y + b, x + b, d->keep + b, e - b, d->factor);
        } else memcpy(y + b, x + b, (size_t)(e - b) * sizeof(R));
    }
}

/* The same numbers one at a time, by their index. */
static void naive(qt_node *nd)
{
    const drop  *d = nd->saved;
    const qt_rng r = stream(nd);
    for (int64_t i = 0; i < nd->out->n; i++) {
        const bool keep = qt_rng_u32_at(&r, (uint64_t)i) >= (uint32_t)(*(double *)nd->arg * 0x1p32);
        if (d->keep) d->keep[i] = keep;
        nd->out->data[i] = !d->keep ? nd->in[0]->data[i] : keep ? d->factor * nd->in[0]->data[i] : 0;
    }
}

static void backward(const qt_node *nd)
{
    const drop *d = nd->saved;
    const R    *dy = nd->out->grad;
    R          *dx = nd->in[0]->grad;
    const bool  first = qt_grad_first(nd->in[0]);
    if (!dx) return;
    QT_FOR_CHUNKS(b, e, nd->out->n, QT_GRAIN)
    {
        if (d->keep) pass_back(dx + b, dy + b, d->keep + b, e - b, d->factor, first);
        else
            for (int64_t i = b; i < e; i++) dx[i] = (first ? 0 : dx[i]) + dy[i];
    }
}

qt_tensor *qt_dropout(qt_tape *t, qt_tensor *x, double p) { return QT_EMIT(t, &qt_op_dropout, &p, sizeof p, x); }

static qt_tensor    *build(qt_tape *t, qt_tensor **in) { return qt_dropout(t, in[0], 0.3); }
static qt_tensor    *build_none(qt_tape *t, qt_tensor **in) { return qt_dropout(t, in[0], 0); }
static qt_tensor    *build_twice(qt_tape *t, qt_tensor **in) { return qt_dropout(t, qt_dropout(t, in[0], 0.2), 0.2); }
static const qt_case cases[] = {{"matrix", build, {{{5, 7}, 'n'}}},
                                {"one number", build, {{{1}, 'n'}}},
                                {"twice", build_twice, {{{3, 3, 3}, 'n'}}},
                                {"p = 0", build_none, {{{4}, 'n'}}},
                                {"evaluation", build, {{{6}, 'n'}}, .eval = true},
                                {NULL}};
const qt_op qt_op_dropout = {
    .d = {"dropout", "elements zeroed at random in training, the others scaled up", .source = "Srivastava et al., JMLR 2014"},
    .kind = QT_EXACT, .shape = shape, .forward = forward, .backward = backward, .reads = qt_reads_nothing, .stores = true, .naive = naive, .cases = cases};
