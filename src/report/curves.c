/* What was measured over the steps of training: one plot a quantity, all arms in it, seeds as thin lines and their mean bold; more arms than
 * colours hold apart get a plot each, with the others in grey. And what phases and meters have measured, by their own names. */
#include "report/html.h"
#include "report/sections.h"
#include "report/svg.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOGETHER = 6, BINS = 60, MAX_PLOTS = 24 };

typedef struct quantity {
    const char *event, *where, *key, *title, *name;
    qt_unit     unit;
} quantity;

static const qt_series *series_of(const qt_trial *t, const quantity *q) { return qt_events_find(&t->log, q->event, q->where, q->key); }

/* Points of the longest run of an arm; 0 if there is none with two, for one point is no curve. */
static int longest(const qt_arm *a, const quantity *q)
{
    int n = 1;
    for (int k = 0; k < a->n; k++) {
        const qt_series *s = series_of(&a->trial[k], q);
        if (s && s->n > n) n = s->n;
    }
    return n > 1 ? n : 0;
}

/* ---- the mean of several runs ---------------------------------------------------------------------------------------------------------- */

typedef struct curve {
    int    n;
    double x[BINS], y[BINS], count[BINS];
} curve;

static double end_of(const qt_arm *a, const quantity *q)
{
    double end = 0;
    for (int k = 0; k < a->n; k++) {
        const qt_series *s = series_of(&a->trial[k], q);
        for (int i = 0; s && i < s->n; i++) end = fmax(end, s->step[i]);
    }
    return end;
}

static void add_point(curve *c, int i, double x, double y) { c->x[i] += x, c->y[i] += y, c->count[i]++; }

/* Where few steps were measured, the mean at each; otherwise over intervals of equal length. */
static void mean_curve(const qt_arm *a, const quantity *q, curve *c)
{
    bool   few = longest(a, q) <= BINS;
    double end = end_of(a, q) + 1;
    *c = (curve){0};
    for (int k = 0; k < a->n; k++) {
        const qt_series *s = series_of(&a->trial[k], q);
        for (int i = 0; s && i < s->n; i++) add_point(c, few ? i : (int)fmax(s->step[i] / end * BINS, 0), s->step[i], s->value[i]);
    }
    for (int i = 0; i < BINS; i++)
        if (c->count[i]) c->x[c->n] = c->x[i] / c->count[i], c->y[c->n++] = c->y[i] / c->count[i];
}

/* ---- plots ----------------------------------------------------------------------------------------------------------------------------- */

static void cover(qt_plot *p, const qt_chapter *c, const quantity *q)
{
    for (int i = 0; i < c->n; i++)
        for (int k = 0; longest(&c->arm[i], q) && k < c->arm[i].n; k++) {
            const qt_series *s = series_of(&c->arm[i].trial[k], q);
            if (s) qt_axis_cover(&p->x, s->n, s->step), qt_axis_cover(&p->y, s->n, s->value);
        }
    if (q->unit != QT_PERCENT) qt_axis_choose(&p->y);
}

static void draw_arm(qt_plot *p, const qt_arm *a, const quantity *q, int colour, bool seeds)
{
    char  classes[24];
    curve c;
    if (!longest(a, q)) return;
    snprintf(classes, sizeof classes, "thin c%d", colour);
    for (int k = 0; seeds && k < a->n; k++) {
        const qt_series *s = series_of(&a->trial[k], q);
        if (s) qt_plot_line(p, s->n, s->step, s->value, classes);
    }
    mean_curve(a, q, &c);
    snprintf(classes, sizeof classes, seeds ? "line c%d" : "thin rest", colour);
    qt_plot_line(p, c.n, c.x, c.y, classes);
    snprintf(classes, sizeof classes, "dot c%d", colour);
    for (int i = 0; seeds && c.n <= 12 && i < c.n; i++) qt_plot_dot(p, c.x[i], c.y[i], 2.6, classes, NULL);
    if (seeds) qt_plot_label(p, c.y[c.n - 1], colour, a->name);
}

static void caption(FILE *f, const char *title, const char *more)
{
    fputs("<figure><figcaption>", f), qt_html_text(f, title);
    if (more) fputs(" <span>", f), qt_html_text(f, more), fputs("</span>", f);
    fputs("</figcaption>\n", f);
}

static int widest(const qt_chapter *c, const quantity *q)
{
    int most = 0;
    for (int i = 0; i < c->n; i++)
        if (longest(&c->arm[i], q) && (int)strlen(c->arm[i].name) > most) most = (int)strlen(c->arm[i].name);
    return most < 18 ? most : 18;
}

static void put_together(FILE *f, const qt_chapter *c, const quantity *q)
{
    qt_plot p = {.x = {.name = "step"}, .y = {.name = q->name, .unit = q->unit}, .right = widest(c, q)};
    int     colour = 0;
    cover(&p, c, q);
    caption(f, q->title, NULL);
    qt_plot_begin(&p, f, q->title);
    for (int i = 0; i < c->n; i++)
        if (longest(&c->arm[i], q)) draw_arm(&p, &c->arm[i], q, colour++, true);
    qt_plot_end(&p);
    fputs("</figure>\n", f);
}

static void put_apart(FILE *f, const qt_chapter *c, const quantity *q, bool open)
{
    fprintf(f, "<details%s><summary>", open ? " open=\"open\"" : ""), qt_html_text(f, q->title), fputs(", each arm before the others</summary>\n<div class=\"plots\">\n", f);
    for (int i = 0; i < c->n; i++) {
        qt_plot p = {.height = 200, .x = {.name = "step"}, .y = {.name = q->name, .unit = q->unit}};
        if (!longest(&c->arm[i], q)) continue;
        cover(&p, c, q);
        caption(f, c->arm[i].name, NULL);
        qt_plot_begin(&p, f, q->title);
        for (int k = 0; k < c->n; k++)
            if (k != i) draw_arm(&p, &c->arm[k], q, 0, false);
        draw_arm(&p, &c->arm[i], q, 0, true);
        p.n_labels = 0; /* its name stands above */
        qt_plot_end(&p);
        fputs("</figure>\n", f);
    }
    fputs("</div></details>\n", f);
}

static int curves_of(const qt_chapter *c, const quantity *q)
{
    int n = 0;
    for (int i = 0; i < c->n; i++) n += longest(&c->arm[i], q) > 0;
    return n;
}

void qt_section_curves(FILE *f, const qt_chapter *c)
{
    static const quantity all[] = {
        {"step", "train", "loss", "Training loss", "nats", QT_PLAIN},
        {"step", "train", "accuracy", "Training accuracy, a batch at a time", NULL, QT_PERCENT},
        {"eval", "val", "loss", "Validation loss", "nats", QT_PLAIN},
        {"eval", "val", "accuracy", "Validation accuracy", NULL, QT_PERCENT},
        {"eval", "val", "perplexity", "Validation perplexity", NULL, QT_PLAIN},
        {"eval", "test", "loss", "Test loss", "nats", QT_PLAIN},
        {"eval", "test", "accuracy", "Test accuracy", NULL, QT_PERCENT},
        {"eval", "test", "perplexity", "Test perplexity", NULL, QT_PLAIN},
        {"step", "train", "lr", "Learning rate", NULL, QT_PLAIN},
    };
    enum { N = sizeof all / sizeof *all };
    bool any = false, apart[N] = {false}, open = true;
    for (int i = 0; i < N; i++) {
        int n = curves_of(c, &all[i]);
        if (!n) continue;
        if (!any) fputs("<section>\n<h2>Over the steps</h2>\n<p class=\"soft small\">Thin: one seed. Bold: the mean of the seeds.</p>\n<div class=\"plots\">\n", f);
        any = true;
        if (!(apart[i] = n > TOGETHER)) put_together(f, c, &all[i]);
    }
    if (!any) return;
    fputs("</div>\n", f);
    for (int i = 0; i < N; i++)
        if (apart[i]) put_apart(f, c, &all[i], open), open = false;
    fputs("</section>\n", f);
}

/* ---- measurements ---------------------------------------------------------------------------------------------------------------------- */

/* Events of a kind of their own; their numbers have the path as their place. */
static bool is_measurement(const qt_series *s) { return strcmp(s->event, "step") && strcmp(s->event, "eval") && strcmp(s->event, "final") && strcmp(s->event, "quant"); }

typedef struct rows {
    int              n, cap;
    const qt_series **s; /* one of each event, place and key */
} rows;

static qt_err gather(const qt_chapter *c, rows *r)
{
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->arm[i].n; k++)
            for (int j = 0; j < c->arm[i].trial[k].log.n; j++) {
                const qt_series *s = c->arm[i].trial[k].log.series[j];
                bool             known = !is_measurement(s);
                for (int m = 0; m < r->n && !known; m++)
                    known = !strcmp(r->s[m]->key, s->key) && !strcmp(r->s[m]->where, s->where) && !strcmp(r->s[m]->event, s->event);
                if (known) continue;
                if (r->n == r->cap) QT_TRY(qt_grow(&r->s, &r->cap, r->n + 1, sizeof *r->s));
                r->s[r->n++] = s;
            }
    return QT_OK;
}

static double last_mean(const qt_arm *a, const quantity *q)
{
    double sum = 0;
    int    n = 0;
    for (int k = 0; k < a->n; k++) {
        const qt_series *s = series_of(&a->trial[k], q);
        if (s) sum += s->value[s->n - 1], n++;
    }
    return n ? sum / n : NAN;
}

static quantity quantity_of(const qt_series *s)
{
    return (quantity){s->event, s->where, s->key, s->key, s->key, strstr(s->key, "accuracy") ? QT_PERCENT : QT_PLAIN};
}

static void put_measured(FILE *f, const qt_chapter *c, const rows *r)
{
    fputs("<div class=\"box\"><table>\n<thead><tr><th scope=\"col\">what</th><th scope=\"col\" class=\"left\">number</th>", f);
    for (int i = 0; i < c->n; i++) fputs("<th scope=\"col\">", f), qt_html_text(f, c->arm[i].name), fputs("</th>", f);
    fputs("</tr></thead>\n<tbody>\n", f);
    for (int j = 0; j < r->n; j++) {
        quantity q = quantity_of(r->s[j]);
        fputs("<tr><th scope=\"row\">", f), qt_html_text(f, q.where), fputs("</th><td class=\"left\">", f), qt_html_text(f, q.key), fputs("</td>", f);
        for (int i = 0; i < c->n; i++) {
            char   text[32];
            double v = last_mean(&c->arm[i], &q);
            fprintf(f, "<td>%s</td>", qt_metric_text(q.unit == QT_PERCENT ? "accuracy" : "", v, text));
        }
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

static void put_measured_curves(FILE *f, const qt_chapter *c, const rows *r)
{
    int n = 0;
    for (int j = 0; j < r->n && n < MAX_PLOTS; j++) {
        char     title[160];
        quantity q = quantity_of(r->s[j]);
        snprintf(title, sizeof title, "%s, %s", q.where, q.key), q.title = title;
        if (!curves_of(c, &q)) continue;
        if (!n++) fputs("<div class=\"plots\">\n", f);
        put_together(f, c, &q);
    }
    if (n) fputs("</div>\n", f);
}

void qt_section_measures(FILE *f, const qt_chapter *c)
{
    rows r = {0};
    if (gather(c, &r) == QT_OK && r.n) {
        fputs("<section>\n<h2>Measurements</h2>\n<p class=\"soft small\">The last of each run, the mean of the seeds.</p>\n", f);
        put_measured(f, c, &r);
        put_measured_curves(f, c, &r);
        fputs("</section>\n", f);
    }
    qt_free(r.s);
}
