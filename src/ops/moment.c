/* Standardized moment of all n numbers of x: with their mean m, deviation d, d^2 = sum (x - m)^2 / (n - 1), and h = (x - m)/d
 *
 *     y = mean(h^k)                                    k = 3 skewness, k = 4 kurtosis (3 of a normal, 1.8 of a uniform distribution)
 *     dx_j = dy k/(n d) (h_j^(k-1) - mean(h^(k-1)) - h_j y n/(n - 1))
 *
 * For dm/dx_j = 1/n and dd/dx_j = h_j/(n - 1), so dh_i/dx_j = ((1 if i = j) - 1/n)/d - h_i h_j/((n - 1) d); times k/n h_i^(k-1), summed over i.
 * Numbers that are all the same have no shape: y = 0, no gradient. Chunks leave their sums in double, and these are added in order. */
#include "ops/inner.h"
#include "ops/vmath.h"

typedef struct moment {
    R       mean, root; /* root: 1/d, or 0 */
    double  value, before; /* before: mean(h^(k-1)) */
    double *part;          /* of each chunk */
} moment;
enum { HIGHEST = 4 };

static qt_err shape(qt_node *nd)
{
    const int64_t n = nd->in[0]->n;
    const int     k = *(int *)nd->arg;
    moment       *m;
    if (k < 2 || k > HIGHEST) return qt_node_fail(nd, "there is no moment %d here, only 2 to %d", k, HIGHEST);
    if (n < 2) return qt_node_fail(nd, "one number has no deviation");
    QT_TRY(qt_node_save(nd, sizeof *m));
    m = nd->saved;
    if (!(m->part = qt_tape_alloc(nd->tape, (size_t)QT_CHUNKS(n, QT_GRAIN) * sizeof(double)))) return QT_EMEM;
    return qt_node_out(nd, 1, (int64_t[]){1});
}

QT_INLINE R power(R h, int k)
{
    R p = k ? h : 1;
    for (int i = 1; i < k; i++) p *= h;
    return p;
}

/* sum of ((x - mean) root)^k */
QT_CLONES static double powers(const R *x, int64_t n, R mean, R root, int k)
{
    double sum = 0;
    switch (k) {
    case 1: QT_SUM(sum, j, n, power((x[j] - mean) * root, 1)); break;
    case 2: QT_SUM(sum, j, n, power((x[j] - mean) * root, 2)); break;
    case 3: QT_SUM(sum, j, n, power((x[j] - mean) * root, 3)); break;
    default: QT_SUM(sum, j, n, power((x[j] - mean) * root, HIGHEST)); break;
    }
    return sum;
}

static double total(const qt_tensor *x, double *part, R mean, R root, int k)
{
    double sum = 0;
    QT_FOR_CHUNKS(b, e, x->n, QT_GRAIN) part[QT_CHUNK_OF(b)] = powers(x->data + b, e - b, mean, root, k);
    for (int64_t c = 0; c < QT_CHUNKS(x->n, QT_GRAIN); c++) sum += part[c];
    return sum;
}

static void forward(qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const int        k = *(int *)nd->arg;
    const double     n = (double)x->n;
    moment          *m = nd->saved;
    m->mean = (R)(total(x, m->part, 0, 1, 1) / n);
    double sq = total(x, m->part, m->mean, 1, 2);
    m->root = sq == 0 ? 0 : (R)(1 / sqrt(sq / (n - 1)));
    m->value = total(x, m->part, m->mean, m->root, k) / n;
    m->before = total(x, m->part, m->mean, m->root, k - 1) / n;
    nd->out->data[0] = (R)m->value;
}

QT_CLONES static void gradients(R *restrict dx, const R *restrict x, int64_t n, const moment *m, int k, R c, R slope)
{
    const R mean = m->mean, root = m->root, before = (R)m->before;
    for (int64_t j = 0; j < n; j++) {
        const R h = (x[j] - mean) * root;
        dx[j] += c * (power(h, k - 1) - before - h * slope);
    }
}

static uint32_t reads(const qt_node *nd) { return (void)nd, QT_READS(1); }

static void backward(const qt_node *nd)
{
    const qt_tensor *x = nd->in[0];
    const moment    *m = nd->saved;
    const int        k = *(int *)nd->arg;
    const double     n = (double)x->n;
    const R          c = (R)((double)nd->out->grad[0] * k / n * (double)m->root), slope = (R)(m->value * n / (n - 1));
    if (!x->grad) return;
    QT_FOR_CHUNKS(b, e, x->n, QT_GRAIN) gradients(x->grad + b, x->data + b, e - b, m, k, c, slope);
}

qt_tensor *qt_moment(qt_tape *t, qt_tensor *x, int k) { return QT_EMIT(t, &qt_op_moment, &k, sizeof k, x); }

static qt_tensor *build_variance(qt_tape *t, qt_tensor **in) { return qt_moment(t, in[0], 2); }
static qt_tensor *build_skewness(qt_tape *t, qt_tensor **in) { return qt_moment(t, in[0], 3); }
static qt_tensor *build_kurtosis(qt_tape *t, qt_tensor **in) { return qt_moment(t, in[0], 4); }
static const qt_case cases[] = {{"skewness", build_skewness, {{{3, 4, 2}, 'n'}}},
                                {"kurtosis", build_kurtosis, {{{5, 7}, 'n'}}},
                                {"second, a constant", build_variance, {{{9}, 'n'}}},
                                {"two numbers", build_kurtosis, {{{2}, 'd'}}},
                                {NULL}};
const qt_op qt_op_moment = {.d = {"moment", "standardized moment of all numbers: 3 is skewness, 4 kurtosis"}, .kind = QT_EXACT,
                            .shape = shape, .forward = forward, .backward = backward, .reads = reads, .cases = cases};
