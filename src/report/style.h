/* The style sheets: of plots, which files of their own carry too, and of pages. */
#ifndef QT_REPORT_STYLE_H
#define QT_REPORT_STYLE_H
extern const char qt_style_plot[], qt_style_page[];
#endif
