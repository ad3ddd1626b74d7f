/* The page: one chapter a root of `reproduce`, and in it verdict, results, sweep, curves, quantizers, layers, measurements and origin. The verdict
 * stands on top, and yet lists what the others could not read: it is written last. */
#include "report/report.h"
#include "base/files.h"
#include "report/html.h"
#include "report/sections.h"
#include <stdlib.h>

static qt_err write_chapter(FILE *f, qt_book *b, qt_chapter *c)
{
    char  *text = NULL;
    size_t n = 0;
    FILE  *body = open_memstream(&text, &n);
    QT_CHECK(body, QT_EMEM, "out of memory");
    qt_section_results(body, c);
    qt_section_sweep(body, c);
    qt_section_curves(body, c);
    qt_section_measures(body, c);
    qt_section_quants(body, c);
    qt_section_layers(body, c, &b->arena);
    qt_section_origin(body, c);
    QT_TRY(qt_stream_close(QT_OK, body, &text));
    qt_section_verdict(f, c);
    fwrite(text, 1, n, f);
    free(text);
    return QT_OK;
}

static void write_contents(FILE *f, const qt_book *b)
{
    fputs("<nav>", f);
    for (int i = 0; b->n > 1 && i < b->n; i++) fprintf(f, "<a href=\"#chapter-%d\">", i + 1), qt_html_text(f, b->chapter[i].name), fputs("</a>\n", f);
    fputs("</nav>\n", f);
}

static qt_err write_page(FILE *f, qt_book *b)
{
    qt_html_begin(f, b->n == 1 ? b->chapter[0].name : "qtape report");
    write_contents(f, b);
    for (int i = 0; i < b->n; i++) {
        fprintf(f, "<article id=\"chapter-%d\">\n", i + 1);
        QT_TRY(write_chapter(f, b, &b->chapter[i]));
        fputs("</article>\n", f);
    }
    qt_html_end(f);
    return QT_OK;
}

qt_err qt_report_write(int n, const char *const *dir, const char *file)
{
    qt_book b;
    char   *text = NULL;
    size_t  size = 0;
    qt_err  e = qt_book_open(&b, n, dir);
    FILE   *f = e == QT_OK ? open_memstream(&text, &size) : NULL;
    if (f) e = write_page(f, &b), e = qt_stream_close(e, f, &text);
    else if (e == QT_OK) e = qt_fail(QT_EMEM, "out of memory");
    if (e == QT_OK) e = qt_file_write(file, text, size);
    free(text);
    qt_book_free(&b);
    return e;
}
