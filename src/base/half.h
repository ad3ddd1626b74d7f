/* Half precision (IEEE 754 binary16) in memory, as file formats and runtimes keep it: 1 sign bit, 5 of exponent, 10 of mantissa, the last
 * below 2^-14 with the fixed unit 2^-24. Both functions are exact; to half it is the nearest number, ties to even, infinity from 65520 on. */
#ifndef QT_BASE_HALF_H
#define QT_BASE_HALF_H
#include <stdint.h>
#include <string.h>

static inline uint32_t qt_float_bits(float f)
{
    uint32_t b;
    memcpy(&b, &f, sizeof b);
    return b;
}

static inline float qt_float_of_bits(uint32_t b)
{
    float f;
    memcpy(&f, &b, sizeof f);
    return f;
}

/* The exponents of half count from -15, those of float from -127: moved into place, the number is 2^112 too small. */
static inline float qt_half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    uint32_t bits = rest >= 0x7c00u << 13 ? rest + (224u << 23) : qt_float_bits(qt_float_of_bits(rest) * 0x1p112f);
    return qt_float_of_bits(sign | bits);
}

/* Below 2^-14 adding 0.5, whose last bit is worth 2^-24, rounds; above, half of the lost bits' unit less one, and one more where the last
 * bit that stays is odd. A NaN stays one, quiet. */
static inline uint16_t qt_half_from_float(float f)
{
    uint32_t b = qt_float_bits(f), sign = b >> 16 & 0x8000, a = b & 0x7fffffff, small = qt_float_bits(qt_float_of_bits(a) + 0.5f) - 0x3f000000;
    uint32_t normal = (a + 0xfff + (a >> 13 & 1) - (112u << 23)) >> 13, nan = 0x7e00 | (a >> 13 & 0x1ff);
    return (uint16_t)(sign | (a > 0x7f800000 ? nan : a >= 0x477ff000 ? 0x7c00 : a < 0x38800000 ? small : normal));
}

/* The nearest half precision number, as a float: qt_half_to_float(qt_half_from_float(f)) for loops, which it leaves in vector registers. */
static inline float qt_half_round(float f)
{
    const uint32_t b = qt_float_bits(f), sign = b & 0x80000000u, a = b ^ sign, normal = (a + 0xfff + (a >> 13 & 1)) & 0xffffe000u;
    const uint32_t small = qt_float_bits((qt_float_of_bits(a) + 0.5f) - 0.5f);
    const uint32_t is_small = 0u - (a < 0x38800000u), is_large = 0u - (a >= 0x477ff000u), is_nan = 0u - (a > 0x7f800000u);
    const uint32_t large = (0x7f800000u & ~is_nan) | ((b | 0x400000u) & 0xffffe000u & is_nan);
    return qt_float_of_bits(sign | (small & is_small) | (large & is_large) | (normal & ~is_small & ~is_large));
}
#endif
