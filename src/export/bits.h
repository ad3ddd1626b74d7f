/* Codes as they stand in files: numbers of 1 to 8 bits one after the other, from the lowest bit of each byte up, each row from a new byte. The
 * order is that of the matrix, so that any language can read them in a few lines. */
#ifndef QT_EXPORT_BITS_H
#define QT_EXPORT_BITS_H
#include <stdint.h>

static inline int64_t qt_bits_row(int64_t n, int bits) { return (n * bits + 7) / 8; }

/* Number k of a row that was zero at first. */
static inline void qt_bits_put(uint8_t *row, int64_t k, int bits, unsigned u)
{
    int64_t  at = k * bits;
    unsigned v = u << at % 8;
    row[at / 8] |= (uint8_t)v;
    if (at % 8 + bits > 8) row[at / 8 + 1] |= (uint8_t)(v >> 8);
}

static inline unsigned qt_bits_get(const uint8_t *row, int64_t k, int bits)
{
    int64_t  at = k * bits;
    unsigned v = row[at / 8];
    if (at % 8 + bits > 8) v |= (unsigned)row[at / 8 + 1] << 8;
    return v >> at % 8 & ((1u << bits) - 1);
}
#endif
