/* The kernels of one instruction set, a template. Who includes it has defined
 *     NAME(f)  the name of f here            TARGET          the instruction set, as an attribute
 *     LANES    sums in a vector V            ROWS, VECTORS   of the largest tile
 *     KINDS    how many of qt_igemm_kind it has: 2, or 3 with RUN
 * and the functions zero(), load(p), store(p, v), add(a, b), broadcast(p): four bytes to all lanes, dot(kind, sum, x, w): what a step adds
 * to the sums, widen(kind, sum): sums of a run to int32; for few rows load_x(kind, p), load_w(kind, p): a vector of codes as dot wants
 * them, and reduce(v, c): c[i] = sum of all lanes of v[i], i < FEW; all of them named through NAME.
 *
 * A tile is rows x vectors of sums in registers; each step loads `vectors` vectors of b and broadcasts one step of each row of a. The rule
 * that makes a number of a sum is applied while the tile is still in the first-level cache. */

#define INLINE static inline __attribute__((always_inline)) TARGET
#define CODES(kind) (LANES * ((kind) == QT_IGEMM_PAIRS ? 2 : 4)) /* in a vector */

/* c [rows, vectors * LANES] = the product of `steps` steps */
INLINE void NAME(tile)(const int kind, const int rows, const int vectors, const qt_igemm_job *j, int64_t steps, const uint8_t *a, const uint8_t *b,
                       int32_t *c)
{
    int64_t run = kind == QT_IGEMM_RUN ? j->run : steps, a_row = j->a_row, a_step = j->a_step, panel = j->b_panel;
    for (int64_t done = 0; done < steps; done += run) {
        V   sum[QT_IGEMM_ROWS][QT_IGEMM_COLS / LANES];
        int n = (int)qt_min_i64(run, steps - done);
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = NAME(zero)();
        for (int s = 0; s < n; s++, a += a_step, b += 4 * LANES) {
            V w[QT_IGEMM_COLS / LANES];
            UNROLL for (int v = 0; v < vectors; v++) w[v] = NAME(load)(b + v * panel);
            UNROLL for (int r = 0; r < rows; r++) {
                V x = NAME(broadcast)(a + r * a_row);
                UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = NAME(dot)(kind, sum[r][v], x, w[v]);
            }
        }
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int v = 0; v < vectors; v++) {
                int32_t *to = c + (r * vectors + v) * LANES;
                V        wide = NAME(widen)(kind, sum[r][v]);
                NAME(store)(to, done ? NAME(add)(NAME(load)(to), wide) : wide);
            }
    }
}

/* c -= zx (sum of w - k zw) + zw (sum of x) in row m, cut i */
INLINE void NAME(correct)(const qt_igemm_job *j, int64_t i, int64_t block, int64_t m, int64_t n, const int cols, int32_t *c)
{
    if (j->x.zero) {
        uint32_t       zx = (uint32_t)j->x.zero[block * j->x.block + m * j->x.row];
        const int32_t *w_sum = j->w_sum + i * j->w_pitch + n;
        for (int k = 0; k < cols; k++) c[k] = (int32_t)((uint32_t)c[k] - zx * (uint32_t)w_sum[k]);
    }
    if (j->w.zero) {
        uint32_t       x_sum = (uint32_t)j->x_sum[i * j->M + m];
        const int32_t *zw = j->w.zero + block * j->w.block + n;
        for (int k = 0; k < cols; k++) c[k] = (int32_t)((uint32_t)c[k] - x_sum * (uint32_t)zw[k]);
    }
}

/* sum[k] (+)= (R)c[k] s */
INLINE void NAME(scale)(const qt_igemm_job *j, bool first, int64_t block, int64_t m, int64_t n, const int cols, const int32_t *c, R *sum)
{
    R        sx = j->x.scale[block * j->x.block + m * j->x.row];
    const R *sw = j->w.scale + block * j->w.block + n;
    for (int k = 0; k < cols; k++) {
        R part = (R)c[k] * qt_iend_scale(&j->end, sx * sw[k], n + k);
        sum[k] = first ? part : sum[k] + part;
    }
}

INLINE void NAME(finish)(const qt_igemm_job *j, int64_t m, int64_t n, const int cols, const R *sum)
{
    R *y = j->y + m * j->N + n;
    for (int k = 0; k < cols; k++) y[k] = qt_iend_store(&j->end, sum[k], j->offset[n + k]);
}

/* Rows of the only cut, [rows, cols] sums c: all of the above in one pass, with what there is to do known to the compiler. */
INLINE void NAME(direct)(const qt_igemm_job *j, int64_t m, int64_t n, int rows, const int cols, const bool zero, const bool relu, const int32_t *c)
{
    const R       *sw = j->w.scale + n, *offset = j->offset + n;
    const int32_t *w_sum = j->w_sum + n;
    qt_iend        end = {.relu = relu};
    for (int r = 0; r < rows; r++, m++, c += cols) {
        R        sx = j->x.scale[m * j->x.row], *y = j->y + m * j->N + n;
        uint32_t zx = zero ? (uint32_t)j->x.zero[m * j->x.row] : 0;
        NO_ALIAS for (int k = 0; k < cols; k++) {
            int32_t sum = zero ? (int32_t)((uint32_t)c[k] - zx * (uint32_t)w_sum[k]) : c[k];
            y[k] = qt_iend_store(&end, (R)sum * (sx * sw[k]), offset[k]);
        }
    }
}

INLINE void NAME(direct_tile)(const qt_igemm_job *j, int64_t m, int64_t n, int rows, const int cols, const int32_t *c)
{
    if (j->x.zero && j->end.relu) NAME(direct)(j, m, n, rows, cols, true, true, c);
    else if (j->x.zero) NAME(direct)(j, m, n, rows, cols, true, false, c);
    else if (j->end.relu) NAME(direct)(j, m, n, rows, cols, false, true, c);
    else NAME(direct)(j, m, n, rows, cols, false, false, c);
}

/* What becomes of the tile c, its rows `pitch` apart, of cut i; sum: the tile's numbers so far */
TARGET static __attribute__((noinline)) void NAME(emit)(const qt_igemm_job *j, int64_t i, int64_t block, int64_t m, int64_t n, int rows, int cols, int pitch, int32_t *c, R *sum)
{
    if (j->cuts.n == 1 && j->y && !j->end.mul && !j->w.zero && cols == pitch && cols % LANES == 0) {
        if (cols == LANES) NAME(direct_tile)(j, m, n, rows, LANES, c);
        else if (cols == 2 * LANES) NAME(direct_tile)(j, m, n, rows, 2 * LANES, c);
        else NAME(direct_tile)(j, m, n, rows, 3 * LANES, c);
        return;
    }
    for (int r = 0; r < rows; r++, c += pitch, sum += pitch) {
        NAME(correct)(j, i, block, m + r, n, cols, c);
        if (j->y) {
            NAME(scale)(j, i == 0, block, m + r, n, cols, c, sum);
            if (i == j->cuts.n - 1) NAME(finish)(j, m + r, n, cols, sum);
        } else
            for (int k = 0; k < cols; k++) j->C[(m + r) * j->N + n + k] = c[k];
    }
}

INLINE const uint8_t *NAME(a_at)(const qt_igemm_job *j, int64_t m, const qt_igemm_cut *cut)
{
    if (!j->a_panel) return j->a + m * j->a_row + cut->k * j->a_code;
    return j->a + m / QT_IGEMM_WIDTH * j->a_panel + m % QT_IGEMM_WIDTH * j->a_row + cut->step * j->a_step;
}

INLINE void NAME(rows)(const int kind, const int rows, const int vectors, const qt_igemm_job *j, int64_t m, int64_t n)
{
    enum { SIZE = QT_IGEMM_ROWS * QT_IGEMM_COLS };
    int32_t   c[SIZE] __attribute__((aligned(64)));
    R         sum[SIZE] __attribute__((aligned(64)));
    const int cols = vectors * LANES;
    for (int64_t i = 0; i < j->cuts.n; i++) {
        qt_igemm_cut cut = qt_igemm_cut_at(&j->cuts, i);
        NAME(tile)(kind, rows, vectors, j, cut.steps, NAME(a_at)(j, m, &cut), j->b + n / LANES * j->b_panel + cut.step * 4 * LANES, c);
        NAME(emit)(j, i, cut.block, m, n, rows, (int)qt_min_i64(cols, j->N - n), cols, c, sum);
    }
}

INLINE void NAME(strip_of)(const int kind, const int vectors, const qt_igemm_job *j, int64_t m, int64_t end, int64_t n)
{
    for (; m + ROWS <= end; m += ROWS) NAME(rows)(kind, ROWS, vectors, j, m, n);
    if (ROWS > 4 && m + 4 <= end) NAME(rows)(kind, 4, vectors, j, m, n), m += 4;
    if (m + 2 <= end) NAME(rows)(kind, 2, vectors, j, m, n), m += 2;
    if (m < end) NAME(rows)(kind, 1, vectors, j, m, n);
}

#define STRIP(kind, vectors)                                                                                             \
    TARGET static void NAME(strip_##kind##_##vectors)(const qt_igemm_job *j, int64_t m, int64_t end, int64_t n) \
    {                                                                                                                    \
        NAME(strip_of)(kind, vectors, j, m, end, n);                                                                     \
    }
#if VECTORS == 3
#define STRIPS(kind) STRIP(kind, 1) STRIP(kind, 2) STRIP(kind, 3)
#define LIST(kind) {NAME(strip_##kind##_1), NAME(strip_##kind##_2), NAME(strip_##kind##_3)}
#else
#define STRIPS(kind) STRIP(kind, 1) STRIP(kind, 2)
#define LIST(kind) {NAME(strip_##kind##_1), NAME(strip_##kind##_2)}
#endif
STRIPS(0)
STRIPS(1)
#if KINDS == 3
STRIPS(2)
#endif

static void NAME(strip)(const qt_igemm_job *j, int64_t m, int64_t end, int64_t n, int vectors)
{
#if KINDS == 3
    static void (*const list[KINDS][VECTORS])(const qt_igemm_job *, int64_t, int64_t, int64_t) = {LIST(0), LIST(1), LIST(2)};
#else
    static void (*const list[KINDS][VECTORS])(const qt_igemm_job *, int64_t, int64_t, int64_t) = {LIST(0), LIST(1)};
#endif
    list[j->kind][vectors - 1](j, m, end, n);
}

/* ---- few rows: both operands as they are, vectors along K ---- */

/* c[i] = x times row i of w [FEW rows, b_panel apart], `length` codes; rows beyond `valid` are read as the last */
INLINE void NAME(dots)(const int kind, const qt_igemm_job *j, int64_t length, const uint8_t *x, const uint8_t *w, int64_t valid, int32_t *c)
{
    V              total[QT_IGEMM_FEW];
    const uint8_t *row[QT_IGEMM_FEW];
    uint8_t        last[64] = {0};
    int64_t        whole = length / CODES(kind) * CODES(kind), run = kind == QT_IGEMM_RUN ? j->run * CODES(kind) : length;
    UNROLL for (int i = 0; i < QT_IGEMM_FEW; i++) row[i] = w + qt_min_i64(i, valid - 1) * j->b_panel, total[i] = NAME(zero)();
    for (int64_t k = 0, stop; k < whole; k = stop) {
        V sum[QT_IGEMM_FEW];
        UNROLL for (int i = 0; i < QT_IGEMM_FEW; i++) sum[i] = NAME(zero)();
        stop = qt_min_i64(whole, k + run);
        for (int64_t i = k; i < stop; i += CODES(kind)) {
            V xi = NAME(load_x)(kind, x + i);
            UNROLL for (int r = 0; r < QT_IGEMM_FEW; r++) sum[r] = NAME(dot)(kind, sum[r], xi, NAME(load_w)(kind, row[r] + i));
        }
        UNROLL for (int i = 0; i < QT_IGEMM_FEW; i++) total[i] = NAME(add)(total[i], NAME(widen)(kind, sum[i]));
    }
    if (whole < length) {
        V xi;
        for (int64_t i = whole; i < length; i++) last[i - whole] = x[i];
        xi = NAME(load_x)(kind, last);
        UNROLL for (int r = 0; r < QT_IGEMM_FEW; r++)
            total[r] = NAME(add)(total[r], NAME(widen)(kind, NAME(dot)(kind, NAME(zero)(), xi, NAME(load_w)(kind, row[r] + whole))));
    }
    NAME(reduce)(total, c);
}

INLINE void NAME(few_of)(const int kind, const qt_igemm_job *j, int64_t n, const uint8_t *ones)
{
    int64_t valid = qt_min_i64(QT_IGEMM_FEW, j->N - n);
    int32_t c[QT_IGEMM_ROWS * QT_IGEMM_FEW] __attribute__((aligned(64)));
    R       sum[QT_IGEMM_ROWS * QT_IGEMM_FEW];
    for (int64_t i = 0; i < j->cuts.n; i++) {
        qt_igemm_cut   cut = qt_igemm_cut_at(&j->cuts, i);
        const uint8_t *w = j->b + n * j->b_panel + cut.k;
        if (j->x.zero) {
            int32_t *w_sum = j->w_sum + i * j->w_pitch + n;
            NAME(dots)(kind, j, cut.length, ones, w, valid, w_sum);
            for (int k = 0; k < valid && j->w.zero; k++) w_sum[k] -= (int32_t)cut.length * j->w.zero[cut.block * j->w.block + n + k];
        }
        for (int64_t m = 0; m < j->M; m++) NAME(dots)(kind, j, cut.length, j->a + m * j->a_row + cut.k, w, valid, c + m * QT_IGEMM_FEW);
        NAME(emit)(j, i, cut.block, 0, n, (int)j->M, (int)valid, QT_IGEMM_FEW, c, sum);
    }
}

TARGET static void NAME(few)(const qt_igemm_job *j, int64_t n, const uint8_t *ones)
{
#if KINDS == 3
    if (j->kind == QT_IGEMM_PAIRS) NAME(few_of)(QT_IGEMM_PAIRS, j, n, ones);
    else if (j->kind == QT_IGEMM_RUN) NAME(few_of)(QT_IGEMM_RUN, j, n, ones);
    else
#endif
        NAME(few_of)(QT_IGEMM_BYTES, j, n, ones);
}

#undef INLINE
#undef CODES
#undef STRIP
#undef STRIPS
#undef LIST
#undef NAME
#undef TARGET
#undef V
#undef LANES
#undef ROWS
#undef VECTORS
#undef KINDS
