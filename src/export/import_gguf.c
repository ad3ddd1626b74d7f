/* GGUF files as run directories, for `init` of further training, adapters, generation and export. The recipe is written from the keys, a quantizer
 * for each layer from its tensor's type (quantizer ggml, scales: kept) with the activations that ggml multiplies it with, and attention in half
 * precision as llama.cpp has it. Weights are kept as the numbers code * scale; that their codes come out again is checked before the directory counts.
 * The tokenizer is taken over where its ids are ours: bytes, or merges of them.
 * Left out: other architectures, biases, scaled rotary angles, other tokenizers. */
#include "export/importer.h"
#include "export/export.h"
#include "base/bpe.h"
#include "base/gguf.h"
#include <stdlib.h>
#include <string.h>

typedef struct importer {
    qt_importer base;
    qt_gguf    *g;
    const char *arch;
} importer;

/* ---- the recipe ---------------------------------------------------------------------------------------------------------------------- */

static qt_err key_int(importer *im, const char *name, int64_t *v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", im->arch, name);
    return qt_gguf_int(im->g, key, v);
}

static bool has_key(const importer *im, const char *name)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", im->arch, name);
    return qt_gguf_find(im->g, key) != NULL;
}

static qt_err key_real(importer *im, const char *name, double *v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", im->arch, name);
    return qt_gguf_real(im->g, key, v);
}

static qt_err print_model(importer *im, FILE *f, int64_t vocab)
{
    static const char *const sizes[][2] = {
        {"embedding_length", "d_model"}, {"block_count", "n_layer"}, {"attention.head_count", "n_head"}, {"feed_forward_length", "d_ff"}};
    int64_t v;
    double  eps, base = 10000;
    fprintf(f, "model: {arch: %s, vocab: %lld", im->arch, (long long)vocab);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        QT_TRY(key_int(im, sizes[i][0], &v));
        fprintf(f, ", %s: %lld", sizes[i][1], (long long)v);
    }
    if (has_key(im, "attention.head_count_kv")) {
        QT_TRY(key_int(im, "attention.head_count_kv", &v));
        fprintf(f, ", n_kv_head: %lld", (long long)v);
    }
    QT_TRY(key_real(im, "attention.layer_norm_rms_epsilon", &eps));
    if (has_key(im, "rope.freq_base")) QT_TRY(key_real(im, "rope.freq_base", &base));
    fprintf(f, ", norm_eps: "), qt_export_real(f, eps, true);
    fprintf(f, ", rope_base: "), qt_export_real(f, base, true);
    fprintf(f, ", tied: %s, fp16: true}\n", qt_gguf_find_tensor(im->g, "output.weight") ? "false" : "true");
    return QT_OK;
}

/* A model that is far larger than the file can hold is refused before memory is taken for it. */
static qt_err check_size(importer *im, int64_t vocab)
{
    int64_t d, ff, n;
    double  bytes = 0;
    QT_TRY(key_int(im, "embedding_length", &d));
    QT_TRY(key_int(im, "feed_forward_length", &ff));
    QT_TRY(key_int(im, "block_count", &n));
    const double all = (double)vocab * (double)d + (double)n * (double)d * ((double)d + 3 * (double)ff);
    for (int64_t i = 0; i < im->g->n_tensors; i++) bytes += (double)im->g->tensor[i].bytes;
    QT_CHECK(all <= 16 * bytes, QT_EDATA, "%s: has %.0f bytes of data, and its keys describe a model of %.3g numbers or more", im->g->file, bytes, all);
    return QT_OK;
}

static void print_rule(FILE *f, const qt_gguf_tensor *t)
{
    const bool ternary = t->type->id == QT_GGML_TQ1_0 || t->type->id == QT_GGML_TQ2_0;
    fprintf(f, "  - {match: "), qt_json_print(f, t->name, strlen(t->name) - 7);
    fprintf(f, ", weights: {use: ggml, type: %s, scales: kept}", t->type->name);
    if (strcmp(t->name, "token_embd.weight")) fprintf(f, ", activations: %s", ternary ? "q8_k" : "q8_0");
    fprintf(f, "}\n");
}

static void print_quant(const importer *im, FILE *f)
{
    int n = 0;
    for (int64_t i = 0; i < im->g->n_tensors; i++) {
        const qt_gguf_tensor *t = &im->g->tensor[i];
        const size_t          len = strlen(t->name);
        if (!t->type->pack || len < 8 || strcmp(t->name + len - 7, ".weight")) continue;
        if (!n++) fprintf(f, "quant:\n");
        print_rule(f, t);
    }
}

/* ---- the vocabulary ------------------------------------------------------------------------------------------------------------------ */

typedef struct token {
    const char *s;
    size_t      n;
    int64_t     id;
} token;

static int by_spelling(const void *a, const void *b)
{
    const token *x = a, *y = b;
    int          order = x->n && y->n ? memcmp(x->s, y->s, x->n < y->n ? x->n : y->n) : 0;
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

static int by_spelling_and_id(const void *a, const void *b)
{
    const token *x = a, *y = b;
    int          order = by_spelling(a, b);
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

/* The tokens in the order of their spelling; of those that are spelled alike the first. */
static token *sort_tokens(qt_arena *a, const qt_gguf_key *tokens, size_t *n)
{
    token         *t = qt_arena_alloc(a, tokens->n * sizeof *t);
    const uint8_t *p = tokens->p;
    *n = 0;
    if (!t) return NULL;
    for (uint64_t i = 0; i < tokens->n; i++) t[i].s = qt_gguf_next_str(&p, &t[i].n), t[i].id = (int64_t)i;
    qsort(t, tokens->n, sizeof *t, by_spelling_and_id);
    for (uint64_t i = 0; i < tokens->n; i++)
        if (!i || by_spelling(&t[*n - 1], &t[i])) t[(*n)++] = t[i];
    return t;
}

/* The id of the token that is spelled so, -1 if there is none. */
static int64_t find_token(const token *t, size_t n, const char *s, size_t len)
{
    const token  want = {s, len, 0};
    const token *found = bsearch(&want, t, n, sizeof *t, by_spelling);
    return found ? found->id : -1;
}

static qt_err read_merges(importer *im, const token *t, size_t n_tokens, const qt_gguf_key *merges, qt_bpe **b)
{
    int32_t       *pair = qt_arena_alloc(&im->base.arena, (size_t)(2 * merges->n) * sizeof *pair);
    const uint8_t *p = merges->p;
    if (!pair) return QT_EMEM;
    for (uint64_t k = 0; k < merges->n; k++) {
        size_t      n;
        const char *s = qt_gguf_next_str(&p, &n), *blank = memchr(s, ' ', n);
        int64_t     l = blank ? find_token(t, n_tokens, s, (size_t)(blank - s)) : -1;
        int64_t     r = blank ? find_token(t, n_tokens, blank + 1, n - (size_t)(blank + 1 - s)) : -1;
        int64_t     id = 256 + (int64_t)k;
        QT_CHECK(l > 0 && r > 0 && l < id && r < id, QT_EDATA, "%s: merge %lld is none of two tokens before it; a vocabulary with ids of another order cannot be imported", im->g->file,
                 (long long)k);
        pair[2 * k] = (int32_t)l, pair[2 * k + 1] = (int32_t)r;
    }
    return qt_bpe_make(im->g->file, (int64_t)merges->n, pair, b);
}

/* "bytes", or the file that it has written. */
static qt_err import_vocab(importer *im, int64_t *vocab, const char **file)
{
    const qt_gguf_key *tokens = qt_gguf_find(im->g, "tokenizer.ggml.tokens"), *merges = qt_gguf_find(im->g, "tokenizer.ggml.merges");
    qt_bpe            *b;
    size_t             n;
    *file = "bytes";
    QT_CHECK(tokens && tokens->array && tokens->type == QT_GGUF_STR && tokens->n >= 256 && tokens->n <= 1 << 16, QT_EDATA,
             "%s: has no vocabulary of 256 to 65536 tokens", im->g->file);
    const token *t = sort_tokens(&im->base.arena, tokens, &n);
    if (!t) return QT_EMEM;
    QT_CHECK(find_token(t, n, "A", 1) == 'A' && find_token(t, n, "\u0120", 2) == ' ', QT_EDATA,
             "%s: its tokens are not bytes, and merges of bytes, in their order; other tokenizers cannot be imported", im->g->file);
    *vocab = (int64_t)tokens->n;
    if (!merges || !merges->n) return QT_OK;
    QT_CHECK(merges->array && merges->type == QT_GGUF_STR && merges->n <= tokens->n - 256, QT_EDATA, "%s: has more merges than tokens", im->g->file);
    QT_TRY(read_merges(im, t, n, merges, &b));
    *file = qt_importer_path(&im->base, "vocab.bpe");
    qt_err e = qt_bpe_save(b, *file);
    qt_bpe_free(b);
    return e;
}

/* ---- values -------------------------------------------------------------------------------------------------------------------------- */

static qt_err read_param(importer *im, const qt_param *p)
{
    const qt_gguf_tensor *t = qt_gguf_find_tensor(im->g, p->t.name);
    const qt_tensor      *w = &p->t;
    QT_CHECK(t, QT_EDATA, "%s: has no tensor %s", im->g->file, w->name);
    bool same = t->rank == w->rank;
    for (int d = 0; same && d < w->rank; d++) same = t->dim[d] == w->dim[w->rank - 1 - d];
    QT_CHECK(same, QT_EDATA, "%s: tensor %s has another shape than the keys say", im->g->file, w->name);
    QT_CHECK(qt_ggml_read(t->type, w->n, t->data, w->data), QT_EDATA, "%s: tensor %s is of type %s, which cannot be read", im->g->file, w->name, t->type->name);
    return QT_OK;
}

/* A quantizer must give the numbers of the file again. */
static qt_err check_site(importer *im, qt_site *q, const qt_tensor *w)
{
    qt_arena a = {0};
    qt_codes c = {0};
    R       *y = qt_arena_alloc(&a, (size_t)w->n * sizeof *y);
    qt_err   e = y ? q->quant->encode(q, w, &a, &c) : QT_EMEM;
    if (e == QT_OK) {
        qt_codes_decode(&c, y);
        for (int64_t i = 0; e == QT_OK && i < w->n; i++)
            if (y[i] != w->data[i])
                e = qt_fail(QT_ECLAIM, "%s: tensor %s: the scale of number %lld cannot be told from its block; import it as floats, with ~quant", im->g->file, w->name,
                            (long long)i);
    }
    qt_arena_free(&a);
    return e;
}

static qt_err read_values(qt_importer *base)
{
    importer       *im = (importer *)base;
    const qt_store *s = base->run->store;
    const qt_model *m = base->run->model;
    for (int i = 0; i < s->n; i++) QT_TRY(read_param(im, s->p[i]));
    QT_CHECK(im->g->n_tensors == s->n, QT_EDATA, "%s: %lld tensors, and a model of its architecture has %d", im->g->file, (long long)im->g->n_tensors, s->n);
    for (int i = 0; i < m->n; i++)
        if (m->m[i].weight) QT_TRY(check_site(im, m->m[i].weight, m->m[i].p[0]));
    return QT_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------------------------------------------- */

static qt_err print_recipe(qt_importer *base, FILE *f)
{
    importer   *im = (importer *)base;
    const char *tokens;
    int64_t     vocab = 0, context;
    QT_TRY(qt_gguf_str(im->g, "general.architecture", &im->arch));
    QT_CHECK(!strcmp(im->arch, "llama") || !strcmp(im->arch, "bitnet"), QT_EDATA, "%s: architecture '%s'; llama and bitnet can be imported", im->g->file, im->arch);
    QT_TRY(import_vocab(im, &vocab, &tokens));
    QT_TRY(check_size(im, vocab));
    QT_TRY(key_int(im, "context_length", &context));
    QT_TRY(print_model(im, f, vocab));
    print_quant(im, f);
    qt_importer_print_data(base, f, tokens, context);
    return QT_OK;
}

qt_err qt_import_gguf(const char *file, const char *dir, qt_sets sets)
{
    importer im = {{file, dir, print_recipe, read_values, {0}, NULL}, NULL, NULL};
    QT_TRY(qt_gguf_open(file, &im.g));
    qt_err e = qt_importer_go(&im.base, sets);
    qt_gguf_free(im.g);
    return e;
}
