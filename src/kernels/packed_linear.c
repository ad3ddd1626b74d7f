/* y = x w^T with packed weights, by the rule of codes.h. With w = lo + step u (packed_path.h) and x = x' + c, where x' fits a signed byte,
 *     sum (x - zx)(w - zw) = step sum x' u + (lo - zw) sum x' + (c - zx) (sum w - len zw)
 * over a block of `len` codes: only sum x' u needs both operands, it is the kernel's (packed_avx2.c ...). c is zx where that is possible,
 * and then the last term is 0. All of it modulo 2^32: the result fits int32 by the rule, whatever its parts do.
 *
 * x is rearranged once: tiles of T = 1, 2, 4 or 8 rows, in each the rows side by side in steps of 32 codes. A chunk of weight rows (a thread's
 * piece of work) meets one tile after the other, and of each tile so many codes at a time as stay in the first cache. So packed weights are
 * read from memory once, also when there are many rows of x, and are never stored unpacked.
 * Scales that change along a row want a sum for each block of 32 codes or a multiple; layouts that do not suit (blocks that are no whole
 * steps, zero points of x outside its byte together with groups, blocks too long for int32) are unpacked piece by piece for qt_ilinear. */
#include "base/par.h"
#include "kernels/igemm.h"
#include "kernels/packed_path.h"
#include <string.h>

enum { V = QT_PACKED_VECTOR, LANES = QT_PACKED_LANES, MAX_T = 8, ROWS = 64, SUMS = 512, NEAR = 16384, ALIGN = 64 };

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
    int64_t          M, N, K, rows;       /* rows: M filled up to whole tiles */
    int64_t          row_steps;           /* of a row, whole vectors */
    int64_t          len, blocks, steps;  /* codes of a block, blocks and steps (of a block) */
    int64_t          x_blocks;            /* scales of a row of x */
    int              P, step, c, products;
    size_t           stride;
    int8_t          *x;                   /* [tile][row_steps][T][32] */
    int32_t         *sum, *shift;         /* sum x' [tile][blocks][T], c - zx [rows] */
    R               *scale;               /* [tile][x_blocks][T] */
} plan;

static int64_t up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }
static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }
static int     max_tile(int bits) { return bits == 8 ? 4 : MAX_T; }
/* Rows of x in the tile that begins at m. */
static int tile_at(const plan *p, int64_t m)
{
    int T = 1;
    while (T < max_tile(p->w->bits) && T < p->M - m) T *= 2;
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
    int below = qt_max_i64(p->c - x->lo, 1), above = qt_max_i64(x->hi - p->c, 1), u = p->w->bits == 8 ? 15 : (p->w->hi - p->w->lo) / p->step;
    return (int)qt_min_i64(-INT16_MIN / (qt_max_i64(u, 1) * below), INT16_MAX / (qt_max_i64(u, 1) * above));
}

/* Whether a tensor of rows of K has one scale, or whole numbers of rows for each, or groups within rows. */
static bool regular(const qt_icodes *c, int64_t rows, int64_t K)
{
    return c->count == 1 || (c->inner >= K ? c->inner % K == 0 : K % c->inner == 0 && c->count == rows * (K / c->inner));
}
static int64_t block_of(const qt_icodes *c, int64_t K) { return c->inner < K ? c->inner : K; }
/* Place of the first scale of row r; those of its other blocks follow. */
static int64_t first_scale(const qt_icodes *c, int64_t r, int64_t K) { return r * K / c->inner % c->count; }

/* What depends on shapes and layouts, with the work space cut up; false: by way of qt_ilinear. *size is the bytes needed. */
static bool plan_shapes(plan *p, int64_t M, const qt_icodes *x, const qt_icodes *w, void *work, size_t *size)
{
    const qt_packed *q = w->packed;
    char            *base = work ? (char *)work + (size_t)-(uintptr_t)work % ALIGN : NULL;
    int64_t          at[4], P = qt_packed_per_byte(q->bits);
    *p = (plan){.w = q, .M = M, .N = q->N, .K = q->K, .P = P, .step = q->bits == 1 ? 2 : 1};
    p->row_steps = qt_packed_vectors(q->K, q->bits) * P;
    p->stride = (size_t)(p->row_steps / P * V);
    p->len = gcd(block_of(x, p->K), block_of(w, p->K)), p->blocks = p->K / p->len;
    p->steps = p->blocks == 1 ? p->row_steps : p->len / V;
    if (!regular(x, M, p->K) || !regular(w, p->N, p->K)) return false;
    if (p->blocks > 1 && (p->len % V || (p->steps % P && P % p->steps))) return false;
    p->rows = up(M, M > max_tile(q->bits) ? max_tile(q->bits) : tile_at(p, 0));
    at[0] = up(p->rows * p->row_steps * V, ALIGN);
    at[1] = up(p->rows * p->blocks * (int64_t)sizeof *p->sum, ALIGN);
    at[2] = up(p->rows * (int64_t)sizeof *p->shift, ALIGN);
    at[3] = up(p->rows * p->blocks * (int64_t)sizeof *p->scale, ALIGN);
    *size = (size_t)(at[0] + at[1] + at[2] + at[3]) + ALIGN;
    if (!base) return true;
    p->x = (void *)base, base += at[0];
    p->sum = (void *)base, base += at[1];
    p->shift = (void *)base, base += at[2];
    p->scale = (void *)base;
    return true;
}

/* What depends on ranges and zero points. */
static bool plan_numbers(plan *p, const qt_icodes *x, const qt_icodes *w)
{
    bool shifted = false;
    p->c = centre(x), p->products = products(p, x);
    for (int64_t k = 0; k < (x->zero ? x->count : 1); k++) shifted = shifted || (x->zero ? x->zero[k] : 0) != p->c;
    return (p->blocks == 1 || !shifted) && p->len <= qt_longest_block(qt_icodes_reach(x), qt_icodes_reach(w));
}

/* ---- rearranging x ---- */

/* A row of a tile: its bytes less c, a step to each T steps, and the sums of its blocks. Behind the last code: zeros. */
QT_CLONES static void pack_row(int8_t *d, int T, const uint8_t *q, int64_t K, int64_t row_steps, int64_t blocks, int64_t steps, int c,
                               int32_t *sum)
{
    int32_t total = 0;
    for (int64_t s = 0, left = steps; s < row_steps; s++, d += T * V) {
        int64_t len = qt_min_i64(K - s * V, V);
        if (len == V)
            for (int j = 0; j < V; j++) d[j] = (int8_t)(q[s * V + j] - c), total += d[j];
        else
            for (int j = 0; j < V; j++) d[j] = (int8_t)(j < len ? q[s * V + j] - c : 0), total += d[j];
        if (--left == 0 && blocks-- > 0) *sum = total, sum += T, total = 0, left = steps;
    }
}

static void pack(const plan *p, const qt_icodes *x)
{
    int64_t max = max_tile(p->w->bits), x_steps = p->blocks / (p->K / block_of(x, p->K));
    QT_FOR_EACH(m, p->rows, p->rows * p->K > 1 << 17)
    {
        int64_t  m0 = m / max * max, i = m - m0, T = tile_at(p, m0);
        int8_t  *d = p->x + (m0 * p->row_steps + i) * V;
        int32_t *sum = p->sum + m0 * p->blocks + i;
        R       *scale = p->scale + m0 * p->blocks + i;
        if (i >= T) continue;
        if (m < p->M) {
            int64_t k = first_scale(x, m, p->K);
            pack_row(d, (int)T, (const uint8_t *)x->q + m * p->K, p->K, p->row_steps, p->blocks, p->steps, p->c, sum);
            for (int64_t b = 0; b < p->blocks; b++) scale[b * T] = x->scale[x->count == 1 ? 0 : k + b / x_steps];
            p->shift[m] = p->c - (x->zero ? x->zero[k] : 0);
        } else {
            for (int64_t s = 0; s < p->row_steps; s++) memset(d + s * T * V, 0, V);
            for (int64_t b = 0; b < p->blocks; b++) sum[b * T] = 0, scale[b * T] = 0;
            p->shift[m] = 0;
        }
    }
}

/* ---- a chunk of weight rows against a tile ---- */

typedef struct chunk {
    const plan      *p;
    const qt_icodes *w;
    const qt_iend   *e;
    int64_t          n, rows; /* rows of weights */
    int64_t          m;       /* the tile */
    int              T;
} chunk;

static qt_packed_job job_of(const chunk *c, int64_t row, int64_t rows, int64_t step)
{
    const plan    *p = c->p;
    const uint8_t *w = (const uint8_t *)p->w->data + (size_t)(c->n + row) * p->stride + step / p->P * V;
    return (qt_packed_job){.bits = p->w->bits, .T = c->T, .products = p->products, .w = w, .stride = p->stride, .rows = rows,
                           .x = p->x + (c->m * p->row_steps + step * c->T) * V};
}

/* One sum for a whole row: the numbers are finished once. */
static void one_block(const chunk *c, const qt_packed_path *path, int32_t *sum, R *part)
{
    const plan   *p = c->p;
    const int64_t piece = NEAR / (c->T * V);
    uint32_t      acc[ROWS * MAX_T] = {0};
    for (int64_t s = 0; s < p->row_steps; s += piece) {
        qt_packed_job j = job_of(c, 0, c->rows, s);
        j.blocks = 1, j.steps = qt_min_i64(piece, p->row_steps - s);
        path->dot(&j, sum);
        for (int64_t i = 0; i < c->rows * c->T; i++) acc[i] += (uint32_t)sum[i];
    }
    for (int64_t r = 0; r < c->rows; r++) {
        int64_t  n = c->n + r, k = first_scale(c->w, n, p->K);
        uint32_t z = c->w->zero ? (uint32_t)c->w->zero[k] : 0, all = (uint32_t)p->w->sum[n] - (uint32_t)p->K * z;
        for (int m = 0; m < c->T; m++) {
            int64_t  x = c->m + m;
            uint32_t a = (uint32_t)p->step * acc[r * c->T + m] + ((uint32_t)p->w->lo - z) * (uint32_t)p->sum[x] + (uint32_t)p->shift[x] * all;
            part[r * c->T + m] = (R)(int32_t)a * qt_iend_scale(c->e, p->scale[x] * c->w->scale[k], n);
        }
    }
}

/* part [row][T] += what the sums of blocks [b, b + blocks) of some rows are worth. */
static inline __attribute__((always_inline)) void fold_tile(const chunk *c, int T, int64_t row, int64_t rows, int64_t b, int64_t blocks,
                                                            const int32_t *sum, R *part)
{
    const plan   *p = c->p;
    const int64_t each = p->blocks / (p->K / block_of(c->w, p->K)), end = b + blocks; /* blocks to a scale of w */
    for (int64_t r0 = row; r0 < row + rows; r0 += LANES / T, part += LANES) {
        const R       *scale[LANES];
        const int32_t *zero[LANES];
        R              mul[LANES], y[LANES];
        for (int r = 0; r < LANES / T; r++) {
            int64_t n = c->n + qt_min_i64(r0 + r, row + rows - 1), k = first_scale(c->w, n, p->K);
            scale[r] = c->w->scale + k, zero[r] = c->w->zero ? c->w->zero + k : NULL;
            mul[r] = c->e->mul ? c->e->mul[n] : 1;
        }
        for (int i = 0; i < LANES; i++) y[i] = part[i];
        for (int64_t i = b, k = b / each, left = each - b % each; i < end; i++, sum += LANES) {
            const int64_t  at = c->m * p->blocks + i * T, kw = c->w->count == 1 ? 0 : k;
            const R       *sx = p->scale + at;
            const int32_t *x = p->sum + at;
            for (int l = 0; l < LANES; l++) {
                const int r = l / T, m = l % T;
                uint32_t  lift = (uint32_t)p->w->lo - (c->w->zero ? (uint32_t)zero[r][kw] : 0);
                R         add = (R)(int32_t)((uint32_t)p->step * (uint32_t)sum[l] + lift * (uint32_t)x[m]) * (sx[m] * scale[r][kw] * mul[r]);
                y[l] = i ? y[l] + add : add;
            }
            if (--left == 0) k++, left = each;
        }
        for (int i = 0; i < LANES; i++) part[i] = y[i];
    }
}

QT_CLONES static void fold(const chunk *c, int64_t row, int64_t rows, int64_t b, int64_t blocks, const int32_t *sum, R *part)
{
    switch (c->T) {
    case 1: fold_tile(c, 1, row, rows, b, blocks, sum, part); break;
    case 2: fold_tile(c, 2, row, rows, b, blocks, sum, part); break;
    case 4: fold_tile(c, 4, row, rows, b, blocks, sum, part); break;
    default: fold_tile(c, 8, row, rows, b, blocks, sum, part); break;
    }
}

/* A sum for each block. */
static void many_blocks(const chunk *c, const qt_packed_path *path, int32_t *sum, R *part)
{
    const plan   *p = c->p;
    const int64_t together = qt_min_i64(qt_max_i64(NEAR / (c->T * V * p->steps), 1), p->blocks), rows = SUMS / together * (LANES / c->T);
    for (int64_t b = 0; b < p->blocks; b += together)
        for (int64_t r = 0; r < c->rows; r += rows) {
            qt_packed_job j = job_of(c, r, qt_min_i64(rows, c->rows - r), b * p->steps);
            j.blocks = qt_min_i64(together, p->blocks - b), j.steps = p->steps;
            path->dot(&j, sum);
            fold(c, r, j.rows, b, j.blocks, sum, part + r * c->T);
        }
}

static void store(const chunk *c, const R *part, R *y)
{
    for (int64_t m = c->m; m < qt_min_i64(c->m + c->T, c->p->M); m++)
        for (int64_t r = 0; r < c->rows; r++)
            y[m * c->p->N + c->n + r] = qt_iend_store(c->e, part[r * c->T + m - c->m], qt_iend_offset(c->e, c->n + r));
}

static void linear(const plan *p, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, R *y)
{
    const qt_packed_path *path = qt_packed_chosen();
    const int64_t         size = qt_min_i64(qt_max_i64(up(p->N / 16, LANES), LANES), ROWS);
    pack(p, x);
    QT_FOR_EACH(i, QT_CHUNKS(p->N, size), p->rows * p->N * p->K > 1 << 20)
    {
        int32_t sum[SUMS * LANES];
        R       part[ROWS * MAX_T];
        chunk   c = {.p = p, .w = w, .e = end, .n = i * size, .rows = qt_min_i64(size, p->N - i * size)};
        for (; c.m < p->M; c.m += c.T) {
            c.T = tile_at(p, c.m);
            (p->blocks == 1 ? one_block : many_blocks)(&c, path, sum, part);
            store(&c, part, y);
        }
    }
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
    return (size_t)up(rows * K + QT_CODES_SLACK, ALIGN) + (size_t)up(M * rows * (int64_t)sizeof(R), ALIGN) + qt_ilinear_work(M, rows, K, x, &c) + ALIGN;
}

static void unpacked(int64_t M, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y)
{
    const qt_packed *p = w->packed;
    const int64_t    most = piece_rows(w), K = p->K;
    int8_t          *q = (int8_t *)work + (size_t)-(uintptr_t)work % ALIGN;
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
    return plan_shapes(&p, M, x, w, NULL, &size) && size > other ? size : other;
}

void qt_packed_linear(int64_t M, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y)
{
    plan   p;
    size_t size;
    if (plan_shapes(&p, M, x, w, work, &size) && plan_numbers(&p, x, w))
        linear(&p, x, w, end, y);
    else
        unpacked(M, x, w, end, work, y);
}
