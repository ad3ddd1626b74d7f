/* What the parts of the integer convolution agree on: how an image is packed into a strip (iconv_pack.c), and what the kernels of an
 * instruction set (iconv_tile.h) make of it.
 *
 * A strip is made of planes of 32-bit words, four bytes each, or two 16-bit numbers where bytes could overflow. A word holds, for one place
 * of the output, what a few taps of the kernel read there, so that one output channel at consecutive places is
 *     sum[q] += dot(w[k], strip[off[k] + q]),     k < K, q = row * pitch + column,
 * a load of consecutive words and a broadcast of one. The taps of a word are the same tap of consecutive channels, or, where there are
 * fewer channels than that, consecutive taps in a row of the kernel. */
#ifndef QT_KERNELS_ICONV_PLAN_H
#define QT_KERNELS_ICONV_PLAN_H
#include "kernels/iconv.h"

enum { QT_ICONV_SLACK = 32, QT_ICONV_MAX_LANES = 16 };

typedef struct qt_iconv_plan {
    const qt_conv *c;
    bool           wide, along;  /* words of two 16-bit numbers; of taps along the kernel's row */
    int64_t        per;          /* taps a word: 4 or 2 */
    int64_t        Cg, Og;       /* channels of a group */
    int64_t        units;        /* words a place and position of the kernel: for channels, or for channels and parts of a row of the kernel */
    int64_t        phases;       /* of a unit: the stride cuts its rows, and its columns unless `along`, into phases h % stride */
    int64_t        K;            /* words of w for each output channel */
    int64_t        rows, cols;   /* of a phase, padding included */
    int64_t        pitch, plane; /* words from row to row, from phase to phase */
    int64_t        places;       /* from the first output to the last */
    int64_t        line;         /* bytes of a row of a channel with its padding, for `along` */
} qt_iconv_plan;

void    qt_iconv_layout(qt_iconv_plan *p, const qt_conv *c, bool wide);
int64_t qt_iconv_strip_size(const qt_iconv_plan *p);            /* words, for one group */
void    qt_iconv_offsets(const qt_iconv_plan *p, int64_t *off); /* bytes */
/* One group of an image, x its first channel; padded: scratch of padded_size bytes. */
int64_t qt_iconv_padded_size(const qt_iconv_plan *p);
void    qt_iconv_pack(const qt_iconv_plan *p, const uint8_t *x, int zero, uint8_t *padded, uint32_t *strip);
/* One output channel, w its first code, into K words and the slack behind them; zero is taken off. Returns the sum of the result. */
int32_t qt_iconv_pack_weight(const qt_iconv_plan *p, const int8_t *w, int zero, uint32_t *to);

/* How the sums of an output channel are stored: y = (R)(base + sum) * s + offset. */
typedef struct qt_iconv_end {
    R       s, offset;
    int32_t base;
} qt_iconv_end;

typedef struct qt_iconv_job {
    int64_t        K, steps;      /* steps: words that an int16 can sum */
    int64_t        w_pitch;       /* words from channel to channel */
    int64_t        vectors, size; /* of the places of a channel, and numbers of its output */
    const int64_t *off;           /* bytes */
    const int32_t *lanes, *at;    /* of each vector: its places that are outputs, moved to its front, and where they go */
    bool           small, relu;   /* small: the strip is smaller than the weights */
} qt_iconv_job;

/* `count` channels, their weights w [count][w_pitch], into y [count][size]. */
typedef void qt_iconv_run(const qt_iconv_job *b, const uint32_t *strip, const uint32_t *w, const qt_iconv_end *e, int64_t count, R *y);

struct qt_iconv_path {
    const char *name;
    bool (*has)(void);
    int           lanes;         /* words of a vector */
    qt_iconv_run *bytes;         /* for words of bytes; where it sums them in 16 bits also: */
    qt_iconv_run *blocks, *once; /* for more words than 16 bits hold, for hardly any; otherwise NULL */
    qt_iconv_run *wide;
};
extern const qt_iconv_path qt_iconv_avx512_vnni, qt_iconv_avx_vnni, qt_iconv_avx2, qt_iconv_scalar;
#endif
