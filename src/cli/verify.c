/* qtape verify: the log-probabilities of a language model against those that another program has computed for the same tokens. Both are made
 * log-probabilities first, z - log(sum exp z) in double, which changes nothing where they are already: so the reference may hold logits. */
#include "base/h5.h"
#include "base/npy.h"
#include "cli/command.h"
#include "export/engine.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const qt_option options[] = {{"against", 0, "REF", "the reference: a .npy array [n, vocabulary], or HDF5 with a data set `logits`"},
                                    {"tokens", 0, "FILE", "text, a window of ids a line; n ids in all (default: data set `tokens` of REF, as one window)"},
                                    {"tolerance", 0, "X", "largest difference of a log-probability (default: 1e-5)"},
                                    {"share", 0, "P", "share of the positions that must be within the tolerance (default: 1)"},
                                    QT_OPTION_JSON,
                                    QT_OPTION_THREADS,
                                    {0}};

/* ---- tokens and reference ------------------------------------------------------------------------------------------------------------ */

typedef struct windows {
    int64_t  n, count; /* ids; windows */
    int32_t *id;
    int64_t *begin; /* [count + 1] */
} windows;

static qt_err read_tokens(qt_arena *a, const char *file, windows *w)
{
    char   *text;
    size_t  bytes;
    int64_t lines = 1;
    QT_TRY(qt_file_read(a, file, &text, &bytes));
    for (size_t i = 0; i < bytes; i++) lines += text[i] == '\n';
    w->id = qt_arena_alloc(a, (bytes + 1) * sizeof *w->id), w->begin = qt_arena_alloc(a, (size_t)(lines + 1) * sizeof *w->begin);
    if (!w->id || !w->begin) return QT_EMEM;
    w->begin[0] = 0;
    for (char *p = text, *end; *(p += strspn(p, " \t\r\n"));) {
        const long v = strtol(p, &end, 10);
        QT_CHECK(end > p && v >= 0 && v <= INT32_MAX, QT_EDATA, "%s: expected ids of tokens, found '%.12s'", file, p);
        w->id[w->n++] = (int32_t)v;
        p = end + strspn(end, " \t\r");
        if (!*p || *p == '\n') w->begin[++w->count] = w->n;
    }
    QT_CHECK(w->n, QT_EDATA, "%s: holds no tokens", file);
    return QT_OK;
}

typedef struct reference {
    int64_t n, vocab;
    R      *z;
} reference;

static qt_err allocate(qt_arena *a, const char *file, int rank, const int64_t *dim, reference *r)
{
    QT_CHECK(rank == 2, QT_EDATA, "%s: expected an array [n, vocabulary], found one of %d dimensions", file, rank);
    r->n = dim[0], r->vocab = dim[1];
    return (r->z = qt_arena_alloc(a, (size_t)(r->n * r->vocab) * sizeof(R) + 1)) ? QT_OK : QT_EMEM;
}

static qt_err read_npy(qt_arena *a, const char *file, reference *r)
{
    qt_npy x;
    qt_err e = qt_npy_open(file, &x);
    if (e == QT_OK) e = allocate(a, file, x.rank, x.dim, r);
    for (int64_t i = 0; e == QT_OK && i < x.n; i++) r->z[i] = (R)qt_npy_get(&x, i);
    qt_npy_close(&x);
    return e;
}

static qt_err read_sets(qt_arena *a, qt_h5 *f, const char *file, reference *r, windows *w)
{
    int     rank;
    int64_t dim[8];
    QT_TRY(qt_h5_shape(f, "logits", &rank, dim));
    QT_TRY(allocate(a, file, rank, dim, r));
    QT_TRY(qt_h5_read(f, "logits", r->n * r->vocab, r->z));
    if (w->n) return QT_OK;
    QT_CHECK(qt_h5_has(f, "tokens"), QT_EUSAGE, "verify: %s has no data set 'tokens'; give them with --tokens", file);
    w->id = qt_arena_alloc(a, (size_t)(r->n + 1) * sizeof *w->id), w->begin = qt_arena_alloc(a, 2 * sizeof *w->begin);
    if (!w->id || !w->begin) return QT_EMEM;
    w->n = r->n, w->count = 1, w->begin[0] = 0, w->begin[1] = r->n;
    return qt_h5_read_ids(f, "tokens", r->n, w->id);
}

static qt_err read_h5(qt_arena *a, const char *file, reference *r, windows *w)
{
    qt_h5 *f;
    QT_TRY(qt_h5_vet(file));
    QT_TRY(qt_h5_open(file, &f));
    qt_err e = read_sets(a, f, file, r, w), closed = qt_h5_close(f);
    return e == QT_OK ? closed : e;
}

static qt_err read_reference(qt_arena *a, const char *file, reference *r, windows *w)
{
    const size_t n = strlen(file);
    const bool   npy = n > 4 && !strcmp(file + n - 4, ".npy");
    QT_CHECK(n < 4 || strcmp(file + n - 4, ".npz"), QT_EUSAGE, "verify: %s is an archive; save the array alone, with numpy.save", file);
    QT_CHECK(!npy || w->n, QT_EUSAGE, "verify: %s holds no tokens; give them with --tokens", file);
    QT_TRY(npy ? read_npy(a, file, r) : read_h5(a, file, r, w));
    QT_CHECK(r->n == w->n, QT_EDATA, "%s: %lld rows, but there are %lld tokens", file, (long long)r->n, (long long)w->n);
    return QT_OK;
}

/* ---- comparing ----------------------------------------------------------------------------------------------------------------------- */

typedef struct result {
    double  most, sum;
    int64_t at, id, within; /* the first worst place; positions within the tolerance */
} result;

static double log_sum(const R *z, int64_t n)
{
    double most = (double)z[0], sum = 0;
    for (int64_t i = 1; i < n; i++) most = fmax(most, (double)z[i]);
    for (int64_t i = 0; i < n; i++) sum += exp((double)z[i] - most);
    return most + log(sum);
}

/* What is no number differs by infinity. */
static void compare_row(const R *y, const R *z, int64_t n, int64_t at, double tolerance, result *res)
{
    const double ly = log_sum(y, n), lz = log_sum(z, n);
    double       most = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(((double)y[i] - ly) - ((double)z[i] - lz));
        if (isnan(d)) d = INFINITY;
        res->sum += d;
        if (d > most) most = d;
        if (d > res->most) res->most = d, res->at = at, res->id = i;
    }
    res->within += most <= tolerance;
}

/* A run's training graph, with adapters where it has some, or an exported file's engine. */
typedef struct model {
    qt_run    *run;
    qt_engine *engine;
    qt_model  *m;
    qt_tape   *tape;
} model;

/* A window through the model; *y are its logits, until the next one. */
static qt_err forward(const model *m, const int32_t *id, int64_t T, const R **y)
{
    const int64_t most = m->m->in.dim[0];
    QT_CHECK(T <= most, QT_EUSAGE, "verify: a window of %lld tokens; the model was trained with %lld", (long long)T, (long long)most);
    qt_tape_reset(m->tape);
    qt_tape_mode(m->tape, false, false);
    for (int64_t i = 0; i < T; i++)
        QT_CHECK(id[i] < m->m->in.ids, QT_EDATA, "verify: token %d, but the model has %lld", (int)id[i], (long long)m->m->in.ids);
    qt_tensor *x = qt_input_ids(m->tape, 2, (int64_t[]){1, T});
    if (x->ids) memcpy(x->ids, id, (size_t)T * sizeof *id);
    *y = qt_model_forward(m->tape, m->m, x)->data;
    return qt_tape_error(m->tape);
}

static qt_err compare(const model *m, const char *file, const windows *w, const reference *r, double tolerance, result *res)
{
    QT_CHECK(m->m->in.ids, QT_EUSAGE, "verify: %s is no language model", file);
    const int64_t vocab = m->m->out.dim[m->m->out.rank - 1];
    QT_CHECK(vocab == r->vocab, QT_EDATA, "the reference has %lld tokens a row, and %s %lld", (long long)r->vocab, file, (long long)vocab);
    for (int64_t k = 0; k < w->count; k++) {
        const int64_t at = w->begin[k], T = w->begin[k + 1] - at;
        const R      *y = NULL;
        QT_TRY(forward(m, w->id + at, T, &y));
        for (int64_t i = 0; i < T; i++) compare_row(y + i * vocab, r->z + (at + i) * vocab, vocab, at + i, tolerance, res);
    }
    return QT_OK;
}

/* ---- the command --------------------------------------------------------------------------------------------------------------------- */

static qt_err open_model(const char *what, model *m)
{
    struct stat st;
    if (stat(what, &st) || !S_ISDIR(st.st_mode)) {
        QT_TRY(qt_engine_load(what, &m->engine));
        return m->m = m->engine->model, m->tape = m->engine->tape, QT_OK;
    }
    QT_TRY(qt_run_resume(what, QT_PROGRESS_QUIET, &m->run));
    qt_run_swap_average(m->run);
    return m->m = m->run->model, m->tape = m->run->tape, QT_OK;
}

static qt_err number(const qt_args *a, const char *option, double otherwise, double *v)
{
    const char *text = qt_arg(&qt_command_verify, a, option);
    char       *end;
    if (!text) return *v = otherwise, QT_OK;
    *v = strtod(text, &end);
    QT_CHECK(end > text && !*end && *v >= 0, QT_EUSAGE, "verify: --%s %s: expected a number from 0 on", option, text);
    return QT_OK;
}

static void print(const reference *r, const result *res, double tolerance, bool json)
{
    const double mean = res->sum / (double)(r->n * r->vocab), share = (double)res->within / (double)r->n;
    if (json)
        printf("{\"positions\": %lld, \"max\": %.6g, \"mean\": %.6g, \"position\": %lld, \"token\": %lld, \"share_within\": %.6g}\n", (long long)r->n,
               isinf(res->most) ? 1e308 : res->most, isinf(mean) ? 1e308 : mean, (long long)res->at, (long long)res->id, share);
    else
        printf("positions          %lld\nmax |d log p|      %.3g  (position %lld, token %lld)\nmean |d log p|     %.3g\nwithin %-10g  %.4g %% of positions\n",
               (long long)r->n, res->most, (long long)res->at, (long long)res->id, mean, tolerance, 100 * share);
}

static qt_err verify(qt_arena *arena, const qt_args *a, model *m)
{
    const char *against = qt_arg(&qt_command_verify, a, "against"), *tokens = qt_arg(&qt_command_verify, a, "tokens");
    windows     w = {0};
    reference   r = {0};
    result      res = {0};
    double      tolerance, share;
    QT_CHECK(against, QT_EUSAGE, "verify: option '--against' is missing: a .npy or HDF5 file of log-probabilities");
    QT_TRY(number(a, "tolerance", 1e-5, &tolerance));
    QT_TRY(number(a, "share", 1, &share));
    if (tokens) QT_TRY(read_tokens(arena, tokens, &w));
    QT_TRY(read_reference(arena, against, &r, &w));
    QT_TRY(open_model(a->word[0], m));
    QT_TRY(compare(m, a->word[0], &w, &r, tolerance, &res));
    print(&r, &res, tolerance, qt_arg(&qt_command_verify, a, "json") != NULL);
    QT_CHECK((double)res.within >= share * (double)r.n, QT_ECLAIM, "%s: %lld of %lld positions differ by more than %g", a->word[0],
             (long long)(r.n - res.within), (long long)r.n, tolerance);
    return QT_OK;
}

static qt_err run(const qt_args *a)
{
    qt_arena arena = {0};
    model    m = {0};
    qt_err   e = verify(&arena, a, &m);
    qt_engine_free(m.engine);
    qt_run_free(m.run);
    qt_arena_free(&arena);
    return e;
}

const qt_command qt_command_verify = {
    {"verify", "compare a language model with log-probabilities of another program"},
    "DIR|FILE.h5 --against REF [--tokens FILE] [--tolerance 1e-5] [--share 1]",
    "Computes the log-probabilities of all tokens at all positions of given windows, and compares them with a reference:\n"
    "a numpy array of float or double [positions, vocabulary] (numpy.save, no .npz), or HDF5 with a data set `logits` of that shape, and `tokens` if\n"
    "there is but one window. Logits or log-probabilities will do. Each line of the file of --tokens is a window, and is read from position 0.\n\n"
    "Prints the largest difference and its first place, the mean, and the share of positions that are within the tolerance as a whole. Exit code 3\n"
    "if fewer positions are within it than --share says.\n\n"
    "  qtape verify runs/lm --against llama.npy --tokens tokens.txt\n"
    "  qtape verify lm.h5 --against llama.npy --tokens tokens.txt --tolerance 1e-4 --share 0.99",
    options, 1, 1, run};
