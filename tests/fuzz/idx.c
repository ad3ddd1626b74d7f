/* IDX, plain or gzip. */
#include "fuzz.h"
#include "idx.h"

qt_err fuzz_one(const char *file, const uint8_t *data, size_t n)
{
    qt_idx x = {0};
    qt_err e = qt_idx_read(file, 1 + (n ? data[n - 1] % 3 : 0), &x);
    qt_free(x.data);
    return e;
}
