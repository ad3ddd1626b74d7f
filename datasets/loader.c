/* The loader: a thread makes batches ahead of the training into a ring of buffers and never allocates. What is in batch k is a function of
 * the recipe's seed and k alone: with B batches an epoch, batch k is number k mod B of epoch e = k / B, whose order is the permutation
 *     for i = n-1 ... 1: swap order[i], order[u],  u uniform in 0..i     (Fisher-Yates; Durstenfeld, CACM 7, 1964, algorithm 235)
 * with u from stream "data/epoch/e" (of D domains each is permuted by itself, on the places d, d + D, d + 2 D, ... where it lay), and sample number j of the epoch draws its augmentation from numbers 64 j, 64 j + 1, ... of stream
 * "data/augment/e"; what a whole epoch shares is drawn from its last number. So a resumed run continues at any batch without replaying the ones before. */
#include "dataset.h"
#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { RING = 3, DRAWS = 64 };

struct qt_loader {
    qt_data        *data;
    qt_split        split;
    bool            train;
    uint64_t        seed;
    int64_t         n, batch, batches, start; /* samples; samples a batch; batches an epoch; first batch to make */
    int64_t         width, target_n, epoch;   /* numbers a sample and a target; epoch of `order` */
    int32_t        *order;                    /* training: permutation of 0..n-1 */
    qt_batch        ring[RING];
    int64_t         made, taken;              /* batches so far; slot of batch number i is i mod RING */
    bool            holding, ended, stop;     /* the consumer has batch number `taken`; no more will come; the thread is to leave */
    qt_err          err;
    char           *text;                     /* messages of the thread */
    bool            threaded;
    pthread_t       thread;
    pthread_mutex_t lock;
    pthread_cond_t  can_make, can_take;
};

/* ---- on the loader's thread ------------------------------------------------------------------------------------------------------- */

static void shuffle(qt_loader *l, int64_t epoch)
{
    qt_rng  r = qt_rng_named(l->seed, "data/epoch/%lld", (long long)epoch);
    int64_t D = qt_data_domains(l->data);
    for (int64_t i = 0; i < l->n; i++) l->order[i] = (int32_t)i;
    for (int64_t d = 0; d < D; d++)
        for (int64_t k = (l->n - 1 - d) / D; k > 0; k--) {
            int64_t u = (int64_t)qt_rng_below(&r, (uint64_t)k + 1) * D + d, i = k * D + d;
            int32_t v = l->order[i];
            l->order[i] = l->order[u], l->order[u] = v;
        }
    l->epoch = epoch;
}

static qt_err fill(qt_loader *l, int64_t k, qt_batch *b)
{
    int64_t epoch = k / l->batches, first = k % l->batches * l->batch;
    qt_rng  draw  = {0};
    if (l->train && epoch != l->epoch) shuffle(l, epoch);
    if (l->train) draw = qt_rng_named(l->seed, "data/augment/%lld", (long long)epoch);
    b->n = l->n - first < l->batch ? l->n - first : l->batch;
    for (int64_t i = 0; i < b->n; i++) {
        int64_t j = l->train ? l->order[first + i] : first + i;
        qt_rng *r = l->train ? &draw : NULL;
        draw.at = (uint64_t)(first + i) * DRAWS;
        if (b->ids) QT_TRY(qt_data_tokens(l->data, l->split, j, r, b->ids + i * l->width, b->y + i * l->width));
        else QT_TRY(qt_data_get(l->data, l->split, j, r, b->x + i * l->width, b->y ? b->y + i : NULL, b->t ? b->t + i * l->target_n : NULL));
    }
    return QT_OK;
}

/* Waits for a free buffer; false when the thread is to leave. */
static bool wait_for_room(qt_loader *l)
{
    bool go;
    pthread_mutex_lock(&l->lock);
    while (!l->stop && l->made - l->taken == RING) pthread_cond_wait(&l->can_make, &l->lock);
    go = !l->stop;
    pthread_mutex_unlock(&l->lock);
    return go;
}

static void *run(void *arg)
{
    qt_loader *l = arg;
    for (int64_t k = l->start; wait_for_room(l); k++) {
        bool   more = l->train || k < l->batches;
        qt_err e    = more ? fill(l, k, &l->ring[l->made % RING]) : QT_OK;
        pthread_mutex_lock(&l->lock);
        if (more && e == QT_OK) l->made++;
        else l->ended = true, l->err = e, l->text = e != QT_OK ? qt_error_take() : NULL;
        pthread_cond_signal(&l->can_take);
        pthread_mutex_unlock(&l->lock);
        if (!more || e != QT_OK) break;
    }
    qt_error_clear();
    return NULL;
}

/* ---- on the trainer's ------------------------------------------------------------------------------------------------------------- */

static qt_err allocate(qt_loader *l)
{
    const qt_data_info *f = qt_data_info_of(l->data);
    l->width = 1, l->target_n = f->classes ? 0 : f->target_n, l->epoch = -1;
    for (int i = 0; i < f->rank; i++) l->width *= f->dim[i];
    if (l->train && !(l->order = qt_alloc(sizeof *l->order * (size_t)l->n))) return QT_EMEM;
    for (int i = 0; i < RING; i++) {
        qt_batch *b = &l->ring[i];
        if (f->ids) b->ids = qt_alloc(sizeof(int32_t) * (size_t)(l->batch * l->width));
        else b->x = qt_alloc(sizeof(R) * (size_t)(l->batch * l->width));
        if (l->target_n) b->t = qt_alloc(sizeof(R) * (size_t)(l->batch * l->target_n));
        else b->y = qt_alloc(sizeof(int32_t) * (size_t)(l->batch * (f->ids ? l->width : 1)));
        if (!(b->x || b->ids) || !(b->t || b->y)) return QT_EMEM;
    }
    return QT_OK;
}

/* Signals are the main thread's business. */
static qt_err start_thread(qt_loader *l)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->can_make, NULL);
    pthread_cond_init(&l->can_take, NULL);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    l->threaded = pthread_create(&l->thread, NULL, run, l) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return l->threaded ? QT_OK : qt_fail(QT_EMEM, "cannot start the data loader's thread");
}

static qt_err start(qt_loader l, qt_loader **out)
{
    qt_loader *p = *out = qt_alloc(sizeof *p);
    qt_err     e;
    if (!p) return QT_EMEM;
    *p = l;
    if ((e = allocate(p)) == QT_OK) e = start_thread(p);
    if (e == QT_OK) return QT_OK;
    qt_loader_free(p);
    *out = NULL;
    return e;
}

int64_t qt_loader_batches_per_epoch(const qt_data *d)
{
    int64_t n = qt_data_size(d, QT_TRAIN), batch = qt_data_batch_size(d);
    return n < batch ? 1 : n / batch;
}

qt_err qt_loader_train(qt_data *d, uint64_t seed, int64_t first, qt_loader **out)
{
    int64_t n = qt_data_size(d, QT_TRAIN), batch = qt_data_batch_size(d);
    QT_CHECK(n > 0 && n <= INT32_MAX, QT_EDATA, "data: %lld training samples, expected 1 to 2^31", (long long)n);
    return start((qt_loader){.data = d, .split = QT_TRAIN, .train = true, .seed = seed, .n = n, .batch = n < batch ? n : batch, .start = first,
                             .batches = qt_loader_batches_per_epoch(d)}, out);
}

qt_err qt_loader_eval(qt_data *d, qt_split s, int64_t batch_size, qt_loader **out)
{
    static const char *const name[] = {"train", "val", "test"};
    int64_t                  n      = qt_data_size(d, s), batch = batch_size < n ? batch_size : n;
    QT_CHECK(n > 0, QT_EDATA, "data: there is no split '%s'", name[s]);
    QT_ASSERT(batch > 0);
    return start((qt_loader){.data = d, .split = s, .n = n, .batch = batch, .batches = (n + batch - 1) / batch}, out);
}

qt_err qt_loader_next(qt_loader *l, const qt_batch **b)
{
    qt_err e = QT_OK;
    *b = NULL;
    pthread_mutex_lock(&l->lock);
    if (l->holding) l->taken++, pthread_cond_signal(&l->can_make);
    while (l->made == l->taken && !l->ended) pthread_cond_wait(&l->can_take, &l->lock);
    l->holding = l->made > l->taken;
    if (l->holding) *b = &l->ring[l->taken % RING];
    else {
        e = l->err;
        qt_error_give(l->text);
        l->text = NULL;
    }
    pthread_mutex_unlock(&l->lock);
    return e;
}

void qt_loader_free(qt_loader *l)
{
    if (!l) return;
    if (l->threaded) {
        pthread_mutex_lock(&l->lock);
        l->stop = true;
        pthread_cond_signal(&l->can_make);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
        pthread_mutex_destroy(&l->lock);
        pthread_cond_destroy(&l->can_make);
        pthread_cond_destroy(&l->can_take);
    }
    for (int i = 0; i < RING; i++) qt_free(l->ring[i].x), qt_free(l->ring[i].ids), qt_free(l->ring[i].y), qt_free(l->ring[i].t);
    qt_free(l->order);
    qt_free(l->text);
    qt_free(l);
}
