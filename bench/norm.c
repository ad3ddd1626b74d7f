/* Speed of the L1 norms, and of those computed in integers, against the common (L2) ones, forward and backward, as ratios of medians measured in
 * turns: one run of either, then the other. The gradient of x is written, not added to, as in a network. Beside the ratios stands the traffic
 * that no norm can avoid (x read, y written; x and dy read, dx written: 20 bytes a number of float) over the time, and the speed of copying as many
 * numbers again and again, which stay in the last cache, bytes counted twice. Usage: bench_norm [threads] */
#include "base/par.h"
#include "base/rng.h"
#include "ops/ops.h"
#include <stdlib.h>
#include <time.h>

enum { RUNS = 41, ARRAYS = 5 };

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

static void fill(R *x, int64_t n, uint64_t stream)
{
    qt_rng r = qt_rng_at(1, stream);
    for (int64_t i = 0; i < n; i++) x[i] = (R)qt_rng_normal(&r);
}

typedef qt_tensor *(*norm)(qt_tape *t, qt_tensor *x, qt_tensor *p[4]); /* p: weight, bias, running mean, running variance or deviation */
static qt_tensor *batch(qt_tape *t, qt_tensor *x, qt_tensor *p[4]) { return qt_batch_norm(t, x, p[0], p[1], p[2], p[3], true, 0.1, 1e-5); }
static qt_tensor *l1_batch(qt_tape *t, qt_tensor *x, qt_tensor *p[4]) { return qt_l1_batch_norm(t, x, p[0], p[1], p[2], p[3], true, 0.1, 1e-5); }
static qt_tensor *l1_batch_int(qt_tape *t, qt_tensor *x, qt_tensor *p[4])
{
    static const qt_l1_codes_cfg how = {8, 8, 1};
    return qt_l1_batch_norm_codes(t, x, p[0], p[1], p[2], p[3], NULL, false, &how, 0.1, 1e-5);
}
static qt_tensor *layer(qt_tape *t, qt_tensor *x, qt_tensor *p[4]) { return qt_layer_norm(t, x, p[0], p[1], 1e-5); }
static qt_tensor *l1_layer(qt_tape *t, qt_tensor *x, qt_tensor *p[4]) { return qt_l1_layer_norm(t, x, p[0], p[1], 1e-5); }
static qt_tensor *l1_layer_int(qt_tape *t, qt_tensor *x, qt_tensor *p[4])
{
    static const qt_l1_codes_cfg how = {8, 8, 1};
    return qt_l1_layer_norm_codes(t, x, p[0], p[1], &how, 1e-5);
}

/* One node of a norm over x of this shape, with C channels or features. */
typedef struct made {
    qt_tape   *tape;
    qt_node   *node;
    qt_tensor *x;
} made;

static made make(norm f, int rank, const int64_t *dim, int64_t C)
{
    made       m = {qt_tape_new()};
    qt_tensor *p[4];
    m.x = qt_variable(m.tape, rank, dim);
    for (int k = 0; k < 4; k++) {
        p[k] = (k < 2 ? qt_variable : qt_input)(m.tape, 1, &C);
        for (int64_t i = 0; i < C; i++) p[k]->data[i] = k == 0 || k == 3;
    }
    fill(m.x->data, m.x->n, 1);
    qt_tensor *y = f(m.tape, m.x, p);
    if (qt_tape_error(m.tape)) fprintf(stderr, "%s\n", qt_error_text()), exit(1);
    fill(qt_tape_grad(m.tape, y), y->n, 2);
    m.node = &m.tape->node[m.tape->n - 1];
    return m;
}

static void forward(made *m) { m->node->op->forward(m->node); }
static void backward(made *m)
{
    m->x->flags |= QT_UNWRITTEN;
    if (!m->node->op->stores) qt_grad_clear(m->x);
    m->node->op->backward(m->node);
}

static void copy(R *restrict to, const R *restrict from, int64_t n)
{
    QT_FOR_CHUNKS(b, e, n, QT_GRAIN) memcpy(to + b, from + b, (size_t)(e - b) * sizeof *to);
}

static void compare(const char *name, norm l2, norm l1, int rank, const int64_t *dim, int64_t C)
{
    made   m[2] = {make(l2, rank, dim, C), make(l1, rank, dim, C)};
    double time[3][2][RUNS], t, mid[3][2]; /* forward, backward, both; L2, L1 */
    double copied[RUNS], bytes = (double)m[0].x->n * sizeof(R);
    char   shape[96];
    for (int i = -2; i < RUNS; i++)
        for (int k = 0; k < 2; k++) {
            const int at = i < 0 ? 0 : i;
            t = now(), forward(&m[k]), time[0][k][at] = now() - t;
            t = now(), backward(&m[k]), time[1][k][at] = now() - t;
            time[2][k][at] = time[0][k][at] + time[1][k][at];
        }
    for (int i = 0; i < RUNS; i++) t = now(), copy(m[0].x->grad, m[0].node->out->data, m[0].x->n), copied[i] = now() - t;
    for (int p = 0; p < 3; p++)
        for (int k = 0; k < 2; k++) mid[p][k] = median(time[p][k]);
    printf("%-11s %-20s %7.1f MB | ratio L1/L2 forward %5.2f backward %5.2f both %5.2f | GB/s L2 %5.1f L1 %5.1f copy %5.1f\n", name,
           qt_shape_str(m[0].x, shape), 1e-6 * bytes, mid[0][0] / mid[0][1], mid[1][0] / mid[1][1], mid[2][0] / mid[2][1],
           1e-9 * ARRAYS * bytes / mid[2][0], 1e-9 * ARRAYS * bytes / mid[2][1], 2e-9 * bytes / median(copied));
    fflush(stdout);
    qt_tape_free(m[0].tape), qt_tape_free(m[1].tape);
}

int main(int argc, char **argv)
{
    static const int64_t image[][4] = {{128, 16, 28, 28}, {128, 32, 14, 14}, {128, 64, 7, 7},
                                       {128, 16, 32, 32}, {128, 32, 16, 16}, {128, 64, 8, 8}};
    static const int64_t rows[][2] = {{128, 512}, {256, 512}}, tokens[][2] = {{2048, 128}, {8192, 256}};
    qt_set_threads(argc > 1 ? atoi(argv[1]) : 0);
    for (size_t i = 0; i < sizeof image / sizeof *image; i++) compare("batch norm", batch, l1_batch, 4, image[i], image[i][1]);
    for (size_t i = 0; i < sizeof image / sizeof *image; i++) compare("in integers", batch, l1_batch_int, 4, image[i], image[i][1]);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) compare("batch norm", batch, l1_batch, 2, rows[i], rows[i][1]);
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) compare("layer norm", layer, l1_layer, 2, tokens[i], tokens[i][1]);
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) compare("in integers", layer, l1_layer_int, 2, tokens[i], tokens[i][1]);
    return 0;
}
