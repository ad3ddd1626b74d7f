/* The `scores` section: arms of a recipe scored against one of them, track by track, as benchmarks do.
 *
 *     scores:
 *       base: fp32
 *       arms: [bnn, xnor]
 *       tracks:
 *         - {track: task, metric: test.accuracy}                                     r = value of the arm / value of the base
 *         - {track: complexity, metric: bytes, less: true}                            r = base / arm, for what should be small
 *         - {track: training, metric: test.accuracy, less: true, deviation: [slow]}   the deviation over ARM and ARM-slow takes the value's place
 *
 * Values are means over the seeds. The overall metric of a column, and of a track over all its columns, is the quadratic mean sqrt(mean r^2), in
 * which an arm that is much better weighs more than one that is as much worse. Qin et al. 2023, "BiBench" (arXiv 2301.11233), section 3. A table
 * and no claims: nothing in it can fail. */
#include "nn/build.h"
#include "train/claims.h"
#include <math.h>
#include <string.h>

typedef struct scores {
    const char    *base;
    const qt_yaml *arms, *tracks;
} scores;

typedef struct column {
    const char    *track, *metric;
    bool           less;
    const qt_yaml *deviation;
} column;

static const qt_field score_fields[] = {
    QT_F_STR(scores, base, NULL, "the arm that the others are measured by"),
    QT_F_TREE(scores, arms, NULL, "list of the arms to score"),
    QT_F_TREE(scores, tracks, NULL, "list of {track, metric, less, deviation}"),
    {NULL},
};
static const qt_field column_fields[] = {
    QT_F_STR(column, track, NULL, "name; columns with the same one are scored together too"),
    QT_F_STR(column, metric, NULL, "what is measured, as in claims"),
    QT_F_BOOL(column, less, "false", "less is better: the base's value over the arm's"),
    QT_F_TREE(column, deviation, "~", "list of words w: the deviation over ARM and all ARM-w in place of the value"),
    {NULL},
};

enum { MAX_COLUMNS = 16 };

static qt_err check_list(const qt_yaml *list, const char *path)
{
    if (list->kind != QT_YAML_LIST || !list->n)
        return qt_fail_at(QT_ERECIPE, list->pos, "%s: expected a list, found %s", path, qt_yaml_kind_name(list));
    for (int i = 0; i < list->n; i++)
        if (list->item[i]->kind == QT_YAML_LIST) return qt_fail_at(QT_ERECIPE, list->item[i]->pos, "%s[%d]: expected no list", path, i);
    return QT_OK;
}

static qt_err read_column(const qt_recipe *r, const qt_yaml *y, int i, column *c)
{
    char path[48];
    snprintf(path, sizeof path, "scores.tracks[%d]", i);
    QT_TRY(qt_fields_read(y, path, column_fields, NULL, c));
    if (c->deviation) QT_TRY(check_list(c->deviation, path));
    return qt_claim_check_metric(r, y, path, "metric", c->metric);
}

static qt_err read_scores(const qt_recipe *r, scores *s, column *c)
{
    qt_err e = QT_OK;
    QT_TRY(qt_fields_read(r->scores, "scores", score_fields, NULL, s));
    QT_TRY(check_list(s->arms, "scores.arms"));
    QT_TRY(check_list(s->tracks, "scores.tracks"));
    if (s->tracks->n > MAX_COLUMNS) return qt_fail_at(QT_ERECIPE, s->tracks->pos, "scores.tracks: more than %d", MAX_COLUMNS);
    QT_TRY(qt_claim_check_arm(r, qt_yaml_get(r->scores, "base")->pos, "scores", "base", s->base));
    for (int i = 0; i < s->arms->n; i++)
        e = qt_first(e, qt_claim_check_arm(r, s->arms->item[i]->pos, "scores", "arms", s->arms->item[i]->text ? s->arms->item[i]->text : ""));
    for (int i = 0; i < s->tracks->n; i++) e = qt_first(e, read_column(r, s->tracks->item[i], i, &c[i]));
    return e;
}

qt_err qt_scores_check(const qt_recipe *r)
{
    scores s;
    column c[MAX_COLUMNS] = {0};
    return r->scores ? read_scores(r, &s, c) : QT_OK;
}

/* ---- numbers --------------------------------------------------------------------------------------------------------------- */

static qt_err mean_of(qt_lookup lookup, void *arg, const char *arm, const char *metric, double *v)
{
    qt_sample s = {0};
    QT_TRY(lookup(arg, arm, metric, &s));
    *v = qt_sample_mean(&s); /* NaN without such an arm */
    return QT_OK;
}

/* What column c says of an arm; NaN if there is nothing. */
static qt_err value_of(const column *c, qt_lookup lookup, void *arg, const char *arm, double *v)
{
    qt_sample all = {1};
    if (!c->deviation) return mean_of(lookup, arg, arm, c->metric, v);
    QT_TRY(mean_of(lookup, arg, arm, c->metric, &all.v[0]));
    for (int i = 0; i < c->deviation->n && all.n < 64; i++) {
        char other[256];
        snprintf(other, sizeof other, "%s-%s", arm, c->deviation->item[i]->text ? c->deviation->item[i]->text : "");
        QT_TRY(mean_of(lookup, arg, other, c->metric, &all.v[all.n++]));
    }
    *v = qt_sample_sd(&all);
    return QT_OK;
}

static void print_number(FILE *f, double v)
{
    if (isnan(v)) fprintf(f, " %10s |", "");
    else fprintf(f, " %10.3f |", v);
}

/* sum and count of r^2 */
typedef struct square {
    double sum;
    int    n;
} square;
static void add(square *s, double r) { s->sum += isnan(r) ? 0 : r * r, s->n += !isnan(r); }
static double quadratic_mean(const square *s) { return sqrt(s->sum / s->n); }

static void print_head(FILE *f, const column *c, int n)
{
    fprintf(f, "| %-16s |", "relative score");
    for (int i = 0; i < n; i++) fprintf(f, " %10s |", c[i].track);
    fprintf(f, "\n| ---------------- |");
    for (int i = 0; i < n; i++) fprintf(f, " ---------: |");
    fprintf(f, "\n| %-16s |", "");
    for (int i = 0; i < n; i++) fprintf(f, " %s%s%s |", c[i].deviation ? "deviation of " : "", c[i].metric, c[i].less ? ", less" : "");
    fprintf(f, "\n");
}

qt_err qt_scores_print(FILE *f, const qt_recipe *r, qt_lookup lookup, void *arg)
{
    scores s;
    column c[MAX_COLUMNS] = {0};
    square total[MAX_COLUMNS] = {{0}};
    if (!r->scores) return QT_OK;
    QT_TRY(read_scores(r, &s, c));
    print_head(f, c, s.tracks->n);
    for (int i = 0; i < s.arms->n; i++) {
        fprintf(f, "| %-16s |", s.arms->item[i]->text);
        for (int k = 0; k < s.tracks->n; k++) {
            double v, base;
            QT_TRY(value_of(&c[k], lookup, arg, s.arms->item[i]->text, &v));
            QT_TRY(value_of(&c[k], lookup, arg, s.base, &base));
            v = c[k].less ? base / v : v / base;
            add(&total[k], v), print_number(f, v);
        }
        fprintf(f, "\n");
    }
    fprintf(f, "| %-16s |", "quadratic mean");
    for (int k = 0; k < s.tracks->n; k++) print_number(f, quadratic_mean(&total[k]));
    fprintf(f, "\n| %-16s |", "of the track");
    for (int k = 0; k < s.tracks->n; k++) {
        square track = {0};
        for (int i = 0; i < s.tracks->n; i++)
            if (!strcmp(c[i].track, c[k].track)) track.sum += total[i].sum, track.n += total[i].n;
        print_number(f, quadratic_mean(&track));
    }
    fprintf(f, "\n\n");
    return QT_OK;
}
