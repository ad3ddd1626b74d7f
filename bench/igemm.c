/* The integer matrix product beside OpenBLAS's sgemm and, where libdnnl was found at configuration, oneDNN's int8 product: the same
 * operands, blocks of runs in turn, ratios of medians over the blocks. Operands are x [M,K] unsigned and w [N,K] signed, as in a linear layer.
 *
 *     bench_igemm [-t THREADS[,THREADS]] [-s MxNxK]... [-r ROUNDS] [-p PATH] [-q] [-w] [-m] [product|layer]...
 *
 * product: codes in, int32 sums out. layer: floats in, floats out: the activations are quantized and the sums scaled, by both.
 * -p takes one of qtape's paths, -q only small shapes, -m prints rows of a markdown table. OPENBLAS_CORETYPE and DNNL_MAX_CPU_ISA are heeded,
 * and what they came to is printed. Results are compared with exact sums at random places; a wrong one is marked with "!".
 *
 * oneDNN counts with the faster of dnnl_gemm_u8s8s32 and the matmul primitive. It is given activations of 7 bits: with 8 its kernels for
 * CPUs without VNNI add in 16 bits that overflow, and give wrong sums (-w shows them; as fast). Between sgemm and the others there is a
 * pause, for the idle threads of OpenBLAS spin for a while. */
#include "kernels/igemm.h"
#include "base/mem.h"
#include "base/par.h"
#include "base/rng.h"
#include "qat/round.h"
#include <cblas.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef BENCH_DNNL
#include <dnnl.h>
#if DNNL_VERSION_MAJOR == 2
#define BENCH_DNNL_MATMUL
#endif
#endif

enum { RANGES = 4, MAX_ROUNDS = 99, CHECKS = 4096, MAX_SHAPES = 32 };
typedef struct range {
    const char *name;
    int         x_hi, w_lo, w_hi; /* codes of x are 0..x_hi */
} range;
static const range ranges[RANGES] = {{"8x8", 255, -128, 127}, {"7x8", 127, -128, 127}, {"4x4", 15, -8, 7}, {"8 x ternary", 255, -1, 1}};

typedef struct shape {
    int64_t M, N, K;
} shape;
static const shape listed[] = {{64, 256, 784},     {128, 512, 512},  {256, 1024, 1024}, {512, 2048, 512}, {1024, 1024, 1024},
                               {2048, 2048, 2048}, {64, 512, 784},   {256, 512, 784},   {256, 10, 512},   {2048, 128, 128},
                               {2048, 384, 128},   {50176, 16, 144}, {12544, 32, 288},  {3136, 64, 576}};
static const shape small[] = {{64, 256, 784}, {128, 512, 512}, {256, 10, 512}, {2048, 128, 128}};

/* Everything about one shape; codes of all ranges, and the full range's as floats. */
typedef struct task {
    shape    s;
    float   *fx, *fw, *fy;
    R       *x, *y;             /* activations to quantize, result of the layer */
    uint8_t *qx[RANGES], *made; /* made: what quantizing x gives */
    int8_t  *qw[RANGES];
    int32_t *c;
    void    *work;
    R        w_scale;
    bool     layer;
} task;

static int peer_range = 1; /* what oneDNN is given */

/* Scale of x when it is quantized to a range; x is within [-0.1, 5.1]. */
static R x_scale(int r) { return (R)5.1 / (R)ranges[r].x_hi; }

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *room(size_t n)
{
    void *p = qt_alloc(n + QT_CODES_SLACK);
    if (!p) exit(1);
    return p;
}

/* ---- qtape ------------------------------------------------------------------------------------------------------------------ */

static qt_ioperand x_of(const task *t, int r) { return (qt_ioperand){t->qx[r], false, false, 0, ranges[r].x_hi}; }
static qt_ioperand w_of(const task *t, int r) { return (qt_ioperand){t->qw[r], true, true, ranges[r].w_lo, ranges[r].w_hi}; }
static qt_icodes   x_codes(const task *t, int r, const R *scale)
{
    int64_t n = t->s.M * t->s.K;
    return (qt_icodes){.q = t->made, .lo = 0, .hi = ranges[r].x_hi, .n = n, .inner = n, .count = 1, .scale = scale};
}
static qt_icodes w_codes(const task *t, int r)
{
    int64_t n = t->s.N * t->s.K;
    return (qt_icodes){
        .q = t->qw[r], .is_signed = true, .lo = ranges[r].w_lo, .hi = ranges[r].w_hi, .n = n, .inner = n, .count = 1, .scale = &t->w_scale};
}

QT_CLONES static void quantize(uint8_t *restrict q, const R *restrict x, int64_t n, R s, R qp)
{
    for (int64_t i = 0; i < n; i++) q[i] = (uint8_t)qt_bits_of_code(qt_code(x[i], s, 0, 0, qp));
}

static void ours(const task *t, int r)
{
    const shape *s = &t->s;
    if (!t->layer) {
        qt_igemm(s->M, s->N, s->K, x_of(t, r), w_of(t, r), t->work, t->c);
        return;
    }
    R         scale = x_scale(r);
    qt_icodes x = x_codes(t, r, &scale), w = w_codes(t, r);
    qt_iend   end = {NULL};
    QT_FOR_CHUNKS(b, e, x.n, QT_GRAIN) quantize(t->made + b, t->x + b, e - b, scale, (R)ranges[r].x_hi);
    qt_ilinear(s->M, s->N, s->K, &x, &w, &end, t->work, t->y);
}

static size_t work_size(const task *t, int r)
{
    R         scale = x_scale(r);
    qt_icodes x = x_codes(t, r, &scale), w = w_codes(t, r);
    return t->layer ? qt_ilinear_work(t->s.M, t->s.N, t->s.K, &x, &w) : qt_igemm_work(t->s.M, t->s.N, t->s.K, x_of(t, r), w_of(t, r));
}

/* ---- the others ------------------------------------------------------------------------------------------------------------- */

static void sgemm(const task *t, int r)
{
    int M = (int)t->s.M, N = (int)t->s.N, K = (int)t->s.K;
    (void)r;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, M, N, K, 1, t->fx, K, t->fw, K, 0, t->fy, N);
}

#ifdef BENCH_DNNL
static void dnnl_product(const task *t, int r)
{
    int32_t zero = 0;
    dnnl_gemm_u8s8s32('N', 'T', 'F', t->s.M, t->s.N, t->s.K, 1, t->qx[r], t->s.K, 0, t->qw[r], t->s.K, 0, 0, t->c, t->s.N, &zero);
}
#endif

#ifdef BENCH_DNNL_MATMUL
static dnnl_engine_t engine;
static dnnl_stream_t stream;

static dnnl_memory_desc_t matrix(int64_t rows, int64_t cols, dnnl_data_type_t type, bool trans)
{
    dnnl_memory_desc_t d;
    dnnl_dims_t        dims = {rows, cols}, step = {trans ? 1 : cols, trans ? rows : 1};
    dnnl_memory_desc_init_by_strides(&d, 2, dims, type, step);
    return d;
}

/* A primitive with its two or three operands. */
typedef struct job {
    dnnl_primitive_t p;
    dnnl_memory_t    m[3];
    dnnl_exec_arg_t  arg[3];
    int              n;
} job;
static job product, round_x;

static void operand(job *j, int arg, const dnnl_memory_desc_t *d, void *data)
{
    dnnl_memory_create(&j->m[j->n], d, engine, data);
    j->arg[j->n] = (dnnl_exec_arg_t){arg, j->m[j->n]};
    j->n++;
}

static void finish(job *j, dnnl_primitive_desc_t d)
{
    if (dnnl_primitive_create(&j->p, d) != dnnl_success) fprintf(stderr, "oneDNN refuses this shape\n"), exit(1);
    dnnl_primitive_desc_destroy(d);
}

static void dnnl_begin(task *t, int r)
{
    bool                  layer = t->layer;
    dnnl_memory_desc_t    x = matrix(t->s.M, t->s.K, dnnl_u8, false), f = matrix(t->s.M, t->s.K, dnnl_f32, false);
    dnnl_memory_desc_t    w = matrix(t->s.K, t->s.N, dnnl_s8, true), y = matrix(t->s.M, t->s.N, layer ? dnnl_f32 : dnnl_s32, false);
    dnnl_matmul_desc_t    md;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t pd;
    float                 out = (float)(x_scale(r) * t->w_scale), in = (float)(1 / x_scale(r));
    product.n = round_x.n = 0;
    dnnl_primitive_attr_create(&attr);
    if (layer) dnnl_primitive_attr_set_output_scales(attr, 1, 0, &out);
    dnnl_matmul_desc_init(&md, &x, &w, NULL, &y);
    dnnl_primitive_desc_create(&pd, &md, attr, engine, NULL);
    finish(&product, pd);
    operand(&product, DNNL_ARG_SRC, &x, layer ? t->made : t->qx[r]), operand(&product, DNNL_ARG_WEIGHTS, &w, t->qw[r]);
    operand(&product, DNNL_ARG_DST, &y, layer ? (void *)t->y : (void *)t->c);
    dnnl_primitive_attr_set_output_scales(attr, 1, 0, &in);
    dnnl_reorder_primitive_desc_create(&pd, &f, engine, &x, engine, attr);
    finish(&round_x, pd);
    operand(&round_x, DNNL_ARG_FROM, &f, t->x), operand(&round_x, DNNL_ARG_TO, &x, t->made);
    dnnl_primitive_attr_destroy(attr);
}

static void dnnl_end(void)
{
    for (int i = 0; i < product.n; i++) dnnl_memory_destroy(product.m[i]);
    for (int i = 0; i < round_x.n; i++) dnnl_memory_destroy(round_x.m[i]);
    dnnl_primitive_destroy(product.p), dnnl_primitive_destroy(round_x.p);
}

static void dnnl_primitives(const task *t, int r)
{
    (void)r;
    if (t->layer) dnnl_primitive_execute(round_x.p, stream, round_x.n, round_x.arg);
    dnnl_primitive_execute(product.p, stream, product.n, product.arg);
    dnnl_stream_wait(stream);
}
#endif

/* ---- measuring -------------------------------------------------------------------------------------------------------------- */

enum { SGEMM, DNNL_GEMM, DNNL_MATMUL, OURS, CONTESTANTS = OURS + RANGES };
typedef struct contestant {
    void (*run)(const task *t, int r);
    int    range, runs; /* runs a block */
    bool   wrong;
    double time[MAX_ROUNDS];
} contestant;

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

/* Some sums, computed one by one. */
static bool wrong(const task *t, int c, int r)
{
    qt_rng g = qt_rng_at(2, 0);
    for (int i = 0; i < CHECKS; i++) {
        int64_t        m = (int64_t)qt_rng_below(&g, (uint64_t)t->s.M), n = (int64_t)qt_rng_below(&g, (uint64_t)t->s.N), sum = 0;
        const uint8_t *x = (t->layer ? t->made : t->qx[r]) + m * t->s.K;
        const int8_t  *w = t->qw[r] + n * t->s.K;
        for (int64_t k = 0; k < t->s.K; k++) sum += x[k] * w[k];
        R y = (R)sum * (x_scale(r) * t->w_scale), far = c < OURS ? (R)1e-6 * (y > 0 ? y : -y) : 0;
        if (t->layer ? !(t->y[m * t->s.N + n] >= y - far && t->y[m * t->s.N + n] <= y + far) : t->c[m * t->s.N + n] != sum) return true;
    }
    return false;
}

static bool integer(int c) { return c != SGEMM; }

static void first(const task *t, contestant *c, int i)
{
    double start;
    if (integer(i)) memset(t->c, 0x55, (size_t)(t->s.M * t->s.N) * sizeof *t->c), memset(t->y, 0x55, (size_t)(t->s.M * t->s.N) * sizeof *t->y);
    c->run(t, c->range);
    c->wrong = integer(i) && wrong(t, i, c->range);
    start = now(), c->run(t, c->range);
    c->runs = (int)(0.01 / (now() - start)) + 1;
}

static void block(const task *t, contestant *c, int round)
{
    double start;
    c->run(t, c->range);
    start = now();
    for (int i = 0; i < c->runs; i++) c->run(t, c->range);
    c->time[round] = (now() - start) / c->runs;
}

/* time[c]: median seconds, 0 where there is no such contestant. */
static void measure(task *t, int threads, int rounds, double time[CONTESTANTS], bool bad[CONTESTANTS])
{
    contestant c[CONTESTANTS] = {{.run = sgemm}};
    for (int r = 0; r < RANGES; r++) c[OURS + r] = (contestant){.run = ours, .range = r};
#ifdef BENCH_DNNL
    if (!t->layer) c[DNNL_GEMM] = (contestant){.run = dnnl_product, .range = peer_range};
#endif
#ifdef BENCH_DNNL_MATMUL
    c[DNNL_MATMUL] = (contestant){.run = dnnl_primitives, .range = peer_range};
    dnnl_begin(t, peer_range);
#endif
    for (int round = -1; round < rounds; round++)
        for (int i = 0; i < CONTESTANTS; i++) {
            if (!c[i].run) continue;
            openblas_set_num_threads(i == SGEMM ? threads : 1);
            if (round < 0)
                first(t, &c[i], i);
            else
                block(t, &c[i], round);
            if (threads > 1 && i == SGEMM) nanosleep(&(struct timespec){0, 50000000}, NULL);
        }
    for (int i = 0; i < CONTESTANTS; i++) time[i] = c[i].run ? median(c[i].time, rounds) : 0, bad[i] = c[i].wrong;
#ifdef BENCH_DNNL_MATMUL
    dnnl_end();
#endif
}

/* ---- one shape -------------------------------------------------------------------------------------------------------------- */

static void make(task *t)
{
    int64_t MK = t->s.M * t->s.K, NK = t->s.N * t->s.K, MN = t->s.M * t->s.N;
    size_t  most = 0;
    qt_rng  g = qt_rng_at(1, 0);
    t->fx = room((size_t)MK * sizeof *t->fx), t->fw = room((size_t)NK * sizeof *t->fw), t->fy = room((size_t)MN * sizeof *t->fy);
    t->x = room((size_t)MK * sizeof *t->x), t->y = room((size_t)MN * sizeof *t->y), t->c = room((size_t)MN * sizeof *t->c),
    t->made = room((size_t)MK);
    t->w_scale = (R)0.01;
    for (int r = 0; r < RANGES; r++) {
        t->qx[r] = room((size_t)MK), t->qw[r] = room((size_t)NK);
        for (int64_t i = 0; i < MK; i++) t->qx[r][i] = (uint8_t)qt_rng_below(&g, (uint64_t)ranges[r].x_hi + 1);
        for (int64_t i = 0; i < NK; i++)
            t->qw[r][i] = (int8_t)((int)qt_rng_below(&g, (uint64_t)(ranges[r].w_hi - ranges[r].w_lo) + 1) + ranges[r].w_lo);
        most = work_size(t, r) > most ? work_size(t, r) : most;
    }
    for (int64_t i = 0; i < MK; i++) t->fx[i] = t->qx[0][i], t->x[i] = (R)(qt_rng_uniform(&g) * 5.2 - 0.1);
    for (int64_t i = 0; i < NK; i++) t->fw[i] = t->qw[0][i];
    t->work = room(most);
}

static void drop(task *t)
{
    for (int r = 0; r < RANGES; r++) qt_free(t->qx[r]), qt_free(t->qw[r]);
    qt_free(t->fx), qt_free(t->fw), qt_free(t->fy), qt_free(t->x), qt_free(t->y), qt_free(t->c), qt_free(t->made), qt_free(t->work);
}

static void head(bool layer, bool markdown)
{
    if (markdown) {
        printf("| %s | threads | sgemm GFLOP/s | oneDNN GOP/s |", layer ? "layer M x N x K" : "product M x N x K");
        for (int r = 0; r < RANGES; r++) printf(" %s GOP/s | / sgemm | / oneDNN |", ranges[r].name);
        printf("\n| --- | ---: | ---: | ---: |");
        for (int r = 0; r < 3 * RANGES; r++) printf(" ---: |");
        printf("\n");
        return;
    }
    printf("%-18s thr  sgemm oneDNN", layer ? "layer" : "product");
    for (int r = 0; r < RANGES; r++) printf("  %11s /sgemm /oneDNN", ranges[r].name);
    printf("\n");
}

static void one(shape s, int threads, int rounds, bool layer, bool markdown)
{
    task        t = {.s = s, .layer = layer};
    double      time[CONTESTANTS], op = 2e-9 * (double)(s.M * s.N * s.K), peer;
    bool        bad[CONTESTANTS], peer_bad;
    char        name[64];
    const char *bar = markdown ? " |" : "";
    qt_set_threads(threads), omp_set_num_threads(threads);
    make(&t);
    measure(&t, threads, rounds, time, bad);
    bool gemm = time[DNNL_GEMM] > 0 && (time[DNNL_GEMM] < time[DNNL_MATMUL] || !(time[DNNL_MATMUL] > 0));
    peer = time[gemm ? DNNL_GEMM : DNNL_MATMUL], peer_bad = bad[gemm ? DNNL_GEMM : DNNL_MATMUL];
    snprintf(name, sizeof name, "%lldx%lldx%lld", (long long)s.M, (long long)s.N, (long long)s.K);
    printf("%s%-18s%s %3d%s %6.1f%s ", markdown ? "| " : "", name, bar, threads, bar, op / time[SGEMM], bar);
    if (peer > 0)
        printf("%5.0f%s%s", op / peer, peer_bad ? "!" : " ", bar);
    else
        printf("   -  %s", bar);
    for (int r = 0; r < RANGES; r++) {
        double y = time[OURS + r];
        printf(" %11.0f%s%s %6.2f%s", op / y, bad[OURS + r] ? "!" : " ", bar, time[SGEMM] / y, bar);
        if (peer > 0)
            printf("  %6.2f%s", peer / y, bar);
        else
            printf("       -%s", bar);
    }
    printf("\n"), fflush(stdout);
    drop(&t);
}

/* ---- command line ----------------------------------------------------------------------------------------------------------- */

static bool take_path(const char *name)
{
    const qt_igemm_path *p;
    for (int i = 0; (p = qt_igemm_path_at(i)); i++)
        if (!strcmp(qt_igemm_name(p), name) && qt_igemm_has(p)) return qt_igemm_force(p), true;
    fprintf(stderr, "no path '%s' on this CPU; there are:", name);
    for (int i = 0; (p = qt_igemm_path_at(i)); i++)
        if (qt_igemm_has(p)) fprintf(stderr, " %s", qt_igemm_name(p));
    fprintf(stderr, "\n");
    return false;
}

static void says(bool markdown)
{
    printf("%sqtape path %s; OpenBLAS %s", markdown ? "\n" : "# ", qt_igemm_name(qt_igemm_chosen()), openblas_get_corename());
#ifdef BENCH_DNNL
    const dnnl_version_t *v = dnnl_version();
    printf("; oneDNN %d.%d.%d, instruction set %#x", v->major, v->minor, v->patch, (unsigned)dnnl_get_effective_cpu_isa());
#endif
    printf("\n%s", markdown ? "\n" : "");
}

typedef struct options {
    int          n, n_own, n_threads, threads[8], rounds;
    const shape *s;
    shape        own[MAX_SHAPES];
    bool         markdown;
} options;

static bool read_threads(options *o, char *list)
{
    o->n_threads = 0;
    for (char *at = strtok(list, ","); at && o->n_threads < 8; at = strtok(NULL, ",")) o->threads[o->n_threads++] = atoi(at);
    return o->n_threads > 0 && o->threads[0] > 0;
}

static bool read_shape(options *o, const char *text)
{
    long long M, N, K;
    if (o->n_own == MAX_SHAPES || sscanf(text, "%lldx%lldx%lld", &M, &N, &K) != 3 || M < 1 || N < 1 || K < 1) return false;
    o->own[o->n_own++] = (shape){M, N, K};
    o->s = o->own, o->n = o->n_own;
    return true;
}

static bool read_option(options *o, int option)
{
    switch (option) {
    case 't':
        return read_threads(o, optarg);
    case 's':
        return read_shape(o, optarg);
    case 'r':
        return (o->rounds = atoi(optarg)) > 0 && o->rounds <= MAX_ROUNDS;
    case 'p':
        return take_path(optarg);
    case 'q':
        return o->s = small, o->n = sizeof small / sizeof *small, true;
    case 'w':
        return peer_range = 0, true;
    case 'm':
        return o->markdown = true;
    default:
        return false;
    }
}

int main(int argc, char **argv)
{
    options o = {.n = sizeof listed / sizeof *listed, .s = listed, .n_threads = 2, .threads = {1, 2}, .rounds = 9};
    bool    wanted[2] = {false, false};
    for (int option; (option = getopt(argc, argv, "t:s:r:p:qwm")) >= 0;)
        if (!read_option(&o, option)) return fprintf(stderr, "see the head of bench/igemm.c for the options\n"), 2;
    for (int i = optind; i < argc; i++) wanted[0] |= !strcmp(argv[i], "product"), wanted[1] |= !strcmp(argv[i], "layer");
#ifdef BENCH_DNNL_MATMUL
    dnnl_engine_create(&engine, dnnl_cpu, 0), dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
#endif
    says(o.markdown);
    for (int layer = 0; layer < 2; layer++) {
        if (!wanted[layer] && (wanted[0] || wanted[1])) continue;
        head(layer, o.markdown);
        for (int i = 0; i < o.n; i++)
            for (int k = 0; k < o.n_threads; k++) one(o.s[i], o.threads[k], o.rounds, layer, o.markdown);
    }
    return 0;
}
