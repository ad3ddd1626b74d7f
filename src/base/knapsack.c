/* Multiple-choice knapsack, exactly. After item i only those partial sums (weight, cost) matter that no other beats in both: a state that is
 * heavier and not cheaper than another cannot be part of a better whole. So the list of undominated states, by rising weight and falling cost,
 * is carried from item to item (Nemhauser, Ullmann 1969); each state remembers the one it came from. With few choices of few bits, as in
 * the allocation of bits to layers, the lists stay short; their worst case grows without bound, and is refused. */
#include "base/knapsack.h"
#include "base/mem.h"
#include <math.h>
#include <stdlib.h>

enum { MOST = 1 << 22 }; /* states in all */

typedef struct state {
    double  cost;
    int64_t weight;
    int     from, choice; /* index of the state before, and what was chosen there */
} state;

static int lighter(const void *a, const void *b)
{
    const state *x = a, *y = b;
    if (x->weight != y->weight) return x->weight < y->weight ? -1 : 1;
    if (x->cost != y->cost) return x->cost < y->cost ? -1 : 1;
    return x->from != y->from ? (x->from > y->from) - (x->from < y->from) : (x->choice > y->choice) - (x->choice < y->choice);
}

/* Keeps the states that no lighter one is as cheap as; the count. */
static int prune(state *s, int n)
{
    int kept = 0;
    qsort(s, (size_t)n, sizeof *s, lighter);
    for (int i = 0; i < n; i++)
        if (!kept || s[i].cost < s[kept - 1].cost) s[kept++] = s[i];
    return kept;
}

/* All states after one more item, from s[begin..end), appended behind them; the count after pruning. */
static int extend(state *s, int begin, int end, int choices, const qt_knapsack_choice *c, int64_t room)
{
    int n = 0;
    for (int i = begin; i < end; i++)
        for (int k = 0; k < choices; k++)
            if (isfinite(c[k].cost) && c[k].weight <= room - s[i].weight)
                s[end + n++] = (state){s[i].cost + c[k].cost, s[i].weight + c[k].weight, i, k};
    return prune(s + end, n);
}

static qt_err solve(int items, int choices, const qt_knapsack_choice *table, int64_t room, state **list, int *cap, int *last)
{
    int begin = 0, end = 1;
    for (int i = 0; i < items; i++) {
        int64_t most = end + (int64_t)(end - begin) * choices;
        QT_CHECK(most <= MOST, QT_EUSAGE, "knapsack: %d items of %d choices are more than can be solved exactly", items, choices);
        QT_TRY(qt_grow(list, cap, (int)most, sizeof **list));
        int n = extend(*list, begin, end, choices, table + (int64_t)i * choices, room);
        QT_CHECK(n, QT_EUSAGE, "knapsack: no choice fits %lld", (long long)room);
        begin = end, end += n;
    }
    *last = end - 1; /* the cheapest is the heaviest */
    return QT_OK;
}

qt_err qt_knapsack(int items, int choices, const qt_knapsack_choice *table, int64_t room, int *pick, double *cost)
{
    state *list = NULL;
    int    cap = 0, at = 0;
    QT_CHECK(room >= 0, QT_EUSAGE, "knapsack: no choice fits %lld", (long long)room);
    QT_TRY(qt_grow(&list, &cap, 1, sizeof *list));
    list[0] = (state){0};
    qt_err e = solve(items, choices, table, room, &list, &cap, &at);
    if (e == QT_OK) *cost = list[at].cost;
    for (int i = items - 1; e == QT_OK && i >= 0; at = list[at].from, i--) pick[i] = list[at].choice;
    qt_free(list);
    return e;
}
