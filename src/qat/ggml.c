/* Weights on the grid of a block type of ggml (kernels/ggml.h), so that a GGUF file holds exactly the numbers that were trained. For each
 * block of a row, with m the number of the largest magnitude, sign included, a the mean magnitude, and h() rounding to half precision,
 *
 *     Q8_0   32   s = h(|m| / 127)    codes -127 .. 127
 *     Q4_0   32   s = h(m / -8)       codes -8 .. 7: the largest is exact, and what is nearly as large on the other side is clipped
 *                 s = h(|m| / 7)      codes -7 .. 7, with ends: symmetric
 *     Q2_0   64   s = h(a sign(m))    codes -1 .. 2: three levels, and a fourth on the side of the largest
 *     TQ1_0, TQ2_0   256   s = h(a)   codes -1, 0, 1
 *     Q1_0  128   s = h(a)            codes -1, 1, and 1 for 0
 *     code = clamp(round(w / s)),   y = code s,      dw = dy
 *
 * with |s| no smaller than 2^-14 and no larger than 65504, where half precision has its 11 bits. With scales: kept the weights are those of a file,
 * numbers code s already, and s is read off them: where a stands above it is their smallest magnitude but 0. s is a constant for the gradient, which is
 * the identity (Bengio et al. 2013, arXiv 1308.3432), without a mask. Ternary weights with one scale for all of a tensor, as BitNet has them, are
 * {use: ternary, scale_grid: fp16}; they fit TQ1_0, TQ2_0 and Q2_0 too. Left out: learned scales, and types with a minimum beside the scale (Q4_1, the K family). */
#include "kernels/ggml.h"
#include "base/half.h"
#include "qat/blocks.h"

#define TYPES "Q8_0|Q4_0|Q2_0|Q1_0|TQ1_0|TQ2_0"
enum { Q8_0, Q4_0, Q2_0, Q1_0, TQ1_0, TQ2_0, SYMMETRIC, KEPT = 8 }; /* SYMMETRIC: Q4_0 with 15 levels; KEPT is added to a type */
static const int ids[] = {QT_GGML_Q8_0, QT_GGML_Q4_0, QT_GGML_Q2_0, QT_GGML_Q1_0, QT_GGML_TQ1_0, QT_GGML_TQ2_0, QT_GGML_Q4_0};

typedef struct cfg {
    int type, ends, scales;
} cfg;
static const qt_field fields[] = {QT_F_ENUM(cfg, type, NULL, TYPES, "block type of the tensor in a GGUF file"),
                                  QT_F_ENUM(cfg, ends, "signed", "signed|symmetric", "Q4_0: the largest weight has code -8, or codes -7 to 7"),
                                  QT_F_ENUM(cfg, scales, "measured", "measured|kept", "kept: of imported weights, that are on the grid and stay so"),
                                  {NULL}};

static R mean_abs(const R *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += fabs((double)x[i]);
    return (R)(sum / (double)n);
}

static R on_grid(R s)
{
    float least = s < 0 ? -0x1p-14f : 0x1p-14f, most = s < 0 ? -65504.0f : 65504.0f, f = (float)s;
    return (R)qt_half_to_float(qt_half_from_float(fabsf(f) < fabsf(least) ? least : fabsf(f) > 65504 ? most : f));
}

/* The scale of numbers that are on the grid: their smallest magnitude but 0. Where it is that of code 2 alone, they are the same with code 1. */
static R kept_scale(const qt_blocks *b, const R *x, R m)
{
    R s = 0;
    for (int64_t i = 0; i < b->block; i++)
        if (x[i] != 0 && (s == 0 || fabs((double)x[i]) < (double)s)) s = (R)fabs((double)x[i]);
    return b->choice == KEPT + Q2_0 && m < -s ? -s : s;
}

static R scale_of(const qt_blocks *b, const R *x)
{
    const R m = qt_block_extreme(x, b->block);
    if (b->choice >= KEPT) return kept_scale(b, x, m);
    switch (b->choice) {
    case Q8_0: return on_grid((R)fabs(m) / 127);
    case Q4_0: return on_grid(m / -8);
    case SYMMETRIC: return on_grid((R)fabs(m) / 7);
    case Q2_0: return on_grid(m < 0 ? -mean_abs(x, b->block) : mean_abs(x, b->block));
    default: return on_grid(mean_abs(x, b->block));
    }
}

QT_CLONES static void codes_of(R *restrict code, const R *restrict x, int64_t n, R s, R qn, R qp)
{
    for (int64_t i = 0; i < n; i++) code[i] = qt_code(x[i], s, 0, qn, qp);
}

static R encode_block(const qt_blocks *b, const R *x, R *code)
{
    const R s = scale_of(b, x);
    if (s == 0) memset(code, 0, (size_t)b->block * sizeof *code);
    else if (b->choice % KEPT != Q1_0) codes_of(code, x, b->block, s, b->qn, b->qp);
    else
        for (int64_t i = 0; i < b->block; i++) code[i] = x[i] < 0 ? -1 : 1;
    return s;
}

static int choice_of(const cfg *c)
{
    if (c->scales && c->type >= Q2_0) return c->type + KEPT; /* those of Q8_0 and Q4_0 are measured at the largest number, which keeps them */
    return c->type == Q4_0 && c->ends ? SYMMETRIC : c->type;
}

static qt_blocks blocks_of(int choice, qt_role role)
{
    const qt_ggml *t = qt_ggml_of(ids[choice % KEPT]);
    R              lo = choice == SYMMETRIC ? -7 : choice == Q8_0 ? -127 : (R)t->lo;
    return (qt_blocks){encode_block, t->block, lo, (R)t->hi, choice, role};
}

static qt_err init(qt_site *q)
{
    const cfg *c = q->cfg;
    if (c->ends && c->type != Q4_0) return qt_site_fail(q, "only type Q4_0 has ends");
    return qt_blocks_check(q, qt_ggml_of(ids[c->type])->block);
}

static const qt_op op;

static qt_tensor *apply(qt_tape *t, qt_site *q, qt_tensor *x)
{
    qt_blocks b = blocks_of(choice_of(q->cfg), q->role);
    return QT_EMIT(t, &op, &b, sizeof b, x);
}

static double bits(const qt_site *q)
{
    static const double levels[] = {256, 16, 4, 2, 3, 3};
    QT_ASSERT(((const cfg *)q->cfg)->type < SYMMETRIC);
    return log2(levels[((const cfg *)q->cfg)->type]);
}

static qt_err encode(qt_site *q, const qt_tensor *x, qt_arena *a, qt_codes *codes)
{
    qt_blocks b = blocks_of(choice_of(q->cfg), q->role);
    return qt_blocks_encode(q, &b, x, a, bits(q), codes);
}

static qt_tensor *build_as(qt_tape *t, qt_tensor **in, int choice)
{
    qt_blocks b = blocks_of(choice, QT_ROLE_WEIGHT);
    return QT_EMIT(t, &op, &b, sizeof b, in[0]);
}
static qt_tensor *build_q4_0(qt_tape *t, qt_tensor **in) { return build_as(t, in, Q4_0); }
static qt_tensor *build_q1_0(qt_tape *t, qt_tensor **in) { return build_as(t, in, Q1_0); }

static const qt_case cases[] = {{"Q4_0", build_q4_0, {{{3, 64}, 'n'}}}, {"Q1_0", build_q1_0, {{{2, 128}, 'n'}}}, {0}};

static const qt_op op = {
    {"ggml", "block type of ggml, gradient passed on", "ggml, its block types"}, QT_SURROGATE, qt_blocks_shape, qt_blocks_forward, qt_pass_backward,
    .stores = true, .cases = cases};

const qt_quant qt_quant_ggml = {
    {"ggml", "weights on the grid of a block type of GGUF files, scales in half precision, identity gradient", "ggml, its block types", fields,
     sizeof(cfg)},
    init, NULL, apply, .encode = encode, .bits = bits, .op = &op};
