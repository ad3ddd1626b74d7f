/* Arms and seeds as a table and a picture, and what quality costs: accuracy over bytes with the front of those arms that none beats in both. */
#include "report/html.h"
#include "report/sections.h"
#include "report/svg.h"
#include <math.h>
#include <stddef.h>
#include <string.h>

enum { MAX_ARMS = 256, MAX_SEEDS = 64 };

static qt_unit unit_of(const char *metric) { return !strcmp(metric, "accuracy") ? QT_PERCENT : QT_PLAIN; }

/* ---- the table ------------------------------------------------------------------------------------------------------------------------ */

/* All seeds of a chapter, rising. */
static int seeds_of(const qt_chapter *c, int64_t seed[MAX_SEEDS])
{
    int n = 0;
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->arm[i].n; k++) {
            int     at = 0;
            int64_t s = c->arm[i].trial[k].seed;
            while (at < n && seed[at] < s) at++;
            if (n == MAX_SEEDS || (at < n && seed[at] == s)) continue;
            memmove(seed + at + 1, seed + at, (size_t)(n++ - at) * sizeof *seed), seed[at] = s;
        }
    return n;
}

static const qt_trial *trial_of(const qt_arm *a, int64_t seed)
{
    for (int k = 0; k < a->n; k++)
        if (a->trial[k].seed == seed) return &a->trial[k];
    return NULL;
}

static void put_seed(FILE *f, const qt_chapter *c, const qt_trial *t)
{
    char text[32];
    fputs("<td>", f);
    if (t) fputs(qt_metric_text(c->metric, qt_trial_value(t, c->metric), text), f);
    if (t && !t->done) fputs("<span class=\"soft\"> *</span>", f);
    fputs("</td>", f);
}

static void put_mean(FILE *f, const qt_chapter *c, const qt_arm *a)
{
    double v[MAX_SEEDS], times = unit_of(c->metric) == QT_PERCENT ? 100 : 1;
    char   text[32];
    int    n = qt_arm_values(a, c->metric, v);
    if (a->diverged) fputs("<td><strong>diverged</strong>", f);
    else if (!n) fputs("<td>\u2013", f);
    else fprintf(f, "<td><strong>%s</strong>", qt_metric_text(c->metric, qt_mean_of(n, v), text));
    if (n > 1 && !a->diverged) fprintf(f, " \u00b1 %.2g", times * qt_deviation_of(n, v));
    fputs("</td>", f);
}

static double mean_of(const qt_arm *a, const char *key)
{
    double v[MAX_SEEDS];
    int    n = qt_arm_values(a, key, v);
    return qt_mean_of(n, v);
}

static void put_cost(FILE *f, const qt_arm *a)
{
    char   text[32];
    double bits = mean_of(a, "bits_per_weight"), bytes = mean_of(a, "bytes"), params = mean_of(a, "params"), seconds = mean_of(a, "seconds");
    fprintf(f, isnan(bits) ? "<td>\u2013</td>" : "<td>%.3g</td>", bits);
    fprintf(f, "<td>%s</td>", isnan(bytes) ? "\u2013" : qt_si_bytes(bytes, text));
    fprintf(f, "<td>%s</td>", isnan(params) ? "\u2013" : qt_si(params, text));
    fprintf(f, isnan(seconds) ? "<td>\u2013</td>" : "<td>%.1f</td>", seconds);
}

static bool unfinished(const qt_chapter *c)
{
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->arm[i].n; k++)
            if (!c->arm[i].trial[k].done) return true;
    return false;
}

static void put_table(FILE *f, const qt_chapter *c)
{
    int64_t seed[MAX_SEEDS];
    int     n = seeds_of(c, seed);
    fputs("<div class=\"box\"><table>\n<thead><tr><th scope=\"col\">arm</th>", f);
    for (int i = 0; i < n; i++) fprintf(f, "<th scope=\"col\">seed %lld</th>", (long long)seed[i]);
    fprintf(f, "<th scope=\"col\">%s, mean \u00b1 sd</th><th scope=\"col\">bits/weight</th><th scope=\"col\">model</th><th scope=\"col\">parameters</th>"
               "<th scope=\"col\">seconds</th></tr></thead>\n<tbody>\n", c->metric);
    for (int i = 0; i < c->n; i++) {
        fputs("<tr><th scope=\"row\">", f), qt_html_text(f, c->arm[i].name), fputs("</th>", f);
        for (int k = 0; k < n; k++) put_seed(f, c, trial_of(&c->arm[i], seed[k]));
        put_mean(f, c, &c->arm[i]), put_cost(f, &c->arm[i]);
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
    if (unfinished(c)) fputs("<p class=\"soft small\">* not finished: the last evaluation so far, or none</p>\n", f);
}

/* ---- arms as a picture ----------------------------------------------------------------------------------------------------------------- */

static void draw_arm(qt_plot *p, const char *metric, const char *name, int row, int n, const double *v)
{
    double mean = qt_mean_of(n, v), sd = qt_deviation_of(n, v), y = row + 0.5;
    char   text[32], tip[160];
    snprintf(tip, sizeof tip, "%s: %s", name, qt_metric_text(metric, mean, text));
    if (n > 1) qt_plot_rule(p, mean - sd, y, mean + sd, y, "whisker c0");
    for (int k = 0; n > 1 && k < n; k++) qt_plot_dot(p, v[k], y, 2.2, "seed c0", NULL);
    if (n) qt_plot_dot(p, mean, y, 4.2, "dot c0", tip);
}

static int finite_of(int n, const double *v, double own[MAX_SEEDS])
{
    int k = 0;
    for (int i = 0; i < n && k < MAX_SEEDS; i++)
        if (isfinite(v[i])) own[k++] = v[i];
    return k;
}

void qt_arms_plot(FILE *f, const char *metric, int n, const char *const *name, int m, const double *v, bool alone)
{
    qt_plot p = {.x = {.name = alone ? NULL : metric, .unit = unit_of(metric)}, .y = {.n = n, .names = name}, .alone = alone};
    for (int i = 0; i < n; i++) {
        double own[MAX_SEEDS];
        int    k = finite_of(m, v + (ptrdiff_t)i * m, own);
        double ends[2] = {qt_mean_of(k, own) - qt_deviation_of(k, own), qt_mean_of(k, own) + qt_deviation_of(k, own)};
        qt_axis_cover(&p.x, k, own), qt_axis_cover(&p.x, 2, ends);
    }
    if (strcmp(metric, "accuracy")) qt_axis_choose(&p.x);
    qt_plot_begin(&p, f, "test results of all arms, mean and deviation over the seeds");
    for (int i = 0; i < n; i++) {
        double own[MAX_SEEDS];
        int    k = finite_of(m, v + (ptrdiff_t)i * m, own);
        draw_arm(&p, metric, name[i], i, k, own);
    }
    qt_plot_end(&p);
}

static void put_arms(FILE *f, const qt_chapter *c)
{
    double      v[MAX_ARMS * MAX_SEEDS];
    const char *name[MAX_ARMS];
    int         n = 0, total = 0;
    for (int i = 0; i < c->n && n < MAX_ARMS; i++) {
        double *own = v + (size_t)n * MAX_SEEDS;
        int     k = qt_arm_values(&c->arm[i], c->metric, own);
        for (total += k; k < MAX_SEEDS; k++) own[k] = NAN;
        name[n++] = c->arm[i].name;
    }
    if (!total) return;
    fprintf(f, "<figure><figcaption>%s <span>dot: mean, line: deviation, small: seeds</span></figcaption>\n", c->metric);
    qt_arms_plot(f, c->metric, n, name, MAX_SEEDS, v, false);
    fputs("</figure>\n", f);
}

/* ---- what it costs ---------------------------------------------------------------------------------------------------------------------- */

typedef struct point {
    const char *name;
    double      cost, quality, sd;
    bool        front;
} point;

/* Larger is better in accuracy, smaller in everything else. */
static bool better(const char *metric, double a, double b) { return strcmp(metric, "accuracy") ? a < b : a > b; }

static void find_front(const char *metric, int n, point *p)
{
    for (int i = 0; i < n; i++) {
        p[i].front = true;
        for (int k = 0; k < n; k++) {
            bool as_good = !better(metric, p[i].quality, p[k].quality) && p[k].cost <= p[i].cost;
            if (as_good && (better(metric, p[k].quality, p[i].quality) || p[k].cost < p[i].cost)) p[i].front = false;
        }
    }
}

static void sort_points(int n, point *p)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && p[k - 1].cost > p[k].cost; k--) {
            point keep = p[k];
            p[k] = p[k - 1], p[k - 1] = keep;
        }
}

/* The front as a staircase: what quality can be had for so much. */
static void draw_front(qt_plot *plot, int n, const point *p)
{
    double x[2 * MAX_ARMS], y[2 * MAX_ARMS];
    int    k = 0;
    for (int i = 0; i < n; i++) {
        if (!p[i].front) continue;
        if (k) x[k] = p[i].cost, y[k] = y[k - 1], k++;
        x[k] = p[i].cost, y[k] = p[i].quality, k++;
    }
    qt_plot_line(plot, k, x, y, "dash c1");
}

/* Boxes of dots and labels that stand already. */
typedef struct labels {
    int n;
    struct { double x, y, w; } box[2 * MAX_ARMS];
} labels;

static bool is_free(const labels *l, const qt_plot *plot, double x, double y, double w)
{
    if (x < plot->x0 || x + w > plot->width || y - 10 < 0 || y > plot->y1) return false;
    for (int i = 0; i < l->n; i++)
        if (x < l->box[i].x + l->box[i].w && l->box[i].x < x + w && fabs(y - l->box[i].y) < 11) return false;
    return true;
}

/* Beside its dot where there is room, tried in this order; nowhere if there is none, the tip says it then. */
static void draw_name(qt_plot *plot, labels *l, const point *p)
{
    static const struct { double dx, dy; const char *anchor; double from; } place[] = {
        {7, 4, "start", 0}, {-7, 4, "end", -1}, {0, -8, "middle", -0.5}, {0, 16, "middle", -0.5}, {6, -6, "start", 0}, {6, 14, "start", 0}, {-6, -6, "end", -1}, {-6, 14, "end", -1}};
    double w = 6.4 * (double)strlen(p->name) + 4, x = qt_plot_x(plot, p->cost), y = qt_plot_y(plot, p->quality);
    for (size_t i = 0; i < sizeof place / sizeof *place; i++) {
        double left = x + place[i].dx + place[i].from * w, base = y + place[i].dy;
        if (!is_free(l, plot, left, base, w)) continue;
        l->box[l->n].x = left, l->box[l->n].y = base, l->box[l->n++].w = w;
        qt_plot_text(plot, p->cost, p->quality, place[i].dx, place[i].dy, place[i].anchor, p->front ? "label c1" : "label rest", p->name);
        return;
    }
}

static void draw_point(qt_plot *plot, const char *metric, const point *p)
{
    char text[32], size[32], tip[200];
    snprintf(tip, sizeof tip, "%s: %s, %s", p->name, qt_metric_text(metric, p->quality, text),
             plot->x.unit == QT_BYTES ? qt_si_bytes(p->cost, size) : qt_si(p->cost, size));
    qt_plot_rule(plot, p->cost, p->quality - p->sd, p->cost, p->quality + p->sd, p->front ? "whisker c1" : "whisker c0");
    qt_plot_dot(plot, p->cost, p->quality, 4.2, p->front ? "dot c1" : "ring c0", tip);
}

static void put_pareto(FILE *f, const char *metric, const char *title, qt_axis x, int n, point *p)
{
    qt_plot plot = {.height = 300, .x = x, .y = {.name = metric, .unit = unit_of(metric)}};
    labels  l = {0};
    sort_points(n, p), find_front(metric, n, p);
    for (int i = 0; i < n; i++) {
        double ends[2] = {p[i].quality - p[i].sd, p[i].quality + p[i].sd};
        qt_axis_cover(&plot.x, 1, &p[i].cost), qt_axis_cover(&plot.y, 2, ends);
    }
    qt_axis_choose(&plot.x);
    if (strcmp(metric, "accuracy")) qt_axis_choose(&plot.y);
    fputs("<figure><figcaption>", f), qt_html_text(f, title);
    fputs(" <span>filled: no arm is better and not larger</span></figcaption>\n", f);
    qt_plot_begin(&plot, f, title);
    draw_front(&plot, n, p);
    for (int i = 0; i < n; i++) {
        draw_point(&plot, metric, &p[i]);
        l.box[l.n].x = qt_plot_x(&plot, p[i].cost) - 4, l.box[l.n].y = qt_plot_y(&plot, p[i].quality) + 4, l.box[l.n++].w = 8;
    }
    for (int front = 1; front >= 0; front--)
        for (int i = 0; i < n; i++)
            if (p[i].front == front) draw_name(&plot, &l, &p[i]);
    qt_plot_end(&plot);
    fputs("</figure>\n", f);
}

/* A picture of one kind of cost, if the arms differ in it. */
static void put_cost_of(FILE *f, const qt_chapter *c, const char *key, const char *title, qt_axis x)
{
    point p[MAX_ARMS];
    int   n = 0;
    bool  differ = false;
    for (int i = 0; i < c->n && n < MAX_ARMS; i++) {
        double v[MAX_SEEDS], cost = mean_of(&c->arm[i], key);
        int    k = qt_arm_values(&c->arm[i], c->metric, v);
        if (!k || isnan(cost)) continue;
        p[n++] = (point){.name = c->arm[i].name, .cost = cost, .quality = qt_mean_of(k, v), .sd = qt_deviation_of(k, v)};
        differ |= fabs(cost - p[0].cost) > 0.005 * cost;
    }
    if (n > 1 && differ) put_pareto(f, c->metric, title, x, n, p);
}

static void put_costs(FILE *f, const qt_chapter *c)
{
    put_cost_of(f, c, "bytes", "What the bytes of the model buy", (qt_axis){.name = "model", .unit = QT_BYTES});
    put_cost_of(f, c, "cost", "What arithmetic buys, by area (bits x bits)", (qt_axis){.name = "multiply-adds of 16 bits"});
    put_cost_of(f, c, "cost_linear", "What arithmetic buys, by lanes (bits)", (qt_axis){.name = "multiply-adds of 16 bits"});
}

void qt_section_results(FILE *f, const qt_chapter *c)
{
    if (!c->n) return;
    fputs("<section>\n<h2>Results</h2>\n", f);
    put_table(f, c);
    fputs("<div class=\"plots\">\n", f);
    put_arms(f, c);
    put_costs(f, c);
    fputs("</div>\n</section>\n", f);
}
