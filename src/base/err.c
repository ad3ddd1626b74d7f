/* Errors: one growing text a thread, of MOST messages. When memory for a message is out, the message is lost but the code is not. */
#include "base/err.h"
#include "base/mem.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#undef qt_fail
#undef qt_fail_at

enum { MOST = 1000 }; /* nobody reads more, and lists of them are sorted and merged */

static _Thread_local struct {
    char  *text;
    size_t n, cap;
    int    count;
} list;

/* Errors must work when qt_alloc fails, so this list alone stands on the C library's allocator. */
static void append(const char *s, size_t n)
{
    if (list.n + n + 1 > list.cap) {
        size_t cap = 2 * (list.n + n + 1) + 256;
        char  *text = realloc(list.text, cap);
        if (!text) return;
        list.text = text, list.cap = cap;
    }
    memcpy(list.text + list.n, s, n);
    list.n += n;
    list.text[list.n] = 0;
}

static void append_message(const char *place, const char *fmt, va_list ap)
{
    char text[4096];
    if (++list.count > MOST) place = "", fmt = "further errors are left out";
    if (list.count > MOST + 1) return;
    vsnprintf(text, sizeof text, fmt, ap);
    if (list.n) append("\n", 1);
    append(place, strlen(place));
    append(text, strlen(text));
}

qt_err qt_fail(qt_err code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    append_message("", fmt, ap);
    va_end(ap);
    return code;
}

qt_err qt_fail_at(qt_err code, qt_pos pos, const char *fmt, ...)
{
    char    place[1024] = "";
    va_list ap;
    if (pos.file && pos.line) snprintf(place, sizeof place, "%s:%d:%d: ", pos.file, pos.line, pos.col);
    else if (pos.file) snprintf(place, sizeof place, "%s: ", pos.file);
    va_start(ap, fmt);
    append_message(place, fmt, ap);
    va_end(ap);
    return code;
}

const char *qt_error_text(void) { return list.text ? list.text : ""; }
int         qt_error_count(void) { return list.count; }

void qt_error_clear(void)
{
    free(list.text);
    memset(&list, 0, sizeof list);
}

char *qt_error_take(void)
{
    char *text = qt_strdup(qt_error_text());
    qt_error_clear();
    return text;
}

void qt_error_give(char *text)
{
    if (text && *text) {
        if (list.n) append("\n", 1);
        append(text, strlen(text));
        list.count++;
    }
    qt_free(text);
}

int qt_error_exit(qt_err e)
{
    static const int exit_code[] = {
#define QT_X(name, exit, text) exit,
        QT_ERRORS(QT_X)
#undef QT_X
    };
    return exit_code[e];
}

_Noreturn void qt_assert_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "%s:%d: bug in qtape or its caller: %s does not hold\n", file, line, cond);
    abort();
}

/* Damerau-Levenshtein distance (restricted), words up to 63 letters. */
static int distance(const char *a, const char *b)
{
    int na = (int)strlen(a), nb = (int)strlen(b), d[64][64];
    if (na > 63 || nb > 63) return 64;
    for (int i = 0; i <= na; i++) d[i][0] = i;
    for (int j = 0; j <= nb; j++) d[0][j] = j;
    for (int i = 1; i <= na; i++)
        for (int j = 1; j <= nb; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best) best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[na][nb];
}

const char *qt_near(const char *word, int n, const char *const *names)
{
    const char *best = NULL;
    int         least = (int)strlen(word) / 3 + 2; /* allow a third of the letters, and one */
    for (int i = 0; i < n; i++) {
        int d = distance(word, names[i]);
        if (d < least) least = d, best = names[i];
    }
    return best;
}
