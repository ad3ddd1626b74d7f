/* Decoding PNG, JPEG and BMP is stb_image's work (public domain; Debian's libstb-dev). Around it stand the checks that it leaves out:
 * chunk checksums of PNG, truncated BMP, Huffman tables of JPEG, a size in the header that the file is too short for, and a bound on memory that
 * follows from this size. */
#include "files.h"
#include "image.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { MAX_SIDE = 16384, MAX_PIXELS = 1 << 26, MAX_FILE = 1 << 28 };
enum { DEFLATE_MAX = 1032, JPEG_MAX = 512 }; /* a byte holds at most: bytes, deflated; pixels, as each 8 x 8 of them have a bit of their own in the first scan */

/* No single block that the decoder asks for may be larger than the image at hand explains. Blocks hold zeros: a scan may name tables that the file does
 * not have, and stb_image goes by what is in their place. */
static _Thread_local size_t most;

static void *limited_malloc(size_t n) { return n <= most ? calloc(n, 1) : NULL; }
static void *limited_realloc(void *p, size_t n) { return n <= most ? realloc(p, n) : NULL; }

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS MAX_SIDE
#define STBI_MALLOC(n) limited_malloc(n)
#define STBI_REALLOC(p, n) limited_realloc(p, n)
#define STBI_FREE(p) free(p)
#define STBI_ASSERT(x) ((void)0)
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#ifdef __clang__ /* at the end of a scan stb_image shifts a zero by up to 33 bits: no matter to any machine, but to the sanitizer */
#pragma clang attribute push(__attribute__((no_sanitize("shift-exponent"))), apply_to = function)
#endif
#include <stb/stb_image.h>
#ifdef __clang__
#pragma clang attribute pop
#endif

static uint32_t big32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }
static uint32_t little32(const uint8_t *p) { return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0]; }

static bool is_png(const uint8_t *p, size_t n) { return n >= 24 && !memcmp(p, "\x89PNG\r\n\x1a\n", 8); }

static bool is_bmp(const uint8_t *p, size_t n) { return n >= 2 && !memcmp(p, "BM", 2); }

/* Width and height that the header states. stb_image refuses to tell those of a PNG that it finds too large. */
static bool size_of(const uint8_t *p, size_t n, int64_t *w, int64_t *h)
{
    int iw, ih, comp;
    if (is_png(p, n)) return *w = big32(p + 16), *h = big32(p + 20), true;
    if (!stbi_info_from_memory(p, (int)n, &iw, &ih, &comp)) return false;
    *w = iw, *h = ih < 0 ? -(int64_t)ih : ih; /* a BMP from top to bottom has a negative height */
    return true;
}

static uint64_t png_bits_per_pixel(const uint8_t *p)
{
    const int depth = p[24], colour = p[25];
    return (uint64_t)depth * (colour == 2 ? 3 : colour == 4 ? 2 : colour == 6 ? 4 : 1);
}

/* What is wrong with a PNG as a list of chunks (length, name, data, CRC), or NULL. */
static const char *png_damage(const uint8_t *p, size_t n, uint64_t pixels)
{
    for (size_t at = 8; n - at >= 12;) {
        size_t len = big32(p + at);
        if (len > n - at - 12) return "truncated";
        if (crc32(0, p + at + 4, (uInt)len + 4) != big32(p + at + 8 + len)) return "a chunk's checksum is wrong";
        if (!memcmp(p + at + 4, "IEND", 4)) return pixels / 8 * png_bits_per_pixel(p) > (uint64_t)DEFLATE_MAX * n ? "too short for its size" : NULL;
        at += 12 + len;
    }
    return "truncated";
}

/* What is wrong with the length of an uncompressed BMP, or NULL. */
static const char *bmp_damage(const uint8_t *p, size_t n, uint64_t w, uint64_t h)
{
    uint64_t bits;
    if (n < 30) return "truncated";
    bits = little32(p + 14) == 12 ? p[24] : p[28];
    return little32(p + 10) + (w * bits + 31) / 32 * 4 * h > n ? "truncated" : NULL;
}

/* Do the tables of a DHT segment hold at most 256 symbols each? p is at its length. */
static bool huffman_fits(const uint8_t *p, size_t n)
{
    int64_t left = n < 2 ? 0 : (p[0] << 8 | p[1]) - 2;
    for (size_t at = 2; left > 0;) {
        size_t count = 0;
        if (n - at < 17) return false;
        for (int i = 1; i <= 16; i++) count += p[at + (size_t)i];
        if (count > 256 || count > n - at - 17) return false;
        at += 17 + count, left -= 17 + (int64_t)count;
    }
    return true;
}

/* stb_image writes past its tables when a Huffman table is too long. Wherever it might see the marker FF C4, the table must be sound; the
 * contents of comments, where these bytes mean nothing, are first wiped. */
static const char *jpeg_damage(uint8_t *p, size_t n)
{
    for (size_t at = 2, len; n - at >= 4 && p[at] == 0xFF && p[at + 1] != 0xDA; at += 2 + len) {
        bool comment = p[at + 1] == 0xFE || (p[at + 1] > 0xE0 && p[at + 1] <= 0xEF && p[at + 1] != 0xEE);
        len = (size_t)p[at + 2] << 8 | p[at + 3];
        if (len < 2 || len > n - at - 2) break;
        if (comment) memset(p + at + 4, 0, len - 2);
    }
    for (size_t at = 2; at + 1 < n; at++)
        if (p[at] == 0xFF && p[at + 1] == 0xC4 && !huffman_fits(p + at + 2, n - at - 2)) return "bad Huffman table";
    return NULL;
}

static const char *damage(const uint8_t *p, size_t n, uint64_t w, uint64_t h)
{
    if (is_png(p, n)) return png_damage(p, n, w * h);
    if (is_bmp(p, n)) return bmp_damage(p, n, w, h);
    return w * h > (uint64_t)JPEG_MAX * n ? "too short for its size" : NULL;
}

static qt_err decode(const char *file, uint8_t *bytes, size_t n, int64_t *w, int64_t *h, uint8_t **p)
{
    const char *what;
    int         iw, ih, comp;
    most = 1 << 20;
    what = is_png(bytes, n) || is_bmp(bytes, n) ? NULL : jpeg_damage(bytes, n); /* before stb_image sees a byte of it */
    QT_CHECK(!what, QT_EDATA, "%s: damaged image: %s", file, what);
    QT_CHECK(size_of(bytes, n, w, h), QT_EDATA, "%s: no PNG, JPEG or BMP image that can be read: %s", file, stbi_failure_reason());
    QT_CHECK(*w > 0 && *h > 0 && *w <= MAX_SIDE && *h <= MAX_SIDE && *w * *h <= MAX_PIXELS, QT_EDATA,
             "%s: image of %lld x %lld pixels, expected 1..%d a side and at most %d million", file, (long long)*h, (long long)*w, MAX_SIDE,
             MAX_PIXELS / 1000000);
    what = damage(bytes, n, (uint64_t)*w, (uint64_t)*h);
    QT_CHECK(!what, QT_EDATA, "%s: damaged image: %s", file, what);
    most = 16 * ((size_t)*w + 64) * ((size_t)*h + 64) + 2 * n + (1 << 16);
    *p   = stbi_load_from_memory(bytes, (int)n, &iw, &ih, &comp, 4);
    QT_CHECK(*p, QT_EDATA, "%s: damaged image: %s", file, stbi_failure_reason());
    return QT_OK;
}

qt_err qt_image_decode(const char *file, int64_t *w, int64_t *h, uint8_t **rgba)
{
    char  *bytes;
    size_t n;
    qt_err e;
    QT_TRY(qt_unpacked_read(file, MAX_FILE, &bytes, &n));
    e = decode(file, (uint8_t *)bytes, n, w, h, rgba);
    qt_free(bytes);
    return e;
}
