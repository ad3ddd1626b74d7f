/* Packed weights against ggml's quantized types: ternary, 4 and 8 bits, 4096 x 4096, one and 64 rows of x, floats in and floats out, so that
 * quantizing x counts on both sides. Both run in turn in one process, from the same codes and scales; results are compared first, with x
 * such that either side's quantization of it is exact. `cached` repeats one matrix, `streamed` goes round 300 MB of copies and is given as a
 * part of what plain reading of the same memory reaches. One thread is timed by its CPU time, which a busy machine disturbs less.
 * Usage: bench_packed [folder of libggml-base.so and libggml-cpu-*.so, or "" [name]]; bench/ggml.sh gets them. Without: qtape alone. */
#include "base/mem.h"
#include "base/par.h"
#include "base/rng.h"
#include "kernels/packed.h"
#include "kernels/xnor.h"
#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N = 4096, K = 4096, MANY = 64, GROUP = 32, BLOCKS = 9, BLOCK = 6, RUNS = BLOCKS * BLOCK, STREAM = 300000000 };

static int n_threads;

static double now(void)
{
    struct timespec t;
    clock_gettime(n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

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

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_packed: %s: %s\n", what, why ? why : "failed");
    exit(1);
}

static void *room(size_t n)
{
    void *p = qt_alloc(n);
    if (!p) die("memory", "out of it");
    return p;
}

/* ---- ggml: the few functions needed, by name from its shared libraries ---- */

enum { F32 = 0, Q4_0 = 2, Q8_0 = 8, TQ1_0 = 34, TQ2_0 = 35 };

typedef struct init_params {
    size_t size;
    void  *buffer;
    bool   no_alloc;
} init_params;

static struct ggml {
    void *(*init)(init_params);
    void (*free)(void *);
    void *(*new_tensor_2d)(void *, int, int64_t, int64_t);
    void *(*mul_mat)(void *, void *, void *);
    void *(*new_graph)(void *);
    void (*build_forward_expand)(void *, void *);
    size_t (*quantize_chunk)(int, const float *, void *, int64_t, int64_t, int64_t, const float *);
    size_t (*row_size)(int, int64_t);
    const char *(*type_name)(int);
    const char *(*version)(void);
    float (*fp16_to_fp32)(uint16_t);
    void *(*backend_get_default_buffer_type)(void *);
    void *(*backend_alloc_ctx_tensors_from_buft)(void *, void *);
    void (*backend_buffer_free)(void *);
    void (*backend_tensor_set)(void *, const void *, size_t, size_t);
    void (*backend_tensor_get)(const void *, void *, size_t, size_t);
    int (*backend_graph_compute)(void *, void *);
    void *(*backend_get_device)(void *);
    void *(*backend_dev_backend_reg)(void *);
    void *(*backend_reg_get_proc_address)(void *, const char *);
    void (*threadpool_params_init)(void *, int);
    void (*log_set)(void (*)(int, const char *, void *), void *);
    /* of libggml-cpu-*.so */
    void *(*backend_cpu_init)(void);
    void (*backend_cpu_set_n_threads)(void *, int);
    void (*backend_cpu_set_threadpool)(void *, void *);
    void *(*threadpool_new)(void *);
    void (*threadpool_pause)(void *);
    void (*threadpool_resume)(void *);
    void (*threadpool_free)(void *);
    int (*backend_score)(void);
    void *backend, *pool;
    char  cpu[300];
} g;

static void *symbol(void *lib, const char *name)
{
    void *p = dlsym(lib, name);
    if (!p) die(name, "not in this version of ggml");
    return p;
}
#define GET(lib, name) (*(void **)&g.name = symbol(lib, "ggml_" #name))

static void quiet(int level, const char *text, void *data) { (void)level, (void)text, (void)data; }

/* The library for this CPU is the one that gives itself the highest score. */
static void *best_cpu(const char *folder)
{
    char           path[300];
    int            best = 0;
    DIR           *d = opendir(folder);
    struct dirent *e;
    if (!d) die(folder, "no such folder");
    while ((e = readdir(d))) {
        void *lib;
        if (strncmp(e->d_name, "libggml-cpu", 11)) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (!(lib = dlopen(path, RTLD_LAZY | RTLD_LOCAL))) die(path, dlerror());
        int (*score)(void) = NULL;
        *(void **)&score = dlsym(lib, "ggml_backend_score");
        if (score && score() > best) best = score(), strcpy(g.cpu, path);
        dlclose(lib);
    }
    closedir(d);
    if (!best) die(folder, "no libggml-cpu-*.so that runs on this CPU");
    return dlopen(g.cpu, RTLD_NOW | RTLD_GLOBAL);
}

static void ggml_open(const char *folder)
{
    char  path[300];
    void *base, *cpu;
    snprintf(path, sizeof path, "%s/libggml-base.so", folder);
    if (!(base = dlopen(path, RTLD_NOW | RTLD_GLOBAL))) die(path, dlerror());
    cpu = best_cpu(folder);
    GET(base, init), GET(base, free), GET(base, new_tensor_2d), GET(base, mul_mat), GET(base, new_graph), GET(base, build_forward_expand);
    GET(base, quantize_chunk), GET(base, row_size), GET(base, type_name), GET(base, version), GET(base, fp16_to_fp32);
    GET(base, backend_get_default_buffer_type), GET(base, backend_alloc_ctx_tensors_from_buft), GET(base, backend_buffer_free);
    GET(base, backend_tensor_set), GET(base, backend_tensor_get), GET(base, backend_graph_compute), GET(base, backend_get_device);
    GET(base, backend_dev_backend_reg), GET(base, backend_reg_get_proc_address), GET(base, threadpool_params_init), GET(base, log_set);
    GET(cpu, backend_cpu_init), GET(cpu, backend_cpu_set_n_threads), GET(cpu, backend_cpu_set_threadpool);
    GET(cpu, threadpool_new), GET(cpu, threadpool_pause), GET(cpu, threadpool_resume), GET(cpu, threadpool_free);
    if (strcmp(g.type_name(TQ2_0), "tq2_0") || strcmp(g.type_name(Q4_0), "q4_0")) die(folder, "types are numbered otherwise in this version of ggml");
    g.log_set(quiet, NULL);
    g.backend = g.backend_cpu_init();
}

/* Its own pool of threads, which lives from call to call and is paused while it is qtape's turn. */
static void ggml_threads(int threads)
{
    static _Alignas(16) char params[4096];
    if (g.pool) g.backend_cpu_set_threadpool(g.backend, NULL), g.threadpool_free(g.pool);
    g.threadpool_params_init(params, threads);
    g.pool = g.threadpool_new(params);
    g.backend_cpu_set_n_threads(g.backend, threads);
    g.backend_cpu_set_threadpool(g.backend, g.pool);
}

/* The buffer type that rearranges weights for wider kernels, if this library has it. */
static void *repacking(void)
{
    void  *device = g.backend_get_device(g.backend), **(*extra)(void *) = NULL;
    void **all;
    *(void **)&extra = g.backend_reg_get_proc_address(g.backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts");
    all = extra ? extra(device) : NULL;
    return all ? *all : NULL;
}

typedef struct peer {
    int    copies, M;
    void  *context, *weights, *inout, *buffer[2];
    void **graph, *x, **y;
} peer;

static peer peer_make(int type, bool repack, const void *data, int M, int copies)
{
    peer p = {.copies = copies, .M = M};
    p.graph = room((size_t)copies * sizeof *p.graph), p.y = room((size_t)copies * sizeof *p.y);
    p.weights = g.init((init_params){(size_t)(copies + 8) * 512, NULL, true});
    p.inout = g.init((init_params){(size_t)copies * 100000 + 100000, NULL, true});
    p.x = g.new_tensor_2d(p.inout, F32, K, M);
    for (int i = 0; i < copies; i++) {
        void *w = p.graph[i] = g.new_tensor_2d(p.weights, type, K, N);
        p.y[i] = g.mul_mat(p.inout, w, p.x);
    }
    p.buffer[0] = g.backend_alloc_ctx_tensors_from_buft(p.weights, repack ? repacking() : g.backend_get_default_buffer_type(g.backend));
    p.buffer[1] = g.backend_alloc_ctx_tensors_from_buft(p.inout, g.backend_get_default_buffer_type(g.backend));
    for (int i = 0; i < copies; i++) {
        g.backend_tensor_set(p.graph[i], data, 0, N * g.row_size(type, K));
        p.graph[i] = g.new_graph(p.inout);
        g.build_forward_expand(p.graph[i], p.y[i]);
    }
    return p;
}

static void peer_run(peer *p, int i) { g.backend_graph_compute(g.backend, p->graph[i % p->copies]); }

static void peer_free(peer *p)
{
    g.backend_buffer_free(p->buffer[0]), g.backend_buffer_free(p->buffer[1]);
    g.free(p->weights), g.free(p->inout), qt_free(p->graph), qt_free(p->y);
}

/* ---- qtape ---- */

typedef struct own {
    int       copies, M;
    qt_packed packed;
    char     *data; /* copies one after the other */
    qt_icodes x, w;
    R        *scale_x, *y;
    void     *work;
} own;

/* Tokens to unsigned bytes around 128, s = max|x| / 127. */
QT_CLONES static R quantize(const R *x, uint8_t *q)
{
    enum { LANES = 16 };
    R top[LANES] = {0}, s = (R)1e-5;
    for (int k = 0; k < K; k += LANES)
        for (int i = 0; i < LANES; i++) top[i] = (x[k + i] < 0 ? -x[k + i] : x[k + i]) > top[i] ? (x[k + i] < 0 ? -x[k + i] : x[k + i]) : top[i];
    for (int i = 0; i < LANES; i++) s = top[i] > s ? top[i] : s;
    s /= 127;
    for (int k = 0; k < K; k++) q[k] = (uint8_t)((int)rintf(x[k] / s) + 128);
    return s;
}

static own own_make(int bits, int lo, int hi, const int8_t *q, R *scale, int64_t inner, int M, int copies)
{
    static const int32_t zero[MANY] = {128};
    own                  o = {.copies = copies, .M = M};
    size_t               size = qt_packed_size(N, K, bits);
    o.data = room(size * (size_t)copies), o.scale_x = room((size_t)M * sizeof(R)), o.y = room((size_t)(M * N) * sizeof(R));
    if (!qt_packed_fill(&o.packed, N, K, bits, lo, hi, q, o.data, room(N * sizeof(int32_t)))) die("packing", "a code is out of range");
    for (int i = 1; i < copies; i++) memcpy(o.data + (size_t)i * size, o.data, size);
    o.x = (qt_icodes){.q = room((size_t)(M * K) + QT_CODES_SLACK), .hi = 255, .n = M * K, .inner = K, .count = M, .scale = o.scale_x, .zero = zero};
    o.w = (qt_icodes){.packed = &o.packed, .is_signed = true, .lo = lo, .hi = hi, .n = N * K, .inner = inner, .count = N * K / inner, .scale = scale};
    o.work = room(qt_packed_work(M, &o.x, &o.w));
    return o;
}

static void own_run(own *o, const R *x, int i)
{
    static int32_t zero[MANY];
    qt_packed      p = o->packed;
    for (int m = 0; m < MANY; m++) zero[m] = 128;
    p.data = o->data + (size_t)(i % o->copies) * p.size;
    o->w.packed = &p, o->x.zero = zero;
    QT_FOR_EACH(m, o->M, o->M > 4) { o->scale_x[m] = quantize(x + m * K, (uint8_t *)o->x.q + m * K); }
    qt_packed_linear(o->M, &o->x, &o->w, &(qt_iend){0}, o->work, o->y);
}

static void own_free(own *o) { qt_free(o->data), qt_free(o->scale_x), qt_free(o->y), qt_free(o->x.q), qt_free(o->work), qt_free(o->packed.sum); }

/* ---- reading alone ---- */

QT_CLONES static uint64_t read_all(const uint64_t *p, int64_t n)
{
    uint64_t sum[32] = {0}, all = 0;
    for (int64_t i = 0; i + 32 <= n; i += 32)
        for (int k = 0; k < 32; k++) sum[k] += p[i + k];
    for (int k = 0; k < 32; k++) all += sum[k];
    return all;
}

/* Seconds to read n bytes with all threads. */
static double reading(const char *p, size_t n)
{
    static volatile uint64_t sink;
    uint64_t                 all = 0;
    double                   t = now();
    int64_t                  piece = 1 << 20, pieces = (int64_t)n / piece;
    QT_PRAGMA(omp parallel for schedule(static) reduction(+ : all))
    for (int64_t i = 0; i < pieces; i++) all += read_all((const uint64_t *)(p + i * piece), piece / 8);
    sink = all, (void)sink;
    return (now() - t) * (double)n / (double)(pieces * piece);
}

/* ---- the comparison ---- */

typedef struct matrix {
    const char *own, *peer;
    int         type, bits, lo, hi;
    bool        repack;
    int64_t     inner; /* weights to a scale */
} matrix;

/* Weights that ggml has quantized, as codes and scales: blocks of 32 with a scale in half precision, 4-bit codes less 8 in the low and then
 * the high halves of 16 bytes, or bytes. */
static void decode(const matrix *m, const uint8_t *data, int8_t *q, R *scale)
{
    for (int64_t b = 0; b < N * K / GROUP; b++) {
        uint16_t half;
        memcpy(&half, data, sizeof half), data += sizeof half;
        scale[b] = g.fp16_to_fp32(half);
        if (m->type == Q8_0)
            memcpy(q, data, GROUP), data += GROUP;
        else
            for (int i = 0; i < GROUP / 2; i++, data++) q[i] = (int8_t)((*data & 15) - 8), q[i + GROUP / 2] = (int8_t)((*data >> 4) - 8);
        q += GROUP;
    }
}

/* Codes, scales, and the same for ggml. */
static void weights(const matrix *m, int8_t *q, R *scale, void *data)
{
    qt_rng r = qt_rng_named(1, "weights");
    float *w = room((size_t)N * K * sizeof *w);
    for (int64_t i = 0; i < N * K / m->inner; i++) scale[i] = (R)0.0625;
    for (int64_t i = 0; i < N * K; i++) {
        q[i] = (int8_t)(m->bits == 1 ? 1 - 2 * (int)qt_rng_below(&r, 2) : m->lo + (int)qt_rng_below(&r, (uint64_t)(m->hi - m->lo + 1)));
        w[i] = m->inner == GROUP && data ? (float)qt_rng_normal(&r) : (float)q[i] * 0.0625f;
    }
    if (data) g.quantize_chunk(m->type, w, data, 0, N, K, NULL);
    if (data && m->inner == GROUP) decode(m, data, q, scale);
    qt_free(w);
}

/* x of whole numbers up to 127, which is there in every group: quantization to 8 bits is exact, whatever the groups. */
static R *inputs(int M)
{
    qt_rng r = qt_rng_named(1, "x");
    R     *x = room((size_t)(M * K) * sizeof *x);
    for (int64_t i = 0; i < M * K; i++) x[i] = i % GROUP ? (R)((int)qt_rng_below(&r, 255) - 127) : 127;
    return x;
}

static void check(const own *o, const peer *p)
{
    float *y = room((size_t)(o->M * N) * sizeof *y), worst = 0, top = 0;
    g.backend_tensor_get(p->y[0], y, 0, (size_t)(o->M * N) * sizeof *y);
    for (int64_t i = 0; i < o->M * N; i++) worst = fmaxf(worst, fabsf(y[i] - (float)o->y[i])), top = fmaxf(top, fabsf(y[i]));
    if (!(worst <= 1e-5f * top)) fprintf(stderr, "bench_packed: results differ by %g of %g\n", (double)worst, (double)top), exit(1);
    qt_free(y);
}

static void pause_for(int ms) { nanosleep(&(struct timespec){0, ms * 1000000}, NULL); }

/* One line of the table. */
static void compare(const matrix *m, const int8_t *q, R *scale, const void *data, int M, int threads, bool stream)
{
    size_t own_size = qt_packed_size(N, K, m->bits), peer_size = data ? N * g.row_size(m->type, K) : own_size;
    own    o = own_make(m->bits, m->lo, m->hi, q, scale, m->inner, M, stream ? (int)(STREAM / own_size) : 1);
    peer   p = {0};
    R     *x = inputs(M);
    double ours[RUNS], theirs[RUNS], limit[BLOCKS], t, ops = 2e-9 * (double)M * N * K;
    omp_set_num_threads(n_threads = threads);
    own_run(&o, x, 0);
    if (data) {
        ggml_threads(threads);
        p = peer_make(m->type, m->repack, data, M, stream ? (int)(STREAM / peer_size) : 1);
        g.backend_tensor_set(p.x, x, 0, (size_t)(M * K) * sizeof *x);
        peer_run(&p, 0);
        check(&o, &p);
    }
    for (int i = 0; i < RUNS; i += BLOCK) {
        int at = i * 7;
        if (data) {
            g.threadpool_resume(g.pool), peer_run(&p, at++);
            for (int r = i; r < i + BLOCK; r++) t = now(), peer_run(&p, at++), theirs[r] = now() - t;
            g.threadpool_pause(g.pool), pause_for(2);
        }
        own_run(&o, x, at++);
        for (int r = i; r < i + BLOCK; r++) t = now(), own_run(&o, x, at++), ours[r] = now() - t;
        if (stream) limit[i / BLOCK] = reading(o.data, (size_t)o.copies * own_size) / o.copies;
        pause_for(20);
    }
    t = median(ours, RUNS);
    printf("%-22s n=%-2d %dT %-8s %8.1f", m->own, M, threads, stream ? "streamed" : "cached", ops / t);
    if (data) printf("  %-13s %8.1f  ratio %5.2f", m->peer, ops / median(theirs, RUNS), median(theirs, RUNS) / t);
    if (stream) printf("  %.1f GB/s, %.2f of reading", (double)own_size / t * 1e-9, median(limit, BLOCKS) / t);
    printf("\n"), fflush(stdout);
    own_free(&o), qt_free(x);
    if (data) peer_free(&p);
}

static void packed(bool peers, const char *only)
{
    static const matrix all[] = {{"ternary", "TQ2_0", TQ2_0, 2, -1, 1, false, N * K},
                                 {"ternary", "TQ1_0", TQ1_0, 2, -1, 1, false, N * K},
                                 {"4 bits, groups of 32", "Q4_0", Q4_0, 4, -8, 7, false, GROUP},
                                 {"4 bits, groups of 32", "Q4_0 repacked", Q4_0, 4, -8, 7, true, GROUP},
                                 {"4 bits, one scale", NULL, 0, 4, -8, 7, false, N * K},
                                 {"8 bits, groups of 32", "Q8_0", Q8_0, 8, -128, 127, false, GROUP},
                                 {"1 bit, one scale", NULL, 0, 1, -1, 1, false, N * K}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const matrix *m = all + i;
        if ((!peers && (m->repack || m->type == TQ1_0)) || (only && !strstr(m->own, only) && !(m->peer && strstr(m->peer, only)))) continue;
        int8_t *q = room((size_t)N * K);
        R      *scale = room((size_t)(N * K / m->inner) * sizeof *scale);
        void   *data = peers && m->peer ? room(N * g.row_size(m->type, K)) : NULL;
        weights(m, q, scale, data);
        for (int threads = 1; threads <= 2; threads++) {
            compare(m, q, scale, data, 1, threads, false);
            compare(m, q, scale, data, 1, threads, true);
            compare(m, q, scale, data, MANY, threads, false);
        }
        qt_free(q), qt_free(scale), qt_free(data);
    }
}

/* Binary products against nothing: GOP/s. */
static void binary(void)
{
    int8_t   *q = room((size_t)N * K);
    uint64_t *a = room((size_t)(MANY * qt_xnor_words(K)) * 8), *rows = room((size_t)(N * qt_xnor_words(K)) * 8);
    uint64_t *b = room((size_t)qt_xnor_panel_words(N, K) * 8);
    int32_t  *c = room((size_t)MANY * N * sizeof *c);
    double    time[RUNS];
    for (int64_t i = 0; i < N * K; i++) q[i] = i % 3 ? 1 : -1;
    if (!qt_xnor_pack(MANY, K, q, a) || !qt_xnor_pack(N, K, q, rows)) die("xnor", NULL);
    qt_xnor_weave(N, K, rows, b);
    for (int M = 1; M <= MANY; M += MANY - 1)
        for (int threads = 1; threads <= 2; threads++) {
            omp_set_num_threads(n_threads = threads);
            for (int r = 0; r < RUNS; r++) {
                double t = now();
                qt_xnor_gemm(M, N, K, a, b, c), time[r] = now() - t;
            }
            printf("%-22s n=%-2d %dT %-8s %8.1f\n", "1 bit by 1 bit", M, threads, "cached", 2e-9 * M * N * K / median(time, RUNS));
        }
    qt_free(q), qt_free(a), qt_free(rows), qt_free(b), qt_free(c);
}

int main(int argc, char **argv)
{
    bool peers = argc > 1 && *argv[1];
    if (peers) ggml_open(argv[1]);
    printf("GOP/s, 4096 x 4096, medians of %d; qtape: %s", RUNS, qt_packed_name(qt_packed_chosen()));
    if (peers) printf("; ggml %s: %s", g.version(), strrchr(g.cpu, '/') + 1);
    printf("\n");
    packed(peers, argc > 2 ? argv[2] : NULL);
    if (argc < 3) binary();
    return 0;
}
