/* Recipes for people and for resolved.yaml, and what a model costs. */
#include "train/train.h"
#include <string.h>

/* The tree with its name and seed, without some keys. */
static qt_err trimmed(const qt_recipe *r, int n, const char *const *drop, qt_yaml **out)
{
    qt_arena *a = r->arena;
    char     *seed = qt_arena_sprintf(a, "%lld", (long long)r->seed);
    qt_yaml  *y = qt_yaml_copy(a, r->tree);
    qt_pos    none = {0};
    if (!y || !seed) return QT_EMEM;
    for (int i = 0; i < n; i++)
        if (qt_yaml_get(y, drop[i])) QT_TRY(qt_yaml_remove(a, y, drop[i], none));
    if (!qt_yaml_get(y, "name")) QT_TRY(qt_yaml_put(a, y, "name", qt_yaml_scalar(a, r->name, none)));
    QT_TRY(qt_yaml_put(a, y, "seed", qt_yaml_scalar(a, seed, none)));
    *out = y;
    return QT_OK;
}

qt_err qt_recipe_print(FILE *f, const qt_recipe *r, const qt_yaml *data)
{
    static const char *const drop[] = {"vars", "arms", "sweep", "claims", "scores", "seeds", "tags", "doc", "paper"};
    qt_yaml                 *y;
    QT_TRY(trimmed(r, sizeof drop / sizeof *drop, drop, &y));
    QT_TRY(qt_yaml_put(r->arena, y, "data", qt_yaml_copy(r->arena, data)));
    qt_yaml_print(f, y);
    return QT_OK;
}

static int64_t parameters(const qt_module *m)
{
    int64_t n = 0;
    for (int i = 0; i < QT_MODULE_PARAMS; i++)
        if (m->p[i] && m->p[i]->flags & QT_NEEDS_GRAD) n += m->p[i]->n;
    return n;
}

static void bits(char buf[16], const qt_module *m, qt_site *q)
{
    if (q) snprintf(buf, 16, "%.3g", q->quant->bits(q));
    else snprintf(buf, 16, m->layer->quantizes ? "32" : "-");
}

static void print_cost(FILE *f, const qt_model *m)
{
    int64_t sum_p = 0, sum_macs = 0, sum_int = 0;
    fprintf(f, "# %-24s %-16s %-20s %12s %14s %7s %7s %7s\n", "layer", "kind", "output", "parameters", "multiply-adds", "w bits", "a bits",
            "engine");
    for (int i = 0; i < m->n; i++) {
        const qt_module *l = &m->m[i];
        char             shape[96], w[16], a[16];
        int64_t          p = parameters(l), macs = l->layer->macs ? l->layer->macs(l) : 0;
        bits(w, l, l->weight), bits(a, l, l->act);
        fprintf(f, "# %-24s %-16s %-20s %12lld %14lld %7s %7s %7s\n", l->path, l->layer->d.name, qt_shape_text(&l->out_shape, shape),
                (long long)p, (long long)macs, w, a, !l->layer->quantizes ? "-" : l->integer ? "int" : "float");
        sum_p += p, sum_macs += macs, sum_int += l->integer ? macs : 0;
    }
    fprintf(f, "# %-24s %-16s %-20s %12lld %14lld   %.0f %% of them in integers\n", "sum", "", "", (long long)sum_p, (long long)sum_macs,
            sum_macs ? 100 * (double)sum_int / (double)sum_macs : 0);
    const qt_cost c = qt_model_cost(m);
    if (c.macs > 0)
        fprintf(f, "# cost in multiply-adds of 16 bits: %.0f by the product of the widths (%.3g %% of the model at 16 bits), %.0f by the wider one (%.3g %%)\n",
                c.quadratic, 100 * c.quadratic / c.macs, c.linear, 100 * c.linear / c.macs);
}

/* ---- the products of a training step ------------------------------------------------------------------------------------------- */

enum { FORWARD, DX, DW, PRODUCTS };

/* An operand or result: its numbers, of a sample, with bits and bytes of each. */
typedef struct side {
    int64_t n;
    double  bits, bytes;
} side;

typedef struct product {
    bool there, integer;
    side a, b, y;
} product;

static int64_t numbers(const qt_shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++) n *= s->dim[i];
    return n;
}

static bool trains(const qt_tensor *p) { return p && p->flags & QT_NEEDS_GRAD; }
static bool site_trains(const qt_site *q)
{
    bool any = false;
    for (int i = 0; q && i < QT_SITE_PARAMS; i++) any |= trains(q->p[i]);
    return any;
}

/* Whether backward goes on to the input of module i: something before its product is trained. */
static bool passes_on(const qt_model *m, int i)
{
    bool any = site_trains(m->m[i].act);
    for (int k = 0; k < m->m[i].n_in && !any; k++) {
        int from = m->m[i].in[k];
        any = from >= 0 && (parameters(&m->m[from]) > 0 || site_trains(m->m[from].weight) || passes_on(m, from));
    }
    return any;
}

static double bits_of(const qt_site *q) { return q ? q->quant->bits(q) : 8; }

/* The products of a layer: y = x w^T, dx = dy w, dw = dy^T x. Codes are kept in bytes, shifted ones of a gradient in two if they are wide. */
static void products_of(const qt_model *m, int i, product p[PRODUCTS])
{
    const qt_module *l = &m->m[i];
    qt_shiftq        how = {0};
    if (l->gradq) l->gradq->quant->gradient(l->gradq, &how);
    const bool   in = l->integer, back = in && l->gradq && !how.exact;
    const double code = in ? 1 : 4, shifted = !back ? 4 : qt_shiftq_top(&how) <= INT8_MAX ? 1 : 2;
    side         x = {numbers(&l->in_shape[0]), bits_of(l->act), code}, w = {l->p[0]->n, bits_of(l->weight), code};
    side         y = {numbers(&l->out_shape), 0, 4}, g = {numbers(&l->out_shape), how.bits + how.groups - 1, shifted}, xf = {x.n, 0, 4}, wf = {w.n, 0, 4};
    p[FORWARD] = (product){true, in, x, w, y};
    p[DX] = (product){passes_on(m, i), back, g, back ? w : wf, xf};
    p[DW] = (product){trains(l->p[0]), back, g, back ? x : xf, wf};
}

static const char *width(const product *p, char buf[24])
{
    if (!p->there) return "-";
    if (!p->integer) return "float";
    return snprintf(buf, 24, "%.3g x %.3g", p->a.bits, p->b.bits), buf;
}

static void print_products(FILE *f, const qt_model *m)
{
    double sum = 0, integers = 0;
    fprintf(f, "#\n# The products of a training step: bits of the operands where they are integers (of a gradient with the shifts of its groups),\n"
               "# and bytes of operands and result for one sample\n");
    fprintf(f, "# %-24s %13s   %-11s %9s   %-11s %9s   %-11s %9s\n", "layer", "multiply-adds", "y = x w'", "bytes", "dx = dy w",
            "bytes", "dw = dy' x", "bytes");
    for (int i = 0; i < m->n; i++) {
        const qt_module *l = &m->m[i];
        product          p[PRODUCTS];
        if (!l->layer->quantizes || !l->layer->macs || !l->p[0]) continue;
        double macs = (double)l->layer->macs(l);
        products_of(m, i, p);
        fprintf(f, "# %-24s %13.0f", l->path, macs);
        for (int k = 0; k < PRODUCTS; k++) {
            char   buf[24];
            double bytes = (double)p[k].a.n * p[k].a.bytes + (double)p[k].b.n * p[k].b.bytes + (double)p[k].y.n * p[k].y.bytes;
            fprintf(f, "   %-11s %9.0f", width(&p[k], buf), p[k].there ? bytes : 0);
            sum += p[k].there ? macs : 0, integers += p[k].there && p[k].integer ? macs : 0;
        }
        fprintf(f, "\n");
    }
    fprintf(f, "# %-24s %13.0f   %.1f %% of them in integers\n", "sum of the products", sum, sum > 0 ? 100 * integers / sum : 0);
}

/* ---- what backward reads --------------------------------------------------------------------------------------------------------- */

/* Of the layer `path`, or of all where it is NULL. */
typedef struct saved_of {
    const char *path;
    qt_saved    s;
} saved_of;

static void add_saved(void *arg, const char *path, qt_saved s)
{
    saved_of *o = arg;
    if (!o->path || !strcmp(o->path, path)) o->s.bytes += s.bytes, o->s.floats += s.floats;
}

static void print_saved(FILE *f, const qt_model *m, qt_tape *t)
{
    fprintf(f, "#\n# What backward reads of a sample, bytes as they are kept and in floats; what several layers read counts for the first\n"
               "# %-24s %12s %12s\n", "layer", "kept", "floats");
    for (int i = 0; i <= m->n; i++) {
        saved_of o = {i < m->n ? m->m[i].path : NULL, {0}};
        qt_tape_saved_each(t, add_saved, &o);
        if (o.s.floats) fprintf(f, "# %-24s %12lld %12lld", o.path ? o.path : "sum", (long long)o.s.bytes, (long long)o.s.floats);
        if (o.s.floats) fprintf(f, o.path ? "\n" : "   %.1f %%\n", 100 * (double)o.s.bytes / (double)o.s.floats);
    }
}

/* One sample of zeros through the model: afterwards each module knows whether it computes in integers, and the tape what backward reads. */
static qt_err run_once(const qt_recipe *r, qt_store *s, qt_model *m, qt_tape *t)
{
    int64_t dim[QT_MAX_DIM] = {1};
    memcpy(dim + 1, m->in.dim, (size_t)m->in.rank * sizeof *dim);
    qt_tape_mode(t, true, true);
    qt_tape_simulate(t, r->engine_float);
    t->thrifty = m->thrifty;
    QT_TRY(qt_store_seal(s, 0));
    qt_model_forward(t, m, m->in.ids ? qt_input_ids(t, 2, dim) : qt_input(t, 1 + m->in.rank, dim));
    return qt_tape_error(t);
}

static qt_err print_costs(FILE *f, const qt_recipe *r, qt_store *s, qt_model *m)
{
    qt_tape *t = qt_tape_new();
    qt_err   e = t ? run_once(r, s, m, t) : QT_EMEM;
    if (e == QT_OK) print_cost(f, m), print_products(f, m), print_saved(f, m, t);
    if (t) qt_tape_free(t);
    return e;
}

static qt_err show_cost(FILE *f, qt_recipe *r)
{
    qt_data  *data;
    qt_model *m;
    QT_TRY(qt_data_read(r->arena, r->data, &data));
    const qt_data_info *info = qt_data_info_of(data);
    qt_shape            in = {.rank = info->rank, .ids = info->ids};
    if (!info->known) return fprintf(f, "# the shape of the data is known only when they are read\n"), QT_OK;
    memcpy(in.dim, info->dim, sizeof in.dim);
    qt_store *s = qt_store_new((uint64_t)r->seed);
    if (!s) return QT_EMEM;
    qt_err e = qt_model_build(r->arena, s, r->model, r->quant, in, info->classes, &m);
    if (e == QT_OK) e = qt_memory_build(r->arena, r->memory, m);
    if (e == QT_OK) e = print_costs(f, r, s, m);
    qt_store_free(s);
    return e;
}

qt_err qt_recipe_show(FILE *f, qt_recipe *r, bool cost)
{
    static const char *const drop[] = {"vars", "sweep"}; /* what they come to is there */
    qt_yaml                 *y;
    QT_TRY(trimmed(r, 2, drop, &y));
    qt_yaml_print(f, y);
    return cost ? show_cost(f, r) : QT_OK;
}
