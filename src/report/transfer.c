/* The transfer function of a quantizer, of any in the list, by the path that training takes: a tensor of rows that are all alike but for their
 * first number, which runs from -3 to 3. The others are the same bell in every row, with a 3 and a -3 in each 32 of them, so that whatever
 * finds a scale (of the tensor, of a row, of a block) finds nearly the same one in all rows, and what is left is a function of one number.
 * dy is 1 at the first number of each row and 0 elsewhere, so that dx there is the slope of what backward takes the function for. */
#include "report/transfer.h"
#include <math.h>
#include <string.h>

enum { P = QT_TRANSFER, WIDE = 256, PERIOD = 32 };
static const double REACH = 3, SPREAD = 0.8;

/* Number i of the bell: quantiles of a logistic distribution, which is near a normal one, in an order that mixes small and large. */
static double bell(int i)
{
    double u = ((i * 13) % PERIOD + 0.5) / PERIOD;
    if (i % PERIOD == 1 || i % PERIOD == 2) return i % PERIOD == 1 ? REACH : -REACH;
    return SPREAD / 1.8 * log(u / (1 - u));
}

static void fill(R *x)
{
    for (int p = 0; p < P; p++)
        for (int i = 0; i < WIDE; i++) x[p * WIDE + i] = (R)(i ? bell(i) : REACH * (2.0 * p / (P - 1) - 1));
}

static void switch_lowest(qt_site *q)
{
    qt_precision list[QT_MAX_PRECISIONS];
    int          n = qt_site_precisions(q, list), low = 0;
    for (int i = 1; i < n; i++)
        if (list[i].bits < list[low].bits) low = i;
    if (n) qt_site_switch(q, list[low]);
}

static qt_err drive(qt_arena *a, qt_tape *t, qt_site *q, qt_transfer *out)
{
    R         *dy = qt_arena_zalloc(a, P * WIDE * sizeof *dy);
    qt_tensor *x = qt_variable(t, 2, (int64_t[]){P, WIDE}), *y;
    if (!dy) return QT_EMEM;
    QT_TRY(qt_tape_error(t));
    fill(x->data);
    y = qt_quantize(t, q, x);
    QT_TRY(qt_tape_error(t));
    for (int p = 0; p < P; p++) dy[p * WIDE] = 1;
    for (int p = 0; p < P; p++) out->x[p] = (double)x->data[p * WIDE], out->y[p] = (double)y->data[p * WIDE], out->slope[p] = y == x;
    out->bits = q->quant->bits(q);
    if (y == x || !qt_wants_grad(y)) return QT_OK;
    QT_TRY(qt_backward_from(t, y, dy));
    for (int p = 0; p < P; p++) out->slope[p] = (double)x->grad[p * WIDE];
    return QT_OK;
}

qt_err qt_transfer_run(qt_arena *a, const qt_yaml *spec, qt_role role, qt_transfer *out)
{
    qt_store *s = qt_store_new(1);
    qt_tape  *t = qt_tape_new();
    qt_site  *q = NULL;
    qt_err    e = s && t ? qt_site_make(s, "x", role, 0, 1, 2, (int64_t[]){P, WIDE}, spec, "", &q) : QT_EMEM;
    if (e == QT_OK) e = qt_store_seal(s, 0);
    if (e == QT_OK) {
        qt_tape_mode(t, true, true);
        switch_lowest(q);
        e = drive(a, t, q, out);
    }
    qt_tape_free(t);
    qt_store_free(s);
    return e;
}

/* ---- drawing ------------------------------------------------------------------------------------------------------------------------- */

typedef struct picture {
    int    rows;
    double lo, hi;
    char   at[24][P + 1];
} picture;

static int row_of(const picture *c, double v)
{
    double at = (c->hi - v) / (c->hi - c->lo) * (c->rows - 1);
    return (int)fmin(fmax(floor(at + 0.5), 0), c->rows - 1);
}

static void begin(picture *c, int rows, double lo, double hi)
{
    *c = (picture){.rows = rows, .lo = lo, .hi = hi};
    for (int i = 0; i < rows; i++) memset(c->at[i], ' ', P), c->at[i][P] = 0;
}

static void show(FILE *f, const picture *c)
{
    for (int i = 0; i < c->rows; i++) {
        int n = P;
        while (n > 0 && c->at[i][n - 1] == ' ') n--;
        double v = c->hi - (c->hi - c->lo) * i / (c->rows - 1);
        bool   marked = i == 0 || i == c->rows - 1 || fabs(v) < 1e-9;
        if (marked) fprintf(f, "%7.2g |%.*s\n", fabs(v) < 1e-9 ? 0 : v, n, c->at[i]);
        else fprintf(f, "%7s |%.*s\n", "", n, c->at[i]);
    }
}

static void limits(const double v[P], double *lo, double *hi)
{
    for (int p = 0; p < P; p++)
        if (isfinite(v[p])) *lo = fmin(*lo, v[p]), *hi = fmax(*hi, v[p]);
}

void qt_transfer_print(FILE *f, const qt_transfer *t)
{
    picture c;
    double  lo = -REACH, hi = REACH;
    limits(t->y, &lo, &hi);
    hi = fmax(hi, -lo);
    begin(&c, 21, -hi, hi);
    for (int p = 0; p < P; p++) c.at[row_of(&c, t->x[p])][p] = '.';
    for (int p = 0; p < P; p++) c.at[row_of(&c, t->y[p])][p] = '*';
    fprintf(f, "y over x (*), %.3g bit%s; y = x (.)\n\n", t->bits, t->bits == 1 ? "" : "s");
    show(f, &c);
    lo = 0, hi = 1;
    limits(t->slope, &lo, &hi);
    begin(&c, 7, lo, hi);
    for (int p = 0; p < P; p++) c.at[row_of(&c, t->slope[p])][p] = '*';
    fprintf(f, "%7s +%.*s\n%7s %-*g0%*g\n\nits gradient, dx for dy = 1\n\n", "", P, "-----------------------------------------------------------------", "", P / 2, -REACH,
            P / 2 + 1, REACH);
    show(f, &c);
    fprintf(f, "%7s +%.*s\n%7s %-*g0%*g\n", "", P, "-----------------------------------------------------------------", "", P / 2, -REACH, P / 2 + 1, REACH);
}
