/* The block types in which ggml, and with it llama.cpp and its GGUF files, keeps a row of numbers. A row is cut into blocks of `block`
 * numbers and each takes `bytes` bytes: one scale d in half precision, and integer codes. A number is code * d.
 *
 * Packing starts from the integers and the scale that training has used and never quantizes anything again: what is not on the type's grid
 * is refused. Unpacking gives the same integers back. All types can be measured, those with pack() can be written and read, and the plain
 * floats F32, F16 and BF16 read. */
#ifndef QT_KERNELS_GGML_H
#define QT_KERNELS_GGML_H
#include "qtape.h"
typedef qt_real R;

/* Numbers of the types in a file. */
enum {
    QT_GGML_F32 = 0, QT_GGML_F16 = 1, QT_GGML_Q4_0 = 2, QT_GGML_Q8_0 = 8, QT_GGML_BF16 = 30, QT_GGML_TQ1_0 = 34, QT_GGML_TQ2_0 = 35,
    QT_GGML_Q1_0 = 41, QT_GGML_Q2_0 = 42, QT_GGML_TYPES = 43, /* all are below */
    QT_GGML_LONGEST = 256 /* numbers of a block */
};

typedef struct qt_ggml {
    const char *name;
    int         id;
    int64_t     block; /* numbers a block */
    int64_t     bytes; /* bytes a block */
    int         lo, hi; /* codes are in [lo, hi] (Q1_0: -1 and 1 only) */
    void      (*pack)(uint8_t *out, const int32_t *code, uint16_t d);   /* one block; NULL: a type without, or of other, codes */
    void      (*unpack)(const uint8_t *in, int32_t *code, uint16_t *d);
} qt_ggml;

const qt_ggml *qt_ggml_of(int id);             /* NULL: not known */
const qt_ggml *qt_ggml_find(const char *name); /* "Q4_0", in any case; NULL: not known */
/* Bits that a number takes, scales included: Q4_0 4.5, TQ2_0 2.0625. */
double         qt_ggml_bits(const qt_ggml *t);

/* Packs n codes, a multiple of the block. Code i has scale[i / inner % count], inner a multiple of the block. False, with the first such
 * block in *bad, if a code is out of range or a scale no finite half-precision number. */
bool qt_ggml_pack(const qt_ggml *t, int64_t n, const int32_t *code, const R *scale, int64_t inner, int64_t count, uint8_t *out, int64_t *bad);
/* n numbers, a multiple of the block, back to codes and one scale a block. */
void qt_ggml_unpack(const qt_ggml *t, int64_t n, const uint8_t *in, int32_t *code, R *scale);
/* The same as numbers, bit for bit what ggml gives; F32, F16 and BF16 too. False if the type can only be measured. */
bool qt_ggml_read(const qt_ggml *t, int64_t n, const uint8_t *in, R *x);
/* Numbers as F32 or F16, to the nearest. */
void qt_ggml_write(const qt_ggml *t, int64_t n, const R *x, uint8_t *out);
#endif
