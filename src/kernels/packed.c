/* Packed weights: plain loops, one code after the other from the lowest bit of each byte. */
#include "kernels/packed.h"
#include "kernels/igemm.h"
#include <string.h>

int qt_packed_bits(int lo, int hi, bool binary) { return binary ? 1 : hi - lo < 4 ? 2 : hi - lo < 16 ? 4 : 8; }

size_t qt_packed_size(int64_t N, int64_t K, int bits) { return (size_t)(N * ((K * bits + 7) / 8)); }

bool qt_packed_fill(qt_packed *p, int64_t N, int64_t K, int bits, int lo, int hi, const int8_t *q, void *data, int32_t *sum)
{
    uint8_t *d = data;
    int64_t  row = (K * bits + 7) / 8;
    *p = (qt_packed){N, K, bits, lo, hi, qt_packed_size(N, K, bits), data, sum};
    memset(d, 0, p->size);
    for (int64_t n = 0; n < N; n++, d += row) {
        sum[n] = 0;
        for (int64_t k = 0; k < K; k++) {
            int c = q[n * K + k];
            if (c < lo || c > hi) return false;
            sum[n] += c;
            d[k * bits / 8] |= (uint8_t)((bits == 1 ? c > 0 : c - lo) << (k * bits % 8));
        }
    }
    return true;
}

void qt_packed_unpack(const qt_packed *p, int64_t n, int64_t rows, int8_t *q)
{
    int64_t        row = (p->K * p->bits + 7) / 8;
    const uint8_t *d = (const uint8_t *)p->data + n * row;
    for (int64_t r = 0; r < rows; r++, d += row)
        for (int64_t k = 0; k < p->K; k++) {
            int c = d[k * p->bits / 8] >> (k * p->bits % 8) & ((1 << p->bits) - 1);
            *q++ = (int8_t)(p->bits == 1 ? 2 * c - 1 : c + p->lo);
        }
}

size_t qt_packed_work(int64_t M, const qt_icodes *x, const qt_icodes *w)
{
    return qt_ilinear_work(M, w->packed->N, w->packed->K, x, w) + (size_t)(w->packed->N * w->packed->K) + QT_CODES_SLACK + 64;
}

void qt_packed_linear(int64_t M, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, void *work, R *y)
{
    qt_icodes bytes = *w;
    size_t    n = ((size_t)(w->packed->N * w->packed->K) + QT_CODES_SLACK + 63) / 64 * 64;
    bytes.q = work, bytes.packed = NULL;
    qt_packed_unpack(w->packed, 0, w->packed->N, work);
    qt_ilinear(M, w->packed->N, w->packed->K, x, &bytes, end, (char *)work + n, y);
}
