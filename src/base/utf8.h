/* Is a text UTF-8? RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. Plain C in a header. */
#ifndef QT_BASE_UTF8_H
#define QT_BASE_UTF8_H
#include <stdint.h>
#include <stdlib.h>

/* Length of the character that begins p[0..n), n > 0; 0 if none does. The second byte's range depends on the first one. */
static inline size_t qt_utf8_char(const uint8_t *p, size_t n)
{
    size_t  len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80, high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (len > n || (len > 1 && (p[1] < low || p[1] > high))) return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return len;
}

/* The code point of a character of len bytes. */
static inline uint32_t qt_utf8_code(const uint8_t *p, size_t len)
{
    uint32_t c = len < 2 ? p[0] : p[0] & (0xff >> (len + 1));
    for (size_t i = 1; i < len; i++) c = c << 6 | (p[i] & 0x3f);
    return c;
}

/* Offset of the first byte that is not UTF-8; n if there is none. */
static inline size_t qt_utf8_bad(const void *text, size_t n)
{
    const uint8_t *p = text;
    size_t         at = 0, len;
    while (at < n && (len = qt_utf8_char(p + at, n - at))) at += len;
    return at;
}
#endif
