/* Convolution in integers, forward only: the codes of x [N,C,H,W] (uint8) and w [O,C/groups,KH,KW] (int8) into y [N,O,OH,OW], by the rule of
 * codes.h. Outside the image stands the value 0, that is, the stored zero. An implicit matrix product: columns are never built. */
#ifndef QT_KERNELS_ICONV_H
#define QT_KERNELS_ICONV_H
#include "kernels/codes.h"
#include "kernels/conv.h"

/* x per tensor or per image (inner = C*H*W); w per tensor or per output channel; C/groups*KH*KW within qt_longest_block. */
bool   qt_iconv_suits(const qt_conv *c, const qt_icodes *x, const qt_icodes *w);
/* c has its sizes (first row of qt_conv) and OH, OW. Bytes of work space, for at most the present number of threads. */
size_t qt_iconv_work(const qt_conv *c, const qt_icodes *x, const qt_icodes *w);
void   qt_iconv(const qt_conv *c, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y);
/* The slow twin: plain loops in int64. The same bits. */
void   qt_iconv_naive(const qt_conv *c, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, R *y);

/* The weight's gradient: sum [O, C/groups*KH*KW] of products of the codes of x, less its zero points, with codes q of dy [N,O,OH,OW], |q| <= top;
 * exact whatever its length. x as in qt_iconv_suits; q has QT_CODES_SLACK behind it. */
size_t qt_iconv_dw_work(const qt_conv *c, const qt_icodes *x);
void   qt_iconv_dw(const qt_conv *c, const qt_icodes *x, const int8_t *q, int top, void *work, int64_t *sum);
void   qt_iconv_dw_naive(const qt_conv *c, const qt_icodes *x, const int8_t *q, int64_t *sum);

/* One instruction set's kernels, best first: avx512-vnni, avx-vnni, avx2, scalar. */
typedef struct qt_iconv_path qt_iconv_path;
const char          *qt_iconv_name(const qt_iconv_path *p);
bool                 qt_iconv_has(const qt_iconv_path *p);   /* this CPU can run it */
const qt_iconv_path *qt_iconv_path_at(int i);                /* NULL behind the last one */
const qt_iconv_path *qt_iconv_chosen(void);
void                 qt_iconv_force(const qt_iconv_path *p); /* tests and benchmarks; NULL: choose the fastest */
#endif
