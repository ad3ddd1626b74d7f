/* Philox 4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3. Ten rounds of two
 * 32 x 32 -> 64 multiplications; the key is raised by the Weyl constants after each round. */
#include "base/rng.h"
#include "base/par.h"
#include <math.h>
#include <stdarg.h>
#include <string.h>

void qt_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0, c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1, c3 = (uint32_t)a;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

uint64_t qt_hash(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return h;
}

qt_rng qt_rng_at(uint64_t seed, uint64_t stream) { return (qt_rng){seed, stream, 0}; }

qt_rng qt_rng_named(uint64_t seed, const char *fmt, ...)
{
    char    name[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    return qt_rng_at(seed, qt_hash(name));
}

/* Counter: block number and stream; key: seed. */
uint32_t qt_rng_u32_at(const qt_rng *r, uint64_t i)
{
    uint64_t block = i / 4;
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)r->stream, (uint32_t)(r->stream >> 32)};
    uint32_t key[2] = {(uint32_t)r->seed, (uint32_t)(r->seed >> 32)}, out[4];
    qt_philox(counter, key, out);
    return out[i % 4];
}

uint32_t qt_rng_u32(qt_rng *r) { return qt_rng_u32_at(r, r->at++); }
double   qt_rng_uniform(qt_rng *r) { return qt_rng_u32(r) * 0x1p-32; }

double qt_rng_normal(qt_rng *r)
{
    double u = (qt_rng_u32(r) + 1.0) * 0x1p-32, v = qt_rng_uniform(r);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* Rejection: draw 64 bits until they fall below the largest multiple of n. */
uint64_t qt_rng_below(qt_rng *r, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
    do {
        x = qt_rng_u32(r);
        x |= (uint64_t)qt_rng_u32(r) << 32;
    } while (x >= limit);
    return x % n;
}

/* Philox blocks side by side, each of 8 numbers. words are their first words, then their second ones ... */
enum { LANES = QT_RNG_BLOCK / 8 };

QT_CLONES static void draw(const qt_rng *u, uint64_t at, uint32_t words[4 * LANES])
{
    uint32_t *restrict c0 = words, *restrict c1 = c0 + LANES, *restrict c2 = c1 + LANES, *restrict c3 = c2 + LANES;
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

void qt_rng_bits16(const qt_rng *r, uint64_t at, uint16_t out[QT_RNG_BLOCK])
{
    uint32_t words[4 * LANES];
    draw(r, at, words);
    memcpy(out, words, sizeof words);
}
