/* `sweep`: a grid of arms. Axes in order, each a map of labels to changes (as an arm's), or, where its name is a path, a list of values:
 *
 *     sweep: {width: {w4: {vars.w: 4}, w8: {vars.w: 8}}, optim.lr: [1e-3, 3e-3]}
 *
 * Every point of the grid becomes an arm that is named by its labels, joined by '-', and makes their changes in the order of the axes:
 * w4-1e-3, w4-3e-3, w8-1e-3, w8-3e-3, behind the arms of the recipe. Whoever comes after sees arms only; the section stays in the tree, its
 * lists as maps, for tables and plots. */
#include "train/train.h"
#include <string.h>

/* {VALUE: {path: value}, ...} of a list of values. */
static qt_err name_values(qt_arena *a, const char *path, const qt_yaml *list, qt_yaml **out)
{
    if (!(*out = qt_yaml_map(a, list->pos))) return QT_EMEM;
    for (int i = 0; i < list->n; i++) {
        const qt_yaml *v = list->item[i];
        qt_yaml       *change = qt_yaml_map(a, v->pos);
        if (!v->text)
            return qt_fail_at(QT_ERECIPE, v->pos, "sweep.%s: %s has no name of its own; write {NAME: {%s: ...}}", path, qt_yaml_kind_name(v), path);
        if (qt_yaml_get(*out, v->text)) return qt_fail_at(QT_ERECIPE, v->pos, "sweep.%s: %s stands here twice", path, v->text);
        if (!change) return QT_EMEM;
        QT_TRY(qt_yaml_put(a, change, path, qt_yaml_copy(a, v)));
        QT_TRY(qt_yaml_put(a, *out, v->text, change));
    }
    return QT_OK;
}

/* Makes an axis a map of labels to maps of changes; multiplies the number of points. */
static qt_err read_axis(qt_arena *a, const char *name, qt_yaml **axis, int64_t *points)
{
    const qt_yaml *y = *axis;
    if ((y->kind != QT_YAML_LIST && y->kind != QT_YAML_MAP) || !y->n)
        return qt_fail_at(QT_ERECIPE, y->pos, "sweep.%s: expected a map of name: changes, or a list of values, found %s", name,
                          y->kind == QT_YAML_LIST || y->kind == QT_YAML_MAP ? "none" : qt_yaml_kind_name(y));
    if (y->kind == QT_YAML_LIST) QT_TRY(name_values(a, name, y, axis));
    for (int i = 0; i < (*axis)->n; i++) {
        const qt_yaml *changes = (*axis)->item[i];
        if (changes->kind != QT_YAML_MAP && changes->kind != QT_YAML_NULL)
            return qt_fail_at(QT_ERECIPE, changes->pos, "sweep.%s.%s: expected a map of path: value, found %s", name, (*axis)->key[i],
                              qt_yaml_kind_name(changes));
    }
    *points *= (*axis)->n;
    QT_CHECK(*points <= QT_MAX_ARMS, QT_ERECIPE, "%s:%d:%d: sweep: more than %d points", y->pos.file, y->pos.line, y->pos.col, QT_MAX_ARMS);
    return QT_OK;
}

static qt_err add_changes(qt_arena *a, const qt_yaml *changes, qt_yaml *arm)
{
    for (int i = 0; i < changes->n; i++) {
        QT_TRY(qt_yaml_put(a, arm, changes->key[i], qt_yaml_copy(a, changes->item[i])));
        arm->key_pos[qt_yaml_find(arm, changes->key[i])] = changes->key_pos[i];
    }
    return QT_OK;
}

/* The arm of point i, the last axis running fastest. */
static qt_err add_point(qt_arena *a, const qt_yaml *sweep, int64_t i, qt_yaml *arms)
{
    qt_yaml    *arm = qt_yaml_map(a, sweep->pos);
    const char *name = "";
    int64_t     below = 1;
    if (!arm) return QT_EMEM;
    for (int k = 1; k < sweep->n; k++) below *= sweep->item[k]->n;
    for (int k = 0; k < sweep->n; k++) {
        const qt_yaml *axis = sweep->item[k];
        int            at = (int)(i / below % axis->n);
        if (!(name = qt_arena_sprintf(a, "%s%s%s", name, k ? "-" : "", axis->key[at]))) return QT_EMEM;
        QT_TRY(add_changes(a, axis->item[at], arm));
        if (k + 1 < sweep->n) below /= sweep->item[k + 1]->n;
    }
    if (qt_yaml_get(arms, name)) return qt_fail_at(QT_ERECIPE, sweep->pos, "sweep: there is another arm '%s'", name);
    return qt_yaml_put(a, arms, name, arm);
}

qt_err qt_sweep_expand(qt_arena *a, qt_yaml *root)
{
    const int      at = qt_yaml_find(root, "sweep");
    const qt_yaml *plain = qt_yaml_get(root, "arms");
    qt_yaml       *sweep = at < 0 ? NULL : root->item[at], *arms;
    int64_t        points = 1;
    if (!sweep || sweep->kind == QT_YAML_NULL) return QT_OK;
    if (sweep->kind != QT_YAML_MAP || !sweep->n || sweep->n > QT_MAX_AXES)
        return qt_fail_at(QT_ERECIPE, sweep->pos, "sweep: expected a map of 1 to %d axes, found %s", QT_MAX_AXES,
                          sweep->kind == QT_YAML_MAP ? sweep->n ? "more" : "none" : qt_yaml_kind_name(sweep));
    for (int k = 0; k < sweep->n; k++) QT_TRY(read_axis(a, sweep->key[k], &sweep->item[k], &points));
    if (!plain || plain->kind == QT_YAML_NULL) QT_TRY(qt_yaml_put(a, root, "arms", qt_yaml_map(a, sweep->pos)));
    arms = root->item[qt_yaml_find(root, "arms")];
    for (int64_t i = 0; arms->kind == QT_YAML_MAP && i < points; i++) QT_TRY(add_point(a, sweep, i, arms));
    return QT_OK;
}

/* Do the labels of axis k and of those after it make up `rest`? */
static bool labels_of(const qt_yaml *sweep, int k, const char *rest, const char **label)
{
    const qt_yaml *axis = sweep->item[k];
    for (int i = 0; i < axis->n; i++) {
        size_t n = strlen(axis->key[i]);
        if (strncmp(rest, axis->key[i], n)) continue;
        label[k] = axis->key[i];
        if (k + 1 == sweep->n ? !rest[n] : rest[n] == '-' && labels_of(sweep, k + 1, rest + n + 1, label)) return true;
    }
    return false;
}

bool qt_sweep_point(const qt_yaml *sweep, const char *arm, const char *label[QT_MAX_AXES])
{
    return sweep && arm && labels_of(sweep, 0, arm, label);
}
