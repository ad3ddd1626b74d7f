/* See shiftq.h. Ranges and codes are one pass over x each; with B = 1 (a fully connected layer) the keys of neighbours differ and their
 * scales are read along, otherwise a run of B numbers is worked on at a time. */
#include "kernels/shiftq.h"
#include "base/par.h"
#include <math.h>
#include <string.h>

#ifdef QT_DOUBLE
#define RINT rint
#define FLOOR floor
#else
#define RINT rintf
#define FLOOR floorf
#endif
#define INLINE static inline __attribute__((always_inline))

enum { BLOCK = 256 }; /* numbers that are worked on at a time */

/* ---- random bits: 16 a number, Philox 4x32-10 as in base/rng.c ---------------------------------------------------------------------- */

enum { LANES = BLOCK / 8 }; /* Philox blocks side by side, each of 8 numbers */

/* Numbers [at, at + BLOCK) of the stream, at a multiple of BLOCK. out is their first words, then their second ones ... */
QT_CLONES static void draw(const qt_rng *u, uint64_t at, uint32_t out[4 * LANES])
{
    uint32_t *restrict c0 = out, *restrict c1 = c0 + LANES, *restrict c2 = c1 + LANES, *restrict c3 = c2 + LANES;
    uint32_t k0 = (uint32_t)u->seed, k1 = (uint32_t)(u->seed >> 32);
    for (uint32_t l = 0; l < LANES; l++) {
        c0[l] = (uint32_t)(at / 8) + l, c1[l] = (uint32_t)(at / 8 >> 32);
        c2[l] = (uint32_t)u->stream, c3[l] = (uint32_t)(u->stream >> 32);
    }
    for (int round = 0; round < 10; round++) {
        for (int l = 0; l < LANES; l++) {
            uint32_t a = c0[l], b = c2[l];
            c0[l] = (uint32_t)((uint64_t)0xCD9E8D57u * b >> 32) ^ c1[l] ^ k0, c1[l] = 0xCD9E8D57u * b;
            c2[l] = (uint32_t)((uint64_t)0xD2511F53u * a >> 32) ^ c3[l] ^ k1, c3[l] = 0xD2511F53u * a;
        }
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
}

/* ---- ranges -------------------------------------------------------------------------------------------------------------------------- */

int64_t qt_shiftq_keys(const qt_shiftq *p) { return p->pairs ? p->A * p->B : p->C; }

INLINE R larger(R top, R x)
{
    R v = x < 0 ? -x : x;
    return (v > top) | (v != v) ? v : top; /* a NaN stays */
}

QT_CLONES static void raise_each(R *restrict r, const R *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) r[i] = larger(r[i], x[i]);
}

QT_CLONES static R largest(R top, const R *x, int64_t n)
{
    R       lane[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) lane[l] = larger(lane[l], x[i + l]);
    for (; i < n; i++) lane[0] = larger(lane[0], x[i]);
    for (int l = 0; l < 16; l++) top = larger(top, lane[l]);
    return top;
}

/* max |x| of each key into r. As rounding keeps order, the factor may come in afterwards. */
static void ranges(const qt_shiftq *p, const R *x, R *r)
{
    const int64_t A = p->A, C = p->C, B = p->B, strip = B == 1 ? 64 : 1;
    const bool    many = A * C * B > QT_GRAIN;
    memset(r, 0, (size_t)qt_shiftq_keys(p) * sizeof *r);
    if (p->pairs) {
        QT_FOR_EACH(a, A, many) {
            if (B == 1) r[a] = largest(0, x + a * C, C);
            for (int64_t c = 0; B > 1 && c < C; c++) raise_each(r + a * B, x + (a * C + c) * B, B);
            for (int64_t b = 0; p->by && b < B; b++) r[a * B + b] *= p->by[a];
        }
        return;
    }
    QT_FOR_EACH(k, QT_CHUNKS(C, strip), many) {
        int64_t c = k * strip, width = qt_min_i64(strip, C - c);
        for (int64_t a = 0; a < A; a++) {
            if (B == 1) raise_each(r + c, x + a * C + c, width);
            else r[c] = largest(r[c], x + (a * C + c) * B, B);
        }
        for (int64_t i = c; p->by && i < c + width; i++) r[i] *= p->by[i];
    }
}

/* floor(log2(top / r)) of two positive numbers, exactly: with top = m1 2^x1 and r = m 2^x, 1/2 <= m < 1, it is x1 - x, less 1 if m > m1. */
static int octaves(R top, R r)
{
    int    x1, x;
    double m1 = frexp((double)top, &x1), m = frexp((double)r, &x);
    return x1 - x - (m > m1);
}

R qt_shiftq_scales(const qt_shiftq *p, const R *x, uint8_t *e, R *s)
{
    const int64_t keys = qt_shiftq_keys(p);
    const R       Q = (R)((1 << (p->bits - 1)) - 1);
    ranges(p, x, s);
    R top = largest(0, s, keys), s0 = top / Q;
    if (s0 == 0) s0 = 1; /* nothing, or so little that it has no scale */
    for (int64_t k = 0; k < keys; k++) {
        int g = s[k] > 0 && s0 < INFINITY ? octaves(top, s[k]) : p->groups - 1;
        g = g < p->groups - 1 ? g : p->groups - 1;
        if (!p->exact) e[k] = (uint8_t)g, s[k] = (R)ldexp((double)s0, -g);
        else s[k] = s[k] / Q > 0 ? s[k] / Q : 1;
    }
    return s0;
}

/* ---- codes --------------------------------------------------------------------------------------------------------------------------- */

/* n codes; m, s and f, what x is multiplied by, divided by, and what its code is multiplied by, are n numbers each, or one (step 0). */
INLINE void encode(int32_t *q, const R *x, const R *m, const R *s, const int32_t *f, int64_t step, const uint16_t *u, R Q, bool nearest, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        R v = x[i] * m[i * step] / s[i * step];
        v = nearest ? RINT(v) : FLOOR(v + ((R)u[i] + (R)0.5) * (R)0x1p-16);
        q[i] = (int32_t)(v >= -Q ? v <= Q ? v : Q : -Q) * f[i * step]; /* NaN ends as a number, too */
    }
}

#define ENCODE(name, step, nearest)                                                                                                \
    QT_CLONES static void name(int32_t *q, const R *x, const R *m, const R *s, const int32_t *f, const uint16_t *u, R Q, int64_t n) \
    {                                                                                                                              \
        encode(q, x, m, s, f, step, u, Q, nearest, n);                                                                             \
    }
ENCODE(encode_run, 0, false)
ENCODE(encode_run_nearest, 0, true)
ENCODE(encode_each, 1, false)
ENCODE(encode_each_nearest, 1, true)

QT_CLONES static void to_bytes(uint8_t *to, const int32_t *q, int bias, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = (uint8_t)(q[i] + bias);
}

QT_CLONES static void to_words(int16_t *to, const int32_t *q, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = (int16_t)q[i];
}

typedef struct walk {
    const qt_shiftq *p;
    const R         *x, *s;
    const uint8_t   *e; /* NULL: codes as they are */
} walk;

/* n numbers from `at` on, of one a, and of one key unless the keys of neighbours differ. */
static void piece(const walk *w, int64_t at, int64_t n, const uint16_t *u, int32_t *q)
{
    const qt_shiftq *p = w->p;
    const int64_t    a = at / (p->C * p->B), c = at / p->B % p->C, key = p->pairs ? a * p->B + at % p->B : c;
    const bool       each = p->pairs ? p->B > 1 : p->B == 1;
    const R          Q = (R)((1 << (p->bits - 1)) - 1);
    R                m[BLOCK];
    int32_t          f[BLOCK];
    for (int64_t i = 0; i < (each ? n : 1); i++) {
        m[i] = !p->by ? 1 : p->by[p->pairs ? a : key + i];
        f[i] = w->e ? 1 << (p->groups - 1 - w->e[key + i]) : 1;
    }
    if (each) (p->nearest ? encode_each_nearest : encode_each)(q, w->x + at, m, w->s + key, f, u, Q, n);
    else (p->nearest ? encode_run_nearest : encode_run)(q, w->x + at, m, w->s + key, f, u, Q, n);
}

/* Numbers [from, to) of a block that begins at `from`, a multiple of BLOCK. */
static void block(const walk *w, int64_t from, int64_t to, const qt_rng *u, int32_t *q)
{
    const int64_t run = w->p->B > 1 ? w->p->B : w->p->C;
    uint32_t      words[4 * LANES];
    uint16_t      bits[BLOCK] = {0};
    if (!w->p->nearest) draw(u, (uint64_t)from, words), memcpy(bits, words, sizeof bits);
    for (int64_t at = from, stop; at < to; at = stop) {
        stop = qt_min_i64(to, (at / run + 1) * run);
        piece(w, at, stop - at, bits + (at - from), q + (at - from));
    }
}

static void all(const walk *w, const qt_rng *u, bool bytes, int bias, void *q)
{
    const int64_t n = w->p->A * w->p->C * w->p->B;
    QT_FOR_CHUNKS(begin, end, n, QT_GRAIN)
    for (int64_t from = begin; from < end; from += BLOCK) {
        int64_t to = qt_min_i64(from + BLOCK, end);
        int32_t code[BLOCK];
        block(w, from, to, u, code);
        if (bytes) to_bytes((uint8_t *)q + from, code, bias, to - from);
        else to_words((int16_t *)q + from, code, to - from);
    }
}

void qt_shiftq_codes(const qt_shiftq *p, const R *x, const R *s, const qt_rng *u, int8_t *q) { all(&(walk){p, x, s, NULL}, u, true, 0, q); }

void qt_shiftq_shifted(const qt_shiftq *p, const R *x, const R *s, const uint8_t *e, const qt_rng *u, bool bytes, int bias, void *q)
{
    all(&(walk){p, x, s, e}, u, bytes, bias, q);
}
