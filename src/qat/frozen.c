/* Packing of frozen weights: what the quantizer's encode gives, in the layout of kernels/packed.h. Any quantizer will do whose codes fit a
 * byte; codes of 3 bits take 4, of 5 to 7 bits 8. Where codes and zero points are integers a product with an input of integers is one of
 * integers, as with weights that are trained. */
#include "qat/frozen.h"
#include "base/par.h"
#include <string.h>

static void range_of(const qt_codes *c, int *lo, int *hi)
{
    *lo = *hi = c->code[0];
    for (int64_t i = 0; i < c->n; i++) *lo = c->code[i] < *lo ? c->code[i] : *lo, *hi = c->code[i] > *hi ? c->code[i] : *hi;
}

/* All codes are -1 or 1. */
static bool signs_only(const qt_codes *c)
{
    bool only = true;
    for (int64_t i = 0; i < c->n; i++) only &= c->code[i] == 1 || c->code[i] == -1;
    return only;
}

static qt_err pack_codes(const qt_site *q, const qt_codes *c, int64_t N, int64_t K, qt_arena *a, qt_frozen *f)
{
    int lo, hi;
    range_of(c, &lo, &hi);
    if (hi - lo > 255) return qt_site_fail(q, "frozen weights are kept in codes of at most 8 bits");
    f->base = hi > 127 ? hi - 127 : lo < -128 ? lo + 128 : 0;
    int     bits = qt_packed_bits(lo, hi, signs_only(c));
    size_t  size = qt_packed_size(N, K, bits);
    int32_t *sum = qt_arena_alloc(a, (size_t)N * sizeof *sum);
    void   *data = qt_arena_alloc(a, size);
    int8_t *bytes = qt_alloc((size_t)c->n);
    if (!sum || !data || !bytes) return qt_free(bytes), QT_EMEM;
    for (int64_t i = 0; i < c->n; i++) bytes[i] = (int8_t)(c->code[i] - f->base);
    bool good = qt_packed_fill(&f->codes, N, K, bits, lo - f->base, hi - f->base, bytes, data, sum);
    qt_free(bytes);
    QT_ASSERT(good);
    f->bytes += size + (size_t)N * sizeof *sum;
    return QT_OK;
}

/* A copy of n numbers, NULL of none. */
static qt_err keep(qt_arena *a, const R *x, int64_t n, R **out, size_t *bytes)
{
    *out = NULL;
    if (!x) return QT_OK;
    if (!(*out = qt_arena_alloc(a, (size_t)n * sizeof **out))) return QT_EMEM;
    memcpy(*out, x, (size_t)n * sizeof **out);
    *bytes += (size_t)n * sizeof **out;
    return QT_OK;
}

static qt_err keep_scales(const qt_codes *c, qt_arena *a, qt_frozen *f)
{
    const qt_scale_codes *s = c->scale_codes;
    if (!s) return keep(a, c->scale, c->layout.count, &f->scale, &f->bytes);
    f->scale_codes = *s;
    if (!(f->scale_codes.code = qt_arena_alloc(a, (size_t)s->n))) return QT_EMEM;
    memcpy(f->scale_codes.code, s->code, (size_t)s->n);
    f->bytes += (size_t)s->n;
    return keep(a, s->step, qt_scale_blocks(s), &f->scale_codes.step, &f->bytes);
}

/* What integer products read, where they can: codes and zero points are integers. */
static qt_err describe(const qt_codes *c, qt_arena *a, qt_frozen *f)
{
    if (c->table || c->real_zero || c->offset || f->scale_codes.code) return QT_OK;
    f->integer = (qt_icodes){.packed = &f->codes, .is_signed = true, .lo = f->codes.lo, .hi = f->codes.hi, .n = c->n, .inner = c->layout.inner,
                             .count = c->layout.count, .scale = f->scale};
    if (!c->zero_point && !f->base) return QT_OK;
    if (!(f->stored_zero = qt_arena_alloc(a, (size_t)c->layout.count * sizeof *f->stored_zero))) return QT_EMEM;
    for (int64_t k = 0; k < c->layout.count; k++) f->stored_zero[k] = (c->zero_point ? (int32_t)c->zero_point[k] : 0) - f->base;
    f->integer.zero = f->stored_zero;
    return QT_OK;
}

static qt_err pack(const qt_site *q, const qt_codes *c, int64_t N, int64_t K, qt_arena *a, qt_frozen *f)
{
    *f = (qt_frozen){.inner = c->layout.inner, .count = c->layout.count, .has_table = c->table != NULL, .bits = qt_codes_bits(c)};
    QT_TRY(pack_codes(q, c, N, K, a, f));
    if (c->table) memcpy(f->table, c->table, sizeof f->table);
    QT_TRY(keep_scales(c, a, f));
    QT_TRY(keep(a, c->zero_point, c->layout.count, &f->zero, &f->bytes));
    QT_TRY(keep(a, c->offset, c->layout.count, &f->offset, &f->bytes));
    return describe(c, a, f);
}

/* The state of a quantizer that begins with the first tensor begins with w: one application, in training. */
static qt_err begin_state(qt_site *q, qt_tensor *w, qt_tape *t)
{
    bool any = false;
    for (int k = 0; k < QT_SITE_PARAMS; k++) any |= q->p[k] != NULL;
    if (!any) return QT_OK;
    qt_tape_reset(t);
    qt_tape_mode(t, true, false);
    qt_quantize(t, q, w);
    q->last_x = q->last_y = NULL;
    qt_err e = qt_tape_error(t);
    qt_tape_reset(t);
    return e;
}

qt_err qt_frozen_pack(qt_site *q, qt_tensor *w, qt_tape *t, qt_arena *a, qt_frozen *f)
{
    qt_arena work = {0};
    qt_codes c = {0};
    qt_err   e = begin_state(q, w, t);
    if (e == QT_OK) e = q->quant->encode(q, w, &work, &c);
    if (e == QT_OK) e = pack(q, &c, w->dim[0], w->dim[1], a, f);
    qt_arena_free(&work);
    return e;
}
