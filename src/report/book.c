/* Finding and reading runs: see book.h. */
#include "report/book.h"
#include "base/files.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_SEEDS = 64 };

/* ---- notes -------------------------------------------------------------------------------------------------------------------------- */

void qt_note(qt_arena *a, qt_notes *n, const char *fmt, ...)
{
    char    text[1024];
    va_list ap;
    if (n->n == QT_NOTES) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *kept = n->n < QT_NOTES - 1 ? qt_arena_strdup(a, text) : "... and more of this kind";
    if (kept) n->text[n->n++] = kept;
}

void qt_note_errors(qt_arena *a, qt_notes *n, const char *what)
{
    char *why = qt_error_take();
    if (why) qt_note(a, n, "%s%s%.*s", what ? what : "", what ? ": " : "", (int)strcspn(why, "\n"), why);
    qt_free(why);
}

/* ---- members of a map ---------------------------------------------------------------------------------------------------------------- */

const char *qt_text_of(const qt_yaml *map, const char *key, const char *otherwise)
{
    const qt_yaml *y = qt_yaml_get(map, key);
    return y && y->kind == QT_YAML_SCALAR ? y->text : otherwise;
}

double qt_number_of(const qt_yaml *map, const char *key)
{
    double v;
    return qt_yaml_real(qt_yaml_get(map, key), &v) ? v : NAN;
}

/* ---- files of a folder --------------------------------------------------------------------------------------------------------------- */

static bool is_folder(const char *dir)
{
    struct stat st;
    return stat(dir, &st) == 0 && S_ISDIR(st.st_mode);
}

static const char *in(qt_arena *a, const char *dir, const char *name)
{
    const char *file = qt_arena_sprintf(a, "%s/%s", dir, name);
    return file ? file : "";
}

static bool has(qt_arena *a, const char *dir, const char *name) { return qt_file_exists(in(a, dir, name)); }

/* A YAML or JSON file as a tree: NULL if there is none, NULL and a note if it is damaged. */
static const qt_yaml *read_tree(qt_arena *a, const char *file, qt_notes *notes)
{
    qt_yaml *y = NULL;
    if (!qt_file_exists(file)) return NULL;
    if (qt_yaml_load(a, file, &y) != QT_OK || !y || y->kind != QT_YAML_MAP) {
        if (!qt_error_count()) qt_fail(QT_EDATA, "empty, or not what it should be");
        qt_note_errors(a, notes, file);
        return NULL;
    }
    return y;
}

const qt_yaml *qt_results_read(qt_arena *a, const char *dir, qt_notes *n) { return read_tree(a, in(a, dir, "results.json"), n); }

static bool is_run(qt_arena *a, const char *dir) { return has(a, dir, "metrics.jsonl") || has(a, dir, "resolved.yaml") || has(a, dir, "ckpt/last.h5"); }

/* ---- one run ------------------------------------------------------------------------------------------------------------------------- */

/* "ARM-sSEED" in two; false if the name is no such. */
static bool split_name(qt_arena *a, const char *dir, const char **arm, int64_t *seed)
{
    const char *slash = strrchr(dir, '/'), *name = slash ? slash + 1 : dir, *dash = NULL;
    for (const char *s = name; (s = strstr(s, "-s")); s += 2) dash = s;
    size_t digits = dash ? strspn(dash + 2, "0123456789") : 0;
    if (!dash || dash == name || !digits || digits > 18 || dash[2 + digits]) return *arm = name, false;
    *arm = qt_arena_sprintf(a, "%.*s", (int)(dash - name), name), *seed = strtoll(dash + 2, NULL, 10);
    return *arm != NULL;
}

static qt_err read_trial(qt_book *b, qt_chapter *c, qt_trial *t)
{
    const char *file = in(&b->arena, t->dir, "metrics.jsonl");
    t->done = has(&b->arena, t->dir, "DONE");
    t->resolved = read_tree(&b->arena, in(&b->arena, t->dir, "resolved.yaml"), &c->notes);
    t->env = read_tree(&b->arena, in(&b->arena, t->dir, "env.json"), &c->notes);
    t->log.step = -1;
    if (!qt_file_exists(file)) qt_note(&b->arena, &c->notes, "%s: no metrics.jsonl, so nothing was measured", t->dir);
    else {
        qt_err e = qt_events_read(&b->arena, file, &t->log);
        if (e == QT_EMEM) return e;
        if (e) qt_note_errors(&b->arena, &c->notes, "metrics");
    }
    if (t->log.bad)
        qt_note(&b->arena, &c->notes, "%s: %lld of %lld lines are no events, the first of them line %lld; passed over", file, (long long)t->log.bad,
                (long long)t->log.lines, (long long)t->log.first_bad);
    if (!t->done && t->log.step >= 0) qt_note(&b->arena, &c->notes, "%s: not finished, it stands at step %.0f", t->dir, t->log.step);
    else if (!t->done) qt_note(&b->arena, &c->notes, "%s: not finished", t->dir);
    return QT_OK;
}

static qt_arm *arm_of(qt_chapter *c, const char *name)
{
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->arm[i].name, name)) return &c->arm[i];
    return NULL;
}

/* Arrays of a book are in the arena: twice as large when full. */
static qt_err grow(qt_arena *a, void *array, int *cap, int n, size_t size)
{
    void **p = array, *old = *p;
    if (n < *cap) return QT_OK;
    *cap = *cap ? 2 * *cap : 8;
    if (!(*p = qt_arena_zalloc(a, (size_t)*cap * size))) return QT_EMEM;
    if (n) memcpy(*p, old, (size_t)n * size);
    return QT_OK;
}

static qt_err add_arm(qt_book *b, qt_chapter *c, const char *name, qt_arm **out)
{
    if ((*out = arm_of(c, name))) return QT_OK;
    QT_TRY(grow(&b->arena, &c->arm, &c->cap, c->n, sizeof *c->arm));
    *out = &c->arm[c->n++], (*out)->name = name;
    return QT_OK;
}

static qt_err add_trial(qt_book *b, qt_chapter *c, const char *dir)
{
    const char *name;
    int64_t     seed = 0;
    qt_arm     *arm;
    qt_trial    t = {.dir = dir};
    bool        named = split_name(&b->arena, dir, &name, &seed);
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->arm[i].n; k++)
            if (!strcmp(c->arm[i].trial[k].dir, dir)) return QT_OK; /* given twice */
    QT_TRY(read_trial(b, c, &t));
    if (!named) qt_yaml_int(qt_yaml_get(t.resolved, "seed"), &seed);
    t.seed = seed;
    QT_TRY(add_arm(b, c, name, &arm));
    QT_TRY(grow(&b->arena, &arm->trial, &arm->cap, arm->n, sizeof *arm->trial));
    int i = arm->n++;
    for (; i > 0 && arm->trial[i - 1].seed > seed; i--) arm->trial[i] = arm->trial[i - 1];
    arm->trial[i] = t;
    return QT_OK;
}

/* ---- one chapter --------------------------------------------------------------------------------------------------------------------- */

/* The run directories below a root, in the order of their names. */
static int runs_below(qt_arena *a, const char *dir, const char ***out)
{
    struct dirent **e = NULL;
    const char     *arm;
    int64_t         seed;
    int             n = scandir(dir, &e, NULL, alphasort), count = 0;
    *out = qt_arena_zalloc(a, (size_t)(n > 0 ? n : 0) * sizeof **out + 1);
    for (int i = 0; i < n; i++) {
        const char *sub = in(a, dir, e[i]->d_name);
        if (*out && is_folder(sub) && split_name(a, sub, &arm, &seed)) (*out)[count++] = sub;
        free(e[i]);
    }
    free(e);
    return *out ? count : 0;
}

/* Arms in the order in which the results, or else the recipe, name them. */
static qt_err expect_arms(qt_book *b, qt_chapter *c)
{
    const qt_yaml *arms = qt_yaml_get(c->results, "arms");
    qt_arm        *arm;
    for (int i = 0; arms && arms->kind == QT_YAML_LIST && i < arms->n; i++) {
        const char *name = qt_text_of(arms->item[i], "arm", NULL);
        if (!name) continue;
        QT_TRY(add_arm(b, c, name, &arm));
        arm->diverged = !strcmp(qt_text_of(arms->item[i], "diverged", ""), "true");
    }
    arms = qt_yaml_get(c->recipe, "arms");
    for (int i = 0; !c->results && arms && arms->kind == QT_YAML_MAP && i < arms->n; i++) QT_TRY(add_arm(b, c, arms->key[i], &arm));
    return QT_OK;
}

/* Runs that the results or the recipe speak of, and that are not there. */
static void note_missing(qt_book *b, qt_chapter *c)
{
    const qt_yaml *seeds = qt_yaml_get(c->results ? c->results : c->recipe, "seeds");
    int            n = seeds && seeds->kind == QT_YAML_LIST ? seeds->n : 0;
    for (int i = 0; i < c->n; i++) {
        char    gone[256] = "";
        int64_t want;
        for (int k = 0; k < n; k++) {
            bool   there = !qt_yaml_int(seeds->item[k], &want);
            size_t used = strlen(gone);
            for (int j = 0; j < c->arm[i].n; j++) there |= c->arm[i].trial[j].seed == want;
            if (!there) snprintf(gone + used, sizeof gone - used, "%s%lld", used ? ", " : "", (long long)want);
        }
        if (*gone) qt_note(&b->arena, &c->notes, "%s: arm %s has no run of seed %s", c->dir, c->arm[i].name, gone);
    }
    if (c->root && !c->results) qt_note(&b->arena, &c->notes, "%s: no results.json, so claims have not been judged; `qtape reproduce` goes on with it", c->dir);
}

static void choose_metric(qt_chapter *c)
{
    static const char *const order[] = {"accuracy", "perplexity", "loss"};
    const qt_yaml           *arms = qt_yaml_get(c->results, "arms");
    for (int m = 0; m < 3; m++) {
        c->metric = order[m];
        for (int i = 0; arms && arms->kind == QT_YAML_LIST && i < arms->n; i++)
            if (qt_yaml_get(arms->item[i], order[m])) return;
        for (int i = 0; i < c->n; i++)
            for (int k = 0; k < c->arm[i].n; k++)
                if (!isnan(qt_trial_value(&c->arm[i].trial[k], order[m]))) return;
    }
}

static void choose_name(qt_chapter *c)
{
    const char *slash = strrchr(c->dir, '/'), *given = NULL;
    for (int i = 0; i < c->n && !given; i++)
        for (int k = 0; k < c->arm[i].n && !given; k++) given = qt_text_of(c->arm[i].trial[k].resolved, "name", NULL);
    c->name = qt_text_of(c->results, "recipe", given ? given : slash ? slash + 1 : c->dir);
}

static qt_err add_root(qt_book *b, const char *dir, int n, const char *const *run)
{
    QT_TRY(grow(&b->arena, &b->chapter, &b->cap, b->n, sizeof *b->chapter));
    qt_chapter *c = &b->chapter[b->n++];
    *c = (qt_chapter){.dir = dir, .root = true};
    c->results = qt_results_read(&b->arena, dir, &c->notes);
    for (int i = 0; i < n && !c->recipe; i++) c->recipe = read_tree(&b->arena, in(&b->arena, run[i], "recipe.yaml"), &c->notes);
    QT_TRY(expect_arms(b, c));
    for (int i = 0; i < n; i++) QT_TRY(add_trial(b, c, run[i]));
    note_missing(b, c);
    choose_metric(c), choose_name(c);
    return QT_OK;
}

/* Run directories that were given by themselves: those of one folder are one chapter. */
static qt_err add_run(qt_book *b, const char *dir)
{
    const char *slash = strrchr(dir, '/'), *parent = slash ? qt_arena_sprintf(&b->arena, "%.*s", (int)(slash - dir), dir) : ".";
    qt_chapter *c = NULL;
    if (!parent) return QT_EMEM;
    for (int i = 0; i < b->n && !c; i++)
        if (!b->chapter[i].root && !strcmp(b->chapter[i].dir, parent)) c = &b->chapter[i];
    if (!c) {
        QT_TRY(grow(&b->arena, &b->chapter, &b->cap, b->n, sizeof *b->chapter));
        c = &b->chapter[b->n++], *c = (qt_chapter){.dir = parent};
    }
    QT_TRY(add_trial(b, c, dir));
    choose_metric(c), choose_name(c);
    return QT_OK;
}

/* ---- folders as they are given -------------------------------------------------------------------------------------------------------- */

static qt_err add(qt_book *b, const char *dir, bool below)
{
    const char    **run;
    struct dirent **e = NULL;
    int             before = b->n, n;
    qt_err          err = QT_OK;
    if (is_run(&b->arena, dir)) return add_run(b, dir);
    n = runs_below(&b->arena, dir, &run);
    if (n || has(&b->arena, dir, "results.json")) return add_root(b, dir, n, run);
    n = below ? scandir(dir, &e, NULL, alphasort) : 0; /* the root of `reproduce all` */
    for (int i = 0; i < n; i++) {
        const char *sub = in(&b->arena, dir, e[i]->d_name);
        if (*e[i]->d_name != '.' && is_folder(sub) && err == QT_OK && !is_run(&b->arena, sub)) err = add(b, sub, false);
        free(e[i]);
    }
    free(e);
    if (err == QT_OK && below && b->n == before) return qt_fail(QT_EIO, "%s: nothing of a run in it: neither metrics.jsonl nor ARM-sSEED folders", dir);
    return err;
}

static qt_err open_one(qt_book *b, const char *dir)
{
    char  *own = qt_arena_strdup(&b->arena, dir);
    size_t n = own ? strlen(own) : 0;
    if (!own) return QT_EMEM;
    while (n > 1 && own[n - 1] == '/') own[--n] = 0;
    QT_CHECK(is_folder(own), QT_EIO, "%s: %s", own, qt_file_exists(own) ? "is no folder" : strerror(ENOENT));
    return add(b, own, true);
}

qt_err qt_book_open(qt_book *b, int n, const char *const *dir)
{
    qt_notes left_out = {0};
    *b = (qt_book){0};
    for (int i = 0; i < n; i++) {
        qt_err e = open_one(b, dir[i]);
        if (e == QT_EMEM) return e;
        if (e) qt_note_errors(&b->arena, &left_out, NULL);
    }
    for (int i = 0; i < left_out.n; i++)
        if (b->n) qt_note(&b->arena, &b->chapter[0].notes, "left out: %s", left_out.text[i]);
        else qt_fail(QT_EIO, "%s", left_out.text[i]);
    return b->n ? QT_OK : QT_EIO;
}

void qt_book_free(qt_book *b) { qt_arena_free(&b->arena); }

/* ---- numbers of runs ------------------------------------------------------------------------------------------------------------------ */

double qt_trial_value(const qt_trial *t, const char *metric)
{
    double v = qt_events_last(&t->log, "final", NULL, metric);
    return isnan(v) ? qt_events_last(&t->log, "eval", NULL, metric) : v;
}

int qt_arm_values(const qt_arm *a, const char *metric, double v[64])
{
    int n = 0;
    for (int k = 0; k < a->n && n < MAX_SEEDS; k++)
        if (isfinite(v[n] = qt_trial_value(&a->trial[k], metric))) n++;
    return n;
}

double qt_mean_of(int n, const double *v)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += v[i];
    return n ? sum / n : NAN;
}

double qt_deviation_of(int n, const double *v)
{
    double mean = qt_mean_of(n, v), sum = 0;
    for (int i = 0; i < n; i++) sum += (v[i] - mean) * (v[i] - mean);
    return n > 1 ? sqrt(sum / (n - 1)) : 0;
}

const char *qt_metric_text(const char *metric, double v, char buf[static 32])
{
    if (isnan(v)) snprintf(buf, 32, "\u2013");
    else if (!strcmp(metric, "accuracy")) snprintf(buf, 32, "%.2f %%", 100 * v);
    else snprintf(buf, 32, "%.5g", v);
    return buf;
}
