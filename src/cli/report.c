/* qtape report: runs as one page for people. */
#include "cli/command.h"
#include "report/report.h"

static const qt_option options[] = {{"output", 'o', "FILE", "the page (default: DIR/report.html of a single DIR)"},
                                    {"gallery", 0, "DIR", "make the gallery of the results in DIR/papers instead; roots that are given are taken into it"},
                                    {0}};

static qt_err run(const qt_args *a)
{
    const qt_command *c = &qt_command_report;
    const char       *out = qt_arg(c, a, "output");
    const char       *gallery = qt_arg(c, a, "gallery");
    char              file[4096];
    if (gallery) {
        QT_CHECK(!out, QT_EUSAGE, "report: a gallery has its place, %s/index.html, and takes no -o", gallery);
        QT_TRY(qt_gallery_write(gallery, a->n, a->word));
        return printf("%s/index.html\n", gallery), QT_OK;
    }
    QT_CHECK(a->n, QT_EUSAGE, "report: a folder is missing: a run directory, or the root of a `qtape reproduce`");
    QT_CHECK(out || a->n == 1, QT_EUSAGE, "report: several folders, and so no place of its own for the page; say one with -o FILE");
    snprintf(file, sizeof file, "%s/report.html", a->word[0]);
    QT_TRY(qt_report_write(a->n, a->word, out ? out : file));
    puts(out ? out : file);
    return QT_OK;
}

const qt_command qt_command_report = {
    {"report", "make a page of runs: verdict, tables, curves, weights on their grids"},
    "DIR ... [-o FILE] | --gallery DIR [ROOT ...]",
    "Each DIR is a run directory, or the root of a `qtape reproduce` with results.json and ARM-sSEED folders. The page is one HTML\n"
    "file without scripts that loads nothing: verdict of each claim, arms and seeds with mean and deviation, what quality costs in bytes,\n"
    "curves of loss and accuracy, what phases measured, scale, clipping, zeros and flips of each quantizer, bits and bytes of each layer and\n"
    "its weights on their grid, environment and command. Runs that are not finished, or damaged, are shown as far as they go, and the\n"
    "page says what is missing. Prints the path of the page.\n\n"
    "A gallery has a card for each DIR/papers/NAME/results.json: verdict, claims, a picture of the arms. It is DIR/index.html, and DIR/README.md\n"
    "for places that show Markdown. Results of the ROOTs are copied into it first.\n\n"
    "  qtape report runs/quickstart\n"
    "  qtape report runs/quickstart/ternary-s1 runs/quickstart/fp32-s1 -o two.html\n"
    "  qtape report --gallery docs/results runs/lsq",
    options, 0, -1, run};
