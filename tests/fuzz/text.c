/* Any bytes are a text. */
#include "fuzz.h"

qt_err fuzz_one(const char *file, const uint8_t *data, size_t n)
{
    return (void)data, (void)n, fuzz_data("{use: text, path: %s, seq_len: 16, batch_size: 1}", file);
}
