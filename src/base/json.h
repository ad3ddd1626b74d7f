/* Strict JSON (RFC 8259), read by whoever knows what to expect: a cursor over bytes, and one call for each thing. Messages name the file,
 * what of it is read, and the byte. Members of an object and elements of an array are walked so:
 *
 *     QT_TRY(qt_json_enter(&j, '{'));
 *     for (const char *key;;) {
 *         QT_TRY(qt_json_member(&j, &key));     // NULL behind the last one
 *         if (!key) break;
 *         ... read the value ...
 *     } */
#ifndef QT_BASE_JSON_H
#define QT_BASE_JSON_H
#include "base/err.h"
#include "base/mem.h"
#include <stdio.h>

typedef struct qt_json {
    const char *file, *what;      /* for messages */
    const char *begin, *p, *end;
    qt_arena   *arena;            /* of the strings */
    bool        first;            /* nothing of the innermost object or array has been read */
} qt_json;

qt_json qt_json_of(const char *file, const char *what, const char *text, size_t n, qt_arena *a);
qt_err  qt_json_fail(const qt_json *j, const char *fmt, ...) QT_PRINTF(2, 3);
qt_err  qt_json_enter(qt_json *j, char bracket); /* '{' or '[' */
qt_err  qt_json_member(qt_json *j, const char **key);
qt_err  qt_json_element(qt_json *j, bool *more);
qt_err  qt_json_string(qt_json *j, const char **s); /* UTF-8, escapes resolved; one that holds a 0 is refused */
qt_err  qt_json_uint(qt_json *j, uint64_t *v);      /* digits only, up to 2^64 - 1 */
qt_err  qt_json_end(qt_json *j);                    /* nothing but blanks is left */

/* Writes the n bytes of s in quotes: control characters escaped, what is no UTF-8 as U+FFFD. */
void    qt_json_print(FILE *f, const char *s, size_t n);
#endif
