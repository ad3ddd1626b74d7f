/* Phase `allocate_bits`: chooses bits for each layer so that their mean is at most `target`, without training: an integer program over what the
 * layers can be switched to. With t_l the trace of the Hessian for layer l (hessian.c) and n_l its weights,
 *
 *     objective: error      min sum_l t_l/n_l 4^-b_l        the squared error of b bits falls by 4 with each bit
 *     objective: printed    min sum_l t_l/n_l b_l           as the paper prints it, among the choices whose mean comes closest to the target
 *     such that  mean_l b_l <= target                       per: weights counts each layer by its weights
 *
 * It is a multiple-choice knapsack, solved exactly (base/knapsack.c). The printed objective gives few bits to sensitive layers, as it rewards
 * low bits where the trace is large; error is what its text describes. A negative trace, which an estimate can be, counts as 0. With pin, every
 * layer in turn is held at every other precision, the rest solved again, and of all these the one with the least loss on training data (val,
 * if there is any) is taken.
 *
 * measure.allocate.accuracy and .loss are those of the test split, .mean_bits is what was reached, allocate.LAYER.bits the choice. The run stays
 * at its highest precision. Huang et al. 2025, arXiv 2502.01199, section 3.3 and appendix; the 4^-b is this program's. */
#include "base/knapsack.h"
#include "train/mix.h"
#include <math.h>

typedef struct config {
    double  target;
    int     objective, per;
    bool    pin;
    int64_t images, draws;
} config;
enum { ERROR, PRINTED };
enum { LAYERS, WEIGHTS };

static const qt_field fields[] = {
    QT_F_REAL(config, target, NULL, 1, 32, "mean bits of a weight that are allowed"),
    QT_F_ENUM(config, per, "layers", "layers|weights", "the mean is over the layers, or over their weights"),
    QT_F_ENUM(config, objective, "error", "error|printed", "what is minimized: trace times 4^-bits, or trace times bits"),
    QT_F_BOOL(config, pin, "false", "try also what comes of holding one layer at another precision, and take the best by measured loss"),
    QT_F_INT(config, images, "1000", 1, 1e9, "training samples that the traces are measured on"),
    QT_F_INT(config, draws, "10", 1, 1e6, "random vectors of that measurement"),
    {NULL}};

/* The program: item k is layer k of the mix, choice j precision j of the model. */
typedef struct program {
    const config *c;
    qt_mix        mix;
    int           n_list;
    qt_precision  list[QT_MAX_PRECISIONS];
    qt_trace     *trace;
    qt_knapsack_choice    *table;
    int64_t       room;
    int          *pick, *best;
} program;

/* ---- the table ------------------------------------------------------------------------------------------------------------------------ */

static bool has_bits(const qt_site *q, int bits)
{
    qt_precision list[QT_MAX_PRECISIONS];
    int          n = qt_site_precisions(q, list);
    for (int i = 0; i < n; i++)
        if (list[i].bits == bits) return true;
    return false;
}

static int64_t weights_of(const program *p, int k) { return p->c->per == WEIGHTS ? p->mix.layer[k]->p[0]->n : 1; }

static qt_knapsack_choice option_of(const program *p, int k, int j)
{
    const int    b = p->list[j].bits;
    const double t = fmax(p->trace[k].trace, 0) / (double)p->trace[k].param->n;
    if (!has_bits(p->mix.layer[k]->weight, b)) return (qt_knapsack_choice){INFINITY, 0};
    return (qt_knapsack_choice){t * (p->c->objective == PRINTED ? b : pow(4, -b)), b * weights_of(p, k)};
}

/* The printed objective would leave room unused: each unit of weight earns more than all costs together. */
static void fill_room(program *p)
{
    double all = 0;
    for (int i = 0; i < p->mix.n * p->n_list; i++) all += isfinite(p->table[i].cost) ? p->table[i].cost : 0;
    for (int i = 0; i < p->mix.n * p->n_list; i++) p->table[i].cost -= (all + 1) * (double)p->table[i].weight;
}

static void fill_table(program *p)
{
    double all = 0;
    for (int k = 0; k < p->mix.n; k++) {
        all += (double)weights_of(p, k);
        for (int j = 0; j < p->n_list; j++) p->table[k * p->n_list + j] = option_of(p, k, j);
    }
    p->room = (int64_t)floor(p->c->target * all + 1e-9);
    if (p->c->objective == PRINTED) fill_room(p);
}

/* ---- solutions ------------------------------------------------------------------------------------------------------------------------ */

static void apply(qt_run *r, const program *p, const int *pick)
{
    for (int k = 0; k < p->mix.n; k++) qt_mix_switch(&p->mix, k, p->list[pick[k]].bits);
    qt_model_follow(r->model);
}

static void keep(program *p) { memcpy(p->best, p->pick, (size_t)p->mix.n * sizeof *p->pick); }

/* Measures the pick, and keeps it if its loss is the least so far. */
static qt_err try_pick(qt_run *r, program *p, double *least)
{
    qt_result res;
    apply(r, p, p->pick);
    QT_TRY(qt_run_eval(r, qt_data_size(r->data, QT_VAL) ? QT_VAL : QT_TRAIN, &res, NULL, NULL));
    if (res.loss < *least) *least = res.loss, keep(p);
    return QT_OK;
}

/* Layer k held at precision j: the others cost all they did, it cannot be anything else. */
static qt_err solve_pinned(qt_run *r, program *p, int k, int j, double *least)
{
    qt_knapsack_choice own[QT_MAX_PRECISIONS], *row = p->table + k * p->n_list;
    double    cost;
    memcpy(own, row, (size_t)p->n_list * sizeof *own);
    for (int i = 0; i < p->n_list; i++)
        if (i != j) row[i].cost = INFINITY;
    qt_err e = qt_knapsack(p->mix.n, p->n_list, p->table, p->room, p->pick, &cost);
    memcpy(row, own, (size_t)p->n_list * sizeof *own);
    if (e == QT_EUSAGE) return qt_error_clear(), QT_OK; /* does not fit */
    return e == QT_OK ? try_pick(r, p, least) : e;
}

static qt_err solve(qt_run *r, program *p)
{
    double least = INFINITY, cost;
    QT_TRY(qt_knapsack(p->mix.n, p->n_list, p->table, p->room, p->pick, &cost));
    keep(p);
    if (!p->c->pin) return QT_OK;
    for (int k = 0; k < p->mix.n; k++)
        for (int j = 0; j < p->n_list; j++)
            if (isfinite(p->table[k * p->n_list + j].cost)) QT_TRY(solve_pinned(r, p, k, j, &least));
    return QT_OK;
}

/* ---- the phase ------------------------------------------------------------------------------------------------------------------------- */

static double mean_bits(const program *p)
{
    double sum = 0, all = 0;
    for (int k = 0; k < p->mix.n; k++) sum += p->list[p->best[k]].bits * (double)weights_of(p, k), all += (double)weights_of(p, k);
    return sum / all;
}

static qt_err report(qt_run *r, const program *p)
{
    qt_split  split = qt_data_size(r->data, QT_TEST) ? QT_TEST : qt_run_eval_split(r);
    qt_result res;
    char      path[512];
    apply(r, p, p->best);
    QT_TRY(qt_run_eval(r, split, &res, NULL, NULL));
    const char *const name[] = {"mean_bits", "loss", res.tokens ? "perplexity" : "accuracy"};
    const double      v[] = {mean_bits(p), res.loss, res.tokens ? exp(res.loss) : res.accuracy};
    for (int k = 0; k < p->mix.n; k++) {
        snprintf(path, sizeof path, "allocate.%s", p->mix.layer[k]->path);
        qt_metrics_measure(r, path, 1, (const char *const[]){"bits"}, (double[]){p->list[p->best[k]].bits});
        qt_run_log(r, "%s  %s: %d bits", r->arm, p->mix.layer[k]->path, p->list[p->best[k]].bits);
    }
    qt_metrics_measure(r, "allocate", res.classes || res.tokens ? 3 : 2, name, v);
    qt_run_log(r, "%s  %.3g bits on average: %s loss %.4f", r->arm, v[0], qt_split_name[split], res.loss);
    return QT_OK;
}

static qt_err allocate(qt_run *r, program *p, qt_arena *a)
{
    const size_t n = (size_t)r->model->n;
    p->n_list = qt_model_precisions(r->model, p->list);
    p->mix.layer = qt_arena_alloc(a, n * sizeof *p->mix.layer), p->trace = qt_arena_alloc(a, n * sizeof *p->trace);
    p->table = qt_arena_alloc(a, n * (size_t)p->n_list * sizeof *p->table);
    p->pick = qt_arena_alloc(a, n * sizeof *p->pick), p->best = qt_arena_alloc(a, n * sizeof *p->best);
    if (!p->mix.layer || !p->trace || !p->table || !p->pick || !p->best) return QT_EMEM;
    p->mix.n = qt_hessian_layers(r->model, true, p->mix.layer);
    QT_TRY(qt_run_traces(r, p->c->images, (int)p->c->draws, p->mix.n, p->mix.layer, p->trace));
    fill_table(p);
    QT_TRY(solve(r, p));
    return report(r, p);
}

static qt_err run(qt_run *r, const void *cfg)
{
    qt_arena a = {0};
    program  p = {.c = cfg};
    qt_err   e = allocate(r, &p, &a);
    qt_model_switch(r->model, (qt_precision){0});
    qt_arena_free(&a);
    return e;
}

static qt_err check_model(qt_arena *a, const void *cfg, const qt_model *m)
{
    qt_precision list[QT_MAX_PRECISIONS];
    const double target = ((const config *)cfg)->target;
    int          n = qt_model_precisions(m, list);
    (void)a;
    QT_CHECK(n > 1, QT_ERECIPE, "phases: allocate_bits wants weights that hold several precisions (double_rounding)");
    QT_CHECK(target >= list[n - 1].bits, QT_ERECIPE, "phases: allocate_bits: a target of %g bits is below the lowest precision of the model, %d", target,
             list[n - 1].bits);
    return QT_OK;
}

const qt_phase qt_phase_allocate_bits = {
    .d = {"allocate_bits", "bits for each layer by an integer program over the traces of the Hessian", "Huang et al. 2025, arXiv 2502.01199, section 3.3",
          fields, sizeof(config)},
    .gives = "allocate.mean_bits|allocate.loss|allocate.accuracy|allocate.perplexity|allocate.*.bits", .run = run, .check_model = check_model};
