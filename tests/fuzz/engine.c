/* An exported model whose checksum was made right: what is left to find is what its checks are for. */
#include "export/engine.h"
#include "fuzz.h"

qt_err fuzz_one(const char *file, const uint8_t *data, size_t n)
{
    qt_engine *e = NULL;
    (void)data;
    qt_err err = n > QT_H5_USERBLOCK ? qt_seal_write(&qt_engine_seal, file) : QT_OK;
    if (err == QT_OK) err = qt_engine_load(file, &e);
    qt_engine_free(e);
    return err;
}
