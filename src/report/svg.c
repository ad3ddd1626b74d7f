/* Axes and drawing: see svg.h. */
#include "report/svg.h"
#include "report/html.h"
#include "report/style.h"
#include <math.h>
#include <string.h>

enum { CHAR = 6, LINE = 13, NAME = 26 }; /* pixels of a character and of a line of text at 11 px; characters of a name */

/* ---- axes --------------------------------------------------------------------------------------------------------------------------- */

void qt_axis_cover(qt_axis *a, int n, const double *v)
{
    for (int i = 0; i < n; i++) {
        if (!isfinite(v[i]) || (a->log && v[i] <= 0)) continue;
        if (!a->covered) a->lo = a->hi = v[i], a->covered = true;
        a->lo = fmin(a->lo, v[i]), a->hi = fmax(a->hi, v[i]);
    }
}

void qt_axis_choose(qt_axis *a) { a->log = a->covered && a->lo > 0 && a->hi > 8 * a->lo; }

void qt_axis_pad(qt_axis *a)
{
    if (a->names) {
        a->lo = 0, a->hi = a->n;
        return;
    }
    if (!a->covered) a->lo = a->log ? 1 : 0, a->hi = a->log ? 10 : 1;
    if (a->log) {
        double by = fmax(pow(a->hi / a->lo, 0.04), 1.05);
        a->lo /= by, a->hi *= by;
        return;
    }
    double by = a->hi > a->lo ? 0.04 * (a->hi - a->lo) : a->hi ? 0.1 * fabs(a->hi) : 1;
    bool   from_zero = a->lo >= 0 && a->lo < 3 * by; /* what begins near zero begins at zero */
    a->lo = from_zero ? 0 : a->lo - by, a->hi += by;
}

/* 1, 2 or 5 times a power of ten, the least that is not below v. */
static double round_step(double v)
{
    double ten = pow(10, floor(log10(v)));
    return v <= 1.0001 * ten ? ten : v <= 2.0001 * ten ? 2 * ten : v <= 5.0001 * ten ? 5 * ten : 10 * ten;
}

static int log_ticks(const qt_axis *a, int most, double tick[QT_TICKS])
{
    static const double part[] = {1, 2, 5};
    double              decades = log10(a->hi / a->lo);
    int                 n = 0, every = (int)ceil(decades / most), parts = decades * 3 <= most ? 3 : 1;
    if (decades < 0.7) return 0; /* hardly a factor of five: linear ticks serve better */
    for (int e = (int)floor(log10(a->lo)); e <= (int)ceil(log10(a->hi)); e++)
        for (int i = 0; i < parts && n < QT_TICKS; i++) {
            double v = part[i] * pow(10, e);
            if (v >= a->lo && v <= a->hi && (every < 2 || e % every == 0)) tick[n++] = v;
        }
    return n;
}

int qt_axis_ticks(const qt_axis *a, int most, double tick[QT_TICKS])
{
    int n = a->log ? log_ticks(a, most, tick) : 0;
    if (n || !(a->hi > a->lo) || !isfinite(a->hi - a->lo)) return n;
    double step = round_step((a->hi - a->lo) / most);
    for (double i = ceil(a->lo / step - 1e-9); i * step <= a->hi + 1e-9 * step && n < QT_TICKS && n < most + 1; i++) tick[n++] = i * step + 0.0; /* not -0 */
    return n;
}

void qt_axis_text(const qt_axis *a, double v, double step, char buf[static 32])
{
    double s = a->unit == QT_PERCENT ? 100 * step : step, x = a->unit == QT_PERCENT ? 100 * v : v;
    int    digits = s > 0 ? (int)fmin(fmax(ceil(-log10(s) - 1e-9), 0), 12) : 2;
    if (a->unit == QT_PERCENT) snprintf(buf, 32, "%.*f %%", digits, x);
    else if (a->unit == QT_BYTES) qt_si_bytes(x, buf);
    else if (fabs(x) >= 10000) qt_si(x, buf);
    else if (x == 0) snprintf(buf, 32, "0");
    else if (a->log || s <= 0 || digits > 4) snprintf(buf, 32, "%.4g", x);
    else snprintf(buf, 32, "%.*f", digits, x);
}

/* ---- the frame ---------------------------------------------------------------------------------------------------------------------- */

static double place(const qt_axis *a, double v)
{
    double at = a->log ? log(fmax(v, 1e-300) / a->lo) / log(a->hi / a->lo) : (v - a->lo) / (a->hi - a->lo);
    return fmin(fmax(at, -0.02), 1.02);
}

double qt_plot_x(const qt_plot *p, double v) { return p->x0 + place(&p->x, v) * (p->x1 - p->x0); }
/* Names run from top to bottom, numbers from bottom to top. */
double qt_plot_y(const qt_plot *p, double v)
{
    double at = place(&p->y, v) * (p->y1 - p->y0);
    return p->y.names ? p->y0 + at : p->y1 - at;
}

/* Characters of UTF-8. */
static int length(const char *s)
{
    int n = 0;
    for (; *s; s++) n += (*s & 0xc0) != 0x80;
    return n;
}

/* At most n characters; a longer text ends in an ellipsis. */
static const char *brief(const char *s, int n, char buf[static 128])
{
    size_t at = 0;
    if (length(s) <= n) return s;
    for (int i = 0; at < 120; at++)
        if ((s[at] & 0xc0) != 0x80 && ++i == n) break;
    snprintf(buf, 128, "%.*s\u2026", (int)at, s);
    return buf;
}

static void put_text(FILE *f, double x, double y, const char *anchor, const char *classes, const char *text)
{
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">", x, y, anchor, classes);
    qt_html_text(f, text);
    fputs("</text>\n", f);
}

static void put_line(FILE *f, double x0, double y0, double x1, double y1, const char *classes)
{
    fprintf(f, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>\n", x0, y0, x1, y1, classes);
}

typedef struct ticks {
    int    n;
    double v[QT_TICKS];
    char   text[QT_TICKS][32];
    int    widest;
} ticks;

static void ticks_of(const qt_axis *a, int most, ticks *t)
{
    t->n = qt_axis_ticks(a, most, t->v), t->widest = 0;
    for (int i = 0; i < t->n; i++) {
        qt_axis_text(a, t->v[i], t->n > 1 ? t->v[1] - t->v[0] : 0, t->text[i]);
        t->widest = length(t->text[i]) > t->widest ? length(t->text[i]) : t->widest;
    }
}

static int widest_name(const qt_axis *a)
{
    int most = 0;
    for (int i = 0; i < a->n; i++) most = length(a->names[i]) > most ? length(a->names[i]) : most;
    return most < NAME ? most : NAME;
}

static void draw_names(qt_plot *p)
{
    char buf[128];
    for (int i = 0; i < p->y.n; i++) put_text(p->f, p->x0 - 8, qt_plot_y(p, i + 0.5) + 4, "end", "name", brief(p->y.names[i], NAME, buf));
}

static void draw_y(qt_plot *p, const ticks *t)
{
    for (int i = 0; i < t->n; i++) {
        double y = qt_plot_y(p, t->v[i]);
        put_line(p->f, p->x0, y, p->x1, y, "grid");
        put_text(p->f, p->x0 - 6, y + 4, "end", "tick", t->text[i]);
    }
    if (p->y.name) put_text(p->f, 0, p->y0 - 8, "start", "axis", p->y.name);
}

/* Fewer of them where they would touch. */
static void draw_x(qt_plot *p)
{
    ticks t;
    int   most = 7;
    if (p->x.name) put_text(p->f, p->x1, p->y1 + 29, "end", "axis", p->x.name);
    if (p->x.names) {
        char buf[128];
        int  room = (int)((p->x1 - p->x0) / p->x.n / CHAR) - 1;
        for (int i = 0; i < p->x.n; i++) put_text(p->f, qt_plot_x(p, i + 0.5), p->y1 + 15, "middle", "name", brief(p->x.names[i], room > 2 ? room : 2, buf));
        return;
    }
    do ticks_of(&p->x, most, &t);
    while (t.n * (t.widest + 2) * CHAR > p->x1 - p->x0 && most-- > 2);
    for (int i = 0; i < t.n; i++) {
        double x = qt_plot_x(p, t.v[i]);
        put_line(p->f, x, p->y.names ? p->y0 : p->y1, x, p->y1 + (p->y.names ? 0 : 4), "grid");
        put_text(p->f, x, p->y1 + 15, "middle", "tick", t.text[i]);
    }
}

void qt_plot_begin(qt_plot *p, FILE *f, const char *title)
{
    ticks t = {0};
    qt_axis_pad(&p->x), qt_axis_pad(&p->y);
    if (!p->y.names) ticks_of(&p->y, 6, &t);
    if (p->width <= 0) p->width = 420;
    if (p->height <= 0) p->height = p->y.names ? 21.0 * p->y.n + (p->x.name ? 44 : 30) : 250;
    p->f = f, p->n_labels = 0;
    p->x0 = p->y.names ? widest_name(&p->y) * (CHAR + 0.6) + 12 : t.widest * CHAR + 12;
    p->x1 = p->width - (p->right ? p->right * (CHAR + 0.5) + 12 : 14);
    p->y0 = p->y.names ? 6 : 24, p->y1 = p->height - (p->x.name ? 34 : 20);
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" class=\"plot\" role=\"img\" aria-label=\"", p->width, p->height);
    qt_html_text(f, title);
    fprintf(f, "\"%s>\n", p->alone ? " font-family=\"system-ui, sans-serif\"" : "");
    if (p->alone) fprintf(f, "<style>%s</style>\n<rect width=\"100%%\" height=\"100%%\" rx=\"6\" class=\"paper\"/>\n", qt_style_plot);
    if (p->y.names) draw_names(p);
    else draw_y(p, &t);
    draw_x(p);
    put_line(f, p->x0, p->y1, p->x1, p->y1, "frame");
}

/* ---- what is drawn into it ------------------------------------------------------------------------------------------------------------ */

/* The points of one column of pixels, in the order in which they came. */
typedef struct column {
    int x, first, low, high, last;
} column;

static void put_column(const qt_plot *p, const double *x, const double *y, const column *c, char *command)
{
    int order[4] = {c->first, c->low < c->high ? c->low : c->high, c->low < c->high ? c->high : c->low, c->last};
    for (int i = 0; i < 4; i++) {
        if (i && order[i] == order[i - 1]) continue;
        fprintf(p->f, "%c%.1f %.1f", *command, qt_plot_x(p, x[order[i]]), qt_plot_y(p, y[order[i]]));
        *command = 'L';
    }
}

void qt_plot_line(qt_plot *p, int n, const double *x, const double *y, const char *classes)
{
    column c = {.x = -1};
    char   command = 'M';
    fprintf(p->f, "<path class=\"%s\" d=\"", classes);
    for (int i = 0; i < n; i++) {
        int at = (int)qt_plot_x(p, x[i]);
        if (c.x >= 0 && (at != c.x || isnan(y[i]))) put_column(p, x, y, &c, &command), c.x = -1;
        if (isnan(y[i])) command = 'M';
        else if (c.x < 0) c = (column){at, i, i, i, i};
        else c.low = y[i] < y[c.low] ? i : c.low, c.high = y[i] > y[c.high] ? i : c.high, c.last = i;
    }
    if (c.x >= 0) put_column(p, x, y, &c, &command);
    fputs("\"/>\n", p->f);
}

void qt_plot_steps(qt_plot *p, int n, double lo, double hi, const double *y, const char *classes)
{
    fprintf(p->f, "<path class=\"%s\" d=\"M%.1f %.1f", classes, qt_plot_x(p, lo), p->y1);
    for (int i = 0; i < n; i++) fprintf(p->f, "V%.1fH%.1f", qt_plot_y(p, y[i]), qt_plot_x(p, lo + (hi - lo) * (i + 1) / n));
    fprintf(p->f, "V%.1fZ\"/>\n", p->y1);
}

void qt_plot_dot(qt_plot *p, double x, double y, double r, const char *classes, const char *tip)
{
    fprintf(p->f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" class=\"%s\">", qt_plot_x(p, x), qt_plot_y(p, y), r, classes);
    if (tip) fputs("<title>", p->f), qt_html_text(p->f, tip), fputs("</title>", p->f);
    fputs("</circle>\n", p->f);
}

static double x_of(const qt_plot *p, double v) { return isinf(v) ? v < 0 ? p->x0 : p->x1 : qt_plot_x(p, v); }
static double y_of(const qt_plot *p, double v) { return isinf(v) ? v < 0 ? p->y1 : p->y0 : qt_plot_y(p, v); }

void qt_plot_rule(qt_plot *p, double x0, double y0, double x1, double y1, const char *classes)
{
    put_line(p->f, x_of(p, x0), y_of(p, y0), x_of(p, x1), y_of(p, y1), classes);
}

void qt_plot_text(qt_plot *p, double x, double y, double dx, double dy, const char *anchor, const char *classes, const char *text)
{
    put_text(p->f, x_of(p, x) + dx, y_of(p, y) + dy, anchor, classes, text);
}

void qt_plot_label(qt_plot *p, double y, int colour, const char *text)
{
    int  i = p->n_labels;
    char buf[128];
    if (i == QT_PLOT_LABELS || isnan(y)) return;
    y = qt_plot_y(p, y);
    for (; i > 0 && p->label[i - 1].y > y; i--) p->label[i] = p->label[i - 1];
    p->label[i].y = y, p->label[i].colour = colour;
    snprintf(p->label[i].text, sizeof p->label[i].text, "%s", brief(text, p->right, buf));
    p->n_labels++;
}

/* Down until none overlaps the one above, then up from the lower edge. */
static void spread(qt_plot *p)
{
    double limit = p->y1 + 4;
    for (int i = 1; i < p->n_labels; i++) p->label[i].y = fmax(p->label[i].y, p->label[i - 1].y + LINE);
    for (int i = p->n_labels; i-- > 0; limit = p->label[i].y - LINE) p->label[i].y = fmin(p->label[i].y, limit);
}

void qt_plot_end(qt_plot *p)
{
    spread(p);
    for (int i = 0; i < p->n_labels; i++) {
        char classes[32] = "label rest";
        if (p->label[i].colour >= 0) snprintf(classes, sizeof classes, "label c%d", p->label[i].colour % QT_COLOURS);
        put_text(p->f, p->x1 + 7, p->label[i].y + 4, "start", classes, p->label[i].text);
    }
    fputs("</svg>\n", p->f);
}
