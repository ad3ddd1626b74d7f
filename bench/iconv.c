/* Integer convolution against the float one of the same shape, forward only: ratios of medians of runs taken in turn.
 * Usage: bench_iconv [threads] [batch] [path] */
#include "kernels/iconv.h"
#include "base/mem.h"
#include "base/rng.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUNS = 21 };

typedef struct layer {
    const char *name;
    int64_t     C, H, O, K, stride, padding, groups;
} layer;

static const layer layers[] = {
    {"first  1->16   28x28", 1, 28, 16, 3, 1, 1, 1},   {"first  3->16   32x32", 3, 32, 16, 3, 1, 1, 1},
    {"      16->16   28x28", 16, 28, 16, 3, 1, 1, 1},  {"      16->16   32x32", 16, 32, 16, 3, 1, 1, 1},
    {"      16->32 /2 28x28", 16, 28, 32, 3, 2, 1, 1}, {"1x1   16->32 /2 28x28", 16, 28, 32, 1, 2, 0, 1},
    {"      32->32   14x14", 32, 14, 32, 3, 1, 1, 1},  {"      32->64 /2 14x14", 32, 14, 64, 3, 2, 1, 1},
    {"1x1   32->64 /2 14x14", 32, 14, 64, 1, 2, 0, 1}, {"      64->64   7x7", 64, 7, 64, 3, 1, 1, 1},
    {"depthwise 32   14x14", 32, 14, 32, 3, 1, 1, 32}, {"depthwise 64   28x28", 64, 28, 64, 3, 1, 1, 64},
};

typedef struct width {
    const char *name;
    int         x, w, zero; /* the highest codes, and the zero of x */
} width;

static const width widths[] = {{"4x4", 15, 7, 0},  {"4x4 z", 15, 7, 8},  {"8xt", 255, 1, 0},
                               {"8x4", 255, 7, 0}, {"7x8", 127, 127, 0}, {"8x8", 255, 127, 0}};

enum { WIDTHS = sizeof widths / sizeof *widths, LAYERS = sizeof layers / sizeof *layers };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *t)
{
    qsort(t, RUNS, sizeof *t, order);
    return t[RUNS / 2];
}

static void *memory(size_t n)
{
    void *p = qt_alloc(n);
    if (!p) exit(1);
    return p;
}

static R *numbers(int64_t n)
{
    qt_rng r = qt_rng_at(1, (uint64_t)n);
    R     *x = memory((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (R)(qt_rng_uniform(&r) - 0.5);
    return x;
}

static qt_icodes codes(int64_t n, bool is_signed, int lo, int hi, const int32_t *zero, const R *scale)
{
    qt_rng   r = qt_rng_at(2, (uint64_t)n);
    uint8_t *q = memory((size_t)n + QT_CODES_SLACK);
    for (int64_t i = 0; i < n; i++) q[i] = (uint8_t)(lo + (int)qt_rng_below(&r, (uint64_t)(hi - lo + 1)));
    return (qt_icodes){q, NULL, is_signed, lo, hi, false, n, n, 1, scale, zero};
}

static void measure(const layer *l, int64_t batch)
{
    qt_conv   c = {batch, l->C, l->H, l->H, l->O, l->K, l->K, l->stride, l->padding, 1, l->groups};
    int64_t   nx = batch * l->C * l->H * l->H, nw = l->O * (l->C / l->groups) * l->K * l->K, repeat;
    R        *work = memory(qt_conv_plan(&c, false)), *x = numbers(nx), *w = numbers(nw), *b = numbers(l->O), *y, scale = 1;
    qt_icodes xq[WIDTHS], wq[WIDTHS];
    void     *iwork[WIDTHS];
    double    t, theirs[RUNS], ours[WIDTHS][RUNS], seconds, products;
    qt_iend   end = {.bias = b};
    y = numbers(batch * c.O * c.OH * c.OW), products = (double)(batch * c.O * c.OH * c.OW * (nw / l->O));
    for (int k = 0; k < WIDTHS; k++) {
        static const int32_t zeros[] = {0, 8};
        xq[k] = codes(nx, false, 0, widths[k].x, widths[k].zero ? zeros + 1 : NULL, &scale),
        wq[k] = codes(nw, true, widths[k].w > 1 ? -widths[k].w - 1 : -1, widths[k].w, NULL, &scale);
        iwork[k] = memory(qt_iconv_work(&c, xq + k, wq + k));
    }
    repeat = 1 + (int64_t)(2e6 / products);
    for (int i = -1; i < RUNS; i++) {
        t = now();
        for (int64_t r = 0; r < repeat; r++) qt_conv_forward(&c, x, w, b, work, y);
        if (i >= 0) theirs[i] = now() - t;
        for (int k = 0; k < WIDTHS; k++) {
            t = now();
            for (int64_t r = 0; r < repeat; r++) qt_iconv(&c, xq + k, wq + k, &end, iwork[k], y);
            if (i >= 0) ours[k][i] = now() - t;
        }
    }
    seconds = median(theirs);
    printf("%-22s %8.1f us %6.1f Gop/s |", l->name, 1e6 * seconds / (double)repeat, 2e-9 * products * (double)repeat / seconds);
    for (int k = 0; k < WIDTHS; k++) printf(" %5.2f", seconds / median(ours[k]));
    printf("\n");
    for (int k = 0; k < WIDTHS; k++) qt_free(xq[k].q), qt_free(wq[k].q), qt_free(iwork[k]);
    qt_free(work), qt_free(x), qt_free(w), qt_free(b), qt_free(y);
}

int main(int argc, char **argv)
{
    int64_t batch = argc > 2 ? atoi(argv[2]) : 64;
    qt_set_threads(argc > 1 ? atoi(argv[1]) : 1);
    for (int i = 0; argc > 3 && qt_iconv_path_at(i); i++)
        if (!strcmp(qt_iconv_name(qt_iconv_path_at(i)), argv[3])) qt_iconv_force(qt_iconv_path_at(i));
    printf("%s, %d threads, batch %d; float forward, then how many times faster the integer one is\n%-41s |", qt_iconv_name(qt_iconv_chosen()),
           qt_threads(), (int)batch, "");
    for (int k = 0; k < WIDTHS; k++) printf(" %5s", widths[k].name);
    printf("\n");
    for (int i = 0; i < LAYERS; i++) measure(layers + i, batch);
    return 0;
}
