/* Ternary weights against many rows of x, without a multiplication. Four codes of a row, which are one byte, choose one of 81 sums
 *     (u0 - 1) x0 + (u1 - 1) x1 + (u2 - 1) x2 + (u3 - 1) x3,        u - 1 in {-1, 0, 1},
 * and a table of these is built once for all rows of weights, for 16 rows of x side by side: 64 multiply-adds become one addition of a vector
 * from memory. Two vectors of packed codes at a time have eight tables of 81 x 16 int16, which fit the first cache with room to spare; the
 * bytes are turned into places in a table (81 of them, not 256, so that the tables stay small) once for all tiles of x. Sums stay in int16
 * for as many additions as the range of x allows, 8 a pass and at least 7 passes.
 * About 65 multiply-adds a cycle where vpmaddubsw with its addition ends at 45; it pays from 16 rows of x and some hundred rows of weights on.
 * The idea is the four Russians' (Arlazarov, Dinic, Kronrod, Faradzhev 1970). Left out: 2-bit codes, whose 256 sums are too large a table. */
#include "kernels/packed_path.h"
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline, target("avx2")))

enum { V = QT_PACKED_VECTOR, ROWS = QT_PACKED_ROWS, QUAD = QT_PACKED_QUAD, T = QT_PACKED_TABLE_T, ENTRIES = 81, PASS = 2 };

typedef int16_t table[ENTRIES][T];

INLINE __m256i load(const void *p) { return _mm256_load_si256((const __m256i *)p); }
INLINE void    save(void *p, __m256i v) { _mm256_store_si256((__m256i *)p, v); }

/* The tables of one vector: byte j of a quad has codes j, j + 4, j + 8 and j + 12 of x [16][T]. Place u0 + 3 u1 + 9 u2 + 27 u3. */
AVX2 static void build(table *t, const int8_t *x)
{
    for (int j = 0; j < QUAD; j++) {
        __m256i q[QUAD], s3, *at = (__m256i *)t[j];
        for (int i = 0; i < QUAD; i++) q[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x + (j + QUAD * i) * T)));
        s3 = _mm256_add_epi16(_mm256_add_epi16(q[0], q[1]), _mm256_add_epi16(q[2], q[3]));
        s3 = _mm256_sub_epi16(_mm256_setzero_si256(), s3);
        for (int u3 = 0; u3 < 3; u3++, s3 = _mm256_add_epi16(s3, q[3])) {
            __m256i s2 = s3;
            for (int u2 = 0; u2 < 3; u2++, s2 = _mm256_add_epi16(s2, q[2])) {
                __m256i s1 = s2;
                for (int u1 = 0; u1 < 3; u1++, s1 = _mm256_add_epi16(s1, q[1]), at += 3) {
                    __m256i s0 = _mm256_add_epi16(s1, q[0]);
                    save(at, s1), save(at + 1, s0), save(at + 2, _mm256_add_epi16(s0, q[0]));
                }
            }
        }
    }
}

/* Bytes of packed codes to offsets in their tables: a table lookup for either half of the byte. */
AVX2 static void offsets(const uint8_t *w, uint16_t *o)
{
    const __m256i low = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 0, 3, 4, 5, 0, 6, 7, 8, 0, 0, 0, 0, 0));
    const __m256i high = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 9, 18, 0, 27, 36, 45, 0, 54, 63, 72, 0, 0, 0, 0, 0));
    const __m256i mask = _mm256_set1_epi8(15), v = _mm256_loadu_si256((const __m256i *)w);
    __m256i       place = _mm256_shuffle_epi8(low, _mm256_and_si256(v, mask));
    place = _mm256_add_epi8(place, _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16(v, 4), mask)));
    save(o, _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(place)), 5)); /* 32 bytes an entry */
    save(o + 16, _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(place, 1)), 5));
}

/* acc [panel][8][T] += the entries that o [panel][vector][8][4] chooses; `fresh`: instead of what was there. */
INLINE void add(const table *t, const uint16_t *o, int64_t panels, bool fresh, int16_t *acc)
{
    for (; panels > 0; panels--, o += PASS * V)
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++, acc += T) {
            __m256i s = fresh ? _mm256_setzero_si256() : load(acc);
#pragma GCC unroll 2
            for (int v = 0; v < PASS; v++) {
                uint64_t four;
                memcpy(&four, o + v * V + r * QUAD, sizeof four);
                s = _mm256_add_epi16(s, load((const char *)t[v * QUAD] + (four & 0xffff)));
                s = _mm256_add_epi16(s, load((const char *)t[v * QUAD + 1] + (four >> 16 & 0xffff)));
                s = _mm256_add_epi16(s, load((const char *)t[v * QUAD + 2] + (four >> 32 & 0xffff)));
                s = _mm256_add_epi16(s, load((const char *)t[v * QUAD + 3] + (four >> 48)));
            }
            save(acc, s);
        }
}

AVX2 static void add_fresh(const table *t, const uint16_t *o, int64_t panels, int16_t *acc) { add(t, o, panels, true, acc); }
AVX2 static void add_more(const table *t, const uint16_t *o, int64_t panels, int16_t *acc) { add(t, o, panels, false, acc); }

AVX2 static void widen(const int16_t *acc, int64_t n, int32_t *sum)
{
    for (int64_t i = 0; i < n; i += 8) {
        __m256i *s = (__m256i *)(sum + i);
        *s = _mm256_add_epi32(*s, _mm256_cvtepi16_epi32(_mm_load_si128((const __m128i *)(acc + i))));
    }
}

typedef struct scratch {
    _Alignas(64) table t[PASS * QUAD];
    _Alignas(64) uint16_t o[QT_PACKED_TABLE_ROWS / ROWS * PASS * V];
    _Alignas(64) int16_t acc[QT_PACKED_TABLE_TILES][QT_PACKED_TABLE_ROWS * T];
} scratch;

size_t qt_packed_table_work(void) { return sizeof(scratch); }

AVX2 void qt_packed_table_avx2(const qt_packed_table_job *j, void *work, int32_t *sum)
{
    scratch      *s = work;
    const int64_t n_sums = j->panels * ROWS * T, codes = PASS * V / 2; /* of a row, in a pass */
    for (int64_t i = 0; i < j->tiles; i++) memset(sum + i * j->rows * T, 0, (size_t)n_sums * sizeof *sum);
    for (int64_t pass = 0; pass < j->vectors / PASS; pass++) {
        const uint8_t *w = j->w + pass * PASS * V;
        for (int64_t n = 0; n < j->panels; n++, w += j->stride) {
            for (int v = 0; v < PASS; v++) offsets(w + v * V, s->o + (n * PASS + v) * V);
            _mm_prefetch((const char *)(w + PASS * V), _MM_HINT_T0); /* for the next pass */
        }
        for (int64_t i = 0; i < j->tiles; i++) {
            for (int v = 0; v < PASS; v++) build(s->t + v * QUAD, j->x + (i * j->vectors * (V / 2) + pass * codes + v * (V / 2)) * T);
            (pass % j->passes ? add_more : add_fresh)((const table *)s->t, s->o, j->panels, s->acc[i]);
            if (pass % j->passes == j->passes - 1 || pass == j->vectors / PASS - 1) widen(s->acc[i], n_sums, sum + i * j->rows * T);
        }
    }
}
#else
size_t qt_packed_table_work(void) { return 0; }
void   qt_packed_table_avx2(const qt_packed_table_job *j, void *work, int32_t *sum) { (void)j, (void)work, (void)sum; }
#endif
