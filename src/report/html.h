/* Text and numbers on a page. */
#ifndef QT_REPORT_HTML_H
#define QT_REPORT_HTML_H
#include <stdbool.h>
#include <stdio.h>

/* Escaped for text and for attributes in double quotes, of HTML and XML alike; what is no UTF-8, or no character of XML, as U+FFFD. */
void qt_html_text(FILE *f, const char *s);
/* The same, formatted. Up to 2000 bytes. */
void qt_html_printf(FILE *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Head of a page with the style sheet; ends within <main>. */
void qt_html_begin(FILE *f, const char *title);
void qt_html_end(FILE *f);
/* "PASS", "FAIL", "SKIP" or another word as a badge. */
void qt_html_badge(FILE *f, const char *verdict);

/* 12, 3.4k, 1.2M */
const char *qt_si(double v, char buf[static 32]);
/* 512 B, 3.4 kB, 1.2 MB; thousands */
const char *qt_si_bytes(double v, char buf[static 32]);
#endif
