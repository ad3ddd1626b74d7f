/* Looking up descriptors and reading their configuration: one way for every kind. */
#include "base/desc.h"
#include <string.h>

/* Equal names; a dash and an underscore are the same letter. */
static bool same(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if (*a != *b && !(strchr("-_", *a) && strchr("-_", *b))) return false;
    return *a == *b;
}

const qt_desc *qt_desc_find(const qt_kind *k, const char *name, qt_pos pos)
{
    const char *names[256], *hint;
    int         n = 0;
    for (; k->all[n]; n++) {
        QT_ASSERT(n < 256);
        if (same(k->all[n]->name, name)) return k->all[n];
        names[n] = k->all[n]->name;
    }
    hint = qt_near(name, n, names);
    if (hint) qt_fail_at(QT_ERECIPE, pos, "unknown %s '%s', did you mean '%s'? (`qtape list %s` lists them)", k->one, name, hint, k->name);
    else qt_fail_at(QT_ERECIPE, pos, "unknown %s '%s' (`qtape list %s` lists them)", k->one, name, k->name);
    return NULL;
}

qt_err qt_desc_read(qt_arena *a, const qt_kind *k, const qt_yaml *y, const char *path, const char *also, const qt_desc **d, void **cfg)
{
    bool           map = y && y->kind == QT_YAML_MAP;
    const qt_yaml *use = map ? qt_yaml_get(y, "use") : y, bare = {QT_YAML_MAP, .pos = y ? y->pos : (qt_pos){0}};
    const char    *name, *colon;
    char           keys[1024];
    *d = NULL, *cfg = NULL;
    path = path ? path : "", colon = *path ? ": " : "";
    if (!use && map)
        return qt_fail_at(QT_ERECIPE, y->pos, "%s%smissing 'use', the name of a %s (`qtape list %s` lists them)", path, colon, k->one, k->name);
    if (!use || !qt_yaml_str(use, &name))
        return qt_fail_at(QT_ERECIPE, use ? use->pos : bare.pos, "%s%sexpected %s a %s%s, found %s", path, colon,
                          map ? "'use' to be the name of" : "the name of", k->one, map ? "" : " or a map with 'use'", qt_yaml_kind_name(use));
    if (!(*d = qt_desc_find(k, name, use->pos))) return QT_ERECIPE;
    if (!(*cfg = qt_arena_zalloc(a, (*d)->cfg_size))) return QT_EMEM;
    snprintf(keys, sizeof keys, "use%s%s", also ? "|" : "", also ? also : "");
    return qt_fields_read(map ? y : &bare, path, (*d)->fields, keys, *cfg);
}
