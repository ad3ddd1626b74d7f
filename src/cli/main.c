/* The qtape program: finds the command, reads its options, runs it, prints what went wrong. */
#include "base/scan.h"
#include "cli/command.h"
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_OPTIONS = 32, HELP = 256 };

/* Length of "file:12:3:" at the start of a message, 0 if it has no position. */
static size_t position_length(const char *line, size_t n)
{
    int64_t row, col;
    size_t  file = qt_scan_place(line, n, &row, &col);
    return file ? (size_t)(strstr(line + file, ": ") + 1 - line) : 0;
}

static void print_errors(void)
{
    bool colour = isatty(STDERR_FILENO) && !getenv("NO_COLOR");
    for (const char *s = qt_error_text(); *s;) {
        size_t n = strcspn(s, "\n"), place = position_length(s, n);
        if (place) fprintf(stderr, "%s%.*s%s%.*s\n", colour ? "\033[1m" : "", (int)place, s, colour ? "\033[0m" : "", (int)(n - place), s + place);
        else if (*s == ' ') fprintf(stderr, "%.*s\n", (int)n, s); /* goes on from the line before */
        else fprintf(stderr, "%sqtape:%s %.*s\n", colour ? "\033[1;31m" : "", colour ? "\033[0m" : "", (int)n, s);
        s += n + (s[n] == '\n');
    }
}

static qt_err unknown_option(const qt_command *c, const char *given)
{
    const char *names[MAX_OPTIONS];
    int         n = 0;
    for (; c->options[n].name; n++) names[n] = c->options[n].name;
    names[n++] = "help";
    const char *near = given[0] == '-' && given[1] == '-' ? qt_near(given + 2, n, names) : NULL;
    if (near) return qt_fail(QT_EUSAGE, "%s: unknown option '%s', did you mean '--%s'?", c->d.name, given, near);
    return qt_fail(QT_EUSAGE, "%s: unknown option '%s'; `qtape %s --help` lists them", c->d.name, given, c->d.name);
}

/* Options may stand anywhere; "--" ends them. */
static qt_err parse(const qt_command *c, int argc, char **argv, const char **value, const char **word, qt_args *a, bool *help)
{
    struct option longs[MAX_OPTIONS + 2] = {{"help", no_argument, NULL, 'h'}};
    char          shorts[2 * MAX_OPTIONS + 8] = "-:h", *s = shorts + strlen(shorts); /* '-': words come in order, as option 1 */
    for (int i = 0; c->options[i].name; i++) {
        const qt_option *o = &c->options[i];
        QT_ASSERT(i < MAX_OPTIONS);
        longs[i + 1] = (struct option){o->name, o->value ? required_argument : no_argument, NULL, HELP + i};
        if (o->letter) *s++ = o->letter;
        if (o->letter && o->value) *s++ = ':';
    }
    *a = (qt_args){value, 0, word};
    opterr = 0, optind = 1;
    for (int k; (k = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (k == 1) word[a->n++] = optarg;
        else if (k == 'h') *help = true;
        else if (k == '?' && optopt >= HELP) return qt_fail(QT_EUSAGE, "%s: option '--%s' takes no value", c->d.name, c->options[optopt - HELP].name);
        else if (k == '?' && optopt) return unknown_option(c, (char[]){'-', (char)optopt, 0});
        else if (k == '?') return unknown_option(c, argv[optind - 1]);
        else if (k == ':') return qt_fail(QT_EUSAGE, "%s: option '%s' needs a value", c->d.name, argv[optind - 1]);
        else
            for (int i = 0; c->options[i].name; i++)
                if (k == HELP + i || k == c->options[i].letter) value[i] = c->options[i].value ? optarg : "";
    }
    while (optind < argc) word[a->n++] = argv[optind++];
    return QT_OK;
}

static qt_err run(const qt_command *c, int argc, char **argv)
{
    const char *value[MAX_OPTIONS] = {0};
    qt_args     a;
    bool        help = false;
    int64_t     threads;
    const char **word = qt_alloc((size_t)argc * sizeof *word);
    if (!word) return QT_EMEM;
    qt_err e = parse(c, argc, argv, value, word, &a, &help);
    if (e == QT_OK && help) qt_help_command(stdout, c);
    else if (e == QT_OK) {
        if (a.n < c->min_words || (c->max_words >= 0 && a.n > c->max_words))
            e = qt_fail(QT_EUSAGE, "%s: %s arguments\nusage: qtape %s %s", c->d.name, a.n < c->min_words ? "too few" : "too many", c->d.name, c->usage);
        for (int i = 0; e == QT_OK && c->options[i].name; i++)
            if (value[i] && !strcmp(c->options[i].name, "threads")) {
                e = qt_arg_int("threads", value[i], 1, 1024, &threads);
                if (e == QT_OK) qt_set_threads((int)threads);
            }
        if (e == QT_OK) e = c->run(&a);
    }
    qt_free(word);
    return e;
}

/* What stands before or instead of a command. */
static qt_err dispatch(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    if (argc < 2) {
        qt_help_program(stderr);
        return qt_fail(QT_EUSAGE, "a command is missing");
    }
    if (!strcmp(verb, "--version") || !strcmp(verb, "-V")) return printf("qtape %s\n", qt_version()), QT_OK;
    if (!strcmp(verb, "--man")) return qt_help_man(stdout), QT_OK;
    if (!strcmp(verb, "--completion")) return qt_complete_bash(stdout), QT_OK;
    if (!strcmp(verb, "--complete")) return qt_complete(argc - 2, argv + 2), QT_OK;
    if (!strcmp(verb, "--help") || !strcmp(verb, "-h") || (!strcmp(verb, "help") && argc == 2)) return qt_help_program(stdout), QT_OK;
    if (verb[0] == '-') {
        const char *near = qt_near(verb, 2, (const char *[]){"--help", "--version"});
        return qt_fail(QT_EUSAGE, "unknown option '%s'%s%s%s", verb, near ? ", did you mean '" : "; `qtape --help` lists commands", near ? near : "",
                       near ? "'?" : "");
    }
    bool              help = !strcmp(verb, "help");
    const qt_command *c = (const qt_command *)qt_desc_find(&qt_commands, help ? argv[2] : verb, (qt_pos){0});
    if (!c) return QT_EUSAGE;
    if (help) return qt_help_command(stdout, c), QT_OK;
    return run(c, argc - 1, argv + 1);
}

/* By default a waiting thread of libgomp spins so long that on a machine with other work it uses up the time that the working one needs:
 * a training was seen eight times slower for it. libgomp reads its settings when it is loaded, so the program begins anew with a short
 * spin, unless the user has settings of his own. */
static void spin_less(char **argv)
{
    char    self[4096];
    ssize_t n;
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || setenv("GOMP_SPINCOUNT", "10000", 1)) return;
    if ((n = readlink("/proc/self/exe", self, sizeof self - 1)) <= 0) return;
    self[n] = 0;
    execv(self, argv);
}

int main(int argc, char **argv)
{
    spin_less(argv);
    qt_err e = dispatch(argc, argv);
    if (fflush(stdout) || ferror(stdout)) e = qt_fail(QT_EIO, "cannot write to standard output");
    if (e != QT_OK) print_errors();
    qt_error_clear();
    return qt_error_exit(e);
}
