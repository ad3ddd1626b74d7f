/* Inside of the packed products: what one instruction set has to supply, and the layout that it reads. Private to packed*.c.
 *
 * Codes are stored as u = (w - lo) / step >= 0, step 2 for 1 bit and 1 otherwise, P = 8 / bits of them in a byte. Eight rows make a panel, four
 * codes that follow each other a quad; a panel is a sequence of vectors of 32 bytes, in which the 4 bytes from 4 r on hold P quads of row r,
 * the first in the low bits:
 *     byte 4 r + j of vector v, bits [p * bits, (p + 1) * bits): code 4 (P v + p) + j of row r.
 * One shift and one mask so give a quad of eight rows, to be multiplied with one quad of x that is broadcast; sums over quads stay in the
 * lanes of their rows, and nothing is ever added across lanes. Panels are filled up with rows of u = 0, rows with codes u = 0. */
#ifndef QT_KERNELS_PACKED_PATH_H
#define QT_KERNELS_PACKED_PATH_H
#include "kernels/packed.h"

enum { QT_PACKED_VECTOR = 32, QT_PACKED_ROWS = 8, QT_PACKED_QUAD = 4 };

/* Some panels against T rows of x, which lie in quads side by side: x[quad][T][4], int8. */
typedef struct qt_packed_job {
    int            bits, T;         /* T: a power of 2 up to `most` below */
    int            products;        /* so many products u x always fit int16 together; with 8 bits u counts as its halves of 4 bits */
    const uint8_t *w;               /* first panel, from the first code of the first block */
    size_t         stride;          /* bytes from panel to panel */
    int64_t        panels;
    const int8_t  *x;
    int64_t        blocks, vectors; /* blocks that get a sum of their own, vectors of each */
} qt_packed_job;

/* Ternary codes against tiles of 16 rows of x: sum[tile][row][16] of (u - 1) x. See packed_table.c. */
enum { QT_PACKED_TABLE_T = 16, QT_PACKED_TABLE_TILES = 4, QT_PACKED_TABLE_ROWS = 1024 };
typedef struct qt_packed_table_job {
    const uint8_t *w; /* panels, at most QT_PACKED_TABLE_ROWS / 8 */
    size_t         stride;
    int64_t        panels, vectors; /* vectors of a panel, even */
    const int8_t  *x;               /* [tile][code][16], codes up to whole vectors */
    int64_t        tiles, rows;     /* tiles: at most QT_PACKED_TABLE_TILES; rows from tile to tile of the sums */
    int64_t        passes;          /* so often 32 numbers x fit int16 together */
} qt_packed_table_job;
size_t qt_packed_table_work(void);
void   qt_packed_table_avx2(const qt_packed_table_job *j, void *work, int32_t *sum); /* work and sum aligned to 64 */

struct qt_packed_path {
    const char *name;
    int         most;                                       /* largest T; 8 bits: at most 4 */
    bool      (*has)(void);
    void      (*dot)(const qt_packed_job *j, int32_t *sum); /* sum[panel][block][T][8]; may wrap */
    void      (*interleave)(const qt_real *const *x, int64_t n, qt_real *y); /* y[i][r] = x[r][i], 8 rows of n numbers */
    void      (*table)(const qt_packed_table_job *j, void *work, int32_t *sum); /* or NULL */
};
extern const qt_packed_path qt_packed_avx512, qt_packed_avx2, qt_packed_scalar;

void qt_packed_interleave_avx2(const qt_real *const *x, int64_t n, qt_real *y);

static inline int qt_packed_per_byte(int bits) { return 8 / bits; }
/* Codes of a row in one vector, vectors of a panel. */
static inline int64_t qt_packed_codes(int bits) { return QT_PACKED_QUAD * qt_packed_per_byte(bits); }
static inline int64_t qt_packed_vectors(int64_t K, int bits) { return (K + qt_packed_codes(bits) - 1) / qt_packed_codes(bits); }
#endif
