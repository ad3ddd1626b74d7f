/* PNG, JPEG, BMP. */
#include "fuzz.h"
#include "image.h"

qt_err fuzz_one(const char *file, const uint8_t *data, size_t n)
{
    uint8_t x[3 * 8 * 8];
    (void)data, (void)n;
    return qt_image_read(file, 3, 8, 8, 0, x);
}
