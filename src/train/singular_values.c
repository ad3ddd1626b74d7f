/* Phase `singular_values`: the smallest and the largest singular value of convolutions and linear layers, of the weights that the layers compute
 * with (quantized, averaged), as measure.sigma.LAYER_min and measure.sigma.LAYER_max. A layer whose singular values are all 1 keeps lengths.
 *
 * A convolution with circular padding commutes with shifts of the image by its stride S, so Fourier transform makes its matrix of M H W / S^2
 * rows block diagonal. Pixel S q + r of channel c counts as pixel q of channel (c, r); at frequency w = 2 pi (i S / H, j S / W) the block is the
 * M x C S^2 matrix
 *
 *     A(w)[m, (c, r)] = sum over all a of K[m, c, S a + r] exp(i w a),
 *
 * a phase for each channel aside (the padding's), which changes no singular value. The layer's singular values are those of all blocks; w and -w
 * have the same. A block of unequal sides has as many as its shorter side.
 * Sedghi, Gupta, Long, "The singular values of convolutional layers", ICLR 2019, for S = 1; Achour et al. 2022 for strides.
 * A layer with zero padding is measured as its circular twin. Left out: groups, dilation, strides that do not divide the image. */
#include "base/match.h"
#include "base/par.h"
#include "kernels/svd.h"
#include "train/train.h"
#include <math.h>
#include <string.h>

enum { TOGETHER = 64 }; /* frequencies that are worked on at a time */

typedef struct config {
    const qt_yaml *match;
} config;

static const qt_field fields[] = {QT_F_TREE(config, match, "~", "pattern or list of patterns of layers (default: all that can be measured)"), {NULL}};

static bool suits(const qt_module *m)
{
    qt_walk         w;
    const qt_shape *x = &m->in_shape[0];
    if (m->layer == &qt_layer_linear) return !m->frozen;
    return qt_conv2d_walk(m, &w) && w.groups == 1 && w.dilation == 1 && x->dim[1] % w.stride == 0 && x->dim[2] % w.stride == 0;
}

static bool chosen(const config *c, const qt_module *m) { return suits(m) && (!c->match || qt_match_any(c->match, m->path)); }

static qt_err check_model(qt_arena *a, const void *cfg, const qt_model *m)
{
    const config *c = cfg;
    (void)a;
    if (c->match) QT_TRY(qt_match_check(c->match, "singular_values.match"));
    for (int i = 0; i < m->n; i++)
        if (chosen(c, &m->m[i])) return QT_OK;
    return qt_fail_at(QT_ERECIPE, c->match ? c->match->pos : (qt_pos){0},
                      "singular_values: no such layer; linear layers can be measured, and conv2d without groups and dilation whose stride "
                      "divides its image");
}

/* ---- one layer ------------------------------------------------------------------------------------------------------------- */

/* A layer's matrix in blocks: n vectors (the shorter side) of m numbers for each of H x W frequencies. */
typedef struct blocks {
    const qt_tensor *w;
    int64_t          M, C, kh, kw, S, H, W, n, m;
} blocks;

static blocks blocks_of(const qt_module *l, const qt_tensor *w)
{
    qt_walk walk = {.stride = 1};
    bool    conv = qt_conv2d_walk(l, &walk);
    int64_t S = walk.stride;
    blocks  b = {w, w->dim[0], w->dim[1], conv ? w->dim[2] : 1, conv ? w->dim[3] : 1, S, 1, 1};
    if (conv) b.H = l->in_shape[0].dim[1] / S, b.W = l->in_shape[0].dim[2] / S;
    b.n = qt_min_i64(b.M, b.C * S * S), b.m = qt_max_i64(b.M, b.C * S * S);
    return b;
}

/* A(w), transposed where it has fewer columns than rows, so that its shorter side counts the vectors. */
static void fill(const blocks *b, int64_t f, double *v)
{
    double wh = 2 * M_PI * (double)(f / b->W) / (double)b->H, ww = 2 * M_PI * (double)(f % b->W) / (double)b->W;
    bool   rows = b->n == b->M;
    for (int64_t i = 0; i < 2 * b->n * b->m; i++) v[i] = 0;
    for (int64_t i = 0; i < b->w->n; i++) {
        int64_t u = i / b->kw % b->kh, t = i % b->kw, m = i / (b->C * b->kh * b->kw), c = i / (b->kh * b->kw) % b->C;
        int64_t column = (c * b->S + u % b->S) * b->S + t % b->S, at = 2 * (rows ? m * b->m + column : column * b->m + m);
        double  angle = wh * (double)(u / b->S) + ww * (double)(t / b->S), k = (double)b->w->data[i];
        v[at] += k * cos(angle), v[at + 1] += k * sin(angle);
    }
}

/* Is f the first of f and -f? */
static bool first_of_two(const blocks *b, int64_t f)
{
    int64_t h = (b->H - f / b->W) % b->H, w = (b->W - f % b->W) % b->W;
    return f <= h * b->W + w;
}

static qt_err layer_range(const blocks *b, qt_arena *a, double *least, double *most)
{
    int64_t n = b->H * b->W, size = 2 * b->n * b->m, room = qt_min_i64(n, TOGETHER), extra = (int64_t)qt_svd_work(b->n, b->m);
    double *v = qt_arena_alloc(a, (size_t)(room * (size + extra)) * sizeof *v), *work, lo[TOGETHER], hi[TOGETHER];
    *least = INFINITY, *most = 0;
    if (!v) return QT_EMEM;
    work = v + room * size;
    for (int64_t from = 0; from < n; from += TOGETHER) {
        int64_t count = qt_min_i64(TOGETHER, n - from);
        QT_FOR_EACH (k, count, count * b->n * size > QT_GRAIN) {
            lo[k] = INFINITY, hi[k] = 0;
            if (!first_of_two(b, from + k)) continue;
            fill(b, from + k, v + k * size);
            qt_svd_range(b->n, b->m, v + k * size, work + k * extra, &lo[k], &hi[k]);
        }
        for (int64_t k = 0; k < count; k++) *least = fmin(*least, lo[k]), *most = fmax(*most, hi[k]);
    }
    return QT_OK;
}

/* ---- the phase ------------------------------------------------------------------------------------------------------------- */

static qt_err measure_layer(qt_run *r, qt_module *l, qt_arena *a, double range[2])
{
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, false, false);
    qt_tensor *w = qt_module_weight(r->tape, l);
    QT_TRY(qt_tape_error(r->tape));
    blocks b = blocks_of(l, w);
    QT_TRY(layer_range(&b, a, &range[0], &range[1]));
    qt_run_log(r, "%s  %s: singular values from %.6g to %.6g", r->arm, l->path, range[0], range[1]);
    return QT_OK;
}

static qt_err measure(qt_run *r, const config *c, qt_arena *a)
{
    const char **name = qt_arena_alloc(a, (size_t)(2 * r->model->n) * sizeof *name);
    double      *v = qt_arena_alloc(a, (size_t)(2 * r->model->n) * sizeof *v);
    int          n = 0;
    if (!name || !v) return QT_EMEM;
    for (int i = 0; i < r->model->n; i++) {
        qt_module *l = &r->model->m[i];
        if (!chosen(c, l)) continue;
        QT_TRY(measure_layer(r, l, a, v + n));
        name[n++] = qt_arena_sprintf(a, "%s_min", l->path), name[n++] = qt_arena_sprintf(a, "%s_max", l->path);
        if (!name[n - 2] || !name[n - 1]) return QT_EMEM;
    }
    return qt_measure_layers(r, "sigma", n, name, v);
}

static bool measures(const void *cfg, const qt_model *m, const char *metric)
{
    for (int i = 0; i < m->n; i++) {
        size_t n = strlen(m->m[i].path);
        if (!chosen(cfg, &m->m[i]) || strncmp(metric, "sigma.", 6) || strncmp(metric + 6, m->m[i].path, n)) continue;
        if (!strcmp(metric + 6 + n, "_min") || !strcmp(metric + 6 + n, "_max")) return true;
    }
    return false;
}

static qt_err run(qt_run *r, const void *cfg)
{
    qt_arena a = {0};
    r->tape->thrifty = false;
    qt_run_swap_average(r);
    qt_err e = measure(r, cfg, &a);
    qt_run_swap_average(r);
    r->tape->thrifty = r->model->thrifty;
    qt_tape_reset(r->tape), qt_arena_free(&a);
    return e;
}

const qt_phase qt_phase_singular_values = {
    {"singular_values", "smallest and largest singular value of convolutions and linear layers", "Sedghi, Gupta, Long 2019", fields, sizeof(config)},
    run,
    .check_model = check_model,
    .measures = measures};
