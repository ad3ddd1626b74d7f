/* What this machine can do at most: multiply-adds of floats and of bytes in registers, and bytes a second from each level of memory. The
 * limits that docs/results/performance.md holds the other benchmarks against. Usage: bench_peaks [-m] [THREADS]...
 *
 * Arithmetic: twelve independent accumulators in vector registers, so that neither latency nor loads count; 2 operations a multiply-add.
 *   fp32       fused multiply-add, 8 or 16 lanes
 *   int8 run   vpmaddubsw, vpmaddwd, vpaddd: bytes on AVX2, exact while pairs of products fit 16 bits
 *   int8 vnni  vpdpbusd: bytes straight into 32 bits
 * Memory: a[i] = b[i] + s c[i] over three arrays, counted as three streams; each thread has its own part. Best of several blocks. */
#include "base/mem.h"
#include "base/par.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

enum { BLOCKS = 9, TURNS = 400000, CHAINS = 12 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- arithmetic: each returns a number that depends on all it did ----------------------------------------------------------- */

#if defined(__x86_64__)
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
/* Runs a = NEXT(a) in twelve variables; the asm keeps each where it is, in a register. */
#define DECLARE(c) a##c = first,
#define TURN(c)                                                                                                                                      \
    a##c = NEXT(a##c);                                                                                                                               \
    __asm__ volatile("" : "+v"(a##c));
#define ADD(c) +LAST(a##c)
#define CHAIN(type, start)                                                                                                                           \
    type first = start, EACH(DECLARE) unused = first;                                                                                                \
    (void)unused;                                                                                                                                    \
    for (int64_t i = 0; i < TURNS; i++) { EACH(TURN) }                                                                                               \
    return 0 EACH(ADD)

#define NEXT(a) _mm256_fmadd_ps(a, k, k)
#define LAST(a) (double)_mm256_cvtss_f32(a)
__attribute__((target("avx2,fma"))) static double fp32_avx2(void)
{
    const __m256 k = _mm256_set1_ps(0.999f);
    CHAIN(__m256, k);
}
#undef NEXT
#undef LAST

#define NEXT(a) _mm256_add_epi32(a, _mm256_madd_epi16(_mm256_maddubs_epi16(a, w), one))
#define LAST(a) _mm256_extract_epi32(a, 0)
__attribute__((target("avx2"))) static double bytes_avx2(void)
{
    const __m256i w = _mm256_set1_epi8(-2), one = _mm256_set1_epi16(1);
    CHAIN(__m256i, w);
}
#undef NEXT
#undef LAST

#define NEXT(a) _mm512_fmadd_ps(a, k, k)
#define LAST(a) (double)_mm512_cvtss_f32(a)
__attribute__((target("avx512f"))) static double fp32_avx512(void)
{
    const __m512 k = _mm512_set1_ps(0.999f);
    CHAIN(__m512, k);
}
#undef NEXT
#undef LAST

#define NEXT(a) _mm512_dpbusd_epi32(a, x, w)
#define LAST(a) _mm512_cvtsi512_si32(a)
__attribute__((target("avx512f,avx512vnni"))) static double bytes_avx512(void)
{
    const __m512i x = _mm512_set1_epi8(3), w = _mm512_set1_epi8(-2);
    CHAIN(__m512i, x);
}
#undef NEXT
#undef LAST

#define NEXT(a) _mm256_dpbusd_avx_epi32(a, x, w)
#define LAST(a) _mm256_extract_epi32(a, 0)
__attribute__((target("avxvnni"))) static double bytes_avx_vnni(void)
{
    const __m256i x = _mm256_set1_epi8(3), w = _mm256_set1_epi8(-2);
    CHAIN(__m256i, x);
}
#undef NEXT
#undef LAST

/* By cpuid, for not every compiler knows the feature by name. */
static bool avx_vnni(void)
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

static bool has(int i)
{
    __builtin_cpu_init();
    switch (i) {
    case 0:
    case 1:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case 2:
        return __builtin_cpu_supports("avx512f");
    case 3:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni");
    default:
        return avx_vnni();
    }
}

static const struct {
    const char *name;
    double (*run)(void);
    double ops; /* of one step of one chain */
} unit[] = {{"fp32, AVX2", fp32_avx2, 16},
            {"int8 run, AVX2", bytes_avx2, 64},
            {"fp32, AVX-512", fp32_avx512, 32},
            {"int8 vnni, AVX-512", bytes_avx512, 128},
            {"int8 vnni, AVX", bytes_avx_vnni, 64}};
enum { UNITS = sizeof unit / sizeof *unit };
#else
static bool has(int i) { return (void)i, false; }
static const struct {
    const char *name;
    double (*run)(void);
    double ops;
} unit[] = {{"", NULL, 0}};
enum { UNITS = 0 };
#endif

static double arithmetic(int i, int threads)
{
    double best = 0, sink = 0;
    for (int b = 0; b < BLOCKS; b++) {
        double start = now(), took;
#pragma omp parallel for num_threads(threads) reduction(+ : sink)
        for (int t = 0; t < threads; t++) sink += unit[i].run();
        took = now() - start;
        double rate = 1e-9 * unit[i].ops * CHAINS * TURNS * threads / took;
        best = rate > best ? rate : best;
    }
    return sink == 0.5 ? 0 : best;
}

/* ---- memory ----------------------------------------------------------------------------------------------------------------- */

QT_CLONES static void triad(float *restrict a, const float *restrict b, const float *restrict c, int64_t n)
{
    for (int64_t i = 0; i < n; i++) a[i] = b[i] + 3 * c[i];
}

/* bytes: of all three arrays of all threads. */
static double memory(int64_t bytes, int threads)
{
    int64_t n = bytes / 12 / threads, turns = 1 + (int64_t)(5e7 / (double)bytes);
    double  best = 0;
    float  *all = qt_alloc((size_t)(3 * n * threads) * sizeof *all);
    if (!all) return 0;
    for (int b = 0; b < BLOCKS; b++) {
        double start, took = 0;
#pragma omp parallel num_threads(threads)
        {
            float *a = all + 3 * n * omp_get_thread_num();
            if (!b) memset(a, 0, (size_t)(3 * n) * sizeof *a);
            triad(a, a + n, a + 2 * n, n);
#pragma omp barrier
#pragma omp          master
            took = now();
            for (int64_t i = 0; i < turns; i++) triad(a, a + n, a + 2 * n, n);
#pragma omp barrier
#pragma omp master
            took = now() - took;
        }
        start = 1e-9 * 12 * (double)(n * threads * turns) / took;
        best = start > best ? start : best;
    }
    qt_free(all);
    return best;
}

/* ---- printing --------------------------------------------------------------------------------------------------------------- */

static void line(bool markdown, const char *what, const char *of, double *rate, int n)
{
    printf(markdown ? "| %s | %s |" : "%-28s %-8s", what, of);
    for (int i = 0; i < n; i++) printf(markdown ? " %.1f |" : " %8.1f", rate[i]);
    printf("\n"), fflush(stdout);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int64_t     bytes; /* a thread */
    } level[] = {{"triad, 192 KiB a thread", 192 << 10}, {"triad, 6 MiB a thread", 6 << 20}, {"triad, 384 MiB a thread", 384 << 20}};
    bool   markdown = argc > 1 && !strcmp(argv[1], "-m");
    int    threads[8] = {1, 2}, n = 2;
    double rate[8];
    if (argc > 1 + markdown)
        for (n = 0; n < 8 && n + 1 + markdown < argc; n++) threads[n] = atoi(argv[n + 1 + markdown]);
    printf(markdown ? "| what | unit |" : "%-28s %-8s", "threads", "");
    for (int t = 0; t < n; t++) printf(markdown ? " %d threads |" : " %8d", threads[t]);
    printf("\n");
    if (markdown) printf("| --- | --- | ---: | ---: |\n");
    for (int i = 0; i < UNITS; i++) {
        if (!has(i)) continue;
        for (int t = 0; t < n; t++) rate[t] = arithmetic(i, threads[t]);
        line(markdown, unit[i].name, "Gop/s", rate, n);
    }
    for (size_t i = 0; i < sizeof level / sizeof *level; i++) {
        for (int t = 0; t < n; t++) rate[t] = memory(level[i].bytes * threads[t], threads[t]);
        line(markdown, level[i].name, "GB/s", rate, n);
    }
    return 0;
}
