/* See l1_norm.h. What makes it cheap:
 * - d does not change when a constant is added to all codes. So int8_t are read as uint8_t, top bit flipped, and there is one path.
 * - No |d| is ever computed: with p = the sum of d over all d > 0, A = 2 p - sum d, and both follow from the number and the sum of the codes
 *   above the mean, bytes compared with a byte.
 * - A channel has at most 256 different codes, so its output is a table, as long as the codes it holds are apart.
 * Integer sums are exact: any order of them gives the same bits. */
#include "kernels/l1_norm.h"
#include "base/par.h"
#include <math.h>

enum { BLOCK = 1 << 16, FRACTION = QT_L1_FRACTION, MAGNITUDE = 30, ROOM = 60 }; /* BLOCK bytes or products of bytes add up within 31 bits */

static uint8_t flip_of(const qt_l1_codes *x) { return x->is_signed ? 0x80 : 0; }
static int     shift_of(const qt_l1_codes *x) { return x->is_signed ? -128 : 0; } /* code = flipped byte + this */

/* For each block [q, q + size) of the runs. */
#define FOR_BLOCKS(x, at, size)                                        \
    for (int64_t run_ = 0; run_ < (x)->runs; run_++)                   \
        for (int64_t from_ = 0; from_ < (x)->length; from_ += BLOCK)   \
            for (int64_t at = run_ * (x)->step + from_, size = qt_min_i64(BLOCK, (x)->length - from_), once_ = 1; once_; once_ = 0)

/* ---- statistics ------------------------------------------------------------------------------------------------------------------ */

enum { SHORT = 256 }; /* so many bytes add up within 16 bits, which vectors have twice as many lanes for */

QT_CLONES static int32_t block_sum(const uint8_t *q, int64_t n, uint8_t flip)
{
    int32_t sum = 0;
    for (int64_t i = 0; i < n; i += SHORT) {
        uint16_t part = 0;
        for (int64_t j = i; j < qt_min_i64(i + SHORT, n); j++) part += (uint8_t)(q[j] ^ flip);
        sum += part;
    }
    return sum;
}

QT_CLONES static void block_range(const uint8_t *q, int64_t n, uint8_t flip, uint8_t *lowest, uint8_t *highest)
{
    uint8_t lo = *lowest, hi = *highest;
    for (int64_t i = 0; i < n; i++) {
        const uint8_t u = (uint8_t)(q[i] ^ flip);
        lo = u < lo ? u : lo;
        hi = u > hi ? u : hi;
    }
    *lowest = lo, *highest = hi;
}

/* number and sum of the codes above `level` */
QT_CLONES static void block_above(const uint8_t *q, int64_t n, uint8_t flip, uint8_t level, int32_t *number, int32_t *sum)
{
    int32_t k = 0, s = 0;
    for (int64_t i = 0; i < n; i += SHORT) {
        uint16_t some = 0, part = 0;
        for (int64_t j = i; j < qt_min_i64(i + SHORT, n); j++) {
            const uint8_t u = (uint8_t)(q[j] ^ flip);
            some += u > level;
            part += u > level ? u : 0;
        }
        k += some, s += part;
    }
    *number = k, *sum = s;
}

void qt_l1_take_stats(const qt_l1_codes *x, qt_l1_stats *s)
{
    const uint8_t *q = x->q, flip = flip_of(x);
    uint8_t        lowest = 255, highest = 0;
    int64_t        sum = 0, number = 0, above = 0;
    const int64_t  n = x->runs * x->length;
    FOR_BLOCKS(x, at, size)
    {
        sum += block_sum(q + at, size, flip);
        block_range(q + at, size, flip, &lowest, &highest);
    }
    const int64_t mean = ((sum << (FRACTION + 1)) + n) / (2 * n); /* sum >= 0: to the nearest */
    FOR_BLOCKS(x, at, size)
    {
        int32_t k, a;
        block_above(q + at, size, flip, (uint8_t)(mean >> FRACTION), &k, &a);
        number += k, above += a;
    }
    const int64_t all = (sum << FRACTION) - n * mean, positive = (above << FRACTION) - number * mean;
    *s = (qt_l1_stats){n, mean + ((int64_t)shift_of(x) * (1 << FRACTION)), 2 * positive - all, number, lowest + shift_of(x), highest + shift_of(x)};
}

static int64_t distance(const qt_l1_stats *s, int code) { return (int64_t)code * (1 << FRACTION) - s->mean; }

double qt_l1_sigma(const qt_l1_stats *s) { return ldexp((double)s->total / (double)s->n, -FRACTION); }

double qt_l1_reach(const qt_l1_stats *s)
{
    const int64_t d = qt_max_i64(distance(s, s->highest), -distance(s, s->lowest));
    return s->total ? (double)d * (double)s->n / (double)s->total : 0;
}

/* ---- forward --------------------------------------------------------------------------------------------------------------------- */

/* x 2^shift to the nearest, within 2^bits */
static int64_t fixed(double x, int shift, int bits)
{
    const double v = rint(ldexp(x, shift)), most = ldexp(1, bits);
    return (int64_t)(v > most ? most : v < -most ? -most : v);
}

static int exponent(double x)
{
    int e;
    frexp(x, &e);
    return e;
}

/* Fraction bits that leave a multiplier MAGNITUDE bits and an addend ROOM. */
static int shift_for(double mul, double add)
{
    const int shift = (int)qt_min_i64(MAGNITUDE - exponent(mul), ROOM - exponent(add));
    return shift < 1 ? 1 : shift > ROOM ? ROOM : shift;
}

static int32_t rounded(int64_t v, int shift, int32_t lo, int32_t hi)
{
    const int64_t code = (v + ((int64_t)1 << (shift - 1))) >> shift;
    return (int32_t)(code < lo ? lo : code > hi ? hi : code);
}

qt_l1_map qt_l1_map_of(const qt_l1_stats *s, double gamma, double beta, double scale, int zero, int lo, int hi)
{
    const double mul = s->total ? gamma * (double)s->n / ((double)s->total * scale) : 0, add = beta / scale + zero;
    const int    shift = shift_for(mul, add);
    return (qt_l1_map){fixed(mul, shift, MAGNITUDE), fixed(add, shift, ROOM), shift, lo, hi};
}

int32_t qt_l1_map_at(const qt_l1_map *m, int64_t d) { return rounded(d * m->mul + m->add, m->shift, m->lo, m->hi); }

/* table[flipped byte] for the codes that occur */
static void tabulate(const qt_l1_codes *x, const qt_l1_stats *s, const qt_l1_map *m, int32_t table[256])
{
    for (int code = s->lowest; code <= s->highest; code++) table[code - shift_of(x)] = qt_l1_map_at(m, distance(s, code));
}

void qt_l1_apply(const qt_l1_codes *x, const qt_l1_stats *s, const qt_l1_map *m, void *out)
{
    const uint8_t *q = x->q, flip = flip_of(x);
    uint8_t       *y = out, byte[256];
    int32_t        table[256] = {0};
    tabulate(x, s, m, table);
    for (int k = 0; k < 256; k++) byte[k ^ flip] = (uint8_t)table[k];
    FOR_BLOCKS(x, at, size)
    for (int64_t i = at; i < at + size; i++) y[i] = byte[q[i]];
}

void qt_l1_gains_of(const R *gamma, const R *beta, int64_t n, double scale, int zero, int lo, int hi, qt_l1_gains *g)
{
    double mul = 0, add = 0;
    for (int64_t j = 0; j < n; j++) {
        mul = fmax(mul, fabs(gamma ? (double)gamma[j] : 1) / scale);
        add = fmax(add, fabs((beta ? (double)beta[j] : 0) / scale + zero));
    }
    mul = ldexp(mul, -FRACTION); /* t has that many bits */
    g->shift = shift_for(mul, add), g->lo = lo, g->hi = hi;
    for (int64_t j = 0; j < n; j++) {
        g->mul[j] = (int32_t)fixed((gamma ? (double)gamma[j] : 1) / scale, g->shift - FRACTION, MAGNITUDE);
        g->add[j] = fixed((beta ? (double)beta[j] : 0) / scale + zero, g->shift, ROOM);
    }
}

QT_CLONES static void row_apply(uint8_t *restrict y, const uint8_t *restrict q, int64_t n, const int32_t *restrict t, const qt_l1_gains *g)
{
    const int32_t *restrict mul = g->mul;
    const int64_t *restrict add = g->add;
    const int     shift = g->shift;
    const int32_t lo = g->lo, hi = g->hi;
    for (int64_t j = 0; j < n; j++) y[j] = (uint8_t)rounded((int64_t)t[q[j]] * mul[j] + add[j], shift, lo, hi);
}

void qt_l1_apply_row(const qt_l1_codes *x, const qt_l1_stats *s, const qt_l1_gains *g, void *out)
{
    const int32_t   most = ((int32_t)1 << MAGNITUDE);
    const qt_l1_map fine = qt_l1_map_of(s, 1, 0, ldexp(1, -FRACTION), 0, -most, most);
    int32_t         table[256] = {0}, t[256];
    tabulate(x, s, &fine, table);
    for (int k = 0; k < 256; k++) t[k ^ flip_of(x)] = table[k];
    row_apply(out, x->q, x->length, t, g);
}

/* ---- backward -------------------------------------------------------------------------------------------------------------------- */

int64_t qt_l1_sign_bytes(const qt_l1_codes *x) { return x->runs * ((x->length + 7) / 8); }

/* 8 signs a byte, the first in the lowest bit */
QT_CLONES static void run_signs(uint8_t *restrict sign, const uint8_t *restrict q, int64_t n, uint8_t flip, uint8_t level)
{
    for (int64_t i = 0; i < n / 8; i++) {
        unsigned bits = 0;
        for (int k = 0; k < 8; k++) bits |= (unsigned)((uint8_t)(q[8 * i + k] ^ flip) > level) << k;
        sign[i] = (uint8_t)bits;
    }
    if (n % 8) sign[n / 8] = 0;
    for (int64_t i = n / 8 * 8; i < n; i++) sign[i / 8] |= (uint8_t)(((uint8_t)(q[i] ^ flip) > level) << i % 8);
}

void qt_l1_take_signs(const qt_l1_codes *x, const qt_l1_stats *s, uint8_t *sign)
{
    const uint8_t *q = x->q, level = (uint8_t)((s->mean >> FRACTION) - shift_of(x));
    for (int64_t k = 0; k < x->runs; k++) run_signs(sign + k * ((x->length + 7) / 8), q + k * x->step, x->length, flip_of(x), level);
}

QT_CLONES static void block_sums(const int8_t *g, const int8_t *t, int64_t n, int32_t *sum, int32_t *dot)
{
    int32_t s = 0, d = 0;
    for (int64_t i = 0; i < n; i++) s += g[i], d += (int16_t)(g[i] * t[i]);
    *sum = s, *dot = d;
}

static int64_t ones(const uint8_t *bits, int64_t n)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += __builtin_popcount(bits[i]);
    return sum;
}

void qt_l1_back_sums(const int8_t *g, const int8_t *t, const uint8_t *sign, int64_t runs, int64_t step, int64_t length, qt_l1_sums *s)
{
    const qt_l1_codes x = {g, true, runs, step, length};
    *s = (qt_l1_sums){runs * length, 0, 0, sign ? ones(sign, qt_l1_sign_bytes(&x)) : 0};
    FOR_BLOCKS(&x, at, size)
    {
        int32_t sum, dot;
        block_sums(g + at, t + at, size, &sum, &dot);
        s->g += sum, s->gt += dot;
    }
}

/* dx += gain (g - taken[sign]) */
QT_CLONES static void run_backward(R *restrict dx, const int8_t *restrict g, const uint8_t *restrict sign, int64_t n, R gain, R below, R above)
{
    for (int64_t i = 0; i < n / 8; i++)
        for (int k = 0; k < 8; k++) dx[8 * i + k] += gain * ((R)g[8 * i + k] - (sign[i] & 1 << k ? above : below));
    for (int64_t i = n / 8 * 8; i < n; i++) dx[i] += gain * ((R)g[i] - (sign[i / 8] & 1 << i % 8 ? above : below));
}

void qt_l1_backward(const int8_t *g, const uint8_t *sign, int64_t runs, int64_t step, int64_t length, const qt_l1_sums *s, double gain,
                    double t_scale, R *dx)
{
    const double n = (double)s->n, m1 = (double)s->g / n, m2 = t_scale * (double)s->gt / n, m3 = (double)(2 * s->above - s->n) / n;
    const R      below = (R)(m1 + m2 * (-1 - m3)), above = (R)(m1 + m2 * (1 - m3));
    for (int64_t k = 0; k < runs; k++)
        run_backward(dx + k * step, g + k * step, sign + k * ((length + 7) / 8), length, (R)gain, below, above);
}
