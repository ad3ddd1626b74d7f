/* What the inner loops of several operations share: the C library's functions by the compute type, sums in lanes, and how many rows
 * make a chunk. */
#ifndef QT_OPS_INNER_H
#define QT_OPS_INNER_H
#include "base/par.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

/* QT_M(exp)(x): expf in float, exp in double. */
#ifdef QT_DOUBLE
#define QT_M(name) name
#else
#define QT_M(name) name##f
#endif

/* The largest whole number that is not above v, so that compilers put it into vector registers, which they do not with floor: what is taken
 * from the nearest one is the bits of 1 under a mask. */
static inline R qt_floor(R v)
{
    const R near = QT_M(rint)(v);
    R       over = 1;
#ifdef QT_DOUBLE
    uint64_t bits, is_above = near > v;
#else
    uint32_t bits, is_above = near > v;
#endif
    memcpy(&bits, &over, sizeof bits);
    bits &= 0 - is_above;
    memcpy(&over, &bits, sizeof bits);
    return near - over;
}

enum { QT_LANES = 16, QT_LANE_RUN = 1024 };

/* The lanes added up in double, halves onto halves. */
static inline double qt_lane_total(const R lane[QT_LANES])
{
    double s[QT_LANES / 2];
    for (int l = 0; l < QT_LANES / 2; l++) s[l] = (double)lane[l] + (double)lane[l + QT_LANES / 2];
    for (int half = QT_LANES / 4; half; half /= 2)
        for (int l = 0; l < half; l++) s[l] += s[l + half];
    return s[0];
}

/* total (a double) += sum over j in [0, n) of term, an expression in j. Sixteen running sums in R, which a compiler turns into vector
 * registers of any width without changing the order; every 1024 terms they are added to the total, so a lane adds up at most 64. */
#define QT_SUM(total, j, n, term)                                                              \
    do {                                                                                       \
        for (int64_t from_ = 0; from_ < (n); from_ += QT_LANE_RUN) {                           \
            R             lane_[QT_LANES] = {0};                                               \
            const int64_t end_ = qt_min_i64(from_ + QT_LANE_RUN, (n));                         \
            const int64_t full_ = from_ + (end_ - from_) / QT_LANES * QT_LANES;                \
            for (int64_t i_ = from_; i_ < full_; i_ += QT_LANES)                               \
                for (int l_ = 0; l_ < QT_LANES; l_++) {                                        \
                    const int64_t j = i_ + l_;                                                 \
                    lane_[l_] += (term);                                                       \
                }                                                                              \
            for (int64_t j = full_; j < end_; j++) lane_[j - full_] += (term);                 \
            (total) += qt_lane_total(lane_);                                                   \
        }                                                                                      \
    } while (0)

/* The largest of n >= 1 numbers, in lanes too; NaN is passed over. Left a loop, the lanes are two or four registers; unrolled, GCC takes
 * them one by one. */
static inline R qt_lane_max(const R *x, int64_t n)
{
    const int64_t full = n / QT_LANES * QT_LANES;
    R             lane[QT_LANES], m = -INFINITY;
    for (int l = 0; l < QT_LANES; l++) lane[l] = -INFINITY;
    for (int64_t i = 0; i < full; i += QT_LANES) {
#pragma GCC unroll 1
        for (int l = 0; l < QT_LANES; l++) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    }
    for (int l = 0; l < QT_LANES; l++) m = lane[l] > m ? lane[l] : m;
    for (int64_t i = full; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

/* Rows of `cols` numbers that make a chunk of about QT_GRAIN numbers. */
static inline int64_t qt_row_grain(int64_t cols) { return qt_max_i64(1, QT_GRAIN / qt_max_i64(1, cols)); }

/* x of any rank as [outer, axis, inner]. A negative axis counts from the end. */
typedef struct qt_axis {
    int     at;
    int64_t outer, n, inner;
} qt_axis;
static inline qt_axis qt_axis_of(const qt_tensor *x, int axis)
{
    qt_axis a = {axis < 0 ? axis + x->rank : axis, 1, 1, 1};
    for (int i = 0; i < x->rank; i++) *(i < a.at ? &a.outer : i == a.at ? &a.n : &a.inner) *= x->dim[i];
    return a;
}
static inline bool qt_axis_fits(const qt_tensor *x, int axis) { return axis >= -x->rank && axis < x->rank; }
#endif
