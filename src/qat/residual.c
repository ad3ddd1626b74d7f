/* What backward of a learned step must know of its input, in few bits beside the codes, which integer products keep anyway. With u = x/s it
 * asks whether n < u < p, and there for r = round(u) - u, which lies in [-1/2, 1/2]. b bits hold both: 0 outside, and inside 1 + one of
 * L = 2^b - 1 levels of r, the next one below or above by chance,
 *
 *     v = 1 + floor((r + 1/2)(L - 1) + U),   U uniform in [0, 1)            r~ = (v - 1)/(L - 1) - 1/2
 *
 * so that E r~ = r. The gradient of the step (lsq.c) is linear in r and so right on average; that of x is exact. Where r is spread evenly this
 * rounding adds a variance of 1/(6 (L - 1)^2) an element to the 1/12 of r itself.
 *
 * Activations kept for backward in few bits, right on average: Chen et al. 2021, "ActNN", arXiv 2104.14129.
 *
 * A block of BLOCK elements has m = BLOCK b/8 bytes, and byte j holds elements j, j + m, j + 2 m, ..., the first in its lowest bits: so a
 * loop over bytes takes them apart in vector registers. */
#include "qat/residual.h"
#include "kernels/reduce.h"

enum { BLOCK = QT_RNG_BLOCK };

static int64_t block_bytes(int bits) { return BLOCK / 8 * bits; }
int64_t qt_residual_bytes(int64_t n, int bits) { return QT_CHUNKS(n, BLOCK) * block_bytes(bits); }

/* ---- forward ---------------------------------------------------------------------------------------------------------------------- */

QT_CLONES static void values(uint8_t *restrict v, const R *restrict x, const uint16_t *restrict draw, int64_t n, R s, R qn, R qp, R top)
{
    for (int64_t i = 0; i < n; i++) {
        R    u = x[i] / s, level = (qt_round(u) - u + (R)0.5) * top + ((R)draw[i] + (R)0.5) * (R)0x1p-16;
        bool inside = (u > qn) & (u < qp);
        v[i] = (uint8_t)(int)qt_clip(qt_keep(inside, 1 + level), 0, 1 + top);
    }
}

static void pack(uint8_t *restrict kept, const uint8_t *restrict v, int bits)
{
    const int64_t m = block_bytes(bits);
    memcpy(kept, v, (size_t)m);
    for (int64_t k = 1; k < 8 / bits; k++)
        for (int64_t j = 0; j < m; j++) kept[j] |= (uint8_t)(v[k * m + j] << (k * bits));
}

void qt_residual_keep(const qt_grid *g, const R *x, int64_t n, int bits, const qt_rng *rng, uint8_t *kept)
{
    const R top = (R)((1 << bits) - 2); /* L - 1 */
    QT_FOR_CHUNKS(b, e, n, QT_GRAIN)
    for (int64_t block = b; block < e; block += BLOCK) {
        const int64_t stop = qt_min_i64(block + BLOCK, e);
        uint8_t       v[BLOCK] = {0};
        uint16_t      draw[BLOCK];
        qt_rng_bits16(rng, (uint64_t)block, draw);
        for (int64_t i = block, end; i < stop; i = end) {
            end = qt_min_i64(stop, (i / g->layout.inner + 1) * g->layout.inner);
            values(v + (i - block), x + i, draw + (i - block), end - i, g->scale[i / g->layout.inner % g->layout.count], g->qn, g->qp, top);
        }
        pack(kept + block / BLOCK * block_bytes(bits), v, bits);
    }
}

/* ---- backward --------------------------------------------------------------------------------------------------------------------- */

static void unpack(uint8_t *restrict v, const uint8_t *restrict kept, int bits)
{
    const int64_t m = block_bytes(bits);
    for (int64_t k = 0; k < 8 / bits; k++)
        for (int64_t j = 0; j < m; j++) v[k * m + j] = kept[j] >> (k * bits) & ((1 << bits) - 1);
}

/* What dy is multiplied by in the sum for ds. */
QT_CLONES static void factors(R *restrict f, const uint8_t *restrict q, const uint8_t *restrict v, int64_t n, R base, R step)
{
    for (int64_t i = 0; i < n; i++) {
        const bool inside = v[i] != 0;
        f[i] = qt_keep(inside, (R)(v[i] - 1) * step - (R)0.5) + qt_keep(!inside, (R)q[i] + base);
    }
}

QT_CLONES static void pass(R *restrict dx, const R *restrict dy, const uint8_t *restrict v, int64_t n, bool first)
{
    if (first)
        for (int64_t i = 0; i < n; i++) dx[i] = qt_keep(v[i] != 0, dy[i]);
    else
        for (int64_t i = 0; i < n; i++) dx[i] += qt_keep(v[i] != 0, dy[i]);
}

double qt_residual_gradients(R *dx, const R *dy, const uint8_t *q, int base, const uint8_t *kept, int bits, qt_piece p, qt_step_dx mode)
{
    double  sum = 0;
    uint8_t v[BLOCK];
    R       f[BLOCK];
    for (int64_t block = p.at / BLOCK * BLOCK, end = p.at + p.n; block < end; block += BLOCK) {
        const int64_t i = qt_max_i64(block, p.at), n = qt_min_i64(block + BLOCK, end) - i;
        unpack(v, kept + block / BLOCK * block_bytes(bits), bits);
        factors(f, q + i, v + (i - block), n, (R)base, 1 / (R)((1 << bits) - 2));
        if (dx) pass(dx + i, dy + i, v + (i - block), n, mode == QT_DX_STORE);
        sum += qt_reduce_dot(f, dy + i, n);
    }
    return sum;
}
