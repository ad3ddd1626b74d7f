/* Integer matrix products: choice of the kernel, packing, cache blocking, threads. The form in which kernels see a product, and why it is
 * exact, stands in igemm_path.h.
 *
 * B, the weights, is packed; A, the activations, is read where it lies if it is unsigned and not transposed, since a kernel broadcasts four
 * bytes of a row at a time. Each thread works on a range of columns where B is the larger operand, and then packs what it uses, or on a
 * range of rows where A is. Within it, columns are taken in groups of panels, and rows in blocks, so that both fit the second-level cache; one
 * panel and one block at a time go through the first. Few rows of A (mat-vec) are not worth a packing: there both are read as they lie. */
#include "kernels/igemm_path.h"
#include "kernels/xnor.h"
#include <omp.h>
#include <pthread.h>
#include <string.h>

enum {
    PARALLEL = 1 << 21, /* multiply-adds that are worth a team */
    GROUP = 192 << 10,  /* bytes of packed B, */
    BLOCK = 96 << 10,   /* and of A, that are worked on together */
    FEW_ROWS = 4,       /* rows of A that are not worth a packing of B */
    SHORT_RUN = 3,      /* from here on sums in int16 pay */
    ALIGN = 64
};

/* ---- paths ---- */

static const qt_igemm_path *const paths[] = {&qt_igemm_avx512vnni, &qt_igemm_avxvnni, &qt_igemm_avx2, &qt_igemm_portable, &qt_igemm_portable512};
static const qt_igemm_path       *forced, *best;

static void choose(void)
{
    for (int i = 0; !best; i++) best = qt_igemm_has(paths[i]) ? paths[i] : NULL;
}

const char          *qt_igemm_name(const qt_igemm_path *p) { return p->name; }
bool                 qt_igemm_has(const qt_igemm_path *p) { return p->has(); }
const qt_igemm_path *qt_igemm_path_at(int i) { return i >= 0 && i < (int)(sizeof paths / sizeof *paths) ? paths[i] : NULL; }
void                 qt_igemm_force(const qt_igemm_path *p) { forced = p; }

const qt_igemm_path *qt_igemm_chosen(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, choose);
    return forced ? forced : best;
}

/* ---- plan: everything about a product but the numbers; its sizes do not depend on the path ---- */

typedef struct plan {
    int64_t       M, N, K;
    qt_ioperand   a, b;
    bool          few, pairs, copied; /* few rows of A; int16; A is copied into the work space */
    int           a_shift, b_shift;   /* q' = q + shift */
    int64_t       run;                /* pair sums of bytes that fit int16 */
    qt_igemm_cuts cuts;
    size_t        used;               /* bytes of work space */
} plan;

/* How often a sum of two products of [alo, ahi] and [blo, bhi] can be added up within int16. */
static int64_t run_of(int64_t alo, int64_t ahi, int64_t blo, int64_t bhi)
{
    int64_t corner[4] = {alo * blo, alo * bhi, ahi * blo, ahi * bhi}, low = 0, high = 0;
    for (int i = 0; i < 4; i++) low = qt_min_i64(low, corner[i]), high = qt_max_i64(high, corner[i]);
    return qt_min_i64(high ? INT16_MAX / (2 * high) : INT16_MAX, low ? INT16_MIN / (2 * low) : INT16_MAX);
}

qt_igemm_kind qt_igemm_kind_of(const qt_igemm_path *path, int64_t alo, int64_t ahi, int64_t blo, int64_t bhi, int64_t *run)
{
    *run = run_of(alo, ahi, blo, bhi);
    return !path->saturates ? QT_IGEMM_BYTES : !*run ? QT_IGEMM_PAIRS : *run >= SHORT_RUN ? QT_IGEMM_RUN : QT_IGEMM_BYTES;
}

static qt_igemm_cuts cuts_of(int64_t K, int64_t block, int64_t longest, int64_t codes)
{
    qt_igemm_cuts c = {.K = K, .block = block, .longest = qt_min_i64(longest, block), .codes = codes};
    c.per_block = (block + c.longest - 1) / c.longest;
    c.n = K / block * c.per_block;
    c.cut_steps = (c.longest + codes - 1) / codes;
    c.block_steps = (c.per_block - 1) * c.cut_steps + (block - (c.per_block - 1) * c.longest + codes - 1) / codes;
    c.steps = K / block * c.block_steps;
    return c;
}

/* The plan with codes in bytes or in pairs. */
static plan form(plan p, bool pairs, int64_t block, int64_t longest)
{
    p.pairs = pairs;
    p.copied = !p.few && (p.a.trans || (pairs ? !p.a.wide : p.a_shift));
    p.cuts = cuts_of(p.K, block, longest, pairs ? 2 : 4);
    return p;
}

static plan plan_of(int64_t M, int64_t N, int64_t K, qt_ioperand a, qt_ioperand b, int64_t block, int64_t longest)
{
    bool wide = a.wide || b.wide;
    plan p = {.M = M, .N = N, .K = K, .a = a, .b = b};
    p.a_shift = a.is_signed && a.lo < 0 ? -a.lo : 0, p.b_shift = !b.is_signed && b.hi > INT8_MAX ? INT8_MIN : 0;
    p.run = run_of(a.lo + p.a_shift, qt_max_i64(1, a.hi + p.a_shift), b.lo + p.b_shift, b.hi + p.b_shift);
    p.few = M <= FEW_ROWS && !a.trans && b.trans && !a.is_signed && b.is_signed && !wide;
    return form(p, wide || !p.run, block, longest);
}

/* The next n bytes of the work space. */
static void *take(plan *p, void *work, int64_t n)
{
    char *at = work ? (char *)work + p->used : NULL;
    p->used += (size_t)qt_igemm_up(n, ALIGN);
    return at;
}

static void *aligned(void *work) { return (char *)work + (ALIGN - (uintptr_t)work % ALIGN) % ALIGN; }

static int64_t apart(const plan *p) { return p->a.pitch ? p->a.pitch : p->K; } /* rows of A as they come */
static int64_t a_pitch(const plan *p) { return qt_igemm_up(p->K, 32) * (p->pairs ? 2 : 1); }

/* Where things lie in the work space; the caller has set what it knows. */
static qt_igemm_job layout(plan *p, void *work)
{
    qt_igemm_job j = {.M = p->M, .N = p->N, .b_panel = p->K};
    int64_t      N = qt_igemm_up(p->N, QT_IGEMM_LANES);
    j.w_pitch = N;
    j.w_sum = take(p, work, p->cuts.n * N * (int64_t)sizeof(int32_t));
    j.x_sum = take(p, work, p->cuts.n * p->M * (int64_t)sizeof(int32_t));
    if (p->few) j.b = take(p, work, p->cuts.longest); /* ones */
    else j.b = take(p, work, N * p->cuts.steps * 4);
    if (p->copied) j.a = take(p, work, (p->a.trans ? qt_igemm_up(p->M, QT_IGEMM_WIDTH) * p->cuts.steps * 4 : p->M * a_pitch(p)) + QT_CODES_SLACK);
    return j;
}

/* A plan that suits every path becomes that of one: the path may do without pairs. */
static void settle(plan *p, const qt_igemm_path *path, qt_igemm_job *j)
{
    bool wide = p->a.wide || p->b.wide;
    *p = form(*p, wide || (p->pairs && path->saturates), p->cuts.block, p->cuts.longest);
    if (p->pairs) p->a_shift = p->b_shift = 0;
    j->cuts = p->cuts, j->run = p->run;
    j->kind = p->pairs ? QT_IGEMM_PAIRS : path->saturates && p->run >= SHORT_RUN ? QT_IGEMM_RUN : QT_IGEMM_BYTES;
    j->a_code = p->pairs && !p->few ? 2 : 1, j->a_step = 4, j->a_row = p->copied ? a_pitch(p) : apart(p) * j->a_code;
    if (p->a.trans) j->a_row = 4, j->a_step = 4 * QT_IGEMM_WIDTH, j->a_panel = p->cuts.steps * j->a_step;
    if (!p->few) j->b_panel = p->cuts.steps * 4 * path->lanes;
}

/* ---- packing ---- */

static void pack_a(const plan *p, const qt_igemm_path *path, const qt_igemm_job *j, int64_t begin, int64_t end)
{
    qt_ipack_from  f = {p->a.q, p->a.trans ? p->M : p->K, p->a.is_signed, p->pairs, p->a.wide, (uint8_t)p->a_shift, QT_IGEMM_WIDTH};
    int64_t        code = p->a.wide ? 2 : 1;
    uint8_t       *to = (uint8_t *)j->a;
    for (int64_t m = begin; m < end; m += p->a.trans ? QT_IGEMM_WIDTH : 1) {
        if (!p->a.trans) path->pack->copy(&f, f.q + m * apart(p), p->K, to + m * j->a_row);
        for (int64_t i = 0; i < p->cuts.n && p->a.trans; i++) {
            qt_igemm_cut cut = qt_igemm_cut_at(&p->cuts, i);
            path->pack->weave(&f, f.q + (cut.k * p->M + m) * code, cut.length, to + m / QT_IGEMM_WIDTH * j->a_panel + cut.step * j->a_step, NULL);
        }
    }
}

/* Sums of the codes of A that the zero points of B are multiplied with. */
static void sum_a(const plan *p, int32_t *sum, int64_t begin, int64_t end)
{
    int64_t row = p->a.trans ? 1 : apart(p), step = p->a.trans ? p->M : 1;
    for (int64_t i = 0; i < p->cuts.n; i++, sum += p->M) {
        qt_igemm_cut cut = qt_igemm_cut_at(&p->cuts, i);
        for (int64_t m = begin; m < end; m++) {
            const uint8_t *q = (const uint8_t *)p->a.q + m * row + cut.k * step;
            int64_t        total = cut.length * p->a_shift;
            for (int64_t k = 0; k < cut.length; k++) total += p->a.is_signed ? (int8_t)q[k * step] : q[k * step];
            sum[m] = (int32_t)total;
        }
    }
}

/* Panels [begin, end) of B, and its sums if they are wanted. */
static void pack_b(const plan *p, const qt_igemm_path *path, const qt_igemm_job *j, int64_t begin, int64_t end)
{
    qt_ipack_from f = {p->b.q, p->b.trans ? p->K : p->N, p->b.is_signed, p->pairs, p->b.wide, (uint8_t)p->b_shift, path->lanes};
    int64_t       code = p->b.wide ? 2 : 1;
    for (int64_t n = begin * path->lanes; n < qt_min_i64(p->N, end * path->lanes); n += path->lanes)
        for (int64_t i = 0; i < p->cuts.n; i++) {
            qt_igemm_cut cut = qt_igemm_cut_at(&p->cuts, i);
            uint8_t     *to = (uint8_t *)j->b + n / path->lanes * j->b_panel + cut.step * 4 * path->lanes;
            int32_t     *sum = j->x.zero ? j->w_sum + i * j->w_pitch + n : NULL;
            if (sum) memset(sum, 0, sizeof *sum * (size_t)path->lanes);
            if (p->b.trans) path->pack->gather(&f, f.q + (n * p->K + cut.k) * code, p->N - n, cut.length, to, sum);
            else path->pack->weave(&f, f.q + (cut.k * p->N + n) * code, cut.length, to, sum);
            for (int64_t k = n; sum && j->w.zero && k < qt_min_i64(p->N, n + path->lanes); k++)
                sum[k - n] -= (int32_t)cut.length * j->w.zero[cut.block * j->w.block + k];
        }
}

/* ---- product ---- */

/* The t-th of T parts of n in multiples of unit. */
static void share(int64_t n, int64_t unit, int t, int T, int64_t *begin, int64_t *end)
{
    int64_t units = (n + unit - 1) / unit;
    *begin = qt_min_i64(n, units * t / T * unit), *end = qt_min_i64(n, units * (t + 1) / T * unit);
}

/* Rows [m, end) by columns [n, stop), all of B packed. */
static void multiply(const qt_igemm_path *path, const qt_igemm_job *j, int64_t m, int64_t end, int64_t n, int64_t stop)
{
    int64_t lanes = path->lanes, widest = path->vectors * lanes, column = j->cuts.steps * 4, group = GROUP / column / widest * widest;
    int64_t rows = qt_max_i64(1, BLOCK / column / QT_IGEMM_WIDTH) * QT_IGEMM_WIDTH;
    group = qt_max_i64(group, widest);
    for (int64_t g = n; g < stop; g += group)
        for (int64_t b = m; b < end; b += rows)
            for (int64_t c = g, last = qt_min_i64(g + group, stop), vectors; c < last; c += vectors * lanes) {
                int64_t left = (last - c + lanes - 1) / lanes;
                vectors = left <= path->vectors ? left : left == path->vectors + 1 ? (left + 1) / 2 : path->vectors;
                path->strip(j, b, qt_min_i64(b + rows, end), c, (int)vectors);
            }
}

/* What thread t of T does. */
static void part(const plan *p, const qt_igemm_path *path, const qt_igemm_job *j, int t, int T)
{
    bool    by_columns = p->N > p->M && p->N >= path->vectors * path->lanes * T;
    int64_t begin, end, panels = (p->N + path->lanes - 1) / path->lanes, first, last;
    share(panels, path->vectors, t, T, &first, &last);
    pack_b(p, path, j, first, last);
    share(p->M, QT_IGEMM_WIDTH, t, T, &begin, &end);
    if (p->copied) pack_a(p, path, j, begin, end);
    if (j->w.zero) sum_a(p, (int32_t *)j->x_sum, begin, end);
    if (!by_columns || p->copied || j->w.zero) {
#pragma omp barrier
    }
    if (by_columns) multiply(path, j, 0, p->M, first * path->lanes, qt_min_i64(p->N, last * path->lanes));
    else multiply(path, j, begin, end, 0, p->N);
}

static void part_few(const plan *p, const qt_igemm_path *path, const qt_igemm_job *j, const uint8_t *ones, int t, int T)
{
    int64_t begin, end;
    share(p->N, QT_IGEMM_LANES, t, T, &begin, &end);
    for (int64_t n = begin; n < end; n += path->lanes) path->few(j, n, ones);
}

static void product(const plan *p, const qt_igemm_path *path, qt_igemm_job *j)
{
    bool           parallel = p->M * p->N * p->K >= PARALLEL && !omp_in_parallel();
    const uint8_t *ones = j->b;
    if (!p->copied) j->a = p->a.q;
    if (p->few) {
        memset((uint8_t *)j->b, 1, (size_t)p->cuts.longest);
        j->b = p->b.q;
        if (j->w.zero) sum_a(p, (int32_t *)j->x_sum, 0, p->M);
    }
#pragma omp parallel if (parallel)
    if (p->few) part_few(p, path, j, ones, omp_get_thread_num(), omp_get_num_threads());
    else part(p, path, j, omp_get_thread_num(), omp_get_num_threads());
}

/* ---- the layer's product ---- */

static int64_t block_of(const qt_icodes *c, int64_t K) { return qt_min_i64(c->inner, K); }

bool qt_ilinear_suits(int64_t M, int64_t N, int64_t K, const qt_icodes *x, const qt_icodes *w)
{
    int64_t bx = block_of(x, K), bw = block_of(w, K);
    (void)M, (void)N;
    return K > 0 && K % bx == 0 && K % bw == 0 && (x->inner % K == 0 || x->inner < K) && (w->inner % K == 0 || w->inner < K) &&
           (bx % bw == 0 || bw % bx == 0) && bx > 3 && bw > 3 && qt_longest_block(qt_icodes_reach(x), qt_icodes_reach(w)) > 0;
}

static plan plan_linear(int64_t M, int64_t N, int64_t K, const qt_icodes *x, const qt_icodes *w)
{
    qt_ioperand a = {x->q, x->is_signed, false, x->lo, x->hi, false}, b = {w->q, w->is_signed, true, w->lo, w->hi, false};
    return plan_of(M, N, K, a, b, qt_min_i64(block_of(x, K), block_of(w, K)), qt_longest_block(qt_icodes_reach(x), qt_icodes_reach(w)));
}

/* Tables of scales and zero points, [blocks][rows]. */
typedef struct table {
    R       *scale;
    int32_t *zero;
    int64_t  blocks;
} table;

static table table_of(plan *p, void *work, const qt_icodes *c, int64_t rows)
{
    int64_t blocks = c->inner < p->K ? p->K / p->cuts.block : 1, n = blocks * rows;
    R      *scale = take(p, work, n * (int64_t)sizeof(R));
    return (table){scale, take(p, work, n * (int64_t)sizeof(int32_t)), blocks};
}

/* Fills the table, or points to what there is. */
static qt_igemm_side side_of(const plan *p, const qt_icodes *c, int64_t rows, int shift, bool each, const table *t)
{
    bool          zero = c->zero || shift, one = c->count == 1 && !each;
    int64_t       n = one ? 1 : rows, groups = c->inner < p->K ? p->K / c->inner : 0, per = groups ? 1 : c->inner / p->K;
    qt_igemm_side s = {t->scale, zero ? t->zero : NULL, !one, one || !groups ? 0 : rows};
    if (!shift && ((one) || (c->inner == p->K && c->count == rows))) return s.scale = c->scale, s.zero = c->zero, s;
    for (int64_t b = 0; b < (s.block ? t->blocks : 1); b++)
        for (int64_t r = 0, at = b * n; r < n; r++, at++) {
            int64_t k = c->count == 1 ? 0 : groups ? r * groups + b * p->cuts.block / c->inner : per == 1 ? r : r / per;
            k = k < c->count ? k : k % c->count;
            t->scale[at] = c->scale[k], t->zero[at] = (c->zero ? c->zero[k] : 0) + shift;
        }
    return s;
}

typedef struct linear {
    plan         p;
    qt_igemm_job j;
    table        x, w;
    R           *offset;
} linear;

static linear linear_of(int64_t M, int64_t N, int64_t K, const qt_icodes *x, const qt_icodes *w, void *work)
{
    linear l = {.p = plan_linear(M, N, K, x, w)};
    l.j = layout(&l.p, work);
    l.x = table_of(&l.p, work, x, M), l.w = table_of(&l.p, work, w, N);
    l.offset = take(&l.p, work, N * (int64_t)sizeof(R));
    return l;
}

size_t qt_ilinear_work(int64_t M, int64_t N, int64_t K, const qt_icodes *x, const qt_icodes *w)
{
    size_t bits = qt_xnor_linear_suits(K, x, w) ? qt_xnor_linear_work(M, N, K) : 0, bytes = linear_of(M, N, K, x, w, NULL).p.used;
    return (bits > bytes ? bits : bytes) + ALIGN;
}

void qt_ilinear(int64_t M, int64_t N, int64_t K, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y)
{
    const qt_igemm_path *path = qt_igemm_chosen();
    linear               l = linear_of(M, N, K, x, w, aligned(work));
    if (qt_xnor_linear_suits(K, x, w) && !forced) {
        qt_xnor_linear(M, N, K, x, w, end, aligned(work), y);
        return;
    }
    settle(&l.p, path, &l.j);
    l.j.x = side_of(&l.p, x, M, l.p.a_shift, false, &l.x), l.j.w = side_of(&l.p, w, N, l.p.b_shift, true, &l.w);
    for (int64_t n = 0; n < N; n++) l.offset[n] = qt_iend_offset(end, n);
    l.j.end = *end, l.j.offset = l.offset, l.j.y = y;
    if (M && N) product(&l.p, path, &l.j);
}

/* ---- the bare product ---- */

typedef struct bare {
    plan         p;
    qt_igemm_job j;
    int32_t     *zero; /* [N] */
} bare;

static bare bare_of(int64_t M, int64_t N, int64_t K, qt_ioperand a, qt_ioperand b, void *work)
{
    bare c = {.p = plan_of(M, N, K, a, b, K, K)};
    c.j = layout(&c.p, work);
    c.zero = take(&c.p, work, N * (int64_t)sizeof(int32_t));
    return c;
}

size_t qt_igemm_work(int64_t M, int64_t N, int64_t K, qt_ioperand a, qt_ioperand b)
{
    return K ? bare_of(M, N, K, a, b, NULL).p.used + ALIGN : ALIGN;
}

void qt_igemm(int64_t M, int64_t N, int64_t K, qt_ioperand a, qt_ioperand b, void *work, int32_t *C)
{
    const qt_igemm_path *path = qt_igemm_chosen();
    bare                 c;
    if (M && N && !K) memset(C, 0, (size_t)(M * N) * sizeof *C);
    if (!M || !N || !K) return;
    c = bare_of(M, N, K, a, b, aligned(work));
    settle(&c.p, path, &c.j);
    for (int64_t n = 0; n < N; n++) c.zero[n] = c.p.b_shift;
    c.j.x.zero = c.p.a_shift ? (int32_t[]){c.p.a_shift} : NULL, c.j.w.zero = c.p.b_shift ? c.zero : NULL;
    c.j.C = C;
    product(&c.p, path, &c.j);
}
