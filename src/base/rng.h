/* Random numbers: Philox 4x32-10 (Salmon et al., SC 2011), counter-based: number i of a stream is a function of (seed, stream, i),
 * so any thread can draw any number and the result does not depend on who draws it. */
#ifndef QT_BASE_RNG_H
#define QT_BASE_RNG_H
#include "qtape.h"

typedef struct qt_rng {
    uint64_t seed, stream;
    uint64_t at; /* next number for the sequential calls */
} qt_rng;

void qt_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* The stream of that name: "init/fc1.weight", "data/epoch/3", "dropout/blk.0.drop/1200". */
qt_rng   qt_rng_named(uint64_t seed, const char *fmt, ...) QT_PRINTF(2, 3);
/* A stream by number, without formatting, for hot code. */
qt_rng   qt_rng_at(uint64_t seed, uint64_t stream);
uint64_t qt_hash(const char *s); /* FNV-1a 64 */

uint32_t qt_rng_u32(qt_rng *r);
double   qt_rng_uniform(qt_rng *r);                  /* [0,1), 32 random bits */
double   qt_rng_normal(qt_rng *r);                   /* N(0,1), Box-Muller, two numbers a value */
uint64_t qt_rng_below(qt_rng *r, uint64_t n);        /* 0..n-1, unbiased */
uint32_t qt_rng_u32_at(const qt_rng *r, uint64_t i); /* number i, leaves r alone */

/* For hot code. Numbers [at, at + n), as qt_rng_u32_at gives them; both are multiples of 4. */
void qt_rng_words(const qt_rng *r, uint64_t at, int64_t n, uint32_t *out);
/* Numbers [at, at + QT_RNG_BLOCK) of a stream of 16-bit numbers, at a multiple of QT_RNG_BLOCK: the halves of the same words in another order. */
enum { QT_RNG_BLOCK = 256 };
void qt_rng_bits16(const qt_rng *r, uint64_t at, uint16_t out[QT_RNG_BLOCK]);
void qt_rng_scalar(bool on); /* for tests: both without vector instructions, or as fast as can be */
#endif
