/* What the tests of quantizers share: the configurations that stand for all, and a site with a store and a tape of its own. */
#ifndef QT_TESTS_QUANTS_UTIL_H
#define QT_TESTS_QUANTS_UTIL_H
#include "autograd/gradcheck.h"
#include "qat/grid.h"
#include "qat/observer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define W QT_ROLE_WEIGHT
#define A QT_ROLE_ACT
static const struct {
    qt_role     role;
    const char *spec;
    int         levels; /* at most; 0: not quantized */
    bool        wide;   /* a row has 256 numbers, not 32 */
} configs[] = {
#include "quants.def"
};
enum { CONFIGS = sizeof configs / sizeof *configs };
#define FOR_CONFIGS(i) for (int i = 0; i < CONFIGS; i++)

/* ---- a site with a store and a tape of its own ----------------------------------------------------------------------------------------- */

typedef struct rig {
    qt_store *store;
    qt_site  *site;
    qt_tape  *tape;
    qt_tensor *x, *y;
} rig;

static inline rig rig_new(qt_role role, const char *spec, int rank, const int64_t *dim)
{
    rig       r = {qt_store_new(1), .tape = qt_tape_new()};
    qt_tensor like = {.rank = (int8_t)rank, .n = 1};
    for (int i = 0; i < rank; i++) like.n *= like.dim[i] = dim[i];
    r.site = qt_site_new(r.store, "q", role, spec, &like);
    if (!r.site) fail_msg("%s: %s", spec, qt_error_text());
    assert_int_equal(qt_store_seal(r.store, 0), QT_OK);
    return r;
}

static inline void rig_free(rig *r)
{
    qt_tape_free(r->tape);
    qt_store_free(r->store);
}

/* Quantizes x, and runs backward with dy (NULL: not). */
static inline void rig_run(rig *r, int rank, const int64_t *dim, const R *x, const R *dy)
{
    qt_tape_reset(r->tape);
    r->x = qt_variable(r->tape, rank, dim);
    memcpy(r->x->data, x, (size_t)r->x->n * sizeof *x);
    r->y = qt_quantize(r->tape, r->site, r->x);
    if (qt_tape_error(r->tape)) fail_msg("%s: %s", r->site->quant->d.name, qt_error_text());
    if (dy) assert_int_equal(qt_backward_from(r->tape, r->y, dy), QT_OK);
}

static inline qt_tensor *param(rig *r, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "q.%s", name);
    return qt_param_find(r->store, full);
}

static inline R *normal(int64_t n, uint64_t seed)
{
    R     *x = qt_alloc((size_t)n * sizeof *x);
    qt_rng r = qt_rng_at(seed, 7);
    for (int64_t i = 0; i < n; i++) x[i] = (R)(qt_rng_normal(&r) / 2);
    return x;
}

static const int64_t DIM[2] = {24, 32};
enum { N = 24 * 32 };
static inline const int64_t *dim_of(int config)
{
    static const int64_t wide[2] = {3, 256};
    return configs[config].wide ? wide : DIM;
}

/* Some awkward values in front of random ones. */
static inline R *sample(uint64_t seed)
{
    R *x = normal(N, seed);
    memcpy(x, (R[]){0, -(R)0, (R)1e-40, (R)-1e-40, 3, -3, (R)0.5, (R)-0.5}, 8 * sizeof *x);
    return x;
}

static inline bool is(const qt_site *q, const char *name) { return !strcmp(q->quant->d.name, name); }
#endif
