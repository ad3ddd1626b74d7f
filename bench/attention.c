/* Milliseconds of attention, forward and backward, one call of the operation each, the best of all rounds; beside it the same of other
 * operations, not causal and with heads as batches. With one thread it is time of the CPU, which other processes disturb less.
 * Usage: bench_attention [batch tokens heads key_heads size causal threads rounds] */
#include "ops/ops.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(qt_threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static qt_tensor *some(qt_tape *t, int64_t B, int64_t T, int64_t n, int step)
{
    qt_tensor *x = qt_variable(t, 3, (int64_t[]){B, T, n});
    for (int64_t i = 0; i < x->n; i++) x->data[i] = (R)(i * step % 1009) / 250 - 2;
    return x;
}

/* softmax(q k^T) v of the other operations, heads as batches already */
static qt_tensor *plain(qt_tape *t, qt_tensor *q, qt_tensor *k, qt_tensor *v, double scale)
{
    return qt_matmul(t, qt_softmax(t, qt_scale(t, qt_matmul(t, q, k, false, true), scale)), v, false, false);
}

int main(int argc, char **argv)
{
    const int64_t B = argc > 1 ? atoi(argv[1]) : 16, T = argc > 2 ? atoi(argv[2]) : 128, H = argc > 3 ? atoi(argv[3]) : 4;
    const int64_t KV = argc > 4 ? atoi(argv[4]) : H, D = argc > 5 ? atoi(argv[5]) : 32;
    const bool    causal = argc > 6 ? atoi(argv[6]) : true;
    const int     rounds = argc > 8 ? atoi(argv[8]) : 20;
    double        best[2] = {1e9, 1e9}, best_plain = 1e9;
    qt_tape      *t = qt_tape_new();
    qt_set_threads(argc > 7 ? atoi(argv[7]) : 2);
    for (int i = 0; i < rounds; i++) {
        qt_tape_reset(t);
        qt_tensor *q = some(t, B, T, H * D, 7919), *k = some(t, B, T, KV * D, 6007), *v = some(t, B, T, KV * D, 4001);
        R         *dy = qt_tape_alloc(t, (size_t)q->n * sizeof(R));
        for (int64_t j = 0; j < q->n; j++) dy[j] = (R)(j % 7) - 3;
        const double start = now();
        qt_tensor   *y = qt_attention(t, q, k, v, (int)H, (int)KV, causal, false);
        const double middle = now();
        if (qt_backward_from(t, y, dy)) return fprintf(stderr, "%s\n", qt_error_text()), 1;
        const double end = now();
        if (middle - start < best[0]) best[0] = middle - start;
        if (end - middle < best[1]) best[1] = end - middle;
        if (KV != H) continue;
        qt_tape_reset(t);
        q = some(t, B * H, T, D, 7919), k = some(t, B * H, T, D, 6007), v = some(t, B * H, T, D, 4001);
        dy = qt_tape_alloc(t, (size_t)q->n * sizeof(R));
        for (int64_t j = 0; j < q->n; j++) dy[j] = (R)(j % 7) - 3;
        const double before = now();
        if (qt_backward_from(t, plain(t, q, k, v, 0.177), dy)) return 1;
        if (now() - before < best_plain) best_plain = now() - before;
    }
    printf("forward %.3f ms, backward %.3f ms", best[0], best[1]);
    if (KV == H) printf(", unfused and not causal %.3f ms", best_plain);
    printf("\n");
    return 0;
}
