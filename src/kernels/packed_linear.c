/* y = x w^T with packed weights, by the rule of codes.h. With w = lo + step u (packed_path.h) and x = x' + c, where x' fits a signed byte,
 *     sum (x - zx)(w - zw) = step sum x' u + (lo - zw) sum x' + (c - zx) (sum w - len zw)
 * over a block of `len` codes: only sum x' u needs both operands, it is the kernel's (packed_avx2.c ...). c is zx where that is possible,
 * and then the last term is 0. All of it modulo 2^32: the result fits int32 by the rule, whatever its parts do.
 *
 * x is rearranged once: tiles of T = 1, 2, 4 or 8 rows, their quads side by side (16 rows, their codes, for packed_table.c). A chunk of
 * weight rows (a thread's piece of work) meets one tile after the other, and of each tile so many codes at a time as stay in the first cache.
 * So packed weights are read from memory once, also when there are many rows of x.
 * Scales that change along a row want a sum for each block; layouts that do not suit (blocks that are no whole vectors, zero points of x
 * outside its byte together with groups, blocks too long for int32) are unpacked piece by piece for qt_ilinear. */
#include "base/par.h"
#include "kernels/igemm.h"
#include "kernels/packed_path.h"
#include <string.h>

enum { V = QT_PACKED_VECTOR, LANES = QT_PACKED_ROWS, QUAD = QT_PACKED_QUAD, MAX_T = 16, ROWS = 64, SUMS = 512, NEAR = 16384, ALIGN = 64 };

static const qt_packed_path *const paths[] = {&qt_packed_avx512, &qt_packed_avx2, &qt_packed_scalar, NULL};
static const qt_packed_path       *forced;

const char           *qt_packed_name(const qt_packed_path *p) { return p->name; }
bool                  qt_packed_has(const qt_packed_path *p) { return p->has(); }
const qt_packed_path *qt_packed_path_at(int i) { return paths[i]; }
void                  qt_packed_force(const qt_packed_path *p) { forced = p; }
const qt_packed_path *qt_packed_chosen(void)
{
    int i = 0;
    while (!paths[i]->has()) i++;
    return forced ? forced : paths[i];
}

/* ---- the plan: sizes, ranges, places in the work space ---- */

typedef struct plan {
    const qt_packed *w;
    int64_t          M, N, K, rows;           /* rows: M filled up to whole tiles */
    int64_t          codes, row_vectors;      /* codes of a row in a vector, vectors of a row */
    int64_t          len, blocks, vectors;    /* codes of a block, blocks of a row, vectors of a block */
    int              step, c, products, tile; /* tile: largest T */
    bool             table;                   /* by packed_table.c */
    int64_t          table_rows, passes;      /* rows of weights at a time */
    size_t           stride;                  /* bytes of a panel */
    int8_t          *x;                       /* [tile][quad][T][4] */
    int32_t         *sum, *lift, *shift;      /* sum x' [tile][block][T], lo sum x', c - zx [rows] */
    R               *scale;                   /* [tile][block][T] */
    char            *tables;                  /* [chunk][table_size] */
} plan;

static int64_t up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }
static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }
/* Rows of x in the tile that begins at m. */
static int tile_at(const plan *p, int64_t m)
{
    int T = p->table ? p->tile : 1;
    while (T < p->tile && T < p->M - m) T *= 2;
    return T;
}

/* x in signed bytes around c: as near to its zero point as its range allows. */
static int centre(const qt_icodes *x)
{
    int z = x->zero ? x->zero[0] : 0;
    return z < x->hi - INT8_MAX ? x->hi - INT8_MAX : z > x->lo - INT8_MIN ? x->lo - INT8_MIN : z;
}

/* Products u x' that fit int16 together, whatever their values. */
static int products(const plan *p, const qt_icodes *x)
{
    int below = (int)qt_max_i64(p->c - x->lo, 1), above = (int)qt_max_i64(x->hi - p->c, 1), u = p->w->bits == 8 ? 15 : (p->w->hi - p->w->lo) / p->step;
    return (int)qt_min_i64(-INT16_MIN / (qt_max_i64(u, 1) * below), INT16_MAX / (qt_max_i64(u, 1) * above));
}

/* Whether a tensor of rows of K has one scale, or whole numbers of rows for each, or groups within rows. */
static bool regular(const qt_icodes *c, int64_t rows, int64_t K)
{
    return c->count == 1 || (c->inner >= K ? c->inner % K == 0 : K % c->inner == 0 && c->count == rows * (K / c->inner));
}
static int64_t block_of(const qt_icodes *c, int64_t K) { return c->inner < K ? c->inner : K; }
/* Place of the first scale of row r; those of its other blocks follow. */
static int64_t first_scale(const qt_icodes *c, int64_t r, int64_t K)
{
    if (c->count == 1) return 0;
    return c->inner == K && r < c->count ? r : r * K / c->inner % c->count;
}

/* Tables of sums: for ternary codes without groups, when rows of x fill their tiles well and rows of weights repay the building of tables. */
static bool table_suits(const plan *p)
{
    bool shape = p->N >= QT_PACKED_TABLE_ROWS / 2 && p->M >= QT_PACKED_TABLE_T && 2 * up(p->M, QT_PACKED_TABLE_T) <= 3 * up(p->M, 4);
    return shape && p->w->bits == 2 && p->w->hi - p->w->lo <= 2 && p->blocks == 1 && p->row_vectors % 2 == 0;
}

/* Bytes for one piece of the rows of weights: sums, and what the tables need. */
static int64_t table_size(const plan *p)
{
    return p->table_rows * QT_PACKED_TABLE_T * QT_PACKED_TABLE_TILES * (int64_t)sizeof *p->sum + up((int64_t)qt_packed_table_work(), ALIGN);
}

/* What depends on shapes and layouts, with the work space cut up; false: by way of qt_ilinear. *size is the bytes needed. */
static bool plan_shapes(plan *p, const qt_packed_path *path, int64_t M, const qt_icodes *x, const qt_icodes *w, void *work, size_t *size)
{
    const qt_packed *q = w->packed;
    char            *base = work ? (char *)work + (size_t) - (uintptr_t)work % ALIGN : NULL;
    int64_t          at[5];
    *p = (plan){.w = q, .M = M, .N = q->N, .K = q->K, .codes = qt_packed_codes(q->bits), .step = q->bits == 1 ? 2 : 1};
    p->row_vectors = qt_packed_vectors(q->K, q->bits), p->stride = (size_t)(p->row_vectors * V);
    p->len = gcd(block_of(x, p->K), block_of(w, p->K)), p->blocks = p->K / p->len;
    p->vectors = p->blocks == 1 ? p->row_vectors : p->len / p->codes;
    if (!regular(x, M, p->K) || !regular(w, p->N, p->K) || (p->blocks > 1 && p->len % p->codes)) return false;
    p->table = path->table && table_suits(p);
    p->tile = p->table ? QT_PACKED_TABLE_T : q->bits == 8 ? (int)qt_min_i64(path->most, 4) : path->most;
    p->rows = up(M, table_suits(p) ? QT_PACKED_TABLE_T : M > 4 ? 8 : 4); /* the same for all paths */
    p->table_rows = up(QT_CHUNKS(p->N, 2 * QT_CHUNKS(p->N, 2 * QT_PACKED_TABLE_ROWS)), LANES);
    at[0] = up(p->rows * p->row_vectors * p->codes, ALIGN);
    at[1] = up(p->rows * p->blocks * (int64_t)sizeof *p->sum, ALIGN);
    at[2] = up(p->rows * (int64_t)sizeof *p->shift, ALIGN);
    at[3] = up(p->rows * p->blocks * (int64_t)sizeof *p->scale, ALIGN);
    at[4] = table_suits(p) ? QT_CHUNKS(p->N, p->table_rows) * table_size(p) : 0;
    *size = (size_t)(at[0] + 2 * at[1] + at[2] + at[3] + at[4]) + ALIGN;
    if (!base) return true;
    p->x = (void *)base, base += at[0];
    p->sum = (void *)base, base += at[1];
    p->lift = (void *)base, base += at[1];
    p->shift = (void *)base, base += at[2];
    p->scale = (void *)base, base += at[3];
    p->tables = base;
    return true;
}

/* What depends on ranges and zero points. */
static bool plan_numbers(plan *p, const qt_icodes *x, const qt_icodes *w)
{
    bool shifted = false;
    p->c = centre(x), p->products = products(p, x);
    p->passes = INT16_MAX / (32 * qt_max_i64(qt_max_i64(p->c - x->lo, x->hi - p->c), 1));
    for (int64_t k = 0; k < (x->zero ? x->count : 1); k++) shifted = shifted || (x->zero ? x->zero[k] : 0) != p->c;
    return (p->blocks == 1 || !shifted) && p->len <= qt_longest_block(qt_icodes_reach(x), qt_icodes_reach(w));
}

/* ---- rearranging x ---- */

/* A block of a row of a tile: bytes less c, `unit` of them to each T units; behind `len`, up to whole vectors, zeros. Returns their sum. */
QT_CLONES static int32_t pack_block(int8_t *d, int T, int unit, const uint8_t *q, int64_t len, int64_t whole, int c)
{
    enum { PIECE = 256 };
    int32_t sum = 0;
    for (int64_t k = 0; k < whole; k += PIECE) {
        int8_t  x[PIECE] = {0};
        int64_t n = qt_min_i64(PIECE, len - k), all = qt_min_i64(PIECE, whole - k);
        for (int64_t i = 0; i < n; i++) x[i] = (int8_t)(q[k + i] - c), sum += x[i];
        if (unit == QUAD)
            for (int64_t i = 0; i < all; i += QUAD, d += T * QUAD) memcpy(d, x + i, QUAD);
        else
            for (int64_t i = 0; i < all; i++, d += T) *d = x[i];
    }
    return sum;
}

/* Row m of x, or a row of zeros that fills the last tile. */
static void pack_row(const plan *p, const qt_icodes *x, int64_t m)
{
    int64_t  x_blocks = p->blocks / (p->K / block_of(x, p->K)); /* blocks to a scale of x */
    int      unit = p->table ? 1 : QUAD;
    int64_t  m0 = m / p->tile * p->tile, i = m - m0, T = tile_at(p, m0), k = m < p->M ? first_scale(x, m, p->K) : 0;
    int64_t  whole = p->vectors * p->codes, len = m < p->M ? p->len : 0;
    int8_t  *d = p->x + m0 * p->row_vectors * p->codes + i * unit;
    int32_t *sum = p->sum + m0 * p->blocks + i, *lift = p->lift + m0 * p->blocks + i;
    R       *scale = p->scale + m0 * p->blocks + i;
    if (i >= T) return;
    for (int64_t b = 0; b < p->blocks; b++) {
        sum[b * T] = pack_block(d + b * whole * T, (int)T, unit, (const uint8_t *)x->q + m * p->K + b * p->len, len, whole, p->c);
        lift[b * T] = (int32_t)((uint32_t)p->w->lo * (uint32_t)sum[b * T]);
        scale[b * T] = x->scale[x->count == 1 ? 0 : k + b / x_blocks];
    }
    p->shift[m] = p->c - (x->zero ? x->zero[k] : 0);
}

static void pack(const plan *p, const qt_icodes *x)
{
    const bool many = p->rows * p->K > 1 << 17 && qt_threads() > 1;
    for (int64_t m = 0; !many && m < p->rows; m++) pack_row(p, x, m);
    if (!many) return;
    QT_FOR_EACH(m, p->rows, true) pack_row(p, x, m);
}

/* ---- a chunk of weight rows against a tile ---- */

/* Eight rows of weights at a time, in vectors of the compiler's own, so that sums stay in registers. */
typedef R        numbers __attribute__((vector_size(LANES * sizeof(R)), aligned(sizeof(R)), may_alias));
typedef int32_t  integers __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint32_t words __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

typedef struct chunk {
    const plan           *p;
    const qt_packed_path *path;
    const qt_icodes      *w;
    const qt_iend        *e;
    int64_t               n, rows, panels; /* rows of weights */
    int64_t               m;               /* the tile */
    int                   T;
    /* of each row (behind the last one: the last one's) */
    int64_t  first[ROWS];                          /* place of its first scale */
    uint32_t zero[ROWS], all[ROWS];                /* zw of its first block, sum w - K zw */
    R        scale[ROWS], mul[ROWS], offset[ROWS]; /* scale of its first block */
} chunk;

/* Scales and zero points of the rows. */
QT_CLONES static void chunk_scales(chunk *c)
{
    const qt_icodes *w = c->w;
    for (int64_t r = 0; r < c->rows; r++) {
        int64_t k = c->first[r] = w->count == 1 ? 0 : first_scale(w, c->n + r, c->p->K);
        c->scale[r] = w->scale[k], c->zero[r] = w->zero ? (uint32_t)w->zero[k] : 0;
    }
}

/* The other numbers of the rows; all of them again behind the last row. */
QT_CLONES static void chunk_rows(chunk *c)
{
    const int32_t *sum = c->p->w->sum + c->n;
    const R       *mul = c->e->mul ? c->e->mul + c->n : NULL;
    const uint32_t K = (uint32_t)c->p->K;
    const int64_t  last = c->rows - 1;
    chunk_scales(c);
    for (int64_t r = 0; r <= last; r++) c->all[r] = (uint32_t)sum[r] - K * c->zero[r];
    for (int64_t r = 0; r <= last; r++) c->mul[r] = mul ? mul[r] : 1;
    for (int64_t r = 0; r <= last; r++) c->offset[r] = qt_iend_offset(c->e, c->n + r);
    for (int64_t r = c->rows; r < c->panels * LANES; r++) {
        c->first[r] = c->first[last], c->scale[r] = c->scale[last], c->zero[r] = c->zero[last];
        c->all[r] = c->all[last], c->mul[r] = c->mul[last], c->offset[r] = c->offset[last];
    }
}

/* Panels of the chunk from vector `at` on. */
static qt_packed_job job_of(const chunk *c, int64_t panel, int64_t panels, int64_t at)
{
    const plan    *p = c->p;
    const uint8_t *w = (const uint8_t *)p->w->data + (size_t)(c->n / LANES + panel) * p->stride + at * V;
    return (qt_packed_job){.bits = p->w->bits,
                           .T = c->T,
                           .products = p->products,
                           .w = w,
                           .stride = p->stride,
                           .panels = panels,
                           .x = p->x + (c->m * p->row_vectors + at * c->T) * p->codes};
}

/* part [panel][T][8] = what the sums of whole rows are worth. */
QT_CLONES static void finish(const chunk *c, const uint32_t *sum, R *part)
{
    const plan *p = c->p;
    for (int64_t r = 0; r < c->panels * LANES; r += LANES)
        for (int64_t m = c->m; m < c->m + c->T; m++, sum += LANES, part += LANES) {
            words   a = (*(const words *)sum << (p->step - 1)) + (uint32_t)p->lift[m] - *(const words *)(c->zero + r) * (uint32_t)p->sum[m];
            numbers s = p->scale[m] * *(const numbers *)(c->scale + r);
            if (p->shift[m]) a += *(const words *)(c->all + r) * (uint32_t)p->shift[m];
            *(numbers *)part = __builtin_convertvector((integers)a, numbers) * (s * *(const numbers *)(c->mul + r));
        }
}

/* One sum for a whole row, whose pieces are added first. */
static void one_block(const chunk *c, int32_t *sum, R *part)
{
    const plan   *p = c->p;
    const int64_t piece = NEAR / (c->T * p->codes), n_sums = c->panels * c->T * LANES;
    uint32_t      acc[ROWS * MAX_T] = {0};
    for (int64_t v = 0; v < p->row_vectors; v += piece) {
        qt_packed_job j = job_of(c, 0, c->panels, v);
        j.blocks = 1, j.vectors = qt_min_i64(piece, p->row_vectors - v);
        c->path->dot(&j, sum);
        for (int64_t i = 0; i < n_sums; i++) acc[i] += (uint32_t)sum[i];
    }
    finish(c, acc, part);
}

/* scale[i] of eight rows, from row r on, in block b + i. */
static void scales(const chunk *c, int64_t r, int64_t b, int64_t n, numbers *scale)
{
    const int64_t each = c->w->count == 1 ? c->p->blocks : c->p->blocks / (c->p->K / block_of(c->w, c->p->K)); /* blocks to a scale */
    const R      *from[LANES];
    for (int64_t i = 0; c->w->count == 1 && i < n; i++) scale[i] = *c->w->scale - (numbers){0};
    if (c->w->count == 1) return;
    for (int l = 0; l < LANES; l++) from[l] = c->w->scale + c->first[r + l] + b / each;
    if (each == 1)
        c->path->interleave(from, n, (R *)scale);
    else
        for (int64_t i = 0; i < n; i++)
            for (int l = 0; l < LANES; l++) scale[i][l] = from[l][(b + i) / each - b / each];
}

/* sum[i][m] -= zw sum x', with zero points that change from block to block. */
static void add_zeros(const chunk *c, int64_t r, int64_t b, int64_t n, uint32_t *sum)
{
    const int64_t each = c->w->count == 1 ? c->p->blocks : c->p->blocks / (c->p->K / block_of(c->w, c->p->K));
    for (int64_t i = 0; i < n; i++)
        for (int64_t m = 0; m < c->T; m++)
            for (int l = 0; l < LANES; l++, sum++) {
                uint32_t z = (uint32_t)c->w->zero[c->first[r + l] + (b + i) / each];
                *sum -= z * (uint32_t)c->p->sum[c->m * c->p->blocks + (b + i) * c->T + m];
            }
}

/* part [T][8] += the numbers that the sums of n blocks stand for, in their order. */
static inline __attribute__((always_inline)) void fold_panel(int T, int64_t n, const int32_t *sum, const int32_t *lift, const R *scale_x,
                                                             const numbers *scale, const numbers *mul, numbers *part)
{
    numbers y[MAX_T];
    for (int m = 0; m < T; m++) y[m] = part[m];
    for (int64_t i = 0; i < n; i++)
#pragma GCC unroll 8
        for (int m = 0; m < T; m++, sum += LANES) {
            integers a = *(const integers *)sum + *lift++;
            y[m] += __builtin_convertvector(a, numbers) * (*scale_x++ * scale[i] * *mul);
        }
    for (int m = 0; m < T; m++) part[m] = y[m];
}

/* part [panel][T][8] += what the sums of `blocks` blocks, from b on, of some panels are worth. */
QT_CLONES static void fold(const chunk *c, int64_t panel, int64_t panels, int64_t b, int64_t blocks, int32_t *sum, R *part)
{
    enum { MOST = 64 };
    const plan *p = c->p;
    const int   T = c->T;
    for (int64_t r = panel * LANES; r < (panel + panels) * LANES; r += LANES, part += T * LANES)
        for (int64_t i = b; i < b + blocks; i += MOST) {
            const int64_t  n = qt_min_i64(MOST, b + blocks - i), at = c->m * p->blocks + i * T;
            numbers        scale[MOST], *y = (numbers *)part;
            const numbers *mul = (const numbers *)(c->mul + r);
            scales(c, r, i, n, scale);
            if (p->step == 2)
                for (int64_t k = 0; k < n * T * LANES; k++) sum[k] = (int32_t)(2u * (uint32_t)sum[k]);
            if (c->w->zero) add_zeros(c, r, i, n, (uint32_t *)sum);
            if (T == 1) fold_panel(1, n, sum, p->lift + at, p->scale + at, scale, mul, y);
            if (T == 2) fold_panel(2, n, sum, p->lift + at, p->scale + at, scale, mul, y);
            if (T == 4) fold_panel(4, n, sum, p->lift + at, p->scale + at, scale, mul, y);
            if (T == 8) fold_panel(8, n, sum, p->lift + at, p->scale + at, scale, mul, y);
            sum += n * T * LANES;
        }
}

/* A sum for each block. */
static void many_blocks(const chunk *c, int32_t *sum, R *part)
{
    const plan   *p = c->p;
    const int64_t near = NEAR / (c->T * p->codes * p->vectors), together = qt_min_i64(qt_max_i64(near, 1), SUMS / c->T);
    const int64_t panels = qt_max_i64(SUMS / c->T / qt_min_i64(together, p->blocks), 1);
    for (int64_t i = 0; i < c->panels * c->T * LANES; i++) part[i] = -(R)0; /* the one number that adds nothing, not even to a zero */
    for (int64_t b = 0; b < p->blocks; b += together)
        for (int64_t n = 0; n < c->panels; n += panels) {
            qt_packed_job j = job_of(c, n, qt_min_i64(panels, c->panels - n), b * p->vectors);
            j.blocks = qt_min_i64(together, p->blocks - b), j.vectors = p->vectors;
            c->path->dot(&j, sum);
            fold(c, n, j.panels, b, j.blocks, sum, part + n * c->T * LANES);
        }
}

QT_CLONES static void store(const chunk *c, const R *part, R *y)
{
    for (int64_t m = 0; m < qt_min_i64(c->T, c->p->M - c->m); m++) {
        R line[ROWS];
        for (int64_t r = 0; r < c->panels * LANES; r += LANES)
            for (int l = 0; l < LANES; l++) line[r + l] = qt_iend_store(c->e, part[r * c->T + m * LANES + l], c->offset[r + l]);
        memcpy(y + (c->m + m) * c->p->N + c->n, line, (size_t)c->rows * sizeof *y);
    }
}

/* ---- tables of sums ---- */

/* Some rows of weights, from row n of a piece on, against all tiles whose sums [tile][row][16] are there. */
static void table_finish(chunk *c, const int32_t *sum, int64_t n, int64_t m, int64_t tiles, R *y)
{
    enum { TILE = QT_PACKED_TABLE_T };
    uint32_t acc[ROWS * TILE];
    R        part[ROWS * TILE];
    chunk_rows(c);
    for (c->m = m, c->T = TILE; c->m < m + tiles * TILE; c->m += TILE, sum += c->p->table_rows * TILE) {
        for (int64_t r = 0; r < c->panels * LANES; r++)
            for (int64_t i = 0; i < TILE; i++)
                acc[(r / LANES * TILE + i) * LANES + r % LANES] = (uint32_t)sum[(n + r) * TILE + i] + (uint32_t)c->p->sum[c->m + i];
        finish(c, acc, part);
        store(c, part, y);
    }
}

static void linear_table(const plan *p, const qt_packed_path *path, const qt_icodes *w, const qt_iend *end, R *y)
{
    enum { TILE = QT_PACKED_TABLE_T, MOST = TILE * QT_PACKED_TABLE_TILES };
    QT_FOR_EACH(i, QT_CHUNKS(p->N, p->table_rows), true)
    {
        const int64_t n0 = i * p->table_rows, rows = qt_min_i64(p->table_rows, p->N - n0);
        int32_t      *sum = (int32_t *)(p->tables + i * table_size(p));
        void         *work = sum + p->table_rows * MOST;
        for (int64_t m = 0; m < p->M; m += MOST) {
            const int64_t tiles = QT_CHUNKS(qt_min_i64(MOST, p->M - m), TILE);
            path->table(&(qt_packed_table_job){.w = (const uint8_t *)p->w->data + (size_t)(n0 / LANES) * p->stride,
                                               .stride = p->stride,
                                               .panels = QT_CHUNKS(rows, LANES),
                                               .vectors = p->row_vectors,
                                               .x = p->x + m * p->row_vectors * p->codes,
                                               .tiles = tiles,
                                               .passes = p->passes,
                                               .rows = p->table_rows},
                        work, sum);
            for (int64_t n = 0; n < rows; n += ROWS) {
                chunk c;
                c.p = p, c.path = path, c.w = w, c.e = end, c.n = n0 + n, c.rows = qt_min_i64(ROWS, rows - n);
                c.panels = QT_CHUNKS(c.rows, LANES);
                table_finish(&c, sum, n, m, tiles, y);
            }
        }
    }
}

/* ---- the product ---- */

/* Rows [n, n + rows) of the weights against all rows of x. */
static void linear_chunk(const plan *p, const qt_packed_path *path, const qt_icodes *w, const qt_iend *end, int64_t n, int64_t rows, R *y)
{
    int32_t sum[SUMS * LANES];
    R       part[ROWS * MAX_T];
    chunk   c; /* its arrays are filled as far as they are read */
    c.p = p, c.path = path, c.w = w, c.e = end, c.n = n, c.rows = rows, c.panels = (rows + LANES - 1) / LANES;
    chunk_rows(&c);
    for (c.m = 0; c.m < p->M; c.m += c.T) {
        c.T = tile_at(p, c.m);
        (p->blocks == 1 ? one_block : many_blocks)(&c, sum, part);
        store(&c, part, y);
    }
}

/* Alone, a thread goes without a team: to make and to end one costs as much as a small product. */
static void linear(const plan *p, const qt_packed_path *path, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, R *y)
{
    const int64_t size = qt_min_i64(qt_max_i64(up(p->N / 16, LANES), LANES), ROWS);
    const bool    many = p->rows * p->N * p->K > 1 << 20 && qt_threads() > 1;
    pack(p, x);
    if (p->table) {
        linear_table(p, path, w, end, y);
        return;
    }
    for (int64_t n = 0; !many && n < p->N; n += size) linear_chunk(p, path, w, end, n, qt_min_i64(size, p->N - n), y);
    if (!many) return;
    QT_FOR_EACH(i, QT_CHUNKS(p->N, size), true) linear_chunk(p, path, w, end, i * size, qt_min_i64(size, p->N - i * size), y);
}

/* ---- layouts that do not suit: unpacked, a piece of the rows at a time ---- */

/* Rows [n, n + rows) of w as bytes q. */
static qt_icodes rows_of(const qt_icodes *w, int64_t n, int64_t rows, int8_t *q)
{
    const int64_t K = w->packed->K, k = first_scale(w, n, K);
    qt_icodes     c = *w;
    c.q = q, c.packed = NULL, c.is_signed = true, c.n = rows * K;
    if (w->count > 1) c.scale += k, c.zero = w->zero ? w->zero + k : NULL, c.count = qt_max_i64(rows * K / w->inner, 1);
    return c;
}

/* A scale for several rows: pieces must not be larger, or the kernel would meet a layout that it does not know. */
static int64_t piece_rows(const qt_icodes *w)
{
    int64_t K = w->packed->K;
    return qt_min_i64(w->count > 1 && w->inner > K ? 1 : ROWS, w->packed->N);
}

static size_t unpacked_work(int64_t M, const qt_icodes *x, const qt_icodes *w)
{
    int64_t   rows = piece_rows(w), K = w->packed->K;
    qt_icodes c = rows_of(w, 0, rows, NULL);
    return (size_t)up(rows * K + QT_CODES_SLACK, ALIGN) + (size_t)up(M * rows * (int64_t)sizeof(R), ALIGN) + qt_ilinear_work(M, rows, K, x, &c) +
           ALIGN;
}

static void unpacked(int64_t M, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y)
{
    const qt_packed *p = w->packed;
    const int64_t    most = piece_rows(w), K = p->K;
    int8_t          *q = (int8_t *)work + (size_t) - (uintptr_t)work % ALIGN;
    R               *piece = (void *)(q + up(most * K + QT_CODES_SLACK, ALIGN));
    void            *rest = (char *)piece + up(M * most * (int64_t)sizeof(R), ALIGN);
    for (int64_t n = 0, rows; n < p->N; n += rows) {
        rows = qt_min_i64(most, p->N - n);
        qt_icodes c = rows_of(w, n, rows, q);
        qt_iend   e = {end->bias ? end->bias + n : NULL, end->mul ? end->mul + n : NULL, end->mul ? end->add + n : NULL, end->relu};
        qt_packed_unpack(p, n, rows, q);
        qt_ilinear(M, rows, K, x, &c, &e, rest, piece);
        for (int64_t m = 0; m < M; m++) memcpy(y + m * p->N + n, piece + m * rows, (size_t)rows * sizeof(R));
    }
}

size_t qt_packed_work(int64_t M, const qt_icodes *x, const qt_icodes *w)
{
    plan   p;
    size_t size = 0, other = unpacked_work(M, x, w);
    return plan_shapes(&p, qt_packed_chosen(), M, x, w, NULL, &size) && size > other ? size : other;
}

void qt_packed_linear(int64_t M, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y)
{
    const qt_packed_path *path = qt_packed_chosen();
    plan                  p;
    size_t                size;
    if (plan_shapes(&p, path, M, x, w, work, &size) && plan_numbers(&p, x, w))
        linear(&p, path, x, w, end, y);
    else
        unpacked(M, x, w, end, work, y);
}
