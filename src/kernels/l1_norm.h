/* L1 normalization of codes, in integers: a channel of a batch or a row, forward and backward. With codes q_i of n numbers x_i = s (q_i - z),
 * F = 2^16 and floor(a/b + 1/2) for the division,
 *
 *     mu = F sum q / n,   d_i = F q_i - mu,   A = sum |d_i|,   t_i = d_i n / A   (A = 0: t = 0),   y_i = gamma t_i + beta.
 *
 * s and z cancel: the statistics and the result depend on the codes alone. y leaves as codes of a given scale, one multiplier a channel:
 *     out = clamp(floor((d M + B)/2^k + 1/2), lo, hi),   M / 2^k = gamma n / (A s_y),   B / 2^k = beta / s_y + z_y.
 *
 * How near that is. mu is off by e <= 1/2, so each d by e and A by at most n/2; with sigma = A / (n F), the deviation in codes, and t* of the
 * exact mean
 *     |t - t*| <= (1 + |t*|) / (2 F sigma),
 * and as M has 30 bits, |out - y* / s_y| <= 1/2 + |gamma| (1 + |t*|) / (2 F sigma s_y) + 2^-20 where out is not clamped (|d M / 2^k| < 512).
 * For codes that vary this is nothing; a channel of 100000 equal codes but one has sigma = 2e-5 and needs all of F.
 *
 * Guo et al., arXiv 2411.10948. Left out: the exact form d_i = n q_i - sum q, whose width grows with n. */
#ifndef QT_KERNELS_L1_NORM_H
#define QT_KERNELS_L1_NORM_H
#include "qtape.h"
typedef qt_real R;

enum { QT_L1_FRACTION = 16 }; /* F = 2^16 */

/* The codes of a channel: `runs` runs of `length` bytes that lie `step` apart; one run is a row. */
typedef struct qt_l1_codes {
    const void *q;
    bool        is_signed; /* int8_t, otherwise uint8_t */
    int64_t     runs, step, length;
} qt_l1_codes;

typedef struct qt_l1_stats {
    int64_t n, mean, total;  /* n < 2^31, mu, A */
    int64_t above;           /* how many d are > 0 */
    int     lowest, highest; /* code */
} qt_l1_stats;

void qt_l1_take_stats(const qt_l1_codes *x, qt_l1_stats *s);
/* sigma, the mean absolute deviation in codes; times the scale of x it is that of x. */
double qt_l1_sigma(const qt_l1_stats *s);
/* The largest |t|: a scale of max |t| / 127 holds all t in int8. */
double qt_l1_reach(const qt_l1_stats *s);

/* From d to codes. */
typedef struct qt_l1_map {
    int64_t mul, add;
    int     shift;
    int32_t lo, hi;
} qt_l1_map;
/* gamma, beta, scale > 0 are finite; gamma = 1 and beta = 0 give the codes of t. */
qt_l1_map qt_l1_map_of(const qt_l1_stats *s, double gamma, double beta, double scale, int zero, int lo, int hi);
/* The code that d has in it: the rule by itself. */
int32_t   qt_l1_map_at(const qt_l1_map *m, int64_t d);
/* out: bytes (int8_t or uint8_t, as lo and hi say) that lie as those of x. */
void      qt_l1_apply(const qt_l1_codes *x, const qt_l1_stats *s, const qt_l1_map *m, void *out);

/* A row of a layer norm has a gamma and a beta a number: out_j = clamp(floor((t_j G_j + B_j)/2^k + 1/2), lo, hi), where t_j has 16 fraction
 * bits (2^-17 more of error in t). mul, add [n] are made once for all rows. */
typedef struct qt_l1_gains {
    int32_t *mul; /* [n] */
    int64_t *add; /* [n] */
    int      shift;
    int32_t  lo, hi;
} qt_l1_gains;
/* Fills what mul and add point to, and the rest. gamma or beta NULL: 1, 0. n < 2^15. */
void qt_l1_gains_of(const R *gamma, const R *beta, int64_t n, double scale, int zero, int lo, int hi, qt_l1_gains *g);
void qt_l1_apply_row(const qt_l1_codes *x, const qt_l1_stats *s, const qt_l1_gains *g, void *out);

/* Backward, from what is kept as integers: the codes of t with their scale s_t, one bit an element for sg = sign(d) (1: d > 0; d = 0 counts as
 * below), and the codes qg of dy with their scale s_g (of a layer norm: qg of gamma dy, and gamma = 1):
 *     m1 = sum qg / n,   m2 = s_t sum qg qt / n,   m3 = sum sg / n,
 *     dx += gamma s_g / (s sigma) (qg - m1 - m2 (sg - m3)),   dgamma = s_g s_t sum qg qt,   dbeta = s_g sum qg.
 * qg within 1/2 of dy / s_g, qt within 1/2 of t / s_t: |dx - dx*| <= gamma s_g / (s sigma) (2 + s_t mean |qg|). */
int64_t qt_l1_sign_bytes(const qt_l1_codes *x); /* every run begins a byte */
void    qt_l1_take_signs(const qt_l1_codes *x, const qt_l1_stats *s, uint8_t *sign);

typedef struct qt_l1_sums {
    int64_t n, g, gt, above; /* sum qg, sum qg qt, number of 1 bits */
} qt_l1_sums;
/* runs, step, length: how g and t lie. sign NULL: above is 0. */
void qt_l1_back_sums(const int8_t *g, const int8_t *t, const uint8_t *sign, int64_t runs, int64_t step, int64_t length, qt_l1_sums *s);
/* dx += gain (qg - m1 - m2 (sg - m3)), gain = gamma s_g / (s sigma) */
void qt_l1_backward(const int8_t *g, const uint8_t *sign, int64_t runs, int64_t step, int64_t length, const qt_l1_sums *s, double gain,
                    double t_scale, R *dx);
#endif
