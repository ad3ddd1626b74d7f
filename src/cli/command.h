/* Commands of the qtape program. A command is a descriptor; --help, the man page and shell completion are made from it. */
#ifndef QT_CLI_COMMAND_H
#define QT_CLI_COMMAND_H
#include "base/desc.h"
#include "base/mem.h"

typedef struct qt_option {
    const char *name;  /* long name without dashes; NULL ends the list */
    char        letter;
    const char *value; /* name of the value, "DIR"; NULL: a flag */
    const char *doc;
} qt_option;

/* What a command line gave: options in order of the table, words after the options. */
typedef struct qt_args {
    const char *const *value; /* of each option of the table; "" for a flag that was given; NULL if not */
    int                n;
    const char *const *word;
} qt_args;

typedef struct qt_command {
    qt_desc          d;
    const char      *usage;   /* "RECIPE [key=value ...] [~key ...]" */
    const char      *more;    /* paragraphs for --help and the man page, an empty line between them; a line that starts with a space
                                 is an example and stays as it is */
    const qt_option *options;
    int              min_words, max_words; /* max -1: any number */
    qt_err         (*run)(const qt_args *a);
} qt_command;

#define QT_C(name) extern const qt_command qt_command_##name;
#include "cli/commands.def"
#undef QT_C
extern const qt_kind qt_commands;

/* ---- arguments: commands.c ------------------------------------------------------------------------------------------------------ */

/* Options that several commands take; the program itself reads --threads. */
#define QT_OPTION_THREADS {"threads", 0, "N", "threads to use (default: as the recipe says, or all cores); results do not depend on it"}
#define QT_OPTION_QUIET {"quiet", 'q', NULL, "no progress"}
#define QT_OPTION_JSON {"json", 0, NULL, "machine-readable: JSON on standard output"}

/* Value of an option by name, NULL if it was not given. */
const char *qt_arg(const qt_command *c, const qt_args *a, const char *option);
/* An integer in [min, max]; QT_EUSAGE names the option. */
qt_err qt_arg_int(const char *option, const char *text, int64_t min, int64_t max, int64_t *v);

/* ---- all kinds of descriptors, as `list` and `explain` know them: list.c --------------------------------------------------------- */

extern const qt_kind *const qt_kinds[]; /* NULL-terminated */
/* The kind that a word names, "quants" or "quant"; QT_EUSAGE with the near name. */
qt_err qt_kind_find(const char *word, const qt_kind **k);
/* Paths of all recipes, sorted: below ./recipes, or where qtape was installed. NULL-terminated, in the arena. */
qt_err qt_recipe_files(qt_arena *a, const char *const **files);

/* The head comment of the source file that defines a descriptor (generated from the sources by cmake/heads.awk). */
typedef struct qt_head {
    const char *one, *name, *file, *text;
} qt_head;
extern const qt_head qt_heads[]; /* ends with name NULL */

/* ---- help.c, complete.c ---------------------------------------------------------------------------------------------------------- */

void qt_help_program(FILE *f);
void qt_help_command(FILE *f, const qt_command *c);
void qt_help_man(FILE *f);
/* `qtape --complete WORD ...`: prints what the last word could become, one a line; ":files" and ":dirs" ask the shell for its own. */
void qt_complete(int n, char *const *word);
void qt_complete_bash(FILE *f);
#endif
