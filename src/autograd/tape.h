/* The tape: define-by-run reverse-mode differentiation. qt_emit checks shapes, allocates the result in the step arena, runs forward
 * and appends a node; backward walks the nodes in reverse. Knows no op. */
#ifndef QT_AUTOGRAD_TAPE_H
#define QT_AUTOGRAD_TAPE_H
#include "base/desc.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include <string.h>

typedef qt_real R;

enum { QT_MAX_IN = 6 };

struct qt_op;
struct qt_saver;
typedef struct qt_node {
    const struct qt_op *op;
    qt_tensor          *in[QT_MAX_IN], *out;
    int8_t              n_in;
    qt_tape            *tape;
    void               *arg;   /* the op's arguments, copied into the arena */
    void               *saved; /* what forward keeps for backward, the op's own struct or array in the arena */
    const char         *path;  /* layer that emitted it, for messages */
    struct qt_saver    *saver; /* how the numbers that backward reads are kept (codec.h), or NULL */
    int64_t             own;   /* bytes of own arrays that backward reads, for the account */
} qt_node;

/* What backward reads of a node: a mask says of which tensors, bit i for in[i] and QT_RESULT for out, and the macros how well it must know
 * them. Most ops read few of them; the tape can give back the memory of the others, and keep the others in fewer bits. */
enum { QT_RESULT = 1 << QT_MAX_IN, QT_EVERY = 2 * QT_RESULT - 1 };
#define QT_READS(mask) ((uint32_t)(mask))              /* the very numbers */
#define QT_READS_NEARLY(mask) ((uint32_t)(mask) << 8)  /* the numbers, or what a codec makes of them */
#define QT_READS_SIGNS(mask) ((uint32_t)(mask) << 16)  /* only which of them are <= 0 */
#define QT_READS_CODES(mask) ((uint32_t)(mask) << 24)  /* only the integers beside them */

typedef enum qt_grad_kind { QT_EXACT, QT_SURROGATE, QT_NO_GRAD } qt_grad_kind;

/* A case drives all tests of an op: inputs to make, and the call that builds the node. Inputs are given to build as in[0..n). */
typedef struct qt_case_in {
    int64_t dim[QT_MAX_DIM]; /* ends at the first 0 */
    char    domain;          /* 'n' normal, 'u' uniform [-1,1], 'p' uniform [0.5,2], 'k' normal but |x| > 0.1 from 0 (kinks), 'd' all
                                distinct by > 0.05 (max pooling), 'q' probabilities over the last axis, 'c' constant buffer uniform
                                [0.5,2] that gets no gradient, 'i' ids */
    int     below;           /* 'i': ids are 0..below-1 */
} qt_case_in;
typedef struct qt_case {
    const char *name; /* NULL ends the list */
    qt_tensor *(*build)(qt_tape *t, qt_tensor **in);
    qt_case_in  in[QT_MAX_IN];
    bool        eval; /* tape in evaluation mode */
} qt_case;

typedef struct qt_op {
    qt_desc        d;
    qt_grad_kind   kind;
    qt_err       (*shape)(qt_node *);          /* REQUIRED: check operands, make out (qt_node_out), allocate saved. All that can fail is here */
    void         (*forward)(qt_node *);        /* REQUIRED: fills out->data; cannot fail */
    void         (*backward)(const qt_node *); /* REQUIRED unless NO_GRAD: adds into in[i]->grad where that is not NULL */
    bool           stores;                     /* backward asks qt_grad_first() of each input, and where it holds writes instead of adding */
    uint32_t     (*reads)(const qt_node *);    /* OPTIONAL: what backward reads; NULL: QT_READS(QT_EVERY). Where it does not read, data may be NULL */
    void         (*naive)(qt_node *);          /* OPTIONAL: slow twin, the oracle of a fast forward */
    const qt_case *cases;                      /* REQUIRED */
} qt_op;

/* The tape's inside is open to ops: they read training, grad, step and the random stream from it. */
struct qt_tape {
    qt_arena    arena;
    qt_node    *node;
    int         n, cap;
    qt_err      err;
    bool        train, grad;
    bool        simulate; /* quantizers attach no codes, so that layers compute in float */
    bool        naive;    /* run naive twins where they exist (tests) */
    uint64_t    seed;     /* for ops that draw: qt_rng_at(seed, hash(path) ^ step) */
    int64_t     step;
    int64_t     first;    /* position of the input's first token in its text: 0 but while text is generated token by token */
    const char *path;     /* current layer, set by the model while it runs */
    qt_tensor   none;     /* what a failed call returns: rank 0, safe to look at */
    struct qt_lent *lent; /* memory of gradients, and of results where the tape is thrifty */
    int         n_lent, cap_lent;
    bool        thrifty;  /* memory of results is lent and comes back, see qt_tape_done */
    struct qt_saver *saver; /* current layer's, set by the model while it runs */
    struct qt_pack  *pack;  /* what is kept of results whose memory has come back */
    int         n_pack, cap_pack;
    void      (*watch)(void *arg, qt_tape *t, const struct qt_pack *p); /* meters: called while both x->data and its codes are there, or NULL */
    void       *watch_arg;
    qt_tensor  *root;     /* where the last backward began; its gradient stays */
    bool        keep;     /* backward leaves the gradients of all results where they are */
};

/* Runs op on in[0..n_in), some of which may be NULL if the op says so. arg is copied. Never returns NULL. */
qt_tensor *qt_emit(qt_tape *t, const qt_op *op, const void *arg, size_t arg_size, int n_in, qt_tensor *const *in);
/* qt_emit with the inputs listed: QT_EMIT(t, &qt_op_linear, NULL, 0, x, w, b) */
#define QT_EMIT(t, op, arg, size, ...) \
    qt_emit(t, op, arg, size, (int)(sizeof((qt_tensor *[]){__VA_ARGS__}) / sizeof(qt_tensor *)), (qt_tensor *[]){__VA_ARGS__})

/* Gradients. Parameters and variables have theirs from the start, and backward adds into them. A result has one only while backward
 * needs it, from the first of its readers to the op that made it: memory is lent and comes back, so that all of backward works in a few
 * blocks that stay in the cache. What is lent is not cleared first: an op that `stores` writes the first gradient of an input and adds
 * the others; for any other op the tape clears it. */
enum { QT_UNWRITTEN = 128 }; /* flag of a tensor: its gradient's memory has been lent, and nothing is in it yet */

/* For backward of an op that stores, before it touches x->grad: true once if nothing has been written there yet. */
static inline bool qt_grad_first(qt_tensor *x)
{
    bool first = x->flags & QT_UNWRITTEN;
    x->flags &= (uint8_t)~QT_UNWRITTEN;
    return first;
}
/* For an input that such an op adds to all the same. x may be NULL. */
static inline void qt_grad_clear(qt_tensor *x)
{
    if (x && qt_grad_first(x)) memset(x->grad, 0, (size_t)x->n * sizeof *x->grad);
}
/* The gradient of a result before backward runs, zero at first: what is added to it flows too. NULL when memory is out. */
R *qt_tape_grad(qt_tape *t, qt_tensor *x);
/* qt_backward from any tensor y with the given gradient dy (y->n numbers): vector-Jacobian product. */
qt_err qt_backward_from(qt_tape *t, qt_tensor *y, const R *dy);
/* A tensor of the tape that wants a gradient, which is zero at first: for tests and probes. */
qt_tensor *qt_variable(qt_tape *t, int rank, const int64_t *dim);

/* For shape(): makes the result. rank 1..5. */
qt_err qt_node_out(qt_node *nd, int rank, const int64_t *dim);
/* For shape(): the result has the shape of x. */
qt_err qt_node_out_like(qt_node *nd, const qt_tensor *x);
/* For shape(): n bytes that live until backward, in nd->saved. Call it once. */
qt_err qt_node_save(qt_node *nd, size_t n);
/* For shape(): "conv2d at blk.1.conv: ..." */
qt_err qt_node_fail(const qt_node *nd, const char *fmt, ...) QT_PRINTF(2, 3);
/* What backward of the node reads. */
static inline uint32_t qt_reads(const qt_node *nd) { return nd->op->reads ? nd->op->reads(nd) : QT_READS(QT_EVERY); }
/* For `reads` of ops that read no numbers, their result, or their first input. */
uint32_t qt_reads_nothing(const qt_node *nd);
uint32_t qt_reads_result(const qt_node *nd);
uint32_t qt_reads_input(const qt_node *nd);
/* True if backward will be run through this input. */
static inline bool qt_wants_grad(const qt_tensor *x) { return x && (x->flags & QT_NEEDS_GRAD); }
/* Scratch for the run of forward or backward, from the step arena: call it in shape and keep the pointer in saved. */
void *qt_tape_alloc(qt_tape *t, size_t n);
/* A tensor whose numbers lie elsewhere, and there longer than the step; it gets no gradient. */
qt_tensor *qt_tape_view(qt_tape *t, R *data, int rank, const int64_t *dim);
/* Puts an error on the tape; the first one stays. */
void qt_tape_fail(qt_tape *t, qt_err e);
/* "[64, 10]" into buf. */
const char *qt_shape_str(const qt_tensor *x, char buf[static 96]);
/* First node whose result (or, with grads, gradient) is not finite, NULL if all are: what exit code 4 names. To see the gradients it
 * runs backward once more, so those of parameters are of no use afterwards. */
const qt_node *qt_tape_nonfinite(qt_tape *t, const char **which);
bool qt_all_finite(const R *x, int64_t n);
#endif
