/* Reads metrics.jsonl line by line: see series.h. A line is an object of plain members; lists in it are passed over, null is no point. */
#include "report/series.h"
#include "base/files.h"
#include "base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LINE = 1 << 16, MAX_NUMBERS = 128, MAX_SERIES = 1 << 17 };

/* ---- one line ------------------------------------------------------------------------------------------------------------------------ */

typedef struct entry {
    const char *event, *where, *split;
    double      step, value[MAX_NUMBERS];
    const char *key[MAX_NUMBERS];
    int         n;
} entry;

static char *blanks(char *s) { return s + strspn(s, " \t\r"); }

/* A string in quotes, made one of C in place; a backslash stands for itself and what follows it for that. NULL if it has no end. */
static char *string(char *s, const char **out)
{
    char *to = s + 1;
    if (*s++ != '"') return NULL;
    for (*out = s; *s && *s != '"'; *to++ = *s++)
        if (*s == '\\' && s[1]) s++;
    if (!*s) return NULL;
    return *to = 0, s + 1;
}

/* Behind a list, which may hold lists. */
static char *list(char *s)
{
    int depth = 0;
    do depth += (*s == '[') - (*s == ']'), s++;
    while (depth && *s);
    return depth ? NULL : s;
}

static char *word(char *s)
{
    static const char *const words[] = {"null", "true", "false"};
    for (int i = 0; i < 3; i++)
        if (!strncmp(s, words[i], strlen(words[i]))) return s + strlen(words[i]);
    return NULL;
}

static char *value(char *s, const char *key, entry *e)
{
    const char *text;
    char       *end;
    if (*s == '[') return list(s);
    if (*s == '"') {
        if (!(s = string(s, &text))) return NULL;
        if (!strcmp(key, "event")) e->event = text;
        if (!strcmp(key, "path")) e->where = text;
        if (!strcmp(key, "split")) e->split = text;
        return s;
    }
    double v = strtod(s, &end);
    if (end == s) return word(s);
    if (!strcmp(key, "step")) e->step = v;
    else if (strcmp(key, "epoch") && isfinite(v) && e->n < MAX_NUMBERS) e->key[e->n] = key, e->value[e->n++] = v;
    return end;
}

static bool parse(char *s, entry *e)
{
    const char *key;
    *e = (entry){.step = NAN};
    s = blanks(s);
    if (*s++ != '{') return false;
    for (;; s++) {
        if (!(s = string(blanks(s), &key)) || *(s = blanks(s)) != ':' || !(s = value(blanks(s + 1), key, e))) return false;
        s = blanks(s);
        if (*s != ',') break;
    }
    if (!e->where) e->where = e->split ? e->split : "";
    return *s == '}' && e->event && isfinite(e->step);
}

/* ---- the table of series ------------------------------------------------------------------------------------------------------------- */

static uint64_t hash_of(const char *event, const char *where, const char *key)
{
    return qt_hash(event) * 31 + qt_hash(where) * 17 + qt_hash(key);
}

static bool is(const qt_series *s, const char *event, const char *where, const char *key)
{
    return !strcmp(s->key, key) && !strcmp(s->where, where) && !strcmp(s->event, event);
}

/* The slot of a series, or the empty one where it belongs. */
static int *slot_of(const qt_events *l, const char *event, const char *where, const char *key)
{
    int i = (int)(hash_of(event, where, key) % (uint64_t)l->slots);
    while (l->slot[i] && !is(l->series[l->slot[i] - 1], event, where, key)) i = (i + 1) % l->slots;
    return &l->slot[i];
}

static void *bigger(qt_arena *a, const void *old, size_t n, size_t cap)
{
    void *p = qt_arena_alloc(a, cap);
    if (p && n) memcpy(p, old, n);
    return p;
}

/* Twice the room for series, and four times as many slots. */
static qt_err grow(qt_events *l)
{
    l->cap = l->cap ? 2 * l->cap : 64, l->slots = 4 * l->cap;
    if (!(l->series = bigger(l->arena, l->series, (size_t)l->n * sizeof *l->series, (size_t)l->cap * sizeof *l->series))) return QT_EMEM;
    if (!(l->slot = qt_arena_zalloc(l->arena, (size_t)l->slots * sizeof *l->slot))) return QT_EMEM;
    for (int i = 0; i < l->n; i++) *slot_of(l, l->series[i]->event, l->series[i]->where, l->series[i]->key) = i + 1;
    return QT_OK;
}

/* NULL: there are too many already. */
static qt_err series_of(qt_events *l, const entry *e, const char *key, qt_series **out)
{
    if (l->n == l->cap) QT_TRY(grow(l));
    int *slot = slot_of(l, e->event, e->where, key);
    *out = *slot ? l->series[*slot - 1] : NULL;
    if (*out || l->n == MAX_SERIES) return QT_OK;
    qt_series *s = qt_arena_zalloc(l->arena, sizeof *s);
    if (!s) return QT_EMEM;
    s->event = qt_arena_strdup(l->arena, e->event), s->where = qt_arena_strdup(l->arena, e->where), s->key = qt_arena_strdup(l->arena, key);
    if (!s->event || !s->where || !s->key) return QT_EMEM;
    l->series[l->n++] = *out = s, *slot = l->n;
    return QT_OK;
}

static qt_err add(qt_events *l, const entry *e, int i)
{
    qt_series *s;
    QT_TRY(series_of(l, e, e->key[i], &s));
    if (!s) return QT_OK;
    if (s->n == s->cap) {
        size_t n = (size_t)s->n * sizeof(double), cap = n ? 2 * n : 4 * sizeof(double);
        s->step = bigger(l->arena, s->step, n, cap), s->value = bigger(l->arena, s->value, n, cap);
        if (!s->step || !s->value) return QT_EMEM;
        s->cap = (int)(cap / sizeof(double));
    }
    s->step[s->n] = e->step, s->value[s->n++] = e->value[i];
    return QT_OK;
}

/* ---- the file ------------------------------------------------------------------------------------------------------------------------ */

static qt_err add_line(qt_events *l, char *text, bool whole)
{
    entry e;
    l->lines++;
    if (!whole || !parse(text, &e)) {
        if (!l->bad++) l->first_bad = l->lines;
        return QT_OK;
    }
    l->step = e.step;
    for (int i = 0; i < e.n; i++) QT_TRY(add(l, &e, i));
    return QT_OK;
}

qt_err qt_events_read(qt_arena *a, const char *file, qt_events *l)
{
    qt_map m;
    qt_err e = QT_OK;
    char  *line = qt_arena_alloc(a, MAX_LINE);
    *l = (qt_events){.arena = a, .step = -1};
    if (!line) return QT_EMEM;
    QT_TRY(qt_file_map(file, &m));
    for (size_t at = 0; at < m.n && e == QT_OK;) {
        const uint8_t *end = memchr(m.p + at, '\n', m.n - at);
        size_t         n = (end ? (size_t)(end - m.p) : m.n) - at, kept = n < MAX_LINE ? n : 0;
        memcpy(line, m.p + at, kept), line[kept] = 0;
        e = add_line(l, line, kept == n && strlen(line) == n);
        at += n + 1;
    }
    qt_file_unmap(&m);
    return e;
}

const qt_series *qt_events_find(const qt_events *l, const char *event, const char *where, const char *key)
{
    if (where && l->slots) return *slot_of(l, event, where, key) ? l->series[*slot_of(l, event, where, key) - 1] : NULL;
    for (int i = 0; i < l->n; i++)
        if (!strcmp(l->series[i]->event, event) && !strcmp(l->series[i]->key, key)) return l->series[i];
    return NULL;
}

double qt_events_last(const qt_events *l, const char *event, const char *where, const char *key)
{
    const qt_series *s = qt_events_find(l, event, where, key);
    return s ? s->value[s->n - 1] : NAN;
}
