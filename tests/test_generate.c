/* Generation: what is drawn against a plain reference, text that comes in pieces, greedy texts against full forward passes in the training graph
 * and in the deployment engine, exported models of text, the phase `sample`, errors. On a text that is made here. */
#include "train_util.h"
#include "base/bpe.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "export/speaker.h"
#include <math.h>

/* ---- which token comes next -------------------------------------------------------------------------------------------------------- */

enum { KINDS = 40 };

static const R *sorted_by;
static int likelier(const void *a, const void *b)
{
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    return sorted_by[i] != sorted_by[j] ? (sorted_by[i] > sorted_by[j] ? -1 : 1) : i - j;
}

/* Shares of all tokens, 0 where they are cut off; `order` is the one in which they are added up. */
static int reference(const qt_sampling *s, const R *l, double p[KINDS], int32_t order[KINDS])
{
    int    n = KINDS, few = 0;
    double all = 0, sum = 0;
    bool   cut = s->top_p < 1 || (s->top_k && s->top_k < KINDS);
    for (int32_t i = 0; i < n; i++) order[i] = i, p[i] = 0;
    sorted_by = l;
    if (cut) qsort(order, KINDS, sizeof *order, likelier);
    if (s->top_k && s->top_k < n) n = (int)s->top_k;
    double max = -INFINITY;
    for (int i = 0; i < KINDS; i++) max = fmax(max, (double)l[i]);
    for (int i = 0; i < n; i++) all += p[order[i]] = exp(((double)l[order[i]] - max) / s->temperature);
    while (few < n && (few == 0 || sum < s->top_p * all)) sum += p[order[few++]];
    if (s->top_p >= 1) few = n;
    for (int i = few; i < n; i++) p[order[i]] = 0;
    return few;
}

static void draw_logits(R l[KINDS], uint64_t seed)
{
    qt_rng r = qt_rng_named(seed, "logits");
    for (int i = 0; i < KINDS; i++) l[i] = (R)(2 * qt_rng_normal(&r));
    l[7] = l[23], l[11] = l[30]; /* equally likely ones */
}

static void check_draws(const qt_sampling *s, uint64_t seed)
{
    enum { DRAWS = 400 };
    R       l[KINDS];
    double  p[KINDS], all = 0;
    int32_t order[KINDS], work[KINDS];
    draw_logits(l, seed);
    int    n = reference(s, l, p, order);
    qt_rng r = qt_rng_named(s->seed, "generate");
    for (int i = 0; i < n; i++) all += p[order[i]];
    for (int at = 0; at < DRAWS; at++) {
        double u = ((double)qt_rng_u32_at(&r, (uint64_t)at) + 0.5) / 4294967296.0 * all, sum = 0;
        int    i = -1;
        while (sum <= u && i + 1 < n) sum += p[order[++i]];
        int32_t got = qt_sample_token(s, l, KINDS, at, work);
        if (got != order[i])
            fail_msg("temperature %g, top_k %d, top_p %g, draw %d: %d, expected %d", s->temperature, (int)s->top_k, s->top_p, at, got, order[i]);
    }
}

static void test_sampler(void **state)
{
    const double  temperature[] = {0.3, 1, 2.5}, top_p[] = {1, 0.9, 0.5, 0.01, 0};
    const int64_t top_k[] = {0, 1, 2, 5, 39, 40, 100};
    (void)state;
    for (size_t t = 0; t < 3; t++)
        for (size_t p = 0; p < 5; p++)
            for (size_t k = 0; k < 7; k++) check_draws(&(qt_sampling){temperature[t], top_p[p], top_k[k], 3 + k}, 100 * t + 10 * p + k);
}

static void test_likeliest(void **state)
{
    R       l[KINDS];
    int32_t work[KINDS];
    (void)state;
    draw_logits(l, 5);
    l[12] = l[31] = 50;
    assert_int_equal(qt_sample_token(&(qt_sampling){0, 1, 0, 1}, l, KINDS, 0, work), 12); /* the first of two */
    assert_int_equal(qt_sample_token(&(qt_sampling){5, 1, 1, 1}, l, KINDS, 3, work), 12);
    int32_t cold = qt_sample_token(&(qt_sampling){1e-310, 1, 0, 1}, l, KINDS, 3, work);
    assert_true(cold == 12 || cold == 31);
    for (int i = 0; i < KINDS; i++) l[i] = i == 20 ? 1 : -INFINITY;
    for (int at = 0; at < 50; at++) assert_int_equal(qt_sample_token(&(qt_sampling){1, 1, 0, 1}, l, KINDS, at, work), 20);
}

/* Draws have the shares that they should have, within four standard deviations. */
static void test_frequencies(void **state)
{
    enum { DRAWS = 40000 };
    qt_sampling s = {1, 1, 0, 9};
    R           l[KINDS];
    double      p[KINDS], all = 0;
    int32_t     order[KINDS], work[KINDS];
    int         count[KINDS] = {0};
    (void)state;
    draw_logits(l, 1);
    reference(&s, l, p, order);
    for (int i = 0; i < KINDS; i++) all += p[i];
    for (int at = 0; at < DRAWS; at++) count[qt_sample_token(&s, l, KINDS, at, work)]++;
    for (int i = 0; i < KINDS; i++) {
        double share = p[i] / all;
        assert_true(fabs(count[i] - DRAWS * share) <= 4 * sqrt(DRAWS * share * (1 - share)) + 1);
    }
}

/* ---- text in pieces -------------------------------------------------------------------------------------------------------------------- */

/* What stands in the file after each byte, joined by '|'. */
static void check_stream(const char *bytes, size_t n, const char *want)
{
    qt_utf8_stream u = {{0}, 0};
    char          *text = NULL, got[256] = "";
    size_t         size = 0, before = 0, at = 0;
    FILE          *f = open_memstream(&text, &size);
    for (size_t i = 0; i <= n; i++, before = size) {
        if (i < n) qt_utf8_put(&u, (const uint8_t *)bytes + i, 1, f);
        else qt_utf8_end(&u, f);
        fflush(f);
        at += (size_t)snprintf(got + at, sizeof got - at, "%s%.*s", i ? "|" : "", (int)(size - before), text + before);
    }
    fclose(f), free(text);
    assert_string_equal(got, want);
}

#define BAD "\xef\xbf\xbd"
static void test_utf8_stream(void **state)
{
    (void)state;
    check_stream("ab", 2, "a|b|");
    check_stream("a\xc3\xa9z", 4, "a||\xc3\xa9|z|");
    check_stream("\xe2\x82\xac", 3, "||\xe2\x82\xac|");
    check_stream("\xf0\x9f\x98\x80", 4, "|||\xf0\x9f\x98\x80|");
    check_stream("\x80x", 2, BAD "|x|");
    check_stream("\xc3x", 2, "|" BAD "x|");
    check_stream("\xe2\x82x", 3, "||" BAD BAD "x|");
    check_stream("\xe2\xe2\x82\xac", 4, "|" BAD "||\xe2\x82\xac|");
    check_stream("\xed\xa0\x80", 3, "|" BAD BAD "|" BAD "|"); /* a surrogate */
    check_stream("\xf0\x9f", 2, "||" BAD BAD);                 /* the end of the text */
}

/* ---- models ------------------------------------------------------------------------------------------------------------------------------ */

enum { CONTEXT = 24 };

#define TERNARY "[{match: 'blk.*', weights: {use: ternary, scale_grid: fp16}, activations: {use: int, num_bits: 8, granularity: token}}]"
typedef struct variant {
    const char *name, *model, *quant;
    int         integers;
} variant;
static const variant variants[] = {
    {"bitnet", "{arch: bitnet, d_model: 32, n_layer: 2, n_head: 4, n_kv_head: 2, d_ff: 48, fp16: true}", TERNARY, 14},
    {"llama", "{arch: llama, d_model: 32, n_layer: 2, n_head: 2, d_ff: 48}", "[]", 0},
    {"gpt2", "{arch: gpt2, d_model: 32, n_layer: 1, n_head: 2}", TERNARY, 6},
    {"everything in integers", "{arch: bitnet, d_model: 32, n_layer: 1, n_head: 2, d_ff: 48}",
     "[{match: '*', weights: {use: lsq, num_bits: 4}, activations: {use: int, num_bits: 8, granularity: token}}]", 8},
    {"a tied table that two layers round in their own way", "{arch: bitnet, d_model: 32, n_layer: 1, n_head: 2, d_ff: 48}",
     "[{match: output, weights: ternary}, {match: token_embd, weights: {use: uniform, num_bits: 4}}]", 0},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

static void make_text(void)
{
    static const char *const word[] = {"the ", "quick ", "brown ", "fox ", "jumps ", "over ", "lazy ", "dogs.\n", "na\xc3\xafve ", "caf\xc3\xa9 "};
    FILE  *f = fopen("text.txt", "w");
    qt_rng r = qt_rng_named(1, "text");
    for (int i = 0; i < 2000; i++) fputs(word[qt_rng_below(&r, 10)], f);
    fclose(f);
}

static qt_run *trained(qt_arena *a, const variant *v, const char *more)
{
    qt_recipe *rc;
    qt_run    *r;
    qt_result  res;
    char       text[2048];
    make_text();
    snprintf(text, sizeof text,
             "recipe: 1\nname: m\nmodel: %s\nquant: %s\ndata: {use: text, path: text.txt, seq_len: %d, batch_size: 4}\n"
             "train: {steps: 12, eval_every: 0, log_every: 0, eval_batch_size: 32}\noptim: {use: adam, lr: 1e-2}\n%s",
             v->model, v->quant, CONTEXT, more);
    put_file("r.yaml", text);
    assert_ok(qt_recipe_load(a, "r.yaml", 0, NULL, NULL, &rc));
    assert_ok(qt_run_new(rc, "run", NULL, true, QT_PROGRESS_QUIET, &r));
    assert_ok(qt_run_go(r, &res));
    return r;
}

/* The text that a model makes of a prompt; free it. */
static char *generated(qt_model *m, qt_tape *t, const qt_generation *what, qt_generated *made)
{
    qt_generator g;
    qt_spelling  s;
    char        *text = NULL;
    size_t       n = 0;
    FILE        *f = open_memstream(&text, &n);
    assert_ok(qt_spelling_open(NULL, &s));
    assert_ok(qt_generator_open(m, t, &g));
    assert_ok(qt_generate(&g, &s, what, f, NULL, made));
    qt_generator_free(&g);
    qt_spelling_close(&s);
    fclose(f);
    return text;
}

/* ---- greedy texts ------------------------------------------------------------------------------------------------------------------------ */

static int32_t argmax(const R *l, int64_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) best = l[i] > l[best] ? i : best;
    return best;
}

/* Logits [256] of the token after ids[0..n), by a full forward pass of the training graph. */
static void by_graph(void *arg, const int32_t *ids, int64_t n, R *y)
{
    qt_run *r = arg;
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, false, false);
    qt_tensor *x = qt_input_ids(r->tape, 2, (int64_t[]){1, n});
    memcpy(x->ids, ids, (size_t)n * sizeof *ids);
    qt_tensor *out = qt_model_forward(r->tape, r->model, x);
    assert_ok(qt_tape_error(r->tape));
    memcpy(y, out->data + (n - 1) * 256, 256 * sizeof *y);
}

static void by_engine(void *arg, const int32_t *ids, int64_t n, R *y)
{
    static R all[CONTEXT * 256];
    assert_ok(qt_engine_tokens(arg, 1, n, ids, all));
    memcpy(y, all + (n - 1) * 256, 256 * sizeof *y);
}

/* Full passes, whose window begins anew with its last half when it is full. */
static char *greedy(void (*logits)(void *, const int32_t *, int64_t, R *), void *arg, const char *prompt, int64_t tokens)
{
    int32_t window[CONTEXT];
    int64_t n = (int64_t)strlen(prompt);
    R       y[256];
    char   *text = NULL;
    size_t  size = 0;
    FILE   *f = open_memstream(&text, &size);
    qt_utf8_stream u = {{0}, 0};
    fputs(prompt, f);
    for (int64_t i = 0; i < n; i++) window[i] = (uint8_t)prompt[i];
    while (tokens-- > 0) {
        logits(arg, window, n, y);
        int32_t id = argmax(y, 256);
        uint8_t byte = (uint8_t)id;
        if (!id) break;
        qt_utf8_put(&u, &byte, 1, f);
        if (n == CONTEXT) memmove(window, window + CONTEXT - CONTEXT / 2 + 1, (CONTEXT / 2 - 1) * sizeof *window), n = CONTEXT / 2 - 1;
        window[n++] = id;
    }
    qt_utf8_end(&u, f);
    fclose(f);
    return text;
}

static void check_greedy(const variant *v)
{
    const qt_generation what = {"the quick ", 60, {0, 1, 0, 1}};
    qt_arena            a = {0};
    qt_run             *r = trained(&a, v, "");
    qt_engine          *e;
    qt_generated        made;
    assert_ok(qt_engine_of_run(r, &e));
    char *want = greedy(by_graph, r, what.prompt, what.tokens), *same = greedy(by_engine, e, what.prompt, what.tokens);
    assert_string_equal(same, want);
    for (int threads = 1; threads <= 2; threads++) {
        qt_set_threads(threads);
        char *got = generated(r->model, r->tape, &what, &made), *packed = generated(e->model, e->tape, &what, &made);
        if (strcmp(got, want) || strcmp(packed, want)) fail_msg("%s:\n%s\n%s\n%s", v->name, want, got, packed);
        assert_true(made.prompt_tokens == 10 && !made.unread && (made.tokens == 60 || made.ended));
        free(got), free(packed);
    }
    qt_set_threads(0);
    free(want), free(same);
    qt_engine_free(e);
    qt_run_free(r);
    qt_arena_free(&a);
}

static void test_greedy(void **state)
{
    (void)state;
    for (int i = 0; i < VARIANTS; i++) check_greedy(&variants[i]);
}

/* ---- seeds, memory, long prompts ------------------------------------------------------------------------------------------------------- */

static void test_seeds(void **state)
{
    qt_generation what = {"caf\xc3\xa9 ", 80, {1, 0.95, 30, 5}};
    qt_arena      a = {0};
    qt_run       *r = trained(&a, &variants[0], "");
    qt_generated  made;
    (void)state;
    char *one = generated(r->model, r->tape, &what, &made), *two = generated(r->model, r->tape, &what, &made);
    what.sampling.seed = 6;
    char *other = generated(r->model, r->tape, &what, &made);
    assert_string_equal(one, two);
    assert_string_not_equal(one, other);
    assert_memory_equal(one, what.prompt, strlen(what.prompt));
    assert_true(qt_utf8_bad(one, strlen(one)) == strlen(one) && qt_utf8_bad(other, strlen(other)) == strlen(other));
    free(one), free(two), free(other);
    qt_run_free(r);
    qt_arena_free(&a);
}

/* Once the context has been full, nothing is allocated; and the model is as it was before. */
static void test_memory(void **state)
{
    qt_arena           a = {0};
    qt_run            *r = trained(&a, &variants[0], "");
    qt_generator       g;
    const qt_sampling  s = {1, 0.9, 20, 1};
    int64_t            before = 0;
    qt_result          first, second;
    (void)state;
    assert_ok(qt_run_eval(r, QT_TEST, &first, NULL, NULL));
    assert_ok(qt_generator_open(r->model, r->tape, &g));
    assert_ok(qt_generator_read(&g, (int32_t[]){'t', 'h', 'e'}, 3));
    for (int i = 0; i < 3 * CONTEXT; i++) {
        if (i == CONTEXT) before = qt_alloc_count();
        int32_t id = qt_generator_draw(&g, &s);
        assert_ok(qt_generator_read(&g, &id, 1));
        assert_true(g.n <= CONTEXT && g.ids[g.n - 1] == id);
    }
    assert_int_equal(qt_alloc_count(), before);
    qt_generator_free(&g);
    assert_ok(qt_run_eval(r, QT_TEST, &second, NULL, NULL));
    assert_true(first.loss == second.loss && r->tape->first == 0);
    qt_run_free(r);
    qt_arena_free(&a);
}

/* Of a prompt that is too long the end counts, half a context of it. */
static void test_long_prompt(void **state)
{
    const char   *longer = "the lazy fox jumps over the quick brown dogs. the lazy fox ";
    qt_generation what = {longer, 20, {0, 1, 0, 1}};
    qt_arena      a = {0};
    qt_run       *r = trained(&a, &variants[0], "");
    qt_generated  made;
    (void)state;
    char *whole = generated(r->model, r->tape, &what, &made);
    assert_int_equal(made.prompt_tokens, (int64_t)strlen(longer));
    assert_int_equal(made.unread, made.prompt_tokens - CONTEXT / 2);
    what.prompt = longer + made.unread;
    char *end = generated(r->model, r->tape, &what, &made);
    assert_string_equal(whole + strlen(longer) - CONTEXT / 2, end);
    free(whole), free(end);
    qt_run_free(r);
    qt_arena_free(&a);
}

/* ---- exported models --------------------------------------------------------------------------------------------------------------------- */

static void check_export(const variant *v)
{
    enum { N = 5 };
    qt_arena    a = {0};
    qt_run     *r = trained(&a, v, ""), view;
    qt_engine  *e;
    qt_exported made;
    qt_result   want, got;
    static R    x[N * CONTEXT], y[N * CONTEXT * 256], z[N * CONTEXT * 256];
    int32_t     ids[N * CONTEXT], next[CONTEXT];
    assert_ok(qt_exporter_h5.run(&qt_exporter_h5, r, NULL, "m.h5", &made)); /* compares a batch, bit for bit */
    if (made.integers != v->integers) fail_msg("%s: %d layers in integers, expected %d", v->name, made.integers, v->integers);
    assert_non_null(e = qt_engine_open("m.h5"));
    assert_true(qt_engine_inputs(e) == CONTEXT && qt_engine_outputs(e) == CONTEXT * 256 && qt_engine_vocab(e) == 256);
    assert_ok(qt_run_eval(r, QT_TEST, &want, NULL, NULL));
    assert_ok(qt_engine_as_run(e, &view));
    assert_ok(qt_run_eval(&view, QT_TEST, &got, NULL, NULL));
    assert_true(want.n == got.n && want.loss == got.loss && e->bits_per_weight == want.bits_per_weight);
    for (int i = 0; i < N; i++) assert_ok(qt_data_tokens(r->data, QT_TEST, i, NULL, ids + i * CONTEXT, next));
    for (int i = 0; i < N * CONTEXT; i++) x[i] = (R)ids[i];
    assert_ok(qt_engine_run(e, N, x, y));
    assert_ok(qt_engine_tokens(e, N, CONTEXT, ids, z));
    assert_memory_equal(y, z, sizeof y);
    qt_data_close(view.data);
    qt_engine_free(e);
    qt_run_free(r);
    qt_arena_free(&a);
}

static void test_export(void **state)
{
    (void)state;
    for (int i = 0; i < VARIANTS; i++) check_export(&variants[i]);
}

/* ---- what can speak ---------------------------------------------------------------------------------------------------------------------- */

static char *said(qt_err opened, qt_speaker *s)
{
    const qt_generation what = {"the ", 40, {0, 1, 0, 1}};
    qt_generated        made;
    assert_ok(opened);
    char *text = generated(s->model, s->tape, &what, &made);
    qt_speaker_close(s);
    return text;
}

/* A run, at its newest and at its best checkpoint, its engine, and its exported file: the same text, but of the best. */
static void test_speakers(void **state)
{
    const variant integer = {"ternary", "{arch: llama, d_model: 16, n_layer: 1, n_head: 2, d_ff: 24}",
                             "[{match: \"blk.*\", weights: ternary, activations: {use: int, granularity: token}}]"};
    static const char *const sets[] = {"train.eval_every=6", "export=[{format: h5}]"};
    qt_arena   a = {0};
    qt_recipe *rc;
    qt_run    *r;
    qt_result  res;
    qt_speaker s;
    char      *text[4];
    (void)state;
    qt_run_free(trained(&a, &integer, ""));
    assert_ok(qt_recipe_load(&a, "r.yaml", 2, sets, NULL, &rc));
    assert_ok(qt_run_new(rc, "run", NULL, true, QT_PROGRESS_QUIET, &r));
    assert_ok(qt_run_go(r, &res));
    qt_run_free(r);
    text[0] = said(qt_speaker_of_run("run", false, false, &s), &s);
    text[1] = said(qt_speaker_of_run("run", false, true, &s), &s);
    text[2] = said(qt_speaker_of_file("run/export/m.h5", &s), &s);
    text[3] = said(qt_speaker_of_run("run", true, false, &s), &s);
    assert_true(strlen(text[0]) >= 4 && !strncmp(text[3], "the ", 4));
    assert_string_equal(text[1], text[0]);
    assert_string_equal(text[2], text[0]);
    for (int i = 0; i < 4; i++) free(text[i]);
    qt_arena_free(&a);
}

/* A model of pictures has nothing to say. */
static void test_mute(void **state)
{
    qt_arena   a = {0};
    qt_recipe *rc;
    qt_run    *r;
    qt_result  res;
    qt_speaker s;
    (void)state;
    put_file("d.yaml", "recipe: 1\nname: d\nmodel: [flatten, {use: linear, out: 10}]\ndata: {use: digits, batch_size: 8}\ntrain: {steps: 1}\nexport: [{format: h5}]\n");
    assert_ok(qt_recipe_load(&a, "d.yaml", 0, NULL, NULL, &rc));
    assert_ok(qt_run_new(rc, "digits", NULL, true, QT_PROGRESS_QUIET, &r));
    assert_ok(qt_run_go(r, &res));
    qt_run_free(r);
    for (int integers = 0; integers < 2; integers++) {
        assert_int_equal(qt_speaker_of_run("digits", false, integers, &s), QT_EUSAGE);
        qt_speaker_close(&s);
        assert_errors("digits: is no model of text: its input is numbers");
    }
    assert_int_equal(qt_speaker_of_file("digits/export/d.h5", &s), QT_EUSAGE);
    qt_speaker_close(&s);
    assert_errors("digits/export/d.h5: is no model of text: its input is numbers");
    assert_int_equal(qt_speaker_of_file("none.h5", &s), QT_EIO);
    qt_speaker_close(&s);
    assert_errors("none.h5: cannot read: No such file or directory");
    qt_arena_free(&a);
}

/* ---- the phase --------------------------------------------------------------------------------------------------------------------------- */

static void test_phase(void **state)
{
    const qt_generation what = {"the ", 50, {0.7, 1, 20, 4}};
    qt_arena            a = {0};
    qt_run             *r = trained(&a, &variants[0],
                                    "phases: [train, {use: sample, prompt: 'the ', tokens: 50, temperature: 0.7, top_k: 20, seed: 4}]\n");
    qt_generated        made;
    char               *text, *want = generated(r->model, r->tape, &what, &made), *log;
    size_t              n, size;
    (void)state;
    assert_ok(qt_file_read(&a, "run/sample.txt", &text, &n));
    assert_true(n == strlen(want) + 1 && text[n - 1] == '\n' && !memcmp(text, want, n - 1));
    assert_ok(qt_file_read(&a, "run/log.txt", &log, &size));
    assert_non_null(strstr(log, want));
    free(want);
    qt_run_free(r);
    qt_arena_free(&a);
}

/* ---- errors ------------------------------------------------------------------------------------------------------------------------------ */

static void refuse_recipe(const char *text, const char *message)
{
    qt_arena   a = {0};
    qt_recipe *rc;
    put_file("bad.yaml", text);
    assert_int_equal(qt_recipe_load(&a, "bad.yaml", 0, NULL, NULL, &rc), QT_ERECIPE);
    assert_errors(message);
    qt_arena_free(&a);
}

static void refuse_prompt(qt_run *r, const char *prompt, const char *message)
{
    qt_generation what = {prompt, 5, {0, 1, 0, 1}};
    qt_generator  g;
    qt_spelling   s;
    qt_generated  made;
    char         *text = NULL;
    size_t        n = 0;
    FILE         *f = open_memstream(&text, &n);
    assert_ok(qt_spelling_open(NULL, &s));
    assert_ok(qt_generator_open(r->model, r->tape, &g));
    assert_int_equal(qt_generate(&g, &s, &what, f, NULL, &made), QT_EUSAGE);
    fclose(f);
    assert_errors(message);
    assert_int_equal(n, 0);
    free(text);
    qt_generator_free(&g);
}

static void test_errors(void **state)
{
    qt_arena   a = {0};
    qt_run    *r = trained(&a, &variants[1], "");
    qt_engine *e;
    qt_speaker s;
    R          y[2 * 256];
    (void)state;
    refuse_prompt(r, "", "the prompt is empty; the model goes on with a text, so it needs the first letter at least");
    refuse_prompt(r, "na\xefve", "the prompt is not UTF-8: byte 0xef at offset 2");
    assert_ok(qt_engine_of_run(r, &e));
    assert_int_equal(qt_engine_tokens(e, 1, CONTEXT + 1, (int32_t[CONTEXT + 1]){0}, y), QT_EUSAGE);
    assert_errors("m: 1 texts of 25 tokens; a text may have up to 24");
    assert_int_equal(qt_engine_tokens(e, 1, 2, (int32_t[]){3, 256}, y), QT_EUSAGE);
    assert_errors("m: token 1 is 256, expected an id from 0 to 255");
    qt_engine_free(e);
    qt_run_free(r);
    qt_arena_free(&a);
    unlink("run/ckpt/best.h5");
    assert_int_equal(qt_speaker_of_run("run", true, false, &s), QT_EUSAGE);
    qt_speaker_close(&s);
    assert_errors("run/ckpt/best.h5: is not there; a run keeps its best checkpoint where train.eval_every evaluates it on the way");
    refuse_recipe("recipe: 1\nmodel: [flatten, {use: linear, out: 10}]\ndata: {use: digits, batch_size: 8}\ntrain: {steps: 1}\noptim: adam\n"
                  "phases: [train, {use: sample, prompt: a}]\n",
                  "bad.yaml:6:17: phases: sample goes on with a text, but the data are numbers");
    refuse_recipe("recipe: 1\nmodel: {arch: llama, d_model: 8, n_layer: 1, n_head: 2, d_ff: 8}\ndata: {use: text, path: text.txt, batch_size: 8}\n"
                  "train: {steps: 1}\noptim: adam\nphases: [train, {use: sample, prompt: ''}]\n",
                  "bad.yaml:6:17: phases: sample: the prompt is empty; it needs the first letter at least");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sampler),     cmocka_unit_test(test_likeliest), cmocka_unit_test(test_frequencies),
        cmocka_unit_test(test_utf8_stream), cmocka_unit_test(test_greedy),    cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_memory),      cmocka_unit_test(test_long_prompt), cmocka_unit_test(test_export),
        cmocka_unit_test(test_speakers),    cmocka_unit_test(test_mute),
        cmocka_unit_test(test_phase),       cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
