/* Inside of the integer matrix product: what the driver (igemm.c) hands to the kernels of one instruction set.
 *
 * All products run on one form: A unsigned (rows of bytes, K contiguous), B signed, packed. The unit along K is a step of four bytes:
 * four codes, or two that were widened to int16 ("pairs"). B is packed into panels of `lanes` columns, as many as a vector has sums:
 *     b[panel][step][lane][4 bytes],
 * so that one vector of b times one broadcast step of a row of A adds to `lanes` sums at once, and no sum is ever added up across a vector.
 * K is cut where scales change, and where a sum would overflow; each cut is padded with zeros in b to whole steps, so what a row of A holds
 * behind its end does not matter. An operand of the wrong sign is shifted, q' = q + shift, which is one more zero point: with
 * zero points zx, zw of the stored bytes
 *     sum (q_x - zx)(q_w - zw) = sum q_x q_w - zx (sum q_w - k zw) - zw sum q_x,
 * all of it modulo 2^32, and exact because the left side fits. */
#ifndef QT_KERNELS_IGEMM_PATH_H
#define QT_KERNELS_IGEMM_PATH_H
#include "base/par.h"
#include "kernels/igemm.h"

enum {
    QT_IGEMM_LANES = 16, /* most lanes of a vector */
    QT_IGEMM_ROWS = 8,   /* most rows of a tile, */
    QT_IGEMM_COLS = 48,  /* and columns */
    QT_IGEMM_WIDTH = 24, /* rows of a transposed A packed together: a multiple of every path's rows */
    QT_IGEMM_FEW = 8     /* columns multiplied at a time where rows of A are few */
};

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* How a step is multiplied. BYTES adds up in int32 at once; PAIRS multiplies int16; RUN adds up in int16 for `run` steps, then in int32. */
typedef enum { QT_IGEMM_BYTES, QT_IGEMM_PAIRS, QT_IGEMM_RUN } qt_igemm_kind;

/* A block of K shares scales; it is cut where sums would overflow. */
typedef struct qt_igemm_cuts {
    int64_t K, block, longest, per_block, n; /* n cuts in all */
    int64_t codes;                           /* in a step: 4, or 2 in pairs */
    int64_t steps, block_steps, cut_steps;   /* of a whole row, a block, a cut of full length */
} qt_igemm_cuts;

typedef struct qt_igemm_cut {
    int64_t block, k, length, step, steps; /* codes [k, k + length); steps [step, step + steps) */
} qt_igemm_cut;

static inline int64_t qt_igemm_up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

static inline qt_igemm_cut qt_igemm_cut_at(const qt_igemm_cuts *c, int64_t i)
{
    int64_t b = c->per_block == 1 ? i : i / c->per_block, in = i - b * c->per_block, begin = in * c->longest;
    int64_t length = qt_min_i64(c->longest, c->block - begin);
    int64_t steps = length == c->longest ? c->cut_steps : (length + c->codes - 1) / c->codes;
    return (qt_igemm_cut){b, b * c->block + begin, length, b * c->block_steps + in * c->cut_steps, steps};
}

/* Scale and zero point of row m in block b: at [b * block + m * row]. For w row is 1. */
typedef struct qt_igemm_side {
    const R       *scale;
    const int32_t *zero; /* NULL: all 0 */
    int64_t        row, block;
} qt_igemm_side;

typedef struct qt_igemm_job {
    int64_t        M, N;
    qt_igemm_cuts  cuts;
    qt_igemm_kind  kind;
    int64_t        run;
    const uint8_t *a;                      /* code k of row m at a + m / WIDTH * a_panel + m % WIDTH * a_row + its step * a_step, or, */
    int64_t        a_row, a_step, a_panel; /* where a_panel is 0, at a + m * a_row + k */
    int64_t        a_code;                 /* bytes of a code in a: 1, or 2 in pairs */
    const uint8_t *b;                      /* packed; or, where rows of A are few, w itself with rows b_panel apart */
    int64_t        b_panel;
    qt_igemm_side  x, w;
    const int32_t *x_sum; /* [cuts][M] sums of a, where w has zero points */
    int32_t       *w_sum; /* [cuts][w_pitch] sums of b less k zw, where x has zero points */
    int64_t        w_pitch;
    qt_iend        end;
    const R       *offset; /* [N] */
    R             *y;      /* [M,N], or NULL: C */
    int32_t       *C;
} qt_igemm_job;

/* Codes on their way into panels. */
typedef struct qt_ipack_from {
    const uint8_t *q;
    int64_t        pitch; /* codes from row to row */
    bool           is_signed, pairs;
    bool           wide;  /* q is int16_t; only with pairs */
    uint8_t        shift; /* added to bytes; not in pairs */
    int            lanes;
} qt_ipack_from;

typedef struct qt_ipack {
    /* `rows` rows of codes, K contiguous, from q on, into one panel; missing rows are filled with anything. sum [lanes], or NULL:
     * adds the sums of the codes as stored */
    void (*gather)(const qt_ipack_from *f, const uint8_t *q, int64_t rows, int64_t length, uint8_t *to, int32_t *sum);
    /* the same of a transposed operand: `length` rows of lanes columns. Reads whole vectors of columns. */
    void (*weave)(const qt_ipack_from *f, const uint8_t *q, int64_t length, uint8_t *to, int32_t *sum);
    /* n bytes of a row, shifted or widened; writes up to 31 bytes too much */
    void (*copy)(const qt_ipack_from *f, const uint8_t *q, int64_t n, uint8_t *to);
} qt_ipack;
extern const qt_ipack qt_ipack_portable, qt_ipack_avx2;

struct qt_igemm_path {
    const char *name;
    bool (*has)(void);
    int             lanes, rows, vectors; /* of the largest tile */
    bool            saturates;            /* products of bytes pass through int16 */
    const qt_ipack *pack;
    /* Rows [m, end) by columns [n, n + vectors * lanes). */
    void (*strip)(const qt_igemm_job *j, int64_t m, int64_t end, int64_t n, int vectors);
    /* All rows, unpacked, by columns [n, n + lanes); ones: a row of codes 1, as long as a cut, whose product is w_sum. */
    void (*few)(const qt_igemm_job *j, int64_t n, const uint8_t *ones);
};
/* How products of codes within [alo, ahi], not negative, and [blo, bhi] are summed; run: for how many steps in 16 bits. */
qt_igemm_kind qt_igemm_kind_of(const qt_igemm_path *path, int64_t alo, int64_t ahi, int64_t blo, int64_t bhi, int64_t *run);
extern const qt_igemm_path qt_igemm_portable, qt_igemm_portable512, qt_igemm_avx2, qt_igemm_avxvnni, qt_igemm_avx512vnni;
#endif
