/* Claims: what the arms of a recipe must show, as data.
 *   {say: TEXT, arm: A, metric: M, at_least | at_most: NUMBER}
 *   {say: TEXT, arm: A, metric: M, at_least | at_most: {arm: B, metric: M', times: t, plus: p, minus: m}}     bound = t M'(B) + p - m
 *   {say: TEXT, arm: A, metric: M, within: {arm: B, of: d}}                                                |M(A) - M(B)| <= d
 * over: ARM beside either arm makes it a gap: the arm's value minus that one's. The means over the seeds are compared; with every_seed: true,
 * the values of each seed. Metrics: test.accuracy (the default), test.loss, train.loss (the mean of the last epoch's step events),
 * val.accuracy, val.loss, test.perplexity and val.perplexity of text, another metric of the recipe as test.NAME, bits_per_weight, bytes,
 * macs, cost, cost_linear and cost_binary (cost.c), params, seconds, samples_per_s or tokens_per_s, peak_rss_mb, quant.SITE.FIELD of a site's last quant
 * event, and measure.PATH.NAME of the last event in which a phase, the stepper or a regularizer has measured that. Claims with a key `front` are
 * those of front.c. */
#include "train/claims.h"
#include <math.h>
#include <string.h>

typedef struct claim {
    const char    *say, *arm, *over, *metric;
    const qt_yaml *at_least, *at_most, *within;
    bool           every_seed;
} claim;

static const qt_field claim_fields[] = {
    QT_F_STR(claim, say, NULL, "the claim in words"),
    QT_F_STR(claim, arm, NULL, "the arm that it is about"),
    QT_F_STR(claim, over, "~", "an arm whose value is taken off: the claim is about the gap"),
    QT_F_STR(claim, metric, "test.accuracy", "what is measured"),
    QT_F_TREE(claim, at_least, "~", "a number, or {arm, metric, times, plus, minus}"),
    QT_F_TREE(claim, at_most, "~", "a number, or {arm, metric, times, plus, minus}"),
    QT_F_TREE(claim, within, "~", "{arm, of}: how far from that arm at most"),
    QT_F_BOOL(claim, every_seed, "false", "must hold for each seed, not only for the means"),
    {NULL},
};

typedef struct bound {
    const char *arm, *over, *metric;
    double      times, plus, minus, of;
} bound;

static const qt_field bound_fields[] = {
    QT_F_STR(bound, arm, NULL, "the arm to compare with"),
    QT_F_STR(bound, over, "~", "an arm whose value is taken off it"),
    QT_F_STR(bound, metric, "~", "its metric (default: the claim's)"),
    QT_F_REAL(bound, times, "1", -1e9, 1e9, "factor"),
    QT_F_REAL(bound, plus, "0", -1e12, 1e12, "added"),
    QT_F_REAL(bound, minus, "0", -1e12, 1e12, "taken away"),
    {NULL},
};

static const qt_field within_fields[] = {
    QT_F_STR(bound, arm, NULL, "the arm to compare with"),
    QT_F_STR(bound, over, "~", "an arm whose value is taken off it"),
    QT_F_STR(bound, metric, "~", "its metric (default: the claim's)"),
    QT_F_REAL(bound, of, NULL, 0, 1e12, "largest difference"),
    {NULL},
};

/* ---- reading --------------------------------------------------------------------------------------------------------------- */

static const qt_yaml *front_of(const qt_recipe *r, int i) { return qt_yaml_get(r->claims->item[i], "front"); }

qt_err qt_claim_check_arm(const qt_recipe *r, qt_pos at, const char *path, const char *key, const char *arm)
{
    static const char *const only[] = {"base"};
    bool                     has = r->arms && r->arms->kind == QT_YAML_MAP && r->arms->n;
    int                      n = has ? r->arms->n : 1;
    const char *const       *names = has ? r->arms->key : only, *near;
    for (int i = 0; i < n; i++)
        if (!strcmp(names[i], arm)) return QT_OK;
    near = qt_near(arm, n, names);
    return qt_fail_at(QT_ERECIPE, at, "%s.%s: unknown arm '%s'%s%s%s", path, key, arm, near ? ", did you mean '" : "", near ? near : "",
                      near ? "'?" : "");
}

static qt_err check_arm(const qt_recipe *r, const qt_yaml *map, const char *path, const char *key, const char *arm)
{
    return qt_claim_check_arm(r, qt_yaml_get(map, key)->pos, path, key, arm);
}

static bool is_quant_field(const char *name)
{
#define QT_X(field) "|" #field
    return qt_choice("scale|clip_frac|zero_frac|flip_rate|sqnr_db" QT_NOISE_FIELDS(QT_X), name) >= 0;
#undef QT_X
}

static bool is_codec_field(const char *name)
{
#define QT_X(field) "|" #field
    return qt_choice("" QT_CODEC_FIELDS(QT_X), name) >= 0;
#undef QT_X
}

qt_err qt_claim_check_metric(const qt_recipe *r, const qt_yaml *map, const char *path, const char *key, const char *metric)
{
    static const char *const known[] = {"test.accuracy", "test.loss", "test.perplexity", "train.loss", "val.accuracy", "val.loss", "val.perplexity",
                                        "bits_per_weight", "bytes", "macs", "cost", "cost_linear", "cost_binary", "saved_bytes", "saved_bytes_float",
                                        "saved_bytes_per_op", "train.first_loss", "params", "seconds", "samples_per_s", "tokens_per_s",
                                        "peak_rss_mb"};
    enum { N = sizeof known / sizeof *known };
    const char *near, *dot = strrchr(metric, '.');
    for (int i = 0; i < N; i++)
        if (!strcmp(known[i], metric)) return QT_OK;
    if (!strncmp(metric, "quant.", 6) && dot && dot > metric + 6 && is_quant_field(dot + 1)) return QT_OK;
    if (!strncmp(metric, "codec.", 6) && dot && dot > metric + 6 && is_codec_field(dot + 1)) return QT_OK;
    if (!strncmp(metric, "measure.", 8) && dot > metric + 8) return QT_OK; /* check_measure looks at the arm's own phases */
    if (r->metric && dot && !strcmp(dot + 1, r->metric->d.name) &&
        (dot == metric + 4 ? !strncmp(metric, "test", 4) : dot == metric + 3 && !strncmp(metric, "val", 3)))
        return QT_OK;
    near = qt_near(metric, N, known);
    return qt_fail_at(QT_ERECIPE, qt_yaml_get(map, key)->pos, "%s.%s: unknown metric '%s'%s%s%s", path, key, metric, near ? ", did you mean '" : "",
                      near ? near : " (test.accuracy, test.loss, bits_per_weight, bytes, seconds, quant.SITE.FIELD ...)", near ? "'?" : "");
}

static qt_err check_metric(const qt_recipe *r, const qt_yaml *map, const char *path, const char *metric)
{
    return qt_claim_check_metric(r, map, path, "metric", metric);
}

/* The claim and its bound; a plain number is a bound without an arm. */
static qt_err read_claim(const qt_recipe *r, int i, claim *c, bound *b)
{
    const qt_yaml *y = r->claims->item[i], *limit;
    const char    *key;
    char           path[48], below[64];
    qt_err         e;
    snprintf(path, sizeof path, "claims[%d]", i);
    QT_TRY(qt_fields_read(y, path, claim_fields, NULL, c));
    if (!!c->at_least + !!c->at_most + !!c->within != 1)
        return qt_fail_at(QT_ERECIPE, y->pos, "%s: expected one of at_least, at_most and within, found %d", path,
                          !!c->at_least + !!c->at_most + !!c->within);
    e = check_arm(r, y, path, "arm", c->arm);
    if (c->over && check_arm(r, y, path, "over", c->over) != QT_OK) e = QT_ERECIPE;
    if (check_metric(r, y, path, c->metric) != QT_OK) e = QT_ERECIPE;
    limit = c->at_least ? c->at_least : c->at_most ? c->at_most : c->within;
    key = c->at_least ? "at_least" : c->at_most ? "at_most" : "within";
    snprintf(below, sizeof below, "%s.%s", path, key);
    *b = (bound){.times = 1};
    if (!c->within && qt_yaml_real(limit, &b->plus)) return e;
    if (limit->kind != QT_YAML_MAP)
        return qt_fail_at(QT_ERECIPE, limit->pos, "%s: expected %s, found %s", below,
                          c->within ? "{arm, of}" : "a number or {arm, plus, minus, times}", qt_yaml_kind_name(limit));
    QT_TRY(qt_fields_read(limit, below, c->within ? within_fields : bound_fields, NULL, b));
    if (check_arm(r, limit, below, "arm", b->arm) != QT_OK) e = QT_ERECIPE;
    if (b->over && check_arm(r, limit, below, "over", b->over) != QT_OK) e = QT_ERECIPE;
    if (b->metric && check_metric(r, limit, below, b->metric) != QT_OK) e = QT_ERECIPE;
    if (c->within) b->times = 1;
    return e;
}

qt_err qt_claims_check(const qt_recipe *r)
{
    qt_err e = QT_OK;
    if (!r->claims) return QT_OK;
    if (r->claims->kind != QT_YAML_LIST)
        return qt_fail_at(QT_ERECIPE, r->claims->pos, "claims: expected a list, found %s", qt_yaml_kind_name(r->claims));
    for (int i = 0; i < r->claims->n; i++) {
        claim c = {0};
        bound b = {0};
        char  path[48];
        snprintf(path, sizeof path, "claims[%d]", i);
        if ((front_of(r, i) ? qt_front_check(r, r->claims->item[i], path) : read_claim(r, i, &c, &b)) != QT_OK) e = QT_ERECIPE;
    }
    return e;
}

/* "quant.SITE.FIELD" of a metric that is about arm: is there such a site? */
static qt_err check_site(const qt_recipe *r, const qt_yaml *map, const char *path, const char *arm, const char *metric, const qt_store *s)
{
    const qt_yaml *y = qt_yaml_get(map, "metric");
    const char    *dot = metric ? strrchr(metric, '.') : NULL, *near, *names[256];
    char           site[256];
    int            n = s->n_site < 256 ? s->n_site : 256;
    if (!metric || strncmp(metric, "quant.", 6) || strcmp(arm, r->arm ? r->arm : "base")) return QT_OK;
    snprintf(site, sizeof site, "%.*s", (int)(dot - metric) - 6, metric + 6);
    for (int i = 0; i < n; i++)
        if (!strcmp(names[i] = s->site[i]->path, site)) return QT_OK;
    near = qt_near(site, n, names);
    return qt_fail_at(QT_ERECIPE, y ? y->pos : map->pos, "%s.metric: arm '%s' has no quantizer at '%s'%s%s%s", path, arm, site,
                      near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* Does one of the patterns a|b|c match? */
static bool one_matches(const char *patterns, const char *word)
{
    char one[256];
    for (const char *s = patterns; s && *s; s += strcspn(s, "|"), s += *s == '|') {
        snprintf(one, sizeof one, "%.*s", (int)strcspn(s, "|"), s);
        if (qt_match(one, word)) return true;
    }
    return false;
}

/* "measure.PATH.NAME" of a metric that is about arm: does one of its phases, its stepper or a regularizer measure that? */
static qt_err check_measure(const qt_recipe *r, const qt_model *m, const qt_yaml *map, const char *path, const char *arm, const char *metric)
{
    const qt_yaml *y = qt_yaml_get(map, "metric");
    if (!metric || strncmp(metric, "measure.", 8) || strcmp(arm, r->arm ? r->arm : "base")) return QT_OK;
    for (int i = 0; i < r->n_phases; i++) {
        const qt_phase *p = r->phase[i].phase;
        if (one_matches(p->gives, metric + 8) || (p->measures && p->measures(r->phase[i].cfg, m, metric + 8))) return QT_OK;
    }
    if (one_matches(r->stepper->gives, metric + 8) || qt_term_measures(m, metric + 8)) return QT_OK;
    return qt_fail_at(QT_ERECIPE, y ? y->pos : map->pos, "%s.metric: nothing in arm '%s' measures '%s'", path, arm, metric + 8);
}

/* A metric that text has and other data have not, or the other way round. */
static qt_err check_kind(const qt_recipe *r, const qt_yaml *map, const char *path, const char *metric, bool text)
{
    const qt_yaml *y = qt_yaml_get(map, "metric");
    const char    *dot = metric ? strrchr(metric, '.') : NULL, *name = dot ? dot + 1 : metric;
    bool           own = name && r->metric && !strcmp(r->metric->d.name, name);
    if (!name || own || qt_choice(text ? "accuracy|samples_per_s" : "perplexity|tokens_per_s", name) < 0) return QT_OK;
    return qt_fail_at(QT_ERECIPE, y ? y->pos : map->pos, "%s.metric: %s is nothing that %s; test.%s and %s_per_s are", path, metric,
                      text ? "text has" : "data other than text have", text ? "perplexity" : "accuracy", text ? "tokens" : "samples");
}

qt_err qt_claims_check_sites(const qt_recipe *r, const qt_model *m, bool text)
{
    const qt_store *s = m->store;
    qt_err          e = QT_OK;
    for (int i = 0; r->claims && i < r->claims->n; i++) {
        claim c = {0};
        bound b = {0};
        char  path[64];
        if (front_of(r, i)) continue;
        QT_TRY(read_claim(r, i, &c, &b));
        snprintf(path, sizeof path, "claims[%d]", i);
        if (check_kind(r, r->claims->item[i], path, c.metric, text) != QT_OK) e = QT_ERECIPE;
        if (b.arm && check_kind(r, r->claims->item[i], path, b.metric, text) != QT_OK) e = QT_ERECIPE;
        if (check_measure(r, m, r->claims->item[i], path, c.arm, c.metric) != QT_OK) e = QT_ERECIPE;
        if (b.arm && check_measure(r, m, r->claims->item[i], path, b.arm, b.metric ? b.metric : c.metric) != QT_OK) e = QT_ERECIPE;
        if (check_site(r, r->claims->item[i], path, c.arm, c.metric, s) != QT_OK) e = QT_ERECIPE;
        if (b.arm && check_site(r, r->claims->item[i], path, b.arm, b.metric ? b.metric : c.metric, s) != QT_OK) e = QT_ERECIPE;
    }
    return e;
}

const char *qt_claim_say(const qt_recipe *r, int i) { return qt_yaml_get(r->claims->item[i], "say")->text; }

/* ---- judging --------------------------------------------------------------------------------------------------------------- */

double qt_sample_mean(const qt_sample *s)
{
    double sum = 0;
    for (int i = 0; i < s->n; i++) sum += s->v[i];
    return s->n ? sum / s->n : NAN;
}

double qt_sample_sd(const qt_sample *s)
{
    double mean = qt_sample_mean(s), sum = 0;
    for (int i = 0; i < s->n; i++) sum += (s->v[i] - mean) * (s->v[i] - mean);
    return s->n > 1 ? sqrt(sum / (s->n - 1)) : 0;
}

void qt_claim_number(char buf[static 48], const char *metric, double v)
{
    const char *dot = strrchr(metric, '.');
    if (dot && !strcmp(dot + 1, "accuracy")) snprintf(buf, 48, "%.2f %%", 100 * v);
    else snprintf(buf, 48, "%.6g", v);
}

/* By how much the claim holds (negative: fails) for value x and reference y. A value that is not a number fails. */
static double margin(const claim *c, const bound *b, double x, double y)
{
    double limit = (b->arm ? b->times * y : 0) + b->plus - b->minus, m;
    m = c->within ? b->of - fabs(x - y) : c->at_least ? x - limit : limit - x;
    return isnan(m) ? -INFINITY : m;
}

/* "arm", or "arm - other". */
static const char *names(char buf[static 160], const char *arm, const char *over)
{
    snprintf(buf, 160, over ? "%s - %s" : "%s", arm, over);
    return buf;
}

static void say_numbers(const claim *c, const bound *b, double x, double y, int failed, int n, char text[static 512])
{
    char a[48], ref[48], lim[48], mine[160], other[160], seeds[64] = "";
    qt_claim_number(a, c->metric, x), qt_claim_number(ref, b->metric ? b->metric : c->metric, y);
    if (c->every_seed) snprintf(seeds, sizeof seeds, ", holds for %d of %d seeds", n - failed, n);
    if (c->within) {
        qt_claim_number(lim, c->metric, b->of);
        snprintf(text, 512, "%s %s and %s %s: not more than %s apart%s", names(mine, c->arm, c->over), a, names(other, b->arm, b->over), ref, lim,
                 seeds);
        return;
    }
    qt_claim_number(lim, c->metric, (b->arm ? b->times * y : 0) + b->plus - b->minus);
    if (b->arm)
        snprintf(text, 512, "%s %s %s %s (%s %s)%s", names(mine, c->arm, c->over), a, c->at_least ? ">=" : "<=", lim, names(other, b->arm, b->over),
                 ref, seeds);
    else snprintf(text, 512, "%s %s %s %s%s", names(mine, c->arm, c->over), a, c->at_least ? ">=" : "<=", lim, seeds);
}

/* Values of an arm, or of the gap between it and another. */
static qt_err look(qt_lookup lookup, void *arg, const char *arm, const char *over, const char *metric, qt_sample *s)
{
    qt_sample other = {0};
    QT_TRY(lookup(arg, arm, metric, s));
    if (!over) return QT_OK;
    QT_TRY(lookup(arg, over, metric, &other));
    for (int k = 0; k < s->n; k++) s->v[k] = k < other.n ? s->v[k] - other.v[k] : NAN;
    return QT_OK;
}

qt_err qt_claim_judge(const qt_recipe *r, int i, qt_lookup lookup, void *arg, qt_verdict *v)
{
    claim     c = {0};
    bound     b = {0};
    qt_sample x = {0}, y = {0};
    int       failed = 0;
    if (front_of(r, i)) return qt_front_judge(r, r->claims->item[i], lookup, arg, v);
    QT_TRY(read_claim(r, i, &c, &b));
    QT_TRY(look(lookup, arg, c.arm, c.over, c.metric, &x));
    if (b.arm) QT_TRY(look(lookup, arg, b.arm, b.over, b.metric ? b.metric : c.metric, &y));
    for (int k = 0; k < x.n; k++) failed += margin(&c, &b, x.v[k], b.arm ? y.v[k] : 0) < 0;
    v->pass = c.every_seed ? !failed && x.n : margin(&c, &b, qt_sample_mean(&x), b.arm ? qt_sample_mean(&y) : 0) >= 0;
    say_numbers(&c, &b, qt_sample_mean(&x), b.arm ? qt_sample_mean(&y) : 0, failed, x.n, v->text);
    return QT_OK;
}
