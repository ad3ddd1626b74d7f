/* GGUF: keys, tensors, vocabulary. */
#include "base/gguf.h"
#include "fuzz.h"

qt_err fuzz_one(const char *file, const uint8_t *data, size_t n)
{
    qt_gguf *g = NULL;
    (void)data, (void)n;
    qt_err e = qt_gguf_open(file, &g);
    qt_gguf_free(g);
    return e;
}
