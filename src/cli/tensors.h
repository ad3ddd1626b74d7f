/* What is in a file of tensors: GGUF, safetensors. For `qtape inspect`. */
#ifndef QT_CLI_TENSORS_H
#define QT_CLI_TENSORS_H
#include "base/err.h"

qt_err qt_print_gguf(const char *file, bool json);
qt_err qt_print_safetensors(const char *file, bool json);
#endif
