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
    {W, "none", 0},
    {W, "{use: uniform, num_bits: 8}", 256},
    {W, "{use: uniform, num_bits: 2}", 4},
    {W, "{use: uniform, num_bits: 4, narrow: true, granularity: channel}", 15},
    {W, "{use: uniform, num_bits: 4, granularity: group, group_size: 8, symmetric: false}", 16},
    {W, "{use: uniform, num_bits: 3, observer: mse, granularity: channel}", 8},
    {W, "{use: uniform, num_bits: 3, observer: mse, dynamic: false, freeze_at: 0}", 8},
    {W, "{use: uniform, num_bits: 1, symmetric: false, ste: identity}", 2},
    {A, "{use: uniform, num_bits: 8, symmetric: false, observer: ema}", 256},
    {A, "{use: uniform, num_bits: 4, symmetric: false, observer: percentile}", 16},
    {A, "{use: uniform, num_bits: 4, symmetric: false, observer: mse, mse_power: 2.4}", 16},
    {A, "{use: uniform, num_bits: 4, observer: entropy}", 16},
    {A, "{use: uniform, num_bits: 4, granularity: channel}", 16},
    {A, "{use: uniform, num_bits: 8, granularity: token}", 256},
    {A, "{use: int}", 256},
    {A, "{use: int, range: 128}", 256},
    {W, "{use: int, num_bits: 4, granularity: tensor}", 16},
    {W, "{use: lsq, num_bits: 2}", 4},
    {W, "{use: lsq, num_bits: 4, granularity: channel}", 16},
    {A, "{use: lsq, num_bits: 4, signed: false}", 16},
    {A, "{use: lsq, num_bits: 8, init: mse, learn_scale: false}", 256},
    {A, "{use: lsq, num_bits: [4, 2], signed: false}", 16},
    {W, "{use: lsq, num_bits: 3, granularity: channel, log_scale: true}", 8},
    {W, "double_rounding", 256},
    {W, "{use: double_rounding, bits: [4, 2], granularity: channel}", 16},
    {W, "{use: double_rounding, bits: [4, 2], mode: floor}", 16},
    {W, "{use: lsq_plus, num_bits: 3}", 8},
    {A, "{use: lsq_plus, num_bits: 2, signed: false}", 4},
    {A, "{use: lsq_plus, num_bits: [3, 2], signed: false}", 8},
    {A, "{use: lsq_plus, num_bits: 4, granularity: channel, init: minmax}", 16},
    {W, "{use: elastic, num_bits: [3, 2]}", 8},
    {W, "{use: elastic, num_bits: 4, granularity: channel}", 16},
    {W, "{use: elastic, num_bits: 2, symmetry: asymmetric, granularity: channel}", 4},
    {A, "elastic", 256},
    {A, "{use: elastic, num_bits: [4, 2], symmetry: asymmetric}", 16},
    {A, "{use: pact, num_bits: 4, alpha: 1}", 16},
    {W, "{use: fixed, num_bits: 8}", 256},
    {W, "{use: fixed, num_bits: 4, granularity: channel, init: max}", 16},
    {W, "{use: fixed, num_bits: 5, k_hot: 2, rounding: rnd_conv}", 32},
    {A, "{use: fixed, num_bits: 4, signed: false, rounding: trn}", 16},
    {A, "{use: fixed, num_bits: 8, overflow: wrap, init: max, rounding: rnd_zero}", 256},
    {W, "{use: dorefa, num_bits: 3}", 8},
    {W, "{use: dorefa, num_bits: 1}", 2},
    {A, "{use: dorefa, num_bits: 2}", 4},
    {W, "{use: ternary}", 3},
    {W, "{use: ternary, measure: absmedian, scale_grid: fp16}", 3},
    {W, "{use: ternary, measure: absmax}", 3},
    {W, "{use: binary}", 2},
    {W, "{use: binary, granularity: channel, ste: identity}", 2},
    {W, "{use: aqt, num_bits: 4}", 15},
    {W, "{use: aqt, num_bits: 2, granularity: tensor}", 3},
    {A, "{use: aqt, num_bits: 4, signed: false, granularity: tensor, bound: max}", 16},
    {A, "{use: aqt, num_bits: 3, granularity: channel, bound: dev, coef: 2, update_every: 2, skip_zeros: false}", 7},
    {A, "{use: aqt, num_bits: 8, granularity: tensor, bound: fixed, value: 2}", 255},
    {W, "{use: kmeans, num_bits: 3}", 8},
    {W, "{use: kmeans, num_bits: 4, granularity: channel, update_every: 0}", 16},
    {W, "{use: dorefa, num_bits: 1, signs: true}", 2},
    {A, "{use: dorefa, num_bits: 1, signs: true}", 2},
    {W, "bnn", 2},
    {A, "bnn", 2},
    {W, "xnor", 2},
    {A, "xnor", 2},
    {W, "bi_real", 2},
    {A, "bi_real", 2},
    {W, "reactnet", 2},
    {A, "reactnet", 2},
    {W, "recu", 2},
    {A, "recu", 2},
    {W, "fda", 2},
    {A, "fda", 2},
    {W, "nf4", 16},
    {W, "{use: nf4, table: int4, block: 7, double_quant: false}", 15},
    {W, "{use: nf4, table: uniform2, block: 256}", 4},
    {W, "{use: int_group, num_bits: 4, group_size: 8}", 16},
    {W, "{use: int_group, num_bits: 2, group_size: 4}", 4},
    {A, "q8_k", 255, true},
    {A, "q8_0", 255},
    {A, "{use: q8_0, rounding: reference}", 255},
    {W, "{use: ggml, type: Q8_0}", 255},
    {W, "{use: ggml, type: Q4_0}", 16},
    {W, "{use: ggml, type: Q4_0, ends: symmetric}", 15},
    {W, "{use: ggml, type: Q2_0}", 4, true},
    {W, "{use: ggml, type: Q1_0}", 2, true},
    {W, "{use: ggml, type: TQ2_0}", 3, true},
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
