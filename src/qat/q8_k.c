/* The 8-bit activations that llama.cpp multiplies ternary (TQ1_0, TQ2_0) and K weights with, type Q8_K of ggml. For each block of 256
 * numbers of a row, with m the number of the largest magnitude, sign included,
 *
 *     t = -127 / m,   code = min(round(x t), 127),   s = 1 / t,   y = code s,      dx = dy
 *
 * all in single precision, round() half to even, s kept in single precision. Training with it, what the runtime computes is what training
 * has computed. A block of zeros has s = 0 and codes 0. The rule is that of ggml's reference quantizer, which is the one in use on all CPUs; it was
 * read off its results. The gradient is the straight-through estimator's (Bengio et al. 2013, arXiv 1308.3432); nothing is clipped. */
#include "qat/blocks.h"
#include <float.h>

enum { BLOCK = 256 };

QT_CLONES static void codes_of(R *restrict code, const R *restrict x, float t)
{
    for (int i = 0; i < BLOCK; i++) {
        float q = rintf((float)x[i] * t) + 0.0f;
        code[i] = (R)(q < 127 ? q : 127);
    }
}

static R encode_block(const qt_blocks *b, const R *x, R *code)
{
    const float t = -127 / (float)qt_block_extreme(x, b->block);
    if (fabsf(t) <= FLT_MAX) codes_of(code, x, t);
    else memset(code, 0, BLOCK * sizeof *code); /* m below 2^-121 */
    return (R)(1 / t + 0.0f);
}

static qt_err init(qt_site *q) { return qt_blocks_check(q, BLOCK); }

static qt_blocks blocks_of(qt_role role) { return (qt_blocks){encode_block, BLOCK, -127, 127, .role = role}; }

static const qt_op op;

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    qt_blocks b = blocks_of(q->role);
    return QT_EMIT(t, &op, &b, sizeof b, x);
}

static double bits(const qt_site *q) { return (void)q, 8; }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    qt_blocks b = blocks_of(q->role);
    return qt_blocks_encode(q, &b, x, a, bits(q), codes);
}

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    qt_blocks b = blocks_of(QT_ROLE_ACT);
    return QT_EMIT(t, &op, &b, sizeof b, in[0]);
}

static const qt_case cases[] = {{"rows", build, {{{2, 512}, 'n'}}}, {0}};

static const qt_op op = {
    {"q8_k", "blocks of 256 in 8 bits, gradient passed on", "ggml, type Q8_K"}, QT_SURROGATE, qt_blocks_shape, qt_blocks_forward, qt_pass_backward,
    .stores = true, .cases = cases};

const qt_quant qt_quant_q8_k = {
    {"q8_k", "activations as llama.cpp rounds them for ternary weights: blocks of 256, identity gradient", "ggml, type Q8_K"},
    init, NULL, apply, .encode = encode, .bits = bits, .zero_to_zero = true, .op = &op};
