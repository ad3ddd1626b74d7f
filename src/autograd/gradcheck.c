/* Gradient check: for L = sum(r * y) with fixed random r, every element of every input is moved by +-h and the difference quotient
 * (L(x+h) - L(x-h)) / 2h is compared with the gradient that backward gives for dy = r. Error O(h^2) of the quotient plus rounding
 * O(eps/h): h = 1e-5 in double leaves about 1e-10, h = 1e-2 in float about 1e-3. */
#include "autograd/gradcheck.h"
#include <math.h>
#include <string.h>

#ifdef QT_DOUBLE
static const double STEP = 1e-5, BOUND = 1e-7;
#else
static const double STEP = 1e-2, BOUND = 2e-2;
#endif

double qt_gradcheck_bound(void) { return BOUND; }

int qt_case_inputs(const qt_case *c)
{
    int n = 0;
    while (n < QT_MAX_IN && c->in[n].dim[0]) n++;
    return n;
}

static void shuffle(R *x, int64_t n, qt_rng *r)
{
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)qt_rng_below(r, (uint64_t)i + 1);
        R       swap = x[i];
        x[i] = x[j], x[j] = swap;
    }
}

static void normalize_rows(R *x, int64_t n, int64_t cols)
{
    for (int64_t i = 0; i < n; i += cols) {
        R sum = 0;
        for (int64_t j = 0; j < cols; j++) sum += x[i + j];
        for (int64_t j = 0; j < cols; j++) x[i + j] /= sum;
    }
}

static R draw(char domain, int64_t i, qt_rng *r)
{
    double u = qt_rng_uniform(r), z;
    switch (domain) {
    case 'u': return (R)(2 * u - 1);
    case 'p': case 'c': case 'q': return (R)(0.5 + 1.5 * u);
    case 'd': return (R)(0.1 * (double)i + 0.04 * u);
    case 'k': return z = qt_rng_normal(r), (R)(z + (z < 0 ? -0.1 : 0.1));
    default: return (R)qt_rng_normal(r);
    }
}

qt_tensor *qt_case_input(qt_tape *t, const qt_case *c, int k, uint64_t seed)
{
    const qt_case_in *in = &c->in[k];
    qt_rng            r = qt_rng_named(seed, "case/%s/%d", c->name, k);
    int               rank = 0;
    qt_tensor        *x;
    while (rank < QT_MAX_DIM && in->dim[rank]) rank++;
    if (in->domain == 'i') {
        x = qt_input_ids(t, rank, in->dim);
        for (int64_t i = 0; i < x->n; i++) x->ids[i] = (int32_t)qt_rng_below(&r, (uint64_t)in->below);
        return x;
    }
    x = in->domain == 'c' ? qt_input(t, rank, in->dim) : qt_variable(t, rank, in->dim);
    for (int64_t i = 0; i < x->n; i++) x->data[i] = draw(in->domain, i, &r);
    if (in->domain == 'd') {
        shuffle(x->data, x->n, &r);
        for (int64_t i = 0; i < x->n; i++) x->data[i] -= (R)(0.05 * (double)x->n);
    }
    if (in->domain == 'q') normalize_rows(x->data, x->n, x->dim[x->rank - 1]);
    return x;
}

/* Runs the case with element `at` of input k moved by h; returns the result. k < 0 moves nothing. */
static qt_tensor *run(qt_tape *t, const qt_case *c, uint64_t seed, qt_tensor **in, int k, int64_t at, double h)
{
    qt_tape_reset(t);
    qt_tape_mode(t, !c->eval, true);
    for (int i = 0; i < qt_case_inputs(c); i++) in[i] = qt_case_input(t, c, i, seed);
    if (k >= 0) in[k]->data[at] += (R)h;
    return c->build(t, in);
}

static double weighted(const qt_tensor *y, const R *r)
{
    double sum = 0;
    for (int64_t i = 0; i < y->n; i++) sum += (double)r[i] * y->data[i];
    return sum;
}

static qt_err check(qt_tape *t, qt_arena *a, const qt_case *c, uint64_t seed, qt_gradcheck_result *res)
{
    qt_tensor *in[QT_MAX_IN], *y = run(t, c, seed, in, -1, 0, 0);
    qt_rng     stream = qt_rng_named(seed, "case/%s/dy", c->name);
    int        n_in = qt_case_inputs(c);
    R         *r, *grad[QT_MAX_IN] = {NULL};
    int64_t    n[QT_MAX_IN] = {0};

    QT_TRY(qt_tape_error(t));
    if (!(r = qt_arena_alloc(a, (size_t)y->n * sizeof *r))) return QT_EMEM;
    for (int64_t i = 0; i < y->n; i++) r[i] = (R)qt_rng_normal(&stream);
    QT_TRY(qt_backward_from(t, y, r));
    for (int k = 0; k < n_in; k++) {
        if (!in[k]->grad) continue;
        n[k] = in[k]->n;
        if (!(grad[k] = qt_arena_alloc(a, (size_t)n[k] * sizeof(R)))) return QT_EMEM;
        memcpy(grad[k], in[k]->grad, (size_t)n[k] * sizeof(R));
    }
    for (int k = 0; k < n_in; k++)
        for (int64_t i = 0; i < n[k]; i++) {
            double up = weighted(run(t, c, seed, in, k, i, STEP), r), down = weighted(run(t, c, seed, in, k, i, -STEP), r);
            double numeric = (up - down) / (2 * STEP), analytic = (double)grad[k][i];
            double error = fabs(analytic - numeric) / fmax(1, fmax(fabs(analytic), fabs(numeric)));
            if (!(error <= res->worst)) *res = (qt_gradcheck_result){isnan(error) ? INFINITY : error, k, i, analytic, numeric};
        }
    return qt_tape_error(t);
}

qt_err qt_gradcheck(const qt_op *op, const qt_case *c, uint64_t seed, qt_gradcheck_result *res)
{
    qt_arena a = {0};
    qt_tape *t = qt_tape_new();
    qt_err   e = t ? QT_OK : QT_EMEM;
    *res = (qt_gradcheck_result){0};
    if (!e) e = check(t, &a, c, seed, res);
    if (e) qt_fail(e, "gradcheck of %s, case %s, could not run", op->d.name, c->name);
    qt_tape_free(t);
    qt_arena_free(&a);
    return e;
}
