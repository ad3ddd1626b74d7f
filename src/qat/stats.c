/* Running statistics: one partial result a piece, added in order; within a piece fixed lanes. See stats.h. */
#include "qat/stats.h"

enum { LANES = 8 };

typedef struct part {
    R      max, min;
    double abs, sq, n;
} part;

QT_INLINE void take(part *p, R x, bool skip_zeros)
{
    const bool counts = !(skip_zeros & (x == 0));
    p->max = (counts & (x > p->max)) ? x : p->max, p->min = (counts & (x < p->min)) ? x : p->min;
    p->abs += fabs((double)x), p->sq += (double)x * (double)x, p->n += counts;
}

static part joined(part p, part q)
{
    return (part){q.max > p.max ? q.max : p.max, q.min < p.min ? q.min : p.min, p.abs + q.abs, p.sq + q.sq, p.n + q.n};
}

static const part nothing = {(R)-INFINITY, (R)INFINITY, 0, 0, 0};

QT_CLONES static part measure(const R *x, int64_t n, bool skip_zeros)
{
    part    lane[LANES], all = nothing;
    int64_t i = 0;
    for (int l = 0; l < LANES; l++) lane[l] = nothing;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) take(&lane[l], x[i + l], skip_zeros);
    for (; i < n; i++) take(&lane[0], x[i], skip_zeros);
    for (int l = 0; l < LANES; l++) all = joined(all, lane[l]);
    return all;
}

static void move(R *m, double batch, double c) { *m += (R)c * ((R)batch - *m); }

qt_err qt_stats_update(const qt_stats *s, const qt_tensor *x, qt_layout l, double c, bool skip_zeros, qt_arena *a)
{
    qt_cut cut = qt_cut_of(l, x->n);
    part  *p = qt_arena_alloc(a, (size_t)cut.pieces * sizeof *p);
    if (!p) return QT_EMEM;
    QT_FOR_EACH(j, cut.pieces, cut.many) {
        qt_piece at = qt_piece_of(&cut, j);
        p[j] = measure(x->data + at.at, at.n, skip_zeros);
    }
    for (int64_t k = 0; k < l.count; k++) {
        part all = nothing;
        for (int64_t j = k * cut.per_run; j < cut.pieces; j += l.count * cut.per_run)
            for (int64_t i = 0; i < cut.per_run; i++) all = joined(all, p[j + i]);
        if (!(all.n > 0)) continue;
        const double now = s->mean_sq[k] == 0 ? 1 : c; /* the first batch is taken as it is */
        move(&s->max[k], (double)all.max, now), move(&s->min[k], (double)all.min, now);
        move(&s->mean_abs[k], all.abs / all.n, now), move(&s->mean_sq[k], all.sq / all.n, now);
    }
    return QT_OK;
}
