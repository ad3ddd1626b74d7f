/* `reproduce`: every arm of a recipe for every seed, each in its own run directory ROOT/ARM-sSEED. What is done is not run again, what was
 * stopped goes on. Then the table, and the verdict on each claim; both also as ROOT/results.json and ROOT/results.md. An arm that diverges
 * has no accuracy and an infinite loss: claims may speak of that too. Results on a fallback data set are shown, but not judged. */
#include "train/train.h"
#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench {
    qt_arena                 *arena;
    const qt_reproduce_opts  *o;
    qt_recipe                *recipe;  /* without an arm */
    const char               *root;
    int                       n_arms, n_seeds;
    const char               *arm[QT_MAX_ARMS];
    int64_t                   seed[64];
    bool                      diverged[QT_MAX_ARMS][64];
    bool                      fallback;
    char                     *scores; /* their table, or NULL */
} bench;

/* ---- which recipe ---------------------------------------------------------------------------------------------------------- */

/* Folders that may hold recipes, best first. */
static int recipe_folders(const char *folder[3])
{
    int n = 0;
    folder[n++] = "recipes";
    if (getenv("QTAPE_RECIPES")) folder[n++] = getenv("QTAPE_RECIPES");
    folder[n++] = QTAPE_DATADIR "/recipes";
    return n;
}

static void list_folder(const char *folder, glob_t *g)
{
    char pattern[4096];
    snprintf(pattern, sizeof pattern, "%s/*.yaml", folder);
    glob(pattern, 0, NULL, g);
    snprintf(pattern, sizeof pattern, "%s/papers/*.yaml", folder);
    glob(pattern, GLOB_APPEND, NULL, g);
}

/* A file as it is, or the slug of one. */
static qt_err find_recipe(qt_arena *a, const char *word, const char **file)
{
    static const char *const below[] = {"/papers", "", "/models", "/smoke"};
    const char              *folder[3];
    int                      n = recipe_folders(folder);
    size_t                   len = strlen(word);
    *file = word;
    if (qt_file_exists(word) || strchr(word, '/') || (len > 5 && !strcmp(word + len - 5, ".yaml"))) return QT_OK;
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < sizeof below / sizeof *below; k++) {
            *file = qt_arena_sprintf(a, "%s%s/%s.yaml", folder[i], below[k], word);
            if (*file && qt_file_exists(*file)) return QT_OK;
        }
    QT_FAIL(QT_ERECIPE, "no recipe '%s': neither a file nor a name below recipes/ or recipes/papers/", word);
}

/* ---- which arms, in which order -------------------------------------------------------------------------------------------- */

/* The arm that another one begins with, NULL if none. */
static const char *source_of(const bench *b, const char *arm)
{
    const char *set = "seed=1"; /* with a word of the command line other arms are not checked once more */
    qt_recipe  *r;
    return qt_recipe_load(b->arena, b->recipe->file, 1, &set, arm, &r) == QT_OK ? r->init.arm : NULL;
}

/* Arms in the order of the file, but an arm after the one it begins with. */
static qt_err order_arms(bench *b)
{
    const qt_yaml *arms = b->recipe->arms;
    bool           placed[QT_MAX_ARMS] = {false}, moved = true;
    const char    *source[QT_MAX_ARMS];
    if (!arms || !arms->n) {
        b->arm[b->n_arms++] = NULL;
        return QT_OK;
    }
    QT_CHECK(arms->n <= QT_MAX_ARMS, QT_ERECIPE, "%s: more than %d arms", b->recipe->file, QT_MAX_ARMS);
    for (int i = 0; i < arms->n; i++) source[i] = source_of(b, arms->key[i]);
    while (moved) {
        moved = false;
        for (int i = 0; i < arms->n; i++) {
            bool ready = !source[i];
            for (int k = 0; k < b->n_arms; k++) ready |= source[i] && !strcmp(b->arm[k], source[i]);
            if (placed[i] || !ready) continue;
            b->arm[b->n_arms++] = arms->key[i], placed[i] = moved = true;
        }
    }
    for (int i = 0; i < arms->n; i++)
        if (!placed[i])
            return qt_fail_at(QT_ERECIPE, arms->key_pos[i], "arms: '%s' begins with arm '%s', which begins with it", arms->key[i], source[i]);
    return QT_OK;
}

/* ---- one run --------------------------------------------------------------------------------------------------------------- */

static const char *arm_name(const bench *b, int i) { return b->arm[i] ? b->arm[i] : "base"; }

static const char *run_dir(const bench *b, int arm, int seed)
{
    const char *dir = qt_arena_sprintf(b->arena, "%s/%s-s%lld", b->root, arm_name(b, arm), (long long)b->seed[seed]);
    return dir ? dir : "";
}

/* Was the directory made from this recipe with this data section? */
static bool made_from(bench *b, const char *dir, const qt_recipe *r, const qt_yaml *data)
{
    char    *text = NULL;
    size_t   n = 0;
    FILE    *f = data ? open_memstream(&text, &n) : NULL;
    qt_yaml *want, *have;
    bool     same = false;
    if (!f) return false;
    qt_err e = qt_recipe_print(f, r, data);
    e = qt_stream_close(e, f, &text);
    if (e == QT_OK)
        same = qt_yaml_load(b->arena, qt_arena_sprintf(b->arena, "%s/resolved.yaml", dir), &have) == QT_OK &&
               qt_yaml_parse(b->arena, text, n, b->recipe->file, &want) == QT_OK && qt_yaml_same(want, have);
    free(text);
    return same;
}

static bool can_open(const qt_recipe *r)
{
    qt_arena a = {0};
    qt_data *d;
    bool     ok = false;
    char    *before = qt_error_take();
    if (qt_data_read(&a, r->data, &d) == QT_OK) ok = qt_data_open(d, (uint64_t)r->seed) == QT_OK, qt_data_close(d);
    qt_arena_free(&a);
    qt_error_clear();
    qt_error_give(before);
    return ok;
}

static qt_err go(bench *b, qt_run *run, int arm, int seed)
{
    qt_result res;
    run->stop = b->o->stop;
    if (b->o->threads) run->recipe->train.threads = b->o->threads;
    qt_err e = qt_run_go(run, &res);
    if (e == QT_EDIVERGED) {
        char *why = qt_error_take();
        qt_run_log(run, "%s  %s", run->arm, why ? why : "diverged");
        qt_free(why);
        b->diverged[arm][seed] = true;
        e = QT_OK;
    }
    qt_run_free(run);
    return e;
}

static qt_err run_one(bench *b, int arm, int seed)
{
    const char *dir = run_dir(b, arm, seed), *set = qt_arena_sprintf(b->arena, "seed=%lld", (long long)b->seed[seed]);
    qt_recipe  *r;
    qt_run     *run;
    bool        force = false;
    if (!set) return QT_EMEM;
    QT_TRY(qt_recipe_load(b->arena, b->recipe->file, 1, &set, b->arm[arm], &r));
    if (qt_file_exists(qt_arena_sprintf(b->arena, "%s/resolved.yaml", dir))) {
        bool own = made_from(b, dir, r, r->data), other = !own && made_from(b, dir, r, r->fallback);
        QT_CHECK(own || other, QT_EUSAGE, "%s: was made from another version of %s; remove it, or give another --run", dir, b->recipe->file);
        force = other && can_open(r); /* the data are there now */
        bool done = qt_file_exists(qt_arena_sprintf(b->arena, "%s/DONE", dir));
        if (done && !force) return QT_OK;
        if (!force && qt_file_exists(qt_arena_sprintf(b->arena, "%s/ckpt/last.h5", dir))) {
            QT_TRY(qt_run_resume(dir, b->o->progress, &run));
            return go(b, run, arm, seed);
        }
    }
    QT_TRY(qt_run_new(r, dir, arm_name(b, arm), force, b->o->progress, &run));
    return go(b, run, arm, seed);
}

/* ---- numbers --------------------------------------------------------------------------------------------------------------- */

/* A metric of one run; NaN where there is none. */
static qt_err value_of(const bench *b, int arm, int seed, const char *metric, double *v)
{
    static const char *const about[] = {"quant", "codec", "measure"}; /* metrics EVENT.PATH.KEY */
    const char    *dir = run_dir(b, arm, seed), *dot = strrchr(metric, '.'), *event = "final", *key = dot ? dot + 1 : metric, *path = NULL;
    const qt_yaml *y;
    *v = NAN;
    if (b->diverged[arm][seed]) return *v = !strcmp(key, "accuracy") ? 0 : !strcmp(key, "loss") || !strcmp(key, "perplexity") ? INFINITY : NAN, QT_OK;
    if (!strcmp(metric, "train.first_loss")) return qt_metrics_first_loss(b->arena, dir, v);
    if (!strcmp(metric, "train.loss")) return qt_metrics_train_loss(b->arena, dir, v);
    if (!strncmp(metric, "val.", 4)) event = "eval";
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(about[i]) + 1;
        if (strncmp(metric, about[i], n - 1) || metric[n - 1] != '.') continue;
        event = about[i], path = qt_arena_sprintf(b->arena, "%.*s", (int)(dot - metric) - (int)n, metric + n);
        if (!path) return QT_EMEM;
    }
    QT_TRY(qt_metrics_last(b->arena, dir, event, path, &y));
    if (path && !y) QT_FAIL(QT_ERECIPE, "claims: %s/metrics.jsonl has no %s event of '%s'", dir, event, path);
    qt_yaml_real(qt_yaml_get(y, key), v);
    return QT_OK;
}

static qt_err lookup(void *arg, const char *arm, const char *metric, qt_sample *s)
{
    bench *b = arg;
    for (int i = 0; i < b->n_arms; i++)
        if (!strcmp(arm_name(b, i), arm))
            for (s->n = 0; s->n < b->n_seeds; s->n++) QT_TRY(value_of(b, i, s->n, metric, &s->v[s->n]));
    return QT_OK;
}

static qt_err find_fallback(bench *b)
{
    const qt_yaml *want = qt_yaml_get(b->recipe->data, "use"), *y, *got;
    for (int i = 0; b->recipe->fallback && i < b->n_arms; i++)
        for (int k = 0; k < b->n_seeds; k++) {
            if (b->diverged[i][k]) continue;
            QT_TRY(qt_metrics_last(b->arena, run_dir(b, i, k), "final", NULL, &y));
            if ((got = qt_yaml_get(y, "data")) && want && want->text && got->text && strcmp(got->text, want->text)) b->fallback = true;
        }
    return QT_OK;
}

/* ---- the table ------------------------------------------------------------------------------------------------------------- */

typedef struct row {
    qt_sample accuracy, loss, perplexity, bits, bytes, cost, cost_linear, seconds, rate;
    bool      classes, tokens, diverged;
} row;

static qt_err read_row(bench *b, int i, row *w)
{
    static const char *const names[] = {"test.accuracy", "test.loss", "test.perplexity", "bits_per_weight", "bytes", "cost", "cost_linear", "seconds"};
    qt_sample *const         samples[] = {&w->accuracy, &w->loss, &w->perplexity, &w->bits, &w->bytes, &w->cost, &w->cost_linear, &w->seconds};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) QT_TRY(lookup(b, arm_name(b, i), names[k], samples[k]));
    w->tokens = !isnan(w->perplexity.v[0]), w->classes = !w->tokens && !isnan(w->accuracy.v[0]);
    QT_TRY(lookup(b, arm_name(b, i), w->tokens ? "tokens_per_s" : "samples_per_s", &w->rate));
    for (int k = 0; k < b->n_seeds; k++) w->diverged |= b->diverged[i][k];
    return QT_OK;
}

static void quality(char buf[static 48], const row *w)
{
    if (w->diverged) snprintf(buf, 48, "diverged");
    else if (w->classes) snprintf(buf, 48, "%.2f ± %.2f", 100 * qt_sample_mean(&w->accuracy), 100 * qt_sample_sd(&w->accuracy));
    else if (w->tokens) snprintf(buf, 48, "%.5g ± %.2g", qt_sample_mean(&w->perplexity), qt_sample_sd(&w->perplexity));
    else snprintf(buf, 48, "%.5g ± %.2g", qt_sample_mean(&w->loss), qt_sample_sd(&w->loss));
}

static void print_row(FILE *f, const char *arm, const row *w, int seeds, int width)
{
    char q[48];
    quality(q, w);
    /* "±" is one column and two bytes */
    fprintf(f, "| %-*s | %5d | %*s | %11.3g | %11.0f | %8.1f | %9.0f |\n", width, arm, seeds, w->diverged ? 17 : 18, q, qt_sample_mean(&w->bits),
            qt_sample_mean(&w->bytes), qt_sample_mean(&w->seconds), qt_sample_mean(&w->rate));
}

static void print_table(FILE *f, const bench *b, const row *rows)
{
    int width = 3;
    for (int i = 0; i < b->n_arms; i++) width = (int)strlen(arm_name(b, i)) > width ? (int)strlen(arm_name(b, i)) : width;
    fprintf(f, "| %-*s | seeds | %17s | bits/weight | model bytes |  seconds | %9s |\n", width, "arm",
            rows->classes ? "test accuracy (%)" : rows->tokens ? "test perplexity" : "test loss", rows->tokens ? "tokens/s" : "samples/s");
    fprintf(f, "| %.*s | ----: | ----------------: | ----------: | ----------: | -------: | --------: |\n", width,
            "----------------------------------------------------------------");
    for (int i = 0; i < b->n_arms; i++) print_row(f, arm_name(b, i), &rows[i], b->n_seeds, width);
}

/* ---- the verdict ----------------------------------------------------------------------------------------------------------- */

static const char *word(const bench *b, const qt_verdict *v) { return b->fallback ? "SKIP" : v->pass ? "PASS" : "FAIL"; }

static void print_string(FILE *f, const char *s)
{
    fputc('"', f);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') fputc('\\', f);
        if ((unsigned char)*s >= 32) fputc(*s, f);
    }
    fputc('"', f);
}

static void print_number(FILE *f, const char *key, double v)
{
    if (isfinite(v)) fprintf(f, ", \"%s\": %.9g", key, v);
    else fprintf(f, ", \"%s\": null", key);
}

/* What was run, and with what: the environment of the first run that has one. */
static void print_origin(FILE *f, const bench *b)
{
    char  *env;
    size_t n;
    if (b->recipe->doc) fprintf(f, ",\n \"doc\": "), print_string(f, b->recipe->doc);
    if (b->recipe->paper) fprintf(f, ",\n \"paper\": "), print_string(f, b->recipe->paper);
    fprintf(f, ",\n \"file\": "), print_string(f, b->recipe->file);
    for (int i = 0; i < b->n_arms * b->n_seeds; i++) {
        const char *file = qt_arena_sprintf(b->arena, "%s/env.json", run_dir(b, i / b->n_seeds, i % b->n_seeds)), *end;
        if (!file || !qt_file_exists(file) || qt_file_read(b->arena, file, &env, &n) != QT_OK || !(end = strrchr(env, '}'))) continue;
        fprintf(f, ",\n \"env\": %.*s", (int)(end - env) + 1, env);
        return;
    }
}

/* The values of each seed, of what has any. */
static void print_values(FILE *f, const bench *b, const row *w)
{
    const struct { const char *name; const qt_sample *s; } all[] = {
        {"accuracy", &w->accuracy}, {"perplexity", &w->perplexity}, {"loss", &w->loss}, {"bytes", &w->bytes}, {"seconds", &w->seconds}};
    const char *sep = "";
    fprintf(f, ", \"values\": {");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (!w->diverged && isnan(all[i].s->v[0])) continue;
        fprintf(f, "%s\"%s\": [", sep, all[i].name), sep = ", ";
        for (int k = 0; k < b->n_seeds; k++) {
            if (isfinite(all[i].s->v[k])) fprintf(f, "%s%.9g", k ? ", " : "", all[i].s->v[k]);
            else fprintf(f, "%snull", k ? ", " : "");
        }
        fprintf(f, "]");
    }
    fprintf(f, "}");
}

/* The axes of a sweep with their labels, for plots. */
static void print_axes(FILE *f, const qt_yaml *sweep)
{
    if (sweep) fprintf(f, ",\n \"axes\": [");
    for (int k = 0; sweep && k < sweep->n; k++) {
        fprintf(f, "%s{\"axis\": ", k ? ", " : ""), print_string(f, sweep->key[k]), fprintf(f, ", \"labels\": [");
        for (int i = 0; i < sweep->item[k]->n; i++) fprintf(f, "%s", i ? ", " : ""), print_string(f, sweep->item[k]->key[i]);
        fprintf(f, "]}");
    }
    if (sweep) fprintf(f, "]");
}

static void print_point(FILE *f, const qt_yaml *sweep, const char *arm)
{
    const char *label[QT_MAX_AXES];
    if (!qt_sweep_point(sweep, arm, label)) return;
    fprintf(f, ", \"point\": [");
    for (int k = 0; k < sweep->n; k++) fprintf(f, "%s", k ? ", " : ""), print_string(f, label[k]);
    fprintf(f, "]");
}

static void print_json(FILE *f, const bench *b, const row *rows, const qt_verdict *v, int n, const char *verdict)
{
    fprintf(f, "{\"recipe\": "), print_string(f, b->recipe->name), fprintf(f, ", \"seeds\": [");
    for (int k = 0; k < b->n_seeds; k++) fprintf(f, "%s%lld", k ? ", " : "", (long long)b->seed[k]);
    fprintf(f, "]"), print_origin(f, b), print_axes(f, b->recipe->sweep);
    fprintf(f, ",\n \"arms\": [");
    for (int i = 0; i < b->n_arms; i++) {
        const row *w = &rows[i];
        fprintf(f, "%s{\"arm\": ", i ? ",\n  " : ""), print_string(f, arm_name(b, i)), print_point(f, b->recipe->sweep, arm_name(b, i));
        if (w->classes) print_number(f, "accuracy", qt_sample_mean(&w->accuracy)), print_number(f, "accuracy_sd", qt_sample_sd(&w->accuracy));
        if (w->tokens) print_number(f, "perplexity", qt_sample_mean(&w->perplexity));
        print_number(f, "loss", qt_sample_mean(&w->loss)), print_number(f, "bits_per_weight", qt_sample_mean(&w->bits)),
            print_number(f, "bytes", qt_sample_mean(&w->bytes));
        print_number(f, "cost", qt_sample_mean(&w->cost)), print_number(f, "cost_linear", qt_sample_mean(&w->cost_linear));
        print_number(f, "seconds", qt_sample_mean(&w->seconds)), print_number(f, w->tokens ? "tokens_per_s" : "samples_per_s", qt_sample_mean(&w->rate));
        fprintf(f, ", \"diverged\": %s", w->diverged ? "true" : "false"), print_values(f, b, w), fprintf(f, "}");
    }
    fprintf(f, "],\n \"claims\": [");
    for (int i = 0; i < n; i++) {
        fprintf(f, "%s{\"say\": ", i ? ",\n  " : ""), print_string(f, qt_claim_say(b->recipe, i));
        fprintf(f, ", \"verdict\": \"%s\", \"numbers\": ", word(b, &v[i])), print_string(f, v[i].text), fprintf(f, "}");
    }
    fprintf(f, "],\n \"verdict\": \"%s\"}\n", verdict);
}

static void print_claims(FILE *f, const bench *b, const qt_verdict *v, int n)
{
    for (int i = 0; i < n; i++)
        fprintf(f, "- %s  %s: %s\n", word(b, &v[i]), qt_claim_say(b->recipe, i), v[i].text);
}

typedef void (*writer)(FILE *f, const bench *b, const row *rows, const qt_verdict *v, int n, const char *verdict);

static void print_all(FILE *f, const bench *b, const row *rows, const qt_verdict *v, int n, const char *verdict)
{
    const qt_yaml *want = qt_yaml_get(b->recipe->data, "use"), *got = qt_yaml_get(b->recipe->fallback, "use");
    print_table(f, b, rows);
    fputc('\n', f);
    if (b->scores) fputs(b->scores, f);
    print_claims(f, b, v, n);
    if (b->fallback) fprintf(f, "\nTrained on '%s' because '%s' could not be had: the claims are not judged.\n", got->text, want->text);
    fprintf(f, "%sverdict: %s\n", n ? "\n" : "", verdict);
}

static void print_md(FILE *f, const bench *b, const row *rows, const qt_verdict *v, int n, const char *verdict)
{
    fprintf(f, "# %s\n\nMade by `qtape reproduce %s`, seeds", b->recipe->name, b->recipe->file);
    for (int k = 0; k < b->n_seeds; k++) fprintf(f, "%s%lld", k ? ", " : " ", (long long)b->seed[k]);
    fprintf(f, ".\n\n");
    print_all(f, b, rows, v, n, verdict);
}

static qt_err write_file(const bench *b, const char *name, writer w, const row *rows, const qt_verdict *v, int n, const char *verdict)
{
    char  *text = NULL, path[4096];
    size_t size = 0;
    FILE  *f = open_memstream(&text, &size);
    if (!f) return qt_fail(QT_EMEM, "out of memory");
    w(f, b, rows, v, n, verdict);
    QT_TRY(qt_stream_close(QT_OK, f, &text));
    snprintf(path, sizeof path, "%s/%s", b->root, name);
    qt_err e = qt_file_write(path, text, size);
    free(text);
    return e;
}

static qt_err score(bench *b)
{
    size_t n;
    FILE  *f = b->recipe->scores ? open_memstream(&b->scores, &n) : NULL;
    if (!f) return b->recipe->scores ? qt_fail(QT_EMEM, "out of memory") : QT_OK;
    qt_err e = qt_scores_print(f, b->recipe, lookup, b);
    return qt_stream_close(e, f, &b->scores);
}

static qt_err judge(bench *b, FILE *out)
{
    int         n = b->recipe->claims ? b->recipe->claims->n : 0, failed = 0;
    qt_verdict *v = qt_arena_zalloc(b->arena, (size_t)(n + 1) * sizeof *v);
    row        *rows = qt_arena_zalloc(b->arena, (size_t)b->n_arms * sizeof *rows);
    const char *verdict;
    if (!v || !rows) return QT_EMEM;
    QT_TRY(find_fallback(b));
    for (int i = 0; i < b->n_arms; i++) QT_TRY(read_row(b, i, &rows[i]));
    for (int i = 0; i < n; failed += !v[i++].pass) QT_TRY(qt_claim_judge(b->recipe, i, lookup, b, &v[i]));
    QT_TRY(score(b));
    verdict = !n ? "no claims" : b->fallback ? "SKIP" : failed ? "FAIL" : "PASS";
    print_all(out, b, rows, v, n, verdict);
    QT_TRY(write_file(b, "results.json", print_json, rows, v, n, verdict));
    QT_TRY(write_file(b, "results.md", print_md, rows, v, n, verdict));
    QT_CHECK(!failed || b->fallback, QT_ECLAIM, "%s: %d of %d claims failed", b->recipe->name, failed, n);
    return QT_OK;
}

/* ---- one recipe, or all ---------------------------------------------------------------------------------------------------- */

static void announce(const bench *b, int arm, int seed)
{
    bool done = qt_file_exists(qt_arena_sprintf(b->arena, "%s/DONE", run_dir(b, arm, seed)));
    if (b->o->progress == QT_PROGRESS_LINES || b->o->progress == QT_PROGRESS_LIVE)
        fprintf(stderr, "%s: arm %s, seed %lld (%d of %d)%s\n", b->recipe->name, arm_name(b, arm), (long long)b->seed[seed],
                arm * b->n_seeds + seed + 1, b->n_arms * b->n_seeds, done ? " is done" : "");
}

static qt_err reproduce(qt_arena *a, const char *file, const qt_reproduce_opts *o, const char *root, FILE *out)
{
    bench *b = qt_arena_zalloc(a, sizeof *b);
    if (!b) return QT_EMEM;
    b->arena = a, b->o = o;
    QT_TRY(qt_recipe_load(a, file, 0, NULL, NULL, &b->recipe));
    QT_TRY(qt_recipe_limit(b->recipe, o->n_seeds, o->max_runs ? o->max_runs : QT_MAX_RUNS));
    b->root = root ? root : qt_arena_sprintf(a, "runs/%s", b->recipe->name);
    b->n_seeds = o->n_seeds ? o->n_seeds : qt_recipe_seeds(b->recipe, b->seed);
    if (o->n_seeds) memcpy(b->seed, o->seeds, (size_t)o->n_seeds * sizeof *o->seeds);
    if (!b->root) return QT_EMEM;
    QT_TRY(order_arms(b));
    for (int i = 0; i < b->n_arms; i++)
        for (int k = 0; k < b->n_seeds; k++) {
            announce(b, i, k);
            QT_TRY(run_one(b, i, k));
        }
    qt_err e = judge(b, out);
    free(b->scores);
    return e;
}

static bool has_tag(const char *file, const char *tag)
{
    qt_arena a = {0};
    qt_yaml *y = NULL;
    bool     has = !tag;
    if (tag && qt_recipe_tree(&a, file, (qt_sets){0}, NULL, &y) == QT_OK) {
        const qt_yaml *tags = qt_yaml_get(y, "tags");
        for (int i = 0; tags && i < tags->n; i++) has |= tags->item[i]->text && !strcmp(tags->item[i]->text, tag);
    }
    qt_arena_free(&a);
    return has;
}

static qt_err reproduce_one(const char *file, const qt_reproduce_opts *o, const char *root, FILE *out)
{
    qt_arena    a = {0};
    const char *found;
    qt_err      e = find_recipe(&a, file, &found);
    if (e == QT_OK) e = reproduce(&a, found, o, root, out);
    qt_arena_free(&a);
    return e;
}

/* Goes on after a claim that failed, stops at anything else. */
static qt_err reproduce_all(const qt_reproduce_opts *o, FILE *out)
{
    const char *folder[3];
    glob_t      g = {0};
    qt_err      first = QT_OK, e = QT_OK;
    int         n = recipe_folders(folder), count = 0;
    for (int i = 0; i < n && !g.gl_pathc; i++) globfree(&g), list_folder(folder[i], &g);
    for (size_t i = 0; i < g.gl_pathc && (e == QT_OK || e == QT_ECLAIM); i++) {
        char        root[4096];
        const char *slash = strrchr(g.gl_pathv[i], '/');
        if (!has_tag(g.gl_pathv[i], o->tag)) continue;
        if (o->run_root) snprintf(root, sizeof root, "%s/%.*s", o->run_root, (int)strlen(slash + 1) - 5, slash + 1);
        fprintf(out, "%s== %s\n", count++ ? "\n" : "", g.gl_pathv[i]);
        e = reproduce_one(g.gl_pathv[i], o, o->run_root ? root : NULL, out);
        if (first == QT_OK) first = e;
    }
    globfree(&g);
    QT_CHECK(count, QT_EUSAGE, "no recipe below recipes/%s%s", o->tag ? " has the tag " : "", o->tag ? o->tag : "");
    return e == QT_OK || e == QT_ECLAIM ? first : e;
}

qt_err qt_reproduce(const char *recipe, const qt_reproduce_opts *o, FILE *out)
{
    return strcmp(recipe, "all") ? reproduce_one(recipe, o, o->run_root, out) : reproduce_all(o, out);
}
