/* A model in fixed point, run with integers alone. Wherever the training graph casts a tensor (quantizer `fixed`), there is an integer and the
 * position of its binary point; what lies between is exact: products and sums in 64 bits, shifts to align what is added, a shift with rounding
 * where it is cast. This is what a device computes, and where a float can hold every sum it is bit for bit what the training graph computes. */
#ifndef QT_EXPORT_FIXED_POINT_H
#define QT_EXPORT_FIXED_POINT_H
#include "train/train.h"

typedef struct qt_fixed qt_fixed;

/* The integers of a model whose quantizers have begun. It runs one sample of zeros on the tape, which is reset. Every tensor that is multiplied or
 * added must have been cast; of layers it knows linear, conv2d, batch_norm with `affine` quantizers, add, relu, max_min, max_pool, avg_pool and
 * global_avg_pool over 2^k numbers, flatten, identity and dropout. QT_EUSAGE names what is in the way. */
qt_err qt_fixed_make(qt_tape *t, qt_model *m, qt_fixed **out);
void   qt_fixed_free(qt_fixed *p);
/* n samples: x [n, inputs] to y [n, outputs]. */
qt_err qt_fixed_run(const qt_fixed *p, int64_t n, const R *x, R *y);
/* Bits of the widest sum, its sign included; *where is its layer. */
int    qt_fixed_widest(const qt_fixed *p, const char **where);
/* Are the graph's own sums exact? If not, says which layer needs more bits than R has. */
qt_err qt_fixed_exact(const qt_fixed *p);
/* A line for each tensor that is cast, and for each sum: words, fraction bits, range. */
void   qt_fixed_print(FILE *f, const qt_fixed *p);
/* Binary points of the model's quantizers, and how many have moved since they began. */
void   qt_fixed_points(const qt_model *m, int64_t *points, int64_t *moved);

/* From now on the run's evaluation is answered by p, until p is NULL. */
void   qt_fixed_answers(qt_run *r, qt_fixed *p);
#endif
