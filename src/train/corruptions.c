/* Phase `corruptions`: accuracy on the test images after what happens to images: how robust is a trained model? With s the severity and `range` the
 * largest less the smallest number of an image,
 *
 *     noise       x + 0.08 s range n,  n normal                impulse     a share of 0.03 s of the pixels becomes the smallest or largest number
 *     blur        s times by [1 2 1]/4 along rows and columns  contrast    mean + (x - mean)/(1 + s/2)
 *     brightness  x + 0.1 s range
 *
 * Each as measure.corruptions.NAME, with `clean`, the mean over them as `mean`, and `drop` = clean - mean: the gap that robustness is scored by.
 * The kinds are a choice among those of Hendrycks and Dietterich 2019 (arXiv 1903.12261). Random numbers depend on the recipe's seed, the kind
 * and the image's place only. */
#include "train/train.h"
#include <math.h>
#include <string.h>

enum { NOISE, IMPULSE, BLUR, CONTRAST, BRIGHTNESS, KINDS };
static const char *const kind_name[] = {"noise", "impulse", "blur", "contrast", "brightness", "clean", "mean", "drop"};

typedef struct config {
    int64_t severity, samples;
} config;

static const qt_field fields[] = {
    QT_F_INT(config, severity, "3", 1, 5, "how strong, as above"),
    QT_F_INT(config, samples, "0", 0, INT32_MAX, "how many images of the test split, the first ones; 0: all"),
    {NULL},
};

/* ---- one image ---- */

typedef struct image {
    R            *x, *line;     /* line: room for a row or a column */
    const int64_t *dim;         /* C, H, W */
    int64_t       n, severity;
    R             low, high;
    double        mean;
    qt_rng        draw;
} image;

static void measure_image(image *m)
{
    double sum = 0;
    m->low = m->high = m->x[0];
    for (int64_t i = 0; i < m->n; i++) {
        m->low = m->x[i] < m->low ? m->x[i] : m->low, m->high = m->x[i] > m->high ? m->x[i] : m->high;
        sum += (double)m->x[i];
    }
    m->mean = sum / (double)m->n;
}

/* n numbers `step` apart, by [1 2 1]/4; those at the ends have themselves as neighbours. */
static void blur_line(R *x, int64_t n, int64_t step, R *line)
{
    for (int64_t i = 0; i < n; i++) line[i] = x[i * step];
    for (int64_t i = 0; i < n; i++) x[i * step] = (line[i ? i - 1 : 0] + 2 * line[i] + line[i + 1 < n ? i + 1 : i]) / 4;
}

static void blur(const image *m)
{
    const int64_t C = m->dim[0], H = m->dim[1], W = m->dim[2];
    for (int64_t s = 0; s < m->severity * C; s++) {
        R *plane = m->x + s % C * H * W;
        for (int64_t h = 0; h < H; h++) blur_line(plane + h * W, W, 1, m->line);
        for (int64_t v = 0; v < W; v++) blur_line(plane + v, H, W, m->line);
    }
}

static void corrupt(image *m, int kind)
{
    const double s = (double)m->severity, range = (double)(m->high - m->low);
    if (kind == BLUR) blur(m);
    for (int64_t i = 0; i < m->n; i++) {
        const double x = (double)m->x[i];
        switch (kind) {
        case NOISE: m->x[i] = (R)(x + 0.08 * s * range * qt_rng_normal(&m->draw)); break;
        case IMPULSE:
            if (qt_rng_uniform(&m->draw) < 0.03 * s) m->x[i] = qt_rng_uniform(&m->draw) < 0.5 ? m->low : m->high;
            break;
        case CONTRAST: m->x[i] = (R)(m->mean + (x - m->mean) / (1 + s / 2)); break;
        case BRIGHTNESS: m->x[i] = (R)(x + 0.1 * s * range); break;
        default: break;
        }
    }
}

/* ---- the split ---- */

static qt_err add_batch(qt_run *r, const qt_batch *b, double *right)
{
    qt_tensor *out;
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, false, false);
    qt_run_forward(r, b, &out);
    QT_TRY(qt_tape_error(r->tape));
    *right += qt_run_metric(&qt_metric_accuracy, out, b);
    return QT_OK;
}

/* Accuracy over n images after corruption of a kind (KINDS: none), batch by batch in x. */
static qt_err accuracy(qt_run *r, qt_loader *l, const config *c, int kind, int64_t n, R *x, R *line, double *value)
{
    const qt_data_info *info = qt_data_info_of(r->data);
    const qt_batch     *b;
    double              right = 0;
    for (int64_t done = 0; done < n; done += b->n) {
        QT_TRY(qt_loader_next(l, &b));
        qt_batch own = *b;
        image    m = {.line = line, .dim = info->dim, .n = info->dim[0] * info->dim[1] * info->dim[2], .severity = c->severity};
        own.x = x, own.n = own.n < n - done ? own.n : n - done;
        memcpy(x, b->x, (size_t)(own.n * m.n) * sizeof *x);
        for (int64_t i = 0; i < own.n && kind < KINDS; i++) {
            m.x = x + i * m.n, m.draw = qt_rng_at((uint64_t)r->recipe->seed, qt_hash(kind_name[kind]) + (uint64_t)(done + i));
            measure_image(&m), corrupt(&m, kind);
        }
        QT_TRY(add_batch(r, &own, &right));
    }
    *value = right / (double)n;
    return QT_OK;
}

static qt_err measure(qt_run *r, const config *c, qt_arena *a, double *v)
{
    const qt_data_info *info = qt_data_info_of(r->data);
    int64_t             all = qt_data_size(r->data, QT_TEST), n = c->samples && c->samples < all ? c->samples : all;
    int64_t             batch = r->recipe->train.eval_batch_size;
    R *x = qt_arena_alloc(a, (size_t)(batch * info->dim[0] * info->dim[1] * info->dim[2]) * sizeof *x);
    R *line = qt_arena_alloc(a, (size_t)(info->dim[1] + info->dim[2]) * sizeof *line);
    QT_CHECK(n > 0, QT_EUSAGE, "corruptions: the data have no split 'test'");
    if (!x || !line) return QT_EMEM;
    for (int kind = 0; kind <= KINDS; kind++) {
        qt_loader *l;
        QT_TRY(qt_loader_eval(r->data, QT_TEST, batch, &l));
        qt_err e = accuracy(r, l, c, kind, n, x, line, &v[kind]);
        qt_loader_free(l);
        QT_TRY(e);
        if (kind < KINDS) v[KINDS + 1] += v[kind] / KINDS;
    }
    v[KINDS + 2] = v[KINDS] - v[KINDS + 1];
    return QT_OK;
}

static qt_err run(qt_run *r, const void *cfg)
{
    qt_arena a = {0};
    double   v[KINDS + 3] = {0};
    qt_run_swap_average(r);
    qt_err e = measure(r, cfg, &a, v);
    qt_run_swap_average(r);
    qt_tape_reset(r->tape), qt_arena_free(&a);
    if (e != QT_OK) return e;
    qt_metrics_measure(r, "corruptions", KINDS + 3, kind_name, v);
    qt_run_log(r, "%s  corrupted images: accuracy %.2f %% of %.2f %%", r->arm, 100 * v[KINDS + 1], 100 * v[KINDS]);
    return QT_OK;
}

static qt_err suits(const void *cfg, const qt_data_info *data, qt_pos pos)
{
    (void)cfg;
    if (data->rank == 3 && !data->ids && data->classes) return QT_OK;
    return qt_fail_at(QT_ERECIPE, pos, "corruptions: the data are no images [C, H, W] with classes");
}

const qt_phase qt_phase_corruptions = {
    {"corruptions", "accuracy on noisy, blurred, pale and bright test images", "Hendrycks and Dietterich 2019, arXiv 1903.12261", fields,
     sizeof(config)},
    run,
    .suits = suits,
    .gives = "corruptions.noise|corruptions.impulse|corruptions.blur|corruptions.contrast|corruptions.brightness|corruptions.clean|"
             "corruptions.mean|corruptions.drop"};
