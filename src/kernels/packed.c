/* Packing weights to 1, 2, 4 or 8 bits a code and back; the layout stands in packed_path.h. It runs when a model is exported or loaded. */
#include "base/par.h"
#include "kernels/packed_path.h"
#include <string.h>

enum { V = QT_PACKED_VECTOR };

int qt_packed_bits(int lo, int hi, bool binary)
{
    if (binary && lo == -1 && hi == 1) return 1;
    return hi - lo <= 3 ? 2 : hi - lo <= 15 ? 4 : 8;
}

size_t qt_packed_size(int64_t N, int64_t K, int bits) { return (size_t)(N * qt_packed_vectors(K, bits) * V); }

/* One row of whole vectors from u [vectors * 32 P]. */
QT_CLONES static void fill_row(uint8_t *d, const uint8_t *u, int64_t vectors, int bits)
{
    int P = qt_packed_per_byte(bits);
    for (int64_t v = 0; v < vectors; v++, d += V, u += V * P)
        for (int j = 0; j < V; j++) {
            unsigned byte = 0;
            for (int p = 0; p < P; p++) byte |= (unsigned)u[p * V + j] << p * bits;
            d[j] = (uint8_t)byte;
        }
}

/* u of a piece of a row, and the sum of its codes; false: a code is out of range. */
QT_CLONES static bool lift(uint8_t *u, const int8_t *q, int64_t K, int lo, int hi, int step, int32_t *sum)
{
    int32_t total = 0, bad = 0;
    for (int64_t k = 0; k < K; k++) {
        int code = q[k] - lo;
        bad |= (q[k] < lo) | (q[k] > hi) | (code & (step - 1));
        u[k] = (uint8_t)(step == 2 ? code >> 1 : code);
        total += q[k];
    }
    *sum += total;
    return !bad;
}

bool qt_packed_fill(qt_packed *p, int64_t N, int64_t K, int bits, int lo, int hi, const int8_t *q, void *data, int32_t *sum)
{
    enum { PIECE = 4096 };
    int64_t vectors = qt_packed_vectors(K, bits), codes = V * qt_packed_per_byte(bits);
    int     step = bits == 1 ? 2 : 1, good = true;
    *p = (qt_packed){N, K, bits, lo, hi, qt_packed_size(N, K, bits), data, sum};
    if (hi - lo > step * ((1 << bits) - 1)) return false;
    QT_PRAGMA(omp parallel for schedule(static) reduction(&& : good) if (N * K > 1 << 18))
    for (int64_t n = 0; n < N; n++) {
        uint8_t u[PIECE], *d = (uint8_t *)data + n * vectors * V;
        sum[n] = 0;
        for (int64_t k = 0; k < K; k += PIECE) {
            int64_t len = qt_min_i64(PIECE, K - k), whole = (len + codes - 1) / codes * codes;
            good = lift(u, q + n * K + k, len, lo, hi, step, sum + n) && good;
            memset(u + len, 0, (size_t)(whole - len));
            fill_row(d + k / codes * V, u, whole / codes, bits);
        }
    }
    return good;
}

/* K codes of a row, the first at a vector's beginning. */
QT_CLONES static void unpack_row(int8_t *q, const uint8_t *d, int64_t K, int bits, int lo, int step)
{
    int P = qt_packed_per_byte(bits), mask = (1 << bits) - 1;
    for (int64_t k = 0; k < K; d += V)
        for (int p = 0; p < P && k < K; p++) {
            int64_t len = qt_min_i64(V, K - k);
            for (int64_t j = 0; j < len; j++) q[k + j] = (int8_t)(lo + step * (d[j] >> p * bits & mask));
            k += len;
        }
}

void qt_packed_unpack(const qt_packed *p, int64_t n, int64_t rows, int8_t *q)
{
    int64_t vectors = qt_packed_vectors(p->K, p->bits);
    QT_FOR_EACH(r, rows, rows * p->K > 1 << 20)
    {
        unpack_row(q + r * p->K, (const uint8_t *)p->data + (n + r) * vectors * V, p->K, p->bits, p->lo, p->bits == 1 ? 2 : 1);
    }
}
