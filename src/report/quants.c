/* What each quantizer did: scale, share of clipped numbers, of zeros, of codes that flipped since the evaluation before, and signal to noise,
 * as curves over the steps and as a table of the last ones. The colour of a curve is the depth of its layer. */
#include "report/html.h"
#include "report/sections.h"
#include "report/svg.h"
#include <math.h>
#include <string.h>

enum { MAX_SITES = 512, NAMED = 8 };

typedef struct field {
    const char *key, *title, *head;
    qt_unit     unit;
} field;

static const field fields[] = {
    {"scale", "Step of the grid", "step", QT_PLAIN},
    {"clip_frac", "Numbers outside of the grid", "clipped", QT_PERCENT},
    {"zero_frac", "Zeros", "zeros", QT_PERCENT},
    {"flip_rate", "Codes that changed since the evaluation before", "flips", QT_PERCENT},
    {"sqnr_db", "Signal to quantization noise", "SQNR (dB)", QT_PLAIN},
};
enum { FIELDS = sizeof fields / sizeof *fields };

/* The sites of a run in the order of the model. */
static int sites_of(const qt_trial *t, const char *site[MAX_SITES])
{
    int n = 0;
    for (int i = 0; i < t->log.n && n < MAX_SITES; i++) {
        const qt_series *s = t->log.series[i];
        bool             known = strcmp(s->event, "quant") != 0;
        for (int k = n; k-- > 0 && !known;) known = !strcmp(site[k], s->where);
        if (!known) site[n++] = s->where;
    }
    return n;
}

static const qt_trial *first_with(const qt_arm *a)
{
    const char *site[MAX_SITES];
    for (int k = 0; k < a->n; k++)
        if (sites_of(&a->trial[k], site)) return &a->trial[k];
    return NULL;
}

/* ---- curves ---------------------------------------------------------------------------------------------------------------------------- */

static bool is_weight(const char *site) { return strstr(site, ".weight") != NULL; }

static const char *short_name(const char *site, char buf[static 40])
{
    const char *dot = strrchr(site, '.');
    snprintf(buf, 40, "%.*s", dot ? (int)(dot - site) : (int)strlen(site), site);
    return buf;
}

static void put_curve(FILE *f, const qt_trial *t, int n, const char *const *site, const field *d, const char *what)
{
    qt_plot p = {.height = 210, .x = {.name = "step"}, .y = {.unit = d->unit}, .right = 13};
    int     points = 0, at = 0;
    char    name[40];
    for (int i = 0; i < n; i++) {
        const qt_series *s = qt_events_find(&t->log, "quant", site[i], d->key);
        if (!s) continue;
        points = s->n > points ? s->n : points;
        qt_axis_cover(&p.x, s->n, s->step), qt_axis_cover(&p.y, s->n, s->value);
    }
    if (points < 2) return;
    if (d->unit != QT_PERCENT) qt_axis_choose(&p.y);
    fprintf(f, "<figure><figcaption>%s <span>%s</span></figcaption>\n", d->title, what);
    qt_plot_begin(&p, f, d->title);
    for (int i = 0; i < n; i++) {
        char             classes[24];
        const qt_series *s = qt_events_find(&t->log, "quant", site[i], d->key);
        int              colour = n > 1 ? at++ * (QT_COLOURS - 1) / (n - 1) : 0;
        if (!s) continue;
        snprintf(classes, sizeof classes, "line s%d", colour);
        qt_plot_line(&p, s->n, s->step, s->value, classes);
        if (n <= NAMED || i == 0 || i == n - 1) qt_plot_label(&p, s->value[s->n - 1], -1, short_name(site[i], name));
    }
    qt_plot_end(&p);
    fputs("</figure>\n", f);
}

static void put_curves(FILE *f, const qt_trial *t, int n, const char *const *site)
{
    const char *own[MAX_SITES];
    fputs("<div class=\"plots\">\n", f);
    for (int weight = 1; weight >= 0; weight--) {
        int k = 0;
        for (int i = 0; i < n; i++)
            if (is_weight(site[i]) == weight) own[k++] = site[i];
        for (int i = 0; k && i < FIELDS; i++) put_curve(f, t, k, own, &fields[i], weight ? "weights" : "inputs and others");
    }
    fputs("</div>\n", f);
}

/* ---- the table ------------------------------------------------------------------------------------------------------------------------- */

static double mean_of(const qt_arm *a, const char *site, const char *key)
{
    double sum = 0, v;
    int    n = 0;
    for (int k = 0; k < a->n; k++)
        if (isfinite(v = qt_events_last(&a->trial[k].log, "quant", site, key))) sum += v, n++;
    return n ? sum / n : NAN;
}

static void put_field(FILE *f, const field *d, double v)
{
    if (isnan(v)) fputs("<td>\u2013</td>", f);
    else if (d->unit == QT_PERCENT) fprintf(f, "<td class=\"bar\" style=\"--v:%.1f%%\">%.2f %%</td>", 100 * fmin(fmax(v, 0), 1), 100 * v);
    else fprintf(f, "<td>%.4g</td>", v);
}

static void put_table(FILE *f, const qt_arm *a, int n, const char *const *site)
{
    fputs("<div class=\"box\"><table>\n<thead><tr><th scope=\"col\">tensor</th>", f);
    for (int i = 0; i < FIELDS; i++) fprintf(f, "<th scope=\"col\">%s</th>", fields[i].head);
    fputs("</tr></thead>\n<tbody>\n", f);
    for (int k = 0; k < n; k++) {
        fputs("<tr><th scope=\"row\">", f), qt_html_text(f, site[k]), fputs("</th>", f);
        for (int i = 0; i < FIELDS; i++) put_field(f, &fields[i], mean_of(a, site[k], fields[i].key));
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

void qt_section_quants(FILE *f, const qt_chapter *c)
{
    bool any = false;
    for (int i = 0; i < c->n; i++) {
        const char     *site[MAX_SITES];
        const qt_trial *t = first_with(&c->arm[i]);
        if (!t) continue;
        int n = sites_of(t, site);
        if (!any) fputs("<section>\n<h2>Quantizers</h2>\n<p class=\"soft small\">At evaluations. Curves: one seed, dark blue the first layer, yellow the last. "
                        "Table: the last evaluation, the mean of the seeds.</p>\n", f);
        fprintf(f, "<details%s><summary>", any ? "" : " open=\"open\""), any = true;
        qt_html_printf(f, "%s: %d tensors", c->arm[i].name, n), fputs("</summary>\n", f);
        put_curves(f, t, n, site);
        put_table(f, &c->arm[i], n, site);
        fputs("</details>\n", f);
    }
    if (any) fputs("</section>\n", f);
}
