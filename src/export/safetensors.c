/* Format safetensors: all parameters as floats (F32; the double library writes F64), for whoever goes on with them in another program. Quantized weights
 * are the numbers code * scale that training's evaluation used, or, with `master`, the floats that the optimizer moves.
 *
 * A model {arch: llama} that LlamaForCausalLM computes gets the names and the rows of q and k that it has there (hf.c), and config.json beside the file;
 * steps of quantizers have no place in it. Every other model keeps its own names. A tied layer that rounds the shared table in its own way gets a tensor of
 * its own. __metadata__ says the version, and what config.json has no key for: rope: half, fp16.
 *
 * Hugging Face, safetensors 0.4. Left out: half precision, adapters, more than one file, tokenizer.json. */
#include "base/safetensors.h"
#include "export/hf.h"
#include <string.h>

typedef struct cfg { bool master; } cfg;

static const qt_field fields[] = {
    QT_F_BOOL(cfg, master, "false", "the floats behind quantized weights, and the quantizers' state where the model keeps its own names; not the dequantized numbers"),
    {NULL}};

/* What the file is to hold. */
typedef struct content {
    qt_snapshot    *s;
    bool            master, hf;
    qt_llama        c;
    int             n;
    qt_safe_tensor *t;
} content;

/* ---- tensors ----------------------------------------------------------------------------------------------------------------------- */

/* NULL: it has no place in the file. */
static const R *values(const content *x, const qt_param *p)
{
    const qt_snapshot *s = x->s;
    if (x->master) return p->t.data;
    for (int i = 0; i < s->n; i++)
        if (s->layer[i].m->p[0] == &p->t && qt_module_owns_weight(s->layer[i].m)) return s->layer[i].w->data;
    return qt_snapshot_values(s, p);
}

static qt_err add(content *x, const char *name, const qt_tensor *t, const R *v)
{
    qt_arena      *a = &x->s->arena;
    const int64_t  heads = x->hf ? qt_hf_heads(&x->c, name) : 0;
    const char    *there = x->hf ? qt_hf_name(a, name) : name;
    qt_safe_tensor out = {.name = there, .type = sizeof(R) == 8 ? QT_SAFE_F64 : QT_SAFE_F32, .rank = t->rank, .data = (const uint8_t *)v};
    if (!v || !there) return QT_OK;
    for (int d = 0; d < t->rank; d++) out.dim[d] = t->dim[d];
    if (heads) {
        R *y = qt_arena_alloc(a, (size_t)t->n * sizeof *y);
        if (!y) return QT_EMEM;
        qt_hf_rows(true, heads, t->dim[0], t->dim[1], v, y);
        out.data = (const uint8_t *)y;
    }
    return x->t[x->n++] = out, QT_OK;
}

/* Layers tied to a table whose numbers they round in another way than its owner does. */
static qt_err add_tied(content *x)
{
    const qt_snapshot *s = x->s;
    for (int i = 0; i < s->n && !x->master; i++) {
        const qt_snap_layer *l = &s->layer[i];
        if (qt_module_owns_weight(l->m)) continue;
        if (!memcmp(values(x, qt_store_param_of(s->run->store, l->m->p[0])), l->w->data, (size_t)l->w->n * sizeof(R))) continue;
        char *name = qt_arena_sprintf(&x->s->arena, "%s.weight", l->m->path);
        if (!name) return QT_EMEM;
        QT_TRY(add(x, name, l->w, l->w->data));
    }
    return QT_OK;
}

static qt_err gather(qt_snapshot *s, const cfg *c, content *x)
{
    const qt_store *st = s->run->store;
    *x = (content){.s = s, .master = c->master};
    x->hf = qt_hf_llama(s->run->recipe, s->run->model, &x->c);
    if (!(x->t = qt_arena_alloc(&s->arena, (size_t)(st->n + s->n) * sizeof *x->t))) return QT_EMEM;
    for (int i = 0; i < st->n; i++) QT_TRY(add(x, st->p[i]->t.name, &st->p[i]->t, values(x, st->p[i])));
    return add_tied(x);
}

/* ---- the file ---------------------------------------------------------------------------------------------------------------------- */

static qt_err write(qt_snapshot *s, const void *config, const char *file)
{
    content x;
    QT_TRY(gather(s, config, &x));
    const char *own = qt_arena_sprintf(&s->arena, "{\"version\": \"%s\"%s%s}", qt_version(), x.hf && x.c.rope == QT_LLAMA_HALF ? ", \"rope\": \"half\"" : "",
                                       x.hf && x.c.fp16 ? ", \"fp16\": true" : "");
    if (!own) return QT_EMEM;
    return qt_safe_write(file, x.n, x.t, 2, (const char *[]){"format", "pt", "qtape", own});
}

static qt_err compare_all(const content *x, const qt_safe *f, int64_t *tensors)
{
    for (int i = 0; i < x->n; i++) {
        const qt_safe_tensor *want = &x->t[i], *t = qt_safe_find(f, want->name);
        QT_CHECK(t && t->type == want->type && !memcmp(t->data, want->data, (size_t)(t->end - t->begin)), QT_ECLAIM,
                 "%s: tensor %s read back differs from the one that was trained; nothing was exported", f->file, want->name);
        (*tensors)++;
    }
    return QT_OK;
}

static qt_err compare(qt_snapshot *s, const void *config, const char *file, int64_t *tensors)
{
    content  x;
    qt_safe *f;
    QT_TRY(gather(s, config, &x));
    QT_TRY(qt_safe_open(file, &f));
    qt_err e = compare_all(&x, f, tensors);
    qt_safe_free(f);
    return e;
}

static void describe(FILE *f, qt_snapshot *s, const void *config, const char *file)
{
    content x;
    (void)file;
    if (gather(s, config, &x) != QT_OK) return;
    fprintf(f, " \"tensors\": [");
    for (int i = 0; i < x.n; i++) {
        fprintf(f, "%s\n  {\"name\": ", i ? "," : "");
        qt_export_str(f, x.t[i].name);
        fprintf(f, ", \"shape\": [");
        for (int d = 0; d < x.t[i].rank; d++) fprintf(f, "%s%lld", d ? ", " : "", (long long)x.t[i].dim[d]);
        fprintf(f, "], \"type\": \"%s\"}", qt_safe_type_name(x.t[i].type));
    }
    fprintf(f, "],\n");
}

/* ---- config.json ------------------------------------------------------------------------------------------------------------------- */

static qt_err write_config(qt_run *r, const qt_llama *c, const char *file)
{
    const char *slash = strrchr(file, '/');
    const char *config = qt_arena_sprintf(&r->arena, "%.*sconfig.json", slash ? (int)(slash + 1 - file) : 0, file);
    qt_safe    *f;
    if (!config) return QT_EMEM;
    QT_TRY(qt_safe_open(file, &f));
    qt_err e = qt_hf_config(config, c, r->model->in.dim[0], !qt_safe_find(f, "lm_head.weight"));
    qt_safe_free(f);
    return e;
}

static qt_err run(const qt_exporter *x, qt_run *r, const void *config, const char *file, qt_exported *out)
{
    qt_llama c;
    QT_TRY(qt_export_run(x, r, config, file, out));
    return qt_hf_llama(r->recipe, r->model, &c) ? write_config(r, &c, out->file) : QT_OK;
}

const qt_exporter qt_exporter_safetensors = {
    {"safetensors", "all parameters as floats, as training's evaluation used them; language models {arch: llama} as LlamaForCausalLM has them", "safetensors 0.4", fields,
     sizeof(cfg)}, "safetensors", 1, run, write, .compare = compare, .describe = describe};
