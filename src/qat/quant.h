/* Quantizers. A *site* is one quantized tensor of a model: path, role, layout of its scales, configuration and state. A quantizer is
 * a descriptor with the few functions below; layers ask their sites for the quantized tensor and know no quantizer by name.
 * State (learned steps, running ranges, "is initialised" flags) are parameters of the store, so checkpoints, resume and optimizer
 * groups need nothing more. */
#ifndef QT_QAT_QUANT_H
#define QT_QAT_QUANT_H
#include "autograd/store.h"
#include "autograd/tape.h"
#include "kernels/frozen.h"
#include <math.h>

/* Which scale belongs to an element: (i / inner) % count. tensor: inner = n, count = 1. channel (axis a): inner = product of the
 * dimensions after a, count = dim[a]. group: inner = group_size, count = n / group_size. token: inner = elements of a token. */
typedef struct qt_layout {
    int64_t inner, count;
} qt_layout;
typedef enum qt_granularity { QT_PER_TENSOR, QT_PER_CHANNEL, QT_PER_GROUP, QT_PER_TOKEN } qt_granularity;
#define QT_GRANULARITIES "tensor|channel|group|token"
/* token_rank: how many last dimensions make one token (1: a row of the last axis). Errors (a group that does not divide, an axis
 * out of range) are QT_ESHAPE and name the path. */
qt_err qt_layout_of(const char *path, qt_granularity g, int axis, int64_t group_size, int token_rank, const qt_tensor *x, qt_layout *l);

/* Integers of a quantized tensor: value = (code - zero_point) * scale, or table[code] * scale. Arrays are the caller's arena's. The last
 * run of the layout may be short. */
typedef struct qt_codes {
    int64_t   n;
    int32_t  *code;       /* [n] */
    qt_layout layout;
    R        *scale;      /* [layout.count] */
    R        *zero_point; /* [layout.count], NULL: all 0 */
    R        *offset;     /* [layout.count] real offset added after scaling (LSQ+), NULL: none */
    uint8_t  *exponent;   /* [layout.count] e of scales s0 2^-e (ShiftQuant), NULL: none */
    double    bits;       /* stored bits of one code: 4, 8, 1.58 is written as log2(3) */
    bool      real_zero;  /* zero points are any numbers, stored as scales are; otherwise they are codes */
    const R  *table;      /* [2^bits] a code's number (codebooks, codes from 0 on), NULL: itself. No zero_point, no offset */
    const qt_scale_codes *scale_codes; /* of which scale was decoded (double quantization), or NULL */
} qt_codes;

/* One of the precisions that a quantizer holds and a site can be switched between while it runs. */
typedef struct qt_precision {
    int  bits;       /* 0: as configured, the highest */
    bool asymmetric; /* a zero point or offset is used, where the quantizer has both forms */
    bool channel;    /* one scale a channel, where it has both forms */
} qt_precision;
enum { QT_MAX_PRECISIONS = 32 };
static inline bool qt_precision_same(qt_precision a, qt_precision b) { return a.bits == b.bits && a.asymmetric == b.asymmetric && a.channel == b.channel; }

/* What a cast to fixed point does, for whoever does it in integers: x 2^point is rounded and brought into `bits` bits. */
typedef enum qt_rounding { QT_ROUND_DOWN, QT_ROUND_UP, QT_ROUND_EVEN, QT_ROUND_ZERO } qt_rounding; /* down; nearest, ties up, to even, to zero */
typedef enum qt_overflow { QT_SATURATE, QT_WRAP } qt_overflow;
typedef struct qt_cast {
    int         bits, k_hot; /* k_hot > 0: at most so many bits of a magnitude are not zero */
    bool        is_signed;
    qt_rounding rounding;
    qt_overflow overflow;
    int64_t     count;
    const R    *point, *start; /* [count] fraction bits, to be rounded; and as they began */
} qt_cast;
static inline int qt_cast_point(const qt_cast *c, int64_t k) { return (int)rint((double)c->point[k]); }

enum { QT_SITE_PARAMS = 6 };
struct qt_quant;
struct qt_shiftq;
struct qt_site {
    const struct qt_quant *quant;
    qt_arena    arena;                 /* holds cfg and the names */
    qt_pos      pos;                   /* of the rule in the recipe, for messages */
    void       *cfg;                   /* filled by the quantizer's field table */
    char       *path;                  /* "fc1.weight", "fc1.input" */
    qt_role     role;
    qt_store   *store;
    int         axis;                  /* output channel of a weight (0), channel axis of an activation (1) */
    int         token_rank;            /* last dimensions that make one token: 1 for linear, 3 for convolution */
    int         rank;                  /* shape of the tensor; dim[0] of an activation is the batch and not known: 0 */
    int64_t     dim[QT_MAX_DIM];
    qt_tensor  *p[QT_SITE_PARAMS];     /* the quantizer's parameters, by its own order, named path + "." + name */
    bool        enabled;               /* false: qt_quantize returns x (before fake_quant_after) */
    bool        observing;             /* calibration or training before the freeze */
    qt_span     freeze_at;             /* own freezing point, or unset: schedule.freeze_observers_at counts */
    bool        bypass;                /* calibration: observe, do not quantize */
    qt_precision now;                  /* what it is switched to */
    int64_t     step;                  /* training step of the last apply, for what draws random numbers */
    int64_t     epoch, epochs;         /* where training stands, for what changes on the way; epochs 0: not known */
    const struct qt_smooth *smooth;    /* the meter of gradients': a function in place of the sign (sign.h), or NULL */
    const qt_tensor *last_x;           /* input of the last apply, for quant events; valid until the tape is reset */
    const qt_tensor *last_y;
};

typedef struct qt_quant {
    qt_desc     d;
    qt_err    (*init)(qt_site *);                                      /* REQUIRED: adds parameters with qt_site_param */
    void      (*observe)(qt_tape *, qt_site *, const qt_tensor *);     /* OPTIONAL: statistics of x; called before apply while observing */
    qt_tensor *(*apply)(qt_tape *, qt_site *, qt_tensor *);            /* REQUIRED: fake-quantized tensor, on the tape */
    qt_tensor *(*penalty)(qt_tape *, qt_site *);                       /* OPTIONAL: term added to the loss */
    void      (*after_step)(qt_site *, int64_t step);                  /* OPTIONAL: guards, annealing */
    qt_err    (*encode)(qt_site *, const qt_tensor *, qt_arena *, qt_codes *); /* REQUIRED: integers; decode == apply bit for bit */
    double    (*bits)(const qt_site *);                                /* REQUIRED: stored bits of one code */
    int       (*precisions)(const qt_site *, qt_precision list[QT_MAX_PRECISIONS]); /* OPTIONAL: what it can be switched to, highest bits first; the count */
    /* promises that the conformance suite checks */
    bool        idempotent, monotone, zero_to_zero;
    int64_t   (*zero_group)(const qt_site *);                          /* OPTIONAL: weights a group, each with a real zero point */
    void      (*gradient)(const qt_site *, struct qt_shiftq *);        /* OPTIONAL: how backward's operands are quantized; for role grad */
    void      (*cast)(const qt_site *, qt_cast *);                     /* OPTIONAL: of a quantizer to fixed point, what it does */
    const qt_op *op;                                                   /* the op that apply emits, for gradient tests; may be NULL */
} qt_quant;

#define QT_QUANT_LINE(name) extern const qt_quant qt_quant_##name;
#define QT_Q(name) QT_QUANT_LINE(name)
#include "qat/quants.def"
#undef QT_Q

/* Adds parameter k of a site: "path.name", with kind QT_QUANT (learned) or QT_BUFFER (observed). count numbers, all `value`. */
qt_err  qt_site_param(qt_site *q, int k, const char *name, qt_param_kind kind, int64_t count, double value);
/* The same as a table of rows, one a precision: rows numbers by count. One row is no table. */
qt_err  qt_site_table(qt_site *q, int k, const char *name, qt_param_kind kind, int rows, int64_t count, double value);
/* QT_ERECIPE at the place of the site's rule, naming the site. */
qt_err  qt_site_fail(const qt_site *q, const char *fmt, ...) QT_PRINTF(2, 3);
/* The layout of x for a site; an empty axis list means the site's own channel axis. */
qt_err  qt_site_layout(const qt_site *q, qt_granularity g, const qt_ints *axis, int64_t group_size, const qt_tensor *x, qt_layout *l);
/* Number of scales, from the shape given when the site was made; 0 if that depends on the batch. Checks the layout early. */
qt_err  qt_site_count(const qt_site *q, qt_granularity g, const qt_ints *axis, int64_t group_size, int64_t *count);
/* A site from a parsed configuration. Added to the store, which owns it. spec: {use: lsq, num_bits: 4}. */
qt_err  qt_site_make(qt_store *s, const char *path, qt_role role, int axis, int token_rank, int rank, const int64_t *dim,
                     const qt_yaml *spec, const char *spec_path, qt_site **out);
/* The precisions of a site, highest bits first; 0 if its quantizer has one only. */
int     qt_site_precisions(const qt_site *q, qt_precision list[QT_MAX_PRECISIONS]);
/* Bits of the precision that a site is switched to; 0 if it has one only. */
int     qt_site_bits(const qt_site *q);
/* A quantizer's list of bits: QT_ERECIPE unless they fall, within lo..hi. Its place in the list, of the bits that the site is switched to;
 * and the list as precisions. */
qt_err  qt_site_bits_check(const qt_site *q, const char *name, const qt_ints *bits, int64_t lo, int64_t hi);
int     qt_site_bits_row(const qt_site *q, const qt_ints *bits);
int     qt_site_bits_list(const qt_ints *bits, qt_precision list[QT_MAX_PRECISIONS]);
/* Switches a site to a precision. False, and nothing changes, if it has no such one; a site with one only stays at it. */
bool    qt_site_switch(qt_site *q, qt_precision p);
/* Values of codes into y[n]. The one decoding rule. */
void    qt_codes_decode(const qt_codes *c, R *y);
/* Bits that the codes and their scales take in storage (scales as fp32, or as they are coded). */
double  qt_codes_bits(const qt_codes *c);
#endif
