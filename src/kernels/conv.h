/* 2-D convolution, its three passes over a batch:
 *     y[n,o,oh,ow]  = b[o] + sum_{c,i,j} w[o,c,i,j] x[n,c,h,v]        h = oh*stride + i*dilation - padding, v alike, zero outside
 *     dx[n,c,h,v]  += sum_{o,i,j} w[o,c,i,j] dy[n,o,oh,ow]            over the (i,j,oh,ow) that hit (h,v)
 *     dw[o,c,i,j]  += sum_{n,oh,ow} dy[n,o,oh,ow] x[n,c,h,v],  db[o] += sum dy
 * with channels cut into groups. Several ways to compute them (qt_conv_path) share the loop over images in conv.c: images run in
 * parallel, and dw is summed a chunk of images at a time, so that the bits do not depend on the number of threads. */
#ifndef QT_KERNELS_CONV_H
#define QT_KERNELS_CONV_H
#include "qtape.h"
typedef qt_real R;

typedef struct qt_conv {
    int64_t N, C, H, W, O, KH, KW, stride, padding, dilation, groups;
    /* set by qt_conv_plan */
    int64_t                    OH, OW;
    int64_t                    images, chunks;           /* images a chunk, chunks: the partition of dw's sum */
    int64_t                    packed, scratch, partial; /* numbers in the work space: shared, for each thread, for each chunk */
    int                        threads;
    const struct qt_conv_path *path;
} qt_conv;

enum { QT_CONV_FORWARD, QT_CONV_DX, QT_CONV_DW };

/* One way to convolve; forward, dx and dw work on one image. */
typedef struct qt_conv_path {
    const char *name;
    bool (*suits)(const qt_conv *c);
    void (*plan)(qt_conv *c); /* sets packed, scratch, partial */
    /* OPTIONAL: once before the images of a pass; w is NULL before dw */
    void (*prepare)(const qt_conv *c, int pass, const R *w, R *packed);
    void (*forward)(const qt_conv *c, const R *x, const R *w, const R *b, const R *packed, R *scratch, R *y);
    void (*dx)(const qt_conv *c, const R *dy, const R *w, const R *packed, R *scratch, R *dx, bool first); /* first: writes, does not add */
    /* adds into the partial sum, in the path's own layout; unpack_dw adds the whole sum into dw */
    void (*dw)(const qt_conv *c, const R *x, const R *dy, const R *packed, R *scratch, R *partial);
    void (*unpack_dw)(const qt_conv *c, const R *partial, R *dw);
} qt_conv_path;
extern const qt_conv_path qt_conv_depthwise, qt_conv_winograd, qt_conv_avx2, qt_conv_portable;

/* Fills the second half of c and returns the size of the work space in bytes; grad: with what the gradients need. */
size_t qt_conv_plan(qt_conv *c, bool grad);
void   qt_conv_forward(const qt_conv *c, const R *x, const R *w, const R *b, R *work, R *y); /* b may be NULL */
void   qt_conv_dx(const qt_conv *c, const R *dy, const R *w, R *work, R *dx);
void   qt_conv_dx_first(const qt_conv *c, const R *dy, const R *w, R *work, R *dx);          /* dx is written, not added to */
void   qt_conv_dw(const qt_conv *c, const R *x, const R *dy, R *work, R *dw, R *db);         /* dw or db may be NULL */
/* The slow twin: plain loops, sums in double. */
void   qt_conv_naive(const qt_conv *c, const R *x, const R *w, const R *b, R *y);

/* For tests and benchmarks: every later plan uses this path if it suits; NULL: choose the fastest. */
void   qt_conv_force(const qt_conv_path *p);
/* For positions out of [0, out): those where 0 <= at + i*stride < size are [begin, end). */
void   qt_conv_range(int64_t at, int64_t stride, int64_t size, int64_t out, int64_t *begin, int64_t *end);
#endif
