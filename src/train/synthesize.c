/* Phase `synthesize`: calibration without data. Inputs are made up so that what every batch norm sees has the mean and variance which it saw in
 * training. From x ~ N(0, 1) an optimizer lowers, over the batch norms l with their running statistics,
 *
 *     sum_l  |mean(h_l) - mu_l|^2 + |var(h_l) - sigma_l^2|^2,      h_l: the input of l, mean and variance over samples and places,
 *
 * for the inputs alone; the model is in evaluation mode, unquantized, and no weight moves. Then the quantizers of activations observe the
 * model on them, as in `calibrate`. steps: 0 shows the noise as it is, which is what the method must beat.
 *
 * Cai et al. 2020, "ZeroQ" (arXiv 2001.00281), eq. 2-3; Haroush et al. 2020 (arXiv 1912.01274). Left out: labels for the inputs, the distance at
 * the input itself. */
#include "train/train.h"
#include <string.h>

typedef struct synthesize_cfg {
    int64_t        batches, batch_size, steps;
    const qt_yaml *optim;
} synthesize_cfg;

static const qt_field fields[] = {QT_F_INT(synthesize_cfg, batches, "4", 1, 1e6, "batches to make and observe"),
                                  QT_F_INT(synthesize_cfg, batch_size, "64", 2, 1e6, "inputs of a batch"),
                                  QT_F_INT(synthesize_cfg, steps, "200", 0, 1e9, "steps of the optimizer; 0: noise"),
                                  QT_F_TREE(synthesize_cfg, optim, "~", "an optimizer of the inputs (default: adam with lr 0.1)"),
                                  {NULL}};

enum { MEAN = 2, VAR = 3 }; /* parameters of a batch norm */

static bool is_batch_norm(const qt_module *m) { return m->layer == &qt_layer_batch_norm; }

/* Mean over samples and places: [N, C, ...] to [C]. */
static qt_tensor *channels(qt_tape *t, qt_tensor *h)
{
    while (h->rank > 2) h = qt_mean(t, h, h->rank - 1);
    return qt_mean(t, h, 0);
}

/* |m - row|^2, where row holds one number a channel. */
static qt_tensor *distance(qt_tape *t, qt_tensor *m, qt_tensor *row)
{
    qt_tensor *want = qt_input(t, 1, m->dim);
    if (want->data) memcpy(want->data, row->data, (size_t)want->n * sizeof(R));
    return qt_scale(t, qt_mse(t, m, want), (double)m->n);
}

/* The sum over all batch norms, of the last forward pass. */
static qt_tensor *distances(qt_tape *t, const qt_model *m)
{
    qt_tensor *sum = NULL;
    for (int i = 0; i < m->n; i++) {
        const qt_module *l = &m->m[i];
        if (!is_batch_norm(l)) continue;
        qt_tensor *h = l->in[0] < 0 ? m->x : m->value[l->in[0]], *mean = channels(t, h);
        qt_tensor *var = qt_sub(t, channels(t, qt_mul(t, h, h)), qt_mul(t, mean, mean));
        qt_tensor *one = qt_add(t, distance(t, mean, qt_param_row(t, l->p[MEAN], l->row)), distance(t, var, qt_param_row(t, l->p[VAR], l->row)));
        sum = sum ? qt_add(t, sum, one) : one;
    }
    return sum;
}

static void set_sites(qt_run *r, bool bypass, bool observing)
{
    for (int i = 0; i < r->store->n_site; i++)
        r->store->site[i]->enabled = true, r->store->site[i]->bypass = bypass, r->store->site[i]->observing = observing;
}

/* One forward pass; with gradients also backward. *d: the distance. */
static qt_err pass(qt_run *r, qt_tensor *x, bool grad, double *d)
{
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, false, grad);
    qt_model_forward(r->tape, r->model, x);
    QT_TRY(qt_tape_error(r->tape));
    qt_tensor *sum = distances(r->tape, r->model);
    QT_TRY(qt_tape_error(r->tape));
    *d = sum ? (double)sum->data[0] : 0;
    return grad ? qt_backward(r->tape, sum) : QT_OK;
}

/* One batch: a store of its own holds the inputs as its parameter. ends: the distance before and after. */
static qt_err make_batch(qt_run *r, const synthesize_cfg *c, int64_t k, qt_store *s, double ends[2])
{
    const qt_shape *in = &r->model->in;
    int64_t         dim[QT_MAX_DIM] = {c->batch_size};
    qt_optimizer   *o;
    qt_rng          draw = qt_rng_named((uint64_t)r->recipe->seed, "synthesize/%lld", (long long)k);
    memcpy(dim + 1, in->dim, (size_t)in->rank * sizeof *dim);
    qt_tensor *x = qt_param_add(s, "x", QT_WEIGHT, QT_INIT_CONST(0), 1 + in->rank, dim);
    if (!x) return QT_EMEM;
    QT_TRY(qt_optimizer_make(&r->arena, s, c->optim, &o));
    QT_TRY(qt_store_seal(s, qt_optimizer_slots(o)));
    for (int64_t i = 0; i < x->n; i++) x->data[i] = (R)qt_rng_normal(&draw);
    set_sites(r, true, false);
    QT_TRY(pass(r, x, false, &ends[0]));
    for (int64_t i = 0; i < c->steps; i++) {
        QT_TRY(pass(r, x, true, &ends[1]));
        QT_TRY(qt_optimizer_step(o, 1));
        if (r->stop && *r->stop) QT_FAIL(QT_ESTOPPED, "stopped while synthesizing; begin it again with: qtape resume %s", r->dir);
    }
    set_sites(r, true, true);
    return pass(r, x, false, &ends[1]);
}

static qt_err run(qt_run *r, const void *cfg)
{
    synthesize_cfg c = *(const synthesize_cfg *)cfg;
    double         ends[2] = {0, 0}, one[2];
    qt_err         e = QT_OK;
    qt_yaml       *y;
    if (!c.optim) {
        static const char adam[] = "{use: adam, lr: 0.1}";
        QT_TRY(qt_yaml_parse(&r->arena, adam, strlen(adam), "synthesize", &y));
        c.optim = y;
    }
    for (int64_t k = 0; k < c.batches && e == QT_OK; k++) {
        qt_store *s = qt_store_new((uint64_t)r->recipe->seed);
        e = s ? make_batch(r, &c, k, s, one) : QT_EMEM;
        qt_tape_reset(r->tape);
        qt_store_free(s);
        for (int i = 0; i < 2 && e == QT_OK; i++) ends[i] += one[i] / (double)c.batches;
    }
    set_sites(r, false, false);
    memset(r->store->grad, 0, (size_t)r->store->size * sizeof(R)); /* backward went through the weights */
    QT_TRY(e);
    qt_metrics_measure(r, "synthesize", 2, (const char *const[]){"noise", "distance"}, ends);
    qt_run_log(r, "%s  synthesized %lld batches: distance to the batch norms' statistics %.4g, of noise %.4g", r->arm, (long long)c.batches, ends[1],
               ends[0]);
    return QT_OK;
}

static qt_err suits(const void *cfg, const qt_data_info *data, qt_pos pos)
{
    (void)cfg;
    return data->ids ? qt_fail_at(QT_ERECIPE, pos, "phases: synthesize makes up numbers, but the data are text") : QT_OK;
}

static qt_err check_model(qt_arena *a, const void *cfg, const qt_model *m)
{
    bool any = ((const synthesize_cfg *)cfg)->steps == 0;
    (void)a;
    for (int i = 0; i < m->n; i++) any |= is_batch_norm(&m->m[i]);
    return any ? QT_OK : qt_fail(QT_ERECIPE, "phases: synthesize needs a model with batch_norm, whose statistics it makes inputs for");
}

const qt_phase qt_phase_synthesize = {{"synthesize", "calibrate on inputs made from the statistics of batch norms, without data",
                                       "Cai et al. 2020, arXiv 2001.00281, eq. 2-3", fields, sizeof(synthesize_cfg)},
                                      run, .suits = suits, .check_model = check_model, .gives = "synthesize.noise|synthesize.distance"};
