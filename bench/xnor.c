/* Products of signs against the float ones of the same shape on one thread: 64 outputs at 256 places, the operands of the float product as they
 * lie in memory, the signs of both packed. Ratios of the best of 7 runs taken in turn. What packing the activations costs is a column of its
 * own, for a careless packer undoes the gain: `by bits` sets one bit after the other. The float product is the faster one of the project's
 * two: OpenBLAS, and the 1 x 1 convolution. Then whole layers, packing included, beside the float and the byte-code convolution.
 * Usage: bench_xnor */
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/gemm.h"
#include "kernels/iconv.h"
#include "kernels/xnor.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUNS = 7, OUT = 64, SIDE = 16, PLACES = SIDE * SIDE };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *memory(int64_t n)
{
    void *p = qt_alloc((size_t)n);
    if (!p) exit(1);
    return p;
}

static int8_t *signs(int64_t n, uint64_t seed)
{
    qt_rng  r = qt_rng_at(seed, 1);
    int8_t *q = memory(n);
    for (int64_t i = 0; i < n; i++) q[i] = qt_rng_below(&r, 2) ? 1 : -1;
    return q;
}

static R *floats(const int8_t *q, int64_t n)
{
    R *x = memory(n * (int64_t)sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = q[i];
    return x;
}

static void pack_bits(int64_t rows, int64_t K, const int8_t *q, uint64_t *bits)
{
    memset(bits, 0, (size_t)(rows * qt_xnor_words(K)) * 8);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < K; k++)
            if (q[r * K + k] > 0) bits[r * qt_xnor_words(K) + k / 64] |= (uint64_t)1 << k % 64;
}

/* Best time of an expression, kept beside the others' in turn. */
#define TIME(best, call)                                   \
    do {                                                   \
        double from_ = now();                              \
        call;                                              \
        double took_ = now() - from_;                      \
        (best) = run && (best) < took_ ? (best) : took_;   \
    } while (0)

static void product(int64_t K)
{
    int8_t   *x = signs(PLACES * K, 1), *w = signs(OUT * K, 2);
    R        *fx = floats(x, PLACES * K), *fw = floats(w, OUT * K), *y = memory(OUT * PLACES * (int64_t)sizeof *y);
    uint64_t *bx = memory(PLACES * qt_xnor_words(K) * 8), *px = memory(qt_xnor_panel_words(PLACES, K) * 8), *bw = memory(OUT * qt_xnor_words(K) * 8);
    int32_t  *C = memory(OUT * PLACES * 4);
    qt_conv   c = {1, K, SIDE, SIDE, OUT, 1, 1, 1, 0, 1, 1};
    void     *work = memory((int64_t)qt_conv_plan(&c, false));
    double    gemm = 0, conv = 0, count = 0, pack = 0, bits = 0;
    qt_xnor_pack(OUT, K, w, bw);
    for (int run = 0; run < RUNS; run++) {
        TIME(conv, qt_conv_forward(&c, fx, fw, NULL, work, y)); /* the same products, of other numbers */
        TIME(gemm, qt_gemm_serial(false, true, OUT, PLACES, K, 1, fw, fx, 0, y));
        TIME(pack, (qt_xnor_pack(PLACES, K, x, bx), qt_xnor_weave(PLACES, K, bx, px)));
        TIME(count, qt_xnor_gemm(OUT, PLACES, K, bw, px, C));
        TIME(bits, pack_bits(PLACES, K, x, bx));
    }
    for (int64_t i = 0; i < OUT * PLACES; i++)
        if (y[i] != (R)C[i]) fprintf(stderr, "K %lld: %g is not %d\n", (long long)K, (double)y[i], C[i]), exit(1);
    double fast = gemm < conv ? gemm : conv;
    printf("| %5lld | %8.1f | %8.1f | %8.1f | %5.2f | %8.1f | %8.1f |\n", (long long)K, 1e6 * gemm, 1e6 * conv, 1e6 * count, fast / count, 1e6 * pack,
           1e6 * bits);
    qt_free(x), qt_free(w), qt_free(fx), qt_free(fw), qt_free(y), qt_free(work), qt_free(bx), qt_free(px), qt_free(bw), qt_free(C);
}

/* Codes as layers have them. */
static qt_icodes codes(const int8_t *q, int64_t n, bool weight, const R *one, const int32_t *zero)
{
    uint8_t *bytes = memory(n + QT_CODES_SLACK);
    for (int64_t i = 0; i < n; i++) bytes[i] = (uint8_t)(weight ? q[i] : q[i] + 1);
    return (qt_icodes){.q = bytes, .is_signed = weight, .lo = weight ? -1 : 0, .hi = weight ? 1 : 2, .binary = true, .n = n, .inner = n, .count = 1,
                       .scale = one, .zero = weight ? NULL : zero};
}

static void layer(int64_t C, int64_t O, int64_t H)
{
    enum { BATCH = 16 };
    qt_conv       c = {BATCH, C, H, H, O, 3, 3, 1, 1, 1, 1}, b;
    const R       one = 1;
    const int32_t zero = 1;
    const qt_iend end = {NULL};
    int64_t       n = BATCH * C * H * H, m = O * C * 9;
    int8_t       *x = signs(n, 3), *w = signs(m, 4);
    R            *fx = floats(x, n), *fw = floats(w, m), *y = memory(BATCH * O * H * H * (int64_t)sizeof *y);
    qt_icodes     cx = codes(x, n, false, &one, &zero), cw = codes(w, m, true, &one, &zero);
    void         *fwork = memory((int64_t)qt_conv_plan(&c, false));
    double        gemm = 0, bytes = 0, bits = 0;
    b = c;
    void *iwork = memory((int64_t)qt_iconv_work(&b, &cx, &cw));
    for (int run = 0; run < RUNS; run++) {
        TIME(gemm, qt_conv_forward(&c, fx, fw, NULL, fwork, y));
        qt_iconv_force(qt_iconv_chosen());
        TIME(bytes, qt_iconv(&b, &cx, &cw, &end, iwork, y));
        qt_iconv_force(NULL);
        TIME(bits, qt_xnor_conv(&b, &cx, &cw, &end, iwork, y));
    }
    printf("| %3lld -> %3lld, %2lld x %2lld | %8.3f | %8.3f | %8.3f | %5.2f | %5.2f |\n", (long long)C, (long long)O, (long long)H, (long long)H,
           1e3 * gemm / BATCH, 1e3 * bytes / BATCH, 1e3 * bits / BATCH, gemm / bits, bytes / bits);
    qt_free(x), qt_free(w), qt_free(fx), qt_free(fw), qt_free(y), qt_free(cx.q), qt_free(cw.q), qt_free(fwork), qt_free(iwork);
}

int main(void)
{
    qt_set_threads(1);
    printf("%d x %d products of K signs, %s, one thread, microseconds, best of %d\n\n", OUT, PLACES, qt_xnor_name(qt_xnor_chosen()), RUNS);
    printf("|     K |     gemm |     conv |    signs | ratio |  packing |  by bits |\n| ----: | -------: | -------: | -------: | ----: | -------: | -------: |\n");
    for (int64_t K = 64; K <= 4608; K = K < 512 ? 2 * K : K == 512 ? 576 : 2 * K) product(K);
    printf("\n3 x 3 convolutions, ms an image, packing included\n\n");
    printf("| layer              | float    | bytes    | signs    | float/signs | bytes/signs |\n| --- | ---: | ---: | ---: | ---: | ---: |\n");
    layer(32, 32, 14), layer(32, 64, 7), layer(64, 64, 16), layer(128, 128, 16), layer(256, 256, 8);
    return 0;
}
