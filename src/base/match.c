/* Patterns: fnmatch for globs, regexec for "re:" expressions, anchored at both ends. */
#include "base/match.h"
#include "base/par.h"
#include "base/scan.h"
#include <fnmatch.h>
#include <regex.h>
#include <string.h>

enum { DEPTH_LIMIT = 30, SIZE_LIMIT = 1000, LOOSE_LIMIT = 8 };
static const char LARGE[] = "too large, or nested too deep", LOOSE[] = "a repetition of what is repeated or may be empty";

/* What stands in front of a character: the begin of an alternative, something, a bracket that holds repetitions or an empty alternative, a
 * repetition. */
typedef enum before { START, ATOM, LOOSE_BRACKET, REPETITION } before;

/* The largest number in {n,m} at s, SIZE_LIMIT + 1 if it is larger; *s is moved to the end. */
static int64_t copies(const char **s)
{
    int64_t     n = 1, m;
    const char *p = *s + 1;
    while (*p && *p != '}')
        if (qt_scan_number(&p, SIZE_LIMIT, &m)) n = qt_max_i64(n, m);
        else if (*p++ >= '0' && p[-1] <= '9') n = SIZE_LIMIT + 1;
    *s = *p ? p : p - 1;
    return n;
}

/* The end of a set of characters [...] that begins at s. */
static const char *set_end(const char *s)
{
    s += s[1] == '^' ? 2 : 1;
    if (*s == ']') s++;
    while (*s && *s != ']') s++;
    return *s ? s : s - 1;
}

/* NULL, or why an expression is refused. regcomp calls itself for each bracket, copies what is repeated, takes exponential time for repetitions
 * of what may be empty, memory by the cube of brackets that may be empty, and has no limits. */
static const char *refused(const char *expression)
{
    bool    loose[DEPTH_LIMIT + 1] = {false}; /* of each bracket that is open */
    int     depth = 0, n_loose = 0;
    int64_t size = (int64_t)strlen(expression), most = 1;
    before  last = START;
    for (const char *s = expression; *s; s++) {
        bool empty = last == START;
        switch (*s) {
        case '\\': s += s[1] != 0, last = ATOM; break;
        case '[': s = set_end(s), last = ATOM; break;
        case '|': loose[depth] |= empty, last = START; break;
        case '(':
            if (++depth > DEPTH_LIMIT) return LARGE;
            loose[depth] = false, last = START;
            break;
        case ')':
            last = loose[depth] || empty ? LOOSE_BRACKET : ATOM;
            if (depth) depth--;
            loose[depth] |= last == LOOSE_BRACKET;
            if (last == LOOSE_BRACKET && ++n_loose > LOOSE_LIMIT) return LARGE;
            break;
        case '*':
        case '+':
        case '{':
            if (last >= LOOSE_BRACKET) return LOOSE;
            if (*s == '{') most = qt_max_i64(most, copies(&s));
            loose[depth] = true, last = REPETITION;
            break;
        case '?':
            if (last == REPETITION) return LOOSE;
            loose[depth] = true, last = REPETITION;
            break;
        default: last = ATOM;
        }
    }
    return size > SIZE_LIMIT / most ? LARGE : NULL;
}

/* 0, or the error code of regcomp. re is to be freed with regfree where 0 comes back. */
static int compile(const char *expression, regex_t *re)
{
    char *whole = qt_sprintf("^(%s)$", expression);
    int   code = whole ? regcomp(re, whole, REG_EXTENDED | REG_NOSUB) : REG_ESPACE;
    qt_free(whole);
    return code;
}

bool qt_match(const char *pattern, const char *path)
{
    regex_t re;
    bool    hit;
    if (strncmp(pattern, "re:", 3)) return fnmatch(pattern, path, 0) == 0;
    if (refused(pattern + 3) || compile(pattern + 3, &re)) return false;
    hit = regexec(&re, path, 0, NULL, 0) == 0;
    regfree(&re);
    return hit;
}

static qt_err check_one(const qt_yaml *y, const char *where)
{
    const char *pattern;
    regex_t     re;
    char        why[256];
    int         code;
    if (!qt_yaml_str(y, &pattern))
        return qt_fail_at(QT_ERECIPE, y->pos, "%s: expected a pattern (\"conv*\", \"re:blk\\..*\") or a list of them, found %s", where,
                          qt_yaml_kind_name(y));
    if (strncmp(pattern, "re:", 3)) return QT_OK;
    if (refused(pattern + 3)) return qt_fail_at(QT_ERECIPE, y->pos, "%s: bad expression '%.60s': %s", where, pattern, refused(pattern + 3));
    code = compile(pattern + 3, &re);
    if (!code) {
        regfree(&re);
        return QT_OK;
    }
    regerror(code, NULL, why, sizeof why);
    return qt_fail_at(QT_ERECIPE, y->pos, "%s: bad expression '%s': %s", where, pattern, why);
}

qt_err qt_match_check(const qt_yaml *patterns, const char *where)
{
    qt_err e = QT_OK;
    if (patterns->kind != QT_YAML_LIST) return check_one(patterns, where);
    if (!patterns->n) return qt_fail_at(QT_ERECIPE, patterns->pos, "%s: an empty list matches nothing", where);
    for (int i = 0; i < patterns->n; i++)
        if (check_one(patterns->item[i], where)) e = QT_ERECIPE;
    return e;
}

bool qt_match_any(const qt_yaml *patterns, const char *path)
{
    const char *pattern;
    if (patterns->kind != QT_YAML_LIST) return qt_yaml_str(patterns, &pattern) && qt_match(pattern, path);
    for (int i = 0; i < patterns->n; i++)
        if (qt_match_any(patterns->item[i], path)) return true;
    return false;
}
