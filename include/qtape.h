/* qtape: quantization-aware training on ordinary CPUs, with a tape.
 *
 * A tutorial in one screen. Parameters live in a store, operations are recorded on a tape, the tape is run backward, an optimizer
 * moves the store, the tape is reset. A quantizer is attached to a tensor as a *site* and is itself recorded on the tape, so its
 * gradient (straight-through or learned) comes with the rest.
 *
 *     qt_store  *s = qt_store_new(1);                                            // seed 1
 *     qt_tensor *w = qt_param_add(s, "fc.weight", QT_WEIGHT, QT_INIT_FAN_IN(784), 2, (int64_t[]){10, 784});
 *     qt_site   *q = qt_site_new(s, "fc.weight", QT_ROLE_WEIGHT, "{use: lsq, num_bits: 4}", w);
 *     qt_store_seal(s, 2);                                                       // allocate, initialise, 2 optimizer slots
 *     qt_tape   *t = qt_tape_new();
 *     for (...) {
 *         qt_tensor *x = qt_input(t, 2, (int64_t[]){64, 784}), *y = qt_input_ids(t, 1, (int64_t[]){64});
 *         ... fill x->data and y->ids ...
 *         qt_tensor *loss = qt_cross_entropy(t, qt_linear(t, x, qt_quantize(t, q, w), NULL), y, 0, -100);
 *         if (qt_backward(t, loss) != QT_OK) { fputs(qt_error_text(), stderr); return 1; }
 *         ... optimizer step ...
 *         qt_tape_reset(t);
 *     }
 *
 * Conventions. Tensors are contiguous and row-major, at most QT_MAX_DIM dimensions. The compute type is `qt_real`, float, or double
 * in the library built with -DQT_DOUBLE. A call on a tape never fails on its own: the first error sticks to the tape (as ferror
 * does to a stream) and qt_backward() or qt_tape_error() returns it; the message is in qt_error_text().
 * Ownership: what a tape returns lives until qt_tape_reset(); what a store returns lives as long as the store. */
#ifndef QTAPE_H
#define QTAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define QT_API __attribute__((visibility("default")))
#define QT_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define QT_API
#define QT_PRINTF(f, a)
#endif

#define QT_VERSION "0.1.0"
#define QT_MAX_DIM 5

#ifdef QT_DOUBLE
typedef double qt_real;
#else
typedef float qt_real;
#endif

/* ---- errors -------------------------------------------------------------------------------------------------------------- */

/* Error codes: name, exit code of the command line, text. */
#define QT_ERRORS(X)                                                                                                                 \
    X(OK, 0, "ok")                                                                                                                   \
    X(EIO, 1, "input or output failed")                                                                                              \
    X(EMEM, 1, "out of memory")                                                                                                      \
    X(EDATA, 1, "damaged or unsuitable data")                                                                                        \
    X(EUSAGE, 2, "bad usage")                                                                                                        \
    X(ERECIPE, 2, "bad recipe")                                                                                                      \
    X(ESHAPE, 2, "shapes do not fit")                                                                                                \
    X(ECLAIM, 3, "a claim failed")                                                                                                   \
    X(EDIVERGED, 4, "diverged")                                                                                                      \
    X(ESTOPPED, 130, "stopped")
typedef enum qt_err {
#define QT_X(name, exit, text) QT_##name,
    QT_ERRORS(QT_X)
#undef QT_X
} qt_err;

/* The messages of this thread since qt_error_clear(), one a line, "" if none. Valid until the next call of any qtape function. */
QT_API const char *qt_error_text(void);
QT_API void        qt_error_clear(void);
/* Exit code that the command line gives for an error. */
QT_API int         qt_error_exit(qt_err e);

/* ---- process ------------------------------------------------------------------------------------------------------------- */

/* Number of threads for all kernels, 0 = one a core. Results do not depend on it. */
QT_API void        qt_set_threads(int n);
QT_API int         qt_threads(void);
QT_API const char *qt_version(void);

/* ---- tensors ------------------------------------------------------------------------------------------------------------- */

enum { QT_NEEDS_GRAD = 1, QT_IDS = 2, QT_PERSISTENT = 4 };

struct qt_icodes;

/* A contiguous row-major tensor. data holds n numbers, or ids holds n integers (flag QT_IDS: class ids, token ids, indices).
 * grad is NULL, or n numbers that backward adds into; what an operation gives has one only while backward needs it. codes are the
 * integers of what a quantizer gave, NULL for any other tensor: where both operands of a layer have them, its product is computed in
 * integers. */
typedef struct qt_tensor {
    qt_real    *data, *grad;
    const struct qt_icodes *codes;
    int32_t    *ids;
    int64_t     dim[QT_MAX_DIM], n;
    int8_t      rank;
    uint8_t     flags;
    const char *name; /* of a parameter, or NULL */
} qt_tensor;

/* ---- parameters ---------------------------------------------------------------------------------------------------------- */

typedef struct qt_store qt_store;

/* What a parameter is: decides weight decay, counting and what an optimizer touches. BUFFER is state that is saved, not trained. */
typedef enum qt_param_kind { QT_WEIGHT, QT_BIAS, QT_NORM, QT_QUANT, QT_BUFFER } qt_param_kind;

typedef enum qt_init_kind { QT_INIT_CONSTANT, QT_INIT_UNIFORM, QT_INIT_NORMAL, QT_INIT_POSITIVE } qt_init_kind;
typedef struct qt_init {
    qt_init_kind kind;
    double       a; /* the constant, the bound of U(-a, a), the standard deviation of N(0, a^2), or the bound of U(0, a) */
} qt_init;
#define QT_INIT_CONST(v) ((qt_init){QT_INIT_CONSTANT, (v)})
/* U(-1/sqrt(fan_in), 1/sqrt(fan_in)): what PyTorch gives linear and convolution layers */
QT_API qt_init QT_INIT_FAN_IN(int64_t fan_in);

QT_API qt_store *qt_store_new(uint64_t seed);
QT_API void      qt_store_free(qt_store *s);
/* Adds a parameter before the store is sealed. Its data is NULL until then. The value is drawn from the stream named after it,
 * so it depends on seed and name only. NULL and an error message if the name is taken. */
QT_API qt_tensor *qt_param_add(qt_store *s, const char *name, qt_param_kind kind, qt_init init, int rank, const int64_t *dim);
QT_API qt_tensor *qt_param_find(const qt_store *s, const char *name);
/* Allocates values, gradients and n_slots optimizer slots, each one block, and initialises the values. */
QT_API qt_err     qt_store_seal(qt_store *s, int n_slots);
QT_API void       qt_store_zero_grad(qt_store *s);
/* All parameters, quantizer state included, in an HDF5 file: one data set params/NAME each. Loading wants exactly the parameters of
 * the store; otherwise missing, unexpected and mis-shaped ones are listed and nothing is changed. */
QT_API qt_err     qt_store_save(const qt_store *s, const char *file);
QT_API qt_err     qt_store_load(qt_store *s, const char *file);

/* ---- the tape ------------------------------------------------------------------------------------------------------------ */

typedef struct qt_tape qt_tape;

QT_API qt_tape *qt_tape_new(void);
QT_API void     qt_tape_free(qt_tape *t);
/* Forgets all nodes and their tensors; keeps the memory, so that a warm step allocates nothing. Clears the error. */
QT_API void     qt_tape_reset(qt_tape *t);
/* train: dropout drops, batch norm uses batch statistics, observers observe. grad: what backward needs is kept. */
QT_API void     qt_tape_mode(qt_tape *t, bool train, bool grad);
/* on: quantized layers compute in float on the quantized numbers. off, as at first: in integers wherever both operands are. */
QT_API void     qt_tape_simulate(qt_tape *t, bool on);
QT_API qt_err   qt_tape_error(const qt_tape *t);
/* A tensor to fill with data, zero at first; needs no gradient. */
QT_API qt_tensor *qt_input(qt_tape *t, int rank, const int64_t *dim);
QT_API qt_tensor *qt_input_ids(qt_tape *t, int rank, const int64_t *dim);
/* d loss / d everything, added into ->grad. loss holds one number. */
QT_API qt_err     qt_backward(qt_tape *t, qt_tensor *loss);

/* ---- operations: every line of ops.def is a function qt_NAME --------------------------------------------------------------- */

#define QT_OP(name, signature) QT_API qt_tensor *qt_##name signature;
#include "qtape/ops.def"
#undef QT_OP

/* ---- quantizers ---------------------------------------------------------------------------------------------------------- */

typedef struct qt_site qt_site;
typedef enum qt_role { QT_ROLE_WEIGHT, QT_ROLE_ACT, QT_ROLE_GRAD } qt_role;

/* Attaches a quantizer to a tensor, before the store is sealed. spec is the YAML of a recipe's quant rule, "{use: lsq, num_bits: 4}";
 * like is the weight, or any tensor with the shape of the activation. The site belongs to the store. NULL and a message on error. */
QT_API qt_site   *qt_site_new(qt_store *s, const char *path, qt_role role, const char *spec, const qt_tensor *like);
/* The fake-quantized tensor: values on the quantizer's grid, gradients as the quantizer's paper says. */
QT_API qt_tensor *qt_quantize(qt_tape *t, qt_site *q, qt_tensor *x);

/* ---- optimizers ---------------------------------------------------------------------------------------------------------- */

typedef struct qt_optimizer qt_optimizer;

/* spec is the `optim` section of a recipe, "{use: adam, lr: 1e-3}". Needs a sealed store with enough slots (Adam 2, momentum 1). */
QT_API qt_optimizer *qt_optimizer_new(qt_store *s, const char *spec);
QT_API void          qt_optimizer_free(qt_optimizer *o);
/* One step with the learning rate scaled by lr_factor; zeroes the gradients. */
QT_API qt_err        qt_optimizer_step(qt_optimizer *o, double lr_factor);

/* ---- deployment ---------------------------------------------------------------------------------------------------------- */

/* A model from a file that `qtape export --format h5` has written. Layers that were trained in integers keep their weights packed, in 1 to 8 bits
 * a number, and compute in integers; the answers have the bits of the training graph's evaluation. One thread at a time for each engine. */
typedef struct qt_engine qt_engine;

/* NULL and a message if the file is damaged, no exported model, or of a newer format version. */
QT_API qt_engine *qt_engine_open(const char *file);
QT_API void       qt_engine_free(qt_engine *e);
/* Of a model that was trained for several precisions: it computes at so many bits from now on, made of the stored integers; 0: as stored, the
 * highest. */
QT_API qt_err     qt_engine_switch(qt_engine *e, int bits);
/* Numbers of one sample: its input (row-major, as the data set gives it), and the model's answer. */
QT_API int64_t    qt_engine_inputs(const qt_engine *e);
QT_API int64_t    qt_engine_outputs(const qt_engine *e);
/* n samples as one batch: x [n, inputs] to y [n, outputs]. Of a model of text, x are ids as numbers. */
QT_API qt_err     qt_engine_run(qt_engine *e, int64_t n, const qt_real *x, qt_real *y);
/* Kinds of tokens of a model of text; 0: its input is numbers. */
QT_API int64_t    qt_engine_vocab(const qt_engine *e);
/* n texts of T tokens each, T up to qt_engine_inputs(): ids [n, T] to y [n, T, vocab], logits of the token that follows each. */
QT_API qt_err     qt_engine_tokens(qt_engine *e, int64_t n, int64_t T, const int32_t *ids, qt_real *y);

#ifdef __cplusplus
}
#endif
#endif
