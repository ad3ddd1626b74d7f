/* Text and numbers on a page: see html.h. Pages have no script and load nothing. */
#include "report/html.h"
#include "base/utf8.h"
#include "report/style.h"
#include <math.h>
#include <stdarg.h>
#include <string.h>

void qt_html_text(FILE *f, const char *s)
{
    for (size_t left = strlen(s), n; left; s += n, left -= n) {
        n = qt_utf8_char((const uint8_t *)s, left);
        bool control = n == 1 && (unsigned char)*s < 32 && *s != '\n' && *s != '\t';
        if (!n || control) fputs("\xef\xbf\xbd", f), n = 1;
        else if (*s == '<') fputs("&lt;", f);
        else if (*s == '>') fputs("&gt;", f);
        else if (*s == '&') fputs("&amp;", f);
        else if (*s == '"') fputs("&quot;", f);
        else fwrite(s, 1, n, f);
    }
}

void qt_html_printf(FILE *f, const char *fmt, ...)
{
    char    text[2000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    qt_html_text(f, text);
}

void qt_html_begin(FILE *f, const char *title)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<meta name=\"color-scheme\" content=\"light dark\"/>\n<title>", f);
    qt_html_text(f, title);
    fprintf(f, "</title>\n<style>\n%s%s</style>\n</head>\n<body>\n<main>\n", qt_style_plot, qt_style_page);
}

void qt_html_end(FILE *f) { fputs("</main>\n</body>\n</html>\n", f); }

void qt_html_badge(FILE *f, const char *verdict)
{
    const char *kind = !strcmp(verdict, "PASS") ? "pass" : !strcmp(verdict, "FAIL") ? "fail" : "skip";
    const char *mark = *kind == 'p' ? "\u2713 " : *kind == 'f' ? "\u2717 " : "";
    fprintf(f, "<span class=\"badge %s\">%s", kind, mark);
    qt_html_text(f, verdict);
    fputs("</span>", f);
}

static const char *si(double v, const char *const unit[4], char buf[static 32])
{
    int k = 0;
    for (; k < 3 && fabs(v) >= 999.5; k++) v /= 1000;
    snprintf(buf, 32, fabs(v) < 100 ? "%.3g%s" : "%.0f%s", v, unit[k]);
    return buf;
}

const char *qt_si(double v, char buf[static 32]) { return si(v, (const char *const[]){"", "k", "M", "G"}, buf); }
const char *qt_si_bytes(double v, char buf[static 32]) { return si(v, (const char *const[]){" B", " kB", " MB", " GB"}, buf); }
