/* Phase `fixed_point_check`: are the integer interpreter's answers those of the training graph's evaluation, number for number? Where a float could
 * not hold a sum the question has no answer, and the phase fails. What it measures: logits that were compared, how many differ, bits of the
 * widest sum, binary points and how many have moved in training. */
#include "export/fixed_point.h"

typedef struct cfg {
    int64_t samples;
} cfg;

static const qt_field fields[] = {QT_F_INT(cfg, samples, "1000", 1, 1e9, "images of the test split to compare; all if there are fewer"), {NULL}};

typedef struct counts {
    int64_t samples, logits, differ;
} counts;

static qt_err compare(qt_run *r, const qt_fixed *p, const qt_batch *b, int64_t n, counts *c)
{
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, false, false);
    qt_tensor *x = qt_run_input(r, b), *y = qt_model_forward(r->tape, r->model, x);
    QT_TRY(qt_tape_error(r->tape));
    const int64_t outputs = y->n / b->n;
    R            *z = qt_alloc((size_t)(n * outputs) * sizeof *z);
    qt_err        e = z ? qt_fixed_run(p, n, x->data, z) : QT_EMEM;
    for (int64_t i = 0; e == QT_OK && i < n * outputs; i++) c->differ += !(z[i] == y->data[i]);
    c->samples += n, c->logits += n * outputs;
    qt_free(z);
    return e;
}

static qt_err compare_all(qt_run *r, const qt_fixed *p, int64_t samples, counts *c)
{
    const qt_split  split = qt_data_size(r->data, QT_TEST) ? QT_TEST : qt_run_eval_split(r);
    qt_loader      *l;
    const qt_batch *b;
    QT_TRY(qt_loader_eval(r->data, split, r->recipe->train.eval_batch_size, &l));
    qt_err e = qt_loader_next(l, &b);
    for (; e == QT_OK && b && c->samples < samples; e = e == QT_OK ? qt_loader_next(l, &b) : e)
        e = compare(r, p, b, b->n < samples - c->samples ? b->n : samples - c->samples, c);
    qt_loader_free(l);
    return e;
}

static void report(qt_run *r, const qt_fixed *p, const counts *c)
{
    static const char *const name[] = {"samples", "logits", "differ", "widest_sum", "points", "moved"};
    const char              *where = "";
    int64_t                  points, moved;
    const int                bits = qt_fixed_widest(p, &where);
    qt_fixed_points(r->model, &points, &moved);
    const double v[] = {(double)c->samples, (double)c->logits, (double)c->differ, bits, (double)points, (double)moved};
    qt_metrics_measure(r, "fixed", 6, name, v);
    qt_run_log(r, "%s  fixed point: %lld of %lld logits differ, widest sum %d bits (%s), %lld of %lld binary points have moved", r->arm,
               (long long)c->differ, (long long)c->logits, bits, where, (long long)moved, (long long)points);
}

static qt_err run(qt_run *r, const void *config)
{
    qt_fixed *p = NULL;
    counts    c = {0};
    qt_run_swap_average(r);
    qt_err e = qt_fixed_make(r->tape, r->model, &p);
    if (e == QT_OK) e = qt_fixed_exact(p);
    if (e == QT_OK) e = compare_all(r, p, ((const cfg *)config)->samples, &c);
    if (e == QT_OK) report(r, p, &c);
    qt_run_swap_average(r);
    qt_tape_reset(r->tape);
    qt_fixed_free(p);
    return e;
}

const qt_phase qt_phase_fixed_point_check = {
    {"fixed_point_check", "compare the integer fixed-point interpreter with the training graph's evaluation", NULL, fields, sizeof(cfg)},
    run, .gives = "fixed.samples|fixed.logits|fixed.differ|fixed.widest_sum|fixed.points|fixed.moved"};
