/* See yaml_flow.h. One pass over the text that knows just enough of YAML: quotes, comments, block scalars, and where flow begins. */
#include "base/yaml_flow.h"
#include "base/err.h"
#include <ctype.h>
#include <string.h>

typedef struct scan {
    const char *s, *end, *line_start;
    int         depth, line;
    qt_mended  *out;
    qt_arena   *arena;
    qt_err      err;
} scan;

static void put(scan *c, char ch) { c->out->text[c->out->n++] = ch; }

/* Column, in characters, that the next one put will have. */
static int out_col(const scan *c)
{
    int col = 1;
    for (size_t i = c->out->n; i && c->out->text[i - 1] != '\n'; i--) col += (c->out->text[i - 1] & 0xC0) != 0x80;
    return col;
}

static void add(scan *c, char ch)
{
    qt_mended *m = c->out;
    if (m->n_added == m->cap) {
        int   cap = 2 * m->cap + 16;
        void *bigger = qt_arena_alloc(c->arena, (size_t)cap * sizeof *m->added);
        if (!bigger) {
            c->err = QT_EMEM;
            return;
        }
        if (m->n_added) memcpy(bigger, m->added, (size_t)m->n_added * sizeof *m->added);
        m->added = bigger, m->cap = cap;
    }
    m->added[m->n_added++] = (struct qt_added){c->line, out_col(c)};
    put(c, ch);
}

static void copy(scan *c, const char *to)
{
    while (c->s < to) {
        if (*c->s == '\n') c->line++, c->line_start = c->s + 1;
        put(c, *c->s++);
    }
}

/* End of the quoted string that starts here. */
static const char *quoted_end(const scan *c)
{
    char        q = *c->s;
    const char *p = c->s + 1;
    for (; p < c->end; p++) {
        if (q == '"' && *p == '\\' && p + 1 < c->end) p++;
        else if (*p == q && q == '\'' && p + 1 < c->end && p[1] == q) p++;
        else if (*p == q) return p + 1;
    }
    return c->end;
}

/* End of a key like quant[1].weights.num_bits, or NULL when this is none: word characters and dots, at least one index, a colon. */
static const char *indexed_key_end(const scan *c)
{
    const char *p = c->s;
    bool        indexed = false;
    if (!isalpha((unsigned char)*p) && *p != '_') return NULL;
    while (p < c->end && (isalnum((unsigned char)*p) || strchr("_.-", *p) || *p == '[')) {
        if (*p++ != '[') continue;
        const char *digits = p;
        while (p < c->end && isdigit((unsigned char)*p)) p++;
        if (p == digits || p == c->end || *p != ']') return NULL;
        indexed = true, p++;
    }
    return indexed && p < c->end && *p == ':' ? p : NULL;
}

/* In block context a bracket opens flow only where a value can start: at the line's start, after "- ", ": ", an anchor or a tag. */
static bool value_may_start(const scan *c)
{
    const char *p = c->s;
    while (p > c->line_start && (p[-1] == ' ')) p--;
    if (p == c->line_start) return true;
    if (p == c->s) return false;
    if (p[-1] == ':' || p[-1] == '-') return true;
    while (p > c->line_start && p[-1] != ' ') p--;
    return *p == '&' || *p == '!';
}

/* At the end of a line in block context: when the line ends in a block scalar's header, its more indented lines are text. */
static const char *block_scalar_end(const scan *c)
{
    const char *p = c->s, *start = c->line_start;
    int         indent = 0;
    while (p > start && (p[-1] == ' ' || p[-1] == '\r')) p--;
    while (p > start && strchr("+-0123456789", p[-1])) p--;
    if (p == start || !strchr("|>", p[-1]) || p - 1 == start || p[-2] != ' ') return c->s;
    while (start < c->s && (*start == ' ')) start++, indent++;
    for (p = c->s + 1; p < c->end;) {
        const char *line = p, *eol = memchr(p, '\n', (size_t)(c->end - p));
        while (p < c->end && *p == ' ') p++;
        if (p < c->end && *p != '\n' && p - line <= indent) return line - 1;
        p = eol ? eol + 1 : c->end;
    }
    return c->end;
}

static void step(scan *c)
{
    char        before = c->s > c->line_start ? c->s[-1] : '\n', ch = *c->s;
    bool        fresh = strchr(" \n{[,", before) != NULL; /* a token may start here */
    const char *key;
    if (ch == '#' && (before == ' ' || before == '\n')) {
        const char *eol = memchr(c->s, '\n', (size_t)(c->end - c->s));
        copy(c, eol ? eol : c->end);
    } else if ((ch == '"' || ch == '\'') && fresh) {
        copy(c, quoted_end(c));
    } else if (c->depth && fresh && (key = indexed_key_end(c))) {
        add(c, '"'), copy(c, key), add(c, '"');
    } else if (c->depth && fresh && ch == '!') {
        while (c->s < c->end && !strchr(" \n,]}", *c->s)) copy(c, c->s + 1);
        if (c->s < c->end && strchr(",]}", *c->s)) add(c, ' ');
    } else if (ch == '\n' && !c->depth) {
        const char *to = block_scalar_end(c);
        copy(c, to > c->s ? to : c->s + 1);
    } else {
        if ((ch == '{' || ch == '[') && (c->depth || value_may_start(c))) c->depth++;
        if ((ch == '}' || ch == ']') && c->depth) c->depth--;
        copy(c, c->s + 1);
    }
}

qt_err qt_yaml_mend(qt_arena *a, const char *text, size_t n, qt_mended *out)
{
    scan c = {.s = text, .end = text + n, .line_start = text, .line = 1, .out = out, .arena = a};
    *out = (qt_mended){0};
    if (!(out->text = qt_arena_alloc(a, 2 * n + 1))) return QT_EMEM; /* at most one character is added for each of the text */
    while (c.s < c.end && !c.err) step(&c);
    out->text[out->n] = 0;
    return c.err;
}

int qt_mended_col(const qt_mended *m, int line, int col)
{
    int added = 0;
    for (int i = 0; i < m->n_added && m->added[i].line <= line; i++) added += m->added[i].line == line && m->added[i].col < col;
    return col - added;
}
