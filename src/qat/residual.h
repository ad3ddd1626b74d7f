/* What backward of a learned step keeps of its input in few bits: see residual.c. */
#ifndef QT_QAT_RESIDUAL_H
#define QT_QAT_RESIDUAL_H
#include "qat/steps.h"

/* Bytes of n elements at 2, 4 or 8 bits. */
int64_t qt_residual_bytes(int64_t n, int bits);
/* Keeps x [n], whose grid has scales and no zero points, in kept [qt_residual_bytes]. rng gives 16 random bits an element. */
void    qt_residual_keep(const qt_grid *g, const R *x, int64_t n, int bits, const qt_rng *rng, uint8_t *kept);
/* Of one piece: dx as in qt_step_run, and the sum for ds. q are the stored bytes of all codes, code - base. */
double  qt_residual_gradients(R *dx, const R *dy, const uint8_t *q, int base, const uint8_t *kept, int bits, qt_piece p, qt_step_dx mode);
#endif
