/* Genetic search: the best of many lists of choices, too many to try, by a fitness that is cheap to compute. Knows nothing of what a list
 * stands for. The random numbers are those of the stream it is given, so the same seed finds the same list. */
#ifndef QT_BASE_GENETIC_H
#define QT_BASE_GENETIC_H
#include "base/mem.h"
#include "base/rng.h"

typedef struct qt_genetic {
    int        genes;
    const int *choices;                                                    /* [genes] gene i is one of 0..choices[i]-1 */
    bool     (*valid)(void *arg, const int *list);                         /* OPTIONAL: the constraint */
    void     (*repair)(void *arg, qt_rng *r, int *list);                   /* OPTIONAL: moves a list towards the constraint */
    qt_err   (*fitness)(void *arg, int n, const int *lists, double *value); /* REQUIRED: lists [n, genes] -> value [n]; more is better */
    void      *arg;
    int        population;           /* lists at first */
    int        parents;              /* the best so many, different ones, go on to the next round */
    int        mutants, crossovers;  /* new lists a round */
    int        rounds;
    double     mutation;             /* probability that a mutant's gene is drawn again */
} qt_genetic;

/* The best list found into list [genes], its fitness into *value. QT_EUSAGE if no list that the constraint allows was found at all. */
qt_err qt_genetic_search(qt_arena *a, const qt_genetic *g, qt_rng *r, int *list, double *value);
/* A random list that the constraint allows. */
qt_err qt_genetic_draw(const qt_genetic *g, qt_rng *r, int *list);
#endif
