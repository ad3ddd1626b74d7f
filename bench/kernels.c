/* Speed of the float kernels, as ratios measured side by side: qt_gemm against OpenBLAS's own threads, convolution paths against each
 * other. Medians of interleaved blocks of runs; between blocks a pause, for the idle threads of either library spin for a while and
 * would take a core from the other. Usage: bench_kernels [gemm|conv|reduce|all] [threads] */
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/conv.h"
#include "kernels/gemm.h"
#include "kernels/reduce.h"
#include <cblas.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BLOCKS = 7, BLOCK = 8, RUNS = BLOCKS * BLOCK, CONV_RUNS = 13 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void pause_50ms(void) { nanosleep(&(struct timespec){0, 50000000}, NULL); }

static int order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *t, int n)
{
    qsort(t, (size_t)n, sizeof *t, order);
    return t[n / 2];
}

static R *numbers(int64_t n)
{
    qt_rng r = qt_rng_at(1, (uint64_t)n);
    R     *x = qt_alloc((size_t)n * sizeof *x);
    if (!x) exit(1);
    for (int64_t i = 0; i < n; i++) x[i] = (R)(qt_rng_uniform(&r) - 0.5);
    return x;
}

/* ---- gemm ---- */

#ifdef QT_DOUBLE
#define GEMM cblas_dgemm
#else
#define GEMM cblas_sgemm
#endif

static void blas(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const R *A, const R *B, R *C)
{
    int m = (int)M, n = (int)N, k = (int)K;
    GEMM(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n, k, 1, A, ta ? m : k, B, tb ? k : n, 1, C, n);
}

/* y = x w^T, dx = dy w, dw = dy^T x of one linear layer; both libraries in turn */
static void gemm_layer(int threads, int64_t M, int64_t N, int64_t K)
{
    static const char *const pass[] = {"y", "dx", "dw"};
    int64_t                  size[3][3] = {{M, N, K}, {M, K, N}, {N, K, M}};
    printf("%5lld x %5lld x %5lld ", (long long)M, (long long)N, (long long)K);
    for (int p = 0; p < 3; p++) {
        int64_t m = size[p][0], n = size[p][1], k = size[p][2];
        R      *A = numbers(m * k), *B = numbers(k * n), *C = numbers(m * n);
        double  ours[RUNS], theirs[RUNS], t, flop = 2e-9 * (double)(m * n * k);
        for (int i = 0; i < RUNS; i += BLOCK) {
            openblas_set_num_threads(1);
            qt_gemm(p == 2, p == 0, m, n, k, 1, A, B, 1, C);
            for (int r = i; r < i + BLOCK; r++) t = now(), qt_gemm(p == 2, p == 0, m, n, k, 1, A, B, 1, C), ours[r] = now() - t;
            pause_50ms();
            openblas_set_num_threads(threads);
            blas(p == 2, p == 0, m, n, k, A, B, C);
            for (int r = i; r < i + BLOCK; r++) t = now(), blas(p == 2, p == 0, m, n, k, A, B, C), theirs[r] = now() - t;
            pause_50ms();
        }
        t = median(theirs, RUNS) / median(ours, RUNS);
        printf(" | %2s %6.1f GFLOP/s, OpenBLAS %6.1f, ratio %.2f", pass[p], flop / median(ours, RUNS), flop / median(theirs, RUNS), t);
        qt_free(A), qt_free(B), qt_free(C);
    }
    printf("\n"), fflush(stdout);
    openblas_set_num_threads(1);
}

static void gemm(int threads)
{
    gemm_layer(threads, 128, 512, 784), gemm_layer(threads, 128, 512, 512), gemm_layer(threads, 128, 10, 512);
    gemm_layer(threads, 64, 512, 784), gemm_layer(threads, 64, 256, 784), gemm_layer(threads, 256, 512, 512);
    gemm_layer(threads, 2048, 128, 128), gemm_layer(threads, 2048, 384, 128), gemm_layer(threads, 1024, 1024, 1024);
}

/* ---- convolution ---- */

static void conv_layer(qt_conv shape)
{
    const qt_conv_path *path[2] = {&qt_conv_portable, NULL};
    double              time[2][3][RUNS], flop = 0, all[2] = {0, 0};
    const char         *name[2];
    printf("%3lld x %2lldx%2lldx%2lld -> %2lld k%lld s%lld g%lld ", (long long)shape.N, (long long)shape.C, (long long)shape.H, (long long)shape.W,
           (long long)shape.O, (long long)shape.KH, (long long)shape.stride, (long long)shape.groups);
    for (int i = 0; i < CONV_RUNS; i++)
        for (int p = 0; p < 2; p++) {
            qt_conv c = shape;
            R      *work, *x, *w, *y, *dw;
            double  t;
            qt_conv_force(path[p]);
            work = qt_alloc(qt_conv_plan(&c, true));
            x = numbers(c.N * c.C * c.H * c.W), y = numbers(c.N * c.O * c.OH * c.OW);
            w = numbers(c.O * c.C / c.groups * c.KH * c.KW), dw = numbers(c.O * c.C / c.groups * c.KH * c.KW);
            flop = 2e-9 * (double)(c.N * c.O * c.OH * c.OW * c.C / c.groups * c.KH * c.KW);
            name[p] = c.path->name;
            qt_conv_forward(&c, x, w, NULL, work, y);
            t = now(), qt_conv_forward(&c, x, w, NULL, work, y), time[p][0][i] = now() - t;
            t = now(), qt_conv_dx(&c, y, w, work, x), time[p][1][i] = now() - t;
            t = now(), qt_conv_dw(&c, x, y, work, dw, NULL), time[p][2][i] = now() - t;
            qt_free(work), qt_free(x), qt_free(w), qt_free(y), qt_free(dw);
        }
    for (int p = 0; p < 2; p++) {
        printf(" | %-9s", name[p]);
        for (int k = 0; k < 3; k++) {
            double t = median(time[p][k], CONV_RUNS);
            all[p] += t;
            printf(" %s %5.1f", k == 0 ? "y" : k == 1 ? "dx" : "dw", flop / t);
        }
        printf(" all %5.1f", 3 * flop / all[p]);
    }
    printf(" | ratio %.2f\n", all[0] / all[1]);
}

static void conv(void)
{
    static const qt_conv shape[] = {
        {128, 1, 28, 28, 16, 3, 3, 1, 1, 1, 1},  {128, 16, 28, 28, 16, 3, 3, 1, 1, 1, 1}, {128, 16, 28, 28, 32, 3, 3, 2, 1, 1, 1},
        {128, 32, 14, 14, 32, 3, 3, 1, 1, 1, 1}, {128, 32, 14, 14, 64, 3, 3, 2, 1, 1, 1}, {128, 64, 7, 7, 64, 3, 3, 1, 1, 1, 1},
        {128, 16, 28, 28, 32, 1, 1, 2, 0, 1, 1}, {128, 32, 14, 14, 64, 1, 1, 2, 0, 1, 1}, {128, 3, 32, 32, 16, 3, 3, 1, 1, 1, 1},
        {128, 16, 32, 32, 16, 3, 3, 1, 1, 1, 1}, {128, 32, 16, 16, 32, 3, 3, 1, 1, 1, 1}, {128, 64, 8, 8, 64, 3, 3, 1, 1, 1, 1},
        {128, 1, 28, 28, 6, 5, 5, 1, 2, 1, 1},   {128, 6, 14, 14, 16, 5, 5, 1, 0, 1, 1},  {128, 64, 14, 14, 128, 1, 1, 1, 0, 1, 1},
        {128, 32, 14, 14, 32, 3, 3, 1, 1, 1, 32}};
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) conv_layer(shape[i]);
}

/* ---- reductions ---- */

static void reduce(void)
{
    static const int64_t     size[] = {401408, 4000000};
    static const char *const name[] = {"sum", "sum_abs", "max_abs", "min_max", "select"};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        int64_t n = size[i];
        R      *x = numbers(n), *work = numbers(n), lo, hi;
        double  time[5][RUNS], t, sink = 0;
        for (int k = 0; k < RUNS; k++) {
            t = now(), sink += qt_reduce_sum(x, n), time[0][k] = now() - t;
            t = now(), sink += qt_reduce_sum_abs(x, n), time[1][k] = now() - t;
            t = now(), sink += (double)qt_reduce_max_abs(x, n), time[2][k] = now() - t;
            t = now(), qt_reduce_min_max(x, n, &lo, &hi), time[3][k] = now() - t;
            t = now(), sink += (double)qt_reduce_select_abs(x, n, n / 2, work), time[4][k] = now() - t;
        }
        printf("n %8lld, Gnumbers/s:", (long long)n);
        for (int k = 0; k < 5; k++) printf(" %s %.2f", name[k], 1e-9 * (double)n / median(time[k], RUNS));
        printf(" (%g)\n", sink);
        qt_free(x), qt_free(work);
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "all";
    int         threads = argc > 2 ? atoi(argv[2]) : 0, all = !strcmp(what, "all");
    qt_set_threads(threads);
    if (all || !strcmp(what, "gemm")) gemm(qt_threads());
    if (all || !strcmp(what, "conv")) conv();
    if (all || !strcmp(what, "reduce")) reduce();
    return 0;
}
