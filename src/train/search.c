/* Phase `search`: the subnet that is best at a mean width. A model whose sites hold several precisions has too many subnets to try, so some
 * are measured, a predictor learns accuracy from them, and a genetic search (base/genetic.c) asks it instead.
 *
 *   genes      a step a channel or a tensor for all weights, symmetric or not for all weights, and for all activations; and for each site that
 *              has several widths, its bits. A site with one width is pinned and does not count
 *   allowed    target - 0.5 < mean bits <= target, of the weights' sites and of the activations', each by itself
 *   measured   `samples` random subnets: batch norms recalibrated on `batches` training batches, accuracy on val (test, if there is no val)
 *   predictor  genes as one-hot numbers -> accuracy (predictor.c); tau, on `random` more subnets, says how well it orders those it has not seen
 *
 * What is found is then measured on the test split against these random subnets of the same mean bits. Events of measure: search with
 * accuracy, the random ones' median and best, tau, predicted (on the split that was measured), bits_weights and bits_activations; and
 * subnet.LAYER with the bits of its weight and input. Afterwards everything is as it was before.
 *
 * Xu et al. 2023, "EQ-Net" (ICCV, arXiv 2308.07650): conditional quantization-aware accuracy predictor, and the search with it. */
#include "base/genetic.h"
#include "train/predictor.h"
#include "train/train.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct config {
    double  target, mutation;
    int64_t samples, random, batches, population, rounds, width, steps;
} config;

static const qt_field fields[] = {
    QT_F_REAL(config, target, NULL, 1, 16, "mean bits that are allowed, of weights and of activations"),
    QT_F_INT(config, samples, "100", 2, 1e6, "subnets to measure for the predictor"),
    QT_F_INT(config, random, "20", 2, 1e6, "subnets to test the predictor on, and to compare with"),
    QT_F_INT(config, batches, "8", 0, 1e9, "training batches for batch norms, for each subnet; 0: they stay as they are"),
    QT_F_INT(config, population, "100", 4, 1e6, "subnets that the search begins with: a quarter so many parents, half so many mutants and crossovers"),
    QT_F_INT(config, rounds, "500", 0, 1e6, "rounds of the search"),
    QT_F_REAL(config, mutation, "0.1", 0, 1, "probability that a mutant's gene is drawn again"),
    QT_F_INT(config, width, "400", 1, 4096, "units of each hidden layer of the predictor"),
    QT_F_INT(config, steps, "300", 1, 1e6, "steps that the predictor is trained for"),
    {NULL}};

enum { CHANNEL, WEIGHTS_ASYMMETRIC, ACTS_ASYMMETRIC, CONDITIONS }; /* the first genes */

/* A site whose bits are a gene. */
typedef struct choice {
    qt_site *site;
    int      n, bits[QT_MAX_PRECISIONS];
} choice;

typedef struct search {
    qt_run       *r;
    const config *c;
    qt_arena      arena;
    qt_genetic    g;
    int          *choices;
    choice       *free;   /* [g.genes - CONDITIONS] */
    int64_t       inputs; /* of the predictor */
    qt_predictor *predictor;
    R            *x;      /* room for its inputs */
    int           room;
} search;

/* ---- genes ----------------------------------------------------------------------------------------------------------------- */

static choice choice_of(qt_site *q)
{
    qt_precision list[QT_MAX_PRECISIONS];
    choice       c = {.site = q};
    int          n = qt_site_precisions(q, list);
    for (int i = 0; i < n; i++)
        if (!i || list[i].bits != list[i - 1].bits) c.bits[c.n++] = list[i].bits;
    return c;
}

/* Genes of sites, and whether weights and activations have both symmetries, and weights both granularities. */
static qt_err find_genes(search *s)
{
    qt_store *store = s->r->store;
    size_t    n = (size_t)store->n_site;
    s->choices = qt_arena_alloc(&s->arena, (n + CONDITIONS) * sizeof *s->choices);
    s->free = qt_arena_alloc(&s->arena, n * sizeof *s->free);
    if (!s->choices || !s->free) return QT_EMEM;
    for (int k = 0; k < CONDITIONS; k++) s->choices[k] = 1;
    s->g.genes = CONDITIONS;
    for (int i = 0; i < store->n_site; i++) {
        qt_site     *q = store->site[i];
        qt_precision list[QT_MAX_PRECISIONS];
        const bool   weight = q->role == QT_ROLE_WEIGHT;
        const choice own = choice_of(q);
        for (int k = qt_site_precisions(q, list) - 1; k > 0; k--) {
            if (list[k].channel != list[0].channel && weight) s->choices[CHANNEL] = 2;
            if (list[k].asymmetric != list[0].asymmetric) s->choices[weight ? WEIGHTS_ASYMMETRIC : ACTS_ASYMMETRIC] = 2;
        }
        if (own.n > 1) s->free[s->g.genes - CONDITIONS] = own, s->choices[s->g.genes++] = own.n;
    }
    for (int k = 0; k < s->g.genes; k++) s->inputs += s->choices[k];
    return QT_OK;
}

static void switch_to(search *s, const int *gene)
{
    qt_store *store = s->r->store;
    for (int i = 0, k = 0; i < store->n_site; i++) {
        qt_site   *q = store->site[i];
        const bool weight = q->role == QT_ROLE_WEIGHT, is_free = k < s->g.genes - CONDITIONS && s->free[k].site == q;
        const int  bits = is_free ? s->free[k].bits[gene[CONDITIONS + k]] : 0;
        k += is_free;
        qt_subnet_switch(q, (qt_precision){bits, gene[weight ? WEIGHTS_ASYMMETRIC : ACTS_ASYMMETRIC], weight && gene[CHANNEL]});
    }
    qt_model_follow(s->r->model);
}

/* Mean bits of the free sites that have the role; NaN if none has. */
static double mean_bits(const search *s, const int *gene, bool weights)
{
    double sum = 0, n = 0;
    for (int k = 0; k < s->g.genes - CONDITIONS; k++)
        if ((s->free[k].site->role == QT_ROLE_WEIGHT) == weights) sum += s->free[k].bits[gene[CONDITIONS + k]], n++;
    return n ? sum / n : NAN;
}

/* 1 too wide, -1 too narrow, 0 as allowed. */
static int beyond(const search *s, const int *gene, bool weights)
{
    double mean = mean_bits(s, gene, weights);
    return mean > s->c->target + 1e-9 ? 1 : mean <= s->c->target - 0.5 + 1e-9 ? -1 : 0;
}

static bool valid(void *arg, const int *gene) { return !beyond(arg, gene, true) && !beyond(arg, gene, false); }

/* Random sites go a width down, or up, until the mean is allowed or has been missed too often. */
static void repair(void *arg, qt_rng *r, int *gene)
{
    search *s = arg;
    for (int weights = 0; weights < 2; weights++)
        for (int tries = 0, side; tries < 64 * s->g.genes && (side = beyond(s, gene, weights)) != 0; tries++) {
            int k = (int)qt_rng_below(r, (uint64_t)(s->g.genes - CONDITIONS)), to = gene[CONDITIONS + k] + side; /* bits fall along the choices */
            if ((s->free[k].site->role == QT_ROLE_WEIGHT) == weights && to >= 0 && to < s->free[k].n) gene[CONDITIONS + k] = to;
        }
}

/* ---- measuring ------------------------------------------------------------------------------------------------------------- */

static qt_err measure(search *s, const int *gene, qt_split split, double *accuracy)
{
    qt_result res;
    switch_to(s, gene);
    if (s->c->batches) QT_TRY(qt_recalibrate_bn(s->r, s->c->batches));
    QT_TRY(qt_run_eval(s->r, split, &res, NULL, NULL));
    *accuracy = res.accuracy;
    if (s->r->stop && *s->r->stop) QT_FAIL(QT_ESTOPPED, "stopped while searching; begin it again with: qtape resume %s", s->r->dir);
    return QT_OK;
}

static qt_err measure_all(search *s, int n, const int *genes, qt_split split, double *accuracy)
{
    for (int i = 0; i < n; i++) QT_TRY(measure(s, genes + i * s->g.genes, split, &accuracy[i]));
    return QT_OK;
}

static qt_err draw(search *s, const char *stream, int n, int *genes)
{
    qt_rng r = qt_rng_named((uint64_t)s->r->recipe->seed, "search/%s", stream);
    for (int i = 0; i < n; i++) QT_TRY(qt_genetic_draw(&s->g, &r, genes + i * s->g.genes));
    return QT_OK;
}

/* ---- predicting ------------------------------------------------------------------------------------------------------------ */

static R *one_hot(const search *s, int n, const int *genes)
{
    R *x = s->x;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < s->g.genes; k++)
            for (int c = 0; c < s->choices[k]; c++) *x++ = (R)(c == genes[i * s->g.genes + k]);
    return s->x;
}

static qt_err ask(void *arg, int n, const int *genes, double *value)
{
    search *s = arg;
    for (int i = 0; i < n; i += s->room) {
        const int m = n - i < s->room ? n - i : s->room;
        QT_TRY(qt_predictor_ask(s->predictor, m, one_hot(s, m, genes + i * s->g.genes), value + i));
    }
    return QT_OK;
}

/* ---- the search ------------------------------------------------------------------------------------------------------------ */

typedef struct found {
    int   *gene;
    double accuracy, median, best, tau, predicted;
} found;

static int ascending(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

static qt_err learn(search *s, qt_split split)
{
    const int n = (int)s->c->samples;
    int      *genes = qt_arena_alloc(&s->arena, (size_t)n * (size_t)s->g.genes * sizeof *genes);
    double   *accuracy = qt_arena_alloc(&s->arena, (size_t)n * sizeof *accuracy);
    if (!genes || !accuracy) return QT_EMEM;
    QT_TRY(draw(s, "samples", n, genes));
    QT_TRY(measure_all(s, n, genes, split, accuracy));
    QT_TRY(qt_predictor_new((uint64_t)s->r->recipe->seed, s->inputs, s->c->width, &s->predictor));
    return qt_predictor_fit(s->predictor, n, one_hot(s, n, genes), accuracy, s->c->steps);
}

/* Random subnets: the predictor's tau on them, the median and the best of their accuracies. */
static qt_err compare(search *s, qt_split split, qt_split test, found *f)
{
    const int n = (int)s->c->random;
    int      *genes = qt_arena_alloc(&s->arena, (size_t)n * (size_t)s->g.genes * sizeof *genes);
    double   *v = qt_arena_alloc(&s->arena, 2 * (size_t)n * sizeof *v), *predicted;
    if (!genes || !v) return QT_EMEM;
    predicted = v + n;
    QT_TRY(draw(s, "random", n, genes));
    QT_TRY(measure_all(s, n, genes, split, v));
    QT_TRY(ask(s, n, genes, predicted));
    f->tau = qt_kendall_tau(n, predicted, v);
    if (test != split) QT_TRY(measure_all(s, n, genes, test, v));
    qsort(v, (size_t)n, sizeof *v, ascending);
    f->median = (v[(n - 1) / 2] + v[n / 2]) / 2, f->best = v[n - 1];
    return QT_OK;
}

static void tell_sites(const search *s)
{
    for (int i = 0; i < s->r->model->n; i++) {
        const qt_module  *m = &s->r->model->m[i];
        const char *const name[] = {"weight", "input"};
        const double      bits[] = {m->weight ? qt_site_bits(m->weight) : 0, m->act ? qt_site_bits(m->act) : 0};
        char              path[512];
        if (!m->weight && !m->act) continue;
        snprintf(path, sizeof path, "subnet.%s", m->path);
        qt_metrics_measure(s->r, path, 2, name, bits);
    }
}

static void tell(const search *s, const found *f)
{
    const char *const name[] = {"accuracy", "median", "best", "tau", "predicted", "bits_weights", "bits_activations"};
    const double      v[] = {f->accuracy, f->median, f->best, f->tau, f->predicted, mean_bits(s, f->gene, true), mean_bits(s, f->gene, false)};
    qt_metrics_measure(s->r, "search", 7, name, v);
    tell_sites(s);
    qt_run_log(s->r, "%s  search: %.2f bits of weights, %.2f of activations, accuracy %.2f %%; random ones: median %.2f %%, best %.2f %%; tau %.2f",
               s->r->arm, v[5], v[6], 100 * f->accuracy, 100 * f->median, 100 * f->best, f->tau);
}

static qt_err all(search *s)
{
    const qt_split test = qt_data_size(s->r->data, QT_TEST) ? QT_TEST : qt_run_eval_split(s->r), split = qt_run_eval_split(s->r);
    qt_rng         r = qt_rng_named((uint64_t)s->r->recipe->seed, "search/genetic");
    const int      quarter = (int)s->c->population / 4;
    found          f = {0};
    QT_TRY(find_genes(s));
    s->g = (qt_genetic){s->g.genes, s->choices, valid, repair, ask, s, (int)s->c->population, quarter, 2 * quarter, 2 * quarter, (int)s->c->rounds,
                        s->c->mutation};
    s->room = (int)(s->c->samples > s->c->population ? s->c->samples : s->c->population);
    s->x = qt_arena_alloc(&s->arena, (size_t)s->room * (size_t)s->inputs * sizeof *s->x);
    f.gene = qt_arena_alloc(&s->arena, (size_t)s->g.genes * sizeof *f.gene);
    if (!s->x || !f.gene) return QT_EMEM;
    QT_TRY(learn(s, split));
    QT_TRY(compare(s, split, test, &f));
    QT_TRY(qt_genetic_search(&s->arena, &s->g, &r, f.gene, &f.predicted));
    QT_TRY(measure(s, f.gene, test, &f.accuracy));
    tell(s, &f);
    return QT_OK;
}

static qt_err aside(qt_run *r, const void *cfg)
{
    search s = {.r = r, .c = cfg};
    qt_err e = all(&s);
    qt_predictor_free(s.predictor);
    qt_arena_free(&s.arena);
    return e;
}

static qt_err run(qt_run *r, const void *cfg)
{
    QT_CHECK(!((const config *)cfg)->batches || qt_data_size(r->data, QT_TRAIN) > 0, QT_EUSAGE, "the data have no split 'train'");
    return qt_subnet_aside(r, cfg, aside);
}

/* ---- before the training --------------------------------------------------------------------------------------------------- */

static qt_err suits(const void *cfg, const qt_data_info *data, qt_pos pos)
{
    (void)cfg;
    if (data->classes && !data->ids) return QT_OK;
    return qt_fail_at(QT_ERECIPE, pos, "phases: search goes by accuracy, which data without classes have not");
}

/* Can the mean of weights, and of activations, be as wide as that? */
static qt_err check_model(qt_arena *a, const void *cfg, const qt_model *m)
{
    const double target = ((const config *)cfg)->target;
    (void)a;
    for (int weights = 1; weights >= 0; weights--) {
        double least = 0, most = 0, n = 0;
        for (int i = 0; i < m->store->n_site; i++) {
            choice c = choice_of(m->store->site[i]);
            if (c.n < 2 || (c.site->role == QT_ROLE_WEIGHT) != weights) continue;
            most += c.bits[0], least += c.bits[c.n - 1], n++;
        }
        QT_CHECK(n || !weights, QT_ERECIPE, "phases: search wants weights that can be switched between several widths (elastic)");
        QT_CHECK(!n || (least / n <= target && most / n > target - 0.5), QT_ERECIPE,
                 "phases: search: target %g cannot be reached, mean bits of %s are %g to %g", target, weights ? "weights" : "activations", least / n,
                 most / n);
    }
    return QT_OK;
}

const qt_phase qt_phase_search = {
    {"search", "find the subnet with the best accuracy at a mean width", "Xu et al. 2023, arXiv 2308.07650", fields, sizeof(config)}, run,
    .suits = suits, .check_model = check_model,
    .gives = "search.accuracy|search.median|search.best|search.tau|search.predicted|search.bits_weights|search.bits_activations|"
             "subnet.*.weight|subnet.*.input"};
