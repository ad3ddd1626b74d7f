/* Observers: which range of a tensor its grid shall span. With one (lo, hi) for each scale:
 *
 *   minmax      the extremes; over several tensors the extremes of all
 *   ema         the extremes; over several tensors smoothed, m += c (new - m) (Jacob et al. 2018, arXiv 1712.05877, 3.1)
 *   percentile  symmetric: [-a, a] with a the ceil(p n)-th smallest |x|. Otherwise both tails are cut: hi is the ceil(p n)-th smallest x, lo
 *               the ceil(p n)-th largest. The order statistic itself, not an interpolation
 *   mse         of the 100 ranges (i/100) [min, max] (symmetric: (i/100) max|x| on both sides), i = 1..100, the one with the least
 *               sum |x - Q(x)|^power; the full range is among them, so the error is never above that of minmax. Ties: the larger range
 *   entropy     of the thresholds T at every 16th bin of a histogram of |x| with 2048 bins, from the 128th on, the one with the least
 *               Kullback-Leibler divergence between the histogram clipped at T and the same cut into as many levels as the grid has for
 *               magnitudes (Migacz, "8-bit inference with TensorRT", GTC 2017). The range is [min, max] clipped to [-T, T]
 *
 * percentile, mse and entropy are smoothed over several tensors as ema is. Elements of a scale are visited in place, run by run, so
 * that no copy is made; the order statistic is found bit by bit (radix selection). Work is parallel over scales and candidates, and
 * each sum is made by one thread in a fixed order. */
#include "qat/observer.h"
#include "ops/inner.h"
#include <string.h>

enum { CANDIDATES = 100, BINS = 2048, FIRST_THRESHOLD = 128, THRESHOLD_STEP = 16, LANES = 16 };

/* for each run of scale k: its elements are x[b..b + l.inner) */
#define FOR_RUNS(b, n, l, k) for (int64_t b = (k) * (l).inner; b < (n); b += (l).count * (l).inner)

/* ---- numbers in order ------------------------------------------------------------------------------------------------------------- */

/* An unsigned number that sorts as x does, and back; a NaN is beyond both infinities. */
static inline qt_real_bits key_of(R x)
{
    const int    top = 8 * sizeof(R) - 1;
    qt_real_bits b;
    memcpy(&b, &x, sizeof b);
    return b ^ ((0 - (b >> top)) | (qt_real_bits)1 << top);
}

static R value_of(qt_real_bits key)
{
    const qt_real_bits sign = (qt_real_bits)1 << (8 * sizeof(R) - 1);
    qt_real_bits       b = key & sign ? key & ~sign : ~key;
    R                  x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* ---- extremes ------------------------------------------------------------------------------------------------------------------- */

/* As integers, which unlike comparisons of floats go into vector registers. A NaN does not count: it becomes the key that changes nothing. */
QT_CLONES static void min_max(const R *x, int64_t n, qt_real_bits *lo, qt_real_bits *hi)
{
    qt_real_bits least = *lo, most = *hi;
    for (int64_t i = 0; i < n; i++) {
        qt_real_bits k = key_of(x[i]), number = 0 - (qt_real_bits)(x[i] == x[i]), low = k | ~number, high = k & number;
        least = low < least ? low : least;
        most = high > most ? high : most;
    }
    *lo = least, *hi = most;
}

/* A long run in parts; extremes come out the same however it is cut. */
static void run_min_max(const R *x, int64_t n, qt_real_bits *lo, qt_real_bits *hi)
{
    enum { PARTS = 64 };
    qt_real_bits  least[PARTS], most[PARTS];
    const int64_t part = qt_max_i64(QT_GRAIN, QT_CHUNKS(n, PARTS));
    if (n <= part) {
        min_max(x, n, lo, hi);
        return;
    }
    QT_FOR_CHUNKS(b, e, n, part) {
        least[QT_CHUNK_OF(b)] = *lo, most[QT_CHUNK_OF(b)] = *hi;
        min_max(x + b, e - b, &least[QT_CHUNK_OF(b)], &most[QT_CHUNK_OF(b)]);
    }
    for (int64_t k = 0; k < QT_CHUNKS(n, part); k++) *lo = least[k] < *lo ? least[k] : *lo, *hi = most[k] > *hi ? most[k] : *hi;
}

/* The keys to begin with are those of NaN, and stay where nothing else is. */
void qt_scale_min_max(const R *x, int64_t n, qt_layout l, int64_t k, R *lo, R *hi)
{
    qt_real_bits least = ~(qt_real_bits)0, most = 0;
    FOR_RUNS(b, n, l, k) run_min_max(x + b, l.inner, &least, &most);
    *lo = value_of(least), *hi = value_of(most);
}

/* ---- percentile: radix selection ------------------------------------------------------------------------------------------------- */

/* The rank-th smallest (0-based) element of scale k, or of their absolute values: eight bits of the answer a pass. */
static R order_statistic(const R *x, int64_t n, qt_layout l, int64_t k, int64_t rank, bool absolute)
{
    qt_real_bits found = 0;
    for (int shift = 8 * (int)sizeof(R) - 8; shift >= 0; shift -= 8) {
        int64_t count[256] = {0};
        int     digit = 0;
        FOR_RUNS(b, n, l, k)
            for (int64_t i = 0; i < l.inner; i++) {
                qt_real_bits key = key_of(absolute ? (R)fabs(x[b + i]) : x[b + i]);
                count[key >> shift & 255] += ((key ^ found) >> shift) < 256; /* the digits above agree */
            }
        for (; digit < 255 && rank >= count[digit]; digit++) rank -= count[digit];
        found |= (qt_real_bits)digit << shift;
    }
    return value_of(found);
}

static void percentile(const qt_observer *o, const R *x, int64_t n, qt_layout l, int64_t k, R *lo, R *hi)
{
    int64_t m = n / l.count, rank = (int64_t)ceil(o->percentile * (double)m) - 1;
    rank = qt_max_i64(0, qt_min_i64(rank, m - 1));
    *hi = order_statistic(x, n, l, k, rank, o->symmetric);
    *lo = o->symmetric ? -*hi : order_statistic(x, n, l, k, m - 1 - rank, false);
}

/* ---- mse ------------------------------------------------------------------------------------------------------------------------ */

QT_CLONES static double squared_error(const R *x, int64_t n, R s, R z, R o, R qn, R qp)
{
    double  acc[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            R d = qt_value(qt_code(x[i + l] - o, s, z, qn, qp), s, z) + o - x[i + l];
            acc[l] += (double)d * (double)d;
        }
    for (; i < n; i++) {
        R d = qt_value(qt_code(x[i] - o, s, z, qn, qp), s, z) + o - x[i];
        acc[0] += (double)d * (double)d;
    }
    for (int l = 1; l < LANES; l++) acc[0] += acc[l];
    return acc[0];
}

/* |d|^power = exp(power log|d|), which unlike pow() goes into vector registers. */
QT_CLONES static double power_error(const R *x, int64_t n, R s, R z, R o, R qn, R qp, R power)
{
    double sum = 0;
    QT_SUM(sum, i, n, qt_vexp(power * qt_vlog(QT_M(fabs)(qt_value(qt_code(x[i] - o, s, z, qn, qp), s, z) + o - x[i]))));
    return sum;
}

double qt_grid_error(const R *x, int64_t n, qt_layout l, int64_t k, R s, R z, R o, R qn, R qp, double power)
{
    double sum = 0;
    FOR_RUNS(b, n, l, k) sum += power == 2 ? squared_error(x + b, l.inner, s, z, o, qn, qp) : power_error(x + b, l.inner, s, z, o, qn, qp, (R)power);
    return sum;
}

/* Ranges of all scales: error[k * CANDIDATES + i] is that of candidate i + 1. */
static qt_err least_error(const qt_observer *o, const qt_tensor *x, qt_layout l, qt_arena *a, R *lo, R *hi)
{
    double *error = qt_arena_alloc(a, (size_t)(l.count * CANDIDATES) * sizeof *error);
    if (!error) return QT_EMEM;
    QT_FOR_EACH(j, l.count * CANDIDATES, x->n > QT_GRAIN / CANDIDATES) {
        int64_t k = j / CANDIDATES;
        R       f = (R)(j % CANDIDATES + 1) / CANDIDATES, s, z;
        qt_range_to_grid(o, lo[k] * f, hi[k] * f, &s, &z);
        error[j] = qt_grid_error(x->data, x->n, l, k, s, z, 0, o->qn, o->qp, o->power);
    }
    for (int64_t k = 0; k < l.count; k++) {
        int best = CANDIDATES - 1;
        for (int i = CANDIDATES - 2; i >= 0; i--)
            if (error[k * CANDIDATES + i] < error[k * CANDIDATES + best]) best = i;
        lo[k] *= (R)(best + 1) / CANDIDATES, hi[k] *= (R)(best + 1) / CANDIDATES;
    }
    return QT_OK;
}

/* ---- entropy --------------------------------------------------------------------------------------------------------------------- */

/* D(P || Q): P is the histogram with all that lies beyond bin t put into bin t - 1; Q is hist[0..t) cut into `levels` equal parts, each
 * spread evenly over its bins that are not empty. Bins where Q is empty but P is not (outliers only) count with a tiny Q. */
static double divergence(const double *hist, int t, int levels, double total)
{
    double beyond = 0, kept, d = 0;
    for (int i = t; i < BINS; i++) beyond += hist[i];
    kept = total - beyond;
    if (kept <= 0) return HUGE_VAL;
    for (int j = 0; j < levels; j++) {
        int    b = (int)((int64_t)j * t / levels), e = (int)((int64_t)(j + 1) * t / levels), filled = 0;
        double sum = 0;
        for (int i = b; i < e; i++) sum += hist[i], filled += hist[i] > 0;
        for (int i = b; i < e; i++) {
            double p = (hist[i] + (i == t - 1 ? beyond : 0)) / total, q = hist[i] > 0 ? sum / filled / kept : 1e-12;
            if (p > 0) d += p * log(p / q);
        }
    }
    return d;
}

static void entropy(const qt_observer *o, const R *x, int64_t n, qt_layout l, int64_t k, R *lo, R *hi)
{
    double hist[BINS] = {0}, total = (double)(n / l.count), best = HUGE_VAL;
    R      max = (R)fmax(fabs(*lo), fabs(*hi)), width = max / BINS, s, z;
    int    threshold = BINS;
    if (!(width > 0) || !isfinite(max)) return;
    qt_range_to_grid(o, *lo, *hi, &s, &z);
    if (max / s >= BINS) return; /* more levels than bins: nothing to gain by clipping */
    int levels = (int)qt_round(max / s) + 1;
    FOR_RUNS(b, n, l, k)
        for (int64_t i = 0; i < l.inner; i++) hist[qt_min_i64(BINS - 1, (int64_t)(fabs(x[b + i]) / width))]++;
    for (int t = levels > FIRST_THRESHOLD ? levels : FIRST_THRESHOLD; t <= BINS; t += THRESHOLD_STEP) {
        double d = divergence(hist, t, levels, total);
        if (d <= best) best = d, threshold = t;
    }
    *lo = qt_clip(*lo, -width * (R)threshold, 0), *hi = qt_clip(*hi, 0, width * (R)threshold);
}

/* ---- the observer ---------------------------------------------------------------------------------------------------------------- */

qt_err qt_observe(const qt_observer *o, const qt_tensor *x, qt_layout l, qt_arena *a, R *lo, R *hi)
{
    QT_FOR_EACH(k, l.count, l.count > 1 && x->n > QT_GRAIN) {
        if (o->kind == QT_OBSERVE_PERCENTILE) percentile(o, x->data, x->n, l, k, &lo[k], &hi[k]);
        else qt_scale_min_max(x->data, x->n, l, k, &lo[k], &hi[k]);
        if (o->kind == QT_OBSERVE_ENTROPY) entropy(o, x->data, x->n, l, k, &lo[k], &hi[k]);
    }
    return o->kind == QT_OBSERVE_MSE ? least_error(o, x, l, a, lo, hi) : QT_OK;
}

void qt_observe_merge(const qt_observer *o, bool first, int64_t count, const R *new_lo, const R *new_hi, R *lo, R *hi)
{
    R c = (R)o->ema_constant;
    for (int64_t k = 0; k < count; k++)
        if (first) lo[k] = new_lo[k], hi[k] = new_hi[k];
        else if (o->kind == QT_OBSERVE_MINMAX) lo[k] = new_lo[k] < lo[k] ? new_lo[k] : lo[k], hi[k] = new_hi[k] > hi[k] ? new_hi[k] : hi[k];
        else lo[k] += c * (new_lo[k] - lo[k]), hi[k] += c * (new_hi[k] - hi[k]);
}

void qt_range_to_grid(const qt_observer *o, R lo, R hi, R *s, R *z)
{
    const R least = (R)1e-8;
    if (o->symmetric) {
        R a = -lo > hi ? -lo : hi;
        *s = a / o->qp, *z = 0;
        if (*s < least) *s = least;
        return;
    }
    if (lo > 0) lo = 0;
    if (hi < 0) hi = 0;
    *s = (hi - lo) / (o->qp - o->qn);
    if (*s < least) *s = least;
    *z = qt_clip(qt_round(o->qn - lo / *s), o->qn, o->qp) + 0;
}
