/* Layers, losses, metrics and the model built from a recipe section. A model is a list of modules in order; a module takes the result
 * of the one before it, or of the module that `from` names; `add` and `concat` take both. Shapes are without the batch. */
#ifndef QT_NN_NN_H
#define QT_NN_NN_H
#include "autograd/store.h"
#include "base/match.h"
#include "ops/ops.h"
#include "qat/quant.h"

typedef struct qt_shape {
    int     rank; /* 1..4 */
    int64_t dim[QT_MAX_DIM - 1];
    int64_t ids;  /* of a model's input: 0, or it is ids below this */
} qt_shape;

enum { QT_MODULE_PARAMS = 6, QT_MODULE_IN = 3 };
struct qt_layer;

/* Keys and values of the n tokens so far, for generation: keys [width, room] as columns, values [room, width] as rows. */
typedef struct qt_kv {
    int64_t n, max, width, room; /* room: max, up to a multiple of 16 */
    R      *k, *v;
} qt_kv;

typedef struct qt_module {
    const struct qt_layer *layer;
    void       *cfg;
    const char *path;                 /* "fc1", "blk.0.conv1" */
    qt_pos      pos;
    int         n_in, in[QT_MODULE_IN];      /* indices of the modules it reads; -1 is the model's input */
    const char *in_name[QT_MODULE_IN];       /* their paths, for messages; NULL is the model's input */
    qt_shape    in_shape[QT_MODULE_IN], out_shape;
    qt_tensor  *p[QT_MODULE_PARAMS];  /* by the layer's own order (weight, bias, ...) */
    qt_site    *weight, *act, *gradq; /* quantizer sites, NULL where not quantized */
    qt_site    *bias, *out;           /* of the bias; of what the module gives */
    qt_site    *scale, *shift;        /* of a batch norm's factor and offset a and b, y = a x + b: both or none */
    const qt_shiftq *trial;           /* the noise meter's: what takes the place of gradq's settings, or NULL */
    struct qt_saver *saver;           /* how the tensors that its backward reads are kept (memory.c), or NULL */
    bool        frozen_stats;         /* batch norm after freeze_bn_at */
    int         row;                  /* of its parameters that are tables: the one of the precision now */
    int64_t     recount;              /* of batch norm while its statistics are taken anew: the batches so far, this one included; otherwise 0 */
    struct qt_module *then[2];        /* a batch norm and a relu that follow and alone read this module's result, or NULL: evaluated in
                                         integers, the module does their work on its sums */
    struct qt_module *join, *relu;    /* of a layer that absorbs: an add and then a relu, or one of them, that alone read what it gives; it does
                                         their work in its own passes. The add's other operand comes as in[1] */
    bool        folded;               /* in this step the module before has done this one's work */
    bool        integer;              /* the last forward was in integers */
    qt_kv      *kv;                   /* of an attention layer while text is generated, or NULL */
    qt_frozen  *frozen;               /* the weight as packed codes, where it is frozen and quantized (p[0]->data is NULL then), or NULL */
    struct qt_lora *lora;             /* an adapter beside the weight (lora.c), or NULL */
} qt_module;

typedef struct qt_layer {
    qt_desc d;
    bool    joins;      /* takes a second input, named by `from` */
    int     inputs;     /* takes so many inputs if `from` is a list of names; 0: as `joins` says */
    bool    quantizes;  /* has weights and an input that quant rules apply to */
    bool    scales;     /* gives its scale and shift to quant rules (role affine) */
    bool    absorbs;    /* a residual add and a relu after it can be done in its own passes: forward heeds join and relu */
    bool    reads_ids;  /* its input are ids, which no quantizer touches */
    int     token_rank; /* of its input: 1, or 3 for images */
    int     max_rank;   /* of its input in a model, 0: any. A linear layer works on any rank, but one after an image wants a flatten */
    /* REQUIRED: checks in_shape, sets out_shape, adds parameters with qt_module_param (the weight first). Messages name both layers. */
    qt_err (*build)(qt_module *m, qt_store *s);
    qt_tensor *(*forward)(qt_tape *t, qt_module *m, qt_tensor **in); /* REQUIRED */
    /* OPTIONAL: what the layer does in evaluation as an affine map of each channel, x mul + add; from the tape's memory */
    qt_err (*affine)(qt_tape *t, const qt_module *m, R **mul, R **add);
    bool    rectifies;  /* it is max(x, 0) */
    /* OPTIONAL, of layers with tables of parameters: finds m->row for the bits of the nearest weights before and after it that can be
     * switched, 0 where there is none */
    qt_err (*follow)(qt_module *m, int before, int after);
    /* OPTIONAL, for probe: fills sizes in cfg from the shapes of given tensors (found by name, NULL if absent) */
    void   (*sizes)(void *cfg, const qt_tensor *weight, const qt_tensor *bias);
    int64_t (*macs)(const qt_module *m); /* OPTIONAL: multiply-adds a sample, for show --cost */
    int64_t (*heads)(const qt_module *m); /* OPTIONAL: heads of attention */
} qt_layer;

typedef struct qt_loss {
    qt_desc d;
    bool    classes; /* target is class ids; otherwise a tensor like the output */
    qt_tensor *(*apply)(qt_tape *t, const void *cfg, qt_tensor *out, qt_tensor *target);
} qt_loss;

/* A metric of evaluation: gathers over batches. sum is its only state. */
typedef struct qt_metric {
    qt_desc d;
    bool    classes;
    double (*add)(const qt_tensor *out, const int32_t *y, const R *t); /* sum over the batch's samples */
    double (*value)(double sum, int64_t n);
} qt_metric;

/* A term of the loss that looks at weights. Its configuration begins with a qt_regularizer_base, its fields with QT_REGULARIZER_FIELDS. */
typedef struct qt_regularizer {
    qt_desc d;
    qt_tensor *(*apply)(qt_tape *t, const void *cfg, const qt_module *m, qt_tensor *w); /* REQUIRED: w, the weight of m -> one number */
    qt_err (*suits)(const void *cfg, const qt_module *m); /* OPTIONAL: can it look at this layer? */
} qt_regularizer;

/* The options that regularize.c handles for all of them. */
typedef struct qt_regularizer_base {
    const qt_yaml *match;
    const char    *name;
    double         weight;
    int            reduce;
    bool           fake_quant;
} qt_regularizer_base;
#define QT_REGULARIZER_FIELDS                                                                                                                \
    {"match", QT_TREE, offsetof(qt_regularizer_base, match), NULL, 0, 0, NULL, "pattern or list of patterns of paths of layers with weights"}, \
    {"name", QT_STR, offsetof(qt_regularizer_base, name), "~", 0, 0, NULL, "what metrics call it (default: the regularizer's)"},             \
    {"weight", QT_REAL, offsetof(qt_regularizer_base, weight), NULL, 0, 1e9, NULL, "factor in the loss; 0: it is measured only"},             \
    {"reduce", QT_ENUM, offsetof(qt_regularizer_base, reduce), "sum", 0, 0, "sum|mean", "over the layers"},                                   \
    {"fake_quant", QT_BOOL, offsetof(qt_regularizer_base, fake_quant), "false", 0, 0, NULL,                                                   \
     "look at the weight as its quantizer gives it; the gradient passes the quantizer"}

/* A family of models, {arch: NAME, ...}: writes the list of layers that it stands for, as a recipe would. */
typedef struct qt_arch {
    qt_desc d;
    /* QT_ERECIPE with the section's position if the options do not go together. in.rank 0: the input's shape is not known. */
    qt_err (*expand)(FILE *f, const void *cfg, const qt_shape *in, int64_t classes, qt_pos pos);
} qt_arch;
extern const qt_kind qt_archs;

#define QT_ARCH(name) extern const qt_arch qt_arch_##name;
#define QT_L(name) extern const qt_layer qt_layer_##name;
#define QT_LOSS(name) extern const qt_loss qt_loss_##name;
#define QT_METRIC(name) extern const qt_metric qt_metric_##name;
#define QT_REGULARIZER(name) extern const qt_regularizer qt_regularizer_##name;
#include "nn/layers.def"
#include "nn/regularizers.def"
#undef QT_ARCH
#undef QT_L
#undef QT_LOSS
#undef QT_METRIC
#undef QT_REGULARIZER

/* An element of the `regularize` section. */
typedef struct qt_term {
    const qt_regularizer *how;
    const void           *cfg;
    const char           *name;
    int                   n, *module; /* the layers that it looks at */
} qt_term;

typedef struct qt_model {
    qt_store   *store;
    qt_module  *m;
    int         n;
    qt_shape    in, out;
    qt_tensor **value; /* result of each module in the current step */
    qt_tensor  *x;     /* its input */
    R          *work;  /* scratch of frozen weights, and their codes */
    int8_t     *work_codes;
    int        *last;  /* [n] the last module that reads the result of each; -1: none, the model gives it */
    int         last_x; /* of the input */
    bool        thrifty; /* has a `memory` section: to be run on a thrifty tape */
    qt_term    *term;  /* [n_terms] of the `regularize` section */
    int         n_terms;
} qt_model;

/* Builds a model from the `model` list and the `quant` rules into an unsealed store. All errors of the sections are reported in one
 * pass (unknown layers and keys, shapes that do not chain naming both layers and shapes, rules that match nothing, groups that do not
 * divide). The arena keeps everything but parameters. classes > 0: the last layer must give that many outputs. in.rank 0: the input's shape
 * is not known yet; all that does not depend on it is checked, and no parameter is made. */
qt_err qt_model_build(qt_arena *a, qt_store *s, const qt_yaml *model, const qt_yaml *quant, qt_shape in, int64_t classes, qt_model **out);
/* The list of layers that a `model` section stands for: itself, or what its arch writes. */
qt_err qt_model_layers(qt_arena *a, const qt_yaml *model, const qt_shape *in, int64_t classes, const qt_yaml **list);
/* x [N, in...], numbers or ids -> [N, out...]. */
qt_tensor *qt_model_forward(qt_tape *t, qt_model *m, qt_tensor *x);
/* memory.c: the `memory` section, before the store is sealed. Every layer that it matches gets a saver, whose state is a buffer of the store. */
qt_err qt_memory_build(qt_arena *a, const qt_yaml *memory, qt_model *m);
/* The same in two steps, for meters: a section like `memory`, called `path` in messages; and savers by it, whose state lies in the store or, with
 * store false, in the arena, as in the first step of a run. */
typedef struct qt_memory { const struct qt_codec *codec; const void *cfg; const qt_yaml *match; } qt_memory;
qt_err qt_memory_read(qt_arena *a, const qt_yaml *y, const char *path, const qt_model *m, qt_memory *out);
qt_err qt_memory_savers(qt_arena *a, const qt_memory *how, bool store, qt_model *m);
/* How a convolution walks over its image. False: m is none. */
typedef struct qt_walk { int64_t stride, padding, dilation, groups; bool circular; } qt_walk;
bool qt_conv2d_walk(const qt_module *m, qt_walk *w);
/* Heads of the model's attention, the most of any layer; 1 if there is none. */
int64_t qt_model_heads(const qt_model *m);
/* For generation: memory for the keys and values of max tokens, in the arena, for each attention layer; from then on a forward pass goes on where
 * the one before ended, and takes texts one at a time. NULL arena: takes it away again. */
qt_err qt_model_keep(qt_arena *a, qt_model *m, int64_t max);
/* Forgets all tokens but the first n. */
void qt_model_forget(qt_model *m, int64_t n);
/* Does a token see only itself and those before it? */
bool qt_attention_causal(const qt_module *m);
/* precision.c: switches all sites that have such a precision (bits 0: the highest of each), and what follows them. How many sites have switched. */
int    qt_model_switch(qt_model *m, qt_precision p);
/* After sites were switched one by one: layers with tables of parameters take the rows of their neighbours' bits. */
qt_err qt_model_follow(qt_model *m);
/* All precisions that some site can be switched to, highest bits first, into list; the count. */
int    qt_model_precisions(const qt_model *m, qt_precision list[QT_MAX_PRECISIONS]);
/* regularize.c: the `regularize` section, after adapters have been put on. */
qt_err qt_regularize_build(qt_arena *a, const qt_yaml *section, qt_model *m);
/* The k-th layer's value of a term, without its weight; and all terms added to loss. */
qt_tensor *qt_term_value(qt_tape *t, qt_model *m, const qt_term *r, int k);
qt_tensor *qt_regularize(qt_tape *t, qt_model *m, qt_tensor *loss);
/* Sum of the quantizers' penalties and of the regularizers' terms added to loss. */
qt_tensor *qt_model_penalty(qt_tape *t, qt_model *m, qt_tensor *loss);
/* Parameter k of a module: "path.name". */
qt_err qt_module_param(qt_module *m, qt_store *s, int k, const char *name, qt_param_kind kind, qt_init init, int rank, const int64_t *dim);
/* For layers: the input and weight as their sites give them (or as they are). */
qt_tensor *qt_module_act(qt_tape *t, qt_module *m, qt_tensor *x);
qt_tensor *qt_module_weight(qt_tape *t, qt_module *m);
/* p[1], a bias, in the same way; may be NULL. */
qt_tensor *qt_module_bias(qt_tape *t, qt_module *m);
/* Whether the module's weight is its own, not that of the layer it is tied to. */
bool qt_module_owns_weight(const qt_module *m);
/* What a layer with a weight does beside its product, m->integer being known. In evaluation in integers: the work of the modules that
 * follow, which are marked as folded. In training: the quantized gradients of its site, held in *grad. */
qt_extra qt_module_extra(qt_tape *t, qt_module *m, qt_gradq *grad);
/* ---- lora.c, freeze.c: adapters on a frozen base --------------------------------------------------------------------------------- */

/* y += c B A x beside a linear layer: A [rank, in] or, over groups of inputs, [rank, in / group]; B [out, rank]. */
typedef struct qt_lora {
    qt_tensor *a, *b;
    double     c, dropout; /* c = alpha / rank */
    int64_t    group;      /* 0: A sees every input; otherwise the sums (or means) over groups of so many */
    bool       mean, merged; /* merged: it is part of the weight */
} qt_lora;

/* Reads the `lora` section, puts adapters beside the layers that it targets, and marks what is frozen. Between building a model and sealing
 * its store; without effect on m but for messages if its shapes are not known. */
qt_err qt_lora_apply(qt_arena *a, const qt_yaml *section, qt_model *m);
/* The result of module m with its adapter's part, x being the module's input. */
qt_tensor *qt_lora_add(qt_tape *t, const qt_module *m, qt_tensor *x, qt_tensor *y);
/* Makes adapters part of their weights: exactly, in the zero points, over groups; otherwise as numbers, which a quantized weight's own
 * quantizer, or for others the one of `weights` (NULL: none), rounds again. t is an idle tape. */
qt_err qt_lora_merge(qt_arena *a, qt_model *m, const qt_yaml *weights, qt_tape *t);
bool   qt_lora_owns(const qt_model *m, const qt_tensor *param);

/* Marks parameters as frozen but those of adapters and those that match `train` (NULL: none); only those of layers with adapters if
 * `targets`. Weights of linear layers that have a quantizer get no memory. */
qt_err qt_model_freeze(qt_arena *a, qt_model *m, const qt_yaml *train, bool targets);
/* Packs the weight of module i, its numbers in w, which is p[0] with data. */
qt_err qt_model_pack(qt_arena *a, qt_model *m, int i, qt_tape *t);

qt_err qt_module_fail(const qt_module *m, const char *fmt, ...) QT_PRINTF(2, 3); /* QT_ESHAPE at the module's position */
/* "fc2: expects WHAT, but conv1 gives [16, 28, 28] (HINT)" about input k; hint may be NULL. */
qt_err qt_module_misfit(const qt_module *m, int k, const char *what, const char *hint);
/* "[16, 28, 28]" into buf. */
const char *qt_shape_text(const qt_shape *s, char buf[static 96]);
bool qt_shape_same(const qt_shape *a, const qt_shape *b);
/* Stored bits of all weight matrices and kernels with their scales over their element count; 32 where not quantized. */
qt_err qt_model_bits(qt_model *m, double *bits_per_weight, double *bytes_total);
#endif
