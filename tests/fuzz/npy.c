/* Arrays of numpy. */
#include "base/npy.h"
#include "fuzz.h"

qt_err fuzz_one(const char *file, const uint8_t *data, size_t n)
{
    qt_npy a = {0};
    (void)data, (void)n;
    qt_err e = qt_npy_open(file, &a);
    qt_npy_close(&a);
    return e;
}
