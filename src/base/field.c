/* Field tables: see field.h. Every field first takes its default, read by the same code as the user's text, so a configuration
 * is whole even when errors were reported. */
#include "base/field.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_MAX = 128, TEXT_MAX = 1024 };

const char *qt_type_name(qt_type t)
{
    static const char *const name[] = {
        [QT_BOOL] = "true or false", [QT_INT] = "integer", [QT_REAL] = "number", [QT_STR] = "string", [QT_ENUM] = "word",
        [QT_INTS] = "integers",      [QT_SPAN] = "steps or fraction",            [QT_TREE] = "section",
    };
    return name[t];
}

int qt_choice(const char *choices, const char *word)
{
    size_t n = strlen(word), len;
    for (int i = 0;; i++, choices += len + 1) {
        len = strcspn(choices, "|");
        if (len == n && !memcmp(choices, word, n)) return i;
        if (!choices[len]) return -1;
    }
}

int64_t qt_span_step(qt_span s, int64_t steps) { return !s.set ? -1 : s.fraction ? llround(s.v * (double)steps) : (int64_t)s.v; }

/* Cuts "a|b|c" in buf (a copy) into names; returns their number. */
static int cut(char *buf, const char *choices, const char **names)
{
    int n = 0;
    QT_ASSERT(strlen(choices) < TEXT_MAX);
    memcpy(buf, choices, strlen(choices) + 1);
    for (char *save, *s = strtok_r(buf, "|", &save); s; s = strtok_r(NULL, "|", &save)) {
        QT_ASSERT(n < NAMES_MAX);
        names[n++] = s;
    }
    return n;
}

/* ---- messages ---------------------------------------------------------------------------------------------------------------- */

typedef struct value {
    const qt_yaml  *y;
    const qt_field *field;
    const char     *path; /* of the map */
} value;

/* "optim.lr" */
static const char *full(char buf[TEXT_MAX], const char *path, const char *key)
{
    snprintf(buf, TEXT_MAX, "%s%s%s", path ? path : "", path && *path ? "." : "", key);
    return buf;
}

static qt_err fail_type(const value *v, const char *expected)
{
    char        path[TEXT_MAX];
    const char *found = qt_yaml_kind_name(v->y), *s;
    bool        text = v->y->kind == QT_YAML_SCALAR, quote = qt_yaml_str(v->y, &s);
    full(path, v->path, v->field->name);
    if (!text) return qt_fail_at(QT_ERECIPE, v->y->pos, "%s: expected %s, found %s", path, expected, found);
    if (quote) return qt_fail_at(QT_ERECIPE, v->y->pos, "%s: expected %s, found the string '%.60s'", path, expected, s);
    return qt_fail_at(QT_ERECIPE, v->y->pos, "%s: expected %s, found %s %.60s", path, expected, found, v->y->text);
}

static bool bounded(const qt_field *f) { return f->min != 0 || f->max != 0; }
static bool is_far(double bound) { return fabs(bound) >= 0x1p62; } /* no bound to speak of */

/* "0 to 1", "at least 1", "at most 5" */
static const char *range(char buf[64], const qt_field *f)
{
    if (is_far(f->min) && is_far(f->max)) snprintf(buf, 64, "finite");
    else if (is_far(f->max)) snprintf(buf, 64, "at least %.15g", f->min);
    else if (is_far(f->min)) snprintf(buf, 64, "at most %.15g", f->max);
    else snprintf(buf, 64, "%.15g to %.15g", f->min, f->max);
    return buf;
}

static qt_err fail_bounds(const value *v, const char *must)
{
    char path[TEXT_MAX];
    return qt_fail_at(QT_ERECIPE, v->y->pos, "%s: %s is out of bounds, must be %s", full(path, v->path, v->field->name), v->y->text, must);
}

/* ---- one field --------------------------------------------------------------------------------------------------------------- */

static qt_err read_int(const value *v, int64_t *to)
{
    const qt_field *f = v->field;
    char            must[64];
    double          r;
    if (!qt_yaml_int(v->y, to)) {
        bool huge = qt_yaml_real(v->y, &r) && fabs(r) >= 0x1p63 && !strpbrk(v->y->text, ".eE");
        return huge ? fail_bounds(v, bounded(f) ? range(must, f) : "a 64-bit integer") : fail_type(v, "an integer");
    }
    if (bounded(f) && ((!is_far(f->min) && (double)*to < f->min) || (!is_far(f->max) && (double)*to > f->max))) return fail_bounds(v, range(must, f));
    return QT_OK;
}

static qt_err read_real(const value *v, double *to)
{
    const qt_field *f = v->field;
    char            must[64];
    if (!qt_yaml_real(v->y, to)) return fail_type(v, "a number");
    if (isnan(*to) || (bounded(f) && !(*to >= f->min && *to <= f->max))) return fail_bounds(v, bounded(f) ? range(must, f) : "a number");
    return QT_OK;
}

static qt_err read_enum(const value *v, int *to)
{
    const qt_field *f = v->field;
    const char     *names[NAMES_MAX], *hint;
    char            buf[TEXT_MAX], path[TEXT_MAX], list[TEXT_MAX] = "";
    int             n = cut(buf, f->choices, names);
    if (v->y->kind != QT_YAML_SCALAR) return fail_type(v, "a word");
    if ((*to = qt_choice(f->choices, v->y->text)) >= 0) return QT_OK;
    *to = 0;
    hint = qt_near(v->y->text, n, names);
    for (int i = 0, at = 0; i < n; i++) at += snprintf(list + at, sizeof list - (size_t)at, "%s%s", i ? ", " : "", names[i]);
    full(path, v->path, f->name);
    if (hint)
        return qt_fail_at(QT_ERECIPE, v->y->pos, "%s: unknown value '%.60s', did you mean '%s'? Must be one of %s", path, v->y->text, hint, list);
    return qt_fail_at(QT_ERECIPE, v->y->pos, "%s: unknown value '%.60s', must be one of %s", path, v->y->text, list);
}

static qt_err read_ints(const value *v, qt_ints *to)
{
    qt_err e = QT_OK;
    if (v->y->kind == QT_YAML_SCALAR) return to->n = 1, read_int(v, &to->v[0]);
    if (v->y->kind != QT_YAML_LIST) return fail_type(v, "an integer or a list of them");
    if (v->y->n > 8) return fail_type(v, "at most 8 integers");
    to->n = v->y->n;
    for (int i = 0; i < to->n; i++) {
        value item = {v->y->item[i], v->field, v->path};
        qt_err here = read_int(&item, &to->v[i]);
        if (here) e = here;
    }
    return e;
}

static qt_err read_span(const value *v, qt_span *to)
{
    int64_t i;
    if (v->y->kind == QT_YAML_NULL) return *to = (qt_span){0}, QT_OK;
    to->set = true, to->fraction = !qt_yaml_int(v->y, &i);
    if (!qt_yaml_real(v->y, &to->v)) return fail_type(v, "steps (an integer) or a fraction of the run (0.0 to 1.0)");
    if (!to->fraction && i < 0) return fail_bounds(v, "at least 0 steps");
    if (to->fraction && !(to->v >= 0 && to->v <= 1)) return fail_bounds(v, "a fraction, 0.0 to 1.0, or an integer number of steps");
    return QT_OK;
}

static qt_err read_value(const value *v, void *to)
{
    bool null = v->y->kind == QT_YAML_NULL, optional = v->field->def && !strcmp(v->field->def, "~");
    switch (v->field->type) {
    case QT_BOOL: return qt_yaml_bool(v->y, to) ? QT_OK : fail_type(v, "true or false");
    case QT_INT: return read_int(v, to);
    case QT_REAL: return read_real(v, to);
    case QT_ENUM: return read_enum(v, to);
    case QT_INTS: return read_ints(v, to);
    case QT_SPAN: return read_span(v, to);
    case QT_STR:
        if (null && optional) return *(const char **)to = NULL, QT_OK;
        return qt_yaml_str(v->y, to) ? QT_OK : fail_type(v, "a string (in quotes if need be)");
    case QT_TREE:
        if (null && !v->field->def) return fail_type(v, "a section");
        *(const qt_yaml **)to = null ? NULL : v->y;
        return QT_OK;
    }
    return QT_OK;
}

static size_t size_of(qt_type t)
{
    static const size_t size[] = {
        [QT_BOOL] = sizeof(bool), [QT_INT] = sizeof(int64_t), [QT_REAL] = sizeof(double),   [QT_STR] = sizeof(char *),
        [QT_ENUM] = sizeof(int),  [QT_INTS] = sizeof(qt_ints), [QT_SPAN] = sizeof(qt_span), [QT_TREE] = sizeof(qt_yaml *),
    };
    return size[t];
}

/* The default, a scalar or a flow list of them, as a node on the stack. A string points into the table. */
static void read_default(const qt_field *f, void *to)
{
    char     buf[8][24];
    qt_yaml  item[8], *items[8], y = {QT_YAML_SCALAR, .text = f->def, .item = items};
    value    v = {&y, f, ""};
    bool     empty = !strcmp(f->def, "''") || !strcmp(f->def, "\"\"");
    if (!strcmp(f->def, "~")) y.kind = QT_YAML_NULL;
    if (empty) y.text = "", y.quoted = true;
    for (int i = 0; i < 8; i++) item[i] = (qt_yaml){QT_YAML_SCALAR, .text = buf[i]}, items[i] = &item[i];
    if (*f->def == '[') {
        y.kind = QT_YAML_LIST;
        for (const char *s = f->def + 1 + strspn(f->def + 1, " "); *s && *s != ']'; s += strspn(s, ", ")) {
            size_t n = strcspn(s, ", ]");
            QT_ASSERT(y.n < 8 && n < sizeof buf[0]);
            memcpy(buf[y.n], s, n), buf[y.n][n] = 0;
            y.n++, s += n;
        }
    }
    QT_ASSERT(f->type != QT_TREE || y.kind == QT_YAML_NULL);
    if (y.kind == QT_YAML_NULL && f->type != QT_STR) memset(to, 0, size_of(f->type));
    else QT_ASSERT(read_value(&v, to) == QT_OK);
}

/* ---- the table --------------------------------------------------------------------------------------------------------------- */

static qt_err check_keys(const qt_yaml *map, const char *path, const qt_field *fields, const char *also)
{
    const char *names[NAMES_MAX], *hint;
    char        buf[TEXT_MAX], name[TEXT_MAX];
    int         n = cut(buf, also ? also : "", names);
    qt_err      e = QT_OK;
    for (const qt_field *f = fields; f && f->name; f++) {
        QT_ASSERT(n < NAMES_MAX);
        names[n++] = f->name;
    }
    for (int i = 0; i < map->n; i++) {
        bool known = false;
        for (int k = 0; k < n && !known; k++) known = !strcmp(names[k], map->key[i]);
        if (known) continue;
        hint = qt_near(map->key[i], n, names);
        full(name, path, map->key[i]);
        e = qt_fail_at(QT_ERECIPE, map->key_pos[i], hint ? "%s: unknown key, did you mean '%s'?" : "%s: unknown key", name, hint);
    }
    return e;
}

qt_err qt_fields_read(const qt_yaml *map, const char *path, const qt_field *fields, const char *also, void *cfg)
{
    char   name[TEXT_MAX];
    qt_err e = QT_OK;
    bool   is_map = map && map->kind == QT_YAML_MAP;
    if (is_map) e = check_keys(map, path, fields, also);
    else if (map && map->kind != QT_YAML_NULL)
        e = qt_fail_at(QT_ERECIPE, map->pos, "%s%sexpected a map, found %s", path ? path : "", path && *path ? ": " : "", qt_yaml_kind_name(map));
    for (const qt_field *f = fields; f && f->name; f++) {
        void          *to = (char *)cfg + f->at;
        const qt_yaml *y = qt_yaml_get(map, f->name);
        value          v = {y, f, path};
        if (f->def) read_default(f, to);
        else memset(to, 0, size_of(f->type));
        if (y && read_value(&v, to)) {
            if (f->def) read_default(f, to);
            e = QT_ERECIPE;
        } else if (!y && !f->def && (!map || is_map || map->kind == QT_YAML_NULL)) {
            qt_pos pos = map ? map->pos : (qt_pos){0};
            e = qt_fail_at(QT_ERECIPE, pos, "%s: missing, it has no default (%s)", full(name, path, f->name), f->doc);
        }
    }
    return e;
}

void qt_fields_print(FILE *f, const qt_field *fields, const char *indent)
{
    char must[64];
    for (; fields && fields->name; fields++) {
        bool numeric = fields->type == QT_INT || fields->type == QT_REAL || fields->type == QT_INTS;
        fprintf(f, "%s%-18s ", indent, fields->name);
        if (fields->type == QT_ENUM)
            for (const char *s = fields->choices; *s; s++) fprintf(f, *s == '|' ? " | " : "%c", *s);
        else fprintf(f, "%s", qt_type_name(fields->type));
        if (numeric && bounded(fields) && !(is_far(fields->min) && is_far(fields->max))) fprintf(f, " %s", range(must, fields));
        if (!fields->def) fprintf(f, ", required");
        else if (strcmp(fields->def, "~")) fprintf(f, ", default %s", fields->def);
        fprintf(f, ". %s\n", fields->doc);
    }
}
