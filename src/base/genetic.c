/* Genetic search, as Guo et al., "Single path one-shot neural architecture search", ECCV 2020, algorithm 1, and many others:
 *
 *     population random lists that the constraint allows;       each round:
 *     parents    = the best `parents` of all there are, equal ones counted once
 *     mutants    = a random parent, each gene drawn again with probability `mutation`
 *     crossovers = two random parents, each gene from either with equal chance
 *
 * A new list is repaired, and made anew while the constraint does not allow it; after TRIES in vain it is left out of its round. The best list
 * is always a parent, so it never gets worse. Left out: fitness sharing, islands. */
#include "base/genetic.h"
#include "base/err.h"
#include <math.h>
#include <string.h>

enum { TRIES = 1000 };

/* All lists of a round, parents first. */
typedef struct pool {
    int    *list;  /* [n, genes] */
    double *value; /* [n] */
    int     n, known; /* the first `known` have their value */
} pool;

static int *at(const qt_genetic *g, const pool *p, int i) { return p->list + (int64_t)i * g->genes; }

static void draw(const qt_genetic *g, const pool *p, qt_rng *r, int *list)
{
    (void)p;
    for (int i = 0; i < g->genes; i++) list[i] = (int)qt_rng_below(r, (uint64_t)g->choices[i]);
}

static void mutate(const qt_genetic *g, const pool *p, qt_rng *r, int *list)
{
    memcpy(list, at(g, p, (int)qt_rng_below(r, (uint64_t)p->known)), (size_t)g->genes * sizeof *list);
    for (int i = 0; i < g->genes; i++)
        if (qt_rng_uniform(r) < g->mutation) list[i] = (int)qt_rng_below(r, (uint64_t)g->choices[i]);
}

static void cross(const qt_genetic *g, const pool *p, qt_rng *r, int *list)
{
    const int *a = at(g, p, (int)qt_rng_below(r, (uint64_t)p->known)), *b = at(g, p, (int)qt_rng_below(r, (uint64_t)p->known));
    for (int i = 0; i < g->genes; i++) list[i] = qt_rng_u32(r) & 1 ? a[i] : b[i];
}

/* False if nothing that the constraint allows came out. */
static bool make(const qt_genetic *g, const pool *p, qt_rng *r, void (*how)(const qt_genetic *, const pool *, qt_rng *, int *), int *list)
{
    for (int i = 0; i < TRIES; i++) {
        how(g, p, r, list);
        if (g->repair) g->repair(g->arg, r, list);
        if (!g->valid || g->valid(g->arg, list)) return true;
    }
    return false;
}

static void add(const qt_genetic *g, pool *p, qt_rng *r, int n, void (*how)(const qt_genetic *, const pool *, qt_rng *, int *))
{
    for (int i = 0; i < n; i++) p->n += make(g, p, r, how, at(g, p, p->n));
}

static bool among(const qt_genetic *g, const pool *p, int n, const int *list)
{
    for (int i = 0; i < n; i++)
        if (!memcmp(at(g, p, i), list, (size_t)g->genes * sizeof *list)) return true;
    return false;
}

/* Values of the new ones; then the best different ones of `from` become the lists of `to`. */
static qt_err select_parents(const qt_genetic *g, pool *from, pool *to)
{
    QT_TRY(g->fitness(g->arg, from->n - from->known, at(g, from, from->known), from->value + from->known));
    for (to->n = 0; to->n < g->parents;) {
        int best = -1;
        for (int i = 0; i < from->n; i++)
            if (from->value[i] > -HUGE_VAL && (best < 0 || from->value[i] > from->value[best])) best = i;
        if (best < 0) break;
        if (!among(g, to, to->n, at(g, from, best))) {
            memcpy(at(g, to, to->n), at(g, from, best), (size_t)g->genes * sizeof(int));
            to->value[to->n++] = from->value[best];
        }
        from->value[best] = -HUGE_VAL;
    }
    to->known = to->n;
    return to->n ? QT_OK : qt_fail(QT_EDATA, "genetic search: no list has a fitness that is a number");
}

static qt_err pool_new(qt_arena *a, const qt_genetic *g, int n, pool *p)
{
    *p = (pool){.list = qt_arena_alloc(a, (size_t)n * (size_t)g->genes * sizeof(int)), .value = qt_arena_alloc(a, (size_t)n * sizeof(double))};
    return p->list && p->value ? QT_OK : QT_EMEM;
}

static qt_err nothing_allowed(void) { return qt_fail(QT_EUSAGE, "genetic search: the constraint allows none of %d random lists", TRIES); }

qt_err qt_genetic_draw(const qt_genetic *g, qt_rng *r, int *list) { return make(g, NULL, r, draw, list) ? QT_OK : nothing_allowed(); }

qt_err qt_genetic_search(qt_arena *a, const qt_genetic *g, qt_rng *r, int *list, double *value)
{
    const int room = (g->population > g->parents ? g->population : g->parents) + g->mutants + g->crossovers;
    pool      now, next;
    QT_TRY(pool_new(a, g, room, &now));
    QT_TRY(pool_new(a, g, room, &next));
    add(g, &now, r, g->population, draw);
    if (!now.n) return nothing_allowed();
    for (int round = 0;; round++) {
        QT_TRY(select_parents(g, &now, &next));
        if (round == g->rounds) break;
        add(g, &next, r, g->mutants, mutate);
        add(g, &next, r, g->crossovers, cross);
        pool swap = now;
        now = next, next = swap;
    }
    memcpy(list, next.list, (size_t)g->genes * sizeof *list);
    *value = next.value[0];
    return QT_OK;
}
