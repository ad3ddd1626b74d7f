/* A gallery of reproductions from their results alone, so that it can be made anew from what is under version control:
 *     DIR/papers/NAME/results.json, results.md    as `reproduce` wrote them
 *     DIR/papers/NAME/arms.svg                    the picture of its arms
 *     DIR/index.html, DIR/README.md               the cards, and the same as a table for places that show Markdown
 * A page ../papers/NAME.md beside DIR is linked, and its heading is the title. */
#include "base/files.h"
#include "report/book.h"
#include "report/html.h"
#include "report/report.h"
#include "report/sections.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PAPERS = 256, MAX_ARMS = 256, MAX_SEEDS = 64 };
static const char mark[] = "<!-- made by qtape report --gallery -->\n";

typedef struct paper {
    const char    *name, *title, *page; /* page: "../papers/NAME.md", or NULL */
    const qt_yaml *results;
    bool           table;               /* there is a results.md */
    int            claims, passed;
} paper;

typedef struct gallery {
    qt_arena    arena;
    const char *dir;
    int         n;
    paper       paper[MAX_PAPERS];
    qt_notes    notes;
} gallery;

static const char *in(gallery *g, const char *fmt, const char *name)
{
    const char *below = qt_arena_sprintf(&g->arena, fmt, name), *file = below ? qt_arena_sprintf(&g->arena, "%s/%s", g->dir, below) : NULL;
    return file ? file : "";
}

/* ---- taking results in ------------------------------------------------------------------------------------------------------------------ */

static qt_err copy(gallery *g, const char *root, const char *file, const char *name)
{
    char  *text;
    size_t n;
    QT_TRY(qt_file_read(&g->arena, qt_arena_sprintf(&g->arena, "%s/%s", root, file), &text, &n));
    return qt_file_write(qt_arena_sprintf(&g->arena, "%s/papers/%s/%s", g->dir, name, file), text, n);
}

static qt_err take(gallery *g, const char *root)
{
    const qt_yaml *y = qt_results_read(&g->arena, root, &g->notes);
    const char    *name = qt_text_of(y, "recipe", NULL);
    QT_CHECK(name, QT_EIO, "%s: %s", root, g->notes.n ? g->notes.text[0] : "no results.json; only a `reproduce` that has come to its end goes into a gallery");
    QT_CHECK(*name != '.' && !strchr(name, '/'), QT_EDATA, "%s/results.json: '%s' is no name for a folder", root, name);
    QT_TRY(qt_folder_make(in(g, "papers/%s", name)));
    QT_TRY(copy(g, root, "results.json", name));
    return qt_file_exists(qt_arena_sprintf(&g->arena, "%s/results.md", root)) ? copy(g, root, "results.md", name) : QT_OK;
}

/* ---- reading them ----------------------------------------------------------------------------------------------------------------------- */

/* The first heading of a page. */
static const char *heading(gallery *g, const char *file)
{
    char  *text;
    size_t n;
    if (!qt_file_exists(file) || qt_file_read(&g->arena, file, &text, &n) != QT_OK || strncmp(text, "# ", 2)) return qt_error_clear(), NULL;
    return qt_arena_sprintf(&g->arena, "%.*s", (int)strcspn(text + 2, "\n"), text + 2);
}

static void add_paper(gallery *g, const char *name)
{
    paper         *p = &g->paper[g->n];
    const qt_yaml *y = qt_results_read(&g->arena, in(g, "papers/%s", name), &g->notes), *claims = qt_yaml_get(y, "claims");
    const char    *title = heading(g, in(g, "../papers/%s.md", name));
    if (!y) return;
    *p = (paper){.name = qt_arena_strdup(&g->arena, name), .title = title, .results = y, .table = qt_file_exists(in(g, "papers/%s/results.md", name))};
    if (!p->name) return;
    if (title) p->page = qt_arena_sprintf(&g->arena, "../papers/%s.md", name);
    else p->title = p->name;
    for (int i = 0; claims && claims->kind == QT_YAML_LIST && i < claims->n; i++)
        p->claims++, p->passed += !strcmp(qt_text_of(claims->item[i], "verdict", ""), "PASS");
    g->n++;
}

static void find_papers(gallery *g)
{
    struct dirent **e = NULL;
    int             n = scandir(in(g, "%s", "papers"), &e, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (*e[i]->d_name != '.' && g->n < MAX_PAPERS) add_paper(g, e[i]->d_name);
        free(e[i]);
    }
    free(e);
}

/* ---- the picture of the arms ------------------------------------------------------------------------------------------------------------- */

static const char *metric_of(const qt_yaml *arms)
{
    static const char *const order[] = {"accuracy", "perplexity"};
    for (int m = 0; m < 2; m++)
        for (int i = 0; i < arms->n; i++)
            if (qt_yaml_get(arms->item[i], order[m])) return order[m];
    return "loss";
}

/* The values of the seeds, or the mean alone where an older version wrote no more. */
static void values_of(const qt_yaml *arm, const char *metric, double v[MAX_SEEDS])
{
    const qt_yaml *y = qt_yaml_get(qt_yaml_get(arm, "values"), metric);
    for (int k = 0; k < MAX_SEEDS; k++) v[k] = NAN;
    if (!y) v[0] = qt_number_of(arm, metric);
    for (int k = 0; y && y->kind == QT_YAML_LIST && k < y->n && k < MAX_SEEDS; k++)
        if (!qt_yaml_real(y->item[k], &v[k])) v[k] = NAN;
}

static void draw_arms(FILE *f, const paper *p, bool alone)
{
    const qt_yaml *arms = qt_yaml_get(p->results, "arms");
    const char    *name[MAX_ARMS];
    double         v[MAX_ARMS * MAX_SEEDS];
    int            n = 0;
    if (!arms || arms->kind != QT_YAML_LIST) return;
    for (int i = 0; i < arms->n && n < MAX_ARMS; i++) {
        if (!(name[n] = qt_text_of(arms->item[i], "arm", NULL))) continue;
        values_of(arms->item[i], metric_of(arms), v + (ptrdiff_t)MAX_SEEDS * n++);
    }
    if (n) qt_arms_plot(f, metric_of(arms), n, name, MAX_SEEDS, v, alone);
}

/* ---- the page ----------------------------------------------------------------------------------------------------------------------------- */

static int verdicts(const gallery *g, const char *verdict)
{
    int n = 0;
    for (int i = 0; i < g->n; i++) n += !strcmp(qt_text_of(g->paper[i].results, "verdict", ""), verdict);
    return n;
}

static void put_claims(FILE *f, const paper *p)
{
    const qt_yaml *claims = qt_yaml_get(p->results, "claims");
    if (!p->claims) return;
    fprintf(f, "<details%s><summary>%d of %d claims hold</summary>\n<ul class=\"claims\">\n", p->passed < p->claims ? " open=\"open\"" : "", p->passed, p->claims);
    for (int failed = 1; failed >= 0; failed--)
        for (int i = 0; i < claims->n; i++) {
            const char *verdict = qt_text_of(claims->item[i], "verdict", "?");
            if ((strcmp(verdict, "PASS") != 0) != failed) continue;
            fputs("<li>", f), qt_html_badge(f, verdict), fputs("<div>", f), qt_html_text(f, qt_text_of(claims->item[i], "say", ""));
            fputs("<div class=\"numbers\">", f), qt_html_text(f, qt_text_of(claims->item[i], "numbers", "")), fputs("</div></div></li>\n", f);
        }
    fputs("</ul></details>\n", f);
}

static void put_origin(FILE *f, const paper *p)
{
    const qt_yaml *env = qt_yaml_get(p->results, "env"), *seeds = qt_yaml_get(p->results, "seeds");
    fputs("<p class=\"foot soft\">", f);
    if (p->page) fprintf(f, "<a href=\"%s\">the paper's page</a>, ", p->page);
    if (p->table) fprintf(f, "<a href=\"papers/%s/results.md\">the table</a>, ", p->name);
    fprintf(f, "%d seed%s", seeds ? seeds->n : 0, seeds && seeds->n == 1 ? "" : "s");
    if (env) qt_html_printf(f, ", commit %s, %s", qt_text_of(env, "git", "?"), qt_text_of(env, "cpu", "?"));
    fputs("</p>\n", f);
}

static void put_card(FILE *f, const paper *p)
{
    fputs("<section class=\"card\" id=\"", f), qt_html_text(f, p->name), fputs("\">\n<div class=\"top\"><h2>", f), qt_html_text(f, p->title), fputs("</h2>", f);
    qt_html_badge(f, qt_text_of(p->results, "verdict", "?"));
    fputs("</div>\n<p class=\"small\">", f), qt_html_text(f, qt_text_of(p->results, "doc", "")), fputs("</p>\n", f);
    draw_arms(f, p, false);
    put_claims(f, p);
    fputs("<pre>qtape reproduce ", f), qt_html_text(f, qt_text_of(p->results, "file", p->name)), fputs("</pre>\n", f);
    put_origin(f, p);
    fputs("</section>\n", f);
}

static void write_index(FILE *f, const gallery *g)
{
    qt_html_begin(f, "Papers reproduced with qtape");
    fprintf(f, "<h1>Papers reproduced with qtape</h1>\n<p>%d recipe%s: in %d all claims hold, in %d one or more fail, %d are not judged. Dots: means of the arms on test data; lines: "
               "deviation over the seeds.</p>\n", g->n, g->n == 1 ? "" : "s", verdicts(g, "PASS"), verdicts(g, "FAIL"), g->n - verdicts(g, "PASS") - verdicts(g, "FAIL"));
    for (int i = 0; i < g->notes.n; i++) fputs("<div class=\"notes\"><p>", f), qt_html_text(f, g->notes.text[i]), fputs("</p></div>\n", f);
    fputs("<div class=\"cards\">\n", f);
    for (int i = 0; i < g->n; i++) put_card(f, &g->paper[i]);
    fputs("</div>\n", f);
    qt_html_end(f);
}

/* ---- the same as Markdown ------------------------------------------------------------------------------------------------------------------ */

/* In a cell of a table. */
static void put_cell(FILE *f, const char *s)
{
    for (; *s; s++) {
        if (strchr("|<>\\*_`", *s)) fputc('\\', f);
        fputc(*s == '\n' ? ' ' : *s, f);
    }
}

static void write_readme(FILE *f, const gallery *g)
{
    fprintf(f, "%s# Papers reproduced with qtape\n\n%d recipe%s: in %d all claims hold, in %d one or more fail. Dots: means of the arms on test data; lines: deviation over the "
               "seeds. Made from the results in `papers/` by `qtape report --gallery`, as is [the page](index.html).\n\n| verdict | paper | claims | arms |\n"
               "| --- | --- | ---: | --- |\n", mark, g->n, g->n == 1 ? "" : "s", verdicts(g, "PASS"), verdicts(g, "FAIL"));
    for (int i = 0; i < g->n; i++) {
        const paper *p = &g->paper[i];
        fprintf(f, "| **%s** | ", qt_text_of(p->results, "verdict", "?"));
        if (p->page) fputs("[", f), put_cell(f, p->title), fprintf(f, "](%s)", p->page);
        else put_cell(f, p->title);
        fputs("<br>", f), put_cell(f, qt_text_of(p->results, "doc", ""));
        fprintf(f, p->table ? " | [%d of %d](papers/%s/results.md) |" : " | %d of %d |", p->passed, p->claims, p->name);
        fprintf(f, " ![%s](papers/%s/arms.svg) |\n", p->name, p->name);
    }
    fputs("\n", f);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------------------------ */

static qt_err write_one(const char *file, void (*put)(FILE *f, const gallery *g), const gallery *g)
{
    char  *text = NULL;
    size_t n = 0;
    FILE  *f = open_memstream(&text, &n);
    QT_CHECK(f, QT_EMEM, "out of memory");
    put(f, g);
    qt_err e = qt_stream_close(QT_OK, f, &text);
    if (e == QT_OK) e = qt_file_write(file, text, n);
    free(text);
    return e;
}

static qt_err write_picture(gallery *g, const paper *p)
{
    char  *text = NULL;
    size_t n = 0;
    FILE  *f = open_memstream(&text, &n);
    QT_CHECK(f, QT_EMEM, "out of memory");
    draw_arms(f, p, true);
    qt_err e = qt_stream_close(QT_OK, f, &text);
    if (e == QT_OK) e = qt_file_write(in(g, "papers/%s/arms.svg", p->name), text, n);
    free(text);
    return e;
}

/* A README that somebody has written stays. */
static qt_err check_readme(gallery *g, const char *file)
{
    char  *text;
    size_t n;
    if (!qt_file_exists(file)) return QT_OK;
    QT_TRY(qt_file_read(&g->arena, file, &text, &n));
    QT_CHECK(!strncmp(text, mark, sizeof mark - 1), QT_EUSAGE, "%s: was not made by `qtape report --gallery`, and is not overwritten", file);
    return QT_OK;
}

static qt_err write(gallery *g, int n, const char *const *root)
{
    const char *readme = in(g, "%s", "README.md");
    QT_TRY(check_readme(g, readme));
    for (int i = 0; i < n; i++) QT_TRY(take(g, root[i]));
    find_papers(g);
    QT_CHECK(g->n, QT_EIO, "%s: no papers/NAME/results.json in it; give the roots of finished `reproduce` runs", g->dir);
    for (int i = 0; i < g->n; i++) QT_TRY(write_picture(g, &g->paper[i]));
    QT_TRY(write_one(in(g, "%s", "index.html"), write_index, g));
    return write_one(readme, write_readme, g);
}

qt_err qt_gallery_write(const char *dir, int n, const char *const *root)
{
    gallery *g = qt_alloc(sizeof *g);
    if (!g) return QT_EMEM;
    g->dir = dir;
    qt_err e = write(g, n, root);
    qt_arena_free(&g->arena);
    qt_free(g);
    return e;
}
