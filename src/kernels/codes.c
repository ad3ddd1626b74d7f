/* See codes.h. */
#include "kernels/codes.h"

int64_t qt_icodes_reach(const qt_icodes *c)
{
    int64_t reach = 0;
    for (int64_t k = 0; k < (c->zero ? c->count : 1); k++) {
        int64_t z = c->zero ? c->zero[k] : 0, below = z - c->lo, above = c->hi - z;
        reach = reach > below ? reach : below;
        reach = reach > above ? reach : above;
    }
    return reach;
}
