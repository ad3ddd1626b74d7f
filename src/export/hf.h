/* Llama models as Hugging Face's transformers know them: names of tensors, rows of q and k, and config.json. */
#ifndef QT_EXPORT_HF_H
#define QT_EXPORT_HF_H
#include "export/export.h"
#include "nn/llama.h"

/* Is the recipe's model one that LlamaForCausalLM computes? Then c gets its configuration, n_kv_head and vocab filled in. */
bool        qt_hf_llama(const qt_recipe *r, const qt_model *m, qt_llama *c);
/* The name of a parameter there, NULL if it has none (the state of quantizers). */
const char *qt_hf_name(qt_arena *a, const char *name);
/* So many heads of rows of the parameter stand in another order there; 0: none. */
int64_t     qt_hf_heads(const qt_llama *c, const char *name);
/* y [rows, cols] gets the rows of x in their order (there), or from their order in ours. */
void        qt_hf_rows(bool there, int64_t heads, int64_t rows, int64_t cols, const R *x, R *y);
qt_err      qt_hf_config(const char *file, const qt_llama *c, int64_t context, bool tied);
#endif
