/* From the checkpoint of one run of each arm: bits and bytes of each layer, and its weights as a histogram on the quantizer's grid. Weights are
 * drawn in units of their own scale, u = w / s, so that tensors with many scales have one grid: a level lies at y / s of the numbers that have
 * its code. What lies beyond the picture is counted in its outermost columns. */
#include "report/html.h"
#include "report/net.h"
#include "report/sections.h"
#include "report/svg.h"
#include <math.h>
#include <string.h>

enum { COLUMNS = 84, MAX_LEVELS = 64, MAX_PLOTS = 12 };

/* ---- the table ------------------------------------------------------------------------------------------------------------------------- */

static const char *const heads[] = {"kind", "output", "parameters", "multiply-adds", "weight bits", "input bits", "stored bits/weight", "bytes"};

static int64_t parameters(const qt_module *m)
{
    int64_t n = 0;
    for (int i = 0; i < QT_MODULE_PARAMS; i++) n += m->p[i] ? m->p[i]->n : 0;
    return n;
}

static double stored_bits(const qt_module *m, qt_arena *a)
{
    qt_codes c = {0};
    double   bits = 32.0 * (double)m->p[0]->n;
    if (m->weight && m->weight->quant->encode(m->weight, m->p[0], a, &c) == QT_OK && c.n) bits = qt_codes_bits(&c);
    qt_error_clear();
    qt_arena_reset(a);
    return bits;
}

static void put_bits(FILE *f, const qt_module *m, const qt_site *q)
{
    if (q) fprintf(f, "<td>%.3g</td>", q->quant->bits(q));
    else fprintf(f, "<td>%s</td>", m->layer->quantizes ? "float" : "\u2013");
}

static void put_layer(FILE *f, const qt_module *m, double most)
{
    char     shape[96], text[32];
    int64_t  p = parameters(m), macs = m->layer->macs ? m->layer->macs(m) : 0;
    qt_arena a = {0};
    double   bits = m->layer->quantizes && qt_module_owns_weight(m) ? stored_bits(m, &a) : 0;
    double   bytes = bits / 8 + 4 * (double)(p - (bits > 0 ? m->p[0]->n : 0));
    fputs("<tr><th scope=\"row\">", f), qt_html_text(f, m->path);
    fprintf(f, "</th><td class=\"left\">%s</td><td>%s</td><td>%s</td>", m->layer->d.name, qt_shape_text(&m->out_shape, shape), p ? qt_si((double)p, text) : "\u2013");
    fprintf(f, "<td>%s</td>", macs ? qt_si((double)macs, text) : "\u2013");
    put_bits(f, m, m->weight), put_bits(f, m, m->act);
    fprintf(f, bits > 0 ? "<td>%.3g</td>" : "<td>\u2013</td>", bits > 0 ? bits / (double)m->p[0]->n : 0);
    fprintf(f, "<td class=\"bar\" style=\"--v:%.1f%%\">%s</td></tr>\n", most > 0 ? 100 * bytes / most : 0, p ? qt_si_bytes(bytes, text) : "\u2013");
    qt_arena_free(&a);
}

static void put_table(FILE *f, const qt_model *m)
{
    double most = 0;
    for (int i = 0; i < m->n; i++) most = fmax(most, 4 * (double)parameters(&m->m[i]));
    fputs("<div class=\"box\"><table>\n<thead><tr><th scope=\"col\">layer</th>", f);
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) fprintf(f, "<th scope=\"col\"%s>%s</th>", i ? "" : " class=\"left\"", heads[i]);
    fputs("</tr></thead>\n<tbody>\n", f);
    for (int i = 0; i < m->n; i++)
        if (parameters(&m->m[i])) put_layer(f, &m->m[i], most);
    fputs("</tbody></table></div>\n", f);
}

/* ---- one histogram ---------------------------------------------------------------------------------------------------------------------- */

typedef struct grid {
    int    n;                                       /* levels, 0 if there are none or too many */
    double at[MAX_LEVELS], share[MAX_LEVELS];       /* where each lies, what part of the weights it has */
    double lo, hi;                                  /* the outermost levels */
    int    columns;                                 /* fewer of a small tensor */
    double column[COLUMNS], from, to;
} grid;

static void add_column(grid *g, double u, double part)
{
    double i = floor((u - g->from) / (g->to - g->from) * g->columns);
    g->column[(int)fmin(fmax(i, 0), g->columns - 1)] += part;
}

/* Levels by code: where their numbers lie on average, and how many there are. */
static void find_levels(grid *g, const qt_codes *c, const R *y)
{
    int32_t lo = c->code[0], hi = lo;
    for (int64_t i = 0; i < c->n; i++) lo = c->code[i] < lo ? c->code[i] : lo, hi = c->code[i] > hi ? c->code[i] : hi;
    g->lo = INFINITY, g->hi = -INFINITY;
    for (int64_t i = 0; i < c->n; i++) {
        double s = fabs((double)c->scale[i / c->layout.inner % c->layout.count]), v = s > 0 ? (double)y[i] / s : 0;
        g->lo = fmin(g->lo, v), g->hi = fmax(g->hi, v);
        if (hi - lo < MAX_LEVELS) g->at[c->code[i] - lo] += v, g->share[c->code[i] - lo]++;
    }
    for (int32_t k = 0; hi - lo < MAX_LEVELS && k <= hi - lo; k++) {
        if (!g->share[k]) continue;
        g->at[g->n] = g->at[k] / g->share[k], g->share[g->n++] = g->share[k] / (double)c->n;
    }
}

/* The weights from the outermost levels and somewhat further. */
static void find_columns(grid *g, const qt_codes *c, const R *w)
{
    double more = fmax(3, 0.15 * (g->hi - g->lo)), lo = INFINITY, hi = -INFINITY;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < c->n; i++) {
            double s = fabs((double)c->scale[i / c->layout.inner % c->layout.count]), u = s > 0 ? (double)w[i] / s : 0;
            if (pass) add_column(g, u, 1 / (double)c->n);
            else lo = fmin(lo, u), hi = fmax(hi, u);
        }
        g->from = fmin(fmax(lo, g->lo - more), g->lo - 0.3), g->to = fmax(fmin(hi, g->hi + more), g->hi + 0.3);
    }
}

static void find_plain(grid *g, const qt_tensor *w)
{
    double lo = INFINITY, hi = -INFINITY;
    for (int64_t i = 0; i < w->n; i++) lo = fmin(lo, (double)w->data[i]), hi = fmax(hi, (double)w->data[i]);
    g->from = lo, g->to = hi > lo ? hi : lo + 1;
    for (int64_t i = 0; i < w->n; i++) add_column(g, (double)w->data[i], 1 / (double)w->n);
}

/* False where the weight has no codes. */
static bool find_grid(grid *g, const qt_module *m, qt_arena *a)
{
    qt_codes c = {0};
    R       *y;
    if (!m->weight || m->weight->quant->encode(m->weight, m->p[0], a, &c) != QT_OK || !c.scale || !c.n) return qt_error_clear(), false;
    if (!(y = qt_arena_alloc(a, (size_t)c.n * sizeof *y))) return qt_error_clear(), false;
    qt_codes_decode(&c, y);
    find_levels(g, &c, y);
    find_columns(g, &c, m->p[0]->data);
    return true;
}

/* The levels as pins whose height is the share of weights; the weights behind them as an area, as high as the frame. */
static void draw(FILE *f, const char *title, const grid *g, bool quantized)
{
    double  most = 0, highest = 0, column[COLUMNS];
    qt_plot p = {.height = 190, .x = {.name = quantized ? "weight / scale" : "weight"}, .y = {.unit = QT_PERCENT}};
    for (int i = 0; i < COLUMNS; i++) most = fmax(most, g->column[i]);
    for (int i = 0; i < g->n; i++) highest = fmax(highest, g->share[i]);
    if (!g->n) highest = most;
    for (int i = 0; i < g->columns; i++) column[i] = most > 0 ? g->column[i] / most * highest : 0;
    qt_axis_cover(&p.x, 2, (double[]){g->from, g->to}), qt_axis_cover(&p.y, 2, (double[]){0, highest});
    p.y.name = g->n ? "share of weights on a level" : NULL;
    qt_plot_begin(&p, f, title);
    qt_plot_steps(&p, g->columns, g->from, g->to, column, quantized ? "area c0" : "area c7");
    for (int i = 0; i < g->n; i++) {
        char tip[64];
        snprintf(tip, sizeof tip, "%.3g: %.1f %% of the weights", g->at[i], 100 * g->share[i]);
        qt_plot_rule(&p, g->at[i], -INFINITY, g->at[i], g->share[i], "level c1");
        qt_plot_dot(&p, g->at[i], g->share[i], g->n > 20 ? 1.8 : 3, "dot c1", tip);
    }
    if (quantized && !g->n) qt_plot_rule(&p, g->lo, -INFINITY, g->lo, INFINITY, "dash c1"), qt_plot_rule(&p, g->hi, -INFINITY, g->hi, INFINITY, "dash c1");
    qt_plot_end(&p);
}

static void put_histogram(FILE *f, const qt_module *m)
{
    grid     g = {.columns = (int)fmin(fmax(1.5 * sqrt((double)m->p[0]->n), 12), COLUMNS)};
    qt_arena a = {0};
    bool     quantized = find_grid(&g, m, &a);
    if (!quantized) find_plain(&g, m->p[0]);
    fputs("<figure><figcaption>", f), qt_html_text(f, m->p[0]->name);
    if (quantized) fprintf(f, " <span>%s, %.3g bits</span>", m->weight->quant->d.name, m->weight->quant->bits(m->weight));
    fputs("</figcaption>\n", f);
    draw(f, m->p[0]->name, &g, quantized);
    fputs("</figure>\n", f);
    qt_arena_free(&a);
}

static bool has_weight(const qt_module *m) { return m->layer->quantizes && m->p[0] && m->p[0]->data && qt_module_owns_weight(m); }

/* All of a few layers; of many the first and the last ones. */
static void put_histograms(FILE *f, const qt_model *m)
{
    int n = 0, at = 0;
    for (int i = 0; i < m->n; i++) n += has_weight(&m->m[i]);
    if (!n) return;
    fputs("<div class=\"plots\">\n", f);
    for (int i = 0; i < m->n; i++)
        if (has_weight(&m->m[i]) && (at++ < MAX_PLOTS / 2 || at > n - MAX_PLOTS / 2)) put_histogram(f, &m->m[i]);
    fputs("</div>\n", f);
    if (n > MAX_PLOTS) fprintf(f, "<p class=\"soft small\">The first and last %d of %d layers with weights.</p>\n", MAX_PLOTS / 2, n);
}

/* The first run of an arm whose checkpoint can be read; else the reasons are messages. */
static const qt_trial *open_one(qt_net *net, const qt_arm *a, qt_err *e)
{
    qt_error_clear(), *e = QT_OK;
    for (int k = 0; k < a->n; k++)
        if ((*e = qt_net_open(net, a->trial[k].dir)) == QT_OK) return qt_error_clear(), &a->trial[k];
    return NULL;
}

static void put_arm(FILE *f, const qt_arm *a, const qt_trial *t, const qt_model *m)
{
    fputs("<details><summary>", f), qt_html_printf(f, "%s, seed %lld", a->name, (long long)t->seed), fputs("</summary>\n", f);
    put_table(f, m), put_histograms(f, m);
    fputs("</details>\n", f);
}

void qt_section_layers(FILE *f, qt_chapter *c, qt_arena *notes)
{
    int      n = 0;
    qt_notes kept = {0}; /* runs that have nothing to look at, which is no damage */
    for (int i = 0; i < c->n; i++) {
        qt_net          net;
        qt_err          e;
        const qt_trial *t = open_one(&net, &c->arm[i], &e);
        if (e) qt_note_errors(notes, e == QT_EUSAGE ? &kept : &c->notes, e == QT_EUSAGE ? NULL : "layers and weights are not shown");
        if (!t) continue;
        if (!n++) fputs("<section>\n<h2>Layers</h2>\n<p class=\"soft small\">Area: the weights as they are trained. Pins: the levels of the grid, and what share of "
                        "the weights each stands for; dashed lines: the ends of a grid with too many levels for that.</p>\n", f);
        put_arm(f, &c->arm[i], t, net.model);
        qt_net_close(&net);
    }
    for (int i = 0; n && i < kept.n; i++) fputs("<p class=\"soft small\">Not shown: ", f), qt_html_text(f, kept.text[i]), fputs("</p>\n", f);
    if (n) fputs("</section>\n", f);
}
