/* Which token comes next. With the logits l of all tokens:
 *
 *     p_i = exp((l_i - max l) / temperature),      temperature 0: the largest l, of equal ones the first token.
 *
 * top_k leaves the k likeliest tokens (of equally likely ones the first), top_p of these the fewest whose p add up to top_p of what is left, from
 * the likeliest on. Of the rest one is drawn with its share. Fan et al., "Hierarchical neural story generation", ACL 2018 (top_k); Holtzman et al.,
 * "The curious case of neural text degeneration", ICLR 2020 (top_p).
 *
 * A heap gives the likeliest tokens one after the other, so that few are sorted where few are wanted. Left out: penalties on repetition. */
#include "base/rng.h"
#include "train/generate.h"
#include <float.h>
#include <math.h>

/* ---- a heap of tokens, the likeliest on top -------------------------------------------------------------------------------------------- */

static bool before(const R *l, int32_t a, int32_t b) { return l[a] != l[b] ? l[a] > l[b] : a < b; }

static void sink(const R *l, int32_t *heap, int64_t n, int64_t i)
{
    for (int64_t k; (k = 2 * i + 1) < n; i = k) {
        if (k + 1 < n && before(l, heap[k + 1], heap[k])) k++;
        if (!before(l, heap[k], heap[i])) return;
        int32_t t = heap[i];
        heap[i] = heap[k], heap[k] = t;
    }
}

/* The `most` likeliest tokens move to the end of the heap, the likeliest last. Stops when they have the share. */
static int64_t take(const R *l, int32_t *heap, int64_t n, int64_t most, double inv, double share)
{
    int64_t taken = 0;
    double  sum = 0, max = 0;
    for (int64_t i = n / 2 - 1; i >= 0; i--) sink(l, heap, n, i);
    max = (double)l[heap[0]];
    do {
        int32_t top = heap[0];
        taken++;
        heap[0] = heap[n - taken], heap[n - taken] = top;
        sink(l, heap, n - taken, 0);
        sum += exp(((double)l[top] - max) * inv);
    } while (taken < most && sum < share);
    return taken;
}

/* ---- drawing ----------------------------------------------------------------------------------------------------------------------------- */

static int32_t likeliest(const R *l, int64_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (l[i] > l[best]) best = i;
    return best;
}

/* Sum of p over tokens: the likeliest first, or, id NULL, the tokens 0..n-1. Stops behind the one where the sum exceeds `until`, which
 * becomes *at. */
static double add_up(const R *l, const int32_t *id, int64_t n, double max, double inv, double until, int32_t *at)
{
    double sum = 0;
    for (int64_t i = 0; i < n && !(sum > until); i++) {
        int32_t k = id ? id[n - 1 - i] : (int32_t)i;
        double  p = exp(((double)l[k] - max) * inv);
        if (p > 0) *at = k;
        sum += p;
    }
    return sum;
}

int32_t qt_sample_token(const qt_sampling *s, const R *logits, int64_t n, int64_t at, int32_t *work)
{
    int32_t best = likeliest(logits, n), id = best;
    int64_t most = s->top_k && s->top_k < n ? s->top_k : n;
    double  inv = fmin(1 / s->temperature, DBL_MAX), max = (double)logits[best];
    if (s->temperature <= 0 || most == 1) return best;
    int32_t *from = NULL;
    if (most < n || s->top_p < 1) {
        for (int32_t i = 0; i < n; i++) work[i] = i;
        int64_t k = most < n ? take(logits, work, n, most, inv, INFINITY) : n;
        from = work + n - k;
        double all = add_up(logits, from, k, max, inv, INFINITY, &id);
        if (s->top_p < 1) {
            int64_t few = take(logits, from, k, k, inv, s->top_p * all);
            from += k - few, k = few;
        }
        most = k;
    }
    qt_rng r = qt_rng_named(s->seed, "generate");
    double u = ((double)qt_rng_u32_at(&r, (uint64_t)at) + 0.5) / 4294967296.0;
    double all = add_up(logits, from, most, max, inv, INFINITY, &id);
    add_up(logits, from, most, max, inv, u * all, &id);
    return id;
}
