/* Scanning text of any origin. (sscanf would read a long text to its end each time, and what it does with a number that is too large is undefined.) */
#ifndef QT_BASE_SCAN_H
#define QT_BASE_SCAN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Takes a whole number from 0 to most at *s and moves *s behind its digits; false if there is none. */
static inline bool qt_scan_number(const char **s, int64_t most, int64_t *v)
{
    const char *p = *s;
    for (*v = 0; *p >= '0' && *p <= '9'; p++) {
        if (*v > (most - (*p - '0')) / 10) return false;
        *v = 10 * *v + (*p - '0');
    }
    if (p == *s) return false;
    *s = p;
    return true;
}

/* Bytes of the file's name in "file:row:col: ..." of n bytes, a message of qt_fail_at; 0 if there is none. */
static inline size_t qt_scan_place(const char *line, size_t n, int64_t *row, int64_t *col)
{
    for (size_t i = 1; i < n && line[i] != '\''; i++) {
        const char *p = line + i + 1;
        if (line[i] == ':' && qt_scan_number(&p, INT32_MAX, row) && *p++ == ':' && qt_scan_number(&p, INT32_MAX, col) && p[0] == ':' && p[1] == ' ')
            return i;
    }
    return 0;
}
#endif
