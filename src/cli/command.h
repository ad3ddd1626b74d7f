/* Commands of the qtape program. A command is a descriptor; --help, the man page and shell completion are made from it. */
#ifndef QT_CLI_COMMAND_H
#define QT_CLI_COMMAND_H
#include "base/desc.h"

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
    const char      *more;    /* paragraphs with examples, for --help and the man page */
    const qt_option *options;
    int              min_words, max_words; /* max -1: any number */
    qt_err         (*run)(const qt_args *a);
} qt_command;

#define QT_C(name) extern const qt_command qt_command_##name;
#include "cli/commands.def"
#undef QT_C
extern const qt_kind qt_commands;
/* Value of an option by name, NULL if it was not given. */
const char *qt_arg(const qt_command *c, const qt_args *a, const char *option);
#endif
