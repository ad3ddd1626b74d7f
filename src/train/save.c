/* A store in a file of its own, for programs that use the library without runs: HDF5, one data set "params/NAME" a parameter
 * (weights, running statistics, quantizer steps). Checkpoints of runs, with optimizer state and position, are ckpt.c's. */
#include "autograd/store.h"
#include "base/h5.h"
#include "train/train.h"
#include <string.h>

enum { PREFIX = 7 }; /* of "params/" */

static qt_err name_of(char name[static 512], const qt_param *p)
{
    QT_CHECK(snprintf(name, 512, "params/%s", p->t.name) < 512, QT_EUSAGE, "parameter %s: the name is too long to save", p->t.name);
    return QT_OK;
}

static qt_err write_params(qt_h5 *f, const qt_store *s)
{
    char name[512];
    for (int i = 0; i < s->n; i++) {
        QT_TRY(name_of(name, s->p[i]));
        QT_TRY(qt_h5_write(f, name, s->p[i]->t.rank, s->p[i]->t.dim, s->p[i]->t.data, false));
    }
    return QT_OK;
}

qt_err qt_store_save(const qt_store *s, const char *file)
{
    qt_h5 *f;
    QT_CHECK(s->sealed, QT_EUSAGE, "%s: a store has no values to save before qt_store_seal", file);
    char *part = qt_sprintf("%s.part", file);
    if (!part) return QT_EMEM;
    qt_err e = qt_h5_create(part, 0, &f);
    if (e == QT_OK) {
        e = write_params(f, s);
        qt_err closed = qt_h5_close(f);
        if (e == QT_OK) e = closed;
        if (e == QT_OK) e = qt_file_commit(part, file);
        else remove(part);
    }
    qt_free(part);
    return e;
}

typedef struct match {
    const qt_store *s;
    const char     *file;
    int             known; /* data sets that are parameters of the store, with the right shape */
    bool            misfit;
} match;

static qt_err compare(void *arg, const char *set, int rank, const int64_t *dim, const char *type)
{
    match    *m = arg;
    qt_param *p = strncmp(set, "params/", PREFIX) ? NULL : qt_store_param(m->s, set + PREFIX);
    (void)type;
    bool same = p && p->t.rank == rank && !memcmp(p->t.dim, dim, (size_t)rank * sizeof *dim);
    if (!p) qt_fail(QT_EDATA, "%s: %s is no parameter of this store", m->file, set);
    else if (!same) {
        char    text[96];
        int64_t n = 1;
        for (int i = 0; i < rank; i++) n *= dim[i];
        qt_fail(QT_EDATA, "%s: %s has %lld numbers in %d dimensions, expected %s", m->file, set, (long long)n, rank, qt_shape_str(&p->t, text));
    }
    m->known += p != NULL;
    m->misfit |= !same;
    return QT_OK;
}

/* Everything is compared before a single value changes. */
static qt_err check_params(qt_h5 *f, const char *file, const qt_store *s)
{
    char  name[512];
    match m = {s, file, 0, false};
    QT_TRY(qt_h5_each(f, "", compare, &m));
    for (int i = 0; m.known < s->n && i < s->n; i++) {
        QT_TRY(name_of(name, s->p[i]));
        if (!qt_h5_has(f, name)) qt_fail(QT_EDATA, "%s: %s is missing", file, name);
    }
    return m.misfit || m.known < s->n ? QT_EDATA : QT_OK;
}

static qt_err read_params(qt_h5 *f, const char *file, qt_store *s)
{
    char name[512];
    QT_TRY(check_params(f, file, s));
    R *values = qt_alloc((size_t)s->size * sizeof *values);
    if (!values) return QT_EMEM;
    qt_err e = QT_OK;
    for (int i = 0; e == QT_OK && i < s->n; i++) {
        e = name_of(name, s->p[i]);
        if (e == QT_OK) e = qt_h5_read(f, name, s->p[i]->t.n, values + s->p[i]->at);
    }
    if (e == QT_OK) memcpy(s->value, values, (size_t)s->size * sizeof *values);
    qt_free(values);
    return e;
}

qt_err qt_store_load(qt_store *s, const char *file)
{
    qt_h5 *f;
    QT_CHECK(s->sealed, QT_EUSAGE, "%s: seal the store before loading it", file);
    QT_TRY(qt_h5_vet(file));
    QT_TRY(qt_h5_open(file, &f));
    qt_err e = read_params(f, file, s);
    qt_err closed = qt_h5_close(f);
    return e == QT_OK ? closed : e;
}
