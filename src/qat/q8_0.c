/* The 8-bit activations that llama.cpp multiplies Q4_0, Q8_0, Q2_0 and Q1_0 weights with, type Q8_0 of ggml. For each block of 32 numbers of
 * a row, with m the largest magnitude and h() rounding to half precision,
 *
 *     code = round(x 127/m),         s = h(m / 127),   y = code s,      dx = dy        rounding: avx
 *     code = round(x (1 / (m/127))), s = h(m / 127),   y = code s,      dx = dy        rounding: reference
 *
 * all in single precision. The codes are rounded with the scale before it goes to half precision. ggml has the rule several times: its
 * kernels for x86 with AVX multiply with 127/m and round half to even; its reference, which CPUs without such a kernel use, multiplies with
 * the reciprocal of m/127 and rounds half away from zero. They differ in about one code of 500000. A block of zeros has s = 0. The gradient is the
 * straight-through estimator's (Bengio et al. 2013, arXiv 1308.3432). Left out: the kernels of other CPUs, which were not at hand. */
#include "base/half.h"
#include "qat/blocks.h"
#include <float.h>

enum { BLOCK = 32 };
enum { AVX, REFERENCE };
typedef struct cfg {
    int rounding;
} cfg;
static const qt_field fields[] = {
    QT_F_ENUM(cfg, rounding, "avx", "avx|reference", "as ggml rounds on x86 CPUs with AVX, or as it does where it has no kernel of its own"), {NULL}};

QT_CLONES static void codes_even(R *restrict code, const R *restrict x, float t)
{
    for (int i = 0; i < BLOCK; i++) code[i] = (R)(rintf((float)x[i] * t) + 0.0f);
}

static void codes_away(R *restrict code, const R *restrict x, float t)
{
    for (int i = 0; i < BLOCK; i++) code[i] = (R)(roundf((float)x[i] * t) + 0.0f);
}

/* Where t is infinite, for m below 2^-121, s is 0 in half precision. */
static R encode_block(const qt_blocks *b, const R *x, R *code)
{
    const float m = fabsf((float)qt_block_extreme(x, BLOCK)), s = m / 127, t = b->choice == AVX ? 127 / m : 1 / s;
    if (!(t <= FLT_MAX)) memset(code, 0, BLOCK * sizeof *code);
    else if (b->choice == AVX) codes_even(code, x, t);
    else codes_away(code, x, t);
    return (R)qt_half_to_float(qt_half_from_float(s));
}

static qt_err init(qt_site *q) { return qt_blocks_check(q, BLOCK); }

static qt_blocks blocks_of(int rounding, qt_role role) { return (qt_blocks){encode_block, BLOCK, -127, 127, rounding, role}; }

static const qt_op op;

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    qt_blocks b = blocks_of(((const cfg *)q->cfg)->rounding, q->role);
    return QT_EMIT(t, &op, &b, sizeof b, x);
}

static double bits(const qt_site *q) { return (void)q, 8; }

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    qt_blocks b = blocks_of(((const cfg *)q->cfg)->rounding, q->role);
    return qt_blocks_encode(q, &b, x, a, bits(q), codes);
}

static qt_tensor *build(qt_tape *t, qt_tensor **in)
{
    qt_blocks b = blocks_of(AVX, QT_ROLE_ACT);
    return QT_EMIT(t, &op, &b, sizeof b, in[0]);
}

static const qt_case cases[] = {{"rows", build, {{{3, 64}, 'n'}}}, {0}};

static const qt_op op = {
    {"q8_0", "blocks of 32 in 8 bits, gradient passed on", "ggml, type Q8_0"}, QT_SURROGATE, qt_blocks_shape, qt_blocks_forward, qt_pass_backward,
    .stores = true, .cases = cases};

const qt_quant qt_quant_q8_0 = {
    {"q8_0", "activations as llama.cpp rounds them for Q4_0 and Q8_0 weights: blocks of 32, identity gradient", "ggml, type Q8_0", fields, sizeof(cfg)},
    init, NULL, apply, .encode = encode, .bits = bits, .zero_to_zero = true, .op = &op};
