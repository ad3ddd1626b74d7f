/* The kernels of the integer convolution in plain C, for any processor. Vectors of 16 words, laid out as those of AVX-512 are, and a dot
 * product that does what vpdpbusd does: where this path gives the right numbers, that layout is right. */
#include "kernels/iconv_plan.h"
#include <string.h>

enum { LANES = 16, WIDEST = 1 };
typedef struct sums {
    uint32_t i[LANES]; /* wraps as vector registers do */
} sums;
typedef struct reals {
    R r[LANES];
} reals;

#define INLINE static inline __attribute__((always_inline))
#define EACH for (int l = 0; l < LANES; l++)

INLINE sums zeros(void) { return (sums){{0}}; }
INLINE sums load(const void *p)
{
    sums a;
    memcpy(&a, p, sizeof a);
    return a;
}
INLINE sums spread(int32_t x)
{
    sums a;
    EACH a.i[l] = (uint32_t)x;
    return a;
}
INLINE sums add(sums a, sums b)
{
    EACH a.i[l] += b.i[l];
    return a;
}
INLINE reals real(sums a)
{
    reals y;
    EACH  y.r[l] = (R)(int32_t)a.i[l];
    return y;
}
INLINE reals spread_real(R x)
{
    reals y;
    EACH  y.r[l] = x;
    return y;
}
INLINE reals scale(reals a, reals s, reals offset)
{
    EACH a.r[l] = a.r[l] * s.r[l] + offset.r[l];
    return a;
}
INLINE reals positive(reals a)
{
    qt_iend e = {.relu = true};
    EACH    a.r[l] = qt_iend_store(&e, a.r[l], 0);
    return a;
}
INLINE reals move(reals a, sums lanes)
{
    reals y;
    EACH  y.r[l] = a.r[lanes.i[l]];
    return y;
}
INLINE void store(R *y, reals a) { memcpy(y, &a, sizeof a); }

/* The same on either byte order, for x and w are shifted alike. */
INLINE sums dot_bytes(sums a, sums x, sums w)
{
    for (int shift = 0; shift < 32; shift += 8) {
        uint32_t byte = (uint32_t)(int8_t)(w.i[0] >> shift);
        EACH     a.i[l] += (x.i[l] >> shift & 255) * byte;
    }
    return a;
}
INLINE sums dot_words(sums a, sums x, sums w)
{
    for (int shift = 0; shift < 32; shift += 16) {
        uint32_t word = (uint32_t)(int16_t)(w.i[0] >> shift);
        EACH     a.i[l] += (uint32_t)(int16_t)(x.i[l] >> shift) * word;
    }
    return a;
}
#undef INLINE

#define TARGET
#define INT sums
#define REAL reals
#define WIDEN(acc) (acc)
#define BLOCKS false

#define NAME(f) f##_bytes
#define DOT dot_bytes
#include "kernels/iconv_tile.h"
#undef NAME
#undef DOT

#define NAME(f) f##_wide
#define DOT dot_words
#include "kernels/iconv_tile.h"

static bool has(void) { return true; }

const qt_iconv_path qt_iconv_scalar = {"scalar", has, LANES, run_bytes, NULL, NULL, run_wide};
