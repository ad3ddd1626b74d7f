/* Packing for the integer matrix product: codes into panels [step][lane][4 bytes] (igemm_path.h), in plain C and in AVX2.
 *
 * With K contiguous, a step of one row is four neighbouring bytes: packing is a transposition of 32-bit units, eight rows by eight steps
 * in registers. With K across the rows, four rows are woven byte by byte. Weights are packed anew in each training step, so this must run at
 * the speed of the cache. Sums of columns are taken on the way, for what is stored is still in a register. */
#include "kernels/igemm_path.h"
#include <string.h>

/* ---- plain C ---- */

/* Code i of q, as what is stored. */
static inline int code(const qt_ipack_from *f, const uint8_t *q, int64_t i)
{
    int16_t wide;
    if (f->wide) return memcpy(&wide, q + 2 * i, sizeof wide), wide;
    if (f->pairs) return f->is_signed ? (int8_t)q[i] : q[i];
    return (int8_t)(q[i] + f->shift);
}

static inline void put(const qt_ipack_from *f, int value, uint8_t *to, int64_t k)
{
    if (f->pairs) memcpy(to + 2 * k, &(int16_t){(int16_t)value}, 2);
    else to[k] = (uint8_t)value;
}

/* A panel from code k of row r at q[r * row + k * step]. */
static void panel(const qt_ipack_from *f, const uint8_t *q, int64_t rows, int64_t row, int64_t step, int64_t length, uint8_t *to, int32_t *sum)
{
    int64_t codes = f->pairs ? 2 : 4, steps = (length + codes - 1) / codes;
    memset(to, 0, (size_t)(steps * f->lanes * 4));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < length; k++) {
            int value = code(f, q, r * row + k * step);
            put(f, value, to + (k / codes * f->lanes + r) * 4, k % codes);
            if (sum) sum[r] += value;
        }
}

static void gather(const qt_ipack_from *f, const uint8_t *q, int64_t rows, int64_t length, uint8_t *to, int32_t *sum)
{
    panel(f, q, qt_min_i64(rows, f->lanes), f->pitch, 1, length, to, sum);
}

static void weave(const qt_ipack_from *f, const uint8_t *q, int64_t length, uint8_t *to, int32_t *sum)
{
    panel(f, q, f->lanes, 1, f->pitch, length, to, sum);
}

static void copy(const qt_ipack_from *f, const uint8_t *q, int64_t n, uint8_t *to)
{
    for (int64_t k = 0; k < n; k++) put(f, code(f, q, k), to, k);
}

const qt_ipack qt_ipack_portable = {gather, weave, copy};

/* ---- AVX2 ---- */

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define AVX2   __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline, target("avx2")))

INLINE __m128i load8(const uint8_t *p) { return _mm_loadl_epi64((const __m128i *)(const void *)p); }
INLINE __m128i load16(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
INLINE __m256i load32(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
INLINE void    store32(void *p, __m256i v) { _mm256_storeu_si256(p, v); }

/* What four bytes of a row become: a step of four codes, or of two that are wide already, or two steps of two. */
enum { BYTES, WIDE, SPLIT };

/* -1 in the first n bytes */
INLINE __m256i first_bytes(int64_t n)
{
    static const int64_t at[8] = {-1, -1, -1, -1};
    return load32((const uint8_t *)at + 32 - n);
}

/* Sums of the codes of a step, for eight lanes. */
INLINE __m256i step_sums(const bool pairs, __m256i v)
{
    return _mm256_madd_epi16(pairs ? v : _mm256_maddubs_epi16(_mm256_set1_epi8(1), v), _mm256_set1_epi16(1));
}

/* The first (half 0) or last two of four codes, as int16. */
INLINE __m256i two_of_four(bool is_signed, __m256i v, const int half)
{
    static const uint8_t place[2][16] = {{128, 0, 128, 1, 128, 4, 128, 5, 128, 8, 128, 9, 128, 12, 128, 13}, /* a zero, a code */
                                         {128, 2, 128, 3, 128, 6, 128, 7, 128, 10, 128, 11, 128, 14, 128, 15}};
    v = _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(load16(place[half])));
    return is_signed ? _mm256_srai_epi16(v, 8) : _mm256_srli_epi16(v, 8);
}

/* 32-bit units of eight rows, transposed: v[i] = unit i of 16 bytes from each row. Halves of a vector hold rows 0 to 3 and 4 to 7. */
INLINE void transpose(const uint8_t *const *row, int64_t k, __m256i *v)
{
    __m256i a[4], b[4];
    for (int r = 0; r < 4; r++) a[r] = _mm256_inserti128_si256(_mm256_castsi128_si256(load16(row[r] + k)), load16(row[r + 4] + k), 1);
    for (int r = 0; r < 4; r += 2) b[r] = _mm256_unpacklo_epi32(a[r], a[r + 1]), b[r + 1] = _mm256_unpackhi_epi32(a[r], a[r + 1]);
    for (int h = 0; h < 2; h++) v[2 * h] = _mm256_unpacklo_epi64(b[h], b[h + 2]), v[2 * h + 1] = _mm256_unpackhi_epi64(b[h], b[h + 2]);
}

/* Stores `steps` steps made of v [4]; returns where the next goes. */
INLINE uint8_t *put_steps(const qt_ipack_from *f, const int how, const bool sums, const __m256i *v, int steps, uint8_t *to, __m256i *total)
{
    for (int s = 0; s < steps; s++, to += f->lanes * 4) {
        __m256i step = how == SPLIT ? two_of_four(f->is_signed, v[s / 2], s % 2) : v[s];
        store32(to, step);
        if (sums) *total = _mm256_add_epi32(*total, step_sums(how != BYTES, step));
    }
    return to;
}

/* Eight lanes of a panel */
INLINE void gather8(const qt_ipack_from *f, const int how, const bool sums, const uint8_t *const *row, int64_t length, uint8_t *to, int32_t *sum)
{
    int64_t bytes = how == WIDE ? 2 * length : length, k = 0;
    __m256i shift = _mm256_set1_epi8((char)f->shift), total = sums ? load32((const uint8_t *)sum) : _mm256_setzero_si256(), v[4];
    for (; k + 16 <= bytes; k += 16) {
        transpose(row, k, v);
        for (int i = 0; i < 4 && how == BYTES; i++) v[i] = _mm256_add_epi8(v[i], shift);
        to = put_steps(f, how, sums, v, how == SPLIT ? 8 : 4, to, &total);
    }
    if (k < bytes) { /* the rest of each row, with zeros behind it */
        uint8_t        rest[8][32];
        const uint8_t *at[8];
        __m256i        keep = first_bytes(bytes - k);
        for (int r = 0; r < 8; r++) at[r] = rest[r], store32(rest[r], _mm256_and_si256(keep, _mm256_add_epi8(load32(row[r] + k), shift)));
        transpose(at, 0, v);
        put_steps(f, how, sums, v, (int)((bytes - k + (how == SPLIT ? 1 : 3)) / (how == SPLIT ? 2 : 4)), to, &total);
    }
    if (sums) store32(sum, total);
}

AVX2 static void gather_avx2(const qt_ipack_from *f, const uint8_t *q, int64_t rows, int64_t length, uint8_t *to, int32_t *sum)
{
    for (int l = 0; l < f->lanes; l += 8, to += 32) {
        const uint8_t *row[8];
        for (int r = 0; r < 8; r++) row[r] = q + qt_min_i64(l + r, rows - 1) * f->pitch * (f->wide ? 2 : 1);
        if (f->wide && sum) gather8(f, WIDE, true, row, length, to, sum + l);
        else if (f->wide) gather8(f, WIDE, false, row, length, to, NULL);
        else if (f->pairs && sum) gather8(f, SPLIT, true, row, length, to, sum + l);
        else if (f->pairs) gather8(f, SPLIT, false, row, length, to, NULL);
        else if (sum) gather8(f, BYTES, true, row, length, to, sum + l);
        else gather8(f, BYTES, false, row, length, to, NULL);
    }
}

/* One step of eight columns. Rows beyond the last are zeros. */
INLINE __m256i weave_bytes(const uint8_t *q, int64_t pitch, int64_t rows, __m128i shift)
{
    __m128i r[4], low, high;
    for (int i = 0; i < 4; i++) r[i] = i < rows ? _mm_add_epi8(shift, load8(q + i * pitch)) : _mm_setzero_si128();
    low = _mm_unpacklo_epi8(r[0], r[1]), high = _mm_unpacklo_epi8(r[2], r[3]);
    return _mm256_set_m128i(_mm_unpackhi_epi16(low, high), _mm_unpacklo_epi16(low, high));
}

/* Eight codes as int16 */
INLINE __m128i widened8(const qt_ipack_from *f, const uint8_t *q)
{
    return f->wide ? load16(q) : f->is_signed ? _mm_cvtepi8_epi16(load8(q)) : _mm_cvtepu8_epi16(load8(q));
}

INLINE __m256i weave_pairs(const qt_ipack_from *f, const uint8_t *q, int64_t pitch, int64_t rows)
{
    __m128i first = widened8(f, q), second = rows > 1 ? widened8(f, q + pitch) : _mm_setzero_si128();
    return _mm256_set_m128i(_mm_unpackhi_epi16(first, second), _mm_unpacklo_epi16(first, second));
}

INLINE void weave8(const qt_ipack_from *f, const uint8_t *q, int64_t length, const bool pairs, uint8_t *to, int32_t *sum)
{
    int64_t codes = pairs ? 2 : 4, pitch = f->pitch * (f->wide ? 2 : 1);
    __m128i shift = _mm_set1_epi8((char)f->shift);
    __m256i total = sum ? load32((const uint8_t *)sum) : _mm256_setzero_si256();
    for (int64_t k = 0; k < length; k += codes, q += codes * pitch, to += f->lanes * 4) {
        __m256i v = pairs ? weave_pairs(f, q, pitch, length - k) : weave_bytes(q, pitch, length - k, shift);
        store32(to, v);
        total = _mm256_add_epi32(total, step_sums(pairs, v));
    }
    if (sum) store32(sum, total);
}

AVX2 static void weave_avx2(const qt_ipack_from *f, const uint8_t *q, int64_t length, uint8_t *to, int32_t *sum)
{
    for (int l = 0; l < f->lanes; l += 8) {
        if (f->pairs) weave8(f, q + l * (f->wide ? 2 : 1), length, true, to + 4 * l, sum ? sum + l : NULL);
        else weave8(f, q + l, length, false, to + 4 * l, sum ? sum + l : NULL);
    }
}

AVX2 static void copy_avx2(const qt_ipack_from *f, const uint8_t *q, int64_t n, uint8_t *to)
{
    __m256i shift = _mm256_set1_epi8((char)f->shift);
    if (f->pairs)
        for (int64_t k = 0; k < n; k += 16)
            store32(to + 2 * k, f->is_signed ? _mm256_cvtepi8_epi16(load16(q + k)) : _mm256_cvtepu8_epi16(load16(q + k)));
    else
        for (int64_t k = 0; k < n; k += 32) store32(to + k, _mm256_add_epi8(shift, load32(q + k)));
}

const qt_ipack qt_ipack_avx2 = {gather_avx2, weave_avx2, copy_avx2};
#else
const qt_ipack qt_ipack_avx2 = {gather, weave, copy};
#endif
