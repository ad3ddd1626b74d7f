/* Loading an exported model (format: h5.c). A file may be damaged, or made to harm: its checksum is verified, a child process walks it, and
 * every shape, count, width, range and code is checked against the model that its recipe builds before memory is taken for it.
 * Weights of fully connected layers, and those of convolutions below eight bits, stay packed (kernels/packed.h); the rest become bytes. */
#include "base/h5.h"
#include "export/bits.h"
#include "export/engine.h"
#include "kernels/packed.h"
#include <math.h>
#include <string.h>
#include <sys/stat.h>

typedef struct loader {
    qt_engine  *e;
    qt_h5      *f;
    const char *file;
    int64_t     room;    /* bytes of the file that no data set has claimed yet */
    bool        refused; /* for a reason that a person can act on: newer version, codes outside of their range */
} loader;

static qt_err damaged(const loader *l, const char *name, const char *what)
{
    return qt_fail(QT_EDATA, "%s: '%s' %s", l->file, name, what);
}

/* ---- before anything is allocated: shapes ------------------------------------------------------------------------------------------ */

/* A data set of this shape, whose bytes are in the file. */
static qt_err claim(loader *l, const char *name, int rank, const int64_t *dim, int64_t bytes)
{
    int     r;
    int64_t d[8];
    QT_TRY(qt_h5_shape(l->f, name, &r, d));
    if (r != rank || memcmp(d, dim, (size_t)rank * sizeof *dim)) return damaged(l, name, "has not the shape that the model wants");
    for (int i = 0; i < rank; i++) {
        if (dim[i] < 1 || bytes > l->room / dim[i]) return damaged(l, name, "is larger than the file");
        bytes *= dim[i];
    }
    l->room -= bytes;
    return QT_OK;
}

static const char *layer_set(char name[static 512], const qt_module *m, const char *what)
{
    snprintf(name, 512, "layers/%s/%s", m->path, what);
    return name;
}

typedef struct grid {
    int32_t bits, lo, hi, step;
} grid;

static qt_err read_grid(loader *l, const qt_module *m, grid *g)
{
    char    name[512];
    int32_t v[4];
    QT_TRY(claim(l, layer_set(name, m, "grid"), 1, (int64_t[]){4}, 4));
    QT_TRY(qt_h5_read_ids(l->f, name, 4, v));
    *g = (grid){v[0], v[1], v[2], v[3]};
    if (g->bits < 1 || g->bits > 8) return qt_fail(QT_EDATA, "%s: '%s': codes of %d bits, expected 1 to 8", l->file, name, g->bits);
    if (g->lo < -128 || g->hi > 127 || g->lo > g->hi || g->step < 1 || g->step > 2 || (g->hi - g->lo) % g->step ||
        (g->hi - g->lo) / g->step >> g->bits)
        return qt_fail(QT_EDATA, "%s: '%s': codes %d to %d in steps of %d do not fit %d bits", l->file, name, g->lo, g->hi, g->step, g->bits);
    return QT_OK;
}

/* How many scales a layer has; they share the weight out in equal parts. */
static qt_err scale_count(loader *l, const qt_module *m, int64_t *count)
{
    int     rank;
    int64_t d[8];
    char    name[512];
    QT_TRY(qt_h5_shape(l->f, layer_set(name, m, "scale"), &rank, d));
    if (rank != 1 || d[0] < 1 || m->p[0]->n % d[0]) return damaged(l, name, "does not share its weight out in equal parts");
    *count = d[0];
    return QT_OK;
}

/* A tied layer whose weight is not the numbers of the table gets a tensor of its own. */
static qt_err own_weight(loader *l, qt_module *m)
{
    qt_tensor *w = qt_arena_alloc(&l->e->arena, sizeof *w);
    if (!w) return QT_EMEM;
    *w = *m->p[0], w->data = NULL, m->p[0] = w;
    return QT_OK;
}

/* The same with floats. */
static qt_err check_floats(loader *l, qt_module *m)
{
    char name[512];
    if (qt_module_owns_weight(m)) return damaged(l, m->path, "is tied to no other layer");
    QT_TRY(claim(l, layer_set(name, m, "weight"), m->p[0]->rank, m->p[0]->dim, sizeof(R)));
    QT_TRY(own_weight(l, m));
    return (m->p[0]->data = qt_arena_alloc(&l->e->arena, (size_t)m->p[0]->n * sizeof(R))) ? QT_OK : QT_EMEM;
}

/* A layer whose weight is there as codes: everything about them but the codes themselves. Its weight gets no floats. */
static qt_err check_layer(loader *l, qt_module *m)
{
    const qt_tensor *w = m->p[0];
    char             name[512];
    int64_t          count;
    grid             g;
    if (m->layer->reads_ids) return damaged(l, m->path, "is no layer that can compute in integers");
    QT_TRY(read_grid(l, m, &g));
    QT_TRY(scale_count(l, m, &count));
    QT_TRY(claim(l, layer_set(name, m, "codes"), 2, (int64_t[]){w->dim[0], qt_bits_row(w->n / w->dim[0], g.bits)}, 1));
    QT_TRY(claim(l, layer_set(name, m, "scale"), 1, &count, sizeof(R)));
    if (qt_h5_has(l->f, layer_set(name, m, "zero"))) QT_TRY(claim(l, name, 1, &count, 4));
    l->e->integers++;
    if (!qt_module_owns_weight(m)) return own_weight(l, m);
    qt_store_param_of(l->e->store, w)->outside = true;
    return QT_OK;
}

static bool has(loader *l, const qt_module *m, const char *what)
{
    char name[512];
    return qt_h5_has(l->f, layer_set(name, m, what));
}

/* Can the weight be switched to fewer bits? Its site then stays, to say to which. */
static bool keeps_site(loader *l, qt_module *m)
{
    if (!m->weight || !qt_site_bits(m->weight)) return false;
    if (m->weight->quant == &qt_quant_double_rounding && qt_site_bits(m->weight) <= 8 && has(l, m, "codes")) return m->weight->enabled = false, true;
    return l->e->fixed = m->path, false;
}

/* The quantizers of weights have done their work: their sites leave the modules, and their state the store. */
static qt_err check_layers(loader *l)
{
    qt_engine *e = l->e;
    for (int i = 0; i < e->model->n; i++) {
        qt_module *m = &e->model->m[i];
        if (!m->layer->quantizes) continue;
        e->layers++;
        if (has(l, m, "codes")) QT_TRY(check_layer(l, m));
        else if (has(l, m, "weight")) QT_TRY(check_floats(l, m));
        for (int k = 0; m->weight && k < QT_SITE_PARAMS; k++)
            if (m->weight->p[k]) qt_store_param_of(e->store, m->weight->p[k])->outside = true;
        if (!keeps_site(l, m)) m->weight = NULL;
    }
    return QT_OK;
}

static qt_err check_params(loader *l)
{
    const qt_store *s = l->e->store;
    char            name[512];
    for (int i = 0; i < s->n; i++) {
        if (s->p[i]->outside) continue;
        snprintf(name, sizeof name, "params/%s", s->p[i]->t.name);
        QT_TRY(claim(l, name, s->p[i]->t.rank, s->p[i]->t.dim, sizeof(R)));
    }
    return QT_OK;
}

/* ---- the model -------------------------------------------------------------------------------------------------------------------------- */

static qt_err read_header(loader *l, const char **recipe)
{
    qt_engine *e = l->e;
    int64_t    version, bits;
    QT_TRY(qt_h5_get_int(l->f, "format_version", &version));
    l->refused = version > QT_ENGINE_FORMAT;
    QT_CHECK(!l->refused, QT_EDATA, "%s: exported for a newer format version, %lld; this qtape reads version %d", l->file, (long long)version,
             QT_ENGINE_FORMAT);
    QT_CHECK(version == QT_ENGINE_FORMAT, QT_EDATA, "%s: format version %lld is none", l->file, (long long)version);
    QT_TRY(qt_h5_get_int(l->f, "real_bits", &bits));
    QT_CHECK(bits == 8 * (int64_t)sizeof(R), QT_EDATA, "%s: exported by the %s library, this is the %s one", l->file, bits == 64 ? "double" : "float",
             sizeof(R) == 8 ? "double" : "float");
    QT_TRY(qt_h5_get_str(l->f, "name", &e->arena, &e->name));
    QT_TRY(qt_h5_get_int(l->f, "seed", &e->seed));
    QT_TRY(qt_h5_get_int(l->f, "classes", &e->classes));
    QT_TRY(qt_h5_get_int(l->f, "parameters", &e->params));
    QT_TRY(qt_h5_get_real(l->f, "bits_per_weight", &e->bits_per_weight));
    QT_TRY(qt_h5_get_real(l->f, "bytes", &e->bytes));
    return qt_h5_get_str(l->f, "recipe", &e->arena, recipe);
}

static qt_err read_input(loader *l, qt_shape *in)
{
    int     rank;
    int64_t d[8], n = 1;
    int32_t v[QT_MAX_DIM];
    QT_TRY(qt_h5_shape(l->f, "input", &rank, d));
    if (rank != 1 || d[0] < 1 || d[0] > QT_MAX_DIM - 1) return damaged(l, "input", "is no shape of a sample");
    QT_TRY(qt_h5_read_ids(l->f, "input", d[0], v));
    *in = (qt_shape){(int)d[0], {0}};
    for (int i = 0; i < in->rank; i++) {
        if (v[i] < 1 || v[i] > 1 << 20 || n > (1 << 30) / v[i]) return damaged(l, "input", "is no shape of a sample");
        n *= in->dim[i] = v[i];
    }
    l->e->in_n = n;
    if (!qt_h5_has(l->f, "ids")) return QT_OK;
    QT_TRY(qt_h5_shape(l->f, "ids", &rank, d));
    if (rank != 1 || d[0] != 1) return damaged(l, "ids", "is no number of ids");
    QT_TRY(qt_h5_read_ids(l->f, "ids", 1, v));
    if (v[0] < 1 || v[0] > 1 << 24 || in->rank != 1) return damaged(l, "ids", "is no number of ids");
    in->ids = v[0];
    return QT_OK;
}

static qt_err build(loader *l, const char *text)
{
    qt_engine     *e = l->e;
    qt_yaml       *y;
    qt_shape       in;
    const qt_yaml *engine;
    const char    *word = "";
    QT_TRY(read_input(l, &in));
    QT_TRY(qt_yaml_parse(&e->arena, text, strlen(text), l->file, &y));
    e->recipe = y;
    if (!(e->store = qt_store_new((uint64_t)e->seed)) || !(e->tape = qt_tape_new())) return QT_EMEM;
    QT_TRY(qt_model_build(&e->arena, e->store, qt_yaml_get(y, "model"), qt_yaml_get(y, "quant"), in, e->classes, &e->model));
    engine = qt_yaml_get(y, "engine");
    if (engine) qt_yaml_str(engine, &word);
    qt_tape_simulate(e->tape, !strcmp(word, "float"));
    e->out_n = 1;
    for (int i = 0; i < e->model->out.rank; i++) e->out_n *= e->model->out.dim[i];
    return QT_OK;
}

/* ---- values ------------------------------------------------------------------------------------------------------------------------------ */

/* The bytes of a layer as codes q [n], each within its range. */
static qt_err unpack(loader *l, const qt_module *m, const grid *g, const uint8_t *row, int8_t *q)
{
    int64_t N = m->p[0]->dim[0], K = m->p[0]->n / N;
    for (int64_t n = 0; n < N; n++, row += qt_bits_row(K, g->bits))
        for (int64_t k = 0; k < K; k++) {
            int c = g->lo + g->step * (int)qt_bits_get(row, k, g->bits);
            l->refused = c > g->hi;
            QT_CHECK(!l->refused, QT_EDATA, "%s: layer '%s' has codes outside their range: %d at [%lld, %lld], expected %d to %d", l->file,
                     m->path, c, (long long)n, (long long)k, g->lo, g->hi);
            *q++ = (int8_t)c;
        }
    return QT_OK;
}

static qt_err read_codes(loader *l, const qt_module *m, const grid *g, int8_t *q)
{
    char     name[512];
    int64_t  N = m->p[0]->dim[0], bytes = N * qt_bits_row(m->p[0]->n / N, g->bits);
    uint8_t *packed = qt_alloc((size_t)bytes);
    if (!packed) return QT_EMEM;
    qt_err e = qt_h5_read_bytes(l->f, layer_set(name, m, "codes"), bytes, packed);
    if (e == QT_OK) e = unpack(l, m, g, packed, q);
    qt_free(packed);
    return e;
}

/* Packed for the kernels, or a copy of the bytes where they unpack nothing. */
qt_err qt_engine_pack(qt_engine *e, const qt_module *m, int step, const int8_t *q, qt_icodes *c)
{
    qt_arena  *a = &e->arena;
    int64_t    N = m->p[0]->dim[0], K = c->n / N;
    int        bits = qt_packed_bits(c->lo, c->hi, step == 2 && c->lo == -1 && c->hi == 1);
    qt_packed *p;
    if (bits == 8 && m->layer != &qt_layer_linear) {
        if (!(c->q = qt_arena_zalloc(a, (size_t)c->n + QT_CODES_SLACK))) return QT_EMEM;
        memcpy(c->q, q, (size_t)c->n);
        return QT_OK;
    }
    c->packed = p = qt_arena_zalloc(a, sizeof *p), c->binary = bits == 1;
    void    *data = qt_arena_zalloc(a, qt_packed_size(N, K, bits));
    int32_t *sum = qt_arena_alloc(a, (size_t)N * sizeof *sum);
    if (!p || !data || !sum) return QT_EMEM;
    QT_ASSERT(qt_packed_fill(p, N, K, bits, c->lo, c->hi, q, data, sum));
    return QT_OK;
}

static qt_err read_scales(loader *l, const qt_module *m, qt_icodes *c)
{
    char     name[512];
    qt_arena *a = &l->e->arena;
    R        *scale;
    int32_t  *zero;
    QT_TRY(scale_count(l, m, &c->count));
    c->inner = c->n / c->count;
    if (!(c->scale = scale = qt_arena_alloc(a, (size_t)c->count * sizeof *scale))) return QT_EMEM;
    QT_TRY(qt_h5_read(l->f, layer_set(name, m, "scale"), c->count, scale));
    for (int64_t k = 0; k < c->count; k++)
        if (!isfinite(scale[k])) return damaged(l, name, "holds numbers that are not finite");
    if (!qt_h5_has(l->f, layer_set(name, m, "zero"))) return QT_OK;
    if (!(c->zero = zero = qt_arena_alloc(a, (size_t)c->count * sizeof *zero))) return QT_EMEM;
    QT_TRY(qt_h5_read_ids(l->f, name, c->count, zero));
    for (int64_t k = 0; k < c->count; k++)
        if (zero[k] < -256 || zero[k] > 255) return damaged(l, name, "holds zero points that no code of 8 bits can have");
    return QT_OK;
}

/* For a layer that can be switched. */
static qt_err keep_stored(qt_engine *e, qt_module *m, const int8_t *q, const qt_icodes *c)
{
    qt_switched *s;
    if (!e->switched && !(e->switched = qt_arena_zalloc(&e->arena, (size_t)e->model->n * sizeof *e->switched))) return QT_EMEM;
    s = &e->switched[e->n_switched];
    *s = (qt_switched){m, qt_arena_alloc(&e->arena, (size_t)c->n), *c, {NULL}};
    if (!s->q) return QT_EMEM;
    memcpy(s->q, q, (size_t)c->n);
    e->n_switched++;
    return QT_OK;
}

static qt_err read_layer(loader *l, qt_module *m)
{
    qt_icodes *c = qt_arena_zalloc(&l->e->arena, sizeof *c);
    int8_t    *q = qt_alloc((size_t)m->p[0]->n + QT_CODES_SLACK);
    grid       g;
    qt_err     e = c && q ? read_grid(l, m, &g) : QT_EMEM;
    if (e == QT_OK) *c = (qt_icodes){.is_signed = true, .lo = g.lo, .hi = g.hi, .n = m->p[0]->n};
    if (e == QT_OK) e = read_scales(l, m, c);
    if (e == QT_OK) e = read_codes(l, m, &g, q);
    if (e == QT_OK) e = qt_engine_pack(l->e, m, g.step, q, c);
    if (e == QT_OK && m->weight) e = keep_stored(l->e, m, q, c);
    qt_free(q);
    m->p[0]->codes = c;
    return e;
}

/* Those of weights have left; the input of a layer must have one. */
static qt_err read_site(loader *l, qt_site *q)
{
    int32_t on = 0;
    char    name[512];
    snprintf(name, sizeof name, "sites/%s", q->path);
    if (q->role != QT_ROLE_ACT && !qt_h5_has(l->f, name)) return QT_OK;
    QT_TRY(qt_h5_read_ids(l->f, name, 1, &on));
    q->enabled = on != 0, q->observing = false;
    return QT_OK;
}

static qt_err read_values(loader *l)
{
    qt_engine *e = l->e;
    char       name[512];
    for (int i = 0; i < e->store->n; i++) {
        const qt_param *p = e->store->p[i];
        if (p->outside) continue;
        snprintf(name, sizeof name, "params/%s", p->t.name);
        QT_TRY(qt_h5_read(l->f, name, p->t.n, p->t.data));
    }
    for (int i = 0; i < e->store->n_site; i++) QT_TRY(read_site(l, e->store->site[i]));
    for (int i = 0; i < e->model->n; i++) {
        qt_module *m = &e->model->m[i];
        if (!m->layer->quantizes) continue;
        if (has(l, m, "codes")) QT_TRY(read_layer(l, m));
        else if (has(l, m, "weight")) QT_TRY(qt_h5_read(l->f, layer_set(name, m, "weight"), m->p[0]->n, m->p[0]->data));
    }
    return QT_OK;
}

/* ---- loading ------------------------------------------------------------------------------------------------------------------------------ */

/* One sample of zeros through the model: what cannot work is found now, and not when the first answer is wanted. */
static qt_err try_out(loader *l)
{
    qt_engine *e = l->e;
    R         *x = qt_alloc((size_t)e->in_n * sizeof *x), *y = qt_alloc((size_t)e->out_n * sizeof *y);
    qt_err     got = x && y ? qt_engine_run(e, 1, x, y) : QT_EMEM;
    qt_free(x), qt_free(y);
    for (int i = 0; got == QT_OK && i < e->model->n; i++)
        if (e->model->m[i].layer->quantizes && e->model->m[i].p[0]->codes && !e->model->m[i].integer)
            got = damaged(l, e->model->m[i].path, "does not compute in integers");
    return got;
}

static qt_err load_from(loader *l)
{
    const char *recipe;
    QT_TRY(read_header(l, &recipe));
    QT_TRY(build(l, recipe));
    QT_TRY(check_layers(l));
    QT_TRY(check_params(l));
    QT_TRY(qt_store_seal_values(l->e->store));
    QT_TRY(read_values(l));
    return try_out(l);
}

static qt_err load(loader *l)
{
    struct stat st;
    QT_TRY(qt_h5_vet(l->file));
    QT_TRY(qt_h5_open(l->file, &l->f));
    l->room = stat(l->file, &st) ? 0 : (int64_t)st.st_size;
    if (!(l->e = qt_alloc(sizeof *l->e))) return qt_h5_close(l->f), QT_EMEM;
    qt_err e = load_from(l), closed = qt_h5_close(l->f);
    return e != QT_OK ? e : closed;
}

/* A wrong checksum is the whole message, unless what was changed can be told by name. */
static qt_err diagnose(const char *file)
{
    loader l = {.file = file};
    char  *why = qt_error_take();
    load(&l);
    qt_engine_free(l.e);
    if (l.refused) return qt_free(why), QT_EDATA;
    qt_error_clear();
    qt_error_give(why);
    return QT_EDATA;
}

qt_err qt_engine_load(const char *file, qt_engine **out)
{
    loader l = {.file = file};
    bool   clean = !qt_error_count();
    qt_err e = qt_seal_verify(&qt_engine_seal, file);
    *out = NULL;
    if (e != QT_OK) return e == QT_EDATA && clean ? diagnose(file) : e;
    e = load(&l);
    if (e != QT_OK) return qt_engine_free(l.e), e;
    *out = l.e;
    return QT_OK;
}
