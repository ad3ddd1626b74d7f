/* The stored integers of double_rounding.c at fewer bits: what a device does, in integers. */
#ifndef QT_QAT_DOUBLE_ROUNDING_H
#define QT_QAT_DOUBLE_ROUNDING_H
#include "qat/quant.h"

/* A code q at D bits less, within lo..hi: (q + 2^(D-1)) >> D, or q >> D where it does not round. The shift is arithmetic. */
static inline int32_t qt_code_shift(int32_t q, int D, bool rounds, int32_t lo, int32_t hi)
{
    int32_t c = (q + (rounds && D ? 1 << (D - 1) : 0)) >> D;
    return c < lo ? lo : c > hi ? hi : c;
}
/* The codes of a site's weight at `bits` from those it stores, q [n] to out [n], and the factor 2^D of the step. false if the site's quantizer
 * is another, or has no such bits. */
bool qt_codes_switch(const qt_site *q, int bits, int64_t n, const int8_t *in, int8_t *out, R *factor);
#endif
