/* The model: modules in order, each with its shapes, parameters and quantizer sites. Building has three passes, so that one look at a
 * recipe finds all its errors: the list of modules (build.c), shapes and parameters (here; what depends on a layer that failed is
 * passed over in silence), quantizer sites (rules.c). */
#include "autograd/codec.h"
#include "nn/build.h"
#include <stdarg.h>
#include <string.h>

/* ---- for layers ------------------------------------------------------------------------------------------------------------ */

const char *qt_shape_text(const qt_shape *s, char buf[static 96])
{
    size_t used = 0;
    for (int i = 0; i < s->rank && used < 80; i++) used += (size_t)snprintf(buf + used, 96 - used, "%s%lld", i ? ", " : "[", (long long)s->dim[i]);
    snprintf(buf + used, 96 - used, "%s", s->rank ? "]" : "[]");
    return buf;
}

bool qt_shape_same(const qt_shape *a, const qt_shape *b) { return a->rank == b->rank && !memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim); }

qt_err qt_module_fail(const qt_module *m, const char *fmt, ...)
{
    char    text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return qt_fail_at(QT_ESHAPE, m->pos, "%s: %s", m->path, text);
}

qt_err qt_module_misfit(const qt_module *m, int k, const char *what, const char *hint)
{
    char shape[96];
    return qt_module_fail(m, "expects %s, but %s %s %s%s%s%s", what, m->in_name[k] ? m->in_name[k] : "the input", m->in_name[k] ? "gives" : "is",
                          qt_shape_text(&m->in_shape[k], shape), hint ? " (" : "", hint ? hint : "", hint ? ")" : "");
}

qt_err qt_module_param(qt_module *m, qt_store *s, int k, const char *name, qt_param_kind kind, qt_init init, int rank, const int64_t *dim)
{
    char path[256];
    snprintf(path, sizeof path, "%s.%s", m->path, name);
    m->p[k] = qt_param_add(s, path, kind, init, rank, dim);
    return m->p[k] ? QT_OK : QT_EMEM;
}

qt_tensor *qt_module_act(qt_tape *t, qt_module *m, qt_tensor *x) { return m->act ? qt_quantize(t, m->act, x) : x; }
/* A weight that holds integers already, as the deployment engine's do, is what its quantizer would give. */
qt_tensor *qt_module_weight(qt_tape *t, qt_module *m) { return m->weight && !m->p[0]->codes ? qt_quantize(t, m->weight, m->p[0]) : m->p[0]; }
qt_tensor *qt_module_bias(qt_tape *t, qt_module *m) { return m->bias && m->p[1] ? qt_quantize(t, m->bias, m->p[1]) : m->p[1]; }

/* What follows the module, done to its sums. */
static qt_iend end_of(qt_tape *t, qt_module *m)
{
    qt_iend end = {0};
    R      *mul = NULL, *add = NULL;
    if (m->then[0]) {
        qt_tape_fail(t, m->then[0]->layer->affine(t, m->then[0], &mul, &add));
        m->then[0]->folded = true, end.mul = mul, end.add = add;
    }
    if (m->then[1]) m->then[1]->folded = end.relu = true;
    return end;
}

qt_extra qt_module_extra(qt_tape *t, qt_module *m, qt_gradq *grad)
{
    qt_extra extra = {0};
    if (m->integer && !t->train && !t->grad) extra.end = end_of(t, m);
    if (m->gradq && m->gradq->enabled && t->grad && !t->err) {
        if (!m->integer && !t->simulate)
            qt_tape_fail(t, qt_site_fail(m->gradq, "wants a layer that computes in integers; the quantizers of its weight and input do not give "
                                                   "integers that go together (`qtape show --cost` says which layers do; `engine: float` simulates)"));
        if (m->trial) grad->how = *m->trial;
        else m->gradq->quant->gradient(m->gradq, &grad->how);
        grad->stream = qt_hash(m->gradq->path);
        extra.grad = grad;
    }
    return extra;
}

/* ---- building -------------------------------------------------------------------------------------------------------------- */

static qt_err shape_module(qt_model *m, int i)
{
    qt_module *mod = &m->m[i];
    if (!mod->layer) return QT_OK;
    for (int k = 0; k < mod->n_in; k++) {
        mod->in_shape[k] = mod->in[k] < 0 ? m->in : m->m[mod->in[k]].out_shape;
        if (!mod->in_shape[k].rank) return QT_OK; /* not known: its own error has been reported */
    }
    if (mod->layer->max_rank && mod->in_shape[0].rank > mod->layer->max_rank)
        return qt_module_misfit(mod, 0, mod->layer->max_rank == 1 ? "[features]" : "[features] or [tokens, features]", "put a `flatten` between?");
    qt_err e = mod->layer->build(mod, m->store);
    if (e != QT_OK) mod->out_shape.rank = 0;
    return e;
}

/* The module whose `out` decides the last layer's outputs: the last one itself, or one before it that only activations follow. */
static int deciding(const qt_model *m, const qt_yaml *const *from)
{
    int i = m->n - 1;
    while (!qt_yaml_get(from[i], "out") && m->m[i].in[0] >= 0 && m->out.rank && qt_shape_same(&m->m[i].in_shape[0], &m->out)) i = m->m[i].in[0];
    return qt_yaml_get(from[i], "out") ? i : m->n - 1;
}

/* Ids in: a row of outputs for each of them, one for each id that may come next; a vocabulary may be larger than the data need. */
static qt_err check_tokens(const qt_model *m, const qt_module *last, const qt_yaml *out)
{
    char     shape[96], got[96];
    qt_shape want = {2, {m->in.dim[0], m->in.ids}};
    if (!m->out.rank || (m->out.rank == 2 && m->out.dim[0] == want.dim[0] && m->out.dim[1] >= m->in.ids)) return QT_OK;
    return qt_fail_at(QT_ERECIPE, out ? out->pos : last->pos, "%s: the last layer gives %s, but %lld tokens of %lld kinds take %s", last->path,
                      qt_shape_text(&m->out, got), (long long)want.dim[0], (long long)want.dim[1], qt_shape_text(&want, shape));
}

/* What reads the model's input must be made for ids where the data are ids, and for numbers where they are not. */
static qt_err check_input(const qt_model *m)
{
    for (int i = 0; i < m->n; i++) {
        const qt_module *l = &m->m[i];
        for (int k = 0; k < l->n_in; k++)
            if (l->layer && l->in[k] < 0 && m->in.rank && l->layer->reads_ids != (m->in.ids > 0))
                return qt_fail_at(QT_ERECIPE, l->pos, "%s: %s reads %s, but the data are %s", l->path, l->layer->d.name,
                                  m->in.ids ? "numbers" : "ids", m->in.ids ? "ids (begin with an `embedding`)" : "numbers");
    }
    return QT_OK;
}

/* The last layer's outputs against the data's classes. Where an earlier error hides the shape, a last linear layer says it alone. */
static qt_err check_classes(const qt_model *m, const qt_yaml *const *from, int64_t classes)
{
    const qt_module *last = &m->m[deciding(m, from)];
    const qt_yaml   *out = qt_yaml_get(from[last - m->m], "out");
    int64_t          n = m->out.rank == 1 ? m->out.dim[0] : 0;
    char             shape[96];
    if (classes <= 0) return QT_OK;
    if (m->in.ids) return check_tokens(m, last, out);
    if (m->out.rank > 1)
        return qt_fail_at(QT_ERECIPE, last->pos,
                          "%s: the last layer gives %s, but %lld classes take [%lld] (put a `flatten` and a `linear` at the end?)", last->path,
                          qt_shape_text(&m->out, shape), (long long)classes, (long long)classes);
    if (!n && !(last->layer == &qt_layer_linear && out && qt_yaml_int(out, &n))) return QT_OK;
    if (n == classes) return QT_OK;
    return qt_fail_at(QT_ERECIPE, out ? out->pos : last->pos, "%s: the last layer gives %lld outputs, but the data have %lld classes", last->path,
                      (long long)n, (long long)classes);
}

/* The only module that reads module i as it is, if it has no other input or, with joins, if module i is the first of its two. */
static qt_module *only_reader(const qt_model *m, int i, bool joins)
{
    qt_module *reader = NULL;
    if (m->m[i].out) return NULL;
    for (int k = 0; k < m->n; k++)
        for (int j = 0; j < m->m[k].n_in; j++) {
            if (m->m[k].in[j] != i) continue;
            if (reader) return NULL;
            reader = &m->m[k];
        }
    return reader && reader->layer && (reader->n_in == 1 || (joins && reader->in[0] == i)) ? reader : NULL;
}

/* What follows module i and can be done to its sums: an affine map of the channels, then a relu; either may be missing. What is quantized between
 * them is not passed over. */
static void plan_ends(qt_model *m, int i)
{
    qt_module *mod = &m->m[i], *next = only_reader(m, i, false);
    if (next && next->layer->affine && !next->scale) mod->then[0] = next, next = only_reader(m, (int)(next - m->m), false);
    if (next && next->layer->rectifies) mod->then[1] = next;
}

/* What follows a batch norm and is done in its passes: a residual add whose other operand is there by then, and a relu. */
static void plan_norm(qt_model *m, int i)
{
    qt_module *mod = &m->m[i], *next = mod->scale ? NULL : only_reader(m, i, true);
    if (next && next->layer == &qt_layer_add && next->in[1] < i) mod->join = next, next = only_reader(m, (int)(next - m->m), false);
    if (next && next->layer->rectifies) mod->relu = next;
}

static void plan(qt_model *m)
{
    for (int i = 0; i < m->n; i++)
        if (m->m[i].layer && m->m[i].layer->quantizes) plan_ends(m, i);
        else if (m->m[i].layer && m->m[i].layer->absorbs) plan_norm(m, i);
}

/* The last reader of each result, and of the input. Later modules count whose work is done earlier. */
static void plan_readers(qt_model *m)
{
    for (int i = 0; i < m->n; i++) m->last[i] = i;
    for (int i = 0; i < m->n; i++)
        for (int k = 0; k < m->m[i].n_in; k++) *(m->m[i].in[k] < 0 ? &m->last_x : &m->last[m->m[i].in[k]]) = i;
    if (m->n) m->last[m->n - 1] = -1;
}

static qt_err build_model(qt_build *b, const qt_yaml *quant, int64_t classes, qt_model *m)
{
    qt_err e = QT_OK;
    m->n = b->n;
    m->m = qt_arena_zalloc(b->arena, (size_t)b->n * sizeof *m->m);
    m->value = qt_arena_zalloc(b->arena, (size_t)b->n * sizeof *m->value);
    m->last = qt_arena_zalloc(b->arena, (size_t)b->n * sizeof *m->last);
    if (!m->m || !m->value || !m->last) return QT_EMEM;
    if (b->n) memcpy(m->m, b->m, (size_t)b->n * sizeof *m->m);
    plan_readers(m);
    for (int i = 0; i < m->n; i++) e = qt_first(e, shape_module(m, i));
    if (m->n) {
        m->out = m->m[m->n - 1].out_shape;
        e = qt_first(e, check_input(m));
        e = qt_first(e, check_classes(m, b->from, classes));
    }
    e = qt_first(e, qt_rules_apply(b->arena, quant, m, m->n && !b->partial));
    plan(m);
    return e == QT_OK ? qt_precisions_check(m) : e;
}

qt_err qt_model_build(qt_arena *a, qt_store *s, const qt_yaml *model, const qt_yaml *quant, qt_shape in, int64_t classes, qt_model **out)
{
    qt_build       b = {.arena = a};
    qt_model      *m = qt_arena_zalloc(a, sizeof *m);
    const qt_yaml *list;
    qt_err         e, more;
    if (!m) return QT_EMEM;
    QT_CHECK(model, QT_ERECIPE, "model: missing; it is a list of layers, as in [flatten, {use: linear, out: 10}]");
    m->store = s, m->in = in;
    QT_TRY(qt_model_layers(a, model, &in, classes, &list));
    e = qt_build_expand(&b, list);
    more = build_model(&b, quant, classes, m); /* after errors too: it finds those of what is left */
    qt_build_clear(&b);
    *out = m;
    return qt_first(e, more);
}

/* ---- running --------------------------------------------------------------------------------------------------------------- */

static qt_tensor *value(const qt_model *m, int i, qt_tensor *x) { return i < 0 ? x : m->value[i]; }

/* Does a module after k read y, or is it the model's result? Several modules may give the same tensor. */
static bool awaited(const qt_model *m, const qt_tensor *y, int k)
{
    bool late = m->x == y && m->last_x > k;
    for (int i = 0; i <= k; i++) late |= m->value[i] == y && (m->last[i] < 0 || m->last[i] > k);
    return late;
}

/* After module k, whose nodes begin at `from`: what nobody awaits is done. */
static void let_go(qt_tape *t, const qt_model *m, int k, int from)
{
    for (int j = from; j < t->n; j++)
        if (!awaited(m, t->node[j].out, k)) qt_tape_done(t, t->node[j].out);
    for (int i = 0; i < k; i++)
        if (m->last[i] == k && !awaited(m, m->value[i], k)) qt_tape_done(t, m->value[i]);
    if (m->last_x == k) qt_tape_done(t, m->x);
}

qt_tensor *qt_model_forward(qt_tape *t, qt_model *m, qt_tensor *x)
{
    const char *path = t->path;
    m->x = x;
    for (int i = 0; i < m->n; i++) {
        m->m[i].folded = false;
        if (m->m[i].saver) m->m[i].saver->used = 0;
    }
    for (int i = 0; i < m->n; i++) {
        qt_module *mod = &m->m[i];
        qt_tensor *in[QT_MODULE_IN] = {NULL};
        for (int k = 0; k < mod->n_in; k++) in[k] = value(m, mod->in[k], x);
        if (mod->join) in[1] = value(m, mod->join->in[1], x);
        if (mod->join && !mod->folded) mod->join->folded = true;
        if (mod->relu && !mod->folded) mod->relu->folded = true;
        int from = t->n;
        t->path = mod->path, t->saver = mod->saver;
        m->value[i] = mod->folded ? in[0] : mod->layer->forward(t, mod, in);
        if (mod->out) m->value[i] = qt_quantize(t, mod->out, m->value[i]);
        if (t->thrifty) let_go(t, m, i, from);
    }
    t->path = path, t->saver = NULL;
    return m->value[m->n - 1];
}

qt_tensor *qt_model_penalty(qt_tape *t, qt_model *m, qt_tensor *loss)
{
    const char *path = t->path;
    for (int i = 0; i < m->n; i++) {
        qt_site *site[] = {m->m[i].weight, m->m[i].act, m->m[i].bias, m->m[i].out, m->m[i].scale, m->m[i].shift};
        t->path = m->m[i].path;
        for (size_t k = 0; k < sizeof site / sizeof *site; k++)
            if (site[k] && (k || !m->m[i].frozen) && site[k]->enabled && site[k]->quant->penalty) loss = qt_add(t, loss, site[k]->quant->penalty(t, site[k]));
    }
    t->path = path;
    return qt_regularize(t, m, loss);
}

/* ---- size ------------------------------------------------------------------------------------------------------------------ */

/* Stored bits of a layer's weight. */
static qt_err weight_bits(const qt_module *m, qt_arena *a, double *bits)
{
    qt_codes c = {0};
    *bits = 32.0 * (double)m->p[0]->n;
    if (m->frozen) return *bits = m->frozen->bits, QT_OK;
    if (!m->weight || !m->weight->enabled) return QT_OK;
    QT_TRY(m->weight->quant->encode(m->weight, m->p[0], a, &c));
    *bits = qt_codes_bits(&c);
    return QT_OK;
}

bool qt_module_owns_weight(const qt_module *m)
{
    size_t n = strlen(m->path);
    return m->p[0] && !strncmp(m->p[0]->name, m->path, n) && m->p[0]->name[n] == '.';
}

/* Numbers that a module keeps as floats beside its weight: biases, norms with their statistics, steps of its input's quantizer, adapters. */
static int64_t float_numbers(const qt_module *m, const qt_store *s)
{
    int64_t n = m->lora && !m->lora->merged ? m->lora->a->n + m->lora->b->n : 0;
    for (int k = m->layer->quantizes; k < QT_MODULE_PARAMS; k++) n += m->p[k] ? m->p[k]->n : 0;
    for (int k = 0; m->act && k < QT_SITE_PARAMS; k++)
        if (m->act->p[k] && qt_store_param_of(s, m->act->p[k])->kind != QT_BUFFER) n += m->act->p[k]->n;
    return n;
}

qt_err qt_model_bits(qt_model *m, double *bits_per_weight, double *bytes_total)
{
    double   bits = 0, floats = 0, weights = 0, one;
    qt_arena a = {0};
    qt_err   e = QT_OK;
    for (int i = 0; i < m->n && e == QT_OK; i++) {
        const qt_module *mod = &m->m[i];
        floats += (double)float_numbers(mod, m->store);
        if (!mod->layer->quantizes || !qt_module_owns_weight(mod)) continue;
        e = weight_bits(mod, &a, &one);
        bits += one, weights += (double)mod->p[0]->n;
        qt_arena_reset(&a);
    }
    qt_arena_free(&a);
    *bits_per_weight = weights > 0 ? bits / weights : 0;
    *bytes_total = bits / 8 + 4 * floats;
    return e;
}
