/* What the tests of runs share: training and resuming in a line, and two runs compared bit for bit. */
#ifndef RUN_UTIL_H
#define RUN_UTIL_H
#include "base/h5.h"
#include "train_util.h"

static inline qt_err try_train(const char *text, const char *dir, int n, const char *const *sets, const char *arm, int threads, volatile int *stop,
                        bool force, qt_result *res)
{
    qt_arena   a = {0};
    qt_recipe *rc;
    qt_run    *r;
    put_file("r.yaml", text);
    qt_err e = qt_recipe_load(&a, "r.yaml", n, sets, arm, &rc);
    if (e == QT_OK) e = qt_run_new(rc, dir, arm, force, QT_PROGRESS_QUIET, &r);
    if (e == QT_OK) {
        rc->train.threads = threads, r->stop = stop;
        e = qt_run_go(r, res);
        qt_run_free(r);
    }
    qt_arena_free(&a);
    return e;
}

static inline qt_result train(const char *text, const char *dir, int threads)
{
    qt_result res = {0};
    assert_ok(try_train(text, dir, 0, NULL, NULL, threads, NULL, false, &res));
    return res;
}

static inline qt_err try_resume(const char *dir, volatile int *stop, qt_result *res)
{
    qt_run *r;
    qt_err  e = qt_run_resume(dir, QT_PROGRESS_QUIET, &r);
    if (e != QT_OK) return e;
    r->stop = stop;
    e = qt_run_go(r, res);
    qt_run_free(r);
    return e;
}

static inline const char *in(const char *dir, const char *name)
{
    static char path[4][256];
    static int  k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", dir, name);
    return path[k];
}

static inline char *slurp(const char *file, size_t *n)
{
    FILE *f = fopen(file, "rb");
    char *text = calloc(1, 1 << 22);
    assert_non_null(f);
    assert_non_null(text);
    size_t got = fread(text, 1, (1 << 22) - 1, f);
    if (n) *n = got;
    fclose(f);
    return text;
}

static inline void spill(const char *file, const char *text, size_t n)
{
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* metrics.jsonl without the timing fields, which stand at the end of a line. */
static inline char *metrics_of(const char *dir)
{
    char *text = slurp(in(dir, "metrics.jsonl"), NULL), *to = text;
    for (char *s = text; *s;) {
        char *cut = strstr(s, ", \"seconds\""), *end = strchr(s, '\n');
        assert_non_null(end);
        if (!cut || cut > end) cut = end;
        memmove(to, s, (size_t)(cut - s)), to += cut - s, *to++ = '\n';
        s = end + 1;
    }
    *to = 0;
    return text;
}

typedef struct same {
    qt_h5 *a, *b;
    int    n;
} same;

static inline qt_err same_set(void *arg, const char *name, int rank, const int64_t *dim, const char *type)
{
    same   *s = arg;
    int64_t n = 1, other[8];
    int     other_rank;
    for (int i = 0; i < rank; i++) n *= dim[i];
    assert_ok(qt_h5_shape(s->b, name, &other_rank, other));
    assert_int_equal(rank, other_rank);
    assert_memory_equal(dim, other, (size_t)rank * sizeof *dim);
    if (strstr(type, "int")) {
        int32_t *x = calloc((size_t)n, sizeof *x), *y = calloc((size_t)n, sizeof *y);
        assert_ok(qt_h5_read_ids(s->a, name, n, x));
        assert_ok(qt_h5_read_ids(s->b, name, n, y));
        assert_memory_equal(x, y, (size_t)n * sizeof *x);
        free(x), free(y);
    } else {
        R *x = calloc((size_t)n, sizeof *x), *y = calloc((size_t)n, sizeof *y);
        assert_ok(qt_h5_read(s->a, name, n, x));
        assert_ok(qt_h5_read(s->b, name, n, y));
        if (memcmp(x, y, (size_t)n * sizeof *x)) fail_msg("data set %s differs", name);
        free(x), free(y);
    }
    s->n++;
    return QT_OK;
}

/* Every data set of one is in the other with the same bits, and the other has no more. */
static inline int assert_same_ckpt(const char *a, const char *b)
{
    same s = {0}, back;
    assert_ok(qt_h5_open(a, &s.a));
    assert_ok(qt_h5_open(b, &s.b));
    assert_ok(qt_h5_each(s.a, "", same_set, &s));
    back = (same){s.b, s.a, 0};
    assert_ok(qt_h5_each(s.b, "", same_set, &back));
    assert_int_equal(s.n, back.n);
    qt_h5_close(s.a), qt_h5_close(s.b);
    return s.n;
}

static inline void assert_same_run(const char *a, const char *b)
{
    char *x = metrics_of(a), *y = metrics_of(b);
    assert_string_equal(x, y);
    free(x), free(y);
    assert_true(assert_same_ckpt(in(a, "ckpt/last.h5"), in(b, "ckpt/last.h5")) > 30);
    assert_same_ckpt(in(a, "ckpt/best.h5"), in(b, "ckpt/best.h5"));
    assert_true(qt_file_exists(in(a, "DONE")) && qt_file_exists(in(b, "DONE")));
}

static inline int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *s = text; (s = strstr(s, what)); s++) n++;
    return n;
}
#endif
