/* Products of codes -1 and 1 with codes -1 and 1: a bit each (1: code 1), an exclusive or and a count of ones for 64 multiply-adds,
 *     sum_k a b = K - 2 popcount(a ^ b).
 * One operand is packed in rows of words, the other in panels: eight rows side by side, word by word, so that a vector holds a word of each
 * and its lanes count for eight results at once. */
#ifndef QT_KERNELS_XNOR_H
#define QT_KERNELS_XNOR_H
#include "kernels/codes.h"
#include "kernels/conv.h"

enum { QT_XNOR_LANES = 8 }; /* rows of a panel */

/* 64-bit words of a row of K codes; zeros stand behind the last code. */
int64_t qt_xnor_words(int64_t K);
/* n <= 64 codes as bits, the first one lowest: of a weight bytes -1 and 1, of an activation (not signed) 0 and 2. */
uint64_t qt_xnor_word(const void *q, int64_t n, bool is_signed);
/* bits [rows, words(K)] of q [rows, K], whose codes are -1 and 1. False if there is another. */
bool qt_xnor_pack(int64_t rows, int64_t K, const int8_t *q, uint64_t *bits);
/* Words of the panels of N rows, the last panel filled up. */
int64_t qt_xnor_panel_words(int64_t N, int64_t K);
/* Rows [N, words(K)] into panels. */
void qt_xnor_weave(int64_t N, int64_t K, const uint64_t *bits, uint64_t *panels);
/* C [M,N] int32 = A [M,K] B [N,K]^T, A in rows and B in panels; exact. */
void qt_xnor_gemm(int64_t M, int64_t N, int64_t K, const uint64_t *A, const uint64_t *B, int32_t *C);

/* ---- layers whose operands both have such codes (qt_icodes.binary): the bits of qt_iconv and qt_ilinear ----------------------------------- */

bool   qt_xnor_suits(const qt_icodes *x, const qt_icodes *w);
/* As qt_iconv and its work space. Outside the image stands 0, which has no bit: those taps are counted and taken off again. */
size_t qt_xnor_conv_work(const qt_conv *c);
void   qt_xnor_conv(const qt_conv *c, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y);
/* As qt_ilinear, for scales that hold for whole rows. */
bool   qt_xnor_linear_suits(int64_t K, const qt_icodes *x, const qt_icodes *w);
size_t qt_xnor_linear_work(int64_t M, int64_t N, int64_t K);
void   qt_xnor_linear(int64_t M, int64_t N, int64_t K, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y);

/* ---- the ways to count: AVX512-VPOPCNTDQ, AVX2, scalar ------------------------------------------------------------------------------------- */

typedef struct qt_xnor_path {
    const char *name;
    bool (*has)(void);
    /* ones[i] = popcount(row ^ row i of the panels), `panels` of them */
    void (*count)(const uint64_t *row, const uint64_t *panel, int64_t words, int64_t panels, int32_t *ones);
} qt_xnor_path;
const char         *qt_xnor_name(const qt_xnor_path *p);
bool                qt_xnor_has(const qt_xnor_path *p);
const qt_xnor_path *qt_xnor_path_at(int i);               /* best first; NULL behind the last one */
const qt_xnor_path *qt_xnor_chosen(void);
void                qt_xnor_force(const qt_xnor_path *p); /* tests and benchmarks; NULL: choose the fastest */
#endif
