/* Log-probabilities of an unmodified llama.cpp, as an oracle for exported models.
 *
 *     llama LIBDIR FILE.gguf TOKENS.txt OUT.npy [--lora ADAPTER.gguf] [--kv f32]
 *
 * Each line of TOKENS.txt is a window of token ids, separated by blanks, and goes through the model on its own, from position 0. OUT.npy gets
 * float32 [positions of all windows, vocabulary]: row i holds the logarithms of the probabilities of the token behind position i.
 *
 * The shared libraries are those of the npm package @node-llama-cpp/linux-x64 (see llama.sh), opened at run time; no header of theirs is
 * needed. Their parameter structs differ from release to release. Functions that give or take one by value do so in memory, by the calling
 * convention of x86-64, so a longer buffer serves: it is filled by llama_*_default_params, and of its fields are changed
 *   - the first three numbers of the context's: n_ctx, n_batch, n_ubatch, which have been the first three since there are contexts;
 *   - flash attention, the last of four enumerations in a row that are -1 (rope scaling, pooling, attention, flash attention), to 0: off.
 *     It would compute the products of attention in another order, with sums in half precision;
 *   - with --kv f32, the types of the cache of keys and values, the first two numbers behind it that are both 1 (F16), to 0 (F32). */
#include <dlfcn.h>
#include <glob.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__x86_64__)
#error "the libraries are for x86-64"
#endif

typedef struct params {
    _Alignas(16) unsigned char raw[1024];
} params;

typedef struct batch {
    int32_t   n_tokens;
    int32_t  *token;
    float    *embd;
    int32_t  *pos, *n_seq_id;
    int32_t **seq_id;
    int8_t   *logits;
} batch;

static void fail(const char *what, const char *which)
{
    fprintf(stderr, "oracle: %s %s\n", what, which);
    exit(1);
}

/* ---- the libraries --------------------------------------------------------------------------------------------------------------- */

static void *open_library(const char *dir, const char *pattern)
{
    char   path[4096];
    glob_t g;
    snprintf(path, sizeof path, "%s/%s", dir, pattern);
    if (glob(path, 0, NULL, &g) || !g.gl_pathc) fail("there is no", path);
    void *l = dlopen(g.gl_pathv[0], RTLD_NOW | RTLD_GLOBAL);
    if (!l) fail("cannot open:", dlerror());
    globfree(&g);
    return l;
}

static void *library, *ggml;

#define CALL(result, from, name, ...) ((result(*)(__VA_ARGS__))symbol(from, #name))
static void *symbol(void *from, const char *name)
{
    void *p = dlsym(from, name);
    if (!p) fail("the library lacks", name);
    return p;
}

/* The package has kernels for several CPUs, and their sums differ in the last bits. Those for AVX2 are taken wherever they run. */
static void load_kernels(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/libggml-cpu-haswell.so", dir);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && CALL(void *, ggml, ggml_backend_load, const char *)(path)) return;
    CALL(void, ggml, ggml_backend_load_all_from_path, const char *)(dir);
}

static void print_errors(int level, const char *text, void *data)
{
    (void)data;
    if (level == 4) fputs(text, stderr);
}

/* ---- tokens ---------------------------------------------------------------------------------------------------------------------- */

typedef struct window {
    int32_t *id;
    int      n;
} window;

static window *read_windows(const char *file, int *count)
{
    FILE   *f = fopen(file, "r");
    char   *text = NULL;
    size_t  cap = 0;
    window *all = NULL;
    if (!f) fail("cannot read", file);
    for (*count = 0; getline(&text, &cap, f) > 0;) {
        window w = {malloc(strlen(text) * sizeof *w.id), 0};
        for (char *s = text, *end;; s = end) {
            long v = strtol(s, &end, 10);
            if (end == s) break;
            w.id[w.n++] = (int32_t)v;
        }
        if (!w.n) {
            free(w.id);
            continue;
        }
        all = realloc(all, (size_t)(*count + 1) * sizeof *all);
        all[(*count)++] = w;
    }
    fclose(f), free(text);
    if (!*count) fail("no tokens in", file);
    return all;
}

/* ---- one run --------------------------------------------------------------------------------------------------------------------- */

static void *load(const char *file)
{
    params p = CALL(params, library, llama_model_default_params, void)();
    void  *model = CALL(void *, library, llama_model_load_from_file, const char *, params)(file, p);
    if (!model) fail("llama.cpp does not load", file);
    return model;
}

static void *make_context(void *model, int longest, int f32_cache)
{
    params   p = CALL(params, library, llama_context_default_params, void)();
    int32_t *v = (int32_t *)p.raw;
    int      at = 3;
    v[0] = v[1] = v[2] = (longest + 255) / 256 * 256;
    while (at < 32 && !(v[at] == -1 && v[at + 1] == -1 && v[at + 2] == -1 && v[at + 3] == -1)) at++;
    if (at == 32) fail("the context's parameters are not as expected:", "no flash attention among them");
    v[at + 3] = 0;
    for (at += 4; at < 64 && !(v[at] == 1 && v[at + 1] == 1); at++) {}
    if (at == 64) fail("the context's parameters are not as expected:", "no types of the cache among them");
    if (f32_cache) v[at] = v[at + 1] = 0;
    void *context = CALL(void *, library, llama_init_from_model, void *, params)(model, p);
    if (!context) fail("llama.cpp makes no context for", "this model");
    CALL(void, library, llama_set_n_threads, void *, int32_t, int32_t)(context, 1, 1); /* its threads spin, which a busy machine does not like */
    return context;
}

static void add_adapter(void *model, void *context, const char *file)
{
    float scale = 1;
    void *adapter = CALL(void *, library, llama_adapter_lora_init, void *, const char *)(model, file);
    if (!adapter) fail("llama.cpp does not load", file);
    if (CALL(int32_t, library, llama_set_adapters_lora, void *, void **, size_t, float *)(context, &adapter, 1, &scale))
        fail("llama.cpp does not use", file);
}

static void write_head(FILE *f, int64_t rows, int64_t columns)
{
    char head[128], text[118];
    snprintf(text, sizeof text, "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }", (long long)rows, (long long)columns);
    memcpy(head, "\x93NUMPY\1\0\x76\0", 10);
    snprintf(head + 10, sizeof head - 10, "%-117s", text);
    head[127] = '\n';
    fwrite(head, 1, sizeof head, f);
}

static void write_log_softmax(FILE *f, const float *x, int n)
{
    double most = x[0], sum = 0;
    for (int i = 1; i < n; i++) most = x[i] > most ? x[i] : most;
    for (int i = 0; i < n; i++) sum += exp(x[i] - most);
    for (int i = 0; i < n; i++) {
        float y = (float)(x[i] - most - log(sum));
        fwrite(&y, sizeof y, 1, f);
    }
}

static void run_window(void *context, const window *w, int vocabulary, FILE *out)
{
    batch b = CALL(batch, library, llama_batch_init, int32_t, int32_t, int32_t)(w->n, 0, 1);
    b.n_tokens = w->n;
    for (int i = 0; i < w->n; i++) {
        if (w->id[i] < 0 || w->id[i] >= vocabulary) fail("a token id is outside", "the vocabulary");
        b.token[i] = w->id[i], b.pos[i] = i, b.n_seq_id[i] = 1, b.seq_id[i][0] = 0, b.logits[i] = 1;
    }
    CALL(void, library, llama_memory_clear, void *, _Bool)(CALL(void *, library, llama_get_memory, void *)(context), 1);
    if (CALL(int32_t, library, llama_decode, void *, batch)(context, b)) fail("llama_decode", "failed");
    for (int i = 0; i < w->n; i++) write_log_softmax(out, CALL(float *, library, llama_get_logits_ith, void *, int32_t)(context, i), vocabulary);
    CALL(void, library, llama_batch_free, batch)(b);
}

int main(int argc, char **argv)
{
    int         count, longest = 0, f32_cache = 0;
    int64_t     rows = 0;
    const char *adapter = NULL;
    for (int i = 5; i < argc; i += 2) {
        if (i + 1 < argc && !strcmp(argv[i], "--lora")) adapter = argv[i + 1];
        else if (i + 1 < argc && !strcmp(argv[i], "--kv") && !strcmp(argv[i + 1], "f32")) f32_cache = 1;
        else argc = 0;
    }
    if (argc < 5) fail("usage: llama", "LIBDIR FILE.gguf TOKENS.txt OUT.npy [--lora ADAPTER.gguf] [--kv f32]");
    window *w = read_windows(argv[3], &count);
    for (int i = 0; i < count; i++) rows += w[i].n, longest = w[i].n > longest ? w[i].n : longest;
    ggml = open_library(argv[1], "libggml.*so*"), library = open_library(argv[1], "libllama.*so*");
    CALL(void, library, llama_log_set, void (*)(int, const char *, void *), void *)(print_errors, NULL);
    load_kernels(argv[1]);
    CALL(void, library, llama_backend_init, void)();
    void *model = load(argv[2]), *context = make_context(model, longest, f32_cache);
    if (adapter) add_adapter(model, context, adapter);
    int   vocabulary = CALL(int32_t, library, llama_vocab_n_tokens, const void *)(CALL(void *, library, llama_model_get_vocab, void *)(model));
    FILE *out = fopen(argv[4], "wb");
    if (!out) fail("cannot write", argv[4]);
    write_head(out, rows, vocabulary);
    for (int i = 0; i < count; i++) run_window(context, &w[i], vocabulary, out);
    if (fclose(out)) fail("cannot write", argv[4]);
    return 0;
}
