/* YAML: libyaml's events become a tree in an arena. libyaml reads YAML 1.1; what 1.2's core schema asks for is done here:
 *   plain scalars     null ~ Null NULL and nothing | true True TRUE false False FALSE | 10 0o17 0x1F | 1e-3 .5 1. .inf .nan | else a string
 *   `{a: !unset}`     libyaml wants a blank between a tag and a closing bracket: mend_tags puts one there and `place` takes it out of columns
 *   `{a: ${x}}`, `{quant[1].lr: 2}`, `{split: train[:90%]}`   YAML allows no brackets within a plain scalar in flow style. A recipe does,
 *                     where nothing else could be meant: take_text swaps them for private characters during the scan
 *   tabs              refused wherever they indent, in flow style too, where libyaml would let them pass
 * Errors in the meaning of a document (duplicate keys, unknown tags ...) are gathered; one in its form ends the scan.
 * Left out: << merge keys (gone in 1.2: an ordinary key), tags other than !unset and those of the core schema, streams of documents. */
#include "base/yaml.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* Keys and anchors are looked for one after the other. */
enum { DEPTH_MAX = 200, NODES_MAX = 100000, KEYS_MAX = 1000, ANCHORS_MAX = 256, TABS_MAX = 50, MENDS_MAX = 1000, FILE_MAX = 16 << 20 };

/* ---- building blocks of trees ---------------------------------------------------------------------------------------------- */

static bool resolves_null(const char *s) { return !*s || !strcmp(s, "~") || !strcmp(s, "null") || !strcmp(s, "Null") || !strcmp(s, "NULL"); }

static qt_yaml *fresh(qt_arena *a, qt_yaml_kind kind, qt_pos pos)
{
    qt_yaml *y = qt_arena_zalloc(a, sizeof *y);
    if (y) y->kind = kind, y->pos = pos;
    return y;
}

qt_yaml *qt_yaml_map(qt_arena *a, qt_pos pos) { return fresh(a, QT_YAML_MAP, pos); }
qt_yaml *qt_yaml_list(qt_arena *a, qt_pos pos) { return fresh(a, QT_YAML_LIST, pos); }

qt_yaml *qt_yaml_scalar(qt_arena *a, const char *text, qt_pos pos)
{
    qt_yaml *y = fresh(a, resolves_null(text) ? QT_YAML_NULL : QT_YAML_SCALAR, pos);
    if (y && !(y->text = qt_arena_strdup(a, text))) return NULL;
    return y;
}

static void *grown(qt_arena *a, const void *old, int n, int cap, size_t size)
{
    void *p = qt_arena_alloc(a, (size_t)cap * size);
    if (p && n) memcpy(p, old, (size_t)n * size);
    return p;
}

/* Room for one more child. */
static qt_err make_room(qt_arena *a, qt_yaml *y)
{
    int cap = y->cap ? 2 * y->cap : 4;
    if (y->n < y->cap) return QT_OK;
    if (!(y->item = grown(a, y->item, y->n, cap, sizeof *y->item))) return QT_EMEM;
    if (y->kind == QT_YAML_MAP) {
        if (!(y->key = grown(a, y->key, y->n, cap, sizeof *y->key))) return QT_EMEM;
        if (!(y->key_pos = grown(a, y->key_pos, y->n, cap, sizeof *y->key_pos))) return QT_EMEM;
    }
    y->cap = cap;
    return QT_OK;
}

static qt_err add_key(qt_arena *a, qt_yaml *map, const char *key, qt_pos pos, qt_yaml *value)
{
    QT_TRY(make_room(a, map));
    map->key[map->n] = key, map->key_pos[map->n] = pos, map->item[map->n++] = value;
    return QT_OK;
}

int qt_yaml_find(const qt_yaml *map, const char *key)
{
    if (!map || map->kind != QT_YAML_MAP) return -1;
    for (int i = 0; i < map->n; i++)
        if (!strcmp(map->key[i], key)) return i;
    return -1;
}

qt_err qt_yaml_put(qt_arena *a, qt_yaml *map, const char *key, qt_yaml *value)
{
    int i = qt_yaml_find(map, key);
    QT_ASSERT(map->kind == QT_YAML_MAP);
    if (!value) return QT_EMEM;
    if (i >= 0) return map->item[i] = value, QT_OK;
    if (!(key = qt_arena_strdup(a, key))) return QT_EMEM;
    return add_key(a, map, key, value->pos, value);
}

qt_err qt_yaml_push(qt_arena *a, qt_yaml *list, qt_yaml *value)
{
    QT_ASSERT(list->kind == QT_YAML_LIST);
    if (!value) return QT_EMEM;
    QT_TRY(make_room(a, list));
    list->item[list->n++] = value;
    return QT_OK;
}

const qt_yaml *qt_yaml_get(const qt_yaml *map, const char *key)
{
    int i = qt_yaml_find(map, key);
    return i < 0 ? NULL : map->item[i];
}

static bool same_text(const char *a, const char *b) { return a && b ? !strcmp(a, b) : a == b; }

bool qt_yaml_same(const qt_yaml *a, const qt_yaml *b)
{
    if (a->kind != b->kind || a->n != b->n || a->quoted != b->quoted || !same_text(a->text, b->text) || !same_text(a->tag, b->tag)) return false;
    for (int i = 0; i < a->n; i++) {
        const qt_yaml *other = a->kind == QT_YAML_MAP ? qt_yaml_get(b, a->key[i]) : b->item[i];
        if (!other || !qt_yaml_same(a->item[i], other)) return false;
    }
    return true;
}

qt_pos qt_yaml_key_pos(const qt_yaml *map, const char *key)
{
    int i = qt_yaml_find(map, key);
    return i >= 0 ? map->key_pos[i] : map ? map->pos : (qt_pos){0};
}

/* ---- typed reading: the core schema ---------------------------------------------------------------------------------------- */

static const char *plain(const qt_yaml *y) { return y && y->kind == QT_YAML_SCALAR && !y->quoted ? y->text : NULL; }

/* Skips characters of a class; false if there was none. */
static bool skip(const char **s, int (*is)(int))
{
    const char *begin = *s;
    while (is((unsigned char)**s)) ++*s;
    return *s > begin;
}

static int is_octal(int c) { return c >= '0' && c <= '7'; }

static bool looks_int(const char *s, int *base)
{
    *base = 10;
    if (s[0] == '0' && s[1] == 'o') return s += 2, *base = 8, skip(&s, is_octal) && !*s;
    if (s[0] == '0' && s[1] == 'x') return s += 2, *base = 16, skip(&s, isxdigit) && !*s;
    s += *s == '-' || *s == '+';
    return skip(&s, isdigit) && !*s;
}

static bool looks_real(const char *s)
{
    bool whole, part;
    s += *s == '-' || *s == '+';
    whole = skip(&s, isdigit);
    part = *s == '.' && (s++, skip(&s, isdigit));
    if (!whole && !part) return false;
    if (*s != 'e' && *s != 'E') return !*s;
    s++, s += *s == '-' || *s == '+';
    return skip(&s, isdigit) && !*s;
}

bool qt_yaml_bool(const qt_yaml *y, bool *v)
{
    const char *s = plain(y);
    if (!s) return false;
    *v = !strcmp(s, "true") || !strcmp(s, "True") || !strcmp(s, "TRUE");
    return *v || !strcmp(s, "false") || !strcmp(s, "False") || !strcmp(s, "FALSE");
}

bool qt_yaml_int(const qt_yaml *y, int64_t *v)
{
    const char *s = plain(y);
    int         base;
    if (!s || !looks_int(s, &base)) return false;
    errno = 0;
    *v = strtoll(base == 10 ? s : s + 2, NULL, base);
    return errno == 0;
}

bool qt_yaml_real(const qt_yaml *y, double *v)
{
    const char *s = plain(y), *u;
    int         base;
    if (!s) return false;
    u = s + (*s == '-' || *s == '+');
    if (!strcmp(u, ".inf") || !strcmp(u, ".Inf") || !strcmp(u, ".INF")) return *v = *s == '-' ? -INFINITY : INFINITY, true;
    if (!strcmp(s, ".nan") || !strcmp(s, ".NaN") || !strcmp(s, ".NAN")) return *v = NAN, true;
    if (looks_int(s, &base) && base != 10) return *v = (double)strtoull(s + 2, NULL, base), true;
    if (!looks_real(s)) return false;
    *v = strtod(s, NULL);
    return true;
}

bool qt_yaml_str(const qt_yaml *y, const char **v)
{
    bool   b;
    double r;
    if (!y || y->kind != QT_YAML_SCALAR || qt_yaml_bool(y, &b) || qt_yaml_real(y, &r)) return false;
    *v = y->text;
    return true;
}

const char *qt_yaml_kind_name(const qt_yaml *y)
{
    bool   b;
    double r;
    if (!y || y->kind == QT_YAML_NULL) return "null";
    if (y->kind == QT_YAML_MAP) return "a map";
    if (y->kind == QT_YAML_LIST) return "a list";
    return qt_yaml_bool(y, &b) ? "a boolean" : qt_yaml_real(y, &r) ? "a number" : "a string";
}

/* ---- the reader: state and positions ----------------------------------------------------------------------------------------- */

typedef struct anchor {
    const char    *name;
    const qt_yaml *node; /* NULL while the anchored node is being read */
} anchor;

typedef struct spot {
    int  line, col; /* 0-based, as libyaml counts */
    bool inside;    /* of a scalar that runs over several lines */
} spot;

typedef struct reader {
    qt_arena     *a;
    const char   *name;
    char         *text; /* the document, mended */
    size_t        n;
    bool          hidden; /* brackets within words are swapped */
    yaml_parser_t parser;
    yaml_event_t  event;
    qt_err        err;
    int           n_nodes, n_anchors, cap_anchors, n_tabs, n_mends;
    anchor       *anchors;
    spot          tabs[TABS_MAX], mends[MENDS_MAX];
} reader;

static qt_pos place(const reader *p, yaml_mark_t m)
{
    int col = (int)m.column;
    for (int i = 0; i < p->n_mends; i++) col -= p->mends[i].line == (int)m.line && p->mends[i].col < (int)m.column;
    return (qt_pos){p->name, (int)m.line + 1, col + 1};
}

/* Byte offset of the index-th character; the mark of a byte offset. */
static size_t offset_of(const reader *p, size_t index)
{
    size_t at = 0;
    for (; index && at < p->n; index--)
        do at++;
        while (at < p->n && ((unsigned char)p->text[at] & 0xc0) == 0x80);
    return at;
}

static yaml_mark_t mark_of(const reader *p, size_t offset)
{
    yaml_mark_t m = {0};
    for (size_t i = 0; i < offset && i < p->n; i++)
        if (p->text[i] == '\n') m.line++, m.column = 0;
        else m.column += ((unsigned char)p->text[i] & 0xc0) != 0x80;
    return m;
}

/* Every line whose indentation holds a tab. */
static void find_tabs(reader *p)
{
    int line = 0, col = 0;
    for (size_t i = 0; i < p->n && p->n_tabs < TABS_MAX; i++) {
        if (p->text[i] == '\n') line++, col = 0;
        else if (col < 0) continue;
        else if (p->text[i] == ' ') col++;
        else {
            if (p->text[i] == '\t') p->tabs[p->n_tabs++] = (spot){line, col, false};
            col = -1;
        }
    }
}

/* A quoted or block scalar may hold tabs at the beginning of its lines. */
static void allow_tabs(reader *p, const yaml_event_t *e)
{
    int  first = (int)e->start_mark.line, last = (int)e->end_mark.line - (e->end_mark.column == 0);
    bool plain_style = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    for (int i = 0; i < p->n_tabs && !plain_style; i++)
        if (p->tabs[i].line > first && p->tabs[i].line <= last) p->tabs[i].inside = true;
}

static qt_err fail_tab(reader *p, yaml_mark_t m)
{
    return p->err = qt_fail_at(QT_ERECIPE, place(p, m), "a tab is used as indentation, YAML allows only spaces there");
}

/* Reports the tabs of lines up to `last`. */
static void fail_tabs(reader *p, int last)
{
    for (int i = 0; i < p->n_tabs; i++)
        if (!p->tabs[i].inside && p->tabs[i].line <= last)
            fail_tab(p, (yaml_mark_t){.line = (size_t)p->tabs[i].line, .column = (size_t)p->tabs[i].col});
}

/* The form of the document is broken: libyaml's message, or a clearer one for tabs. */
static void fail_form(reader *p)
{
    const yaml_parser_t *y = &p->parser;
    const char          *problem = y->problem ? y->problem : "not YAML";
    yaml_mark_t          m = y->error == YAML_READER_ERROR ? mark_of(p, y->problem_offset) : y->problem_mark;
    size_t               at = offset_of(p, m.index);
    int                  before = p->n_tabs;
    if (y->error == YAML_MEMORY_ERROR) p->err = qt_fail(QT_EMEM, "%s: out of memory", p->name);
    else if (y->error == YAML_SCANNER_ERROR && at < p->n && p->text[at] == '\t' && (strstr(problem, "tab") || strstr(problem, "any token"))) {
        for (int i = 0; i < p->n_tabs; i++) before = p->tabs[i].line == (int)m.line ? i : before;
        if (before == p->n_tabs) fail_tab(p, m);
        fail_tabs(p, INT32_MAX);
    } else {
        fail_tabs(p, (int)m.line);
        if (y->context && y->context_mark.line != m.line)
            p->err = qt_fail_at(QT_ERECIPE, place(p, m), "%s (%s begun in line %zu)", problem, y->context, y->context_mark.line + 1);
        else if (y->context) p->err = qt_fail_at(QT_ERECIPE, place(p, m), "%s (%s)", problem, y->context);
        else p->err = qt_fail_at(QT_ERECIPE, place(p, m), "%s", problem);
    }
}

/* ---- the reader: mending the text -------------------------------------------------------------------------------------------- */

/* What stands for a bracket during the scan: U+10FFFA and the three after it. Four bytes, and one column like the bracket. */
static const char brackets[] = "[]{}";
static void put_hidden(char *to, char bracket) { memcpy(to, "\xf4\x8f\xbf", 3), to[3] = (char)(0xba + (strchr(brackets, bracket) - brackets)); }

static bool is_hidden(const char *s, size_t n)
{
    return n >= 4 && !memcmp(s, "\xf4\x8f\xbf", 3) && (unsigned char)s[3] >= 0xba && (unsigned char)s[3] <= 0xbd;
}

/* Length of "${name}" at s, or of "[...]" right after a word (an index, a slice); 0 if neither. */
static size_t bracketed(const char *s, const char *end, bool after_word)
{
    bool        var = end - s > 1 && s[0] == '$' && s[1] == '{', slice = after_word && *s == '[';
    const char *b = s + 1 + var, *begin = b;
    if (!var && !slice) return 0;
    while (b < end && (var ? isalnum((unsigned char)*b) || strchr("_.-", *b) : isdigit((unsigned char)*b) || strchr(":%.-", *b)) && *b) b++;
    return b > begin && b < end && *b == (var ? '}' : ']') ? (size_t)(b + 1 - s) : 0;
}

/* Copies the text into the reader with brackets hidden and room for the blanks of mend_tags. */
static qt_err take_text(reader *p, const char *text, size_t n)
{
    const char *end = text + n;
    size_t      room = n + MENDS_MAX + 1;
    bool        after_word = false;
    p->hidden = true;
    for (size_t i = 0; i < n; i++) {
        room += text[i] == '$' || text[i] == '[' ? 6 : 0;
        if (is_hidden(text + i, n - i)) p->hidden = false; /* the text has such characters of its own */
    }
    if (!(p->text = qt_alloc(room))) return QT_EMEM;
    while (text < end) {
        size_t len = p->hidden ? bracketed(text, end, after_word) : 0;
        after_word = len || isalnum((unsigned char)*text) || *text == '_';
        if (!len) p->text[p->n++] = *text++;
        for (; len; len--, text++)
            if (strchr(brackets, *text)) put_hidden(p->text + p->n, *text), p->n += 4;
            else p->text[p->n++] = *text;
    }
    return QT_OK;
}

/* A string of an event as a string of the tree, with its brackets back. NULL when memory is out. */
static char *keep(reader *p, const yaml_char_t *value, size_t n)
{
    const char *s = (const char *)value;
    char       *text = qt_arena_alloc(p->a, n + 1), *to = text;
    if (!text) return p->err = QT_EMEM, NULL;
    for (size_t i = 0; i < n;)
        if (p->hidden && is_hidden(s + i, n - i)) *to++ = brackets[(unsigned char)s[i + 3] - 0xba], i += 4;
        else *to++ = s[i++];
    *to = 0;
    return text;
}

static bool start(reader *p)
{
    if (!yaml_parser_initialize(&p->parser)) return p->err = qt_fail(QT_EMEM, "%s: out of memory", p->name), false;
    yaml_parser_set_encoding(&p->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&p->parser, (const unsigned char *)p->text, p->n);
    return true;
}

/* Scans the tokens once more for each tag that touches a closing bracket, and parts them. */
static void mend_tags(reader *p)
{
    for (bool again = memchr(p->text, '!', p->n) != NULL; again && p->n_mends < MENDS_MAX;) {
        yaml_token_t t = {0};
        if (!start(p)) return;
        while (yaml_parser_scan(&p->parser, &t) && t.type != YAML_STREAM_END_TOKEN) yaml_token_delete(&t);
        again = p->parser.error == YAML_SCANNER_ERROR && p->parser.context && !strcmp(p->parser.context, "while scanning a tag");
        if (again) {
            yaml_mark_t m = p->parser.problem_mark;
            size_t      at = offset_of(p, m.index);
            again = at < p->n && (p->text[at] == '}' || p->text[at] == ']');
            if (again) {
                memmove(p->text + at + 1, p->text + at, p->n++ - at);
                p->text[at] = ' ';
                p->mends[p->n_mends++] = (spot){(int)m.line, (int)m.column, false};
            }
        }
        yaml_parser_delete(&p->parser);
    }
}

/* ---- the reader: events to nodes --------------------------------------------------------------------------------------------- */

/* The next event; false when the form is broken. */
static bool next(reader *p)
{
    yaml_event_delete(&p->event);
    if (p->err == QT_EMEM) return false;
    if (!yaml_parser_parse(&p->parser, &p->event)) return fail_form(p), false;
    if (p->event.type == YAML_SCALAR_EVENT) allow_tabs(p, &p->event);
    return true;
}

static bool new_nodes(reader *p, int n)
{
    qt_pos pos = place(p, p->event.start_mark);
    p->n_nodes += n;
    if (p->n_nodes <= NODES_MAX) return true;
    p->err = qt_fail_at(QT_ERECIPE, pos, "the document is too large: more than %d nodes, aliases counted each time", NODES_MAX);
    return false;
}

/* Remembers an anchor; its index, or -1. */
static int open_anchor(reader *p, const yaml_char_t *name)
{
    if (!name) return -1;
    if (p->n_anchors == ANCHORS_MAX) {
        p->err = qt_fail_at(QT_ERECIPE, place(p, p->event.start_mark), "more than %d anchors", ANCHORS_MAX);
        return -1;
    }
    if (p->n_anchors == p->cap_anchors) {
        int cap = p->cap_anchors ? 2 * p->cap_anchors : 8;
        if (!(p->anchors = grown(p->a, p->anchors, p->n_anchors, cap, sizeof *p->anchors))) return p->err = QT_EMEM, -1;
        p->cap_anchors = cap;
    }
    p->anchors[p->n_anchors] = (anchor){keep(p, name, strlen((const char *)name)), NULL};
    return p->anchors[p->n_anchors].name ? p->n_anchors++ : -1;
}

/* Nodes of a tree; *deepest is raised to the depth of its leaves. */
static int count_nodes(const qt_yaml *y, int depth, int *deepest)
{
    int n = 1;
    if (depth > *deepest) *deepest = depth;
    for (int i = 0; i < y->n; i++) n += count_nodes(y->item[i], depth + 1, deepest);
    return n;
}

/* What an alias stands for, or NULL with a message. */
static const qt_yaml *anchored(reader *p)
{
    const char *name = (const char *)p->event.data.alias.anchor;
    qt_pos      pos = place(p, p->event.start_mark);
    for (int i = p->n_anchors - 1; i >= 0; i--)
        if (!strcmp(p->anchors[i].name, name)) {
            if (!p->anchors[i].node) p->err = qt_fail_at(QT_ERECIPE, pos, "alias '*%s' stands inside its own anchor", name);
            return p->anchors[i].node;
        }
    p->err = qt_fail_at(QT_ERECIPE, pos, "alias '*%s' has no anchor '&%s' before it", name, name);
    return NULL;
}

/* Keeps a local tag; checks one of the core schema against what it stands on. */
static void take_tag(reader *p, qt_yaml *y, const yaml_char_t *yaml_tag)
{
    static const char *const known[] = {"!unset"};
    const char              *tag = (const char *)yaml_tag, *core = "tag:yaml.org,2002:", *hint;
    bool                     b, fits;
    int64_t                  i;
    double                   r;
    if (!tag) return;
    if (!strcmp(tag, known[0])) {
        y->tag = known[0];
        return;
    }
    hint = qt_near(tag, 1, known);
    if (!strcmp(tag, "!")) tag = y->text ? "tag:yaml.org,2002:str" : y->kind == QT_YAML_MAP ? "tag:yaml.org,2002:map" : "tag:yaml.org,2002:seq";
    if (strncmp(tag, core, strlen(core))) {
        p->err = qt_fail_at(QT_ERECIPE, y->pos, hint ? "unknown tag '%s', did you mean '%s'?" : "unknown tag '%s'", tag, hint);
        return;
    }
    tag += strlen(core);
    if ((fits = !strcmp(tag, "str") && y->text)) y->kind = QT_YAML_SCALAR, y->quoted = true;
    else if (!strcmp(tag, "map")) fits = y->kind == QT_YAML_MAP;
    else if (!strcmp(tag, "seq")) fits = y->kind == QT_YAML_LIST;
    else if (!strcmp(tag, "null")) fits = y->kind == QT_YAML_NULL;
    else if (!strcmp(tag, "bool")) fits = qt_yaml_bool(y, &b);
    else if (!strcmp(tag, "int")) fits = qt_yaml_int(y, &i);
    else if (!strcmp(tag, "float")) fits = qt_yaml_real(y, &r);
    if (!fits) p->err = qt_fail_at(QT_ERECIPE, y->pos, "tag '!!%s' does not fit %s", tag, qt_yaml_kind_name(y));
}

static qt_yaml *node(reader *p, int depth);

static bool too_deep(reader *p, int depth)
{
    if (depth > DEPTH_MAX) p->err = qt_fail_at(QT_ERECIPE, place(p, p->event.start_mark), "nested deeper than %d levels", DEPTH_MAX);
    return depth > DEPTH_MAX;
}

static qt_yaml *read_alias(reader *p, int depth)
{
    qt_pos         pos = place(p, p->event.start_mark);
    const qt_yaml *from = anchored(p);
    qt_yaml       *y;
    if (from && (!new_nodes(p, count_nodes(from, depth, &depth)) || too_deep(p, depth))) return NULL;
    y = from ? qt_yaml_copy(p->a, from) : qt_yaml_scalar(p->a, "", pos);
    if (y) y->pos = pos;
    return y;
}

static qt_yaml *read_scalar(reader *p)
{
    const yaml_event_t *e = &p->event;
    qt_pos              pos = place(p, e->start_mark);
    char               *text = keep(p, e->data.scalar.value, e->data.scalar.length);
    qt_yaml            *y = text ? qt_yaml_scalar(p->a, text, pos) : NULL;
    if (!y) return NULL;
    if (strlen((const char *)e->data.scalar.value) < e->data.scalar.length) p->err = qt_fail_at(QT_ERECIPE, pos, "a string with a NUL character");
    y->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (y->quoted) y->kind = QT_YAML_SCALAR;
    take_tag(p, y, e->data.scalar.tag);
    return y;
}

static qt_yaml *read_list(reader *p, int depth)
{
    qt_yaml *y = qt_yaml_list(p->a, place(p, p->event.start_mark)), *item;
    if (!y) return NULL;
    take_tag(p, y, p->event.data.sequence_start.tag);
    while (next(p) && p->event.type != YAML_SEQUENCE_END_EVENT)
        if (!(item = node(p, depth + 1)) || qt_yaml_push(p->a, y, item)) return NULL;
    return p->event.type == YAML_SEQUENCE_END_EVENT ? y : NULL;
}

/* The text of a key, NULL on a broken form. A key that is no scalar is reported and stands as "". */
static const char *read_key(reader *p, int depth)
{
    qt_pos   pos = place(p, p->event.start_mark);
    qt_yaml *y = node(p, depth + 1);
    if (y && !y->text) p->err = qt_fail_at(QT_ERECIPE, pos, "a key must be a scalar, this is %s", qt_yaml_kind_name(y));
    return !y ? NULL : y->text ? y->text : "";
}

static qt_yaml *read_map(reader *p, int depth)
{
    qt_yaml *y = qt_yaml_map(p->a, place(p, p->event.start_mark)), *value;
    if (!y) return NULL;
    take_tag(p, y, p->event.data.mapping_start.tag);
    while (next(p) && p->event.type != YAML_MAPPING_END_EVENT) {
        qt_pos      pos = place(p, p->event.start_mark);
        qt_err      before = p->err;
        const char *key = read_key(p, depth);
        bool        bad = p->err != before;
        int         twin = key ? qt_yaml_find(y, key) : -1;
        if (twin >= 0 && !bad) {
            qt_pos at = y->key_pos[twin];
            p->err = qt_fail_at(QT_ERECIPE, pos, "duplicate key '%s', first at line %d:%d", key, at.line, at.col);
        }
        if (!key || !next(p) || !(value = node(p, depth + 1))) return NULL;
        if (y->n == KEYS_MAX) return p->err = qt_fail_at(QT_ERECIPE, pos, "a map of more than %d keys", KEYS_MAX), NULL;
        if (twin < 0 && add_key(p->a, y, key, pos, value)) return NULL;
    }
    return p->event.type == YAML_MAPPING_END_EVENT ? y : NULL;
}

/* The node that begins with the current event; NULL when the form is broken or memory is out. */
static qt_yaml *node(reader *p, int depth)
{
    const yaml_event_t *e = &p->event;
    const yaml_char_t  *name = NULL;
    qt_yaml            *y;
    int                 i;
    if (too_deep(p, depth)) return NULL;
    if (e->type == YAML_ALIAS_EVENT) return read_alias(p, depth);
    if (!new_nodes(p, 1)) return NULL;
    if (e->type == YAML_SCALAR_EVENT) name = e->data.scalar.anchor;
    else if (e->type == YAML_MAPPING_START_EVENT) name = e->data.mapping_start.anchor;
    else name = e->data.sequence_start.anchor;
    i = open_anchor(p, name);
    if (e->type == YAML_SCALAR_EVENT) y = read_scalar(p);
    else if (e->type == YAML_MAPPING_START_EVENT) y = read_map(p, depth);
    else y = read_list(p, depth);
    if (i >= 0) p->anchors[i].node = y;
    return y;
}

static qt_yaml *document(reader *p)
{
    qt_yaml *y = NULL;
    if (!next(p) || !next(p)) return NULL; /* the stream, then the document or its end. NOLINT(misc-redundant-expression): not the same event */
    if (p->event.type == YAML_STREAM_END_EVENT) return qt_yaml_scalar(p->a, "", (qt_pos){p->name, 1, 1});
    if (!next(p) || !(y = node(p, 1)) || !next(p) || !next(p)) return NULL;
    if (p->event.type != YAML_STREAM_END_EVENT)
        p->err = qt_fail_at(QT_ERECIPE, place(p, p->event.start_mark), "a second document begins here, a file holds one");
    return y;
}

qt_err qt_yaml_parse(qt_arena *a, const char *text, size_t n, const char *name, qt_yaml **out)
{
    reader *p = qt_alloc(sizeof *p);
    qt_err  err = QT_EMEM;
    *out = NULL;
    if (!p) return QT_EMEM;
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) text += 3, n -= 3;
    p->a = a;
    if ((p->name = qt_arena_strdup(a, name)) && !take_text(p, text, n)) {
        find_tabs(p);
        mend_tags(p);
        if (start(p)) {
            *out = document(p);
            if (*out) fail_tabs(p, INT32_MAX);
            else if (!p->err) p->err = QT_EMEM;
            yaml_event_delete(&p->event);
            yaml_parser_delete(&p->parser);
        }
        err = p->err;
    }
    qt_free(p->text);
    qt_free(p);
    return err;
}

qt_err qt_yaml_load(qt_arena *a, const char *file, qt_yaml **out)
{
    FILE  *f = fopen(file, "rb");
    char  *text = NULL;
    int    n = 0, cap = 0;
    qt_err e = QT_OK;
    *out = NULL;
    if (!f) return qt_fail(QT_EIO, "%s: cannot open: %s", file, strerror(errno));
    while (!e && !(e = qt_grow(&text, &cap, n + 65536, 1))) {
        size_t got = fread(text + n, 1, (size_t)(cap - n), f);
        n += (int)got;
        if (!got && ferror(f)) e = qt_fail(QT_EIO, "%s: cannot read: %s", file, strerror(errno));
        if (n > FILE_MAX) e = qt_fail(QT_ERECIPE, "%s: larger than %d MiB, this is no recipe", file, FILE_MAX >> 20);
        if (!got) break;
    }
    fclose(f);
    if (!e) e = qt_yaml_parse(a, text, (size_t)n, file, out);
    qt_free(text);
    return e;
}
