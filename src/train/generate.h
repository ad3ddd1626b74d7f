/* Text from a language model: tokens and their spelling (spelling.c), which token comes next (sampler.c), and the model that is asked again and
 * again (generate.c). Where model and tokens come from is not known here: a run, an exported file, a file of another program. */
#ifndef QT_TRAIN_GENERATE_H
#define QT_TRAIN_GENERATE_H
#include "nn/nn.h"
#include <stdio.h>

/* ---- spelling.c ------------------------------------------------------------------------------------------------------------------- */

/* How tokens are spelled. */
typedef struct qt_spelling {
    int64_t n;   /* kinds of tokens */
    int32_t end; /* the token that ends a text, -1: there is none */
    void   *state;
    /* The tokens of text[0..n), at most n of them */
    qt_err (*encode)(const struct qt_spelling *s, const char *text, size_t n, int32_t *ids, int64_t *count);
    /* The bytes of a token, *n of them. Not a string */
    const uint8_t *(*bytes)(const struct qt_spelling *s, int32_t id, size_t *n);
    void   (*close)(struct qt_spelling *s); /* NULL: nothing to close */
} qt_spelling;

/* As a recipe's `data` section says (NULL: bytes): bytes, or a vocabulary file. QT_EIO if that is missing. */
qt_err qt_spelling_open(const qt_yaml *data, qt_spelling *s);
void   qt_spelling_close(qt_spelling *s);

/* Bytes that come piece by piece, as whole characters of UTF-8: the bytes of one that is not complete wait, and what can be none becomes
 * U+FFFD. So what was written is UTF-8 at any time. */
typedef struct qt_utf8_stream {
    uint8_t wait[4];
    size_t  n;
} qt_utf8_stream;
void qt_utf8_put(qt_utf8_stream *u, const uint8_t *p, size_t n, FILE *f);
void qt_utf8_end(qt_utf8_stream *u, FILE *f); /* what still waits can be none */

/* ---- sampler.c --------------------------------------------------------------------------------------------------------------------- */

typedef struct qt_sampling {
    double   temperature; /* 0: the likeliest token */
    double   top_p;       /* of the likeliest tokens, the fewest that have this share together; 1: all */
    int64_t  top_k;       /* only so many of the likeliest tokens; 0: all */
    uint64_t seed;
} qt_sampling;

#define QT_F_SAMPLING_AT(T, m, k) offsetof(T, m) + offsetof(qt_sampling, k)
#define QT_F_SAMPLING(T, m)                                                                                                                  \
    {"temperature", QT_REAL, QT_F_SAMPLING_AT(T, m, temperature), "0.8", 0, 1e6, NULL, "0: the likeliest token; 1: as the model says"},      \
        {"top_k", QT_INT, QT_F_SAMPLING_AT(T, m, top_k), "0", 0, 1 << 24, NULL, "draw from so many of the likeliest tokens; 0: all"},        \
        {"top_p", QT_REAL, QT_F_SAMPLING_AT(T, m, top_p), "1", 0, 1, NULL, "draw from the likeliest tokens that have this share together"},  \
        {"seed", QT_INT, QT_F_SAMPLING_AT(T, m, seed), "1", 0, (double)INT64_MAX, NULL, "of what is drawn"}

/* Draws number `at` of the stream: a function of seed and at, of the logits [n], and of nothing else. work holds n numbers. */
int32_t qt_sample_token(const qt_sampling *s, const R *logits, int64_t n, int64_t at, int32_t *work);

/* ---- generate.c -------------------------------------------------------------------------------------------------------------------- */

/* A model with its text so far. It sees as many tokens at once as it was trained with; when these are full, it forgets the older half. */
typedef struct qt_generator {
    qt_model       *model;
    qt_tape        *tape;
    const R        *logits;       /* [vocab] of the token that comes next */
    int64_t         context, n;   /* tokens it can see, and does see */
    int64_t         drawn, vocab;
    int32_t        *ids, *work;   /* [context], [vocab] */
    qt_arena        arena;
    qt_tape        *weights;      /* holds the quantized weights, so that they are quantized once and not for each token */
    struct qt_held *held;
} qt_generator;

/* The model and the tape are the caller's, and are used by nobody else until qt_generator_free, which is to be called whatever came back. */
qt_err qt_generator_open(qt_model *m, qt_tape *t, qt_generator *g);
void   qt_generator_free(qt_generator *g);
/* Goes on with these tokens, 0 <= id < vocab. Of more than it can see at once, the last half of that counts. */
qt_err qt_generator_read(qt_generator *g, const int32_t *ids, int64_t n);
/* Draws the token that comes next; to go on, read it. */
int32_t qt_generator_draw(qt_generator *g, const qt_sampling *s);

/* A prompt, and up to `tokens` more, which stop before the token that ends a text. */
typedef struct qt_generation {
    const char  *prompt;
    int64_t      tokens;
    qt_sampling  sampling;
} qt_generation;
typedef struct qt_generated {
    int64_t prompt_tokens, tokens, unread; /* unread: of the prompt, because it is too long */
    double  prompt_seconds, seconds;
    bool    ended;
} qt_generated;
/* Writes prompt and text to f as it comes. stop as in qt_run, or NULL. */
qt_err qt_generate(qt_generator *g, const qt_spelling *s, const qt_generation *what, FILE *f, volatile int *stop, qt_generated *made);
#endif
