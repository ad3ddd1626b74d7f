/* safetensors: the JSON header, and numbers of each type. */
#include "base/safetensors.h"
#include "fuzz.h"
#include <stdlib.h>

qt_err fuzz_one(const char *file, const uint8_t *data, size_t n)
{
    qt_safe *s = NULL;
    (void)data;
    qt_err e = qt_safe_open(file, &s);
    for (int64_t i = 0; e == QT_OK && i < s->n; i++) {
        int64_t size = 1;
        for (int k = 0; k < s->tensor[i].rank; k++) size *= s->tensor[i].dim[k];
        qt_real *x = malloc(((size_t)size + 1) * sizeof *x);
        if (size <= 8 * (int64_t)n && qt_safe_read(s, &s->tensor[i], x) != QT_OK) qt_error_clear(); /* a type whose numbers are not read */
        free(x);
    }
    qt_safe_free(s);
    return e;
}
