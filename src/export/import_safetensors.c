/* Llama models of Hugging Face's transformers as run directories: FILE.safetensors with config.json beside it. Sizes that the configuration does not say are
 * taken from the tensors, and words of the command line stand over both: without config.json, model.n_head at least must be given. Names and the rows of
 * q and k as in hf.c; all tensors must be there, with the shapes of the configuration, and no others.
 * The tokenizer is not read: tokens are bytes unless data.tokens names a vocabulary whose ids they are.
 * Left out: other architectures, biases, scaled rotary angles, models in several files. */
#include "base/safetensors.h"
#include "export/hf.h"
#include "export/importer.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

typedef struct importer {
    qt_importer    base;
    qt_safe       *f;
    const qt_yaml *config, *own; /* config.json, and what __metadata__ has of ours; NULL: there is none */
} importer;

/* ---- the recipe ---------------------------------------------------------------------------------------------------------------------- */

static const qt_yaml *key(const importer *im, const char *name) { return im->config ? qt_yaml_get(im->config, name) : NULL; }

static bool is_string(const qt_yaml *y, const char *want)
{
    const char *s;
    return !y || y->kind == QT_YAML_NULL || (qt_yaml_str(y, &s) && !strcmp(s, want));
}

static bool is_true(const qt_yaml *y)
{
    bool v = false;
    return y && qt_yaml_bool(y, &v) && v;
}

/* JSON is YAML. */
static qt_err read_config(importer *im)
{
    const char *file = im->base.file, *slash = strrchr(file, '/');
    const char *config = qt_arena_sprintf(&im->base.arena, "%.*sconfig.json", slash ? (int)(slash + 1 - file) : 0, file);
    qt_yaml    *y;
    if (!config) return QT_EMEM;
    if (!qt_file_exists(config)) return QT_OK;
    QT_TRY(qt_yaml_load(&im->base.arena, config, &y));
    QT_CHECK(y->kind == QT_YAML_MAP, QT_EDATA, "%s: expected an object, found %s", config, qt_yaml_kind_name(y));
    im->config = y;
    QT_CHECK(is_string(key(im, "model_type"), "llama"), QT_EDATA, "%s: model_type is not llama", config);
    QT_CHECK(is_string(key(im, "hidden_act"), "silu"), QT_EDATA, "%s: hidden_act is not silu", config);
    const qt_yaml *scaling = key(im, "rope_scaling"), *rope = key(im, "rope_parameters");
    const bool     scaled = (scaling && scaling->kind == QT_YAML_MAP) || (rope && rope->kind == QT_YAML_MAP && !is_string(qt_yaml_get(rope, "rope_type"), "default"));
    QT_CHECK(!scaled, QT_EDATA, "%s: its rotary angles are scaled, which cannot be imported", config);
    return QT_OK;
}

/* What the exporter has noted beside the configuration. */
static void read_meta(importer *im)
{
    qt_yaml *y;
    for (int64_t i = 0; i < im->f->n_meta; i++) {
        const char *value = im->f->meta[2 * i + 1];
        if (strcmp(im->f->meta[2 * i], "qtape")) continue;
        if (qt_yaml_parse(&im->base.arena, value, strlen(value), im->f->file, &y) == QT_OK && y->kind == QT_YAML_MAP) im->own = y;
        qt_error_clear();
    }
}

static int64_t count_layers(const importer *im)
{
    char    name[64];
    int64_t n = 0;
    while (snprintf(name, sizeof name, "model.layers.%lld.input_layernorm.weight", (long long)n) && qt_safe_find(im->f, name)) n++;
    return n;
}

/* 0: not known. */
static int64_t size_of(const importer *im, const char *name, const char *tensor, int d)
{
    const qt_safe_tensor *t = tensor ? qt_safe_find(im->f, tensor) : NULL;
    int64_t               v = 0;
    const qt_yaml        *y = key(im, name);
    if (y && qt_yaml_int(y, &v)) return v;
    return t && d < t->rank ? t->dim[d] : 0;
}

static void print_sizes(const importer *im, FILE *f)
{
    static const struct { const char *name, *ours, *tensor; int d; } sizes[] = {
        {"vocab_size", "vocab", "model.embed_tokens.weight", 0}, {"hidden_size", "d_model", "model.embed_tokens.weight", 1},
        {"intermediate_size", "d_ff", "model.layers.0.mlp.gate_proj.weight", 0}, {"num_attention_heads", "n_head", NULL, 0},
        {"num_key_value_heads", "n_kv_head", NULL, 0}, {"num_hidden_layers", "n_layer", NULL, 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t v = size_of(im, sizes[i].name, sizes[i].tensor, sizes[i].d);
        if (!v && !strcmp(sizes[i].ours, "n_layer")) v = count_layers(im);
        if (v) fprintf(f, ", %s: %lld", sizes[i].ours, (long long)v);
    }
}

static void print_model(const importer *im, FILE *f)
{
    const qt_yaml *rope = key(im, "rope_parameters"), *base = key(im, "rope_theta"), *eps = key(im, "rms_norm_eps");
    double         v;
    if (!base && rope && rope->kind == QT_YAML_MAP) base = qt_yaml_get(rope, "rope_theta");
    fprintf(f, "model: {arch: llama");
    print_sizes(im, f);
    if (eps && qt_yaml_real(eps, &v)) fprintf(f, ", norm_eps: "), qt_export_real(f, v, false);
    if (base && qt_yaml_real(base, &v)) fprintf(f, ", rope_base: "), qt_export_real(f, v, false);
    if (im->own && qt_yaml_get(im->own, "rope") && is_string(qt_yaml_get(im->own, "rope"), "half")) fprintf(f, ", rope: half");
    if (im->own && is_true(qt_yaml_get(im->own, "fp16"))) fprintf(f, ", fp16: true");
    const bool tied = key(im, "tie_word_embeddings") ? is_true(key(im, "tie_word_embeddings")) : !qt_safe_find(im->f, "lm_head.weight");
    fprintf(f, ", tied: %s}\n", tied ? "true" : "false");
}

/* A configuration of a far larger model than the file holds is refused before memory is taken for it; a smaller misfit is left to check_tensors. */
static qt_err check_size(const importer *im)
{
    const double d = (double)size_of(im, "hidden_size", NULL, 0), ff = (double)size_of(im, "intermediate_size", NULL, 0);
    const double n = (double)size_of(im, "vocab_size", NULL, 0) * d + (double)size_of(im, "num_hidden_layers", NULL, 0) * d * (d + 3 * ff);
    double       bytes = 0;
    for (int64_t i = 0; i < im->f->n; i++) bytes += (double)(im->f->tensor[i].end - im->f->tensor[i].begin);
    QT_CHECK(n <= 16 * bytes, QT_EDATA, "%s: has %.0f bytes of data, and config.json describes a model of %.3g numbers or more", im->f->file, bytes, n);
    return QT_OK;
}

static qt_err print_recipe(qt_importer *base, FILE *f)
{
    importer *im = (importer *)base;
    QT_TRY(read_config(im));
    QT_TRY(check_size(im));
    read_meta(im);
    print_model(im, f);
    const int64_t context = size_of(im, "max_position_embeddings", NULL, 0);
    qt_importer_print_data(base, f, "bytes", context ? context : 512);
    return QT_OK;
}

/* ---- values -------------------------------------------------------------------------------------------------------------------------- */

/* Names for a message, the first few. */
typedef struct names {
    const char *what;
    int         n;
    char        text[1024];
} names;

static void QT_PRINTF(2, 3) note(names *l, const char *fmt, ...)
{
    const size_t at = strlen(l->text);
    va_list      ap;
    if (l->n++ >= 6) return;
    snprintf(l->text + at, sizeof l->text - at, "%s", at ? ", " : "");
    va_start(ap, fmt);
    vsnprintf(l->text + strlen(l->text), sizeof l->text - strlen(l->text), fmt, ap);
    va_end(ap);
}

static void shape_text(char text[static 96], int rank, const int64_t *dim)
{
    size_t at = 0;
    text[0] = 0;
    for (int d = 0; d < rank && at < 80; d++) at += (size_t)snprintf(text + at, 96 - at, "%s%lld", d ? ", " : "", (long long)dim[d]);
}

static bool same_shape(const qt_safe_tensor *t, const qt_tensor *w)
{
    bool same = t->rank == w->rank;
    for (int d = 0; same && d < w->rank; d++) same = t->dim[d] == w->dim[d];
    return same;
}

static bool readable(const qt_safe_tensor *t)
{
    return t->type == QT_SAFE_F32 || t->type == QT_SAFE_F16 || t->type == QT_SAFE_BF16 || (t->type == QT_SAFE_F64 && sizeof(R) == 8);
}

static void check_tensor(const importer *im, const char *name, const qt_tensor *w, names l[static 4])
{
    const qt_safe_tensor *t = qt_safe_find(im->f, name);
    char                  have[96], want[96];
    if (!t) note(&l[0], "%s", name);
    else if (!same_shape(t, w)) {
        shape_text(have, t->rank, t->dim), shape_text(want, w->rank, w->dim);
        note(&l[2], "%s [%s], expected [%s]", name, have, want);
    } else if (!readable(t)) {
        note(&l[3], "%s (%s)", name, qt_safe_type_name(t->type));
    }
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Names of the model's tensors as they stand in the file, sorted. */
static const char **expected(importer *im, size_t *n)
{
    const qt_store *s = im->base.run->store;
    const char    **name = qt_arena_alloc(&im->base.arena, (size_t)s->n * sizeof *name);
    *n = 0;
    for (int i = 0; name && i < s->n; i++)
        if ((name[*n] = qt_hf_name(&im->base.arena, s->p[i]->t.name))) ++*n;
    if (name) qsort(name, *n, sizeof *name, by_name);
    return name;
}

/* Angles that older files hold although they follow from the configuration. */
static bool is_angles(const char *name)
{
    const char *end = strstr(name, ".rotary_emb.inv_freq");
    return end && !strcmp(end, ".rotary_emb.inv_freq");
}

/* Every tensor that does not fit, in one message. */
static qt_err check_tensors(importer *im)
{
    names           l[4] = {{.what = "missing"}, {.what = "unexpected"}, {.what = "of another shape"}, {.what = "of a type other than F32, F16 and BF16"}};
    char            text[4400] = "";
    const qt_store *s = im->base.run->store;
    size_t          n;
    const char    **want = expected(im, &n);
    if (!want) return QT_EMEM;
    for (int i = 0; i < s->n; i++) {
        const char *name = qt_hf_name(&im->base.arena, s->p[i]->t.name);
        if (name) check_tensor(im, name, &s->p[i]->t, l);
    }
    for (int64_t i = 0; i < im->f->n; i++)
        if (!is_angles(im->f->tensor[i].name) && !bsearch(&im->f->tensor[i].name, want, n, sizeof *want, by_name)) note(&l[1], "%s", im->f->tensor[i].name);
    for (int i = 0; i < 4; i++) {
        const size_t at = strlen(text);
        char         more[32] = "";
        if (l[i].n > 6) snprintf(more, sizeof more, " and %d more", l[i].n - 6);
        if (l[i].n) snprintf(text + at, sizeof text - at, "%s %s: %s%s", at ? ";" : "", l[i].what, l[i].text, more);
    }
    QT_CHECK(!*text, QT_EDATA, "%s: its tensors are not those of the model %s:%s", im->f->file, im->config ? "in config.json" : "that was told", text);
    return QT_OK;
}

static qt_err read_tensor(importer *im, const qt_llama *c, const qt_tensor *w)
{
    const char   *name = qt_hf_name(&im->base.arena, w->name);
    const int64_t heads = qt_hf_heads(c, w->name);
    if (!name) return QT_OK;
    if (!heads) return qt_safe_read(im->f, qt_safe_find(im->f, name), w->data);
    R *x = qt_alloc((size_t)w->n * sizeof *x);
    if (!x) return QT_EMEM;
    qt_err e = qt_safe_read(im->f, qt_safe_find(im->f, name), x);
    if (e == QT_OK) qt_hf_rows(false, heads, w->dim[0], w->dim[1], x, w->data);
    qt_free(x);
    return e;
}

static qt_err read_values(qt_importer *base)
{
    importer       *im = (importer *)base;
    const qt_store *s = base->run->store;
    qt_llama        c;
    QT_CHECK(qt_hf_llama(base->run->recipe, base->run->model, &c), QT_EUSAGE, "%s: the recipe's model is none that LlamaForCausalLM computes", base->file);
    QT_TRY(check_tensors(im));
    for (int i = 0; i < s->n; i++) QT_TRY(read_tensor(im, &c, &s->p[i]->t));
    return QT_OK;
}

qt_err qt_import_safetensors(const char *file, const char *dir, qt_sets sets)
{
    importer im = {{file, dir, print_recipe, read_values, {0}, NULL}, NULL, NULL, NULL};
    QT_TRY(qt_safe_open(file, &im.f));
    qt_err e = qt_importer_go(&im.base, sets);
    qt_safe_free(im.f);
    return e;
}
