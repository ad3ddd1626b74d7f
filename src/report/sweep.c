/* A sweep as a picture: quality over the labels of one axis, a line for each label of another one. With one axis there is one line; of more than
 * two there is one picture an axis, and in it the mean over all others. */
#include "report/html.h"
#include "report/sections.h"
#include "report/svg.h"
#include <math.h>
#include <string.h>

enum { MAX_LABELS = 64, MAX_SEEDS = 64 };

typedef struct axis {
    const char *name, *label[MAX_LABELS];
    int         n;
} axis;

static bool read_axis(const qt_yaml *y, axis *a)
{
    const qt_yaml *labels = qt_yaml_get(y, "labels");
    *a = (axis){.name = qt_text_of(y, "axis", "")};
    for (int i = 0; labels && labels->kind == QT_YAML_LIST && i < labels->n && a->n < MAX_LABELS; i++)
        if (labels->item[i]->text) a->label[a->n++] = labels->item[i]->text;
    return a->n > 0;
}

/* The label of an arm on axis k, NULL if it is no point of the sweep. */
static const char *label_of(const qt_chapter *c, const char *arm, int k)
{
    const qt_yaml *arms = qt_yaml_get(c->results, "arms");
    for (int i = 0; arms && i < arms->n; i++) {
        const qt_yaml *point = qt_yaml_get(arms->item[i], "point");
        if (point && point->kind == QT_YAML_LIST && k < point->n && !strcmp(qt_text_of(arms->item[i], "arm", ""), arm)) return point->item[k]->text;
    }
    return NULL;
}

/* Mean and deviation of all runs whose arms have a label on axis k and, unless j < 0, one on axis j. */
static double mean_at(const qt_chapter *c, int k, const char *label, int j, const char *other, double *sd)
{
    double v[MAX_SEEDS], all[4 * MAX_SEEDS];
    int    n = 0;
    for (int i = 0; i < c->n; i++) {
        const char *a = label_of(c, c->arm[i].name, k), *b = j < 0 ? "" : label_of(c, c->arm[i].name, j);
        int         m = a && b && !strcmp(a, label) && (j < 0 || !strcmp(b, other)) ? qt_arm_values(&c->arm[i], c->metric, v) : 0;
        for (int s = 0; s < m && n < 4 * MAX_SEEDS; s++) all[n++] = v[s];
    }
    return *sd = qt_deviation_of(n, all), qt_mean_of(n, all);
}

typedef struct line {
    double x[MAX_LABELS], y[MAX_LABELS], sd[MAX_LABELS];
} line;

static line line_of(const qt_chapter *c, const axis *a, int k, int j, const char *other)
{
    line l;
    for (int i = 0; i < a->n; i++) l.x[i] = i + 0.5, l.y[i] = mean_at(c, k, a->label[i], j, other, &l.sd[i]);
    return l;
}

static void draw_line(qt_plot *p, const axis *a, const line *l, int colour, const char *name)
{
    char classes[3][16];
    snprintf(classes[0], 16, "line c%d", colour), snprintf(classes[1], 16, "whisker c%d", colour), snprintf(classes[2], 16, "dot c%d", colour);
    qt_plot_line(p, a->n, l->x, l->y, classes[0]);
    for (int i = 0; i < a->n; i++) {
        if (isnan(l->y[i])) continue;
        qt_plot_rule(p, l->x[i], l->y[i] - l->sd[i], l->x[i], l->y[i] + l->sd[i], classes[1]);
        qt_plot_dot(p, l->x[i], l->y[i], 3.5, classes[2], a->label[i]);
    }
    if (name) qt_plot_label(p, l->y[a->n - 1], colour, name);
}

/* Axis k along x; a line for each label of axis j, or one if that is NULL. */
static void put_axis(FILE *f, const qt_chapter *c, const axis *a, int k, const axis *b, int j)
{
    qt_plot p = {.height = 270, .x = {.name = a->name, .n = a->n, .names = a->label}, .y = {.name = c->metric, .unit = strcmp(c->metric, "accuracy") ? QT_PLAIN : QT_PERCENT}, .right = b ? 12 : 0};
    int     n = b ? b->n : 1;
    for (int i = 0; i < n; i++) {
        line l = line_of(c, a, k, j, b ? b->label[i] : NULL);
        qt_axis_cover(&p.y, a->n, l.y);
    }
    if (p.y.unit != QT_PERCENT) qt_axis_choose(&p.y);
    fputs("<figure><figcaption>", f), qt_html_printf(f, "%s by %s%s%s", c->metric, a->name, b ? " and " : "", b ? b->name : ""), fputs("</figcaption>\n", f);
    qt_plot_begin(&p, f, a->name);
    for (int i = 0; i < n; i++) {
        line l = line_of(c, a, k, j, b ? b->label[i] : NULL);
        draw_line(&p, a, &l, i % QT_COLOURS, b ? b->label[i] : NULL);
    }
    qt_plot_end(&p);
    fputs("</figure>\n", f);
}

void qt_section_sweep(FILE *f, const qt_chapter *c)
{
    const qt_yaml *axes = qt_yaml_get(c->results, "axes");
    axis           a, b;
    int            n = axes && axes->kind == QT_YAML_LIST ? axes->n : 0;
    if (!n) return;
    fputs("<section>\n<h2>The sweep</h2>\n<div class=\"plots\">\n", f);
    for (int k = 0; k < n; k++)
        if (read_axis(axes->item[k], &a)) put_axis(f, c, &a, k, n == 2 && read_axis(axes->item[1 - k], &b) ? &b : NULL, n == 2 ? 1 - k : -1);
    fputs("</div>\n</section>\n", f);
}
