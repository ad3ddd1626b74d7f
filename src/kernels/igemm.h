/* Integer matrix products: 8-bit codes in, exact 32-bit sums. Every path (scalar, AVX2, AVX-VNNI, AVX512-VNNI) gives the same bits over the
 * full ranges of its operands; the fastest one that the CPU has is chosen at run time. */
#ifndef QT_KERNELS_IGEMM_H
#define QT_KERNELS_IGEMM_H
#include "kernels/codes.h"

/* One instruction set's kernel; NULL-terminated, best first. Private to igemm*.c but for its name. */
typedef struct qt_igemm_path qt_igemm_path;
const char          *qt_igemm_name(const qt_igemm_path *p);
bool                 qt_igemm_has(const qt_igemm_path *p); /* this CPU can run it */
const qt_igemm_path *qt_igemm_path_at(int i);              /* NULL behind the last one */
const qt_igemm_path *qt_igemm_chosen(void);                /* for env.json too */
void                 qt_igemm_force(const qt_igemm_path *p); /* tests and benchmarks; NULL: choose the fastest */

/* ---- the layer's product: y [M,N] = x w^T, x [M,K] uint8, w [N,K] int8, with scales and epilogue ------------------------------- */

/* Whether the layouts are ones that the kernel can do: x per tensor, per row (inner = K) or in groups along K; w per tensor, per row or
 * in groups; where both have groups they are the same or one divides the other. false: compute in float. */
bool   qt_ilinear_suits(int64_t M, int64_t N, int64_t K, const qt_icodes *x, const qt_icodes *w);
/* Bytes of work space; the same for any number of threads. */
size_t qt_ilinear_work(int64_t M, int64_t N, int64_t K, const qt_icodes *x, const qt_icodes *w);
void   qt_ilinear(int64_t M, int64_t N, int64_t K, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y);
/* The slow twin: plain loops in int64. The same bits. */
void   qt_ilinear_naive(int64_t M, int64_t N, int64_t K, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, R *y);

/* ---- the bare product: C [M,N] int32 = op(A) [M,K] op(B) [K,N] ------------------------------------------------------------------- */

/* An operand: q int8_t or uint8_t (or int16_t), all of it within [lo, hi]: a narrow range is faster. Row-major, with QT_CODES_SLACK behind it. */
typedef struct qt_ioperand {
    const void *q;
    bool        is_signed, trans;
    int         lo, hi;
    bool        wide;  /* q is int16_t */
    int64_t     pitch; /* codes from row to row; 0: as many as a row has. Of A not transposed only */
} qt_ioperand;

/* A and B may both be signed; at most one of them unsigned, or both. K is at most qt_longest_block of the ranges. */
size_t qt_igemm_work(int64_t M, int64_t N, int64_t K, qt_ioperand a, qt_ioperand b);
void   qt_igemm(int64_t M, int64_t N, int64_t K, qt_ioperand a, qt_ioperand b, void *work, int32_t *C);
void   qt_igemm_naive(int64_t M, int64_t N, int64_t K, qt_ioperand a, qt_ioperand b, int32_t *C);
#endif
