/* The optimizer of a run: the `optim` section resolved over a store. Each parameter has a setting (learning rate, weight decay) from
 * the last group that matches its path, or the section's own. A step clips, then runs the optimizer over the store's blocks:
 * neighbours with the same setting make one range, cut in chunks that are stepped, averaged and have their gradients zeroed while
 * they are in the cache. The padding between two parameters is zero with zero gradients, and every optimizer leaves zeros alone. */
#include "base/match.h"
#include "base/par.h"
#include "optim/optim.h"
#include <string.h>

typedef struct setting {
    double lr, weight_decay;
} setting;

struct qt_optimizer {
    const qt_optim      *optim;
    const qt_optim_base *cfg;
    qt_store            *store;
    setting             *of; /* [n], of each parameter of the store */
    int                  n, n_slots;
    int64_t              count;
    bool                 no_decay;
    double               quant_rate; /* factor on the learning rate of quantizer parameters */
    qt_arena             own; /* of qt_optimizer_new */
};

/* ---- groups ---------------------------------------------------------------------------------------------------------------- */

typedef struct group {
    const qt_yaml *match;
    double         lr_mult, lr, weight_decay;
    bool           has_lr, has_decay;
} group;

static const qt_field group_fields[] = {
    QT_F_TREE(group, match, NULL, "pattern or list of patterns of parameter paths"),
    QT_F_REAL(group, lr_mult, "1", 0, 1e6, "factor of the learning rate"),
    QT_F_REAL(group, lr, "0", 0, 1e6, "learning rate instead of the section's"),
    QT_F_REAL(group, weight_decay, "0", 0, 1e6, "weight decay, for whatever kind of parameter matches"),
    {NULL},
};

static bool trained(const qt_param *p) { return p->kind != QT_BUFFER && !p->frozen; }

static qt_err read_group(const qt_yaml *y, int i, group *g)
{
    char path[48], where[64];
    snprintf(path, sizeof path, "optim.groups[%d]", i);
    snprintf(where, sizeof where, "%s.match", path);
    QT_TRY(qt_fields_read(y, path, group_fields, NULL, g));
    g->has_lr = qt_yaml_get(y, "lr") != NULL;
    g->has_decay = qt_yaml_get(y, "weight_decay") != NULL;
    return qt_match_check(g->match, where);
}

static qt_err apply_group(qt_optimizer *o, const group *g, int i)
{
    bool hit = false;
    for (int k = 0; k < o->n; k++) {
        const qt_param *p = o->store->p[k];
        if (p->kind == QT_BUFFER || !qt_match_any(g->match, p->t.name)) continue;
        hit = true;
        o->of[k].lr = (g->has_lr ? g->lr : o->cfg->lr) * g->lr_mult;
        o->of[k].weight_decay = g->has_decay ? g->weight_decay : p->kind == QT_WEIGHT ? o->cfg->weight_decay : 0;
    }
    if (hit) return QT_OK;
    return qt_fail_at(QT_ERECIPE, g->match->pos,
                      "optim.groups[%d].match: matches no parameter; a parameter's path is its layer's and its name, as in '%s'", i,
                      o->n ? o->store->p[0]->t.name : "fc1.weight");
}

static qt_err resolve(qt_optimizer *o)
{
    const qt_yaml *y = o->cfg->groups;
    qt_err         e = QT_OK;
    for (int k = 0; k < o->n; k++) o->of[k] = (setting){o->cfg->lr, o->store->p[k]->kind == QT_WEIGHT ? o->cfg->weight_decay : 0};
    if (!y) return QT_OK;
    if (y->kind != QT_YAML_LIST)
        return qt_fail_at(QT_ERECIPE, y->pos, "optim.groups: expected a list of {match, ...}, found %s", qt_yaml_kind_name(y));
    for (int i = 0; i < y->n; i++) {
        group g = {0};
        if (read_group(y->item[i], i, &g) != QT_OK || apply_group(o, &g, i) != QT_OK) e = QT_ERECIPE;
    }
    return e;
}

/* ---- making ---------------------------------------------------------------------------------------------------------------- */

qt_err qt_optimizer_make(qt_arena *a, qt_store *s, const qt_yaml *section, qt_optimizer **out)
{
    const qt_desc *d;
    void          *cfg;
    qt_optimizer  *o = qt_arena_zalloc(a, sizeof *o);
    if (!o || (!section && !(section = qt_yaml_scalar(a, "adam", (qt_pos){NULL})))) return QT_EMEM;
    QT_TRY(qt_desc_read(a, &qt_optims, section, "optim", NULL, &d, &cfg));
    o->optim = (const qt_optim *)d, o->cfg = cfg, o->store = s, o->n = s->n, o->quant_rate = 1;
    o->of = qt_arena_zalloc(a, (size_t)s->n * sizeof *o->of);
    if (!o->of) return QT_EMEM;
    if (o->optim->check) QT_TRY(o->optim->check(cfg, section));
    o->n_slots = o->optim->slots ? o->optim->slots(cfg) : o->optim->n_slots;
    *out = o;
    return resolve(o);
}

qt_optimizer *qt_optimizer_new(qt_store *s, const char *spec)
{
    qt_arena      a = {0};
    qt_optimizer *o = NULL;
    qt_yaml      *y;
    if (qt_yaml_parse(&a, spec, strlen(spec), "optim", &y) == QT_OK && qt_optimizer_make(&a, s, y, &o) == QT_OK) {
        if (s->sealed && s->n_slots >= qt_optimizer_slots(o)) {
            o->own = a;
            return o;
        }
        qt_fail(QT_EUSAGE, "optimizer %s needs a store sealed with %d slots; this one %s", o->optim->d.name, qt_optimizer_slots(o),
                s->sealed ? "has fewer" : "is not sealed");
    }
    qt_arena_free(&a);
    return NULL;
}

void qt_optimizer_free(qt_optimizer *o)
{
    qt_arena own;
    if (!o) return;
    own = o->own; /* o lies in it */
    qt_arena_free(&own);
}

int     qt_optimizer_slots(const qt_optimizer *o) { return o->n_slots + (o->cfg->ema > 0); }
double  qt_optimizer_lr(const qt_optimizer *o) { return o->cfg->lr; }
int64_t qt_optimizer_count(const qt_optimizer *o) { return o->count; }
void    qt_optimizer_set_count(qt_optimizer *o, int64_t n) { o->count = n; }
void    qt_optimizer_decays(qt_optimizer *o, bool on) { o->no_decay = !on; }
void    qt_optimizer_quant_rate(qt_optimizer *o, double factor) { o->quant_rate = factor; }
int     qt_optimizer_ema_slot(const qt_optimizer *o) { return o->cfg->ema > 0 ? o->n_slots : -1; }

/* ---- stepping -------------------------------------------------------------------------------------------------------------- */

QT_CLONES static void average(int64_t n, R *restrict mean, const R *restrict w, R rate)
{
    for (int64_t i = 0; i < n; i++) mean[i] += rate * (w[i] - mean[i]);
}

/* Elements [begin, end) of the store, all with one setting. The average begins as a copy. */
static void step_range(qt_optimizer *o, int64_t begin, int64_t end, setting c, double lr_factor)
{
    qt_store *s = o->store;
    R        *mean = o->cfg->ema > 0 ? s->slot[o->n_slots] : NULL, rate = o->count == 1 ? 1 : (R)(1 - o->cfg->ema);
    QT_FOR_CHUNKS(b, e, end - begin, QT_GRAIN)
    {
        int64_t at = begin + b, n = e - b;
        R      *slot[QT_MAX_SLOTS] = {NULL};
        for (int k = 0; k < o->n_slots; k++) slot[k] = s->slot[k] + at;
        o->optim->step(o->cfg, n, s->value + at, s->grad + at, slot, c.lr * lr_factor, o->no_decay ? 0 : c.weight_decay, o->count);
        if (mean) average(n, mean + at, s->value + at, rate);
        memset(s->grad + at, 0, (size_t)n * sizeof(R));
    }
}

static setting setting_of(const qt_optimizer *o, int i)
{
    setting c = o->of[i];
    if (o->store->p[i]->kind == QT_QUANT) c.lr *= o->quant_rate;
    return c;
}

/* Parameters i..j-1 lie side by side with the same setting; tables stand alone. */
static int range_end(const qt_optimizer *o, int i)
{
    qt_param *const *p = o->store->p;
    const setting    c = setting_of(o, i);
    int              j = i + 1;
    while (j < o->n && !p[i]->rows && !p[j]->rows && trained(p[j]) && p[j]->at - (p[j - 1]->at + p[j - 1]->t.n) < 16 && p[j]->at > p[j - 1]->at &&
           setting_of(o, j).lr == c.lr && setting_of(o, j).weight_decay == c.weight_decay)
        j++;
    return j;
}

/* A row that had no part in this step stays as it is, its moments too. */
static void step_table(qt_optimizer *o, qt_param *p, setting c, double lr_factor)
{
    int64_t n = p->t.n / p->rows;
    for (int k = 0; k < p->rows; k++) {
        const int64_t at = p->at + k * n;
        if (p->used >> k & 1) step_range(o, at, at + n, c, lr_factor);
        else if (o->cfg->ema > 0 && o->count == 1) memcpy(o->store->slot[o->n_slots] + at, o->store->value + at, (size_t)n * sizeof(R));
    }
    p->used = 0;
}

qt_err qt_optimizer_step(qt_optimizer *o, double lr_factor)
{
    qt_store *s = o->store;
    QT_ASSERT(s->sealed && s->n == o->n && s->n_slots >= qt_optimizer_slots(o));
    if (o->cfg->clip_grad_norm > 0) qt_store_clip_norm(s, o->cfg->clip_grad_norm);
    if (o->cfg->clip_grad_value > 0) qt_store_clip_value(s, o->cfg->clip_grad_value);
    o->count++;
    for (int i = 0, j; i < o->n; i = j) {
        qt_param *p = s->p[i];
        j = i + 1;
        if (trained(p) && p->rows) {
            step_table(o, p, setting_of(o, i), lr_factor);
        } else if (trained(p)) {
            j = range_end(o, i);
            step_range(o, p->at, s->p[j - 1]->at + s->p[j - 1]->t.n, setting_of(o, i), lr_factor);
        } else if (o->cfg->ema > 0 && !p->base) {
            memcpy(s->slot[o->n_slots] + p->at, s->value + p->at, (size_t)p->t.n * sizeof(R));
        }
    }
    return QT_OK;
}
