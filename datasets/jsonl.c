/* Instructions, one a line: {"prompt": TEXT, "completion": TEXT}. A sample is the tokens of the prompt, those of the completion and a zero that
 * ends it; targets of the prompt do not count, so the loss is on the completion and its end alone. Shorter samples are filled up with
 * zeros whose targets do not count; what a longer one becomes is said by too_long. Prompt and completion are made tokens each on its
 * own, so that a completion begins with the same token after any prompt. Lines without anything on them are passed over. */
#include "base/json.h"
#include "paths.h"
#include "textset.h"
#include <string.h>

enum { REFUSE, CUT, DROP };

typedef struct jsonl_cfg {
    qt_text_cfg text;
    int         too_long;
} jsonl_cfg;

static const qt_field fields[] = {
    QT_TEXT_PATHS(jsonl_cfg),
    QT_TEXT_FIELDS(jsonl_cfg), QT_TEXT_TEST(jsonl_cfg),
    QT_F_ENUM(jsonl_cfg, too_long, "refuse", "refuse|cut|drop",
              "a line of more than seq_len + 1 tokens: refuse is an error, cut leaves the end of the completion away, drop leaves out the line"),
    {NULL}};

typedef struct sample {
    int64_t at;
    int32_t n, prompt; /* tokens; those of them that are the prompt */
} sample;

typedef struct lines {
    qt_vocab        vocab;
    qt_bpe_encoder *encoder; /* NULL: bytes */
    int32_t        *token;
    sample         *sample;
    int             n_token, cap_token, n, cap;
    int             first[QT_SPLITS], size[QT_SPLITS]; /* samples of a split */
    int64_t         seq_len;
    int             too_long;
} lines;

static qt_err info_of(const void *cfg, qt_data_info *info)
{
    QT_TRY(qt_text_check_paths(cfg));
    return qt_text_info(cfg, info);
}

/* ---- lines --------------------------------------------------------------------------------------------------------------------------- */

static qt_err read_members(qt_json *j, const char *text[2])
{
    static const char *const name[] = {"prompt", "completion"};
    QT_TRY(qt_json_enter(j, '{'));
    for (const char *key;;) {
        QT_TRY(qt_json_member(j, &key));
        if (!key) break;
        int k = !strcmp(key, name[1]);
        if (strcmp(key, name[k])) return qt_json_fail(j, "unknown member '%s', expected prompt and completion", key);
        if (text[k]) return qt_json_fail(j, "'%s' stands here twice", key);
        QT_TRY(qt_json_string(j, &text[k]));
    }
    for (int k = 0; k < 2; k++)
        if (!text[k]) return qt_json_fail(j, "'%s' is missing", name[k]);
    return qt_json_end(j);
}

static qt_err add_tokens(lines *l, const char *text)
{
    int64_t count = (int64_t)strlen(text);
    QT_TRY(qt_grow(&l->token, &l->cap_token, l->n_token + (int)count + 1, sizeof *l->token));
    int32_t *to = l->token + l->n_token;
    if (l->encoder) QT_TRY(qt_bpe_encode_text(l->encoder, text, (size_t)count, to, &count));
    else for (int64_t i = 0; i < count; i++) to[i] = (uint8_t)text[i];
    l->n_token += (int)count;
    return QT_OK;
}

/* A line's tokens have been added behind those of the samples. */
static qt_err add_sample(lines *l, qt_json *j, int64_t at, int64_t prompt)
{
    int64_t n = l->n_token - at, most = l->seq_len + 1;
    if (n > most && l->too_long == REFUSE)
        return qt_json_fail(j, "%lld tokens, but a sample takes %lld (data.seq_len + 1); too_long: cut or drop takes the file as it is", (long long)n,
                            (long long)most);
    if (n > most && l->too_long == CUT && prompt >= most)
        return qt_json_fail(j, "the prompt alone has %lld tokens and a sample takes %lld (data.seq_len + 1): nothing is left of the completion",
                            (long long)prompt, (long long)most);
    if (n > most) n = l->too_long == CUT ? most : 0;
    l->n_token = (int)(at + n);
    if (!n) return QT_OK;
    QT_TRY(qt_grow(&l->sample, &l->cap, l->n + 1, sizeof *l->sample));
    l->sample[l->n++] = (sample){at, (int32_t)n, (int32_t)prompt};
    return QT_OK;
}

static qt_err read_line(lines *l, qt_arena *a, const char *file, int number, const char *line, size_t n)
{
    char        what[32];
    const char *text[2] = {NULL};
    int64_t     at = l->n_token, prompt;
    snprintf(what, sizeof what, "line %d", number);
    qt_json j = qt_json_of(file, what, line, n, a);
    QT_TRY(read_members(&j, text));
    if (!*text[1]) return qt_json_fail(&j, "the completion is empty");
    if ((double)l->n_token + (double)n > 1e9) return qt_json_fail(&j, "more than a thousand million tokens");
    QT_TRY(add_tokens(l, text[0]));
    prompt = l->n_token - at;
    QT_TRY(add_tokens(l, text[1]));
    l->token[l->n_token++] = 0;
    return add_sample(l, &j, at, prompt);
}

static qt_err read_lines(lines *l, const char *file, const qt_map *m)
{
    const char *p = (const char *)m->p, *end = p + m->n, *stop;
    qt_arena    a = {0};
    qt_err      e = QT_OK;
    for (int number = 1; p < end && e == QT_OK; p = stop + 1, number++) {
        if (!(stop = memchr(p, '\n', (size_t)(end - p)))) stop = end;
        size_t n = (size_t)(stop - p), blank = 0;
        while (blank < n && strchr(" \t\r", p[blank])) blank++;
        if (blank < n) e = read_line(l, &a, file, number, p, n), qt_arena_reset(&a);
    }
    qt_arena_free(&a);
    return e;
}

/* ---- the set ------------------------------------------------------------------------------------------------------------------------- */

static qt_err read_path(lines *l, const qt_yaml *path)
{
    qt_paths f = {0};
    qt_err   e = path ? qt_paths_find(path, &f) : QT_OK;
    for (int i = 0; i < f.n && e == QT_OK; i++) {
        qt_map m;
        if ((e = qt_file_map(f.name[i], &m)) != QT_OK) break;
        e = read_lines(l, f.name[i], &m);
        qt_file_unmap(&m);
    }
    qt_paths_free(&f);
    return e;
}

/* The samples of the val or test split: those of files of its own, otherwise a share of those before `end`. */
static qt_err take_split(lines *l, qt_split k, const qt_yaml *path, double share, int n, int *end)
{
    l->first[k] = path ? l->n : *end - (int)(share * n);
    QT_TRY(read_path(l, path));
    l->size[k] = (path ? l->n : *end) - l->first[k];
    if (!path) *end = l->first[k];
    return QT_OK;
}

static qt_err load(const qt_text_cfg *c, lines *l, qt_data_info *info)
{
    const char *name = c->path->kind == QT_YAML_SCALAR ? c->path->text : "data.path";
    QT_TRY(qt_vocab_open(c->tokens, &l->vocab));
    if (l->vocab.bpe) QT_TRY(qt_bpe_encoder_new(l->vocab.bpe, &l->encoder));
    QT_TRY(qt_text_known(c, &l->vocab, info));
    QT_TRY(read_path(l, c->path));
    int n = l->n, end = n;
    QT_CHECK(n, QT_EDATA, "%s: no lines to train on", name);
    QT_TRY(take_split(l, QT_TEST, c->test_path, c->test_fraction, n, &end));
    QT_TRY(take_split(l, QT_VAL, c->val_path, c->val_fraction, n, &end));
    l->size[QT_TRAIN] = end;
    return QT_OK;
}

static void finish(void *state)
{
    lines *l = state;
    qt_bpe_encoder_free(l->encoder);
    qt_vocab_close(&l->vocab);
    qt_free(l->token), qt_free(l->sample);
    qt_free(l);
}

static qt_err begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info)
{
    const jsonl_cfg *c = cfg;
    lines           *l = *state = qt_alloc(sizeof *l);
    (void)seed;
    if (!l) return QT_EMEM;
    l->seq_len = c->text.seq_len, l->too_long = c->too_long;
    qt_err e = load(&c->text, l, info);
    if (e == QT_OK) return QT_OK;
    finish(l);
    *state = NULL;
    return e;
}

static int64_t size(const void *state, qt_split s)
{
    const lines *l = state;
    return l->size[s];
}

static qt_err tokens(void *state, qt_split k, int64_t i, qt_rng *draw, int32_t *x, int32_t *y)
{
    const lines   *l = state;
    const sample  *s = &l->sample[l->first[k] + i];
    const int32_t *t = l->token + s->at;
    (void)draw;
    for (int64_t j = 0; j < l->seq_len; j++) {
        x[j] = j < s->n ? t[j] : 0;
        y[j] = j + 1 < s->n && j + 1 >= s->prompt ? t[j + 1] : QT_IGNORE;
    }
    return QT_OK;
}

const qt_dataset qt_dataset_jsonl = {
    .d      = {"jsonl", "your prompts and completions, one pair a line; the loss is on the completions", NULL, fields, sizeof(jsonl_cfg)},
    .info   = info_of,
    .open   = begin,
    .size   = size,
    .tokens = tokens,
    .close  = finish,
    .where  = "your files (path)"};
