/* The conflict meter of GAQAT. Sharpness-aware steps give each number s that a quantizer learns two gradients: g_task at the weights and g_smooth at
 * the perturbed ones. Where they keep opposite signs, s stands where neither wants it. The measure is the disorder of signs in a window of K steps:
 *
 *     D(g_task)           = #{t: sign g_t != sign g_(t-1)} / (K - 1)       how often the pull on s turns; one that never turns has 0
 *     D(g_task, g_smooth) = #{t: sign g_task,t != sign g_smooth,t} / K     how often the two disagree
 *
 * The rule: low disorder is a lasting pull in one direction. Where D < tau in a window, the gradient to be frozen (task, in the paper) does not move s
 * in the next one; it is measured all the same. The first window is free. Controls: always, from the first step on; and random, a coin for each
 * number and window from the second on. With `share: layer` the numbers of a layer's quantizers have one decision, by their mean disorder.
 *
 * Windows do not overlap, so counts and the last signs are all that must be remembered of the signs; they lie in a buffer of the store and survive
 * a resume bit for bit. At the end of a window each parameter has a measure event: disorders, sums of both gradients, `opposite` (the sums have
 * opposite signs), `frozen` in this window, mean `scale` and its standard `deviation` within the window; of a parameter of several numbers, means
 * over them. The path `scales` has what came of all numbers and windows so far: how many `pairs` of them; shares of `opposite` ones and, from the
 * second window on, of frozen ones (`freeze_rate`); `frozen_disorder` is the largest disorder that a frozen number had in the window before.
 *
 * Jiang et al. 2024, "Gradient-adaptive quantization-aware training", arXiv 2412.05551. The exact forms of D and the window are ours, for no code of
 * the authors is public. One decision a layer: FQAT, arXiv 2509.00859, of which the freezing of weights is left out. */
#include "train/conflict.h"
#include <math.h>
#include <string.h>

/* Of each number, in the row of its own. */
enum { TASK_SIGN, SMOOTH_SIGN, TASK_FLIPS, SMOOTH_FLIPS, DIFFER, TASK_SUM, SMOOTH_SUM, START, MOVED, MOVED_SQ, DISORDER, FROZEN, ROW };
/* Of all: numbers x windows; opposite ones; those from the second window on, and frozen ones of them. */
enum { PAIRS, OPPOSITE, LATER, LATER_FROZEN, FROZEN_DISORDER, TOTALS };

#define ROWS_NAME "step.scales"
#define TOTALS_NAME "step.totals"

struct qt_conflict {
    const qt_conflict_cfg *cfg;
    R                     *row, *total;
};

static bool learned(const qt_param *p) { return p->kind == QT_QUANT && !p->frozen && !p->base && !p->outside; }

static int64_t numbers(const qt_store *s)
{
    int64_t n = 0;
    for (int i = 0; i < s->n; i++) n += learned(s->p[i]) ? s->p[i]->t.n : 0;
    return n;
}

qt_err qt_conflict_make(const qt_conflict_cfg *c, qt_model *m, qt_pos pos)
{
    int64_t n = numbers(m->store), rows[] = {n, ROW}, totals[] = {TOTALS};
    if (!n && c->freeze != QT_FREEZE_NONE) return qt_fail_at(QT_ERECIPE, pos, "step.freeze: the model has no quantizer that learns a number");
    if (!n) return QT_OK;
    if (!qt_param_add(m->store, ROWS_NAME, QT_BUFFER, QT_INIT_CONST(0), 2, rows)) return QT_EUSAGE;
    return qt_param_add(m->store, TOTALS_NAME, QT_BUFFER, QT_INIT_CONST(0), 1, totals) ? QT_OK : QT_EUSAGE;
}

qt_err qt_conflict_begin(qt_run *r, const qt_conflict_cfg *c, qt_conflict **out)
{
    const qt_tensor *rows = qt_param_find(r->store, ROWS_NAME), *totals = qt_param_find(r->store, TOTALS_NAME);
    qt_conflict     *k = *out = qt_arena_zalloc(&r->arena, sizeof *k);
    if (!k) return QT_EMEM;
    *k = (qt_conflict){c, rows ? rows->data : NULL, totals ? totals->data : NULL};
    return QT_OK;
}

/* ---- one step --------------------------------------------------------------------------------------------------------------------- */

static R sign(R v) { return (R)((v > 0) - (v < 0)); }

/* Step t of a window into the row of a number s. */
static void count(R *row, int64_t t, R s, R task, R smooth)
{
    if (t == 0) {
        for (int i = 0; i < DISORDER; i++) row[i] = 0;
        row[START] = s;
    } else {
        row[TASK_FLIPS] += (R)(sign(task) != row[TASK_SIGN]);
        row[SMOOTH_FLIPS] += (R)(sign(smooth) != row[SMOOTH_SIGN]);
    }
    row[TASK_SIGN] = sign(task), row[SMOOTH_SIGN] = sign(smooth);
    row[DIFFER] += (R)(sign(task) != sign(smooth));
    row[TASK_SUM] += task, row[SMOOTH_SUM] += smooth;
    row[MOVED] += s - row[START], row[MOVED_SQ] += (s - row[START]) * (s - row[START]);
}

static bool is_frozen(const qt_conflict_cfg *c, const R *row)
{
    return c->freeze != QT_FREEZE_NONE && (c->when == QT_WHEN_ALWAYS || row[FROZEN] != 0);
}

/* ---- the end of a window ---------------------------------------------------------------------------------------------------------- */

static const char *const names[] = {"disorder_task", "disorder_smooth", "disorder_between", "sum_task", "sum_smooth",
                                    "opposite",      "frozen",          "scale",            "deviation"};
enum { VALUES = sizeof names / sizeof *names };

/* Of the gradient that may be frozen. */
static double disorder(const qt_conflict_cfg *c, const R *row)
{
    return (double)row[c->freeze == QT_FREEZE_SMOOTH ? SMOOTH_FLIPS : TASK_FLIPS] / (double)(c->window - 1);
}

/* Length of LAYER in LAYER.TENSOR.NUMBER. */
static int layer_of(const char *name)
{
    const char *end = name + strlen(name);
    for (int dots = 0; end > name && dots < 2;) dots += *--end == '.';
    return (int)(end - name);
}

/* Mean over the numbers of a layer. */
static double layer_disorder(const qt_run *r, const qt_conflict *k, const char *name)
{
    const R *row = k->row;
    int      n = layer_of(name);
    double   sum = 0, count = 0;
    for (int i = 0; i < r->store->n; i++) {
        const qt_param *p = r->store->p[i];
        if (!learned(p)) continue;
        bool same = layer_of(p->t.name) == n && !strncmp(p->t.name, name, (size_t)n);
        for (int64_t j = 0; j < p->t.n; j++, row += ROW) sum += same ? disorder(k->cfg, row) : 0, count += same;
    }
    return sum / count;
}

static bool opposite(const R *row) { return sign(row[TASK_SUM]) * sign(row[SMOOTH_SUM]) < 0; }

/* Adds what the window was like to v, the means over n numbers. */
static void describe(const qt_conflict_cfg *c, const R *row, double n, double v[VALUES])
{
    double K = (double)c->window, moved = (double)row[MOVED] / K;
    double one[VALUES] = {(double)row[TASK_FLIPS] / (K - 1), (double)row[SMOOTH_FLIPS] / (K - 1), (double)row[DIFFER] / K, (double)row[TASK_SUM],
                          (double)row[SMOOTH_SUM], opposite(row), is_frozen(c, row), (double)row[START] + moved,
                          sqrt(fmax(0, (double)row[MOVED_SQ] / K - moved * moved))};
    for (int i = 0; i < VALUES; i++) v[i] += one[i] / n;
}

static void add_totals(const qt_conflict_cfg *c, const R *row, bool later, R *total)
{
    total[PAIRS] += 1, total[OPPOSITE] += (R)opposite(row);
    if (!later) return;
    total[LATER] += 1, total[LATER_FROZEN] += (R)is_frozen(c, row);
    if (is_frozen(c, row) && row[DISORDER] > total[FROZEN_DISORDER]) total[FROZEN_DISORDER] = row[DISORDER];
}

/* For the next window; coin is a uniform number. */
static void decide(const qt_conflict_cfg *c, R *row, double D, double coin)
{
    row[DISORDER] = (R)D;
    row[FROZEN] = (R)(c->freeze != QT_FREEZE_NONE && (c->when == QT_WHEN_DISORDER ? D < c->tau : coin < c->rate));
}

/* For the numbers of parameter p, whose rows begin at row. */
static void decide_all(const qt_run *r, const qt_conflict *k, const qt_param *p, R *row)
{
    bool    share = k->cfg->share == QT_SHARE_LAYER;
    int     named = share ? layer_of(p->t.name) : (int)strlen(p->t.name);
    int64_t window = r->step / k->cfg->window;
    qt_rng  draw = qt_rng_named((uint64_t)r->recipe->seed, "step/freeze/%.*s/%lld", named, p->t.name, (long long)window);
    double  D = share ? layer_disorder(r, k, p->t.name) : 0, coin = qt_rng_uniform(&draw);
    for (int64_t j = 0; j < p->t.n; j++, row += ROW) {
        decide(k->cfg, row, share ? D : disorder(k->cfg, row), coin);
        if (!share) coin = qt_rng_uniform(&draw);
    }
}

/* An event says how many steps are done; this one is, but for the optimizer. */
static void write_event(qt_run *r, const char *path, int n, const char *const *name, const double *v)
{
    r->step++;
    qt_metrics_measure(r, path, n, name, v);
    r->step--;
}

static void write_totals(qt_run *r, const R *total)
{
    static const char *const name[] = {"pairs", "opposite", "freeze_rate", "frozen_disorder"};
    double pairs = (double)total[PAIRS], later = fmax(1, (double)total[LATER]);
    double v[] = {pairs, (double)total[OPPOSITE] / pairs, (double)total[LATER_FROZEN] / later, (double)total[FROZEN_DISORDER]};
    write_event(r, "scales", 4, name, v);
}

static void end_window(qt_run *r, qt_conflict *k)
{
    bool later = r->step >= k->cfg->window;
    R   *row   = k->row;
    for (int i = 0; i < r->store->n; i++) {
        const qt_param *p = r->store->p[i];
        double          v[VALUES] = {0};
        if (!learned(p)) continue;
        for (int64_t j = 0; j < p->t.n; j++) {
            describe(k->cfg, row + j * ROW, (double)p->t.n, v);
            add_totals(k->cfg, row + j * ROW, later, k->total);
        }
        decide_all(r, k, p, row);
        row += p->t.n * ROW;
        write_event(r, p->t.name, VALUES, names, v);
    }
    write_totals(r, k->total);
}

void qt_conflict_step(qt_run *r, qt_conflict *k, R *task, R *smooth)
{
    int64_t t   = r->step % k->cfg->window;
    R      *row = k->row;
    for (int i = 0; row && i < r->store->n; i++) {
        const qt_param *p = r->store->p[i];
        if (!learned(p)) continue;
        for (int64_t j = 0, at = p->at; j < p->t.n; j++, at++, row += ROW) {
            count(row, t, p->t.data[j], task[at], smooth[at]);
            if (is_frozen(k->cfg, row)) (k->cfg->freeze == QT_FREEZE_TASK ? task : smooth)[at] = 0;
        }
    }
    if (k->row && t == k->cfg->window - 1) end_window(r, k);
}
