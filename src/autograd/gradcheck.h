/* Gradient check along random directions and element by element, central differences. Meant for the double build, where a correct
 * op stays below 1e-7; in the float build the bound is loose and says so. */
#ifndef QT_AUTOGRAD_GRADCHECK_H
#define QT_AUTOGRAD_GRADCHECK_H
#include "autograd/tape.h"

typedef struct qt_gradcheck_result {
    double worst;  /* largest |analytic - numeric| / max(1, |analytic|, |numeric|) */
    int    input;  /* where: which input, which element */
    int64_t index;
    double analytic, numeric;
} qt_gradcheck_result;

/* QT_OK and the worst error found; QT_ESHAPE etc. if the case cannot be built. bound(): what counts as passed in this build. */
qt_err qt_gradcheck(const qt_op *op, const qt_case *c, uint64_t seed, qt_gradcheck_result *r);
double qt_gradcheck_bound(void);
/* Makes input k of a case: data in the tape's arena, or ids. Shared with the other op tests. */
qt_tensor *qt_case_input(qt_tape *t, const qt_case *c, int k, uint64_t seed);
int        qt_case_inputs(const qt_case *c);
#endif
