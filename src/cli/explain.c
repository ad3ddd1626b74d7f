/* qtape explain: one descriptor in full: its doc, paper and fields, and the head comment of its source file with the formulas. */
#include "cli/command.h"
#include <string.h>

static const qt_option options[] = {{0}};

/* A data set's name has a dash where its C name has an underscore. */
static bool same(const char *name, const char *c_name)
{
    for (; *name && (*name == *c_name || (*name == '-' && *c_name == '_')); name++) c_name++;
    return *name == *c_name;
}

static qt_err run(const qt_args *a)
{
    const qt_kind *k;
    QT_TRY(qt_kind_find(a->word[0], &k));
    const qt_desc *d = qt_desc_find(k, a->word[1], (qt_pos){0});
    if (!d) return QT_EUSAGE;
    printf("%s %s: %s\n", k->one, d->name, d->doc);
    if (d->source) printf("source: %s\n", d->source);
    if (d->fields && d->fields->name) printf("\nfields:\n"), qt_fields_print(stdout, d->fields, "  ");
    for (const qt_head *h = qt_heads; h->name; h++)
        if (!strcmp(h->one, k->one) && same(d->name, h->name)) printf("\nfrom %s:\n\n%s", h->file, h->text);
    return QT_OK;
}

const qt_command qt_command_explain = {
    {"explain", "explain one thing: its fields, its paper, its formulas"},
    "KIND NAME",
    "Prints what `qtape list KIND NAME` prints, and then the head of the source file: the formula, how its gradient follows, the paper and "
    "the place in it,\nand what was left out.\n\n"
    "  qtape explain quant lsq\n  qtape explain op cross_entropy\n  qtape explain layer linear",
    options, 2, 2, run};
