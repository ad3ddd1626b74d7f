/* Phase `sample`: the model goes on with a prompt. The text is printed, and stands in DIR/sample.txt. The weights are those that evaluation takes,
 * averaged ones where there are any; what is drawn depends on the phase's own seed. */
#include "train/generate.h"
#include "train/train.h"
#include <stdlib.h>

typedef struct sample_cfg {
    const char *prompt;
    int64_t     tokens;
    qt_sampling sampling;
} sample_cfg;

static const qt_field fields[] = {QT_F_STR(sample_cfg, prompt, NULL, "the text that the model goes on with"),
                                  QT_F_INT(sample_cfg, tokens, "200", 1, 1 << 24, "tokens to draw"),
                                  QT_F_SAMPLING(sample_cfg, sampling),
                                  {NULL}};

static qt_err suits(const void *cfg, const qt_data_info *data, qt_pos pos)
{
    const sample_cfg *c = cfg;
    if (!data->ids) return qt_fail_at(QT_ERECIPE, pos, "phases: sample goes on with a text, but the data are numbers");
    if (!*c->prompt) return qt_fail_at(QT_ERECIPE, pos, "phases: sample: the prompt is empty; it needs the first letter at least");
    return QT_OK;
}

static qt_err generate(qt_run *r, const sample_cfg *c, FILE *f, qt_generated *made)
{
    qt_generator  g;
    qt_spelling   s;
    qt_generation what = {c->prompt, c->tokens, c->sampling};
    QT_TRY(qt_spelling_open(r->data_section, &s));
    qt_run_swap_average(r);
    qt_err e = qt_generator_open(r->model, r->tape, &g);
    if (e == QT_OK) e = qt_generate(&g, &s, &what, f, r->stop, made);
    qt_generator_free(&g);
    qt_run_swap_average(r);
    qt_spelling_close(&s);
    return e;
}

static qt_err run(qt_run *r, const void *cfg)
{
    qt_generated made = {0};
    char        *text = NULL, *file = qt_arena_sprintf(&r->arena, "%s/sample.txt", r->dir);
    size_t       n = 0;
    FILE        *f = file ? open_memstream(&text, &n) : NULL;
    if (!f) return qt_fail(QT_EMEM, "out of memory");
    qt_err e = generate(r, cfg, f, &made);
    putc('\n', f);
    e = qt_stream_close(e, f, &text);
    if (e == QT_OK && r->stop && *r->stop) e = qt_fail(QT_ESTOPPED, "stopped; go on with: qtape resume %s", r->dir);
    if (e == QT_OK) e = qt_file_write(file, text, n);
    if (e == QT_OK) qt_run_log(r, "%s  sample of %lld tokens, in %s:\n%.*s", r->arm, (long long)made.tokens, file, (int)n - 1, text);
    free(text);
    return e;
}

const qt_phase qt_phase_sample = {{"sample", "let a model of text go on with a prompt, into sample.txt", NULL, fields, sizeof(sample_cfg)}, run,
                                  .suits = suits};
