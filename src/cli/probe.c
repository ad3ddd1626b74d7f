/* qtape probe: runs one quantizer, layer or loss forward and backward on tensors from an HDF5 file, so that any program can look at it, or on a
 * few numbers of the command line, for whoever wants to see them. */
#include "base/h5.h"
#include "cli/command.h"
#include "nn/nn.h"
#include <string.h>
#include <unistd.h>

static const qt_option options[] = {
    {"in", 0, "A.h5", "file with x and whatever parameters are given"},
    {"out", 0, "B.h5", "file to write; made only if all went well. With tensors in key=[...] it can be left out: they are printed"},
    QT_OPTION_THREADS,
    {0}};

/* Options of the probe itself; all others are those of what is probed. */
typedef struct cfg {
    int64_t seed, at_bits;
    int     role, mode;
} cfg;
enum { TRAIN, EVAL };
static const char *const PATH = "x"; /* of the site or module, in front of its parameters' names */

static const qt_field fields[] = {
    QT_F_INT(cfg, seed, "0", 0, 1e18, "of what draws random numbers"),
    QT_F_INT(cfg, at_bits, "0", 0, 32, "quant: of several precisions, the one to be switched to; 0: the highest"),
    QT_F_ENUM(cfg, role, "act", "weight|act|grad", "quant: what x is"),
    QT_F_ENUM(cfg, mode, "train", "train|eval", "layer: training or evaluation"),
    {0}};

typedef struct probe {
    qt_arena    arena;
    cfg         c;
    qt_yaml    *spec; /* {use: NAME, key: value} */
    qt_yaml    *given; /* {x: [1, 2]}: tensors of the command line, instead of a file */
    const char *what, *in_file;
    qt_h5      *in;
    qt_store   *store;
    qt_tape    *tape;
    qt_site    *site; /* quant only */
    qt_tensor  *x, *y;
    bool        batch_added; /* x was one vector, and is given to a layer as a batch of one */
} probe;

/* ---- the command line -------------------------------------------------------------------------------------------------------------- */

static bool has_field(const qt_desc *d, const char *name)
{
    for (const qt_field *f = d->fields; f && f->name; f++)
        if (!strcmp(f->name, name)) return true;
    return false;
}

/* Of the probe itself. */
static bool is_mine(const probe *p, const char *key)
{
    bool quant = !strcmp(p->what, "quant");
    return !strcmp(key, "seed") || (quant && (!strcmp(key, "role") || !strcmp(key, "at_bits"))) || (!strcmp(key, "mode") && !strcmp(p->what, "layer"));
}

/* "num_bits=4" into the map that it belongs to. Lists are in brackets, and tensors if no option has their name; everything else is one word. */
static qt_err add_option(probe *p, const qt_desc *d, qt_yaml *own, const char *word)
{
    const char *eq = strchr(word, '=');
    qt_yaml    *value;
    QT_CHECK(eq && eq > word, QT_EUSAGE, "probe: expected key=value, found '%s'", word);
    char *key = qt_arena_sprintf(&p->arena, "%.*s", (int)(eq - word), word);
    if (!key) return QT_EMEM;
    QT_CHECK(!qt_yaml_get(p->spec, key) && !qt_yaml_get(own, key) && !qt_yaml_get(p->given, key), QT_EUSAGE, "probe: '%s' is given twice", key);
    if (eq[1] == '[') QT_TRY(qt_yaml_parse(&p->arena, eq + 1, strlen(eq + 1), word, &value));
    else if (!(value = qt_yaml_scalar(&p->arena, eq + 1, (qt_pos){0}))) return QT_EMEM;
    bool tensor = eq[1] == '[' && !has_field(d, key) && !p->in_file;
    return qt_yaml_put(&p->arena, is_mine(p, key) ? own : tensor ? p->given : p->spec, key, value);
}

/* The gradient of a step is shown as it is, unless a factor is asked for. */
static qt_err read_options(probe *p, const qt_desc *d, int n, const char *const *word)
{
    qt_yaml *own = qt_yaml_map(&p->arena, (qt_pos){0}), *name = qt_yaml_scalar(&p->arena, d->name, (qt_pos){0});
    p->spec = qt_yaml_map(&p->arena, (qt_pos){0}), p->given = qt_yaml_map(&p->arena, (qt_pos){0});
    if (!own || !name || !p->spec || !p->given) return QT_EMEM;
    QT_TRY(qt_yaml_put(&p->arena, p->spec, "use", name));
    for (int i = 0; i < n; i++) QT_TRY(add_option(p, d, own, word[i]));
    if (has_field(d, "grad_scale") && !qt_yaml_get(p->spec, "grad_scale")) QT_TRY(add_option(p, d, own, "grad_scale=none"));
    return qt_fields_read(own, "probe", fields, NULL, &p->c);
}

/* ---- tensors, from the file or the command line -------------------------------------------------------------------------------------- */

static bool has(const probe *p, const char *name) { return p->in ? qt_h5_has(p->in, name) : qt_yaml_get(p->given, name) != NULL; }

static int64_t leaves(const qt_yaml *y)
{
    QT_ASSERT(y);
    int64_t n = y->kind != QT_YAML_LIST;
    for (int i = 0; i < y->n && y->kind == QT_YAML_LIST; i++) n += leaves(y->item[i]);
    return n;
}

/* Dimensions like those of the first element, of the first element of that, and so on; all lists must agree. */
static qt_err given_shape(const probe *p, const char *name, int *rank, int64_t *dim)
{
    const qt_yaml *y = qt_yaml_get(p->given, name), *e = y;
    double         n = 1;
    QT_CHECK(y, QT_EUSAGE, "probe: tensor '%s' is missing; it is given as \"%s=[1, 2]\", or with all others in --in A.h5", name, name);
    for (*rank = 0; *rank < 8 && e && e->kind == QT_YAML_LIST; e = e->n ? e->item[0] : NULL) n *= (double)(dim[(*rank)++] = e->n);
    QT_CHECK(n == (double)leaves(y), QT_EUSAGE, "probe: the lists in '%s' are not of the same length", name);
    return QT_OK;
}

static qt_err flatten(const probe *p, const char *name, const qt_yaml *y, R **to)
{
    double v;
    if (y->kind == QT_YAML_LIST) {
        for (int i = 0; i < y->n; i++) QT_TRY(flatten(p, name, y->item[i], to));
        return QT_OK;
    }
    QT_CHECK(qt_yaml_real(y, &v), QT_EUSAGE, "probe: expected numbers in '%s', found %s", name, qt_yaml_kind_name(y));
    *(*to)++ = (R)v;
    return QT_OK;
}

static qt_err read_numbers(const probe *p, const char *name, int64_t n, R *to)
{
    return p->in ? qt_h5_read(p->in, name, n, to) : flatten(p, name, qt_yaml_get(p->given, name), &to);
}

/* Shape of a data set as a tensor without data; a scalar is [1]. */
static qt_err shape_of(probe *p, const char *name, qt_tensor *x)
{
    int     rank;
    int64_t dim[8];
    QT_TRY(p->in ? qt_h5_shape(p->in, name, &rank, dim) : given_shape(p, name, &rank, dim));
    QT_CHECK(rank <= QT_MAX_DIM, QT_EDATA, "%s: data set '%s' has %d dimensions, at most %d are possible", p->in_file, name, rank, QT_MAX_DIM);
    *x = (qt_tensor){.rank = (int8_t)(rank ? rank : 1), .dim = {1}, .n = 1};
    for (int i = 0; i < rank; i++) x->n *= x->dim[i] = dim[i];
    QT_CHECK(x->n > 0, QT_EDATA, "%s: data set '%s' is empty", p->in_file, name);
    return QT_OK;
}

/* Reads a data set that must have as many numbers as `like`. */
static qt_err read_like(probe *p, const char *name, const qt_tensor *like, R *to)
{
    qt_tensor s;
    char      found[96], wanted[96];
    QT_TRY(shape_of(p, name, &s));
    QT_CHECK(s.n == like->n, QT_EDATA, "%s: data set '%s' is %s, expected %s", p->in_file, name, qt_shape_str(&s, found), qt_shape_str(like, wanted));
    return read_numbers(p, name, like->n, to);
}

/* Whole numbers that are stored as floating point. */
static qt_err read_ids(probe *p, const char *name, qt_tensor *ids)
{
    R *x = qt_arena_alloc(&p->arena, (size_t)ids->n * sizeof *x);
    if (!x) return QT_EMEM;
    QT_TRY(read_like(p, name, ids, x));
    for (int64_t i = 0; i < ids->n; i++) {
        QT_CHECK(x[i] >= (R)-1e9 && x[i] <= (R)1e9 && x[i] == (R)(int32_t)x[i], QT_EDATA,
                 "%s: data set '%s': element %lld is %g, no class id or index", p->in_file, name, (long long)i, (double)x[i]);
        ids->ids[i] = (int32_t)x[i];
    }
    return QT_OK;
}

static qt_err read_x(probe *p, bool ids)
{
    qt_tensor s;
    QT_TRY(shape_of(p, "x", &s));
    if (p->batch_added) s = (qt_tensor){.rank = 2, .dim = {1, s.n}, .n = s.n};
    p->x = ids ? qt_input_ids(p->tape, s.rank, s.dim) : qt_variable(p->tape, s.rank, s.dim);
    QT_TRY(qt_tape_error(p->tape));
    return ids ? read_ids(p, "x", p->x) : read_numbers(p, "x", p->x->n, p->x->data);
}

static const char *short_name(const qt_param *a) { return a->t.name + strlen(PATH) + 1; }

/* Gives all parameters that the file holds; n is their number. */
static qt_err read_params(probe *p, int *n)
{
    *n = 0;
    for (int i = 0; i < p->store->n; i++) {
        qt_param *a = p->store->p[i];
        if (!has(p, short_name(a))) continue;
        QT_TRY(read_like(p, short_name(a), &a->t, a->t.data));
        ++*n;
    }
    return QT_OK;
}

/* ---- what is probed: each makes y from x ------------------------------------------------------------------------------------------------ */

static qt_err run_quant(probe *p, const qt_desc *d)
{
    static const qt_role role[] = {QT_ROLE_WEIGHT, QT_ROLE_ACT, QT_ROLE_GRAD};
    qt_param   *flag;
    qt_tensor   s;
    int         given;
    void       *ignored;
    const char *first;
    QT_TRY(shape_of(p, "x", &s));
    QT_TRY(qt_desc_read(&p->arena, &qt_quants, p->spec, "", "seed|role|at_bits", &d, &ignored));
    QT_TRY(qt_site_make(p->store, PATH, role[p->c.role], 0, 1, s.rank, s.dim, p->spec, "", &p->site));
    if (p->c.at_bits)
        QT_CHECK(qt_site_switch(p->site, (qt_precision){.bits = (int)p->c.at_bits}), QT_EUSAGE, "probe: %s cannot be switched to %lld bits", d->name,
                 (long long)p->c.at_bits);
    QT_TRY(qt_store_seal(p->store, 0));
    QT_TRY(read_params(p, &given));
    QT_TRY(read_x(p, false));
    if (given) {
        first = short_name(p->store->p[0]);
        QT_CHECK(has(p, first), QT_EDATA, "%s: it gives other parameters of %s, but no '%s'", p->in_file, d->name, first);
        if ((flag = qt_store_param(p->store, "x.initialized")))
            for (int64_t i = 0; i < flag->t.n; i++) flag->t.data[i] = 1;
        p->site->observing = false;
    }
    p->y = qt_quantize(p->tape, p->site, p->x);
    return qt_tape_error(p->tape);
}

static qt_err run_layer(probe *p, const qt_desc *d)
{
    const qt_layer *l = (const qt_layer *)d;
    qt_module       m = {.layer = l, .path = PATH, .n_in = 1};
    qt_tensor       s, w, b, *weight = NULL, *bias = NULL;
    int             given;
    QT_CHECK(!l->joins, QT_EUSAGE, "probe: '%s' takes two inputs, a probe has one", d->name);
    QT_TRY(shape_of(p, "x", &s));
    QT_TRY(qt_desc_read(&p->arena, &qt_layers, p->spec, "", "seed|mode", &d, &m.cfg));
    if (has(p, "weight") || l->quantizes) QT_TRY(shape_of(p, "weight", weight = &w));
    if (has(p, "bias")) QT_TRY(shape_of(p, "bias", bias = &b));
    if (l->sizes) l->sizes(m.cfg, weight ? weight : bias, bias);
    p->batch_added = s.rank == 1 && !l->reads_ids;
    m.in_shape[0].rank = p->batch_added ? 1 : s.rank - 1;
    memcpy(m.in_shape[0].dim, s.dim + !p->batch_added, (size_t)m.in_shape[0].rank * sizeof *s.dim);
    QT_TRY(l->build(&m, p->store));
    QT_TRY(qt_store_seal(p->store, 0));
    QT_TRY(read_params(p, &given));
    QT_TRY(read_x(p, l->reads_ids));
    p->y = l->forward(p->tape, &m, &p->x);
    return qt_tape_error(p->tape);
}

static qt_err run_loss(probe *p, const qt_desc *d)
{
    const qt_loss *l = (const qt_loss *)d;
    qt_tensor      s, *target;
    void          *c;
    QT_TRY(qt_desc_read(&p->arena, &qt_losses, p->spec, "", "seed", &d, &c));
    QT_TRY(qt_store_seal(p->store, 0));
    QT_TRY(read_x(p, false));
    QT_TRY(shape_of(p, "target", &s));
    target = l->classes ? qt_input_ids(p->tape, s.rank, s.dim) : qt_input(p->tape, s.rank, s.dim);
    QT_TRY(qt_tape_error(p->tape));
    QT_TRY(l->classes ? read_ids(p, "target", target) : read_like(p, "target", p->x, target->data));
    p->y = l->apply(p->tape, c, p->x, target);
    return qt_tape_error(p->tape);
}

static qt_err backward(probe *p)
{
    R *dy = qt_arena_alloc(&p->arena, (size_t)p->y->n * sizeof *dy);
    if (!dy) return QT_EMEM;
    for (int64_t i = 0; i < p->y->n; i++) dy[i] = 1;
    if (has(p, "grad_y")) QT_TRY(read_like(p, "grad_y", p->y, dy));
    return qt_wants_grad(p->y) ? qt_backward_from(p->tape, p->y, dy) : QT_OK;
}

/* ---- results ----------------------------------------------------------------------------------------------------------------------------- */

/* A line for each run of the last dimension. */
static void print(const char *name, int rank, const int64_t *dim, const R *x)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dim[i];
    for (int64_t i = 0; i < n; i++) {
        if (i % dim[rank - 1] == 0) printf("%s%-12s", i ? "\n" : "", i ? "" : name);
        printf(" %9.6g", (double)x[i] + 0); /* -0 as 0 */
    }
    putchar('\n');
}

/* Into a file, or onto the screen. */
static qt_err put(qt_h5 *out, const char *name, int rank, const int64_t *dim, const R *x)
{
    if (!out) print(name, rank, dim, x);
    return out ? qt_h5_write(out, name, rank, dim, x, true) : QT_OK;
}

/* Without the batch dimension that was put in front. */
static qt_err put_like(const probe *p, qt_h5 *out, const char *name, const qt_tensor *like, const R *x)
{
    int skip = p->batch_added && like->rank > 1 && like->dim[0] == 1;
    return put(out, name, like->rank - skip, like->dim + skip, x);
}

static qt_err put_codes(probe *p, qt_h5 *out)
{
    qt_codes c;
    R       *code = qt_arena_alloc(&p->arena, (size_t)p->x->n * sizeof *code);
    if (!code) return QT_EMEM;
    QT_TRY(p->site->quant->encode(p->site, p->x, &p->arena, &c));
    for (int64_t i = 0; i < c.n; i++) code[i] = (R)c.code[i];
    QT_TRY(put_like(p, out, "codes", p->x, code));
    QT_TRY(put(out, "scale", 1, &c.layout.count, c.scale));
    if (c.zero_point) QT_TRY(put(out, "zero_point", 1, &c.layout.count, c.zero_point));
    return c.offset ? put(out, "offset", 1, &c.layout.count, c.offset) : QT_OK;
}

static qt_err put_all(probe *p, qt_h5 *out)
{
    if (!out && p->x->data) QT_TRY(put_like(p, out, "x", p->x, p->x->data));
    QT_TRY(put_like(p, out, "y", p->y, p->y->data));
    if (p->x->grad) QT_TRY(put_like(p, out, "grad_x", p->x, p->x->grad));
    for (int i = 0; i < p->store->n; i++) {
        const qt_param *a = p->store->p[i];
        const char     *name = qt_arena_sprintf(&p->arena, "grad_%s", short_name(a));
        if (!name) return QT_EMEM;
        if (a->t.grad) QT_TRY(put(out, name, a->t.rank, a->t.dim, a->t.grad));
        else if (!p->site) QT_TRY(put(out, short_name(a), a->t.rank, a->t.dim, a->t.data)); /* running statistics */
    }
    return p->site && p->y != p->x ? put_codes(p, out) : QT_OK;
}

/* Under another name first: a failed probe leaves nothing. */
static qt_err write_file(probe *p, const char *file)
{
    qt_h5 *out;
    char  *temporary = qt_arena_sprintf(&p->arena, "%s.tmp-%ld", file, (long)getpid());
    if (!temporary) return QT_EMEM;
    QT_TRY(qt_h5_create(temporary, 0, &out));
    qt_err e = put_all(p, out), closed = qt_h5_close(out);
    if (e == QT_OK) e = closed;
    if (e == QT_OK && rename(temporary, file)) e = qt_fail(QT_EIO, "%s: cannot be written", file);
    if (e) unlink(temporary);
    return e;
}

/* ---- the command -------------------------------------------------------------------------------------------------------------------------- */

typedef struct probe_kind {
    const qt_kind *kind;
    qt_err       (*run)(probe *, const qt_desc *);
} probe_kind;
static const probe_kind kinds[] = {{&qt_quants, run_quant}, {&qt_layers, run_layer}, {&qt_losses, run_loss}};

static const probe_kind *find_kind(const char *word)
{
    const char *names[3];
    for (int i = 0; i < 3; i++) {
        names[i] = kinds[i].kind->one;
        if (!strcmp(names[i], word) || !strcmp(kinds[i].kind->name, word)) return &kinds[i];
    }
    const char *near = qt_near(word, 3, names);
    qt_fail(QT_EUSAGE, "probe: unknown kind '%s'%s%s%s; it can be quant, layer or loss", word,
            near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
    return NULL;
}

/* A tensor that nothing asks for is a mistake. */
static qt_err check_given(const probe *p)
{
    for (int i = 0; i < p->given->n; i++) {
        const char *name = p->given->key[i];
        bool        known = !strcmp(name, "x") || !strcmp(name, "grad_y") || !strcmp(name, "target");
        for (int k = 0; k < p->store->n && !known; k++) known = !strcmp(name, short_name(p->store->p[k]));
        QT_CHECK(known, QT_EUSAGE, "probe: '%s' is neither an option nor a tensor of '%s'", name, p->tape->path);
    }
    return QT_OK;
}

static qt_err run_all(probe *p, const probe_kind *k, const qt_args *a, const char *out)
{
    const qt_desc *d = qt_desc_find(k->kind, a->word[1], (qt_pos){0});
    if (!d) return QT_EUSAGE;
    p->what = k->kind->one;
    QT_TRY(read_options(p, d, a->n - 2, a->word + 2));
    if (p->in_file) {
        QT_TRY(qt_h5_vet(p->in_file));
        QT_TRY(qt_h5_open(p->in_file, &p->in));
    } else p->in_file = "probe";
    if (!(p->store = qt_store_new((uint64_t)p->c.seed)) || !(p->tape = qt_tape_new())) return QT_EMEM;
    p->tape->seed = (uint64_t)p->c.seed, p->tape->path = d->name;
    qt_tape_mode(p->tape, p->c.mode == TRAIN, true);
    QT_TRY(k->run(p, d));
    QT_TRY(check_given(p));
    QT_TRY(backward(p));
    return out ? write_file(p, out) : put_all(p, NULL);
}

static qt_err run(const qt_args *a)
{
    probe             p = {.in_file = qt_arg(&qt_command_probe, a, "in")};
    const char       *out = qt_arg(&qt_command_probe, a, "out");
    const probe_kind *k = find_kind(a->word[0]);
    if (!k) return QT_EUSAGE;
    bool typed = false;
    for (int i = 2; i < a->n; i++) typed |= strstr(a->word[i], "=[") != NULL;
    QT_CHECK((p.in_file && out) || (!p.in_file && typed), QT_EUSAGE, "probe: option '--%s' is missing", p.in_file ? "out" : "in");
    qt_err e = run_all(&p, k, a, out);
    if (p.in) qt_h5_close(p.in);
    qt_tape_free(p.tape);
    qt_store_free(p.store);
    qt_arena_free(&p.arena);
    return e;
}

const qt_command qt_command_probe = {
    {"probe", "run one quantizer, layer or loss on tensors from a file, forward and backward", NULL, fields, sizeof(cfg)},
    "KIND NAME [key=value ...] --in A.h5 --out B.h5\n       qtape probe KIND NAME [key=value ...] \"x=[1, 2]\" [\"NAME=[...]\" ...]",
    "KIND is quant, layer or loss; NAME and the keys are those of recipes (`qtape list quants lsq`). Further keys: seed=0; role=act, weight or "
    "grad, what a quantizer shall take x for; at_bits=4, of a quantizer with several precisions the one that is meant; mode=train or eval for a layer. Channels lie along axis=0 unless said otherwise, and the "
    "gradient of a learned step carries no factor unless grad_scale is given.\n\n"
    "A.h5 holds float32 data sets: x with one to five dimensions, parameters by their names (scale, offset, zero_point, alpha, weight, bias, "
    "running_mean, running_var), grad_y (ones where missing), for losses target. A quantizer whose scale is not given takes it from x as "
    "in the first step of training.\n\n"
    "B.h5 gets y, grad_x, grad_NAME for each learned parameter; for quantizers codes, scale, zero_point and offset where they exist; for "
    "batch_norm the running statistics after the step. One number has shape [1].\n\n"
    "Without a file, x and the other tensors are lists (of lists) on the command line, and the results are printed.\n\n"
    "  qtape probe quant lsq num_bits=3 \"x=[0.9, -0.4, 0.1]\" \"scale=[0.25]\"\n"
    "  qtape probe quant lsq num_bits=4 --in a.h5 --out b.h5\n"
    "  qtape probe layer conv2d stride=2 padding=1 --in a.h5 --out b.h5\n"
    "  qtape probe loss cross_entropy label_smoothing=0.1 --in a.h5 --out b.h5",
    options, 2, -1, run};
