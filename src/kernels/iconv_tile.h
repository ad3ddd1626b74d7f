/* The kernel of the integer convolution, for any vectors. The file that includes it (not only once: it has no guard) defines before
 *     NAME(f)            the name of f in this instance
 *     TARGET             attribute of the instruction set
 *     LANES, INT, REAL   words of a vector, a vector of sums, a vector of R
 *     WIDEST             vectors of the widest tile, 1 or 2
 *     zeros() load(p) spread(i) add(a, b) real(a) spread_real(r) scale(a, s, offset) positive(a) move(a, lanes) store(p, a)
 *     DOT(acc, x, w)     acc + the dot product of each word of x with that of w
 *     WIDEN(acc)         of what DOT summed, in 32 bits
 *     BLOCKS             whether that must be done every b->steps words
 * A tile is MR <= 6 output channels by NV <= 2 vectors of places, 12 sums that fill the registers. Sums stay in registers from the first word to the
 * last, are scaled there and go straight to y: the columns between rows, which are no outputs, are squeezed out of a vector by a permutation of its
 * lanes, and what stands behind its outputs is written over by the next vector. */

#define INLINE static inline __attribute__((always_inline)) TARGET

/* acc[r][v] = sum over k in [begin, end), which is not empty */
INLINE void NAME(sum)(const qt_iconv_job *b, const uint32_t *x, const uint32_t *w, int64_t begin, int64_t end, const int MR, const int NV,
                      INT acc[6][2])
{
    const int64_t *off = b->off;
    int64_t        pitch = b->w_pitch;
    for (int r = 0; r < MR; r++)
        for (int v = 0; v < NV; v++) acc[r][v] = zeros();
    do {
        const uint32_t *at = (const void *)((const char *)x + off[begin]);
        INT             xv[2];
        for (int v = 0; v < NV; v++) xv[v] = load(at + v * LANES);
        for (int r = 0; r < MR; r++) {
            INT wr = spread((int32_t)w[r * pitch + begin]);
            for (int v = 0; v < NV; v++) acc[r][v] = DOT(acc[r][v], xv[v], wr);
        }
    } while (++begin < end);
}

/* Outputs of one vector into y, of which only `left` remain. */
INLINE void NAME(put)(REAL a, R *y, int64_t left)
{
    R last[LANES];
    store(last, a);
    memcpy(y, last, (size_t)(left < LANES ? left : LANES) * sizeof *y);
}

INLINE void NAME(finish)(const qt_iconv_job *b, INT all[6][2], const qt_iconv_end *e, int64_t vector, R *y, const int MR, const int NV)
{
    INT     lanes[2];
    int64_t size = b->size, at[2];
    bool    relu = b->relu, whole;
    for (int v = 0; v < NV; v++) lanes[v] = load(b->lanes + (vector + v) * LANES), at[v] = b->at[vector + v];
    whole = at[NV - 1] + LANES <= size;
    for (int r = 0; r < MR; r++, y += size) {
        REAL s = spread_real(e[r].s), offset = spread_real(e[r].offset), a[2];
        INT  base = spread(e[r].base);
        for (int v = 0; v < NV; v++) {
            a[v] = scale(real(add(all[r][v], base)), s, offset);
            if (relu) a[v] = positive(a[v]);
            a[v] = move(a[v], lanes[v]);
        }
        for (int v = 0; v < NV; v++) {
            if (whole)
                store(y + at[v], a[v]);
            else
                NAME(put)(a[v], y + at[v], size - at[v]);
        }
    }
}

INLINE void NAME(tile)(const qt_iconv_job *b, const uint32_t *x, const uint32_t *w, const qt_iconv_end *e, int64_t vector, R *y, const int MR,
                       const int NV)
{
    int64_t K = b->K, steps = BLOCKS ? b->steps : K;
    INT     acc[6][2], all[6][2];
    x += vector * LANES;
    NAME(sum)(b, x, w, 0, steps, MR, NV, acc);
    for (int r = 0; r < MR; r++)
        for (int v = 0; v < NV; v++) all[r][v] = WIDEN(acc[r][v]);
    for (int64_t k = steps; BLOCKS && k < K; k += steps) {
        NAME(sum)(b, x, w, k, k + steps < K ? k + steps : K, MR, NV, acc);
        for (int r = 0; r < MR; r++)
            for (int v = 0; v < NV; v++) all[r][v] = add(all[r][v], WIDEN(acc[r][v]));
    }
    NAME(finish)(b, all, e, vector, y, MR, NV);
}

/* Channels [m, m + height), vectors [v, v + width) */
INLINE void NAME(any)(const qt_iconv_job *b, const uint32_t *x, const uint32_t *w, const qt_iconv_end *e, int64_t m, int64_t height, int64_t v,
                      int64_t width, R *y)
{
    w += m * b->w_pitch, e += m, y += m * b->size;
    switch (height) {
#define CASE(MR)                                                                                                                                     \
    case MR:                                                                                                                                         \
        if (WIDEST > 1 && width > 1)                                                                                                                 \
            NAME(tile)(b, x, w, e, v, y, MR, WIDEST);                                                                                                \
        else                                                                                                                                         \
            NAME(tile)(b, x, w, e, v, y, MR, 1);                                                                                                     \
        break
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
        CASE(5);
        CASE(6);
#undef CASE
    }
}

/* The smaller of strip and weights is in the inner loop, and in the first-level cache. Channels are cut into tiles of about the same height. */
TARGET static void NAME(run)(const qt_iconv_job *b, const uint32_t *x, const uint32_t *w, const qt_iconv_end *e, int64_t count, R *y)
{
    int64_t tiles = (count + 5) / 6;
    for (int64_t t = 0, v = 0; t < tiles && v < b->vectors;) {
        int64_t m = count * t / tiles, width = b->vectors - v < WIDEST ? 1 : WIDEST;
        NAME(any)(b, x, w, e, m, count * (t + 1) / tiles - m, v, width, y);
        if (b->small)
            v += width;
        else
            t++;
        if (b->small && v == b->vectors) t++, v = 0;
        if (!b->small && t == tiles) v += width, t = 0;
    }
}
#undef INLINE
