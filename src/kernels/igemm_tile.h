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

/* ---- from sums to numbers ---- */

/* Where a tile stands: rows [m, m + rows) by columns [n, n + cols) of cut i, in block `block`. */
typedef struct NAME(place) {
    int64_t i, block, m, n;
    int     rows, cols, pitch; /* pitch: from row to row of the tile */
} NAME(place);

/* LANES numbers of any alignment, as the compiler's vectors: they need no luck to become vector instructions, in float and in double. */
typedef uint32_t NAME(U) __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t  NAME(I) __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef R        NAME(F) __attribute__((vector_size(LANES * sizeof(R)), aligned(sizeof(R)), may_alias));

/* The rule of codes.h for one vector. c: sums, sum: numbers so far. plain: there is one cut, whose result is a number, and nothing but what
 * `zero` (of x) and `relu` say. */
INLINE void NAME(emit_vector)(const qt_igemm_job *j, const NAME(place) *p, const bool plain, const bool zero, const bool relu, int64_t m, int64_t n,
                              const int32_t *c, R *sum)
{
    NAME(U) acc = *(const NAME(U) *)c;
    NAME(F) s, y;
    if (zero) acc -= (uint32_t)j->x.zero[p->block * j->x.block + m * j->x.row] * *(const NAME(U) *)(j->w_sum + p->i * j->w_pitch + n);
    if (!plain && j->w.zero) acc -= (uint32_t)j->x_sum[p->i * j->M + m] * *(const NAME(U) *)(j->w.zero + p->block * j->w.block + n);
    if (!plain && !j->y) {
        *(NAME(U) *)(j->C + m * j->N + n) = acc;
        return;
    }
    s = j->x.scale[p->block * j->x.block + m * j->x.row] * *(const NAME(F) *)(j->w.scale + p->block * j->w.block + n);
    if (!plain && j->end.mul) s *= *(const NAME(F) *)(j->end.mul + n);
    y = __builtin_convertvector((NAME(I))acc, NAME(F)) * s;
    if (!plain && p->i) y = *(const NAME(F) *)sum + y;
    if (!plain && p->i < j->cuts.n - 1) {
        *(NAME(F) *)sum = y;
        return;
    }
    y += *(const NAME(F) *)(j->offset + n);
    if (relu) {
        __typeof__(y > 0) positive = ~(y <= 0); /* a NaN stays one */
        y = (NAME(F))((__typeof__(positive))y & positive);
    }
    *(NAME(F) *)(j->y + m * j->N + n) = y;
}

/* The same for one number. */
INLINE void NAME(emit_one)(const qt_igemm_job *j, const NAME(place) *p, int64_t m, int64_t n, int32_t c, R *sum)
{
    uint32_t acc = (uint32_t)c;
    R        part;
    if (j->x.zero) acc -= (uint32_t)j->x.zero[p->block * j->x.block + m * j->x.row] * (uint32_t)j->w_sum[p->i * j->w_pitch + n];
    if (j->w.zero) acc -= (uint32_t)j->x_sum[p->i * j->M + m] * (uint32_t)j->w.zero[p->block * j->w.block + n];
    if (!j->y) {
        j->C[m * j->N + n] = (int32_t)acc;
        return;
    }
    part = (R)(int32_t)acc * qt_iend_scale(&j->end, j->x.scale[p->block * j->x.block + m * j->x.row] * j->w.scale[p->block * j->w.block + n], n);
    *sum = p->i ? *sum + part : part;
    if (p->i == j->cuts.n - 1) j->y[m * j->N + n] = qt_iend_store(&j->end, *sum, j->offset[n]);
}

INLINE void NAME(emit_rows)(const qt_igemm_job *j, const NAME(place) *p, const bool plain, const bool zero, const bool relu, const int32_t *c, R *sum)
{
    for (int r = 0; r < p->rows; r++, c += p->pitch, sum += p->pitch) {
        int k = 0;
        for (; k + LANES <= p->cols; k += LANES) NAME(emit_vector)(j, p, plain, zero, relu, p->m + r, p->n + k, c + k, sum + k);
        for (; k < p->cols; k++) NAME(emit_one)(j, p, p->m + r, p->n + k, c[k], sum + k);
    }
}

/* What becomes of the tile c; sum: its numbers so far. */
TARGET static __attribute__((noinline)) void NAME(emit)(const qt_igemm_job *j, const NAME(place) *p, const int32_t *c, R *sum)
{
    if (j->cuts.n > 1 || !j->y || j->end.mul || j->w.zero) {
        if (j->x.zero) NAME(emit_rows)(j, p, false, true, j->end.relu, c, sum);
        else NAME(emit_rows)(j, p, false, false, j->end.relu, c, sum);
    } else if (j->x.zero && j->end.relu) NAME(emit_rows)(j, p, true, true, true, c, sum);
    else if (j->x.zero) NAME(emit_rows)(j, p, true, true, false, c, sum);
    else if (j->end.relu) NAME(emit_rows)(j, p, true, false, true, c, sum);
    else NAME(emit_rows)(j, p, true, false, false, c, sum);
}

/* ---- tiles ---- */

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
        NAME(emit)(j, &(NAME(place)){i, cut.block, m, n, rows, (int)qt_min_i64(cols, j->N - n), cols}, c, sum);
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
    int     cols = (int)qt_min_i64(LANES, j->N - n);
    int32_t c[QT_IGEMM_ROWS * LANES] __attribute__((aligned(64)));
    R       sum[QT_IGEMM_ROWS * LANES];
    for (int64_t i = 0; i < j->cuts.n; i++) {
        qt_igemm_cut   cut = qt_igemm_cut_at(&j->cuts, i);
        const uint8_t *w = j->b + n * j->b_panel + cut.k;
        for (int g = 0; g < cols; g += QT_IGEMM_FEW, w += QT_IGEMM_FEW * j->b_panel) {
            if (j->x.zero) NAME(dots)(kind, j, cut.length, ones, w, cols - g, j->w_sum + i * j->w_pitch + n + g);
            for (int64_t m = 0; m < j->M; m++) NAME(dots)(kind, j, cut.length, j->a + m * j->a_row + cut.k, w, cols - g, c + m * LANES + g);
        }
        for (int k = 0; k < cols && j->x.zero && j->w.zero; k++)
            j->w_sum[i * j->w_pitch + n + k] -= (int32_t)cut.length * j->w.zero[cut.block * j->w.block + n + k];
        NAME(emit)(j, &(NAME(place)){i, cut.block, 0, n, (int)j->M, cols, LANES}, c, sum);
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
