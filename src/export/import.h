/* Models of other programs as run directories. */
#ifndef QT_EXPORT_IMPORT_H
#define QT_EXPORT_IMPORT_H
#include "train/train.h"

/* Makes the directory from a GGUF file of architecture llama or bitnet: recipe, checkpoint, vocabulary. sets: words as of `train`, over the recipe that
 * is written. QT_ECLAIM if a tensor would not keep its numbers. Leaves nothing behind on error. */
qt_err qt_import_gguf(const char *file, const char *dir, qt_sets sets);
/* The same from a safetensors file of a LlamaForCausalLM, and config.json beside it if there is one. */
qt_err qt_import_safetensors(const char *file, const char *dir, qt_sets sets);
#endif
