/* Strict JSON with a cursor: see json.h. Left out: numbers with point or exponent, true, false and null, which no header that is read here
 * has. */
#include "base/json.h"
#include <stdarg.h>
#include <string.h>

qt_json qt_json_of(const char *file, const char *what, const char *text, size_t n, qt_arena *a)
{
    return (qt_json){.file = file, .what = what, .begin = text, .p = text, .end = text + n, .arena = a};
}

qt_err qt_json_fail(const qt_json *j, const char *fmt, ...)
{
    char    text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return qt_fail(QT_EDATA, "%s: %s, byte %lld: %s", j->file, j->what, (long long)(j->p - j->begin), text);
}

static void skip_blanks(qt_json *j)
{
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\n' || *j->p == '\r' || *j->p == '\t')) j->p++;
}

/* Is c next? Takes it. */
static bool accept(qt_json *j, char c)
{
    skip_blanks(j);
    if (j->p == j->end || *j->p != c) return false;
    j->p++;
    return true;
}

static qt_err expected(const qt_json *j, const char *what)
{
    if (j->p >= j->end) return qt_json_fail(j, "expected %s, found the end", what);
    if (*j->p > 32 && *j->p < 127) return qt_json_fail(j, "expected %s, found '%c'", what, *j->p);
    return qt_json_fail(j, "expected %s, found 0x%02x", what, (unsigned char)*j->p);
}

static qt_err expect(qt_json *j, char c)
{
    const char quoted[] = {'\'', c, '\'', 0};
    return accept(j, c) ? QT_OK : expected(j, quoted);
}

qt_err qt_json_enter(qt_json *j, char bracket)
{
    QT_TRY(expect(j, bracket));
    j->first = true;
    return QT_OK;
}

/* Closing bracket, or the comma before all but the first. */
static qt_err next(qt_json *j, char close, bool *more)
{
    *more = !accept(j, close);
    if (*more && !j->first && !accept(j, ',')) return expected(j, close == '}' ? "',' or '}'" : "',' or ']'");
    j->first = false; /* what encloses it has had this one */
    return QT_OK;
}

qt_err qt_json_element(qt_json *j, bool *more) { return next(j, ']', more); }

qt_err qt_json_member(qt_json *j, const char **key)
{
    bool more;
    *key = NULL;
    QT_TRY(next(j, '}', &more));
    if (!more) return QT_OK;
    QT_TRY(qt_json_string(j, key));
    return expect(j, ':');
}

qt_err qt_json_end(qt_json *j)
{
    skip_blanks(j);
    return j->p == j->end ? QT_OK : expected(j, "the end");
}

qt_err qt_json_uint(qt_json *j, uint64_t *v)
{
    skip_blanks(j);
    const char *from = j->p;
    for (*v = 0; j->p < j->end && *j->p >= '0' && *j->p <= '9'; j->p++) {
        uint64_t digit = (uint64_t)(*j->p - '0');
        if (*v > (UINT64_MAX - digit) / 10) return qt_json_fail(j, "a number above 2^64 - 1");
        *v = 10 * *v + digit;
    }
    if (j->p == from) return expected(j, "a number without sign");
    if (*from == '0' && j->p > from + 1) return qt_json_fail(j, "a number that begins with 0");
    if (j->p < j->end && (*j->p == '.' || *j->p == 'e' || *j->p == 'E')) return expected(j, "a whole number");
    return QT_OK;
}

/* ---- strings --------------------------------------------------------------------------------------------------------------------- */

static qt_err hex4(qt_json *j, uint32_t *v)
{
    *v = 0;
    for (int i = 0; i < 4; i++, j->p++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF", *at = j->p < j->end && *j->p ? strchr(digits, *j->p) : NULL;
        if (!at) return expected(j, "four hexadecimal digits");
        *v = 16 * *v + (uint32_t)((at - digits) % 16);
    }
    return QT_OK;
}

static int utf8_put(uint32_t c, char *s)
{
    int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    s[0] = (char)(more == 0 ? c : (0xff00u >> (more + 1) & 0xff) | c >> 6 * more);
    for (int i = 1; i <= more; i++) s[i] = (char)(0x80 | (c >> 6 * (more - i) & 63));
    return more + 1;
}

/* Behind "\u": one code point, which may take two escapes. */
static qt_err escape_unicode(qt_json *j, char **to)
{
    uint32_t c, low;
    QT_TRY(hex4(j, &c));
    if (c >= 0xd800 && c < 0xdc00) {
        if (j->end - j->p < 2 || j->p[0] != '\\' || j->p[1] != 'u') return qt_json_fail(j, "half of a surrogate pair");
        j->p += 2;
        QT_TRY(hex4(j, &low));
        if (low < 0xdc00 || low >= 0xe000) return qt_json_fail(j, "half of a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xdc00 && c < 0xe000) {
        return qt_json_fail(j, "half of a surrogate pair");
    }
    if (c == 0) return qt_json_fail(j, "a string that holds the character 0");
    *to += utf8_put(c, *to);
    return QT_OK;
}

static qt_err escape(qt_json *j, char **to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    if (j->p < j->end && *j->p == 'u') return j->p++, escape_unicode(j, to);
    const char *at = j->p < j->end && *j->p ? strchr(from, *j->p) : NULL;
    if (!at) return expected(j, "an escape");
    *(*to)++ = into[at - from], j->p++;
    return QT_OK;
}

/* Bytes of the character of UTF-8 at p, 0 if there is none: shortest form, no surrogates, at most U+10FFFF. */
static int utf8_length(const char *text, const char *end)
{
    const unsigned char *p = (const unsigned char *)text;
    int                  more = *p < 0x80 ? 0 : *p >= 0xc2 && *p < 0xe0 ? 1 : *p >= 0xe0 && *p < 0xf0 ? 2 : *p >= 0xf0 && *p < 0xf5 ? 3 : -1;
    bool                 good = more >= 0 && end - text > more;
    for (int i = 1; good && i <= more; i++) good = p[i] >> 6 == 2;
    if (good && more > 1) {
        int second = p[1], least = *p == 0xe0 ? 0xa0 : *p == 0xf0 ? 0x90 : 0x80, most = *p == 0xed ? 0x9f : *p == 0xf4 ? 0x8f : 0xbf;
        good = second >= least && second <= most;
    }
    return good ? more + 1 : 0;
}

static qt_err copy_utf8(qt_json *j, char **to)
{
    int n = utf8_length(j->p, j->end);
    if (!n) return qt_json_fail(j, "no UTF-8");
    while (n--) *(*to)++ = *j->p++;
    return QT_OK;
}

/* No escape is shorter than what it stands for, so the length in the text bounds that of the string. */
qt_err qt_json_string(qt_json *j, const char **s)
{
    QT_TRY(expect(j, '"'));
    const char *close = j->p;
    while (close < j->end && *close != '"') close += *close == '\\' ? 2 : 1;
    if (close >= j->end) return qt_json_fail(j, "a string without end");
    char *to = qt_arena_alloc(j->arena, (size_t)(close - j->p) + 1);
    if (!to) return QT_EMEM;
    *s = to;
    while (*j->p != '"') {
        if ((unsigned char)*j->p < 32) return expected(j, "a string without control characters");
        if (*j->p == '\\') QT_TRY((j->p++, escape(j, &to)));
        else QT_TRY(copy_utf8(j, &to));
    }
    *to = 0, j->p++;
    return QT_OK;
}

/* ---- writing --------------------------------------------------------------------------------------------------------------------- */

static void print_one(FILE *f, const char *s, int n)
{
    static const char from[] = "\"\\\b\f\n\r\t", into[] = "\"\\bfnrt";
    const char       *at = *s ? strchr(from, *s) : NULL;
    if (at) fprintf(f, "\\%c", into[at - from]);
    else if (n && ((unsigned char)*s < 32 || *s == 127)) fprintf(f, "\\u%04x", *s);
    else if (n) fwrite(s, 1, (size_t)n, f);
    else fputs("\xef\xbf\xbd", f);
}

void qt_json_print(FILE *f, const char *s, size_t n)
{
    putc('"', f);
    for (const char *end = s + n; s < end;) {
        int bytes = utf8_length(s, end);
        print_one(f, s, bytes);
        s += bytes ? bytes : 1;
    }
    putc('"', f);
}
