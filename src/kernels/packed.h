/* Weights packed to 1, 2 (ternary too), 4 or 8 bits a code, as the deployment engine keeps them, and the products that unpack them in registers. */
#ifndef QT_KERNELS_PACKED_H
#define QT_KERNELS_PACKED_H
#include "kernels/codes.h"

/* A matrix w [N,K] of codes in [lo, hi]. Rows are padded to whole vectors; the order of codes in memory is the kernel's own, and the same on
 * every CPU. */
typedef struct qt_packed {
    int64_t N, K;
    int     bits;    /* 1: codes -1 and 1 (lo = -1, hi = 1); 2: lo..lo+3, ternary among them; 4: lo..lo+15; 8 */
    int     lo, hi;
    size_t  size;    /* bytes of data */
    void   *data;
    int32_t *sum;    /* [N] sums of the codes of a row: what a zero point of x is multiplied with */
} qt_packed;

/* The fewest bits that hold codes in [lo, hi]: 1 only when asked for with lo = -1, hi = 1 and no zeros (`binary`). */
int    qt_packed_bits(int lo, int hi, bool binary);
/* Bytes of data for [N,K]. */
size_t qt_packed_size(int64_t N, int64_t K, int bits);
/* Packs q [N,K]; data and sum are the caller's, of the right sizes. False if a code is outside [lo, hi]. */
bool   qt_packed_fill(qt_packed *p, int64_t N, int64_t K, int bits, int lo, int hi, const int8_t *q, void *data, int32_t *sum);
/* Rows [n, n + rows) back to bytes q [rows, K]. */
void   qt_packed_unpack(const qt_packed *p, int64_t n, int64_t rows, int8_t *q);
/* y [M,N] = x w^T as qt_ilinear, w->packed given. Few rows of x: codes are unpacked in registers; many: panel by panel into the integer GEMM. */
size_t qt_packed_work(int64_t M, const qt_icodes *x, const qt_icodes *w);
void   qt_packed_linear(int64_t M, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y);

/* ---- the ways to compute it: scalar, AVX2, AVX512-VNNI; all give the same bits ------------------------------------------------------ */

typedef struct qt_packed_path qt_packed_path;
const char           *qt_packed_name(const qt_packed_path *p);
bool                  qt_packed_has(const qt_packed_path *p);   /* this CPU can run it */
const qt_packed_path *qt_packed_path_at(int i);                 /* best first; NULL behind the last one */
const qt_packed_path *qt_packed_chosen(void);
void                  qt_packed_force(const qt_packed_path *p); /* tests and benchmarks; NULL: choose the fastest */
#endif
