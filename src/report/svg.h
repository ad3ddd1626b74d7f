/* Plots as SVG: a frame with axes at round numbers, and what is drawn into it. Colours come from the style sheet (style.h), as classes c0 to c7
 * of kinds and s0 to s7 of a scale, so that one drawing serves light and dark pages and paper. A plot is written as it is drawn:
 *
 *     qt_plot p = {.x = {"step"}, .y = {"loss", .log = true}};
 *     qt_axis_cover(&p.x, n, step), qt_axis_cover(&p.y, n, loss);
 *     qt_plot_begin(&p, f, "loss over steps");
 *     qt_plot_line(&p, n, step, loss, "line c0");
 *     qt_plot_label(&p, loss[n - 1], 0, "fp32");
 *     qt_plot_end(&p); */
#ifndef QT_REPORT_SVG_H
#define QT_REPORT_SVG_H
#include <stdbool.h>
#include <stdio.h>

typedef enum qt_unit { QT_PLAIN, QT_PERCENT, QT_BYTES } qt_unit;

/* An axis of numbers, or of n names, whose places are 0.5, 1.5 ... */
typedef struct qt_axis {
    const char        *name;    /* NULL: none */
    qt_unit            unit;
    bool               log, covered;
    double             lo, hi;
    int                n;
    const char *const *names;
} qt_axis;

enum { QT_PLOT_LABELS = 12, QT_TICKS = 24, QT_COLOURS = 8 };

typedef struct qt_plot {
    double  width, height;      /* 0: 420 x 250 */
    qt_axis x, y;
    int     right;              /* room for labels beside the frame, in characters */
    bool    alone;              /* a file of its own: with its colours */
    FILE   *f;
    double  x0, x1, y0, y1;     /* the frame: left, right, top, bottom */
    int     n_labels;
    struct { char text[128]; double y; int colour; } label[QT_PLOT_LABELS];
} qt_plot;

/* ---- axes --------------------------------------------------------------------------------------------------------------------------- */

/* Widens the axis so that it holds v[n], as far as they are finite (and positive on a logarithmic axis). */
void qt_axis_cover(qt_axis *a, int n, const double *v);
/* Logarithmic where all of it is positive and spans more than a factor of 8. */
void qt_axis_choose(qt_axis *a);
/* Some air at both ends; never an empty range. */
void qt_axis_pad(qt_axis *a);
/* Round numbers within the axis, at most `most` and QT_TICKS of them. */
int qt_axis_ticks(const qt_axis *a, int most, double tick[QT_TICKS]);
/* A number as the axis writes it; step is the distance of its ticks, 0 for a number that stands alone. */
void qt_axis_text(const qt_axis *a, double v, double step, char buf[static 32]);

/* ---- drawing ------------------------------------------------------------------------------------------------------------------------ */

/* Pads the axes, writes frame, grid and ticks. */
void   qt_plot_begin(qt_plot *p, FILE *f, const char *title);
void   qt_plot_end(qt_plot *p); /* with the labels */
double qt_plot_x(const qt_plot *p, double v); /* in pixels, kept near the frame */
double qt_plot_y(const qt_plot *p, double v);
/* x rises. Of points that fall on one column of pixels the first, the lowest, the highest and the last are drawn; a gap where y is NaN. */
void qt_plot_line(qt_plot *p, int n, const double *x, const double *y, const char *classes);
/* Steps of equal width from x = lo to hi with the heights y[n], filled down to the frame. */
void qt_plot_steps(qt_plot *p, int n, double lo, double hi, const double *y, const char *classes);
void qt_plot_dot(qt_plot *p, double x, double y, double r, const char *classes, const char *tip);
/* A line between two points, of the data; an infinite one stands for the frame's edge. */
void qt_plot_rule(qt_plot *p, double x0, double y0, double x1, double y1, const char *classes);
/* Text at a point, dx and dy pixels beside it; anchor "start", "middle", "end". */
void qt_plot_text(qt_plot *p, double x, double y, double dx, double dy, const char *anchor, const char *classes, const char *text);
/* A name at the right of the frame, at the height of y; names that would overlap are moved apart. colour -1: grey. */
void qt_plot_label(qt_plot *p, double y, int colour, const char *text);
#endif
