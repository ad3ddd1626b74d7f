/* First and last: title, verdict, claims, notes; environment and command. */
#include "report/html.h"
#include "report/sections.h"
#include <math.h>
#include <string.h>

/* ---- the verdict ---------------------------------------------------------------------------------------------------------------------- */

static void put_claims(FILE *f, const qt_yaml *claims)
{
    if (!claims || claims->kind != QT_YAML_LIST || !claims->n) return;
    fputs("<ul class=\"claims\">\n", f);
    for (int i = 0; i < claims->n; i++) {
        fputs("<li>", f);
        qt_html_badge(f, qt_text_of(claims->item[i], "verdict", "?"));
        fputs("<div>", f), qt_html_text(f, qt_text_of(claims->item[i], "say", ""));
        fputs("<div class=\"numbers\">", f), qt_html_text(f, qt_text_of(claims->item[i], "numbers", "")), fputs("</div></div></li>\n", f);
    }
    fputs("</ul>\n", f);
}

static void put_notes(FILE *f, const qt_notes *n)
{
    if (!n->n) return;
    fputs("<div class=\"notes\"><strong>Missing or not as expected</strong>\n<ul>\n", f);
    for (int i = 0; i < n->n; i++) fputs("<li>", f), qt_html_text(f, n->text[i]), fputs("</li>\n", f);
    fputs("</ul></div>\n", f);
}

static int runs(const qt_chapter *c, bool done)
{
    int n = 0;
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->arm[i].n; k++) n += c->arm[i].trial[k].done || !done;
    return n;
}

void qt_section_verdict(FILE *f, const qt_chapter *c)
{
    const char *doc = qt_text_of(c->results, "doc", qt_text_of(c->recipe, "doc", NULL)), *verdict = qt_text_of(c->results, "verdict", NULL);
    fputs("<header>\n<div class=\"top\"><h1>", f), qt_html_text(f, c->name), fputs("</h1>", f);
    qt_html_badge(f, verdict ? verdict : "not judged");
    fputs("</div>\n", f);
    if (doc) fputs("<p>", f), qt_html_text(f, doc), fputs("</p>\n", f);
    fprintf(f, "<p class=\"soft small\">%d arm%s, %d run%s, %d of them finished, in <code>", c->n, c->n == 1 ? "" : "s", runs(c, false),
            runs(c, false) == 1 ? "" : "s", runs(c, true));
    qt_html_text(f, c->dir), fputs("</code></p>\n</header>\n", f);
    put_claims(f, qt_yaml_get(c->results, "claims"));
    put_notes(f, &c->notes);
}

/* ---- where it comes from -------------------------------------------------------------------------------------------------------------- */

static void put_command(FILE *f, const qt_chapter *c)
{
    const qt_yaml *seeds = qt_yaml_get(c->results, "seeds");
    fputs("<pre>", f);
    if (c->results) {
        fputs("qtape reproduce ", f), qt_html_text(f, qt_text_of(c->results, "file", c->name));
        for (int i = 0; seeds && seeds->kind == QT_YAML_LIST && i < seeds->n; i++)
            fputs(i ? "," : " --seeds ", f), qt_html_text(f, seeds->item[i]->text ? seeds->item[i]->text : "");
        if (seeds && seeds->n == 1) fputs(",", f);
        fputs("\n", f);
    }
    for (int i = 0; !c->results && i < c->n; i++)
        for (int k = 0; k < c->arm[i].n; k++)
            if (c->arm[i].trial[k].resolved) qt_html_printf(f, "qtape train %s/resolved.yaml --run ANOTHER\n", c->arm[i].trial[k].dir);
    fputs("</pre>\n", f);
}

static void put_value(FILE *f, const qt_yaml *y)
{
    if (y->text) qt_html_text(f, y->text);
    for (int i = 0; i < y->n; i++) {
        if (i) fputs(y->kind == QT_YAML_MAP ? "; " : " ", f);
        if (y->kind == QT_YAML_MAP) qt_html_printf(f, "%s ", y->key[i]);
        put_value(f, y->item[i]);
    }
}

static bool same(const qt_yaml *a, const qt_yaml *b)
{
    if (!a || !b || a->kind != b->kind || a->n != b->n || (a->text && strcmp(a->text, b->text))) return false;
    for (int i = 0; i < a->n; i++)
        if (!same(a->item[i], b->item[i])) return false;
    return true;
}

/* Is an entry of the environment the same in all runs? */
static bool agreed(const qt_chapter *c, const char *key, const qt_yaml *value)
{
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->arm[i].n; k++)
            if (c->arm[i].trial[k].env && !same(value, qt_yaml_get(c->arm[i].trial[k].env, key))) return false;
    return true;
}

static const qt_yaml *environment(const qt_chapter *c)
{
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->arm[i].n; k++)
            if (c->arm[i].trial[k].env) return c->arm[i].trial[k].env;
    return qt_yaml_get(c->results, "env");
}

void qt_section_origin(FILE *f, const qt_chapter *c)
{
    const qt_yaml *env = environment(c);
    fputs("<section>\n<h2>How it was made</h2>\n", f);
    put_command(f, c);
    if (env && env->kind == QT_YAML_MAP) {
        fputs("<div class=\"box\"><table><tbody>\n", f);
        for (int i = 0; i < env->n; i++) {
            fputs("<tr><th scope=\"row\">", f), qt_html_text(f, env->key[i]), fputs("</th><td class=\"wrap\">", f);
            put_value(f, env->item[i]);
            fputs(agreed(c, env->key[i], env->item[i]) ? "</td></tr>\n" : " <span class=\"soft\">(not the same in all runs)</span></td></tr>\n", f);
        }
        fputs("</tbody></table></div>\n", f);
    }
    fputs("</section>\n", f);
}
