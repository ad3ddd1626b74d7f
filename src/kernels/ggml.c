/* Block types of ggml: see ggml.h. Numbers are little-endian; d is the scale of the block in half precision.
 *
 *     Q8_0   32   d, int8 q[32]
 *     Q4_0   32   d, 16 bytes: byte j has code j + 8 in its low half, code j + 16 + 8 in its high half
 *     Q2_0   64   d, 16 bytes: byte j has codes 4 j .. 4 j + 3, each + 1, from the low bits up
 *     Q1_0  128   d, 16 bytes: a bit a code, from the low bits up, 1 for +1 and 0 for -1
 *     TQ2_0 256   64 bytes, d: in each half of 128 codes byte m has codes m, m + 32, m + 64, m + 96, each + 1, from the low bits up
 *     TQ1_0 256   52 bytes, d: five codes a byte. With digits t = code + 1 of base 3, the first most significant, v = sum t_i 3^(4-i) < 243,
 *                 the byte is ceil(256 v / 243): 256 v / 243 is the fraction v / 243 = 0.t0 t1 t2 t3 t4 in base 3, so that times 3 each digit
 *                 in turn comes out above bit 8, whatever was rounded up. Bytes 0..31 have codes m + 32 n, bytes 32..47 codes 160 + m + 16 n,
 *                 and bytes 48..51 four codes 240 + m + 4 n with 0 for the fifth digit.
 *
 * Left out: reading the types whose codes are no multiples of one scale (the K and I families, MXFP4, NVFP4); they are measured only. */
#include "kernels/ggml.h"
#include "base/half.h"
#include "base/par.h"
#include <math.h>
#include <string.h>
#include <strings.h>

static void put_half(uint8_t *p, uint16_t h) { p[0] = (uint8_t)h, p[1] = (uint8_t)(h >> 8); }
static uint16_t get_half(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

/* ---- blocks ---------------------------------------------------------------------------------------------------------------------- */

static void pack_q8_0(uint8_t *out, const int32_t *code, uint16_t d)
{
    put_half(out, d);
    for (int i = 0; i < 32; i++) out[2 + i] = (uint8_t)code[i];
}

static void unpack_q8_0(const uint8_t *in, int32_t *code, uint16_t *d)
{
    *d = get_half(in);
    for (int i = 0; i < 32; i++) code[i] = (int8_t)in[2 + i];
}

static void pack_q4_0(uint8_t *out, const int32_t *code, uint16_t d)
{
    put_half(out, d);
    for (int j = 0; j < 16; j++) out[2 + j] = (uint8_t)(code[j] + 8 + 16 * (code[j + 16] + 8));
}

static void unpack_q4_0(const uint8_t *in, int32_t *code, uint16_t *d)
{
    *d = get_half(in);
    for (int j = 0; j < 16; j++) code[j] = (in[2 + j] & 15) - 8, code[j + 16] = (in[2 + j] >> 4) - 8;
}

static void pack_q2_0(uint8_t *out, const int32_t *code, uint16_t d)
{
    put_half(out, d);
    memset(out + 2, 0, 16);
    for (int i = 0; i < 64; i++) out[2 + i / 4] |= (uint8_t)((code[i] + 1) << 2 * (i % 4));
}

static void unpack_q2_0(const uint8_t *in, int32_t *code, uint16_t *d)
{
    *d = get_half(in);
    for (int i = 0; i < 64; i++) code[i] = (in[2 + i / 4] >> 2 * (i % 4) & 3) - 1;
}

static void pack_q1_0(uint8_t *out, const int32_t *code, uint16_t d)
{
    put_half(out, d);
    memset(out + 2, 0, 16);
    for (int i = 0; i < 128; i++) out[2 + i / 8] |= (uint8_t)((code[i] > 0) << i % 8);
}

static void unpack_q1_0(const uint8_t *in, int32_t *code, uint16_t *d)
{
    *d = get_half(in);
    for (int i = 0; i < 128; i++) code[i] = in[2 + i / 8] >> i % 8 & 1 ? 1 : -1;
}

/* Byte m of half h has code at_tq2(h, m, l) in its bits 2 l and 2 l + 1. */
static int at_tq2(int h, int m, int l) { return 128 * h + 32 * l + m; }

static void pack_tq2_0(uint8_t *out, const int32_t *code, uint16_t d)
{
    memset(out, 0, 64);
    for (int i = 0; i < 64; i++)
        for (int l = 0; l < 4; l++) out[i] |= (uint8_t)((code[at_tq2(i / 32, i % 32, l)] + 1) << 2 * l);
    put_half(out + 64, d);
}

static void unpack_tq2_0(const uint8_t *in, int32_t *code, uint16_t *d)
{
    for (int i = 0; i < 64; i++)
        for (int l = 0; l < 4; l++) code[at_tq2(i / 32, i % 32, l)] = (in[i] >> 2 * l & 3) - 1;
    *d = get_half(in + 64);
}

/* Digit n of byte i is code at_tq1(i, n); the last four bytes have four digits only. */
static int digits_tq1(int i) { return i < 48 ? 5 : 4; }
static int at_tq1(int i, int n) { return i < 32 ? i + 32 * n : i < 48 ? 160 + i - 32 + 16 * n : 240 + i - 48 + 4 * n; }

static void pack_tq1_0(uint8_t *out, const int32_t *code, uint16_t d)
{
    for (int i = 0; i < 52; i++) {
        int v = 0;
        for (int n = 0; n < 5; n++) v = 3 * v + (n < digits_tq1(i) ? code[at_tq1(i, n)] + 1 : 0);
        out[i] = (uint8_t)((256 * v + 242) / 243);
    }
    put_half(out + 52, d);
}

static void unpack_tq1_0(const uint8_t *in, int32_t *code, uint16_t *d)
{
    for (int i = 0; i < 52; i++) {
        unsigned fraction = in[i]; /* of 256 */
        for (int n = 0; n < digits_tq1(i); n++, fraction &= 255) code[at_tq1(i, n)] = (int)((fraction *= 3) >> 8) - 1;
    }
    *d = get_half(in + 52);
}

/* ---- the types ------------------------------------------------------------------------------------------------------------------- */

#define CODED(name, low, id, block, bytes, lo, hi) {name, id, block, bytes, lo, hi, pack_##low, unpack_##low}
#define OTHER(name, id, block, bytes) {name, id, block, bytes, 0, 0, NULL, NULL}
static const qt_ggml types[] = {
    OTHER("F32", QT_GGML_F32, 1, 4),
    OTHER("F16", QT_GGML_F16, 1, 2),
    CODED("Q4_0", q4_0, QT_GGML_Q4_0, 32, 18, -8, 7),
    OTHER("Q4_1", 3, 32, 20),
    OTHER("Q5_0", 6, 32, 22),
    OTHER("Q5_1", 7, 32, 24),
    CODED("Q8_0", q8_0, QT_GGML_Q8_0, 32, 34, -128, 127),
    OTHER("Q8_1", 9, 32, 36),
    OTHER("Q2_K", 10, 256, 84),
    OTHER("Q3_K", 11, 256, 110),
    OTHER("Q4_K", 12, 256, 144),
    OTHER("Q5_K", 13, 256, 176),
    OTHER("Q6_K", 14, 256, 210),
    OTHER("Q8_K", 15, 256, 292),
    OTHER("IQ2_XXS", 16, 256, 66),
    OTHER("IQ2_XS", 17, 256, 74),
    OTHER("IQ3_XXS", 18, 256, 98),
    OTHER("IQ1_S", 19, 256, 50),
    OTHER("IQ4_NL", 20, 32, 18),
    OTHER("IQ3_S", 21, 256, 110),
    OTHER("IQ2_S", 22, 256, 82),
    OTHER("IQ4_XS", 23, 256, 136),
    OTHER("I8", 24, 1, 1),
    OTHER("I16", 25, 1, 2),
    OTHER("I32", 26, 1, 4),
    OTHER("I64", 27, 1, 8),
    OTHER("F64", 28, 1, 8),
    OTHER("IQ1_M", 29, 256, 56),
    OTHER("BF16", QT_GGML_BF16, 1, 2),
    CODED("TQ1_0", tq1_0, QT_GGML_TQ1_0, 256, 54, -1, 1),
    CODED("TQ2_0", tq2_0, QT_GGML_TQ2_0, 256, 66, -1, 1),
    OTHER("MXFP4", 39, 32, 17),
    OTHER("NVFP4", 40, 64, 36),
    CODED("Q1_0", q1_0, QT_GGML_Q1_0, 128, 18, -1, 1),
    CODED("Q2_0", q2_0, QT_GGML_Q2_0, 64, 18, -1, 2),
};
enum { TYPES = sizeof types / sizeof *types };

const qt_ggml *qt_ggml_of(int id)
{
    for (int i = 0; i < TYPES; i++)
        if (types[i].id == id) return &types[i];
    return NULL;
}

const qt_ggml *qt_ggml_find(const char *name)
{
    for (int i = 0; i < TYPES; i++)
        if (!strcasecmp(types[i].name, name)) return &types[i];
    return NULL;
}

double qt_ggml_bits(const qt_ggml *t) { return 8 * (double)t->bytes / (double)t->block; }

/* ---- rows ------------------------------------------------------------------------------------------------------------------------ */

static bool fits(const qt_ggml *t, const int32_t *code, R scale)
{
    bool good = (float)scale == scale && isfinite(scale) && qt_half_to_float(qt_half_from_float((float)scale)) == (float)scale;
    for (int64_t i = 0; i < t->block; i++) good &= (code[i] >= t->lo) & (code[i] <= t->hi) & (code[i] != 0 || t->id != QT_GGML_Q1_0);
    return good;
}

bool qt_ggml_pack(const qt_ggml *t, int64_t n, const int32_t *code, const R *scale, int64_t inner, int64_t count, uint8_t *out, int64_t *bad)
{
    int64_t blocks = n / t->block, first = blocks;
    QT_PRAGMA(omp parallel for schedule(static) reduction(min : first) if (n > 1 << 18))
    for (int64_t b = 0; b < blocks; b++) {
        const int32_t *c = code + b * t->block;
        R              s = scale[b * t->block / inner % count];
        if (fits(t, c, s)) t->pack(out + b * t->bytes, c, qt_half_from_float((float)s));
        else first = qt_min_i64(first, b);
    }
    return (*bad = first) == blocks;
}

void qt_ggml_unpack(const qt_ggml *t, int64_t n, const uint8_t *in, int32_t *code, R *scale)
{
    QT_FOR_EACH(b, n / t->block, n > 1 << 18) {
        uint16_t d;
        t->unpack(in + b * t->bytes, code + b * t->block, &d);
        scale[b] = (R)qt_half_to_float(d);
    }
}

static void read_block(const qt_ggml *t, const uint8_t *in, R *x)
{
    int32_t  code[QT_GGML_LONGEST];
    uint16_t d;
    t->unpack(in, code, &d);
    for (int64_t i = 0; i < t->block; i++) x[i] = (R)((float)code[i] * qt_half_to_float(d));
}

static R read_one(int id, const uint8_t *in)
{
    uint32_t b = 0;
    memcpy(&b, in, id == QT_GGML_F32 ? 4 : 2);
    return (R)(id == QT_GGML_F32 ? qt_float_of_bits(b) : id == QT_GGML_F16 ? qt_half_to_float((uint16_t)b) : qt_float_of_bits(b << 16));
}

bool qt_ggml_read(const qt_ggml *t, int64_t n, const uint8_t *in, R *x)
{
    if (!t->pack && t->id != QT_GGML_F32 && t->id != QT_GGML_F16 && t->id != QT_GGML_BF16) return false;
    QT_FOR_EACH(b, n / t->block, n > 1 << 18) {
        if (t->pack) read_block(t, in + b * t->bytes, x + b * t->block);
        else x[b] = read_one(t->id, in + b * t->bytes);
    }
    return true;
}

void qt_ggml_write(const qt_ggml *t, int64_t n, const R *x, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        float f = (float)x[i];
        if (t->id == QT_GGML_F32) memcpy(out + 4 * i, &f, 4);
        else put_half(out + 2 * i, qt_half_from_float(f));
    }
}
