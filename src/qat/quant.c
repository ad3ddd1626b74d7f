/* Sites: a quantizer attached to one tensor of a model. See quant.h. */
#include "qat/quant.h"
#include <stdarg.h>
#include <string.h>

/* ---- layouts ------------------------------------------------------------------------------------------------------------------- */

/* Product of the dimensions [from, to) of x. */
static int64_t extent(const qt_tensor *x, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++) n *= x->dim[i];
    return n;
}

qt_err qt_layout_of(const char *path, qt_granularity g, int axis, int64_t group_size, int token_rank, const qt_tensor *x, qt_layout *l)
{
    char    shape[96];
    int     channel = axis < 0 ? axis + x->rank : axis;
    int64_t token = extent(x, token_rank < x->rank ? x->rank - token_rank : 0, x->rank);
    switch (g) {
    case QT_PER_TENSOR: *l = (qt_layout){x->n, 1}; break;
    case QT_PER_CHANNEL:
        QT_CHECK(channel >= 0 && channel < x->rank, QT_ESHAPE, "%s: axis %d does not exist, the tensor is %s", path, axis, qt_shape_str(x, shape));
        *l = (qt_layout){extent(x, channel + 1, x->rank), x->dim[channel]};
        break;
    case QT_PER_GROUP:
        QT_CHECK(group_size > 0, QT_ESHAPE, "%s: granularity group needs a group_size", path);
        QT_CHECK(token % group_size == 0, QT_ESHAPE, "%s: group_size %lld does not divide a row of %lld (tensor %s), the last group would be short",
                 path, (long long)group_size, (long long)token, qt_shape_str(x, shape));
        *l = (qt_layout){group_size, x->n / group_size};
        break;
    case QT_PER_TOKEN: *l = (qt_layout){token, x->n / token}; break;
    }
    return QT_OK;
}

static int channel_axis(const qt_site *q, const qt_ints *axis) { return axis && axis->n ? (int)axis->v[0] : q->axis; }

qt_err qt_site_layout(const qt_site *q, qt_granularity g, const qt_ints *axis, int64_t group_size, const qt_tensor *x, qt_layout *l)
{
    return qt_layout_of(q->path, g, channel_axis(q, axis), group_size, q->token_rank, x, l);
}

qt_err qt_site_count(const qt_site *q, qt_granularity g, const qt_ints *axis, int64_t group_size, int64_t *count)
{
    bool      any_batch = q->dim[0] == 0;
    int       a = channel_axis(q, axis);
    qt_tensor like = {.rank = (int8_t)q->rank, .n = 1};
    qt_layout l;
    char      where[512];
    for (int i = 0; i < q->rank; i++) like.n *= like.dim[i] = q->dim[i] ? q->dim[i] : 1;
    if (any_batch && g == QT_PER_CHANNEL && (a == 0 || a == -q->rank)) return qt_site_fail(q, "axis 0 of an activation is the batch");
    if (q->pos.line) snprintf(where, sizeof where, "%s:%d:%d: %s", q->pos.file, q->pos.line, q->pos.col, q->path);
    else snprintf(where, sizeof where, "%s", q->path);
    QT_TRY(qt_layout_of(where, g, a, group_size, q->token_rank, &like, &l));
    *count = any_batch && (g == QT_PER_GROUP || g == QT_PER_TOKEN) ? 0 : l.count;
    return QT_OK;
}

/* ---- sites --------------------------------------------------------------------------------------------------------------------- */

qt_err qt_site_fail(const qt_site *q, const char *fmt, ...)
{
    char    text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return qt_fail_at(QT_ERECIPE, q->pos, "%s: quant %s: %s", q->path, q->quant->d.name, text);
}

qt_err qt_site_param(qt_site *q, int k, const char *name, qt_param_kind kind, int64_t count, double value)
{
    QT_ASSERT(k < QT_SITE_PARAMS);
    char *full = qt_arena_sprintf(&q->arena, "%s.%s", q->path, name);
    if (!full) return QT_EMEM;
    q->p[k] = qt_param_add(q->store, full, kind, QT_INIT_CONST(value), 1, &count);
    return q->p[k] ? QT_OK : qt_store_param(q->store, full) ? QT_ERECIPE : QT_EMEM;
}

qt_err qt_site_table(qt_site *q, int k, const char *name, qt_param_kind kind, int rows, int64_t count, double value)
{
    QT_TRY(qt_site_param(q, k, name, kind, rows * count, value));
    if (rows == 1) return QT_OK;
    q->p[k]->rank = 2, q->p[k]->dim[0] = rows, q->p[k]->dim[1] = count;
    qt_store_param_of(q->store, q->p[k])->rows = rows;
    return QT_OK;
}

static void site_free(qt_site *q)
{
    qt_arena_free(&q->arena);
    qt_free(q);
}

static qt_err site_fill(qt_site *q, const char *path, const qt_yaml *spec, const char *spec_path)
{
    const qt_desc *d;
    if (!(q->path = qt_arena_strdup(&q->arena, path))) return QT_EMEM;
    QT_TRY(qt_desc_read(&q->arena, &qt_quants, spec, spec_path, NULL, &d, &q->cfg));
    q->quant = (const qt_quant *)d;
    QT_TRY(q->quant->init(q));
    QT_TRY(qt_grow(&q->store->site, &q->store->cap_site, q->store->n_site + 1, sizeof *q->store->site));
    q->store->site_free = site_free;
    q->store->site[q->store->n_site++] = q;
    return QT_OK;
}

qt_err qt_site_make(qt_store *s, const char *path, qt_role role, int axis, int token_rank, int rank, const int64_t *dim,
                    const qt_yaml *spec, const char *spec_path, qt_site **out)
{
    qt_site *q = qt_alloc(sizeof *q);
    if (!q) return QT_EMEM;
    QT_ASSERT(!s->sealed && rank >= 1 && rank <= QT_MAX_DIM);
    *q = (qt_site){.role = role, .store = s, .axis = axis, .token_rank = token_rank, .rank = rank, .enabled = true, .observing = true};
    if (spec) q->pos = spec->pos;
    memcpy(q->dim, dim, (size_t)rank * sizeof *dim);
    qt_err e = site_fill(q, path, spec, spec_path);
    if (e) site_free(q);
    else *out = q;
    return e;
}

int qt_site_precisions(const qt_site *q, qt_precision list[QT_MAX_PRECISIONS]) { return q->quant->precisions ? q->quant->precisions(q, list) : 0; }

int qt_site_bits(const qt_site *q)
{
    qt_precision list[QT_MAX_PRECISIONS];
    return !qt_site_precisions(q, list) ? 0 : q->now.bits ? q->now.bits : list[0].bits;
}

qt_err qt_site_bits_check(const qt_site *q, const char *name, const qt_ints *bits, int64_t lo, int64_t hi)
{
    if (!bits->n) return qt_site_fail(q, "%s: expected at least one number of bits", name);
    for (int i = 0; i < bits->n; i++) {
        if (bits->v[i] < lo || bits->v[i] > hi)
            return qt_site_fail(q, "%s: expected %lld to %lld bits, found %lld", name, (long long)lo, (long long)hi, (long long)bits->v[i]);
        if (i && bits->v[i] >= bits->v[i - 1]) return qt_site_fail(q, "%s: expected the highest first and none twice, as in [8, 4, 2]", name);
    }
    return QT_OK;
}

int qt_site_bits_row(const qt_site *q, const qt_ints *bits)
{
    for (int i = 0; i < bits->n; i++)
        if (bits->v[i] == q->now.bits) return i;
    return 0;
}

int qt_site_bits_list(const qt_ints *bits, qt_precision list[QT_MAX_PRECISIONS])
{
    if (bits->n < 2) return 0;
    for (int i = 0; i < bits->n; i++) list[i] = (qt_precision){.bits = (int)bits->v[i]};
    return bits->n;
}

bool qt_site_switch(qt_site *q, qt_precision p)
{
    qt_precision list[QT_MAX_PRECISIONS];
    int          n = qt_site_precisions(q, list);
    for (int i = 0; i < n; i++)
        if (qt_precision_same(list[i], p)) return q->now = p, true;
    return false;
}

qt_site *qt_site_new(qt_store *s, const char *path, qt_role role, const char *spec, const qt_tensor *like)
{
    int64_t  dim[QT_MAX_DIM];
    bool     weight = role == QT_ROLE_WEIGHT;
    qt_arena a = {0};
    qt_yaml *y;
    qt_site *q = NULL;
    memcpy(dim, like->dim, sizeof dim);
    if (!weight) dim[0] = 0;
    if (qt_yaml_parse(&a, spec, strlen(spec), path, &y) == QT_OK)
        qt_site_make(s, path, role, weight || like->rank < 2 ? 0 : 1, like->rank == 4 ? 3 : 1, like->rank, dim, y, path, &q);
    if (q) q->pos = (qt_pos){0};
    qt_arena_free(&a);
    return q;
}

qt_tensor *qt_quantize(qt_tape *t, qt_site *q, qt_tensor *x)
{
    if (!q || t->err || !(q->enabled || q->bypass)) return x;
    q->last_x = q->last_y = x;
    if (q->quant->observe && q->observing && (t->train || q->bypass)) q->quant->observe(t, q, x);
    if (q->bypass) return x;
    qt_tensor *y = q->quant->apply(t, q, x);
    q->last_y = y;
    return y;
}

/* ---- codes --------------------------------------------------------------------------------------------------------------------- */

void qt_codes_decode(const qt_codes *c, R *y)
{
    for (int64_t i = 0; i < c->n; i++) {
        int64_t k = i / c->layout.inner % c->layout.count;
        y[i] = c->table ? c->table[c->code[i]] * c->scale[k] : ((R)c->code[i] - (c->zero_point ? c->zero_point[k] : 0)) * c->scale[k];
        if (c->offset) y[i] += c->offset[k];
    }
}

double qt_codes_bits(const qt_codes *c)
{
    double scales = c->scale_codes ? qt_scale_codes_bits(c->scale_codes) : (double)c->layout.count * 32;
    double zeros = c->zero_point ? (double)c->layout.count * (c->real_zero ? 32 : c->bits) : 0;
    return (double)c->n * c->bits + scales + zeros + (c->offset ? (double)c->layout.count * 32 : 0);
}
