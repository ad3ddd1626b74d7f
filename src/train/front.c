/* Claims about Pareto fronts:
 *   {say: TEXT, front: {cost: cost, metric: test.accuracy, arms: [PATTERN, ...]}, on: [ARM, ...], off: [ARM, ...]}
 * Each arm that a pattern matches (default: all) is a point, its means over the seeds. An arm is on the front if no other costs at most as
 * much and is at least as good, one of the two strictly. Of losses and perplexities less is better, of all other metrics more. */
#include "train/claims.h"
#include "base/match.h"
#include <math.h>
#include <stdarg.h>
#include <string.h>

typedef struct claim {
    const char    *say;
    const qt_yaml *front, *on, *off;
} claim;

static const qt_field claim_fields[] = {
    QT_F_STR(claim, say, NULL, "the claim in words"),
    QT_F_TREE(claim, front, NULL, "{cost, metric, arms}: the points"),
    QT_F_TREE(claim, on, "~", "arms that must be on the front"),
    QT_F_TREE(claim, off, "~", "arms that must not"),
    {NULL},
};

typedef struct plane {
    const char    *cost, *metric;
    const qt_yaml *arms;
} plane;

static const qt_field plane_fields[] = {
    QT_F_STR(plane, cost, "cost", "metric of which less is better"),
    QT_F_STR(plane, metric, "test.accuracy", "metric of which more is better, or less of a loss"),
    QT_F_TREE(plane, arms, "~", "patterns of the arms that are points (default: all)"),
    {NULL},
};

/* ---- reading --------------------------------------------------------------------------------------------------------------- */

/* The arms that must or must not be there are points. */
static qt_err check_arms(const qt_recipe *r, const qt_yaml *list, const qt_yaml *points, const char *path, const char *key)
{
    qt_err      e = QT_OK;
    const char *arm;
    if (!list) return QT_OK;
    if (list->kind != QT_YAML_LIST || !list->n)
        return qt_fail_at(QT_ERECIPE, list->pos, "%s.%s: expected a list of arms, found %s", path, key,
                          list->kind == QT_YAML_LIST ? "none" : qt_yaml_kind_name(list));
    for (int i = 0; i < list->n; i++) {
        const qt_yaml *y = list->item[i];
        if (!qt_yaml_str(y, &arm))
            e = qt_fail_at(QT_ERECIPE, y->pos, "%s.%s: expected a list of arms, found %s in it", path, key, qt_yaml_kind_name(y));
        else if (qt_claim_check_arm(r, y->pos, path, key, arm) != QT_OK) e = QT_ERECIPE;
        else if (points && !qt_match_any(points, arm))
            e = qt_fail_at(QT_ERECIPE, y->pos, "%s.%s: arm '%s' is none of the points of front.arms", path, key, arm);
    }
    return e;
}

static qt_err read_claim(const qt_recipe *r, const qt_yaml *y, const char *path, claim *c, plane *p)
{
    char   below[64];
    qt_err e;
    snprintf(below, sizeof below, "%s.front", path);
    QT_TRY(qt_fields_read(y, path, claim_fields, NULL, c));
    QT_TRY(qt_fields_read(c->front, below, plane_fields, NULL, p));
    if (!r->arms) return qt_fail_at(QT_ERECIPE, c->front->pos, "%s: a front needs arms, and the recipe has none", below);
    if (!c->on && !c->off) return qt_fail_at(QT_ERECIPE, y->pos, "%s: expected on or off, found neither", path);
    e = qt_claim_check_metric(r, c->front, below, "cost", p->cost);
    if (qt_claim_check_metric(r, c->front, below, "metric", p->metric) != QT_OK) e = QT_ERECIPE;
    snprintf(below, sizeof below, "%s.front.arms", path);
    if (p->arms) QT_TRY(qt_match_check(p->arms, below));
    if (check_arms(r, c->on, p->arms, path, "on") != QT_OK) e = QT_ERECIPE;
    if (check_arms(r, c->off, p->arms, path, "off") != QT_OK) e = QT_ERECIPE;
    return e;
}

qt_err qt_front_check(const qt_recipe *r, const qt_yaml *y, const char *path)
{
    claim c = {0};
    plane p = {0};
    return read_claim(r, y, path, &c, &p);
}

/* ---- judging --------------------------------------------------------------------------------------------------------------- */

typedef struct point {
    const char *arm;
    double      cost, value; /* NaN: not measured */
    bool        on;
} point;

static bool dominates(const point *p, const point *q)
{
    return p->cost <= q->cost && p->value >= q->value && (p->cost < q->cost || p->value > q->value);
}

/* The points, cheapest first, each knowing whether it is on the front. */
static qt_err place(const qt_recipe *r, const plane *p, qt_lookup lookup, void *arg, point *pt, int *n)
{
    const char *dot = strrchr(p->metric, '.'), *name = dot ? dot + 1 : p->metric;
    double      sign = !strcmp(name, "loss") || !strcmp(name, "perplexity") ? -1 : 1;
    for (int i = *n = 0; i < r->arms->n; i++) {
        qt_sample cost = {0}, value = {0};
        if (p->arms && !qt_match_any(p->arms, r->arms->key[i])) continue;
        QT_TRY(lookup(arg, r->arms->key[i], p->cost, &cost));
        QT_TRY(lookup(arg, r->arms->key[i], p->metric, &value));
        point one = {r->arms->key[i], qt_sample_mean(&cost), sign * qt_sample_mean(&value), false};
        int   at = (*n)++;
        for (; at && pt[at - 1].cost > one.cost; at--) pt[at] = pt[at - 1];
        pt[at] = one;
    }
    for (int i = 0; i < *n; i++) {
        pt[i].on = !isnan(pt[i].cost) && !isnan(pt[i].value);
        for (int k = 0; k < *n; k++) pt[i].on &= !dominates(&pt[k], &pt[i]);
    }
    for (int i = 0; i < *n; i++) pt[i].value *= sign;
    return QT_OK;
}

static void say(qt_verdict *v, const char *fmt, ...) QT_PRINTF(2, 3);
static void say(qt_verdict *v, const char *fmt, ...)
{
    size_t  n = strlen(v->text);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(v->text + n, sizeof v->text - n, fmt, ap);
    va_end(ap);
}

/* Fails the claim for each arm of the list whose place is the other one. */
static void compare(const qt_yaml *list, bool on, const point *pt, int n, qt_verdict *v)
{
    for (int i = 0; list && i < list->n; i++)
        for (int k = 0; k < n; k++)
            if (!strcmp(pt[k].arm, list->item[i]->text) && pt[k].on != on)
                v->pass = false, say(v, "; %s is %son it", pt[k].arm, on ? "not " : "");
}

qt_err qt_front_judge(const qt_recipe *r, const qt_yaml *y, qt_lookup lookup, void *arg, qt_verdict *v)
{
    claim       c = {0};
    plane       p = {0};
    const char *sep = "";
    int         n;
    char        cost[48], value[48];
    QT_TRY(read_claim(r, y, "claims", &c, &p));
    point *pt = qt_arena_alloc(r->arena, (size_t)r->arms->n * sizeof *pt);
    if (!pt) return QT_EMEM;
    QT_TRY(place(r, &p, lookup, arg, pt, &n));
    *v = (qt_verdict){.pass = true};
    say(v, "the front of %d arms: ", n);
    for (int i = 0; i < n; i++)
        if (pt[i].on) {
            qt_claim_number(cost, p.cost, pt[i].cost), qt_claim_number(value, p.metric, pt[i].value);
            say(v, "%s%s (%s, %s)", sep, pt[i].arm, cost, value), sep = ", ";
        }
    compare(c.on, true, pt, n, v), compare(c.off, false, pt, n, v);
    return QT_OK;
}
