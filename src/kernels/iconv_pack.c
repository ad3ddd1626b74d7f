/* Strips and weights of the integer convolution (see iconv_plan.h): bytes of four rows are zipped into words, 16 words at a time.
 * With stride s an image is cut into phases, (h, v) -> phase (h % s, v % s) at (h / s, v / s): tap i then lies in phase i*dilation % s at
 * shift i*dilation / s, and consecutive places stay consecutive words. Rows lie so near each other that the padding on the right of one is
 * that on the left of the next. Words of taps along the kernel's row are made for the places of the output only, whatever the stride.
 * All writers go from front to back: what they write too much is written over by what follows. */
#include "base/par.h"
#include "kernels/iconv_plan.h"
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* ---- layout ---- */

void qt_iconv_layout(qt_iconv_plan *p, const qt_conv *c, bool wide)
{
    int64_t per = wide ? 2 : 4, s = c->stride, Cg = c->C / c->groups, parts = (c->KW + per - 1) / per, quads = (Cg + per - 1) / per;
    int64_t down = (c->KH - 1) * c->dilation / s, right = (c->KW - 1) * c->dilation / s, shared, begin, end;
    *p = (qt_iconv_plan){c, wide, Cg * parts < quads * c->KW, per, Cg, c->O / c->groups, .rows = c->OH + down};
    p->units = p->along ? Cg * parts : quads;
    p->phases = p->along ? s : s * s;
    p->K = p->units * (p->along ? c->KH : c->KH * c->KW);
    p->cols = shared = p->along ? c->OW : c->OW + right;
    for (int64_t j = 0; j < s && !p->along; j++) {
        qt_conv_range(j - c->padding, s, c->W, p->cols, &begin, &end);
        shared = qt_min_i64(shared, qt_min_i64(begin, p->cols - end));
    }
    p->pitch = p->along ? p->cols : qt_max_i64(c->OW, p->cols - shared);
    p->plane = (p->rows - 1) * p->pitch + p->cols;
    p->places = (c->OH - 1) * p->pitch + c->OW;
    p->line = qt_max_i64(c->W + c->padding, (c->OW - 1) * s + (parts * per - 1) * c->dilation + 1);
}

int64_t qt_iconv_strip_size(const qt_iconv_plan *p) { return p->units * p->phases * p->plane + QT_ICONV_SLACK; }

int64_t qt_iconv_padded_size(const qt_iconv_plan *p) { return p->along ? p->c->H * p->line + QT_CODES_SLACK : 0; }

void qt_iconv_offsets(const qt_iconv_plan *p, int64_t *off)
{
    int64_t d = p->c->dilation, s = p->c->stride;
    for (int64_t u = 0; u < p->units; u++)
        for (int64_t i = 0; i < p->c->KH; i++) {
            int64_t phase = i * d % s, row = i * d / s * p->pitch;
            if (p->along)
                *off++ = 4 * ((u * s + phase) * p->plane + row);
            else
                for (int64_t j = 0; j < p->c->KW; j++) *off++ = 4 * (((u * s + phase) * s + j * d % s) * p->plane + row + j * d / s);
        }
}

/* Whether a tap of n lies in a phase. */
static bool reads(const qt_conv *c, int64_t n, int64_t phase)
{
    for (int64_t i = 0; i < n; i++)
        if (i * c->dilation % c->stride == phase) return true;
    return false;
}

/* ---- zip ---- */

/* What a word is made of: four bytes x - zero, or two numbers (x ^ flip) - zero. */
typedef struct zip {
    const uint8_t *from[4];
    int64_t        step;
    int            flip, zero;
    bool           wide;
} zip;

#ifdef __SSE2__
#define INLINE static inline __attribute__((always_inline))

/* x[i * step] for 16 i, where n of them matter; STEP is step, or 0 for one that is not 1 or 2 */
INLINE __m128i load(const uint8_t *x, int64_t step, int64_t n, const int STEP)
{
    __m128i even = _mm_set1_epi16(255);
    uint8_t some[16] = {0};
    if (STEP == 1) return _mm_loadu_si128((const void *)x);
    if (STEP == 2)
        return _mm_packus_epi16(_mm_and_si128(_mm_loadu_si128((const void *)x), even), _mm_and_si128(_mm_loadu_si128((const void *)(x + 16)), even));
    for (int64_t i = 0; i < 16 && i < n; i++) some[i] = x[i * step];
    return _mm_loadu_si128((const void *)some);
}

INLINE void store(uint32_t *d, __m128i v) { _mm_storeu_si128((void *)d, v); }

INLINE void zip_bytes(const zip *z, int64_t n, uint32_t *d, const int STEP)
{
    const uint8_t *from[4] = {z->from[0], z->from[1], z->from[2], z->from[3]};
    int64_t        step = STEP ? STEP : z->step;
    __m128i        x[4], zero = _mm_set1_epi8((char)z->zero), lo, hi;
    for (int64_t i = 0; i < n; i += 16, d += 16) {
        for (int t = 0; t < 4; t++) x[t] = _mm_sub_epi8(load(from[t] + i * step, step, n - i, STEP), zero);
        lo = _mm_unpacklo_epi8(x[0], x[1]), hi = _mm_unpacklo_epi8(x[2], x[3]);
        store(d, _mm_unpacklo_epi16(lo, hi)), store(d + 4, _mm_unpackhi_epi16(lo, hi));
        lo = _mm_unpackhi_epi8(x[0], x[1]), hi = _mm_unpackhi_epi8(x[2], x[3]);
        store(d + 8, _mm_unpacklo_epi16(lo, hi)), store(d + 12, _mm_unpackhi_epi16(lo, hi));
    }
}

INLINE void zip_words(const zip *z, int64_t n, uint32_t *d, const int STEP)
{
    const uint8_t *from[2] = {z->from[0], z->from[1]};
    int64_t        step = STEP ? STEP : z->step;
    __m128i        x[2], zero = _mm_set1_epi16((short)z->zero), flip = _mm_set1_epi8((char)z->flip), none = _mm_setzero_si128(), lo, hi;
    for (int64_t i = 0; i < n; i += 16, d += 16) {
        for (int t = 0; t < 2; t++) x[t] = _mm_xor_si128(load(from[t] + i * step, step, n - i, STEP), flip);
        lo = _mm_unpacklo_epi8(x[0], x[1]), hi = _mm_unpackhi_epi8(x[0], x[1]);
        store(d, _mm_sub_epi16(_mm_unpacklo_epi8(lo, none), zero)), store(d + 4, _mm_sub_epi16(_mm_unpackhi_epi8(lo, none), zero));
        store(d + 8, _mm_sub_epi16(_mm_unpacklo_epi8(hi, none), zero)), store(d + 12, _mm_sub_epi16(_mm_unpackhi_epi8(hi, none), zero));
    }
}

/* d[i] for i < n, and up to 15 more */
INLINE void zip_run(const zip *z, int64_t n, uint32_t *d)
{
    if (z->wide && z->step == 1)
        zip_words(z, n, d, 1);
    else if (z->wide && z->step == 2)
        zip_words(z, n, d, 2);
    else if (z->wide)
        zip_words(z, n, d, 0);
    else if (z->step == 1)
        zip_bytes(z, n, d, 1);
    else if (z->step == 2)
        zip_bytes(z, n, d, 2);
    else
        zip_bytes(z, n, d, 0);
}
#else
static void zip_run(const zip *z, int64_t n, uint32_t *d)
{
    for (int64_t i = 0; i < n; i++) {
        uint8_t byte[4];
        int16_t word[2];
        for (int t = 0; t < 4; t++) byte[t] = (uint8_t)(z->from[t][i * z->step] - z->zero);
        for (int t = 0; t < 2; t++) word[t] = (int16_t)((z->from[t][i * z->step] ^ z->flip) - z->zero);
        memcpy(d + i, z->wide ? (void *)word : (void *)byte, 4);
    }
}
#endif

/* d[i] for i < n, and up to 3 more */
static inline void fill(uint32_t *d, uint32_t word, int64_t n)
{
    uint32_t four[4] = {word, word, word, word};
    for (int64_t i = 0; i < n; i += 4) memcpy(d + i, four, sizeof four);
}

/* ---- images ---- */

/* One phase (i, j) of channels z->from [H,W]. */
static void pack_plane(const qt_iconv_plan *p, zip z, int64_t i, int64_t j, uint32_t pad, uint32_t *d)
{
    const qt_conv *c = p->c;
    int64_t        first, last, begin, end, at;
    qt_conv_range(i - c->padding, c->stride, c->H, p->rows, &first, &last);
    qt_conv_range(j - c->padding, c->stride, c->W, p->cols, &begin, &end);
    at = (i - c->padding + first * c->stride) * c->W + j - c->padding + begin * c->stride;
    for (int t = 0; t < 4; t++) z.from[t] += at;
    fill(d, pad, first * p->pitch);
    if (c->stride == 1 && p->pitch == c->W && end - begin == c->W) { /* no padding at the sides: all rows at once */
        zip_run(&z, (last - first) * c->W, d + first * p->pitch);
        first = last;
    }
    for (int64_t r = first; r < last; r++) {
        uint32_t *row = d + r * p->pitch;
        fill(row, pad, begin);
        zip_run(&z, end - begin, row + begin);
        fill(row + end, pad, p->cols - end);
        for (int t = 0; t < 4; t++) z.from[t] += c->stride * c->W;
    }
    fill(d + last * p->pitch, pad, p->plane - last * p->pitch);
}

static void pack_channels(const qt_iconv_plan *p, const uint8_t *x, zip z, uint32_t pad, uint32_t *strip)
{
    int64_t s = p->c->stride, size = p->c->H * p->c->W;
    for (int64_t u = 0; u < p->units; u++) {
        for (int64_t t = 0; t < 4; t++) z.from[t] = x + qt_min_i64(u * p->per + t, p->Cg - 1) * size;
        for (int64_t k = 0; k < p->phases; k++, strip += p->plane)
            if (reads(p->c, p->c->KH, k / s) && reads(p->c, p->c->KW, k % s)) pack_plane(p, z, k / s, k % s, pad, strip);
    }
}

/* A phase of a channel, its rows with padding at their sides, the taps of a word beginning with tap j. */
static void pack_along(const qt_iconv_plan *p, const uint8_t *padded, int64_t j, int64_t phase, zip z, uint32_t pad, uint32_t *d)
{
    const qt_conv *c = p->c;
    for (int64_t r = 0, h = phase - c->padding; r < p->rows; r++, h += c->stride, d += p->pitch) {
        if (h < 0 || h >= c->H) {
            fill(d, pad, p->pitch);
            continue;
        }
        for (int64_t t = 0; t < 4; t++) z.from[t] = padded + h * p->line + (j + t % p->per) * c->dilation;
        zip_run(&z, p->pitch, d);
    }
}

void qt_iconv_pack(const qt_iconv_plan *p, const uint8_t *x, int zero, uint8_t *padded, uint32_t *strip)
{
    const qt_conv *c = p->c;
    int64_t        parts = p->units / p->Cg;
    zip            z = {.step = c->stride, .zero = p->wide ? zero : 0, .wide = p->wide};
    uint32_t       pad = p->wide ? 0 : (uint32_t)(zero & 255) * 0x01010101u;
    if (!p->along) {
        pack_channels(p, x, z, pad, strip);
        return;
    }
    memset(padded, zero, (size_t)(c->H * p->line));
    for (int64_t u = 0; u < p->units; u++) {
        for (int64_t h = 0; h < c->H && u % parts == 0; h++, x += c->W) memcpy(padded + h * p->line + c->padding, x, (size_t)c->W);
        for (int64_t i = 0; i < p->phases; i++, strip += p->plane)
            if (reads(c, c->KH, i)) pack_along(p, padded, u % parts * p->per, i, z, pad, strip);
    }
}

/* ---- weights ---- */

/* Sum of the int8_t in n words. */
static int32_t sum_bytes(const uint32_t *w, int64_t n)
{
    const int8_t *q = (const int8_t *)w;
    int64_t       i = 0, sum = 0;
#ifdef __SSE2__
    __m128i acc = _mm_setzero_si128(), flip = _mm_set1_epi8((char)0x80);
    for (; i + 4 <= n; i += 4)
        acc = _mm_add_epi64(acc, _mm_sad_epu8(_mm_xor_si128(_mm_loadu_si128((const void *)(w + i)), flip), _mm_setzero_si128()));
    sum = _mm_cvtsi128_si64(_mm_add_epi64(acc, _mm_unpackhi_epi64(acc, acc))) - i * 4 * 128;
#endif
    for (i *= 4; i < n * 4; i++) sum += q[i];
    return (int32_t)sum;
}

static void put(const qt_iconv_plan *p, uint32_t *word, int64_t t, int value)
{
    int16_t wide = (int16_t)value;
    int8_t  byte = (int8_t)value;
    if (p->wide)
        memcpy((int16_t *)word + t, &wide, sizeof wide);
    else
        memcpy((int8_t *)word + t, &byte, sizeof byte);
}

static void weight_channels(const qt_iconv_plan *p, const int8_t *w, int zero, uint32_t *to)
{
    int64_t taps = p->c->KH * p->c->KW;
    zip     z = {.step = 1, .flip = 128, .zero = p->wide ? zero + 128 : zero, .wide = p->wide};
    for (int64_t u = 0; u < p->units; u++, to += taps) {
        for (int64_t t = 0; t < 4; t++) z.from[t] = (const uint8_t *)w + qt_min_i64(u * p->per + t, p->Cg - 1) * taps;
        zip_run(&z, taps, to);
    }
    for (int64_t t = p->Cg - (p->units - 1) * p->per; t < p->per; t++) /* channels that there are not */
        for (int64_t k = -taps; k < 0; k++) put(p, to + k, t, 0);
}

static void weight_along(const qt_iconv_plan *p, const int8_t *w, int zero, uint32_t *to)
{
    int64_t KH = p->c->KH, KW = p->c->KW, parts = p->units / p->Cg;
    for (int64_t u = 0; u < p->units; u++)
        for (int64_t i = 0; i < KH; i++, to++)
            for (int64_t t = 0; t < p->per; t++) {
                int64_t j = u % parts * p->per + t;
                put(p, to, t, j < KW ? w[(u / parts * KH + i) * KW + j] - zero : 0);
            }
}

int32_t qt_iconv_pack_weight(const qt_iconv_plan *p, const int8_t *w, int zero, uint32_t *to)
{
    if (p->along)
        weight_along(p, w, zero, to);
    else
        weight_channels(p, w, zero, to);
    return p->wide ? 0 : sum_bytes(to, p->K);
}
