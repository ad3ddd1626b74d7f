/* Checkpoints: everything that the next step depends on, and nothing that differs between two runs of the same recipe but attributes.
 *   params/NAME       values of each parameter and buffer, in the compute type
 *   slots/K/NAME      optimizer state (moments, averaged weights) of each trained parameter
 *   codes/PATH        codes of a weight site at the last quant event, which flip_rate compares with
 *   manifest/NAME     kind, frozen, and the shape
 *   base/NAME         beside adapters, in place of the values of each frozen parameter: their fingerprint (adapter.c)
 *   attributes        step, phase, optimizer_count, best, seed, metrics_bytes, seconds, busy, version ...
 * In front of the HDF5 part stands a user block with a CRC-32 (seal.c). It is verified before libhdf5 opens the file, so a damaged
 * checkpoint is a message and never a crash. */
#include "base/h5.h"
#include "train/train.h"
#include <string.h>
#include <unistd.h>

static const qt_seal seal = {"QTAPE-CKPT", "checkpoint", "saved", 1};

qt_err qt_ckpt_verify(const char *file) { return qt_seal_verify(&seal, file); }

/* ---- saving ---------------------------------------------------------------------------------------------------------------- */

static qt_err write_param(qt_h5 *f, const qt_store *s, const qt_param *p)
{
    char    name[512];
    int32_t manifest[2 + QT_MAX_DIM] = {(int32_t)p->kind, p->frozen};
    snprintf(name, sizeof name, "params/%s", p->t.name);
    QT_TRY(qt_h5_write(f, name, p->t.rank, p->t.dim, p->t.data, false));
    for (int k = 0; k < s->n_slots && p->kind != QT_BUFFER; k++) {
        snprintf(name, sizeof name, "slots/%d/%s", k, p->t.name);
        QT_TRY(qt_h5_write(f, name, p->t.rank, p->t.dim, s->slot[k] + p->at, false));
    }
    for (int i = 0; i < p->t.rank; i++) manifest[2 + i] = (int32_t)p->t.dim[i];
    snprintf(name, sizeof name, "manifest/%s", p->t.name);
    return qt_h5_write_ids(f, name, 1, (int64_t[]){2 + p->t.rank}, manifest);
}

static int64_t site_size(const qt_site *q)
{
    int64_t n = 1;
    for (int i = 0; i < q->rank; i++) n *= q->dim[i];
    return n;
}

static qt_err write_codes(qt_h5 *f, const qt_run *r)
{
    char name[512];
    for (int i = 0; i < r->store->n_site; i++)
        if (r->codes[i]) {
            int64_t n = site_size(r->store->site[i]);
            snprintf(name, sizeof name, "codes/%s", r->store->site[i]->path);
            QT_TRY(qt_h5_write_ids(f, name, 1, &n, r->codes[i]));
        }
    return QT_OK;
}

static qt_err write_all(qt_h5 *f, const qt_run *r)
{
    for (int i = 0; i < r->store->n; i++)
        if (!r->store->p[i]->base) QT_TRY(write_param(f, r->store, r->store->p[i]));
    QT_TRY(qt_base_write(f, r));
    QT_TRY(write_codes(f, r));
    QT_TRY(qt_h5_put_str(f, "version", qt_version()));
    QT_TRY(qt_h5_put_str(f, "recipe", r->recipe->name));
    QT_TRY(qt_h5_put_str(f, "arm", r->arm));
    QT_TRY(qt_h5_put_int(f, "seed", r->recipe->seed));
    QT_TRY(qt_h5_put_int(f, "step", r->step));
    QT_TRY(qt_h5_put_int(f, "phase", r->phase));
    QT_TRY(qt_h5_put_int(f, "optimizer_count", qt_optimizer_count(r->optim)));
    QT_TRY(qt_h5_put_int(f, "has_best", r->has_best));
    QT_TRY(qt_h5_put_real(f, "best", r->best));
    QT_TRY(qt_h5_put_int(f, "metrics_bytes", r->metrics_bytes));
    QT_TRY(qt_h5_put_real(f, "busy", r->busy));
    QT_TRY(qt_h5_put_int(f, "saved_bytes", r->saved.bytes));
    QT_TRY(qt_h5_put_int(f, "saved_bytes_float", r->saved.floats));
    QT_TRY(qt_h5_put_int(f, "saved_bytes_per_op", r->saved.per_op));
    return qt_h5_put_real(f, "seconds", r->began > 0 ? r->seconds + qt_clock() - r->began : r->seconds);
}

static qt_err save(const qt_run *r, const char *file, qt_err (*write)(qt_h5 *, const qt_run *))
{
    char   part[4096];
    qt_h5 *f;
    snprintf(part, sizeof part, "%s.part", file);
    qt_err e = qt_h5_create(part, QT_H5_USERBLOCK, &f), closed = QT_OK;
    if (e == QT_OK) e = write(f, r), closed = qt_h5_close(f);
    if (e == QT_OK) e = closed;
    if (e == QT_OK) e = qt_seal_write(&seal, part);
    if (e == QT_OK) e = qt_seal_verify(&seal, part); /* what it replaces is not let go before it can be read */
    if (e == QT_OK) return qt_file_commit(part, file);
    unlink(part);
    return e;
}

qt_err qt_ckpt_save(const qt_run *r, const char *file) { return save(r, file, write_all); }
qt_err qt_ckpt_save_merged(const qt_run *r, const char *file) { return save(r, file, qt_base_write_merged); }

/* ---- loading --------------------------------------------------------------------------------------------------------------- */

/* What does not fit, gathered for one message. */
typedef struct misfit {
    const qt_store *s;
    char            missing[1024], unexpected[1024], misshaped[1024];
    int             n;
} misfit;

static void note(misfit *m, char list[static 1024], const char *fmt, const char *a, const char *b, const char *c)
{
    size_t n = strlen(list);
    m->n++;
    if (n > 800 && list[n - 1] != '.') snprintf(list + n, 1024 - n, ", ...");
    if (n > 800) return;
    if (n) n += (size_t)snprintf(list + n, 1024 - n, ", ");
    snprintf(list + n, 1024 - n, fmt, a, b, c);
}

static const char *shape_text(int rank, const int64_t *dim, char buf[static 96])
{
    qt_tensor x = {.rank = (int8_t)(rank < QT_MAX_DIM ? rank : QT_MAX_DIM)};
    memcpy(x.dim, dim, (size_t)x.rank * sizeof *dim);
    return qt_shape_str(&x, buf);
}

/* True if the data set is there with the shape of p. */
static bool fits(misfit *m, qt_h5 *f, const qt_param *p, const char *name)
{
    int     rank;
    int64_t dim[8];
    char    found[96], want[96];
    if (!qt_h5_has(f, name)) {
        char mark[512];
        snprintf(mark, sizeof mark, "base/%s", p->t.name);
        return note(m, m->missing, "%s%s%s", name, qt_h5_has(f, mark) ? " (the file holds an adapter, not its base)" : "", ""), false;
    }
    if (qt_h5_shape(f, name, &rank, dim) != QT_OK) return m->n++, false;
    if (rank == p->t.rank && !memcmp(dim, p->t.dim, (size_t)rank * sizeof *dim)) return true;
    note(m, m->misshaped, "%s is %s, expected %s", name, shape_text(rank, dim, found), shape_text(p->t.rank, p->t.dim, want));
    return false;
}

static qt_err expected(void *arg, const char *name, int rank, const int64_t *dim, const char *type)
{
    misfit     *m = arg;
    const char *own = strncmp(name, "params/", 7) ? name : name + 7;
    (void)rank, (void)dim, (void)type;
    if (!qt_store_param(m->s, own)) note(m, m->unexpected, "%s%s%s", own, "", "");
    return QT_OK;
}

static qt_err report(const misfit *m, const char *file)
{
    if (!m->n) return QT_OK;
    return qt_fail(QT_EDATA, "%s: is a checkpoint of another model%s%s%s%s%s%s", file, *m->missing ? "; missing: " : "", m->missing,
                   *m->unexpected ? "; unexpected: " : "", m->unexpected, *m->misshaped ? "; of another shape: " : "", m->misshaped);
}

/* Is p the state of a quantizer? */
static bool of_site(const qt_store *s, const qt_param *p)
{
    for (int i = 0; i < s->n_site; i++)
        for (int k = 0; k < QT_SITE_PARAMS; k++)
            if (s->site[i]->p[k] == &p->t) return true;
    return false;
}

/* Of a table, one row under its name, as a model of one precision has it: every row begins with it. */
static bool one_row(qt_h5 *f, const qt_param *p, const char *name)
{
    int     rank;
    int64_t dim[8];
    return p->rows && qt_h5_has(f, name) && qt_h5_shape(f, name, &rank, dim) == QT_OK && rank == p->t.rank - 1 &&
           !memcmp(dim, p->t.dim + 1, (size_t)rank * sizeof *dim);
}

static qt_err read_rows(qt_h5 *f, const qt_param *p, const char *name, R *to)
{
    const int64_t n = p->t.n / p->rows;
    QT_TRY(qt_h5_read(f, name, n, to));
    for (int k = 1; k < p->rows; k++) memcpy(to + k * n, to, (size_t)n * sizeof *to);
    return QT_OK;
}

/* Is p what a stepper keeps for a resume? */
static bool of_stepper(const qt_param *p) { return p->kind == QT_BUFFER && !strncmp(p->t.name, "step.", 5); }

/* Values (and slots) into staging blocks first, so that an error changes nothing. lenient, for start values: state of quantizers and adapters
 * may be missing, and the base must be there, though it is read later. */
static qt_err read_store(qt_h5 *f, const char *file, const qt_run *r, int n_slots, bool lenient, R *stage)
{
    const qt_store *s = r->store;
    misfit          m = {.s = s};
    char            name[512];
    for (int i = 0; i < s->n; i++) {
        const qt_param *p = s->p[i];
        snprintf(name, sizeof name, "params/%s", p->t.name);
        if (p->base && lenient) fits(&m, f, p, name);
        if (p->base || (lenient && (of_site(s, p) || of_stepper(p) || qt_lora_owns(r->model, &p->t)) && !qt_h5_has(f, name))) continue;
        if (lenient && one_row(f, p, name)) QT_TRY(read_rows(f, p, name, stage + p->at));
        else if (fits(&m, f, p, name)) QT_TRY(qt_h5_read(f, name, p->t.n, stage + p->at));
        for (int k = 0; k < n_slots && p->kind != QT_BUFFER; k++) {
            snprintf(name, sizeof name, "slots/%d/%s", k, p->t.name);
            if (fits(&m, f, p, name)) QT_TRY(qt_h5_read(f, name, p->t.n, stage + (k + 1) * s->size + p->at));
        }
    }
    if (!lenient) QT_TRY(qt_h5_each(f, "params", expected, &m));
    return report(&m, file);
}

static void commit_store(qt_store *s, int n_slots, const R *stage)
{
    memcpy(s->value, stage, (size_t)s->size * sizeof(R));
    for (int k = 0; k < n_slots; k++) memcpy(s->slot[k], stage + (k + 1) * s->size, (size_t)s->size * sizeof(R));
}

static R *stage_new(const qt_store *s, int n_slots)
{
    R *stage = qt_alloc((size_t)(s->size * (1 + n_slots)) * sizeof(R));
    if (!stage) return NULL;
    memcpy(stage, s->value, (size_t)s->size * sizeof(R));
    for (int k = 0; k < n_slots; k++) memcpy(stage + (k + 1) * s->size, s->slot[k], (size_t)s->size * sizeof(R));
    return stage;
}

static qt_err read_codes(qt_h5 *f, qt_run *r)
{
    char name[512];
    for (int i = 0; i < r->store->n_site; i++) {
        int64_t n = site_size(r->store->site[i]);
        snprintf(name, sizeof name, "codes/%s", r->store->site[i]->path);
        if (!qt_h5_has(f, name)) continue;
        if (!r->codes[i] && !(r->codes[i] = qt_arena_alloc(&r->arena, (size_t)n * sizeof(int32_t)))) return QT_EMEM;
        QT_TRY(qt_h5_read_ids(f, name, n, r->codes[i]));
    }
    return QT_OK;
}

/* Checkpoints of older versions have none of it. */
static qt_err read_saved(qt_h5 *f, qt_saved *s)
{
    if (!qt_h5_has_key(f, "saved_bytes_per_op")) return QT_OK;
    QT_TRY(qt_h5_get_int(f, "saved_bytes", &s->bytes));
    QT_TRY(qt_h5_get_int(f, "saved_bytes_float", &s->floats));
    return qt_h5_get_int(f, "saved_bytes_per_op", &s->per_op);
}

static qt_err read_state(qt_h5 *f, qt_run *r)
{
    int64_t phase, count, has_best;
    QT_TRY(qt_h5_get_int(f, "phase", &phase));
    QT_TRY(qt_h5_get_int(f, "optimizer_count", &count));
    QT_TRY(qt_h5_get_int(f, "has_best", &has_best));
    QT_TRY(qt_h5_get_str(f, "arm", &r->arena, &r->arm));
    QT_TRY(qt_h5_get_int(f, "step", &r->step));
    QT_TRY(qt_h5_get_int(f, "metrics_bytes", &r->metrics_bytes));
    QT_TRY(qt_h5_get_real(f, "best", &r->best));
    QT_TRY(qt_h5_get_real(f, "seconds", &r->seconds));
    QT_TRY(qt_h5_get_real(f, "busy", &r->busy));
    QT_TRY(read_saved(f, &r->saved));
    QT_CHECK(phase >= 0 && phase <= r->recipe->n_phases && r->step >= 0 && r->metrics_bytes >= 0 && count >= 0, QT_EDATA,
             "damaged checkpoint: phase %lld of %d, step %lld", (long long)phase, r->recipe->n_phases, (long long)r->step);
    r->phase = (int)phase, r->has_best = has_best != 0;
    qt_optimizer_set_count(r->optim, count);
    return QT_OK;
}

static qt_err load_from(qt_h5 *f, qt_run *r, const char *file, bool init)
{
    qt_store *s = r->store;
    int       n_slots = init ? 0 : s->n_slots;
    R        *stage = stage_new(s, n_slots);
    qt_err    e = stage ? read_store(f, file, r, n_slots, init, stage) : QT_EMEM;
    if (e == QT_OK && !init) e = qt_base_check(f, r, file);
    if (e == QT_OK && !init) e = read_codes(f, r);
    if (e == QT_OK && !init) e = read_state(f, r);
    if (e == QT_OK) commit_store(s, n_slots, stage);
    qt_free(stage);
    if (e == QT_OK && init && r->recipe->lora) e = qt_base_load(r, f);
    return e;
}

static qt_err load(qt_run *r, const char *file, bool init)
{
    qt_h5 *f;
    QT_TRY(qt_ckpt_verify(file));
    QT_TRY(qt_h5_open(file, &f));
    qt_err e = load_from(f, r, file, init), closed = qt_h5_close(f);
    return e != QT_OK ? e : closed;
}

qt_err qt_ckpt_load(qt_run *r, const char *file) { return load(r, file, false); }
qt_err qt_ckpt_init(qt_run *r, const char *file) { return load(r, file, true); }
