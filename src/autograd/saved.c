/* Memory of a thrifty tape: lending, packing, unpacking, and the account. See codec.h. */
#include "autograd/codec.h"
#include "base/par.h"
#include "kernels/codes.h"

uint32_t qt_reads_nothing(const qt_node *nd) { return (void)nd, 0; }
uint32_t qt_reads_result(const qt_node *nd) { return (void)nd, QT_READS(QT_RESULT); }
uint32_t qt_reads_input(const qt_node *nd) { return (void)nd, QT_READS(1); }

/* ---- lending --------------------------------------------------------------------------------------------------------------- */

/* A block of the arena that holds the numbers of one result, or its gradient, after the other. */
typedef struct qt_lent {
    R      *at;
    int64_t n;
    bool    taken;
} qt_lent;

R *qt_tape_lend(qt_tape *t, int64_t n)
{
    qt_lent *best = NULL;
    for (int i = 0; i < t->n_lent; i++)
        if (!t->lent[i].taken && t->lent[i].n >= n && (!best || t->lent[i].n < best->n)) best = &t->lent[i];
    if (!best) {
        if (qt_grow(&t->lent, &t->cap_lent, t->n_lent + 1, sizeof *t->lent) != QT_OK) return NULL;
        best = &t->lent[t->n_lent];
        *best = (qt_lent){qt_arena_alloc(&t->arena, (size_t)n * sizeof(R)), n, false};
        if (!best->at) return NULL;
        t->n_lent++;
    }
    best->taken = true;
    return best->at;
}

static qt_lent *lent_at(const qt_tape *t, const R *at)
{
    for (int i = 0; i < t->n_lent; i++)
        if (t->lent[i].taken && t->lent[i].at == at) return &t->lent[i];
    return NULL;
}

bool qt_tape_take_back(qt_tape *t, const R *at)
{
    qt_lent *l = lent_at(t, at);
    if (l) l->taken = false;
    return l != NULL;
}

/* ---- what backward reads ----------------------------------------------------------------------------------------------------- */

/* Slot k of a node: an input, or the result. */
enum { SLOTS = QT_MAX_IN + 1 };
static qt_tensor *slot(const qt_node *nd, int k) { return k == QT_MAX_IN ? nd->out : k < nd->n_in ? nd->in[k] : NULL; }

/* What is read of a slot: bits 0, 8, 16 and 24 as in qt_reads. */
enum { EXACT = 1, NEAR = 1 << 8, SIGN = 1 << 16, CODES = 1 << 24 };
static uint32_t read_of(uint32_t reads, int k) { return reads >> k & (EXACT | NEAR | SIGN | CODES); }

/* Result of parameters only: a weight, as its quantizer gives it. */
static bool of_parameters(const qt_node *nd)
{
    for (int i = 0; i < nd->n_in; i++)
        if (nd->in[i] && !(nd->in[i]->flags & QT_PERSISTENT)) return false;
    return true;
}

/* A parameter, or a result of parameters. */
static bool is_weight(const qt_tape *t, const qt_tensor *x)
{
    if (x->flags & QT_PERSISTENT) return true;
    for (const qt_node *nd = t->node; nd < t->node + t->n; nd++)
        if (nd->out == x) return of_parameters(nd);
    return false;
}

typedef struct need {
    uint32_t  read;
    qt_saver *saver; /* of the first layer that reads the numbers; NULL if one of them wants the very numbers */
} need;

static need need_of(const qt_tape *t, const qt_tensor *x)
{
    need d = {0};
    bool codec = !is_weight(t, x);
    for (const qt_node *nd = t->node; nd < t->node + t->n; nd++) {
        uint32_t reads = qt_wants_grad(nd->out) ? qt_reads(nd) : 0, here = 0;
        for (int k = 0; k < SLOTS && reads; k++)
            if (slot(nd, k) == x) here |= read_of(reads, k);
        d.read |= here;
        if (!(here & (EXACT | NEAR))) continue;
        if (here & EXACT || !nd->saver || !nd->saver->codec->encode) codec = false;
        else if (!d.saver) d.saver = nd->saver;
    }
    if (!codec) d.saver = NULL;
    return d;
}

/* ---- signs and integer codes --------------------------------------------------------------------------------------------------- */

static void take_signs(uint8_t *sign, const R *x, int64_t n)
{
    QT_FOR_CHUNKS(b, e, n, QT_GRAIN)
    for (int64_t i = b; i < e; i += 8) {
        unsigned byte = 0;
        for (int64_t j = i; j < qt_min_i64(i + 8, e); j++) byte |= (unsigned)!(x[j] <= 0) << (j - i);
        sign[i / 8] = (uint8_t)byte;
    }
}

/* 1 or 0: what comes of it is what came of x, wherever only x <= 0 is asked. */
static void give_signs(R *y, const uint8_t *sign, int64_t n)
{
    QT_FOR_CHUNKS(b, e, n, QT_GRAIN)
    for (int64_t i = b; i < e; i++) y[i] = (R)(sign[i / 8] >> (i & 7) & 1);
}

QT_CLONES static void give_unsigned(R *restrict y, const uint8_t *restrict q, int64_t n, int32_t zero, R s)
{
    for (int64_t i = 0; i < n; i++) y[i] = (R)(q[i] - zero) * s;
}

QT_CLONES static void give_signed(R *restrict y, const int8_t *restrict q, int64_t n, int32_t zero, R s)
{
    for (int64_t i = 0; i < n; i++) y[i] = (R)(q[i] - zero) * s;
}

/* The same numbers as the quantizer gave: kernels/codes.h. */
static void give_codes(R *y, const qt_icodes *c)
{
    QT_FOR_CHUNKS(b, e, c->n, QT_GRAIN)
    for (int64_t i = b, end; i < e; i = end) {
        int64_t k = i / c->inner % c->count;
        int32_t zero = c->zero ? c->zero[k] : 0;
        end = qt_min_i64(e, (i / c->inner + 1) * c->inner);
        if (c->is_signed) give_signed(y + i, (const int8_t *)c->q + i, end - i, zero, c->scale[k]);
        else give_unsigned(y + i, (const uint8_t *)c->q + i, end - i, zero, c->scale[k]);
    }
}

static int64_t codes_bytes(const qt_icodes *c) { return c->n + c->count * (int64_t)(sizeof *c->scale + (c->zero ? sizeof *c->zero : 0)); }

/* ---- packing --------------------------------------------------------------------------------------------------------------- */

static qt_pack *pack_of(const qt_tape *t, const qt_tensor *x)
{
    for (int i = 0; i < t->n_pack; i++)
        if (t->pack[i].x == x) return &t->pack[i];
    return NULL;
}

/* Groups along the channels: axis 1 of [N,C,H,W] (heads, where these are attention's), otherwise the last axis. All one group if they do
 * not share out. */
static void lay_out(qt_pack *p, int64_t groups)
{
    const qt_tensor *x = p->x;
    const int        axis = x->rank == 4 ? 1 : x->rank - 1;
    p->groups = x->dim[axis] % groups ? 1 : groups, p->inner = x->n;
    if (p->groups == 1) return;
    p->inner = x->dim[axis] / groups;
    for (int i = axis + 1; i < x->rank; i++) p->inner *= x->dim[i];
}

static qt_err encode(qt_tape *t, qt_pack *p, qt_saver *s)
{
    const qt_codec *c = s->codec;
    int             row = s->used++;
    R              *work;
    QT_CHECK(row < QT_SAVER_TENSORS, QT_EUSAGE, "%s: the layer keeps more than %d tensors for backward (memory.match can leave it out)", s->path,
             QT_SAVER_TENSORS);
    p->saver = s;
    lay_out(p, s->groups);
    p->u = qt_rng_at(t->seed, qt_hash(s->path) + (uint64_t)t->step * QT_SAVER_TENSORS + (uint64_t)row + (s->draw << 48));
    p->code = qt_tape_alloc(t, (size_t)c->bytes(s->cfg, p->x->n));
    p->range = qt_tape_alloc(t, 2 * (size_t)p->groups * sizeof(R));
    p->bytes += c->bytes(s->cfg, p->x->n) + 2 * p->groups * (int64_t)sizeof(R);
    work = qt_tape_lend(t, c->work(p));
    if (!p->code || !p->range || !work) return QT_EMEM;
    c->encode(s->cfg, p, s->state->data + row * s->groups * 2, work);
    qt_tape_take_back(t, work);
    return QT_OK;
}

static qt_err pack(qt_tape *t, qt_tensor *x, const need *d, bool codes)
{
    qt_pack *p;
    QT_TRY(qt_grow(&t->pack, &t->cap_pack, t->n_pack + 1, sizeof *t->pack));
    p = &t->pack[t->n_pack];
    *p = (qt_pack){.x = x};
    if (codes) p->bytes = codes_bytes(x->codes);
    else if (d->saver) QT_TRY(encode(t, p, d->saver));
    if (d->read & SIGN && !codes) {
        if (!(p->sign = qt_tape_alloc(t, (size_t)(x->n + 7) / 8))) return QT_EMEM;
        take_signs(p->sign, x->data, x->n);
        p->bytes += (x->n + 7) / 8;
    }
    t->n_pack++;
    if (t->watch) t->watch(t->watch_arg, t, p);
    return QT_OK;
}

void qt_tape_done(qt_tape *t, qt_tensor *x)
{
    if (!t->thrifty || t->err || !x->data || !lent_at(t, x->data)) return;
    need d = need_of(t, x);
    bool numbers = d.read & (EXACT | NEAR), codes = x->codes && x->codes->q;
    if (numbers && !codes && !d.saver) return;
    if (numbers || d.read & SIGN) qt_tape_fail(t, pack(t, x, &d, codes));
    if (t->err) return;
    qt_tape_take_back(t, x->data), x->data = NULL;
}

/* ---- unpacking ------------------------------------------------------------------------------------------------------------- */

void qt_pack_decode(const qt_pack *p, R *y)
{
    if (p->saver) p->saver->codec->decode(p->saver->cfg, p, y);
    else if (p->x->codes) give_codes(y, p->x->codes);
    else give_signs(y, p->sign, p->x->n);
}

static qt_err unpack(qt_tape *t, qt_tensor *x, bool sign)
{
    const qt_pack *p = pack_of(t, x);
    if (!p || x->data) return QT_OK;
    if (!(x->data = qt_tape_lend(t, x->n))) return QT_EMEM;
    if (sign && p->sign) give_signs(x->data, p->sign, x->n);
    else qt_pack_decode(p, x->data);
    return QT_OK;
}

qt_err qt_node_unpack(qt_node *nd)
{
    uint32_t reads = nd->tape->n_pack ? qt_reads(nd) : 0;
    for (int sign = 0; sign < 2 && reads; sign++)
        for (int k = 0; k < SLOTS; k++)
            if (slot(nd, k) && read_of(reads, k) & (sign ? SIGN : EXACT | NEAR)) QT_TRY(unpack(nd->tape, slot(nd, k), sign));
    return QT_OK;
}

void qt_node_pack(qt_node *nd)
{
    for (int k = 0; k < SLOTS && nd->tape->n_pack; k++) {
        qt_tensor *x = slot(nd, k);
        if (x && x->data && pack_of(nd->tape, x)) qt_tape_take_back(nd->tape, x->data), x->data = NULL;
    }
}

/* ---- the account ------------------------------------------------------------------------------------------------------------- */

enum { COUNTED = 64 }; /* flag of a tensor while its bytes are added up */

/* As one reader would keep it. */
static int64_t bytes_for(const qt_tape *t, const qt_tensor *x, uint32_t read)
{
    const qt_pack *p = pack_of(t, x);
    if (read == CODES) return codes_bytes(x->codes);
    if (read == SIGN && p && p->sign) return (x->n + 7) / 8;
    return p ? p->bytes - (p->sign && p->saver ? (x->n + 7) / 8 : 0) : x->n * (int64_t)sizeof(R);
}

static void add_slot(const qt_tape *t, qt_tensor *x, uint32_t read, qt_saved *s)
{
    const qt_pack *p = pack_of(t, x);
    s->per_op += bytes_for(t, x, read);
    if (x->flags & COUNTED) return;
    x->flags |= COUNTED;
    s->floats += x->n * (int64_t)sizeof(R);
    s->bytes += p ? p->bytes : bytes_for(t, x, need_of(t, x).read);
}

/* Does backward of a layer read slot k of the node, and is it counted? */
static bool counts(const qt_node *nd, uint32_t reads, int k)
{
    const qt_tensor *x = slot(nd, k);
    return x && read_of(reads, k) && !(x->flags & QT_IDS) && !is_weight(nd->tape, x);
}

void qt_tape_saved_each(qt_tape *t, void (*add)(void *arg, const char *path, qt_saved s), void *arg)
{
    for (int pass = 0; pass < 2; pass++)
        for (const qt_node *nd = t->node; nd < t->node + t->n; nd++) {
            if (!nd->path || !qt_wants_grad(nd->out)) continue;
            qt_saved s = {nd->own, nd->own, nd->own};
            uint32_t reads = qt_reads(nd);
            for (int k = 0; k < SLOTS && reads; k++) {
                if (!counts(nd, reads, k)) continue;
                if (pass) slot(nd, k)->flags &= (uint8_t)~COUNTED;
                else add_slot(t, slot(nd, k), read_of(reads, k), &s);
            }
            if (!pass) add(arg, nd->path, s);
        }
}

static void sum_up(void *arg, const char *path, qt_saved s)
{
    qt_saved *sum = arg;
    (void)path;
    sum->bytes += s.bytes, sum->floats += s.floats, sum->per_op += s.per_op;
}

qt_saved qt_tape_saved(qt_tape *t)
{
    qt_saved sum = {0};
    qt_tape_saved_each(t, sum_up, &sum);
    return sum;
}
