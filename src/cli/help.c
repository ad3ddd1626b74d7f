/* Help for people: --help of the program and of each command, and the man page, all from the command descriptors. */
#include "cli/command.h"
#include <string.h>

static const struct {
    int         code;
    const char *doc;
} exits[] = {{0, "all went well"},
             {1, "the run failed: input or output, memory, damaged data"},
             {2, "bad usage or a bad recipe (a missing recipe file too)"},
             {3, "a claim of the recipe failed, or a verification"},
             {4, "the run diverged: the first layer, tensor and step that is not finite is named"},
             {130, "stopped by Ctrl-C after saving; `qtape resume` goes on"}};

static const char about[] = "qtape trains small quantized neural networks on ordinary CPUs, from recipe files.";

static const qt_command *command(int i) { return (const qt_command *)qt_commands.all[i]; }

void qt_help_program(FILE *f)
{
    fprintf(f, "%s\n\nusage: qtape COMMAND ...\n\ncommands:\n", about);
    for (int i = 0; qt_commands.all[i]; i++) fprintf(f, "  %-10s %s\n", command(i)->d.name, command(i)->d.doc);
    fprintf(f, "\n  qtape COMMAND --help    what a command does, its options, examples\n"
               "  qtape --version         the version\n\n"
               "start with:\n  qtape list recipes\n  qtape reproduce recipes/quickstart.yaml\n");
}

static void option_text(char text[static 64], const qt_option *o)
{
    char letter[8] = "    ";
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(text, 64, "%s--%s%s%s", letter, o->name, o->value ? " " : "", o->value ? o->value : "");
}

void qt_help_command(FILE *f, const qt_command *c)
{
    char text[64];
    fprintf(f, "qtape %s: %s\n\nusage: qtape %s %s\n\n%s\n\noptions:\n", c->d.name, c->d.doc, c->d.name, c->usage, c->more);
    for (const qt_option *o = c->options; o->name; o++) {
        option_text(text, o);
        fprintf(f, "  %-20s %s\n", text, o->doc);
    }
    fprintf(f, "  %-20s %s\n\nexit codes:\n", "-h, --help", "this help");
    for (size_t i = 0; i < sizeof exits / sizeof *exits; i++) fprintf(f, "  %-4d %s\n", exits[i].code, exits[i].doc);
}

/* Text with roff's own characters made harmless: backslashes, dashes, and a dot or quote that begins a line. */
static void roff(FILE *f, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i == 0 && (s[i] == '.' || s[i] == '\'')) fputs("\\&", f);
        if (s[i] == '\\') fputs("\\e", f);
        else if (s[i] == '-') fputs("\\-", f);
        else fputc(s[i], f);
    }
}

static void roff_text(FILE *f, const char *s)
{
    bool example = false;
    while (*s) {
        size_t n = strcspn(s, "\n");
        if (!example && *s == ' ') fputs(".EX\n", f);
        if (example && *s != ' ' && n) fputs(".EE\n", f);
        if (n) example = *s == ' ';
        if (n) roff(f, s, n), fputc('\n', f);
        else if (!example) fputs(".PP\n", f);
        s += n + (s[n] == '\n');
    }
    if (example) fputs(".EE\n", f);
}

static void roff_item(FILE *f, const char *what, const char *doc)
{
    fputs(".TP\n.B ", f);
    roff(f, what, strlen(what));
    fputc('\n', f);
    roff(f, doc, strlen(doc));
    fputc('\n', f);
}

void qt_help_man(FILE *f)
{
    char text[64];
    fprintf(f, ".TH QTAPE 1 \"\" \"qtape %s\" \"User Commands\"\n.SH NAME\nqtape \\- train small quantized neural networks from recipes\n"
               ".SH SYNOPSIS\n.B qtape\n.I COMMAND\n[argument ...]\n.SH DESCRIPTION\n%s\n.SH COMMANDS\n", qt_version(), about);
    for (int i = 0; qt_commands.all[i]; i++) {
        const qt_command *c = command(i);
        fprintf(f, ".SS \"qtape %s %s\"\n", c->d.name, c->usage);
        roff(f, c->d.doc, strlen(c->d.doc));
        fputs(".\n.PP\n", f);
        roff_text(f, c->more);
        for (const qt_option *o = c->options; o->name; o++) {
            option_text(text, o);
            roff_item(f, text + strspn(text, " "), o->doc);
        }
    }
    fputs(".SH EXIT STATUS\n", f);
    for (size_t i = 0; i < sizeof exits / sizeof *exits; i++) {
        snprintf(text, sizeof text, "%d", exits[i].code);
        roff_item(f, text, exits[i].doc);
    }
    fputs(".SH ENVIRONMENT\n", f);
    roff_item(f, "NO_COLOR", "no colour in messages, whatever its value");
    roff_item(f, "QTAPE_DATA", "folder of fetched data sets (default: qtape in the user's cache folder)");
    roff_item(f, "QTAPE_RECIPES", "folder of recipes that `list recipes` and `reproduce` search (default: ./recipes, then the installed ones)");
}
