/* Direct convolution for AVX2 and FMA, in float: a matrix product whose columns are never built.
 *
 * An image is packed into a strip: each channel a plane with its zero padding, rows `pitch` apart, so that one tap of the kernel at all
 * output places is a single contiguous run, out[m][q] += w[m][k] src[off[k] + q] with q = row * pitch + column. The few columns between
 * rows come out as garbage and are dropped at the end; right padding of a row and left padding of the next are the same zeros.
 *     forward  a stride s cuts the padded image into s*s phases, (h, v) -> phase (h % s, v % s) at (h / s, v / s); tap i then lies in phase
 *              i*dilation % s at shift i*dilation / s, and all runs are contiguous again.
 *     dx       h + padding = s h' + phase. A phase of dx is a convolution of dy by the taps with i*dilation % s == phase, at rows
 *              h' - i*dilation / s: s*s jobs over one strip of dy.
 *     dw       an outer product for each place q: dw[k][o] += src[off[k] + q] dyt[q][o], with dy transposed to [place][channel].
 * Tiles are 4 channels x 24 places, or 6 taps x 16 channels: 12 accumulators of 8 lanes, which hide the latency of two FMA units. */
#include "kernels/conv_avx2.h"
#include <string.h>

#ifdef AVX2

enum { MR = 4, NR = 24, TAPS = 6, LANES = 16, MAX_STRIDE = 4, PLACES = 256, SLACK = 32 };

/* ---- strips ---- */

typedef struct strip {
    int64_t C, H, W;      /* the image packed */
    int64_t step;         /* phases along each axis */
    int64_t top, left;    /* image row and column of strip row 0, column 0 in phase 0: negative in padding */
    int64_t rows, cols;   /* of a plane */
    int64_t pitch, plane; /* from row to row, from phase to phase */
} strip;

static strip strip_plan(strip s, int64_t out_cols)
{
    int64_t shared = s.cols - out_cols; /* zeros that end every row and begin the next */
    for (int64_t j = 0; j < s.step; j++) {
        int64_t begin, end;
        qt_conv_range(s.left + j, s.step, s.W, s.cols, &begin, &end);
        shared = qt_min_i64(shared, qt_min_i64(begin, s.cols - end));
    }
    s.pitch = s.cols - shared;
    s.plane = (s.rows - 1) * s.pitch + s.cols;
    return s;
}

static int64_t strip_size(const strip *s) { return s->C * s->step * s->step * s->plane + SLACK; }

/* One phase (i, j) of one channel x [H,W]; end: behind the last number of the image. */
AVX2 static void pack_plane(const strip *s, int64_t i, int64_t j, const float *x, const float *end, float *d)
{
    int64_t first, last, begin, stop;
    qt_conv_range(s->top + i, s->step, s->H, s->rows, &first, &last);
    qt_conv_range(s->left + j, s->step, s->W, s->cols, &begin, &stop);
    zero(d, first * s->pitch);
    if (s->step == 1 && s->pitch == s->W && stop - begin == s->W) { /* no padding at the sides: all rows at once */
        const float *from = x + (s->top + first) * s->W;
        copy(d + first * s->pitch, from, (last - first) * s->W, end - from);
        first = last;
    }
    for (int64_t r = first; r < last; r++) {
        const float *from = x + (s->top + i + r * s->step) * s->W + s->left + j + begin * s->step;
        float       *to = d + r * s->pitch;
        zero(to, begin);
        if (s->step == 1) copy(to + begin, from, stop - begin, end - from);
        else if (s->step == 2) copy_even(to + begin, from, stop - begin, end - from);
        else
            for (int64_t v = 0; v < stop - begin; v++) to[begin + v] = from[v * s->step];
        zero(to + stop, s->cols - stop);
    }
    zero(d + last * s->pitch, s->plane - last * s->pitch);
}

/* ---- what a pass works from ---- */

/* out[m][q] = sum over k < K of w[m][k] src[off[k] + q] at places q = row * pitch + column */
typedef struct job {
    int64_t        K, places;
    int64_t        h, v; /* dx: the image row and column of place 0; the next are a stride further */
    const int32_t *off;
    const float   *w; /* [groups][M/MR][K][MR] */
} job;

typedef struct prep {
    strip    src;
    int64_t  M, places;         /* a result: M channels of one group, at most so many places */
    int64_t  first_h, first_v;  /* dx: h' of the first row of any phase */
    uint32_t used;              /* phases of src that a tap reads */
    job      job[MAX_STRIDE * MAX_STRIDE];
} prep;

typedef struct tap {
    int64_t phase_h, phase_v, shift_h, shift_v;
} tap;

static tap tap_of(const qt_conv *c, int64_t i, int64_t j)
{
    int64_t s = c->stride;
    return (tap){i * c->dilation % s, j * c->dilation % s, i * c->dilation / s, j * c->dilation / s};
}

static int64_t taps(const qt_conv *c) { return c->C / c->groups * c->KH * c->KW; }

static void plan_forward(const qt_conv *c, prep *p)
{
    tap last = tap_of(c, c->KH - 1, c->KW - 1);
    p->src = strip_plan((strip){c->C, c->H, c->W, c->stride, -c->padding, -c->padding, c->OH + last.shift_h, c->OW + last.shift_v}, c->OW);
    p->M = c->O / c->groups;
    p->places = (c->OH - 1) * p->src.pitch + c->OW;
    p->used = 0;
    for (int64_t k = 0; k < c->KH * c->KW; k++) {
        tap t = tap_of(c, k / c->KW, k % c->KW);
        p->used |= 1u << (t.phase_h * c->stride + t.phase_v);
    }
}

/* Rows h' of a phase: those with 0 <= h = h' stride + phase - padding < H. */
static int64_t first_of(const qt_conv *c, int64_t phase) { return qt_max_i64(0, c->padding - phase + c->stride - 1) / c->stride; }
static int64_t count_of(const qt_conv *c, int64_t phase, int64_t size)
{
    int64_t h = first_of(c, phase) * c->stride + phase - c->padding;
    return h < size ? (size - 1 - h) / c->stride + 1 : 0;
}

static void plan_dx(const qt_conv *c, prep *p)
{
    tap     last = tap_of(c, c->KH - 1, c->KW - 1);
    int64_t s = c->stride, rows, cols;
    p->first_h = p->first_v = c->padding / s;
    rows = (c->H - 1 + c->padding) / s - p->first_h + 1, cols = (c->W - 1 + c->padding) / s - p->first_v + 1;
    p->src = (strip){c->O, c->OH, c->OW, 1, p->first_h - last.shift_h, p->first_v - last.shift_v, rows + last.shift_h, cols + last.shift_v};
    p->src = strip_plan(p->src, (c->W + s - 1) / s);
    p->M = c->C / c->groups;
    p->places = ((c->H + s - 1) / s - 1) * p->src.pitch + (c->W + s - 1) / s;
    p->used = 1;
}

/* Offsets of all taps, in the order (channel, i, j) of a row of w. */
static void offsets_forward(const qt_conv *c, const prep *p, int32_t *off)
{
    for (int64_t k = 0; k < taps(c); k++) {
        tap     t = tap_of(c, k / c->KW % c->KH, k % c->KW);
        int64_t phase = (k / (c->KH * c->KW) * c->stride + t.phase_h) * c->stride + t.phase_v;
        off[k] = (int32_t)(phase * p->src.plane + t.shift_h * p->src.pitch + t.shift_v);
    }
}

static void prepare_forward(const qt_conv *c, const R *w, prep *p)
{
    int32_t *off = (int32_t *)(p + 1);
    int64_t  K = taps(c), M = p->M;
    float   *packed = (float *)(off + up(K, TAPS));
    offsets_forward(c, p, off);
    p->job[0] = (job){K, p->places, 0, 0, off, packed};
    for (int64_t g = 0; g < c->groups; g++)
        for (int64_t m = 0; m < M; m += MR)
            for (int64_t k = 0; k < K; k++)
                for (int64_t r = m; r < m + MR; r++) *packed++ = r < M ? w[(g * M + r) * K + k] : 0;
}

/* The taps i*KW + j of the kernel that lie in a phase; returns how many. */
static int64_t taps_in_phase(const qt_conv *c, int64_t phase, int32_t *list)
{
    int64_t n = 0;
    for (int64_t k = 0; k < c->KH * c->KW; k++) {
        tap t = tap_of(c, k / c->KW, k % c->KW);
        if (t.phase_h * c->stride + t.phase_v == phase) list[n++] = (int32_t)k;
    }
    return n;
}

/* Weights of a dx job, transposed to channels of x: [groups][M/MR][o, tap][MR]. */
static void pack_phase(const qt_conv *c, const R *w, int64_t M, const int32_t *list, int64_t n, float *packed)
{
    int64_t Og = c->O / c->groups, all = c->KH * c->KW;
    for (int64_t g = 0; g < c->groups; g++, w += Og * M * all)
        for (int64_t m = 0; m < M; m += MR)
            for (int64_t o = 0; o < Og; o++)
                for (int64_t k = 0; k < n; k++)
                    for (int64_t r = m; r < m + MR; r++) *packed++ = r < M ? w[(o * M + r) * all + list[k]] : 0;
}

/* The job of one phase of dx. */
static job prepare_phase(const qt_conv *c, const R *w, const prep *p, int64_t phase, int32_t *list, int32_t *off, float *packed)
{
    int64_t Og = c->O / c->groups, i = phase / c->stride, j = phase % c->stride, n = taps_in_phase(c, phase, list);
    int64_t h = first_of(c, i), v = first_of(c, j), rows = count_of(c, i, c->H), cols = count_of(c, j, c->W);
    job     b = {0, (rows - 1) * p->src.pitch + cols, h * c->stride + i - c->padding, v * c->stride + j - c->padding, off, packed};
    tap     last = tap_of(c, c->KH - 1, c->KW - 1);
    if (rows < 1 || cols < 1) return b;
    for (int64_t o = 0; o < Og; o++)
        for (int64_t k = 0; k < n; k++) {
            tap     t = tap_of(c, list[k] / c->KW, list[k] % c->KW);
            int64_t row = h - p->first_h + last.shift_h - t.shift_h, col = v - p->first_v + last.shift_v - t.shift_v;
            off[b.K++] = (int32_t)(o * p->src.plane + row * p->src.pitch + col);
        }
    pack_phase(c, w, p->M, list, n, packed);
    return b;
}

static void prepare_dx(const qt_conv *c, const R *w, prep *p)
{
    int32_t *list = (int32_t *)(p + 1), *off = list + c->KH * c->KW;
    float   *packed = (float *)(off + c->O / c->groups * c->KH * c->KW);
    for (int64_t phase = 0; phase < c->stride * c->stride; phase++) {
        p->job[phase] = prepare_phase(c, w, p, phase, list, off, packed);
        off += p->job[phase].K, packed += c->groups * up(p->M, MR) * p->job[phase].K;
    }
}

static void prepare_dw(const qt_conv *c, prep *p)
{
    int32_t *off = (int32_t *)(p + 1);
    offsets_forward(c, p, off);
    for (int64_t k = taps(c); k % TAPS; k++) off[k] = off[k - 1]; /* fills the last tile; its result is not looked at */
    p->job[0].off = off;
}

static void prepare(const qt_conv *c, int pass, const R *w, R *packed)
{
    prep *p = (prep *)(void *)packed;
    if (pass == QT_CONV_DX) plan_dx(c, p);
    else plan_forward(c, p);
    if (pass == QT_CONV_FORWARD) prepare_forward(c, w, p);
    if (pass == QT_CONV_DX) prepare_dx(c, w, p);
    if (pass == QT_CONV_DW) prepare_dw(c, p);
}

static bool suits(const qt_conv *c)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && c->stride <= MAX_STRIDE &&
           qt_max_i64(c->C, c->O) * (c->H + 2 * c->padding) * (c->W + 2 * c->padding) < INT32_MAX / 2;
}

static int64_t result_size(const prep *p) { return up(p->M, MR) * up(p->places, 8); }

static void plan(qt_conv *c)
{
    int64_t Cg = c->C / c->groups, Og = c->O / c->groups, all = c->KH * c->KW, head = (int64_t)sizeof(prep) / (int64_t)sizeof(R);
    prep    y, dx;
    plan_forward(c, &y), plan_dx(c, &dx);
    c->packed = head + qt_max_i64(up(Cg * all, TAPS) + c->groups * up(Og, MR) * Cg * all, all + Og * all * (1 + c->groups * up(Cg, MR)));
    c->scratch = up(strip_size(&y.src), LANES) + qt_max_i64(result_size(&y), LANES * c->OH * c->OW);
    c->scratch = qt_max_i64(c->scratch, up(strip_size(&dx.src), LANES) + c->stride * c->stride * result_size(&dx));
    c->partial = c->groups * up(Og, LANES) * up(Cg * all, TAPS);
}

static void pack(const strip *s, uint32_t used, const float *x, float *to)
{
    int64_t      phases = s->step * s->step;
    const float *end = x + s->C * s->H * s->W;
    for (int64_t k = 0; k < s->C * phases; k++)
        if (used >> k % phases & 1) pack_plane(s, k % phases / s->step, k % s->step, x + k / phases * s->H * s->W, end, to + k * s->plane);
}

/* ---- forward and dx ---- */

/* MR channels by 8*NV places */
INLINE void tile(int64_t K, const int32_t *off, const float *src, const float *w, const int NV, float *out, int64_t pitch)
{
    __m256 acc[MR][3];
    for (int r = 0; r < MR; r++)
        for (int v = 0; v < NV; v++) acc[r][v] = _mm256_setzero_ps();
    for (int64_t k = 0; k < K; k++, w += MR) {
        const float *x = src + off[k];
        __m256       xv[3];
        for (int v = 0; v < NV; v++) xv[v] = _mm256_loadu_ps(x + 8 * v);
        for (int r = 0; r < MR; r++) {
            __m256 wr = _mm256_broadcast_ss(w + r);
            for (int v = 0; v < NV; v++) acc[r][v] = _mm256_fmadd_ps(wr, xv[v], acc[r][v]);
        }
    }
    for (int r = 0; r < MR; r++)
        for (int v = 0; v < NV; v++) _mm256_storeu_ps(out + r * pitch + 8 * v, acc[r][v]);
}

/* All M channels and places; 32 places left are 16 + 16, for a tile of 8 cannot keep the FMA units busy. */
AVX2 static void run(const prep *p, const job *b, int64_t group, const float *src, float *out)
{
    int64_t      M = up(p->M, MR), pitch = up(p->places, 8), width;
    const float *w = b->w + group * M * b->K;
    for (int64_t q = 0; q < b->places; q += width) {
        int64_t left = up(b->places - q, 8);
        width = left == 32 || left == 16 ? 16 : left == 8 ? 8 : NR;
        for (int64_t m = 0; m < M; m += MR) {
            if (width == NR) tile(b->K, b->off, src + q, w + m * b->K, 3, out + m * pitch + q, pitch);
            else if (width == 16) tile(b->K, b->off, src + q, w + m * b->K, 2, out + m * pitch + q, pitch);
            else tile(b->K, b->off, src + q, w + m * b->K, 1, out + m * pitch + q, pitch);
        }
    }
}

/* y = x + b; overlapping ends are written twice */
INLINE void add_bias(float *y, const float *x, float b, int64_t n)
{
    __m256  b8 = _mm256_set1_ps(b);
    __m128  b4 = _mm_set1_ps(b);
    int64_t i = 0;
    if (n >= 8) {
        for (; i + 8 <= n; i += 8) _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(x + i), b8));
        _mm256_storeu_ps(y + n - 8, _mm256_add_ps(_mm256_loadu_ps(x + n - 8), b8));
    } else if (n >= 4) {
        _mm_storeu_ps(y, _mm_add_ps(_mm_loadu_ps(x), b4));
        _mm_storeu_ps(y + n - 4, _mm_add_ps(_mm_loadu_ps(x + n - 4), b4));
    } else
        for (; i < n; i++) y[i] = x[i] + b;
}

AVX2 static void forward(const qt_conv *c, const R *x, const R *w, const R *b, const R *packed, R *scratch, R *y)
{
    const prep *p = (const prep *)(const void *)packed;
    int64_t     group = c->C / c->groups * c->stride * c->stride * p->src.plane;
    float      *out = scratch + up(strip_size(&p->src), LANES);
    (void)w;
    pack(&p->src, p->used, x, scratch);
    for (int64_t g = 0; g < c->groups; g++) {
        run(p, p->job, g, scratch + g * group, out);
        for (int64_t o = 0; o < p->M; o++)
            for (int64_t r = 0; r < c->OH; r++, y += c->OW)
                add_bias(y, out + o * up(p->places, 8) + r * p->src.pitch, b ? b[g * p->M + o] : 0, c->OW);
    }
}

/* y[2i] += a[i], y[2i+1] += b[i], or =, for the n numbers of y */
INLINE void add_interleaved(float *y, const float *a, const float *b, int64_t n, const bool first)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128 a4 = _mm_loadu_ps(a + i / 2), b4 = _mm_loadu_ps(b + i / 2), lo = _mm_unpacklo_ps(a4, b4), hi = _mm_unpackhi_ps(a4, b4);
        _mm_storeu_ps(y + i, first ? lo : _mm_add_ps(_mm_loadu_ps(y + i), lo));
        _mm_storeu_ps(y + i + 4, first ? hi : _mm_add_ps(_mm_loadu_ps(y + i + 4), hi));
    }
    for (; i < n; i++) y[i] = (first ? 0 : y[i]) + (i % 2 ? b[i / 2] : a[i / 2]);
}

/* y[2i] += a[i], for the n numbers of y */
INLINE void add_even(float *y, const float *a, int64_t n)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128 a4 = _mm_loadu_ps(a + i / 2), none = _mm_setzero_ps();
        _mm_storeu_ps(y + i, _mm_add_ps(_mm_loadu_ps(y + i), _mm_unpacklo_ps(a4, none)));
        _mm_storeu_ps(y + i + 4, _mm_add_ps(_mm_loadu_ps(y + i + 4), _mm_unpackhi_ps(a4, none)));
    }
    for (; i < n; i += 2) y[i] += a[i / 2];
}

/* A row of dx from its row in the results of the phases b[0..stride), `size` numbers apart. */
INLINE void add_row(const qt_conv *c, const job *b, const float *from, int64_t size, float *row, const bool first)
{
    int64_t s = c->stride;
    if (s == 1) {
        add(row, from, c->W, first);
    } else if (s == 2 && b[0].K && b[1].K) {
        add_interleaved(row, from + (b[0].v ? size : 0), from + (b[0].v ? 0 : size), c->W, first);
    } else {
        if (first) memset(row, 0, (size_t)c->W * sizeof *row);
        for (int64_t j = 0; j < s; j++) {
            if (b[j].K && s == 2) add_even(row + b[j].v, from + j * size, c->W - b[j].v);
            else
                for (int64_t v = b[j].v, k = 0; b[j].K && v < c->W; v += s, k++) row[v] += from[j * size + k];
        }
    }
}

AVX2 static void dx(const qt_conv *c, const R *dy, const R *w, const R *packed, R *scratch, R *out, bool first)
{
    const prep *p = (const prep *)(const void *)packed;
    int64_t     pitch = up(p->places, 8), size = result_size(p), s = c->stride;
    float      *result = scratch + up(strip_size(&p->src), LANES);
    (void)w;
    pack(&p->src, 1, dy, scratch);
    for (int64_t g = 0; g < c->groups; g++) {
        for (int64_t k = 0; k < s * s; k++)
            if (p->job[k].K) run(p, &p->job[k], g, scratch + g * (c->O / c->groups) * p->src.plane, result + k * size);
        for (int64_t m = 0; m < p->M; m++)
            for (int64_t h = 0; h < c->H; h++, out += c->W) {
                const job   *b = &p->job[(h + c->padding) % s * s];
                const float *from = result + (b - p->job) * size + m * pitch + (h - b->h) / s * p->src.pitch;
                if (first) add_row(c, b, from, size, out, true);
                else add_row(c, b, from, size, out, false);
            }
    }
}

/* ---- dw ---- */

INLINE void transpose8(const float *x, int64_t pitch, float *y)
{
    __m256 a[8], b[8];
    for (int r = 0; r < 8; r++) a[r] = _mm256_loadu_ps(x + r * pitch);
    for (int r = 0; r < 8; r += 2) b[r] = _mm256_unpacklo_ps(a[r], a[r + 1]), b[r + 1] = _mm256_unpackhi_ps(a[r], a[r + 1]);
    for (int r = 0; r < 8; r += 4)
        for (int h = 0; h < 2; h++) {
            a[r + 2 * h] = _mm256_shuffle_ps(b[r + h], b[r + h + 2], 0x44);
            a[r + 2 * h + 1] = _mm256_shuffle_ps(b[r + h], b[r + h + 2], 0xee);
        }
    for (int r = 0; r < 4; r++) {
        _mm256_storeu_ps(y + r * LANES, _mm256_permute2f128_ps(a[r], a[r + 4], 0x20));
        _mm256_storeu_ps(y + (r + 4) * LANES, _mm256_permute2f128_ps(a[r], a[r + 4], 0x31));
    }
}

/* n <= LANES channels of dy [n,Q] to [Q,LANES], zero beyond n */
AVX2 static void transpose(const float *dy, int64_t n, int64_t Q, float *dyt)
{
    int64_t done = n / 8 * 8;
    for (int64_t o = 0; o < done; o += 8) {
        int64_t q = 0;
        for (; q + 8 <= Q; q += 8) transpose8(dy + o * Q + q, Q, dyt + q * LANES + o);
        for (; q < Q; q++)
            for (int64_t l = o; l < o + 8; l++) dyt[q * LANES + l] = dy[l * Q + q];
    }
    for (int64_t o = done; o < LANES; o++)
        for (int64_t q = 0; q < Q; q++) dyt[q * LANES + o] = o < n ? dy[o * Q + q] : 0;
}

/* dw[t][lane] += sum over rows x cols places of src[off[t] + place] dyt[place][lane], TAPS taps by 8*NV channels */
INLINE void outer(const int32_t *off, const float *src, int64_t pitch, int64_t rows, int64_t cols, const float *dyt, const int NV, float *out)
{
    const float *x[TAPS];
    __m256       acc[TAPS][2];
    for (int t = 0; t < TAPS; t++) {
        x[t] = src + off[t];
        for (int v = 0; v < NV; v++) acc[t][v] = _mm256_loadu_ps(out + t * LANES + 8 * v);
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t q = r * pitch; q < r * pitch + cols; q++, dyt += LANES) {
            __m256 d[2];
            for (int v = 0; v < NV; v++) d[v] = _mm256_loadu_ps(dyt + 8 * v);
            for (int t = 0; t < TAPS; t++) {
                __m256 xt = _mm256_broadcast_ss(x[t] + q);
                for (int v = 0; v < NV; v++) acc[t][v] = _mm256_fmadd_ps(xt, d[v], acc[t][v]);
            }
        }
    for (int t = 0; t < TAPS; t++)
        for (int v = 0; v < NV; v++) _mm256_storeu_ps(out + t * LANES + 8 * v, acc[t][v]);
}

/* One group and one block of n <= LANES channels; places are cut so that their part of dyt stays in the first-level cache. */
AVX2 static void dw_block(const qt_conv *c, const prep *p, const float *src, const float *dyt, int64_t n, float *out)
{
    int64_t height = qt_max_i64(1, PLACES / c->OW), K = up(taps(c), TAPS);
    for (int64_t r = 0; r < c->OH; r += height) {
        int64_t rows = qt_min_i64(height, c->OH - r);
        for (int64_t k = 0; k < K; k += TAPS) {
            const float *at = src + r * p->src.pitch, *d = dyt + r * c->OW * LANES;
            if (n > 8) outer(p->job[0].off + k, at, p->src.pitch, rows, c->OW, d, 2, out + k * LANES);
            else outer(p->job[0].off + k, at, p->src.pitch, rows, c->OW, d, 1, out + k * LANES);
        }
    }
}

static void dw(const qt_conv *c, const R *x, const R *dy, const R *packed, R *scratch, R *partial)
{
    const prep *p = (const prep *)(const void *)packed;
    int64_t     Og = c->O / c->groups, Q = c->OH * c->OW, group = c->C / c->groups * c->stride * c->stride * p->src.plane;
    float      *dyt = scratch + up(strip_size(&p->src), LANES);
    pack(&p->src, p->used, x, scratch);
    for (int64_t g = 0; g < c->groups; g++)
        for (int64_t o = 0; o < Og; o += LANES) {
            int64_t n = qt_min_i64(LANES, Og - o);
            transpose(dy + (g * Og + o) * Q, n, Q, dyt);
            dw_block(c, p, scratch + g * group, dyt, n, partial);
            partial += up(taps(c), TAPS) * LANES;
        }
}

static void unpack_dw(const qt_conv *c, const R *partial, R *out)
{
    int64_t Og = c->O / c->groups, K = taps(c);
    for (int64_t g = 0; g < c->groups; g++)
        for (int64_t o = 0; o < Og; o += LANES, partial += up(K, TAPS) * LANES)
            for (int64_t l = o; l < qt_min_i64(o + LANES, Og); l++)
                for (int64_t k = 0; k < K; k++) out[(g * Og + l) * K + k] += partial[k * LANES + l - o];
}

const qt_conv_path qt_conv_avx2 = {"avx2", suits, plan, prepare, forward, dx, dw, unpack_dw};

#else

static bool suits(const qt_conv *c)
{
    (void)c;
    return false;
}

const qt_conv_path qt_conv_avx2 = {.name = "avx2", .suits = suits};
#endif
