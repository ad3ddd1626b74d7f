/* Vocabularies of byte pairs; the file itself is then the text. */
#include "base/bpe.h"
#include "fuzz.h"
#include <stdlib.h>

qt_err fuzz_one(const char *file, const uint8_t *data, size_t n)
{
    qt_bpe *b = NULL;
    qt_err  e = qt_bpe_load(file, &b);
    if (e == QT_OK) {
        int32_t *ids = malloc((n + 1) * sizeof *ids);
        int64_t  count;
        char    *text;
        size_t   size;
        e = qt_bpe_encode(b, (const char *)data, n, ids, &count);
        if (e == QT_OK) e = qt_bpe_decode(b, ids, count, &text, &size);
        if (e == QT_OK && (size != n || memcmp(text, data, n))) abort();
        if (e == QT_OK) qt_free(text);
        free(ids);
    }
    qt_bpe_free(b);
    return e;
}
