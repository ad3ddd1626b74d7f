/* 3x3 convolution of stride 1 with less than half of the multiplications, for AVX2 and FMA, in float: Winograd's F(2x2, 3x3).
 *
 * A tile of 2x2 results depends on 4x4 numbers d of each input channel and on the 3x3 kernel g:
 *     y = A^T [ sum over channels of (G g G^T) . (B^T d B) ] A         . is element by element: 16 products instead of 36
 *
 *     B^T = 1  0 -1  0     G = 1    0    0      A^T = 1 1  1  0
 *           0  1  1  0         1/2  1/2  1/2          0 1 -1 -1
 *           0 -1  1  0         1/2 -1/2  1/2
 *           0  1  0 -1         0    0    1
 *
 * The sum over channels, for each of the 16 places of a tile, is a matrix product [O,C] x [C,tiles]. dx is the same with dy for x, the
 * kernel turned by 180 degrees and 2 - padding zeros around; dw is conv_avx2's. Halves are exact in binary, and so are the results
 * where the inputs are small integers; otherwise the error is a few times that of the plain sum.
 *
 * Steps: a channel is split by the parity of rows and by the column's place in a tile, so that what eight tiles in a row of all tiles need
 * is sixteen plain loads. Then, for 24 tiles at a time, the transform of all channels; and for each four output channels the 16 products
 * and the transform of their results, which stay in the first-level cache.
 * NaN and infinity reach all four results of a tile that sees them.
 * Lavin, Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, section 4. Left out: F(4x4, 3x3), which saves more and
 * loses two digits. */
#include "kernels/conv_avx2.h"

#ifdef AVX2

enum { MR = 4, NR = 24, PLACES = 16, SPLITS = 8, LEAST = 12, SLACK = 32 };

/* A pass: the image it reads [C,H,W], the one it gives [O,OH,OW], and the tiles. */
typedef struct pass {
    int64_t C, H, W, O, OH, OW, padding;
    int64_t TH, TW, plane; /* tiles; numbers in one of the 8 splits of a channel */
} pass;

static pass pass_of(const qt_conv *c, bool dx)
{
    pass p = {c->C, c->H, c->W, c->O, c->OH, c->OW, c->padding};
    if (dx) p = (pass){c->O, c->OH, c->OW, c->C, c->H, c->W, 2 - c->padding};
    p.TH = (p.OH + 1) / 2, p.TW = (p.OW + 1) / 2, p.plane = (p.TH + 1) * p.TW;
    return p;
}

static int64_t split_size(const pass *p) { return up(p->C * SPLITS * p->plane + SLACK, 16); }
static int64_t scratch_size(const pass *p) { return split_size(p) + PLACES * p->C * NR; }

static bool suits(const qt_conv *c)
{
    return qt_conv_avx2.suits(c) && c->KH == 3 && c->KW == 3 && c->stride == 1 && c->dilation == 1 && c->groups == 1 && c->padding <= 2 &&
           c->C >= LEAST && c->O >= LEAST && qt_min_i64(c->H, c->W) + 2 * c->padding >= 6;
}

static void plan(qt_conv *c)
{
    pass y = pass_of(c, false), dx = pass_of(c, true);
    qt_conv_avx2.plan(c);
    c->packed = qt_max_i64(c->packed, PLACES * qt_max_i64(y.C * up(y.O, MR), dx.C * up(dx.O, MR)));
    c->scratch = qt_max_i64(c->scratch, qt_max_i64(scratch_size(&y), scratch_size(&dx)));
}

/* ---- kernels ---- */

/* u = G g G^T */
static void transform_kernel(const R g[9], R u[PLACES])
{
    R h[4][3];
    for (int j = 0; j < 3; j++) {
        R even = (g[j] + g[6 + j]) / 2, odd = g[3 + j] / 2;
        h[0][j] = g[j], h[1][j] = even + odd, h[2][j] = even - odd, h[3][j] = g[6 + j];
    }
    for (int i = 0; i < 4; i++) {
        R even = (h[i][0] + h[i][2]) / 2, odd = h[i][1] / 2;
        u[4 * i] = h[i][0], u[4 * i + 1] = even + odd, u[4 * i + 2] = even - odd, u[4 * i + 3] = h[i][2];
    }
}

/* All kernels, packed as [O/MR][place][C][MR]. */
static void prepare(const qt_conv *c, int which, const R *w, R *packed)
{
    bool dx = which == QT_CONV_DX;
    pass p = pass_of(c, dx);
    if (which == QT_CONV_DW) {
        qt_conv_avx2.prepare(c, which, w, packed);
        return;
    }
    for (int64_t o = 0; o < up(p.O, MR); o++)
        for (int64_t i = 0; i < p.C; i++) {
            R g[9] = {0}, u[PLACES];
            for (int k = 0; k < 9 && o < p.O; k++) g[k] = dx ? w[(i * p.O + o) * 9 + 8 - k] : w[(o * p.C + i) * 9 + k];
            transform_kernel(g, u);
            for (int k = 0; k < PLACES; k++) packed[((o / MR * PLACES + k) * p.C + i) * MR + o % MR] = u[k];
        }
}

/* ---- images ---- */

/* A channel x [H,W] as [parity of row][column j of a tile][TH+1][TW]: in tile q, row i and column j of d are at (i%2, j), q + i/2 TW.
 * Split j takes the columns j, j+2, j+4, ... of the padded image: a zero on the left, if there is padding, then n from the image, then
 * zeros. end: behind the last number of the image. What a writer writes too much is written over by the next, or falls into SLACK. */
AVX2 static void split(const pass *p, const float *x, const float *end, float *d)
{
    for (int64_t k = 0; k < SPLITS; k++) {
        const int64_t column = k % 4 - p->padding, at = column < 0, from = column + 2 * at, n = qt_min_i64(p->TW - at, (p->W - from + 1) / 2);
        for (int64_t h = k / 4 - p->padding, r = 0; r <= p->TH; r++, h += 2, d += p->TW) {
            const float *row = x + h * p->W + from;
            if (h < 0 || h >= p->H) {
                zero(d, p->TW);
                continue;
            }
            d[0] = 0;
            copy_even(d + at, row, n, end - row);
            if (at + n < p->TW) zero(d + at + n, p->TW - at - n);
        }
    }
}

/* B^T d B of eight tiles; x: their first numbers in the first split; v: places `step` apart */
INLINE void transform_eight(const float *x, int64_t plane, int64_t TW, float *v, int64_t step)
{
    __m256 w[4][4];
    for (int j = 0; j < 4; j++, x += plane) {
        const float *odd = x + 4 * plane;
        __m256       d0 = _mm256_loadu_ps(x), d1 = _mm256_loadu_ps(odd), d2 = _mm256_loadu_ps(x + TW), d3 = _mm256_loadu_ps(odd + TW);
        w[0][j] = _mm256_sub_ps(d0, d2), w[1][j] = _mm256_add_ps(d1, d2), w[2][j] = _mm256_sub_ps(d2, d1), w[3][j] = _mm256_sub_ps(d1, d3);
    }
    for (int i = 0; i < 4; i++, v += 4 * step) {
        _mm256_storeu_ps(v, _mm256_sub_ps(w[i][0], w[i][2]));
        _mm256_storeu_ps(v + step, _mm256_add_ps(w[i][1], w[i][2]));
        _mm256_storeu_ps(v + 2 * step, _mm256_sub_ps(w[i][2], w[i][1]));
        _mm256_storeu_ps(v + 3 * step, _mm256_sub_ps(w[i][1], w[i][3]));
    }
}

/* One place: MR channels by 8*NV tiles, out = u v */
INLINE void tile(int64_t C, const float *u, const float *v, const int NV, float *out)
{
    __m256 acc[MR][3];
    for (int r = 0; r < MR; r++)
        for (int n = 0; n < NV; n++) acc[r][n] = _mm256_setzero_ps();
    for (int64_t c = 0; c < C; c++, u += MR, v += NR) {
        __m256 x[3];
        for (int n = 0; n < NV; n++) x[n] = _mm256_loadu_ps(v + 8 * n);
        for (int r = 0; r < MR; r++) {
            __m256 ur = _mm256_broadcast_ss(u + r);
            for (int n = 0; n < NV; n++) acc[r][n] = _mm256_fmadd_ps(ur, x[n], acc[r][n]);
        }
    }
    for (int r = 0; r < MR; r++)
        for (int n = 0; n < NV; n++) _mm256_storeu_ps(out + r * NR + 8 * n, acc[r][n]);
}

/* a[0], b[0], a[1], b[1], ... */
INLINE void store_interleaved(float *y, __m256 a, __m256 b)
{
    __m256 lo = _mm256_unpacklo_ps(a, b), hi = _mm256_unpackhi_ps(a, b);
    _mm256_storeu_ps(y, _mm256_permute2f128_ps(lo, hi, 0x20));
    _mm256_storeu_ps(y + 8, _mm256_permute2f128_ps(lo, hi, 0x31));
}

/* A^T m A + b of eight tiles: sixteen numbers of two rows */
INLINE void result_eight(const float *m, int64_t step, __m256 b, float *y0, float *y1)
{
    __m256 s[2][4];
    for (int j = 0; j < 4; j++, m += step) {
        __m256 m0 = _mm256_loadu_ps(m), m1 = _mm256_loadu_ps(m + 4 * step), m2 = _mm256_loadu_ps(m + 8 * step), m3 = _mm256_loadu_ps(m + 12 * step);
        s[0][j] = _mm256_add_ps(_mm256_add_ps(m0, m1), m2), s[1][j] = _mm256_sub_ps(_mm256_sub_ps(m1, m2), m3);
    }
    for (int a = 0; a < 2; a++) {
        __m256 even = _mm256_add_ps(_mm256_add_ps(s[a][0], s[a][1]), s[a][2]), odd = _mm256_sub_ps(_mm256_sub_ps(s[a][1], s[a][2]), s[a][3]);
        store_interleaved(a ? y1 : y0, _mm256_add_ps(even, b), _mm256_add_ps(odd, b));
    }
}

/* `tiles` tiles from tile q on, as two rows of numbers, into y [OH,OW]. */
INLINE void put(const pass *p, int64_t q, int64_t tiles, const float *row0, const float *row1, float *y, const bool write)
{
    for (int64_t i = 0, n; i < tiles; i += n) {
        const int64_t h = (q + i) / p->TW * 2, t = (q + i) % p->TW, width = qt_min_i64(2 * (n = qt_min_i64(tiles - i, p->TW - t)), p->OW - 2 * t);
        add(y + h * p->OW + 2 * t, row0 + 2 * i, width, write);
        if (h + 1 < p->OH) add(y + (h + 1) * p->OW + 2 * t, row1 + 2 * i, width, write);
    }
}

/* 8*NV tiles from tile q on, of all channels; u: kernels, v: room for their transform */
INLINE void tiles_of(const pass *p, const float *from, const R *u, const R *b, float *v, float *y, int64_t q, const int NV, const bool write)
{
    const int64_t tiles = qt_min_i64(8 * NV, p->TH * p->TW - q);
    float         m[PLACES * MR * NR], row[2][2 * NR];
    for (int64_t c = 0; c < p->C; c++)
        for (int n = 0; n < NV; n++) transform_eight(from + c * SPLITS * p->plane + q + 8 * n, p->plane, p->TW, v + c * NR + 8 * n, p->C * NR);
    for (int64_t o = 0; o < p->O; o += MR) {
        for (int64_t k = 0; k < PLACES; k++, u += p->C * MR) tile(p->C, u, v + k * p->C * NR, NV, m + k * MR * NR);
        for (int64_t r = 0; r < qt_min_i64(MR, p->O - o); r++) {
            const __m256 bias = _mm256_set1_ps(b ? b[o + r] : 0);
            for (int n = 0; n < NV; n++) result_eight(m + r * NR + 8 * n, MR * NR, bias, row[0] + 16 * n, row[1] + 16 * n);
            put(p, q, tiles, row[0], row[1], y + (o + r) * p->OH * p->OW, write);
        }
    }
}

/* 32 tiles left are 16 + 16, for 8 cannot keep the FMA units busy. */
INLINE void run(const pass *p, const R *x, const R *u, const R *b, R *scratch, R *y, const bool write)
{
    const int64_t tiles = p->TH * p->TW;
    float        *v = scratch + split_size(p);
    for (int64_t c = 0; c < p->C; c++) split(p, x + c * p->H * p->W, x + p->C * p->H * p->W, scratch + c * SPLITS * p->plane);
    for (int64_t q = 0, left; (left = tiles - q) > 0;) {
        if (left > 32 || (left > 16 && left <= 24)) tiles_of(p, scratch, u, b, v, y, q, 3, write), q += 24;
        else if (left > 8) tiles_of(p, scratch, u, b, v, y, q, 2, write), q += 16;
        else tiles_of(p, scratch, u, b, v, y, q, 1, write), q += 8;
    }
}

AVX2 static void forward(const qt_conv *c, const R *x, const R *w, const R *b, const R *packed, R *scratch, R *y)
{
    const pass p = pass_of(c, false);
    (void)w;
    run(&p, x, packed, b, scratch, y, true);
}

AVX2 static void dx(const qt_conv *c, const R *dy, const R *w, const R *packed, R *scratch, R *out, bool first)
{
    const pass p = pass_of(c, true);
    (void)w;
    if (first) run(&p, dy, packed, NULL, scratch, out, true);
    else run(&p, dy, packed, NULL, scratch, out, false);
}

static void dw(const qt_conv *c, const R *x, const R *dy, const R *packed, R *scratch, R *partial)
{
    qt_conv_avx2.dw(c, x, dy, packed, scratch, partial);
}

static void unpack_dw(const qt_conv *c, const R *partial, R *out) { qt_conv_avx2.unpack_dw(c, partial, out); }

const qt_conv_path qt_conv_winograd = {"winograd", suits, plan, prepare, forward, dx, dw, unpack_dw};

#else

static bool suits(const qt_conv *c)
{
    (void)c;
    return false;
}

const qt_conv_path qt_conv_winograd = {.name = "winograd", .suits = suits};
#endif
