/* qtape generate: a trained model of text goes on with a prompt. */
#include "base/json.h"
#include "cli/run.h"
#include "export/speaker.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const qt_option options[] = {
    {"prompt", 'p', "TEXT", "the text that the model goes on with"},
    {"tokens", 'n', "N", "tokens to draw (default: 200)"},
    {"seed", 's', "N", "of what is drawn (default: 1); the same seed gives the same text"},
    {"temperature", 't', "T", "0: the likeliest token each time; 1: as the model says (default: 0.8)"},
    {"top-k", 'k', "K", "draw from the K likeliest tokens (default: 0, all)"},
    {"top-p", 0, "P", "draw from the likeliest tokens that have the share P together (default: 1, all)"},
    {"engine", 'e', "NAME", "float: the training graph; int: the deployment engine (default: float; int for a file)"},
    {"best", 0, NULL, "of a run: its best checkpoint instead of its last one"},
    QT_OPTION_JSON,
    QT_OPTION_QUIET,
    QT_OPTION_THREADS,
    {0}};

/* ---- options ------------------------------------------------------------------------------------------------------------------------------ */

static qt_err number(const qt_args *a, const char *option, double most, double *v)
{
    const char *text = qt_arg(&qt_command_generate, a, option);
    char       *end;
    if (!text) return QT_OK;
    *v = strtod(text, &end);
    QT_CHECK(*text && !*end && *v >= 0 && *v <= most, QT_EUSAGE, "generate: --%s %s: expected a number from 0 to %g", option, text, most);
    return QT_OK;
}

static qt_err integer(const qt_args *a, const char *option, int64_t min, int64_t max, int64_t *v)
{
    const char *text = qt_arg(&qt_command_generate, a, option);
    return text ? qt_arg_int(option, text, min, max, v) : QT_OK;
}

static qt_err read_options(const qt_args *a, qt_generation *g)
{
    int64_t seed = 1;
    *g = (qt_generation){qt_arg(&qt_command_generate, a, "prompt"), 200, {.temperature = 0.8, .top_p = 1}};
    QT_CHECK(g->prompt, QT_EUSAGE, "generate: option '--prompt' is missing: the text that the model goes on with");
    QT_TRY(integer(a, "tokens", 1, 1 << 24, &g->tokens));
    QT_TRY(integer(a, "seed", 0, INT64_MAX, &seed));
    QT_TRY(integer(a, "top-k", 0, 1 << 24, &g->sampling.top_k));
    QT_TRY(number(a, "temperature", 1e6, &g->sampling.temperature));
    QT_TRY(number(a, "top-p", 1, &g->sampling.top_p));
    g->sampling.seed = (uint64_t)seed;
    return QT_OK;
}

/* A run directory or a file, by the engine that is asked for. */
static qt_err open_speaker(const qt_args *a, qt_speaker *s)
{
    const char *engine = qt_arg(&qt_command_generate, a, "engine"), *what = a->word[0];
    bool        integers = engine && !strcmp(engine, "int"), best = qt_arg(&qt_command_generate, a, "best");
    struct stat st;
    *s = (qt_speaker){0};
    QT_CHECK(!engine || qt_choice("float|int", engine) >= 0, QT_EUSAGE, "generate: --engine %s: expected float or int", engine);
    if (stat(what, &st) || S_ISDIR(st.st_mode)) return qt_speaker_of_run(what, best, integers, s);
    QT_CHECK(!engine || integers, QT_EUSAGE, "generate: %s is a file, which only the engine 'int' runs; --engine float wants a run directory", what);
    QT_CHECK(!best, QT_EUSAGE, "generate: %s is a file; --best chooses among the checkpoints of a run directory", what);
    return qt_speaker_of_file(what, s);
}

/* ---- what comes out ------------------------------------------------------------------------------------------------------------------------- */

static double rate(int64_t n, double seconds) { return seconds > 0 ? (double)n / seconds : 0; }

static void tell(const qt_speaker *s, const qt_generated *made)
{
    if (made->unread)
        fprintf(stderr, "qtape: note: the model sees %lld tokens at once; the first %lld of the prompt were left out\n",
                (long long)s->model->in.dim[0], (long long)made->unread);
    fprintf(stderr, "prompt %lld tokens, %.0f tokens/s; generated %lld tokens%s, %.0f tokens/s (%s)\n", (long long)made->prompt_tokens,
            rate(made->prompt_tokens, made->prompt_seconds), (long long)made->tokens, made->ended ? ", where the text ends" : "",
            rate(made->tokens, made->seconds), s->integers ? "int" : "float");
}

static void print_json(const qt_speaker *s, const qt_generation *g, const qt_generated *made, const char *text, size_t n)
{
    printf("{\"text\": "), qt_json_print(stdout, text, n);
    printf(", \"prompt_tokens\": %lld, \"unread_tokens\": %lld, \"tokens\": %lld, \"ended\": %s, \"seed\": %lld, \"engine\": \"%s\", "
           "\"prompt_tokens_per_s\": %.6g, \"tokens_per_s\": %.6g}\n",
           (long long)made->prompt_tokens, (long long)made->unread, (long long)made->tokens, made->ended ? "true" : "false",
           (long long)g->sampling.seed, s->integers ? "int" : "float", rate(made->prompt_tokens, made->prompt_seconds),
           rate(made->tokens, made->seconds));
}

/* As JSON the text comes whole, at the end. */
static qt_err speak(const qt_args *a, qt_speaker *s, const qt_generation *what)
{
    bool         json = qt_arg(&qt_command_generate, a, "json");
    char        *text = NULL;
    size_t       n = 0;
    FILE        *f = json ? open_memstream(&text, &n) : stdout;
    qt_generator g;
    qt_generated made = {0};
    if (!f) return qt_fail(QT_EMEM, "out of memory");
    qt_err e = qt_generator_open(s->model, s->tape, &g);
    if (e == QT_OK) e = qt_generate(&g, &s->spelling, what, f, qt_run_catch_sigint(), &made);
    qt_generator_free(&g);
    if (json) e = qt_stream_close(e, f, &text);
    if (e == QT_OK && json) print_json(s, what, &made, text, n);
    else if (made.prompt_tokens) putchar('\n'), fflush(stdout);
    if (e == QT_OK && !json && !qt_arg(&qt_command_generate, a, "quiet")) tell(s, &made);
    free(text);
    return e;
}

static qt_err run(const qt_args *a)
{
    qt_speaker    s;
    qt_generation what;
    QT_TRY(read_options(a, &what));
    qt_err e = open_speaker(a, &s);
    if (e == QT_OK) e = speak(a, &s, &what);
    qt_speaker_close(&s);
    return e;
}

const qt_command qt_command_generate = {
    {"generate", "let a trained model of text go on with a prompt"},
    "DIR|FILE.h5 --prompt TEXT [--tokens N] [--seed N] [--temperature T] [--top-k K] [--top-p P] [--engine float|int]",
    "Loads the last checkpoint of a run directory, or a file of `qtape export --format h5`, and prints the prompt and what the model makes of\n"
    "it, as it comes. How fast that was stands on standard error. The same seed gives the same text, for any number of threads.\n\n"
    "The temperature divides the logits; of the tokens that --top-k leaves, --top-p keeps the likeliest ones that have this share together. A text\n"
    "that has an end stops there. The model sees as many tokens at once as it was trained with (data.seq_len); when these are full, it reads the\n"
    "last half of them again and goes on. The output is always UTF-8: bytes that are none become U+FFFD.\n\n"
    "--engine int generates with the deployment engine, whose integer weights stay packed, as a file does.\n\n"
    "  qtape generate runs/bitnet-kjv/base-s1 --prompt 'In the beginning' --tokens 300\n"
    "  qtape generate runs/bitnet-kjv/base-s1 --prompt 'And God said' --temperature 0 --engine int\n"
    "  qtape generate model.h5 --prompt 'And God said' --top-k 40 --top-p 0.95 --seed 7 --json",
    options, 1, 1, run};
