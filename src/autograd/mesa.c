/* Mesa: tensors kept for backward in 8 bits (or 2 to 7), forward untouched. With L = 2^b levels, for each group of numbers with range
 * alpha and offset beta,
 *
 *     code = round(clamp((x - beta) (L - 1)/alpha + u - 1/2, 0, L - 1)),   u uniform in [0, 1)          x~ = code alpha/(L - 1) + beta
 *
 * which is right on average wherever x lies within [beta, beta + alpha]; u = 1/2 rounds to the nearest. alpha and beta follow the batches: with
 * r and m the group's max - min and its min,
 *     first:  alpha = r, beta = m;      later:  alpha += (1 - lambda)(r - alpha), beta += (1 - lambda)(m - beta).
 * A range that lags behind clips. alpha = 0 gives x~ = beta. Groups are heads of attention, or slices of the channels; all images and tokens share them.
 *
 * Pan et al., "Mesa: A memory-saving training framework for transformers", 2021, arXiv 2111.11124, section 3. There codes have no upper
 * bound, so that what lies above the range wraps around; here it is clipped. Codes of up to 4 bits lie two in a byte. */
#include "autograd/codec.h"
#include "base/par.h"
#include <math.h>

#ifdef QT_DOUBLE
#define RINT rint
#else
#define RINT rintf
#endif

typedef struct config {
    int64_t     num_bits;
    const qt_yaml *group;
    double      ema;
    bool        stochastic;
} config;

static const qt_field fields[] = {
    QT_F_INT(config, num_bits, "8", 2, 8, "bits of a code"),
    QT_F_TREE(config, group, "~", "ranges of a tensor: head (the default): one a head of the model's attention; layer: one; or their number"),
    QT_F_REAL(config, ema, "0.9", 0, 1, "how much of the range before is kept in each step"),
    QT_F_BOOL(config, stochastic, "true", "round up or down by chance, right on average; false: to the nearest"),
    {NULL},
};

/* Groups: 0 if the word is none of head, layer or a number. */
static int64_t groups(const void *cfg, int64_t heads)
{
    const qt_yaml *y = ((const config *)cfg)->group;
    int64_t        n;
    if (!y || (y->kind == QT_YAML_SCALAR && !strcmp(y->text, "head"))) return heads;
    if (y->kind == QT_YAML_SCALAR && !strcmp(y->text, "layer")) return 1;
    return qt_yaml_int(y, &n) && n >= 1 && n <= 4096 ? n : 0;
}

static bool    halves(const void *cfg) { return ((const config *)cfg)->num_bits <= 4; }
static int64_t bytes(const void *cfg, int64_t n) { return halves(cfg) ? (n + 1) / 2 : n; }
static int64_t work(const qt_pack *p) { return 2 * p->groups * QT_CHUNKS(p->x->n, QT_GRAIN); }

/* ---- ranges ---------------------------------------------------------------------------------------------------------------- */

enum { LANES = 16, BLOCK = QT_RNG_BLOCK };

QT_CLONES static void widen(const R *x, int64_t n, R *least, R *most)
{
    R lo[LANES], hi[LANES];
    for (int l = 0; l < LANES; l++) lo[l] = *least, hi[l] = *most;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) lo[l] = x[i + l] < lo[l] ? x[i + l] : lo[l], hi[l] = x[i + l] > hi[l] ? x[i + l] : hi[l];
    for (; i < n; i++) lo[0] = x[i] < lo[0] ? x[i] : lo[0], hi[0] = x[i] > hi[0] ? x[i] : hi[0];
    for (int l = 0; l < LANES; l++) *least = lo[l] < *least ? lo[l] : *least, *most = hi[l] > *most ? hi[l] : *most;
}

/* Least and largest number of each group: [groups, 2] a chunk, then all of them into the first. */
static void limits(const qt_pack *p, const R *x, R *m)
{
    const int64_t n = p->x->n, G = p->groups;
    QT_FOR_CHUNKS(b, e, n, QT_GRAIN)
    {
        R *own = m + QT_CHUNK_OF(b) * 2 * G;
        for (int64_t k = 0; k < G; k++) own[2 * k] = INFINITY, own[2 * k + 1] = -INFINITY;
        for (int64_t i = b, end; i < e; i = end) {
            int64_t k = i / p->inner % G;
            end = qt_min_i64(e, (i / p->inner + 1) * p->inner);
            widen(x + i, end - i, &own[2 * k], &own[2 * k + 1]);
        }
    }
    for (int64_t c = 1; c < QT_CHUNKS(n, QT_GRAIN); c++)
        for (int64_t k = 0; k < 2 * G; k++) {
            R v = m[c * 2 * G + k];
            m[k] = k % 2 ? (v > m[k] ? v : m[k]) : (v < m[k] ? v : m[k]);
        }
}

/* state: (alpha, beta) of each group, alpha < 0 before the first step. */
static void follow(const qt_pack *p, const R *m, R lambda, R *state)
{
    for (int64_t k = 0; k < p->groups; k++) {
        R r = m[2 * k + 1] - m[2 * k], *alpha = &state[2 * k], *beta = &state[2 * k + 1];
        if (*alpha < 0) *alpha = r, *beta = m[2 * k];
        else *alpha -= (1 - lambda) * (*alpha - r), *beta -= (1 - lambda) * (*beta - m[2 * k]);
        p->range[2 * k] = *alpha, p->range[2 * k + 1] = *beta;
    }
}

/* ---- codes ----------------------------------------------------------------------------------------------------------------- */

/* u are 16 bits and lie in the middle of their interval, unless that is what makes 1/2. */
QT_CLONES static void encode_run(uint8_t *restrict q, const R *restrict x, const uint16_t *restrict u, R middle, int64_t n, R s, R beta, R top)
{
    for (int64_t i = 0; i < n; i++) {
        R v = (x[i] - beta) * s + (((R)u[i] + middle) * (R)0x1p-16 - (R)0.5);
        v = v > 0 ? v : 0; /* NaN too */
        q[i] = (uint8_t)RINT(v < top ? v : top);
    }
}

QT_CLONES static void decode_run(R *restrict y, const uint8_t *restrict q, int64_t n, R d, R beta)
{
    for (int64_t i = 0; i < n; i++) y[i] = (R)q[i] * d + beta;
}

static void encode_block(const config *c, const qt_pack *p, const R *x, int64_t from, int64_t to, uint8_t *q)
{
    const R  top = (R)((1 << c->num_bits) - 1);
    uint16_t u[BLOCK];
    if (c->stochastic) qt_rng_bits16(&p->u, (uint64_t)from, u);
    else
        for (int i = 0; i < BLOCK; i++) u[i] = 0x8000;
    for (int64_t i = from, end; i < to; i = end) {
        const R *range = p->range + i / p->inner % p->groups * 2;
        R        s = top / range[0];
        end = qt_min_i64(to, (i / p->inner + 1) * p->inner);
        encode_run(q + (i - from), x + i, u + (i - from), c->stochastic ? (R)0.5 : 0, end - i, isfinite(s) ? s : 0, range[1], top);
    }
}

static void decode_block(const config *c, const qt_pack *p, const uint8_t *q, int64_t from, int64_t to, R *y)
{
    for (int64_t i = from, end; i < to; i = end) {
        const R *range = p->range + i / p->inner % p->groups * 2;
        end = qt_min_i64(to, (i / p->inner + 1) * p->inner);
        decode_run(y + i, q + (i - from), end - i, range[0] / (R)((1 << c->num_bits) - 1), range[1]);
    }
}

static void encode(const void *cfg, const qt_pack *p, R *state, R *m)
{
    const config *c = cfg;
    const R      *x = p->x->data;
    uint8_t      *code = p->code;
    limits(p, x, m);
    follow(p, m, (R)c->ema, state);
    QT_FOR_CHUNKS(b, e, p->x->n, QT_GRAIN)
    for (int64_t i = b; i < e; i += BLOCK) {
        uint8_t       q[BLOCK + 1] = {0};
        const int64_t n = qt_min_i64(BLOCK, e - i);
        if (!halves(c)) {
            encode_block(c, p, x, i, i + n, code + i);
            continue;
        }
        encode_block(c, p, x, i, i + n, q);
        for (int64_t j = 0; j < n; j += 2) code[(i + j) / 2] = (uint8_t)(q[j] | q[j + 1] << 4);
    }
}

static void decode(const void *cfg, const qt_pack *p, R *y)
{
    const uint8_t *code = p->code;
    QT_FOR_CHUNKS(b, e, p->x->n, QT_GRAIN)
    for (int64_t i = b; i < e; i += BLOCK) {
        uint8_t       q[BLOCK + 1];
        const int64_t n = qt_min_i64(BLOCK, e - i);
        for (int64_t j = 0; halves(cfg) && j < n; j += 2) q[j] = code[(i + j) / 2] & 15, q[j + 1] = code[(i + j) / 2] >> 4;
        decode_block(cfg, p, halves(cfg) ? q : code + i, i, i + n, y);
    }
}

const qt_codec qt_codec_mesa = {
    .d = {"mesa", "8-bit codes over running ranges of groups, rounded by chance", "Pan et al., arXiv 2111.11124, section 3", fields, sizeof(config)},
    .groups = groups,
    .bytes = bytes,
    .work = work,
    .encode = encode,
    .decode = decode,
    .fresh = -1,
};
