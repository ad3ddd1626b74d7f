/* The affine grid: what all quantizers with a given scale share. A value x becomes the integer
 *     code = clamp(round(x / s) + z, qn, qp),      and stands for     y = (code - z) * s + o,
 * with s, z, o constant over a run of the layout. Also here: the walk over a tensor, run by run, that all quantizers use. */
#ifndef QT_QAT_GRID_H
#define QT_QAT_GRID_H
#include "base/par.h"
#include "kernels/codes.h"
#include "ops/vmath.h"
#include "qat/quant.h"
#include "qat/round.h"

/* ---- the walk ------------------------------------------------------------------------------------------------------------------- */

/* A layout cuts a tensor into runs of `inner` numbers that share a scale; long runs are cut into pieces of at most QT_GRAIN. The
 * pieces depend on the shape only, so that what is summed piece by piece has the same bits for any number of threads:
 *     qt_cut c = qt_cut_of(layout, x->n);
 *     QT_FOR_EACH(j, c.pieces, c.many) {
 *         qt_piece p = qt_piece_of(&c, j);
 *         ... elements [p.at, p.at + p.n) have scale p.k ...
 *     } */
typedef struct qt_cut {
    int64_t inner, count, per_run, pieces;
    bool    many;
} qt_cut;
typedef struct qt_piece {
    int64_t at, n, k;
} qt_piece;

static inline qt_cut qt_cut_of(qt_layout l, int64_t n)
{
    int64_t per_run = QT_CHUNKS(l.inner, QT_GRAIN);
    return (qt_cut){l.inner, l.count, per_run, n / l.inner * per_run, n > QT_GRAIN};
}

static inline qt_piece qt_piece_of(const qt_cut *c, int64_t j)
{
    int64_t run = j / c->per_run, from = j % c->per_run * QT_GRAIN;
    return (qt_piece){run * c->inner + from, qt_min_i64(QT_GRAIN, c->inner - from), run % c->count};
}

/* Sum of partial[pieces] over the pieces of scale k. */
double qt_cut_sum(const qt_cut *c, const double *partial, int64_t k);

/* ---- byte codes for the integer kernels ------------------------------------------------------------------------------------------- */

/* Where forward writes the codes of its result: q[i] = code - base. */
typedef struct qt_bytes {
    uint8_t *q;     /* NULL: nowhere. The bytes of a weight are read as int8_t */
    int      base;
    R       *scale; /* [count], for forward to fill in */
} qt_bytes;

/* For shape(), after nd->out is made: attaches codes within [qn, qp] to it (kernels/codes.h) and says in b where they go. No codes, and
 * b->q = NULL, if the tape simulates, if they need more than 8 bits, or if a zero point (zero NULL: all 0) is not itself a code. */
qt_err qt_bytes_attach(qt_node *nd, qt_role role, qt_layout l, R qn, R qp, const R *zero, qt_bytes *b);
/* The same for codes -1 and 1, of which no other comes. */
qt_err qt_bytes_attach_signs(qt_node *nd, qt_role role, qt_layout l, qt_bytes *b);
/* A number of scale k is NaN, which has no code: makes the scale NaN, so that no integer product hides it. From any thread. */
void   qt_bytes_spoil(const qt_bytes *b, int64_t k);

/* ---- the grid ------------------------------------------------------------------------------------------------------------------- */

typedef struct qt_grid {
    qt_layout layout;
    R         qn, qp;
    R        *scale;  /* [count] */
    R        *zero;   /* [count] or NULL: 0 */
    R        *offset; /* [count] or NULL: 0 */
    bool      mask;   /* gradient stops where round(x/s) + z is outside [qn, qp]; otherwise it passes everywhere */
    qt_role   role;
    qt_bytes  bytes;  /* set by qt_grid_shape */
} qt_grid;

/* An op whose shape, forward and backward are these has a qt_grid as its argument, or first in it, and constant scales. No offset. */
qt_err qt_grid_shape(qt_node *nd);
void   qt_grid_forward(qt_node *nd);
void   qt_grid_backward(const qt_node *nd);
uint32_t qt_grid_reads(const qt_node *nd);

/* y = values of x [n] and, unless q is NULL, q = codes - base, in one pass. False if q holds the code of a NaN. */
bool   qt_quantize_run(R *restrict y, uint8_t *restrict q, const R *restrict x, int64_t n, R s, R z, R qn, R qp, int base);

/* Allocates scale (and zero, if with_zero) for a grid. */
qt_err qt_grid_alloc(qt_arena *a, qt_grid *g, bool with_zero);
/* Codes of x on the grid, whose arrays the result shares. QT_EDATA if a number of x is not finite, or a scale not positive and finite. */
qt_err qt_grid_encode(const qt_site *q, const qt_grid *g, const qt_tensor *x, qt_arena *a, double bits, qt_codes *c);
/* Makes c hold n codes, which the caller fills in. */
qt_err qt_codes_new(qt_arena *a, int64_t n, qt_layout l, R *scale, double bits, qt_codes *c);
/* QT_EDATA naming the site if x holds a NaN or an infinity, which have no code. */
qt_err qt_codes_check(const qt_site *q, const qt_tensor *x);

/* ---- the straight-through estimator without a mask ----------------------------------------------------------------------------------- */

/* For shape(), after nd->out is made, of an op whose gradient is dx = dy: the result of a parameter accumulates its gradient in the
 * parameter's own memory. However often the parameter is used, all uses add there, and there is nothing left to do in backward. */
void   qt_pass_shape(qt_node *nd);
/* dx += dy. The op `stores`. */
void   qt_pass_backward(const qt_node *nd);
#endif
