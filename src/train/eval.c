/* Evaluation: a split in order, in chunks of eval_batch_size, without gradients. Loss and metrics are sums in double over the samples (of
 * text, the tokens that count) in order, so they do not depend on threads. Where the optimizer keeps averaged weights (ema), those are evaluated: they change places
 * with the weights for the time of the evaluation. The first chunk also gives the quant events: each site's input is encoded and
 * compared with what came out.
 *   sqnr_db   = 10 log10(sum x^2 / sum (x - y)^2)
 *   clip_frac = share of elements further than half a step from their value, that is, outside of the range
 *   flip_rate = share of a weight's codes that differ from those of the event before (0 in the first) */
#include "train/train.h"
#include <math.h>
#include <string.h>

const char *const qt_split_name[QT_SPLITS] = {"train", "val", "test"};

/* ---- one batch ------------------------------------------------------------------------------------------------------------- */

bool    qt_run_is_text(const qt_run *r) { return qt_data_info_of(r->data)->ids > 0; }
int64_t qt_run_items(const qt_run *r) { return qt_data_batch_size(r->data) * (qt_run_is_text(r) ? qt_data_info_of(r->data)->dim[0] : 1); }

/* Targets of a batch: one a sample, or one a token. */
static int64_t targets(const qt_batch *b, const qt_shape *in) { return in->ids ? b->n * in->dim[0] : b->n; }

qt_tensor *qt_run_input(qt_run *r, const qt_batch *b)
{
    const qt_shape *in = &r->model->in;
    int64_t         dim[QT_MAX_DIM] = {b->n};
    memcpy(dim + 1, in->dim, (size_t)in->rank * sizeof *dim);
    qt_tensor *x = in->ids ? qt_input_ids(r->tape, 1 + in->rank, dim) : qt_input(r->tape, 1 + in->rank, dim);
    if (x->ids) memcpy(x->ids, b->ids, (size_t)x->n * sizeof *b->ids);
    if (x->data) memcpy(x->data, b->x, (size_t)x->n * sizeof(R));
    return x;
}

qt_tensor *qt_run_forward(qt_run *r, const qt_batch *b, qt_tensor **out) { return qt_run_forward_from(r, b, qt_run_input(r, b), out); }

qt_tensor *qt_run_forward_from(qt_run *r, const qt_batch *b, qt_tensor *x, qt_tensor **out)
{
    int64_t    n = targets(b, &r->model->in);
    qt_tensor *target;
    *out = r->answer ? r->answer(r, x) : qt_model_forward(r->tape, r->model, x);
    if (r->loss->classes) {
        target = qt_input_ids(r->tape, 1, &n);
        if (target->ids) memcpy(target->ids, b->y, (size_t)n * sizeof *b->y);
    } else {
        target = qt_input(r->tape, (*out)->rank ? (*out)->rank : 1, (*out)->rank ? (*out)->dim : &n);
        if (target->data) memcpy(target->data, b->t, (size_t)target->n * sizeof(R));
    }
    return r->loss->apply(r->tape, r->loss_cfg, *out, target);
}

int64_t qt_run_counted(const qt_run *r, const qt_batch *b)
{
    int64_t n = targets(b, &r->model->in), counted = 0;
    if (!b->ids) return n;
    for (int64_t i = 0; i < n; i++) counted += b->y[i] != QT_IGNORE;
    return counted;
}

double qt_run_metric(const qt_metric *m, const qt_tensor *out, const qt_batch *b) { return m->add(out, b->y, b->t); }

qt_split qt_run_eval_split(const qt_run *r)
{
    return qt_data_size(r->data, QT_VAL) ? QT_VAL : qt_data_size(r->data, QT_TEST) ? QT_TEST : QT_TRAIN;
}

/* ---- averaged weights ------------------------------------------------------------------------------------------------------ */

bool qt_run_swap_average(qt_run *r)
{
    int       k = r->optim ? qt_optimizer_ema_slot(r->optim) : -1; /* an exported model has no optimizer */
    qt_store *s = r->store;
    if (k < 0 || !qt_optimizer_count(r->optim)) return false;
    for (int i = 0; i < s->n; i++) {
        if (s->p[i]->kind == QT_BUFFER || s->p[i]->frozen) continue;
        R *w = s->value + s->p[i]->at, *mean = s->slot[k] + s->p[i]->at;
        for (int64_t j = 0; j < s->p[i]->t.n; j++) {
            R keep = w[j];
            w[j] = mean[j], mean[j] = keep;
        }
    }
    return true;
}

/* ---- quant events ---------------------------------------------------------------------------------------------------------- */

static void compare(const qt_codes *c, const R *x, const R *y, qt_site_stats *st)
{
    double  signal = 0, noise = 0, scale = 0;
    int64_t clipped = 0, zeros = 0;
    for (int64_t i = 0; i < c->n; i++) {
        double d = (double)x[i] - (double)y[i], s = (double)c->scale[i / c->layout.inner % c->layout.count];
        signal += (double)x[i] * (double)x[i], noise += d * d;
        clipped += fabs(d) > 0.5001 * fabs(s), zeros += y[i] == 0;
    }
    for (int64_t i = 0; i < c->layout.count; i++) scale += (double)c->scale[i];
    *st = (qt_site_stats){scale / (double)c->layout.count, (double)clipped / (double)c->n, (double)zeros / (double)c->n, NAN,
                          10 * log10(signal / noise)};
}

static qt_err flips(qt_run *r, int i, const qt_codes *c, qt_site_stats *st)
{
    int64_t differ = 0;
    if (!r->codes[i]) {
        if (!(r->codes[i] = qt_arena_alloc(&r->arena, (size_t)c->n * sizeof(int32_t)))) return QT_EMEM;
        memcpy(r->codes[i], c->code, (size_t)c->n * sizeof(int32_t));
    }
    for (int64_t k = 0; k < c->n; k++) differ += c->code[k] != r->codes[i][k];
    memcpy(r->codes[i], c->code, (size_t)c->n * sizeof(int32_t));
    st->flip_rate = (double)differ / (double)c->n;
    return QT_OK;
}

static qt_err site_event(qt_run *r, int i, qt_arena *a)
{
    qt_site        *q = r->store->site[i];
    const qt_tensor *x = q->last_x;
    qt_site_stats   st;
    qt_codes        c = {0};
    R              *y;
    if (!q->enabled || !x || !x->data || !q->quant->encode || q->role == QT_ROLE_GRAD) return QT_OK;
    QT_TRY(q->quant->encode(q, x, a, &c));
    if (!c.scale || !c.n) return QT_OK; /* a site that keeps its values: none */
    if (!(y = qt_arena_alloc(a, (size_t)c.n * sizeof(R)))) return QT_EMEM;
    qt_codes_decode(&c, y);
    compare(&c, x->data, y, &st);
    if (q->role == QT_ROLE_WEIGHT) QT_TRY(flips(r, i, &c, &st));
    qt_metrics_quant(r, q, &st);
    return QT_OK;
}

static qt_err quant_events(qt_run *r)
{
    qt_arena a = {0};
    qt_err   e = QT_OK;
    for (int i = 0; i < r->store->n_site && e == QT_OK; i++) e = site_event(r, i, &a), qt_arena_reset(&a);
    qt_arena_free(&a);
    return e;
}

/* ---- a split --------------------------------------------------------------------------------------------------------------- */

typedef struct sums {
    double  loss, accuracy, metric;
    int64_t n; /* samples, or tokens that count */
} sums;

static void keep_outputs(const sums *s, const qt_tensor *out, const qt_batch *b, int64_t rows, R *logits, R *target)
{
    int64_t width = out->n / rows, at = s->n;
    for (int64_t i = 0; i < rows; i++) {
        if (b->ids && b->y[i] == QT_IGNORE) continue;
        if (logits) memcpy(logits + at * width, out->data + i * width, (size_t)width * sizeof(R));
        if (target) target[at] = b->y ? (R)b->y[i] : b->t[i * width];
        at++;
    }
}

static qt_err add_batch(qt_run *r, const qt_batch *b, sums *s, bool events, R *logits, R *target)
{
    int64_t    rows = targets(b, &r->model->in), counted = qt_run_counted(r, b);
    qt_tensor *out, *loss;
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, false, false);
    r->tape->step = r->step, r->tape->thrifty = r->model->thrifty && !(events && r->store->n_site); /* events look at what sites were given */
    loss = qt_run_forward(r, b, &out);
    r->tape->thrifty = r->model->thrifty;
    QT_TRY(qt_tape_error(r->tape));
    s->loss += (double)loss->data[0] * (double)counted;
    if (b->y && !b->ids) s->accuracy += qt_run_metric(&qt_metric_accuracy, out, b);
    if (r->recipe->metric) s->metric += qt_run_metric(r->recipe->metric, out, b);
    if (logits || target) keep_outputs(s, out, b, rows, logits, target);
    s->n += counted;
    return events ? quant_events(r) : QT_OK;
}

static qt_err pass(qt_run *r, qt_split split, sums *s, bool events, R *logits, R *target)
{
    qt_loader      *l;
    const qt_batch *b;
    QT_TRY(qt_loader_eval(r->data, split, r->recipe->train.eval_batch_size, &l));
    qt_err e = qt_loader_next(l, &b);
    for (; e == QT_OK && b; e = qt_loader_next(l, &b))
        if ((e = add_batch(r, b, s, events && !s->n, logits, target)) != QT_OK) break;
    qt_loader_free(l);
    return e;
}

static qt_err evaluate(qt_run *r, qt_split split, bool events, qt_result *res, R *logits, R *target)
{
    sums   s = {0};
    qt_err e;
    QT_CHECK(qt_data_size(r->data, split) > 0, QT_EUSAGE, "the data have no split '%s'", qt_split_name[split]);
    qt_run_swap_average(r);
    e = pass(r, split, &s, events, logits, target);
    qt_run_swap_average(r);
    qt_tape_reset(r->tape);
    if (e != QT_OK) return e;
    QT_CHECK(s.n, QT_EDATA, "the split '%s' has no target that counts", qt_split_name[split]);
    *res = (qt_result){.n = s.n, .loss = s.loss / (double)s.n, .params = qt_store_trained(r->store)};
    res->tokens = qt_run_is_text(r), res->classes = r->loss->classes && !res->tokens;
    if (res->classes) res->accuracy = qt_metric_accuracy.value(s.accuracy, s.n);
    if (r->recipe->metric) res->metric = r->recipe->metric->value(s.metric, s.n);
    res->peak_rss_mb = qt_peak_rss_mb();
    res->seconds = r->began > 0 ? r->seconds + qt_clock() - r->began : r->seconds;
    return qt_model_bits(r->model, &res->bits_per_weight, &res->bytes);
}

qt_err qt_run_eval(qt_run *r, qt_split split, qt_result *res, R *logits, R *target) { return evaluate(r, split, false, res, logits, target); }

qt_err qt_run_eval_event(qt_run *r, qt_split split, qt_result *res)
{
    double start = qt_clock();
    QT_TRY(evaluate(r, split, true, res, NULL, NULL));
    qt_metrics_eval(r, "eval", split, res, (double)res->n / (qt_clock() - start));
    if (qt_data_size(r->data, QT_TRAIN) > 0) QT_TRY(qt_noise_events(r));
    QT_TRY(qt_measure_terms(r));
    r->last_eval = *res, r->eval_step = r->step, r->eval_split = split;
    return QT_OK;
}
