/* Phase `codec_noise`: what codecs of saved tensors do to gradients, on the weights as they stand. The first batch of the training split, in
 * order, gives the gradient g of all parameters in full precision. Then for each codec of the list, with its ranges as in a run's first step
 * and for several draws of its rounding,
 *
 *   grad_error     ||g_codec - g|| / ||g||, the mean over the draws
 *   mse            sum over the encoded tensors of the mean of (x~ - x)^2, the mean over the draws
 *   mse_products   the same of operands of products of activations only: queries, keys, values and probabilities of attention
 *   logits_differ  outputs of forward that have other bits than in full precision, in all draws
 *
 * as one `codec` event. Weights, statistics and ranges of the run stay as they were. */
#include "train/train.h"
#include <math.h>
#include <string.h>

typedef struct config {
    int64_t        draws;
    const qt_yaml *codecs;
} config;

static const qt_field fields[] = {
    QT_F_INT(config, draws, "8", 1, 10000, "draws of the rounding"),
    {"codecs", QT_TREE, offsetof(config, codecs), NULL, 0, 0, NULL, "map of name -> {codec: NAME, ...}, each as `memory` takes it"},
    {NULL},
};

static qt_err read_codec(qt_arena *a, const config *c, int i, const qt_model *m, qt_memory *how)
{
    char path[256];
    snprintf(path, sizeof path, "codec_noise.codecs.%s", c->codecs->key[i]);
    return qt_memory_read(a, c->codecs->item[i], path, m, how);
}

static qt_err check_model(qt_arena *a, const void *cfg, const qt_model *m)
{
    const config *c = cfg;
    qt_memory     how;
    qt_err        e = QT_OK;
    if (c->codecs->kind != QT_YAML_MAP)
        return qt_fail_at(QT_ERECIPE, c->codecs->pos, "codec_noise.codecs: expected a map of name -> {codec: NAME, ...}, found %s",
                          qt_yaml_kind_name(c->codecs));
    for (int i = 0; i < c->codecs->n; i++)
        if (read_codec(a, c, i, m, &how) != QT_OK) e = QT_ERECIPE;
    return e;
}

/* ---- one batch ------------------------------------------------------------------------------------------------------------- */

typedef struct meter {
    qt_run         *r;
    const qt_batch *batch;
    qt_arena        arena;
    R              *values, *exact, *logits; /* of the store at first; the gradient and the outputs in full precision */
    int64_t         outputs;
    qt_codec_stats  sum;
} meter;

static double distance(const R *a, const R *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}

static bool in_product(const qt_tape *t, const qt_tensor *x)
{
    for (const qt_node *nd = t->node; nd < t->node + t->n; nd++)
        if (nd->op == &qt_op_matmul && (nd->in[0] == x || nd->in[1] == x)) return true;
    return false;
}

/* Called where a tensor and its codes are both there. */
static void add_tensor(void *arg, qt_tape *t, const qt_pack *p)
{
    meter *m = arg;
    R     *y = p->saver ? qt_tape_lend(t, p->x->n) : NULL;
    if (!y) return;
    qt_pack_decode(p, y);
    double mse = distance(y, p->x->data, p->x->n) / (double)p->x->n;
    m->sum.mse += mse, m->sum.mse_products += in_product(t, p->x) ? mse : 0;
    qt_tape_take_back(t, y);
}

/* The store as it was, forward and backward. */
static qt_err run_batch(meter *m, bool thrifty, const qt_tensor **out)
{
    qt_run    *r = m->r;
    qt_tensor *y, *loss;
    memcpy(r->store->value, m->values, (size_t)r->store->size * sizeof(R));
    qt_store_zero_grad(r->store);
    qt_tape_reset(r->tape);
    qt_tape_mode(r->tape, true, true);
    r->tape->step = r->step, r->tape->thrifty = thrifty;
    loss = qt_model_penalty(r->tape, r->model, qt_run_forward(r, m->batch, &y));
    QT_TRY(qt_tape_error(r->tape));
    *out = y;
    return qt_backward(r->tape, loss);
}

static qt_err measure_exact(meter *m)
{
    const qt_tensor *y;
    size_t           size = (size_t)m->r->store->size * sizeof(R);
    QT_TRY(run_batch(m, false, &y));
    m->exact = qt_arena_alloc(&m->arena, size), m->logits = qt_arena_alloc(&m->arena, (size_t)y->n * sizeof(R));
    if (!m->exact || !m->logits) return QT_EMEM;
    memcpy(m->exact, m->r->store->grad, size), memcpy(m->logits, y->data, (size_t)y->n * sizeof(R));
    m->outputs = y->n;
    return QT_OK;
}

static qt_err measure_draw(meter *m, const qt_memory *how, int64_t draw, qt_arena *a)
{
    const qt_store  *s = m->r->store;
    const qt_tensor *y;
    double           g = 0;
    QT_TRY(qt_memory_savers(a, how, false, m->r->model));
    for (int i = 0; i < m->r->model->n; i++)
        if (m->r->model->m[i].saver) m->r->model->m[i].saver->draw = (uint64_t)draw + 1;
    QT_TRY(run_batch(m, true, &y));
    for (int64_t i = 0; i < s->size; i++) g += (double)m->exact[i] * (double)m->exact[i];
    m->sum.grad_error += sqrt(distance(s->grad, m->exact, s->size) / g);
    for (int64_t i = 0; i < m->outputs; i++) m->sum.logits_differ += memcmp(&y->data[i], &m->logits[i], sizeof(R)) != 0;
    return QT_OK;
}

static qt_err measure(meter *m, const config *c)
{
    qt_arena  a = {0};
    qt_memory how;
    qt_err    e = measure_exact(m);
    m->r->tape->watch = add_tensor, m->r->tape->watch_arg = m;
    for (int i = 0; i < c->codecs->n && e == QT_OK; i++) {
        m->sum = (qt_codec_stats){0};
        e = read_codec(&m->arena, c, i, m->r->model, &how);
        for (int64_t d = 0; d < c->draws && e == QT_OK; d++) e = measure_draw(m, &how, d, &a), qt_arena_reset(&a);
        m->sum.grad_error /= (double)c->draws, m->sum.mse /= (double)c->draws, m->sum.mse_products /= (double)c->draws;
        if (e == QT_OK) qt_metrics_codec(m->r, c->codecs->key[i], &m->sum);
    }
    qt_arena_free(&a);
    return e;
}

static qt_err run(qt_run *r, const void *cfg)
{
    qt_model  *model = r->model;
    meter      m = {.r = r};
    qt_loader *l;
    qt_saver **own = qt_arena_alloc(&m.arena, (size_t)(model->n + 1) * sizeof *own);
    m.values = qt_arena_alloc(&m.arena, (size_t)r->store->size * sizeof(R));
    qt_err e = own && m.values ? qt_loader_eval(r->data, QT_TRAIN, qt_data_batch_size(r->data), &l) : QT_EMEM;
    if (e != QT_OK) return qt_arena_free(&m.arena), e;
    for (int i = 0; i < model->n; i++) own[i] = model->m[i].saver;
    memcpy(m.values, r->store->value, (size_t)r->store->size * sizeof(R));
    e = qt_loader_next(l, &m.batch);
    if (e == QT_OK && m.batch) e = measure(&m, cfg);
    for (int i = 0; i < model->n; i++) model->m[i].saver = own[i];
    memcpy(r->store->value, m.values, (size_t)r->store->size * sizeof(R));
    qt_store_zero_grad(r->store);
    qt_tape_reset(r->tape);
    r->tape->watch = NULL, r->tape->thrifty = model->thrifty;
    qt_loader_free(l), qt_arena_free(&m.arena);
    return e;
}

const qt_phase qt_phase_codec_noise = {
    {"codec_noise", "what codecs of saved tensors do to the gradient of one batch", NULL, fields, sizeof(config)}, run, .check_model = check_model};
