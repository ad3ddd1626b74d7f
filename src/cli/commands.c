/* The table of commands, made from commands.def, and how commands read their arguments. */
#include "cli/command.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const qt_desc *const all[] = {
#define QT_C(name) &qt_command_##name.d,
#include "cli/commands.def"
#undef QT_C
    NULL};
const qt_kind qt_commands = {"commands", "command", "what the qtape program can do", all};

const char *qt_arg(const qt_command *c, const qt_args *a, const char *option)
{
    for (int i = 0; c->options[i].name; i++)
        if (!strcmp(c->options[i].name, option)) return a->value[i];
    QT_ASSERT(!"an option of the command's table");
    return NULL;
}

qt_err qt_arg_int(const char *option, const char *text, int64_t min, int64_t max, int64_t *v)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    QT_CHECK(end != text && !*end && !errno && n >= min && n <= max, QT_EUSAGE, "--%s %s: expected a whole number from %lld to %lld", option, text,
             (long long)min, (long long)max);
    *v = n;
    return QT_OK;
}
