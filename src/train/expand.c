/* From a recipe file to one tree. Four layers are laid over one another, and variables are put in last:
 *   1. `include`: files in order, relative to the file that names them, deep-merged; the including file wins; `key: !unset` removes.
 *   2. the arm: a map of path -> value; a map is merged key by key, anything else replaces, `!unset` removes.
 *   3. the command line: key=value replaces what is at the path (the value is YAML), ~key removes it.
 *   4. ${name} inside any scalar. A scalar that is nothing but ${name} becomes what the variable is, a number or even a list.
 * Every node keeps the place it was written at, so that later errors point there. The arms themselves stay as written; the points of a
 * `sweep` join them (sweep.c) before one is applied. */
#include "train/train.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- includes -------------------------------------------------------------------------------------------------------------- */

/* The files that are being read, innermost first. */
typedef struct chain {
    const char         *file;
    char                real[PATH_MAX];
    const struct chain *up;
} chain;

static void print_chain(const chain *c, const char *until, char *buf, size_t n)
{
    if (strcmp(c->real, until)) print_chain(c->up, until, buf, n);
    snprintf(buf + strlen(buf), n - strlen(buf), "%s -> ", c->file);
}

static qt_err check_cycle(const chain *now, qt_pos at)
{
    char buf[2048] = "";
    for (const chain *c = now->up; c; c = c->up)
        if (!strcmp(c->real, now->real)) {
            print_chain(now->up, now->real, buf, sizeof buf);
            return qt_fail_at(QT_ERECIPE, at, "include: cycle: %s%s", buf, now->file);
        }
    return QT_OK;
}

static const char *beside(qt_arena *a, const char *file, const char *name)
{
    const char *slash = strrchr(file, '/');
    return *name == '/' || !slash ? name : qt_arena_sprintf(a, "%.*s/%s", (int)(slash - file), file, name);
}

static bool unset(const qt_yaml *y) { return y->tag && !strcmp(y->tag, "!unset"); }

/* Adds a child with the place of its key. */
static qt_err put(qt_arena *a, qt_yaml *map, const char *key, qt_pos at, qt_yaml *value)
{
    QT_TRY(qt_yaml_put(a, map, key, value));
    return map->key_pos[qt_yaml_find(map, key)] = at, QT_OK;
}

/* Changes `above` over `below`, maps key by key. In the first `names` levels !unset takes a name away; further down it is itself a change. */
static qt_err overlay(qt_arena *a, const qt_yaml *below, const qt_yaml *above, int names, qt_yaml **out)
{
    const qt_yaml *under = below && below->kind == QT_YAML_MAP ? below : NULL;
    if (above->kind != QT_YAML_MAP) return (*out = qt_yaml_copy(a, above)) ? QT_OK : QT_EMEM;
    if (!(*out = qt_yaml_map(a, above->pos))) return QT_EMEM;
    for (int i = 0; under && i < under->n; i++) {
        const qt_yaml *over = qt_yaml_get(above, under->key[i]);
        if (!names || !over || !unset(over)) QT_TRY(put(a, *out, under->key[i], under->key_pos[i], under->item[i]));
    }
    for (int i = 0; i < above->n; i++) {
        const qt_yaml *there = qt_yaml_get(under, above->key[i]);
        qt_yaml       *value;
        if (names && unset(above->item[i]) && !there)
            return qt_fail_at(QT_ERECIPE, above->item[i]->pos, "%s: there is no '%s' to take away", above->key[i], above->key[i]);
        if (names && unset(above->item[i])) continue;
        QT_TRY(overlay(a, there, above->item[i], names > 1 ? names - 1 : 0, &value));
        QT_TRY(put(a, *out, above->key[i], above->key_pos[i], value));
    }
    return QT_OK;
}

/* Two files, one over the other. The changes of arms (named one level deep) and sweeps (two) may hold !unset of their own. */
static qt_err join(qt_arena *a, const qt_yaml *base, const qt_yaml *over, qt_yaml **out)
{
    static const char *const changes[] = {"arms", "sweep"};
    if (!(*out = qt_yaml_merge(a, base, over))) return QT_EMEM;
    for (int k = 0; k < 2; k++) {
        const qt_yaml *above = qt_yaml_get(over, changes[k]);
        qt_yaml       *value;
        if (!above || unset(above)) continue;
        QT_TRY(overlay(a, qt_yaml_get(base, changes[k]), above, k + 1, &value));
        QT_TRY(qt_yaml_put(a, *out, changes[k], value));
    }
    return QT_OK;
}

static qt_err load(qt_arena *a, const char *file, qt_pos at, const chain *up, qt_yaml **out);

/* Joins an included file under the tree; *whole becomes false if there is none. */
static qt_err include(qt_arena *a, const qt_yaml *y, const chain *now, qt_yaml **tree, bool *whole)
{
    const char *name;
    qt_yaml    *other = NULL;
    qt_err      e;
    if (!qt_yaml_str(y, &name)) e = qt_fail_at(QT_ERECIPE, y->pos, "include: expected the path of a file, found %s", qt_yaml_kind_name(y));
    else if (!(name = beside(a, now->file, name))) e = QT_EMEM;
    else e = load(a, name, y->pos, now, &other);
    if (!other) return *whole = false, e;
    QT_TRY(join(a, *tree, other, tree));
    return e;
}

/* The tree of a file with its includes below it. All includes are tried, so that each can tell its errors; after errors of meaning alone
 * (duplicate keys) there is a tree nevertheless. */
static qt_err load(qt_arena *a, const char *file, qt_pos at, const chain *up, qt_yaml **out)
{
    chain          now = {file, "", up};
    qt_yaml       *root, *tree;
    const qt_yaml *list;
    qt_err         e = QT_OK;
    bool           whole = true; /* no include is missing */
    *out = NULL;
    if (!realpath(file, now.real)) return qt_fail_at(QT_ERECIPE, at, at.file ? "include: no such file: '%s'" : "%s: no such recipe file", file);
    QT_TRY(check_cycle(&now, at));
    if (qt_yaml_load(a, file, &root) != QT_OK) e = QT_ERECIPE;
    if (!root) return e;
    if (root->kind != QT_YAML_MAP)
        return qt_fail_at(QT_ERECIPE, (qt_pos){file, root->pos.line ? root->pos.line : 1, root->pos.col ? root->pos.col : 1},
                          "a recipe is a map of keys, found %s", root->kind == QT_YAML_NULL ? "nothing" : qt_yaml_kind_name(root));
    if (!(tree = qt_yaml_map(a, root->pos))) return QT_EMEM;
    list = qt_yaml_get(root, "include");
    if (list && list->kind == QT_YAML_SCALAR) e = include(a, list, &now, &tree, &whole) == QT_OK ? e : QT_ERECIPE;
    else if (list && list->kind == QT_YAML_LIST)
        for (int i = 0; i < list->n; i++) e = include(a, list->item[i], &now, &tree, &whole) == QT_OK ? e : QT_ERECIPE;
    else if (list) e = qt_fail_at(QT_ERECIPE, list->pos, "include: expected a list of files, found %s", qt_yaml_kind_name(list));
    if (!whole) return e;
    if (list) QT_TRY(qt_yaml_remove(a, root, "include", list->pos));
    QT_TRY(join(a, tree, root, out));
    return e;
}

/* ---- the arm --------------------------------------------------------------------------------------------------------------- */

/* The node at a path such as quant[1].weights, NULL if there is none. */
static const qt_yaml *find(const qt_yaml *y, const char *path)
{
    while (y && *path) {
        size_t n = strcspn(path, ".[");
        char   key[256], *end;
        if (*path == '[') {
            long i = strtol(path + 1, &end, 10);
            if (*end != ']' || y->kind != QT_YAML_LIST || i < 0 || i >= y->n) return NULL;
            y = y->item[i], path = end + 1;
        } else {
            snprintf(key, sizeof key, "%.*s", (int)n, path);
            y = qt_yaml_get(y, key), path += n;
        }
        path += *path == '.';
    }
    return y;
}

static qt_err lay(qt_arena *a, qt_yaml *root, const char *path, const qt_yaml *value)
{
    const qt_yaml *there = find(root, path);
    qt_yaml       *copy;
    qt_err         e = QT_OK;
    if (unset(value)) return qt_yaml_remove(a, root, path, value->pos);
    if (there && there->kind == QT_YAML_MAP && value->kind == QT_YAML_MAP) {
        for (int i = 0; i < value->n; i++) {
            const char *below = qt_arena_sprintf(a, "%s.%s", path, value->key[i]);
            if (!below) return QT_EMEM;
            e = lay(a, root, below, value->item[i]) == QT_OK ? e : QT_ERECIPE;
        }
        return e;
    }
    return (copy = qt_yaml_copy(a, value)) ? qt_yaml_set(a, root, path, copy) : QT_EMEM;
}

static qt_err unknown_arm(const qt_yaml *arms, const char *arm, qt_pos at)
{
    const char *near = arms && arms->kind == QT_YAML_MAP ? qt_near(arm, arms->n, arms->key) : NULL;
    char        all[1024] = "";
    if (!arms || arms->kind != QT_YAML_MAP) return qt_fail_at(QT_ERECIPE, at, "unknown arm '%s': the recipe has no arms", arm);
    if (near) return qt_fail_at(QT_ERECIPE, at, "unknown arm '%s', did you mean '%s'?", arm, near);
    for (int i = 0; i < arms->n; i++) snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", arms->key[i]);
    return qt_fail_at(QT_ERECIPE, at, "unknown arm '%s'; the recipe has %s", arm, all);
}

static qt_err apply_arm(qt_arena *a, qt_yaml *root, const char *arm)
{
    const qt_yaml *arms = qt_yaml_get(root, "arms"), *body = qt_yaml_get(arms, arm);
    qt_err         e = QT_OK;
    if (!body) return unknown_arm(arms, arm, arms ? arms->pos : root->pos);
    if (body->kind == QT_YAML_NULL) return QT_OK;
    if (body->kind != QT_YAML_MAP)
        return qt_fail_at(QT_ERECIPE, body->pos, "arms.%s: expected a map of path: value, found %s", arm, qt_yaml_kind_name(body));
    for (int i = 0; i < body->n; i++) e = lay(a, root, body->key[i], body->item[i]) == QT_OK ? e : QT_ERECIPE;
    return e;
}

/* ---- the command line ------------------------------------------------------------------------------------------------------ */

static const char command_line[] = "<command line>";

/* Parsed behind as many empty lines and blanks as put it at its own line (word) and column. */
static qt_err parse_value(qt_arena *a, const char *value, int line, int col, qt_yaml **y)
{
    size_t n = (size_t)line - 1 + (size_t)col - 1;
    char  *text = qt_arena_sprintf(a, "%*s%s", (int)n, "", value);
    if (!text) return QT_EMEM;
    memset(text, '\n', (size_t)line - 1);
    QT_TRY(qt_yaml_parse(a, text, strlen(text), command_line, y));
    if ((*y)->kind == QT_YAML_NULL) (*y)->pos = (qt_pos){command_line, line, col};
    return QT_OK;
}

static qt_err apply_word(qt_arena *a, qt_yaml *root, const char *word, int line)
{
    const char *eq = strchr(word, '=');
    qt_pos      at = {command_line, line, 1};
    qt_yaml    *value;
    char       *path;
    if (*word == '~') return at.col = 2, qt_yaml_remove(a, root, word + 1, at);
    if (!eq || eq == word) return qt_fail_at(QT_EUSAGE, at, "'%s' is neither key=value nor ~key", word);
    if (!(path = qt_arena_sprintf(a, "%.*s", (int)(eq - word), word))) return QT_EMEM;
    QT_TRY(parse_value(a, eq + 1, line, (int)(eq + 2 - word), &value));
    if (unset(value)) return qt_yaml_remove(a, root, path, at);
    return qt_yaml_set(a, root, path, value);
}

/* ---- variables ------------------------------------------------------------------------------------------------------------- */

static const qt_yaml *variable(const qt_yaml *vars, int n, const char *name, size_t len, qt_pos at)
{
    char        word[128];
    const char *near;
    for (int i = 0; i < n; i++)
        if (strlen(vars->key[i]) == len && !strncmp(vars->key[i], name, len)) return vars->item[i];
    snprintf(word, sizeof word, "%.*s", (int)len, name);
    near = n ? qt_near(word, n, vars->key) : NULL;
    if (near) qt_fail_at(QT_ERECIPE, at, "undefined variable '%s', did you mean '%s'?", word, near);
    else qt_fail_at(QT_ERECIPE, at, "undefined variable '%s'%s", word, n ? "" : ": no variable is defined here (vars: {name: value})");
    return NULL;
}

/* Text with every ${name} replaced. */
static qt_err substitute_text(qt_arena *a, const qt_yaml *y, const qt_yaml *vars, int n, const char **out)
{
    const char *s = y->text, *open, *close;
    char       *text = qt_arena_strdup(a, "");
    for (; text && (open = strstr(s, "${")); s = close + 1) {
        if (!(close = strchr(open, '}'))) return qt_fail_at(QT_ERECIPE, y->pos, "'${' without a '}' in '%s'", y->text);
        const qt_yaml *v = variable(vars, n, open + 2, (size_t)(close - open) - 2, y->pos);
        if (!v) return QT_ERECIPE;
        if (v->kind != QT_YAML_SCALAR)
            return qt_fail_at(QT_ERECIPE, y->pos, "variable '%.*s' is %s and cannot stand inside a text", (int)(close - open) - 2, open + 2,
                              qt_yaml_kind_name(v));
        text = qt_arena_sprintf(a, "%s%.*s%s", text, (int)(open - s), s, v->text);
    }
    return text && (*out = qt_arena_sprintf(a, "%s%s", text, s)) ? QT_OK : QT_EMEM;
}

static void set_pos(qt_yaml *y, qt_pos pos)
{
    y->pos = pos;
    for (int i = 0; i < y->n; i++) {
        if (y->kind == QT_YAML_MAP) y->key_pos[i] = pos;
        set_pos(y->item[i], pos);
    }
}

/* Replaces *slot or its text; variables 0..n-1 may be used. */
static qt_err substitute(qt_arena *a, qt_yaml **slot, const qt_yaml *vars, int n)
{
    qt_yaml *y = *slot;
    qt_err   e = QT_OK;
    for (int i = 0; i < y->n; i++) e = substitute(a, &y->item[i], vars, n) == QT_OK ? e : QT_ERECIPE;
    if (y->kind != QT_YAML_SCALAR || !strstr(y->text, "${")) return e;
    const char *close = strchr(y->text, '}');
    if (strncmp(y->text, "${", 2) || !close || close[1]) return substitute_text(a, y, vars, n, &y->text);
    const qt_yaml *v = variable(vars, n, y->text + 2, (size_t)(close - y->text) - 2, y->pos);
    qt_pos         at = y->pos;
    if (!v) return QT_ERECIPE;
    if (!(*slot = qt_yaml_copy(a, v))) return QT_EMEM;
    set_pos(*slot, at);
    return QT_OK;
}

static qt_err expand_variables(qt_arena *a, qt_yaml *root)
{
    static const qt_yaml none = {.kind = QT_YAML_MAP};
    const qt_yaml       *given = qt_yaml_get(root, "vars"), *vars = given ? given : &none;
    qt_err               e = QT_OK;
    if (vars->kind != QT_YAML_MAP) return qt_fail_at(QT_ERECIPE, vars->pos, "vars: expected a map of name: value, found %s", qt_yaml_kind_name(vars));
    for (int i = 0; i < vars->n; i++) e = substitute(a, &vars->item[i], vars, i) == QT_OK ? e : QT_ERECIPE;
    for (int i = 0; i < root->n; i++)
        if (strcmp(root->key[i], "vars") && strcmp(root->key[i], "arms") && strcmp(root->key[i], "sweep"))
            e = substitute(a, &root->item[i], vars, vars->n) == QT_OK ? e : QT_ERECIPE;
    return e;
}

qt_err qt_recipe_tree(qt_arena *a, const char *file, qt_sets sets, const char *arm, qt_yaml **out)
{
    qt_err e = load(a, file, (qt_pos){0}, NULL, out);
    if (!*out) return e;
    if (qt_sweep_expand(a, *out) != QT_OK) return QT_ERECIPE;
    if (arm && apply_arm(a, *out, arm) != QT_OK) e = QT_ERECIPE;
    for (int i = 0; i < sets.n; i++) e = apply_word(a, *out, sets.word[i], i + 1) == QT_OK ? e : QT_ERECIPE;
    return expand_variables(a, *out) == QT_OK ? e : QT_ERECIPE;
}
