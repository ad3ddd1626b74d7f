/* What a model {arch: llama | bitnet, ...} is made of (arch_llama.c), for the file formats that know these families. */
#ifndef QT_NN_LLAMA_H
#define QT_NN_LLAMA_H
#include "nn/nn.h"

enum { QT_LLAMA_INTERLEAVED, QT_LLAMA_HALF }; /* rope */
enum { QT_LLAMA_SILU, QT_LLAMA_RELU2, QT_LLAMA_GELU }; /* activation */

typedef struct qt_llama {
    int64_t d_model, n_layer, n_head, n_kv_head, d_ff, vocab;
    int     rope, activation, linear_norm; /* linear_norm 0: none */
    double  rope_base, norm_eps, init_std, dropout;
    bool    sub_norm, tied, fp16;
} qt_llama;
#endif
