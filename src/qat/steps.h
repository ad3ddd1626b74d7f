/* What the quantizers with learned steps (lsq.c, lsq_plus.c) share: the guarded step, and all gradients in one pass. With
 * u = (x - o)/s and m = [n < u < p]:
 *
 *     dx = dy m,     ds = sum dy (clamp(round(u), n, p) - m u),     do = sum dy (1 - m)
 *
 * Sums run in LANES lanes of R over BLOCK numbers, and then in double: as fast as R alone, and the error of a sum stays that of BLOCK/LANES
 * additions. u is divided again: outside the cache that costs less than reading y, of which y - m x = s (clamp(round(u), n, p) - m u). */
#ifndef QT_QAT_STEPS_H
#define QT_QAT_STEPS_H
#include "qat/grid.h"

enum { QT_STEP_LANES = 16, QT_STEP_BLOCK = 1024 };

typedef struct qt_step_sums {
    double ds, doff;
} qt_step_sums;
typedef enum qt_step_dx { QT_DX_NONE, QT_DX_STORE, QT_DX_ADD } qt_step_dx;

/* What backward does with the gradient of x. */
static inline qt_step_dx qt_step_mode(qt_tensor *x) { return !x->grad ? QT_DX_NONE : qt_grad_first(x) ? QT_DX_STORE : QT_DX_ADD; }

static inline R qt_step_guard(R s) { return fabs(s) < 1e-8 ? (R)1e-8 : (R)fabs(s); }

/* Guarded steps as the scales of a grid. */
static inline qt_err qt_step_grid(const R *s, qt_arena *arena, qt_grid *g)
{
    QT_TRY(qt_grid_alloc(arena, g, false));
    for (int64_t k = 0; k < g->layout.count; k++) g->scale[k] = qt_step_guard(s[k]);
    return QT_OK;
}

/* One element. */
QT_INLINE void qt_step_one(R *dx, R dy, R x, R s, R o, R qn, R qp, qt_step_dx mode, R *ds, R *doff)
{
    R    u = (x - o) / s;
    bool m = (u > qn) & (u < qp);
    if (mode == QT_DX_STORE) *dx = qt_keep(m, dy);
    if (mode == QT_DX_ADD) *dx += qt_keep(m, dy);
    *ds += dy * (qt_clip(qt_round(u), qn, qp) - qt_keep(m, u));
    if (doff) *doff += dy - qt_keep(m, dy);
}

#define QT_STEP_AT(dx, i, mode) ((mode) == QT_DX_NONE ? NULL : (dx) + (i))

/* One run; dx is stored, added or left alone. Put it into a function with QT_CLONES, with mode and with_offset constant. */
QT_INLINE qt_step_sums qt_step_run(R *restrict dx, const R *restrict dy, const R *restrict x, int64_t n, R s, R o, R qn, R qp, qt_step_dx mode,
                                   bool with_offset)
{
    qt_step_sums sum = {0, 0};
    for (int64_t b = 0; b < n; b += QT_STEP_BLOCK) {
        R       ds[QT_STEP_LANES] = {0}, doff[QT_STEP_LANES] = {0};
        int64_t i = b, e = qt_min_i64(n, b + QT_STEP_BLOCK);
        for (; i + QT_STEP_LANES <= e; i += QT_STEP_LANES)
            for (int l = 0; l < QT_STEP_LANES; l++)
                qt_step_one(QT_STEP_AT(dx, i + l, mode), dy[i + l], x[i + l], s, o, qn, qp, mode, &ds[l], with_offset ? &doff[l] : NULL);
        for (int l = 0; i < e; i++, l++)
            qt_step_one(QT_STEP_AT(dx, i, mode), dy[i], x[i], s, o, qn, qp, mode, &ds[l], with_offset ? &doff[l] : NULL);
        for (int l = 0; l < QT_STEP_LANES; l++) sum.ds += (double)ds[l], sum.doff += (double)doff[l];
    }
    return sum;
}

/* sum over the pieces of each scale, times g, into a gradient. */
static inline void qt_step_add(qt_tensor *s, const qt_cut *c, const double *partial, double g)
{
    bool first;
    if (!s || !s->grad) return;
    first = qt_grad_first(s);
    for (int64_t k = 0; k < c->count; k++) s->grad[k] = (first ? 0 : s->grad[k]) + (R)(g * qt_cut_sum(c, partial, k));
}

/* After a step of the optimizer: steps that it has pushed to zero or below. */
static inline void qt_steps_guard(qt_tensor *s)
{
    for (int64_t k = 0; k < s->n; k++) s->data[k] = qt_step_guard(s->data[k]);
}
#endif
