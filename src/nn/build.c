/* The `model` section as a flat list of modules. {arch: NAME, ...} is first written out as the list that it stands for. An element is a layer's bare name, a layer with options {use, name, from, ...}, or a
 * group {layers: [...], name, from, repeat}. Groups are expanded: layers of a group have its path in front of their names. A name is
 * looked up in the list it is used in, then in the lists around it; what is found must come earlier. */
#include "nn/build.h"
#include "base/files.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 16, MAX_MODULES = 10000, MAX_NAMES = 64, MAX_PATH = 200 };

/* A group that is complete: other modules may read its result by its path. */
typedef struct qt_group {
    const char *path;
    qt_pos      pos;
    int         last; /* index of the module whose result is the group's */
} group;

/* A list being expanded. */
typedef struct scope {
    const struct scope *up;
    const char         *prefix; /* "" or "blk.0." */
    int                 input;  /* the module that feeds the list: what `from: input` names */
    int                 depth, n;
    struct {
        const char *use;
        int         n;
    } count[MAX_NAMES];
} scope;

typedef struct group_config {
    int64_t        repeat;
    const qt_yaml *layers, *name, *from;
} group_config;
static const qt_field group_fields[] = {
    QT_F_INT(group_config, repeat, "1", 1, 1000, "how many times the layers stand in a row"),
    QT_F_TREE(group_config, layers, NULL, "list of layers"),
    QT_F_TREE(group_config, name, "~", "name that stands before those of its layers"),
    QT_F_TREE(group_config, from, "~", "earlier layer that it reads instead of the one before it"),
    {NULL},
};

static qt_err expand_list(qt_build *b, const qt_yaml *list, const char *where, scope *in, int *at);

/* ---- names ----------------------------------------------------------------------------------------------------------------- */

/* Number of times `use` has stood in this list, this one included. */
static int count_use(scope *in, const char *use)
{
    int i = 0;
    while (i < in->n && strcmp(in->count[i].use, use)) i++;
    if (i == MAX_NAMES) return 0;
    if (i == in->n) in->count[in->n++].use = use;
    return ++in->count[i].n;
}

static bool good_name(const char *s)
{
    const char *c = s;
    while (isalnum((unsigned char)*c) || *c == '_' || *c == '-') c++;
    return c > s && !*c;
}

/* The index of the module whose result has this path, -1 if none has. */
static int find_path(const qt_build *b, const char *prefix, const char *name, qt_pos *pos)
{
    size_t n = strlen(prefix);
    for (int i = b->n - 1; i >= 0; i--)
        if (!strncmp(b->m[i].path, prefix, n) && !strcmp(b->m[i].path + n, name)) return *pos = b->m[i].pos, i;
    for (int i = b->n_group - 1; i >= 0; i--)
        if (!strncmp(b->group[i].path, prefix, n) && !strcmp(b->group[i].path + n, name)) return *pos = b->group[i].pos, b->group[i].last;
    return -1;
}

/* Path of an element: its `name`, or use + number, behind the prefix. */
static qt_err name_path(qt_build *b, scope *in, const qt_yaml *name, const char *use, const char *where, qt_pos pos, const char **path)
{
    const char *word;
    int         number = count_use(in, use);
    qt_pos      taken = {NULL};
    if (name && (!qt_yaml_str(name, &word) || !good_name(word)))
        return qt_fail_at(QT_ERECIPE, name->pos, "%s.name: expected a name of letters, digits, '_' and '-'", where);
    if (name && !strcmp(word, "input"))
        return qt_fail_at(QT_ERECIPE, name->pos, "%s.name: 'input' means what enters the list; take another name", where);
    if (name)
        pos = name->pos;
    else if (!(word = qt_arena_sprintf(b->arena, "%s%d", use, number)))
        return QT_EMEM;
    if (find_path(b, in->prefix, word, &taken) >= 0)
        return qt_fail_at(QT_ERECIPE, pos, "%s: the name '%s' is taken by the layer at %s:%d:%d", where, word, taken.file, taken.line, taken.col);
    if (strlen(in->prefix) + strlen(word) > MAX_PATH) return qt_fail_at(QT_ERECIPE, pos, "%s: its path is longer than %d letters", where, MAX_PATH);
    *path = qt_arena_sprintf(b->arena, "%s%s", in->prefix, word);
    return *path ? QT_OK : QT_EMEM;
}

static qt_err no_such_input(const qt_build *b, const scope *in, const qt_yaml *from, const char *where, const char *word)
{
    const char *near[256];
    size_t      skip = strlen(in->prefix);
    int         n = 0;
    for (int i = b->n - 1; i >= 0 && n < 256; i--) near[n++] = b->m[i].path + (strncmp(b->m[i].path, in->prefix, skip) ? 0 : skip);
    const char *meant = qt_near(word, n, near);
    return qt_fail_at(QT_ERECIPE, from->pos, "%s.from: no earlier layer is named '%s'%s%s%s", where, word, meant ? ", did you mean '" : "",
                      meant ? meant : "", meant ? "'?" : "");
}

static qt_err find_input(const qt_build *b, const scope *in, const qt_yaml *from, const char *where, int *index)
{
    const char *word;
    qt_pos      pos;
    if (!qt_yaml_str(from, &word)) return qt_fail_at(QT_ERECIPE, from->pos, "%s.from: expected the name of an earlier layer", where);
    if (!strcmp(word, "input")) return *index = in->input, QT_OK;
    for (const scope *s = in; s; s = s->up)
        if ((*index = find_path(b, s->prefix, word, &pos)) >= 0) return QT_OK;
    return no_such_input(b, in, from, where, word);
}

/* ---- elements -------------------------------------------------------------------------------------------------------------- */

static qt_err push(qt_build *b, const qt_module *m, const qt_yaml *y)
{
    if (b->n == MAX_MODULES) return qt_fail_at(QT_ERECIPE, y->pos, "model: more than %d layers", MAX_MODULES);
    QT_TRY(qt_grow(&b->m, &b->cap, b->n + 1, sizeof *b->m));
    QT_TRY(qt_grow(&b->from, &b->cap_from, b->n + 1, sizeof *b->from));
    b->m[b->n] = *m, b->from[b->n++] = y;
    return QT_OK;
}

/* `from`: the name of one input, or a list that names them all. */
static qt_err read_inputs(const qt_build *b, const qt_yaml *from, const char *where, const scope *in, const qt_layer *l, qt_module *m)
{
    int    most = l->inputs ? l->inputs : 1 + l->joins;
    qt_err e = QT_OK;
    m->n_in = 1 + l->joins;
    if (!from) return QT_OK;
    if (from->kind != QT_YAML_LIST) return find_input(b, in, from, where, &m->in[l->joins]);
    if (from->n != most) return qt_fail_at(QT_ERECIPE, from->pos, "%s.from: expected a list of %d names, found %d", where, most, from->n);
    m->n_in = most;
    for (int k = 0; k < most; k++) e = qt_first(e, find_input(b, in, from->item[k], where, &m->in[k]));
    return e;
}

/* Finds the layer, reads its options and its inputs. m->path is set even where something is wrong. */
static qt_err read_layer(const qt_build *b, const qt_yaml *y, const char *where, const scope *in, qt_module *m)
{
    const qt_desc *d;
    const qt_yaml *from = qt_yaml_get(y, "from");
    qt_err         e = qt_desc_read(b->arena, &qt_layers, y, where, "name|from", &d, &m->cfg);
    const qt_layer *l = (const qt_layer *)d;
    if (!l) return e;
    QT_TRY(qt_first(e, read_inputs(b, from, where, in, l, m)));
    if (l->joins && !from)
        return qt_fail_at(QT_ERECIPE, y->pos, "%s: %s takes a second input: name an earlier layer, {use: %s, from: NAME}", where, d->name, d->name);
    for (int k = 0; k < m->n_in; k++) m->in_name[k] = m->in[k] < 0 ? NULL : b->m[m->in[k]].path;
    m->layer = l;
    return QT_OK;
}

/* The module that runs before is *at; the new one takes its place. */
static qt_err expand_layer(qt_build *b, const qt_yaml *y, const char *where, scope *in, int *at)
{
    const qt_yaml *use = y->kind == QT_YAML_MAP ? qt_yaml_get(y, "use") : y;
    qt_module      m = {.path = where, .pos = y->pos, .in = {*at, -1}};
    const char    *word = "layer";
    qt_err         e;
    if (use) qt_yaml_str(use, &word);
    e = read_layer(b, y, where, in, &m);
    if (m.layer) word = m.layer->d.name;
    e = qt_first(e, name_path(b, in, qt_yaml_get(y, "name"), word, where, y->pos, &m.path));
    if (e != QT_OK) m.layer = NULL;
    QT_TRY(push(b, &m, y));
    *at = b->n - 1;
    return e;
}

static qt_err expand_group(qt_build *b, const qt_yaml *y, const char *where, scope *in, int *at)
{
    group_config g;
    const char  *path, *inner = qt_arena_sprintf(b->arena, "%s.layers", where);
    qt_err       e = qt_fields_read(y, where, group_fields, NULL, &g), one = QT_OK;
    bool         repeats = qt_yaml_get(y, "repeat") != NULL;
    if (!inner) return QT_EMEM;
    if (in->depth == MAX_DEPTH) return qt_fail_at(QT_ERECIPE, y->pos, "%s: groups lie more than %d deep", where, MAX_DEPTH);
    if (e == QT_OK && g.from) e = find_input(b, in, g.from, where, at);
    if (e == QT_OK) e = name_path(b, in, g.name, repeats ? "repeat" : "group", where, y->pos, &path);
    if (e != QT_OK) return b->partial = true, e;
    for (int64_t i = 0; i < g.repeat && one == QT_OK; i++) {
        scope s = {.up = in, .input = *at, .depth = in->depth + 1};
        s.prefix = repeats ? qt_arena_sprintf(b->arena, "%s.%lld.", path, (long long)i) : qt_arena_sprintf(b->arena, "%s.", path);
        if (!s.prefix) return QT_EMEM;
        one = expand_list(b, g.layers, inner, &s, at);
        b->partial |= one != QT_OK;
    }
    QT_TRY(qt_grow(&b->group, &b->cap_group, b->n_group + 1, sizeof *b->group));
    b->group[b->n_group++] = (group){path, g.name ? g.name->pos : y->pos, *at};
    return one;
}

static qt_err expand_list(qt_build *b, const qt_yaml *list, const char *where, scope *in, int *at)
{
    qt_err e = QT_OK;
    if (list->kind != QT_YAML_LIST)
        return qt_fail_at(QT_ERECIPE, list->pos, "%s: expected a list of layers, found %s", where, qt_yaml_kind_name(list));
    if (!list->n) return qt_fail_at(QT_ERECIPE, list->pos, "%s: the list of layers is empty", where);
    for (int i = 0; i < list->n; i++) {
        const qt_yaml *y = list->item[i];
        const char    *here = qt_arena_sprintf(b->arena, "%s[%d]", where, i);
        if (!here) return QT_EMEM;
        bool is_group = qt_yaml_get(y, "layers") || qt_yaml_get(y, "repeat");
        e = qt_first(e, is_group ? expand_group(b, y, here, in, at) : expand_layer(b, y, here, in, at));
    }
    return e;
}

qt_err qt_build_expand(qt_build *b, const qt_yaml *list)
{
    scope top = {.prefix = "", .input = -1};
    int   at = -1;
    return expand_list(b, list, "model", &top, &at);
}

/* ---- families of models ---------------------------------------------------------------------------------------------------- */

/* What the family has written stands, for messages, where the section does. */
static void place(qt_yaml *y, qt_pos pos)
{
    y->pos = pos;
    for (int i = 0; i < y->n; i++) {
        if (y->kind == QT_YAML_MAP) y->key_pos[i] = pos;
        place(y->item[i], pos);
    }
}

static qt_err write_layers(qt_arena *a, const qt_arch *arch, const void *cfg, const qt_shape *in, int64_t classes, qt_pos pos, qt_yaml **list)
{
    char  *text = NULL;
    size_t n = 0;
    FILE  *f = open_memstream(&text, &n);
    if (!f) return qt_fail(QT_EMEM, "out of memory");
    qt_err e = arch->expand(f, cfg, in, classes, pos);
    e = qt_stream_close(e, f, &text);
    if (e == QT_OK) e = qt_yaml_parse(a, text, n, qt_arena_sprintf(a, "<%s>", arch->d.name), list);
    free(text);
    return e;
}

qt_err qt_model_layers(qt_arena *a, const qt_yaml *model, const qt_shape *in, int64_t classes, const qt_yaml **list)
{
    const qt_yaml *word = qt_yaml_get(model, "arch");
    const qt_desc *d;
    const char    *name;
    qt_yaml       *written;
    void          *cfg;
    *list = model;
    if (!word) return QT_OK;
    if (!qt_yaml_str(word, &name)) return qt_fail_at(QT_ERECIPE, word->pos, "model.arch: expected a name, found %s", qt_yaml_kind_name(word));
    if (!(d = qt_desc_find(&qt_archs, name, word->pos))) return QT_ERECIPE;
    if (!(cfg = qt_arena_zalloc(a, d->cfg_size))) return QT_EMEM;
    QT_TRY(qt_fields_read(model, "model", d->fields, "arch", cfg));
    QT_TRY(write_layers(a, (const qt_arch *)d, cfg, in, classes, model->pos, &written));
    place(written, model->pos);
    *list = written;
    return QT_OK;
}

void qt_build_clear(qt_build *b)
{
    qt_free(b->m), qt_free(b->from), qt_free(b->group);
    b->m = NULL, b->from = NULL, b->group = NULL;
}
