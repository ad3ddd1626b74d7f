/* Generation: the prompt goes through the model at once, then one token after the other, each drawn from the logits of the one before. Attention
 * keeps keys and values, so a token costs its own products only. Weights that quantizers round are rounded once, at the beginning: the same
 * numbers and integers that each forward pass would make anew.
 *
 * A model sees at most the tokens of a training sample, its context; what lies beyond has never been trained, and learned positions do not exist
 * there. When the context is full, its last half is read again from position 0, and the text goes on. After the first time around nothing is
 * allocated. Left out: several texts at once. */
#include "base/par.h"
#include "base/utf8.h"
#include "train/generate.h"
#include "train/train.h"
#include <string.h>

/* ---- the model ----------------------------------------------------------------------------------------------------------------------------- */

/* What stood in a module before its weight was rounded. */
typedef struct qt_held {
    qt_tensor *weight;
    qt_site   *site;
} qt_held;

static qt_err hold_weights(qt_generator *g)
{
    qt_model *m = g->model;
    if (!(g->weights = qt_tape_new()) || !(g->held = qt_arena_zalloc(&g->arena, (size_t)m->n * sizeof *g->held))) return QT_EMEM;
    qt_tape_mode(g->weights, false, false);
    g->weights->simulate = g->tape->simulate;
    for (int i = 0; i < m->n; i++) {
        qt_module *mod = &m->m[i];
        if (!mod->weight || mod->frozen || mod->p[0]->codes) continue;
        g->held[i] = (qt_held){mod->p[0], mod->weight};
        mod->p[0] = qt_quantize(g->weights, mod->weight, mod->p[0]), mod->weight = NULL;
    }
    return qt_tape_error(g->weights);
}

static void release_weights(qt_generator *g)
{
    for (int i = 0; g->held && i < g->model->n; i++)
        if (g->held[i].site) g->model->m[i].p[0] = g->held[i].weight, g->model->m[i].weight = g->held[i].site;
    qt_tape_free(g->weights);
}

static bool sees_later_tokens(const qt_model *m)
{
    for (int i = 0; i < m->n; i++)
        if (m->m[i].layer == &qt_layer_attention && !qt_attention_causal(&m->m[i])) return true;
    return false;
}

qt_err qt_generator_open(qt_model *m, qt_tape *t, qt_generator *g)
{
    *g = (qt_generator){.model = m, .tape = t, .context = m->in.dim[0], .vocab = m->in.ids};
    QT_CHECK(m->in.ids && m->in.rank == 1, QT_EUSAGE, "the model reads numbers; text comes from a model of text");
    QT_CHECK(!sees_later_tokens(m), QT_EUSAGE, "the model's attention sees later tokens (causal: false), so it cannot tell what comes next");
    g->ids = qt_arena_alloc(&g->arena, (size_t)g->context * sizeof *g->ids);
    g->work = qt_arena_alloc(&g->arena, (size_t)g->vocab * sizeof *g->work);
    if (!g->ids || !g->work) return QT_EMEM;
    QT_TRY(qt_model_keep(&g->arena, m, g->context));
    return hold_weights(g);
}

void qt_generator_free(qt_generator *g)
{
    if (!g->model) return;
    release_weights(g);
    qt_model_keep(NULL, g->model, 0);
    g->tape->first = 0;
    qt_tape_reset(g->tape);
    qt_arena_free(&g->arena);
    *g = (qt_generator){0};
}

/* ---- tokens -------------------------------------------------------------------------------------------------------------------------------- */

/* Tokens [from, g->n) through the model; those before have been. */
static qt_err forward(qt_generator *g, int64_t from)
{
    const int64_t n = g->n - from;
    qt_tape_reset(g->tape);
    qt_tape_mode(g->tape, false, false);
    g->tape->first = from;
    qt_tensor *x = qt_input_ids(g->tape, 2, (int64_t[]){1, n}), *y;
    if (x->ids) memcpy(x->ids, g->ids + from, (size_t)n * sizeof *x->ids);
    y = qt_model_forward(g->tape, g->model, x);
    QT_TRY(qt_tape_error(g->tape));
    g->logits = y->data + (n - 1) * g->vocab;
    QT_CHECK(qt_all_finite(g->logits, g->vocab), QT_EDIVERGED, "the model's answer is not finite; it has diverged in training");
    return QT_OK;
}

/* Moves the last of what is there and of n more tokens to the front, as many as fit in half of the context. */
static int64_t begin_again(qt_generator *g, const int32_t *ids, int64_t n)
{
    int64_t half = qt_max_i64(g->context / 2, 1), fresh = qt_min_i64(n, half), old = qt_min_i64(g->n, half - fresh);
    memmove(g->ids, g->ids + g->n - old, (size_t)old * sizeof *g->ids);
    memcpy(g->ids + old, ids + n - fresh, (size_t)fresh * sizeof *g->ids);
    g->n = old + fresh;
    qt_model_forget(g->model, 0);
    return 0;
}

static int64_t append(qt_generator *g, const int32_t *ids, int64_t n)
{
    memcpy(g->ids + g->n, ids, (size_t)n * sizeof *ids);
    g->n += n;
    return g->n - n;
}

qt_err qt_generator_read(qt_generator *g, const int32_t *ids, int64_t n)
{
    for (int64_t i = 0; i < n; i++) QT_ASSERT(ids[i] >= 0 && ids[i] < g->vocab);
    return n ? forward(g, g->n + n > g->context ? begin_again(g, ids, n) : append(g, ids, n)) : QT_OK;
}

int32_t qt_generator_draw(qt_generator *g, const qt_sampling *s) { return qt_sample_token(s, g->logits, g->vocab, g->drawn++, g->work); }

/* ---- text ---------------------------------------------------------------------------------------------------------------------------------- */

/* The prompt as tokens in *ids, *n of them. */
static qt_err encode(qt_generator *g, const qt_spelling *s, const char *prompt, int32_t **ids, int64_t *n)
{
    size_t length = strlen(prompt), bad = qt_utf8_bad(prompt, length);
    QT_CHECK(length, QT_EUSAGE, "the prompt is empty; the model goes on with a text, so it needs the first letter at least");
    QT_CHECK(bad == length, QT_EUSAGE, "the prompt is not UTF-8: byte 0x%02x at offset %zu", (uint8_t)prompt[bad], bad);
    if (!(*ids = qt_arena_alloc(&g->arena, length * sizeof **ids))) return QT_EMEM;
    QT_TRY(s->encode(s, prompt, length, *ids, n));
    QT_CHECK(s->n == g->vocab, QT_EUSAGE, "the model knows %lld tokens, but the vocabulary has %lld", (long long)g->vocab, (long long)s->n);
    for (int64_t i = 0; i < *n; i++)
        QT_CHECK((*ids)[i] >= 0 && (*ids)[i] < g->vocab, QT_EUSAGE, "the prompt's token %lld is %d, outside of the vocabulary of %lld", (long long)i,
                 (int)(*ids)[i], (long long)g->vocab);
    return QT_OK;
}

static void write_token(qt_utf8_stream *u, const qt_spelling *s, int32_t id, FILE *f)
{
    size_t         n;
    const uint8_t *p = s->bytes(s, id, &n);
    qt_utf8_put(u, p, n, f);
    fflush(f);
}

/* The token that is drawn last need not be read: nothing follows it. */
static qt_err go_on(qt_generator *g, const qt_spelling *s, const qt_generation *what, qt_utf8_stream *u, FILE *f, volatile int *stop,
                    qt_generated *made)
{
    while (made->tokens < what->tokens && !(stop && *stop)) {
        int32_t id = qt_generator_draw(g, &what->sampling);
        if ((made->ended = id == s->end)) break;
        write_token(u, s, id, f);
        if (++made->tokens < what->tokens) QT_TRY(qt_generator_read(g, &id, 1));
    }
    return QT_OK;
}

qt_err qt_generate(qt_generator *g, const qt_spelling *s, const qt_generation *what, FILE *f, volatile int *stop, qt_generated *made)
{
    qt_utf8_stream u = {{0}, 0};
    int32_t       *ids = NULL;
    double         start = qt_clock(), middle;
    *made = (qt_generated){0};
    QT_TRY(encode(g, s, what->prompt, &ids, &made->prompt_tokens));
    fputs(what->prompt, f);
    fflush(f);
    QT_TRY(qt_generator_read(g, ids, made->prompt_tokens));
    made->unread = made->prompt_tokens - qt_min_i64(made->prompt_tokens, g->n);
    middle = qt_clock();
    qt_err e = go_on(g, s, what, &u, f, stop, made);
    qt_utf8_end(&u, f);
    fflush(f);
    made->prompt_seconds = middle - start, made->seconds = qt_clock() - middle;
    return e;
}
