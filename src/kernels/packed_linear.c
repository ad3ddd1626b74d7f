/* y = x w^T with packed weights, by the rule of codes.h. With w = lo + step u (packed_path.h) and x = x' + c, where x' fits a signed byte,
 *     sum (x - zx)(w - zw) = step sum x' u + (lo - zw) sum x' + (c - zx) (sum w - len zw)
 * over a block of `len` codes: only sum x' u needs both operands, it is the kernel's (packed_avx2.c ...). c is zx where that is possible,
 * and then the last term is 0. All of it modulo 2^32: the result fits int32 by the rule, whatever its parts do.
 *
 * x is rearranged once: tiles of T = 1, 2, 4 or 8 rows, their quads side by side. A chunk of weight rows (a thread's piece of work) meets one
 * tile after the other, and of each tile so many codes at a time as stay in the first cache. So packed weights are read from memory once,
 * also when there are many rows of x.
 * Scales that change along a row want a sum for each block; layouts that do not suit (blocks that are no whole vectors, zero points of x
 * outside its byte together with groups, blocks too long for int32) are unpacked piece by piece for qt_ilinear. */
#include "base/par.h"
#include "kernels/igemm.h"
#include "kernels/packed_path.h"
#include <string.h>

enum { V = QT_PACKED_VECTOR, LANES = QT_PACKED_ROWS, QUAD = QT_PACKED_QUAD, MAX_T = 8, ROWS = 64, SUMS = 512, NEAR = 16384, ALIGN = 64 };

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
    int64_t          M, N, K, rows;        /* rows: M filled up to whole tiles */
    int64_t          codes, row_vectors;   /* codes of a row in a vector, vectors of a row */
    int64_t          len, blocks, vectors; /* codes of a block, blocks of a row, vectors of a block */
    int              step, c, products;
    size_t           stride;               /* bytes of a panel */
    int8_t          *x;                    /* [tile][quad][T][4] */
    int32_t         *sum, *shift;          /* sum x' [tile][block][T], c - zx [rows] */
    R               *scale;                /* [tile][block][T] */
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
    int64_t          at[4];
    *p = (plan){.w = q, .M = M, .N = q->N, .K = q->K, .codes = qt_packed_codes(q->bits), .step = q->bits == 1 ? 2 : 1};
    p->row_vectors = qt_packed_vectors(q->K, q->bits), p->stride = (size_t)(p->row_vectors * V);
    p->len = gcd(block_of(x, p->K), block_of(w, p->K)), p->blocks = p->K / p->len;
    p->vectors = p->blocks == 1 ? p->row_vectors : p->len / p->codes;
    if (!regular(x, M, p->K) || !regular(w, p->N, p->K) || (p->blocks > 1 && p->len % p->codes)) return false;
    p->rows = up(M, M > max_tile(q->bits) ? max_tile(q->bits) : tile_at(p, 0));
    at[0] = up(p->rows * p->row_vectors * p->codes, ALIGN);
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

/* A block of a row of a tile: bytes less c, a quad to each T quads; behind `len`, up to whole vectors, zeros. Returns their sum. */
QT_CLONES static int32_t pack_block(int8_t *d, int T, const uint8_t *q, int64_t len, int64_t whole, int c)
{
    enum { PIECE = 256 };
    int32_t sum = 0;
    for (int64_t k = 0; k < whole; k += PIECE) {
        int8_t  x[PIECE] = {0};
        int64_t n = qt_min_i64(PIECE, len - k);
        for (int64_t i = 0; i < n; i++) x[i] = (int8_t)(q[k + i] - c), sum += x[i];
        for (int64_t i = 0; i < qt_min_i64(PIECE, whole - k); i += QUAD, d += T * QUAD) memcpy(d, x + i, QUAD);
    }
    return sum;
}

static void pack(const plan *p, const qt_icodes *x)
{
    int64_t max = max_tile(p->w->bits), x_blocks = p->blocks / (p->K / block_of(x, p->K)); /* blocks to a scale of x */
    QT_FOR_EACH(m, p->rows, p->rows * p->K > 1 << 17)
    {
        int64_t  m0 = m / max * max, i = m - m0, T = tile_at(p, m0), k = m < p->M ? first_scale(x, m, p->K) : 0;
        int64_t  whole = p->vectors * p->codes, len = m < p->M ? p->len : 0; /* rows of zeros fill the last tile */
        int8_t  *d = p->x + m0 * p->row_vectors * p->codes + i * QUAD;
        int32_t *sum = p->sum + m0 * p->blocks + i;
        R       *scale = p->scale + m0 * p->blocks + i;
        if (i >= T) continue;
        for (int64_t b = 0; b < p->blocks; b++) {
            sum[b * T] = pack_block(d + b * whole * T, (int)T, (const uint8_t *)x->q + m * p->K + b * p->len, len, whole, p->c);
            scale[b * T] = x->scale[x->count == 1 ? 0 : k + b / x_blocks];
        }
        p->shift[m] = p->c - (x->zero ? x->zero[k] : 0);
    }
}

/* ---- a chunk of weight rows against a tile ---- */

typedef struct chunk {
    const plan      *p;
    const qt_icodes *w;
    const qt_iend   *e;
    int64_t          n, rows, panels; /* rows of weights */
    int64_t          m;               /* the tile */
    int              T;
} chunk;

/* Panels of the chunk from vector `at` on. */
static qt_packed_job job_of(const chunk *c, int64_t panel, int64_t panels, int64_t at)
{
    const plan    *p = c->p;
    const uint8_t *w = (const uint8_t *)p->w->data + (size_t)(c->n / LANES + panel) * p->stride + at * V;
    return (qt_packed_job){.bits = p->w->bits, .T = c->T, .products = p->products, .w = w, .stride = p->stride, .panels = panels,
                           .x = p->x + (c->m * p->row_vectors + at * c->T) * p->codes};
}

/* One sum for a whole row: the numbers are finished once. */
static void one_block(const chunk *c, const qt_packed_path *path, int32_t *sum, R *part)
{
    const plan   *p = c->p;
    const int64_t piece = NEAR / (c->T * p->codes), n_sums = c->panels * c->T * LANES;
    uint32_t      acc[ROWS * MAX_T] = {0};
    for (int64_t v = 0; v < p->row_vectors; v += piece) {
        qt_packed_job j = job_of(c, 0, c->panels, v);
        j.blocks = 1, j.vectors = qt_min_i64(piece, p->row_vectors - v);
        path->dot(&j, sum);
        for (int64_t i = 0; i < n_sums; i++) acc[i] += (uint32_t)sum[i];
    }
    for (int64_t i = 0; i < n_sums; i++) {
        int64_t  m = c->m + i / LANES % c->T, n = qt_min_i64(c->n + i / LANES / c->T * LANES + i % LANES, p->N - 1), k = first_scale(c->w, n, p->K);
        uint32_t z = c->w->zero ? (uint32_t)c->w->zero[k] : 0, all = (uint32_t)p->w->sum[n] - (uint32_t)p->K * z;
        uint32_t a = (uint32_t)p->step * acc[i] + ((uint32_t)p->w->lo - z) * (uint32_t)p->sum[m] + (uint32_t)p->shift[m] * all;
        part[i] = (R)(int32_t)a * qt_iend_scale(c->e, p->scale[m] * c->w->scale[k], n);
    }
}

/* part [panel][T][8] += what the sums of blocks [b, b + blocks) of some panels are worth. */
QT_CLONES static void fold(const chunk *c, int64_t panel, int64_t panels, int64_t b, int64_t blocks, const int32_t *sum, R *part)
{
    const plan   *p = c->p;
    const int64_t each = p->blocks / (p->K / block_of(c->w, p->K)), T = c->T; /* blocks to a scale of w */
    for (int64_t end = b + blocks; panels > 0; panels--, panel++, part += T * LANES) {
        const R       *scale[LANES];
        const int32_t *zero[LANES];
        R              mul[LANES];
        for (int r = 0; r < LANES; r++) {
            int64_t n = qt_min_i64(c->n + panel * LANES + r, p->N - 1), k = first_scale(c->w, n, p->K);
            scale[r] = c->w->scale + k, zero[r] = c->w->zero ? c->w->zero + k : NULL;
            mul[r] = c->e->mul ? c->e->mul[n] : 1;
        }
        for (int64_t i = b, k = b / each, left = each - b % each; i < end; i++) {
            R        s[LANES];
            uint32_t lift[LANES];
            for (int r = 0; r < LANES; r++) {
                s[r] = scale[r][c->w->count == 1 ? 0 : k];
                lift[r] = (uint32_t)p->w->lo - (zero[r] ? (uint32_t)zero[r][c->w->count == 1 ? 0 : k] : 0);
            }
            for (int64_t m = 0, at = c->m * p->blocks + i * T; m < T; m++, at++, sum += LANES) {
                R *y = part + m * LANES, sx = p->scale[at];
                for (int r = 0; r < LANES; r++) {
                    R add = (R)(int32_t)((uint32_t)p->step * (uint32_t)sum[r] + lift[r] * (uint32_t)p->sum[at]) * (sx * s[r] * mul[r]);
                    y[r] = i ? y[r] + add : add;
                }
            }
            if (--left == 0) k++, left = each;
        }
    }
}

/* A sum for each block. */
static void many_blocks(const chunk *c, const qt_packed_path *path, int32_t *sum, R *part)
{
    const plan   *p = c->p;
    const int64_t near = NEAR / (c->T * p->codes * p->vectors), together = qt_min_i64(qt_max_i64(near, 1), SUMS / c->T);
    const int64_t panels = qt_max_i64(SUMS / c->T / qt_min_i64(together, p->blocks), 1);
    for (int64_t b = 0; b < p->blocks; b += together)
        for (int64_t n = 0; n < c->panels; n += panels) {
            qt_packed_job j = job_of(c, n, qt_min_i64(panels, c->panels - n), b * p->vectors);
            j.blocks = qt_min_i64(together, p->blocks - b), j.vectors = p->vectors;
            path->dot(&j, sum);
            fold(c, n, j.panels, b, j.blocks, sum, part + n * c->T * LANES);
        }
}

static void store(const chunk *c, const R *part, R *y)
{
    for (int64_t m = 0; m < qt_min_i64(c->T, c->p->M - c->m); m++)
        for (int64_t r = 0; r < c->rows; r++)
            y[(c->m + m) * c->p->N + c->n + r] =
                qt_iend_store(c->e, part[(r / LANES * c->T + m) * LANES + r % LANES], qt_iend_offset(c->e, c->n + r));
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
        c.panels = (c.rows + LANES - 1) / LANES;
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
