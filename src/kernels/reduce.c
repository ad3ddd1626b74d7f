/* Reductions. A vector is cut into at most PARTS parts of a length that depends on n only; a part is summed in LANES interleaved
 * double accumulators, lanes are folded pairwise, parts added in order. Nothing in that order depends on threads or on SIMD width. */
#include "kernels/reduce.h"
#include "base/par.h"
#include <math.h>
#include <string.h>

enum { LANES = 16, PARTS = 256, COLUMNS = 16, ROW_PARTS = 16 };

static int64_t part(int64_t n) { return qt_max_i64(QT_GRAIN, ((n + PARTS - 1) / PARTS + LANES - 1) / LANES * LANES); }

static double fold(double *lane)
{
    for (int w = LANES / 2; w; w /= 2)
        for (int l = 0; l < w; l++) lane[l] += lane[l + w];
    return lane[0];
}

/* sum of TERM(i) over [0, n) */
#define LANE_SUM(TERM)                                       \
    double  lane[LANES] = {0};                               \
    int64_t i = 0;                                           \
    for (; i + LANES <= n; i += LANES)                       \
        for (int l = 0; l < LANES; l++) lane[l] += TERM(i + l); \
    for (int l = 0; i < n; i++, l++) lane[l] += TERM(i);     \
    return fold(lane)

#define SUM(i) (double)x[i]
#define SUM_ABS(i) fabs((double)x[i])
#define SUM_SQ(i) (double)x[i] * (double)x[i]
#define DOT(i) (double)x[i] * (double)y[i]
#define DISTANCE_SQ(i) ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i])
QT_CLONES static double part_sum(const R *x, int64_t n) { LANE_SUM(SUM); }
QT_CLONES static double part_sum_abs(const R *x, int64_t n) { LANE_SUM(SUM_ABS); }
QT_CLONES static double part_sum_sq(const R *x, int64_t n) { LANE_SUM(SUM_SQ); }
QT_CLONES static double part_dot(const R *x, const R *y, int64_t n) { LANE_SUM(DOT); }
QT_CLONES static double part_distance_sq(const R *x, const R *y, int64_t n) { LANE_SUM(DISTANCE_SQ); }

/* parts in parallel, then in order; one part without a parallel loop, which costs more than a short row */
#define PART_SUM(CALL)                                           \
    double  sum[PARTS], all = 0;                                 \
    int64_t grain = part(n);                                     \
    if (n <= grain) {                                            \
        const int64_t b = 0, e = n;                              \
        return all + (CALL);                                     \
    }                                                            \
    QT_FOR_CHUNKS(b, e, n, grain) sum[QT_CHUNK_OF(b)] = CALL;    \
    for (int64_t k = 0; k < QT_CHUNKS(n, grain); k++) all += sum[k]; \
    return all

double qt_reduce_sum(const R *x, int64_t n) { PART_SUM(part_sum(x + b, e - b)); }
double qt_reduce_sum_abs(const R *x, int64_t n) { PART_SUM(part_sum_abs(x + b, e - b)); }
double qt_reduce_sum_sq(const R *x, int64_t n) { PART_SUM(part_sum_sq(x + b, e - b)); }
double qt_reduce_dot(const R *x, const R *y, int64_t n) { PART_SUM(part_dot(x + b, y + b, e - b)); }
double qt_reduce_distance_sq(const R *x, const R *y, int64_t n) { PART_SUM(part_distance_sq(x + b, y + b, e - b)); }

/* Without its sign bit a float orders as an integer, NaN above infinity: the largest magnitude is an integer maximum. */
#ifdef QT_DOUBLE
typedef int64_t bits;
#else
typedef int32_t bits;
#endif
enum { BITS = 8 * sizeof(bits) - 1 };
static const bits MAGNITUDE = (bits)(((uint64_t)1 << BITS) - 1);

static bits magnitude(R x)
{
    bits u;
    memcpy(&u, &x, sizeof u);
    return u & MAGNITUDE;
}

static R from_bits(bits u)
{
    R x;
    memcpy(&x, &u, sizeof x);
    return x;
}

QT_CLONES static bits part_max_abs(const R *x, int64_t n)
{
    bits best = 0;
    for (int64_t i = 0; i < n; i++) {
        bits u = magnitude(x[i]);
        best = u > best ? u : best;
    }
    return best;
}

R qt_reduce_max_abs(const R *x, int64_t n)
{
    bits    best[PARTS], all = 0;
    int64_t grain = part(n);
    if (n <= grain) return from_bits(part_max_abs(x, n));
    QT_FOR_CHUNKS(b, e, n, grain) best[QT_CHUNK_OF(b)] = part_max_abs(x + b, e - b);
    for (int64_t k = 0; k < QT_CHUNKS(n, grain); k++) all = best[k] > all ? best[k] : all;
    return from_bits(all);
}

/* The bits of a float as an integer that orders as the float does: -inf, ..., -0, 0, ..., inf, with NaN outside. An involution. */
static bits ordered(bits u) { return u < 0 ? u ^ MAGNITUDE : u; }

static bits key(R x)
{
    bits u;
    memcpy(&u, &x, sizeof u);
    return ordered(u);
}

QT_CLONES static void part_min_max(const R *x, int64_t n, bits *lo, bits *hi)
{
    bits least = key(x[0]), most = least;
    for (int64_t i = 0; i < n; i++) {
        bits u = key(x[i]);
        least = u < least ? u : least;
        most = u > most ? u : most;
    }
    *lo = least, *hi = most;
}

void qt_reduce_min_max(const R *x, int64_t n, R *lo, R *hi)
{
    bits    least[PARTS], most[PARTS], below = 0, above = 0;
    int64_t grain = part(n);
    QT_FOR_CHUNKS(b, e, n, grain) part_min_max(x + b, e - b, &least[QT_CHUNK_OF(b)], &most[QT_CHUNK_OF(b)]);
    for (int64_t k = 0; k < QT_CHUNKS(n, grain); k++) {
        below = k == 0 || least[k] < below ? least[k] : below;
        above = k == 0 || most[k] > above ? most[k] : above;
    }
    *lo = from_bits(ordered(below)), *hi = from_bits(ordered(above));
    if (below < key((R)-INFINITY) || above > key((R)INFINITY)) *lo = *hi = (R)NAN;
}

/* sum[j] = sum over rows of x[r*cols + j] for j < n <= COLUMNS */
QT_CLONES static void sum_columns(const R *x, int64_t rows, int64_t cols, int64_t n, double *sum)
{
    double s[COLUMNS] = {0};
    if (n == COLUMNS)
        for (int64_t r = 0; r < rows; r++)
            for (int j = 0; j < COLUMNS; j++) s[j] += x[r * cols + j];
    else
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < n; j++) s[j] += x[r * cols + j];
    memcpy(sum, s, sizeof s);
}

/* Blocks of COLUMNS columns are independent. Few columns and many rows: the rows of a block are cut as well. */
void qt_reduce_sum_rows(const R *x, int64_t rows, int64_t cols, R *y)
{
    int64_t blocks = QT_CHUNKS(cols, COLUMNS), parts = blocks >= ROW_PARTS || rows * cols < 4 * QT_GRAIN ? 1 : ROW_PARTS;
    int64_t height = qt_max_i64(1, (rows + parts - 1) / parts);
    for (int64_t at = 0; at < blocks; at += ROW_PARTS) {
        double  sum[ROW_PARTS][ROW_PARTS][COLUMNS];
        int64_t wide = qt_min_i64(ROW_PARTS, blocks - at);
        QT_FOR_EACH(i, wide * parts, rows * cols >= 4 * QT_GRAIN)
        {
            int64_t c = (at + i / parts) * COLUMNS, r = i % parts * height;
            int64_t n = qt_max_i64(0, qt_min_i64(height, rows - r));
            sum_columns(x + r * cols + c, n, cols, qt_min_i64(COLUMNS, cols - c), sum[i / parts][i % parts]);
        }
        for (int64_t c = at * COLUMNS; c < qt_min_i64(cols, (at + wide) * COLUMNS); c++) {
            double all = 0;
            for (int64_t p = 0; p < parts; p++) all += sum[c / COLUMNS - at][p][c % COLUMNS];
            y[c] += (R)all;
        }
    }
}

/* Radix selection on the magnitude's bits, DIGIT at a time from the top: count the digits, keep the numbers of the one that holds k. */
enum { DIGIT = 11 };

R qt_reduce_select_abs(const R *x, int64_t n, int64_t k, R *work)
{
    const R *from = x;
    for (int shift = BITS; shift > 0 && n > 1;) {
        int64_t count[1 << DIGIT] = {0}, kept = 0;
        int     width = shift < DIGIT ? shift : DIGIT;
        bits    mask = (bits)(((uint64_t)1 << width) - 1), digit = 0;
        shift -= width;
        for (int64_t i = 0; i < n; i++) count[magnitude(from[i]) >> shift & mask]++;
        for (; k >= count[digit]; digit++) k -= count[digit];
        for (int64_t i = 0; i < n; i++)
            if ((magnitude(from[i]) >> shift & mask) == digit) work[kept++] = from[i];
        from = work, n = kept;
    }
    return n > 0 ? from_bits(magnitude(from[0])) : 0;
}
