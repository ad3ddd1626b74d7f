/* Instructions, one a line. */
#include "fuzz.h"

qt_err fuzz_one(const char *file, const uint8_t *data, size_t n)
{
    return (void)data, (void)n, fuzz_data("{use: jsonl, path: %s, seq_len: 64, batch_size: 1}", file);
}
