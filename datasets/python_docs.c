/* The documentation of Python 3.11: tutorials, reference and library, in reStructuredText.
 * Each file is a document, and the order is that of a hash of their names, so that the test split is a sample of all of them. Debian
 * packages it as python3.11-doc. */
#include "corpus.h"

#define SOURCES "/usr/share/doc/python3.11/html/_sources"

static const qt_field fields[] = {QT_TEXT_FIELDS(qt_text_only), QT_TEXT_TEST(qt_text_only), {NULL}};

static qt_err make(const char *root, const char *scratch, qt_corpus_text *t)
{
    char folder[4096];
    (void)scratch;
    snprintf(folder, sizeof folder, "%s" SOURCES, root);
    return qt_corpus_folder(t, folder, ".rst.txt", NULL);
}

static const char *const package[] = {"python3.11-doc", NULL};
static const qt_corpus   set = {"python-docs", package, SOURCES "/contents.rst.txt", make, 0};
QT_CORPUS_CALLS
QT_CORPUS_BEGIN

const qt_dataset qt_dataset_python_docs = {.d = {"python-docs", "the manual of Python 3.11 as reStructuredText, 11 MB", NULL, fields, sizeof(qt_text_only)}, QT_CORPUS_SET,
                                         .where = "Debian package python3.11-doc (PSF licence)"};
