/* The kernel of the integer convolution, for any vectors. The file that includes it (not only once: it has no guard) defines before
 *     NAME(f)            the name of f in this instance
 *     TARGET             attribute of the instruction set
 *     LANES, INT, REAL   words of a vector, a vector of sums, a vector of R
 *     WIDEST             vectors of the widest tile, 1 or 3
 *     zeros() load(p) spread(i) add(a, b) real(a) spread_real(r) finish(a, s, offset, relu) move(v, lanes) store(p, v)
 *     DOT(acc, x, w)     acc + the dot product of each word of x with that of w
 *     WIDEN(acc)         of what DOT summed, in 32 bits
 * A tile is MR output channels by NV vectors of places. Sums stay in registers from the first word to the last, are scaled there and go
 * straight to y: the columns between rows, which are no outputs, are squeezed out of a vector by a permutation of its lanes, and what
 * stands behind its outputs is written over by the next vector. */

#define INLINE static inline __attribute__((always_inline)) TARGET

/* acc[r][v] = sum over k in [begin, end) */
INLINE void NAME(sum)(const qt_iconv_job *b, const uint32_t *x, const uint32_t *w, int64_t begin, int64_t end, const int MR, const int NV,
                      INT acc[4][3])
{
    for (int r = 0; r < MR; r++)
        for (int v = 0; v < NV; v++) acc[r][v] = zeros();
    for (int64_t k = begin; k < end; k++) {
        const uint32_t *at = x + b->off[k];
        INT             xv[3];
        for (int v = 0; v < NV; v++) xv[v] = load(at + v * LANES);
        for (int r = 0; r < MR; r++) {
            INT wr = spread((int32_t)w[r * b->w_pitch + k]);
            for (int v = 0; v < NV; v++) acc[r][v] = DOT(acc[r][v], xv[v], wr);
        }
    }
}

/* One vector of outputs to y + at; at the end of the channel only those that it has. */
INLINE void NAME(put)(const qt_iconv_job *b, REAL a, int64_t vector, R *y)
{
    int64_t at = b->at[vector];
    a = move(a, b->lanes + vector * LANES);
    if (at + LANES <= b->size)
        store(y + at, a);
    else {
        R last[LANES];
        store(last, a);
        memcpy(y + at, last, (size_t)(b->size - at) * sizeof *y);
    }
}

INLINE void NAME(tile)(const qt_iconv_job *b, const uint32_t *x, const uint32_t *w, const qt_iconv_end *e, int64_t vector, R *y, const int MR,
                       const int NV)
{
    int64_t step = b->steps < b->K ? b->steps : b->K;
    INT     acc[4][3], all[4][3];
    x += vector * LANES;
    NAME(sum)(b, x, w, 0, step, MR, NV, acc);
    for (int r = 0; r < MR; r++)
        for (int v = 0; v < NV; v++) all[r][v] = add(WIDEN(acc[r][v]), spread(e[r].base));
    for (int64_t k = step; k < b->K; k += step) {
        NAME(sum)(b, x, w, k, k + step < b->K ? k + step : b->K, MR, NV, acc);
        for (int r = 0; r < MR; r++)
            for (int v = 0; v < NV; v++) all[r][v] = add(all[r][v], WIDEN(acc[r][v]));
    }
    for (int r = 0; r < MR; r++) {
        REAL s = spread_real(e[r].s), offset = spread_real(e[r].offset);
        for (int v = 0; v < NV; v++) NAME(put)(b, finish(real(all[r][v]), s, offset, b->relu), vector + v, y + r * b->size);
    }
}

/* Vectors of the next tile: 3, but 4 are 2 + 2, for a tile of one loads more than it multiplies. */
INLINE int64_t NAME(width)(int64_t left) { return WIDEST == 1 || left == 1 ? 1 : left == 4 || left == 2 ? 2 : 3; }

/* Channels [m, m + MR), vectors [v, v + width) */
INLINE void NAME(any)(const qt_iconv_job *b, const uint32_t *x, const uint32_t *w, const qt_iconv_end *e, int64_t m, int64_t v, int64_t width, R *y,
                      const int MR)
{
    w += m * b->w_pitch, e += m, y += m * b->size;
    if (WIDEST >= 3 && width == 3)
        NAME(tile)(b, x, w, e, v, y, MR, 3);
    else if (WIDEST >= 2 && width == 2)
        NAME(tile)(b, x, w, e, v, y, MR, 2);
    else
        NAME(tile)(b, x, w, e, v, y, MR, 1);
}

INLINE void NAME(channels)(const qt_iconv_job *b, const uint32_t *x, const uint32_t *w, const qt_iconv_end *e, int64_t m, int64_t v, int64_t width,
                           int64_t count, R *y)
{
    if (m + 4 <= count)
        NAME(any)(b, x, w, e, m, v, width, y, 4);
    else
        for (; m < count; m++) NAME(any)(b, x, w, e, m, v, width, y, 1);
}

/* The smaller of strip and weights is in the inner loop, and in the first-level cache. */
TARGET static void NAME(run)(const qt_iconv_job *b, const uint32_t *x, const uint32_t *w, const qt_iconv_end *e, int64_t count, R *y)
{
    for (int64_t m = 0, v = 0; m < count && v < b->vectors;) {
        int64_t width = NAME(width)(b->vectors - v);
        NAME(channels)(b, x, w, e, m, v, width, count, y);
        if (b->small)
            v += width;
        else
            m += 4;
        if (b->small && v == b->vectors) m += 4, v = 0;
        if (!b->small && m >= count) v += width, m = 0;
    }
}
#undef INLINE
