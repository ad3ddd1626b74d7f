/* The `data` section of a recipe: which data set each split comes from, and which part of it. Splits that name the same set with the same
 * options share one opened set, so {train: "train[:90%]", val: "train[90%:]"} holds the data once.
 *
 * A split expression is NAME or NAME[from:to]; a bound is a number of samples or a percentage, negative from the end, and either may be
 * missing. A percentage is cut down to whole samples, so [:90%] and [90%:] neither overlap nor leave a gap. A bound outside the split is an
 * error, not clipped. */
#include "dataset.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const char *const split_name[QT_SPLITS] = {"train", "val", "test"};

/* A bound of a split expression. */
typedef struct bound {
    bool   set, percent;
    double v;
} bound;

typedef struct range {
    qt_split split;
    bound    from, to;
} range;

/* An opened data set. The lock lets the loaders of training and evaluation share it. */
typedef struct source {
    const qt_dataset *set;
    const qt_yaml    *options; /* what it was read from, NULL for none: equal options, same source */
    void             *cfg, *state;
    qt_data_info      info;
    pthread_mutex_t   lock;
} source;

/* One split of the section. */
typedef struct part {
    source     *source; /* NULL: the section has no such split */
    range       range;
    const char *text; /* of the split expression; NULL: the split of that name, if the set has it */
    qt_pos      pos;
    int64_t     begin, n;
} part;

typedef struct section_cfg {
    const qt_yaml *train, *val, *test;
    int64_t        batch_size;
} section_cfg;

struct qt_data {
    section_cfg cfg;
    source      source[QT_SPLITS];
    int         n_sources;
    part        part[QT_SPLITS];
    bool        open;
};

/* ---- split expressions ------------------------------------------------------------------------------------------------------------ */

/* A bound up to `end`: "", "1000", "-10%". */
static bool read_bound(const char *s, char end, const char **after, bound *b)
{
    char *stop;
    b->set = *s != end;
    *after = s;
    if (!b->set) return true;
    if (!strchr("-0123456789", *s)) return false;
    b->v       = strtod(s, &stop);
    b->percent = *stop == '%';
    *after     = stop + b->percent;
    return **after == end && (b->percent ? b->v >= -100 && b->v <= 100 : b->v == (double)(int64_t)b->v && b->v < 1e15 && b->v > -1e15);
}

static bool read_range(const char *s, range *r)
{
    const char *open = strchr(s, '['), *at;
    size_t      n    = open ? (size_t)(open - s) : strlen(s);
    int         k    = 0;
    *r = (range){0};
    while (k < QT_SPLITS && (strlen(split_name[k]) != n || memcmp(s, split_name[k], n))) k++;
    r->split = (qt_split)k;
    if (k == QT_SPLITS || !open) return k < QT_SPLITS;
    return read_bound(open + 1, ':', &at, &r->from) && read_bound(at + 1, ']', &at, &r->to) && !at[1];
}

/* Sample number of a bound in a split of n samples; may lie outside. */
static int64_t resolve(const bound *b, int64_t n, int64_t missing)
{
    double v = b->percent ? (double)n * b->v / 100 : b->v;
    if (!b->set) return missing;
    if (b->percent) v = v < 0 ? -(double)(int64_t)-v : (double)(int64_t)v;
    return (b->v < 0 ? n : 0) + (int64_t)v;
}

static qt_err read_split(part *p, const qt_yaml *y, const char *path)
{
    p->pos = y->pos;
    if (!qt_yaml_str(y, &p->text))
        return qt_fail_at(QT_ERECIPE, y->pos, "%s: expected a split expression such as train[:90%%], found %s", path, qt_yaml_kind_name(y));
    if (read_range(p->text, &p->range)) return QT_OK;
    return qt_fail_at(QT_ERECIPE, y->pos, "%s: expected train, val or test, or a range such as train[:90%%], train[1000:2000], found '%s'",
                      path, p->text);
}

/* ---- reading the section ---------------------------------------------------------------------------------------------------------- */

static bool same(const qt_yaml *a, const qt_yaml *b)
{
    if (!a || !b || a->kind != b->kind || a->n != b->n) return a == b;
    if (a->kind == QT_YAML_SCALAR && strcmp(a->text, b->text)) return false;
    for (int i = 0; i < a->n; i++)
        if (!same(a->item[i], a->kind == QT_YAML_MAP ? qt_yaml_get(b, a->key[i]) : b->item[i])) return false;
    return true;
}

/* The options of a set alone: a copy of the map without what belongs to the section. */
static qt_err options_of(qt_arena *a, const qt_yaml *y, const qt_yaml **out)
{
    static const char *const others[] = {"use", "split", "batch_size", "train", "val", "test"};
    qt_yaml                 *map      = qt_yaml_map(a, y->pos);
    if (!map) return QT_EMEM;
    for (int i = 0; y->kind == QT_YAML_MAP && i < y->n; i++) {
        size_t k = 0;
        while (k < sizeof others / sizeof *others && strcmp(others[k], y->key[i])) k++;
        if (k == sizeof others / sizeof *others) QT_TRY(qt_yaml_put(a, map, y->key[i], y->item[i]));
    }
    *out = map;
    return QT_OK;
}

/* The source that {use: NAME, ...} or a bare NAME stands for, an earlier one if it is the same. */
static qt_err read_source(qt_arena *a, qt_data *d, const qt_yaml *y, const char *path, const char *also, source **out)
{
    source        *s = &d->source[d->n_sources];
    const qt_desc *desc;
    QT_TRY(qt_desc_read(a, &qt_datasets, y, path, also, &desc, &s->cfg));
    s->set = (const qt_dataset *)desc;
    QT_TRY(options_of(a, y, &s->options));
    QT_TRY(s->set->info(s->cfg, &s->info));
    for (int i = 0; i < d->n_sources; i++)
        if (d->source[i].set == s->set && same(d->source[i].options, s->options)) return *out = &d->source[i], QT_OK;
    d->n_sources++;
    *out = s;
    return QT_OK;
}

/* {use: NAME, ...}: all splits from one set; train, val, test may be split expressions of it. */
static qt_err read_single(qt_arena *a, qt_data *d, const qt_yaml *y)
{
    source *s = NULL;
    qt_err  e = read_source(a, d, y, "data", "batch_size|train|val|test", &s);
    for (int k = 0; k < QT_SPLITS; k++) {
        const qt_yaml *expr     = qt_yaml_get(y, split_name[k]);
        char           path[16];
        d->part[k] = (part){.source = s, .range.split = (qt_split)k, .pos = y->pos};
        snprintf(path, sizeof path, "data.%s", split_name[k]);
        if (!expr || expr->kind == QT_YAML_NULL) continue;
        if (expr->kind == QT_YAML_MAP)
            e = qt_fail_at(QT_ERECIPE, expr->pos, "%s: a set of its own beside data.use; drop one, or give a range such as train[:90%%]", path);
        else if (read_split(&d->part[k], expr, path)) e = QT_ERECIPE;
    }
    return e;
}

/* {train: ..., val: ..., test: ...}: each a set with a split expression (default: its split of that name). */
static qt_err read_parts(qt_arena *a, qt_data *d)
{
    const qt_yaml *y[] = {d->cfg.train, d->cfg.val, d->cfg.test};
    qt_err         e   = QT_OK;
    for (int k = 0; k < QT_SPLITS; k++) {
        const qt_yaml *expr     = qt_yaml_get(y[k], "split");
        part          *p        = &d->part[k];
        char           path[32];
        snprintf(path, sizeof path, "data.%s", split_name[k]);
        if (!y[k]) continue;
        *p = (part){.text = split_name[k], .range.split = (qt_split)k, .pos = y[k]->pos};
        if (read_source(a, d, y[k], path, "split", &p->source)) e = QT_ERECIPE;
        snprintf(path, sizeof path, "data.%s.split", split_name[k]);
        if (expr && read_split(p, expr, path)) e = QT_ERECIPE;
    }
    return e;
}

/* "[1, 28, 28] with 10 classes" */
static const char *info_text(char text[160], const qt_data_info *f)
{
    int n = snprintf(text, 160, "samples of [");
    if (f->ids) return snprintf(text, 160, "%lld tokens of %lld", (long long)f->dim[0], (long long)f->ids), text;
    for (int i = 0; i < f->rank; i++) n += snprintf(text + n, 160 - (size_t)n, i ? ", %lld" : "%lld", (long long)f->dim[i]);
    if (f->classes > 0) snprintf(text + n, 160 - (size_t)n, "] with %lld classes", (long long)f->classes);
    else if (f->classes == 0) snprintf(text + n, 160 - (size_t)n, "] with %lld numbers to predict", (long long)f->target_n);
    else snprintf(text + n, 160 - (size_t)n, "]");
    return text;
}

/* val and test must give what train gives, as far as that is known. Fewer classes are no mistake: a small split need not show all. */
static qt_err compare_parts(const qt_data *d, qt_err code)
{
    const qt_data_info *f = &d->part[QT_TRAIN].source->info;
    char                a[160], b[160];
    QT_ASSERT(d->part[QT_TRAIN].source);
    for (int k = QT_VAL; k < QT_SPLITS; k++) {
        const qt_data_info *g = d->part[k].source ? &d->part[k].source->info : f;
        bool shape = g->rank == f->rank && !memcmp(g->dim, f->dim, sizeof f->dim[0] * (size_t)f->rank), known = f->known && g->known;
        bool kind  = !f->classes == !g->classes && g->classes <= f->classes && g->target_n == f->target_n && g->ids == f->ids;
        if ((known && !shape) || (f->classes >= 0 && g->classes >= 0 && !kind))
            return qt_fail_at(code, d->part[k].pos, "data.%s: %s gives %s, but data.train gives %s", split_name[k], d->part[k].source->set->d.name,
                              info_text(b, g), info_text(a, f));
    }
    return QT_OK;
}

static qt_err read_section(qt_arena *a, qt_data *d, const qt_yaml *y)
{
    static const qt_field fields[] = {
        QT_F_TREE(section_cfg, train, NULL, "the training set"),
        QT_F_TREE(section_cfg, val, "~", "the set for decisions during training"),
        QT_F_TREE(section_cfg, test, "~", "the set for the final result"),
        QT_F_INT(section_cfg, batch_size, "64", 1, 1 << 20, "samples a step"),
        {NULL}};
    const qt_yaml *size   = qt_yaml_get(y, "batch_size");
    bool           parts  = y && y->kind == QT_YAML_MAP && !qt_yaml_get(y, "use");
    qt_yaml       *common = qt_yaml_map(a, y ? y->pos : (qt_pos){0});
    qt_err         e;
    if (!y || y->kind == QT_YAML_NULL)
        return qt_fail_at(QT_ERECIPE, y ? y->pos : (qt_pos){0}, "data: missing; for example `data: {use: digits, batch_size: 64}`");
    if (!common) return QT_EMEM;
    if (parts && !qt_yaml_get(y, "train") && !qt_yaml_get(y, "val") && !qt_yaml_get(y, "test"))
        return qt_fail_at(QT_ERECIPE, y->pos, "data: names no data set: expected `use`, or train, val and test with a `use` each");
    if (parts) {
        e = qt_fields_read(y, "data", fields, NULL, &d->cfg);
        return read_parts(a, d) ? QT_ERECIPE : e;
    }
    if (size) QT_TRY(qt_yaml_put(a, common, "batch_size", (qt_yaml *)size));
    e = qt_fields_read(common, "data", fields + 3, NULL, &d->cfg);
    return read_single(a, d, y) ? QT_ERECIPE : e;
}

qt_err qt_data_read(qt_arena *a, const qt_yaml *section, qt_data **out)
{
    qt_data *d = *out = qt_arena_zalloc(a, sizeof *d);
    if (!d) return QT_EMEM;
    QT_TRY(read_section(a, d, section));
    return compare_parts(d, QT_ERECIPE);
}

const qt_data_info *qt_data_info_of(const qt_data *d)
{
    static const qt_data_info unknown;
    return d->part[QT_TRAIN].source ? &d->part[QT_TRAIN].source->info : &unknown;
}


int64_t             qt_data_batch_size(const qt_data *d) { return d->cfg.batch_size; }
int64_t             qt_data_size(const qt_data *d, qt_split s) { return d->part[s].n; }

int64_t qt_data_domains(const qt_data *d)
{
    const source *s = d->part[QT_TRAIN].source;
    return s && s->set->domains ? s->set->domains(s->state) : 1;
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------------- */

static qt_err open_source(source *s, uint64_t seed)
{
    QT_TRY(s->set->open(s->cfg, seed, &s->state, &s->info));
    QT_ASSERT(s->state && s->info.rank > 0 && s->info.classes >= 0);
    pthread_mutex_init(&s->lock, NULL);
    return QT_OK;
}

/* What a split expression stands for, now that the sizes are known. */
static qt_err resolve_part(part *p, int k)
{
    int64_t     n    = p->source->set->size(p->source->state, p->range.split), end;
    const char *name = p->source->set->d.name;
    p->begin = resolve(&p->range.from, n, 0), end = resolve(&p->range.to, n, n), p->n = end - p->begin;
    if (!p->text && (n || k != QT_TRAIN)) return QT_OK; /* a set need not have val or test */
    if (!n) return qt_fail_at(QT_EDATA, p->pos, "data.%s: %s has no split '%s'", split_name[k], name, split_name[p->range.split]);
    if (p->begin < 0 || end > n || p->n <= 0)
        return qt_fail_at(QT_EDATA, p->pos, "data.%s: '%s' is samples %lld to %lld, but %s has %lld in '%s'", split_name[k], p->text,
                          (long long)p->begin, (long long)end, name, (long long)n, split_name[p->range.split]);
    return QT_OK;
}

static qt_err open_all(qt_data *d, uint64_t seed)
{
    for (int i = 0; i < d->n_sources; i++) QT_TRY(open_source(&d->source[i], seed));
    for (int k = 0; k < QT_SPLITS; k++)
        if (d->part[k].source) QT_TRY(resolve_part(&d->part[k], k));
    return compare_parts(d, QT_EDATA);
}

qt_err qt_data_open(qt_data *d, uint64_t seed)
{
    qt_err e = d->open ? QT_OK : open_all(d, seed);
    d->open  = true;
    if (e != QT_OK) qt_data_close(d);
    return e;
}

void qt_data_close(qt_data *d)
{
    for (int i = 0; d && i < d->n_sources; i++) {
        source *s = &d->source[i];
        if (!s->state) continue;
        s->set->close(s->state);
        s->state = NULL;
        pthread_mutex_destroy(&s->lock);
    }
    for (int k = 0; d && k < QT_SPLITS; k++) d->part[k].n = 0;
    if (d) d->open = false;
}

qt_err qt_data_get(qt_data *d, qt_split s, int64_t i, qt_rng *draw, R *x, int32_t *y, R *t)
{
    part  *p = &d->part[s];
    qt_err e;
    QT_ASSERT(d->open && i >= 0 && i < p->n);
    pthread_mutex_lock(&p->source->lock);
    e = p->source->set->get(p->source->state, p->range.split, p->begin + i, draw, x, y, t);
    pthread_mutex_unlock(&p->source->lock);
    return e;
}

qt_err qt_data_tokens(qt_data *d, qt_split s, int64_t i, qt_rng *draw, int32_t *x, int32_t *y)
{
    part  *p = &d->part[s];
    qt_err e;
    QT_ASSERT(d->open && i >= 0 && i < p->n);
    pthread_mutex_lock(&p->source->lock);
    e = p->source->set->tokens(p->source->state, p->range.split, p->begin + i, draw, x, y);
    pthread_mutex_unlock(&p->source->lock);
    return e;
}
