/* The documentation of the Linux kernel, version 6.1, in reStructuredText; translations are left out.
 * Each file is a document, and the order is that of a hash of their names, so that the test split is a sample of all of them. Debian
 * packages it as linux-doc-6.1. */
#include "corpus.h"

#define SOURCES "/usr/share/doc/linux-doc-6.1/html/_sources"

static const qt_field fields[] = {QT_TEXT_FIELDS(qt_text_only), QT_TEXT_TEST(qt_text_only), {NULL}};

static qt_err make(const char *root, const char *scratch, qt_corpus_text *t)
{
    char folder[4096];
    (void)scratch;
    snprintf(folder, sizeof folder, "%s" SOURCES, root);
    return qt_corpus_folder(t, folder, ".rst.txt", "translations");
}

static const char *const package[] = {"linux-doc-6.1", NULL};
static const qt_corpus   set = {"linux-docs", package, SOURCES "/index.rst.txt", make, 0};
QT_CORPUS_CALLS
QT_CORPUS_BEGIN

const qt_dataset qt_dataset_linux_docs = {.d = {"linux-docs", "the documentation of Linux 6.1 as reStructuredText, 21 MB", NULL, fields, sizeof(qt_text_only)}, QT_CORPUS_SET,
                                         .where = "Debian package linux-doc-6.1 (GPL-2)"};
