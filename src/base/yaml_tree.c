/* YAML trees: copy, merge, paths ("quant[1].weights.num_bits"), printing. The recipe language's one liberty is known here: a bare
 * word stands for {use: word}, so a path that goes below a string turns it into that map. */
#include "base/yaml.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static bool is_unset(const qt_yaml *y) { return y->tag && !strcmp(y->tag, "!unset"); }

static qt_err put_at(qt_arena *a, qt_yaml *map, const char *key, qt_pos key_pos, qt_yaml *value)
{
    if (!value) return QT_EMEM;
    QT_TRY(qt_yaml_put(a, map, key, value));
    map->key_pos[qt_yaml_find(map, key)] = key_pos;
    return QT_OK;
}

qt_yaml *qt_yaml_copy(qt_arena *a, const qt_yaml *y)
{
    qt_yaml *to = qt_arena_alloc(a, sizeof *to);
    if (!to) return NULL;
    *to = *y, to->n = to->cap = 0, to->item = NULL, to->key = NULL, to->key_pos = NULL;
    for (int i = 0; i < y->n; i++) {
        qt_yaml *item = qt_yaml_copy(a, y->item[i]);
        if (!item || (y->kind == QT_YAML_MAP ? put_at(a, to, y->key[i], y->key_pos[i], item) : qt_yaml_push(a, to, item))) return NULL;
    }
    return to;
}

static void remove_child(qt_yaml *y, int i)
{
    size_t n = (size_t)(--y->n - i);
    memmove(y->item + i, y->item + i + 1, n * sizeof *y->item);
    if (y->kind != QT_YAML_MAP) return;
    memmove(y->key + i, y->key + i + 1, n * sizeof *y->key);
    memmove(y->key_pos + i, y->key_pos + i + 1, n * sizeof *y->key_pos);
}

qt_yaml *qt_yaml_merge(qt_arena *a, const qt_yaml *base, const qt_yaml *over)
{
    bool     both = base && base->kind == QT_YAML_MAP && over->kind == QT_YAML_MAP;
    qt_yaml *to;
    if (over->kind != QT_YAML_MAP) return qt_yaml_copy(a, over);
    to = both ? qt_yaml_copy(a, base) : qt_yaml_map(a, over->pos);
    if (!to) return NULL;
    to->pos = over->pos;
    for (int i = 0; i < over->n; i++) {
        int at = qt_yaml_find(to, over->key[i]);
        if (is_unset(over->item[i])) {
            if (at >= 0) remove_child(to, at);
        } else if (put_at(a, to, over->key[i], over->key_pos[i], qt_yaml_merge(a, at >= 0 ? to->item[at] : NULL, over->item[i]))) return NULL;
    }
    return to;
}

/* ---- paths ------------------------------------------------------------------------------------------------------------------- */

/* One step of a path: a key, or an index. `end` is where the path goes on. */
typedef struct step {
    char        key[256];
    long        index; /* -1: a key */
    const char *end;
} step;

static qt_err parse_step(const char *path, const char *at, qt_pos pos, step *s)
{
    size_t n = strcspn(at, ".[");
    char  *end;
    s->index = -1;
    if (*at == '[') {
        s->index = isdigit((unsigned char)at[1]) ? strtol(at + 1, &end, 10) : -1;
        if (s->index < 0 || *end != ']') return qt_fail_at(QT_ERECIPE, pos, "%s: expected a number in brackets, as in list[0].key", path);
        at = end + 1;
        if (*at && *at != '.' && *at != '[') return qt_fail_at(QT_ERECIPE, pos, "%s: expected '.' or '[' after ']'", path);
    } else {
        if (!n) return qt_fail_at(QT_ERECIPE, pos, "%s: a key is empty", *path ? path : "''");
        if (n >= sizeof s->key) return qt_fail_at(QT_ERECIPE, pos, "%.60s...: a key is longer than 255 bytes", path);
        memcpy(s->key, at, n), s->key[n] = 0;
        at += n;
    }
    s->end = *at == '.' ? at + 1 : at;
    if (*at == '.' && (!at[1] || at[1] == '[')) return qt_fail_at(QT_ERECIPE, pos, "%s: a key is empty", path);
    return QT_OK;
}

/* Makes y a map that can take a key: null becomes an empty map, a bare word {use: word}. */
static qt_err become_map(qt_arena *a, qt_yaml *y)
{
    const char *word;
    qt_yaml    *use;
    if (y->kind == QT_YAML_NULL) *y = (qt_yaml){QT_YAML_MAP, .pos = y->pos};
    if (y->kind != QT_YAML_SCALAR || !qt_yaml_str(y, &word)) return QT_OK;
    if (!(use = qt_yaml_copy(a, y))) return QT_EMEM;
    *y = (qt_yaml){QT_YAML_MAP, .pos = y->pos};
    return qt_yaml_put(a, y, "use", use);
}

/* Goes one step down from y, which path[0..at) names. *child is its index, -1 for a key that is absent. */
static qt_err go_down(qt_arena *a, qt_yaml *y, const char *path, const char *at, qt_pos pos, step *s, int *child)
{
    int         n = (int)(at - path) - (at > path && at[-1] == '.');
    const char *name = n ? path : "the document";
    n = n ? n : (int)strlen(name);
    QT_TRY(parse_step(path, at, pos, s));
    if (s->index < 0) {
        QT_TRY(become_map(a, y));
        if (y->kind != QT_YAML_MAP)
            return qt_fail_at(QT_ERECIPE, pos, "%s: '%.*s' is %s, it has no key '%s'", path, n, name, qt_yaml_kind_name(y), s->key);
        *child = qt_yaml_find(y, s->key);
        return QT_OK;
    }
    if (y->kind != QT_YAML_LIST) return qt_fail_at(QT_ERECIPE, pos, "%s: '%.*s' is %s, not a list", path, n, name, qt_yaml_kind_name(y));
    if (s->index >= y->n)
        return qt_fail_at(QT_ERECIPE, pos, "%s: '%.*s' has %d item%s, there is no [%ld]", path, n, name, y->n, y->n == 1 ? "" : "s", s->index);
    *child = (int)s->index;
    return QT_OK;
}

qt_err qt_yaml_set(qt_arena *a, qt_yaml *root, const char *path, qt_yaml *value)
{
    step     s;
    int      i;
    qt_yaml *y = root, *below;
    for (const char *at = path;; at = s.end) {
        QT_TRY(go_down(a, y, path, at, value->pos, &s, &i));
        if (!*s.end) break;
        if (i < 0) {
            if (!(below = qt_yaml_scalar(a, "", value->pos))) return QT_EMEM;
            QT_TRY(qt_yaml_put(a, y, s.key, below));
            i = y->n - 1;
        }
        y = y->item[i];
    }
    if (is_unset(value)) {
        if (i >= 0) remove_child(y, i);
        return QT_OK;
    }
    if (i < 0) return qt_yaml_put(a, y, s.key, value);
    y->item[i] = value;
    return QT_OK;
}

qt_err qt_yaml_remove(qt_arena *a, qt_yaml *root, const char *path, qt_pos pos)
{
    step     s;
    int      i;
    qt_yaml *y = root;
    for (const char *at = path;; at = s.end, y = y->item[i]) {
        QT_TRY(go_down(a, y, path, at, pos, &s, &i));
        if (i < 0) {
            const char *hint = y->n ? qt_near(s.key, y->n, y->key) : NULL;
            return qt_fail_at(QT_ERECIPE, pos, hint ? "%s: there is no key '%s', did you mean '%s'?" : "%s: there is no key '%s'", path, s.key, hint);
        }
        if (!*s.end) break;
    }
    remove_child(y, i);
    return QT_OK;
}

/* ---- printing ---------------------------------------------------------------------------------------------------------------- */

enum { WIDTH = 100, KEY_MAX = 500 };

/* May the text stand without quotes, anywhere? Deliberately narrow. */
static bool plain_ok(const char *s)
{
    size_t n = strlen(s);
    if (!n || s[n - 1] == ' ' || !strncmp(s, "---", 3) || !strncmp(s, "...", 3)) return false;
    if (!isalnum((unsigned char)*s) && !strchr("_./$", *s) && !(strchr("+-", *s) && (isalnum((unsigned char)s[1]) || s[1] == '.'))) return false;
    for (const char *c = s; *c; c++) {
        size_t name = *c == '$' && c[1] == '{' ? strspn(c + 2, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") : 0;
        if (name && c[2 + name] == '}') c += 2 + name;
        else if (!isalnum((unsigned char)*c) && !strchr("_./+-$()=;^<>~ ", *c)) return false;
    }
    return true;
}

/* Decodes one character of valid UTF-8. */
static unsigned decode(const char **s)
{
    const unsigned char *u = (const unsigned char *)*s;
    int                  more = *u < 0x80 ? 0 : *u < 0xe0 ? 1 : *u < 0xf0 ? 2 : 3;
    unsigned             c = more == 0 ? *u : *u & (0x3fu >> more);
    for (int i = 1; i <= more && u[i]; i++) c = c << 6 | (u[i] & 0x3fu), ++*s;
    ++*s;
    return c;
}

/* fprintf, or with f NULL only the number of bytes it would print. */
static int emit(FILE *f, const char *fmt, ...) QT_PRINTF(2, 3);
static int emit(FILE *f, const char *fmt, ...)
{
    va_list ap;
    int     n;
    va_start(ap, fmt);
    n = f ? vfprintf(f, fmt, ap) : vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    return n;
}

static int print_quoted(FILE *f, const char *s)
{
    int n = emit(f, "\"");
    while (*s) {
        const char *begin = s;
        unsigned    c = decode(&s);
        if (c == '"' || c == '\\') n += emit(f, "\\%c", (int)c);
        else if (c == '\n') n += emit(f, "\\n");
        else if (c == '\t') n += emit(f, "\\t");
        else if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff || (c >= 0xfffe && c <= 0xffff))
            n += emit(f, "\\u%04X", c);
        else n += emit(f, "%.*s", (int)(s - begin), begin);
    }
    return n + emit(f, "\"");
}

static int print_word(FILE *f, const char *s, bool quote) { return quote || !plain_ok(s) ? print_quoted(f, s) : emit(f, "%s", s); }

static bool is_leaf(const qt_yaml *y) { return y->kind == QT_YAML_NULL || y->kind == QT_YAML_SCALAR || !y->n; }

static int print_leaf(FILE *f, const qt_yaml *y)
{
    const char *s;
    int         n = y->tag ? emit(f, "%s", y->tag) : 0;
    if (y->kind == QT_YAML_NULL && y->tag && !*y->text) return n;
    if (y->tag) n += emit(f, " ");
    if (y->kind == QT_YAML_MAP) return n + emit(f, "{}");
    if (y->kind == QT_YAML_LIST) return n + emit(f, "[]");
    if (y->kind == QT_YAML_NULL) return n + emit(f, "%s", y->text && *y->text ? y->text : "~");
    if (!y->quoted && !qt_yaml_str(y, &s)) return n + emit(f, "%s", y->text);
    return n + print_word(f, y->text, y->quoted);
}

/* A key too long for "key: value" needs the explicit "? key". */
static int print_key(FILE *f, const char *key, int indent)
{
    bool longer = strlen(key) > KEY_MAX;
    int  n = longer ? emit(f, "? ") : 0;
    n += print_word(f, key, false);
    return longer ? emit(f, indent < 0 ? " :" : "\n%*s:", indent, "") + indent : n + emit(f, ":");
}

/* One line, brackets and all; returns its length. */
static int print_flow(FILE *f, const qt_yaml *y)
{
    bool map = y->kind == QT_YAML_MAP;
    int  n = 0;
    if (is_leaf(y)) return print_leaf(f, y);
    if (y->tag) n += emit(f, "%s ", y->tag);
    n += emit(f, map ? "{" : "[");
    for (int i = 0; i < y->n; i++) {
        if (i) n += emit(f, ", ");
        if (map) n += print_key(f, y->key[i], -1) + emit(f, " ");
        n += print_flow(f, y->item[i]);
    }
    return n + emit(f, map ? "}" : "]");
}

static bool prints_flow(const qt_yaml *y, int column)
{
    if (is_leaf(y) || y->tag) return true;
    for (int i = 0; i < y->n; i++)
        if (!is_leaf(y->item[i])) return false;
    return column + print_flow(NULL, y) <= WIDTH;
}

/* The cursor stands at column `indent` already. A short leaf follows its key or dash, a list item begins on the line of its dash. */
static void print_block(FILE *f, const qt_yaml *y, int indent)
{
    bool list = y->kind == QT_YAML_LIST;
    for (int i = 0; i < y->n; i++) {
        int column = indent + 1 + (i ? fprintf(f, "%*s", indent, "") - indent : 0);
        column += list ? fprintf(f, "-") : print_key(f, y->key[i], indent);
        if (prints_flow(y->item[i], column)) fprintf(f, " "), print_flow(f, y->item[i]), fprintf(f, "\n");
        else {
            if (list) fprintf(f, " ");
            else fprintf(f, "\n%*s", indent + 2, "");
            print_block(f, y->item[i], indent + 2);
        }
    }
}

void qt_yaml_print(FILE *f, const qt_yaml *y)
{
    if (is_leaf(y) || y->tag) print_flow(f, y), fprintf(f, "\n");
    else print_block(f, y, 0);
}
