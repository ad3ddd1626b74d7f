/* Products of codes -1 and 1 against codes -1 and 1: a bit each, an exclusive or and a count of ones for 64 multiply-adds and more,
 *     sum_k a b = K - 2 popcount(a ^ b). */
#ifndef QT_KERNELS_XNOR_H
#define QT_KERNELS_XNOR_H
#include "qtape.h"

/* 64-bit words of a row of K codes: whole vectors, zeros behind the last code. */
int64_t qt_xnor_words(int64_t K);
/* bits [rows, words(K)] of q [rows, K], whose codes are -1 and 1 (bit 1: code 1). False if there is another. */
bool qt_xnor_pack(int64_t rows, int64_t K, const int8_t *q, uint64_t *bits);
/* C [M,N] int32 = A [M,K] B [N,K]^T, both packed; exact. */
void qt_xnor_gemm(int64_t M, int64_t N, int64_t K, const uint64_t *A, const uint64_t *B, int32_t *C);

/* The ways to count: AVX512-VPOPCNTDQ, AVX2, scalar. */
typedef struct qt_xnor_path qt_xnor_path;
const char         *qt_xnor_name(const qt_xnor_path *p);
bool                qt_xnor_has(const qt_xnor_path *p);
const qt_xnor_path *qt_xnor_path_at(int i);               /* best first; NULL behind the last one */
const qt_xnor_path *qt_xnor_chosen(void);
void                qt_xnor_force(const qt_xnor_path *p); /* tests and benchmarks; NULL: choose the fastest */
#endif
