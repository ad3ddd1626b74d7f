/* Completion in bash. The script that the shell loads is a few lines; what a word can become is known here, from the descriptors. */
#include "cli/command.h"
#include "train/train.h"
#include <string.h>

static void offer(const char *prefix, const char *dashes, const char *name)
{
    char   text[1024];
    size_t n = strlen(prefix);
    snprintf(text, sizeof text, "%s%s", dashes, name);
    if (!strncmp(text, prefix, n)) puts(text);
}

static void offer_all(const char *prefix, const qt_kind *k)
{
    for (int i = 0; k->all[i]; i++) offer(prefix, "", k->all[i]->name);
}

static const qt_command *command(const char *name)
{
    for (int i = 0; qt_commands.all[i]; i++)
        if (!strcmp(qt_commands.all[i]->name, name)) return (const qt_command *)qt_commands.all[i];
    return NULL;
}

static const qt_option *option(const qt_command *c, const char *word)
{
    for (const qt_option *o = c->options; o->name; o++)
        if ((!strncmp(word, "--", 2) && !strcmp(word + 2, o->name)) || (o->letter && word[0] == '-' && word[1] == o->letter && !word[2])) return o;
    return NULL;
}

/* The leaves of a recipe, as "quant[1].weights.num_bits=" to set and "~optim.lr" to remove. */
static void offer_keys(const char *prefix, const qt_yaml *y, const char *path)
{
    char below[512];
    for (int i = 0; i < y->n; i++) {
        if (y->kind == QT_YAML_MAP) snprintf(below, sizeof below, "%s%s%s", path, *path ? "." : "", y->key[i]);
        else snprintf(below, sizeof below, "%s[%d]", path, i);
        offer_keys(prefix, y->item[i], below);
    }
    if (y->n == 0 && *path) {
        bool removes = *prefix == '~';
        snprintf(below, sizeof below, "%s%s", path, removes ? "" : "=");
        offer(prefix, removes ? "~" : "", below);
    }
}

static void offer_recipe_keys(const char *prefix, const char *file)
{
    qt_arena   a = {0};
    qt_recipe *r;
    if (!strchr(prefix, '=') && qt_recipe_load(&a, file, 0, NULL, NULL, &r) == QT_OK) offer_keys(prefix, r->tree, "");
    qt_arena_free(&a);
}

/* Names of the value of an option. */
static void offer_value(const char *prefix, const qt_option *o)
{
    if (!strcmp(o->value, "DIR")) puts(":dirs");
    else if (!strncmp(o->value, "FILE", 4)) puts(":files");
    else if (!strcmp(o->name, "split"))
        for (int i = 0; i < 3; i++) offer(prefix, "", (const char *[]){"train", "val", "test"}[i]);
    else if (!strcmp(o->name, "engine"))
        for (int i = 0; i < 2; i++) offer(prefix, "", (const char *[]){"float", "int"}[i]);
}

/* Word number k (from 0) of a command; word holds those before it. */
static void offer_word(const qt_command *c, int k, const char *const *word, const char *prefix)
{
    const char    *first = c->usage + strspn(c->usage, "[");
    const qt_kind *kind;
    if (!strncmp(first, "KIND", 4)) {
        if (k == 0)
            for (int i = 0; qt_kinds[i]; i++) offer(prefix, "", !strcmp(c->d.name, "list") ? qt_kinds[i]->name : qt_kinds[i]->one);
        else if (k == 1 && qt_kind_find(word[0], &kind) == QT_OK) offer_all(prefix, kind);
    } else if (!strncmp(first, "RECIPE", 6)) {
        if (k == 0) puts(":files");
        else offer_recipe_keys(prefix, word[0]);
    } else if (!strcmp(c->d.name, "gradcheck")) offer_all(prefix, &qt_ops);
    else if (!strcmp(c->d.name, "bench")) offer_all(prefix, &qt_quants), offer_all(prefix, &qt_layers);
    else if (!strcmp(c->d.name, "data")) {
        if (k == 0)
            for (int i = 0; i < 2; i++) offer(prefix, "", (const char *[]){"get", "list"}[i]);
        else offer_all(prefix, &qt_datasets);
    } else puts(":files");
}

void qt_complete(int n, char *const *word)
{
    const char *prefix = n ? word[n - 1] : "", *plain[64];
    int         k = 0;
    if (n < 2) {
        offer_all(prefix, &qt_commands);
        for (int i = 0; i < 2; i++) offer(prefix, "--", (const char *[]){"help", "version"}[i]);
        return;
    }
    const qt_command *c = command(word[0]);
    const qt_option  *o = NULL;
    if (!c) return;
    for (int i = 1; i < n - 1; i++) {
        o = o ? NULL : option(c, word[i]);
        if (o && !o->value) o = NULL;
        else if (!o && word[i][0] != '-' && k < 64) plain[k++] = word[i];
    }
    if (o) offer_value(prefix, o);
    else if (*prefix == '-') {
        for (o = c->options; o->name; o++) offer(prefix, "--", o->name);
        offer(prefix, "--", "help");
    } else offer_word(c, k, plain, prefix);
}

void qt_complete_bash(FILE *f)
{
    fputs("# bash completion for qtape; the words come from the program itself\n"
          "_qtape()\n"
          "{\n"
          "    local line=${COMP_LINE:0:COMP_POINT} cur c words\n"
          "    read -ra words <<< \"$line\"\n"
          "    [[ $line == *' ' ]] && words+=('')\n"
          "    cur=${words[${#words[@]}-1]}\n"
          "    COMPREPLY=()\n"
          "    while IFS= read -r c; do\n"
          "        case $c in\n"
          "            :files) compopt -o filenames; while IFS= read -r c; do COMPREPLY+=(\"$c\"); done < <(compgen -f -- \"$cur\") ;;\n"
          "            :dirs) compopt -o filenames; while IFS= read -r c; do COMPREPLY+=(\"$c\"); done < <(compgen -d -- \"$cur\") ;;\n"
          "            *=) compopt -o nospace; COMPREPLY+=(\"$c\") ;;\n"
          "            *) COMPREPLY+=(\"$c\") ;;\n"
          "        esac\n"
          "    done < <(\"${words[0]}\" --complete \"${words[@]:1}\" 2>/dev/null)\n"
          "}\n"
          "complete -F _qtape qtape\n", f);
}
