/* See shiftq.h. A tensor is walked as blocks of rows of L neighbouring numbers; one of the two kinds of keys is the same along a row, the other
 * changes with every number, which then has its factors beside it. Ranges are maxima of the numbers' bits less their sign: as integers these have
 * the order of the numbers, an infinity is above them, and a NaN above all.
 *
 * A code is made in fixed point: with a number of K = min(16, 22 - bits) fraction bits, v = rint(x 2^K/s), and u uniform in 0 .. 2^K - 1, it is
 * (v + u) >> K, whose mean is v/2^K exactly. u takes 16 bits of the random stream from byte i on: its high byte is its own, and the low one,
 * which decides once in 256 times, is the high one of its neighbour. So 16 numbers share one Philox block, and each u is uniform. */
#include "kernels/shiftq.h"
#include "base/par.h"
#include <float.h>
#include <math.h>
#include <string.h>

#ifdef QT_DOUBLE
typedef int64_t word __attribute__((may_alias));
#define MAGNITUDE INT64_MAX /* all bits but the sign's */
#define RINT rint
#define HUGE DBL_MAX
enum { MANTISSA = 52 };
#else
typedef int32_t word __attribute__((may_alias));
#define MAGNITUDE INT32_MAX
#define RINT rintf
#define HUGE FLT_MAX
enum { MANTISSA = 23 };
#endif
#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define VECTORS
#define AVX2        __attribute__((target("avx2")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2")))
#endif

enum { SEGMENT = 1024 }; /* neighbours that are worked on at a time */

/* x [A,C,B] as blocks of rows. */
typedef struct view {
    int64_t blocks, rows, L;
} view;
static view view_of(const qt_shiftq *p) { return p->B > 1 ? (view){p->A, p->C, p->B} : (view){1, p->A, p->C}; }
/* Whether keys change along a row: key = block*L + place, else key = row. */
static bool along(const qt_shiftq *p) { return p->pairs == (p->B > 1); }

int64_t qt_shiftq_keys(const qt_shiftq *p) { return p->pairs ? p->A * p->B : p->C; }

/* ---- ranges -------------------------------------------------------------------------------------------------------------------------- */

INLINE word larger(word a, word b) { return a > b ? a : b; }

/* Largest of n numbers; each raises its column. */
QT_CLONES static word raise_columns(const word *x, word *restrict column, int64_t n)
{
    word top = 0;
    for (int64_t i = 0; i < n; i++) {
        word v = x[i] & MAGNITUDE;
        column[i] = larger(column[i], v), top = larger(top, v);
    }
    return top;
}

QT_CLONES static word largest(const word *x, int64_t n)
{
    word top = 0;
    for (int64_t i = 0; i < n; i++) top = larger(top, x[i] & MAGNITUDE);
    return top;
}

/* A maximum is the same in any order. */
static void raise_shared(word *to, word v)
{
    word old = __atomic_load_n(to, __ATOMIC_RELAXED);
    while (v > old && !__atomic_compare_exchange_n(to, &old, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

/* Rows of one block, n columns: into row [rows] and column [n], either may be NULL; columns are shared unless all rows are here. */
static void raise(const view *v, const word *x, int64_t begin, int64_t end, int64_t n, word *row, word *column)
{
    const bool own = begin == 0 && end == v->rows;
    word       local[SEGMENT], *c = own ? column : local;
    if (column) memset(c, 0, (size_t)n * sizeof *c);
    for (int64_t r = begin; r < end; r++) {
        word top = column ? raise_columns(x + r * v->L, c, n) : largest(x + r * v->L, n);
        if (row) raise_shared(row + r, top);
    }
    for (int64_t i = 0; column && !own && i < n; i++) raise_shared(column + i, local[i]);
}

/* max |x| of each row and each column of a block, as bits. */
static void ranges(const view *v, const R *x, R *row, R *column)
{
    const int64_t segments = QT_CHUNKS(v->L, SEGMENT), rows = v->blocks > 1 ? v->rows : qt_max_i64(1, QT_GRAIN / v->L);
    const int64_t parts = QT_CHUNKS(v->rows, rows), size = v->rows * v->L;
    if (row) memset(row, 0, (size_t)v->rows * sizeof *row);
    if (column && v->blocks == 1) memset(column, 0, (size_t)v->L * sizeof *column);
    QT_FOR_EACH(i, v->blocks * segments * parts, v->blocks * size > QT_GRAIN) {
        int64_t block = i / (segments * parts), first = i / segments % parts * rows, at = i % segments * SEGMENT, n = qt_min_i64(SEGMENT, v->L - at);
        raise(v, (const word *)(x + block * size + at), first, qt_min_i64(first + rows, v->rows), n, (word *)row,
              column ? (word *)(column + block * v->L + at) : NULL);
    }
}

/* ---- scales -------------------------------------------------------------------------------------------------------------------------- */

/* floor(log2(top / r)) is the difference of exponents, less 1 if r has the larger mantissa: the difference of the bits, shifted. What is too
 * small for an exponent of its own comes out as many octaves anyway. */
QT_CLONES static void groups_of(word top, word s0, word last, uint8_t *e, word *s, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        word g = (top - s[i]) >> MANTISSA;
        g = g < last ? g : last;
        e[i] = (uint8_t)g, s[i] = s0 - g * ((word)1 << MANTISSA);
    }
}

/* s holds ranges without the factors `by`, and gets scales; as rounding keeps order, the factors may come in now. */
static R finish(const qt_shiftq *p, uint8_t *e, R *s)
{
    const int64_t keys = qt_shiftq_keys(p);
    const R       Q = (R)((1 << (p->bits - 1)) - 1);
    R             top, s0;
    word          bits, unit;
    if (p->by)
        QT_FOR_CHUNKS(b, end, keys, QT_GRAIN)
    for (int64_t k = b; k < end; k++) s[k] *= p->by[p->pairs ? k / p->B : k];
    bits = largest((const word *)s, keys), memcpy(&top, &bits, sizeof top);
    s0 = top / Q;
    if (s0 < QT_SHIFTQ_LEAST) top = s0 = 1, memset(s, 0, (size_t)keys * sizeof *s);
    if (p->exact || !(s0 <= HUGE)) {
        for (int64_t k = 0; k < keys; k++) e[k] = 0, s[k] = s[k] / Q < QT_SHIFTQ_LEAST ? 1 : s[k] / Q;
        return s0;
    }
    memcpy(&bits, &top, sizeof bits), memcpy(&unit, &s0, sizeof unit);
    QT_FOR_CHUNKS(b, end, keys, QT_GRAIN) groups_of(bits, unit, p->groups - 1, e + b, (word *)s + b, end - b);
    return s0;
}

R qt_shiftq_scales(const qt_shiftq *p, const R *x, uint8_t *e, R *s)
{
    view v = view_of(p);
    ranges(&v, x, along(p) ? NULL : s, along(p) ? s : NULL);
    return finish(p, e, s);
}

void qt_shiftq_both(const qt_shiftq *channels, const qt_shiftq *pairs, const R *x, uint8_t *e[2], R *s[2], R s0[2])
{
    view v = view_of(channels);
    bool swap = along(channels);
    ranges(&v, x, s[swap], s[!swap]);
    s0[0] = finish(channels, e[0], s[0]), s0[1] = finish(pairs, e[1], s[1]);
}

/* ---- random bits ----------------------------------------------------------------------------------------------------------------------- */

enum { POOL = 4096 }; /* bytes that are drawn at a time */

/* Bytes [begin, end) of a stream; behind stop none will be wanted. */
typedef struct pool {
    const qt_rng *u;
    int64_t       begin, end, stop;
    uint32_t      word[POOL / 4];
} pool;

/* Byte i, with n behind it. */
static const uint8_t *bytes_at(pool *p, int64_t i, int64_t n)
{
    if (i < p->begin || i + n >= p->end) {
        p->begin = i / 16 * 16, p->end = p->begin + qt_min_i64(POOL, QT_CHUNKS(p->stop - p->begin, 128) * 128);
        qt_rng_words(p->u, (uint64_t)p->begin / 4, (p->end - p->begin) / 4, p->word);
    }
    return (const uint8_t *)p->word + (i - p->begin);
}

/* ---- codes --------------------------------------------------------------------------------------------------------------------------- */

enum { WIDTH = 16 }; /* numbers that are worked on at a time */

typedef struct coder {
    const qt_shiftq *p;
    const R         *x, *s;
    const uint8_t   *e; /* NULL: codes as they are */
    const qt_rng    *u;
    int              fraction, drop, bias; /* K; bits of u that are too many */
    R                limit;                /* Q 2^K */
    bool             bytes;
    void            *q;
} coder;

/* x is multiplied by mul, K bits included, and its code by shift; nearest: by mul, and divided by div. step 1: each number has its own. */
typedef struct factors {
    const R       *mul, *div;
    const int16_t *shift;
    int            step;
} factors;

typedef struct table {
    R       mul[SEGMENT + WIDTH], div[SEGMENT + WIDTH];
    int16_t shift[SEGMENT + WIDTH];
} table;

/* Factors of n numbers from place `at` of a row on; or of all of a row, n = 1. */
static factors factors_of(const coder *w, int64_t block, int64_t row, int64_t at, int64_t n, table *t)
{
    const qt_shiftq *p = w->p;
    const bool       each = along(p);
    const R          one = p->nearest ? 1 : (R)(1 << w->fraction);
    for (int64_t i = 0; i < n; i++) {
        int64_t key = each ? block * view_of(p).L + at + i : row;
        R       by = p->by ? one * p->by[!each ? row : p->pairs ? block : at + i] : one, m = by / w->s[key];
        t->mul[i] = p->nearest ? by : m < HUGE ? m : HUGE, t->div[i] = w->s[key];
        t->shift[i] = (int16_t)(w->e ? 1 << (p->groups - 1 - w->e[key]) : 1);
    }
    for (int i = 0; i < WIDTH; i++) t->mul[n + i] = 0, t->div[n + i] = 1, t->shift[n + i] = 0;
    return (factors){t->mul, t->div, t->shift, each};
}

/* Codes of WIDTH numbers. */
INLINE void encode(const coder *w, const R *x, const factors *f, const int step, const bool nearest, const uint8_t *u, int16_t *q)
{
    for (int l = 0; l < WIDTH; l++) {
        R       v = x[l] * f->mul[l * step];
        int32_t up = 0;
        if (nearest) v /= f->div[l * step];
        else up = (u[l] << 8 | u[l + 1]) >> w->drop;
        v = v >= -w->limit ? v <= w->limit ? v : w->limit : -w->limit; /* NaN ends as a number, too */
        q[l] = (int16_t)((((int32_t)RINT(v) + up) >> w->fraction) * f->shift[l * step] + w->bias);
    }
}

/* n numbers, a multiple of WIDTH */
INLINE void run_of(const coder *w, const R *x, const factors *all, const int step, const bool nearest, const uint8_t *u, int64_t n, char *q)
{
    factors f = *all;
    for (int64_t i = 0; i < n; i += WIDTH) {
        int16_t c[WIDTH];
        encode(w, x + i, &f, step, nearest, u + i, c);
        f.mul += step * WIDTH, f.div += step * WIDTH, f.shift += step * WIDTH;
        if (w->bytes)
            for (int l = 0; l < WIDTH; l++) q[i + l] = (char)c[l];
        else memcpy(q + 2 * i, c, sizeof c);
    }
}

QT_CLONES static void run_plain(const coder *w, const R *x, const factors *f, const uint8_t *u, int64_t n, char *q)
{
    if (f->step && w->p->nearest) run_of(w, x, f, 1, true, u, n, q);
    else if (f->step) run_of(w, x, f, 1, false, u, n, q);
    else if (w->p->nearest) run_of(w, x, f, 0, true, u, n, q);
    else run_of(w, x, f, 0, false, u, n, q);
}

#if defined(VECTORS) && !defined(QT_DOUBLE)
/* Eight codes in 32 bits. */
AVX2_INLINE __m256i eight(const coder *w, const R *x, __m256 mul, const uint8_t *u)
{
    __m256  v = _mm256_mul_ps(_mm256_loadu_ps(x), mul), limit = _mm256_set1_ps(w->limit);
    __m128i own = _mm_loadl_epi64((const void *)u), next = _mm_loadl_epi64((const void *)(u + 1));
    __m256i up = _mm256_cvtepu16_epi32(_mm_srl_epi16(_mm_unpacklo_epi8(next, own), _mm_cvtsi32_si128(w->drop)));
    v = _mm256_min_ps(_mm256_max_ps(v, _mm256_sub_ps(_mm256_setzero_ps(), limit)), limit); /* instead of a NaN max takes the limit */
    return _mm256_sra_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(v), up), _mm_cvtsi32_si128(w->fraction));
}

/* Sixteen in 16 bits, shifted, with the bias. */
AVX2_INLINE __m256i sixteen(const coder *w, const R *x, const factors *f, int64_t at, const int step, const uint8_t *u)
{
    __m256  one = _mm256_broadcast_ss(f->mul), low = step ? _mm256_loadu_ps(f->mul + at) : one, high = step ? _mm256_loadu_ps(f->mul + at + 8) : one;
    __m256i shift = step ? _mm256_loadu_si256((const void *)(f->shift + at)) : _mm256_set1_epi16(*f->shift);
    __m256i q = _mm256_permute4x64_epi64(_mm256_packs_epi32(eight(w, x, low, u), eight(w, x + 8, high, u + 8)), 0xD8);
    return _mm256_add_epi16(_mm256_mullo_epi16(q, shift), _mm256_set1_epi16((short)w->bias));
}

AVX2_INLINE void run_vectors(const coder *w, const R *x, const factors *f, const int step, const uint8_t *u, int64_t n, const bool bytes, char *q)
{
    for (int64_t i = 0; i < n; i += WIDTH) {
        __m256i c = sixteen(w, x + i, f, i, step, u + i), low = _mm256_and_si256(c, _mm256_set1_epi16(255));
        if (bytes) _mm_storeu_si128((void *)(q + i), _mm_packus_epi16(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
        else _mm256_storeu_si256((void *)(q + 2 * i), c);
    }
}

/* The same as run_plain, but for rounding to nearest. */
AVX2 static void run_avx2(const coder *w, const R *x, const factors *f, const uint8_t *u, int64_t n, char *q)
{
    if (f->step && w->bytes) run_vectors(w, x, f, 1, u, n, true, q);
    else if (f->step) run_vectors(w, x, f, 1, u, n, false, q);
    else if (w->bytes) run_vectors(w, x, f, 0, u, n, true, q);
    else run_vectors(w, x, f, 0, u, n, false, q);
}

static void run(const coder *w, const R *x, const factors *f, const uint8_t *u, int64_t n, char *q)
{
    (w->p->nearest || !__builtin_cpu_supports("avx2") ? run_plain : run_avx2)(w, x, f, u, n, q);
}
#else
static void run(const coder *w, const R *x, const factors *f, const uint8_t *u, int64_t n, char *q) { run_plain(w, x, f, u, n, q); }
#endif

/* n numbers from element i on. over: what stands behind them comes next, and may be read and written. */
static void piece(const coder *w, const factors *f, pool *u, int64_t i, int64_t n, bool over)
{
    const int64_t  size = w->bytes ? 1 : 2, whole = over ? (n + WIDTH - 1) / WIDTH * WIDTH : n / WIDTH * WIDTH, left = n - whole;
    const uint8_t *bits = w->p->nearest ? (const uint8_t *)u->word : bytes_at(u, i, n + WIDTH);
    char          *q = (char *)w->q + i * size, rest[2 * WIDTH];
    R              x[WIDTH] = {0};
    factors        last = {f->mul + whole * f->step, f->div + whole * f->step, f->shift + whole * f->step, f->step};
    run(w, w->x + i, f, bits, whole, q);
    if (left <= 0) return;
    memcpy(x, w->x + i + whole, (size_t)left * sizeof *x);
    run(w, x, &last, bits + whole, WIDTH, rest);
    memcpy(q + whole * size, rest, (size_t)(left * size));
}

/* Rows [begin, end) of a block, n numbers of each. */
static void rows(const coder *w, int64_t block, int64_t begin, int64_t end, int64_t at, int64_t n)
{
    const view v = view_of(w->p);
    const bool each = along(w->p);
    table      t;
    pool       u = {.u = w->u, .stop = (block * v.rows + end - 1) * v.L + at + n + 2 * WIDTH};
    factors    f;
    if (each) f = factors_of(w, block, begin, at, n, &t);
    for (int64_t r = begin; r < end; r++) {
        if (!each) f = factors_of(w, block, r, at, 1, &t);
        piece(w, &f, &u, (block * v.rows + r) * v.L + at, n, n == v.L && (end - r - 1) * n >= WIDTH);
    }
}

static void all(coder *w)
{
    const view    v = view_of(w->p);
    const int     bits = w->p->bits;
    const int64_t segments = QT_CHUNKS(v.L, SEGMENT), many = qt_max_i64(1, QT_GRAIN / v.L), parts = QT_CHUNKS(v.rows, many);
    w->fraction = w->p->nearest ? 0 : bits > 6 ? 22 - bits : 16, w->drop = 16 - w->fraction;
    w->limit = (R)(((1 << (bits - 1)) - 1) << w->fraction);
    QT_FOR_EACH(i, v.blocks * segments * parts, v.blocks * v.rows * v.L > QT_GRAIN) {
        int64_t row = i / segments % parts * many, at = i % segments * SEGMENT;
        rows(w, i / (segments * parts), row, qt_min_i64(row + many, v.rows), at, qt_min_i64(SEGMENT, v.L - at));
    }
}

void qt_shiftq_codes(const qt_shiftq *p, const R *x, const R *s, const qt_rng *u, int8_t *q)
{
    all(&(coder){.p = p, .x = x, .s = s, .u = u, .bytes = true, .q = q});
}

void qt_shiftq_shifted(const qt_shiftq *p, const R *x, const R *s, const uint8_t *e, const qt_rng *u, bool bytes, int bias, void *q)
{
    all(&(coder){.p = p, .x = x, .s = s, .e = e, .u = u, .bytes = bytes, .bias = bias, .q = q});
}

/* One row: each number has its own scale, or all have one. */
QT_CLONES static void row_values(const int8_t *q, const R *s, bool each, int64_t n, R *restrict y)
{
    if (each)
        for (int64_t i = 0; i < n; i++) y[i] = (R)q[i] * s[i];
    else
        for (int64_t i = 0; i < n; i++) y[i] = (R)q[i] * *s;
}

void qt_shiftq_values(const qt_shiftq *p, const int8_t *q, const R *s, R *y)
{
    const view v = view_of(p);
    const bool each = along(p);
    QT_FOR_CHUNKS(from, to, v.blocks * v.rows, qt_max_i64(1, QT_GRAIN / v.L))
    for (int64_t r = from; r < to; r++) row_values(q + r * v.L, s + (each ? r / v.rows * v.L : r % v.rows), each, v.L, y + r * v.L);
}
