/* The store: all parameters of a run. One block of values, one of gradients, one a slot (Adam's moments, weight EMA), so that an
 * optimizer is one flat loop and a checkpoint is a list of names. */
#ifndef QT_AUTOGRAD_STORE_H
#define QT_AUTOGRAD_STORE_H
#include "autograd/tape.h"

enum { QT_MAX_SLOTS = 4 };

typedef struct qt_param {
    qt_tensor     t;      /* t.name is the name; t.data points into value once sealed */
    qt_param_kind kind;   /* all but QT_BUFFER are trained */
    qt_init       init;
    int64_t       at;     /* offset of the first element, a multiple of 16: rows of SIMD width never straddle parameters */
    bool          frozen; /* trained kind, but not now: no gradient is kept and no optimizer touches it */
    bool          outside; /* has no place in the block of values: data is NULL */
    bool          base;   /* frozen for the whole run, its value given from elsewhere: it lies in a block of its own (or outside), without
                             gradient and slots, and no checkpoint holds it. Marked before the store is sealed */
    int           rows;   /* a table of so many rows, one a precision, of which a forward pass uses one; 0: used whole */
    uint64_t      used;   /* of a table: the rows that got a gradient since the optimizer's last step. The others rest in the next one */
} qt_param;
enum { QT_MAX_ROWS = 64 };

struct qt_store {
    uint64_t   seed;
    qt_param **p; /* in order of creation */
    int        n, cap;
    int64_t    size;      /* elements, padding included */
    int        n_slots;
    R         *value, *grad, *slot[QT_MAX_SLOTS];
    R         *base;      /* of the parameters marked so */
    bool       sealed;
    struct qt_site **site; /* quantizer sites, in order of creation; owned */
    int              n_site, cap_site;
    void           (*site_free)(struct qt_site *); /* set with the first site: the store knows no quantizer */
};

qt_param *qt_store_param(const qt_store *s, const char *name);
/* The parameter that a tensor is, NULL if it is none. */
qt_param *qt_store_param_of(const qt_store *s, const qt_tensor *t);
/* Row k of a parameter that is a table, as a tensor of the tape, and marks it as used where it wants a gradient. Of any other the whole. */
qt_tensor *qt_param_row(qt_tape *t, qt_tensor *param, int k);
/* Freezes a parameter, or thaws it (thawing takes the store's gradient block, freezing NULL). */
void      qt_store_freeze(qt_param *p, R *grad_block);
/* Seals for inference: no gradients, values all 0. Parameters that were marked `outside` before have none: weights that are integers only. */
qt_err    qt_store_seal_values(qt_store *s);
/* The start value of a parameter into x [t.n]. */
void      qt_store_init(const qt_store *s, const qt_param *p, R *x);
/* Numbers of weights, biases, norms, step sizes; and those of them that are not frozen. */
int64_t   qt_store_trained(const qt_store *s);
int64_t   qt_store_moving(const qt_store *s);
/* Rescales gradients so that their norm is at most max (fixed order of summation); returns the norm before. */
double    qt_store_clip_norm(qt_store *s, double max);
void      qt_store_clip_value(qt_store *s, double max);
#endif
