/* Multiple-choice knapsack: for each item one of several choices, the least cost whose weights fit. */
#ifndef QT_BASE_KNAPSACK_H
#define QT_BASE_KNAPSACK_H
#include "base/err.h"

typedef struct qt_knapsack_choice {
    double  cost;   /* INFINITY: not to be chosen */
    int64_t weight; /* >= 0 */
} qt_knapsack_choice;

/* table [items][choices]. pick [items] is the choice for each item whose costs, added in the order of the items, are least among all whose weights
 * sum to at most room; of several such the lightest. Exact. QT_EUSAGE if nothing fits, or if the problem is too large to be solved exactly. */
qt_err qt_knapsack(int items, int choices, const qt_knapsack_choice *table, int64_t room, int *pick, double *cost);
#endif
