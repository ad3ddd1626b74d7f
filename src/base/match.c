/* Patterns: fnmatch for globs, regexec for "re:" expressions, anchored at both ends. */
#include "base/match.h"
#include "base/scan.h"
#include <fnmatch.h>
#include <regex.h>
#include <string.h>

enum { DEPTH_LIMIT = 30, SIZE_LIMIT = 2000 };

/* By how much the work of regcomp grows at s: repetitions are copies, and each bracket or repetition that is repeated may double it. */
static int64_t growth_at(const char *s, bool group)
{
    int64_t n = 0, m;
    if (*s == '*' || *s == '+' || *s == '?') return group ? 2 : 1;
    if (*s != '{') return 1;
    for (s++; *s && *s != '}'; s += *s && *s != '}')
        if (qt_scan_number(&s, SIZE_LIMIT, &m)) n = m > n ? m : n;
    return n > 1 + group ? n : 1 + group;
}

/* regcomp calls itself for each bracket, copies what is repeated, and has no limits. */
static bool too_large(const char *expression)
{
    int64_t size = (int64_t)strlen(expression);
    int     depth = 0;
    for (const char *s = expression; *s; s++) {
        if (*s == '\\' && s[1]) s++;
        else if (*s == '(') depth++;
        else if (*s == ')') depth -= depth > 0;
        else size *= growth_at(s, s > expression && strchr(")*+?}", s[-1]));
        if (size > SIZE_LIMIT || depth > DEPTH_LIMIT) return true;
    }
    return false;
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
    if (too_large(pattern + 3) || compile(pattern + 3, &re)) return false;
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
    if (too_large(pattern + 3)) return qt_fail_at(QT_ERECIPE, y->pos, "%s: bad expression '%.60s...': too large, or nested too deep", where, pattern);
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
