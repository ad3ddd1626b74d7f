/* What a tape keeps for backward, and in how many bits.
 *
 * A tape that is not thrifty keeps every result until it is reset. A thrifty one lends memory to results as to gradients, and whoever runs
 * the forward pass says with qt_tape_done when a result has been read for the last time (a model knows the readers of each of its
 * layers). The tape looks at what backward will read of it (qt_op.reads) and
 *     nobody reads it         takes the memory back;
 *     signs are read          keeps one bit a number, exactly the mask that relu needs;
 *     it has integer codes    takes the floats back: the codes give the same numbers again;
 *     a codec may stand in    has the codec of the reader's layer encode it, and takes the floats back;
 *     the very numbers are    leaves it as it is.
 * Before a node runs backward, what it reads and is not there is decoded into lent memory, which comes back after it. So the floats of a
 * step that exist at one time are those of about one layer. Forward results never depend on any of this. */
#ifndef QT_AUTOGRAD_CODEC_H
#define QT_AUTOGRAD_CODEC_H
#include "autograd/tape.h"

/* What is kept of one tensor. Number i belongs to group i / inner % groups. */
typedef struct qt_pack {
    qt_tensor       *x;
    struct qt_saver *saver; /* whose codec `code` is of, or NULL */
    void            *code;
    R               *range;  /* [groups, 2], the codec's own, of this step */
    int64_t          inner, groups, bytes;
    uint8_t         *sign;   /* bit i: not x[i] <= 0 */
    qt_rng           u;      /* for codecs that draw */
} qt_pack;

typedef struct qt_codec {
    qt_desc d;
    /* Number of groups that the codec wants in a model whose attention has so many heads (1 without attention). */
    int64_t (*groups)(const void *cfg, int64_t heads);
    int64_t (*bytes)(const void *cfg, int64_t n);                               /* of n codes */
    int64_t (*work)(const qt_pack *p);                                          /* numbers of work space for encode */
    void (*encode)(const void *cfg, const qt_pack *p, R *state, R *work);       /* x->data to code and range; state [groups, 2] moves on */
    void (*decode)(const void *cfg, const qt_pack *p, R *y);
    double fresh;                                                               /* what state begins with */
} qt_codec;
#define QT_CODEC(name) extern const qt_codec qt_codec_##name;
#include "autograd/codecs.def"
#undef QT_CODEC

enum { QT_SAVER_TENSORS = 8 };
/* How one layer's tensors are kept. state [QT_SAVER_TENSORS, groups, 2] outlives the step; the k-th tensor that is encoded has the k-th part. */
typedef struct qt_saver {
    const qt_codec *codec;
    const void     *cfg;
    const char     *path;
    int64_t         groups;
    qt_tensor      *state; /* its data begin as codec->fresh */
    int             used;  /* parts in this step */
    uint64_t        draw;  /* 0; for a meter, which of several draws of the random numbers */
} qt_saver;

/* x has been read for the last time in forward. Tensors that are not the tape's, and tapes that are not thrifty, stay as they are. */
void qt_tape_done(qt_tape *t, qt_tensor *x);
/* What is kept of the numbers of p->x into y [n]. */
void qt_pack_decode(const qt_pack *p, R *y);

/* Bytes of what backward of the layers reads, but of parameters and what quantizers make of them, and of the ops' own arrays: as it is kept; as it would be in floats,
 * each tensor once; and as it is kept if each reader had a copy of its own. What the loss reads, which belongs to no layer, is not in it. */
typedef struct qt_saved {
    int64_t bytes, floats, per_op;
} qt_saved;
qt_saved qt_tape_saved(qt_tape *t);
/* The same node by node, in forward order, with the layers' paths: a tensor that several read counts for the first. */
void qt_tape_saved_each(qt_tape *t, void (*add)(void *arg, const char *path, qt_saved s), void *arg);

/* ---- for tape.c ---------------------------------------------------------------------------------------------------------------- */

/* n numbers of the tape's memory, the smallest free block that holds them or a new one; NULL when memory is out. */
R     *qt_tape_lend(qt_tape *t, int64_t n);
/* False if nothing at this place is lent. */
bool   qt_tape_take_back(qt_tape *t, const R *at);
/* Before and after backward of a node: what it reads is there, and no longer. */
qt_err qt_node_unpack(qt_node *nd);
void   qt_node_pack(qt_node *nd);
#endif
