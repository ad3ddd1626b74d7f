/* SHA-256 (FIPS 180-4, sections 4 to 6): blocks of 64 bytes are mixed into eight words of state, 64 rounds a block. The round constants are
 * the first 32 bits of the fractional parts of the cube roots of the first 64 primes, the first state those of the square roots of the
 * first eight. Left out: speed beyond what a file of weights needs. */
#include "base/sha256.h"
#include <errno.h>
#include <string.h>

static const uint32_t round_constant[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turn(uint32_t x, int n) { return x >> n | x << (32 - n); }

/* The block as 16 words, most significant byte first, and 48 more made of them. */
static void schedule(const uint8_t *block, uint32_t w[64])
{
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
    }
}

static void mix(uint32_t h[8], const uint8_t *block)
{
    uint32_t w[64], s[8];
    schedule(block, w);
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t a = s[0], e = s[4], choose = (e & s[5]) ^ (~e & s[6]), majority = (a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]);
        uint32_t t1 = s[7] + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + choose + round_constant[i] + w[i];
        uint32_t t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + majority;
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1, s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
}

/* The last bytes, a single 1 bit, zeros, and the number of bits in the last eight bytes: one block or two. */
static void finish(uint32_t h[8], const uint8_t *rest, size_t n, uint64_t bytes)
{
    uint8_t tail[128] = {0};
    size_t  size = n < 56 ? 64 : 128;
    memcpy(tail, rest, n);
    tail[n] = 0x80;
    for (int i = 0; i < 8; i++) tail[size - 1 - (size_t)i] = (uint8_t)(8 * bytes >> 8 * i);
    for (size_t i = 0; i < size; i += 64) mix(h, tail + i);
}

static const uint32_t first_state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static void print(const uint32_t h[8], char text[static QT_SHA256_TEXT])
{
    for (int i = 0; i < 8; i++) snprintf(text + 8 * i, 9, "%08x", h[i]);
}

void qt_sha256(const void *bytes, size_t n, char text[static QT_SHA256_TEXT])
{
    const uint8_t *p = bytes;
    uint32_t       h[8];
    size_t         at = 0;
    memcpy(h, first_state, sizeof h);
    for (; at + 64 <= n; at += 64) mix(h, p + at);
    finish(h, p + at, n - at, n);
    print(h, text);
}

qt_err qt_sha256_file(const char *file, char text[static QT_SHA256_TEXT])
{
    uint32_t h[8];
    uint8_t  buf[64 * 1024];
    uint64_t bytes = 0;
    size_t   n, at;
    FILE    *f = fopen(file, "rb");
    QT_CHECK(f, QT_EIO, "%s: cannot read: %s", file, strerror(errno));
    memcpy(h, first_state, sizeof h);
    do {
        n = fread(buf, 1, sizeof buf, f), bytes += n;
        for (at = 0; at + 64 <= n; at += 64) mix(h, buf + at);
    } while (n == sizeof buf);
    bool bad = ferror(f);
    fclose(f);
    QT_CHECK(!bad, QT_EIO, "%s: cannot read", file);
    finish(h, buf + at, n - at, bytes);
    print(h, text);
    return QT_OK;
}
