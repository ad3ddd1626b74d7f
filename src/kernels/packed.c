/* Packing weights to 1, 2, 4 or 8 bits a code and back; the layout stands in packed_path.h. It runs when a model is exported or loaded. */
#include "base/par.h"
#include "kernels/packed_path.h"
#include <string.h>

enum { V = QT_PACKED_VECTOR, ROWS = QT_PACKED_ROWS, QUAD = QT_PACKED_QUAD, PIECE = 1024 };

int qt_packed_bits(int lo, int hi, bool binary)
{
    if (binary && lo == -1 && hi == 1) return 1;
    return hi - lo <= 3 ? 2 : hi - lo <= 15 ? 4 : 8;
}

size_t qt_packed_size(int64_t N, int64_t K, int bits) { return (size_t)((N + ROWS - 1) / ROWS * qt_packed_vectors(K, bits) * V); }

/* u of some codes, and their sum; false: one is out of range. */
QT_CLONES static bool lift(uint8_t *u, const int8_t *q, int64_t n, int lo, int hi, int step, int32_t *sum)
{
    int32_t total = 0, bad = 0;
    for (int64_t i = 0; i < n; i++) {
        int code = q[i] - lo;
        bad |= (q[i] < lo) | (q[i] > hi) | (code & (step - 1));
        u[i] = (uint8_t)(step == 2 ? code >> 1 : code);
        total += q[i];
    }
    *sum += total;
    return !bad;
}

/* Vectors of a panel from u of its rows. A quad is a word; shifted codes do not leave their bytes. */
static void fill(uint8_t *d, const uint8_t (*u)[PIECE], int64_t vectors, int bits)
{
    const int P = qt_packed_per_byte(bits);
    for (int64_t v = 0; v < vectors; v++)
        for (int r = 0; r < ROWS; r++, d += QUAD) {
            uint32_t all = 0, quad;
            for (int p = 0; p < P; p++) memcpy(&quad, u[r] + (v * P + p) * QUAD, QUAD), all |= quad << p * bits;
            memcpy(d, &all, QUAD);
        }
}

/* The panel of rows [n, n + ROWS), as far as they are there. */
static bool fill_panel(const qt_packed *p, int64_t n, const int8_t *q)
{
    const int64_t vectors = qt_packed_vectors(p->K, p->bits), codes = qt_packed_codes(p->bits);
    uint8_t       u[ROWS][PIECE], *d = (uint8_t *)p->data + n / ROWS * vectors * V;
    bool          good = true;
    for (int64_t k = 0; k < p->K; k += PIECE) {
        int64_t len = qt_min_i64(PIECE, p->K - k);
        memset(u, 0, sizeof u);
        for (int64_t r = 0; r < qt_min_i64(ROWS, p->N - n); r++)
            good = lift(u[r], q + (n + r) * p->K + k, len, p->lo, p->hi, p->bits == 1 ? 2 : 1, p->sum + n + r) && good;
        fill(d + k / codes * V, (const uint8_t(*)[PIECE])u, (len + codes - 1) / codes, p->bits);
    }
    return good;
}

bool qt_packed_fill(qt_packed *p, int64_t N, int64_t K, int bits, int lo, int hi, const int8_t *q, void *data, int32_t *sum)
{
    bool good = hi - lo <= (bits == 1 ? 2 : (1 << bits) - 1);
    *p = (qt_packed){N, K, bits, lo, hi, qt_packed_size(N, K, bits), data, sum};
    if (!good) return false;
    memset(sum, 0, (size_t)N * sizeof *sum);
    QT_PRAGMA(omp parallel for schedule(static) reduction(&& : good) if (N * K > 1 << 18))
    for (int64_t n = 0; n < N; n += ROWS) good = fill_panel(p, n, q) && good;
    return good;
}

/* u of whole vectors, a quad at a time; bits is a constant wherever this is called. */
static inline void split(uint8_t *u, const uint8_t *d, int64_t vectors, const int bits)
{
    const uint32_t mask = (uint32_t)((1 << bits) - 1) * 0x01010101u;
    for (int64_t v = 0; v < vectors; v++, d += V)
        for (int i = 0; i < 8 / bits; i++, u += QUAD) {
            uint32_t all, quad;
            memcpy(&all, d, QUAD);
            quad = all >> i * bits & mask;
            memcpy(u, &quad, QUAD);
        }
}

QT_CLONES static void lower(int8_t *q, int64_t n, int lo, int step)
{
    for (int64_t i = 0; i < n; i++) q[i] = (int8_t)(lo + step * (uint8_t)q[i]);
}

static void unpack_row(const qt_packed *p, int64_t n, int8_t *q)
{
    const uint8_t *d = (const uint8_t *)p->data + n / ROWS * qt_packed_vectors(p->K, p->bits) * V + n % ROWS * QUAD;
    const int64_t  codes = qt_packed_codes(p->bits), whole = p->K / codes, rest = p->K - whole * codes;
    uint8_t        last[QUAD * 8], *u = (uint8_t *)q;
    for (int part = 0; part < (rest ? 2 : 1); part++) {
        uint8_t      *to = part ? last : u;
        const int64_t vectors = part ? 1 : whole;
        switch (p->bits) {
        case 1: split(to, d, vectors, 1); break;
        case 2: split(to, d, vectors, 2); break;
        case 4: split(to, d, vectors, 4); break;
        default: split(to, d, vectors, 8); break;
        }
        d += whole * V;
    }
    if (rest) memcpy(u + whole * codes, last, (size_t)rest);
    lower(q, p->K, p->lo, p->bits == 1 ? 2 : 1);
}

void qt_packed_unpack(const qt_packed *p, int64_t n, int64_t rows, int8_t *q)
{
    QT_FOR_EACH(r, rows, rows * p->K > 1 << 18) { unpack_row(p, n + r, q + r * p->K); }
}
