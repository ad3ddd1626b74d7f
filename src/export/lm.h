/* Language models as GGUF knows them: which of its architectures a recipe's model is, its tensors with the type that each gets in the file, and
 * whether the programs that read such files compute what was trained. Known before training, from the recipe and the model's shapes alone. */
#ifndef QT_EXPORT_LM_H
#define QT_EXPORT_LM_H
#include "base/bpe.h"
#include "base/gguf.h"
#include "export/export.h"
#include "nn/llama.h"

typedef struct qt_lm {
    const char *arch; /* "llama" or "bitnet" */
    qt_llama    c;    /* n_kv_head and vocab are filled in */
    int64_t     context;
} qt_lm;

/* QT_ERECIPE at pos, with what does not fit, if no architecture of GGUF computes the model. `format` begins the messages. */
qt_err qt_lm_of(const qt_recipe *r, const qt_model *m, const char *format, qt_pos pos, qt_lm *lm);

/* A tensor of the file. */
typedef struct qt_lm_tensor {
    char             name[64];
    const qt_module *m;
    const qt_ggml   *type;
} qt_lm_tensor;

typedef struct qt_lm_plan {
    int           n;
    qt_lm_tensor *t;
} qt_lm_plan;

/* The modules with a weight of their own, in the model's order. type NULL: the smallest that holds the codes of the layer's quantizer, F32
 * where it has none. QT_ERECIPE at pos where a type cannot hold a layer, naming it, the reason, and the nearest legal widths. */
qt_err qt_lm_plan_of(qt_arena *a, const qt_model *m, const qt_ggml *type, const qt_ggml *embedding, qt_pos pos, qt_lm_plan *p);

/* The bytes of a tensor in its type, from the numbers that the snapshot's forward used; QT_EDATA naming the tensor if they are not on the
 * type's grid. *values are these numbers. */
qt_err qt_lm_bytes(const qt_snapshot *s, const qt_lm_tensor *t, qt_arena *a, uint8_t **bytes, size_t *n);
/* The numbers that the forward used, and whether a tied output used the same. */
const R *qt_lm_values(const qt_snapshot *s, const qt_module *m);

/* vocab.c: the keys of the tokenizer, for a recipe's data section and a model of `vocab` tokens. */
qt_err qt_lm_put_vocab(qt_arena *a, const qt_yaml *data, int64_t vocab, qt_gguf_out *o);

/* Why llama.cpp will compute something else than was trained: the first reason, NULL if there is none. */
const char *qt_lm_differs(qt_arena *a, const qt_lm *lm, const qt_lm_plan *p);
#endif
