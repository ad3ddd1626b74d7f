/* Two runs, or two checkpoints, side by side: what differs in the recipes, the final metrics, the first event in which the metrics part, and the
 * tensors of the first step whose checkpoints differ, in the order of the model. Same bits means: all of metrics.jsonl but the timing fields,
 * and every data set of the checkpoints. */
#include "base/files.h"
#include "report/book.h"
#include "report/net.h"
#include "report/report.h"
#include "train/train.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SHOWN = 12, MAX_SHOWN = 1 << 16 };

typedef struct pair {
    qt_arena    arena;
    const char *a, *b;
    FILE       *out;
    bool        differ; /* in more than the recipe and timing */
} pair;

static const char *in(pair *p, const char *dir, const char *name)
{
    const char *file = qt_arena_sprintf(&p->arena, "%s/%s", dir, name);
    return file ? file : "";
}

/* ---- recipes -------------------------------------------------------------------------------------------------------------------------- */

static int differ_below(pair *p, const char *path, const qt_yaml *a, const qt_yaml *b);

static const char *brief(pair *p, const qt_yaml *y)
{
    if (!y) return "-";
    if (y->kind == QT_YAML_SCALAR || y->kind == QT_YAML_NULL) return y->text ? y->text : "~";
    return qt_arena_sprintf(&p->arena, y->kind == QT_YAML_MAP ? "{%d keys}" : "[%d items]", y->n);
}

static int differ_in_map(pair *p, const char *path, const qt_yaml *a, const qt_yaml *b)
{
    int n = 0;
    for (int i = 0; i < a->n; i++)
        n += differ_below(p, qt_arena_sprintf(&p->arena, "%s%s%s", path, *path ? "." : "", a->key[i]), a->item[i], qt_yaml_get(b, a->key[i]));
    for (int i = 0; i < b->n; i++)
        if (!qt_yaml_get(a, b->key[i]))
            n += differ_below(p, qt_arena_sprintf(&p->arena, "%s%s%s", path, *path ? "." : "", b->key[i]), NULL, b->item[i]);
    return n;
}

/* Prints each path whose values are not the same; their number. */
static int differ_below(pair *p, const char *path, const qt_yaml *a, const qt_yaml *b)
{
    int n = 0;
    if (!path) return 1;
    if (a && b && a->kind == QT_YAML_MAP && b->kind == QT_YAML_MAP) return differ_in_map(p, path, a, b);
    if (a && b && a->kind == QT_YAML_LIST && b->kind == QT_YAML_LIST && a->n == b->n) {
        for (int i = 0; i < a->n; i++) n += differ_below(p, qt_arena_sprintf(&p->arena, "%s[%d]", path, i), a->item[i], b->item[i]);
        return n;
    }
    if (a && b && a->kind == b->kind && a->kind != QT_YAML_LIST && !strcmp(a->text ? a->text : "", b->text ? b->text : "")) return 0;
    fprintf(p->out, "  %-40s %s | %s\n", path, brief(p, a), brief(p, b));
    return 1;
}

static qt_err compare_recipes(pair *p)
{
    qt_yaml *a, *b;
    QT_TRY(qt_yaml_load(&p->arena, in(p, p->a, "resolved.yaml"), &a));
    QT_TRY(qt_yaml_load(&p->arena, in(p, p->b, "resolved.yaml"), &b));
    fprintf(p->out, "recipe\n");
    if (!differ_below(p, "", a, b)) fprintf(p->out, "  the same\n");
    return QT_OK;
}

/* ---- metrics -------------------------------------------------------------------------------------------------------------------------- */

static void compare_finals(pair *p, const qt_events *a, const qt_events *b)
{
    bool any = false;
    for (int i = 0; i < a->n; i++) {
        const qt_series *s = a->series[i];
        if (strcmp(s->event, "final")) continue;
        double x = s->value[s->n - 1], y = qt_events_last(b, s->event, s->where, s->key);
        if (!any) fprintf(p->out, "final metrics\n  %-24s %14s %14s %14s\n", "", "A", "B", "B - A");
        any = true;
        if (isnan(y))
            fprintf(p->out, "  %-24s %14.7g %14s\n", s->key, x, "-");
        else
            fprintf(p->out, "  %-24s %14.7g %14.7g %14.4g\n", s->key, x, y, y - x);
    }
    if (!any) fprintf(p->out, "final metrics\n  none: A has not finished\n");
}

/* Length of a line up to its timing fields, which are always last. */
static size_t kept_part(const char *s, size_t n)
{
    static const char timing[] = ", \"seconds\": ";
    const char       *at = memmem(s, n, timing, sizeof timing - 1);
    return at ? (size_t)(at - s) : n;
}

/* The first event that differs, as both have it. */
static void compare_lines(pair *p, const qt_map *a, const qt_map *b)
{
    int64_t line = 1;
    for (size_t i = 0, j = 0; i < a->n || j < b->n; line++) {
        const char *x = (const char *)a->p + (i < a->n ? i : a->n), *y = (const char *)b->p + (j < b->n ? j : b->n), *end;
        size_t      n = i < a->n ? a->n - i : 0, m = j < b->n ? b->n - j : 0;
        if (n && (end = memchr(x, '\n', n))) n = (size_t)(end - x);
        if (m && (end = memchr(y, '\n', m))) m = (size_t)(end - y);
        i += n + 1, j += m + 1;
        n = kept_part(x, n), m = kept_part(y, m);
        if (n == m && !memcmp(x, y, n)) continue;
        p->differ = true;
        n = n < MAX_SHOWN ? n : MAX_SHOWN, m = m < MAX_SHOWN ? m : MAX_SHOWN;
        fprintf(p->out, "metrics differ first in line %lld\n  A %.*s\n  B %.*s\n", (long long)line, n ? (int)n : 7, n ? x : "(ended)", m ? (int)m : 7,
                m ? y : "(ended)");
        return;
    }
    fprintf(p->out, "metrics\n  the same in all %lld lines but for timing\n", (long long)line - 1);
}

static qt_err compare_metrics(pair *p)
{
    const char *fa = in(p, p->a, "metrics.jsonl"), *fb = in(p, p->b, "metrics.jsonl");
    qt_events   a, b;
    qt_map      ma, mb;
    QT_TRY(qt_events_read(&p->arena, fa, &a));
    QT_TRY(qt_events_read(&p->arena, fb, &b));
    compare_finals(p, &a, &b);
    QT_TRY(qt_file_map(fa, &ma));
    qt_err e = qt_file_map(fb, &mb);
    if (e == QT_OK) compare_lines(p, &ma, &mb), qt_file_unmap(&mb);
    qt_file_unmap(&ma);
    return e;
}

/* ---- checkpoints ----------------------------------------------------------------------------------------------------------------------- */

typedef struct sets {
    pair           *p;
    qt_h5          *a, *b;
    const qt_store *order;  /* parameters as the model has them, or NULL */
    bool            params; /* in this pass: those of params/, or all others */
    int             n, differ;
    const char     *worst;
    double          most;
} sets;

static void tell(sets *s, const char *name, const char *what)
{
    s->p->differ = true;
    if (s->differ++ < SHOWN) fprintf(s->p->out, "  %-40s %s\n", name, what);
}

static qt_err compare_values(sets *s, const char *name, int64_t n)
{
    qt_arena arena = {0};
    R       *x = qt_arena_alloc(&arena, (size_t)n * sizeof *x), *y = qt_arena_alloc(&arena, (size_t)n * sizeof *y);
    double   most = 0;
    int64_t  count = 0;
    char     text[128];
    qt_err   e = x && y ? qt_h5_read(s->a, name, n, x) : QT_EMEM;
    if (e == QT_OK) e = qt_h5_read(s->b, name, n, y);
    for (int64_t i = 0; e == QT_OK && i < n; i++) count += memcmp(&x[i], &y[i], sizeof *x) != 0, most = fmax(most, fabs((double)x[i] - (double)y[i]));
    if (count) {
        snprintf(text, sizeof text, "%lld of %lld numbers differ, max |difference| %.6g", (long long)count, (long long)n, most);
        tell(s, name, text);
        if (s->params && most > s->most) s->most = most, s->worst = qt_arena_strdup(&s->p->arena, name);
    }
    qt_arena_free(&arena);
    return e;
}

static qt_err compare_set(void *arg, const char *name, int rank, const int64_t *dim, const char *type)
{
    sets   *s = arg;
    int     other;
    int64_t there[8], n = 1;
    if (!strncmp(name, "params/", 7) != s->params) return QT_OK;
    s->n++;
    if (!qt_h5_has(s->b, name)) return tell(s, name, "only in A"), QT_OK;
    QT_TRY(qt_h5_shape(s->b, name, &other, there));
    if (other != rank || memcmp(dim, there, (size_t)rank * sizeof *dim)) return tell(s, name, "of another shape"), QT_OK;
    for (int i = 0; i < rank; i++) n *= dim[i];
    return strncmp(type, "string", 6) ? compare_values(s, name, n) : QT_OK;
}

static qt_err only_in_b(void *arg, const char *name, int rank, const int64_t *dim, const char *type)
{
    sets *s = arg;
    (void)rank, (void)dim, (void)type;
    if (!strncmp(name, "params/", 7) == s->params && !qt_h5_has(s->a, name)) tell(s, name, "only in B");
    return QT_OK;
}

/* The parameters in the order of the model: what a reader wants to know is the first layer that differs. */
static qt_err compare_in_order(sets *s)
{
    s->params = true;
    for (int i = 0; i < s->order->n; i++) {
        const qt_tensor *t = &s->order->p[i]->t;
        const char      *name = qt_arena_sprintf(&s->p->arena, "params/%s", t->name);
        if (!name) return QT_EMEM;
        if (qt_h5_has(s->a, name)) QT_TRY(compare_set(s, name, t->rank, t->dim, ""));
    }
    return qt_h5_each(s->b, "", only_in_b, s);
}

/* Parameters, then all the rest by name. */
static qt_err compare_sets(sets *s)
{
    if (s->order) QT_TRY(compare_in_order(s));
    for (int pass = s->order ? 1 : 0; pass < 2; pass++) {
        s->params = !pass;
        QT_TRY(qt_h5_each(s->a, "", compare_set, s));
        QT_TRY(qt_h5_each(s->b, "", only_in_b, s));
    }
    return QT_OK;
}

static qt_err compare_checkpoints(pair *p, const qt_store *order, const char *title, const char *a, const char *b)
{
    sets s = {.p = p, .order = order};
    QT_TRY(qt_ckpt_verify(a));
    QT_TRY(qt_ckpt_verify(b));
    QT_TRY(qt_h5_open(a, &s.a));
    qt_err e = qt_h5_open(b, &s.b);
    if (e == QT_OK) {
        fprintf(p->out, "%s\n", title);
        e = compare_sets(&s);
        if (s.differ > SHOWN) fprintf(p->out, "  ... and %d more\n", s.differ - SHOWN);
        if (s.worst) fprintf(p->out, "  the largest difference: %.6g in %s\n", s.most, s.worst);
        if (e == QT_OK && !s.differ) fprintf(p->out, "  the same bits in all %d data sets\n", s.n);
        qt_h5_close(s.b);
    }
    qt_h5_close(s.a);
    return e;
}

/* The step of a sound checkpoint, or -1. */
static int64_t step_of(const char *file)
{
    qt_h5  *f;
    int64_t step = -1;
    if (qt_file_exists(file) && qt_ckpt_verify(file) == QT_OK && qt_h5_open(file, &f) == QT_OK) {
        if (qt_h5_get_int(f, "step", &step) != QT_OK) step = -1;
        qt_h5_close(f);
    }
    qt_error_clear();
    return step;
}

/* Whether the file of both runs is of one step before `before`, and differs; its step. What comparing them would print is dropped. */
static int64_t parts_at(pair *p, const char *name, int64_t before)
{
    pair        quiet = {.a = p->a, .b = p->b, .out = fopen("/dev/null", "w")};
    const char *a = in(&quiet, p->a, name), *b = in(&quiet, p->b, name);
    int64_t     step = step_of(a);
    bool        parts =
        quiet.out && step >= 0 && step < before && step_of(b) == step && compare_checkpoints(&quiet, NULL, "", a, b) == QT_OK && quiet.differ;
    if (quiet.out) fclose(quiet.out);
    qt_arena_free(&quiet.arena), qt_error_clear();
    return parts ? step : before;
}

static int is_checkpoint(const struct dirent *e) { return strlen(e->d_name) > 3 && !strcmp(e->d_name + strlen(e->d_name) - 3, ".h5"); }

/* Of the checkpoints that both runs keep, that of the first step which differs, else the last one. */
static qt_err compare_steps(pair *p)
{
    struct dirent **kept = NULL;
    const char     *first = "ckpt/last.h5", *title = "checkpoints";
    int64_t         step = INT64_MAX;
    int             n = scandir(in(p, p->a, "ckpt"), &kept, is_checkpoint, alphasort);
    for (int i = 0; i < n; free(kept[i++])) {
        const char *name = qt_arena_sprintf(&p->arena, "ckpt/%s", kept[i]->d_name);
        int64_t     at = name ? parts_at(p, name, step) : step;
        if (at < step) step = at, first = name;
    }
    free(kept);
    if (step < INT64_MAX) title = qt_arena_sprintf(&p->arena, "checkpoints differ first at step %lld (%s)", (long long)step, first);
    qt_net net = {0};
    bool   known = qt_net_open(&net, p->a) == QT_OK; /* not where its data are gone: names in their order then */
    if (!known) qt_error_clear();
    qt_err e = title ? compare_checkpoints(p, known ? net.store : NULL, title, in(p, p->a, first), in(p, p->b, first)) : QT_EMEM;
    if (known) qt_net_close(&net);
    return e;
}

/* ---- both ------------------------------------------------------------------------------------------------------------------------------- */

static bool is_folder(const char *file)
{
    struct stat st;
    return stat(file, &st) == 0 && S_ISDIR(st.st_mode);
}

static qt_err compare(pair *p)
{
    bool a = is_folder(p->a), b = is_folder(p->b);
    QT_CHECK(a == b, QT_EUSAGE, "compare: %s is no run directory; give two of them, or two checkpoints", a ? p->b : p->a);
    fprintf(p->out, "A  %s\nB  %s\n", p->a, p->b);
    if (!a) return compare_checkpoints(p, NULL, "checkpoints", p->a, p->b);
    QT_TRY(compare_recipes(p));
    QT_TRY(compare_metrics(p));
    return compare_steps(p);
}

qt_err qt_compare(const char *a, const char *b, bool exact, FILE *out)
{
    pair   p = {.a = a, .b = b, .out = out};
    qt_err e = compare(&p);
    qt_arena_free(&p.arena);
    if (e == QT_OK && exact && p.differ) e = qt_fail(QT_ECLAIM, "%s and %s differ", a, b);
    return e;
}
