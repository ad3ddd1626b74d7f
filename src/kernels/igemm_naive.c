/* Integer matrix products: the slow twins, plain loops in int64. */
#include "kernels/igemm.h"

static int64_t at(const void *q, bool is_signed, int64_t i) { return is_signed ? ((const int8_t *)q)[i] : ((const uint8_t *)q)[i]; }
static int64_t of(qt_ioperand o, int64_t i) { return o.wide ? ((const int16_t *)o.q)[i] : at(o.q, o.is_signed, i); }
static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }
static int64_t block_of(const qt_icodes *c, int64_t K) { return c->inner < K ? c->inner : K; }

void qt_ilinear_naive(int64_t M, int64_t N, int64_t K, const qt_icodes *x, const qt_icodes *w, const qt_iend *end, R *y)
{
    int64_t block = gcd(block_of(x, K), block_of(w, K)), longest = qt_longest_block(qt_icodes_reach(x), qt_icodes_reach(w));
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) {
            R    sum = 0;
            bool first = true;
            for (int64_t b = 0; b < K; b += block)
                for (int64_t k = b; k < b + block; k += longest) {
                    int64_t stop = k + longest < b + block ? k + longest : b + block, acc = 0;
                    int64_t kx = (m * K + b) / x->inner % x->count, kw = (n * K + b) / w->inner % w->count;
                    int64_t zx = x->zero ? x->zero[kx] : 0, zw = w->zero ? w->zero[kw] : 0;
                    for (int64_t i = k; i < stop; i++) acc += (at(x->q, x->is_signed, m * K + i) - zx) * (at(w->q, w->is_signed, n * K + i) - zw);
                    R part = (R)acc * qt_iend_scale(end, x->scale[kx] * w->scale[kw], n);
                    sum = first ? part : sum + part, first = false;
                }
            y[m * N + n] = qt_iend_store(end, sum, qt_iend_offset(end, n));
        }
}

void qt_igemm_naive(int64_t M, int64_t N, int64_t K, qt_ioperand a, qt_ioperand b, int32_t *C)
{
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) {
            int64_t sum = 0;
            for (int64_t k = 0; k < K; k++)
                sum += of(a, a.trans ? k * M + m : m * K + k) * of(b, b.trans ? n * K + k : k * N + n);
            C[m * N + n] = (int32_t)sum;
        }
}
