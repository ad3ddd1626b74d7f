/* Domains made of another set of images: domain k is its images turned by angles[k] degrees, counterclockwise. What is trained on some angles
 * and tested on an angle never seen (held_out) is asked to generalize over domains; leave-one-domain-out is one arm for each angle.
 *
 * With A angles the domains have per_domain training images each and share none: number j of the A per_domain images that are used, spread evenly
 * over the set's training split, belongs to domain j mod A. Training sample i is of domain i mod S of the S source domains, so the loader gives
 * every batch equal shares of them. val holds each image of the set's val once for each source angle, test its test images once for each angle
 * held out (for each angle if none is).
 *
 * A pixel at (x, y) from the centre takes what lies at (x cos a - y sin a, x sin a + y cos a), y downwards, bilinearly between four pixels; `fill` lies
 * beyond the edge. Rotated digits are the usual small test of domain generalization: Ghifary et al. 2015, arXiv 1508.07680, section 4.1. */
#include "dataset.h"
#include <math.h>

typedef struct rotated_cfg {
    const qt_yaml *of;
    qt_ints        angles, held_out;
    int64_t        per_domain;
    double         fill;
} rotated_cfg;

static const qt_field fields[] = {
    QT_F_TREE(rotated_cfg, of, "~", "the set of images, a name or {use: NAME, ...} (default: fashion-mnist)"),
    QT_F_INTS(rotated_cfg, angles, "[0, 15, 30, 45, 60, 75]", -360, 360, "degrees, one domain each"),
    QT_F_INTS(rotated_cfg, held_out, "[]", -360, 360, "angles to test on and not to train on; none: train and test on all"),
    QT_F_INT(rotated_cfg, per_domain, "0", 0, 100000000, "training images of a domain; 0: as many as there are"),
    QT_F_REAL(rotated_cfg, fill, "0", -1e6, 1e6, "what comes in from beyond the edge, in the numbers of the set"),
    {NULL}};

typedef struct domain {
    int64_t at; /* its place in `angles` */
    double  cos, sin;
} domain;

typedef struct rotated_state {
    qt_arena          arena;
    const qt_dataset *set;
    void             *inner;
    qt_data_info      info;
    int               angles, sources, tests;
    domain            source[8], test[8];
    int64_t           used, all; /* training images: of all domains together, of the set */
    R                 fill, *image;
} rotated_state;

/* ---- the section ------------------------------------------------------------------------------------------------------------------ */

static qt_err read_inner(qt_arena *a, const rotated_cfg *c, const qt_dataset **set, void **cfg)
{
    const qt_yaml *of = c->of ? c->of : qt_yaml_scalar(a, "fashion-mnist", (qt_pos){0});
    const qt_desc *d;
    if (!of) return QT_EMEM;
    QT_TRY(qt_desc_read(a, &qt_datasets, of, "data.of", NULL, &d, cfg));
    *set = (const qt_dataset *)d;
    return QT_OK;
}

static bool among(int64_t v, const qt_ints *l)
{
    for (int i = 0; i < l->n; i++)
        if (l->v[i] == v) return true;
    return false;
}

static qt_err check(const rotated_cfg *c, const qt_dataset *set, const qt_data_info *f)
{
    qt_pos pos = c->of ? c->of->pos : (qt_pos){0};
    if (f->ids || (f->known && f->rank != 3))
        return qt_fail_at(QT_ERECIPE, pos, "data.of: %s gives no images, which alone can be rotated", set->d.name);
    if (!c->angles.n) return qt_fail_at(QT_ERECIPE, pos, "data.angles: expected at least one angle");
    if (c->held_out.n >= c->angles.n) return qt_fail_at(QT_ERECIPE, pos, "data.held_out: leaves no domain to train on");
    for (int i = 0; i < c->held_out.n; i++)
        if (!among(c->held_out.v[i], &c->angles))
            return qt_fail_at(QT_ERECIPE, pos, "data.held_out: %lld is none of data.angles", (long long)c->held_out.v[i]);
    return QT_OK;
}

static qt_err info_of(const void *cfg, qt_data_info *info)
{
    const qt_dataset *set;
    qt_arena          a = {0};
    void             *inner;
    qt_err            e = read_inner(&a, cfg, &set, &inner);
    *info = (qt_data_info){.classes = -1};
    if (e == QT_OK) e = set->info(inner, info);
    if (e == QT_OK) e = check(cfg, set, info);
    qt_arena_free(&a);
    return e;
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------------- */

static domain domain_of(const rotated_cfg *c, int k)
{
    double a = (double)c->angles.v[k] * 3.14159265358979323846 / 180;
    return (domain){k, cos(a), sin(a)};
}

static void list_domains(rotated_state *st, const rotated_cfg *c)
{
    st->angles = c->angles.n;
    for (int k = 0; k < c->angles.n; k++) {
        bool held = among(c->angles.v[k], &c->held_out);
        if (!held) st->source[st->sources++] = domain_of(c, k);
        if (held || !c->held_out.n) st->test[st->tests++] = domain_of(c, k);
    }
}

static qt_err open_inner(rotated_state *st, const rotated_cfg *c, uint64_t seed)
{
    void *inner;
    QT_TRY(read_inner(&st->arena, c, &st->set, &inner));
    QT_TRY(st->set->open(inner, seed, &st->inner, &st->info));
    QT_TRY(check(c, st->set, &st->info));
    QT_CHECK(st->info.rank == 3, QT_EDATA, "rotated: %s gives no images, which alone can be rotated", st->set->d.name);
    st->all  = st->set->size(st->inner, QT_TRAIN);
    st->used = c->angles.n * (c->per_domain ? c->per_domain : st->all / c->angles.n);
    QT_CHECK(st->used <= st->all, QT_EDATA, "rotated: %d domains of %lld images are %lld, but %s has %lld in 'train'", c->angles.n,
             (long long)c->per_domain, (long long)st->used, st->set->d.name, (long long)st->all);
    st->image = qt_arena_alloc(&st->arena, sizeof(R) * (size_t)(st->info.dim[0] * st->info.dim[1] * st->info.dim[2]));
    return st->image ? QT_OK : QT_EMEM;
}

static void end(void *state)
{
    rotated_state *st = state;
    if (st->inner) st->set->close(st->inner);
    qt_arena_free(&st->arena);
    qt_free(st);
}

static qt_err begin(const void *cfg, uint64_t seed, void **state, qt_data_info *info)
{
    const rotated_cfg *c  = cfg;
    rotated_state     *st = *state = qt_alloc(sizeof *st);
    qt_err             e;
    if (!st) return QT_EMEM;
    *st = (rotated_state){.fill = (R)c->fill};
    list_domains(st, c);
    e     = open_inner(st, c, seed);
    *info = st->info;
    if (e == QT_OK) return QT_OK;
    end(st);
    *state = NULL;
    return e;
}

/* ---- samples ---------------------------------------------------------------------------------------------------------------------- */

static int64_t size(const void *state, qt_split s)
{
    const rotated_state *st = state;
    if (s == QT_TRAIN) return st->used / st->angles * st->sources;
    return st->set->size(st->inner, s) * (s == QT_TEST ? st->tests : st->sources);
}

static int64_t domains(const void *state) { return ((const rotated_state *)state)->sources; }

/* Which image of the set sample i of a split is, and how it is turned. */
static int64_t image_of(const rotated_state *st, qt_split s, int64_t i, const domain **d)
{
    int n = s == QT_TEST ? st->tests : st->sources;
    *d = (s == QT_TEST ? st->test : st->source) + i % n;
    return s == QT_TRAIN ? (i / n * st->angles + (*d)->at) * st->all / st->used : i / n;
}

static double pixel(const R *x, int64_t H, int64_t W, int64_t h, int64_t w, R fill)
{
    return (double)(h >= 0 && h < H && w >= 0 && w < W ? x[h * W + w] : fill);
}

/* Between the four pixels about (h, w). */
static R between(const R *x, int64_t H, int64_t W, double h, double w, R fill)
{
    int64_t i = (int64_t)floor(h), j = (int64_t)floor(w);
    double  u = h - (double)i, v = w - (double)j;
    double  above = (1 - v) * pixel(x, H, W, i, j, fill) + v * pixel(x, H, W, i, j + 1, fill);
    double  below = (1 - v) * pixel(x, H, W, i + 1, j, fill) + v * pixel(x, H, W, i + 1, j + 1, fill);
    return (R)((1 - u) * above + u * below);
}

static void rotate(R *y, const R *x, int64_t H, int64_t W, const domain *d, R fill)
{
    double h0 = (double)(H - 1) / 2, w0 = (double)(W - 1) / 2;
    for (int64_t h = 0; h < H; h++)
        for (int64_t w = 0; w < W; w++) {
            double dy = (double)h - h0, dx = (double)w - w0;
            y[h * W + w] = between(x, H, W, h0 + dx * d->sin + dy * d->cos, w0 + dx * d->cos - dy * d->sin, fill);
        }
}

static qt_err get(void *state, qt_split s, int64_t i, qt_rng *draw, R *x, int32_t *y, R *t)
{
    rotated_state *st = state;
    const domain  *d;
    int64_t        image = image_of(st, s, i, &d), C = st->info.dim[0], H = st->info.dim[1], W = st->info.dim[2];
    QT_TRY(st->set->get(st->inner, s, image, draw, st->image, y, t));
    for (int64_t c = 0; c < C; c++) rotate(x + c * H * W, st->image + c * H * W, H, W, d, st->fill);
    return QT_OK;
}

/* ---- fetching --------------------------------------------------------------------------------------------------------------------- */

static qt_err fetch(const void *cfg)
{
    const qt_dataset *set;
    qt_arena          a = {0};
    void             *inner;
    qt_err            e = read_inner(&a, cfg, &set, &inner);
    if (e == QT_OK && set->fetch) e = set->fetch(inner);
    qt_arena_free(&a);
    return e;
}

static const char *find(qt_arena *a, const void *cfg)
{
    const qt_dataset *set;
    void             *inner;
    return read_inner(a, cfg, &set, &inner) == QT_OK && set->find ? set->find(a, inner) : NULL;
}

const qt_dataset qt_dataset_rotated = {
    .d     = {"rotated", "images of another set turned by several angles: domains, some of them held out", "Ghifary et al. 2015, section 4.1", fields,
              sizeof(rotated_cfg)},
    .info  = info_of,
    .open  = begin,
    .size  = size,
    .get   = get,
    .domains = domains,
    .close = end,
    .fetch = fetch,
    .find  = find,
    .where = "made by qtape of another set"};
