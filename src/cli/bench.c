/* qtape bench: how long each quantizer and each layer takes forward and backward on this machine, beside a copy of its input. */
#include "base/rng.h"
#include "cli/command.h"
#include "nn/nn.h"
#include "qat/quant.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const qt_option options[] = {QT_OPTION_THREADS, {0}};

enum { RUNS = 201, LEAST = 5 };
static const double SECONDS = 0.2; /* for one row, or LEAST runs */

/* Quantizers and layers that their name alone does not describe, and the products under quantizers. Other layers get the first shape they take. */
static const char *const spec_of[][2] = {{"ggml", "{use: ggml, type: Q4_0}"}};
typedef struct row {
    const char *layer, *quant, *says;
    qt_shape    in;
} row;
#define ROWS(layer, in)                                                                                                                    \
    {layer, NULL, "", in},                                                                                                                 \
    {layer, "[{match: '*', weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 4}}]", "lsq W4A4", in},                     \
    {layer, "[{match: '*', weights: {use: ternary}, activations: {use: int, num_bits: 8}}]", "ternary, A8", in},                           \
    {layer,                                                                                                                                \
     "[{match: '*', weights: {use: lsq, num_bits: 4}, activations: {use: lsq, num_bits: 4}, grad: {use: shiftq, num_bits: 4, groups: 4}}]", \
     "lsq W4A4, shiftq G4", in}
#define SHAPE(...) {__VA_ARGS__}
static const row rows[] = {
    ROWS("{use: linear, out: 512}", SHAPE(1, {512})),
    ROWS("{use: conv2d, out: 32, kernel: 3, padding: 1}", SHAPE(3, {32, 14, 14})),
    {"{use: max_pool, kernel: 2}", NULL, "", {3, {32, 14, 14}}},
    {"{use: avg_pool, kernel: 2}", NULL, "", {3, {32, 14, 14}}},
    {"{use: pad, padding: 1}", NULL, "", {3, {32, 14, 14}}},
    {"{use: patches, size: 7}", NULL, "", {3, {32, 14, 14}}},
    {"{use: embedding, num: 256, dim: 128}", NULL, "", {1, {128}, 256}},
    {"{use: attention, heads: 4, causal: true}", NULL, "", {2, {128, 192}}},
    {"layer_norm", NULL, "", {2, {128, 64}}},
    {"l1_layer_norm", NULL, "", {2, {128, 64}}},
    {"l1_layer_norm_int", NULL, "", {2, {128, 64}}},
    {"rms_norm", NULL, "", {2, {128, 64}}},
    {"softmax", NULL, "", {2, {128, 64}}},
    {"{use: add, from: input}", NULL, "", {2, {128, 64}}},
    {"{use: concat, from: input}", NULL, "", {2, {128, 64}}},
    {"{use: glu, from: input}", NULL, "", {2, {128, 64}}},
};
static const qt_shape shapes[] = {{3, {32, 14, 14}}, {2, {128, 64}}, {1, {512}}};
enum { BATCH = 64, LINES = 512, N_ROWS = sizeof rows / sizeof *rows, N_SHAPES = sizeof shapes / sizeof *shapes };

typedef struct subject {
    qt_arena  arena;
    qt_store *store;
    qt_tape  *tape;
    qt_model *model; /* or */
    qt_site  *site;
    int64_t   batch;
    qt_shape  in; /* of one sample */
    R        *x, *dy;
} subject;

static void drop(subject *s)
{
    qt_tape_free(s->tape);
    qt_store_free(s->store);
    qt_free(s->x), qt_free(s->dy);
    qt_arena_free(&s->arena);
}

static qt_err begin(subject *s, int64_t batch, qt_shape in)
{
    *s = (subject){.store = qt_store_new(1), .tape = qt_tape_new(), .batch = batch, .in = in};
    if (!s->store || !s->tape) return QT_EMEM;
    qt_tape_mode(s->tape, true, true);
    return QT_OK;
}

static qt_err parse(subject *s, const char *text, qt_yaml **y) { return qt_yaml_parse(&s->arena, text, strlen(text), "bench", y); }

static qt_err make_layer(subject *s, const row *r)
{
    qt_yaml    *y[2] = {NULL, NULL};
    const char *text;
    QT_TRY(begin(s, BATCH, r->in));
    if (!(text = qt_arena_sprintf(&s->arena, "[%s]", r->layer))) return QT_EMEM;
    QT_TRY(parse(s, text, &y[0]));
    if (r->quant) QT_TRY(parse(s, r->quant, &y[1]));
    QT_TRY(qt_model_build(&s->arena, s->store, y[0], y[1], r->in, 0, &s->model));
    return qt_store_seal(s->store, 0);
}

static qt_err make_quant(subject *s, const char *name, qt_role role)
{
    const int64_t dim[] = {LINES, 512};
    qt_yaml      *spec;
    const char   *text = NULL;
    QT_TRY(begin(s, LINES, (qt_shape){1, {512}}));
    for (size_t k = 0; k < sizeof spec_of / sizeof *spec_of; k++)
        if (!strcmp(spec_of[k][0], name)) text = spec_of[k][1];
    if (!text && !(text = qt_arena_sprintf(&s->arena, "{use: %s}", name))) return QT_EMEM;
    QT_TRY(parse(s, text, &spec));
    QT_TRY(qt_site_make(s->store, name, role, 0, 1, 2, dim, spec, "", &s->site));
    return qt_store_seal(s->store, 0);
}

/* ---- time ---------------------------------------------------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *t, int n)
{
    qsort(t, (size_t)n, sizeof *t, order);
    return t[n / 2];
}

/* Normal numbers, or ids, in the tape's memory. */
static qt_tensor *input(subject *s)
{
    const int64_t dim[QT_MAX_DIM] = {s->batch, s->in.dim[0], s->in.dim[1], s->in.dim[2]};
    qt_tensor    *x = (s->in.ids ? qt_input_ids : qt_variable)(s->tape, s->in.rank + 1, dim);
    if (qt_tape_error(s->tape)) return x;
    for (int64_t i = 0; s->in.ids && i < x->n; i++) x->ids[i] = (int32_t)(i * 7 % s->in.ids);
    if (x->data) memcpy(x->data, s->x, (size_t)x->n * sizeof(R));
    return x;
}

enum { FORWARD, BACKWARD, COPY, TIMES };

static qt_tensor *forward(subject *s, qt_tensor *x) { return s->site ? qt_quantize(s->tape, s->site, x) : qt_model_forward(s->tape, s->model, x); }

static qt_err once(subject *s, double t[TIMES])
{
    qt_tape_reset(s->tape);
    qt_tensor *x = input(s), *y;
    t[FORWARD] = now();
    y = forward(s, x);
    t[BACKWARD] = now();
    QT_TRY(qt_tape_error(s->tape));
    if (qt_wants_grad(y)) QT_TRY(qt_backward_from(s->tape, y, s->dy));
    t[COPY] = now();
    memcpy(s->x + x->n, s->x, (size_t)x->n * sizeof(R));
    t[FORWARD] = t[BACKWARD] - t[FORWARD], t[BACKWARD] = t[COPY] - t[BACKWARD], t[COPY] = now() - t[COPY];
    return QT_OK;
}

/* Memory for x, its copy and dy, filled with normal numbers; a first step, which is not counted. */
static qt_err prepare(subject *s)
{
    int64_t n = s->batch, m;
    double  t[TIMES];
    for (int k = 0; k < s->in.rank; k++) n *= s->in.dim[k];
    if (!(s->x = qt_alloc(2 * (size_t)n * sizeof(R)))) return QT_EMEM;
    qt_rng r = qt_rng_at(1, 1);
    for (int64_t i = 0; i < n; i++) s->x[i] = (R)qt_rng_normal(&r);
    qt_tensor *y = forward(s, input(s));
    QT_TRY(qt_tape_error(s->tape));
    m = y->n;
    if (!(s->dy = qt_alloc((size_t)m * sizeof(R)))) return QT_EMEM;
    for (int64_t i = 0; i < m; i++) s->dy[i] = (R)qt_rng_normal(&r);
    return once(s, t);
}

static qt_err measure(subject *s, const char *name, const char *says)
{
    double    t[TIMES], all[TIMES][RUNS];
    int       n = 0;
    char      shape[96];
    qt_tensor x = {.rank = (int8_t)(s->in.rank + 1), .dim = {s->batch, s->in.dim[0], s->in.dim[1], s->in.dim[2]}};
    QT_TRY(prepare(s));
    for (const double start = now(); n < RUNS && (n < LEAST || now() - start < SECONDS); n++) {
        QT_TRY(once(s, t));
        for (int k = 0; k < TIMES; k++) all[k][n] = t[k];
    }
    for (int k = 0; k < TIMES; k++) t[k] = median(all[k], n);
    printf("%-18s %-22s %-18s %10.3f %10.3f %8.1f\n", name, says, qt_shape_str(&x, shape), 1e3 * t[FORWARD], 1e3 * t[BACKWARD],
           (t[FORWARD] + t[BACKWARD]) / t[COPY]);
    fflush(stdout);
    return QT_OK;
}

/* ---- what is there ---------------------------------------------------------------------------------------------------------------------- */

/* The first role that the quantizer is for. */
static qt_err bench_quant(const char *name)
{
    static const qt_role role[] = {QT_ROLE_WEIGHT, QT_ROLE_ACT, QT_ROLE_GRAD};
    static const char   *says[] = {"of weights", "of activations", "of gradients"};
    qt_err               e = QT_EUSAGE;
    for (int k = 0; k < 3 && e == QT_EUSAGE; k++) {
        subject s;
        qt_error_clear();
        e = make_quant(&s, name, role[k]);
        if (e == QT_OK) e = measure(&s, name, says[k]);
        else if (e != QT_EMEM) e = QT_EUSAGE;
        drop(&s);
    }
    return e;
}

static qt_err bench_row(const char *name, const row *r)
{
    subject s;
    qt_err  e = make_layer(&s, r);
    if (e == QT_OK) e = measure(&s, name, r->says);
    drop(&s);
    return e;
}

/* Its rows of the table, or the first shape that it takes. */
static qt_err bench_layer(const char *name)
{
    char   text[64];
    qt_err e = QT_EUSAGE;
    snprintf(text, sizeof text, "{use: %s,", name);
    for (int k = 0; k < N_ROWS; k++)
        if (!strcmp(rows[k].layer, name) || !strncmp(rows[k].layer, text, strlen(text))) QT_TRY(e = bench_row(name, &rows[k]));
    for (int k = 0; k < N_SHAPES && e != QT_OK && e != QT_EMEM; k++) {
        qt_error_clear();
        e = bench_row(name, &(row){name, NULL, "", shapes[k]});
    }
    return e;
}

static qt_err check_name(const char *name)
{
    const char *names[256];
    int         n = 0;
    for (int k = 0; qt_quants.all[k] && n < 256; k++) names[n++] = qt_quants.all[k]->name;
    for (int k = 0; qt_layers.all[k] && n < 256; k++) names[n++] = qt_layers.all[k]->name;
    for (int k = 0; k < n; k++)
        if (!name || !strcmp(name, names[k])) return QT_OK;
    const char *near = qt_near(name, n, names);
    return qt_fail(QT_EUSAGE, "bench: no quantizer or layer is named '%s'%s%s%s", name, near ? ", did you mean '" : "", near ? near : "",
                   near ? "'?" : "");
}

static qt_err run(const qt_args *a)
{
    const char *name = a->n ? a->word[0] : NULL;
    QT_TRY(check_name(name));
    printf("%-18s %-22s %-18s %10s %10s %8s\n", "", "", "input", "forward ms", "back ms", "copies");
    for (int k = 0; qt_quants.all[k]; k++)
        if (!name || !strcmp(name, qt_quants.all[k]->name)) QT_TRY(bench_quant(qt_quants.all[k]->name));
    for (int k = 0; qt_layers.all[k]; k++)
        if (!name || !strcmp(name, qt_layers.all[k]->name)) QT_TRY(bench_layer(qt_layers.all[k]->name));
    return QT_OK;
}

const qt_command qt_command_bench = {
    {"bench", "time quantizers and layers, forward and backward, on this machine"},
    "[NAME]",
    "Prints for each quantizer and each layer, or for the one named, the median time of a training step's pass over random\n"
    "numbers, and the sum of both passes in units of a copy of the input: a pass that reads and writes memory once takes about one.\n"
    "linear and conv2d come in floats and with quantizers. Times of different runs on a shared machine do not compare.\n\n"
    "  qtape bench\n  qtape bench linear --threads 1",
    options, 0, 1, run};
