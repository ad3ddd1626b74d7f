/* The sections of a report, each written for one chapter; one without anything to show writes nothing. */
#ifndef QT_REPORT_SECTIONS_H
#define QT_REPORT_SECTIONS_H
#include "report/book.h"

void qt_section_verdict(FILE *f, const qt_chapter *c); /* verdict.c: title, claims, what is missing */
void qt_section_results(FILE *f, const qt_chapter *c); /* results.c: arms x seeds, and what quality costs */
void qt_section_sweep(FILE *f, const qt_chapter *c);   /* sweep.c: quality over the axes of a sweep */
void qt_section_curves(FILE *f, const qt_chapter *c);  /* curves.c: loss, accuracy, learning rate over steps */
void qt_section_measures(FILE *f, const qt_chapter *c); /* curves.c: what phases have measured */
void qt_section_quants(FILE *f, const qt_chapter *c);  /* quants.c: scale, clipping, zeros, flips of each site */
void qt_section_layers(FILE *f, qt_chapter *c, qt_arena *notes); /* layers.c: bits and sizes, weights on their grids; what cannot be read is a note */
void qt_section_origin(FILE *f, const qt_chapter *c);  /* verdict.c: environment and command */

/* results.c: a picture of arms with their seeds and deviations, of values v[n][m] (NaN where there is none). */
void qt_arms_plot(FILE *f, const char *metric, int n, const char *const *name, int m, const double *v, bool alone);
#endif
